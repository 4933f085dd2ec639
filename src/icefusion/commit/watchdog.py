"""Ends calls to a database that get no answer.

PostgreSQL's drivers wait for an answer as long as the connection stands. Here each statement, COMMIT and ROLLBACK is
given a moment by which it has to be done; past it, the connection's socket is shut down, and the call ends with the
error of a broken connection, which is what it is. One thread watches the connections of an engine, and only while any
is waiting.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import Any

from sqlalchemy import Connection, Engine, event

__all__ = ["Watchdog"]

logger = logging.getLogger("icefusion")


class Watchdog:
    """Watches the connections of one engine whose driver shows its socket.

    Args:
        engine: The engine.
        limit_s: Seconds that a call may take.
    """

    def __init__(self, engine: Engine, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: dict[int, tuple[float, Any]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        for name in ("before_cursor_execute", "commit", "rollback"):
            event.listen(engine, name, self._begin)
        event.listen(engine, "after_cursor_execute", self._end)
        event.listen(engine, "checkin", self._returned)
        event.listen(engine, "invalidate", self._returned)

    def _begin(self, connection: Connection, *_: Any) -> None:
        driver = connection.connection.driver_connection
        with self._changed:
            self._waiting[id(driver)] = (time.monotonic() + self._limit_s, driver)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="icefusion-watchdog", daemon=True)
                self._thread.start()

    def _end(self, connection: Connection, *_: Any) -> None:
        self._forget(connection.connection.driver_connection)

    def _returned(self, dbapi_connection: Any, *_: Any) -> None:
        self._forget(dbapi_connection)

    def _forget(self, driver: Any) -> None:
        with self._changed:
            self._waiting.pop(id(driver), None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
                first = min(deadline for deadline, _ in self._waiting.values())
                self._changed.wait(max(0.0, min(first - time.monotonic(), 1.0)))
                late = [(key, d) for key, (deadline, d) in self._waiting.items() if deadline <= time.monotonic()]
                for key, driver in late:
                    del self._waiting[key]
                    _shut_down(driver, self._limit_s)


def _shut_down(driver: Any, limit_s: float) -> None:
    """Break the connection under whoever waits for it; closing it stays his."""
    logger.warning("the catalog's database did not answer within %.0f s; the connection is given up", limit_s)
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(driver.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
