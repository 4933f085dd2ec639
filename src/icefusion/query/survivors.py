"""Rows that are deleted, kept out of a scan by their positions.

A scan can show where a row lies: ``input_file_name()`` and ``file_row_index()`` are true whatever row groups were left
out and however a file was split among threads. A function of ours looks the positions of a batch up among those that
are deleted. On ten million rows with half a million deleted ones this costs a few hundredths of a second more than a
scan without it. Its memory is at most a few times what the positions take; a join would build a hash table of them,
which cannot spill.

A file with deletes is a scan of its own, whose function knows the one file. Where there are too many such files for a
plan of that size, they are one scan, and the function is told the name of each row's file. A batch may then hold rows
of several files: operators below a filter put small batches together. So the names are looked at run by run; the first
one says nothing of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame, Expr, lit, udf
from datafusion import functions as f

from icefusion.query.columns import quoted
from icefusion.query.views import FILE_COLUMN, POSITION_COLUMN

__all__ = [
    "MAX_NUMBERED_SCANS",
    "MAX_SINGLE_SCANS",
    "MAX_SURVIVOR_BATCH_ROWS",
    "MIN_SURVIVOR_BATCH_ROWS",
    "Survivors",
    "lives",
    "sealed",
    "surviving_rows",
    "survivor_batch_rows",
    "tells_places",
]

MAX_NUMBERED_SCANS = 12
"""So many files whose rows are to be told apart are scanned one by one; more of them together."""

MAX_SINGLE_SCANS = 64
"""So many files with deleted rows are scanned one by one; more of them together."""

MIN_SURVIVOR_BATCH_ROWS = 32_768
"""Batches of this size make the calls of our functions few enough not to be felt beside a read of many columns."""

MAX_SURVIVOR_BATCH_ROWS = 131_072
"""Beside a read of few bytes a row they have to be fewer still."""

Array = npt.NDArray[np.uint32]

_BATCH_BYTES = 2 * 1024 * 1024  # larger ones leave the processor's caches before they are used
_TEXT_BYTES = 32  # a guess
_DENSE = 8  # a table of all positions is used while it has at most so many entries for each row
_ALL = pa.array(np.ones(1 << 17, dtype=bool))
_BITMAP_BYTES_A_POSITION = 16  # a bitmap takes no more; rows deleted more sparsely are looked up
_BITMAP_MARGIN_ROWS = 1 << 17
_BITMAP_PIECE_ROWS = 1 << 18
_BITMAP_SHARE = 8  # it is made when this part of the rows was asked for
_numbers = count()
_LITERAL = re.compile(r'Utf8(?:View)?\("\d+"\)')  # what tells the file of a scan of one
_PLACES = ("input_file_name()", "file_row_index()")
_NO_LIMIT = 2**62


def surviving_rows(
    scan: DataFrame, columns: Sequence[Expr], deleted: Mapping[str, Array], file: str | None = None
) -> DataFrame:
    """The rows of a scan that are not deleted, with where they lie in `FILE_COLUMN` and `POSITION_COLUMN`.

    The functions that tell where a row lies are pushed down into the scan as long as nothing stands beside them but
    plain columns. A filter between them and the expressions above makes sure of that: projections are merged, but not
    across one. Without it they end up above the scan and fail, whenever statistics are not collected.

    Args:
        scan: A scan of files.
        columns: Plain columns of it, which the result has too.
        deleted: Positions in ascending order, for each file of the scan by the name it has in `FILE_COLUMN`; empty
            where nothing is deleted.
        file: What stands in `FILE_COLUMN` for a scan of one file; None for the name that the engine gives to each.
    """
    name = (f.input_file_name() if file is None else lit(file)).alias(FILE_COLUMN)
    position = f.file_row_index().alias(POSITION_COLUMN)
    frame = scan.select(*columns, name, position)
    if not deleted:
        return frame.filter(quoted(POSITION_COLUMN) >= lit(0))
    if len(deleted) == 1:
        (positions,) = deleted.values()
        return frame.filter(_function(_of_one_file(positions), [pa.int64()])(quoted(POSITION_COLUMN)))
    function = _function(_of_files(deleted), [pa.string(), pa.int64()])
    return frame.filter(function(quoted(FILE_COLUMN), quoted(POSITION_COLUMN)))


def survivor_batch_rows(types: Iterable[pa.DataType]) -> int:
    """How many rows a batch should have for functions of ours to look at it.

    A call of one costs as much as some thousand narrow rows, so these come in large batches; large batches of wide rows
    would leave the caches, which costs more than calls.

    Args:
        types: The types of the columns that are read.
    """
    width_bytes = max(1, sum(_width_bytes(arrow_type) for arrow_type in types))
    rows = MAX_SURVIVOR_BATCH_ROWS
    while rows > MIN_SURVIVOR_BATCH_ROWS and rows * width_bytes > _BATCH_BYTES:
        rows //= 2
    return rows


def tells_places(plan: str) -> bool:
    """Whether an optimized plan asks where rows lie right above the scans, beside nothing but plain columns.

    A condition that names an expression twice is computed below the question. Fields of structs are not left to the
    rule that puts the question in its place: with them it makes mistakes.
    """
    if "get_field(" in plan:
        return False
    lines = [line.strip() for line in plan.splitlines()]
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if not any(place in line for place in _PLACES):
            continue
        rest = _LITERAL.sub("", line)
        for place in _PLACES:
            rest = rest.replace(place, "")
        if "(" in rest or not below.startswith("TableScan:"):
            return False
    return True


def lives(deleted: Array, start: int, count: int) -> pa.Array | None:
    """For each of the rows of one file that lie behind each other whether it is not deleted; None where none is.

    Args:
        deleted: Positions in ascending order.
        start: The position of the first row.
        count: How many rows there are.
    """
    begin, end = np.searchsorted(deleted, np.array([start, start + count], deleted.dtype))
    if begin == end:
        return None
    table = np.ones(count, dtype=bool)
    table[deleted[begin:end] - np.uint32(start)] = False
    return _booleans(table)


def sealed(frame: DataFrame) -> DataFrame:
    """The same rows, through which no condition is pushed down; this costs the pruning inside of files."""
    return frame.limit(_NO_LIMIT)


def _width_bytes(arrow_type: pa.DataType) -> int:
    try:
        return int(arrow_type.bit_width) // 8
    except ValueError:
        return _TEXT_BYTES * max(1, int(arrow_type.num_fields))


def _function(function: Callable[..., pa.Array], types: list[pa.DataType]) -> Callable[..., Expr]:
    # Each has a name of its own, as the engine may take functions of one name for one function.
    made: Callable[..., Expr] = udf(function, types, pa.bool_(), "immutable", f"icefusion_lives_{next(_numbers)}")
    return made


def _of_one_file(deleted: Array) -> Callable[[pa.Array], pa.Array]:
    return Survivors(deleted).among


def _of_files(deleted: Mapping[str, Array]) -> Callable[[pa.Array, pa.Array], pa.Array]:
    survivors = {name: Survivors(positions) for name, positions in deleted.items()}

    def lives(names: pa.Array, positions: pa.Array) -> pa.Array:
        if not len(names):
            return _ALL[:0]
        runs = pc.run_end_encode(names)
        parts = []
        start = 0
        for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            # A file that is not known here is an error: its rows must not pass unseen.
            parts.append(survivors[name].among(positions[start:end]))
            start = end
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)

    return lives


class Survivors:
    """The rows of one file that are not deleted. Threads share it.

    Nearly every batch holds rows that lie behind each other. Its answer then is a slice of one bitmap of the whole
    file, which is made once a good part of the file was asked for. Each step of numpy on a whole batch lets go of the
    interpreter and has to get it back from the other threads, which takes longer than the step: so there are few.

    Args:
        deleted: Positions in ascending order, at least one.
    """

    def __init__(self, deleted: Array) -> None:
        self._deleted = deleted
        # Rows behind the last deleted one: so that the batch that holds it can be a slice too.
        self._covered = (int(deleted[-1]) + _BITMAP_MARGIN_ROWS + 7) // 8 * 8
        self._dense = self._covered <= _BITMAP_BYTES_A_POSITION * 8 * len(deleted) + 2 * _BITMAP_MARGIN_ROWS
        self._asked = 0  # not exact where threads meet, and need not be
        self._bits: pa.Buffer | None = None

    def among(self, positions: pa.Array) -> pa.Array:
        """For each position whether it is not deleted. They come in any order, each at most once."""
        rows = len(positions)
        if not rows:
            return _ALL[:0]
        wanted = positions.to_numpy(zero_copy_only=True)
        start = int(wanted[0])
        # Rising numbers, as many as there are between the ends, are all that there are.
        if int(wanted[-1]) - start + 1 != rows or not bool((wanted[1:] > wanted[:-1]).all()):
            return _among_any(self._deleted, wanted)
        if self._bits is None and self._dense:
            self._asked += rows
            if self._asked >= self._covered // _BITMAP_SHARE:
                self._bits = _bitmap(self._deleted, self._covered)
        if self._bits is not None and start + rows <= self._covered:
            return pa.Array.from_buffers(pa.bool_(), rows, [None, self._bits], offset=start)
        found = lives(self._deleted, start, rows)
        return _all(rows) if found is None else found


def _among_any(deleted: Array, wanted: npt.NDArray[np.int64]) -> pa.Array:
    low, high = int(wanted.min()), int(wanted.max())
    # Bounds of the array's own type: for others the whole array would be converted, for each batch.
    begin = np.searchsorted(deleted, np.uint32(low))
    end = np.searchsorted(deleted, np.uint32(high), side="right")
    if begin == end:
        return _all(len(wanted))
    near = deleted[begin:end]
    if high - low < _DENSE * len(wanted):
        table = np.ones(high - low + 1, dtype=bool)
        table[near - np.uint32(low)] = False
        return _booleans(table[wanted - low])
    places = np.minimum(np.searchsorted(near, wanted.astype(np.uint32)), len(near) - 1)
    return _booleans(near[places] != wanted)


def _bitmap(deleted: Array, rows: int) -> pa.Buffer:
    """A bit for each of the first rows of a file, which is set where the row is not deleted; made piece by piece."""
    bits = np.empty(rows // 8, np.uint8)
    starts = range(0, rows, _BITMAP_PIECE_ROWS)
    bounds = np.searchsorted(deleted, np.array([*starts, rows], np.uint64))
    table = np.empty(min(rows, _BITMAP_PIECE_ROWS), dtype=bool)
    for number, start in enumerate(starts):
        piece = table[: rows - start]
        piece[:] = True
        piece[deleted[bounds[number] : bounds[number + 1]] - np.uint32(start)] = False
        bits[start // 8 : (start + len(piece)) // 8] = np.packbits(piece, bitorder="little")
    return pa.py_buffer(bits)


def _all(rows: int) -> pa.Array:
    return _ALL[:rows] if rows <= len(_ALL) else _booleans(np.ones(rows, dtype=bool))


def _booleans(values: npt.NDArray[np.bool_]) -> pa.Array:
    """The same as an Arrow array, several times as fast as pyarrow makes it."""
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])
