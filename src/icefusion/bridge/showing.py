"""Iceberg expressions and values as a person would write them in SQL, for EXPLAIN."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    LiteralPredicate,
    Not,
    Or,
    SetPredicate,
    UnaryPredicate,
)
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    IcebergType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

__all__ = ["show_filter", "show_value"]

MAX_SHOWN_VALUES = 8
MAX_SHOWN_CHARACTERS = 60

_OPERATORS = {
    "EqualTo": "=",
    "NotEqualTo": "!=",
    "LessThan": "<",
    "LessThanOrEqual": "<=",
    "GreaterThan": ">",
    "GreaterThanOrEqual": ">=",
    "StartsWith": "starts with",
    "NotStartsWith": "does not start with",
    "In": "IN",
    "NotIn": "NOT IN",
    "IsNull": "IS NULL",
    "NotNull": "IS NOT NULL",
    "IsNaN": "is NaN",
    "NotNaN": "is not NaN",
}
_NANOSECONDS = (TimestampNanoType, TimestamptzNanoType)
_MICROSECONDS = (TimestampType, TimestamptzType)


def show_filter(row_filter: BooleanExpression, schema: Schema) -> str:
    """An expression over the columns of a schema, not bound to it yet."""
    match row_filter:
        case AlwaysTrue():
            return "TRUE"
        case AlwaysFalse():
            return "FALSE"
        case And(left=left, right=right):
            parts = (show_filter(part, schema) for part in (left, right))
            return " AND ".join(f"({p})" if isinstance(e, Or) else p for e, p in zip((left, right), parts, strict=True))
        case Or(left=left, right=right):
            return f"{show_filter(left, schema)} OR {show_filter(right, schema)}"
        case Not(child=child):
            return f"NOT ({show_filter(child, schema)})"
    column = str(getattr(getattr(row_filter, "term", None), "name", ""))
    operator = _OPERATORS.get(type(row_filter).__name__)
    if not column or operator is None:
        return str(row_filter)
    try:
        kind: IcebergType | None = schema.find_type(column)
    except ValueError:
        kind = None
    match row_filter:
        case UnaryPredicate():
            return f"{column} {operator}"
        case LiteralPredicate():
            return f"{column} {operator} {show_value(row_filter.literal.value, kind)}"
        case SetPredicate():
            values = sorted((literal.value for literal in row_filter.literals), key=lambda v: (str(type(v)), v))
            shown = ", ".join(show_value(value, kind) for value in values[:MAX_SHOWN_VALUES])
            more = f", and {len(values) - MAX_SHOWN_VALUES} more" if len(values) > MAX_SHOWN_VALUES else ""
            return f"{column} {operator} ({shown}{more})"
    return str(row_filter)


def show_value(value: Any, kind: IcebergType | None = None) -> str:
    """A value in Iceberg's own representation (days, microseconds, ...) as a literal of its type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int) and kind is not None and (told := _show_time(value, kind)) is not None:
        return told
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray) and isinstance(kind, UUIDType) and len(value) == 16:
        value = UUID(bytes=bytes(value))
    if isinstance(value, bytes | bytearray):
        return f"X'{_shortened(bytes(value).hex())}'"
    return "'" + _shortened(str(value)).replace("'", "''") + "'"


def _show_time(value: int, kind: IcebergType) -> str | None:
    """A date or time; None for what is none, or lies outside of what Python's can be."""
    try:
        if isinstance(kind, DateType):
            return f"'{dt.date(1970, 1, 1) + dt.timedelta(days=value)}'"
        if isinstance(kind, TimeType):
            return f"'{(dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)).time()}'"
        if isinstance(kind, _NANOSECONDS):
            moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=value // 1_000_000_000)
            return f"'{moment}.{value % 1_000_000_000:09d}'"
        if isinstance(kind, _MICROSECONDS):
            return f"'{dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)}'"
    except OverflowError:
        return None
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."
