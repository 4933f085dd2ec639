"""What the parser says a text means: frozen values, still without any knowledge of tables.

Queries and expressions stay text. They are verbatim slices of what the user wrote; only what DataFusion cannot read
(time travel, ``?`` parameters) is cut out of them, and its place and meaning kept beside the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Begin",
    "ColumnDefinition",
    "Commit",
    "CreateNamespace",
    "CreateTable",
    "DropNamespace",
    "DropTable",
    "Identifier",
    "Insert",
    "Name",
    "Query",
    "Rollback",
    "SortTerm",
    "Statement",
    "TableReference",
    "TransformTerm",
    "TypeText",
    "VersionAsOf",
]


@dataclass(frozen=True)
class Identifier:
    """One part of a name. ``text`` is as written, without quotes; unquoted ones compare without regard to case."""

    text: str
    quoted: bool = False

    def __str__(self) -> str:
        return '"' + self.text.replace('"', '""') + '"' if self.quoted else self.text


@dataclass(frozen=True)
class Name:
    """A dotted name, e.g. ``ns.t`` or ``prod.ns.t``, and where it begins in the statement's text."""

    parts: tuple[Identifier, ...]
    offset: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return ".".join(str(part) for part in self.parts)


@dataclass(frozen=True)
class VersionAsOf:
    """``FOR VERSION AS OF``: a snapshot id, or the name of a branch or tag."""

    version: int | str


@dataclass(frozen=True)
class TableReference:
    """A table named in a FROM clause.

    Attributes:
        name: The name as written. Names that a WITH clause of the query defines are not listed.
        start: Where the name begins in `Query.text`.
        end: Where it ends in `Query.text`, the time travel clause not included: that is already cut out.
        version: The earlier state that is asked for, or None for the current one.
        has_alias: Whether the query gives the table an alias of its own.
    """

    name: Name
    start: int
    end: int
    version: VersionAsOf | None = None
    has_alias: bool = False


@dataclass(frozen=True)
class Query:
    """A SELECT, VALUES, WITH, EXPLAIN SELECT ..., as text for DataFusion.

    Attributes:
        text: The query; time travel clauses cut out, ``?`` numbered as ``$1``, ``$2``...; otherwise as written.
        tables: The tables in its FROM clauses, in order of appearance (each appearance is listed).
        parameters: The names of its parameters without ``$``, in order of first appearance: ``("1", "2")``, ``("a",)``.
        sql: The whole text that the user gave, for error messages.
        offset: Where the query begins in ``sql``.
        shifts: Where ``text`` and ``sql`` part: pairs of a place in ``text`` and the one in ``sql`` that it came from,
            in order. Empty where ``text`` is the slice of ``sql`` at ``offset``.
    """

    text: str
    tables: tuple[TableReference, ...] = ()
    parameters: tuple[str, ...] = ()
    sql: str = field(default="", compare=False)
    offset: int = field(default=0, compare=False)
    shifts: tuple[tuple[int, int], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class TypeText:
    """A column type, parsed but not yet an Iceberg type.

    ``name`` is in lower case: ``int``, ``decimal``, ``timestamp with time zone``, ``struct``, ``array``, ``map``...;
    ``child_names`` are as written.
    """

    name: str
    arguments: tuple[int, ...] = ()
    children: tuple[TypeText, ...] = ()
    child_names: tuple[str, ...] = ()
    child_required: tuple[bool, ...] = ()
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ColumnDefinition:
    """One column of CREATE TABLE. ``default`` is the verbatim text of its DEFAULT expression."""

    name: Identifier
    type: TypeText
    required: bool = False
    comment: str | None = None
    default: str | None = None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class TransformTerm:
    """A partition transform: ``bucket(16, id)`` is ``TransformTerm("bucket", ("id",), 16)``.

    ``transform`` is identity, bucket, truncate, year, month, day, hour or void; Spark's plural names are folded into
    these. ``column`` is the dotted path. ``alias`` is the field name of ``bucket(16, id) AS shard``, where given.
    """

    transform: str
    column: tuple[Identifier, ...]
    argument: int | None = None
    alias: str | None = None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SortTerm:
    """One key of a sort order. Nulls come first by default for ASC and last for DESC, as in Spark's Iceberg DDL."""

    term: TransformTerm
    direction: Literal["asc", "desc"] = "asc"
    nulls: Literal["first", "last"] = "first"


@dataclass(frozen=True)
class CreateNamespace:
    """``CREATE NAMESPACE | SCHEMA | DATABASE [IF NOT EXISTS] name [WITH (...)]``."""

    name: Name
    if_not_exists: bool = False
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DropNamespace:
    """``DROP NAMESPACE | SCHEMA | DATABASE [IF EXISTS] name``."""

    name: Name
    if_exists: bool = False


@dataclass(frozen=True)
class CreateTable:
    """``CREATE TABLE``, either with columns, or with a query (CTAS) that gives it its columns."""

    name: Name
    columns: tuple[ColumnDefinition, ...] = ()
    if_not_exists: bool = False
    partitioning: tuple[TransformTerm, ...] = ()
    ordering: tuple[SortTerm, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    location: str | None = None
    comment: str | None = None
    query: Query | None = None


@dataclass(frozen=True)
class DropTable:
    """``DROP TABLE [IF EXISTS] name [PURGE]``."""

    name: Name
    if_exists: bool = False
    purge: bool = False


@dataclass(frozen=True)
class Insert:
    """``INSERT INTO table [(columns)] query``. Without ``columns`` the query's columns are taken in order."""

    table: Name
    query: Query
    columns: tuple[Identifier, ...] | None = None


@dataclass(frozen=True)
class Begin:
    """``BEGIN [TRANSACTION | WORK]`` or ``START TRANSACTION [ISOLATION LEVEL ...]``."""

    isolation: Literal["serializable", "snapshot"] | None = None


@dataclass(frozen=True)
class Commit:
    """``COMMIT [TRANSACTION | WORK]``."""


@dataclass(frozen=True)
class Rollback:
    """``ROLLBACK [TRANSACTION | WORK]``."""


Statement = Query | Insert | CreateTable | DropTable | CreateNamespace | DropNamespace | Begin | Commit | Rollback
