"""A TCP proxy that spoils one chosen request: its reply is cut or held back, or it never arrives.

It knows nothing of protocols. A request is found by a pattern in the bytes that a client has sent since the server last
answered it; its reply is whatever the server sends next. When the reply is there, the server has done the work.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

Action = Literal["cut_reply", "lose_request", "delay_reply", "hold_reply"]

CHUNK = 65536
DELAY_S = 1.0


@dataclass
class Spoiled:
    """What the proxy does to the next matching request.

    Attributes:
        pattern: What the request has in it.
        action: ``cut_reply`` (done, then the connection is reset), ``lose_request`` (reset before the server sees it),
            ``delay_reply`` (answered late), ``hold_reply`` (done, never answered).
        then_down: Whether nobody gets through any more from then on.
        skip: How many such requests pass before.
        happened: Set when it was done.
    """

    pattern: re.Pattern[bytes]
    action: Action
    then_down: bool = False
    skip: int = 0
    happened: threading.Event = field(default_factory=threading.Event)


class CuttingProxy:
    """Passes connections on to a server; a context manager."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spoiled: Spoiled | None = None
        self._down = False
        self._closed = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def spoil(self, pattern: bytes, action: Action, *, then_down: bool = False, skip: int = 0) -> Spoiled:
        """Spoil the next request with this in it."""
        self._spoiled = Spoiled(re.compile(pattern), action, then_down, skip)
        return self._spoiled

    def mend(self) -> None:
        """Let everybody through again."""
        self._spoiled = None
        self._down = False

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._listener.close()
        self._reset_all()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed.is_set():
            readable, _, _ = select.select([self._listener], [], [], 0.1) if not self._closed.is_set() else ([], [], [])
            if not readable:
                continue
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                if self._down:
                    _reset(client)
                    continue
                server = socket.create_connection(self._target, timeout=5)
                server.settimeout(None)
                with self._lock:
                    self._pairs.add((client, server))
                thread = threading.Thread(target=self._pump, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        asked, passed = b"", False
        spoiling: Spoiled | None = None
        try:
            while not self._closed.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.2)
                if client in readable:
                    data = client.recv(CHUNK)
                    if not data:
                        return
                    asked = (asked + data)[-CHUNK:]
                    if spoiling is None and not passed:
                        spoiling, passed = self._matching(asked)
                    if spoiling is not None and spoiling.action == "lose_request":
                        self._happened(spoiling)
                        return
                    server.sendall(data)
                if server in readable:
                    data = server.recv(CHUNK)
                    if not data:
                        return
                    asked, passed = b"", False
                    if spoiling is not None and not self._answer(spoiling):
                        return
                    spoiling = None
                    client.sendall(data)
        except (OSError, ValueError):  # somebody hung up, or all were cut off
            pass
        finally:
            with self._lock:
                self._pairs.discard((client, server))
            _reset(client)
            _reset(server)

    def _matching(self, asked: bytes) -> tuple[Spoiled | None, bool]:
        """What to do to a request; and whether it is one of those that pass before, which counts once."""
        with self._lock:
            spoiled = self._spoiled
            if spoiled is None or spoiled.pattern.search(asked) is None:
                return None, False
            if spoiled.skip:
                spoiled.skip -= 1
                return None, True
            self._spoiled = None
            return spoiled, False

    def _answer(self, spoiled: Spoiled) -> bool:
        """Whether the reply that has come may be passed on."""
        if spoiled.action == "delay_reply":
            time.sleep(DELAY_S)
        self._happened(spoiled)
        if spoiled.action == "hold_reply":
            self._closed.wait()
        return spoiled.action == "delay_reply"

    def _happened(self, spoiled: Spoiled) -> None:
        if spoiled.then_down:
            self._down = True
            self._reset_all()
        spoiled.happened.set()

    def _reset_all(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for client, server in pairs:
            for one in (client, server):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Close a connection so that the other side sees a reset."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
