"""What a REST catalog has to find unchanged before it makes updates."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertLastAssignedFieldId,
    AssertLastAssignedPartitionId,
    AssertRefSnapshotId,
    RemoveSnapshotRefUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from icefusion.bridge.evolution.draft import last_partition_id

__all__ = ["requirements"]


def requirements(metadata: TableMetadata, updates: Sequence[TableUpdate]) -> tuple[TableRequirement, ...]:
    """What has to be as it is in a state of a table for updates that were worked out from it, each thing once.

    As ``UpdateRequirements`` of the reference implementation asks it, and for branches and tags that are dropped too.
    That the table is still the same one is left to the caller.

    Args:
        metadata: The state that the updates were worked out from.
        updates: The updates.
    """
    needed: dict[str, TableRequirement] = {}

    def require(kind: str, requirement: TableRequirement) -> None:
        needed.setdefault(kind, requirement)

    for update in updates:
        match update:
            case AddSchemaUpdate():
                last = metadata.last_column_id
                require("columns", AssertLastAssignedFieldId(last_assigned_field_id=last))
            case SetCurrentSchemaUpdate():
                require("schema", AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id))
            case AddPartitionSpecUpdate():
                partition_id = last_partition_id(metadata)
                require("partitions", AssertLastAssignedPartitionId(last_assigned_partition_id=partition_id))
            case SetDefaultSpecUpdate():
                require("spec", AssertDefaultSpecId(default_spec_id=metadata.default_spec_id))
            case SetDefaultSortOrderUpdate():
                require("order", AssertDefaultSortOrderId(default_sort_order_id=metadata.default_sort_order_id))
            case SetSnapshotRefUpdate() | RemoveSnapshotRefUpdate():
                ref = metadata.refs.get(update.ref_name)
                snapshot_id = None if ref is None else ref.snapshot_id
                require(f"ref {update.ref_name}", AssertRefSnapshotId(ref=update.ref_name, snapshot_id=snapshot_id))
    return tuple(needed.values())
