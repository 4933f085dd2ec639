"""Batches that are read before they are asked for, while whoever asks for them is busy with others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa

__all__ = ["read_ahead"]


@contextmanager
def read_ahead(stream: Iterator[pa.RecordBatch], size_bytes: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of a stream, which a thread of its own pulls inside of the block.

    Args:
        stream: A generator, which is closed in the end.
        size_bytes: Arrow bytes that may wait, and a batch more.

    Raises:
        BaseException: Whatever the stream raised, as it was raised, in the place of the batch.
    """
    buffer = _Buffer(size_bytes)
    thread = threading.Thread(target=buffer.fill, args=(stream,), name="icefusion-ahead")
    with closing(stream):  # type: ignore[type-var]
        thread.start()
        try:
            yield buffer.batches()
        finally:
            buffer.leave()
            thread.join()


class _Buffer:
    """What was read and not asked for yet."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._changed = threading.Condition()
        self._batches: deque[pa.RecordBatch] = deque()
        self._bytes = 0
        self._ended = False
        self._left = False
        self._error: BaseException | None = None

    def fill(self, stream: Iterator[pa.RecordBatch]) -> None:
        """Read the stream to its end, or until nobody asks any more."""
        try:
            for batch in stream:
                with self._changed:
                    self._changed.wait_for(lambda: self._left or self._bytes <= self._size_bytes)
                    if self._left:
                        return
                    self._batches.append(batch)
                    self._bytes += batch.nbytes
                    self._changed.notify()
        except BaseException as exc:  # raised again by the thread that asks
            self._error = exc
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What is read, in order."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or bool(self._batches))
                if not self._batches:
                    break
                batch = self._batches.popleft()
                self._bytes -= batch.nbytes
                self._changed.notify()
            yield batch
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Nobody asks any more."""
        with self._changed:
            self._left = True
            self._changed.notify()
