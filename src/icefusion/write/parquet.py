"""A rolling Parquet writer: rows in, data files of about the target size out.

A file is closed when its encoded bytes reach the target, and a row group when its Arrow bytes or its rows reach their
limits. A row group cannot be left half way, so before one is begun its rows are cut to what the file still has room
for, by the running ratio of encoded to Arrow bytes that all writers of the operation share. One call writes one row
group: pyarrow encodes it on the calling thread, without the interpreter lock.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import OutputStream
from pyiceberg.manifest import DataFile
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, FloatType

from icefusion.write.copying import CopiedGroup, Copyable, join_groups
from icefusion.write.data_files import data_file
from icefusion.write.encodings import ColumnProfile, dictionary_columns, profile_columns, rows_of_a_page, widest_bytes
from icefusion.write.files import Partition, TableFiles, storage_errors
from icefusion.write.metrics import FileMetrics, add_counts, count_nans, file_metrics

__all__ = ["PARQUET_FORM", "RollingWriter", "parquet_settings"]

PARQUET_FORM: dict[str, Any] = {"version": "2.6", "store_decimal_as_integer": True, "store_schema": False}
"""The settings of pyarrow's writer that decide on a file's schema."""

FULL = 0.95
"""A file this full counts as full; a row group for the rest would be too small to be worth it."""
SLACK = 0.1
"""Rows that exceed a soft limit by this share stay together."""
SHORT_CHUNK = 4096
"""Rows in chunks shorter than this on average are copied together before they are encoded, as each chunk costs."""


class RollingWriter:
    """Writes the rows of one partition, or of an unpartitioned table, into files; for one thread at a time.

    Args:
        files: What the files of the operation have in common.
        partition: The partition that the rows belong to; None where the table has none.
        profiles: What is known of the columns; None looks at the first row group of each file.
        is_sorted: The rows come in the table's sort order, from the first `write` to `close`.
    """

    def __init__(
        self,
        files: TableFiles,
        partition: Partition | None = None,
        *,
        profiles: Sequence[ColumnProfile] | None = None,
        is_sorted: bool = False,
    ) -> None:
        self._files = files
        self._partition = partition
        self._profiles = profiles
        self._is_sorted = is_sorted
        self._open: _OpenFile | None = None
        self._closed: list[DataFile] = []

    def write(self, table: pa.Table) -> None:
        """Write rows, as one row group where they fit in one.

        Raises:
            StorageError: A file could not be written.
        """
        offset = 0
        row_bytes = table.nbytes / max(1, table.num_rows)
        while offset < table.num_rows:
            rows = self._rows_of_next_group(table.num_rows - offset, row_bytes)
            self._write_group(table.slice(offset, rows), row_bytes)
            offset += rows

    def carry(self, rows: Copyable, nans: Mapping[int, int] | None = None) -> None:
        """Copy rows of another file that has the same schema, as a row group.

        Args:
            rows: The rows.
            nans: How many NaN are among their values, by field id, as far as they do not tell themselves.

        Raises:
            StorageError: They could not be read, or not be written.
        """
        options = self._files.options
        if (
            self._open is not None
            and self._open.size_bytes + rows.size_bytes > (1 + SLACK) * options.target_file_size_bytes
        ):
            self._roll()
        if self._open is None:
            # What is written later is taken to be like these rows.
            step_rows = rows_of_a_page(rows.group.widest_bytes, options.page_size_bytes, options.page_row_limit)
            self._open = _OpenFile(self._files, self._partition, rows.group.dictionaries, step_rows)
        self._open.carry(rows, nans or {})
        if self._open.size_bytes >= FULL * options.target_file_size_bytes:
            self._roll()

    def close(self) -> list[DataFile]:
        """Finish the last file; the answer is all files written since the writer was made."""
        self._roll()
        return self._closed

    def abort(self) -> None:
        """Let go of the open file, in whatever state it is."""
        if self._open is not None:
            self._open.abort()
            self._open = None

    def _rows_of_next_group(self, rows: int, row_bytes: float) -> int:
        options = self._files.options
        groups = max(
            math.ceil(rows / options.row_group_limit),
            math.ceil(rows * row_bytes / options.row_group_size_bytes - SLACK),
            1,
        )
        written = self._open.size_bytes if self._open is not None else 0
        room = options.target_file_size_bytes - written
        rows_in_room = room / max(1e-9, row_bytes * (self._files.encoded_ratio or 1.0))
        wanted = math.ceil(rows / groups)
        if wanted > rows_in_room * (1 + SLACK):
            wanted = max(1, int(rows_in_room))
        return min(wanted, rows)

    def _write_group(self, rows: pa.Table, row_bytes: float) -> None:
        if self._open is None:
            self._open = self._new_file(rows)
        before = self._open.size_bytes
        if rows.num_rows < SHORT_CHUNK * rows.column(0).num_chunks:
            rows = rows.combine_chunks()
        self._open.write_group(rows)
        self._files.note_encoded(int(rows.num_rows * row_bytes), self._open.size_bytes - before)
        if self._open.size_bytes >= FULL * self._files.options.target_file_size_bytes:
            self._roll()

    def _new_file(self, rows: pa.Table) -> _OpenFile:
        profiles = self._profiles
        if profiles is None:
            profiles = profile_columns(rows, self._files.leaves)
        options = self._files.options
        dictionaries = dictionary_columns(profiles, rows.num_rows, options.dict_size_bytes)
        step_rows = rows_of_a_page(widest_bytes(profiles), options.page_size_bytes, options.page_row_limit)
        return _OpenFile(self._files, self._partition, dictionaries, step_rows)

    def _roll(self) -> None:
        if self._open is not None:
            self._closed.append(self._open.close(self._is_sorted))
            self._open = None


class _OpenFile:
    """One file that is being written."""

    def __init__(self, files: TableFiles, partition: Partition | None, dictionaries: list[str], step_rows: int) -> None:
        self._files = files
        self._partition = partition
        self._path = files.new_path(partition)
        self._nans: defaultdict[int, int] = defaultdict(int)
        self._footers: list[pq.FileMetaData] = []
        self._carried: list[CopiedGroup] = []
        self._nan_leaves = [leaf for leaf in files.leaves if files.modes[leaf.field_id].counts]
        self.size_bytes = 0
        with storage_errors(self._path, "created"):
            try:
                self._sink = _native(files.io.new_output(self._path).create())
            except FileExistsError:
                files.disown(self._path)
                raise
            try:
                settings = parquet_settings(files, dictionaries, step_rows) | {"metadata_collector": self._footers}
                self._writer = pq.ParquetWriter(self._sink, files.arrow_schema, **settings)
            except BaseException:
                self._sink.close()
                raise

    def write_group(self, rows: pa.Table) -> None:
        add_counts(self._nans, count_nans(rows, self._nan_leaves))
        with storage_errors(self._path):
            self._writer.write_table(rows, row_group_size=rows.num_rows)
            self.size_bytes = self._tell()

    def carry(self, rows: Copyable, nans: Mapping[int, int]) -> None:
        with storage_errors(self._path):
            copied = rows.copy(self._sink.write, self._tell())
            self._carried.append(copied)
            self.size_bytes = self._tell()
        floating = [leaf.field_id for leaf in self._nan_leaves if isinstance(leaf.type, FloatType | DoubleType)]
        add_counts(self._nans, dict.fromkeys(floating, 0) | copied.nans | dict(nans))

    def close(self, is_sorted: bool) -> DataFile:
        with storage_errors(self._path):
            self._writer.close()
            footer = self._footers[0]
            if self._carried:
                footer = join_groups(footer, self._carried, self._sink.write, self._tell())
            self.size_bytes = self._tell()
            self._sink.close()
        files = self._files
        return self._data_file(footer, file_metrics(footer, files.leaves, files.modes, self._nans), is_sorted)

    def abort(self) -> None:
        for resource in (self._writer, self._sink):
            # The file is about to be deleted, whatever state it is in.
            with contextlib.suppress(Exception):
                resource.close()
        # A writer that could not be closed would try again, and complain, when it is collected.
        self._writer.is_open = False

    def _tell(self) -> int:
        position: int = self._sink.tell()
        return position

    def _data_file(self, footer: pq.FileMetaData, metrics: FileMetrics, is_sorted: bool) -> DataFile:
        target = self._files.target
        return data_file(
            self._path,
            footer,
            metrics,
            partition=self._partition.record if self._partition is not None else Record(),
            spec_id=target.spec.spec_id,
            size_bytes=self.size_bytes,
            sort_order_id=target.sort_order.order_id if is_sorted else None,
        )


def parquet_settings(files: TableFiles, dictionaries: Sequence[str], step_rows: int) -> dict[str, Any]:
    """The settings of pyarrow's writer.

    Args:
        files: The files that are written.
        dictionaries: The Parquet paths of the columns that are written with a dictionary.
        step_rows: Rows that the encoder takes at a time; see `rows_of_a_page`.
    """
    options = files.options
    return PARQUET_FORM | {
        "compression": options.compression_codec,
        "compression_level": files.compression_level,
        "use_dictionary": list(dictionaries),
        "dictionary_pagesize_limit": options.dict_size_bytes,
        "data_page_size": options.page_size_bytes,
        "max_rows_per_page": options.page_row_limit,
        "write_batch_size": step_rows,
        "write_page_index": True,
    }


def _native(stream: OutputStream) -> pa.NativeFile:
    """The stream as pyarrow's writer sees it, so that both agree on where it ends, whoever writes to it."""
    return stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream, mode="w")
