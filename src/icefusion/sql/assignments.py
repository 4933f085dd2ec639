"""SET lists: ``a = 1, s.b = 2, (c, d) = (SELECT ...)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from icefusion.errors import ParseError
from icefusion.naming import fold_case, normalize
from icefusion.sql.extents import EXPRESSION, begins_query, find_end
from icefusion.sql.lexer import Token
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import Assignment, Fragment, Identifier, Name
from icefusion.sql.subqueries import split_subquery

__all__ = ["parse_assignments", "parse_columns_in", "parse_value"]

_COMPOUND = ("+", "-", "*", "/", "%", "|", "&", ":")


def parse_assignments(cursor: PieceCursor, table: Name, alias: Identifier | None = None) -> tuple[Assignment, ...]:
    """The assignments of a SET list, which begins at the cursor.

    Args:
        cursor: Stands behind SET.
        table: The table that is changed; a column may be written behind its name, which is left out of the path.
        alias: Its alias, which then takes the place of the name.

    Raises:
        ParseError: the list does not read as assignments, or a column is set twice.
        UnsupportedStatementError: elements of a list or a map are set alone, or a subquery for several columns
            is of a kind that cannot be taken apart.
    """
    assignments: list[Assignment] = []
    while True:
        if cursor.at("("):
            assignments += _parse_several(cursor, table, alias)
        else:
            path, begin = _parse_path(cursor, table, alias)
            _expect_equals(cursor, path)
            assignments.append(Assignment(path, parse_value(cursor), begin.start))
        if not cursor.accept(","):
            break
    _refuse_repeated(cursor, assignments)
    return tuple(assignments)


def parse_columns_in(cursor: PieceCursor, table: Name, alias: Identifier | None = None) -> tuple[Identifier, ...]:
    """The columns of a list in parentheses, which begins at the cursor.

    Raises:
        ParseError: the list does not read as columns.
        UnsupportedStatementError: it names a part of a column.
    """
    cursor.expect("(", "'(' and columns")
    columns: list[Identifier] = []
    while True:
        begin = cursor.token
        path = _strip_qualifier(cursor.name("a column name").parts, table, alias)
        if len(path) > 1:
            hint = "give the column a whole struct"
            raise cursor.unsupported("a part of a column cannot be inserted alone", hint, token=begin)
        columns.append(path[0])
        if not cursor.accept(","):
            break
    cursor.expect(")", "',' or ')'")
    return tuple(columns)


def parse_value(cursor: PieceCursor) -> Fragment | None:
    """Step over one value, which is None for DEFAULT."""
    what = "an expression or DEFAULT"
    end = find_end(cursor, EXPRESSION, what)
    if cursor.at("DEFAULT") and end == cursor.index + 1:
        cursor.take()
        return None
    return cursor.fragment(end)


def _parse_path(cursor: PieceCursor, table: Name, alias: Identifier | None) -> tuple[tuple[Identifier, ...], Token]:
    begin = cursor.token
    if cursor.at("WHEN"):
        raise cursor.unexpected("a column to set")
    path = _strip_qualifier(cursor.name("a column to set").parts, table, alias)
    if cursor.at("["):
        raise cursor.unsupported("an element of a list or a map cannot be set alone", "set the column as a whole")
    return path, begin


def _expect_equals(cursor: PieceCursor, path: tuple[Identifier, ...]) -> None:
    if cursor.at(*_COMPOUND) and cursor.ahead().key in ("=", "|"):
        name = str(Name(path))
        operator = cursor.token.text
        hint = f"write {name} = ..." if operator == ":" else f"write {name} = {name} {operator} ..."
        raise cursor.error(f"{operator}= does not set a column", hint=hint)
    cursor.expect("=", f"'=' and the value of {Name(path)}")


def _parse_several(cursor: PieceCursor, table: Name, alias: Identifier | None) -> list[Assignment]:
    """``(a, b) = (SELECT x, y ...)``, ``(a, b) = (x, y)`` or ``(a, b) = ROW(x, y)``."""
    begin = cursor.take()
    targets: list[tuple[tuple[Identifier, ...], Token]] = [_parse_path(cursor, table, alias)]
    while cursor.accept(","):
        targets.append(_parse_path(cursor, table, alias))
    cursor.expect(")", "',' or ')'")
    cursor.expect("=", "'=' and the values")
    values: Sequence[Fragment | None]
    if cursor.at("(") and begins_query(cursor, cursor.index + 1):
        values = split_subquery(cursor, len(targets))
    else:
        cursor.accept("ROW")
        values = _parse_row(cursor)
        if len(values) != len(targets):
            message = f"{_counted(len(targets), 'column')} cannot be set to {_counted(len(values), 'value')}"
            raise cursor.error(message, token=begin)
    return [Assignment(path, value, token.start) for (path, token), value in zip(targets, values, strict=True)]


def _parse_row(cursor: PieceCursor) -> list[Fragment | None]:
    cursor.expect("(", "'(' and the values or a SELECT")
    values = [parse_value(cursor)]
    while cursor.accept(","):
        values.append(parse_value(cursor))
    cursor.expect(")", "',' or ')'")
    return values


def _strip_qualifier(path: tuple[Identifier, ...], table: Name, alias: Identifier | None) -> tuple[Identifier, ...]:
    """The path without the table in front of it. What is no table there is taken for a struct."""
    qualifier = table.parts if alias is None else (alias,)
    for size in range(min(len(qualifier), len(path) - 1), 0, -1):
        if all(_is_same(a, b) for a, b in zip(path[:size], qualifier[-size:], strict=True)):
            return path[size:]
    return path


def _is_same(a: Identifier, b: Identifier) -> bool:
    """Whether two identifiers can stand for the same name: to the letter if both are quoted, else but for case."""
    return a.text == b.text if a.quoted and b.quoted else fold_case(a.text) == fold_case(b.text)


@dataclass
class _Node:
    """A part of a path that is set, and the parts below it."""

    is_set: bool = False
    parts: dict[str, _Node] = field(default_factory=dict)


def _refuse_repeated(cursor: PieceCursor, assignments: Sequence[Assignment]) -> None:
    """Raise if a column is set twice, or together with a part of it."""
    root = _Node()
    for assignment in assignments:
        node = root
        for depth, part in enumerate(assignment.path, start=1):
            node = node.parts.setdefault(normalize(part), _Node())
            if node.is_set:
                name = Name(assignment.path[:depth])
                whole = depth == len(assignment.path)
                message = f"{name} is set twice" if whole else f"{name} is set, and {Name(assignment.path)} in it too"
                raise _repeated(cursor, assignment, message)
        if node.parts:
            raise _repeated(cursor, assignment, f"{Name(assignment.path)} is set, and a part of it too")
        node.is_set = True


def _repeated(cursor: PieceCursor, assignment: Assignment, message: str) -> ParseError:
    token = next(token for token in cursor.tokens if token.start == assignment.offset)
    return cursor.error(message, token=token, hint="set each column once")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
