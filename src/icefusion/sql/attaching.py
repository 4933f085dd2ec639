"""ATTACH and DETACH: other catalogs under names."""

from __future__ import annotations

from icefusion.sql.cursor import Cursor
from icefusion.sql.statements import Attach, Detach

__all__ = ["parse_attach", "parse_detach"]

_WORDS = ("CATALOG", "DATABASE")
_NAME = "the name of the catalog"


def parse_attach(cursor: Cursor) -> Attach:
    """The statement whose ATTACH the cursor stands behind: ``[CATALOG | DATABASE] 'folder' AS name``.

    Raises:
        ParseError: it does not read as that.
    """
    if cursor.at(*_WORDS):
        cursor.take()
    offset = cursor.token.start
    path = cursor.string("the folder of a warehouse")
    if not cursor.accept("AS"):
        raise cursor.unexpected("AS and a name", hint="write ATTACH 'folder' AS name")
    name = cursor.identifier(_NAME)
    cursor.expect_end()
    return Attach(path, name.text, offset)


def parse_detach(cursor: Cursor) -> Detach:
    """The statement whose DETACH the cursor stands behind: ``[CATALOG | DATABASE] name``.

    Raises:
        ParseError: it does not read as that.
    """
    if cursor.at(*_WORDS):
        cursor.take()
    name = cursor.identifier(_NAME)
    cursor.expect_end()
    return Detach(name.text)
