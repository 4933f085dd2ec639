"""File access whose credentials a catalog has vended: for parts of storage, and for some time.

A REST catalog may answer with several sets of credentials, each for the locations that begin with a prefix, and each
good until a moment that it names. `VendedFileIO` is access to files by the set with the longest prefix, and asks for
new ones before the old ones end, so a transaction may be longer than the credentials that it began with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.io import FileIO, InputFile, OutputFile

from icefusion.errors import StorageError

__all__ = ["Access", "VendedFileIO", "access_to"]

logger = logging.getLogger("icefusion")

MAX_MARGIN_S = 300.0
"""Credentials are renewed so long before they end, or halfway through their time where that is shorter."""

RETRY_S = 10.0
"""After an attempt to renew them failed, the next one is made no sooner, as long as the old ones last."""


@dataclass(frozen=True)
class Access:
    """One set of credentials.

    Attributes:
        prefix: Locations that begin with it are what the set is for; empty for all.
        io: Access to files by it.
        expires_s: The moment at which it ends, in seconds since 1970; None when it does not.
    """

    prefix: str
    io: FileIO
    expires_s: float | None = None


class VendedFileIO(FileIO):
    """Access to the files of one table. Threads may share it.

    Args:
        what: What the files belong to, for messages.
        sets: The sets of credentials; one of them has the empty prefix.
        renew: Asks for new ones; None when nobody can be asked.
        now_s: The time, in seconds since 1970.
    """

    def __init__(
        self,
        what: str,
        sets: Sequence[Access],
        renew: Callable[[], Sequence[Access]] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._what = what
        self._renew = renew
        self._now_s = now_s
        self._lock = threading.Lock()
        self._take(sets)
        super().__init__(self._default.properties)

    def at(self, location: str) -> FileIO:
        """Access to one file, by credentials that are still good.

        Raises:
            StorageError: They have ended, and there are no new ones.
        """
        if self._due_s is not None and self._now_s() >= self._due_s:
            self._renew_now()
        return self._find(location).io

    @property
    def sets(self) -> tuple[Access, ...]:
        """The sets of credentials as they are now, the longest prefix first."""
        return self._sets

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return self.at(location).new_input(location)

    def new_output(self, location: str) -> OutputFile:
        """A file to write."""
        return self.at(location).new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file."""
        path = location if isinstance(location, str) else location.location
        self.at(path).delete(path)

    def __reduce__(self) -> Any:
        """Another process gets the credentials as they are now."""
        return VendedFileIO, (self._what, self._sets)

    def _find(self, location: str) -> Access:
        return next(one for one in self._sets if location.startswith(one.prefix))

    def _take(self, sets: Sequence[Access]) -> None:
        self._sets = tuple(sorted(sets, key=lambda one: len(one.prefix), reverse=True))
        self._default = self._sets[-1].io
        ends = [one.expires_s for one in self._sets if one.expires_s is not None]
        self._ends_s = min(ends, default=None)
        self._due_s: float | None = None
        if self._ends_s is not None:
            left_s = max(0.0, self._ends_s - self._now_s())
            self._due_s = self._ends_s - min(MAX_MARGIN_S, left_s / 2)

    def _renew_now(self) -> None:
        with self._lock:
            now_s = self._now_s()
            if self._due_s is None or now_s < self._due_s or self._ends_s is None:
                return  # another thread has done it
            problem: Exception | None = None
            if self._renew is not None:
                try:
                    self._take(self._renew())
                    self.properties = self._default.properties
                except Exception as exc:  # whatever it is, the old ones may still be good
                    problem = exc
                    self._due_s = now_s + RETRY_S
                else:
                    if self._ends_s is None or self._ends_s > now_s:
                        return
            if now_s >= self._ends_s:
                self._due_s = now_s
                raise StorageError(
                    f"the credentials for the files of {self._what} ended {now_s - self._ends_s:.0f} s ago, and there "
                    f"are no new ones{f': {problem}' if problem else ''}",
                    hint="the catalog vends them; ask it for longer ones, or begin the transaction anew",
                ) from problem
            logger.warning("the credentials for the files of %s could not be renewed yet: %s", self._what, problem)


def access_to(io: FileIO, location: str) -> FileIO:
    """What reads one file, where the credentials differ from file to file."""
    return io.at(location) if isinstance(io, VendedFileIO) else io
