"""DuckDB and icefusion change one table in turns, through one REST catalog: each goes on with the other's deletes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from duckdb_writer import DuckDBWriter
from places import Place
from pyiceberg.manifest import DataFileContent

import icefusion

pytestmark = [pytest.mark.seaweedfs, pytest.mark.duckdb]

MODES = ("copy-on-write", "merge-on-read")
Rows = dict[int, tuple[Any, ...]]


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("seaweedfs")


@pytest.fixture
def duckdb(place: Place, tmp_path: Path) -> Iterator[DuckDBWriter]:
    missing = DuckDBWriter.missing()
    if missing is not None:
        pytest.skip(missing)
    writer = DuckDBWriter(place.properties, tmp_path)
    yield writer
    writer.close()


@pytest.fixture(params=["", "PARTITIONED BY (part)"], ids=["whole", "partitioned"])
def table(place: Place, request: pytest.FixtureRequest) -> str:
    """A table of two commits with 60 rows, the first column not the one it is partitioned by."""
    name = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {name} (id BIGINT, part STRING, price DOUBLE) {request.param}")
        for first in (0, 30):
            session.sql(
                f"INSERT INTO {name} SELECT i, 'p' || (i % 3), i / 2.0 FROM generate_series({first}, {first + 29}) s(i)"
            )
    return name


def begun() -> Rows:
    return {i: (i, f"p{i % 3}", i / 2) for i in range(60)}


def position_deletes(place: Place, table: str) -> int:
    tasks = list(place.pyiceberg().load_table(table).scan().plan_files())
    files = {file.file_path for task in tasks for file in task.delete_files}
    assert {f.content for task in tasks for f in task.delete_files} <= {DataFileContent.POSITION_DELETES}
    return len(files)


class Turns:
    """Both engines, and the rows that there should be."""

    def __init__(self, place: Place, duckdb: DuckDBWriter, table: str) -> None:
        self.place, self.duckdb, self.table = place, duckdb, table
        self.rows = begun()

    def by_duckdb(self, text: str) -> None:
        self.duckdb.sql(text.format(table=f"lake.{self.table}"))

    def by_icefusion(self, text: str, mode: str, **sources: Any) -> icefusion.Result:
        with self.place.connect() as session:
            return session.sql(text.format(table=self.table), write_mode=mode, **sources)

    def check(self) -> None:
        wanted = sorted(self.rows.values())
        with self.place.connect() as session:
            assert session.sql(f"SELECT * FROM {self.table} ORDER BY id").fetchall() == wanted
            assert session.sql(f"SELECT count(*) FROM {self.table}").fetchone() == (len(wanted),)
        assert self.duckdb.sql(f"SELECT * FROM lake.{self.table} ORDER BY id") == wanted


@pytest.fixture
def turns(place: Place, duckdb: DuckDBWriter, table: str) -> Turns:
    return Turns(place, duckdb, table)


@pytest.mark.parametrize("mode", MODES)
def test_each_engine_changes_what_the_other_has_deleted_from(turns: Turns, mode: str) -> None:
    turns.check()
    turns.by_duckdb("DELETE FROM {table} WHERE id % 5 = 0")
    turns.rows = {i: row for i, row in turns.rows.items() if i % 5}
    assert position_deletes(turns.place, turns.table)
    turns.check()
    result = turns.by_icefusion("DELETE FROM {table} WHERE id % 5 = 1 OR id % 10 = 0", mode)
    assert result.rows_deleted == 12  # what DuckDB has deleted is not deleted again
    turns.rows = {i: row for i, row in turns.rows.items() if i % 5 != 1}
    turns.check()
    turns.by_duckdb("UPDATE {table} SET price = -1 WHERE id % 7 = 0")
    turns.rows = {i: (*row[:2], -1.0 if i % 7 == 0 else row[2]) for i, row in turns.rows.items()}
    turns.check()
    result = turns.by_icefusion("UPDATE {table} SET price = price + 100, part = 'p1' WHERE id % 4 = 0", mode)
    assert result.rows_updated == sum(i % 4 == 0 for i in turns.rows)
    turns.rows = {i: (i, "p1", row[2] + 100) if i % 4 == 0 else row for i, row in turns.rows.items()}
    turns.check()


@pytest.mark.parametrize("mode", MODES)
def test_a_merge_finds_no_row_that_duckdb_has_deleted(turns: Turns, mode: str) -> None:
    turns.by_duckdb("DELETE FROM {table} WHERE id BETWEEN 20 AND 39")
    result = turns.by_icefusion(
        "MERGE INTO {table} AS t USING (SELECT i AS id FROM generate_series(10, 49) g(i)) AS s ON t.id = s.id "
        "WHEN MATCHED AND s.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET price = 0 "
        "WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'p0', 1)",
        mode,
    )
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (20, 10, 10)
    outside = range(10, 20), range(40, 50)
    for i in (i for part in outside for i in part):
        turns.rows[i] = (i, f"p{i % 3}", 0.0)
        if i % 2 == 0:
            del turns.rows[i]
    turns.rows |= {i: (i, "p0", 1.0) for i in range(20, 40)}
    turns.check()
    turns.by_duckdb("DELETE FROM {table} WHERE price = 1 AND id < 30")
    turns.rows = {i: row for i, row in turns.rows.items() if row[2] != 1 or i >= 30}
    turns.check()


def test_files_that_are_written_anew_leave_the_deletes_behind(turns: Turns) -> None:
    turns.by_duckdb("DELETE FROM {table} WHERE id % 2 = 0")
    before = position_deletes(turns.place, turns.table)
    turns.by_icefusion("UPDATE {table} SET price = price", "copy-on-write")
    assert before > 0
    assert position_deletes(turns.place, turns.table) == 0
    turns.rows = {i: row for i, row in turns.rows.items() if i % 2}
    turns.check()


def test_a_file_of_which_duckdb_has_left_no_row_goes(turns: Turns) -> None:
    turns.by_duckdb("DELETE FROM {table} WHERE id < 30")
    result = turns.by_icefusion("DELETE FROM {table} WHERE id < 31", "merge-on-read")
    assert result.rows_deleted == 1
    turns.by_icefusion("INSERT INTO {table} VALUES (5, 'p2', 7)", "merge-on-read")
    turns.rows = {5: (5, "p2", 7.0)} | {i: row for i, row in turns.rows.items() if i > 30}
    turns.check()


def test_a_delete_by_duckdb_meets_an_open_change_of_the_same_rows(turns: Turns) -> None:
    with turns.place.connect() as session:
        session.sql("BEGIN")
        session.sql(f"UPDATE {turns.table} SET price = 1 WHERE id < 10")
        turns.by_duckdb("DELETE FROM {table} WHERE id = 3")
        with pytest.raises(icefusion.CommitConflictError):
            session.sql("COMMIT")
    del turns.rows[3]
    turns.check()


def test_a_table_that_duckdb_has_evolved_is_read_and_changed(place: Place, duckdb: DuckDBWriter) -> None:
    name = f"{place.namespace}.evolved"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
    columns = (
        "id BIGINT, name VARCHAR, p STRUCT(x INTEGER, y DOUBLE), tags VARCHAR[], m MAP(VARCHAR, INTEGER), "
        "n DECIMAL(9, 2), small INTEGER, f FLOAT, day DATE"
    )
    rows = (
        "SELECT i, 'n' || i, {{'x': i, 'y': i / 2}}, ['t', NULL], MAP {{'k': i}}, i / 4, i, i / 8, "
        "DATE '2024-05-01' + (i % 3)::INT FROM range({}, {}) g(i)"
    )
    duckdb.sql(f"CREATE TABLE lake.{name} ({columns}) PARTITIONED BY (day)")
    duckdb.sql(f"INSERT INTO lake.{name} {rows.format(0, 6)}")

    def check() -> None:
        with place.connect() as session:
            result = session.sql(f"SELECT * FROM {name} ORDER BY id")
            rows = result.to_arrow().to_pylist()
            for row in rows:
                row.update({key: dict(value) for key, value in row.items() if key == "m" and isinstance(value, list)})
            found = [tuple(row.values()) for row in rows]
            assert found == duckdb.sql(f"SELECT * FROM lake.{name} ORDER BY id")
            assert [column[0] for column in duckdb.sql(f"DESCRIBE lake.{name}")] == result.columns

    check()
    for number, change in enumerate(
        (
            "ADD COLUMN extra VARCHAR",
            "RENAME COLUMN name TO title",
            "ADD COLUMN p.z INTEGER",
            "RENAME COLUMN p.x TO w",
            "DROP COLUMN p.y",
            "ALTER COLUMN small SET DATA TYPE BIGINT",
            "ALTER COLUMN f SET DATA TYPE DOUBLE",
            "ALTER COLUMN n SET DATA TYPE DECIMAL(18, 2)",
            "DROP COLUMN m",
            "ADD COLUMN m VARCHAR",
        )
    ):
        duckdb.sql(f"ALTER TABLE lake.{name} {change}")
        duckdb.sql(f"INSERT INTO lake.{name} BY NAME (SELECT {100 + number} AS id, DATE '2024-06-01' AS day)")
        check()
    duckdb.sql(f"DELETE FROM lake.{name} WHERE id IN (1, 103)")
    check()
    for mode in MODES:
        with place.connect() as session:
            session.sql(f"UPDATE {name} SET title = 'changed', p.w = 9 WHERE id % 2 = 0", write_mode=mode)
            session.sql(f"DELETE FROM {name} WHERE day = DATE '2024-05-03' AND id < 3", write_mode=mode)
        check()
        duckdb.sql(f"DELETE FROM lake.{name} WHERE id = {4 if mode == MODES[0] else 5}")
        check()
    # It deletes no more: its deletes from files of an earlier spec name another partition, and so apply to nothing.
    duckdb.sql(f"ALTER TABLE lake.{name} SET PARTITIONED BY (bucket(2, id))")
    duckdb.sql(f"INSERT INTO lake.{name} BY NAME (SELECT 200 AS id, DATE '2024-06-01' AS day)")
    check()
    with place.connect() as session:
        session.sql(f"DELETE FROM {name} WHERE id > 105", write_mode="merge-on-read")
    check()
