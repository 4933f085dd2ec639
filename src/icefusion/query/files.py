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

__all__ = ["FilePlan", "plan_files"]

PLANNING_THREADS = 8


@dataclass(frozen=True)
class FilePlan:
    """The files to read, and how many were left out on the way to them."""

    files: tuple[DataFile, ...] = ()
    manifests_total: int = 0
    manifests_read: int = 0
    files_total: int = 0


def plan_files(
    name: str,
    metadata: TableMetadata,
    snapshot_id: int | None,
    schema: Schema,
    io: FileIO,
    *,
    row_filter: BooleanExpression | None = None,
    staged: Sequence[DataFile] = (),
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
        reader: Reads manifests; one of its own by default.

    Raises:
        StorageError: A manifest, or the list of them, is missing or unreadable.
        UnsupportedStatementError: The snapshot has row-level deletes, or files that are not Parquet.
    """
    reader = reader or ManifestReader()
    tests = FileTests(metadata, schema, AlwaysTrue() if row_filter is None else row_filter)
    manifests = _manifests(metadata, snapshot_id, io, reader)
    wanted = [manifest for manifest in manifests if tests.manifest_may_match(manifest)]
    files: list[DataFile] = []
    total = 0
    for found in _map(partial(reader.read, io=io), wanted):
        total += len(found)
        _check_readable(name, found)
        files.extend(_matching(found, tests))
    _check_readable(name, staged)
    files.extend(_matching(staged, tests))
    return FilePlan(tuple(files), len(manifests), len(wanted), total + len(staged))


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
    function: Callable[[ManifestFile], tuple[DataFile, ...]], manifests: Sequence[ManifestFile]
) -> Iterable[tuple[DataFile, ...]]:
    if len(manifests) <= 1:
        return map(function, manifests)
    with ThreadPoolExecutor(min(PLANNING_THREADS, len(manifests)), thread_name_prefix="icefusion-plan") as pool:
        return list(pool.map(function, manifests))


def _matching(files: Sequence[DataFile], tests: FileTests) -> Iterable[DataFile]:
    return files if tests.trivial else [file for file in files if tests.file_may_match(file)]


def _check_readable(name: str, files: Iterable[DataFile]) -> None:
    for file in files:
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
