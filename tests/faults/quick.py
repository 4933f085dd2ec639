"""What makes a seed of the simulation quick without changing what it does: pure functions are worked out once.

More than half of the time of a small commit goes into PyIceberg's Avro schemas, which it derives anew for each file.
The same arguments always give the same values there, which nobody changes; so they are kept. Nothing that has an effect
is kept, and no state of one seed is there in the next: a seed has to run the same by itself as after a thousand others.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import pyiceberg.avro.file as avro
import pyiceberg.manifest as manifests
from pyiceberg.schema import Schema
from pyiceberg.utils.schema_conversion import AvroSchemaConversion
from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from icefusion.query.filelist import FileScanner


def by_identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember a function's values by its very arguments, which are kept, so that none can be mistaken for another."""
    known: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    @functools.wraps(function)
    def remembering(*args: Any, **kwargs: Any) -> Any:
        key = (*map(_key, args), *((name, _key(value)) for name, value in kwargs.items()))
        if key not in known:
            known[key] = ((args, kwargs), function(*args, **kwargs))
        return known[key][1]

    return remembering


def _key(argument: Any) -> Any:
    if isinstance(argument, dict):  # e.g. which classes to read into, written down anew at each call
        return tuple(argument.items())
    return argument if isinstance(argument, (str, int)) else id(argument)


def make_quick() -> None:
    """Do all of this in this process, for good."""
    avro.construct_writer = by_identity(avro.construct_writer)
    avro.resolve_writer = by_identity(avro.resolve_writer)
    avro.resolve_reader = by_identity(avro.resolve_reader)
    to_avro = by_identity(functools.partial(AvroSchemaConversion.iceberg_to_avro, AvroSchemaConversion()))
    AvroSchemaConversion.iceberg_to_avro = lambda _self, schema, schema_name=None: to_avro(schema, schema_name)
    manifests.data_file_with_partition = functools.cache(manifests.data_file_with_partition)
    manifests.manifest_entry_schema_with_data_file = by_identity(manifests.manifest_entry_schema_with_data_file)
    get_schema = avro.AvroFileHeader.get_schema
    read: dict[str, Schema] = {}

    def get_schema_once(header: avro.AvroFileHeader) -> Schema:
        text = header.meta["avro.schema"]
        if text not in read:
            read[text] = get_schema(header)
        return read[text]

    avro.AvroFileHeader.get_schema = get_schema_once  # type: ignore[method-assign]
    prove = FileScanner._proves_itself
    proven: list[bool] = []

    def prove_once(scanner: FileScanner) -> bool:
        if not proven:
            proven.append(prove(scanner))
        return proven[0]

    FileScanner._proves_itself = prove_once  # type: ignore[method-assign]
    _share_compiled_statements()
    # What is made once stays; the collector need not look through it at every turn.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _share_compiled_statements() -> None:
    """Let all engines have one cache of compiled statements: their dialects are alike."""
    shared = LRUCache(500)
    Engine._compiled_cache = property(lambda _engine: shared, lambda _engine, _own: None)  # type: ignore[assignment]
    SQLiteDialect_pysqlite.__hash__ = lambda dialect: hash(type(dialect))  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__eq__ = lambda dialect, other: type(dialect) is type(other)  # type: ignore[method-assign]
