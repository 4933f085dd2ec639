import datetime as dt
import io
import math
import pickle
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bridge_cases import NAN, TAKEN, UTC, align, arrow_types, same, values_of, variant_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.align import Alignment
from icefusion.bridge.schema import arrow_to_iceberg, iceberg_to_arrow
from icefusion.errors import SchemaError

UUID = uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")


@pytest.mark.parametrize("case", TAKEN)
def test_values_of_every_type_arrive_as_they_were(case: str) -> None:
    array, iceberg, expected = TAKEN[case]
    wanted = array.to_pylist() if expected is None else expected
    assert same(align(array, iceberg).to_pylist(), wanted)
    if not pa.types.is_run_end_encoded(array.type):  # its slices are taken below
        assert same(align(array[1:], iceberg).to_pylist(), wanted[1:])


@pytest.mark.parametrize("case", TAKEN)
def test_every_type_may_be_all_null_or_empty(case: str) -> None:
    array, iceberg, _ = TAKEN[case]
    assert align(array[:0], iceberg).to_pylist() == []
    nulls = pa.nulls(2, array.type) if not pa.types.is_run_end_encoded(array.type) else pa.nulls(2)
    assert align(nulls, iceberg).to_pylist() == [None, None]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_values_in_are_values_out_for_any_nested_type_in_any_encoding(data: st.DataObject) -> None:
    arrow = data.draw(arrow_types)
    values = data.draw(st.lists(values_of(arrow), max_size=6))
    schema = arrow_to_iceberg(pa.schema([("c", arrow)]))
    array = pa.array(values, arrow)
    start = data.draw(st.integers(0, len(values)))
    variant = variant_of(array, data)[start:]
    batch = pa.record_batch([variant], names=["c"])
    result = Alignment.plan(batch.schema, schema, table="t").apply(batch)
    result.validate(full=True)
    assert result.schema.equals(iceberg_to_arrow(schema), check_metadata=True)
    assert same(result.column(0).to_pylist(), array.to_pylist()[start:])
    assert same(through_parquet(result.column(0)), array.to_pylist()[start:])


def through_parquet(array: pa.Array) -> list[Any]:
    """What a file holds of an array."""
    table = pa.Table.from_arrays([array], schema=pa.schema([pa.field("c", array.type)]))
    file = io.BytesIO()
    pq.write_table(table, file, store_schema=False)
    rows: list[Any] = pq.read_table(file).column(0).to_pylist()
    return rows


def test_a_slice_of_runs_is_decoded_where_it_begins() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3, 6], pa.int16()), pa.array(["a", None, "c"]))
    assert align(runs[1:5], StringType()).to_pylist() == ["a", None, "c", "c"]


# (array, target, values); None for "as they were"
EXACT: list[tuple[pa.Array, IcebergType, list[Any] | None]] = [
    (pa.array([2**31 - 1, None, -(2**31)], pa.int64()), IntegerType(), None),
    (pa.array([2**63 - 1, None, 0], pa.uint64()), LongType(), None),
    (pa.array([5, None], pa.int64()), DecimalType(3, 2), [Decimal("5.00"), None]),
    (pa.array([2**64 - 1], pa.uint64()), DecimalType(20, 0), [Decimal(2**64 - 1)]),
    (pa.array([Decimal("5.00"), None]), IntegerType(), [5, None]),
    (pa.array([Decimal(-(2**63))]), LongType(), [-(2**63)]),
    (pa.array([Decimal("1.5"), None]), DecimalType(38, 37), [Decimal("1.5" + "0" * 36), None]),
    (pa.array([Decimal("99.50")]), DecimalType(3, 1), [Decimal("99.5")]),
    (pa.array([2**53, -(2**60), None]), DoubleType(), [2.0**53, -(2.0**60), None]),
    (pa.array([2**63], pa.uint64()), DoubleType(), [2.0**63]),
    (pa.array([2**24], pa.int32()), FloatType(), [2.0**24]),
    (pa.array([1.5, None, NAN, math.inf, -0.0]), FloatType(), None),
    (pa.array([0.1, None], pa.float32()), DoubleType(), None),
    (pa.array([Decimal("0.1"), None]), DoubleType(), [0.1, None]),
    (pa.array([Decimal("0.1"), None]), FloatType(), [float(np.float32(0.1)), None]),
    (pa.array([Decimal("123456789012345680.0")]), DoubleType(), [123456789012345680.0]),
    (pa.array([Decimal("1E-30")], pa.decimal128(38, 38)), DoubleType(), [1e-30]),
    (pa.array([12.34, None, -0.01]), DecimalType(10, 2), [Decimal("12.34"), None, Decimal("-0.01")]),
    (pa.array([12.34], pa.float32()), DecimalType(10, 2), [Decimal("12.34")]),
    (pa.array([1e22, None, -1e22]), DecimalType(38, 2), [Decimal("1e22").quantize(Decimal("0.01")), None,
                                                         -Decimal("1e22").quantize(Decimal("0.01"))]),
    (pa.array([-(2.0**63), None, 3.0]), LongType(), [-(2**63), None, 3]),
    (pa.array([dt.date(2020, 1, 2), None]), TimestampType(), [dt.datetime(2020, 1, 2), None]),
    (pa.array([dt.datetime(1969, 12, 31), None]), DateType(), [dt.date(1969, 12, 31), None]),
    (pa.array([UUID.bytes, None], pa.binary(16)), UUIDType(), [UUID, None]),
    (pa.array([b"ab", None]), FixedType(2), None),
    (pa.array([b"ab", None], pa.binary(2)), BinaryType(), None),
    (pa.array(["2020-02-29", None]), DateType(), [dt.date(2020, 2, 29), None]),
    (pa.array(["0001-01-01", "9999-12-31"]), DateType(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    (pa.array(["12:30", None, "23:59:59.999999"], pa.string_view()), TimeType(),
     [dt.time(12, 30), None, dt.time(23, 59, 59, 999999)]),
    (pa.array(["2020-01-01T00:00:00.123456000", "2020-01-01 01:02", "0001-01-01", None]), TimestampType(),
     [dt.datetime(2020, 1, 1, 0, 0, 0, 123456), dt.datetime(2020, 1, 1, 1, 2), dt.datetime(1, 1, 1), None]),
    (pa.array(["1969-12-31T23:59:59+05:30", "9999-12-31 23:59:59Z", "2020-01-01T00:00-08"]), TimestamptzType(),
     [dt.datetime(1969, 12, 31, 18, 29, 59, tzinfo=UTC), dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
      dt.datetime(2020, 1, 1, 8, tzinfo=UTC)]),
    (pa.array([str(UUID), None, str(UUID).upper(), UUID.hex]), UUIDType(), [UUID, None, UUID, UUID]),
    (pa.nulls(2), StructType(NestedField(2, "a", UUIDType())), [None, None]),
    (pa.array([{"a": None}]), StructType(NestedField(2, "a", ListType(3, IntegerType()))), None),
]  # fmt: skip


@pytest.mark.parametrize(("array", "target", "expected"), EXACT, ids=lambda value: str(getattr(value, "type", value)))
def test_a_value_that_comes_back_the_same_is_taken(
    array: pa.Array, target: IcebergType, expected: list[Any] | None
) -> None:
    wanted = array.to_pylist() if expected is None else expected
    assert same(align(array, target).to_pylist(), wanted)
    padded = pa.concat_arrays([pa.nulls(3, array.type), array, pa.nulls(1, array.type)])[2:]
    assert same(align(padded, target).to_pylist(), [None, *wanted, None])


# (array whose value at index 1 of [NULL, value] does not fit, target, what the message shows)
INEXACT: list[tuple[pa.Array, IcebergType, str]] = [
    (pa.array([2**31], pa.int64()), IntegerType(), "2147483648"),
    (pa.array([2**32 - 1], pa.uint32()), IntegerType(), "4294967295"),
    (pa.array([2**63], pa.uint64()), LongType(), "9223372036854775808"),
    (pa.array([100], pa.int64()), DecimalType(3, 1), "100"),
    (pa.array([2**53 + 1]), DoubleType(), "9007199254740993"),
    (pa.array([2**63 - 1]), DoubleType(), "9223372036854775807"),
    (pa.array([2**64 - 1], pa.uint64()), DoubleType(), "18446744073709551615"),
    (pa.array([2**31 - 1], pa.int32()), FloatType(), "2147483647"),
    (pa.array([0.1]), FloatType(), "0.1"),
    (pa.array([1e300]), FloatType(), "1e+300"),
    (pa.array([1e-300]), FloatType(), "1e-300"),
    (pa.array([1.5]), IntegerType(), "1.5"),
    (pa.array([2.0**31]), IntegerType(), "2147483648.0"),
    (pa.array([2.0**63]), LongType(), "9.223372036854776e+18"),
    (pa.array([NAN]), LongType(), "nan"),
    (pa.array([math.inf]), DecimalType(38, 0), "inf"),
    (pa.array([12.345]), DecimalType(10, 2), "12.345"),
    (pa.array([1e9]), DecimalType(10, 2), "1000000000.0"),
    (pa.array([1e37]), DecimalType(38, 2), "1e+37"),
    (pa.array([1e300]), DecimalType(38, 2), "1e+300"),
    (pa.array([Decimal("1.5")]), IntegerType(), "1.5"),
    (pa.array([Decimal(2**63)]), LongType(), "9223372036854775808"),
    (pa.array([Decimal("99.55")]), DecimalType(3, 1), "99.55"),
    (pa.array([Decimal("99.55")]), DecimalType(38, 37), "99.55"),
    (pa.array([Decimal("12345678901234567.89")]), DoubleType(), "12345678901234567.89"),
    (pa.array([Decimal("16777217")]), FloatType(), "16777217"),
    (pa.array([10**17], pa.timestamp("s")), TimestampType(), "100000000000000000"),
    (pa.array([-(10**17)], pa.timestamp("ms")), TimestampType(), "-100000000000000000"),
    (pa.array([1]).view(pa.timestamp("ns", "UTC")), TimestamptzType(), "00:00:00.000000001"),
    (pa.array([2**31 - 1], pa.int32()).view(pa.date32()), TimestampType(), "2147483647"),
    (pa.array([1]).view(pa.date64()), DateType(), "1970-01-01"),
    (pa.array([dt.datetime(2020, 1, 1, 0, 0, 1)]), DateType(), "2020-01-01 00:00:01"),
    (pa.array([1]).view(pa.time64("ns")), TimeType(), "00:00:00.000000001"),
    (pa.array([b"abc"]), FixedType(2), "b'abc'"),
    (pa.array(["2021-02-29"]), DateType(), "2021-02-29"),
    (pa.array(["0000-01-01"]), DateType(), "0000-01-01"),
    (pa.array(["10000-01-01"]), DateType(), "10000-01-01"),
    (pa.array([" 2020-01-01"]), DateType(), "' 2020-01-01'"),
    (pa.array([""]), DateType(), "''"),
    (pa.array(["2020-01-01T00:00:00"]), DateType(), "2020-01-01T00:00:00"),
    (pa.array(["24:00:00"]), TimeType(), "24:00:00"),
    (pa.array(["12:30:60"]), TimeType(), "12:30:60"),
    (pa.array(["2020-01-01T00:00:00.1234567"]), TimestampType(), "00.1234567"),
    (pa.array(["2020-01-01T00:00:00Z"]), TimestampType(), "2020-01-01T00:00:00Z"),
    (pa.array(["2020-01-01T00:00:00"]), TimestamptzType(), "2020-01-01T00:00:00"),
    (pa.array(["0001-01-01T00:00:00+10:00"]), TimestamptzType(), "0001-01-01T00:00:00+10:00"),
    (pa.array([UUID.hex[1:]]), UUIDType(), UUID.hex[1:]),
    (pa.array(["x" * 500]), UUIDType(), "xxx..."),
]


@pytest.mark.parametrize(("array", "target", "shown"), INEXACT, ids=lambda value: str(getattr(value, "type", value)))
def test_a_value_that_would_not_come_back_is_named_with_its_row_and_both_types(
    array: pa.Array, target: IcebergType, shown: str
) -> None:
    good = pa.nulls(1, array.type)
    for before in (1, 6):
        padded = pa.concat_arrays([good] * (before + 1) + [array, good])[1:]
        with pytest.raises(SchemaError) as caught:
            align(padded, target)
        error = caught.value
        assert error.column == "c"
        assert shown in str(error.found)
        for part in ("ns.t", "column c", shown, f"row {before} ", str(array.type), str(error.expected)):
            assert part in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


REFUSED_PAIRS: list[tuple[pa.DataType, IcebergType]] = [
    (pa.string(), IntegerType()),
    (pa.string(), DoubleType()),
    (pa.string(), DecimalType(5, 2)),
    (pa.string(), BooleanType()),
    (pa.string(), BinaryType()),
    (pa.binary(), StringType()),
    (pa.int32(), StringType()),
    (pa.date32(), StringType()),
    (pa.uuid(), StringType()),
    (pa.bool_(), IntegerType()),
    (pa.int32(), BooleanType()),
    (pa.int64(), TimestampType()),
    (pa.timestamp("us"), TimestamptzType()),
    (pa.timestamp("us", "UTC"), TimestampType()),
    (pa.timestamp("us", "UTC"), DateType()),
    (pa.date32(), TimestamptzType()),
    (pa.timestamp("us"), TimeType()),
    (pa.binary(3), FixedType(4)),
    (pa.binary(15), UUIDType()),
    (pa.duration("s"), LongType()),
    (pa.opaque(pa.int32(), "a", "b"), IntegerType()),
    (pa.list_(pa.int32()), IntegerType()),
    (pa.int32(), ListType(2, IntegerType())),
    (pa.struct([("a", pa.int32())]), MapType(2, StringType(), 3, IntegerType())),
]


@pytest.mark.parametrize(("arrow", "target"), REFUSED_PAIRS, ids=str)
def test_types_that_only_a_cast_could_bring_together_are_refused_before_any_row(
    arrow: pa.DataType, target: IcebergType
) -> None:
    with pytest.raises(SchemaError, match=r"table ns\.t, column c") as caught:
        Alignment.plan(pa.schema([("c", arrow)]), Schema(NestedField(1, "c", target)), table="ns.t")
    assert caught.value.found == str(arrow)
    assert caught.value.hint


@given(st.lists(st.floats() | st.none(), max_size=8), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_a_double_goes_into_a_decimal_only_where_it_reads_back_as_itself(
    values: list[float | None], scale: int
) -> None:
    _check_one_by_one(values, pa.float64(), DecimalType(20, scale), lambda value: _decimal_of(value, 20, scale))


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12)))
@settings(max_examples=100, deadline=None)
def test_what_a_decimal_wrote_as_a_double_goes_back_into_it(values: list[Decimal]) -> None:
    doubles = pa.array([float(value) for value in values], pa.float64())
    assert align(doubles, DecimalType(17, 2)).to_pylist() == values
    assert same(align(pa.array(values, pa.decimal128(17, 2)), DoubleType()).to_pylist(), doubles.to_pylist())


@given(st.lists(st.decimals(-(10**20), 10**20, places=7) | st.none(), max_size=5), st.sampled_from([32, 64]))
@settings(max_examples=100, deadline=None)
def test_a_decimal_goes_into_the_nearest_float_only_where_that_rounds_to_it(
    values: list[Decimal | None], bits: int
) -> None:
    def nearest(value: Decimal) -> float | None:
        found = float(value) if bits == 64 else float(pa.scalar(str(value)).cast(pa.float32()).as_py())
        return found if abs(Fraction(found) - Fraction(value)) <= Fraction(1, 2 * 10**7) else None

    target = DoubleType() if bits == 64 else FloatType()
    _check_one_by_one(values, pa.decimal128(38, 7), target, nearest)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_an_integer_goes_into_a_float_only_where_the_float_is_that_integer(values: list[int | None]) -> None:
    for target, kind in ((DoubleType(), np.float64), (FloatType(), np.float32)):
        _check_one_by_one(
            values,
            pa.int64(),
            target,
            lambda value, kind=kind: float(kind(value)) if int(kind(value)) == value else None,
        )


@given(st.lists(st.floats() | st.integers(-(2**63), 2**63).map(float) | st.none(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_float_goes_into_an_integer_only_where_it_is_whole_and_in_range(values: list[float | None]) -> None:
    for target, bits in ((IntegerType(), 32), (LongType(), 64)):

        def whole(value: float, bits: int = bits) -> int | None:
            fits = math.isfinite(value) and value == int(value) and -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1)
            return int(value) if fits else None

        _check_one_by_one(values, pa.float64(), target, whole)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4), st.sampled_from(["s", "ms", "us", "ns"]))
@settings(max_examples=60, deadline=None)
def test_timestamps_of_any_unit_keep_their_moment_or_are_refused(values: list[int], unit: str) -> None:
    tick = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    for value in values:
        micros, rest = divmod(value * tick, 1000)
        array = pa.array([value]).view(pa.timestamp(unit))
        if rest or not -(2**63) <= micros < 2**63:
            with pytest.raises(SchemaError):
                align(array, TimestampType())
        else:
            assert align(array, TimestampType()).view(pa.int64()).to_pylist() == [micros]


def _decimal_of(value: float, precision: int, scale: int) -> Decimal | None:
    if not math.isfinite(value):
        return None
    units = round(Fraction(value) * 10**scale)  # half to even, exactly
    if abs(units) >= 10**precision or float(Fraction(units, 10**scale)) != value:
        return None
    return Decimal(units).scaleb(-scale)


def _check_one_by_one(values: list[Any], arrow: pa.DataType, target: IcebergType, expect: Any) -> None:
    """Each value alone, and all of those that fit together, against a plain Python answer."""
    fitting = []
    for value in values:
        wanted = None if value is None else expect(value)
        if value is not None and wanted is None:
            with pytest.raises(SchemaError):
                align(pa.array([None, value], arrow), target)
        else:
            fitting.append((value, wanted))
    found = align(pa.array([value for value, _ in fitting], arrow), target).to_pylist()
    assert found == [wanted for _, wanted in fitting]


def test_matching_columns_pass_without_a_copy() -> None:
    maps = pa.array([[("k", 1.0)], None], pa.map_(pa.string(), pa.float64()))
    source = pa.record_batch({"a": [1, 2], "l": pa.array([[{"x": "a"}], None]), "m": maps})
    schema = arrow_to_iceberg(source.schema)
    alignment = Alignment.plan(source.schema, schema, table="t")
    result = alignment.apply(source)
    assert alignment.is_identity
    assert result.schema.equals(iceberg_to_arrow(schema), check_metadata=True)
    assert alignment.target_arrow == result.schema
    assert result.to_pylist() == source.to_pylist()
    for before, after in zip(source.columns, result.columns, strict=True):
        addresses = [[b and b.address for b in column.buffers()] for column in (before, after)]
        assert addresses[0] == addresses[1]
    assert alignment.apply(result.slice(1)).to_pylist() == source.slice(1).to_pylist()


TABLE = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "Name", StringType()),
    NestedField(3, "n", IntegerType(), write_default=7),
    NestedField(4, "u", UUIDType(), write_default=UUID),
)


def fit(source: dict[str, Any], schema: Schema = TABLE, **options: Any) -> list[dict[str, Any]]:
    batch = pa.record_batch(source)
    rows: list[dict[str, Any]] = Alignment.plan(batch.schema, schema, table="ns.t", **options).apply(batch).to_pylist()
    return rows


def test_columns_are_found_by_name_in_any_order_and_case_and_missing_ones_get_their_default() -> None:
    assert fit({"NAME": ["a"], "id": [1]}) == [{"id": 1, "Name": "a", "n": 7, "u": UUID}]
    assert fit({"id": [1], "n": pa.nulls(1)}) == [{"id": 1, "Name": None, "n": None, "u": UUID}]


def test_an_exact_name_wins_over_one_in_another_case() -> None:
    schema = Schema(NestedField(1, "a", LongType()), NestedField(2, "A", LongType()))
    assert fit({"A": [1], "a": [2]}, schema) == [{"a": 2, "A": 1}]
    with pytest.raises(SchemaError, match="given twice"):
        fit({"id": [1], "ID": [2]})
    with pytest.raises(SchemaError, match="ambiguous"):
        fit({"AA": [1]}, Schema(NestedField(1, "aa", LongType()), NestedField(2, "Aa", LongType())))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"id": [1], "nmae": ["a"]}, "did you mean Name"),
        ({"Name": ["a"]}, "column id is missing"),
    ],
)
def test_unknown_and_missing_columns_are_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        fit(source)


def test_names_in_another_case_are_unknown_where_case_counts() -> None:
    with pytest.raises(SchemaError, match="no column NAME"):
        fit({"id": [1], "NAME": ["a"]}, case_sensitive=True)


def test_columns_by_position_go_where_the_list_says() -> None:
    assert fit({"x": ["a"], "y": [1]}, by="position", columns=["name", "ID"]) == [
        {"id": 1, "Name": "a", "n": 7, "u": UUID}
    ]
    with pytest.raises(SchemaError, match=r"expected 2 columns \(id, Name\), found 1 \(x\)"):
        fit({"x": [1]}, by="position", columns=["id", "Name"])
    with pytest.raises(SchemaError, match="expected 4 columns"):
        fit({"x": [1]}, by="position")


def test_a_batch_of_another_schema_than_planned_is_refused() -> None:
    alignment = Alignment.plan(pa.schema([("id", pa.int64())]), TABLE, table="ns.t")
    with pytest.raises(SchemaError, match="id string"):
        alignment.apply(pa.record_batch({"id": ["1"]}))


STRUCT = StructType(NestedField(2, "b", LongType(), write_default=5), NestedField(3, "a", IntegerType(), required=True))


def test_struct_fields_are_found_by_name_and_missing_ones_get_their_default() -> None:
    assert align(pa.array([{"A": 1}, None]), STRUCT).to_pylist() == [{"b": 5, "a": 1}, None]
    with pytest.raises(SchemaError, match=r"no column c\.x"):
        align(pa.array([{"a": 1, "x": 1}]), STRUCT)
    with pytest.raises(SchemaError, match=r"column c\.a is missing"):
        align(pa.array([{"b": 1}]), STRUCT)


NOT_NULL: list[tuple[pa.Array, IcebergType, str]] = [
    (pa.array([{"a": 1}, None, {"a": None}]), STRUCT, "c.a"),
    (pa.array([[1], None, [2, None]]), ListType(2, LongType(), element_required=True), "c.element"),
    (
        pa.array([[("a", 1)], None, [("b", None)]], pa.map_(pa.string(), pa.int64())),
        MapType(2, StringType(), 3, LongType(), value_required=True),
        "c.value",
    ),
    (pa.array([[{"a": 1}], None, [{"a": 2}, {"a": None}]]), ListType(9, STRUCT, element_required=False), "c.element.a"),
    (
        pa.array([[{"a": 1}], [None], [{"a": 2}, {"a": None}]], pa.large_list(pa.struct([("a", pa.int64())]))),
        ListType(9, STRUCT, element_required=False),
        "c.element.a",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("array", "target", "column"), NOT_NULL)
def test_null_where_it_is_not_allowed_is_found_at_any_depth(array: pa.Array, target: IcebergType, column: str) -> None:
    with pytest.raises(SchemaError) as caught:
        align(array, target)
    assert caught.value.column == column
    assert "row 2 " in str(caught.value)
    assert align(array[:2], target).to_pylist()[0] is not None
    with pytest.raises(SchemaError, match="row 1 "):
        align(array[1:], target)


@pytest.mark.parametrize("array", [pa.array([1, None]), pa.array([1, None]).dictionary_encode(), pa.nulls(2)])
def test_null_in_a_required_column_is_refused_in_every_encoding(array: pa.Array) -> None:
    with pytest.raises(
        SchemaError, match=f"NULL is not allowed in bigint NOT NULL, row {int(array.type != pa.null())} "
    ):
        align(array, LongType(), required=True)


def test_what_a_null_parent_hides_is_no_violation_and_is_not_written() -> None:
    hidden = pa.StructArray.from_arrays([pa.array([1, None, 2**40])], names=["a"], mask=pa.array([False, True, True]))
    result = align(hidden, STRUCT)
    assert result.to_pylist() == [{"b": 5, "a": 1}, None, None]
    assert result.field("a").null_count == 0  # as the Parquet writer demands of a required field
    assert through_parquet(result) == result.to_pylist()
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3]), pa.array([1, 2**40, None]), mask=pa.array([False, True]))
    assert align(lists, ListType(2, IntegerType(), element_required=True)).to_pylist() == [[1], None]


def test_lists_that_a_null_struct_hides_are_not_written() -> None:
    hidden = pa.StructArray.from_arrays(
        [pa.array([["a"], ["secret", "x"], ["b"]])], names=["l"], mask=pa.array([False, True, False])
    )
    target = StructType(NestedField(2, "l", ListType(3, StringType(), element_required=True), required=True))
    assert through_parquet(align(hidden, target)) == [{"l": ["a"]}, None, {"l": ["b"]}]
    assert through_parquet(align(hidden[1:], target)) == [None, {"l": ["b"]}]


def test_a_value_inside_of_nested_columns_is_named_with_the_row_it_belongs_to() -> None:
    rows = [None, [], [{"a": [1]}], [{"a": [1]}, {"a": [2, 2**40]}], None]
    target = ListType(2, StructType(NestedField(3, "a", ListType(4, IntegerType()))))
    for start in (0, 2):
        with pytest.raises(SchemaError) as caught:
            align(pa.array(rows)[start:], target)
        assert caught.value.column == "c.element.a.element"
        assert f"row {3 - start} " in str(caught.value)
        assert str(2**40) in str(caught.value)


@pytest.mark.parametrize("case", TAKEN)
def test_any_type_into_any_other_is_exact_or_a_schema_error(case: str) -> None:
    array = TAKEN[case][0]
    taken = 0
    for _, target, _ in TAKEN.values():
        try:
            result = align(array, target)
        except SchemaError as error:
            assert error.column  # noqa: PT017
            continue
        taken += 1
        assert result.null_count == len([value for value in array.to_pylist() if value is None])
    assert taken
