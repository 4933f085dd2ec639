"""Which of the files of a failed query is damaged. The engine says what it tripped over, and not where.

The files are read once more, one after another, until one cannot be. That happens after an error that speaks of damage
alone, and not for files beyond a number of bytes: whoever waits for an error should not wait for a whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.bridge.locations import kind_of, local_path
from icefusion.errors import StorageError

__all__ = ["Suspect", "damaged_file", "suspect"]

MAX_BYTES = 1024 * 1024 * 1024
_BATCH_ROWS = 65_536

Suspect = tuple[str, int, Callable[[], Any], str]
"""What a file is called, its size in bytes, what opens it, and where it is."""


def suspect(file: DataFile, io: FileIO) -> Suspect:
    """A file of a table that may be the one."""
    local = local_path(file.file_path)
    opened: Callable[[], Any] = (lambda: local) if local is not None else io.new_input(file.file_path).open
    return f"{kind_of(file)} {file.file_path}", file.file_size_in_bytes, opened, file.file_path


def damaged_file(suspects: Iterable[Suspect]) -> StorageError | None:
    """The error for the first of some Parquet files that cannot be read; None where none was found."""
    left_bytes = MAX_BYTES
    for name, size_bytes, opened, path in suspects:
        left_bytes -= size_bytes
        if left_bytes < 0:
            return None
        try:
            with pq.ParquetFile(opened()) as file:
                for batch in file.iter_batches(_BATCH_ROWS):
                    batch.validate(full=True)
        except Exception as exc:  # whatever it is, the file is not as it was written
            said = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
            return StorageError(
                f"{name} is damaged: {said}",
                path=path,
                hint="restore it from a copy, or read a snapshot without it",
            )
    return None
