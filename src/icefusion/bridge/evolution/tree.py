"""Find columns by path, and put changed ones back into the tree that they are part of.

A column's fields are values that never change: altering one makes a new one, and new holders up to the top. Values that
the alteration says nothing of, such as defaults that another engine gave to a column, go along untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.schema import join_path, type_name
from icefusion.errors import BindError, SchemaError
from icefusion.naming import nearest
from icefusion.sql.alterations import ColumnPath
from icefusion.sql.basics import Identifier

__all__ = [
    "Found",
    "column_paths",
    "edit_siblings",
    "find",
    "find_holder",
    "fresh_type",
    "is_missing",
    "listed",
    "note_absent",
    "parts_of",
    "pick_sibling",
    "put",
    "subtree",
    "touch",
    "with_holders",
]


@dataclass(frozen=True)
class Found:
    """A column or a part of one.

    Attributes:
        trail: The fields from the top level down to it, itself the last.
    """

    trail: tuple[NestedField, ...]

    @property
    def field(self) -> NestedField:
        """The column itself."""
        return self.trail[-1]

    @property
    def path(self) -> str:
        """Its dotted path, in the table's spelling."""
        return ".".join(field.name for field in self.trail)

    @property
    def holder(self) -> NestedField | None:
        """What it is a part of; None for a column of the table."""
        return self.trail[-2] if len(self.trail) > 1 else None

    @property
    def is_named(self) -> bool:
        """Whether it is a column of the table or of a struct, and not an element, a key or a value."""
        return self.holder is None or isinstance(self.holder.field_type, StructType)

    @property
    def map_with_key(self) -> str | None:
        """The path of the map whose key it is or belongs to, if any."""
        for depth, (outer, inner) in enumerate(zip(self.trail, self.trail[1:], strict=False), 1):
            if isinstance(outer.field_type, MapType) and inner.field_id == outer.field_type.key_id:
                return ".".join(field.name for field in self.trail[:depth])
        return None


def find(draft: Draft, path: ColumnPath, offset: int | None) -> Found:
    """The column that a path names.

    Unquoted parts match without regard to case where no name is exactly the same. ``element`` may be left out above a
    struct in a list, and ``value`` above one in a map, as in the reference implementation.

    Raises:
        BindError: There is no such column, or more than one.
    """
    trail: list[NestedField] = []
    for part in path:
        siblings = _step_into(draft, trail, part)
        candidates = pick_sibling(part, siblings)
        if len(candidates) != 1:
            raise _unfound(draft, part, siblings, trail, offset, ambiguous=bool(candidates))
        trail += candidates
    found = Found(tuple(trail))
    _note(draft, found)
    return found


def is_missing(draft: Draft, path: ColumnPath) -> bool:
    """Whether a path names nothing at all; where it is ambiguous it names something."""
    trail: list[NestedField] = []
    for part in path:
        candidates = pick_sibling(part, _step_into(draft, trail, part))
        if not candidates:
            note_absent(draft, trail[-1] if trail else None, part.text)
            return True
        trail.append(candidates[0])
    return False


def find_holder(draft: Draft, path: ColumnPath, offset: int | None) -> tuple[NestedField, ...]:
    """The trail of the struct that a new column's parent path names; empty for the table itself.

    Raises:
        BindError: There is no such column.
        SchemaError: It is not a struct.
    """
    if not path:
        return ()
    found = find(draft, path, offset)
    inner = _inner_struct(found.field)
    if inner is not None:
        found = Found((*found.trail, inner))
        _note(draft, found)
    if not isinstance(found.field.field_type, StructType):
        raise SchemaError(
            f"column {found.path} is {type_name(found.field.field_type)}, which has no columns of its own",
            column=found.path,
            expected="struct",
            found=type_name(found.field.field_type),
            hint="columns can be added to the table and to structs",
        )
    return found.trail


def _note(draft: Draft, found: Found) -> None:
    """Let the footprint know that a path was followed to here."""
    known = draft.base.last_column_id
    draft.footprint.named |= {field.field_id for field in found.trail if field.field_id <= known}


def note_absent(draft: Draft, holder: NestedField | None, name: str) -> None:
    """Let the footprint know that a name was found to be free."""
    if holder is None or holder.field_id <= draft.base.last_column_id:
        draft.footprint.absent.add((None if holder is None else holder.field_id, name.lower()))


def parts_of(field: NestedField) -> tuple[NestedField, ...]:
    """The columns of a struct, the element of a list, the key and the value of a map; nothing for single values."""
    match field.field_type:
        case StructType():
            return field.field_type.fields
        case ListType():
            return (field.field_type.element_field,)
        case MapType():
            return (field.field_type.key_field, field.field_type.value_field)
    return ()


def subtree(field: NestedField) -> Iterator[NestedField]:
    """A column and all in it."""
    yield field
    for part in parts_of(field):
        yield from subtree(part)


def column_paths(fields: Sequence[NestedField], parent: str = "") -> dict[int, str]:
    """The dotted paths of all columns and their parts, by field id."""
    paths: dict[int, str] = {}
    for field in fields:
        paths[field.field_id] = join_path(parent, field.name)
        paths.update(column_paths(parts_of(field), paths[field.field_id]))
    return paths


def with_holders(fields: Sequence[NestedField], holder: int | None = None) -> dict[int, tuple[int | None, NestedField]]:
    """All columns and their parts by field id, each with the id of what it is a part of (None for the table)."""
    found: dict[int, tuple[int | None, NestedField]] = {}
    for field in fields:
        found[field.field_id] = (holder, field)
        found.update(with_holders(parts_of(field), field.field_id))
    return found


def put(draft: Draft, trail: Sequence[NestedField], new: NestedField) -> None:
    """Let a changed field take the place of the last one of a trail."""
    for holder in reversed(trail[:-1]):
        new = _with_part(holder, new)
    draft.fields = tuple(new if field.field_id == new.field_id else field for field in draft.fields)


def edit_siblings(
    draft: Draft,
    holder: Sequence[NestedField],
    change: Callable[[tuple[NestedField, ...]], Sequence[NestedField]],
) -> None:
    """Change the columns of a struct, given by its trail, or those of the table where that is empty."""
    if not holder:
        draft.fields = tuple(change(draft.fields))
        return
    fields = change(parts_of(holder[-1]))
    put(draft, holder, holder[-1].model_copy(update={"field_type": StructType(*fields)}))


def fresh_type(kind: IcebergType, new_id: Callable[[str], int], path: str) -> IcebergType:
    """A type whose parts get ids from ``new_id``, which is given their dotted paths.

    The parts of one struct are numbered before what is in them, as in the reference implementation.
    """
    match kind:
        case StructType():
            ids = [new_id(join_path(path, part.name)) for part in kind.fields]
            fields = (
                part.model_copy(
                    update={
                        "field_id": number,
                        "field_type": fresh_type(part.field_type, new_id, join_path(path, part.name)),
                    }
                )
                for part, number in zip(kind.fields, ids, strict=True)
            )
            return StructType(*fields)
        case ListType():
            inside = join_path(path, "element")
            number = new_id(inside)
            element = fresh_type(kind.element_type, new_id, inside)
            return ListType(element_id=number, element=element, element_required=kind.element_required)
        case MapType():
            key, value = join_path(path, "key"), join_path(path, "value")
            key_id, value_id = new_id(key), new_id(value)
            return MapType(
                key_id=key_id,
                key_type=fresh_type(kind.key_type, new_id, key),
                value_id=value_id,
                value_type=fresh_type(kind.value_type, new_id, value),
                value_required=kind.value_required,
            )
    return kind


def pick_sibling(part: Identifier, siblings: Sequence[NestedField]) -> list[NestedField]:
    """The columns that a name may stand for: the one of exactly that name or, unquoted, those that differ in case."""
    exact = [field for field in siblings if field.name == part.text]
    if exact or part.quoted:
        return exact
    return [field for field in siblings if field.name.casefold() == part.text.casefold()]


def _step_into(draft: Draft, trail: list[NestedField], part: Identifier) -> Sequence[NestedField]:
    """The columns among which the next part of a path is looked for; passes over ``element`` and ``value``."""
    if not trail:
        return draft.fields
    siblings = parts_of(trail[-1])
    inner = _inner_struct(trail[-1])
    if inner is None or part.text.lower() in {field.name for field in siblings}:
        return siblings
    trail.append(inner)
    return parts_of(inner)


def _unfound(
    draft: Draft,
    part: Identifier,
    siblings: Sequence[NestedField],
    trail: Sequence[NestedField],
    offset: int | None,
    *,
    ambiguous: bool,
) -> BindError:
    parent = ".".join(field.name for field in trail)
    full = join_path(parent, part.text)
    if ambiguous:
        return draft.unbound(f"column {full} is ambiguous", offset, "write it in double quotes, in its own case")
    if trail and not siblings:
        problem = f"there is no column {full}: {parent} is {type_name(trail[-1].field_type)}, which has no parts"
        return draft.unbound(problem, offset, "only structs, lists and maps have parts")
    near = nearest(part.text, (field.name for field in siblings))
    names = ", ".join(field.name for field in siblings[:20])
    where = f"the columns of {parent}" if trail else "the columns"
    hint = f"did you mean {join_path(parent, near)}?" if near else f"{where} are {names}"
    return draft.unbound(f"there is no column {full}", offset, hint)


def _inner_struct(field: NestedField) -> NestedField | None:
    """The struct in a list or map, which may be left out of a path."""
    match field.field_type:
        case ListType(element_type=StructType()):
            return field.field_type.element_field
        case MapType(value_type=StructType()):
            return field.field_type.value_field
    return None


def _with_part(holder: NestedField, new: NestedField) -> NestedField:
    kind: IcebergType
    match holder.field_type:
        case StructType() as struct:
            kind = StructType(*(new if part.field_id == new.field_id else part for part in struct.fields))
        case ListType() as items:
            kind = ListType(element_id=items.element_id, element=new.field_type, element_required=new.required)
        case MapType() as pairs:
            is_key = new.field_id == pairs.key_id
            kind = MapType(
                key_id=pairs.key_id,
                key_type=new.field_type if is_key else pairs.key_type,
                value_id=pairs.value_id,
                value_type=pairs.value_type if is_key else new.field_type,
                value_required=pairs.value_required if is_key else new.required,
            )
        case _:
            raise AssertionError(f"{holder.name} holds nothing")
    return holder.model_copy(update={"field_type": kind})


def listed(draft: Draft, ids: Sequence[int]) -> str:
    """The paths of columns, for messages."""
    paths = column_paths(draft.fields)
    return ", ".join(paths[field_id] for field_id in ids if field_id in paths)


def touch(draft: Draft, found: Found) -> None:
    """Let the footprint know that a column is altered."""
    if found.field.field_id <= draft.base.last_column_id:
        draft.footprint.changed.add(found.field.field_id)
