"""Connections to SQL catalogs: how many, how long they wait, how long they live, and how many there are just now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from icefusion.commit.watchdog import Watchdog
from icefusion.config import PoolConfig
from icefusion.errors import ConfigurationError

__all__ = ["READ_TIMEOUT_MS", "PoolStats", "open_engine", "read_timeout_ms", "sql_stats", "warm_up"]

READ_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class PoolStats:
    """The connections to a catalog at one moment.

    Attributes:
        open: Connections that are open.
        in_use: Those that somebody uses.
        idle: Those that wait to be used.
        max: As many may be open.
    """

    open: int
    in_use: int
    idle: int
    max: int


def open_engine(uri: str, pool: PoolConfig, *, read_timeout_ms: int = READ_TIMEOUT_MS) -> Engine:
    """An engine whose pool follows the configuration, and whose calls all end.

    Args:
        uri: The database.
        pool: Limits of the pool.
        read_timeout_ms: How long a call may wait for a server's answer.

    Raises:
        ConfigurationError: The database lives in memory, where each connection would have one of its own.
    """
    sqlite = uri.startswith("sqlite")
    if sqlite and (uri.rstrip("/") == "sqlite:" or ":memory:" in uri):
        raise ConfigurationError(
            "an in-memory catalog cannot be shared by connections",
            hint="use a SQLite file, e.g. in a temporary folder",
        )
    engine = create_engine(
        uri,
        poolclass=QueuePool,
        pool_size=pool.max_connections,
        max_overflow=0,
        pool_timeout=pool.connect_timeout_ms / 1000,
        pool_recycle=pool.max_lifetime_s,
        # A server may have gone and come back; a file has not.
        pool_pre_ping=not sqlite,
        connect_args=_connect_arguments(uri, pool, read_timeout_ms),
    )
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    _close_idle(engine, pool.idle_timeout_s)
    event.listen(engine, "handle_error", _give_up_connection)
    if uri.startswith("postgresql"):
        Watchdog(engine, read_timeout_ms / 1000)
    return engine


def read_timeout_ms(properties: Mapping[str, Any], key: str) -> int:
    """How long to wait for an answer, from a catalog's properties.

    Raises:
        ConfigurationError: It is not a positive number.
    """
    text = properties.get(key, READ_TIMEOUT_MS)
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise ConfigurationError(f"{key}: expected milliseconds, found {text!r}")
    return value


def warm_up(engine: Engine, pool: PoolConfig) -> None:
    """Open the connections that are to be kept at least."""
    connections = [engine.connect() for _ in range(min(pool.min_connections, pool.max_connections))]
    for connection in connections:
        connection.close()


def sql_stats(engine: Engine) -> PoolStats | None:
    """The connections of an engine; None for a pool that does not count them."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        return None
    in_use, idle = pool.checkedout(), pool.checkedin()
    return PoolStats(open=in_use + idle, in_use=in_use, idle=idle, max=pool.size())


def _connect_arguments(uri: str, pool: PoolConfig, read_timeout_ms: int) -> dict[str, Any]:
    """How long to wait for the database: for its lock with SQLite, for a connection and an answer with servers."""
    if uri.startswith("sqlite"):
        return {"timeout": pool.connect_timeout_ms / 1000}
    if not uri.startswith(("postgresql", "mysql", "mariadb")):
        return {}
    arguments = {"connect_timeout": max(1, pool.connect_timeout_ms // 1000)}
    if "+pymysql:" in uri:
        answer_s = max(1, read_timeout_ms // 1000)
        arguments |= {"read_timeout": answer_s, "write_timeout": answer_s}
    return arguments


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Write-ahead logging lets readers go on while a commit is written."""
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
    finally:
        cursor.close()


def _give_up_connection(context: ExceptionContext) -> None:
    """Close a connection whose COMMIT or ROLLBACK failed.

    SQLAlchemy would give it back to the pool with the transaction still open: a lock that nobody releases, and changes
    that its next user sees as if they had been committed.
    """
    if context.connection is not None and context.statement is None:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _close_idle(engine: Engine, idle_timeout_s: int) -> None:
    """Replace connections that nobody has used for long, when they are asked for."""

    def returned(_connection: Any, record: Any) -> None:
        record.info["returned_s"] = time.monotonic()

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        idle_s = time.monotonic() - record.info.pop("returned_s", time.monotonic())
        if idle_s > idle_timeout_s:
            raise DisconnectionError(f"unused for {idle_s:.0f} s")  # the pool connects anew

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)
