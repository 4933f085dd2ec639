"""How rows get into files, and the simple way: as they come.

A layout is told of piles of batches by several threads, and in the end of the last, partial one. `Appender` has one
rolling writer a thread and writes each pile as a row group; the other layout is `icefusion.write.fanout.Fanout`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

import pyarrow as pa
from pyiceberg.manifest import DataFile

from icefusion.config import WriteProperties
from icefusion.write.files import TableFiles
from icefusion.write.parquet import RollingWriter
from icefusion.write.workers import PileSize

__all__ = ["SMALL_REST_BYTES", "Appender", "Layout", "Task", "row_group_pile", "share"]

Task = Callable[[], None]

DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024 * 1024
SMALL_REST_BYTES = 8 * 1024 * 1024
"""Less than this is not worth a file a thread."""


class Layout(Protocol):
    """What `icefusion.write.executor.write_streams` asks of a layout."""

    pile_size: PileSize
    data_files: list[DataFile]

    @property
    def partitions(self) -> int:
        """Partitions that rows fell in."""
        ...

    @property
    def spilled_bytes(self) -> int:
        """Bytes that went through temporary files."""
        ...

    def work(self, batches: list[pa.RecordBatch]) -> None:
        """Work off a pile; called by several threads."""
        ...

    def finish(self, batches: list[pa.RecordBatch], threads: int) -> list[Task]:
        """The tasks that complete the files, given the last, partial pile and how many threads there are for it."""
        ...

    def abort(self) -> None:
        """Let go of open files after an error; no thread is at work any more."""
        ...

    def discard(self) -> None:
        """Remove temporary files; called in every case, last."""
        ...


class Appender:
    """Writes rows into files in the order in which they come."""

    spilled_bytes = 0

    def __init__(self, files: TableFiles, threads: int, memory_limit_bytes: int | None) -> None:
        self.pile_size = row_group_pile(files.options, threads, memory_limit_bytes)
        self.data_files: list[DataFile] = []
        self.partitions = 0
        self._files = files
        self._threads = threads
        self._lock = threading.Lock()
        self._idle: list[RollingWriter] = []
        self._writers: list[RollingWriter] = []

    def work(self, batches: list[pa.RecordBatch]) -> None:
        """Write a pile as a row group."""
        writer = self._acquire()
        writer.write(pa.Table.from_batches(batches))
        with self._lock:
            self._idle.append(writer)

    def finish(self, batches: list[pa.RecordBatch], threads: int) -> list[Task]:
        """Share out what is left among the writers, unless it is little, and close them."""
        if not batches and not self._writers:
            return []
        self.partitions = 1
        rest = pa.Table.from_batches(batches, self._files.arrow_schema)
        parts = threads if rest.nbytes >= SMALL_REST_BYTES * threads else 1
        length = -(-rest.num_rows // parts)
        pieces = [rest.slice(i * length, length) for i in range(parts)] if rest.num_rows else []
        return [partial(self._complete, piece) for piece in pieces + [rest.slice(0, 0)] * self._threads]

    def abort(self) -> None:
        """Let go of the open files."""
        for writer in self._writers:
            writer.abort()

    def discard(self) -> None:
        """Nothing to remove."""

    def _complete(self, rows: pa.Table) -> None:
        if not rows.num_rows and not self._idle:
            return
        writer = self._acquire()
        writer.write(rows)
        data_files = writer.close()
        with self._lock:
            self.data_files.extend(data_files)

    def _acquire(self) -> RollingWriter:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            writer = RollingWriter(self._files)
            self._writers.append(writer)
            return writer


def row_group_pile(options: WriteProperties, threads: int, memory_limit_bytes: int | None) -> PileSize:
    """When rows that wait to become a row group are enough for one, or for what so many threads may hold."""
    return PileSize(
        options.row_group_limit,
        share(options.row_group_size_bytes, memory_limit_bytes or DEFAULT_LIMIT_BYTES, threads + 2),
    )


def share(wanted: int, limit: int | None, parts: int) -> int:
    """What is wanted, but at most one of so many parts of a limit, and at least 1."""
    return wanted if limit is None else max(1, min(wanted, limit // parts))
