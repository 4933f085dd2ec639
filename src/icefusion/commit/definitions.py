"""What transactions do to the metadata of tables, put on top of any state of them."""

from __future__ import annotations

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate

from icefusion.bridge.evolution import alter, replacement, stands
from icefusion.clock import Clock
from icefusion.commit.metadata import apply_updates
from icefusion.commit.operations import Definition

__all__ = ["define", "is_defined"]


def define(
    metadata: TableMetadata, definition: Definition, clock: Clock
) -> tuple[TableMetadata, tuple[TableUpdate, ...]]:
    """A state with a definition on top of it, and the updates that lead there.

    Raises:
        SQLError: The definition names something that is not there.
        SchemaError: It cannot be done to this state.
    """
    updates: tuple[TableUpdate, ...] = ()
    new = definition.replacement
    if new is not None:
        updates = replacement(metadata, new.schema, new.spec, new.sort_order, new.properties, new.location)
        metadata = apply_updates(metadata, updates, base_location=None, clock=clock)
    for step in definition.steps:
        altered = alter(metadata, step)
        metadata = apply_updates(metadata, altered, base_location=None, clock=clock)
        updates += altered
    return metadata, updates


def is_defined(base: TableMetadata, head: TableMetadata, definition: Definition) -> bool:
    """Whether a state shows that a definition was carried out on it since ``base``.

    Only asked where it may have landed without an answer: it cannot be told apart from somebody else doing the same.
    """
    if base.table_uuid != head.table_uuid:
        return False
    if definition.replacement is not None:
        wanted = definition.replacement.schema.column_names
        return head.current_snapshot_id is None and head.schema().column_names == wanted
    return stands(base, head, definition.actions)
