"""Procedures that move a branch to another snapshot of its table, and tell of its history.

None of them makes a snapshot. They are alterations of the table's branches like CREATE OR REPLACE BRANCH, so they are
staged and validated as those are: a branch that somebody else has moved meanwhile is a conflict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from icefusion.commit.operations import Definition
from icefusion.errors import BindError, SchemaError, TransactionError
from icefusion.naming import find_name, nearest
from icefusion.pinned import PinnedTable
from icefusion.procedures.signatures import Calling, Parameter, Procedure
from icefusion.sql.alterations import SetRef
from icefusion.sql.basics import Identifier

__all__ = ["PROCEDURES", "ancestors", "move_branch", "require_snapshot"]

_MOVED = pa.schema([("previous_snapshot_id", pa.int64()), ("current_snapshot_id", pa.int64())])
Rows = list[tuple[Any, ...]]


def ancestors(metadata: TableMetadata, snapshot_id: int | None) -> Iterator[Snapshot]:
    """A snapshot and those before it, newest first, as far as they have not expired."""
    while snapshot_id is not None:
        snapshot = metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            return
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def require_snapshot(pinned: PinnedTable, snapshot_id: int) -> Snapshot:
    """The snapshot of an id.

    Raises:
        BindError: The table has none of this id.
    """
    metadata = pinned.handle.metadata
    found = metadata.snapshot_by_id(snapshot_id)
    if found is None:
        near = nearest(str(snapshot_id), [str(each.snapshot_id) for each in metadata.snapshots[-50:]])
        hint = f"did you mean {near}?" if near else f"SELECT * FROM {pinned.handle.name}.snapshots lists them"
        raise BindError(f"{pinned.handle.name} has no snapshot {snapshot_id}", hint=hint)
    return found


def move_branch(calling: Calling, pinned: PinnedTable, branch: str, snapshot_id: int) -> None:
    """Stage that a branch names another snapshot from now on.

    Raises:
        TransactionError: The transaction has written to the branch.
    """
    if branch in calling.state.written_refs(pinned):
        raise TransactionError(
            f"this transaction has written to branch {branch} of {pinned.handle.name}, and cannot move it as well",
            hint="COMMIT first",
        )
    action = SetRef("branch", Identifier(branch, True), snapshot_id, create=branch == MAIN_BRANCH, replace=True)
    calling.state.stage_definition(pinned, Definition(steps=((action,),)))


def _rollback_to_snapshot(calling: Calling) -> Rows:
    pinned = calling.table()
    return _rolled_back(calling, pinned, require_snapshot(pinned, calling.arguments["snapshot_id"]))


def _rollback_to_timestamp(calling: Calling) -> Rows:
    pinned = calling.table()
    at_ms = calling.arguments["timestamp"]
    line = list(ancestors(pinned.handle.metadata, pinned.snapshot_id))
    for snapshot in line:
        if snapshot.timestamp_ms < at_ms:
            return _rolled_back(calling, pinned, snapshot)
    oldest = f"the oldest is of {_shown(line[-1].timestamp_ms)}" if line else "it has no snapshots"
    raise BindError(f"{pinned.handle.name} has no snapshot before that time", hint=oldest)


def _rolled_back(calling: Calling, pinned: PinnedTable, target: Snapshot) -> Rows:
    previous = pinned.snapshot_id
    if all(each.snapshot_id != target.snapshot_id for each in ancestors(pinned.handle.metadata, previous)):
        raise SchemaError(
            f"snapshot {target.snapshot_id} is no ancestor of the current state of {pinned.handle.name}",
            hint="CALL system.set_current_snapshot(table, snapshot_id) goes to any snapshot",
        )
    move_branch(calling, pinned, MAIN_BRANCH, target.snapshot_id)
    return [(previous, target.snapshot_id)]


def _set_current_snapshot(calling: Calling) -> Rows:
    pinned = calling.table()
    snapshot_id, ref = calling.arguments["snapshot_id"], calling.arguments["ref"]
    if (snapshot_id is None) == (ref is None):
        raise BindError("expected either a snapshot_id or a ref", hint="CALL system.set_current_snapshot(table, 123)")
    target = _of_ref(pinned, ref) if ref is not None else require_snapshot(pinned, snapshot_id).snapshot_id
    previous = pinned.snapshot_id
    move_branch(calling, pinned, MAIN_BRANCH, target)
    return [(previous, target)]


def _fast_forward(calling: Calling) -> Rows:
    pinned = calling.table()
    branch = _ref_name(pinned, calling.arguments["branch"], missing=True)
    target = _of_ref(pinned, calling.arguments["to"])
    known = pinned.handle.metadata.refs.get(branch)
    if known is not None and known.snapshot_ref_type is not SnapshotRefType.BRANCH:
        raise SchemaError(
            f"{branch} of {pinned.handle.name} is a tag, and only branches are moved forward",
            hint="ALTER TABLE ... CREATE OR REPLACE TAG puts it elsewhere",
        )
    previous = known.snapshot_id if known is not None else None
    line = [each.snapshot_id for each in ancestors(pinned.handle.metadata, target)]
    if previous is not None and previous not in line:
        raise SchemaError(
            f"branch {branch} of {pinned.handle.name} cannot be moved forward to {calling.arguments['to']}: it has "
            "snapshots that are not in its history",
            hint="cherry-pick them, or move it with CREATE OR REPLACE BRANCH",
        )
    if known is None:  # as the reference implementation does it: a branch that is not there begins there
        action = SetRef("branch", Identifier(branch, True), target)
        calling.state.stage_definition(pinned, Definition(steps=((action,),)))
    elif previous != target:
        move_branch(calling, pinned, branch, target)
    return [(branch, previous, target)]


def _ancestors_of(calling: Calling) -> Rows:
    pinned = calling.table()
    snapshot_id, ref = calling.arguments["snapshot_id"], calling.arguments["ref"]
    if ref is not None:
        snapshot_id = _of_ref(pinned, ref)
    elif snapshot_id is not None:
        require_snapshot(pinned, snapshot_id)
    start = pinned.snapshot_id if snapshot_id is None else snapshot_id
    return [(each.snapshot_id, each.timestamp_ms) for each in ancestors(pinned.handle.metadata, start)]


def _shown(timestamp_ms: int) -> str:
    at = dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC)
    return at.isoformat(sep=" ", timespec="milliseconds")


def _of_ref(pinned: PinnedTable, name: str) -> int:
    return pinned.handle.metadata.refs[_ref_name(pinned, name)].snapshot_id


def _ref_name(pinned: PinnedTable, name: str, *, missing: bool = False) -> str:
    refs = pinned.handle.metadata.refs
    found = find_name(Identifier(name), refs)
    if found is None and not missing:
        near = nearest(name, refs)
        raise BindError(
            f"{pinned.handle.name} has no branch or tag {name}",
            hint=f"did you mean {near}?" if near else f"known: {', '.join(sorted(refs)) or 'none yet'}",
        )
    return found or name


_TABLE = Parameter("table", "table")
PROCEDURES = (
    Procedure("rollback_to_snapshot", (_TABLE, Parameter("snapshot_id", "snapshot")), _MOVED, _rollback_to_snapshot),
    Procedure("rollback_to_timestamp", (_TABLE, Parameter("timestamp", "time")), _MOVED, _rollback_to_timestamp),
    Procedure(
        "set_current_snapshot",
        (_TABLE, Parameter("snapshot_id", "snapshot", required=False), Parameter("ref", "text", required=False)),
        _MOVED,
        _set_current_snapshot,
    ),
    Procedure(
        "fast_forward",
        (_TABLE, Parameter("branch", "text"), Parameter("to", "text")),
        pa.schema([("branch_updated", pa.string()), ("previous_ref", pa.int64()), ("updated_ref", pa.int64())]),
        _fast_forward,
    ),
    Procedure(
        "ancestors_of",
        (_TABLE, Parameter("snapshot_id", "snapshot", required=False), Parameter("ref", "text", required=False)),
        pa.schema([("snapshot_id", pa.int64()), ("timestamp", pa.int64())]),
        _ancestors_of,
    ),
)
