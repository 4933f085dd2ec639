"""Fit batches to a table: exactly, or with an error that names the column, the value, the row and both types.

One rule serves INSERT and the table writers: an assignment is exact when converting the value back gives the same
value. `Alignment.plan` decides from the two schemas what can be decided without rows; `Alignment.apply` does the
rest to each batch. Columns whose types agree already are passed on without a copy.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, NestedField, StructType

from icefusion.bridge.arrays import restamp, restamp_batch
from icefusion.bridge.exact import Cast, MisfitError
from icefusion.bridge.reshape import Filler, Matching, Target, default_filler, plan_value, relabel
from icefusion.bridge.schema import iceberg_to_arrow, join_path, type_name
from icefusion.errors import SchemaError

__all__ = ["Alignment", "relabel"]


@dataclass(frozen=True)
class Alignment:
    """How batches of one Arrow schema become batches of a table's canonical one. Made by `plan`.

    Attributes:
        source: The schema that batches come in.
        target: The table's schema.
        target_arrow: What `apply` returns: `iceberg_to_arrow(target)`, field ids included.
        table: The table's name, for messages.
        is_identity: Whether `apply` changes no more than names, field ids and nullability, without a copy.
    """

    source: pa.Schema
    target: Schema
    target_arrow: pa.Schema
    table: str
    is_identity: bool
    _columns: tuple[_Column, ...] = field(repr=False)

    @classmethod
    def plan(
        cls,
        source: pa.Schema,
        target: Schema,
        *,
        columns: Sequence[str] | None = None,
        by: Literal["name", "position"] = "name",
        table: str,
        case_sensitive: bool = False,
    ) -> Alignment:
        """Plan how to fit batches of `source` to `target`.

        Args:
            source: The schema of the batches.
            target: The table's schema.
            columns: With ``by="position"``, the table's columns that the source's columns go to, in this order; None
                for all columns of the table.
            by: Whether columns are matched by name or by position. Struct fields are always matched by name.
            table: The table's name, for messages.
            case_sensitive: Whether names match only in the same case; otherwise an exact match wins over one
                without regard to case.

        Raises:
            SchemaError: Counts or names do not match, a required column is missing, or no value of some column's type
                could go into its target's.
        """
        arrow = iceberg_to_arrow(target)
        matching = _ByName(table, case_sensitive)
        if by == "position":
            indices = matching.match_positions(source, columns, target)
        else:
            indices = matching.match(list(source), None, target.as_struct(), "")
        try:
            planned = [
                _plan_column(source, index, wanted, Target(wanted.field_type, place.type, wanted.name), matching)
                for index, wanted, place in zip(indices, target.fields, arrow, strict=True)
            ]
        except SchemaError as exc:
            named = exc.message if exc.message.startswith("table ") else f"table {table}, {exc.message}"
            raise SchemaError(
                named, column=exc.column, expected=exc.expected, found=exc.found, hint=exc.hint
            ) from exc.__cause__
        identity = indices == list(range(len(source))) and not any(column.convert for column in planned)
        return cls(source, target, arrow, table, identity, tuple(planned))

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch in the table's canonical schema.

        Raises:
            SchemaError: A value does not fit its column exactly, or NULL is not allowed there. The message holds the
                column, the value, the row (from 0 within the batch) and both types.
        """
        if batch.schema.types != self.source.types:
            raise SchemaError(
                f"table {self.table}: expected a batch with the columns {_columns_text(self.source)}, "
                f"found {_columns_text(batch.schema)}",
                expected=_columns_text(self.source),
                found=_columns_text(batch.schema),
                hint="all batches of one write share one schema",
            )
        for column in self._columns:
            if column.field.required and column.index is not None and batch.column(column.index).null_count:
                row = pc.index(batch.column(column.index).is_null(), pa.scalar(True)).as_py()
                raise self._null_error(column.field.name, row)
        if self.is_identity:
            return restamp_batch(batch, self.target_arrow)
        try:
            arrays = [column.array_of(batch) for column in self._columns]
        except MisfitError as exc:
            raise self._misfit_error(exc) from None
        except pa.ArrowException as exc:  # such as more than 2 GiB of text once a dictionary is decoded
            raise SchemaError(
                f"table {self.table}: a batch of {batch.num_rows} rows cannot be fitted: {exc}",
                hint="write smaller batches",
            ) from exc
        for column, array in zip(self._columns, arrays, strict=True):
            if column.field.required and array.null_count:  # in dictionaries and runs NULL hides until they are decoded
                row = pc.index(array.is_null(), pa.scalar(True)).as_py()
                raise self._null_error(column.field.name, row)
        return pa.RecordBatch.from_arrays(arrays, schema=self.target_arrow)

    def _misfit_error(self, misfit: MisfitError) -> SchemaError:
        column = misfit.column or "?"
        if misfit.expected == "NOT NULL":
            return self._null_error(column, misfit.index)
        return SchemaError(
            f"table {self.table}, column {column}: the value {misfit.value} {misfit.reason}: "
            f"{misfit.found} into {misfit.expected}, row {misfit.index} of the batch",
            column=column,
            expected=misfit.expected,
            found=misfit.value,
            hint=f"round or CAST the value to {misfit.expected} where that is what is meant",
        )

    def _null_error(self, column: str, row: int) -> SchemaError:
        wanted = self.target.find_field(column)
        return SchemaError(
            f"table {self.table}, column {column}: NULL is not allowed in {type_name(wanted.field_type)} NOT NULL, "
            f"row {row} of the batch",
            column=column,
            expected=f"{type_name(wanted.field_type)} NOT NULL",
            found="NULL",
            hint="leave such rows out, or give the column a value with COALESCE",
        )


@dataclass(frozen=True)
class _Column:
    """One column of the table: where it comes from, and how."""

    index: int | None
    convert: Cast | None
    fill: Filler
    field: NestedField
    arrow: pa.DataType

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        if self.index is None:
            return self.fill(batch.num_rows)
        array = batch.column(self.index)
        return restamp(array, self.arrow) if self.convert is None else self.convert(array)


def _plan_column(
    source: pa.Schema, index: int | None, wanted: NestedField, target: Target, matching: Matching
) -> _Column:
    convert = None if index is None else plan_value(source.field(index).type, target, matching)
    fill = default_filler(wanted, matching.default(wanted) if index is None else None, target.arrow, wanted.name)
    return _Column(index, convert, fill, wanted, target.arrow)


class _ByName:
    """Columns and struct fields by name; what is missing gets its write default or NULL."""

    checks_nulls = True

    def __init__(self, table: str, case_sensitive: bool) -> None:
        self.table = table
        self.case_sensitive = case_sensitive

    def match(
        self, source: Sequence[pa.Field], source_type: IcebergType | None, target: StructType, path: str
    ) -> list[int | None]:
        """The source's index for each field of the target; see `icefusion.bridge.reshape.Matching`."""
        del source_type  # of a file's schema; rows that come in have none
        found: dict[int, int] = {}
        names = [wanted.name for wanted in target.fields]
        for exact in (True, False):
            for index, given in enumerate(source):
                if index in found.values() or (exact and given.name not in names):
                    continue
                place = self._place(given.name, names, path, exact)
                if place in found:
                    raise self._error(f"column {join_path(path, given.name)} is given twice", path, given.name)
                found[place] = index
        for place, wanted in enumerate(target.fields):
            if place not in found and wanted.required and wanted.write_default is None:
                kind = f"{type_name(wanted.field_type)} NOT NULL"
                raise self._error(
                    f"column {join_path(path, wanted.name)} is missing; it is {kind} and has no default",
                    path,
                    wanted.name,
                    hint="give it a value",
                )
        return [found.get(place) for place in range(len(names))]

    def default(self, field: NestedField) -> Any:
        """What a missing field is filled with."""
        return field.write_default

    def match_positions(self, source: pa.Schema, columns: Sequence[str] | None, target: Schema) -> list[int | None]:
        """The source's index for each column of the table, where the source's columns come in a given order."""
        names = [wanted.name for wanted in target.fields]
        chosen = names if columns is None else columns
        if len(source) != len(chosen):
            raise SchemaError(
                f"table {self.table}: expected {len(chosen)} columns ({', '.join(chosen)}), "
                f"found {len(source)} ({', '.join(source.names)})",
                expected=f"{len(chosen)} columns",
                found=f"{len(source)} columns",
                hint="name the columns that the values go to, e.g. INSERT INTO t (a, b)",
            )
        fields = [pa.field(name, given.type, given.nullable) for name, given in zip(chosen, source, strict=True)]
        return self.match(fields, None, target.as_struct(), "")

    def _place(self, name: str, names: Sequence[str], path: str, exact: bool) -> int:
        if exact:
            return names.index(name)
        folded = [] if self.case_sensitive else [i for i, known in enumerate(names) if known.lower() == name.lower()]
        if len(folded) == 1:
            return folded[0]
        full = join_path(path, name)
        if folded:
            raise self._error(f"column {full} is ambiguous", path, name, hint="write it in the case of the table")
        near = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
        known = [known for known in names if near and known.lower() == near[0]]
        has = f"the columns are {', '.join(names[:20])}"
        hint = f"did you mean {join_path(path, known[0])}?" if known else has
        raise self._error(f"there is no column {full}", path, name, hint=hint)

    def _error(self, problem: str, path: str, name: str, hint: str | None = None) -> SchemaError:
        return SchemaError(f"table {self.table}: {problem}", column=join_path(path, name), hint=hint)


def _columns_text(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema)
