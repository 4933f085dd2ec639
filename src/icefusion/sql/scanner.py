"""The tokens of a query to a `Query`: its tables, its parameters, and what DataFusion cannot read cut out.

Pieces of a statement become a `Fragment` in the same way: expressions, and what stands behind a FROM.

Which words name tables is told by the state of each open parenthesis, see `icefusion.sql.frames`. What is wrong in a
query beyond that is DataFusion's to say, which parses the same text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from icefusion.naming import normalize
from icefusion.sql.changes_function import is_changes_function, read_changes_function
from icefusion.sql.cursor import Cursor
from icefusion.sql.file_functions import FILE_FUNCTIONS, file_by_name, read_file_function
from icefusion.sql.frames import (
    AFTER_COLUMN,
    BEHIND_COMMA,
    CLOSING,
    ENDS_FROM,
    NO_ALIAS,
    NO_TABLE,
    SET_OPERATORS,
    Frame,
    State,
)
from icefusion.sql.lexer import Kind, Token, read_identifier
from icefusion.sql.parameters import ParameterList
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import (
    ComputedAsOf,
    FileFunction,
    Fragment,
    Identifier,
    Name,
    Query,
    TableReference,
    Version,
)
from icefusion.sql.travel import TravelExpression, misplaced_version, read_version

__all__ = ["Span", "scan_alternatives", "scan_fragment", "scan_query"]

Span = tuple[int, int]


def scan_query(
    sql: str,
    tokens: list[Token],
    first: int = 0,
    start: int | None = None,
    last: int | None = None,
    parameters: ParameterList | None = None,
) -> Query:
    """The query that the tokens from index ``first`` up to ``last`` spell.

    Args:
        sql: The whole text, which the offsets of the tokens refer to.
        tokens: Tokens, the last one of kind END.
        first: Where the query begins in them.
        start: Where the text of the result begins in ``sql``, if that is before the query (the EXPLAIN).
        last: The index behind its last token; None for the END.
        parameters: Those of the statement so far, if the query is a part of one.

    Raises:
        ParseError: parentheses do not match, a table name is missing, or parameters of two styles are mixed.
        UnsupportedStatementError: time travel of another form than ``AS OF``, or another
            construct that would do something else than reading.
    """
    last = len(tokens) - 1 if last is None else last
    scanner = _Scanner(sql, tokens, first, last, State.START, parameters)
    scanner.run()
    offset = tokens[first].start if start is None else start
    return scanner.result(Query(sql[offset : tokens[last - 1].end], sql=sql, offset=offset))


def scan_fragment(
    sql: str,
    tokens: list[Token],
    first: int,
    last: int,
    parameters: ParameterList,
    *,
    begins_in_from: bool = False,
) -> Fragment:
    """The piece that the tokens from index ``first`` up to ``last`` spell: an expression, or several parted by commas.

    Args:
        sql: The whole text, which the offsets of the tokens refer to.
        tokens: Tokens, the last one of kind END.
        first: Where the piece begins in them.
        last: The index behind its last token. There must be one.
        parameters: Those of the statement so far; ``?`` are counted across all of its pieces.
        begins_in_from: Whether the piece is what stands behind a FROM instead.

    Raises:
        ParseError: as for `scan_query`.
        UnsupportedStatementError: as for `scan_query`.
    """
    return scan_alternatives(sql, tokens, first, last, parameters, [()], begins_in_from=begins_in_from)[0]


def scan_alternatives(
    sql: str,
    tokens: list[Token],
    first: int,
    last: int,
    parameters: ParameterList,
    alternatives: Sequence[Sequence[Span]],
    *,
    begins_in_from: bool = False,
) -> tuple[Fragment, ...]:
    """`scan_fragment` for a piece that several are made of, each by leaving something else out.

    A ``?`` that they share has the same number in all of them.

    Args:
        alternatives: For each of the results, the spans of ``sql`` that it leaves out.
    """
    state = State.TABLE if begins_in_from else State.EXPRESSION
    scanner = _Scanner(sql, tokens, first, last, state, parameters)
    scanner.run()
    offset = tokens[first].start
    plain = Fragment(sql[offset : tokens[last - 1].end], sql=sql, offset=offset)
    return tuple(scanner.result(plain, cuts) for cuts in alternatives)


_MODIFYING = ("INSERT", "UPDATE", "DELETE", "MERGE")
_WITH_HINTS = {
    "INSERT": "put the WITH behind the head: INSERT INTO t WITH x AS (...) SELECT ...",
    "UPDATE": "put the WITH into the subquery: UPDATE t SET ... FROM (WITH x AS (...) SELECT ...) AS s WHERE ...",
    "DELETE": "put the WITH into the subquery: DELETE FROM t WHERE id IN (WITH x AS (...) SELECT ...)",
    "MERGE": "put the WITH into the source: MERGE INTO t USING (WITH x AS (...) SELECT ...) AS s ON ...",
}

_F = TypeVar("_F", bound=Fragment)


class _Scanner(Cursor):
    """Steps through the tokens of a query or of a piece, each with a handler of its kind."""

    def __init__(
        self, sql: str, tokens: list[Token], first: int, last: int, state: State, parameters: ParameterList | None
    ) -> None:
        super().__init__(sql, tokens)
        self.index = first
        self.first = first
        self.last = last
        self.frames = [Frame(None, state, is_query=state is State.START)]
        self.visible: Counter[str] = Counter()
        self.tables: list[TableReference] = []
        self.edits: list[Edit] = []
        self.parameters = parameters or ParameterList()
        self.used: list[tuple[int, str]] = []  # where each parameter stands, and its name

    def run(self) -> None:
        """Look at each token once."""
        while self.index < self.last:
            token, index = self.tokens[self.index], self.index
            if token.kind is Kind.OPERATOR:
                self._operator(token)
            elif token.kind is Kind.WORD and self._is_keyword():
                self._word(token)
            elif token.kind is Kind.WORD or token.kind is Kind.QUOTED:
                self._name(token)
            else:
                self._value(token)
            if self.index == index:  # else the handler has stepped over all it has read
                self.index = index + 1
        if (opening := self.frames[-1].opening) is not None:
            raise self.error(f"this {opening.text} is never closed", token=opening)
        if self.frames[-1].state is State.TABLE:
            raise self.unexpected("a table")
        self._write_out_select(self.frames[-1])

    def result(self, plain: _F, cuts: Sequence[Span] = ()) -> _F:
        """``plain``, which is the text alone, with all that was found in it outside of the cuts, and without these."""

        def is_kept(place: int) -> bool:
            return not any(start <= place < end for start, end in cuts)

        offset = plain.offset
        edits = [Edit(e.start - offset, e.end - offset, e.text) for e in self.edits if is_kept(e.start)]
        tables = tuple(
            replace(table, start=table.start - offset, end=table.end - offset)
            for table in self.tables
            if is_kept(table.start)
        )
        names = tuple(dict.fromkeys(name for place, name in self.used if is_kept(place)))
        for start, end in cuts:
            # A blank keeps what was on both sides of it apart: of `SELECT'a',b` no `SELECTb` may become.
            beside = self.sql[start - 1 : start], self.sql[end : end + 1]
            glue = "" if any(letter.isspace() or letter == ")" for letter in beside) else " "
            edits.append(Edit(start - offset, end - offset, glue))
        return apply_edits(replace(plain, tables=tables, parameters=names), edits)

    # -- what stands around the token

    @property
    def before(self) -> Token | None:
        """The token before the one that is looked at, if the query has one there."""
        return self.tokens[self.index - 1] if self.index > self.first else None

    def _is_before(self, *keys: str) -> bool:
        return self.index > self.first and self.tokens[self.index - 1].key in keys

    def _is_keyword(self) -> bool:
        """Whether the word stands where a keyword can: not behind a point, not as a name behind AS."""
        if self._is_before("AS"):
            return self.frames[-1].state is State.CTE_AS
        return not self._is_before(".")

    def _is_name_ahead(self, *, but: str = "") -> bool:
        token = self.ahead()
        return token.kind is Kind.QUOTED or (token.kind is Kind.WORD and token.key != but)

    def _opens_frame(self, frame: Frame, *, behind: str | None = None) -> bool:
        """Whether the token is the first in its parenthesis, and that stands behind ``behind`` if it is given."""
        if frame.opening is None or self.before is not frame.opening:
            return False
        return behind is None or (self.index - 2 >= self.first and self.tokens[self.index - 2].key == behind)

    # -- operators and values

    def _operator(self, token: Token) -> None:
        key = token.key
        frame = self.frames[-1]
        if key in CLOSING:
            self._open(frame, token)
        elif key in (")", "]", "}"):
            self._close(frame, token)
        elif key == ",":
            frame.state = BEHIND_COMMA.get(frame.state, frame.state)
        elif key == ":":
            self._refuse_colon_parameter(frame, token)
        elif key == ">" and self._is_before("|"):
            frame.joins_anywhere = True
            if frame.state is State.JOINED:
                frame.state = State.CLAUSE
        elif frame.state is State.START:
            frame.state = State.EXPRESSION

    def _open(self, frame: Frame, token: Token) -> None:
        state = State.START if token.key == "(" else State.EXPRESSION
        inner = Frame(token, state, CLOSING[token.key])
        if frame.state is State.TABLE and token.key == "(":
            inner.state = State.TABLE
            frame.state = State.JOINED
        elif frame.state is State.CTE_AS:
            inner.is_query = self._is_before("AS", "MATERIALIZED")
        elif frame.state in (State.START, State.CTE_END):
            frame.state = State.EXPRESSION
        self.frames.append(inner)

    def _close(self, frame: Frame, token: Token) -> None:
        if frame.opening is None:
            raise self.error(f"this {token.text} closes nothing")
        if frame.closing != token.key:
            raise self.unexpected(f"'{frame.closing}'")
        if frame.state is State.TABLE:
            raise self.unexpected("a table")
        self._write_out_select(frame)
        self.frames.pop()
        if frame.ctes:
            self.visible.subtract(frame.ctes)
        outer = self.frames[-1]
        if outer.state is State.CTE_AS and frame.is_query:
            if not outer.recursive:
                self._define(outer)
            outer.state = State.CTE_END

    def _value(self, token: Token) -> None:
        frame = self.frames[-1]
        if frame.state is State.TABLE and token.kind is Kind.STRING:
            frame.state = State.JOINED
            name, function = file_by_name(self)
            self._add_files(name, function, token.start, token.end)
            return
        if token.kind is Kind.PARAMETER:
            self._parameter()
        if frame.state is State.TABLE:
            rule = "parameters stand for values, not for names" if token.kind is Kind.PARAMETER else None
            raise self.unexpected("a table", hint=rule)
        if frame.state is State.START:
            frame.state = State.EXPRESSION

    def _parameter(self) -> str:
        """The name of the parameter that comes next; it is not stepped over."""
        name, edit = self.parameters.add(self, self.before)
        self.used.append((self.token.start, name))
        if edit is not None:
            self.edits.append(edit)
        return name

    def _take_parameter(self) -> str:
        name = self._parameter()
        self.index += 1
        return name

    def _refuse_colon_parameter(self, frame: Frame, token: Token) -> None:
        """Tell ``:name`` from the ``:`` of slices, of structs and of time zones."""
        before, after = self.before, self.ahead()
        if after.kind is not Kind.WORD or after.start != token.end or frame.closing in ("]", "}"):
            return
        if before is None or before.end < token.start or before.kind is Kind.OPERATOR:
            raise self.error(f":{after.text} is no parameter", hint=f"write ${after.text}")

    # -- words

    def _word(self, token: Token) -> None:
        frame = self.frames[-1]
        state = frame.state
        if token.key == "SELECT" and state not in (State.CTE_NAME, State.CLAUSE, State.TABLE):
            frame.state = State.CLAUSE
            frame.is_query = True
            frame.from_first = None
        elif state is State.START:
            self._word_at_start(frame, token)
        elif state is State.TABLE:
            self._word_at_table(frame, token)
        elif state is State.JOINED:
            self._word_behind_table(frame, token)
        elif state in (State.CLAUSE, State.EXPRESSION):
            self._word_in_clause(frame, token)
        elif state is State.CTE_END:
            frame.state = State.START
            self._word_at_start(frame, token)
        elif state is State.CTE_NAME:
            self._name(token)

    def _word_at_start(self, frame: Frame, token: Token) -> None:
        key, after = token.key, self.ahead()
        if key == "WITH":
            frame.state = State.CTE_NAME
            frame.is_query = True
            if after.key == "RECURSIVE":
                frame.recursive = True
                self.index += 2
        elif key == "VALUES" and after.key in ("(", "ROW"):
            frame.state = State.CLAUSE
            frame.is_query = True
        elif key == "FROM" and not self._opens_frame(frame, behind="TRIM"):
            frame.state = State.TABLE
            frame.is_query = True
            frame.from_first = token
        elif key == "TABLE" and self._is_name_ahead() and after.key not in AFTER_COLUMN:
            self._write_out_table(frame, token)
        elif key in _MODIFYING and (frame.opening is None or self.frames[-2].state is State.CTE_AS):
            self._refuse_modifying(frame, token)
        elif key not in ("ALL", "DISTINCT", "BY", "NAME"):
            frame.state = State.EXPRESSION

    def _word_at_table(self, frame: Frame, token: Token) -> None:
        key = token.key
        if key == "LATERAL":
            return
        if key == "TABLE" and self._is_name_ahead():
            if not self._opens_frame(frame):
                raise self.error("TABLE cannot stand here", hint="write the name of the table alone")
            self._write_out_table(frame, token)
        elif key in ("SELECT", "WITH", "FROM") and self._opens_frame(frame):
            frame.state = State.START
            self._word(token)
        elif key == "VALUES" and self.ahead().key == "(":
            frame.is_query = True
            frame.joins_anywhere = True  # commas part its rows, but a join may follow them
            frame.state = State.CLAUSE
        elif key in NO_TABLE:
            raise self.unexpected("a table", hint=f'if it is meant as a name, quote it: "{token.text}"')
        else:
            self._table(frame, token)

    def _word_behind_table(self, frame: Frame, token: Token) -> None:
        key = token.key
        if key in ("JOIN", "STRAIGHT_JOIN") or (key == "APPLY" and self._is_before("CROSS", "OUTER")):
            frame.state = State.TABLE
        elif key in SET_OPERATORS:
            self._write_out_select(frame)
            frame.state = State.START
        elif (error := misplaced_version(self)) is not None:
            raise error
        elif key == "TABLESAMPLE":  # which the engine would read over
            raise self.unsupported("TABLESAMPLE is not supported", "write WHERE random() < 0.1 for a tenth of the rows")
        elif key in ENDS_FROM:
            frame.state = State.CLAUSE

    def _word_in_clause(self, frame: Frame, token: Token) -> None:
        key = token.key
        if key in SET_OPERATORS and not (key == "EXCEPT" and self._is_before("*")):
            self._write_out_select(frame)
            frame.state = State.START
        elif frame.state is State.EXPRESSION and not frame.is_query:
            return
        elif key == "FROM":
            if not self._is_distinct_from():
                frame.state = State.TABLE
        elif key == "JOIN" and frame.joins_anywhere:
            frame.state = State.TABLE
        elif key == "INTO" and not self._is_before(",", "SELECT") and self._is_name_ahead(but="FROM"):
            hint = "use CREATE TABLE name AS SELECT ..., or INSERT INTO name SELECT ..."
            raise self.unsupported("SELECT ... INTO is not supported", hint)

    def _name(self, token: Token) -> None:
        """A word that is no keyword where it stands, or a quoted identifier."""
        frame = self.frames[-1]
        if frame.state is State.TABLE:
            self._table(frame, token)
        elif frame.state is State.START:
            frame.state = State.EXPRESSION
        elif frame.state is State.CTE_NAME:
            frame.cte = normalize(read_identifier(token))
            frame.state = State.CTE_AS
            if frame.recursive:
                self._define(frame)

    def _define(self, frame: Frame) -> None:
        """From here on to the end of the frame, the name is that of a common table expression."""
        frame.ctes.append(frame.cte)
        self.visible[frame.cte] += 1

    def _is_distinct_from(self) -> bool:
        """Whether the FROM is the one of IS [NOT] DISTINCT FROM."""
        keys = [token.key for token in self.tokens[max(self.index - 3, self.first) : self.index]]
        return keys[-2:] == ["IS", "DISTINCT"] or keys == ["IS", "NOT", "DISTINCT"]

    def _refuse_modifying(self, frame: Frame, token: Token) -> None:
        if frame.opening is not None:
            hint = "run it as a statement of its own, before the query"
            raise self.unsupported(f"{token.key} inside of WITH is not supported", hint)
        raise self.unsupported(f"WITH in front of {token.key} is not supported", _WITH_HINTS[token.key])

    # -- tables

    def _write_out_select(self, frame: Frame) -> None:
        """``FROM x`` as ``SELECT * FROM x``: where no SELECT follows, the engine takes no column at all."""
        if frame.from_first is not None:
            start = frame.from_first.start
            self.edits.append(Edit(start, start, "SELECT * "))
            frame.from_first = None

    def _write_out_table(self, frame: Frame, token: Token) -> None:
        """``TABLE x`` as ``SELECT * FROM x``: the engine does not know the short form."""
        self.edits.append(Edit(token.start, token.end, "SELECT * FROM"))
        frame.state = State.TABLE
        frame.is_query = True
        self.index += 1
        self._table(frame, self.token)

    def _table(self, frame: Frame, token: Token) -> None:
        """Read the dotted name that begins at ``token``, and what belongs to it behind it."""
        frame.state = State.JOINED
        parts = [self._part()]
        while self.accept("."):
            if self.token.kind not in (Kind.WORD, Kind.QUOTED):
                raise self.unexpected("the name to go on behind the '.'")
            parts.append(self._part())
        name = Name(tuple(parts), token.start)
        if self.at("("):
            if len(parts) == 1 and normalize(parts[0]) in FILE_FUNCTIONS:
                function = read_file_function(self, name, token.start, self._take_parameter)
                self._add_files(name, function, token.start, self.tokens[self.index - 1].end)
            elif is_changes_function(parts):
                name, between = read_changes_function(self, self._constant)
                end = self.tokens[self.index - 1].end
                self.tables.append(TableReference(name, token.start, end, between, self._at_alias()))
            return  # or another table function, which is the engine's
        end = self.tokens[self.index - 1].end
        is_cte = len(parts) == 1 and self.visible[normalize(parts[0])] > 0
        travel = self.token
        version = self._version()
        if version is not None:
            if is_cte:
                raise self.error(f"{name} is defined by WITH and has no versions", token=travel)
            cut_end = self.tokens[self.index - 1].end
            touches = self.token.start == cut_end and self.token.kind not in (Kind.OPERATOR, Kind.END)
            self.edits.append(Edit(end, cut_end, " " if touches else ""))
        if not is_cte:
            self.tables.append(TableReference(name, token.start, end, version, self._at_alias()))

    def _version(self) -> Version | None:
        """Step over a time travel clause. A value to compute is a piece of its own, whose parameters count here too."""
        found = read_version(self)
        if not isinstance(found, TravelExpression):
            return found
        return ComputedAsOf(found.kind, self._constant(found.first, found.last))

    def _constant(self, first: int, last: int) -> Fragment:
        """An expression over no table, which is computed before the query is."""
        value = scan_fragment(self.sql, self.tokens, first, last, self.parameters)
        if value.tables:
            place = next(token for token in self.tokens if token.start == value.tables[0].name.offset)
            hint = "read it first, and pass the time as a parameter"
            raise self.error(f"{value.tables[0].name} cannot be read here", token=place, hint=hint)
        self.used += [(value.offset, name) for name in value.parameters]
        return value

    def _add_files(self, name: Name, function: FileFunction, start: int, end: int) -> None:
        self.tables.append(TableReference(name, start, end, None, self._at_alias(), function))

    def _part(self) -> Identifier:
        identifier = read_identifier(self.token)
        if not identifier.text:
            raise self.error("a name cannot be empty")
        self.index += 1
        return identifier

    def _at_alias(self) -> bool:
        token = self.token
        if token.kind in (Kind.QUOTED, Kind.STRING):
            return True
        return token.kind is Kind.WORD and token.key not in NO_ALIAS
