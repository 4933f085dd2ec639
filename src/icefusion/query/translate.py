"""DataFusion's errors -> errors of icefusion, in one place.

DataFusion tells its errors apart by the beginning of their text. Errors while planning are ValueErrors, those while
running plain Exceptions, and a bug in it is a ``PanicException``, which is not even an Exception.
"""

from __future__ import annotations

import re

from icefusion.errors import (
    BindError,
    ExecutionError,
    IcefusionError,
    OutOfMemoryError,
    ParseError,
    SQLError,
    StorageError,
    UnsupportedStatementError,
)
from icefusion.naming import nearest
from icefusion.sql.file_functions import FILE_FUNCTIONS
from icefusion.sql.function_names import INSTEAD
from icefusion.sql.references import render_position
from icefusion.sql.statements import Query

__all__ = ["is_engine_error", "translate"]

_NOISE = re.compile(
    r"(?:DataFusion error|External error|Error during planning|Schema error|SQL error|Execution error|"
    r"Arrow error|Parquet error|Parquet argument error|External|Object Store error|This feature is not implemented|"
    r"Optimizer rule '[^']*' failed|[a-z_]+\ncaused by|caused by|Compute error|Invalid argument error|Cast error|"
    r"Parser error|Internal error|Context): *\n*|"
    r"^(?:Optimizer rule '[^']*' failed|[a-z_]+)\ncaused by\n"
)
_POSITION = re.compile(r" at Line: (\d+), Column: (\d+)")
_PARSER = re.compile(r'ParserError\("(.*)"\)|TokenizerError\("(.*)"\)', re.DOTALL)
_TABLE = re.compile(r"table '([^']*)' not found")
_TABLE_FUNCTION = re.compile(r"table function '([^']*)' not found")
_FUNCTION = re.compile(r"Invalid function '([^']*)'")
_TYPE = re.compile(r"Unsupported SQL type ([A-Za-z_]\w*)\s*$")
_FIELD = re.compile(r"No field named ([^\n]*?)\.(?:\s|$)")
_VALID = re.compile(r"Valid fields are (.*?)\.?$", re.DOTALL | re.MULTILINE)
_SUGGESTION = re.compile(r"Did you mean '([^']*)'\?")
_CONSUMER = re.compile(r"(?:for|allocate[^\n]*?) ([A-Za-z]+(?:\[\d+\])?(?:#\d+)?)")
_PARQUET = re.compile(r"Parquet (?:[a-z]+ )?error:")
_MISSING_OBJECT = re.compile(r"Object at location (\S+) not found|No such file or directory")
_RAISED = re.compile(r"PyErr \{ type: <class '[^']*'>, value: \w+\('([^']*)'\), traceback")
_CONSUMERS = re.compile(r"([A-Z][A-Za-z]+)(?:\[\d+\])?#\d+")

MAX_VALID_NAMES = 12
_TABLE_FUNCTIONS = ("generate_series", "range", "unnest", *FILE_FUNCTIONS)


def is_engine_error(exc: BaseException) -> bool:
    """Whether an error is for `translate`: not one of ours, nor an interrupt or a request to stop."""
    if isinstance(exc, IcefusionError):
        return False
    return isinstance(exc, Exception) or type(exc).__name__ == "PanicException"


def translate(exc: BaseException, query: Query, *, planning: bool) -> IcefusionError:
    """The error to raise in the place of one that DataFusion raised.

    Args:
        exc: What was raised.
        query: The query, to find the place of the error in the text that the user gave.
        planning: Whether the query was still being planned. Types are checked late, so some of its errors come later.
    """
    text = str(exc)
    if type(exc).__name__ == "PanicException":
        return ExecutionError(f"the query engine failed: {_clean(text)}", hint="this is a bug; please report the query")
    if isinstance(exc, MemoryError) or "Resources exhausted" in text:
        return _out_of_memory(text)
    if raised := _RAISED.search(text):  # by a function of ours
        return ExecutionError(raised.group(1))
    if missing := _MISSING_OBJECT.search(text):
        return StorageError(f"a file is missing in storage: {_clean(text)}", path=missing.group(1))
    if "Object Store error" in text:
        return StorageError(f"storage failed: {_clean(text)}")
    if _PARQUET.search(text):
        return StorageError(f"a data file cannot be read: {_clean(text)}")
    if planning or "Error during planning" in text or "Schema error" in text:
        return _translate_planning(text, query)
    if "This feature is not implemented" in text:
        return UnsupportedStatementError(_clean(text))
    return ExecutionError(_clean(text))


def _translate_planning(text: str, query: Query) -> SQLError | ExecutionError:
    if match := _PARSER.search(text):
        return _parse_error(match.group(1) or match.group(2) or "", query)
    if match := _TABLE_FUNCTION.search(text):
        return _unknown_table_function(match.group(1), query)
    if match := _TABLE.search(text):
        return _unknown_table(match.group(1), query)
    if kind := _TYPE.search(text):
        offset = _find_word(kind.group(1), query)
        message = f"there is no type {kind.group(1)}"
        return BindError(message, sql=query.sql, offset=offset, hint="docs/sql.md lists the types")
    if "This feature is not implemented" in text or " not supported: " in text:
        return UnsupportedStatementError(_clean(text))
    if match := _FIELD.search(text):
        return _unknown_column(match.group(1), text, query)
    if "caused by" in text and "Error during planning" not in text:
        return ExecutionError(_clean(text))  # the optimizer computed a constant and failed, as in CAST('x' AS int)
    if (unknown := _FUNCTION.search(text)) is not None and unknown.group(1) in INSTEAD:
        message, hint = f"there is no function {unknown.group(1)}", INSTEAD[unknown.group(1)]
        return BindError(message, sql=query.sql, offset=_find_word(unknown.group(1), query), hint=hint)
    if unknown is not None:
        guess = _SUGGESTION.search(text)
        offset = _find_word(unknown.group(1), query)
        return BindError(
            f"there is no function {unknown.group(1)}",
            sql=query.sql,
            offset=offset,
            hint=None if guess is None else f"did you mean {guess.group(1)}?",
        )
    if suggestion := _SUGGESTION.search(text):
        message = _clean(text[: suggestion.start()]).rstrip()
        return BindError(message, hint=f"did you mean {suggestion.group(1)}?")
    return BindError(_clean(text))


def _parse_error(message: str, query: Query) -> ParseError:
    message = message.replace('\\"', '"').replace("\\n", "\n")
    offset = None
    if position := _POSITION.search(message):
        line, column = int(position.group(1)), int(position.group(2))
        message = message[: position.start()] + message[position.end() :]
        offset = _offset_in_sql(query, line, column)
    elif message.endswith("found: EOF"):
        message = message.removesuffix("EOF") + "the end of the statement"
        offset = render_position(query, len(query.text)) if query.sql else len(query.text)
    return ParseError(_lower_first(message.strip()), sql=query.sql or query.text, offset=offset)


def _offset_in_sql(query: Query, line: int, column: int) -> int:
    lines = query.text.splitlines(keepends=True)
    position = sum(len(text) for text in lines[: line - 1]) + column - 1
    return render_position(query, position) if query.sql else position


def _unknown_table(name: str, query: Query) -> BindError:
    short = name.rpartition(".")[2]
    offset = _find_word(short, query)
    return BindError(f"unknown table {_own_name(name)}", sql=query.sql, offset=offset)


def _unknown_table_function(name: str, query: Query) -> BindError:
    near = nearest(name, _TABLE_FUNCTIONS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(_TABLE_FUNCTIONS)}"
    return BindError(f"unknown table function {name}", sql=query.sql, offset=_find_word(name, query), hint=hint)


def _own_name(name: str) -> str:
    """A table's name without the catalog and schema that stand for "no catalog" and "no namespace"."""
    return ".".join(part for part in name.split(".") if not part.startswith("?"))


def _unknown_column(name: str, text: str, query: Query) -> BindError:
    valid = _VALID.search(text)
    names = [part.strip() for part in valid.group(1).split(",")] if valid else []
    plain = name.replace('"', "")
    by_plain = {candidate.replace('"', "").rpartition(".")[2]: candidate for candidate in names}
    hint = None
    if near := nearest(plain.rpartition(".")[2], by_plain):
        hint = f"did you mean {near}?"
    elif by_plain:
        more = ", ..." if len(by_plain) > MAX_VALID_NAMES else ""
        hint = f"there are {', '.join(list(by_plain)[:MAX_VALID_NAMES])}{more}"
    offset = _find_word(plain.rpartition(".")[2], query)
    return BindError(f"unknown column {plain}", sql=query.sql, offset=offset, hint=hint)


def _find_word(word: str, query: Query) -> int | None:
    """Where a name first stands in the user's text, if it stands there at all."""
    if not query.sql:
        return None
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", query.text, re.IGNORECASE)
    return None if found is None else render_position(query, found.start())


def _out_of_memory(text: str) -> OutOfMemoryError:
    consumers = _CONSUMERS.findall(text)
    operator = consumers[0] if consumers else "an operator"
    return OutOfMemoryError(
        f"the query ran out of memory in {operator}: {_clean(text)}",
        hint="raise memory_limit, or ask for less at once: fewer columns, a filter, a smaller side in the join",
    )


def _clean(text: str) -> str:
    text = text.partition("This issue was likely caused by a bug")[0].rstrip()
    previous = None
    while previous != text:
        previous, text = text, _NOISE.sub("", text)
    return _lower_first(text.replace("DataFusion's code", "the engine").strip())


def _lower_first(text: str) -> str:
    head = text[:2]
    return text[0].lower() + text[1:] if len(head) == 2 and head[0].isupper() and head[1].islower() else text
