"""What `.slt` files have PyIceberg do to a table: things that SQL has no words for yet."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.transforms import parse_transform
from pyiceberg.types import DoubleType, IntegerType, LongType, StringType

_TYPES = {"string": StringType(), "int": IntegerType(), "bigint": LongType(), "double": DoubleType()}


def _add_partition(catalog: Catalog, table: str, column: str, transform: str, name: str) -> None:
    with catalog.load_table(table).update_spec() as update:
        update.add_field(column, parse_transform(transform), name)


def _remove_partition(catalog: Catalog, table: str, name: str) -> None:
    with catalog.load_table(table).update_spec() as update:
        update.remove_field(name)


def _add_column(catalog: Catalog, table: str, column: str, kind: str) -> None:
    with catalog.load_table(table).update_schema() as update:
        update.add_column(column, _TYPES[kind])


def _drop_column(catalog: Catalog, table: str, column: str) -> None:
    with catalog.load_table(table).update_schema() as update:
        update.delete_column(column)


def _rename_column(catalog: Catalog, table: str, column: str, name: str) -> None:
    with catalog.load_table(table).update_schema() as update:
        update.rename_column(column, name)


def _promote_column(catalog: Catalog, table: str, column: str, kind: str) -> None:
    with catalog.load_table(table).update_schema() as update:
        update.update_column(column, _TYPES[kind])


def _set_property(catalog: Catalog, table: str, key: str, value: str) -> None:
    with catalog.load_table(table).transaction() as transaction:
        transaction.set_properties({key: value})


def _tag(catalog: Catalog, table: str, name: str) -> None:
    loaded = catalog.load_table(table)
    snapshot = loaded.current_snapshot()
    assert snapshot is not None
    loaded.manage_snapshots().create_tag(snapshot.snapshot_id, name).commit()


def _rewrite(catalog: Catalog, table: str, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Give a table other metadata, in a file of its own."""
    loaded = catalog.load_table(table)
    with loaded.io.new_input(loaded.metadata_location).open() as stream:
        metadata = json.loads(stream.read())
    change(metadata)
    changed = f"{loaded.metadata_location.rpartition('/')[0]}/{name}.metadata.json"
    with loaded.io.new_output(changed).create(overwrite=True) as stream:
        stream.write(json.dumps(metadata).encode())
    catalog.drop_table(table)
    catalog.register_table(table, changed)


def _branch(catalog: Catalog, table: str, name: str) -> None:
    loaded = catalog.load_table(table)
    snapshot = loaded.current_snapshot()
    assert snapshot is not None
    loaded.manage_snapshots().create_branch(snapshot.snapshot_id, name).commit()


def _date(catalog: Catalog, table: str, *times: str) -> None:
    """Give the snapshots of a table the times at which they were made, in their order; the times are in UTC."""
    moments = [int(dt.datetime.fromisoformat(f"{time}+00:00").timestamp() * 1000) for time in times]

    def change(metadata: dict[str, Any]) -> None:
        for kind in ("snapshots", "snapshot-log"):
            for entry, moment in zip(metadata[kind], moments, strict=True):
                entry["timestamp-ms"] = moment
        metadata["metadata-log"] = []

    _rewrite(catalog, table, "00007-dated", change)


def _upgrade(catalog: Catalog, table: str) -> None:
    """Make a table one of format version 3, which PyIceberg reads and does not write."""
    _rewrite(catalog, table, "00009-v3", lambda metadata: metadata.update({"format-version": 3, "next-row-id": 0}))


def _default(catalog: Catalog, table: str, column: str, value: str) -> None:
    """Give a column a write default, which SQL cannot do to a table of format version 2; the value is JSON."""

    def change(metadata: dict[str, Any]) -> None:
        for schema in metadata["schemas"]:
            for field in schema["fields"]:
                if field["name"] == column:
                    field["write-default"] = json.loads(value)

    _rewrite(catalog, table, f"00008-default-{column}", change)


HOOKS: dict[str, Callable[..., None]] = {
    "add-partition": _add_partition,
    "remove-partition": _remove_partition,
    "add-column": _add_column,
    "drop-column": _drop_column,
    "rename-column": _rename_column,
    "promote-column": _promote_column,
    "set-property": _set_property,
    "tag": _tag,
    "branch": _branch,
    "date": _date,
    "default": _default,
    "to-version-3": _upgrade,
}
