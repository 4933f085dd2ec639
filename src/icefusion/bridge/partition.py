"""Partition specs and sort orders: from SQL, to SQL, and what they make of a batch.

A spec's fields are numbered from 1000 and named as the reference implementation names them: ``ts_day``,
``id_bucket``, ``s_trunc``, and the column's own name for identity; an alias comes before that. "Partitioning" and
"Sort Orders" in the Iceberg specification.
"""

from __future__ import annotations

import datetime as dt
import difflib
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import FixedType, NestedField, StructType
from pyiceberg.utils.datetime import date_to_days, datetime_to_micros, time_to_micros

from icefusion.bridge.pruning import schema_with_dropped_columns
from icefusion.bridge.schema import sql_name, type_name
from icefusion.bridge.transforms import partition_groups, transform_array
from icefusion.errors import SchemaError
from icefusion.sql.statements import Identifier, SortTerm, TransformTerm

__all__ = [
    "build_sort_order",
    "build_spec",
    "build_transform",
    "check_partition_source",
    "partition_columns",
    "partition_groups",
    "partition_path",
    "partition_record",
    "schema_of_spec",
    "sort_order_to_sql",
    "source_column",
    "spec_to_sql",
    "transform_array",
]

_PLAIN: dict[str, type[Transform[Any, Any]]] = {
    "identity": IdentityTransform,
    "year": YearTransform,
    "month": MonthTransform,
    "day": DayTransform,
    "hour": HourTransform,
    "void": VoidTransform,
}
_SUFFIXES = {
    "identity": "",
    "bucket": "_bucket",
    "truncate": "_trunc",
    "year": "_year",
    "month": "_month",
    "day": "_day",
    "hour": "_hour",
    "void": "_null",
}
_APPLIES_TO = {
    "bucket": "int, bigint, decimal, date, time, timestamps, string, uuid, fixed and binary",
    "truncate": "int, bigint, decimal, string and binary",
    "year": "date and timestamps",
    "month": "date and timestamps",
    "day": "date and timestamps",
    "hour": "timestamps",
}


def build_spec(terms: Sequence[TransformTerm], schema: Schema, *, spec_id: int = 0) -> PartitionSpec:
    """The partition spec of ``PARTITIONED BY (terms)``.

    Raises:
        SchemaError: No such column, a transform that does not apply to its type, or names that clash.
    """
    fields: list[PartitionField] = []
    taken: dict[tuple[int, str], str] = {}
    for number, term in enumerate(terms):
        path, source = source_column(term.column, schema)
        transform = build_transform(term, path, source)
        check_partition_source(transform, path, source)
        name = term.alias or ".".join(path) + _SUFFIXES[term.transform]
        _check_name(name, term, source, schema, fields)
        # The reference implementation allows one time transform a column: a day knows its month.
        key = (source.field_id, transform.dedup_name)
        if key in taken and term.transform != "void":
            raise SchemaError(
                f"partition field {name} says no more than partition field {taken[key]}",
                column=".".join(path),
                hint="keep the finer of the two",
            )
        taken[key] = name
        fields.append(PartitionField(source.field_id, PARTITION_FIELD_ID_START + number, transform, name))
    return PartitionSpec(*fields, spec_id=spec_id)


def build_sort_order(terms: Sequence[SortTerm], schema: Schema, *, order_id: int = 1) -> SortOrder:
    """The sort order of ``ORDERED BY (terms)``; the unsorted one (id 0) for no terms.

    Raises:
        SchemaError: No such column, or a transform that does not apply to its type.
    """
    fields = []
    for key in terms:
        path, source = source_column(key.term.column, schema)
        direction = SortDirection.ASC if key.direction == "asc" else SortDirection.DESC
        nulls = NullOrder.NULLS_FIRST if key.nulls == "first" else NullOrder.NULLS_LAST
        fields.append(SortField(source.field_id, build_transform(key.term, path, source), direction, nulls))
    return SortOrder(*fields, order_id=order_id) if fields else UNSORTED_SORT_ORDER


def schema_of_spec(spec: PartitionSpec, metadata: TableMetadata) -> Schema:
    """A schema that knows the columns a spec is made from: the table's current one, or the last one that does."""
    sources = [field.source_id for field in spec.fields]
    for schema in (metadata.schema(), *reversed(metadata.schemas)):
        if all(schema.find_column_name(source) is not None for source in sources):
            return schema
    return schema_with_dropped_columns(metadata.schema(), metadata)


def spec_to_sql(spec: PartitionSpec, schema: Schema) -> str:
    """A spec as the terms of PARTITIONED BY, e.g. ``day(ts), bucket(16, id)``; empty for an unpartitioned one.

    Fields whose source column is no longer in the schema are left out: they hold nothing.
    """
    terms = []
    for field in spec.fields:
        path = column_path(field.source_id, schema)
        if path is None:
            continue
        kind, text = _term_to_sql(field.transform, path)
        usual = ".".join(path) + _SUFFIXES.get(kind, "")
        terms.append(text if field.name == usual else f"{text} AS {sql_name(field.name)}")
    return ", ".join(terms)


def sort_order_to_sql(order: SortOrder, schema: Schema) -> str:
    """A sort order as SQL, e.g. ``id ASC NULLS FIRST, bucket(4, s) DESC NULLS LAST``; empty for the unsorted one."""
    terms = []
    for field in order.fields:
        path = column_path(field.source_id, schema)
        if path is not None:
            terms.append(f"{_term_to_sql(field.transform, path)[1]} {field.direction} {field.null_order}")
    return ", ".join(terms)


def partition_columns(batch: pa.RecordBatch, spec: PartitionSpec, schema: Schema) -> list[pa.Array]:
    """The partition values of a batch's rows, one array for each field of the spec.

    The batch holds the columns of `schema` under their names, in canonical types. Below a NULL struct a column is
    NULL, and so is everything of a field whose source column has been dropped.
    """
    columns = []
    for field in spec.fields:
        path = column_path(field.source_id, schema)
        if path is None:
            columns.append(pa.nulls(batch.num_rows))
            continue
        array = batch.column(path[0])
        for name in path[1:]:
            array = array.flatten()[array.type.get_field_index(name)]
        columns.append(transform_array(field.transform, array, schema.find_type(field.source_id)))
    return columns


def partition_record(values: Sequence[Any], spec: PartitionSpec, schema: Schema) -> Record:  # noqa: ARG001 - as its siblings
    """Partition values as ``DataFile.partition`` holds them: days, microseconds, UUID bytes; others as they are.

    Args:
        values: One for each field of the spec, as `partition_groups` gives them or as Python's own dates, times,
            timestamps and UUIDs.
        spec: The partition spec.
        schema: The schema; the values say enough by themselves today.
    """
    if len(values) != len(spec.fields):
        raise ValueError(f"expected {len(spec.fields)} partition values, found {len(values)}")
    return Record(*(_stored(value) for value in values))


def partition_path(record: Record, spec: PartitionSpec, schema: Schema) -> str:
    """The folder of a partition below the data path, e.g. ``ts_day=2024-05-01/id_bucket=3``."""
    try:
        return spec.partition_to_path(record, schema)
    except (OverflowError, ValueError):  # beyond the years that Python's calendar has
        fields = enumerate(spec.fields)
        return "/".join(f"{quote_plus(f.name, safe='')}={quote_plus(str(record[i]), safe='')}" for i, f in fields)


def column_path(field_id: int, schema: Schema) -> tuple[str, ...] | None:
    """The names from the top level down to a column that is reached through structs alone; None if there is none."""

    def search(fields: Sequence[NestedField]) -> tuple[str, ...] | None:
        for field in fields:
            if field.field_id == field_id:
                return (field.name,)
            if isinstance(field.field_type, StructType) and (below := search(field.field_type.fields)):
                return (field.name, *below)
        return None

    return search(schema.fields)


def source_column(column: Sequence[Identifier], schema: Schema) -> tuple[tuple[str, ...], NestedField]:
    """The path, in the schema's spelling, and the field of a column that a partition or sort order is made from.

    Raises:
        SchemaError: There is no such column, or it does not hold one single value in each row.
    """
    fields: Sequence[NestedField] = schema.fields
    path: list[str] = []
    found: NestedField | None = None
    for part in column:
        if found is not None:
            if not isinstance(found.field_type, StructType):
                raise SchemaError(
                    f"column {'.'.join(path)} is {type_name(found.field_type)}; only columns of structs can be reached",
                    column=".".join((*path, part.text)),
                    hint="partition and sort by columns outside of lists and maps",
                )
            fields = found.field_type.fields
        found = _find(part, fields, path)
        path.append(found.name)
    if found is None:
        raise SchemaError("expected the name of a column")
    if not found.field_type.is_primitive:
        raise SchemaError(
            f"column {'.'.join(path)} is {type_name(found.field_type)}; partitions and sort orders need single values",
            column=".".join(path),
            found=type_name(found.field_type),
            hint="name a column inside of the struct" if found.field_type.is_struct else "name another column",
        )
    return tuple(path), found


def _find(part: Identifier, fields: Sequence[NestedField], path: Sequence[str]) -> NestedField:
    exact = [field for field in fields if field.name == part.text]
    folded = [] if part.quoted else [field for field in fields if field.name.lower() == part.text.lower()]
    if exact or len(folded) == 1:
        return (exact or folded)[0]
    full = ".".join((*path, part.text))
    if folded:
        raise SchemaError(f"column {full} is ambiguous", column=full, hint="write it in double quotes, in its own case")
    near = difflib.get_close_matches(part.text, [field.name for field in fields], n=1)
    names = ", ".join(field.name for field in fields[:20])
    hint = f"did you mean {'.'.join((*path, near[0]))}?" if near else f"the columns are {names}"
    raise SchemaError(f"there is no column {full}", column=full, hint=hint)


def build_transform(term: TransformTerm, path: Sequence[str], source: NestedField) -> Transform[Any, Any]:
    """The transform that a term names, of its column.

    Raises:
        SchemaError: There is no such transform, or it does not apply to the column's type.
    """
    column = ".".join(path)
    transform: Transform[Any, Any]
    if term.transform in ("bucket", "truncate"):
        if term.argument is None or not 1 <= term.argument < 2**31:
            raise SchemaError(
                f"{term.transform} of column {column} needs a number of 1 or more, found {term.argument}",
                column=column,
                hint=f"write {term.transform}(16, {column})",
            )
        transform = BucketTransform(term.argument) if term.transform == "bucket" else TruncateTransform(term.argument)
    elif term.transform in _PLAIN:
        transform = _PLAIN[term.transform]()
    else:
        near = difflib.get_close_matches(term.transform, _SUFFIXES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(_SUFFIXES)}"
        raise SchemaError(f"there is no transform {term.transform}", column=column, hint=hint)
    if not transform.can_transform(source.field_type):
        raise SchemaError(
            f"transform {term.transform} does not apply to column {column} of type {type_name(source.field_type)}",
            column=column,
            expected=_APPLIES_TO.get(term.transform),
            found=type_name(source.field_type),
            hint=f"{term.transform} applies to {_APPLIES_TO.get(term.transform, 'single values')}",
        )
    return transform


def check_partition_source(transform: Transform[Any, Any], path: Sequence[str], source: NestedField) -> None:
    """Refuse partitions that other engines could not read.

    Raises:
        SchemaError: The column is partitioned by values that manifests cannot hold for all readers.
    """
    if isinstance(transform, IdentityTransform) and isinstance(source.field_type, FixedType):
        raise SchemaError(
            f"column {'.'.join(path)} is {type_name(source.field_type)} and cannot be partitioned by its values: "
            "the reference implementation does not read such manifests",
            column=".".join(path),
            hint=f"partition by bucket(16, {'.'.join(path)})",
        )


def _check_name(
    name: str, term: TransformTerm, source: NestedField, schema: Schema, fields: Sequence[PartitionField]
) -> None:
    if any(field.name.lower() == name.lower() for field in fields):
        raise SchemaError(f"two partition fields are named {name}", column=name, hint="name one with AS")
    for column in schema.column_names:
        same = schema.find_field(column).field_id == source.field_id and term.transform in ("identity", "void")
        if column.lower() == name.lower() and not same:
            raise SchemaError(
                f"partition field {name} has the name of the column {column}", column=name, hint="name it with AS"
            )


def _term_to_sql(transform: Transform[Any, Any], path: Sequence[str]) -> tuple[str, str]:
    column = ".".join(sql_name(name) for name in path)
    match transform:
        case IdentityTransform():
            return "identity", column
        case BucketTransform():
            return "bucket", f"bucket({transform.num_buckets}, {column})"
        case TruncateTransform():
            return "truncate", f"truncate({transform.width}, {column})"
    return str(transform), f"{transform}({column})"


def _stored(value: Any) -> Any:
    match value:
        case dt.datetime():  # before date, which it is a kind of
            return datetime_to_micros(value)
        case dt.date():
            return date_to_days(value)
        case dt.time():
            return time_to_micros(value)
        case uuid.UUID():
            return value.bytes
    return value
