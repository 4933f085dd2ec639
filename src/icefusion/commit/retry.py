"""How often, how long and how patiently a commit is tried again.

There are two reasons to. An attempt that somebody else was faster than counts, and there may be only so many of them:
each does its work anew. An attempt that the catalog was not there for says nothing about the commit and costs little,
so it is repeated for as long as the total time-out lasts: a server that is started again is back in seconds.
"""

from __future__ import annotations

import sqlite3

import requests
from pyiceberg.exceptions import CommitStateUnknownException, ServerError, ServiceUnavailableError
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from icefusion.clock import Clock
from icefusion.config import RetryConfig

__all__ = ["Attempts", "cannot_be_reached"]

# A catalog that is away is not asked more often than this, whatever the waits are set to.
_LEAST_WAIT_S = 0.05
_CAUSES_MAX = 10

_NETWORK = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    ServerError,
    ServiceUnavailableError,
    CommitStateUnknownException,
    DisconnectionError,
    PoolTimeoutError,
)
# Those of libraries that may not be installed, by name: AWS's client and Hive's.
_NETWORK_NAMES = frozenset({"HTTPClientError", "TTransportException"})
# PostgreSQL: connection exceptions, shutdown, crash, still starting, too many connections.
_SQLSTATES = ("08", "57P01", "57P02", "57P03", "53300")
# MariaDB and MySQL: too many connections, shutdown, no connection, gone away, lost while it was asked.
_MYSQL_CODES = frozenset({1040, 1053, 1927, 2002, 2003, 2006, 2013, 2055})


class Attempts:
    """Counts attempts and waits between them.

    Attributes:
        number: Attempts begun so far.
        last: Why the last one failed.
        away: Whether that was because the catalog could not be reached.
    """

    def __init__(self, retry: RetryConfig, clock: Clock) -> None:
        self._retry = retry
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._lost = 0
        self._away = 0
        self.number = 0
        self.last = ""
        self.away = False

    def start(self) -> None:
        """Begin an attempt."""
        self.number += 1
        self.away = False

    def failed(self, reason: str, *, away: bool) -> None:
        """Say why the attempt failed, and whether because the catalog could not be reached or did not answer."""
        self.last, self.away = reason, away

    def elapsed_s(self) -> float:
        """Seconds since the first attempt began."""
        return self._clock.monotonic_s() - self._began_s

    def wait(self) -> bool:
        """Wait before the next attempt; False when there may be none."""
        return self.wait_for_catalog() if self.away else self._wait_after_loss()

    def _wait_after_loss(self) -> bool:
        self._lost += 1
        self._away = 0
        if self._lost >= self._retry.max_attempts:
            return False
        delay_s = self._delay_s(self._lost)
        if delay_s > self._left_s():
            return False
        self._clock.sleep_s(delay_s)
        return True

    def wait_for_catalog(self) -> bool:
        """Wait before the catalog is asked again, however often it was; False when the time is over."""
        self._away += 1
        # The last look is one at the very end.
        delay_s = min(max(self._delay_s(self._away), _LEAST_WAIT_S), self._left_s())
        if delay_s <= 0:
            return False
        self._clock.sleep_s(delay_s)
        return True

    def _left_s(self) -> float:
        return self._retry.total_timeout_ms / 1000 - self.elapsed_s()

    def _delay_s(self, number: int) -> float:
        delay_s = self._retry.delay_ceiling_ms(number) / 1000
        return delay_s * self._clock.random() if self._retry.jitter == "full" else delay_s


def cannot_be_reached(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a catalog was not reached or that it did not answer.

    What it answered for good, a refusal or a missing table, says something else; so does a database's deadlock, which
    is a race that was lost.
    """
    for _ in range(_CAUSES_MAX):
        if error is None:
            return False
        if isinstance(error, requests.exceptions.SSLError):
            return False  # a certificate gets no better by waiting
        if isinstance(error, _NETWORK) or _is_named(error):
            return True
        if _database_is_away(error) or (isinstance(error, DBAPIError) and error.connection_invalidated):
            return True
        error = error.orig if isinstance(error, DBAPIError) else error.__cause__
    return False


def _is_named(error: BaseException) -> bool:
    return any(kind.__name__ in _NETWORK_NAMES for kind in type(error).__mro__)


def _database_is_away(error: BaseException | None) -> bool:
    """Whether a driver's own error says so."""
    if error is None or type(error).__name__ == "InterfaceError":
        return error is not None  # the connection was closed under whoever used it
    if isinstance(error, sqlite3.OperationalError):
        code: int | None = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return "is locked" in str(error)
        return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is not None:
        return str(state).startswith(_SQLSTATES)
    if type(error).__name__ != "OperationalError":
        return False
    if error.args and isinstance(error.args[0], int):
        return error.args[0] in _MYSQL_CODES
    # PostgreSQL's drivers have no code for a server that they did not reach.
    return type(error).__module__.partition(".")[0] in ("psycopg", "psycopg2")
