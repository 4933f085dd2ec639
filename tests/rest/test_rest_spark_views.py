"""Views that icefusion and Spark make for each other, through one REST catalog."""

from decimal import Decimal
from pathlib import Path

import pytest
from rest_server import RestServer
from rest_views import DROP_DIALECT, Spark, SparkError, find_spark_python

import icefusion as ice

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory):
    python, reason = find_spark_python()
    if python is None:
        pytest.skip(reason)
    engine = Spark(python, tmp_path_factory.mktemp("spark"))
    yield engine
    engine.stop()


@pytest.fixture
def there(spark: Spark, tmp_path: Path):
    """A server, and what Spark calls its catalog: never the same twice."""
    server = RestServer(tmp_path, views=True)
    name = f"rest_{server.uri.rpartition(':')[2]}"
    settings = {"": "org.apache.iceberg.spark.SparkCatalog", ".type": "rest", ".uri": server.uri}
    for key, value in {**settings, ".cache-enabled": "false"}.items():
        spark.sql(f"SET `spark.sql.catalog.{name}{key}`=`{value}`")
    yield server, name
    spark.sql("USE spark_catalog")
    server.close()


@pytest.fixture
def session(there):
    server, _ = there
    with ice.connect(catalog={"type": "rest", "uri": server.uri}, name="prod") as opened:
        opened.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, name text, price decimal(9, 2))")
        opened.sql("INSERT INTO ns.t VALUES (1, 'a', 1.5), (2, 'b', 2.5), (3, NULL, 3.5)")
        yield opened


def rows(session: ice.Session, sql: str) -> list[tuple]:
    return sorted(session.sql(sql).fetchall())


def test_spark_reads_and_replaces_what_icefusion_made(session, spark, there) -> None:
    _, name = there
    session.sql(
        "CREATE VIEW ns.v (k COMMENT 'key', n) COMMENT 'why' AS "
        "SELECT t.id, upper(coalesce(name, 'none')) FROM ns.t AS t WHERE price > 2 AND t.id IN (1, 2, 3)"
    )
    session.sql("CREATE VIEW ns.w AS SELECT n, count(*) AS many FROM ns.v GROUP BY n")
    assert sorted(spark.sql(f"SELECT k, n FROM {name}.ns.v")) == [(2, "B"), (3, "NONE")]
    assert sorted(spark.sql(f"SELECT * FROM {name}.ns.w")) == [("B", 1), ("NONE", 1)]
    assert spark.sql(f"DESCRIBE {name}.ns.v")[0] == ("k", "bigint", "key")
    assert sorted(view[1] for view in spark.sql(f"SHOW VIEWS IN {name}.ns")) == ["v", "w"]
    spark.sql(f"USE {name}.ns")
    spark.sql("CREATE OR REPLACE VIEW v AS SELECT id AS k, `name` AS n FROM t WHERE id < 2")
    assert rows(session, "SELECT k, n FROM ns.v") == [(1, "a")]
    assert rows(session, "SELECT n, many FROM ns.w") == [("a", 1)]
    session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT id AS k, name AS n FROM ns.t WHERE id = 2")
    assert spark.sql(f"SELECT k, n FROM {name}.ns.v") == [(2, "b")]


def test_icefusion_reads_what_spark_made(session, spark, there) -> None:
    _, name = there
    spark.sql(f"USE {name}.ns")
    spark.sql(
        "CREATE VIEW made (a COMMENT 'x', b, c) COMMENT 'why' TBLPROPERTIES ('p' = 'q') AS "
        'SELECT `id`, id / 2, price * 1.5 FROM t WHERE name == "b" OR name <=> NULL'
    )
    spark.sql("CREATE VIEW nested AS SELECT a, b FROM made")
    spark.sql("CREATE VIEW stars AS SELECT * FROM t")
    expected = [(2, 1.0, Decimal("3.750")), (3, 1.5, Decimal("5.250"))]
    assert sorted(spark.sql("SELECT * FROM made")) == expected
    assert rows(session, "SELECT a, b, c FROM ns.made") == expected
    assert rows(session, "SELECT * FROM ns.nested") == [(2, 1.0), (3, 1.5)]
    assert session.sql("DESCRIBE ns.made").fetchall()[0] == ("a", "bigint", "x")
    session.sql("ALTER TABLE ns.t ADD COLUMN more int")
    assert rows(session, "SELECT * FROM ns.stars WHERE id = 1") == [(1, "a", Decimal("1.50"))]
    assert spark.sql("SELECT * FROM stars WHERE id = 1") == [(1, "a", Decimal("1.50"))]
    spark.sql(f"ALTER VIEW {name}.ns.made RENAME TO {name}.ns.renamed")
    assert rows(session, "SELECT a FROM ns.renamed") == [(2,), (3,)]
    spark.sql(f"DROP VIEW {name}.ns.renamed")
    with pytest.raises(ice.BindError, match=r"view prod\.ns\.nested cannot be read: table prod\.ns\.made"):
        session.sql("SELECT * FROM ns.nested")


def test_a_view_whose_text_names_sparks_own_catalogs(session, spark, there) -> None:
    _, name = there
    spark.sql(f"CREATE VIEW {name}.ns.v AS SELECT id FROM {name}.ns.t WHERE id > 1")
    with pytest.raises(ice.BindError, match=f"those of a catalog {name}, which is not known here"):
        session.sql("SELECT * FROM ns.v")
    session.attach(name, catalog=session.catalog)
    assert rows(session, "SELECT id FROM ns.v") == [(2,), (3,)]


def test_a_query_that_means_something_else_to_spark_is_not_replaced_by_it_unasked(session, spark, there) -> None:
    _, name = there
    session.sql("CREATE VIEW ns.v AS SELECT id / 2 AS half FROM ns.t")
    spark.sql(f"USE {name}.ns")
    replace = "CREATE OR REPLACE VIEW v AS SELECT id / 2 AS half FROM t WHERE id = 3"
    with pytest.raises(SparkError):
        spark.sql(replace)
    assert rows(session, "SELECT half FROM ns.v") == [(0,), (1,), (1,)]
    session.sql(f"ALTER VIEW ns.v SET TBLPROPERTIES ('{DROP_DIALECT}' = 'true')")
    spark.sql(replace)
    assert rows(session, "SELECT half FROM ns.v") == [(1.5,)]
