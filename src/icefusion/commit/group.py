"""Commits of one process to one table, combined instead of racing each other.

Whoever comes first leads: it takes itself and all who are waiting, and runs them as one group. Who comes meanwhile
waits for the next group, which one of them leads. A leader that is interrupted leaves the others their requests: each
goes on alone, and begins by looking whether it has landed already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = ["Groups"]

GROUP_MAX = 64


class _Request(Protocol):
    @property
    def outcome(self) -> object | None: ...


R = TypeVar("R", bound=_Request)


@dataclass
class _Queue(Generic[R]):
    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: list[R] = field(default_factory=list)
    led: list[R] = field(default_factory=list)
    users: int = 0


class Groups(Generic[R]):
    """A queue for each table that is being committed to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[tuple[str, ...], _Queue[R]] = {}

    def run(self, key: tuple[str, ...], request: R, work: Callable[[Sequence[R]], None]) -> None:
        """Have a request worked on, alone or with others; returns when it has an outcome.

        Args:
            key: Requests of one key are combined.
            request: Has an outcome once it was worked on.
            work: Gives an outcome to all that it is given, or raises.
        """
        queue = self._enter(key)
        try:
            with queue.changed:
                queue.waiting.append(request)
                while request.outcome is None and (queue.led or request not in queue.waiting):
                    queue.changed.wait()
                if request.outcome is not None:
                    return
                # Nobody leads: this one does. It is first, so that it does not wait for others without end.
                queue.waiting.remove(request)
                queue.led = [request, *queue.waiting[: GROUP_MAX - 1]]
                del queue.waiting[: GROUP_MAX - 1]
            try:
                work(queue.led)
            finally:
                with queue.changed:
                    queue.waiting += [other for other in queue.led if other.outcome is None and other is not request]
                    queue.led = []
                    queue.changed.notify_all()
        except BaseException:
            with queue.changed:
                if request in queue.waiting:
                    queue.waiting.remove(request)
            raise
        finally:
            self._leave(key, queue)

    def _enter(self, key: tuple[str, ...]) -> _Queue[R]:
        with self._lock:
            queue = self._queues.setdefault(key, _Queue())
            queue.users += 1
            return queue

    def _leave(self, key: tuple[str, ...], queue: _Queue[R]) -> None:
        with self._lock:
            queue.users -= 1
            if queue.users == 0:
                self._queues.pop(key, None)
