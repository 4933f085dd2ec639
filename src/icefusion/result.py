"""What a statement gives back: rows, or what it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from icefusion.errors import ConfigurationError
from icefusion.reports import StatementReport

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result"]

_PREVIEW_ROWS = 20


class Result:
    """The answer to one statement.

    The rows of a query are computed when they are asked for, from the snapshots that were current when the statement
    was given. `to_arrow_reader` and iteration stream them; the other methods collect them, and keep them for further
    calls. A statement that changes data ran already; read as rows it is one row with one column ``count``.

    Attributes:
        schema: The Arrow schema of the rows.
        rows_inserted: Rows added by the statement.
        rows_updated: Rows changed by the statement.
        rows_deleted: Rows removed by the statement.
        snapshot_id: The snapshot that the statement made; None for queries, inside a transaction, and for no change.
        already_landed: Whether nothing was written, because the statement's idempotency key had landed before; the
            other attributes are then those of the earlier write.
        report: What the statement read and wrote.
        returns_rows: Whether rows were asked for: by a query, EXPLAIN or RETURNING. Otherwise they only count.
    """

    def __init__(
        self,
        schema: pa.Schema,
        batches: Callable[[], Iterator[pa.RecordBatch]],
        *,
        report: StatementReport,
        snapshot_id: int | None = None,
        returns_rows: bool = True,
    ) -> None:
        self.returns_rows = returns_rows
        self.schema = schema
        self.report = report
        self.rows_inserted = report.rows.inserted
        self.rows_updated = report.rows.updated
        self.rows_deleted = report.rows.deleted
        self.snapshot_id = snapshot_id
        self.already_landed = False
        self._batches = batches
        self._table: pa.Table | None = None

    @classmethod
    def of_change(cls, report: StatementReport, *, snapshot_id: int | None = None) -> Result:
        """The result of a statement that changed rows, as its report counts them."""
        table = pa.table({"count": pa.array([report.rows.total], pa.int64())})
        batches = table.to_batches()
        return cls(table.schema, lambda: iter(batches), report=report, snapshot_id=snapshot_id, returns_rows=False)

    def with_rows(self, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Result:
        """The same result, read as other rows."""
        return Result(schema, batches, report=self.report, snapshot_id=self.snapshot_id)

    @classmethod
    def of_nothing(cls, report: StatementReport, *, snapshot_id: int | None = None) -> Result:
        """The result of a statement that has no rows to speak of."""
        return cls(pa.schema([]), lambda: iter(()), report=report, snapshot_id=snapshot_id, returns_rows=False)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        if self._table is None:
            self._table = pa.Table.from_batches(list(self._batches()), schema=self.schema)
        return self._table

    def to_arrow_reader(self) -> pa.RecordBatchReader:
        """The rows as a stream of record batches; a query runs anew with each reader unless it was collected before."""
        if self._table is not None:
            return self._table.to_reader()
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow stream for any library that reads the Arrow C interface."""
        return self.to_arrow_reader().__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a pandas frame."""
        _require("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars frame."""
        frame: pl.DataFrame = _require("polars").from_arrow(self.to_arrow())
        return frame

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as Python tuples; times to the microsecond, as Python has them."""
        return list(self)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row as a Python tuple; None when there is none."""
        return next(iter(self), None)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows as Python tuples, streamed."""
        batches = self._table.to_batches() if self._table is not None else self._batches()
        for batch in batches:
            if batch.num_columns:
                yield from zip(*(_values(column) for column in batch.columns), strict=True)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"<icefusion.Result ({kinds})>"


def _values(column: pa.Array) -> list[Any]:
    kind = _in_microseconds(column.type)
    return list(column.to_pylist() if kind == column.type else column.cast(kind, safe=False).to_pylist())


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    """The type with all times in it as fine as Python's; what is finer is cut off."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([_field(kind.field(index)) for index in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(_field(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_field(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(_field(kind.key_field), _field(kind.item_field))
    return kind


def _field(field: pa.Field) -> pa.Field:
    return field.with_type(_in_microseconds(field.type))


def _require(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise ConfigurationError(f"{module} is not installed", hint=f"pip install {module}") from None
