"""Partition transforms over whole arrays, and rows grouped by their partition.

The results are those of PyIceberg's transforms, value for value ("Partition Transforms" and "Appendix B: 32-bit Hash
Requirements" of the Iceberg specification). Values that only exist outside of their type's range, such as the multiple
of 10 below the smallest int, are an error.

Grouping follows the equality that the reference implementation partitions by: NULL is a value of its own, all NaN are
one, and -0.0 is not 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyiceberg_core.transform as core
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import DecimalType, IcebergType
from pyiceberg.utils.decimal import decimal_required_bytes

from icefusion.bridge.exact import null_mask, values_or_zero
from icefusion.bridge.schema import type_name, type_to_arrow
from icefusion.errors import SchemaError

__all__ = ["partition_groups", "transform_array"]

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_LOOKUP_LIMIT = 1 << 22  # combinations of codes that are numbered by a table instead of a hash
_HASH_ROWS = 1 << 15  # rows hashed at once, so that the intermediate results stay in the processor's cache

Integers = npt.NDArray[np.integer[Any]]


def transform_array(transform: Transform[Any, Any], array: pa.Array, source_type: IcebergType) -> pa.Array:
    """Apply a partition transform to an array of the canonical Arrow type of `source_type`.

    Returns:
        An array of the canonical type of the transform's result: int32 for bucket, year, month and hour, date32 for
        day, the source's type otherwise. NULL stays NULL.

    Raises:
        SchemaError: A result is outside of its type's range, or the transform is not known.
    """
    match transform:
        case IdentityTransform():
            return array
        case VoidTransform():
            return pa.nulls(len(array), type_to_arrow(source_type))
        case BucketTransform():
            return _bucket(transform.num_buckets, array)
        case TruncateTransform():
            return _truncate(transform.width, array, source_type)
        case YearTransform() | MonthTransform() | DayTransform() | HourTransform():
            return _calendar(transform, array)
    raise SchemaError(
        f"partition transform {transform} is not known", hint="use a version of icefusion that knows it to write"
    )


def partition_groups(columns: Sequence[pa.Array]) -> tuple[npt.NDArray[np.int32], list[tuple[Any, ...]]]:
    """Number the distinct rows of some columns of equal length.

    Returns:
        The code of every row, dense from 0, and the key of every code. Keys hold values as a partition record does:
        days, microseconds and UUID bytes instead of Python's dates, times and UUIDs.
    """
    if not columns:
        raise ValueError("expected at least one column")
    codes: Integers = np.zeros(len(columns[0]), np.int64)
    keys: list[tuple[int, ...]] = [()]
    dictionaries = []
    for column in columns:
        inner, values = _encode(column)
        dictionaries.append(values)
        if len(keys) == 1:
            codes, keys = inner, [(*keys[0], code) for code in range(len(values))]
            continue
        width = max(1, len(values))
        codes, distinct = _dense(codes.astype(np.int64) * width + inner, len(keys) * width)
        keys = [(*keys[pair // width], pair % width) for pair in distinct.tolist()]
    named = [tuple(values[code] for values, code in zip(dictionaries, key, strict=True)) for key in keys]
    return codes.astype(np.int32, copy=False), named


def _bucket(count: int, array: pa.Array) -> pa.Array:
    types = pa.types
    ticks = None
    if types.is_integer(array.type) or types.is_date32(array.type):
        ticks = values_or_zero(array.view(pa.int32()) if array.type.bit_width == 32 else array).astype(np.int64)
    elif types.is_time64(array.type) or types.is_timestamp(array.type):
        ticks = values_or_zero(array.view(pa.int64()))
        if array.type.unit == "ns":
            ticks = ticks // 1000  # nanoseconds hash like the microseconds that they fall in
    if ticks is None:
        return core.bucket(array.storage if isinstance(array.type, pa.UuidType) else array, count)
    buckets = np.empty(len(ticks), np.int32)
    for start in range(0, len(ticks), _HASH_ROWS):
        piece = slice(start, start + _HASH_ROWS)
        buckets[piece] = (_murmur3(ticks[piece]) & np.uint32(0x7FFFFFFF)) % np.uint32(count)
    return pa.array(buckets, mask=null_mask(array))


def _murmur3(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The 32 bit murmur3 hash (x86 variant, seed 0) of each value's 8 bytes, little-endian."""
    words = np.ascontiguousarray(values).view(np.uint32).reshape(-1, 2)
    state = np.zeros(len(values), np.uint32)
    for half in (0, 1):
        mixed = words[:, half] * np.uint32(0xCC9E2D51)
        state ^= ((mixed << np.uint32(15)) | (mixed >> np.uint32(17))) * np.uint32(0x1B873593)
        state = ((state << np.uint32(13)) | (state >> np.uint32(19))) * np.uint32(5) + np.uint32(0xE6546B64)
    state ^= np.uint32(8)
    state ^= state >> np.uint32(16)
    state *= np.uint32(0x85EBCA6B)
    state ^= state >> np.uint32(13)
    state *= np.uint32(0xC2B2AE35)
    return state ^ (state >> np.uint32(16))


def _truncate(width: int, array: pa.Array, source_type: IcebergType) -> pa.Array:
    types = pa.types
    if types.is_string(array.type):
        return pc.utf8_slice_codeunits(array, 0, width)
    if types.is_binary(array.type):
        return pc.binary_slice(array, 0, width)
    if isinstance(source_type, DecimalType):
        return _truncate_decimal(width, array, source_type)
    values = values_or_zero(array)
    rest = values % width if width <= np.iinfo(values.dtype).max else values.astype(object) % width
    if len(values) and (values < np.iinfo(values.dtype).min + rest).any():
        raise _beyond(width, source_type)
    return pa.array((values - rest).astype(values.dtype), mask=null_mask(array))


def _truncate_decimal(width: int, array: pa.Array, source_type: DecimalType) -> pa.Array:
    """Down to a multiple of `width` units of the last place.

    The result may have a digit more than the type (-99.99 by 50 is -100.00). Partition values are kept in a fixed
    number of bytes, so it is fine as long as it fits those.
    """
    valid = array.drop_null() if array.null_count else array
    pairs = np.frombuffer(valid.buffers()[1], np.int64).reshape(-1, 2)[valid.offset : valid.offset + len(valid)]
    low, high = pairs[:, 0], pairs[:, 1]
    most = 1 << (8 * decimal_required_bytes(source_type.precision) - 1)
    if (high == low >> 63).all() and width < 2**62 and (not len(low) or low.min() > -(2**62)):
        numbers = low - low % width
        if len(numbers) and numbers.min() < -most:
            raise _beyond(width, source_type)
        digits = np.stack([numbers, numbers >> 63], axis=1)
    else:
        wide = [(h << 64) + (w & (2**64 - 1)) for w, h in zip(low.tolist(), high.tolist(), strict=True)]
        wide = [number - number % width for number in wide]
        if min(wide) < -most:
            raise _beyond(width, source_type)
        digits = np.frombuffer(b"".join(n.to_bytes(16, "little", signed=True) for n in wide), np.int64).reshape(-1, 2)
    spread = np.zeros((len(array), 2), np.int64)
    mask = null_mask(array)
    spread[slice(None) if mask is None else ~mask] = digits
    validity = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    return pa.Array.from_buffers(array.type, len(array), [validity, pa.py_buffer(spread)])


def _calendar(transform: Transform[Any, Any], array: pa.Array) -> pa.Array:
    if pa.types.is_date32(array.type):
        if isinstance(transform, DayTransform):
            return array
        return pa.array(_periods(transform, values_or_zero(array.view(pa.int32()))), mask=null_mask(array))
    ticks = values_or_zero(array.view(pa.int64()))
    per_us = 1000 if array.type.unit == "ns" else 1
    if isinstance(transform, HourTransform):
        hours = ticks // (_HOUR_US * per_us)
        if len(hours) and not -(2**31) <= hours.min() <= hours.max() < 2**31:
            raise SchemaError("a timestamp is too far from 1970 for its hour to be a partition value")
        return pa.array(hours.astype(np.int32), mask=null_mask(array))
    days = (ticks // (_DAY_US * per_us)).astype(np.int32)
    if isinstance(transform, DayTransform):
        return pa.array(days, mask=null_mask(array)).view(pa.date32())
    return pa.array(_periods(transform, days), mask=null_mask(array))


def _periods(transform: Transform[Any, Any], days: Integers) -> npt.NDArray[np.int32]:
    """Years or months since 1970 of days since 1970."""
    unit = "datetime64[Y]" if isinstance(transform, YearTransform) else "datetime64[M]"

    def convert(some: Integers) -> npt.NDArray[np.int32]:
        return some.astype("datetime64[D]").astype(unit).astype(np.int64).astype(np.int32)

    if not len(days):
        return convert(days)
    first, last = int(days.min()), int(days.max())
    if last - first >= len(days):
        return convert(days)
    return convert(np.arange(first, last + 1))[days - first]


def _encode(column: pa.Array) -> tuple[Integers, list[Any]]:
    """The codes of a column's values, and the values that they stand for, in the form of partition records."""
    arrow = column.type
    types = pa.types
    if isinstance(arrow, pa.UuidType):
        column = column.storage
    elif types.is_temporal(arrow):
        column = column.view(pa.int32() if arrow.bit_width == 32 else pa.int64())
    elif types.is_floating(arrow):
        return _encode_floats(column)
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _encode_floats(column: pa.Array) -> tuple[Integers, list[Any]]:
    """By their bits, which tell -0.0 from 0.0, with all NaN made the same first."""
    integers = pa.int32() if column.type == pa.float32() else pa.int64()
    same = pc.if_else(pc.is_nan(column), pa.scalar(float("nan"), column.type), column)
    encoded = same.view(integers).dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(), encoded.dictionary.view(column.type).to_pylist()


def _dense(pairs: npt.NDArray[np.int64], possible: int) -> tuple[Integers, Integers]:
    """Number the values that occur, and list them."""
    if possible <= _LOOKUP_LIMIT:
        seen = np.zeros(possible, np.bool_)
        seen[pairs] = True
        distinct = np.flatnonzero(seen)
        number = np.empty(possible, np.int32)
        number[distinct] = np.arange(len(distinct), dtype=np.int32)
        return number[pairs], distinct
    encoded = pa.array(pairs).dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_numpy()


def _beyond(width: int, source_type: IcebergType) -> SchemaError:
    return SchemaError(
        f"truncate({width}) of a value near the smallest {type_name(source_type)} is outside of that type",
        hint="use a wider type for the column, or another transform",
    )
