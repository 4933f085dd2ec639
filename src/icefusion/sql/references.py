"""Changes to the text of a query or a piece that keep its tables, and the way back to the user's text, right.

A query is never printed anew from a tree. It stays the text that the user wrote, and single spots of it are replaced.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from icefusion.naming import fold_case, normalize, quote_identifier
from icefusion.sql.lexer import Kind, Token, keywords, read_identifier, tokenize
from icefusion.sql.statements import Fragment, TableReference

__all__ = ["Edit", "apply_edits", "names_of_tables", "render_position", "replace_tables", "rewrite_identifiers"]

_F = TypeVar("_F", bound=Fragment)


@dataclass(frozen=True)
class Edit:
    """Put ``text`` in the place of what stands between ``start`` and ``end`` in a query's text."""

    start: int
    end: int
    text: str


def replace_tables(query: _F, replacements: Sequence[str | None]) -> _F:
    """The query with other text in the place of its table references.

    Args:
        query: The query.
        replacements: One for each of ``query.tables``, in the same order; None keeps the reference as it is.

    Returns:
        The query; each of its references spans the text that replaced it.
    """
    pairs = zip(query.tables, replacements, strict=True)
    return apply_edits(query, [Edit(table.start, table.end, text) for table, text in pairs if text is not None])


def names_of_tables(query: Fragment) -> list[str | None]:
    """What the columns of each of the query's tables are qualified by: its alias, or the last part of its name.

    None where that cannot be told from the text.
    """
    return [_alias_of(query, table) if table.has_alias else normalize(table.name.parts[-1]) for table in query.tables]


def _alias_of(query: Fragment, table: TableReference) -> str | None:
    tokens = tokenize(query.text[table.end :])
    alias = tokens[1] if tokens[0].key == "AS" else tokens[0]
    return normalize(read_identifier(alias)) if alias.kind in (Kind.WORD, Kind.QUOTED) else None


def rewrite_identifiers(
    query: _F, names: Mapping[str, str], qualified: Mapping[str, Mapping[str, str]] | None = None
) -> _F:
    """The query with its unquoted identifiers replaced by the quoted names that they stand for.

    DataFusion reads unquoted names in lower case, and so never finds a column called ``Id``. This makes ``"Id"`` of
    ``id``, ``ID`` or ``Id``, wherever the word can be the name of a column: not a table, not a function, not a part
    of the syntax, such as the ``day`` of ``EXTRACT(day FROM x)`` or the ``date`` of ``CAST(x AS date)``.

    Args:
        query: The query.
        names: The exact name by its lower-case form, e.g. ``{"id": "Id"}``.
        qualified: The same for names behind what tables go by, e.g. ``{"t": {"id": "Id"}}``, which come first.
    """
    if not names and not qualified:
        return query
    behind = qualified or {}
    tokens = tokenize(query.text)
    qualifiers = {normalize(part) for table in query.tables if not table.has_alias for part in table.name.parts}
    inside_tables = _Spans((table.start, table.end) for table in query.tables)
    edits: list[Edit] = []
    in_type: list[bool | None] = []  # for each open parenthesis: whether a CAST's type has begun; None if not a CAST's
    for index, token in enumerate(tokens):
        if token.key == "(":
            in_type.append(False if tokens[index - 1].key in _CASTS else None)
        elif token.key == ")" and in_type:
            in_type.pop()
        elif token.key == "AS" and in_type and in_type[-1] is False:
            in_type[-1] = True
        if token.kind is not Kind.WORD or (in_type and in_type[-1]) or token.start in inside_tables:
            continue
        exact = names.get(token.text.lower())
        if index > 1 and tokens[index - 1].key == "." and tokens[index - 2].kind in (Kind.WORD, Kind.QUOTED):
            owner = behind.get(normalize(read_identifier(tokens[index - 2])), {})
            exact = owner.get(token.text.lower(), exact)
        if exact is None or _is_syntax(tokens, index):
            continue
        if tokens[index + 1].key == "." and fold_case(token.text) in qualifiers:
            continue
        edits.append(Edit(token.start, token.end, quote_identifier(exact)))
    return apply_edits(query, edits)


def render_position(query: Fragment, position: int) -> int:
    """Where in ``query.sql`` the character at ``position`` of ``query.text`` came from."""
    shifts = query.shifts or ((0, query.offset),)
    index = max(bisect_right(shifts, (position, len(query.sql))) - 1, 0)
    text_position, sql_position = shifts[index]
    limit = shifts[index + 1][1] if index + 1 < len(shifts) else len(query.sql)
    return min(sql_position + max(position - text_position, 0), max(limit, sql_position))


def apply_edits(query: _F, edits: Iterable[Edit]) -> _F:
    """The query with the edits made, which must not overlap; its table references and shifts moved along."""
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    if not ordered:
        return query
    pieces: list[str] = []
    borders: list[tuple[int, int]] = []  # old and new places, in order; between two of them the text is the same
    shifts: list[tuple[int, int]] = []
    old_shifts = query.shifts or ((0, query.offset),)
    taken = reached = new_position = 0
    for edit in ordered:
        if edit.start < reached:
            raise ValueError(f"edits overlap at {edit.start}")
        while taken < len(old_shifts) and old_shifts[taken][0] <= edit.start:
            text_position, sql_position = old_shifts[taken]
            shifts.append((text_position - reached + new_position, sql_position))
            taken += 1
        pieces.append(query.text[reached : edit.start])
        new_position += edit.start - reached
        borders.append((edit.start, new_position))
        shifts.append((new_position, render_position(query, edit.start)))
        pieces.append(edit.text)
        new_position += len(edit.text)
        reached = edit.end
        borders.append((edit.end, new_position))
        shifts.append((new_position, render_position(query, edit.end)))
        while taken < len(old_shifts) and old_shifts[taken][0] <= edit.end:
            taken += 1
    for text_position, sql_position in old_shifts[taken:]:
        shifts.append((text_position - reached + new_position, sql_position))
    pieces.append(query.text[reached:])
    tables = tuple(_move(table, borders) for table in query.tables)
    return replace(query, text="".join(pieces), tables=tables, shifts=_tidy(shifts))


def _move(table: TableReference, borders: list[tuple[int, int]]) -> TableReference:
    return replace(table, start=_moved(table.start, borders), end=_moved(table.end, borders))


def _moved(position: int, borders: list[tuple[int, int]]) -> int:
    index = bisect_right(borders, position, key=lambda border: border[0]) - 1
    if index < 0:
        return position
    # A reference ends where the clause cut out behind it begins, so of equal places the first one counts.
    while index > 0 and borders[index][0] == position and borders[index - 1][0] == position:
        index -= 1
    old, new = borders[index]
    return new + position - old


def _tidy(shifts: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of several sources for one place of the text, keep the last: the text goes on from there."""
    last: dict[int, int] = {}
    for text_position, sql_position in shifts:
        last[text_position] = sql_position
    return tuple(last.items())


class _Spans:
    """Whether a place lies in one of some spans, asked for places in ascending order."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        self._spans = sorted(spans)
        self._next = 0

    def __contains__(self, position: object) -> bool:
        assert isinstance(position, int)
        while self._next < len(self._spans) and self._spans[self._next][1] <= position:
            self._next += 1
        return self._next < len(self._spans) and self._spans[self._next][0] <= position


# Words that DataFusion's grammar gives a meaning wherever they stand; a column of such a name must be quoted.
_RESERVED = keywords(
    """
    ALL ANALYZE AND ANTI ANY AS ASC BETWEEN BY CASE CAST CROSS DESC DISTINCT ELSE END EXCEPT EXCLUDE EXISTS EXPLAIN
    FALSE FETCH FILTER FOR FROM FULL GROUP HAVING ILIKE IN INNER INTERSECT INTO IS JOIN LATERAL LEFT LIKE LIMIT
    NATURAL NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION QUALIFY RECURSIVE RIGHT SELECT SEMI SIMILAR TABLE
    TABLESAMPLE THEN TRUE UNION USING VALUES WHEN WHERE WINDOW WITH WITHIN
    """
)
_SYNTAX_PAIRS = frozenset(
    [
        ("NULLS", "FIRST"),
        ("NULLS", "LAST"),
        ("AT", "TIME"),
        ("TIME", "ZONE"),
        ("CURRENT", "ROW"),
        ("UNBOUNDED", "PRECEDING"),
        ("UNBOUNDED", "FOLLOWING"),
    ]
)
_FIELDS_OF_TIME = frozenset(
    f"{unit}{plural}"
    for unit in ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND")
    for plural in ("", "S")
)
_CASTS = frozenset(["CAST", "TRY_CAST", "SAFE_CAST"])
_TYPED_LITERALS = frozenset(["DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "DATETIME", "INTERVAL"])


def _is_syntax(tokens: list[Token], index: int) -> bool:
    """Whether the word at ``index`` is a keyword, a type or a function where it stands."""
    token, after = tokens[index], tokens[index + 1]
    before = tokens[index - 1] if index else tokens[-1]
    if before.key == ".":
        return after.key == "("
    if token.key in _RESERVED or after.key == "(" or before.key == "::":
        return True
    if (before.key, token.key) in _SYNTAX_PAIRS or (token.key, after.key) in _SYNTAX_PAIRS:
        return True
    if token.key in _TYPED_LITERALS and after.kind in (Kind.STRING, Kind.NUMBER):
        return True
    if token.key in _FIELDS_OF_TIME:
        is_unit = before.kind in (Kind.STRING, Kind.NUMBER)
        return is_unit or (before.key == "(" and index > 1 and tokens[index - 2].key == "EXTRACT")
    return False
