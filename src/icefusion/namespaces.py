"""The namespaces of catalogs, as a transaction sees them that makes, alters and drops some.

What statements did is kept as what each namespace was and is to be. Listings come from the catalog, with that put on
top: a namespace that is made is there with those above it, one that is dropped is gone unless others are below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from icefusion.commit.catalog import CatalogClient
from icefusion.commit.identifiers import match_namespace
from icefusion.commit.namespaces import MINIMAL_PROPERTIES
from icefusion.commit.operations import NamespaceChange
from icefusion.commit.swap import can_change_names
from icefusion.errors import NamespaceExistsError, NamespaceNotEmptyError, NamespaceNotFoundError, TransactionError

__all__ = ["StagedNamespaces", "check_may_change", "namespace_exists"]


@dataclass
class _State:
    """One namespace: its properties as they were and are to be, None for none, and whether `is_tolerant` goes."""

    base: Mapping[str, str] | None
    properties: Mapping[str, str] | None
    is_tolerant: bool


class StagedNamespaces:
    """What a transaction did to namespaces, and what it sees of all of them.

    An identifier that goes in or comes out belongs to the catalog that stands beside it.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, ...], tuple[CatalogClient, _State]] = {}

    # What there is

    def children(self, client: CatalogClient, parent: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """The namespaces right below a namespace, or below the root, by name."""
        mine = self._of(client)
        if not mine:
            return client.child_namespaces(parent)
        try:
            listed = client.child_namespaces(parent)
        except NamespaceNotFoundError:
            listed = []  # it is made here
        depth = len(parent)
        found = {each for each in listed if not self._is_gone(client, tuple(each))}
        for each, state in mine.items():
            if state.properties is not None and len(each) > depth and each[:depth] == tuple(parent):
                found.add(each[: depth + 1])
        return sorted(found)

    def walk(self, client: CatalogClient, parent: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """All namespaces below a namespace, at any depth, each before those below it."""
        for namespace in self.children(client, parent):
            yield namespace
            yield from self.walk(client, namespace)

    def find(self, client: CatalogClient, namespace: tuple[str, ...]) -> tuple[str, ...] | None:
        """The namespace of this name, as it is spelled; None where there is none."""
        if not self._of(client):
            return client.find_namespace(namespace)
        return match_namespace(namespace, partial(self.children, client))

    def require(self, client: CatalogClient, namespace: tuple[str, ...]) -> tuple[str, ...]:
        """The namespace of this name, as it is spelled.

        Raises:
            NamespaceNotFoundError: There is none.
        """
        found = self.find(client, namespace)
        if found is None:
            raise client.unknown_namespace(namespace)
        return found

    def properties(self, client: CatalogClient, namespace: tuple[str, ...]) -> dict[str, str]:
        """The properties of a namespace that is there."""
        state = self._of(client).get(tuple(namespace))
        if state is not None:
            return dict(state.properties or {})
        try:
            return client.namespace_properties(namespace)
        except NamespaceNotFoundError:
            if self._of(client):
                return {}  # only what is below it is there, made here
            raise

    def made(self, client: CatalogClient, namespace: tuple[str, ...]) -> Mapping[str, str] | None:
        """The properties of a namespace that the catalog does not have, or has otherwise; None for all others."""
        state = self._of(client).get(tuple(namespace))
        return None if state is None else state.properties

    def has_changes(self, client: CatalogClient) -> bool:
        """Whether anything was done to the namespaces of a catalog."""
        return bool(self._of(client))

    def _of(self, client: CatalogClient) -> dict[tuple[str, ...], _State]:
        """What was done to the namespaces of one catalog, by their plain identifiers."""
        return {tuple(key): state for key, (owner, state) in self._states.items() if owner is client}

    def _is_gone(self, client: CatalogClient, namespace: tuple[str, ...]) -> bool:
        state = self._of(client).get(namespace)
        return state is not None and state.properties is None and not self.children(client, namespace)

    # What is done

    def create(
        self, client: CatalogClient, namespace: tuple[str, ...], properties: Mapping[str, str], *, if_not_exists: bool
    ) -> None:
        """Make a namespace when the transaction commits.

        Raises:
            NamespaceExistsError: There is one of this name.
        """
        if self.find(client, namespace) is not None:
            if if_not_exists:
                return
            raise namespace_exists(namespace)
        key = client.marked(tuple(namespace))
        known = self._states.get(key)
        base = known[1].base if known is not None else None
        self._states[key] = client, _State(base, dict(properties) or dict(MINIMAL_PROPERTIES), if_not_exists)

    def alter(
        self,
        client: CatalogClient,
        namespace: tuple[str, ...],
        set_properties: Mapping[str, str],
        unset_properties: Collection[str],
    ) -> None:
        """Change a namespace's properties when the transaction commits.

        Raises:
            NamespaceNotFoundError: There is none of this name.
        """
        state = self._pin(client, self.require(client, namespace))
        kept = {key: value for key, value in (state.properties or {}).items() if key not in unset_properties}
        state.properties = {**kept, **set_properties} or dict(MINIMAL_PROPERTIES)
        state.is_tolerant = False  # what others have made would have to be altered as well

    def drop(
        self,
        client: CatalogClient,
        namespace: tuple[str, ...],
        tables: Sequence[tuple[str, ...]],
        *,
        if_exists: bool,
    ) -> None:
        """Drop a namespace when the transaction commits; one that it made is forgotten at once.

        Args:
            client: Its catalog.
            namespace: As it is spelled.
            tables: The tables that the transaction sees in it.
            if_exists: Whether it is no matter that others have dropped it.

        Raises:
            NamespaceNotEmptyError: It holds tables.
        """
        if tables:
            listed = ", ".join(table[-1] for table in tables[:3])
            raise NamespaceNotEmptyError(
                f"namespace {'.'.join(namespace)} is not empty: it holds {listed}",
                hint="drop its tables first, or rename them into another namespace",
            )
        state = self._pin(client, namespace)
        state.properties, state.is_tolerant = None, if_exists
        if state.base is None:
            del self._states[client.marked(tuple(namespace))]

    def _pin(self, client: CatalogClient, namespace: tuple[str, ...]) -> _State:
        """What is known of a namespace that is there."""
        key = client.marked(tuple(namespace))
        if key not in self._states:
            properties = self.properties(client, namespace)
            self._states[key] = client, _State(properties, properties, False)
        return self._states[key][1]

    @property
    def changes(self) -> tuple[NamespaceChange, ...]:
        """What there is to commit."""
        found = (
            NamespaceChange(key, state.base, state.properties, state.is_tolerant)
            for key, (_, state) in self._states.items()
        )
        return tuple(change for change in found if change)

    @property
    def names(self) -> list[str]:
        """The full names of the namespaces that there is something to commit of."""
        return [self._states[change.identifier][0].full_name(change.identifier) for change in self.changes]

    def uses(self, catalog: str) -> bool:
        """Whether there is something to commit to a catalog."""
        return any(client.name.casefold() == catalog.casefold() for client, _ in self._states.values())


def check_may_change(client: CatalogClient) -> None:
    """Refuse to make, alter or drop namespaces together with other things where the catalog cannot do that.

    Raises:
        TransactionError: It cannot.
    """
    if not can_change_names(client):
        raise TransactionError(
            "namespaces cannot be made, altered or dropped inside a transaction: catalogs do that at once",
            hint="COMMIT or ROLLBACK first; on SQL catalogs (SQLite, PostgreSQL, MariaDB) they are part of it",
        )


def namespace_exists(namespace: tuple[str, ...]) -> NamespaceExistsError:
    """The error for a namespace that is to be made and is there."""
    return NamespaceExistsError(
        f"namespace {'.'.join(namespace)} exists already",
        hint="write CREATE NAMESPACE IF NOT EXISTS to leave it as it is",
    )
