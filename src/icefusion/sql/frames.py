"""The states that a scanner of queries goes through, and the words that lead from one to another.

Theory of operation
-------------------
To know which words name tables it is not needed to understand a query, only to know at each word whether a FROM clause
is open there and waits for a table. That is a state, and each parenthesis has one of its own, on a stack of frames:

=========== ==================================================================================================
START       a query may begin here: at the front, behind ``(``, behind UNION and its kin
EXPRESSION  where no query is: in a function's arguments, in a piece that is an expression; FROM has no meaning here
CLAUSE      in a query, outside of its FROM clause
TABLE       in a FROM clause where a table must come: behind FROM, JOIN and commas
JOINED      in a FROM clause behind a table: alias, ON, USING
CTE_*       in the list of a WITH
=========== ==================================================================================================

A frame opened in TABLE begins in TABLE itself, so ``FROM (a JOIN b)`` works, and a SELECT there turns it into a query.
Keywords that follow ``.`` or AS are names. The stack is a list, so depth costs no recursion, and each token is looked
at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from icefusion.sql.lexer import Token, keywords

__all__ = [
    "AFTER_COLUMN",
    "BEHIND_COMMA",
    "CLOSING",
    "ENDS_FROM",
    "NO_ALIAS",
    "NO_TABLE",
    "SET_OPERATORS",
    "Frame",
    "State",
]


class State(Enum):
    """What a parenthesis waits for, see the module."""

    START = auto()
    EXPRESSION = auto()
    CLAUSE = auto()
    TABLE = auto()
    JOINED = auto()
    CTE_NAME = auto()  # behind WITH and the commas of its list
    CTE_AS = auto()  # behind the name of a common table expression
    CTE_END = auto()  # behind its body


@dataclass(slots=True)
class Frame:
    """An open parenthesis, or the query as a whole."""

    opening: Token | None
    state: State
    closing: str = ""
    is_query: bool = False
    ctes: list[str] = field(default_factory=list)  # the common table expressions that a WITH in it defines
    recursive: bool = False
    cte: str = ""  # the one whose body comes next, or is open
    joins_anywhere: bool = False  # behind `|>`, a JOIN may follow any clause
    from_first: Token | None = None  # the FROM that begins a query, until its SELECT is met


BEHIND_COMMA = {
    State.JOINED: State.TABLE,
    State.CTE_END: State.CTE_NAME,
    State.START: State.EXPRESSION,
}
CLOSING = {"(": ")", "[": "]", "{": "}"}
SET_OPERATORS = frozenset(["UNION", "EXCEPT", "INTERSECT", "MINUS"])
ENDS_FROM = keywords(
    """WHERE GROUP HAVING ORDER SORT CLUSTER DISTRIBUTE WINDOW QUALIFY LIMIT OFFSET FETCH FOR SELECT PREWHERE SETTINGS
    CONNECT START FORMAT RETURNING"""
)
_GOES_ON_BEHIND_TABLE = keywords(
    """WITH EXPLAIN ANALYZE PIVOT UNPIVOT TOP LATERAL VIEW ON JOIN INNER CROSS FULL LEFT RIGHT NATURAL USING ANTI SEMI
    ASOF MATCH_CONDITION OUTER SET END PARTITION MATCH_RECOGNIZE SAMPLE TABLESAMPLE FROM OPEN"""
)
# What cannot be the alias of a table, as DataFusion reads it. All other words can.
NO_ALIAS = ENDS_FROM | SET_OPERATORS | _GOES_ON_BEHIND_TABLE
# What stands where a table must come only if the table is missing.
NO_TABLE = SET_OPERATORS | keywords(
    "SELECT WITH WHERE GROUP HAVING ORDER LIMIT ON JOIN INNER CROSS FULL LEFT RIGHT NATURAL USING AS AND OR FROM END"
)
# What goes on after a column called "table".
AFTER_COLUMN = keywords("AS IS IN NOT BETWEEN LIKE ILIKE SIMILAR AND OR FROM ORDER ASC DESC COLLATE AT")
