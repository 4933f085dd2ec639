"""The collector's pauses."""

import gc
import threading

import pytest

from icefusion.bridge.pausing import collection_paused


def test_the_collector_is_off_meanwhile_and_on_afterwards() -> None:
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), collection_paused():
        raise ValueError("x")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_another_thread_does_not_prolong_the_pause() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with collection_paused():
            entered.set()
            leave.wait(10)

    with collection_paused():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
