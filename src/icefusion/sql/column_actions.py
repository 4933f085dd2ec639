"""The actions of ALTER TABLE on columns: add, drop, rename, and what is changed about one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from icefusion.sql.alterations import (
    AddColumn,
    Alteration,
    ColumnPath,
    DropColumn,
    MoveColumn,
    RenameColumn,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetRequired,
)
from icefusion.sql.column_types import parse_type
from icefusion.sql.columns import parse_default, parse_options, parse_place, refuse_constraint
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.statements import Name
from icefusion.sql.terms import accept_comma

__all__ = ["parse_add_columns", "parse_alter_columns", "parse_drop_columns", "parse_path", "parse_rename_column"]

_PLACES = ("FIRST", "AFTER", "BEFORE")
_CHANGES = (
    "TYPE",
    "SET DATA TYPE",
    "SET NOT NULL",
    "DROP NOT NULL",
    "SET DEFAULT",
    "DROP DEFAULT",
    "COMMENT",
    *_PLACES,
)
_WHAT = "TYPE, SET or DROP NOT NULL, SET or DROP DEFAULT, COMMENT, FIRST, AFTER or BEFORE"
_ENDS_DEFAULT = ("TYPE", "SET", "DROP", *_PLACES)


def parse_path(cursor: Cursor) -> ColumnPath:
    """The column, or the part of one, that is named at the cursor.

    Raises:
        ParseError: no name is there.
    """
    return cursor.name("a column").parts


def parse_add_columns(cursor: Cursor) -> Iterator[Alteration]:
    """``ADD [COLUMN | COLUMNS] [IF NOT EXISTS] path type ...``, one or several, the cursor standing behind ADD.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: a column has a constraint that is not kept.
    """
    _skip_noun(cursor)
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    yield from _parse_list(cursor, lambda: _parse_addition(cursor, if_not_exists=if_not_exists))


def parse_drop_columns(cursor: Cursor) -> Iterator[Alteration]:
    """``DROP [COLUMN | COLUMNS] [IF EXISTS] path``, one or several, the cursor standing behind DROP.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: ``CASCADE`` follows.
    """
    _skip_noun(cursor)
    if_exists = cursor.accept("IF", "EXISTS")

    def parse_one() -> DropColumn:
        begin = cursor.token
        return DropColumn(parse_path(cursor), if_exists, begin.start)

    yield from _parse_list(cursor, parse_one)
    if cursor.at("CASCADE"):
        hint = "nothing hangs on a column but partition fields and sort keys; change these first"
        raise cursor.unsupported("DROP COLUMN ... CASCADE is not supported", hint)
    cursor.accept("RESTRICT")


def parse_rename_column(cursor: Cursor) -> Iterator[Alteration]:
    """``RENAME [COLUMN] path TO name``, the cursor standing behind RENAME.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: ``IF EXISTS`` is asked for.
    """
    _skip_noun(cursor)
    if cursor.at_words("IF", "EXISTS"):
        raise cursor.unsupported("RENAME COLUMN IF EXISTS is not supported", "leave IF EXISTS out")
    begin = cursor.token
    path = parse_path(cursor)
    if not cursor.accept("TO"):
        hint = "write RENAME COLUMN a TO b" if cursor.at("AS") else cursor.guess(["TO"])
        raise cursor.unexpected("TO and the new name", hint=hint)
    name = cursor.identifier("the new name of the column")
    if cursor.at("."):
        hint = f"a field stays in its struct; write only its new name: RENAME COLUMN {Name(path)} TO {path[-1]}_2"
        raise cursor.error("the new name of a column is one word", hint=hint)
    yield RenameColumn(path, name, begin.start)


def parse_alter_columns(cursor: Cursor, verb: str) -> Iterator[Alteration]:
    """``ALTER | CHANGE [COLUMN] path ...``, one or several, the cursor standing behind the verb.

    Changes of one column may follow each other, as in Spark's ``ALTER COLUMN a TYPE bigint COMMENT 'x' AFTER b``.

    Raises:
        ParseError: it does not read as that, or one thing is changed twice.
        UnsupportedStatementError: rows would have to be computed anew.
    """
    _skip_noun(cursor)
    yield from _parse_changes(cursor, verb)
    while accept_comma(cursor):
        yield from _parse_changes(cursor, verb)


def _skip_noun(cursor: Cursor) -> None:
    if cursor.at("COLUMN", "COLUMNS"):
        cursor.take()


def _parse_list(cursor: Cursor, parse_one: Callable[[], Alteration]) -> Iterator[Alteration]:
    """One, several in parentheses, or several without, which end where another action begins."""
    if cursor.accept("("):
        yield parse_one()
        while cursor.accept(","):
            yield parse_one()
        cursor.expect(")", "',' or ')'")
        return
    yield parse_one()
    while accept_comma(cursor):
        yield parse_one()


def _parse_addition(cursor: Cursor, *, if_not_exists: bool) -> AddColumn:
    refuse_constraint(cursor, named=True)
    begin = cursor.token
    path = parse_path(cursor)
    if cursor.token.kind is not Kind.WORD:
        raise cursor.unexpected(f"the type of column {Name(path)}", hint=f"e.g. ADD COLUMN {Name(path)} string")
    kind = parse_type(cursor)
    said = parse_options(cursor, path[-1], placed=True)
    if cursor.token.kind is Kind.WORD:
        options = ("NOT NULL", "DEFAULT", "COMMENT", *_PLACES)
        raise cursor.unexpected(f"{', '.join(options[:-1])} or {options[-1]}", hint=cursor.guess(options))
    required = bool(said.required)
    return AddColumn(path, kind, required, said.default, said.comment, said.place, if_not_exists, begin.start)


def _parse_changes(cursor: Cursor, verb: str) -> list[Alteration]:
    begin = cursor.token
    path = parse_path(cursor)
    _refuse_bare_type(cursor, path, verb)
    changes: list[Alteration] = []
    while not cursor.at(",", ")") and cursor.token.kind is not Kind.END:
        place = cursor.token
        change = _parse_change(cursor, path, begin.start)
        if any(type(change) is type(other) for other in changes):
            raise cursor.error(f"this is said of column {Name(path)} twice", token=place)
        changes.append(change)
    if not changes:
        raise cursor.unexpected(_WHAT)
    return changes


def _parse_change(cursor: Cursor, path: ColumnPath, offset: int) -> Alteration:
    if cursor.accept("TYPE") or cursor.accept("SET", "DATA", "TYPE"):
        change = SetColumnType(path, parse_type(cursor), offset)
        if cursor.at("USING"):
            hint = "change the type first, where Iceberg can; else add a column, UPDATE it, and drop this one"
            raise cursor.unsupported("a type is changed without computing rows anew", hint)
        return change
    if cursor.accept("SET", "NOT", "NULL"):
        return SetRequired(path, True, offset)
    if cursor.accept("DROP", "NOT", "NULL"):
        return SetRequired(path, False, offset)
    if cursor.accept("COMMENT"):
        comment = None if cursor.accept("NULL") else cursor.string("the comment")
        return SetColumnComment(path, comment, offset)
    if cursor.accept("SET", "DEFAULT"):
        return SetColumnDefault(path, parse_default(cursor, _ENDS_DEFAULT), offset)
    if cursor.accept("DROP", "DEFAULT"):
        return SetColumnDefault(path, None, offset)
    if (place := parse_place(cursor)) is not None:
        return MoveColumn(path, place, offset)
    if cursor.at("SET", "DROP"):
        word = cursor.take().key
        choices = ("NOT NULL", "DEFAULT", "DATA TYPE")[: 3 if word == "SET" else 2]
        cure = "leave SET out: TYPE ..." if cursor.at("TYPE") else cursor.guess(choices)
        raise cursor.unexpected(f"{', '.join(choices[:-1])} or {choices[-1]} behind {word}", hint=cure)
    raise cursor.unexpected(_WHAT, hint=cursor.guess(_CHANGES))


def _refuse_bare_type(cursor: Cursor, path: ColumnPath, verb: str) -> None:
    """``ALTER COLUMN a bigint`` and Hive's ``CHANGE COLUMN a b bigint``, which other dialects have."""
    token = cursor.token
    if token.kind not in (Kind.WORD, Kind.QUOTED) or token.key in {word.split()[0] for word in _CHANGES}:
        return
    guess = cursor.guess(_CHANGES)
    if guess is not None:
        raise cursor.unexpected(_WHAT, hint=guess)
    name, after = Name(path), cursor.ahead()
    if verb == "CHANGE" and after.kind is Kind.WORD:
        hint = f"write RENAME COLUMN {name} TO {token.text}, ALTER COLUMN {token.text} TYPE {after.text}"
        if token.text.lower() == path[-1].text.lower():
            hint = f"name the column once: CHANGE COLUMN {name} TYPE {after.text}"
        raise cursor.unsupported("CHANGE COLUMN with two names is not supported", hint)
    raise cursor.unexpected(_WHAT, hint=f"for another type write {verb} COLUMN {name} TYPE {token.text}")
