"""Python values -> typed scalars for the parameters of a query. Values are bound, never pasted into the text."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from icefusion.errors import BindError
from icefusion.naming import nearest
from icefusion.sql.statements import Query

__all__ = ["Parameters", "bind_parameters", "bind_values", "to_scalar"]

Parameters = Sequence[Any] | Mapping[str, Any] | None

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_DECIMAL_PRECISION = 38


def bind_parameters(query: Query, params: Parameters) -> dict[str, pa.Scalar]:
    """The values of a query's parameters as typed scalars, by the parameter's name without ``$``.

    Args:
        query: The query; its `parameters` say what is asked for.
        params: A sequence for ``?``, ``$1``, ``$2``..., or a mapping for ``$name``; None where there are none.

    Raises:
        BindError: A parameter has no value, a value has no parameter, or a value is of a type that SQL does not know.
    """
    return bind_values(query.parameters, params)


def bind_values(asked: Sequence[str], params: Parameters) -> dict[str, pa.Scalar]:
    """The values of some parameters as typed scalars; as `bind_parameters`, for whatever asks for them.

    Raises:
        BindError: As there.
    """
    given = _by_name(params)
    missing = [name for name in asked if name not in given]
    unused = [name for name in given if name not in asked]
    if missing:
        raise BindError(
            f"no value for parameter{'s' if len(missing) > 1 else ''} {_listed(missing)}",
            hint=_hint_for_missing(missing, unused, params),
        )
    if unused:
        has = f"it has {_listed(asked)}" if asked else "it has none"
        raise BindError(f"the statement has no parameter {_listed(unused)}; {has}", hint="leave the value out")
    return {name: to_scalar(name, given[name]) for name in asked}


def to_scalar(name: str, value: Any) -> pa.Scalar:
    """A Python, numpy or Arrow value as an Arrow scalar of the type that it has in SQL.

    Integers are bigint, or decimal(38, 0) beyond its range; naive datetimes are timestamp, aware ones timestamptz in
    UTC; UUIDs are their 16 bytes. None is NULL.

    Raises:
        BindError: SQL has no such type, or the value does not fit it; the message names the parameter.
    """
    try:
        scalar = _convert(value)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as exc:
        raise BindError(f"parameter ${name}: {value!r} cannot be bound: {exc}") from exc
    if scalar is None:
        raise BindError(
            f"parameter ${name}: a value of type {type(value).__name__} cannot be bound",
            hint="pass a number, text, bytes, bool, date, time, UUID, a list of them, or a pyarrow scalar",
        )
    return scalar


def _by_name(params: Parameters) -> dict[str, Any]:
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return {str(name).removeprefix("$"): value for name, value in params.items()}
    if isinstance(params, str | bytes) or not isinstance(params, Sequence):
        raise BindError(
            f"parameters came as {type(params).__name__}", hint="pass a list for ? and $1, a dict for $name"
        )
    return {str(position): value for position, value in enumerate(params, start=1)}


def _hint_for_missing(missing: Sequence[str], unused: Sequence[str], params: Parameters) -> str:
    near = nearest(missing[0], unused)
    if near is not None and isinstance(params, Mapping):
        return f"did you mean ${missing[0]} by {near!r}?"
    return "pass params=[...] for ? and $1, params={...} for $name"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"${name}" for name in names)


def _convert(value: Any) -> pa.Scalar | None:
    match value:
        case pa.Scalar():
            return value
        case None:
            return pa.scalar(None, pa.null())
        case np.generic():
            return _convert_numpy(value)
        case bool():
            return pa.scalar(value, pa.bool_())
        case int():
            return pa.scalar(value, pa.int64()) if INT64_MIN <= value <= INT64_MAX else _decimal(Decimal(value))
        case float():
            return pa.scalar(value, pa.float64())
        case str():
            return pa.scalar(value, pa.string())
        case bytes() | bytearray() | memoryview():
            return pa.scalar(bytes(value), pa.binary())
        case Decimal():
            return _decimal(value)
        case dt.datetime():
            return _timestamp(value)
        case dt.date():
            return pa.scalar(value, pa.date32())
        case dt.time():
            if value.tzinfo is not None:
                raise ValueError("a time of day has no zone in SQL")
            return pa.scalar(value, pa.time64("us"))
        case dt.timedelta():
            return pa.scalar(value, pa.duration("us"))
        case uuid.UUID():
            return pa.scalar(value.bytes, pa.binary(16))
        case list() | tuple() | np.ndarray():
            return _list(value)
    return None


def _convert_numpy(value: np.generic) -> pa.Scalar | None:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return pa.array(np.array([value]))[0]
    return _convert(value.item())


def _decimal(value: Decimal) -> pa.Scalar:
    if not value.is_finite():
        raise ValueError("a decimal is a finite number")
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # it is finite
    scale = max(0, -exponent)
    precision = max(len(digits) + max(0, exponent), scale, 1)
    if precision > MAX_DECIMAL_PRECISION:
        raise ValueError(f"it has {precision} digits, a decimal holds {MAX_DECIMAL_PRECISION}")
    # Whole numbers beyond bigint get the full width, so that equal queries have equal types.
    return pa.scalar(value, pa.decimal128(precision if scale else MAX_DECIMAL_PRECISION, scale))


def _timestamp(value: dt.datetime) -> pa.Scalar:
    if value.tzinfo is None:
        return pa.scalar(value, pa.timestamp("us"))
    return pa.scalar(value.astimezone(dt.UTC), pa.timestamp("us", tz="UTC"))


def _list(values: Sequence[Any] | np.ndarray[Any, Any]) -> pa.Scalar:
    items = [_convert(item) for item in values]
    if any(item is None for item in items):
        raise ValueError("an item has a type that SQL does not know")
    scalars = [item for item in items if item is not None]
    types = {item.type for item in scalars if item.is_valid}
    if len(types) > 1:
        return _mixed_list(values, types)
    item_type = next(iter(types), pa.null())
    return pa.scalar([item.as_py() for item in scalars], pa.list_(item_type))


def _mixed_list(values: Sequence[Any] | np.ndarray[Any, Any], types: set[pa.DataType]) -> pa.Scalar:
    """Numbers of several types in one list: decimals to the widest of them, others as pyarrow unites them."""
    if all(pa.types.is_decimal(item_type) for item_type in types):
        scale = max(item_type.scale for item_type in types)
        return pa.scalar(list(values), pa.list_(pa.decimal128(MAX_DECIMAL_PRECISION, scale)))
    return pa.scalar(list(values))
