"""What only Iceberg's reference implementation makes: old and new format versions, adopted files, row-level deletes."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interop_cases import arrow_table, cases_for
from interop_readers import Reader, quoted
from interop_rows import canonical_rows, rows_of
from interop_tables import SparkWriter, create_with_icefusion, location_of
from spark_client import Spark

import icefusion
from icefusion.errors import UnsupportedStatementError

pytestmark = pytest.mark.spark

SOME_ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "name": pa.array(["naïve", "", None, "日本"]),
        "price": pa.array([0.5, float("nan"), None, -0.0], pa.float64()),
    }
)
MORE_ROWS = pa.table(
    {"id": pa.array([5, 6], pa.int64()), "name": pa.array(["five", None]), "price": pa.array([5.0, None], pa.float64())}
)
COLUMNS = "(id bigint, name string, price double)"
numbers = count()


@pytest.fixture
def table() -> str:
    """A name that no other test uses, the same for both sides."""
    return f"t{next(numbers)}"


@pytest.fixture
def made_by_spark(spark: Spark, spark_writer: SparkWriter, session: icefusion.Session, table: str) -> Any:
    """Creates and fills a table in Spark and hands it over; returns its name in icefusion."""

    def make(*statements: str, partitioned_by: str = "", **properties: str) -> str:
        pairs = {"format-version": "2", **{key.replace("_", "-"): value for key, value in properties.items()}}
        given = ", ".join(f"'{key}'='{value}'" for key, value in pairs.items())
        partitioning = f"PARTITIONED BY ({partitioned_by})" if partitioned_by else ""
        spark.sql(f"CREATE TABLE ice.db.{table} {COLUMNS} USING iceberg {partitioning} TBLPROPERTIES ({given})")
        spark_writer.insert(f"ice.db.{table}", SOME_ROWS)
        spark.script(*(statement.format(table=f"ice.db.{table}") for statement in statements))
        spark_writer.hand_over(f"ice.db.{table}", session, f"ns.{table}")
        return f"ns.{table}"

    return make


def rows(found: Any) -> list[tuple[Any, ...]]:
    return canonical_rows(found, SOME_ROWS.schema)


def read(session: icefusion.Session, table: str, clause: str = "") -> list[tuple[Any, ...]]:
    return rows(session.sql(f"SELECT id, name, price FROM {table} {clause}").fetchall())


# Format versions


@pytest.mark.parametrize("partitioned_by", ["", "name", "bucket(3, id), truncate(1, name)"])
def test_icefusion_reads_and_appends_to_a_v1_table_and_spark_reads_it_back(
    session: icefusion.Session, spark: Spark, made_by_spark: Any, partitioned_by: str
) -> None:
    name = made_by_spark(partitioned_by=partitioned_by, format_version="1")
    assert read(session, name) == rows_of(SOME_ROWS)
    session.writer(name).write_batches(MORE_ROWS.to_batches())
    session.sql(f"INSERT INTO {name} (price, id) VALUES (7.5, 7)")
    expected = rows([*rows_to_tuples(SOME_ROWS), *rows_to_tuples(MORE_ROWS), (7, None, 7.5)])
    assert rows(spark.rows(location_of(session, name))) == expected
    assert session.catalog.load_table(name).format_version == 1


def test_every_type_goes_into_a_v1_table_that_spark_made(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter
) -> None:
    cases = cases_for("spark", "spark-writer")
    spark_writer.create("ice.db.v1_types", cases, **{"format-version": "1"})
    spark_writer.insert("ice.db.v1_types", arrow_table(cases))
    spark_writer.hand_over("ice.db.v1_types", session, "ns.v1_types")
    more = arrow_table(cases, first_id=100)
    session.writer("ns.v1_types").write_batches(more.to_batches())
    expected = rows_of(pa.concat_tables([arrow_table(cases), more]))
    assert canonical_rows(spark.rows(location_of(session, "ns.v1_types")), more.schema) == expected
    assert canonical_rows(session.sql("SELECT * FROM ns.v1_types").fetchall(), more.schema) == expected


def test_a_v3_table_is_read(session: icefusion.Session, made_by_spark: Any) -> None:
    name = made_by_spark(partitioned_by="name", format_version="3")
    assert read(session, name) == rows_of(SOME_ROWS)


def test_a_write_to_a_v3_table_is_refused_with_the_reason(session: icefusion.Session, made_by_spark: Any) -> None:
    name = made_by_spark(format_version="3")
    before = location_of(session, name)
    with pytest.raises(UnsupportedStatementError, match="format version 3"):
        session.sql(f"INSERT INTO {name} VALUES (9, 'nine', 9.0)")
    with pytest.raises(UnsupportedStatementError, match="format version 3"):
        session.writer(name).write_batches(MORE_ROWS.to_batches())
    assert location_of(session, name) == before


# Deletes


def test_the_snapshot_before_row_level_deletes_is_read(session: icefusion.Session, made_by_spark: Any) -> None:
    name = made_by_spark(
        "ALTER TABLE {table} SET TBLPROPERTIES ('write.delete.mode'='merge-on-read')",
        "DELETE FROM {table} WHERE id = 2",
    )
    first = session.catalog.load_table(name).snapshots()[0].snapshot_id
    assert read(session, name, f"FOR VERSION AS OF {first}") == rows_of(SOME_ROWS)


def test_an_append_leaves_row_level_deletes_in_force(
    session: icefusion.Session, spark: Spark, made_by_spark: Any
) -> None:
    name = made_by_spark(
        "ALTER TABLE {table} SET TBLPROPERTIES ('write.delete.mode'='merge-on-read')",
        "DELETE FROM {table} WHERE id = 2",
    )
    session.writer(name).write_batches(MORE_ROWS.to_batches())
    expected = rows_of(pa.concat_tables([SOME_ROWS.filter(pa.array([True, False, True, True])), MORE_ROWS]))
    assert rows(spark.rows(location_of(session, name))) == expected
    assert read(session, name) == expected


def test_copy_on_write_changes_by_spark_are_read(session: icefusion.Session, made_by_spark: Any) -> None:
    name = made_by_spark(
        "DELETE FROM {table} WHERE id = 1",
        "UPDATE {table} SET name = 'two' WHERE id = 2",
        "MERGE INTO {table} t USING (SELECT 3L AS id UNION ALL SELECT 8L) s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET name = 'three' WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
    )
    expected = [(2, "two", float("nan")), (3, "three", None), (4, "日本", -0.0), (8, None, None)]
    assert read(session, name) == rows(expected)


# Names


ODD_NAMES = ("a-b", "naïve col", "select", "1st", 'qu"ote', "日本", "_x2D", "a.b", "a/b=c")


def odd_rows() -> pa.Table:
    columns = {name: pa.array([f"{name} 1", None, ""]) for name in ODD_NAMES}
    return pa.table({"id": pa.array([1, 2, 3], pa.int64()), **columns})


def test_icefusion_reads_and_appends_to_a_table_with_odd_column_names(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter
) -> None:
    given = odd_rows()
    columns = ", ".join(f"`{name}` string" for name in ODD_NAMES)
    spark.sql(
        f"CREATE TABLE ice.db.odd (id bigint, {columns}) USING iceberg "
        "PARTITIONED BY (`a-b`, truncate(2, `naïve col`), `1st`)"
    )
    spark_writer.insert("ice.db.odd", given)
    spark_writer.hand_over("ice.db.odd", session, "ns.odd")
    assert rows_of(session.sql("SELECT * FROM ns.odd").to_arrow(), given.schema) == rows_of(given)
    session.writer("ns.odd").write_batches(given.to_batches())
    twice = rows_of(pa.concat_tables([given, given]))
    assert canonical_rows(spark.rows(location_of(session, "ns.odd")), given.schema) == twice
    found = session.sql("SELECT id FROM ns.odd WHERE \"a-b\" = 'a-b 1' AND \"naïve col\" = 'naïve col 1'").fetchall()
    assert found == [(1,), (1,)]


def test_another_engine_reads_a_table_with_odd_column_names(session: icefusion.Session, reader: Reader) -> None:
    given = odd_rows()
    columns = ", ".join(f"{quoted(name)} string" for name in ODD_NAMES)
    table = f"ns.odd_for_{reader.name}"
    # DuckDB 1.5.5 aborts the process on letters beyond ASCII in the names of a manifest's partition fields. Java writes
    # them there, too.
    keys = '"a-b", "1st"' if reader.name == "duckdb" else '"a-b", "1st", truncate(2, "naïve col"), "日本"'
    session.sql(f"CREATE TABLE {table} (id bigint, {columns}) PARTITIONED BY ({keys})")
    session.sql(f"INSERT INTO {table} SELECT * FROM given", given=given)
    assert canonical_rows(reader.rows(location_of(session, table)), given.schema) == rows_of(given)


# Adopted files


def test_files_that_spark_adopted_by_name_are_read_through_the_name_mapping(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, tmp_path: Path
) -> None:
    """The files have no field ids, and their partition columns stand in the folders' names alone."""
    for country, ids in (("fr", [1, 2]), ("日本", [3])):
        folder = tmp_path / "hive" / f"country={country}"
        folder.mkdir(parents=True)
        column = pa.array([f"é{row_id}" for row_id in ids])
        point = pa.array([{"x": float(row_id), "y": None} for row_id in ids])
        pq.write_table(
            pa.table({"name": column, "id": pa.array(ids, pa.int32()), "point": point}), folder / "f.parquet"
        )
    spark.sql(
        "CREATE TABLE ice.db.adopted (id int, name string, point struct<x: double, y: int>, country string) "
        "USING iceberg PARTITIONED BY (country)"
    )
    spark.sql(f"CALL ice.system.add_files(table => 'db.adopted', source_table => '`parquet`.`{tmp_path / 'hive'}`')")
    spark.sql("ALTER TABLE ice.db.adopted RENAME COLUMN name TO label")
    spark.sql("ALTER TABLE ice.db.adopted RENAME COLUMN point.x TO ex")
    spark.sql("ALTER TABLE ice.db.adopted ALTER COLUMN id TYPE bigint")
    spark_writer.hand_over("ice.db.adopted", session, "ns.adopted")
    expected = [
        (1, "é1", {"ex": 1.0, "y": None}, "fr"),
        (2, "é2", {"ex": 2.0, "y": None}, "fr"),
        (3, "é3", {"ex": 3.0, "y": None}, "日本"),
    ]
    found = session.sql("SELECT id, label, point, country FROM ns.adopted ORDER BY id").fetchall()
    assert found == expected
    assert session.sql("SELECT id FROM ns.adopted WHERE country = '日本'").fetchall() == [(3,)]
    session.sql("INSERT INTO ns.adopted (id, country) VALUES (4, 'fr')")
    theirs = spark.rows(location_of(session, "ns.adopted"), "id", "label", "point.ex", "country")
    assert sorted(theirs) == [(1, "é1", 1.0, "fr"), (2, "é2", 2.0, "fr"), (3, "é3", 3.0, "日本"), (4, None, None, "fr")]


# Properties of tables


def test_icefusion_keeps_to_the_sort_order_that_spark_gave_a_table(
    session: icefusion.Session, spark: Spark, made_by_spark: Any
) -> None:
    name = made_by_spark("ALTER TABLE {table} WRITE ORDERED BY name DESC NULLS LAST, truncate(10, id) ASC")
    before = {task.file.file_path for task in session.catalog.load_table(name).scan().plan_files()}
    session.writer(name).write_batches(SOME_ROWS.to_batches())
    table = session.catalog.load_table(name)
    (newest,) = (task.file for task in table.scan().plan_files() if task.file.file_path not in before)
    written = pq.read_table(urlparse(newest.file_path).path)
    assert written["name"].to_pylist() == ["日本", "naïve", "", None]
    assert newest.sort_order_id == table.sort_order().order_id
    assert len(spark.rows(location_of(session, name))) == 2 * len(SOME_ROWS)


@pytest.mark.parametrize(
    "properties",
    [
        {"write.metadata.compression-codec": "gzip"},
        {"write.object-storage.enabled": "true"},
        {"write.parquet.compression-codec": "gzip"},
        {"write.metadata.metrics.default": "none"},
    ],
    ids=lambda properties: next(iter(properties)),
)
def test_icefusion_reads_and_appends_to_a_table_with_properties_that_change_its_files(
    session: icefusion.Session, spark: Spark, made_by_spark: Any, properties: dict[str, str]
) -> None:
    name = made_by_spark(partitioned_by="bucket(2, id)", **properties)
    session.writer(name).write_batches(MORE_ROWS.to_batches())
    expected = rows_of(pa.concat_tables([SOME_ROWS, MORE_ROWS]))
    assert read(session, name) == expected
    assert rows(spark.rows(location_of(session, name))) == expected


@pytest.mark.parametrize("format_name", ["avro", "orc"])
def test_files_that_are_not_parquet_are_refused_by_name(
    session: icefusion.Session, made_by_spark: Any, format_name: str
) -> None:
    name = made_by_spark(**{"write.format.default": format_name})
    with pytest.raises(UnsupportedStatementError, match=f"(?i){format_name}"):
        session.sql(f"SELECT * FROM {name}").fetchall()


def test_branches_tags_and_earlier_snapshots_of_spark_are_read(session: icefusion.Session, made_by_spark: Any) -> None:
    name = made_by_spark(
        "ALTER TABLE {table} CREATE TAG first",
        "ALTER TABLE {table} CREATE BRANCH side",
        "INSERT INTO {table}.branch_side VALUES (9, 'side', 9.0)",
        "ALTER TABLE {table} RENAME COLUMN name TO label",
        "DELETE FROM {table} WHERE id > 1",
    )
    everything = rows_to_tuples(SOME_ROWS)
    tagged = session.sql(f"SELECT * FROM {name} FOR VERSION AS OF 'first'").fetchall()
    branched = session.sql(f"SELECT * FROM {name} FOR VERSION AS OF 'side'").fetchall()
    assert rows(tagged) == rows(everything)
    assert rows(branched) == rows([*everything, (9, "side", 9.0)])
    assert session.sql(f"SELECT label FROM {name}").fetchall() == [("naïve",)]


# Spark on tables of icefusion


def test_spark_changes_a_table_that_icefusion_made_and_icefusion_reads_it(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter
) -> None:
    session.sql(f"CREATE TABLE ns.ours {COLUMNS} PARTITIONED BY (bucket(3, id))")
    session.sql("INSERT INTO ns.ours SELECT * FROM given", given=SOME_ROWS)
    spark.adopt("ice.db.ours", location_of(session, "ns.ours"))
    spark.script(
        "DELETE FROM ice.db.ours WHERE id = 2",
        "UPDATE ice.db.ours SET name = concat(name, '!') WHERE id = 4",
        "DELETE FROM ice.db.ours WHERE id = 3",
    )
    spark_writer.insert("ice.db.ours", MORE_ROWS)
    spark_writer.hand_over("ice.db.ours", session, "ns.theirs")
    expected = [(1, "naïve", 0.5), (4, "日本!", -0.0), *rows_to_tuples(MORE_ROWS)]
    assert read(session, "ns.theirs") == rows(expected)


def test_the_sql_types_of_a_column_are_the_same_in_spark(session: icefusion.Session, spark: Spark) -> None:
    cases = cases_for("spark", "spark-writer")
    create_with_icefusion(session, "ns.described", cases)
    spark.adopt("ice.db.described", location_of(session, "ns.described"))
    described = {name: kind for name, kind, _ in spark.sql("DESCRIBE TABLE ice.db.described")}
    assert [described[case.name].replace(" ", "").replace(":", ":") for case in cases] == [
        case.spark_sql.replace(" ", "") for case in cases
    ]


def rows_to_tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
