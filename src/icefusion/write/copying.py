"""Rows of a Parquet file that become rows of another one without being decoded.

Theory of operation. A row group is a chunk of each column; a chunk is perhaps a dictionary and then pages, one behind
the other; nothing in a chunk knows where it lies but the footer and the page index. So a row group is moved by copying
its bytes and moving the offsets in what is said of it, and one can be put together of chunks from several files. The
same goes for a part of one that begins and ends where pages of all columns do: the copy is a row group of its own, with
the whole dictionary and some of the pages. What its footer says of its values is put together from what the page index
says of the pages, exactly, as engines answer ``max(x)`` from there.

The fields of the structures are named by their numbers in ``parquet.thrift``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from icefusion.write.encoded import (
    DAMAGE,
    MAGIC,
    EncodedFile,
    EncodedGroup,
    damaged,
    end_of_file,
    meta_of,
    parsed_end,
    reading,
    span_of,
    value,
    values_of,
)
from icefusion.write.thrift import BINARY, BOOL, I16, I32, I64, LIST, STRUCT, Struct, read_struct, write_struct

__all__ = ["CopiedChunk", "CopiedGroup", "Copy", "Copyable", "EncodedRows", "Write", "copy_chunks", "join_groups"]

MAX_ORDINALS = 1 << 15
COPY_BYTES = 8 * 1024 * 1024

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE = 0, 1, 2, 4, 5
_NUMBERS = {_BOOLEAN: "<?", _INT32: "<i", _INT64: "<q", _FLOAT: "<f", _DOUBLE: "<d"}
_DECIMAL = 5

Write = Callable[[bytes], object]
Copy = Callable[[Write, int], Sequence["CopiedChunk"]]
"""Puts chunks into a file that has so many bytes."""


@dataclass
class CopiedGroup:
    """A row group that was copied into a file.

    Attributes:
        group: What the file's footer is to say of it.
        column_indexes: The column index of each chunk; None where there is none.
        offset_indexes: The offset index of each chunk; likewise.
        nans: How many NaN are among its values, by field id; where it says nothing, there are none.
    """

    group: Struct
    column_indexes: list[bytes | None] = field(default_factory=list)
    offset_indexes: list[bytes | None] = field(default_factory=list)
    nans: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CopiedChunk:
    """A chunk that was put into a file: what its row group is to say of it, and its indexes."""

    struct: Struct
    column_index: bytes | None
    offset_index: bytes | None

    @classmethod
    def moved(cls, chunk: Struct, by: int, column_index: bytes | None, offset_index: bytes | None) -> CopiedChunk:
        """One that lies so many bytes further behind than is said of it."""
        meta = dict(meta_of(chunk))
        for number in (14, 15):  # the filter stays behind
            meta.pop(number, None)
        for number in (9, 10, 11):
            place = value(meta, number, 0)
            meta.pop(number, None)
            if place > 0:
                meta[number] = I64, place + by
        if offset_index is not None:
            places, _ = read_struct(offset_index)
            for place in values_of(places, 1):
                place[1] = I64, value(place, 1) + by
            offset_index = write_struct(places)
        return cls({2: (I64, 0), 3: (STRUCT, meta)}, column_index, offset_index)


class Copyable(Protocol):
    """What can become a row group of a file."""

    @property
    def group(self) -> EncodedGroup:
        """The row group that it comes from."""

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes in a file."""

    def copy(self, write: Write, offset: int) -> CopiedGroup:
        """Put it into a file that has so many bytes; `write` puts more behind them."""


@dataclass(frozen=True)
class EncodedRows:
    """Rows of a row group from one up to another, counted from its beginning; both are among its cuts."""

    group: EncodedGroup
    first: int
    last: int

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return self.last - self.first

    @property
    def size_bytes(self) -> int:
        """About how many bytes they take in a file."""
        chunks = self.group.chunks
        group_bytes: int = sum(value(meta_of(chunk), 7) for chunk in chunks)
        return group_bytes * self.num_rows // max(1, self.group.num_rows)

    @property
    def plain_bytes(self) -> int:
        """About how many bytes they are when they are not compressed."""
        return self.group.size_bytes * self.num_rows // max(1, self.group.num_rows)

    def copy(self, write: Write, offset: int) -> CopiedGroup:
        """Copy them into a file.

        Args:
            write: Puts bytes behind those that the file has.
            offset: How many it has.

        Raises:
            StorageError: They could not be read.
        """
        try:
            own = [self.copy_of(position) for position in range(len(self.group.chunks))]
            return copy_chunks(own, self.num_rows, write, offset)
        except DAMAGE as exc:
            raise damaged(self.group.file.path, exc) from exc

    def decode(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows.

        Raises:
            StorageError: They could not be read.
        """
        with reading(self.group.file.path):
            file = self._opened(range(len(self.group.chunks)), self.group.file.footer)
            yield from file.iter_batches(batch_size=batch_rows, use_threads=False)

    def decode_column(self, number: int, leaves: Sequence[int], batch_rows: int) -> Iterator[pa.Array]:
        """One column of the rows.

        Args:
            number: Which one of the columns at the top of the schema.
            leaves: Its leaves, by their places among all leaves.
            batch_rows: So many rows at a time.

        Raises:
            StorageError: They could not be read.
        """
        footer = self.group.file.footer
        root, elements = values_of(footer, 2)[0], _elements_of(self.group.file.schema, number)
        orders = [values_of(footer, 7)[leaf] for leaf in leaves]
        small = {
            1: footer[1],
            2: (LIST, (STRUCT, [root | {5: (I32, 1)}, *elements])),
            7: (LIST, (STRUCT, orders)),
        }
        with reading(self.group.file.path):
            file = self._opened(leaves, small)
            for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                yield batch.column(0)

    def _opened(self, leaves: Sequence[int], footer: Struct) -> pq.ParquetFile:
        """Some of its columns, as pyarrow reads them."""
        footer = {number: footer[number] for number in (1, 2, 7)}
        file = self.group.file
        if self.num_rows == self.group.num_rows:  # they are read where they lie
            chunks = [self.group.chunks[leaf] for leaf in leaves]
            metadata = parsed_end(end_of_file(_with_groups(footer, [_group_of(chunks, self.num_rows)])))
            return pq.ParquetFile(file.stream, metadata=metadata, buffer_size=COPY_BYTES, pre_buffer=False)
        out = io.BytesIO()
        out.write(MAGIC)
        try:
            copied = copy_chunks(map(self.copy_of, leaves), self.num_rows, out.write, len(MAGIC))
        except DAMAGE as exc:
            raise damaged(file.path, exc) from exc
        out.write(end_of_file(_with_groups(footer, [copied.group])))
        return pq.ParquetFile(pa.BufferReader(out.getbuffer()))

    def copy_of(self, position: int) -> Copy:
        """What copies one of its chunks into a file."""
        is_whole = self.num_rows == self.group.num_rows
        copy = self._copy_whole if is_whole else self._copy_pages
        return lambda write, at: [copy(position, write, at)]

    def _copy_whole(self, position: int, write: Write, at: int) -> CopiedChunk:
        chunk = self.group.chunks[position]
        start, length = span_of(chunk)
        for done in range(0, length, COPY_BYTES):
            self._copy_bytes(start + done, min(COPY_BYTES, length - done), write)
        column_index = offset_index = None
        if {4, 5, 6, 7} <= chunk.keys():
            column_index = self.group.file.read(value(chunk, 6), value(chunk, 7))
            offset_index = self.group.file.read(value(chunk, 4), value(chunk, 5))
        return CopiedChunk.moved(chunk, at - start, column_index, offset_index)

    def _copy_pages(self, position: int, write: Write, at: int) -> CopiedChunk:
        group = self.group
        assert group.pages is not None, "a part of a row group is taken by its page index"
        pages, old = group.pages[position], meta_of(group.chunks[position])
        chosen = [i for i, (_, _, row) in enumerate(pages.places) if self.first <= row < self.last]
        start, _ = span_of(group.chunks[position])
        tally = _Tally()
        dictionary_bytes = pages.places[0][0] - start
        if dictionary_bytes:
            tally.add(self._copy_bytes(start, dictionary_bytes, write))
        places = []
        offset = at + dictionary_bytes
        for part in _by_size([pages.places[i] for i in chosen], COPY_BYTES):
            data = self._copy_bytes(part[0][0], sum(length for _, length, _ in part), write)
            begin = 0
            for _, length, row in part:
                tally.add(data, begin)
                places.append({1: (I64, offset), 2: (I32, length), 3: (I64, row - self.first)})
                begin += length
                offset += length
        meta: Struct = {
            1: old[1],
            2: (LIST, (I32, sorted(tally.encodings))),
            3: old[3],
            4: old[4],
            5: (I64, tally.values),
            6: (I64, tally.plain_bytes),
            7: (I64, offset - at),
            9: (I64, at + dictionary_bytes),
            12: (STRUCT, self._statistics(position, chosen)),
            13: (LIST, (STRUCT, tally.page_counts())),
        }
        if dictionary_bytes:
            meta[11] = I64, at
        index: Struct = {
            1: (LIST, (BOOL, [pages.is_null[i] for i in chosen])),
            2: (LIST, (BINARY, [pages.lowest[i] for i in chosen])),
            3: (LIST, (BINARY, [pages.highest[i] for i in chosen])),
            4: (I32, pages.order),
            5: (LIST, (I64, [pages.null_counts[i] for i in chosen])),
        }
        offsets: Struct = {1: (LIST, (STRUCT, places))}
        return CopiedChunk({2: (I64, 0), 3: (STRUCT, meta)}, write_struct(index), write_struct(offsets))

    def _statistics(self, position: int, chosen: Sequence[int]) -> Struct:
        """What is known of the values of some pages."""
        group = self.group
        assert group.pages is not None, "a part of a row group is taken by its page index"
        pages, meta = group.pages[position], meta_of(group.chunks[position])
        found: Struct = {3: (I64, sum(pages.null_counts[i] for i in chosen))}
        filled = [i for i in chosen if not pages.is_null[i]]
        if filled:
            key = _key(meta, group.file, position)
            lowest = min((pages.lowest[i] for i in filled), key=key)
            highest = max((pages.highest[i] for i in filled), key=key)
            found |= {5: (BINARY, highest), 6: (BINARY, lowest), 7: (BOOL, True), 8: (BOOL, True)}
            if {1, 2} <= value(meta, 12, {}).keys():  # for readers from before there was an order of types
                found |= {1: (BINARY, highest), 2: (BINARY, lowest)}
        return found

    def _copy_bytes(self, start: int, length: int, write: Write) -> bytes:
        data = self.group.file.read(start, length)
        write(data)
        return data


class _Tally:
    """Counts what the headers of pages say."""

    def __init__(self) -> None:
        self.values = 0
        self.plain_bytes = 0
        self.encodings: set[int] = set()
        self._pages: dict[tuple[int, int], int] = {}

    def add(self, data: bytes, begin: int = 0) -> None:
        header, end = read_struct(data, begin)
        kind: int = value(header, 1)
        self.plain_bytes += value(header, 2) + end - begin
        of_kind: Struct = value(header, {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}[kind])
        encoding: int = value(of_kind, 4 if kind == _DATA_PAGE_V2 else 2)
        self._pages[kind, encoding] = self._pages.get((kind, encoding), 0) + 1
        self.encodings.add(encoding)
        if kind == _DATA_PAGE:
            self.encodings |= {value(of_kind, 3), value(of_kind, 4)}
        if kind != _DICTIONARY_PAGE:
            self.values += value(of_kind, 1)

    def page_counts(self) -> list[Struct]:
        return [
            {1: (I32, kind), 2: (I32, encoding), 3: (I32, count)}
            for (kind, encoding), count in sorted(self._pages.items())
        ]


def copy_chunks(copies: Iterable[Copy], num_rows: int, write: Write, offset: int) -> CopiedGroup:
    """Put chunks into a file, as a row group.

    Args:
        copies: What puts them there, in order. They are asked for one by one, so that not all that they need has to be
            at hand together.
        num_rows: How many rows.
        write: Puts bytes behind those that the file has.
        offset: How many it has.
    """
    copied = CopiedGroup({})
    structs = []
    at = offset
    for copy in copies:
        for chunk in copy(write, at):
            structs.append(chunk.struct)
            at += value(meta_of(chunk.struct), 7)
            copied.column_indexes.append(chunk.column_index)
            copied.offset_indexes.append(chunk.offset_index)
    copied.group = _group_of(structs, num_rows) | {5: (I64, offset), 6: (I64, at - offset)}
    return copied


def _group_of(chunks: Sequence[Struct], num_rows: int) -> Struct:
    """What a footer has to say of a row group of some chunks."""
    return {
        1: (LIST, (STRUCT, chunks)),
        2: (I64, sum(value(meta_of(chunk), 6) for chunk in chunks)),
        3: (I64, num_rows),
    }


def join_groups(footer: pq.FileMetaData, copied: Sequence[CopiedGroup], write: Write, offset: int) -> pq.FileMetaData:
    """End a file once more, in which row groups were put that its footer knows nothing of.

    Args:
        footer: The footer.
        copied: The row groups.
        write: Puts bytes behind those that the file has.
        offset: How many it has, with the footer.

    Returns:
        The footer that the file has then.

    Raises:
        OSError: What the footer says cannot be so: the writer and its stream disagree on where they are.
    """
    out = io.BytesIO()
    footer.write_metadata_file(out)
    known, _ = read_struct(out.getvalue(), len(MAGIC))
    _check_apart([*values_of(known, 4), *(each.group for each in copied)], offset)
    at = offset
    for place, length, indexes in ((6, 7, "column_indexes"), (4, 5, "offset_indexes")):
        for each in copied:
            for chunk, index in zip(values_of(each.group, 1), getattr(each, indexes), strict=True):
                if index is not None:
                    write(index)
                    chunk[place], chunk[length] = (I64, at), (I32, len(index))
                    at += len(index)
    end = _with_groups(known, [*values_of(known, 4), *(each.group for each in copied)])
    write(end_of_file(end))
    return parsed_end(end_of_file(end))


def _check_apart(groups: Sequence[Struct], end: int) -> None:
    """See that no two chunks lie in one place. It costs nothing beside what was written, which must not be lost."""
    at = len(MAGIC)
    for start, length in sorted(span_of(chunk) for group in groups for chunk in values_of(group, 1)):
        if start < at or start + length > end:
            raise OSError("its row groups are not where its footer says")
        at = start + length


def _with_groups(footer: Struct, groups: Sequence[Struct]) -> bytes:
    """A footer with other row groups, in the order in which they lie in the file."""
    ordered = sorted(groups, key=lambda group: span_of(values_of(group, 1)[0])[0])
    if len(ordered) <= MAX_ORDINALS:
        ordered = [group | {7: (I16, number)} for number, group in enumerate(ordered)]
    else:  # the numbers' type is too small for them, and they may be left out
        ordered = [{number: each for number, each in group.items() if number != 7} for group in ordered]
    rows = sum(value(group, 3) for group in ordered)
    return write_struct(footer | {3: (I64, rows), 4: (LIST, (STRUCT, ordered))})


def _elements_of(schema: Sequence[Struct], number: int) -> Sequence[Struct]:
    """The elements of one of the columns at the top of a schema, which is given without its root."""
    begin = 0
    for _ in range(number + 1):
        first, left = begin, 1
        while left:
            left += value(schema[begin], 5, 0) - 1
            begin += 1
    return schema[first:begin]


def _key(meta: Struct, file: EncodedFile, position: int) -> Callable[[bytes], Any]:
    """What the values of a column, as bounds have them, are ordered by."""
    physical: int = value(meta, 1)
    if physical in _NUMBERS:
        form = _NUMBERS[physical]
        return lambda bound: struct.unpack(form, bound)[0]
    leaves = [element for element in file.schema if not value(element, 5, 0)]
    element = leaves[position]
    if value(element, 6, -1) == _DECIMAL or _DECIMAL in value(element, 10, {}):
        return lambda bound: int.from_bytes(bound, "big", signed=True)
    return lambda bound: bound


def _by_size(places: Sequence[tuple[int, int, int]], size_bytes: int) -> Iterator[list[tuple[int, int, int]]]:
    """Pages that lie behind each other, about so many bytes at a time; a larger page alone."""
    part: list[tuple[int, int, int]] = []
    held = 0
    for place in places:
        if part and (held + place[1] > size_bytes or part[-1][0] + part[-1][1] != place[0]):
            yield part
            part, held = [], 0
        part.append(place)
        held += place[1]
    if part:
        yield part
