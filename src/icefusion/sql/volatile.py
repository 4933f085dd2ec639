"""Whether a statement may give different rows each time it runs, whatever it reads."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from icefusion.sql.lexer import Kind, Token, read_identifier, tokenize
from icefusion.sql.statements import Change, Fragment, fragments_of

__all__ = ["is_volatile", "is_volatile_change"]

# The time is not among them: it stands still while a statement runs, and a statement that is run again runs later.
_VOLATILE = frozenset({"RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID", "UUIDV7", "SHUFFLE"})


def is_volatile(fragment: Fragment, more: Collection[str] = ()) -> bool:
    """Whether a query or a piece calls for chance. One that does is never run again in the place of its first run.

    Args:
        fragment: The query or the piece.
        more: Functions of the user's that do, in upper case.
    """
    tokens = tokenize(fragment.text)
    return any(
        after.key == "(" and _called(token) in (_VOLATILE if _called(token) in _VOLATILE else more)
        for token, after in pairwise(tokens)
    )


def is_volatile_change(change: Change, more: Collection[str] = ()) -> bool:
    """Whether any piece of a change calls for chance."""
    return any(is_volatile(fragment, more) for fragment in fragments_of(change))


def _called(token: Token) -> str:
    """The name of a function, in upper case."""
    return read_identifier(token).text.upper() if token.kind is Kind.QUOTED else token.key
