"""Fold what was done into snapshots, swap them in, and say truthfully how that went.

Theory of operation. A commit has four outcomes. *Committed* is only said when the snapshot was seen to land: the
catalog said so, or it stands in the history of the newest metadata. *Conflict* and *rejected* are only said when
nothing landed. Everything else is *unknown*, and an unknown outcome is first looked into: the snapshot id is chosen
once, before the first attempt, so the newest metadata can be searched for it. A further attempt with the same id is
safe even while an earlier one may still be under way: each asks for the parent it was built on, so that at most one of
them can ever land.

While the catalog cannot be reached, the commit goes on asking until its total time-out: a definite answer, even a late
one, is worth more to a caller than "unknown". Lost races are counted instead.

An attempt re-bases and never re-runs: the data files and the manifests that list them are kept; only the manifest list
and the metadata are made anew. What an attempt left behind is deleted once it is known that it did not land, and
nothing is deleted while that is not known.

Commits of several threads to one table are combined: while one is under way the others queue up, and the next one takes
all of them along in a single swap, each with a snapshot of its own. From the second attempt on, a SQL catalog's row is
locked before the newest state is read, so that a writer who lost a race cannot lose the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.manifests import ManifestReader
from icefusion.clock import Clock
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.cleanup import delete_files
from icefusion.commit.conflicts import Conflict, find_conflict, find_identity_conflict
from icefusion.commit.fold import Stage, TableFold
from icefusion.commit.group import Groups
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.idempotency import Landed, find_landed
from icefusion.commit.metadata import dropped_metadata_files
from icefusion.commit.namespaces import stand
from icefusion.commit.operations import Change, CreateChange, NamespaceChange, TableChange
from icefusion.commit.retry import Attempts, cannot_be_reached
from icefusion.commit.swap import HeldRows, Lost, Refused, SwapOutcome, Swapped, Unknown, can_swap_many, hold_rows, swap
from icefusion.config import RetryConfig
from icefusion.errors import (
    CommitConflictError,
    CommitFailedError,
    CommitStateUnknownError,
    IcefusionError,
    StorageError,
    TableExistsError,
    TableNotFoundError,
)
from icefusion.reports import CommitReport

__all__ = [
    "AlreadyLanded",
    "CommitOutcome",
    "CommitRequest",
    "Committed",
    "Committer",
    "Conflicted",
    "OutcomeUnknown",
    "Rejected",
]


@dataclass(frozen=True)
class Committed:
    """All changes landed; ``reports`` tell of each table that was changed, in order."""

    reports: tuple[CommitReport, ...]


@dataclass(frozen=True)
class AlreadyLanded:
    """Under this idempotency key a write landed before; this one was thrown away."""

    landed: Landed


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


CommitOutcome = Committed | AlreadyLanded | Conflicted | Rejected | OutcomeUnknown


@dataclass(eq=False)
class CommitRequest:
    """Changes that are to land together or not at all, and what became of them.

    Attributes:
        changes: One for each branch of a table.
        namespaces: What happens to namespaces besides, on SQL catalogs.
        outcome: How it went; None while that is open.
        may_have_landed: Whether it is past the point where its files could be deleted, should the caller be
        interrupted.
        withdrawn: Whether the caller was interrupted while another thread had this request in its group.
    """

    changes: tuple[Change, ...]
    namespaces: tuple[NamespaceChange, ...] = ()
    outcome: CommitOutcome | None = None
    may_have_landed: bool = False
    withdrawn: bool = False
    in_group: bool = field(default=False, repr=False)
    stages: tuple[Stage, ...] = field(default=(), repr=False)
    unknown: Exception | None = field(default=None, repr=False)
    doubtful: list[tuple[TableHandle, str]] = field(default_factory=list, repr=False)

    @property
    def snapshot_ids(self) -> dict[str, int]:
        """The snapshot that each table will have from this, if it lands."""
        return {stage.change.name: stage.snapshot_id for stage in self.stages if stage.files}

    def withdraw(self) -> None:
        """The caller goes away while others work on this: they leave it out, unless it is in their swap already.

        In this order, and read in the other one by the group: it is left out, or the caller keeps its files.
        """
        self.withdrawn = True
        if self.in_group and self.outcome is None:
            self.may_have_landed = True

    @property
    def names(self) -> str:
        """The tables and namespaces, for messages."""
        return ", ".join(each.name for each in (*self.changes, *self.namespaces))


class Committer:
    """Commits changes to the tables of one catalog. Threads share it."""

    def __init__(
        self, client: CatalogClient, retry: RetryConfig, clock: Clock, reader: ManifestReader | None = None
    ) -> None:
        self._client = client
        self._retry = retry
        self.clock = clock
        self.manifests = reader or ManifestReader()
        self._groups: Groups[CommitRequest] = Groups()

    def with_retry(self, retry: RetryConfig) -> Committer:
        """The same committer, of other patience; it shares the queues and what is kept in memory."""
        other = Committer(self._client, retry, self.clock, self.manifests)
        other._groups = self._groups
        return other

    def commit(self, request: CommitRequest) -> Committed | AlreadyLanded:
        """Commit all changes or none.

        Raises:
            CommitConflictError: A change no longer fits; nothing landed.
            CommitFailedError: Attempts or time were spent, or the catalog refused; nothing landed.
            CommitStateUnknownError: It may have landed; nothing was deleted.
        """
        outcome = self.outcome(request)
        match outcome:
            case Committed() | AlreadyLanded():
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
                raise _unknown_error(request, snapshot_ids, error) from error

    def outcome(self, request: CommitRequest) -> CommitOutcome:
        """Commit all changes or none, and answer with the outcome instead of raising it."""
        request.stages = tuple(Stage(change, self.manifests) for change in request.changes)
        first = request.changes[0] if len(request.changes) == 1 and not request.namespaces else None
        # What takes a table away from its name is no company for commits to it.
        if isinstance(first, TableChange) and not first.gives_up_name:
            self._run_in_group(first.base.identifier, request)
        else:
            self._run([request])
        assert request.outcome is not None
        return request.outcome

    def _run_in_group(self, key: tuple[str, ...], request: CommitRequest) -> None:
        leads = False

        def lead(group: Sequence[CommitRequest]) -> None:
            nonlocal leads
            leads = True
            self._run(group)

        try:
            self._groups.run(key, request, lead)
        except BaseException:
            if not leads:
                request.withdraw()
            raise

    # One group of requests, all to the same tables

    def _run(self, group: Sequence[CommitRequest]) -> None:
        for request in group:
            request.in_group = True
        for wave in _waves(group):
            self._run_wave(wave)

    def _run_wave(self, group: Sequence[CommitRequest]) -> None:
        properties = next((change.metadata.properties for change in group[0].changes), {})
        attempts = Attempts(self._retry.for_table(properties), self.clock)
        try:
            while True:
                attempts.start()
                self._attempt(group, attempts)
                if all(request.outcome is not None for request in group):
                    return
                if not attempts.wait():
                    break
            self._look_at_last(group, attempts)
            self._settle_unknown(group, attempts)
        except BaseException:
            for request in group:
                # What a swap may have landed is never deleted; all else was interrupted before it.
                if request.outcome is not None:
                    continue
                if not request.may_have_landed:
                    request.in_group = False
                    self._clean(request, {})
                    # Whoever goes on with it has to write everything anew.
                    request.stages = tuple(replace(stage) for stage in request.stages)
                elif request.unknown is None:
                    request.unknown = InterruptedError("the commit was interrupted")
            raise

    def _look_at_last(self, group: Sequence[CommitRequest], attempts: Attempts) -> None:
        """Is it there? While the catalog cannot be reached, that is asked again until the time is over."""
        rest = [request for request in group if request.outcome is None]
        attempts.away = False
        while self._look(rest, attempts, asked_before=True) is None and attempts.away:
            if not attempts.wait_for_catalog():
                break

    def _attempt(self, group: Sequence[CommitRequest], attempts: Attempts) -> None:
        """One round: look, validate, build, swap. Requests that come to an end get their outcome."""
        for request in group:
            if request.withdrawn and request.outcome is None:
                self._end(request, Rejected(_failed("the commit was interrupted")))
        if all(request.outcome is not None for request in group):
            return
        namespaces = [each for request in group for each in request.namespaces]  # such a request is a group of its own
        lock = hold_rows(self._client, _identifiers(group), namespaces) if attempts.number > 1 else None
        try:
            heads = self._look(group, attempts, lock, asked_before=attempts.number > 1)
            if heads is None:
                return
            folds = {key: TableFold(base, self.clock) for key, base in _bases(group, heads).items()}
            members = [request for request in group if request.outcome is None and self._add(request, folds)]
            if not members:
                return
            together = can_swap_many(self._client)
            stages = [stage for request in members for stage in request.stages]
            # A table that was only read is held still by the same swap, where the catalog can do that.
            keys = list(dict.fromkeys(_key(stage.change) for stage in stages if together or stage.changes_table))
            moves = [folds[key].move() for key in keys]
            result = swap(self._client, moves, self.clock, lock, lambda: _let_land(members), namespaces)
        except StorageError as error:
            for request in group:
                if request.outcome is None:
                    self._end(request, Rejected(error))
            return
        finally:
            if lock is not None:
                lock.release()
        self._judge(members, keys, result, attempts)
        if isinstance(result, Unknown):
            # Before anything else is said: is it there?
            self._look(members, attempts, asked_before=True)

    def _judge(
        self,
        members: Sequence[CommitRequest],
        keys: Sequence[UUID],
        result: SwapOutcome,
        attempts: Attempts,
    ) -> None:
        match result:
            case Swapped(tables):
                landed = dict(zip(keys, tables, strict=True))
                for request in members:
                    self._committed(request, landed, attempts)
            case Lost(reason, error):
                attempts.failed(reason, away=cannot_be_reached(error))
                for request in members:
                    request.may_have_landed = request.unknown is not None
            case Refused(error):
                for request in members:
                    self._end(request, Rejected(error))
            case Unknown(error):
                attempts.failed(str(error), away=cannot_be_reached(error))
                for request in members:
                    request.unknown = error
                    request.doubtful += result.written

    def _look(
        self,
        group: Sequence[CommitRequest],
        attempts: Attempts,
        lock: HeldRows | None = None,
        *,
        asked_before: bool,
    ) -> dict[tuple[str, ...], TableHandle | None] | None:
        """The newest states, after ending the requests that they show to have landed; None when they cannot be had."""
        heads: dict[tuple[str, ...], TableHandle | None] = {}
        for key in _places(group):
            try:
                heads[key] = self._client.load(key, lock.connection if lock is not None else None)
            except TableNotFoundError:
                heads[key] = None
            except IcefusionError as error:
                attempts.failed(error.message, away=cannot_be_reached(error))
                if not error.retryable and not attempts.away:
                    for request in group:
                        self._end(request, Rejected(error))
                return None
        found = {head.metadata.table_uuid: head for head in heads.values() if head is not None}
        for request in group:
            if request.outcome is not None:
                continue
            # A server's own retries can answer "conflict" to a request that its first try landed.
            suspect = request.may_have_landed or asked_before
            try:
                landed = suspect and self._all_landed(request, heads)
            except IcefusionError as error:
                attempts.failed(error.message, away=cannot_be_reached(error))
                return None
            if landed:
                self._committed(request, found, attempts)
                continue
            for change in request.changes:
                if isinstance(change, TableChange) and heads[change.identifier] is None:
                    text = f"table {change.base.name} was dropped or renamed during the transaction"
                    self._end(request, Rejected(_failed(text)))
                    break
        return heads

    def _all_landed(self, request: CommitRequest, heads: dict[tuple[str, ...], TableHandle | None]) -> bool:
        """Whether a request is seen to have landed: by its tables, and by its namespaces where nothing else can tell.

        All of it lands or nothing does. So a snapshot or a metadata file of its own tells of the whole, and namespaces,
        which carry nothing that says who changed them, are only looked at where there is none.
        """
        changed = [stage for stage in request.stages if stage.changes_table]
        if not all(self._landed(request, stage, heads) for stage in changed):
            return False
        if any(stage.is_known_by_its_own for stage in changed) or not request.namespaces:
            return bool(changed)
        catalog = self._client.catalog
        return request.unknown is not None and isinstance(catalog, SqlCatalog) and stand(catalog, request.namespaces)

    def _landed(self, request: CommitRequest, stage: Stage, heads: dict[tuple[str, ...], TableHandle | None]) -> bool:
        """Whether a stage is seen to have landed, by an attempt whose outcome nobody told."""
        change = stage.change
        only_defines = isinstance(change, TableChange) and not stage.files
        if only_defines and self._client.engine is not None and request.unknown is None:
            return False  # a SQL catalog tells no lies about lost races: what stands there is somebody else's
        head = heads.get(change.identifier)
        if isinstance(change, TableChange) and change.renamed is not None:
            if head is not None and _key(change) == head.metadata.table_uuid:
                return False  # it has its old name
            head = heads.get(change.renamed.identifier)
        written = [location for base, location in request.doubtful if base.metadata.table_uuid == _key(change)]
        return stage.landed_in(head, written)

    def _add(self, request: CommitRequest, folds: dict[UUID, TableFold]) -> bool:
        """Put a request on top of its tables; one that no longer fits or cannot be written ends, alone."""
        try:
            if not self._admit(request, folds):
                return False
            for stage in request.stages:
                folds[_key(stage.change)].add(stage)
        except MemoryError:
            raise
        except IcefusionError as error:
            self._end(request, Rejected(error))
        except Exception as exc:  # any store's own errors
            failed = StorageError(f"the manifests of the commit to {request.names} could not be written: {exc}")
            failed.__cause__ = exc
            self._end(request, Rejected(failed))
        return request.outcome is None

    def _admit(self, request: CommitRequest, folds: dict[UUID, TableFold]) -> bool:
        """Whether a request still fits the newest states, with what stands before it in the group."""
        defined: dict[UUID, TableMetadata] = {}
        for stage in request.stages:
            change, fold = stage.change, folds[_key(stage.change)]
            if isinstance(change, CreateChange):
                if not fold.creates:
                    self._end(request, Rejected(TableExistsError(f"table {change.name} exists already")))
                    return False
                continue
            landed = find_landed(fold.metadata, change.idempotency_key)
            if landed is not None:
                self._end(request, AlreadyLanded(landed))
                return False
            conflict = find_identity_conflict(change, fold.metadata)
            if conflict is None and not change.dropped:
                # What the request does to the metadata stands in the first of its changes to a table.
                now = fold.defined(change) if change.definition else defined.get(_key(change), fold.metadata)
                defined[_key(change)] = now
                conflict = find_conflict(change, fold.handle, now, self.manifests)
            if conflict is not None:
                self._end(request, Conflicted(change.name, conflict))
                return False
        return True

    def _settle_unknown(self, group: Sequence[CommitRequest], attempts: Attempts) -> None:
        for request in group:
            if request.outcome is None:
                text = (
                    f"commit to {request.names} gave up after {attempts.number} attempts "
                    f"in {attempts.elapsed_s():.1f} s: {attempts.last}"
                )
                self._end(request, Rejected(_failed(text)))

    # Ends

    def _end(self, request: CommitRequest, outcome: CommitOutcome) -> None:
        """End a request that did not land by this group's doing, and clean up if that is certain."""
        if request.unknown is not None and not isinstance(outcome, AlreadyLanded):
            # An earlier attempt of unknown fate may still land, whatever this one was told.
            request.outcome = OutcomeUnknown(request.snapshot_ids, request.unknown)
            return
        request.outcome = outcome
        request.may_have_landed = False
        self._clean(request, {})

    def _committed(self, request: CommitRequest, tables: dict[UUID, TableHandle], attempts: Attempts) -> None:
        request.outcome = Committed(
            tuple(
                CommitReport(
                    table=stage.change.name,
                    snapshot_id=stage.snapshot_id if stage.files else None,
                    operation=stage.operation,
                    attempts=attempts.number,
                    added_files=len(stage.files.added),
                    removed_files=len(stage.files.removed),
                    added_delete_files=len(stage.files.added_deletes),
                    removed_delete_files=len(stage.files.removed_deletes),
                    added_rows=sum(file.record_count for file in stage.files.added),
                    seconds=attempts.elapsed_s(),
                )
                for stage in request.stages
                if stage.changes_table
            )
        )
        self._clean(request, tables)
        for base, location in request.doubtful:
            head = tables.get(base.metadata.table_uuid)
            if head is None:
                continue
            if location == head.metadata_location or location in {e.metadata_file for e in head.metadata.metadata_log}:
                delete_files(head.io, dropped_metadata_files(base.metadata, head.metadata))
            else:
                delete_files(head.io, [location])

    def _clean(self, request: CommitRequest, landed: dict[UUID, TableHandle]) -> None:
        """Delete the manifests and lists that belong to nothing now."""
        for stage in request.stages:
            leftovers = stage.leftovers(landed.get(_key(stage.change)))
            if leftovers:
                delete_files(stage.change.base.io, leftovers)


def _let_land(members: Sequence[CommitRequest]) -> None:
    for request in members:
        request.may_have_landed = True


def _waves(group: Sequence[CommitRequest]) -> list[list[CommitRequest]]:
    """Requests that can be swapped in together: of those with the same idempotency key, one after the other.

    The second may only be told that its key has landed once that is so.
    """
    waves: list[tuple[set[str], list[CommitRequest]]] = []
    for request in group:
        own = {change.idempotency_key for change in request.changes if change.idempotency_key is not None}
        for keys, members in waves:
            if keys.isdisjoint(own):
                keys.update(own)
                members.append(request)
                break
        else:
            waves.append((own, [request]))
    return [members for _, members in waves]


def _identifiers(group: Sequence[CommitRequest]) -> list[tuple[str, ...]]:
    """The existing tables of a group, each once."""
    keys = (c.identifier for request in group for c in request.changes if isinstance(c, TableChange))
    return list(dict.fromkeys(keys))


def _key(change: Change) -> UUID:
    """What tells the tables of a commit apart: one may take the name that another one gives up."""
    return change.base.metadata.table_uuid


def _places(group: Sequence[CommitRequest]) -> list[tuple[str, ...]]:
    """Where to look for the tables of a group: also under the names that they may have got already."""
    places: dict[tuple[str, ...], None] = {}
    for request in group:
        for change in request.changes:
            places[change.identifier] = None
            if isinstance(change, TableChange) and request.unknown is not None:
                places[change.target.identifier] = None
    return list(places)


def _bases(
    group: Sequence[CommitRequest], heads: dict[tuple[str, ...], TableHandle | None]
) -> dict[UUID, TableHandle | StagedTable]:
    """What the changes are put on top of: the newest state of a table, or the first of a new one."""
    bases: dict[UUID, TableHandle | StagedTable] = {}
    for request in group:
        given_up = {c.identifier for c in request.changes if isinstance(c, TableChange) and c.gives_up_name}
        for change in request.changes:
            head = heads.get(change.identifier)
            if isinstance(change, CreateChange) and (head is None or change.identifier in given_up):
                bases[_key(change)] = change.base
            elif head is not None:
                bases[_key(change)] = head
    return bases


def _failed(message: str) -> CommitFailedError:
    return CommitFailedError(message, hint="nothing was committed; the statement can be repeated")


def _unknown_error(request: CommitRequest, ids: dict[str, int], error: Exception) -> CommitStateUnknownError:
    renames = any(isinstance(change, TableChange) and change.gives_up_name for change in request.changes)
    if not ids and (request.namespaces or renames):
        return CommitStateUnknownError(
            f"whether the commit of {request.names} landed is unknown ({type(error).__name__}: {error})",
            hint=f"look whether {request.names} are as they were to be: all of it landed, or nothing",
        )
    if not ids:
        return CommitStateUnknownError(
            f"whether {request.names} was created is unknown ({type(error).__name__}: {error})",
            hint="look whether the table exists",
        )
    listed = ", ".join(f"{name} as snapshot {number}" for name, number in ids.items())
    table, snapshot_id = next(iter(ids.items()))
    return CommitStateUnknownError(
        f"whether the commit landed is unknown ({type(error).__name__}: {error}); nothing was deleted: {listed}",
        snapshot_id=snapshot_id,
        hint=f"find out later with SELECT 1 FROM {table} FOR VERSION AS OF {snapshot_id}: it fails if nothing landed",
    )
