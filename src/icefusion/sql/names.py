"""Names on their own, as Python calls give them."""

from __future__ import annotations

from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import tokenize
from icefusion.sql.statements import Name

__all__ = ["parse_name"]


def parse_name(text: str) -> Name:
    """The dotted name that a text holds, e.g. ``ns.t`` or ``"My Schema".t``.

    Raises:
        ParseError: The text is not a name.
    """
    cursor = Cursor(text, tokenize(text))
    name = cursor.name("a table name")
    cursor.expect_end()
    return name
