"""Dates, times, timestamps, and what text stands for, exactly or not at all.

Every temporal Arrow type counts ticks of one length, so all of them meet in one function: ticks of one length into
ticks of another, refusing what overflows and what would lose a part. Text is read in one form per type, ISO 8601's;
pyarrow's parser does the work, and a pattern in front of it keeps out what it would read too generously.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icefusion.bridge.exact import Cast, MisfitError, cast_or_find, null_mask, raise_first, show_value, values_or_zero

__all__ = ["binary_to_fixed", "fixed_to_uuid", "retick", "text_to_temporal", "text_to_uuid", "tick_ns"]

_DAY_NS = 86_400 * 10**9
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

_DATE = r"\d{4}-\d{2}-\d{2}"
_TIME = r"\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_ZONE = r"(Z|[+-](0\d|1[0-8])(:?[0-5]\d)?)"
_FORMS = {
    "date": (rf"^{_DATE}$", "YYYY-MM-DD"),
    "time": (rf"^{_TIME}$", "hh:mm:ss.ffffff"),
    "timestamp": (rf"^{_DATE}([ T]{_TIME})?$", "YYYY-MM-DDThh:mm:ss.ffffff without a zone"),
    "timestamptz": (rf"^{_DATE}[ T]{_TIME}{_ZONE}$", "YYYY-MM-DDThh:mm:ss.ffffff with a zone, Z or +hh:mm"),
}
_UUID = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"

# The years that ISO 8601 writes with four digits, less the year 0, in microseconds and in days since 1970.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_FIRST_US, _LAST_US = _FIRST_DAY * 86_400_000_000, (_LAST_DAY + 1) * 86_400_000_000 - 1


def tick_ns(arrow_type: pa.DataType) -> int:
    """The length of what a date, time or timestamp type counts, in nanoseconds."""
    if pa.types.is_date32(arrow_type):
        return _DAY_NS
    return 10**6 if pa.types.is_date64(arrow_type) else _UNIT_NS[arrow_type.unit]


def retick(source: pa.DataType, target: pa.DataType) -> Cast:
    """Ticks into ticks of another length, between any two temporal types; zones are not looked at."""
    source_ns, target_ns = tick_ns(source), tick_ns(target)
    if pa.types.is_time(target):
        low, high = 0, _DAY_NS // target_ns - 1
    else:
        low, high = (-(2**31), 2**31 - 1) if pa.types.is_date32(target) else (-(2**63), 2**63 - 1)

    def cast(array: pa.Array) -> pa.Array:
        bits = pa.int32() if source.bit_width == 32 else pa.int64()
        ticks = values_or_zero(array.view(bits)).astype(np.int64)
        if source_ns >= target_ns:
            factor = source_ns // target_ns
            least, most = -(-low // factor), high // factor
            raise_first(array, (ticks < least) | (ticks > most), "is out of range")
            ticks = ticks * factor
        else:
            ticks, rest = np.divmod(ticks, target_ns // source_ns)
            raise_first(array, rest != 0, f"has a part finer than a {_tick_name(target)}")
            raise_first(array, (ticks < low) | (ticks > high), "is out of range")
        plain = ticks.astype(np.int32) if target.bit_width == 32 else ticks
        return pa.array(plain, mask=null_mask(array)).view(target)

    return cast


def text_to_temporal(kind: str, target: pa.DataType) -> Cast:
    """Text in ISO 8601 form into a date, time, timestamp or timestamptz of the years 0001 to 9999.

    Args:
        kind: ``date``, ``time``, ``timestamp`` or ``timestamptz``.
        target: The Arrow type to return; timestamps of nanoseconds take text down to microseconds.
    """
    pattern, form = _FORMS[kind]
    parsed_type = pa.timestamp("us", tz=target.tz) if pa.types.is_timestamp(target) else pa.timestamp("us")
    low, high = (_FIRST_DAY, _LAST_DAY) if kind == "date" else (_FIRST_US, _LAST_US)
    problem = "is no day of the calendar" if kind == "date" else "does not exist, or is finer than a microsecond"

    def parse(text: pa.Array) -> pa.Array:
        if kind == "date":
            return text.cast(target)
        if kind == "time":  # which pyarrow does not parse
            text = pc.binary_join_element_wise("1970-01-01T", text, "")
        try:
            return text.cast(parsed_type)
        except pa.ArrowInvalid:  # digits past the microsecond are fine as long as they are zeros
            return pc.replace_substring_regex(text, r"(\.\d{6})0+", r"\1").cast(parsed_type)

    def cast(array: pa.Array) -> pa.Array:
        text = array.cast(pa.string())
        _require_pattern(text, pattern, f"is not of the form {form}")
        parsed = cast_or_find(text, parse, problem)
        counts = values_or_zero(parsed.view(pa.int32() if kind == "date" else pa.int64()))
        raise_first(text, (counts < low) | (counts > high), "is outside of the years 0001 to 9999")
        if kind == "date":
            return parsed
        if kind == "time":
            return parsed.view(pa.int64()).view(target)
        return parsed if parsed.type == target else retick(parsed.type, target)(parsed)

    return cast


def text_to_uuid(array: pa.Array) -> pa.Array:
    """The 32 hexadecimal digits of a UUID, with or without its hyphens, into ``arrow.uuid``."""
    text = array.cast(pa.string())
    _require_pattern(text, _UUID, "is not a UUID")
    digits = pc.replace_substring(pc.fill_null(text, "0" * 32), "-", "")
    offsets = np.frombuffer(digits.buffers()[1], np.int32)[digits.offset : digits.offset + len(digits) + 1]
    hexadecimal = digits.buffers()[2].to_pybytes()[offsets[0] : offsets[-1]] if len(digits) else b""
    raw = np.frombuffer(bytes.fromhex(hexadecimal.decode()), "V16")
    values = pa.Array.from_buffers(pa.binary(16), len(raw), [None, pa.py_buffer(raw)])
    if text.null_count:
        values = pc.if_else(text.is_valid(), values, pa.scalar(None, values.type))
    return pa.ExtensionArray.from_storage(pa.uuid(), values)


def fixed_to_uuid(array: pa.Array) -> pa.Array:
    """16 bytes each into ``arrow.uuid``."""
    return pa.ExtensionArray.from_storage(pa.uuid(), array)


def binary_to_fixed(target: pa.DataType) -> Cast:
    """Bytes of any length into a fixed one, if all have that length."""

    def cast(array: pa.Array) -> pa.Array:
        plain = array.cast(pa.binary())
        lengths = values_or_zero(pc.binary_length(plain))
        raise_first(plain, lengths != target.byte_width, f"is not {target.byte_width} bytes long")
        return plain.cast(target)

    return cast


def _require_pattern(text: pa.Array, pattern: str, reason: str) -> None:
    first = pc.index(pc.match_substring_regex(text, pattern), pa.scalar(False)).as_py()
    if first >= 0:
        raise MisfitError(first, show_value(text, first), reason)


def _tick_name(arrow_type: pa.DataType) -> str:
    if pa.types.is_date(arrow_type):
        return "day"
    return {"s": "second", "ms": "millisecond", "us": "microsecond", "ns": "nanosecond"}[arrow_type.unit]
