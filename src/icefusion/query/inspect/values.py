"""Partition values, bounds and metrics of single files, as columns.

A table may have had several partition specs. Their fields together make one struct, as in the reference
implementation: one field for each field id, under the name that the newest spec gives it, in the order of the ids;
what a file's own spec does not have is NULL. A field that became `void` when its column was dropped, as in tables of
format version 1, keeps the type that it had before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import UnknownTransform, VoidTransform
from pyiceberg.types import (
    DateType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.schema import type_to_arrow
from icefusion.errors import SchemaError

__all__ = ["MetricColumn", "PartitionType", "metric_columns", "metrics_array", "metrics_type", "read_bound"]

MICROS_PER_DAY = 86_400_000_000
_NONE: Mapping[int, Any] = {}
_PLAIN_BOUNDS: dict[type[IcebergType], struct.Struct] = {
    IntegerType: struct.Struct("<i"),
    LongType: struct.Struct("<q"),
    FloatType: struct.Struct("<f"),
    DoubleType: struct.Struct("<d"),
    DateType: struct.Struct("<i"),
    TimeType: struct.Struct("<q"),
    TimestampType: struct.Struct("<q"),
    TimestamptzType: struct.Struct("<q"),
}
_METRICS = ("column_size", "value_count", "null_value_count", "nan_value_count")


class PartitionType:
    """The partition fields of all specs of a table as one struct.

    Attributes:
        fields: Its fields, with the ids that the specs give them.
    """

    def __init__(self, metadata: TableMetadata) -> None:
        self._metadata = metadata
        self._types: dict[int, PrimitiveType] = {}
        names: dict[int, str] = {}
        taken: set[str] = set()
        voids: set[int] = set()
        for spec in sorted(metadata.specs().values(), key=lambda spec: spec.spec_id, reverse=True):
            for field in spec.fields:
                void = isinstance(field.transform, VoidTransform)
                if field.field_id not in names:
                    # Of fields of one name the newest has it; older ones are told apart as Java does it in version 1.
                    names[field.field_id] = f"{field.name}_{field.field_id}" if field.name in taken else field.name
                    taken.add(field.name)
                elif field.field_id not in voids or void:
                    continue
                self._types[field.field_id] = _field_type(field, metadata)
                (voids.add if void else voids.discard)(field.field_id)
        self.fields = tuple(
            NestedField(field_id, names[field_id], _shown_type(self._types[field_id]), required=False)
            for field_id in sorted(names)
        )
        self._places: dict[int, tuple[tuple[int, int | None], ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.fields)

    @property
    def struct_type(self) -> StructType:
        """The struct."""
        return StructType(*self.fields)

    def stored_type(self, field_id: int) -> PrimitiveType:
        """The type that a field is stored as."""
        return self._types[field_id]

    def places(self, spec_id: int) -> tuple[tuple[int, int | None], ...]:
        """For each field its id, and where it stands in a spec; None where the spec does not have it."""
        if spec_id not in self._places:
            spec = self._metadata.specs().get(spec_id)
            places = {field.field_id: place for place, field in enumerate(spec.fields)} if spec is not None else {}
            self._places[spec_id] = tuple((field.field_id, places.get(field.field_id)) for field in self.fields)
        return self._places[spec_id]

    def values(self, file: DataFile) -> tuple[Any, ...]:
        """A file's partition, in the order of the fields, as values that Arrow takes for their types."""
        record = file.partition
        size = len(record)
        return tuple(
            _shown(record[place]) if place is not None and place < size else None
            for _, place in self.places(file.spec_id or 0)
        )

    def array(self, rows: Sequence[tuple[Any, ...]], kind: pa.StructType) -> pa.Array:
        """Partitions as an array of structs."""
        children = [pa.array([row[place] for row in rows], kind.field(place).type) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=[kind.field(place) for place in range(kind.num_fields)])


def _field_type(field: PartitionField, metadata: TableMetadata) -> PrimitiveType:
    """What a partition field holds; text where that cannot be told any more."""
    source: IcebergType = StringType()
    for schema in (metadata.schema(), *reversed(metadata.schemas)):
        if schema.find_column_name(field.source_id) is not None:
            source = schema.find_type(field.source_id)
            break
    if isinstance(field.transform, UnknownTransform):
        return StringType()
    result = field.transform.result_type(source)
    return result if isinstance(result, PrimitiveType) else StringType()


def _shown_type(kind: PrimitiveType) -> PrimitiveType:
    """UUIDs are shown as text, as the reference implementation does it, and what Arrow has no type for as well."""
    if isinstance(kind, UUIDType):
        return StringType()
    try:
        type_to_arrow(kind)
    except SchemaError:
        return StringType()
    return kind


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


@dataclass(frozen=True)
class MetricColumn:
    """A column that files may have metrics of.

    Attributes:
        name: Its dotted path.
        field_id: Its id.
        type: Its type.
    """

    name: str
    field_id: int
    type: PrimitiveType


def metric_columns(schema: Schema) -> tuple[MetricColumn, ...]:
    """The columns of single values at any depth, by name."""
    found = []
    for field_id, name in schema._lazy_id_to_name.items():
        kind = schema.find_type(field_id)
        if isinstance(kind, PrimitiveType):
            found.append(MetricColumn(name, field_id, kind))
    return tuple(sorted(found, key=lambda column: column.name))


def metrics_type(columns: Sequence[MetricColumn]) -> StructType:
    """The type of ``readable_metrics``."""
    return StructType(
        *(
            NestedField(
                0,
                column.name,
                StructType(
                    *(NestedField(0, name, LongType(), required=False) for name in _METRICS),
                    NestedField(0, "lower_bound", _shown_type(column.type), required=False),
                    NestedField(0, "upper_bound", _shown_type(column.type), required=False),
                ),
                required=False,
            )
            for column in columns
        )
    )


def metrics_array(files: Sequence[DataFile], columns: Sequence[MetricColumn], kind: pa.StructType) -> pa.Array:
    """The metrics of files, as an array of the type that `metrics_type` describes."""
    children = [_column_metrics(files, column, kind.field(place).type) for place, column in enumerate(columns)]
    return pa.StructArray.from_arrays(children, fields=[kind.field(place) for place in range(kind.num_fields)])


_READERS: tuple[Callable[[DataFile], Mapping[int, Any] | None], ...] = (
    lambda file: file.column_sizes,
    lambda file: file.value_counts,
    lambda file: file.null_value_counts,
    lambda file: file.nan_value_counts,
)


def _column_metrics(files: Sequence[DataFile], column: MetricColumn, kind: pa.StructType) -> pa.Array:
    key = column.field_id
    counts: list[list[Any]] = [[(read(file) or _NONE).get(key) for file in files] for read in _READERS]
    bounds = [
        _read_bounds(column.type, [(file.lower_bounds or _NONE).get(key) for file in files]),
        _read_bounds(column.type, [(file.upper_bounds or _NONE).get(key) for file in files]),
    ]
    fields = [kind.field(place) for place in range(kind.num_fields)]
    arrays = [pa.array(values, field.type) for values, field in zip([*counts, *bounds], fields, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _read_bounds(kind: PrimitiveType, stored: Sequence[bytes | None]) -> list[Any]:
    """As `read_bound`, of many bounds at once."""
    plain = _PLAIN_BOUNDS.get(type(kind))
    if plain is None:
        return [read_bound(kind, each) for each in stored]
    size, unpack = plain.size, plain.unpack
    return [
        None if each is None else unpack(each)[0] if len(each) == size else read_bound(kind, each) for each in stored
    ]


def read_bound(kind: PrimitiveType, stored: bytes | None) -> Any:
    """A bound as a value that Arrow takes for the type; None where it cannot be read.

    A bound keeps the width that the column had when it was written. Text that was cut off within a letter is shown
    with a sign in that letter's place.
    """
    if stored is None:
        return None
    try:
        match kind:
            case StringType():
                return stored.decode("utf-8", "replace")
            case UUIDType():
                return str(UUID(bytes=bytes(stored)))
            case LongType() if len(stored) == 4:
                return struct.unpack("<i", stored)[0]
            case DoubleType() if len(stored) == 4:
                return struct.unpack("<f", stored)[0]
            case TimestampType() | TimestamptzType() if len(stored) == 4:
                return struct.unpack("<i", stored)[0] * MICROS_PER_DAY
            case DateType() if len(stored) == 8:
                return struct.unpack("<q", stored)[0] // MICROS_PER_DAY
        return from_bytes(kind, stored)
    except Exception:  # whatever another writer put there
        return None
