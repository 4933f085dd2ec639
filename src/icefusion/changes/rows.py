"""DELETE, UPDATE and MERGE: one way for all of them.

Theory of operation. A change asks its questions (`icefusion.query.changes`): which rows of the target, and what are
their new values. The answers stream through a `RowSink`, which collects the positions of rows that go and hands new
rows on; so no expression is computed twice. What becomes of the old rows, and of new versions of them, is all in which
the two modes differ:

- *merge-on-read* writes new versions to files of their own while rows are found, and keeps the positions of the old
  ones, of which the commit makes delete files.
- *copy-on-write* writes the files they are in anew: new values are laid over the old ones, so that rows stay where they
  are, and what does not change is copied as it is (`icefusion.changes.copy_on_write`).

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.arrays import with_nulls_below
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.changes.asking import Asker, Wave
from icefusion.changes.context import ChangeContext, Changed
from icefusion.changes.copy_on_write import CopyOnWrite
from icefusion.changes.insert import InsertAlignment
from icefusion.changes.joined import joined_as_merge
from icefusion.changes.rewrite import HeldRows
from icefusion.changes.spool import Spool
from icefusion.changes.staging import RowChange
from icefusion.commit.cleanup import delete_files
from icefusion.errors import OutOfMemoryError
from icefusion.query.changes import TARGET, RowQueries
from icefusion.query.files import LiveFile
from icefusion.reports import RowCounts
from icefusion.sql.compose import compose, table_piece
from icefusion.sql.statements import Delete, Merge, Query, Update
from icefusion.write.executor import WriteResult, Writing, write_streams
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
                self._context.target,
                self._handle.io,
                self._context.write_options(self._threads),
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
        with Writing(self._context.target, self._handle.io, self._context.write_options(self._threads)) as writing:
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
                removed = [live for live in touched if self.asker.is_empty(live, gone)]
            else:
                self.changed.rewritten_bytes += sum(live.file.file_size_in_bytes for live in touched)
                copying = CopyOnWrite(self._context, self.asker, held, self._keep)
                with self.changed.phase("rewrite"):
                    copying.rewrite(touched, gone, writing if together else None)
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

    # Small things

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
