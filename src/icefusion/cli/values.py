"""Arrow columns as plain values, for whatever prints or stores text.

What JSON knows stays what it is. Everything else becomes the text that ISO 8601 or custom gives it: dates, times and
timestamps (UTC ones with a ``Z``), decimals with all their digits, bytes in hexadecimal. Nothing is rounded.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

__all__ = ["is_number", "plain_values", "to_json"]


def plain_values(array: pa.Array) -> list[Any]:
    """The values of a column as None, bool, int, float, str, list and dict.

    Structs are dicts; maps are dicts whose keys are text.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _extension(array)
    if pat.is_dictionary(kind):
        return plain_values(array.dictionary_decode())
    if pat.is_run_end_encoded(kind):
        return plain_values(pc.run_end_decode(array))
    if pat.is_map(kind):
        return _map(array)
    if pat.is_fixed_size_list(kind) or pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return plain_values(array.cast(pa.large_list(kind.value_field)))
    if pat.is_list(kind) or pat.is_large_list(kind):
        items = plain_values(array.values)
        return _by_offsets(array, lambda start, end: items[start:end])
    if pat.is_struct(kind):
        return _struct(array)
    return _leaf(array)


def to_json(value: Any) -> str:
    """One line of JSON for a plain value. What JSON has no number for is text: ``"nan"``, ``"inf"``."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False)


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are read best when they stand at the right."""
    return bool(pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind))


def _extension(array: pa.ExtensionArray) -> list[Any]:
    if array.type.extension_name == "arrow.uuid":
        return [None if value is None else str(value) for value in array.to_pylist()]
    return plain_values(array.storage)


def _map(array: pa.MapArray) -> list[Any]:
    keys = [key if isinstance(key, str) else to_json(key) for key in plain_values(array.keys)]
    items = plain_values(array.items)
    return _by_offsets(array, lambda start, end: dict(zip(keys[start:end], items[start:end], strict=True)))


def _by_offsets(array: pa.Array, piece: Any) -> list[Any]:
    offsets = array.offsets.to_pylist()
    present = array.is_valid().to_pylist()
    return [piece(offsets[row], offsets[row + 1]) if present[row] else None for row in range(len(array))]


def _struct(array: pa.StructArray) -> list[Any]:
    names = [field.name for field in array.type]
    columns = [plain_values(child) for child in array.flatten()]
    present = array.is_valid().to_pylist()
    return [
        {name: column[row] for name, column in zip(names, columns, strict=True)} if present[row] else None
        for row in range(len(array))
    ]


def _leaf(array: pa.Array) -> list[Any]:
    kind = array.type
    if pat.is_timestamp(kind):
        instants = array if kind.tz is None else array.cast(pa.timestamp(kind.unit, "UTC"))
        return [None if text is None else _trimmed(text.replace(" ", "T", 1)) for text in _texts(instants)]
    if pat.is_time(kind):
        return [None if text is None else _trimmed(text) for text in _texts(array)]
    if pat.is_date(kind):
        return [None if text is None else text[:10] for text in _texts(array)]
    values = array.to_pylist()
    if pat.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in values]
    if pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_fixed_size_binary(kind) or pat.is_binary_view(kind):
        return [None if value is None else value.hex() for value in values]
    return [value if value is None or isinstance(value, (bool, int, float, str)) else str(value) for value in values]


def _texts(array: pa.Array) -> list[str | None]:
    texts: list[str | None] = array.cast(pa.string()).to_pylist()
    return texts


def _trimmed(text: str) -> str:
    """``10:00:00.120000Z`` as ``10:00:00.12Z``, ``10:00:00.000000`` as ``10:00:00``."""
    body, dot, fraction = text.partition(".")
    if not dot:
        return text
    zone = "Z" if fraction.endswith("Z") else ""
    digits = fraction.removesuffix("Z").rstrip("0")
    return f"{body}.{digits}{zone}" if digits else body + zone


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return str(value)
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value
