"""Which Arrow types can go into which Iceberg types, and by which cast: the table of docs/types.md as code."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge import exact, exact_time
from icefusion.bridge.exact import Cast, MisfitError
from icefusion.bridge.schema import type_name
from icefusion.errors import SchemaError

__all__ = ["decoder", "scalar_cast"]

_TEXT_KINDS: dict[type[IcebergType], str] = {
    DateType: "date",
    TimeType: "time",
    TimestampType: "timestamp",
    TimestampNanoType: "timestamp",
    TimestamptzType: "timestamptz",
    TimestamptzNanoType: "timestamptz",
}
_MAX_BYTES = 2**31 - 1  # of text or bytes in one array with 32 bit offsets


def decoder(source: pa.DataType) -> tuple[Cast | None, pa.DataType]:
    """How to undo an encoding (dictionary, run-end, ``arrow.json``, ``arrow.bool8``), and the type below it."""
    types = pa.types
    if types.is_dictionary(source) or types.is_run_end_encoded(source):
        take = _take_dictionary if types.is_dictionary(source) else _take_runs
        values = _without_view(source.value_type)
        inner, plain = decoder(values)
        return (take if inner is None else lambda array: inner(take(array))), plain
    if isinstance(source, pa.JsonType):
        return (lambda array: array.storage), source.storage_type
    if isinstance(source, pa.Bool8Type):
        return (lambda array: array.storage.cast(pa.bool_())), pa.bool_()
    return None, source


def scalar_cast(source: pa.DataType, target: IcebergType, arrow: pa.DataType, path: str) -> Cast | None:
    """The exact cast of a decoded Arrow type into a primitive Iceberg type; None where they are the same type.

    Raises:
        SchemaError: There is none, or one of the types is nested and the other is not the same kind.
    """
    if source == arrow:
        return None
    cast = None if not target.is_primitive else _pick(source, target, arrow)
    if cast is None:
        raise _refusal(source, target, path)
    return _attributed(cast, path, type_name(target), str(source))


def _pick(source: pa.DataType, target: IcebergType, arrow: pa.DataType) -> Cast | None:
    types = pa.types
    match target:
        case IntegerType() | LongType():
            return _to_integer(source, arrow)
        case FloatType() | DoubleType():
            return _to_float(source, arrow)
        case DecimalType():
            return _to_decimal(source, arrow)
        case StringType():
            return _narrow_offsets(arrow) if is_text(source) else None
        case BinaryType():
            return _narrow_offsets(arrow) if is_bytes(source) or types.is_fixed_size_binary(source) else None
        case FixedType():
            if source == pa.uuid():
                return (lambda array: array.storage) if len(target) == 16 else None
            return exact_time.binary_to_fixed(arrow) if is_bytes(source) else None
        case UUIDType():
            if source == pa.binary(16):
                return exact_time.fixed_to_uuid
            return exact_time.text_to_uuid if is_text(source) else None
    if (kind := _TEXT_KINDS.get(type(target))) and is_text(source):
        return exact_time.text_to_temporal(kind, arrow)
    return exact_time.retick(source, arrow) if _meet_in_time(source, target) else None


def is_text(source: pa.DataType) -> bool:
    """Whether an Arrow type is one of the string types."""
    return bool(source in (pa.string(), pa.large_string(), pa.string_view()))


def is_bytes(source: pa.DataType) -> bool:
    """Whether an Arrow type is one of the binary types of any length."""
    return bool(source in (pa.binary(), pa.large_binary(), pa.binary_view()))


def _to_integer(source: pa.DataType, arrow: pa.DataType) -> Cast | None:
    if pa.types.is_integer(source):
        return exact.plain_cast(arrow, "is out of range")
    if pa.types.is_floating(source):
        return exact.float_to_integer(arrow)
    return exact.plain_cast(arrow, "is not a whole number in range") if pa.types.is_decimal(source) else None


def _to_float(source: pa.DataType, arrow: pa.DataType) -> Cast | None:
    if pa.types.is_integer(source):
        return exact.integer_to_float(arrow)
    if pa.types.is_floating(source):
        return exact.float_to_float(arrow)
    return exact.decimal_to_float(arrow) if pa.types.is_decimal(source) else None


def _to_decimal(source: pa.DataType, arrow: pa.DataType) -> Cast | None:
    if pa.types.is_integer(source):
        return exact.integer_to_decimal(arrow)
    if pa.types.is_floating(source):
        return exact.float_to_decimal(arrow)
    if pa.types.is_decimal(source):
        return exact.plain_cast(arrow, "has more digits than the type allows")
    return None


def _meet_in_time(source: pa.DataType, target: IcebergType) -> bool:
    """Whether a temporal type converts without a time zone being made up."""
    types = pa.types
    zoned = types.is_timestamp(source) and source.tz is not None
    match target:
        case DateType():
            return bool(types.is_date(source) or (types.is_timestamp(source) and not zoned))
        case TimeType():
            return bool(types.is_time(source))
        case TimestampType() | TimestampNanoType():
            return bool(types.is_date(source) or (types.is_timestamp(source) and not zoned))
        case TimestamptzType() | TimestamptzNanoType():
            return zoned
    return False


def _narrow_offsets(arrow: pa.DataType) -> Cast:
    def cast(array: pa.Array) -> pa.Array:
        try:
            return array.cast(arrow)
        except pa.ArrowInvalid as exc:
            raise SchemaError(
                f"one batch holds more than {_MAX_BYTES} bytes of {array.type} in one column: {exc}",
                hint="write smaller batches",
            ) from exc

    return cast


def _attributed(cast: Cast, path: str, expected: str, found: str) -> Cast:
    def attributed(array: pa.Array) -> pa.Array:
        try:
            return cast(array)
        except MisfitError as exc:
            exc.column, exc.expected, exc.found = path, expected, found
            raise

    return attributed


def _without_view(arrow_type: pa.DataType) -> pa.DataType:
    """pyarrow's `take` has no kernel for views, so views are made plain before."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return plain.get(arrow_type, arrow_type)


def _take_dictionary(array: pa.Array) -> pa.Array:
    return array.dictionary.cast(_without_view(array.type.value_type)).take(array.indices)


def _take_runs(array: pa.Array) -> pa.Array:
    ends = array.run_ends.to_numpy()
    rows = np.arange(array.offset, array.offset + len(array))
    runs = np.searchsorted(ends, rows, side="right")
    return array.values.cast(_without_view(array.type.value_type)).take(pa.array(runs))


def _refusal(source: pa.DataType, target: IcebergType, path: str) -> SchemaError:
    wanted = type_name(target)
    types = pa.types
    if (
        type(target) in _TEXT_KINDS
        and not isinstance(target, TimeType)
        and (types.is_timestamp(source) or types.is_date(source))
    ):
        hint = f"CAST it to {wanted}, which takes the zone as UTC"
    elif target.is_primitive and not types.is_nested(source):
        hint = f"CAST it to {wanted} if that is what is meant"
    else:
        hint = f"give the column values of type {wanted}"
    return SchemaError(
        f"column {path}: values of type {source} do not go into {wanted}",
        column=path,
        expected=wanted,
        found=str(source),
        hint=hint,
    )
