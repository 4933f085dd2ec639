"""Time travel: which earlier state of a table a query asks for, behind the table's name."""

from __future__ import annotations

from icefusion.errors import ParseError
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.statements import VersionAsOf

__all__ = ["misplaced_version", "read_version"]

_VERSION_WORDS = ("VERSION", "SYSTEM_VERSION")
_TIME_WORDS = ("TIMESTAMP", "SYSTEM_TIME")
_HINT = "name the snapshot, branch or tag: FROM t FOR VERSION AS OF 123 or FOR VERSION AS OF 'name'"
_MAX_SNAPSHOT_ID = 2**63 - 1


def read_version(cursor: Cursor) -> VersionAsOf | None:
    """The version that ``[FOR] VERSION AS OF`` at the cursor names, stepping over it; None where there is none.

    Raises:
        ParseError: no snapshot id and no string follows.
        UnsupportedStatementError: another form of time travel, such as the one by time, or a parameter as the version.
    """
    begin = cursor.token
    has_for = begin.key == "FOR"
    kind = cursor.ahead() if has_for else begin
    if kind.key not in _VERSION_WORDS + _TIME_WORDS:
        if any(cursor.at_words("AS", "OF", word) for word in ("VERSION", "TIMESTAMP")):
            raise cursor.unsupported("AS OF is not supported in this form", _HINT)
        return None
    if not cursor.at_words(*(["FOR"] if has_for else []), kind.key, "AS", "OF"):
        if has_for:
            raise cursor.unsupported(f"FOR {kind.key} is supported with AS OF only", _HINT)
        return None  # an alias that is called "version"
    if kind.key in _TIME_WORDS:
        raise cursor.unsupported("reading a table as of a time is not supported yet", _HINT)
    cursor.index += 4 if has_for else 3
    return VersionAsOf(_read_value(cursor))


def misplaced_version(cursor: Cursor) -> ParseError | None:
    """The error for a time travel clause that begins at the cursor, where none can stand; None if none begins."""
    key = cursor.token.key
    if key == "FOR":
        found = cursor.ahead().key in _VERSION_WORDS + _TIME_WORDS
    else:
        found = key in _VERSION_WORDS + _TIME_WORDS and cursor.at_words(key, "AS", "OF")
    hint = "it stands behind the name of the table and before its alias: FROM t FOR VERSION AS OF 123 AS x"
    return cursor.error("the version of a table cannot be given here", hint=hint) if found else None


def _read_value(cursor: Cursor) -> int | str:
    token = cursor.token
    if token.kind is Kind.PARAMETER:
        raise cursor.unsupported("a parameter cannot name the version yet", _HINT)
    if token.kind is Kind.NUMBER and token.text.isdecimal() and len(token.text) < 20:
        value = int(token.text)
        if value <= _MAX_SNAPSHOT_ID:
            cursor.take()
            return value
    if token.kind is Kind.STRING and (name := read_string(token)):
        cursor.take()
        return name
    raise cursor.unexpected("a snapshot id, or the name of a branch or tag as a string")
