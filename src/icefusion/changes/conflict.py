"""INSERT ... ON CONFLICT as the MERGE that it is.

The new rows go by the name ``excluded``, as in PostgreSQL. Rows are the same when all keys are equal, so NULL is never
in conflict. Two new rows of one key are an error for DO UPDATE, which would have to change a row twice; DO NOTHING
takes the first of them.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyroaring import BitMap

from icefusion.changes.spool import Spool
from icefusion.errors import BindError, CardinalityError
from icefusion.naming import normalize, quote_identifier
from icefusion.query.changes import SOURCE_ROW_COLUMN
from icefusion.query.names import exact_column
from icefusion.sql.compose import compose
from icefusion.sql.statements import (
    Fragment,
    Identifier,
    Insert,
    InsertRow,
    KeepRow,
    Merge,
    MergeClause,
    OnConflict,
    SetRow,
)

__all__ = ["conflict_as_merge", "repeated_rows"]

EXCLUDED = Identifier("excluded", True)


def conflict_as_merge(insert: Insert, conflict: OnConflict, schema: Schema) -> Merge:
    """The MERGE that an INSERT ... ON CONFLICT stands for.

    Raises:
        BindError: A key or a column is unknown.
    """
    known = [field.name for field in schema.fields]
    columns = insert.columns or tuple(Identifier(name, True) for name in known)

    def exact(column: Identifier) -> str:
        return exact_column(column, known, insert.table, insert.query.sql, insert.table.offset)

    names = [exact(column) for column in columns]
    keys = [exact(key) for key in conflict.keys]
    missing = [key for key in keys if key not in names]
    if missing:
        raise BindError(
            f"ON CONFLICT: the rows give no value to the key {missing[0]}",
            sql=insert.query.sql or None,
            offset=insert.table.offset,
            hint="list it among the columns",
        )
    alias = quote_identifier(normalize(insert.table.parts[-1]))
    on = " AND ".join(f'{alias}.{quote_identifier(key)} = "excluded".{quote_identifier(key)}' for key in keys)
    found = KeepRow() if conflict.assignments is None else SetRow(conflict.assignments)
    values = tuple(Fragment(f'"excluded".{quote_identifier(name)}') for name in names)
    return Merge(
        table=insert.table,
        source=compose("(\n", insert.query, "\n)"),
        source_alias=EXCLUDED,
        source_columns=tuple(Identifier(name, True) for name in names),
        on=Fragment(on),
        clauses=(
            MergeClause("matched", found, conflict.condition, insert.table.offset),
            MergeClause("not_matched", InsertRow(tuple(Identifier(name, True) for name in names), values)),
        ),
        returning=insert.returning,
    )


def repeated_rows(merge: Merge, conflict: OnConflict, source: Spool, table: str) -> BitMap:
    """The new rows that come after another one of their key.

    Raises:
        CardinalityError: There are some, and rows of the table are to be updated by them.
    """
    columns = [column.text for column in merge.source_columns]
    keys = [exact_column(key, columns, merge.table, None, merge.table.offset) for key in conflict.keys]
    rows = source.table([*keys, SOURCE_ROW_COLUMN])
    for key in keys:
        rows = rows.filter(pc.is_valid(rows.column(key)))
    firsts = rows.group_by(keys).aggregate([(SOURCE_ROW_COLUMN, "min"), (SOURCE_ROW_COLUMN, "count")])
    if firsts.num_rows == rows.num_rows:
        return BitMap()
    if conflict.assignments is not None:
        twice = firsts.filter(pc.greater(firsts.column(f"{SOURCE_ROW_COLUMN}_count"), 1)).slice(0, 1).to_pylist()[0]
        shown = ", ".join(f"{key} = {twice[key]!r}" for key in keys)
        raise CardinalityError(
            f"two of the rows for {table} have the same key, and a row cannot be changed twice: {shown}",
            hint="keep one row a key, e.g. with GROUP BY, or by row_number() in the query",
        )
    kept = BitMap(firsts.column(f"{SOURCE_ROW_COLUMN}_min").cast(pa.uint32()).to_numpy())
    return BitMap(rows.column(SOURCE_ROW_COLUMN).cast(pa.uint32()).to_numpy()) - kept
