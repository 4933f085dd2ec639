"""CREATE TABLE: its head, its columns and the clauses behind them, in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from icefusion.naming import fold_case
from icefusion.sql.columns import parse_columns
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.scanner import scan_query
from icefusion.sql.statements import CreateTable
from icefusion.sql.terms import parse_partitioning, parse_properties, parse_sort_order

__all__ = ["parse_create_table"]

_CLAUSES = ("PARTITIONED BY", "ORDER BY", "LOCATION", "COMMENT", "TBLPROPERTIES", "WITH", "USING", "AS")
_PARTITIONED = (("PARTITIONED", "BY"), ("PARTITION", "BY"))
_ORDERED = (("ORDER", "BY"), ("ORDERED", "BY"), ("SORTED", "BY"), ("WRITE", "ORDERED", "BY"))
_OTHER_CLAUSES = {
    "LIKE": "list the columns, or copy them with the rows: CREATE TABLE name AS SELECT * FROM other LIMIT 0",
    "CLONE": "copy the rows: CREATE TABLE name AS SELECT * FROM other",
    "STORED": "data files are Parquet; leave the clause out",
    "ROW": "data files are Parquet; leave the clause out",
    "CLUSTERED": "use a transform: PARTITIONED BY (bucket(16, column))",
    "CLUSTER": "use ORDER BY (...) for the order of rows and PARTITIONED BY (...) for their files",
    "DISTRIBUTED": "rows are always brought together by partition; leave the clause out",
    "DISTRIBUTE": "rows are always brought together by partition; leave the clause out",
    "OPTIONS": "give properties as TBLPROPERTIES ('key' = 'value')",
}


def parse_create_table(cursor: Cursor) -> CreateTable:
    """The statement whose CREATE TABLE the cursor stands behind.

    Raises:
        ParseError: it does not read as CREATE TABLE, or a clause comes twice.
        UnsupportedStatementError: a clause that Iceberg tables have no place for, or columns without types.
    """
    begin = cursor.token
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    table = CreateTable(cursor.name("the name of a table"), if_not_exists=if_not_exists)
    if cursor.at("("):
        _refuse_parenthesised_query(cursor)
        listed = parse_columns(cursor)
        table = replace(table, columns=listed.columns, identifier=listed.identifier)
    given: set[str] = set()
    while cursor.token.kind is not Kind.END and not cursor.at("AS", "SELECT"):
        table = _parse_clause(cursor, table, given)
    if cursor.token.kind is not Kind.END:
        return _parse_query(cursor, table)
    if not table.columns:
        hint = "list the columns, e.g. (id bigint NOT NULL, name string), or write AS SELECT ..."
        raise cursor.error(f"table {table.name} has no columns", token=begin, hint=hint)
    return table


def _parse_query(cursor: Cursor, table: CreateTable) -> CreateTable:
    begin = cursor.token
    if not cursor.accept("AS"):
        raise cursor.unexpected("AS before the query")
    if not cursor.at("SELECT", "WITH", "VALUES", "FROM", "TABLE", "("):
        raise cursor.unexpected("a query behind AS")
    if table.columns:
        hint = "leave the column list out and CAST in the query, or CREATE TABLE first and INSERT INTO it"
        raise cursor.unsupported("a table AS a query takes its columns from the query", hint, token=begin)
    keys = [token.key for token in cursor.tokens[-4:-1]]
    if keys == ["WITH", "NO", "DATA"] or keys[1:] == ["WITH", "DATA"]:
        hint = "leave WITH DATA out; for WITH NO DATA, write LIMIT 0 at the end of the query"
        token = cursor.tokens[-4 if keys[0] == "WITH" else -3]
        raise cursor.unsupported("WITH [NO] DATA is not supported", hint, token=token)
    return replace(table, query=scan_query(cursor.sql, cursor.tokens, cursor.index))


def _refuse_parenthesised_query(cursor: Cursor) -> None:
    if cursor.ahead().key == "SELECT":
        raise cursor.error("expected AS before the query")
    if cursor.ahead().key == "LIKE":
        raise cursor.unsupported("CREATE TABLE (LIKE ...) is not supported", _OTHER_CLAUSES["LIKE"])
    if cursor.ahead().key == ")":
        raise cursor.error("a table needs at least one column", token=cursor.ahead())


def _parse_clause(cursor: Cursor, table: CreateTable, given: set[str]) -> CreateTable:
    begin = cursor.token

    def once(clause: str) -> None:
        if clause in given:
            raise cursor.error(f"{clause} is given twice", token=begin)
        given.add(clause)

    if any(cursor.accept(*words) for words in _PARTITIONED):
        once("PARTITIONED BY")
        return replace(table, partitioning=parse_partitioning(cursor))
    if any(cursor.accept(*words) for words in _ORDERED):
        once("ORDER BY")
        return replace(table, ordering=parse_sort_order(cursor))
    if cursor.accept("LOCATION"):
        once("LOCATION")
        cursor.accept("=")
        return replace(table, location=cursor.string("the location"))
    if cursor.accept("COMMENT"):
        once("COMMENT")
        cursor.accept("=")
        return replace(table, comment=cursor.string("the comment"))
    if cursor.accept("USING"):
        once("USING")
        _parse_format(cursor)
        return table
    if cursor.at("TBLPROPERTIES") or cursor.at_words("WITH", "("):
        begin = cursor.take()
        properties = (*table.properties, *parse_properties(cursor))
        if repeated := [key for key, count in Counter(key for key, _ in properties).items() if count > 1]:
            raise cursor.error(f"property {repeated[0]} is given twice", token=begin)
        return replace(table, properties=properties)
    if begin.key in _OTHER_CLAUSES:
        raise cursor.unsupported(f"CREATE TABLE ... {begin.key} is not supported", _OTHER_CLAUSES[begin.key])
    if begin.key == "WRITE":
        hint = "write ORDER BY (...) for the order of rows; they are always brought together by partition"
        raise cursor.unsupported("CREATE TABLE ... WRITE is supported with ORDERED BY only", hint)
    cursor.expect_end(clauses=_CLAUSES)
    return table


def _parse_format(cursor: Cursor) -> None:
    token = cursor.token
    text = read_string(token) if token.kind is Kind.STRING else token.text
    if token.kind not in (Kind.WORD, Kind.STRING):
        raise cursor.unexpected("iceberg behind USING")
    if fold_case(text) != "iceberg":
        raise cursor.unsupported(f"tables of format {text} are not supported", "write USING iceberg, or leave it out")
    cursor.take()
