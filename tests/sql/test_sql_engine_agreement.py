"""The engine reads what the scanner made of a query, and reads its tables from where the scanner says."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import datafusion
import pyarrow as pa
import pytest
from sql_cases import READS, query
from test_sql_changes import CHANGES

from icefusion.sql.lexer import Kind, read_string, tokenize
from icefusion.sql.parser import parse_statement
from icefusion.sql.references import replace_tables
from icefusion.sql.statements import Delete, Explain, Fragment, Merge, Query, Statement, Update, fragments_of

SCHEMA = pa.schema([("a", pa.int32()), ("b", pa.int32()), ("s", pa.string()), ("ts", pa.timestamp("us"))])
EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)


def context_with(count: int) -> datafusion.SessionContext:
    context = datafusion.SessionContext()
    for number in range(count):
        context.register_record_batches(f"unique {number}", [[EMPTY]])
    return context


@pytest.mark.parametrize("sql", READS)
def test_the_engine_plans_a_query_whose_tables_were_replaced(sql: str) -> None:
    # Only the replaced names are registered, so a table that was overlooked is not found.
    parsed = query(sql)
    replacements = []
    for number, table in enumerate(parsed.tables):
        alias = "" if table.has_alias else f' AS "{table.name.parts[-1].text}"'
        replacements.append(f'"unique {number}"{alias}')
    replaced = replace_tables(parsed, replacements)
    context_with(len(parsed.tables)).sql(replaced.text)


def from_list_of(statement: Statement) -> Fragment | None:
    match statement:
        case Delete():
            return statement.using
        case Update() | Merge():
            return statement.source
        case Explain():
            return from_list_of(statement.change)
    return None


@pytest.mark.parametrize("sql", CHANGES)
def test_the_engine_reads_the_pieces_of_a_change_where_a_select_has_them(sql: str) -> None:
    statement = parse_statement(sql)
    for fragment in fragments_of(statement):
        composed = f"SELECT {fragment.text} FROM t"
        if isinstance(fragment, Query):
            composed = fragment.text
        elif fragment is from_list_of(statement):
            composed = f"SELECT * FROM {fragment.text}"
        # Tables and columns are not known, so planning may fail; reading the text must not.
        with suppress_all_but_errors_of_syntax():
            datafusion.SessionContext().sql(composed)


@contextmanager
def suppress_all_but_errors_of_syntax() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if "ParserError" in str(error):
            raise


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("'a''b'", "a'b"),
        (r"'a\'", "a\\"),
        (r"E'a\'b\n\u0041\x41\101\q'", "a'b\nAAAq"),
        ("e'a''b'", "a'b"),
        ("$$a'b$$", "a'b"),
        ("$t$a$$b$t$", "a$$b"),
        ("$a$x$$a$", "x$"),
        ("'a\nb -- c'", "a\nb -- c"),
    ],
)
def test_strings_begin_and_end_where_the_engine_says(literal: str, value: str) -> None:
    tokens = tokenize(f"SELECT {literal} AS x")
    assert [token.kind for token in tokens[1:4]] == [Kind.STRING, Kind.WORD, Kind.WORD]
    assert read_string(tokens[1]) == value
    rows = datafusion.SessionContext().sql(f"SELECT {literal} AS x").to_pylist()
    assert rows == [{"x": value}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a -- c\r, 2 AS b",
        "SELECT 1 AS a --c\u2028, 2 AS b",
        "SELECT 1 AS a /* x /* y */ , 2 AS b */",
        "SELECT 1 AS a /* x -- */ , 2 AS b",
        "SELECT 1\u3000AS\xa0a, 2 AS b",
        'SELECT 1 AS "a""b", 2 AS `a``b`',
        "SELECT 1 AS a$b, 2 AS a@b, 3 AS a#b, 4 AS _x, 5 AS 日本",
        "SELECT 1.5e3 AS a, .5 AS b, 1. AS c",
    ],
)
def test_comments_and_names_end_where_the_engine_says(sql: str) -> None:
    tokens = tokenize(sql)
    as_names = [
        token.text[1:-1].replace(token.text[0] * 2, token.text[0]) if token.kind is Kind.QUOTED else token.text
        for before, token in pairwise(tokens)
        if before.key == "AS"
    ]
    assert datafusion.SessionContext().sql(sql).schema().names == as_names
