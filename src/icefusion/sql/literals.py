"""Numbers in a query's text that DataFusion would round while reading them."""

from __future__ import annotations

import re
from decimal import Decimal

from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Query

__all__ = ["exact_numbers"]

_LONG_NUMBER = re.compile(r"[0-9][0-9.]{15,}")
_MAX_UINT64 = 2**64 - 1


def exact_numbers(query: Query) -> Query:
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
