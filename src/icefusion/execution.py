"""Run queries, and turn streams of rows into data files that a transaction owns.

The stages are joined here: the planner gives names their meaning, the engine turns a query into streams of record
batches, the writer turns streams into data files. Statements that change rows are carried out by `icefusion.changes`,
those that say what tables there are and how they are made by `icefusion.ddl`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from icefusion.changes.execute import Given, Progress, landed_result, table_names
from icefusion.changes.staging import RowChange
from icefusion.commit.cleanup import delete_files
from icefusion.commit.handles import TableHandle
from icefusion.pinned import PinnedTable
from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.parameters import bind_parameters
from icefusion.query.planner import bind_query
from icefusion.reports import Report, Reporter, RowCounts, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.literals import now_in_microseconds
from icefusion.sql.statements import Query
from icefusion.transaction import TransactionState
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_streams

__all__ = ["Executor", "commit_unit"]

# Each batch costs a walk through Python on its way into a file, so there should be fewer of them than in a query.
WRITE_BATCH_ROWS = 32_768


class Executor:
    """The queries and writes of one session."""

    def __init__(
        self,
        engine: Engine,
        *,
        threads: int,
        write_memory_bytes: int | None,
        reporter: Reporter | None,
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._write_memory_bytes = write_memory_bytes
        self._reporter = reporter

    # Queries

    def query(self, query: Query, given: Given, state: TransactionState) -> Result:
        """Plan a query; it runs when its rows are asked for."""
        began = time.perf_counter()
        planned = self.plan(query, given, state)
        kind = "SELECT" if query.explain is None else "EXPLAIN"
        report = StatementReport(kind, seconds=time.perf_counter() - began, scans=planned.scans)
        self.tell(report, *planned.scans)
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
        if query.explain is None or query.explain.analyze:  # otherwise no row is read
            state.note_reads(planned.reads)
        return planned

    # Rows

    def write(
        self,
        handle: TableHandle,
        streams: Sequence[Iterator[pa.RecordBatch]],
        align: Callable[[pa.RecordBatch], pa.RecordBatch],
        progress: Progress | None = None,
        *,
        threads: int | None = None,
    ) -> WriteResult:
        """Turn streams of record batches into data files of a table; nothing is staged yet."""
        target = WriteTarget.of(handle.name, handle.metadata)
        options = WriteOptions(threads=threads or self._threads, memory_limit_bytes=self._write_memory_bytes)
        return write_streams(streams, target, handle.io, options, align=align, progress=progress)

    def stage_append(self, pinned: PinnedTable, written: WriteResult, state: TransactionState) -> None:
        """Let the transaction own the files that were written; zero files are no change."""
        if not written.files:
            return
        try:
            state.stage(pinned, RowChange(written.files, rows=RowCounts(inserted=written.report.rows)))
        except BaseException:
            delete_files(pinned.handle.io, [file.file_path for file in written.files])
            raise

    def tell(self, *events: Report) -> None:
        """Hand events to the session's reporter."""
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
