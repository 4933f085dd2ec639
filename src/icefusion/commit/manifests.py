"""Manifest files and manifest lists.

Theory of operation. A commit's own entries are written once, into one or more manifests for each partition spec; they
name the commit's snapshot id, which never changes, and leave the sequence numbers empty, to be inherited from the
manifest list (spec, "Sequence Number Inheritance"). So these manifests stay valid however often the swap is tried
again: an attempt costs one manifest list, and a merged manifest only when the small ones it replaces have changed.

Files that a commit removes stand in manifests of earlier commits. Those are written anew, the removed files marked as
deleted in them and the others carried over with their sequence numbers. Rewritten ones are kept through all attempts
too, as long as the manifests that they replace are still in the newest list. A manifest in which nothing is left goes
with the commit after.

A delete file that is older than every data file left deletes nothing any more, and goes with the data file that was the
last one of its age, as the Java implementation does it.

Small manifests are merged as the Java implementation does: by bins of ``commit.manifest.target-size-bytes``, and only
once ``commit.manifest.min-count-to-merge`` of them have come together, so that many small appends cost little on
average and the manifest list stays short. Manifests of data files and of delete files are never mixed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.manifest import (
    UNASSIGNED_SEQ,
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV1,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.locations import LocationProvider, load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IntegerType, ListType, NestedField, StructType

from icefusion.bridge.entries import read_entries
from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.partition import schema_of_spec
from icefusion.commit.operations import FileChange
from icefusion.config import WriteProperties
from icefusion.errors import ConfigurationError

__all__ = ["ManifestStage"]

_ENTRIES_A_BLOCK = 1_000
_CODECS: dict[str, AvroCompressionCodec] = {
    "gzip": "deflate",
    "zlib": "deflate",
    "deflate": "deflate",
    "uncompressed": "null",
    "null": "null",
    "none": "null",
    "zstd": "zstandard",
    "zstandard": "zstandard",
    "snappy": "snappy",
    "bzip2": "bzip2",
}

_Known = tuple[str, int | None]


@dataclass
class ManifestStage:
    """The manifests and manifest lists of one commit to one table, through all its attempts.

    Attributes:
        metadata: The metadata that the files were written under: their specs and schema are taken from it.
        io: Where to write.
        snapshot_id: The snapshot that the commit makes.
        reader: Where manifest lists are kept in memory.
        written: Every path written so far, whether it is still needed or not.
    """

    metadata: TableMetadata
    io: FileIO
    snapshot_id: int
    reader: ManifestReader
    written: list[str] = field(default_factory=list)
    _added: list[ManifestFile] | None = None
    _rewritten: dict[tuple[_Known, frozenset[str]], list[ManifestFile]] = field(default_factory=dict)
    _merged: dict[tuple[_Known, ...], list[ManifestFile]] = field(default_factory=dict)
    _commit_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    _count: int = 0
    _attempts: int = 0

    def added_manifests(self, files: FileChange) -> list[ManifestFile]:
        """Manifests that list the new files as added; written the first time, the same ones ever after."""
        if self._added is None:
            self._added = []
            for content, new in ((ManifestContent.DATA, files.added), (ManifestContent.DELETES, files.added_deletes)):
                for spec_id, group in groupby(sorted(new, key=_spec_id), key=_spec_id):
                    entries = [
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED, snapshot_id=self.snapshot_id, data_file=file
                        )
                        for file in group
                    ]
                    self._added += self._write(content, self.metadata, spec_id, entries)
        return self._added

    def without(
        self, head: TableMetadata, manifests: Sequence[ManifestFile], files: FileChange
    ) -> tuple[list[ManifestFile], list[DataFile]]:
        """Manifests of an earlier snapshot with the removed files marked as deleted, and all files that are.

        These are the files that the change removes and, where it removes data files, the delete files that are older
        than all data files that are left. Manifests that list no live file any more are left out.
        """
        live = [manifest for manifest in manifests if manifest.has_added_files() or manifest.has_existing_files()]
        data = [manifest for manifest in live if manifest.content == ManifestContent.DATA]
        kept, gone = self._without(head, data, files.removed)
        deletes = [manifest for manifest in live if manifest.content == ManifestContent.DELETES]
        oldest = _oldest(kept, head.next_sequence_number()) if files.removed else 0
        kept_deletes, gone_deletes = self._without(head, deletes, files.removed_deletes, oldest)
        return kept + kept_deletes, gone + gone_deletes

    def _without(
        self, head: TableMetadata, manifests: Sequence[ManifestFile], removed: Iterable[DataFile], oldest: int = 0
    ) -> tuple[list[ManifestFile], list[DataFile]]:
        """Manifests without some files, and without those of an age below the oldest that counts."""
        paths = {file.file_path for file in removed}
        specs = {file.spec_id for file in removed}
        kept: list[ManifestFile] = []
        gone: list[DataFile] = []
        for manifest in manifests:
            if manifest.partition_spec_id not in specs and (manifest.min_sequence_number or 0) >= oldest:
                kept.append(manifest)
                continue
            here = [
                entry.file
                for entry in self.reader.entries(manifest, self.io)
                if entry.file.file_path in paths or entry.sequence_number < oldest
            ]
            gone += here
            kept += self._rewrite(head, manifest, frozenset(file.file_path for file in here)) if here else [manifest]
        return kept, gone

    def _rewrite(self, head: TableMetadata, manifest: ManifestFile, gone: frozenset[str]) -> list[ManifestFile]:
        key = _known(manifest), gone
        if key not in self._rewritten:
            entries = [
                self._carried(entry, manifest, deleted=entry.data_file.file_path in gone)
                for entry in read_entries(manifest, self.io)
            ]
            self._rewritten[key] = self._write(manifest.content, head, manifest.partition_spec_id, entries)
        return self._rewritten[key]

    def write_list(self, head: TableMetadata, parent: Snapshot | None, manifests: Sequence[ManifestFile]) -> str:
        """Write a manifest list for one attempt and return its path."""
        path = self._provider.new_metadata_location(
            f"snap-{self.snapshot_id}-{self._attempts}-{self._commit_uuid}.avro"
        )
        self._attempts += 1
        self.written.append(path)
        sequence_number = head.next_sequence_number()
        assigned = [_assigned(manifest, sequence_number) for manifest in manifests]
        with write_manifest_list(
            format_version=head.format_version,
            output_file=self.io.new_output(path),
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent is not None else None,
            sequence_number=sequence_number,
            avro_compression=self._codec,
        ) as writer:
            writer.add_manifests(assigned)
        self.reader.remember_list(path, assigned)
        return path

    def merge(self, head: TableMetadata, own: list[ManifestFile], existing: list[ManifestFile]) -> list[ManifestFile]:
        """All manifests of the new snapshot, the commit's own first, small ones merged where it is time to."""
        properties = WriteProperties.of(head.properties)
        if not properties.manifest_merge_enabled:
            return own + existing
        result: list[ManifestFile] = []
        fresh = {manifest.manifest_path for manifest in own}
        for _, group in groupby(sorted(own + existing, key=_kind), key=_kind):
            for members in _bins(list(group), properties.target_manifest_size_bytes):
                waiting = len(members) < properties.manifest_merge_min_count and any(
                    member.manifest_path in fresh for member in members
                )
                if len(members) == 1 or waiting:
                    result += members
                else:
                    result += self._merged_manifest(head, members)
        return result

    def _merged_manifest(self, head: TableMetadata, members: list[ManifestFile]) -> list[ManifestFile]:
        key = tuple(_known(member) for member in members)
        if key not in self._merged:
            entries = [entry for member in members for entry in self._carried_entries(member)]
            first = members[0]
            self._merged[key] = self._write(first.content, head, first.partition_spec_id, entries)
        return self._merged[key]

    def _carried_entries(self, manifest: ManifestFile) -> Iterable[ManifestEntry]:
        """The entries of a manifest as they stand in a manifest that replaces it.

        Files that this commit removes stay in it, marked as deleted; those that earlier commits removed do not.
        """
        for entry in read_entries(manifest, self.io, deleted=True):
            if entry.status != ManifestEntryStatus.DELETED:
                yield self._carried(entry, manifest)
            elif entry.snapshot_id == self.snapshot_id:
                yield entry

    def _carried(self, entry: ManifestEntry, manifest: ManifestFile, *, deleted: bool = False) -> ManifestEntry:
        """A live entry as it stands in a manifest that replaces its own."""
        if manifest.sequence_number == UNASSIGNED_SEQ and entry.status == ManifestEntryStatus.ADDED:
            # Our own files keep their status, and inherit their sequence numbers later.
            return ManifestEntry.from_args(
                status=entry.status, snapshot_id=entry.snapshot_id, data_file=entry.data_file
            )
        return ManifestEntry.from_args(
            status=ManifestEntryStatus.DELETED if deleted else ManifestEntryStatus.EXISTING,
            snapshot_id=self.snapshot_id if deleted else entry.snapshot_id,
            sequence_number=entry.sequence_number,
            file_sequence_number=entry.file_sequence_number,
            data_file=entry.data_file,
        )

    def _write(
        self, content: ManifestContent, metadata: TableMetadata, spec_id: int, entries: list[ManifestEntry]
    ) -> list[ManifestFile]:
        """Write entries into manifests of about the target size."""
        spec = metadata.specs()[spec_id]
        schema = schema_of_spec(spec, metadata)
        manifests: list[ManifestFile] = []
        target_bytes = WriteProperties.of(self.metadata.properties).target_manifest_size_bytes
        remaining = entries
        while remaining:
            path = self._provider.new_metadata_location(f"{self._commit_uuid}-m{self._count}.avro")
            self._count += 1
            self.written.append(path)
            writer = self._writer(content, spec, schema, self.io.new_output(path))
            with writer:
                while remaining:
                    writer.add_block(remaining[:_ENTRIES_A_BLOCK])
                    remaining = remaining[_ENTRIES_A_BLOCK:]
                    if writer.tell() >= target_bytes:
                        break
            manifests.append(writer.to_manifest_file())
        return manifests

    def _writer(
        self, content: ManifestContent, spec: PartitionSpec, schema: Schema, output: OutputFile
    ) -> _BlockWriterV1 | _BlockWriterV2:
        if self.metadata.format_version == 1:
            return _BlockWriterV1(spec, schema, output, self.snapshot_id, self._codec)
        writer = _BlockWriterV2 if content == ManifestContent.DATA else _DeletesWriterV2
        return writer(spec, schema, output, self.snapshot_id, self._codec)

    @property
    def _provider(self) -> LocationProvider:
        return load_location_provider(self.metadata.location, self.metadata.properties)

    @property
    def _codec(self) -> AvroCompressionCodec:
        codec = WriteProperties.of(self.metadata.properties).avro_compression_codec
        if codec not in _CODECS:
            raise ConfigurationError(
                f"write.avro.compression-codec: unknown codec {codec!r}", hint=f"one of {', '.join(_CODECS)}"
            )
        return _CODECS[codec]


class _BlockWriterV1(ManifestWriterV1):
    """Adds entries a block at a time, where PyIceberg makes a block, and a compression run, of each entry."""

    def add_block(self, entries: list[ManifestEntry]) -> None:
        _add_block(self, entries)


class _BlockWriterV2(ManifestWriterV2):
    """The same for format version 2."""

    def add_block(self, entries: list[ManifestEntry]) -> None:
        _add_block(self, entries)


class _DeletesWriterV2(_BlockWriterV2):
    """The same for manifests of delete files, which PyIceberg does not write."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = _with_int_equality_ids(self._with_partition(self.version))
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=schema,
            record_schema=schema,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


def _with_int_equality_ids(schema: Schema) -> Schema:
    """The schema of a manifest with ids of the type that the specification says.

    PyIceberg writes longs, on which the reference implementation fails.
    """
    data_file = schema.find_type("data_file")
    assert isinstance(data_file, StructType)
    ids = NestedField(135, "equality_ids", ListType(136, IntegerType(), element_required=True), required=False)
    struct = StructType(*(ids if field.field_id == ids.field_id else field for field in data_file.fields))
    return Schema(
        *(
            NestedField(2, "data_file", struct, required=True) if field.field_id == 2 else field
            for field in schema.fields
        )
    )


def _add_block(writer: ManifestWriter, entries: list[ManifestEntry]) -> None:
    held: list[ManifestEntry] = []
    output, writer._writer = writer._writer, _Collector(held)  # type: ignore[assignment]
    try:
        for entry in entries:
            writer.add_entry(entry)
    finally:
        writer._writer = output
    output.write_block(held)


class _Collector:
    """Stands in for the Avro file while PyIceberg's writer counts and checks entries."""

    def __init__(self, held: list[ManifestEntry]) -> None:
        self._held = held

    def write_block(self, entries: list[ManifestEntry]) -> None:
        self._held += entries


def _assigned(manifest: ManifestFile, sequence_number: int) -> ManifestFile:
    """The manifest as it stands in a list: one that was not in any before inherits the list's sequence number.

    PyIceberg's writer does the same to a shallow copy, whose values are the original's own: a second attempt would keep
    the number of the first.
    """
    if UNASSIGNED_SEQ not in (manifest.sequence_number, manifest.min_sequence_number):
        return manifest
    values = list(manifest._data)
    assigned = ManifestFile(*values)
    if assigned.sequence_number == UNASSIGNED_SEQ:
        assigned.sequence_number = sequence_number
    if assigned.min_sequence_number == UNASSIGNED_SEQ:
        assigned.min_sequence_number = sequence_number
    return assigned


def _oldest(data_manifests: Iterable[ManifestFile], newest: int) -> int:
    """How old the oldest data file is that some manifests list; the newest age where they list none."""
    ages = [
        manifest.min_sequence_number or 0
        for manifest in data_manifests
        if manifest.has_added_files() or manifest.has_existing_files()
    ]
    return min(ages, default=newest)


def _known(manifest: ManifestFile) -> _Known:
    """What tells a manifest from others: one of a commit that is stacked below has another age in each attempt."""
    return manifest.manifest_path, manifest.sequence_number


def _spec_id(file: DataFile) -> int:
    return file.spec_id


def _kind(manifest: ManifestFile) -> tuple[int, int]:
    """Manifests of one kind may be merged; data files and the newest specs come first."""
    return int(manifest.content), -manifest.partition_spec_id


def _bins(manifests: list[ManifestFile], target_bytes: int) -> list[list[ManifestFile]]:
    """Neighbours together up to the target size, packed from the oldest: the newest bin is the one that fills."""
    bins: list[list[ManifestFile]] = []
    size_bytes = 0
    for manifest in reversed(manifests):
        if bins and size_bytes + manifest.manifest_length <= target_bytes:
            bins[-1].append(manifest)
            size_bytes += manifest.manifest_length
        else:
            bins.append([manifest])
            size_bytes = manifest.manifest_length
    return [list(reversed(members)) for members in reversed(bins)]
