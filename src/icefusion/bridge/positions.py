"""Rows named by where they lie: the path of a data file, and positions in it.

What delete files say, what a transaction has deleted so far, and what a MERGE has touched are all such sets. The
positions in one file are a roaring bitmap of 32 bits, which is what deletion vectors store too; a data file of more
than four billion rows is not a thing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

__all__ = ["MAX_POSITION", "Positions", "bitmap_of"]

MAX_POSITION = 2**32 - 1


class Positions:
    """A set of rows. It can grow; whoever gave one to somebody else grows a copy.

    Args:
        bitmaps: Positions by the path of their data file, as metadata has it. Taken over, not copied.
    """

    __slots__ = ("_bitmaps",)

    def __init__(self, bitmaps: Mapping[str, BitMap] | None = None) -> None:
        self._bitmaps: dict[str, BitMap] = {path: bitmap for path, bitmap in (bitmaps or {}).items() if bitmap}

    def add(self, path: str, positions: npt.ArrayLike) -> int:
        """Add rows of one file, in any order; some may be there already.

        Returns:
            How many were not.

        Raises:
            ValueError: A position is negative, or beyond what a file can have.
        """
        values = np.asarray(positions)
        if not values.size:
            return 0
        if values.dtype != np.uint32:
            if int(values.min()) < 0 or int(values.max()) > MAX_POSITION:
                raise ValueError(f"row position {values.min()} or {values.max()} is not one of a file")
            values = values.astype(np.uint32)
        return self.add_bitmap(path, bitmap_of(values))

    def add_bitmap(self, path: str, bitmap: BitMap) -> int:
        """Add rows of one file. The bitmap may be kept, and must not be changed by the caller any more.

        Returns:
            How many were not there yet.
        """
        held = self._bitmaps.get(path)
        if held is None:
            if bitmap:
                self._bitmaps[path] = bitmap
            return len(bitmap)
        merged = held | bitmap  # a new one: a copy of this set may share the old one
        self._bitmaps[path] = merged
        return len(merged) - len(held)

    def get(self, path: str) -> BitMap | None:
        """The positions in one file, not to be changed; None where there are none."""
        return self._bitmaps.get(path)

    def array(self, path: str) -> npt.NDArray[np.uint32]:
        """The positions in one file, ascending."""
        return sorted_positions(self._bitmaps.get(path))

    def count(self, path: str) -> int:
        """How many rows of one file are in the set."""
        bitmap = self._bitmaps.get(path)
        return 0 if bitmap is None else len(bitmap)

    def paths(self) -> tuple[str, ...]:
        """The files that have rows in the set."""
        return tuple(self._bitmaps)

    def union(self, other: Positions) -> Positions:
        """The rows that are in either, as a new set."""
        result = self.copy()
        for path, bitmap in other.items():
            result.add_bitmap(path, bitmap)
        return result

    def without(self, paths: frozenset[str]) -> Positions:
        """The rows that are not in these files, as a new set."""
        return Positions({path: bitmap for path, bitmap in self._bitmaps.items() if path not in paths})

    def copy(self) -> Positions:
        """The same rows, as a set that grows by itself. Cheap: the bitmaps are shared until one side changes."""
        return Positions(self._bitmaps)

    def items(self) -> Iterator[tuple[str, BitMap]]:
        """Each file with its positions, which are not to be changed."""
        return iter(self._bitmaps.items())

    def __len__(self) -> int:
        return sum(map(len, self._bitmaps.values()))

    def __bool__(self) -> bool:
        return bool(self._bitmaps)

    def __contains__(self, row: tuple[str, int]) -> bool:
        path, position = row
        return position in self._bitmaps.get(path, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Positions) and self._bitmaps == other._bitmaps

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Positions({len(self)} in {len(self._bitmaps)} files)"


def bitmap_of(values: npt.NDArray[np.uint32]) -> BitMap:
    """A bitmap of numbers in any order; some may be there twice.

    Sorted, and as the one kind of array that the bitmap takes as a whole: from others it takes number by number.
    """
    return BitMap(array("I", np.sort(values).tobytes()))


def sorted_positions(bitmap: BitMap | None) -> npt.NDArray[np.uint32]:
    """A bitmap's positions, ascending."""
    if not bitmap:
        return np.empty(0, np.uint32)
    return np.frombuffer(bitmap.to_array(), np.uint32)
