"""The same question about an earlier state, asked of Spark and of icefusion, in words that both understand."""

from __future__ import annotations

from typing import Any

import pytest
from interop_tables import SparkWriter
from spark_client import Spark, SparkError

import icefusion as ice

pytestmark = pytest.mark.spark

THEIRS, OURS = "ice.db.travelled", "ns.travelled"


@pytest.fixture(scope="module")
def table(spark: Spark, spark_writer: SparkWriter, session: ice.Session) -> Any:
    """A table with a history: a renamed and a new column, a tag, a branch that went on, and a rollback."""
    spark.script(
        f"CREATE TABLE {THEIRS} (id bigint, name string) USING iceberg",
        f"INSERT INTO {THEIRS} VALUES (1, 'a')",
        f"ALTER TABLE {THEIRS} CREATE TAG first",
        f"INSERT INTO {THEIRS} VALUES (2, 'b')",
        f"ALTER TABLE {THEIRS} CREATE BRANCH audit",
        f"ALTER TABLE {THEIRS} RENAME COLUMN name TO label",
        f"ALTER TABLE {THEIRS} ADD COLUMN n int",
        f"INSERT INTO {THEIRS}.branch_audit VALUES (3, 'c', 30)",
        f"INSERT INTO {THEIRS} VALUES (4, 'd', 40)",
        f"DELETE FROM {THEIRS} WHERE id = 1",
    )
    second = spark.sql(f"SELECT snapshot_id FROM {THEIRS}.snapshots ORDER BY committed_at")[1][0]
    spark.sql(f"CALL ice.system.rollback_to_snapshot('db.travelled', {second})")
    spark.sql(f"INSERT INTO {THEIRS} VALUES (5, 'e', 50)")
    spark_writer.hand_over(THEIRS, session, OURS)
    return session.catalog.load_table(OURS).metadata


def answers(spark: Spark, session: ice.Session, clause: str) -> tuple[list[Any], list[Any]]:
    """The rows, columns in the order of the schema that the state is read with."""
    theirs = sorted(map(tuple, spark.sql(f"SELECT * FROM {THEIRS}{clause}")))
    ours = sorted(session.sql(f"SELECT * FROM {OURS}{clause}").fetchall())
    return theirs, ours


@pytest.mark.parametrize(
    "clause",
    [
        " VERSION AS OF 'first'",
        " FOR VERSION AS OF 'audit'",
        " FOR SYSTEM_VERSION AS OF 'main'",
        ".branch_audit",
        ".tag_first",
        ".branch_main",
        "",
    ],
)
def test_a_branch_or_tag_has_the_same_rows_and_columns(
    spark: Spark, session: ice.Session, table: Any, clause: str
) -> None:
    theirs, ours = answers(spark, session, clause)
    assert ours == theirs
    assert ours


def test_each_snapshot_has_the_same_rows_and_columns(spark: Spark, session: ice.Session, table: Any) -> None:
    for snapshot in table.snapshots:
        for clause in (f" VERSION AS OF {snapshot.snapshot_id}", f".snapshot_id_{snapshot.snapshot_id}"):
            theirs, ours = answers(spark, session, clause)
            assert ours == theirs, clause


def test_each_moment_has_the_same_rows_and_columns(spark: Spark, session: ice.Session, table: Any) -> None:
    """The log also has the rollback; what was rolled back was current before it."""
    moments = [entry.timestamp_ms for entry in table.snapshot_log]
    assert len(moments) > len({entry.snapshot_id for entry in table.snapshot_log})
    for moment in [*moments, *(moment + 1 for moment in moments)]:
        theirs, ours = answers(spark, session, f".at_timestamp_{moment}")
        assert ours == theirs, moment
        clause = f" TIMESTAMP AS OF timestamp_millis({moment})"
        theirs = sorted(map(tuple, spark.sql(f"SELECT * FROM {THEIRS}{clause}")))
        ours = sorted(session.sql(f"SELECT * FROM {OURS} TIMESTAMP AS OF to_timestamp_millis({moment})").fetchall())
        assert ours == theirs, moment
    whole_seconds = moments[-1] // 1000 + 1
    theirs, ours = answers(spark, session, f" TIMESTAMP AS OF {whole_seconds}")
    assert ours == theirs


def test_before_the_first_moment_both_refuse(spark: Spark, session: ice.Session, table: Any) -> None:
    before = table.snapshot_log[0].timestamp_ms - 1
    with pytest.raises(SparkError):
        spark.sql(f"SELECT * FROM {THEIRS}.at_timestamp_{before}")
    with pytest.raises(ice.BindError, match="its history begins at"):
        session.sql(f"SELECT * FROM {OURS}.at_timestamp_{before}")
