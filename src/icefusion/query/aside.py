"""Rows of a DataFrame, read into a temporary file that is mapped back: they take no memory that counts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
from datafusion import DataFrame

__all__ = ["set_aside"]


def set_aside(frame: DataFrame) -> list[pa.RecordBatch]:
    """Run a query and keep its rows, as long as somebody holds the batches.

    Raises:
        Exception: Whatever the engine or the file system raises.
    """
    schema: pa.Schema = frame.schema()
    with tempfile.TemporaryDirectory(prefix="icefusion-aside-") as folder:
        path = Path(folder, "rows.arrow")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in frame.execute_stream():
                rows = batch.to_pyarrow()
                writer.write_batch(rows if rows.schema.equals(schema) else rows.cast(schema))
        # The mapping keeps the bytes; the name goes with the folder.
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]
