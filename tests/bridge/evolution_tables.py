"""Table metadata from SQL text, alterations from short words, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil, new_table_metadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

from icefusion.bridge.evolution import alter
from icefusion.bridge.partition import build_sort_order, build_spec
from icefusion.bridge.schema import type_name
from icefusion.bridge.types_sql import build_schema
from icefusion.commit.metadata import apply_updates
from icefusion.sql.alterations import Alteration, ColumnPath
from icefusion.sql.basics import Identifier, SortTerm, TransformTerm, TypeText
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import CreateTable
from icefusion.testing import FakeClock

__all__ = ["altered", "applied", "named", "path", "shape", "sort", "table", "term", "type_text", "with_snapshots"]


def table(
    columns: str,
    partitioned: str = "",
    ordered: str = "",
    *,
    version: int = 2,
    properties: Mapping[str, str] | None = None,
    identifiers: Sequence[str] = (),
) -> TableMetadata:
    """The metadata of a new table."""
    statement = _create(columns, partitioned, ordered)
    schema = build_schema(statement.columns)
    schema = Schema(*schema.fields, identifier_field_ids=[schema.find_field(name).field_id for name in identifiers])
    return new_table_metadata(
        schema,
        build_spec(statement.partitioning, schema),
        build_sort_order(statement.ordering, schema),
        "memory://t",
        {"format-version": str(version), **(properties or {})},
    )


def with_snapshots(metadata: TableMetadata, *ids: int) -> TableMetadata:
    """The table with snapshots on its main branch, one after the other."""
    for snapshot_id in ids:
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            parent_snapshot_id=metadata.current_snapshot_id,
            sequence_number=metadata.last_sequence_number + 1 if metadata.format_version > 1 else None,
            timestamp_ms=1_700_000_000_000 + snapshot_id,
            manifest_list=f"memory://t/{snapshot_id}.avro",
            summary=Summary(Operation.APPEND),
            schema_id=metadata.current_schema_id,
        )
        main = SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id)
        metadata = applied(metadata, (AddSnapshotUpdate(snapshot=snapshot), main))
    return metadata


def applied(metadata: TableMetadata, updates: Sequence[TableUpdate]) -> TableMetadata:
    """The table after updates, read back from the JSON that would be stored."""
    after = apply_updates(metadata, updates, base_location=None, clock=FakeClock())
    if after.format_version < 3:
        return TableMetadataUtil.parse_raw(after.model_dump_json(by_alias=True))
    # PyIceberg does not write such tables' metadata, but what a REST catalog would be sent.
    schemas = [Schema.model_validate_json(schema.model_dump_json(by_alias=True)) for schema in after.schemas]
    return after.model_copy(update={"schemas": schemas})


def altered(metadata: TableMetadata, *actions: Alteration) -> TableMetadata:
    """The table after alterations."""
    return applied(metadata, alter(metadata, actions))


def path(text: str) -> ColumnPath:
    """``a."B".c`` as the parser gives it."""
    return tuple(named(part) for part in re.findall(r'"[^"]*"|[^.]+', text))


def named(text: str) -> Identifier:
    """A name, in double quotes or not."""
    return Identifier(text[1:-1], quoted=True) if text.startswith('"') else Identifier(text)


def type_text(text: str) -> TypeText:
    """A type as the parser gives it."""
    return _create(f"c {text}").columns[0].type


def term(text: str) -> TransformTerm:
    """A partition transform as the parser gives it."""
    return _create("c int", text).partitioning[0]


def sort(text: str) -> tuple[SortTerm, ...]:
    """A sort order as the parser gives it."""
    return _create("c int", ordered=text).ordering


def shape(metadata: TableMetadata) -> list[str]:
    """The columns: id, name and type, and NOT NULL where it holds."""
    return [
        f"{field.field_id} {field.name} {type_name(field.field_type)}{' not null' * field.required}"
        for field in metadata.schema().fields
    ]


def _create(columns: str, partitioned: str = "", ordered: str = "") -> CreateTable:
    clauses = f"PARTITIONED BY ({partitioned})" * bool(partitioned) + f" ORDERED BY ({ordered})" * bool(ordered)
    statement = parse_statement(f"CREATE TABLE t ({columns}) {clauses}")
    assert isinstance(statement, CreateTable)
    return statement
