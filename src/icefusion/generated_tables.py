"""Tables that stand in no catalog and can be read nevertheless: the metadata tables of Iceberg tables.

A table of the catalog comes first. What they tell is the state that the transaction has pinned; files that wait for
its commit are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from icefusion.bridge.metadata_names import split_metadata_name
from icefusion.errors import BindError
from icefusion.query.generated import GeneratedSource
from icefusion.query.inspect.subject import Subject
from icefusion.query.inspect.tables import has_versions, metadata_table
from icefusion.sql.statements import Name, TimeAsOf, VersionAsOf

if TYPE_CHECKING:
    from icefusion.transaction import TransactionState

__all__ = ["find_generated", "tables_told_of"]


def find_generated(
    state: TransactionState, name: Name, version: VersionAsOf | TimeAsOf | None
) -> GeneratedSource | None:
    """What a name stands for that is no table of the catalog; None where it is one, or nothing.

    Raises:
        BindError: A version is asked for of what has none, or is not there.
        TableNotFoundError: There is no table to be told of.
    """
    meant = split_metadata_name(name)
    if meant is None or not meant.is_known or state.has_table(name):
        return None
    if version is not None and not has_versions(meant.kind):
        raise BindError(
            f"metadata table {meant.kind} of {meant.table} tells of all snapshots and has no versions itself",
            hint=f"leave the version out, or filter the rows of {name}",
        )
    pinned, travel = state.travel(meant.table, version)
    handle = pinned.handle
    snapshot_id = travel.snapshot_id if travel is not None else state.view_of(pinned).snapshot_id
    subject = Subject(handle.name, handle.metadata, handle.metadata_location, handle.io, snapshot_id)
    return metadata_table(meant.kind, subject)


def tables_told_of(state: TransactionState, names: Iterable[Name]) -> list[Name]:
    """The names with those of metadata tables replaced by those of their tables."""
    found = []
    for name in names:
        meant = split_metadata_name(name)
        is_metadata = meant is not None and meant.is_known and not state.has_table(name)
        found.append(meant.table if meant is not None and is_metadata else name)
    return found
