"""What follows the columns of a table: properties that speak of them by path, and names that readers bind as theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyiceberg.partitioning import PartitionField
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import parse_mapping_from_json, update_mapping
from pyiceberg.transforms import IdentityTransform, VoidTransform
from pyiceberg.types import NestedField

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.tree import column_paths
from icefusion.errors import SchemaError

__all__ = ["NAME_MAPPING", "check_partition_names", "follow_paths", "map_names"]

NAME_MAPPING = "schema.name-mapping.default"
"""The property that says which ids the columns of files without ids have, by name."""

# Properties whose last part is a column's path; they follow the column, as in the reference implementation.
_COLUMN_PROPERTIES = (
    "write.metadata.metrics.column.",
    "write.parquet.bloom-filter-enabled.column.",
    "write.parquet.bloom-filter-fpp.column.",
    "write.parquet.stats-enabled.column.",
)


def follow_paths(draft: Draft, before: dict[int, str]) -> None:
    """Check the names that columns got, and let the properties that speak of columns speak of them still."""
    after = column_paths(draft.fields)
    new = {path: field_id for field_id, path in after.items() if before.get(field_id) != path}
    check_partition_names(draft.base, draft.partition, new, after)
    moved = {path: after.get(i) for i, path in before.items() if after.get(i) != path}
    if not moved:
        return
    properties: dict[str, str] = {}
    for key, value in draft.properties.items():
        prefix = next((prefix for prefix in _COLUMN_PROPERTIES if key.startswith(prefix)), None)
        path = key[len(prefix) :] if prefix else ""
        if prefix is None or path not in moved:
            properties[key] = value
        elif (now := moved[path]) is not None:
            properties[prefix + now] = value
    draft.properties = properties


def check_partition_names(
    metadata: TableMetadata, fields: Sequence[PartitionField], paths: Mapping[str, int], known: Mapping[int, str]
) -> None:
    """Refuse columns that are named as a partition field, of whatever spec, that is made from something else.

    The reference implementation binds all specs that a table has had to its current columns, and does not open it then.

    Args:
        metadata: The table.
        fields: The partition fields that it is to have.
        paths: The columns to look at.
        known: The paths of the columns that there are, for messages.

    Raises:
        SchemaError: Naming both.
    """
    specs = (fields, *(spec.fields for spec in metadata.partition_specs))
    parts = {part.name.lower(): part for fields in reversed(specs) for part in fields}
    for path, field_id in paths.items():
        part = parts.get(path.lower())
        if part is None:
            continue
        if part.source_id != field_id or not isinstance(part.transform, IdentityTransform | VoidTransform):
            raise SchemaError(
                f"column {path} would have the name of a partition field of the table: {part.name} is or was "
                f"{part.transform} of {known.get(part.source_id, 'a dropped column')}",
                column=path,
                hint="choose another name: readers bind partition fields that a table has or had by their names",
            )


def map_names(draft: Draft, changed: dict[int, NestedField], added: dict[int, list[NestedField]]) -> None:
    """Let the name mapping know new columns, and new names of old ones; old names stay for the sake of old files."""
    text = draft.properties.get(NAME_MAPPING)
    if text is None:
        return
    try:
        mapping = update_mapping(parse_mapping_from_json(text), changed, added)
    except (ValueError, AttributeError, TypeError):
        return  # as the reference implementation: a mapping that cannot be read is no reason to refuse the alteration
    draft.properties[NAME_MAPPING] = mapping.model_dump_json()
