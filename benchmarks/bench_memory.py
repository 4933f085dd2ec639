"""Resident memory of row-level changes whose source and target are both many times larger than `memory_limit`.

The table is that of `bench_rows.py`: ten million rows of eight columns in eight files. Sources have half as many rows,
or as many (``delete using``); ``--times 6`` takes six times of both. They are streamed from a generator, so that they
cost nothing themselves; their keys come in random order, so that any part of a source has to do with all files. Each
case runs in a process of its own. What is printed: seconds; the process's resident peak as the kernel has it
(``VmHWM``), interpreter and libraries included; and its peak of anonymous memory, without mapped files.

    python benchmarks/bench_memory.py [--limit 100MB] [--times 1] [CASE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from bench_rows import MERGE, ROWS, TIMES, iceberg, prepare, rows

BATCH_ROWS = 50_000
SAMPLE_S = 0.01
STEP = 12_360_679
"""Has no divisor in common with the number of keys, so that no key comes twice."""
MODES = ("copy-on-write", "merge-on-read")


def keys(count: int) -> Iterator[np.ndarray]:
    """So many different keys in no order, half of them (the even ones) in the table; made as they are asked for."""
    for start in range(0, count, BATCH_ROWS):
        yield np.arange(start, min(start + BATCH_ROWS, count)) * STEP % (2 * ROWS)


def wide(count: int) -> Iterator[pa.RecordBatch]:
    """Rows with all columns of the table."""
    rng = np.random.default_rng(2)
    for ids in keys(count):
        yield from rows(ids, rng).to_batches()


def narrow(count: int) -> Iterator[pa.RecordBatch]:
    """Rows with a key, a number and a text."""
    rng = np.random.default_rng(2)
    for ids in keys(count):
        yield pa.record_batch({"id": ids, "x": rng.random(len(ids)), "s": [f"a text of some length, {i}" for i in ids]})


MIXED = """MERGE INTO ns.t AS t USING source AS s ON t.id = s.id
    WHEN MATCHED AND s.x < 0.1 THEN DELETE
    WHEN MATCHED THEN UPDATE SET x = t.x + s.x, y = s.x
    WHEN NOT MATCHED AND s.x < 0.5 THEN INSERT (id, x, s) VALUES (s.id, s.x, s.s)"""
UPDATE_FROM = "UPDATE ns.t AS t SET x = s.x, s = s.s FROM source AS s WHERE t.id = s.id"
CHANGES: dict[str, tuple[str, Callable[[], Iterator[pa.RecordBatch]] | None]] = {
    "nothing": ("DELETE FROM ns.t WHERE id = -1", None),
    "merge, all columns": (MERGE, lambda: wide(ROWS // 2)),
    "merge, some columns": (MIXED, lambda: narrow(ROWS // 2)),
    "delete using": ("DELETE FROM ns.t AS t USING source AS s WHERE t.id = s.id", lambda: narrow(ROWS)),
    "update from": (UPDATE_FROM, lambda: narrow(ROWS // 2)),
    "delete in": ("DELETE FROM ns.t WHERE id IN (SELECT id FROM source)", lambda: narrow(ROWS // 2)),
    "update all": ("UPDATE ns.t SET x = x + 1", None),
}
CASES = {f"{name}: {mode}": (name, mode) for name in CHANGES for mode in MODES}


def table(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    first = next(batches)

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    return pa.RecordBatchReader.from_batches(first.schema, all_batches())


def status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def run(case: str, limit: str) -> dict[str, object]:
    name, mode = CASES[case]
    text, given = CHANGES[name]
    peak = 0
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_S):
            peak = max(peak, status("RssAnon"))

    sampler = threading.Thread(target=sample, daemon=True)
    with iceberg(limit) as session:
        sampler.start()
        began = time.perf_counter()
        named = {} if given is None else {"source": table(given())}
        result = session.sql(text, write_mode=mode, **named)
        seconds = time.perf_counter() - began
        done.set()
        sampler.join()
        counts = [result.rows_inserted, result.rows_updated, result.rows_deleted]
        phases = {key: round(value, 1) for key, value in result.report.phases}
    return {"seconds": seconds, "hwm": status("VmHWM"), "anonymous": peak, "counts": counts, "phases": phases}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {'; '.join(CASES)}")
    parser.add_argument("--limit", default="100MB")
    parser.add_argument("--times", type=int, default=TIMES, help="how many times the rows of the table and the sources")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case, arguments.limit)))
        return
    if arguments.times != TIMES:
        environment = os.environ | {"ICEFUSION_BENCH_TIMES": str(arguments.times)}
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], check=False, env=environment).returncode)
    prepare()
    print(f"{'case':40}{'s':>8}{'resident peak MB':>18}{'anonymous peak MB':>19}  rows, seconds of phases")
    for case in CASES:
        if arguments.cases and not any(wanted in case for wanted in arguments.cases):
            continue
        command = [sys.executable, str(Path(__file__).resolve()), "--case", case, "--limit", arguments.limit]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"{case:40} failed: {done.stderr.strip().splitlines()[-1][:200]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        line = f"{case:40}{found['seconds']:8.1f}{found['hwm'] / 1e6:18.0f}{found['anonymous'] / 1e6:19.0f}"
        print(f"{line}  {found['counts']} {found['phases']}", flush=True)


if __name__ == "__main__":
    main()
