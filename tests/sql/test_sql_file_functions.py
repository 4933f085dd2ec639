"""Functions over files in a FROM clause: which calls are read, and what they stand for."""

import pytest

from icefusion.errors import SQLError
from icefusion.sql.parser import parse_query, parse_statement
from icefusion.sql.statements import (
    FileFunction,
    FileOption,
    MappingValue,
    ParameterValue,
    Query,
    fragments_of,
)


def functions(sql: str) -> list[FileFunction]:
    query = parse_query(sql)
    return [table.function for table in query.tables if table.function is not None]


@pytest.mark.parametrize(
    ("call", "kind", "paths", "options"),
    [
        ("read_parquet('a b.parquet')", "parquet", "a b.parquet", ()),
        ("READ_PARQUET ( ['a', 'b''c'] )", "parquet", ("a", "b'c"), ()),
        ('"read_csv"(?, header=true)', "csv", ParameterValue("1"), (FileOption("header", True),)),
        ("read_csv('a', delim => ';', Skip := 3)", "csv", "a", (FileOption("delim", ";"), FileOption("skip", 3))),
        ("read_csv_auto('a', x = -1.5)", "csv", "a", (FileOption("x", -1.5),)),
        (
            "read_json(['a', ?], columns = {'a b': 'bigint', c: ?})",
            "json",
            ("a", ParameterValue("1")),
            (FileOption("columns", MappingValue((("a b", "bigint"), ("c", ParameterValue("2"))))),),
        ),
        ("read_ndjson('a')", "json", "a", ()),
        ("read_arrow(ARRAY['a'])", "arrow", ("a",), ()),
        ("'x/y.parquet'", "parquet", "x/y.parquet", ()),
        ("'x.CSV.gz'", "csv", "x.CSV.gz", ()),
        ("'s3://b/k.jsonl'", "json", "s3://b/k.jsonl", ()),
        ("E'a\\tb.arrow'", "arrow", "a\tb.arrow", ()),
    ],
)
def test_a_call_is_read(call: str, kind: str, paths: object, options: object) -> None:
    (function,) = functions(f"SELECT * FROM {call} WHERE a = ?")
    assert (function.kind, function.paths, function.options) == (kind, paths, options)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t, LATERAL (SELECT * FROM read_csv('x') AS r (a, b))",
        "SELECT * FROM (read_csv('x') JOIN t ON a = b)",
        "WITH c AS (FROM 'x.csv' SELECT a) SELECT * FROM c",
        "SELECT (SELECT max(a) FROM 'x.csv') FROM t",
        "EXPLAIN SELECT * FROM t WHERE a IN (FROM read_csv('x'))",
    ],
)
def test_calls_are_found_wherever_a_table_can_stand(sql: str) -> None:
    assert [function.paths for function in functions(sql)] in (["x"], ["x.csv"])


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t FROM read_csv('x')",
        "MERGE INTO t USING read_csv('x', header = true) ON a = b WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING 'x.csv' AS s ON t.a = s.a WHEN MATCHED THEN DELETE",
        "DELETE FROM t USING read_csv('x') AS s WHERE s.a = t.a",
        "UPDATE t SET a = (SELECT max(a) FROM 'x.csv')",
        "UPDATE t SET a = 1 FROM read_csv('x') WHERE t.a = read_csv.a",
        "CREATE TABLE t AS FROM 'x.csv'",
    ],
)
def test_calls_are_found_in_changes(sql: str) -> None:
    tables = [table for fragment in fragments_of(parse_statement(sql)) for table in fragment.tables]
    assert [table.function is not None for table in tables] == [True]


def test_calls_that_mean_the_same_have_one_key_and_others_do_not() -> None:
    same = functions("SELECT * FROM read_csv('x',  skip = 1) a, read_csv('x',\nskip = 1) b")
    assert same[0].key == same[1].key
    asked = functions("SELECT * FROM read_csv(?) a, read_csv(?) b, read_csv($$x$$) c")
    assert len({function.key for function in asked}) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT read_csv('x')",
        "SELECT * FROM ns.read_csv('x')",
        "SELECT * FROM read_csv",
        "SELECT 'x.csv' FROM t",
        "SELECT * FROM t WHERE a = 'x.csv' ORDER BY 'y.csv'",
        'SELECT * FROM "x.csv"',
    ],
)
def test_what_only_looks_like_a_call_reads_nothing(sql: str) -> None:
    assert functions(sql) == []


@pytest.mark.parametrize(
    ("sql", "column", "message"),
    [
        ("SELECT * FROM read_csv()", 24, "read_csv needs a path"),
        ("SELECT * FROM read_csv(header = true)", 37, "read_csv needs a path"),
        ("SELECT * FROM read_csv(a)", 24, "expected a literal or a parameter, found a"),
        ("SELECT * FROM read_csv('a' || 'b')", 28, "expected ',' or ')'"),
        ("SELECT * FROM read_csv(lower('a'))", 24, "expected a literal or a parameter, found lower"),
        ("SELECT * FROM read_csv((SELECT 'a'))", 24, "expected a literal or a parameter"),
        ("SELECT * FROM read_csv('a', 'b')", 29, "expected an option with its name"),
        ("SELECT * FROM read_csv('a', skip = 1, SKIP = 2)", 39, "option skip is given twice"),
        ("SELECT * FROM read_csv(['a', [['b']]", 37, "expected ',' or ']'"),
        ("SELECT * FROM read_csv([[[[[['a']]]]]])", 29, "nested too deep"),
        ("SELECT * FROM read_csv('a', columns = {1: 'x'})", 40, "expected a name"),
        ("SELECT * FROM 'x'", 15, "does not tell its format"),
        ("SELECT * FROM 'x.exe'", 15, "does not tell its format"),
        ("SELECT * FROM ''", 15, "does not tell its format"),
    ],
)
def test_a_mistake_in_a_call_is_told_with_its_place(sql: str, column: int, message: str) -> None:
    with pytest.raises(SQLError) as caught:
        parse_query(sql)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (1, column)


def test_the_text_of_a_query_keeps_the_call() -> None:
    assert parse_query("SELECT * FROM read_csv(?)") == Query(
        "SELECT * FROM read_csv($1)", parse_query("SELECT * FROM read_csv(?)").tables, ("1",)
    )
