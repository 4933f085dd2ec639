"""Namespaces that are made, altered and dropped together with tables, in the SQL transaction that moves these.

A SQL catalog keeps a row for each property of a namespace, and none for the namespace itself: it is there as long as it
has a property, or a table in it or below it. So no key of the database says that a namespace is made once, or that one
with tables is not dropped. Whoever changes namespaces takes locks first, and looks at what is there only then. A change
that changes nothing locks a namespace's rows, on SQLite the whole file, on MariaDB also the gaps where rows would come;
PostgreSQL locks no gaps, so the tables that hold the rows are locked there. Other engines take no such locks, but wait
for them. Who puts a table into a namespace looks, behind the row that was written for it, whether the namespace is
still there: the one who drops it either sees that row, or is seen to have dropped it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pyiceberg.catalog.sql import IcebergNamespaceProperties, IcebergTables, SqlCatalog, SqlCatalogBaseTable
from sqlalchemy import Connection, Select, delete, insert, or_, select, update

from icefusion.commit.operations import NamespaceChange
from icefusion.commit.translate import translated
from icefusion.errors import (
    CommitConflictError,
    IcefusionError,
    NamespaceExistsError,
    NamespaceNotEmptyError,
    NamespaceNotFoundError,
)

__all__ = ["MINIMAL_PROPERTIES", "apply_changes", "apply_drops", "find_missing", "lock_namespaces", "stand"]

MINIMAL_PROPERTIES = dict(IcebergNamespaceProperties.NAMESPACE_MINIMAL_PROPERTIES)
"""What a namespace without properties has in a SQL catalog, so that it is there."""

_TABLES = SqlCatalogBaseTable.metadata.tables[IcebergTables.__tablename__]
_PROPERTIES = SqlCatalogBaseTable.metadata.tables[IcebergNamespaceProperties.__tablename__]


def lock_namespaces(connection: Connection, catalog: SqlCatalog, changes: Sequence[NamespaceChange]) -> None:
    """Keep all others from changing these namespaces, and from putting tables into those that are dropped.

    It comes before all else in a SQL transaction, so that two of them cannot wait for each other.
    """
    if not changes:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
        locked = [_PROPERTIES.name, *([_TABLES.name] if any(change.drops for change in changes) else [])]
        for name in locked:
            connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
    for change in sorted(changes, key=lambda each: each.identifier):
        rows = update(_PROPERTIES).where(*_own_rows(catalog, change.identifier))
        connection.execute(rows.values(property_value=_PROPERTIES.c.property_value))


def apply_changes(
    connection: Connection, catalog: SqlCatalog, changes: Sequence[NamespaceChange]
) -> IcefusionError | None:
    """Make and alter namespaces that are locked; gives the reason why it cannot be done."""
    for change in changes:
        if change.properties is None:
            continue
        now = _read(connection, catalog, change.identifier)
        is_there = bool(now) or _is_implied(connection, catalog, change.identifier)
        if change.base is None and is_there:
            if change.is_tolerant:
                continue  # left as it is, as CREATE NAMESPACE IF NOT EXISTS does
            return NamespaceExistsError(
                f"namespace {change.name} exists already: it was made by somebody else during the transaction",
                hint="nothing was committed; write CREATE NAMESPACE IF NOT EXISTS to leave it as it is",
            )
        if change.base is not None and not is_there:
            return _conflict(change, f"namespace {change.name} was dropped")
        touched = change.touched
        base = change.base or {}
        for key in touched if change.base is not None else ():
            if now.get(key) != base.get(key):
                return _conflict(change, f"property {key} of namespace {change.name} was changed")
        if not touched:
            continue
        connection.execute(
            delete(_PROPERTIES).where(*_own_rows(catalog, change.identifier), _PROPERTIES.c.property_key.in_(touched))
        )
        new = {key: change.properties[key] for key in touched if key in change.properties}
        if not new and not any(key not in touched for key in now):
            new = MINIMAL_PROPERTIES
        rows = [
            {
                "catalog_name": catalog.name,
                "namespace": ".".join(change.identifier),
                "property_key": key,
                "property_value": value,
            }
            for key, value in new.items()
        ]
        if rows:
            connection.execute(insert(_PROPERTIES), rows)
    return None


def apply_drops(
    connection: Connection, catalog: SqlCatalog, changes: Sequence[NamespaceChange]
) -> IcefusionError | None:
    """Drop namespaces that are locked, once the tables that go have gone; gives the reason why it cannot be done."""
    for change in changes:
        if not change.drops:
            continue
        # A change that changes nothing, so that it waits for tables that others are just making, and they for this.
        inside = (_TABLES.c.catalog_name == catalog.name, _TABLES.c.table_namespace == ".".join(change.identifier))
        same = update(_TABLES).where(*inside).values(metadata_location=_TABLES.c.metadata_location)
        if connection.execute(same).rowcount:
            names = connection.execute(select(_TABLES.c.table_name).where(*inside).limit(3)).scalars().all()
            return NamespaceNotEmptyError(
                f"namespace {change.name} is not empty: somebody else has put {', '.join(names)} into it",
                hint="nothing was committed; drop or rename what is in it first",
            )
        dropped = connection.execute(delete(_PROPERTIES).where(*_own_rows(catalog, change.identifier))).rowcount
        if not dropped and change.base and not change.is_tolerant:
            return _conflict(change, f"namespace {change.name} was dropped by somebody else")
    return None


def find_missing(
    connection: Connection,
    catalog: SqlCatalog,
    namespaces: Iterable[tuple[str, ...]],
    arrived: Iterable[tuple[str, ...]],
) -> IcefusionError | None:
    """Look whether namespaces are there in which this transaction has just put tables; gives the error where not.

    Args:
        connection: To the database, in the transaction that wrote the tables' rows.
        catalog: The catalog.
        namespaces: The namespaces.
        arrived: The tables, which do not count.
    """
    own = tuple(arrived)
    for namespace in sorted(set(namespaces)):
        if _read(connection, catalog, namespace) or _is_implied(connection, catalog, namespace, own):
            continue
        return NamespaceNotFoundError(
            f"namespace {'.'.join(namespace)} does not exist: it was dropped during the transaction",
            hint="nothing was committed",
        )
    return None


def stand(catalog: SqlCatalog, changes: Sequence[NamespaceChange]) -> bool:
    """Whether all namespaces are as changes would have left them.

    Only asked where they may have landed without an answer: it cannot be told apart from somebody else doing the same.

    Raises:
        CatalogError: It cannot be asked.
    """
    names = ", ".join(change.name for change in changes)
    with translated(f"namespaces {names}"), catalog.engine.connect() as connection, connection.begin():
        for change in changes:
            now = _read(connection, catalog, change.identifier)
            if change.drops:
                if now:
                    return False
            elif change.base is None and change.is_tolerant:
                if not now and not _is_implied(connection, catalog, change.identifier):
                    return False
            elif change.base is None:
                if now != change.properties:
                    return False
            elif any(now.get(key) != (change.properties or {}).get(key) for key in change.touched):
                return False
    return True


def _own_rows(catalog: SqlCatalog, namespace: tuple[str, ...]) -> tuple[Any, ...]:
    return _PROPERTIES.c.catalog_name == catalog.name, _PROPERTIES.c.namespace == ".".join(namespace)


def _newest(connection: Connection, query: Select[Any]) -> Select[Any]:
    """A query that sees what is there now, and not what was there when the transaction began to read."""
    # PostgreSQL reads so anyway, and where SQLite's file is locked nobody has written since.
    return query.with_for_update(read=True) if connection.dialect.name in ("mysql", "mariadb") else query


def _read(connection: Connection, catalog: SqlCatalog, namespace: tuple[str, ...]) -> dict[str, str]:
    """The properties of a namespace."""
    columns = _PROPERTIES.c
    query = select(columns.property_key, columns.property_value).where(*_own_rows(catalog, namespace))
    rows = connection.execute(_newest(connection, query))
    return {row.property_key: row.property_value for row in rows}


def _is_implied(
    connection: Connection,
    catalog: SqlCatalog,
    namespace: tuple[str, ...],
    without: Sequence[tuple[str, ...]] = (),
) -> bool:
    """Whether a namespace without properties is there, by what is in it or below it."""
    name = ".".join(namespace)
    below = name.replace("!", "!!").replace("_", "!_").replace("%", "!%") + ".%"
    within = or_(_TABLES.c.table_namespace == name, _TABLES.c.table_namespace.like(below, escape="!"))
    tables = select(_TABLES.c.table_namespace, _TABLES.c.table_name).where(
        _TABLES.c.catalog_name == catalog.name, within
    )
    own = {(".".join(each[:-1]), each[-1]) for each in without}
    if any(tuple(row) not in own for row in connection.execute(_newest(connection, tables))):
        return True
    deeper = select(_PROPERTIES.c.namespace).where(
        _PROPERTIES.c.catalog_name == catalog.name, _PROPERTIES.c.namespace.like(below, escape="!")
    )
    return connection.execute(_newest(connection, deeper.limit(1))).first() is not None


def _conflict(change: NamespaceChange, reason: str) -> CommitConflictError:
    return CommitConflictError(
        f"commit to namespace {change.name} conflicts with another one: {reason} during the transaction",
        reason=reason,
        hint="nothing was committed; look at it again and repeat the transaction",
    )
