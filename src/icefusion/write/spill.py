"""Rows set aside on disk, to be read back as if they were still in memory.

They are written to a temporary Arrow file without compression and mapped back: any slice of them is at hand at the
cost of the pages it touches, and the operating system, not this process, decides what of it stays in memory. Pages that
were read count as the process's own as long as there is memory to spare; `SpillFolder.release` lets go of them, and
whoever reads them again gets them again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import tempfile
import threading
import weakref
from pathlib import Path

import pyarrow as pa

from icefusion.write.files import storage_errors

__all__ = ["SpillFolder"]

logger = logging.getLogger("icefusion")

HINT = "make room there, or have TMPDIR name another folder"


class SpillFolder:
    """A temporary folder for the rows of one operation, made when the first ones come; may be used by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count(1)
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self.spilled_bytes = 0

    def spill(self, rows: pa.Table) -> pa.Table:
        """Write rows to disk; the answer is the same rows, backed by the file.

        Raises:
            StorageError: The file could not be written.
        """
        path = self._new_path()
        with storage_errors(str(path), hint=HINT):
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            with path.open("rb") as written:
                mapping = mmap.mmap(written.fileno(), 0, access=mmap.ACCESS_READ)
            mapped = pa.ipc.open_file(pa.py_buffer(mapping)).read_all()
            size_bytes = path.stat().st_size
            # The mapping keeps the bytes; without a name the file goes with the last slice, come what may.
            with contextlib.suppress(OSError):  # not on every system
                path.unlink()
        with self._lock:
            self.spilled_bytes += size_bytes
            self._maps.add(mapping)
        return mapped

    def release(self) -> None:
        """Let go of the pages that were read; the rows stay readable."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on every system
            with self._lock:
                mappings = list(self._maps)
            for mapping in mappings:
                mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Remove all temporary files."""
        if self._folder is not None:
            try:
                self._folder.cleanup()
            except OSError:
                logger.warning("%s: temporary files could not be removed", self._folder.name, exc_info=True)

    def _new_path(self) -> Path:
        with self._lock:
            if self._folder is None:
                with storage_errors(tempfile.gettempdir(), "used for temporary files", HINT):
                    self._folder = tempfile.TemporaryDirectory(prefix="icefusion-spill-")
            return Path(self._folder.name) / f"{next(self._numbers):05d}.arrow"
