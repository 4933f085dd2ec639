"""Fold what was done into snapshots, swap them in, and say truthfully how that went.

Theory of operation. A commit has four outcomes. *Committed* is only said when the snapshot was seen to land: the
catalog said so, or it stands in the history of the newest metadata. *Conflict* and *rejected* are only said when
nothing landed. Everything else is *unknown*, and an unknown outcome is first looked into: the snapshot id is chosen
once, before the first attempt, so the newest metadata can be searched for it. A further attempt with the same id is
safe even while an earlier one may still be under way: each asks for the parent it was built on, so that at most one of
them can ever land.

An attempt re-bases and never re-runs: the data files and the manifests that list them are kept; only the manifest list
and the metadata are made anew. What an attempt left behind is deleted once it is known that it did not land, and
nothing is deleted while that is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from icefusion.clock import Clock
from icefusion.commit.catalog import CatalogClient, StagedTable, TableHandle
from icefusion.commit.cleanup import delete_files
from icefusion.commit.conflicts import Conflict, find_conflict
from icefusion.commit.manifests import ManifestStage, read_manifests
from icefusion.commit.operations import Change, CreateChange, TableChange, added_files
from icefusion.commit.swap import Lost, Move, Refused, Swapped, Unknown, swap
from icefusion.config import RetryConfig, WriteProperties
from icefusion.errors import (
    CommitConflictError,
    CommitFailedError,
    CommitStateUnknownError,
    IcefusionError,
    TableExistsError,
    TableNotFoundError,
)
from icefusion.reports import CommitReport

__all__ = ["CommitOutcome", "Committed", "Committer", "Conflicted", "OutcomeUnknown", "Rejected"]

_ENGINE = {"engine-name": "icefusion", "engine-version": version("icefusion")}


@dataclass(frozen=True)
class Committed:
    """All changes landed; ``tables`` are their new states and ``reports`` tell of each, in order."""

    tables: tuple[TableHandle, ...]
    reports: tuple[CommitReport, ...]


@dataclass(frozen=True)
class Conflicted:
    """A change no longer fits what others have committed; nothing landed."""

    table: str
    conflict: Conflict


@dataclass(frozen=True)
class Rejected:
    """Attempts or time were spent, or the catalog refused; nothing landed."""

    error: IcefusionError


@dataclass(frozen=True)
class OutcomeUnknown:
    """The changes may have landed; nothing was deleted."""

    snapshot_ids: dict[str, int]
    error: Exception


CommitOutcome = Committed | Conflicted | Rejected | OutcomeUnknown


class Committer:
    """Commits changes to the tables of one catalog."""

    def __init__(self, client: CatalogClient, retry: RetryConfig, clock: Clock) -> None:
        self._client = client
        self._retry = retry
        self._clock = clock

    def commit(self, changes: Sequence[Change]) -> Committed:
        """Commit all changes or none.

        Raises:
            CommitConflictError: A change no longer fits; nothing landed.
            CommitFailedError: Attempts or time were spent, or the catalog refused; nothing landed.
            CommitStateUnknownError: It may have landed; nothing was deleted.
        """
        outcome = self.outcome(changes)
        match outcome:
            case Committed():
                return outcome
            case Conflicted(table, conflict):
                raise CommitConflictError(
                    f"commit to {table} conflicts with another commit: {conflict.reason}",
                    reason=conflict.reason,
                    conflicting_snapshot_id=conflict.snapshot_id,
                    hint="nothing was committed; read the table again and repeat the transaction",
                )
            case Rejected(error):
                raise error
            case OutcomeUnknown(snapshot_ids, error):
                raise _unknown_error(snapshot_ids, error) from error

    def outcome(self, changes: Sequence[Change]) -> CommitOutcome:
        """Commit all changes or none, and answer with the outcome instead of raising it."""
        stages = [_Stage(change, self._clock) for change in changes]
        attempt = _Attempts(self._retry.for_table(changes[0].metadata.properties), self._clock)
        unknown: Exception | None = None
        try:
            while True:
                attempt.start()
                outcome, unknown = self._attempt(stages, attempt, unknown)
                if outcome is None:
                    if attempt.wait():
                        continue
                    outcome = self._spent(stages, attempt, unknown)
                self._clean(stages, outcome)
                return outcome
        except BaseException:
            # Before the swap, or a bug of ours; what a swap may have landed is never deleted.
            if unknown is None and not any(stage.in_flight for stage in stages):
                self._clean(stages, None)
            raise

    def _attempt(
        self, stages: list[_Stage], attempt: _Attempts, unknown: Exception | None
    ) -> tuple[CommitOutcome | None, Exception | None]:
        """One round: look, validate, build, swap. None as the outcome means: try again."""
        try:
            heads = [self._head(stage) for stage in stages]
        except TableNotFoundError as error:
            if unknown is None:
                return Rejected(_failed(f"{error.message}; it was dropped during the transaction")), None
            return OutcomeUnknown(_ids(stages), unknown), unknown
        except IcefusionError as error:
            if unknown is not None and not error.retryable:
                return OutcomeUnknown(_ids(stages), unknown), unknown
            if unknown is None and not error.retryable:
                return Rejected(error), None
            attempt.last = error.message
            return None, unknown
        if attempt.number > 1 and all(map(_Stage.landed_in, stages, heads)):
            return self._committed(stages, [head for head in heads if head is not None], attempt), None
        for stage, head in zip(stages, heads, strict=True):
            refusal = _refusal(stage, head)
            if refusal is not None:
                # An earlier attempt of unknown fate may still land where the branch has not moved.
                return (refusal, None) if unknown is None else (OutcomeUnknown(_ids(stages), unknown), unknown)
        moves = [stage.build(head) for stage, head in zip(stages, heads, strict=True)]
        for stage in stages:
            stage.in_flight = True
        result = swap(self._client, moves, self._clock)
        for stage in stages:
            stage.in_flight = isinstance(result, Unknown)
        match result:
            case Swapped(tables):
                return self._committed(stages, list(tables), attempt), None
            case Lost(reason):
                attempt.last = reason
                return None, unknown
            case Refused(refused):
                if unknown is not None:
                    return OutcomeUnknown(_ids(stages), unknown), unknown
                return Rejected(refused), None
            case Unknown(cause):
                attempt.last = str(cause)
                return None, cause

    def _head(self, stage: _Stage) -> TableHandle | None:
        if isinstance(stage.change, TableChange):
            return self._client.load(stage.change.base.identifier)
        if stage.in_flight:
            # A table whose creation may have landed: look before asking for it again.
            try:
                return self._client.load(stage.change.base.handle.identifier)
            except TableNotFoundError:
                return None
        return None

    def _spent(self, stages: list[_Stage], attempt: _Attempts, unknown: Exception | None) -> CommitOutcome:
        if unknown is not None:
            return OutcomeUnknown(_ids(stages), unknown)
        names = ", ".join(stage.change.name for stage in stages)
        return Rejected(
            _failed(
                f"commit to {names} gave up after {attempt.number} attempts "
                f"in {attempt.elapsed_s():.1f} s: {attempt.last}"
            )
        )

    def _committed(self, stages: list[_Stage], tables: list[TableHandle], attempt: _Attempts) -> Committed:
        reports = tuple(
            CommitReport(
                table=stage.change.name,
                snapshot_id=stage.snapshot_id if stage.files else None,
                operation=stage.change.operations[0].operation.value if stage.change.operations else "create",
                attempts=attempt.number,
                added_files=len(stage.files),
                added_rows=sum(file.record_count for file in stage.files),
                seconds=attempt.elapsed_s(),
            )
            for stage in stages
        )
        return Committed(tuple(tables), reports)

    def _clean(self, stages: list[_Stage], outcome: CommitOutcome | None) -> None:
        """Delete the manifests and lists that belong to nothing now."""
        if isinstance(outcome, OutcomeUnknown):
            return
        for position, stage in enumerate(stages):
            kept = stage.referenced(outcome.tables[position]) if isinstance(outcome, Committed) else frozenset()
            leftover = [path for path in stage.written if path not in kept]
            if leftover:
                delete_files(stage.change.base.io, leftover)


@dataclass
class _Stage:
    """One change on its way: its snapshot id, and what has been written for it."""

    change: Change
    clock: Clock
    in_flight: bool = False
    snapshot_id: int = field(init=False)
    _manifests: ManifestStage = field(init=False)
    _lists: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.snapshot_id = self.change.metadata.new_snapshot_id()
        self.files = added_files(self.change.operations)
        self._manifests = ManifestStage(self.change.metadata, self.change.base.io, self.snapshot_id)

    @property
    def written(self) -> list[str]:
        return self._manifests.written

    def landed_in(self, head: TableHandle | None) -> bool:
        """Whether this change stands in the history of a state."""
        if head is None:
            return False
        if self.files:
            return head.metadata.snapshot_by_id(self.snapshot_id) is not None
        return head.metadata.table_uuid == self.change.metadata.table_uuid

    def referenced(self, table: TableHandle) -> frozenset[str]:
        """Which of the written files the committed snapshot needs: its manifest list and the manifests in it."""
        snapshot = table.metadata.snapshot_by_id(self.snapshot_id)
        return self._lists.get(snapshot.manifest_list, frozenset(self.written)) if snapshot else frozenset()

    def build(self, head: TableHandle | None) -> Move:
        """The move that puts this change on top of a state."""
        base = head if head is not None else self.change.base
        metadata = base.metadata
        if not self.files:
            return Move(base, (), ())
        parent = metadata.current_snapshot()
        own = self._manifests.added_manifests(self.files)
        manifests = self._manifests.merge(metadata, list(own), read_manifests(base.io, parent))
        manifest_list = self._manifests.write_list(metadata, parent, manifests)
        self._lists[manifest_list] = frozenset((manifest_list, *(m.manifest_path for m in manifests)))
        snapshot = Snapshot(
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent is not None else None,
            sequence_number=metadata.next_sequence_number(),
            timestamp_ms=max(self.clock.now_ms(), metadata.last_updated_ms),
            manifest_list=manifest_list,
            summary=self._summary(metadata, parent),
            schema_id=metadata.current_schema_id,
        )
        if isinstance(base, StagedTable):
            return Move(base, _snapshot_updates(snapshot, metadata), ())
        requirements: tuple[TableRequirement, ...] = (
            AssertTableUUID(uuid=metadata.table_uuid),
            AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=snapshot.parent_snapshot_id),
        )
        return Move(base, _snapshot_updates(snapshot, metadata), requirements)

    def _summary(self, head: TableMetadata, parent: Snapshot | None) -> Summary:
        limit = WriteProperties.of(head.properties).summary_partition_limit
        collector = SnapshotSummaryCollector(partition_summary_limit=limit)
        specs = self.change.metadata.specs()
        schema = self.change.metadata.schema()
        for file in self.files:
            collector.add_file(file, schema, specs[file.spec_id])
        operation = self.change.operations[0].operation
        summary = Summary(operation=operation, **collector.build(), **_ENGINE, **self.change.summary)
        return update_snapshot_summaries(summary, previous_summary=parent.summary if parent is not None else None)


class _Attempts:
    """Counts attempts and waits between them."""

    def __init__(self, retry: RetryConfig, clock: Clock) -> None:
        self._retry = retry
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self.number = 0
        self.last = ""

    def start(self) -> None:
        self.number += 1

    def elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s

    def wait(self) -> bool:
        """Wait before the next attempt; False when there may be none."""
        if self.number >= self._retry.max_attempts:
            return False
        delay_s = self._retry.delay_ceiling_ms(self.number) / 1000
        if self._retry.jitter == "full":
            delay_s *= self._clock.random()
        if self.elapsed_s() + delay_s > self._retry.total_timeout_ms / 1000:
            return False
        self._clock.sleep_s(delay_s)
        return True


def _snapshot_updates(snapshot: Snapshot, metadata: TableMetadata) -> tuple[TableUpdate, ...]:
    """Add the snapshot and move the main branch to it, its retention settings kept."""
    ref = metadata.refs.get(MAIN_BRANCH)
    return (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(
            ref_name=MAIN_BRANCH,
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot.snapshot_id,
            min_snapshots_to_keep=ref.min_snapshots_to_keep if ref is not None else None,
            max_snapshot_age_ms=ref.max_snapshot_age_ms if ref is not None else None,
            max_ref_age_ms=ref.max_ref_age_ms if ref is not None else None,
        ),
    )


def _refusal(stage: _Stage, head: TableHandle | None) -> CommitOutcome | None:
    """Why a change cannot be put on top of the newest state of its table; None when it can."""
    if head is None:
        return None
    if isinstance(stage.change, CreateChange):
        return Rejected(TableExistsError(f"table {head.name} exists already"))
    conflict = find_conflict(stage.change, head.metadata)
    return Conflicted(stage.change.name, conflict) if conflict is not None else None


def _ids(stages: Sequence[_Stage]) -> dict[str, int]:
    return {stage.change.name: stage.snapshot_id for stage in stages}


def _failed(message: str) -> CommitFailedError:
    return CommitFailedError(message, hint="nothing was committed; the statement can be repeated")


def _unknown_error(snapshot_ids: dict[str, int], error: Exception) -> CommitStateUnknownError:
    table, snapshot_id = next(iter(snapshot_ids.items()))
    listed = ", ".join(f"{name} as snapshot {number}" for name, number in snapshot_ids.items())
    return CommitStateUnknownError(
        f"whether the commit landed is unknown ({type(error).__name__}: {error}); nothing was deleted: {listed}",
        snapshot_id=snapshot_id,
        hint=f"look for it later: it has landed if snapshot {snapshot_id} is in the history of {table}",
    )
