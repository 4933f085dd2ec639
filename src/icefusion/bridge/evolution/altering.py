"""Alterations in order, each carried out by the function that knows how, and the updates that come of them."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate

from icefusion.bridge.evolution.columns import (
    add_column,
    drop_column,
    move_column,
    rename_column,
    set_comment,
    set_default,
    set_required,
    set_type,
)
from icefusion.bridge.evolution.draft import Draft, updates_of
from icefusion.bridge.evolution.identifiers import set_identifiers
from icefusion.bridge.evolution.layout import (
    add_partition_field,
    drop_partition_field,
    replace_partition_field,
    set_ordering,
)
from icefusion.bridge.evolution.properties import set_location, set_properties, unset_properties
from icefusion.bridge.evolution.refs import drop_ref, set_ref
from icefusion.sql.alterations import (
    AddColumn,
    AddPartitionField,
    Alteration,
    DropColumn,
    DropPartitionField,
    DropRef,
    MoveColumn,
    RenameColumn,
    ReplacePartitionField,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetIdentifierFields,
    SetLocation,
    SetOrdering,
    SetProperties,
    SetRef,
    SetRequired,
    UnsetProperties,
)

__all__ = ["alter", "drafted"]


def alter(metadata: TableMetadata, actions: Sequence[Alteration], *, sql: str | None = None) -> tuple[TableUpdate, ...]:
    """The updates that alterations make of a state of a table; none where they change nothing.

    Args:
        metadata: The state.
        actions: The alterations, each of which sees what those before it did.
        sql: The text that the alterations were read from; errors about names then point into it.

    Raises:
        BindError: A column, partition field, snapshot, branch or tag that is named is not there.
        SchemaError: An alteration does not fit the table, or the format has no room for it.
        ConfigurationError: A property has a value that makes no sense.
        UnsupportedStatementError: It cannot be done yet.
    """
    return updates_of(drafted(metadata, actions, sql))


def drafted(metadata: TableMetadata, actions: Sequence[Alteration], sql: str | None = None) -> Draft:
    """A state with alterations on top of it."""
    draft = Draft(metadata, sql)
    for action in actions:
        _carry_out(draft, action)
    return draft


def _carry_out(draft: Draft, action: Alteration) -> None:
    """Do one alteration to a draft."""
    match action:
        case AddColumn():
            add_column(draft, action)
        case DropColumn():
            drop_column(draft, action)
        case RenameColumn():
            rename_column(draft, action)
        case MoveColumn():
            move_column(draft, action)
        case SetColumnType():
            set_type(draft, action)
        case SetRequired():
            set_required(draft, action)
        case SetColumnComment():
            set_comment(draft, action)
        case SetColumnDefault():
            set_default(draft, action)
        case SetIdentifierFields():
            set_identifiers(draft, action)
        case AddPartitionField():
            add_partition_field(draft, action)
        case DropPartitionField():
            drop_partition_field(draft, action)
        case ReplacePartitionField():
            replace_partition_field(draft, action)
        case SetOrdering():
            set_ordering(draft, action)
        case SetProperties():
            set_properties(draft, action)
        case UnsetProperties():
            unset_properties(draft, action)
        case SetLocation():
            set_location(draft, action)
        case SetRef():
            set_ref(draft, action)
        case DropRef():
            drop_ref(draft, action)
