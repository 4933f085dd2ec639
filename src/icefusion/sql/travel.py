"""Time travel: which earlier state of a table a query asks for, behind the table's name.

Iceberg's engines spell it in four ways, and all are read: ``[FOR] VERSION | TIMESTAMP AS OF`` of Spark, which also says
SYSTEM_VERSION and SYSTEM_TIME, ``FOR ... AS OF`` of Trino, and ``AT (VERSION | TIMESTAMP => ...)`` of DuckDB.

A time is an expression, which no parenthesis need close. It ends where no operator goes on: the next word is an alias
or a keyword of the query around it, unless it belongs to a literal, as the DAY of ``INTERVAL '1' DAY``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from icefusion.errors import ParseError
from icefusion.sql.cursor import Cursor
from icefusion.sql.extents import completes_operand
from icefusion.sql.frames import NO_ALIAS
from icefusion.sql.lexer import Kind, keywords, read_string
from icefusion.sql.statements import VersionAsOf

__all__ = ["TravelExpression", "misplaced_version", "read_version"]

_VERSION_WORDS = ("VERSION", "SYSTEM_VERSION")
_TIME_WORDS = ("TIMESTAMP", "SYSTEM_TIME")
_ALL_WORDS = _VERSION_WORDS + _TIME_WORDS
_HINT = "write FROM t FOR VERSION AS OF 123, FOR VERSION AS OF 'branch', or FOR TIMESTAMP AS OF '2024-05-01 12:00:00'"
_TIME_HINT = "e.g. TIMESTAMP '2024-05-01 12:00:00', or now() - INTERVAL '1 day'"
_MAX_SNAPSHOT_ID = 2**63 - 1
_UNITS = frozenset(
    f"{unit}{plural}"
    for unit in keywords("YEAR QUARTER MONTH WEEK DAY HOUR MINUTE SECOND MILLISECOND MICROSECOND NANOSECOND")
    for plural in ("", "S")
)
_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
_ARITHMETIC = frozenset("+-*/%|.:")


@dataclass(frozen=True)
class TravelExpression:
    """A version or a time that is still to be read as an expression: the tokens from ``first`` up to ``last``."""

    kind: Literal["version", "timestamp"]
    first: int
    last: int


def read_version(cursor: Cursor) -> VersionAsOf | TravelExpression | None:
    """What the time travel clause at the cursor asks for, stepping over it; None where there is none.

    Raises:
        ParseError: no snapshot id, no name and no time follows.
        UnsupportedStatementError: another form of time travel, such as the one between two times.
    """
    if _at_parenthesis(cursor):
        return _read_parenthesis(cursor)
    begin = cursor.token
    has_for = begin.key == "FOR"
    kind = cursor.ahead() if has_for else begin
    if kind.key not in _ALL_WORDS:
        if any(cursor.at_words("AS", "OF", word) for word in ("VERSION", "TIMESTAMP")):
            raise cursor.unsupported("AS OF is not supported in this form", _HINT)
        return None
    if not cursor.at_words(*(["FOR"] if has_for else []), kind.key, "AS", "OF"):
        if has_for:
            raise cursor.unsupported(f"FOR {kind.key} is supported with AS OF only", _HINT)
        return None  # an alias that is called "version"
    cursor.index += 4 if has_for else 3
    return _read_value(cursor, is_time=kind.key in _TIME_WORDS)


def misplaced_version(cursor: Cursor) -> ParseError | None:
    """The error for a time travel clause that begins at the cursor, where none can stand; None if none begins."""
    key = cursor.token.key
    if key == "FOR":
        found = cursor.ahead().key in _ALL_WORDS
    elif key == "AT":
        found = _at_parenthesis(cursor)
    else:
        found = key in _ALL_WORDS and cursor.at_words(key, "AS", "OF")
    hint = "it stands behind the name of the table and before its alias: FROM t FOR VERSION AS OF 123 AS x"
    return cursor.error("the version of a table cannot be given here", hint=hint) if found else None


def _at_parenthesis(cursor: Cursor) -> bool:
    return cursor.at_words("AT", "(") and cursor.ahead(2).key in _ALL_WORDS and cursor.ahead(3).key in ("=", ":")


def _read_parenthesis(cursor: Cursor) -> VersionAsOf | TravelExpression:
    """DuckDB's ``AT (VERSION => 123)`` and ``AT (TIMESTAMP => now())``."""
    kind = cursor.ahead(2)
    cursor.index += 3
    if not (cursor.at("=") and cursor.ahead().key == ">"):
        raise cursor.unexpected(f"'=>' behind {kind.key}", hint=f"write AT ({kind.key} => ...)")
    cursor.index += 2
    version = _read_value(cursor, is_time=kind.key in _TIME_WORDS)
    cursor.expect(")")
    return version


def _read_value(cursor: Cursor, *, is_time: bool) -> VersionAsOf | TravelExpression:
    if is_time:
        return _read_time(cursor)
    token = cursor.token
    if token.kind is Kind.PARAMETER:
        cursor.index += 1
        return TravelExpression("version", cursor.index - 1, cursor.index)
    if token.kind is Kind.NUMBER and token.text.isdecimal() and len(token.text) < 20:
        value = int(token.text)
        if value <= _MAX_SNAPSHOT_ID:
            cursor.take()
            return VersionAsOf(value, token.start)
    if token.kind is Kind.STRING and (name := read_string(token)):
        cursor.take()
        return VersionAsOf(name, token.start)
    hint = None
    if token.kind in (Kind.WORD, Kind.QUOTED):
        hint = f"the name of a branch or tag is a string here: '{token.text.strip(chr(34))}'"
    raise cursor.unexpected("a snapshot id, or the name of a branch or tag as a string", hint=hint)


def _read_time(cursor: Cursor) -> TravelExpression:
    first = cursor.index
    tokens = cursor.tokens
    if cursor.token.key in NO_ALIAS:
        raise cursor.unexpected("a time", hint=_TIME_HINT)
    depth = cases = 0
    while cursor.token.kind is not Kind.END:
        token = cursor.token
        key = token.key
        before = tokens[cursor.index - 1] if cursor.index > first else None
        if key in _OPENING:
            depth += 1
        elif key in _CLOSING:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0:
            is_open = before is None or not completes_operand(before)
            if token.kind is Kind.OPERATOR:
                if not cases and key not in _ARITHMETIC and key != "::":
                    break
            elif key == "CASE" and is_open:
                cases += 1
            elif key == "END" and cases:
                cases -= 1
            elif not cases and not is_open and not _goes_on(cursor, first):
                break
        cursor.index += 1
    last = tokens[cursor.index - 1]
    if cursor.index == first or (last.kind is Kind.OPERATOR and last.key not in _CLOSING):
        raise cursor.unexpected("a time", hint=_TIME_HINT)
    return TravelExpression("timestamp", first, cursor.index)


def _goes_on(cursor: Cursor, first: int) -> bool:
    """Whether a token that follows a whole operand still belongs to the expression."""
    token, before = cursor.token, cursor.tokens[cursor.index - 1]
    if token.kind is Kind.STRING:
        return before.kind is Kind.WORD  # TIMESTAMP '2024-05-01'
    if token.kind is not Kind.WORD:
        return token.kind is Kind.NUMBER and before.kind is Kind.WORD
    if token.key in _UNITS or token.key == "TO":
        earlier = [token.key for token in cursor.tokens[max(first, cursor.index - 4) : cursor.index]]
        return "INTERVAL" in earlier
    if cursor.at_words("AT", "TIME", "ZONE") or before.key == "AT" or (before.key == "TIME" and token.key == "ZONE"):
        return True
    # The type of a cast: x::timestamp with time zone
    return before.key in ("TIMESTAMP", "WITH", "WITHOUT") and cursor.at("WITH", "WITHOUT", "TIME")
