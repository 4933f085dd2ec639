"""What a statement did to a table, as frozen values.

An operation carries what it added, what it removed, and what it read to come to that: the snapshot it started from and
the filter it depends on. So validation needs no flags and no memory of the statement. Several operations of one
transaction on one table fold into a single `Change`, which becomes a single snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.expressions import AlwaysFalse, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation

from icefusion.commit.catalog import StagedTable, TableHandle

__all__ = ["AppendFiles", "Change", "CreateChange", "TableChange"]


@dataclass(frozen=True)
class AppendFiles:
    """Data files to add; by itself this depends on nothing that was read.

    Attributes:
        added: The new data files, each bound to the partition spec in its ``spec_id``.
        base_snapshot_id: The snapshot the statement saw; None for an empty table.
    """

    added: tuple[DataFile, ...]
    base_snapshot_id: int | None

    @property
    def operation(self) -> Operation:
        """The name of the operation in the snapshot summary (spec, "Snapshots")."""
        return Operation.APPEND


@dataclass(frozen=True)
class TableChange:
    """Everything one transaction did to one existing table: it becomes one snapshot, or none if it was only read.

    Attributes:
        base: The table as the transaction saw it. Files are bound to its schema and specs.
        operations: What was done, in order.
        summary: Further entries for the snapshot summary.
        idempotency_key: The caller's key, under which this may land once.
        reads: The rows of the table that the transaction depends on; nothing unless it is serializable.
    """

    base: TableHandle
    operations: tuple[AppendFiles, ...] = ()
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
    operations: tuple[AppendFiles, ...] = ()
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


def added_files(operations: Sequence[AppendFiles]) -> tuple[DataFile, ...]:
    """All data files that the operations add, in order."""
    return tuple(file for operation in operations for file in operation.added)
