"""Metadata tables of a table of 20,000 files in 200 manifests, beside PyIceberg's `table.inspect`.

The files are only in the manifests. The table has 20 columns with bounds, and one partition a manifest. Each case is a
process of its own that opens the catalog first; ``peak`` is memory above that.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _harness import Measurement, main, measure
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

import icefusion as ice

FOLDER = Path(tempfile.gettempdir()) / "icefusion-bench-metadata-tables"
MANIFESTS = 200
FILES = 100
COLUMNS = 20


def fill() -> None:
    """Make the table, unless a run before has made it."""
    with ice.connect(FOLDER) as session:
        session.sql("CREATE NAMESPACE IF NOT EXISTS ns")
        if session.catalog.table_exists("ns.t"):
            return
        columns = ", ".join(f"c{number} bigint" for number in range(1, COLUMNS))
        properties = "TBLPROPERTIES ('commit.manifest-merge.enabled' = 'false')"
        session.sql(f"CREATE TABLE ns.t (p int, {columns}) PARTITIONED BY (p) {properties}")
        table = session.catalog.load_table("ns.t")
        for manifest in range(MANIFESTS):
            with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
                for number in range(FILES):
                    append.append_data_file(_file(f"{table.location()}/{manifest}-{number}.parquet", manifest))


def _file(path: str, partition: int) -> DataFile:
    ids = range(1, COLUMNS + 1)
    bound = partition.to_bytes(8, "little")
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(partition),
        record_count=1000,
        file_size_in_bytes=100_000,
        column_sizes=dict.fromkeys(ids, 5000),
        value_counts=dict.fromkeys(ids, 1000),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts={},
        lower_bounds={key: bound[:4] if key == 1 else bound for key in ids},
        upper_bounds={key: bound[:4] if key == 1 else bound for key in ids},
        split_offsets=[4],
    )
    file.spec_id = 0
    return file


def asked(query: str) -> Callable[[], Measurement]:
    def case() -> Measurement:
        with ice.connect(FOLDER) as session:
            session.sql("SELECT count(*) FROM ns.t.snapshots").fetchall()
            with measure() as found:
                rows = sum(batch.num_rows for batch in session.sql(query).to_arrow_reader())
            found.facts["rows"] = rows
            return found

    return case


def inspected(method: str) -> Callable[[], Measurement]:
    def case() -> Measurement:
        with ice.connect(FOLDER) as session:
            table = session.catalog.load_table("ns.t")
            with measure() as found:
                rows = getattr(table.inspect, method)().num_rows
            found.facts["rows"] = rows
            return found

    return case


CASES = {
    "PyIceberg files()": inspected("files"),
    "SELECT * FROM files": asked("SELECT * FROM ns.t.files"),
    "... without metrics": asked("SELECT file_path, partition, record_count, file_size_in_bytes FROM ns.t.files"),
    "... count(*)": asked("SELECT count(*) FROM ns.t.files"),
    "... of one partition": asked("SELECT file_path FROM ns.t.files WHERE partition.p = 7"),
    "... LIMIT 10": asked("SELECT file_path FROM ns.t.files LIMIT 10"),
    "PyIceberg partitions()": inspected("partitions"),
    "SELECT * FROM partitions": asked("SELECT * FROM ns.t.partitions"),
    "PyIceberg snapshots()": inspected("snapshots"),
    "SELECT * FROM snapshots": asked("SELECT * FROM ns.t.snapshots"),
}


def baseline(name: str) -> str:
    for kind in ("partitions", "snapshots"):
        if kind in name:
            return f"PyIceberg {kind}()"
    return "PyIceberg files()"


if __name__ == "__main__":
    if "--case" not in sys.argv:
        fill()
    main(CASES, baseline=baseline)
