"""The table, in one state, that a metadata table tells of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from icefusion.errors import StorageError

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """A table as somebody sees it.

    Attributes:
        name: The full name, for messages.
        metadata: The table.
        metadata_location: Where the metadata is stored.
        io: Where its files are read.
        snapshot_id: The snapshot that is looked at; None for none.
        memo: What a metadata table keeps of the subject, so that it need not be made again.
    """

    name: str
    metadata: TableMetadata
    metadata_location: str
    io: FileIO
    snapshot_id: int | None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is looked at.

        Raises:
            StorageError: The metadata does not know it.
        """
        if self.snapshot_id is None:
            return None
        snapshot = self.metadata.snapshot_by_id(self.snapshot_id)
        if snapshot is None:
            raise StorageError(
                f"snapshot {self.snapshot_id} is not in the metadata of {self.name}", hint="it may have been expired"
            )
        return snapshot
