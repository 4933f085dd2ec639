"""A column that pyarrow encodes into the middle of another file.

pyarrow writes whole files: a magic number, pages, and behind them page indexes and a footer. Here the pages go on to
the other file, and what is said of them is kept, to be said there.
"""

from __future__ import annotations

from icefusion.write.copying import CopiedChunk, Write
from icefusion.write.encoded import MAGIC, value, values_of
from icefusion.write.thrift import Struct, read_struct

__all__ = ["ColumnSink"]


class ColumnSink:
    """What pyarrow takes for a file, and writes a column to.

    Args:
        write: Puts bytes into the other file.
    """

    closed = False

    def __init__(self, write: Write) -> None:
        self._write = write
        self._size = 0
        self._pages_end: int | None = None
        self._kept = bytearray()

    def write(self, data: bytes) -> int:
        """Take what pyarrow writes: the magic number, then pages, and behind them indexes and the footer."""
        if self._pages_end is not None:
            self._kept += data
        elif self._size:
            self._write(data)
        elif data != MAGIC:
            raise OSError("the encoder does not begin with the magic number")
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """How much was written."""
        return self._size

    def flush(self) -> None:
        """Nothing waits here."""

    def end_pages(self) -> None:
        """All pages were written."""
        self._pages_end = self._size

    def chunks(self, at: int) -> list[CopiedChunk]:
        """What was written, in a file that had so many bytes before."""
        assert self._pages_end is not None, "pages come first"
        kept, start = bytes(self._kept), self._pages_end
        length = int.from_bytes(kept[-8:-4], "little")
        footer, _ = read_struct(kept, len(kept) - 8 - length)
        (group,) = values_of(footer, 4)

        def index(chunk: Struct, place: int, size: int) -> bytes | None:
            if not {place, size} <= chunk.keys():
                return None
            return kept[value(chunk, place) - start :][: value(chunk, size)]

        return [
            CopiedChunk.moved(chunk, at - len(MAGIC), index(chunk, 6, 7), index(chunk, 4, 5))
            for chunk in values_of(group, 1)
        ]
