"""Copy-on-write that leaves most of a file as it is: what comes of it as SQL, other readers and the disk see it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import icefusion as ice

ROWS = 20_000
PROPERTIES = (
    "'write.parquet.row-group-size-bytes' = '400000', 'write.parquet.page-row-limit' = '500', "
    "'write.delete.mode' = 'copy-on-write', 'write.update.mode' = 'copy-on-write', "
    "'write.merge.mode' = 'copy-on-write'"
)
COLUMNS = "id BIGINT, day INT, s STRING, x DOUBLE"


def rows(first: int, count: int) -> pa.Table:
    ids = range(first, first + count)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "day": pa.array([i // 1000 for i in ids], pa.int32()),
            "s": pa.array([None if i % 97 == 0 else f"text {i * 7919 % 10_007}" for i in ids]),
            "x": pa.array([i / 8 for i in ids]),
        }
    )


@pytest.fixture
def table(session: ice.Session) -> ice.Session:
    session.sql(f"CREATE TABLE ns.t ({COLUMNS}) TBLPROPERTIES ({PROPERTIES})")
    session.writer("ns.t").write_batch(rows(0, ROWS))
    return session


def paths(session: ice.Session, name: str = "ns.t") -> list[Path]:
    found = session.sql(f"SELECT file_path FROM {name}.files ORDER BY file_path").fetchall()
    return [Path(path.removeprefix("file://")) for (path,) in found]


def carried_rows(session: ice.Session, old: dict[Path, bytes], name: str = "ns.t") -> int:
    """Rows of the table's files, other than the old ones, whose row groups lie in an old file byte by byte.

    Rows that were encoded again can come out alike, but then there is no second footer.
    """
    count = 0
    for path in paths(session, name):
        if path in old:
            continue
        data, footer = path.read_bytes(), pq.read_metadata(path)
        if data.count(b"PAR1") == 2:
            continue
        for i in range(footer.num_row_groups):
            chunk = footer.row_group(i).column(0)
            pages = data[chunk.data_page_offset :][: chunk.total_compressed_size]
            count += footer.row_group(i).num_rows * any(pages in each for each in old.values())
    return count


def stored(session: ice.Session, name: str = "ns.t") -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths(session, name)}


CHANGES: dict[str, tuple[str, int]] = {
    "delete": ("DELETE FROM ns.t WHERE id BETWEEN 5000 AND 5999", 15_000),
    "update": ("UPDATE ns.t SET s = 'new', x = x + 1 WHERE day = 3", 15_000),
    "update of single rows": ("UPDATE ns.t SET s = NULL WHERE id IN (7, 12345, 19999)", 15_000),
    "merge": (
        "MERGE INTO ns.t USING (SELECT id + 1000 AS id, day, s, x FROM ns.t WHERE id >= 18500) AS s ON t.id = s.id "
        "WHEN MATCHED AND s.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
        15_000,
    ),
    "replace": ("INSERT INTO ns.t REPLACE WHERE day = 4 SELECT * FROM ns.t WHERE day = 4 AND id % 2 = 0", 15_000),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_block", [False, True])
def test_rows_are_those_of_a_table_that_is_written_anew(
    table: ice.Session, folder: Path, outside, change: str, in_block: bool
) -> None:
    text, least = CHANGES[change]
    table.sql(f"CREATE TABLE ns.u ({COLUMNS}) TBLPROPERTIES ({PROPERTIES})")
    table.writer("ns.u").write_batch(rows(0, ROWS))
    table.sql("ALTER TABLE ns.u SET TBLPROPERTIES ('write.parquet.compression-codec' = 'snappy')")
    old = stored(table) | stored(table, "ns.u")
    texts = [text.replace("ns.t", name).replace("t.id", f"{name[-1]}.id") for name in ("ns.t", "ns.u")]
    for each in ["BEGIN", *texts, "COMMIT"] if in_block else texts:
        table.sql(each)
    assert carried_rows(table, old) >= least
    assert carried_rows(table, old, "ns.u") == 0
    with ice.connect(folder) as fresh:
        for query in (
            "SELECT * FROM {} ORDER BY id, x",
            "SELECT count(*), count(s), min(s), max(s), min(id), max(x), sum(x) FROM {}",
            "SELECT * FROM {} WHERE id BETWEEN 4990 AND 6020 AND x < 750 ORDER BY id",
            "SELECT count(*) FROM {} WHERE s IS NULL",
            "SELECT id FROM {} WHERE s = 'text 4321' ORDER BY id",
        ):
            assert fresh.sql(query.format("ns.t")).fetchall() == fresh.sql(query.format("ns.u")).fetchall(), query
    by_id = [sorted(outside.rows(name), key=lambda row: row["id"]) for name in ("ns.t", "ns.u")]
    assert by_id[0] == by_id[1]
    nulls = [
        sum(dict(counts)[3] for (counts,) in table.sql(f"SELECT null_value_counts FROM {name}.files").fetchall())
        for name in ("ns.t", "ns.u")
    ]
    assert nulls[0] == nulls[1] > 0


def test_other_readers_prune_by_what_is_said_of_pages_that_were_carried_over(table: ice.Session) -> None:
    duckdb = pytest.importorskip("duckdb")
    table.sql("DELETE FROM ns.t WHERE id BETWEEN 5100 AND 5200; UPDATE ns.t SET day = day + 1 WHERE id = 17000")
    files = [str(path) for path in paths(table)]
    for condition in ("id = 5099", "id BETWEEN 5050 AND 5250", "s = 'text 1234'", "x >= 2499", "s IS NULL", "day = 18"):
        expected = table.sql(f"SELECT count(*), sum(id) FROM ns.t WHERE {condition}").fetchone()
        found = duckdb.sql(f"SELECT count(*), sum(id)::bigint FROM read_parquet({files}) WHERE {condition}").fetchone()
        model = duckdb.sql(
            f"SELECT count(*), sum(id)::bigint FROM (FROM read_parquet({files}) OFFSET 0) WHERE ({condition}) = true"
        ).fetchone()
        assert expected == found == model, condition


def alter(session: ice.Session) -> None:
    session.sql("ALTER TABLE ns.t ADD COLUMN more INT")


def rename(session: ice.Session) -> None:
    session.sql("ALTER TABLE ns.t RENAME COLUMN s TO text")


def delete_on_read(session: ice.Session) -> None:
    session.sql("DELETE FROM ns.t WHERE id = 100", write_mode="merge-on-read")


def other_codec(session: ice.Session) -> None:
    session.sql("ALTER TABLE ns.t SET TBLPROPERTIES ('write.parquet.compression-codec' = 'snappy')")


def partition(session: ice.Session) -> None:
    session.sql("ALTER TABLE ns.t ADD PARTITION FIELD day")


def sort(session: ice.Session) -> None:
    session.sql("ALTER TABLE ns.t WRITE ORDERED BY id")


def listed_twice(session: ice.Session) -> None:
    session.catalog.load_table("ns.t").add_files([str(paths(session)[0])], check_duplicate_files=False)


@pytest.mark.parametrize(
    "before",
    [alter, rename, delete_on_read, other_codec, partition, sort, listed_twice],
    ids=lambda before: before.__name__,
)
def test_files_that_are_not_as_they_would_be_written_are_decoded(
    table: ice.Session, before: Callable[[ice.Session], None]
) -> None:
    before(table)
    old = stored(table)
    expected = table.sql("SELECT * FROM ns.t WHERE id NOT BETWEEN 300 AND 400 ORDER BY id, x").fetchall()
    table.sql("DELETE FROM ns.t WHERE id BETWEEN 300 AND 400")
    assert carried_rows(table, old) == 0
    assert str(table.sql("SELECT * FROM ns.t ORDER BY id, x").fetchall()) == str(expected)


def test_statements_of_a_block_in_both_modes(table: ice.Session) -> None:
    expected = table.sql("SELECT * FROM ns.t WHERE id NOT IN (10, 11, 12) ORDER BY id").fetchall()
    table.sql("BEGIN")
    table.sql("DELETE FROM ns.t WHERE id = 10", write_mode="merge-on-read")
    table.sql("DELETE FROM ns.t WHERE id = 11", write_mode="copy-on-write")
    table.sql("DELETE FROM ns.t WHERE id = 12", write_mode="copy-on-write")
    assert table.sql("SELECT * FROM ns.t ORDER BY id").fetchall() == expected
    table.sql("COMMIT")
    assert table.sql("SELECT * FROM ns.t ORDER BY id").fetchall() == expected


def test_rows_that_move_to_another_partition(session: ice.Session, outside) -> None:
    session.sql(f"CREATE TABLE ns.p ({COLUMNS}) PARTITIONED BY (truncate(100, day)) TBLPROPERTIES ({PROPERTIES})")
    session.writer("ns.p").write_batch(rows(0, ROWS))
    old = stored(session, "ns.p")
    session.sql("UPDATE ns.p SET day = CASE WHEN id < 5100 THEN 250 ELSE 42 END WHERE id BETWEEN 5000 AND 5199")
    assert carried_rows(session, old, "ns.p") >= 15_000
    by_partition = "SELECT partition.day_trunc, sum(record_count) FROM ns.p.files GROUP BY 1 ORDER BY 1"
    assert session.sql(by_partition).fetchall() == [(0, ROWS - 100), (200, 100)]
    found = {row["id"]: row["day"] for row in outside.rows("ns.p")}
    assert found == {i: i // 1000 if not 5000 <= i < 5200 else 250 if i < 5100 else 42 for i in range(ROWS)}


def test_damage_that_is_met_on_the_way_leaves_nothing(table: ice.Session, outside) -> None:
    (path,) = paths(table)
    before = outside.files("*.parquet")
    data, chunk = path.read_bytes(), pq.read_metadata(path).row_group(0).column(2)
    path.write_bytes(data[: chunk.data_page_offset] + b"\xff" * 400 + data[chunk.data_page_offset + 400 :])
    with pytest.raises(ice.StorageError, match=path.name):
        table.sql("DELETE FROM ns.t WHERE id = 5")
    assert outside.files("*.parquet") == before


@pytest.mark.parametrize("seed", range(6))
def test_random_changes_of_a_file_again_and_again(session: ice.Session, seed: int) -> None:
    """Rows by SQLite; pages of seven rows, row groups of some hundred."""
    chance = random.Random(seed)
    properties = PROPERTIES.replace("400000", "8000").replace("500", "7")
    session.sql(f"CREATE TABLE ns.t ({COLUMNS}) TBLPROPERTIES ({properties})")
    given = rows(0, 1500)
    session.writer("ns.t").write_batch(given)
    model = sqlite3.connect(":memory:", isolation_level=None)
    model.execute("CREATE TABLE t (id, day, s, x)")
    model.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [tuple(row.values()) for row in given.to_pylist()])
    carried = 0
    for _ in range(12):
        first = chance.randrange(1500)
        last = first + chance.choice([0, 3, 20, 200])
        where = f"id BETWEEN {first} AND {last}"
        text = chance.choice(
            [
                f"DELETE FROM {{}} WHERE {where}",
                f"UPDATE {{}} SET x = x + 1, s = 'changed ' || id WHERE {where}",
                f"UPDATE {{}} SET s = NULL WHERE {where} AND id % 3 = 0",
            ]
        )
        old = stored(session)
        model.execute(text.format("t"))
        session.sql(text.format("ns.t"))
        carried += carried_rows(session, old)
        query = "SELECT * FROM {} ORDER BY id"
        assert session.sql(query.format("ns.t")).fetchall() == model.execute(query.format("t")).fetchall(), text
        query = f"SELECT count(*), count(s), min(s), max(x) FROM {{}} WHERE id > {first} AND x < {last}"
        assert session.sql(query.format("ns.t")).fetchall() == model.execute(query.format("t")).fetchall(), text
    model.close()
    assert carried > 1500
