"""What data files really hold: their physical schema and number of rows, from the Parquet footers.

Files are immutable, so a footer is read once and remembered. Equal schemas are the same object (`FileShape.schema`), so
thousands of files of one writer are told apart by identity.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.bridge.locations import DAMAGED, kind_of, local_path, missing_file
from icefusion.errors import StorageError

__all__ = ["FOOTER_THREADS", "FileShape", "FooterReader", "read_footer"]

MAX_CACHED_FOOTERS = 100_000
FOOTER_THREADS = 8
NEAR_FOOTER_S = 0.000_5
"""What takes longer than this for a footer is worth threads."""
PATIENCE_FOOTERS = 8


@dataclass(frozen=True, eq=False)
class FileShape:
    """The physical schema of files, with the field ids they carry in the Arrow fields' metadata.

    Compared by identity: `FooterReader` gives equal shapes as one object.
    """

    schema: pa.Schema


class FooterReader:
    """Reads footers and remembers those it read last.

    Args:
        max_footers: How many to remember.
    """

    def __init__(self, max_footers: int = MAX_CACHED_FOOTERS) -> None:
        self._max_footers = max_footers
        self._shapes: OrderedDict[tuple[str, int], FileShape] = OrderedDict()
        self._interned: dict[bytes, FileShape] = {}
        self._lock = threading.Lock()

    def shapes(self, files: Sequence[DataFile], io: FileIO) -> list[FileShape]:
        """The shape of each file.

        Raises:
            StorageError: A file is missing, is not Parquet, or has another number of rows than its manifest says.
        """
        with self._lock:
            found = [self._recall(file) for file in files]
        missing = [file for file, shape in zip(files, found, strict=True) if shape is None]
        if not missing:
            return [shape for shape in found if shape is not None]
        read = iter(self._read_all(missing, io))
        return [next(read) if shape is None else shape for shape in found]

    def _recall(self, file: DataFile) -> FileShape | None:
        key = (file.file_path, file.file_size_in_bytes)
        shape = self._shapes.get(key)
        if shape is not None:
            self._shapes.move_to_end(key)
        return shape

    def _read_all(self, files: Sequence[DataFile], io: FileIO) -> list[FileShape]:
        schemas = _read_while_near(files, io)
        rest = files[len(schemas) :]
        if len(rest) == 1:
            schemas.append(_read_schema(rest[0], io))
        elif rest:
            with ThreadPoolExecutor(min(FOOTER_THREADS, len(rest)), thread_name_prefix="icefusion-footers") as pool:
                schemas += pool.map(partial(_read_schema, io=io), rest)
        with self._lock:
            return [self._remember(file, schema) for file, schema in zip(files, schemas, strict=True)]

    def _remember(self, file: DataFile, schema: pa.Schema) -> FileShape:
        shape = self._interned.setdefault(schema.serialize().to_pybytes(), FileShape(schema))
        self._shapes[file.file_path, file.file_size_in_bytes] = shape
        while len(self._shapes) > self._max_footers:
            self._shapes.popitem(last=False)
        if len(self._interned) > self._max_footers:
            self._interned.clear()
        return shape


def read_footer(file: DataFile, io: FileIO) -> pq.FileMetaData:
    """The footer of a file.

    Raises:
        StorageError: The file is missing, is not Parquet, or has another number of rows than its manifest says.
    """
    path = file.file_path
    try:
        local = local_path(path)
        if local is not None:
            metadata = pq.read_metadata(local)
        else:
            with io.new_input(path).open() as stream:
                metadata = pq.read_metadata(stream)
    except FileNotFoundError as exc:
        raise missing_file(file) from exc
    except Exception as exc:
        raise StorageError(f"cannot read {kind_of(file)} {path}: {exc}", path=path, hint=DAMAGED) from exc
    if metadata.num_rows != file.record_count:
        raise StorageError(
            f"{kind_of(file)} {path} has {metadata.num_rows} rows, its manifest says {file.record_count}", path=path
        )
    return metadata


def _read_while_near(files: Sequence[DataFile], io: FileIO) -> list[pa.Schema]:
    """The schemas of the first files, as long as reading them one after another is faster than with threads.

    A footer that lies on a disk of this machine is read in less time than threads lose by waiting for each other; one
    that is fetched from a server, by a mounted file system as well, is waited for.
    """
    schemas: list[pa.Schema] = []
    began = time.perf_counter()
    for file in files:
        is_slow = time.perf_counter() - began > NEAR_FOOTER_S * (len(schemas) + PATIENCE_FOOTERS)
        if is_slow or local_path(file.file_path) is None:
            break
        schemas.append(_read_schema(file, io))
    return schemas


def _read_schema(file: DataFile, io: FileIO) -> pa.Schema:
    metadata = read_footer(file, io)
    try:
        return metadata.schema.to_arrow_schema().remove_metadata()
    except Exception as exc:
        path = file.file_path
        raise StorageError(f"cannot read {kind_of(file)} {path}: {exc}", path=path) from exc
