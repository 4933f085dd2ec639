"""Rows that are deleted by their values: equality delete files, as anti-joins.

A row is deleted where a delete file that applies to its data file has a row with the same values in the delete file's
columns; NULL equals NULL. Columns are found by field id on both sides, so one that was renamed or promoted since is
still the same, and one that was dropped is read for the sake of the join alone. Floats are compared by their bits, NaN
in one form, as Iceberg's reference implementation does: NaN equals NaN, and 0.0 is not -0.0.

Which delete files apply depends on the data file. One join for each combination would read a delete file again and
again where data and deletes come in turns, as a stream of changes makes them. So all data files with deletes are joined
at once, for each set of columns, and both sides carry what decides: their age, and for deletes of a partition its
number. Data files to which the same delete files apply are one age.

Delete rows stand on the side of the join that is held in memory. Up to `MAX_HELD_ROWS` they are read while planning, so
the engine knows that they are few and does not sort the data into the join's partitions. More are read by the join
itself; they count against the memory limit, and beyond it the query fails with `OutOfMemoryError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from datafusion import DataFrame, Expr, SessionContext, lit, udf
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFileContent
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, NestedField, PrimitiveType

from icefusion.bridge.delete_index import PartitionKey, is_unpartitioned, partition_key
from icefusion.bridge.listed import LiveEntry
from icefusion.bridge.locations import DAMAGED
from icefusion.errors import StorageError, UnsupportedStatementError
from icefusion.naming import quote_identifier
from icefusion.query.columns import read_type
from icefusion.query.files import FilePlan, LiveFile
from icefusion.query.presence import check_present
from icefusion.query.views import TableView

__all__ = ["MAX_HELD_ROWS", "AgeClass", "EqualityDeletes", "KeySet", "key_columns"]

MAX_HELD_ROWS = 1_000_000

AGE_COLUMN = "?age?"
PARTITION_COLUMN = "?partition?"
_ANY_PARTITION = -1
_numbers = count()


@dataclass(frozen=True)
class AgeClass:
    """Data files to which the same equality delete files apply.

    Attributes:
        partition: The number of their partition; -1 where no deletes of a single partition apply.
        paths: The delete files.
    """

    partition: int
    paths: frozenset[str]


@dataclass(frozen=True)
class KeySet:
    """Equality delete files with the same columns.

    Attributes:
        columns: The columns.
        everywhere: Whether they apply to all partitions, rather than each to its own.
        entries: The delete files.
        partitions: For each of them the number of its partition.
    """

    columns: tuple[NestedField, ...]
    everywhere: bool
    entries: tuple[LiveEntry, ...]
    partitions: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """What the columns are called in the join, the marks last."""
        return [*map(key_name, self.columns), AGE_COLUMN, PARTITION_COLUMN]

    @property
    def rows(self) -> int:
        """How many rows they have together."""
        return sum(entry.file.record_count for entry in self.entries)


class EqualityDeletes:
    """The equality delete files of one scan.

    Attributes:
        sets: The delete files, by their columns and reach.
        columns: The columns that any of them needs.
    """

    def __init__(self, view: TableView, plan: FilePlan) -> None:
        self._io = view.io
        self._specs = view.metadata.specs()
        self._partitions: dict[PartitionKey, int] = {}
        self._ages: dict[AgeClass, int] = {}
        self._of_file: dict[str, AgeClass] = {}
        self._fields = _KeyFields(view)
        entries = [e for e in plan.delete_entries if e.file.content == DataFileContent.EQUALITY_DELETES]
        if not entries:
            self.sets: tuple[KeySet, ...] = ()
            self.columns: tuple[NestedField, ...] = ()
            return
        for live in plan.files:
            self._classify(live)
        self.sets = tuple(self._sets(entries))
        self.columns = tuple({c.field_id: c for keys in self.sets for c in keys.columns}.values())

    @property
    def has_floats(self) -> bool:
        """Whether a key may be NaN, of which statistics know nothing: then they must not stand in for values."""
        return any(isinstance(column.field_type, FloatType | DoubleType) for column in self.columns)

    def class_of(self, live: LiveFile) -> AgeClass | None:
        """What the data file has in common with others; None if no equality delete file applies to it."""
        return self._of_file.get(live.file.file_path) if live.deletes else None

    def marks(self, of: AgeClass) -> tuple[Expr, Expr]:
        """The columns that every row of a data file carries into the joins, besides the keys."""
        return mark(self._ages[of], of.partition)

    def without_deleted(
        self,
        data: DataFrame,
        context: SessionContext,
        frame_of: Callable[[KeySet], DataFrame],
        without_statistics: Callable[[DataFrame], DataFrame],
    ) -> DataFrame:
        """The rows that no delete file deletes.

        Args:
            data: Rows with their key columns and marks.
            context: Where it is planned.
            frame_of: The rows of delete files, with key columns and marks.
            without_statistics: Makes a frame of these that can be run at once.

        Raises:
            StorageError: A delete file is missing.
        """
        newest = max(self._ages.values())
        for keys in self.sets:
            frame = frame_of(keys)
            if keys.rows <= MAX_HELD_ROWS:
                frame = _held(without_statistics(frame), keys, context, self._io)
            conditions = [
                f"(d.{name} IS NOT DISTINCT FROM e.{name})"
                for name in (quote_identifier(key_name(column)) for column in keys.columns)
            ]
            if not keys.everywhere:
                conditions.append(f'd."{PARTITION_COLUMN}" = e."{PARTITION_COLUMN}"')
            if min(entry.sequence_number for entry in keys.entries) <= newest:
                conditions.append(f'd."{AGE_COLUMN}" < e."{AGE_COLUMN}"')
            data = _anti_join(data, frame, " AND ".join(conditions), context)
        return data

    def _classify(self, live: LiveFile) -> None:
        applying = [file for file in live.deletes if file.content == DataFileContent.EQUALITY_DELETES]
        if not applying or live.sequence_number is None:
            return
        partition = _ANY_PARTITION
        if not all(is_unpartitioned(self._specs.get(file.spec_id)) for file in applying):
            partition = self._number(partition_key(live.file))
        found = AgeClass(partition, frozenset(file.file_path for file in applying))
        self._of_file[live.file.file_path] = found
        # Whatever is newer than the youngest of them is newer than all of them, as the same delete files apply.
        self._ages[found] = max(self._ages.get(found, 0), live.sequence_number)

    def _sets(self, entries: Sequence[LiveEntry]) -> Iterable[KeySet]:
        groups: dict[tuple[tuple[int, ...], bool], list[LiveEntry]] = {}
        for entry in entries:
            ids = tuple(sorted(set(entry.file.equality_ids or ())))
            groups.setdefault((ids, is_unpartitioned(self._specs.get(entry.file.spec_id))), []).append(entry)
        for (ids, everywhere), members in groups.items():
            columns = tuple(self._fields.find(field_id, members[0]) for field_id in ids)
            if not columns:
                path = members[0].file.file_path
                raise StorageError(f"delete file {path} does not say by which columns it deletes", path=path)
            numbers = (_ANY_PARTITION if everywhere else self._number(partition_key(m.file)) for m in members)
            yield KeySet(columns, everywhere, tuple(members), tuple(numbers))

    def _number(self, key: PartitionKey) -> int:
        return self._partitions.setdefault(key, len(self._partitions))


class _KeyFields:
    """The columns that delete files may name, dropped ones included."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        newest_first = sorted(view.metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
        self._schemas: list[Schema] = [view.schema, *newest_first]

    def find(self, field_id: int, entry: LiveEntry) -> NestedField:
        path = entry.file.file_path
        for schema in self._schemas:
            field = next((field for field in schema.fields if field.field_id == field_id), None)
            if field is not None and isinstance(field.field_type, PrimitiveType):
                return field
            if field_id in schema._lazy_id_to_name:
                raise UnsupportedStatementError(
                    f"table {self._view.name} has rows deleted by parts of nested columns: {path}",
                    hint="only deletes by whole columns of plain types can be read; rewrite the table's data files",
                )
        raise StorageError(f"delete file {path} deletes by column {field_id}, which the table never had", path=path)


def key_columns(columns: Iterable[NestedField], values: Mapping[int, Expr]) -> list[Expr]:
    """The key columns as both sides of a join have them.

    Args:
        columns: The columns.
        values: How each is read, by field id.
    """
    return [_comparable(values[column.field_id], column).alias(key_name(column)) for column in columns]


def key_name(column: NestedField) -> str:
    """What a key column is called in a join, where the table's own columns stand beside it."""
    return f"?key {column.field_id}?"


def mark(age: int, partition: int) -> tuple[Expr, Expr]:
    """The columns that decide whether a delete file applies, beside the keys."""
    return lit(age).alias(AGE_COLUMN), lit(partition).alias(PARTITION_COLUMN)


def _comparable(value: Expr, column: NestedField) -> Expr:
    if not isinstance(column.field_type, FloatType | DoubleType):
        return value
    arrow_type = read_type(column.field_type, column.name)
    as_bits: Callable[[Expr], Expr] = udf(_bits, [arrow_type], pa.int64(), "immutable", f"icefusion_bits_{arrow_type}")
    return as_bits(value)


def _bits(values: pa.Array) -> pa.Array:
    """Floats as the integers that they are stored as; every NaN as the same one."""
    missing = np.asarray(values.is_null())
    floats: Any = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    bits = np.where(np.isnan(floats), np.int64(0x7FF8000000000000), floats.view(np.int64))
    return pa.array(bits, pa.int64(), mask=missing)


def _held(frame: DataFrame, keys: KeySet, context: SessionContext, io: FileIO) -> DataFrame:
    """The rows read into memory, all of them: the engine passes over a missing file in silence."""
    files = [entry.file for entry in keys.entries]
    paths = [file.file_path for file in files]
    path = paths[0] if len(paths) == 1 else None
    try:
        rows = frame.to_arrow_table()
    except Exception as exc:
        check_present(files, io)
        raise StorageError(f"cannot read delete files {', '.join(paths)}: {exc}", path=path, hint=DAMAGED) from exc
    if rows.num_rows != keys.rows:
        check_present(files, io)
        message = f"delete files have {rows.num_rows} rows where their manifests say {keys.rows}: {', '.join(paths)}"
        raise StorageError(message, path=path)
    name = f"?held {next(_numbers)}?"
    batches = rows.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
    held = context.create_dataframe([batches], name=name)
    context.deregister_table(name)
    return held


def _anti_join(data: DataFrame, deletes: DataFrame, condition: str, context: SessionContext) -> DataFrame:
    """The data without counterpart. The deletes stand left, which is the side that the engine holds in memory."""
    number = next(_numbers)
    names = f"?deletes {number}?", f"?data {number}?"
    try:
        for name, frame in zip(names, (deletes, data), strict=True):
            context.register_view(name, frame)
        columns = ", ".join(f"d.{quote_identifier(name)}" for name in data.schema().names)
        joined = f'"{names[0]}" AS e RIGHT ANTI JOIN "{names[1]}" AS d ON {condition}'
        return context.sql(f"SELECT {columns} FROM {joined}")
    finally:
        for name in names:
            context.deregister_table(name)
