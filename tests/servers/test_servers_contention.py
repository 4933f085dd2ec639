"""Many processes, one table: every writer gets through, and nobody leaves anything behind.

`benchmarks/bench_contention.py` runs the same at full size, beside PyIceberg.
"""

from __future__ import annotations

from collections import Counter

from history_checks import check_linear, ledger, leftovers
from job_processes import Jobs
from places import Place
from server_jobs import COLUMNS

WRITERS = 4
APPENDS = 25
ROWS = 3


def test_every_append_of_many_processes_lands_once_and_leaves_no_file(shared_catalog: Place) -> None:
    table = f"{shared_catalog.namespace}.t"
    with shared_catalog.connect() as session:
        session.sql(f"CREATE NAMESPACE {shared_catalog.namespace}")
        session.sql(f"CREATE TABLE {table} ({COLUMNS})")
    with Jobs() as jobs:
        running = [
            jobs.start(shared_catalog, "append", table=table, worker=worker, count=APPENDS, rows=ROWS)
            for worker in range(WRITERS)
        ]
        jobs.begin()
        results = [job.result() for job in running]
    assert [(r["committed"], r["errors"]) for r in results] == [(APPENDS, [])] * WRITERS
    found = shared_catalog.pyiceberg().load_table(table)
    assert len(check_linear(found)) == WRITERS * APPENDS
    assert ledger(found) == Counter((w, n, r) for w in range(WRITERS) for n in range(APPENDS) for r in range(ROWS))
    assert leftovers(found) == []
