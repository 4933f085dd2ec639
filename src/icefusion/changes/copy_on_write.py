"""Files of a change that are written anew, several at a time: each the way that leaves most of it as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import pyarrow as pa
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.positions import Positions
from icefusion.changes.ahead import read_ahead
from icefusion.changes.asking import Asker
from icefusion.changes.context import ChangeContext
from icefusion.changes.rewrite import HeldRows, carry_over, overlaid, rewrite_tasks
from icefusion.changes.sink import places_of
from icefusion.config import WriteProperties
from icefusion.naming import quote_identifier
from icefusion.query.changes import TARGET
from icefusion.query.files import LiveFile
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN
from icefusion.sql.compose import compose, table_piece
from icefusion.write.carrying import RowChanges, may_be_worth_it
from icefusion.write.executor import WriteResult, Writing, write_waves
from icefusion.write.workers import Stop, run_tasks

__all__ = ["CopyOnWrite"]

AHEAD_BYTES = 64 * 1024 * 1024
"""So much of a file that is written anew is read ahead, where there are more threads than files."""


class CopyOnWrite:
    """Writes the files of one change anew.

    Args:
        context: What the change works with.
        asker: Asked the questions of the change; asks for what is left of files.
        held: New values of rows.
        keep: Told of what was written, which from then on is the caller's.
    """

    def __init__(
        self, context: ChangeContext, asker: Asker, held: HeldRows, keep: Callable[[WriteResult], None]
    ) -> None:
        self._context = context
        self._asker = asker
        self._held = held
        self._keep = keep
        self._handle = context.pinned.handle
        self._schema = self._handle.metadata.schema()

    def rewrite(self, touched: Sequence[LiveFile], gone: Positions, writing: Writing | None) -> None:
        """Write the touched files anew, without the rows that are gone and with their new versions.

        Args:
            touched: The files.
            gone: The rows that are gone.
            writing: Has new rows left, which are written at the same time; None where there are none.
        """
        tasks = rewrite_tasks(touched)
        threads = self._context.threads
        memory_bytes = self._context.write_memory_bytes
        share_bytes = None if memory_bytes is None else max(1, memory_bytes // max(1, min(threads, len(tasks))))
        ahead_bytes = AHEAD_BYTES if memory_bytes is None and len(tasks) < threads else None
        worth_a_look = self._worth_a_look(tasks, gone)

        def rewrite(files: Sequence[LiveFile]) -> None:
            options = self._context.write_options(1, share_bytes)
            changes = {path: self._changes(path, gone) for path in (live.file.file_path for live in files)}
            if files[0].file.file_path in worth_a_look:
                (live,) = files
                own = changes[live.file.file_path]
                if carry_over(live, own, self._context.target, self._handle.io, options, self._keep):
                    return
            lost = Positions({path: own.gone for path, own in changes.items()})
            if all(self._asker.is_empty(live, lost) for live in files):
                return
            with ExitStack() as reading:
                rows = self._survivors(changes, lost)
                if ahead_bytes is not None:
                    rows = reading.enter_context(read_ahead(rows, ahead_bytes))
                self._keep(write_waves([[rows]], self._context.target, self._handle.io, options))

        rewrites = [partial(rewrite, task) for task in tasks]
        rest = [] if writing is None else writing.last_tasks(max(1, threads - len(tasks)))
        # A rewrite for each thread but one, so that the rest does not wait in memory for all of them.
        first = max(0, threads - 1)
        run_tasks([*rewrites[:first], *rest, *rewrites[first:]], threads, Stop())

    def _changes(self, path: str, gone: Positions) -> RowChanges:
        """What becomes of the rows of a file. New values of its rows are taken."""
        overlay = self._held.take(path)
        touched = gone.get(path) or BitMap()
        return RowChanges(touched if overlay is None else touched - overlay.bitmap, overlay)

    def _worth_a_look(self, tasks: Sequence[Sequence[LiveFile]], gone: Positions) -> frozenset[str]:
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
            if self._held.waits_for(path) or may_be_worth_it(file, gone.get(path) or BitMap(), options)
        )
        if not likely:
            return likely
        times = Counter(live.file.file_path for live in self._context.engine.files(self._asker.view(only=likely)))
        deleted = self._context.pinned.staging.deleted
        return frozenset(path for path, count in times.items() if count == 1 and not deleted.count(path))

    def _survivors(self, changes: Mapping[str, RowChanges], gone: Positions) -> Iterator[pa.RecordBatch]:
        """What is left of some files, in order, with the new values of its rows."""
        names = [field.name for field in self._schema.fields]
        overlays = {path: own.overlay for path, own in changes.items() if own.overlay is not None}
        identity = [FILE_COLUMN, POSITION_COLUMN] if overlays else []
        columns = ", ".join(map(quote_identifier, [*names, *identity]))
        query = compose(f"SELECT {columns} FROM ", table_piece(TARGET))
        view = self._asker.view(only=frozenset(changes), excluded=gone, with_identity=bool(overlays))
        planned = self._asker.plan(query, {TARGET: view}, threads=1)
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
