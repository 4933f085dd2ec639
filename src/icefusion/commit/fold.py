"""Put changes on top of the newest state of their tables: one snapshot a change, one move a table.

Several transactions may meet in one fold, because commits of one process to one table are combined. Each keeps its own
snapshot: they are stacked in order, every one on top of the last, and swapped in together. A table that was only read
takes part with a move that changes nothing, so that it is held still while the others move.

What a transaction did to the metadata of a table comes before its snapshot: it is worked out anew for the state it is
put on, since the ids that columns, specs and sort orders get depend on that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
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
    RemoveSnapshotRefUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from icefusion.bridge.evolution import requirements
from icefusion.bridge.manifests import ManifestReader
from icefusion.clock import Clock
from icefusion.commit.definitions import define, is_defined
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.idempotency import SUMMARY_KEY, Landed, find_landed, recorded
from icefusion.commit.manifests import ManifestStage
from icefusion.commit.metadata import apply_updates
from icefusion.commit.operations import Change, CreateChange, FileChange, TableChange
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
        if isinstance(self.change, CreateChange):
            return True
        return bool(self.files or self.change.definition or self.change.gives_up_name)

    @property
    def is_known_by_its_own(self) -> bool:
        """Whether a state that it has led to shows that it was this change, and nobody else who did the same."""
        return isinstance(self.change, CreateChange) or bool(self.files or self.change.definition)

    @property
    def operation(self) -> str:
        """What the change is called in reports."""
        if isinstance(self.change, CreateChange):
            return self.files.operation.value if self.files else "create"
        if self.files:
            return self.files.operation.value
        if self.change.dropped:
            return "drop"
        if not self.change.definition:
            return "rename"
        return "alter" if self.change.definition.replacement is None else "replace table"

    def landed_in(self, head: TableHandle | None, written: Collection[str] = ()) -> bool:
        """Whether this change stands in the history of a state.

        Args:
            head: The newest state of the table, under the name that it is to have; None where there is none.
            written: Metadata files that attempts of unknown outcome wrote for it.
        """
        if isinstance(self.change, TableChange) and self.change.dropped:
            return head is None or head.metadata.table_uuid != self.change.metadata.table_uuid
        if head is None:
            return False
        if self.files:
            if head.metadata.snapshot_by_id(self.snapshot_id) is not None:
                return True
            # The snapshot may have expired since.
            landed = find_landed(head.metadata, self.change.idempotency_key)
            return landed is not None and landed.snapshot_id == self.snapshot_id
        if isinstance(self.change, CreateChange):
            return head.metadata.table_uuid == self.change.metadata.table_uuid
        if written:
            known = {head.metadata_location, *(entry.metadata_file for entry in head.metadata.metadata_log)}
            return not known.isdisjoint(written)
        if not self.change.definition:  # it has got another name
            return head.metadata.table_uuid == self.change.metadata.table_uuid
        return is_defined(self.change.base.metadata, head.metadata, self.change.definition)

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
        parent = metadata.snapshot_by_name(self.change.ref)
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
    """The changes to one table, stacked on top of one state of it.

    Attributes:
        metadata: The state with the changes so far.
        dropped: Whether the table goes.
        renamed: The table under the name that it gets; None where it keeps its own.
    """

    def __init__(self, base: TableHandle | StagedTable, clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._updates: list[TableUpdate] = []
        self._branches: dict[str, Snapshot] = {}
        self._held: set[str] = set()
        self._landed: list[Landed] = []
        self.metadata = base.metadata
        self.dropped = False
        self.renamed: TableHandle | None = None

    @property
    def creates(self) -> bool:
        """Whether the table does not exist yet."""
        return isinstance(self._base, StagedTable)

    @property
    def handle(self) -> TableHandle:
        """The table with the changes so far, as if they had landed."""
        handle = self._base.handle if isinstance(self._base, StagedTable) else self._base
        return handle.with_state(self.metadata, handle.metadata_location)

    def defined(self, change: TableChange) -> TableMetadata:
        """The state that a change's files would be put on: this one, with what the change does to the metadata.

        Raises:
            SQLError: The definition names something that is not there any more.
            SchemaError: It cannot be done to this state.
        """
        return define(self.metadata, change.definition, self._clock)[0] if change.definition else self.metadata

    def add(self, stage: Stage) -> None:
        """Put a change on top; one without files makes no snapshot."""
        change = stage.change
        if isinstance(change, TableChange):
            if change.dropped:
                self.dropped = True
                return
            self.renamed = change.renamed or self.renamed
            if change.definition:
                self.metadata, updates = define(self.metadata, change.definition, self._clock)
                self._updates += updates
                for update in updates:
                    if isinstance(update, SetSnapshotRefUpdate | RemoveSnapshotRefUpdate):
                        self._branches.pop(update.ref_name, None)
            if not stage.changes_table:
                self._held.add(change.ref)
        if not stage.files:
            return
        snapshot = stage.snapshot_on(self.metadata, self._clock)
        added: list[TableUpdate] = [AddSnapshotUpdate(snapshot=snapshot)]
        self._updates += added
        if change.published:
            added.append(_branch_to(snapshot, change.ref, self.metadata))
            self._branches[change.ref] = snapshot
        self.metadata = apply_updates(self.metadata, added, base_location=None, clock=self._clock)
        landed = stage.landed_record(self._clock)
        if landed is not None:
            self._landed.append(landed)

    def move(self) -> Move:
        """The step from the base to the state with all changes."""
        base = self._base.metadata
        updates = [*self._updates, *(_branch_to(last, ref, self.metadata) for ref, last in self._branches.items())]
        if self._landed:
            updates.append(SetPropertiesUpdate(updates=recorded(self.metadata.properties, self._landed)))
        if isinstance(self._base, StagedTable):
            return Move(self._base, tuple(updates), ())
        needed: list[TableRequirement] = [AssertTableUUID(uuid=base.table_uuid)]
        needed += requirements(base, self._updates)
        stated = {requirement.ref for requirement in needed if isinstance(requirement, AssertRefSnapshotId)}
        for ref in sorted((self._held | self._branches.keys()) - stated):
            known = base.refs.get(ref)
            needed.append(AssertRefSnapshotId(ref=ref, snapshot_id=known.snapshot_id if known is not None else None))
        return Move(self._base, tuple(updates), tuple(needed), drops=self.dropped, renamed=self.renamed)


def _branch_to(snapshot: Snapshot, name: str, head: TableMetadata) -> SetSnapshotRefUpdate:
    """Move a branch to a snapshot, its retention settings kept."""
    ref = head.refs.get(name)
    return SetSnapshotRefUpdate(
        ref_name=name,
        type=SnapshotRefType.BRANCH,
        snapshot_id=snapshot.snapshot_id,
        min_snapshots_to_keep=ref.min_snapshots_to_keep if ref is not None else None,
        max_snapshot_age_ms=ref.max_snapshot_age_ms if ref is not None else None,
        max_ref_age_ms=ref.max_ref_age_ms if ref is not None else None,
    )
