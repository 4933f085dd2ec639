"""Views that a catalog keeps: found, listed, made, replaced, altered, renamed and dropped.

REST catalogs alone keep views, those whose server says that it does. PyIceberg's client makes, reads, lists and drops
them; replacing and renaming are requests of the specification that it does not have, sent here over its connection.

A request that got no answer, or one like "server error", may have landed. So each version that is made carries a mark
of its statement in its summary, and after such an answer the view is looked at before anything else is said. A replaced
view is held by its identity (``assert-view-uuid``): of two who replace it at once the later one counts, as with two
statements one after the other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests
from pyiceberg import exceptions as foreign
from pyiceberg.catalog.rest import Capability, RestCatalog
from pyiceberg.view.metadata import ViewMetadata

from icefusion.bridge.view_metadata import (
    COMMENT,
    DROP_DIALECT,
    MARK,
    NAMED_COLUMNS,
    ViewDraft,
    has_mark,
    is_made_here,
    lost_dialects,
    replacing_updates,
    view_version,
)
from icefusion.clock import Clock
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.handles import TableHandle
from icefusion.commit.rest import send
from icefusion.commit.retry import Attempts, cannot_be_reached
from icefusion.commit.translate import translate, translated
from icefusion.config import RetryConfig
from icefusion.errors import (
    CatalogError,
    CommitFailedError,
    CommitStateUnknownError,
    IcefusionError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.sql.statements import Name

__all__ = ["CatalogView", "ViewCommitter", "find_table_or_view", "find_view", "keeps_views", "list_views", "load_view"]

_RENAME_PATH = "views/rename"
_SPARKS_COLUMNS = "spark.query-column-names"
"""What Spark says of the query that it has written."""
_ABSENT = (foreign.NoSuchViewError, foreign.NoSuchNamespaceError)
_LOST = (foreign.CommitFailedException, foreign.TooManyRequestsError)


@dataclass(frozen=True)
class CatalogView:
    """One state of a view that a catalog keeps.

    Attributes:
        name: The full name, for messages: ``catalog.namespace.view``.
        identifier: Namespace parts and name.
        metadata: Its metadata.
    """

    name: str
    identifier: tuple[str, ...]
    metadata: ViewMetadata = field(repr=False)


def keeps_views(client: CatalogClient) -> bool:
    """Whether a catalog keeps views."""
    catalog = client.catalog
    return isinstance(catalog, RestCatalog) and Capability.V1_LOAD_VIEW in catalog._supported_endpoints


def load_view(client: CatalogClient, identifier: tuple[str, ...]) -> CatalogView | None:
    """The newest state of a view; None where there is none of exactly this name."""
    name = client.full_name(identifier)
    with translated(f"view {name}"):
        try:
            view = client.catalog.load_view(tuple(identifier))
        except _ABSENT:
            return None
        except foreign.BadRequestError:
            return None  # a name that no view there can have
    return CatalogView(name, identifier, view.metadata)


def list_views(client: CatalogClient, namespace: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The identifiers of the views of a namespace, sorted; none where the catalog keeps no views."""
    if not keeps_views(client):
        return []
    with translated(f"namespace {'.'.join(namespace)}"):
        try:
            return sorted(tuple(identifier) for identifier in client.catalog.list_views(tuple(namespace)))
        except foreign.NoSuchNamespaceError:
            return []


def find_view(client: CatalogClient, name: Name) -> CatalogView | None:
    """The view that a name stands for, unquoted parts without regard to case; None where it is none.

    Raises:
        TableNotFoundError: There is more than one.
    """
    identifier = client.split(name)
    return load_view(client, identifier) or _find_ignoring_case(client, identifier, name)


def find_table_or_view(client: CatalogClient, name: Name) -> TableHandle | CatalogView | None:
    """What a name stands for, found with one request for a table that is spelled as the catalog has it, two for a view.

    Raises:
        TableNotFoundError: It stands for several of a kind.
    """
    identifier = client.split(name)
    try:
        return client.load(identifier)
    except (TableNotFoundError, NamespaceNotFoundError):
        pass
    except CatalogError as refused:
        if not isinstance(refused.__cause__, foreign.BadRequestError):
            raise
    return load_view(client, identifier) or client.find_named(name) or _find_ignoring_case(client, identifier, name)


def _find_ignoring_case(client: CatalogClient, identifier: tuple[str, ...], name: Name) -> CatalogView | None:
    *levels, last = name.parts
    if last.quoted and all(part.quoted for part in levels):
        return None
    namespace = client.find_namespace(identifier[:-1])
    if namespace is None:
        return None
    listed = [view[-1] for view in list_views(client, namespace)]
    found = [each for each in listed if each == identifier[-1]]
    if not found and not last.quoted:
        found = [each for each in listed if each.casefold() == identifier[-1].casefold()]
    if len(found) > 1:
        raise TableNotFoundError(
            f"{name} stands for {len(found)} views: {', '.join(found)}", hint="quote the name to say which"
        )
    return load_view(client, client.marked((*namespace, found[0]))) if found else None


class ViewCommitter:
    """Changes the views of catalogs, again after a lost race or an answer that says nothing.

    Args:
        retry: How often and how long.
        clock: Time and chance.
        engine_version: The version of this library.
    """

    def __init__(self, retry: RetryConfig, clock: Clock, engine_version: str) -> None:
        self._retry = retry
        self._clock = clock
        self._engine_version = engine_version

    def create(
        self,
        client: CatalogClient,
        identifier: tuple[str, ...],
        draft: ViewDraft,
        properties: Mapping[str, str],
        *,
        replace: bool,
    ) -> None:
        """Make a view, or replace the one that is there: then it keeps the properties that are not given anew.

        Raises:
            TableExistsError: There is a view of this name, and it is not to be replaced; or a table.
            UnsupportedStatementError: It would lose a dialect.
            CommitFailedError: Nothing landed.
            CommitStateUnknownError: It may have landed.
        """
        mark = uuid.uuid4().hex
        name = client.full_name(identifier)

        def act() -> None:
            view = load_view(client, identifier)
            if view is None:
                try:
                    self._create(client, identifier, draft, properties, mark)
                except foreign.ViewAlreadyExistsError as faster:
                    raise (foreign.CommitFailedException(str(faster)) if replace else faster) from faster
            elif replace:
                removed = [] if COMMENT in properties else [COMMENT]
                self._replace(client, view, draft, mark, properties, removed)
            else:
                raise TableExistsError(f"view {name} exists already", hint="write CREATE OR REPLACE VIEW")

        self._insist(f"view {name}", act, lambda: self._is_marked(client, identifier, mark))

    def replace_query(self, client: CatalogClient, identifier: tuple[str, ...], draft: ViewDraft) -> None:
        """Give a view another query.

        Raises:
            TableNotFoundError: There is no such view.
            UnsupportedStatementError: It would lose a dialect.
            CommitFailedError: Nothing landed.
            CommitStateUnknownError: It may have landed.
        """
        mark = uuid.uuid4().hex

        def act() -> None:
            self._replace(client, _required(client, identifier), draft, mark, {}, [])

        self._insist(f"view {client.full_name(identifier)}", act, lambda: self._is_marked(client, identifier, mark))

    def set_properties(
        self,
        client: CatalogClient,
        identifier: tuple[str, ...],
        properties: Mapping[str, str],
        removed: Sequence[str],
    ) -> None:
        """Set and take away properties.

        Raises:
            TableNotFoundError: There is no such view.
            CommitFailedError: Nothing landed.
            CommitStateUnknownError: It may have landed.
        """

        def act() -> None:
            view = _required(client, identifier)
            updates = _property_updates(view.metadata, properties, removed)
            if updates:
                _commit(client, view, updates)

        def is_done() -> bool:
            view = load_view(client, identifier)
            return view is not None and not _property_updates(view.metadata, properties, removed)

        self._insist(f"view {client.full_name(identifier)}", act, is_done)

    def rename(self, client: CatalogClient, view: CatalogView, identifier: tuple[str, ...]) -> None:
        """Give a view another name.

        Raises:
            TableExistsError: There is something of the new name.
            UnsupportedStatementError: The server does not rename views.
            CommitStateUnknownError: It may have landed.
        """
        catalog = _rest(client)
        body = {"source": _identifier(view.identifier), "destination": _identifier(identifier)}

        def act() -> None:
            answer = send(catalog, _RENAME_PATH, body)
            if answer.status_code in (405, 501) or (answer.status_code == 404 and load_view(client, view.identifier)):
                raise UnsupportedStatementError(
                    f"view {view.name}: catalog {client.name} does not rename views",
                    hint="CREATE VIEW under the new name and DROP the old one",
                )
            _check(answer, {404: foreign.NoSuchViewError, 409: foreign.ViewAlreadyExistsError})

        def is_done() -> bool:
            moved = load_view(client, identifier)
            return moved is not None and moved.metadata.view_uuid == view.metadata.view_uuid

        self._insist(f"view {view.name}", act, is_done)

    def drop(self, client: CatalogClient, view: CatalogView) -> None:
        """Take a view out of the catalog.

        Raises:
            TableNotFoundError: It is gone already.
            CommitStateUnknownError: It may have landed.
        """

        def is_done() -> bool:
            now = load_view(client, view.identifier)
            return now is None or now.metadata.view_uuid != view.metadata.view_uuid

        self._insist(f"view {view.name}", lambda: client.catalog.drop_view(tuple(view.identifier)), is_done)

    def _create(
        self,
        client: CatalogClient,
        identifier: tuple[str, ...],
        draft: ViewDraft,
        properties: Mapping[str, str],
        mark: str,
    ) -> None:
        version = self._version(draft, version_id=1, schema_id=draft.schema.schema_id, mark=mark)
        own = {MARK: mark, **({NAMED_COLUMNS: "true"} if draft.named_columns else {})}
        client.catalog.create_view(tuple(identifier), draft.schema, version, properties={**properties, **own})

    def _replace(
        self,
        client: CatalogClient,
        view: CatalogView,
        draft: ViewDraft,
        mark: str,
        properties: Mapping[str, str],
        removed: Sequence[str],
    ) -> None:
        metadata = view.metadata
        lost = lost_dialects(metadata, draft, {**metadata.properties, **properties})
        if lost:
            if DROP_DIALECT in {**metadata.properties, **properties} or not is_made_here(metadata):
                raise UnsupportedStatementError(
                    f"view {view.name} has its query in dialect {' and '.join(lost)}, and the new query would be "
                    f"one of {draft.dialect} only: other engines might not read the view any more",
                    hint=f"allow it: SET TBLPROPERTIES ('{DROP_DIALECT}' = 'true'); or DROP the view first",
                )
            # The dialect was chosen here, by what the query is made of, and nobody has asked for it.
            properties = {**properties, DROP_DIALECT: "true"}
        newest = max(version.version_id for version in metadata.versions) if metadata.versions else 0
        version = self._version(draft, version_id=newest + 1, schema_id=-1, mark=mark)
        if draft.named_columns:
            properties = {**properties, NAMED_COLUMNS: "true"}
        removed = [*removed, _SPARKS_COLUMNS, *([] if draft.named_columns else [NAMED_COLUMNS])]
        # The properties go first: they say what may be done to the versions.
        updates = _property_updates(metadata, properties, removed)
        _commit(client, view, [*updates, *replacing_updates(metadata, version, draft.schema)])

    def _version(self, draft: ViewDraft, *, version_id: int, schema_id: int, mark: str) -> Any:
        return view_version(
            draft,
            version_id=version_id,
            schema_id=schema_id,
            timestamp_ms=self._clock.now_ms(),
            mark=mark,
            engine_version=self._engine_version,
        )

    def _is_marked(self, client: CatalogClient, identifier: tuple[str, ...], mark: str) -> bool:
        view = load_view(client, identifier)
        return view is not None and has_mark(view.metadata, mark)

    def _insist(self, what: str, act: Callable[[], None], is_done: Callable[[], bool]) -> None:
        """Do something until it is done or refused.

        Args:
            what: What it is done to.
            act: Does it; raises what the catalog says.
            is_done: Whether it is seen to have been done; asked once it may have been.
        """
        attempts = Attempts(self._retry, self._clock)
        unknown: Exception | None = None
        while True:
            attempts.start()
            try:
                if attempts.number > 1 and is_done():
                    return
                act()
            except Exception as error:  # whatever a client for HTTP can raise
                away, is_ours = cannot_be_reached(error), isinstance(error, IcefusionError)
                if away and not is_ours:  # ours come from looking at what is there
                    unknown = error
                if not away and not isinstance(error, _LOST):
                    # A server's own retries can answer "exists already" to a request that its first try landed.
                    if not is_ours and self._seen(is_done):
                        return
                    if unknown is not None:
                        raise _unknown(what, unknown) from error
                    raise _translated(error, what) from error
                attempts.failed(str(error).partition("\n")[0], away=away)
                last = error
            else:
                return
            if not attempts.wait():
                break
        if unknown is not None:
            if not self._seen(is_done):
                raise _unknown(what, unknown) from unknown
        elif isinstance(last, IcefusionError):
            raise last
        elif not self._seen(is_done):
            raise CommitFailedError(
                f"{what}: gave up after {attempts.number} attempts in {attempts.elapsed_s():.1f} s: {attempts.last}",
                hint="nothing was changed; the statement can be repeated",
            ) from last

    def _seen(self, is_done: Callable[[], bool]) -> bool:
        try:
            return is_done()
        except IcefusionError:
            return False


def _translated(error: Exception, what: str) -> IcefusionError:
    """The error of ours that stands for what a catalog said of a view."""
    if isinstance(error, IcefusionError):
        return error
    if isinstance(error, foreign.NoSuchViewError):
        return TableNotFoundError(f"{what} does not exist")
    if isinstance(error, foreign.ViewAlreadyExistsError):
        return TableExistsError(f"{what}: there is a view or a table of this name already")
    return translate(error, what)


def _unknown(what: str, error: Exception) -> CommitStateUnknownError:
    return CommitStateUnknownError(
        f"whether {what} was changed is unknown ({type(error).__name__}: {error})",
        hint="look at it with SHOW CREATE VIEW",
    )


def _required(client: CatalogClient, identifier: tuple[str, ...]) -> CatalogView:
    view = load_view(client, identifier)
    if view is None:
        raise TableNotFoundError(f"view {client.full_name(identifier)} does not exist")
    return view


def _property_updates(
    metadata: ViewMetadata, properties: Mapping[str, str], removed: Sequence[str]
) -> list[dict[str, Any]]:
    """The updates that set and take away what is not so already."""
    updates: list[dict[str, Any]] = []
    new = {key: value for key, value in properties.items() if metadata.properties.get(key) != value}
    gone = [key for key in removed if key in metadata.properties]
    if new:
        updates.append({"action": "set-properties", "updates": new})
    if gone:
        updates.append({"action": "remove-properties", "removals": gone})
    return updates


def _commit(client: CatalogClient, view: CatalogView, updates: Sequence[Mapping[str, Any]]) -> None:
    """Commit updates to a view that is still the same view."""
    catalog = _rest(client)
    body = {
        "identifier": _identifier(view.identifier),
        "requirements": [{"type": "assert-view-uuid", "uuid": view.metadata.view_uuid}],
        "updates": list(updates),
    }
    namespace = catalog._encode_namespace_path(tuple(view.identifier[:-1]))
    path = f"namespaces/{namespace}/views/{quote(view.identifier[-1], safe='')}"
    answer = send(catalog, path, body)
    _check(answer, {404: foreign.NoSuchViewError, 409: foreign.CommitFailedException})


def _check(answer: requests.Response, meanings: Mapping[int, type[Exception]]) -> None:
    """Raise what an answer says, as PyIceberg's client would."""
    if answer.ok:
        return
    try:
        said = json.loads(answer.text)["error"]
        text = f"{said['type']}: {said['message']}"
    except (ValueError, KeyError, TypeError):
        text = f"{answer.status_code} {answer.reason or ''}: {answer.text[:200]}"
    raise {**_MEANINGS, **meanings}.get(answer.status_code, _usual(answer.status_code))(text)


_MEANINGS: Mapping[int, type[Exception]] = {
    400: foreign.BadRequestError,
    401: foreign.UnauthorizedError,
    403: foreign.ForbiddenError,
    419: foreign.AuthorizationExpiredError,
    429: foreign.TooManyRequestsError,
    503: foreign.ServiceUnavailableError,
}


def _usual(status: int) -> type[Exception]:
    return foreign.ServerError if status >= 500 else foreign.RESTError


def _identifier(identifier: Sequence[str]) -> dict[str, Any]:
    return {"namespace": list(identifier[:-1]), "name": identifier[-1]}


def _rest(client: CatalogClient) -> RestCatalog:
    assert isinstance(client.catalog, RestCatalog)  # no other catalog keeps views
    return client.catalog
