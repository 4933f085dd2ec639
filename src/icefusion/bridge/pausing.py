"""Making many objects at once without the cyclic collector looking at them again and again.

Planning makes some objects for each file, which all stay. The collector runs whenever there are some hundred more of
them, and in a process with much in memory one run takes longer than the decoding of a manifest.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collection_paused"]

_pausing = threading.Lock()


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the cyclic collector from running meanwhile, where it is on.

    It is off for all threads, so only the one that turned it off turns it on again, at its end: threads that plan at
    the same time do not prolong the pause in turns, or the collector would never run under load.
    """
    if not gc.isenabled() or not _pausing.acquire(blocking=False):
        yield
        return
    try:
        gc.disable()
        yield
    finally:
        gc.enable()
        _pausing.release()
