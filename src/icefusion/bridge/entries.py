"""The entries of a manifest: which files are there, and how old they are.

A table has many files, and most queries want few of them, so what is read of each is little: where it is, its
partition, its size, and which of its columns hold NULL and NaN. The rest, bounds of columns above all, stays the bytes
that it was, a few hundred of them, and is decoded when it is asked for (`ListedFile`). What is equal among the files of
a manifest, partitions for instance, is one object.

PyIceberg reads manifests as those of format version 2. Here they are read as those of version 3, whatever they are:
fields that a manifest lacks are None, and a file's further values stand behind those of version 2, so PyIceberg's
writers, which know a value by its place, are not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyiceberg.avro.decoder import BinaryDecoder, new_decoder
from pyiceberg.avro.reader import Reader, StructReader
from pyiceberg.avro.resolver import resolve_reader
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,
)
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from icefusion.bridge.avro import Layouts, Read, check_place, passing, passing_all, read_blocks, read_records, reading

__all__ = [
    "ListedFile",
    "Listing",
    "LiveEntry",
    "content_range",
    "decode_live_entries",
    "fetch",
    "read_entries",
    "read_list",
    "referenced_data_file",
]

_READ_SCHEMA = MANIFEST_ENTRY_SCHEMAS[3]
_LIST_SCHEMA = MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION]

# Where the values of an entry stand, and those of a file.
_STATUS, _SEQUENCE_NUMBER, _DATA_FILE = 0, 2, 4
_ENTRY_WIDTH = 5
_CONTENT, _PATH, _FORMAT, _PARTITION, _RECORDS, _SIZE = range(6)
_NULL_COUNTS, _NAN_COUNTS, _LOWER, _UPPER = range(8, 12)
_FILE_WIDTH = len(DATA_FILE_TYPE[3].fields)
_SHOWN = (_CONTENT, _PATH, _FORMAT, _PARTITION, _RECORDS, _SIZE, _NULL_COUNTS, _NAN_COUNTS)
_SHARED = (_PARTITION, _NULL_COUNTS, _NAN_COUNTS)
_KINDS = tuple(DataFileContent)
_NOWHERE = -1  # the place of what is read and not wanted: one more behind all others

# Where a file's values of format version 3 stand, behind those that PyIceberg has names for.
_REFERENCED_DATA_FILE = 17
_CONTENT_OFFSET = 18
_CONTENT_SIZE = 19

# What objects take in memory, beside the bytes of texts and values themselves; tests/bridge measures it.
_BYTES_AN_ENTRY = 430
_BYTES_A_SHARED_VALUE = 500


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

    What has no place of its own here, `DataFile` takes from ``_data``, which is decoded each time.
    """

    __slots__ = (
        "_bounds_at",
        "_layout",
        "_rest",
        "content",
        "file_format",
        "file_path",
        "file_size_in_bytes",
        "nan_value_counts",
        "null_value_counts",
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
    null_value_counts: dict[int, int]
    nan_value_counts: dict[int, int]
    spec_id: int
    _layout: _Layout
    _rest: bytes
    _bounds_at: int

    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def bounds(self) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """The lower and the upper bounds of the columns, by field id."""
        values: list[Any] = [None] * (_FILE_WIDTH + 1)
        decoder = new_decoder(self._rest[self._bounds_at :])
        for place, read in self._layout.bounds:
            values[place] = read(decoder)
        return values[_LOWER] or {}, values[_UPPER] or {}

    @property
    def _data(self) -> list[Any]:  # type: ignore[override]
        values: list[Any] = [None] * (_FILE_WIDTH + 1)
        decoder = new_decoder(self._rest)
        for place, read in self._layout.rest:
            values[place] = read(decoder)
        values.pop()
        values[:6] = (
            self.content,
            self.file_path,
            self.file_format,
            self.partition,
            self.record_count,
            self.file_size_in_bytes,
        )
        values[_NULL_COUNTS], values[_NAN_COUNTS] = self.null_value_counts, self.nan_value_counts
        return values

    def __setitem__(self, pos: int, value: Any) -> None:
        raise TypeError("a file that a manifest lists cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return _whole_file, (self._data, self.spec_id)


def _whole_file(values: list[Any], spec_id: int) -> DataFile:
    file = DataFile(*values)
    file.spec_id = spec_id
    return file


def referenced_data_file(file: DataFile) -> str | None:
    """The one data file that a delete file is about, where its manifest says so."""
    found = _value(file, _REFERENCED_DATA_FILE)
    return None if found is None else str(found)


def content_range(file: DataFile) -> tuple[int, int] | None:
    """Offset and length of a deletion vector in its file, where its manifest says so."""
    offset, size = _value(file, _CONTENT_OFFSET), _value(file, _CONTENT_SIZE)
    return None if offset is None or size is None else (int(offset), int(size))


def _value(file: DataFile, place: int) -> Any:
    values = file._data
    return values[place] if len(values) > place else None


def read_entries(manifest: ManifestFile, io: FileIO, *, deleted: bool = False) -> list[ManifestEntry]:
    """The entries of a manifest, with what they inherit from it filled in.

    Args:
        manifest: The manifest.
        io: Where it is read.
        deleted: Whether entries that are marked as deleted are wanted too.

    Raises:
        Exception: Whatever PyIceberg raises on a file that is missing or no manifest.
    """
    schema, blocks = read_blocks(_complete(fetch(manifest.manifest_path, io), manifest))
    entries = read_records(_LAYOUTS.of(schema).whole, blocks)
    return [
        _inherit_from_manifest(entry, manifest)
        for entry in entries
        if deleted or entry.status != ManifestEntryStatus.DELETED
    ]


def read_list(path: str, io: FileIO) -> tuple[ManifestFile, ...]:
    """The manifests that a manifest list names.

    Raises:
        Exception: Whatever PyIceberg raises on a file that is missing or no manifest list.
    """
    schema, blocks = read_blocks(fetch(path, io))
    return tuple(read_records(_LIST_LAYOUTS.of(schema), blocks))


def decode_live_entries(content: bytes, manifest: ManifestFile) -> Listing:
    """The files of a manifest that are not marked as deleted.

    Args:
        content: The bytes of the manifest.
        manifest: What the manifest list says of it.

    Raises:
        Exception: Whatever PyIceberg raises on what is no manifest.
    """
    schema, blocks = read_blocks(_complete(content, manifest))
    layout = _LAYOUTS.of(schema)
    found: list[LiveEntry] = []
    shared: _Shared = {}
    size_bytes = 0
    for count, block in blocks:
        for values, file in layout.live(block, count, manifest.partition_spec_id, shared):
            found.append(LiveEntry(file, _age(values, manifest)))
            size_bytes += len(file.file_path) + len(file._rest)
    size_bytes += len(found) * _BYTES_AN_ENTRY + len(shared) * _BYTES_A_SHARED_VALUE
    return Listing(tuple(found), size_bytes)


def _age(entry: Sequence[Any], manifest: ManifestFile) -> int:
    """The data sequence number of an entry, inherited where it has none of its own."""
    age: int | None = entry[_SEQUENCE_NUMBER]
    if age is None and (entry[_STATUS] == ManifestEntryStatus.ADDED or manifest.sequence_number == 0):
        age = manifest.sequence_number
    if age is None:
        raise ValueError("an entry has no sequence number, and none to inherit")
    return age


def _complete(content: bytes, manifest: ManifestFile) -> bytes:
    """The content, if nothing is missing of it: one that was cut off behind a block cannot be told in another way."""
    if len(content) < manifest.manifest_length:
        raise ValueError(f"it has {len(content)} bytes, its manifest list says {manifest.manifest_length}")
    return content


def fetch(path: str, io: FileIO) -> bytes:
    """The bytes of a file."""
    with io.new_input(path).open() as stream:
        return stream.read()


class _Layout:
    """How the entries of manifests of one Avro schema are read.

    Attributes:
        whole: Reads an entry with everything in it.
        rest: What stands in `ListedFile._rest`: places and functions that read them.
        bounds: The same for what stands there from the first bounds to the last.
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
        self._before = _steps(tree.field_readers[:middle])
        self._after = _steps(tree.field_readers[middle + 1 :])
        # From the first value on that is not shown, the bytes are kept.
        fields = file.field_readers
        kept = next((n for n, (place, _) in enumerate(fields) if place not in _SHOWN), len(fields))
        bounds = [n for n, (place, _) in enumerate(fields) if place in (_LOWER, _UPPER)] or [kept]
        self._steps = [_file_steps(part) for part in (fields[:kept], fields[kept : bounds[0]], fields[bounds[0] :])]
        self.rest = _steps(fields[kept:])
        self.bounds = _steps(fields[bounds[0] : bounds[-1] + 1])

    def live(self, block: bytes, count: int, spec_id: int, shared: _Shared) -> Iterator[tuple[list[Any], ListedFile]]:
        """The entries of a block that are there: the values of each but for its file, and the file."""
        decoder = new_decoder(block)
        shown, before, behind = self._steps
        for _ in range(count):
            entry: list[Any] = [None] * (_ENTRY_WIDTH + 1)
            values: list[Any] = [None] * (_FILE_WIDTH + 1)
            for place, read in self._before:
                entry[place] = read(decoder)
            _take(shown, decoder, block, values, shared)
            start = decoder.tell()
            _take(before, decoder, block, values, shared)
            bounds_at = decoder.tell() - start
            _take(behind, decoder, block, values, shared)
            end = decoder.tell()
            for place, read in self._after:
                entry[place] = read(decoder)
            check_place(decoder, block)
            if entry[_STATUS] == ManifestEntryStatus.DELETED:
                continue
            file = ListedFile.__new__(ListedFile)
            file.content = _KINDS[values[_CONTENT]]  # manifests of format version 1 lack it, and get a plain number
            file.file_path, file.file_format, file.partition = values[1:4]
            file.record_count, file.file_size_in_bytes = values[_RECORDS], values[_SIZE]
            file.null_value_counts, file.nan_value_counts = values[_NULL_COUNTS], values[_NAN_COUNTS]
            file.spec_id = spec_id
            file._layout = self
            file._rest = block[start:end]
            file._bounds_at = bounds_at
            yield entry, file


def _list_layout(written: Schema) -> Read:
    tree = resolve_reader(
        written,
        _LIST_SCHEMA,
        read_types={-1: ManifestFile, 508: PartitionFieldSummary},
        read_enums={517: ManifestContent},
    )
    return reading(tree)


_LAYOUTS = Layouts(_Layout)
_LIST_LAYOUTS = Layouts(_list_layout)

_Shared = dict[tuple[int, bytes], Any]
"""Values by their place and the bytes they were read from."""

Fields = Sequence[tuple[int | None, Reader]]
"""The fields of a struct as they stand in a file: where each belongs, and what reads it."""


def _steps(fields: Fields) -> list[tuple[int, Read]]:
    return [(_NOWHERE if place is None else place, reading(reader)) for place, reader in fields]


class _FileStep(NamedTuple):
    """What is done about one value of a file, and about those before it that are not shown.

    Attributes:
        skip: Passes over the values before it.
        place: Where it belongs; None where nothing is left to be shown.
        read: Reads it.
        skip_it: Passes over it, where it may be known already.
    """

    skip: Read | None
    place: int | None
    read: Read
    skip_it: Read | None


def _file_steps(fields: Fields) -> list[_FileStep]:
    steps = []
    waiting: list[Reader] = []
    for place, reader in fields:
        if place in _SHOWN:
            skip_it = passing(reader) if place in _SHARED else None
            steps.append(_FileStep(passing_all(waiting), place, reading(reader), skip_it))
            waiting = []
        else:
            waiting.append(reader)
    if waiting:
        steps.append(_FileStep(passing_all(waiting), None, reading(waiting[-1]), None))
    return steps


def _take(steps: Sequence[_FileStep], decoder: BinaryDecoder, block: bytes, values: list[Any], shared: _Shared) -> None:
    """Take the values that are shown into their places. Equal ones are told by their bytes, and become one."""
    for skip, place, read, skip_it in steps:
        if skip is not None:
            skip(decoder)
        if place is None:
            return
        if skip_it is None:
            values[place] = read(decoder)
        else:
            start = decoder.tell()
            skip_it(decoder)
            key = place, block[start : decoder.tell()]
            if key not in shared:
                shared[key] = read(new_decoder(key[1]))
            values[place] = shared[key]
