"""Defaults that other engines gave to columns go through every alteration unharmed."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from evolution_tables import altered, named, path, table, type_text
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from icefusion.bridge.evolution import alter, replacement
from icefusion.errors import SchemaError, UnsupportedStatementError
from icefusion.sql.alterations import (
    AddColumn,
    Alteration,
    DropColumn,
    MoveColumn,
    Place,
    RenameColumn,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetRequired,
)

VALUES: dict[str, Any] = {
    "i": 5,
    "f": 1.5,
    "d": Decimal("1.25"),
    "day": dt.date(2024, 5, 1),
    "t": "text",
    "s.x": 7,
    "l.element.y": "in a list",
    "m.value.z": dt.datetime(2024, 5, 1, 12),
}


def with_defaults(version: int) -> TableMetadata:
    """A table whose columns have defaults. PyIceberg takes them in tables of format version 2 as well."""
    base = table(
        "i int, f float, d decimal(9, 2), day date, t string, n int, s struct<x: int, w: int>, "
        "l list<struct<y: string, w: int>>, m map<string, struct<z: timestamp, w: int>>",
        version=version,
    )
    document = base.schema().model_dump(mode="json")
    stored = {"d": "1.25", "day": "2024-05-01", "m.value.z": "2024-05-01T12:00:00"}
    for name, value in VALUES.items():
        fields = document["fields"]
        for part in name.split("."):
            if part in ("element", "value"):
                fields = fields[part]["fields"]
                continue
            found = next(field for field in fields if field["name"] == part)
            fields = found["type"].get("fields") or found["type"] if isinstance(found["type"], dict) else []
        found |= {"initial-default": stored.get(name, value), "write-default": stored.get(name, value)}
    schema = Schema.model_validate(document)
    return base.model_copy(update={"schemas": [schema]})


def defaults(metadata: TableMetadata) -> dict[str, tuple[Any, Any]]:
    schema = metadata.schema()
    found = {name: schema.find_field(name) for name in schema.column_names}
    return {
        name: (field.initial_default, field.write_default)
        for name, field in found.items()
        if (field.initial_default, field.write_default) != (None, None)
    }


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("actions", "renamed"),
    [
        ([AddColumn(path("new"), type_text("int"), place=Place("first"))], {}),
        ([AddColumn(path(f"{parent}.new"), type_text("int")) for parent in ("s", "l.element", "m.value")], {}),
        ([RenameColumn(path("i"), named("j")), RenameColumn(path("s"), named("r"))], {"i": "j", "s.x": "r.x"}),
        ([RenameColumn(path("l.element.y"), named("yy"))], {"l.element.y": "l.element.yy"}),
        ([MoveColumn(path("i"), Place("after", named("f"))), MoveColumn(path("s.x"), Place("after", named("w")))], {}),
        ([DropColumn(path("n")), DropColumn(path("s.w")), DropColumn(path("m.value.w"))], {}),
        ([SetColumnComment(path(name), "said") for name in ("i", "s.x", "l.element.y", "m.value.z")], {}),
        ([SetRequired(path(name), True) for name in ("i", "s.x", "l.element", "m.value")], {}),
        ([SetColumnType(path("i"), type_text("bigint")), SetColumnType(path("s.x"), type_text("bigint"))], {}),
        ([SetColumnType(path("f"), type_text("double")), SetColumnType(path("d"), type_text("decimal(18, 2)"))], {}),
    ],
)
def test_defaults_survive(version: int, actions: list[Alteration], renamed: dict[str, str]) -> None:
    base = with_defaults(version)
    assert defaults(base) == {name: (value, value) for name, value in VALUES.items()}
    after = altered(base, *actions)
    assert defaults(after) == {renamed.get(name, name): (value, value) for name, value in VALUES.items()}


def test_a_default_of_a_date_becomes_one_of_a_timestamp() -> None:
    base = with_defaults(3)
    midnight = dt.datetime(2024, 5, 1)
    after = altered(base, SetColumnType(path("day"), type_text("timestamp")))
    assert defaults(after)["day"] == (midnight, midnight)
    with pytest.raises(SchemaError, match="defaults of type timestamp_ns cannot be stored yet"):
        alter(base, [SetColumnType(path("day"), type_text("timestamp_ns"))])


def test_a_default_can_be_dropped_for_later_rows_but_not_set() -> None:
    base = with_defaults(2)
    after = altered(base, SetColumnDefault(path("i"), None))
    assert defaults(after)["i"] == (5, None)
    assert alter(base, [SetColumnDefault(path("n"), None)]) == ()
    with pytest.raises(UnsupportedStatementError, match="DEFAULT needs format version 3, the table has 2"):
        alter(base, [SetColumnDefault(path("i"), "6")])
    with pytest.raises(UnsupportedStatementError, match="DEFAULT cannot be set yet"):
        alter(with_defaults(3), [SetColumnDefault(path("i"), "6")])


@pytest.mark.parametrize("partitioned", ["day(day)", "day", "bucket(4, day)"])
def test_a_date_that_partitions_become_another_value_of_stays_one(partitioned: str) -> None:
    base = table("day date, i int", partitioned, version=3)
    to_timestamp = SetColumnType(path("day"), type_text("timestamp"))
    if partitioned == "day(day)":
        assert str(altered(base, to_timestamp).schema().find_type("day")) == "timestamp"
    else:
        with pytest.raises(SchemaError, match="is made from it, and would have other values"):
            alter(base, [to_timestamp])


def test_a_replaced_column_has_the_defaults_of_its_new_definition() -> None:
    base = with_defaults(2)
    updates = replacement(base, table("i int, n int").schema(), PartitionSpec(), UNSORTED_SORT_ORDER, {}, None)
    assert [update.action for update in updates] == ["add-schema", "set-current-schema"]
