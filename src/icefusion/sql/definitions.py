"""Statements that change what the catalog lists: namespaces, tables and views. Frozen values, as in `statements`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icefusion.sql.alterations import Alteration
from icefusion.sql.basics import ColumnDefinition, Identifier, Name, SortTerm, TransformTerm

if TYPE_CHECKING:
    from icefusion.sql.statements import Query

__all__ = [
    "AlterNamespace",
    "AlterTable",
    "AlterView",
    "CreateNamespace",
    "CreateTable",
    "CreateView",
    "DropNamespace",
    "DropTable",
    "DropView",
    "RenameTable",
    "RenameView",
    "ViewColumn",
]


@dataclass(frozen=True)
class CreateNamespace:
    """``CREATE NAMESPACE | SCHEMA | DATABASE [IF NOT EXISTS] name [WITH (...)]``."""

    name: Name
    if_not_exists: bool = False
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AlterNamespace:
    """``ALTER NAMESPACE name SET PROPERTIES (...) | UNSET PROPERTIES (...)``."""

    name: Name
    set_properties: tuple[tuple[str, str], ...] = ()
    unset_properties: tuple[str, ...] = ()


@dataclass(frozen=True)
class DropNamespace:
    """``DROP NAMESPACE | SCHEMA | DATABASE [IF EXISTS] name``."""

    name: Name
    if_exists: bool = False


@dataclass(frozen=True)
class CreateTable:
    """``CREATE [OR REPLACE] TABLE``, with columns, or with a query (CTAS) or another table that gives it its columns.

    Attributes:
        replace: Whether a table that is there is replaced: its history stays, its columns and rows are new.
        must_exist: Whether there has to be one (``REPLACE TABLE``).
        like: The table whose columns, partitioning, sort order and properties are taken (``CREATE TABLE ... LIKE``).
        identifier: The columns that tell rows apart (``PRIMARY KEY (...) NOT ENFORCED``).
    """

    name: Name
    columns: tuple[ColumnDefinition, ...] = ()
    if_not_exists: bool = False
    partitioning: tuple[TransformTerm, ...] = ()
    ordering: tuple[SortTerm, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    location: str | None = None
    comment: str | None = None
    query: Query | None = None
    replace: bool = False
    must_exist: bool = False
    like: Name | None = None
    identifier: tuple[tuple[Identifier, ...], ...] = ()


@dataclass(frozen=True)
class AlterTable:
    """``ALTER TABLE [IF EXISTS] name action, ...``; CREATE and DROP BRANCH and TAG are such actions too.

    ``sql`` is the whole text that the user gave, for error messages; the offsets of the actions refer to it.
    """

    name: Name
    actions: tuple[Alteration, ...]
    if_exists: bool = False
    sql: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RenameTable:
    """``ALTER TABLE [IF EXISTS] name RENAME TO new_name``; a new name of one part stays in the namespace."""

    name: Name
    new_name: Name
    if_exists: bool = False


@dataclass(frozen=True)
class DropTable:
    """``DROP TABLE [IF EXISTS] name [PURGE]``."""

    name: Name
    if_exists: bool = False
    purge: bool = False


@dataclass(frozen=True)
class ViewColumn:
    """A column of a view, by the name that it shows, with its comment."""

    name: Identifier
    comment: str | None = None


@dataclass(frozen=True)
class CreateView:
    """``CREATE [OR REPLACE] [TEMP] VIEW [IF NOT EXISTS] name [(columns)] [COMMENT ...] [TBLPROPERTIES ...] AS query``.

    Attributes:
        name: The view.
        query: Its query. There are no parameters in it.
        text: The query as it was written, time travel included: what a catalog stores.
        columns: The names of its columns; empty for those of the query.
        comment: What is said of it.
        properties: Its properties.
        replace: Whether one that is there is replaced.
        if_not_exists: Leave one that is there as it is.
        temporary: Whether it lives in the session only.
    """

    name: Name
    query: Query
    text: str
    columns: tuple[ViewColumn, ...] = ()
    comment: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    replace: bool = False
    if_not_exists: bool = False
    temporary: bool = False


@dataclass(frozen=True)
class AlterView:
    """``ALTER VIEW [IF EXISTS] name AS query | SET TBLPROPERTIES (...) | UNSET TBLPROPERTIES [IF EXISTS] (...)``.

    Attributes:
        query: The new query; None to keep it.
        text: The new query as it was written.
        unset_if_exists: Whether properties that are not there need not be.
    """

    name: Name
    set_properties: tuple[tuple[str, str], ...] = ()
    unset_properties: tuple[str, ...] = ()
    query: Query | None = None
    text: str | None = None
    unset_if_exists: bool = False
    if_exists: bool = False


@dataclass(frozen=True)
class RenameView:
    """``ALTER VIEW [IF EXISTS] name RENAME TO new_name``; a new name of one part stays in the namespace."""

    name: Name
    new_name: Name
    if_exists: bool = False


@dataclass(frozen=True)
class DropView:
    """``DROP VIEW [IF EXISTS] name``."""

    name: Name
    if_exists: bool = False
