"""Records out of an Avro file, quickly: what manifests and manifest lists are read with.

PyIceberg resolves the schema that a file was written with against the one that is wanted, and the result is a tree of
readers. Two things cost it most: it does that for each file anew, though thousands of manifests have one schema, and it
walks the tree for each value. Here a tree is made once for each schema, and turned into one function for each field,
over the same compiled decoder.

That decoder does two things wrong that are put right here. It returns doubles with the precision of floats, and doubles
stand in manifests as partition values: 0.1 would become 0.10000000149, and files with the value asked for would be left
out. And it reads beyond the end of a file that was cut off; so after each record its place is looked at.
"""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import groupby
from operator import methodcaller
from typing import Any, Generic, TypeVar

from pyiceberg.avro.codecs import AVRO_CODEC_KEY, KNOWN_CODECS
from pyiceberg.avro.codecs.codec import Codec
from pyiceberg.avro.decoder import BinaryDecoder, new_decoder
from pyiceberg.avro.file import MAGIC, MAGIC_SIZE, SYNC_SIZE
from pyiceberg.avro.reader import (
    BinaryReader,
    BooleanReader,
    DefaultReader,
    DoubleReader,
    IntegerReader,
    ListReader,
    MapReader,
    NoneReader,
    OptionReader,
    Reader,
    StringReader,
    StructReader,
)
from pyiceberg.avro.resolver import EnumReader
from pyiceberg.schema import Schema
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

__all__ = [
    "Blocks",
    "Layouts",
    "Read",
    "check_place",
    "passing",
    "passing_all",
    "read_blocks",
    "read_records",
    "reading",
    "reading_fields",
]

MAX_LAYOUTS = 256

_SCHEMA_KEY = b"avro.schema"
_CODEC_KEY = AVRO_CODEC_KEY.encode()
_DOUBLE = struct.Struct("<d")

Read = Callable[[BinaryDecoder], Any]

# Calls without a frame of Python's between them and the decoder.
_PLAIN: dict[type[Reader], Read] = {
    IntegerReader: methodcaller("read_int"),
    StringReader: methodcaller("read_utf8"),
    BinaryReader: methodcaller("read_bytes"),
    BooleanReader: methodcaller("read_boolean"),
}

L = TypeVar("L")


class Layouts(Generic[L]):
    """What was made of the schemas of files, once for each of the last ones. Threads may share it."""

    def __init__(self, make: Callable[[Schema], L]) -> None:
        self._make = make
        self._held: OrderedDict[bytes, L] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, text: bytes) -> L:
        """What is made of an Avro schema."""
        with self._lock:
            layout = self._held.get(text)
        if layout is None:
            layout = self._make(AvroSchemaConversion().avro_to_iceberg(json.loads(text)))
            with self._lock:
                self._held[text] = layout
                if len(self._held) > MAX_LAYOUTS:
                    self._held.popitem(last=False)
        return layout


Blocks = Iterator[tuple[int, bytes]]
"""The number of records in each block of a file, and their bytes."""


def read_blocks(content: bytes) -> tuple[bytes, Blocks]:
    """The Avro schema of a file, as JSON, and its blocks, decompressed.

    Raises:
        ValueError: This is no Avro file, or it was cut off.
        EOFError: Likewise.
    """
    decoder = new_decoder(content)
    if len(content) < MAGIC_SIZE + SYNC_SIZE or decoder.read(MAGIC_SIZE) != MAGIC:
        raise ValueError("this is no Avro file")
    meta: dict[bytes, bytes] = {}
    while count := decoder.read_int():
        if count < 0:
            count = -count
            decoder.skip_int()
        for _ in range(count):
            key = decoder.read_bytes()
            meta[key] = decoder.read_bytes()
            check_place(decoder, content)
    sync = decoder.read(SYNC_SIZE)
    check_place(decoder, content)
    if _SCHEMA_KEY not in meta:
        raise ValueError("the file has no schema")
    codec_name = meta.get(_CODEC_KEY, b"null").decode()
    if codec_name not in KNOWN_CODECS:
        raise ValueError(f"unknown codec {codec_name}")
    codec = KNOWN_CODECS[codec_name]
    return meta[_SCHEMA_KEY], _blocks(decoder, content, sync, codec)


def _blocks(decoder: BinaryDecoder, content: bytes, sync: bytes, codec: type[Codec] | None) -> Blocks:
    size = len(content)
    while decoder.tell() < size:
        count = decoder.read_int()
        block = decoder.read_bytes()
        mark = decoder.read(SYNC_SIZE)
        check_place(decoder, content)
        if mark != sync:
            raise ValueError("the mark behind a block is wrong")
        yield count, block if codec is None else codec.decompress(block)


def read_records(read: Read, blocks: Blocks) -> Iterator[Any]:
    """What a function reads from blocks, as often as they say.

    Raises:
        ValueError: A block was cut off.
    """
    for count, block in blocks:
        decoder = new_decoder(block)
        for _ in range(count):
            record = read(decoder)
            check_place(decoder, block)
            yield record


def check_place(decoder: BinaryDecoder, content: bytes) -> None:
    """Make sure that nothing was read from beyond the end.

    Raises:
        ValueError: The decoder stands behind the content.
    """
    if decoder.tell() > len(content):
        raise ValueError("the file was cut off")


def reading(reader: Reader) -> Read:
    """A function that reads what a reader reads."""
    if type(reader) in _PLAIN:
        return _PLAIN[type(reader)]
    if isinstance(reader, DoubleReader):
        return lambda decoder: _DOUBLE.unpack(decoder.read(8))[0]
    if isinstance(reader, EnumReader):
        return _reading_enum(reader)
    if isinstance(reader, OptionReader):
        return _reading_option(reading(reader.option))
    if isinstance(reader, StructReader):
        return _reading_struct(reader)
    if isinstance(reader, ListReader) and not isinstance(reader.element, IntegerReader):
        return _reading_list(reading(reader.element))
    if isinstance(reader, MapReader) and _is_of_numbers(reader):
        return _reading_numbers
    return reader.read


def passing(reader: Reader) -> Read:
    """A function that passes over what a reader reads. What it returns means nothing."""
    if isinstance(reader, OptionReader):
        return _passing_option(passing(reader.option))
    if isinstance(reader, StructReader):
        return passing_all([field for _, field in reader.field_readers]) or _nothing
    if isinstance(reader, ListReader) and isinstance(reader.element, IntegerReader):
        return _passing_list_of_numbers
    if isinstance(reader, MapReader) and isinstance(reader.key, IntegerReader):
        if isinstance(reader.value, IntegerReader):
            return _passing_numbers
        if isinstance(reader.value, BinaryReader):
            return _passing_bytes_by_number
    if isinstance(reader, StringReader | BinaryReader):
        return lambda decoder: decoder.skip_bytes()
    if isinstance(reader, IntegerReader):
        return lambda decoder: decoder.skip_int()
    return reading(reader)


def passing_all(readers: Sequence[Reader]) -> Read | None:
    """A function that passes over what several readers read one after another; None where that is nothing."""
    steps = [passing(reader) for reader in readers if not isinstance(reader, NoneReader | DefaultReader)]
    if len(steps) <= 1:
        return steps[0] if steps else None

    def pass_all(decoder: BinaryDecoder) -> None:
        for step in steps:
            step(decoder)

    return pass_all


def _nothing(decoder: BinaryDecoder) -> None:
    pass


def _is_of_numbers(reader: MapReader) -> bool:
    return isinstance(reader.key, IntegerReader) and isinstance(reader.value, IntegerReader)


def _reading_enum(reader: EnumReader) -> Read:
    read, make = reading(reader.reader), reader.enum
    known: dict[Any, Enum] = {}

    def read_enum(decoder: BinaryDecoder) -> Enum:
        value = read(decoder)
        found = known.get(value)
        if found is None:
            found = known[value] = make(value)
        return found

    return read_enum


def _reading_option(read: Read) -> Read:
    def read_option(decoder: BinaryDecoder) -> Any:
        return read(decoder) if decoder.read_int() > 0 else None

    return read_option


def _passing_option(step: Read) -> Read:
    def pass_option(decoder: BinaryDecoder) -> None:
        if decoder.read_int() > 0:
            step(decoder)

    return pass_option


def _reading_struct(reader: StructReader) -> Read:
    fields = [(place, reading(field)) for place, field in reader.field_readers]
    width = 1 + max((place for place, _ in fields if place is not None), default=-1)
    create = reader.create_struct
    if [place for place, _ in fields] == list(range(width)):
        return reading_fields([field for _, field in reader.field_readers], create)

    def read_struct(decoder: BinaryDecoder) -> Any:
        values: list[Any] = [None] * width
        for place, read in fields:
            value = read(decoder)
            if place is not None:
                values[place] = value
        return create(*values)

    return read_struct


def reading_fields(readers: Sequence[Reader], create: Callable[..., Any]) -> Read:
    """A struct whose fields stand in their order. Integers that follow each other are read at once."""
    steps: list[tuple[bool, Read]] = []
    for is_number, together in groupby(readers, lambda reader: isinstance(reader, IntegerReader)):
        run = list(together)
        if is_number and len(run) > 1:
            steps.append((True, methodcaller("read_ints", len(run))))
        else:
            steps += [(False, reading(one)) for one in run]
    if not any(many for many, _ in steps):
        reads = [read for _, read in steps]
        return lambda decoder: create(*[read(decoder) for read in reads])

    def read_fields(decoder: BinaryDecoder) -> Any:
        values: list[Any] = []
        for many, read in steps:
            if many:
                values += read(decoder)
            else:
                values.append(read(decoder))
        return create(*values)

    return read_fields


def _reading_list(read: Read) -> Read:
    def read_list(decoder: BinaryDecoder) -> list[Any]:
        values: list[Any] = []
        while count := decoder.read_int():
            if count < 0:
                count = -count
                decoder.skip_int()
            values += [read(decoder) for _ in range(count)]
        return values

    return read_list


def _reading_numbers(decoder: BinaryDecoder) -> dict[int, int]:
    values: dict[int, int] = {}
    while count := decoder.read_int():
        if count < 0:
            count = -count
            decoder.skip_int()
        pairs = decoder.read_ints(count * 2)
        values.update(zip(pairs[::2], pairs[1::2], strict=True))
    return values


def _passing_numbers(decoder: BinaryDecoder) -> None:
    while count := decoder.read_int():
        if count < 0:
            count = -count
            decoder.skip_int()
        decoder.read_ints(count * 2)


def _passing_bytes_by_number(decoder: BinaryDecoder) -> None:
    while count := decoder.read_int():
        if count < 0:
            count = -count
            decoder.skip_int()
        decoder.read_int_bytes_dict(count, {})


def _passing_list_of_numbers(decoder: BinaryDecoder) -> None:
    while count := decoder.read_int():
        if count < 0:
            count = -count
            decoder.skip_int()
        decoder.read_ints(count)
