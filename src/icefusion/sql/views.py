"""CREATE, ALTER and DROP VIEW.

The query of a view is kept as it was written, because that is what a catalog stores. It is scanned all the same, so
that a mistake in it is told when the view is made.
"""

from __future__ import annotations

from icefusion.errors import SQLError
from icefusion.naming import normalize
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.scanner import scan_query
from icefusion.sql.statements import AlterView, CreateView, DropView, Query, RenameView, ViewColumn
from icefusion.sql.terms import parse_properties, parse_property_keys

__all__ = ["parse_alter_view", "parse_create_view", "parse_drop_view"]

_NAME = "the name of a view"
_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM", "TABLE", "(")
_PROPERTIES = ("TBLPROPERTIES", "PROPERTIES")


def parse_create_view(cursor: Cursor, *, replace: bool, temporary: bool) -> CreateView:
    """The statement whose CREATE VIEW the cursor stands behind. Its clauses come in any order, each once.

    Args:
        cursor: Stands behind VIEW.
        replace: Whether OR REPLACE was said.
        temporary: Whether TEMP or TEMPORARY was said.

    Raises:
        ParseError: it does not read as CREATE VIEW, or its query has parameters.
        UnsupportedStatementError: a clause of another dialect.
    """
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if if_not_exists and replace:
        raise cursor.error("OR REPLACE and IF NOT EXISTS exclude each other", hint="leave one of them out")
    name = cursor.name(_NAME)
    columns = _parse_columns(cursor) if cursor.at("(") else ()
    comment: str | None = None
    properties: tuple[tuple[str, str], ...] | None = None
    while not cursor.at("AS"):
        begin = cursor.token
        if cursor.accept("COMMENT"):
            if comment is not None:
                raise cursor.error("COMMENT is given twice", token=begin)
            cursor.accept("=")
            comment = cursor.string("the comment")
        elif cursor.at("TBLPROPERTIES") or cursor.at_words("WITH", "("):
            if properties is not None:
                raise cursor.error(f"{begin.key} is given twice", token=begin)
            cursor.take()
            properties = parse_properties(cursor)
        else:
            raise _refuse_clause(cursor)
    cursor.take()
    query, text = _parse_query(cursor)
    return CreateView(name, query, text, columns, comment, properties or (), replace, if_not_exists, temporary)


def parse_alter_view(cursor: Cursor) -> AlterView | RenameView:
    """The statement whose ALTER VIEW the cursor stands behind.

    Raises:
        ParseError: it does not read as ALTER VIEW.
    """
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name(_NAME)
    if cursor.accept("RENAME", "TO"):
        new_name = cursor.name("the new name of the view")
        cursor.expect_end()
        return RenameView(name, new_name, if_exists)
    if cursor.accept("AS"):
        query, text = _parse_query(cursor)
        return AlterView(name, query=query, text=text, if_exists=if_exists)
    if cursor.at("SET", "UNSET") and cursor.ahead().key in _PROPERTIES:
        word = cursor.take().key
        cursor.take()
        if word == "SET":
            statement = AlterView(name, set_properties=parse_properties(cursor), if_exists=if_exists)
        else:
            unset_if_exists = cursor.accept("IF", "EXISTS")
            keys = parse_property_keys(cursor)
            statement = AlterView(name, (), keys, unset_if_exists=unset_if_exists, if_exists=if_exists)
        cursor.expect_end()
        return statement
    choices = ("RENAME TO", "AS", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES")
    raise cursor.unexpected("RENAME TO, AS, SET TBLPROPERTIES or UNSET TBLPROPERTIES", hint=cursor.guess(choices))


def parse_drop_view(cursor: Cursor) -> DropView:
    """The statement whose DROP VIEW the cursor stands behind.

    Raises:
        ParseError: it does not read as DROP VIEW.
        UnsupportedStatementError: ``CASCADE``, or several at once.
    """
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name(_NAME)
    cursor.refuse_more_to_drop("nothing hangs on a view; leave the word out")
    cursor.expect_end()
    return DropView(name, if_exists)


def _parse_columns(cursor: Cursor) -> tuple[ViewColumn, ...]:
    """``(a, b COMMENT 'x')``: names alone, as the query gives the types."""
    cursor.take()
    columns: list[ViewColumn] = []
    while True:
        begin = cursor.token
        name = cursor.identifier("a column name")
        if any(normalize(name) == normalize(other.name) for other in columns):
            raise cursor.error(f"{name} is given twice", token=begin)
        comment = cursor.string("the comment") if cursor.accept("COMMENT") else None
        columns.append(ViewColumn(name, comment))
        if cursor.accept(")"):
            return tuple(columns)
        if not cursor.accept(","):
            hint = "the query gives the types; name the column alone" if cursor.token.kind is Kind.WORD else None
            raise cursor.unexpected("',', ')' or COMMENT", hint=cursor.guess(["COMMENT"]) or hint)


def _parse_query(cursor: Cursor) -> tuple[Query, str]:
    if not cursor.at(*_QUERY_WORDS):
        raise cursor.unexpected("a query behind AS")
    query = scan_query(cursor.sql, cursor.tokens, cursor.index)
    parameters = [token for token in cursor.tokens[cursor.index :] if token.kind is Kind.PARAMETER]
    if parameters:
        hint = "a view is read without any; write the value"
        raise cursor.error("a parameter cannot stand in a view", token=parameters[0], hint=hint)
    return query, cursor.slice(cursor.index, len(cursor.tokens) - 1)


def _refuse_clause(cursor: Cursor) -> SQLError:
    hints = {
        "SECURITY": "a view is read with the rights of its reader; leave the clause out",
        "SQL": "a view is read with the rights of its reader; leave the clause out",
        "PARTITIONED": "a view has no rows of its own; leave the clause out",
        "ORDER": "put the ORDER BY into the query",
    }
    if cursor.token.key in hints:
        return cursor.unsupported(f"CREATE VIEW ... {cursor.token.key} is not supported", hints[cursor.token.key])
    if cursor.at_words("WITH", "SCHEMA"):
        return cursor.unsupported("CREATE VIEW ... WITH SCHEMA is not supported", "leave the clause out")
    if cursor.at("SELECT", "VALUES"):
        return cursor.unexpected("AS before the query")
    choices = ("COMMENT", "TBLPROPERTIES", "AS")
    return cursor.unexpected("COMMENT, TBLPROPERTIES or AS and a query", hint=cursor.guess(choices))
