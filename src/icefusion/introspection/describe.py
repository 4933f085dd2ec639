"""DESCRIBE: tables, columns, namespaces and queries, in the rows that Spark gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import pyarrow as pa

from icefusion.bridge.partition import spec_to_sql
from icefusion.bridge.schema import arrow_to_iceberg, type_name
from icefusion.errors import SchemaError
from icefusion.introspection.subjects import Described, column_type, find_column
from icefusion.query.inspect.of_metadata import shown_properties
from icefusion.sql.statements import Identifier

__all__ = ["describe_column", "describe_namespace", "describe_schema", "describe_table"]

Row = tuple[str, str, str | None]

_EMPTY: Row = ("", "", "")
_SCHEMA = pa.schema([("col_name", pa.string()), ("data_type", pa.string()), ("comment", pa.string())])
_INFO = pa.schema([("info_name", pa.string()), ("info_value", pa.string())])


def describe_table(described: Described, *, extended: bool) -> pa.Table:
    """The columns, the partitioning and, if all is wanted, everything else in words."""
    rows: list[Row] = [(field.name, column_type(field), field.doc) for field in described.columns.fields]
    if described.handle is not None:
        metadata = described.handle.metadata
        spec = metadata.spec()
        terms = [spec_to_sql(spec.model_copy(update={"fields": (field,)}), described.columns) for field in spec.fields]
        if terms := [term for term in terms if term]:
            rows += [_EMPTY, ("# Partitioning", "", "")]
            rows += [(f"Part {number}", term, "") for number, term in enumerate(terms)]
        if extended:
            rows += [_EMPTY, ("# Detailed Table Information", "", ""), *_details(described)]
    return _table(rows, _SCHEMA)


def _details(described: Described) -> list[Row]:
    assert described.handle is not None  # the caller has looked
    metadata = described.handle.metadata
    properties = dict(metadata.properties)
    shown = shown_properties(metadata)
    details = {
        "Name": described.name,
        "Comment": properties.get("comment"),
        "Location": metadata.location,
        "Provider": "iceberg",
        "Format Version": str(metadata.format_version),
        "Table UUID": str(metadata.table_uuid),
        "Metadata File": described.handle.metadata_location,
        "Last Updated": _time(metadata.last_updated_ms),
        "Current Snapshot": None if described.snapshot_id is None else str(described.snapshot_id),
        "Statistics": _statistics(described),
        "Sort Order": shown.get("sort-order"),
        "Identifier Fields": shown.get("identifier-fields"),
        "Table Properties": _pairs(shown | properties),
    }
    return [(name, value, "") for name, value in details.items() if value]


def _time(timestamp_ms: int) -> str:
    return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")


def _statistics(described: Described) -> str | None:
    """What the snapshot's summary counts."""
    assert described.handle is not None  # the caller has looked
    snapshot = described.handle.metadata.snapshot_by_id(described.snapshot_id) if described.snapshot_id else None
    totals = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    parts = [
        f"{totals[key]} {unit}"
        for key, unit in (
            ("total-records", "rows"),
            ("total-data-files", "data files"),
            ("total-delete-files", "delete files"),
            ("total-files-size", "bytes"),
        )
        if key in totals
    ]
    return ", ".join(parts) or None


def _pairs(properties: Mapping[str, str]) -> str:
    return "[" + ",".join(f"{key}={value}" for key, value in sorted(properties.items())) + "]"


def describe_column(described: Described, path: Sequence[Identifier]) -> pa.Table:
    """One column, or a part of a struct.

    Raises:
        BindError: There is no such column.
    """
    name, field = find_column(described, path)
    return _table([("col_name", name), ("data_type", column_type(field)), ("comment", field.doc)], _INFO)


def describe_namespace(
    catalog: str, namespace: Sequence[str], properties: Mapping[str, str], *, extended: bool
) -> pa.Table:
    """A namespace, and its properties if all is wanted."""
    rows = [("Catalog Name", catalog), ("Namespace Name", ".".join(namespace))]
    own = dict(properties)
    for key in ("comment", "location", "owner"):
        if key in own:
            rows.append((key.capitalize(), own.pop(key)))
    if extended:
        rows.append(("Properties", _pairs(own)))
    return _table(rows, _INFO)


def describe_schema(schema: pa.Schema) -> pa.Table:
    """The columns of a query."""
    return _table([(field.name, _arrow_type_name(field), None) for field in schema], _SCHEMA)


def _arrow_type_name(field: pa.Field) -> str:
    try:
        return type_name(arrow_to_iceberg(pa.schema([field.with_name("column")])).fields[0].field_type)
    except SchemaError:  # a type that no table can have, as of NULL or of an interval
        return str(field.type)


def _table(rows: Sequence[Sequence[str | None]], schema: pa.Schema) -> pa.Table:
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(schema))]
    return pa.Table.from_arrays(columns, schema=schema)
