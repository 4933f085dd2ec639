"""What ALTER TABLE and its like do to a table, as values: one for each thing that can be asked for.

They name columns by path and say nothing of field ids, so the same alteration can be put on top of another state of the
table than the one it was first meant for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from icefusion.sql.basics import Identifier, SortTerm, TransformTerm, TypeText

__all__ = [
    "AddColumn",
    "AddPartitionField",
    "Alteration",
    "ColumnPath",
    "DropColumn",
    "DropPartitionField",
    "DropRef",
    "MoveColumn",
    "Place",
    "RefKind",
    "RenameColumn",
    "ReplacePartitionField",
    "SetColumnComment",
    "SetColumnDefault",
    "SetColumnType",
    "SetIdentifierFields",
    "SetLocation",
    "SetOrdering",
    "SetProperties",
    "SetRef",
    "SetRequired",
    "UnsetProperties",
]

ColumnPath = tuple[Identifier, ...]
"""A column or a part of one: ``address.city``; ``element``, ``key`` and ``value`` step into lists and maps."""

RefKind = Literal["branch", "tag"]


@dataclass(frozen=True)
class Place:
    """Where a column stands among its neighbours: ``FIRST``, or ``AFTER`` or ``BEFORE`` another one."""

    where: Literal["first", "after", "before"]
    column: Identifier | None = None


@dataclass(frozen=True)
class AddColumn:
    """``ADD COLUMN [IF NOT EXISTS] path type [NOT NULL] [DEFAULT value] [COMMENT 'text'] [FIRST | AFTER column]``.

    Attributes:
        path: The new column; all but its last part exist already.
        default: The verbatim text of the DEFAULT expression.
    """

    path: ColumnPath
    type: TypeText
    required: bool = False
    default: str | None = None
    comment: str | None = None
    place: Place | None = None
    if_not_exists: bool = False
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class DropColumn:
    """``DROP COLUMN [IF EXISTS] path``."""

    path: ColumnPath
    if_exists: bool = False
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class RenameColumn:
    """``RENAME COLUMN path TO name``."""

    path: ColumnPath
    name: Identifier
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class MoveColumn:
    """``ALTER COLUMN path FIRST | AFTER column | BEFORE column``; the other column is a sibling."""

    path: ColumnPath
    place: Place
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SetColumnType:
    """``ALTER COLUMN path [SET DATA] TYPE type``."""

    path: ColumnPath
    type: TypeText
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SetRequired:
    """``ALTER COLUMN path SET | DROP NOT NULL``."""

    path: ColumnPath
    required: bool
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SetColumnComment:
    """``ALTER COLUMN path COMMENT 'text'``; None takes it away."""

    path: ColumnPath
    comment: str | None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SetColumnDefault:
    """``ALTER COLUMN path SET DEFAULT value``, or ``DROP DEFAULT`` with None: what later rows get."""

    path: ColumnPath
    default: str | None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SetIdentifierFields:
    """``SET IDENTIFIER FIELDS a, b``, ``ADD PRIMARY KEY (a, b) NOT ENFORCED``; none of them takes them away.

    Attributes:
        columns: The columns.
        drop: Take these away, and keep the others (``DROP IDENTIFIER FIELDS a``).
    """

    columns: tuple[ColumnPath, ...]
    drop: bool = False
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class AddPartitionField:
    """``ADD PARTITION FIELD transform [AS name]``."""

    term: TransformTerm


@dataclass(frozen=True)
class DropPartitionField:
    """``DROP PARTITION FIELD transform``; a single word may also be the name of a partition field."""

    term: TransformTerm


@dataclass(frozen=True)
class ReplacePartitionField:
    """``REPLACE PARTITION FIELD transform WITH transform [AS name]``."""

    old: TransformTerm
    new: TransformTerm


@dataclass(frozen=True)
class SetOrdering:
    """``WRITE ORDERED BY ...``; without terms ``WRITE UNORDERED``."""

    terms: tuple[SortTerm, ...] = ()


@dataclass(frozen=True)
class SetProperties:
    """``SET TBLPROPERTIES (...)``."""

    properties: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class UnsetProperties:
    """``UNSET TBLPROPERTIES [IF EXISTS] (...)``."""

    keys: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True)
class SetLocation:
    """``SET LOCATION '...'``: where new files go."""

    location: str


@dataclass(frozen=True)
class SetRef:
    """``CREATE [OR REPLACE] | REPLACE BRANCH | TAG``.

    Attributes:
        kind: Which.
        name: Its name.
        version: The snapshot that it names, by id or by another branch or tag; None for the newest of the main branch.
        create: Whether it may be new.
        replace: Whether it may be there already.
        if_not_exists: Leave one that is there as it is.
        retain_ms: How long the branch or tag itself is kept (``RETAIN 7 DAYS``).
        snapshot_retain_ms: How long snapshots of a branch are kept.
        min_snapshots_to_keep: How many snapshots of a branch are kept at least.
    """

    kind: RefKind
    name: Identifier
    version: int | str | None = None
    create: bool = True
    replace: bool = False
    if_not_exists: bool = False
    retain_ms: int | None = None
    snapshot_retain_ms: int | None = None
    min_snapshots_to_keep: int | None = None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class DropRef:
    """``DROP BRANCH | TAG [IF EXISTS] name``."""

    kind: RefKind
    name: Identifier
    if_exists: bool = False
    offset: int = field(default=0, compare=False)


Alteration = (
    AddColumn
    | DropColumn
    | RenameColumn
    | MoveColumn
    | SetColumnType
    | SetRequired
    | SetColumnComment
    | SetColumnDefault
    | SetIdentifierFields
    | AddPartitionField
    | DropPartitionField
    | ReplacePartitionField
    | SetOrdering
    | SetProperties
    | UnsetProperties
    | SetLocation
    | SetRef
    | DropRef
)
"""One thing that is done to a table's metadata."""
