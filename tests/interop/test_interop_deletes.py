"""Tables whose rows are deleted by delete files: what is gone for other engines is gone here, and nothing else."""

from __future__ import annotations

from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from delete_writing import commit, equality_deletes, position_deletes, rows_file
from interop_readers import DuckDBReader
from interop_rows import canonical_rows
from interop_tables import SparkWriter, location_of
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType
from spark_client import Spark

import icefusion

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("price", pa.float64())])
NAN = float("nan")
numbers = count()

MERGE_ON_READ = ", ".join(f"'write.{change}.mode'='merge-on-read'" for change in ("delete", "update", "merge"))


def some_rows(first: int, size: int) -> pa.Table:
    ids = range(first, first + size)
    prices = [(None, NAN, -0.0, 0.0)[i % 7] if i % 7 < 4 else i / 4 for i in ids]
    return pa.table({"id": list(ids), "part": ["abc"[i % 3] for i in ids], "price": prices}, schema=SCHEMA)


def read(session: icefusion.Session, table: str, schema: pa.Schema = SCHEMA) -> list[tuple[Any, ...]]:
    found = canonical_rows(session.sql(f"SELECT * FROM {table}").fetchall(), schema)
    (size,) = session.sql(f"SELECT count(*) FROM {table}").fetchall()[0]
    assert size == len(found)
    return found


@pytest.fixture
def table(spark: Spark, spark_writer: SparkWriter) -> Any:
    """Makes a table in Spark that deletes by delete files, of three data files and with a delete so far."""

    def make(version: str, *, partitioned_by: str = "", granularity: str = "file") -> str:
        name = f"ice.db.deletes{next(numbers)}"
        partitioning = f"PARTITIONED BY ({partitioned_by})" if partitioned_by else ""
        spark.sql(
            f"CREATE TABLE {name} (id bigint, part string, price double) USING iceberg {partitioning} TBLPROPERTIES "
            f"('format-version'='{version}', {MERGE_ON_READ}, 'write.delete.granularity'='{granularity}')"
        )
        for number in range(3):
            spark_writer.insert(name, some_rows(number * 40, 40))
        spark.sql(f"DELETE FROM {name} WHERE id % 5 = 1")
        return name

    return make


@pytest.mark.spark
@pytest.mark.parametrize("granularity", ["file", "partition"])
@pytest.mark.parametrize("partitioned_by", ["", "part", "bucket(2, id), part"])
@pytest.mark.parametrize("version", ["2", "3"])
def test_rows_that_spark_deleted_are_gone(
    session: icefusion.Session,
    spark: Spark,
    spark_writer: SparkWriter,
    table: Any,
    version: str,
    partitioned_by: str,
    granularity: str,
) -> None:
    name = table(version, partitioned_by=partitioned_by, granularity=granularity)
    ours = f"ns.d{next(numbers)}"
    for statement in (
        f"DELETE FROM {name} WHERE id = 42",
        f"UPDATE {name} SET price = price + 1 WHERE id % 4 = 0",
        f"MERGE INTO {name} t USING (SELECT explode(sequence(110, 130)) AS id) s ON t.id = s.id "
        f"WHEN MATCHED AND t.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET part = 'b' "
        f"WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
        f"DELETE FROM {name} WHERE isnan(price)",
        f"ALTER TABLE {name} RENAME COLUMN part TO side",
        f"DELETE FROM {name} WHERE side = 'c' AND id > 100",
    ):
        spark.sql(statement)
        spark_writer.hand_over(name, session, ours)
        found = read(session, ours)
        assert found == canonical_rows(spark.sql(f"SELECT * FROM {name}"), SCHEMA)
    columns = spark.sql(f"SELECT content, file_format FROM {name}.delete_files")
    assert {file_format for _, file_format in columns} == ({"PARQUET"} if version == "2" else {"PUFFIN"})


@pytest.mark.spark
def test_a_table_that_was_upgraded_has_deletes_of_both_kinds(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, table: Any
) -> None:
    name = table("2", granularity="partition")
    spark.script(
        f"ALTER TABLE {name} SET TBLPROPERTIES ('format-version'='3')",
        f"DELETE FROM {name} WHERE id BETWEEN 45 AND 50",
    )
    spark_writer.insert(name, some_rows(200, 10))
    spark_writer.hand_over(name, session, "ns.upgraded")
    formats = {row[0] for row in spark.sql(f"SELECT file_format FROM {name}.delete_files")}
    assert "PUFFIN" in formats
    assert read(session, "ns.upgraded") == canonical_rows(spark.sql(f"SELECT * FROM {name}"), SCHEMA)


@pytest.mark.spark
def test_several_deletion_vectors_share_a_file(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, table: Any
) -> None:
    name = table("3")
    (vectors, files) = spark.sql(f"SELECT count(*), count(DISTINCT file_path) FROM {name}.delete_files")[0]
    assert vectors > files
    spark_writer.hand_over(name, session, "ns.shared")
    assert read(session, "ns.shared") == canonical_rows(spark.sql(f"SELECT * FROM {name}"), SCHEMA)


# Deletes by value are what Flink writes; here they are made by hand. In each test the other engine says what is left.


def stream_of_changes(session: icefusion.Session, name: str, *, partitioned: bool) -> None:
    """A table as a stream of changes leaves it: each commit deletes keys and adds rows for some of them."""
    schema = Schema(
        NestedField(1, "id", LongType()), NestedField(2, "part", StringType()), NestedField(3, "price", DoubleType())
    )
    table = session.catalog.create_table(name, schema, properties={"format-version": "2"})
    if partitioned:
        with table.update_spec() as update:
            update.add_identity("part")
        table = table.refresh()
    for number in range(5):
        rows = some_rows(number * 6, 15).to_pylist()
        groups: dict[Any, list[Any]] = {}
        for row in rows:
            groups.setdefault(row["part"] if partitioned else None, []).append(row)
        files = []
        for part, members in groups.items():
            record = Record(part) if partitioned else Record()
            data = rows_file(table, members, partition=record)
            files.append(data)
            if number:
                keys = [{"id": row["id"]} for row in members]
                files.append(equality_deletes(table, keys, ["id"], partition=record))
            files.append(position_deletes(table, [(data.file_path, 0)], partition=record))
        table = commit(table, *files)


@pytest.mark.spark
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_stream_of_changes_is_read_as_spark_does(session: icefusion.Session, spark: Spark, partitioned: bool) -> None:
    name = f"ns.stream{next(numbers)}"
    stream_of_changes(session, name, partitioned=partitioned)
    expected = canonical_rows(spark.rows(location_of(session, name)), SCHEMA)
    assert read(session, name) == expected


@pytest.mark.duckdb
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_stream_of_changes_is_read_as_duckdb_does(
    session: icefusion.Session, duckdb_reader: DuckDBReader, partitioned: bool
) -> None:
    name = f"ns.stream{next(numbers)}"
    stream_of_changes(session, name, partitioned=partitioned)
    assert read(session, name) == canonical_rows(duckdb_reader.rows(location_of(session, name)), SCHEMA)


@pytest.mark.spark
def test_keys_are_compared_as_spark_does(session: icefusion.Session, spark: Spark) -> None:
    # Not by a column that was dropped since: Iceberg 1.10 fails to plan that.
    schema = Schema(
        NestedField(1, "id", LongType()),
        NestedField(2, "part", StringType()),
        NestedField(3, "price", DoubleType()),
        NestedField(5, "i", IntegerType()),
    )
    table = session.catalog.create_table("ns.keys", schema, properties={"format-version": "2"})
    rows = [{**row, "i": row["id"] % 11} for row in some_rows(0, 60).to_pylist()]
    table = commit(table, rows_file(table, rows))
    table = commit(
        table,
        equality_deletes(table, [{"price": NAN}, {"price": -0.0}], ["price"]),
        equality_deletes(table, [{"price": None, "part": "a"}], ["price", "part"]),
        equality_deletes(table, [{"i": 5}], ["i"]),
    )
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.rename_column("price", "cost")
        update.add_column("added", LongType())
    table = table.refresh()
    table = commit(table, rows_file(table, [{"id": 100, "i": 6, "added": 1}]))
    both = equality_deletes(table, [{"i": 6, "added": None}], ["i", "added"])
    table = commit(table, both, equality_deletes(table, [{"i": 7}], ["i"]))
    types = {"id": pa.int64(), "part": pa.string(), "cost": pa.float64(), "i": pa.int64(), "added": pa.int64()}
    arrow = pa.schema(list(types.items()))
    expected = canonical_rows(spark.rows(location_of(session, "ns.keys")), arrow)
    assert read(session, "ns.keys", arrow) == expected
    assert 100 in [row[0] for row in expected]


@pytest.mark.duckdb
def test_positions_are_read_as_duckdb_does(session: icefusion.Session, duckdb_reader: DuckDBReader) -> None:
    schema = Schema(
        NestedField(1, "id", LongType()), NestedField(2, "part", StringType()), NestedField(3, "price", DoubleType())
    )
    table = session.catalog.create_table("ns.positions", schema, properties={"format-version": "2"})
    one, two = rows_file(table, some_rows(0, 30).to_pylist()), rows_file(table, some_rows(30, 30).to_pylist())
    table = commit(table, one, two)
    table = commit(table, position_deletes(table, [(one.file_path, 3), (one.file_path, 20), (two.file_path, 0)]))
    table = commit(table, position_deletes(table, [(two.file_path, 29)]))
    found = read(session, "ns.positions")
    assert len(found) == 56
    assert found == canonical_rows(duckdb_reader.rows(location_of(session, "ns.positions")), SCHEMA)
