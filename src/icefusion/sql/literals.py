"""Values in a query's text that DataFusion reads with too few digits, or with too many."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

from icefusion.sql.lexer import Kind, Token, read_identifier, read_string, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Fragment

__all__ = ["exact_literals", "keys_in_32_bits", "now_in_microseconds"]

_F = TypeVar("_F", bound=Fragment)

_LONG_NUMBER = re.compile(r"[0-9][0-9.]{15,}")
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")
_NOW = "arrow_cast(now(), 'Timestamp(Microsecond, Some(\"UTC\"))')"
_MAX_UINT64 = 2**64 - 1


def exact_literals(query: _F) -> _F:
    """The query with its numbers and times of day as exact as they are written, and as columns hold them."""
    return _times_in_microseconds(_exact_numbers(query))


def _exact_numbers(query: _F) -> _F:
    """The query with the number literals that a double cannot hold written as decimals.

    DataFusion reads ``12345678901234567890.12`` and integers beyond 64 bits as doubles, and digits are gone before
    anything can check them. In the SQL standard they are exact numbers; so they are handed over as exact ones. Numbers
    with an exponent are approximate in the standard as well, and stay.
    """
    if not _LONG_NUMBER.search(query.text):
        return query
    return apply_edits(
        query,
        [
            Edit(token.start, token.end, _as_decimal(token.text))
            for token in tokenize(query.text)
            if token.kind is Kind.NUMBER and _is_rounded(token.text)
        ],
    )


def _times_in_microseconds(query: _F) -> _F:
    """The query with times of day such as ``TIME '12:00'`` in microseconds.

    DataFusion reads them in nanoseconds, and does not compare those with the microseconds of a column.
    """
    if "TIME" not in query.text.upper():
        return query
    tokens = tokenize(query.text)
    edits: list[Edit] = []
    for before, token, after in zip([tokens[-1], *tokens], tokens, tokens[1:], strict=False):
        is_literal = token.key == "TIME" and after.kind is Kind.STRING and before.key != "."
        if is_literal and _TIME.fullmatch(read_string(after)):
            edits.append(Edit(token.start, after.end, f"arrow_cast({after.text}, 'Time64(Microsecond)')"))
    return apply_edits(query, edits)


def keys_in_32_bits(query: _F, maps: Collection[str]) -> _F:
    """The query with the keys by which maps of ``int`` keys are asked, as in ``m[3]``, in 32 bits.

    DataFusion reads them in 64 bits, and does not compare those with keys of 32. A key that is no ``int`` is in no such
    map, so that the answer is NULL.

    Args:
        query: The query.
        maps: The names of such columns, in lower case.
    """
    if not maps:
        return query
    tokens = tokenize(query.text)
    edits: list[Edit] = []
    for number, (token, after) in enumerate(pairwise(tokens)):
        named = token.kind in (Kind.WORD, Kind.QUOTED) and read_identifier(token).text.lower() in maps
        if not named or after.key != "[":
            continue
        inside = _up_to_bracket(tokens[number + 2 :])
        if inside and ":" not in [each.key for each in inside] and inside[0].kind is not Kind.STRING:
            start, end = inside[0].start, inside[-1].end
            edits += (Edit(start, start, "try_cast("), Edit(end, end, " AS int)"))
    return apply_edits(query, edits)


def _up_to_bracket(tokens: Sequence[Token]) -> list[Token]:
    """The tokens before the bracket that ends a subscript; none where there is another subscript in it."""
    inside: list[Token] = []
    for token in tokens:
        if token.key == "]":
            return inside
        if token.key == "[":
            break
        inside.append(token)
    return []


def now_in_microseconds(query: _F) -> _F:
    """The query with the current time in microseconds.

    DataFusion's clock gives nanoseconds, which no timestamp of format version 2 can take exactly; and ``now()`` is how
    people say when a row was written.
    """
    tokens = tokenize(query.text)
    edits: list[Edit] = []
    padded = [tokens[-1], *tokens, tokens[-1]]
    for before, token, after, last in zip(padded, tokens, padded[2:], padded[3:], strict=False):
        called = after.key == "(" and last.key == ")"
        if before.key in (".", "AS") or not (token.key == "CURRENT_TIMESTAMP" or (token.key == "NOW" and called)):
            continue
        edits.append(Edit(token.start, last.end if called else token.end, _NOW))
    return apply_edits(query, edits)


def _is_rounded(text: str) -> bool:
    if len(text) <= 15 or not text.replace(".", "", 1).isdigit():
        return False
    if "." not in text:
        return int(text) > _MAX_UINT64
    return Decimal(text) != Decimal(repr(float(text)))


def _as_decimal(text: str) -> str:
    whole, _, fraction = text.partition(".")
    precision = max(1, len(whole.lstrip("0")) + len(fraction))
    return f"CAST('{text}' AS DECIMAL({precision}, {len(fraction)}))"
