"""Which columns to write with a dictionary, from a look at the data.

A dictionary pays where values repeat: it halves both the bytes and the time of a column with few distinct values. On a
column whose values hardly repeat it is a loss twice over, as the encoder hashes each value only to store nearly all of
them again, next to their indices. So a sample of the rows tells how many distinct values a column holds, and from that
how many of them the rows of one file will bring. Only PLAIN and RLE_DICTIONARY are chosen between: every reader of
Iceberg tables knows these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from icefusion.write.columns import LeafColumn

__all__ = ["ColumnProfile", "dictionary_columns", "profile_columns", "rows_of_a_page", "widest_bytes"]

SAMPLE_ROWS = 16_384
SAMPLE_SLICES = 8
MAX_DISTINCT_RATIO = 0.2
"""Above this share of distinct values, a dictionary costs more time than it saves (measured over all types)."""


@dataclass(frozen=True)
class ColumnProfile:
    """What a sample tells of a leaf column.

    Attributes:
        path: The column's Parquet path.
        distinct: Estimated number of distinct values, not null, in all of the data; infinity where none repeats.
        width_bytes: Bytes that a value takes on average, its length prefix included.
        density: Values that are not null, a row.
    """

    path: str
    distinct: float
    width_bytes: float
    density: float

    def profits_from_dictionary(self, rows: int, dict_size_bytes: int) -> bool:
        """Whether a row group of so many rows is better written with a dictionary of at most so many bytes."""
        values = max(1.0, rows * self.density)
        if math.isinf(self.distinct):
            return False
        expected = -self.distinct * math.expm1(-values / self.distinct)
        # Beyond its size limit a dictionary is given up half way, which is the worst of both.
        return expected <= MAX_DISTINCT_RATIO * values and expected * self.width_bytes <= dict_size_bytes


def profile_columns(table: pa.Table, leaves: Sequence[LeafColumn]) -> tuple[ColumnProfile, ...]:
    """Profile each leaf column from slices taken all over a table, so that runs of sorted data show as such."""
    sample = _sample(table)
    return tuple(_profile(sample, leaf) for leaf in leaves)


def dictionary_columns(profiles: Sequence[ColumnProfile], rows: int, dict_size_bytes: int) -> list[str]:
    """The Parquet paths of the columns to write with a dictionary in row groups of so many rows."""
    return [profile.path for profile in profiles if profile.profits_from_dictionary(rows, dict_size_bytes)]


def widest_bytes(profiles: Sequence[ColumnProfile]) -> float:
    """The bytes that a value takes on average in the column where it takes most."""
    return max((profile.width_bytes for profile in profiles), default=1.0)


def rows_of_a_page(widest_bytes: float, page_size_bytes: int, page_row_limit: int) -> int:
    """Rows that fit in a data page of every column: how many the encoder can take at a time.

    It looks at a page's size only between two such steps, so steps are small for wide values, and as large as a page
    otherwise, which saves a few per cent of its time.
    """
    return max(1, min(page_row_limit, int(page_size_bytes / max(1.0, widest_bytes))))


def _sample(table: pa.Table) -> pa.Table:
    if table.num_rows <= SAMPLE_ROWS:
        return table
    length = SAMPLE_ROWS // SAMPLE_SLICES
    stride = (table.num_rows - length) / (SAMPLE_SLICES - 1)
    return pa.concat_tables([table.slice(int(i * stride), length) for i in range(SAMPLE_SLICES)])


def _profile(sample: pa.Table, leaf: LeafColumn) -> ColumnProfile:
    values = pa.chunked_array(list(leaf.values(sample)))
    count = len(values) - values.null_count
    if count == 0 or pa.types.is_boolean(values.type):
        return ColumnProfile(leaf.path, math.inf, 1.0, 0.0)
    distinct = pc.count_distinct(values, mode="only_valid").as_py()
    return ColumnProfile(leaf.path, _estimate(distinct, count), _width(values, count), count / max(1, sample.num_rows))


def _width(values: pa.ChunkedArray, count: int) -> float:
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        return 4.0 + float(pc.sum(pc.binary_length(values)).as_py()) / count
    return float(values.type.byte_width)


def _estimate(distinct: int, count: int) -> float:
    """How many values are drawn from, when `count` draws brought `distinct` different ones.

    Draws with equal chances bring ``D * (1 - exp(-count / D))`` different ones of D; this is solved for D.
    """
    if distinct >= 0.98 * count:
        return math.inf
    low, high = float(distinct), 64.0 * count
    for _ in range(50):
        middle = (low + high) / 2
        if -middle * math.expm1(-count / middle) < distinct:
            low = middle
        else:
            high = middle
    return high
