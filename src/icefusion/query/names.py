"""Columns by the names that statements give them."""

from __future__ import annotations

from collections.abc import Collection

from icefusion.errors import BindError
from icefusion.naming import find_name, nearest
from icefusion.sql.statements import Identifier, Name

__all__ = ["exact_column"]


def exact_column(
    identifier: Identifier, known: Collection[str], table: Name | str, sql: str | None, offset: int
) -> str:
    """The name of the column that an identifier stands for.

    Args:
        identifier: What the statement says.
        known: The columns of the table.
        table: The table, for the message.
        sql: The statement, if there is a text of it.
        offset: Where in it the error is shown.

    Raises:
        BindError: There is no such column, or more than one.
    """
    exact = find_name(identifier, known)
    if exact is None:
        near = nearest(identifier.text, known)
        raise BindError(
            f"table {table} has no column {identifier}",
            sql=sql or None,
            offset=offset,
            hint=f"did you mean {near}?" if near else f"columns: {', '.join(known)}",
        )
    return exact
