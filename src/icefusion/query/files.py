"""Which data files a query of a snapshot has to read.

Planning goes from the coarse to the fine: the partition summaries of the manifest list leave out whole manifests, the
partition values and the column bounds of the entries leave out files; see `icefusion.bridge.pruning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pruning import FileTests
from icefusion.errors import StorageError, UnsupportedStatementError

__all__ = ["FilePlan", "LiveFile", "plan_files"]

PLANNING_THREADS = 8


@dataclass(frozen=True)
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
    """The files to read, and how many were left out on the way to them."""

    files: tuple[LiveFile, ...] = ()
    manifests_total: int = 0
    manifests_read: int = 0
    files_total: int = 0

    @property
    def data_files(self) -> tuple[DataFile, ...]:
        """The data files alone."""
        return tuple(live.file for live in self.files)


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
        staged: Further files, not yet in a snapshot.
        removed: Paths of data files that do not count any more.
        only: Paths of the data files to read; None for all.
        reader: Reads manifests; one of its own by default.

    Raises:
        StorageError: A manifest, or the list of them, is missing or unreadable.
        UnsupportedStatementError: The snapshot has row-level deletes, or files that are not Parquet.
    """
    reader = reader or ManifestReader()
    tests = FileTests(metadata, schema, AlwaysTrue() if row_filter is None else row_filter)
    manifests = _manifests(metadata, snapshot_id, io, reader)
    wanted = [manifest for manifest in manifests if tests.manifest_may_match(manifest)]
    files: list[LiveFile] = []
    total = 0
    new = [LiveFile(file) for file in staged]
    for found in (*_map(partial(_live_files, io=io, reader=reader), wanted), new):
        counted = [live for live in found if _counts(live.file.file_path, removed, only)]
        total += len(counted)
        _check_readable(name, counted)
        files += counted if tests.trivial else [live for live in counted if tests.file_may_match(live.file)]
    return FilePlan(tuple(files), len(manifests), len(wanted), total)


def _live_files(manifest: ManifestFile, io: FileIO, reader: ManifestReader) -> list[LiveFile]:
    return [LiveFile(entry.file, entry.sequence_number) for entry in reader.entries(manifest, io)]


def _counts(path: str, removed: frozenset[str], only: frozenset[str] | None) -> bool:
    return path not in removed and (only is None or path in only)


def _manifests(
    metadata: TableMetadata, snapshot_id: int | None, io: FileIO, reader: ManifestReader
) -> Sequence[ManifestFile]:
    if snapshot_id is None:
        return []
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise StorageError(f"snapshot {snapshot_id} is not in the table's metadata", hint="it may have been expired")
    return reader.read_list(snapshot, io)


def _map(
    function: Callable[[ManifestFile], list[LiveFile]], manifests: Sequence[ManifestFile]
) -> Iterable[list[LiveFile]]:
    if len(manifests) <= 1:
        return map(function, manifests)
    with ThreadPoolExecutor(min(PLANNING_THREADS, len(manifests)), thread_name_prefix="icefusion-plan") as pool:
        return list(pool.map(function, manifests))


def _check_readable(name: str, files: Iterable[LiveFile]) -> None:
    for file in (live.file for live in files):
        if file.content != DataFileContent.DATA:
            raise UnsupportedStatementError(
                f"table {name} has row-level deletes, which cannot be read yet",
                hint="rewrite its data files with the engine that deleted the rows, then read again",
            )
        if file.file_format != FileFormat.PARQUET:
            raise UnsupportedStatementError(
                f"table {name} has data files in {file.file_format.value} format: {file.file_path}",
                hint="only Parquet files can be read; rewrite the table's data files as Parquet",
            )
