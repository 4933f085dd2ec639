"""The catalogue of what is written and read back: every Iceberg v2 type with its interesting values, every transform.

A case that an engine cannot have is named in `TypeCase.without` with the reason; nothing is left out elsewhere.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import pyarrow as pa

__all__ = [
    "PRIMITIVES",
    "TRANSFORMS",
    "TYPES",
    "TransformCase",
    "TypeCase",
    "arrow_table",
    "case_named",
    "cases_for",
    "left_out",
    "values_to_ask_for",
    "values_to_write",
]

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
FLOAT_MAX, FLOAT_TINY = 3.4028234663852886e38, 1.401298464324817e-45
DOUBLE_MAX, DOUBLE_TINY = 1.7976931348623157e308, 5e-324
WIDEST = "9" * 28 + "." + "9" * 10
NAN, INFINITY = float("nan"), float("inf")

# One Unicode text of each kind of UTF-8 length, quotes, control characters, and a prefix of another.
TEXTS = ("", "a", "aa", "naïve café", "日本語テキスト", "🦆🧊 melts", 'quo\'te "d" \\n', "tab\tnew\nline", "~" * 40)


_UUIDS = (UUID(int=0), UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7"), UUID(int=2**128 - 1))


def _utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)


@dataclass(frozen=True)
class TypeCase:
    """One column.

    Attributes:
        name: The column's name.
        sql: Its type, as icefusion's CREATE TABLE takes it.
        arrow: Its type in Arrow.
        values: Values without NULL, which every column gets besides.
        without: The engines that cannot have this column, and why.
        spark: Its type in Spark's SQL, where it differs from ``sql``.
        nulls_lost: The engines that make something else of NULL here, and why: their NULLs are not compared.
    """

    name: str
    sql: str
    arrow: pa.DataType
    values: tuple[Any, ...]
    without: Mapping[str, str] = field(default_factory=dict)
    spark: str = ""
    nulls_lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def spark_sql(self) -> str:
        """The type in Spark's SQL."""
        return self.spark or self.sql


@dataclass(frozen=True)
class TransformCase:
    """One transform on one column.

    Attributes:
        transform: Its name, as in the Iceberg specification.
        column: The column's name in `TYPES`.
        argument: The buckets or the width.
    """

    transform: str
    column: str
    argument: int | None = None

    @property
    def sql(self) -> str:
        """The transform in SQL."""
        if self.transform == "identity":
            return self.column
        arguments = self.column if self.argument is None else f"{self.argument}, {self.column}"
        return f"{self.transform}({arguments})"

    def __str__(self) -> str:
        return self.sql


NO_TIME = {"spark": "Spark has no type for a time of day; it refuses tables with such a column"}
NO_UUID_DDL = {"spark-writer": "Spark's SQL has no uuid, though it reads and shows one as a string"}
NO_FIXED_DDL = {"spark-writer": "Spark's SQL has no fixed-length binary, though it reads one as binary"}

PRIMITIVES: tuple[TypeCase, ...] = (
    TypeCase("c_boolean", "boolean", pa.bool_(), (True, False)),
    TypeCase("c_int", "int", pa.int32(), (0, 1, -1, 9, -11, INT_MIN, INT_MAX)),
    TypeCase("c_bigint", "bigint", pa.int64(), (0, 1, -1, 9, -11, LONG_MIN, LONG_MAX)),
    TypeCase(
        "c_float", "float", pa.float32(), (0.0, -0.0, 1.5, -1.5, NAN, INFINITY, -INFINITY, FLOAT_TINY, -FLOAT_MAX)
    ),
    TypeCase(
        "c_double", "double", pa.float64(), (0.0, -0.0, 1.5, -1.5, NAN, INFINITY, -INFINITY, DOUBLE_TINY, -DOUBLE_MAX)
    ),
    TypeCase(
        "c_decimal_9",
        "decimal(9, 2)",
        pa.decimal128(9, 2),
        tuple(map(Decimal, ("0.00", "0.01", "-0.01", "9.99", "-10.65", "-9999999.99", "9999999.99"))),
    ),
    TypeCase(
        "c_decimal_18",
        "decimal(18, 6)",
        pa.decimal128(18, 6),
        tuple(map(Decimal, ("0.000000", "0.000001", "-0.000001", "1.500000", "-999999999999.999999"))),
    ),
    TypeCase(
        "c_decimal_38",
        "decimal(38, 10)",
        pa.decimal128(38, 10),
        (Decimal("0.0000000000"), Decimal("-0.0000000001"), Decimal(WIDEST), Decimal("-" + WIDEST)),
    ),
    TypeCase(
        "c_date",
        "date",
        pa.date32(),
        (
            dt.date(1970, 1, 1),
            dt.date(1969, 12, 31),
            dt.date(1968, 2, 29),
            dt.date(1582, 10, 10),
            dt.date(1, 1, 1),
            dt.date(2026, 7, 4),
            dt.date(9999, 12, 31),
        ),
    ),
    TypeCase(
        "c_time", "time", pa.time64("us"), (dt.time(0), dt.time(12, 34, 56), dt.time(23, 59, 59, 999999)), NO_TIME
    ),
    TypeCase(
        "c_timestamp",
        "timestamp",
        pa.timestamp("us"),
        (
            dt.datetime(1970, 1, 1),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
            dt.datetime(1968, 2, 29, 0, 0, 0, 1),
            dt.datetime(1, 1, 1),
            dt.datetime(2026, 7, 4, 12, 30),
            dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
        ),
        spark="timestamp_ntz",
    ),
    TypeCase(
        "c_timestamptz",
        "timestamptz",
        pa.timestamp("us", tz="UTC"),
        (
            _utc(1970, 1, 1),
            _utc(1969, 12, 31, 23, 59, 59, 999999),
            _utc(1968, 2, 29, 0, 0, 0, 1),
            _utc(1, 1, 1),
            _utc(2026, 7, 4, 12, 30),
            _utc(9999, 12, 31, 23, 59, 59, 999999),
        ),
        spark="timestamp",
    ),
    TypeCase("c_string", "string", pa.string(), TEXTS),
    TypeCase("c_binary", "binary", pa.binary(), (b"", b"\x00", b"\x00\xff\x80", b"plain", b"\xff" * 40)),
    TypeCase("c_fixed", "fixed(3)", pa.binary(3), (b"\x00\x00\x00", b"abc", b"\xff\xff\xff"), NO_FIXED_DDL),
    TypeCase(
        "c_uuid",
        "uuid",
        pa.uuid(),
        _UUIDS,
        NO_UUID_DDL,
    ),
)

POINT = pa.struct([("x", pa.float64()), ("label", pa.string())])
DEEP = pa.struct(
    [("scores", pa.map_(pa.string(), pa.list_(pa.decimal128(9, 2)))), ("at", pa.timestamp("us", tz="UTC"))]
)
EMPTY_FOR_NULL = {
    "pyiceberg": "PyIceberg 0.12 reads a NULL list or map of structs as an empty one",
    "pyiceberg-writer": "PyIceberg 0.12 writes a NULL list or map of structs as an empty one",
}

NESTED: tuple[TypeCase, ...] = (
    TypeCase(
        "n_ints", "list<int>", pa.list_(pa.int32()), ([], [1], [INT_MIN, None, INT_MAX], [None]), spark="array<int>"
    ),
    TypeCase("n_texts", "list<string>", pa.list_(pa.string()), ([], list(TEXTS), [None, ""]), spark="array<string>"),
    TypeCase(
        "n_doubles",
        "list<double>",
        pa.list_(pa.float64()),
        ([NAN, -0.0, INFINITY], [-INFINITY, None]),
        spark="array<double>",
    ),
    TypeCase(
        "n_dates",
        "list<date>",
        pa.list_(pa.date32()),
        ([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)],),
        spark="array<date>",
    ),
    TypeCase(
        "n_lists",
        "list<list<bigint>>",
        pa.list_(pa.list_(pa.int64())),
        ([], [[]], [None, [LONG_MIN, None], []]),
        spark="array<array<bigint>>",
    ),
    TypeCase(
        "n_point",
        "struct<x: double, label: string>",
        POINT,
        ({"x": 1.5, "label": "é"}, {"x": None, "label": None}, {"x": NAN, "label": ""}, {"x": -0.0, "label": None}),
    ),
    TypeCase(
        "n_points",
        "list<struct<x: double, label: string>>",
        pa.list_(POINT),
        ([], [{"x": 1.5, "label": "a"}, None, {"x": None, "label": ""}], [None]),
        nulls_lost=EMPTY_FOR_NULL,
        spark="array<struct<x: double, label: string>>",
    ),
    TypeCase("n_counts", "map<string, int>", pa.map_(pa.string(), pa.int32()), ([], [("", 1), ("é", None), ("b", -1)])),
    TypeCase(
        "n_by_number",
        "map<bigint, struct<x: double, label: string>>",
        pa.map_(pa.int64(), POINT),
        ([], [(LONG_MIN, {"x": INFINITY, "label": "low"}), (0, None), (LONG_MAX, {"x": None, "label": None})]),
        nulls_lost=EMPTY_FOR_NULL,
    ),
    TypeCase(
        "n_deep",
        "struct<scores: map<string, list<decimal(9, 2)>>, at: timestamptz>",
        DEEP,
        (
            {"scores": [("a", [Decimal("1.10"), None]), ("b", []), ("c", None)], "at": _utc(1969, 12, 31, 23, 59)},
            {"scores": [], "at": None},
            {"scores": None, "at": _utc(9999, 12, 31)},
        ),
        spark="struct<scores: map<string, array<decimal(9, 2)>>, at: timestamp>",
    ),
)

TYPES: tuple[TypeCase, ...] = (*PRIMITIVES, *NESTED)

_BUCKETED = (
    *("c_int", "c_bigint", "c_decimal_9", "c_decimal_18", "c_decimal_38", "c_date", "c_time", "c_timestamp"),
    *("c_timestamptz", "c_string", "c_binary", "c_fixed", "c_uuid"),
)
_TRUNCATED = ("c_int", "c_bigint", "c_decimal_9", "c_decimal_18", "c_decimal_38", "c_string", "c_binary")
_DATED = ("c_date", "c_timestamp", "c_timestamptz")

TRANSFORMS: tuple[TransformCase, ...] = (
    # Iceberg 1.10 cannot read manifests in which PyIceberg's Avro writer put a fixed value, so icefusion makes none.
    *(TransformCase("identity", case.name) for case in PRIMITIVES if case.name != "c_fixed"),
    *(TransformCase("bucket", name, 5) for name in _BUCKETED),
    *(TransformCase("truncate", name, 2 if name in ("c_string", "c_binary") else 10) for name in _TRUNCATED),
    *(TransformCase(name, column) for name in ("year", "month", "day") for column in _DATED),
    *(TransformCase("hour", column) for column in _DATED[1:]),
    *(TransformCase("void", name) for name in ("c_bigint", "c_double", "c_date", "c_string")),
)


@dataclass(frozen=True)
class LeftOut:
    """What an engine cannot do with a partitioned table.

    Attributes:
        engine: Its name, ``-writer`` after it where writing fails.
        transforms: With these transforms; none for all.
        columns: On these columns.
        reason: Why.
        values: With these values only, which are not asked for; none for the whole column.
    """

    engine: str
    transforms: tuple[str, ...]
    columns: tuple[str, ...]
    reason: str
    values: tuple[Any, ...] = ()


_BEFORE_1970 = tuple(
    when
    for parts in ((1969, 12, 31, 23, 59, 59, 999999), (1968, 2, 29, 0, 0, 0, 1))
    for when in (dt.datetime(*parts), _utc(*parts))
)

LEFT_OUT: tuple[LeftOut, ...] = (
    LeftOut(
        "pyiceberg",
        ("identity",),
        ("c_uuid",),
        "PyIceberg 0.12 holds bytes against a uuid partition value, and finds none equal",
    ),
    LeftOut(
        "pyiceberg",
        (),
        ("c_float",),
        "PyIceberg 0.12 takes an infinity for a number beyond every float",
        (INFINITY, -INFINITY),
    ),
    LeftOut(
        "pyiceberg",
        ("identity",),
        ("c_double",),
        "PyIceberg 0.12 reads a partition value that is a double as a float",
        (DOUBLE_TINY, -DOUBLE_MAX),
    ),
    LeftOut(
        "duckdb",
        (),
        ("c_float", "c_double"),
        "DuckDB 1.5.5 takes NaN for the greatest number and prunes by upper bounds, which leave NaN out",
        (NAN,),
    ),
    LeftOut(
        "duckdb",
        ("month", "day"),
        ("c_timestamp", "c_timestamptz"),
        "DuckDB 1.5.5 rounds instants before 1970 up, and prunes by that",
        _BEFORE_1970,
    ),
    LeftOut(
        "duckdb", ("bucket",), ("c_uuid",), "DuckDB 1.5.5 puts a uuid into another bucket than Java and PyIceberg do"
    ),
    LeftOut(
        "duckdb",
        ("truncate",),
        ("c_decimal_9", "c_decimal_18", "c_decimal_38"),
        "DuckDB 1.5.5 has an internal error on truncated decimals below zero, after which the connection is of no use",
    ),
    LeftOut(
        "spark",
        ("identity",),
        ("c_uuid",),
        "Iceberg 1.10 orders uuids as pairs of signed numbers, and so misreads bounds that begin with a high bit",
        _UUIDS,
    ),
    LeftOut("spark-writer", ("void",), (), "Spark's SQL cannot say void"),
    LeftOut(
        "pyiceberg-writer",
        ("identity",),
        ("c_float", "c_double"),
        "PyIceberg 0.12 fails with ZeroDivisionError on a partition value that is NaN",
    ),
    LeftOut(
        "pyiceberg-writer", ("identity", "bucket"), ("c_time",), "PyIceberg 0.12 cannot make a path of a time of day"
    ),
    LeftOut("pyiceberg-writer", ("identity", "bucket"), ("c_uuid",), "PyIceberg 0.12 cannot group rows by a uuid"),
    LeftOut("pyiceberg-writer", ("truncate",), ("c_decimal_38",), "PyIceberg 0.12 fails on the widest decimals"),
)


def left_out(case: TransformCase, engine: str) -> str | None:
    """Why an engine cannot have this column partitioned this way; None when it can."""
    column_reason = case_named(case.column).without.get(engine)
    return column_reason or next((out.reason for out in LEFT_OUT if not out.values and _names(out, case, engine)), None)


def values_to_ask_for(case: TransformCase, engine: str) -> list[Any]:
    """NULL and each value that an engine can be asked for.

    Zeros of floats are never: engines differ on whether 0.0 = -0.0.
    """
    unasked = [value for out in LEFT_OUT if _names(out, case, engine) for value in out.values]
    values = values_to_write(case).values
    return [
        None,
        *(v for v in values if not (isinstance(v, float) and v == 0) and not any(_same(v, u) for u in unasked)),
    ]


def values_to_write(case: TransformCase) -> TypeCase:
    """The column with the values that its transform can take.

    The truncated value must be one of the same type (where it is not, Java wraps it around and icefusion refuses it).
    """
    column = case_named(case.column)
    if case.transform != "truncate" or case.column in ("c_string", "c_binary"):
        return column
    lowest = min(column.values)
    return replace(column, values=tuple(value for value in column.values if value != lowest))


def _same(value: Any, other: Any) -> bool:
    aware = [v.tzinfo is not None for v in (value, other) if isinstance(v, dt.datetime)]
    return value is other or (len(set(aware)) < 2 and value == other)


def _names(out: LeftOut, case: TransformCase, engine: str) -> bool:
    return (
        out.engine == engine
        and (not out.transforms or case.transform in out.transforms)
        and (not out.columns or case.column in out.columns)
    )


def case_named(name: str) -> TypeCase:
    """The case of a column."""
    return next(case for case in TYPES if case.name == name)


def cases_for(*engines: str) -> tuple[TypeCase, ...]:
    """The columns that all of these engines can have."""
    return tuple(case for case in TYPES if not any(engine in case.without for engine in engines))


def arrow_table(cases: tuple[TypeCase, ...], *, first_id: int = 0) -> pa.Table:
    """One row for each value, the columns padded with NULL, and a last row that is NULL but for its ``id``."""
    count = max(len(case.values) for case in cases) + 1
    columns = {case.name: _array(case, count) for case in cases}
    return pa.table({"id": pa.array(range(first_id, first_id + count), pa.int64()), **columns})


def _array(case: TypeCase, count: int) -> pa.Array:
    values = list(chain(case.values, [None] * (count - len(case.values))))
    if case.arrow == pa.uuid():
        return pa.array([value and value.bytes for value in values], pa.binary(16)).cast(case.arrow)
    return pa.array(values, case.arrow)
