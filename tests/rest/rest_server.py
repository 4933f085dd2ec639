"""A small Iceberg REST catalog on loopback, over a SQL catalog, that can be told to misbehave.

It follows the REST specification as far as PyIceberg's client asks for it, and adds what no server at hand offers: a
commit of several tables that is all or nothing, idempotency keys, and faults before and after a commit lands.
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from pyiceberg.catalog.rest import Endpoint
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import AssertCreate
from rest_views import VIEW_ENDPOINTS, ViewError, ViewStore

from icefusion.clock import SystemClock
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.swap import Move, Swapped, swap

ENDPOINTS = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
]
TRANSACTIONS = "POST /v1/{prefix}/transactions/commit"


class RestServer:
    """Runs until `close`.

    Attributes:
        faults: For each coming commit: None, a status to answer with before anything lands, or ``("after", status)`` to
            answer with once it has landed; the status 0 cuts the connection.
        commits: Commit requests that arrived.
        keys: Their idempotency keys.
        defaults, overrides: What the server says of properties.
        vend: What it says of credentials with a table, by the table's identifier: ``config``, ``storage-credentials``.
        sign: Signs requests to S3 for clients that have no keys: a request in, the signed one out.
        login: Who may log in, as ``id:secret``; None lets everybody in.
        token_s: How long a login is good, in seconds.
        logins: How often somebody has logged in.
        tables_loaded: How often a table was asked for.
        views: Its views; None where it keeps none.
        view_faults: As `faults`, for what is to change a view: for making, replacing, renaming and dropping one.
        view_requests: Such requests that arrived.
        delay: Called while a commit is worked on; a place for tests to wait.
    """

    def __init__(
        self,
        folder: Path,
        *,
        transactions: bool = True,
        idempotency: bool = False,
        store: dict[str, str] | None = None,
        login: str | None = None,
        views: bool = False,
    ) -> None:
        store = store or {"warehouse": folder.as_uri()}
        self.sql = SqlCatalog("server", uri=f"sqlite:///{folder / 'server.db'}", **store)
        self.defaults: dict[str, str] = {}
        self.overrides: dict[str, str] = {}
        self.vend: Callable[[tuple[str, ...]], dict] = lambda _: {}
        self.sign: Callable[[dict], dict] | None = None
        self.login = login
        self.token_s = 3600.0
        self.logins = 0
        self.tables_loaded = 0
        self._tokens: dict[str, float] = {}
        self.client = CatalogClient(self.sql)
        self.transactions = transactions
        self.idempotency = idempotency
        self.faults: list[int | tuple[str, int] | None] = []
        self.views = ViewStore(folder, lambda name: self.client.find(name) is not None) if views else None
        self.view_faults: list[int | tuple[str, int] | None] = []
        self.view_requests = 0
        self.commits = 0
        self.keys: list[str | None] = []
        self.delay: Callable[[], None] | None = None
        self._answered: dict[str, tuple[int, dict | None]] = {}
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_state = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self.sql.close()

    # What the handler asks for

    def config(self) -> dict:
        more = [*([TRANSACTIONS] if self.transactions else []), *(VIEW_ENDPOINTS if self.views else [])]
        endpoints = [*ENDPOINTS, *more]
        assert all(Endpoint.from_string(endpoint) for endpoint in endpoints)
        found: dict = {"defaults": self.defaults, "overrides": self.overrides, "endpoints": endpoints}
        if self.idempotency:
            found["idempotency-key-lifetime"] = "PT30M"
        return found

    def give_token(self, form: dict[str, list[str]]) -> tuple[int, dict]:
        if f"{form['client_id'][0]}:{form['client_secret'][0]}" != self.login:
            return 401, {"error": "invalid_client", "error_description": "no such client"}
        self.logins += 1
        token = f"token{self.logins}"
        self._tokens[token] = time.monotonic() + self.token_s
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": int(self.token_s)}

    def may(self, authorization: str | None) -> bool:
        token = (authorization or "").removeprefix("Bearer ")
        return self.login is None or self._tokens.get(token, 0) > time.monotonic()

    def commit(self, requests: list[dict], key: str | None) -> tuple[int, dict | None]:
        with self._lock:
            self.commits += 1
            self.keys.append(key)
            fault = self.faults.pop(0) if self.faults else None
            if self.delay is not None:
                self.delay()
            if isinstance(fault, int):
                return fault, _error("Fault", "before it landed", fault)
            if self.idempotency and key in self._answered:
                return self._answered[key]
            answer = self._land([CommitTableRequest.model_validate(request) for request in requests])
            if self.idempotency and key is not None:
                self._answered[key] = answer
            if fault is not None:
                return fault[1], _error("Fault", "after it landed", fault[1])
            return answer

    def change_view(self, action: Callable[[ViewStore], dict | None]) -> tuple[int, dict | None]:
        """Carry out a request that changes a view, unless there is to be a fault."""
        assert self.views is not None
        with self._lock:
            self.view_requests += 1
            fault = self.view_faults.pop(0) if self.view_faults else None
            if isinstance(fault, int):
                return fault, _error("Fault", "before it landed", fault)
            answer = action(self.views)
            if fault is not None:
                return fault[1], _error("Fault", "after it landed", fault[1])
            return (204, None) if answer is None else (200, answer)

    def _land(self, requests: list[CommitTableRequest]) -> tuple[int, dict | None]:
        try:
            if len(requests) == 1:
                return self._land_one(requests[0])
            moves = []
            for request in requests:
                identifier = (*request.identifier.namespace.root, request.identifier.name)
                moves.append(Move(self.client.load(identifier), request.updates, request.requirements))
            landed = isinstance(swap(self.client, moves, SystemClock()), Swapped)
        except CommitFailedException as exc:
            return 409, _error("CommitFailedException", str(exc), 409)
        return (204, None) if landed else (409, _error("CommitFailedException", "lost", 409))

    def _land_one(self, request: CommitTableRequest) -> tuple[int, dict | None]:
        identifier = (*request.identifier.namespace.root, request.identifier.name)
        creates = any(isinstance(requirement, AssertCreate) for requirement in request.requirements)
        table = _Named(identifier) if creates else self.sql.load_table(identifier)
        try:
            response = self.sql.commit_table(table, request.requirements, request.updates)
        except (CommitFailedException, TableAlreadyExistsError) as exc:
            return 409, _error(type(exc).__name__, str(exc), 409)
        return 200, json.loads(response.model_dump_json())


class _Named:
    """As much of a table as the SQL catalog asks of one that is to be created."""

    def __init__(self, identifier: tuple[str, ...]) -> None:
        self._identifier = identifier

    def name(self) -> tuple[str, ...]:
        return self._identifier


def _error(kind: str, message: str, code: int) -> dict:
    return {"error": {"message": message, "type": kind, "code": code}}


class _Handler(BaseHTTPRequestHandler):
    server_state: RestServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms between its head and its body

    def log_message(self, *arguments: object) -> None:
        pass

    def _send(self, status: int, body: dict | None = None) -> None:
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _parts(self) -> list[str]:
        return [part for part in self.path.split("?")[0].split("/") if part][1:]

    def _raw_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _body(self) -> dict:
        return json.loads(self._raw_body() or b"{}")

    def _table(self, table) -> dict:
        return {**_table(table), **self.server_state.vend(table.name())}

    def _answer(self, action: Callable[[], tuple[int, dict | None]]) -> None:
        if self._parts() != ["oauth", "tokens"] and not self.server_state.may(self.headers.get("Authorization")):
            self._raw_body()
            self._send(401, _error("NotAuthorizedException", "the token is not good, or not any more", 401))
            return
        try:
            self._send(*action())
        except ViewError as exc:
            self._send(exc.status, _error(exc.kind, str(exc), exc.status))
        except (NoSuchTableError, NoSuchNamespaceError) as exc:
            self._send(404, _error(type(exc).__name__, str(exc), 404))
        except TableAlreadyExistsError as exc:
            self._send(409, _error("AlreadyExistsException", str(exc), 409))

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _get(self) -> tuple[int, dict | None]:
        state = self.server_state
        match self._parts():
            case ["config"]:
                return 200, state.config()
            case ["namespaces"]:
                return 200, {"namespaces": [list(n) for n in state.sql.list_namespaces()]}
            case ["namespaces", namespace]:
                return 200, {"namespace": [namespace], "properties": state.sql.load_namespace_properties(namespace)}
            case ["namespaces", namespace, "tables"]:
                found = state.sql.list_tables(namespace)
                return 200, {"identifiers": [{"namespace": list(t[:-1]), "name": t[-1]} for t in found]}
            case ["namespaces", namespace, "tables", name]:
                state.tables_loaded += 1
                return 200, self._table(state.sql.load_table((namespace, name)))
            case ["namespaces", namespace, "views"] if state.views is not None:
                state.sql.load_namespace_properties(namespace)
                return 200, {"identifiers": state.views.listed((namespace,))}
            case ["namespaces", namespace, "views", name] if state.views is not None:
                return 200, state.views.load((namespace, name))
        return 404, _error("NotFound", self.path, 404)

    def _post(self) -> tuple[int, dict | None]:
        state = self.server_state
        if self._parts() == ["oauth", "tokens"]:
            return state.give_token(parse_qs(self._raw_body().decode()))
        body = self._body()
        match self._parts():
            case ["namespaces"]:
                state.sql.create_namespace(tuple(body["namespace"]), body.get("properties", {}))
                return 200, {"namespace": body["namespace"], "properties": {}}
            case ["namespaces", namespace, "tables"]:
                if state.views is not None and (namespace, body["name"]) in state.views.views:
                    return 409, _error("AlreadyExistsException", "View with same name already exists", 409)
                return self._create((namespace, body["name"]), body)
            case ["namespaces", namespace, "views"] if state.views is not None:
                state.sql.load_namespace_properties(namespace)
                return state.change_view(lambda views: views.create((namespace, body["name"]), body))
            case ["namespaces", namespace, "views", name] if state.views is not None:
                return state.change_view(lambda views: views.commit((namespace, name), body))
            case ["views", "rename"] if state.views is not None:
                source, destination = ((*each["namespace"], each["name"]) for each in body.values())
                return state.change_view(lambda views: views.rename(source, destination))
            case ["namespaces", _, "tables", _]:
                return state.commit([body], self.headers.get("Idempotency-Key"))
            case ["aws", "s3", "sign"] if state.sign is not None:
                return 200, state.sign(body)
            case ["transactions", "commit"] if state.transactions:
                return state.commit(body["table-changes"], self.headers.get("Idempotency-Key"))
        return 404, _error("NotFound", self.path, 404)

    def _create(self, identifier: tuple[str, ...], body: dict) -> tuple[int, dict | None]:
        arguments = {
            "schema": Schema.model_validate(body["schema"]),
            "partition_spec": PartitionSpec.model_validate(body["partition-spec"]),
            "sort_order": SortOrder.model_validate(body["write-order"]),
            "properties": body.get("properties", {}),
        }
        if body.get("stage-create"):
            transaction = self.server_state.sql.create_table_transaction(identifier, **arguments)
            return 200, self._table(transaction._table)
        return 200, self._table(self.server_state.sql.create_table(identifier, **arguments))

    def _delete(self) -> tuple[int, dict | None]:
        match self._parts():
            case ["namespaces", namespace, "tables", name]:
                self.server_state.sql.drop_table((namespace, name))
                return 204, None
            case ["namespaces", namespace, "views", name] if self.server_state.views is not None:
                return self.server_state.change_view(lambda views: views.drop((namespace, name)))
        return 404, _error("NotFound", self.path, 404)


def _table(table) -> dict:
    return {
        "metadata-location": table.metadata_location,
        "metadata": json.loads(table.metadata.model_dump_json()),
        "config": {},
    }
