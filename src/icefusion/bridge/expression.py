"""A filter as DataFusion's optimizer leaves it -> the Iceberg expression that prunes files by it.

The rule that holds this file together: the answer is never narrower than the SQL. What is not understood becomes "any
row", and since a negation is carried down to the comparisons (where it turns ``<`` into ``>=``) instead of being
wrapped around a result, a widened part can never become a narrowed one.

Two orders differ between the engines. DataFusion compares floats by their total order: NaN is greater than
everything, and NaN with a sign bit smaller than everything. Iceberg's bounds leave NaN out. So every comparison of a
float column that NaN can satisfy says "or is NaN". And a literal that the column's type cannot hold (2.5 in a float32,
nanoseconds in a microsecond column) is moved to the neighbour that makes the condition wider.

Expressions are read through the methods that ``datafusion.Expr`` offers; nothing here imports datafusion.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation, localcontext
from typing import Any, Literal

import pyarrow as pa
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
    LessThanOrEqual,
    NotEqualTo,
    NotIn,
    NotNull,
    NotStartsWith,
    Or,
    StartsWith,
)
from pyiceberg.expressions.literals import Literal as IcebergLiteral
from pyiceberg.expressions.literals import LongLiteral, literal
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

__all__ = ["complement", "conjunction", "to_iceberg"]

ANY = AlwaysTrue()
MICROS_PER_DAY = 86_400_000_000
MAX_IN_LITERALS = 10_000

Comparison = Literal["=", "!=", "<", "<=", ">", ">="]

_MIRRORED: dict[str, Comparison] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NEGATED: dict[str, Comparison] = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_PREDICATES: dict[str, Any] = {
    "=": EqualTo,
    "!=": NotEqualTo,
    "<": LessThan,
    "<=": LessThanOrEqual,
    ">": GreaterThan,
    ">=": GreaterThanOrEqual,
}
_TRUTH_TESTS: dict[str, tuple[bool, bool]] = {  # the boolean that passes, and whether NULL passes too
    "IsTrue": (True, False),
    "IsFalse": (False, False),
    "IsNotTrue": (False, True),
    "IsNotFalse": (True, True),
}


def to_iceberg(expr: Any, schema: Schema) -> BooleanExpression:
    """An Iceberg expression that every row satisfies for which the filter is true.

    Args:
        expr: A ``datafusion.Expr`` of type boolean over one table's columns.
        schema: The schema that the column names refer to.
    """
    try:
        return _convert(expr, schema, negated=False)
    except Exception:
        return ANY


def conjunction(filters: Iterable[Any], schema: Schema) -> BooleanExpression:
    """`to_iceberg` of filters that must all be true."""
    result: BooleanExpression = ANY
    for expr in filters:
        result = And(result, to_iceberg(expr, schema))
    return result


def complement(filters: Iterable[Any], schema: Schema) -> BooleanExpression:
    """An Iceberg expression that every row satisfies for which not all of the filters are true.

    A file that can hold no such row is one of which all rows pass. NULL is not true, so each comparison also says "or
    is NULL" of its column.

    Args:
        filters: ``datafusion.Expr`` of type boolean over one table's columns; without any, all rows pass.
        schema: The schema that the column names refer to.
    """
    result: BooleanExpression = AlwaysFalse()
    for expr in filters:
        try:
            result = Or(result, _convert_untrue(expr, schema, negated=False))
        except Exception:
            return ANY
    return result


def _convert_untrue(expr: Any, schema: Schema, *, negated: bool) -> BooleanExpression:
    """What holds for each row for which an expression, or its negation, is not true."""
    kind = expr.variant_name()
    if kind == "Not":
        return _convert_untrue(_operands(expr)[0], schema, negated=not negated)
    if kind == "Alias":
        return _convert_untrue(expr.to_variant().expr(), schema, negated=negated)
    if kind in ("IsNull", "IsNotNull", *_TRUTH_TESTS):
        return _convert(expr, schema, negated=not negated)  # these are never NULL
    if kind == "Literal":
        value = expr.python_value().as_py()
        return AlwaysFalse() if value is not None and bool(value) != negated else ANY
    if kind == "BinaryExpr" and expr.rex_call_operator() in ("AND", "OR"):
        parts = [_convert_untrue(part, schema, negated=negated) for part in _operands(expr)]
        both = (expr.rex_call_operator() == "AND") != negated
        return Or(*parts) if both else And(*parts)
    name = _only_column(expr, schema, kind)
    if name is None:
        return ANY
    return Or(_convert(expr, schema, negated=not negated), _make(IsNull, name))


def _only_column(expr: Any, schema: Schema, kind: str) -> str | None:
    """The one column by whose NULLs, and no others, a comparison is NULL."""
    if kind == "BinaryExpr":
        if expr.rex_call_operator() not in _NEGATED:
            return None
        left, right = _operands(expr)
        if left.variant_name() == "Literal":
            left, right = right, left
        if right.variant_name() != "Literal" or not right.python_value().is_valid:
            return None
        return _column_name(left, schema)
    if kind == "InList":
        items = list(expr.to_variant().list())
        if any(item.variant_name() != "Literal" or not item.python_value().is_valid for item in items):
            return None
        return _column_name(expr.to_variant().expr(), schema)
    if kind == "Like":
        return _column_name(expr.to_variant().expr(), schema)
    return _column_name(expr, schema)


@dataclass(frozen=True)
class _Column:
    """A column or a field of a struct: its dotted name and type, and whether a cast to date stands around it."""

    name: str
    type: PrimitiveType
    as_date: bool = False


def _convert(expr: Any, schema: Schema, *, negated: bool) -> BooleanExpression:
    kind = expr.variant_name()
    if kind == "Not":
        return _convert(_operands(expr)[0], schema, negated=not negated)
    if kind == "BinaryExpr":
        return _convert_binary(expr, schema, negated)
    if kind == "Alias":
        return _convert(expr.to_variant().expr(), schema, negated=negated)
    if kind in ("IsNull", "IsNotNull"):
        name = _column_name(_operands(expr)[0], schema)
        if name is None:
            return ANY
        return _make(IsNull, name) if (kind == "IsNull") != negated else _make(NotNull, name)
    if kind in _TRUTH_TESTS:
        return _truth_test(expr, schema, *_TRUTH_TESTS[kind], negated=negated)
    if kind == "InList":
        return _convert_in(expr, schema, negated)
    if kind == "Like":
        return _convert_like(expr, schema, negated)
    if kind == "Literal":
        value = expr.python_value().as_py()
        return AlwaysFalse() if value is None or bool(value) == negated else ANY
    column = _column(expr, schema)
    if column is not None and isinstance(column.type, BooleanType):
        return _make(EqualTo, column.name, not negated)
    return ANY


def _convert_binary(expr: Any, schema: Schema, negated: bool) -> BooleanExpression:
    operator = expr.rex_call_operator()
    left, right = _operands(expr)
    if operator in ("AND", "OR"):
        both = (operator == "AND") != negated
        parts = _convert(left, schema, negated=negated), _convert(right, schema, negated=negated)
        return And(*parts) if both else Or(*parts)
    if operator in ("IS DISTINCT FROM", "IS NOT DISTINCT FROM"):
        alike = (operator == "IS NOT DISTINCT FROM") != negated
        return _convert_distinct(left, right, schema, alike)
    if operator in _NEGATED:
        return _convert_comparison(_NEGATED[operator] if negated else operator, left, right, schema)
    return ANY


def _convert_distinct(left: Any, right: Any, schema: Schema, alike: bool) -> BooleanExpression:
    """A comparison in which NULL equals NULL and nothing else."""
    if left.variant_name() == "Literal":
        left, right = right, left
    if right.variant_name() != "Literal":
        return ANY
    if right.python_value().is_valid:
        return _convert_comparison("=", left, right, schema) if alike else ANY
    name = _column_name(left, schema)
    if name is None:
        return ANY
    return _make(IsNull, name) if alike else _make(NotNull, name)


def _convert_comparison(operator: str, left: Any, right: Any, schema: Schema) -> BooleanExpression:
    if left.variant_name() == "Literal":
        left, right, operator = right, left, _MIRRORED[operator]
    if right.variant_name() != "Literal":
        return ANY
    column = _column(left, schema)
    return ANY if column is None else _compare(column, operator, right.python_value())


def _compare(column: _Column, operator: str, value: pa.Scalar) -> BooleanExpression:
    """The condition ``column <operator> value``; a comparison with NULL is never true."""
    if not value.is_valid:
        return AlwaysFalse()
    if column.as_date:
        return _compare_as_date(column, operator, value)
    if isinstance(column.type, FloatType | DoubleType):
        return _compare_float(column, operator, float(value.as_py()))
    around = _around(value, column.type)
    return ANY if around is None else _between_neighbours(column.name, operator, *around)


def _between_neighbours(
    name: str, operator: str, low: IcebergLiteral[Any] | None, high: IcebergLiteral[Any] | None
) -> BooleanExpression:
    """Compare with a value that lies from `low` to `high`; equal ones are the value itself, None is beyond the type."""
    if low is not None and low == high:
        return _predicate(operator, name, low)
    if operator in (">", ">="):
        return ANY if low is None else _predicate(">", name, low)
    if operator in ("<", "<="):
        return ANY if high is None else _predicate("<", name, high)
    return ANY


def _predicate(operator: str, name: str, value: IcebergLiteral[Any]) -> BooleanExpression:
    return _make(_PREDICATES[operator], name, value)


def _make(predicate: Any, *arguments: Any) -> BooleanExpression:
    """A predicate of PyIceberg, whose constructors take positions that their types do not tell of."""
    result: BooleanExpression = predicate(*arguments)
    return result


def _compare_float(column: _Column, operator: str, value: float) -> BooleanExpression:
    if math.isnan(value):
        return _make(IsNaN, column.name) if operator in ("=", ">=") else ANY
    low = high = value
    if isinstance(column.type, FloatType):
        low, high = _float32_neighbours(value)
    if operator == "=":
        # PyIceberg takes an infinity for a number that no float column can hold, and so for equal to none.
        return _make(EqualTo, column.name, value) if low == high and math.isfinite(value) else ANY
    if operator == "!=":
        return ANY
    bound = low if operator in (">", ">=") else high
    if low != high:
        operator = operator[0]
    return Or(_predicate(operator, column.name, literal(bound)), _make(IsNaN, column.name))


def _float32_neighbours(value: float) -> tuple[float, float]:
    """The greatest float32 that is not above the value, and the least that is not below it."""
    try:
        nearest: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        largest: float = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
        return (largest, math.inf) if value > 0 else (-math.inf, -largest)
    if nearest == value or math.isinf(value):
        return nearest, nearest
    return (nearest, _next_float32(nearest, 1)) if nearest < value else (_next_float32(nearest, -1), nearest)


def _next_float32(value: float, direction: int) -> float:
    bits: int = struct.unpack("<i", struct.pack("<f", value))[0]
    if value == 0:
        return direction * 2.0**-149
    bits += direction if value > 0 else -direction
    result: float = struct.unpack("<f", struct.pack("<i", bits))[0]
    return result


def _compare_as_date(column: _Column, operator: str, value: pa.Scalar) -> BooleanExpression:
    """``CAST(timestamp AS date) <operator> day``, as a range of instants."""
    if not pa.types.is_date32(value.type):
        return ANY
    unit = MICROS_PER_DAY if isinstance(column.type, TimestampType | TimestamptzType) else MICROS_PER_DAY * 1000
    start = LongLiteral(value.value * unit).to(column.type)
    end = LongLiteral((value.value + 1) * unit).to(column.type)
    if operator == "=":
        return And(_predicate(">=", column.name, start), _predicate("<", column.name, end))
    if operator in ("<", ">="):
        return _predicate(operator, column.name, start)
    if operator in (">", "<="):
        return _predicate(">=" if operator == ">" else "<", column.name, end)
    return ANY


def _convert_in(expr: Any, schema: Schema, negated: bool) -> BooleanExpression:
    variant = expr.to_variant()
    column = _column(variant.expr(), schema)
    items = list(variant.list())
    if column is None or column.as_date or any(item.variant_name() != "Literal" for item in items):
        return ANY
    if isinstance(column.type, FloatType | DoubleType) or len(items) > MAX_IN_LITERALS:
        return ANY
    if variant.negated() != negated:
        return _not_in(column, [item.python_value() for item in items])
    values: set[IcebergLiteral[Any]] = set()
    for item in items:
        scalar = item.python_value()
        if not scalar.is_valid:
            continue  # is never equal
        around = _around(scalar, column.type)
        if around is None:
            return ANY
        low, high = around
        if low is not None and low == high:
            values.add(low)
    return _make(In, column.name, values) if values else AlwaysFalse()


def _not_in(column: _Column, scalars: list[pa.Scalar]) -> BooleanExpression:
    if any(not scalar.is_valid for scalar in scalars):
        return AlwaysFalse()  # x NOT IN (..., NULL) is never true
    values: set[IcebergLiteral[Any]] = set()
    for scalar in scalars:
        around = _around(scalar, column.type)
        if around is None:
            return ANY
        low, high = around
        if low is not None and low == high:
            values.add(low)
    return _make(NotIn, column.name, values) if values else ANY


def _convert_like(expr: Any, schema: Schema, negated: bool) -> BooleanExpression:
    if expr.rex_call_operator() not in ("like", "not like"):
        return ANY
    variant = expr.to_variant()
    column = _column(variant.expr(), schema)
    pattern = variant.pattern()
    if column is None or not isinstance(column.type, StringType) or pattern.variant_name() != "Literal":
        return ANY
    text = pattern.python_value().as_py()
    if text is None:
        return AlwaysFalse()
    prefix, rest = _like_prefix(text)
    if variant.negated() != negated:
        return _make(NotStartsWith, column.name, prefix) if rest == "%" and prefix else ANY
    if not rest:
        return _make(EqualTo, column.name, prefix)
    return _make(StartsWith, column.name, prefix) if prefix else ANY


def _like_prefix(pattern: str) -> tuple[str, str]:
    """The text before the first wildcard, and the rest of the pattern; a backslash makes the next character plain."""
    prefix: list[str] = []
    position = 0
    while position < len(pattern) and pattern[position] not in "%_":
        if pattern[position] == "\\":
            if position + 1 == len(pattern):
                return "".join(prefix), "_"  # an odd pattern: promise nothing about its end
            position += 1
        prefix.append(pattern[position])
        position += 1
    return "".join(prefix), pattern[position:]


def _truth_test(expr: Any, schema: Schema, passing: bool, null_passes: bool, *, negated: bool) -> BooleanExpression:
    column = _column(_operands(expr)[0], schema)
    if column is None or not isinstance(column.type, BooleanType):
        return ANY
    if negated:
        passing, null_passes = not passing, not null_passes
    test = _make(EqualTo, column.name, passing)
    return Or(test, _make(IsNull, column.name)) if null_passes else test


def _column(expr: Any, schema: Schema) -> _Column | None:
    """The column that an expression stands for, seen through casts that keep the order of values."""
    if expr.variant_name() == "Cast":
        inner = _column(_operands(expr)[0], schema)
        return None if inner is None or inner.as_date else _through_cast(inner, expr)
    field = _field(expr, schema)
    if field is None or not isinstance(field.field_type, PrimitiveType):
        return None
    name = schema.find_column_name(field.field_id)
    return None if name is None else _Column(name, field.field_type)


def _through_cast(column: _Column, expr: Any) -> _Column | None:
    target = str(expr.canonical_name()).rpartition(" AS ")[2].rstrip(")")
    source = column.type
    if isinstance(source, FloatType) and target == "Float64":
        return column
    if isinstance(source, IntegerType) and target == "Int64":
        return column
    stamps = TimestampType | TimestamptzType | TimestampNanoType | TimestamptzNanoType
    if isinstance(source, stamps) and target == "Date32":
        return _Column(column.name, source, as_date=True)
    return None


def _column_name(expr: Any, schema: Schema) -> str | None:
    """The name of a column of any type, for a test of NULL."""
    field = _field(expr, schema)
    return None if field is None else schema.find_column_name(field.field_id)


def _field(expr: Any, schema: Schema) -> NestedField | None:
    """The field that a column, or a chain of ``get_field`` over one, refers to."""
    kind = expr.variant_name()
    if kind == "Column":
        name = expr.to_variant().name()
        return next((field for field in schema.fields if field.name == name), None)
    if kind == "ScalarFunction" and expr.rex_call_operator() == "get_field":
        parent, *names = _operands(expr)
        field = _field(parent, schema)
        for name in names:
            if field is None or not isinstance(field.field_type, StructType) or name.variant_name() != "Literal":
                return None
            wanted = name.python_value().as_py()
            field = next((child for child in field.field_type.fields if child.name == wanted), None)
        return field
    return None


def _operands(expr: Any) -> list[Any]:
    return list(expr.rex_call_operands())


Around = tuple[IcebergLiteral[Any] | None, IcebergLiteral[Any] | None]


def _around(value: pa.Scalar, column_type: PrimitiveType) -> Around | None:
    """The nearest values of the column's type from below and above; None where the types do not compare."""
    match column_type:
        case BooleanType():
            return _exactly(literal(value.as_py())) if pa.types.is_boolean(value.type) else None
        case IntegerType() | LongType():
            return _around_integer(value, column_type)
        case DecimalType():
            return _around_decimal(value, column_type)
        case DateType():
            return _exactly(LongLiteral(value.value).to(column_type)) if pa.types.is_date32(value.type) else None
        case TimestampType() | TimestamptzType() | TimestampNanoType() | TimestamptzNanoType():
            return _around_timestamp(value, column_type)
        case TimeType():
            return _around_time(value, column_type)
        case StringType():
            return _exactly(literal(value.as_py())) if _is_string(value.type) else None
        case BinaryType() | FixedType() | UUIDType():
            raw = value.as_py()
            raw = raw.bytes if hasattr(raw, "bytes") else raw
            return _exactly(literal(raw).to(column_type)) if isinstance(raw, bytes) else None
    return None


def _exactly(value: IcebergLiteral[Any]) -> Around:
    return value, value


def _around_integer(value: pa.Scalar, column_type: PrimitiveType) -> Around | None:
    if not pa.types.is_integer(value.type):
        return None
    number = value.as_py()
    bits = 31 if isinstance(column_type, IntegerType) else 63
    if number >= 2**bits:
        return LongLiteral(2**bits - 1).to(column_type), None
    if number < -(2**bits):
        return None, LongLiteral(-(2**bits)).to(column_type)
    return _exactly(LongLiteral(number).to(column_type))


def _around_decimal(value: pa.Scalar, column_type: DecimalType) -> Around | None:
    if not pa.types.is_decimal(value.type) and not pa.types.is_integer(value.type):
        return None
    exponent = Decimal(1).scaleb(-column_type.scale)
    number = Decimal(value.as_py())
    try:
        with localcontext() as context:
            context.prec = 76
            low = number.quantize(exponent, rounding=ROUND_FLOOR)
            high = number.quantize(exponent, rounding=ROUND_CEILING)
    except InvalidOperation:
        return None
    return literal(low), literal(high)


def _around_timestamp(value: pa.Scalar, column_type: PrimitiveType) -> Around | None:
    with_zone = isinstance(column_type, TimestamptzType | TimestamptzNanoType)
    if not pa.types.is_timestamp(value.type) or (value.type.tz is not None) != with_zone:
        return None
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[value.type.unit]
    wanted = 10**6 if isinstance(column_type, TimestampType | TimestamptzType) else 10**9
    low = value.value * wanted // per_second
    high = -(-value.value * wanted // per_second)
    return LongLiteral(low).to(column_type), LongLiteral(high).to(column_type)


def _around_time(value: pa.Scalar, column_type: PrimitiveType) -> Around | None:
    if not pa.types.is_time(value.type):
        return None
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[value.type.unit]
    low, high = value.value * 10**6 // per_second, -(-value.value * 10**6 // per_second)
    return LongLiteral(low).to(column_type), LongLiteral(high).to(column_type)


def _is_string(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )
