"""Work that tests have done by other processes: ``python server_jobs.py JOB PLACE OPTIONS``.

A job says ``{"ready": true}`` when it has connected, begins when it reads a line, and says what it did as lines of
JSON. Each is started afresh, never forked, as real writers are.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
from places import Place
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import And, EqualTo
from pyiceberg.table import Table
from pyiceberg.types import LongType
from sqlalchemy import create_engine, text

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


def write_keyed(place: Place, table: str, last: int, rows: int = 3, pause_s: float = 0.0) -> None:
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
            time.sleep(pause_s)
            say(done=number, snapshot_id=result.snapshot_id, already=result.already_landed)


def change_keyed(place: Place, table: str, last: int, pause_s: float = 0.0) -> None:
    """Change rows under a key for each number, in both modes, and say each when it is certain; see `changed_rows`."""
    with place.connect() as session:
        first = wait_for_go()
        for number in range(first, last):
            text, mode = change_of(table, number)
            try:
                result = session.sql(text, idempotency_key=f"number-{number}", write_mode=mode)
            except icefusion.IcefusionError as exc:
                say(failed=number, error=type(exc).__name__, message=str(exc))
                return
            time.sleep(pause_s)
            say(done=number, snapshot_id=result.snapshot_id, already=result.already_landed)


def change_of(table: str, number: int, worker: int = 0) -> tuple[str, Any]:
    """The statement of one number, and its mode. Four of them belong together, and each builds on the one before."""
    mode = ("copy-on-write", "merge-on-read")[number // 4 % 2]
    mine = f"worker = {worker} AND number = {number - number % 4}"
    match number % 4:
        case 0:
            return (
                f"INSERT INTO {table} (worker, number, part) VALUES ({worker}, {number}, 0), ({worker}, {number}, 1)",
                mode,
            )
        case 1:
            return f"UPDATE {table} SET part = part + 10 WHERE {mine}", mode
        case 2:
            rows = f"({worker}, {number - 2}, 100), ({worker}, {number}, 0)"
            return (
                f"MERGE INTO {table} AS t USING (SELECT * FROM (VALUES {rows}) AS x (w, n, p)) AS s "
                "ON t.worker = s.w AND t.number = s.n WHEN MATCHED THEN UPDATE SET part = t.part + s.p "
                "WHEN NOT MATCHED THEN INSERT (worker, number, part) VALUES (s.w, s.n, s.p)"
            ), mode
    return f"DELETE FROM {table} WHERE {mine} AND part = 111", mode


def changed_rows(numbers: int, worker: int = 0) -> list[tuple[int, int, int]]:
    """The rows that so many numbers, a multiple of four, leave: an effect that is lost or doubled shows in `part`."""
    return [row for first in range(0, numbers, 4) for row in ((worker, first, 110), (worker, first + 2, 0))]


def change_rows(place: Place, table: str, worker: int, count: int) -> None:
    """The same changes without keys, beside others; each is one number."""
    with place.connect() as session:
        wait_for_go()
        committed, errors = [], []
        for number in range(count):
            text, mode = change_of(table, number, worker)
            try:
                session.sql(text, write_mode=mode)
                committed.append(number)
            except icefusion.CommitError as exc:
                errors.append(f"{type(exc).__name__}: {exc}")
    say(committed=committed, errors=errors)


def write_pairs(place: Place, tables: list[str], worker: int, count: int) -> None:
    """Write the same number into each of several tables, in one transaction each time."""
    with place.connect() as session:
        wait_for_go()
        for number in range(count):
            with session.transaction() as tx:
                for table in tables:
                    tx.sql(f"INSERT INTO {table} VALUES ({worker}, {number}, 0)")
        say(committed=count)


def watch_pointers(place: Place, tables: list[str], total: int, least: int) -> None:
    """Read where the tables stand, all in one look at the database, again and again until they have so many rows."""
    engine = create_engine(place.properties["uri"])
    query = text("SELECT table_name, metadata_location FROM iceberg_tables WHERE catalog_name = :catalog")
    counts: dict[str, int] = {}
    reads, torn, states = 0, [], set()
    wait_for_go()
    while reads < least or max(states, default=0) < total:
        with engine.connect() as connection:
            rows = dict(connection.execute(query, {"catalog": place.name}).all())
        for location in rows.values():
            if location not in counts:
                counts[location] = _rows_in(location)
        found = [counts[rows[table.rpartition(".")[2]]] for table in tables]
        reads += 1
        states.add(min(found))
        if len(set(found)) > 1:
            torn.append(found)
    engine.dispose()
    say(reads=reads, torn=torn, states=len(states))


def watch_rows(place: Place, tables: list[str], total: int, least: int) -> None:
    """The same by one statement over the tables."""
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS n{index}" for index, table in enumerate(tables))
    reads, torn, states = 0, [], set()
    with place.connect() as session:
        wait_for_go()
        while reads < least or max(states, default=0) < total:
            (found,) = session.sql(f"SELECT {counts}").fetchall()
            reads += 1
            states.add(min(found))
            if len(set(found)) > 1:
                torn.append(found)
    say(reads=reads, torn=torn, states=len(states))


def _rows_in(location: str) -> int:
    metadata = json.loads(Path(url2pathname(urlsplit(location).path)).read_text())
    current = metadata.get("current-snapshot-id")
    summaries = {snapshot["snapshot-id"]: snapshot["summary"] for snapshot in metadata["snapshots"]}
    return int(summaries[current]["total-records"]) if current in summaries else 0


def insert_and_transact(place: Place, table: str, worker: int, count: int) -> None:
    """Write in turn by a statement, by a transaction of two statements, and by a writer; each is one number."""
    with place.connect() as session:
        writer = session.writer(table)
        wait_for_go()
        committed, errors = [], []
        for number in range(count):
            head = f"INSERT INTO {table} (worker, number, part) VALUES ({worker}, {number},"
            try:
                if number % 3 == 0:
                    session.sql(f"{head} 0), ({worker}, {number}, 1)")
                elif number % 3 == 1:
                    with session.transaction() as tx:
                        tx.sql(f"{head} 0)")
                        tx.sql(f"{head} 1)")
                else:
                    writer.write_batch(batch_of(worker, number, 2))
                committed.append(number)
            except icefusion.CommitError as exc:
                errors.append(f"{type(exc).__name__}: {exc}")
    say(committed=committed, errors=errors)


def append_and_delete_by_pyiceberg(place: Place, table: str, worker: int, count: int) -> None:
    """PyIceberg appends numbers, and deletes every fourth again; a lost race is tried anew."""
    handle = place.pyiceberg().load_table(table)
    wait_for_go()
    present = []
    for number in range(count):
        rows = pa.Table.from_batches([batch_of(worker, number, 2)])
        _insist(handle, partial(_append, handle, rows))
        present.append(number)
        if number % 4 == 3:
            mine = And(EqualTo("worker", worker), EqualTo("number", number - 1))
            _insist(handle, partial(handle.delete, mine))
            present.remove(number - 1)
    say(committed=present, errors=[])


def evolve_by_pyiceberg(place: Place, table: str, worker: int, count: int) -> None:
    """PyIceberg adds columns, renames them and sets properties, each over again until it wins its race."""
    handle = place.pyiceberg().load_table(table)
    wait_for_go()
    for number in range(count):
        _insist(handle, partial(_add_column, handle, f"added_{number}"))
        if number % 2:
            _insist(handle, partial(_rename_column, handle, f"added_{number}", f"renamed_{number}"))
        _insist(handle, partial(_set_property, handle, f"note-{number}", str(worker)))
    say(committed=list(range(count)), errors=[])


def _append(handle: Table, rows: pa.Table) -> None:
    handle.append(rows)


def _add_column(handle: Table, name: str) -> None:
    with handle.update_schema() as update:
        update.add_column(name, LongType())


def _rename_column(handle: Table, name: str, new_name: str) -> None:
    with handle.update_schema() as update:
        update.rename_column(name, new_name)


def _set_property(handle: Table, key: str, value: str) -> None:
    with handle.transaction() as transaction:
        transaction.set_properties({key: value})


def _insist(handle: Table, change: Callable[[], object]) -> None:
    """Have PyIceberg change a table, again while it says that it lost: then nothing has landed."""
    for _ in range(200):
        handle.refresh()
        try:
            change()
        except (CommitFailedException, ValidationException):
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("lost every race")


JOBS: dict[str, Callable[..., None]] = {
    job.__name__: job
    for job in (
        append,
        append_by_pyiceberg,
        write_keyed,
        change_keyed,
        change_rows,
        write_pairs,
        watch_pointers,
        watch_rows,
        insert_and_transact,
        append_and_delete_by_pyiceberg,
        evolve_by_pyiceberg,
    )
}


if __name__ == "__main__":
    JOBS[sys.argv[1]](Place.from_json(sys.argv[2]), **json.loads(sys.argv[3]))
