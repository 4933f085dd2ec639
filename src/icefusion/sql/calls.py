"""CALL of procedures, and SET and RESET of the options of a session."""

from __future__ import annotations

from icefusion.errors import SQLError
from icefusion.naming import fold_case, nearest, normalize
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_identifier, read_string
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import Argument, Call, ResetOption, SetOption

__all__ = ["OPTIONS", "parse_call", "parse_reset", "parse_set"]

OPTIONS = ("wap.id", "wap.branch")
"""What SET knows. Both are for write-audit-publish, and named as Spark names them, who writes ``spark.wap.id``."""

_GIVEN_AT_CONNECT = "other options are given when the session is opened: icefusion.connect(...)"
_LEVELS = ("SESSION", "LOCAL", "GLOBAL")


def parse_call(cursor: PieceCursor) -> Call:
    """The statement whose CALL the cursor stands behind: ``[catalog.]system.procedure(value, name => value, ...)``.

    Raises:
        ParseError: it does not read as CALL, an argument is given twice, or one without a name follows one with a name.
    """
    name = cursor.name("the name of a procedure")
    if not cursor.at("("):
        raise cursor.unexpected("'(' and the arguments", hint=f"write CALL {name}(...)")
    cursor.take()
    arguments: list[Argument] = []
    while not cursor.at(")") and cursor.token.kind is not Kind.END:
        arguments.append(_parse_argument(cursor, arguments))
        if not cursor.accept(","):
            break
        if cursor.at(")"):
            raise cursor.unexpected("another argument")
    cursor.expect(")", "',' or ')'")
    cursor.expect_end()
    return Call(name, tuple(arguments))


def parse_set(cursor: Cursor) -> SetOption:
    """The statement whose SET the cursor stands behind: ``option = value``.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: there is no such option.
    """
    begin = cursor.token
    option = _parse_option(cursor, "SET")
    if not (cursor.accept("=") or cursor.accept("TO")):
        raise cursor.unexpected(f"'=' and the value of {option}")
    token = cursor.token
    if token.kind is Kind.STRING:
        value = read_string(cursor.take())
    elif token.kind in (Kind.WORD, Kind.NUMBER) and cursor.ahead().kind is Kind.END:
        value = cursor.take().text
    else:
        raise cursor.unexpected(f"the value of {option} as a string")
    cursor.expect_end()
    if not value:
        raise cursor.error(f"{option} cannot be empty", token=token, hint=f"write RESET {option}")
    return SetOption(option, value, begin.start)


def parse_reset(cursor: Cursor) -> ResetOption:
    """The statement whose RESET the cursor stands behind: ``option``.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: there is no such option.
    """
    begin = cursor.token
    option = _parse_option(cursor, "RESET")
    cursor.expect_end()
    return ResetOption(option, begin.start)


def _parse_argument(cursor: PieceCursor, others: list[Argument]) -> Argument:
    begin = cursor.token
    name = None
    if begin.kind in (Kind.WORD, Kind.QUOTED):
        arrow = cursor.ahead(), cursor.ahead(2)
        if arrow[0].key == "=" and arrow[1].key == ">" and arrow[0].end == arrow[1].start:
            name = read_identifier(begin)
            cursor.index += 3
        elif arrow[0].key == "=" or (arrow[0].key == ":" and arrow[1].key == "="):
            cursor.take()
            hint = f"write {begin.text} => ..."
            raise cursor.unexpected("'=>' behind the name of an argument", hint=hint)
    if name is None and others and others[-1].name is not None:
        hint = f"write it as name => value, or put it before {others[0].name or others[-1].name}"
        raise cursor.error("an argument without a name follows one with a name", token=begin, hint=hint)
    if name is not None and any(o.name is not None and normalize(o.name) == normalize(name) for o in others):
        raise cursor.error(f"argument {name} is given twice", token=begin)
    return Argument(cursor.constant("a value"), name, begin.start)


def _parse_option(cursor: Cursor, verb: str) -> str:
    if cursor.at(*_LEVELS) and cursor.ahead().kind is Kind.WORD:
        cursor.take()
    begin = cursor.token
    if begin.kind not in (Kind.WORD, Kind.QUOTED):
        raise cursor.unexpected(f"an option: {' or '.join(OPTIONS)}")
    name = fold_case(".".join(part.text for part in cursor.name("an option").parts))
    known = name.removeprefix("spark.")
    if known in OPTIONS:
        return known
    raise _unknown_option(cursor, verb, name, begin.start)


def _unknown_option(cursor: Cursor, verb: str, name: str, offset: int) -> SQLError:
    guess = nearest(name.removeprefix("spark."), OPTIONS)
    hint = f"did you mean {guess}?" if guess else f"there are {' and '.join(OPTIONS)}; {_GIVEN_AT_CONNECT}"
    token = next(token for token in cursor.tokens if token.start == offset)
    return cursor.unsupported(f"there is no option {name} to {verb}", hint, token=token)
