"""Run one statement inside one transaction.

Each kind of statement has one function here. They join the stages: the planner gives names their meaning, the engine
turns a query into streams of record batches, the writer turns streams into data files, and what was written is staged
in the transaction. Nothing here commits a change of rows; whoever owns the transaction does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.align import Alignment
from icefusion.bridge.literals import round_floats
from icefusion.bridge.partition import build_sort_order, build_spec
from icefusion.bridge.schema import arrow_to_iceberg, iceberg_to_arrow
from icefusion.bridge.types_sql import build_schema
from icefusion.commit.catalog import CatalogClient, StagedTable
from icefusion.commit.cleanup import delete_files
from icefusion.commit.committer import CommitRequest, Committed, Committer
from icefusion.commit.idempotency import Landed, find_landed
from icefusion.commit.operations import AppendFiles, CreateChange
from icefusion.errors import (
    BindError,
    NamespaceExistsError,
    NamespaceNotFoundError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.naming import find_name, nearest
from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.parameters import bind_parameters
from icefusion.query.planner import bind_query
from icefusion.query.sources import Source
from icefusion.reports import CommitReport, Reporter, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.literals import now_in_microseconds
from icefusion.sql.statements import (
    CreateNamespace,
    CreateTable,
    DropNamespace,
    DropTable,
    Insert,
    Name,
    Query,
)
from icefusion.transaction import PinnedTable, TransactionState
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_streams

__all__ = ["Executor", "Progress", "Statement"]

Progress = Callable[[int, int], None]
Parameters = Sequence[Any] | Mapping[str, Any] | None

# Each batch costs a walk through Python on its way into a file, so there should be fewer of them than in a query.
WRITE_BATCH_ROWS = 32_768

DEFAULT_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
}


@dataclass(frozen=True)
class Statement:
    """What came with a statement.

    Attributes:
        parameters: Values for its parameters.
        sources: The objects passed by name.
        progress: Told of rows and bytes as they are written.
    """

    parameters: Parameters
    sources: Mapping[str, Source]
    progress: Progress | None = None

    @property
    def replayable(self) -> bool:
        """Whether all sources can be read a second time."""
        return all(source.replayable for source in self.sources.values())


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

    def query(self, query: Query, given: Statement, state: TransactionState) -> Result:
        """Plan a query; it runs when its rows are asked for."""
        began = time.perf_counter()
        planned = self._plan(query, given, state)
        report = StatementReport("SELECT", seconds=time.perf_counter() - began, scans=planned.scans)
        self._tell(report, *planned.scans)
        return Result(planned.schema, planned.stream, report=report)

    def _plan(
        self, query: Query, given: Statement, state: TransactionState, *, for_write: bool = False
    ) -> PlannedQuery:
        parameters = bind_parameters(query, given.parameters)
        state.pin_together(_table_names(query))
        bound, bindings = bind_query(query, state, given.sources)
        if for_write:
            bound = now_in_microseconds(bound)
        batch_rows = WRITE_BATCH_ROWS if for_write else None
        planned = self._engine.plan(bound, bindings, parameters, batch_rows=batch_rows)
        state.note_reads(planned.reads)
        return planned

    # Rows

    def insert(self, statement: Insert, given: Statement, state: TransactionState) -> Result:
        """Write the rows of a query and stage them as an append."""
        began = time.perf_counter()
        state.pin_together((statement.table, *_table_names(statement.query)))
        pinned = state.pin(statement.table)
        require_writable(pinned.handle.metadata, pinned.handle.name, statement)
        state.check_may_write(pinned)
        landed = state.find_landed(pinned)
        if landed is not None:
            return landed_result("INSERT", landed, began)
        planned = self._plan(statement.query, given, state, for_write=True)
        columns = _insert_columns(statement, pinned.handle.metadata, pinned.handle.name)
        schema = pinned.handle.metadata.schema()
        align = _insert_alignment(statement.query, planned.schema, schema, columns, pinned.handle.name)
        written = self.write(pinned, planned.streams(self._threads), align, given.progress)
        self.stage_append(pinned, written, state)
        report = StatementReport(
            "INSERT", seconds=time.perf_counter() - began, scans=planned.scans, writes=(written.report,)
        )
        self._tell(report, *planned.scans, written.report)
        return Result.of_change(report, rows_inserted=written.report.rows)

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
        target = WriteTarget(
            table=name,
            location=metadata.location,
            schema=metadata.schema(),
            spec=metadata.spec(),
            sort_order=metadata.sort_order(),
            properties=metadata.properties,
            format_version=metadata.format_version,
        )
        options = WriteOptions(threads=threads or self._threads, memory_limit_bytes=self._write_memory_bytes)
        return write_streams(streams, target, io, options, align=align, progress=progress)

    def stage_append(self, pinned: PinnedTable, written: WriteResult, state: TransactionState) -> None:
        """Let the transaction own the files that were written; zero files are no change."""
        if not written.files:
            return
        try:
            state.stage(pinned, AppendFiles(written.files, pinned.handle.metadata.current_snapshot_id))
        except BaseException:
            delete_files(pinned.handle.io, [file.file_path for file in written.files])
            raise

    # Tables and namespaces

    def create_table(self, statement: CreateTable, given: Statement, state: TransactionState) -> Result:
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
        planned = self._plan(statement.query, given, state, for_write=True)
        staged = self._stage_table(identifier, statement, planned.schema)
        alignment = Alignment.plan(
            planned.schema, staged.metadata.schema(), columns=None, by="position", table=staged.name
        )
        streams = planned.streams(self._threads)
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
        )
        self._tell(report, *planned.scans, written.report, *reports)
        return Result.of_change(report, rows_inserted=written.report.rows, snapshot_id=reports[0].snapshot_id)

    def _commit_created(
        self, staged: StagedTable, written: WriteResult, idempotency_key: str | None
    ) -> tuple[CommitReport, ...]:
        operations = (AppendFiles(written.files, None),) if written.files else ()
        request = CommitRequest((CreateChange(staged, operations, idempotency_key=idempotency_key),))
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


def _table_names(query: Query) -> list[Name]:
    """The names in a query that stand for Iceberg tables; those of one part stand for objects passed by name."""
    return [reference.name for reference in query.tables if len(reference.name.parts) > 1]


def landed_result(kind: str, landed: Landed, began: float) -> Result:
    """The result of a write whose idempotency key landed before."""
    report = StatementReport(kind, seconds=time.perf_counter() - began)
    result = Result.of_change(report, rows_inserted=landed.rows, snapshot_id=landed.snapshot_id)
    result.already_landed = True
    return result


def commit_unit(result: Result, state: TransactionState) -> Result:
    """Commit the transaction of a single statement, and give its result what only the commit can tell."""
    began = time.perf_counter()
    reports = state.commit()
    if state.landed and not result.already_landed:
        return landed_result(result.report.statement, next(iter(state.landed.values())), began)
    if reports:
        result.snapshot_id = reports[0].snapshot_id
        report = result.report
        seconds = report.seconds + sum(commit.seconds for commit in reports)
        result.report = StatementReport(report.statement, seconds, report.scans, report.writes, reports)
    return result


def require_writable(metadata: TableMetadata, name: str, statement: Insert | None = None) -> None:
    """Refuse tables of a format version that cannot be written.

    Raises:
        UnsupportedStatementError: The table is of format version 3 or later.
    """
    if metadata.format_version > 2:
        raise UnsupportedStatementError(
            f"table {name} has format version {metadata.format_version}, which can be read but not written yet",
            sql=statement.query.sql if statement is not None else None,
            offset=statement.table.offset if statement is not None else None,
            hint="write to a table of format version 2, or use another engine for this one",
        )


def _insert_alignment(
    query: Query, source: pa.Schema, target: Schema, columns: list[str] | None, table: str
) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """How the rows of a query fit the table; literals alone may be rounded into float columns."""
    if query.tables:
        return Alignment.plan(source, target, columns=columns, by="position", table=table).apply
    arrow = iceberg_to_arrow(target)
    schema, round_batch = round_floats(source, [arrow.field(name) for name in columns or arrow.names])
    alignment = Alignment.plan(schema, target, columns=columns, by="position", table=table)
    return lambda batch: alignment.apply(round_batch(batch))


def _insert_columns(statement: Insert, metadata: TableMetadata, name: str) -> list[str] | None:
    """The exact names of the columns that an INSERT lists; None for all of them in order."""
    if statement.columns is None:
        return None
    known = [field.name for field in metadata.schema().fields]
    chosen: list[str] = []
    for column in statement.columns:
        exact = find_name(column, known)
        if exact is None:
            near = nearest(column.text, known)
            raise BindError(
                f"table {name} has no column {column}",
                sql=statement.query.sql,
                offset=statement.table.offset,
                hint=f"did you mean {near}?" if near else f"columns: {', '.join(known)}",
            )
        if exact in chosen:
            raise BindError(f"column {exact} is listed twice", sql=statement.query.sql, offset=statement.table.offset)
        chosen.append(exact)
    return chosen
