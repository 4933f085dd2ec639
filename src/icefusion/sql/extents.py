"""Where a piece of a statement ends: an expression, a list of them, what stands behind a FROM, a query.

Pieces are not parsed, so their ends are found by the word that cannot go on. Of a word such as LIMIT, which can be the
name of a column too, that depends on whether an operand can stand where it stands: ``a > limit`` goes on, ``a > 1
LIMIT`` does not. What stands in brackets or between CASE and END never ends a piece.

A piece ends at each word that begins a clause of a SELECT, and not only at those that its statement knows. That lets it
be put into the place of an expression in another SELECT: nothing in it can reach beyond that place.
"""

from __future__ import annotations

from dataclasses import dataclass

from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, Token, keywords

__all__ = [
    "CONDITION",
    "EXPRESSION",
    "FROM_LIST",
    "INSERTED_QUERY",
    "ITEM",
    "ITEMS",
    "Extent",
    "begins_query",
    "completes_operand",
    "find_end",
]


@dataclass(frozen=True)
class Extent:
    """What ends a piece, outside of brackets and CASE.

    Attributes:
        reserved: Words that end it wherever they stand.
        words: Words that end it where no operand can stand.
        at_comma: Whether a comma ends it.
        at_query: Whether the beginning of a query ends it.
        is_query: Whether it is a query itself, which ends at what an INSERT can have behind it.
    """

    reserved: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    at_comma: bool = False
    at_query: bool = False
    is_query: bool = False


_RESERVED = keywords("WHERE FROM WHEN THEN SELECT GROUP ORDER HAVING UNION EXCEPT INTERSECT")
_CLAUSES = keywords(
    """RETURNING LIMIT OFFSET FETCH WINDOW QUALIFY SORT CLUSTER DISTRIBUTE FOR CONNECT START FORMAT SETTINGS PREWHERE
    MINUS INTO SET VALUES DELETE"""
)
_JOINS = keywords("JOIN STRAIGHT_JOIN INNER CROSS LEFT RIGHT FULL NATURAL ON USING")

EXPRESSION = Extent(_RESERVED | {"AS"}, _CLAUSES | _JOINS, at_comma=True)
"""One expression, alone or of a list."""
CONDITION = Extent(EXPRESSION.reserved, EXPRESSION.words, at_comma=True, at_query=True)
"""One expression, behind which a query comes."""
ITEM = Extent(_RESERVED, _CLAUSES | _JOINS, at_comma=True)
"""One item of a SELECT list, which can have a name."""
ITEMS = Extent(_RESERVED, _CLAUSES | _JOINS)
"""A SELECT list."""
FROM_LIST = Extent(_RESERVED, _CLAUSES)
"""What stands behind a FROM."""
INSERTED_QUERY = Extent(words=frozenset({"RETURNING"}), is_query=True)
"""A query up to the clauses that an INSERT has behind it."""

_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
# Words that an operand, or a name, has to follow.
_BEFORE_OPERAND = keywords(
    """AND OR NOT XOR IS IN BETWEEN LIKE ILIKE RLIKE REGEXP SIMILAR ESCAPE DIV CASE WHEN THEN ELSE SELECT DISTINCT ALL
    BY FROM JOIN ON WHERE HAVING AS LATERAL"""
)
_LITERAL_WORDS = keywords("NULL TRUE FALSE END")
_VERSIONS = keywords("VERSION SYSTEM_VERSION TIMESTAMP SYSTEM_TIME")


def find_end(cursor: Cursor, extent: Extent, what: str) -> int:
    """The index behind the last token of the piece that begins at the cursor.

    Args:
        cursor: Stands at the first token; it stays there.
        extent: What ends the piece.
        what: What it is, for the error where it is missing.

    Raises:
        ParseError: there is nothing, an operand is missing at the end, a CASE is not closed, or a query stands where
            only a subquery in parentheses can.
    """
    first = cursor.index
    cases: list[list[Token]] = [[]]  # the open CASEs, for each open bracket
    tokens = cursor.tokens
    index = first - 1
    while True:
        index += 1
        token = tokens[index]
        key = token.key
        if not key:  # a literal, a parameter or a quoted name, which can end nothing
            if token.kind is Kind.END:
                break
        elif token.kind is Kind.WORD:
            before = tokens[index - 1] if index > first else None
            if before is not None and before.key in (".", "AS"):
                continue
            operand = before is None or not completes_operand(before)
            if key == "CASE" and operand and not extent.is_query:
                cases[-1].append(token)
            elif key == "END" and cases[-1] and not operand:
                cases[-1].pop()
            elif len(cases) == 1 and not cases[0] and _is_last(cursor, extent, index, operand=operand):
                break
        elif key in _OPENING:
            if len(cases) == 1 and extent.at_query and _begins_query_behind(cursor, index):
                break
            cases.append([])
        elif key in _CLOSING:
            if len(cases) == 1:
                break
            cases.pop()
        elif key == ";" or (len(cases) == 1 and not cases[0] and _is_end(cursor, extent, token, index)):
            break
    if len(cases) == 1 and cases[0]:
        hint = 'close it with END; if it is meant as a name, quote it: "case"'
        raise cursor.error("this CASE has no END", token=cases[0][-1], hint=hint)
    _check_end(cursor, extent, index, what)
    return index


def completes_operand(token: Token) -> bool:
    """Whether an expression can end with this token; behind it, no operand can stand."""
    if token.kind is Kind.OPERATOR:
        return token.key in _CLOSING
    return token.key not in _BEFORE_OPERAND


def begins_query(cursor: Cursor, index: int) -> bool:
    """Whether a query begins at ``index``, parentheses in front of it left aside, and not a list of columns."""
    tokens = cursor.tokens
    while tokens[index].key == "(":
        index += 1
    key, follower = tokens[index].key, tokens[min(index + 1, len(tokens) - 1)]
    if key in ("SELECT", "WITH", "FROM", "TABLE"):
        return follower.key not in (",", ")")
    return key == "VALUES" and follower.key in ("(", "ROW")


def _is_end(cursor: Cursor, extent: Extent, token: Token, index: int) -> bool:
    """Whether an operator ends the piece: a comma, or ``|>``, which makes a pipe of a query."""
    if token.key == ",":
        return extent.at_comma
    after = cursor.tokens[index + 1]
    return token.key == "|" and after.key == ">" and after.start == token.end and not extent.is_query


def _is_last(cursor: Cursor, extent: Extent, index: int, *, operand: bool) -> bool:
    """Whether the word at ``index`` ends the piece; ``operand`` tells whether an operand can stand there."""
    tokens = cursor.tokens
    key, after = tokens[index].key, tokens[index + 1]
    if extent.is_query and key == "ON":
        behind = tokens[min(index + 2, len(tokens) - 1)].key
        return after.key in ("CONFLICT", "DUPLICATE") and behind in ("(", "DO", "ON", "KEY")
    if extent.at_query and not operand and key in ("WITH", "TABLE") and after.key not in ("TIME", "LOCAL"):
        return True
    if key in extent.words:
        return not operand and not (key == "FOR" and after.key in _VERSIONS and extent is FROM_LIST)
    if key not in extent.reserved:
        return False
    if key == "FROM":
        keys = [token.key for token in tokens[max(index - 3, cursor.index) : index]]
        return keys[-2:] != ["IS", "DISTINCT"] and keys != ["IS", "NOT", "DISTINCT"]
    if key == "EXCEPT":
        return index == cursor.index or tokens[index - 1].key != "*"
    return key != "GROUP" or index == cursor.index or tokens[index - 1].key != "WITHIN"


def _begins_query_behind(cursor: Cursor, index: int) -> bool:
    """Whether the parenthesis at ``index`` begins a query behind a whole expression, and no subquery inside of it."""
    before = cursor.tokens[index - 1]
    if index == cursor.index or cursor.tokens[index].key != "(" or not begins_query(cursor, index):
        return False
    # Behind a word it would be the arguments of a function.
    return completes_operand(before) and (before.kind is not Kind.WORD or before.key in _LITERAL_WORDS)


def _check_end(cursor: Cursor, extent: Extent, index: int, what: str) -> None:
    """Raise for a piece that is empty or ends in the middle of an expression, the index of its end being given."""
    reached = cursor.tokens[index]
    if reached.key == "SELECT" and extent in (EXPRESSION, ITEM, ITEMS):
        raise cursor.error("a query cannot stand here", token=reached, hint="put it in parentheses: (SELECT ...)")
    if index == cursor.index:
        hint = f'if it is meant as a name, quote it: "{reached.text}"' if reached.kind is Kind.WORD else None
        raise cursor.unexpected(what, hint=hint)
    before = cursor.tokens[index - 1]
    if extent.is_query or completes_operand(before) or (before.key == "*" and extent in (ITEM, ITEMS)):
        return
    cursor.index = index
    raise cursor.unexpected(
        "a table" if extent is FROM_LIST and before.key in (",", "JOIN", "LATERAL") else "an operand"
    )
