"""The comparison that the other tests rely on can fail."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from interop_cases import TYPES, TypeCase, arrow_table
from interop_rows import canonical, column_by_id, expected_column

POINT = pa.struct([("x", pa.float64())])


@pytest.mark.parametrize(
    ("one", "other", "arrow_type"),
    [
        (0.0, -0.0, pa.float64()),
        (float("nan"), float("inf"), pa.float64()),
        (None, "", pa.string()),
        (None, [], pa.list_(POINT)),
        (None, {"x": None}, POINT),
        ([None], [], pa.list_(POINT)),
        ([("k", None)], [], pa.map_(pa.string(), pa.int32())),
        ([{"x": 0.0}], [{"x": -0.0}], pa.list_(POINT)),
    ],
)
def test_values_that_differ_are_told_apart(one: object, other: object, arrow_type: pa.DataType) -> None:
    assert canonical(one, arrow_type) != canonical(other, arrow_type)


def test_nan_equals_nan() -> None:
    assert canonical(float("nan"), pa.float64()) == canonical(-float("nan"), pa.float64())


def test_the_same_instant_in_two_zones_is_one_value() -> None:
    kind = pa.timestamp("us", tz="UTC")
    noon = dt.datetime(2026, 7, 4, 12, tzinfo=dt.UTC)
    assert canonical(noon, kind) == canonical(noon.astimezone(dt.timezone(dt.timedelta(hours=2))), kind)


def test_a_value_of_the_wrong_python_type_is_no_match() -> None:
    with pytest.raises(AssertionError, match="not a int"):
        canonical(True, pa.int32())


def test_a_row_that_comes_twice_is_noticed() -> None:
    with pytest.raises(AssertionError, match="twice"):
        column_by_id([(1, 2), (1, 2)], pa.schema([("id", pa.int64()), ("a", pa.int64())]), "a")


@pytest.mark.parametrize("case", TYPES, ids=lambda case: case.name)
def test_the_values_of_a_case_are_all_different(case: TypeCase) -> None:
    values = list(expected_column(arrow_table((case,)), case.name).values())
    assert len(set(values)) == len(values) == len(case.values) + 1
