"""Position delete files: which rows of which data files are gone (spec, "Position Delete Files").

A delete file is for one data file, or for the data files of one partition, as ``write.delete.granularity`` says. The
first is the default, as in Spark: it costs a few more small files, and a scan of one data file then reads the deletes
of just that one. Rows stand in the order of file and position, which the specification asks for. Bounds of the file's
path are kept whole, as it is by equal bounds that readers tell a delete file of one data file.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.metadata import TableMetadata
from pyroaring import BitMap

from icefusion.bridge.delete_index import partition_key
from icefusion.bridge.partition import schema_of_spec
from icefusion.bridge.positions import Positions
from icefusion.config import WriteProperties
from icefusion.write.files import Partition, TableFiles, WriteTarget, storage_errors

__all__ = ["FILE_PATH_ID", "POSITION_ID", "write_position_deletes"]

FILE_PATH_ID = 2147483546
POSITION_ID = 2147483545
ROW_GROUP_ROWS = 1_048_576

_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.dictionary(pa.int32(), pa.string()), False, {"PARQUET:field_id": str(FILE_PATH_ID)}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(POSITION_ID)}),
    ]
)

Group = list[tuple[DataFile, BitMap]]


def write_position_deletes(
    positions: Positions, files: Mapping[str, DataFile], table: str, metadata: TableMetadata, io: FileIO
) -> tuple[DataFile, ...]:
    """Write delete files for rows of data files.

    Args:
        positions: The rows that are gone, by the path of their data file.
        files: Those data files, by path.
        table: The table's name, for messages.
        metadata: The table: its specs, location and properties.
        io: Where the files go.

    Returns:
        The delete files, which are the caller's to commit or to delete.

    Raises:
        StorageError: A file could not be written; none is left.
        ConfigurationError: A table property makes no sense.
    """
    out = TableFiles(WriteTarget.of(table, metadata), io, str(uuid.uuid4()))
    by_partition = WriteProperties.of(metadata.properties).delete_granularity == "partition"
    rows = [(files[path], bitmap) for path, bitmap in sorted(positions.items()) if bitmap]
    try:
        return tuple(_write(group, metadata, out) for group in _groups(rows, by_partition))
    except BaseException as error:
        out.delete(error)
        raise


def _groups(rows: Group, by_partition: bool) -> Iterator[Group]:
    if not by_partition:
        yield from ([pair] for pair in rows)
        return
    for _, group in groupby(sorted(rows, key=_partition), key=_partition):
        yield list(group)


def _partition(pair: tuple[DataFile, BitMap]) -> str:
    return repr(partition_key(pair[0]))  # text has an order, also beside NULL


def _write(group: Group, metadata: TableMetadata, out: TableFiles) -> DataFile:
    first = group[0][0]
    spec = metadata.specs()[first.spec_id]
    partition = Partition.of(first.partition, spec, schema_of_spec(spec, metadata)) if spec.fields else None
    path = out.new_path(partition)
    footers: list[pq.FileMetaData] = []
    with storage_errors(path, "created"):
        sink = out.io.new_output(path).create()
    with storage_errors(path):
        try:
            with pq.ParquetWriter(
                sink,
                _SCHEMA,
                compression=out.options.compression_codec,
                compression_level=out.compression_level,
                use_dictionary=["file_path"],
                column_encoding={"pos": "DELTA_BINARY_PACKED"},
                store_schema=False,
                metadata_collector=footers,
            ) as writer:
                for table in _tables(group):
                    writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            size_bytes = int(sink.tell())
        finally:
            sink.close()
    footer = footers[0]
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=first.partition,
        record_count=footer.num_rows,
        file_size_in_bytes=size_bytes,
        column_sizes=dict(zip((FILE_PATH_ID, POSITION_ID), _column_sizes(footer), strict=True)),
        value_counts={FILE_PATH_ID: footer.num_rows, POSITION_ID: footer.num_rows},
        null_value_counts={FILE_PATH_ID: 0, POSITION_ID: 0},
        nan_value_counts={},
        lower_bounds={
            FILE_PATH_ID: min(file.file_path for file, _ in group).encode(),
            POSITION_ID: struct.pack("<q", min(bitmap.min() for _, bitmap in group)),
        },
        upper_bounds={
            FILE_PATH_ID: max(file.file_path for file, _ in group).encode(),
            POSITION_ID: struct.pack("<q", max(bitmap.max() for _, bitmap in group)),
        },
        split_offsets=[_offset(footer, index) for index in range(footer.num_row_groups)],
    )
    deletes.spec_id = first.spec_id
    return deletes


def _tables(group: Group) -> Iterator[pa.Table]:
    """The rows of a delete file, in pieces that make good row groups."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    paths = pa.array([file.file_path for file, _ in group])
    for number, (_, bitmap) in enumerate(group):
        rows = np.frombuffer(bitmap.to_array(), np.uint32).astype(np.int64)
        for start in range(0, len(rows), ROW_GROUP_ROWS):
            piece = rows[start : start + ROW_GROUP_ROWS]
            indices = pa.array(np.full(len(piece), number, np.int32))
            columns = [pa.DictionaryArray.from_arrays(indices, paths), pa.array(piece)]
            waiting.append(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))
            count += len(piece)
            if count >= ROW_GROUP_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting, count = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _column_sizes(footer: pq.FileMetaData) -> list[int]:
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    return [sum(group.column(place).total_compressed_size for group in groups) for place in (0, 1)]


def _offset(footer: pq.FileMetaData, index: int) -> int:
    column = footer.row_group(index).column(0)
    return int(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
