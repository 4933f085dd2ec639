"""What the answers to a `RowQuery` mean: rows that go, and new rows for the writer.

Batches pass through on the writer's own threads. Identities are taken off them and collected as positions, new rows are
fitted to the table and passed on. A row of the target that is taken twice shows when all is done: then there are fewer
positions than there were rows. Two deletes of one row are one; an update and anything else is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyroaring import BitMap

from icefusion.bridge.align import Alignment
from icefusion.bridge.literals import round_floats
from icefusion.bridge.positions import Positions, bitmap_of
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.query.changes import CLAUSE_COLUMN, SOURCE_ROW_COLUMN, Branch, RowQuery
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

__all__ = ["Collected", "Duplicate", "NewRows", "Places", "RowSink", "places_of"]

FLUSH_ROWS = 1_000_000


@dataclass(frozen=True)
class NewRows:
    """Rows for the writer.

    Attributes:
        batch: The rows, in the table's schema, or those of its columns that were asked for.
        places: For updated rows, where each of them is; None for inserted rows.
    """

    batch: pa.RecordBatch
    places: Places | None


@dataclass(frozen=True)
class Places:
    """Where rows of the target are: the path of the data file of each of them, and its position there."""

    files: pa.DictionaryArray
    positions: npt.NDArray[np.uint32]

    def by_file(self) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
        """Each file that has some of the rows, and which of them, in order."""
        paths = self.files.dictionary.to_pylist()
        if len(paths) == 1:
            yield paths[0], np.arange(len(self.positions))
            return
        codes = self.files.indices.to_numpy()
        for code, path in enumerate(paths):
            rows = np.flatnonzero(codes == code)
            if len(rows):
                yield path, rows


@dataclass(frozen=True)
class Duplicate:
    """A row of the target that was taken more than once: the path of its file, and its position."""

    path: str
    position: int


class _Collector:
    """Positions by file, gathered in arrays and made into bitmaps now and then."""

    def __init__(self) -> None:
        self.positions = Positions()
        self.rows = 0
        self.duplicate: Duplicate | None = None
        self._waiting: dict[str, list[npt.NDArray[np.uint32]]] = {}
        self._count = 0

    def add(self, path: str, positions: npt.NDArray[np.uint32]) -> None:
        self._waiting.setdefault(path, []).append(positions)
        self._count += len(positions)
        self.rows += len(positions)
        if self._count >= FLUSH_ROWS:
            self.flush()

    def add_all(self, positions: Sequence[tuple[str, npt.NDArray[np.uint32]]]) -> None:
        for path, rows in positions:
            self.add(path, rows)

    def flush(self) -> None:
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for path, arrays in waiting.items():
            rows = np.concatenate(arrays)
            held = self.positions.get(path)
            added = self.positions.add(path, rows)
            if added != len(rows) and self.duplicate is None:
                ordered = np.sort(rows)
                twice = ordered[1:][ordered[1:] == ordered[:-1]]
                position = int(twice[0]) if len(twice) else (bitmap_of(rows) & (held or BitMap())).min()
                self.duplicate = Duplicate(path, position)


class Collected:
    """What all answers to the questions of one change have said so far."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inserted = 0
        self.source_rows = BitMap()
        self.updated_rows = _Collector()
        self.deleted_rows = _Collector()
        self.matched_rows = _Collector()
        self._shown = Positions()

    def first_seen(self, places: Places) -> npt.NDArray[np.bool_]:
        """Which of some rows of the target were not asked for here before; to be called under the lock."""
        result = np.zeros(len(places.positions), np.bool_)
        for path, rows in places.by_file():
            values, first = np.unique(places.positions[rows], return_index=True)
            held = self._shown.get(path)
            new = np.ones(len(values), np.bool_) if held is None else np.array([int(v) not in held for v in values])
            result[rows[first[new]]] = True
            self._shown.add(path, values)
        return result

    def finish(self) -> Duplicate | None:
        """To be called while nothing is being taken: whether a row was taken twice in a way that makes no sense."""
        for collector in (self.deleted_rows, self.updated_rows, self.matched_rows):
            collector.flush()
        if self.updated_rows.duplicate is not None:
            return self.updated_rows.duplicate
        for path, bitmap in self.updated_rows.positions.items():
            both = bitmap & (self.deleted_rows.positions.get(path) or BitMap())
            if both:
                return Duplicate(path, both.min())
        return None

    @property
    def updated(self) -> int:
        """Rows of the target that were changed."""
        return len(self.updated_rows.positions)

    @property
    def deleted(self) -> int:
        """Rows of the target that were removed."""
        return len(self.deleted_rows.positions)

    @property
    def gone(self) -> Positions:
        """The rows of the target that were changed or removed."""
        return self.updated_rows.positions.union(self.deleted_rows.positions)

    @property
    def matched(self) -> Positions:
        """The rows of the target that matched a row of the source, whatever became of them."""
        return self.matched_rows.positions


class RowSink:
    """Takes the batches of one row query apart; used by several threads.

    Args:
        query: The question.
        answer: The schema of its answer.
        schema: The table's schema.
        table: The table's name, for messages.
        files_by_name: The path of each data file by the name that the query gives it.
        collected: What is taken note of goes there.
        show: Told of the old rows that a DELETE asked for with all their columns.
    """

    def __init__(
        self,
        query: RowQuery,
        answer: pa.Schema,
        schema: Schema,
        table: str,
        files_by_name: Mapping[str, str],
        collected: Collected,
        show: Callable[[pa.RecordBatch], None] | None = None,
    ) -> None:
        self._files_by_name = files_by_name
        self._places = {name: answer.get_field_index(name) for name in answer.names}
        self._branches = [_BranchRows(branch, answer, schema, table) for branch in query.branches]
        self._collected = collected
        self._show = show

    def rows(self, stream: Iterator[pa.RecordBatch]) -> Iterator[NewRows]:
        """The new rows that the batches of a stream make."""
        for batch in stream:
            yield from self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> Iterator[NewRows]:
        collected = self._collected
        if SOURCE_ROW_COLUMN in self._places:
            seen = bitmap_of(self._numpy(batch, SOURCE_ROW_COLUMN).astype(np.uint32))
            matched = _by_path(self._places_of(batch))
            with collected.lock:
                collected.source_rows |= seen
                collected.matched_rows.add_all(matched)
        clauses = self._numpy(batch, CLAUSE_COLUMN) if CLAUSE_COLUMN in self._places else None
        for rows in self._branches:
            branch = rows.branch
            if branch.action == "keep":
                continue
            taken = batch if clauses is None else _only(batch, clauses == branch.number)
            if not taken.num_rows:
                continue
            if branch.action == "insert":
                with collected.lock:
                    collected.inserted += taken.num_rows
                yield NewRows(rows.new_rows(taken), None)
                continue
            places = self._places_of(taken)
            gone = _by_path(places)
            with collected.lock:
                (collected.updated_rows if branch.action == "update" else collected.deleted_rows).add_all(gone)
            if branch.action == "update":
                yield NewRows(rows.new_rows(taken), places)
            elif self._show is not None and branch.values:
                with collected.lock:
                    first = collected.first_seen(places)
                self._show(rows.new_rows(_only(taken, first)))

    def _places_of(self, batch: pa.RecordBatch) -> Places:
        return places_of(batch, self._places[FILE_COLUMN], self._places[POSITION_COLUMN], self._files_by_name)

    def _numpy(self, batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
        values: npt.NDArray[np.int64] = batch.column(self._places[name]).to_numpy()
        return values


def places_of(batch: pa.RecordBatch, file_at: int, position_at: int, files_by_name: Mapping[str, str]) -> Places:
    """Where the rows of an answer are.

    Args:
        batch: The rows.
        file_at: Which column has the names of their files.
        position_at: Which one has their positions.
        files_by_name: The path of each data file by the name that the query gives it.
    """
    names = pc.dictionary_encode(batch.column(file_at))
    paths = [files_by_name[name] for name in names.dictionary.to_pylist()]
    files = pa.DictionaryArray.from_arrays(names.indices, pa.array(paths, pa.string()))
    return Places(files, batch.column(position_at).to_numpy().astype(np.uint32))


def _by_path(places: Places) -> list[tuple[str, npt.NDArray[np.uint32]]]:
    """The positions in each file."""
    return [(path, places.positions[rows]) for path, rows in places.by_file()]


class _BranchRows:
    """The new rows of one branch, fitted to the table."""

    def __init__(self, branch: Branch, answer: pa.Schema, schema: Schema, table: str) -> None:
        self.branch = branch
        if not branch.columns and branch.part is None:
            return
        if branch.part is not None:
            schema = Schema(*(schema.find_field(name) for name in branch.part))
        arrow = iceberg_to_arrow(schema)
        source = pa.schema([answer.field(place) for place in branch.values])
        # Only what was written as a literal may be rounded; for the rest a column of no other type asks for nothing.
        targets = [
            arrow.field(column) if index in branch.literals else pa.field(column, pa.float64())
            for index, column in enumerate(branch.columns)
        ]
        self._source, self._round = round_floats(source, targets)
        self._alignment = Alignment.plan(self._source, schema, columns=branch.columns, by="position", table=table)

    def new_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        # Chosen, and not put together anew, which would forget how many rows there are where there is no column.
        return self._alignment.apply(self._round(batch.select(list(self.branch.values))))


def _only(batch: pa.RecordBatch, mask: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    if mask.all():
        return batch
    return batch.filter(pa.array(mask)) if mask.any() else batch.slice(0, 0)
