"""Numbers written in SQL take the type of the column they go to.

DataFusion reads ``0.1`` as a double. Into a REAL column that is not an exact assignment, and yet it is the only way to
write the number down. So where a query consists of literals alone, doubles are rounded to the nearest float on their
way into float columns, as SQL does it with approximate numbers; only a number too large for the column stays an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from icefusion.errors import SchemaError

__all__ = ["round_floats"]


def round_floats(
    source: pa.Schema, targets: Sequence[pa.Field]
) -> tuple[pa.Schema, Callable[[pa.RecordBatch], pa.RecordBatch]]:
    """The schema that literals have once doubles were rounded for float columns, and the function that does it.

    Args:
        source: The schema of the literals.
        targets: The columns they go to, in order.

    Raises:
        SchemaError: From the function: a number is too large for its column.
    """
    places = [
        place
        for place, (field, target) in enumerate(zip(source, targets, strict=False))
        if field.type == pa.float64() and target.type == pa.float32()
    ]
    schema = source
    for place in places:
        schema = schema.set(place, source.field(place).with_type(pa.float32()))

    def round_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = batch.columns
        for place in places:
            columns[place] = _rounded(columns[place], targets[place].name)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    return schema, round_batch if places else _unchanged


def _rounded(array: pa.Array, column: str) -> pa.Array:
    narrow = pc.cast(array, pa.float32(), safe=False)
    overflown = pc.and_(pc.is_finite(array), pc.invert(pc.is_finite(narrow)))
    row = pc.index(overflown, pa.scalar(True)).as_py()
    if row >= 0:
        raise SchemaError(
            f"column {column}: the number {array[row]} is too large for float, row {row}",
            column=column,
            expected="float",
            found=str(array[row]),
            hint="make the column a double",
        )
    return narrow


def _unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
