"""A script of row-level changes, and beside each statement what it means, said in Python: the rows that are left."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
from interop_rows import rows_of

__all__ = ["CHANGED", "MODES", "SCRIPT", "TABLE_COLUMNS", "Rows", "Step", "canonical_of", "some_rows", "table_of"]

Row = dict[str, Any]
Rows = dict[int, Row]

TABLE_COLUMNS = (
    "id bigint, part string, at timestamp, price decimal(9, 2), name string, spot struct<x: double, tags: list<string>>"
)
CHANGED = pa.schema(
    [
        ("id", pa.int64()),
        ("part", pa.string()),
        ("at", pa.timestamp("us")),
        ("price", pa.decimal128(9, 2)),
        ("name", pa.string()),
        ("spot", pa.struct([("x", pa.float64()), ("tags", pa.list_(pa.string()))])),
    ]
)

# Write mode and delete granularity. What is written anew has no delete files, so it has no granularity.
MODES = (("copy-on-write", "file"), ("merge-on-read", "file"), ("merge-on-read", "partition"))

# The first makes a path that has to be escaped; NULL, the empty string and letters beyond ASCII are partitions too.
PARTS = ("a/b c=d&é%", None, "日本", "plain", "")


@dataclass(frozen=True)
class Step:
    """One statement.

    Attributes:
        sql: Its text, with ``{table}`` for the table.
        effect: Does the same to rows.
        given: The rows that it knows as ``given``.
    """

    sql: str
    effect: Callable[[Rows], None]
    given: pa.Table | None = None


def some_rows(ids: Iterable[int], suffix: str = "") -> list[Row]:
    """Rows by their ids, with every partition value and NULL in every column."""
    return [
        {
            "id": i,
            "part": PARTS[i % len(PARTS)],
            "at": None if i % 13 == 6 else dt.datetime(1969, 12, 30, 23, 59, 59, 999999) + dt.timedelta(hours=7 * i),
            "price": None if i % 9 == 5 else Decimal(i * 31 - 500).scaleb(-2),
            "name": None if i % 10 == 9 else f"{'aábc日'[i % 5]}{i % 3}ü{suffix}",
            "spot": None if i % 6 == 5 else {"x": (-0.0, float("nan"), i / 4)[i % 3], "tags": ["é", None][: i % 3]},
        }
        for i in ids
    ]


def table_of(rows: Iterable[Row], schema: pa.Schema = CHANGED) -> pa.Table:
    """Rows as an Arrow table."""
    return pa.Table.from_pylist(list(rows), schema=schema)


def _delete(condition: Callable[[Row], bool]) -> Callable[[Rows], None]:
    def effect(rows: Rows) -> None:
        for row in [row for row in rows.values() if condition(row)]:
            del rows[row["id"]]

    return effect


def _update(condition: Callable[[Row], bool], change: Callable[[Row], Mapping[str, Any]]) -> Callable[[Rows], None]:
    def effect(rows: Rows) -> None:
        for row in [row for row in rows.values() if condition(row)]:
            rows[row["id"]] = {**row, **change(row)}

    return effect


def _put(new: Iterable[Row]) -> Callable[[Rows], None]:
    return lambda rows: rows.update({row["id"]: row for row in new})


def _later(row: Row) -> Row:
    return {"part": None, "at": None if row["at"] is None else row["at"] + dt.timedelta(days=1)}


def _raised(row: Row) -> Row:
    return {
        "price": None if row["price"] is None else row["price"] + Decimal("1.25"),
        "name": None if row["name"] is None else row["name"] + "é",
    }


_MERGED = some_rows([*range(40, 60), *range(200, 206)], " merged")


def _merge(rows: Rows) -> None:
    for row in _MERGED:
        if row["id"] not in rows:
            rows[row["id"]] = row
        elif row["id"] % 4 == 0:
            del rows[row["id"]]
        else:
            rows[row["id"]] = {**rows[row["id"]], "name": row["name"], "spot": row["spot"]}


_UPSERTED = some_rows([*range(1, 90, 17), 301], " upserted")


def _upsert(rows: Rows) -> None:
    for row in _UPSERTED:
        old = rows.get(row["id"])
        rows[row["id"]] = row if old is None else {**old, "name": row["name"], "price": row["price"]}


_REPLACING = some_rows(range(0, 12, 2), " replaced")


def _replace(rows: Rows) -> None:
    _delete(lambda row: row["id"] < 12)(rows)
    _put(_REPLACING)(rows)


_KEPT = some_rows(range(0, 70, 3))


def _keep(rows: Rows) -> None:
    ids = {row["id"] for row in _KEPT}
    _delete(lambda row: row["id"] not in ids and row["id"] > 200)(rows)
    _update(lambda row: row["id"] not in ids and row["id"] > 60, lambda row: {"name": "left", "spot": None})(rows)


def _truncate(rows: Rows) -> None:
    rows.clear()


def _overwrite(rows: Rows) -> None:
    rows.clear()
    _put(some_rows(range(5)))(rows)


SCRIPT: tuple[Step, ...] = (
    Step("DELETE FROM {table} WHERE id % 7 = 3", _delete(lambda row: row["id"] % 7 == 3)),
    Step(
        "UPDATE {table} SET price = price + CAST('1.25' AS decimal(9, 2)), name = name || 'é' WHERE id % 5 = 0",
        _update(lambda row: row["id"] % 5 == 0, _raised),
    ),
    Step(
        "UPDATE {table} SET part = NULL, at = at + INTERVAL '1 day' WHERE id % 11 = 4",
        _update(lambda row: row["id"] % 11 == 4, _later),
    ),
    Step(
        "MERGE INTO {table} AS t USING given AS s ON t.id = s.id WHEN MATCHED AND t.id % 4 = 0 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET name = s.name, spot = s.spot WHEN NOT MATCHED THEN INSERT *",
        _merge,
        table_of(_MERGED),
    ),
    Step(
        "DELETE FROM {table} WHERE id BETWEEN 30 AND 34 OR name IS NULL OR isnan(spot['x']) AND id < 20",
        _delete(
            lambda row: (
                30 <= row["id"] <= 34
                or row["name"] is None
                or (row["id"] < 20 and row["spot"] is not None and row["spot"]["x"] != row["spot"]["x"])
            )
        ),
    ),
    Step(
        "INSERT INTO {table} SELECT * FROM given "
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name, price = excluded.price",
        _upsert,
        table_of(_UPSERTED),
    ),
    Step("INSERT INTO {table} REPLACE WHERE id < 12 SELECT * FROM given", _replace, table_of(_REPLACING)),
    Step(
        "MERGE INTO {table} AS t USING given AS s ON t.id = s.id "
        "WHEN NOT MATCHED BY SOURCE AND t.id > 200 THEN DELETE "
        "WHEN NOT MATCHED BY SOURCE AND t.id > 60 THEN UPDATE SET name = 'left', spot = NULL",
        _keep,
        table_of(_KEPT),
    ),
    Step(
        "DELETE FROM {table} WHERE part = 'plain' OR part IS NULL", _delete(lambda row: row["part"] in ("plain", None))
    ),
    Step("TRUNCATE TABLE {table}", _truncate),
    Step(
        "INSERT OVERWRITE {table} SELECT * FROM given",
        _overwrite,
        table_of(some_rows(range(5))),
    ),
)


def canonical_of(rows: Rows) -> list[tuple[Any, ...]]:
    """The rows as the readers' are compared."""
    return rows_of(table_of(rows.values()))
