"""Ten million rows into Parquet files: through icefusion's writer, and through what there is without it.

``write_table`` is pyarrow on one thread; ``bare`` are DataFusion's streams into a ParquetWriter each, with the same
dictionaries that the writer chooses, ``bare, dictionaries`` with pyarrow's default of one for every column.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import _harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datafusion import SessionConfig, SessionContext
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.transforms import BucketTransform, DayTransform

from icefusion.bridge.schema import arrow_to_iceberg, iceberg_to_arrow
from icefusion.write.executor import WriteOptions, WriteTarget, write_streams

ROWS = 10_000_000
THREADS = 2
BATCH_ROWS = 8_192
GROUP_ROWS = 1_000_000
DATA = Path(__file__).parent / "data"
INPUT = DATA / f"write-path-{ROWS}.arrow"
PROFITING = ["category", "day"]


def make_input() -> pa.Table:
    """Eight columns, about 77 Arrow bytes a row."""
    rng = np.random.default_rng(7)
    stamps = rng.integers(0, 25 * 86_400 * 1_000_000, ROWS) + 1_700_006_400_000_000
    categories = pa.array([f"cat-{i:03}" for i in range(100)])
    return pa.table(
        {
            "id": np.arange(ROWS, dtype=np.int64),
            "quantity": rng.integers(0, 2**31 - 1, ROWS, dtype=np.int32),
            "price": rng.normal(100, 15, ROWS),
            "score": rng.random(ROWS),
            "category": categories.take(pa.array(rng.integers(0, 100, ROWS))),
            "event": _random_text(rng, 22),
            "ts": pa.array(stamps, pa.timestamp("us")),
            "day": pa.array(rng.integers(19_000, 19_365, ROWS, dtype=np.int32)).cast(pa.date32()),
        }
    )


def _random_text(rng: np.random.Generator, length: int) -> pa.Array:
    characters = np.frombuffer(b"0123456789abcdef", np.uint8)[rng.integers(0, 16, ROWS * length, dtype=np.uint8)]
    offsets = pa.py_buffer(np.arange(0, ROWS * length + 1, length, dtype=np.int32))
    return pa.StringArray.from_buffers(ROWS, offsets, pa.py_buffer(characters))


def read_input() -> pa.Table:
    DATA.mkdir(exist_ok=True)
    if not INPUT.exists():
        table = make_input()
        with pa.ipc.new_file(str(INPUT), table.schema) as writer:
            writer.write_table(table, max_chunksize=GROUP_ROWS)
    return pa.ipc.open_file(str(INPUT)).read_all()


def streams(table: pa.Table) -> list[Iterator[pa.RecordBatch]]:
    """The table as DataFusion hands it out."""
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    context = SessionContext(SessionConfig().with_target_partitions(THREADS).with_batch_size(BATCH_ROWS))
    halves = [batches[i * len(batches) // THREADS : (i + 1) * len(batches) // THREADS] for i in range(THREADS)]
    context.register_record_batches("input", halves)
    found = context.sql("SELECT * FROM input").execute_stream_partitioned()
    return [(batch.to_pyarrow() for batch in stream) for stream in found]


def write_table(folder: Path) -> Callable[[], None]:
    table = read_input()
    path = folder / "file.parquet"
    return lambda: pq.write_table(table, path, compression="zstd", compression_level=3, row_group_size=GROUP_ROWS)


def bare(folder: Path, *, use_dictionary: list[str] | bool) -> Callable[[], None]:
    table = read_input()

    def write(number: int, stream: Iterator[pa.RecordBatch]) -> None:
        writer = pq.ParquetWriter(
            folder / f"{number}.parquet",
            table.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=use_dictionary,
            write_page_index=True,
        )
        held: list[pa.RecordBatch] = []
        for batch in stream:
            held.append(batch)
            if sum(map(len, held)) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(held), GROUP_ROWS * 2)
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held))
        writer.close()

    def run() -> None:
        threads = [threading.Thread(target=write, args=pair) for pair in enumerate(streams(table))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def icefusion(folder: Path, *, partitioned: bool, memory_limit_bytes: int | None = None) -> Callable[[], None]:
    table = read_input()
    schema = arrow_to_iceberg(table.schema)
    target = WriteTarget("bench.t", str(folder), schema, _spec(schema, partitioned), UNSORTED_SORT_ORDER)
    arrow_schema = iceberg_to_arrow(schema)

    def align(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(batch.columns, schema=arrow_schema)

    def run() -> None:
        options = WriteOptions(THREADS, memory_limit_bytes)
        result = write_streams(streams(table), target, PyArrowFileIO(), options, align=align)
        assert result.report.rows == ROWS

    return run


def _spec(schema: Schema, partitioned: bool) -> PartitionSpec:
    if not partitioned:
        return PartitionSpec()
    return PartitionSpec(
        PartitionField(schema.find_field("ts").field_id, 1000, DayTransform(), "ts_day"),
        PartitionField(schema.find_field("id").field_id, 1001, BucketTransform(16), "id_bucket"),
    )


def case(prepare: Callable[[Path], Callable[[], None]]) -> Callable[[], _harness.Measurement]:
    def run() -> _harness.Measurement:
        folder = Path(tempfile.mkdtemp(dir=DATA))
        try:
            action = prepare(folder)
            with _harness.measure() as result:
                action()
            files = list(folder.rglob("*.parquet"))
            result.facts = {"files": len(files), "out MB": sum(f.stat().st_size for f in files) / 1e6}
        finally:
            shutil.rmtree(folder)
        return result

    return run


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    _harness.main(
        {
            "write_table": case(write_table),
            "bare, dictionaries": case(lambda folder: bare(folder, use_dictionary=True)),
            "bare": case(lambda folder: bare(folder, use_dictionary=PROFITING)),
            "icefusion": case(lambda folder: icefusion(folder, partitioned=False)),
            "icefusion, partitioned": case(lambda folder: icefusion(folder, partitioned=True)),
            "icefusion, partitioned, 256 MiB": case(
                lambda folder: icefusion(folder, partitioned=True, memory_limit_bytes=256 * 2**20)
            ),
        },
        baseline="write_table",
    )
