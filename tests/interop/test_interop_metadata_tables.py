"""Metadata tables of a table that Spark made, row for row and type for type as Spark shows them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from interop_tables import SparkWriter
from spark_client import Spark

import icefusion

pytestmark = pytest.mark.spark

KINDS = [
    "history",
    "snapshots",
    "refs",
    "files",
    "data_files",
    "delete_files",
    "all_files",
    "all_data_files",
    "all_delete_files",
    "manifests",
    "all_manifests",
    "entries",
    "all_entries",
    "partitions",
    "metadata_log_entries",
]
TABLES = {
    "shown": (
        "CREATE TABLE {t} (id int, ts timestamp, n timestamp_ntz, p string, b binary, dec decimal(9, 2), day date, "
        "flag boolean, r float, s struct<x: int, `Y z`: double>, l array<string>, m map<string, int>) USING iceberg "
        "PARTITIONED BY (p, days(ts), dec, day, flag) TBLPROPERTIES ('format-version' = '2', "
        "'write.delete.mode' = 'merge-on-read', 'write.distribution-mode' = 'none', "
        "'write.spark.fanout.enabled' = 'true')",
        "INSERT INTO {t} VALUES (1, timestamp'2024-01-01 10:00:00', timestamp_ntz'2024-01-01 10:00:00', 'a', X'00FF', "
        "1.25, date'2024-02-29', true, 0.5, named_struct('x', 1, 'Y z', 2.5), array('q'), map('k', 1)), "
        "(2, timestamp'1969-12-31 23:00:00', null, 'x/y', null, null, date'1969-12-31', false, float('nan'), null, "
        "null, null), (3, timestamp'2024-01-01 11:00:00', null, 'a', X'01', 1.25, date'2024-02-29', true, 1.5, null, "
        "null, null)",
        "DELETE FROM {t} WHERE id = 3",
        "ALTER TABLE {t} CREATE TAG before",
        "ALTER TABLE {t} ALTER COLUMN id TYPE bigint",
        "ALTER TABLE {t} RENAME COLUMN r TO ratio",
        "ALTER TABLE {t} ADD PARTITION FIELD bucket(4, id)",
        "ALTER TABLE {t} ADD PARTITION FIELD truncate(3, b)",
        "ALTER TABLE {t} DROP PARTITION FIELD p",
        "ALTER TABLE {t} REPLACE PARTITION FIELD ts_day WITH hours(ts)",
        "INSERT INTO {t} VALUES (4, null, null, 'b', X'01020304', 7.5, null, null, null, null, null, null)",
        "DELETE FROM {t} WHERE id = 1",
        "ALTER TABLE {t} CREATE BRANCH audit RETAIN 7 DAYS WITH SNAPSHOT RETENTION 3 SNAPSHOTS 2 DAYS",
        "CALL ice.system.rewrite_manifests('{n}')",
    ),
    "plain": (
        "CREATE TABLE {t} (id bigint, name string) USING iceberg TBLPROPERTIES ('format-version' = '1')",
        "INSERT INTO {t} VALUES (1, 'x')",
        "INSERT INTO {t} VALUES (2, null)",
        "DELETE FROM {t} WHERE id = 2",
    ),
    "void": (
        "CREATE TABLE {t} (id bigint, p string, q string) USING iceberg PARTITIONED BY (p, q) "
        "TBLPROPERTIES ('format-version' = '1')",
        "INSERT INTO {t} VALUES (1, 'x', 'y')",
        "ALTER TABLE {t} DROP PARTITION FIELD p",
        "INSERT INTO {t} VALUES (2, 'x', 'z')",
    ),
    "third": (
        "CREATE TABLE {t} (id bigint, p string) USING iceberg PARTITIONED BY (p) TBLPROPERTIES "
        "('format-version' = '3', 'write.delete.mode' = 'merge-on-read')",
        "INSERT INTO {t} VALUES (1, 'a'), (2, 'a'), (3, 'b')",
        "INSERT INTO {t} VALUES (4, 'b')",
        "DELETE FROM {t} WHERE id = 2",
    ),
    "empty": ("CREATE TABLE {t} (id bigint, p int) USING iceberg PARTITIONED BY (p)",),
}


@pytest.fixture(scope="module")
def made(spark: Spark, spark_writer: SparkWriter, session: icefusion.Session) -> None:
    for name, statements in TABLES.items():
        spark.script(
            *(statement.replace("{t}", f"ice.db.{name}").replace("{n}", f"db.{name}") for statement in statements)
        )
        spark_writer.hand_over(f"ice.db.{name}", session, f"ns.{name}")


def plain(value: Any) -> Any:
    """Structs as tuples, maps as sorted pairs, times as microseconds."""
    match value:
        case dict():
            return tuple(plain(inner) for inner in value.values())
        case list() if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return sorted((plain(key), plain(inner)) for key, inner in value)
        case list() | tuple():
            return [plain(item) for item in value] if isinstance(value, list) else tuple(plain(item) for item in value)
        case dt.datetime():
            return value.astimezone(dt.UTC) if value.tzinfo else value
        case float():
            return repr(value)
        case Decimal():
            return str(value)
    return value


def shown(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(repr(plain(row)) for row in rows)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_spark_shows_the_same(spark: Spark, session: icefusion.Session, table: str, kind: str) -> None:
    ours = session.sql(f"SELECT * FROM ns.{table}.{kind}")
    columns = [name for name, _, _ in spark.sql(f"DESCRIBE ice.db.{table}.{kind}") if name and not name.startswith("#")]
    assert ours.columns == columns[: len(ours.columns)]
    assert shown(ours.fetchall()) == shown(spark.sql(f"SELECT * FROM ice.db.{table}.{kind}"))


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("kind", ["files", "entries", "manifests", "partitions", "snapshots"])
def test_spark_names_the_same_types(spark: Spark, session: icefusion.Session, kind: str) -> None:
    theirs = [(name, of_spark(text)) for name, text, _ in spark.sql(f"DESCRIBE ice.db.shown.{kind}") if name]
    ours = [(name, of_icefusion(text)) for name, text, _ in session.sql(f"DESCRIBE ns.shown.{kind}").fetchall()]
    assert ours == theirs[: len(ours)]


def of_spark(text: str) -> str:
    return text.replace(" ", "").replace("`", "")


def of_icefusion(text: str) -> str:
    without = text.replace("timestamptz", "TZ").replace("timestamp", "timestamp_ntz").replace("TZ", "timestamp")
    return without.replace("list<", "array<").replace(": ", ":").replace(", ", ",").replace('"', "").replace(" ", "")


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("kind", ["files", "entries", "manifests", "partitions"])
def test_spark_shows_the_same_of_an_earlier_state(spark: Spark, session: icefusion.Session, kind: str) -> None:
    ours = session.sql(f"SELECT * FROM ns.shown.{kind} FOR VERSION AS OF 'before'")
    theirs = spark.sql(f"SELECT * FROM ice.db.shown.{kind} VERSION AS OF 'before'")
    assert shown(ours.fetchall()) == shown(theirs)
