"""A data file written anew without some of its rows: what no row is missing from is copied as it is.

Theory of operation. The positions that are gone divide a file into stretches. Where none is gone, pages and row groups
are carried over into the new file encoded as they are (`icefusion.write.copying`), which takes a tenth of the time of
decoding and encoding them. Only what lies around the rows that are gone is decoded. So what a change of a few rows that
lie together costs does not grow with the file that they lie in.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.types import DoubleType, FloatType
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.positions import sorted_positions
from icefusion.config import WriteProperties
from icefusion.write.copying import EncodedRows
from icefusion.write.encoded import EncodedFile, EncodedGroup
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget
from icefusion.write.files import Partition, TableFiles
from icefusion.write.layout import row_group_pile
from icefusion.write.parquet import PARQUET_FORM, RollingWriter
from icefusion.write.thrift import Struct

__all__ = ["Stretch", "may_be_worth_it", "stretches", "write_remaining"]

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
BATCH_ROWS = 32_768


@dataclass(frozen=True)
class Stretch:
    """Rows of a file that lie behind each other.

    Attributes:
        rows: Where they are.
        gone: The positions in the file of those among them that are gone; None where they are carried over.
    """

    rows: EncodedRows
    gone: BitMap | None = None


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


def stretches(encoded: EncodedFile, file: DataFile, gone: BitMap, files: TableFiles) -> list[Stretch] | None:
    """What is to be done with the rows of a file.

    Args:
        encoded: The file.
        file: Its entry in a manifest.
        gone: The positions of the rows that are gone.
        files: The files that are written.

    Returns:
        Its rows in order, but for those that are gone in long runs; None where it is not worth it, or where the file
        is not such that its rows can be carried over.

    Raises:
        StorageError: The file could not be read.
    """
    if not _is_alike(encoded, file, files):
        return None
    least_bytes = files.options.row_group_size_bytes // LEAST_PART
    found = [stretch for group in encoded.groups for stretch in _stretches(group, gone, least_bytes, files)]
    if any(stretch.gone is not None and stretch.rows.plain_bytes > MAX_DECODED_BYTES for stretch in found):
        return None
    carried = sum(stretch.rows.num_rows for stretch in found if stretch.gone is None)
    return found if carried > LEAST_SHARE * (encoded.metadata.num_rows - len(gone)) else None


def write_remaining(
    parts: Sequence[Stretch],
    new_rows: Iterable[pa.RecordBatch],
    files: TableFiles,
    partition: Partition | None,
    options: WriteOptions,
) -> WriteResult:
    """Write new rows, and behind them what is left of a file.

    Args:
        parts: What is to be done with the rows of the file.
        new_rows: Rows of the same partition, in the table's Arrow schema.
        files: The files that are written.
        partition: The partition that the rows belong to; None where the table has none.
        options: How much memory.

    Returns:
        The data files, which from now on are the caller's to commit or to delete, and a report.

    Raises:
        StorageError: The old file could not be read, or a new one not written. No new file is left.
    """
    began = time.perf_counter()
    writer = RollingWriter(files, partition)
    pile = _Pile(writer, files, options.memory_limit_bytes)
    try:
        for batch in new_rows:
            pile.add(batch)
        for part in parts:
            if part.gone is None:
                pile.write()
                writer.carry(part.rows)
            else:
                for batch in _living(part, part.gone, files.target):
                    pile.add(batch)
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


def _stretches(group: EncodedGroup, gone: BitMap, least_bytes: int, files: TableFiles) -> Iterator[Stretch]:
    first = group.first_position
    count = gone.range_cardinality(first, first + group.num_rows)
    if count == group.num_rows:
        return
    whole = EncodedRows(group, 0, group.num_rows)
    is_large = least_bytes <= group.size_bytes
    if not count and is_large and group.size_bytes <= 2 * files.options.row_group_size_bytes:
        yield Stretch(whole)
        return
    cuts = group.cuts if is_large else (0, group.num_rows)
    row_bytes = group.size_bytes / max(1, group.num_rows)
    least_rows = math.ceil(least_bytes / max(row_bytes, 1e-9))
    begin: int | None = None  # of rows to decode
    for start, stop, hit in _runs(group, cuts, gone):
        if hit is None or (not hit and stop - start >= least_rows):
            if begin is not None:
                yield from _decoded(group, cuts, begin, start, gone)
                begin = None
            if hit is not None:
                yield Stretch(EncodedRows(group, start, stop))
        elif begin is None:
            begin = start
    if begin is not None:
        yield from _decoded(group, cuts, begin, group.num_rows, gone)


def _runs(group: EncodedGroup, cuts: Sequence[int], gone: BitMap) -> Iterator[tuple[int, int, bool | None]]:
    """Runs of pages from all of whose rows nothing is missing (False), or something (True), or all of them (None)."""
    begin, last = 0, None
    for number, (start, stop) in enumerate(pairwise(cuts)):
        count = gone.range_cardinality(group.first_position + start, group.first_position + stop)
        hit = None if count == stop - start else bool(count)
        if number and hit is not last:
            yield begin, start, last
            begin = start
        last = hit
    yield begin, group.num_rows, last


def _decoded(group: EncodedGroup, cuts: Sequence[int], first: int, last: int, gone: BitMap) -> Iterator[Stretch]:
    """Rows that are decoded, cut so that not much is decoded at a time."""
    row_bytes = group.size_bytes / max(1, group.num_rows)
    begin = first
    for start, stop in pairwise(cuts):
        if begin < start < last and (stop - begin) * row_bytes > DECODED_BYTES:
            yield _touched(EncodedRows(group, begin, start), gone)
            begin = start
    yield _touched(EncodedRows(group, begin, last), gone)


def _touched(rows: EncodedRows, gone: BitMap) -> Stretch:
    first = rows.group.first_position
    return Stretch(rows, gone & BitMap(range(first + rows.first, first + rows.last)))


def _living(part: Stretch, gone: BitMap, target: WriteTarget) -> Iterator[pa.RecordBatch]:
    """The rows of a stretch that are not gone."""
    at = part.rows.group.first_position + part.rows.first
    alignment: Alignment | None = None
    for batch in part.rows.decode(BATCH_ROWS):
        if alignment is None:
            alignment = Alignment.plan(batch.schema, target.schema, by="position", table=target.table)
        here = gone & BitMap(range(at, at + batch.num_rows))
        if here:
            lives = np.ones(batch.num_rows, np.bool_)
            lives[sorted_positions(here) - at] = False
            living = batch.filter(pa.array(lives))
        else:
            living = batch
        at += batch.num_rows
        if living.num_rows:
            yield alignment.apply(living)


# Whether it can be done


def _is_alike(encoded: EncodedFile, file: DataFile, files: TableFiles) -> bool:
    if not encoded.is_plain or files.target.sort_order.fields or encoded.schema != _schema(files):
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
            floating = isinstance(leaf.type, FloatType | DoubleType)
            if mode.counts and floating and (file.nan_value_counts or {}).get(leaf.field_id) != 0:
                return False
            statistics = chunk.statistics
            if mode.counts and (statistics is None or not statistics.has_null_count):
                return False
            if mode.bounds and not leaf.repeated and not (statistics.has_min_max or statistics.num_values == 0):
                return False
    return True


def _schema(files: TableFiles) -> list[Struct]:
    """The schema of the Parquet files that are written."""
    out = pa.BufferOutputStream()
    pq.ParquetWriter(out, files.arrow_schema, **PARQUET_FORM).close()
    data = out.getvalue().to_pybytes()
    return EncodedFile(io.BytesIO(data), "", len(data)).schema
