"""Metadata tables that the metadata file alone answers: history, snapshots, refs, its own log, properties, schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.types import (
    BooleanType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.partition import sort_order_to_sql
from icefusion.bridge.schema import join_path, type_name
from icefusion.query.generated import Part, arrow_schema, make_batch, make_fields
from icefusion.query.inspect.subject import Subject

__all__ = ["HISTORY", "METADATA_LOG", "PROPERTIES", "REFS", "SCHEMAS", "SNAPSHOTS", "shown_properties"]

Rows = Callable[[Subject], Iterator[tuple[Any, ...]]]
BATCH_ROWS = 4_096

_LONG, _INT, _TEXT, _TIME, _BOOL = LongType(), IntegerType(), StringType(), TimestamptzType(), BooleanType()


class PlainTable:
    """A metadata table of few rows, by the columns it has and a function that gives its rows as tuples."""

    def __init__(self, rows: Rows, *columns: tuple[str, Any]) -> None:
        self._fields = make_fields(*columns)
        self._schema = arrow_schema(self._fields)
        self._rows = rows

    def fields(self, subject: Subject) -> Schema:  # noqa: ARG002 - they are the same for all tables
        """The columns."""
        return self._fields

    def parts(self, subject: Subject, reader: ManifestReader) -> list[Part]:  # noqa: ARG002 - no manifest is read
        """The one part it has."""

        def make(_: Any, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            rows = list(self._rows(subject))
            places = {name: place for place, name in enumerate(self._schema.names)}
            for start in range(0, len(rows), BATCH_ROWS):
                some = rows[start : start + BATCH_ROWS]
                columns = {name: [row[place] for row in some] for name, place in places.items() if name in wanted}
                yield make_batch(self._schema, wanted, {name: _constant(values) for name, values in columns.items()})

        return [Part(make)]


def _constant(values: list[Any]) -> Callable[[pa.DataType], Any]:
    return lambda _: values


def _history(subject: Subject) -> Iterator[tuple[Any, ...]]:
    metadata = subject.metadata
    snapshots = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    ancestors = _ancestors(metadata.current_snapshot_id, snapshots)
    for entry in metadata.snapshot_log:
        known = snapshots.get(entry.snapshot_id)
        parent = known.parent_snapshot_id if known is not None else None
        yield entry.timestamp_ms * 1000, entry.snapshot_id, parent, entry.snapshot_id in ancestors


def _ancestors(snapshot_id: int | None, snapshots: dict[int, Snapshot]) -> set[int]:
    found: set[int] = set()
    while snapshot_id is not None and snapshot_id in snapshots and snapshot_id not in found:
        found.add(snapshot_id)
        snapshot_id = snapshots[snapshot_id].parent_snapshot_id
    return found


def _snapshots(subject: Subject) -> Iterator[tuple[Any, ...]]:
    for snapshot in subject.metadata.snapshots:
        summary = snapshot.summary
        yield (
            snapshot.timestamp_ms * 1000,
            snapshot.snapshot_id,
            snapshot.parent_snapshot_id,
            summary.operation.value if summary is not None else None,
            snapshot.manifest_list,
            sorted(summary.additional_properties.items()) if summary is not None else None,
        )


def _refs(subject: Subject) -> Iterator[tuple[Any, ...]]:
    for name, ref in subject.metadata.refs.items():
        yield (
            name,
            ref.snapshot_ref_type.value.upper(),
            ref.snapshot_id,
            ref.max_ref_age_ms,
            ref.min_snapshots_to_keep,
            ref.max_snapshot_age_ms,
        )


def _metadata_log(subject: Subject) -> Iterator[tuple[Any, ...]]:
    metadata = subject.metadata
    entries = [(entry.timestamp_ms, entry.metadata_file) for entry in metadata.metadata_log]
    for timestamp_ms, file in [*entries, (metadata.last_updated_ms, subject.metadata_location)]:
        latest = [entry.snapshot_id for entry in metadata.snapshot_log if entry.timestamp_ms <= timestamp_ms]
        snapshot = metadata.snapshot_by_id(latest[-1]) if latest else None
        yield (
            timestamp_ms * 1000,
            file,
            latest[-1] if latest else None,
            snapshot.schema_id if snapshot is not None else None,
            snapshot.sequence_number if snapshot is not None else None,
        )


def shown_properties(metadata: TableMetadata) -> dict[str, str]:
    """A table's properties in the order of their names, with those that other engines show beside them."""
    schema = metadata.schema()
    current = metadata.current_snapshot_id
    shown = {
        "current-snapshot-id": "none" if current is None else str(current),
        "format": f"iceberg/{metadata.properties.get('write.format.default', 'parquet')}",
        "format-version": str(metadata.format_version),
    }
    if schema.identifier_field_ids:
        names = sorted(schema.find_column_name(key) or str(key) for key in schema.identifier_field_ids)
        shown["identifier-fields"] = f"[{','.join(names)}]"
    if ordering := sort_order_to_sql(_sort_order(metadata), schema):
        shown["sort-order"] = ordering
    return dict(sorted((shown | metadata.properties).items()))


def _sort_order(metadata: TableMetadata) -> SortOrder:
    return metadata.sort_order_by_id(metadata.default_sort_order_id) or UNSORTED_SORT_ORDER


def _properties(subject: Subject) -> Iterator[tuple[Any, ...]]:
    yield from shown_properties(subject.metadata).items()


def _schemas(subject: Subject) -> Iterator[tuple[Any, ...]]:
    metadata = subject.metadata
    for schema in metadata.schemas:
        current = schema.schema_id == metadata.current_schema_id
        for path, field in _fields_below("", schema.fields):
            yield (
                schema.schema_id,
                current,
                field.field_id,
                path,
                type_name(field.field_type),
                field.required,
                field.field_id in schema.identifier_field_ids,
                field.doc,
                _default(field.initial_default),
                _default(field.write_default),
            )


def _fields_below(parent: str, fields: Sequence[NestedField]) -> Iterator[tuple[str, NestedField]]:
    for field in fields:
        path = join_path(parent, field.name)
        yield path, field
        yield from _fields_below(path, _children(field))


def _children(field: NestedField) -> Sequence[NestedField]:
    match field.field_type:
        case StructType():
            return field.field_type.fields
        case ListType():
            return (field.field_type.element_field,)
        case MapType():
            return (field.field_type.key_field, field.field_type.value_field)
    return ()


def _default(value: Any) -> str | None:
    return None if value is None else str(value)


HISTORY = PlainTable(
    _history,
    ("made_current_at", _TIME),
    ("snapshot_id", _LONG),
    ("parent_id", _LONG),
    ("is_current_ancestor", _BOOL),
)
SNAPSHOTS = PlainTable(
    _snapshots,
    ("committed_at", _TIME),
    ("snapshot_id", _LONG),
    ("parent_id", _LONG),
    ("operation", _TEXT),
    ("manifest_list", _TEXT),
    ("summary", MapType(0, _TEXT, 0, _TEXT, value_required=False)),
)
REFS = PlainTable(
    _refs,
    ("name", _TEXT),
    ("type", _TEXT),
    ("snapshot_id", _LONG),
    ("max_reference_age_in_ms", _LONG),
    ("min_snapshots_to_keep", _INT),
    ("max_snapshot_age_in_ms", _LONG),
)
METADATA_LOG = PlainTable(
    _metadata_log,
    ("timestamp", _TIME),
    ("file", _TEXT),
    ("latest_snapshot_id", _LONG),
    ("latest_schema_id", _INT),
    ("latest_sequence_number", _LONG),
)
PROPERTIES = PlainTable(_properties, ("key", _TEXT), ("value", _TEXT))
SCHEMAS = PlainTable(
    _schemas,
    ("schema_id", _INT),
    ("is_current", _BOOL),
    ("field_id", _INT),
    ("column", _TEXT),
    ("type", _TEXT),
    ("required", _BOOL),
    ("is_identifier", _BOOL),
    ("doc", _TEXT),
    ("initial_default", _TEXT),
    ("write_default", _TEXT),
)
