"""Where write tasks run: streams of record batches in, data files out.

`write_waves` is one task, on the threads of this process. What it is told of the table is a picklable value, and its
answer is a list of data files, so that other places to run it can be added. What happens in between is up to a layout:
`Appender` for tables whose rows go into files as they come, `Fanout` for tables that are partitioned or sorted.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.errors import ConfigurationError
from icefusion.reports import WriteReport
from icefusion.write.fanout import Fanout
from icefusion.write.files import TableFiles, WriteTarget
from icefusion.write.layout import Appender, Layout, Task
from icefusion.write.workers import Align, Progress, Stop, pull_streams, run_tasks

__all__ = ["WriteOptions", "WriteResult", "WriteTarget", "Writing", "write_streams", "write_waves"]

logger = logging.getLogger("icefusion")


@dataclass(frozen=True)
class WriteOptions:
    """How a write task runs.

    Attributes:
        threads: Threads that encode.
        memory_limit_bytes: Arrow bytes that the task may hold at a time; None lets it choose.
        write_uuid: Part of each file's name, by which the files of one operation can be told.
        task_id: Part of each file's name, by which the tasks of one operation can be told.
    """

    threads: int
    memory_limit_bytes: int | None = None
    write_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    task_id: int = 0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigurationError(f"WriteOptions.threads: expected at least 1, found {self.threads}")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < 1:
            raise ConfigurationError(
                f"WriteOptions.memory_limit_bytes: expected at least 1, found {self.memory_limit_bytes}"
            )


@dataclass(frozen=True)
class WriteResult:
    """The files of a write task, and what is to be said of it."""

    files: tuple[DataFile, ...]
    report: WriteReport

    @classmethod
    def of(
        cls, table: str, files: Iterable[DataFile], began: float, *, partitions: int, spilled_bytes: int = 0
    ) -> WriteResult:
        """What came of a task that began at a reading of ``time.perf_counter``."""
        ordered = tuple(sorted(files, key=lambda file: file.file_path))
        report = WriteReport(
            table,
            rows=sum(file.record_count for file in ordered),
            files=len(ordered),
            bytes=sum(file.file_size_in_bytes for file in ordered),
            partitions=partitions,
            spilled_bytes=spilled_bytes,
            seconds=time.perf_counter() - began,
        )
        return cls(ordered, report)


def write_streams(
    streams: Sequence[Iterator[pa.RecordBatch]],
    target: WriteTarget,
    io: FileIO,
    options: WriteOptions,
    *,
    align: Align | None = None,
    progress: Progress | None = None,
) -> WriteResult:
    """Write all rows of some streams into data files of a table; nothing is committed. See `write_waves`."""
    return write_waves([streams], target, io, options, align=align, progress=progress)


def write_waves(
    waves: Iterable[Sequence[Iterator[pa.RecordBatch]]],
    target: WriteTarget,
    io: FileIO,
    options: WriteOptions,
    *,
    align: Align | None = None,
    progress: Progress | None = None,
) -> WriteResult:
    """Write all rows of some streams, wave after wave, into data files of a table; nothing is committed.

    Args:
        waves: Where the rows come from. All streams of a wave are pulled at the same time; fewer streams than threads
            are shared. The next wave is asked for once the last one has ended, so it may depend on it.
        target: The table.
        io: Where its files go.
        options: How many threads, and how much memory.
        align: Fits a batch to the table; runs in the threads. Without it, batches have exactly the Arrow schema
            `icefusion.bridge.schema.iceberg_to_arrow` of the target.
        progress: Told of each batch, one call at a time: its rows and its Arrow bytes.

    Returns:
        The data files, which from now on are the caller's to commit or to delete, and a report. No rows, no files.

    Raises:
        StorageError: A data file or a temporary file could not be written.
        ConfigurationError: A table property makes no sense.
        BaseException: Whatever a stream, `align` or `progress` raised, or a keyboard interrupt, as it was raised.
            After any error no file is left; what could not be deleted is named in a note on the error.
    """
    with Writing(target, io, options) as writing:
        writing.pull(waves, align=align, progress=progress)
        run_tasks(writing.last_tasks(options.threads), options.threads, Stop())
    return writing.result()


class Writing:
    """`write_waves` step by step, for who has other work to do while the last rows are encoded.

    After an error in its block no file is left; what could not be deleted is named in a note on the error.

    Args:
        target: The table.
        io: Where its files go.
        options: How many threads, and how much memory.
    """

    def __init__(self, target: WriteTarget, io: FileIO, options: WriteOptions) -> None:
        self._started = time.perf_counter()
        self._target = target
        self._options = options
        self._files = TableFiles(target, io, options.write_uuid, options.task_id)
        self._layout = _layout(self._files, options)
        self._rest: list[pa.RecordBatch] = []
        self._streams: Sequence[Iterator[pa.RecordBatch]] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                self._layout.abort()
                self._files.delete(error)
                _close(self._streams)
        finally:
            self._layout.discard()

    def pull(
        self,
        waves: Iterable[Sequence[Iterator[pa.RecordBatch]]],
        *,
        align: Align | None = None,
        progress: Progress | None = None,
        leave_rest: bool = False,
    ) -> None:
        """Pull all streams to their ends; see `write_waves`.

        Args:
            waves: Where the rows come from.
            align: Fits a batch to the table.
            progress: Told of each batch.
            leave_rest: Leave the last rows of a wave to the next one, or to `last_tasks`, unless there is time for them
                while others are encoded.
        """
        stop = Stop()
        for self._streams in waves:
            self._rest = pull_streams(
                self._streams,
                self._layout.work,
                self._layout.pile_size,
                self._options.threads,
                stop,
                align=align,
                progress=progress,
                pile=self._rest,
                leave_rest=leave_rest,
            )
        self._streams = ()

    def last_tasks(self, threads: int) -> list[Task]:
        """What is left to do, as tasks for so many threads; all have to be run."""
        rest, self._rest = self._rest, []
        return self._layout.finish(rest, threads)

    def result(self) -> WriteResult:
        """The data files, once all is done; from now on they are the caller's to commit or to delete."""
        layout = self._layout
        return WriteResult.of(
            self._target.table,
            layout.data_files,
            self._started,
            partitions=layout.partitions,
            spilled_bytes=layout.spilled_bytes,
        )


def _layout(files: TableFiles, options: WriteOptions) -> Layout:
    if files.target.spec.fields or files.target.sort_order.fields:
        return Fanout(files, options.threads, options.memory_limit_bytes)
    return Appender(files, options.threads, options.memory_limit_bytes)


def _close(streams: Sequence[Iterator[pa.RecordBatch]]) -> None:
    for stream in streams:
        close: Callable[[], None] | None = getattr(stream, "close", None)
        if close is None:
            continue
        try:
            close()
        except Exception:
            logger.warning("a stream could not be closed after a failed write", exc_info=True)
