"""INSERT OVERWRITE and REPLACE WHERE: new rows, and the old ones that they replace.

The new rows are written first, because their query may read what they replace. Then the old rows go:

- without PARTITION, all of them;
- with ``PARTITION (d = 'x')``, the rows of that partition, and the column has that value in all new rows;
- with ``PARTITION (d)``, the rows of all partitions that the new rows fall in;
- with ``REPLACE WHERE p``, the rows for which p is true, and p must be true of all new rows.

Files that lie in a partition which is replaced go as a whole, unread. Files of an older partition spec may hold rows of
it among others; their rows are looked at one by one, by the same transforms that partition new rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, And, BooleanExpression, EqualTo, IsNull, Or
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform

from icefusion.bridge.partition import build_spec, column_path, partition_columns, partition_groups, partition_record
from icefusion.bridge.schema import type_to_arrow
from icefusion.changes.asking import Wave
from icefusion.changes.context import ChangeContext, Changed
from icefusion.changes.insert import InsertAlignment
from icefusion.changes.rows import RowChanger
from icefusion.errors import BindError, SchemaError
from icefusion.naming import find_name
from icefusion.query.files import LiveFile
from icefusion.query.planner import bind_query
from icefusion.sql.compose import compose
from icefusion.sql.statements import Fragment, Insert, Overwrite, PartitionTerm

__all__ = ["Overwriter", "partition_constants"]

Key = tuple[Any, ...]
MAX_FILTERED_PARTITIONS = 200


@dataclass(frozen=True)
class _Held:
    """One item of PARTITION: its field, and the value it is held at, if it is."""

    field: PartitionField
    value: pa.Scalar | None
    term: PartitionTerm


class Overwriter:
    """Carries out one INSERT that replaces rows."""

    def __init__(self, context: ChangeContext, changer: RowChanger) -> None:
        self._context = context
        self._changer = changer
        self._metadata = context.pinned.handle.metadata
        self._schema = self._metadata.schema()

    def run(self, change: Insert, overwrite: Overwrite, alignment: InsertAlignment) -> Changed:
        """Write the new rows, and find the old ones.

        Raises:
            SchemaError: A new row lies outside of what is replaced.
        """
        where = overwrite.where
        if where is not None:
            return self._changer.replace(
                change.query, alignment, lambda added: self._changer.asker.rows_where(where, added), ()
            )
        if not overwrite.partition:
            self._depend_on(AlwaysTrue())
            return self._changer.replace(change.query, alignment, lambda _: iter(()), self._changer.asker.live_files())
        return self._replace_partitions(change, overwrite, alignment)

    def _replace_partitions(self, change: Insert, overwrite: Overwrite, alignment: InsertAlignment) -> Changed:
        items = _resolve(overwrite.partition, self._context)
        static = [item for item in items if item.value is not None]
        spec = self._metadata.spec()
        fields = tuple(spec.fields) if len(static) < len(items) else tuple(item.field for item in static)
        mine = PartitionSpec(*fields)

        def waves(added: Sequence[DataFile]) -> Iterator[Wave]:
            keys = {self._key(file, spec, fields) for file in added}
            if len(static) == len(items):
                wanted = {tuple(_key_value(item.value, item.field, self._schema) for item in static)}
                for key in keys - wanted:
                    raise SchemaError(
                        f"a new row falls in partition {_told(fields, key)}, and only "
                        f"{_told(fields, next(iter(wanted)))} is replaced",
                        hint="filter the rows of the query, or leave the value out to replace all their partitions",
                    )
                keys = wanted
            self._depend_on(self._filter(fields, keys))
            whole.clear()  # this may be the second time
            unsure: list[LiveFile] = []
            for live in self._changer.asker.live_files():
                file_spec = self._metadata.specs()[live.file.spec_id]
                if _has_fields(file_spec, fields):
                    if self._key(live.file, file_spec, fields) in keys:
                        whole.append(live)
                else:
                    unsure.append(live)
            if unsure:
                paths = frozenset(live.file.file_path for live in unsure)
                yield self._changer.asker.rows_of_files(paths, lambda batch: self._in_partitions(batch, mine, keys))

        whole: list[LiveFile] = []
        return self._changer.replace(change.query, alignment, waves, whole)

    def _in_partitions(self, batch: pa.RecordBatch, spec: PartitionSpec, keys: set[Key]) -> pa.RecordBatch:
        """The rows of a batch that lie in one of some partitions; its last columns are those of the table."""
        names = [field.name for field in self._schema.fields]
        columns = batch.columns[batch.num_columns - len(names) :]
        rows = pa.RecordBatch.from_arrays(columns, names=names)
        codes, found = partition_groups(partition_columns(rows, spec, self._schema))
        hit = np.array([_plain(partition_record(key, spec, self._schema)) in keys for key in found], np.bool_)
        return batch.filter(pa.array(hit[codes]))

    def _key(self, file: DataFile, spec: PartitionSpec, fields: Sequence[PartitionField]) -> Key:
        places = {(field.source_id, str(field.transform)): place for place, field in enumerate(spec.fields)}
        values = [file.partition[places[field.source_id, str(field.transform)]] for field in fields]
        return _plain(partition_record(values, PartitionSpec(*fields), self._schema))

    def _depend_on(self, row_filter: BooleanExpression) -> None:
        state = self._context.state
        state.note_reads([(state.view_of(self._context.pinned), row_filter)], self._context.isolation)

    def _filter(self, fields: Sequence[PartitionField], keys: set[Key]) -> BooleanExpression:
        """Which rows the partitions hold, where their values say so."""
        if len(keys) > MAX_FILTERED_PARTITIONS:
            return AlwaysTrue()
        result: BooleanExpression = AlwaysFalse()
        for key in keys:
            part: BooleanExpression = AlwaysTrue()
            for field, value in zip(fields, key, strict=True):
                name = self._schema.find_column_name(field.source_id)
                if not isinstance(field.transform, IdentityTransform) or name is None or value == _NAN:
                    continue
                predicate: Any = IsNull if value is None else EqualTo  # of which the types tell no positions
                part = And(part, predicate(name) if value is None else predicate(name, value))
            result = Or(result, part)
        return result


def partition_constants(change: Insert, context: ChangeContext) -> dict[str, pa.Scalar]:
    """The columns that PARTITION holds at a value, which the query does not give.

    Raises:
        BindError: An item is none of the table's partition fields.
        SchemaError: A value does not fit its column.
    """
    assert change.overwrite is not None  # the caller looks
    schema = context.pinned.handle.metadata.schema()
    constants = {}
    for item in _resolve(change.overwrite.partition, context):
        path = column_path(item.field.source_id, schema)
        if item.value is not None and isinstance(item.field.transform, IdentityTransform) and path and len(path) == 1:
            constants[path[0]] = item.value
    return constants


def _resolve(terms: Sequence[PartitionTerm], context: ChangeContext) -> list[_Held]:
    metadata = context.pinned.handle.metadata
    schema, spec = metadata.schema(), metadata.spec()
    items = []
    for item in terms:
        field = _named_field(item, spec) or build_spec([item.term], schema).fields[0]
        known = [own for own in spec.fields if (own.source_id, own.transform) == (field.source_id, field.transform)]
        if not known:
            has = ", ".join(own.name for own in spec.fields)
            raise BindError(
                f"{'.'.join(part.text for part in item.term.column)} is no partition field of "
                f"{context.pinned.handle.name}",
                sql=item.value.sql if item.value is not None and item.value.sql else None,
                offset=item.term.offset,
                hint=f"its partition fields are {has}" if has else "the table is not partitioned; leave PARTITION out",
            )
        value = None if item.value is None else _evaluated(item.value, known[0], schema, context)
        items.append(_Held(known[0], value, item))
    return items


def _named_field(item: PartitionTerm, spec: PartitionSpec) -> PartitionField | None:
    if item.term.transform != "identity" or len(item.term.column) != 1:
        return None
    name = find_name(item.term.column[0], [field.name for field in spec.fields])
    return next((field for field in spec.fields if field.name == name), None)


def _evaluated(value: Fragment, field: PartitionField, schema: Schema, context: ChangeContext) -> pa.Scalar:
    """The value of a partition field, in the Arrow type of the transform's result."""
    query = compose("SELECT (\n", value, "\n)")
    bound, bindings = bind_query(query, context.state, context.sources)
    values = {name: context.parameters[name] for name in query.parameters}
    rows = [row for batch in context.engine.plan(bound, bindings, values).stream() for row in batch.column(0)]
    wanted = type_to_arrow(field.transform.result_type(schema.find_type(field.source_id)), field_ids=False, column="")
    scalar = rows[0] if rows else pa.scalar(None, wanted)
    if isinstance(field.transform, IdentityTransform):
        wanted = type_to_arrow(schema.find_type(field.source_id), field_ids=False, column=field.name)
    try:
        return scalar.cast(wanted)
    except pa.ArrowException as exc:
        raise SchemaError(
            f"PARTITION: {scalar} is no value of partition field {field.name}, which is {wanted}",
            column=field.name,
            expected=str(wanted),
            found=str(scalar),
        ) from exc


def _key_value(value: pa.Scalar | None, field: PartitionField, schema: Schema) -> Any:
    assert value is not None  # of items that are held alone
    _, keys = partition_groups([pa.array([value.as_py()], value.type)])
    return _plain(partition_record(keys[0], PartitionSpec(field), schema))[0]


_NAN = "NaN as a partition value"


def _plain(record: Any) -> Key:
    """A partition record as something that can be looked up."""
    values = [record[index] for index in range(len(record))]
    return tuple(_NAN if isinstance(value, float) and math.isnan(value) else value for value in values)


def _has_fields(spec: PartitionSpec, fields: Sequence[PartitionField]) -> bool:
    known = {(field.source_id, str(field.transform)) for field in spec.fields}
    return all((field.source_id, str(field.transform)) in known for field in fields)


def _told(fields: Sequence[PartitionField], key: Key) -> str:
    return ", ".join(f"{field.name} = {value!r}" for field, value in zip(fields, key, strict=True))
