"""Column types as SQL spells them, into Iceberg types.

The words come from the parser as `icefusion.sql.statements` values, the one module outside the bridge that this stage
reads: plain data without behaviour.

A type stands for exactly what its name promises. A length that Iceberg cannot keep (``varchar(10)``) is refused rather
than dropped, because dropping it would accept values that the author of the statement meant to keep out.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.schema import MAX_DECIMAL_PRECISION, assign_ids, check_names, join_path
from icefusion.errors import SchemaError
from icefusion.sql.statements import ColumnDefinition, TypeText

__all__ = ["build_schema", "sql_type_to_iceberg"]

DEFAULT_DECIMAL = (18, 3)
"""Precision and scale of a bare ``decimal``, as in DuckDB."""

_NAMES: dict[str, IcebergType] = {
    name: iceberg_type
    for iceberg_type, names in (
        (BooleanType(), ("boolean", "bool")),
        (IntegerType(), ("int", "integer", "int4", "smallint", "int2", "tinyint", "short", "byte")),
        (LongType(), ("bigint", "long", "int8")),
        (FloatType(), ("float", "real", "float4")),
        (DoubleType(), ("double", "double precision", "float8")),
        (DateType(), ("date",)),
        (TimeType(), ("time", "time without time zone")),
        (TimestampType(), ("timestamp", "timestamp without time zone", "timestamp_ntz", "datetime")),
        (TimestamptzType(), ("timestamptz", "timestamp with time zone", "timestamp_ltz")),
        (TimestampNanoType(), ("timestamp_ns",)),
        (TimestamptzNanoType(), ("timestamptz_ns",)),
        (StringType(), ("string", "text")),
        (UUIDType(), ("uuid",)),
    )
    for name in names
}
_STRING_NAMES = ("varchar", "char", "character", "character varying", "nvarchar", "bpchar")
_BINARY_NAMES = ("binary", "varbinary", "bytea", "blob", "fixed")
_DECIMAL_NAMES = ("decimal", "numeric", "dec")
_LIST_NAMES = ("list", "array")
_ALL_NAMES = (*_NAMES, *_STRING_NAMES, *_BINARY_NAMES, *_DECIMAL_NAMES, *_LIST_NAMES, "map", "struct")
_NANO_TYPES = (TimestampNanoType, TimestamptzNanoType)


def sql_type_to_iceberg(text: TypeText, *, column: str = "", format_version: int = 2) -> IcebergType:
    """The Iceberg type of a parsed column type. Ids inside a nested type are 0: `build_schema` assigns them.

    Args:
        text: The type as the parser read it.
        column: The column's dotted path, for messages.
        format_version: Of the table; nanosecond timestamps need 3.

    Raises:
        SchemaError: No such type, or arguments that it cannot keep.
    """
    name = text.name.lower()
    if (plain := _NAMES.get(name)) is not None:
        _refuse_arguments(text, column, plain)
        if isinstance(plain, _NANO_TYPES) and format_version < 3:
            instead = "timestamp" if isinstance(plain, TimestampNanoType) else "timestamptz"
            raise _error(column, text, "needs a table of format version 3", f"use {instead}, which keeps microseconds")
        return plain
    if name in _STRING_NAMES:
        if text.arguments:
            hint = "write string; an Iceberg string has no length, so the limit could not be kept"
            raise _error(column, text, "cannot have a length", hint)
        return StringType()
    if name in _DECIMAL_NAMES:
        return _decimal(text, column)
    if name in _BINARY_NAMES:
        return _binary(text, column)
    if name in (*_LIST_NAMES, "map", "struct"):
        return _nested(text, column, format_version)
    near = difflib.get_close_matches(name, _ALL_NAMES, n=1, cutoff=0.5)
    raise _error(
        column, text, "is not known", f"did you mean {near[0]}?" if near else "see docs/types.md for the names"
    )


def build_schema(columns: Sequence[ColumnDefinition], *, format_version: int = 2) -> Schema:
    """The schema of a new table from the columns of CREATE TABLE: fresh ids from 1, NOT NULL and comments kept.

    A column's DEFAULT is left to the caller.

    Raises:
        SchemaError: An unknown type, or names that are equal but for their case.
    """
    check_names(column.name.text for column in columns)
    return assign_ids(
        [
            NestedField(
                0,
                column.name.text,
                sql_type_to_iceberg(column.type, column=column.name.text, format_version=format_version),
                required=column.required,
                doc=column.comment,
            )
            for column in columns
        ]
    )


def _nested(text: TypeText, column: str, version: int) -> IcebergType:
    counts = {"struct": max(1, len(text.children)), "map": 2}
    if len(text.children) != counts.get(text.name.lower(), 1) or text.arguments:
        example = {"map": "map<string, int>", "struct": "struct<a: int, b: string>"}.get(text.name.lower(), "list<int>")
        raise _error(column, text, f"has {len(text.children)} inner types", f"write it like {example}")
    names = {"map": ("key", "value"), "struct": text.child_names}.get(text.name.lower(), ("element",))
    if text.name.lower() == "struct":
        check_names(names, column)
    inner = [
        sql_type_to_iceberg(child, column=join_path(column, name), format_version=version)
        for child, name in zip(text.children, names, strict=True)
    ]
    required = text.child_required or (False,) * len(inner)
    match text.name.lower():
        case "struct":
            comments = text.child_comments or (None,) * len(inner)
            fields = zip(names, inner, required, comments, strict=True)
            return StructType(*(NestedField(0, name, kind, required=must, doc=doc) for name, kind, must, doc in fields))
        case "map":
            return MapType(key_id=0, key_type=inner[0], value_id=0, value_type=inner[1], value_required=required[-1])
    return ListType(element_id=0, element=inner[0], element_required=required[0])


def _decimal(text: TypeText, column: str) -> DecimalType:
    if len(text.arguments) > 2:
        raise _error(column, text, f"has {len(text.arguments)} arguments", "write decimal(precision, scale)")
    precision, scale = (*text.arguments, 0)[:2] if text.arguments else DEFAULT_DECIMAL
    if not 1 <= precision <= MAX_DECIMAL_PRECISION:
        raise _error(column, text, f"has precision {precision}", f"a precision is from 1 to {MAX_DECIMAL_PRECISION}")
    if not 0 <= scale <= precision:
        raise _error(column, text, f"has scale {scale}", f"a scale is from 0 to the precision, here {precision}")
    return DecimalType(precision, scale)


def _binary(text: TypeText, column: str) -> IcebergType:
    name = text.name.lower()
    if name in ("fixed", "binary") and len(text.arguments) == 1 and text.arguments[0] >= 1:
        return FixedType(text.arguments[0])
    if name == "fixed" or (text.arguments and name == "binary"):
        raise _error(column, text, "needs one length of 1 or more", "write it like fixed(16)")
    if text.arguments:
        hint = f"write binary for any length, or fixed({text.arguments[0]}) for exactly that one"
        raise _error(column, text, "cannot have a length", hint)
    return BinaryType()


def _refuse_arguments(text: TypeText, column: str, plain: IcebergType) -> None:
    if not text.arguments:
        return
    if isinstance(plain, TimestampType | TimestamptzType | TimeType) and text.arguments == (6,):
        return  # microseconds are what they have
    hint = f"write {text.name}" + (", which keeps microseconds" if text.name.startswith("time") else "")
    raise _error(column, text, f"cannot be {text.name}({', '.join(map(str, text.arguments))})", hint)


def _error(column: str, text: TypeText, problem: str, hint: str) -> SchemaError:
    where = f"column {column}: " if column else ""
    return SchemaError(f"{where}type {text.name} {problem}", column=column or None, found=text.name, hint=hint)
