"""What a name in SHOW and DESCRIBE stands for, and the columns it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StructType

from icefusion.bridge.schema import arrow_to_iceberg, type_name
from icefusion.commit.handles import TableHandle
from icefusion.errors import BindError, UnsupportedStatementError
from icefusion.generated_tables import find_generated
from icefusion.naming import find_name, nearest
from icefusion.sql.statements import Identifier, Name
from icefusion.transaction import TransactionState
from icefusion.views import Views

__all__ = ["Described", "column_type", "find_column", "find_described", "find_table"]


@dataclass(frozen=True)
class Described:
    """Something with columns.

    Attributes:
        name: Its full name.
        columns: Its columns.
        handle: The table; None for what is none.
        snapshot_id: The snapshot of it that is looked at.
    """

    name: str
    columns: Schema
    handle: TableHandle | None = None
    snapshot_id: int | None = None


def find_described(state: TransactionState, name: Name, views: Views | None = None) -> Described:
    """What a name stands for, in the state that the transaction reads: a table, a branch of one, a metadata table.

    Args:
        state: The transaction.
        name: The name.
        views: The views that it may stand for; None where it can be none.

    Raises:
        TableNotFoundError: Nothing of this name is there.
    """
    view = views.view(name, state) if views is not None else None
    if view is not None:
        return Described(view.name, view.columns_as_schema() or arrow_to_iceberg(view.schema))
    generated = find_generated(state, name, None)
    if generated is not None:
        return Described(generated.name, generated.fields)
    pinned, travel = state.travel(name, None)
    handle = pinned.handle
    if travel is not None:
        return Described(handle.name, travel.schema, handle, travel.snapshot_id)
    return Described(handle.name, handle.metadata.schema(), handle, state.view_of(pinned).snapshot_id)


def find_table(state: TransactionState, name: Name, what: str) -> Described:
    """As `find_described`, for what only tables have.

    Raises:
        UnsupportedStatementError: It is no table of the catalog.
        TableNotFoundError: Nothing of this name is there.
    """
    found = find_described(state, name)
    if found.handle is None:
        raise UnsupportedStatementError(
            f"{found.name} is no table of the catalog and has no {what}", hint=f"DESCRIBE {name} shows its columns"
        )
    return found


def find_column(described: Described, path: Sequence[Identifier]) -> tuple[str, NestedField]:
    """The dotted path and the field of a column, or of a part of a struct.

    Raises:
        BindError: There is no such column.
    """
    fields: Sequence[NestedField] = described.columns.fields
    names: list[str] = []
    field: NestedField | None = None
    for part in path:
        known = {each.name: each for each in fields}
        found = find_name(part, known)
        if found is None:
            full = ".".join((*names, part.text))
            near = nearest(part.text, known)
            hint = f"did you mean {'.'.join((*names, near))}?" if near else f"there are {', '.join(known) or 'none'}"
            raise BindError(f"{described.name} has no column {full}", hint=hint)
        field = known[found]
        names.append(found)
        fields = field.field_type.fields if isinstance(field.field_type, StructType) else ()
    assert field is not None  # a path has at least one part
    return ".".join(names), field


def column_type(field: NestedField) -> str:
    """A column's type as CREATE TABLE takes it, NOT NULL included."""
    return type_name(field.field_type) + (" not null" if field.required else "")
