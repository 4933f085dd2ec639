"""Operation x commits since its base -> none, or the reason.

Pure functions: they look at the metadata an operation was made under and at the newest metadata, and say whether the
operation still means the same. An append that read nothing depends on little: the table must be the same table, and the
partition specs its files are bound to must still be known to it. What a serializable transaction has read must still be
there unchanged: no snapshot since its base may have added or removed a file that may hold such rows. Snapshots that
only rewrote files (`replace`) change no rows, and never collide.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pruning import FileTests
from icefusion.commit.catalog import TableHandle
from icefusion.commit.operations import AppendFiles, TableChange

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
    for operation in change.operations:
        conflict = _append_conflict(operation, base, head)
        if conflict is not None:
            return conflict
    return _read_conflict(change, newest, reader)


def _read_conflict(change: TableChange, newest: TableHandle, reader: ManifestReader) -> Conflict | None:
    """The first file since the base that may hold rows which the transaction has read."""
    if isinstance(change.reads, AlwaysFalse):
        return None
    base, head = change.metadata, newest.metadata
    since = _snapshots_since(base.current_snapshot_id, head)
    if since is None:
        return Conflict("the snapshot that was read is no longer in the table's history", head.current_snapshot_id)
    tests = FileTests(head, base.schema(), change.reads)
    for snapshot in since:
        operation = snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE
        if operation is Operation.REPLACE:
            continue
        for status, file in reader.changes(snapshot, newest.io):
            if tests.file_may_match(file):
                verb = "removed" if status == ManifestEntryStatus.DELETED else "added"
                rows = "all rows" if isinstance(change.reads, AlwaysTrue) else f"rows where {change.reads}"
                return Conflict(
                    f"snapshot {snapshot.snapshot_id} ({operation.value}) {verb} {file.file_path}, "
                    f"and this transaction depends on {rows}",
                    snapshot.snapshot_id,
                )
    return None


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


def _append_conflict(operation: AppendFiles, base: TableMetadata, head: TableMetadata) -> Conflict | None:
    specs = head.specs()
    for spec_id in {file.spec_id for file in operation.added}:
        if spec_id not in specs or specs[spec_id].fields != base.specs()[spec_id].fields:
            return Conflict(f"partition spec {spec_id}, under which files were written, was removed", _current(head))
    if base.current_schema_id == head.current_schema_id:
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
