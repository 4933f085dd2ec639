"""Two engines change one table in turns: each goes on from what the other left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from interop_changes import MODES
from interop_readers import PyIcebergReader
from interop_rows import canonical_rows, rows_of
from interop_tables import SparkWriter, location_of
from pyiceberg.expressions import EqualTo, GreaterThanOrEqual, In
from pyiceberg.table import Table
from spark_client import Spark

import icefusion

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("n", pa.int64()), ("name", pa.string())])
PARTS = ("a/b c=é", None, "plain")
numbers = count()

Rows = dict[int, dict[str, Any]]


def some_rows(first: int, size: int) -> list[dict[str, Any]]:
    return [{"id": i, "part": PARTS[i % 3], "n": i % 10, "name": f"é{i}"} for i in range(first, first + size)]


def table_of(rows: Any, schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


@dataclass
class Expected:
    """The rows that are to be left."""

    schema: pa.Schema = SCHEMA
    rows: Rows = field(default_factory=dict)

    def put(self, *new: dict[str, Any]) -> None:
        self.rows.update({row["id"]: row for row in new})

    def delete(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        self.rows = {row_id: row for row_id, row in self.rows.items() if not condition(row)}

    def update(self, condition: Callable[[dict[str, Any]], bool], **values: Any) -> None:
        for row_id, row in self.rows.items():
            if condition(row):
                changed = {name: value(row) if callable(value) else value for name, value in values.items()}
                self.rows[row_id] = {**row, **changed}

    def canonical(self) -> list[tuple[Any, ...]]:
        return rows_of(table_of(self.rows.values(), self.schema))


class Turns:
    """One table that Spark and icefusion have in turns, each in its own catalog: the metadata file is handed over.

    Args:
        session: Has the tables of icefusion's turns.
        spark: Has those of Spark's.
    """

    def __init__(self, session: icefusion.Session, spark: Spark, create: str) -> None:
        self._session = session
        self._spark = spark
        self.expected = Expected()
        number = next(numbers)
        self._names = (f"turns{number}_{turn}" for turn in count())
        name = next(self._names)
        spark.sql(create.format(table=f"ice.db.{name}"))
        self.location = spark.metadata_location(f"ice.db.{name}")

    def ours(self, sql: str, mode: Any = None, **given: pa.Table) -> None:
        """A statement of icefusion."""
        name = f"ns.{next(self._names)}"
        self._session.catalog.register_table(name, self.location)
        self._session.sql(sql.format(table=name), write_mode=mode, **given)
        self.location = location_of(self._session, name)

    def theirs(self, *statements: str) -> list[tuple[Any, ...]]:
        """Statements of Spark; the rows of the last one."""
        name = f"ice.db.{next(self._names)}"
        self._spark.adopt(name, self.location)
        for statement in statements:
            found = self._spark.sql(statement.format(table=name, plain=name.removeprefix("ice.")))
        self.location = self._spark.metadata_location(name)
        return found

    def check(self) -> None:
        """All engines read what is to be left."""
        name = f"ns.{next(self._names)}"
        self._session.catalog.register_table(name, self.location)
        read = (
            self._session.sql(f"SELECT * FROM {name}").fetchall(),
            self._spark.rows(self.location),
            PyIcebergReader().rows(self.location),
        )
        for rows in read:
            assert canonical_rows(rows, self.expected.schema) == self.expected.canonical()
        counts = self._session.sql(f"SELECT count(*) FROM {name}").fetchall()
        assert counts == self._spark.sql("SELECT count(*) FROM _rows") == [(len(self.expected.rows),)]


CREATE = (
    "CREATE TABLE {{table}} (id bigint, part string, n bigint, name string) USING iceberg {partitioning} "
    "TBLPROPERTIES ('format-version' = '2', 'write.delete.mode' = '{mode}', 'write.update.mode' = '{mode}', "
    "'write.merge.mode' = '{mode}', 'write.delete.granularity' = '{granularity}', "
    "'commit.manifest.min-count-to-merge' = '3')"
)


@pytest.mark.spark
@pytest.mark.parametrize(
    ("mode", "granularity", "partitioning"),
    [
        ("merge-on-read", "file", ""),
        ("merge-on-read", "partition", "PARTITIONED BY (part)"),
        ("merge-on-read", "file", "PARTITIONED BY (bucket(2, id))"),
        ("copy-on-write", "file", "PARTITIONED BY (part)"),
    ],
)
def test_spark_and_icefusion_take_turns(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, mode: str, granularity: str, partitioning: str
) -> None:
    other_mode = "copy-on-write" if mode == "merge-on-read" else "merge-on-read"
    turns = Turns(session, spark, CREATE.format(partitioning=partitioning, mode=mode, granularity=granularity))
    expected = turns.expected
    # Several data files of each engine.
    for first, write in ((0, turns.theirs), (30, turns.ours), (60, turns.theirs), (90, turns.ours)):
        rows = some_rows(first, 30)
        if write == turns.ours:
            turns.ours("INSERT INTO {table} SELECT * FROM given", given=table_of(rows))
        else:
            turns.theirs(f"INSERT INTO {{table}} SELECT * FROM {spark_writer.view(table_of(rows))}")
        expected.put(*rows)
    turns.check()

    turns.ours("DELETE FROM {table} WHERE id % 10 = 3")
    turns.theirs("DELETE FROM {table} WHERE id % 10 = 4")
    expected.delete(lambda row: row["id"] % 10 in (3, 4))
    turns.check()

    turns.ours("UPDATE {table} SET n = n + 100 WHERE id % 6 = 1", other_mode)
    turns.theirs("UPDATE {table} SET n = n + 1000, part = 'moved' WHERE id % 6 IN (1, 2)")
    expected.update(lambda row: row["id"] % 6 == 1, n=lambda row: row["n"] + 100)
    expected.update(lambda row: row["id"] % 6 in (1, 2), n=lambda row: row["n"] + 1000, part="moved")
    turns.check()

    merged = some_rows(80, 60)
    merge = (
        "MERGE INTO {table} AS t USING {given} AS s ON t.id = s.id WHEN MATCHED AND t.id % 2 = 1 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET name = s.name, n = 5 WHEN NOT MATCHED THEN INSERT *"
    )
    for step in ("ours", "theirs"):
        if step == "ours":
            turns.ours(merge.replace("{given}", "given"), given=table_of(merged))
        else:
            turns.theirs(merge.replace("{given}", spark_writer.view(table_of(merged))))
        known = set(expected.rows)
        ids = {row["id"] for row in merged}
        expected.delete(lambda row: row["id"] in ids and row["id"] % 2 == 1)  # noqa: B023 - called at once
        expected.update(lambda row: row["id"] in ids, n=5)  # noqa: B023 - called at once
        expected.put(*(row for row in merged if row["id"] not in known))
        turns.check()

    turns.theirs(
        "CALL ice.system.rewrite_position_delete_files(table => '{plain}', options => map('rewrite-all', 'true'))"
    )
    turns.ours("DELETE FROM {table} WHERE id BETWEEN 50 AND 55 OR id = 0")
    expected.delete(lambda row: 50 <= row["id"] <= 55 or row["id"] == 0)
    turns.check()
    turns.theirs(
        "CALL ice.system.rewrite_data_files(table => '{plain}', "
        "options => map('min-input-files', '2', 'delete-file-threshold', '1'))"
    )
    turns.check()
    turns.ours("UPDATE {table} SET name = 'after' WHERE id % 4 = 0", "merge-on-read")
    expected.update(lambda row: row["id"] % 4 == 0, name="after")
    turns.check()

    turns.theirs(
        "ALTER TABLE {table} RENAME COLUMN name TO label",
        "ALTER TABLE {table} ADD COLUMN more string FIRST",
        "ALTER TABLE {table} DROP COLUMN n",
        "ALTER TABLE {table} ADD PARTITION FIELD truncate(2, label)",
    )
    turns.ours("UPDATE {table} SET more = label, label = 'x' || label WHERE id % 7 = 0")
    expected.rows = {
        row_id: {"more": None, "id": row_id, "part": row["part"], "label": row["name"]}
        for row_id, row in expected.rows.items()
    }
    expected.schema = pa.schema(
        [("more", pa.string()), ("id", pa.int64()), ("part", pa.string()), ("label", pa.string())]
    )
    expected.update(lambda row: row["id"] % 7 == 0, more=lambda row: row["label"], label=lambda row: "x" + row["label"])
    turns.check()
    turns.theirs("DELETE FROM {table} WHERE more IS NOT NULL AND id > 100")
    expected.delete(lambda row: row["more"] is not None and row["id"] > 100)
    turns.ours("DELETE FROM {table} WHERE part IS NULL", other_mode)
    expected.delete(lambda row: row["part"] is None)
    turns.check()
    turns.theirs("CALL ice.system.rewrite_manifests(table => '{plain}')")
    turns.ours("DELETE FROM {table} WHERE id = 12")
    expected.delete(lambda row: row["id"] == 12)
    turns.check()


# PyIceberg and icefusion


def delete_by_pyiceberg(table: Table, expected: Expected) -> None:
    table.delete(In("id", [5, 17, 44]))
    expected.delete(lambda row: row["id"] in (5, 17, 44))


def overwrite_by_pyiceberg(table: Table, expected: Expected) -> None:
    new = some_rows(200, 5)
    table.overwrite(table_of(new), overwrite_filter=GreaterThanOrEqual("id", 70))
    expected.delete(lambda row: row["id"] >= 70)
    expected.put(*new)


def upsert_by_pyiceberg(table: Table, expected: Expected) -> None:
    new = [{**row, "name": "upserted"} for row in some_rows(20, 15) + some_rows(300, 2)]
    table.upsert(table_of(new), join_cols=["id"])
    expected.put(*new)


def append_by_pyiceberg(table: Table, expected: Expected) -> None:
    table.append(table_of(some_rows(400, 4)))
    expected.put(*some_rows(400, 4))


def delete_a_partition_by_pyiceberg(table: Table, expected: Expected) -> None:
    table.delete(EqualTo("part", "plain"))
    expected.delete(lambda row: row["part"] == "plain")


@pytest.mark.parametrize("partitioning", ["", "PARTITIONED BY (part)"])
@pytest.mark.parametrize(("mode", "granularity"), MODES)
def test_pyiceberg_and_icefusion_take_turns(
    session: icefusion.Session, pyiceberg_reader: PyIcebergReader, mode: Any, partitioning: str, granularity: str
) -> None:
    name = f"ns.turns{next(numbers)}"
    session.sql(
        f"CREATE TABLE {name} (id bigint, part string, n bigint, name string) {partitioning} "
        f"TBLPROPERTIES ('write.delete.granularity' = '{granularity}')"
    )
    expected = Expected()
    for first in (0, 30, 60):
        session.writer(name).write_batches(table_of(some_rows(first, 30)).to_batches())
        expected.put(*some_rows(first, 30))

    def check() -> None:
        assert canonical_rows(session.sql(f"SELECT * FROM {name}").fetchall(), SCHEMA) == expected.canonical()
        assert canonical_rows(pyiceberg_reader.rows(location_of(session, name)), SCHEMA) == expected.canonical()

    for number, change in enumerate(
        (
            delete_by_pyiceberg,
            overwrite_by_pyiceberg,
            upsert_by_pyiceberg,
            append_by_pyiceberg,
            delete_a_partition_by_pyiceberg,
        )
    ):
        session.sql(f"DELETE FROM {name} WHERE id % 9 = {number}", write_mode=mode)
        session.sql(f"UPDATE {name} SET n = n + {number} WHERE id % 4 = {number}", write_mode=mode)
        expected.delete(lambda row: row["id"] % 9 == number)  # noqa: B023 - called at once
        expected.update(lambda row: row["id"] % 4 == number, n=lambda row: row["n"] + number)  # noqa: B023
        check()
        change(session.catalog.load_table(name), expected)
        check()
