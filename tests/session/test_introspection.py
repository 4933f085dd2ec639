"""SHOW and DESCRIBE in a session: statements that can be run again, other catalogs, views, transactions."""

from pathlib import Path

import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.introspection.patterns import NamePattern

STATEMENTS = [
    "CREATE TABLE ns.t (id bigint)",
    'CREATE TABLE ns."Odd Name" ("select" int, "a""b" string, "It\'s" boolean COMMENT \'it\'\'s "so"\')',
    """CREATE TABLE ns.t (
        a int NOT NULL, b bigint, c float, d double, e decimal(10, 2), f date, g time, h timestamp, i timestamptz,
        j string, k uuid, l binary, m fixed(7), n boolean)""",
    """CREATE TABLE ns.t (
        s struct<"X y": int not null COMMENT 'deep', t: struct<u: list<struct<v: map<string, double not null>>>>>,
        l list<list<string not null> not null>, m map<struct<k: int>, array<date>>)""",
    """CREATE TABLE ns.t (id bigint, s struct<x: date, "Y": string>, ts timestamptz)
        PARTITIONED BY (id, bucket(16, id) AS shard, truncate(4, s."Y"), s.x, hour(ts), void(id) AS nothing)
        ORDER BY (s."Y" DESC NULLS FIRST, day(ts), bucket(4, id) ASC NULLS LAST)""",
    """CREATE TABLE ns.t (id bigint) COMMENT 'line 1
        line 2; -- it''s' TBLPROPERTIES ('a''b' = 'c''d', 'write.target-file-size-bytes' = '1000000')""",
    "CREATE TABLE ns.t (id bigint) TBLPROPERTIES ('format-version' = '1')",
    "CREATE TABLE ns.t (id bigint) LOCATION '{elsewhere}'",
]


def state(session: ice.Session, name: tuple[str, str]) -> tuple:
    metadata = session.catalog.load_table(name).metadata
    return (
        metadata.schema().as_struct(),
        metadata.spec().fields,
        metadata.sort_order_by_id(metadata.default_sort_order_id).fields,
        metadata.properties,
        metadata.format_version,
        metadata.location,
    )


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_statement_of_a_table_makes_an_equal_one(session: ice.Session, tmp_path: Path, statement: str) -> None:
    session.sql(statement.replace("{elsewhere}", (tmp_path / "elsewhere").as_uri()))
    (name,) = session.catalog.list_tables("ns")
    quoted = f'ns."{name[1]}"'
    before = state(session, name)
    text = session.sql(f"SHOW CREATE TABLE {quoted}").fetchone()[0]
    session.sql(f"DROP TABLE {quoted}")
    session.sql(text)
    assert state(session, name) == before
    assert session.sql(f"SHOW CREATE TABLE {quoted}").fetchone()[0] == text
    assert ("LOCATION" in text) == ("LOCATION" in statement)


def test_what_is_kept_by_the_table_itself_is_not_in_its_statement(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint)")
    session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="once")
    assert "once" not in session.sql("SHOW CREATE TABLE ns.t").fetchone()[0]


def test_all_catalogs_are_shown(session: ice.Session, tmp_path: Path) -> None:
    session.attach("other", tmp_path / "other")
    session.sql("CREATE NAMESPACE other.far; CREATE TABLE other.far.t (id bigint) PARTITIONED BY (id)")
    session.sql("INSERT INTO other.far.t VALUES (7)")
    assert session.sql("SHOW CATALOGS").fetchall() == [("default",), ("other",)]
    assert session.sql("SHOW NAMESPACES").fetchall() == [("ns",)]
    assert session.sql("SHOW NAMESPACES IN other").fetchall() == [("far",)]
    assert session.sql("SHOW TABLES IN other").fetchall() == [("far", "t", False)]
    assert session.sql("SHOW TABLES FROM OTHER.far").fetchall() == [("far", "t", False)]
    assert session.sql("SHOW COLUMNS IN other.far.t").fetchall() == [("id", "bigint", True, None)]
    assert session.sql("SHOW PARTITIONS other.far.t").fetchall() == [("id=7",)]
    assert session.sql("DESCRIBE NAMESPACE other.far").fetchone() == ("Catalog Name", "other")
    assert session.sql("SELECT record_count FROM other.far.t.files").fetchall() == [(1,)]
    assert "LOCATION" not in session.sql("SHOW CREATE TABLE other.far.t").fetchone()[0]


def test_views_are_shown_and_described(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, s string)")
    session.sql("CREATE VIEW ns.v (a COMMENT 'first', b) AS SELECT s, id + 1 FROM ns.t; CREATE TEMP VIEW w AS SELECT 1")
    assert session.sql("SHOW VIEWS").fetchall() == [("ns", "v", True), ("", "w", True)]
    assert session.sql("SHOW VIEWS IN ns LIKE 'V'").fetchall() == [("ns", "v", True)]
    assert session.sql("DESCRIBE ns.v").fetchall() == [("a", "string", "first"), ("b", "bigint", None)]
    assert [row[0] for row in session.sql("SHOW COLUMNS IN ns.v LIKE 'b'").fetchall()] == ["b"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW ns.v AS SELECT id FROM ns.t WHERE s = 'it''s'",
        "CREATE VIEW ns.v (a COMMENT 'first', \"B c\") COMMENT 'it''s' TBLPROPERTIES (x = y) AS SELECT s, id FROM ns.t",
        "CREATE TEMPORARY VIEW v AS WITH x AS (TABLE ns.t) SELECT * FROM x",
    ],
)
def test_the_statement_of_a_view_makes_it_again(session: ice.Session, statement: str) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, s string)")
    session.sql(statement)
    (view,) = session.views
    text = session.sql(f"SHOW CREATE VIEW {view.name}").fetchone()[0]
    session.sql(f"DROP VIEW {view.name}")
    session.sql(text)
    (again,) = session.views
    assert (again.name, again.text, again.schema, again.comments) == (view.name, view.text, view.schema, view.comments)
    assert session.sql(f"SHOW CREATE VIEW {view.name}").fetchone()[0] == text
    with pytest.raises(ice.TableNotFoundError, match="did you mean"):
        session.sql(f"SHOW CREATE VIEW {view.name}v")


def test_a_transaction_describes_what_it_sees(session: ice.Session, folder: Path) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, p string) PARTITIONED BY (p)")
    with session.transaction() as tx, ice.connect(folder) as other:
        assert tx.sql("SHOW PARTITIONS ns.t").fetchall() == []
        other.sql("INSERT INTO ns.t VALUES (1, 'x')")
        with other.catalog.load_table("ns.t").update_schema() as update:
            update.rename_column("id", "number")
        assert tx.sql("SHOW PARTITIONS ns.t").fetchall() == []
        assert tx.sql("DESCRIBE ns.t").fetchone()[0] == "id"
        assert other.sql("SHOW PARTITIONS ns.t").fetchall() == [("p=x",)]
    assert session.sql("DESCRIBE ns.t").fetchone()[0] == "number"


def test_extended_tells_the_rest(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint) COMMENT 'a table' TBLPROPERTIES (x = y)")
    session.sql("INSERT INTO ns.t VALUES (1), (2)")
    told = {name: value for name, value, _ in session.sql("DESCRIBE EXTENDED ns.t").fetchall()}
    table = session.catalog.load_table("ns.t")
    assert told["Name"] == "default.ns.t"
    assert told["Comment"] == "a table"
    assert told["Location"] == table.location()
    assert told["Metadata File"] == table.metadata_location
    assert told["Current Snapshot"] == str(table.metadata.current_snapshot_id)
    assert told["Statistics"].startswith("2 rows, 1 data files")
    assert "x=y" in told["Table Properties"]


def test_parameters_and_sources_of_a_described_query(session: ice.Session) -> None:
    rows = pa.table({"a": pa.array([1], pa.int32()), "b": [1.5]})
    found = session.sql("DESCRIBE SELECT a, b + ? AS c FROM rows", params=[2], rows=rows).fetchall()
    assert found == [("a", "int", None), ("c", "double", None)]


def test_a_description_is_reported(folder: Path) -> None:
    events: list[object] = []

    class Collecting:
        def report(self, event: object) -> None:
            events.append(event)

    with ice.connect(folder, reporter=Collecting()) as session:
        assert session.sql("SHOW TABLES").report.statement == "SHOW TABLES"
    assert [event.statement for event in events] == ["SHOW TABLES"]


@pytest.mark.parametrize(
    ("pattern", "shown", "hidden"),
    [
        (None, ["a", ""], []),
        ("a*", ["a", "Abc"], ["ba"]),
        ("a|b*", ["a", "bcd"], ["ab"]),
        ("a_*", ["a_x"], ["abx"]),
        ("a_", ["ab", "a_"], ["a", "abc"]),
        ("%x%", ["x", "axb"], ["ab"]),
        ("a.c", ["a.c"], ["abc"]),
        ("(", ["("], ["a"]),
    ],
)
def test_patterns(pattern: str | None, shown: list[str], hidden: list[str]) -> None:
    compiled = NamePattern(pattern)
    assert all(compiled.matches(name) for name in shown)
    assert not any(compiled.matches(name) for name in hidden)
