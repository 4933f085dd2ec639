"""Queries that other engines read, and queries of theirs: what Spark SQL and DataFusion's have in common.

A text counts as plain where it is made of nothing but what both read and both take for the same. What is not known to
be so is not: a quotient of whole numbers has a fraction in Spark, ``"x"`` is a string there, NULLs are sorted to the
other end, ``1.5`` is another kind of number.
"""

from __future__ import annotations

import re

from icefusion.naming import quote_identifier
from icefusion.sql.lexer import Kind, Token, keywords, tokenize
from icefusion.sql.statements import Query

__all__ = ["from_spark", "is_plain"]

_PLAIN_OPERATORS = frozenset([*"(),.*+-%<>=!|;"])
_PLAIN_FUNCTIONS = keywords("COUNT SUM MIN MAX AVG COALESCE NULLIF ABS UPPER LOWER")
# Words behind which a parenthesis opens something else than the arguments of a function.
_OPENERS = keywords(
    "IN EXISTS AND OR NOT ON USING AS WHEN THEN ELSE CASE FROM JOIN SELECT WHERE UNION ALL EXCEPT INTERSECT HAVING BY "
    "CAST DISTINCT BETWEEN LIKE"
)
_PLAIN_TYPES = keywords("INT BIGINT DOUBLE FLOAT BOOLEAN STRING DATE")
# Words that mean something else to one of the two, or something to one of them only.
_OTHER = keywords(
    """
    ANTI ARRAY AT CONNECT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DISTRIBUTE DIV ESCAPE EXCLUDE EXPLAIN EXTRACT
    FETCH FILTER FOR GLOB GROUPING ILIKE INTERVAL LATERAL LOCALTIME LOCALTIMESTAMP MAP NATURAL OFFSET ORDER OVER
    OVERLAPS PIVOT POSITION QUALIFY RECURSIVE REGEXP REPLACE RLIKE ROLLUP CUBE SEMI SETS SIMILAR SORT STRUCT TABLE
    TABLESAMPLE TIME TIMESTAMP TIMESTAMPTZ TOP TRY_CAST UNNEST UNPIVOT VALUES WINDOW WITHIN
    """
)


def is_plain(query: Query, text: str) -> bool:
    """Whether a query means the same to Spark and to DataFusion.

    Args:
        query: The query, parsed.
        text: The same as it was written.
    """
    if any(table.version is not None or table.function is not None for table in query.tables):
        return False
    tokens = tokenize(text)
    return all(_is_plain_token(tokens, index) for index in range(len(tokens) - 1))


def _is_plain_token(tokens: list[Token], index: int) -> bool:
    token, before, after = tokens[index], tokens[index - 1] if index else tokens[-1], tokens[index + 1]
    match token.kind:
        case Kind.NUMBER:
            return token.text.isdecimal()
        case Kind.STRING:
            # Backslashes escape in Spark, and a doubled quote stands between two strings that are put together.
            return token.text[0] == "'" and "\\" not in token.text and "'" not in token.text[1:-1]
        case Kind.OPERATOR:
            return token.key in _PLAIN_OPERATORS
        case Kind.WORD:
            return token.text.isascii() and _is_plain_word(tokens, token, before, after)
    return False


def _is_plain_word(tokens: list[Token], token: Token, before: Token, after: Token) -> bool:
    if before.key == "." or (after.key == "." and token.key not in _OPENERS):
        return after.key != "("
    if token.key in _OTHER or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", token.text):
        return False
    if token.key == "DISTINCT" and after.key == "ON":
        return False
    if before.key == "AS" and after.key == ")" and token.key in _PLAIN_TYPES:
        return True
    if _ends_a_cast(tokens, token):
        return False
    if after.kind is Kind.STRING:  # a typed literal, or an alias
        return token.key in _OPENERS or token.key == "DATE"
    return after.key != "(" or token.key in _OPENERS or token.key in _PLAIN_FUNCTIONS


def _ends_a_cast(tokens: list[Token], token: Token) -> bool:
    """Whether a word is the type of a CAST."""
    index = tokens.index(token)
    if tokens[index - 1].key != "AS":
        return False
    depth = 0
    for place in range(index - 2, -1, -1):
        key = tokens[place].key
        depth += (key == ")") - (key == "(")
        if depth < 0:
            return place > 0 and tokens[place - 1].key == "CAST"
    return False


_SPARK_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]*+ | /\* .*? \*/ )
  | (?P<strings> (?P<raw>[rR])? (?: '(?:[^'\\]|\\.)*+' | "(?:[^"\\]|\\.)*+" ) )
  | (?P<quoted> `[^`]*+(?:``[^`]*+)*+` )
  | (?P<number> (?<![\w.]) (?P<digits> [0-9]++ (?:\.[0-9]*+)? (?:[eE][+-]?[0-9]++)? ) (?P<suffix> BD|[LlSsYyDdFf] ) \b )
  | (?P<equal> <=> | == )
  | (?P<over> / )
  | (?P<other> [\w]+ | \s+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_SPARK_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|([0-3][0-7]{2})|(.))", re.DOTALL)
_SPARK_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": "\0", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_SUFFIX_TYPES = {"L": "BIGINT", "S": "SMALLINT", "Y": "TINYINT", "D": "DOUBLE", "F": "FLOAT"}


def from_spark(text: str) -> str:
    """A query of Spark's as DataFusion reads it: quotes, literals, ``<=>`` and quotients, which have a fraction there.

    All else is left as it is, so functions that the two have under one name are DataFusion's.

    Args:
        text: The query.
    """
    pieces: list[str] = []
    last_value: str | None = None  # of the string that ends the pieces: strings side by side are one
    for match in _SPARK_TOKEN.finditer(text):
        found = match.group()
        kind = match.lastgroup
        if kind == "strings":
            value = found[2:-1] if match["raw"] else _SPARK_ESCAPE.sub(_unescape, found[1:-1])
            if last_value is not None:
                while pieces[-1].isspace():
                    pieces.pop()
                pieces.pop()
                value = last_value + value
            pieces.append("'" + value.replace("'", "''") + "'")
            last_value = value
            continue
        if not found.isspace():
            last_value = None
        if kind == "quoted":
            pieces.append(_identifier(found[1:-1].replace("``", "`")))
        elif kind == "number":
            suffix = match["suffix"].upper()
            digits = match["digits"]
            pieces.append(digits if suffix == "BD" else f"CAST({digits} AS {_SUFFIX_TYPES[suffix]})")
        elif kind == "equal":
            pieces.append(" IS NOT DISTINCT FROM " if found == "<=>" else "=")
        elif kind == "over":
            pieces.append("/ CAST(1 AS DOUBLE) /")
        else:
            pieces.append(found)
    return "".join(pieces)


def _identifier(text: str) -> str:
    """A name that Spark quotes, which stands for one without regard to case there."""
    is_word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None
    return text if is_word and text.upper() not in _NAMES_TO_QUOTE else quote_identifier(text)


def _unescape(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    if match[2]:
        return chr(int(match[2], 8))
    return _SPARK_LETTERS.get(match[3], match[3])


_NAMES_TO_QUOTE = _OTHER | keywords(
    """
    ALL AND ANY AS ASC BETWEEN BY CASE CAST CROSS DESC DISTINCT ELSE END EXCEPT EXISTS FALSE FROM FULL GROUP HAVING IN
    INNER INTERSECT INTO IS JOIN LEFT LIKE LIMIT NOT NULL ON OR OUTER PARTITION RIGHT SELECT SET THEN TRUE UNION USING
    WHEN WHERE WITH DATE DAY HOUR MINUTE MONTH SECOND YEAR USER
    """
)
