"""The metrics of a data file, by field id: what its manifest entry says of each column.

Counts, sizes and bounds come from the file's own footer, so they describe what was written; only NaN values, which no
footer counts, are counted while the rows pass by. Three rules are stricter than in Parquet: a bound is never NaN; a
bound may be shortened, a lower one by cutting, an upper one by cutting and counting up the last character; and where
one row group has no statistics, the column has no bound, for a bound must hold for every row. Fields inside lists and
maps have counts and no bounds, as the Java implementation does it. Iceberg specification: "Data File Fields" and
"Appendix D: Single-value serialization".
"""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    MapType,
    PrimitiveType,
    StringType,
    StructType,
)

from icefusion.config import WriteProperties
from icefusion.errors import ConfigurationError
from icefusion.write.columns import LeafColumn

__all__ = [
    "FileMetrics",
    "MetricsMode",
    "column_bounds",
    "count_nans",
    "file_metrics",
    "metrics_modes",
    "truncate_lower",
    "truncate_upper",
]

DEFAULT_KEY = "write.metadata.metrics.default"
DEFAULT_LENGTH = 16
_TRUNCATE = re.compile(r"truncate\((\d+)\)\Z")


@dataclass(frozen=True)
class MetricsMode:
    """How much is kept of one column.

    Attributes:
        counts: Whether sizes and counts are kept.
        bounds: Whether bounds are kept.
        length: Characters or bytes that a bound of text or binary data may have; None for all of them.
    """

    counts: bool = True
    bounds: bool = True
    length: int | None = None


@dataclass(frozen=True)
class FileMetrics:
    """The metrics of one file, by field id; the names are those of the manifest entry."""

    column_sizes: dict[int, int] = field(default_factory=dict)
    value_counts: dict[int, int] = field(default_factory=dict)
    null_value_counts: dict[int, int] = field(default_factory=dict)
    nan_value_counts: dict[int, int] = field(default_factory=dict)
    lower_bounds: dict[int, bytes] = field(default_factory=dict)
    upper_bounds: dict[int, bytes] = field(default_factory=dict)


def metrics_modes(
    schema: Schema, leaves: Sequence[LeafColumn], properties: Mapping[str, str], sort_order: SortOrder | None = None
) -> dict[int, MetricsMode]:
    """The mode of each leaf column, by field id, as the ``write.metadata.metrics.*`` properties say.

    Without a default of its own, a table of more columns than ``max-inferred-column-defaults`` keeps metrics of the
    first ones only; a column that files are sorted by keeps bounds unless a property of its own says otherwise.

    Raises:
        ConfigurationError: A property names no mode.
    """
    options = WriteProperties.of(properties)
    default = _mode(options.metrics_default, DEFAULT_KEY)
    inferred = DEFAULT_KEY not in properties and len(leaves) > options.metrics_max_columns
    first = set(_first_ids(schema.as_struct(), options.metrics_max_columns)) if inferred else set()
    modes = {
        leaf.field_id: MetricsMode(False, False) if inferred and leaf.field_id not in first else default
        for leaf in leaves
    }
    for sort_field in sort_order.fields if sort_order else ():
        if sort_field.transform.preserves_order and not modes.get(sort_field.source_id, default).bounds:
            modes[sort_field.source_id] = MetricsMode(length=DEFAULT_LENGTH)
    for leaf in leaves:
        text = options.metrics_columns.get(leaf.name)
        if text is not None:
            modes[leaf.field_id] = _mode(text, f"write.metadata.metrics.column.{leaf.name}")
    return modes


def count_nans(table: pa.Table, leaves: Iterable[LeafColumn]) -> dict[int, int]:
    """How many NaN values each of the given leaves holds, by field id; leaves of other types are left out."""
    counts = {}
    for leaf in leaves:
        if isinstance(leaf.type, FloatType | DoubleType):
            counts[leaf.field_id] = sum(_nans(values) for values in leaf.values(table))
    return counts


def file_metrics(
    footer: pq.FileMetaData,
    leaves: Sequence[LeafColumn | None],
    modes: Mapping[int, MetricsMode],
    nan_counts: Mapping[int, int],
) -> FileMetrics:
    """The metrics of a file from its footer.

    Args:
        footer: The footer, whose columns are those of `leaves`, in the same order.
        leaves: The leaf columns; None for a column that is none of the table's.
        modes: The mode of each leaf, by field id.
        nan_counts: The NaN values of each floating-point leaf, by field id.
    """
    metrics = FileMetrics()
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    for position, leaf in enumerate(leaves):
        if leaf is None or not modes[leaf.field_id].counts:
            continue
        mode = modes[leaf.field_id]
        chunks = [group.column(position) for group in groups]
        statistics = [chunk.statistics for chunk in chunks]
        metrics.column_sizes[leaf.field_id] = sum(chunk.total_compressed_size for chunk in chunks)
        metrics.value_counts[leaf.field_id] = sum(chunk.num_values for chunk in chunks)
        if all(stats is not None and stats.has_null_count for stats in statistics):
            metrics.null_value_counts[leaf.field_id] = sum(stats.null_count for stats in statistics)
        if leaf.field_id in nan_counts:
            metrics.nan_value_counts[leaf.field_id] = nan_counts[leaf.field_id]
        if mode.bounds and not leaf.repeated:
            lower, upper = column_bounds(leaf.type, statistics, mode.length)
            if lower is not None:
                metrics.lower_bounds[leaf.field_id] = lower
            if upper is not None:
                metrics.upper_bounds[leaf.field_id] = upper
    return metrics


def truncate_lower(iceberg_type: PrimitiveType, value: bytes, length: int | None) -> bytes | None:
    """A lower bound of at most `length` characters (text) or bytes (binary), serialised; None where there is none."""
    if length is None:
        return value
    if isinstance(iceberg_type, StringType):
        text = _text(value)
        return None if text is None else text[:length].encode()
    return value[:length] if isinstance(iceberg_type, BinaryType | FixedType) else value


def truncate_upper(iceberg_type: PrimitiveType, value: bytes, length: int | None) -> bytes | None:
    """An upper bound of at most `length` characters or bytes: cut, then its last element counted up.

    An element that is the last of its kind (byte 0xFF, code point U+10FFFF) cannot be counted up, so the one before it
    is; where none can, there is no bound. Surrogates are no characters and are skipped.
    """
    if length is None:
        return value
    if isinstance(iceberg_type, StringType):
        text = _text(value)
        if text is None:
            return None
        return value if len(text) <= length else _next_text(text[:length])
    if isinstance(iceberg_type, BinaryType | FixedType) and len(value) > length:
        prefix = value[:length].rstrip(b"\xff")
        return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None
    return value


def _mode(text: str, key: str) -> MetricsMode:
    mode = text.strip().lower()
    if mode == "none":
        return MetricsMode(False, False)
    if mode == "counts":
        return MetricsMode(bounds=False)
    if mode == "full":
        return MetricsMode()
    match = _TRUNCATE.match(mode)
    if match is None or int(match[1]) == 0:
        raise ConfigurationError(f"{key}: unknown mode {text!r}", hint="one of none, counts, truncate(16), full")
    return MetricsMode(length=int(match[1]))


def _first_ids(struct_type: StructType, limit: int) -> list[int]:
    """The ids of the first `limit` leaves: those of a struct itself before those of its nested fields."""
    ids = [child.field_id for child in struct_type.fields if isinstance(child.field_type, PrimitiveType)]
    for child in struct_type.fields:
        if len(ids) >= limit:
            break
        match child.field_type:
            case StructType() as nested:
                ids.extend(_first_ids(nested, limit - len(ids)))
            case ListType() as nested_list:
                ids.extend(_first_ids(StructType(nested_list.element_field), limit - len(ids)))
            case MapType() as nested_map:
                ids.extend(_first_ids(StructType(nested_map.key_field, nested_map.value_field), limit - len(ids)))
    return ids[:limit]


def _nans(values: pa.Array) -> int:
    # A sum is NaN only if a value is, or if infinities met; it is far cheaper than looking at each value.
    total = pc.sum(values).as_py()
    if total is None or not math.isnan(total):
        return 0
    return int(pc.sum(pc.is_nan(values)).as_py() or 0)


def column_bounds(
    iceberg_type: PrimitiveType, statistics: Sequence[pq.Statistics | None], length: int | None
) -> tuple[bytes | None, bytes | None]:
    """The bounds of a column by the statistics of its chunks, serialised; None where there are none.

    Args:
        iceberg_type: The column's type.
        statistics: Those of its chunks.
        length: Characters or bytes that a bound of text or binary data may have; None for all of them.
    """
    floating = isinstance(iceberg_type, FloatType | DoubleType)
    lowers, uppers = [], []
    for stats in statistics:
        if stats is not None and stats.has_min_max:
            lowers.append(stats.min_raw)
            uppers.append(stats.max_raw)
        elif stats is None or not (stats.num_values == 0 or floating):
            # Values without statistics, such as very long ones. (Floating-point ones without any are all NaN.)
            return None, None
    if not lowers:
        return None, None
    key = _signed if isinstance(iceberg_type, DecimalType) and isinstance(lowers[0], bytes) else None
    # (Of the two zeros, Parquet's writer takes -0.0 for a least value and 0.0 for a greatest, so both are enclosed.)
    lower, upper = min(lowers, key=key), max(uppers, key=key)
    return (
        truncate_lower(iceberg_type, _serialise(iceberg_type, lower), length),
        truncate_upper(iceberg_type, _serialise(iceberg_type, upper), length),
    )


_NUMBERS: dict[type[PrimitiveType], str] = {
    BooleanType: "<?",
    IntegerType: "<i",
    DateType: "<i",
    FloatType: "<f",
    DoubleType: "<d",
}


def _serialise(iceberg_type: PrimitiveType, value: Any) -> bytes:
    """A value as Parquet stores it -> the same value as Iceberg serialises it."""
    if isinstance(iceberg_type, DecimalType):
        unscaled = _signed(value) if isinstance(value, bytes) else int(value)
        # The shortest big-endian two's complement form.
        magnitude = unscaled if unscaled >= 0 else ~unscaled
        return unscaled.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)
    if isinstance(value, bytes):
        return value
    return struct.pack(_NUMBERS.get(type(iceberg_type), "<q"), value)


def _signed(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _next_text(prefix: str) -> bytes | None:
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= 0x10FFFF:
            return (prefix[: end - 1] + chr(code)).encode()
    return None


def add_counts(total: defaultdict[int, int], counts: Mapping[int, int]) -> None:
    """Add counts by field id to a running total."""
    for field_id, count in counts.items():
        total[field_id] += count
