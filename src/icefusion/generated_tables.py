"""Tables that stand in no catalog and can be read nevertheless: metadata tables, and the information schema.

A table of the catalog comes first. What they tell is the state that the transaction has pinned; files that wait for
its commit are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyiceberg.schema import Schema

from icefusion.bridge.metadata_names import (
    INFORMATION_SCHEMA,
    INFORMATION_TABLES,
    information_kind,
    split_metadata_name,
)
from icefusion.bridge.view_metadata import current_schema
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import SessionCatalogs
from icefusion.commit.views import list_views, load_view
from icefusion.errors import BindError, TableNotFoundError
from icefusion.naming import nearest
from icefusion.query.generated import GeneratedSource
from icefusion.query.inspect.information import ListedView, information_table
from icefusion.query.inspect.subject import Subject
from icefusion.query.inspect.tables import has_versions, metadata_table
from icefusion.sql.statements import Name, TimeAsOf, VersionAsOf

if TYPE_CHECKING:
    from icefusion.pinned import PinnedTables

__all__ = ["find_generated", "tables_told_of"]


def find_generated(state: PinnedTables, name: Name, version: VersionAsOf | TimeAsOf | None) -> GeneratedSource | None:
    """What a name stands for that is no table of the catalog; None where it is one, or nothing.

    Raises:
        BindError: A version is asked for of what has none, or is not there.
        TableNotFoundError: There is no table to be told of.
    """
    kind = information_kind(name)
    if kind is not None:
        return None if state.has_table(name) else _information(state, name, kind, version)
    meant = split_metadata_name(name)
    if meant is None or not meant.is_known or state.has_table(name):
        return None
    if version is not None and not has_versions(meant.kind):
        raise BindError(
            f"metadata table {meant.kind} of {meant.table} tells of all snapshots and has no versions itself",
            hint=f"leave the version out, or filter the rows of {name}",
        )
    pinned, travel = state.travel(meant.table, version)
    handle = pinned.handle
    snapshot_id = travel.snapshot_id if travel is not None else state.view_of(pinned).snapshot_id
    subject = Subject(handle.name, handle.metadata, handle.metadata_location, handle.io, snapshot_id)
    return metadata_table(meant.kind, subject)


def tables_told_of(state: PinnedTables, names: Iterable[Name]) -> list[Name]:
    """The names with those of metadata tables replaced by those of their tables, without the information schema."""
    found = []
    for name in names:
        meant = split_metadata_name(name)
        if information_kind(name) is not None and not state.has_table(name):
            continue
        is_metadata = meant is not None and meant.is_known and not state.has_table(name)
        found.append(meant.table if meant is not None and is_metadata else name)
    return found


def _information(state: PinnedTables, name: Name, kind: str, version: VersionAsOf | TimeAsOf | None) -> GeneratedSource:
    """A table of the information schema.

    Raises:
        BindError: A version is asked for.
        TableNotFoundError: There is no such table, or no such catalog.
    """
    if version is not None:
        raise BindError(f"{name} tells what there is now and has no versions", hint="leave the version out")
    client = state.client.of(name) if isinstance(state.client, SessionCatalogs) else state.client
    if len(name.parts) > 2 and name.parts[0].text.casefold() != client.name.casefold():
        raise TableNotFoundError(
            f"{name}: there is no catalog {name.parts[0].text}", hint="SHOW CATALOGS lists those that there are"
        )
    if kind not in INFORMATION_TABLES:
        near = nearest(kind, INFORMATION_TABLES)
        hint = f"did you mean {INFORMATION_SCHEMA}.{near}?" if near else f"there are {', '.join(INFORMATION_TABLES)}"
        raise TableNotFoundError(f"{INFORMATION_SCHEMA} has no table {kind}", hint=hint)
    return information_table(kind, _Lister(state, client), (client.name, state.id))


class _Lister:
    """What a catalog holds, as a transaction sees it."""

    def __init__(self, state: PinnedTables, client: CatalogClient) -> None:
        self._state = state
        self._client = client

    @property
    def name(self) -> str:
        return self._client.name

    def namespaces(self) -> Iterable[tuple[str, ...]]:
        return self._state.namespaces.walk(self._client)

    def tables(self, namespace: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        return self._state.list_tables(self._client, namespace)

    def columns(self, table: tuple[str, ...]) -> Schema | None:
        known = self._state.used(table)
        if known is not None:
            return known.metadata.schema()
        handle = self._client.find(table)
        return None if handle is None else handle.metadata.schema()

    def owner(self, namespace: tuple[str, ...]) -> str | None:
        return self._state.namespaces.properties(self._client, namespace).get("owner")

    def views(self) -> Iterable[ListedView]:
        if self._state.views is None or self._client is not self._state.client:
            return  # they belong to the session, and so to its own catalog
        for view in self._state.views.session.all():
            namespace, _, name = view.name.rpartition(".")
            levels = tuple(namespace.split(".")) if namespace else ()
            yield ListedView(levels, name, view.text, view.columns_as_schema())

    def kept_views(self, namespace: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        return list_views(self._client, namespace)

    def kept_view(self, identifier: tuple[str, ...]) -> ListedView | None:
        view = load_view(self._client, self._client.marked(identifier))
        if view is None or self._state.views is None:
            return None
        return ListedView(
            identifier[:-1],
            identifier[-1],
            self._state.views.catalog.shown(view).text,
            current_schema(view.metadata),
        )
