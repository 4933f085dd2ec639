"""How the rows of an INSERT's query fit its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from pyiceberg.schema import Schema

from icefusion.bridge.align import Alignment
from icefusion.bridge.literals import round_floats
from icefusion.bridge.reshape import default_filler
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.errors import BindError
from icefusion.naming import find_name, nearest
from icefusion.query.names import exact_column
from icefusion.sql.defaults import fill_defaults
from icefusion.sql.statements import Identifier, Insert

__all__ = ["InsertAlignment", "insert_columns", "named_columns", "with_defaults"]


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
        self._statement = statement
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
        if self._statement.by_name:
            columns = named_columns(self._statement, source.names, self._schema, self._table, self._constants)
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
    if statement.by_name:
        return None  # known once the query is planned
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


def named_columns(
    statement: Insert, names: Sequence[str], schema: Schema, table: str, constants: Mapping[str, pa.Scalar]
) -> list[str]:
    """The columns of the table that the query's columns go to by their names.

    Raises:
        BindError: The table has no column of a name, or two go to one column.
    """
    known = [field.name for field in schema.fields]
    chosen: list[str] = []
    for name in names:
        exact = find_name(Identifier(name), known)
        problem = hint = None
        if exact is None:
            near = nearest(name, known)
            problem = f"BY NAME: table {table} has no column {name}"
            hint = f"did you mean {near}?" if near else f"name it with AS; columns: {', '.join(known)}"
        elif exact in constants:
            problem, hint = f"column {exact} is held by PARTITION already", "leave it out of the query"
        elif exact in chosen:
            problem, hint = f"BY NAME: the query has column {exact} twice", "name one of them with AS"
        if exact is None or problem is not None:
            raise BindError(problem or "", sql=statement.query.sql or None, offset=statement.query.offset, hint=hint)
        chosen.append(exact)
    return chosen


def with_defaults(
    statement: Insert, columns: Sequence[str] | None, schema: Schema, taken: Mapping[str, pa.Scalar]
) -> tuple[Insert, dict[str, pa.Scalar]]:
    """The statement with a parameter, or NULL, for each DEFAULT in its rows; and the values of these parameters.

    Args:
        statement: The statement.
        columns: The columns that its values go to; None for all in order.
        schema: The table's schema.
        taken: The parameters of the statement.
    """
    arrow = iceberg_to_arrow(schema)
    values: dict[str, pa.Scalar] = {}
    by_column: dict[str, str] = {}
    for place, field in enumerate(schema.fields):
        if field.write_default is not None:
            name = f"default_{place}"
            while name in taken:
                name += "_"
            array = default_filler(field, field.write_default, arrow.field(place).type, field.name)(1)
            values[name] = (array.storage if isinstance(array, pa.ExtensionArray) else array)[0]
            by_column[field.name] = name
    names = [field.name for field in schema.fields] if columns is None else columns
    query = fill_defaults(statement.query, names, by_column)
    return replace(statement, query=query), {name: values[name] for name in query.parameters if name in values}
