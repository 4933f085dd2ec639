"""Rows of a Parquet file as they lie there, encoded, and how they become rows of another file without being decoded.

Theory of operation. A row group is a chunk of each column; a chunk is perhaps a dictionary and then pages, one behind
the other; nothing in a chunk knows where it lies but the footer and the page index. So a row group is moved by copying
its bytes and moving the offsets in what is said of it. The same goes for a part of one that begins and ends where pages
of all columns do: the copy is a row group of its own, with the whole dictionary and some of the pages. What its footer
says of its values is put together from what the page index says of the pages, exactly, as engines answer ``max(x)``
from there.

How pages are cut depends on the writer. icefusion and PyIceberg cut them after so many rows in all columns, where
values are not wide; other writers do not, or shorten the bounds in their page indexes. Of such files only whole row
groups are moved. The structures are those of ``parquet.thrift``; fields are named by their numbers there.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import InputStream

from icefusion.errors import IcefusionError, StorageError
from icefusion.write.thrift import (
    BINARY,
    BOOL,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    Struct,
    ThriftError,
    read_struct,
    write_struct,
)

__all__ = ["CopiedGroup", "EncodedFile", "EncodedGroup", "EncodedRows", "join_groups"]

MAGIC = b"PAR1"
TAIL_BYTES = 256 * 1024
"""Read at once from the end of a file: most footers with their page indexes fit in."""
MAX_ORDINALS = 1 << 15
COPY_BYTES = 8 * 1024 * 1024
CUT_BY = b"parquet-cpp-arrow "
"""The writer whose page indexes have the bounds of pages whole."""

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _BYTES, _FIXED = 0, 1, 2, 4, 5, 6, 7
_NUMBERS = {_BOOLEAN: "<?", _INT32: "<i", _INT64: "<q", _FLOAT: "<f", _DOUBLE: "<d"}
_DECIMAL = 5

_TOO_SHORT = "it is shorter than its footer says"
_DAMAGE = (ThriftError, KeyError, TypeError, struct.error)

Write = Callable[[bytes], object]


@dataclass
class CopiedGroup:
    """A row group that was copied into a file.

    Attributes:
        group: What the file's footer is to say of it.
        column_indexes: The column index of each chunk; None where there is none.
        offset_indexes: The offset index of each chunk; likewise.
    """

    group: Struct
    column_indexes: list[bytes | None] = field(default_factory=list)
    offset_indexes: list[bytes | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Pages:
    """The page index of one chunk.

    Attributes:
        places: Where each data page lies: its offset, its length with its header, its first row.
        is_null: Whether each page holds nothing but NULLs.
        lowest: The least value of each page.
        highest: The greatest.
        order: How the bounds of the pages are ordered, by Parquet's number.
        null_counts: How many NULLs each page holds.
    """

    places: list[tuple[int, int, int]]
    is_null: list[bool]
    lowest: list[bytes]
    highest: list[bytes]
    order: int
    null_counts: list[int]


class EncodedFile:
    """A Parquet file as it lies in storage; for one thread at a time.

    Args:
        stream: The file, open. Whoever opened it closes it.
        path: Its path, for messages.
        size_bytes: How long it is.

    Attributes:
        groups: Its row groups.
        metadata: Its footer, as pyarrow reads it.

    Raises:
        StorageError: It could not be read, or is not Parquet.
    """

    def __init__(self, stream: InputStream, path: str, size_bytes: int) -> None:
        self._stream = stream
        self._path = path
        self._tail_at = max(0, size_bytes - TAIL_BYTES)
        self._tail = b""
        self._tail = self.read(self._tail_at, size_bytes - self._tail_at)
        with _reading(path):
            length, magic = struct.unpack("<I4s", self._tail[-8:])
            if magic != MAGIC or length > size_bytes - 12:
                raise OSError("it does not end as a Parquet file does")
        footer = self.read(size_bytes - 8 - length, length)
        try:
            self._footer, _ = read_struct(footer)
            first = 0
            groups = []
            for number, found in enumerate(_list(self._footer, 4)):
                groups.append(EncodedGroup(self, number, found, first))
                first += groups[-1].num_rows
        except _DAMAGE as exc:
            raise _damaged(path, exc) from exc
        self.groups = tuple(groups)
        with _reading(path):
            self.metadata = _parsed(_end(footer))

    @property
    def path(self) -> str:
        """Where it is."""
        return self._path

    @property
    def schema(self) -> list[Struct]:
        """The elements of its schema but for the root, whose name says nothing."""
        return _list(self._footer, 2)[1:]

    @property
    def is_plain(self) -> bool:
        """Whether its bounds are by the order of the types, nothing is encrypted, and all of it is in the one file."""
        elsewhere = (chunk.keys() & {1, 8, 9} for group in self.groups for chunk in group.chunks)
        return 7 in self._footer and 8 not in self._footer and not any(elsewhere)

    @property
    def has_exact_pages(self) -> bool:
        """Whether its writer puts whole bounds into page indexes."""
        return bytes(_get(self._footer, 6, b"")).startswith(CUT_BY)

    def end_of(self, copied: CopiedGroup) -> bytes:
        """The end of a file that has nothing but one row group that was copied from this one."""
        return _end(_with_groups({number: self._footer[number] for number in (1, 2, 7)}, [copied.group]))

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from a place on.

        Raises:
            StorageError: They could not be read.
        """
        with _reading(self._path):
            if self._tail and offset >= self._tail_at:
                found = self._tail[offset - self._tail_at :][:length]
                if len(found) < length:
                    raise OSError(_TOO_SHORT)
                return found
            self._stream.seek(offset)
            parts = []
            while length > 0:
                part = self._stream.read(length)
                if not part:
                    raise OSError(_TOO_SHORT)
                parts.append(part)
                length -= len(part)
        return b"".join(parts)


class EncodedGroup:
    """A row group of a file.

    Attributes:
        number: Its number in the file.
        first_position: The position in the file of its first row.
        num_rows: Its rows.
        size_bytes: Its bytes, encoded and not compressed.
    """

    def __init__(self, file: EncodedFile, number: int, group: Struct, first_position: int) -> None:
        self.file = file
        self.number = number
        self.first_position = first_position
        self.num_rows: int = _get(group, 3)
        self.size_bytes: int = _get(group, 2)
        self.struct = group
        self.chunks: list[Struct] = _list(group, 1)

    def rows(self, first: int, last: int) -> EncodedRows:
        """Its rows from one up to another, counted from its beginning; both are to be among `cuts`."""
        return EncodedRows(self, first, last)

    @property
    def dictionaries(self) -> list[str]:
        """The columns that are written with a dictionary, by their paths in the file."""
        metas = map(_meta, self.chunks)
        return [b".".join(_list(meta, 3)).decode() for meta in metas if _get(meta, 11, 0) > 0]

    @property
    def widest_bytes(self) -> float:
        """The bytes that a row takes on average in the column where it takes most, not compressed."""
        sizes: list[int] = [_get(_meta(chunk), 6) for chunk in self.chunks]
        return max(sizes, default=0) / max(1, self.num_rows)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """The rows at which it can be cut, its beginning and its end among them."""
        whole = (0, self.num_rows)
        if self.pages is None:
            return whole
        firsts = [{row for _, _, row in pages.places} for pages in self.pages]
        return (*sorted(set.intersection(*firsts)), self.num_rows)

    @cached_property
    def pages(self) -> list[_Pages] | None:
        """The page index of each chunk; None where a chunk has none, or none that can be gone by."""
        if not self.file.has_exact_pages:
            return None
        found = []
        for chunk in self.chunks:
            pages = self._pages_of(chunk)
            if pages is None:
                return None
            found.append(pages)
        return found

    def _pages_of(self, chunk: Struct) -> _Pages | None:
        if not {4, 5, 6, 7} <= chunk.keys():
            return None
        try:
            places, _ = read_struct(self.file.read(_get(chunk, 4), _get(chunk, 5)))
            values, _ = read_struct(self.file.read(_get(chunk, 6), _get(chunk, 7)))
            if not {1, 2, 3, 4, 5} <= values.keys():
                return None
            pages = _Pages(
                [(_get(place, 1), _get(place, 2), _get(place, 3)) for place in _list(places, 1)],
                _list(values, 1),
                _list(values, 2),
                _list(values, 3),
                _get(values, 4),
                _list(values, 5),
            )
        except _DAMAGE:
            return None
        counts = {len(each) for each in (pages.places, pages.is_null, pages.lowest, pages.highest, pages.null_counts)}
        begins_at_0 = bool(pages.places) and pages.places[0][2] == 0
        return pages if len(counts) == 1 and begins_at_0 else None


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
        group_bytes: int = sum(_get(_meta(chunk), 7) for chunk in chunks)
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
            return self._copy(write, offset)
        except _DAMAGE as exc:
            raise _damaged(self.group.file.path, exc) from exc

    def decode(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows, by way of a file in memory.

        Raises:
            StorageError: They could not be read.
        """
        out = io.BytesIO()
        out.write(MAGIC)
        copied = self.copy(out.write, len(MAGIC))
        out.write(self.group.file.end_of(copied))
        with _reading(self.group.file.path):
            file = pq.ParquetFile(pa.BufferReader(out.getbuffer()))
            yield from file.iter_batches(batch_size=batch_rows, use_threads=False)

    def _copy(self, write: Write, offset: int) -> CopiedGroup:
        is_whole = self.num_rows == self.group.num_rows
        copied = CopiedGroup({})
        chunks = []
        at = offset
        for position in range(len(self.group.chunks)):
            chunk = self._copy_whole(position, write, at) if is_whole else self._copy_pages(position, write, at)
            chunks.append(chunk.struct)
            at += _get(_meta(chunk.struct), 7)
            copied.column_indexes.append(chunk.column_index)
            copied.offset_indexes.append(chunk.offset_index)
        copied.group = {
            1: (LIST, (STRUCT, chunks)),
            2: (I64, sum(_get(_meta(chunk), 6) for chunk in chunks)),
            3: (I64, self.num_rows),
            5: (I64, offset),
            6: (I64, at - offset),
        }
        return copied

    def _copy_whole(self, position: int, write: Write, at: int) -> _CopiedChunk:
        chunk = self.group.chunks[position]
        meta = dict(_meta(chunk))
        start, length = _span(chunk)
        for done in range(0, length, COPY_BYTES):
            self._copy_bytes(start + done, min(COPY_BYTES, length - done), write)
        for number in (14, 15):  # the filter stays behind
            meta.pop(number, None)
        for number in (9, 10, 11):
            place = _get(meta, number, 0)
            meta.pop(number, None)
            if place > 0:
                meta[number] = I64, place - start + at
        column_index = offset_index = None
        if {4, 5, 6, 7} <= chunk.keys():
            column_index = self.group.file.read(_get(chunk, 6), _get(chunk, 7))
            places, _ = read_struct(self.group.file.read(_get(chunk, 4), _get(chunk, 5)))
            for place in _list(places, 1):
                place[1] = I64, _get(place, 1) - start + at
            offset_index = write_struct(places)
        return _CopiedChunk({2: (I64, 0), 3: (STRUCT, meta)}, column_index, offset_index)

    def _copy_pages(self, position: int, write: Write, at: int) -> _CopiedChunk:
        group = self.group
        assert group.pages is not None, "a part of a row group is taken by its page index"
        pages, old = group.pages[position], _meta(group.chunks[position])
        chosen = [i for i, (_, _, row) in enumerate(pages.places) if self.first <= row < self.last]
        start, _ = _span(group.chunks[position])
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
        return _CopiedChunk({2: (I64, 0), 3: (STRUCT, meta)}, write_struct(index), write_struct(offsets))

    def _statistics(self, position: int, chosen: Sequence[int]) -> Struct:
        """What is known of the values of some pages."""
        group = self.group
        assert group.pages is not None, "a part of a row group is taken by its page index"
        pages, meta = group.pages[position], _meta(group.chunks[position])
        found: Struct = {3: (I64, sum(pages.null_counts[i] for i in chosen))}
        filled = [i for i in chosen if not pages.is_null[i]]
        if filled:
            key = _key(meta, group.file, position)
            lowest = min((pages.lowest[i] for i in filled), key=key)
            highest = max((pages.highest[i] for i in filled), key=key)
            found |= {5: (BINARY, highest), 6: (BINARY, lowest), 7: (BOOL, True), 8: (BOOL, True)}
            if {1, 2} <= _get(meta, 12, {}).keys():  # for readers from before there was an order of types
                found |= {1: (BINARY, highest), 2: (BINARY, lowest)}
        return found

    def _copy_bytes(self, start: int, length: int, write: Write) -> bytes:
        data = self.group.file.read(start, length)
        write(data)
        return data


@dataclass(frozen=True)
class _CopiedChunk:
    struct: Struct
    column_index: bytes | None
    offset_index: bytes | None


class _Tally:
    """Counts what the headers of pages say."""

    def __init__(self) -> None:
        self.values = 0
        self.plain_bytes = 0
        self.encodings: set[int] = set()
        self._pages: dict[tuple[int, int], int] = {}

    def add(self, data: bytes, begin: int = 0) -> None:
        header, end = read_struct(data, begin)
        kind: int = _get(header, 1)
        self.plain_bytes += _get(header, 2) + end - begin
        of_kind: Struct = _get(header, {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}[kind])
        encoding: int = _get(of_kind, 4 if kind == _DATA_PAGE_V2 else 2)
        self._pages[kind, encoding] = self._pages.get((kind, encoding), 0) + 1
        self.encodings.add(encoding)
        if kind == _DATA_PAGE:
            self.encodings |= {_get(of_kind, 3), _get(of_kind, 4)}
        if kind != _DICTIONARY_PAGE:
            self.values += _get(of_kind, 1)

    def page_counts(self) -> list[Struct]:
        return [
            {1: (I32, kind), 2: (I32, encoding), 3: (I32, count)}
            for (kind, encoding), count in sorted(self._pages.items())
        ]


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
    _check_apart([*_list(known, 4), *(each.group for each in copied)], offset)
    at = offset
    for place, length, indexes in ((6, 7, "column_indexes"), (4, 5, "offset_indexes")):
        for each in copied:
            for chunk, index in zip(_list(each.group, 1), getattr(each, indexes), strict=True):
                if index is not None:
                    write(index)
                    chunk[place], chunk[length] = (I64, at), (I32, len(index))
                    at += len(index)
    end = _with_groups(known, [*_list(known, 4), *(each.group for each in copied)])
    write(_end(end))
    return _parsed(_end(end))


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn whatever a store or pyarrow raises into an error that names the file."""
    try:
        yield
    except (MemoryError, IcefusionError):
        raise
    except Exception as exc:  # stores have exceptions of their own
        raise StorageError(f"{path}: could not be read: {exc}", path=path) from exc


def _damaged(path: str, exc: Exception) -> StorageError:
    return StorageError(f"{path}: could not be read: what it says of its columns makes no sense: {exc}", path=path)


def _check_apart(groups: Sequence[Struct], end: int) -> None:
    """See that no two chunks lie in one place. It costs nothing beside what was written, which must not be lost."""
    at = len(MAGIC)
    for start, length in sorted(_span(chunk) for group in groups for chunk in _list(group, 1)):
        if start < at or start + length > end:
            raise OSError("its row groups are not where its footer says")
        at = start + length


def _end(footer: bytes) -> bytes:
    """A footer as the end of a file."""
    return footer + struct.pack("<I", len(footer)) + MAGIC


def _parsed(end: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(MAGIC + end))


def _with_groups(footer: Struct, groups: Sequence[Struct]) -> bytes:
    """A footer with other row groups, in the order in which they lie in the file."""
    ordered = sorted(groups, key=lambda group: _span(_list(group, 1)[0])[0])
    if len(ordered) <= MAX_ORDINALS:
        ordered = [group | {7: (I16, number)} for number, group in enumerate(ordered)]
    else:  # the numbers' type is too small for them, and they may be left out
        ordered = [{number: value for number, value in group.items() if number != 7} for group in ordered]
    rows = sum(_get(group, 3) for group in ordered)
    return write_struct(footer | {3: (I64, rows), 4: (LIST, (STRUCT, ordered))})


def _get(found: Struct, number: int, default: Any = None) -> Any:
    return found[number][1] if default is None or number in found else default


def _list(found: Struct, number: int) -> list[Any]:
    values: list[Any] = found[number][1][1] if number in found else []
    return values


def _meta(chunk: Struct) -> Struct:
    meta: Struct = _get(chunk, 3)
    return meta


def _span(chunk: Struct) -> tuple[int, int]:
    """Where a chunk begins, and its length."""
    meta = _meta(chunk)
    # A dictionary offset of 0 is what some writers put where there is none.
    start = min(_get(meta, number) for number in (9, 11) if number in meta and _get(meta, number) > 0)
    return start, _get(meta, 7)


def _key(meta: Struct, file: EncodedFile, position: int) -> Callable[[bytes], Any]:
    """What the values of a column, as bounds have them, are ordered by."""
    physical: int = _get(meta, 1)
    if physical in _NUMBERS:
        form = _NUMBERS[physical]
        return lambda value: struct.unpack(form, value)[0]
    leaves = [element for element in file.schema if not _get(element, 5, 0)]
    element = leaves[position]
    if _get(element, 6, -1) == _DECIMAL or _DECIMAL in _get(element, 10, {}):
        return lambda value: int.from_bytes(value, "big", signed=True)
    return lambda value: value


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
