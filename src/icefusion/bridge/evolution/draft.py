"""A table's definition while alterations are put on it, and the updates that lead from the table to it.

A draft begins as the table is and takes one alteration after the other, each seeing what those before it did. What it
has become is then compared with the table, so that any number of alterations end in at most one new schema, one new
partition spec and one new sort order, and alterations that take each other back end in nothing. Schemas, specs and
orders that the table had before are used again ("Table Metadata Fields" in the Iceberg specification keeps them all).

While it is worked on, a draft notes what of the table each alteration leans on. `icefusion.bridge.evolution.overlap`
looks there for what somebody else changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.sorting import INITIAL_SORT_ORDER_ID, UNSORTED_SORT_ORDER, SortField, SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)
from pyiceberg.types import NestedField

from icefusion.errors import BindError, SchemaError

__all__ = [
    "Draft",
    "Footprint",
    "build_schema",
    "last_partition_id",
    "order_updates",
    "schema_updates",
    "spec_updates",
    "updates_of",
]


@dataclass
class Footprint:
    """What of the table that a draft began with the alterations lean on, by field id and by name.

    Attributes:
        named: Columns that were named, and what holds them; they have to keep their names and places in structs.
        changed: Columns that were altered; they have to stay as they were.
        dropped: Columns that go, with all in them.
        moved: Columns that were given another place.
        absent: Names that were not there, by the id of the struct (None for the table) and in lower case.
        identifiers: Whether the identifier fields were set.
        spec: Whether partition fields were.
        order: Whether the sort order was.
        location: Whether the location was.
        keys: Properties that were set or unset.
        refs: Branches and tags that were set or dropped.
    """

    named: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)
    absent: set[tuple[int | None, str]] = field(default_factory=set)
    identifiers: bool = False
    spec: bool = False
    order: bool = False
    location: bool = False
    keys: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)


class Draft:
    """What a table is to become.

    Attributes:
        base: The table as it is.
        sql: The text of the statement, which errors then point into; None where it is not known.
        version: The format version.
        fields: The columns.
        identifiers: Ids of the identifier fields.
        last_column_id: The highest id that any column has or had.
        partition: The fields of the default partition spec.
        partition_history: The partition fields of all specs that the table has had, the newest first.
        last_partition_id: The highest id that any partition field has or had.
        order: The fields of the default sort order.
        location: Where the table's files go.
        properties: The table's properties.
        refs: Its branches and tags.
        footprint: What the alterations lean on.
    """

    def __init__(self, base: TableMetadata, sql: str | None = None) -> None:
        self.base = base
        self.sql = sql
        schema = base.schema()
        self.version: int = base.format_version
        self.fields: tuple[NestedField, ...] = schema.fields
        self.identifiers: list[int] = list(schema.identifier_field_ids)
        self.last_column_id = base.last_column_id
        self.partition: list[PartitionField] = list(base.spec().fields)
        specs = sorted(base.partition_specs, key=lambda spec: spec.spec_id, reverse=True)
        self.partition_history: list[PartitionField] = [part for spec in specs for part in spec.fields]
        self.last_partition_id = last_partition_id(base)
        self.order: list[SortField] = list(base.sort_order().fields)
        self.location = base.location
        self.properties: dict[str, str] = dict(base.properties)
        self.refs: dict[str, SnapshotRef] = dict(base.refs)
        self.footprint = Footprint()
        self._schema = schema

    @property
    def schema(self) -> Schema:
        """The columns as a schema of the id that it has or will get.

        Raises:
            SchemaError: Two columns would have the same dotted path.
        """
        if self._schema.fields is not self.fields or self._schema.identifier_field_ids != self.identifiers:
            self._schema = build_schema(self.fields, self.identifiers, _next_schema_id(self.base))
        return self._schema

    def next_column_id(self) -> int:
        """An id that no column has or had."""
        self.last_column_id += 1
        return self.last_column_id

    def next_partition_id(self) -> int:
        """An id that no partition field has or had."""
        self.last_partition_id += 1
        return self.last_partition_id

    def unbound(self, message: str, offset: int | None, hint: str | None) -> BindError:
        """The error for a name that stands for nothing; it points into the statement where its text is known."""
        return BindError(message, sql=self.sql, offset=offset if self.sql is not None else None, hint=hint)


def build_schema(fields: tuple[NestedField, ...], identifiers: list[int], schema_id: int) -> Schema:
    """A schema of these columns.

    Raises:
        SchemaError: Two columns would have the same dotted path.
    """
    try:
        # PyIceberg finds out while it indexes names: a column named "a.b" beside a struct a with a column b.
        return Schema(*fields, schema_id=schema_id, identifier_field_ids=identifiers)
    except ValueError as exc:
        raise SchemaError(f"columns clash: {exc}", hint="choose another name") from exc


def updates_of(draft: Draft) -> tuple[TableUpdate, ...]:
    """The updates that make the table what the draft has become; none where it has become what it was.

    Raises:
        SchemaError: Two columns would have the same dotted path.
    """
    base = draft.base
    updates: list[TableUpdate] = []
    if draft.version != base.format_version:
        updates.append(UpgradeFormatVersionUpdate(format_version=draft.version))
    updates += schema_updates(base, draft.schema)
    updates += spec_updates(base, draft.partition)
    updates += order_updates(base, draft.order)
    if draft.location != base.location:
        updates.append(SetLocationUpdate(location=draft.location))
    changed = {key: value for key, value in draft.properties.items() if base.properties.get(key) != value}
    if changed:
        updates.append(SetPropertiesUpdate(updates=changed))
    if gone := [key for key in base.properties if key not in draft.properties]:
        updates.append(RemovePropertiesUpdate(removals=gone))
    return (*updates, *_ref_updates(base, draft.refs))


def schema_updates(base: TableMetadata, schema: Schema) -> list[TableUpdate]:
    """What makes a schema the current one: nothing, an old one of the same columns, or a new one."""
    if _same_schema(schema, base.schema()):
        return []
    for old in base.schemas:
        if _same_schema(schema, old):
            return [SetCurrentSchemaUpdate(schema_id=old.schema_id)]
    numbered = schema.model_copy(update={"schema_id": _next_schema_id(base)})
    return [AddSchemaUpdate(schema_=numbered), SetCurrentSchemaUpdate(schema_id=-1)]


def spec_updates(base: TableMetadata, fields: list[PartitionField]) -> list[TableUpdate]:
    """What makes a partition spec the default one: nothing, an old one of the same fields, or a new one."""
    spec = PartitionSpec(*fields)
    if spec.compatible_with(base.spec()):
        return []
    for old in base.partition_specs:
        if spec.compatible_with(old):
            return [SetDefaultSpecUpdate(spec_id=old.spec_id)]
    spec_id = max(old.spec_id for old in base.partition_specs) + 1
    return [
        AddPartitionSpecUpdate(spec=PartitionSpec(*fields, spec_id=spec_id)),
        SetDefaultSpecUpdate(spec_id=-1),
    ]


def order_updates(base: TableMetadata, fields: list[SortField]) -> list[TableUpdate]:
    """What makes a sort order the default one: nothing, an old one of the same fields, or a new one."""
    if fields == list(base.sort_order().fields):
        return []
    for old in base.sort_orders:
        if fields == list(old.fields):
            return [SetDefaultSortOrderUpdate(sort_order_id=old.order_id)]
    if not fields:
        # Its id is 0, which is not the highest: -1 would stand for another one.
        return [
            AddSortOrderUpdate(sort_order=UNSORTED_SORT_ORDER),
            SetDefaultSortOrderUpdate(sort_order_id=UNSORTED_SORT_ORDER.order_id),
        ]
    order_id = max((INITIAL_SORT_ORDER_ID, *(old.order_id + 1 for old in base.sort_orders)))
    return [
        AddSortOrderUpdate(sort_order=SortOrder(*fields, order_id=order_id)),
        SetDefaultSortOrderUpdate(sort_order_id=-1),
    ]


def _ref_updates(base: TableMetadata, refs: dict[str, SnapshotRef]) -> list[TableUpdate]:
    removed: list[TableUpdate] = []
    changed: list[TableUpdate] = []
    for name, old in base.refs.items():
        if name not in refs or refs[name].snapshot_ref_type != old.snapshot_ref_type:
            removed.append(RemoveSnapshotRefUpdate(ref_name=name))
    for name, ref in refs.items():
        if base.refs.get(name) != ref:
            changed.append(
                SetSnapshotRefUpdate(
                    ref_name=name,
                    type=ref.snapshot_ref_type,
                    snapshot_id=ref.snapshot_id,
                    max_ref_age_ms=ref.max_ref_age_ms,
                    max_snapshot_age_ms=ref.max_snapshot_age_ms,
                    min_snapshots_to_keep=ref.min_snapshots_to_keep,
                )
            )
    return removed + changed


def _same_schema(one: Schema, other: Schema) -> bool:
    # The identifier fields are a set, whatever order they are kept in.
    return one.fields == other.fields and set(one.identifier_field_ids) == set(other.identifier_field_ids)


def _next_schema_id(base: TableMetadata) -> int:
    return max(schema.schema_id for schema in base.schemas) + 1


def last_partition_id(base: TableMetadata) -> int:
    """The highest id that any partition field of a table has or had."""
    used = (field.field_id for spec in base.partition_specs for field in spec.fields)
    return max((PARTITION_FIELD_ID_START - 1, base.last_partition_id or 0, *used))
