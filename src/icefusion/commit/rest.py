"""REST catalogs: PyIceberg's client over connections of our own, and the commit of several tables in one request.

PyIceberg's requests have no time-out and a pool nobody can size. Here every request goes through one adapter: it waits
for a connection and for an answer no longer than it was told to, never opens more connections than allowed, and puts an
``Idempotency-Key`` on commits where the server said that it honours them. With such a key a request whose reply was
lost can be sent again as it is; without one, the committer looks whether it landed.

A login that has ended is renewed: PyIceberg does so on the first answer that says it, for its own requests. Credentials
for storage that come with a table are those of `icefusion.commit.vending`.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from pyiceberg.catalog.rest import RestCatalog, TableResponse
from pyiceberg.io import FileIO
from pyiceberg.table import CommitTableRequest, StagedTable, Table, TableIdentifier
from pyiceberg.table.update import TableRequirement, TableUpdate
from requests.adapters import HTTPAdapter

from icefusion.commit.pools import PoolStats, read_timeout_ms
from icefusion.commit.vending import expires_s, vended_io
from icefusion.config import PoolConfig

__all__ = ["PooledRestCatalog", "commit_tables", "offers_transactions", "send"]

READ_TIMEOUT_PROPERTY = "icefusion.http-read-timeout-ms"
_RESENDS = 2
_LOGIN_ENDED = (401, 419)
_COMMIT_PATH = re.compile(r"/v1/(?:[^?]*/)?(?:namespaces/[^/]+/tables/[^/]+|transactions/commit)$")
_TRANSACTION_PATH = re.compile(r"^/v1/(?:\{prefix\}/)?transactions/commit$")


class PooledRestCatalog(RestCatalog):
    """PyIceberg's REST catalog over connections that follow `PoolConfig`."""

    def __init__(self, name: str, pool: PoolConfig, properties: dict[str, Any]) -> None:
        self.adapter = _Adapter(pool, read_timeout_ms(properties, READ_TIMEOUT_PROPERTY))
        super().__init__(name, **properties)

    def stats(self) -> PoolStats:
        """The connections to the server just now."""
        found = [
            pool for pool in map(self.adapter.poolmanager.pools.get, self.adapter.poolmanager.pools.keys()) if pool
        ]
        idle = sum(sum(connection is not None for connection in pool.pool.queue) for pool in found if pool.pool)
        return PoolStats(
            open=idle + self.adapter.in_use, in_use=self.adapter.in_use, idle=idle, max=self.adapter.max_connections
        )

    def _response_to_table(self, identifier_tuple: tuple[str, ...], table_response: TableResponse) -> Table:
        table = super()._response_to_table(identifier_tuple, table_response)
        if table_response.storage_credentials or expires_s(table_response.config) is not None:
            table.io = self._vended(identifier_tuple, table_response, lambda: self.load_table(identifier_tuple).io)
        return table

    def _response_to_staged_table(
        self, identifier_tuple: tuple[str, ...], table_response: TableResponse
    ) -> StagedTable:
        table = super()._response_to_staged_table(identifier_tuple, table_response)
        if table_response.storage_credentials or expires_s(table_response.config) is not None:
            table.io = self._vended(identifier_tuple, table_response, None)  # it cannot be asked for before it is there
        return table

    def _vended(
        self, identifier: tuple[str, ...], response: TableResponse, renew: Callable[[], FileIO] | None
    ) -> FileIO:
        location = response.metadata.location
        return vended_io(
            ".".join((self.name, *identifier)),
            location,
            {**response.metadata.properties, **response.config},
            response.storage_credentials,
            lambda properties: self._load_file_io(dict(properties), response.metadata_location or location),
            renew,
        )

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        if "https://" in session.adapters and type(session.adapters["https://"]) is HTTPAdapter:
            # A signing adapter for one service's address keeps its own, longer prefix.
            session.mount("https://", self.adapter)
            session.mount("http://", self.adapter)
        return session


class _Adapter(HTTPAdapter):
    """Time-outs on every request, a bounded pool, and idempotency keys on commits."""

    def __init__(self, pool: PoolConfig, read_timeout_ms: int) -> None:
        self.timeout_s = (pool.connect_timeout_ms / 1000, read_timeout_ms / 1000)
        self.max_connections = pool.max_connections
        self.honours_keys = False
        self.in_use = 0
        self._lock = threading.Lock()
        super().__init__(pool_connections=4, pool_maxsize=pool.max_connections, pool_block=True, max_retries=0)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; a commit that carries a key and got no answer is sent again as it is."""
        with self._lock:
            self.in_use += 1
        try:
            return self._send(request, *args, **kwargs)
        finally:
            with self._lock:
                self.in_use -= 1

    def _send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout_s
        path = urlsplit(request.url or "").path
        keyed = self.honours_keys and request.method == "POST" and _COMMIT_PATH.search(path) is not None
        if keyed:
            request.headers["Idempotency-Key"] = str(uuid.uuid4())
        for _ in range(_RESENDS if keyed else 0):
            try:
                return super().send(request, *args, **kwargs)
            except (requests.ConnectionError, requests.Timeout):
                continue
        response = super().send(request, *args, **kwargs)
        if path.endswith("/v1/config") and response.ok:
            self.honours_keys = _advertises_keys(response)
        return response


def offers_transactions(catalog: RestCatalog) -> bool:
    """Whether the server says that it commits several tables in one request."""
    return any(
        endpoint.http_method.value == "POST" and _TRANSACTION_PATH.match(endpoint.path)
        for endpoint in catalog._supported_endpoints
    )


def commit_tables(
    catalog: RestCatalog,
    changes: Sequence[tuple[Table, tuple[TableRequirement, ...], tuple[TableUpdate, ...]]],
) -> requests.Response:
    """Commit changes to several tables, all or none; the answer has no body when it is good."""
    payload = {
        "table-changes": [
            json.loads(
                CommitTableRequest(
                    identifier=TableIdentifier(namespace=table.name()[:-1], name=table.name()[-1]),
                    requirements=requirements,
                    updates=updates,
                ).model_dump_json()
            )
            for table, requirements, updates in changes
        ]
    }
    return send(catalog, "transactions/commit", payload)


def send(catalog: RestCatalog, path: str, payload: dict[str, Any]) -> requests.Response:
    """Send a request that PyIceberg's client has no words for; a login that has ended is renewed.

    Args:
        catalog: The catalog.
        path: Where to, behind the catalog's prefix.
        payload: The body, as JSON.
    """
    url = catalog.url(path)
    response = catalog._session.post(url, json=payload)
    if response.status_code in _LOGIN_ENDED:
        catalog._refresh_token()
        response = catalog._session.post(url, json=payload)
    return response


def _advertises_keys(response: requests.Response) -> bool:
    try:
        config = response.json()
    except ValueError:
        return False
    return isinstance(config, dict) and config.get("idempotency-key-lifetime") is not None
