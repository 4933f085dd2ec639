import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from bridge_cases import arrow_types, values_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
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
    UUIDType,
)

from icefusion.bridge.align import relabel
from icefusion.bridge.schema import arrow_to_iceberg, type_to_arrow
from icefusion.errors import SchemaError

OLD = StructType(
    NestedField(1, "a", IntegerType()), NestedField(2, "b", StringType()), NestedField(3, "gone", LongType())
)
# a is now called z, b is now called a, gone is gone, another gone was added, and one with a default.
NEW = StructType(
    NestedField(2, "a", StringType()),
    NestedField(4, "gone", UUIDType()),
    NestedField(1, "z", LongType()),
    NestedField(5, "d", StringType(), required=True, initial_default="new", write_default="other"),
)


def rows(kind: IcebergType, values: list[object]) -> pa.Array:
    return pa.array(values, type_to_arrow(kind, field_ids=False))


def old(number: int, text: str) -> dict[str, object]:
    return {"a": number, "b": text, "gone": 9}


def new(number: int, text: str) -> dict[str, object]:
    return {"a": text, "gone": None, "z": number, "d": "new"}


SHAPES = {
    "struct": (OLD, NEW, [old(1, "x"), None, old(2, "y")], [new(1, "x"), None, new(2, "y")]),
    "list": (
        ListType(8, OLD, element_required=False),
        ListType(8, NEW, element_required=False),
        [[old(1, "x"), None], None, [], [old(2, "y")]],
        [[new(1, "x"), None], None, [], [new(2, "y")]],
    ),
    "map": (
        MapType(8, IntegerType(), 9, OLD, value_required=False),
        MapType(8, LongType(), 9, NEW, value_required=False),
        [[(1, old(1, "x")), (2, None)], None, [], [(3, old(2, "y"))]],
        [[(1, new(1, "x")), (2, None)], None, [], [(3, new(2, "y"))]],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", [0, 1, 3])
def test_fields_follow_their_ids_at_any_depth(shape: str, start: int) -> None:
    source, target, values, wanted = SHAPES[shape]
    result = relabel(rows(source, values)[start:], source, target)
    result.validate(full=True)
    assert result.type.equals(type_to_arrow(target), check_metadata=True)
    assert result.to_pylist() == wanted[start:]


@pytest.mark.parametrize(
    ("source", "target", "value", "wanted"),
    [
        (IntegerType(), LongType(), -1, -1),
        (FloatType(), DoubleType(), 0.5, 0.5),
        (DecimalType(5, 2), DecimalType(38, 2), Decimal("-1.25"), Decimal("-1.25")),
        (DateType(), TimestampType(), dt.date(1, 1, 1), dt.datetime(1, 1, 1)),
    ],
)
def test_promoted_types_keep_their_values(
    source: IcebergType, target: IcebergType, value: object, wanted: object
) -> None:
    assert relabel(rows(source, [value, None]), source, target).to_pylist() == [wanted, None]
    inner = (ListType(2, source, element_required=False), ListType(2, target, element_required=False))
    assert relabel(rows(inner[0], [[value, None], None]), *inner).to_pylist() == [[wanted, None], None]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_nothing_changes_and_nothing_is_copied_where_the_types_agree(data: st.DataObject) -> None:
    arrow = data.draw(arrow_types)
    kind = arrow_to_iceberg(pa.schema([("c", arrow)])).find_type("c")
    array = rows(kind, data.draw(st.lists(values_of(arrow), max_size=4)))
    result = relabel(array, kind, kind)
    assert result.type.equals(type_to_arrow(kind), check_metadata=True)
    assert [b and b.address for b in result.buffers()] == [b and b.address for b in array.buffers()]


def test_views_of_a_reader_are_made_plain_on_the_way() -> None:
    source = StructType(NestedField(1, "s", StringType()))
    target = StructType(NestedField(1, "t", StringType()))
    array = pa.array([{"s": "x"}, None], pa.struct([("s", pa.string_view())]))
    assert relabel(array, source, target).type == type_to_arrow(target)


def test_a_change_that_is_no_promotion_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"column c: .*string.*int"):
        relabel(pa.array(["1"]), StringType(), IntegerType(), column="c")


def test_rows_that_lack_a_field_of_their_schema_are_refused_rather_than_filled() -> None:
    with pytest.raises(SchemaError, match="gone"):
        relabel(pa.array([{"a": 1, "b": "x"}]), OLD, NEW)
