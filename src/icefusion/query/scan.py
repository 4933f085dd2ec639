"""A snapshot -> the DataFrame that DataFusion reads it by.

Files of one table differ: columns were added, renamed, promoted or dropped since they were written. Iceberg tells
columns apart by field id, DataFusion by name. So the files are put into groups within which everything is the same,
each group is one native scan under *its files'* column names (and the table's types, promotion is left to the scan),
a SELECT over it gives the columns their present names and order, and the groups are joined by UNION ALL.

A group's key has three parts: the physical schema of its files; the values of identity partition columns that the
files lack (section "Column Projection" of the specification); and which float columns may hold NaN. The last one is
there because Parquet's statistics leave NaN out while DataFusion sorts it above everything: pruning by them, or
answering ``max()`` from them, would be wrong. Such columns are read through ``nanvl(f, f)``, which changes no value
and cannot be pruned. Files that are known to hold no NaN keep their pruning.

That does not yet help against a column whose statistics say that all its values are one: DataFusion then puts that one
in the place of each, NaN included. It does so only where it collects statistics while planning, so a query over such
columns must be planned without (`FileScan.may_hold_nan`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import pyarrow as pa
from datafusion import DataFrame, Expr, col, lit, udf
from datafusion import functions as f
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, FloatType, IcebergType, NestedField, UUIDType

from icefusion.bridge.reshape import relabel, restamp
from icefusion.bridge.schema import type_to_arrow
from icefusion.naming import quote_identifier
from icefusion.query.filelist import FileScanner
from icefusion.query.footers import FileShape, FooterReader
from icefusion.query.mapping import ColumnSource, map_columns

__all__ = ["FILE_COLUMN", "POSITION_COLUMN", "FileScan", "TableView", "scan_files", "view_schema"]

FILE_COLUMN = "_file"
POSITION_COLUMN = "_pos"

_VIEWS = {pa.string(): pa.string_view(), pa.binary(): pa.binary_view()}
UUID_METADATA = {"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""}


@dataclass(frozen=True)
class TableView:
    """One table as one statement sees it.

    Attributes:
        name: The full name, for messages and reports.
        metadata: The table.
        io: Where its files are read.
        snapshot_id: The snapshot to read; None for none.
        schema: The schema that the rows are shown in: the current one, or the snapshot's for time travel.
        staged: Files of the open transaction, read as well.
    """

    name: str
    metadata: TableMetadata
    io: FileIO
    snapshot_id: int | None
    schema: Schema
    staged: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class FileScan:
    """The rows of data files.

    Attributes:
        frame: The DataFrame over them.
        may_hold_nan: Whether a query over it must be planned without collecting statistics.
    """

    frame: DataFrame
    may_hold_nan: bool


@dataclass(frozen=True)
class _Group:
    """What the files of one scan have in common.

    Attributes:
        shape: Their physical schema.
        constants: Values of columns that the files lack, by field id, as they stand in the partition.
        guarded: Field ids of the float columns that may hold NaN.
    """

    shape: FileShape
    constants: tuple[tuple[int, Any], ...]
    guarded: frozenset[int]


def view_schema(schema: Schema, *, with_row_identity: bool = False) -> pa.Schema:
    """The Arrow schema in which a view's rows come, all columns nullable and without field ids."""
    fields = [pa.field(column.name, _read_type(column.field_type, column.name)) for column in schema.fields]
    if with_row_identity:
        fields += [pa.field(FILE_COLUMN, pa.string()), pa.field(POSITION_COLUMN, pa.int64())]
    return pa.schema(fields)


def scan_files(
    view: TableView,
    files: Sequence[DataFile],
    scanner: FileScanner,
    footers: FooterReader,
    *,
    used: frozenset[int] | None = None,
    with_row_identity: bool = False,
) -> FileScan:
    """A DataFrame over the rows of data files, in the shape of the view.

    Args:
        view: The table.
        files: Data files of the table; may be empty.
        scanner: Makes the native scans.
        footers: Knows the files' physical schemas.
        used: Top-level field ids of the columns that the query looks at, at least; None for all. Others are in the
            result but may lack the guard against NaN.
        with_row_identity: Add `FILE_COLUMN`, the file as DataFusion names it (no scheme, no leading slash), and
            `POSITION_COLUMN`, the row's position in it.

    Raises:
        StorageError: A file is missing or broken, or is not what its manifest says.
    """
    if not files:
        return FileScan(scanner.empty(view_schema(view.schema, with_row_identity=with_row_identity)), False)
    groups: dict[_Group, list[DataFile]] = {}
    mapper = _Mapper(view)
    for file, shape in zip(files, footers.shapes(files, view.io), strict=True):
        groups.setdefault(mapper.group_of(file, shape, used), []).append(file)
    locate = partial(scanner.stores.url, io=view.io)
    frames = [
        _scan_group(group, members, mapper, scanner, locate, with_row_identity) for group, members in groups.items()
    ]
    return FileScan(reduce(DataFrame.union, frames), any(group.guarded for group in groups))


class _Mapper:
    """Where each column of one view comes from, worked out once for each physical schema and partition spec."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        self._mapping = view.metadata.name_mapping()
        self._specs = view.metadata.specs()
        self._columns: dict[FileShape, tuple[ColumnSource, ...]] = {}
        self._constants: dict[tuple[FileShape, int], tuple[tuple[int, int], ...]] = {}
        self._floats = tuple(c.field_id for c in view.schema.fields if isinstance(c.field_type, FloatType | DoubleType))

    def columns(self, shape: FileShape) -> tuple[ColumnSource, ...]:
        if shape not in self._columns:
            self._columns[shape] = map_columns(self._view.schema, shape.schema, self._mapping)
        return self._columns[shape]

    def group_of(self, file: DataFile, shape: FileShape, used: frozenset[int] | None) -> _Group:
        spec_id = file.spec_id or 0
        key = shape, spec_id
        if key not in self._constants:
            missing = {source.column.field_id for source in self.columns(shape) if source.name is None}
            self._constants[key] = _identity_fields(self._specs.get(spec_id), missing)
        constants = tuple((field_id, file.partition[position]) for field_id, position in self._constants[key])
        return _Group(shape, constants, self._guarded(file, used))

    def _guarded(self, file: DataFile, used: frozenset[int] | None) -> frozenset[int]:
        counts = file.nan_value_counts or {}
        return frozenset(
            field_id for field_id in self._floats if counts.get(field_id) != 0 and (used is None or field_id in used)
        )


def _identity_fields(spec: PartitionSpec | None, missing: set[int]) -> tuple[tuple[int, int], ...]:
    """The identity partition fields over missing columns: the column's id and the position in the partition."""
    if spec is None or not missing:
        return ()
    return tuple(
        (partition_field.source_id, position)
        for position, partition_field in enumerate(spec.fields)
        if isinstance(partition_field.transform, IdentityTransform) and partition_field.source_id in missing
    )


def _scan_group(
    group: _Group,
    files: Sequence[DataFile],
    mapper: _Mapper,
    scanner: FileScanner,
    locate: Callable[[str], str],
    with_row_identity: bool,
) -> DataFrame:
    constants = dict(group.constants)
    fields: list[pa.Field] = []
    columns: list[Expr] = []
    plain = not with_row_identity
    taken = set(group.shape.schema.names)
    for source in mapper.columns(group.shape):
        column = source.column
        field = _scan_field(source, taken)
        expr = _quoted(field.name)
        if source.name is None:
            if column.field_id in constants:
                expr = _constant(constants[column.field_id], column)
            elif column.initial_default is not None:
                expr = _constant(column.initial_default, column)
            else:
                fields.append(field)
        else:
            fields.append(field)
            if source.physical_type is not None:
                expr = _relabelled(expr, source)
            elif column.field_id in group.guarded:
                expr = f.nanvl(expr, expr)
        plain = plain and source.name == column.name and source.physical_type is None
        plain = plain and column.field_id not in group.guarded
        columns.append(_named(expr, column))
    frame = scanner.scan([locate(file.file_path) for file in files], pa.schema(fields))
    if plain:
        return frame
    if with_row_identity:
        columns += [f.input_file_name().alias(FILE_COLUMN), f.file_row_index().alias(POSITION_COLUMN)]
    return frame.select(*columns)


def _scan_field(source: ColumnSource, taken: set[str]) -> pa.Field:
    """The column as the scan declares it; a missing one under a name that the file does not have, so it reads NULL."""
    column = source.column
    name = source.name
    if name is None:
        name = f"?{column.field_id}"
        while name in taken:
            name = "?" + name
    read_as = column.field_type if source.physical_type is None else source.physical_type
    return pa.field(name, _read_type(read_as, column.name))


def _read_type(iceberg_type: IcebergType, column: str) -> pa.DataType:
    """The Arrow type to read as: nullable at every depth, because a required part may be younger than the file.

    Text is read as views, which DataFusion groups, compares and filters without copying; results are plain again.
    """
    arrow_type = _relaxed(type_to_arrow(iceberg_type, field_ids=False, column=column))
    return _VIEWS.get(arrow_type, arrow_type)


def _relaxed(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(arrow_type):
        return pa.struct([_relaxed_field(arrow_type.field(index)) for index in range(arrow_type.num_fields)])
    if pa.types.is_list(arrow_type):
        return pa.list_(_relaxed_field(arrow_type.value_field))
    if pa.types.is_map(arrow_type):
        key = arrow_type.key_field
        return pa.map_(pa.field(key.name, _relaxed(key.type), nullable=False), _relaxed_field(arrow_type.item_field))
    return arrow_type


def _relaxed_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _relaxed(field.type))


def _quoted(name: str) -> Expr:
    return col(quote_identifier(name))


def _named(expr: Expr, column: NestedField) -> Expr:
    if isinstance(column.field_type, UUIDType):
        return expr.alias(column.name, UUID_METADATA)
    return expr.alias(column.name)


def _constant(value: Any, column: NestedField) -> Expr:
    """A literal of the column's Arrow type; `value` is in Iceberg's own representation (days, microseconds, ...)."""
    arrow_type = _read_type(column.field_type, column.name)
    if isinstance(column.field_type, UUIDType):
        arrow_type = pa.binary(16)
        value = getattr(value, "bytes", value)
    if isinstance(value, int) and not isinstance(value, bool) and not pa.types.is_integer(arrow_type):
        if pa.types.is_date32(arrow_type):
            return lit(pa.scalar(value, pa.int32()).cast(arrow_type))
        if pa.types.is_temporal(arrow_type):
            return lit(pa.scalar(value, pa.int64()).cast(arrow_type))
    return lit(pa.scalar(value, arrow_type))


def _relabelled(expr: Expr, source: ColumnSource) -> Expr:
    """A nested column of older files in the table's present nested type."""
    column, physical = source.column, source.physical_type
    assert physical is not None  # the caller asks only for those
    stored, present = _read_type(physical, column.name), _read_type(column.field_type, column.name)

    def to_present(values: pa.Array) -> pa.Array:
        return restamp(relabel(values, physical, column.field_type), present)

    function = udf(to_present, [stored], present, "immutable", f"icefusion_relabel_{column.field_id}_{id(source)}")
    return function(expr)
