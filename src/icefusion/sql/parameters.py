"""Parameters of a statement: their names, and ``?`` turned into the numbers that DataFusion knows."""

from __future__ import annotations

from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, Token
from icefusion.sql.references import Edit

__all__ = ["ParameterList"]


class ParameterList:
    """The parameters met so far in a statement, across all of its pieces."""

    def __init__(self) -> None:
        self._named: Token | None = None
        self._question_mark: Token | None = None
        self._count = 0

    def add(self, cursor: Cursor, before: Token | None) -> tuple[str, Edit | None]:
        """The name, without ``$``, of the parameter that the cursor stands at, and the edit that numbers a ``?``.

        Args:
            cursor: Stands at the parameter.
            before: The token before it, if its piece has one there.

        Raises:
            ParseError: ``?1``, or ``?`` and ``$..`` in one statement.
        """
        token, after = cursor.token, cursor.ahead()
        if token.text == "?" and after.kind is Kind.NUMBER and after.start == token.end:
            raise cursor.error(f"?{after.text} is no parameter", hint=f"write ${after.text}, or ? alone")
        other = self._named if token.text == "?" else self._question_mark
        if other is not None:
            message = f"parameters are written as {other.text} and as {token.text} in one statement"
            raise cursor.error(message, hint="use one style: ? in order, or $1, $2... or $name")
        if token.text != "?":
            self._named = self._named or token
            return token.text[1:], None
        self._question_mark = token
        self._count += 1
        # Blanks keep it apart from what is beside it: of `limit?and` no `limit$1and` may become, of `?$$a$$` no `$1$$`.
        left = " " if before is not None and before.end == token.start and before.kind is Kind.WORD else ""
        right = " " if after.start == token.end and after.kind in (Kind.WORD, Kind.PARAMETER, Kind.STRING) else ""
        return str(self._count), Edit(token.start, token.end, f"{left}${self._count}{right}")
