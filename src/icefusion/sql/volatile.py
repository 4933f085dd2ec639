"""Whether a statement may give different rows each time it runs, whatever it reads."""

from __future__ import annotations

from itertools import pairwise

from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.statements import Change, Fragment, fragments_of

__all__ = ["is_volatile", "is_volatile_change"]

# The time is not among them: it stands still while a statement runs, and a statement that is run again runs later.
_VOLATILE = frozenset({"RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID", "UUIDV7", "SHUFFLE"})


def is_volatile(fragment: Fragment) -> bool:
    """Whether a query or a piece calls for chance. One that does is never run again in the place of its first run."""
    tokens = tokenize(fragment.text)
    return any(
        token.kind is Kind.WORD and token.key in _VOLATILE and after.key == "(" for token, after in pairwise(tokens)
    ) or any(token.key == "TABLESAMPLE" for token in tokens)


def is_volatile_change(change: Change) -> bool:
    """Whether any piece of a change calls for chance."""
    return any(is_volatile(fragment) for fragment in fragments_of(change))
