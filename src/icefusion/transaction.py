"""The transaction: what it reads stays as it was first seen, what it writes waits until the commit.

Theory of operation. A table is pinned when the transaction first names it: from then on every statement reads that
snapshot, together with the data files that earlier statements of the same transaction have staged. Staged files lie in
storage and in no manifest, so nobody else can see them. The commit folds all staged operations into one snapshot a
table and swaps all tables together; a rollback deletes the staged files. Once the outcome of a commit is unknown,
nothing is deleted any more.

A statement that fails inside a transaction leaves nothing of itself behind and the transaction as it was before it.
"""

from __future__ import annotations

import enum
import logging
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression, Or
from pyiceberg.table.refs import MAIN_BRANCH

from icefusion.changes.staging import RowChange, Staging
from icefusion.commit.catalog import CatalogClient, StagedTable, TableHandle, find_identifier
from icefusion.commit.catalogs import check_together, owner_of
from icefusion.commit.cleanup import delete_files
from icefusion.commit.committer import AlreadyLanded, CommitRequest, Committer
from icefusion.commit.definitions import define
from icefusion.commit.idempotency import Landed, check_key, find_landed
from icefusion.commit.operations import Change, CreateChange, Definition, FileChange, TableChange
from icefusion.commit.swap import can_drop_in_swap
from icefusion.config import Isolation
from icefusion.errors import BindError, NamespaceNotFoundError, TableNotFoundError, TransactionError
from icefusion.generated_tables import find_generated, tables_told_of
from icefusion.query.generated import GeneratedSource
from icefusion.query.scan import TableView
from icefusion.query.travel import Travel, find_ref, named_version, resolve_named, resolve_version
from icefusion.reports import CommitReport, Reporter, tell
from icefusion.session_views import SessionViews
from icefusion.sql.basics import Identifier
from icefusion.sql.statements import Name, TimeAsOf, VersionAsOf
from icefusion.sql.view_expansion import ViewText
from icefusion.write.deletes import write_position_deletes

if TYPE_CHECKING:
    from icefusion.result import Result
    from icefusion.session import Session

__all__ = ["Isolation", "Status", "Transaction", "TransactionState"]

logger = logging.getLogger("icefusion")

Place = tuple[tuple[str, ...], str]
"""The identifier of a table, and the name of one of its branches."""


class Status(enum.Enum):
    """Where a transaction is in its life."""

    ACTIVE = "active"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    UNKNOWN = "of unknown outcome"


@dataclass
class TableState:
    """One table of a transaction: as it was first seen, and as statements have altered it since.

    Attributes:
        base: The state it was first seen in; or what it would begin with, if this transaction makes it.
        handle: The same with what statements did to its metadata.
        definition: What that is.
        dropped: Whether a statement has dropped it.
    """

    base: TableHandle | StagedTable
    handle: TableHandle
    definition: Definition = field(default_factory=Definition)
    dropped: bool = False

    @classmethod
    def of(cls, base: TableHandle | StagedTable) -> TableState:
        """A table that nothing was done to yet."""
        return cls(base, base.handle if isinstance(base, StagedTable) else base)

    @property
    def is_changed(self) -> bool:
        """Whether there is something to commit besides rows."""
        return isinstance(self.base, StagedTable) or self.dropped or bool(self.definition)


@dataclass
class PinnedTable:
    """One branch of a table in a transaction: what was read of it, and what was done to its rows.

    Attributes:
        table: The table.
        ref: The branch.
        staging: What was done to its rows.
        reads: Which rows must be as they were read.
        summary: Further entries for the summary of the snapshot that this becomes.
        published: Whether the branch moves to that snapshot.
    """

    table: TableState
    ref: str = MAIN_BRANCH
    staging: Staging = field(default_factory=Staging)
    reads: BooleanExpression = field(default_factory=AlwaysFalse)
    summary: dict[str, str] = field(default_factory=dict)
    published: bool = True

    @property
    def handle(self) -> TableHandle:
        """The table, with what this transaction did to its metadata."""
        return self.table.handle

    @property
    def name(self) -> str:
        """The table's full name, and the branch unless it is the main one."""
        name = self.handle.name
        return name if self.ref == MAIN_BRANCH else f"{name}.branch_{self.ref}"

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot that the branch is at; None where it has none."""
        ref = self.handle.metadata.refs.get(self.ref)
        return ref.snapshot_id if ref is not None else None


class TransactionState:
    """What a transaction has read and staged; the part of it that statements work with."""

    def __init__(
        self,
        client: CatalogClient,
        committer: Committer,
        *,
        isolation: Isolation | None = "serializable",
        reporter: Reporter | None = None,
        idempotency_key: str | None = None,
        views: SessionViews | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.isolation = isolation
        self.idempotency_key = check_key(idempotency_key)
        self.landed: dict[str, Landed] = {}
        self.status = Status.ACTIVE
        self.client = client
        self._committer = committer
        self._reporter = reporter
        self.views = views
        self._states: dict[tuple[str, ...], TableState] = {}
        self._tables: dict[Place, PinnedTable] = {}
        self._names: dict[Name, Place] = {}
        self._absent: set[Name] = set()
        self._lock = threading.RLock()

    # Reading

    def pin(self, name: Name) -> PinnedTable:
        """The table that a name stands for, in the state in which this transaction first saw it.

        A name like ``ns.t.branch_b`` stands for a branch of a table, unless there is a table of that name.

        Raises:
            TableNotFoundError: There is no such table, or no such branch.
            TransactionError: The transaction is over.
        """
        self.require_active()
        with self._lock:
            if name not in self._names:
                self._names[name] = self._locate(name)
            pinned = self._tables[self._names[name]]
            if pinned.table.dropped:
                raise TableNotFoundError(
                    f"table {pinned.handle.name} does not exist: this transaction has dropped it",
                    hint="ROLLBACK brings it back",
                )
            return pinned

    def find(self, name: Name) -> PinnedTable | None:
        """As `pin`; None where there is no such table."""
        try:
            return self.pin(name)
        except (TableNotFoundError, NamespaceNotFoundError):
            return None

    def _locate(self, name: Name) -> Place:
        """Where a name leads to, the table pinned."""
        made = self._find_made(name)
        if made is not None:
            return made
        try:
            handle = self.client.resolve(name)
        except (TableNotFoundError, NamespaceNotFoundError):
            place = self._find_branch(name)
            if place is None:
                raise
            return place
        return self._pin_handle(handle)

    def _pin_handle(self, handle: TableHandle, ref: str = MAIN_BRANCH) -> Place:
        # The same table may have been named in another spelling before.
        table = self._states.setdefault(handle.identifier, TableState.of(handle))
        place = handle.identifier, ref
        self._tables.setdefault(place, PinnedTable(table, ref))
        return place

    def _find_made(self, name: Name) -> Place | None:
        """A table that this transaction makes; nobody else knows of it yet."""
        made = [key for key, table in self._states.items() if isinstance(table.base, StagedTable)]
        if not made or len(name.parts) < 2:
            return None
        wanted = self.client.split(name)
        key = find_identifier(wanted, name, made)
        return None if key is None else (key, MAIN_BRANCH)

    def _find_branch(self, name: Name) -> Place | None:
        """The branch that a name like ``ns.t.branch_b`` stands for; None where there is no such table."""
        named = named_version(name)
        if named is None or not isinstance(named.value, Identifier) or named.kind != "branch":
            return None
        try:
            handle = self.pin(named.table).handle
        except (TableNotFoundError, NamespaceNotFoundError):
            return None
        return self._pin_handle(handle, find_ref(handle.name, handle.metadata, named.value, "branch"))

    def pin_together(self, names: Iterable[Name]) -> None:
        """Pin tables, those that are not pinned yet in states that all held at one moment.

        Raises:
            TableNotFoundError: There is no such table.
            TransactionError: The transaction is over.
        """
        self.require_active()
        with self._lock:
            names = tables_told_of(self, [name for name in names if self.find_view(name) is None])
            new = [name for name in dict.fromkeys(names) if name not in self._names and named_version(name) is None]
            together = [name for name in new if self._find_made(name) is None]
            if len(together) > 1:  # otherwise there is nothing to be together with
                for name, handle in zip(together, self.client.resolve_together(together), strict=True):
                    self._names[name] = self._pin_handle(handle)

    def find_view(self, name: Name) -> ViewText | None:
        """The view of the session that a name stands for; None where it is none."""
        return self.views.find(name) if self.views is not None else None

    def used(self, identifier: tuple[str, ...]) -> TableHandle | None:
        """The state in which this transaction sees a table that it has used; None for others."""
        state = self._states.get(identifier)
        return None if state is None else state.handle

    def list_tables(self, client: CatalogClient, namespace: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The tables of a namespace, sorted, as this transaction has made and dropped them."""
        found = {tuple(identifier) for identifier in client.list_tables(namespace)}
        for identifier, table in self._states.items():
            if tuple(identifier[:-1]) != tuple(namespace) or owner_of(self.client, table.handle) is not client:
                continue
            if isinstance(table.base, StagedTable):
                found.add(tuple(identifier))
            elif table.dropped:
                found.discard(tuple(identifier))
        return sorted(found)

    def has_table(self, name: Name) -> bool:
        """Whether a name stands for a table of the catalog."""
        if name not in self._names and name not in self._absent and self.client.find_named(name) is None:
            self._absent.add(name)  # for as long as the transaction lasts, like tables that are there
        return name not in self._absent

    def view(self, name: Name, version: VersionAsOf | TimeAsOf | None) -> TableView | GeneratedSource:
        """What a statement of this transaction reads when it names a table, at a version or as it is now.

        Raises:
            BindError: There is no such snapshot, branch or tag.
        """
        generated = find_generated(self, name, version)
        if generated is not None:
            return generated
        pinned, travel = self.travel(name, version)
        if travel is None:
            return self.view_of(pinned)
        handle = pinned.handle
        return TableView(
            name=handle.name,
            metadata=handle.metadata,
            io=handle.io,
            snapshot_id=travel.snapshot_id,
            schema=travel.schema,
        )

    def travel(self, name: Name, version: VersionAsOf | TimeAsOf | None) -> tuple[PinnedTable, Travel | None]:
        """The table that a name stands for, and the version of it that name or version lead to; None for as it is."""
        try:
            pinned = self.pin(name)
        except (TableNotFoundError, NamespaceNotFoundError) as missing:
            named = named_version(name)
            if named is None:
                raise
            try:
                pinned = self.pin(named.table)
            except (TableNotFoundError, NamespaceNotFoundError):
                raise missing from None
            travel = resolve_named(pinned.handle.name, pinned.handle.metadata, named)
            is_named = True
        else:
            if version is None:
                return pinned, None
            travel = resolve_version(pinned.handle.name, pinned.handle.metadata, version)
            is_named = pinned.ref != MAIN_BRANCH
        if is_named and version is not None:
            raise BindError(f"{name} names a version already", hint=f"read the table at a version, or {name}")
        if travel.branch is None:
            return pinned, travel
        with self._lock:  # a branch goes on: what this transaction has written to it is read as well
            return self._tables[self._pin_handle(pinned.handle, travel.branch)], None

    def view_of(self, pinned: PinnedTable) -> TableView:
        """A table as it is for the statements of this transaction."""
        handle, staging = pinned.handle, pinned.staging
        return TableView(
            name=handle.name,
            metadata=handle.metadata,
            io=handle.io,
            snapshot_id=pinned.snapshot_id,
            schema=handle.metadata.schema(),
            staged=staging.waiting,
            removed=frozenset(staging.removed),
            deleted=staging.deleted,
            ref=pinned.ref,
        )

    def note_reads(
        self, reads: Iterable[tuple[TableView, BooleanExpression]], isolation: Isolation = "snapshot"
    ) -> None:
        """Remember which rows the transaction depends on; only a serializable one does.

        Args:
            reads: Tables, and what is true of every row of them that matters.
            isolation: What goes for a statement outside of a transaction.
        """
        if (self.isolation or isolation) != "serializable":
            return
        with self._lock:
            for view, row_filter in reads:
                for pinned in self._tables.values():
                    # An earlier version that was asked for by name stays what it is.
                    if pinned.handle.name == view.name and pinned.ref == view.ref:
                        pinned.reads = Or(pinned.reads, row_filter)

    def uses(self, catalog: str) -> bool:
        """Whether a table of an attached catalog was read or written."""
        names = (pinned.handle.attached for pinned in self._tables.values())
        return any(name is not None and name.casefold() == catalog.casefold() for name in names)

    # Writing

    def check_may_write(self, pinned: PinnedTable) -> None:
        """Refuse what could not be committed, before it is written.

        Raises:
            TransactionError: It would be the second table, in another catalog or on one that moves one at a time.
        """
        self._check_may_change(pinned.handle.name)

    def _check_may_change(self, name: str) -> None:
        self.require_active()
        written = {pinned.handle.name for pinned in self._tables.values() if pinned.staging}
        written |= {table.handle.name for table in self._states.values() if table.is_changed}
        check_together(self.client, name, sorted(written - {name}))

    def find_landed(self, pinned: PinnedTable) -> Landed | None:
        """What landed before under this transaction's idempotency key; then nothing is to be written again."""
        landed = find_landed(pinned.handle.metadata, self.idempotency_key)
        if landed is not None:
            self.landed[pinned.handle.name] = landed
        return landed or next(iter(self.landed.values()), None)

    def stage(self, pinned: PinnedTable, change: RowChange) -> None:
        """Add what a statement did to what the commit will fold.

        Raises:
            TransactionError: The transaction ended while the statement ran.
        """
        with self._lock:
            self.require_active()
            pinned.staging = pinned.staging.with_change(change)

    # Defining

    def written_refs(self, pinned: PinnedTable) -> list[str]:
        """The branches of a table that statements have written to."""
        return [other.ref for other in self._tables.values() if other.table is pinned.table and other.staging]

    def hold_still(self, pinned: PinnedTable) -> None:
        """Let the commit fail if rows came or went meanwhile, at any isolation level."""
        pinned.reads = AlwaysTrue()

    def create(self, staged: StagedTable, change: RowChange | None = None) -> PinnedTable:
        """Let the transaction make a table, with its first rows.

        Raises:
            TransactionError: It cannot be committed together with what was written before.
        """
        with self._lock:
            self._check_may_change(staged.name)
            key = staged.handle.identifier
            if key in self._states:
                raise TransactionError(
                    f"table {staged.name} was dropped in this transaction and cannot be made anew in it",
                    hint="write CREATE OR REPLACE TABLE instead of DROP and CREATE, or COMMIT in between",
                )
            self._states[key] = TableState.of(staged)
            self._absent.clear()
            self._names = {name: place for name, place in self._names.items() if place[0] != key}
            pinned = self._tables[key, MAIN_BRANCH] = PinnedTable(self._states[key])
            if change is not None:
                pinned.staging = pinned.staging.with_change(change)
            return pinned

    def defined(self, pinned: PinnedTable, definition: Definition) -> TableHandle:
        """A table with a definition on top of what was done to it already; nothing is staged yet.

        Raises:
            SQLError: The definition names something that is not there.
            SchemaError: It cannot be done to this table.
        """
        handle = pinned.handle
        metadata, _ = define(handle.metadata, definition, self._committer.clock)
        return handle.with_state(metadata, handle.metadata_location)

    def stage_definition(self, pinned: PinnedTable, definition: Definition, change: RowChange | None = None) -> None:
        """Add what a statement did to a table's metadata to what the commit will do, and the rows that came with it.

        Raises:
            SQLError: The definition names something that is not there.
            SchemaError: It cannot be done to this table.
            TransactionError: It cannot be committed together with what was written before.
        """
        with self._lock:
            self._check_may_change(pinned.handle.name)
            table = pinned.table
            metadata, updates = define(table.handle.metadata, definition, self._committer.clock)
            if not updates and change is None:
                return
            table.handle = table.handle.with_state(metadata, table.handle.metadata_location)
            if isinstance(table.base, StagedTable):
                table.base = StagedTable(table.handle, table.base.updates + updates)
            elif definition.replacement is not None:
                table.definition = definition
            else:
                table.definition = replace(table.definition, steps=table.definition.steps + definition.steps)
            for other in self._tables.values():
                if other.table is table and not isinstance(other.reads, AlwaysFalse):
                    other.reads = AlwaysTrue()  # the names in it may mean something else now
            if definition.replacement is not None:
                pinned.staging = Staging(dropped=(*pinned.staging.dropped, *pinned.staging.added.values()))
            if change is not None:
                pinned.staging = pinned.staging.with_change(change)

    def drop(self, pinned: PinnedTable) -> None:
        """Take a table out of the catalog when the transaction commits; one that it made is forgotten at once.

        Raises:
            TransactionError: The catalog cannot do that together with other changes.
        """
        with self._lock:
            name, table = pinned.handle.name, pinned.table
            if isinstance(table.base, StagedTable):
                key = table.handle.identifier
                for place in [place for place in self._tables if place[0] == key]:
                    staging = self._tables.pop(place).staging
                    files = (*staging.added.values(), *staging.dropped)
                    delete_files(table.handle.io, [file.file_path for file in files])
                del self._states[key]
                self._names = {known: place for known, place in self._names.items() if place[0] != key}
                return
            owner = owner_of(self.client, table.base)
            if not can_drop_in_swap(owner):
                raise TransactionError(
                    f"table {name} cannot be dropped inside a transaction: catalog {owner.name} "
                    f"({type(owner.catalog).__name__}) drops tables at once",
                    hint="COMMIT or ROLLBACK first",
                )
            self._check_may_change(name)
            table.dropped = True

    # Ending

    def commit(self) -> tuple[CommitReport, ...]:
        """Make everything staged visible at once: one snapshot a table; nothing when nothing was staged.

        Nothing is done either when the idempotency key has landed before; `landed` tells of it.

        Raises:
            CommitConflictError: Nothing landed; the staged files are gone.
            CommitFailedError: Nothing landed; the staged files are gone.
            CommitStateUnknownError: It may have landed; the files are kept.
        """
        with self._lock:
            self.require_active()
            changed = any(pinned.staging for pinned in self._tables.values())
            changed = changed or any(table.is_changed for table in self._states.values())
            if not changed or self.landed:
                self._discard(Status.COMMITTED)
                return ()
            written: list[tuple[PinnedTable, FileChange]] = []
            request: CommitRequest | None = None
            try:
                for pinned in self._tables.values():
                    if pinned.staging and not pinned.table.dropped:
                        written.append((pinned, self._written_files(pinned)))
                changes = self._changes(written)
                request = CommitRequest(changes)
                outcome = self._committer.commit(request)
            except BaseException:
                if request is not None and request.may_have_landed:
                    self.status = Status.UNKNOWN
                else:
                    self._discard(Status.FAILED, written)
                raise
            if isinstance(outcome, AlreadyLanded):
                # The same key was committed by somebody else while this was written.
                self.landed[changes[0].name] = outcome.landed
                self._discard(Status.COMMITTED, written)
                return ()
            self.status = Status.COMMITTED
            for pinned in self._tables.values():
                useless = [*pinned.staging.dropped, *(pinned.staging.added.values() if pinned.table.dropped else ())]
                delete_files(pinned.handle.io, [file.file_path for file in useless])
        for report in outcome.reports:
            tell(self._reporter, report)
        return outcome.reports

    def _written_files(self, pinned: PinnedTable) -> FileChange:
        """What the commit does to one table; its delete files are written now."""
        handle, staging = pinned.handle, pinned.staging
        deletes = write_position_deletes(staging.deleted, staging.touched, handle.name, handle.metadata, handle.io)
        return staging.to_files(deletes)

    def _changes(self, written: Sequence[tuple[PinnedTable, FileChange]]) -> tuple[Change, ...]:
        """What the commit has to land and to hold still: the tables that were written first, then those only read."""
        files = {id(pinned): change for pinned, change in written}
        changes: list[Change] = []
        held: list[Change] = []
        for table in self._states.values():
            if table.dropped and isinstance(table.base, TableHandle):
                changes.append(TableChange(table.base, dropped=True))
                continue
            definition = table.definition
            defined = table.handle.metadata if definition else None
            for pinned in self._tables.values():
                if pinned.table is not table:
                    continue
                change = files.get(id(pinned), FileChange())
                if isinstance(table.base, StagedTable):
                    changes.append(CreateChange(table.base, change, idempotency_key=self.idempotency_key))
                elif change or (definition and pinned.ref == MAIN_BRANCH):
                    changes.append(
                        TableChange(
                            table.base,
                            change,
                            idempotency_key=self.idempotency_key,
                            summary=pinned.summary,
                            reads=pinned.reads,
                            published=pinned.published,
                            definition=definition,
                            defined=defined,
                            ref=pinned.ref,
                        )
                    )
                    definition = Definition()  # once for all branches
                elif not isinstance(pinned.reads, AlwaysFalse):
                    held.append(TableChange(table.base, reads=pinned.reads, ref=pinned.ref))
        return (*changes, *held)

    def rollback(self) -> None:
        """Throw away everything staged; the files are deleted."""
        with self._lock:
            self.require_active()
            self._discard(Status.ROLLED_BACK)

    def _discard(self, status: Status, written: Sequence[tuple[PinnedTable, FileChange]] = ()) -> None:
        self.status = status
        for pinned in self._tables.values():
            waiting = (*pinned.staging.added.values(), *pinned.staging.dropped)
            delete_files(pinned.handle.io, [file.file_path for file in waiting])
        for pinned, files in written:
            delete_files(pinned.handle.io, [file.file_path for file in files.added_deletes])

    def require_active(self) -> None:
        """Refuse to go on with a transaction that is over.

        Raises:
            TransactionError: It is over.
        """
        if self.status is not Status.ACTIVE:
            raise TransactionError(
                f"the transaction is {self.status.value}", hint="a transaction is used once; begin a new one"
            )


class Transaction:
    """A block of statements that takes effect as a whole or not at all.

    Made by `Session.transaction`, used once, as a context manager: it commits when the block ends and rolls back when
    the block raises. Inside the block `sql` runs statements; so does `Session.sql` on the same thread.
    """

    def __init__(self, session: Session, isolation: Isolation, idempotency_key: str | None = None) -> None:
        self._session = session
        self._isolation: Isolation = isolation
        self._idempotency_key = check_key(idempotency_key)
        self._state: TransactionState | None = None
        self.reports: tuple[CommitReport, ...] = ()

    @property
    def status(self) -> Status | None:
        """Where the transaction is in its life; None before the block begins."""
        return self._state.status if self._state is not None else None

    @property
    def snapshot_ids(self) -> dict[str, int]:
        """After the commit: the snapshot that was made of each table, now or when its idempotency key first landed."""
        made = {report.table: report.snapshot_id for report in self.reports if report.snapshot_id is not None}
        landed = self._state.landed if self._state is not None else {}
        return made | {table: record.snapshot_id for table, record in landed.items()}

    def __enter__(self) -> Transaction:
        if self._state is not None:
            raise TransactionError("a transaction block is used once", hint="call session.transaction() again")
        self._state = self._session._enter_block(self._isolation, self._idempotency_key)
        return self

    def sql(self, text: str, params: Any = None, **sources: Any) -> Result:
        """Run statements inside the transaction; see `Session.sql`."""
        self._require_entered()
        return self._session.sql(text, params, **sources)

    def rollback(self) -> None:
        """Throw everything away now; the rest of the block may run no further statements."""
        self._require_entered().rollback()

    def _require_entered(self) -> TransactionState:
        if self._state is None:
            raise TransactionError("the transaction has not begun", hint="use it as: with session.transaction() as tx:")
        self._state.require_active()
        return self._state

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._state
        assert state is not None
        self._session._leave_block(state)
        if state.status is not Status.ACTIVE:
            return
        if error is None:
            self.reports = state.commit()
            return
        try:
            state.rollback()
        except Exception:  # the block's own error is what the caller has to hear
            logger.warning("rollback of transaction %s failed", state.id, exc_info=True)
