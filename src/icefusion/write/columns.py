"""The leaf columns of a schema, in the order in which a Parquet file holds them.

A Parquet file stores one column chunk for each primitive field, depth first; everything that is said of a column chunk
(its encoding, its statistics) belongs to a field id. `leaf_columns` pairs the two, and `LeafColumn.values` takes the
values of one leaf out of a table without the rows that a null parent hides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.types import ListType, MapType, NestedField, PrimitiveType, StructType

__all__ = ["LeafColumn", "leaf_columns", "top_columns"]

ELEMENT = -1
"""The step from a list to its elements; the steps into a map are its entries (`ELEMENT`), then field 0 or 1."""


@dataclass(frozen=True)
class LeafColumn:
    """One primitive field of a schema.

    Attributes:
        field_id: The field's id.
        name: Its dotted name in the table: ``tags.element``, ``scores.value``.
        path: Its dotted path in a Parquet file: ``tags.list.element``, ``scores.key_value.value``.
        type: Its Iceberg type.
        repeated: Whether it lies in a list or a map, so that a row may hold any number of its values.
        top: Index of the top-level column that holds it.
        steps: The way down from there: a struct's field by its index, a list's elements by `ELEMENT`.
    """

    field_id: int
    name: str
    path: str
    type: PrimitiveType
    repeated: bool
    top: int
    steps: tuple[int, ...]

    def values(self, table: pa.Table) -> Iterator[pa.Array]:
        """The leaf's values, chunk by chunk; null where the leaf or a struct around it is null."""
        for chunk in table.column(self.top).chunks:
            array = chunk
            for step in self.steps:
                array = _elements(array) if step == ELEMENT else pc.struct_field(array, [step])
            yield array.storage if isinstance(array, pa.ExtensionArray) else array


def leaf_columns(schema: Schema) -> tuple[LeafColumn, ...]:
    """The leaf columns of a schema, in Parquet's order."""
    leaves: list[LeafColumn] = []
    for top, field in enumerate(schema.fields):
        leaves.extend(_leaves(schema, field, field.name, top, (), repeated=False))
    return tuple(leaves)


def top_columns(schema: Schema) -> dict[int, str]:
    """The name of the top-level column that holds each leaf, by the leaf's field id."""
    return {leaf.field_id: schema.fields[leaf.top].name for leaf in leaf_columns(schema)}


def _leaves(
    schema: Schema, field: NestedField, path: str, top: int, steps: tuple[int, ...], *, repeated: bool
) -> Iterator[LeafColumn]:
    match field.field_type:
        case StructType(fields=children):
            for position, child in enumerate(children):
                child_path = f"{path}.{child.name}"
                yield from _leaves(schema, child, child_path, top, (*steps, position), repeated=repeated)
        case ListType() as list_type:
            element = list_type.element_field
            yield from _leaves(schema, element, f"{path}.list.element", top, (*steps, ELEMENT), repeated=True)
        case MapType() as map_type:
            for position, child in enumerate((map_type.key_field, map_type.value_field)):
                child_path = f"{path}.key_value.{'value' if position else 'key'}"
                yield from _leaves(schema, child, child_path, top, (*steps, ELEMENT, position), repeated=True)
        case PrimitiveType() as primitive:
            name = schema.find_column_name(field.field_id) or path
            yield LeafColumn(field.field_id, name, path, primitive, repeated, top, steps)


def _elements(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.MapArray):
        # A map has no flatten, and its keys and items are those of the whole array that it is a slice of. The same
        # buffers as a list of entries have both.
        entries = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
        buffers = array.buffers()[:2]
        array = pa.ListArray.from_buffers(
            pa.list_(entries.type), len(array), buffers, offset=array.offset, children=[entries]
        )
    return array.flatten()
