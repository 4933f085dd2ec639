"""The files that manifests list, and their entries, as rows.

One manifest is a part. Its partition summaries bound the partition columns, as they do when a scan is planned, and
what else a manifest list says of a manifest bounds the other columns: which spec, data or deletes, how old. Of a table
that was changed a thousand times, ``all_files`` walks through the manifest lists of all snapshots and remembers the
manifests it has seen by their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import pyarrow as pa
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import (
    BinaryType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
)

from icefusion.bridge.entries import read_entries
from icefusion.bridge.locations import unreadable
from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.row_ids import FIRST_ROW_ID, assign_row_ids, read_row_ids
from icefusion.query.generated import Bounds, Part, Range, arrow_schema, exactly, make_batch, make_fields
from icefusion.query.inspect.subject import Subject
from icefusion.query.inspect.values import PartitionType, metric_columns, metrics_array, metrics_type

__all__ = ["FileTable", "list_manifests", "load_entries"]

BATCH_VALUES = 100_000
"""How many values a batch has at most, besides a fixed number of columns: tables of many columns get small batches."""
BATCH_ROWS = 2_048

METRICS = "readable_metrics"
PARTITION = "partition"

_INT, _LONG, _TEXT, _BYTES = IntegerType(), LongType(), StringType(), BinaryType()


def _map(value: PrimitiveType) -> MapType:
    return MapType(0, _INT, 0, value, value_required=False)


def _file_columns(partition: PartitionType) -> list[tuple[str, Any]]:
    """The columns of a file; a table that was never partitioned has no partition."""
    return [
        ("content", _INT),
        ("file_path", _TEXT),
        ("file_format", _TEXT),
        ("spec_id", _INT),
        *([(PARTITION, partition.struct_type)] if partition else []),
        ("record_count", _LONG),
        ("file_size_in_bytes", _LONG),
        ("column_sizes", _map(_LONG)),
        ("value_counts", _map(_LONG)),
        ("null_value_counts", _map(_LONG)),
        ("nan_value_counts", _map(_LONG)),
        ("lower_bounds", _map(_BYTES)),
        ("upper_bounds", _map(_BYTES)),
        ("key_metadata", _BYTES),
        ("split_offsets", ListType(0, _LONG, element_required=False)),
        ("equality_ids", ListType(0, _INT, element_required=False)),
        ("sort_order_id", _INT),
        ("first_row_id", _LONG),
        ("referenced_data_file", _TEXT),
        ("content_offset", _LONG),
        ("content_size_in_bytes", _LONG),
    ]


_BEHIND_VERSION_2 = ("first_row_id", "referenced_data_file", "content_offset", "content_size_in_bytes")


class FileTable:
    """``files``, ``entries`` and their kin.

    Args:
        content: Which manifests count: those of data, of deletes, or all.
        every_snapshot: Whether those of all snapshots count, each once.
        entries: Whether the entries are shown as such, those of removed files among them.
    """

    def __init__(
        self,
        content: Literal["data", "deletes"] | None = None,
        *,
        every_snapshot: bool = False,
        entries: bool = False,
    ) -> None:
        self._content = content
        self._every_snapshot = every_snapshot
        self._entries = entries

    def fields(self, subject: Subject) -> Schema:
        """The columns."""
        return self._shape(subject).fields

    def _shape(self, subject: Subject) -> _Shape:
        # A table of a thousand columns has seven thousand fields here.
        shape: _Shape | None = subject.memo.get("shape")
        if shape is None:
            shape = subject.memo["shape"] = _Shape(subject, self._entries)
        return shape

    def parts(self, subject: Subject, reader: ManifestReader) -> Iterator[Part]:
        """One for each manifest."""
        shape = self._shape(subject)
        numbered = subject.metadata.format_version > 2
        row_ids: Mapping[str, int] = {}
        last: Snapshot | None = None
        for snapshot, manifest in list_manifests(subject, reader, every_snapshot=self._every_snapshot):
            if numbered and snapshot is not last:
                row_ids, last = read_row_ids(snapshot, subject.io), snapshot
            of_deletes = manifest.content == ManifestContent.DELETES
            if self._content is not None and of_deletes != (self._content == "deletes"):
                continue
            if not self._entries and not (manifest.has_added_files() or manifest.has_existing_files()):
                continue
            load = _loader(manifest, subject, self._entries, row_ids.get(manifest.manifest_path))
            yield Part(shape.make, load, shape.bounds(manifest))


def list_manifests(
    subject: Subject, reader: ManifestReader, *, every_snapshot: bool = False
) -> Iterator[tuple[Snapshot, ManifestFile]]:
    """The manifests of the snapshot that is looked at, or those of all snapshots, each once, with a snapshot of each.

    Raises:
        StorageError: A manifest list is missing or unreadable.
    """
    snapshots = subject.metadata.snapshots
    if not every_snapshot:
        snapshots = [subject.snapshot] if subject.snapshot is not None else []
    seen: set[str] = set()
    for snapshot in snapshots:
        for manifest in reader.read_list(snapshot, subject.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield snapshot, manifest


def load_entries(manifest: ManifestFile, subject: Subject, *, deleted: bool) -> list[ManifestEntry]:
    """The entries of a manifest.

    Raises:
        StorageError: It is missing or unreadable.
    """
    try:
        return read_entries(manifest, subject.io, deleted=deleted)
    except Exception as exc:
        raise unreadable("manifest", manifest.manifest_path, exc) from exc


def _loader(
    manifest: ManifestFile, subject: Subject, deleted: bool, first_row_id: int | None
) -> Callable[[], list[ManifestEntry]]:
    def load() -> list[ManifestEntry]:
        entries = load_entries(manifest, subject, deleted=deleted)
        assign_row_ids(entries, first_row_id)
        return entries

    return load


class _Shape:
    """The columns that a table's files have as rows, and how they are made."""

    def __init__(self, subject: Subject, entries: bool) -> None:
        self._partition = PartitionType(subject.metadata)
        self._metrics = metric_columns(subject.metadata.schema())
        self._entries = entries
        file_columns = _file_columns(self._partition)
        columns: list[tuple[str, Any]] = file_columns
        if entries:
            data_file = StructType(*(NestedField(0, name, kind, required=False) for name, kind in file_columns))
            columns = [
                ("status", _INT),
                ("snapshot_id", _LONG),
                ("sequence_number", _LONG),
                ("file_sequence_number", _LONG),
                ("data_file", data_file),
            ]
        if self._metrics:
            columns = [*columns, (METRICS, metrics_type(self._metrics))]
        self.fields = make_fields(*columns)
        self._schema = arrow_schema(self.fields)
        self._batch_rows = max(16, min(BATCH_ROWS, BATCH_VALUES // (6 * max(1, len(self._metrics)))))

    def make(self, entries: Sequence[ManifestEntry], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a manifest's entries."""
        for start in range(0, len(entries), self._batch_rows):
            some = entries[start : start + self._batch_rows]
            files = [entry.data_file for entry in some]
            makers = self._makers_of_entries(some, files) if self._entries else self._makers_of_files(files)
            makers[METRICS] = lambda kind, files=files: metrics_array(files, self._metrics, kind)
            yield make_batch(self._schema, wanted, makers)

    def _makers_of_entries(self, entries: Sequence[ManifestEntry], files: Sequence[DataFile]) -> dict[str, Any]:
        return {
            "status": lambda _: [int(entry.status) for entry in entries],
            "snapshot_id": lambda _: [entry.snapshot_id for entry in entries],
            "sequence_number": lambda _: [entry.sequence_number for entry in entries],
            "file_sequence_number": lambda _: [entry.file_sequence_number for entry in entries],
            "data_file": lambda kind: self._data_files(files, kind),
        }

    def _data_files(self, files: Sequence[DataFile], kind: pa.StructType) -> pa.Array:
        fields = [kind.field(place) for place in range(kind.num_fields)]
        batch = make_batch(pa.schema(fields), [field.name for field in fields], self._makers_of_files(files))
        return pa.StructArray.from_arrays(batch.columns, fields=fields)

    def _makers_of_files(self, files: Sequence[DataFile]) -> dict[str, Any]:
        def pairs(attribute: str) -> Callable[[pa.DataType], Any]:
            return lambda kind: _map_array([getattr(file, attribute) for file in files], kind)

        makers: dict[str, Any] = {
            "content": lambda _: [int(file.content) for file in files],
            "file_path": lambda _: [file.file_path for file in files],
            "file_format": lambda _: [file.file_format.value.upper() for file in files],
            "spec_id": lambda _: [file.spec_id or 0 for file in files],
            PARTITION: lambda kind: self._partition.array([self._partition.values(file) for file in files], kind),
            "record_count": lambda _: [file.record_count for file in files],
            "file_size_in_bytes": lambda _: [file.file_size_in_bytes for file in files],
            "key_metadata": lambda _: [file.key_metadata for file in files],
            "split_offsets": lambda _: [file.split_offsets for file in files],
            "equality_ids": lambda _: [file.equality_ids for file in files],
            "sort_order_id": lambda _: [file.sort_order_id for file in files],
        }
        for name in ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts"):
            makers[name] = pairs(name)
        makers["lower_bounds"] = pairs("lower_bounds")
        makers["upper_bounds"] = pairs("upper_bounds")
        for place, name in enumerate(_BEHIND_VERSION_2, start=FIRST_ROW_ID):
            makers[name] = _value_at(files, place)
        return makers

    def bounds(self, manifest: ManifestFile) -> Bounds:
        """What the manifest list says of a manifest's rows."""
        prefix = "data_file." if self._entries else ""
        spec_id = manifest.partition_spec_id
        bounds = {f"{prefix}spec_id": exactly(_INT, spec_id)}
        if manifest.content == ManifestContent.DELETES:
            bounds[f"{prefix}content"] = Range(exactly(_INT, 1).lower, exactly(_INT, 2).upper, nulls=False)
        if self._entries:
            bounds |= _ages(manifest)
        if not self._partition or manifest.partitions is None:
            return bounds
        for field, (_, place) in zip(self._partition.fields, self._partition.places(spec_id), strict=True):
            name = f"{prefix}{PARTITION}.{field.name}"
            stored = self._partition.stored_type(field.field_id)
            if place is None:
                bounds[name] = Range(nulls=True, values=False)
            elif place < len(manifest.partitions) and stored == field.field_type:
                summary = manifest.partitions[place]
                bounds[name] = Range(summary.lower_bound, summary.upper_bound, nulls=summary.contains_null)
        return bounds


def _ages(manifest: ManifestFile) -> dict[str, Range]:
    """Sequence numbers of live entries are within those of the manifest list; those of removed files need not be."""
    bounds: dict[str, Range] = {}
    if manifest.deleted_files_count == 0 and manifest.sequence_number and manifest.min_sequence_number is not None:
        low = exactly(_LONG, manifest.min_sequence_number).lower
        bounds["sequence_number"] = Range(low, exactly(_LONG, manifest.sequence_number).upper)
        statuses = ManifestEntryStatus.EXISTING, ManifestEntryStatus.ADDED
        lower, upper = (exactly(_INT, int(status)) for status in statuses)
        bounds["status"] = Range(lower.lower, upper.upper, nulls=False)
    return bounds


def _map_array(mappings: Sequence[Mapping[int, Any] | None], kind: pa.MapType) -> pa.Array:
    """Mappings as an array, put together from all keys and all values, which is several times as fast as one by one."""
    ends = accumulate((len(mapping or ()) for mapping in mappings), initial=0)
    offsets = pa.array(ends, pa.int32())
    keys = pa.array([key for mapping in mappings if mapping for key in mapping], kind.key_type)
    values = pa.array([value for mapping in mappings if mapping for value in mapping.values()], kind.item_type)
    missing = pa.array([mapping is None for mapping in mappings], pa.bool_())
    return pa.MapArray.from_arrays(offsets, keys, values, type=kind, mask=missing)


def _value_at(files: Sequence[DataFile], place: int) -> Callable[[pa.DataType], Any]:
    return lambda _: [file._data[place] if len(file._data) > place else None for file in files]
