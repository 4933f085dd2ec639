"""A subquery that sets several columns, taken apart: each column gets a subquery of its own.

DataFusion knows subqueries of one column only. So ``(a, b) = (SELECT x, y FROM u ...)`` becomes ``a = (SELECT x FROM u
...)`` and ``b = (SELECT y FROM u ...)``, by cutting the other items out of the text. Where an item matters for more
than its column (it is sorted by, it makes one row of many), cutting it would give other values; that is refused.
"""

from __future__ import annotations

from icefusion.naming import normalize
from icefusion.sql.extents import ITEM, completes_operand, find_end
from icefusion.sql.lexer import Kind, Token, keywords, read_identifier
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import Fragment

__all__ = ["split_subquery"]

_MAX_COLUMNS = 256
_ONE_BY_ONE = "set each column by a subquery of its own"
_SET_OPERATORS = keywords("UNION EXCEPT INTERSECT MINUS")
_USES_ITEMS = keywords("GROUP ORDER HAVING QUALIFY SORT")
# Functions that make one row of many, or many of one: an item that calls one matters for all the others.
_CHANGES_ROWS = keywords(
    """APPROX_DISTINCT APPROX_MEDIAN APPROX_PERCENTILE_CONT APPROX_PERCENTILE_CONT_WITH_WEIGHT ARRAY_AGG AVG BIT_AND
    BIT_OR BIT_XOR BOOL_AND BOOL_OR CORR COUNT COVAR COVAR_POP COVAR_SAMP FIRST_VALUE GROUPING LAST_VALUE MAX MEAN
    MEDIAN MIN NTH_VALUE PERCENTILE_CONT QUANTILE_CONT REGR_AVGX REGR_AVGY REGR_COUNT REGR_INTERCEPT REGR_R2 REGR_SLOPE
    REGR_SXX REGR_SXY REGR_SYY STDDEV STDDEV_POP STDDEV_SAMP STRING_AGG SUM VAR VAR_POP VAR_POPULATION VAR_SAMP
    VAR_SAMPLE VARIANCE"""
)


def split_subquery(cursor: PieceCursor, count: int) -> tuple[Fragment, ...]:
    """Step over the subquery whose parenthesis begins at the cursor, and make one of each of its columns.

    Args:
        cursor: Stands at the parenthesis.
        count: How many columns it should have.

    Raises:
        ParseError: it has another number of columns, or does not read as a SELECT.
        UnsupportedStatementError: it cannot be taken apart.
    """
    opening = cursor.index
    inside = _Inside(cursor, opening)
    select = inside.find_select()
    cursor.index = select + 1
    items = _parse_items(cursor)
    tokens = cursor.tokens
    if len(items) != count:
        message = f"the SELECT has {len(items)} column{'s' if len(items) != 1 else ''}, and {count} are set"
        raise cursor.error(message, token=tokens[select])
    if count > 1:
        inside.check_tail(cursor.index, items)
    if count > _MAX_COLUMNS:
        raise cursor.unsupported(f"a subquery can set {_MAX_COLUMNS} columns", _ONE_BY_ONE, token=tokens[select])
    begin, end = tokens[items[0][0]].start, tokens[items[-1][1] - 1].end
    spans = [(tokens[first].start, tokens[last - 1].end) for first, last in items]
    cuts = [[cut for cut in ((begin, first), (last, end)) if cut[0] < cut[1]] for first, last in spans]
    cursor.index = opening
    return cursor.alternatives(inside.end, cuts)


def _parse_items(cursor: PieceCursor) -> list[tuple[int, int]]:
    """Where each item of the SELECT list at the cursor begins and ends in the tokens, stepping over them."""
    if cursor.at("ALL") and cursor.ahead().key != ",":
        cursor.take()
    if cursor.at("DISTINCT"):
        raise cursor.unsupported("SELECT DISTINCT cannot set several columns", _ONE_BY_ONE)
    if cursor.at("TOP") and cursor.ahead().kind in (Kind.NUMBER, Kind.PARAMETER):
        raise cursor.unsupported("SELECT TOP is not supported", "write ORDER BY ... LIMIT 1")
    items: list[tuple[int, int]] = []
    while True:
        first = cursor.index
        cursor.index = find_end(cursor, ITEM, "a column")
        for index in range(first, cursor.index):
            if cursor.tokens[index].key == "*" and (index == first or cursor.tokens[index - 1].key == "."):
                hint = "list the columns: (SELECT x, y FROM ...)"
                raise cursor.unsupported("* cannot set several columns", hint, token=cursor.tokens[index])
        items.append((first, cursor.index))
        if not cursor.accept(","):
            return items


class _Inside:
    """What stands in the subquery's own parenthesis, subqueries and arguments in it left aside."""

    def __init__(self, cursor: PieceCursor, opening: int) -> None:
        self.cursor = cursor
        tokens = cursor.tokens
        self.indexes: list[int] = []
        depth = 0
        index = opening
        while tokens[index].kind is not Kind.END:
            if tokens[index].key in ("(", "[", "{"):
                depth += 1
            elif tokens[index].key in (")", "]", "}"):
                depth -= 1
                if depth == 0:
                    break
            elif depth == 1:
                self.indexes.append(index)
            index += 1
        if tokens[index].kind is Kind.END:
            raise cursor.error("this ( is never closed", token=tokens[opening])
        self.end = index + 1

    def find_select(self) -> int:
        """The index of the SELECT."""
        tokens = self.cursor.tokens
        for index in self.indexes:
            if tokens[index].key == "SELECT" and tokens[index - 1].key not in (".", "AS"):
                return index
        begin = tokens[self.cursor.index + 1]
        raise self.cursor.unsupported("only a plain SELECT can set several columns", _ONE_BY_ONE, token=begin)

    def check_tail(self, behind: int, items: list[tuple[int, int]]) -> None:
        """Raise for what stands behind the SELECT list and has another meaning if items are missing there."""
        cursor, tokens = self.cursor, self.cursor.tokens
        tail = [index for index in self.indexes if index >= behind]
        keys = {tokens[index].key for index in tail}
        for index in self.indexes:
            if tokens[index].key in _SET_OPERATORS and tokens[index - 1].key not in (".", "AS", "*"):
                message = f"{tokens[index].key} cannot set several columns"
                raise cursor.unsupported(message, _ONE_BY_ONE, token=tokens[index])
        names = {name for first, last in items if (name := _alias(tokens[first:last])) is not None}
        uses_items = False
        for index in tail:
            token, before, after = tokens[index], tokens[index - 1], tokens[index + 1]
            uses_items = uses_items or token.key in _USES_ITEMS
            if before.key in ("BY", ",") and uses_items and (token.kind is Kind.NUMBER or token.key == "ALL"):
                hint = "write the expression in its place"
                raise cursor.unsupported("a position in the SELECT list cannot stand here", hint, token=token)
            is_name = token.kind in (Kind.WORD, Kind.QUOTED) and before.key != "." and after.key != "."
            if uses_items and is_name and normalize(read_identifier(token)) in names:
                hint = "write the expression in its place"
                message = f"{token.text} is a name of the SELECT list, which cannot stand here"
                raise cursor.unsupported(message, hint, token=token)
            if token.key in ("LIMIT", "FETCH", "OFFSET") and completes_operand(before) and "ORDER" not in keys:
                hint = "say by ORDER BY which row is meant"
                raise cursor.unsupported(f"{token.key} without ORDER BY cannot set several columns", hint, token=token)
        self._check_aggregates(items, is_grouped="GROUP" in keys)

    def _check_aggregates(self, items: list[tuple[int, int]], *, is_grouped: bool) -> None:
        cursor, tokens = self.cursor, self.cursor.tokens
        calls = [_row_changing_call(tokens, first, last) for first, last in items]
        for call in calls:
            if call is not None and (call.key == "UNNEST" or (not is_grouped and not all(calls))):
                message = f"{call.text}() in one of several columns changes the rows of the others"
                raise cursor.unsupported(message, _ONE_BY_ONE, token=call)


def _row_changing_call(tokens: list[Token], first: int, last: int) -> Token | None:
    """The first call of a function in an item, outside of its subqueries, on which the number of rows depends."""
    subqueries: list[bool] = []
    windowed = first  # up to here, calls that an OVER belongs to were looked through
    for index in range(first, last):
        token, after = tokens[index], tokens[index + 1]
        if token.key == "(":
            is_query = after.key in ("SELECT", "WITH", "FROM", "VALUES")
            subqueries.append(is_query or any(subqueries[-1:]))
        elif token.key == ")" and subqueries:
            subqueries.pop()
        elif after.key == "(" and not any(subqueries[-1:]):
            if token.key == "UNNEST":
                return token
            if token.key in _CHANGES_ROWS:
                if index < windowed or not (end := _end_of_windowed(tokens, index + 1)):
                    return token
                windowed = end
    return None


def _end_of_windowed(tokens: list[Token], opening: int) -> int:
    """The index of the OVER that belongs to the call whose arguments begin at ``opening``, or 0."""
    depth, index = 0, opening
    while tokens[index].kind is not Kind.END:
        depth += (tokens[index].key == "(") - (tokens[index].key == ")")
        index += 1
        if depth == 0 and tokens[index].key not in ("FILTER", "IGNORE", "RESPECT", "NULLS", "("):
            break
    return index if tokens[index].key == "OVER" else 0


def _alias(item: list[Token]) -> str | None:
    """The name that an item gives itself, with AS or without."""
    last = item[-1]
    if len(item) < 2 or last.kind not in (Kind.WORD, Kind.QUOTED) or last.key in ("END", "NULL", "TRUE", "FALSE"):
        return None
    before = item[-2]
    is_name = before.key == "AS" or before.kind is not Kind.OPERATOR or before.key in (")", "]")
    return normalize(read_identifier(last)) if is_name else None
