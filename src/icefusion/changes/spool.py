"""Rows that are needed more than once: the source of a MERGE, and the rows that RETURNING shows.

They are read once, numbered in the order in which they came, and kept: in memory up to a limit, beyond it in temporary
files that are mapped back. Whoever reads them later gets the same rows under the same numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from icefusion.query.sources import Source
from icefusion.write.spill import SpillFolder

__all__ = ["DEFAULT_HELD_BYTES", "Spool", "SpooledRows"]

DEFAULT_HELD_BYTES = 256 * 1024 * 1024
SPILL_BYTES = 64 * 1024 * 1024
SLICED = 2
"""Batches that take so many times their size are slices of larger ones."""


class Spool:
    """Rows that were set aside; may be filled by several threads.

    Args:
        schema: The rows' schema.
        memory_limit_bytes: Arrow bytes that stay in memory; None for a default.
        number_column: The name of a further column with the row's number; None for none.

    Attributes:
        schema: The schema of what is kept.
        rows: How many there are.
    """

    def __init__(
        self, schema: pa.Schema, *, memory_limit_bytes: int | None = None, number_column: str | None = None
    ) -> None:
        self._numbered = number_column is not None
        self.schema = schema.append(pa.field(number_column, pa.int64())) if number_column is not None else schema
        self.rows = 0
        self._limit_bytes = memory_limit_bytes or DEFAULT_HELD_BYTES
        self._batches: list[pa.RecordBatch] = []
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._folder = SpillFolder()
        self._lock = threading.Lock()

    def add(self, batch: pa.RecordBatch) -> None:
        """Set rows aside.

        Raises:
            StorageError: A temporary file could not be written.
        """
        if not batch.num_rows:
            return
        with self._lock:
            columns = list(batch.columns)
            if self._numbered:
                columns.append(pa.array(np.arange(self.rows, self.rows + batch.num_rows, dtype=np.int64)))
            numbered = pa.RecordBatch.from_arrays(columns, schema=self.schema)
            self.rows += batch.num_rows
            self._held.append(numbered)
            self._held_bytes += numbered.nbytes
            if self._held_bytes > self._limit_bytes:
                self._spill()

    def _spill(self) -> None:
        self._batches += self._folder.spill(pa.Table.from_batches(self._held)).to_batches()
        self._held, self._held_bytes = [], 0
        # Once the limit was reached there is no use in filling the memory again before the next file.
        self._limit_bytes = min(self._limit_bytes, SPILL_BYTES)

    def slices(self, size_bytes: int | None) -> list[tuple[int, int]]:
        """Ranges of row numbers, each of about so many bytes; one range for None."""
        if size_bytes is None or not self.rows:
            return [(0, self.rows)]
        slices: list[tuple[int, int]] = []
        first = last = held_bytes = 0
        for batch in self.all_batches:
            steps = max(1, -(-batch.nbytes // size_bytes))
            for step in range(steps):
                last += batch.num_rows * (step + 1) // steps - batch.num_rows * step // steps
                held_bytes += batch.nbytes // steps
                if held_bytes >= size_bytes:
                    slices.append((first, last))
                    first, held_bytes = last, 0
        return slices if first == last else [*slices, (first, last)]

    def part(self, first: int, last: int, *, without: BitMap | None = None) -> SpooledRows:
        """The rows of a range of numbers, but for some."""
        return SpooledRows(self, first, last, without or BitMap())

    def source(self, name: str, *, without: BitMap | None = None) -> Source:
        """The rows, but for some, as a table that queries may name."""
        return self.part(0, self.rows, without=without).source(name)

    def streamed(self, name: str) -> Source:
        """The same, read as it is asked for, however often."""
        return Source(name, self.schema, open_stream=self.part(0, self.rows).batches)

    def table(self, columns: Iterable[str]) -> pa.Table:
        """Some columns of all rows."""
        return self.part(0, self.rows).table(columns)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in order."""
        return iter(self.all_batches)

    @property
    def all_batches(self) -> tuple[pa.RecordBatch, ...]:
        """All rows, in order."""
        return (*self._batches, *self._held)

    @property
    def size_bytes(self) -> int:
        """Arrow bytes of all rows."""
        return sum(batch.nbytes for batch in self.all_batches)

    def release(self) -> None:
        """Let go of the memory in which rows of temporary files were read."""
        self._folder.release()

    def close(self) -> None:
        """Remove the temporary files; rows that are in use stay readable."""
        self._folder.close()


class SpooledRows:
    """A range of the rows of a spool, but for some of them. Made by `Spool.part`."""

    def __init__(self, spool: Spool, first: int, last: int, without: BitMap) -> None:
        self._spool = spool
        self._first = first
        self._last = last
        self._without = without

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows."""
        return self._spool.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in order; what is in temporary files is read where it lies."""
        start = read_bytes = 0
        for batch in self._spool.all_batches:
            begin, end = max(start, self._first), min(start + batch.num_rows, self._last)
            if begin < end:
                yield from self._kept(batch.slice(begin - start, end - begin), begin, end)
                read_bytes += batch.nbytes
            start += batch.num_rows
            if read_bytes > SPILL_BYTES:
                self._spool.release()
                read_bytes = 0

    def _kept(self, batch: pa.RecordBatch, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        left_out = np.frombuffer((self._without & BitMap(range(begin, end))).to_array(), np.uint32)
        if len(left_out) == batch.num_rows:
            return
        if len(left_out):
            kept = np.ones(batch.num_rows, np.bool_)
            kept[left_out.astype(np.int64) - begin] = False
            batch = batch.filter(pa.array(kept))
        yield batch

    def source(self, name: str) -> Source:
        """The rows as a table that queries may name."""
        if self._without:
            return Source(name, self.schema, open_stream=self.batches)
        return Source(name, self.schema, batches=list(self.batches()))

    def joined(self, name: str) -> Source:
        """The same for a join that keeps the rows in memory, within a limit.

        The engine takes a slice for as large as what it is cut from, and would take many of them for too large to keep.
        So they are put together.
        """
        rows = pa.Table.from_batches(self.batches(), schema=self.schema)
        if sum(batch.get_total_buffer_size() for batch in rows.to_batches()) > SLICED * rows.nbytes:
            rows = rows.combine_chunks()
        return Source(name, self.schema, batches=rows.to_batches())

    def table(self, columns: Iterable[str]) -> pa.Table:
        """Some columns of the rows."""
        names = list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches([batch.select(names) for batch in self.batches()], schema=schema)
