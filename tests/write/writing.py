"""What the tests of the write stage share: tables to write to, rows to write, and readers of what was written."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.write.executor import WriteOptions, WriteResult, WriteTarget, write_streams

_INNER = MapType(28, LongType(), 29, FloatType(), value_required=False)
EVERY_TYPE = Schema(
    NestedField(1, "flag", BooleanType()),
    NestedField(2, "i", IntegerType()),
    NestedField(3, "l", LongType(), required=True),
    NestedField(4, "f", FloatType()),
    NestedField(5, "d", DoubleType()),
    NestedField(6, "dec9", DecimalType(9, 2)),
    NestedField(7, "dec18", DecimalType(18, 3)),
    NestedField(8, "dec38", DecimalType(38, 4)),
    NestedField(9, "day", DateType()),
    NestedField(10, "at", TimeType()),
    NestedField(11, "ts", TimestampType()),
    NestedField(12, "tz", TimestamptzType()),
    NestedField(13, "s", StringType()),
    NestedField(14, "u", UUIDType()),
    NestedField(15, "fx", FixedType(3)),
    NestedField(16, "b", BinaryType()),
    NestedField(17, "list", ListType(18, DoubleType(), element_required=False)),
    NestedField(19, "map", MapType(20, StringType(), 21, LongType(), value_required=False)),
    NestedField(22, "st", StructType(NestedField(23, "x", FloatType()), NestedField(24, "y", StringType()))),
    NestedField(25, "deep", ListType(26, StructType(NestedField(27, "k", _INNER)), element_required=False)),
)


def every_type_rows() -> pa.Table:
    """A row of ordinary values, one of NULL wherever it may stand, one of empty and of unusual values."""
    nan, big = float("nan"), decimal.Decimal("-12345678901234567890123456789012.3456")
    rows = [
        {
            "flag": True,
            "i": -5,
            "l": 2**62,
            "f": 1.5,
            "d": -2.25,
            "dec9": decimal.Decimal("-1.25"),
            "dec18": decimal.Decimal("123456789012345.678"),
            "dec38": big,
            "day": dt.date(1969, 12, 31),
            "at": dt.time(23, 59, 59, 999999),
            "ts": dt.datetime(1, 1, 1),
            "tz": dt.datetime(2024, 2, 29, 12),
            "s": "żółw 🐢",
            "u": uuid.UUID(int=2**127 + 5).bytes,
            "fx": b"\x00\xff\x10",
            "b": b"\xff\xfe",
            "list": [1.0, None, nan],
            "map": [("a", 1), ("b", None)],
            "st": {"x": nan, "y": None},
            "deep": [{"k": [(1, nan), (2, None)]}, None, {"k": None}],
        },
        {**dict.fromkeys(field.name for field in EVERY_TYPE.fields), "l": 0},
        {
            "flag": False,
            "i": 2**31 - 1,
            "l": -1,
            "f": float("-inf"),
            "d": nan,
            "dec9": decimal.Decimal("0.00"),
            "dec18": decimal.Decimal("-0.001"),
            "dec38": decimal.Decimal("0.0001"),
            "day": dt.date(9999, 12, 31),
            "at": dt.time(0),
            "ts": dt.datetime(9999, 12, 31, 23),
            "tz": dt.datetime(1900, 1, 1),
            "s": "",
            "u": uuid.UUID(int=1).bytes,
            "fx": b"abc",
            "b": b"",
            "list": [],
            "map": [],
            "st": {"x": None, "y": "y"},
            "deep": [],
        },
    ]
    return pa.Table.from_pylist(rows, schema=iceberg_to_arrow(EVERY_TYPE))


EVENTS = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "ts", TimestampType()),
    NestedField(3, "x", DoubleType()),
    NestedField(4, "s", StringType()),
)


def event_rows(count: int, *, days: int = 25, seed: int = 1) -> pa.Table:
    """Distinct ids, times over some days, NULL and NaN here and there, texts of different lengths."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    x[rng.random(count) < 0.01] = np.nan
    return pa.table(
        [
            pa.array(rng.permutation(count)),
            pa.array(rng.integers(0, days * 86_400_000_000, count), pa.timestamp("us"), mask=rng.random(count) < 0.01),
            pa.array(x, mask=rng.random(count) < 0.01),
            pa.array(["é" * (i % 20) + str(i % 97) for i in range(count)]),
        ],
        schema=iceberg_to_arrow(EVENTS),
    )


def target(
    folder: Path,
    schema: Schema,
    *,
    spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
    order: SortOrder = UNSORTED_SORT_ORDER,
    properties: Mapping[str, str] | None = None,
) -> WriteTarget:
    return WriteTarget("ns.t", str(folder / "t"), schema, spec, order, properties or {})


def write(rows: pa.Table, to: WriteTarget, *, streams: int = 1, threads: int = 2, **options: object) -> WriteResult:
    """Write a table in batches of about a thousand rows, dealt out to some streams."""
    return write_streams(deal(rows, streams), to, PyArrowFileIO(), WriteOptions(threads, **options))


def deal(rows: pa.Table, streams: int, batch_rows: int = 1000) -> list[Iterator[pa.RecordBatch]]:
    batches = rows.to_batches(max_chunksize=batch_rows)
    return [iter(batches[i::streams]) for i in range(streams)]


def read(files: Sequence[DataFile]) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(file.file_path).read() for file in files])


def stored_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def same_rows(left: pa.Table, right: pa.Table) -> bool:
    """Whether two tables hold the same rows in any order, NaN being equal to itself."""
    return left.schema.names == right.schema.names and _sorted_rows(left) == _sorted_rows(right)


def _sorted_rows(table: pa.Table) -> list[str]:
    return sorted(map(repr, zip(*(column.to_pylist() for column in table.columns), strict=True)))
