"""Which columns identify a row. Section "Identifier Field IDs" of the Iceberg specification."""

from __future__ import annotations

from pyiceberg.types import DoubleType, FloatType, StructType

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.tree import Found, find, listed, touch
from icefusion.bridge.schema import type_name
from icefusion.errors import SchemaError
from icefusion.sql.alterations import SetIdentifierFields

__all__ = ["set_identifiers"]


def set_identifiers(draft: Draft, action: SetIdentifierFields) -> None:
    """Say which columns identify a row. Section "Identifier Field IDs" of the Iceberg specification.

    Raises:
        BindError: There is no such column.
        SchemaError: It cannot be one of those, or is none.
    """
    draft.footprint.identifiers = True
    ids: dict[int, None] = {}
    for path in action.columns:
        found = find(draft, path, action.offset)
        if not action.drop:
            touch(draft, found)
            _check_identifier(found)
        elif found.field.field_id not in draft.identifiers:
            has = listed(draft, draft.identifiers)
            raise SchemaError(
                f"column {found.path} is not an identifier field",
                column=found.path,
                hint=f"the identifier fields are {has}" if has else "the table has none",
            )
        ids[found.field.field_id] = None
    wanted = [field_id for field_id in draft.identifiers if field_id not in ids] if action.drop else list(ids)
    if set(wanted) != set(draft.identifiers):
        draft.identifiers = wanted


def _check_identifier(found: Found) -> None:
    field, path = found.field, found.path
    reason = hint = None
    outer = next((holder for holder in found.trail[:-1] if not isinstance(holder.field_type, StructType)), None)
    nullable = next((i for i, held in enumerate(found.trail) if not held.required), None)
    if outer is not None:
        reason = f"it is in {outer.name}, a {type_name(outer.field_type).partition('<')[0]}"
        hint = "name columns of the table or of structs"
    elif not field.field_type.is_primitive:
        reason, hint = f"it is {type_name(field.field_type)}", "name columns of single values"
    elif isinstance(field.field_type, FloatType | DoubleType):
        reason = f"it is {type_name(field.field_type)}, and such numbers do not compare well"
        hint = "name columns of other types"
    elif nullable is not None:
        optional = ".".join(held.name for held in found.trail[: nullable + 1])
        reason, hint = f"{optional} may be NULL", f"ALTER COLUMN {optional} SET NOT NULL first"
    if reason is not None:
        raise SchemaError(f"column {path} cannot identify rows: {reason}", column=path, hint=hint)
