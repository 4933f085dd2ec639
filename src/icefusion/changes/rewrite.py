"""Copy-on-write: data files written anew without the rows that are gone, and with new values in those that changed.

Rows keep together that were together, in the order in which they were: what is left of one file goes to one new file,
and the new values of rows are laid over the old ones as these are read (`icefusion.write.overlay`). So a table that was
laid out in some order stays so, and updating a few rows does not leave a file of its own behind each time. Small
neighbours of one partition share a task, and come out as one file. Several tasks run at the same time, each on one
thread, as streams: memory does not grow with the files.

What does not change in a large file is not read at all, but copied as it is: stretches of rows, and the columns that
are not assigned (`icefusion.write.carrying`).

New values wait for that in memory, up to a limit. Of what is beyond it, whole rows are written to files of their own at
once, which are then large ones; parts of rows, which are of no use without the rest, wait on disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.bridge.delete_index import partition_key, partition_values
from icefusion.changes.sink import NewRows, Places
from icefusion.query.files import LiveFile
from icefusion.query.scan import POSITION_COLUMN
from icefusion.write.carrying import RowChanges, stretches, write_remaining
from icefusion.write.encoded import EncodedFile
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_waves
from icefusion.write.files import Partition, TableFiles
from icefusion.write.overlay import Overlay
from icefusion.write.routing import PartitionIndex
from icefusion.write.spill import SpillFolder

__all__ = ["HeldRows", "carry_over", "overlaid", "rewrite_tasks"]

logger = logging.getLogger("icefusion")

HELD_BYTES = 64 * 1024 * 1024
SMALL_TASK_BYTES = 32 * 1024 * 1024
_Held = tuple[npt.NDArray[np.uint32], pa.RecordBatch]


class HeldRows:
    """New values of rows that wait for their files to be written anew; used by several threads.

    Args:
        columns: The columns that are laid over the old rows; None for all.
        limit_bytes: Arrow bytes that may wait in memory; None for a default, which is also the most.
    """

    def __init__(self, columns: Sequence[str] | None = None, limit_bytes: int | None = None) -> None:
        self._columns = columns
        self._limit_bytes = min(limit_bytes or HELD_BYTES, HELD_BYTES)
        self._bytes = 0
        self._rows: dict[str, list[_Held]] = {}
        self._on_disk: dict[str, list[_Held]] = {}
        self._lock = threading.Lock()
        self._folder = SpillFolder()

    def hold(self, rows: NewRows) -> Iterator[pa.RecordBatch]:
        """Keep updated rows; whole ones that there is no room for, and rows that are new, are given back.

        Raises:
            StorageError: A temporary file could not be written.
        """
        if rows.places is None:
            yield rows.batch
            return
        batch = rows.batch if self._columns is None else rows.batch.select(list(self._columns))
        parts = [(path, (rows.places.positions[own], _part(batch, own))) for path, own in rows.places.by_file()]
        with self._lock:
            fits = self._bytes + batch.nbytes <= self._limit_bytes
            if not fits and self._columns is not None:
                self._spill()
                fits = True
            if fits:
                self._bytes += batch.nbytes
                for path, part in parts:
                    self._rows.setdefault(path, []).append(part)
        if not fits:
            yield batch

    def take(self, path: str) -> Overlay | None:
        """The new values that wait for a file; None where there are none."""
        with self._lock:
            parts = self._on_disk.pop(path, []) + self._rows.pop(path, [])
        self._folder.release()
        return Overlay.of(parts)

    def waits_for(self, path: str) -> bool:
        """Whether there are new values that wait for a file."""
        return path in self._rows or path in self._on_disk

    def close(self) -> None:
        """Remove all temporary files."""
        self._folder.close()

    def _spill(self) -> None:
        """Move what is in memory to disk, as one file; the positions with it, of which there are as many."""
        held = [(path, part) for path, parts in self._rows.items() for part in parts]
        self._rows, self._bytes = {}, 0
        if held:
            rows = [batch.append_column(POSITION_COLUMN, pa.array(positions)) for _, (positions, batch) in held]
            mapped = self._folder.spill(pa.Table.from_batches(rows)).to_batches()
            for (path, _), batch in zip(held, mapped, strict=True):
                names = batch.schema.names[:-1]
                part = batch.column(len(names)).to_numpy(), batch.select(names)
                self._on_disk.setdefault(path, []).append(part)
            self._folder.release()  # what was just written counts as memory of the process too


def rewrite_tasks(files: Sequence[LiveFile]) -> list[list[LiveFile]]:
    """Files that are written anew together: one each, but for small ones of one partition."""
    tasks: list[list[LiveFile]] = []
    ordered = sorted(files, key=lambda live: (_partition(live), live.file.file_path))
    for _, group in groupby(ordered, key=_partition):
        room_bytes = 0
        for live in group:
            size_bytes = live.file.file_size_in_bytes
            if size_bytes > room_bytes:
                tasks.append([])
                room_bytes = SMALL_TASK_BYTES
            tasks[-1].append(live)
            room_bytes -= size_bytes
    return tasks


def carry_over(
    live: LiveFile,
    changes: RowChanges,
    target: WriteTarget,
    io: FileIO,
    options: WriteOptions,
    keep: Callable[[WriteResult], None],
) -> bool:
    """Write a file anew, and what does not change in it as it is.

    Args:
        live: The file.
        changes: What becomes of its rows.
        target: The table.
        io: Where its files are.
        options: How much memory.
        keep: Told of what was written, which from then on is the caller's.

    Returns:
        Whether it was done; if not, the file has to be written by way of its rows.

    Raises:
        StorageError: A file could not be read or written.
    """
    file = live.file
    if live.deletes or file.spec_id != target.spec.spec_id:
        return False
    files = TableFiles(target, io, options.write_uuid, options.task_id)
    own, others = _by_partition(changes, file, target)
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(closing(io.new_input(file.file_path).open()))
            encoded = EncodedFile(stream, file.file_path, file.file_size_in_bytes)
        except Exception:  # the engine may read what is odd here, and tells what is wrong otherwise
            logger.debug("%s: is left to the engine", file.file_path, exc_info=True)
            return False
        parts = stretches(encoded, file, own, files, options)
        if parts is None:
            return False
        partition = Partition.of(file.partition, target.spec, target.schema) if target.spec.fields else None
        keep(write_remaining(parts, file, files, partition, options))
    if others:
        keep(write_waves([[iter(others)]], target, io, WriteOptions(options.threads, options.memory_limit_bytes)))
    return True


def overlaid(
    batches: Iterable[tuple[pa.RecordBatch, Places]], overlays: Mapping[str, Overlay]
) -> Iterator[pa.RecordBatch]:
    """Rows of some files with their new values in them.

    Args:
        batches: The rows, in the table's Arrow schema, and where they are.
        overlays: The new values, by the path of the file.
    """
    for batch, places in batches:
        for path, rows in places.by_file():
            part, overlay = _part(batch, rows), overlays.get(path)
            yield part if overlay is None else overlay.over_rows(part, places.positions[rows])


def _part(batch: pa.RecordBatch, rows: npt.NDArray[np.intp]) -> pa.RecordBatch:
    return batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))


def _by_partition(changes: RowChanges, file: DataFile, target: WriteTarget) -> tuple[RowChanges, list[pa.RecordBatch]]:
    """Changes that leave rows in the partition of their file, and the new rows for other partitions."""
    overlay = changes.overlay
    if overlay is None or not target.spec.fields or len(overlay.columns) < len(target.schema.fields):
        return changes, []  # only whole rows move
    index = PartitionIndex(target.spec, target.schema)
    here = partition_values(file.partition)
    ids = index.partition_ids(overlay.rows)
    stays = np.zeros(len(ids), np.bool_)
    for number in np.unique(ids):
        partition = index.partition(number)
        if partition is not None and partition_values(partition.record) == here:
            stays |= ids == number
    if stays.all():
        return changes, []
    own, others = overlay.filter(stays), overlay.filter(~stays)
    return RowChanges(changes.gone | others.bitmap, own or None), others.rows.to_batches()


def _partition(live: LiveFile) -> str:
    return repr(partition_key(live.file))  # text has an order, also beside NULL
