"""Writers and servers that are killed at random moments: no row is lost and none is doubled.

A writer writes numbers in order, each under its own idempotency key, and says each number when its write is certain.
Whoever takes over after a crash goes on with the first number that was not said, which may or may not have landed.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import POSTGRES, SEAWEEDFS, SQLITE
from history_checks import check_linear, ledger
from job_processes import Job, Jobs
from places import Place
from server_jobs import COLUMNS, changed_rows
from server_processes import Server

ROWS = 3
NUMBERS = 40
PAUSE_S = 0.02  # between a commit and its being noted, in which a crash leaves what has landed to be repeated
SEED = int(os.environ.get("ICEFUSION_SEED", "1"))  # of the moments; what happens in them is up to the machine


class Relay:
    """One writer at a time, each going on where the last one's certainty ended."""

    def __init__(self, jobs: Jobs, place: Place, table: str, job: str = "write_keyed", **options: Any) -> None:
        self._start: Callable[[], Job] = lambda: jobs.start(
            place, job, table=table, last=NUMBERS, pause_s=PAUSE_S, **options
        )
        self._next: Job | None = None
        self.snapshot_ids: dict[int, int] = {}
        self.found_landed = 0
        self.failures: list[str] = []

    @property
    def done(self) -> bool:
        return len(self.snapshot_ids) == NUMBERS

    def run(self, until: int, stop: Callable[[Job], None], *, prepare_next: bool = False) -> None:
        """Let a new writer go on; `stop` ends it, or what it needs, once `until` numbers are certain."""
        writer, self._next = self._next or self._start(), None
        writer.wait_ready().go(len(self.snapshot_ids))
        if prepare_next:
            self._next = self._start()
        stopped = False
        for said in writer.lines():
            if not stopped and len(self.snapshot_ids) >= until:
                stopped = True
                stop(writer)
            self._note(said)
        if not stopped and not self.done and not self.failures:
            raise RuntimeError("the writer ended by itself")

    def _note(self, said: dict[str, Any]) -> None:
        if "failed" in said:
            self.failures.append(f"{said['error']}: {said['message']}")
            return
        assert said["done"] == len(self.snapshot_ids)
        self.snapshot_ids[said["done"]] = said["snapshot_id"]
        self.found_landed += said["already"]


def make_table(place: Place) -> str:
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} ({COLUMNS})")
    return table


def check_ledger(place: Place, table: str, relay: Relay) -> None:
    """Every number once, each in the snapshot that its writer was told."""
    check_rows(place, table, relay, Counter((0, number, row) for number in range(NUMBERS) for row in range(ROWS)))


def check_rows(place: Place, table: str, relay: Relay, expected: Counter[tuple[int, int, int]]) -> None:
    """The rows, and each number in the snapshot that its writer was told."""
    found = place.pyiceberg().load_table(table)
    assert ledger(found) == expected
    history = check_linear(found)
    assert [snapshot.snapshot_id for snapshot in history] == [relay.snapshot_ids[number] for number in range(NUMBERS)]


def run_killed(relay: Relay, untils: tuple[int, ...], *, longest_s: float) -> None:
    """Let writers follow each other, each killed some time after it has come to its number; none of them may fail."""
    chance = random.Random(SEED)

    def kill(writer: Job) -> None:
        time.sleep(chance.uniform(0.0, longest_s))
        writer.kill()

    for until in untils:
        relay.run(until, kill, prepare_next=until < NUMBERS)  # it connects while this one still writes
    assert relay.failures == []


@pytest.mark.parametrize("kind", [SQLITE, POSTGRES, SEAWEEDFS])
def test_a_writer_killed_at_random_moments_loses_and_doubles_nothing(
    kind: str, make_place: Callable[[str], Place]
) -> None:
    place = make_place(kind)
    table = make_table(place)
    with Jobs() as jobs:
        relay = Relay(jobs, place, table, rows=ROWS)
        run_killed(relay, (6, 13, 20, 26, 33, NUMBERS), longest_s=0.1)
    print(f"{relay.found_landed} writes had landed before they were repeated")
    check_ledger(place, table, relay)


@pytest.mark.parametrize("kind", [SQLITE, POSTGRES])
def test_changes_of_rows_by_writers_killed_at_random_moments_are_neither_lost_nor_doubled(
    kind: str, make_place: Callable[[str], Place]
) -> None:
    place = make_place(kind)
    table = make_table(place)
    with Jobs() as jobs:
        relay = Relay(jobs, place, table, "change_keyed")
        run_killed(relay, (7, 14, 21, 29, 35, NUMBERS), longest_s=0.15)
    print(f"{relay.found_landed} changes had landed before they were repeated")
    check_rows(place, table, relay, Counter(changed_rows(NUMBERS)))
    with place.connect() as session:
        assert Counter(session.sql(f"SELECT worker, number, part FROM {table}").fetchall()) == Counter(
            changed_rows(NUMBERS)
        )


@pytest.mark.parametrize("kind", [POSTGRES, SEAWEEDFS])
def test_a_server_killed_and_restarted_loses_and_doubles_nothing(
    kind: str, make_place: Callable[[str], Place], request: pytest.FixtureRequest
) -> None:
    place = make_place(kind)
    server: Server = request.getfixturevalue(kind)
    table = make_table(place)
    chance = random.Random(SEED)

    def crash(_: Job) -> None:
        time.sleep(chance.uniform(0.0, 0.1))
        server.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        server.start()

    with Jobs() as jobs:
        relay = Relay(jobs, place, table, rows=ROWS)
        for until in (12, 24):
            relay.run(until, crash)
        while not relay.done:
            relay.run(NUMBERS, lambda _: None)
    print(f"{relay.found_landed} writes had landed before they were repeated; writers ended with {relay.failures}")
    check_ledger(place, table, relay)
