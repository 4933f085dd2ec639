"""SHOW CREATE TABLE: a table as the statement that makes one like it.

Schema, NOT NULL, comments, the default partition spec and sort order, identifier fields and properties are all in it.
Ids, older schemas and specs, snapshots, branches and tags have no words in the statement. The location is in it where
the table lies elsewhere than the catalog would put it: two tables should not come to share a folder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import (
    DateType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    StructType,
    TimestampType,
)

from icefusion.bridge.partition import sort_order_to_sql, spec_to_sql
from icefusion.bridge.schema import sql_name, type_name

__all__ = ["create_table_text", "quoted_properties", "quoted_string", "table_name"]

# Kept by the table, and not a choice of whoever made it.
_OWN_PROPERTIES = ("icefusion.idempotency-keys",)


def create_table_text(identifier: tuple[str, ...], metadata: TableMetadata, *, usual_location: str | None) -> str:
    """The statement.

    Args:
        identifier: The table's name.
        metadata: The table.
        usual_location: Where the catalog would put a table of this name; None where that is not known.
    """
    schema = metadata.schema()
    lines = [f"  {_column(field)}" for field in schema.fields]
    if schema.identifier_field_ids:
        lines.append(f"  PRIMARY KEY ({_identifier_columns(schema)}) NOT ENFORCED")
    text = f"CREATE TABLE {table_name(identifier)} (\n" + ",\n".join(lines) + "\n)"
    if partitioning := spec_to_sql(metadata.spec(), schema):
        text += f"\nPARTITIONED BY ({partitioning})"
    order = metadata.sort_order_by_id(metadata.default_sort_order_id) or UNSORTED_SORT_ORDER
    if ordering := sort_order_to_sql(order, schema):
        text += f"\nORDER BY ({ordering})"
    if metadata.location.rstrip("/") != (usual_location or metadata.location).rstrip("/"):
        text += f"\nLOCATION {quoted_string(metadata.location)}"
    properties = {key: value for key, value in metadata.properties.items() if key not in _OWN_PROPERTIES}
    if (comment := properties.pop("comment", None)) is not None:
        text += f"\nCOMMENT {quoted_string(comment)}"
    if metadata.format_version != 2:
        properties["format-version"] = str(metadata.format_version)
    return text + quoted_properties(properties)


def table_name(identifier: tuple[str, ...]) -> str:
    """A table's name as SQL."""
    return ".".join(sql_name(part) for part in identifier)


def quoted_properties(properties: Mapping[str, str]) -> str:
    """The clause TBLPROPERTIES on lines of its own; empty where there are none."""
    if not properties:
        return ""
    pairs = (f"  {quoted_string(key)} = {quoted_string(value)}" for key, value in sorted(properties.items()))
    return "\nTBLPROPERTIES (\n" + ",\n".join(pairs) + "\n)"


def _identifier_columns(schema: Schema) -> str:
    paths = [schema.find_column_name(field_id) or "" for field_id in sorted(schema.identifier_field_ids)]
    return ", ".join(".".join(sql_name(part) for part in path.split(".")) for path in paths)


def _column(field: NestedField) -> str:
    text = f"{sql_name(field.name)} {_type(field.field_type)}"
    if field.required:
        text += " NOT NULL"
    if (default := _literal(field.write_default, field.field_type)) is not None:
        text += f" DEFAULT {default}"
    if field.doc is not None:
        text += f" COMMENT {quoted_string(field.doc)}"
    return text


def _type(kind: IcebergType) -> str:
    """A type as `type_name` spells it, with the comments of its parts."""
    match kind:
        case StructType():
            return f"struct<{', '.join(_part(field) for field in kind.fields)}>"
        case ListType():
            return f"list<{_type(kind.element_type)}{_not_null(kind.element_required)}>"
        case MapType():
            return f"map<{_type(kind.key_type)}, {_type(kind.value_type)}{_not_null(kind.value_required)}>"
    return type_name(kind)


def _part(field: NestedField) -> str:
    comment = f" COMMENT {quoted_string(field.doc)}" if field.doc is not None else ""
    return f"{sql_name(field.name)}: {_type(field.field_type)}{_not_null(field.required)}{comment}"


def _not_null(required: bool) -> str:
    return " not null" if required else ""


def quoted_string(text: str) -> str:
    """A text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _literal(value: Any, kind: IcebergType) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).upper()
        case int() if isinstance(kind, DateType):
            return f"DATE '{dt.date(1970, 1, 1) + dt.timedelta(days=value)}'"
        case int() if isinstance(kind, TimestampType):
            return f"TIMESTAMP '{dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)}'"
        case int() | float() | Decimal():
            return str(value)
    return quoted_string(str(value))
