"""Arrays as a Parquet reader gives them, in the types that a scan has declared.

What DataFusion's own scan does while it reads: parts of structs are found by name, missing ones are NULL, numbers and
times are widened. Which part belongs to which column was settled before, by field id (`icefusion.query.mapping`).
"""

from __future__ import annotations

import pyarrow as pa

from icefusion.bridge.arrays import list_offsets, map_entries, nulls_of, restamp, validity_of
from icefusion.bridge.schema import is_list_like

__all__ = ["fit"]


def fit(array: pa.Array, wanted: pa.DataType, column: str) -> pa.Array:
    """The values in another type, which differs only as an older file may differ from its table.

    Args:
        array: The values.
        wanted: The type, nullable at every depth.
        column: The column's name, for messages.

    Raises:
        pyarrow.ArrowInvalid: A value has no place in the type.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.type.equals(wanted, check_metadata=True):
        return array
    if pa.types.is_struct(wanted) and pa.types.is_struct(array.type):
        return _fit_struct(array, wanted, column)
    if pa.types.is_list(wanted) and is_list_like(array.type):
        offsets = list_offsets(array, column)
        values = fit(array.flatten(), wanted.value_type, column)
        return pa.Array.from_buffers(wanted, len(array), [validity_of(array), pa.py_buffer(offsets)], children=[values])
    if pa.types.is_map(wanted) and pa.types.is_map(array.type):
        return _fit_map(array, wanted, column)
    return restamp(array, wanted) if array.type == wanted else array.cast(wanted)


def _fit_struct(array: pa.Array, wanted: pa.DataType, column: str) -> pa.Array:
    names = [field.name for field in array.type]
    parts = array.flatten()  # NULL where the struct is
    children = [
        fit(parts[names.index(field.name)], field.type, column)
        if field.name in names
        else nulls_of(len(array), field.type)
        for field in wanted
    ]
    return pa.Array.from_buffers(wanted, len(array), [validity_of(array)], children=children)


def _fit_map(array: pa.Array, wanted: pa.DataType, column: str) -> pa.Array:
    entries = map_entries(array)
    offsets = list_offsets(entries, column)
    keys, values = entries.flatten().flatten()
    parts = [fit(keys, wanted.key_type, column), fit(values, wanted.item_type, column)]
    pairs = pa.Array.from_buffers(wanted.field(0).type, len(keys), [None], children=parts)
    return pa.Array.from_buffers(wanted, len(array), [validity_of(array), pa.py_buffer(offsets)], children=[pairs])
