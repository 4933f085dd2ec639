"""DELETE ... USING and UPDATE ... FROM as the MERGE that they are, where one table is joined.

A MERGE joins its source slice by slice where memory is short. So this is how such a change is carried out when its join
did not fit, and sorting for it did not either.
"""

from __future__ import annotations

from dataclasses import replace

from icefusion.sql.lexer import Kind, read_identifier, tokenize
from icefusion.sql.statements import Delete, DeleteRow, Identifier, Merge, MergeClause, SetRow, Update

__all__ = ["joined_as_merge"]


def joined_as_merge(change: Delete | Update) -> Merge | None:
    """The MERGE that does the same; None where more than one table is joined, or none."""
    others = change.using if isinstance(change, Delete) else change.source
    if others is None or change.where is None or len(others.tables) != 1:
        return None
    (table,) = others.tables
    alias = _alias(others.text[table.end :])
    if table.start or alias is None:
        return None
    return Merge(
        table=change.table,
        alias=change.alias,
        source=replace(others, text=others.text[: table.end], tables=(replace(table, has_alias=bool(alias)),)),
        source_alias=alias[0] if alias else None,
        on=change.where,
        clauses=(MergeClause("matched", SetRow(change.assignments) if isinstance(change, Update) else DeleteRow()),),
        returning=change.returning,
    )


def _alias(text: str) -> list[Identifier] | None:
    """The alias that stands behind a table, if there is one; None where something else does."""
    tokens = tokenize(text)[:-1]
    if tokens and tokens[0].key == "AS":
        tokens = tokens[1:]
    if len(tokens) > 1 or any(token.kind not in (Kind.WORD, Kind.QUOTED) for token in tokens):
        return None
    return [read_identifier(token) for token in tokens]
