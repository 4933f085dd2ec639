"""Replace the old state of one or several tables by the new one, and say truthfully how that went.

Four answers, as values: `Swapped`, `Lost` (somebody else was faster, nothing of this landed), `Refused` (the catalog
will never take it, nothing landed) and `Unknown` (an error after which it may have landed). Whoever asked decides what
to do.

SQL catalogs are moved by our own conditional UPDATEs in one SQL transaction, however many tables take part; an error
before that transaction's COMMIT means that nothing landed, an error from the COMMIT itself means that nobody knows. All
other catalogs are moved one table at a time through `catalog.commit_table`, except that REST servers which say that
they can are asked to move several in one request.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog, SqlCatalogBaseTable
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    ServerError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.table.update import AssertCreate, TableRequirement, TableUpdate
from sqlalchemy import Connection, Delete, Insert, RootTransaction, Update, delete, insert, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from icefusion.clock import Clock
from icefusion.commit.catalog import CatalogClient, row_filter
from icefusion.commit.cleanup import delete_files
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.metadata import apply_updates, dropped_metadata_files, next_metadata_location, write_metadata_file
from icefusion.commit.namespaces import apply_changes, apply_drops, find_missing, lock_namespaces
from icefusion.commit.operations import NamespaceChange
from icefusion.commit.rest import commit_tables, offers_transactions
from icefusion.commit.translate import translate
from icefusion.errors import CatalogError, IcefusionError, StorageError

__all__ = [
    "HeldRows",
    "Lost",
    "Move",
    "Refused",
    "SwapOutcome",
    "Swapped",
    "Unknown",
    "can_change_names",
    "can_swap_many",
    "hold_rows",
    "swap",
]

logger = logging.getLogger("icefusion")

_TABLES = SqlCatalogBaseTable.metadata.tables[IcebergTables.__tablename__]
_LOCK_WAIT = {
    "postgresql": "SET LOCAL lock_timeout = '10s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 10",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 10",
}


@dataclass(frozen=True)
class Move:
    """One table's step from a state to the next.

    Attributes:
        base: The newest known state, or the first state of a table that is to be created.
        updates: What changes.
        requirements: What must still hold for it, for catalogs that compare no pointers.
        drops: Whether the table goes out of the catalog instead; only where `can_change_names`.
        renamed: The table under the name that it gets; None where it keeps its own. Only where `can_change_names`.
    """

    base: TableHandle | StagedTable
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    drops: bool = False
    renamed: TableHandle | None = None

    @property
    def handle(self) -> TableHandle:
        """The state that it starts from."""
        return self.base.handle if isinstance(self.base, StagedTable) else self.base

    @property
    def base_identifier(self) -> tuple[str, ...] | None:
        """The name that the table is there under; None where it is to be created."""
        return None if isinstance(self.base, StagedTable) else self.base.identifier


@dataclass(frozen=True)
class Swapped:
    """All tables moved; ``tables`` are their new states, in order."""

    tables: tuple[TableHandle, ...]


@dataclass(frozen=True)
class Lost:
    """Somebody else was faster, or the catalog could not be reached before it was asked; nothing landed.

    Attributes:
        reason: Which, in words.
        error: What came instead of a connection; None when somebody else was faster.
    """

    reason: str
    error: Exception | None = None


@dataclass(frozen=True)
class Refused:
    """The catalog will not take it; nothing landed."""

    error: IcefusionError


@dataclass(frozen=True)
class Unknown:
    """It may have landed or not.

    Attributes:
        error: What came instead of an answer.
        written: The metadata files that stand for it, each with the state that it was to replace.
    """

    error: Exception
    written: tuple[tuple[TableHandle, str], ...] = ()


SwapOutcome = Swapped | Lost | Refused | Unknown


class HeldRows:
    """The catalog's rows of some tables, locked until `release`, and the connection that holds them."""

    def __init__(self, connection: Connection, transaction: RootTransaction) -> None:
        self.connection = connection
        self.transaction = transaction

    def release(self) -> None:
        """Give the rows free; what was not committed is taken back."""
        try:
            if self.transaction.is_active:
                self.transaction.rollback()
            self.connection.close()
        except SQLAlchemyError:
            logger.warning("could not release a lock in the catalog", exc_info=True)


def hold_rows(
    client: CatalogClient, identifiers: Sequence[tuple[str, ...]], namespaces: Sequence[NamespaceChange] = ()
) -> HeldRows | None:
    """Lock the rows of existing tables, so that their newest state stays the newest; None where that cannot be done.

    Whoever holds them cannot lose the race, and whoever waits for them does not build on a state that is about to be
    replaced. The wait is bounded; after it the commit goes on without the lock, and is decided by the race.
    """
    if not isinstance(client.catalog, SqlCatalog) or not identifiers:
        return None
    catalog = client.catalog
    try:
        connection = catalog.engine.connect()
    except SQLAlchemyError:
        return None
    try:
        transaction = connection.begin()
        wait = _LOCK_WAIT.get(connection.dialect.name)
        if wait is not None:
            connection.exec_driver_sql(wait)
        lock_namespaces(connection, catalog, namespaces)
        for identifier in sorted(identifiers):
            # A change that changes nothing locks the row (or all of SQLite's file) on every database.
            rows = update(_TABLES).where(*row_filter(catalog.name, identifier))
            connection.execute(rows.values(metadata_location=_TABLES.c.metadata_location))
    except Exception:  # without the lock it is decided by the race
        connection.invalidate()
        connection.close()
        return None
    except BaseException:
        connection.invalidate()
        connection.close()
        raise
    return HeldRows(connection, transaction)


def can_change_names(client: CatalogClient) -> bool:
    """Whether tables can be dropped and renamed, and namespaces changed, together with other changes, all or none."""
    return isinstance(client.catalog, SqlCatalog)


def can_swap_many(client: CatalogClient) -> bool:
    """Whether several tables can be moved all or none."""
    catalog = client.catalog
    return isinstance(catalog, SqlCatalog) or (isinstance(catalog, RestCatalog) and offers_transactions(catalog))


def swap(
    client: CatalogClient,
    moves: Sequence[Move],
    clock: Clock,
    held: HeldRows | None = None,
    asking: Callable[[], None] = lambda: None,
    namespaces: Sequence[NamespaceChange] = (),
) -> SwapOutcome:
    """Move tables to their next state, all or none. A move without updates only makes sure that its table stays.

    Args:
        client: The catalog.
        moves: One for each table; more than one only where `can_swap_many`.
        clock: Tells the time of the change.
        held: The lock on the tables' rows, where there is one.
        asking: Called right before the catalog is asked: whatever interrupts it afterwards, it may have landed.
        namespaces: What happens to namespaces; only where `can_change_names`.

    Raises:
        StorageError: A metadata file could not be written; nothing landed.
    """
    if isinstance(client.catalog, SqlCatalog):
        return _SqlSwap(client, client.catalog, clock, held, asking, namespaces).run(moves)
    asking()
    if len(moves) == 1:
        return _swap_one(client, moves[0])
    if not isinstance(client.catalog, RestCatalog):
        raise ValueError("this catalog moves one table at a time")
    return _swap_by_rest(client, client.catalog, moves)


class _SqlSwap:
    """Conditional UPDATEs (and INSERTs for new tables) in one SQL transaction, changes of namespaces around them."""

    def __init__(
        self,
        client: CatalogClient,
        catalog: SqlCatalog,
        clock: Clock,
        held: HeldRows | None,
        asking: Callable[[], None],
        namespaces: Sequence[NamespaceChange],
    ) -> None:
        self._client = client
        self._catalog = catalog
        self._clock = clock
        self._held = held
        self._asking = asking
        self._namespaces = namespaces
        self._asked = False
        self._written: list[tuple[TableHandle, str]] = []

    def run(self, moves: Sequence[Move]) -> SwapOutcome:
        try:
            states = [self._stage(move) for move in moves]
            outcome = self._execute(moves, states)
        except BaseException:
            if not self._asked:
                self._discard()
            raise
        if isinstance(outcome, (Lost, Refused)):
            self._discard()
        elif isinstance(outcome, Swapped):
            self._settle(moves, states)
        return outcome

    def _stage(self, move: Move) -> TableHandle:
        """Write the metadata file of the next state."""
        staged, handle = isinstance(move.base, StagedTable), move.handle
        base_location = None if staged else handle.metadata_location
        target = move.renamed or handle
        if move.drops or (not move.updates and not staged):
            return target.with_state(handle.metadata, handle.metadata_location)
        metadata = apply_updates(handle.metadata, move.updates, base_location=base_location, clock=self._clock)
        location = next_metadata_location(metadata, base_location)
        self._written.append((handle, location))
        try:
            write_metadata_file(metadata, handle.io, location)
        except MemoryError:
            raise
        except Exception as exc:  # any store's own errors
            raise StorageError(f"{location}: the metadata of {handle.name} could not be written: {exc}") from exc
        return target.with_state(metadata, location)

    def _execute(self, moves: Sequence[Move], states: Sequence[TableHandle]) -> SwapOutcome:
        committed = False
        try:
            with self._transaction() as (connection, transaction):
                failed = self._change_all(connection, list(zip(moves, states, strict=True)))
                if failed is not None:
                    transaction.rollback()
                    return failed
                self._asked = True
                self._asking()
                try:
                    transaction.commit()
                except BaseException:
                    # A connection on which the change still waits would bring it to light under the next user's COMMIT.
                    connection.invalidate()
                    raise
                committed = True
        except Exception as exc:  # a driver's own errors too
            if not self._asked:
                # The database takes back what was not committed.
                text = f"the catalog's database failed before the commit: {type(exc).__name__}: {exc.args[:1]}"
                return Lost(text, exc)
            if not committed:
                return Unknown(exc, tuple(self._written))
            logger.warning("could not give a connection to the catalog back", exc_info=True)
        return Swapped(tuple(states))

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Connection, RootTransaction]]:
        if self._held is not None:
            yield self._held.connection, self._held.transaction
            return
        with self._catalog.engine.connect() as connection:
            yield connection, connection.begin()

    def _change_all(self, connection: Connection, pairs: Sequence[tuple[Move, TableHandle]]) -> Lost | Refused | None:
        """Write all rows, and say why it cannot be done."""
        catalog = self._catalog
        lock_namespaces(connection, catalog, self._namespaces)
        error = apply_changes(connection, catalog, self._namespaces)
        if error is None:
            failed = self._move_rows(connection, pairs)
            if failed is not None:
                return failed
        arrived = [state.identifier for move, state in pairs if state.identifier != move.base_identifier]
        error = error or find_missing(connection, catalog, [each[:-1] for each in arrived], arrived)
        error = error or apply_drops(connection, catalog, self._namespaces)
        return None if error is None else Refused(error)

    def _move_rows(self, connection: Connection, pairs: Sequence[tuple[Move, TableHandle]]) -> Lost | Refused | None:
        """Write the rows of tables: first of those that are there, then of those that come under a name.

        A name may be given up by one table and taken by another, so a table that takes such a name waits under one that
        nobody has.
        """
        given_up = {move.base_identifier for move, _ in pairs if move.drops or move.renamed is not None}
        waiting: list[tuple[tuple[str, ...], TableHandle, str | None]] = []
        # Tables are moved in one order everywhere, so that two such transactions cannot wait for each other.
        for move, state in sorted(pairs, key=lambda pair: pair[0].handle.identifier):
            if isinstance(move.base, StagedTable):
                waiting.append((state.identifier, state, None))
                continue
            aside = uuid.uuid4().hex if move.renamed is not None and state.identifier in given_up else None
            if aside is not None:
                waiting.append((state.identifier, state, aside))
            failed = self._point(connection, move.base, move, state, aside)
            if failed is not None:
                return failed
        for _, state, aside in sorted(waiting, key=lambda each: each[0]):
            failed = self._put(connection, state, aside)
            if failed is not None:
                return failed
        return None

    def _point(
        self, connection: Connection, base: TableHandle, move: Move, state: TableHandle, aside: str | None
    ) -> Lost | Refused | None:
        """Point the row of a table that is there to its next state, under its name, its new one, or for now another."""
        rows = (*row_filter(self._catalog.name, base.identifier), _TABLES.c.metadata_location == base.metadata_location)
        if move.drops:
            statement: Delete | Update = delete(_TABLES).where(*rows)
        else:
            new = _name(state, aside) if move.renamed is not None else {}
            if move.updates or move.renamed is None:
                new |= {
                    "metadata_location": state.metadata_location,
                    "previous_metadata_location": base.metadata_location,
                }
            statement = update(_TABLES).where(*rows).values(new)
        try:
            changed = connection.execute(statement).rowcount
        except IntegrityError:
            return Refused(translate(TableAlreadyExistsError(), f"table {state.name}"))
        return None if changed == 1 else Lost(f"table {base.name} was changed by another commit")

    def _put(self, connection: Connection, state: TableHandle, aside: str | None) -> Refused | None:
        """Put a table under its name: a new one, or one that was set aside."""
        if aside is None:
            namespace = ".".join(state.identifier[:-1])
            row = self._catalog._create_table_row(namespace, state.identifier[-1], state.metadata_location)
            statement: Insert | Update = insert(_TABLES).values(**row)
        else:
            rows = row_filter(self._catalog.name, (*state.identifier[:-1], aside))
            statement = update(_TABLES).where(*rows).values(_name(state, None))
        try:
            connection.execute(statement)
        except IntegrityError:
            return Refused(translate(TableAlreadyExistsError(), f"table {state.name}"))
        return None

    def _discard(self) -> None:
        for handle, location in self._written:
            delete_files(handle.io, [location])

    def _settle(self, moves: Sequence[Move], states: Sequence[TableHandle]) -> None:
        for move in moves:
            if move.drops or move.renamed is not None:
                self._client.forget(move.handle.identifier)
        for move, state in zip(moves, states, strict=True):
            if move.drops:
                continue
            self._client.remember(state)
            delete_files(state.io, dropped_metadata_files(move.base.metadata, state.metadata))


def _name(state: TableHandle, aside: str | None) -> dict[str, str]:
    """The columns of a row that hold its table's name."""
    return {"table_namespace": ".".join(state.identifier[:-1]), "table_name": aside or state.identifier[-1]}


def _swap_one(client: CatalogClient, move: Move) -> SwapOutcome:
    staged = isinstance(move.base, StagedTable)
    handle = move.base.handle if isinstance(move.base, StagedTable) else move.base
    updates = (*move.base.updates, *move.updates) if isinstance(move.base, StagedTable) else move.updates
    requirements = (AssertCreate(),) if staged else move.requirements
    what = f"table {handle.name}"
    try:
        response = client.catalog.commit_table(handle.table, requirements, updates)
    except CommitFailedException as exc:
        return Lost(str(exc).splitlines()[0] if str(exc) else f"{what} was changed by another commit")
    except (
        NoSuchTableError,
        NoSuchNamespaceError,
        TableAlreadyExistsError,
        BadRequestError,
        UnauthorizedError,
        ForbiddenError,
        AuthorizationExpiredError,
    ) as exc:
        return Refused(translate(exc, what))
    except Exception as exc:  # whatever is not known to mean "nothing landed" may have landed
        return Unknown(exc)
    state = handle.with_state(response.metadata, response.metadata_location)
    client.remember(state)
    return Swapped((state,))


def _swap_by_rest(client: CatalogClient, catalog: RestCatalog, moves: Sequence[Move]) -> SwapOutcome:
    tables = [move.base.handle if isinstance(move.base, StagedTable) else move.base for move in moves]
    what = f"tables {', '.join(table.name for table in tables)}"
    changes = [
        (table.table, (AssertCreate(),), (*move.base.updates, *move.updates))
        if isinstance(move.base, StagedTable)
        else (table.table, move.requirements, move.updates)
        for table, move in zip(tables, moves, strict=True)
    ]
    try:
        response = commit_tables(catalog, changes)
    except Exception as exc:  # whatever is not known to mean "nothing landed" may have landed
        return Unknown(exc)
    if response.status_code == 409:
        return Lost(f"{what}: one of them was changed by another commit")
    if response.status_code in (400, 401, 403, 404, 405, 406, 415, 419):
        text = response.text[:200]
        return Refused(CatalogError(f"{what}: the catalog refused the commit ({response.status_code}): {text}"))
    if not response.ok:
        kind = ServerError if response.status_code >= 500 else RESTError
        return Unknown(kind(f"the catalog answered {response.status_code}"))
    try:
        return Swapped(tuple(client.load(table.identifier) for table in tables))
    except IcefusionError as exc:
        # It landed; only the new states could not be had.
        return Unknown(exc)
