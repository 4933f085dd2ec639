"""Thrift's compact protocol, in which Parquet's footers, page headers and page indexes are written.

A struct is read without knowing what it means, into its fields by number with their types, and written again from
them. So what this version of icefusion knows nothing of comes through unchanged. Where a field's meaning is known is
`icefusion.write.encoded`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BINARY",
    "BOOL",
    "DOUBLE",
    "I16",
    "I32",
    "I64",
    "LIST",
    "MAP",
    "SET",
    "STRUCT",
    "Struct",
    "ThriftError",
    "read_struct",
    "write_struct",
]

BOOL, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)

Struct = dict[int, tuple[int, Any]]
"""Fields by number: the type of each, and its value. A list is the type of its elements and the elements."""

_FIXED = {BYTE: 1, DOUBLE: 8, UUID: 16}
MAX_DEPTH = 32


class ThriftError(ValueError):
    """Bytes that are no struct."""


def read_struct(data: bytes, offset: int = 0) -> tuple[Struct, int]:
    """Read a struct.

    Args:
        data: Where it is.
        offset: Where it begins there.

    Returns:
        The struct, and where it ends.

    Raises:
        ThriftError: There is none.
    """
    try:
        return _Reader(data).struct(offset, 0)
    except (IndexError, KeyError) as exc:
        raise ThriftError(f"a struct is cut off, or was never one: {exc}") from exc


def write_struct(struct: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def struct(self, at: int, depth: int) -> tuple[Struct, int]:
        if depth > MAX_DEPTH:
            raise ThriftError("structs are nested too deeply")
        fields: Struct = {}
        number = 0
        while True:
            head = self._data[at]
            at += 1
            if head == 0:
                return fields, at
            if head >> 4:
                number += head >> 4
            else:
                number, at = self._zigzag(at)
            kind = head & 0x0F
            if kind in (BOOL, FALSE):
                fields[number] = BOOL, kind == BOOL
            else:
                value, at = self._value(kind, at, depth)
                fields[number] = kind, value

    def _value(self, kind: int, at: int, depth: int) -> tuple[Any, int]:
        match kind:
            case 5 | 6 | 4:  # I32, I64, I16
                return self._zigzag(at)
            case 8:  # BINARY
                length, at = self._varint(at)
                return self._bytes(at, length), at + length
            case 12:  # STRUCT
                return self.struct(at, depth + 1)
            case 9 | 10:  # LIST, SET
                return self._list(at, depth)
            case 11:  # MAP
                return self._map(at, depth)
            case 1 | 2:  # a bool that is an element
                return self._data[at] == BOOL, at + 1
        length = _FIXED[kind]
        return self._bytes(at, length), at + length

    def _list(self, at: int, depth: int) -> tuple[tuple[int, list[Any]], int]:
        head = self._data[at]
        at += 1
        kind, length = head & 0x0F, head >> 4
        if length == 15:
            length, at = self._varint(at)
        values = []
        for _ in range(length):
            value, at = self._value(kind, at, depth + 1)
            values.append(value)
        return (kind, values), at

    def _map(self, at: int, depth: int) -> tuple[tuple[int, list[tuple[Any, Any]]], int]:
        length, at = self._varint(at)
        kinds = 0
        if length:
            kinds = self._data[at]
            at += 1
        pairs = []
        for _ in range(length):
            key, at = self._value(kinds >> 4, at, depth + 1)
            value, at = self._value(kinds & 0x0F, at, depth + 1)
            pairs.append((key, value))
        return (kinds, pairs), at

    def _bytes(self, at: int, length: int) -> bytes:
        found = self._data[at : at + length]
        if len(found) != length:
            raise ThriftError("a struct is cut off")
        return found

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise ThriftError("a number is too long")

    def _zigzag(self, at: int) -> tuple[int, int]:
        value, at = self._varint(at)
        return (value >> 1) ^ -(value & 1), at


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number in sorted(struct):
        kind, value = struct[number]
        code = (BOOL if value else FALSE) if kind == BOOL else kind
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | code)
        else:
            out.append(code)
            _write_zigzag(out, number)
        last = number
        if kind != BOOL:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    match kind:
        case 5 | 6 | 4:  # I32, I64, I16
            _write_zigzag(out, value)
        case 8:  # BINARY
            _write_varint(out, len(value))
            out += value
        case 12:  # STRUCT
            _write_struct(out, value)
        case 9 | 10:  # LIST, SET
            element, values = value
            if len(values) < 15:
                out.append(len(values) << 4 | element)
            else:
                out.append(0xF0 | element)
                _write_varint(out, len(values))
            for each in values:
                _write_value(out, element, each)
        case 11:  # MAP
            kinds, pairs = value
            _write_varint(out, len(pairs))
            if pairs:
                out.append(kinds)
            for key, each in pairs:
                _write_value(out, kinds >> 4, key)
                _write_value(out, kinds & 0x0F, each)
        case 1 | 2:  # a bool that is an element
            out.append(BOOL if value else FALSE)
        case _:
            out += value


def _write_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _write_zigzag(out: bytearray, value: int) -> None:
    _write_varint(out, (value << 1) if value >= 0 else ((-value << 1) - 1))
