"""Column types as text: names, arguments, and types inside of types to any depth."""

from __future__ import annotations

from icefusion.naming import fold_case
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.statements import Identifier, TypeText

__all__ = ["parse_type"]

# Far deeper than any real schema, and far from where Python's stack ends.
_MAX_TYPE_DEPTH = 64

_STRUCTS = ("struct", "row")
_LISTS = ("array", "list")
_ZONES = (("WITH", "TIME", "ZONE"), ("WITHOUT", "TIME", "ZONE"), ("WITH", "LOCAL", "TIME", "ZONE"))


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


def _parse_struct(cursor: Cursor, offset: int, depth: int) -> TypeText:
    close = _open(cursor)
    names: list[str] = []
    types: list[TypeText] = []
    required: list[bool] = []
    comments: list[str | None] = []
    while True:
        name: Identifier = cursor.identifier("a field name")
        cursor.accept(":")
        field_type, field_required = _parse_child(cursor, depth)
        names.append(name.text)
        types.append(field_type)
        required.append(field_required)
        comments.append(cursor.string("the comment") if cursor.accept("COMMENT") else None)
        if not cursor.accept(","):
            break
    expected = f"',' or '{close}'" if comments[-1] is not None else f"',', '{close}', NOT NULL or COMMENT"
    cursor.expect(close, expected)
    told = tuple(comments) if any(comment is not None for comment in comments) else ()
    return TypeText("struct", (), tuple(types), tuple(names), tuple(required), offset, told)


def _parse_child(cursor: Cursor, depth: int) -> tuple[TypeText, bool]:
    child = parse_type(cursor, depth + 1)
    required = cursor.accept("NOT", "NULL")
    if not required:
        cursor.accept("NULL")
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
