"""Which row groups of Parquet files may hold rows that a query wants: by their statistics, without reading rows.

A row group is described as the manifest would describe it were it a file of its own, and tested as files are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.types import (
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from icefusion.bridge.pruning import FileTests
from icefusion.query.footers import FOOTER_THREADS, read_footer
from icefusion.query.mapping import ColumnSource

__all__ = ["RowGroups", "as_file", "bounded_columns", "count_row_groups"]

_BOUNDED = (IntegerType, LongType, StringType, DateType, TimestampType, TimestamptzType)


@dataclass(frozen=True)
class RowGroups:
    """How many row groups there are, and how many of them may hold rows that are wanted."""

    total: int = 0
    wanted: int = 0

    def __add__(self, other: RowGroups) -> RowGroups:
        return RowGroups(self.total + other.total, self.wanted + other.wanted)


def count_row_groups(
    files: Sequence[DataFile], columns: dict[str, NestedField], tests: FileTests, io: FileIO
) -> RowGroups:
    """Count the row groups of files of one physical schema, from their footers.

    Args:
        files: The files.
        columns: By their names in the files, those whose statistics count.
        tests: What is wanted.
        io: Where the files are read.

    Raises:
        StorageError: A file is missing or broken.
    """

    def count(file: DataFile) -> RowGroups:
        metadata = read_footer(file, io)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return RowGroups(len(groups), sum(tests.file_may_match(as_file(file, group, columns)) for group in groups))

    if len(files) == 1:
        return count(files[0])
    with ThreadPoolExecutor(min(FOOTER_THREADS, max(1, len(files))), thread_name_prefix="icefusion-footers") as pool:
        return sum(pool.map(count, files), RowGroups())


def bounded_columns(sources: Sequence[ColumnSource]) -> dict[str, NestedField]:
    """The columns whose bounds in a file's footer are found by the column's name there."""
    return {
        source.name: source.column
        for source in sources
        if source.name is not None and "." not in source.name and isinstance(source.column.field_type, PrimitiveType)
    }


def as_file(file: DataFile, group: pq.RowGroupMetaData, columns: dict[str, NestedField]) -> DataFile:
    """A row group as the manifest would describe it, were it a file of its own: what is not known is left out."""
    values: dict[int, int] = {}
    nulls: dict[int, int] = {}
    lower: dict[int, bytes] = {}
    upper: dict[int, bytes] = {}
    for index in range(group.num_columns):
        chunk = group.column(index)
        column = columns.get(chunk.path_in_schema)
        statistics = chunk.statistics
        if column is None or statistics is None:
            continue
        field_id, kind = column.field_id, column.field_type
        if statistics.has_null_count:
            values[field_id] = group.num_rows
            nulls[field_id] = statistics.null_count
        if statistics.has_min_max and isinstance(kind, _BOUNDED):
            low, high = _bound(kind, statistics.min), _bound(kind, statistics.max)
            if low is not None and high is not None:
                lower[field_id], upper[field_id] = low, high
    described = DataFile.from_args(
        content=file.content,
        file_path=file.file_path,
        file_format=FileFormat.PARQUET,
        partition=file.partition,
        record_count=group.num_rows,
        file_size_in_bytes=file.file_size_in_bytes,
        value_counts=values,
        null_value_counts=nulls,
        nan_value_counts={},
        lower_bounds=lower,
        upper_bounds=upper,
    )
    described.spec_id = file.spec_id
    return described


def _bound(kind: IcebergType, value: Any) -> bytes | None:
    try:
        return to_bytes(kind, value)  # type: ignore[arg-type]
    except Exception:  # a bound of another type than the column has now
        return None
