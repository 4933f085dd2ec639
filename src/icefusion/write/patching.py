"""A row group written anew where it is: other values in some of its columns, or without some of its rows.

Theory of operation. A change that leaves rows where they are changes nothing in the columns that it does not assign, so
their chunks are copied as they are, encoded. Chunks of the other columns are made anew, one after another: a column is
decoded, the new values are laid over it, rows that are gone are left out, and it is encoded straight into the new file,
all before the next one is begun. So what this takes in memory is a column of a row group and not a row group, and what
it takes in time goes by the columns that change. Where rows are gone, all columns change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.positions import sorted_positions
from icefusion.write.column_sink import ColumnSink
from icefusion.write.columns import LeafColumn
from icefusion.write.copying import CopiedChunk, CopiedGroup, Copy, EncodedRows, Write, copy_chunks
from icefusion.write.encoded import DAMAGE, EncodedGroup, damaged, meta_of, value
from icefusion.write.encodings import dictionary_columns, profile_columns, rows_of_a_page, widest_bytes
from icefusion.write.files import TableFiles
from icefusion.write.metrics import add_counts, count_nans
from icefusion.write.overlay import Overlay
from icefusion.write.parquet import parquet_settings

__all__ = ["PatchedGroup", "nans_in", "uncounted_leaves", "without"]

PIECE_ROWS = 262_144
"""So much of a column is decoded and changed at a time."""


@dataclass(frozen=True)
class PatchedGroup:
    """A row group with new values in some columns and rows, and without some rows.

    Attributes:
        group: The row group. Its file is such that its rows can be carried over.
        overlay: The new values, of rows of this row group; None where there are none.
        gone: The positions in the file of the rows of this row group that are gone.
        files: The files that are written.
        uncounted: The leaves in which there may be NaN, and how many is not known; see `uncounted_leaves`.
    """

    group: EncodedGroup
    overlay: Overlay | None
    gone: BitMap
    files: TableFiles
    uncounted: Sequence[int] = ()

    @property
    def num_rows(self) -> int:
        """How many rows are left."""
        return self.group.num_rows - len(self.gone)

    @property
    def size_bytes(self) -> int:
        """About how many bytes they take in a file."""
        return self._old.size_bytes * self.num_rows // max(1, self.group.num_rows)

    @property
    def encoded_bytes(self) -> int:
        """Bytes, not compressed, of the columns that are decoded and encoded."""
        return sum(self._column_bytes.values())

    @property
    def widest_column_bytes(self) -> int:
        """The same for the largest of them alone."""
        return max(self._column_bytes.values(), default=0)

    def copy(self, write: Write, offset: int) -> CopiedGroup:
        """Put it into a file.

        Args:
            write: Puts bytes behind those that the file has.
            offset: How many it has.

        Raises:
            StorageError: The row group could not be read.
            SchemaError: A value is not of its column's type.
        """
        nans: defaultdict[int, int] = defaultdict(int)
        try:
            copied = copy_chunks(self._copies(nans), self.num_rows, write, offset)
        except DAMAGE as exc:
            raise damaged(self.group.file.path, exc) from exc
        copied.nans = dict(nans)
        return copied

    @cached_property
    def _old(self) -> EncodedRows:
        return EncodedRows(self.group, 0, self.group.num_rows)

    @cached_property
    def _column_bytes(self) -> dict[str, int]:
        assigned = self.overlay.columns if self.overlay is not None else []
        names = [field.name for field in self.files.target.schema.fields]
        sizes: dict[str, int] = {}
        for leaf, chunk in zip(self.files.leaves, self.group.chunks, strict=True):
            name = names[leaf.top]
            if self.gone or name in assigned:
                sizes[name] = sizes.get(name, 0) + value(meta_of(chunk), 6)
        return sizes

    def _copies(self, nans: defaultdict[int, int]) -> Iterator[Copy]:
        """What puts the chunks of the new row group into a file."""
        for number, field in enumerate(self.files.target.schema.fields):
            places = [place for place, leaf in enumerate(self.files.leaves) if leaf.top == number]
            if field.name not in self._column_bytes:
                add_counts(nans, nans_in(self._old, [place for place in places if place in self.uncounted], self.files))
                yield from map(self._old.copy_of, places)
                continue
            column = pa.Table.from_batches(self._patched(number, places))
            leaves = [replace(self.files.leaves[place], top=0) for place in places]
            add_counts(nans, count_nans(column, [leaf for leaf in leaves if self.files.modes[leaf.field_id].counts]))
            yield partial(self._encode, column, leaves)
            del column

    def _patched(self, number: int, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """A column with its new values, and without the rows that are gone."""
        target = self.files.target
        field = target.schema.fields[number]
        overlay = self.overlay if self.overlay is not None and field.name in self.overlay.columns else None
        if overlay is not None and len(overlay) == self.group.num_rows:  # nothing of the old values is left
            yield from overlay.rows.select([field.name]).to_batches()
            return
        alignment: Alignment | None = None
        at = self.group.first_position
        for values in self._old.decode_column(number, places, PIECE_ROWS):
            piece = pa.RecordBatch.from_arrays([values], names=[field.name])
            if alignment is None:
                alignment = Alignment.plan(piece.schema, Schema(field), by="position", table=target.table)
            piece = alignment.apply(piece)
            if overlay is not None:
                piece = pa.RecordBatch.from_arrays([overlay.over(field.name, piece.column(0), at)], schema=piece.schema)
            yield without(piece, at, self.gone)
            at += len(values)

    def _encode(self, column: pa.Table, leaves: Sequence[LeafColumn], write: Write, at: int) -> Sequence[CopiedChunk]:
        """Encode a column in pages like those of the columns beside it, where its values allow for that."""
        options = self.files.options
        profiles = profile_columns(column, leaves)
        dictionaries = dictionary_columns(profiles, column.num_rows, options.dict_size_bytes)
        widest = max(self.group.widest_bytes, widest_bytes(profiles))
        step_rows = rows_of_a_page(widest, options.page_size_bytes, options.page_row_limit)
        sink = ColumnSink(write)
        settings = parquet_settings(self.files, dictionaries, step_rows)
        writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), column.schema, **settings)
        try:
            writer.write_table(column, row_group_size=column.num_rows)
            sink.end_pages()
            writer.close()
        except BaseException:
            writer.is_open = False  # it would try to end the file again, and complain, when it is collected
            raise
        return sink.chunks(at)


def uncounted_leaves(file: DataFile, files: TableFiles) -> list[int]:
    """The leaves, by their places, whose NaN have to be counted when rows of a file are carried over.

    Args:
        file: The file's entry in a manifest.
        files: The files that are written.
    """
    known = file.nan_value_counts or {}
    return [
        place
        for place, leaf in enumerate(files.leaves)
        if isinstance(leaf.type, FloatType | DoubleType)
        and files.modes[leaf.field_id].counts
        and known.get(leaf.field_id) != 0
    ]


def nans_in(rows: EncodedRows, leaves: Sequence[int], files: TableFiles) -> dict[int, int]:
    """How many NaN are among the values of some leaves of encoded rows, by field id.

    Raises:
        StorageError: They could not be read.
    """
    counts: defaultdict[int, int] = defaultdict(int)
    for top in sorted({files.leaves[place].top for place in leaves}):
        chosen = [replace(files.leaves[place], top=0) for place in leaves if files.leaves[place].top == top]
        places = [place for place, leaf in enumerate(files.leaves) if leaf.top == top]
        for values in rows.decode_column(top, places, PIECE_ROWS):
            add_counts(counts, count_nans(pa.table({"": values}), chosen))
    return dict(counts)


def without(batch: pa.RecordBatch, first: int, gone: BitMap) -> pa.RecordBatch:
    """Rows that lie behind each other in a file, but for those that are gone.

    Args:
        batch: The rows.
        first: The position in the file of the first of them.
        gone: The positions of the rows that are gone.
    """
    here = gone & BitMap(range(first, first + batch.num_rows))
    if not here:
        return batch
    lives = np.ones(batch.num_rows, np.bool_)
    lives[sorted_positions(here).astype(np.int64) - first] = False
    return batch.filter(pa.array(lives))
