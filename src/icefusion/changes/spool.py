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

__all__ = ["DEFAULT_HELD_BYTES", "Spool"]

DEFAULT_HELD_BYTES = 256 * 1024 * 1024
SPILL_BYTES = 64 * 1024 * 1024


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

    def batches(self, *, without: BitMap | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, in order.

        Args:
            without: Numbers of rows to leave out.
        """
        first = 0
        for batch in (*self._batches, *self._held):
            if not without:
                yield batch
                continue
            last = first + batch.num_rows
            left_out = np.frombuffer((without & BitMap(range(first, last))).to_array(), np.uint32)
            first = last
            if len(left_out) == batch.num_rows:
                continue
            if not len(left_out):
                yield batch
                continue
            kept = np.ones(batch.num_rows, np.bool_)
            kept[left_out.astype(np.int64) - (last - batch.num_rows)] = False
            yield batch.filter(pa.array(kept))

    def source(self, name: str, *, without: BitMap | None = None) -> Source:
        """The rows as a table that queries may name."""
        if without:
            return Source(name, self.schema, open_stream=lambda: self.batches(without=without))
        return Source(name, self.schema, batches=list(self.batches()))

    def table(self, columns: Iterable[str]) -> pa.Table:
        """Some columns of all rows."""
        names = list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches([batch.select(names) for batch in self.batches()], schema=schema)

    def row(self, number: int) -> dict[str, object]:
        """One row."""
        for batch in self.batches():
            if number < batch.num_rows:
                return {name: batch.column(name)[number].as_py() for name in batch.schema.names}
            number -= batch.num_rows
        raise IndexError(number)

    def close(self) -> None:
        """Remove the temporary files; rows that are in use stay readable."""
        self._folder.close()
