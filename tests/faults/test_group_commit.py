"""Commits of threads that share a session: combined, each once, whatever happens to the one that leads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest
from fault_bench import POINTS_OF_NO_RETURN, Faults, Warehouse

import icefusion as ice
from icefusion.commit.group import GROUP_MAX, Groups

FOLLOWERS = 3
STEPS_MAX = 100


def prepare(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")


@pytest.fixture(scope="module")
def made() -> Iterator[Warehouse]:
    made = Warehouse(prepare)
    yield made
    made.remove()


@pytest.fixture
def warehouse(made) -> Warehouse:
    made.reset()
    return made


def batch(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


def swaps(warehouse: Warehouse) -> int:
    """How often the table's metadata was replaced."""
    return len(warehouse.catalog.load_table("ns.t").metadata.metadata_log)


def in_threads(works: Sequence[Callable[[], object]]) -> list[BaseException | None]:
    """Run each on a thread of its own; what each raised."""
    raised: list[BaseException | None] = [None] * len(works)

    def run(number: int) -> None:
        try:
            works[number]()
        except BaseException as exc:
            raised[number] = exc

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a commit never came to an end"
    return raised


def test_threads_of_a_session_lose_nothing_and_swap_less_often_than_they_commit(warehouse) -> None:
    faults = Faults()
    with warehouse.connect(faults) as session:

        def work(number: int) -> None:
            writer = session.writer("ns.t")
            for n in range(5):
                writer.write_batch(batch(100 * number + n))

        raised = in_threads([lambda n=n: work(n) for n in range(8)])
    assert raised == [None] * 8
    seen = warehouse.look()
    assert seen.rows["t"] == sorted(100 * number + n for number in range(8) for n in range(5))
    assert not seen.leftovers
    assert len(warehouse.catalog.load_table("ns.t").snapshots()) == 40
    assert swaps(warehouse) < 40


class Convoy:
    """One commit that is held up until others wait behind it; those then go as one group, led by the first of them.

    Attributes:
        raised: What each of the others raised, the leader's first.
    """

    def __init__(self, warehouse: Warehouse, kind: str, at: int, keys: Sequence[str | None]) -> None:
        self.faults = Faults()
        self.raised: list[BaseException | None] = []
        self.results: list[ice.Result] = []
        with warehouse.connect(self.faults) as session:
            session.writer("ns.t").write_batch(batch(0))
            self._session = session
            self._queued = threading.Event()
            self.faults.rival = lambda: self._queued.wait(30)
            self.faults.arm(kind, 10**6)
            first = threading.Thread(target=self._go_ahead)
            first.start()
            self._wait(lambda: self.faults.rival is None)
            self._faults_later(kind, at)
            works = [lambda n=n, key=key: self._write(10 + n, key) for n, key in enumerate(keys)]
            self.raised = self._start_in_order(works, first)
            self.faults.disarm()

    def _faults_later(self, kind: str, at: int) -> None:
        """Count steps only once the convoy moves: those of writing data files come before."""
        self._plan = (kind, at)

    def _go_ahead(self) -> None:
        # It has landed when the counting begins; what meets it after that is none of the convoy's business.
        with contextlib.suppress(KeyboardInterrupt):
            self._session.writer("ns.t").write_batch(batch(1))

    def _write(self, row: int, key: str | None) -> None:
        self.results.append(self._session.writer("ns.t").write_batch(batch(row), idempotency_key=key))

    def _start_in_order(
        self, works: Sequence[Callable[[], object]], first: threading.Thread
    ) -> list[BaseException | None]:
        raised: list[BaseException | None] = [None] * len(works)

        def run(number: int) -> None:
            try:
                works[number]()
            except BaseException as exc:
                raised[number] = exc

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
        for number, thread in enumerate(threads):
            thread.start()
            self._wait(lambda number=number: self._waiting() == number + 1)
        self.faults.arm(*self._plan, after="sql COMMITTED")
        self._queued.set()
        for thread in (first, *threads):
            thread.join(60)
            assert not thread.is_alive(), "a commit never came to an end"
        return raised

    def _waiting(self) -> int:
        queues = list(self._session._committer._groups._queues.values())
        return len(queues[0].waiting) if queues else 0

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, "it never came to this"
            time.sleep(0.0005)


def judge(warehouse: Warehouse, convoy: Convoy) -> None:
    """Each answer of the convoy against what is there."""
    seen = warehouse.look()
    assert not seen.missing
    assert {0, 1} <= set(seen.rows["t"]), "a commit that had nothing to do with the fault"
    assert len(seen.rows["t"]) == len(set(seen.rows["t"])), "a row is there twice"
    struck = convoy.faults.struck
    for number, error in enumerate(convoy.raised):
        landed = 10 + number in seen.rows["t"]
        if error is None:
            assert landed, f"commit {number} was answered with success"
        elif isinstance(error, KeyboardInterrupt):
            assert not landed or struck in POINTS_OF_NO_RETURN or struck.startswith("sql ROLLBACK")
        else:
            assert isinstance(error, ice.StorageError | ice.CommitFailedError), repr(error)
            assert not landed, f"commit {number} was answered with {error!r}"
    if struck not in POINTS_OF_NO_RETURN:
        assert not seen.leftovers, f"left behind: {seen.leftovers}"


@pytest.mark.parametrize("kind", ["interrupt", "error"])
def test_a_fault_at_any_step_of_a_group_is_answered_truthfully_to_each_member(warehouse, kind) -> None:
    failed = 0
    for at in range(1, STEPS_MAX):
        warehouse.reset()
        convoy = Convoy(warehouse, kind, at, [None] * FOLLOWERS)
        try:
            judge(warehouse, convoy)
        except AssertionError as exc:
            exc.add_note(f"{kind} at step {at} ({convoy.faults.struck}): {convoy.raised}; {convoy.faults.steps}")
            raise
        if convoy.faults.struck is None:
            break
        errors = [error for error in convoy.raised if error is not None]
        failed += bool(errors)
        # An interrupt is the affair of the thread that it meets, and a broken manifest that of its own commit.
        if kind == "interrupt" or convoy.faults.struck.endswith("manifest"):
            assert len(errors) <= 1, f"{kind} at {convoy.faults.struck}: {errors}"
    assert failed
    assert convoy.raised == [None] * FOLLOWERS
    assert swaps(warehouse) == 3


def test_one_key_twice_in_a_group_lands_once(warehouse) -> None:
    convoy = Convoy(warehouse, "error", 0, ["k", "k", "other", "k"])
    assert convoy.raised == [None] * 4
    seen = warehouse.look()
    assert len(seen.rows["t"]) == 4
    assert 12 in seen.rows["t"]
    assert len({result.snapshot_id for result in convoy.results}) == 2
    assert not seen.leftovers


def test_a_key_counts_as_landed_only_once_it_has(warehouse) -> None:
    for at in range(1, STEPS_MAX):
        warehouse.reset()
        convoy = Convoy(warehouse, "error", at, ["k", "k"])
        rows = warehouse.look().rows["t"]
        story = f"error at step {at} ({convoy.faults.struck}): {convoy.raised}"
        assert len({10, 11} & set(rows)) == (None in convoy.raised), story
        if convoy.faults.struck is None:
            break
    assert convoy.raised == [None, None]


@dataclass(eq=False)
class Request:
    outcome: str | None = None


def test_a_queue_is_gone_when_nobody_uses_it() -> None:
    groups: Groups[Request] = Groups()

    def work(requests: Sequence[Request]) -> None:
        for request in requests:
            request.outcome = "done"

    groups.run(("t",), Request(), work)
    assert groups._queues == {}

    def fail(requests: Sequence[Request]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        groups.run(("t",), Request(), fail)
    assert groups._queues == {}


def test_no_group_is_larger_than_the_limit_and_all_get_their_outcome() -> None:
    groups: Groups[Request] = Groups()
    sizes: list[int] = []
    everybody = threading.Event()
    requests = [Request() for _ in range(GROUP_MAX + 20)]

    def work(members: Sequence[Request]) -> None:
        everybody.wait(10)
        sizes.append(len(members))
        for member in members:
            member.outcome = "done"

    threads = [threading.Thread(target=groups.run, args=(("t",), request, work)) for request in requests]
    for thread in threads:
        thread.start()
    while not groups._queues or len(next(iter(groups._queues.values())).waiting) < len(requests) - 1:
        time.sleep(0.001)
    everybody.set()
    for thread in threads:
        thread.join(10)
    assert [request.outcome for request in requests] == ["done"] * len(requests)
    assert max(sizes) <= GROUP_MAX
    assert sum(sizes) == len(requests)


def test_requests_of_other_keys_do_not_wait() -> None:
    groups: Groups[Request] = Groups()
    go_on = threading.Event()

    def slow(members: Sequence[Request]) -> None:
        go_on.wait(10)
        members[0].outcome = "slow"

    def quick(members: Sequence[Request]) -> None:
        members[0].outcome = "quick"

    held = Request()
    thread = threading.Thread(target=groups.run, args=(("t",), held, slow))
    thread.start()
    other = Request()
    groups.run(("u",), other, quick)
    assert (held.outcome, other.outcome) == (None, "quick")
    go_on.set()
    thread.join(10)
    assert held.outcome == "slow"
