"""The options of functions that read files, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from icefusion.bridge.schema import type_to_arrow
from icefusion.bridge.types_sql import sql_type_to_iceberg
from icefusion.errors import BindError, IcefusionError
from icefusion.naming import nearest
from icefusion.sql.column_types import parse_type
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.statements import FileFunction, FileKind, FileValue, Fragment, MappingValue, ParameterValue

__all__ = ["FileOptions", "read_options", "read_paths"]

_COMMON = ("filename", "hive_partitioning", "union_by_name")
_OF_CSV = ("header", "delim", "quote", "escape", "nullstr", "skip", "columns", "types", "all_varchar")
_OF_KIND: dict[FileKind, tuple[str, ...]] = {"parquet": (), "csv": _OF_CSV, "json": ("columns",), "arrow": ()}
_SAME = {
    "sep": "delim",
    "separator": "delim",
    "delimiter": "delim",
    "dtypes": "types",
    "null_string": "nullstr",
    "schema": "columns",
}


@dataclass(frozen=True)
class FileOptions:
    """How files are read.

    Attributes:
        filename: The column that tells the file of each row; None for no such column.
        hive_partitioning: Whether folders such as ``year=2024`` give columns; None to look.
        union_by_name: Whether files may have different columns.
        header: Whether the first line of a CSV file has the names.
        delim: What parts its values; None for a comma, or a tab in a ``.tsv`` file.
        quote: What its texts may stand in; empty for nothing.
        escape: What stands before a quote inside of quotes; empty where it is written twice.
        nulls: Texts that mean NULL.
        skip: How many lines to leave out at the beginning.
        columns: All columns, their types, in order; empty to look.
        types: The types of some columns.
        all_text: Whether all columns of CSV are text.
    """

    filename: str | None = None
    hive_partitioning: bool | None = None
    union_by_name: bool = False
    header: bool = True
    delim: str | None = None
    quote: str = '"'
    escape: str = ""
    nulls: tuple[str, ...] = ("",)
    skip: int = 0
    columns: Mapping[str, pa.DataType] = field(default_factory=dict)
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    all_text: bool = False


def read_paths(function: FileFunction, parameters: Mapping[str, pa.Scalar], place: Fragment, offset: int) -> list[str]:
    """The paths of a call.

    Raises:
        BindError: They are no texts.
    """
    value = _plain(function.paths, parameters)
    paths = list(value) if isinstance(value, list | tuple) else [value]
    if not paths or not all(isinstance(path, str) for path in paths):
        found = "an empty list" if not paths else next(repr(path) for path in paths if not isinstance(path, str))
        raise BindError(
            f"{function.called}: expected a path or a list of paths, found {found}",
            sql=place.sql or None,
            offset=offset,
            hint=f"{function.called}('folder/*.parquet') or {function.called}(['a', 'b'])",
        )
    return paths


def read_options(function: FileFunction, parameters: Mapping[str, pa.Scalar], place: Fragment) -> FileOptions:
    """The options of a call.

    Raises:
        BindError: There is no such option, or its value is of another kind.
    """
    known = (*_COMMON, *_OF_KIND[function.kind])
    options = FileOptions()
    for given in function.options:
        name = _SAME.get(given.name, given.name)
        try:
            if name not in known:
                near = nearest(given.name, [*known, *(word for word, same in _SAME.items() if same in known)])
                hint = f"did you mean {near}?" if near else f"options: {', '.join(known)}"
                raise BindError(f"{function.called} has no option {given.name}", hint=hint)
            options = replace(options, **_checked(name, given.name, _plain(given.value, parameters)))
        except IcefusionError as exc:
            raise BindError(exc.message, sql=place.sql or None, offset=given.offset, hint=exc.hint) from exc
    return options


def _plain(value: FileValue, parameters: Mapping[str, pa.Scalar]) -> Any:
    match value:
        case ParameterValue(name):
            return parameters[name].as_py()
        case MappingValue(items):
            return {name: _plain(item, parameters) for name, item in items}
        case tuple():
            return [_plain(item, parameters) for item in value]
    return value


def _checked(name: str, called: str, value: Any) -> dict[str, Any]:
    """The fields of `FileOptions` that an option sets."""
    match name:
        case "filename":
            if isinstance(value, str) and value:
                return {"filename": value}
            return {"filename": "filename" if _boolean(called, value) else None}
        case "hive_partitioning" | "union_by_name" | "header":
            return {name: _boolean(called, value)}
        case "all_varchar":
            return {"all_text": _boolean(called, value)}
        case "delim" | "quote" | "escape":
            return {name: _character(called, value, empty=name != "delim")}
        case "nullstr":
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in texts):
                raise _misfit(called, "a text or a list of texts", value)
            return {"nulls": tuple(texts)}
        case "skip":
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise _misfit(called, "a number of lines", value)
            return {"skip": value}
    if not isinstance(value, dict) or not value or not all(isinstance(item, str) for item in value.values()):
        raise _misfit(called, "columns with their types, as in {'id': 'bigint', 'name': 'string'}", value)
    return {name: {column: _type(called, column, text) for column, text in value.items()}}


def _boolean(called: str, value: Any) -> bool:
    if value in (0, 1):  # which is what True and False are
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _misfit(called, "true or false", value)


def _character(called: str, value: Any, *, empty: bool) -> str:
    if isinstance(value, str):
        text = "\t" if value == "\\t" else value
        if len(text.encode()) == 1 or (empty and not text):
            return text
    raise _misfit(called, "one ASCII character", value)


def _type(called: str, column: str, text: str) -> pa.DataType:
    cursor = Cursor(text, tokenize(text))
    parsed = parse_type(cursor)
    if cursor.token.kind is not Kind.END:
        raise _misfit(called, f"a type for {column}", text)
    return type_to_arrow(sql_type_to_iceberg(parsed, column=column), field_ids=False, column=column)


def _misfit(called: str, expected: str, found: Any) -> BindError:
    return BindError(f"option {called}: expected {expected}, found {found!r}")
