"""Which partition the rows of a file that is there already are in.

All rows of a data file have the same partition values. Those of a column that is in the file come from its statistics:
where the least and the greatest value give the same, so do all between them, as transforms but for buckets keep the
order. Where statistics do not tell, the column is read. A column that the file lacks is told by its folders, as in
``day=2024-05-01``: an identity partition field then stands for it, and it is read from there ("Column Projection" in
the Iceberg specification).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform, VoidTransform
from pyiceberg.typedef import Record
from pyiceberg.types import BinaryType, DoubleType, FixedType, FloatType, NestedField, PrimitiveType, UUIDType

from icefusion.bridge.locations import DAMAGED
from icefusion.bridge.partition import column_path, partition_groups, partition_record, transform_array
from icefusion.bridge.schema import type_name, type_to_arrow
from icefusion.errors import SchemaError, StorageError
from icefusion.procedures.fitting import Fitted
from icefusion.query.file_paths import FoundFile
from icefusion.write.metrics import column_bounds

__all__ = ["column_batches", "folder_values", "place", "told_value"]

_INSERT = "INSERT INTO ... SELECT ... FROM read_parquet('...') writes each row into its partition"


def folder_values(
    file: FoundFile, told: Mapping[str, str | None], fitted: Fitted, spec: PartitionSpec, schema: Schema
) -> dict[int, str | None]:
    """What the folders of a file say of columns that it lacks, by field id.

    Raises:
        SchemaError: They say what no partition field of the table can hold.
    """
    identities = {each.source_id for each in spec.fields if isinstance(each.transform, IdentityTransform)}
    found: dict[int, str | None] = {}
    for name, value in told.items():
        column = next((each for each in schema.fields if each.name.casefold() == name.casefold()), None)
        if column is None or column.field_id in fitted.found:
            continue
        if column.field_id not in identities:
            raise SchemaError(
                f"{file.location}: column {column.name} is told by its folder alone, and the table is not partitioned "
                "by its values",
                column=column.name,
                hint=f"ALTER TABLE ... ADD PARTITION FIELD {column.name} first; or {_INSERT}",
            )
        found[column.field_id] = value
    return found


def place(
    file: FoundFile,
    footer: pq.FileMetaData,
    fitted: Fitted,
    told: Mapping[int, str | None],
    spec: PartitionSpec,
    schema: Schema,
) -> Record:
    """The partition that all rows of a file are in.

    Args:
        file: The file.
        footer: Its footer.
        fitted: Which of its columns is which.
        told: What its folders say; see `folder_values`.
        spec: The table's partition spec.
        schema: The table's schema.

    Raises:
        SchemaError: They are in several, or it cannot be told in which.
        StorageError: The file cannot be read.
    """
    values = [_value(file, footer, fitted, told, each, schema) for each in spec.fields]
    return partition_record(values, spec, schema)


def _value(
    file: FoundFile,
    footer: pq.FileMetaData,
    fitted: Fitted,
    told: Mapping[int, str | None],
    partition_field: PartitionField,
    schema: Schema,
) -> Any:
    path = column_path(partition_field.source_id, schema)
    if path is None or isinstance(partition_field.transform, VoidTransform):
        return None  # of a column that is gone
    column = schema.find_field(partition_field.source_id)
    kind = column.field_type
    assert isinstance(kind, PrimitiveType)  # others cannot be partitioned by
    if column.field_id not in fitted.found:
        values: Iterator[pa.Array] = iter([_told(file, column, kind, told)])
    else:
        known = None if column.field_id in fitted.unbounded else _by_statistics(footer, fitted, column, kind)
        # Of a bucket, or of text whose bounds were cut, the bounds alone do not tell.
        is_told = known is not None and _is_one(partition_field, known, kind)
        values = iter([known]) if is_told else _read(file, _leaf_path(fitted, column), kind)
    return _only(file, partition_field, values, kind)


def _told(file: FoundFile, column: NestedField, kind: PrimitiveType, told: Mapping[int, str | None]) -> pa.Array:
    if column.field_id not in told:
        return pa.array([column.initial_default], type_to_arrow(kind))
    text = told[column.field_id]
    value = told_value(text, kind)
    if value is None:
        raise SchemaError(
            f"{file.location}: its folder says {column.name}={text}, which is no {type_name(kind)}",
            column=column.name,
            expected=type_name(kind),
            found=str(text),
            hint=_INSERT,
        )
    return value


def told_value(text: str | None, kind: PrimitiveType) -> pa.Array | None:
    """The value that the name of a folder tells, alone in an array; None where the text is none of that type."""
    arrow = type_to_arrow(kind)
    try:
        if isinstance(kind, UUIDType) and text is not None:
            return _canonical([uuid.UUID(text)], kind)
        if isinstance(kind, BinaryType | FixedType | UUIDType) and text is not None:
            return None  # text does not tell bytes
        return pa.array([text], pa.string()).cast(arrow)
    except (pa.ArrowException, ValueError):
        return None


def _by_statistics(
    footer: pq.FileMetaData, fitted: Fitted, column: NestedField, kind: PrimitiveType
) -> pa.Array | None:
    """The least and the greatest value of a column, or NULL where it has no other; None where that is not known."""
    if isinstance(kind, FloatType | DoubleType):
        return None  # statistics are silent about NaN
    position = next(i for i, leaf in enumerate(fitted.leaves) if leaf is not None and leaf.field_id == column.field_id)
    chunks = [footer.row_group(i).column(position) for i in range(footer.num_row_groups)]
    statistics = [chunk.statistics for chunk in chunks]
    if not all(each is not None and each.has_null_count for each in statistics):
        return None
    nulls = sum(each.null_count for each in statistics)
    arrow = type_to_arrow(kind)
    if nulls:
        return pa.nulls(1, arrow) if nulls == footer.num_rows else None
    lower, upper = column_bounds(kind, statistics, None)
    if lower is None or upper is None:
        return None
    return _canonical([from_bytes(kind, lower), from_bytes(kind, upper)], kind)


def _canonical(values: list[Any], kind: PrimitiveType) -> pa.Array:
    """Values as `from_bytes` gives them (days, microseconds, UUID objects) in the Arrow type of the column."""
    arrow = type_to_arrow(kind)
    if isinstance(kind, UUIDType):
        values = [getattr(value, "bytes", value) for value in values]
        storage = pa.array(values, pa.binary(16))
        return pa.ExtensionArray.from_storage(arrow, storage) if isinstance(arrow, pa.ExtensionType) else storage
    if pa.types.is_date32(arrow):
        return pa.array(values, pa.int32()).cast(arrow)
    if pa.types.is_temporal(arrow):
        return pa.array(values, pa.int64()).cast(arrow)
    return pa.array(values, arrow)


def _is_one(partition_field: PartitionField, bounds: pa.Array, kind: PrimitiveType) -> bool:
    if isinstance(partition_field.transform, BucketTransform) and len(bounds) == 2 and bounds[0] != bounds[1]:
        return False
    return len(partition_groups([transform_array(partition_field.transform, bounds, kind)])[1]) == 1


def _leaf_path(fitted: Fitted, column: NestedField) -> str:
    return next(leaf.path for leaf in fitted.leaves if leaf is not None and leaf.field_id == column.field_id)


def _read(file: FoundFile, path: str, kind: PrimitiveType) -> Iterator[pa.Array]:
    """The values of a column, in the type of the table's column."""
    arrow = type_to_arrow(kind)
    for batch in column_batches(file, path):
        array = batch.column(0)
        while pa.types.is_struct(array.type):
            array = array.flatten()[0]
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        try:
            yield array if array.type == arrow else array.cast(arrow)
        except pa.ArrowException as exc:  # milliseconds beyond what microseconds reach
            raise SchemaError(
                f"{file.location}: column {path} holds values that no {type_name(kind)} can be: {exc}",
                column=path,
                expected=type_name(kind),
                found=str(array.type),
            ) from exc


def column_batches(file: FoundFile, path: str) -> Iterator[pa.RecordBatch]:
    """The values of a column, as they stand in the file, batch by batch.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        # Times of 96 bits as a query reads them: to the microsecond, and as far as microseconds reach.
        with pq.ParquetFile(file.path, filesystem=file.filesystem, coerce_int96_timestamp_unit="us") as parquet:
            yield from parquet.iter_batches(columns=[path])
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(
            f"cannot read column {path} of {file.location}: {exc}", path=file.location, hint=DAMAGED
        ) from exc


def _only(file: FoundFile, partition_field: PartitionField, values: Iterator[pa.Array], kind: PrimitiveType) -> Any:
    """The one partition value of all values."""
    found: dict[Any, None] = {}
    for array in values:
        for group in partition_groups([transform_array(partition_field.transform, array, kind)])[1]:
            found[group] = None
        if len(found) > 1:
            first, second = list(found)[:2]
            raise SchemaError(
                f"{file.location}: its rows are in several partitions, of {partition_field.name} {first[0]} and "
                f"{second[0]} among others, and a data file is in one",
                hint=_INSERT,
            )
    return next(iter(found))[0]
