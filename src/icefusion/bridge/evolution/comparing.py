"""Whether alterations still mean what they meant, and whether a state shows them.

Alterations are made for one state of a table and may have to be put on another, when somebody else was faster. That is
safe where the two have nothing to do with each other. What somebody else altered is told by field ids, so a column that
was renamed, or dropped and made anew under its old name, is not taken for the one that was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from icefusion.bridge.evolution.altering import drafted
from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.tree import column_paths, parts_of, with_holders
from icefusion.sql.alterations import Alteration

__all__ = ["overlap", "stands"]

Columns = dict[int, tuple[int | None, NestedField]]


def overlap(base: TableMetadata, head: TableMetadata, actions: Sequence[Alteration]) -> str | None:
    """Why actions that were made on one state of a table do not mean the same on a later one.

    Rows that came or went, and alterations of other things, are no reason.

    Args:
        base: The state that the actions were made on.
        head: The state that they are to be put on.
        actions: The actions.

    Returns:
        What somebody else altered, in words; None where the actions mean the same.
    """
    draft = drafted(base, actions)
    return next(_differences(draft, head), None)


def _differences(draft: Draft, head: TableMetadata) -> Iterator[str]:
    base, touched = draft.base, draft.footprint
    yield from _columns_differ(draft, head)
    identifiers = set(head.schema().identifier_field_ids)
    if touched.identifiers and identifiers not in (set(base.schema().identifier_field_ids), set(draft.identifiers)):
        yield "the identifier fields were changed"
    if touched.spec and head.spec().fields != base.spec().fields:
        yield "the partition spec was changed"
    if touched.order and list(head.sort_order().fields) not in (list(base.sort_order().fields), draft.order):
        yield "the sort order was changed"
    if touched.location and head.location not in (base.location, draft.location):
        yield f"the location was changed to {head.location}"
    for key in sorted(touched.keys):
        now = head.properties.get(key)
        if now != base.properties.get(key) and (now is None or now != draft.properties.get(key)):
            yield f"property {key} was " + ("unset" if now is None else f"set to {now!r}")
    for name in sorted(touched.refs):
        old, new = base.refs.get(name), head.refs.get(name)
        if old != new:
            kind = (new or old).snapshot_ref_type.value  # type: ignore[union-attr]  # one of them is there
            yield f"{kind} {name} was " + ("created" if old is None else "dropped" if new is None else "changed")


def _columns_differ(draft: Draft, head: TableMetadata) -> Iterator[str]:
    touched = draft.footprint
    paths = column_paths(draft.base.schema().fields)
    old, new, ours = (
        with_holders(fields) for fields in (draft.base.schema().fields, head.schema().fields, draft.fields)
    )
    for field_id in sorted(touched.named & old.keys()):
        if field_id not in new:
            yield f"column {paths[field_id]} was dropped"
        elif (new[field_id][0], new[field_id][1].name) != (old[field_id][0], old[field_id][1].name):
            yield f"column {paths[field_id]} was renamed to {new[field_id][1].name}"
    for field_id in sorted(touched.changed & old.keys() & new.keys()):
        now = _own(new[field_id][1])
        if now != _own(old[field_id][1]) and (field_id not in ours or now != _own(ours[field_id][1])):
            yield f"column {paths[field_id]} was altered"
    for field_id in sorted(touched.dropped & old.keys() & new.keys()):
        if new[field_id][1] != old[field_id][1]:
            yield f"column {paths[field_id]} was altered"
    for holder, name in sorted(touched.absent, key=lambda absent: (absent[0] or 0, absent[1])):
        had, has = ({field.name.lower(): field for field in _children(columns, holder)} for columns in (old, new))
        if name in has and name not in had:
            parent = f"{paths[holder]}." if holder is not None else ""
            yield f"a column {parent}{has[name].name} appeared"
    for field_id in sorted(touched.moved & old.keys() & new.keys()):
        if _was_moved(field_id, old, new):
            yield f"column {paths[field_id]} was moved"


def _was_moved(field_id: int, old: Columns, new: Columns) -> bool:
    """Whether a column, and not its siblings, got another place among those that both states have."""
    orders = [[field.field_id for field in _children(columns, columns[field_id][0])] for columns in (old, new)]
    common = set(orders[0]) & set(orders[1])
    before, after = ([number for number in order if number in common] for order in orders)
    others = [[number for number in order if number != field_id] for order in (before, after)]
    return before != after and others[0] == others[1]


def stands(before: TableMetadata, head: TableMetadata, actions: Sequence[Alteration]) -> bool:
    """Whether a later state already is what actions ask for of an earlier one.

    What others altered since does not count, unless they altered the same.

    Args:
        before: The state that the actions were put on.
        head: The state to look at.
        actions: The actions.
    """
    draft = drafted(before, actions)
    refs = {name for name in before.refs.keys() | draft.refs.keys() if before.refs.get(name) != draft.refs.get(name)}
    keys = {
        key
        for key in before.properties.keys() | draft.properties.keys()
        if before.properties.get(key) != draft.properties.get(key)
    }
    same_fields = tuple(draft.partition) == before.spec().fields
    return (
        head.format_version >= draft.version
        and _columns_stand(draft, head)
        and (same_fields or head.spec().fields == tuple(draft.partition))
        and (draft.order == list(before.sort_order().fields) or list(head.sort_order().fields) == draft.order)
        and draft.location in (before.location, head.location)
        and all(head.properties.get(key) == draft.properties.get(key) for key in keys)
        and all(head.refs.get(name) == draft.refs.get(name) for name in refs)
    )


def _columns_stand(draft: Draft, head: TableMetadata) -> bool:
    schema = draft.base.schema()
    old, new, ours = (with_holders(fields) for fields in (schema.fields, head.schema().fields, draft.fields))
    for field_id in old.keys() | ours.keys():
        wanted = _placed(ours, field_id)
        if wanted != _placed(old, field_id) and wanted != _placed(new, field_id):
            return False
    moved = draft.footprint.moved & old.keys() & new.keys() & ours.keys()
    if not all(_moved_alike(field_id, old, new, ours) for field_id in moved):
        return False
    identifiers = set(draft.identifiers)
    return identifiers in (set(schema.identifier_field_ids), set(head.schema().identifier_field_ids))


def _moved_alike(field_id: int, old: Columns, new: Columns, ours: Columns) -> bool:
    """Whether a column has overtaken those siblings in a new state that it has in ours."""
    orders = [[field.field_id for field in _children(columns, ours[field_id][0])] for columns in (old, new, ours)]
    before, now, wanted = ({number: place for place, number in enumerate(order)} for order in orders)
    for sibling in before.keys() & now.keys() & wanted.keys() - {field_id}:
        ahead = [places[field_id] < places[sibling] for places in (before, now, wanted)]
        if ahead[2] != ahead[0] and ahead[1] == ahead[0]:
            return False
    return True


def _placed(columns: Columns, field_id: int) -> object:
    if field_id not in columns:
        return None
    holder, field = columns[field_id]
    return holder, _own(field)


def _own(field: NestedField) -> object:
    """What a column is by itself, whatever is in it."""
    kind = field.field_type if field.field_type.is_primitive else type(field.field_type)
    return field.name, kind, field.required, field.doc, field.initial_default, field.write_default


def _children(columns: Columns, holder: int | None) -> Sequence[NestedField]:
    if holder is not None:
        return parts_of(columns[holder][1]) if holder in columns else ()
    return [field for parent, field in columns.values() if parent is None]
