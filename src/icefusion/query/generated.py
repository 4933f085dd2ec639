"""Tables whose rows are made while they are read: metadata tables, and lists of what a catalog holds.

Such a table is a list of parts, e.g. one for each manifest. The list is walked as the engine asks for batches, so a
query with a LIMIT stops early, and what is held at a time are the few parts that are loaded ahead. A part says within
which bounds its columns lie; one that can hold no row that the query wants is left out without being loaded. It is the
test by which scans leave out data files, on bounds of another origin.

Unlike other streams these can be read any number of times, and only the columns that are asked for are made.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator, bind
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, PrimitiveType, UUIDType

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.schema import assign_ids
from icefusion.errors import IcefusionError, StorageError
from icefusion.query.columns import read_type
from icefusion.query.sources import Source
from icefusion.query.survivors import sealed

__all__ = ["Bounds", "GeneratedSource", "Part", "Range", "arrow_schema", "exactly", "make_batch", "make_fields"]

PARTS_AHEAD = 4
"""How many parts are loaded before they are asked for: one after another, an object store would be waited for."""

_PLAIN = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


@dataclass(frozen=True)
class Range:
    """Where the values of a column lie, as manifests store bounds.

    Attributes:
        lower: The lowest value; None where that is not known.
        upper: The highest; likewise.
        nulls: Whether NULL is among the values; None where that is not known.
        values: Whether anything else is.
    """

    lower: bytes | None = None
    upper: bytes | None = None
    nulls: bool | None = None
    values: bool = True


Bounds = Mapping[str, Range]
"""By dotted column name; a column that is not named may hold anything."""


@dataclass(frozen=True)
class Part:
    """A run of rows.

    Attributes:
        make: Makes them as record batches from what was loaded, given the names of the columns that are wanted.
        load: Reads what they are made from; called on any thread.
        bounds: Where their values lie.
        parts: What it consists of, where its rows are those of other parts.
    """

    make: Callable[[Any, Sequence[str]], Iterable[pa.RecordBatch]]
    load: Callable[[], Any] = field(default=lambda: None)
    bounds: Bounds = field(default_factory=dict)
    parts: Callable[[], Iterable[Part]] | None = None

    @classmethod
    def of_parts(cls, parts: Callable[[], Iterable[Part]], bounds: Bounds) -> Part:
        """A part that consists of others, which are not asked for if it is left out."""
        return cls(lambda _, __: (), bounds=bounds, parts=parts)


Parts = Callable[[ManifestReader], Iterable[Part]]


class GeneratedSource(Source):
    """A table that is made of parts.

    Args:
        name: What errors call it.
        fields: Its columns.
        parts: Gives the parts, each time it is read.
        identity: Equal for two that are the same table in the same state.
        row_filter: True for every row that is wanted; others may be left out.
        manifests: Reads manifest lists.

    Attributes:
        fields: Its columns.
        identity: As given.
    """

    def __init__(
        self,
        name: str,
        fields: Schema,
        parts: Parts,
        identity: Hashable,
        *,
        row_filter: BooleanExpression | None = None,
        manifests: ManifestReader | None = None,
    ) -> None:
        super().__init__(name, arrow_schema(fields), open_stream=self._rows)
        self.fields = fields
        self.identity = identity
        self._parts = parts
        self._row_filter = row_filter
        self._manifests = manifests or ManifestReader()

    def narrowed(self, row_filter: BooleanExpression, manifests: ManifestReader) -> GeneratedSource:
        """The same table, which need not give rows for which a filter is not true."""
        return GeneratedSource(
            self.name, self.fields, self._parts, self.identity, row_filter=row_filter, manifests=manifests
        )

    def to_frame(self, context: SessionContext, threads: int, lock: threading.RLock) -> DataFrame:  # noqa: ARG002
        """A DataFrame over the rows, which are made when it runs. All conditions stay above it."""
        return sealed(context.read_table(Table(self.dataset)))

    def open(self) -> Iterator[pa.RecordBatch]:
        """All columns of the rows."""
        return self._rows()

    def open_columns(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows, or a few more."""
        return self._rows(columns)

    def _rows(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        # A batch without columns could not say how many rows it has.
        wanted = list(self.schema.names if columns is None else columns) or [self.schema.names[0]]
        test = _PartTest(self.fields, self._row_filter or AlwaysTrue())
        for part, loaded in _loaded(_kept(self._parts(self._manifests), test)):
            yield from part.make(loaded, wanted)


def make_fields(*columns: NestedField | tuple[str, Any]) -> Schema:
    """A schema of columns, or of names and types, with ids of its own."""
    fields = [c if isinstance(c, NestedField) else NestedField(0, c[0], c[1], required=False) for c in columns]
    return assign_ids(fields)


def arrow_schema(fields: Schema) -> pa.Schema:
    """The Arrow schema of such a table: all columns nullable, at every depth."""
    types = ((column.name, read_type(column.field_type, column.name)) for column in fields.fields)
    return pa.schema([pa.field(name, _PLAIN.get(kind, kind)) for name, kind in types])


def make_batch(
    schema: pa.Schema, wanted: Sequence[str], makers: Mapping[str, Callable[[pa.DataType], Any]]
) -> pa.RecordBatch:
    """A batch of the wanted columns. A maker gives an array of the type it is told, or values for one.

    Raises:
        StorageError: What it is made from is damaged.
    """
    arrays = []
    for name in wanted:
        kind = schema.field(name).type
        try:
            made = makers[name](kind)
            arrays.append(made if isinstance(made, pa.Array) else pa.array(made, kind))
        except IcefusionError:
            raise
        except Exception as exc:  # a number beyond its type, and what else a damaged file may say
            raise StorageError(
                f"column {name}: what the table's metadata says makes no sense: {exc}",
                hint="a manifest is damaged; restore it, or read an earlier snapshot: FOR VERSION AS OF",
            ) from exc
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([schema.field(name) for name in wanted]))


def exactly(kind: PrimitiveType, value: Any) -> Range:
    """The bounds of a column that holds one value, or nothing but NULL."""
    if value is None:
        return Range(nulls=True, values=False)
    stored = to_bytes(kind, value)
    return Range(stored, stored, nulls=False)


def _kept(parts: Iterable[Part], test: Callable[[Bounds], bool]) -> Iterator[Part]:
    """The parts that are not left out."""
    for part in parts:
        if not test(part.bounds):
            continue
        if part.parts is None:
            yield part
        else:
            yield from _kept(part.parts(), test)


def _loaded(parts: Iterator[Part]) -> Iterator[tuple[Part, Any]]:
    """Each part with what it is made from. How far ahead is loaded grows with the number of parts asked for."""
    first = next(parts, None)
    if first is None:
        return
    yield first, first.load()
    second = next(parts, None)
    if second is None:
        return
    waiting: deque[tuple[Part, Future[Any]]] = deque()
    asked = 0
    pool = ThreadPoolExecutor(PARTS_AHEAD, thread_name_prefix="icefusion-parts")
    try:
        waiting.append((second, pool.submit(second.load)))
        while waiting:
            part, future = waiting.popleft()
            asked += 1
            while len(waiting) < min(asked, PARTS_AHEAD) and (ahead := next(parts, None)) is not None:
                waiting.append((ahead, pool.submit(ahead.load)))
            yield part, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _PartTest:
    """Whether a part may hold a row for which a filter is true: it may keep too many, never too few."""

    def __init__(self, fields: Schema, row_filter: BooleanExpression) -> None:
        self._fields = fields
        self._evaluate: Callable[[DataFile], bool] | None = None
        try:
            bind(fields, row_filter, case_sensitive=True)
        except Exception:
            return  # the columns do not carry the filter
        if not isinstance(row_filter, AlwaysTrue):
            self._evaluate = _InclusiveMetricsEvaluator(fields, row_filter).eval

    def __call__(self, bounds: Bounds) -> bool:
        if self._evaluate is None or not bounds:
            return True
        try:
            return self._evaluate(self._as_file(bounds))
        except Exception:
            return True

    def _as_file(self, bounds: Bounds) -> DataFile:
        known = {}
        for name, bound in bounds.items():
            column = self._fields.find_field(name)
            if not isinstance(column.field_type, UUIDType):
                known[column.field_id] = bound
        return DataFile.from_args(
            record_count=1,
            value_counts={key: 1 for key, bound in known.items() if bound.nulls is not None},
            null_value_counts={
                key: 0 if not bound.nulls else 1
                for key, bound in known.items()
                if bound.nulls is False or (bound.nulls and not bound.values)
            },
            lower_bounds={key: bound.lower for key, bound in known.items() if bound.lower is not None},
            upper_bounds={key: bound.upper for key, bound in known.items() if bound.upper is not None},
        )
