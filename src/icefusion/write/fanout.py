"""Rows of a partitioned or sorted table: collected by partition, then written.

Each pile of batches becomes a *chunk*: its rows, moved once, lie grouped by partition, and the chunk knows where each
partition's run begins. The rows of a partition are then slices of all chunks, which cost nothing until they are
encoded. Once the chunks in memory exceed the budget:

* if most of them belongs to partitions that each have enough rows for a decent row group, those are written, and what
  is left of the others moves together into new chunks;
* if not, the oldest chunks are set aside on disk, as they are, and mapped back (see `icefusion.write.spill`).

So neither the number of partitions nor the amount of data decides how much memory or how many open files it takes, and
a partition normally ends in one file. At the end the partitions are encoded by all threads. Rows that come in long runs
of one partition are not moved at all. Where the table has a sort order, a partition is only ever written in whole
sorted files, as many as its size requires.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.manifest import DataFile

from icefusion.write.encodings import ColumnProfile, profile_columns
from icefusion.write.files import TableFiles
from icefusion.write.layout import SMALL_REST_BYTES, Task, share
from icefusion.write.parquet import RollingWriter
from icefusion.write.routing import PartitionIndex, group_rows
from icefusion.write.sorting import sort_table, take_rows
from icefusion.write.spill import SpillFolder
from icefusion.write.workers import PileSize

__all__ = ["Fanout"]

MIB = 1024 * 1024

DEFAULT_BUDGET_BYTES = 512 * MIB
CHUNK_BYTES = 32 * MIB
FLUSH_BYTES = 16 * MIB
"""A partition with this many Arrow bytes in memory makes a decent row group."""
GATHER_BYTES = 256 * MIB
"""Rows are moved together in chunks of this size: far from where the offsets of an Arrow string column end."""
MAX_SORT_BYTES = 1024 * MIB
MAX_IDLE_WRITERS = 32


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Rows that lie grouped by partition.

    Attributes:
        rows: The rows.
        ids: The partition of each run, by number.
        starts: Where each run begins, and last where the last one ends.
        size_bytes: Arrow bytes.
    """

    rows: pa.Table
    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    size_bytes: int


@dataclass(frozen=True)
class _Runs:
    """Where the rows of one partition lie: positions in `_Runs.chunks` and there the row offsets and lengths."""

    partition_id: int
    chunks: Sequence[_Chunk]
    chunk_positions: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    size_bytes: int

    def table(self) -> pa.Table:
        """The rows, in the order in which they came."""
        places = zip(self.chunk_positions.tolist(), self.offsets.tolist(), self.lengths.tolist(), strict=True)
        return pa.concat_tables([self.chunks[c].rows.slice(o, n) for c, o, n in places])


class Fanout:
    """Collects rows by partition under a memory budget and writes each partition into a file of its own."""

    def __init__(self, files: TableFiles, threads: int, memory_limit_bytes: int | None) -> None:
        options = files.options
        self._budget_bytes = options.fanout_memory_bytes or (memory_limit_bytes or 2 * DEFAULT_BUDGET_BYTES) // 2
        chunk_bytes = share(CHUNK_BYTES, self._budget_bytes, 2 * (threads + 1))
        self.pile_size = PileSize(options.row_group_limit, chunk_bytes)
        self.data_files: list[DataFile] = []
        self._files = files
        self._threads = threads
        self._sorted = bool(files.target.sort_order.fields)
        self._flush_bytes = min(options.row_group_size_bytes if self._sorted else FLUSH_BYTES, self._budget_bytes // 4)
        self._index = PartitionIndex(files.target.spec, files.target.schema)
        self._spill = SpillFolder()
        self._lock = threading.Lock()
        self._profiles: tuple[ColumnProfile, ...] | None = None
        self._memory: list[_Chunk] = []
        self._memory_bytes = 0
        self._disk: list[_Chunk] = []
        self._idle: dict[int, list[RollingWriter]] = {}
        self._writers: set[RollingWriter] = set()
        self._tasks: list[Task] = []

    @property
    def partitions(self) -> int:
        """Partitions that rows fell in."""
        return len(self._index)

    @property
    def spilled_bytes(self) -> int:
        """Bytes that went through temporary files."""
        return self._spill.spilled_bytes

    def work(self, batches: list[pa.RecordBatch]) -> None:
        """Group a pile by partition; make room if that takes the memory over the budget."""
        chunk = self._chunk(batches)
        del batches
        with self._lock:
            self._memory.append(chunk)
            self._memory_bytes += chunk.size_bytes
            self._plan_flush()
        self._make_room()

    def finish(self, batches: list[pa.RecordBatch], threads: int) -> list[Task]:
        """Encode each partition."""
        if batches:
            self._memory.append(self._chunk(batches))
        partitions = _partitions(self._disk + self._memory)
        # The largest first keeps all threads busy to the end; from disk, the order of the disk is what counts.
        if not self._disk:
            partitions.sort(key=lambda runs: -runs.size_bytes)
        total_bytes = sum(runs.size_bytes for runs in partitions)
        tasks: list[Task] = []
        for runs in partitions:
            # A partition that is more than a thread's part of the work is shared out.
            shares = round(runs.size_bytes * threads / max(1, total_bytes))
            shares = min(shares, runs.size_bytes // SMALL_REST_BYTES)
            tasks.extend(self._write_tasks(runs, shares, close=True))
        left = set(self._idle) - {runs.partition_id for runs in partitions}
        tasks.extend(partial(self._close_idle, partition_id) for partition_id in left)
        self._memory, self._disk = [], []
        return tasks

    def abort(self) -> None:
        """Let go of the open files and the rows."""
        for writer in self._writers:
            writer.abort()
        self._memory, self._disk, self._tasks = [], [], []

    def discard(self) -> None:
        """Remove the temporary files."""
        self._spill.close()

    def _chunk(self, batches: list[pa.RecordBatch]) -> _Chunk:
        table = pa.Table.from_batches(batches)
        if self._profiles is None:
            self._profiles = profile_columns(table, self._files.leaves)
        order, ids, starts = group_rows(self._index.partition_ids(table))
        rows = table if order is None else take_rows(table, order)
        return _Chunk(rows, ids, starts, rows.nbytes)

    def _plan_flush(self) -> None:
        """Over the budget, turn the partitions that are large into tasks; the lock is held."""
        if self._memory_bytes <= self._budget_bytes or self._tasks:
            return
        partitions = _partitions(self._memory)
        large = [runs for runs in partitions if runs.size_bytes >= self._flush_bytes]
        if sum(runs.size_bytes for runs in large) < self._memory_bytes / 2:
            return
        chosen = {runs.partition_id for runs in large}
        small = [runs for runs in partitions if runs.partition_id not in chosen]
        self._memory, self._memory_bytes = [], 0
        group_bytes = self._files.options.row_group_size_bytes
        for runs in large:
            self._tasks.extend(self._write_tasks(runs, -(-runs.size_bytes // group_bytes), close=self._sorted))
        self._tasks.extend(partial(self._gather, some) for some in _by_size(small, GATHER_BYTES))

    def _make_room(self) -> None:
        while True:
            chunk = None
            with self._lock:
                task = self._tasks.pop() if self._tasks else None
                if task is None and self._memory_bytes > self._budget_bytes:
                    chunk = self._memory.pop(0)
                    self._memory_bytes -= chunk.size_bytes
            if task is not None:
                task()
            elif chunk is not None:
                mapped = _Chunk(self._spill.spill(chunk.rows), chunk.ids, chunk.starts, chunk.size_bytes)
                with self._lock:
                    self._disk.append(mapped)
            else:
                return

    def _gather(self, small: list[_Runs]) -> None:
        """Move the rows of some partitions together, so that the chunks they were in can go."""
        table = pa.concat_tables([runs.table() for runs in small])
        lengths = [int(runs.lengths.sum()) for runs in small]
        rows = take_rows(table)
        ids = np.array([runs.partition_id for runs in small], dtype=np.int64)
        chunk = _Chunk(rows, ids, np.concatenate(([0], np.cumsum(lengths))), rows.nbytes)
        with self._lock:
            self._memory.append(chunk)
            self._memory_bytes += chunk.size_bytes

    def _write_tasks(self, runs: _Runs, shares: int, *, close: bool) -> list[Task]:
        if self._sorted:
            # Each share is sorted as a whole, which takes its size in memory once more.
            shares = -(-runs.size_bytes // share(MAX_SORT_BYTES, self._budget_bytes, 2 * self._threads))
        shares = max(1, shares)
        return [partial(self._write, runs, number, shares, close) for number in range(shares)]

    def _write(self, runs: _Runs, number: int, shares: int, close: bool) -> None:
        """Encode one of several equal shares of a partition's rows."""
        table = runs.table()
        length = -(-table.num_rows // shares)
        table = table.slice(number * length, length)
        if not table.num_rows:
            return
        if self._sorted:
            table = sort_table(table, self._files.target.sort_order, self._files.target.schema)
        writer = self._acquire(runs.partition_id)
        writer.write(table)
        if close:
            self._close(writer)
            if number == 0:
                self._close_idle(runs.partition_id)
        else:
            with self._lock:
                self._idle.setdefault(runs.partition_id, []).append(writer)
            self._close_surplus()

    def _acquire(self, partition_id: int) -> RollingWriter:
        with self._lock:
            idle = self._idle.get(partition_id)
            if idle:
                writer = idle.pop()
                if not idle:
                    del self._idle[partition_id]
                return writer
            partition = self._index.partition(partition_id)
            writer = RollingWriter(self._files, partition, profiles=self._profiles, is_sorted=self._sorted)
            self._writers.add(writer)
            return writer

    def _close(self, writer: RollingWriter) -> None:
        data_files = writer.close()
        with self._lock:
            self._writers.discard(writer)
            self.data_files.extend(data_files)

    def _close_idle(self, partition_id: int) -> None:
        with self._lock:
            idle = self._idle.pop(partition_id, [])
        for writer in idle:
            self._close(writer)

    def _close_surplus(self) -> None:
        with self._lock:
            surplus = list(self._idle)[: max(0, len(self._idle) - MAX_IDLE_WRITERS)]
        for partition_id in surplus:
            self._close_idle(partition_id)


def _by_size(partitions: Sequence[_Runs], size_bytes: int) -> Iterator[list[_Runs]]:
    """Groups of neighbours that have about so many bytes."""
    group: list[_Runs] = []
    for runs in partitions:
        group.append(runs)
        if sum(each.size_bytes for each in group) >= size_bytes:
            yield group
            group = []
    if group:
        yield group


def _partitions(chunks: list[_Chunk]) -> list[_Runs]:
    """Where the rows of each partition lie, in the order of the partitions' numbers."""
    if not chunks:
        return []
    ids = np.concatenate([chunk.ids for chunk in chunks])
    positions = np.repeat(np.arange(len(chunks)), [len(chunk.ids) for chunk in chunks])
    offsets = np.concatenate([chunk.starts[:-1] for chunk in chunks])
    lengths = np.concatenate([np.diff(chunk.starts) for chunk in chunks])
    row_bytes = np.array([chunk.size_bytes / max(1, chunk.rows.num_rows) for chunk in chunks])
    sizes = lengths * row_bytes[positions]
    order = np.argsort(ids, kind="stable")
    first = np.flatnonzero(np.diff(ids[order], prepend=-1))
    result = []
    for run_order in np.split(order, first[1:]):
        result.append(
            _Runs(
                int(ids[run_order[0]]),
                chunks,
                positions[run_order],
                offsets[run_order],
                lengths[run_order],
                int(sizes[run_order].sum()),
            )
        )
    return result
