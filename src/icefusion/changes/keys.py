"""What the keys in the source of a MERGE say of the rows of its target.

A row that matches has a key of the source. So the keys, where they are few, or else their range are a condition on the
target: files are pruned by it, and it is what the commit holds still.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from icefusion.changes.spool import SpooledRows
from icefusion.naming import quote_identifier
from icefusion.query.changes import RowQueries
from icefusion.sql.compose import Piece
from icefusion.sql.statements import Merge

__all__ = ["narrowed"]

MAX_LISTED_KEYS = 200


def narrowed(
    queries: RowQueries, merge: Merge, source: SpooledRows, columns: pa.Schema
) -> tuple[list[Piece], dict[str, pa.Scalar]]:
    """Conditions on the target's keys that follow from the keys in the source."""
    pieces: list[Piece] = []
    values: dict[str, pa.Scalar] = {}
    types = {column.name: column.type for column in columns}
    for target, column in queries.equal_keys(merge, source.schema):
        if _family(types[target]) is None or _family(types[target]) != _family(source.schema.field(column).type):
            continue
        keys = source.table([column]).column(0).drop_null()
        place = f"{quote_identifier(queries.alias)}.{quote_identifier(target)}"
        listed = keys.unique() if len(keys) <= 100 * MAX_LISTED_KEYS else None
        if not len(keys):
            pieces.append(" AND FALSE")
        elif listed is not None and len(listed) <= MAX_LISTED_KEYS:
            names = [f"__key{len(values) + number}" for number in range(len(listed))]
            values.update(zip(names, listed, strict=True))
            pieces.append(f" AND {place} IN ({', '.join('$' + name for name in names)})")
        else:
            ends = pc.min_max(keys)
            low, high = f"__key{len(values)}", f"__key{len(values) + 1}"
            values.update({low: ends["min"], high: ends["max"]})
            pieces.append(f" AND {place} >= ${low} AND {place} <= ${high}")
    return pieces, values


def _family(arrow_type: pa.DataType) -> str | None:
    """Types whose values compare alike in Arrow and in SQL, whichever of the two sides they are on."""
    if pa.types.is_integer(arrow_type):
        return "integer"
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type):
        return "text"
    if pa.types.is_date32(arrow_type):
        return "date"
    if pa.types.is_timestamp(arrow_type):
        return f"timestamp {arrow_type.unit} {arrow_type.tz}"
    if pa.types.is_decimal128(arrow_type):
        return f"decimal {arrow_type.scale}"
    return None
