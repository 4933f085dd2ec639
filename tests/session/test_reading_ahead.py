"""Batches that are read before they are asked for, and the files that are written anew with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import icefusion as ice
from icefusion.changes.ahead import read_ahead

ROWS = 400_000


def numbers(count: int, pulled: list[int], closed: list[bool]) -> Iterator[pa.RecordBatch]:
    try:
        for number in range(count):
            pulled.append(number)
            yield pa.record_batch({"x": pa.array([number] * 100, pa.int64())})
        if count == 7:
            raise ValueError("the eighth is not there")
    finally:
        closed.append(True)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_batches_come_in_their_order() -> None:
    pulled: list[int] = []
    closed: list[bool] = []
    with read_ahead(numbers(50, pulled, closed), 2000) as rows:
        assert [batch["x"][0].as_py() for batch in rows] == list(range(50))
    assert closed == [True]


def test_no_more_is_read_than_may_wait() -> None:
    pulled: list[int] = []
    closed: list[bool] = []
    with read_ahead(numbers(50, pulled, closed), 2000) as rows:
        assert until(lambda: len(pulled) == 4)
        time.sleep(0.05)
        assert len(pulled) == 4  # three that wait, 800 bytes each, and one in hand
        next(rows)
        assert until(lambda: len(pulled) == 5)


def test_who_leaves_early_leaves_nothing_behind() -> None:
    pulled: list[int] = []
    closed: list[bool] = []
    before = threading.active_count()
    with read_ahead(numbers(50, pulled, closed), 2000) as rows:
        next(rows)
    assert (closed, threading.active_count()) == ([True], before)
    assert len(pulled) < 10


def test_an_error_comes_in_its_place() -> None:
    with read_ahead(numbers(7, [], []), 10**9) as rows:
        for _ in range(7):
            next(rows)
        with pytest.raises(ValueError, match="eighth"):
            next(rows)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ice.Session]:
    with ice.connect(tmp_path / "warehouse", threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t (id BIGINT, s STRING) TBLPROPERTIES ('write.merge.mode' = 'copy-on-write')")
        text = pa.array([f"{number:064}" for number in range(ROWS)])
        session.writer("ns.t").write_batch(pa.table({"id": range(ROWS), "s": text}))
        yield session


def test_a_file_written_anew_and_new_rows_are_one_file_each(session: ice.Session) -> None:
    keys = pa.array(range(ROWS // 2, ROWS + ROWS // 2), pa.int64())
    source = pa.table({"id": keys, "s": pa.array([f"{key.as_py():065}" for key in keys])})
    result = session.sql(
        "MERGE INTO ns.t AS t USING source AS s ON t.id = s.id WHEN MATCHED AND s.id % 2 = 1 THEN UPDATE SET * "
        "WHEN NOT MATCHED THEN INSERT *",
        source=source,
    )
    assert (result.rows_updated, result.rows_inserted) == (ROWS // 4, ROWS // 2)
    files = session.sql("SELECT record_count FROM ns.t.files ORDER BY 1").fetchall()
    assert files == [(ROWS // 2,), (ROWS,)]
    rows = session.sql("SELECT id, s FROM ns.t ORDER BY id").to_arrow()
    assert rows["id"].to_pylist() == list(range(ROWS + ROWS // 2))
    long = [key >= ROWS or (key >= ROWS // 2 and key % 2 == 1) for key in range(ROWS + ROWS // 2)]
    assert [len(text) == 65 for text in rows["s"].to_pylist()] == long


@pytest.mark.parametrize("codec", ["zstd", "snappy"])
def test_rows_of_a_file_that_is_written_anew_keep_their_places(session: ice.Session, codec: str) -> None:
    # Of files of another codec nothing is carried over: their rows are read.
    session.sql(f"ALTER TABLE ns.t SET TBLPROPERTIES ('write.parquet.compression-codec' = '{codec}')")
    session.sql("UPDATE ns.t SET s = 'new' WHERE id % 100 = 7", write_mode="copy-on-write")
    ((path,),) = session.sql("SELECT file_path FROM ns.t.files").fetchall()
    rows = pq.read_table(path.removeprefix("file://"))
    assert rows["id"].to_pylist() == list(range(ROWS))
    new = [number for number, text in enumerate(rows["s"].to_pylist()) if text == "new"]
    assert new == list(range(7, ROWS, 100))
