"""Put changes on top of the newest state of their tables: one snapshot a change, one move a table.

Several transactions may meet in one fold, because commits of one process to one table are combined. Each keeps its own
snapshot: they are stacked in order, every one on top of the last, and swapped in together. A table that was only read
takes part with a move that changes nothing, so that it is held still while the others move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    CHANGED_PARTITION_COUNT_PROP,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from icefusion.bridge.manifests import ManifestReader
from icefusion.clock import Clock
from icefusion.commit.catalog import StagedTable, TableHandle
from icefusion.commit.idempotency import SUMMARY_KEY, Landed, find_landed, recorded
from icefusion.commit.manifests import ManifestStage
from icefusion.commit.metadata import apply_updates
from icefusion.commit.operations import Change, CreateChange, FileChange
from icefusion.commit.swap import Move
from icefusion.config import WriteProperties
from icefusion.errors import StorageError

__all__ = ["Stage", "TableFold"]

_ENGINE = {"engine-name": "icefusion", "engine-version": version("icefusion")}


@dataclass
class Stage:
    """One change on its way: its snapshot id, and what has been written for it.

    Attributes:
        change: What is to be committed.
        snapshot_id: Chosen once; the same through all attempts.
        files: The files that the change adds and removes.
    """

    change: Change
    reader: ManifestReader
    snapshot_id: int = field(init=False)
    files: FileChange = field(init=False)
    _manifests: ManifestStage = field(init=False)
    _needed: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.snapshot_id = self.change.metadata.new_snapshot_id()
        self.files = self.change.files
        self._manifests = ManifestStage(self.change.metadata, self.change.base.io, self.snapshot_id, self.reader)

    @property
    def changes_table(self) -> bool:
        """Whether there is anything to commit; a table that was only read has nothing."""
        return bool(self.files) or isinstance(self.change, CreateChange)

    def landed_in(self, head: TableHandle | None) -> bool:
        """Whether this change stands in the history of a state."""
        if head is None:
            return False
        if self.files:
            if head.metadata.snapshot_by_id(self.snapshot_id) is not None:
                return True
            # The snapshot may have expired since.
            landed = find_landed(head.metadata, self.change.idempotency_key)
            return landed is not None and landed.snapshot_id == self.snapshot_id
        return head.metadata.table_uuid == self.change.metadata.table_uuid

    def leftovers(self, landed: TableHandle | None) -> list[str]:
        """What was written and belongs to nothing: all of it, or what the landed snapshot does not need."""
        if landed is None:
            return self._manifests.written
        snapshot = landed.metadata.snapshot_by_id(self.snapshot_id)
        if snapshot is None:
            return []  # it has expired; which of them later snapshots use cannot be told
        needed = self._needed.get(snapshot.manifest_list, frozenset(self._manifests.written))
        return [path for path in self._manifests.written if path not in needed]

    def snapshot_on(self, metadata: TableMetadata, clock: Clock) -> Snapshot:
        """This change as the next snapshot of a state."""
        parent = metadata.current_snapshot()
        own = self._manifests.added_manifests(self.files)
        existing, removed = self._manifests.without(
            metadata, self.reader.read_list(parent, self.change.base.io), self.files
        )
        found = {file.file_path for file in removed}
        missing = [file.file_path for file in (*self.files.removed, *self.files.removed_deletes)]
        missing = [path for path in missing if path not in found]
        if missing:  # validation has looked through all commits since, so this is a table that contradicts itself
            raise StorageError(f"{missing[0]} is to be removed, and no manifest lists it", path=missing[0])
        manifests = self._manifests.merge(metadata, list(own), existing)
        manifest_list = self._manifests.write_list(metadata, parent, manifests)
        self._needed[manifest_list] = frozenset((manifest_list, *(m.manifest_path for m in manifests)))
        return Snapshot(
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent is not None else None,
            sequence_number=metadata.next_sequence_number(),
            # Time may not run backwards within a table's history, whatever this machine's clock says.
            timestamp_ms=max(clock.now_ms(), metadata.last_updated_ms),
            manifest_list=manifest_list,
            summary=self._summary(metadata, parent, removed),
            schema_id=metadata.current_schema_id,
        )

    def _summary(self, head: TableMetadata, parent: Snapshot | None, removed: Sequence[DataFile]) -> Summary:
        limit = WriteProperties.of(head.properties).summary_partition_limit
        collector = SnapshotSummaryCollector(partition_summary_limit=limit)
        specs = {**head.specs(), **self.change.metadata.specs()}
        schema = self.change.metadata.schema()
        for file in self.files.new_files:
            collector.add_file(file, schema, specs[file.spec_id])
        for file in removed:
            collector.remove_file(file, schema, specs[file.spec_id])
        entries = {**collector.build(), **_ENGINE, **self.change.summary}
        if any(not len(file.partition) for file in (*self.files.new_files, *removed)):
            # The whole of an unpartitioned table is one partition to Java, and none to PyIceberg.
            entries[CHANGED_PARTITION_COUNT_PROP] = str(len(collector.partition_metrics) + 1)
        if self.change.idempotency_key is not None:
            entries[SUMMARY_KEY] = self.change.idempotency_key
        summary = Summary(operation=self.files.operation, **entries)
        return update_snapshot_summaries(summary, previous_summary=parent.summary if parent is not None else None)

    def landed_record(self, clock: Clock) -> Landed | None:
        """What is remembered under the change's idempotency key."""
        if self.change.idempotency_key is None:
            return None
        return Landed(self.change.idempotency_key, self.snapshot_id, self.files.rows, clock.now_ms())


class TableFold:
    """The changes to one table, stacked on top of one state of it."""

    def __init__(self, base: TableHandle | StagedTable, clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._snapshots: list[Snapshot] = []
        self._landed: list[Landed] = []
        self.metadata = base.metadata

    @property
    def creates(self) -> bool:
        """Whether the table does not exist yet."""
        return isinstance(self._base, StagedTable)

    @property
    def handle(self) -> TableHandle:
        """The table with the changes so far, as if they had landed."""
        handle = self._base.handle if isinstance(self._base, StagedTable) else self._base
        return handle.with_state(self.metadata, handle.metadata_location)

    def add(self, stage: Stage) -> None:
        """Put a change on top; one without files makes no snapshot."""
        if not stage.files:
            return
        snapshot = stage.snapshot_on(self.metadata, self._clock)
        updates = (AddSnapshotUpdate(snapshot=snapshot), _branch_to(snapshot, self._base.metadata))
        self.metadata = apply_updates(self.metadata, updates, base_location=None, clock=self._clock)
        self._snapshots.append(snapshot)
        landed = stage.landed_record(self._clock)
        if landed is not None:
            self._landed.append(landed)

    def move(self) -> Move:
        """The step from the base to the state with all changes."""
        base = self._base.metadata
        updates: list[TableUpdate] = [AddSnapshotUpdate(snapshot=snapshot) for snapshot in self._snapshots]
        if self._snapshots:
            updates.append(_branch_to(self._snapshots[-1], base))
        if self._landed:
            updates.append(SetPropertiesUpdate(updates=recorded(base.properties, self._landed)))
        requirements: tuple[TableRequirement, ...] = ()
        if not isinstance(self._base, StagedTable):
            requirements = (
                AssertTableUUID(uuid=base.table_uuid),
                AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=base.current_snapshot_id),
            )
        return Move(self._base, tuple(updates), requirements)


def _branch_to(snapshot: Snapshot, base: TableMetadata) -> SetSnapshotRefUpdate:
    """Move the main branch to a snapshot, its retention settings kept."""
    ref = base.refs.get(MAIN_BRANCH)
    return SetSnapshotRefUpdate(
        ref_name=MAIN_BRANCH,
        type=SnapshotRefType.BRANCH,
        snapshot_id=snapshot.snapshot_id,
        min_snapshots_to_keep=ref.min_snapshots_to_keep if ref is not None else None,
        max_snapshot_age_ms=ref.max_snapshot_age_ms if ref is not None else None,
        max_ref_age_ms=ref.max_ref_age_ms if ref is not None else None,
    )
