"""Names: how they are quoted, folded and, where one is unknown, guessed."""

from __future__ import annotations

import difflib
import string
from collections.abc import Collection, Iterable
from typing import Protocol

__all__ = ["find_name", "fold_case", "nearest", "normalize", "quote_identifier"]

# DataFusion folds ASCII letters only, so `É` and `é` stay two names there. Folding more here would part the two.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class _Identifier(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def quoted(self) -> bool: ...


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that ``name`` is most likely a misspelling of, compared without regard to case, or None."""
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def find_name(identifier: _Identifier, names: Collection[str]) -> str | None:
    """The one of ``names`` that an identifier stands for: the same or, unquoted, the only one but for case."""
    if identifier.text in names:
        return identifier.text
    if identifier.quoted:
        return None
    matches = [name for name in names if name.casefold() == identifier.text.casefold()]
    return matches[0] if len(matches) == 1 else None


def quote_identifier(text: str) -> str:
    """``text`` as a quoted SQL identifier, which stands for exactly that name: ``a"b`` gives ``"a""b"``."""
    return '"' + text.replace('"', '""') + '"'


def fold_case(text: str) -> str:
    """``text`` as an unquoted identifier is read: ASCII letters in lower case, all others as they are."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def normalize(identifier: _Identifier) -> str:
    """The name that an identifier stands for: as written when it is quoted, in lower case when it is not."""
    return identifier.text if identifier.quoted else fold_case(identifier.text)
