"""The same history, told here and by Spark's changelog view."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from interop_tables import location_of
from spark_client import Spark

import icefusion

pytestmark = pytest.mark.spark

STATEMENTS = (
    "INSERT INTO {t} SELECT id + 20, 'late', NULL FROM {t} WHERE id < 5",
    "UPDATE {t} SET name = 'changed' WHERE id IN (1, 2)",
    "DELETE FROM {t} WHERE id % 4 = 3",
    "UPDATE {t} SET name = name WHERE id = 5",
    "MERGE INTO {t} t USING (SELECT * FROM {t} WHERE id < 3) s ON t.id = s.id "
    "WHEN MATCHED THEN UPDATE SET part = 'moved'",
    "INSERT OVERWRITE {t} PARTITION (part = 'a') SELECT 100, 'new'",
)


@pytest.fixture(scope="module")
def location(session: icefusion.Session, spark: Spark) -> str:
    """A table that both have changed, copying on write: Spark tells of no delete files."""
    session.sql("CREATE TABLE ns.told (id BIGINT, name STRING, part STRING) PARTITIONED BY (part)")
    rows = pa.table({"id": range(10), "name": [f"n{i}" for i in range(10)], "part": ["a", "b"] * 5})
    session.sql("INSERT INTO ns.told SELECT * FROM rows", rows=rows)
    for statement in STATEMENTS:
        session.sql(statement.format(t="ns.told"), write_mode="copy-on-write")
    spark.adopt("ice.db.told", location_of(session, "ns.told"))
    spark.sql("CALL ice.system.rewrite_data_files(table => 'db.told', options => map('rewrite-all', 'true'))")
    spark.sql("DELETE FROM ice.db.told WHERE id = 1")
    return spark.metadata_location("ice.db.told")


def test_both_tell_the_same(session: icefusion.Session, spark: Spark, location: str) -> None:
    session.catalog.register_table("ns.told_by_both", location)
    columns = "id, name, part, _change_type, _commit_snapshot_id"
    (view,) = spark.sql("CALL ice.system.create_changelog_view(table => 'db.told', changelog_view => 'told')")[0]
    theirs = spark.sql(f"SELECT {columns} FROM {view}")
    ours = session.sql(f"SELECT {columns} FROM table_changes('ns.told_by_both')").fetchall()

    def ordered(rows: list[Any]) -> list[str]:
        return sorted(map(repr, map(tuple, rows)))

    assert len(ours) > 25
    assert ordered(ours) == ordered(theirs)
