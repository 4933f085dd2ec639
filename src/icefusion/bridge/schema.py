"""Types and schemas between Iceberg and Arrow.

Into Iceberg, every Arrow type has a defined answer: the Iceberg type that holds each of its values, or an error that
names the column. Out of Iceberg there is one canonical Arrow schema. It is the shape in which rows are written to
files and the shape in which files are read, whatever the encodings (dictionary, view, large) they came in, and it
carries the field ids at every depth. Which physical types stand for which logical ones: sections "Schemas and Data
Types" and "Appendix A: Parquet" of the Iceberg specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema, assign_fresh_schema_ids, index_by_name
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

from icefusion.errors import SchemaError

__all__ = [
    "FIELD_ID_KEY",
    "arrow_to_iceberg",
    "assign_ids",
    "check_names",
    "iceberg_to_arrow",
    "is_list_like",
    "join_path",
    "sql_name",
    "type_name",
    "type_to_arrow",
]

FIELD_ID_KEY = b"PARQUET:field_id"
"""The key of Arrow field metadata that Parquet writers and readers take a column's field id from."""

MAX_DECIMAL_PRECISION = 38

_TO_ARROW: dict[type[IcebergType], pa.DataType] = {
    BooleanType: pa.bool_(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    DateType: pa.date32(),
    TimeType: pa.time64("us"),
    TimestampType: pa.timestamp("us"),
    TimestamptzType: pa.timestamp("us", tz="UTC"),
    TimestampNanoType: pa.timestamp("ns"),
    TimestamptzNanoType: pa.timestamp("ns", tz="UTC"),
    StringType: pa.string(),
    BinaryType: pa.binary(),
    UUIDType: pa.uuid(),
}

_FROM_ARROW: dict[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(),
    pa.int8(): IntegerType(),
    pa.int16(): IntegerType(),
    pa.int32(): IntegerType(),
    pa.uint8(): IntegerType(),
    pa.uint16(): IntegerType(),
    pa.uint32(): LongType(),
    pa.int64(): LongType(),
    pa.uint64(): DecimalType(20, 0),
    pa.float16(): FloatType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.date32(): DateType(),
    pa.date64(): DateType(),
    pa.time32("s"): TimeType(),
    pa.time32("ms"): TimeType(),
    pa.time64("us"): TimeType(),
    pa.time64("ns"): TimeType(),
    pa.string(): StringType(),
    pa.large_string(): StringType(),
    pa.string_view(): StringType(),
    pa.binary(): BinaryType(),
    pa.large_binary(): BinaryType(),
    pa.binary_view(): BinaryType(),
    pa.uuid(): UUIDType(),
    pa.bool8(): BooleanType(),
}

_SQL_NAMES: dict[type[IcebergType], str] = {
    IntegerType: "int",
    LongType: "bigint",
    TimestampNanoType: "timestamp_ns",
    TimestamptzNanoType: "timestamptz_ns",
}

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SQL_WORDS = """
    all and any as asc between by case cast column constraint create cross current default delete desc distinct drop
    else end except exists false fetch for from full group having in inner insert intersect into is join lateral left
    like limit natural not null nulls offset on or order outer partition primary references right select set table then
    to true union unique update using values view when where window with
"""
_RESERVED = frozenset(_SQL_WORDS.split())


def arrow_to_iceberg(schema: pa.Schema, *, format_version: int = 2) -> Schema:
    """The Iceberg schema of a new table whose columns hold every value that the Arrow schema allows.

    Field ids are fresh from 1, the top level first (as `pyiceberg.schema.assign_fresh_schema_ids` does it); a column is
    required where the Arrow field is not nullable. Nanosecond timestamps become microseconds below format version 3:
    a value with a finer part is refused when rows are written.

    Raises:
        SchemaError: A type has no Iceberg counterpart, or two names differ in nothing but their case. The error
            names the column by its dotted path.
    """
    fields = _struct_fields(list(schema), "", format_version)
    return assign_ids(fields)


def assign_ids(fields: Sequence[NestedField]) -> Schema:
    """A schema of these fields with fresh ids from 1, the top level first; the ids they carry are ignored.

    Raises:
        SchemaError: Two columns would have the same dotted path.
    """
    try:
        schema = assign_fresh_schema_ids(Schema(*fields))
        index_by_name(schema)  # refuses a column named "a.b" beside a struct a with a column b
    except ValueError as exc:
        raise SchemaError(f"columns clash: {exc}", hint="rename one of them") from exc
    return schema


def iceberg_to_arrow(schema: Schema, *, field_ids: bool = True) -> pa.Schema:
    """The canonical Arrow schema of an Iceberg schema: the one that is written and read.

    Args:
        schema: The Iceberg schema.
        field_ids: Whether every field, at any depth, carries its id under `FIELD_ID_KEY`.

    Raises:
        SchemaError: A column's type (unknown, variant, geometry, geography) has no Arrow counterpart here.
    """
    return pa.schema([_field_to_arrow(field, field.name, field_ids) for field in schema.fields])


def type_to_arrow(iceberg_type: IcebergType, *, field_ids: bool = True, column: str = "") -> pa.DataType:
    """The canonical Arrow type of an Iceberg type; `column` is the dotted path for an error's message.

    Raises:
        SchemaError: The type has no Arrow counterpart here.
    """
    if plain := _TO_ARROW.get(type(iceberg_type)):
        return plain
    match iceberg_type:
        case DecimalType():
            return pa.decimal128(iceberg_type.precision, iceberg_type.scale)
        case FixedType():
            return pa.binary(len(iceberg_type))
        case StructType():
            return pa.struct([_field_to_arrow(f, join_path(column, f.name), field_ids) for f in iceberg_type.fields])
        case ListType():
            return pa.list_(_field_to_arrow(iceberg_type.element_field, join_path(column, "element"), field_ids))
        case MapType():
            return pa.map_(
                _field_to_arrow(iceberg_type.key_field, join_path(column, "key"), field_ids),
                _field_to_arrow(iceberg_type.value_field, join_path(column, "value"), field_ids),
            )
    raise SchemaError(
        f"column {column or '?'}: type {iceberg_type} cannot be read or written",
        column=column or None,
        found=str(iceberg_type),
        hint="leave the column out of the query, or use a tool that knows this type",
    )


def type_name(iceberg_type: IcebergType) -> str:
    """The SQL name of an Iceberg type, as CREATE TABLE takes it: ``decimal(10, 2)``, ``list<string>``."""
    if name := _SQL_NAMES.get(type(iceberg_type)):
        return name
    match iceberg_type:
        case FixedType():
            return f"fixed({len(iceberg_type)})"
        case StructType():
            inner = (
                f"{sql_name(f.name)}: {type_name(f.field_type)}{_not_null(f.required)}" for f in iceberg_type.fields
            )
            return f"struct<{', '.join(inner)}>"
        case ListType():
            return f"list<{type_name(iceberg_type.element_type)}{_not_null(iceberg_type.element_required)}>"
        case MapType():
            value = f"{type_name(iceberg_type.value_type)}{_not_null(iceberg_type.value_required)}"
            return f"map<{type_name(iceberg_type.key_type)}, {value}>"
    return str(iceberg_type)


def sql_name(name: str) -> str:
    """A column's name as SQL text, in double quotes where it is not a plain word or is one that SQL uses."""
    plain = _PLAIN_NAME.match(name) and name.lower() not in _RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def check_names(names: Iterable[str], parent: str = "") -> None:
    """Refuse names of one table or struct that are empty, or equal but for their case.

    Raises:
        SchemaError: Naming the column, by its dotted path below `parent`.
    """
    seen: dict[str, str] = {}
    for name in names:
        path = join_path(parent, name)
        if not name:
            where = f"the struct {parent}" if parent else "the table"
            raise SchemaError(f"a column of {where} has an empty name", column=path, hint="give it a name with AS")
        if name.lower() in seen:
            other = join_path(parent, seen[name.lower()])
            same = path == other
            raise SchemaError(
                f"column {path} appears twice" if same else f"columns {other} and {path} differ only in case",
                column=path,
                hint="names are compared without regard to case; rename one with AS",
            )
        seen[name.lower()] = name


def _struct_fields(fields: Sequence[pa.Field], parent: str, version: int) -> list[NestedField]:
    check_names((field.name for field in fields), parent)
    result = []
    for field in fields:
        field_type = _from_arrow(field.type, join_path(parent, field.name), version)
        result.append(NestedField(0, field.name, field_type, required=not field.nullable))
    return result


def _from_arrow(arrow_type: pa.DataType, path: str, version: int) -> IcebergType:
    """The Iceberg type that holds every value of an Arrow type, its nested ids all 0."""
    known = _FROM_ARROW.get(arrow_type)
    if known is not None:
        return known
    types = pa.types
    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return _from_arrow(arrow_type.value_type, path, version)
    if types.is_decimal(arrow_type):
        return _from_decimal(arrow_type, path)
    if types.is_timestamp(arrow_type):
        nanos = version >= 3 and arrow_type.unit == "ns"
        if arrow_type.tz is None:
            return TimestampNanoType() if nanos else TimestampType()
        return TimestamptzNanoType() if nanos else TimestamptzType()
    if types.is_fixed_size_binary(arrow_type) and arrow_type.byte_width > 0:
        return FixedType(arrow_type.byte_width)
    if is_list_like(arrow_type):
        element = _from_arrow(arrow_type.value_type, join_path(path, "element"), version)
        return ListType(element_id=0, element=element, element_required=not arrow_type.value_field.nullable)
    if types.is_map(arrow_type):
        return MapType(
            key_id=0,
            key_type=_from_arrow(arrow_type.key_type, join_path(path, "key"), version),
            value_id=0,
            value_type=_from_arrow(arrow_type.item_type, join_path(path, "value"), version),
            value_required=not arrow_type.item_field.nullable,
        )
    if types.is_struct(arrow_type) and arrow_type.num_fields:
        return StructType(*_struct_fields([arrow_type.field(i) for i in range(arrow_type.num_fields)], path, version))
    if isinstance(arrow_type, pa.JsonType):
        return StringType()
    raise _no_counterpart(arrow_type, path)


def is_list_like(arrow_type: pa.DataType) -> bool:
    """Whether an Arrow type is any of the list types: plain, large, view, large view or of fixed size (not a map)."""
    types = pa.types
    return bool(
        types.is_list(arrow_type)
        or types.is_large_list(arrow_type)
        or types.is_fixed_size_list(arrow_type)
        or types.is_list_view(arrow_type)
        or types.is_large_list_view(arrow_type)
    )


def _from_decimal(arrow_type: pa.DataType, path: str) -> DecimalType:
    precision, scale = arrow_type.precision, arrow_type.scale
    if precision <= MAX_DECIMAL_PRECISION and 0 <= scale <= precision:
        return DecimalType(precision, scale)
    if scale < 0:
        wanted = f"cast it to decimal({min(precision - scale, MAX_DECIMAL_PRECISION)}, 0)"
    elif scale > precision and scale <= MAX_DECIMAL_PRECISION:
        wanted = f"cast it to decimal({scale}, {scale})"
    else:
        wanted = f"cast it to decimal({MAX_DECIMAL_PRECISION}, {min(scale, MAX_DECIMAL_PRECISION)}) or to string"
    raise SchemaError(
        f"column {path}: type {arrow_type} does not fit an Iceberg decimal",
        column=path,
        expected=f"a precision up to {MAX_DECIMAL_PRECISION} and a scale from 0 to the precision",
        found=str(arrow_type),
        hint=wanted,
    )


def _no_counterpart(arrow_type: pa.DataType, path: str) -> SchemaError:
    types = pa.types
    if types.is_duration(arrow_type):
        hint = f"cast it to bigint, the number of its units ({arrow_type.unit})"
    elif types.is_interval(arrow_type):
        hint = "cast it to string, or keep months, days and nanoseconds in columns of their own"
    elif types.is_union(arrow_type):
        hint = "cast it to a struct with a column for each member"
    elif types.is_null(arrow_type):
        hint = "cast it to the type that its values will have, e.g. CAST(NULL AS string)"
    elif types.is_struct(arrow_type):
        hint = "give the struct at least one column, or leave it out"
    elif isinstance(arrow_type, pa.BaseExtensionType):
        hint = f"cast it to its storage type, {arrow_type.storage_type}"
    else:
        hint = (
            "cast it to binary" if types.is_fixed_size_binary(arrow_type) else "cast it to a type of the table format"
        )
    return SchemaError(
        f"column {path}: type {arrow_type} has no Iceberg counterpart",
        column=path,
        expected="a type that Iceberg knows",
        found=str(arrow_type),
        hint=hint,
    )


def _field_to_arrow(field: NestedField, path: str, field_ids: bool) -> pa.Field:
    metadata: dict[Any, Any] | None = {FIELD_ID_KEY: str(field.field_id)} if field_ids else None
    arrow_type = type_to_arrow(field.field_type, field_ids=field_ids, column=path)
    return pa.field(field.name, arrow_type, nullable=not field.required, metadata=metadata)


def join_path(parent: str, name: str) -> str:
    """The dotted path of a field below its parent's."""
    return f"{parent}.{name}" if parent else name


def _not_null(required: bool) -> str:
    return " not null" if required else ""
