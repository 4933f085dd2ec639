"""New values for some columns of some rows of a file, by the positions of the rows.

An UPDATE leaves rows where they are. What it changes is laid over the old rows as they are read again: whole columns
(`icefusion.write.patching`), or batch by batch. Columns that it does not assign are not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap

from icefusion.bridge.positions import bitmap_of
from icefusion.write.sorting import take_rows

__all__ = ["Overlay"]

Places = npt.NDArray[np.int64]


class Overlay:
    """New values of some columns, for rows of one file.

    Args:
        positions: The positions of the rows in the file, ascending, each once.
        rows: Their new values, in the same order. The columns are as the table's Arrow schema has them.
    """

    def __init__(self, positions: npt.NDArray[np.uint32], rows: pa.Table) -> None:
        self.positions = positions
        self.rows = rows

    @classmethod
    def of(cls, parts: Sequence[tuple[npt.NDArray[np.uint32], pa.RecordBatch]]) -> Overlay | None:
        """Rows that came in batches, in any order; None where there are none."""
        if not parts:
            return None
        positions = np.concatenate([part for part, _ in parts])
        rows = pa.Table.from_batches([batch for _, batch in parts])
        if not bool((positions[1:] > positions[:-1]).all()):
            order = np.argsort(positions)
            positions, rows = positions[order], take_rows(rows, order)
        return cls(positions, rows)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def columns(self) -> list[str]:
        """The columns that get new values."""
        names: list[str] = self.rows.column_names
        return names

    @cached_property
    def bitmap(self) -> BitMap:
        """The positions of the rows."""
        return bitmap_of(self.positions)

    def select(self, columns: Sequence[str]) -> Overlay:
        """The same for some of the columns."""
        return Overlay(self.positions, self.rows.select(list(columns)))

    def filter(self, mask: npt.NDArray[np.bool_]) -> Overlay:
        """The same for some of the rows."""
        return Overlay(self.positions[mask], self.rows.filter(pa.array(mask)))

    def between(self, first: int, last: int) -> Overlay:
        """The same for the rows from one position up to another."""
        begin, end = np.searchsorted(self.positions, [first, last])
        return Overlay(self.positions[begin:end], self.rows.slice(begin, end - begin))

    def over(self, name: str, old: pa.Array, first: int) -> pa.Array:
        """A column of rows that lie behind each other, with the new values in it.

        Args:
            name: The column.
            old: Its old values.
            first: The position of the first of them.
        """
        here = self.between(first, first + len(old))
        if not here:
            return old
        return _replaced(old, here.positions.astype(np.int64) - first, here.rows.column(name).combine_chunks())

    def over_rows(self, batch: pa.RecordBatch, positions: npt.NDArray[np.integer]) -> pa.RecordBatch:
        """Rows of the file, in any order, with the new values in them.

        Args:
            batch: The rows, in the table's Arrow schema.
            positions: Where in the file each of them is.
        """
        if not len(self) or not batch.num_rows:
            return batch
        found = np.minimum(np.searchsorted(self.positions, positions), len(self) - 1)
        places = np.flatnonzero(self.positions[found] == positions)
        if not len(places):
            return batch
        new = self.rows.take(pa.array(found[places]))
        columns = [
            _replaced(column, places, new.column(name).combine_chunks()) if name in self.columns else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _replaced(old: pa.Array, places: Places, new: pa.Array) -> pa.Array:
    """Old values with new ones at some places, which ascend."""
    if isinstance(old, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(old.type, _replaced(old.storage, places, new.storage))
    if len(places) == len(old):
        return new
    if pa.types.is_nested(old.type):
        order = np.arange(len(old))
        order[places] = len(old) + np.arange(len(new))
        return pa.concat_arrays([old, new]).take(pa.array(order))
    mask = np.zeros(len(old), np.bool_)
    mask[places] = True
    return pc.replace_with_mask(old, pa.array(mask), new)
