"""The manifest entry of a Parquet file: what stands in its footer, as Iceberg's metadata says it."""

from __future__ import annotations

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from icefusion.write.metrics import FileMetrics

__all__ = ["data_file"]


def data_file(
    path: str,
    footer: pq.FileMetaData,
    metrics: FileMetrics,
    *,
    partition: Record,
    spec_id: int,
    size_bytes: int,
    sort_order_id: int | None,
) -> DataFile:
    """A data file as a manifest lists it; "Data File Fields" in the Iceberg specification.

    Args:
        path: Where it is.
        footer: Its footer.
        metrics: The metrics of its columns.
        partition: The partition that its rows are in.
        spec_id: The partition spec of that.
        size_bytes: How long it is.
        sort_order_id: The order that its rows are in; None for none.
    """
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=footer.num_rows,
        file_size_in_bytes=size_bytes,
        column_sizes=metrics.column_sizes,
        value_counts=metrics.value_counts,
        null_value_counts=metrics.null_value_counts,
        nan_value_counts=metrics.nan_value_counts,
        lower_bounds=metrics.lower_bounds,
        upper_bounds=metrics.upper_bounds,
        split_offsets=_split_offsets(footer),
        sort_order_id=sort_order_id,
    )
    made.spec_id = spec_id
    return made


def _split_offsets(footer: pq.FileMetaData) -> list[int]:
    offsets = []
    for i in range(footer.num_row_groups):
        first = footer.row_group(i).column(0)
        offsets.append(first.dictionary_page_offset if first.has_dictionary_page else first.data_page_offset)
    return offsets
