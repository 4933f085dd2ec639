"""Copy-on-write: data files written anew without the rows that are gone, and with those that took their place.

Rows keep together that were together: what is left of one file, and the new versions of its rows, go to one new file,
the new versions first and the rest behind them in the old order. So a table that was laid out in some order stays so,
and updating a few rows does not leave a file of its own behind each time. The new versions are first because they are
at hand: they are encoded while the old file is read. Small neighbours of one partition share a task, and come out as
one file. Several tasks run at the same time, each on one thread, as streams: memory does not grow with the files.

Where the rows that are gone lie together, most of a large file has nothing missing. Such stretches are not read at all,
but copied as they are (`icefusion.write.carrying`).

The new versions wait for that in memory, up to a limit. Those beyond it are written to files of their own at once,
which are then large ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyroaring import BitMap

from icefusion.bridge.delete_index import partition_key, partition_values
from icefusion.changes.sink import NewRows
from icefusion.query.files import LiveFile
from icefusion.write.carrying import stretches, write_remaining
from icefusion.write.encoded import EncodedFile
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_waves
from icefusion.write.files import Partition, TableFiles
from icefusion.write.routing import PartitionIndex

__all__ = ["HeldRows", "carry_over", "rewrite_tasks"]

logger = logging.getLogger("icefusion")

HELD_BYTES = 64 * 1024 * 1024
SMALL_TASK_BYTES = 32 * 1024 * 1024


class HeldRows:
    """New versions of rows that wait for their files to be written anew; used by several threads.

    Args:
        limit_bytes: Arrow bytes that may wait; None for a default, which is also the most.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = min(limit_bytes or HELD_BYTES, HELD_BYTES)
        self._bytes = 0
        self._rows: dict[str, list[pa.RecordBatch]] = {}
        self._lock = threading.Lock()

    def hold(self, rows: NewRows) -> Iterator[pa.RecordBatch]:
        """Keep updated rows; what there is no room for, and rows that are new altogether, are given back."""
        if rows.files is None:
            yield rows.batch
            return
        size_bytes = rows.batch.nbytes
        with self._lock:
            fits = self._bytes + size_bytes <= self._limit_bytes
            self._bytes += size_bytes if fits else 0
        if not fits:
            yield rows.batch
            return
        codes = rows.files.indices
        paths = rows.files.dictionary.to_pylist()
        for code, path in enumerate(paths):
            own = rows.batch if len(paths) == 1 else rows.batch.filter(pc.equal(codes, pa.scalar(code, codes.type)))
            with self._lock:
                self._rows.setdefault(path, []).append(own)

    def take(self, paths: Iterable[str]) -> list[pa.RecordBatch]:
        """The rows that wait for some files."""
        with self._lock:
            return [batch for path in paths for batch in self._rows.pop(path, [])]


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
    gone: BitMap,
    held: HeldRows,
    target: WriteTarget,
    io: FileIO,
    options: WriteOptions,
    keep: Callable[[WriteResult], None],
) -> bool:
    """Write a file anew, and what no row is missing from as it is.

    Args:
        live: The file.
        gone: The positions of the rows that are gone.
        held: New versions of rows; those of the file are taken if it is written.
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
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(closing(io.new_input(file.file_path).open()))
            encoded = EncodedFile(stream, file.file_path, file.file_size_in_bytes)
        except Exception:  # the engine may read what is odd here, and tells what is wrong otherwise
            logger.debug("%s: is left to the engine", file.file_path, exc_info=True)
            return False
        parts = stretches(encoded, file, gone, files)
        if parts is None:
            return False
        partition = Partition.of(file.partition, target.spec, target.schema) if target.spec.fields else None
        own, others = _by_partition(held.take([file.file_path]), file, target)
        keep(write_remaining(parts, own, files, partition, options))
    if others:
        keep(write_waves([[iter(others)]], target, io, WriteOptions(options.threads, options.memory_limit_bytes)))
    return True


def _by_partition(
    rows: Sequence[pa.RecordBatch], file: DataFile, target: WriteTarget
) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Those of some rows that stay in the partition of a file, and the others."""
    if not target.spec.fields:
        return list(rows), []
    own: list[pa.RecordBatch] = []
    others: list[pa.RecordBatch] = []
    index = PartitionIndex(target.spec, target.schema)
    here = partition_values(file.partition)
    for batch in rows:
        ids = index.partition_ids(pa.Table.from_batches([batch]))
        for number in np.unique(ids):
            partition = index.partition(number)
            stays = partition is not None and partition_values(partition.record) == here
            (own if stays else others).append(batch.filter(pa.array(ids == number)))
    return own, others


def _partition(live: LiveFile) -> str:
    return repr(partition_key(live.file))  # text has an order, also beside NULL
