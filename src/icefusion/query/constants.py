"""Expressions over no table, as values: the times of time travel, the arguments of procedures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from icefusion.errors import BindError, ExecutionError, IcefusionError
from icefusion.query.planned import PlannedQuery
from icefusion.query.travel import TIME_HINT, read_time, read_version
from icefusion.sql.compose import compose
from icefusion.sql.literals import exact_literals
from icefusion.sql.statements import ComputedAsOf, Fragment, Query, TimeAsOf, VersionAsOf

__all__ = ["compute_version", "constant"]

# A plain CAST goes through nanoseconds, which end in the year 2262.
_TO_TIME = Query("""SELECT arrow_cast($1, 'Timestamp(Microsecond, Some("UTC"))')""", parameters=("1",))


class Planner(Protocol):
    """Plans queries; the engine is one."""

    def plan(self, query: Query, bindings: tuple[()], parameters: Mapping[str, pa.Scalar]) -> PlannedQuery:
        """Plan a query of no table."""
        ...


def constant(engine: Planner, value: Fragment, parameters: Mapping[str, pa.Scalar]) -> pa.Scalar:
    """The value of an expression, computed once, in UTC.

    Args:
        engine: Computes it.
        value: The expression.
        parameters: Values for the parameters of its statement; those of others are left aside.

    Raises:
        BindError: It names a column or a function that is not there, or cannot be computed.
    """
    query = exact_literals(compose("SELECT ", value))
    used = {name: parameters[name] for name in value.parameters}
    try:
        planned = engine.plan(query, (), used)
        rows = pa.Table.from_batches(planned.stream(), planned.schema)
    except ExecutionError as error:
        raise BindError(error.message, sql=value.sql or None, offset=value.offset, hint=error.hint) from error
    if rows.num_rows != 1 or rows.num_columns != 1:
        raise BindError("expected one value", sql=value.sql or None, offset=value.offset)
    return rows.column(0)[0]


def compute_version(
    engine: Planner, version: ComputedAsOf, parameters: Mapping[str, pa.Scalar]
) -> VersionAsOf | TimeAsOf | None:
    """The version that a parameter names, or the time that an expression gives; None where it may be NULL, and is.

    Raises:
        BindError: It cannot be computed, or is no version and no time.
    """
    value = constant(engine, version.value, parameters)
    try:
        if version.kind == "state":
            if not value.is_valid:
                return None
            is_version = pa.types.is_integer(value.type) or pa.types.is_string(value.type)
            return replace(read_version(value) if is_version else read_time(value), offset=version.value.offset)
        if version.kind == "version":
            return replace(read_version(value), offset=version.value.offset)
        if pa.types.is_string(value.type) or pa.types.is_large_string(value.type):
            value = _parse_time(engine, value)
        return replace(read_time(value), offset=version.value.offset)
    except BindError as error:
        place = version.value
        raise BindError(error.message, sql=place.sql or None, offset=place.offset, hint=error.hint) from error


def _parse_time(engine: Planner, text: pa.Scalar) -> pa.Scalar:
    if not text.is_valid:
        return text
    try:
        planned = engine.plan(_TO_TIME, (), {"1": text})
        return pa.Table.from_batches(planned.stream(), planned.schema).column(0)[0]
    except IcefusionError as error:
        raise BindError(f"{text.as_py()!r} is no time", hint=TIME_HINT) from error
