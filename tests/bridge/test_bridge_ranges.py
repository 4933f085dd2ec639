"""Ranges are tested as PyIceberg's evaluators test them, and never lose a value."""

import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions import (
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
    Not,
    NotEqualTo,
    NotIn,
    NotNaN,
    NotNull,
    NotStartsWith,
    Or,
    StartsWith,
)
from pyiceberg.expressions.visitors import (
    _InclusiveMetricsEvaluator,
    expression_evaluator,
    manifest_evaluator,
    rewrite_not,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestFile, construct_partition_summaries
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, StructType

from icefusion.bridge.ranges import MAX_LISTED_VALUES, metrics_test, summaries_test

SCHEMA = Schema(
    NestedField(1, "i", LongType()),
    NestedField(2, "f", DoubleType()),
    NestedField(3, "s", StringType()),
    NestedField(4, "st", StructType(NestedField(5, "x", LongType()))),
)
TYPES = {field.name: field.field_type for field in SCHEMA.fields}
NAN = float("nan")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.sampled_from([-(2**40), -1, 0, 1, 7]),
    "f": st.sampled_from([-1.5, -0.0, 0.0, 0.1, 7.0]),
    "s": st.sampled_from(["", "a", "ab", "abc", "b", "\U0001f600"]),
}
COLUMNS = {
    "i": VALUES["i"] | st.none(),
    "f": VALUES["f"] | st.sampled_from([NAN, None]),
    "s": VALUES["s"] | st.none(),
}
ROWS = st.lists(st.fixed_dictionaries(COLUMNS), min_size=1, max_size=5)


def predicates() -> st.SearchStrategy[BooleanExpression]:
    comparisons = [EqualTo, NotEqualTo, LessThan, LessThanOrEqual, GreaterThan, GreaterThanOrEqual]
    parts: list[st.SearchStrategy[BooleanExpression]] = []
    for name, values in VALUES.items():
        parts += [values.map(partial(make, name)) for make in comparisons]
        parts += [st.sets(values, min_size=2).map(partial(make, name)) for make in (In, NotIn)]
        parts += [st.just(make(name)) for make in (IsNull, NotNull)]
    parts += [st.just(IsNaN("f")), st.just(NotNaN("f"))]
    parts += [VALUES["s"].map(partial(make, "s")) for make in (StartsWith, NotStartsWith)]
    return st.one_of(parts)


EXPRESSIONS = st.recursive(
    predicates(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: And(*pair)),
        st.tuples(inner, inner).map(lambda pair: Or(*pair)),
        inner.map(Not),
    ),
    max_leaves=4,
)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def file_of(rows: list[dict[str, Any]], *, counted: bool = True, count: int | None = None) -> DataFile:
    columns = {field.field_id: [row[field.name] for row in rows] for field in SCHEMA.fields if field.name in COLUMNS}
    proper = {n: [v for v in values if v is not None and not is_nan(v)] for n, values in columns.items()}
    types = {field.field_id: field.field_type for field in SCHEMA.fields}
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path="file:///x.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(rows) if count is None else count,
        file_size_in_bytes=1,
        value_counts={n: len(values) for n, values in columns.items()} if counted else None,
        null_value_counts={n: values.count(None) for n, values in columns.items()} if counted else None,
        nan_value_counts={2: sum(map(is_nan, columns[2]))} if counted else None,
        lower_bounds={n: to_bytes(types[n], min(values)) for n, values in proper.items() if values},
        upper_bounds={n: to_bytes(types[n], max(values)) for n, values in proper.items() if values},
    )


def matches(rows: list[dict[str, Any]], expression: BooleanExpression) -> bool:
    evaluate = expression_evaluator(SCHEMA, rewrite_not(expression), case_sensitive=True)
    return any(evaluate(Record(row["i"], row["f"], row["s"], None)) for row in rows)


@settings(max_examples=400, deadline=None)
@given(rows=ROWS, expression=EXPRESSIONS, counted=st.booleans())
def test_metrics_prune_what_the_reference_prunes_and_no_match(
    rows: list[dict[str, Any]], expression: BooleanExpression, counted: bool
) -> None:
    file = file_of(rows, counted=counted)
    may_match = metrics_test(SCHEMA, expression)(file)
    assert may_match or not matches(rows, expression)
    if counted:  # without counts the reference takes it that nothing is NULL when it is asked for other prefixes
        assert _InclusiveMetricsEvaluator(SCHEMA, expression).eval(file) or not may_match


SPEC = PartitionSpec(
    *(
        PartitionField(field.field_id, 1000 + field.field_id, IdentityTransform(), field.name)
        for field in SCHEMA.fields[:3]
    )
)


@settings(max_examples=400, deadline=None)
@given(rows=ROWS, expression=EXPRESSIONS)
def test_summaries_prune_what_the_reference_prunes_and_no_match(
    rows: list[dict[str, Any]], expression: BooleanExpression
) -> None:
    records = [Record(row["i"], row["f"], row["s"]) for row in rows]
    summaries = construct_partition_summaries(SPEC, SCHEMA, records)
    fields = Schema(*SPEC.partition_type(SCHEMA).fields)
    may_match = summaries_test(fields, expression)(summaries)
    assert may_match or not matches(rows, expression)
    manifest = ManifestFile.from_args(partitions=summaries)
    assert manifest_evaluator(SPEC, SCHEMA, expression)(manifest) or not may_match


def test_a_file_of_an_unknown_number_of_rows_may_match() -> None:
    rows = [{"i": 1, "f": 1.0, "s": "a"}]
    assert metrics_test(SCHEMA, EqualTo("i", 5))(file_of(rows, count=-1))
    assert not metrics_test(SCHEMA, EqualTo("i", 1))(file_of(rows, count=0))


@pytest.mark.parametrize(
    "expression", [EqualTo("f", 5.0), LessThan("f", 0.0), GreaterThan("f", 9.0), In("f", {5.0, 6.0})]
)
def test_bounds_of_nan_are_not_known(expression: BooleanExpression) -> None:
    file = file_of([{"i": 1, "f": 1.0, "s": "a"}])
    for lower, upper in ((NAN, NAN), (NAN, 1.0), (1.0, NAN)):
        file._data[10][2], file._data[11][2] = to_bytes(DoubleType(), lower), to_bytes(DoubleType(), upper)
        expected = _InclusiveMetricsEvaluator(SCHEMA, expression).eval(file)
        assert metrics_test(SCHEMA, expression)(file) >= expected
    file._data[10][2] = file._data[11][2] = to_bytes(DoubleType(), NAN)
    assert metrics_test(SCHEMA, expression)(file)


def test_a_long_list_is_not_compared() -> None:
    file = file_of([{"i": 1, "f": 1.0, "s": "a"}])
    short, long = set(range(100, 100 + MAX_LISTED_VALUES)), set(range(100, 101 + MAX_LISTED_VALUES))
    assert not metrics_test(SCHEMA, In("i", short))(file)
    assert metrics_test(SCHEMA, In("i", long))(file)


def test_nested_columns_have_counts_but_no_bounds() -> None:
    file = file_of([{"i": 1, "f": 1.0, "s": "a"}])
    file._data[8][4] = 0
    assert not metrics_test(SCHEMA, IsNull("st"))(file)
    assert metrics_test(SCHEMA, NotNull("st"))(file)
