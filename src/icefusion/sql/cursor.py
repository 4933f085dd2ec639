"""A reading position in the tokens of one statement: look, take, or say what was expected instead."""

from __future__ import annotations

from collections.abc import Iterable

from icefusion.errors import ParseError, UnsupportedStatementError
from icefusion.naming import nearest
from icefusion.sql.lexer import Kind, Token, read_identifier, read_string
from icefusion.sql.statements import Identifier, Name

__all__ = ["Cursor", "shorten"]

# Words that begin the next clause. Taken as a name, they would hide that the name is missing.
_NEVER_NAMES = frozenset({"AS", "FROM", "SELECT", "SET", "TABLE", "USING", "VALUES", "WHERE", "WITH"})


class Cursor:
    """The tokens of one statement and the place reached in them.

    Args:
        sql: The whole text, which the offsets of the tokens refer to.
        tokens: The tokens of the statement, the last one of kind END.
    """

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self.sql = sql
        self.tokens = tokens
        self.index = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.index]

    def ahead(self, count: int = 1) -> Token:
        """The token ``count`` places behind the next one, or the END."""
        return self.tokens[min(self.index + count, len(self.tokens) - 1)]

    def take(self) -> Token:
        """The next token, stepping over it. The END stays where it is."""
        token = self.tokens[self.index]
        if token.kind is not Kind.END:
            self.index += 1
        return token

    def at(self, *keys: str) -> bool:
        """Whether the next token is one of these words or operators."""
        return self.tokens[self.index].key in keys

    def at_words(self, *words: str) -> bool:
        """Whether these words come next, in this order."""
        return all(self.ahead(place).key == word for place, word in enumerate(words))

    def accept(self, *words: str) -> bool:
        """Step over these words or operators if they come next, in this order; whether they did."""
        if not self.at_words(*words):
            return False
        self.index += len(words)
        return True

    def expect(self, key: str, what: str | None = None) -> Token:
        """Step over this word or operator, or raise the error that it was expected."""
        if self.token.key != key:
            raise self.unexpected(what or key)
        return self.take()

    def expect_end(self, *, clauses: Iterable[str] = ()) -> None:
        """Raise unless the statement ends here; ``clauses`` are the words that could have come."""
        if self.token.kind is Kind.END:
            return
        choices = list(clauses)
        hint = self.guess(choices)
        expected = f"{', '.join(choices)} or the end of the statement" if choices else "the end of the statement"
        raise self.unexpected(expected, hint=hint)

    def refuse_more_to_drop(self, cascade_hint: str) -> None:
        """Raise if a DROP goes on with CASCADE, where ``cascade_hint`` tells the cure, or with another name."""
        if self.at("CASCADE"):
            raise self.unsupported("DROP ... CASCADE is not supported", cascade_hint)
        if self.at(","):
            raise self.unsupported("one DROP drops one thing", "write a statement for each, parted by semicolons")

    def identifier(self, what: str) -> Identifier:
        """Step over one identifier, or raise the error that ``what`` was expected."""
        token = self.token
        if token.kind not in (Kind.WORD, Kind.QUOTED):
            hint = None
            if token.kind is Kind.STRING:
                hint = 'names stand in double quotes: "name"'
            elif token.kind is Kind.PARAMETER:
                hint = "parameters stand for values, not for names"
            raise self.unexpected(what, hint=hint)
        if token.key in _NEVER_NAMES:
            raise self.unexpected(what, hint=f'if it is meant as a name, quote it: "{token.text}"')
        identifier = read_identifier(token)
        if not identifier.text:
            raise self.error("a name cannot be empty")
        self.take()
        return identifier

    def name(self, what: str) -> Name:
        """Step over a dotted name, or raise the error that ``what`` was expected."""
        offset = self.token.start
        parts = [self.identifier(what)]
        while self.accept("."):
            if self.token.key in _NEVER_NAMES:
                parts.append(read_identifier(self.take()))
            else:
                parts.append(self.identifier(f"{what} to go on behind the '.'"))
        if self.at("-") and self.ahead().kind in (Kind.WORD, Kind.NUMBER):
            raise self.error("a name with a hyphen must be quoted", hint='write it in double quotes: "my-name"')
        return Name(tuple(parts), offset)

    def string(self, what: str) -> str:
        """Step over a string and give its value, or raise the error that ``what`` was expected."""
        if self.token.kind is not Kind.STRING:
            hint = None
            if self.token.kind is Kind.QUOTED:
                hint = "strings stand in single quotes: 'text'"
            elif self.token.kind is Kind.PARAMETER:
                hint = "parameters can stand in queries only; write the value here"
            raise self.unexpected(f"{what} as a string", hint=hint)
        return read_string(self.take())

    def integer(self, what: str) -> int:
        """Step over a whole number, or raise the error that ``what`` was expected."""
        if self.token.kind is not Kind.NUMBER or not self.token.text.isdecimal() or len(self.token.text) > 18:
            raise self.unexpected(f"{what} as a whole number")
        return int(self.take().text)

    def slice(self, first: int, last: int) -> str:
        """The text from the token at index ``first`` up to the end of the one before index ``last``."""
        return self.sql[self.tokens[first].start : self.tokens[last - 1].end]

    def guess(self, choices: Iterable[str]) -> str | None:
        """The hint that the next token is the misspelt first word of one of these, if it looks like one."""
        if self.token.kind is not Kind.WORD:
            return None
        phrases: dict[str, str] = {}
        for phrase in choices:
            first = phrase.split()[0]
            phrases[first] = first if first in phrases else phrase
        found = nearest(self.token.text, phrases)
        return f"did you mean {phrases[found]}?" if found else None

    def unexpected(self, expected: str, *, hint: str | None = None) -> ParseError:
        """The error that ``expected`` was expected and something else was found, at the next token."""
        token = self.token
        found = "the statement ends" if token.kind is Kind.END else f"found {shorten(token.text)}"
        return self.error(f"expected {expected}, {found}", hint=hint)

    def error(self, message: str, *, hint: str | None = None, token: Token | None = None) -> ParseError:
        """A ParseError at ``token``, or at the next one."""
        return ParseError(message, sql=self.sql, offset=(token or self.token).start, hint=hint)

    def unsupported(
        self, message: str, hint: str | None = None, *, token: Token | None = None
    ) -> UnsupportedStatementError:
        """An UnsupportedStatementError at ``token``, or at the next one."""
        return UnsupportedStatementError(message, sql=self.sql, offset=(token or self.token).start, hint=hint)


def shorten(text: str, limit: int = 40) -> str:
    """``text`` on one line, and cut where it is long, for messages."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
