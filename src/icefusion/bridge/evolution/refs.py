"""What CREATE, REPLACE and DROP BRANCH and TAG do. Section "Snapshot Retention Policy" of the Iceberg specification."""

from __future__ import annotations

from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType

from icefusion.bridge.evolution.draft import Draft
from icefusion.errors import BindError, SchemaError
from icefusion.naming import find_name, nearest
from icefusion.sql.alterations import DropRef, SetRef

__all__ = ["drop_ref", "set_ref"]


def set_ref(draft: Draft, action: SetRef) -> None:
    """Let a branch or tag name a snapshot. One that is replaced keeps the retention that is not given anew.

    Raises:
        BindError: There is no such snapshot, branch or tag.
        SchemaError: It is there already, or cannot be had so.
    """
    known = find_name(action.name, draft.refs)
    name = known or action.name.text
    draft.footprint.refs.add(name)
    old = draft.refs.get(name)
    if old is not None and action.if_not_exists:
        return
    _check(action, name)
    if old is not None:
        _check_kind(action, name, old)
        if not action.replace:
            raise SchemaError(
                f"{action.kind} {name} exists already",
                hint=f"write CREATE OR REPLACE {action.kind.upper()} to move it, or IF NOT EXISTS to leave it as it is",
            )
    elif not action.create:
        raise _unknown(draft, action)
    retention = {
        "max_ref_age_ms": action.retain_ms,
        "max_snapshot_age_ms": action.snapshot_retain_ms,
        "min_snapshots_to_keep": action.min_snapshots_to_keep,
    }
    kept = {key: getattr(old, key) if value is None and old is not None else value for key, value in retention.items()}
    draft.refs[name] = SnapshotRef(
        snapshot_id=_snapshot_id(draft, action), snapshot_ref_type=SnapshotRefType(action.kind), **kept
    )


def drop_ref(draft: Draft, action: DropRef) -> None:
    """Forget a branch or tag; its snapshots stay until they are expired.

    Raises:
        BindError: There is no such branch or tag.
        SchemaError: It is the main branch, or of the other kind.
    """
    name = find_name(action.name, draft.refs)
    draft.footprint.refs.add(name or action.name.text)
    if MAIN_BRANCH in (action.name.text, name):
        raise SchemaError("the main branch cannot be dropped", hint="use DELETE FROM to empty the table, or DROP TABLE")
    if name is None:
        if action.if_exists:
            return
        raise _unknown(draft, action)
    _check_kind(action, name, draft.refs[name])
    del draft.refs[name]


def _check(action: SetRef, name: str) -> None:
    if not name:
        raise SchemaError(f"a {action.kind} cannot have an empty name", hint="give it a name")
    if name == MAIN_BRANCH and action.kind == "tag":
        raise SchemaError("main is the table's main branch and cannot be a tag", hint="choose another name")
    if action.kind == "tag" and (action.snapshot_retain_ms, action.min_snapshots_to_keep) != (None, None):
        raise SchemaError(
            f"tag {name} names one snapshot and cannot keep others",
            hint="RETAIN says how long a tag is kept; WITH SNAPSHOT RETENTION is for branches",
        )
    if name == MAIN_BRANCH and action.retain_ms is not None:
        raise SchemaError("the main branch never ends and cannot have a RETAIN", hint="give WITH SNAPSHOT RETENTION")
    for what, number in (
        ("RETAIN", action.retain_ms),
        ("the age of snapshots to keep", action.snapshot_retain_ms),
        ("the number of snapshots to keep", action.min_snapshots_to_keep),
    ):
        if number is not None and number < 1:
            raise SchemaError(
                f"{action.kind} {name}: {what} is at least 1, found {number}", hint="write a larger number"
            )


def _check_kind(action: SetRef | DropRef, name: str, old: SnapshotRef) -> None:
    kind = old.snapshot_ref_type.value
    if kind != action.kind:
        verb = "DROP" if isinstance(action, DropRef) else "REPLACE"
        raise SchemaError(f"{name} is a {kind}, not a {action.kind}", hint=f"write {verb} {kind.upper()} {name}")


def _snapshot_id(draft: Draft, action: SetRef) -> int:
    version = action.version
    if version is None:
        main = draft.refs.get(MAIN_BRANCH)
        if main is None:
            raise SchemaError(
                f"{action.kind} {action.name.text} has no snapshot to name: the table is empty",
                hint="insert rows first",
            )
        return main.snapshot_id
    if isinstance(version, int):
        if draft.base.snapshot_by_id(version) is None:
            newest = draft.base.current_snapshot_id
            hint = "the table has no snapshots yet" if newest is None else f"the newest of the main branch is {newest}"
            raise draft.unbound(f"there is no snapshot {version}", action.offset, hint)
        return version
    if version in draft.refs:
        return draft.refs[version].snapshot_id
    raise draft.unbound(f"there is no branch or tag {version}", action.offset, _near(draft, version))


def _unknown(draft: Draft, action: SetRef | DropRef) -> BindError:
    name = action.name.text
    return draft.unbound(f"there is no {action.kind} {name}", action.offset, _near(draft, name))


def _near(draft: Draft, name: str) -> str:
    if near := nearest(name, draft.refs):
        return f"did you mean {near}?"
    return f"there are {', '.join(sorted(draft.refs)[:20])}" if draft.refs else "the table has no branches and tags"
