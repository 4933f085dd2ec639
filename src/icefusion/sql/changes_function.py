"""``table_changes('ns.t', from, to)`` in a FROM clause: what happened to a table between two of its states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from icefusion.errors import ParseError
from icefusion.naming import normalize
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.names import parse_name
from icefusion.sql.statements import ChangesBetween, ComputedAsOf, Fragment, Identifier, Name, Version, VersionAsOf

__all__ = ["is_changes_function", "read_changes_function"]

CHANGES_FUNCTION = "table_changes"

_HINT = "write table_changes('namespace.table', from, to), with snapshot ids, branches, tags or times; NULL for none"
_MAX_SNAPSHOT_ID = 2**63 - 1
_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")


def is_changes_function(parts: Sequence[Identifier]) -> bool:
    """Whether a name, as it is called, is that of the function."""
    return [normalize(part) for part in parts] in ([CHANGES_FUNCTION], ["system", CHANGES_FUNCTION])


def read_changes_function(cursor: Cursor, scan: Callable[[int, int], Fragment]) -> tuple[Name, ChangesBetween]:
    """The table and the two states that the call asks for whose arguments begin at the cursor, stepping over them.

    Args:
        cursor: Stands at the parenthesis behind the function's name.
        scan: Reads the tokens from one index up to another as an expression over no table.

    Raises:
        ParseError: The first argument is no name of a table in quotes, or there are too many of them.
    """
    cursor.expect("(")
    token = cursor.token
    if token.kind is not Kind.STRING:
        raise cursor.unexpected("the name of a table as a string", hint=_HINT)
    try:
        name = Name(parse_name(read_string(token)).parts, token.start)
    except ParseError as error:
        raise cursor.error(f"{token.text} is no name of a table: {error.message}", hint=_HINT) from error
    cursor.take()
    states: list[Version | None] = []
    while cursor.accept(","):
        if len(states) == 2:
            raise cursor.error(f"{CHANGES_FUNCTION} takes a table and two of its states", hint=_HINT)
        states.append(_state(cursor, scan))
    cursor.expect(")", "',' or ')'")
    begin, end = (*states, None, None)[:2]
    return name, ChangesBetween(begin, end)


def _state(cursor: Cursor, scan: Callable[[int, int], Fragment]) -> Version | None:
    first = cursor.index
    begin = cursor.token
    depth = 0
    while cursor.token.kind is not Kind.END:
        key = cursor.token.key
        if depth == 0 and (key == "," or key in _CLOSING):
            break
        depth += (key in _OPENING) - (key in _CLOSING)
        cursor.index += 1
    if cursor.index == first:
        raise cursor.unexpected("a state of the table", hint=_HINT)
    if cursor.index == first + 1:
        if begin.key == "NULL":
            return None
        if begin.kind is Kind.STRING and (ref := read_string(begin)):
            return VersionAsOf(ref, begin.start)
        if begin.kind is Kind.NUMBER and begin.text.isdecimal() and int(begin.text) <= _MAX_SNAPSHOT_ID:
            return VersionAsOf(int(begin.text), begin.start)
    return ComputedAsOf("state", scan(first, cursor.index))
