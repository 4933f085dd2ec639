"""The entries of a manifest, as PyIceberg reads them but for doubles.

PyIceberg's compiled Avro decoder returns a double with the precision of a float. Doubles stand in manifests as
partition values alone, where 0.1 would become 0.10000000149: files that hold the value asked for would be left out of
scans, and a manifest that is merged into another would be wrong for every reader. Its decoder in Python is exact, but
slow, so it decodes only the manifests of specs with such a partition value.

PyIceberg reads manifests as those of format version 2. Here they are read as those of version 3, whatever they are:
fields that a manifest lacks are None, and a file's further values stand behind those of version 2, so PyIceberg's
writers, which know a value by its place, are not disturbed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pyiceberg.avro.decoder import StreamingBinaryDecoder
from pyiceberg.avro.file import SYNC_SIZE, AvroFile, Block
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    _inherit_from_manifest,
)
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, StructType

__all__ = ["LiveEntry", "content_range", "read_entries", "referenced_data_file"]

_READ_SCHEMA = MANIFEST_ENTRY_SCHEMAS[3]

# Where a file's values of format version 3 stand, behind those that PyIceberg has names for.
_REFERENCED_DATA_FILE = 17
_CONTENT_OFFSET = 18
_CONTENT_SIZE = 19


class LiveEntry(NamedTuple):
    """A file that a manifest lists as there.

    Attributes:
        file: The file.
        sequence_number: Its data sequence number: how old its rows, or its deletes, are.
    """

    file: DataFile
    sequence_number: int


def referenced_data_file(file: DataFile) -> str | None:
    """The one data file that a delete file is about, where its manifest says so."""
    found = _value(file, _REFERENCED_DATA_FILE)
    return None if found is None else str(found)


def content_range(file: DataFile) -> tuple[int, int] | None:
    """Offset and length of a deletion vector in its file, where its manifest says so."""
    offset, size = _value(file, _CONTENT_OFFSET), _value(file, _CONTENT_SIZE)
    return None if offset is None or size is None else (int(offset), int(size))


def _value(file: DataFile, place: int) -> Any:
    return file._data[place] if len(file._data) > place else None


def read_entries(manifest: ManifestFile, io: FileIO, *, deleted: bool = False) -> list[ManifestEntry]:
    """The entries of a manifest, with what they inherit from it filled in.

    Args:
        manifest: The manifest.
        io: Where it is read.
        deleted: Whether entries that are marked as deleted are wanted too.

    Raises:
        Exception: Whatever PyIceberg raises on a file that is missing or no manifest.
    """
    with _ManifestReader(
        io.new_input(manifest.manifest_path),
        _READ_SCHEMA,
        read_types={-1: ManifestEntry, 2: DataFile},
        read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
    ) as reader:
        return [
            _inherit_from_manifest(entry, manifest)
            for entry in reader
            if deleted or entry.status != ManifestEntryStatus.DELETED
        ]


class _ManifestReader(AvroFile[ManifestEntry]):
    """Decodes blocks exactly where the partition values demand it."""

    def _read_block(self) -> int:
        if not _has_double(self.schema):
            return super()._read_block()
        if self.block is not None and self.decoder.read(SYNC_SIZE) != self.header.sync:
            raise ValueError("the sync marker between two blocks of a manifest is wrong")
        count = self.decoder.read_int()
        content = self.decoder.read_bytes()
        codec = self.header.compression_codec()
        if codec is not None:
            content = codec.decompress(content)
        self.block = Block(reader=self.reader, block_records=count, block_decoder=StreamingBinaryDecoder(content))
        return count


def _has_double(manifest: Schema) -> bool:
    data_file = manifest.find_type("data_file")
    assert isinstance(data_file, StructType)
    partition = next(field.field_type for field in data_file.fields if field.name == "partition")
    assert isinstance(partition, StructType)
    return any(isinstance(field.field_type, DoubleType) for field in partition.fields)
