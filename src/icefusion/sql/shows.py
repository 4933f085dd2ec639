"""SHOW and DESCRIBE: what there is, as Spark, Trino and MySQL ask for it."""

from __future__ import annotations

from typing import Literal

from icefusion.errors import SQLError
from icefusion.naming import nearest
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.scanner import scan_query
from icefusion.sql.statements import Describe, DescribeQuery, Identifier, Name, Show

__all__ = ["parse_describe", "parse_show"]

_NAMESPACES = ("NAMESPACES", "SCHEMAS", "DATABASES")
_SHOWN = (
    "CATALOGS",
    *_NAMESPACES,
    "TABLES",
    "VIEWS",
    "COLUMNS",
    "PARTITIONS",
    "CREATE TABLE",
    "CREATE VIEW",
    "TBLPROPERTIES",
    "FUNCTIONS",
)
_METADATA = "read the metadata table: SELECT * FROM namespace.table.{}"
_HINTS = {
    "ALL": "SHOW lists no options; they are given when the session is opened: icefusion.connect(...)",
    "BRANCHES": _METADATA.format("refs"),
    "FILES": _METADATA.format("files"),
    "GRANTS": "users and privileges are kept by the catalog; use its own tools",
    "HISTORY": _METADATA.format("history"),
    "INDEX": "Iceberg tables have no indexes",
    "INDEXES": "Iceberg tables have no indexes",
    "KEYS": "DESCRIBE EXTENDED namespace.table names the identifier fields",
    "PROPERTIES": "write SHOW TBLPROPERTIES namespace.table",
    "REFS": _METADATA.format("refs"),
    "ROLES": "users and privileges are kept by the catalog; use its own tools",
    "SNAPSHOTS": _METADATA.format("snapshots"),
    "STATS": _METADATA.format("files") + "; its readable_metrics hold the statistics",
    "TAGS": _METADATA.format("refs"),
}
_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM", "(")
_NAMESPACE_WORDS = ("NAMESPACE", "SCHEMA", "DATABASE")


def parse_show(cursor: Cursor) -> Show:
    """The statement that begins with the SHOW at the cursor.

    Raises:
        ParseError: it does not read as SHOW.
        UnsupportedStatementError: something is to be shown that there is not.
    """
    cursor.take()
    key = cursor.token.key
    if key == "CATALOGS":
        cursor.take()
        return _ended(cursor, Show("catalogs", pattern=_pattern(cursor)))
    if key in _NAMESPACES:
        cursor.take()
        inside = _inside(cursor, "the name of a namespace or catalog")
        return _ended(cursor, Show("namespaces", inside, _pattern(cursor)))
    if key in ("TABLES", "VIEWS"):
        what: Literal["tables", "views"] = "tables" if cursor.take().key == "TABLES" else "views"
        inside = _inside(cursor, "the name of a namespace or catalog")
        return _ended(cursor, Show(what, inside, _pattern(cursor)))
    if key in ("COLUMNS", "FIELDS"):
        cursor.take()
        return _ended(cursor, Show("columns", _table_of_columns(cursor), _pattern(cursor)))
    if key == "PARTITIONS":
        cursor.take()
        _skip_in(cursor)
        name = cursor.name("the name of a table")
        if cursor.at("PARTITION", "WHERE"):
            hint = f"filter the metadata table: SELECT * FROM {name}.partitions WHERE ..."
            raise cursor.unsupported(f"SHOW PARTITIONS ... {cursor.token.key} is not supported", hint)
        return _ended(cursor, Show("partitions", name))
    if key == "CREATE":
        return _parse_show_create(cursor)
    if key == "TBLPROPERTIES":
        cursor.take()
        name = cursor.name("the name of a table")
        return _ended(cursor, Show("properties", name, key=_property_key(cursor)))
    if cursor.accept("FUNCTIONS") or (
        key in ("ALL", "SYSTEM", "USER") and cursor.ahead().key == "FUNCTIONS" and cursor.accept(key, "FUNCTIONS")
    ):
        return _ended(cursor, Show("functions", pattern=_pattern(cursor)))
    raise _refuse_show(cursor)


def _parse_show_create(cursor: Cursor) -> Show:
    cursor.take()
    if cursor.at(*_NAMESPACE_WORDS, "MATERIALIZED", "FUNCTION"):
        namespace = cursor.at(*_NAMESPACE_WORDS)
        hint = "DESCRIBE NAMESPACE shows a namespace" if namespace else "tables and views can be shown so"
        raise cursor.unsupported(f"SHOW CREATE {cursor.token.key} is not supported", hint)
    if cursor.accept("VIEW"):
        return _ended(cursor, Show("create view", cursor.name("the name of a view")))
    cursor.expect("TABLE", "TABLE or VIEW")
    name = cursor.name("the name of a table")
    if cursor.at_words("AS", "SERDE"):
        raise cursor.unsupported("SHOW CREATE TABLE ... AS SERDE is not supported", "leave AS SERDE out")
    return _ended(cursor, Show("create table", name))


def _ended(cursor: Cursor, statement: Show) -> Show:
    clauses: list[str] = []
    if statement.what in ("namespaces", "tables", "views") and statement.name is None and statement.pattern is None:
        clauses.append("IN")
    if statement.what not in ("partitions", "create table", "create view", "properties") and statement.pattern is None:
        clauses.append("LIKE")
    cursor.expect_end(clauses=clauses)
    return statement


def _skip_in(cursor: Cursor) -> None:
    if cursor.at("IN", "FROM"):
        cursor.take()


def _inside(cursor: Cursor, what: str) -> Name | None:
    if not cursor.at("IN", "FROM"):
        return None
    cursor.take()
    return cursor.name(what)


def _table_of_columns(cursor: Cursor) -> Name:
    """The table, whose namespace may be named behind it: ``SHOW COLUMNS IN t FROM ns``."""
    if not cursor.at("IN", "FROM"):
        raise cursor.unexpected("IN or FROM, and a table")
    cursor.take()
    table = cursor.name("the name of a table")
    namespace = _inside(cursor, "the name of a namespace")
    return table if namespace is None else Name((*namespace.parts, *table.parts), table.offset)


def _pattern(cursor: Cursor) -> str | None:
    if cursor.accept("LIKE") or cursor.token.kind is Kind.STRING:
        return cursor.string("a pattern")
    if cursor.at("WHERE"):
        hint = "write LIKE 'pattern', or query information_schema: SELECT ... FROM information_schema.tables WHERE ..."
        raise cursor.unsupported("SHOW ... WHERE is not supported", hint)
    return None


def _property_key(cursor: Cursor) -> str | None:
    if not cursor.accept("("):
        return None
    if cursor.token.kind is Kind.STRING:
        key = read_string(cursor.take())
    else:
        key = ".".join(part.text for part in cursor.name("the key of a property").parts)
    cursor.expect(")")
    return key


def _refuse_show(cursor: Cursor) -> SQLError:
    token = cursor.token
    if token.key == "TABLE":
        hint = "write SHOW TABLES, or DESCRIBE EXTENDED for one table"
        return cursor.unsupported("SHOW TABLE is not supported", hint)
    if token.key in _HINTS:
        return cursor.unsupported(f"SHOW {token.key} is not supported", _HINTS[token.key])
    guess = nearest(token.key, [*_SHOWN, *_HINTS]) if token.kind is Kind.WORD else None
    expected = f"{', '.join(_SHOWN[:-1])} or {_SHOWN[-1]} behind SHOW"
    return cursor.unexpected(expected, hint=f"did you mean SHOW {guess}?" if guess else None)


def parse_describe(cursor: Cursor) -> Describe | DescribeQuery:
    """The statement that begins with the DESCRIBE or DESC at the cursor.

    Raises:
        ParseError: it does not read as DESCRIBE.
        UnsupportedStatementError: something else than a table, a namespace or a query is to be described.
    """
    cursor.take()
    if cursor.at(*_QUERY_WORDS) and not _at_name(cursor):
        return DescribeQuery(scan_query(cursor.sql, cursor.tokens, cursor.index))
    if cursor.at("QUERY") and cursor.ahead().key in (*_QUERY_WORDS, "TABLE"):
        cursor.take()
        return DescribeQuery(scan_query(cursor.sql, cursor.tokens, cursor.index))
    if cursor.at(*_NAMESPACE_WORDS) and not _at_name(cursor):
        cursor.take()
        extended = _extended(cursor)
        statement = Describe("namespace", cursor.name("the name of a namespace"), extended)
        cursor.expect_end()
        return statement
    if cursor.at("FUNCTION", "HISTORY", "DETAIL", "VIEW", "CATALOG") and not _at_name(cursor):
        word = cursor.token.key
        hints = {
            "FUNCTION": "write SHOW FUNCTIONS LIKE 'name'",
            "HISTORY": _METADATA.format("history"),
            "DETAIL": "write DESCRIBE EXTENDED namespace.table",
        }
        raise cursor.unsupported(f"DESCRIBE {word} is not supported", hints.get(word, "tables can be described"))
    if cursor.at("TABLE") and not _at_name(cursor):
        cursor.take()
    extended = _extended(cursor)
    name = cursor.name("a query or the name of a table")
    column: tuple[Identifier, ...] = ()
    if cursor.at_words("AS", "JSON"):
        raise cursor.unsupported("DESCRIBE ... AS JSON is not supported", "leave AS JSON out; the result is Arrow")
    if cursor.at("PARTITION"):
        raise cursor.unsupported("DESCRIBE ... PARTITION is not supported", _METADATA.format("partitions"))
    if cursor.token.kind in (Kind.WORD, Kind.QUOTED):
        column = cursor.name("the name of a column").parts
    cursor.expect_end()
    return Describe("table", name, extended, column)


def _extended(cursor: Cursor) -> bool:
    if not cursor.at("EXTENDED", "FORMATTED") or _at_name(cursor):
        return False
    cursor.take()
    return True


def _at_name(cursor: Cursor) -> bool:
    """Whether the word at the cursor is a name itself, as nothing else follows it that could be one."""
    return cursor.token.key != "(" and (cursor.ahead().kind is Kind.END or cursor.ahead().key == ".")
