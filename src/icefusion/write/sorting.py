"""Rows in the order that a table's sort order asks for.

Arrow sorts NaN next to null and takes both zeros for equal; Iceberg puts NaN above every value, -0.0 below 0.0, and
lets each field say where its nulls go (specification, "Sorting"). So each key is turned into one without nulls whose
plain ascending or descending order is the right one: a flag for null where there are any, then the values, those of
floating-point keys as integers of the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder

from icefusion.bridge.partition import transform_array
from icefusion.write.columns import leaf_columns

__all__ = ["sort_table", "take_rows"]


def sort_table(table: pa.Table, sort_order: SortOrder, schema: Schema) -> pa.Table:
    """The rows of a table in a sort order; rows with equal keys keep their order."""
    keys: list[pa.Array] = []
    directions: list[str] = []
    for sort_field in sort_order.fields:
        values = _key_values(table, sort_field, schema)
        if values.null_count:
            first = sort_field.null_order == NullOrder.NULLS_FIRST
            keys.append(pc.is_valid(values) if first else pc.is_null(values))
            directions.append("ascending")
        keys.append(_ordered(values))
        directions.append("ascending" if sort_field.direction == SortDirection.ASC else "descending")
    names = [str(i) for i in range(len(keys))]
    indices = pc.sort_indices(
        pa.table(dict(zip(names, keys, strict=True))), sort_keys=list(zip(names, directions, strict=True))
    )
    return take_rows(table, indices.to_numpy())


def take_rows(table: pa.Table, order: npt.NDArray[np.integer[Any]] | None = None) -> pa.Table:
    """The rows of a table in an order, each column in one piece; without an order, in the one they are in.

    Column by column needs the least memory.
    """
    # The system's allocator gives what it is asked for, while Arrow's own maps huge pages, which takes three times as
    # long for memory that is touched once.
    pool = pa.system_memory_pool()
    indices = None if order is None else pa.array(order.astype(np.uint32, copy=False))
    columns = []
    for column in table.columns:
        array = column.combine_chunks(memory_pool=pool)
        columns.append(array if indices is None else pc.take(array, indices, memory_pool=pool))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _key_values(table: pa.Table, sort_field: SortField, schema: Schema) -> pa.ChunkedArray:
    leaf = next(leaf for leaf in leaf_columns(schema) if leaf.field_id == sort_field.source_id)
    source_type = schema.find_type(sort_field.source_id)
    chunks = [transform_array(sort_field.transform, values, source_type) for values in leaf.values(table)]
    return pa.chunked_array(chunks).combine_chunks()


def _ordered(values: pa.Array) -> pa.Array:
    return pa.array(_total_order(values)) if pa.types.is_floating(values.type) else values


def _total_order(values: pa.Array) -> npt.NDArray[np.signedinteger]:
    """Floating-point numbers -> integers of the same order, with every NaN last and -0.0 before 0.0."""
    numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    integer = np.int32 if numbers.dtype == np.float32 else np.int64
    numbers = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)
    bits: npt.NDArray[np.signedinteger] = numbers.view(integer)
    # The bits of negative numbers count up as the numbers go down: turn all of them around but the sign.
    return np.asarray(np.where(bits < 0, bits ^ np.iinfo(integer).max, bits))
