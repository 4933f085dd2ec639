"""Which types a column may be given later, and what becomes of its defaults then.

The section "Schema Evolution" of the Iceberg specification lists the promotions: values that are stored in the old type
have to be readable in the new one, without being written anew.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    TimestampNanoType,
    TimestampType,
    UnknownType,
)

from icefusion.bridge.schema import MAX_DECIMAL_PRECISION, type_name
from icefusion.errors import SchemaError

__all__ = ["promoted"]


def promoted(field: NestedField, kind: IcebergType, path: str, version: int) -> NestedField:
    """A column of another type.

    Args:
        field: The column as it is.
        kind: The type it is to have.
        path: The column's dotted path, for messages.
        version: The table's format version.

    Raises:
        SchemaError: The specification does not allow this.
    """
    old = field.field_type
    if not _may_become(old, kind, version):
        reason, hint = _refusal(old, kind, path, version)
        raise SchemaError(
            f"column {path} is {type_name(old)} and cannot become {type_name(kind)}: {reason}",
            column=path,
            expected=_allowed(old, version),
            found=type_name(kind),
            hint=hint,
        )
    if isinstance(kind, TimestampNanoType) and (field.initial_default, field.write_default) != (None, None):
        raise SchemaError(
            f"column {path} has a default, and defaults of type {type_name(kind)} cannot be stored yet",
            column=path,
            expected="timestamp",
            found=type_name(kind),
            hint=f"{path} may become timestamp",
        )
    return field.model_copy(
        update={
            "field_type": kind,
            "initial_default": _promoted_default(field.initial_default, old, kind),
            "write_default": _promoted_default(field.write_default, old, kind),
        }
    )


def _may_become(old: IcebergType, new: IcebergType, version: int) -> bool:
    match old, new:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return new.scale == old.scale and new.precision >= old.precision
        case DateType(), TimestampType() | TimestampNanoType():
            return version >= 3
        case UnknownType(), _:
            return version >= 3 and new.is_primitive
    return False


def _allowed(old: IcebergType, version: int) -> str:
    """What a type may become, in words."""
    match old:
        case IntegerType():
            return "bigint"
        case FloatType():
            return "double"
        case DecimalType() if old.precision < MAX_DECIMAL_PRECISION:
            return f"decimal(p, {old.scale}) with p from {old.precision + 1} to {MAX_DECIMAL_PRECISION}"
        case DateType() if version >= 3:
            return "timestamp or timestamp_ns"
        case UnknownType():
            return "any single value"
    return ""


def _refusal(old: IcebergType, new: IcebergType, path: str, version: int) -> tuple[str, str]:
    """Why a type cannot become another, and what to do instead."""
    instead = f"add a column of type {type_name(new)}, fill it with UPDATE and drop {path}"
    if not old.is_primitive:
        return "only single values change their type", f"change the parts of {path} one by one"
    if not new.is_primitive:
        return "single values stay single values", instead
    if isinstance(old, DateType) and isinstance(new, TimestampType | TimestampNanoType):
        return f"that needs a table of format version 3, this one has {version}", instead
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        changed = "a scale stays as it is" if old.scale != new.scale else "a precision can only grow"
        return changed, f"{path} may become {allowed}" if (allowed := _allowed(old, version)) else instead
    if allowed := _allowed(old, version):
        return "values that are stored already could not be read", f"{path} may become {allowed}; or {instead}"
    return "values that are stored already could not be read", instead


def _promoted_default(value: Any, old: IcebergType, new: IcebergType) -> Any:
    """A default as PyIceberg holds those of the new type; it is the same value but for dates."""
    if isinstance(value, dt.date) and isinstance(old, DateType) and isinstance(new, TimestampType):
        return dt.datetime.combine(value, dt.time())
    return value
