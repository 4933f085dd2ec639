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
from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.query.changes import CLAUSE_COLUMN, SOURCE_ROW_COLUMN, Branch, RowQuery
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

__all__ = ["Duplicate", "NewRows", "RowSink"]

FLUSH_ROWS = 1_000_000


@dataclass(frozen=True)
class NewRows:
    """Rows for the writer.

    Attributes:
        batch: The rows, in the table's schema.
        files: For updated rows, the file that each of them was in, as the query names it; None for inserted rows.
    """

    batch: pa.RecordBatch
    files: pa.Array | None


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

    def flush(self) -> None:
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for path, arrays in waiting.items():
            rows = np.concatenate(arrays)
            held = self.positions.get(path)
            added = self.positions.add(path, rows)
            if added != len(rows) and self.duplicate is None:
                ordered = np.sort(rows)
                twice = ordered[1:][ordered[1:] == ordered[:-1]]
                position = int(twice[0]) if len(twice) else (BitMap(rows) & (held or BitMap())).min()
                self.duplicate = Duplicate(path, position)


class RowSink:
    """Takes the batches of one row query apart; used by several threads.

    Args:
        query: The question.
        answer: The schema of its answer.
        schema: The table's schema.
        table: The table's name, for messages.
        files_by_name: The path of each data file by the name that the query gives it.
        show: Told of the old rows that a DELETE asked for with all their columns.
    """

    def __init__(
        self,
        query: RowQuery,
        answer: pa.Schema,
        schema: Schema,
        table: str,
        files_by_name: Mapping[str, str],
        show: Callable[[pa.RecordBatch], None] | None = None,
    ) -> None:
        self._files_by_name = files_by_name
        self._places = {name: answer.get_field_index(name) for name in answer.names}
        self._branches = [_BranchRows(branch, answer, schema, table) for branch in query.branches]
        self._show = show
        self._lock = threading.Lock()
        self._deleted = _Collector()
        self._updated = _Collector()
        self._matched = _Collector()
        self._shown = Positions()
        self.source_rows = BitMap()
        self.inserted = 0

    def rows(self, stream: Iterator[pa.RecordBatch]) -> Iterator[NewRows]:
        """The new rows that the batches of a stream make."""
        for batch in stream:
            yield from self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> Iterator[NewRows]:
        identity = self._identity(batch)
        if SOURCE_ROW_COLUMN in self._places:
            numbers = self._numpy(batch, SOURCE_ROW_COLUMN).astype(np.uint32)
            with self._lock:
                self.source_rows |= BitMap(numbers)
                self._collect(self._matched, identity)
        clauses = self._numpy(batch, CLAUSE_COLUMN) if CLAUSE_COLUMN in self._places else None
        for rows in self._branches:
            branch = rows.branch
            if branch.action == "keep":
                continue
            taken = batch if clauses is None else _only(batch, clauses == branch.number)
            if not taken.num_rows:
                continue
            if branch.action == "insert":
                with self._lock:
                    self.inserted += taken.num_rows
                yield NewRows(rows.new_rows(taken), None)
                continue
            collector = self._updated if branch.action == "update" else self._deleted
            own = identity if taken is batch else self._identity(taken)
            with self._lock:
                self._collect(collector, own)
            if branch.action == "update":
                yield NewRows(rows.new_rows(taken), taken.column(self._places[FILE_COLUMN]))
            elif self._show is not None and branch.values:
                with self._lock:
                    first = self._first_seen(taken)
                self._show(rows.new_rows(_only(taken, first)))

    def finish(self) -> Duplicate | None:
        """To be called once all is taken: whether a row was taken twice in a way that makes no sense."""
        for collector in (self._deleted, self._updated, self._matched):
            collector.flush()
        if self._updated.duplicate is not None:
            return self._updated.duplicate
        for path, bitmap in self._updated.positions.items():
            both = bitmap & (self._deleted.positions.get(path) or BitMap())
            if both:
                return Duplicate(path, both.min())
        return None

    @property
    def updated(self) -> int:
        """Rows of the target that were changed."""
        return len(self._updated.positions)

    @property
    def deleted(self) -> int:
        """Rows of the target that were removed."""
        return len(self._deleted.positions)

    @property
    def gone(self) -> Positions:
        """The rows of the target that were changed or removed."""
        return self._updated.positions.union(self._deleted.positions)

    @property
    def matched(self) -> Positions:
        """The rows of the target that matched a row of the source, whatever became of them."""
        return self._matched.positions

    def _identity(self, batch: pa.RecordBatch) -> list[tuple[str, npt.NDArray[np.uint32]]]:
        """The positions in a batch, by file."""
        if FILE_COLUMN not in self._places:
            return []
        names = pc.dictionary_encode(batch.column(self._places[FILE_COLUMN]))
        positions = self._numpy(batch, POSITION_COLUMN).astype(np.uint32)
        paths = [self._files_by_name[name] for name in names.dictionary.to_pylist()]
        if len(paths) == 1:
            return [(paths[0], positions)]
        codes = names.indices.to_numpy()
        return [(path, positions[codes == code]) for code, path in enumerate(paths)]

    def _first_seen(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which rows of a batch name a row of the target that no row before them did."""
        result = np.zeros(batch.num_rows, np.bool_)
        names = pc.dictionary_encode(batch.column(self._places[FILE_COLUMN]))
        positions = self._numpy(batch, POSITION_COLUMN).astype(np.uint32)
        codes = names.indices.to_numpy()
        for code, name in enumerate(names.dictionary.to_pylist()):
            path = self._files_by_name[name]
            rows = np.flatnonzero(codes == code)
            values, first = np.unique(positions[rows], return_index=True)
            held = self._shown.get(path)
            new = np.ones(len(values), np.bool_) if held is None else np.array([int(v) not in held for v in values])
            result[rows[first[new]]] = True
            self._shown.add(path, values)
        return result

    def _collect(self, collector: _Collector, identity: Sequence[tuple[str, npt.NDArray[np.uint32]]]) -> None:
        for path, positions in identity:
            collector.add(path, positions)

    def _numpy(self, batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
        values: npt.NDArray[np.int64] = batch.column(self._places[name]).to_numpy()
        return values


class _BranchRows:
    """The new rows of one branch, fitted to the table."""

    def __init__(self, branch: Branch, answer: pa.Schema, schema: Schema, table: str) -> None:
        self.branch = branch
        if not branch.columns:
            return
        arrow = iceberg_to_arrow(schema)
        source = pa.schema([answer.field(place) for place in branch.values])
        # Only what was written as a literal may be rounded; for the rest a column of no other type asks for nothing.
        targets = [
            arrow.field(column) if index in branch.literals else pa.field(column, pa.float64())
            for index, column in enumerate(branch.columns)
        ]
        self._source, self._round = round_floats(source, targets)
        self._plain = source
        self._alignment = Alignment.plan(self._source, schema, columns=branch.columns, by="position", table=table)

    def new_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [batch.column(place) for place in self.branch.values]
        return self._alignment.apply(self._round(pa.RecordBatch.from_arrays(columns, schema=self._plain)))


def _only(batch: pa.RecordBatch, mask: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    if mask.all():
        return batch
    return batch.filter(pa.array(mask)) if mask.any() else batch.slice(0, 0)
