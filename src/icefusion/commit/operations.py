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
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.sorting import SortOrder

from icefusion.bridge.positions import Positions
from icefusion.commit.handles import StagedTable, TableHandle
from icefusion.reports import RowCounts
from icefusion.sql.alterations import Alteration

__all__ = [
    "WAP_ID",
    "Change",
    "CreateChange",
    "Definition",
    "FileChange",
    "NamespaceChange",
    "Replacement",
    "TableChange",
    "waits_under",
]

WAP_ID = "wap.id"
"""The entry of a snapshot summary under which a snapshot waits to be published."""


def waits_under(snapshot: Snapshot, wap_id: str) -> bool:
    """Whether a snapshot was staged to be published under an id."""
    return snapshot.summary is not None and snapshot.summary.additional_properties.get(WAP_ID) == wap_id


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
        adopted: Paths of those of ``added`` that were there before, and that others may add as well.
    """

    added: tuple[DataFile, ...] = ()
    removed: tuple[DataFile, ...] = ()
    added_deletes: tuple[DataFile, ...] = ()
    removed_deletes: tuple[DataFile, ...] = ()
    deleted: Positions = field(default_factory=Positions)
    rows: RowCounts = field(default_factory=RowCounts)
    adopted: frozenset[str] = frozenset()

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
class Replacement:
    """What a table begins anew with: its rows are gone, its history stays (``CREATE OR REPLACE TABLE``).

    Attributes:
        schema: Its columns; their ids are given anew on top of those that the table has had.
        spec: Its partition spec, bound to this schema.
        sort_order: Its sort order, likewise.
        properties: Its properties.
        location: Where new files go; None where they went before.
    """

    schema: Schema
    spec: PartitionSpec
    sort_order: SortOrder
    properties: Mapping[str, str] = field(default_factory=dict)
    location: str | None = None


@dataclass(frozen=True)
class Definition:
    """What happens to a table's metadata besides its rows. It names things and no ids, so it can be done over again.

    Attributes:
        replacement: What the table begins anew with; before all else.
        steps: What is altered, in order. Files may have been written under the schema and spec that a step left, so it
            is a step again when it is done over.
    """

    replacement: Replacement | None = None
    steps: tuple[tuple[Alteration, ...], ...] = ()

    def __bool__(self) -> bool:
        return self.replacement is not None or bool(self.steps)

    @property
    def actions(self) -> tuple[Alteration, ...]:
        """All that is altered."""
        return tuple(action for step in self.steps for action in step)


@dataclass(frozen=True)
class TableChange:
    """Everything one transaction did to one branch of an existing table.

    It becomes one snapshot, or none where no rows were changed, or none of anything where the table was only read.

    Attributes:
        base: The table as the transaction first saw it.
        files: What was done to its rows.
        summary: Further entries for the snapshot summary.
        idempotency_key: The caller's key, under which this may land once.
        reads: The rows of the table that must be as they were read; none of them unless it is serializable.
        definition: What was done to its metadata.
        defined: The metadata with that done; None where nothing was. Files are bound to its schemas and specs.
        ref: The branch.
        published: Whether the branch moves to the snapshot; otherwise it only lies in the table, to be published later.
        dropped: Whether the table goes out of the catalog, and nothing else happens to it; its files stay in storage.
        renamed: The table under the name that it is to have; None where it keeps its own.
    """

    base: TableHandle
    files: FileChange = field(default_factory=FileChange)
    summary: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    reads: BooleanExpression = field(default_factory=AlwaysFalse)
    definition: Definition = field(default_factory=Definition)
    defined: TableMetadata | None = None
    ref: str = MAIN_BRANCH
    published: bool = True
    dropped: bool = False
    renamed: TableHandle | None = None

    @property
    def target(self) -> TableHandle:
        """The table under the name that it has afterwards."""
        return self.renamed or self.base

    @property
    def name(self) -> str:
        """The table's full name as it is to be, and the branch unless it is the main one."""
        return self.target.name if self.ref == MAIN_BRANCH else f"{self.target.name}.branch_{self.ref}"

    @property
    def identifier(self) -> tuple[str, ...]:
        """Namespace parts and table name, under which the table is found."""
        return self.base.identifier

    @property
    def gives_up_name(self) -> bool:
        """Whether its name is free afterwards."""
        return self.dropped or self.renamed is not None

    @property
    def metadata(self) -> TableMetadata:
        """The metadata that the files were written under."""
        return self.defined or self.base.metadata


@dataclass(frozen=True)
class CreateChange:
    """A table that comes into being together with its first rows, or with none."""

    base: StagedTable
    files: FileChange = field(default_factory=FileChange)
    summary: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    ref: str = MAIN_BRANCH
    published: bool = True

    @property
    def name(self) -> str:
        """The table's full name, and the branch unless it is the main one."""
        return self.base.name if self.ref == MAIN_BRANCH else f"{self.base.name}.branch_{self.ref}"

    @property
    def identifier(self) -> tuple[str, ...]:
        """Namespace parts and table name."""
        return self.base.handle.identifier

    @property
    def metadata(self) -> TableMetadata:
        """The metadata that the files were written under."""
        return self.base.metadata


Change = TableChange | CreateChange


@dataclass(frozen=True)
class NamespaceChange:
    """Everything one transaction did to one namespace of a SQL catalog.

    Attributes:
        identifier: Its parts.
        base: Its properties as the transaction first saw them; None where there was none of this name.
        properties: Those that it is to have; None where it is dropped.
        is_tolerant: Whether it is no matter that others have made it, or dropped it, meanwhile (``IF [NOT] EXISTS``).
    """

    identifier: tuple[str, ...]
    base: Mapping[str, str] | None
    properties: Mapping[str, str] | None
    is_tolerant: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return ".".join(self.identifier)

    @property
    def drops(self) -> bool:
        """Whether it goes."""
        return self.properties is None

    @property
    def touched(self) -> tuple[str, ...]:
        """The properties that are set to something else or taken away."""
        base, new = self.base or {}, self.properties or {}
        return tuple(sorted(key for key in {*base, *new} if base.get(key) != new.get(key)))

    def __bool__(self) -> bool:
        if self.base is None or self.properties is None:
            return self.base is not self.properties
        return bool(self.touched)
