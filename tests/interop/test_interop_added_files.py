"""Files that were added to a table as they are, read by other engines: their rows, and what their metrics leave out."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interop_readers import Reader

import icefusion

DAYS = (dt.date(2024, 5, 1), dt.date(2024, 5, 2))


@pytest.fixture(scope="module")
def location(session: icefusion.Session, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of two files of somebody else's, in partitions that folders and values tell."""
    session.sql(
        "CREATE TABLE ns.added (id BIGINT, name STRING, at TIMESTAMP, tags LIST<INT>, day DATE) "
        "PARTITIONED BY (day, truncate(1, name))"
    )
    folder: Path = tmp_path_factory.mktemp("theirs")
    for number, day in enumerate(DAYS):
        path = folder / f"day={day}" / "part 1.parquet"
        path.parent.mkdir()
        rows = {
            "name": [f"{'ab'[number]}x", f"{'ab'[number]}y"],
            "id": pa.array([10 * number, 10 * number + 1], pa.int32()),
            "at": pa.array([dt.datetime(2024, 5, 1, 12), None], pa.timestamp("us")),
            "tags": pa.array([[1, None], None], pa.list_(pa.int32())),
        }
        pq.write_table(pa.table(rows), path)
    assert session.table("ns.added").add_files(f"{folder}/*/*.parquet") == 2
    session.sql("ALTER TABLE ns.added RENAME COLUMN tags TO labels")
    session.sql("DELETE FROM ns.added WHERE id = 11", write_mode="merge-on-read")
    return session.catalog.load_table("ns.added").metadata_location


def test_other_engines_read_them(location: str, reader: Reader) -> None:
    noon = dt.datetime(2024, 5, 1, 12)
    found = sorted(reader.rows(location), key=lambda row: row[0])
    assert [tuple(row) for row in found] == [
        (0, "ax", noon, [1, None], DAYS[0]),
        (1, "ay", None, None, DAYS[0]),
        (10, "bx", noon, [1, None], DAYS[1]),
    ]
