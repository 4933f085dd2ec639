"""A Parquet file as it lies in storage: its row groups and pages, and what its footer and page indexes say of them.

The structures are those of ``parquet.thrift``, read by `icefusion.write.thrift`; their fields are named by their
numbers there.

How pages are cut depends on the writer. icefusion and PyIceberg cut them after so many rows in all columns, where
values are not wide; other writers do not, or shorten the bounds in their page indexes. So a row group can be cut where
pages of all columns begin, if parquet-cpp has written it with a page index, and not at all otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import InputStream

from icefusion.errors import IcefusionError, StorageError
from icefusion.write.thrift import Struct, ThriftError, read_struct

__all__ = [
    "DAMAGE",
    "MAGIC",
    "EncodedFile",
    "EncodedGroup",
    "Pages",
    "damaged",
    "end_of_file",
    "meta_of",
    "parsed_end",
    "reading",
    "span_of",
    "value",
    "values_of",
]

MAGIC = b"PAR1"
DAMAGE = (ThriftError, KeyError, TypeError, struct.error)
"""What comes of reading structures that are none."""

TAIL_BYTES = 256 * 1024
"""Read at once from the end of a file: most footers with their page indexes fit in."""
CUT_BY = b"parquet-cpp-arrow "
"""The writer whose page indexes have the bounds of pages whole."""

_TOO_SHORT = "it is shorter than its footer says"


@dataclass(frozen=True)
class Pages:
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
        stream: The same that was given.
        groups: Its row groups.
        footer: Its footer.
        metadata: The same, as pyarrow reads it.

    Raises:
        StorageError: It could not be read, or is not Parquet.
    """

    def __init__(self, stream: InputStream, path: str, size_bytes: int) -> None:
        self.stream = stream
        self._path = path
        self._tail_at = max(0, size_bytes - TAIL_BYTES)
        self._tail = b""
        self._tail = self.read(self._tail_at, size_bytes - self._tail_at)
        with reading(path):
            length, magic = struct.unpack("<I4s", self._tail[-8:])
            if magic != MAGIC or length > size_bytes - 12:
                raise OSError("it does not end as a Parquet file does")
        footer = self.read(size_bytes - 8 - length, length)
        try:
            self.footer, _ = read_struct(footer)
            first = 0
            groups = []
            for number, found in enumerate(values_of(self.footer, 4)):
                groups.append(EncodedGroup(self, number, found, first))
                first += groups[-1].num_rows
        except DAMAGE as exc:
            raise damaged(path, exc) from exc
        self.groups = tuple(groups)
        with reading(path):
            self.metadata = parsed_end(end_of_file(footer))

    @property
    def path(self) -> str:
        """Where it is."""
        return self._path

    @property
    def schema(self) -> list[Struct]:
        """The elements of its schema but for the root, whose name says nothing."""
        return values_of(self.footer, 2)[1:]

    @property
    def is_plain(self) -> bool:
        """Whether its bounds are by the order of the types, nothing is encrypted, and all of it is in the one file."""
        elsewhere = (chunk.keys() & {1, 8, 9} for group in self.groups for chunk in group.chunks)
        return 7 in self.footer and 8 not in self.footer and not any(elsewhere)

    @property
    def has_exact_pages(self) -> bool:
        """Whether its writer puts whole bounds into page indexes."""
        return bytes(value(self.footer, 6, b"")).startswith(CUT_BY)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from a place on.

        Raises:
            StorageError: They could not be read.
        """
        with reading(self._path):
            if self._tail and offset >= self._tail_at:
                found = self._tail[offset - self._tail_at :][:length]
                if len(found) < length:
                    raise OSError(_TOO_SHORT)
                return found
            self.stream.seek(offset)
            parts = []
            while length > 0:
                part = self.stream.read(length)
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
        self.num_rows: int = value(group, 3)
        self.size_bytes: int = value(group, 2)
        self.chunks: list[Struct] = values_of(group, 1)

    @property
    def dictionaries(self) -> list[str]:
        """The columns that are written with a dictionary, by their paths in the file."""
        metas = map(meta_of, self.chunks)
        return [b".".join(values_of(meta, 3)).decode() for meta in metas if value(meta, 11, 0) > 0]

    @property
    def widest_bytes(self) -> float:
        """The bytes that a row takes on average in the column where it takes most, not compressed."""
        sizes: list[int] = [value(meta_of(chunk), 6) for chunk in self.chunks]
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
    def pages(self) -> list[Pages] | None:
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

    def _pages_of(self, chunk: Struct) -> Pages | None:
        if not {4, 5, 6, 7} <= chunk.keys():
            return None
        try:
            places, _ = read_struct(self.file.read(value(chunk, 4), value(chunk, 5)))
            values, _ = read_struct(self.file.read(value(chunk, 6), value(chunk, 7)))
            if not {1, 2, 3, 4, 5} <= values.keys():
                return None
            pages = Pages(
                [(value(place, 1), value(place, 2), value(place, 3)) for place in values_of(places, 1)],
                values_of(values, 1),
                values_of(values, 2),
                values_of(values, 3),
                value(values, 4),
                values_of(values, 5),
            )
        except DAMAGE:
            return None
        counts = {len(each) for each in (pages.places, pages.is_null, pages.lowest, pages.highest, pages.null_counts)}
        begins_at_0 = bool(pages.places) and pages.places[0][2] == 0
        return pages if len(counts) == 1 and begins_at_0 else None


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever a store or pyarrow raises into an error that names the file."""
    try:
        yield
    except (MemoryError, IcefusionError):
        raise
    except Exception as exc:  # stores have exceptions of their own
        raise StorageError(f"{path}: could not be read: {exc}", path=path) from exc


def damaged(path: str, exc: Exception) -> StorageError:
    """The error to raise in the place of one of `DAMAGE`."""
    return StorageError(f"{path}: could not be read: what it says of its columns makes no sense: {exc}", path=path)


def end_of_file(footer: bytes) -> bytes:
    """A footer as the end of a file."""
    return footer + struct.pack("<I", len(footer)) + MAGIC


def parsed_end(end: bytes) -> pq.FileMetaData:
    """The end of a file, as pyarrow reads it."""
    return pq.read_metadata(pa.BufferReader(MAGIC + end))


def value(found: Struct, number: int, default: Any = None) -> Any:
    """The value of a field."""
    return found[number][1] if default is None or number in found else default


def values_of(found: Struct, number: int) -> list[Any]:
    """The elements of a field that is a list; none where there is no such field."""
    values: list[Any] = found[number][1][1] if number in found else []
    return values


def meta_of(chunk: Struct) -> Struct:
    """What the footer says of a chunk's values."""
    meta: Struct = value(chunk, 3)
    return meta


def span_of(chunk: Struct) -> tuple[int, int]:
    """Where a chunk begins, and its length."""
    meta = meta_of(chunk)
    # A dictionary offset of 0 is what some writers put where there is none.
    start = min(value(meta, number) for number in (9, 11) if number in meta and value(meta, number) > 0)
    return start, value(meta, 7)
