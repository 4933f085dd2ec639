"""Position delete files as they are read: the scan asks which rows are gone, a commit whose rows others deleted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from icefusion.bridge.delete_index import PATH_FIELD_ID, POSITION_FIELD_ID
from icefusion.bridge.locations import DAMAGED, local_path, missing_file
from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import FIELD_ID_KEY
from icefusion.errors import StorageError

__all__ = ["read_position_deletes"]

_BATCH_ROWS = 1 << 17


def read_position_deletes(delete: DataFile, io: FileIO) -> Positions:
    """All rows that a position delete file says are gone.

    Raises:
        StorageError: The file is missing, or not what its manifest says.
    """
    try:
        return _read(delete, io)
    except FileNotFoundError as exc:
        raise missing_file(delete) from exc
    except StorageError:
        raise
    except Exception as exc:
        raise StorageError(
            f"cannot read delete file {delete.file_path}: {exc}", path=delete.file_path, hint=DAMAGED
        ) from exc


def _read(delete: DataFile, io: FileIO) -> Positions:
    local = local_path(delete.file_path)
    if local is not None:
        return _positions_in(local, delete)
    with io.new_input(delete.file_path).open() as stream:
        return _positions_in(stream, delete)


def _positions_in(source: object, delete: DataFile) -> Positions:
    with pq.ParquetFile(source) as probe:
        if probe.metadata.num_rows != delete.record_count:
            raise ValueError(f"it has {probe.metadata.num_rows} rows, its manifest says {delete.record_count}")
        names = (
            _column(probe.schema_arrow, PATH_FIELD_ID, "file_path"),
            _column(probe.schema_arrow, POSITION_FIELD_ID, "pos"),
        )
        positions = Positions()
        for batch in probe.iter_batches(_BATCH_ROWS, columns=list(names)):
            _add(positions, batch.column(names[0]), batch.column(names[1]))
    return positions


def _column(schema: pa.Schema, field_id: int, name: str) -> str:
    for field in schema:
        if (field.metadata or {}).get(FIELD_ID_KEY) == str(field_id).encode():
            return str(field.name)
    if name in schema.names:
        return name
    raise ValueError(f"it has no column {name}")


def _add(result: Positions, paths: pa.Array, positions: pa.Array) -> None:
    """Add the rows of a batch. They are sorted by path where the writer kept to the specification."""
    if paths.null_count or positions.null_count:
        raise ValueError("it has a row without path or position")
    encoded = paths.dictionary_encode()
    codes, places = encoded.indices.to_numpy(), positions.to_numpy()
    order = np.argsort(codes, kind="stable")
    codes, places = codes[order], places[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(codes)), strict=True):
        result.add(encoded.dictionary[int(codes[start])].as_py(), places[start:end])
