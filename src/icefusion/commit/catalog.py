"""One catalog, as the rest of icefusion sees it.

PyIceberg's catalogs hold the tables; this is the border to them. Names are resolved here (unquoted ones without regard
to case), handles are made here and are never stale, PyIceberg's, SQLAlchemy's and HTTP errors become ours here. How a
new state replaces the old one is in `swap`, which differs by kind of catalog.

Freshness. A SQL catalog is asked for its pointer, one indexed row, before each use of a table; the metadata file
behind a pointer never changes, so parsed metadata is kept by its location. Other catalogs are asked for the table
itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyiceberg import exceptions as foreign
from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog, SqlCatalogBaseTable
from pyiceberg.io import load_file_io
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortOrder
from sqlalchemy import Connection, Engine, Select, and_, bindparam, or_, select

from icefusion.bridge.evolution import check_properties
from icefusion.bridge.metadata_names import (
    INFORMATION_TABLES,
    METADATA_TABLES,
    information_kind,
    nearest_metadata_table,
    split_metadata_name,
)
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.identifiers import AttachedIdentifier, match_namespace
from icefusion.commit.metadata import read_metadata
from icefusion.commit.pools import PoolStats, sql_stats
from icefusion.commit.rest import PooledRestCatalog, offers_transactions
from icefusion.commit.translate import translated
from icefusion.errors import (
    CatalogError,
    ConfigurationError,
    IcefusionError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.naming import nearest
from icefusion.sql.statements import Name

__all__ = ["CatalogClient", "find_identifier", "row_filter"]

_CACHED_TABLES = 256
_LOOKS = 20


class CatalogClient:
    """Names to tables, and namespaces. Safe to share between threads.

    Args:
        catalog: The catalog.
        attached: The name under which it is attached to a session; None for a session's own.
    """

    def __init__(self, catalog: Catalog, attached: str | None = None) -> None:
        self.catalog = catalog
        self._name = attached
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, ...], TableHandle] = OrderedDict()
        self._one_pointer: Select[Any] | None = None

    @property
    def name(self) -> str:
        """The catalog's name: the one under which it is attached, or its own."""
        return self._name or self.catalog.name

    @property
    def engine(self) -> Engine | None:
        """The SQLAlchemy engine of a SQL catalog; None for others."""
        return self.catalog.engine if isinstance(self.catalog, SqlCatalog) else None

    def stats(self) -> PoolStats | None:
        """The connections to the catalog just now; None for catalogs that do not tell."""
        if isinstance(self.catalog, PooledRestCatalog):
            return self.catalog.stats()
        return sql_stats(self.catalog.engine) if isinstance(self.catalog, SqlCatalog) else None

    def close(self) -> None:
        """Give back connections."""
        self.catalog.close()

    # Names

    def full_name(self, identifier: Sequence[str]) -> str:
        """The name that messages show."""
        return ".".join((self.name, *identifier))

    def split(self, name: Name) -> tuple[str, ...]:
        """The identifier that a name stands for, as written: its catalog part taken off, dotted namespaces split.

        Raises:
            TableNotFoundError: The name has one part only.
        """
        parts = [part.text for part in name.parts]
        if len(parts) > 2 and parts[0].casefold() == self.name.casefold():
            parts = parts[1:]
        if len(parts) < 2:
            raise TableNotFoundError(
                f"{name} is not a full table name", hint=f"write namespace.table, e.g. {self._example(parts[-1])}"
            )
        namespace = [level for part in parts[:-1] for level in part.split(".")]
        return self.marked((*namespace, parts[-1]))

    def split_namespace(self, name: Name) -> tuple[str, ...]:
        """The namespace that a name stands for, as written."""
        parts = [part.text for part in name.parts]
        if len(parts) > 1 and parts[0].casefold() == self.name.casefold():
            parts = parts[1:]
        return self.marked(tuple(level for part in parts for level in part.split(".")))

    def marked(self, identifier: tuple[str, ...]) -> tuple[str, ...]:
        """An identifier that knows which of a session's catalogs it belongs to."""
        return identifier if self._name is None else AttachedIdentifier(self._name, identifier)

    def resolve(self, name: Name) -> TableHandle:
        """The newest state of the table that a name stands for; unquoted parts match without regard to case.

        Raises:
            TableNotFoundError: There is none, or more than one; the hint names the nearest.
            UnsupportedStatementError: It stands for a metadata table, which can be read in queries only.
        """
        handle = self.find_named(name)
        if handle is None:
            raise self._metadata_table(name) or self._unknown_table(self.split(name))
        return handle

    def find_named(self, name: Name) -> TableHandle | None:
        """The newest state of the table that a name stands for, as in `resolve`; None where there is none.

        Raises:
            TableNotFoundError: There is more than one.
        """
        identifier = tuple(self.split(name))
        try:
            return self.load(identifier)
        except (TableNotFoundError, NamespaceNotFoundError):
            found = self._find_ignoring_case(identifier, name)
            return None if found is None else self.load(found)
        except CatalogError as refused:
            # Some servers hold a name that no table of theirs can have, as one with capitals, for a bad request.
            if not isinstance(refused.__cause__, foreign.BadRequestError):
                raise
            found = self._find_ignoring_case(identifier, name)
            if found == identifier:
                raise
            return None if found is None else self.load(found)

    def _metadata_table(self, name: Name) -> IcefusionError | None:
        """The error for the information schema, and for a name like ``ns.t.snapshots`` if there is a table ``ns.t``."""
        if information_kind(name) in INFORMATION_TABLES:
            return UnsupportedStatementError(
                f"{name} tells what the catalog holds and cannot be changed", hint=f"read it: SELECT * FROM {name}"
            )
        meant = split_metadata_name(name)
        table = self.find_named(meant.table) if meant is not None else None
        if meant is None or table is None:
            return None
        if meant.is_known:
            return UnsupportedStatementError(
                f"{table.name}.{meant.kind} is a metadata table, which can be read and not changed",
                hint=f"read it in a query: SELECT * FROM {name}",
            )
        near = nearest_metadata_table(meant.kind)
        return TableNotFoundError(
            f"table {table.name} has no metadata table {meant.kind}",
            hint=f"did you mean {meant.table}.{near}?" if near else f"there are {', '.join(METADATA_TABLES)}",
        )

    def _find_ignoring_case(self, identifier: tuple[str, ...], name: Name) -> tuple[str, ...] | None:
        *levels, last = name.parts
        if last.quoted and all(part.quoted for part in levels):
            return None
        namespace = self.find_namespace(identifier[:-1])
        if namespace is None:
            return None
        if last.quoted or (all(part.quoted for part in levels) and namespace != identifier[:-1]):
            found = (*namespace, identifier[-1])
            return found if found != identifier and found in self.list_tables(namespace) else None
        candidates = [t for t in self.list_tables(namespace) if t[-1].casefold() == identifier[-1].casefold()]
        if len(candidates) > 1:
            raise TableNotFoundError(
                f"{name} stands for {len(candidates)} tables: {', '.join('.'.join(c) for c in candidates)}",
                hint="quote the name to say which",
            )
        return candidates[0] if candidates else None

    def find_namespace(self, namespace: tuple[str, ...]) -> tuple[str, ...] | None:
        """The existing namespace of this name, as it is spelled in the catalog; None when there is none."""
        return match_namespace(namespace, self.list_namespaces)

    def _unknown_table(self, identifier: tuple[str, ...]) -> TableNotFoundError:
        namespace = self.find_namespace(identifier[:-1])
        if namespace is None:
            known = sorted(".".join(n) for n in self.list_namespaces(()))
            near = nearest(".".join(identifier[:-1]), known)
            hint = f"did you mean namespace {near!r}?" if near else None
            message = f"table {self.full_name(identifier)} does not exist: no namespace {'.'.join(identifier[:-1])!r}"
            return TableNotFoundError(message, hint=hint or f"namespaces here: {', '.join(known[:10]) or 'none yet'}")
        tables = sorted(t[-1] for t in self.list_tables(namespace))
        near = nearest(identifier[-1], tables)
        hint = f"did you mean {'.'.join((*namespace, near))}?" if near else None
        return TableNotFoundError(
            f"table {self.full_name(identifier)} does not exist",
            hint=hint or f"tables in {'.'.join(namespace)}: {', '.join(tables[:10]) or 'none yet'}",
        )

    def _example(self, table: str) -> str:
        with contextlib.suppress(IcefusionError):
            for namespace in self.list_namespaces(()):
                return ".".join((*namespace, table))
        return f"ns.{table}"

    # Tables

    def load(self, identifier: tuple[str, ...], connection: Connection | None = None) -> TableHandle:
        """The newest state of a table.

        Args:
            identifier: Namespace parts and table name.
            connection: To a SQL catalog's database, where one is open already.

        Raises:
            TableNotFoundError: There is no such table.
        """
        name = self.full_name(identifier)
        with translated(f"table {name}"):
            if isinstance(self.catalog, SqlCatalog):
                handle = self._load_sql(self.catalog, identifier, connection)
            else:
                handle = TableHandle(name, self.catalog.load_table(tuple(identifier)), self._name)
        self.remember(handle)
        return handle

    def resolve_together(
        self, names: Sequence[Name], seen: Mapping[Name, TableHandle] | None = None
    ) -> list[TableHandle]:
        """The tables that names stand for, in newest states that all held at one moment.

        So what was committed to several of them at once is seen of all or of none.

        Args:
            names: The names.
            seen: The states in which some of them have just been seen.

        Raises:
            TableNotFoundError: There is no such table; see `resolve`.
            CatalogError: The tables change faster than they can be looked at together.
        """
        handles = [(seen or {}).get(name) or self.resolve(name) for name in names]
        if len({handle.identifier for handle in handles}) < 2:
            return handles
        if isinstance(self.catalog, SqlCatalog):
            identifiers = [handle.identifier for handle in handles]
            with translated(f"tables {', '.join(handle.name for handle in handles)}"):
                locations = self._sql_pointers(self.catalog, identifiers)
                return [self._sql_state(self.catalog, each, locations.get(each)) for each in identifiers]
        if not (isinstance(self.catalog, RestCatalog) and offers_transactions(self.catalog)):
            return handles  # nobody can commit to several of them at once
        for _ in range(_LOOKS):
            # States that are all the newest before and after one moment were it at that moment.
            again = [self.load(handle.identifier) for handle in handles]
            if [h.metadata_location for h in again] == [h.metadata_location for h in handles]:
                return handles
            handles = again
        raise CatalogError(
            f"tables {', '.join(handle.name for handle in handles)} change faster than they can be read together",
            hint="try again",
        )

    def _load_sql(self, catalog: SqlCatalog, identifier: tuple[str, ...], connection: Connection | None) -> TableHandle:
        """Read the pointer; read what it points to only when that is not known already."""
        pointers = self._sql_pointers(catalog, [identifier], connection)
        return self._sql_state(catalog, identifier, pointers.get(identifier))

    def _sql_pointers(
        self, catalog: SqlCatalog, identifiers: Sequence[tuple[str, ...]], connection: Connection | None = None
    ) -> dict[tuple[str, ...], str]:
        """Where tables stand, all at one moment: in one statement."""
        if len(identifiers) == 1:
            query = self._pointer_query(catalog)
            values = {"catalog": catalog.name, "namespace": ".".join(identifiers[0][:-1]), "table": identifiers[0][-1]}
        else:
            either = or_(*(and_(*row_filter(catalog.name, identifier)) for identifier in identifiers))
            query, values = _pointers(catalog).where(either), {}
        if connection is not None:
            rows = connection.execute(query, values).all()
        else:
            with catalog.engine.connect() as own:
                rows = own.execute(query, values).all()
        found = {(namespace, name): location for namespace, name, location in rows}
        return {each: found[key] for each in identifiers if found.get(key := (".".join(each[:-1]), each[-1]))}

    def _pointer_query(self, catalog: SqlCatalog) -> Select[Any]:
        """The statement for one table, made once: each use of a table begins with it."""
        if self._one_pointer is None:
            columns = IcebergTables.__table__.c
            self._one_pointer = _pointers(catalog).where(
                columns.catalog_name == bindparam("catalog"),
                columns.table_namespace == bindparam("namespace"),
                columns.table_name == bindparam("table"),
            )
        return self._one_pointer

    def _sql_state(self, catalog: SqlCatalog, identifier: tuple[str, ...], location: str | None) -> TableHandle:
        """The state that a pointer points to."""
        if location is None:
            self.forget(identifier)
            raise foreign.NoSuchTableError(str(identifier))
        with self._lock:
            known = self._states.get(tuple(identifier))
        if known is not None and known.metadata_location == location:
            return known
        metadata = read_metadata(location, load_file_io(catalog.properties, location))
        io = catalog._load_file_io(metadata.properties, location)
        return TableHandle(
            self.full_name(identifier), Table(tuple(identifier), metadata, location, io, catalog), self._name
        )

    def remember(self, handle: TableHandle) -> None:
        """Keep a state that is known to be the newest, so that it need not be read again."""
        with self._lock:
            key = tuple(handle.identifier)
            self._states[key] = handle
            self._states.move_to_end(key)
            while len(self._states) > _CACHED_TABLES:
                self._states.popitem(last=False)

    def forget(self, identifier: tuple[str, ...]) -> None:
        """Drop what is kept of a table."""
        with self._lock:
            self._states.pop(tuple(identifier), None)

    def stage_table(
        self,
        identifier: tuple[str, ...],
        schema: Schema,
        *,
        spec: PartitionSpec,
        sort_order: SortOrder,
        properties: Mapping[str, str],
        location: str | None = None,
        namespace: Mapping[str, str] | None = None,
    ) -> StagedTable:
        """The first state of a new table; nothing is created yet.

        Args:
            identifier: Namespace parts and table name; the namespace is there, or is made by the same commit.
            schema: Its columns.
            spec: Its partition spec.
            sort_order: Its sort order.
            properties: Its properties.
            location: Where its files go; None where the catalog puts them.
            namespace: The properties of its namespace, where that is not in the catalog yet.

        Raises:
            NamespaceNotFoundError: The namespace does not exist.
            ConfigurationError: A property has a value that makes no sense, or files could not be told apart there.
        """
        if namespace is not None:
            location = location or self.usual_location(identifier, namespace)
        check_properties(properties)
        name = self.full_name(identifier)
        with translated(f"table {name}"):
            transaction = self.catalog.create_table_transaction(
                tuple(identifier),
                schema,
                location,
                partition_spec=spec,
                sort_order=sort_order,
                properties=dict(properties),
            )
        _check_location(name, transaction.table_metadata.location)
        # The updates that recreate this state; PyIceberg offers no public way to them.
        return StagedTable(TableHandle(name, transaction._table, self._name), tuple(transaction._updates))

    def find(self, identifier: tuple[str, ...]) -> TableHandle | None:
        """The newest state of a table, or None when there is no such table."""
        try:
            return self.load(identifier)
        except (TableNotFoundError, NamespaceNotFoundError):
            return None

    def drop_table(self, handle: TableHandle, *, purge: bool) -> None:
        """Take a table out of the catalog, and with ``purge`` its files out of storage."""
        with translated(f"table {handle.name}"):
            if purge:
                self.catalog.purge_table(handle.identifier)
            else:
                self.catalog.drop_table(handle.identifier)
        self.forget(handle.identifier)

    def register_table(self, identifier: tuple[str, ...], metadata_location: str) -> TableHandle:
        """Make a table known by the metadata file that it stands at.

        Raises:
            TableExistsError: There is a table of that name.
            NamespaceNotFoundError: There is no such namespace.
            StorageError: There is no such file, or it is none of a table.
        """
        namespace = self.find_namespace(identifier[:-1])
        if namespace is None:
            raise self.unknown_namespace(identifier[:-1])
        identifier = (*namespace, identifier[-1])
        if self.find(identifier) is not None:
            raise TableExistsError(f"table {self.full_name(identifier)} exists already")
        with translated(f"metadata file {metadata_location}"):
            read_metadata(metadata_location, load_file_io(self.catalog.properties, metadata_location))
        with translated(f"table {self.full_name(identifier)}"):
            self.catalog.register_table(identifier, metadata_location)
        return self.load(identifier)

    def rename_table(self, handle: TableHandle, identifier: tuple[str, ...]) -> None:
        """Give a table another name, in its namespace or in another one.

        Raises:
            TableExistsError: There is a table of that name.
            NamespaceNotFoundError: There is no such namespace.
        """
        namespace = self.find_namespace(identifier[:-1])
        if namespace is None:
            raise self.unknown_namespace(identifier[:-1])
        identifier = (*namespace, identifier[-1])
        if self.find(identifier) is not None:
            raise TableExistsError(f"table {self.full_name(identifier)} exists already")
        with translated(f"table {handle.name}"):
            self.catalog.rename_table(handle.identifier, identifier)
        self.forget(handle.identifier)

    def list_tables(self, namespace: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The identifiers of the tables of a namespace."""
        with translated(f"namespace {'.'.join(namespace)}"):
            return [tuple(identifier) for identifier in self.catalog.list_tables(namespace)]

    # Namespaces

    def list_namespaces(self, parent: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The namespaces below a namespace, or below the root."""
        try:
            with translated(f"namespace {'.'.join(parent)}" if parent else f"catalog {self.name}"):
                return [tuple(namespace) for namespace in self.catalog.list_namespaces(parent)]
        except NamespaceNotFoundError as exc:
            if parent:
                raise
            # Every catalog has a root; what the server does not have is the warehouse.
            warehouse = self.catalog.properties.get("warehouse")
            raise CatalogError(
                f"catalog {self.name}: the server holds nothing under warehouse {warehouse!r}",
                hint="is the warehouse spelled as the server knows it?",
            ) from exc

    def walk_namespaces(self, parent: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """All namespaces below a namespace, at any depth, each before those below it."""
        for namespace in self.child_namespaces(parent):
            yield namespace
            yield from self.walk_namespaces(namespace)

    def child_namespaces(self, parent: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """The namespaces right below a namespace, or below the root, by name.

        Some catalogs list all levels at once, and some know of one level only and list that again.
        """
        depth = len(parent)
        listed = self.list_namespaces(parent)
        return sorted({each[: depth + 1] for each in listed if len(each) > depth and each[:depth] == tuple(parent)})

    def require_namespace(self, namespace: tuple[str, ...]) -> tuple[str, ...]:
        """The existing namespace of this name, as it is spelled in the catalog.

        Raises:
            NamespaceNotFoundError: There is none of this name.
        """
        found = self.find_namespace(namespace)
        if found is None:
            raise self.unknown_namespace(namespace)
        return found

    def namespace_properties(self, namespace: tuple[str, ...]) -> dict[str, str]:
        """The properties of a namespace that exists."""
        with translated(f"namespace {'.'.join(namespace)}"):
            return dict(self.catalog.load_namespace_properties(namespace))

    def usual_location(self, identifier: tuple[str, ...], namespace: Mapping[str, str] | None = None) -> str | None:
        """Where the catalog would put a table of this name; None where only its server knows.

        Args:
            identifier: Namespace parts and table name.
            namespace: The properties of its namespace; None for those that the catalog has.
        """
        if not isinstance(self.catalog, MetastoreCatalog):
            return None
        if namespace is None:
            namespace = self.namespace_properties(identifier[:-1])
        location = namespace.get("location")
        warehouse = self.catalog.properties.get("warehouse")
        if location is None and warehouse is not None:
            location = f"{warehouse.rstrip('/')}/{'.'.join(identifier[:-1])}"
        return None if location is None else f"{location.rstrip('/')}/{identifier[-1]}"

    def create_namespace(self, namespace: tuple[str, ...], properties: Mapping[str, str]) -> None:
        """Make a namespace.

        Raises:
            NamespaceExistsError: There is one of this name.
        """
        with translated(f"namespace {'.'.join(namespace)}"):
            self.catalog.create_namespace(namespace, dict(properties))

    def alter_namespace(
        self, namespace: tuple[str, ...], set_properties: Mapping[str, str], unset_properties: Sequence[str]
    ) -> None:
        """Change a namespace's properties.

        Raises:
            NamespaceNotFoundError: There is none of this name.
        """
        found = self.find_namespace(namespace)
        if found is None:
            raise self.unknown_namespace(namespace)
        with translated(f"namespace {'.'.join(namespace)}"):
            self.catalog.update_namespace_properties(found, set(unset_properties), dict(set_properties))

    def drop_namespace(self, namespace: tuple[str, ...]) -> None:
        """Remove an empty namespace.

        Raises:
            NamespaceNotFoundError: There is none of this name.
            NamespaceNotEmptyError: It holds tables.
        """
        found = self.find_namespace(namespace)
        if found is None:
            raise self.unknown_namespace(namespace)
        with translated(f"namespace {'.'.join(namespace)}"):
            self.catalog.drop_namespace(found)

    def unknown_namespace(self, namespace: tuple[str, ...]) -> NamespaceNotFoundError:
        """The error for a namespace that is not there; the hint names the nearest."""
        known = sorted(".".join(n) for n in self.list_namespaces(()))
        near = nearest(".".join(namespace), known)
        return NamespaceNotFoundError(
            f"namespace {'.'.join(namespace)} does not exist",
            hint=f"did you mean {near!r}?" if near else f"make it with CREATE NAMESPACE {'.'.join(namespace)}",
        )


def find_identifier(
    identifier: tuple[str, ...], name: Name, known: Sequence[tuple[str, ...]]
) -> tuple[str, ...] | None:
    """The one of some tables that a name stands for, unquoted parts without regard to case; None where there is none.

    Args:
        identifier: What `CatalogClient.split` makes of the name.
        name: The name as written.
        known: The tables.
    """
    if identifier in known:
        return identifier
    if all(part.quoted for part in name.parts):
        return None
    folded = tuple(part.casefold() for part in identifier)
    found = [each for each in known if tuple(part.casefold() for part in each) == folded]
    return found[0] if len(found) == 1 else None


def _pointers(catalog: SqlCatalog) -> Select[Any]:
    """Names and pointers of all tables."""
    columns = IcebergTables.__table__.c
    query = select(columns.table_namespace, columns.table_name, columns.metadata_location)
    tables_only = catalog._iceberg_type_filter()
    return query if tables_only is None else query.where(tables_only)


def row_filter(catalog_name: str, identifier: tuple[str, ...]) -> tuple[Any, ...]:
    """The conditions that pick one table's row in a SQL catalog."""
    columns = SqlCatalogBaseTable.metadata.tables[IcebergTables.__tablename__].c
    return (
        columns.catalog_name == catalog_name,
        columns.table_namespace == ".".join(identifier[:-1]),
        columns.table_name == identifier[-1],
    )


def _check_location(name: str, location: str) -> None:
    """Refuse a place at which all files would have one path: file access reads locations as URLs, up to these marks."""
    mark = next((mark for mark in "?#" if mark in location), None)
    if mark is not None:
        raise ConfigurationError(
            f"table {name} would lie at {location}, and files cannot be written to a path with {mark} in it",
            hint="give it another name, or a LOCATION",
        )
