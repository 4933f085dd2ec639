"""Pieces of SQL that stay text, and what they refer to: tables, their earlier states, files, parameters.

Queries and expressions are verbatim slices of what the user wrote; only what DataFusion cannot read (time travel, ``?``
parameters, calls that name files) is cut out of them, and its place and meaning kept beside the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from icefusion.sql.basics import Name

__all__ = [
    "ChangesBetween",
    "ComputedAsOf",
    "ExplainOptions",
    "FileFunction",
    "FileKind",
    "FileOption",
    "FileValue",
    "Fragment",
    "MappingValue",
    "ParameterValue",
    "Query",
    "TableReference",
    "TimeAsOf",
    "Version",
    "VersionAsOf",
]


@dataclass(frozen=True)
class VersionAsOf:
    """``FOR VERSION AS OF``: a snapshot id, or the name of a branch or tag; and where it stands in the text."""

    version: int | str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class TimeAsOf:
    """``FOR TIMESTAMP AS OF``: what was current then, in milliseconds since 1970-01-01 UTC."""

    timestamp_ms: int
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ComputedAsOf:
    """A version given as a parameter, or a time as an expression; before its statement runs, one of the others.

    Attributes:
        kind: What the value is to become; a state is either of them, or NULL for none.
        value: An expression over no table. Its parameters are listed in the query's as well.
    """

    kind: Literal["version", "timestamp", "state"]
    value: Fragment


Version = VersionAsOf | TimeAsOf | ComputedAsOf
"""An earlier state of a table."""


@dataclass(frozen=True)
class ChangesBetween:
    """``table_changes(...)``: not the rows of a table, but what happened to them between two of its states.

    Attributes:
        begin: The state behind which it begins; None for the beginning of the table.
        end: The state up to which it goes; None for the newest.
    """

    begin: Version | None = None
    end: Version | None = None


@dataclass(frozen=True)
class ParameterValue:
    """A parameter in the place of a literal; its name without ``$``."""

    name: str


FileKind = Literal["parquet", "csv", "json", "arrow"]


@dataclass(frozen=True)
class MappingValue:
    """``{'name': value, ...}``."""

    items: tuple[tuple[str, FileValue], ...]


FileValue = str | int | float | bool | ParameterValue | MappingValue | tuple["FileValue", ...]
"""What can stand as an argument of a function that reads files."""


@dataclass(frozen=True)
class FileOption:
    """``name = value`` in such a call, and where it begins in the statement's text."""

    name: str
    value: FileValue
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class FileFunction:
    """A table that is files: ``read_parquet('x/*.parquet', filename = true)``, or ``'x.parquet'`` alone.

    Attributes:
        kind: The format.
        called: The function as it is called, or the string.
        paths: A path with or without wildcards, or several.
        options: In order.
        key: A name that no table has, the same for calls that mean the same.
    """

    kind: FileKind
    called: str
    paths: FileValue
    options: tuple[FileOption, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class TableReference:
    """A table named in a FROM clause.

    Attributes:
        name: The name as written. Names that a WITH clause of the query defines are not listed.
        start: Where the name begins in `Query.text`.
        end: Where it ends in `Query.text`, the time travel clause not included: that is already cut out.
        version: The earlier state that is asked for, or None for the current one; or what is asked for are changes.
        has_alias: Whether the query gives the table an alias of its own.
        function: The files that it is, if it is files; ``name`` is then what it goes by without an alias.
    """

    name: Name
    start: int
    end: int
    version: Version | ChangesBetween | None = None
    has_alias: bool = False
    function: FileFunction | None = None


@dataclass(frozen=True)
class Fragment:
    """A piece of SQL as text for DataFusion: a query, an expression, a list of them, or what stands behind a FROM.

    Attributes:
        text: The piece; time travel clauses cut out, ``?`` numbered as ``$1``, ``$2``...; otherwise as written.
        tables: The tables in its FROM clauses, in order of appearance (each appearance is listed).
        parameters: The names of its parameters without ``$``, in order of first appearance: ``("1", "2")``, ``("a",)``.
            Those in the versions of its tables are among them.
        sql: The whole text that the user gave, for error messages.
        offset: Where the piece begins in ``sql``.
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
class ExplainOptions:
    """What stands between EXPLAIN and the query.

    Attributes:
        analyze: Whether the query is run for it.
        format: The format of the plans, in lower case; None where none is named.
    """

    analyze: bool = False
    format: str | None = None


@dataclass(frozen=True)
class Query(Fragment):
    """A SELECT, VALUES, WITH or EXPLAIN SELECT ... as a whole.

    Attributes:
        explain: How it is to be explained; None for its rows. The text begins with the EXPLAIN.
    """

    explain: ExplainOptions | None = None
