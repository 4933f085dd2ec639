"""What a transaction did to the files of a table, as frozen values.

A change carries the files it adds and removes, and what it read to come to that: the state it started from and the
rows it depends on. So validation needs no flags and no memory of the statements. All statements of one transaction on
one table fold into a single `Change`, which becomes a single snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.expressions import AlwaysFalse, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation

from icefusion.bridge.positions import Positions
from icefusion.commit.catalog import StagedTable, TableHandle
from icefusion.reports import RowCounts

__all__ = ["Change", "CreateChange", "FileChange", "TableChange"]


@dataclass(frozen=True)
class FileChange:
    """Files that come and go. What only adds depends on nothing that was read.

    Attributes:
        added: New data files, each bound to the partition spec in its ``spec_id``.
        removed: Data files of the base that go: none of their rows are left, or all that are stand in ``added``.
        added_deletes: New position delete files.
        removed_deletes: Delete files of the base that apply to nothing once ``removed`` is gone.
        deleted: The rows of the base's data files that ``added_deletes`` remove.
        rows: What that is in rows.
    """

    added: tuple[DataFile, ...] = ()
    removed: tuple[DataFile, ...] = ()
    added_deletes: tuple[DataFile, ...] = ()
    removed_deletes: tuple[DataFile, ...] = ()
    deleted: Positions = field(default_factory=Positions)
    rows: RowCounts = field(default_factory=RowCounts)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.added_deletes or self.removed_deletes)

    @property
    def operation(self) -> Operation:
        """The name of the operation in the snapshot summary (spec, "Snapshots")."""
        if self.added and not (self.removed or self.added_deletes):
            return Operation.APPEND
        return Operation.OVERWRITE if self.added else Operation.DELETE

    @property
    def new_files(self) -> tuple[DataFile, ...]:
        """All files that exist because of this change."""
        return (*self.added, *self.added_deletes)


@dataclass(frozen=True)
class TableChange:
    """Everything one transaction did to one existing table: it becomes one snapshot, or none if it was only read.

    Attributes:
        base: The table as the transaction saw it. Files are bound to its schema and specs.
        files: What was done.
        summary: Further entries for the snapshot summary.
        idempotency_key: The caller's key, under which this may land once.
        reads: The rows of the table that must be as they were read; none of them unless it is serializable.
    """

    base: TableHandle
    files: FileChange = field(default_factory=FileChange)
    summary: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    reads: BooleanExpression = field(default_factory=AlwaysFalse)

    @property
    def name(self) -> str:
        """The table's full name."""
        return self.base.name

    @property
    def metadata(self) -> TableMetadata:
        """The metadata that the files were written under."""
        return self.base.metadata


@dataclass(frozen=True)
class CreateChange:
    """A table that comes into being together with its first rows, or with none."""

    base: StagedTable
    files: FileChange = field(default_factory=FileChange)
    summary: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None

    @property
    def name(self) -> str:
        """The table's full name."""
        return self.base.name

    @property
    def metadata(self) -> TableMetadata:
        """The metadata that the files were written under."""
        return self.base.metadata


Change = TableChange | CreateChange
