"""Which data files a query of a snapshot has to read.

Planning goes from the coarse to the fine, as the section "Scan Planning" of the Iceberg specification has it: the
partition summaries of the manifest list leave out whole manifests, the partition values and the column bounds of the
entries leave out files. All three tests are inclusive: they may keep too much, never too little.

The tests are built once for each partition spec, over a schema that also knows the columns dropped since (old
specs may still refer to them). A test that fails on a file, say on bounds that another writer got wrong, keeps it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import (
    _InclusiveMetricsEvaluator,
    bind,
    expression_evaluator,
    inclusive_projection,
    manifest_evaluator,
)
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import NestedField

from icefusion.bridge.entries import live_entries
from icefusion.errors import StorageError, UnsupportedStatementError

__all__ = ["FilePlan", "ManifestReader", "plan_files", "schema_with_dropped_columns"]

Test = Callable[[DataFile], bool]

MAX_CACHED_FILES = 50_000
MAX_CACHED_LISTS = 64
PLANNING_THREADS = 8


@dataclass(frozen=True)
class FilePlan:
    """The files to read, and how many were left out on the way to them."""

    files: tuple[DataFile, ...] = ()
    manifests_total: int = 0
    manifests_read: int = 0
    files_total: int = 0


class ManifestReader:
    """Reads manifest lists and the live files of manifests, and remembers those it read last: they never change.

    Args:
        max_files: How many files to remember, over all manifests.
    """

    def __init__(self, max_files: int = MAX_CACHED_FILES) -> None:
        self._max_files = max_files
        self._files: OrderedDict[str, tuple[DataFile, ...]] = OrderedDict()
        self._count = 0
        self._lists: OrderedDict[str, list[ManifestFile]] = OrderedDict()
        self._lock = threading.Lock()

    def read_list(self, snapshot: Snapshot, io: FileIO) -> list[ManifestFile]:
        """The manifests of a snapshot.

        Raises:
            StorageError: The manifest list is missing or unreadable.
        """
        key = snapshot.manifest_list
        with self._lock:
            if key in self._lists:
                self._lists.move_to_end(key)
                return self._lists[key]
        try:
            manifests = list(snapshot.manifests(io))
        except Exception as exc:
            raise _unreadable("manifest list", key, exc) from exc
        with self._lock:
            self._lists[key] = manifests
            while len(self._lists) > MAX_CACHED_LISTS:
                self._lists.popitem(last=False)
        return manifests

    def read(self, manifest: ManifestFile, io: FileIO) -> tuple[DataFile, ...]:
        """The files of a manifest that are not marked as deleted.

        Raises:
            StorageError: The manifest is missing or unreadable.
        """
        key = manifest.manifest_path
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        try:
            files = tuple(entry.data_file for entry in live_entries(manifest, io))
        except Exception as exc:
            raise _unreadable("manifest", key, exc) from exc
        with self._lock:
            if key not in self._files and len(files) <= self._max_files:
                self._files[key] = files
                self._count += len(files)
            while self._count > self._max_files:
                self._count -= len(self._files.popitem(last=False)[1])
        return files


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
    tests = _Tests(metadata, schema, AlwaysTrue() if row_filter is None else row_filter)
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


def schema_with_dropped_columns(schema: Schema, metadata: TableMetadata) -> Schema:
    """The schema and every other top-level column that the table ever had, under names that clash with none."""
    fields = list(schema.fields)
    known = {field.field_id for field in fields}
    for other in metadata.schemas:
        for field in other.fields:
            if field.field_id not in known:
                known.add(field.field_id)
                fields.append(NestedField(field.field_id, f"\0dropped {field.field_id}", field.field_type))
    return Schema(*fields)


class _Tests:
    """The tests of one filter, made when first needed, for each partition spec."""

    def __init__(self, metadata: TableMetadata, schema: Schema, row_filter: BooleanExpression) -> None:
        self._schema = schema_with_dropped_columns(schema, metadata)
        self._specs = metadata.specs()
        self._filter = _bindable(row_filter, self._schema)
        self.trivial = isinstance(self._filter, AlwaysTrue)
        self._partition_tests: dict[int, Test] = {}
        self._manifest_tests: dict[int, Callable[[ManifestFile], bool]] = {}
        self._metrics_test: Test = _InclusiveMetricsEvaluator(self._schema, self._filter).eval

    def manifest_may_match(self, manifest: ManifestFile) -> bool:
        if not (manifest.has_added_files() or manifest.has_existing_files()):
            return False
        spec_id = manifest.partition_spec_id
        if self.trivial or manifest.content == ManifestContent.DELETES or spec_id not in self._specs:
            return True
        if spec_id not in self._manifest_tests:
            self._manifest_tests[spec_id] = _guarded(self._manifest_test(spec_id))
        return self._manifest_tests[spec_id](manifest)

    def file_may_match(self, file: DataFile) -> bool:
        spec_id = file.spec_id or 0
        if spec_id not in self._partition_tests:
            known = spec_id in self._specs
            self._partition_tests[spec_id] = _guarded(self._partition_test(spec_id)) if known else (lambda _: True)
        return self._partition_tests[spec_id](file) and _guarded(self._metrics_test)(file)

    def _manifest_test(self, spec_id: int) -> Callable[[ManifestFile], bool]:
        try:
            return manifest_evaluator(self._specs[spec_id], self._schema, self._projected(spec_id))
        except Exception:
            return lambda _: True

    def _partition_test(self, spec_id: int) -> Test:
        try:
            partition_schema = Schema(*self._specs[spec_id].partition_type(self._schema).fields)
            evaluate = expression_evaluator(partition_schema, self._projected(spec_id), case_sensitive=True)
        except Exception:
            return lambda _: True
        return lambda file: evaluate(file.partition)

    def _projected(self, spec_id: int) -> BooleanExpression:
        return inclusive_projection(self._schema, self._specs[spec_id])(self._filter)


def _guarded(test: Callable[..., bool]) -> Callable[..., bool]:
    """The test, or True where it fails."""

    def guarded(subject: object) -> bool:
        try:
            return test(subject)
        except Exception:
            return True

    return guarded


def _bindable(row_filter: BooleanExpression, schema: Schema) -> BooleanExpression:
    """The filter, or "any row" where the schema does not carry it."""
    try:
        bind(schema, row_filter, case_sensitive=True)
    except Exception:
        return AlwaysTrue()
    return row_filter


def _manifests(
    metadata: TableMetadata, snapshot_id: int | None, io: FileIO, reader: ManifestReader
) -> list[ManifestFile]:
    if snapshot_id is None:
        return []
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise StorageError(f"snapshot {snapshot_id} is not in the table's metadata", hint="it may have been expired")
    return reader.read_list(snapshot, io)


def _unreadable(kind: str, path: str, exc: Exception) -> StorageError:
    if isinstance(exc, FileNotFoundError):
        return StorageError(f"{kind} {path} is missing in storage", path=path)
    return StorageError(f"cannot read {kind} {path}: {exc}", path=path)


def _map(
    function: Callable[[ManifestFile], tuple[DataFile, ...]], manifests: Sequence[ManifestFile]
) -> Iterable[tuple[DataFile, ...]]:
    if len(manifests) <= 1:
        return map(function, manifests)
    with ThreadPoolExecutor(min(PLANNING_THREADS, len(manifests)), thread_name_prefix="icefusion-plan") as pool:
        return list(pool.map(function, manifests))


def _matching(files: Sequence[DataFile], tests: _Tests) -> Iterable[DataFile]:
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
