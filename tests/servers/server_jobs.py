"""Work that tests have done by other processes: ``python server_jobs.py JOB PLACE OPTIONS``.

A job says ``{"ready": true}`` when it has connected, begins when it reads a line, and says what it did as lines of
JSON. Each is started afresh, never forked, as real writers are.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from places import Place

import icefusion

SCHEMA = pa.schema([("worker", pa.int64()), ("number", pa.int64()), ("part", pa.int64())])
COLUMNS = "worker BIGINT, number BIGINT, part BIGINT"


def say(**facts: Any) -> None:
    """Tell the test, at once."""
    print(json.dumps(facts), flush=True)


def wait_for_go() -> int:
    """Begin together with the others; the number that was given to begin with."""
    say(ready=True)
    return int(sys.stdin.readline())


def batch_of(worker: int, number: int, rows: int) -> pa.RecordBatch:
    """The rows of one write: who wrote them, the how manieth write it was, and the row's place in it."""
    columns = [pa.array([worker] * rows), pa.array([number] * rows), pa.array(range(rows), pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def append(place: Place, table: str, worker: int, count: int, rows: int = 3) -> None:
    """Append to one table, one commit a time."""
    with place.connect() as session:
        writer = session.writer(table)
        wait_for_go()
        began, committed, errors = time.time(), 0, []
        for number in range(count):
            try:
                writer.write_batch(batch_of(worker, number, rows))
                committed += 1
            except icefusion.CommitError as exc:
                errors.append(f"{type(exc).__name__}: {exc}")
        say(committed=committed, errors=errors, began=began, ended=time.time())


def append_by_pyiceberg(place: Place, table: str, worker: int, count: int, rows: int = 3) -> None:
    """The same by PyIceberg alone."""
    handle = place.pyiceberg().load_table(table)
    wait_for_go()
    began, committed, errors = time.time(), [], []
    for number in range(count):
        try:
            handle.append(pa.Table.from_batches([batch_of(worker, number, rows)]))
            committed.append(number)
        except Exception as exc:  # whatever a lost race ends in
            errors.append(f"{type(exc).__name__}: {str(exc)[:200]}")
            handle.refresh()
    say(committed=len(committed), numbers=committed, errors=errors, began=began, ended=time.time())


def write_keyed(place: Place, table: str, last: int, rows: int = 3) -> None:
    """Write under a key for each number, and say each when it is certain; give up at an error."""
    with place.connect() as session:
        writer = session.writer(table)
        first = wait_for_go()
        for number in range(first, last):
            try:
                result = writer.write_batch(batch_of(0, number, rows), idempotency_key=f"number-{number}")
            except icefusion.IcefusionError as exc:
                say(failed=number, error=type(exc).__name__, message=str(exc))
                return
            say(done=number, snapshot_id=result.snapshot_id, already=result.already_landed)


def write_pairs(place: Place, tables: list[str], worker: int, count: int) -> None:
    """Write the same number into each of several tables, in one transaction each time."""
    with place.connect() as session:
        wait_for_go()
        for number in range(count):
            with session.transaction() as tx:
                for table in tables:
                    tx.sql(f"INSERT INTO {table} VALUES ({worker}, {number}, 0)")
        say(committed=count)


JOBS: dict[str, Callable[..., None]] = {
    job.__name__: job for job in (append, append_by_pyiceberg, write_keyed, write_pairs)
}


if __name__ == "__main__":
    JOBS[sys.argv[1]](Place.from_json(sys.argv[2]), **json.loads(sys.argv[3]))
