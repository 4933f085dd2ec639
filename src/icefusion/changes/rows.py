"""DELETE, UPDATE and MERGE: one way for all of them.

Theory of operation. A change asks its questions (`icefusion.query.changes`): which rows of the target, and what are
their new values. The answers stream through a `RowSink`, which collects the positions of rows that go and hands new
rows to the writer; so rows are found and written in one pass, and no expression is computed twice. What is left is to
make the old rows disappear, and that is all in which the two modes differ:

- *merge-on-read* keeps their positions, of which the commit makes delete files.
- *copy-on-write* writes the files they are in anew, without them: a plain scan with those positions left out.

A file of which no row is left goes as a whole, in both modes. A DELETE can often tell such files by their partition or
their metrics, and does not read them.

MERGE reads its source once into a spool, numbered. Its one join gives the pairs that match. The rows of the source that
match nothing are then the numbers that did not come up, and the rows of the target that match nothing the positions
that did not: neither needs an outer join. The range of the source's keys, or the keys themselves where they are few,
becomes a condition on the target: it prunes files, and it is what the commit has to hold still.

A join keeps the source in memory, so a source that is large beside the memory limit is joined slice by slice, each with
the range of its own keys. When a join does not fit nevertheless, what was written is thrown away and the question is
asked again, with smaller slices and with sort-merge joins, which spill.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.arrays import with_nulls_below
from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.changes.conflict import conflict_as_merge
from icefusion.changes.insert import InsertAlignment
from icefusion.changes.joined import joined_as_merge
from icefusion.changes.rewrite import HeldRows, rewrite_tasks
from icefusion.changes.sink import Collected, Duplicate, RowSink
from icefusion.changes.spool import Spool, SpooledRows
from icefusion.changes.staging import RowChange
from icefusion.commit.cleanup import delete_files
from icefusion.config import Isolation, WriteMode
from icefusion.errors import CardinalityError, OutOfMemoryError, SchemaError
from icefusion.naming import quote_identifier
from icefusion.query.changes import SOURCE, SOURCE_ROW_COLUMN, TARGET, RowQueries, RowQuery
from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.files import LiveFile
from icefusion.query.planner import Binding, bind_query
from icefusion.query.scan import TableView
from icefusion.query.sources import Source
from icefusion.reports import RowCounts, ScanReport, WriteReport
from icefusion.sql.compose import Piece, compose, table_piece
from icefusion.sql.literals import now_in_microseconds
from icefusion.sql.statements import Change, Delete, Fragment, Insert, Merge, Query, Truncate, Update
from icefusion.transaction import PinnedTable, TransactionState
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_streams, write_waves
from icefusion.write.workers import Stop, run_tasks

__all__ = ["ChangeContext", "Changed", "RowChanger", "Wave"]

WRITE_BATCH_ROWS = 32_768
MAX_LISTED_KEYS = 200
SLICE_SHARE = 0.25
"""How much of the memory limit the rows of a source may take in a join, whose table of them takes more."""
Streams = list[Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class ChangeContext:
    """What a change of one table works with.

    Attributes:
        engine: Runs its questions.
        state: The transaction it is part of.
        pinned: The table.
        sources: The objects passed by name.
        parameters: The values of the statement's parameters.
        mode: How old rows are made to disappear.
        isolation: What goes outside of a transaction.
        threads: How many threads write.
        write_memory_bytes: Arrow bytes that writing may hold; None lets it choose.
        progress: Told of rows and bytes as they are written.
    """

    engine: Engine
    state: TransactionState
    pinned: PinnedTable
    sources: Mapping[str, Source]
    parameters: Mapping[str, pa.Scalar]
    mode: WriteMode
    isolation: Isolation
    threads: int
    write_memory_bytes: int | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass
class Changed:
    """How a change went.

    Attributes:
        change: What it did to the table; not yet staged.
        scans: What was read.
        writes: What was written.
        phases: Seconds by phase.
        rewritten_bytes: Size of the files that were written anew.
        shown: The rows that RETURNING is about, where somebody asked for them.
    """

    change: RowChange = field(default_factory=RowChange)
    scans: list[ScanReport] = field(default_factory=list)
    writes: list[WriteReport] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    rewritten_bytes: int = 0
    shown: Spool | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block under a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - began


class RowChanger:
    """Carries out one change of rows. It stages nothing: what it gives back is the caller's to stage or to delete.

    Args:
        context: What it works with.
        queries: Makes the questions.
        show: Whether the rows are wanted for RETURNING.
    """

    def __init__(self, context: ChangeContext, queries: RowQueries, *, show: bool = False) -> None:
        self._context = context
        self._queries = queries
        self._handle = context.pinned.handle
        self._schema = self._handle.metadata.schema()
        columns = iceberg_to_arrow(self._schema)
        self._shown_schema = pa.schema(
            [pa.field(column.name, with_nulls_below(pa.nulls(0, column.type)).type) for column in columns]
        )
        self._threads = context.threads
        self._hash_joins = True
        self._inserted = 0
        self._written: list[DataFile] = []
        self._files: dict[str, LiveFile] = {}
        self._collected = Collected()
        self.changed = Changed()
        if show:
            self.changed.shown = Spool(self._shown_schema, memory_limit_bytes=self._spool_bytes)

    # Statements

    def change(self, change: Delete | Update) -> Changed:
        """Carry out a DELETE or an UPDATE."""
        showing = self.changed.shown is not None
        whole_files = False
        if isinstance(change, Delete):
            question = self._queries.delete(change, all_columns=showing)
            whole_files = change.using is None and not showing
        else:
            question = self._queries.update(change)
        # Rows that are sorted whole take more memory than the engine knows of.
        by_sorting = self.can_repeat(change) and (isinstance(change, Delete) or joined_as_merge(change) is None)
        return self._carried_out(lambda: self._ask_all(question, whole_files=whole_files), by_sorting)

    def can_repeat(self, change: Delete | Update) -> bool:
        """Whether the question of a change can be asked a second time."""
        others = change.using if isinstance(change, Delete) else change.source
        return others is None or all(source.replayable for source in self._context.sources.values())

    def truncate(self) -> Changed:
        """Remove all rows."""
        question = self._queries.rows(None)
        return self._carried_out(lambda: self._ask_all(question, whole_files=True), True)

    def merge(self, change: Merge, source: Spool, *, ignored: BitMap | None = None) -> Changed:
        """Carry out a MERGE whose source was read into a spool, its rows numbered.

        Args:
            change: The statement.
            source: Its source.
            ignored: Numbers of rows that are not to be looked at.
        """
        return self._carried_out(lambda: self._merge_waves(change, source, ignored or BitMap()), True)

    def insert(self, query: Query, alignment: InsertAlignment) -> Changed:
        """Write the rows of a query."""
        with self.changed.phase("plan"):
            planned = self._plan(query, {})
        self._note(planned)
        align = alignment.function(planned.schema)

        def aligned(batch: pa.RecordBatch) -> pa.RecordBatch:
            rows = align(batch)
            if self.changed.shown is not None:
                self._show(rows)
            return rows

        with self.changed.phase("write"):
            result = write_streams(
                planned.streams(),
                self._target,
                self._handle.io,
                self._options(self._threads),
                align=aligned,
                progress=self._context.progress,
            )
        self._keep(result)
        self._inserted = result.report.rows
        self.changed.change = RowChange(result.files, rows=RowCounts(inserted=self._inserted))
        return self.changed

    def replace(
        self,
        query: Query,
        alignment: InsertAlignment,
        waves: Callable[[Sequence[DataFile]], Iterator[Wave]],
        whole: Sequence[LiveFile],
    ) -> Changed:
        """Write the rows of a query, then have old rows go.

        Args:
            query: The new rows.
            alignment: How they fit the table.
            waves: Asks for the old rows, told of the files of the new ones.
            whole: Files that go as a whole; may be added to while the waves run.
        """
        self.insert(query, alignment)
        added = tuple(self._written)
        return self._carried_out(lambda: waves(added), True, whole)

    def read_source(self, query: Query) -> Spool:
        """Read the rows of a MERGE's source, once."""
        with self.changed.phase("source"):
            planned = self._plan(query, {})
            self._note(planned)
            spool = Spool(planned.schema, memory_limit_bytes=self._spool_bytes, number_column=SOURCE_ROW_COLUMN)
            try:
                for batch in planned.stream():
                    spool.add(batch)
            except BaseException:
                spool.close()
                raise
        return spool

    # Questions

    def planned(self, query: Query) -> PlannedQuery:
        """A query of the statement, planned and not run."""
        return self._plan(query, {})

    def questions(self, change: Change) -> Iterator[PlannedQuery]:
        """The questions of a change, planned and not asked. Of a MERGE they know the source's columns, not its rows."""
        match change:
            case Insert() if change.conflict is not None:
                yield from self.questions(conflict_as_merge(change, change.conflict, self._schema))
            case Insert():
                if change.overwrite is not None and change.overwrite.where is not None:
                    yield self._ask(self._queries.rows(change.overwrite.where), whole_files=True).planned
            case Delete():
                yield self._ask(self._queries.delete(change), whole_files=change.using is None).planned
            case Truncate():
                yield self._ask(self._queries.rows(None), whole_files=True).planned
            case Update():
                yield self._ask(self._queries.update(change)).planned
            case Merge():
                planned = self._plan(self._queries.source(change), {})
                yield planned
                spool = Spool(planned.schema, number_column=SOURCE_ROW_COLUMN)
                own = {SOURCE: spool.source(SOURCE)}
                yield self._ask(self._queries.matched(change, spool.schema), own).planned
                if any(clause.rows == "not_matched" for clause in change.clauses):
                    yield self._ask(self._queries.not_matched(change, spool.schema), own).planned
                if any(clause.rows == "not_matched_by_source" for clause in change.clauses):
                    yield self._ask(self._queries.not_matched_by_source(change)).planned

    def _ask_all(self, question: RowQuery, *, whole_files: bool = False) -> Iterator[Wave]:
        yield self._ask(question, whole_files=whole_files)

    def rows_where(self, where: Fragment, added: Sequence[DataFile]) -> Iterator[Wave]:
        """The rows for which a condition is true, which it has to be for all rows of the new files.

        Raises:
            SchemaError: It is not.
        """
        view = replace(self._view(), snapshot_id=None, staged=tuple(added), deleted=Positions())
        for batch in self._plan(self._queries.counterexample(where), {TARGET: view}).stream():
            for row in batch.to_pylist():
                shown = ", ".join(f"{name} = {value!r}" for name, value in list(row.items())[:8])
                raise SchemaError(
                    f"a new row of {self._handle.name} does not fulfil the condition of REPLACE WHERE: {shown}",
                    hint="filter the rows of the query by the same condition",
                )
        yield self._ask(self._queries.rows(where), whole_files=True)

    def rows_of_files(self, paths: frozenset[str], keep: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Wave:
        """The rows of some files that a function keeps of the batches with all columns."""
        question = self._queries.delete(Delete(self._queries.table), all_columns=True)
        return replace(self._ask(question, only=paths, show=False), keep=keep)

    def live_files(self) -> tuple[LiveFile, ...]:
        """All data files of the table, as the transaction sees it."""
        return self._context.engine.files(self._view())

    def with_queries(self, queries: RowQueries) -> RowChanger:
        """The same change, asked in other words."""
        self._queries = queries
        return self

    def _merge_waves(self, merge: Merge, source: Spool, ignored: BitMap) -> Iterator[Wave]:
        showing = self.changed.shown is not None
        for first, last in source.slices(self._slice_bytes(source)):
            keys = source.part(first, last, without=ignored)
            narrower, values = self._narrower(merge, keys)
            question = self._queries.matched(merge, source.schema, narrower, all_columns=showing)
            yield self._ask(question, {SOURCE: keys.source(SOURCE)}, values)
        self._check()
        if any(clause.rows == "not_matched" for clause in merge.clauses):
            rest = source.source(SOURCE, without=self._collected.source_rows | ignored)
            yield self._ask(self._queries.not_matched(merge, source.schema), {SOURCE: rest})
        if any(clause.rows == "not_matched_by_source" for clause in merge.clauses):
            question = self._queries.not_matched_by_source(merge, all_columns=showing)
            yield self._ask(question, excluded=self._collected.matched)

    def _slice_bytes(self, source: Spool) -> int | None:
        """How much of a MERGE's source one join keeps in memory; None for all of it."""
        limit_bytes = self._context.engine.memory_limit_bytes
        if limit_bytes is None:
            return None
        share = SLICE_SHARE if self._hash_joins else SLICE_SHARE / 4
        return None if source.size_bytes <= limit_bytes * share else max(1, int(limit_bytes * share))

    def _narrower(self, merge: Merge, source: SpooledRows) -> tuple[list[Piece], dict[str, pa.Scalar]]:
        """Conditions on the target's keys that follow from the keys in the source."""
        pieces: list[Piece] = []
        values: dict[str, pa.Scalar] = {}
        types = {column.name: column.type for column in self._shown_schema}
        for target, column in self._queries.equal_keys(merge, source.schema):
            if _family(types[target]) is None or _family(types[target]) != _family(source.schema.field(column).type):
                continue
            keys = source.table([column]).column(0).drop_null()
            place = f"{quote_identifier(self._queries.alias)}.{quote_identifier(target)}"
            listed = keys.unique() if len(keys) <= 100 * MAX_LISTED_KEYS else None
            if not len(keys):
                pieces.append(" AND FALSE")
            elif listed is not None and len(listed) <= MAX_LISTED_KEYS:
                names = [f"__key{len(values) + number}" for number in range(len(listed))]
                values.update(zip(names, listed, strict=True))
                pieces.append(f" AND {place} IN ({', '.join('$' + name for name in names)})")
            else:
                ends = pc.min_max(keys)
                low, high = f"__key{len(values)}", f"__key{len(values) + 1}"
                values.update({low: ends["min"], high: ends["max"]})
                pieces.append(f" AND {place} >= ${low} AND {place} <= ${high}")
        return pieces, values

    def _ask(
        self,
        question: RowQuery,
        sources: Mapping[str, Binding] | None = None,
        values: Mapping[str, pa.Scalar] | None = None,
        *,
        excluded: Positions | None = None,
        only: frozenset[str] | None = None,
        whole_files: bool = False,
        show: bool = True,
    ) -> Wave:
        view = self._view(with_identity=True, excluded=excluded, only=only)
        with self.changed.phase("plan"):
            target = {**(sources or {}), TARGET: view}
            planned = self._plan(question.query, target, values, whole_files=whole_files)
        self._note(planned)
        live = planned.files_by_name
        self._files |= {found.file.file_path: found for found in (*live.values(), *planned.whole_files)}
        sink = RowSink(
            question,
            planned.schema,
            self._schema,
            self._handle.name,
            {name: found.file.file_path for name, found in live.items()},
            self._collected,
            self._show if show and self.changed.shown is not None else None,
        )
        return Wave(planned, sink)

    def _plan(
        self,
        query: Query,
        own: Mapping[str, Binding],
        values: Mapping[str, pa.Scalar] | None = None,
        *,
        threads: int | None = None,
        whole_files: bool = False,
    ) -> PlannedQuery:
        context = self._context
        bound, bindings = bind_query(query, context.state, {**context.sources, **own})
        given = {name: context.parameters[name] for name in query.parameters}
        return context.engine.plan(
            now_in_microseconds(bound),
            bindings,
            given | dict(values or {}),
            batch_rows=WRITE_BATCH_ROWS,
            threads=threads,
            hash_joins=self._hash_joins,
            one_build=True,
            whole_files=whole_files,
        )

    def _note(self, planned: PlannedQuery) -> None:
        self._context.state.note_reads(planned.reads, self._context.isolation)
        self.changed.scans += planned.scans

    # Carrying out

    def _carried_out(
        self, waves: Callable[[], Iterator[Wave]], repeatable: bool, whole: Sequence[LiveFile] = ()
    ) -> Changed:
        before, read = len(self._written), len(self.changed.scans)
        writes = len(self.changed.writes)
        try:
            try:
                self._write(waves(), whole)
            except OutOfMemoryError:
                if not repeatable:
                    raise
                self._hash_joins = False
            # Out of the handler: as long as the error is at hand, so is the failed query, and the memory that it holds.
            if not self._hash_joins:
                gc.collect()
                self._forget(before)
                del self.changed.scans[read:], self.changed.writes[writes:]
                self._write(waves(), whole)
        except BaseException:
            self._forget(0)
            raise
        return self.changed

    def _forget(self, count: int) -> None:
        """Delete what was written, but for so many files."""
        delete_files(self._handle.io, [file.file_path for file in self._written[count:]])
        del self._written[count:]
        self._files, self._collected = {}, Collected()
        if self.changed.shown is not None and not count:
            self.changed.shown = Spool(self._shown_schema, memory_limit_bytes=self._spool_bytes)

    def _write(self, waves: Iterator[Wave], more_whole: Sequence[LiveFile]) -> None:
        held = HeldRows(self._spool_bytes) if self._context.mode == "copy-on-write" else None
        whole: list[LiveFile] = []

        def streams() -> Iterator[Streams]:
            for wave in waves:
                # Nothing else of it is kept: a query that was run holds the memory of its joins as long as it is there.
                whole.extend(wave.planned.whole_files)
                yield [self._new_rows(wave, stream, held) for stream in wave.planned.streams()]

        with self.changed.phase("find and write"):
            self._keep(write_waves(streams(), self._target, self._handle.io, self._options(self._threads)))
        collected = self._collected
        self._check()
        gone = collected.gone
        whole += more_whole
        counts = RowCounts(
            inserted=self._inserted + collected.inserted,
            updated=collected.updated,
            deleted=collected.deleted + self._rows_in(whole),
        )
        touched = [self._files[path] for path in gone.paths()]
        removed = [live for live in touched if self._is_empty(live, gone)]
        if held is not None:
            with self.changed.phase("rewrite"):
                self._rewrite(touched, gone, held)
            removed = touched
        kept = [live for live in touched if live not in removed]
        gone = gone.without(frozenset(live.file.file_path for live in removed))
        self.changed.change = RowChange(tuple(self._written), (*whole, *removed), tuple(kept), gone, counts)

    def _rows_in(self, files: Sequence[LiveFile]) -> int:
        """How many rows some files have, those left out that are deleted already."""
        if not files:
            return 0
        staged = self._context.pinned.staging.deleted
        if not any(live.deletes for live in files):
            return sum(live.file.record_count - staged.count(live.file.file_path) for live in files)
        view = self._view(only=frozenset(live.file.file_path for live in files))
        planned = self._plan(compose("SELECT count(*) FROM ", table_piece(TARGET)), {TARGET: view})
        return sum(int(batch.column(0)[0].as_py()) for batch in planned.stream())

    def _new_rows(
        self, wave: Wave, stream: Iterator[pa.RecordBatch], held: HeldRows | None
    ) -> Iterator[pa.RecordBatch]:
        for rows in wave.sink.rows(stream if wave.keep is None else map(wave.keep, stream)):
            if self.changed.shown is not None:
                self._show(rows.batch)
            if held is None:
                yield rows.batch
            else:
                yield from held.hold(rows)

    def _rewrite(self, touched: Sequence[LiveFile], gone: Positions, held: HeldRows) -> None:
        """Write the touched files anew, without the rows that are gone and with their new versions."""
        tasks = rewrite_tasks(touched)
        self.changed.rewritten_bytes += sum(live.file.file_size_in_bytes for live in touched)
        memory_bytes = self._context.write_memory_bytes
        share_bytes = None if memory_bytes is None else max(1, memory_bytes // max(1, min(self._threads, len(tasks))))

        def rewrite(files: Sequence[LiveFile]) -> None:
            paths = frozenset(live.file.file_path for live in files)
            waves: list[Streams] = [[iter(held.take(sorted(paths)))]]
            if not all(self._is_empty(live, gone) for live in files):
                waves.insert(0, [self._survivors(paths, gone)])
            self._keep(write_waves(waves, self._target, self._handle.io, self._options(1, share_bytes)))

        run_tasks([partial(rewrite, task) for task in tasks], self._threads, Stop())

    def _check(self) -> None:
        duplicate = self._collected.finish()
        if duplicate is not None:
            raise self._cardinality_error(duplicate)

    def _cardinality_error(self, duplicate: Duplicate) -> CardinalityError:
        """The error that a row was to be changed twice; it shows the row."""
        return CardinalityError(
            f"a row of {self._handle.name} matches more than one row of the source, and cannot be changed twice: "
            f"{self._shown_row(duplicate)}",
            hint="make the rows of the source unique by the columns of the condition, e.g. with GROUP BY or DISTINCT",
        )

    def _shown_row(self, duplicate: Duplicate) -> str:
        keys = self._schema.identifier_field_names() or [field.name for field in self._schema.fields[:4]]
        columns = ", ".join(quote_identifier(name) for name in sorted(keys))
        query = compose(
            f"SELECT {columns} FROM ", table_piece(TARGET), f' WHERE "?pos?" = {duplicate.position} LIMIT 1'
        )
        view = self._view(with_identity=True, only=frozenset([duplicate.path]))
        for batch in self._plan(query, {TARGET: view}).stream():
            for row in batch.to_pylist():
                return ", ".join(f"{name} = {value!r}" for name, value in row.items())
        return f"row {duplicate.position} of {duplicate.path}"

    # Small things

    def _survivors(self, paths: frozenset[str], gone: Positions) -> Iterator[pa.RecordBatch]:
        """What is left of some files, in order."""
        columns = ", ".join(quote_identifier(field.name) for field in self._schema.fields)
        query = compose(f"SELECT {columns} FROM ", table_piece(TARGET))
        planned = self._plan(query, {TARGET: self._view(only=paths, excluded=gone)}, threads=1)
        alignment = Alignment.plan(planned.schema, self._schema, by="position", table=self._handle.name)
        return (alignment.apply(batch) for batch in planned.stream())

    def _view(
        self,
        *,
        with_identity: bool = False,
        only: frozenset[str] | None = None,
        excluded: Positions | None = None,
    ) -> TableView:
        view = self._context.state.view_of(self._context.pinned)
        return replace(view, with_identity=with_identity, only=only, excluded=excluded)

    @property
    def _target(self) -> WriteTarget:
        return WriteTarget.of(self._handle.name, self._handle.metadata)

    @property
    def _spool_bytes(self) -> int | None:
        limit_bytes = self._context.write_memory_bytes
        return None if limit_bytes is None else limit_bytes // 4

    def _options(self, threads: int, memory_bytes: int | None = None) -> WriteOptions:
        return WriteOptions(threads, memory_bytes or self._context.write_memory_bytes)

    def _keep(self, result: WriteResult) -> None:
        self._written += result.files
        if result.files:
            self.changed.writes.append(result.report)

    def _show(self, batch: pa.RecordBatch) -> None:
        """Keep rows for RETURNING; without the field ids, that are of no use there."""
        shown = self.changed.shown
        assert shown is not None  # nobody asks otherwise
        columns = [with_nulls_below(column) for column in batch.columns]
        shown.add(pa.RecordBatch.from_arrays(columns, schema=shown.schema))

    def _is_empty(self, live: LiveFile, gone: Positions) -> bool:
        """Whether it is certain that no row of a file is left."""
        path = live.file.file_path
        here = gone.get(path)
        if here is None:
            return False
        for earlier in (self._context.pinned.staging.deleted, self._deleted_before(live)):
            here = here | (earlier.get(path) or BitMap())  # a new one: `gone` goes on holding its own
        return len(here) == live.file.record_count

    def _deleted_before(self, live: LiveFile) -> Positions:
        """The rows of a file that delete files name. They were read to read the file, and are at hand."""
        if not live.deletes:
            return Positions()
        return self._context.engine.deleted_positions([live], self._handle.io)


@dataclass(frozen=True)
class Wave:
    """A question that was planned, and where its answer goes.

    Attributes:
        planned: The question.
        sink: Takes the answer.
        keep: Which rows of a batch of the answer count; None for all.
    """

    planned: PlannedQuery
    sink: RowSink
    keep: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None


def _family(arrow_type: pa.DataType) -> str | None:
    """Types whose values compare alike in Arrow and in SQL, whichever of the two sides they are on."""
    if pa.types.is_integer(arrow_type):
        return "integer"
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type):
        return "text"
    if pa.types.is_date32(arrow_type):
        return "date"
    if pa.types.is_timestamp(arrow_type):
        return f"timestamp {arrow_type.unit} {arrow_type.tz}"
    if pa.types.is_decimal128(arrow_type):
        return f"decimal {arrow_type.scale}"
    return None
