"""The tables of a transaction: which they are, and in which state it sees them.

A name is looked up once. From then on it stands for the table in the state in which it was found, for as long as the
transaction lasts, and for all spellings of it. What a transaction did to a table's metadata is part of that state, so
its statements see their own columns; the rows that it staged are kept for each branch.

Tables are known by the names that they have in the transaction. A name that it has taken from a table of the catalog,
by dropping or renaming it, stands for nothing until another table gets it, whatever the catalog says.
"""

from __future__ import annotations

import enum
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.expressions import AlwaysFalse, BooleanExpression
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.positions import Positions
from icefusion.changes.staging import Staging
from icefusion.commit.catalog import CatalogClient, find_identifier
from icefusion.commit.catalogs import SessionCatalogs, owner_of
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.operations import Definition
from icefusion.commit.views import CatalogView, find_table_or_view
from icefusion.errors import (
    BindError,
    NamespaceNotFoundError,
    TableNotFoundError,
    TransactionError,
    UnsupportedStatementError,
)
from icefusion.generated_tables import find_generated, tables_told_of
from icefusion.namespaces import StagedNamespaces
from icefusion.query.changelog import Changelog, read_changelog
from icefusion.query.generated import GeneratedSource
from icefusion.query.scan import TableView
from icefusion.query.travel import Travel, find_ref, named_version, resolve_named, resolve_version
from icefusion.sql.basics import Identifier
from icefusion.sql.statements import ChangesBetween, ComputedAsOf, Name, TimeAsOf, VersionAsOf
from icefusion.sql.view_expansion import ViewText
from icefusion.views import Views

__all__ = ["PinnedTable", "PinnedTables", "Place", "Status", "TableState", "Wap", "is_audited"]

_WAP_ENABLED = "write.wap.enabled"

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
        return self.is_named_here or self.dropped or bool(self.definition)

    @property
    def is_renamed(self) -> bool:
        """Whether a statement has given a table of the catalog another name."""
        return isinstance(self.base, TableHandle) and self.handle.identifier != self.base.identifier

    @property
    def is_named_here(self) -> bool:
        """Whether only this transaction knows it under its name."""
        return isinstance(self.base, StagedTable) or self.is_renamed


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
        if self.ref == MAIN_BRANCH:
            return self.handle.metadata.current_snapshot_id
        ref = self.handle.metadata.refs.get(self.ref)
        return ref.snapshot_id if ref is not None else None


@dataclass(frozen=True)
class Wap:
    """Write, audit, publish: where writes go in tables with ``write.wap.enabled``.

    Attributes:
        id: Writes make snapshots that no branch names, under this id in their summary.
        branch: Reads and writes are about this branch, which the first write makes.
    """

    id: str | None = None
    branch: str | None = None


def is_audited(handle: TableHandle) -> bool:
    """Whether rows that are written to a table may wait to be published."""
    return handle.metadata.properties.get(_WAP_ENABLED, "").lower() == "true"


def names_branch(name: Name) -> bool:
    """Whether a name says itself which branch of its table it is about."""
    named = named_version(name)
    return named is not None and named.kind == "branch"


class PinnedTables:
    """The tables that a transaction has named, each in one state.

    Attributes:
        id: Of the transaction.
        status: Where it is in its life.
        client: The catalog.
        views: The views that the session can name.
        views_in_reading: The views whose query is being looked at, from the outermost on.
        wap: Where writes go that are to be looked at before they are published.
        namespaces: What it sees of namespaces.
    """

    def __init__(
        self,
        client: CatalogClient,
        manifests: ManifestReader,
        views: Views | None = None,
        wap: Wap | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.status = Status.ACTIVE
        self.client = client
        self._manifests = manifests
        self.views = views
        self.wap = wap or Wap()
        self.namespaces = StagedNamespaces()
        self._states: dict[tuple[str, ...], TableState] = {}
        self._tables: dict[Place, PinnedTable] = {}
        self._names: dict[Name, Place] = {}
        self._given_up: dict[tuple[str, ...], TableState] = {}
        self._left: list[PinnedTable] = []
        self._absent: set[Name] = set()
        self._found: dict[Name, TableHandle | CatalogView | None] = {}
        self._views: dict[Name, ViewText | None] = {}
        self.views_in_reading: list[str] = []
        self._lock = threading.RLock()

    def pin(self, name: Name) -> PinnedTable:
        """The table that a name stands for, in the state in which this transaction first saw it.

        A name like ``ns.t.branch_b`` stands for a branch of a table, unless there is a table of that name.

        Raises:
            TableNotFoundError: There is no such table, or no such branch.
            TransactionError: The transaction is over.
        """
        with self._lock:
            place = self._place_of(name)
            return self._tables[place if names_branch(name) else self._diverted(place)]

    def pin_main(self, name: Name) -> PinnedTable:
        """As `pin`, of what is to be done to the table itself, whatever branch its rows go to.

        Raises:
            TableNotFoundError: There is no such table, or no such branch.
            TransactionError: The transaction is over.
        """
        with self._lock:
            return self._tables[self._place_of(name)]

    def find_main(self, name: Name) -> PinnedTable | None:
        """As `pin_main`; None where there is no such table."""
        try:
            return self.pin_main(name)
        except (TableNotFoundError, NamespaceNotFoundError):
            return None

    def _place_of(self, name: Name) -> Place:
        self.require_active()
        if name not in self._names:
            self._names[name] = self._locate(name)
        return self._names[name]

    def _diverted(self, place: Place) -> Place:
        """Where rows of a table are, if not in its main branch: in the branch of `wap`, once that is there."""
        identifier, ref = place
        handle, branch = self._states[identifier].handle, self.wap.branch
        if ref != MAIN_BRANCH or branch is None or not is_audited(handle):
            return place
        known = handle.metadata.refs.get(branch)
        if known is None and (identifier, branch) not in self._tables:
            return place
        if known is not None and known.snapshot_ref_type is not SnapshotRefType.BRANCH:
            raise BindError(
                f"wap.branch is {branch}, which is a tag of {handle.name}", hint="RESET wap.branch, or name another one"
            )
        return self._pin_handle(handle, branch)

    def _locate(self, name: Name) -> Place:
        """Where a name leads to, the table pinned."""
        made = self._find_made(name)
        if made is not None:
            return made
        found = self._found.get(name)
        if isinstance(found, TableHandle):
            return self._pin_found(found)
        try:
            handle = self.client.resolve(name)
        except (TableNotFoundError, NamespaceNotFoundError):
            if self.find_kept_view(name) is not None:
                raise UnsupportedStatementError(
                    f"{name} is a view, and no table",
                    hint="rows are changed in the tables of its query; the view itself by ALTER VIEW and DROP VIEW",
                ) from None
            place = self._find_branch(name)
            if place is None:
                self._check_namespace(name)
                raise
            return place
        return self._pin_found(handle)

    def _check_namespace(self, name: Name) -> None:
        """Say of a table that is not there what this transaction did to its namespace, if it did anything.

        Raises:
            TableNotFoundError: It did.
        """
        client = self._owner_of_name(name)
        if not self.namespaces.has_changes(client):
            return
        identifier = self.client.split(name)
        namespace, text = self.namespaces.find(client, identifier[:-1]), f"table {client.full_name(identifier)}"
        if namespace is None:
            raise TableNotFoundError(
                f"{text} does not exist: no namespace {'.'.join(identifier[:-1])!r}",
                hint=f"namespaces here: {', '.join('.'.join(each) for each in self.namespaces.children(client)[:10])}",
            )
        tables = [table[-1] for table in self.list_tables(client, namespace)]
        raise TableNotFoundError(
            f"{text} does not exist",
            hint=f"tables in {'.'.join(namespace)}: {', '.join(tables[:10]) or 'none yet'}",
        )

    def _pin_found(self, handle: TableHandle) -> Place:
        """Pin what the catalog has under a name, unless this transaction has taken the name away from it.

        Raises:
            TableNotFoundError: It has.
        """
        gone = self._given_up.get(handle.identifier)
        if gone is not None and gone.dropped:
            raise TableNotFoundError(
                f"table {handle.name} does not exist: this transaction has dropped it", hint="ROLLBACK brings it back"
            )
        if gone is not None:
            raise TableNotFoundError(
                f"table {handle.name} does not exist: this transaction has renamed it to {gone.handle.name}",
                hint="use its new name; ROLLBACK gives it the old one back",
            )
        return self._pin_handle(handle)

    def _pin_handle(self, handle: TableHandle, ref: str = MAIN_BRANCH) -> Place:
        # The same table may have been named in another spelling before.
        table = self._states.setdefault(handle.identifier, TableState.of(handle))
        place = handle.identifier, ref
        self._tables.setdefault(place, PinnedTable(table, ref))
        return place

    def _find_made(self, name: Name) -> Place | None:
        """A table that this transaction makes, or has given another name; nobody else knows of it yet."""
        made = [key for key, table in self._states.items() if table.is_named_here]
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
            handle = self.pin_main(named.table).handle
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
            names = tables_told_of(self, self._under_views(names))
            new = [name for name in dict.fromkeys(names) if name not in self._names and named_version(name) is None]
            together = [name for name in new if self._find_made(name) is None]
            if len(together) > 1:  # otherwise there is nothing to be together with
                seen = {name: found for name in together if isinstance(found := self._found.get(name), TableHandle)}
                for name, handle in zip(together, self.client.resolve_together(together, seen), strict=True):
                    self._names[name] = self._pin_found(handle)

    def _under_views(self, names: Iterable[Name]) -> list[Name]:
        """The names that stand for tables: those given, and those in the queries of views among them."""
        tables: dict[Name, None] = {}
        waiting, seen = list(names), set()
        for name in waiting:
            if name in seen:
                continue
            seen.add(name)
            view = self.find_view(name)
            if view is None:
                tables[name] = None
            else:
                waiting += [table.name for table in view.query.tables if len(table.name.parts) > 1]
        return list(tables)

    def find_view(self, name: Name) -> ViewText | None:
        """What a name stands for that is a view; None where it is none.

        Raises:
            BindError: It is a view that cannot be read.
        """
        if self.views is None:
            return None
        with self._lock:
            kept = self._views.get(name)
            if kept is None:
                kept = self.views.find(name, self)
                if kept is not None and name in self._found:
                    self._views[name] = kept  # until the columns of the tables under it change
            return kept

    def find_kept_view(self, name: Name) -> CatalogView | None:
        """The view that a name stands for, of those that catalogs keep, as it was first seen; None where it is none."""
        keeper = self.views.catalog.keeper(name) if self.views is not None else None
        if keeper is None:
            return None
        with self._lock:
            if name in self._names or self._find_made(name) is not None:
                return None
            if name not in self._found:
                self._found[name] = find_table_or_view(keeper, name)
            found = self._found[name]
            return found if isinstance(found, CatalogView) else None

    def used(self, identifier: tuple[str, ...]) -> TableHandle | None:
        """The state in which this transaction sees a table that it has used; None for others."""
        state = self._states.get(identifier)
        return None if state is None else state.handle

    def list_tables(self, client: CatalogClient, namespace: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The tables of a namespace, sorted, as this transaction has made and dropped them."""
        try:
            found = {tuple(identifier) for identifier in client.list_tables(namespace)}
        except NamespaceNotFoundError:
            if self.namespaces.find(client, namespace) is None:
                raise
            found = set()  # it is made here
        found -= {
            tuple(each) for each, table in self._given_up.items() if owner_of(self.client, table.handle) is client
        }
        for identifier, table in self._states.items():
            if tuple(identifier[:-1]) != tuple(namespace) or owner_of(self.client, table.handle) is not client:
                continue
            if table.is_named_here:
                found.add(tuple(identifier))
        return sorted(found)

    def place_for(self, name: Name) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
        """What a new table of a name would be: its identifier, and the properties of a namespace that is made here.

        Raises:
            NamespaceNotFoundError: There is no namespace for it.
            TableNotFoundError: The name has one part only.
        """
        client, identifier = self._owner_of_name(name), self.client.split(name)
        namespace = self.namespaces.require(client, identifier[:-1])
        return client.marked((*namespace, identifier[-1])), self.namespaces.made(client, namespace)

    def has_namespace_of(self, name: Name) -> bool:
        """Whether a table of a name would have a namespace to be in."""
        return self.namespaces.find(self._owner_of_name(name), self.client.split(name)[:-1]) is not None

    def _owner_of_name(self, name: Name) -> CatalogClient:
        return self.client.of(name) if isinstance(self.client, SessionCatalogs) else self.client

    def usual_location(self, handle: TableHandle) -> str | None:
        """Where the catalog would put a table of this name; None where only its server knows."""
        client, namespace = owner_of(self.client, handle), handle.identifier[:-1]
        return client.usual_location(handle.identifier, self.namespaces.made(client, namespace))

    def has_table(self, name: Name) -> bool:
        """Whether a name stands for a table of the catalog."""
        if name not in self._names and name not in self._absent and self._find_made(name) is None:
            found = self.client.find_named(name)
            if found is None or found.identifier in self._given_up:
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

    def changes(self, name: Name, between: ChangesBetween) -> Changelog:
        """What happened to a table between two of its states; rows that wait for the commit are not in it.

        Raises:
            BindError: There is no such state, or one is not in the history of the other.
        """
        begin, end = between.begin, between.end
        assert not isinstance(begin, ComputedAsOf)  # those are computed first
        assert not isinstance(end, ComputedAsOf)
        if len(name.parts) < 2:
            raise BindError(f"unknown table {name}", hint="Iceberg tables are written namespace.table")
        pinned, travel = self.travel(name, end)
        view = self.view_of(pinned)
        if travel is not None:
            view = replace(view, snapshot_id=travel.snapshot_id, schema=travel.schema, ref=None)
        state = replace(view, staged=(), removed=frozenset(), deleted=Positions())
        handle = pinned.handle
        begin_id = None if begin is None else resolve_version(handle.name, handle.metadata, begin).snapshot_id
        return read_changelog(state, begin_id, self._manifests)

    def travel(self, name: Name, version: VersionAsOf | TimeAsOf | None) -> tuple[PinnedTable, Travel | None]:
        """The table that a name stands for, and the version of it that name or version lead to; None for as it is."""
        try:
            pinned = self.pin(name) if version is None else self.pin_main(name)  # a version says itself which branch
        except (TableNotFoundError, NamespaceNotFoundError) as missing:
            named = named_version(name)
            if named is None:
                raise
            try:
                pinned = self.pin_main(named.table)
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

    def uses(self, catalog: str) -> bool:
        """Whether a table of an attached catalog was read or written."""
        names = (pinned.handle.attached for pinned in self._all_pinned())
        used = any(name is not None and name.casefold() == catalog.casefold() for name in names)
        return used or self.namespaces.uses(catalog)

    def _all_pinned(self) -> list[PinnedTable]:
        """All branches of tables that were read or written, those of dropped tables too."""
        return [*self._tables.values(), *self._left]

    def _give_up(self, table: TableState) -> None:
        """Take a table out of those that can be named."""
        key = table.handle.identifier
        del self._states[key]
        self._left += [self._tables.pop(place) for place in list(self._tables) if place[0] == key]
        self._forget_names(key)
        if isinstance(table.base, TableHandle):
            self._given_up[table.base.identifier] = table

    def _rename(self, table: TableState, handle: TableHandle) -> None:
        """Let a table be found under another name, which no other one has."""
        old, new = table.handle.identifier, handle.identifier
        del self._states[old]
        self._states[new] = table
        table.handle = handle
        for place in [place for place in self._tables if place[0] == old]:
            self._tables[new, place[1]] = self._tables.pop(place)
        self._forget_names(old)
        if isinstance(table.base, StagedTable):
            table.base = StagedTable(handle, table.base.updates)
        elif table.is_renamed:
            self._given_up[table.base.identifier] = table
        else:
            del self._given_up[table.base.identifier]

    def _forget_names(self, key: tuple[str, ...]) -> None:
        """Look up anew what has stood for a table so far, and what has stood for nothing."""
        self._names = {name: place for name, place in self._names.items() if place[0] != key}
        self._absent.clear()
        self._views.clear()

    def require_active(self) -> None:
        """Refuse to go on with a transaction that is over.

        Raises:
            TransactionError: It is over.
        """
        if self.status is not Status.ACTIVE:
            raise TransactionError(
                f"the transaction is {self.status.value}", hint="a transaction is used once; begin a new one"
            )
