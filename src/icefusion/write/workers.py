"""Threads that pull record batches and work them off.

Batches are pulled by as many threads as there are streams, and at least as many as may work: the streams of one query
can depend on each other, so each must be asked all the time. What was pulled goes onto one pile. Whoever makes the
pile full takes it and works it off, while the others go on pulling. At most `threads` piles are worked off at a time,
and with all of them busy nobody gets past a full pile, so there is no queue, and memory is bounded by the sizes of
`threads` + 1 piles and a batch a stream.

Towards the end no thread should wait for another that works on a last large pile. So a thread whose stream has ended
goes on with the streams of the others, and piles get smaller once a stream has ended that brought about as many rows
as any.

The first error stops all: threads look at `Stop` before each batch and each task. The thread that waits for them does
nothing else, and wakes often enough to see a keyboard interrupt.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

__all__ = ["PileSize", "Stop", "pull_streams", "run_tasks"]

logger = logging.getLogger("icefusion")

Progress = Callable[[int, int], None]
Align = Callable[[pa.RecordBatch], pa.RecordBatch]
POLL_S = 0.1
BEGIN_POLLS = 10
LAST_SHARE = 0.25


@dataclass(frozen=True)
class PileSize:
    """When a pile of batches is full."""

    rows: int
    size_bytes: int


class Stop:
    """The first error of a group of threads; being set, it tells all of them to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def set(self, error: BaseException) -> None:
        """Stop because of an error; a later one is only logged."""
        with self._lock:
            if self.error is None:
                self.error = error
            else:
                logger.debug("another thread failed as well", exc_info=error)

    def is_set(self) -> bool:
        """Whether there was an error."""
        return self.error is not None


def pull_streams(
    streams: Sequence[Iterator[pa.RecordBatch]],
    work: Callable[[list[pa.RecordBatch]], None],
    pile_size: PileSize,
    threads: int,
    stop: Stop,
    *,
    align: Align | None = None,
    progress: Progress | None = None,
    pile: Sequence[pa.RecordBatch] = (),
    leave_rest: bool = False,
) -> list[pa.RecordBatch]:
    """Pull all streams to their ends and have `work` done on each full pile; the answer is what was left on the pile.

    Args:
        streams: Where batches come from.
        work: Called by several threads.
        pile_size: When a pile is full.
        threads: How many piles are worked off at a time.
        stop: Tells all threads to stop.
        align: Applied to each batch.
        progress: Told of each batch.
        pile: What is on the pile to begin with.
        leave_rest: Whether a large part of a pile is left in the end too, unless threads would wait for another.

    Raises:
        BaseException: The first error of a stream, of `align`, of `progress` or of `work`, as it was raised.
    """
    shared = _Pile(pile_size, work, threads, progress, stop, leave_rest)
    shared.begin(pile)
    sources = [_Source(stream) for stream in streams]

    def pull(source: _Source) -> None:
        while not stop.is_set():
            batch = source.next_batch()
            if batch is None:
                return
            if batch.num_rows:
                shared.put(batch if align is None else align(batch))

    def pull_all(first: int) -> None:
        for source in sources[first:] + sources[:first]:  # one's own stream first, then those of slower threads
            pull(source)
            if _near_end(source, sources):
                shared.cut()
        shared.end()

    pullers = max(threads, len(sources)) if sources else 0
    _run([partial(pull_all, i % len(sources)) for i in range(pullers)], stop)
    return shared.take()


def run_tasks(tasks: Iterable[Callable[[], None]], threads: int, stop: Stop) -> None:
    """Run tasks on so many threads, in order.

    Raises:
        BaseException: The first error of a task, as it was raised; tasks that had not begun were left out.
    """
    waiting = deque(tasks)

    def work() -> None:
        while not stop.is_set():
            try:
                task = waiting.popleft()
            except IndexError:
                return
            task()

    _run([work] * min(threads, len(waiting)), stop)


class _Source:
    """A stream that several threads may pull, one at a time."""

    def __init__(self, stream: Iterator[pa.RecordBatch]) -> None:
        self._stream: Iterator[pa.RecordBatch] | None = stream
        self._lock = threading.Lock()
        self.rows = 0

    @property
    def ended(self) -> bool:
        return self._stream is None

    def next_batch(self) -> pa.RecordBatch | None:
        with self._lock:
            batch = None if self._stream is None else next(self._stream, None)
            if batch is None:
                self._stream = None  # a stream that has ended is not asked again
            else:
                self.rows += batch.num_rows
            return batch


def _near_end(ended: _Source, sources: Sequence[_Source]) -> bool:
    """Whether the end of a stream is a sign that the others end soon, as they brought about as many rows."""
    return ended.rows > 0 and all(source.rows <= 2 * ended.rows for source in sources if not source.ended)


class _Pile:
    """Batches that wait to be worked off together."""

    def __init__(
        self,
        size: PileSize,
        work: Callable[[list[pa.RecordBatch]], None],
        threads: int,
        progress: Progress | None,
        stop: Stop,
        leave_rest: bool,
    ) -> None:
        self._stop = stop
        self._leave_rest = leave_rest
        self._working: set[int] = set()
        self._size = size
        self._work = work
        self._slots = threading.Semaphore(threads)
        self._progress = progress
        self._lock = threading.Lock()
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self._full_share = 1.0
        self._was_full = False

    def begin(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Go on with a pile that was not full."""
        self._batches = list(batches)
        self._rows = sum(batch.num_rows for batch in batches)
        self._bytes = sum(batch.nbytes for batch in batches)

    def put(self, batch: pa.RecordBatch) -> None:
        """Add a batch, cut where the pile gets full; work off each pile that it fills."""
        row_bytes = max(1.0, batch.nbytes / max(1, batch.num_rows))
        offset = 0
        while offset < batch.num_rows and not self._stop.is_set():
            with self._lock:
                rows = min(batch.num_rows - offset, self._room(row_bytes))
                self._add(batch.slice(offset, rows), int(rows * row_bytes))
                offset += rows
                full = self._take_if(self._full_share)
            if full:
                self._work_off(full)

    def cut(self) -> None:
        """The end is near: from now on smaller piles are full, so that the threads reach it together."""
        if self._was_full:
            self._full_share = LAST_SHARE

    def end(self) -> None:
        """A thread has nothing more to pull: it works off a part of a pile rather than wait for the others.

        A rest that is to be left is worked off only if there is one to wait for.
        """
        with self._lock:
            part = [] if self._leave_rest and not self._working else self._take_if(LAST_SHARE)
        if part:
            self._work_off(part)

    def take(self) -> list[pa.RecordBatch]:
        """All that is on the pile."""
        batches, self._batches, self._rows, self._bytes = self._batches, [], 0, 0
        return batches

    def _room(self, row_bytes: float) -> int:
        """Rows of so many bytes that the pile still takes, at least one."""
        by_bytes = (self._size.size_bytes - self._bytes) / row_bytes
        return max(1, min(self._size.rows - self._rows, int(by_bytes) + 1))

    def _add(self, batch: pa.RecordBatch, size_bytes: int) -> None:
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += size_bytes
        if self._progress is not None:
            self._progress(batch.num_rows, size_bytes)

    def _take_if(self, share: float) -> list[pa.RecordBatch]:
        if self._rows < share * self._size.rows and self._bytes < share * self._size.size_bytes:
            return []
        self._was_full = True
        # The lock is held while all slots are busy: that is what keeps the others from piling up more.
        self._slots.acquire()
        self._working.add(threading.get_ident())
        return self.take()

    def _work_off(self, batches: list[pa.RecordBatch]) -> None:
        try:
            if not self._stop.is_set():
                self._work(batches)
        finally:
            self._working.discard(threading.get_ident())
            self._slots.release()


def _run(functions: Sequence[Callable[[], None]], stop: Stop) -> None:
    """Run each function on a thread of its own and wait for all; raise the first error."""
    threads: list[tuple[threading.Thread, threading.Event]] = []

    def guarded(function: Callable[[], None], ended: threading.Event) -> None:
        try:
            function()
        except BaseException as exc:  # raised again by the thread that waits
            stop.set(exc)
        finally:
            ended.set()

    try:
        for number, function in enumerate(functions):
            ended = threading.Event()
            thread = threading.Thread(target=guarded, args=(function, ended), name=f"icefusion-write-{number}")
            threads.append((thread, ended))
            thread.start()
        _wait(threads)
    except BaseException as exc:  # a keyboard interrupt, or no more threads
        stop.set(exc)
        with contextlib.suppress(KeyboardInterrupt):
            _wait(threads)
    if stop.error is not None:
        raise stop.error


def _wait(threads: Sequence[tuple[threading.Thread, threading.Event]]) -> None:
    """Wait until all have ended, but for those that never began.

    Whether a thread is alive must not be asked: an interrupted `join` takes one for dead that is at work (gh-90882).
    """
    for thread, ended in threads:
        polls = 0
        while not ended.wait(POLL_S) and (thread.ident is not None or polls < BEGIN_POLLS):
            polls += 1
