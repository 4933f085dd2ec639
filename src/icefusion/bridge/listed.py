"""The files that a manifest lists, decoded no further than planning needs.

A table has many files, and most queries want few of them, so what is read of each is little: where it is, its
partition, its size. The rest, metrics of columns above all, stays the bytes that it was, a few hundred of them, and is
decoded when it is asked for (`ListedFile`).

Entries of one manifest begin alike, with a status and numbers of their snapshot, and behind the path comes a partition
that the entry before had as well. Avro has no other form for the same values, and no value is told by what follows it:
where the same bytes stand, the same values are read. So these parts are compared with those of the entry before, and
decoded where they differ; what is equal is one object.

PyIceberg makes an Avro block of each entry, so that the rest of an entry ends where its block does. Other writers put
many into one, there the rest is passed over. What was not looked at may turn out to be damaged later; that is the error
that reading the manifest would have raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyiceberg.avro.decoder import BinaryDecoder, new_decoder
from pyiceberg.avro.reader import DefaultReader, IntegerReader, NoneReader, Reader, StringReader, StructReader
from pyiceberg.avro.resolver import resolve_reader
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from icefusion.bridge.avro import Blocks, Layouts, Read, check_place, passing_all, reading
from icefusion.bridge.locations import unreadable

__all__ = ["LAYOUTS", "ListedFile", "Listing", "LiveEntry"]

_READ_SCHEMA = MANIFEST_ENTRY_SCHEMAS[3]

# Where the values of an entry stand, and those of a file.
_STATUS, _SEQUENCE_NUMBER, _DATA_FILE = 0, 2, 4
_CONTENT, _PATH, _FORMAT, _PARTITION, _RECORDS, _SIZE = range(6)
_VALUE_COUNTS, _NULL_COUNTS, _NAN_COUNTS, _LOWER, _UPPER = range(7, 12)
_FILE_WIDTH = len(DATA_FILE_TYPE[3].fields)
_SHOWN = (_CONTENT, _PATH, _FORMAT, _PARTITION, _RECORDS, _SIZE)
_NOT_SOUGHT = -1

# What objects take in memory, beside the bytes of texts and values themselves; tests/bridge measures it.
_BYTES_AN_ENTRY = 390
_BYTES_A_PARTITION = 250
_BYTES_A_BYTE = 8  # of a partition as it is written


class LiveEntry(NamedTuple):
    """A file that a manifest lists as there.

    Attributes:
        file: The file.
        sequence_number: Its data sequence number: how old its rows, or its deletes, are.
    """

    file: DataFile
    sequence_number: int


class Listing(NamedTuple):
    """What a manifest lists.

    Attributes:
        entries: The files that are there.
        size_bytes: About what they take in memory.
    """

    entries: tuple[LiveEntry, ...]
    size_bytes: int


class ListedFile(DataFile):
    """A file as a manifest lists it, most of it not decoded yet. It cannot be changed.

    What has no place of its own here is decoded each time that it is asked for, from the bytes that follow the size of
    the file. That raises `StorageError` where these make no sense.
    """

    __slots__ = (
        "_bounds_at",
        "_origin",
        "_rest",
        "content",
        "file_format",
        "file_path",
        "file_size_in_bytes",
        "partition",
        "record_count",
        "spec_id",
    )
    content: DataFileContent
    file_path: str
    file_format: FileFormat
    partition: Record
    record_count: int
    file_size_in_bytes: int
    spec_id: int
    _origin: _Origin
    _rest: bytes
    _bounds_at: int

    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def bounds(self) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """The lower and the upper bounds of the columns, by field id."""
        layout, rest = self._origin.layout, self._rest
        decoder = new_decoder(rest)
        try:
            if self._bounds_at == _NOT_SOUGHT:
                if layout.pass_to_bounds is not None:
                    layout.pass_to_bounds(decoder)
                self._bounds_at = decoder.tell()
            else:
                decoder.skip(self._bounds_at)
            found: tuple[dict[int, bytes], dict[int, bytes]] = layout.read_bounds(decoder)
            check_place(decoder, rest)
        except Exception as exc:
            raise unreadable("manifest", self._origin.path, exc) from exc
        return found

    @property
    def value_counts(self) -> dict[int, int]:
        """How many values each column has, by field id."""
        found: dict[int, int] = self.value(_VALUE_COUNTS)
        return found

    @property
    def null_value_counts(self) -> dict[int, int]:
        """How many of them are NULL."""
        found: dict[int, int] = self.value(_NULL_COUNTS)
        return found

    @property
    def nan_value_counts(self) -> dict[int, int]:
        """How many of them are NaN."""
        found: dict[int, int] = self.value(_NAN_COUNTS)
        return found

    @property
    def lower_bounds(self) -> dict[int, bytes]:
        """The lower bounds of the columns, by field id."""
        found: dict[int, bytes] = self.value(_LOWER)
        return found

    @property
    def upper_bounds(self) -> dict[int, bytes]:
        """The upper bounds of the columns, by field id."""
        found: dict[int, bytes] = self.value(_UPPER)
        return found

    def value(self, place: int) -> Any:
        """A value that is not decoded yet, by its place among those of format version 3."""
        pass_before, read = self._origin.layout.ways[place]
        decoder = new_decoder(self._rest)
        try:
            if pass_before is not None:
                pass_before(decoder)
            value = read(decoder)
            check_place(decoder, self._rest)
        except Exception as exc:
            raise unreadable("manifest", self._origin.path, exc) from exc
        return value

    @property
    def _data(self) -> list[Any]:  # type: ignore[override]
        try:
            values = self._origin.layout.values(self._rest)
        except Exception as exc:
            raise unreadable("manifest", self._origin.path, exc) from exc
        values[:6] = (
            self.content,
            self.file_path,
            self.file_format,
            self.partition,
            self.record_count,
            self.file_size_in_bytes,
        )
        return values

    def __setitem__(self, pos: int, value: Any) -> None:
        raise TypeError("a file that a manifest lists cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return _whole_file, (self._data, self.spec_id)


def _whole_file(values: list[Any], spec_id: int) -> DataFile:
    file = DataFile(*values)
    file.spec_id = spec_id
    return file


class _Origin(NamedTuple):
    """What the files of a manifest have in common: where it is, and how what it says of a file is read."""

    path: str
    layout: Layout


class Layout:
    """How the entries of manifests of one Avro schema are read.

    Attributes:
        whole: Reads an entry with everything in it.
        ways: For each value of a file that is not shown, what passes over those before it in `ListedFile._rest`, and
            what reads it.
        pass_to_bounds: Passes over what stands there before the bounds.
        read_bounds: Reads the lower and the upper bounds.
    """

    def __init__(self, written: Schema) -> None:
        tree = resolve_reader(
            written,
            _READ_SCHEMA,
            read_types={-1: ManifestEntry, 2: DataFile},
            read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
        )
        assert isinstance(tree, StructReader)
        self.whole = reading(tree)
        middle = [place for place, _ in tree.field_readers].index(_DATA_FILE)
        file = tree.field_readers[middle][1]
        assert isinstance(file, StructReader)
        before, after = tree.field_readers[:middle], tree.field_readers[middle + 1 :]
        fields = file.field_readers
        # Fields that the manifest lacks stand last, and have one value for all entries.
        nothing = new_decoder(b"")
        lacking = [(place, reader.read(nothing)) for place, reader in fields if isinstance(reader, _ABSENT)]
        self._file = [(place, value) for place, value in lacking if place is not None]
        self._entry = [(p, r.read(nothing)) for p, r in after if p is not None and isinstance(r, _ABSENT)]
        self._before = [(place, reading(reader)) for place, reader in before]
        self._after = [(place, reading(reader)) for place, reader in after if not isinstance(reader, _ABSENT)]
        present = [(place, reader) for place, reader in fields if not isinstance(reader, _ABSENT)]
        first = [place for place, _ in present].index(_PATH)
        self.ordinary = not self._after and _is_ordinary(present, first)
        # The rest begins behind the size; in a manifest that has another order it is everything, and read at once.
        rest = present[first + 5 :] if self.ordinary else present
        self._head = [(place, reading(reader)) for place, reader in present[:first]]
        self._read_tail = _reading_pair(*(reader for _, reader in (present + present)[first + 1 : first + 3]))
        self._pass_rest = passing_all([reader for _, reader in rest])
        self._rest = [(place, reading(reader)) for place, reader in rest]
        self.ways: dict[int, tuple[Read | None, Read]] = {
            place: (None, _constant(value)) for place, value in self._file
        }
        for n, (place, reader) in enumerate(rest):
            if place is not None:
                self.ways[place] = passing_all([other for _, other in rest[:n]]), reading(reader)
        self.pass_to_bounds, self.read_bounds = self._bounds(rest)

    def values(self, rest: bytes) -> list[Any]:
        """The values of a file, as far as they stand in the rest of an entry, each in its place.

        Raises:
            ValueError: The rest ends before they do.
        """
        values: list[Any] = [None] * _FILE_WIDTH
        for place, value in self._file:
            values[place] = value
        decoder = new_decoder(rest)
        for at, read in self._rest:
            value = read(decoder)
            if at is not None:
                values[at] = value
        check_place(decoder, rest)
        return values

    def listing(self, blocks: Blocks, manifest: ManifestFile) -> Listing:
        """The files in the blocks of a manifest that are not marked as deleted.

        Raises:
            ValueError: A block was cut off, or an entry lacks what it has to have.
        """
        if not self.ordinary:
            return self._unordinary_listing(blocks, manifest)
        origin, spec_id = _Origin(manifest.manifest_path, self), manifest.partition_spec_id
        read_tail, pass_rest = self._read_tail, self._pass_rest
        head = tail = b""
        status: Any = None
        content, file_format, partition, age = DataFileContent.DATA, FileFormat.PARQUET, Record(), 0
        shared: dict[bytes, tuple[FileFormat, Record]] = {}
        found: list[LiveEntry] = []
        size_bytes = 0
        for count, block in blocks:
            decoder = new_decoder(block)
            length, at = len(block), 0
            for number in range(count):
                if head and block.startswith(head, at):
                    decoder.skip(len(head))
                else:
                    status, age, content = self._read_head(decoder, manifest)
                    head = block[at : decoder.tell()]
                path = decoder.read_utf8()
                at = decoder.tell()
                if tail and block.startswith(tail, at):
                    decoder.skip(len(tail))
                else:
                    values = read_tail(decoder)
                    tail = block[at : decoder.tell()]
                    file_format, partition = shared.setdefault(tail, values)
                record_count, file_size_in_bytes = decoder.read_int(), decoder.read_int()
                start = decoder.tell()
                if number == count - 1:
                    at = length
                else:
                    if pass_rest is not None:
                        pass_rest(decoder)
                    at = decoder.tell()
                if start > length or at > length:
                    raise ValueError("the file was cut off")
                if status is ManifestEntryStatus.DELETED:
                    continue
                file = ListedFile.__new__(ListedFile)
                file.content, file.file_path, file.file_format = content, path, file_format
                file.partition, file.spec_id = partition, spec_id
                file.record_count, file.file_size_in_bytes = record_count, file_size_in_bytes
                file._origin, file._rest, file._bounds_at = origin, block[start:at], _NOT_SOUGHT
                found.append(LiveEntry(file, age))
                size_bytes += len(path) + at - start
        size_bytes += len(found) * _BYTES_AN_ENTRY + sum(map(_size_of_shared, shared))
        return Listing(tuple(found), size_bytes)

    def _read_head(
        self, decoder: BinaryDecoder, manifest: ManifestFile
    ) -> tuple[ManifestEntryStatus, int, DataFileContent]:
        """What stands before the path: status, age, and what the file is."""
        entry: dict[int | None, Any] = dict(self._entry)
        file: dict[int | None, Any] = dict(self._file)
        for place, read in self._before:
            entry[place] = read(decoder)
        for place, read in self._head:
            file[place] = read(decoder)
        status = entry[_STATUS]
        age = 0 if status is ManifestEntryStatus.DELETED else _age(status, entry.get(_SEQUENCE_NUMBER), manifest)
        return status, age, _KINDS[file[_CONTENT]]  # manifests of format version 1 lack it, and get a plain number

    def _unordinary_listing(self, blocks: Blocks, manifest: ManifestFile) -> Listing:
        """The same for a manifest whose fields stand in an order that no writer known uses."""
        origin, spec_id = _Origin(manifest.manifest_path, self), manifest.partition_spec_id
        found: list[LiveEntry] = []
        size_bytes = 0
        for count, block in blocks:
            decoder = new_decoder(block)
            for _ in range(count):
                entry: dict[int | None, Any] = dict(self._entry)
                for place, read in self._before:
                    entry[place] = read(decoder)
                start = decoder.tell()
                if self._pass_rest is not None:
                    self._pass_rest(decoder)
                rest = block[start : decoder.tell()]
                for place, read in self._after:
                    entry[place] = read(decoder)
                check_place(decoder, block)
                status = entry[_STATUS]
                if status is ManifestEntryStatus.DELETED:
                    continue
                values = self.values(rest)
                file = ListedFile.__new__(ListedFile)
                file.content = _KINDS[values[_CONTENT]]
                file.file_path, file.file_format, file.partition = values[_PATH : _PARTITION + 1]
                file.record_count, file.file_size_in_bytes = values[_RECORDS], values[_SIZE]
                file.spec_id, file._origin, file._rest, file._bounds_at = spec_id, origin, rest, _NOT_SOUGHT
                found.append(LiveEntry(file, _age(status, entry.get(_SEQUENCE_NUMBER), manifest)))
                size_bytes += len(file.file_path) + len(rest) + _BYTES_AN_ENTRY + _size_of_shared(rest)
        return Listing(tuple(found), size_bytes)

    def _bounds(self, rest: Fields) -> tuple[Read | None, Read]:
        """What passes over what is before the bounds, and what reads them."""
        places = [place for place, _ in rest]
        at = places.index(_LOWER) if _LOWER in places else len(places)
        if places[at : at + 2] == [_LOWER, _UPPER]:
            read_lower, read_upper = (reading(reader) for _, reader in rest[at : at + 2])
            pass_before = passing_all([reader for _, reader in rest[:at]])
            return pass_before, lambda decoder: (read_lower(decoder) or {}, read_upper(decoder) or {})
        steps = [(place, reading(reader)) for place, reader in rest]

        def read_apart(decoder: BinaryDecoder) -> tuple[dict[int, bytes], dict[int, bytes]]:
            values = {place: read(decoder) for place, read in steps}
            return values.get(_LOWER) or {}, values.get(_UPPER) or {}

        return None, read_apart


LAYOUTS = Layouts(Layout)

Fields = Sequence[tuple[int | None, Reader]]
"""The fields of a struct as they stand in a file: where each belongs, and what reads it."""

_ABSENT = (NoneReader, DefaultReader)
_KINDS = tuple(DataFileContent)


def _is_ordinary(fields: Fields, first: int) -> bool:
    """Whether the fields from the path on, the first one, to the size stand in the order of the specification."""
    places, readers = [place for place, _ in fields[first:]], [reader for _, reader in fields[first:]]
    return (
        places[:5] == [_PATH, _FORMAT, _PARTITION, _RECORDS, _SIZE]
        and isinstance(readers[0], StringReader)
        and all(isinstance(reader, IntegerReader) for reader in readers[3:5])
        and _CONTENT not in places
    )


def _reading_pair(one: Reader, other: Reader) -> Read:
    read_one, read_other = reading(one), reading(other)
    return lambda decoder: (read_one(decoder), read_other(decoder))


def _size_of_shared(written: bytes) -> int:
    return _BYTES_A_PARTITION + len(written) * _BYTES_A_BYTE


def _constant(value: Any) -> Read:
    return lambda _: value


def _age(status: ManifestEntryStatus, number: int | None, manifest: ManifestFile) -> int:
    """The data sequence number of an entry, inherited where it has none of its own."""
    if number is None and (status is ManifestEntryStatus.ADDED or manifest.sequence_number == 0):
        number = manifest.sequence_number
    if number is None:
        raise ValueError("an entry has no sequence number, and none to inherit")
    return number
