"""The questions of one change of rows: planned, asked, and what their answers have said so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.positions import Positions
from icefusion.changes.conflict import conflict_as_merge
from icefusion.changes.context import ChangeContext, Changed
from icefusion.changes.keys import narrowed
from icefusion.changes.sink import Collected, Duplicate, RowSink
from icefusion.changes.spool import Spool
from icefusion.errors import CardinalityError, SchemaError
from icefusion.naming import quote_identifier
from icefusion.query.changes import SOURCE, SOURCE_ROW_COLUMN, TARGET, RowQueries, RowQuery
from icefusion.query.files import LiveFile
from icefusion.query.planned import PlannedQuery
from icefusion.query.planner import Binding, bind_query
from icefusion.query.views import TableView
from icefusion.sql.compose import compose, table_piece
from icefusion.sql.literals import now_in_microseconds
from icefusion.sql.statements import Change, Delete, Fragment, Insert, Merge, Query, Truncate, Update
from icefusion.write.columns import top_columns

__all__ = ["Asker", "Wave"]

WRITE_BATCH_ROWS = 32_768
LIMITED_BATCH_ROWS = 8_192
SLICE_SHARE = 0.25
"""How much of the memory limit the rows of a source may take in a join, whose table of them takes more."""


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


class Asker:
    """Plans and asks the questions of one change.

    Args:
        context: What the change works with.
        queries: Makes the questions.
        changed: Takes note of what was read.
        columns: The table's columns as Arrow has them.
        show: Told of old rows, where RETURNING wants them.

    Attributes:
        files: Each data file that an answer can name, by path.
        collected: What the answers have said.
        hash_joins: Whether joins may keep one side in memory.
    """

    def __init__(
        self,
        context: ChangeContext,
        queries: RowQueries,
        changed: Changed,
        columns: pa.Schema,
        show: Callable[[pa.RecordBatch], None],
    ) -> None:
        self._context = context
        self._queries = queries
        self._changed = changed
        self._columns = columns
        self._show = show
        self._handle = context.pinned.handle
        self._schema = self._handle.metadata.schema()
        self.hash_joins = True
        self.files: dict[str, LiveFile] = {}
        self.collected = Collected()

    def forget(self) -> None:
        """Begin anew."""
        self.files, self.collected = {}, Collected()

    def read_source(self, query: Query) -> Spool:
        """Read the rows of a MERGE's source, once."""
        with self._changed.phase("source"):
            planned = self.plan(query, {})
            self.note(planned)
            spool = Spool(planned.schema, memory_limit_bytes=self._context.spool_bytes, number_column=SOURCE_ROW_COLUMN)
            try:
                for batch in planned.stream():
                    spool.add(batch)
            except BaseException:
                spool.close()
                raise
        return spool

    def ask_all(self, question: RowQuery, *, whole_files: bool = False) -> Iterator[Wave]:
        """One question, as the only wave."""
        yield self.ask(question, whole_files=whole_files)

    def merge_waves(self, merge: Merge, source: Spool, ignored: BitMap) -> Iterator[Wave]:
        """The questions of a MERGE, each asked once the answer to the one before has been taken.

        Args:
            merge: The statement.
            source: Its source.
            ignored: Numbers of rows of the source that are not to be looked at.

        Raises:
            CardinalityError: A row of the target was taken twice.
        """
        showing = self._changed.shown is not None
        part = self.part_of(merge)
        for first, last in source.slices(self._slice_bytes(source)):
            keys = source.part(first, last, without=ignored)
            narrower, values = narrowed(self._queries, merge, keys, self._columns)
            question = self._queries.matched(merge, source.schema, narrower, all_columns=showing, part=part)
            # Under a limit, the engine has to know how large it is.
            rows = keys.source(SOURCE) if self._context.engine.memory_limit_bytes is None else keys.joined(SOURCE)
            yield self.ask(question, {SOURCE: rows}, values, source_rows=last - first)
            source.release()
        self.check()
        if any(clause.rows == "not_matched" for clause in merge.clauses):
            rest = source.source(SOURCE, without=self.collected.source_rows | ignored)
            yield self.ask(self._queries.not_matched(merge, source.schema), {SOURCE: rest})
        if any(clause.rows == "not_matched_by_source" for clause in merge.clauses):
            question = self._queries.not_matched_by_source(merge, all_columns=showing, part=part)
            yield self.ask(question, excluded=self.collected.matched)

    def held_columns(self, change: Update | Merge) -> tuple[str, ...] | None:
        """The columns of updated rows that copy-on-write lays over their files: those that are assigned.

        None for all, where rows may move to another partition.
        """
        assigned = self._queries.assigned(change)
        tops = top_columns(self._schema)
        divided_by = {tops.get(field.source_id) for field in self._handle.metadata.spec().fields}
        return None if divided_by & set(assigned) or len(assigned) == len(self._schema.fields) else assigned

    def part_of(self, change: Update | Merge) -> tuple[str, ...] | None:
        """The columns of updated rows that have to be asked for; None for all."""
        if self._context.mode != "copy-on-write" or self._changed.shown is not None:
            return None
        return self.held_columns(change)

    def _slice_bytes(self, source: Spool) -> int | None:
        """How much of a MERGE's source one join keeps in memory; None for all of it."""
        limit_bytes = self._context.engine.memory_limit_bytes
        if limit_bytes is None:
            return None
        share = SLICE_SHARE if self.hash_joins else SLICE_SHARE / 4
        return None if source.size_bytes <= limit_bytes * share else max(1, int(limit_bytes * share))

    def rows_where(self, where: Fragment, added: Sequence[DataFile]) -> Iterator[Wave]:
        """The rows for which a condition is true, which it has to be for all rows of the new files.

        Raises:
            SchemaError: It is not.
        """
        view = replace(self.view(), snapshot_id=None, staged=tuple(added), deleted=Positions())
        for batch in self.plan(self._queries.counterexample(where), {TARGET: view}).stream():
            for row in batch.to_pylist():
                shown = ", ".join(f"{name} = {value!r}" for name, value in list(row.items())[:8])
                raise SchemaError(
                    f"a new row of {self._handle.name} does not fulfil the condition of REPLACE WHERE: {shown}",
                    hint="filter the rows of the query by the same condition",
                )
        yield self.ask(self._queries.rows(where), whole_files=True)

    def rows_of_files(self, paths: frozenset[str], keep: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Wave:
        """The rows of some files that a function keeps of the batches with all columns."""
        question = self._queries.delete(Delete(self._queries.table), all_columns=True)
        return replace(self.ask(question, only=paths, show=False), keep=keep)

    def live_files(self) -> tuple[LiveFile, ...]:
        """All data files of the table, as the transaction sees it."""
        return self._context.engine.files(self.view())

    def planned(self, query: Query) -> PlannedQuery:
        """A query of the statement, planned and not run."""
        return self.plan(query, {})

    def questions(self, change: Change) -> Iterator[PlannedQuery]:
        """The questions of a change, planned and not asked. Of a MERGE they know the source's columns, not its rows."""
        match change:
            case Insert() if change.conflict is not None:
                yield from self.questions(conflict_as_merge(change, change.conflict, self._schema))
            case Insert():
                if change.overwrite is not None and change.overwrite.where is not None:
                    yield self.ask(self._queries.rows(change.overwrite.where), whole_files=True).planned
            case Delete():
                yield self.ask(self._queries.delete(change), whole_files=change.using is None).planned
            case Truncate():
                yield self.ask(self._queries.rows(None), whole_files=True).planned
            case Update():
                yield self.ask(self._queries.update(change, self.part_of(change))).planned
            case Merge():
                planned = self.plan(self._queries.source(change), {})
                yield planned
                spool = Spool(planned.schema, number_column=SOURCE_ROW_COLUMN)
                own = {SOURCE: spool.source(SOURCE)}
                part = self.part_of(change)
                yield self.ask(self._queries.matched(change, spool.schema, part=part), own).planned
                if any(clause.rows == "not_matched" for clause in change.clauses):
                    yield self.ask(self._queries.not_matched(change, spool.schema), own).planned
                if any(clause.rows == "not_matched_by_source" for clause in change.clauses):
                    yield self.ask(self._queries.not_matched_by_source(change, part=part)).planned

    def ask(
        self,
        question: RowQuery,
        sources: Mapping[str, Binding] | None = None,
        values: Mapping[str, pa.Scalar] | None = None,
        *,
        excluded: Positions | None = None,
        only: frozenset[str] | None = None,
        whole_files: bool = False,
        show: bool = True,
        source_rows: int | None = None,
    ) -> Wave:
        """Plan a question, and make what takes its answer.

        Args:
            question: The question.
            sources: What names of ours in it stand for, besides the target.
            values: Parameters of ours.
            excluded: Rows of the target that it does not see.
            only: The data files that it looks at; None for all.
            whole_files: Whether to leave out files all of whose rows are in the answer.
            show: Whether RETURNING wants the old rows in the answer.
            source_rows: How many rows the source of a MERGE has, which a join keeps in memory.
        """
        view = self.view(with_identity=True, excluded=excluded, only=only)
        with self._changed.phase("plan"):
            target = {**(sources or {}), TARGET: view}
            planned = self.plan(question.query, target, values, whole_files=whole_files, first_rows=source_rows)
        self.note(planned)
        live = planned.files_by_name
        self.files |= {found.file.file_path: found for found in (*live.values(), *planned.whole_files)}
        sink = RowSink(
            question,
            planned.schema,
            self._schema,
            self._handle.name,
            {name: found.file.file_path for name, found in live.items()},
            self.collected,
            self._show if show and self._changed.shown is not None else None,
        )
        return Wave(planned, sink)

    def plan(
        self,
        query: Query,
        own: Mapping[str, Binding],
        values: Mapping[str, pa.Scalar] | None = None,
        *,
        threads: int | None = None,
        whole_files: bool = False,
        first_rows: int | None = None,
    ) -> PlannedQuery:
        """Plan a query in which names of ours stand for something."""
        context = self._context
        bound, bindings = bind_query(query, context.state, {**context.sources, **own})
        given = {name: context.parameters[name] for name in query.parameters}
        return context.engine.plan(
            now_in_microseconds(bound),
            bindings,
            given | dict(values or {}),
            batch_rows=WRITE_BATCH_ROWS if context.engine.memory_limit_bytes is None else LIMITED_BATCH_ROWS,
            threads=threads,
            hash_joins=self.hash_joins,
            one_build=True,
            first_rows=first_rows,
            whole_files=whole_files,
            piecewise=True,
        )

    def note(self, planned: PlannedQuery) -> None:
        """Take note of what a query reads."""
        self._context.state.note_reads(planned.reads, self._context.isolation)
        self._changed.scans += planned.scans

    def view(
        self,
        *,
        with_identity: bool = False,
        only: frozenset[str] | None = None,
        excluded: Positions | None = None,
    ) -> TableView:
        """The target, as the transaction sees it or a part of it."""
        view = self._context.state.view_of(self._context.pinned)
        return replace(view, with_identity=with_identity, only=only, excluded=excluded)

    def is_empty(self, live: LiveFile, gone: Positions) -> bool:
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

    def check(self) -> None:
        """See that no row was taken twice in a way that makes no sense; to be called while nothing is asked.

        Raises:
            CardinalityError: One was; it is shown.
        """
        duplicate = self.collected.finish()
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
        view = self.view(with_identity=True, only=frozenset([duplicate.path]))
        for batch in self.plan(query, {TARGET: view}).stream():
            for row in batch.to_pylist():
                return ", ".join(f"{name} = {value!r}" for name, value in row.items())
        return f"row {duplicate.position} of {duplicate.path}"
