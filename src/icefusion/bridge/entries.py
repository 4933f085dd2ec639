"""The entries of a manifest, and the manifests of a snapshot: which files are there, and how old they are.

PyIceberg reads manifests as those of format version 2. Here they are read as those of version 3, whatever they are:
fields that a manifest lacks are None, and a file's further values stand behind those of version 2, so PyIceberg's
writers, which know a value by its place, are not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.reader import StructReader
from pyiceberg.avro.resolver import resolve_reader
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,
)
from pyiceberg.schema import Schema

from icefusion.bridge.avro import Blocks, Layouts, check_place, read_blocks, read_records, reading, reading_fields
from icefusion.bridge.listed import LAYOUTS, ListedFile, Listing

__all__ = [
    "content_range",
    "decode_live_entries",
    "fetch",
    "read_entries",
    "read_list",
    "referenced_data_file",
]

_LIST_SCHEMA = MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION]

# Where a file's values of format version 3 stand, behind those that PyIceberg has names for.
_REFERENCED_DATA_FILE = 17
_CONTENT_OFFSET = 18
_CONTENT_SIZE = 19

_SUMMARIES = 13  # where the partition summaries of a manifest stand


def referenced_data_file(file: DataFile) -> str | None:
    """The one data file that a delete file is about, where its manifest says so."""
    found = _value(file, _REFERENCED_DATA_FILE)
    return None if found is None else str(found)


def content_range(file: DataFile) -> tuple[int, int] | None:
    """Offset and length of a deletion vector in its file, where its manifest says so."""
    offset, size = _value(file, _CONTENT_OFFSET), _value(file, _CONTENT_SIZE)
    return None if offset is None or size is None else (int(offset), int(size))


def _value(file: DataFile, place: int) -> Any:
    if isinstance(file, ListedFile):
        return file.value(place)
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
    entries = read_records(LAYOUTS.of(schema).whole, blocks)
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
    return tuple(_LIST_LAYOUTS.of(schema).read(blocks))


def decode_live_entries(content: bytes, manifest: ManifestFile) -> Listing:
    """The files of a manifest that are not marked as deleted.

    Args:
        content: The bytes of the manifest.
        manifest: What the manifest list says of it.

    Raises:
        Exception: Whatever PyIceberg raises on what is no manifest.
    """
    schema, blocks = read_blocks(_complete(content, manifest))
    return LAYOUTS.of(schema).listing(blocks, manifest)


def _complete(content: bytes, manifest: ManifestFile) -> bytes:
    """The content, if nothing is missing of it: one that was cut off behind a block cannot be told in another way."""
    if len(content) < manifest.manifest_length:
        raise ValueError(f"it has {len(content)} bytes, its manifest list says {manifest.manifest_length}")
    return content


def fetch(path: str, io: FileIO) -> bytes:
    """The bytes of a file."""
    with io.new_input(path).open() as stream:
        return stream.read()


class _ListLayout:
    """How manifest lists of one Avro schema are read.

    Manifests of commits that follow each other often cover the same partitions. Their summaries, which cost most, are
    read once where the same bytes stand again, and are one object then.
    """

    def __init__(self, written: Schema) -> None:
        tree = resolve_reader(
            written,
            _LIST_SCHEMA,
            read_types={-1: ManifestFile, 508: PartitionFieldSummary},
            read_enums={517: ManifestContent},
        )
        assert isinstance(tree, StructReader)
        places = [place for place, _ in tree.field_readers]
        readers = [reader for _, reader in tree.field_readers]
        self._whole = reading(tree)
        self._sharing = places == list(range(len(places)))
        self._before = reading_fields(readers[:_SUMMARIES], _listed)
        self._summaries = reading(readers[_SUMMARIES])
        self._after = reading_fields(readers[_SUMMARIES + 1 :], _listed)

    def read(self, blocks: Blocks) -> Iterator[ManifestFile]:
        """The manifests in the blocks of a list.

        Raises:
            ValueError: A block was cut off.
        """
        if not self._sharing:
            yield from read_records(self._whole, blocks)
            return
        written = b""
        summaries: Any = None
        for count, block in blocks:
            decoder = new_decoder(block)
            for _ in range(count):
                values = self._before(decoder)
                at = decoder.tell()
                if written and block.startswith(written, at):
                    decoder.skip(len(written))
                else:
                    summaries = self._summaries(decoder)
                    written = block[at : decoder.tell()]
                values.append(summaries)
                values += self._after(decoder)
                check_place(decoder, block)
                yield ManifestFile(*values)


def _listed(*values: Any) -> list[Any]:
    return list(values)


_LIST_LAYOUTS = Layouts(_ListLayout)
