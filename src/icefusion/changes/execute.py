"""Run one statement that changes rows, inside one transaction.

Whatever the statement, the way is the same: pin its tables, look whether its idempotency key has landed, have the rows
found and written, stage what that did to the table, and tell of it. Nothing is committed here; whoever owns the
transaction does that. A statement that fails leaves no file behind and nothing staged.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from icefusion.changes.conflict import conflict_as_merge, repeated_rows
from icefusion.changes.context import ChangeContext, Changed
from icefusion.changes.explain import explained
from icefusion.changes.insert import InsertAlignment, insert_columns, named_columns, with_defaults
from icefusion.changes.joined import joined_as_merge
from icefusion.changes.overwrite import Overwriter, partition_constants
from icefusion.changes.rows import RowChanger
from icefusion.changes.spool import Spool
from icefusion.changes.streams import with_streams_kept
from icefusion.commit.cleanup import delete_files
from icefusion.commit.idempotency import Landed
from icefusion.config import RowLevelProperties, WriteMode
from icefusion.errors import OutOfMemoryError, UnsupportedStatementError
from icefusion.query.changes import RowQueries
from icefusion.query.engine import Engine
from icefusion.query.parameters import Parameters, bind_values
from icefusion.query.planner import bind_query
from icefusion.query.sources import Source
from icefusion.reports import Report, Reporter, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.compose import compose, table_piece, unqualified
from icefusion.sql.defaults import holds_defaults
from icefusion.sql.statements import (
    Change,
    Delete,
    Explain,
    Fragment,
    Identifier,
    Insert,
    Merge,
    Truncate,
    Update,
    fragments_of,
    parameters_of,
)
from icefusion.transaction import TransactionState

__all__ = ["ChangeExecutor", "Given", "Progress", "landed_result", "require_writable", "table_names"]

RETURNED = "?returned?"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Given:
    """What came with a statement.

    Attributes:
        parameters: Values for its parameters.
        sources: The objects passed by name.
        progress: Told of rows and bytes as they are written.
        mode: How a row-level change makes old rows disappear; None leaves it to the table's properties.
    """

    parameters: Parameters
    sources: Mapping[str, Source]
    progress: Progress | None = None
    mode: WriteMode | None = None

    @property
    def replayable(self) -> bool:
        """Whether all sources can be read a second time."""
        return all(source.replayable for source in self.sources.values())


class ChangeExecutor:
    """The statements of one session that change rows."""

    def __init__(
        self, engine: Engine, *, threads: int, write_memory_bytes: int | None, reporter: Reporter | None
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._write_memory_bytes = write_memory_bytes
        self._reporter = reporter

    def run(self, change: Change, given: Given, state: TransactionState) -> Result:
        """Carry out a change and stage what it did.

        Raises:
            SQLError: A name stands for nothing, or the table cannot be changed.
            SchemaError: A value does not fit its column.
            CardinalityError: A row was to be changed twice.
            ExecutionError: A query failed while it ran.
            StorageError: A file could not be read or written.
        """
        began = time.perf_counter()
        kind = kind_of(change)
        context = self._context(change, given, state)
        landed = state.find_landed(context.pinned)
        if landed is not None:
            return landed_result(kind, landed, began)
        state.check_may_write(context.pinned)
        change, context = self._completed(change, context)
        with with_streams_kept(change, context) as context:
            changed = self._carry_out(change, context)
            try:
                shown = self._shown(change, changed, context)
                state.stage(context.pinned, changed.change)
            except BaseException:
                delete_files(context.pinned.handle.io, [file.file_path for file in changed.change.added])
                raise
        report = StatementReport(
            kind,
            seconds=time.perf_counter() - began,
            scans=tuple(changed.scans),
            writes=tuple(changed.writes),
            rows=changed.change.rows,
            mode=None if isinstance(change, Insert) and change.overwrite is None else context.mode,
            removed_files=len(changed.change.removed),
            rewritten_bytes=changed.rewritten_bytes,
            phases=tuple(changed.phases.items()),
        )
        events: tuple[Report, ...] = (report, *report.scans, *report.writes)
        for event in events:
            tell(self._reporter, event)
        result = Result.of_change(report)
        return result if shown is None else result.with_rows(shown.schema, shown.batches)

    def explain(self, statement: Explain, given: Given, state: TransactionState) -> Result:
        """Tell how a change would be carried out, without doing it."""
        began = time.perf_counter()
        change, context = self._completed(statement.change, self._context(statement.change, given, state))
        changer = RowChanger(context, self._queries(change, context))
        rows = explained(change, changer.asker, context)
        table = pa.table({"plan_type": [kind for kind, _ in rows], "plan": [text for _, text in rows]})
        report = StatementReport("EXPLAIN", seconds=time.perf_counter() - began)
        return Result(table.schema, lambda: iter(table.to_batches()), report=report)

    def _context(self, change: Change, given: Given, state: TransactionState) -> ChangeContext:
        fragments = fragments_of(change)
        state.pin_together((change.table, *table_names(fragments)))
        pinned = state.pin(change.table)
        metadata = pinned.handle.metadata
        require_writable(metadata.format_version, pinned.handle.name, change)
        properties = RowLevelProperties.of(metadata.properties, _property_kind(change))
        # Delete files came with format version 2.
        mode = (given.mode or properties.mode) if metadata.format_version > 1 else "copy-on-write"
        return ChangeContext(
            engine=self._engine,
            state=state,
            pinned=pinned,
            sources=given.sources,
            parameters=bind_values(parameters_of(change), given.parameters),
            mode=mode,
            isolation="snapshot" if isinstance(change, Insert) and _only_adds(change) else properties.isolation,
            threads=self._threads,
            write_memory_bytes=self._write_memory_bytes,
            progress=given.progress,
        )

    def _completed(self, change: Change, context: ChangeContext) -> tuple[Change, ChangeContext]:
        """An INSERT whose rows call for defaults or go by name, with what only the table can tell."""
        if not isinstance(change, Insert):
            return change, context
        schema, name = context.pinned.handle.metadata.schema(), context.pinned.handle.name
        if holds_defaults(change.query):
            constants = partition_constants(change, context) if change.overwrite is not None else {}
            columns = insert_columns(change, schema, name, constants)
            change, values = with_defaults(change, columns, schema, context.parameters)
            context = replace(context, parameters={**context.parameters, **values})
        if change.by_name and change.conflict is not None:
            # The keys have to be among the names, which are known only once the query is planned.
            bound, bindings = bind_query(change.query, context.state, context.sources)
            values = {name: context.parameters[name] for name in change.query.parameters}
            names = self._engine.plan(bound, bindings, values).schema.names
            chosen = named_columns(change, names, schema, name, {})
            change = replace(change, columns=tuple(Identifier(column, True) for column in chosen), by_name=False)
        return change, context

    def _queries(self, change: Change, context: ChangeContext) -> RowQueries:
        alias = change.alias if isinstance(change, Delete | Update | Merge) else None
        schema = context.pinned.handle.metadata.schema()
        return RowQueries(change.table, alias, schema, self._engine.functions.volatile)

    def _carry_out(self, change: Change, context: ChangeContext) -> Changed:
        queries = self._queries(change, context)
        changer = RowChanger(context, queries, show=_returning(change) is not None)
        match change:
            case Delete() | Update():
                merge = joined_as_merge(change) if context.can_ask_again else None
                try:
                    return changer.change(change)
                except OutOfMemoryError:
                    if merge is None:
                        raise
                gc.collect()  # what failed holds memory as long as it is there
                return self._carry_out(merge, context)
            case Truncate():
                return changer.truncate()
            case Merge():
                return self._merge(changer, queries, change)
            case Insert():
                return self._insert(changer, change, context)

    def _merge(self, changer: RowChanger, queries: RowQueries, change: Merge) -> Changed:
        source = changer.asker.read_source(queries.source(change))
        try:
            return changer.merge(change, source)
        finally:
            source.close()

    def _insert(self, changer: RowChanger, change: Insert, context: ChangeContext) -> Changed:
        schema = context.pinned.handle.metadata.schema()
        if change.conflict is not None:
            merge = conflict_as_merge(change, change.conflict, schema)
            queries = self._queries(merge, context)
            source = changer.asker.read_source(queries.source(merge))
            try:
                ignored = repeated_rows(merge, change.conflict, source, context.pinned.handle.name)
                return changer.merge(merge, source, ignored=ignored)
            finally:
                source.close()
        constants = partition_constants(change, context) if change.overwrite is not None else {}
        columns = insert_columns(change, schema, context.pinned.handle.name, constants)
        alignment = InsertAlignment(change, schema, columns, context.pinned.handle.name, constants)
        if change.overwrite is None:
            return changer.insert(change.query, alignment)
        return Overwriter(context, changer).run(change, change.overwrite, alignment)

    def _shown(self, change: Change, changed: Changed, context: ChangeContext) -> Spool | None:
        """The rows that RETURNING asks for, if it does. If they cannot be computed, the whole statement fails."""
        returning = _returning(change)
        if changed.shown is None or returning is None:
            return None
        alias = self._queries(change, context).alias
        own = returning if getattr(change, "alias", None) is not None else unqualified(returning, change.table, alias)
        query = compose("SELECT ", own, " FROM ", table_piece(RETURNED, alias))
        sources = {**context.sources, RETURNED: changed.shown.source(RETURNED)}
        bound, bindings = bind_query(query, context.state, sources)
        values = {name: context.parameters[name] for name in query.parameters}
        planned = self._engine.plan(bound, bindings, values)
        rows = Spool(planned.schema, memory_limit_bytes=context.spool_bytes)
        for batch in planned.stream():
            rows.add(batch)
        return rows


def table_names(fragments: tuple[Fragment, ...]) -> list[Any]:
    """The names in some fragments that stand for Iceberg tables; those of one part stand for objects passed by name."""
    return [reference.name for fragment in fragments for reference in fragment.tables if len(reference.name.parts) > 1]


def kind_of(change: Change) -> str:
    """What a statement is called in reports."""
    if isinstance(change, Insert) and change.overwrite is not None:
        return "INSERT REPLACE WHERE" if change.overwrite.where is not None else "INSERT OVERWRITE"
    return type(change).__name__.upper()


def landed_result(kind: str, landed: Landed, began: float) -> Result:
    """The result of a write whose idempotency key landed before."""
    report = StatementReport(kind, seconds=time.perf_counter() - began, rows=landed.rows)
    result = Result.of_change(report, snapshot_id=landed.snapshot_id)
    result.already_landed = True
    return result


def require_writable(format_version: int, name: str, change: Change | None = None) -> None:
    """Refuse tables of a format version that cannot be written.

    Raises:
        UnsupportedStatementError: The table is of format version 3 or later.
    """
    if format_version > 2:
        sql = next((fragment.sql for fragment in fragments_of(change) if fragment.sql), None) if change else None
        raise UnsupportedStatementError(
            f"table {name} has format version {format_version}, which can be read but not written yet",
            sql=sql,
            offset=change.table.offset if change is not None and sql else None,
            hint="write to a table of format version 2, or use another engine for this one",
        )


def _property_kind(change: Change) -> Any:
    match change:
        case Update():
            return "update"
        case Merge():
            return "merge"
        case Insert() if change.conflict is not None:
            return "merge"
    return "delete"


def _returning(change: Change) -> Fragment | None:
    return None if isinstance(change, Truncate) else change.returning


def _only_adds(change: Insert) -> bool:
    return change.overwrite is None and change.conflict is None
