"""Tables that are files: ``read_parquet('data/*.parquet')`` in a FROM clause, or the name of a file as a string.

Only what is written is read here: which function, which paths and options. They may be literals and parameters, as
nothing of a query is known before its tables are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from icefusion.naming import fold_case
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string
from icefusion.sql.statements import (
    FileFunction,
    FileKind,
    FileOption,
    FileValue,
    Identifier,
    MappingValue,
    Name,
    ParameterValue,
)

__all__ = ["FILE_FUNCTIONS", "file_by_name", "read_file_function"]

FILE_FUNCTIONS: dict[str, FileKind] = {
    "read_parquet": "parquet",
    "parquet_scan": "parquet",
    "read_csv": "csv",
    "read_csv_auto": "csv",
    "read_json": "json",
    "read_json_auto": "json",
    "read_ndjson": "json",
    "read_ndjson_auto": "json",
    "read_arrow": "arrow",
    "read_ipc": "arrow",
}
"""The functions, and the format that each of them reads."""

_SUFFIXES: dict[str, FileKind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")
_MAX_DEPTH = 4

TakeParameter = Callable[[], str]


def read_file_function(cursor: Cursor, name: Name, begin: int, take_parameter: TakeParameter) -> FileFunction:
    """The call whose arguments begin at the cursor, stepping over them.

    Args:
        cursor: Stands at the parenthesis behind the function's name.
        name: The name of one of `FILE_FUNCTIONS`.
        begin: Where the call begins in the text.
        take_parameter: Gives the name of the parameter that the cursor stands at, and steps over it.

    Raises:
        ParseError: The arguments are no literals and parameters, or there is no path.
    """
    called = fold_case(name.parts[-1].text)
    cursor.expect("(")
    paths: list[FileValue] = []
    options: list[FileOption] = []
    taken: list[str] = []

    def take() -> str:
        taken.append(take_parameter())
        return taken[-1]

    while not cursor.at(")"):
        token = cursor.token
        option = _read_option_name(cursor)
        value = _read_value(cursor, take, 0)
        if option is not None:
            if any(option == other.name for other in options):
                raise cursor.error(f"option {option} is given twice", token=token)
            options.append(FileOption(option, value, token.start))
        elif paths or options:
            hint = f"several files stand in a list: {called}(['a', 'b']); options have names: {called}('a', name = 1)"
            raise cursor.error("expected an option with its name", token=token, hint=hint)
        else:
            paths.append(value)
        if not cursor.accept(","):
            break
    if not paths:
        raise cursor.error(f"{called} needs a path", hint=f"{called}('folder/*.parquet') or {called}(['a', 'b'])")
    end = cursor.expect(")", "',' or ')'").end
    # A question mark alone does not tell which parameter it is.
    key = " ".join([*cursor.sql[begin:end].split(), *(f"${name}" for name in taken)])
    return FileFunction(FILE_FUNCTIONS[called], called, paths[0], tuple(options), f"?{key}?")


def file_by_name(cursor: Cursor) -> tuple[Name, FileFunction]:
    """The file that the string at the cursor names, stepping over it, and what it goes by in the query.

    Raises:
        UnsupportedStatementError: Its name does not tell its format.
    """
    token = cursor.token
    path = read_string(token)
    parts = PurePosixPath(path.replace("\\", "/"))
    suffixes = [suffix.lower() for suffix in parts.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    kind = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None:
        hint = (
            "call what reads it: read_parquet, read_csv, read_json or read_arrow; a table's name has no single quotes"
        )
        raise cursor.unsupported("the name of this file does not tell its format", hint)
    cursor.take()
    stem = parts.name.split(".", 1)[0] or parts.name
    return Name((Identifier(stem, True),), token.start), FileFunction(kind, token.text, path, (), f"?{token.text}?")


def _read_option_name(cursor: Cursor) -> str | None:
    if cursor.token.kind is not Kind.WORD:
        return None
    for operator in (("=", ">"), (":", "="), ("=",)):
        if all(cursor.ahead(1 + place).key == key for place, key in enumerate(operator)):
            name = fold_case(cursor.take().text)
            cursor.index += len(operator)
            return name
    return None


def _read_value(cursor: Cursor, take_parameter: TakeParameter, depth: int) -> FileValue:
    token = cursor.token
    if depth > _MAX_DEPTH:
        raise cursor.error("this value is nested too deep")
    if token.kind is Kind.STRING:
        return read_string(cursor.take())
    if token.kind is Kind.PARAMETER:
        return ParameterValue(take_parameter())
    if token.kind is Kind.NUMBER or (token.key == "-" and cursor.ahead().kind is Kind.NUMBER):
        sign = -1 if cursor.accept("-") else 1
        text = cursor.take().text
        return sign * (int(text) if text.isdecimal() and len(text) < 19 else float(text))
    if token.key in ("TRUE", "FALSE"):
        return cursor.take().key == "TRUE"
    if cursor.accept("ARRAY") and not cursor.at("["):
        raise cursor.unexpected("'['")
    if cursor.accept("["):
        return _read_list(cursor, take_parameter, depth)
    if cursor.accept("{"):
        return _read_mapping(cursor, take_parameter, depth)
    hint = "the tables of a query are found before it runs; expressions cannot be computed here"
    raise cursor.unexpected("a literal or a parameter", hint=hint)


def _read_list(cursor: Cursor, take_parameter: TakeParameter, depth: int) -> tuple[FileValue, ...]:
    items: list[FileValue] = []
    while not cursor.at("]"):
        items.append(_read_value(cursor, take_parameter, depth + 1))
        if not cursor.accept(","):
            break
    cursor.expect("]", "',' or ']'")
    return tuple(items)


def _read_mapping(cursor: Cursor, take_parameter: TakeParameter, depth: int) -> FileValue:
    items: list[tuple[str, FileValue]] = []
    while not cursor.at("}"):
        token = cursor.token
        name = cursor.string("a name") if token.kind is Kind.STRING else cursor.identifier("a name").text
        cursor.expect(":")
        items.append((name, _read_value(cursor, take_parameter, depth + 1)))
        if not cursor.accept(","):
            break
    cursor.expect("}", "',' or '}'")
    return MappingValue(tuple(items))
