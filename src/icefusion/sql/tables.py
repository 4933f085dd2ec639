"""CREATE TABLE: its head, its columns and the clauses behind them, in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from icefusion.naming import fold_case
from icefusion.sql.columns import parse_columns
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.scanner import scan_query
from icefusion.sql.statements import CreateTable, Name
from icefusion.sql.terms import parse_partitioning, parse_properties, parse_sort_order

__all__ = ["parse_create_table"]

_CLAUSES = ("PARTITIONED BY", "ORDER BY", "LOCATION", "COMMENT", "TBLPROPERTIES", "WITH", "USING", "LIKE", "AS")
_PARTITIONED = (("PARTITIONED", "BY"), ("PARTITION", "BY"))
_ORDERED = (("ORDER", "BY"), ("ORDERED", "BY"), ("SORTED", "BY"), ("WRITE", "ORDERED", "BY"))
_OTHER_CLAUSES = {
    "CLONE": "copy the rows: CREATE TABLE name AS SELECT * FROM other",
    "STORED": "data files are Parquet; leave the clause out",
    "ROW": "data files are Parquet; leave the clause out",
    "CLUSTERED": "use a transform: PARTITIONED BY (bucket(16, column))",
    "CLUSTER": "use ORDER BY (...) for the order of rows and PARTITIONED BY (...) for their files",
    "DISTRIBUTED": "rows are always brought together by partition; leave the clause out",
    "DISTRIBUTE": "rows are always brought together by partition; leave the clause out",
    "OPTIONS": "give properties as TBLPROPERTIES ('key' = 'value')",
}


def parse_create_table(cursor: Cursor, *, replace: bool = False, must_exist: bool = False) -> CreateTable:
    """The statement whose CREATE TABLE the cursor stands behind.

    Args:
        cursor: Stands behind TABLE.
        replace: Whether OR REPLACE was said, or REPLACE in the place of CREATE.
        must_exist: Whether the latter.

    Raises:
        ParseError: it does not read as CREATE TABLE, or a clause comes twice.
        UnsupportedStatementError: a clause that Iceberg tables have no place for, or columns without types.
    """
    begin = cursor.token
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if replace and if_not_exists:
        word = "REPLACE" if must_exist else "OR REPLACE"
        raise cursor.error(f"{word} and IF NOT EXISTS exclude each other", token=begin, hint="leave one of them out")
    name = cursor.name("the name of a table")
    table = CreateTable(name, if_not_exists=if_not_exists, replace=replace, must_exist=must_exist)
    if cursor.at("("):
        table = _parse_parenthesis(cursor, table)
    given: set[str] = {"LIKE"} if table.like is not None else set()
    while cursor.token.kind is not Kind.END and not cursor.at("AS", "SELECT"):
        table = _parse_clause(cursor, table, given)
    if cursor.token.kind is not Kind.END:
        return _parse_query(cursor, table)
    if not table.columns and table.like is None:
        hint = "list the columns, e.g. (id bigint NOT NULL, name string), or write AS SELECT ... or LIKE other"
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
    if table.like is not None:
        hint = "write LIKE first and INSERT INTO the table, or AS SELECT with the clauses of the other table"
        raise cursor.unsupported("a table LIKE another one takes its columns from that", hint, token=begin)
    keys = [token.key for token in cursor.tokens[-4:-1]]
    if keys == ["WITH", "NO", "DATA"] or keys[1:] == ["WITH", "DATA"]:
        hint = "leave WITH DATA out; for WITH NO DATA, write LIMIT 0 at the end of the query"
        token = cursor.tokens[-4 if keys[0] == "WITH" else -3]
        raise cursor.unsupported("WITH [NO] DATA is not supported", hint, token=token)
    return replace(table, query=scan_query(cursor.sql, cursor.tokens, cursor.index))


def _parse_parenthesis(cursor: Cursor, table: CreateTable) -> CreateTable:
    """The columns, or ``(LIKE other)``, as PostgreSQL and Trino write it."""
    if cursor.ahead().key == "SELECT":
        raise cursor.error("expected AS before the query")
    if cursor.ahead().key == "LIKE":
        cursor.index += 2
        table = replace(table, like=_parse_like(cursor))
        if cursor.at(","):
            hint = "write LIKE alone, and ALTER TABLE ... ADD COLUMN behind it"
            raise cursor.unsupported("a table LIKE another one takes its columns from that", hint)
        cursor.expect(")")
        return table
    if cursor.ahead().key == ")":
        raise cursor.error("a table needs at least one column", token=cursor.ahead())
    listed = parse_columns(cursor)
    return replace(table, columns=listed.columns, identifier=listed.identifier)


def _parse_like(cursor: Cursor) -> Name:
    name = cursor.name("the table whose columns are taken")
    if cursor.at("INCLUDING", "EXCLUDING"):
        hint = "columns, partitioning, order and properties are taken; set what differs in clauses of its own"
        raise cursor.unsupported(f"LIKE ... {cursor.token.key} is not supported", hint)
    return name


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
    if cursor.accept("LIKE"):
        once("LIKE")
        if table.columns:
            hint = "leave the column list out, or LIKE"
            raise cursor.error("a table LIKE another one takes its columns from that", token=begin, hint=hint)
        return replace(table, like=_parse_like(cursor))
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
