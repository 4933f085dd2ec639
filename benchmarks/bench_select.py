"""SELECT over a table beside DataFusion over the very same files, and SELECTs as they follow each other in a session.

Each query runs in turns through icefusion and through a plain SessionContext with the same number of threads; the
median of the turns counts. Planning is part of the time on both sides.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_write_path as paths
import pyarrow as pa
from datafusion import SessionConfig, SessionContext

import icefusion as ice

TURNS = 7
QUERIES = {
    "count": "SELECT count(*) FROM {t}",
    "sum of all numbers": "SELECT sum(id), sum(quantity), sum(price), sum(score) FROM {t}",
    "group by": "SELECT category, count(*), avg(price) FROM {t} GROUP BY category",
    "filter 1%": "SELECT * FROM {t} WHERE score < 0.01",
    "point": "SELECT * FROM {t} WHERE id = 4711",
    "top 10": "SELECT * FROM {t} ORDER BY price DESC LIMIT 10",
    "all rows": "SELECT * FROM {t}",
}


def drain(stream: object) -> int:
    return sum(batch.num_rows for batch in stream)  # type: ignore[attr-defined]


def main() -> None:
    with tempfile.TemporaryDirectory(dir=paths.DATA) as folder, ice.connect(folder, threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t AS SELECT * FROM data", data=paths.read_input())
        context = SessionContext(SessionConfig().with_target_partitions(2))
        files = next(Path(folder).rglob("*.parquet")).parent
        context.register_parquet("t", str(files))

        def ours(text: str) -> int:
            return drain(session.sql(text.format(t="ns.t")).to_arrow_reader())

        def bare(text: str) -> int:
            return drain(batch.to_pyarrow() for batch in context.sql(text.format(t="t")).execute_stream())

        print(f"{'query':24}{'bare ms':>10}{'ours ms':>10}{'ratio':>8}")
        for name, text in QUERIES.items():
            times = {bare: [], ours: []}
            for turn in range(TURNS + 1):
                order: list[Callable[[str], int]] = [bare, ours] if turn % 2 else [ours, bare]
                for run in order:
                    began = time.perf_counter()
                    run(text)
                    if turn:  # the first turn warms both up
                        times[run].append(time.perf_counter() - began)
            a, b = (statistics.median(times[run]) * 1e3 for run in (bare, ours))
            print(f"{name:24}{a:10.1f}{b:10.1f}{b / a:8.3f}")


if __name__ == "__main__":
    pa.set_cpu_count(2)
    main()
