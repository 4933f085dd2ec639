"""What ALTER TABLE does to columns. The section "Schema Evolution" of the Iceberg specification has the rules."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.table.sorting import SortOrder
from pyiceberg.transforms import TimeTransform, VoidTransform
from pyiceberg.types import DateType, NestedField

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.following import follow_paths, map_names
from icefusion.bridge.evolution.tree import (
    Found,
    column_paths,
    edit_siblings,
    find,
    find_holder,
    fresh_type,
    is_missing,
    listed,
    note_absent,
    pick_sibling,
    put,
    subtree,
    touch,
)
from icefusion.bridge.evolution.types import promoted
from icefusion.bridge.partition import sort_order_to_sql
from icefusion.bridge.schema import join_path, sql_name, type_name
from icefusion.bridge.types_sql import sql_type_to_iceberg
from icefusion.errors import SchemaError, UnsupportedStatementError
from icefusion.naming import nearest
from icefusion.sql.alterations import (
    AddColumn,
    DropColumn,
    MoveColumn,
    Place,
    RenameColumn,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetRequired,
)

__all__ = [
    "add_column",
    "drop_column",
    "move_column",
    "rename_column",
    "set_comment",
    "set_default",
    "set_required",
    "set_type",
]


def add_column(draft: Draft, action: AddColumn) -> None:
    """Add a column, with ids that no column has or had.

    Raises:
        BindError: What it is to be a part of, or to stand beside, is not there.
        SchemaError: There is such a column, or it cannot be had.
        UnsupportedStatementError: It has a default.
    """
    holder = find_holder(draft, action.path[:-1], action.offset)
    parent = ".".join(field.name for field in holder)
    name = action.path[-1].text
    path = join_path(parent, name)
    siblings = holder[-1].field_type.fields if holder else draft.fields  # type: ignore[attr-defined]  # it is a struct
    _refuse_key(Found(holder) if holder else None, "gets no columns")
    if there := _of_same_name(name, siblings):
        if action.if_not_exists:
            draft.footprint.named |= {field.field_id for field in there if field.field_id <= draft.base.last_column_id}
            return
        raise SchemaError(
            f"there is a column {join_path(parent, there[0].name)} already",
            column=path,
            hint="names are compared without regard to case; choose another one",
        )
    note_absent(draft, holder[-1] if holder else None, name)
    _check_new_name(name, path)
    if action.default is not None:
        _refuse_default(draft, path)
    if action.required:
        raise SchemaError(
            f"column {path} cannot be NOT NULL from the start: the rows that are there have no value for it",
            column=path,
            hint=f"add it without NOT NULL, fill it with UPDATE, then ALTER COLUMN {path} SET NOT NULL",
        )
    kind = sql_type_to_iceberg(action.type, column=path, format_version=draft.version)
    field_id = draft.next_column_id()  # before those of its parts
    new = NestedField(
        field_id, name, fresh_type(kind, lambda _: draft.next_column_id(), path), required=False, doc=action.comment
    )
    before = column_paths(draft.fields)
    edit_siblings(draft, holder, lambda fields: _placed(draft, new, fields, action.place, path, action.offset))
    follow_paths(draft, before)
    map_names(draft, {}, {holder[-1].field_id if holder else -1: [new]})


def drop_column(draft: Draft, action: DropColumn) -> None:
    """Take a column away, with all in it.

    Raises:
        BindError: There is no such column.
        SchemaError: Something is made from it.
    """
    if action.if_exists and is_missing(draft, action.path):
        return
    found = find(draft, action.path, action.offset)
    _refuse_unnamed(found, "dropped")
    _refuse_key(found, "loses no columns")
    ids = {field.field_id for field in subtree(found.field)}
    _refuse_in_use(draft, found, ids)
    draft.footprint.dropped |= {field_id for field_id in ids if field_id <= draft.base.last_column_id}
    before = column_paths(draft.fields)

    def without(siblings: Sequence[NestedField]) -> Sequence[NestedField]:
        if len(siblings) == 1:
            whole = f"struct {'.'.join(f.name for f in found.trail[:-1])}" if found.holder else "table"
            raise SchemaError(
                f"column {found.path} is the last one: a {whole.split(' ', maxsplit=1)[0]} has at least one column",
                column=found.path,
                hint=f"drop the {whole} itself, or add another column first",
            )
        return [field for field in siblings if field is not found.field]

    edit_siblings(draft, found.trail[:-1], without)
    follow_paths(draft, before)


def rename_column(draft: Draft, action: RenameColumn) -> None:
    """Give a column another name; its id, and so its values, stay.

    Raises:
        BindError: There is no such column.
        SchemaError: It has no name of its own, or there is a column of the new name.
    """
    found = find(draft, action.path, action.offset)
    _refuse_unnamed(found, "renamed")
    _refuse_key(found, "keeps its columns' names")
    name = action.name.text
    parent = ".".join(field.name for field in found.trail[:-1])
    path = join_path(parent, name)
    touch(draft, found)
    if name == found.field.name:
        return
    holder = found.trail[:-1]
    siblings = holder[-1].field_type.fields if holder else draft.fields  # type: ignore[attr-defined]  # it is a struct
    others = [field for field in siblings if field is not found.field]
    if there := _of_same_name(name, others):
        raise SchemaError(
            f"column {found.path} cannot be renamed to {name}: there is a column "
            f"{join_path(parent, there[0].name)} already",
            column=found.path,
            hint="names are compared without regard to case; choose another one",
        )
    _check_new_name(name, path)
    if name.lower() != found.field.name.lower():
        note_absent(draft, found.holder, name)
    before = column_paths(draft.fields)
    new = found.field.model_copy(update={"name": name})
    put(draft, found.trail, new)
    follow_paths(draft, before)
    map_names(draft, {new.field_id: new}, {})


def move_column(draft: Draft, action: MoveColumn) -> None:
    """Give a column another place among its siblings.

    Raises:
        BindError: There is no such column, or no such sibling.
        SchemaError: It is not a column of the table or of a struct.
    """
    found = find(draft, action.path, action.offset)
    _refuse_unnamed(found, "moved")
    _refuse_key(found, "keeps the order of its columns")
    if found.field.field_id <= draft.base.last_column_id:
        draft.footprint.moved.add(found.field.field_id)

    def moved(siblings: Sequence[NestedField]) -> Sequence[NestedField]:
        if action.place.column is not None and pick_sibling(action.place.column, [found.field]):
            raise SchemaError(
                f"column {found.path} cannot stand {action.place.where} itself",
                column=found.path,
                hint="name one of its neighbours, or write FIRST",
            )
        others = [field for field in siblings if field is not found.field]
        return _placed(draft, found.field, others, action.place, found.path, action.offset)

    edit_siblings(draft, found.trail[:-1], moved)


def set_type(draft: Draft, action: SetColumnType) -> None:
    """Give a column a wider type.

    Raises:
        BindError: There is no such column.
        SchemaError: There is no such type, or the column cannot become it.
    """
    found = find(draft, action.path, action.offset)
    kind = sql_type_to_iceberg(action.type, column=found.path, format_version=draft.version)
    if type_name(kind) == type_name(found.field.field_type):
        return
    _refuse_key(found, "keeps its type")
    touch(draft, found)
    new = promoted(found.field, kind, found.path, draft.version)
    if isinstance(found.field.field_type, DateType):
        # A number of days and one of microseconds are other values, to partitions made of old and new files.
        for fields in (draft.partition, *(spec.fields for spec in draft.base.partition_specs)):
            for part in fields:
                same = isinstance(part.transform, TimeTransform | VoidTransform)
                if part.source_id == new.field_id and not same:
                    raise SchemaError(
                        f"column {found.path} cannot become {type_name(kind)}: partition field {part.name} is made "
                        "from it, and would have other values",
                        column=found.path,
                        hint=f"add a column of type {type_name(kind)} instead",
                    )
    put(draft, found.trail, new)


def set_required(draft: Draft, action: SetRequired) -> None:
    """Let a column refuse NULL, or take it. Whether there is a NULL in the table is not looked at here.

    Raises:
        BindError: There is no such column.
        SchemaError: The column cannot hold NULL, or identifies rows.
    """
    found = find(draft, action.path, action.offset)
    touch(draft, found)
    if found.field.required == action.required:
        return
    if not action.required:
        _refuse_key(found, "is never NULL" if not found.is_named else "keeps its columns as they are")
        held = {field.field_id for field in subtree(found.field)} & set(draft.identifiers)
        if held:
            which = listed(draft, sorted(held))
            raise SchemaError(
                f"column {found.path} cannot take NULL: identifier field {which} needs it",
                column=found.path,
                hint=f"DROP IDENTIFIER FIELDS {which} first",
            )
    else:
        _refuse_key(found, "keeps its columns as they are")
    put(draft, found.trail, found.field.model_copy(update={"required": action.required}))


def set_comment(draft: Draft, action: SetColumnComment) -> None:
    """Say something about a column, or no longer.

    Raises:
        BindError: There is no such column.
        UnsupportedStatementError: There is no room for a comment.
    """
    found = find(draft, action.path, action.offset)
    touch(draft, found)
    if not found.is_named:
        raise UnsupportedStatementError(
            f"column {found.path} cannot have a comment: table metadata has room for those of named columns alone",
            sql=draft.sql,
            offset=action.offset if draft.sql is not None else None,
            hint=f"give the comment to {found.path.rpartition('.')[0]}",
        )
    if found.field.doc != action.comment:
        put(draft, found.trail, found.field.model_copy(update={"doc": action.comment}))


def set_default(draft: Draft, action: SetColumnDefault) -> None:
    """Let later rows that say nothing of a column have NULL there.

    Raises:
        BindError: There is no such column.
        UnsupportedStatementError: A default is given.
    """
    found = find(draft, action.path, action.offset)
    touch(draft, found)
    if action.default is not None:
        _refuse_default(draft, found.path)
    if found.field.write_default is not None:
        put(draft, found.trail, found.field.model_copy(update={"write_default": None}))


def _placed(
    draft: Draft,
    field: NestedField,
    others: Sequence[NestedField],
    place: Place | None,
    path: str,
    offset: int | None,
) -> list[NestedField]:
    """The siblings with a column at its place, at the end without one."""
    result = list(others)
    if place is None:
        return [*result, field]
    if place.where == "first" or place.column is None:
        return [field, *result]
    found = pick_sibling(place.column, result)
    if len(found) != 1:
        parent = path.rpartition(".")[0] if path != field.name else ""
        wanted = join_path(parent, place.column.text)
        near = nearest(place.column.text, (other.name for other in result))
        names = ", ".join(other.name for other in result[:20])
        hint = f"did you mean {near}?" if near else f"its neighbours are {names}"
        problem = "is ambiguous" if found else f"is not there for {field.name} to stand {place.where}"
        raise draft.unbound(f"column {wanted} {problem}", offset, hint)
    if found[0].field_id <= draft.base.last_column_id:
        draft.footprint.named.add(found[0].field_id)
    result.insert(result.index(found[0]) + (place.where == "after"), field)
    return result


def _of_same_name(name: str, fields: Sequence[NestedField]) -> list[NestedField]:
    return [field for field in fields if field.name.lower() == name.lower()]


def _check_new_name(name: str, path: str) -> None:
    if not name:
        raise SchemaError("a column cannot have an empty name", column=path, hint="give it a name")


def _refuse_unnamed(found: Found, what: str) -> None:
    if not found.is_named and found.holder is not None:
        raise SchemaError(
            f"column {found.path} cannot be {what}: it is a part that every {type_name(found.holder.field_type)} has",
            column=found.path,
            hint="name a column of the table or of a struct",
        )


def _refuse_key(found: Found | None, what: str) -> None:
    outer = found.map_with_key if found is not None else None
    if found is not None and outer is not None:
        raise SchemaError(
            f"column {found.path} cannot be changed: a map's key {what}",
            column=found.path,
            hint=f"add a column like {outer} with another key, fill it with UPDATE and drop {outer}",
        )


def _refuse_default(draft: Draft, path: str) -> None:
    if draft.version < 3:
        raise UnsupportedStatementError(
            f"column {path}: DEFAULT needs format version 3, the table has {draft.version}",
            hint="leave DEFAULT out, and give the value with UPDATE and INSERT",
        )
    raise UnsupportedStatementError(
        f"column {path}: DEFAULT cannot be set yet", hint="set it with another engine, or give the value in the INSERT"
    )


def _refuse_in_use(draft: Draft, found: Found, ids: set[int]) -> None:
    """Refuse to drop a column that something of the table is made from."""
    paths = column_paths(draft.fields)
    for part in draft.partition:
        if part.source_id in ids and not isinstance(part.transform, VoidTransform):
            what = f"partition field {part.name} is made from {paths[part.source_id]}"
            raise _in_use(found, what, f"DROP PARTITION FIELD {sql_name(part.name)} first")
    for key in draft.order:
        if key.source_id in ids:
            order = sort_order_to_sql(SortOrder(*draft.order), draft.schema) or paths[key.source_id]
            what = f"the table is sorted by {paths[key.source_id]} (WRITE ORDERED BY {order})"
            raise _in_use(found, what, "WRITE UNORDERED first, or WRITE ORDERED BY other columns")
    if identifying := sorted(ids & set(draft.identifiers)):
        which = listed(draft, identifying)
        raise _in_use(found, f"identifier field {which} is needed", f"DROP IDENTIFIER FIELDS {which} first")


def _in_use(found: Found, what: str, hint: str) -> SchemaError:
    return SchemaError(f"column {found.path} cannot be dropped: {what}", column=found.path, hint=hint)
