"""Tests of ranges: may there be a value that fulfils a condition, where only bounds and counts are known?

Two things tell of ranges: the partition summaries of a manifest, and the column metrics of a file. PyIceberg's
evaluators walk the expression anew for each file, which for many files takes longer than reading their manifests. Here
an expression is turned into one function once, by the same rules: those of the inclusive evaluators of Iceberg's
reference implementation. What is not known may match. Bounds that are NaN are not known, and where an upper bound was
cut off it was rounded up, so that it is still one.

Where a bound is known there is a value as well, so that the counts of NULL and NaN are asked only where none is. They
would say the same, and a file has to decode them first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.literals import Literal
from pyiceberg.expressions.visitors import BoundBooleanExpressionVisitor, bind, rewrite_not, visit
from pyiceberg.manifest import DataFile, PartitionFieldSummary
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, NestedField, PrimitiveType

from icefusion.bridge.listed import ListedFile

__all__ = ["metrics_test", "summaries_test"]

MAX_LISTED_VALUES = 200
"""Lists of more values are not compared one by one."""

Test = Callable[[Any], bool]
Bound = Callable[[Any], Any]


class _Metrics(NamedTuple):
    """A file, and its bounds, which a file decodes each time that it is asked for them."""

    file: DataFile
    lower: Mapping[int, bytes]
    upper: Mapping[int, bytes]


class _Range(NamedTuple):
    """What can be asked of one column of something.

    Attributes:
        lower: A value that none is less than; None where that is not known.
        upper: A value that none is greater than; likewise.
        empty: Whether there surely is no value that could be compared: they are all NULL, or all NaN.
        no_nulls: Whether surely none is NULL.
        only_nulls: Whether surely all are.
        no_nans: Whether surely none is NaN.
        only_nans: Whether surely all are.
    """

    lower: Bound
    upper: Bound
    empty: Test
    no_nulls: Test
    only_nulls: Test
    no_nans: Test
    only_nans: Test


def metrics_test(schema: Schema, expression: BooleanExpression) -> Callable[[DataFile], bool]:
    """A function that tells whether a file may hold a row for which an expression is true, by its column metrics.

    It raises whatever comes of metrics that make no sense.
    """
    test = visit(bind(schema, rewrite_not(expression), case_sensitive=True), _Visitor(_range_of_metrics))

    def may_match(file: DataFile) -> bool:
        # A negative number of rows stands for an unknown one; some writers did that.
        if file.record_count <= 0:
            return file.record_count < 0
        if isinstance(file, ListedFile):
            return test(_Metrics(file, *file.bounds()))
        return test(_Metrics(file, file.lower_bounds or {}, file.upper_bounds or {}))

    return may_match


def summaries_test(schema: Schema, expression: BooleanExpression) -> Callable[[Sequence[PartitionFieldSummary]], bool]:
    """The same of the files that a manifest lists, by its partition summaries.

    Args:
        schema: The fields of the partition, in the order of the summaries.
        expression: A condition on these.
    """
    places = {field.field_id: place for place, field in enumerate(schema.fields)}

    def range_of(field: NestedField) -> _Range:
        return _range_of_summaries(field, places[field.field_id])

    return visit(bind(schema, rewrite_not(expression), case_sensitive=True), _Visitor(range_of))


def _range_of_metrics(field: NestedField) -> _Range:
    field_id = field.field_id
    convert = _conversion(field)

    def bound(side: str) -> Bound:
        bounds_of = attrgetter(side)

        def find(metrics: _Metrics) -> Any:
            value = bounds_of(metrics).get(field_id)
            return None if value is None else convert(value)

        return find

    def none_counted(name: str) -> Test:
        counts_of = attrgetter(name)

        def test(metrics: _Metrics) -> bool:
            counts = counts_of(metrics.file)
            return bool(counts) and counts.get(field_id) == 0

        return test

    def all_counted(name: str) -> Test:
        counts_of = attrgetter(name)

        def test(metrics: _Metrics) -> bool:
            counts = counts_of(metrics.file)
            count = counts.get(field_id) if counts else None
            return bool(count) and (metrics.file.value_counts or {}).get(field_id) == count

        return test

    only_nulls, only_nans = all_counted("null_value_counts"), all_counted("nan_value_counts")
    return _Range(
        lower=bound("lower"),
        upper=bound("upper"),
        empty=lambda metrics: only_nulls(metrics) or only_nans(metrics),
        no_nulls=none_counted("null_value_counts"),
        only_nulls=only_nulls,
        no_nans=none_counted("nan_value_counts"),
        only_nans=only_nans,
    )


def _range_of_summaries(field: NestedField, place: int) -> _Range:
    convert = _conversion(field)
    is_float = isinstance(field.field_type, FloatType | DoubleType)

    def lower(summaries: Sequence[PartitionFieldSummary]) -> Any:
        value = summaries[place].lower_bound
        return None if value is None else convert(value)

    def upper(summaries: Sequence[PartitionFieldSummary]) -> Any:
        value = summaries[place].upper_bound
        return None if value is None else convert(value)

    def empty(summaries: Sequence[PartitionFieldSummary]) -> bool:
        # Bounds are missing where there is nothing but NULL and NaN, and only there.
        return summaries[place].lower_bound is None and summaries[place].upper_bound is None

    def only_nulls(summaries: Sequence[PartitionFieldSummary]) -> bool:
        return empty(summaries) and (not is_float or summaries[place].contains_nan is False)

    def only_nans(summaries: Sequence[PartitionFieldSummary]) -> bool:
        summary = summaries[place]
        return empty(summaries) and summary.contains_nan is True and summary.contains_null is False

    return _Range(
        lower=lower,
        upper=upper,
        empty=empty,
        no_nulls=lambda summaries: summaries[place].contains_null is False,
        only_nulls=only_nulls,
        no_nans=lambda summaries: summaries[place].contains_nan is False,
        only_nans=only_nans,
    )


def _conversion(field: NestedField) -> Callable[[bytes], Any]:
    if not isinstance(field.field_type, PrimitiveType):
        return _no_conversion
    return partial(from_bytes.dispatch(type(field.field_type)), field.field_type)


def _no_conversion(_: bytes) -> Any:
    raise ValueError("only plain columns have bounds")


class _Visitor(BoundBooleanExpressionVisitor[Test]):
    """Makes a test of a bound expression without negations."""

    def __init__(self, range_of: Callable[[NestedField], _Range]) -> None:
        self._range_of = range_of

    def _range(self, term: Any) -> _Range:
        return self._range_of(term.ref().field)

    def visit_true(self) -> Test:
        return _always

    def visit_false(self) -> Test:
        return _never

    def visit_not(self, child_result: Test) -> Test:  # noqa: ARG002 - named by the caller
        raise ValueError("negations should have been rewritten")

    def visit_and(self, left_result: Test, right_result: Test) -> Test:
        return lambda subject: left_result(subject) and right_result(subject)

    def visit_or(self, left_result: Test, right_result: Test) -> Test:
        return lambda subject: left_result(subject) or right_result(subject)

    def visit_is_null(self, term: Any) -> Test:
        no_nulls = self._range(term).no_nulls
        return lambda subject: not no_nulls(subject)

    def visit_not_null(self, term: Any) -> Test:
        only_nulls = self._range(term).only_nulls
        return lambda subject: not only_nulls(subject)

    def visit_is_nan(self, term: Any) -> Test:
        asked = self._range(term)
        return lambda subject: not (asked.no_nans(subject) or asked.only_nulls(subject))

    def visit_not_nan(self, term: Any) -> Test:
        only_nans = self._range(term).only_nans
        return lambda subject: not only_nans(subject)

    def visit_less_than(self, term: Any, literal: Literal[Any]) -> Test:
        value = literal.value
        return _with_bound(self._range(term), "lower", lambda lower: lower < value)

    def visit_less_than_or_equal(self, term: Any, literal: Literal[Any]) -> Test:
        value = literal.value
        return _with_bound(self._range(term), "lower", lambda lower: lower <= value)

    def visit_greater_than(self, term: Any, literal: Literal[Any]) -> Test:
        value = literal.value
        return _with_bound(self._range(term), "upper", lambda upper: upper > value)

    def visit_greater_than_or_equal(self, term: Any, literal: Literal[Any]) -> Test:
        value = literal.value
        return _with_bound(self._range(term), "upper", lambda upper: upper >= value)

    def visit_equal(self, term: Any, literal: Literal[Any]) -> Test:
        return self._any_within(term, (literal.value,))

    def visit_in(self, term: Any, literals: set[Any]) -> Test:
        if len(literals) > MAX_LISTED_VALUES:
            empty = self._range(term).empty
            return lambda subject: not empty(subject)
        return self._any_within(term, tuple(literals))

    def _any_within(self, term: Any, values: tuple[Any, ...]) -> Test:
        asked = self._range(term)
        empty, find_lower, find_upper = asked.empty, asked.lower, asked.upper

        def test(subject: Any) -> bool:
            lower, upper = find_lower(subject), find_upper(subject)
            if (lower is None and upper is None) or _is_nan(lower) or _is_nan(upper):
                return not empty(subject)
            return any((lower is None or lower <= v) and (upper is None or v <= upper) for v in values)

        return test

    def visit_not_equal(self, term: Any, literal: Literal[Any]) -> Test:  # noqa: ARG002 - named by the caller
        return _always  # bounds may have been cut off, so that a range of one value cannot be told

    def visit_not_in(self, term: Any, literals: set[Any]) -> Test:  # noqa: ARG002 - named by the caller
        return _always

    def visit_starts_with(self, term: Any, literal: Literal[Any]) -> Test:
        empty, find_lower, find_upper = self._range(term).empty, self._range(term).lower, self._range(term).upper
        prefix, length = literal.value, len(literal.value)

        def test(subject: Any) -> bool:
            lower, upper = find_lower(subject), find_upper(subject)
            if lower is None and upper is None:
                return not empty(subject)
            return (lower is None or lower[:length] <= prefix) and (upper is None or upper[:length] >= prefix)

        return test

    def visit_not_starts_with(self, term: Any, literal: Literal[Any]) -> Test:
        asked = self._range(term)
        prefix = literal.value

        def test(subject: Any) -> bool:
            if not asked.no_nulls(subject):
                return True
            lower, upper = asked.lower(subject), asked.upper(subject)
            return lower is None or upper is None or not (lower.startswith(prefix) and upper.startswith(prefix))

        return test


def _with_bound(asked: _Range, side: str, fulfils: Callable[[Any], bool]) -> Test:
    """Whether there is anything to compare, and its bound on one side, if it is known, fulfils a condition."""
    empty, find = asked.empty, getattr(asked, side)

    def test(subject: Any) -> bool:
        bound = find(subject)
        return not empty(subject) if bound is None or _is_nan(bound) else fulfils(bound)

    return test


def _is_nan(bound: Any) -> bool:
    return bool(bound != bound)  # noqa: PLR0124 - NaN is the one value that does not equal itself


def _always(_: Any) -> bool:
    return True


def _never(_: Any) -> bool:
    return False
