"""Memory that the engine has freed and its allocator has not given back.

Theory of operation. The engine's wheel brings an allocator of its own (mimalloc 2). In it memory belongs to the thread
that asked for it; what another thread frees waits on a list until the owner looks at it, and the owner looks once in a
hundred of its larger requests. Local files are read by a pool of threads that do nothing else: such a thread asks for a
few pieces of several megabytes, which the threads that decode them free, and then it waits for the next file. So a
hundred pieces pile up in each of them before the first one is given back: gigabytes, though nothing is lost.

What helps is to have those threads ask for many small pieces. So while a query of a session with a memory limit runs,
a thread of ours watches what the process holds. Where that has grown, a tiny file of many small columns is read a few
times: each time one thread of the pool asks for a piece a column, more than a hundred, and gives back what waits for
it. The pool wakes its threads in turns, so as many reads as there are threads reach all that are idle. Nothing of a
query is touched by that, and an allocator that gives memory back by itself never makes it happen.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datafusion import DataFrame, SessionConfig, SessionContext

__all__ = ["GROWTH_BYTES", "Reclaimer", "reclaimer"]

logger = logging.getLogger("icefusion")

POLL_S = 0.02
GROWTH_BYTES = 32 * 1024 * 1024
"""So much more memory than before is reason to look for what can be given back."""
COLUMNS = 128
"""More pieces than a thread asks for before it looks at what waits for it."""
COLUMN_ROWS = 200
"""Enough for a piece to count: the smallest ones, below a kilobyte, do not."""
READS = 16
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Reclaimer:
    """Has the engine's threads give back freed memory while queries run that are to keep to a limit.

    One serves the process, as its allocator does. Where the system does not tell what a process holds, it does nothing.

    Attributes:
        rounds: How often memory was looked for.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self._lock = threading.Lock()
        self._watched = 0
        self._busy = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._frame: DataFrame | None = None
        self._context: SessionContext | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look after the memory of the process while the block runs; may be entered by several threads."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    def stop(self) -> None:
        """End the thread, for good; to be called when the process ends."""
        with self._lock:
            self._stop.set()
            self._busy.set()
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._folder is not None:
            self._folder.cleanup()

    def _begin(self) -> None:
        with self._lock:
            self._watched += 1
            self._busy.set()
            if self._thread is None and not self._stop.is_set() and anonymous_bytes() is not None:
                # A daemon, since a query that nobody reads to its end must not keep the process. `stop` ends it.
                self._thread = threading.Thread(target=self._watch, name="icefusion-reclaim", daemon=True)
                self._thread.start()

    def _end(self) -> None:
        with self._lock:
            self._watched -= 1
            if not self._watched and not self._stop.is_set():
                self._busy.clear()

    def _watch(self) -> None:
        try:
            while self._busy.wait() and not self._stop.is_set():
                self._watch_query()
        except Exception:  # of no consequence to any query
            logger.debug("freed memory could not be given back", exc_info=True)

    def _watch_query(self) -> None:
        low_bytes = _held_bytes()
        while True:
            self._stop.wait(POLL_S)
            busy, held_bytes = self._busy.is_set(), _held_bytes()
            if held_bytes > low_bytes + GROWTH_BYTES:
                self._reclaim()
                low_bytes = _held_bytes()
            low_bytes = min(low_bytes, held_bytes)
            if not busy or self._stop.is_set():
                return

    def _reclaim(self) -> None:
        self.rounds += 1
        pa.default_memory_pool().release_unused()
        frame = self._many_columns()
        for _ in range(READS):
            if self._stop.is_set():
                return
            for batch in frame.execute_stream():
                del batch

    def _many_columns(self) -> DataFrame:
        """A tiny file of many columns."""
        if self._frame is None:
            self._folder = tempfile.TemporaryDirectory(prefix="icefusion-reclaim-")
            path = Path(self._folder.name, "columns.parquet")
            values = pa.array(np.random.default_rng(0).integers(0, 2**62, COLUMN_ROWS))
            columns = {f"c{number}": values for number in range(COLUMNS)}
            pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
            self._context = SessionContext(SessionConfig().with_target_partitions(1))
            self._frame = self._context.read_parquet(str(path))
        return self._frame


def anonymous_bytes() -> int | None:
    """What the process holds in memory, without the files it maps; None where the system does not tell."""
    try:
        resident, shared = _STATM.read_text().split()[1:3]
    except OSError:
        return None
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _held_bytes() -> int:
    return anonymous_bytes() or 0


reclaimer = Reclaimer()
atexit.register(reclaimer.stop)
