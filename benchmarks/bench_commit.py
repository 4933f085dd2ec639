"""Appends of a thousand rows, one after another, on the embedded catalog; PyIceberg's append beside them.

``expired`` is the writer again, with snapshots expired every hundred commits, as a table that lives long has them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice

ROWS = 1_000
AROUND = 10  # the median of so many commits is shown for each place


def rows() -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "quantity": pa.array(range(ROWS), pa.int32()),
            "price": [n / 7 for n in range(ROWS)],
            "score": [n / 3 for n in range(ROWS)],
            "category": [f"cat-{n % 10}" for n in range(ROWS)],
            "event": [f"event {n}" for n in range(ROWS)],
            "ts": pa.array(
                [dt.datetime(2024, 1, 1) + dt.timedelta(seconds=n) for n in range(ROWS)], pa.timestamp("us")
            ),
            "day": pa.array([dt.date(2024, 1, 1)] * ROWS),
        }
    )


def timed(action: Callable[[], object], commits: int, between: Callable[[], None] | None = None) -> list[float]:
    """Milliseconds of each commit; every hundred commits something may be done between them, untimed."""
    times = []
    for n in range(commits):
        if between is not None and n % 100 == 99:
            between()
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def expire(session: ice.Session) -> None:
    """Leave the last ten snapshots, as a job beside the writer would."""
    table = session.catalog.load_table("ns.t")
    old = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)[:-10]
    table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in old]).commit()


def show(name: str, times: list[float], places: list[int]) -> None:
    cells = [
        f"{statistics.median(times[place - AROUND // 2 : place + AROUND // 2]):10.1f}"
        for place in places
        if place + AROUND // 2 <= len(times)
    ]
    print(f"{name:14}" + "".join(cells) + f"   worst {max(times):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", type=int, default=510)
    parser.add_argument("--expired-commits", type=int, default=2_010)
    parser.add_argument("--pyiceberg-commits", type=int, default=210)
    arguments = parser.parse_args()
    places = [10, 20, 50, 100, 200, 350, 500, 1_000, 2_000]
    longest = max(arguments.commits, arguments.expired_commits)
    print("milliseconds a commit, median around the nth")
    print(f"{'':14}" + "".join(f"{place:>10}" for place in places if place + AROUND // 2 <= longest))
    data = rows()
    with tempfile.TemporaryDirectory() as folder, ice.connect(folder) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT * FROM data LIMIT 0", data=data)
        writer = session.writer("ns.t")
        show("writer", timed(lambda: writer.write_batch(data), arguments.commits), places)
    with tempfile.TemporaryDirectory() as folder, ice.connect(folder) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT * FROM data LIMIT 0", data=data)
        insert = timed(lambda: session.sql("INSERT INTO ns.t SELECT * FROM data", data=data), arguments.commits)
        show("INSERT", insert, places)
    with tempfile.TemporaryDirectory() as folder, ice.connect(folder) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT * FROM data LIMIT 0", data=data)
        writer = session.writer("ns.t")
        kept = timed(lambda: writer.write_batch(data), arguments.expired_commits, lambda: expire(session))
        show("expired", kept, places)
    with tempfile.TemporaryDirectory() as folder:
        catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=Path(folder).as_uri())
        catalog.create_namespace("ns")
        table = catalog.create_table("ns.t", data.schema)
        show("PyIceberg", timed(lambda: table.append(data), arguments.pyiceberg_commits), places)
        catalog.close()


if __name__ == "__main__":
    main()
