"""Pieces of statements: read where they stand in one, or on their own, as Python calls give them."""

from __future__ import annotations

from collections.abc import Sequence

from icefusion.sql.cursor import Cursor
from icefusion.sql.extents import (
    EXPRESSION,
    FROM_LIST,
    INSERTED_QUERY,
    ITEMS,
    Extent,
    find_end,
)
from icefusion.sql.frames import NO_ALIAS
from icefusion.sql.lexer import Kind, Token, tokenize
from icefusion.sql.parameters import ParameterList
from icefusion.sql.scanner import Span, scan_alternatives, scan_fragment, scan_query
from icefusion.sql.statements import Fragment, Identifier, Name, Query
from icefusion.sql.travel import misplaced_version

__all__ = ["PieceCursor", "parse_assignment_path", "parse_expression"]

_NO_ALIAS = NO_ALIAS | {"WHEN", "VALUES"}


class PieceCursor(Cursor):
    """A cursor that steps over pieces too, and counts the parameters of one statement in all of them.

    Args:
        sql: The whole text, which the offsets of the tokens refer to.
        tokens: The tokens of the statement, the last one of kind END.
    """

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        super().__init__(sql, tokens)
        self.parameters = ParameterList()

    def expression(self, what: str = "an expression", extent: Extent = EXPRESSION) -> Fragment:
        """Step over one expression, or raise the error that ``what`` was expected."""
        return self.fragment(find_end(self, extent, what))

    def constant(self, what: str) -> Fragment:
        """Step over one expression that reads no table, or raise the error that ``what`` was expected."""
        fragment = self.expression(what)
        if fragment.tables:
            table = fragment.tables[0].name
            token = next(token for token in self.tokens if token.start == table.offset)
            hint = "read it first, and pass the value as a parameter"
            raise self.error(f"{table} cannot be read here", token=token, hint=hint)
        return fragment

    def from_list(self) -> Fragment:
        """Step over what stands behind a FROM."""
        return self.fragment(find_end(self, FROM_LIST, "a table"), begins_in_from=True)

    def query(self) -> Query:
        """Step over the query of an INSERT."""
        first = self.index
        self.index = find_end(self, INSERTED_QUERY, "a query")
        return scan_query(self.sql, self.tokens, first, last=self.index, parameters=self.parameters)

    def returning(self) -> Fragment | None:
        """Step over RETURNING and its list, if they come next."""
        if not self.accept("RETURNING"):
            return None
        what = "* or the expressions to return"
        if self.at("DISTINCT", "ALL") and self.ahead().key != ",":
            raise self.unexpected(what)
        return self.fragment(find_end(self, ITEMS, what))

    def fragment(self, end: int, *, begins_in_from: bool = False) -> Fragment:
        """Step over all up to the index ``end`` as one piece."""
        first, self.index = self.index, end
        return scan_fragment(self.sql, self.tokens, first, end, self.parameters, begins_in_from=begins_in_from)

    def alternatives(self, end: int, cuts: Sequence[Sequence[Span]]) -> tuple[Fragment, ...]:
        """Step over all up to the index ``end`` as one piece, and make several of it, see `scan_alternatives`."""
        first, self.index = self.index, end
        return scan_alternatives(self.sql, self.tokens, first, end, self.parameters, cuts)

    def target(self) -> tuple[Name, Identifier | None]:
        """Step over the table that a statement changes, and its alias."""
        name = self.name("the name of a table")
        if misplaced_version(self) is not None:
            raise self.unsupported("an earlier state of a table cannot be changed", "leave the version out")
        return name, self.alias()

    def alias(self) -> Identifier | None:
        """Step over ``[AS] alias``, if it comes next."""
        if self.accept("AS"):
            return self.identifier("an alias")
        token = self.token
        if token.kind is Kind.QUOTED or (token.kind is Kind.WORD and token.key not in _NO_ALIAS):
            return self.identifier("an alias")
        return None


def parse_expression(text: str) -> Fragment:
    """The one expression that a text holds, e.g. ``price > 10 AND sku IN (SELECT sku FROM shop.old)``.

    Raises:
        ParseError: the text is not one expression, or something stands behind it.
        UnsupportedStatementError: a subquery in it does something that is not done here.
    """
    cursor = PieceCursor(text, tokenize(text))
    expression = cursor.expression()
    if cursor.token.kind is not Kind.END:
        raise cursor.unexpected("the end of the expression")
    return expression


def parse_assignment_path(text: str) -> tuple[Identifier, ...]:
    """The column that a text names, or the part of a struct: ``price``, ``address.city``, ``"Unit Price"``.

    Raises:
        ParseError: the text is not a dotted name.
    """
    cursor = Cursor(text, tokenize(text))
    path = cursor.name("a column").parts
    if cursor.token.kind is not Kind.END:
        raise cursor.unexpected("the end of the name")
    return path
