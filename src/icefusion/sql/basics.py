"""The values that statements are made of: names, types, columns, partition transforms and sort keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ColumnDefinition", "Identifier", "Name", "SortTerm", "TransformTerm", "TypeText"]


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
    child_comments: tuple[str | None, ...] = ()


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
