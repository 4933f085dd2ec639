"""Positions out of position delete files and deletion vectors.

What a delete file says does not change, so what was read last is kept, up to a number of bytes; threads share it. A
delete file that is missing, cut off or not what its manifest says is an error that names it: fewer deletes would be
rows that come back.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from operator import or_

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyroaring import BitMap

from icefusion.bridge.delete_files import read_position_deletes
from icefusion.bridge.entries import content_range
from icefusion.bridge.locations import DAMAGED, missing_file
from icefusion.bridge.positions import Positions
from icefusion.errors import StorageError
from icefusion.query.deletion_vectors import read_vector
from icefusion.query.files import LiveFile

__all__ = ["DeleteReader"]

MAX_CACHED_BYTES = 128 * 1024 * 1024
READING_THREADS = 8

_BYTES_A_POSITION = 4  # at most; dense ones take less
_BYTES_A_FILE = 400

_Key = tuple[str, str | tuple[int, int] | None]
_Needed = tuple[_Key, DataFile, list[str]]
_Part = list[tuple[str, BitMap]]


class DeleteReader:
    """Reads which positions are deleted, and remembers what it read last.

    Args:
        max_bytes: How much to remember.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[_Key, Positions] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def positions(self, files: Sequence[LiveFile], io: FileIO) -> Positions:
        """The rows of data files that their position delete files and deletion vectors delete.

        Raises:
            StorageError: A delete file is missing, or not what its manifest says.
        """
        needed: dict[_Key, tuple[DataFile, list[str]]] = {}
        for live in files:
            for delete in live.deletes:
                if delete.content == DataFileContent.POSITION_DELETES:
                    path = live.file.file_path
                    needed.setdefault(_key(delete, path), (delete, []))[1].append(path)
        found: dict[str, list[BitMap]] = {}
        missing: list[_Needed] = []
        parts: list[_Part] = []
        for key, (delete, paths) in needed.items():
            if (held := self._recall(key)) is None:
                missing.append((key, delete, paths))
            else:
                parts.append(_part(held, paths))
        # Threads only where there is something to read: to start them takes longer than to remember.
        parts.extend(_map(partial(self._read_part, io=io), missing))
        for part in parts:
            for path, bitmap in part:
                found.setdefault(path, []).append(bitmap)
        return Positions({path: reduce(or_, bitmaps) for path, bitmaps in found.items()})

    def _read_part(self, needed: _Needed, io: FileIO) -> _Part:
        key, delete, paths = needed
        positions = _read(delete, paths[0], io)
        self._remember(key, positions)
        return _part(positions, paths)

    def _recall(self, key: _Key) -> Positions | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _remember(self, key: _Key, positions: Positions) -> None:
        with self._lock:
            if key not in self._held and _size(positions) <= self._max_bytes:
                self._held[key] = positions
                self._bytes += _size(positions)
            while self._bytes > self._max_bytes:
                self._bytes -= _size(self._held.popitem(last=False)[1])


def _key(delete: DataFile, path: str) -> _Key:
    """What is read at once: a position delete file as a whole, of a Puffin file the part about one data file."""
    if delete.file_format != FileFormat.PUFFIN:
        return delete.file_path, None
    return delete.file_path, content_range(delete) or path


def _size(positions: Positions) -> int:
    return len(positions) * _BYTES_A_POSITION + (len(positions.paths()) + 1) * _BYTES_A_FILE


def _part(positions: Positions, paths: list[str]) -> _Part:
    return [(path, bitmap) for path in paths if (bitmap := positions.get(path)) is not None]


def _map(function: Callable[[_Needed], _Part], items: list[_Needed]) -> Iterator[_Part]:
    if len(items) <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(min(READING_THREADS, len(items)), thread_name_prefix="icefusion-deletes") as pool:
        yield from pool.map(function, items)


def _read(delete: DataFile, data_path: str, io: FileIO) -> Positions:
    if delete.file_format != FileFormat.PUFFIN:
        return read_position_deletes(delete, io)
    path = delete.file_path
    try:
        return Positions({data_path: read_vector(delete, data_path, io)})
    except FileNotFoundError as exc:
        raise missing_file(delete) from exc
    except StorageError:
        raise
    except Exception as exc:
        raise StorageError(f"cannot read delete file {path}: {exc}", path=path, hint=DAMAGED) from exc
