"""DEFAULT in the rows of an INSERT, which only who knows the table can give a value.

``INSERT INTO t VALUES (1, DEFAULT), (DEFAULT, 2)`` and ``INSERT INTO t DEFAULT VALUES`` stay as they are written until
the table is known. Then each DEFAULT becomes a parameter that is bound to the write default of its column, or NULL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from icefusion.sql.lexer import Kind, Token, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Query

__all__ = ["DEFAULT_VALUES", "default_places", "fill_defaults", "holds_defaults"]

DEFAULT_VALUES = ("DEFAULT", "VALUES")

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


def default_places(tokens: Sequence[Token], first: int = 0) -> Iterator[tuple[int, int]]:
    """Each DEFAULT that is a whole value of a row of VALUES: its index in the tokens, and which value of its row it is.

    Args:
        tokens: Tokens, the last one of kind END.
        first: Where VALUES stands in them.
    """
    depth = place = 0
    for index in range(first + 1, len(tokens) - 1):
        token = tokens[index]
        key = token.key
        if key in _OPENING:
            depth += 1
            if depth == 1:
                place = 0
        elif key in _CLOSING:
            depth -= 1
        elif key == "," and depth == 1:
            place += 1
        elif depth <= 0 and key not in (",", "ROW"):
            return
        elif key == "DEFAULT" and depth == 1 and _is_alone(tokens[index - 1], tokens[index + 1]):
            yield index, place


def holds_defaults(query: Query) -> bool:
    """Whether the rows of an INSERT call for defaults."""
    if "default" not in query.text.lower():
        return False
    tokens = tokenize(query.text)
    return _is_default_values(tokens) or (_begins_values(tokens) and any(True for _ in default_places(tokens)))


def fill_defaults(query: Query, columns: Sequence[str], parameters: Mapping[str, str]) -> Query:
    """The query with a value for each DEFAULT.

    Args:
        query: The rows of an INSERT.
        columns: The columns that its values go to, in order.
        parameters: The names of the parameters that hold the defaults, by column; other columns get NULL.
    """
    tokens = tokenize(query.text)
    used: dict[str, None] = {}

    def value(place: int) -> str:
        # A row that is too long is told later, when its columns are counted.
        name = parameters.get(columns[place]) if place < len(columns) else None
        if name is None:
            return "NULL"
        used[name] = None
        return f"${name}"

    if _is_default_values(tokens):
        text = f"VALUES ({', '.join(value(place) for place in range(len(columns)))})"
        edits = [Edit(0, len(query.text), text)]
    else:
        edits = [Edit(tokens[index].start, tokens[index].end, value(place)) for index, place in default_places(tokens)]
    filled = apply_edits(query, edits)
    return replace(filled, parameters=(*filled.parameters, *used))


def _is_default_values(tokens: Sequence[Token]) -> bool:
    return len(tokens) == 3 and tuple(token.key for token in tokens[:2]) == DEFAULT_VALUES


def _begins_values(tokens: Sequence[Token]) -> bool:
    return tokens[0].kind is Kind.WORD and tokens[0].key == "VALUES"


def _is_alone(before: Token, after: Token) -> bool:
    return before.key in ("(", ",") and after.key in (")", ",")
