"""Planning: which files a query has to read, beside PyIceberg's ``table.scan(...).plan_files()``.

Two tables are made of manifests alone, as planning never looks at the data files they list: 20,000 files in four
manifests, and 2,000 manifests of one file each. Both are partitioned by day and carry metrics of ten columns. Each case
plans in a process of its own, once, again on the same snapshot, and then with another filter of the same kind; ratios
are to PyIceberg's first plan of the same case. A third table has real files, 2,000 small ones, and is asked by whole
SELECTs, from the text to the last row; there PyIceberg plans and reads, and the third column is a bare DataFusion
session over the folder.

Tables are made once, in the folder that ICEFUSION_BENCH_PLANNING names, or below the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datafusion import SessionConfig, SessionContext
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, DoubleType, LongType, NestedField, StringType

import icefusion as ice
from icefusion.bridge.manifests import ManifestReader
from icefusion.query.files import plan_files

FOLDER = Path(os.environ.get("ICEFUSION_BENCH_PLANNING") or Path(tempfile.gettempdir(), "icefusion-bench-planning"))
DAYS = 100
ROWS_A_FILE = 1_000
REAL_FILES = 2_000
REAL_ROWS = 100
FIRST_DAY = date(2024, 1, 1)
LAYOUTS = {"20,000 files": (4, 5_000), "2,000 manifests": (2_000, 1)}
"""Manifests, and files in each."""

FILTERS = {
    "all": "true",
    "one id": "id = 4321",
    "one day": f"day = '{FIRST_DAY + timedelta(days=42)}'",
    "next day": f"day = '{FIRST_DAY + timedelta(days=42)}'",
    "half": "id < {half}",
}
OTHERS = {
    "all": "id >= 0",
    "one id": "id = 87654",
    "one day": f"day = '{FIRST_DAY + timedelta(days=57)}'",
    "next day": f"day = '{FIRST_DAY + timedelta(days=43)}'",
    "half": "id >= {half}",
}
"""The filter behind it on the same snapshot. The next day lies in the manifest that was read, the one day does not."""

SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "day", DateType()),
    NestedField(3, "name", StringType()),
    *(NestedField(4 + n, f"l{n}", LongType()) for n in range(4)),
    *(NestedField(8 + n, f"d{n}", DoubleType()) for n in range(3)),
)
SPEC = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day"))
READS = {
    "all": "SELECT count(id), sum(l0) FROM {t}",
    "one id": "SELECT * FROM {t} WHERE id = 4321",
    "one day": f"SELECT sum(l0) FROM {{t}} WHERE day = DATE '{FIRST_DAY + timedelta(days=42)}'",
}


def open_catalog(folder: Path, name: str = "bench") -> SqlCatalog:
    return SqlCatalog(name, uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")


def described(number: int, files: int, folder: str) -> DataFile:
    """A data file that need not exist: ids are disjoint, days come in long runs."""
    low, high = number * ROWS_A_FILE, (number + 1) * ROWS_A_FILE - 1
    day = (FIRST_DAY - date(1970, 1, 1)).days + number * DAYS // files
    ids = range(1, 11)
    lows: dict[int, object] = {1: low, 2: day, 3: f"name-{low:010}", **dict.fromkeys(range(4, 8), low)}
    highs: dict[int, object] = {1: high, 2: day, 3: f"name-{high:010}", **dict.fromkeys(range(4, 8), high)}
    for field_id in (8, 9, 10):
        lows[field_id], highs[field_id] = low / 7, high / 7
    types = {field.field_id: field.field_type for field in SCHEMA.fields}
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{folder}/data/day={day}/{number:05}-{uuid.uuid4()}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(day),
        record_count=ROWS_A_FILE,
        file_size_in_bytes=50_000 + number,
        column_sizes=dict.fromkeys(ids, 5_000),
        value_counts=dict.fromkeys(ids, ROWS_A_FILE),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts=dict.fromkeys((8, 9, 10), 0),
        lower_bounds={field_id: to_bytes(types[field_id], value) for field_id, value in lows.items()},
        upper_bounds={field_id: to_bytes(types[field_id], value) for field_id, value in highs.items()},
        key_metadata=None,
        split_offsets=[4],
        equality_ids=None,
        sort_order_id=None,
    )
    file.spec_id = 0
    return file


def commit(table: Table, manifests: list[ManifestFile]) -> None:
    """One snapshot of exactly these manifests."""
    snapshot_id = 1
    path = f"{table.location()}/metadata/snap-{uuid.uuid4()}.avro"
    with write_manifest_list(2, table.io.new_output(path), snapshot_id, None, 1, "deflate") as writer:
        writer.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        sequence_number=1,
        timestamp_ms=int(time.time() * 1e3),
        manifest_list=path,
        summary=Summary(Operation.APPEND),
        schema_id=0,
    )
    reference = SetSnapshotRefUpdate(
        ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id, parent_snapshot_id=None
    )
    table.catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), reference))


def make_described(name: str, folder: Path) -> None:
    manifests, files = LAYOUTS[name]
    catalog = open_catalog(folder)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", SCHEMA, partition_spec=SPEC)
    written = []
    for number in range(manifests):
        output = table.io.new_output(f"{table.location()}/metadata/{uuid.uuid4()}-m0.avro")
        with write_manifest(2, SPEC, table.schema(), output, 1, "deflate") as writer:
            for place in range(files):
                file = described(number * files + place, manifests * files, table.location())
                writer.add_entry(
                    ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=1, data_file=file)
                )
        written.append(writer.to_manifest_file())
    commit(table, written)


def make_real(folder: Path) -> None:
    """Small files of real rows, added by one commit."""
    names = [field.name for field in SCHEMA.fields]
    with ice.connect(folder, threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        columns = "id bigint, day date, name string, " + ", ".join(f"l{n} bigint" for n in range(4))
        session.sql(f"CREATE TABLE ns.t ({columns}, d0 double, d1 double, d2 double) PARTITIONED BY (day)")
        table = session.catalog.load_table("ns.t")
        paths = []
        for number in range(REAL_FILES):
            ids = range(number * REAL_ROWS, (number + 1) * REAL_ROWS)
            day = FIRST_DAY + timedelta(days=number * DAYS // REAL_FILES)
            values = [list(ids), [day] * REAL_ROWS, [f"name-{i}" for i in ids]] + [list(ids)] * 4
            values += [[i / 7 for i in ids]] * 3
            path = folder / "real" / f"{number:05}.parquet"
            path.parent.mkdir(exist_ok=True)
            types = [pa.int64(), pa.date32(), pa.string()] + [pa.int64()] * 4 + [pa.float64()] * 3
            arrays = [pa.array(value, kind) for value, kind in zip(values, types, strict=True)]
            pq.write_table(pa.table(arrays, names=names), path)
            paths.append(f"file://{path}")
        table.add_files(paths, check_duplicate_files=False)


def prepare() -> None:
    if (FOLDER / "done").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in LAYOUTS:
        (FOLDER / name).mkdir(parents=True)
        make_described(name, FOLDER / name)
    (FOLDER / "real").mkdir()
    make_real(FOLDER / "real")
    (FOLDER / "done").touch()


def timed(run: Callable[[], int], turns: int = 3) -> tuple[list[float], int]:
    """Seconds of each turn, and what the last one answered."""
    seconds = []
    answer = 0
    for _ in range(turns):
        began = time.perf_counter()
        answer = run()
        seconds.append(time.perf_counter() - began)
    return seconds, answer


def filter_of(layout: str, name: str, filters: dict[str, str] = FILTERS) -> str:
    manifests, files = LAYOUTS[layout]
    return filters[name].format(half=manifests * files * ROWS_A_FILE // 2)


def plan(side: str, layout: str, name: str) -> tuple[list[float], int]:
    """Seconds of three plans with one filter and of one with another, and the files that were found in all."""
    table = open_catalog(FOLDER / layout).load_table("ns.t")
    text = filter_of(layout, name)
    scan = table.scan() if text == "true" else table.scan(row_filter=text)
    other = table.scan(row_filter=filter_of(layout, name, OTHERS))
    if side == "pyiceberg":
        return joined(timed(lambda: len(list(scan.plan_files()))), timed(lambda: len(list(other.plan_files())), 1))
    reader = ManifestReader()

    def ours(scan: DataScan) -> int:
        found = plan_files(
            "ns.t",
            table.metadata,
            table.metadata.current_snapshot_id,
            table.schema(),
            table.io,
            row_filter=scan.row_filter,
            reader=reader,
        )
        return len(found.files)

    return joined(timed(lambda: ours(scan)), timed(lambda: ours(other), 1))


def joined(one: tuple[list[float], int], other: tuple[list[float], int]) -> tuple[list[float], int]:
    return one[0] + other[0], one[1] + other[1]


def read(side: str, name: str) -> tuple[list[float], int]:
    folder = FOLDER / "real"
    if side == "pyiceberg":
        table = open_catalog(folder, "default").load_table("ns.t")
        if name == "all":
            return timed(lambda: table.scan(selected_fields=("id", "l0")).to_arrow().num_rows and 1)
        scan = table.scan(row_filter=filter_of("20,000 files", name), selected_fields=("id", "l0"))
        return timed(lambda: scan.to_arrow().num_rows and 1)
    if side == "bare":
        context = SessionContext(SessionConfig().with_target_partitions(2))
        context.register_parquet("t", str(folder / "real"))
        text = READS[name].format(t="t")
        return timed(lambda: sum(batch.num_rows for batch in context.sql(text).collect()))
    with ice.connect(folder, threads=2) as session:
        session.sql("SELECT 1").fetchall()
        text = READS[name].format(t="ns.t")
        return timed(lambda: session.sql(text).to_arrow().num_rows)


def in_process(*case: str) -> tuple[list[float], int]:
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--case", *case]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, answer = json.loads(done.stdout.splitlines()[-1])
    return seconds, answer


def show(title: str, cases: list[tuple[str, tuple[str, ...]]], sides: tuple[str, ...], rounds: int) -> None:
    heads = ("first", "again", "other") if title == "plan" else ("first", "again")
    print(f"{title:32}{'side':12}{'answer':>8}" + "".join(f"{head + ' ms':>10}{'ratio':>8}" for head in heads))
    for label, case in cases:
        runs: dict[str, list[list[float]]] = {side: [] for side in sides}
        answers = {}
        for _ in range(rounds):
            for side in sides:
                seconds, answers[side] = in_process(side, *case)
                runs[side].append(seconds)
        assert len(set(answers.values())) == 1, answers
        base = statistics.median(run[0] for run in runs["pyiceberg"])
        for side in sides:
            found = [[run[0], min(run[1:3]), *run[3:]] for run in runs[side]]
            medians = [statistics.median(turn) for turn in zip(*found, strict=True)]
            line = f"{label:32}{side:12}{answers[side]:8}"
            print(line + "".join(f"{turn * 1e3:10.1f}{turn / base:8.3f}" for turn in medians), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.case:
        side, *case = arguments.case
        print(json.dumps(plan(side, *case) if len(case) == 2 else read(side, *case)))
        return
    prepare()
    plans = [(f"{layout}, {name}", (layout, name)) for layout in LAYOUTS for name in FILTERS]
    show("plan", plans, ("pyiceberg", "icefusion"), arguments.rounds)
    reads = [(f"SELECT over {REAL_FILES} files, {name}", (name,)) for name in READS]
    show("read", reads, ("pyiceberg", "bare", "icefusion"), arguments.rounds)


if __name__ == "__main__":
    main()
