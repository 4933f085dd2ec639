"""A query's tokens to a `Query`: its tables, its parameters, and what DataFusion cannot read cut out.

Theory of operation
-------------------
To know which words name tables it is not needed to understand a query, only to know at each word whether a FROM clause
is open there and waits for a table. That is a state, and each parenthesis has one of its own, on a stack of frames:

=========== ==================================================================================================
START       a query may begin here: at the front, behind ``(``, behind UNION and its kin
EXPRESSION  inside a parenthesis that holds no query, e.g. a function's arguments; FROM has no meaning here
CLAUSE      in a query, outside of its FROM clause
TABLE       in a FROM clause where a table must come: behind FROM, JOIN and commas
JOINED      in a FROM clause behind a table: alias, ON, USING
CTE_*       in the list of a WITH
=========== ==================================================================================================

A frame opened in TABLE begins in TABLE itself, so ``FROM (a JOIN b)`` works, and a SELECT there turns it into a query.
Keywords that follow ``.`` or AS are names. The stack is a list, so depth costs no recursion, and each token is looked
at once. What is wrong in a query beyond that is DataFusion's to say, which parses the same text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from icefusion.errors import ParseError, UnsupportedStatementError
from icefusion.naming import normalize
from icefusion.sql.lexer import Kind, Token, keywords, read_identifier, read_string
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Identifier, Name, Query, TableReference, VersionAsOf

__all__ = ["scan_query"]


def scan_query(sql: str, tokens: list[Token], first: int = 0, start: int | None = None) -> Query:
    """The query that the tokens from index ``first`` to the END spell.

    Args:
        sql: The whole text, which the offsets of the tokens refer to.
        tokens: Tokens, the last one of kind END.
        first: Where the query begins in them.
        start: Where the text of the result begins in ``sql``, if that is before the query (the EXPLAIN).

    Raises:
        ParseError: parentheses do not match, a table name is missing, or parameters of two styles are mixed.
        UnsupportedStatementError: a time travel clause of another form than ``FOR VERSION AS OF``, or another
            construct that would do something else than reading.
    """
    scanner = _Scanner(sql, tokens, first)
    scanner.run()
    offset = tokens[first].start if start is None else start
    end = tokens[-2].end
    edits = [Edit(edit.start - offset, edit.end - offset, edit.text) for edit in scanner.edits]
    tables = tuple(
        TableReference(t.name, t.start - offset, t.end - offset, t.version, t.has_alias) for t in scanner.tables
    )
    plain = Query(sql[offset:end], tables, scanner.parameter_names(), sql, offset)
    return apply_edits(plain, edits)


class _State(Enum):
    START = auto()
    EXPRESSION = auto()
    CLAUSE = auto()
    TABLE = auto()
    JOINED = auto()
    CTE_NAME = auto()  # behind WITH and the commas of its list
    CTE_AS = auto()  # behind the name of a common table expression
    CTE_END = auto()  # behind its body


@dataclass
class _Frame:
    """An open parenthesis, or the query as a whole."""

    opening: Token | None
    state: _State
    closing: str = ""
    is_query: bool = False
    ctes: set[str] = field(default_factory=set)
    recursive: bool = False
    cte: str = ""  # the one whose body comes next, or is open
    joins_anywhere: bool = False  # behind `|>`, a JOIN may follow any clause


_CLOSING = {"(": ")", "[": "]", "{": "}"}
_SET_OPERATORS = frozenset(["UNION", "EXCEPT", "INTERSECT", "MINUS"])
_ENDS_FROM = keywords(
    """
    WHERE GROUP HAVING ORDER SORT CLUSTER DISTRIBUTE WINDOW QUALIFY LIMIT OFFSET FETCH FOR SELECT PREWHERE SETTINGS
    CONNECT START FORMAT RETURNING
    """
)
# What cannot be the alias of a table, as DataFusion reads it. All other words can.
_NO_ALIAS = (
    _ENDS_FROM
    | _SET_OPERATORS
    | keywords(
        """
    WITH EXPLAIN ANALYZE PIVOT UNPIVOT TOP LATERAL VIEW ON JOIN INNER CROSS FULL LEFT RIGHT NATURAL USING ANTI SEMI
    ASOF MATCH_CONDITION OUTER SET END PARTITION MATCH_RECOGNIZE SAMPLE TABLESAMPLE FROM OPEN
    """
    )
)
# What stands where a table must come only if the table is missing.
_NO_TABLE = _SET_OPERATORS | keywords(
    """
    WHERE GROUP HAVING ORDER LIMIT ON JOIN INNER CROSS FULL LEFT RIGHT NATURAL USING AS AND OR FROM END
    """
)
# What goes on after a column called "table".
_AFTER_COLUMN = keywords("AS IS IN NOT BETWEEN LIKE ILIKE SIMILAR AND OR FROM ORDER ASC DESC COLLATE AT")
_MODIFYING = ("INSERT", "UPDATE", "DELETE", "MERGE")
_TRAVEL_HINT = "Name the snapshot, branch or tag: FROM t FOR VERSION AS OF 123 or FOR VERSION AS OF 'name'."


class _Scanner:
    def __init__(self, sql: str, tokens: list[Token], first: int) -> None:
        self.sql = sql
        self.tokens = tokens
        self.index = first
        self.first = first
        self.frames = [_Frame(None, _State.START, is_query=True)]
        self.tables: list[TableReference] = []
        self.edits: list[Edit] = []
        self.parameters: dict[str, Token] = {}
        self.positional = 0
        self.question_mark: Token | None = None

    def run(self) -> None:
        """Look at each token once."""
        tokens = self.tokens
        while (token := tokens[self.index]).kind is not Kind.END:
            index = self.index
            self.index += 1
            kind = token.kind
            if kind is Kind.OPERATOR:
                self._operator(token)
            elif kind is Kind.PARAMETER:
                self._parameter(token)
                self._value(token)
            elif kind is Kind.WORD and self._is_keyword(index):
                self._word(token)
            elif kind is Kind.QUOTED or kind is Kind.WORD:
                self._name(token)
            else:
                self._value(token)
        if (opening := self.frames[-1].opening) is not None:
            raise self._error(f"This {opening.text} is never closed", opening)
        if self.frames[-1].state is _State.TABLE:
            raise self._error("Expected a table, the statement ends", token)

    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters met, or the error that two styles are mixed."""
        if self.question_mark is not None and self.parameters:
            named = next(iter(self.parameters.values()))
            later = max(named, self.question_mark, key=lambda token: token.start)
            message = f"Parameters are written as ? and as {named.text} in one statement"
            raise self._error(message, later, "Use one style: ? in order, or $1, $2... or $name.")
        if self.question_mark is not None:
            return tuple(str(number) for number in range(1, self.positional + 1))
        return tuple(self.parameters)

    # -- one token each

    def _is_keyword(self, index: int) -> bool:
        """Whether the word at ``index`` stands where a keyword can: not behind a point, not as a name behind AS."""
        if index == self.first:
            return True
        before = self.tokens[index - 1].key
        if before == "AS":
            return self.frames[-1].state is _State.CTE_AS
        return before != "."

    def _operator(self, token: Token) -> None:
        key = token.key
        frame = self.frames[-1]
        if key in _CLOSING:
            self._open(frame, token)
        elif key in (")", "]", "}"):
            self._close(frame, token)
        elif key == ",":
            if frame.state is _State.JOINED:
                frame.state = _State.TABLE
            elif frame.state is _State.CTE_END:
                frame.state = _State.CTE_NAME
            elif frame.state is _State.START:
                frame.state = _State.EXPRESSION
        elif key == ">" and self.tokens[self.index - 2].key == "|" and self.tokens[self.index - 2].end == token.start:
            frame.joins_anywhere = True
            if frame.state is _State.JOINED:
                frame.state = _State.CLAUSE
        elif key == ":":
            self._refuse_colon_parameter(frame, token)
        elif frame.state is _State.START:
            frame.state = _State.EXPRESSION

    def _open(self, frame: _Frame, token: Token) -> None:
        state = _State.START if token.key == "(" else _State.EXPRESSION
        inner = _Frame(token, state, _CLOSING[token.key])
        if frame.state is _State.TABLE and token.key == "(":
            inner.state = _State.TABLE
            frame.state = _State.JOINED
        elif frame.state is _State.CTE_AS:
            inner.is_query = self.tokens[self.index - 2].key in ("AS", "MATERIALIZED")
        elif frame.state in (_State.START, _State.CTE_END):
            frame.state = _State.EXPRESSION
        self.frames.append(inner)

    def _close(self, frame: _Frame, token: Token) -> None:
        if frame.opening is None:
            raise self._error(f"This {token.text} closes nothing", token)
        if frame.closing != token.key:
            raise self._error(f"Expected {frame.closing}, found {token.text}", token)
        if frame.state is _State.TABLE:
            raise self._error(f"Expected a table, found {token.text}", token)
        self.frames.pop()
        outer = self.frames[-1]
        if outer.state is _State.CTE_AS and frame.is_query:
            outer.ctes.add(outer.cte)
            outer.state = _State.CTE_END

    def _value(self, token: Token) -> None:
        frame = self.frames[-1]
        if frame.state is _State.TABLE:
            if token.kind is Kind.STRING:
                hint = "Pass the data under a name, e.g. session.sql('SELECT * FROM rows', rows=dataset)."
                raise self._unsupported("A file cannot be read by naming it in FROM", token, hint)
            is_parameter = token.kind is Kind.PARAMETER
            rule = "Parameters stand for values, not for names." if is_parameter else None
            raise self._error(f"Expected a table, found {token.text}", token, rule)
        if frame.state is _State.START:
            frame.state = _State.EXPRESSION

    def _parameter(self, token: Token) -> None:
        if token.text != "?":
            self.parameters.setdefault(token.text[1:], token)
            return
        after = self.tokens[self.index]
        if after.kind is Kind.NUMBER and after.start == token.end:
            raise self._error(f"?{after.text} is no parameter", token, f"Write ${after.text}, or ? alone.")
        self.positional += 1
        self.question_mark = self.question_mark or token
        # Blanks keep it apart from letters beside it: of `limit?and` no `limit$1and` may become.
        before = self.tokens[self.index - 2] if self.index - 1 > self.first else token
        left = " " if before.end == token.start and before.kind is Kind.WORD else ""
        right = " " if after.start == token.end and after.kind in (Kind.WORD, Kind.PARAMETER) else ""
        self.edits.append(Edit(token.start, token.end, f"{left}${self.positional}{right}"))

    def _refuse_colon_parameter(self, frame: _Frame, token: Token) -> None:
        before, after = self.tokens[self.index - 2], self.tokens[self.index]
        if after.kind is not Kind.WORD or after.start != token.end or frame.closing in ("]", "}"):
            return
        if before.end < token.start or before.kind is Kind.OPERATOR:
            raise self._error(f":{after.text} is no parameter", token, f"Write ${after.text}.")

    def _word(self, token: Token) -> None:
        frame = self.frames[-1]
        key, state = token.key, frame.state
        if key == "SELECT" and state not in (_State.CTE_NAME, _State.CLAUSE):
            frame.state = _State.CLAUSE
            frame.is_query = True
        elif state is _State.START:
            self._word_at_start(frame, token)
        elif state is _State.TABLE:
            self._word_at_table(frame, token)
        elif state is _State.JOINED:
            self._word_behind_table(frame, token)
        elif state in (_State.CLAUSE, _State.EXPRESSION):
            self._word_in_clause(frame, token)
        elif state is _State.CTE_END:
            frame.state = _State.START
            self._word(token)
        elif state is _State.CTE_AS and key in ("AS", "NOT", "MATERIALIZED"):
            pass
        else:
            self._name(token)

    def _word_at_start(self, frame: _Frame, token: Token) -> None:
        key, after = token.key, self.tokens[self.index]
        if key == "WITH":
            frame.state = _State.CTE_NAME
            frame.is_query = True
            if after.key == "RECURSIVE":
                frame.recursive = True
                self.index += 1
        elif key == "VALUES" and after.key in ("(", "ROW"):
            frame.state = _State.CLAUSE
            frame.is_query = True
        elif key == "FROM" and not self._opened_by(frame, "TRIM"):
            frame.state = _State.TABLE
            frame.is_query = True
        elif key == "TABLE" and after.kind in (Kind.WORD, Kind.QUOTED) and after.key not in _AFTER_COLUMN:
            # The engine does not know this short form, so it is written out.
            self.edits.append(Edit(token.start, token.end, "SELECT * FROM"))
            frame.state = _State.TABLE
            frame.is_query = True
        elif key in _MODIFYING and (frame.opening is None or self._in_cte_body()):
            self._refuse_modifying(token)
        elif key not in ("ALL", "DISTINCT", "BY", "NAME"):
            frame.state = _State.EXPRESSION

    def _word_at_table(self, frame: _Frame, token: Token) -> None:
        key, after = token.key, self.tokens[self.index]
        if key == "LATERAL" or (key == "TABLE" and after.kind in (Kind.WORD, Kind.QUOTED)):
            if key == "TABLE":
                self._table_in_from(frame, token)
        elif key == "WITH" or (key == "VALUES" and after.key == "("):
            frame.is_query = True
            frame.joins_anywhere = key == "VALUES"  # its rows are parted by commas, but a join may follow them
            frame.state = _State.CTE_NAME if key == "WITH" else _State.CLAUSE
        elif key == "FROM" and self._opened_by(frame, None):
            frame.is_query = True
        elif key in _NO_TABLE:
            hint = f'If it is meant as a name, quote it: "{token.text}".'
            raise self._error(f"Expected a table, found {token.text}", token, hint)
        else:
            self._table(frame, token)

    def _table_in_from(self, frame: _Frame, token: Token) -> None:
        if not self._opened_by(frame, None):
            raise self._error("TABLE cannot stand here", token, "Write the name of the table alone.")
        self.edits.append(Edit(token.start, token.end, "SELECT * FROM"))
        frame.is_query = True

    def _word_behind_table(self, frame: _Frame, token: Token) -> None:
        key = token.key
        if key in ("JOIN", "STRAIGHT_JOIN") or (
            key == "APPLY" and self.tokens[self.index - 2].key in ("CROSS", "OUTER")
        ):
            frame.state = _State.TABLE
        elif key in _SET_OPERATORS:
            frame.state = _State.START
        elif key in _ENDS_FROM:
            if key == "FOR":
                self._refuse_misplaced_travel(token)
            frame.state = _State.CLAUSE
        elif key in ("VERSION", "TIMESTAMP") and self._follow("AS", "OF"):
            self._refuse_misplaced_travel(token)

    def _word_in_clause(self, frame: _Frame, token: Token) -> None:
        key, before = token.key, self.tokens[self.index - 2]
        if key in _SET_OPERATORS and not (key == "EXCEPT" and before.key == "*"):
            frame.state = _State.START
        elif frame.state is _State.EXPRESSION and not frame.is_query:
            return
        elif key == "FROM":
            if not self._is_distinct_from():
                frame.state = _State.TABLE
        elif key == "JOIN" and frame.joins_anywhere:
            frame.state = _State.TABLE
        elif key == "INTO" and before.key not in (",", "SELECT") and self._at_name():
            hint = "Use CREATE TABLE name AS SELECT ..., or INSERT INTO name SELECT ..."
            raise self._unsupported("SELECT ... INTO is not supported", token, hint)

    def _name(self, token: Token) -> None:
        """A word that is no keyword where it stands, or a quoted identifier."""
        frame = self.frames[-1]
        if frame.state is _State.TABLE:
            self._table(frame, token)
        elif frame.state is _State.START:
            frame.state = _State.EXPRESSION
        elif frame.state is _State.CTE_NAME:
            frame.cte = normalize(read_identifier(token))
            frame.state = _State.CTE_AS
            if frame.recursive:
                frame.ctes.add(frame.cte)

    # -- tables

    def _table(self, frame: _Frame, token: Token) -> None:
        """Read the dotted name that begins at ``token``, and what belongs to it behind it."""
        frame.state = _State.JOINED
        parts = [self._part(token)]
        end = token.end
        while self.tokens[self.index].key == ".":
            part = self.tokens[self.index + 1]
            if part.kind not in (Kind.WORD, Kind.QUOTED):
                raise self._error("Expected the name to go on behind the '.'", part)
            parts.append(self._part(part))
            end = part.end
            self.index += 2
        if self.tokens[self.index].key == "(":
            return  # a table function
        name = Name(tuple(parts), token.start)
        is_cte = len(parts) == 1 and self._is_cte(normalize(parts[0]))
        travel = self.tokens[self.index]
        version = self._version()
        if version is not None:
            if is_cte:
                raise self._error(f"{name} is defined by WITH and has no versions", travel)
            cut_end = self.tokens[self.index - 1].end
            self.edits.append(Edit(end, cut_end, " " if self.tokens[self.index].start == cut_end else ""))
        if not is_cte:
            self.tables.append(TableReference(name, token.start, end, version, self._has_alias()))

    def _part(self, token: Token) -> Identifier:
        identifier = read_identifier(token)
        if not identifier.text:
            raise self._error("A name cannot be empty", token)
        return identifier

    def _is_cte(self, name: str) -> bool:
        return any(name in frame.ctes for frame in self.frames)

    def _has_alias(self) -> bool:
        token = self.tokens[self.index]
        if token.kind in (Kind.QUOTED, Kind.STRING):
            return True
        return token.kind is Kind.WORD and token.key not in _NO_ALIAS

    def _version(self) -> VersionAsOf | None:
        """Step over a time travel clause and give the version it names."""
        begin = self.tokens[self.index]
        has_for = begin.key == "FOR"
        kind = self.tokens[self.index + 1] if has_for else begin
        if kind.key not in ("VERSION", "SYSTEM_VERSION", "TIMESTAMP", "SYSTEM_TIME"):
            if self._follow("AS", "OF", "VERSION") or self._follow("AS", "OF", "TIMESTAMP"):
                raise self._unsupported("AS OF is not supported in this form", begin, _TRAVEL_HINT)
            return None
        self.index += 2 if has_for else 1
        if not self._follow("AS", "OF"):
            if has_for:
                message = f"FOR {kind.key} is supported with AS OF only"
                raise self._unsupported(message, begin, _TRAVEL_HINT)
            self.index -= 1
            return None
        if kind.key in ("TIMESTAMP", "SYSTEM_TIME"):
            raise self._unsupported("Reading a table as of a time is not supported yet", begin, _TRAVEL_HINT)
        self.index += 2
        value = self.tokens[self.index]
        if value.kind is Kind.PARAMETER:
            raise self._unsupported("A parameter cannot name the version yet", value, _TRAVEL_HINT)
        if value.kind is Kind.NUMBER and value.text.isdecimal() and len(value.text) < 20:
            self.index += 1
            return VersionAsOf(int(value.text))
        if value.kind is Kind.STRING and read_string(value):
            self.index += 1
            return VersionAsOf(read_string(value))
        found = value.text or "the end of the statement"
        message = f"Expected a snapshot id, or the name of a branch or tag as a string, found {found}"
        raise self._error(message, value)

    # -- what stands around

    def _at_name(self) -> bool:
        token = self.tokens[self.index]
        return token.kind is Kind.QUOTED or (token.kind is Kind.WORD and token.key != "FROM")

    def _follow(self, *keys: str) -> bool:
        last = len(self.tokens) - 1
        return all(self.tokens[min(self.index + place, last)].key == key for place, key in enumerate(keys))

    def _opened_by(self, frame: _Frame, word: str | None) -> bool:
        """Whether the token before is the frame's parenthesis, and behind ``word`` where one is asked for."""
        place = self.index - 2
        if frame.opening is None or self.tokens[place] is not frame.opening:
            return False
        return word is None or (place > 0 and self.tokens[place - 1].key == word)

    def _in_cte_body(self) -> bool:
        return len(self.frames) > 1 and self.frames[-2].state is _State.CTE_AS

    def _is_distinct_from(self) -> bool:
        """Whether the FROM just read is the one of IS [NOT] DISTINCT FROM."""
        keys = [token.key for token in self.tokens[max(self.index - 4, 0) : self.index - 1]]
        return keys[-2:] == ["IS", "DISTINCT"] or keys[-3:] == ["IS", "NOT", "DISTINCT"]

    def _refuse_modifying(self, token: Token) -> None:
        if self.frames[-1].opening is not None:
            hint = "Run it as a statement of its own, before the query."
            raise self._unsupported(f"{token.key} inside of WITH is not supported", token, hint)
        hint = "Put the WITH behind the head: INSERT INTO t WITH x AS (...) SELECT ..."
        if token.key != "INSERT":
            hint = "Row-level changes are not supported yet, with or without a WITH."
        raise self._unsupported(f"WITH in front of {token.key} is not supported", token, hint)

    def _refuse_misplaced_travel(self, token: Token) -> None:
        if token.key != "FOR" or self.tokens[self.index].key in (
            "VERSION",
            "SYSTEM_VERSION",
            "TIMESTAMP",
            "SYSTEM_TIME",
        ):
            hint = "It stands behind the name of the table and before its alias: FROM t FOR VERSION AS OF 123 AS x."
            raise self._error("The version of a table cannot be given here", token, hint)

    def _error(self, message: str, token: Token, hint: str | None = None) -> ParseError:
        return ParseError(message, sql=self.sql, offset=token.start, hint=hint)

    def _unsupported(self, message: str, token: Token, hint: str) -> UnsupportedStatementError:
        return UnsupportedStatementError(message, sql=self.sql, offset=token.start, hint=hint)
