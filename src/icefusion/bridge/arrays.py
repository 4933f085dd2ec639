"""Arrow arrays taken apart and put together: offsets, validity bits, types over buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from icefusion.errors import SchemaError

__all__ = [
    "list_offsets",
    "map_entries",
    "nulls_of",
    "restamp",
    "restamp_batch",
    "validity_of",
    "with_nulls_below",
    "without_validity",
    "wrap_storage",
]


def restamp(array: pa.Array, arrow: pa.DataType) -> pa.Array:
    """The same buffers under another type of the same layout: other names, ids and nullability inside."""
    if array.type.equals(arrow, check_metadata=True):
        return array
    return pa.array(_Stamped(array, arrow))


def restamp_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same buffers under another schema of the same layout."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    return pa.record_batch(_Stamped(batch, schema))


def map_entries(array: pa.Array) -> pa.Array:
    """A map array as the list of structs that it is in memory."""
    pairs = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
    buffers = array.buffers()[:2]
    return pa.Array.from_buffers(pa.list_(pairs.type), len(array), buffers, offset=array.offset, children=[pairs])


def list_offsets(array: pa.Array, path: str) -> npt.NDArray[np.int32]:
    """The offsets of an array of lists into its `flatten()`, from 0, with NULL lists empty."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise SchemaError(
            f"column {path}: one batch holds {offsets[-1]} list elements, more than a list of 32 bit offsets can",
            column=path,
            hint="write smaller batches",
        )
    return offsets.astype(np.int32)


def validity_of(array: pa.Array) -> pa.Buffer | None:
    """The validity bits of an array, moved to begin at bit 0; None where nothing is NULL."""
    if not array.null_count:
        return None
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def without_validity(array: pa.Array) -> pa.Array:
    """The same slots, all of them valid: Parquet takes no NULL in a required field, not even below a NULL parent."""
    if not array.null_count:
        return array
    arrow = array.type
    buffers = [None, *array.buffers()[1:]]
    if isinstance(arrow, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(arrow, without_validity(array.storage))
    if pa.types.is_struct(arrow):
        children = [array.field(i) for i in range(arrow.num_fields)]
        return pa.Array.from_buffers(arrow, len(array), [None], children=children)
    if pa.types.is_map(arrow):
        keys, values = array.keys, array.items
        pairs = pa.Array.from_buffers(arrow.field(0).type, len(keys), [None], children=[keys, values])
        return pa.Array.from_buffers(arrow, len(array), buffers[:2], offset=array.offset, children=[pairs])
    if pa.types.is_list(arrow):
        return pa.Array.from_buffers(arrow, len(array), buffers[:2], offset=array.offset, children=[array.values])
    return pa.Array.from_buffers(arrow, len(array), buffers, offset=array.offset)


def nulls_of(length: int, arrow: pa.DataType) -> pa.Array:
    """NULLs of a type; below a NULL struct, required fields hold something, for the reason that is given above."""
    if not pa.types.is_struct(arrow):
        return pa.nulls(length, arrow)
    fields = [arrow.field(i) for i in range(arrow.num_fields)]
    children = [nulls_of(length, field.type) for field in fields]
    children = [c if field.nullable else without_validity(c) for field, c in zip(fields, children, strict=True)]
    return pa.Array.from_buffers(arrow, length, [pa.py_buffer(bytes((length + 7) // 8))], children=children)


def with_nulls_below(array: pa.Array) -> pa.Array:
    """The same values, all fields of structs optional, and NULL wherever the struct is.

    The engine takes a field out of a struct as it stands, without a look at the struct.
    """
    arrow = array.type
    if pa.types.is_struct(arrow):
        children = [with_nulls_below(child) for child in array.flatten()]
        fields = [pa.field(arrow.field(i).name, child.type) for i, child in enumerate(children)]
        return pa.Array.from_buffers(pa.struct(fields), len(array), [validity_of(array)], children=children)
    if pa.types.is_list(arrow):
        values = with_nulls_below(array.values)
        buffers = array.buffers()[:2]
        return pa.Array.from_buffers(pa.list_(values.type), len(array), buffers, offset=array.offset, children=[values])
    return array


def wrap_storage(array: pa.Array, arrow: pa.DataType) -> pa.Array:
    """An array of an extension type's storage as the extension type; any other array as it is."""
    return pa.ExtensionArray.from_storage(arrow, array) if isinstance(arrow, pa.BaseExtensionType) else array


class _Stamped:
    """An array or batch that offers itself under another schema, by the Arrow PyCapsule interface."""

    def __init__(self, data: Any, schema: Any) -> None:
        self.data = data
        self.schema = schema

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self.schema.__arrow_c_schema__(), self.data.__arrow_c_array__()[1]
