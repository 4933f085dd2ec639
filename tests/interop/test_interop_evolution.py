"""Tables whose columns and partitions changed between one file and the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from interop_evolution import EVOLVED, ROWS_AFTER, ROWS_BEFORE, SQL_COLUMNS, evolve_with_pyiceberg
from interop_readers import Reader
from interop_rows import canonical_rows, rows_of
from interop_tables import SparkWriter, location_of
from pyiceberg.transforms import BucketTransform, IdentityTransform, MonthTransform, TruncateTransform
from spark_client import Spark

import icefusion

SPARK_CHANGES = (
    "RENAME COLUMN old_name TO new_name",
    "DROP COLUMN gone",
    "ALTER COLUMN small TYPE bigint",
    "ALTER COLUMN ratio TYPE double",
    "ALTER COLUMN price TYPE decimal(18, 2)",
    "RENAME COLUMN point.x TO ex",
    "DROP COLUMN point.y",
    "ADD COLUMN point.z int",
    "RENAME COLUMN items.element.a TO alpha",
    "ADD COLUMN items.element.c string",
    "ALTER COLUMN lookup.value.k TYPE bigint",
    "DROP COLUMN lookup.value.l",
    "ALTER COLUMN price FIRST",
    "ADD COLUMN added string",
    "ADD COLUMN gone string",
    "ADD COLUMN point.y string",
)


def rows(found: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return canonical_rows(found, EVOLVED.schema)


def read(session: icefusion.Session, table: str) -> list[tuple[Any, ...]]:
    return rows(session.sql(f"SELECT * FROM {table}").fetchall())


@pytest.fixture(scope="module")
def evolved(session: icefusion.Session) -> str:
    """Made and filled by icefusion, changed by PyIceberg in between."""
    session.sql(f"CREATE TABLE ns.evolved ({SQL_COLUMNS.format(list='list')})")
    session.writer("ns.evolved").write_batches(ROWS_BEFORE.to_batches())
    evolve_with_pyiceberg(session.catalog.load_table("ns.evolved"))
    session.writer("ns.evolved").write_batches(ROWS_AFTER.to_batches())
    return "ns.evolved"


def test_icefusion_reads_a_table_whose_schema_went_through_every_change(
    session: icefusion.Session, evolved: str
) -> None:
    assert read(session, evolved) == rows_of(EVOLVED)


def test_another_engine_reads_what_icefusion_wrote_before_and_after_a_schema_change(
    session: icefusion.Session, evolved: str, reader: Reader
) -> None:
    assert rows(reader.rows(location_of(session, evolved))) == rows_of(EVOLVED)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("small = -5", [1]),
        ("small < -5", [3]),
        ("ratio = 0.5", [1]),
        ("price = -1.25", [1]),
        ("new_name = ''", [2]),
        ("gone IS NULL", [1, 2, 4]),
        ("gone = 'back'", [3]),
        ("added IS NOT NULL", [3]),
        ("point['ex'] = 1.5", [1]),
        ("point['y'] = 'text'", [3]),
    ],
)
def test_conditions_on_changed_columns_prune_no_file_that_matches(
    session: icefusion.Session, evolved: str, condition: str, expected: list[int]
) -> None:
    found = session.sql(f"SELECT id FROM {evolved} WHERE {condition} ORDER BY id").fetchall()
    assert [row_id for (row_id,) in found] == expected


@pytest.fixture(scope="module")
def evolved_by_spark(session: icefusion.Session, spark: Spark, spark_writer: SparkWriter) -> str:
    """Made, filled and changed by Spark, handed over to icefusion at the end."""
    spark.sql(f"CREATE TABLE ice.db.evolved ({SQL_COLUMNS.format(list='array')}) USING iceberg")
    spark_writer.insert("ice.db.evolved", ROWS_BEFORE)
    spark.script(*(f"ALTER TABLE ice.db.evolved {change}" for change in SPARK_CHANGES))
    spark_writer.insert("ice.db.evolved", ROWS_AFTER)
    spark_writer.hand_over("ice.db.evolved", session, "ns.evolved_by_spark")
    return "ns.evolved_by_spark"


@pytest.mark.spark
def test_icefusion_reads_a_table_that_spark_changed_in_every_way(
    session: icefusion.Session, evolved_by_spark: str
) -> None:
    assert read(session, evolved_by_spark) == rows_of(EVOLVED)


@pytest.mark.spark
def test_spark_reads_what_icefusion_appended_to_a_table_that_it_had_changed(
    session: icefusion.Session, spark: Spark, evolved_by_spark: str
) -> None:
    session.writer(evolved_by_spark).write_batches(ROWS_AFTER.to_batches())
    expected = rows_of(pa.concat_tables([EVOLVED, ROWS_AFTER]))
    assert rows(spark.rows(location_of(session, evolved_by_spark))) == expected


# Partition specs

EVENTS = pa.table(
    {
        "id": pa.array(range(8), pa.int64()),
        "seen": pa.array([-(2**45), -1, 0, None, 1, 10**15, -(10**15), 86_400_000_000], pa.timestamp("us", tz="UTC")),
        "kind": pa.array(["", "é", None, "aa", "ab", "日本", "a", "zz"]),
    }
)
SPARK_SPECS = (
    "REPLACE PARTITION FIELD days(seen) WITH bucket(4, id)",
    "ADD PARTITION FIELD truncate(1, kind) AS initial",
    "DROP PARTITION FIELD initial",
    "ADD PARTITION FIELD months(seen)",
    "ADD PARTITION FIELD kind",
)


def events(first_id: int) -> pa.Table:
    ids = pa.array(range(first_id, first_id + len(EVENTS)), pa.int64())
    return EVENTS.set_column(0, "id", ids)


def found_by_kind(session: icefusion.Session, table: str) -> dict[str | None, list[int]]:
    text = f"SELECT id FROM {table} WHERE kind {{}} ORDER BY id"
    kinds = EVENTS["kind"].to_pylist()
    results = {
        kind: session.sql(text.format("IS NULL" if kind is None else f"= '{kind}'")).fetchall() for kind in kinds
    }
    return {kind: [row_id for (row_id,) in result] for kind, result in results.items()}


def expected_by_kind(rows: pa.Table) -> dict[str | None, list[int]]:
    pairs = list(zip(rows["id"].to_pylist(), rows["kind"].to_pylist(), strict=True))
    return {kind: sorted(i for i, k in pairs if k == kind) for _, kind in pairs}


@pytest.fixture(scope="module")
def many_specs(session: icefusion.Session) -> tuple[str, pa.Table]:
    """Filled by icefusion under each of the specs that PyIceberg gives the table."""
    name = "ns.many_specs"
    session.sql(f"CREATE TABLE {name} (id bigint, seen timestamptz, kind string) PARTITIONED BY (day(seen))")
    changes = (
        lambda spec: spec.remove_field("seen_day").add_field("id", BucketTransform(4), "shard"),
        lambda spec: spec.add_field("kind", TruncateTransform(1), "initial"),
        lambda spec: spec.rename_field("initial", "first_letter").add_field("seen", MonthTransform(), "month"),
        lambda spec: spec.remove_field("first_letter").remove_field("shard").remove_field("month"),
        lambda spec: spec.add_field("kind", IdentityTransform(), "kind"),
    )
    given = [events(0)]
    session.writer(name).write_batches(given[0].to_batches())
    for change in changes:
        with session.catalog.load_table(name).update_spec() as update:
            change(update)
        given.append(events(100 * len(given)))
        session.writer(name).write_batches(given[-1].to_batches())
    return name, pa.concat_tables(given)


def test_icefusion_reads_files_of_many_specs(session: icefusion.Session, many_specs: tuple[str, pa.Table]) -> None:
    name, given = many_specs
    assert rows_of(session.sql(f"SELECT * FROM {name}").to_arrow(), given.schema) == rows_of(given)


def test_icefusion_finds_values_in_files_of_many_specs(
    session: icefusion.Session, many_specs: tuple[str, pa.Table]
) -> None:
    name, given = many_specs
    assert found_by_kind(session, name) == expected_by_kind(given)


def test_another_engine_reads_files_that_icefusion_wrote_under_many_specs(
    session: icefusion.Session, many_specs: tuple[str, pa.Table], reader: Reader
) -> None:
    name, given = many_specs
    assert canonical_rows(reader.rows(location_of(session, name)), given.schema) == rows_of(given)


@pytest.fixture(scope="module", params=["1", "2"])
def many_specs_by_spark(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, request: pytest.FixtureRequest
) -> tuple[str, pa.Table]:
    """Filled by Spark under each spec, in both format versions: version 1 keeps dropped fields as void."""
    table, name = f"ice.db.specs_v{request.param}", f"ns.specs_by_spark_v{request.param}"
    spark.sql(
        f"CREATE TABLE {table} (id bigint, seen timestamp, kind string) USING iceberg PARTITIONED BY (days(seen)) "
        f"TBLPROPERTIES ('format-version'='{request.param}', 'write.spark.fanout.enabled'='true', "
        "'write.distribution-mode'='none')"
    )
    given = [events(0)]
    spark_writer.insert(table, given[0])
    for change in SPARK_SPECS:
        spark.sql(f"ALTER TABLE {table} {change}")
        given.append(events(100 * len(given)))
        spark_writer.insert(table, given[-1])
    spark_writer.hand_over(table, session, name)
    return name, pa.concat_tables(given)


@pytest.mark.spark
def test_icefusion_reads_files_that_spark_wrote_under_many_specs(
    session: icefusion.Session, many_specs_by_spark: tuple[str, pa.Table]
) -> None:
    name, given = many_specs_by_spark
    first = session.sql(f"SELECT * FROM {name} WHERE id < 1000").to_arrow()
    assert rows_of(first, given.schema) == rows_of(given)


@pytest.mark.spark
def test_spark_reads_what_icefusion_appended_under_the_last_of_many_specs(
    session: icefusion.Session, spark: Spark, many_specs_by_spark: tuple[str, pa.Table]
) -> None:
    name, given = many_specs_by_spark
    more = events(1000)
    session.writer(name).write_batches(more.to_batches())
    expected = rows_of(pa.concat_tables([given, more]))
    assert canonical_rows(spark.rows(location_of(session, name)), given.schema) == expected
    assert found_by_kind(session, name) == expected_by_kind(pa.concat_tables([given, more]))
