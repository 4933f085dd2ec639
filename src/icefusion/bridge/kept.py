"""What was read or worked out last, kept up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["KeptBytes"]

_BYTES_AN_ITEM = 300  # the key, and the places in the dictionary


class KeptBytes:
    """Keeps what was asked for last, and drops what was not asked for longest. Threads may share it.

    Args:
        max_bytes: How much to keep, by the sizes that are given; 0 for nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._size_bytes

    def get(self, key: Hashable) -> Any:
        """What is kept under a key; None for nothing."""
        with self._lock:
            found = self._items.get(key)
            if found is None:
                return None
            self._items.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size_bytes: int) -> None:
        """Keep a value, unless it is larger than everything that may be kept.

        Args:
            key: What to find it by.
            value: Not None, and not to be changed any more.
            size_bytes: What it takes in memory.
        """
        size_bytes += _BYTES_AN_ITEM
        with self._lock:
            self._drop(key)
            if size_bytes > self.max_bytes:
                return
            self._items[key] = value, size_bytes
            self._size_bytes += size_bytes
            while self._size_bytes > self.max_bytes:
                self._drop(next(iter(self._items)))

    def __len__(self) -> int:
        return len(self._items)

    def _drop(self, key: Hashable) -> None:
        found = self._items.pop(key, None)
        if found is not None:
            self._size_bytes -= found[1]
