"""A data file written anew without some of its rows, or with new values in some: what does not change is copied.

Theory of operation. The rows that change divide a file into stretches. Where none does, pages and row groups are
carried over into the new file encoded as they are (`icefusion.write.copying`), which takes a tenth of the time of
decoding and encoding them. Only what lies around the rows that change is decoded. So what a change of a few rows that
lie together costs does not grow with the file that they lie in. Where rows that change lie all over a row group, it can
be divided by columns instead (`icefusion.write.patching`): those that are not assigned are carried over, and the others
are done one at a time. For each row group it is the way that decodes less, or needs less memory where both are alike.

Rows stay in their order, in which the table may be sorted.

A stretch that is carried over is a row group in the new file, so it has to be large enough for one: files do not fall
to pieces however often they are changed, as what is small is decoded and written together with its neighbours.

Whether a file can be carried over is decided with care, since nobody looks at its rows any more. It has to have the
very schema that is written today, field ids, encodings of types and order of columns included, the codec of today, and
statistics that tell what the manifest of the new file has to say.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.positions import sorted_positions
from icefusion.config import WriteProperties
from icefusion.write.columns import top_columns
from icefusion.write.copying import EncodedRows
from icefusion.write.encoded import EncodedFile, EncodedGroup
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget
from icefusion.write.files import Partition, TableFiles
from icefusion.write.layout import row_group_pile
from icefusion.write.overlay import Overlay
from icefusion.write.parquet import PARQUET_FORM, RollingWriter
from icefusion.write.patching import PatchedGroup, nans_in, uncounted_leaves, without
from icefusion.write.thrift import Struct

__all__ = ["RowChanges", "Stretch", "may_be_worth_it", "stretches", "write_remaining"]

LEAST_PART = 16
"""What is carried over is at least this part of a full row group."""
LEAST_SHARE = 0.25
"""Less than this share of what is left is not worth it: the engine decodes with more threads."""
MOST_COMPRESSED = 16
"""So many times smaller than without compression a file is taken to be at most."""
DECODED_BYTES = 8 * 1024 * 1024
"""So much is decoded at a time, where pages allow for it."""
MAX_DECODED_BYTES = 64 * 1024 * 1024
"""Where they do not, and it would be more than this, it is left to the engine."""
MUCH_LESS = 0.9
"""A row group is divided by pages rather than by columns where less than this share of the bytes is decoded."""
MAX_COLUMN_BYTES = 128 * 1024 * 1024
"""No larger column of a row group is done as a whole."""
LIMITED_COLUMN_BYTES = 32 * 1024 * 1024
"""Nor one larger than this where memory is limited, unless the task may hold more."""
BATCH_ROWS = 32_768


@dataclass(frozen=True)
class RowChanges:
    """What becomes of some rows of a file.

    Attributes:
        gone: The positions in the file of those that are gone.
        overlay: New values of others; None where there are none.
    """

    gone: BitMap
    overlay: Overlay | None = None

    @cached_property
    def touched(self) -> BitMap:
        """The positions of the rows that change."""
        return self.gone if self.overlay is None else self.gone | self.overlay.bitmap

    def between(self, first: int, last: int) -> RowChanges:
        """What becomes of those from one position up to another."""
        overlay = None if self.overlay is None else self.overlay.between(first, last)
        return RowChanges(self.gone & BitMap(range(first, last)), overlay or None)


@dataclass(frozen=True)
class Stretch:
    """Rows of a file that lie behind each other.

    Attributes:
        rows: Where they are.
        changes: What becomes of them; None where they are carried over.
    """

    rows: EncodedRows
    changes: RowChanges | None = None

    @property
    def num_rows(self) -> int:
        """How many rows it leaves."""
        return self.rows.num_rows - (0 if self.changes is None else len(self.changes.gone))


Part = Stretch | PatchedGroup


def may_be_worth_it(file: DataFile, gone: BitMap, options: WriteProperties) -> bool:
    """Whether the rows that are gone leave stretches that are long enough, as far as the file's entry tells.

    What is scattered is told here, before a store is asked for the end of each file.
    """
    least_bytes = options.row_group_size_bytes // LEAST_PART
    # Positions and the rows between them; compressed bytes, of which there are more when they are not.
    ends = np.concatenate(([-1], sorted_positions(gone).astype(np.int64), [file.record_count]))
    gaps = np.diff(ends) - 1
    least_rows = least_bytes / MOST_COMPRESSED / max(1.0, file.file_size_in_bytes / max(1, file.record_count))
    return bool(gaps[gaps >= least_rows].sum() > LEAST_SHARE * (file.record_count - len(gone)))


def stretches(
    encoded: EncodedFile, file: DataFile, changes: RowChanges, files: TableFiles, options: WriteOptions
) -> list[Part] | None:
    """What is to be done with the rows of a file.

    Args:
        encoded: The file.
        file: Its entry in a manifest.
        changes: What becomes of its rows.
        files: The files that are written.
        options: How much memory.

    Returns:
        Its rows in order, but for those that are gone in long runs; None where it is not worth it, or where the file
        is not such that its rows can be carried over.

    Raises:
        StorageError: The file could not be read.
    """
    if not _is_alike(encoded, file, changes, files):
        return None
    uncounted = uncounted_leaves(file, files)
    limit_bytes = options.memory_limit_bytes
    column_bytes = MAX_COLUMN_BYTES if limit_bytes is None else max(LIMITED_COLUMN_BYTES, limit_bytes)
    found = [part for group in encoded.groups for part in _parts(group, changes, files, uncounted, column_bytes)]
    # Where it would be too much at a time, it is left to the engine, which streams.
    decoded = [part.rows.plain_bytes for part in found if isinstance(part, Stretch) and part.changes is not None]
    if max(decoded, default=0) > MAX_DECODED_BYTES:
        return None
    saved = sum(part.num_rows for part in found if not isinstance(part, Stretch) or part.changes is None)
    return found if saved > LEAST_SHARE * (encoded.metadata.num_rows - len(changes.gone)) else None


def write_remaining(
    parts: Sequence[Part], file: DataFile, files: TableFiles, partition: Partition | None, options: WriteOptions
) -> WriteResult:
    """Write what is left of a file.

    Args:
        parts: What is to be done with the rows of the file.
        file: Its entry in a manifest.
        files: The files that are written.
        partition: The partition that the rows belong to; None where the table has none.
        options: How much memory.

    Returns:
        The data files, which from now on are the caller's to commit or to delete, and a report.

    Raises:
        StorageError: The old file could not be read, or a new one not written. No new file is left.
    """
    began = time.perf_counter()
    # The rows stay in the order that they were in, which is the table's: see `_is_alike`.
    writer = RollingWriter(files, partition, is_sorted=bool(files.target.sort_order.fields))
    pile = _Pile(writer, files, options.memory_limit_bytes)
    uncounted = uncounted_leaves(file, files)
    try:
        for part in parts:
            if isinstance(part, Stretch) and part.changes is not None:
                for batch in _living(part.rows, part.changes, files.target):
                    pile.add(batch)
            else:
                pile.write()
                if isinstance(part, Stretch):
                    writer.carry(part.rows, nans_in(part.rows, uncounted, files))
                else:
                    writer.carry(part)
        pile.write()
        written = writer.close()
    except BaseException as error:
        writer.abort()
        files.delete(error)
        raise
    return WriteResult.of(files.target.table, written, began, partitions=1)


class _Pile:
    """Batches that make a row group together."""

    def __init__(self, writer: RollingWriter, files: TableFiles, limit_bytes: int | None) -> None:
        self._writer = writer
        self._size = row_group_pile(files.options, 1, limit_bytes)
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= self._size.rows or self._bytes >= self._size.size_bytes:
            self.write()

    def write(self) -> None:
        batches, self._batches, self._rows, self._bytes = self._batches, [], 0, 0
        if batches:
            self._writer.write(pa.Table.from_batches(batches))


def _parts(
    group: EncodedGroup, changes: RowChanges, files: TableFiles, uncounted: Sequence[int], column_bytes: int
) -> Sequence[Part]:
    """What is to be done with the rows of a row group, the way that decodes less."""
    first, last = group.first_position, group.first_position + group.num_rows
    here = changes.between(first, last)
    if len(here.gone) == group.num_rows:
        return []
    least_bytes = files.options.row_group_size_bytes // LEAST_PART
    by_pages = list(_stretches(group, here, least_bytes, files))
    if here.overlay is None:  # rows that only go, all over it, go faster by the engine
        return by_pages
    by_columns = PatchedGroup(group, here.overlay, here.gone, files, uncounted)
    decoded_bytes = sum(part.rows.plain_bytes for part in by_pages if part.changes is not None)
    remains_large = group.size_bytes * by_columns.num_rows >= least_bytes * group.num_rows
    if (
        MUCH_LESS * by_columns.encoded_bytes <= decoded_bytes
        and by_columns.widest_column_bytes <= column_bytes
        and (remains_large or not here.gone or len(group.file.groups) == 1)
    ):
        return [by_columns]
    return by_pages


def _stretches(group: EncodedGroup, changes: RowChanges, least_bytes: int, files: TableFiles) -> Iterator[Stretch]:
    """The rows of a row group, divided where pages begin in all columns."""
    is_large = least_bytes <= group.size_bytes
    if not changes.touched and is_large and group.size_bytes <= 2 * files.options.row_group_size_bytes:
        yield Stretch(EncodedRows(group, 0, group.num_rows))
        return
    cuts = group.cuts if is_large else (0, group.num_rows)
    row_bytes = group.size_bytes / max(1, group.num_rows)
    least_rows = math.ceil(least_bytes / max(row_bytes, 1e-9))
    begin: int | None = None  # of rows to decode
    for start, stop, hit in _runs(group, cuts, changes):
        if hit is None or (not hit and stop - start >= least_rows):
            if begin is not None:
                yield from _decoded(group, cuts, begin, start, changes)
                begin = None
            if hit is not None:
                yield Stretch(EncodedRows(group, start, stop))
        elif begin is None:
            begin = start
    if begin is not None:
        yield from _decoded(group, cuts, begin, group.num_rows, changes)


def _runs(group: EncodedGroup, cuts: Sequence[int], changes: RowChanges) -> Iterator[tuple[int, int, bool | None]]:
    """Runs of pages none of whose rows change (False), or some do (True), or all of them are gone (None)."""
    begin, last = 0, None
    for number, (start, stop) in enumerate(pairwise(cuts)):
        ends = group.first_position + start, group.first_position + stop
        all_gone = changes.gone.range_cardinality(*ends) == stop - start
        hit = None if all_gone else bool(changes.touched.range_cardinality(*ends))
        if number and hit is not last:
            yield begin, start, last
            begin = start
        last = hit
    yield begin, group.num_rows, last


def _decoded(group: EncodedGroup, cuts: Sequence[int], first: int, last: int, changes: RowChanges) -> Iterator[Stretch]:
    """Rows that are decoded, cut so that not much is decoded at a time."""
    row_bytes = group.size_bytes / max(1, group.num_rows)
    begin = first
    for start, stop in pairwise(cuts):
        if begin < start < last and (stop - begin) * row_bytes > DECODED_BYTES:
            yield _touched(EncodedRows(group, begin, start), changes)
            begin = start
    yield _touched(EncodedRows(group, begin, last), changes)


def _touched(rows: EncodedRows, changes: RowChanges) -> Stretch:
    first = rows.group.first_position
    return Stretch(rows, changes.between(first + rows.first, first + rows.last))


def _living(rows: EncodedRows, changes: RowChanges, target: WriteTarget) -> Iterator[pa.RecordBatch]:
    """The rows of a stretch that are not gone, with their new values."""
    at = rows.group.first_position + rows.first
    overlay = changes.overlay
    if overlay is not None and len(overlay) == rows.num_rows and len(overlay.columns) == len(target.schema.fields):
        yield from overlay.rows.to_batches()  # nothing of the old rows is left
        return
    alignment: Alignment | None = None
    for batch in rows.decode(BATCH_ROWS):
        if alignment is None:
            alignment = Alignment.plan(batch.schema, target.schema, by="position", table=target.table)
        living = alignment.apply(batch)
        if overlay is not None:
            living = overlay.over_rows(living, np.arange(at, at + batch.num_rows))
        yield without(living, at, changes.gone)
        at += batch.num_rows


# Whether it can be done


def _is_alike(encoded: EncodedFile, file: DataFile, changes: RowChanges, files: TableFiles) -> bool:
    if not encoded.is_plain or not _stays_sorted(file, changes, files) or encoded.schema != _schema(files):
        return False
    codec = files.options.compression_codec.upper()
    footer = encoded.metadata
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        for position, leaf in enumerate(files.leaves):
            chunk = group.column(position)
            if chunk.compression != ("UNCOMPRESSED" if codec == "NONE" else codec):
                return False
            mode = files.modes[leaf.field_id]
            statistics = chunk.statistics
            if mode.counts and (statistics is None or not statistics.has_null_count):
                return False
            if mode.bounds and not leaf.repeated and not (statistics.has_min_max or statistics.num_values == 0):
                return False
    return True


def _stays_sorted(file: DataFile, changes: RowChanges, files: TableFiles) -> bool:
    """Whether the rows are in the table's order, if it has one, and are so afterwards."""
    order = files.target.sort_order
    if not order.fields:
        return True
    assigned = changes.overlay.columns if changes.overlay is not None else ()
    tops = top_columns(files.target.schema)
    return file.sort_order_id == order.order_id and not any(tops.get(key.source_id) in assigned for key in order.fields)


def _schema(files: TableFiles) -> list[Struct]:
    """The schema of the Parquet files that are written."""
    out = pa.BufferOutputStream()
    pq.ParquetWriter(out, files.arrow_schema, **PARQUET_FORM).close()
    data = out.getvalue().to_pybytes()
    return EncodedFile(io.BytesIO(data), "", len(data)).schema
