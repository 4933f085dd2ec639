"""Iceberg expressions and values as SQL."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNaN,
    IsNull,
    LessThan,
    Not,
    NotIn,
    NotNull,
    NotStartsWith,
    Or,
    StartsWith,
)
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.showing import show_filter, show_value

SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "day", DateType()),
    NestedField(3, "name", StringType()),
    NestedField(4, "x", DoubleType()),
    NestedField(5, "s", StructType(NestedField(6, "at", TimestampType()))),
)
DAY = (dt.date(2024, 5, 1) - dt.date(1970, 1, 1)).days


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        (AlwaysTrue(), "TRUE"),
        (AlwaysFalse(), "FALSE"),
        (And(EqualTo("id", 1), Or(LessThan("id", 5), IsNull("name"))), "id = 1 AND (id < 5 OR name IS NULL)"),
        (Or(And(EqualTo("id", 1), NotNull("x")), IsNaN("x")), "id = 1 AND x IS NOT NULL OR x is NaN"),
        (Not(EqualTo("name", "it's")), "NOT (name = 'it''s')"),
        (GreaterThanOrEqual("day", DAY), "day >= '2024-05-01'"),
        (GreaterThan("s.at", DAY * 86_400_000_000 + 1), "s.at > '2024-05-01 00:00:00.000001'"),
        (In("id", {3, 1, 2}), "id IN (1, 2, 3)"),
        (NotIn("name", {"b", "a"}), "name NOT IN ('a', 'b')"),
        (In("id", set(range(10))), "id IN (0, 1, 2, 3, 4, 5, 6, 7, and 2 more)"),
        (StartsWith("name", "ab"), "name starts with 'ab'"),
        (NotStartsWith("name", "ab"), "name does not start with 'ab'"),
        (EqualTo("gone", 1), "gone = 1"),
    ],
)
def test_expressions(expression: BooleanExpression, shown: str) -> None:
    assert show_filter(expression, SCHEMA) == shown


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (None, LongType(), "NULL"),
        (True, BooleanType(), "TRUE"),
        (Decimal("1.50"), DecimalType(9, 2), "1.50"),
        (1.5, DoubleType(), "1.5"),
        (-1, DateType(), "'1969-12-31'"),
        (3_600_000_001, TimeType(), "'01:00:00.000001'"),
        (2**62, TimestampType(), str(2**62)),
        (b"\x00\xff", BinaryType(), "X'00ff'"),
        (UUID(int=1).bytes, UUIDType(), "'00000000-0000-0000-0000-000000000001'"),
        (UUID(int=1), UUIDType(), "'00000000-0000-0000-0000-000000000001'"),
        ("x" * 70, StringType(), "'" + "x" * 60 + "...'"),
    ],
)
def test_values(value: Any, kind: IcebergType, shown: str) -> None:
    assert show_value(value, kind) == shown
