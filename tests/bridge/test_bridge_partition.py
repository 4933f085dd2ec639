import datetime as dt
import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry, ManifestEntryStatus, write_manifest
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
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
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.partition import (
    build_sort_order,
    build_spec,
    partition_columns,
    partition_groups,
    partition_path,
    partition_record,
    sort_order_to_sql,
    spec_to_sql,
    transform_array,
)
from icefusion.bridge.schema import type_to_arrow
from icefusion.errors import SchemaError
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import CreateTable, Identifier, SortTerm, TransformTerm

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
DAYS = st.integers(-719_162, 2_932_896)
MICROS = st.integers(-719_162 * 86_400_000_000, 2_932_896 * 86_400_000_000)
DECIMALS = st.decimals("-99999999.99", "99999999.99", places=2)
WIDE_DECIMALS = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda units: _scaled(units, 5))
NANOS = st.integers(-(2**62), 2**62)
# Iceberg type -> values in the representation of partition records, which PyIceberg's transforms take
VALUES: list[tuple[IcebergType, st.SearchStrategy[Any]]] = [
    (IntegerType(), INTS),
    (LongType(), LONGS),
    (DecimalType(10, 2), DECIMALS),
    (DecimalType(38, 5), WIDE_DECIMALS),
    (DateType(), DAYS),
    (TimeType(), st.integers(0, 86_400_000_000 - 1)),
    (TimestampType(), MICROS),
    (TimestamptzType(), MICROS),
    (TimestampNanoType(), NANOS),
    (StringType(), st.text(st.characters(codec="utf-8"), max_size=12)),
    (BinaryType(), st.binary(max_size=12)),
    (FixedType(5), st.binary(min_size=5, max_size=5)),
    (UUIDType(), st.binary(min_size=16, max_size=16)),
    (FloatType(), st.floats(width=32)),
    (DoubleType(), st.floats()),
    (BooleanType(), st.booleans()),
]
TRANSFORMS: list[Transform[Any, Any]] = [
    IdentityTransform(),
    BucketTransform(1),
    BucketTransform(16),
    BucketTransform(2**31 - 1),
    TruncateTransform(1),
    TruncateTransform(7),
    TruncateTransform(100),
    YearTransform(),
    MonthTransform(),
    DayTransform(),
    HourTransform(),
]
PAIRS = [
    (transform, kind, values)
    for transform in TRANSFORMS
    for kind, values in VALUES
    if transform.can_transform(kind)
    # PyIceberg gives these no result type or no result
    and not (isinstance(kind, TimestampNanoType) and isinstance(transform, IdentityTransform))
]


def _scaled(units: int, scale: int) -> Decimal:
    sign, digits = ("-", str(-units)) if units < 0 else ("", str(units))
    digits = digits.rjust(scale + 1, "0")
    return Decimal(f"{sign}{digits[:-scale]}.{digits[-scale:]}")


def arrow_of(kind: IcebergType, values: list[Any]) -> pa.Array:
    """An array of the type's canonical Arrow type from values as partition records hold them."""
    arrow = type_to_arrow(kind)
    if isinstance(kind, UUIDType):
        return pa.ExtensionArray.from_storage(arrow, pa.array(values, pa.binary(16)))
    if pa.types.is_temporal(arrow):
        return pa.array(values, pa.int32() if arrow.bit_width == 32 else pa.int64()).view(arrow)
    return pa.array(values, arrow)


def stored(array: pa.Array) -> list[Any]:
    """The other way round."""
    if isinstance(array.type, pa.UuidType):
        return list(array.storage.to_pylist())
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return list(array.to_pylist())


@pytest.mark.parametrize(("transform", "kind", "values"), PAIRS, ids=str)
def test_transforms_agree_with_pyiceberg_on_every_value(
    transform: Transform[Any, Any], kind: IcebergType, values: st.SearchStrategy[Any]
) -> None:
    expect: Callable[[Any], Any] = transform.transform(kind)
    if isinstance(kind, TimestampNanoType) and isinstance(transform, MonthTransform | YearTransform):
        expect = transform.transform(TimestampType())  # PyIceberg's own for nanoseconds goes the same way
        to_source: Callable[[Any], Any] = lambda value: None if value is None else value // 1000  # noqa: E731
    else:
        to_source = lambda value: value  # noqa: E731

    @given(st.lists(values | st.none(), max_size=8), st.integers(0, 2))
    @settings(max_examples=12, deadline=None)
    def check(drawn: list[Any], start: int) -> None:
        wanted = [expect(to_source(value)) for value in drawn][start:]
        if any(isinstance(w, int) and not -(2**63) <= w < 2**63 for w in wanted):
            return
        if isinstance(kind, IntegerType) and any(w is not None and w < -(2**31) for w in wanted):
            return
        try:
            result = transform_array(transform, arrow_of(kind, drawn)[start:], kind)
        except SchemaError:
            assert isinstance(kind, DecimalType)  # -10**38 + 1 has no room below it
            assert any(w is not None and abs(w.scaleb(kind.scale)) >= 2**127 for w in wanted)
            return
        assert repr(stored(result)) == repr(wanted)
        assert result.type == type_to_arrow(transform.result_type(kind))

    check()


def test_a_truncated_value_below_its_type_is_an_error() -> None:
    for kind, least in ((IntegerType(), -(2**31)), (LongType(), -(2**63))):
        with pytest.raises(SchemaError, match="truncate"):
            transform_array(TruncateTransform(10), arrow_of(kind, [0, least]), kind)
    with pytest.raises(SchemaError, match="truncate"):
        transform_array(TruncateTransform(1000), pa.array([Decimal(-99)], pa.decimal128(2, 0)), DecimalType(2, 0))


def test_a_truncated_decimal_may_have_one_digit_more() -> None:
    kind = DecimalType(4, 2)
    result = transform_array(TruncateTransform(50), pa.array([Decimal("-99.99"), None], pa.decimal128(4, 2)), kind)
    assert result.to_pylist() == [Decimal("-100.00"), None]


def test_void_is_null_in_the_type_of_its_source() -> None:
    result = transform_array(VoidTransform(), pa.array(["a", None]), StringType())
    assert (result.type, result.to_pylist()) == (pa.string(), [None, None])


BITS = {float: lambda value: "nan" if math.isnan(value) else struct.pack("<d", value)}


def distinct(value: Any) -> Any:
    """A key by which a dict tells apart what partitions tell apart."""
    return (type(value), BITS.get(type(value), lambda same: same)(value))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_groups_are_those_of_a_dict(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
    length = data.draw(st.integers(0, 12))
    columns = []
    for kind, values in kinds:
        few = data.draw(st.lists(values | st.none(), min_size=1, max_size=3))
        columns.append(arrow_of(kind, data.draw(st.lists(st.sampled_from(few), min_size=length, max_size=length))))
    start = data.draw(st.integers(0, length))
    columns = [column[start:] for column in columns]
    codes, keys = partition_groups(columns)
    rows = list(zip(*(stored(column) for column in columns), strict=True))
    assert codes.dtype == np.int32
    assert [tuple(map(distinct, keys[code])) for code in codes] == [tuple(map(distinct, row)) for row in rows]
    assert len(keys) == len({tuple(map(distinct, row)) for row in rows})


def test_many_groups_of_many_columns_are_numbered_too() -> None:
    rng = np.random.default_rng(1)
    columns = [pa.array(rng.integers(0, 3000, 20_000)) for _ in range(3)]
    codes, keys = partition_groups(columns)
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert [keys[code] for code in codes] == rows
    assert len(set(keys)) == len(keys)


def test_nan_is_one_value_null_another_and_negative_zero_a_third() -> None:
    nans = np.array([0x7FF8000000000000, 0x7FF8000000000001, -1], np.int64).view(np.float64)
    column = pa.array([*nans, None, 0.0, -0.0], pa.float64())
    codes, keys = partition_groups([column])
    assert codes.tolist() == [0, 0, 0, 1, 2, 3]
    assert repr(keys) == "[(nan,), (None,), (0.0,), (-0.0,)]"


TABLE = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "ts", TimestampType()),
    NestedField(3, "s", StringType()),
    NestedField(4, "p", StructType(NestedField(5, "day", DateType()), NestedField(6, "x y", IntegerType()))),
    NestedField(7, "l", ListType(8, StructType(NestedField(9, "i", IntegerType())))),
    NestedField(10, "f", DoubleType()),
    NestedField(11, "u", UUIDType()),
    NestedField(12, "ts_day", StringType()),
    NestedField(13, "tz", TimestamptzType()),
)


def term(transform: str, column: str, argument: int | None = None, alias: str | None = None) -> TransformTerm:
    return TransformTerm(transform, tuple(Identifier(part) for part in column.split(".")), argument, alias)


def test_a_spec_has_iceberg_names_and_ids_and_goes_back_to_sql() -> None:
    terms = [
        term("bucket", "ID", 16),
        term("truncate", "s", 4),
        term("month", "p.day"),
        term("identity", "p.x y"),
        term("day", "ts", alias="when"),
        term("void", "u"),
        term("bucket", "id", 8, "shard"),
        term("hour", "tz"),
        term("identity", "f"),
    ]
    spec = build_spec(terms, TABLE, spec_id=3)
    assert [(f.field_id, f.source_id, f.name, str(f.transform)) for f in spec.fields] == [
        (1000, 1, "id_bucket", "bucket[16]"),
        (1001, 3, "s_trunc", "truncate[4]"),
        (1002, 5, "p.day_month", "month"),
        (1003, 6, "p.x y", "identity"),
        (1004, 2, "when", "day"),
        (1005, 11, "u_null", "void"),
        (1006, 1, "shard", "bucket[8]"),
        (1007, 13, "tz_hour", "hour"),
        (1008, 10, "f", "identity"),
    ]
    assert spec.spec_id == 3
    assert spec_to_sql(spec, TABLE) == (
        'bucket(16, id), truncate(4, s), month(p.day), p."x y", day(ts) AS "when", void(u), bucket(8, id) AS shard, '
        "hour(tz), f"
    )
    spec.check_compatible(TABLE)
    statement = parse_statement(f"CREATE TABLE t (id bigint) PARTITIONED BY ({spec_to_sql(spec, TABLE)})")
    assert isinstance(statement, CreateTable)
    assert build_spec(statement.partitioning, TABLE, spec_id=3) == spec


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([term("identity", "idd")], "did you mean id"),
        ([term("identity", "p.dya")], r"did you mean p\.day"),
        ([term("identity", "p")], "single values"),
        ([term("identity", "l.i")], "only columns of structs"),
        ([term("identity", "id.x")], "only columns of structs"),
        ([term("day", "id")], "day does not apply to column id of type bigint"),
        ([term("bucket", "f", 4)], "bucket does not apply to column f of type double"),
        ([term("bucket", "id")], "needs a number"),
        ([term("truncate", "id", 0)], "needs a number"),
        ([term("days", "ts")], "did you mean day"),
        ([term("identity", "id"), term("identity", "ID")], "two partition fields are named id"),
        ([term("bucket", "id", 2), term("bucket", "id", 4)], "two partition fields are named id_bucket"),
        ([term("day", "ts")], "has the name of the column ts_day"),
        ([term("identity", "id", alias="S")], "has the name of the column s"),
        ([term("month", "tz"), term("day", "tz")], "no more than"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_a_hint(terms: list[TransformTerm], message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        build_spec(terms, TABLE)
    assert caught.value.column
    assert caught.value.hint


def test_a_quoted_column_is_found_in_its_own_case_only() -> None:
    with pytest.raises(SchemaError, match="no column ID"):
        build_spec([TransformTerm("identity", (Identifier("ID", quoted=True),))], TABLE)


def test_a_sort_order_goes_to_iceberg_and_back_to_sql() -> None:
    order = build_sort_order(
        [SortTerm(term("identity", "ID")), SortTerm(term("bucket", "s", 4), "desc", "last")], TABLE
    )
    assert sort_order_to_sql(order, TABLE) == "id ASC NULLS FIRST, bucket(4, s) DESC NULLS LAST"
    statement = parse_statement(f"CREATE TABLE t (id bigint) ORDERED BY ({sort_order_to_sql(order, TABLE)})")
    assert isinstance(statement, CreateTable)
    assert build_sort_order(statement.ordering, TABLE) == order
    assert order.order_id == 1
    assert [field.source_id for field in order.fields] == [1, 3]
    assert build_sort_order([], TABLE).order_id == 0
    with pytest.raises(SchemaError, match="single values"):
        build_sort_order([SortTerm(term("identity", "l"))], TABLE)


def test_the_partition_columns_of_a_batch_reach_into_structs_and_past_dropped_columns() -> None:
    spec = build_spec([term("month", "p.day"), term("identity", "id"), term("bucket", "s", 4)], TABLE)
    without_s = Schema(*(field for field in TABLE.fields if field.name in ("id", "p")))
    days = pa.array([{"day": dt.date(1969, 12, 31)}, {"day": None}, None], type_to_arrow(TABLE.find_type("p")))
    batch = pa.record_batch({"p": days, "id": pa.array([1, None, 3])})
    columns = partition_columns(batch.slice(0), spec, without_s)
    assert [column.to_pylist() for column in columns] == [[-1, None, None], [1, None, 3], [None, None, None]]
    assert [column.to_pylist() for column in partition_columns(batch[1:], spec, without_s)][1] == [None, 3]
    assert partition_groups(columns)[1] == [(-1, 1, None), (None, None, None), (None, 3, None)]
    assert spec_to_sql(spec, without_s) == "month(p.day), id"


UUID = uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
# Python's value, what a partition record holds, the folder
RECORDS: list[tuple[IcebergType, Any, Any, str]] = [
    (IntegerType(), -1, -1, "c=-1"),
    (BooleanType(), True, True, "c=true"),
    (DecimalType(5, 2), Decimal("-1.20"), Decimal("-1.20"), "c=-1.20"),
    (DateType(), dt.date(1969, 12, 31), -1, "c=1969-12-31"),
    (TimeType(), dt.time(0, 0, 1), 1_000_000, "c=00%3A00%3A01"),
    (TimestampType(), dt.datetime(1969, 12, 31, 23, 59, 59), -1_000_000, "c=1969-12-31T23%3A59%3A59"),
    (TimestamptzType(), dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 0, "c=1970-01-01T00%3A00%3A00%2B00%3A00"),
    (StringType(), "a/b ü", "a/b ü", "c=a%2Fb+%C3%BC"),
    (UUIDType(), UUID, UUID.bytes, "c=%2BB1Prn3sEdCnZQCgyR5r9g%3D%3D"),
    (BinaryType(), b"\x00", b"\x00", "c=AA%3D%3D"),
    (DoubleType(), float("nan"), float("nan"), "c=nan"),
    (StringType(), None, None, "c=null"),
]


@pytest.mark.parametrize(("kind", "value", "held", "path"), RECORDS, ids=str)
def test_a_partition_record_survives_the_manifest_and_names_a_folder(
    kind: IcebergType, value: Any, held: Any, path: str, tmp_path: Any
) -> None:
    schema = Schema(NestedField(1, "c", kind))
    spec = build_spec([term("identity", "c")], schema)
    record = partition_record((value,), spec, schema)
    assert repr(record[0]) == repr(held)
    assert partition_path(record, spec, schema) == path
    array = arrow_of(kind, [held])
    assert repr(partition_groups(partition_columns(pa.record_batch([array], names=["c"]), spec, schema))[1][0]) == repr(
        (held,)
    )
    assert repr(_through_manifest(record, spec, schema, str(tmp_path))) == repr(held)


def _through_manifest(record: Any, spec: PartitionSpec, schema: Schema, folder: str) -> Any:
    io = PyArrowFileIO()
    output = io.new_output(f"{folder}/m.avro")
    with write_manifest(2, spec, schema, output, 1, "null") as writer:
        data_file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path="x",
            file_format=FileFormat.PARQUET,
            partition=record,
            record_count=1,
            file_size_in_bytes=1,
        )
        writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=1, data_file=data_file))
    (entry,) = writer.to_manifest_file().fetch_manifest_entry(io)
    found = entry.data_file.partition[0]
    return found.bytes if isinstance(found, uuid.UUID) else found


def test_a_folder_beyond_the_calendar_of_python_still_has_a_name() -> None:
    schema = Schema(NestedField(1, "c", TimestampType()))
    spec = build_spec([term("identity", "c")], schema)
    record = partition_record((2**62,), spec, schema)
    assert partition_path(record, spec, schema) == f"c={2**62}"


def test_the_record_and_the_spec_agree_in_length() -> None:
    with pytest.raises(ValueError, match="expected 1"):
        partition_record((1, 2), build_spec([term("identity", "id")], TABLE), TABLE)
