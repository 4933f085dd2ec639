"""Many processes append to one table: who gets through, how fast, and what is left behind.

8 processes append 50 times 3 rows each, with default settings, on SQLite and on PostgreSQL; icefusion and PyIceberg in
turn, in the same run. Counted are commits, commits a second from the first begin to the last end, rows that were
reported as committed and are missing, rows that are there more often than once, and files that no snapshot names.

The processes and the PostgreSQL server are those of ``tests/servers``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "servers"))

from history_checks import check_linear, ledger, leftovers
from job_processes import Jobs
from places import Place, close_catalogs, sql_place
from server_jobs import COLUMNS
from server_processes import PostgresServer

ROWS = 3
JOBS = {"icefusion": "append", "pyiceberg": "append_by_pyiceberg"}


@contextmanager
def catalogs(kinds: list[str]) -> Iterator[dict[str, str]]:
    """The URIs of the catalogs' databases, by kind."""
    with tempfile.TemporaryDirectory(prefix="icefusion-contention-") as folder:
        uris = {"sqlite": f"sqlite:///{folder}/catalog.db"}
        server = None
        if "postgres" in kinds and (missing := PostgresServer.missing()) is not None:
            print(f"without PostgreSQL: {missing}")
        elif "postgres" in kinds:
            server = PostgresServer()
            uris["postgres"] = server.uri()
        try:
            yield {kind: uris[kind] for kind in kinds if kind in uris}
        finally:
            close_catalogs()
            if server is not None:
                server.stop()


def run(place: Place, writer: str, processes: int, appends: int) -> dict[str, Any]:
    """One run on a fresh table."""
    table = f"{place.namespace}.{writer}"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE IF NOT EXISTS {place.namespace}")
        session.sql(f"CREATE TABLE {table} ({COLUMNS})")
    with Jobs() as jobs:
        running = [
            jobs.start(place, JOBS[writer], table=table, worker=worker, count=appends, rows=ROWS)
            for worker in range(processes)
        ]
        jobs.begin()
        results = [job.result(seconds=900) for job in running]
    committed = sum(result["committed"] for result in results)
    seconds = max(result["ended"] for result in results) - min(result["began"] for result in results)
    found = place.pyiceberg().load_table(table)
    rows = ledger(found)
    return {
        "committed": committed,
        "rate": committed / seconds,
        "snapshots": len(check_linear(found)),
        "lost": max(0, committed * ROWS - len(rows)),
        "doubled": sum(count - 1 for count in rows.values()),
        "left": len(leftovers(found)),
        "errors": Counter(error.split(":", 1)[0] for result in results for error in result["errors"]),
    }


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--appends", type=int, default=50)
    parser.add_argument("--catalogs", nargs="*", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--writers", nargs="*", choices=list(JOBS), default=list(JOBS))
    arguments = parser.parse_args()
    wanted = arguments.processes * arguments.appends
    header = f"{'catalog':10}{'writer':11}{'committed':>11}{'of':>5}{'per s':>8}"
    header += f"{'lost':>6}{'doubled':>9}{'left files':>12}"
    print(header, flush=True)
    with catalogs(arguments.catalogs) as uris:
        for kind, uri in uris.items():
            for writer in arguments.writers:
                with tempfile.TemporaryDirectory(prefix="icefusion-contention-") as folder:
                    place = sql_place(kind, uri, Path(folder))
                    found = run(place, writer, arguments.processes, arguments.appends)
                    close_catalogs()
                line = f"{kind:10}{writer:11}{found['committed']:11}{wanted:5}{found['rate']:8.1f}"
                line += f"{found['lost']:6}{found['doubled']:9}{found['left']:12}"
                errors = ", ".join(f"{count} {name}" for name, count in found["errors"].items())
                print(line + (f"  {errors}" if errors else ""), flush=True)


if __name__ == "__main__":
    main()
