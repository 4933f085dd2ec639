"""Run one statement that asks for rows, or changes what the catalog lists.

Each kind of statement has one function here. They join the stages: the planner gives names their meaning, the engine
turns a query into streams of record batches, the writer turns streams into data files. Statements that change rows are
carried out by `icefusion.changes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.align import Alignment
from icefusion.bridge.partition import build_sort_order, build_spec
from icefusion.bridge.schema import arrow_to_iceberg
from icefusion.bridge.types_sql import build_schema
from icefusion.changes.execute import Given, Progress, landed_result, table_names
from icefusion.changes.staging import RowChange
from icefusion.commit.catalog import CatalogClient, StagedTable
from icefusion.commit.cleanup import delete_files
from icefusion.commit.committer import CommitRequest, Committed, Committer
from icefusion.commit.idempotency import find_landed
from icefusion.commit.operations import CreateChange, FileChange
from icefusion.errors import (
    NamespaceExistsError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.parameters import bind_parameters
from icefusion.query.planner import bind_query
from icefusion.reports import CommitReport, Reporter, RowCounts, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.literals import now_in_microseconds
from icefusion.sql.statements import (
    CreateNamespace,
    CreateTable,
    DropNamespace,
    DropTable,
    Query,
)
from icefusion.transaction import PinnedTable, TransactionState
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_streams

__all__ = ["Executor", "commit_unit"]

# Each batch costs a walk through Python on its way into a file, so there should be fewer of them than in a query.
WRITE_BATCH_ROWS = 32_768

DEFAULT_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
}


class Executor:
    """The statements of one session."""

    def __init__(
        self,
        client: CatalogClient,
        engine: Engine,
        committer: Committer,
        *,
        threads: int,
        write_memory_bytes: int | None,
        reporter: Reporter | None,
    ) -> None:
        self._client = client
        self._engine = engine
        self._committer = committer
        self._threads = threads
        self._write_memory_bytes = write_memory_bytes
        self._reporter = reporter

    # Queries

    def query(self, query: Query, given: Given, state: TransactionState) -> Result:
        """Plan a query; it runs when its rows are asked for."""
        began = time.perf_counter()
        planned = self.plan(query, given, state)
        report = StatementReport("SELECT", seconds=time.perf_counter() - began, scans=planned.scans)
        self._tell(report, *planned.scans)
        return Result(planned.schema, planned.stream, report=report)

    def plan(self, query: Query, given: Given, state: TransactionState, *, for_write: bool = False) -> PlannedQuery:
        """Give the names in a query their meaning and plan it; the transaction takes note of what it reads."""
        parameters = bind_parameters(query, given.parameters)
        state.pin_together(table_names((query,)))
        bound, bindings = bind_query(query, state, given.sources)
        if for_write:
            bound = now_in_microseconds(bound)
        batch_rows = WRITE_BATCH_ROWS if for_write else None
        planned = self._engine.plan(bound, bindings, parameters, batch_rows=batch_rows)
        state.note_reads(planned.reads)
        return planned

    # Rows

    def write(
        self,
        pinned: PinnedTable,
        streams: Sequence[Iterator[pa.RecordBatch]],
        align: Callable[[pa.RecordBatch], pa.RecordBatch],
        progress: Progress | None = None,
        *,
        threads: int | None = None,
    ) -> WriteResult:
        """Turn streams of record batches into data files of a table; nothing is staged yet."""
        handle = pinned.handle
        return self._write(handle.name, handle.metadata, handle.io, streams, align, progress, threads)

    def _write(
        self,
        name: str,
        metadata: TableMetadata,
        io: FileIO,
        streams: Sequence[Iterator[pa.RecordBatch]],
        align: Callable[[pa.RecordBatch], pa.RecordBatch],
        progress: Progress | None,
        threads: int | None = None,
    ) -> WriteResult:
        target = WriteTarget.of(name, metadata)
        options = WriteOptions(threads=threads or self._threads, memory_limit_bytes=self._write_memory_bytes)
        return write_streams(streams, target, io, options, align=align, progress=progress)

    def stage_append(self, pinned: PinnedTable, written: WriteResult, state: TransactionState) -> None:
        """Let the transaction own the files that were written; zero files are no change."""
        if not written.files:
            return
        try:
            state.stage(pinned, RowChange(written.files, rows=RowCounts(inserted=written.report.rows)))
        except BaseException:
            delete_files(pinned.handle.io, [file.file_path for file in written.files])
            raise

    # Tables and namespaces

    def create_table(self, statement: CreateTable, given: Given, state: TransactionState) -> Result:
        """Create a table, with the rows of a query where there is one: both appear at once."""
        began = time.perf_counter()
        identifier = self._client.split(statement.name)
        existing = self._client.find(identifier)
        if existing is not None:
            landed = find_landed(existing.metadata, state.idempotency_key)
            if landed is not None:
                return landed_result("CREATE TABLE AS", landed, began)
            if statement.if_not_exists:
                return Result.of_nothing(StatementReport("CREATE TABLE", seconds=time.perf_counter() - began))
            raise TableExistsError(
                f"table {self._client.full_name(identifier)} exists already",
                hint="write CREATE TABLE IF NOT EXISTS to leave it as it is",
            )
        if statement.query is None:
            staged = self._stage_table(identifier, statement, None)
            self._committer.commit(CommitRequest((CreateChange(staged),)))
            report = StatementReport("CREATE TABLE", seconds=time.perf_counter() - began)
            self._tell(report)
            return Result.of_nothing(report)
        planned = self.plan(statement.query, given, state, for_write=True)
        staged = self._stage_table(identifier, statement, planned.schema)
        alignment = Alignment.plan(
            planned.schema, staged.metadata.schema(), columns=None, by="position", table=staged.name
        )
        streams = planned.streams()
        written = self._write(staged.name, staged.metadata, staged.io, streams, alignment.apply, given.progress)
        try:
            reports = self._commit_created(staged, written, state.idempotency_key)
        except TableExistsError:
            # Somebody may have made it under the same key meanwhile.
            existing = self._client.find(identifier)
            landed = find_landed(existing.metadata, state.idempotency_key) if existing is not None else None
            if landed is None:
                raise
            return landed_result("CREATE TABLE AS", landed, began)
        report = StatementReport(
            "CREATE TABLE AS",
            seconds=time.perf_counter() - began,
            scans=planned.scans,
            writes=(written.report,),
            commits=reports,
            rows=RowCounts(inserted=written.report.rows),
        )
        self._tell(report, *planned.scans, written.report, *reports)
        return Result.of_change(report, snapshot_id=reports[0].snapshot_id)

    def _commit_created(
        self, staged: StagedTable, written: WriteResult, idempotency_key: str | None
    ) -> tuple[CommitReport, ...]:
        files = FileChange(written.files, rows=RowCounts(inserted=written.report.rows))
        request = CommitRequest((CreateChange(staged, files, idempotency_key=idempotency_key),))
        try:
            outcome = self._committer.commit(request)
        except BaseException:
            if not request.may_have_landed:
                delete_files(staged.io, [file.file_path for file in written.files])
            raise
        assert isinstance(outcome, Committed)  # a table that is only now created has no earlier keys
        return outcome.reports

    def _stage_table(
        self, identifier: tuple[str, ...], statement: CreateTable, query_schema: pa.Schema | None
    ) -> StagedTable:
        properties = {**DEFAULT_PROPERTIES, **dict(statement.properties)}
        if statement.comment is not None:
            properties["comment"] = statement.comment
        version = properties["format-version"]
        if version not in ("1", "2"):
            raise UnsupportedStatementError(
                f"format-version {version} cannot be written", hint="leave format-version out, or set it to 2"
            )
        for column in statement.columns:
            if column.default is not None:
                raise UnsupportedStatementError(
                    f"column {column.name}: DEFAULT needs format version 3, which cannot be written yet",
                    hint="leave DEFAULT out and give the value in the INSERT",
                )
        schema = build_schema(statement.columns) if query_schema is None else arrow_to_iceberg(query_schema)
        return self._client.stage_table(
            identifier,
            schema,
            spec=build_spec(statement.partitioning, schema),
            sort_order=build_sort_order(statement.ordering, schema),
            properties=properties,
            location=statement.location,
        )

    def drop_table(self, statement: DropTable) -> Result:
        """Take a table out of the catalog, and with PURGE its files out of storage."""
        began = time.perf_counter()
        try:
            handle = self._client.resolve(statement.name)
        except (TableNotFoundError, NamespaceNotFoundError):
            if not statement.if_exists:
                raise
        else:
            self._client.drop_table(handle, purge=statement.purge)
        return self._nothing("DROP TABLE", began)

    def create_namespace(self, statement: CreateNamespace) -> Result:
        """Make a namespace."""
        began = time.perf_counter()
        namespace = self._client.split_namespace(statement.name)
        try:
            if self._client.find_namespace(namespace) is not None:
                raise NamespaceExistsError(
                    f"namespace {'.'.join(namespace)} exists already",
                    hint="write CREATE NAMESPACE IF NOT EXISTS to leave it as it is",
                )
            self._client.create_namespace(namespace, dict(statement.properties))
        except NamespaceExistsError:
            if not statement.if_not_exists:
                raise
        return self._nothing("CREATE NAMESPACE", began)

    def drop_namespace(self, statement: DropNamespace) -> Result:
        """Remove an empty namespace."""
        began = time.perf_counter()
        try:
            self._client.drop_namespace(self._client.split_namespace(statement.name))
        except NamespaceNotFoundError:
            if not statement.if_exists:
                raise
        return self._nothing("DROP NAMESPACE", began)

    def _nothing(self, kind: str, began: float) -> Result:
        report = StatementReport(kind, seconds=time.perf_counter() - began)
        self._tell(report)
        return Result.of_nothing(report)

    def _tell(self, *events: Any) -> None:
        for event in events:
            tell(self._reporter, event)


def commit_unit(result: Result, state: TransactionState) -> Result:
    """Commit the transaction of a single statement, and give its result what only the commit can tell."""
    began = time.perf_counter()
    reports = state.commit()
    if state.landed and not result.already_landed:
        return landed_result(result.report.statement, next(iter(state.landed.values())), began)
    if reports:
        result.snapshot_id = reports[0].snapshot_id
        seconds = result.report.seconds + sum(commit.seconds for commit in reports)
        result.report = replace(result.report, seconds=seconds, commits=reports)
    return result
