"""How single columns are read: as which Arrow types, and by which expressions.

A group of files has its columns under other names, in older types, or not at all (see `icefusion.query.mapping`); what
stands here turns one of them into the column that a query sees.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from datafusion import Expr, col, lit, udf
from pyiceberg.types import IcebergType, NestedField, UUIDType

from icefusion.bridge.reshape import relabel, restamp
from icefusion.bridge.schema import type_to_arrow
from icefusion.naming import quote_identifier
from icefusion.query.mapping import ColumnSource

__all__ = ["constant", "named", "quoted", "read_type", "relabelled", "scan_field"]

_VIEWS = {pa.string(): pa.string_view(), pa.binary(): pa.binary_view()}
UUID_METADATA = {"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""}


def scan_field(source: ColumnSource, taken: set[str]) -> pa.Field:
    """The column as the scan declares it; a missing one under a name that the file does not have, so it reads NULL."""
    column = source.column
    name = source.name
    if name is None:
        name = f"?{column.field_id}"
        while name in taken:
            name = "?" + name
    read_as = column.field_type if source.physical_type is None else source.physical_type
    return pa.field(name, read_type(read_as, column.name))


def read_type(iceberg_type: IcebergType, column: str) -> pa.DataType:
    """The Arrow type to read as: nullable at every depth, because a required part may be younger than the file.

    Text is read as views, which DataFusion groups, compares and filters without copying; results are plain again.
    """
    arrow_type = _relaxed(type_to_arrow(iceberg_type, field_ids=False, column=column))
    return _VIEWS.get(arrow_type, arrow_type)


def _relaxed(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(arrow_type):
        return pa.struct([_relaxed_field(arrow_type.field(index)) for index in range(arrow_type.num_fields)])
    if pa.types.is_list(arrow_type):
        return pa.list_(_relaxed_field(arrow_type.value_field))
    if pa.types.is_map(arrow_type):
        key = arrow_type.key_field
        return pa.map_(pa.field(key.name, _relaxed(key.type), nullable=False), _relaxed_field(arrow_type.item_field))
    return arrow_type


def _relaxed_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _relaxed(field.type))


def quoted(name: str) -> Expr:
    """The column of exactly this name."""
    return col(quote_identifier(name))


def named(expr: Expr, column: NestedField) -> Expr:
    """The expression under the column's name, and marked as what Arrow cannot tell from its type."""
    if isinstance(column.field_type, UUIDType):
        return expr.alias(column.name, UUID_METADATA)
    return expr.alias(column.name)


def constant(value: Any, column: NestedField) -> Expr:
    """A literal of the column's Arrow type; `value` is in Iceberg's own representation (days, microseconds, ...)."""
    arrow_type = read_type(column.field_type, column.name)
    if isinstance(column.field_type, UUIDType):
        arrow_type = pa.binary(16)
        value = getattr(value, "bytes", value)
    if isinstance(value, int) and not isinstance(value, bool) and not pa.types.is_integer(arrow_type):
        if pa.types.is_date32(arrow_type):
            return lit(pa.scalar(value, pa.int32()).cast(arrow_type))
        if pa.types.is_temporal(arrow_type):
            return lit(pa.scalar(value, pa.int64()).cast(arrow_type))
    return lit(pa.scalar(value, arrow_type))


def relabelled(expr: Expr, source: ColumnSource) -> Expr:
    """A nested column of older files in the table's present nested type."""
    column, physical = source.column, source.physical_type
    assert physical is not None  # the caller asks only for those
    stored, present = read_type(physical, column.name), read_type(column.field_type, column.name)

    def to_present(values: pa.Array) -> pa.Array:
        return restamp(relabel(values, physical, column.field_type), present)

    function = udf(to_present, [stored], present, "immutable", f"icefusion_relabel_{column.field_id}_{id(source)}")
    return function(expr)
