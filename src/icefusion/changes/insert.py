"""How the rows of an INSERT's query fit its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
from pyiceberg.schema import Schema

from icefusion.bridge.align import Alignment
from icefusion.bridge.literals import round_floats
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.errors import BindError
from icefusion.query.names import exact_column
from icefusion.sql.statements import Insert

__all__ = ["InsertAlignment", "insert_columns"]


class InsertAlignment:
    """Fits batches of an INSERT's query to the table, once the query's schema is known.

    Args:
        statement: The statement.
        schema: The table's schema.
        columns: The columns that the query's columns go to; None for all in order.
        table: The table's name, for messages.
        constants: Columns that have one value in all rows, which the query does not give.
    """

    def __init__(
        self,
        statement: Insert,
        schema: Schema,
        columns: list[str] | None,
        table: str,
        constants: Mapping[str, pa.Scalar],
    ) -> None:
        self._literal = not statement.query.tables
        self._schema = schema
        self._columns = columns
        self._table = table
        self._constants = constants

    def function(self, source: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        """What turns a batch of the query into one of the table.

        Raises:
            SchemaError: Counts or types do not fit.
        """
        columns = self._columns
        if self._constants:
            columns = [*(columns or []), *self._constants]
        whole = source
        for name, value in self._constants.items():
            whole = whole.append(pa.field(name, value.type))
        arrow = iceberg_to_arrow(self._schema)
        # Literals alone may be rounded into float columns.
        targets = [arrow.field(name) for name in columns or arrow.names] if self._literal else []
        rounded, round_batch = round_floats(whole, targets)
        alignment = Alignment.plan(rounded, self._schema, columns=columns, by="position", table=self._table)
        if not self._constants:
            return lambda batch: alignment.apply(round_batch(batch))

        def with_constants(batch: pa.RecordBatch) -> pa.RecordBatch:
            values = [pa.repeat(value, batch.num_rows) for value in self._constants.values()]
            return alignment.apply(round_batch(pa.RecordBatch.from_arrays([*batch.columns, *values], schema=whole)))

        return with_constants


def insert_columns(
    statement: Insert, schema: Schema, table: str, constants: Mapping[str, pa.Scalar]
) -> list[str] | None:
    """The exact names of the columns that the query's columns go to; None for all of them in order.

    Raises:
        BindError: A column is unknown or listed twice.
    """
    known = [field.name for field in schema.fields]
    if statement.columns is None:
        return [name for name in known if name not in constants] if constants else None
    chosen: list[str] = []
    for column in statement.columns:
        exact = exact_column(column, known, table, statement.query.sql, statement.table.offset)
        if exact in chosen or exact in constants:
            place = "listed twice" if exact in chosen else "held by PARTITION already"
            raise BindError(f"column {exact} is {place}", sql=statement.query.sql, offset=statement.table.offset)
        chosen.append(exact)
    return chosen
