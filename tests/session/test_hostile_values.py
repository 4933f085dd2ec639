"""Values and names that read like SQL stay values and names."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.errors import ConfigurationError, IcefusionError

HOSTILE = [
    "'; DROP TABLE ns.t; --",
    "'' OR 1=1 --",
    '"; DROP TABLE ns.t; --',
    "x' UNION SELECT name FROM ns.t --",
    "$1",
    "$name",
    "?",
    "$$ ; DROP TABLE ns.t; $$",
    "/* ",
    "*/ --",
    "\\'; DROP TABLE ns.t; --",
    "\x00",
    "a\nb\r\n;\tDROP TABLE ns.t",
    "` \" '",
    "{} %s {0} %(x)s",
    "\u202e\ufeff\u2028'",
    "(SELECT max(name) FROM ns.t)",
    "read_csv('/etc/passwd')",
    "é'" * 200,
]
# What catalogs and file systems keep in names, each in its own way.
NAMEABLE = [text for text in HOSTILE if len(text) < 60 and not set(text) & set("\x00\n\r/.\\\u2028\u202e\ufeff")]


@pytest.fixture
def table(session: ice.Session) -> str:
    session.sql("CREATE TABLE ns.t (id bigint, name string); INSERT INTO ns.t VALUES (1, 'secret'), (2, 'other')")
    return "ns.t"


def rows(session: ice.Session, sql: str = "SELECT * FROM ns.t", params: Any = None) -> list[tuple[Any, ...]]:
    return sorted(session.sql(sql, params).fetchall())


@pytest.mark.parametrize("text", HOSTILE)
def test_parameters_are_values(session: ice.Session, table: str, text: str) -> None:
    assert rows(session, "SELECT ? AS a", [text]) == [(text,)]
    assert rows(session, "SELECT $name AS a", {"name": text}) == [(text,)]
    assert rows(session, "SELECT id FROM ns.t WHERE name = ?", [text]) == []
    assert rows(session, "SELECT id FROM ns.t WHERE name IN (?, $$x$$, ?)", [text, "secret"]) == [(1,)]
    session.sql("INSERT INTO ns.t VALUES (?, ?)", [3, text])
    session.sql("UPDATE ns.t SET name = ? WHERE name = ?", [text + "!", text])
    assert rows(session, "SELECT id FROM ns.t WHERE name = ?", [text + "!"]) == [(3,)]
    session.sql(
        "MERGE INTO ns.t USING (SELECT 3 AS id, ? AS name) AS s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET name = s.name",
        [text],
    )
    assert rows(session) == [(1, "secret"), (2, "other"), (3, text)]
    assert session.sql("DELETE FROM ns.t WHERE name = ?", [text]).rows_deleted == 1
    assert rows(session) == [(1, "secret"), (2, "other")]


@pytest.mark.parametrize("text", HOSTILE)
def test_literals_hold_what_is_written_in_them(session: ice.Session, table: str, text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    session.sql(f"INSERT INTO ns.t VALUES (3, {literal})")
    assert rows(session, f"SELECT id, name FROM ns.t WHERE name = {literal}") == [(3, text)]
    assert rows(session, "SELECT count(*) FROM ns.t") == [(3,)]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_bound_by_methods_is_a_value(session: ice.Session, table: str, text: str) -> None:
    own = session.table("ns.t")
    own.append({"id": [3], "name": [text]})
    own.upsert({"id": [3, 4], "name": [text, text]}, "id")
    own.update({"id": 5}, where="name = $x AND id = 4", params={"x": text})
    assert rows(own._session, "SELECT * FROM ns.t WHERE id > 2") == [(3, text), (5, text)]
    assert own.scan("name = $x", ["id"], params={"x": text}, limit=5).to_arrow().num_rows == 2
    own.delete("name = $x", params={"x": text})
    assert rows(session) == [(1, "secret"), (2, "other")]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_sources_are_names(session: ice.Session, table: str, text: str) -> None:
    data = pa.table({"id": [7]})
    quoted = '"' + text.replace('"', '""') + '"'
    try:
        found = session.sql(f"SELECT * FROM {quoted}", **{text: data}).fetchall()
    except IcefusionError:
        found = [(7,)]  # not every name can be one
    assert found == [(7,)]
    assert rows(session) == [(1, "secret"), (2, "other")]


@pytest.mark.parametrize("text", HOSTILE)
def test_keys_of_writes_are_texts(session: ice.Session, table: str, text: str) -> None:
    for _ in range(2):
        session.sql("INSERT INTO ns.t VALUES (3, 'keyed')", idempotency_key=text[:255])
    assert len(rows(session)) == 3


@pytest.mark.parametrize("text", NAMEABLE)
def test_names_of_columns_tables_and_namespaces_are_names(session: ice.Session, table: str, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    session.sql(f"CREATE TABLE ns.u (id bigint, {quoted} string) PARTITIONED BY (bucket(2, id))")
    session.sql(f"INSERT INTO ns.u (id, {quoted}) VALUES (1, 'x'), (2, NULL)")
    session.sql(f"UPDATE ns.u SET {quoted} = 'y' WHERE {quoted} IS NULL")
    session.sql(f"MERGE INTO ns.u USING (SELECT 2 AS k) s ON u.id = s.k WHEN MATCHED THEN UPDATE SET {quoted} = 'z'")
    assert rows(session, f"SELECT id, {quoted} FROM ns.u") == [(1, "x"), (2, "z")]
    assert rows(session, f"SELECT u.{quoted} FROM ns.u WHERE u.{quoted} = 'z'") == [("z",)]
    session.table("ns.u").append({"id": [3], text: ["m"]})
    session.table("ns.u").update({"id": 4}, where=f"{quoted} = 'm'")
    assert session.table("ns.u").scan(columns=[text], limit=9).to_arrow().schema.names == [text]
    if "?" in text:
        session.sql(f"CREATE NAMESPACE {quoted}")
        with pytest.raises(ConfigurationError, match="cannot be written to a path"):
            session.sql(f"CREATE TABLE {quoted}.{quoted} AS SELECT 1 AS id")
        return
    session.sql(f"CREATE NAMESPACE {quoted}; CREATE TABLE {quoted}.{quoted} AS SELECT 1 AS id")
    assert rows(session, f"SELECT * FROM {quoted}.{quoted}") == [(1,)]
    session.sql(f"INSERT INTO {quoted}.{quoted} VALUES (2); DELETE FROM {quoted}.{quoted} WHERE id = 1")
    assert rows(session, f"SELECT * FROM {quoted}.{quoted}") == [(2,)]
    session.sql(f"DROP TABLE {quoted}.{quoted} PURGE; DROP NAMESPACE {quoted}")
    assert rows(session) == [(1, "secret"), (2, "other")]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_in_metadata_are_texts(session: ice.Session, table: str, text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    session.sql(f"CREATE TABLE ns.u (id bigint COMMENT {literal}) COMMENT {literal} TBLPROPERTIES ('k' = {literal})")
    found = session.catalog.load_table("ns.u")
    assert found.schema().find_field("id").doc == text
    assert found.properties["k"] == text
    session.sql("INSERT INTO ns.u VALUES (1)")
    assert rows(session, "SELECT * FROM ns.u") == [(1,)]


SMUGGLED = [
    "SELECT 1; DROP TABLE ns.t",
    "SELECT * FROM (DELETE FROM ns.t RETURNING *)",
    "SELECT * FROM (INSERT INTO ns.t VALUES (9, 'x') RETURNING id) x",
    "WITH x AS (DELETE FROM ns.t RETURNING *) SELECT * FROM x",
    "WITH x AS (SELECT 1) DELETE FROM ns.t",
    "WITH x AS MATERIALIZED (UPDATE ns.t SET id = 9 RETURNING *) SELECT * FROM x",
    "WITH RECURSIVE x AS (TRUNCATE ns.t) SELECT 1",
    "SELECT 1 UNION (DROP TABLE ns.t)",
    "SELECT (DROP TABLE ns.t)",
    "EXPLAIN ANALYZE DELETE FROM ns.t",
    "EXPLAIN DROP TABLE ns.t",
    "EXPLAIN EXPLAIN DELETE FROM ns.t",
    "EXPLAIN (ANALYZE) DELETE FROM ns.t",
    "EXPLAIN COPY ns.t TO 'x.csv'",
    "EXPLAIN VERBOSE CREATE TABLE x AS SELECT 1",
    "SELECT * INTO x FROM ns.t",
    "SELECT 1 INTO x",
    "COPY ns.t TO 'x.csv'",
    "COPY (SELECT 1) TO 'x.parquet' STORED AS PARQUET",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x.csv'",
    "CREATE UNBOUNDED EXTERNAL TABLE x STORED AS CSV LOCATION 'x.csv'",
    "CREATE FUNCTION f() RETURNS int RETURN 1",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.catalog.information_schema = true",
    "RESET datafusion.execution.batch_size",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "ANALYZE TABLE ns.t",
    "USE ns",
    "LOAD 'x.so'",
    "INSTALL httpfs",
    "PRAGMA database_list",
    "VACUUM",
    "\ufeffDROP\u00a0TABLE ns.t",
    "SELECT/**/1/**/;/**/DROP/**/TABLE/**/ns.t/**/x",
    "DROP\u2003TABLE\u2003ns.t x",
    "ＤＲＯＰ TABLE ns.t",
    'SELECT * FROM "file:///etc"."passwd"',
    "SELECT * FROM datafusion.public.t",
    'SELECT * FROM "?icefusion?"."?sources?"."?passing?"',
    "SELECT * FROM information_schema.df_settings",
    "SELECT * FROM metadata_cache()",
    "SELECT * FROM parquet_metadata('x.parquet')",
    "SELECT * FROM statistics_cache()",
    "SELECT * FROM list_files_cache()",
    "SELECT pg_read_file('/etc/passwd')",
    "DECLARE c CURSOR FOR SELECT 1",
    "GRANT ALL ON ns.t TO public",
    "CALL sys.exec('rm')",
]


@pytest.mark.parametrize("sql", SMUGGLED)
@pytest.mark.parametrize("inside", [False, True])
def test_a_query_smuggles_nothing(
    session: ice.Session, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("a\n1\n")
    before = sorted(tmp_path.rglob("*"))
    if inside:
        session.sql("BEGIN")
    if sql != "SELECT 1; DROP TABLE ns.t":
        with pytest.raises(IcefusionError):
            session.sql(sql).to_arrow()
    elif inside:
        session.sql(sql)  # two statements of the caller's own
    if inside:
        session.sql("ROLLBACK")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.suffix != ".db-journal"] == []
    assert rows(session) == [(1, "secret"), (2, "other")]
    assert Path("x.csv").read_text() == "a\n1\n"
    assert rows(session, "SELECT count(*) FROM range(100)") == [(100,)]  # the engine's settings are what they were


@pytest.mark.parametrize("sql", [sql for sql in SMUGGLED if sql != "SELECT 1; DROP TABLE ns.t"])
def test_a_view_and_a_scan_smuggle_nothing(session: ice.Session, table: str, sql: str) -> None:
    with pytest.raises(IcefusionError):
        session.sql(f"CREATE VIEW v AS {sql}")
    with pytest.raises(IcefusionError):
        session.table("ns.t").scan(f"id IN ({sql})").to_arrow()
    with pytest.raises(IcefusionError):
        session.table("ns.t").delete(f"id = 1) OR ({sql}")
    assert rows(session) == [(1, "secret"), (2, "other")]
