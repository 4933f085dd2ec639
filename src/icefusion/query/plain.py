"""Results in the types that every reader of Arrow knows: the engine has strings of its own, which are views."""

from __future__ import annotations

import pyarrow as pa
from datafusion import DataFrame, col

from icefusion.naming import quote_identifier

__all__ = ["plain_types", "with_plain_types"]

_PLAIN = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def with_plain_types(frame: DataFrame) -> DataFrame:
    """Results in plain strings, which every reader of Arrow knows, made so on all threads."""
    schema = frame.schema()
    if not any(field.type in _PLAIN for field in schema) or len(set(schema.names)) < len(schema.names):
        # A name that stands twice cannot be cast by name; such a result is made plain batch by batch.
        return frame
    if any(line.lstrip().startswith("Sort: ") for line in frame.logical_plan().display_indent().splitlines()):
        # Likewise sorted rows: the engine would deal them out to its threads, and take them as they come back.
        return frame
    columns = [col(quote_identifier(field.name)) for field in schema]
    return frame.select(
        *(
            column.cast(_PLAIN[field.type]).alias(field.name) if field.type in _PLAIN else column
            for column, field in zip(columns, schema, strict=True)
        )
    )


def plain_types(schema: pa.Schema) -> pa.Schema:
    """A schema with plain strings."""
    return pa.schema([field.with_type(_PLAIN.get(field.type, field.type)) for field in schema])
