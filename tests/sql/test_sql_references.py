"""Which tables a query reads, where they stand, and time travel."""

import pytest
from sql_cases import READS, query, spelled

from icefusion.errors import ParseError, UnsupportedStatementError
from icefusion.sql.parser import parse_script
from icefusion.sql.statements import ComputedAsOf, CreateTable, Insert, VersionAsOf


@pytest.mark.parametrize(("sql", "tables"), READS.items(), ids=READS)
def test_the_tables_of_a_query_are_found(sql: str, tables: list[str]) -> None:
    assert spelled(query(sql)) == tables


@pytest.mark.parametrize("sql", READS)
def test_a_reference_spans_its_name_in_the_query_and_begins_at_it_in_the_whole_text(sql: str) -> None:
    before = "SELECT 'ü' FROM first; "
    parsed = parse_script(before + sql)[1]
    assert parsed.tables == query(sql).tables
    for table in parsed.tables:
        text = parsed.text[table.start : table.end]
        assert text.replace("`", '"') == str(table.name)
        assert parsed.sql[table.name.offset :].startswith(text)


@pytest.mark.parametrize("sql", [sql for sql in READS if "TABLE " not in sql and sql != "FROM t"])
def test_a_query_is_a_verbatim_slice_of_the_text(sql: str) -> None:
    parsed = parse_script(f" ; {sql} ;")[0]
    assert parsed.text == sql.removesuffix(" -- , v")
    assert parsed.sql[parsed.offset :].startswith(parsed.text)


@pytest.mark.parametrize(
    ("rest", "aliased"),
    [
        ("", False),
        ("AS x", True),
        ("x", True),
        ('"x"', True),
        ("AS left", True),
        ("version", True),
        ("timestamp", True),
        (", u", False),
        ("JOIN u ON true", False),
        ("LEFT JOIN u ON true", False),
        ("WHERE a = 1", False),
        ("ORDER BY a", False),
        ("UNION SELECT 1", False),
        ("FOR UPDATE", False),
        ("FOR VERSION AS OF 1", False),
        ("FOR VERSION AS OF 1 x", True),
        ("VERSION AS OF 1 AS x", True),
    ],
)
def test_an_alias_of_a_table_is_noted(rest: str, aliased: bool) -> None:
    assert query(f"SELECT * FROM t {rest}").tables[0].has_alias is aliased


@pytest.mark.parametrize(
    ("sql", "text", "versions"),
    [
        ("SELECT * FROM t FOR VERSION AS OF 5", "SELECT * FROM t", [5]),
        ("SELECT * FROM t VERSION AS OF 5 AS x", "SELECT * FROM t AS x", [5]),
        ("SELECT * FROM t for system_version as of 5 x", "SELECT * FROM t x", [5]),
        ("SELECT * FROM t FOR VERSION AS OF 'it''s' x", "SELECT * FROM t x", ["it's"]),
        ("SELECT * FROM t FOR VERSION AS OF 9223372036854775807", "SELECT * FROM t", [2**63 - 1]),
        ("SELECT * FROM t FOR /* old */ VERSION AS OF 5x", "SELECT * FROM t x", [5]),
        ("SELECT * FROM (t VERSION AS OF 1 JOIN t ON true)", "SELECT * FROM (t JOIN t ON true)", [1, None]),
        ("SELECT * FROM a, b FOR VERSION AS OF 'x', c", "SELECT * FROM a, b, c", [None, "x", None]),
        ("WITH x AS (SELECT * FROM t VERSION AS OF 1) TABLE x", "WITH x AS (SELECT * FROM t) SELECT * FROM x", [1]),
    ],
)
def test_a_version_is_cut_out_of_the_query_and_kept(sql: str, text: str, versions: list[int | str | None]) -> None:
    parsed = query(sql)
    assert parsed.text == text
    assert [table.version for table in parsed.tables] == [v if v is None else VersionAsOf(v) for v in versions]
    assert [parsed.text[table.start : table.end] for table in parsed.tables] == spelled(parsed)


# What stands behind `FROM t` -> the time in it, and what is left.
TIMES = {
    "FOR TIMESTAMP AS OF '2024-01-01'": ("'2024-01-01'", ""),
    "FOR TIMESTAMP AS OF '2024-01-01' x": ("'2024-01-01'", " x"),
    "timestamp as of now() AS x": ("now()", " AS x"),
    "FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01' WHERE a = 1": ("TIMESTAMP '2024-01-01'", " WHERE a = 1"),
    "SYSTEM_TIME AS OF now() - INTERVAL '1 day' x JOIN u ON true": (
        "now() - INTERVAL '1 day'",
        " x JOIN u ON true",
    ),
    "FOR TIMESTAMP AS OF now() - INTERVAL '1' DAY JOIN u ON true": ("now() - INTERVAL '1' DAY", " JOIN u ON true"),
    "FOR TIMESTAMP AS OF now() - INTERVAL '1-2' YEAR TO MONTH, u": ("now() - INTERVAL '1-2' YEAR TO MONTH", ", u"),
    "FOR TIMESTAMP AS OF CAST('2024' || '-01-01' AS date) day": ("CAST('2024' || '-01-01' AS date)", " day"),
    "FOR TIMESTAMP AS OF '2024-01-01'::timestamp with time zone AT TIME ZONE 'UTC' z": (
        "'2024-01-01'::timestamp with time zone AT TIME ZONE 'UTC'",
        " z",
    ),
    "FOR TIMESTAMP AS OF CASE WHEN a < 1 THEN now() ELSE now() END z": (
        "CASE WHEN a < 1 THEN now() ELSE now() END",
        " z",
    ),
    'FOR TIMESTAMP AS OF $when "x"': ("$when", ' "x"'),
    "FOR TIMESTAMP AS OF ? LIMIT 1": ("$1", " LIMIT 1"),
    "FOR TIMESTAMP AS OF 1714557600 ORDER BY a": ("1714557600", " ORDER BY a"),
    "AT (TIMESTAMP => now() - INTERVAL '1 hour') AS x": ("now() - INTERVAL '1 hour'", " AS x"),
    "AT (timestamp => ?)": ("$1", ""),
}


@pytest.mark.parametrize(("rest", "expected"), TIMES.items(), ids=TIMES)
def test_a_time_ends_where_no_operator_goes_on(rest: str, expected: tuple[str, str]) -> None:
    for start, end in (("", ""), ("(", ")")):
        parsed = query(f"SELECT * FROM {start}t {rest}{end}")
        version = parsed.tables[0].version
        assert isinstance(version, ComputedAsOf)
        assert (version.kind, version.value.text) == ("timestamp", expected[0])
        assert parsed.text == f"SELECT * FROM {start}t{expected[1]}{end}"


def test_a_version_can_be_a_parameter() -> None:
    parsed = query("SELECT ? FROM a FOR VERSION AS OF ? AS x, b AT (VERSION => ?), c TIMESTAMP AS OF ? y WHERE ? = 1")
    assert parsed.text == "SELECT $1 FROM a AS x, b, c y WHERE $5 = 1"
    assert parsed.parameters == ("1", "2", "3", "4", "5")
    versions = [table.version for table in parsed.tables]
    assert [(v.kind, v.value.text, v.value.parameters) for v in versions if isinstance(v, ComputedAsOf)] == [
        ("version", "$2", ("2",)),
        ("version", "$3", ("3",)),
        ("timestamp", "$4", ("4",)),
    ]


def test_words_of_time_travel_can_be_aliases() -> None:
    for alias in ("at", "version", "timestamp", "system_time"):
        assert query(f"SELECT * FROM t {alias} JOIN u ON {alias}.a = u.a").tables[0].version is None


@pytest.mark.parametrize(
    ("sql", "column", "message"),
    [
        ("SELECT * FROM t FOR SYSTEM_TIME BETWEEN 1 AND 2", 17, "with AS OF only"),
        ("SELECT * FROM t AS OF VERSION 5", 17, "this form"),
        ("SELECT * FROM 'rows.txt'", 15, "file"),
        ("SELECT a INTO x FROM t", 10, "INTO"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", 22, "WITH in front of INSERT"),
        ("WITH x AS (SELECT 1) DELETE FROM t", 22, "WITH in front of DELETE"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", 12, "inside of WITH"),
    ],
)
def test_what_would_not_read_the_current_rows_is_refused(sql: str, column: int, message: str) -> None:
    with pytest.raises(UnsupportedStatementError) as caught:
        parse_script(sql)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (1, column)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("sql", "column", "message"),
    [
        ("SELECT * FROM t x FOR VERSION AS OF 5", 19, "cannot be given here"),
        ("SELECT * FROM t x VERSION AS OF 5", 19, "cannot be given here"),
        ("SELECT * FROM t x FOR TIMESTAMP AS OF now()", 19, "cannot be given here"),
        ("SELECT * FROM t AS x AT (VERSION => 5)", 22, "cannot be given here"),
        ("SELECT * FROM t AT (VERSION = 5)", 29, "'=>' behind VERSION"),
        ("SELECT * FROM t AT (VERSION => x)", 32, "snapshot id"),
        ("SELECT * FROM t AT (VERSION => 5", 33, "expected )"),
        ("SELECT * FROM t AT (TIMESTAMP => )", 34, "expected a time"),
        ("SELECT * FROM t FOR VERSION AS OF main", 35, "snapshot id"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF", 36, "expected a time"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF WHERE a = 1", 37, "expected a time"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF now() -", 44, "expected a time"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF now() - , u", 45, "expected a time"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF (SELECT max(a) FROM u)", 57, "u cannot be read here"),
        ("SELECT * FROM t FOR TIMESTAMP AS OF (now()", 37, "never closed"),
        ("WITH x AS (SELECT 1) SELECT * FROM x FOR VERSION AS OF 5", 38, "defined by WITH"),
        ("SELECT * FROM t FOR VERSION AS OF", 34, "snapshot id"),
        ("SELECT * FROM t FOR VERSION AS OF 1.5", 35, "snapshot id"),
        ("SELECT * FROM t FOR VERSION AS OF ''", 35, "snapshot id"),
        ("SELECT * FROM t FOR VERSION AS OF 9223372036854775808", 35, "snapshot id"),
        ("SELECT * FROM", 14, "expected a table, the statement ends"),
        ("SELECT * FROM WHERE a = 1", 15, "expected a table, found WHERE"),
        ("SELECT * FROM SELECT 1", 15, "expected a table, found SELECT"),
        ("SELECT * FROM (t JOIN WITH x)", 23, "expected a table, found WITH"),
        ("SELECT * FROM t JOIN ON a = b", 22, "expected a table, found ON"),
        ("SELECT * FROM t, ", 17, "expected a table"),
        ("SELECT * FROM (t JOIN )", 23, "expected a table, found )"),
        ("SELECT * FROM ?", 15, "expected a table, found ?"),
        ('SELECT * FROM ""', 15, "empty"),
        ("SELECT * FROM ns.", 18, "behind the '.'"),
        ("SELECT (1", 8, "never closed"),
        ("SELECT 1)", 9, "closes nothing"),
        ("SELECT [1)", 10, "expected ']', found )"),
        ("SELECT * FROM TABLE t", 15, "TABLE cannot stand here"),
    ],
)
def test_a_broken_from_clause_is_told_at_its_place(sql: str, column: int, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_script(sql)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (1, column)


def test_the_query_of_an_insert_and_of_a_new_table_is_scanned_too() -> None:
    insert, create = parse_script(
        "INSERT INTO a SELECT * FROM b VERSION AS OF 1; CREATE TABLE c AS (SELECT * FROM d x, e)"
    )
    assert isinstance(insert, Insert)
    assert isinstance(create, CreateTable)
    assert create.query is not None
    assert (spelled(insert.query), insert.query.text) == (["b"], "SELECT * FROM b")
    assert (spelled(create.query), create.query.text) == (["d", "e"], "(SELECT * FROM d x, e)")


def test_a_column_called_table_is_no_short_query() -> None:
    sql = "SELECT count(table), (table IS NULL), (table) FROM t"
    assert query(sql).text == sql
