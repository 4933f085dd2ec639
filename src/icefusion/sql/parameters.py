"""Parameters of a query: their names, and ``?`` turned into the numbers that DataFusion knows."""

from __future__ import annotations

from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, Token
from icefusion.sql.references import Edit

__all__ = ["ParameterList"]


class ParameterList:
    """The parameters met so far, and the edits that number the ``?`` among them."""

    def __init__(self) -> None:
        self.edits: list[Edit] = []
        self._named: dict[str, Token] = {}
        self._question_mark: Token | None = None

    def add(self, cursor: Cursor, before: Token | None) -> None:
        """Note the parameter that the cursor stands at; ``before`` is the token before it, if there is one.

        Raises:
            ParseError: ``?1``, or ``?`` and ``$..`` in one statement.
        """
        token, after = cursor.token, cursor.ahead()
        if token.text == "?" and after.kind is Kind.NUMBER and after.start == token.end:
            raise cursor.error(f"?{after.text} is no parameter", hint=f"write ${after.text}, or ? alone")
        other = next(iter(self._named.values()), None) if token.text == "?" else self._question_mark
        if other is not None:
            message = f"parameters are written as {other.text} and as {token.text} in one statement"
            raise cursor.error(message, hint="use one style: ? in order, or $1, $2... or $name")
        if token.text != "?":
            self._named.setdefault(token.text[1:], token)
            return
        self._question_mark = token
        # Blanks keep it apart from letters beside it: of `limit?and` no `limit$1and` may become.
        left = " " if before is not None and before.end == token.start and before.kind is Kind.WORD else ""
        right = " " if after.start == token.end and after.kind in (Kind.WORD, Kind.PARAMETER) else ""
        self.edits.append(Edit(token.start, token.end, f"{left}${len(self.edits) + 1}{right}"))

    def names(self) -> tuple[str, ...]:
        """The names without ``$``, in order of first appearance."""
        if self._question_mark is not None:
            return tuple(str(number) for number in range(1, len(self.edits) + 1))
        return tuple(self._named)
