"""Which partition each row belongs to, as numbers, and how to lay the rows of one partition next to each other."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from icefusion.write.files import Partition

__all__ = ["PartitionIndex", "group_rows"]

LONG_RUN = 4096
"""Rows that come in runs of this length on average are left where they are."""


class PartitionIndex:
    """Numbers the partitions that rows fall in, in the order in which they appear; may be used by many threads."""

    def __init__(self, spec: PartitionSpec, schema: Schema) -> None:
        self._spec = spec
        self._schema = schema
        self._lock = threading.Lock()
        self._numbers: dict[tuple[object, ...], int] = {}
        self._partitions: list[Partition | None] = []

    def __len__(self) -> int:
        return len(self._partitions)

    def partition(self, number: int) -> Partition | None:
        """The partition of a number; None where the table has no partitions."""
        return self._partitions[number]

    def partition_ids(self, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """The number of each row's partition."""
        if not self._spec.fields:
            with self._lock:
                self._partitions = [None]
            return np.zeros(rows.num_rows, dtype=np.int64)
        codes, records = _stand_in(rows, self._spec, self._schema)
        with self._lock:
            numbers = np.array([self._number(record) for record in records], dtype=np.int64)
        return numbers[codes]

    def _number(self, record: Record) -> int:
        key = tuple(record[i] if record[i] == record[i] else "NaN" for i in range(len(record)))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._partitions)
            self._partitions.append(Partition.of(record, self._spec, self._schema))
        return number


def group_rows(
    ids: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How to take rows so that those with equal ids come together and stay in order.

    Returns:
        The indices to take, or None where the rows already lie in long runs; the id of each run; where each run
        begins, and last the number of rows.
    """
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    if len(starts) * LONG_RUN <= len(ids) or len(starts) == 1:
        return None, ids[starts], np.append(starts, len(ids))
    counts = np.bincount(ids)
    present = np.flatnonzero(counts)
    return _stable_order(ids, len(counts)), present, np.concatenate(([0], np.cumsum(counts[present])))


def _stable_order(ids: npt.NDArray[np.int64], bound: int) -> npt.NDArray[np.int64]:
    # Stable sorting of 16 bit numbers is a radix sort, several times as fast as that of wider ones.
    order = np.argsort((ids & 0xFFFF).astype(np.uint16), kind="stable")
    if bound > 1 << 16:
        order = order[np.argsort((ids >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _stand_in(rows, spec, schema):  # type: ignore
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    cols = []
    for f in spec.fields:
        source = schema.find_field(f.source_id)
        arr = f.transform.pyarrow_transform(source.field_type)(rows.column(schema.find_column_name(f.source_id)))
        if isinstance(arr, pa.ChunkedArray):
            arr = arr.combine_chunks()
        if pa.types.is_date32(arr.type):
            arr = arr.cast(pa.int32())
        enc = arr.dictionary_encode(null_encoding="encode")
        codes = codes * len(enc.dictionary) + enc.indices.to_numpy()
        cols.append(enc.dictionary.to_pylist())
    uniq, codes = np.unique(codes, return_inverse=True)
    records = []
    for u in uniq.tolist():
        rec = []
        for values in reversed(cols):
            u, r = divmod(u, len(values))
            rec.append(values[r])
        records.append(Record(*reversed(rec)))
    return codes, records
