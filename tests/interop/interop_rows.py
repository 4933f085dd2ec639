"""Rows of any engine in one form that compares exactly: NaN equals NaN, -0.0 is not 0.0, instants are in UTC."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

__all__ = ["canonical", "canonical_rows", "column_by_id", "expected_column", "rows_of"]


def canonical(value: Any, arrow_type: pa.DataType) -> Any:
    """A value as a hashable one that equals another only if both are the same to the last bit."""
    types = pa.types
    if value is None:
        return None
    if types.is_struct(arrow_type):
        fields = [arrow_type.field(index) for index in range(arrow_type.num_fields)]
        parts = [value[f.name] for f in fields] if isinstance(value, Mapping) else value
        return tuple(canonical(part, f.type) for part, f in zip(parts, fields, strict=True))
    if types.is_map(arrow_type):
        pairs = value.items() if isinstance(value, Mapping) else value
        known = ((canonical(k, arrow_type.key_type), canonical(v, arrow_type.item_type)) for k, v in pairs)
        return ("map", *sorted(known, key=repr))
    if types.is_nested(arrow_type):
        return tuple(canonical(item, arrow_type.value_type) for item in value)
    if types.is_floating(arrow_type):
        assert isinstance(value, float)
        return "nan" if value != value else struct.pack(">d", value).hex()  # noqa: PLR0124 - NaN is what differs
    return _plain(value, arrow_type)


def _plain(value: Any, arrow_type: pa.DataType) -> Any:
    types = pa.types
    if arrow_type == pa.uuid():
        return value if isinstance(value, UUID) else UUID(bytes=value) if isinstance(value, bytes) else UUID(value)
    if types.is_timestamp(arrow_type):
        assert isinstance(value, dt.datetime)
        if arrow_type.tz is None:
            assert value.tzinfo is None
            return value
        assert value.tzinfo is not None
        return value.astimezone(dt.UTC)
    expected = {
        types.is_boolean: bool,
        types.is_integer: int,
        types.is_decimal: Decimal,
        types.is_date: dt.date,
        types.is_time: dt.time,
        types.is_string: str,
    }
    kind = next((kind for check, kind in expected.items() if check(arrow_type)), bytes)
    assert type(value) is kind, f"{value!r} is not a {kind.__name__}, as {arrow_type} demands"
    return value


def canonical_rows(rows: Iterable[Sequence[Any]], schema: pa.Schema) -> list[tuple[Any, ...]]:
    """Rows in canonical form, in an order that depends on nothing but the rows."""
    known = (tuple(canonical(v, f.type) for v, f in zip(row, schema, strict=True)) for row in rows)
    return sorted(known, key=repr)


def rows_of(table: pa.Table, schema: pa.Schema | None = None) -> list[tuple[Any, ...]]:
    """The rows of an Arrow table in canonical form; `schema` tells the types that they stand for."""
    columns = [column.to_pylist() for column in table.columns]
    return canonical_rows(zip(*columns, strict=True), schema or table.schema)


def expected_column(table: pa.Table, column: str) -> dict[int, Any]:
    """`column_by_id` of an Arrow table."""
    return column_by_id(zip(*(c.to_pylist() for c in table.columns), strict=True), table.schema, column)


def column_by_id(rows: Iterable[Sequence[Any]], schema: pa.Schema, column: str) -> dict[int, Any]:
    """The canonical values of one column, by the row's id (the first column); no id may come twice."""
    index = schema.names.index(column)
    values: dict[int, Any] = {}
    for row in rows:
        assert row[0] not in values, f"row {row[0]} came twice"
        values[row[0]] = canonical(row[index], schema.field(index).type)
    return values
