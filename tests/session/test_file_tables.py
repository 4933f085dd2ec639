"""Files as tables of a query: found, read as a stream, to the exact rows, or an error that names the file."""

import gzip
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import icefusion as ice
from icefusion.errors import (
    BindError,
    IcefusionError,
    SchemaError,
    StorageError,
    UnsupportedStatementError,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def session(folder: Path) -> ice.Session:
    session = ice.connect(folder / "warehouse")
    session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, name string)")
    return session


def write(path: str, **columns: list[Any]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def rows(session: ice.Session, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    return sorted(session.sql(sql, params).fetchall(), key=repr)


def refused(session: ice.Session, sql: str, error: type[IcefusionError], *words: str, params: Any = None) -> None:
    with pytest.raises(error) as caught:
        session.sql(sql, params).to_arrow()
    for word in words:
        assert word in str(caught.value)


# Parquet


def test_parquet_files_are_one_table(session: ice.Session) -> None:
    write("a/1.parquet", id=[1, 2], name=["x", "y"])
    write("a/2.parquet", id=[3], name=[None])
    wanted = [(1, "x"), (2, "y"), (3, None)]
    assert rows(session, "SELECT * FROM read_parquet('a/*.parquet')") == wanted
    assert rows(session, "SELECT * FROM read_parquet(['a/2.parquet', 'a/1.parquet'])") == wanted
    assert rows(session, "SELECT * FROM parquet_scan('**/[12].parquet')") == wanted
    assert rows(session, "FROM 'a/?.parquet'") == wanted
    assert rows(session, f"SELECT r.id FROM read_parquet('{Path.cwd()}/a/1.parquet') AS r WHERE r.id > 1") == [(2,)]
    assert rows(session, f"SELECT count(*) FROM 'file://{Path.cwd()}/a/1.parquet'") == [(2,)]
    assert rows(session, "SELECT read_parquet.id FROM read_parquet(?) WHERE id = ?", ["a/1.parquet", 2]) == [(2,)]
    assert rows(session, "SELECT id FROM read_parquet($files)", {"files": ["a/2.parquet"]}) == [(3,)]
    assert rows(session, "SELECT b.n FROM read_parquet('a/1.parquet') AS b (i, n) WHERE i = 1") == [("x",)]


def test_names_of_files_are_taken_to_the_letter(session: ice.Session) -> None:
    for number, name in enumerate(["a b%20.parquet", "a b .parquet", "x[1].parquet", "x1.parquet", "ü'.parquet"]):
        write(name, id=[number])
    assert rows(session, "FROM 'a b%20.parquet'") == [(0,)]
    assert rows(session, "FROM 'x[1].parquet'") == [(2,)]
    assert rows(session, "FROM 'x[12].parquet'") == [(3,)]
    assert rows(session, "FROM 'ü''.parquet'") == [(4,)]
    assert rows(session, "SELECT id FROM read_parquet(?)", ["ü'.parquet"]) == [(4,)]


def test_columns_with_capitals_are_found_without_quotes(session: ice.Session) -> None:
    write("a.parquet", Id=[1], **{"Unit Price": [2.5]})
    assert rows(session, "SELECT ID, \"Unit Price\" FROM read_parquet('a.parquet') WHERE id = 1") == [(1, 2.5)]


def test_nan_is_in_the_answer_although_statistics_know_nothing_of_it(session: ice.Session) -> None:
    write("a.parquet", f=[1.0, float("nan"), None])
    assert rows(session, "SELECT count(*) FROM 'a.parquet' WHERE f > 5") == [(1,)]
    assert repr(rows(session, "SELECT max(f) FROM 'a.parquet'")) == "[(nan,)]"


def test_folders_tell_values(session: ice.Session) -> None:
    write("d/year=2023/day=2023-05-01/kind=a%2Fb/1.parquet", id=[1])
    write("d/year=2024/day=2024-05-01/kind=__HIVE_DEFAULT_PARTITION__/1.parquet", id=[2], year=[7])
    glob = "'d/*/*/*/*.parquet'"
    sql = f"SELECT id, year, day, kind FROM read_parquet({glob}, union_by_name = true)"
    assert rows(session, sql) == [(1, None, date(2023, 5, 1), "a/b"), (2, 7, date(2024, 5, 1), None)]
    write("d/year=2024/day=2024-05-01/kind=__HIVE_DEFAULT_PARTITION__/1.parquet", id=[2])
    assert rows(session, f"SELECT id FROM read_parquet({glob}) WHERE year = 2024") == [(2,)]
    plan = str(session.sql(f"EXPLAIN SELECT id FROM read_parquet({glob}) WHERE year = 2024").fetchall())
    assert "year=2024" in plan
    assert "year=2023" not in plan
    assert session.sql(f"SELECT * FROM read_parquet({glob}, hive_partitioning = false)").to_arrow().schema.names == [
        "id"
    ]
    write("d/plain.parquet", id=[3])
    assert rows(session, "SELECT * FROM read_parquet('d/**/*.parquet')") == [(1,), (2,), (3,)]
    refused(session, "FROM read_parquet('d/**/*.parquet', hive_partitioning = true)", SchemaError, "plain.parquet")


def test_the_name_of_the_file_is_a_column(session: ice.Session) -> None:
    write("a/1.parquet", id=[1])
    write("a/2.parquet", id=[2])
    sql = "SELECT id, filename FROM read_parquet('a/*.parquet', filename = true) WHERE filename LIKE '%2.parquet'"
    assert rows(session, sql) == [(2, "a/2.parquet")]
    assert rows(session, "SELECT f FROM read_parquet('a/1.parquet', filename = 'f')") == [("a/1.parquet",)]
    refused(session, "FROM read_parquet('a/1.parquet', filename = 'id')", SchemaError, "a column id already")


def test_files_of_other_columns_are_refused_or_united(session: ice.Session) -> None:
    write("a/1.parquet", id=[1], old=["x"])
    write("a/2.parquet", id=[2], new=["y"])
    refused(session, "FROM 'a/*.parquet'", SchemaError, "a/2.parquet", "column", "union_by_name")
    united = "SELECT id, old, new FROM read_parquet('a/*.parquet', union_by_name = true)"
    assert rows(session, united) == [(1, "x", None), (2, None, "y")]
    pq.write_table(pa.table({"id": pa.array([2**40]), "n": pa.array([1], pa.int32())}), "b2.parquet")
    pq.write_table(pa.table({"id": pa.array([5], pa.int32()), "n": pa.array([1])}), "b1.parquet")
    refused(session, "FROM 'b[12].parquet'", SchemaError, "b2.parquet", "id", "int32")
    assert rows(session, "SELECT id FROM read_parquet('b?.parquet', union_by_name = true)") == [(2**40,), (5,)]
    pq.write_table(pa.table({"id": ["text"]}), "b3.parquet")
    refused(session, "FROM read_parquet(['b1.parquet', 'b3.parquet'], union_by_name = true)", SchemaError, "b3.parquet")


# CSV


def test_csv_is_read_by_its_header(session: ice.Session) -> None:
    Path("a.csv").write_text('id,name,at,d\n1,"x, ""y""",2024-01-01T10:00:00,2024-02-29\n2,,,\n3,"",,\n')
    wanted = [(1, 'x, "y"', datetime(2024, 1, 1, 10), date(2024, 2, 29)), (2, None, None, None), (3, "", None, None)]
    assert rows(session, "FROM 'a.csv'") == wanted
    assert rows(session, "SELECT * FROM read_csv('a.csv') WHERE id = 3") == wanted[2:]
    assert rows(session, "SELECT name FROM read_csv('a.csv', nullstr = ['', 'x']) WHERE id = 2") == [(None,)]


def test_options_of_csv(session: ice.Session) -> None:
    Path("a.txt").write_text("a comment\n1|'x|y'|NA\n2|'it\\'s'|5\n")
    marks = r"sep = '|', quote = '''', escape = '\'"
    sql = f"SELECT * FROM read_csv('a.txt', header = false, {marks}, skip = 1, nullstr = 'NA')"
    assert rows(session, sql) == [(1, "x|y", None), (2, "it's", 5)]
    assert session.sql(sql).to_arrow().schema.names == ["column0", "column1", "column2"]
    columns = "columns = {'id': 'bigint', 'text': 'string', 'n': 'decimal(4, 1)'}"
    typed = sql.replace("skip = 1", f"skip = 1, {columns}")
    assert rows(session, typed) == [(1, "x|y", None), (2, "it's", Decimal("5.0"))]
    refused(session, typed.replace(", 'n': 'decimal(4, 1)'", ""), SchemaError, "a.txt has 3 columns, and 2 are given")
    Path("a.tsv").write_text("id\tname\n1\tx,y\n")
    assert rows(session, "FROM 'a.tsv'") == [(1, "x,y")]
    Path("b.csv").write_text("id,zip\n1,00123\n")
    assert rows(session, "FROM read_csv('b.csv', types = {'zip': 'string'})") == [(1, "00123")]
    assert rows(session, "FROM read_csv('b.csv', all_varchar = true)") == [("1", "00123")]
    assert rows(session, "FROM read_csv('b.csv', columns = {'zip': 'string'})") == [("00123",)]
    refused(session, "FROM read_csv('b.csv', columns = {'zap': 'int'})", SchemaError, "no column zap", "id, zip")
    refused(session, "FROM read_csv('b.csv', types = {'zap': 'int'})", SchemaError, "no column zap", "id, zip")


def test_compressed_text_is_read(session: ice.Session) -> None:
    with gzip.open("a.csv.gz", "wt") as file:
        file.write("id,name\n1,x\n")
    with gzip.open("a.jsonl.gz", "wt") as file:
        file.write('{"id": 1}\n')
    assert rows(session, "FROM 'a.csv.gz'") == [(1, "x")]
    assert rows(session, "FROM 'a.jsonl.gz'") == [(1,)]


def test_text_that_is_not_of_its_type_is_an_error_with_the_file(session: ice.Session) -> None:
    Path("a.csv").write_text("id\n" + "1\n" * 3_000_000 + "x\n")
    refused(session, "SELECT sum(id) FROM 'a.csv'", StorageError, "a.csv", "invalid value 'x'", "columns =")
    refused(session, "INSERT INTO ns.t (id) FROM 'a.csv'", StorageError, "a.csv", "invalid value 'x'")
    assert rows(session, "FROM ns.t") == []
    assert not list(Path("warehouse").rglob("*.parquet"))


# JSON and Arrow


def test_json_is_read_line_by_line(session: ice.Session) -> None:
    Path("a.json").write_text('{"id": 1, "tags": ["x"], "at": {"x": 1.5}}\n{"id": 2, "more": true}\n')
    assert rows(session, "SELECT id, tags, at['x'], more FROM 'a.json'") == [
        (1, ["x"], 1.5, None),
        (2, None, None, True),
    ]
    assert rows(session, "FROM read_json('a.json', columns = {'id': 'int', 'none': 'int'})") == [(1, None), (2, None)]
    refused(session, "FROM read_json('a.json', columns = {'id': 'string'})", StorageError, "a.json", "/id")
    Path("b.json").write_text('{"id": 3.5}\n')
    assert rows(session, "SELECT id, more FROM read_json('[ab].json')") == [(1.0, None), (2.0, True), (3.5, None)]
    Path("c.json").write_text('[{"id": 3.5}]')
    refused(session, "FROM 'c.json'", StorageError, "c.json", "one object a line")


def test_a_field_that_comes_late_is_an_error_and_not_left_out(session: ice.Session) -> None:
    Path("a.json").write_text('{"id": 1}\n' * 1_000_000 + '{"id": 1, "late": 5}\n')
    refused(session, "SELECT count(id) FROM 'a.json'", StorageError, "a.json", "columns =")
    assert rows(session, "SELECT sum(late) FROM read_json('a.json', columns = {'late': 'bigint'})") == [(5,)]


def test_arrow_files_and_streams_are_read(session: ice.Session) -> None:
    table = pa.table({"id": [1, 2], "kind": pa.array(["a", "b"]).dictionary_encode()})
    with pa.OSFile("a.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile("b.arrows", "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert rows(session, "FROM 'a.arrow'") == [(1, "a"), (2, "b")]
    assert rows(session, "FROM 'b.arrows'") == [(1, "a"), (2, "b")]
    assert rows(session, "SELECT count(*) FROM read_arrow(['a.arrow', 'b.arrows']) WHERE kind = 'a'") == [(2,)]
    twice = "SELECT count(*) FROM 'b.arrows' AS x JOIN 'b.arrows' AS y ON x.id = y.id"
    assert rows(session, twice) == [(2,)]


# In statements


CHANGES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("INSERT INTO ns.t FROM 'a.csv'", [(1, "x"), (1, "old"), (2, "y")]),
    ("INSERT INTO ns.t BY NAME SELECT name, id FROM read_csv('a.csv') WHERE id = 2", [(1, "old"), (2, "y")]),
    ("INSERT OVERWRITE ns.t SELECT * FROM 'a.csv'", [(1, "x"), (2, "y")]),
    ("INSERT INTO ns.t FROM 'a.csv' ON CONFLICT (id) DO NOTHING", [(1, "old"), (2, "y")]),
    (
        "MERGE INTO ns.t USING read_csv('a.csv') AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET * "
        "WHEN NOT MATCHED THEN INSERT *",
        [(1, "x"), (2, "y")],
    ),
    (
        "MERGE INTO ns.t USING 'a.csv' ON t.id = a.id WHEN MATCHED THEN UPDATE SET name = a.name",
        [(1, "x")],
    ),
    ("UPDATE ns.t SET name = s.name FROM read_csv('a.csv') s WHERE s.id = t.id", [(1, "x")]),
    ("UPDATE ns.t SET name = (SELECT max(name) FROM 'a.csv')", [(1, "y")]),
    ("DELETE FROM ns.t USING 'a.csv' AS s WHERE s.id = t.id", []),
    ("DELETE FROM ns.t WHERE id IN (SELECT id FROM 'a.csv')", []),
]


@pytest.mark.parametrize(("sql", "left"), CHANGES, ids=[sql for sql, _ in CHANGES])
def test_files_in_changes(session: ice.Session, sql: str, left: list[tuple[Any, ...]]) -> None:
    Path("a.csv").write_text("id,name\n1,x\n2,y\n")
    session.sql("INSERT INTO ns.t VALUES (1, 'old')")
    with session.transaction() as tx:
        tx.sql(sql)
    assert rows(session, "FROM ns.t") == sorted(left, key=repr)


def test_views_and_new_tables_of_files(session: ice.Session) -> None:
    Path("a.csv").write_text("id,name\n1,x\n")
    session.sql("CREATE VIEW v AS SELECT name FROM read_csv('a.csv'); CREATE VIEW w AS SELECT * FROM v")
    session.sql("CREATE TABLE ns.u AS FROM 'a.csv'")
    Path("a.csv").write_text("id,name\n1,x\n2,y\n")
    assert rows(session, "FROM w") == [("x",), ("y",)]
    assert rows(session, "FROM ns.u") == [(1, "x")]
    assert rows(session, "SELECT count(*) FROM w JOIN 'a.csv' ON a.name = w.name") == [(2,)]


def test_what_is_read_is_not_collected(session: ice.Session, folder: Path) -> None:
    """Ten times the memory limit goes through."""
    rows_a_file = 1_000_000
    for number in range(10):
        write(f"big/{number}.parquet", id=list(range(rows_a_file)), name=["a" * 20] * rows_a_file)
    with ice.connect(folder / "warehouse", memory_limit="48MiB") as small:
        small.sql("INSERT INTO ns.t FROM 'big/*.parquet'")
    assert rows(session, "SELECT count(*), sum(id) FROM ns.t") == [(10_000_000, 10 * sum(range(rows_a_file)))]


# Mistakes


def test_what_is_not_there_is_named(session: ice.Session) -> None:
    Path("data.csv").write_text("id\n1\n")
    refused(session, "FROM 'date.csv'", StorageError, "no file date.csv", "did you mean data.csv?")
    refused(session, "FROM 'nowhere/x.csv'", StorageError, "nowhere/x.csv", "no folder nowhere")
    refused(session, "FROM '*.parquet'", StorageError, "no file matches *.parquet")
    refused(session, "FROM read_csv('warehouse')", StorageError, "warehouse is a folder")
    refused(session, "FROM read_csv(['data.csv', 'b.csv'])", StorageError, "no file b.csv")
    refused(session, "FROM read_csv('')", StorageError, "no path")
    refused(session, "FROM read_csv(?)", StorageError, "no path", params=["a\0b"])
    refused(session, "FROM 'https://example.org/a.csv'", UnsupportedStatementError, "https://", "fetch it")
    refused(session, "FROM 'what://x/a.csv'", StorageError, "what://x/a.csv")


def test_wrong_calls_are_told_with_their_place(session: ice.Session) -> None:
    Path("a.csv").write_text("id\n1\n")
    call = "SELECT *\nFROM read_csv('a.csv', {})"
    for option, words in {
        "heder = true": "no option heder (line 2, column 24)",
        "seperator = ';'": "did you mean sep",
        "header = 'x'": "option header: expected true or false, found 'x'",
        "delim = ';;'": "option delim: expected one ASCII character",
        "skip = -1": "option skip: expected a number of lines",
        "columns = 'x'": "option columns: expected columns with their types",
        "columns = {'id': 'bigger'}": "bigger",
        "columns = {'id': 'int int'}": "expected a type for id",
        "nullstr = 5": "option nullstr",
    }.items():
        refused(session, call.format(option), BindError, words)
    refused(session, "FROM read_parquet('a.parquet', header = true)", BindError, "read_parquet has no option header")
    refused(session, "FROM read_csv(5)", BindError, "expected a path or a list of paths, found 5")
    refused(session, "FROM read_csv([])", BindError, "an empty list")
    refused(session, "FROM read_csv(?)", BindError, "found None", params=[None])
    refused(session, "FROM read_csvs('a.csv')", BindError, "read_csvs", "did you mean read_csv?")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.json"])
def test_files_of_another_format_are_told(session: ice.Session, name: str) -> None:
    Path(name).write_bytes(b"\x00\x01garbage\xff" * 10)
    refused(session, f"FROM '{name}'", StorageError, f"cannot read {name} as")


def test_a_cut_off_parquet_file_is_told(session: ice.Session) -> None:
    write("a.parquet", id=list(range(100_000)))
    whole = Path("a.parquet").read_bytes()
    Path("a.parquet").write_bytes(whole[: len(whole) // 2])
    refused(session, "FROM 'a.parquet'", StorageError, "a.parquet")
    damaged = bytearray(whole)
    damaged[100:5000] = bytes(4900)
    Path("a.parquet").write_bytes(bytes(damaged))
    refused(session, "SELECT sum(id) FROM 'a.parquet'", StorageError, "a.parquet")


def test_a_file_that_goes_away_is_an_error_and_not_fewer_rows(session: ice.Session) -> None:
    write("a/1.parquet", id=[1])
    write("a/2.parquet", id=[2])
    result = session.sql("FROM 'a/*.parquet'")
    Path("a/2.parquet").unlink()
    with pytest.raises(StorageError, match=r"a/2\.parquet"):
        result.to_arrow()


# Sessions that do not read files


REACHING: dict[str, str] = {
    "a function": "SELECT * FROM read_csv('a.csv')",
    "a name": "FROM 'a.csv'",
    "a parameter": "SELECT * FROM read_parquet($x)",
    "a subquery": "SELECT (SELECT count(*) FROM 'a.csv')",
    "a list of names": "WITH x AS (SELECT * FROM 'a.csv') SELECT * FROM x",
    "behind comments": "SELECT * FROM/**/read_csv--\n/* ( */('a.csv')",
    "in capitals": "SELECT * FROM READ_CSV('a.csv')",
    "in quotes": "SELECT * FROM \"read_csv\"('a.csv')",
    "an INSERT": "INSERT INTO ns.t SELECT * FROM 'a.csv'",
    "a MERGE": "MERGE INTO ns.t USING 'a.csv' AS s ON t.id = s.id WHEN MATCHED THEN DELETE",
    "a DELETE": "DELETE FROM ns.t WHERE id IN (FROM 'a.csv')",
    "RETURNING": "INSERT INTO ns.t VALUES (1, 'x') RETURNING (SELECT max(id) FROM 'a.csv')",
    "a view": "CREATE VIEW v AS FROM 'a.csv'",
    "a new table": "CREATE TABLE ns.u AS FROM 'a.csv'",
    "EXPLAIN": "EXPLAIN SELECT * FROM 'a.csv'",
    "EXPLAIN of a change": "EXPLAIN INSERT INTO ns.t FROM 'a.csv'",
    "DESCRIBE": "DESCRIBE SELECT * FROM 'a.csv'",
    "LOCATION": "CREATE TABLE ns.u (id bigint) LOCATION 'elsewhere'",
    "a property": "CREATE TABLE ns.u (id bigint) TBLPROPERTIES ('write.data.path' = 'elsewhere')",
    "the place of a namespace": "CREATE NAMESPACE elsewhere WITH ('location' = 'elsewhere')",
    "ALTER": "ALTER TABLE ns.t SET LOCATION 'elsewhere'",
    "ALTER of a property": "ALTER TABLE ns.t SET TBLPROPERTIES ('write.metadata.path' = 'elsewhere')",
    "ATTACH": "ATTACH 'warehouse' AS other",
    "add_files": "CALL system.add_files('ns.t', 'a.csv')",
    "register_table": "CALL system.register_table('ns.u', 'x.metadata.json')",
}


@pytest.mark.parametrize("sql", REACHING.values(), ids=REACHING)
def test_a_session_without_files_refuses(session: ice.Session, folder: Path, sql: str) -> None:
    Path("a.csv").write_text("id\n1\n")
    before = sorted(folder.rglob("*"))
    with ice.connect(folder / "warehouse", allow_files=False) as closed:
        params = {"x": "a.csv"} if "$x" in sql else None
        refused(closed, sql, UnsupportedStatementError, "this session does not", "allow_files=False", params=params)
    assert [path for path in sorted(folder.rglob("*")) if path not in before] == []


OTHER_WAYS = [
    'SELECT * FROM "a.csv"',
    "SELECT * FROM `a.csv`",
    "SELECT * FROM a.csv",
    'SELECT * FROM "file:///etc"."passwd"',
    "SELECT * FROM parquet_metadata('a.parquet')",
    "SELECT * FROM read_text('a.csv')",
    "SELECT * FROM glob('*')",
    "SELECT read_csv('a.csv')",
    "SELECT * FROM information_schema.df_settings",
    "COPY (SELECT 1) TO 'out.csv'",
    "EXPLAIN COPY (SELECT 1) TO 'out.csv'",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'a.csv'",
    "WITH x AS (COPY (SELECT 1) TO 'out.csv') SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO 'out.csv'",
    "SELECT 1 INTO OUTFILE 'out.csv'",
    "SELECT * FROM (VALUES ('a.csv')) v (p), LATERAL read_csv(p)",
]


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("sql", OTHER_WAYS)
def test_no_other_way_leads_to_a_file(folder: Path, session: ice.Session, sql: str, allow: bool) -> None:
    Path("a.csv").write_text("id\n1\n")
    with ice.connect(folder / "warehouse", allow_files=allow) as other, pytest.raises(IcefusionError):
        other.sql(sql).to_arrow()
    assert not Path("out.csv").exists()


def test_a_session_without_files_does_all_else(folder: Path, session: ice.Session) -> None:
    with ice.connect(folder / "warehouse", allow_files=False) as closed:
        closed.sql("INSERT INTO ns.t FROM data", data=pa.table({"id": [1], "name": ["'a.csv'"]}))
        assert rows(closed, "SELECT name FROM ns.t WHERE name = '''a.csv'''") == [("'a.csv'",)]
        assert rows(closed, "SELECT * FROM range(2)") == [(0,), (1,)]
