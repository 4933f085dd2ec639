"""The metrics of data files, against the rows themselves."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
)
from writing import EVERY_TYPE, every_type_rows, target, write

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.errors import ConfigurationError
from icefusion.write.metrics import truncate_lower, truncate_upper

NAN = float("nan")
NUMBERS = Schema(NestedField(1, "x", DoubleType()))


def file_of(values: list[float | None], folder: Path) -> DataFile:
    """One file with a row for each number."""
    rows = pa.table({"x": values}, schema=iceberg_to_arrow(NUMBERS))
    (file,) = write(rows, target(folder, NUMBERS), threads=1).files
    return file


def double(value: float) -> bytes:
    return struct.pack("<d", value)


def test_nan_is_counted_and_is_no_bound(tmp_path: Path) -> None:
    file = file_of([1.0, NAN, None, -2.0, NAN], tmp_path)
    assert (file.value_counts, file.null_value_counts, file.nan_value_counts) == ({1: 5}, {1: 1}, {1: 2})
    assert (file.lower_bounds, file.upper_bounds) == ({1: double(-2.0)}, {1: double(1.0)})


def test_infinities_are_bounds_and_no_nan(tmp_path: Path) -> None:
    file = file_of([math.inf, -math.inf, 0.0], tmp_path)
    assert file.nan_value_counts == {1: 0}
    assert (file.lower_bounds, file.upper_bounds) == ({1: double(-math.inf)}, {1: double(math.inf)})


@pytest.mark.parametrize("values", [[NAN, NAN], [None, None]])
def test_a_column_without_ordinary_values_has_no_bounds(tmp_path: Path, values: list[Any]) -> None:
    file = file_of(values, tmp_path)
    assert (file.lower_bounds, file.upper_bounds) == ({}, {})


@pytest.mark.parametrize("values", [[0.0], [-0.0], [0.0, -0.0]])
def test_zero_bounds_hold_both_zeros(tmp_path: Path, values: list[float]) -> None:
    file = file_of(values, tmp_path)
    assert (file.lower_bounds, file.upper_bounds) == ({1: double(-0.0)}, {1: double(0.0)})


def test_bounds_span_all_row_groups_and_skip_those_of_nulls_and_nan(tmp_path: Path) -> None:
    values = [1.0, None, NAN, NAN, None, None, 7.0, -3.0]
    properties = {"write.parquet.row-group-limit": "2"}
    rows = pa.Table.from_pylist([{"x": value} for value in values], schema=iceberg_to_arrow(NUMBERS))
    (file,) = write(rows, target(tmp_path, NUMBERS, properties=properties), threads=1).files
    assert len(file.split_offsets or []) == 4
    assert (file.lower_bounds, file.upper_bounds) == ({1: double(-3.0)}, {1: double(7.0)})
    assert (file.null_value_counts, file.nan_value_counts) == ({1: 3}, {1: 2})


def test_bounds_of_wide_decimals_compare_as_numbers_over_row_groups(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "x", DecimalType(30, 2)))
    rows = pa.table({"x": [Decimal("1.00"), Decimal("-1.00")]}, schema=iceberg_to_arrow(schema))
    properties = {"write.parquet.row-group-limit": "1"}
    (file,) = write(rows, target(tmp_path, schema, properties=properties), threads=1).files
    assert (file.lower_bounds, file.upper_bounds) == ({1: b"\x9c"}, {1: b"\x64"})


def test_a_row_group_without_statistics_leaves_the_column_without_bounds(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "s", StringType()))
    rows = pa.table({"s": ["a", "x" * 10_000]}, schema=iceberg_to_arrow(schema))
    properties = {"write.parquet.row-group-limit": "1"}
    (file,) = write(rows, target(tmp_path, schema, properties=properties), threads=1).files
    assert len(file.split_offsets or []) == 2
    assert (file.lower_bounds, file.upper_bounds) == ({}, {})
    assert file.value_counts == {1: 2}


def test_every_type_has_bounds_that_pyiceberg_reads_as_the_values(tmp_path: Path) -> None:
    rows = every_type_rows()
    (file,) = write(rows, target(tmp_path, EVERY_TYPE, properties={"write.metadata.metrics.default": "full"})).files
    for field in EVERY_TYPE.fields[:16]:
        column = rows[field.name]
        if field.name == "d":
            found = [-2.25]
        elif pa.types.is_date(column.type):
            found = column.cast(pa.int32()).to_pylist()
        elif pa.types.is_temporal(column.type):
            found = column.cast(pa.int64()).to_pylist()
        else:
            found = (column.cast(pa.binary(16)) if field.name == "u" else column).to_pylist()
        values = [value for value in found if value is not None]
        bounds = [from_bytes(field.field_type, b[field.field_id]) for b in (file.lower_bounds, file.upper_bounds)]
        assert bounds == [min(values), max(values)], field.name
        assert [b[field.field_id] for b in (file.lower_bounds, file.upper_bounds)] == [
            to_bytes(field.field_type, value) for value in (min(values), max(values))
        ], field.name


def test_leaves_of_structs_have_bounds_and_those_of_lists_and_maps_only_counts(tmp_path: Path) -> None:
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE)).files
    assert from_bytes(StringType(), file.lower_bounds[24]) == "y"
    assert {18, 20, 21, 28, 29}.isdisjoint(file.lower_bounds)
    assert {18, 20, 21, 28, 29} <= set(file.value_counts)
    assert {leaf: file.nan_value_counts[leaf] for leaf in (18, 23, 29)} == {18: 1, 23: 1, 29: 1}
    assert file.value_counts[18] == 5  # three elements, a null list and an empty one


def test_values_that_a_null_parent_hides_are_not_counted_as_nan(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "st", StructType(NestedField(2, "x", DoubleType()))))
    arrow = iceberg_to_arrow(schema)
    hidden = pa.StructArray.from_arrays(
        [pa.array([NAN, 1.0])], fields=list(arrow.field("st").type), mask=pa.array([True, False])
    )
    (file,) = write(pa.table([hidden], schema=arrow), target(tmp_path, schema)).files
    assert (file.nan_value_counts, file.null_value_counts) == ({2: 0}, {2: 1})


def test_slices_of_maps_count_their_own_values(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "m", MapType(2, StringType(), 3, DoubleType(), value_required=False)))
    rows = pa.table(
        {"m": [[("a", NAN), ("z", NAN)], None, [("b", NAN), ("c", 1.0)]]}, schema=iceberg_to_arrow(schema)
    ).slice(1)
    (file,) = write(rows, target(tmp_path, schema)).files
    assert file.nan_value_counts == {3: 1}


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("none", (False, None)),
        ("counts", (True, None)),
        ("truncate(4)", (True, ("aé漢x", "aé漢y"))),
        ("full", (True, ("aé漢xyz", "aé漢xyz"))),
    ],
)
def test_the_mode_says_what_is_kept(tmp_path: Path, mode: str, kept: tuple[bool, tuple[str, str] | None]) -> None:
    schema = Schema(NestedField(1, "s", StringType()))
    rows = pa.table({"s": ["aé漢xyz"]}, schema=iceberg_to_arrow(schema))
    for key in ("write.metadata.metrics.default", "write.metadata.metrics.column.s"):
        (file,) = write(rows, target(tmp_path, schema, properties={key: mode})).files
        counts, bounds = kept
        assert (1 in file.value_counts, 1 in file.column_sizes, 1 in file.null_value_counts) == (counts,) * 3
        assert file.lower_bounds == ({1: bounds[0].encode()} if bounds else {})
        assert file.upper_bounds == ({1: bounds[1].encode()} if bounds else {})


def test_nested_columns_have_modes_by_their_dotted_names(tmp_path: Path) -> None:
    prefix = "write.metadata.metrics.column."
    properties = {f"{prefix}st.y": "none", f"{prefix}list.element": "none", f"{prefix}map.key": "none"}
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE, properties=properties)).files
    assert {24, 18, 20}.isdisjoint(file.value_counts)
    assert 18 not in file.nan_value_counts
    assert {23, 21} <= set(file.value_counts)


def test_an_unknown_mode_is_named_with_its_property(tmp_path: Path) -> None:
    properties = {"write.metadata.metrics.column.x": "some"}
    with pytest.raises(ConfigurationError, match=r"column\.x"):
        write(pa.table({"x": [1.0]}), target(tmp_path, NUMBERS, properties=properties))


def test_wide_tables_keep_metrics_of_their_first_columns(tmp_path: Path) -> None:
    nested = StructType(NestedField(50, "in", LongType()))
    schema = Schema(NestedField(1, "st", nested), *[NestedField(i, f"c{i}", LongType()) for i in range(2, 6)])
    rows = pa.Table.from_pylist([{f"c{i}": i for i in range(2, 6)}], schema=iceberg_to_arrow(schema))
    limit = {"write.metadata.metrics.max-inferred-column-defaults": "3"}
    (file,) = write(rows, target(tmp_path, schema, properties=limit)).files
    assert set(file.value_counts) == {2, 3, 4}
    own = {**limit, "write.metadata.metrics.column.st.in": "counts"}
    (file,) = write(rows, target(tmp_path, schema, properties=own)).files
    assert set(file.value_counts) == {2, 3, 4, 50}
    default = {**limit, "write.metadata.metrics.default": "counts"}
    (file,) = write(rows, target(tmp_path, schema, properties=default)).files
    assert set(file.value_counts) == {2, 3, 4, 5, 50}


def test_sorted_columns_keep_bounds_unless_they_have_a_mode_of_their_own(tmp_path: Path) -> None:
    order = SortOrder(SortField(1, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST), order_id=1)
    rows = pa.table({"x": [2.0, 1.0]}, schema=iceberg_to_arrow(NUMBERS))
    properties = {"write.metadata.metrics.default": "none"}
    (file,) = write(rows, target(tmp_path, NUMBERS, order=order, properties=properties)).files
    assert file.lower_bounds == {1: double(1.0)}
    properties["write.metadata.metrics.column.x"] = "counts"
    (file,) = write(rows, target(tmp_path, NUMBERS, order=order, properties=properties)).files
    assert (file.value_counts, file.lower_bounds) == ({1: 2}, {})


@pytest.mark.parametrize(
    ("value", "length", "upper"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "abd"),
        ("ab\U0010ffffd", 3, "ac"),
        ("\U0010ffff" * 3, 2, None),
        ("a\ud7ff".encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") + "z", 2, "a\ue000"),
        ("🐢🐢🐢", 2, "🐢🐣"),
        ("éé", 1, "ê"),
        ("", 1, ""),
    ],
)
def test_upper_bounds_of_text_count_up_the_last_character(value: str, length: int, upper: str | None) -> None:
    assert truncate_upper(StringType(), value.encode(), length) == (None if upper is None else upper.encode())


@pytest.mark.parametrize(
    ("value", "upper"),
    [(b"ab", b"ab"), (b"abc", b"ac"), (b"a\xffc", b"b"), (b"\xff\xff\xff", None), (b"\xff\xff", b"\xff\xff")],
)
@pytest.mark.parametrize("kind", [BinaryType(), FixedType(3)])
def test_upper_bounds_of_bytes_count_up_the_last_byte(kind: Any, value: bytes, upper: bytes | None) -> None:
    assert truncate_upper(kind, value, 2) == upper


@given(value=st.text(max_size=6), length=st.integers(1, 5))
def test_truncated_bounds_of_text_enclose_the_text(value: str, length: int) -> None:
    lower = truncate_lower(StringType(), value.encode(), length)
    upper = truncate_upper(StringType(), value.encode(), length)
    assert lower is not None
    assert lower <= value.encode()
    assert len(lower.decode()) <= length
    assert upper is None or (value.encode() <= upper and len(upper.decode()) <= length)


KINDS = st.sampled_from(["bool", "int", "long", "float", "double", "dec9", "dec20", "string", "binary", "fixed"])
PRIMITIVES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (BooleanType(), st.booleans()),
    "int": (IntegerType(), st.integers(-(2**31), 2**31 - 1)),
    "long": (LongType(), st.integers(-(2**63), 2**63 - 1)),
    "float": (FloatType(), st.floats(width=32)),
    "double": (DoubleType(), st.floats()),
    "dec9": (DecimalType(9, 2), st.integers(-(10**9) + 1, 10**9 - 1).map(lambda n: Decimal(n).scaleb(-2))),
    "dec20": (DecimalType(20, 0), st.integers(-(10**20) + 1, 10**20 - 1).map(Decimal)),
    "string": (StringType(), st.text(max_size=20)),
    "binary": (BinaryType(), st.binary(max_size=20)),
    "fixed": (FixedType(3), st.binary(min_size=3, max_size=3)),
}


@given(data=st.data(), kind=KINDS, shape=st.sampled_from(["plain", "struct", "list", "map"]))
@settings(max_examples=150, deadline=None)
def test_metrics_equal_those_recomputed_from_the_rows(data: st.DataObject, kind: str, shape: str) -> None:
    element, strategy = PRIMITIVES[kind]
    value = st.none() | strategy
    column_type, values = {
        "plain": (element, value),
        "struct": (StructType(NestedField(2, "e", element)), st.none() | st.fixed_dictionaries({"e": value})),
        "list": (ListType(2, element, element_required=False), st.none() | st.lists(value, max_size=3)),
        "map": (
            MapType(9, LongType(), 2, element, value_required=False),
            st.none() | st.dictionaries(st.integers(0, 9), value, max_size=3).map(lambda d: list(d.items())),
        ),
    }[shape]
    rows = data.draw(st.lists(values, min_size=1, max_size=12))
    schema = Schema(NestedField(1 if shape != "plain" else 2, "c", column_type))
    table = pa.Table.from_pylist([{"c": row} for row in rows], schema=iceberg_to_arrow(schema))
    with TemporaryDirectory() as folder:
        properties = {"write.metadata.metrics.default": "truncate(3)", "write.parquet.row-group-limit": "5"}
        (file,) = write(table, target(Path(folder), schema, properties=properties), threads=1).files
    leaves = list(_leaf_values(rows, shape))
    present = [leaf for leaf in leaves if leaf is not None]
    assert file.value_counts[2] == len(leaves)
    assert file.null_value_counts[2] == len(leaves) - len(present)
    if kind in ("float", "double"):
        assert file.nan_value_counts[2] == sum(math.isnan(leaf) for leaf in present)
        present = [leaf for leaf in present if not math.isnan(leaf)]
    if shape in ("list", "map") or not present:
        assert 2 not in file.lower_bounds
        assert 2 not in file.upper_bounds
        return
    low, high = min(present), max(present)
    assert file.lower_bounds[2] == _bound(element, low, kind, upper=False)
    assert file.upper_bounds.get(2) == _bound(element, high, kind, upper=True)


def _leaf_values(rows: list[Any], shape: str) -> Iterator[Any]:
    """The values of the leaf as Parquet counts them: a null or empty parent stands for one null."""
    for row in rows:
        if shape == "plain" or row is None:
            yield row
        elif shape == "struct":
            yield row["e"]
        elif not row:
            yield None
        else:
            yield from (item[1] for item in row) if shape == "map" else row


def _bound(element: Any, value: Any, kind: str, *, upper: bool) -> bytes | None:
    if kind in ("float", "double") and value == 0:
        value = 0.0 if upper else -0.0
    stored = to_bytes(element, value)
    return (truncate_upper if upper else truncate_lower)(element, stored, 3)
