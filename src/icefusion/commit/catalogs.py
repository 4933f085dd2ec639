"""Several catalogs in one session: which of them a name belongs to, and who commits to it.

`SessionCatalogs` is the catalog that the session was opened with, and knows those that were attached to it under names.
It has the surface of one catalog. Names of three or more parts that begin with the name of an attached catalog are that
catalog's, even where the session's own has a namespace so called. What comes out of an attached catalog is marked
(`icefusion.commit.identifiers`), so that what is asked of it later finds its way back.

Nobody can commit to two catalogs all or none. So a transaction reads from as many as it likes and writes to one;
what it has read of the others is as it was first seen, but is not held still until the commit.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyiceberg.catalog import Catalog

from icefusion.bridge.manifests import ManifestReader
from icefusion.clock import Clock
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.committer import CommitOutcome, CommitRequest, Committer
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.commit.identifiers import AttachedIdentifier
from icefusion.commit.operations import Change
from icefusion.commit.swap import can_swap_many
from icefusion.config import RetryConfig
from icefusion.errors import CatalogError, ConfigurationError, TransactionError
from icefusion.naming import nearest
from icefusion.sql.statements import Name

__all__ = ["SessionCatalogs", "SessionCommitter", "catalogs_of", "check_together", "namespace_owner_of", "owner_of"]

_ALIAS = re.compile(r"[^\W\d]\w*")


class SessionCatalogs(CatalogClient):
    """The session's own catalog, and those that are attached to it. Safe to share between threads.

    Args:
        catalog: The session's own.
    """

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._attached: dict[str, tuple[CatalogClient, bool]] = {}
        self._attaching = threading.Lock()

    # Attaching

    def attach(self, alias: str, client: CatalogClient, *, owned: bool) -> None:
        """Make a catalog known under a name.

        Args:
            alias: The name.
            client: The catalog.
            owned: Whether its connections are given back when it is detached.

        Raises:
            ConfigurationError: The name is not one, or is taken.
        """
        with self._attaching:
            self.check_alias(alias)
            self._attached[alias.casefold()] = CatalogClient(client.catalog, alias), owned

    def check_alias(self, alias: str) -> None:
        """Refuse a name that no catalog can be attached under.

        Raises:
            ConfigurationError: The name is not one, or is taken.
        """
        if not _ALIAS.fullmatch(alias):
            raise ConfigurationError(
                f"a catalog cannot be attached as {alias!r}", hint="a name has letters, digits and underscores"
            )
        if alias.casefold() in (self.name.casefold(), *self._attached):
            raise ConfigurationError(f"there is a catalog {alias!r} already", hint="attach it under another name")

    def detach(self, alias: str) -> None:
        """Forget an attached catalog.

        Raises:
            ConfigurationError: There is none of this name.
        """
        with self._attaching:
            found = self._attached.pop(alias.casefold(), None)
            known = [client.name for client, _ in self._attached.values()]
        if found is None:
            if alias.casefold() == self.name.casefold():
                raise ConfigurationError(f"catalog {alias!r} is the session's own", hint="it stays until the end")
            near = nearest(alias, known)
            hint = f"did you mean {near}?" if near else f"attached are {', '.join(known) or 'none'}"
            raise ConfigurationError(f"no catalog is attached as {alias!r}", hint=hint)
        client, owned = found
        if owned:
            client.close()

    @property
    def attached(self) -> list[CatalogClient]:
        """The attached catalogs."""
        return [client for client, _ in list(self._attached.values())]

    def close(self) -> None:
        """Give back connections, of the attached catalogs too."""
        self.close_attached()
        super().close()

    def close_attached(self) -> None:
        """Detach all."""
        for client in self.attached:
            self.detach(client.name)

    # Whose is it?

    def of(self, subject: object) -> CatalogClient:
        """The catalog that something belongs to.

        Args:
            subject: A name of a table, an identifier of a table or namespace, or a state of a table.

        Raises:
            CatalogError: The catalog has been detached since.
        """
        if isinstance(subject, Name):
            return self._of_name(subject, 3) or self
        if isinstance(subject, StagedTable):
            subject = subject.handle
        identifier = subject.identifier if isinstance(subject, TableHandle) else subject
        if not isinstance(identifier, AttachedIdentifier):
            return self
        found = self._attached.get(identifier.catalog.casefold())
        if found is None:
            raise CatalogError(f"catalog {identifier.catalog} is not attached any more", hint="attach it again")
        return found[0]

    def of_namespace(self, name: Name) -> CatalogClient:
        """The catalog that the name of a namespace belongs to."""
        return self._of_name(name, 2) or self

    def _of_name(self, name: Name, parts: int) -> CatalogClient | None:
        if len(name.parts) < parts:
            return None
        first = name.parts[0]
        found = self._attached.get(first.text.casefold())
        if found is None or (first.quoted and found[0].name != first.text):
            return None
        return found[0]

    # The surface of one catalog

    def split_namespace(self, name: Name) -> tuple[str, ...]:
        """The namespace that a name stands for, as written."""
        client = self.of_namespace(name)
        return super().split_namespace(name) if client is self else client.split_namespace(name)

    def resolve_together(
        self, names: Sequence[Name], seen: Mapping[Name, TableHandle] | None = None
    ) -> list[TableHandle]:
        """The tables that names stand for; those of one catalog in states that all held at one moment."""
        found: dict[int, TableHandle] = {}
        by_client: dict[CatalogClient, list[int]] = {}
        for place, name in enumerate(names):
            by_client.setdefault(self.of(name), []).append(place)
        for client, places in by_client.items():
            mine = [names[place] for place in places]
            together = super().resolve_together if client is self else client.resolve_together
            handles = together(mine, seen)
            found.update(zip(places, handles, strict=True))
        return [found[place] for place in range(len(names))]


def _routed(method: str) -> Callable[..., Any]:
    def call(self: SessionCatalogs, *args: Any, **kwargs: Any) -> Any:
        client = self.of(args[0]) if args else self
        if client is self:
            return getattr(CatalogClient, method)(self, *args, **kwargs)
        return getattr(client, method)(*args, **kwargs)

    call.__name__ = method
    call.__doc__ = getattr(CatalogClient, method).__doc__
    return call


# Whatever is asked of one table or namespace is asked of the catalog that it belongs to.
_OWN = {"split_namespace", "resolve_together", "close", "stats"}
for _name, _member in vars(CatalogClient).items():
    if callable(_member) and not _name.startswith("_") and _name not in _OWN:
        setattr(SessionCatalogs, _name, _routed(_name))


class SessionCommitter(Committer):
    """Commits to whichever catalog of a session the written tables are in. Threads share it."""

    def __init__(
        self, catalogs: SessionCatalogs, retry: RetryConfig, clock: Clock, reader: ManifestReader | None = None
    ) -> None:
        super().__init__(catalogs, retry, clock, reader)
        self._catalogs = catalogs
        self._time = clock
        self._attached: dict[CatalogClient, Committer] = {}

    def with_retry(self, retry: RetryConfig) -> SessionCommitter:
        """The same committer, of other patience; it shares the queues and what is kept in memory."""
        other = SessionCommitter(self._catalogs, retry, self._time, self.manifests)
        other._groups = self._groups
        other._attached = self._attached
        return other

    def outcome(self, request: CommitRequest) -> CommitOutcome:
        """Commit all changes or none, and answer with the outcome instead of raising it."""
        client = self._catalogs.of(request.namespaces[0].identifier if request.namespaces else request.changes[0].base)
        # What was only read elsewhere cannot be held still from here.
        request.changes = tuple(change for change in request.changes if self._owner(change) is client)
        if client is self._catalogs:
            return super().outcome(request)
        known = self._attached.setdefault(client, Committer(client, self._retry, self._time, self.manifests))
        return known.with_retry(self._retry).outcome(request)

    def _owner(self, change: Change) -> CatalogClient:
        return self._catalogs.of(change.base)


def owner_of(client: CatalogClient, table: TableHandle) -> CatalogClient:
    """Which catalog a table belongs to."""
    return client.of(table) if isinstance(client, SessionCatalogs) else client


def namespace_owner_of(client: CatalogClient, name: Name) -> CatalogClient:
    """Which catalog the name of a namespace belongs to."""
    return client.of_namespace(name) if isinstance(client, SessionCatalogs) else client


def catalogs_of(client: CatalogClient) -> list[CatalogClient]:
    """The catalog itself, and those that are attached to it."""
    return [client, *client.attached] if isinstance(client, SessionCatalogs) else [client]


def check_together(client: CatalogClient, name: str, others: Sequence[str]) -> None:
    """Refuse to write a table that could not be committed together with what was written before.

    Args:
        client: The catalogs.
        name: The table's full name.
        others: Full names of the tables that were written before.

    Raises:
        TransactionError: It lies in another catalog, or in one that moves one table at a time.
    """
    catalogs = {known.name: known for known in client.attached} if isinstance(client, SessionCatalogs) else {}
    owner = catalogs.get(name.partition(".")[0], client)
    for other in others:
        theirs = catalogs.get(other.partition(".")[0], client)
        if theirs is not owner:
            raise TransactionError(
                f"this transaction has written {other} and cannot write {name} as well: they are in two catalogs, "
                "and nobody can commit to both all or none",
                hint="commit first; a transaction may read from as many catalogs as it likes",
            )
    if others and not can_swap_many(owner):
        raise TransactionError(
            f"this transaction has written {others[0]} and cannot write {name} as well: "
            f"catalog {owner.name} ({type(owner.catalog).__name__}) cannot commit several tables "
            "all or none",
            hint="commit first, or use a SQL catalog (SQLite, PostgreSQL, MariaDB)",
        )
