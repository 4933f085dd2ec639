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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datafusion import DataFrame, Expr
from datafusion import functions as f
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, FloatType

from icefusion.bridge.positions import Positions, sorted_positions
from icefusion.errors import StorageError
from icefusion.query.columns import constant, named, quoted, read_type, relabelled, scan_field
from icefusion.query.filelist import FileScanner
from icefusion.query.files import LiveFile
from icefusion.query.footers import FileShape, FooterReader
from icefusion.query.mapping import ColumnSource, map_columns
from icefusion.query.survivors import FILE_COLUMN, MAX_SINGLE_SCANS, POSITION_COLUMN, surviving_rows

__all__ = ["FILE_COLUMN", "POSITION_COLUMN", "FileScan", "TableView", "scan_files", "view_schema"]

Array = npt.NDArray[np.uint32]


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
        removed: Paths of data files that the transaction has removed: they are not read any more.
        deleted: Rows that the transaction has deleted, in files of either kind. Not to be changed once it is here.
        excluded: More rows that are not to be seen by this one scan; likewise.
        only: Paths of the data files to read; None for all.
        with_identity: Whether `FILE_COLUMN` and `POSITION_COLUMN` stand behind the table's own columns: the file as the
            engine names it (no scheme, no leading slash; `PlannedQuery.files_by_name` knows it), and the row's place in
            it, from 0.
    """

    name: str
    metadata: TableMetadata
    io: FileIO
    snapshot_id: int | None
    schema: Schema
    staged: tuple[DataFile, ...] = ()
    removed: frozenset[str] = frozenset()
    deleted: Positions = field(default_factory=Positions)
    excluded: Positions | None = None
    only: frozenset[str] | None = None
    with_identity: bool = False


@dataclass(frozen=True)
class FileScan:
    """The rows of data files.

    Attributes:
        frame: The DataFrame over them.
        may_hold_nan: Whether a query over it must be planned without collecting statistics.
        filters_positions: Whether functions of ours look at its batches, which then should be large.
        files_by_name: The files by what stands in `FILE_COLUMN`; empty for a view without it.
    """

    frame: DataFrame
    may_hold_nan: bool = False
    filters_positions: bool = False
    files_by_name: Mapping[str, LiveFile] = field(default_factory=dict)


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


@dataclass(frozen=True)
class _Member:
    """One file of a group.

    Attributes:
        file: The file.
        url: Where the engine reads it.
        name: What the engine calls it.
        deleted: Positions of its rows that are not to be seen, ascending.
    """

    file: DataFile
    url: str
    name: str
    deleted: Array


def view_schema(schema: Schema, *, with_identity: bool = False) -> pa.Schema:
    """The Arrow schema in which a view's rows come, all columns nullable and without field ids."""
    fields = [pa.field(column.name, read_type(column.field_type, column.name)) for column in schema.fields]
    if with_identity:
        fields += [pa.field(FILE_COLUMN, pa.string()), pa.field(POSITION_COLUMN, pa.int64())]
    return pa.schema(fields)


def scan_files(
    view: TableView,
    files: Sequence[LiveFile],
    scanner: FileScanner,
    footers: FooterReader,
    *,
    used: frozenset[int] | None = None,
) -> FileScan:
    """A DataFrame over the rows of data files, in the shape of the view.

    Args:
        view: The table.
        files: Data files of the table; may be empty.
        scanner: Makes the native scans.
        footers: Knows the files' physical schemas.
        used: Top-level field ids of the columns that the query looks at, at least; None for all. Others are in the
            result but may lack the guard against NaN.

    Raises:
        StorageError: A file is missing or broken, or is not what its manifest says.
    """
    if not files:
        return FileScan(scanner.empty(view_schema(view.schema, with_identity=view.with_identity)))
    groups: dict[tuple[_Group, str], list[_Member]] = {}
    mapper = _Mapper(view)
    members = [_member(view, live, scanner) for live in files]
    for member, shape in zip(members, footers.shapes([live.file for live in files], view.io), strict=True):
        group = mapper.group_of(member.file, shape, used)
        groups.setdefault((group, _store(member.url)), []).append(member)
    one_by_one = not scanner.native or sum(bool(len(member.deleted)) for member in members) <= MAX_SINGLE_SCANS
    frames = [
        _scan_group(group, part, mapper, scanner)
        for (group, _), together in groups.items()
        for part in _parts(together, one_by_one, view.with_identity and not scanner.native)
    ]
    return FileScan(
        reduce(DataFrame.union, frames),
        any(group.guarded for group, _ in groups),
        any(len(member.deleted) for member in members),
        _by_name(files, members) if view.with_identity else {},
    )


def _member(view: TableView, live: LiveFile, scanner: FileScanner) -> _Member:
    path = live.file.file_path
    url = scanner.stores.url(path, view.io)
    bitmaps = [held for held in (rows.get(path) for rows in (view.deleted, view.excluded) if rows) if held]
    deleted = sorted_positions(reduce(or_, bitmaps) if bitmaps else None)
    return _Member(live.file, url, unquote(urlsplit(url).path).removeprefix("/"), deleted)


def _store(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _parts(members: list[_Member], one_by_one: bool, all_alone: bool) -> Iterator[list[_Member]]:
    """The members of a group, in the parts that are one scan each: those with deleted rows stand apart."""
    if all_alone:
        yield from ([member] for member in members)
        return
    whole = [member for member in members if not len(member.deleted)]
    if whole:
        yield whole
    holed = [member for member in members if len(member.deleted)]
    if one_by_one:
        yield from ([member] for member in holed)
    elif holed:
        yield holed


def _by_name(files: Sequence[LiveFile], members: Sequence[_Member]) -> dict[str, LiveFile]:
    by_name: dict[str, LiveFile] = {}
    for live, member in zip(files, members, strict=True):
        other = by_name.setdefault(member.name, live).file
        if other.file_path != member.file.file_path:
            raise StorageError(
                f"data files {other.file_path} and {member.file.file_path} cannot be told apart",
                path=member.file.file_path,
                hint="their rows cannot be changed while both are in the table: rewrite one of them",
            )
    return by_name


class _Mapper:
    """Where each column of one view comes from, worked out once for each physical schema and partition spec."""

    def __init__(self, view: TableView) -> None:
        self.view = view
        self._mapping = view.metadata.name_mapping()
        self._specs = view.metadata.specs()
        self._columns: dict[FileShape, tuple[ColumnSource, ...]] = {}
        self._constants: dict[tuple[FileShape, int], tuple[tuple[int, int], ...]] = {}
        self._floats = tuple(c.field_id for c in view.schema.fields if isinstance(c.field_type, FloatType | DoubleType))

    def columns(self, shape: FileShape) -> tuple[ColumnSource, ...]:
        if shape not in self._columns:
            self._columns[shape] = map_columns(self.view.schema, shape.schema, self._mapping)
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


def _scan_group(group: _Group, members: Sequence[_Member], mapper: _Mapper, scanner: FileScanner) -> DataFrame:
    constants = dict(group.constants)
    with_identity = mapper.view.with_identity
    holed = bool(len(members[0].deleted))
    fields: list[pa.Field] = []
    columns: list[Expr] = []
    plain = not with_identity and not holed
    taken = set(group.shape.schema.names)
    for source in mapper.columns(group.shape):
        column = source.column
        read = scan_field(source, taken)
        expr = quoted(read.name)
        if source.name is None:
            if column.field_id in constants:
                expr = constant(constants[column.field_id], column)
            elif column.initial_default is not None:
                expr = constant(column.initial_default, column)
            else:
                fields.append(read)
        else:
            fields.append(read)
            if source.physical_type is not None:
                expr = relabelled(expr, source)
            elif column.field_id in group.guarded:
                expr = f.nanvl(expr, expr)
        plain = plain and source.name == column.name and source.physical_type is None
        plain = plain and column.field_id not in group.guarded
        columns.append(named(expr, column))
    frame = scanner.scan([member.url for member in members], pa.schema(fields))
    if plain:
        return frame
    if with_identity or holed:
        raw = [quoted(read.name) for read in fields]
        frame = surviving_rows(frame, raw, {member.name: member.deleted for member in members if holed})
    identity = [quoted(FILE_COLUMN), quoted(POSITION_COLUMN)] if with_identity else []
    return frame.select(*columns, *identity)
