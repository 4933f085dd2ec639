"""The partitions of a snapshot with what lies in each: a sum over all live files, known when the last one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntry
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, LongType, TimestamptzType

from icefusion.bridge.manifests import ManifestReader
from icefusion.query.generated import Part, arrow_schema, make_batch, make_fields
from icefusion.query.inspect.of_files import PARTITION, list_manifests, load_entries
from icefusion.query.inspect.subject import Subject
from icefusion.query.inspect.values import PartitionType

__all__ = ["PartitionSums", "PartitionTable", "sum_partitions"]

BATCH_ROWS = 4_096
_NAN = object()

_INT, _LONG = IntegerType(), LongType()


@dataclass
class PartitionSums:
    """What lies in one partition.

    Attributes:
        values: The partition's values, as `PartitionType` orders them.
        sample: One of its files.
        spec_id: The spec of the files that came last.
    """

    values: tuple[Any, ...]
    sample: DataFile
    spec_id: int = 0
    record_count: int = 0
    file_count: int = 0
    total_data_file_size_in_bytes: int = 0
    position_delete_record_count: int = 0
    position_delete_file_count: int = 0
    equality_delete_record_count: int = 0
    equality_delete_file_count: int = 0
    last_updated_at: int | None = None
    last_updated_snapshot_id: int | None = None

    def add(self, entry: ManifestEntry, committed_ms: int | None) -> None:
        """Count one live file."""
        file = entry.data_file
        if file.content == DataFileContent.DATA:
            self.record_count += file.record_count
            self.file_count += 1
            self.total_data_file_size_in_bytes += file.file_size_in_bytes
        elif file.content == DataFileContent.POSITION_DELETES:
            self.position_delete_record_count += file.record_count
            self.position_delete_file_count += 1
        else:
            self.equality_delete_record_count += file.record_count
            self.equality_delete_file_count += 1
        if committed_ms is not None and (self.last_updated_at is None or committed_ms * 1000 > self.last_updated_at):
            self.spec_id = file.spec_id or 0
            self.last_updated_at = committed_ms * 1000
            self.last_updated_snapshot_id = entry.snapshot_id


def sum_partitions(subject: Subject, reader: ManifestReader) -> list[PartitionSums]:
    """The partitions of the snapshot that is looked at, in the order in which its manifests name them.

    Raises:
        StorageError: A manifest, or the list of them, is missing or unreadable.
    """
    partition = PartitionType(subject.metadata)
    committed = {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in subject.metadata.snapshots}
    sums: dict[tuple[Any, ...], PartitionSums] = {}
    for _, manifest in list_manifests(subject, reader):
        if not (manifest.has_added_files() or manifest.has_existing_files()):
            continue
        for entry in load_entries(manifest, subject, deleted=False):
            values = partition.values(entry.data_file)
            key = tuple(_NAN if value != value else value for value in values)  # noqa: PLR0124 - NaN equals nothing
            known = sums.get(key)
            if known is None:
                file = entry.data_file
                known = sums[key] = PartitionSums(values, file, file.spec_id or 0)
            known.add(entry, committed.get(entry.snapshot_id or 0))
    return list(sums.values())


_COUNTS: tuple[tuple[str, Any], ...] = (
    ("record_count", _LONG),
    ("file_count", _INT),
    ("total_data_file_size_in_bytes", _LONG),
    ("position_delete_record_count", _LONG),
    ("position_delete_file_count", _INT),
    ("equality_delete_record_count", _LONG),
    ("equality_delete_file_count", _INT),
    ("last_updated_at", TimestamptzType()),
    ("last_updated_snapshot_id", _LONG),
)


class PartitionTable:
    """``partitions``. A table that was never partitioned has one row, without partition and spec."""

    def fields(self, subject: Subject) -> Schema:
        """The columns."""
        partition = PartitionType(subject.metadata)
        own = [(PARTITION, partition.struct_type), ("spec_id", _INT)] if partition else []
        return make_fields(*own, *_COUNTS)

    def parts(self, subject: Subject, reader: ManifestReader) -> Iterator[Part]:
        """The one part it has."""
        partition = PartitionType(subject.metadata)
        schema = arrow_schema(self.fields(subject))

        def make(sums: Sequence[PartitionSums], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            for start in range(0, len(sums), BATCH_ROWS):
                some = sums[start : start + BATCH_ROWS]
                makers: dict[str, Any] = {name: _attribute(some, name) for name, _ in (("spec_id", _INT), *_COUNTS)}
                makers[PARTITION] = lambda kind, some=some: partition.array([each.values for each in some], kind)
                yield make_batch(schema, wanted, makers)

        yield Part(make, lambda: sum_partitions(subject, reader))


def _attribute(sums: Sequence[PartitionSums], name: str) -> Any:
    return lambda _: [getattr(each, name) for each in sums]
