"""One table that goes through every schema change: the rows before, the rows after, and what all of them are then."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.types import DecimalType, DoubleType, IntegerType, LongType, StringType

__all__ = ["EVOLVED", "ROWS_AFTER", "ROWS_BEFORE", "SQL_COLUMNS", "evolve_with_pyiceberg"]

SQL_COLUMNS = """
    id bigint, old_name string, gone int, small int, ratio float, price decimal(9, 2), seen date,
    point struct<x: double, y: double, note: string>,
    items {list}<struct<a: int, b: string>>,
    lookup map<string, struct<k: int, l: string>>
"""
"""The columns before the changes; ``{list}`` is the engine's word for a list."""

_BEFORE = pa.schema(
    [
        ("id", pa.int64()),
        ("old_name", pa.string()),
        ("gone", pa.int32()),
        ("small", pa.int32()),
        ("ratio", pa.float32()),
        ("price", pa.decimal128(9, 2)),
        ("seen", pa.date32()),
        ("point", pa.struct([("x", pa.float64()), ("y", pa.float64()), ("note", pa.string())])),
        ("items", pa.list_(pa.struct([("a", pa.int32()), ("b", pa.string())]))),
        ("lookup", pa.map_(pa.string(), pa.struct([("k", pa.int32()), ("l", pa.string())]))),
    ]
)

ROWS_BEFORE = pa.Table.from_pylist(
    [
        {
            "id": 1,
            "old_name": "naïve",
            "gone": 7,
            "small": -5,
            "ratio": 0.5,
            "price": Decimal("-1.25"),
            "seen": dt.date(1969, 12, 31),
            "point": {"x": 1.5, "y": -0.0, "note": "é"},
            "items": [{"a": 1, "b": "one"}, None, {"a": None, "b": ""}],
            "lookup": [("k1", {"k": -1, "l": "x"}), ("k2", None)],
        },
        {
            "id": 2,
            "old_name": "",
            "gone": None,
            "small": None,
            "ratio": float("nan"),
            "price": None,
            "seen": None,
            "point": {"x": None, "y": 2.0, "note": None},
            "items": [],
            "lookup": [],
        },
    ],
    _BEFORE,
)

# In this order: price comes first, old_name becomes new_name, gone goes and comes back as another column, small, ratio
# and price become wider, added is new; inside of point x becomes ex, y goes and comes back as a string, z is new;
# inside of items a becomes alpha and c is new; inside of lookup k becomes wider and l goes.
_EVOLVED = pa.schema(
    [
        ("price", pa.decimal128(18, 2)),
        ("id", pa.int64()),
        ("new_name", pa.string()),
        ("small", pa.int64()),
        ("ratio", pa.float64()),
        ("seen", pa.date32()),
        (
            "point",
            pa.struct([("ex", pa.float64()), ("note", pa.string()), ("z", pa.int32()), ("y", pa.string())]),
        ),
        ("items", pa.list_(pa.struct([("alpha", pa.int32()), ("b", pa.string()), ("c", pa.string())]))),
        ("lookup", pa.map_(pa.string(), pa.struct([("k", pa.int64())]))),
        ("added", pa.string()),
        ("gone", pa.string()),
    ]
)

_OLD_ROWS: list[dict[str, Any]] = [
    {
        "price": Decimal("-1.25"),
        "id": 1,
        "new_name": "naïve",
        "small": -5,
        "ratio": 0.5,
        "seen": dt.date(1969, 12, 31),
        "point": {"ex": 1.5, "note": "é", "z": None, "y": None},
        "items": [{"alpha": 1, "b": "one", "c": None}, None, {"alpha": None, "b": "", "c": None}],
        "lookup": [("k1", {"k": -1}), ("k2", None)],
        "added": None,
        "gone": None,
    },
    {
        "price": None,
        "id": 2,
        "new_name": "",
        "small": None,
        "ratio": float("nan"),
        "seen": None,
        "point": {"ex": None, "note": None, "z": None, "y": None},
        "items": [],
        "lookup": [],
        "added": None,
        "gone": None,
    },
]

_NEW_ROWS: list[dict[str, Any]] = [
    {
        "price": Decimal("9999999999999999.99"),
        "id": 3,
        "new_name": "日本",
        "small": -(2**40),
        "ratio": 0.1,
        "seen": dt.date(1, 1, 1),
        "point": {"ex": -1.5, "note": "", "z": -3, "y": "text"},
        "items": [{"alpha": 2, "b": None, "c": "see"}],
        "lookup": [("big", {"k": 2**40})],
        "added": "new",
        "gone": "back",
    },
    {name: 4 if name == "id" else [] if name in ("items", "lookup") else None for name in _EVOLVED.names},
]

ROWS_AFTER = pa.Table.from_pylist(_NEW_ROWS, _EVOLVED)
EVOLVED = pa.Table.from_pylist([*_OLD_ROWS, *_NEW_ROWS], _EVOLVED)
"""All rows, as they are to be read in the end."""


def evolve_with_pyiceberg(table: Table) -> None:
    """The changes between `ROWS_BEFORE` and `ROWS_AFTER`, through PyIceberg."""
    with table.update_schema() as update:
        update.rename_column("old_name", "new_name").delete_column("gone")
        update.update_column("small", LongType()).update_column("ratio", DoubleType())
        update.update_column("price", DecimalType(18, 2))
        update.rename_column("point.x", "ex").delete_column("point.y").add_column(("point", "z"), IntegerType())
        update.rename_column("items.a", "alpha").add_column(("items", "c"), StringType())
        update.update_column("lookup.k", LongType()).delete_column("lookup.l")
        update.move_first("price")
    with table.update_schema() as update:
        update.add_column("added", StringType()).add_column("gone", StringType())
        update.add_column(("point", "y"), StringType())
