"""Are the files of a scan really there? DataFusion would answer a missing file with fewer rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.bridge.locations import kind_of, local_path, missing_file
from icefusion.errors import StorageError

__all__ = ["check_present"]

LOOKUP_THREADS = 16


def check_present(files: Sequence[DataFile], io: FileIO) -> None:
    """Look for every file.

    Raises:
        StorageError: A file is missing, or shorter than its manifest says. Longer ones pass: some writers count wrong.
    """
    remote = []
    for file in files:
        path = local_path(file.file_path)
        if path is None:
            remote.append(file)
        else:
            _check_local(file, path)
    if len(remote) == 1:
        _check_remote(remote[0], io)
    elif remote:
        with ThreadPoolExecutor(min(LOOKUP_THREADS, len(remote)), thread_name_prefix="icefusion-lookup") as pool:
            list(pool.map(partial(_check_remote, io=io), remote))


def _check_local(file: DataFile, path: str) -> None:
    try:
        size_bytes = os.stat(path).st_size  # noqa: PTH116 - a Path costs more than the call, and there are many files
    except FileNotFoundError as exc:
        raise missing_file(file) from exc
    except OSError as exc:
        raise StorageError(f"cannot read {kind_of(file)} {file.file_path}: {exc}", path=file.file_path) from exc
    _check_size(file, size_bytes)


def _check_remote(file: DataFile, io: FileIO) -> None:
    try:
        size_bytes = len(io.new_input(file.file_path))
    except FileNotFoundError as exc:
        raise missing_file(file) from exc
    except Exception as exc:
        raise StorageError(f"cannot read {kind_of(file)} {file.file_path}: {exc}", path=file.file_path) from exc
    _check_size(file, size_bytes)


def _check_size(file: DataFile, size_bytes: int) -> None:
    if size_bytes < file.file_size_in_bytes:
        raise StorageError(
            f"{kind_of(file)} {file.file_path} has {size_bytes} bytes, its manifest says {file.file_size_in_bytes}",
            path=file.file_path,
            hint="it was cut off or replaced; restore it, or read a snapshot without it",
        )
