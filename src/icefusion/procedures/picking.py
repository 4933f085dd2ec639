"""Procedures that take over what a snapshot did which is not in the history of the main branch.

Where the snapshot was made on top of the current one, the branch just moves to it. Otherwise its files are added anew,
by a snapshot of this transaction that says which one it was taken from (``source-snapshot-id``) and, where that one was
staged for review, under which id (``published-wap-id``); by these nothing is taken over twice. Only what adds files can
be taken over onto another state: whatever else a snapshot did depends on the rows that it saw.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntryStatus
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot

from icefusion.changes.staging import RowChange
from icefusion.commit.operations import WAP_ID, waits_under
from icefusion.errors import BindError, SchemaError
from icefusion.pinned import PinnedTable
from icefusion.procedures.moving import ancestors, move_branch, require_snapshot
from icefusion.procedures.signatures import NEW_SNAPSHOT, Calling, Parameter, Procedure
from icefusion.reports import RowCounts

__all__ = ["PROCEDURES"]

_PICKED = pa.schema([("source_snapshot_id", pa.int64()), ("current_snapshot_id", pa.int64())])
_SOURCE = "source-snapshot-id"
_PUBLISHED = "published-wap-id"


def _cherrypick_snapshot(calling: Calling) -> list[tuple[Any, ...]]:
    pinned = calling.table()
    return _pick(calling, pinned, require_snapshot(pinned, calling.arguments["snapshot_id"]))


def _publish_changes(calling: Calling) -> list[tuple[Any, ...]]:
    pinned = calling.table()
    wap_id = calling.arguments["wap_id"]
    for snapshot in pinned.handle.metadata.snapshots:
        if waits_under(snapshot, wap_id):
            return _pick(calling, pinned, snapshot)
    raise BindError(
        f"{pinned.handle.name} has no snapshot with {WAP_ID} {wap_id}",
        hint=f"SELECT snapshot_id, summary FROM {pinned.handle.name}.snapshots lists them",
    )


def _pick(calling: Calling, pinned: PinnedTable, snapshot: Snapshot) -> list[tuple[Any, ...]]:
    if calling.has_landed(pinned):
        return [(snapshot.snapshot_id, NEW_SNAPSHOT)]
    _check_not_there(pinned, snapshot)
    number = snapshot.snapshot_id
    if snapshot.parent_snapshot_id == pinned.snapshot_id and MAIN_BRANCH not in calling.state.written_refs(pinned):
        move_branch(calling, pinned, MAIN_BRANCH, number)
        return [(number, number)]
    operation = snapshot.summary.operation if snapshot.summary is not None else None
    if operation is not Operation.APPEND:
        raise SchemaError(
            f"snapshot {number} ({operation.value if operation else 'of an unknown operation'}) cannot be taken over "
            f"onto the current state of {pinned.handle.name}: only what adds rows can",
            hint="roll back to the snapshot before it, or repeat the statement that made it",
        )
    files = _added(calling, pinned, snapshot)
    calling.state.check_may_write(pinned, publishing=True)
    rows = RowCounts(inserted=sum(file.record_count for file in files))
    # Two who take over the same snapshot at the same time must not both succeed.
    calling.state.hold_still(pinned)
    pinned.summary[_SOURCE] = str(number)
    wap_id = _entry(snapshot, WAP_ID)
    if wap_id is not None:
        pinned.summary[_PUBLISHED] = wap_id
    calling.state.stage(pinned, RowChange(adopted=files, rows=rows), publishing=True)
    return [(number, NEW_SNAPSHOT)]


def _added(calling: Calling, pinned: PinnedTable, snapshot: Snapshot) -> tuple[DataFile, ...]:
    changes = list(calling.reader.changes(snapshot, pinned.handle.io))
    if any(file.content != DataFileContent.DATA or status != ManifestEntryStatus.ADDED for status, file in changes):
        raise SchemaError(
            f"snapshot {snapshot.snapshot_id} says that it only adds rows, and removes some",
            hint="repeat the statement that made it",
        )
    return tuple(file for _, file in changes)


def _check_not_there(pinned: PinnedTable, snapshot: Snapshot) -> None:
    """Refuse what is in the main branch already, as itself or taken over.

    Raises:
        SchemaError: It is.
    """
    number, wap_id = str(snapshot.snapshot_id), _entry(snapshot, WAP_ID)
    staged = pinned.summary
    if staged.get(_SOURCE) is not None:
        raise SchemaError(
            f"this transaction has taken over snapshot {staged[_SOURCE]} already, and makes one snapshot of a table",
            hint="COMMIT first",
        )
    for each in ancestors(pinned.handle.metadata, pinned.snapshot_id):
        if each.snapshot_id == snapshot.snapshot_id:
            raise SchemaError(f"snapshot {number} is in the history of {pinned.handle.name} already")
        if _entry(each, _SOURCE) == number:
            raise SchemaError(f"snapshot {number} was taken over already, by snapshot {each.snapshot_id}")
        if wap_id is not None and wap_id in (_entry(each, _PUBLISHED), _entry(each, WAP_ID)):
            raise SchemaError(f"{WAP_ID} {wap_id} was published already, by snapshot {each.snapshot_id}")


def _entry(snapshot: Snapshot, key: str) -> str | None:
    if snapshot.summary is None:
        return None
    found: str | None = snapshot.summary.additional_properties.get(key)
    return found


PROCEDURES = (
    Procedure(
        "cherrypick_snapshot",
        (Parameter("table", "table"), Parameter("snapshot_id", "snapshot")),
        _PICKED,
        _cherrypick_snapshot,
    ),
    Procedure("publish_changes", (Parameter("table", "table"), Parameter("wap_id", "text")), _PICKED, _publish_changes),
)
