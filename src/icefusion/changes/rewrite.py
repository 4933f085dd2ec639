"""Copy-on-write: data files written anew without the rows that are gone, and with those that took their place.

Rows keep together that were together: what is left of one file, and the new versions of its rows, go to one new file,
the new versions first and the rest behind them in the old order. So a table that was laid out in some order stays so,
and updating a few rows does not leave a file of its own behind each time. The new versions are first because they are
at hand: they are encoded while the old file is read. Small neighbours of one partition share a task, and come out as
one file. Several tasks run at the same time, each on one thread, as streams: memory does not grow with the files.

The new versions wait for that in memory, up to a limit. Those beyond it are written to files of their own at once,
which are then large ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile

from icefusion.changes.sink import NewRows
from icefusion.query.files import LiveFile

__all__ = ["HeldRows", "rewrite_tasks"]

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
    ordered = sorted(files, key=lambda live: (_partition(live.file), live.file.file_path))
    for _, group in groupby(ordered, key=lambda live: _partition(live.file)):
        room_bytes = 0
        for live in group:
            size_bytes = live.file.file_size_in_bytes
            if size_bytes > room_bytes:
                tasks.append([])
                room_bytes = SMALL_TASK_BYTES
            tasks[-1].append(live)
            room_bytes -= size_bytes
    return tasks


def _partition(file: DataFile) -> tuple[int, str]:
    return file.spec_id, repr([file.partition[index] for index in range(len(file.partition))])
