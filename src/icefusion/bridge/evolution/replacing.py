"""CREATE OR REPLACE TABLE: another definition for a table that keeps its identity and its history."""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import parse_mapping_from_json, update_mapping
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    RemoveSnapshotRefUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import NestedField, StructType

from icefusion.bridge.evolution.draft import (
    build_schema,
    last_partition_id,
    order_updates,
    schema_updates,
    spec_updates,
)
from icefusion.bridge.evolution.following import NAME_MAPPING, check_partition_names
from icefusion.bridge.evolution.properties import check_properties
from icefusion.bridge.evolution.tree import column_paths, fresh_type, with_holders

__all__ = ["replacement"]


def replacement(
    metadata: TableMetadata,
    schema: Schema,
    spec: PartitionSpec,
    sort_order: SortOrder,
    properties: Mapping[str, str],
    location: str | None,
) -> tuple[TableUpdate, ...]:
    """The updates that define a table anew, as ``buildReplacement`` of the reference implementation does it.

    Columns whose path is one of the current columns' keep that one's id, and so do partition fields that are made from
    the same column by the same transform; all others get ids that were never used. The main branch ends, so the table
    is empty; its snapshots, other branches and tags stay. Properties that are not given stay too.

    Args:
        metadata: The table as it is.
        schema: The new columns, with any ids.
        spec: The new partition spec, of those ids.
        sort_order: The new sort order, of those ids.
        properties: Properties to set; ``format-version`` upgrades the table where it is higher than the table's.
        location: Where new files go; None leaves it.

    Raises:
        SchemaError: Two columns have the same dotted path, or one has the name of an older partition field.
        ConfigurationError: A property has a value that makes no sense.
    """
    check_properties(properties)
    version = max(metadata.format_version, int(properties.get("format-version", metadata.format_version)))
    renewed, ids = _renewed_schema(metadata, schema)
    updates: list[TableUpdate] = []
    if version != metadata.format_version:
        updates.append(UpgradeFormatVersionUpdate(format_version=version))
    if MAIN_BRANCH in metadata.refs:
        updates.append(RemoveSnapshotRefUpdate(ref_name=MAIN_BRANCH))
    updates += schema_updates(metadata, renewed)
    fields = [part.model_copy(update={"source_id": ids[part.source_id]}) for part in spec.fields]
    paths = column_paths(renewed.fields)
    check_partition_names(metadata, fields, {path: field_id for field_id, path in paths.items()}, paths)
    updates += spec_updates(metadata, _renumbered(metadata, fields, version))
    order = [key.model_copy(update={"source_id": ids[key.source_id]}) for key in sort_order.fields]
    updates += order_updates(metadata, order)
    if location is not None and location.rstrip("/") != metadata.location:
        updates.append(SetLocationUpdate(location=location.rstrip("/")))
    wanted = {key: value for key, value in properties.items() if key != "format-version"}
    if NAME_MAPPING in metadata.properties and NAME_MAPPING not in wanted:
        wanted[NAME_MAPPING] = _renewed_mapping(metadata, renewed)
    changed = {key: value for key, value in wanted.items() if metadata.properties.get(key) != value}
    if changed:
        updates.append(SetPropertiesUpdate(updates=changed))
    return tuple(updates)


def _renewed_schema(metadata: TableMetadata, schema: Schema) -> tuple[Schema, dict[int, int]]:
    """The schema with the table's own ids, and what became of the ids it had."""
    known = {path: field_id for field_id, path in column_paths(metadata.schema().fields).items()}
    last = metadata.last_column_id

    def new_id(path: str) -> int:
        nonlocal last
        if path in known:
            return known[path]
        last += 1
        return last

    struct = fresh_type(StructType(*schema.fields), new_id, "")
    assert isinstance(struct, StructType)
    new = {path: field_id for field_id, path in column_paths(struct.fields).items()}
    ids = {field_id: new[path] for field_id, path in column_paths(schema.fields).items()}
    identifiers = [ids[field_id] for field_id in schema.identifier_field_ids]
    schema_id = max(old.schema_id for old in metadata.schemas) + 1
    return build_schema(struct.fields, identifiers, schema_id), ids


def _renumbered(metadata: TableMetadata, fields: list[PartitionField], version: int) -> list[PartitionField]:
    """The partition fields with the table's own ids."""
    last = last_partition_id(metadata)
    known: dict[tuple[int, str], int] = {}
    for spec in metadata.partition_specs:
        for part in spec.fields:
            known[part.source_id, str(part.transform)] = part.field_id
    result: list[PartitionField] = []
    rest = list(fields)
    if version == 1:
        # Readers of format version 1 tell partition fields by their place, so those of the current spec stay in it.
        names = {part.name for part in fields}
        for old in metadata.spec().fields:
            kept = next((p for p in rest if (p.source_id, p.transform) == (old.source_id, old.transform)), None)
            if kept is not None:
                rest.remove(kept)
                result.append(kept.model_copy(update={"field_id": old.field_id}))
            else:
                name = f"{old.name}_{old.field_id}" if old.name in names else old.name
                result.append(old.model_copy(update={"name": name, "transform": VoidTransform()}))
    for part in rest:
        number = known.get((part.source_id, str(part.transform))) if version > 1 else None
        if number is None:
            last += 1
            number = last
        result.append(part.model_copy(update={"field_id": number}))
    return result


def _renewed_mapping(metadata: TableMetadata, schema: Schema) -> str:
    """The name mapping with the names of new columns."""
    text = metadata.properties[NAME_MAPPING]
    before = column_paths(metadata.schema().fields)
    added: dict[int, list[NestedField]] = {}
    for holder, field in with_holders(schema.fields).values():
        if field.field_id not in before and (holder is None or holder in before):
            added.setdefault(-1 if holder is None else holder, []).append(field)
    try:
        return update_mapping(parse_mapping_from_json(text), {}, added).model_dump_json()
    except (ValueError, AttributeError, TypeError):
        return text  # as it was: it could not be read before either
