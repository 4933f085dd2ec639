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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.arrays import with_nulls_below
from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.changes.ahead import read_ahead
from icefusion.changes.asking import Asker, Wave
from icefusion.changes.context import ChangeContext, Changed
from icefusion.changes.insert import InsertAlignment
from icefusion.changes.joined import joined_as_merge
from icefusion.changes.rewrite import HeldRows, carry_over, overlaid, rewrite_tasks
from icefusion.changes.sink import places_of
from icefusion.changes.spool import Spool
from icefusion.changes.staging import RowChange
from icefusion.commit.cleanup import delete_files
from icefusion.config import WriteProperties
from icefusion.errors import OutOfMemoryError
from icefusion.naming import quote_identifier
from icefusion.query.changes import TARGET, RowQueries
from icefusion.query.files import LiveFile
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN
from icefusion.reports import RowCounts
from icefusion.sql.compose import compose, table_piece
from icefusion.sql.statements import Delete, Merge, Query, Update
from icefusion.write.carrying import RowChanges, may_be_worth_it
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, Writing, write_streams, write_waves
from icefusion.write.workers import Stop, run_tasks

__all__ = ["RowChanger"]

AHEAD_BYTES = 64 * 1024 * 1024
"""So much of a file that is written anew is read ahead, where there are more threads than files."""

Streams = list[Iterator[pa.RecordBatch]]


class RowChanger:
    """Carries out one change of rows. It stages nothing: what it gives back is the caller's to stage or to delete.

    Args:
        context: What it works with.
        queries: Makes the questions.
        show: Whether the rows are wanted for RETURNING.

    Attributes:
        asker: Asks its questions.
        changed: How it goes.
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
        self._inserted = 0
        self._written: list[DataFile] = []
        self._held_columns: tuple[str, ...] | None = None
        self.changed = Changed()
        self.asker = Asker(context, queries, self.changed, self._shown_schema, self._show)
        if show:
            self.changed.shown = Spool(self._shown_schema, memory_limit_bytes=context.spool_bytes)

    # Statements

    def change(self, change: Delete | Update) -> Changed:
        """Carry out a DELETE or an UPDATE."""
        showing = self.changed.shown is not None
        whole_files = False
        if isinstance(change, Delete):
            question = self._queries.delete(change, all_columns=showing)
            whole_files = change.using is None and not showing
        else:
            question = self._queries.update(change, self.asker.part_of(change))
            self._held_columns = self.asker.held_columns(change)
        # Rows that are sorted whole take more memory than the engine knows of.
        by_sorting = isinstance(change, Delete) or joined_as_merge(change) is None
        by_sorting = by_sorting and self._context.can_ask_again
        return self._carried_out(lambda: self.asker.ask_all(question, whole_files=whole_files), by_sorting)

    def truncate(self) -> Changed:
        """Remove all rows."""
        question = self._queries.rows(None)
        return self._carried_out(lambda: self.asker.ask_all(question, whole_files=True), True)

    def merge(self, change: Merge, source: Spool, *, ignored: BitMap | None = None) -> Changed:
        """Carry out a MERGE whose source was read into a spool, its rows numbered.

        Args:
            change: The statement.
            source: Its source.
            ignored: Numbers of rows that are not to be looked at.
        """
        self._held_columns = self.asker.held_columns(change)
        return self._carried_out(lambda: self.asker.merge_waves(change, source, ignored or BitMap()), True)

    def insert(self, query: Query, alignment: InsertAlignment) -> Changed:
        """Write the rows of a query."""
        with self.changed.phase("plan"):
            planned = self.asker.plan(query, {})
        self.asker.note(planned)
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
                self.asker.hash_joins = False
            # Out of the handler: as long as the error is at hand, so is the failed query, and the memory that it holds.
            if not self.asker.hash_joins:
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
        self.asker.forget()
        if self.changed.shown is not None and not count:
            self.changed.shown = Spool(self._shown_schema, memory_limit_bytes=self._context.spool_bytes)

    def _write(self, waves: Iterator[Wave], more_whole: Sequence[LiveFile]) -> None:
        if self._context.mode != "copy-on-write":
            self._find_and_write(waves, more_whole, None)
            return
        with closing(HeldRows(self._held_columns, self._context.spool_bytes)) as held:
            self._find_and_write(waves, more_whole, held)

    def _find_and_write(self, waves: Iterator[Wave], more_whole: Sequence[LiveFile], held: HeldRows | None) -> None:
        whole: list[LiveFile] = []

        def streams() -> Iterator[Streams]:
            for wave in waves:
                # Nothing else of it is kept: a query that was run holds the memory of its joins as long as it is there.
                whole.extend(wave.planned.whole_files)
                yield [self._new_rows(wave, stream, held) for stream in wave.planned.streams()]

        # The last new rows are encoded beside the files that are written anew, where there is memory for both.
        together = held is not None and self._context.write_memory_bytes is None
        with Writing(self._target, self._handle.io, self._options(self._threads)) as writing:
            with self.changed.phase("find and write"):
                writing.pull(streams(), leave_rest=together)
                if not together:
                    run_tasks(writing.last_tasks(self._threads), self._threads, Stop())
            collected = self.asker.collected
            self.asker.check()
            gone = collected.gone
            whole += more_whole
            counts = RowCounts(
                inserted=self._inserted + collected.inserted,
                updated=collected.updated,
                deleted=collected.deleted + self._rows_in(whole),
            )
            touched = [self.asker.files[path] for path in gone.paths()]
            removed = touched
            if held is None:
                removed = [live for live in touched if self._is_empty(live, gone)]
            else:
                with self.changed.phase("rewrite"):
                    self._rewrite(touched, gone, held, writing if together else None)
        self._keep(writing.result())
        paths = frozenset(live.file.file_path for live in removed)
        kept = tuple(live for live in touched if live.file.file_path not in paths)
        self.changed.change = RowChange(tuple(self._written), (*whole, *removed), kept, gone.without(paths), counts)

    def _rows_in(self, files: Sequence[LiveFile]) -> int:
        """How many rows some files have, those left out that are deleted already."""
        if not files:
            return 0
        staged = self._context.pinned.staging.deleted
        if not any(live.deletes for live in files):
            return sum(live.file.record_count - staged.count(live.file.file_path) for live in files)
        view = self.asker.view(only=frozenset(live.file.file_path for live in files))
        planned = self.asker.plan(compose("SELECT count(*) FROM ", table_piece(TARGET)), {TARGET: view})
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

    def _rewrite(self, touched: Sequence[LiveFile], gone: Positions, held: HeldRows, writing: Writing | None) -> None:
        """Write the touched files anew, without the rows that are gone and with their new versions.

        Args:
            touched: The files.
            gone: The rows that are gone.
            held: New versions of rows.
            writing: Has new rows left, which are written at the same time; None where there are none.
        """
        tasks = rewrite_tasks(touched)
        self.changed.rewritten_bytes += sum(live.file.file_size_in_bytes for live in touched)
        memory_bytes = self._context.write_memory_bytes
        share_bytes = None if memory_bytes is None else max(1, memory_bytes // max(1, min(self._threads, len(tasks))))
        ahead_bytes = AHEAD_BYTES if memory_bytes is None and len(tasks) < self._threads else None
        worth_a_look = self._worth_a_look(tasks, gone, held)

        def rewrite(files: Sequence[LiveFile]) -> None:
            options = self._options(1, share_bytes)
            changes = {path: self._changes(path, gone, held) for path in (live.file.file_path for live in files)}
            if files[0].file.file_path in worth_a_look:
                (live,) = files
                own = changes[live.file.file_path]
                if carry_over(live, own, self._target, self._handle.io, options, self._keep):
                    return
            lost = Positions({path: own.gone for path, own in changes.items()})
            if all(self._is_empty(live, lost) for live in files):
                return
            with ExitStack() as reading:
                rows = self._survivors(changes, lost)
                if ahead_bytes is not None:
                    rows = reading.enter_context(read_ahead(rows, ahead_bytes))
                self._keep(write_waves([[rows]], self._target, self._handle.io, options))

        rewrites = [partial(rewrite, task) for task in tasks]
        rest = [] if writing is None else writing.last_tasks(max(1, self._threads - len(tasks)))
        # A rewrite for each thread but one, so that the rest does not wait in memory for all of them.
        first = max(0, self._threads - 1)
        run_tasks([*rewrites[:first], *rest, *rewrites[first:]], self._threads, Stop())

    def _changes(self, path: str, gone: Positions, held: HeldRows) -> RowChanges:
        """What becomes of the rows of a file. New values of its rows are taken."""
        overlay = held.take(path)
        touched = gone.get(path) or BitMap()
        return RowChanges(touched if overlay is None else touched - overlay.bitmap, overlay)

    def _worth_a_look(self, tasks: Sequence[Sequence[LiveFile]], gone: Positions, held: HeldRows) -> frozenset[str]:
        """Of the files that are written anew alone, those of which much may be carried over.

        That much is where rows only get new values, and what is not assigned stays; or where long stretches are left.
        They have all of their rows, and the table lists them once: writers that were told not to look for duplicates
        may have added a file twice.
        """
        options = WriteProperties.of(self._handle.metadata.properties)
        alone = {task[0].file.file_path: task[0].file for task in tasks if len(task) == 1}
        likely = frozenset(
            path
            for path, file in alone.items()
            if held.waits_for(path) or may_be_worth_it(file, gone.get(path) or BitMap(), options)
        )
        if not likely:
            return likely
        times = Counter(live.file.file_path for live in self._context.engine.files(self.asker.view(only=likely)))
        deleted = self._context.pinned.staging.deleted
        return frozenset(path for path, count in times.items() if count == 1 and not deleted.count(path))

    # Small things

    def _survivors(self, changes: Mapping[str, RowChanges], gone: Positions) -> Iterator[pa.RecordBatch]:
        """What is left of some files, in order, with the new values of its rows."""
        names = [field.name for field in self._schema.fields]
        overlays = {path: own.overlay for path, own in changes.items() if own.overlay is not None}
        identity = [FILE_COLUMN, POSITION_COLUMN] if overlays else []
        columns = ", ".join(map(quote_identifier, [*names, *identity]))
        query = compose(f"SELECT {columns} FROM ", table_piece(TARGET))
        view = self.asker.view(only=frozenset(changes), excluded=gone, with_identity=bool(overlays))
        planned = self.asker.plan(query, {TARGET: view}, threads=1)
        answer = pa.schema([planned.schema.field(place) for place in range(len(names))])
        alignment = Alignment.plan(answer, self._schema, by="position", table=self._handle.name)
        if not overlays:
            return (alignment.apply(batch) for batch in planned.stream())
        paths = {name: live.file.file_path for name, live in planned.files_by_name.items()}
        own = list(range(len(names)))
        placed = (
            (alignment.apply(batch.select(own)), places_of(batch, len(own), len(own) + 1, paths))
            for batch in planned.stream()
        )
        return overlaid(placed, overlays)

    @property
    def _target(self) -> WriteTarget:
        return WriteTarget.of(self._handle.name, self._handle.metadata)

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
