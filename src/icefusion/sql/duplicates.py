"""Columns of a query that come out under the same name.

``SELECT 0, 0`` and ``SELECT a, a`` are sound SQL, and DataFusion refuses both: it wants the expressions of a SELECT to
have different names, and takes a cast column for the column. So the later ones of the same text get a name: ``a_1``,
``a_2``. Columns that were given the same name with AS stay an error, since somebody meant that name.
"""

from __future__ import annotations

from collections.abc import Iterator

from icefusion.naming import quote_identifier
from icefusion.sql.lexer import Kind, Token, keywords, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Query

__all__ = ["name_duplicates"]

_ENDS_LIST = keywords("FROM WHERE GROUP HAVING ORDER LIMIT OFFSET FETCH UNION EXCEPT INTERSECT WINDOW QUALIFY INTO")
_CASTS = keywords("CAST TRY_CAST")
_BEFORE_ITEMS = keywords("DISTINCT ALL")


def name_duplicates(query: Query) -> Query:
    """The query with a name for each item of a SELECT list that repeats an earlier one to the letter, casts aside."""
    edits: list[Edit] = []
    for items in _select_lists(tokenize(query.text)):
        seen: dict[tuple[str, ...], int] = {}
        for item in items:
            text = tuple(token.key or token.text for token in _uncast(item))
            count = seen.get(text, 0)
            seen[text] = count + 1
            if count and item[-1].key != "*" and not _is_named(item):
                name = query.text[item[-1 if _is_column(item) else 0].start : item[-1].end]
                edits.append(Edit(item[-1].end, item[-1].end, f" AS {quote_identifier(f'{_bare(name)}_{count}')}"))
    return apply_edits(query, edits)


def _select_lists(tokens: list[Token]) -> Iterator[list[list[Token]]]:
    """The items of each SELECT list that has several, at every depth."""
    open_lists: list[list[int]] = [[]]  # for each open parenthesis: where the items of its SELECT list begin
    for index, token in enumerate(tokens):
        begins = open_lists[-1]
        if token.key in ("(", "["):
            open_lists.append([])
        elif token.key == "SELECT":
            open_lists[-1] = [index + 1]
        elif token.key == "," and begins:
            begins.append(index + 1)
        elif token.key in _BEFORE_ITEMS and begins == [index]:
            begins[0] += 1
        elif token.key in (")", "]") or token.key in _ENDS_LIST or token.kind is Kind.END:
            if len(begins) > 1:
                ends = [begin - 1 for begin in begins[1:]] + [index]
                items = [tokens[begin:end] for begin, end in zip(begins, ends, strict=True)]
                if all(items):
                    yield items
            open_lists[-1] = []
            if token.key in (")", "]") and len(open_lists) > 1:
                open_lists.pop()


def _uncast(item: list[Token]) -> list[Token]:
    """An item without the casts around it, which DataFusion leaves out of its names."""
    if len(item) > 4 and item[0].key in _CASTS and item[1].key == "(" and item[-1].key == ")":
        depth = 0
        for index, token in enumerate(item):
            depth += (token.key == "(") - (token.key == ")")
            if depth == 1 and token.key == "AS":
                return _uncast(item[2:index])
            if depth == 0 and 1 < index < len(item) - 1:
                return item
    if len(item) > 2 and item[-2].key == "::":
        return _uncast(item[:-2])
    return item


def _is_named(item: list[Token]) -> bool:
    """Whether an item has a name of its own, with AS or without."""
    if len(item) < 2:
        return False
    before, last = item[-2], item[-1]
    if before.key == "AS":
        return True
    names = last.kind in (Kind.WORD, Kind.QUOTED) and last.key != "END"
    return names and (before.kind is not Kind.OPERATOR or before.key in (")", "]")) and before.key != "."


def _is_column(item: list[Token]) -> bool:
    """Whether an item is a column, perhaps of a named table."""
    return all(token.kind in (Kind.WORD, Kind.QUOTED) or token.key == "." for token in item)


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') and len(name) > 1 else name
