"""The patterns of SHOW ... LIKE."""

from __future__ import annotations

import re

__all__ = ["NamePattern"]


class NamePattern:
    """Which names are shown, without regard to case.

    Spark writes ``'orders*|items'`` and takes ``_`` as it is; SQL writes ``'orders%'``, and ``_`` for any letter. A
    pattern with ``*`` or ``|`` is one of Spark's. Without a pattern all names are shown.
    """

    def __init__(self, pattern: str | None) -> None:
        self._regex: re.Pattern[str] | None = None
        if pattern is None:
            return
        if "*" in pattern or "|" in pattern:
            text = "|".join(".*".join(map(re.escape, part.strip().split("*"))) for part in pattern.split("|"))
        else:
            text = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
        self._regex = re.compile(text, re.IGNORECASE | re.DOTALL)

    def matches(self, name: str) -> bool:
        """Whether a name is shown."""
        return self._regex is None or self._regex.fullmatch(name) is not None
