"""The procedure that makes a table known to the catalog by its metadata file."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from icefusion.errors import TransactionError
from icefusion.procedures.signatures import Calling, Parameter, Procedure

__all__ = ["PROCEDURES"]

_COUNTS = ("total-records", "total-data-files")


def _register_table(calling: Calling) -> list[tuple[Any, ...]]:
    if not calling.alone:
        raise TransactionError(
            "a table cannot be registered inside a transaction: catalogs do that at once",
            hint="COMMIT or ROLLBACK first",
        )
    identifier = calling.client.split(calling.name)
    handle = calling.client.register_table(identifier, calling.arguments["metadata_file"])
    snapshot = handle.metadata.current_snapshot()
    summary = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    counts = [int(summary[key]) if key in summary else None for key in _COUNTS]
    return [(handle.metadata.current_snapshot_id, *counts)]


PROCEDURES = (
    Procedure(
        "register_table",
        (Parameter("table", "table"), Parameter("metadata_file", "text")),
        pa.schema(
            [
                ("current_snapshot_id", pa.int64()),
                ("total_records_count", pa.int64()),
                ("total_data_files_count", pa.int64()),
            ]
        ),
        _register_table,
    ),
)
