"""Which partition each row belongs to, as numbers, and how to lay the rows of one partition next to each other."""

from __future__ import annotations

import math
import struct
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema

from icefusion.bridge.partition import column_path, partition_columns, partition_groups, partition_record
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

    def partition_ids(self, rows: pa.Table) -> npt.NDArray[np.int64]:
        """The number of each row's partition."""
        if not self._spec.fields:
            with self._lock:
                self._partitions = [None]
            return np.zeros(rows.num_rows, dtype=np.int64)
        codes, keys = partition_groups(partition_columns(self._sources(rows), self._spec, self._schema))
        with self._lock:
            numbers = np.array([self._number(key) for key in keys], dtype=np.int64)
        return numbers[codes]

    def _sources(self, rows: pa.Table) -> pa.RecordBatch:
        """The columns that the spec's fields are made from, in one piece."""
        paths = [column_path(field.source_id, self._schema) for field in self._spec.fields]
        names = sorted({path[0] for path in paths if path is not None})
        if not names:  # every source column has been dropped
            return pa.RecordBatch.from_arrays([pa.nulls(rows.num_rows)], names=[""])
        return pa.RecordBatch.from_arrays([rows.column(name).combine_chunks() for name in names], names=names)

    def _number(self, key: tuple[Any, ...]) -> int:
        identity = tuple(_identity(value) for value in key)
        number = self._numbers.get(identity)
        if number is None:
            number = self._numbers[identity] = len(self._partitions)
            record = partition_record(key, self._spec, self._schema)
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


def _identity(value: Any) -> Any:
    """What tells a partition value from others: NaN is equal to itself, and -0.0 is not 0.0."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack("<d", value)
    return value
