"""A change x the commits since its base -> none, or the reason why it no longer fits.

Pure functions: they look at the metadata a change was made under and at the newest metadata, and say whether the change
still means the same. Four questions, from the cheap to the dear:

- Is it the same table, and does it still know the partition specs and columns that files were written under?
- Are the data files that it removes, or removes rows of, still there? Whoever rewrote one of them meanwhile, compaction
  included, has put rows elsewhere that this change meant to remove.
- Has nobody removed rows of those files meanwhile? Rows that another commit deleted would come back with a rewritten
  file, and a row that two commits updated would be there twice.
- Is what a serializable transaction has read still the same: has no snapshot since added or removed a file that may
  hold such rows? Snapshots that only rewrote files (`replace`) change no rows, and never collide here.

What only adds files, and read nothing, depends on the first question alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntryStatus
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pruning import FileTests
from icefusion.commit.catalog import TableHandle
from icefusion.commit.operations import FileChange, TableChange

__all__ = ["Conflict", "find_conflict"]


@dataclass(frozen=True)
class Conflict:
    """Why a change no longer fits.

    Attributes:
        reason: In words.
        snapshot_id: The snapshot that collided, where there is one.
    """

    reason: str
    snapshot_id: int | None = None


def find_conflict(change: TableChange, newest: TableHandle, reader: ManifestReader) -> Conflict | None:
    """The first reason why a change cannot be put on top of the newest state of its table; None when it can.

    Raises:
        StorageError: What others have committed cannot be read.
    """
    base, head = change.metadata, newest.metadata
    if base.table_uuid != head.table_uuid:
        return Conflict("the table was dropped and made anew since the transaction read it")
    conflict = _schema_conflict(change.files, base, head)
    if conflict is not None:
        return conflict
    if isinstance(change.reads, AlwaysFalse) and not (change.files.removed or change.files.touched):
        return None
    since = _snapshots_since(base.current_snapshot_id, head)
    if since is None:
        return Conflict("the snapshot that was read is no longer in the table's history", head.current_snapshot_id)
    files = _FileCheck(change.files)
    reads = FileTests(head, base.schema(), change.reads)
    for snapshot in since:
        for status, file in reader.changes(snapshot, newest.io):
            conflict = files.conflict(snapshot, status, file) or _read_conflict(change, reads, snapshot, status, file)
            if conflict is not None:
                return conflict
    return None


class _FileCheck:
    """Looks whether the files that a change removes, or removes rows of, are as they were."""

    def __init__(self, files: FileChange) -> None:
        self._removed = {file.file_path for file in files.removed}
        self._touched = files.touched
        self._partitions = {_partition(file) for file in (*files.removed, *files.added_deletes)}

    def conflict(self, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile) -> Conflict | None:
        if not self._removed and not self._touched:
            return None
        if file.content == DataFileContent.DATA:
            return self._data_file_conflict(snapshot, status, file)
        if status == ManifestEntryStatus.ADDED and self._may_hit(file):
            return Conflict(
                f"{_told(snapshot)} deleted rows by {file.file_path}, and this transaction changes rows of the same "
                "data files",
                snapshot.snapshot_id,
            )
        return None

    def _data_file_conflict(self, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile) -> Conflict | None:
        if status != ManifestEntryStatus.DELETED:
            return None
        if file.file_path in self._removed:
            does = "replaces it"
        elif file.file_path in self._touched:
            does = "deletes rows of it"
        else:
            return None
        return Conflict(
            f"{_told(snapshot)} removed {file.file_path}, and this transaction {does}", snapshot.snapshot_id
        )

    def _may_hit(self, deletes: DataFile) -> bool:
        """Whether a delete file may remove rows of the files that this change works on."""
        if deletes.content == DataFileContent.POSITION_DELETES:
            path = referenced_file(deletes)
            if path is not None:
                return path in self._removed or path in self._touched
        elif not len(deletes.partition):
            return True  # equality deletes of an unpartitioned spec are for the files of all specs
        return _partition(deletes) in self._partitions


def referenced_file(deletes: DataFile) -> str | None:
    """The one data file that a position delete file is for; None where there may be several."""
    lower = (deletes.lower_bounds or {}).get(FILE_PATH_ID)
    upper = (deletes.upper_bounds or {}).get(FILE_PATH_ID)
    return lower.decode() if lower is not None and lower == upper else None


FILE_PATH_ID = 2147483546
"""The field id of ``file_path`` in position delete files (spec, "Reserved Field IDs")."""


def _partition(file: DataFile) -> tuple[object, ...]:
    return (file.spec_id, *(file.partition[index] for index in range(len(file.partition))))


def _read_conflict(
    change: TableChange, reads: FileTests, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile
) -> Conflict | None:
    """Whether a file that came or went may hold rows which the transaction has read."""
    if isinstance(change.reads, AlwaysFalse) or _operation(snapshot) is Operation.REPLACE:
        return None
    if not reads.file_may_match(file):
        return None
    verb = "removed" if status == ManifestEntryStatus.DELETED else "added"
    rows = "all rows" if isinstance(change.reads, AlwaysTrue) else f"rows where {change.reads}"
    return Conflict(
        f"{_told(snapshot)} {verb} {file.file_path}, and this transaction depends on {rows}", snapshot.snapshot_id
    )


def _operation(snapshot: Snapshot) -> Operation:
    return snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE


def _told(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.snapshot_id} ({_operation(snapshot).value})"


def _snapshots_since(base_id: int | None, head: TableMetadata) -> list[Snapshot] | None:
    """The snapshots after the base, oldest first; None when the base is not among the ancestors of the newest."""
    found: list[Snapshot] = []
    snapshot = head.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != base_id:
        found.append(snapshot)
        parent_id = snapshot.parent_snapshot_id
        if parent_id is None:
            snapshot = None
            break
        snapshot = head.snapshot_by_id(parent_id)
        if snapshot is None:
            return None  # expired: what it did cannot be looked at
    if snapshot is None and base_id is not None:
        return None
    return found[::-1]


def _schema_conflict(files: FileChange, base: TableMetadata, head: TableMetadata) -> Conflict | None:
    """Whether the table no longer takes the files as they were written."""
    specs = head.specs()
    for spec_id in sorted({file.spec_id for file in files.new_files}):
        if spec_id not in specs or specs[spec_id].fields != base.specs()[spec_id].fields:
            return Conflict(f"partition spec {spec_id}, under which files were written, was removed", _current(head))
    if not files.added or base.current_schema_id == head.current_schema_id:
        return None
    written = {field.field_id for field in base.schema().fields}
    for field in head.schema().fields:
        if field.required and field.field_id not in written and field.initial_default is None:
            return Conflict(f"column {field.name} was added as NOT NULL; the rows do not have it", _current(head))
    for field in base.schema().fields:
        try:
            now = head.schema().find_field(field.field_id)
        except ValueError:
            continue  # dropped: the files simply keep more than is read
        if now.required and not field.required:
            return Conflict(f"column {now.name} was made NOT NULL; the rows were not checked for it", _current(head))
    return None


def _current(head: TableMetadata) -> int | None:
    return head.current_snapshot_id
