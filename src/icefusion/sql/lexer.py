"""Text to tokens with character offsets, as DataFusion's generic dialect cuts it.

Where the two disagreed on where a string or a comment ends, a ``;`` or a table name inside it would be taken for SQL
by one of them. So this follows the engine to the letter in what opens and closes things: ``''`` doubles a quote and a
backslash does nothing, except in ``E'..'``; ``$tag$..$tag$`` is a string; comments nest; a line comment ends at a line
feed and nowhere else. Literals that the engine cuts in a way of its own and then refuses (``N'..'``, ``R'..'``,
``Q'[..]'``...) are refused here at once. Operators are single characters, except ``::``.

Each token is matched once, by one regular expression without backtracking, so the time is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from typing import NamedTuple

from icefusion.errors import ParseError, UnsupportedStatementError
from icefusion.sql.statements import Identifier

__all__ = ["Kind", "Token", "keywords", "read_identifier", "read_string", "tokenize"]


class Kind(Enum):
    """What a token is."""

    WORD = "word"
    QUOTED = "quoted identifier"
    STRING = "string"
    NUMBER = "number"
    OPERATOR = "operator"
    PARAMETER = "parameter"
    END = "end"


class Token(NamedTuple):
    """One token: a tuple and no dataclass, because a long VALUES list makes millions of them.

    Attributes:
        kind: What it is.
        text: As written.
        key: What to compare with: a word in upper case, an operator as it is, else an empty string.
        start: Where it begins in the text, in characters.
        end: Where it ends.
    """

    kind: Kind
    text: str
    key: str
    start: int
    end: int


# Everything beyond ASCII that is no space counts as a letter here; `_check_letters` then tells which really are.
_WORD = r"(?:[A-Za-z_]|[^\x00-\x7f])(?:[A-Za-z0-9_@$#]|[^\x00-\x7f\s])*+"

_TOKEN = re.compile(
    rf"""
    (?P<space>  \s++ | --[^\n]*+ )
  | (?P<comment> /\* )
  | (?P<string> (?:[xX])?' [^']*+ (?:''[^']*+)*+ ' )
  | (?P<escaped> [eE]' (?:[^'\\]|\\.|'')*+ ' )
  | (?P<refused> (?:[nNbBrRqQ]|[nN][qQ]|[uU]&)' | [rRbB]" )
  | (?P<unclosed> [xXeE]?' )
  | (?P<number> [0-9]++ (?:\.[0-9]*+)? (?:[eE][+-]?[0-9]++)? | \.[0-9]++ (?:[eE][+-]?[0-9]++)? )
  | (?P<word>   {_WORD} | [@#](?:[A-Za-z0-9_@$#]|[^\x00-\x7f\s])++ )
  | (?P<quoted> "[^"]*+(?:""[^"]*+)*+" | `[^`]*+(?:``[^`]*+)*+` )
  | (?P<dollar> \$ (?P<tag> \w*+ ) \$ )
  | (?P<parameter> \$\w++ | \? )
  | (?P<operator> :: | [-+*/%=<>!~|&^(){{}}\[\],.;:@\#\\] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_KINDS = {
    "string": Kind.STRING,
    "escaped": Kind.STRING,
    "number": Kind.NUMBER,
    "word": Kind.WORD,
    "quoted": Kind.QUOTED,
    "parameter": Kind.PARAMETER,
    "operator": Kind.OPERATOR,
}
_SMART_QUOTES = "‘’‚‛“”„‟´"
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))|''", re.DOTALL)
_ESCAPED_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def tokenize(text: str) -> list[Token]:
    """The tokens of ``text``, comments and white space left out, closed by one of kind END.

    Raises:
        ParseError: a string, a quoted identifier or a comment has no end (the error points at its beginning), or a
            character has no meaning in SQL.
        UnsupportedStatementError: a kind of string literal that the engine does not know.
    """
    tokens: list[Token] = []
    position, size = 0, len(text)
    while position < size:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text, position)
        group, end = match.lastgroup or "", match.end()
        if group == "comment":
            end = _end_of_comment(text, position)
        elif group != "space":
            if group in ("tag", "dollar"):
                end = _end_of_dollar_string(text, match)
                group = "string"
            elif group == "unclosed":
                raise _unreadable(text, position)
            elif group == "refused":
                raise _refused_literal(text, position, match.group())
            elif group == "number" and _continues_name(tokens, text, position):
                group, end = "operator", position + 1
            token_text = text[position:end]
            key = token_text if group == "operator" else ""
            if group == "word":
                if not token_text.isascii():
                    _check_letters(text, position, end)
                key = token_text.upper()
            tokens.append(Token(_KINDS[group], token_text, key, position, end))
        position = end
    tokens.append(Token(Kind.END, "", "", size, size))
    return tokens


def keywords(text: str) -> frozenset[str]:
    """The words of ``text`` as a set, to compare the keys of tokens with."""
    return frozenset(text.split())


def read_identifier(token: Token) -> Identifier:
    """The identifier that a token of kind WORD or QUOTED is."""
    if token.kind is Kind.QUOTED:
        quote = token.text[0]
        return Identifier(token.text[1:-1].replace(quote * 2, quote), quoted=True)
    return Identifier(token.text)


def read_string(token: Token) -> str:
    """The value of a token of kind STRING, its quotes taken off and its escapes resolved."""
    text = token.text
    if text.startswith("$"):
        tag_size = text.index("$", 1) + 1
        return text[tag_size:-tag_size]
    if text[0] in "eE":
        return _ESCAPE.sub(_unescape, text[2:-1])
    return text[text.index("'") + 1 : -1].replace("''", "'")


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code or match[4]:
        point = int(code, 16) if code else int(match[4], 8)
        return chr(point) if point <= 0x10FFFF else "\ufffd"
    return _ESCAPED_LETTERS.get(match[5], match[5]) if match[5] else "'"


def _end_of_comment(text: str, start: int) -> int:
    depth = 0
    for match in _COMMENT.finditer(text, start):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    raise ParseError("this comment has no end", sql=text, offset=start, hint="close it with */; comments nest")


def _end_of_dollar_string(text: str, match: re.Match[str]) -> int:
    delimiter = match.group()
    end = text.find(delimiter, match.end())
    if end < 0:
        hint = f"close it with {delimiter}"
        raise ParseError("this string has no end", sql=text, offset=match.start(), hint=hint)
    return end + len(delimiter)


def _continues_name(tokens: list[Token], text: str, position: int) -> bool:
    """Whether a number that begins with a point is really the point of a name, as in ``t.1``."""
    if text[position] != "." or not tokens or tokens[-1].end != position:
        return False
    return tokens[-1].kind in (Kind.WORD, Kind.QUOTED) or tokens[-1].key in (")", "]")


def _check_letters(text: str, start: int, end: int) -> None:
    for position in range(start, end):
        letter = text[position]
        if letter.isascii() or letter.isalpha() or unicodedata.category(letter) in ("Mn", "Mc", "Nl"):
            continue
        raise _unreadable(text, position)


def _unreadable(text: str, position: int) -> ParseError:
    character = text[position]
    if character == "'" or text[position : position + 2] in ("e'", "E'", "x'", "X'"):
        cure = "close it with '; a quote inside it is written twice"
        return ParseError("this string has no end", sql=text, offset=position, hint=cure)
    if character in '"`':
        cure = f"close it with {character}; a string value stands in single quotes"
        return ParseError("this quoted identifier has no end", sql=text, offset=position, hint=cure)
    shown = f"{character!r} (U+{ord(character):04X})" if not character.isascii() else repr(character)
    hint: str | None = None
    if character in _SMART_QUOTES:
        hint = "strings stand in straight quotes: 'text'"
    elif character == "$":
        hint = "a parameter has a name or a number behind the $: $name, $1"
    return ParseError(f"the character {shown} has no meaning here", sql=text, offset=position, hint=hint)


def _refused_literal(text: str, position: int, opening: str) -> UnsupportedStatementError:
    hint = "write '...' with quotes doubled, E'...' with backslash escapes, or $$...$$ as it is"
    message = f"literals of the form {opening}...{opening[-1]} are not supported"
    return UnsupportedStatementError(message, sql=text, offset=position, hint=hint)
