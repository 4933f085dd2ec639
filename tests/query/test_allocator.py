"""Memory that the engine's allocator holds on to is looked for while queries with a limit run."""

import threading
import time

import pytest

from icefusion.query.allocator import GROWTH_BYTES, Reclaimer, anonymous_bytes

pytestmark = pytest.mark.skipif(anonymous_bytes() is None, reason="the system does not tell what a process holds")


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "icefusion-reclaim"}


def test_memory_is_looked_for_when_it_has_grown_and_not_before() -> None:
    reclaimer = Reclaimer()
    with reclaimer.watching():
        time.sleep(0.2)
        assert reclaimer.rounds == 0
        grown = bytearray(2 * GROWTH_BYTES)
        wait_for(lambda: reclaimer.rounds)
    del grown
    reclaimer.stop()


def test_nothing_is_looked_for_when_no_query_runs() -> None:
    reclaimer = Reclaimer()
    with reclaimer.watching(), reclaimer.watching():
        pass
    time.sleep(0.2)
    rounds = reclaimer.rounds
    grown = bytearray(2 * GROWTH_BYTES)
    time.sleep(0.2)
    assert reclaimer.rounds == rounds
    del grown
    reclaimer.stop()


def test_a_stopped_one_does_nothing_more_and_its_thread_has_ended() -> None:
    before = threads()
    reclaimer = Reclaimer()
    with reclaimer.watching():
        assert len(threads()) == len(before) + 1
    reclaimer.stop()
    reclaimer.stop()
    with reclaimer.watching():
        grown = bytearray(2 * GROWTH_BYTES)
        time.sleep(0.2)
    del grown
    assert reclaimer.rounds == 0
    assert threads() == before
