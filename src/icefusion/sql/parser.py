"""Text to statements.

Heads of statements are read word by word, by functions that each know one production. Queries and expressions inside of
a statement are not parsed but sliced out as they were written, see `icefusion.sql.extents` for where they end and
`icefusion.sql.scanner` for what must be known about them; it is DataFusion that parses them, later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from icefusion.errors import ParseError
from icefusion.sql.alter import parse_alter_table, parse_comment
from icefusion.sql.attaching import parse_attach, parse_detach
from icefusion.sql.calls import parse_call, parse_reset, parse_set
from icefusion.sql.changes import parse_delete, parse_truncate, parse_update
from icefusion.sql.cursor import Cursor
from icefusion.sql.inserts import parse_insert
from icefusion.sql.lexer import Kind, Token, tokenize
from icefusion.sql.merges import parse_merge
from icefusion.sql.namespaces import (
    NAMESPACE_WORDS,
    parse_alter_namespace,
    parse_create_namespace,
    parse_drop_namespace,
)
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.scanner import scan_query
from icefusion.sql.shows import parse_describe, parse_show
from icefusion.sql.statements import (
    Begin,
    Change,
    Commit,
    DropTable,
    Explain,
    ExplainOptions,
    Query,
    Rollback,
    Statement,
)
from icefusion.sql.tables import parse_create_table
from icefusion.sql.unsupported import refuse_alter, refuse_create, refuse_drop, refuse_statement
from icefusion.sql.views import parse_alter_view, parse_create_view, parse_drop_view

__all__ = ["parse_query", "parse_script", "parse_statement"]

_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM", "TABLE")
_CHANGES: dict[str, Callable[[PieceCursor], Change]] = {
    "DELETE": parse_delete,
    "INSERT": parse_insert,
    "MERGE": parse_merge,
    "TRUNCATE": parse_truncate,
    "UPDATE": parse_update,
}
_LATER_ISOLATION = "use SERIALIZABLE or SNAPSHOT; a transaction always reads one state of each table"


def parse_script(text: str) -> tuple[Statement, ...]:
    """The statements of a text, which ``;`` parts; empty ones are left out.

    All offsets in them, and those of errors, refer to the whole text.

    Raises:
        ParseError: the text is not SQL that icefusion knows.
        UnsupportedStatementError: it is, but one of the statements is not done here.
    """
    return tuple(_parse(text, tokens) for tokens in _split(tokenize(text)))


def parse_statement(text: str) -> Statement:
    """The one statement of a text.

    Raises:
        ParseError: the text is not SQL that icefusion knows, or holds no statement or several.
        UnsupportedStatementError: the statement is not done here.
    """
    parts = _split(tokenize(text))
    if not parts:
        raise ParseError("there is no statement in this text", sql=text, offset=0)
    if len(parts) > 1:
        hint = "run them one by one, or as a script"
        raise ParseError("expected one statement, found another", sql=text, offset=parts[1][0].start, hint=hint)
    return _parse(text, parts[0])


def parse_query(text: str) -> Query:
    """The one query of a text.

    Raises:
        ParseError: the text does not read as a query.
        UnsupportedStatementError: it is another statement.
    """
    statement = parse_statement(text)
    if not isinstance(statement, Query):
        offset = len(text) - len(text.lstrip())
        raise ParseError("expected a query: SELECT, WITH, VALUES or FROM", sql=text, offset=offset)
    return statement


_OPTION_KINDS = (Kind.WORD, Kind.STRING, Kind.NUMBER)


def _split(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of each statement, each closed by an END right behind its last one."""
    parts: list[list[Token]] = []
    part: list[Token] = []
    for token in tokens:
        if token.key != ";" and token.kind is not Kind.END:
            part.append(token)
        elif part:
            part.append(Token(Kind.END, "", "", part[-1].end, part[-1].end))
            parts.append(part)
            part = []
    return parts


def _parse(sql: str, tokens: list[Token]) -> Statement:
    cursor = PieceCursor(sql, tokens)
    key = cursor.token.key
    if _at_query(cursor):
        return scan_query(sql, tokens)
    if key in _CHANGES:
        return _CHANGES[key](cursor)
    if key in _HEADS:
        return _HEADS[key](cursor)
    raise refuse_statement(cursor)


def _at_query(cursor: Cursor) -> bool:
    return cursor.at(*_QUERY_WORDS, "(")


def _parse_attach(cursor: PieceCursor) -> Statement:
    return parse_attach(cursor) if cursor.take().key == "ATTACH" else parse_detach(cursor)


def _parse_explain(cursor: PieceCursor) -> Query | Explain:
    """EXPLAIN and its options. Those of a query DataFusion reads again: the text begins with the EXPLAIN."""
    sql, tokens = cursor.sql, cursor.tokens
    cursor.take()
    if cursor.at("(") and cursor.ahead().kind is Kind.WORD and cursor.ahead().key not in _QUERY_WORDS:
        while cursor.token.kind in _OPTION_KINDS or cursor.at("(", ",", "="):
            cursor.take()
        cursor.expect(")", "an option of EXPLAIN or ')'")
    while cursor.at("ANALYZE", "VERBOSE", "FORMAT"):
        if cursor.take().key == "FORMAT":
            if cursor.token.kind not in _OPTION_KINDS:
                raise cursor.unexpected("the name of a format")
            cursor.take()
    if cursor.token.kind is Kind.END:
        raise cursor.unexpected("a query or a change behind EXPLAIN")
    if cursor.at(*_CHANGES):
        for option in tokens[1 : cursor.index]:
            _refuse_explain_option(cursor, option)
        return Explain(_CHANGES[cursor.token.key](cursor))
    if not _at_query(cursor):
        hint = "EXPLAIN the SELECT that the statement contains"
        raise cursor.unsupported("only queries and changes of rows can be explained", hint)
    options = _explain_options(tokens[1 : cursor.index])
    return replace(scan_query(sql, tokens, cursor.index, tokens[0].start), explain=options)


def _explain_options(tokens: Sequence[Token]) -> ExplainOptions:
    """What is asked for before the query, in either style: ``ANALYZE FORMAT tree`` or ``(ANALYZE, FORMAT tree)``."""
    options = ExplainOptions()
    for option, value in zip(tokens, [*tokens, None][1:], strict=True):
        if option.key == "ANALYZE":
            off = value is not None and value.text.upper() in ("FALSE", "OFF", "0")
            options = replace(options, analyze=not off)
        elif option.key == "FORMAT" and value is not None:
            options = replace(options, format=value.text.strip("'\"").lower())
    return options


def _refuse_explain_option(cursor: Cursor, option: Token) -> None:
    verb = cursor.token.key
    if option.key == "ANALYZE":
        hint = f"write EXPLAIN {verb} ..., or run the {verb} in a transaction and ROLLBACK"
        raise cursor.unsupported(f"EXPLAIN ANALYZE would run the {verb}", hint, token=option)
    if option.key == "FORMAT":
        hint = f"write EXPLAIN {verb} ..."
        raise cursor.unsupported(f"EXPLAIN FORMAT of {verb} is not supported", hint, token=option)


def _parse_create(cursor: PieceCursor) -> Statement:
    cursor.take()
    replace = cursor.accept("OR", "REPLACE")
    temporary = cursor.at("TEMP", "TEMPORARY") and cursor.ahead().key == "VIEW"
    if temporary:
        cursor.take()
    if cursor.accept("VIEW"):
        return parse_create_view(cursor, replace=replace, temporary=temporary)
    if cursor.accept("TABLE"):
        return parse_create_table(cursor, replace=replace)
    if replace or not cursor.at(*NAMESPACE_WORDS):
        raise refuse_create(cursor, replace=replace)
    cursor.take()
    return parse_create_namespace(cursor)


def _parse_replace(cursor: PieceCursor) -> Statement:
    if cursor.ahead().key != "TABLE":
        raise refuse_statement(cursor)
    cursor.index += 2
    return parse_create_table(cursor, replace=True, must_exist=True)


def _parse_alter(cursor: PieceCursor) -> Statement:
    cursor.take()
    if cursor.accept("TABLE"):
        return parse_alter_table(cursor)
    if cursor.accept("VIEW"):
        return parse_alter_view(cursor)
    if not cursor.at(*NAMESPACE_WORDS):
        raise refuse_alter(cursor)
    cursor.take()
    return parse_alter_namespace(cursor)


def _parse_drop(cursor: PieceCursor) -> Statement:
    cursor.take()
    if cursor.accept("TABLE"):
        if_exists = cursor.accept("IF", "EXISTS")
        name = cursor.name("the name of a table")
        purge = cursor.accept("PURGE")
        cursor.refuse_more_to_drop("a table has nothing that hangs on it; leave the word out")
        cursor.expect_end(clauses=() if purge else ("PURGE",))
        return DropTable(name, if_exists, purge)
    if cursor.accept("VIEW"):
        return parse_drop_view(cursor)
    if not cursor.at(*NAMESPACE_WORDS):
        raise refuse_drop(cursor)
    cursor.take()
    return parse_drop_namespace(cursor)


def _parse_call(cursor: PieceCursor) -> Statement:
    cursor.take()
    return parse_call(cursor)


def _parse_set(cursor: PieceCursor) -> Statement:
    return parse_set(cursor) if cursor.take().key == "SET" else parse_reset(cursor)


def _parse_comment(cursor: PieceCursor) -> Statement:
    cursor.take()
    return parse_comment(cursor)


def _parse_begin(cursor: Cursor) -> Begin:
    if cursor.take().key == "START":
        cursor.expect("TRANSACTION")
    elif not cursor.accept("TRANSACTION"):
        cursor.accept("WORK")
    isolation: Literal["serializable", "snapshot"] | None = None
    if cursor.accept("ISOLATION"):
        cursor.expect("LEVEL")
        isolation = _parse_isolation(cursor)
    if cursor.at("READ"):
        message = "a transaction cannot be declared READ ONLY or READ WRITE"
        raise cursor.unsupported(message, "leave it out: a transaction that writes nothing commits nothing")
    if cursor.at("DEFERRED", "IMMEDIATE", "EXCLUSIVE"):
        raise cursor.unsupported(f"BEGIN {cursor.token.key} is not supported", "nothing is locked; write BEGIN")
    cursor.expect_end(clauses=() if isolation else ("ISOLATION LEVEL",))
    return Begin(isolation)


def _parse_isolation(cursor: Cursor) -> Literal["serializable", "snapshot"]:
    if cursor.accept("SERIALIZABLE"):
        return "serializable"
    if cursor.accept("SNAPSHOT") or cursor.accept("REPEATABLE", "READ"):
        return "snapshot"
    if cursor.at_words("READ", "COMMITTED") or cursor.at_words("READ", "UNCOMMITTED"):
        level = f"READ {cursor.ahead().key}"
        raise cursor.unsupported(f"isolation level {level} is not supported", _LATER_ISOLATION)
    raise cursor.unexpected("SERIALIZABLE, SNAPSHOT or REPEATABLE READ")


def _parse_end(cursor: Cursor) -> Statement:
    key = cursor.take().key
    if not cursor.accept("TRANSACTION"):
        cursor.accept("WORK")
    if cursor.at("TO"):
        hint = "a transaction is committed or rolled back as a whole"
        raise cursor.unsupported(f"{key} TO a savepoint is not supported", hint)
    if cursor.at("AND", "PREPARED"):
        raise cursor.unsupported(f"{key} {cursor.token.key} is not supported", f"write {key} alone")
    cursor.expect_end()
    return Commit() if key in ("COMMIT", "END") else Rollback()


_HEADS: dict[str, Callable[[PieceCursor], Statement]] = {
    "ABORT": _parse_end,
    "ALTER": _parse_alter,
    "ATTACH": _parse_attach,
    "BEGIN": _parse_begin,
    "CALL": _parse_call,
    "COMMENT": _parse_comment,
    "COMMIT": _parse_end,
    "CREATE": _parse_create,
    "DESC": parse_describe,
    "DESCRIBE": parse_describe,
    "DETACH": _parse_attach,
    "DROP": _parse_drop,
    "END": _parse_end,
    "EXPLAIN": _parse_explain,
    "REPLACE": _parse_replace,
    "RESET": _parse_set,
    "ROLLBACK": _parse_end,
    "SET": _parse_set,
    "SHOW": parse_show,
    "START": _parse_begin,
}
