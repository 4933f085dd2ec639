"""A change x the commits since its base -> none, or the reason why it no longer fits.

They look at the metadata a change was made under and at the newest metadata, and say whether the change still means the
same. Five questions, from the cheap to the dear:

- Is it the same table, and does it still know the partition specs and columns that files were written under?
- Are the data files that it removes, or removes rows of, still there? Whoever rewrote one of them meanwhile, compaction
  included, has put rows elsewhere that this change meant to remove.
- Has nobody removed rows of the removed files meanwhile? Rows that another commit deleted would come back with a
  rewritten file. Of files that stay, has nobody removed the very rows that this change removes? A row that two commits
  updated would be there twice.
- Has nobody added the very files meanwhile that were there before it and that it adds? Their rows would be there twice.
- Is what a serializable transaction has read still the same: has no snapshot since added or removed a file that may
  hold such rows? Snapshots that only rewrote files (`replace`) change no rows, and never collide here.

What only adds files of its own, and read nothing, depends on the first two questions alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntryStatus
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot

from icefusion.bridge.delete_files import read_position_deletes
from icefusion.bridge.delete_index import is_unpartitioned, partition_key, path_of_deletes
from icefusion.bridge.evolution import overlap
from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pruning import FileTests
from icefusion.commit.handles import TableHandle
from icefusion.commit.operations import WAP_ID, TableChange, waits_under

__all__ = ["Conflict", "find_conflict", "find_identity_conflict"]


@dataclass(frozen=True)
class Conflict:
    """Why a change no longer fits.

    Attributes:
        reason: In words.
        snapshot_id: The snapshot that collided, where there is one.
    """

    reason: str
    snapshot_id: int | None = None


def find_identity_conflict(change: TableChange, head: TableMetadata) -> Conflict | None:
    """The reason why a change to a table's metadata cannot be made of its newest state; None when it can."""
    base = change.base.metadata
    if base.table_uuid != head.table_uuid:
        return Conflict("the table was dropped and made anew since the transaction read it")
    replaced = change.definition.replacement is not None  # what others altered is gone with all else
    reason = None if replaced else overlap(base, head, change.definition.actions)
    if reason is not None:
        return Conflict(reason, head.current_snapshot_id)
    if change.ref != MAIN_BRANCH and change.ref in base.refs and change.ref not in head.refs:
        return Conflict(f"branch {change.ref} was dropped since the transaction read it")
    return None


def find_conflict(
    change: TableChange, newest: TableHandle, defined: TableMetadata, reader: ManifestReader
) -> Conflict | None:
    """The first reason why a change cannot be put on top of the newest state of its table; None when it can.

    Args:
        change: What is to be committed; `find_identity_conflict` has found nothing.
        newest: The newest state of its table.
        defined: The same with what the change does to the metadata.
        reader: Reads manifests.

    Raises:
        StorageError: What others have committed cannot be read.
    """
    base, head = change.base.metadata, newest.metadata
    conflict = _schema_conflict(change, defined) or _wap_conflict(change, head)
    if conflict is not None:
        return conflict
    replaced = change.definition.replacement is not None  # then no file of the base matters to the ones that come
    depends = change.files.removed or change.files.deleted or change.files.adopted
    if replaced or (isinstance(change.reads, AlwaysFalse) and not depends):
        return None
    since = _snapshots_since(_snapshot_id(base, change.ref), head, change.ref)
    if since is None:
        return Conflict("the snapshot that was read is no longer in the table's history", head.current_snapshot_id)
    files = _FileCheck(change, head)
    reads = _ReadCheck(change, head, reader)
    for snapshot in since:
        for status, file in reader.changes(snapshot, newest.io):
            conflict = files.conflict(snapshot, status, file) or reads.conflict(snapshot, status, file)
            if conflict is not None:
                return conflict
    return None


class _FileCheck:
    """Looks whether the files that a change is about are as they were: those it removes, removes rows of, or adopts."""

    def __init__(self, change: TableChange, head: TableMetadata) -> None:
        files = change.files
        self._removed = {file.file_path for file in files.removed}
        self._removed_deletes = {file.file_path for file in files.removed_deletes}
        self._deleted = files.deleted
        self._adopted = files.adopted
        self._partitions = {partition_key(file) for file in (*files.removed, *files.added_deletes)}
        self._io = change.base.io
        self._specs = head.specs()

    def conflict(self, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile) -> Conflict | None:
        if file.file_path in self._adopted and status == ManifestEntryStatus.ADDED:
            text = f"{_told(snapshot)} added {file.file_path}, and this transaction adds it as well"
            return Conflict(text, snapshot.snapshot_id)
        if not self._removed and not self._deleted:
            return None
        if file.content == DataFileContent.DATA:
            return self._data_file_conflict(snapshot, status, file)
        if status == ManifestEntryStatus.DELETED:
            if file.file_path not in self._removed_deletes:
                return None
            text = f"{_told(snapshot)} removed delete file {file.file_path}, and this transaction replaces it"
            return Conflict(text, snapshot.snapshot_id)
        path = self._hit(file)
        if path is None:
            return None
        does = "changes rows of that file" if path in self._removed else "changes the same rows"
        text = f"{_told(snapshot)} deleted rows of {path} by {file.file_path}, and this transaction {does}"
        return Conflict(text, snapshot.snapshot_id)

    def _data_file_conflict(self, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile) -> Conflict | None:
        if status != ManifestEntryStatus.DELETED:
            return None
        if file.file_path in self._removed:
            does = "replaces it"
        elif self._deleted.get(file.file_path):
            does = "deletes rows of it"
        else:
            return None
        return Conflict(
            f"{_told(snapshot)} removed {file.file_path}, and this transaction {does}", snapshot.snapshot_id
        )

    def _hit(self, deletes: DataFile) -> str | None:
        """What a delete file collides in: a file that this change removes, or one of which both delete the same row."""
        if deletes.content != DataFileContent.POSITION_DELETES:
            everywhere = is_unpartitioned(self._specs.get(deletes.spec_id))
            hit = everywhere or partition_key(deletes) in self._partitions
            return "its partition" if hit else None
        path = path_of_deletes(deletes)
        if path is not None and (path in self._removed or not self._deleted.get(path)):
            return path if path in self._removed else None
        if path is None and partition_key(deletes) not in self._partitions:
            return None
        if deletes.file_format != FileFormat.PARQUET:
            return path or "its partition"
        for found, rows in read_position_deletes(deletes, self._io).items():
            own = self._deleted.get(found)
            if found in self._removed or (own is not None and not own.isdisjoint(rows)):
                return found
        return None


class _ReadCheck:
    """Looks whether the rows that a transaction has read are as they were.

    Position deletes know nothing of the values in the rows that they delete, so their data file is judged.
    """

    def __init__(self, change: TableChange, head: TableMetadata, reader: ManifestReader) -> None:
        self._change = change
        self._reader = reader
        self._tests = FileTests(head, change.metadata.schema(), change.reads)
        self._nothing = isinstance(change.reads, AlwaysFalse)
        self._added: dict[str, DataFile] = {}
        self._of_base: dict[str, DataFile] | None = None

    def conflict(self, snapshot: Snapshot, status: ManifestEntryStatus, file: DataFile) -> Conflict | None:
        if self._nothing:
            return None
        if status == ManifestEntryStatus.ADDED and file.content == DataFileContent.DATA:
            self._added[file.file_path] = file
        if _operation(snapshot) is Operation.REPLACE or not self._may_hold(file):
            return None
        reads = self._change.reads
        verb = "removed" if status == ManifestEntryStatus.DELETED else "added"
        rows = "all rows" if isinstance(reads, AlwaysTrue) else f"rows where {reads}"
        text = f"{_told(snapshot)} {verb} {file.file_path}, and this transaction depends on {rows}"
        return Conflict(text, snapshot.snapshot_id)

    def _may_hold(self, file: DataFile) -> bool:
        if not self._tests.file_may_match(file):
            return False
        if file.content != DataFileContent.POSITION_DELETES or self._tests.trivial:
            return True
        path = path_of_deletes(file)
        about = None if path is None else self._data_file(path)
        return about is None or self._tests.file_may_match(about)

    def _data_file(self, path: str) -> DataFile | None:
        if path in self._added:
            return self._added[path]
        if self._of_base is None:
            base = self._change.base
            self._of_base = {
                file.file_path: file
                for manifest in self._reader.read_list(base.metadata.snapshot_by_name(self._change.ref), base.io)
                if manifest.content == ManifestContent.DATA and self._tests.manifest_may_match(manifest)
                for file in self._reader.read(manifest, base.io)
            }
        return self._of_base.get(path)


def _operation(snapshot: Snapshot) -> Operation:
    return snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE


def _told(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.snapshot_id} ({_operation(snapshot).value})"


def _snapshot_id(metadata: TableMetadata, ref: str) -> int | None:
    known = metadata.refs.get(ref)
    return known.snapshot_id if known is not None else None


def _snapshots_since(base_id: int | None, head: TableMetadata, ref: str) -> list[Snapshot] | None:
    """The snapshots after the base, oldest first; None when the base is not among the ancestors of the newest."""
    found: list[Snapshot] = []
    snapshot = head.snapshot_by_name(ref)
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


def _wap_conflict(change: TableChange, head: TableMetadata) -> Conflict | None:
    """Whether somebody else's rows wait meanwhile under the id that this change is to wait under."""
    if change.published:
        return None
    wap_id = change.summary[WAP_ID]
    taken = next((each for each in head.snapshots if waits_under(each, wap_id)), None)
    if taken is None:
        return None
    return Conflict(f"{_told(taken)} waits under {WAP_ID} {wap_id}, which is used once", taken.snapshot_id)


def _schema_conflict(change: TableChange, head: TableMetadata) -> Conflict | None:
    """Whether the table, as the change defines it, no longer takes the files as they were written."""
    files, base = change.files, change.metadata
    specs = head.specs()
    for spec_id in sorted({file.spec_id for file in files.new_files}):
        if spec_id not in specs or specs[spec_id].fields != base.specs()[spec_id].fields:
            return Conflict(f"partition spec {spec_id}, under which files were written, was removed", _current(head))
    if not files.added or base.current_schema_id == head.current_schema_id:
        return None
    if change.definition and base.last_column_id != head.last_column_id:
        text = "columns were added meanwhile, and rows were written with the ids that they now have"
        return Conflict(text, _current(head))
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
