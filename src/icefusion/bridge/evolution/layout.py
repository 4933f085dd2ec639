"""What ALTER TABLE does to partition specs and sort orders.

The sections "Partition Evolution" and "Sorting" of the Iceberg specification have the rules. New fields are named, and
old ones taken up again, as the reference implementation does it (``BaseUpdatePartitionSpec``): a field that is made
from the same column by the same transform as one of any older spec is that field, so that files of both fall together.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.partitioning import PartitionField
from pyiceberg.transforms import (
    BucketTransform,
    IdentityTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
)
from pyiceberg.types import NestedField

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.tree import column_paths, find
from icefusion.bridge.partition import build_sort_order, build_transform, check_partition_source, source_column
from icefusion.bridge.schema import sql_name
from icefusion.errors import BindError, SchemaError
from icefusion.naming import find_name, nearest
from icefusion.sql.alterations import AddPartitionField, DropPartitionField, ReplacePartitionField, SetOrdering
from icefusion.sql.basics import TransformTerm

__all__ = ["add_partition_field", "drop_partition_field", "replace_partition_field", "set_ordering"]


def add_partition_field(draft: Draft, action: AddPartitionField) -> None:
    """Partition later files by one more field.

    Raises:
        BindError: There is no such column.
        SchemaError: The table is partitioned so already, or cannot be.
    """
    draft.footprint.spec = True
    _add(draft, action.term)


def drop_partition_field(draft: Draft, action: DropPartitionField) -> None:
    """No longer partition later files by a field. In format version 1 it stays behind as one that is always NULL.

    Raises:
        BindError: There is no such partition field.
    """
    draft.footprint.spec = True
    _drop(draft, action.term)


def replace_partition_field(draft: Draft, action: ReplacePartitionField) -> None:
    """Partition later files by another field in place of one.

    Raises:
        BindError: There is no such partition field, or no such column.
        SchemaError: The table is partitioned so already, or cannot be.
    """
    draft.footprint.spec = True
    _drop(draft, action.old)
    _add(draft, action.new)


def set_ordering(draft: Draft, action: SetOrdering) -> None:
    """Sort later files so, or no more.

    Raises:
        BindError: There is no such column.
        SchemaError: A transform does not apply to its column.
    """
    draft.footprint.order = True
    for key in action.terms:
        find(draft, key.term.column, key.term.offset)
    draft.order = list(build_sort_order(action.terms, draft.schema).fields)


def _add(draft: Draft, term: TransformTerm) -> None:
    source, transform, path = _bound(draft, term)
    check_partition_source(transform, path.split("."), source)
    for part in draft.partition:
        if part.source_id == source.field_id and part.transform == transform:
            raise SchemaError(
                f"the table is partitioned by {_term_text(transform, path)} already, as partition field {part.name}",
                column=path,
                hint="leave it as it is, or REPLACE PARTITION FIELD",
            )
    if draft.version == 1 and (kept := _voided(draft, source.field_id, transform, term.alias)):
        draft.partition = [kept if part.field_id == kept.field_id else part for part in draft.partition]
        return
    old = _known_before(draft, source.field_id, transform, term.alias) if draft.version > 1 else None
    name = term.alias or (old.name if old is not None else _usual_name(transform, path))
    _check_name(draft, name, source, transform)
    field_id = old.field_id if old is not None else draft.next_partition_id()
    new = PartitionField(source.field_id, field_id, transform, name)
    draft.partition = [*draft.partition, new]
    draft.partition_history.insert(0, new)


def _drop(draft: Draft, term: TransformTerm) -> None:
    part = _named(draft, term)
    if draft.version > 1:
        draft.partition = [other for other in draft.partition if other is not part]
        return
    if isinstance(part.transform, VoidTransform):
        raise draft.unbound(
            f"partition field {part.name} is dropped already",
            term.offset,
            "tables of format version 1 keep dropped partition fields, always NULL; "
            "SET TBLPROPERTIES ('format-version' = '2') lets them go",
        )
    void = part.model_copy(update={"transform": VoidTransform()})
    draft.partition = [void if other is part else other for other in draft.partition]


def _named(draft: Draft, term: TransformTerm) -> PartitionField:
    """The partition field that a term names: by its own name, or by what it is made from."""
    names = [part.name for part in draft.partition]
    if term.transform == "identity" and len(term.column) == 1:
        name = find_name(term.column[0], names)
        if name is not None:
            return draft.partition[names.index(name)]
    written = ".".join(part.text for part in term.column)
    has = f"the partition fields are {', '.join(names)}" if names else "the table is not partitioned"
    try:
        source, transform, path = _bound(draft, term)
    except BindError:
        if term.transform != "identity":
            raise
        near = nearest(written, names)
        hint = f"did you mean {sql_name(near)}?" if near else has
        raise draft.unbound(f"there is no partition field {written}", term.offset, hint) from None
    for part in draft.partition:
        if part.source_id == source.field_id and part.transform == transform:
            return part
    of_column = [part.name for part in draft.partition if part.source_id == source.field_id]
    near = of_column[0] if of_column else nearest(written, names)
    hint = f"did you mean DROP PARTITION FIELD {sql_name(near)}?" if near else has
    raise draft.unbound(f"the table is not partitioned by {_term_text(transform, path)}", term.offset, hint)


def _bound(draft: Draft, term: TransformTerm) -> tuple[NestedField, Transform[Any, Any], str]:
    """The column, the transform and the column's path that a term stands for."""
    find(draft, term.column, term.offset)
    path, source = source_column(term.column, draft.schema)
    return source, build_transform(term, path, source), ".".join(path)


def _known_before(
    draft: Draft, source_id: int, transform: Transform[Any, Any], alias: str | None
) -> PartitionField | None:
    for part in draft.partition_history:
        if part.source_id == source_id and part.transform == transform and alias in (None, part.name):
            return part
    return None


def _voided(draft: Draft, source_id: int, transform: Transform[Any, Any], alias: str | None) -> PartitionField | None:
    """The field that the same alterations made void before, in format version 1; it comes back as it was."""
    void = {part.field_id for part in draft.partition if isinstance(part.transform, VoidTransform)}
    for part in draft.base.spec().fields:
        if part.field_id in void and part.source_id == source_id and part.transform == transform:
            return part if alias is None else part.model_copy(update={"name": alias})
    return None


def _check_name(draft: Draft, name: str, source: NestedField, transform: Transform[Any, Any]) -> None:
    """Refuse a name that is taken; a void field makes way for it, as in the reference implementation."""
    fields: list[PartitionField] = []
    for part in draft.partition:
        if part.name.lower() != name.lower():
            fields.append(part)
        elif isinstance(part.transform, VoidTransform):
            fields.append(part.model_copy(update={"name": f"{part.name}_{part.field_id}"}))
        else:
            raise SchemaError(f"there is a partition field {part.name} already", column=name, hint="name it with AS")
    for field_id, path in column_paths(draft.fields).items():
        same = field_id == source.field_id and isinstance(transform, IdentityTransform | VoidTransform)
        if path.lower() == name.lower() and not same:
            raise SchemaError(
                f"partition field {name} would have the name of the column {path}", column=name, hint="name it with AS"
            )
    draft.partition = fields


def _usual_name(transform: Transform[Any, Any], path: str) -> str:
    match transform:
        case IdentityTransform():
            return path
        case BucketTransform():
            return f"{path}_bucket_{transform.num_buckets}"
        case TruncateTransform():
            return f"{path}_trunc_{transform.width}"
        case VoidTransform():
            return f"{path}_null"
    return f"{path}_{transform}"


def _term_text(transform: Transform[Any, Any], path: str) -> str:
    match transform:
        case IdentityTransform():
            return path
        case BucketTransform():
            return f"bucket({transform.num_buckets}, {path})"
        case TruncateTransform():
            return f"truncate({transform.width}, {path})"
    return f"{transform}({path})"
