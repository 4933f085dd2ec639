"""Whether a query may give different rows each time it runs, whatever it reads."""

from __future__ import annotations

from itertools import pairwise

from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.statements import Query

__all__ = ["is_volatile"]

# The time is not among them: it stands still while a statement runs, and a statement that is run again runs later.
_VOLATILE = frozenset({"RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID", "UUIDV7", "SHUFFLE"})


def is_volatile(query: Query) -> bool:
    """Whether a query calls for chance. One that does is never run again in the place of its first run."""
    tokens = tokenize(query.text)
    return any(
        token.kind is Kind.WORD and token.key in _VOLATILE and after.key == "(" for token, after in pairwise(tokens)
    ) or any(token.key == "TABLESAMPLE" for token in tokens)
