"""Row-level changes of a table of ten million rows in eight files, beside delta-rs and bare DataFusion.

Five jobs, each by icefusion in both write modes, by delta-rs (``deltalake``, which always copies on write) on a Delta
copy of the same rows, and by DataFusion over bare Parquet where that makes sense: the same scan, join and rewrite, with
no table around it. Ratios are to delta-rs. The last jobs read the table before and after merge-on-read changes.

- merge of a million rows, half of them matching, keys scattered over all files;
- the same with all keys in one file;
- update of one percent of the rows, scattered;
- delete of one in a thousand, scattered;
- reading: all rows, and a sum of one column.

Data is made once, in the folder that ICEFUSION_BENCH_ROWS names, or below the temporary folder. All sides write with
zstd, level 3.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _harness import Measurement, main, measure

import icefusion as ice

TIMES = int(os.environ.get("ICEFUSION_BENCH_TIMES", "1"))
"""How many times the rows and the files, for `bench_memory.py`; only the table is made then."""
ROWS = 10_000_000 * TIMES
FILES = 8 * TIMES
SOURCE_ROWS = 1_000_000
FOLDER = Path(os.environ.get("ICEFUSION_BENCH_ROWS") or Path(tempfile.gettempdir(), "icefusion-bench-rows"))
if TIMES > 1:
    FOLDER = FOLDER.with_name(f"{FOLDER.name}-{TIMES}")
MERGE = """MERGE INTO ns.t AS t USING source AS s ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"""
UPDATE = "UPDATE ns.t SET x = x + 1 WHERE grp < 10"
DELETE = "DELETE FROM ns.t WHERE grp = 7"
MODES = {"copy-on-write": "cow", "merge-on-read": "mor"}


def rows(ids: np.ndarray, rng: np.random.Generator) -> pa.Table:
    count = len(ids)
    return pa.table(
        {
            "id": ids.astype(np.int64),
            "grp": rng.integers(0, 1000, count).astype(np.int32),
            "x": rng.random(count),
            "y": rng.random(count),
            "cat": np.array(["alpha", "beta", "gamma", "delta"])[rng.integers(0, 4, count)],
            "s": pa.array([f"{value:016x}" for value in rng.integers(0, 2**63, count)]),
            "ts": pa.array(rng.integers(1_600_000_000_000_000, 1_700_000_000_000_000, count), pa.timestamp("us")),
            "d": pa.array(rng.integers(18_000, 20_000, count).astype(np.int32), pa.date32()),
        }
    )


def source(kind: str) -> pa.Table:
    """A million rows, half of them with the even keys that the table has."""
    rng = np.random.default_rng(2)
    if kind == "clustered":
        return rows(np.arange(ROWS, ROWS + SOURCE_ROWS), rng)
    keys = rng.choice(ROWS, SOURCE_ROWS, replace=False) * 2
    keys[SOURCE_ROWS // 2 :] += 1
    return rows(keys, rng)


def prepare() -> None:
    """Make the bare files, the table and its Delta copy."""
    if (FOLDER / "done").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "bare").mkdir(parents=True)
    with ice.connect(FOLDER / "warehouse", threads=1) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql(
            "CREATE TABLE ns.t (id BIGINT, grp INT, x DOUBLE, y DOUBLE, cat STRING, s STRING, ts TIMESTAMP, d DATE)"
        )
        for number in range(FILES):
            share = ROWS // FILES
            table = rows(np.arange(number * share, (number + 1) * share) * 2, np.random.default_rng(number))
            if TIMES == 1:
                from deltalake import write_deltalake  # noqa: PLC0415 - only the benchmark needs it

                pq.write_table(table, FOLDER / "bare" / f"{number}.parquet", compression="zstd")
                write_deltalake(str(FOLDER / "delta"), table, mode="append", writer_properties=zstd())
            session.writer("ns.t").write_batch(table)
    shutil.copy(FOLDER / "warehouse" / "catalog.db", FOLDER / "catalog.db")
    (FOLDER / "done").touch()


def zstd() -> object:
    """The codec that icefusion has by default, for delta-rs, whose own default is snappy."""
    from deltalake import WriterProperties  # noqa: PLC0415 - only the benchmark needs it

    return WriterProperties(compression="ZSTD", compression_level=3)


@contextmanager
def iceberg(memory_limit: str | None = None) -> Iterator[ice.Session]:
    """The table as it was made; what is done to it is taken back in the end."""
    warehouse = FOLDER / "warehouse"
    for path in warehouse.glob("catalog.db*"):
        path.unlink()
    shutil.copy(FOLDER / "catalog.db", warehouse / "catalog.db")
    before = set(warehouse.rglob("*"))
    with ice.connect(warehouse, memory_limit=memory_limit) as session:
        session.sql("SELECT count(*) FROM ns.t WHERE id = 0").fetchone()
        yield session
    for path in set(warehouse.rglob("*")) - before:
        path.unlink()


@contextmanager
def delta() -> Iterator[object]:
    """A copy of the Delta table."""
    from deltalake import DeltaTable  # noqa: PLC0415 - only the benchmark needs it

    copy = FOLDER / "delta-copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(FOLDER / "delta", copy, copy_function=os.link)
    yield DeltaTable(str(copy))
    shutil.rmtree(copy)


def by_icefusion(text: str, mode: str, kind: str | None = None) -> Callable[[], Measurement]:
    def case() -> Measurement:
        named = {} if kind is None else {"source": source(kind)}
        with iceberg() as session, measure() as measured:
            session.sql(text, write_mode=mode, **named)
        return measured

    return case


def merge_by_delta(kind: str) -> Callable[[], Measurement]:
    def case() -> Measurement:
        given = source(kind)
        with delta() as table, measure() as measured:
            merge = table.merge(given, "t.id = s.id", source_alias="s", target_alias="t", writer_properties=zstd())
            merge.when_matched_update_all().when_not_matched_insert_all().execute()
        return measured

    return case


def update_by_delta() -> Measurement:
    with delta() as table, measure() as measured:
        table.update(updates={"x": "x + 1"}, predicate="grp < 10", writer_properties=zstd())
    return measured


def delete_by_delta() -> Measurement:
    with delta() as table, measure() as measured:
        table.delete("grp = 7", writer_properties=zstd())
    return measured


def bare(query: str, kind: str | None = None) -> Callable[[], Measurement]:
    """A query over the bare files into Parquet files, a writer a stream."""

    def case() -> Measurement:
        from datafusion import SessionConfig, SessionContext  # noqa: PLC0415 - only this case needs it

        context = SessionContext(SessionConfig().with_target_partitions(2).with_batch_size(32_768))
        if kind is not None:
            context.from_arrow(source(kind), "source")
        with measure() as measured, tempfile.TemporaryDirectory(dir=FOLDER) as out:
            context.register_parquet("t", str(FOLDER / "bare"))
            streams = context.sql(query).execute_stream_partitioned()
            threads = [
                threading.Thread(target=_write, args=(stream, Path(out, f"{number}.parquet")))
                for number, stream in enumerate(streams)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return measured

    return case


def _write(stream: Iterator[object], path: Path) -> None:
    held: list[pa.RecordBatch] = []
    count = 0
    writer: pq.ParquetWriter | None = None
    for item in stream:
        batch = item.to_pyarrow()  # type: ignore[attr-defined]
        plain = {pa.string_view(): pa.string()}
        schema = pa.schema([field.with_type(plain.get(field.type, field.type)) for field in batch.schema])
        held.append(batch.cast(schema))
        count += batch.num_rows
        if count >= 1_000_000:
            writer = writer or pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["cat"])
            writer.write_table(pa.Table.from_batches(held))
            held, count = [], 0
    if held:
        writer = writer or pq.ParquetWriter(path, held[0].schema, compression="zstd", use_dictionary=["cat"])
        writer.write_table(pa.Table.from_batches(held))
    if writer is not None:
        writer.close()


_COLUMNS = ("id", "grp", "x", "y", "cat", "s", "ts", "d")
_JOINED = ", ".join(f"CASE WHEN s.id IS NULL THEN t.{c} ELSE s.{c} END AS {c}" for c in _COLUMNS)
BARE_MERGE = f"SELECT {_JOINED} FROM t FULL JOIN source s ON t.id = s.id"
BARE_UPDATE = "SELECT id, grp, CASE WHEN grp < 10 THEN x + 1 ELSE x END AS x, y, cat, s, ts, d FROM t"
BARE_DELETE = "SELECT * FROM t WHERE grp <> 7"


def reading(query: str, changes: tuple[str, ...]) -> Callable[[], Measurement]:
    def case() -> Measurement:
        with iceberg() as session:
            for text in changes:
                named = {"source": source("scattered")} if "source" in text else {}
                session.sql(text, write_mode="merge-on-read", **named)
            session.sql(query).to_arrow()
            with measure() as measured:
                for _ in range(3):
                    for batch in session.sql(query).to_arrow_reader():
                        del batch
        return measured

    return case


READ_ALL, READ_SUM = "SELECT * FROM ns.t", "SELECT sum(x) FROM ns.t"
CASES: dict[str, Callable[[], Measurement]] = {}
for job, kind in (("merge scattered", "scattered"), ("merge clustered", "clustered")):
    CASES[f"{job}: delta-rs"] = merge_by_delta(kind)
    CASES[f"{job}: bare"] = bare(BARE_MERGE, kind)
    for mode in MODES:
        CASES[f"{job}: {mode}"] = by_icefusion(MERGE, mode, kind)
for job, text, other, query in (
    ("update 1 %", UPDATE, update_by_delta, BARE_UPDATE),
    ("delete 0.1 %", DELETE, delete_by_delta, BARE_DELETE),
):
    CASES[f"{job}: delta-rs"] = other
    CASES[f"{job}: bare"] = bare(query)
    for mode in MODES:
        CASES[f"{job}: {mode}"] = by_icefusion(text, mode)
for job, query in (("read all", READ_ALL), ("read sum", READ_SUM)):
    CASES[f"{job}: before"] = reading(query, ())
    CASES[f"{job}: after update and delete"] = reading(query, (UPDATE, DELETE))
    CASES[f"{job}: after merge"] = reading(query, (MERGE,))


def baseline_of(name: str) -> str:
    job = name.partition(":")[0]
    return f"{job}: before" if job.startswith("read") else f"{job}: delta-rs"


if __name__ == "__main__":
    prepare()
    main(CASES, baseline=baseline_of)
