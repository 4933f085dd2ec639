"""Every Arrow type, an array of it, and what becomes of both."""

import datetime as dt
import json
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
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

UTC = ZoneInfo("UTC")
NAN = float("nan")
INF = float("inf")
YEAR_1, YEAR_9999 = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)
MOMENT = dt.datetime(1969, 12, 31, 23, 59, 58)
ZONED = MOMENT.replace(tzinfo=UTC)
UUID_BYTES = bytes(range(16))
PAIR = pa.struct([pa.field("x", pa.int32()), pa.field("y", pa.string())])
PAIRS = StructType(NestedField(0, "x", IntegerType()), NestedField(0, "y", StringType()))


def _list_of(inner: IcebergType) -> ListType:
    return ListType(element_id=0, element=inner, element_required=False)


def _map_of(key: IcebergType, value: IcebergType) -> MapType:
    return MapType(key_id=0, key_type=key, value_id=0, value_type=value, value_required=False)


# name -> (array, Iceberg type of a new column, the values it holds there; None for the array's own)
TAKEN: dict[str, tuple[pa.Array, IcebergType, list[object] | None]] = {
    "bool": (pa.array([True, None, False]), BooleanType(), None),
    "int8": (pa.array([-128, None, 127], pa.int8()), IntegerType(), None),
    "int16": (pa.array([-(2**15), None, 2**15 - 1], pa.int16()), IntegerType(), None),
    "int32": (pa.array([-(2**31), None, 2**31 - 1], pa.int32()), IntegerType(), None),
    "int64": (pa.array([-(2**63), None, 2**63 - 1], pa.int64()), LongType(), None),
    "uint8": (pa.array([0, None, 255], pa.uint8()), IntegerType(), None),
    "uint16": (pa.array([0, None, 65535], pa.uint16()), IntegerType(), None),
    "uint32": (pa.array([0, None, 2**32 - 1], pa.uint32()), LongType(), None),
    "uint64": (pa.array([0, None, 2**64 - 1], pa.uint64()), DecimalType(20, 0), [Decimal(0), None, Decimal(2**64 - 1)]),
    "float16": (pa.array(np.array([1.5, -0.0, INF], np.float16)), FloatType(), [1.5, -0.0, INF]),
    "float32": (pa.array([1.5, None, -0.0, NAN, INF, -INF], pa.float32()), FloatType(), None),
    "float64": (pa.array([0.1, None, -0.0, NAN, INF, -INF]), DoubleType(), None),
    "decimal32": (pa.array([Decimal("-1.25"), None], pa.decimal32(5, 2)), DecimalType(5, 2), None),
    "decimal64": (pa.array([Decimal("-1.25"), None], pa.decimal64(15, 2)), DecimalType(15, 2), None),
    "decimal128": (pa.array([Decimal("9" * 38), None], pa.decimal128(38, 0)), DecimalType(38, 0), None),
    "decimal256 up to 38": (
        pa.array([Decimal("9" * 36 + ".99"), None], pa.decimal256(38, 2)),
        DecimalType(38, 2),
        None,
    ),
    "string": (pa.array(["", None, "Zürich 東京 🧊"]), StringType(), None),
    "large_string": (pa.array(["", None, "ü"], pa.large_string()), StringType(), None),
    "string_view": (pa.array(["", None, "ü" * 20], pa.string_view()), StringType(), None),
    "binary": (pa.array([b"", None, b"\x00\xff"]), BinaryType(), None),
    "large_binary": (pa.array([b"", None, b"\x00\xff"], pa.large_binary()), BinaryType(), None),
    "binary_view": (pa.array([b"", None, b"\xff" * 20], pa.binary_view()), BinaryType(), None),
    "fixed_size_binary": (pa.array([b"abc", None], pa.binary(3)), FixedType(3), None),
    "dictionary of string": (pa.array(["a", None, "b", "a"]).dictionary_encode(), StringType(), None),
    "dictionary of int64": (pa.array([1, None, 2, 1]).dictionary_encode(), LongType(), None),
    "dictionary of string_view": (
        pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array(["a", None], pa.string_view())),
        StringType(),
        None,
    ),
    "dictionary of struct": (
        pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array([{"x": 1, "y": "a"}, None], PAIR)),
        PAIRS,
        None,
    ),
    "run_end_encoded": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3, 5], pa.int16()), pa.array(["a", None, "c"])),
        StringType(),
        None,
    ),
    "date32": (pa.array([YEAR_1.date(), None, YEAR_9999.date()]), DateType(), None),
    "date64": (pa.array([YEAR_1.date(), None, YEAR_9999.date()], pa.date64()), DateType(), None),
    "time32[s]": (pa.array([dt.time(23, 59, 59), None], pa.time32("s")), TimeType(), None),
    "time32[ms]": (pa.array([dt.time(23, 59, 59, 999000), None], pa.time32("ms")), TimeType(), None),
    "time64[us]": (pa.array([dt.time(23, 59, 59, 999999), None], pa.time64("us")), TimeType(), None),
    "time64[ns]": (pa.array([dt.time(23, 59, 59, 999999), None], pa.time64("ns")), TimeType(), None),
    "timestamp[s]": (pa.array([YEAR_1, None, MOMENT, YEAR_9999], pa.timestamp("s")), TimestampType(), None),
    "timestamp[ms]": (pa.array([YEAR_1, None, MOMENT, YEAR_9999], pa.timestamp("ms")), TimestampType(), None),
    "timestamp[us]": (pa.array([YEAR_1, None, MOMENT, YEAR_9999], pa.timestamp("us")), TimestampType(), None),
    "timestamp[ns]": (
        pa.array([-2_000, None, 0]).view(pa.timestamp("ns")),
        TimestampType(),
        [dt.datetime(1969, 12, 31, 23, 59, 59, 999998), None, dt.datetime(1970, 1, 1)],
    ),
    "timestamp[us, UTC]": (pa.array([ZONED, None], pa.timestamp("us", "UTC")), TimestamptzType(), None),
    "timestamp[ms, +05:30]": (pa.array([ZONED, None], pa.timestamp("ms", "+05:30")), TimestamptzType(), [ZONED, None]),
    "timestamp[s, Europe/Paris]": (pa.array([ZONED], pa.timestamp("s", "Europe/Paris")), TimestamptzType(), [ZONED]),
    "timestamp[ns, -08:00]": (pa.array([ZONED], pa.timestamp("ns", "-08:00")), TimestamptzType(), [ZONED]),
    "list": (pa.array([[1, None], None, []], pa.list_(pa.int32())), _list_of(IntegerType()), None),
    "large_list": (pa.array([[1, None], None, []], pa.large_list(pa.int32())), _list_of(IntegerType()), None),
    "fixed_size_list": (pa.array([[1, None], None], pa.list_(pa.int32(), 2)), _list_of(IntegerType()), None),
    "list_view": (pa.array([[1, None], None, []], pa.list_view(pa.int32())), _list_of(IntegerType()), None),
    "large_list_view": (pa.array([[1, None], None, []], pa.large_list_view(pa.int32())), _list_of(IntegerType()), None),
    "struct": (pa.array([{"x": 1, "y": None}, None, {"x": None, "y": ""}], PAIR), PAIRS, None),
    "list of struct": (pa.array([[{"x": 1, "y": "a"}, None], None, []], pa.list_(PAIR)), _list_of(PAIRS), None),
    "map": (
        pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int64())),
        _map_of(StringType(), LongType()),
        None,
    ),
    "map of struct": (
        pa.array([[("a", {"x": 1, "y": None}), ("b", None)], None, []], pa.map_(pa.string(), PAIR)),
        _map_of(StringType(), PAIRS),
        None,
    ),
    "list of dictionary": (
        pa.ListArray.from_arrays(pa.array([0, 2, None, 3], pa.int32()), pa.array(["a", None, "a"]).dictionary_encode()),
        _list_of(StringType()),
        None,
    ),
    "arrow.uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID_BYTES, None], pa.binary(16))),
        UUIDType(),
        None,
    ),
    "arrow.json": (
        pa.ExtensionArray.from_storage(pa.json_(), pa.array([json.dumps({"a": 1}), None])),
        StringType(),
        ['{"a": 1}', None],
    ),
    "arrow.bool8": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0, 7], pa.int8())),
        BooleanType(),
        [True, None, False, True],
    ),
}

# name -> (type, what its hint must say)
REFUSED: dict[str, tuple[pa.DataType, str]] = {
    "duration": (pa.duration("ms"), "bigint"),
    "interval": (pa.month_day_nano_interval(), "string"),
    "null": (pa.null(), "CAST(NULL"),
    "dense union": (pa.dense_union([pa.field("a", pa.int8())]), "struct"),
    "sparse union": (pa.sparse_union([pa.field("a", pa.int8())]), "struct"),
    "decimal256 above 38": (pa.decimal256(39, 2), "decimal(38, 2)"),
    "negative scale": (pa.decimal128(5, -2), "decimal(7, 0)"),
    "scale above precision": (pa.decimal128(3, 5), "decimal(5, 5)"),
    "empty struct": (pa.struct([]), "column"),
    "fixed_size_binary(0)": (pa.binary(0), "binary"),
    "arrow.fixed_shape_tensor": (pa.fixed_shape_tensor(pa.int8(), (2,)), "storage type"),
    "arrow.opaque": (pa.opaque(pa.binary(), "geometry", "postgis"), "storage type"),
    "list of null": (pa.list_(pa.null()), "CAST(NULL"),
}


def same(left: object, right: object) -> bool:
    """Equality that tells -0.0 from 0.0 and takes NaN for itself, at any depth."""
    return repr(left) == repr(right)


def align(array: pa.Array, target: IcebergType, *, required: bool = False) -> pa.Array:
    """One array as the only column of a table."""
    schema = Schema(NestedField(1, "c", target, required=required))
    batch = pa.record_batch([array], schema=pa.schema([pa.field("c", array.type)]))
    result = Alignment.plan(batch.schema, schema, table="ns.t").apply(batch)
    result.validate(full=True)
    assert result.schema.field("c").type.equals(result.column(0).type, check_metadata=True)
    return result.column(0)


_PRIMITIVES: list[tuple[pa.DataType, st.SearchStrategy[object]]] = [
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats()),
    (pa.string(), st.text(st.characters(codec="utf-8"), max_size=20)),
    (pa.binary(), st.binary(max_size=20)),
    (pa.bool_(), st.booleans()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.decimal128(10, 2), st.decimals("-99999999.99", "99999999.99", places=2)),
    (pa.date32(), st.dates()),
]


def values_of(arrow: pa.DataType, nullable: bool = True) -> st.SearchStrategy[object]:
    """Values of an Arrow type, NULL at every depth where it is allowed."""
    values: st.SearchStrategy[object]
    if pa.types.is_struct(arrow):
        fields = [arrow.field(i) for i in range(arrow.num_fields)]
        values = st.fixed_dictionaries({field.name: values_of(field.type, field.nullable) for field in fields})
    elif pa.types.is_map(arrow):
        pair = st.tuples(values_of(arrow.key_type, False), values_of(arrow.item_type, arrow.item_field.nullable))
        values = st.lists(pair, max_size=3)
    elif pa.types.is_list(arrow):
        values = st.lists(values_of(arrow.value_type, arrow.value_field.nullable), max_size=3)
    else:
        values = next(values for known, values in _PRIMITIVES if known == arrow)
    return st.none() | values if nullable else values


_NULLABLE = st.booleans()
arrow_types: st.SearchStrategy[pa.DataType] = st.recursive(
    st.sampled_from([arrow for arrow, _ in _PRIMITIVES]),
    lambda inner: st.one_of(
        st.builds(lambda kind, nullable: pa.list_(pa.field("element", kind, nullable)), inner, _NULLABLE),
        st.lists(st.tuples(inner, _NULLABLE), min_size=1, max_size=3).map(
            lambda kinds: pa.struct([pa.field(f"f{i}", kind, nullable) for i, (kind, nullable) in enumerate(kinds)])
        ),
        st.builds(lambda kind, nullable: pa.map_(pa.string(), pa.field("value", kind, nullable)), inner, _NULLABLE),
    ),
    max_leaves=5,
)


def variant_of(array: pa.Array, choose: "st.DataObject") -> pa.Array:
    """The same values in another encoding, at every depth: views, large types, dictionaries, slices."""
    arrow = array.type
    if pa.types.is_struct(arrow):
        children = [variant_of(array.field(i), choose) for i in range(arrow.num_fields)]
        names = [arrow.field(i).name for i in range(arrow.num_fields)]
        return pa.StructArray.from_arrays(children, names=names, mask=array.is_null())
    if pa.types.is_map(arrow):
        keys, items = variant_of(array.keys, choose), variant_of(array.items, choose)
        pairs = pa.StructArray.from_arrays([keys, items], names=["key", "value"])
        kind = pa.map_(keys.type, items.type)
        return pa.Array.from_buffers(kind, len(array), array.buffers()[:2], children=[pairs], offset=array.offset)
    if pa.types.is_list(arrow):
        values = variant_of(array.values, choose)
        plain = pa.Array.from_buffers(
            pa.list_(values.type), len(array), array.buffers()[:2], children=[values], offset=array.offset
        )
        kind = choose.draw(st.sampled_from(["list", "large", "view"]))
        offsets = array.offsets.to_numpy()
        if kind == "large":
            return pa.LargeListArray.from_arrays(offsets.astype(np.int64), values, mask=array.is_null())
        if kind == "view":  # the lists in memory in another order than the rows
            order = np.arange(len(array))[::-1]
            parts = [values.slice(offsets[i], offsets[i + 1] - offsets[i]) for i in order]
            sizes = np.diff(offsets)
            starts = np.cumsum(sizes[order]) - sizes[order]
            shuffled = pa.concat_arrays(parts) if parts else values
            return pa.ListViewArray.from_arrays(
                pa.array(starts[order].astype(np.int32)), pa.array(sizes), shuffled, mask=array.is_null()
            )
        return plain
    encodings = {pa.string(): [pa.large_string(), pa.string_view()], pa.binary(): [pa.large_binary(), pa.binary_view()]}
    kind = choose.draw(st.sampled_from(["plain", "dictionary", "other"]))
    if kind == "dictionary":
        return array.dictionary_encode()
    return (
        array.cast(choose.draw(st.sampled_from(encodings[arrow]))) if kind == "other" and arrow in encodings else array
    )
