"""The column list of CREATE TABLE: names, types of any depth, and what follows a type."""

from __future__ import annotations

from icefusion.naming import fold_case
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.statements import ColumnDefinition, Identifier, TypeText

__all__ = ["parse_columns", "parse_type"]

# Far deeper than any real schema, and far from where Python's stack ends.
_MAX_TYPE_DEPTH = 64

_STRUCTS = ("struct", "row")
_LISTS = ("array", "list")
_ZONES = (("WITH", "TIME", "ZONE"), ("WITHOUT", "TIME", "ZONE"), ("WITH", "LOCAL", "TIME", "ZONE"))
_CONSTRAINTS = {
    "PRIMARY": "Iceberg tables have no enforced keys; leave it out",
    "UNIQUE": "Iceberg tables have no enforced keys; leave it out",
    "FOREIGN": "Iceberg tables have no enforced keys; leave it out",
    "REFERENCES": "Iceberg tables have no enforced keys; leave it out",
    "CHECK": "Iceberg tables have no checks; test the rows in the query that inserts them",
    "CONSTRAINT": "of all constraints, only NOT NULL is kept; leave the others out",
    "GENERATED": "compute the column in the query that inserts the rows",
    "COLLATE": "strings compare by their code points; leave it out",
}


def parse_columns(cursor: Cursor) -> tuple[ColumnDefinition, ...]:
    """The columns of a list in parentheses, which begins at the cursor.

    Raises:
        ParseError: the list does not read as ``name type [NOT NULL] [DEFAULT expression] [COMMENT 'text'], ...``.
        UnsupportedStatementError: it holds a constraint other than NOT NULL, or names without types.
    """
    cursor.expect("(")
    columns: list[ColumnDefinition] = []
    while True:
        columns.append(_parse_column(cursor))
        if cursor.accept(")"):
            return tuple(columns)
        if not cursor.accept(","):
            raise cursor.unexpected("',' or ')' or NOT NULL, DEFAULT or COMMENT", hint=_type_hint(cursor))


def parse_type(cursor: Cursor, depth: int = 0) -> TypeText:
    """The type that begins at the cursor.

    A name of a type is not checked here, only how its parts fit: an unknown one is told later, by who knows the types.

    Raises:
        ParseError: it does not read as a type.
    """
    if depth > _MAX_TYPE_DEPTH:
        raise cursor.error(f"this type is nested more than {_MAX_TYPE_DEPTH} levels deep")
    token = cursor.token
    if token.kind is not Kind.WORD:
        raise cursor.unexpected("a type")
    cursor.take()
    name, offset = fold_case(token.text), token.start
    if name in _STRUCTS and cursor.at("<", "("):
        result = _parse_struct(cursor, offset, depth)
    elif name in _LISTS and cursor.at("<", "("):
        close = _open(cursor)
        element, required = _parse_child(cursor, depth)
        cursor.expect(close)
        result = TypeText("array", (), (element,), (), (required,), offset)
    elif name == "map" and cursor.at("<", "("):
        close = _open(cursor)
        key, _ = _parse_child(cursor, depth)
        cursor.expect(",", "',' and the type of the map's values")
        value, required = _parse_child(cursor, depth)
        cursor.expect(close)
        result = TypeText("map", (), (key, value), (), (True, required), offset)
    else:
        result = _parse_plain(cursor, name, offset)
    return _parse_array_suffix(cursor, result, depth)


def _parse_column(cursor: Cursor) -> ColumnDefinition:
    _refuse_constraint(cursor, named=True)
    first = cursor.token
    name = cursor.identifier("a column name")
    if cursor.at(",", ")"):
        hint = f"give it a type: {name} string; with AS SELECT, name the columns in the SELECT: SELECT x AS {name}"
        raise cursor.unsupported(f"column {name} has no type", hint, token=first)
    column_type = parse_type(cursor)
    required: bool | None = None
    comment: str | None = None
    default: str | None = None
    while not cursor.at(",", ")") and cursor.token.kind is Kind.WORD:
        begin = cursor.token
        if cursor.accept("NOT", "NULL") or cursor.accept("NULL"):
            if required is not None:
                raise cursor.error(f"column {name} says twice whether it may be NULL", token=begin)
            required = begin.key == "NOT"
        elif cursor.accept("COMMENT"):
            if comment is not None:
                raise cursor.error(f"column {name} has two comments", token=begin)
            comment = cursor.string("the comment")
        elif cursor.accept("DEFAULT"):
            if default is not None:
                raise cursor.error(f"column {name} has two defaults", token=begin)
            default = _slice_default(cursor)
        else:
            _refuse_constraint(cursor, named=False)
            break
    return ColumnDefinition(name, column_type, bool(required), comment, default, first.start)


def _refuse_constraint(cursor: Cursor, *, named: bool) -> None:
    hint = _CONSTRAINTS.get(cursor.token.key)
    if hint is None:
        return
    follower = cursor.ahead().key
    # At the place of a column's name, these words are constraints only where what follows is no type.
    if not named or follower in ("KEY", "(") or (cursor.at("CONSTRAINT") and cursor.ahead(2).key in _CONSTRAINTS):
        raise cursor.unsupported(f"{cursor.token.key} is not supported in a column list", hint)


def _slice_default(cursor: Cursor) -> str:
    """The text of a DEFAULT expression, which ends where the column or the next of its clauses does."""
    first = cursor.index
    depth = 0
    while cursor.token.kind is not Kind.END:
        token = cursor.token
        if token.kind is Kind.PARAMETER:
            raise cursor.error("a parameter cannot stand in a DEFAULT", hint="write the value")
        if depth == 0 and (token.key in (",", ")") or (cursor.index > first and _ends_default(cursor))):
            break
        depth += (token.key in ("(", "[", "{")) - (token.key in (")", "]", "}"))
        cursor.take()
    if cursor.index == first:
        raise cursor.unexpected("an expression behind DEFAULT")
    return cursor.slice(first, cursor.index)


def _ends_default(cursor: Cursor) -> bool:
    before = cursor.tokens[cursor.index - 1].key
    if cursor.at("NULL"):
        return before not in ("IS", "NOT", "THEN", "ELSE") and cursor.tokens[cursor.index - 1].kind is not Kind.OPERATOR
    if cursor.at("COMMENT", *_CONSTRAINTS):
        return True
    return cursor.at_words("NOT", "NULL") and before != "IS"


def _parse_struct(cursor: Cursor, offset: int, depth: int) -> TypeText:
    close = _open(cursor)
    names: list[str] = []
    types: list[TypeText] = []
    required: list[bool] = []
    while True:
        name: Identifier = cursor.identifier("a field name")
        cursor.accept(":")
        field_type, field_required = _parse_child(cursor, depth)
        names.append(name.text)
        types.append(field_type)
        required.append(field_required)
        if not cursor.accept(","):
            break
    cursor.expect(close, f"',' or '{close}'")
    return TypeText("struct", (), tuple(types), tuple(names), tuple(required), offset)


def _parse_child(cursor: Cursor, depth: int) -> tuple[TypeText, bool]:
    child = parse_type(cursor, depth + 1)
    required = cursor.accept("NOT", "NULL")
    if not required:
        cursor.accept("NULL")
    if cursor.at("COMMENT"):
        raise cursor.unsupported("fields of a struct cannot have comments yet", "put it into the column's COMMENT")
    return child, required


def _open(cursor: Cursor) -> str:
    return ">" if cursor.take().key == "<" else ")"


def _parse_plain(cursor: Cursor, name: str, offset: int) -> TypeText:
    if name == "double" and cursor.accept("PRECISION"):
        name = "double precision"
    elif name in ("character", "char") and cursor.accept("VARYING"):
        name += " varying"
    arguments = _parse_arguments(cursor, "(", ")") if cursor.at("(") else ()
    if name == "fixed" and cursor.at("["):
        arguments = _parse_arguments(cursor, "[", "]")
    if name in ("timestamp", "time"):
        for words in _ZONES:
            if cursor.accept(*words):
                name = f"{name} {' '.join(words).lower()}"
    return TypeText(name, arguments, offset=offset)


def _parse_arguments(cursor: Cursor, opening: str, closing: str) -> tuple[int, ...]:
    cursor.expect(opening)
    arguments = [cursor.integer("a length, precision or scale")]
    while cursor.accept(","):
        arguments.append(cursor.integer("a length, precision or scale"))
    cursor.expect(closing)
    return tuple(arguments)


def _parse_array_suffix(cursor: Cursor, element: TypeText, depth: int) -> TypeText:
    while cursor.at("["):
        cursor.take()
        if cursor.token.kind is Kind.NUMBER:
            raise cursor.unsupported("lists of a fixed length are not supported", "leave the length out: int[]")
        cursor.expect("]")
        depth += 1
        if depth > _MAX_TYPE_DEPTH:
            raise cursor.error(f"this type is nested more than {_MAX_TYPE_DEPTH} levels deep")
        element = TypeText("array", (), (element,), (), (False,), element.offset)
    return element


def _type_hint(cursor: Cursor) -> str | None:
    if cursor.at("<"):
        return "only array, list, map, struct and row take types in <>"
    return None
