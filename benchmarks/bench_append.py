"""Ten million rows into a table, from the call to the committed snapshot, beside Parquet files without a table.

The input is in memory. ``insert`` is ``INSERT INTO ... SELECT * FROM data``, ``writer`` is ``write_batch(data)``; both
end with a snapshot that any engine reads. The baselines are those of ``bench_write_path.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import _harness
import bench_write_path as paths

import icefusion as ice

DDL = """CREATE TABLE ns.t (id BIGINT, quantity INT, price DOUBLE, score DOUBLE, category STRING, event STRING,
                           ts TIMESTAMP, day DATE) {partitioning}"""
PARTITIONED = "PARTITIONED BY (day(ts), bucket(16, id))"


def append(
    folder: Path, *, partitioned: bool, through_sql: bool, memory_limit: str | None = None
) -> Callable[[], None]:
    table = paths.read_input()
    session = ice.connect(folder, threads=paths.THREADS, memory_limit=memory_limit)
    session.sql("CREATE NAMESPACE ns")
    session.sql(DDL.format(partitioning=PARTITIONED if partitioned else ""))
    writer = session.writer("ns.t")

    def run() -> None:
        if through_sql:
            result = session.sql("INSERT INTO ns.t SELECT * FROM data", data=table)
        else:
            result = writer.write_batch(table)
        assert result.rows_inserted == paths.ROWS
        assert result.snapshot_id is not None

    return run


CASES = {
    "write_table": paths.case(paths.write_table),
    "bare streams": paths.case(lambda folder: paths.bare(folder, use_dictionary=paths.PROFITING)),
    "insert": paths.case(lambda folder: append(folder, partitioned=False, through_sql=True)),
    "writer": paths.case(lambda folder: append(folder, partitioned=False, through_sql=False)),
    "insert, partitioned": paths.case(lambda folder: append(folder, partitioned=True, through_sql=True)),
    "writer, partitioned": paths.case(lambda folder: append(folder, partitioned=True, through_sql=False)),
    "insert, partitioned, 600 MB": paths.case(
        lambda folder: append(folder, partitioned=True, through_sql=True, memory_limit="600MB")
    ),
}

if __name__ == "__main__":
    _harness.main(CASES, baseline="write_table")
