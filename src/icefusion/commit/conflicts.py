"""Operation x commits since its base -> none, or the reason.

Pure functions: they look at the metadata an operation was made under and at the newest metadata, and say whether the
operation still means the same. An append that read nothing depends on little: the table must be the same table, and the
partition specs its files are bound to must still be known to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadata

from icefusion.commit.catalog import TableHandle
from icefusion.commit.operations import AppendFiles, TableChange

__all__ = ["Conflict", "find_conflict"]


@dataclass(frozen=True)
class Conflict:
    """Why a change no longer fits.

    Attributes:
        reason: In words.
        snapshot_id: The snapshot that collided, where there is one.
    """

    reason: str
    snapshot_id: int | None = None


def find_conflict(change: TableChange, newest: TableHandle) -> Conflict | None:
    """The first reason why a change cannot be put on top of the newest state of its table; None when it can."""
    base, head = change.metadata, newest.metadata
    if base.table_uuid != head.table_uuid:
        return Conflict("the table was dropped and made anew since the transaction read it")
    for operation in change.operations:
        conflict = _append_conflict(operation, base, head)
        if conflict is not None:
            return conflict
    return None


def _append_conflict(operation: AppendFiles, base: TableMetadata, head: TableMetadata) -> Conflict | None:
    specs = head.specs()
    for spec_id in {file.spec_id for file in operation.added}:
        if spec_id not in specs or specs[spec_id].fields != base.specs()[spec_id].fields:
            return Conflict(f"partition spec {spec_id}, under which files were written, was removed", _current(head))
    if base.current_schema_id == head.current_schema_id:
        return None
    written = {field.field_id for field in base.schema().fields}
    for field in head.schema().fields:
        if field.required and field.field_id not in written and field.initial_default is None:
            return Conflict(f"column {field.name} was added as NOT NULL; the rows do not have it", _current(head))
    for field in base.schema().fields:
        try:
            now = head.schema().find_field(field.field_id)
        except ValueError:
            continue  # dropped: the files simply keep more than is read
        if now.required and not field.required:
            return Conflict(f"column {now.name} was made NOT NULL; the rows were not checked for it", _current(head))
    return None


def _current(head: TableMetadata) -> int | None:
    return head.current_snapshot_id
