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

Deleted rows are taken out in two ways: those known by position right above the scan of their file
(`icefusion.query.survivors`), those known by value from the union of all files that such deletes apply to
(`icefusion.query.equality`). Files without deletes have a part in neither.

Files in stores that the engine cannot reach are scanned through PyIceberg's file access (`icefusion.query.io_scan`),
which leaves rows out by position itself. They make groups of their own; all else is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datafusion import DataFrame, Expr
from datafusion import functions as f
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, FloatType, NestedField

from icefusion.bridge.positions import Positions, sorted_positions
from icefusion.bridge.pruning import schema_with_dropped_columns
from icefusion.errors import StorageError
from icefusion.query.columns import constant, named, quoted, read_type, relabelled, scan_field
from icefusion.query.deletes import DeleteReader
from icefusion.query.equality import AgeClass, EqualityDeletes, KeySet, key_columns, mark
from icefusion.query.filelist import FileScanner
from icefusion.query.files import FilePlan, LiveFile
from icefusion.query.footers import FileShape, FooterReader
from icefusion.query.io_scan import FileIOScan, IOScanner, RowsOf
from icefusion.query.mapping import ColumnSource, map_columns
from icefusion.query.object_stores import Place
from icefusion.query.row_groups import bounded_columns
from icefusion.query.survivors import (
    MAX_NUMBERED_SCANS,
    MAX_SINGLE_SCANS,
    MAX_SURVIVOR_BATCH_ROWS,
    MIN_SURVIVOR_BATCH_ROWS,
    surviving_rows,
    survivor_batch_rows,
)
from icefusion.query.views import FILE_COLUMN, POSITION_COLUMN, TableView, view_schema

__all__ = [
    "FILE_COLUMN",
    "POSITION_COLUMN",
    "FileGroup",
    "FileScan",
    "Memory",
    "TableView",
    "scan_files",
    "view_schema",
]

Array = npt.NDArray[np.uint32]


class Memory(Enum):
    """How much memory there is for a scan: it decides between time and memory, never over rows."""

    PLENTY = "plenty"
    """As many scans may be open as are of use."""
    LIMITED = "limited"
    """A row group for each thread is held, and no more."""
    SHORT = "short"
    """Not even that."""


_PIECEWISE = Place(None, "memory_limit leaves no room for row groups")


@dataclass(frozen=True)
class FileScan:
    """The rows of data files.

    Attributes:
        frame: The DataFrame over them.
        may_hold_nan: Whether a query over it must be planned without collecting statistics.
        filters_positions: Whether functions of ours look at its batches, which then should be large.
        batch_rows: How large, if that is so of any scan in the query.
        asks_places: Whether the engine is asked where rows lie.
        files_by_name: The files by what stands in `FILE_COLUMN`; empty for a view without it.
        io_scans: Scans through PyIceberg's file access.
        fallback: Why there are any of these; None where there are none.
        groups: What the files were put into groups by; empty where nobody asked.
    """

    frame: DataFrame
    may_hold_nan: bool = False
    filters_positions: bool = False
    batch_rows: int = MAX_SURVIVOR_BATCH_ROWS
    asks_places: bool = False
    files_by_name: Mapping[str, LiveFile] = field(default_factory=dict)
    io_scans: tuple[FileIOScan, ...] = ()
    fallback: str | None = None
    groups: tuple[FileGroup, ...] = ()


@dataclass(frozen=True)
class FileGroup:
    """Data files that are read in one way.

    Attributes:
        files: The files.
        schema: Their physical schema.
        columns: Where each column of the view comes from.
        constants: Values of columns that the files lack, by field id, as they stand in the partition.
        guarded: Field ids of the float columns that may hold NaN.
        store: The store they are in; None where the engine does not read them itself.
        fallback: Why it does not.
        equality_deletes: How many equality delete files apply to each of them.
        holed: How many of them have rows that are deleted by position.
    """

    files: tuple[DataFile, ...]
    schema: pa.Schema
    columns: tuple[ColumnSource, ...]
    constants: tuple[tuple[int, Any], ...]
    guarded: frozenset[int]
    store: str | None
    fallback: str | None
    equality_deletes: int
    holed: int


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
        place: Where the engine reads it.
        name: What the engine calls it.
        deleted: Positions of its rows that are not to be seen, ascending.
    """

    file: DataFile
    place: Place
    name: str
    deleted: Array

    @property
    def store(self) -> str | None:
        """The store it is in, as the engine knows it; None for one that it cannot reach."""
        if self.place.url is None:
            return None
        parts = urlsplit(self.place.url)
        return f"{parts.scheme}://{parts.netloc}"


def scan_files(
    view: TableView,
    plan: FilePlan,
    scanner: FileScanner,
    footers: FooterReader,
    deletes: DeleteReader,
    *,
    used: frozenset[int] | None = None,
    memory: Memory = Memory.PLENTY,
    without_statistics: Callable[[DataFrame], DataFrame],
    threads: int = 1,
    row_filter: BooleanExpression | None = None,
    with_groups: bool = False,
) -> FileScan:
    """A DataFrame over the rows of data files that are not deleted, in the shape of the view.

    Args:
        view: The table.
        plan: Data files of the table, with the delete files that apply to them; may be empty.
        scanner: Makes the native scans.
        footers: Knows the files' physical schemas.
        deletes: Reads positions.
        used: Top-level field ids of the columns that the query looks at, at least; None for all. Others are in the
            result but may lack the guard against NaN.
        memory: How much of it there is.
        without_statistics: Makes a frame that can be run while this one is still planned.
        threads: So many parts of one scan through PyIceberg's file access are read at a time.
        row_filter: True for every row that the query wants; None for all.
        with_groups: Whether the groups are to be told of.

    Raises:
        StorageError: A file is missing or broken, or is not what its manifest says.
        UnsupportedStatementError: Rows are deleted in a way that cannot be read.
    """
    if not plan.files:
        return FileScan(scanner.empty(view_schema(view.schema, with_identity=view.with_identity)))
    equality = EqualityDeletes(view, plan)
    mapper = _Mapper(view, equality.columns)
    positions = deletes.positions(plan.files, view.io)
    members = _members(view, plan.files, scanner, positions)
    if memory is Memory.SHORT:
        members = [replace(member, place=_PIECEWISE) for member in members]
    named_by_number = view.with_identity and _apart(plan.files, scanner, memory)
    if named_by_number:
        members = [replace(member, name=str(number)) for number, member in enumerate(members)]
    groups: dict[tuple[_Group, str | None, AgeClass | None], list[_Member]] = {}
    shapes = footers.shapes(plan.data_files, view.io)
    for live, member, shape in zip(plan.files, members, shapes, strict=True):
        group = mapper.group_of(member.file, shape, used)
        groups.setdefault((group, member.store, equality.class_of(live)), []).append(member)
    native = [member for member in members if member.place.url is not None]
    holed = sum(bool(len(member.deleted)) for member in native)
    one_by_one = not scanner.native or (holed <= MAX_SINGLE_SCANS and memory is Memory.PLENTY)
    frames: dict[bool, list[DataFrame]] = {False: [], True: []}
    through_io = IOScanner(scanner.context, view, threads, row_filter, piecewise=memory is Memory.SHORT)
    for (group, store, age), together in groups.items():
        marks = () if age is None else equality.marks(age)
        if store is None:
            frames[age is not None].append(_scan_group(group, together, mapper, through_io, marks))
            continue
        for part in _parts(together, one_by_one, named_by_number):
            frames[age is not None].append(_scan_group(group, part, mapper, scanner, marks, by_number=named_by_number))
    if frames[True]:
        left = equality.without_deleted(
            reduce(DataFrame.union, frames[True]),
            scanner.context,
            lambda keys: _scan_deletes(view, keys, scanner, footers, through_io),
            without_statistics,
        )
        shown = view_schema(view.schema, with_identity=view.with_identity).names
        frames[False].append(left.select(*map(quoted, shown)))
    return FileScan(
        reduce(DataFrame.union, frames[False]),
        any(group.guarded for group, _, _ in groups) or equality.has_floats,
        holed > 0,
        _batch_rows(view, used, memory),
        bool(native) and (view.with_identity or holed > 0),
        _by_name(plan.files, members) if view.with_identity else {},
        tuple(through_io.scans),
        next((member.place.why_not for member in members if member.place.url is None), None),
        tuple(_described(*key, together, mapper) for key, together in groups.items()) if with_groups else (),
    )


def _batch_rows(view: TableView, used: frozenset[int] | None, memory: Memory) -> int:
    if memory is not Memory.PLENTY or view.with_identity:
        return MIN_SURVIVOR_BATCH_ROWS
    columns = (column for column in view.schema.fields if used is None or column.field_id in used)
    return survivor_batch_rows(read_type(column.field_type, column.name) for column in columns)


def _described(
    group: _Group, store: str | None, age: AgeClass | None, members: Sequence[_Member], mapper: _Mapper
) -> FileGroup:
    return FileGroup(
        tuple(member.file for member in members),
        group.shape.schema,
        mapper.columns(group.shape)[: len(mapper.view.schema.fields)],
        group.constants,
        group.guarded,
        store,
        members[0].place.why_not if store is None else None,
        0 if age is None else len(age.paths),
        sum(bool(len(member.deleted)) for member in members),
    )


def _scan_deletes(
    view: TableView, keys: KeySet, scanner: FileScanner, footers: FooterReader, through_io: IOScanner
) -> DataFrame:
    """The rows of equality delete files: their key columns, and what decides whether they apply."""
    columns = replace(view, schema=Schema(*keys.columns), with_identity=False, deleted=Positions(), excluded=None)
    mapper = _Mapper(columns, keys.columns)
    groups: dict[tuple[_Group, str | None, int, int], list[_Member]] = {}
    shapes = footers.shapes([entry.file for entry in keys.entries], view.io)
    members = _members(columns, [LiveFile(entry.file) for entry in keys.entries], scanner, Positions())
    for entry, partition, shape, member in zip(keys.entries, keys.partitions, shapes, members, strict=True):
        path = entry.file.file_path
        lacking = [source.column.name for source in mapper.columns(shape) if source.name is None]
        if lacking:
            raise StorageError(f"delete file {path} lacks column {lacking[0]}, by which it deletes", path=path)
        key = mapper.group_of(entry.file, shape, frozenset()), member.store, entry.sequence_number, partition
        groups.setdefault(key, []).append(member)
    through_io = through_io.of_all_rows()
    frames = [
        _scan_group(group, together, mapper, through_io if store is None else scanner, mark(age, partition))
        for (group, store, age, partition), together in groups.items()
    ]
    return reduce(DataFrame.union, frames).select(*map(quoted, keys.names))


def _apart(files: Sequence[LiveFile], scanner: FileScanner, memory: Memory) -> bool:
    """Whether each file is a scan of its own, where the rows' identity is wanted.

    Then a literal tells the file, which is all but free, where the name that a joint scan gives costs its length for
    each row. But each scan costs time to plan, and all of them are open at once, each with a row group in memory.
    """
    if memory is Memory.LIMITED:
        return not scanner.native or len(files) == 1
    return not scanner.native or memory is Memory.SHORT or len(files) <= MAX_NUMBERED_SCANS


def _members(view: TableView, files: Sequence[LiveFile], scanner: FileScanner, positions: Positions) -> list[_Member]:
    places = scanner.stores.places([live.file.file_path for live in files], view.io)
    return [_member(view, live.file, place, positions) for live, place in zip(files, places, strict=True)]


def _member(view: TableView, file: DataFile, place: Place, positions: Positions) -> _Member:
    path = file.file_path
    bitmaps = [held for held in (rows.get(path) for rows in (positions, view.deleted, view.excluded) if rows) if held]
    deleted = sorted_positions(reduce(or_, bitmaps) if bitmaps else None)
    name = path if place.url is None else unquote(urlsplit(place.url).path).removeprefix("/")
    return _Member(file, place, name, deleted)


def _parts(members: list[_Member], one_by_one: bool, all_alone: bool) -> Iterator[list[_Member]]:
    """The members of a group, in the parts that are one scan each: those with deleted rows stand apart."""
    if all_alone:
        yield from ([member] for member in members)
        return
    for layer in _layers(members):
        whole = [member for member in layer if not len(member.deleted)]
        if whole:
            yield whole
        holed = [member for member in layer if len(member.deleted)]
        if one_by_one:
            yield from ([member] for member in holed)
        elif holed:
            yield holed


def _layers(members: list[_Member]) -> Iterator[list[_Member]]:
    """The members such that no file is in one part twice: a scan reads it once, however often it is listed.

    Writers that were told not to look for duplicates may have added a file twice. Its rows then count twice.
    """
    while members:
        layer = {member.name: member for member in members}
        if len(layer) == len(members):
            yield members
            return
        yield list(layer.values())
        first = {id(member) for member in layer.values()}
        members = [member for member in members if id(member) not in first]


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
    """Where each column of one view comes from, worked out once for each physical schema and partition spec.

    Args:
        view: The table.
        keys: Columns that are read for a join, whether the view has them or not.
    """

    def __init__(self, view: TableView, keys: Sequence[NestedField] = ()) -> None:
        self.view = view
        self.keys = keys
        shown = {column.field_id for column in view.schema.fields}
        dropped = {column.field_id for column in keys} - shown
        known = schema_with_dropped_columns(view.schema, view.metadata).fields if dropped else ()
        names = {column.field_id: column.name for column in known}
        hidden = [
            NestedField(c.field_id, names[c.field_id], c.field_type, initial_default=c.initial_default)
            for c in keys
            if c.field_id in dropped
        ]
        self._schema = Schema(*view.schema.fields, *hidden)
        self._mapping = view.metadata.name_mapping()
        self._specs = view.metadata.specs()
        self._columns: dict[FileShape, tuple[ColumnSource, ...]] = {}
        self._constants: dict[tuple[FileShape, int], tuple[tuple[int, int], ...]] = {}
        self._floats = tuple(c.field_id for c in view.schema.fields if isinstance(c.field_type, FloatType | DoubleType))

    def columns(self, shape: FileShape) -> tuple[ColumnSource, ...]:
        if shape not in self._columns:
            self._columns[shape] = map_columns(self._schema, shape.schema, self._mapping)
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
        floats = [field_id for field_id in self._floats if used is None or field_id in used]
        if not floats:
            return frozenset()
        counts = file.nan_value_counts or {}
        return frozenset(field_id for field_id in floats if counts.get(field_id) != 0)


def _identity_fields(spec: PartitionSpec | None, missing: set[int]) -> tuple[tuple[int, int], ...]:
    """The identity partition fields over missing columns: the column's id and the position in the partition."""
    if spec is None or not missing:
        return ()
    return tuple(
        (partition_field.source_id, position)
        for position, partition_field in enumerate(spec.fields)
        if isinstance(partition_field.transform, IdentityTransform) and partition_field.source_id in missing
    )


_PLACES = [pa.field(FILE_COLUMN, pa.string()), pa.field(POSITION_COLUMN, pa.int64())]


def _scan_group(
    group: _Group,
    members: Sequence[_Member],
    mapper: _Mapper,
    scanner: FileScanner | IOScanner,
    marks: Sequence[Expr] = (),
    *,
    by_number: bool = False,
) -> DataFrame:
    """The rows of a group: the view's columns; with marks also the key columns and the marks; its identity columns."""
    constants = dict(group.constants)
    with_identity = mapper.view.with_identity
    native = isinstance(scanner, FileScanner)
    holed = native and any(len(member.deleted) for member in members)
    fields: list[pa.Field] = []
    columns: list[Expr] = []
    positions = native and (with_identity or holed)
    plain = not with_identity and not holed and not marks
    taken = set(group.shape.schema.names)
    shown = len(mapper.view.schema.fields)
    values: dict[int, Expr] = {}
    for number, source in enumerate(mapper.columns(group.shape)):
        if number >= shown and not marks:
            break
        column = source.column
        read = scan_field(source, taken)
        expr = quoted(f"?{read.name}?" if positions else read.name)
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
            values[column.field_id] = expr
            if column.field_id in group.guarded:
                expr = f.nanvl(expr, expr)
        values.setdefault(column.field_id, expr)
        plain = plain and source.name == column.name and source.physical_type is None
        plain = plain and column.field_id not in group.guarded
        if number < shown:
            columns.append(named(expr, column))
    if isinstance(scanner, FileScanner):
        frame = scanner.scan([member.place.url for member in members if member.place.url], pa.schema(fields))
    else:
        places = _PLACES if with_identity else []
        files = [RowsOf(member.file, member.name, member.deleted) for member in members]
        frame = scanner.scan(files, pa.schema(fields + places), bounded_columns(mapper.columns(group.shape)))
    if plain:
        return frame
    if positions:
        # Under other names in between: the optimizer stumbles over columns that are renamed to what they were.
        raw = [quoted(read.name).alias(f"?{read.name}?") for read in fields]
        deleted = {member.name: member.deleted for member in members} if holed else {}
        frame = surviving_rows(frame, raw, deleted, members[0].name if by_number else None)
    identity = [quoted(FILE_COLUMN), quoted(POSITION_COLUMN)] if with_identity else []
    joined = [*key_columns(mapper.keys, values), *marks] if marks else []
    return frame.select(*columns, *joined, *identity)
