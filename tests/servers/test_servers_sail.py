"""Sail and icefusion change one table in turns: its DELETE leaves equality deletes, its MERGE position deletes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from places import Place
from pyiceberg.manifest import DataFileContent
from sail_process import SailServer

pytestmark = [pytest.mark.seaweedfs, pytest.mark.sail]

MODES = ("copy-on-write", "merge-on-read")
PROPERTIES = ", ".join(f"'write.{kind}.mode' = 'merge-on-read'" for kind in ("delete", "update", "merge"))


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("seaweedfs")


@pytest.fixture
def sail(place: Place) -> Iterator[SailServer]:
    missing = SailServer.missing()
    if missing is not None:
        pytest.skip(missing)
    server = SailServer(place.properties)
    yield server
    server.stop()


def contents(place: Place, table: str) -> set[DataFileContent]:
    with place.connect() as session:
        found = session.sql(f"SELECT DISTINCT content FROM {table}.delete_files").fetchall()
    return {DataFileContent(number) for (number,) in found}


@pytest.mark.parametrize("partitioning", ["", "PARTITIONED BY (part)"], ids=["whole", "partitioned"])
@pytest.mark.parametrize("mode", MODES)
def test_each_engine_goes_on_from_what_the_other_has_left(
    place: Place, sail: SailServer, mode: Any, partitioning: str
) -> None:
    table = f"{place.namespace}.t"
    theirs = f"lake.{table}"
    rows = {i: (i, f"p{i % 3}", f"n{i}") for i in range(60)}

    def check() -> None:
        wanted = sorted(rows.values())
        with place.connect() as session:
            assert session.sql(f"SELECT * FROM {table} ORDER BY id").fetchall() == wanted
            assert session.sql(f"SELECT count(*) FROM {table}").fetchone() == (len(wanted),)
        assert sail.sql(f"SELECT id, part, name FROM {theirs} ORDER BY id") == wanted

    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        columns = "id BIGINT, part STRING, name STRING"
        session.sql(f"CREATE TABLE {table} ({columns}) {partitioning} TBLPROPERTIES ({PROPERTIES})")
        for first in (0, 30):
            series = f"generate_series({first}, {first + 29}) s(i)"
            session.sql(f"INSERT INTO {table} SELECT i, 'p' || (i % 3), 'n' || i FROM {series}")
    check()
    if partitioning:  # in which it does not write equality deletes
        fives = " UNION ALL ".join(f"SELECT {i} AS id" for i in range(0, 60, 5))
        sail.sql(f"MERGE INTO {theirs} AS t USING ({fives}) AS s ON t.id = s.id WHEN MATCHED THEN DELETE")
    else:
        sail.sql(f"DELETE FROM {theirs} WHERE id % 5 = 0")
    rows = {i: row for i, row in rows.items() if i % 5}
    kind = DataFileContent.POSITION_DELETES if partitioning else DataFileContent.EQUALITY_DELETES
    assert contents(place, table) == {kind}
    check()
    with place.connect() as session:
        result = session.sql(f"DELETE FROM {table} WHERE id % 5 = 1 OR id % 10 = 0", write_mode=mode)
        assert result.rows_deleted == 12  # what Sail has deleted is not deleted again
        session.sql(f"INSERT INTO {table} VALUES (5, 'p2', 'again')")  # nor does it delete what comes later
    rows = {i: row for i, row in rows.items() if i % 5 != 1} | {5: (5, "p2", "again")}
    check()
    merge = (
        "USING (SELECT 2 AS id UNION ALL SELECT 5 UNION ALL SELECT 100) AS s ON t.id = s.id WHEN MATCHED THEN DELETE "
        "WHEN NOT MATCHED THEN INSERT (id, part, name) VALUES (s.id, 'p9', 'new')"
    )
    sail.sql(f"MERGE INTO {theirs} AS t {merge}")
    rows = {i: row for i, row in rows.items() if i not in (2, 5)} | {100: (100, "p9", "new")}
    assert DataFileContent.POSITION_DELETES in contents(place, table)
    check()
    with place.connect() as session:
        result = session.sql(f"UPDATE {table} SET name = 'changed', part = 'p0' WHERE id % 4 = 0", write_mode=mode)
        assert result.rows_updated == sum(i % 4 == 0 for i in rows)
        rows = {i: (i, "p0", "changed") if i % 4 == 0 else row for i, row in rows.items()}
        session.sql(f"MERGE INTO {table} AS t {merge}", write_mode=mode)
    rows = {i: row for i, row in rows.items() if i != 100} | {i: (i, "p9", "new") for i in (2, 5)}
    check()
