"""Tables that have delete files of other engines already: they are changed, and those files neither lose force nor gain
any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest
from delete_writing import commit, equality_deletes, position_deletes, rows_file
from interop_readers import DuckDBReader
from interop_rows import canonical_rows, rows_of
from interop_tables import SparkWriter, location_of
from pyiceberg.manifest import ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType
from spark_client import Spark

import icefusion
from icefusion.errors import UnsupportedStatementError

ICEBERG = Schema(
    NestedField(1, "id", LongType()), NestedField(2, "part", StringType()), NestedField(3, "price", DoubleType())
)
SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("price", pa.float64())])
NAN = float("nan")
PARTS = ("a", "b", None)
READERS = (pytest.param("duckdb", marks=pytest.mark.duckdb), pytest.param("spark", marks=pytest.mark.spark))
MODES = ("copy-on-write", "merge-on-read")
MERGING = {"commit.manifest.min-count-to-merge": "2"}
numbers = count()

Rows = dict[int, dict[str, Any]]


def some_rows(first: int, size: int, parts: Sequence[str | None] = PARTS) -> list[dict[str, Any]]:
    prices = (None, NAN, -0.0, 0.5)
    return [{"id": i, "part": parts[i % 3], "price": prices[i % 4]} for i in range(first, first + size)]


def stream_of_changes(
    session: icefusion.Session,
    name: str,
    *,
    partitioned: bool,
    parts: Sequence[str | None] = PARTS,
    properties: Mapping[str, str] = MappingProxyType({}),
) -> Rows:
    """A table as a stream of changes leaves it, and its rows.

    Each commit deletes keys by value, adds new rows for them, and deletes two of those again by position: one by a file
    for that data file, one by a file for all of its partition, without bounds.
    """
    table = session.catalog.create_table(name, ICEBERG, properties={"format-version": "2", **properties})
    if partitioned:
        with table.update_spec() as update:
            update.add_identity("part")
        table = table.refresh()
    left: Rows = {}
    for number in range(4):
        groups: dict[Any, list[Any]] = {}
        for row in some_rows(number * 12, 30, parts):
            groups.setdefault(row["part"] if partitioned else 0, []).append({**row, "price": float(number)})
        files = []
        for part, members in groups.items():
            record = Record(part) if partitioned else Record()
            data = rows_file(table, members, partition=record)
            files += [data, position_deletes(table, [(data.file_path, 0)], partition=record)]
            files.append(position_deletes(table, [(data.file_path, 1)], partition=record, bounds=False))
            if number:
                keys = [{"id": row["id"]} for row in members]
                files.append(equality_deletes(table, keys, ["id"], partition=record))
            left.update({row["id"]: row for row in members})
            for row in members[:2]:
                del left[row["id"]]
        table = commit(table, *files)
    return left


def delete_some(rows: Rows) -> None:
    for row_id in [row_id for row_id in rows if row_id % 5 == 2]:
        del rows[row_id]


def update_some(rows: Rows) -> None:
    for row_id in [row_id for row_id in rows if row_id % 7 == 1]:
        rows[row_id] = {**rows[row_id], "part": "b", "price": 70.0}


MERGED = some_rows(20, 25) + some_rows(500, 3)


def merge_some(rows: Rows) -> None:
    for row in MERGED:
        if row["id"] not in rows:
            rows[row["id"]] = row
        elif row["id"] % 2:
            del rows[row["id"]]
        else:
            rows[row["id"]] = {**rows[row["id"]], "price": row["price"]}


def replace_some(rows: Rows) -> None:
    for row_id in [row_id for row_id, row in rows.items() if row["part"] == "a"]:
        del rows[row_id]
    rows[600] = {"id": 600, "part": "a", "price": None}


STEPS: tuple[tuple[str, Callable[[Rows], None]], ...] = (
    ("DELETE FROM {table} WHERE id % 5 = 2", delete_some),
    ("UPDATE {table} SET part = 'b', price = 70 WHERE id % 7 = 1", update_some),
    (
        "MERGE INTO {table} AS t USING given AS s ON t.id = s.id WHEN MATCHED AND t.id % 2 = 1 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET price = s.price WHEN NOT MATCHED THEN INSERT *",
        merge_some,
    ),
    ("INSERT INTO {table} REPLACE WHERE part = 'a' VALUES (600, 'a', NULL)", replace_some),
)


def run(session: icefusion.Session, table: str, number: int, rows: Rows, mode: str) -> str:
    """Carry out a step; what it leaves for a session that has seen nothing before."""
    sql, effect = STEPS[number]
    given = {"given": pa.Table.from_pylist(MERGED, SCHEMA)} if "given" in sql else {}
    session.sql(sql.format(table=table), write_mode=mode, **given)
    effect(rows)
    with icefusion.connect(catalog=session.catalog.properties, name=session.catalog.name) as other:
        assert canonical_rows(other.sql(f"SELECT * FROM {table}").fetchall(), SCHEMA) == canonical(rows), sql
        assert other.sql(f"SELECT count(*) FROM {table}").fetchall() == [(len(rows),)]
    return location_of(session, table)


def canonical(rows: Rows) -> list[tuple[Any, ...]]:
    return rows_of(pa.Table.from_pylist(list(rows.values()), SCHEMA))


@pytest.fixture(scope="module", params=READERS)
def other_reader(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_reader")


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize("partitioned", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_stream_of_changes_is_changed(
    session: icefusion.Session, other_reader: Any, mode: str, partitioned: bool, merging: bool
) -> None:
    name = f"ns.stream{next(numbers)}"
    properties = MERGING if merging else {}
    # DuckDB 1.5.5 has an internal error on equality deletes of a NULL partition, after which it is of no use.
    parts = ("a", "b", "c") if other_reader.name == "duckdb" else PARTS
    rows = stream_of_changes(session, name, partitioned=partitioned, parts=parts, properties=properties)
    for number in range(len(STEPS)):
        location = run(session, name, number, rows, mode)
        assert canonical_rows(other_reader.rows(location), SCHEMA) == canonical(rows), STEPS[number][0]
    check_ages(session.catalog.load_table(name), merging=merging)


def check_ages(table: Table, *, merging: bool) -> None:
    """Each file keeps the age that it had when it came, in whatever manifest it is listed now."""
    first_seen: dict[str, tuple[int, int]] = {}
    for snapshot in table.snapshots():
        manifests = snapshot.manifests(table.io)
        for manifest in manifests:
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            ages = [(entry.data_file.file_path, entry.sequence_number) for entry in entries]
            for (path, age), entry in zip(ages, entries, strict=True):
                known = first_seen.setdefault(path, (snapshot.sequence_number, entry.snapshot_id))
                assert known == (age, entry.snapshot_id)
            if ages:
                assert manifest.min_sequence_number == min(age for _, age in ages)
                assert manifest.sequence_number >= max(age for _, age in ages)
        if merging and snapshot.summary.additional_properties.get("engine-name") == "icefusion":
            for content in ManifestContent:
                specs = [m.partition_spec_id for m in manifests if m.content == content]
                assert len(specs) == len(set(specs))


@pytest.mark.spark
def test_spark_lists_equality_deletes_out_of_manifests_that_were_merged(
    session: icefusion.Session, spark: Spark
) -> None:
    name = f"ns.stream{next(numbers)}"
    stream_of_changes(session, name, partitioned=True, properties=MERGING)
    spark.adopt("ice.db.listed_before", location_of(session, name))
    session.sql(f"DELETE FROM {name} WHERE id = 20", write_mode="merge-on-read")
    spark.adopt("ice.db.listed_after", location_of(session, name))
    columns = "data_file.content, data_file.file_path, sequence_number, file_sequence_number, snapshot_id"
    wanted = f"SELECT {columns}, data_file.equality_ids, data_file.record_count"
    before, after = (
        spark.sql(f"{wanted} FROM ice.db.{table}.entries WHERE status < 2")
        for table in ("listed_before", "listed_after")
    )
    assert [1] in [row[5] for row in after]
    assert {tuple(map(str, row)) for row in before} < {tuple(map(str, row)) for row in after}
    manifests = spark.sql("SELECT content, count(*) FROM ice.db.listed_after.manifests GROUP BY content")
    assert sorted(manifests) == [(0, 1), (1, 1)]


@pytest.mark.duckdb
@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_comes_back_in_a_new_file_is_not_deleted_by_its_old_deletes(
    session: icefusion.Session, duckdb_reader: DuckDBReader, mode: str
) -> None:
    name = f"ns.back{next(numbers)}"
    table = session.catalog.create_table(name, ICEBERG, properties={"format-version": "2"})
    data = rows_file(table, some_rows(0, 10))
    table = commit(table, data)
    table = commit(table, equality_deletes(table, [{"id": 1}, {"id": None}], ["id"]))
    table = commit(table, position_deletes(table, [(data.file_path, 2)]))
    # The new version has the key that the deletes are about.
    session.sql(f"UPDATE {name} SET id = 1 WHERE id = 5", write_mode=mode)
    session.sql(f"INSERT INTO {name} VALUES (2, 'a', 2)")
    rows = {row["id"]: row for row in some_rows(0, 10) if row["id"] not in (1, 2, 5)}
    rows[1] = {**some_rows(5, 1)[0], "id": 1}
    rows[2] = {"id": 2, "part": "a", "price": 2.0}
    expected = canonical(rows)
    found = session.sql(f"SELECT * FROM {name}").fetchall()
    assert canonical_rows(found, SCHEMA) == expected
    assert canonical_rows(duckdb_reader.rows(location_of(session, name)), SCHEMA) == expected


@pytest.mark.spark
def test_a_table_of_format_version_3_is_refused_and_read(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter
) -> None:
    spark.sql(
        "CREATE TABLE ice.db.third_version (id bigint, part string, price double) USING iceberg "
        "TBLPROPERTIES ('format-version' = '3', 'write.delete.mode' = 'merge-on-read')"
    )
    spark_writer.insert("ice.db.third_version", pa.Table.from_pylist(some_rows(0, 10), SCHEMA))
    spark.sql("DELETE FROM ice.db.third_version WHERE id IN (1, 2)")
    spark_writer.hand_over("ice.db.third_version", session, "ns.third_version")
    before = location_of(session, "ns.third_version")
    for mode in MODES:
        for sql in (*(sql for sql, _ in STEPS), "TRUNCATE TABLE {table}"):
            given = {"given": pa.Table.from_pylist(MERGED, SCHEMA)} if "given" in sql else {}
            with pytest.raises(UnsupportedStatementError, match="format version 3, which can be read but not written"):
                session.sql(sql.format(table="ns.third_version"), write_mode=mode, **given)
    assert location_of(session, "ns.third_version") == before
    expected = [row for row in some_rows(0, 10) if row["id"] not in (1, 2)]
    found = session.sql("SELECT * FROM ns.third_version").fetchall()
    assert canonical_rows(found, SCHEMA) == canonical({row["id"]: row for row in expected})
