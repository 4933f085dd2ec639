"""The parts of CREATE and ALTER TABLE that they share: partition transforms, sort orders, properties."""

from __future__ import annotations

from collections.abc import Collection

from icefusion.naming import fold_case, nearest
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, keywords, read_identifier, read_string
from icefusion.sql.statements import Identifier, SortTerm, TransformTerm

__all__ = [
    "accept_comma",
    "parse_partitioning",
    "parse_properties",
    "parse_property_keys",
    "parse_settings",
    "parse_sort_order",
    "parse_transform",
]

# Iceberg's name of each transform (specification, "Partition Transforms") by the names that SQL dialects give it.
_TRANSFORMS = {
    "identity": "identity",
    "bucket": "bucket",
    "truncate": "truncate",
    "year": "year",
    "years": "year",
    "month": "month",
    "months": "month",
    "day": "day",
    "days": "day",
    "date": "day",
    "hour": "hour",
    "hours": "hour",
    "date_hour": "hour",
    "void": "void",
}
_WITH_ARGUMENT = ("bucket", "truncate")
_MAX_ARGUMENT = 2**31 - 1
_ACTIONS = keywords("ADD ALTER CHANGE CREATE DROP MODIFY RENAME REPLACE RESET SET UNSET WRITE")


def accept_comma(cursor: Cursor) -> bool:
    """Step over a comma if one comes next and another item of the same list behind it, and no action of ALTER TABLE."""
    behind = cursor.ahead(2)
    is_action = cursor.ahead().key in _ACTIONS and (behind.kind in (Kind.WORD, Kind.QUOTED) or behind.key == "(")
    return not is_action and cursor.accept(",")


def parse_partitioning(cursor: Cursor) -> tuple[TransformTerm, ...]:
    """The transforms of PARTITIONED BY, the cursor standing behind these words.

    Raises:
        ParseError: it does not read as transforms in parentheses.
        UnsupportedStatementError: columns are defined here, as Hive does.
    """
    cursor.expect("(", "'(' and the partition columns")
    terms = [_parse_partition_term(cursor)]
    while cursor.accept(","):
        terms.append(_parse_partition_term(cursor))
    cursor.expect(")", "',' or ')'")
    return tuple(terms)


def parse_sort_order(cursor: Cursor) -> tuple[SortTerm, ...]:
    """The keys of ORDER BY, the cursor standing behind these words; the parentheses around them may be left out.

    Raises:
        ParseError: it does not read as ``term [ASC | DESC] [NULLS FIRST | LAST], ...``.
    """
    in_parentheses = cursor.accept("(")
    terms = [_parse_sort_term(cursor)]
    while cursor.accept(",") if in_parentheses else accept_comma(cursor):
        terms.append(_parse_sort_term(cursor))
    if in_parentheses:
        cursor.expect(")", "',' or ')'")
    return tuple(terms)


def parse_properties(cursor: Cursor) -> tuple[tuple[str, str], ...]:
    """The properties of a list in parentheses, which begins at the cursor, in order.

    Values are kept as text: strings by their value, numbers as written, TRUE and FALSE in lower case.

    Raises:
        ParseError: it does not read as ``key = value, ...``, or a key comes twice.
    """
    cursor.expect("(", "'(' and properties as key = value")
    properties: dict[str, str] = {}
    while not cursor.at(")"):
        key = _parse_property(cursor, properties)
        properties[key] = _parse_property_value(cursor)
        if not cursor.accept(","):
            break
    cursor.expect(")", "',' or ')'")
    return tuple(properties.items())


def parse_settings(cursor: Cursor) -> tuple[tuple[str, str | None], ...]:
    """As `parse_properties`, for a table that is there: the value DEFAULT, which is None, takes a property away.

    There has to be one, and the parentheses may be left out: both as in Trino's ``SET PROPERTIES a = 1, b = DEFAULT``.

    Raises:
        ParseError: it does not read as ``key = value, ...``, or a key comes twice.
    """
    in_parentheses = cursor.accept("(")
    properties: dict[str, str | None] = {}
    while True:
        key = _parse_property(cursor, properties)
        properties[key] = None if cursor.accept("DEFAULT") else _parse_property_value(cursor)
        if not (cursor.accept(",") if in_parentheses else accept_comma(cursor)):
            break
    if in_parentheses:
        cursor.expect(")", "',' or ')'")
    return tuple(properties.items())


def parse_property_keys(cursor: Cursor) -> tuple[str, ...]:
    """The keys of a list in parentheses, which begins at the cursor.

    Raises:
        ParseError: it does not read as ``key, ...``, or a key comes twice.
    """
    cursor.expect("(", "'(' and the keys of properties")
    keys: list[str] = []
    while True:
        begin = cursor.token
        key = _parse_property_key(cursor)
        if key in keys:
            raise cursor.error(f"property {key} is given twice", token=begin)
        keys.append(key)
        if not cursor.accept(","):
            break
    hint = "only the keys are named here, without values" if cursor.at("=") else None
    if not cursor.at(")"):
        raise cursor.unexpected("',' or ')'", hint=hint)
    cursor.take()
    return tuple(keys)


def parse_transform(cursor: Cursor, *, named: bool = True) -> TransformTerm:
    """The column or the transform of one that begins at the cursor, and its ``AS name`` if it may be ``named``.

    Raises:
        ParseError: it does not read as one, or there is no such transform.
    """
    begin = cursor.token
    if begin.kind is Kind.WORD and cursor.ahead().key == "(":
        cursor.take()
        name = fold_case(begin.text)
        transform = _TRANSFORMS.get(name)
        if transform is None:
            guess = nearest(name, _TRANSFORMS)
            hint = f"did you mean {guess}?" if guess else f"there are {', '.join(dict.fromkeys(_TRANSFORMS.values()))}"
            raise cursor.error(f"there is no transform {begin.text}", token=begin, hint=hint)
        column, argument = _parse_transform_arguments(cursor, transform)
    else:
        transform, argument = "identity", None
        column = cursor.name("a column or a transform").parts
    alias = cursor.identifier("a name").text if named and cursor.accept("AS") else None
    return TransformTerm(transform, column, argument, alias, begin.start)


def _parse_partition_term(cursor: Cursor) -> TransformTerm:
    term = parse_transform(cursor)
    if cursor.token.kind is Kind.WORD and term.alias is None:
        hint = "list the column with its type among the columns of the table, and only its name here"
        raise cursor.unsupported("a partition column cannot be defined in PARTITIONED BY", hint)
    return term


def _parse_sort_term(cursor: Cursor) -> SortTerm:
    term = parse_transform(cursor, named=False)
    descending = not cursor.accept("ASC") and cursor.accept("DESC")
    nulls_first = not descending
    if cursor.accept("NULLS"):
        if not cursor.at("FIRST", "LAST"):
            raise cursor.unexpected("FIRST or LAST")
        nulls_first = cursor.take().key == "FIRST"
    return SortTerm(term, "desc" if descending else "asc", "first" if nulls_first else "last")


def _parse_transform_arguments(cursor: Cursor, transform: str) -> tuple[tuple[Identifier, ...], int | None]:
    cursor.expect("(")
    argument: int | None = None
    if transform in _WITH_ARGUMENT:
        what = "the number of buckets" if transform == "bucket" else "the width"
        if cursor.token.kind is Kind.NUMBER:
            argument = _parse_transform_width(cursor, what)
            cursor.expect(",", "',' and a column")
            column = cursor.name("a column").parts
        else:
            column = cursor.name(f"{what}, or a column").parts
            cursor.expect(",", f"',' and {what}")
            argument = _parse_transform_width(cursor, what)
    else:
        column = cursor.name("a column").parts
    cursor.expect(")")
    return column, argument


def _parse_transform_width(cursor: Cursor, what: str) -> int:
    begin = cursor.token
    value = cursor.integer(what)
    if not 0 < value <= _MAX_ARGUMENT:
        raise cursor.error(f"expected {what} between 1 and {_MAX_ARGUMENT}, found {value}", token=begin)
    return value


def _parse_property(cursor: Cursor, others: Collection[str]) -> str:
    """A key that is none of the others, and the ``=`` behind it."""
    begin = cursor.token
    key = _parse_property_key(cursor)
    if key in others:
        raise cursor.error(f"property {key} is given twice", token=begin)
    if not cursor.accept("="):
        raise cursor.unexpected(f"'=' and the value of property {key}")
    return key


def _parse_property_key(cursor: Cursor) -> str:
    token = cursor.token
    if token.kind is Kind.STRING:
        return read_string(cursor.take())
    if token.kind is Kind.QUOTED:
        return read_identifier(cursor.take()).text
    # Unquoted, as in write.target-file-size-bytes = 1: all that hangs together.
    first = cursor.index
    end = token.start
    while cursor.token.start == end and (
        cursor.token.kind in (Kind.WORD, Kind.NUMBER) or (cursor.at(".", "-") and cursor.index > first)
    ):
        end = cursor.take().end
    if cursor.index == first:
        raise cursor.unexpected("a property as key = value")
    return cursor.slice(first, cursor.index)


def _parse_property_value(cursor: Cursor) -> str:
    token = cursor.token
    if token.kind is Kind.STRING:
        return read_string(cursor.take())
    if cursor.at("-", "+") and cursor.ahead().kind is Kind.NUMBER:
        sign = cursor.take().text
        return ("-" if sign == "-" else "") + cursor.take().text
    if token.kind is Kind.NUMBER:
        return cursor.take().text
    if token.kind is Kind.QUOTED:
        raise cursor.unexpected("a value", hint="strings stand in single quotes: 'text'")
    if cursor.at("ARRAY", "MAP"):
        hint = (
            "partitioning and order have words of their own: PARTITIONED BY (...) and ORDER BY (...) when a table is "
        )
        hint += "made, ADD PARTITION FIELD and WRITE ORDERED BY in ALTER TABLE"
        raise cursor.unsupported("a property is a single value", hint)
    if token.kind is Kind.WORD and token.key != "NULL" and cursor.ahead().key != "(":
        text = cursor.take().text
        return text.lower() if text.lower() in ("true", "false") else text
    rule = "parameters can stand in queries only; write the value here" if token.kind is Kind.PARAMETER else None
    raise cursor.unexpected("a value: a string, a number, TRUE or FALSE", hint=rule)
