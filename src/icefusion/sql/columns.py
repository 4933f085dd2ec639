"""What is said of a column: its name, its type, and what may follow that; and the column list of CREATE TABLE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from icefusion.naming import find_name, nearest, normalize
from icefusion.sql.alterations import ColumnPath, Place
from icefusion.sql.column_types import parse_type
from icefusion.sql.cursor import Cursor
from icefusion.sql.extents import completes_operand
from icefusion.sql.lexer import Kind, Token
from icefusion.sql.statements import ColumnDefinition, Identifier, Name

__all__ = [
    "KEYS_ARE_NOT_ENFORCED",
    "ColumnList",
    "ColumnOptions",
    "parse_columns",
    "parse_default",
    "parse_options",
    "parse_place",
    "parse_primary_key",
    "refuse_constraint",
]

KEYS_ARE_NOT_ENFORCED = "nothing keeps two rows of one key out, and that has to be said: PRIMARY KEY (id) NOT ENFORCED"

_NO_KEYS = "Iceberg tables have no enforced keys; for a key that is only declared, write PRIMARY KEY (id) NOT ENFORCED"
_CONSTRAINTS = {
    "PRIMARY": _NO_KEYS,
    "UNIQUE": _NO_KEYS,
    "FOREIGN": "Iceberg tables have no references; leave it out",
    "REFERENCES": "Iceberg tables have no references; leave it out",
    "CHECK": "Iceberg tables have no checks; test the rows in the query that inserts them",
    "CONSTRAINT": "of all constraints, only NOT NULL and PRIMARY KEY (...) NOT ENFORCED are kept; leave the others out",
    "GENERATED": "compute the column in the query that inserts the rows",
    "COLLATE": "strings compare by their code points; leave it out",
}
_PLACES = ("FIRST", "AFTER", "BEFORE")
_OPTIONS = ("NOT NULL", "DEFAULT", "COMMENT")


@dataclass(frozen=True)
class ColumnOptions:
    """What follows the type of a column. ``required`` is None where it is not said."""

    required: bool | None = None
    comment: str | None = None
    default: str | None = None
    is_key: bool = False
    place: Place | None = None


@dataclass(frozen=True)
class ColumnList:
    """The columns of CREATE TABLE, and those that tell rows apart."""

    columns: tuple[ColumnDefinition, ...]
    identifier: tuple[ColumnPath, ...] = ()


def parse_columns(cursor: Cursor) -> ColumnList:
    """The columns of a list in parentheses, which begins at the cursor.

    Raises:
        ParseError: the list does not read as ``name type [NOT NULL] [DEFAULT expression] [COMMENT 'text'], ...``.
        UnsupportedStatementError: it holds a constraint that is not kept, or names without types.
    """
    cursor.expect("(")
    columns: list[ColumnDefinition] = []
    identifier: tuple[ColumnPath, ...] = ()
    while True:
        begin = cursor.token
        if _at_primary_key(cursor):
            key = parse_primary_key(cursor)
        else:
            column, is_key = _parse_column(cursor)
            columns.append(column)
            key = ((column.name,),) if is_key else ()
        if key and identifier:
            raise cursor.error("a table has one PRIMARY KEY", token=begin, hint="name all columns in one: (a, b)")
        identifier = identifier or key
        if cursor.accept(")"):
            break
        if not cursor.accept(","):
            raise cursor.unexpected("',' or ')' or NOT NULL, DEFAULT or COMMENT", hint=_option_hint(cursor))
    if not columns:
        raise cursor.error("a table needs at least one column", token=begin)
    return ColumnList(_require(cursor, columns, identifier), identifier)


def parse_options(cursor: Cursor, name: Identifier, *, placed: bool = False) -> ColumnOptions:
    """What follows the type of a column, in any order, each once.

    Args:
        cursor: Stands behind the type.
        name: The column, for messages.
        placed: Whether ``FIRST``, ``AFTER column`` and ``BEFORE column`` can be among it.

    Raises:
        ParseError: something comes twice, or does not read as it should.
        UnsupportedStatementError: a constraint that is not kept.
    """
    options = ColumnOptions()
    while cursor.token.kind is Kind.WORD:
        begin = cursor.token
        if cursor.accept("NOT", "NULL") or cursor.accept("NULL"):
            if options.required is not None:
                raise cursor.error(f"column {name} says twice whether it may be NULL", token=begin)
            options = replace(options, required=begin.key == "NOT")
        elif cursor.accept("COMMENT"):
            if options.comment is not None:
                raise cursor.error(f"column {name} has two comments", token=begin)
            options = replace(options, comment=cursor.string("the comment"))
        elif cursor.accept("DEFAULT"):
            if options.default is not None:
                raise cursor.error(f"column {name} has two defaults", token=begin)
            options = replace(options, default=parse_default(cursor, _PLACES if placed else ()))
        elif placed and cursor.at(*_PLACES):
            if options.place is not None:
                raise cursor.error(f"column {name} has two places", token=begin)
            options = replace(options, place=parse_place(cursor))
        elif not placed and cursor.accept("PRIMARY", "KEY"):
            _expect_not_enforced(cursor, begin)
            options = replace(options, is_key=True)
        else:
            refuse_constraint(cursor)
            break
    return options


def parse_place(cursor: Cursor) -> Place | None:
    """Step over ``FIRST``, ``AFTER column`` or ``BEFORE column``, if one comes next.

    Raises:
        ParseError: the other column is missing, or named by a path.
    """
    if not cursor.at(*_PLACES):
        return None
    word = cursor.take().key
    if word == "FIRST":
        return Place("first")
    column = cursor.identifier("the name of the other column")
    if cursor.at("."):
        hint = "the other column is a neighbour in the same struct: name it alone"
        raise cursor.error(f"a column is placed {word} another one by its name, not by a path", hint=hint)
    return Place("after" if word == "AFTER" else "before", column)


def parse_primary_key(cursor: Cursor) -> tuple[ColumnPath, ...]:
    """The columns of ``[CONSTRAINT name] PRIMARY KEY (a, b.c) NOT ENFORCED``, the cursor standing at its front.

    Raises:
        ParseError: it does not read as that, or names a column twice.
        UnsupportedStatementError: it does not say that it is not enforced.
    """
    if cursor.accept("CONSTRAINT"):
        cursor.identifier("the name of the constraint")
    begin = cursor.expect("PRIMARY", "PRIMARY KEY")
    cursor.expect("KEY")
    cursor.expect("(", "'(' and the columns of the key")
    columns: list[ColumnPath] = []
    while True:
        first = cursor.token
        path = cursor.name("a column").parts
        if any([*map(normalize, path)] == [*map(normalize, other)] for other in columns):
            raise cursor.error(f"{Name(path)} is given twice", token=first)
        columns.append(path)
        if not cursor.accept(","):
            break
    cursor.expect(")", "',' or ')'")
    _expect_not_enforced(cursor, begin)
    return tuple(columns)


def parse_default(cursor: Cursor, also_end: Sequence[str] = ()) -> str:
    """The text of a DEFAULT expression, which ends where the column or the next of its clauses does.

    Args:
        cursor: Stands at its first token.
        also_end: More words that end it.

    Raises:
        ParseError: there is none, or it holds a parameter.
    """
    first = cursor.index
    depth = 0
    while cursor.token.kind is not Kind.END:
        token = cursor.token
        if token.kind is Kind.PARAMETER:
            raise cursor.error("a parameter cannot stand in a DEFAULT", hint="write the value")
        if depth == 0 and (token.key in (",", ")") or (cursor.index > first and _ends_default(cursor, also_end))):
            break
        depth += (token.key in ("(", "[", "{")) - (token.key in (")", "]", "}"))
        cursor.take()
    if cursor.index == first:
        raise cursor.unexpected("an expression behind DEFAULT")
    return cursor.slice(first, cursor.index)


def refuse_constraint(cursor: Cursor, *, named: bool = False) -> None:
    """Raise if a constraint that is not kept begins at the cursor.

    Args:
        cursor: Stands behind a column's type, or where a column's name could stand.
        named: Whether the latter; then the words are constraints only where what follows is no type.

    Raises:
        UnsupportedStatementError: one does.
    """
    hint = _CONSTRAINTS.get(cursor.token.key)
    if hint is None:
        return
    follower = cursor.ahead().key
    if not named or follower in ("KEY", "(") or (cursor.at("CONSTRAINT") and cursor.ahead(2).key in _CONSTRAINTS):
        raise cursor.unsupported(f"{cursor.token.key} is not supported in a column list", hint)


def _at_primary_key(cursor: Cursor) -> bool:
    named = cursor.at("CONSTRAINT") and cursor.ahead(2).key == "PRIMARY" and cursor.ahead(3).key == "KEY"
    return named or cursor.at_words("PRIMARY", "KEY")


def _parse_column(cursor: Cursor) -> tuple[ColumnDefinition, bool]:
    """A column, and whether it is the PRIMARY KEY."""
    refuse_constraint(cursor, named=True)
    first = cursor.token
    name = cursor.identifier("a column name")
    if cursor.at(",", ")"):
        hint = f"give it a type: {name} string; with AS SELECT, name the columns in the SELECT: SELECT x AS {name}"
        raise cursor.unsupported(f"column {name} has no type", hint, token=first)
    column_type = parse_type(cursor)
    said = parse_options(cursor, name)
    if said.is_key and said.required is False:
        raise cursor.error(f"column {name} is a key and may not be NULL", token=first, hint="leave NULL out")
    required = bool(said.required)
    return ColumnDefinition(name, column_type, required, said.comment, said.default, first.start), said.is_key


def _require(
    cursor: Cursor, columns: Sequence[ColumnDefinition], identifier: Sequence[ColumnPath]
) -> tuple[ColumnDefinition, ...]:
    """The columns, those of the key NOT NULL, as the SQL standard has it and Iceberg's identifier fields need it."""
    names = [column.name.text for column in columns]
    required = set()
    for path in identifier:
        name = find_name(path[0], names)
        if name is None:
            near = nearest(path[0].text, names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(names)}"
            raise cursor.error(f"the PRIMARY KEY names {path[0]}, which is no column", hint=hint)
        required.add(name)
    return tuple(replace(column, required=True) if column.name.text in required else column for column in columns)


def _expect_not_enforced(cursor: Cursor, begin: Token) -> None:
    if not cursor.accept("NOT", "ENFORCED"):
        raise cursor.unsupported("a PRIMARY KEY cannot be enforced", KEYS_ARE_NOT_ENFORCED, token=begin)


def _ends_default(cursor: Cursor, also_end: Sequence[str]) -> bool:
    if cursor.at("NULL") or cursor.at_words("NOT", "NULL"):
        return completes_operand(cursor.tokens[cursor.index - 1])
    return cursor.at("COMMENT", "DEFAULT", *_CONSTRAINTS, *also_end)


def _option_hint(cursor: Cursor) -> str | None:
    if cursor.at("<"):
        return "only array, list, map, struct and row take types in <>"
    return cursor.guess([*_OPTIONS, "PRIMARY KEY"])
