"""Where the columns of a table stand in a file: resolution by field id.

See the section "Column Projection" of the Iceberg specification.

Files without ids are read through the table's name mapping, or by the names of its schema where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.name_mapping import NameMapping
from pyiceberg.types import (
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
)

from icefusion.bridge.schema import FIELD_ID_KEY, arrow_to_iceberg, is_list_like, type_name
from icefusion.errors import StorageError

__all__ = ["ColumnSource", "map_columns"]

Ids = dict[str, int]


@dataclass(frozen=True)
class ColumnSource:
    """Where one column of the table comes from in files of one shape.

    Attributes:
        column: The column of the table.
        name: Its name in the files; None where they lack it.
        physical_type: For a nested column whose parts bear other names, or other parts under the same names: the type
            to read it as, with the field ids of its parts. None where the table's own type can be read by name.
    """

    column: NestedField
    name: str | None
    physical_type: IcebergType | None = None


def map_columns(schema: Schema, physical: pa.Schema, mapping: NameMapping | None) -> tuple[ColumnSource, ...]:
    """Where each column of the schema comes from in a file of this physical schema.

    Raises:
        StorageError: A nested column is stored as something else.
    """
    by_name = None if any(_has_ids(field) for field in physical) else _ids_by_path(schema, mapping)
    by_id: dict[int, pa.Field] = {}
    for field in physical:
        field_id = _field_id(field, field.name, by_name)
        if field_id is not None:
            by_id.setdefault(field_id, field)
    return tuple(_source(column, by_id.get(column.field_id), by_name) for column in schema.fields)


def _source(column: NestedField, field: pa.Field | None, by_name: Ids | None) -> ColumnSource:
    if field is None:
        return ColumnSource(column, None)
    if isinstance(column.field_type, PrimitiveType):
        if pa.types.is_nested(field.type):
            raise _mismatch(column.name, field.type, column.field_type)
        return ColumnSource(column, field.name)
    physical_type, same = _nested(field.type, column.field_type, field.name, by_name)
    return ColumnSource(column, field.name, None if same else physical_type)


def _nested(
    arrow: pa.DataType, target: IcebergType, path: str, by_name: Ids | None, *, in_map: bool = False
) -> tuple[IcebergType, bool]:
    """The type to read a part of a file as, and whether the target type can be read by name in its place.

    The scan finds the parts of structs by name and promotes leaves, so leaves take the target's type and parts that
    are not wanted are left out. Not so below a map: there it takes every part as it is stored.
    """
    if isinstance(target, PrimitiveType):
        if pa.types.is_nested(arrow):
            raise _mismatch(path, arrow, target)
        read_as = _stored_type(arrow) if in_map else target
        return read_as, read_as == target
    if isinstance(target, StructType) and pa.types.is_struct(arrow):
        return _nested_struct(arrow, target, path, by_name, in_map=in_map)
    if isinstance(target, ListType) and is_list_like(arrow):
        element_path = f"{path}.element"
        element, same = _nested(arrow.value_type, target.element_type, element_path, by_name, in_map=in_map)
        return ListType(element_id=target.element_id, element=element, element_required=False), same
    if isinstance(target, MapType) and pa.types.is_map(arrow):
        key, same_key = _nested(arrow.key_type, target.key_type, f"{path}.key", by_name, in_map=True)
        value, same_value = _nested(arrow.item_type, target.value_type, f"{path}.value", by_name, in_map=True)
        read_map = MapType(
            key_id=target.key_id, key_type=key, value_id=target.value_id, value_type=value, value_required=False
        )
        return read_map, same_key and same_value
    raise _mismatch(path, arrow, target)


def _nested_struct(
    arrow: pa.StructType, target: StructType, path: str, by_name: Ids | None, *, in_map: bool
) -> tuple[StructType, bool]:
    children = [arrow.field(index) for index in range(arrow.num_fields)]
    wanted = {field.field_id: field for field in target.fields}
    read_as: list[NestedField] = []
    same = True
    for index, child in enumerate(children):
        child_path = f"{path}.{child.name}"
        field_id = _field_id(child, child_path, by_name)
        field = None if field_id is None else wanted.pop(field_id, None)
        if field is None:
            if in_map:
                read_as.append(NestedField(-1 - index, child.name, _stored_type(child.type)))
            continue
        child_type, child_same = _nested(child.type, field.field_type, child_path, by_name, in_map=in_map)
        read_as.append(NestedField(field.field_id, child.name, child_type))
        same = same and child_same and child.name == field.name
    names = [child.name for child in children]
    for missing in wanted.values():
        same = same and missing.initial_default is None and missing.name not in names
    if not read_as and children:
        # Something has to be read to tell which of the structs are NULL.
        return StructType(NestedField(-1, children[0].name, _stored_type(children[0].type))), False
    if in_map:
        same = same and names == [field.name for field in target.fields]
    return StructType(*read_as), same


def _stored_type(arrow: pa.DataType) -> IcebergType:
    return arrow_to_iceberg(pa.schema([pa.field("part", arrow)])).fields[0].field_type


def _ids_by_path(schema: Schema, mapping: NameMapping | None) -> Ids:
    """The field id of each dotted path of a file without ids, in the file's own names."""
    if mapping is None:
        return dict(schema._name_to_id)
    return dict(_mapped_paths(mapping))


def _mapped_paths(mapping: NameMapping) -> dict[str, int]:
    return {path: field.field_id for path, field in mapping._field_by_name.items() if field.field_id is not None}


def _has_ids(field: pa.Field) -> bool:
    if field.metadata and FIELD_ID_KEY in field.metadata:
        return True
    return any(_has_ids(field.type.field(index)) for index in range(field.type.num_fields))


def _field_id(field: pa.Field, path: str, by_name: Ids | None) -> int | None:
    if by_name is not None:
        return by_name.get(path)
    found = (field.metadata or {}).get(FIELD_ID_KEY)
    return None if found is None else int(found)


def _mismatch(path: str, arrow: pa.DataType, target: IcebergType) -> StorageError:
    return StorageError(f"column {path} is {arrow} in a data file, which cannot be read as {type_name(target)}")
