"""Queries put together from pieces of a statement.

A change of rows is carried out by SELECTs that nobody wrote: ``DELETE FROM t WHERE p`` needs to know *which* rows, and
so asks ``SELECT <identity> FROM t WHERE p``. The expressions in them are the user's own, slice by slice, with the
tables and parameters that stand in them; all around them is ours. Errors still point to where the user wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icefusion.naming import normalize, quote_identifier
from icefusion.sql.lexer import Kind, Token, read_identifier, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Fragment, Identifier, Name, Query, TableReference

__all__ = ["Piece", "compose", "table_piece", "unqualified"]

Piece = str | Fragment


def compose(*pieces: Piece) -> Query:
    """One query from texts and fragments, in order."""
    text = ""
    tables: list[TableReference] = []
    parameters: dict[str, None] = {}
    shifts: list[tuple[int, int]] = []
    sql, offset = "", 0
    for piece in pieces:
        start = len(text)
        if isinstance(piece, str):
            shifts.append((start, offset))
            text += piece
            continue
        tables += [replace(table, start=table.start + start, end=table.end + start) for table in piece.tables]
        parameters.update(dict.fromkeys(piece.parameters))
        if piece.sql and piece.sql == (sql or piece.sql):
            sql, offset = piece.sql, piece.offset
            shifts += [(start + place, source) for place, source in piece.shifts or ((0, piece.offset),)]
        text += piece.text
    return Query(text, tuple(tables), tuple(parameters), sql, offset, tuple(dict(shifts).items()))


def table_piece(name: str, alias: str | None = None, columns: Sequence[str] = ()) -> Fragment:
    """A table of ours in a FROM clause, under an alias."""
    quoted = quote_identifier(name)
    reference = TableReference(Name((Identifier(name, True),)), 0, len(quoted), has_alias=alias is not None)
    text = quoted if alias is None else f"{quoted} AS {quote_identifier(alias)}"
    if columns:
        text += f" ({', '.join(map(quote_identifier, columns))})"
    return Fragment(text, (reference,))


def unqualified(fragment: Fragment, table: Name, alias: str) -> Fragment:
    """The fragment with ``ns.t.column`` written as ``alias.column``: in our queries the table goes by an alias."""
    if len(table.parts) < 2:
        return fragment
    tokens = tokenize(fragment.text)
    edits: list[Edit] = []
    wanted = [normalize(part) for part in table.parts]
    length = 2 * len(wanted)
    for index in range(len(tokens) - length):
        names, points = tokens[index : index + length : 2], tokens[index + 1 : index + length : 2]
        if any(point.key != "." for point in points) or (index and tokens[index - 1].key == "."):
            continue
        if all(_same(token, name) for token, name in zip(names, wanted, strict=True)):
            edits.append(Edit(names[0].start, names[-1].end, quote_identifier(alias)))
    return apply_edits(fragment, edits)


def _same(token: Token, name: str) -> bool:
    return token.kind in (Kind.WORD, Kind.QUOTED) and normalize(read_identifier(token)) == name
