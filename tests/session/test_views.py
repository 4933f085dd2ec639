"""Views of a session: what they stand for, where they can stand, and what cannot be done with them."""

import threading

import pyarrow as pa
import pytest

import icefusion as ice


@pytest.fixture
def tables(session: ice.Session) -> ice.Session:
    session.sql("CREATE TABLE ns.t (id bigint, \"Name\" text); INSERT INTO ns.t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    return session


def rows(session: ice.Session, sql: str, **sources: object) -> list[tuple]:
    return sorted(session.sql(sql, **sources).fetchall())


def test_a_view_shows_what_its_query_shows_now(tables) -> None:
    tables.sql('CREATE VIEW ns.v AS SELECT id, "Name" FROM ns.t WHERE id > 1 -- the later ones')
    assert rows(tables, "SELECT * FROM ns.v") == [(2, "b"), (3, "c")]
    tables.sql("DELETE FROM ns.t WHERE id = 2")
    tables.sql("INSERT INTO ns.t VALUES (4, 'd')")
    assert rows(tables, "SELECT name FROM ns.v") == [("c",), ("d",)]
    assert rows(tables, "SELECT v.id FROM default.NS.V WHERE v.id < 4") == [(3,)]


def test_its_columns_can_have_names_of_their_own(tables) -> None:
    tables.sql("CREATE TEMP VIEW v (K, \"N n\" COMMENT 'why') AS SELECT id * 10, name FROM ns.t ORDER BY 1 LIMIT 2")
    assert rows(tables, 'SELECT k, "N n" FROM v') == [(10, "a"), (20, "b")]
    assert rows(tables, "SELECT x.k FROM v AS x WHERE x.k > 10") == [(20,)]
    (view,) = tables.views
    assert (view.name, view.columns, view.comments) == ("v", ("k", "N n"), (("N n", "why"),))
    assert view.schema.names == ["k", "N n"]
    assert view.text.startswith("SELECT id * 10")


def test_views_stand_on_views(tables) -> None:
    tables.sql("CREATE VIEW a AS SELECT id + 1 AS id FROM ns.t")
    tables.sql("CREATE VIEW ns.b (n) AS SELECT x.id + y.id FROM a x JOIN a AS y ON x.id = y.id")
    tables.sql("CREATE VIEW c AS WITH a AS (SELECT n FROM ns.b) SELECT sum(n) AS s FROM a")
    assert rows(tables, "SELECT * FROM ns.b") == [(4,), (6,), (8,)]
    assert rows(tables, "SELECT s FROM c") == [(18,)]
    assert rows(tables, "SELECT count(*) FROM a, ns.b, (SELECT * FROM a) z WHERE a.id = b.n AND z.id = a.id") == [(1,)]


def test_a_name_inside_of_a_view_means_what_it_means_there(tables) -> None:
    """Neither a WITH of the query nor an alias can take the place of what the view reads."""
    tables.sql("CREATE VIEW a AS SELECT 1 AS x")
    tables.sql("CREATE VIEW b AS SELECT x FROM a")
    assert rows(tables, "WITH a AS (SELECT 7 AS x) SELECT a.x, b.x FROM a, b") == [(7, 1)]
    assert rows(tables, "WITH b AS (SELECT 8 AS x) SELECT x FROM b") == [(8,)]
    assert rows(tables, "SELECT x FROM b", b=pa.table({"x": [9]})) == [(9,)]


def test_a_change_reads_views(tables) -> None:
    tables.sql("CREATE VIEW ns.v AS SELECT id FROM ns.t WHERE id < 3")
    tables.sql("CREATE TABLE ns.u AS SELECT * FROM ns.v")
    assert tables.sql("DELETE FROM ns.u USING ns.v WHERE u.id = v.id AND v.id = 1").rows_deleted == 1
    assert tables.sql("MERGE INTO ns.u USING ns.v ON u.id = v.id WHEN NOT MATCHED THEN INSERT *").rows_inserted == 1
    assert tables.sql("MERGE INTO ns.u USING ns.v s ON u.id = s.id WHEN MATCHED THEN DELETE").rows_deleted == 2
    assert tables.sql("INSERT INTO ns.u SELECT * FROM ns.v WHERE id = ?", params=[2]).rows_inserted == 1
    assert tables.sql("UPDATE ns.u SET id = 5 WHERE id IN (SELECT id FROM ns.v)").rows_updated == 1
    assert rows(tables, "SELECT * FROM ns.u") == [(5,)]


def test_a_view_in_a_transaction_sees_its_writes(tables) -> None:
    tables.sql("CREATE VIEW ns.v AS SELECT count(*) AS n FROM ns.t")
    with tables.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (4, 'd')")
        assert rows(tables, "SELECT n FROM ns.v") == [(4,)]
        tx.rollback()
    assert rows(tables, "SELECT n FROM ns.v") == [(3,)]


def test_a_view_reads_earlier_states(tables) -> None:
    snapshot = tables.catalog.load_table("ns.t").current_snapshot()
    tables.sql(f"CREATE VIEW old AS SELECT id FROM ns.t FOR VERSION AS OF {snapshot.snapshot_id}")
    tables.sql(f"CREATE VIEW older AS SELECT id FROM ns.t.at_timestamp_{snapshot.timestamp_ms} AS x")
    tables.sql("CREATE VIEW now AS SELECT id FROM ns.t FOR TIMESTAMP AS OF now()")
    tables.sql("INSERT INTO ns.t VALUES (4, 'd')")
    assert rows(tables, "SELECT count(*) FROM old") == [(3,)]
    assert rows(tables, "SELECT count(*) FROM older") == [(3,)]
    assert rows(tables, "SELECT count(*) FROM now") == [(4,)]


def test_views_are_replaced_renamed_altered_and_dropped(tables) -> None:
    tables.sql("CREATE VIEW ns.v COMMENT 'c' TBLPROPERTIES (a = 1, b = 2) AS SELECT 1 AS x")
    tables.sql("CREATE VIEW IF NOT EXISTS ns.v AS SELECT 2 AS x")
    assert rows(tables, "SELECT x FROM ns.v") == [(1,)]
    tables.sql("ALTER VIEW ns.v AS SELECT 3 AS x")
    tables.sql("ALTER VIEW ns.v SET TBLPROPERTIES (c = 3)")
    tables.sql("ALTER VIEW ns.v UNSET TBLPROPERTIES (a)")
    tables.sql("ALTER VIEW ns.v RENAME TO w")
    (view,) = tables.views
    assert (view.name, view.comment, view.text, dict(view.properties)) == (
        "ns.w",
        "c",
        "SELECT 3 AS x",
        {"b": "2", "c": "3"},
    )
    tables.sql("CREATE OR REPLACE VIEW ns.w AS SELECT 4 AS x")
    assert rows(tables, "SELECT x FROM ns.w") == [(4,)]
    tables.sql("DROP VIEW ns.w")
    tables.sql("DROP VIEW IF EXISTS ns.w")
    tables.sql("ALTER VIEW IF EXISTS ns.w RENAME TO x")
    assert tables.views == ()


def test_all_threads_of_a_session_see_its_views_and_no_other_session(tables, folder) -> None:
    tables.sql("CREATE VIEW ns.v AS SELECT 5 AS x")
    found: list[list[tuple]] = []
    thread = threading.Thread(target=lambda: found.append(rows(tables, "SELECT x FROM ns.v")))
    thread.start()
    thread.join()
    assert found == [[(5,)]]
    with ice.connect(folder) as other, pytest.raises(ice.TableNotFoundError):
        other.sql("SELECT * FROM ns.v")


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("CREATE VIEW ns.v AS SELECT 1", ice.TableExistsError, "view ns.v exists already"),
        ("CREATE VIEW ns.t AS SELECT 1", ice.TableExistsError, "ns.t is a table"),
        ("ALTER VIEW ns.v RENAME TO t", ice.TableExistsError, "ns.t is a table"),
        ("CREATE VIEW nowhere.v AS SELECT 1", ice.NamespaceNotFoundError, "namespace nowhere does not exist"),
        ("CREATE TEMP VIEW ns.x AS SELECT 1", ice.UnsupportedStatementError, "cannot be in a namespace"),
        ("CREATE VIEW x AS SELECT * FROM ns.nothing", ice.TableNotFoundError, "ns.nothing"),
        ("CREATE VIEW x AS SELECT nothing FROM ns.t", ice.BindError, "nothing"),
        ("CREATE VIEW x (a, b) AS SELECT 1", ice.SchemaError, "2 columns are named, and its query has 1"),
        ("CREATE OR REPLACE VIEW ns.v AS SELECT * FROM ns.v", ice.BindError, "reads itself"),
        ("CREATE OR REPLACE VIEW ns.v AS SELECT * FROM w", ice.BindError, "ns.v reads itself: ns.v -> w -> ns.v"),
        ("SELECT * FROM ns.v FOR VERSION AS OF 1", ice.BindError, "view ns.v has no versions"),
        ("SELECT nothing FROM ns.v", ice.BindError, "nothing"),
        ("INSERT INTO ns.v VALUES (1)", ice.UnsupportedStatementError, "ns.v is a view"),
        ("DELETE FROM w", ice.UnsupportedStatementError, "w is a view"),
        ("UPDATE ns.v SET id = 1", ice.UnsupportedStatementError, "ns.v is a view"),
        ("MERGE INTO ns.v USING ns.t ON true WHEN MATCHED THEN DELETE", ice.UnsupportedStatementError, "is a view"),
        ("TRUNCATE ns.v", ice.UnsupportedStatementError, "ns.v is a view"),
        ("DROP TABLE ns.v", ice.UnsupportedStatementError, "write DROP VIEW ns.v"),
        ("ALTER TABLE ns.v ADD COLUMN x int", ice.UnsupportedStatementError, "write ALTER VIEW ns.v"),
        ("CREATE TABLE ns.v (a int)", ice.UnsupportedStatementError, "DROP VIEW ns.v first"),
        ("DROP VIEW ns.vv", ice.TableNotFoundError, "did you mean ns.v?"),
        ("DROP VIEW ns.t", ice.TableNotFoundError, "it is a table"),
        ("ALTER VIEW x AS SELECT 1", ice.TableNotFoundError, "view x does not exist"),
        ("ALTER VIEW ns.v UNSET TBLPROPERTIES (k)", ice.BindError, "no property k"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(tables, sql, error, message) -> None:
    tables.sql("CREATE VIEW ns.v AS SELECT id FROM ns.t; CREATE VIEW w AS SELECT * FROM ns.v")
    before = tables.views
    with pytest.raises(error) as caught:
        tables.sql(sql)
    assert message in str(caught.value)
    assert tables.views == before
    assert rows(tables, "SELECT * FROM w") == [(1,), (2,), (3,)]


def test_a_view_whose_table_is_gone_says_so(tables) -> None:
    tables.sql("CREATE VIEW v AS SELECT id FROM ns.t")
    tables.sql("DROP TABLE ns.t")
    with pytest.raises(ice.TableNotFoundError, match=r"ns\.t"):
        tables.sql("SELECT * FROM v")


def test_an_error_in_a_query_over_a_view_points_into_the_query(tables) -> None:
    tables.sql("CREATE VIEW v (k) AS SELECT id FROM ns.t")
    with pytest.raises(ice.BindError) as caught:
        tables.sql("SELECT k,\n  nothing FROM v")
    assert (caught.value.line, caught.value.column) == (2, 3)
    with pytest.raises(ice.BindError) as caught:
        tables.sql("SELECT k FROM v x\n WHERE nothing = 1")
    assert (caught.value.line, caught.value.column) == (2, 8)
