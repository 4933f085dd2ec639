"""icefusion and PyIceberg at work on one table of one PostgreSQL catalog, all at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
from history_checks import check_linear, ledger, leftovers
from job_processes import Jobs
from places import Place
from server_jobs import COLUMNS, changed_rows

NUMBERS = 18
NUMBERS_CHANGED = 12
COLUMNS_ADDED = 6
OUR_DATA_FILE = re.compile(r"-\d{5}\.parquet$")


@pytest.mark.postgres
def test_the_history_of_mixed_writers_checks_out(make_place: Callable[[str], Place]) -> None:
    place = make_place("postgres")
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} ({COLUMNS}) PARTITIONED BY (bucket(2, number))")
    with Jobs() as jobs:
        ours = [jobs.start(place, "insert_and_transact", table=table, worker=w, count=NUMBERS) for w in (0, 1)]
        theirs = jobs.start(place, "append_and_delete_by_pyiceberg", table=table, worker=2, count=NUMBERS)
        rows = jobs.start(place, "change_rows", table=table, worker=4, count=NUMBERS_CHANGED)
        changes = jobs.start(place, "evolve_by_pyiceberg", table=table, worker=3, count=COLUMNS_ADDED)
        jobs.begin()
        committed = {worker: job.result() for worker, job in enumerate([*ours, theirs])}
        changes.result()
        changed = rows.result()
    assert (changed["errors"], len(changed["committed"])) == ([], NUMBERS_CHANGED)
    assert [committed[worker]["errors"] for worker in committed] == [[], [], []]
    assert [len(committed[worker]["committed"]) for worker in (0, 1)] == [NUMBERS] * 2

    found = place.pyiceberg().load_table(table)
    expected = Counter((w, n, part) for w, said in committed.items() for n in said["committed"] for part in (0, 1))
    expected += Counter(changed_rows(NUMBERS_CHANGED, worker=4))
    assert ledger(found) == expected
    history = check_linear(found)
    by_us = [
        s
        for s in history
        if s.summary is not None and s.summary.additional_properties.get("engine-name") == "icefusion"
    ]
    assert len(by_us) == 2 * NUMBERS + NUMBERS_CHANGED
    assert [path for path in leftovers(found) if OUR_DATA_FILE.search(path)] == []
    names = {field.name for field in found.schema().fields}
    assert names >= {f"renamed_{n}" if n % 2 else f"added_{n}" for n in range(COLUMNS_ADDED)}
    assert all(found.properties[f"note-{n}"] == "3" for n in range(COLUMNS_ADDED))
    with place.connect() as session:
        rows = session.sql(f"SELECT worker, number, part FROM {table}").fetchall()
    assert Counter(rows) == expected
