"""Which data files a query of a snapshot has to read, and which delete files apply to them.

Planning goes from the coarse to the fine: the partition summaries of the manifest list leave out whole manifests, the
partition values and the column bounds of the entries leave out files; see `icefusion.bridge.pruning`. That goes for
data files only. A delete file counts as long as a data file that is left needs it (`icefusion.bridge.delete_index`),
whatever its own bounds say; a manifest of delete files is left out where all it lists is older than every data file
that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.delete_index import DeleteIndex
from icefusion.bridge.listed import LiveEntry
from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pausing import collection_paused
from icefusion.bridge.pruning import FileTests
from icefusion.errors import StorageError, UnsupportedStatementError
from icefusion.query.views import TableView

__all__ = ["FilePlan", "LiveFile", "Pruned", "count_pruned", "plan_files"]

# What a file of a plan that is kept takes in memory, and the file that it holds as well.
_BYTES_A_FILE = 1_200

_FORMATS = {
    DataFileContent.DATA: (FileFormat.PARQUET,),
    DataFileContent.POSITION_DELETES: (FileFormat.PARQUET, FileFormat.PUFFIN),
    DataFileContent.EQUALITY_DELETES: (FileFormat.PARQUET,),
}


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file to read.

    Attributes:
        file: The file.
        sequence_number: How old its rows are; None for a file of the open transaction, which is newer than all others.
        deletes: The delete files that apply to it.
    """

    file: DataFile
    sequence_number: int | None = None
    deletes: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class FilePlan:
    """The files to read, and how many were left out on the way to them.

    Attributes:
        files: The data files.
        manifests_total: Manifests of the snapshot.
        manifests_read: Manifests that could not be left out.
        files_total: Data files in the manifests that were read.
        delete_entries: The delete files that apply to any of the data files, each once for each data file it may
            reference, with their ages.
    """

    files: tuple[LiveFile, ...] = ()
    manifests_total: int = 0
    manifests_read: int = 0
    files_total: int = 0
    delete_entries: tuple[LiveEntry, ...] = ()

    @property
    def data_files(self) -> tuple[DataFile, ...]:
        """The data files alone."""
        return tuple(live.file for live in self.files)

    @property
    def size_bytes(self) -> int:
        """About what the plan takes in memory, the files in it included."""
        return sum(_BYTES_A_FILE + 8 * len(live.deletes) for live in self.files) + _BYTES_A_FILE * len(
            self.delete_entries
        )

    def without(self, files: Sequence[LiveFile]) -> FilePlan:
        """The plan without some of its files; delete files that are for them alone may stay."""
        gone = {live.file.file_path for live in files}
        return replace(self, files=tuple(live for live in self.files if live.file.file_path not in gone))

    @property
    def delete_files(self) -> tuple[DataFile, ...]:
        """The delete files, each once."""
        return tuple({entry.file.file_path: entry.file for entry in self.delete_entries}.values())


def plan_files(
    name: str,
    metadata: TableMetadata,
    snapshot_id: int | None,
    schema: Schema,
    io: FileIO,
    *,
    row_filter: BooleanExpression | None = None,
    staged: Sequence[DataFile] = (),
    removed: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
    reader: ManifestReader | None = None,
) -> FilePlan:
    """The data files that may hold a row for which the filter is true.

    Args:
        name: The table's name, for error messages.
        metadata: The table.
        snapshot_id: The snapshot to read; None for none.
        schema: The schema that the filter's names refer to.
        io: Where the manifests are read.
        row_filter: Which rows are wanted; None for all of them.
        staged: Further files, not yet in a snapshot. No delete file of the snapshot applies to them.
        removed: Paths of data files of the snapshot that do not count any more.
        only: Paths of the data files to read; None for all.
        reader: Reads manifests; one of its own by default.

    Raises:
        StorageError: A manifest, or the list of them, is missing or unreadable.
        UnsupportedStatementError: A file is of a format that cannot be read.
    """
    reader = reader or ManifestReader()
    row_filter = AlwaysTrue() if row_filter is None else row_filter
    if staged or removed or only is not None:
        with collection_paused():
            return _plan(name, metadata, snapshot_id, schema, io, row_filter, reader, staged, removed, only)
    # A snapshot, a schema and a filter have one answer, as long as the table has no further schemas and specs.
    key = (
        "plan",
        metadata.table_uuid,
        snapshot_id,
        schema.schema_id,
        len(metadata.schemas),
        tuple(spec.spec_id for spec in metadata.partition_specs),
        str(row_filter),
    )
    known: tuple[BooleanExpression, FilePlan] | None = reader.kept.get(key)
    if known is not None and known[0] == row_filter:
        return known[1]
    with collection_paused():
        plan = _plan(name, metadata, snapshot_id, schema, io, row_filter, reader)
    reader.kept.put(key, (row_filter, plan), plan.size_bytes)
    return plan


def _plan(
    name: str,
    metadata: TableMetadata,
    snapshot_id: int | None,
    schema: Schema,
    io: FileIO,
    row_filter: BooleanExpression,
    reader: ManifestReader,
    staged: Sequence[DataFile] = (),
    removed: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
) -> FilePlan:
    tests = FileTests(metadata, schema, row_filter)
    manifests = _manifests(metadata, snapshot_id, io, reader)
    wanted = [manifest for manifest in manifests if tests.manifest_may_match(manifest)]
    data_manifests = [manifest for manifest in wanted if manifest.content != ManifestContent.DELETES]
    new = [file for file in staged if _counts(file.file_path, frozenset(), only)]
    _check_readable(name, new)
    total = len(new)
    found: list[LiveEntry] = []
    deletes: list[LiveEntry] = []
    trivial = tests.trivial
    for listing in reader.listings(data_manifests, io):
        for entry in listing.entries:
            file = entry.file
            if file.content is not DataFileContent.DATA:
                # Some writers list delete files among the data files; what a file is, it says itself.
                deletes.append(entry)
            elif _counts(file.file_path, removed, only):
                total += 1
                if file.file_format is not FileFormat.PARQUET:
                    _check_readable(name, [file])
                if trivial or tests.file_may_match(file):
                    found.append(entry)
    delete_manifests = _relevant(wanted, found)
    for listing in reader.listings(delete_manifests, io):
        deletes += listing.entries
    files, applied = _with_deletes(found, DeleteIndex(deletes, metadata.specs()))
    _check_readable(name, [entry.file for entry in applied])
    files += [LiveFile(file) for file in new if trivial or tests.file_may_match(file)]
    return FilePlan(
        tuple(files),
        len(manifests),
        len(data_manifests) + len(delete_manifests),
        total,
        tuple(applied),
    )


@dataclass(frozen=True)
class Pruned:
    """Data files that a filter leaves out, by the step at which it does.

    Attributes:
        manifests: Manifests of data files that were left out.
        files_of_manifests: The files in them, as the manifest list counts them.
        by_partition: Files that were left out by their partition.
        by_metrics: Files that were left out by the metrics of their columns.
    """

    manifests: int = 0
    files_of_manifests: int = 0
    by_partition: int = 0
    by_metrics: int = 0


def count_pruned(view: TableView, row_filter: BooleanExpression, reader: ManifestReader) -> Pruned:
    """Count what `plan_files` has left out, over the same manifests.

    Raises:
        StorageError: A manifest, or the list of them, is missing or unreadable.
    """
    tests = FileTests(view.metadata, view.schema, row_filter)
    manifests = [
        manifest
        for manifest in _manifests(view.metadata, view.snapshot_id, view.io, reader)
        if manifest.content != ManifestContent.DELETES
    ]
    read = [manifest for manifest in manifests if tests.manifest_may_match(manifest)]
    kept = {manifest.manifest_path for manifest in read}
    left_out = [manifest for manifest in manifests if manifest.manifest_path not in kept]
    entries = (entry.file for listing in reader.listings(read, view.io) for entry in listing.entries)
    files = [file for file in entries if file.content is DataFileContent.DATA]
    counted = [file for file in files if _counts(file.file_path, view.removed, view.only)]
    counted += (file for file in view.staged if _counts(file.file_path, frozenset(), view.only))
    of_partition = [file for file in counted if tests.partition_may_match(file)]
    return Pruned(
        len(left_out),
        sum((m.added_files_count or 0) + (m.existing_files_count or 0) for m in left_out),
        len(counted) - len(of_partition),
        0 if tests.trivial else sum(not tests.file_may_match(file) for file in of_partition),
    )


def _with_deletes(entries: Sequence[LiveEntry], index: DeleteIndex) -> tuple[list[LiveFile], list[LiveEntry]]:
    """The data files with the delete files that apply to each, and all of these."""
    if not index:
        return [LiveFile(file, age) for file, age in entries], []
    files = []
    applied: dict[int, LiveEntry] = {}
    for entry in entries:
        deletes = index.applying_to(entry)
        applied.update((id(delete), delete) for delete in deletes)
        files.append(LiveFile(entry.file, entry.sequence_number, tuple(delete.file for delete in deletes)))
    return files, list(applied.values())


def _relevant(manifests: Sequence[ManifestFile], found: Sequence[LiveEntry]) -> list[ManifestFile]:
    """The manifests of delete files that may list one that is not older than all data files."""
    if not found:
        return []
    oldest = min(entry.sequence_number for entry in found)
    return [
        manifest
        for manifest in manifests
        if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest
    ]


def _manifests(
    metadata: TableMetadata, snapshot_id: int | None, io: FileIO, reader: ManifestReader
) -> Sequence[ManifestFile]:
    if snapshot_id is None:
        return []
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise StorageError(f"snapshot {snapshot_id} is not in the table's metadata", hint="it may have been expired")
    return reader.read_list(snapshot, io)


def _counts(path: str, removed: frozenset[str], only: frozenset[str] | None) -> bool:
    return path not in removed and (only is None or path in only)


def _check_readable(name: str, files: Iterable[DataFile]) -> None:
    for file in files:
        if file.file_format not in _FORMATS[file.content]:
            kind = "data" if file.content == DataFileContent.DATA else "delete"
            raise UnsupportedStatementError(
                f"table {name} has {kind} files in {file.file_format.value} format: {file.file_path}",
                hint=f"only Parquet files can be read; rewrite the table's {kind} files as Parquet",
            )
