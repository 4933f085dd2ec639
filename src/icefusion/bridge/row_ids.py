"""Row ids that files inherit: section "First Row ID Inheritance" of the Iceberg specification.

From format version 3 on, a manifest list gives each manifest of data files a first row id. Files in it that have none
of their own are numbered from there, in order, each taking as many ids as it has rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyiceberg.avro.file import AvroFile
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
)
from pyiceberg.table.snapshots import Snapshot

from icefusion.bridge.locations import unreadable

__all__ = ["FIRST_ROW_ID", "assign_row_ids", "read_row_ids"]

FIRST_ROW_ID = 16
"""Where a file's first row id stands among its values."""

_OF_MANIFEST = 15


def read_row_ids(snapshot: Snapshot, io: FileIO) -> Mapping[str, int]:
    """The first row ids that a manifest list gives, by the manifest's path; PyIceberg's own reader leaves them out.

    Raises:
        StorageError: The manifest list is missing or unreadable.
    """
    try:
        with AvroFile[ManifestFile](
            io.new_input(snapshot.manifest_list),
            MANIFEST_LIST_FILE_SCHEMAS[3],
            read_types={-1: ManifestFile, 508: PartitionFieldSummary},
            read_enums={517: ManifestContent},
        ) as reader:
            found = {manifest.manifest_path: manifest._data[_OF_MANIFEST] for manifest in reader}
    except Exception as exc:
        raise unreadable("manifest list", snapshot.manifest_list, exc) from exc
    return {path: first for path, first in found.items() if first is not None}


def assign_row_ids(entries: Iterable[ManifestEntry], first_row_id: int | None) -> None:
    """Give the files of a manifest the row ids that they inherit, in place."""
    if first_row_id is None:
        return
    for entry in entries:
        file = entry.data_file
        if entry.status != ManifestEntryStatus.DELETED and file._data[FIRST_ROW_ID] is None:
            file._data[FIRST_ROW_ID] = first_row_id
            first_row_id += file.record_count
