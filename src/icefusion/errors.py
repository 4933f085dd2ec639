"""Every error a user of icefusion can meet.

::

    IcefusionError                     .retryable, .hint
    ├── SQLError                       .line .column, with the offending line shown
    │   ├── ParseError                 the text is not SQL that icefusion knows
    │   ├── UnsupportedStatementError  it is, but it is not done here; the hint says what to do instead
    │   └── BindError                  unknown or ambiguous table, column, function or parameter
    ├── SchemaError                    .column .expected .found: a value or type does not fit its column
    ├── CardinalityError               MERGE: a target row matched more than one source row
    ├── ExecutionError                 a query failed while it ran
    │   └── OutOfMemoryError           it ran into ``memory_limit``
    ├── StorageError                   a file is missing, unreadable or could not be written
    ├── ConfigurationError             an option or a property has a value that makes no sense
    ├── TransactionError               misuse: closed, nested, unknown id
    ├── CatalogError
    │   ├── TableNotFoundError         ├── TableExistsError
    │   ├── NamespaceNotFoundError     ├── NamespaceExistsError    └── NamespaceNotEmptyError
    └── CommitError
        ├── CommitConflictError        .reason .conflicting_snapshot_id; nothing landed
        ├── CommitFailedError          attempts or deadline spent, or refused; nothing landed
        └── CommitStateUnknownError    may have landed; .snapshot_id to look for; nothing deleted

``str(error)`` is the whole story in one or a few lines, the hint last. Errors can be pickled: their state is what
``__init__`` was given by keyword.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BindError",
    "CardinalityError",
    "CatalogError",
    "CommitConflictError",
    "CommitError",
    "CommitFailedError",
    "CommitStateUnknownError",
    "ConfigurationError",
    "ExecutionError",
    "IcefusionError",
    "NamespaceExistsError",
    "NamespaceNotEmptyError",
    "NamespaceNotFoundError",
    "OutOfMemoryError",
    "ParseError",
    "SQLError",
    "SchemaError",
    "StorageError",
    "TableExistsError",
    "TableNotFoundError",
    "TransactionError",
    "UnsupportedStatementError",
]


class IcefusionError(Exception):
    """The base of all errors of this library.

    Args:
        message: What went wrong, naming the thing.
        hint: What to do about it; shown as a last sentence.

    Attributes:
        message: The message without hint and position.
        hint: The hint, or None.
        retryable: Whether the same call may succeed later without any change by the caller.
    """

    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by their positional arguments alone, which would lose every keyword.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[IcefusionError], args: tuple[Any, ...], state: dict[str, Any]) -> IcefusionError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class SQLError(IcefusionError):
    """A statement was refused before it ran.

    Args:
        message: What is wrong.
        sql: The text that the position refers to.
        offset: Where in ``sql`` the problem stands, in characters from 0; None when unknown.
        hint: What to do about it.

    Attributes:
        line: Line of the problem, from 1; None when unknown.
        column: Column of the problem, from 1; None when unknown.
    """

    def __init__(
        self, message: str, *, sql: str | None = None, offset: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.line: int | None = None
        self.column: int | None = None
        self.source_line: str | None = None
        if sql is not None and offset is not None:
            offset = max(0, min(offset, len(sql)))
            start = sql.rfind("\n", 0, offset) + 1
            end = sql.find("\n", offset)
            self.line = sql.count("\n", 0, offset) + 1
            self.column = offset - start + 1
            self.source_line = sql[start : end if end >= 0 else len(sql)]

    def __str__(self) -> str:
        parts = [self.message]
        if self.line is not None and self.column is not None and self.source_line is not None:
            parts[0] = f"{self.message} (line {self.line}, column {self.column})"
            line, column = _window(self.source_line, self.column)
            parts.append(f"  {line}\n  {' ' * (column - 1)}^")
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        return "\n".join(parts)


def _window(line: str, column: int, width: int = 100) -> tuple[str, int]:
    """Cut a long line around the column, so that the caret stays under it."""
    line = line.replace("\t", " ")
    if len(line) <= width:
        return line, column
    start = max(0, min(column - 1 - width // 2, len(line) - width))
    return line[start : start + width], column - start


class ParseError(SQLError):
    """The text is not SQL that icefusion knows."""


class UnsupportedStatementError(SQLError):
    """The statement is understood but not done here; the hint says what to do instead."""


class BindError(SQLError):
    """A name in the statement stands for nothing, or for more than one thing."""


class SchemaError(IcefusionError):
    """A value or a type does not fit its column.

    Args:
        message: What does not fit.
        column: The column's dotted path, e.g. ``address.street`` or ``tags.element``.
        expected: The type or constraint of the column.
        found: The type or value that came.
        hint: What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        column: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.column = column
        self.expected = expected
        self.found = found


class CardinalityError(IcefusionError):
    """MERGE: a target row matched more than one source row."""


class ExecutionError(IcefusionError):
    """A query failed while it ran."""


class OutOfMemoryError(ExecutionError):
    """A query needed more than ``memory_limit`` and the operator could not spill."""


class StorageError(IcefusionError):
    """A file is missing, unreadable, or could not be written."""

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class ConfigurationError(IcefusionError):
    """An option or a table property has a value that makes no sense."""


class TransactionError(IcefusionError):
    """A transaction was used in a way its state does not allow."""


class CatalogError(IcefusionError):
    """The catalog refused or could not answer."""


class TableNotFoundError(CatalogError):
    """There is no such table."""


class TableExistsError(CatalogError):
    """There is a table of this name already."""


class NamespaceNotFoundError(CatalogError):
    """There is no such namespace."""


class NamespaceExistsError(CatalogError):
    """There is a namespace of this name already."""


class NamespaceNotEmptyError(CatalogError):
    """The namespace still holds tables."""


class CommitError(IcefusionError):
    """A commit did not answer 'committed'."""


class CommitConflictError(CommitError):
    """Another commit changed what this one depends on; nothing of this one landed.

    Attributes:
        reason: What collided, in words.
        conflicting_snapshot_id: The snapshot that got there first, when it is known.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        conflicting_snapshot_id: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason or message
        self.conflicting_snapshot_id = conflicting_snapshot_id


class CommitFailedError(CommitError):
    """Attempts or deadline were spent, or the catalog refused; nothing landed."""

    retryable = True


class CommitStateUnknownError(CommitError):
    """The commit may have landed or not, and the catalog could not be asked; nothing was deleted.

    Attributes:
        snapshot_id: The snapshot to look for in the table's history; None for changes that make no snapshot.
    """

    def __init__(self, message: str, *, snapshot_id: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.snapshot_id = snapshot_id
