"""Whether a Parquet file that is there already can be read as rows of a table, and which of its columns is which.

A file of Iceberg's own writers says the field ids of its columns; others are read through the table's name mapping, or
by name where it has none, which is what the mapping will say that the table then gets. What a file holds has to be
stored as the specification's "Parquet" appendix has it for the column's type, or for a type that may become it: then
every engine reads it, and reads the same. Anything else is refused, column by column, and so is a column of the file
that the table lacks: nothing that is in a file should become invisible by adopting it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import NameMapping
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from icefusion.bridge.evolution.following import NAME_MAPPING
from icefusion.bridge.schema import FIELD_ID_KEY, is_list_like, type_name
from icefusion.errors import SchemaError
from icefusion.naming import nearest
from icefusion.write.columns import LeafColumn

__all__ = ["Fitted", "fit"]

_INSERT = "INSERT INTO ... SELECT ... FROM read_parquet('...') writes its rows anew, in the types of the table"


@dataclass
class Fitted:
    """A file's columns in terms of a table's.

    Attributes:
        leaves: For each column chunk of a row group, in order, the table's column; None for one that the table has had
            and dropped.
        unbounded: Field ids of leaves whose statistics are not in the units of the table's column.
        unsure: Required columns that may hold NULL in the file: their dotted paths in it, by field id.
        missing: Required columns that it lacks: their dotted paths, by field id.
        has_ids: Whether the file says field ids.
        found: The ids of all fields that it holds.
    """

    leaves: list[LeafColumn | None] = field(default_factory=list)
    unbounded: set[int] = field(default_factory=set)
    unsure: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    has_ids: bool = False
    found: set[int] = field(default_factory=set)


def fit(location: str, footer: pq.FileMetaData, metadata: TableMetadata, mapping: NameMapping | None) -> Fitted:
    """The columns of a file in terms of a table's.

    Args:
        location: The file, for messages.
        footer: Its footer.
        metadata: The table.
        mapping: The table's name mapping, or the one that it is to get.

    Raises:
        SchemaError: It does not hold rows of this table.
    """
    arrow = footer.schema.to_arrow_schema()
    walk = _Walk(location, footer, metadata, mapping, any(_has_ids(each) for each in arrow))
    fields = [arrow.field(index) for index in range(len(arrow.names))]
    walk.fields(fields, metadata.schema().fields, "")
    return walk.fitted


class _Walk:
    """One pass over the columns of a file, in the order of its column chunks."""

    def __init__(
        self,
        location: str,
        footer: pq.FileMetaData,
        metadata: TableMetadata,
        mapping: NameMapping | None,
        has_ids: bool,
    ) -> None:
        self.fitted = Fitted(has_ids=has_ids)
        self._location = location
        self._schema = metadata.schema()
        self._names = dict(_names_by_id(metadata))
        self._chunks = (footer.schema.column(position) for position in range(footer.num_columns))
        self._by_path = None if has_ids else _ids_by_path(self._schema, mapping)

    def fields(
        self, stored: list[pa.Field], wanted: tuple[NestedField, ...], path: str, top: int | None = None
    ) -> None:
        """The columns of the file, or of a struct in it."""
        by_id = {column.field_id: column for column in wanted}
        seen: set[int] = set()
        for number, part in enumerate(stored):
            part_path = f"{path}.{part.name}" if path else part.name
            field_id = self._id_of(part, part_path)
            column = by_id.get(field_id) if field_id is not None else None
            if column is None or field_id is None:
                self._strange(part, part_path, field_id, wanted)
                continue
            if field_id in seen:
                raise self._refused(part_path, "is there twice")
            seen.add(field_id)
            self._one(part, column, part_path, number if top is None else top)
        for column in wanted:
            if column.field_id not in seen and column.required and column.initial_default is None:
                self.fitted.missing[column.field_id] = f"{path}.{column.name}" if path else column.name

    def _one(self, stored: pa.Field, column: NestedField, path: str, top: int) -> None:
        self.fitted.found.add(column.field_id)
        if column.required and stored.nullable:
            self.fitted.unsure[column.field_id] = path
        arrow, kind = _storage(stored.type), column.field_type
        match kind:
            case StructType() if pa.types.is_struct(arrow):
                children = [arrow.field(index) for index in range(arrow.num_fields)]
                self.fields(children, kind.fields, path, top)
            case ListType() if is_list_like(arrow):
                self._inner(arrow.value_field, kind.element_field, f"{path}.element", top)
            case MapType() if pa.types.is_map(arrow):
                self._inner(arrow.key_field, kind.key_field, f"{path}.key", top)
                self._inner(arrow.item_field, kind.value_field, f"{path}.value", top)
            case PrimitiveType() if not _is_nested(arrow):
                self._leaf(column, kind, path, top)
            case _:
                raise self._refused(path, f"is {arrow} in it, and {type_name(kind)} in the table")

    def _inner(self, stored: pa.Field, column: NestedField, path: str, top: int) -> None:
        found = self._id_of(stored, path)
        if found != column.field_id:
            says = "no field id" if found is None else f"field id {found}"
            raise self._refused(path, f"has {says}, and {column.field_id} in the table")
        self._one(stored, column, path, top)

    def _leaf(self, column: NestedField, kind: PrimitiveType, path: str, top: int) -> None:
        chunk = next(self._chunks)
        told = _stored_as(chunk)
        problem, in_units = _stores(chunk, kind)
        if problem:
            raise self._refused(path, f"is {told} in it, and {type_name(kind)} in the table")
        if not in_units:
            self.fitted.unbounded.add(column.field_id)
        name = self._schema.find_column_name(column.field_id) or path
        # Values are never taken out by these, so no steps are needed.
        leaf = LeafColumn(column.field_id, name, chunk.path, kind, chunk.max_repetition_level > 0, top, ())
        self.fitted.leaves.append(leaf)

    def _strange(self, stored: pa.Field, path: str, field_id: int | None, wanted: tuple[NestedField, ...]) -> None:
        """A column that is none of those wanted: it may be one that the table has dropped, and must not be another."""
        if field_id is not None and field_id in self._names and self._schema.find_column_name(field_id) is None:
            for _ in range(_leaf_count(stored.type)):
                next(self._chunks)
                self.fitted.leaves.append(None)
            return
        if field_id is not None and self._by_path is None:
            raise self._refused(path, f"has field id {field_id}, which the table does not have there", _OTHER_TABLE)
        if self._by_path is not None and stored.name in {column.name for column in wanted}:
            raise self._refused(
                path,
                f"is not in the table's name mapping ({NAME_MAPPING}), which tells the columns of files without ids",
                f"add the name to the property; or {_INSERT}",
            )
        guess = nearest(stored.name, [column.name for column in wanted])
        hint = f"did you mean {guess}? otherwise " if guess else ""
        raise self._refused(
            path,
            "is not in the table" if self._by_path is not None else "has no field id, and other columns have",
            f"{hint}ALTER TABLE ... ADD COLUMN first; or {_INSERT}",
        )

    def _id_of(self, stored: pa.Field, path: str) -> int | None:
        if self._by_path is not None:
            return self._by_path.get(path)
        found = (stored.metadata or {}).get(FIELD_ID_KEY)
        if found is None:
            return None
        field_id = int(found)
        names = self._names.get(field_id)
        inner = path.rpartition(".")[2]
        if names is not None and stored.name not in names and inner not in ("element", "key", "value"):
            text = f"has field id {field_id}, which is {sorted(names)[0]} in the table"
            raise self._refused(path, text, _OTHER_TABLE)
        return field_id

    def _refused(self, path: str, problem: str, hint: str = _INSERT) -> SchemaError:
        return SchemaError(f"{self._location}: column {path} {problem}", column=path, hint=hint)


_OTHER_TABLE = f"it is a file of another table, whose ids are others; {_INSERT}"


def _names_by_id(metadata: TableMetadata) -> Iterator[tuple[int, set[str]]]:
    """The names that each field of a table has had, by its id."""
    names: dict[int, set[str]] = {}
    for schema in metadata.schemas:
        for field_id in schema.field_ids:
            names.setdefault(field_id, set()).add(schema.find_field(field_id).name)
    return iter(names.items())


def _ids_by_path(schema: Schema, mapping: NameMapping | None) -> Mapping[str, int]:
    if mapping is None:
        return dict(schema._name_to_id)
    return {path: each.field_id for path, each in mapping._field_by_name.items() if each.field_id is not None}


def _has_ids(stored: pa.Field) -> bool:
    if stored.metadata and FIELD_ID_KEY in stored.metadata:
        return True
    arrow = _storage(stored.type)
    return any(_has_ids(arrow.field(index)) for index in range(arrow.num_fields))


def _storage(arrow: pa.DataType) -> pa.DataType:
    """What a type is stored as: a tensor of pyarrow's is a list, for one."""
    while isinstance(arrow, pa.BaseExtensionType):
        arrow = arrow.storage_type
    return arrow


def _is_nested(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_nested(arrow))


def _leaf_count(arrow: pa.DataType) -> int:
    arrow = _storage(arrow)
    if not _is_nested(arrow):
        return 1
    return sum(_leaf_count(arrow.field(index).type) for index in range(arrow.num_fields))


def _stored_as(chunk: pq.ColumnSchema) -> str:
    logical = str(chunk.logical_type)
    return chunk.physical_type.lower() if logical == "None" else f"{chunk.physical_type.lower()} as {logical}"


def _stores(chunk: pq.ColumnSchema, kind: IcebergType) -> tuple[bool, bool]:
    """Whether a column chunk does not hold values of a type, and whether its statistics are in the type's units."""
    physical, logical = chunk.physical_type, chunk.logical_type
    told = logical.type
    match kind:
        case BooleanType():
            fits = physical == "BOOLEAN"
        case IntegerType():
            fits = physical == "INT32" and _signed(logical)
        case LongType():
            fits = physical in ("INT32", "INT64") and _signed(logical)
        case FloatType():
            fits = physical == "FLOAT"
        case DoubleType():
            fits = physical in ("FLOAT", "DOUBLE")
        case DecimalType():
            fits = told == "DECIMAL" and chunk.scale == kind.scale and chunk.precision <= kind.precision
        case DateType():
            fits = told == "DATE"
        case StringType():
            fits = told in ("STRING", "ENUM", "JSON")
        case BinaryType():
            fits = physical == "BYTE_ARRAY" and told == "NONE"
        case FixedType():
            fits = physical == "FIXED_LEN_BYTE_ARRAY" and told == "NONE" and chunk.length == len(kind)
        case UUIDType():
            fits = physical == "FIXED_LEN_BYTE_ARRAY" and told in ("NONE", "UUID") and chunk.length == 16
        case TimeType() | TimestampType() | TimestamptzType() | TimestampNanoType() | TimestamptzNanoType():
            return _stores_time(chunk, kind)
        case _:
            fits = False
    return not fits, True


def _signed(logical: pq.ParquetLogicalType) -> bool:
    text = str(logical).replace(" ", "")
    return logical.type == "NONE" or (logical.type == "INT" and "isSigned=true" in text)


def _stores_time(chunk: pq.ColumnSchema, kind: IcebergType) -> tuple[bool, bool]:
    text = str(chunk.logical_type).replace(" ", "")
    unit = next((unit for unit in ("millis", "micros", "nanos") if f"timeUnit={unit}" in text), None)
    if isinstance(kind, TimeType):
        return chunk.logical_type.type != "TIME" or unit != "micros", True
    if chunk.physical_type == "INT96":  # of older writers; it does not say whether it is about UTC
        return not isinstance(kind, TimestampType | TimestamptzType), False
    zoned = isinstance(kind, TimestamptzType | TimestamptzNanoType)
    if chunk.logical_type.type != "TIMESTAMP" or ("isAdjustedToUTC=true" in text) != zoned:
        return True, False
    if isinstance(kind, TimestampNanoType | TimestamptzNanoType):
        return unit != "nanos", True
    return unit not in ("millis", "micros"), unit == "micros"
