"""What the parser says a text means: frozen values, still without any knowledge of tables.

Queries and expressions stay text (`icefusion.sql.fragments`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from icefusion.sql.basics import ColumnDefinition, Identifier, Name, SortTerm, TransformTerm, TypeText
from icefusion.sql.definitions import (
    AlterNamespace,
    AlterTable,
    AlterView,
    CreateNamespace,
    CreateTable,
    CreateView,
    DropNamespace,
    DropTable,
    DropView,
    RenameTable,
    RenameView,
    ViewColumn,
)
from icefusion.sql.fragments import (
    ChangesBetween,
    ComputedAsOf,
    ExplainOptions,
    FileFunction,
    FileKind,
    FileOption,
    FileValue,
    Fragment,
    MappingValue,
    ParameterValue,
    Query,
    TableReference,
    TimeAsOf,
    Version,
    VersionAsOf,
)

__all__ = [
    "AlterNamespace",
    "AlterTable",
    "AlterView",
    "Argument",
    "Assignment",
    "Attach",
    "Begin",
    "Call",
    "Change",
    "ChangesBetween",
    "ColumnDefinition",
    "Commit",
    "ComputedAsOf",
    "CreateNamespace",
    "CreateTable",
    "CreateView",
    "Definition",
    "Delete",
    "DeleteRow",
    "Describe",
    "DescribeQuery",
    "Detach",
    "DropNamespace",
    "DropTable",
    "DropView",
    "Explain",
    "ExplainOptions",
    "FileFunction",
    "FileKind",
    "FileOption",
    "FileValue",
    "Fragment",
    "Identifier",
    "Insert",
    "InsertRow",
    "Inspection",
    "KeepRow",
    "MappingValue",
    "Merge",
    "MergeClause",
    "Name",
    "NamespaceDefinition",
    "OnConflict",
    "Overwrite",
    "ParameterValue",
    "PartitionTerm",
    "Query",
    "RenameTable",
    "RenameView",
    "ResetOption",
    "Rollback",
    "SetOption",
    "SetRow",
    "Show",
    "SortTerm",
    "Statement",
    "TableDefinition",
    "TableReference",
    "TimeAsOf",
    "TransformTerm",
    "Truncate",
    "TypeText",
    "Update",
    "Version",
    "VersionAsOf",
    "ViewColumn",
    "ViewDefinition",
    "fragments_of",
    "parameters_of",
]


@dataclass(frozen=True)
class Argument:
    """An argument of a CALL.

    Attributes:
        value: An expression over no table; parameters can stand in it.
        name: The name in ``name => value``.
        offset: Where the argument begins in the statement's text.
    """

    value: Fragment
    name: Identifier | None = None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Call:
    """``CALL [catalog.]system.procedure(value, name => value, ...)``; those without a name come first."""

    name: Name
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Attach:
    """``ATTACH 'folder' AS name``: the embedded catalog in a folder, under a name."""

    path: str
    name: str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Detach:
    """``DETACH name``."""

    name: str


@dataclass(frozen=True)
class SetOption:
    """``SET option = value``: an option of the session, by one of the names in `icefusion.sql.calls.OPTIONS`."""

    option: str
    value: str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ResetOption:
    """``RESET option``."""

    option: str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Assignment:
    """``column = value`` of a SET list.

    Attributes:
        path: The column, or the part of a struct: ``("address", "city")``.
        value: The expression; None for DEFAULT.
        offset: Where the column stands in the statement's text.
    """

    path: tuple[Identifier, ...]
    value: Fragment | None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PartitionTerm:
    """One item of ``PARTITION (...)``: ``d``, ``d = 'x'``, ``day(ts)`` or ``bucket(16, id) = 3``.

    Attributes:
        term: The transform, or the identity of a column; a single word may also be the name of a partition field.
        value: What it is held at; None where it is left to the rows.
    """

    term: TransformTerm
    value: Fragment | None = None


@dataclass(frozen=True)
class Overwrite:
    """What an INSERT replaces.

    Attributes:
        partition: The items of ``PARTITION (...)``; empty for the whole table.
        where: The condition of ``REPLACE WHERE``; then there are no partition items.
    """

    partition: tuple[PartitionTerm, ...] = ()
    where: Fragment | None = None


@dataclass(frozen=True)
class OnConflict:
    """``ON CONFLICT (keys) DO NOTHING | DO UPDATE SET ... [WHERE ...]``.

    Attributes:
        keys: The columns by which rows are the same.
        assignments: The SET list of DO UPDATE, in which ``excluded`` is the new row; None for DO NOTHING.
        condition: Which of the rows that are there already are updated; None for all.
    """

    keys: tuple[Identifier, ...]
    assignments: tuple[Assignment, ...] | None = None
    condition: Fragment | None = None


@dataclass(frozen=True)
class Insert:
    """``INSERT INTO table [(columns)] query``, with all that may stand around it.

    Attributes:
        table: The table.
        query: The rows. Those of ``VALUES`` may hold ``DEFAULT``, and its whole text may be ``DEFAULT VALUES``; see
            `icefusion.sql.defaults`.
        columns: The columns they go to; None takes the query's columns in order.
        overwrite: What the rows replace; None where they are added.
        conflict: What happens to rows whose key is there already.
        returning: The SELECT list that the new rows are shown by.
        by_name: Whether the query's columns go to the columns of their names; then none are listed.
    """

    table: Name
    query: Query
    columns: tuple[Identifier, ...] | None = None
    overwrite: Overwrite | None = None
    conflict: OnConflict | None = None
    returning: Fragment | None = None
    by_name: bool = False


@dataclass(frozen=True)
class Delete:
    """``DELETE FROM table [AS alias] [USING ...] [WHERE ...]``; ``using`` is what could stand behind a FROM."""

    table: Name
    alias: Identifier | None = None
    using: Fragment | None = None
    where: Fragment | None = None
    returning: Fragment | None = None


@dataclass(frozen=True)
class Truncate:
    """``TRUNCATE [TABLE] name``."""

    table: Name


@dataclass(frozen=True)
class Update:
    """``UPDATE table [AS alias] SET ... [FROM ...] [WHERE ...]``; ``source`` is what stands behind the FROM."""

    table: Name
    assignments: tuple[Assignment, ...]
    alias: Identifier | None = None
    source: Fragment | None = None
    where: Fragment | None = None
    returning: Fragment | None = None


@dataclass(frozen=True)
class SetRow:
    """``UPDATE SET ...`` of a MERGE; without ``assignments`` it is ``UPDATE SET *``: all columns, by name."""

    assignments: tuple[Assignment, ...] | None = None


@dataclass(frozen=True)
class InsertRow:
    """``INSERT (columns) VALUES (...)`` of a MERGE; without ``values`` it is ``INSERT *``: all columns, by name.

    Attributes:
        columns: The columns; None takes the table's in order.
        values: One expression for each, None for DEFAULT.
    """

    columns: tuple[Identifier, ...] | None = None
    values: tuple[Fragment | None, ...] | None = None


@dataclass(frozen=True)
class DeleteRow:
    """``DELETE`` of a MERGE."""


@dataclass(frozen=True)
class KeepRow:
    """``DO NOTHING`` of a MERGE."""


@dataclass(frozen=True)
class MergeClause:
    """``WHEN ... [AND condition] THEN action``.

    Attributes:
        rows: Which rows it is for: those of the target that match, those of the source that do not match, or those of
            the target that do not match.
        action: What is done with the first of them; of several clauses for the same rows the first that holds wins.
        condition: Which of them.
        offset: Where its WHEN stands in the statement's text.
    """

    rows: Literal["matched", "not_matched", "not_matched_by_source"]
    action: SetRow | InsertRow | DeleteRow | KeepRow
    condition: Fragment | None = None
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Merge:
    """``MERGE INTO table [AS alias] USING source [AS source_alias] ON ... WHEN ...``.

    Attributes:
        table: The target.
        alias: Its alias.
        source: A table's name or a query in parentheses, without alias.
        source_alias: The alias of the source.
        source_columns: The names that ``AS source_alias (a, b)`` gives its columns.
        on: The condition.
        clauses: In order.
        returning: The SELECT list that changed rows are shown by.
    """

    table: Name
    source: Fragment
    on: Fragment
    clauses: tuple[MergeClause, ...]
    alias: Identifier | None = None
    source_alias: Identifier | None = None
    source_columns: tuple[Identifier, ...] = ()
    returning: Fragment | None = None


Change = Insert | Delete | Truncate | Update | Merge
"""Statements that change rows."""


@dataclass(frozen=True)
class Explain:
    """``EXPLAIN`` of a change; that of a query is part of the query's text."""

    change: Change


@dataclass(frozen=True)
class Show:
    """``SHOW what [IN name] [LIKE 'pattern']``.

    Attributes:
        what: What is listed, or shown of a table.
        name: The namespace whose things are listed, or the table; None for everything there is.
        pattern: Which of the names are shown; None for all.
        key: The one property that is asked for.
    """

    what: Literal[
        "catalogs",
        "namespaces",
        "tables",
        "views",
        "columns",
        "partitions",
        "create table",
        "create view",
        "properties",
        "functions",
    ]
    name: Name | None = None
    pattern: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Describe:
    """``DESCRIBE [TABLE] [EXTENDED] name [column]``, or ``DESCRIBE NAMESPACE [EXTENDED] name``.

    Attributes:
        what: What the name is.
        name: The name.
        extended: Whether all that is known is wanted.
        column: The one column that is asked for, by its path.
    """

    what: Literal["table", "namespace"]
    name: Name
    extended: bool = False
    column: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class DescribeQuery:
    """``DESCRIBE [QUERY] SELECT ...``: the columns that a query has."""

    query: Query


Inspection = Show | Describe | DescribeQuery
"""Statements that tell what there is."""


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


TableDefinition = CreateTable | AlterTable | RenameTable | DropTable
"""Statements that say what a table is."""

NamespaceDefinition = CreateNamespace | AlterNamespace | DropNamespace
"""Statements that say which namespaces there are."""

ViewDefinition = CreateView | AlterView | RenameView | DropView
"""Statements that say what a view is."""

Definition = TableDefinition | NamespaceDefinition | ViewDefinition

Statement = (
    Query
    | Explain
    | Inspection
    | Change
    | Definition
    | Call
    | SetOption
    | ResetOption
    | Attach
    | Detach
    | Begin
    | Commit
    | Rollback
)


def fragments_of(statement: Statement) -> tuple[Fragment, ...]:
    """The queries and pieces of a statement, in the order of the text.

    Where one subquery sets several columns, what these share is in each of their pieces.
    """
    return tuple(fragment for fragment in _fragments(statement) if fragment is not None)


def parameters_of(statement: Statement) -> tuple[str, ...]:
    """The names of a statement's parameters without ``$``, each once: numbers in ascending order, then names as met."""
    names = dict.fromkeys(name for fragment in fragments_of(statement) for name in fragment.parameters)
    return (*sorted((name for name in names if name.isdecimal()), key=int), *(n for n in names if not n.isdecimal()))


def _fragments(statement: Statement) -> Iterator[Fragment | None]:
    match statement:
        case Query():
            yield statement
        case CreateTable() | CreateView() | AlterView():
            yield statement.query
        case Call():
            yield from (argument.value for argument in statement.arguments)
        case Explain():
            yield from _fragments(statement.change)
        case DescribeQuery():
            yield statement.query
        case Insert():
            if statement.overwrite is not None:
                yield from (term.value for term in statement.overwrite.partition)
                yield statement.overwrite.where
            yield statement.query
            if statement.conflict is not None:
                yield from _values(statement.conflict.assignments or ())
                yield statement.conflict.condition
            yield statement.returning
        case Delete():
            yield from (statement.using, statement.where, statement.returning)
        case Update():
            yield from _values(statement.assignments)
            yield from (statement.source, statement.where, statement.returning)
        case Merge():
            yield from (statement.source, statement.on)
            for clause in statement.clauses:
                yield clause.condition
                match clause.action:
                    case SetRow(assignments) if assignments is not None:
                        yield from _values(assignments)
                    case InsertRow(values=values) if values is not None:
                        yield from values
            yield statement.returning


def _values(assignments: Iterable[Assignment]) -> Iterator[Fragment | None]:
    return (assignment.value for assignment in assignments)
