"""Tables as values: one state of a table that is there, and one that does not exist yet."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate

from icefusion.commit.identifiers import AttachedIdentifier

__all__ = ["StagedTable", "TableHandle"]


@dataclass(frozen=True)
class TableHandle:
    """One state of a table: what a catalog answered at one moment.

    Attributes:
        name: The full name, for messages: ``catalog.namespace.table``.
        table: PyIceberg's own handle of this state.
        attached: The name under which its catalog is attached; None for a session's own.
    """

    name: str
    table: Table
    attached: str | None = None

    @property
    def identifier(self) -> tuple[str, ...]:
        """Namespace parts and table name; it equals no identifier of a table in another of a session's catalogs."""
        plain = self.table.name()
        return plain if self.attached is None else AttachedIdentifier(self.attached, plain)

    @property
    def metadata(self) -> TableMetadata:
        """The table's metadata in this state."""
        return self.table.metadata

    @property
    def metadata_location(self) -> str:
        """Where the metadata is stored."""
        return self.table.metadata_location

    @property
    def io(self) -> FileIO:
        """Access to the table's files."""
        return self.table.io

    def with_state(self, metadata: TableMetadata, metadata_location: str) -> TableHandle:
        """The same table in another state."""
        table = Table(self.table.name(), metadata, metadata_location, self.io, self.table.catalog, self.table.config)
        return TableHandle(self.name, table, self.attached)

    def named(self, name: str, identifier: tuple[str, ...]) -> TableHandle:
        """The same state of the same table under another full name."""
        old = self.table
        table = Table(tuple(identifier), old.metadata, old.metadata_location, old.io, old.catalog, old.config)
        return TableHandle(name, table, self.attached)


@dataclass(frozen=True)
class StagedTable:
    """A table that does not exist yet, with the metadata that it would begin with.

    Attributes:
        handle: Its first state; nothing of it is in the catalog or in storage.
        updates: The updates that make this state from nothing, for catalogs that want to be told.
    """

    handle: TableHandle
    updates: tuple[TableUpdate, ...]

    @property
    def name(self) -> str:
        """The table's full name."""
        return self.handle.name

    @property
    def metadata(self) -> TableMetadata:
        """The metadata that the table would begin with."""
        return self.handle.metadata

    @property
    def io(self) -> FileIO:
        """Access to the table's files."""
        return self.handle.io
