"""One native Parquet scan over an explicit list of files.

DataFusion's Python interface reads one path or one directory, but an Iceberg snapshot is a list of files. Its plans
can be written to bytes and read back, though, and in those bytes a scan is a message whose field 2 is a *list* of
paths. So a scan of the first file is planned, written, given the whole list in that place, and read back.

That format belongs to the DataFusion release and may change with it. `FileScanner` therefore proves it once, on two
small files, when it is made; where the proof fails it joins single-file scans with UNION ALL, which gives the same
rows and plans more slowly.

Two traps of the underlying scan are left to the caller: a missing file is skipped in silence, and a column missing from
a file is NULL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table
from datafusion.plan import LogicalPlan

from icefusion.query.object_stores import ObjectStores
from icefusion.query.store_options import file_url

__all__ = ["DEFAULT_CATALOG", "DEFAULT_SCHEMA", "FileScanner"]

# Where names without a namespace live. No namespace of a user is called that.
DEFAULT_CATALOG = "?icefusion?"
DEFAULT_SCHEMA = "?sources?"
_PASSING_NAME = "?passing?"

NOWHERE = "file:///icefusion-reads-nothing.parquet"

_LENGTH_DELIMITED = 2
_SCAN_FIELD = 1  # of the plan: the listing table scan
_PATHS_FIELD = 2  # of the scan: its paths


class FileScanner:
    """Makes DataFrames over explicit lists of Parquet files.

    Args:
        context: The session the DataFrames belong to.
        native: Whether to try one scan over many files; False always joins single scans.

    Attributes:
        context: The session.
        native: Whether one scan over many files works with this release of DataFusion.
        stores: Where files are, in the engine's words.
    """

    def __init__(self, context: SessionContext, *, native: bool = True) -> None:
        self.context = context
        self.stores = ObjectStores(context)
        self.native = native and self._proves_itself()

    def scan(self, urls: Sequence[str], schema: pa.Schema) -> DataFrame:
        """A DataFrame over the rows of the files, in no order.

        Args:
            urls: Where the files are, as `stores` gives them; at least one.
            schema: What to read: column names as in the files, and the types wanted. A column that a file lacks is
                NULL, so all fields should be nullable.
        """
        if len(urls) > 1 and not self.native:
            return reduce(DataFrame.union, (self._scan_one(url, schema) for url in urls))
        first = self._scan_one(urls[0], schema)
        if len(urls) == 1:
            return first
        plan = first.logical_plan().to_bytes(self.context)
        patched = LogicalPlan.from_bytes(self.context, _replace_paths(plan, urls))
        return self.context.create_dataframe_from_logical_plan(patched)

    def empty(self, schema: pa.Schema) -> DataFrame:
        """A DataFrame without rows."""
        return self._scan_one(NOWHERE, schema)

    def empty_table(self, schema: pa.Schema) -> Table:
        """A table without rows. Unlike one in memory it takes filters, so that plans over it show them.

        Not safe to call from several threads at once: it goes through a name.
        """
        self.context.register_parquet(_PASSING_NAME, NOWHERE, schema=schema, file_extension="")
        try:
            return self.context.catalog(DEFAULT_CATALOG).schema(DEFAULT_SCHEMA).table(_PASSING_NAME)
        finally:
            self.context.deregister_table(_PASSING_NAME)

    def _scan_one(self, url: str, schema: pa.Schema) -> DataFrame:
        return self.context.read_parquet(url, schema=schema, file_extension="")

    def _proves_itself(self) -> bool:
        """Read two files as one scan and look at the rows."""
        schema = pa.schema([("a", pa.int64())])
        with tempfile.TemporaryDirectory(prefix="icefusion-") as folder:
            paths = [Path(folder, f"{number} %20.parquet") for number in (1, 2)]
            for number, path in enumerate(paths):
                pq.write_table(pa.table({"a": pa.array([number], pa.int32())}), path)
            try:
                frame = self._native_pair([file_url(str(path)) for path in paths], schema)
                rows = sorted(value for batch in frame.collect() for value in batch.column(0).to_pylist())
            except Exception:
                return False
        return rows == [0, 1]

    def _native_pair(self, urls: Sequence[str], schema: pa.Schema) -> DataFrame:
        plan = self._scan_one(urls[0], schema).logical_plan().to_bytes(self.context)
        return self.context.create_dataframe_from_logical_plan(
            LogicalPlan.from_bytes(self.context, _replace_paths(plan, urls))
        )


def _replace_paths(plan: bytes, urls: Sequence[str]) -> bytes:
    """Put a list of paths in place of the one path of a serialized scan.

    Raises:
        ValueError: The bytes are not a plan of one scan of one path.
    """
    field, wire, start = _read_tag(plan, 0)
    length, start = _read_varint(plan, start)
    if (field, wire) != (_SCAN_FIELD, _LENGTH_DELIMITED) or start + length != len(plan):
        raise ValueError("not a plan of one scan")
    field, wire, position = _read_tag(plan, start)
    length, position = _read_varint(plan, position)
    if (field, wire) != (_PATHS_FIELD, _LENGTH_DELIMITED):
        raise ValueError("not a scan of paths")
    rest = plan[position + length :]
    if rest and _read_tag(rest, 0)[0] == _PATHS_FIELD:
        raise ValueError("a scan of several paths already")
    scan = b"".join(_field(_PATHS_FIELD, url.encode()) for url in urls) + rest
    return _field(_SCAN_FIELD, scan)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _read_tag(data: bytes, position: int) -> tuple[int, int, int]:
    tag, position = _read_varint(data, position)
    return tag >> 3, tag & 7, position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
