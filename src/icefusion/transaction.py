"""The transaction: what it reads stays as it was first seen, what it writes waits until the commit.

Theory of operation. A table is pinned when the transaction first names it: from then on every statement reads that
snapshot, together with the data files that earlier statements of the same transaction have staged. Staged files lie in
storage and in no manifest, so nobody else can see them. The commit folds all staged operations into one snapshot a
table and swaps all tables together; a rollback deletes the staged files. Once the outcome of a commit is unknown,
nothing is deleted any more.

A statement that fails inside a transaction leaves nothing of itself behind and the transaction as it was before it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression, Or
from pyiceberg.table.refs import MAIN_BRANCH

from icefusion.changes.staging import RowChange, Staging
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import check_together, namespace_owner_of, owner_of
from icefusion.commit.cleanup import delete_files
from icefusion.commit.committer import AlreadyLanded, CommitRequest, Committer
from icefusion.commit.definitions import define
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.idempotency import Landed, check_key, find_landed
from icefusion.commit.operations import (
    WAP_ID,
    Change,
    CreateChange,
    Definition,
    FileChange,
    TableChange,
    waits_under,
)
from icefusion.commit.swap import can_change_names
from icefusion.config import Isolation
from icefusion.errors import TableExistsError, TransactionError
from icefusion.namespaces import check_may_change
from icefusion.pinned import PinnedTable, PinnedTables, Status, TableState, Wap, is_audited
from icefusion.query.scan import TableView
from icefusion.reports import CommitReport, Reporter, tell
from icefusion.sql.alterations import SetRef
from icefusion.sql.basics import Identifier
from icefusion.sql.statements import AlterNamespace, CreateNamespace, DropNamespace, NamespaceDefinition
from icefusion.views import Views
from icefusion.write.deletes import write_position_deletes

if TYPE_CHECKING:
    from icefusion.result import Result
    from icefusion.session import Session

__all__ = ["Isolation", "Transaction", "TransactionState"]

logger = logging.getLogger("icefusion")


class TransactionState(PinnedTables):
    """What a transaction has read and staged; the part of it that statements work with."""

    def __init__(
        self,
        client: CatalogClient,
        committer: Committer,
        *,
        isolation: Isolation | None = "serializable",
        reporter: Reporter | None = None,
        idempotency_key: str | None = None,
        views: Views | None = None,
        wap: Wap | None = None,
    ) -> None:
        super().__init__(client, committer.manifests, views, wap)
        self.isolation = isolation
        self.idempotency_key = check_key(idempotency_key)
        self.landed: dict[str, Landed] = {}
        self._committer = committer
        self._reporter = reporter

    # Reading

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

    # Writing

    def check_may_write(self, pinned: PinnedTable, *, publishing: bool = False) -> None:
        """Refuse what could not be committed, before it is written.

        Args:
            pinned: The table.
            publishing: Whether it is meant for the branch that it is about, whatever `wap` says.

        Raises:
            TransactionError: It would be the second table, in another catalog or on one that moves one at a time; or
                `wap` says that rows go elsewhere.
        """
        self._check_may_change(pinned.handle.name)
        if publishing:
            return
        branch = self.wap.branch
        known = branch in pinned.table.base.metadata.refs and branch in pinned.handle.metadata.refs
        if known and pinned.ref == MAIN_BRANCH and is_audited(pinned.handle):
            # Whoever names the table alone is led to the branch, once that is there.
            raise TransactionError(
                f"rows are written to branch {branch} of {pinned.handle.name}, as wap.branch says, and not to main",
                hint="name the table alone, or RESET wap.branch",
            )
        waiting = self.wap.id if is_audited(pinned.handle) and pinned.ref == MAIN_BRANCH else None
        if waiting is not None and any(waits_under(each, waiting) for each in pinned.handle.metadata.snapshots):
            raise TransactionError(
                f"table {pinned.handle.name} has a snapshot with {WAP_ID} {waiting} already",
                hint=f"publish it, CALL system.publish_changes('...', '{waiting}'), or choose another id",
            )

    def _check_may_change(self, name: str) -> None:
        self.require_active()
        written = {pinned.handle.name for pinned in self._tables.values() if pinned.staging}
        tables = (*self._states.values(), *self._given_up.values())
        written |= {table.handle.name for table in tables if table.is_changed}
        written |= set(self.namespaces.names)
        check_together(self.client, name, sorted(written - {name}))

    def find_landed(self, pinned: PinnedTable) -> Landed | None:
        """What landed before under this transaction's idempotency key; then nothing is to be written again."""
        landed = find_landed(pinned.handle.metadata, self.idempotency_key)
        if landed is not None:
            self.landed[pinned.handle.name] = landed
        return landed or next(iter(self.landed.values()), None)

    def stage(self, pinned: PinnedTable, change: RowChange, *, publishing: bool = False) -> None:
        """Add what a statement did to what the commit will fold.

        Args:
            pinned: The table.
            change: What was done to its rows.
            publishing: Whether it is meant for the branch that it is about, whatever `wap` says.

        Raises:
            TransactionError: The transaction ended while the statement ran.
        """
        with self._lock:
            self.require_active()
            target = pinned if publishing or not change else self._audited(pinned)
            target.staging = target.staging.with_change(change)

    def _audited(self, pinned: PinnedTable) -> PinnedTable:
        """Where rows go that were meant for a table, as `wap` says: a branch, or a snapshot of none."""
        if pinned.ref != MAIN_BRANCH or self.wap == Wap() or not is_audited(pinned.handle):
            return pinned
        if self.wap.branch is None:
            pinned.published = False
            pinned.summary[WAP_ID] = self.wap.id or ""
            return pinned
        if pinned.snapshot_id is not None:
            action = SetRef("branch", Identifier(self.wap.branch, True), pinned.snapshot_id)
            self.stage_definition(pinned, Definition(steps=((action,),)))
        return self._tables[self._pin_handle(pinned.handle, self.wap.branch)]

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
                    f"this transaction has used a table {staged.name} that somebody else has dropped since",
                    hint="ROLLBACK and repeat the transaction",
                )
            self._states[key] = TableState.of(staged)
            self._forget_names(key)
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
            self._views.clear()
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
            table = pinned.table
            if isinstance(table.base, StagedTable):
                self._give_up(table)
                for left in [each for each in self._left if each.table is table]:
                    self._left.remove(left)
                    files = (*left.staging.added.values(), *left.staging.dropped)
                    delete_files(table.handle.io, [file.file_path for file in files])
                return
            owner = owner_of(self.client, table.base)
            if not can_change_names(owner):
                raise TransactionError(
                    f"table {table.handle.name} cannot be dropped inside a transaction: catalog {owner.name} "
                    f"({type(owner.catalog).__name__}) drops tables at once",
                    hint="COMMIT or ROLLBACK first",
                )
            self._check_may_change(table.handle.name)
            table.dropped = True
            self._give_up(table)

    def rename(self, pinned: PinnedTable, identifier: tuple[str, ...]) -> None:
        """Give a table another name when the transaction commits; one that it made has it at once.

        Args:
            pinned: The table.
            identifier: Namespace parts, as written, and the new name.

        Raises:
            NamespaceNotFoundError: There is no such namespace.
            TableExistsError: There is a table of that name.
            TransactionError: The catalog cannot do that together with other changes.
        """
        with self._lock:
            table = pinned.table
            owner = owner_of(self.client, table.handle)
            if not can_change_names(owner):
                raise TransactionError(
                    f"table {table.handle.name} cannot be renamed inside a transaction: catalogs rename at once",
                    hint="COMMIT or ROLLBACK first; on SQL catalogs (SQLite, PostgreSQL, MariaDB) it is part of it",
                )
            self._check_may_change(table.handle.name)
            namespace = self.namespaces.require(owner, identifier[:-1])
            new = owner.marked((*namespace, identifier[-1]))
            if new in self._states or (new not in self._given_up and owner.find(new) is not None):
                raise TableExistsError(f"table {owner.full_name(new)} exists already")
            self._rename(table, table.handle.named(owner.full_name(new), new))

    def define_namespace(self, statement: NamespaceDefinition) -> None:
        """Make, alter or drop a namespace when the transaction commits.

        Raises:
            NamespaceExistsError: There is one of this name.
            NamespaceNotFoundError: There is none of this name.
            NamespaceNotEmptyError: It holds tables.
            TransactionError: The catalog cannot do that together with other changes.
        """
        with self._lock:
            client = namespace_owner_of(self.client, statement.name)
            check_may_change(client)
            identifier = client.split_namespace(statement.name)
            self._check_may_change(client.full_name(identifier))
            self._views.clear()
            self._absent.clear()
            match statement:
                case CreateNamespace():
                    self.namespaces.create(
                        client, identifier, dict(statement.properties), if_not_exists=statement.if_not_exists
                    )
                case AlterNamespace():
                    properties = dict(statement.set_properties)
                    self.namespaces.alter(client, identifier, properties, statement.unset_properties)
                case DropNamespace():
                    found = self.namespaces.find(client, identifier)
                    if found is None and statement.if_exists:
                        return
                    found = self.namespaces.require(client, identifier)
                    tables = self.list_tables(client, found)
                    self.namespaces.drop(client, found, tables, if_exists=statement.if_exists)

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
            changed = any(pinned.staging for pinned in self._tables.values()) or bool(self._given_up)
            changed = changed or any(table.is_changed for table in self._states.values())
            changed = changed or bool(self.namespaces.changes)
            if not changed or self.landed:
                self._discard(Status.COMMITTED)
                return ()
            written: list[tuple[PinnedTable, FileChange]] = []
            request: CommitRequest | None = None
            try:
                for pinned in self._tables.values():
                    if pinned.staging:
                        written.append((pinned, self._written_files(pinned)))
                changes = self._changes(written)
                request = CommitRequest(changes, self.namespaces.changes)
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
            for pinned in self._all_pinned():
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
        for table in self._given_up.values():
            if table.dropped and isinstance(table.base, TableHandle):
                changes.append(TableChange(table.base, dropped=True))
                left = [each for each in self._left if each.table is table and not isinstance(each.reads, AlwaysFalse)]
                held += [TableChange(table.base, reads=each.reads, ref=each.ref) for each in left]
        for table in self._states.values():
            definition = table.definition
            defined = table.handle.metadata if definition else None
            renamed = table.handle if table.is_renamed else None
            moves = renamed is not None
            for pinned in self._tables.values():
                if pinned.table is not table:
                    continue
                change = files.get(id(pinned), FileChange())
                if isinstance(table.base, StagedTable):
                    changes.append(CreateChange(table.base, change, idempotency_key=self.idempotency_key))
                elif change or ((definition or moves) and pinned.ref == MAIN_BRANCH):
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
                            renamed=renamed,
                        )
                    )
                    definition, moves = Definition(), False  # once for all branches
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
        for pinned in self._all_pinned():
            waiting = (*pinned.staging.added.values(), *pinned.staging.dropped)
            delete_files(pinned.handle.io, [file.file_path for file in waiting])
        for pinned, files in written:
            delete_files(pinned.handle.io, [file.file_path for file in files.added_deletes])


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
