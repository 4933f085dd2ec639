"""What all files of one write operation have in common: the table, the settings, the names, and which files exist.

`WriteTarget` is the picklable part: what a write task needs to know of a table. `TableFiles` is made from it where the
task runs. Every path is noted before its file is created, so that whatever goes wrong, `TableFiles.delete` leaves
nothing behind.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortOrder
from pyiceberg.typedef import Record

from icefusion.bridge.partition import partition_path
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.config import WriteProperties
from icefusion.errors import ConfigurationError, IcefusionError, StorageError
from icefusion.write.columns import leaf_columns
from icefusion.write.metrics import metrics_modes

__all__ = ["Partition", "TableFiles", "WriteTarget", "storage_errors"]

logger = logging.getLogger("icefusion")

DEFAULT_LEVELS = {"zstd": 3}
LEVELLED = ("zstd", "gzip", "brotli")


@dataclass(frozen=True)
class WriteTarget:
    """What a write task needs to know of the table it writes for; it can be pickled.

    Attributes:
        table: The table's full name, for messages.
        location: The table's location.
        schema: The schema that rows are written with.
        spec: The partition spec that rows are routed by.
        sort_order: The order of the rows within a file; one without fields when there is none.
        properties: The table's properties.
        format_version: The table's format version.
    """

    table: str
    location: str
    schema: Schema
    spec: PartitionSpec
    sort_order: SortOrder
    properties: Mapping[str, str] = field(default_factory=dict)
    format_version: int = 2

    @classmethod
    def of(cls, table: str, metadata: TableMetadata) -> WriteTarget:
        """A table in its present state."""
        return cls(
            table=table,
            location=metadata.location,
            schema=metadata.schema(),
            spec=metadata.spec(),
            sort_order=metadata.sort_order(),
            properties=metadata.properties,
            format_version=metadata.format_version,
        )


@dataclass(frozen=True)
class Partition(PartitionKey):
    """A partition by its record of transformed values, also where two of its fields come from one column."""

    record: Record

    @classmethod
    def of(cls, record: Record, spec: PartitionSpec, schema: Schema) -> Partition:
        """The partition of a record whose values stand in the order of the spec's fields."""
        values = [PartitionFieldValue(spec_field, record[i]) for i, spec_field in enumerate(spec.fields)]
        return cls(values, spec, schema, record)

    @property
    def partition(self) -> Record:
        """The record of transformed values."""
        return self.record

    def to_path(self) -> str:
        """The partition's folder below the data path."""
        return partition_path(self.record, self.partition_spec, self.schema)


class TableFiles:
    """The files that one operation writes into a table; may be used by many threads.

    Args:
        target: The table.
        io: Where its files go.
        write_uuid: Part of each file's name.
        task_id: Part of each file's name; tells the tasks of one operation apart.

    Raises:
        ConfigurationError: A table property makes no sense.
        SchemaError: A column's type cannot be written.
    """

    def __init__(self, target: WriteTarget, io: FileIO, write_uuid: str, task_id: int = 0) -> None:
        self.target = target
        self.io = io
        self.options = WriteProperties.of(target.properties)
        self.compression_level = _compression_level(self.options)
        self.arrow_schema = iceberg_to_arrow(target.schema)
        self.leaves = leaf_columns(target.schema)
        self.modes = metrics_modes(target.schema, self.leaves, target.properties, target.sort_order)
        self.encoded_ratio: float | None = None
        self._names = (f"00000-{task_id}-{write_uuid}-{n:05d}.parquet" for n in itertools.count(1))
        self._locations = load_location_provider(target.location, dict(target.properties))
        self._paths: list[str] = []

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that was given out."""
        return tuple(self._paths)

    def new_path(self, partition: Partition | None) -> str:
        """A path for a new data file, noted as one to delete if the operation fails."""
        path = self._locations.new_data_location(next(self._names), partition)
        self._paths.append(path)
        return path

    def disown(self, path: str) -> None:
        """Take note that a path turned out to be somebody else's file, which is not to be deleted."""
        self._paths.remove(path)

    def note_encoded(self, arrow_bytes: int, encoded_bytes: int) -> None:
        """Learn from a row group how many bytes a file takes for the rows' Arrow bytes."""
        ratio = encoded_bytes / max(1, arrow_bytes)
        known = self.encoded_ratio
        self.encoded_ratio = ratio if known is None else (known + ratio) / 2

    def delete(self, error: BaseException) -> None:
        """Delete every file because of an error; what cannot be deleted is noted on the error, which stays the same."""
        for path in self._paths:
            try:
                self.io.delete(path)
            except FileNotFoundError:
                pass
            except Exception as exc:
                logger.warning("%s: could not be deleted after a failed write", path, exc_info=True)
                error.add_note(f"{path}: was left behind, as it could not be deleted: {exc}")


def _compression_level(options: WriteProperties) -> int | None:
    codec = options.compression_codec
    if codec not in LEVELLED:
        return None
    level = options.compression_level
    if level is None:
        return DEFAULT_LEVELS.get(codec)
    least, most = pa.Codec.minimum_compression_level(codec), pa.Codec.maximum_compression_level(codec)
    if not least <= level <= most:
        raise ConfigurationError(
            f"write.parquet.compression-level: {codec} has the levels {least} to {most}, found {level}"
        )
    return level


@contextmanager
def storage_errors(path: str, action: str = "written", hint: str | None = None) -> Iterator[None]:
    """Turn what storage raises into a `StorageError` that names the path."""
    try:
        yield
    except (MemoryError, IcefusionError):
        raise
    except Exception as exc:  # stores have exceptions of their own
        raise StorageError(f"{path}: could not be {action}: {exc}", path=path, hint=hint) from exc
