"""Table metadata: apply updates to it without copying its history.

PyIceberg's public `update_table_metadata` ends in a deep copy of the whole metadata, whose cost grows with the number
of snapshots. Its single appliers share unchanged parts instead, and metadata is never changed in place here, so
sharing is safe. This module is the one place that leans on them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence

from pyiceberg.exceptions import ValidationError as MetadataError
from pyiceberg.io import FileIO
from pyiceberg.serializers import FromInputFile, ToOutputFile
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import MetadataLogEntry
from pyiceberg.table.update import TableUpdate, _apply_table_update, _TableMetadataUpdateContext

from icefusion.clock import Clock
from icefusion.commit.translate import told
from icefusion.config import WriteProperties
from icefusion.errors import StorageError

__all__ = [
    "apply_updates",
    "dropped_metadata_files",
    "next_metadata_location",
    "read_metadata",
    "write_metadata_file",
]

_VERSION = re.compile(r"^(\d+)-[0-9a-fA-F-]{36}(?:\.gz)?\.metadata\.json(?:\.gz)?$")


def apply_updates(
    base: TableMetadata, updates: Sequence[TableUpdate], *, base_location: str | None, clock: Clock
) -> TableMetadata:
    """The metadata after the updates, the metadata log carried on.

    Args:
        base: The metadata to start from; left as it is.
        updates: Applied in order.
        base_location: Where ``base`` is stored; enters the metadata log. None for a new table.
        clock: Tells the time of the change.
    """
    context = _TableMetadataUpdateContext()
    metadata = base
    for update in updates:
        metadata = _apply_table_update(update, metadata, context)
    changes: dict[str, object] = {}
    if metadata is base and base_location is None:
        return base
    if metadata.last_updated_ms <= base.last_updated_ms:
        # Time may not run backwards within a table's history, whatever this machine's clock says.
        changes["last_updated_ms"] = max(clock.now_ms(), base.last_updated_ms)
    if base_location is not None:
        keep = WriteProperties.of(metadata.properties).metadata_previous_versions_max
        entry = MetadataLogEntry(metadata_file=base_location, timestamp_ms=base.last_updated_ms)
        changes["metadata_log"] = [*metadata.metadata_log, entry][-keep:]
    return metadata.model_copy(update=changes)


def next_metadata_location(metadata: TableMetadata, current_location: str | None) -> str:
    """A fresh name for the next metadata file, its version one above the current one's."""
    version = 0
    if current_location is not None:
        match = _VERSION.match(current_location.rsplit("/", 1)[-1])
        version = int(match.group(1)) + 1 if match else 0
    provider = load_location_provider(metadata.location, metadata.properties)
    return provider.new_table_metadata_file_location(version)


def read_metadata(location: str, io: FileIO) -> TableMetadata:
    """The metadata that lies at a location.

    Raises:
        StorageError: Nothing lies there, or no metadata of an Iceberg table.
        Exception: Whatever file access raises otherwise.
    """
    try:
        return FromInputFile.table_metadata(io.new_input(location))
    except FileNotFoundError as exc:
        error = StorageError(
            f"metadata file {location} is missing in storage",
            path=location,
            hint="the catalog names it as the table's newest; restore it, or register the table at an older one",
        )
        error.retryable = True  # it may have been cleared away after the catalog was asked, when newer ones were there
        raise error from exc
    except (ValueError, MetadataError, EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise StorageError(
            f"metadata file {location} cannot be read: {told(exc)}",
            path=location,
            hint="it may be damaged, of another table format, or of a format version that is not known yet; restore "
            "it, or register the table at an older one",
        ) from exc


def write_metadata_file(metadata: TableMetadata, io: FileIO, location: str) -> None:
    """Store the metadata as JSON at a new location."""
    ToOutputFile.table_metadata(metadata, io.new_output(location))


def dropped_metadata_files(base: TableMetadata, metadata: TableMetadata) -> list[str]:
    """Metadata files that fell out of the log; none unless ``write.metadata.delete-after-commit.enabled`` is set."""
    if not WriteProperties.of(metadata.properties).metadata_delete_after_commit:
        return []
    kept = {entry.metadata_file for entry in metadata.metadata_log}
    return [entry.metadata_file for entry in base.metadata_log if entry.metadata_file not in kept]
