"""A transaction over two tables is seen as a whole by everybody, at every moment."""

from __future__ import annotations

import pytest
from history_checks import check_linear, ledger, leftovers
from job_processes import Jobs
from places import Place
from server_jobs import COLUMNS

TRANSACTIONS = 50
READERS = 2
LEAST_READS = 1000


@pytest.fixture
def tables(shared_catalog: Place) -> list[str]:
    names = [f"{shared_catalog.namespace}.{name}" for name in ("a", "b")]
    with shared_catalog.connect() as session:
        session.sql(f"CREATE NAMESPACE {shared_catalog.namespace}")
        for name in names:
            session.sql(f"CREATE TABLE {name} ({COLUMNS})")
    return names


def test_readers_never_see_one_table_moved_and_not_the_other(shared_catalog: Place, tables: list[str]) -> None:
    with Jobs() as jobs:
        writer = jobs.start(shared_catalog, "write_pairs", tables=tables, worker=0, count=TRANSACTIONS)
        watch = {"tables": tables, "total": TRANSACTIONS, "least": LEAST_READS}
        watchers = [jobs.start(shared_catalog, "watch_pointers", **watch) for _ in range(READERS)]
        jobs.begin()
        assert writer.result()["committed"] == TRANSACTIONS
        seen = [watcher.result() for watcher in watchers]
    assert [found["torn"] for found in seen] == [[]] * READERS
    assert sum(found["reads"] for found in seen) >= READERS * LEAST_READS
    assert all(found["states"] > TRANSACTIONS / 5 for found in seen), "the readers did not look in between"


def test_a_statement_over_two_tables_sees_both_or_neither_moved(shared_catalog: Place, tables: list[str]) -> None:
    with Jobs() as jobs:
        writer = jobs.start(shared_catalog, "write_pairs", tables=tables, worker=0, count=TRANSACTIONS)
        watcher = jobs.start(shared_catalog, "watch_rows", tables=tables, total=TRANSACTIONS, least=1)
        jobs.begin()
        writer.result()
        seen = watcher.result()
    assert seen["torn"] == []
    assert seen["states"] > 2


def test_transactions_over_two_tables_by_many_processes_all_land(shared_catalog: Place, tables: list[str]) -> None:
    writers, count = 3, 12
    with Jobs() as jobs:
        running = [
            # Half of them in the other order: two such transactions must not wait for each other.
            jobs.start(
                shared_catalog, "write_pairs", tables=tables[:: 1 if worker % 2 else -1], worker=worker, count=count
            )
            for worker in range(writers)
        ]
        jobs.begin()
        assert [job.result()["committed"] for job in running] == [count] * writers
    ledgers = []
    for name in tables:
        found = shared_catalog.pyiceberg().load_table(name)
        assert len(check_linear(found)) == writers * count
        assert leftovers(found) == []
        ledgers.append(ledger(found))
    assert ledgers[0] == ledgers[1]
    assert set(ledgers[0].values()) == {1}
    assert len(ledgers[0]) == writers * count
