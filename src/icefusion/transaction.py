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
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import AlwaysFalse, BooleanExpression, Or

from icefusion.changes.staging import RowChange, Staging
from icefusion.commit.catalog import CatalogClient, TableHandle
from icefusion.commit.catalogs import check_together
from icefusion.commit.cleanup import delete_files
from icefusion.commit.committer import AlreadyLanded, CommitRequest, Committer
from icefusion.commit.idempotency import Landed, check_key, find_landed
from icefusion.commit.operations import FileChange, TableChange
from icefusion.config import Isolation
from icefusion.errors import BindError, NamespaceNotFoundError, TableNotFoundError, TransactionError
from icefusion.generated_tables import find_generated, tables_told_of
from icefusion.query.generated import GeneratedSource
from icefusion.query.scan import TableView
from icefusion.query.travel import Travel, named_version, resolve_named, resolve_version
from icefusion.reports import CommitReport, Reporter, tell
from icefusion.session_views import SessionViews
from icefusion.sql.statements import Name, TimeAsOf, VersionAsOf
from icefusion.sql.view_expansion import ViewText
from icefusion.write.deletes import write_position_deletes

if TYPE_CHECKING:
    from icefusion.result import Result
    from icefusion.session import Session

__all__ = ["Isolation", "Status", "Transaction", "TransactionState"]

logger = logging.getLogger("icefusion")


class Status(enum.Enum):
    """Where a transaction is in its life."""

    ACTIVE = "active"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    UNKNOWN = "of unknown outcome"


@dataclass
class PinnedTable:
    """One table of a transaction: the state it was first seen in, what was read of it, and what was done to it."""

    handle: TableHandle
    staging: Staging = field(default_factory=Staging)
    reads: BooleanExpression = field(default_factory=AlwaysFalse)


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
        self._tables: dict[tuple[str, ...], PinnedTable] = {}
        self._names: dict[Name, tuple[str, ...]] = {}
        self._absent: set[Name] = set()
        self._lock = threading.RLock()

    # Reading

    def pin(self, name: Name) -> PinnedTable:
        """The table that a name stands for, in the state in which this transaction first saw it.

        Raises:
            TableNotFoundError: There is no such table.
            TransactionError: The transaction is over.
        """
        self.require_active()
        with self._lock:
            if name not in self._names:
                handle = self.client.resolve(name)
                self._names[name] = handle.identifier
                # The same table may have been named in another spelling before.
                self._tables.setdefault(handle.identifier, PinnedTable(handle))
            return self._tables[self._names[name]]

    def pin_together(self, names: Iterable[Name]) -> None:
        """Pin tables, those that are not pinned yet in states that all held at one moment.

        Raises:
            TableNotFoundError: There is no such table.
            TransactionError: The transaction is over.
        """
        self.require_active()
        with self._lock:
            names = dict.fromkeys(tables_told_of(self, [name for name in names if self.find_view(name) is None]))
            new = [name for name in names if name not in self._names and named_version(name) is None]
            if len(new) < 2:
                return  # there is nothing to be together with
            for name, handle in zip(new, self.client.resolve_together(new), strict=True):
                self._names[name] = handle.identifier
                self._tables.setdefault(handle.identifier, PinnedTable(handle))

    def find_view(self, name: Name) -> ViewText | None:
        """The view of the session that a name stands for; None where it is none."""
        return self.views.find(name) if self.views is not None else None

    def used(self, identifier: tuple[str, ...]) -> TableHandle | None:
        """The state in which this transaction sees a table that it has used; None for others."""
        pinned = self._tables.get(identifier)
        return None if pinned is None else pinned.handle

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
            if version is not None:
                hint = f"read {named.table} at a version, or {name}"
                raise BindError(f"{name} names a version already", hint=hint) from None
            return pinned, resolve_named(pinned.handle.name, pinned.handle.metadata, named)
        if version is None:
            return pinned, None
        return pinned, resolve_version(pinned.handle.name, pinned.handle.metadata, version)

    def view_of(self, pinned: PinnedTable) -> TableView:
        """A table as it is for the statements of this transaction."""
        handle, staging = pinned.handle, pinned.staging
        return TableView(
            name=handle.name,
            metadata=handle.metadata,
            io=handle.io,
            snapshot_id=handle.metadata.current_snapshot_id,
            schema=handle.metadata.schema(),
            staged=tuple(staging.added.values()),
            removed=frozenset(staging.removed),
            deleted=staging.deleted,
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
                    current = pinned.handle.metadata.current_snapshot_id
                    # An earlier version that was asked for by name stays what it is.
                    if pinned.handle.name == view.name and view.snapshot_id == current:
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
        self.require_active()
        others = [t.handle.name for t in self._tables.values() if t.staging and t is not pinned]
        check_together(self.client, pinned.handle.name, others)

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
            if not any(pinned.staging for pinned in self._tables.values()) or self.landed:
                self._discard(Status.COMMITTED)
                return ()
            written: list[tuple[PinnedTable, FileChange]] = []
            request: CommitRequest | None = None
            try:
                for pinned in self._tables.values():
                    if pinned.staging:
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
                delete_files(pinned.handle.io, [file.file_path for file in pinned.staging.dropped])
        for report in outcome.reports:
            tell(self._reporter, report)
        return outcome.reports

    def _written_files(self, pinned: PinnedTable) -> FileChange:
        """What the commit does to one table; its delete files are written now."""
        handle, staging = pinned.handle, pinned.staging
        deletes = write_position_deletes(staging.deleted, staging.touched, handle.name, handle.metadata, handle.io)
        return staging.to_files(deletes)

    def _changes(self, written: Sequence[tuple[PinnedTable, FileChange]]) -> tuple[TableChange, ...]:
        """What the commit has to land and to hold still: the tables that were written first, then those only read."""
        read = [t for t in self._tables.values() if not t.staging and not isinstance(t.reads, AlwaysFalse)]
        return (
            *(
                TableChange(pinned.handle, files, idempotency_key=self.idempotency_key, reads=pinned.reads)
                for pinned, files in written
                if files
            ),
            *(TableChange(pinned.handle, reads=pinned.reads) for pinned in read),
        )

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
