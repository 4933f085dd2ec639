"""icefusion, PyIceberg and Spark at work on the tables of one PostgreSQL catalog, all at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pyarrow as pa
import pytest
from history_checks import check_linear, ledger, leftovers
from job_processes import Jobs
from places import Place
from pyiceberg.exceptions import CommitFailedException
from server_jobs import COLUMNS, batch_of
from spark_catalog import CatalogSpark, find_spark

import icefusion
from icefusion.config import WriteMode

pytestmark = [pytest.mark.postgres, pytest.mark.spark]

Row = tuple[int, int, int]

NUMBERS = 12
MERGES = 4
MOST_WRITES = 200
PAUSE_S = 0.2
KEYS = 4
SPARK = 9  # the worker whose rows Spark merges
OUR_DATA_FILE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d{5}\.parquet$")
RETRIES = "TBLPROPERTIES ('commit.retry.num-retries' = '20', 'commit.retry.max-wait-ms' = '200')"


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogSpark]:
    python, reason = find_spark()
    if python is None:
        pytest.skip(reason)
    engine = CatalogSpark(python, tmp_path_factory.mktemp("spark"))
    yield engine
    engine.stop()


@pytest.fixture
def place(make_place: Callable[[str], Place], spark: CatalogSpark) -> Place:
    made = make_place("postgres")
    with made.connect() as session:
        session.sql(f"CREATE NAMESPACE {made.namespace}")
        for name in ("a", "b"):
            session.sql(f"CREATE TABLE {made.namespace}.{name} ({COLUMNS}) PARTITIONED BY (worker) {RETRIES}")
        session.sql(f"INSERT INTO {made.namespace}.a VALUES " + ", ".join(f"({SPARK}, {n}, 0)" for n in range(KEYS)))
    spark.open(made)
    return made


def named(place: Place, name: str) -> str:
    """A table as Spark names it."""
    return f"{place.name}.{place.namespace}.{name}"


def merge(place: Place, number: int) -> str:
    """Count every key up, and insert one row."""
    keys = ", ".join(f"({n}L)" for n in [*range(KEYS), 100 + number])
    return (
        f"MERGE INTO {named(place, 'a')} AS t USING (VALUES {keys} AS s(number)) "
        f"ON t.worker = {SPARK} AND t.number = s.number "
        f"WHEN MATCHED THEN UPDATE SET t.part = t.part + 1 "
        f"WHEN NOT MATCHED THEN INSERT (worker, number, part) VALUES ({SPARK}, s.number, 0)"
    )


def rewrite(place: Place, name: str) -> str:
    """Put the small files of each partition together."""
    return (
        f"CALL {place.name}.system.rewrite_data_files(table => '{place.namespace}.{name}', "
        f"options => map('min-input-files', '2'))"
    )


def copy_readings(place: Place, done: Event) -> list[int]:
    """Until Spark is done, copy to one table what it has counted to in another, and note that there, all or none."""
    reads, writes = f"{place.namespace}.a", f"{place.namespace}.b"
    readings = f"max(part) FROM {reads} WHERE worker = {SPARK} AND number < {KEYS}"
    with place.connect() as session:
        for number in range(MOST_WRITES):

            def copy(tx: icefusion.Transaction, number: int = number) -> None:
                tx.sql(f"INSERT INTO {writes} SELECT 3, {number}, {readings}")
                tx.sql(f"INSERT INTO {reads} VALUES (3, {number}, 0)")

            session.run(copy)
            if done.wait(PAUSE_S):
                break
        found = session.sql(f"SELECT part FROM {writes} WHERE worker = 3 ORDER BY number").fetchall()
    return [part for (part,) in found]


def append_by_pyiceberg(place: Place, done: Event) -> list[int]:
    """Until Spark is done, append by PyIceberg alone; the numbers that it did not lose."""
    handle = place.pyiceberg().load_table(f"{place.namespace}.a")
    committed = []
    for number in range(MOST_WRITES):
        try:
            handle.append(pa.Table.from_batches([batch_of(2, number, 3)]))
            committed.append(number)
        except CommitFailedException:  # it gave up; nothing has landed
            handle.refresh()
        if done.wait(PAUSE_S):
            break
    return committed


def work_by_spark(spark: CatalogSpark, place: Place) -> None:
    """Merge into one table, and compact both in turn."""
    for number in range(MERGES):
        spark.insist(named(place, "a"), merge(place, number))
        name = "ab"[number % 2]
        spark.insist(named(place, name), rewrite(place, name))


def checked_makers(place: Place, name: str) -> list[tuple[str, str]]:
    """Who made each snapshot, as far as it says so, and by which operation; after the checks of history and files."""
    found = place.pyiceberg().load_table(f"{place.namespace}.{name}")
    summaries = [snapshot.summary for snapshot in check_linear(found) if snapshot.summary is not None]
    assert [path for path in leftovers(found) if OUR_DATA_FILE.search(path)] == []
    return [(s.additional_properties.get("engine-name") or "", s.operation.value) for s in summaries]


def rows_of_all(place: Place, spark: CatalogSpark, name: str) -> list[Counter[Row]]:
    """What each engine reads."""
    with place.connect() as session:
        ours = session.sql(f"SELECT worker, number, part FROM {place.namespace}.{name}").fetchall()
    theirs = ledger(place.pyiceberg().load_table(f"{place.namespace}.{name}"))
    sparks = spark.fresh(named(place, name), f"SELECT worker, number, part FROM {named(place, name)}")
    return [Counter(ours), theirs, Counter(sparks)]


def test_the_history_of_three_engines_checks_out(place: Place, spark: CatalogSpark) -> None:
    tables = [f"{place.namespace}.{name}" for name in ("a", "b")]
    done = Event()
    with Jobs() as jobs, ThreadPoolExecutor(2) as pool:
        ours = jobs.start(place, "insert_and_transact", table=tables[0], worker=0, count=NUMBERS)
        pairs = jobs.start(place, "write_pairs", tables=tables, worker=1, count=NUMBERS)
        jobs.begin()
        copying, appending = (pool.submit(work, place, done) for work in (copy_readings, append_by_pyiceberg))
        try:
            work_by_spark(spark, place)
        finally:
            done.set()
        readings, appended = copying.result(), appending.result()
        assert ours.result(seconds=30) == {"committed": list(range(NUMBERS)), "errors": []}
        assert pairs.result(seconds=30)["committed"] == NUMBERS
    assert readings == sorted(readings)

    expected_a = {(0, n, part) for n in range(NUMBERS) for part in (0, 1)}
    expected_a |= {(1, n, 0) for n in range(NUMBERS)}
    expected_a |= {(2, n, part) for n in appended for part in range(3)}
    expected_a |= {(3, n, 0) for n in range(len(readings))}
    expected_a |= {(SPARK, n, MERGES) for n in range(KEYS)} | {(SPARK, 100 + n, 0) for n in range(MERGES)}
    expected_b = {(1, n, 0) for n in range(NUMBERS)} | {(3, n, part) for n, part in enumerate(readings)}
    assert rows_of_all(place, spark, "a") == [Counter(expected_a)] * 3
    assert rows_of_all(place, spark, "b") == [Counter(expected_b)] * 3

    made_a, made_b = (checked_makers(place, name) for name in ("a", "b"))
    assert Counter(made_a) - Counter({("spark", "replace"): MERGES}) == {
        ("icefusion", "append"): 1 + 2 * NUMBERS + len(readings),
        ("", "append"): len(appended),
        ("spark", "overwrite"): MERGES,
    }
    assert ("spark", "replace") in made_a
    assert ("spark", "replace") in made_b
    first = made_a.index(("spark", "overwrite"))
    last = len(made_a) - 1 - made_a[::-1].index(("spark", "overwrite"))
    assert {engine for engine, _ in made_a[first:last]} == {"spark", "icefusion", ""}, "they did not work at one time"


def test_a_transaction_whose_rows_spark_only_rewrote_commits(place: Place, spark: CatalogSpark) -> None:
    reads, writes = f"{place.namespace}.a", f"{place.namespace}.b"
    with place.connect() as session:
        session.sql(f"INSERT INTO {reads} VALUES ({SPARK}, {KEYS}, 0)")  # a second file, to be rewritten with the first
        with session.transaction("serializable") as tx:
            ((count,),) = tx.sql(f"SELECT count(*) FROM {reads}").fetchall()
            tx.sql(f"INSERT INTO {reads} VALUES (0, 0, {count})")
            tx.sql(f"INSERT INTO {writes} SELECT worker, number, part FROM {reads} WHERE worker = {SPARK}")
            spark.fresh(named(place, "a"), rewrite(place, "a"))
    assert checked_makers(place, "a") == [("icefusion", "append")] * 2 + [("spark", "replace"), ("icefusion", "append")]
    copied = {(SPARK, n, 0) for n in range(KEYS + 1)}
    assert rows_of_all(place, spark, "a") == [Counter(copied | {(0, 0, KEYS + 1)})] * 3
    assert rows_of_all(place, spark, "b") == [Counter(copied)] * 3


def test_a_transaction_whose_rows_spark_merged_into_fails(place: Place, spark: CatalogSpark) -> None:
    reads, writes = f"{place.namespace}.a", f"{place.namespace}.b"
    with place.connect() as session:

        def copy_while_spark_merges() -> None:
            with session.transaction("serializable") as tx:
                tx.sql(f"INSERT INTO {writes} SELECT worker, number, part FROM {reads} WHERE worker = {SPARK}")
                spark.fresh(named(place, "a"), merge(place, 0))

        with pytest.raises(icefusion.CommitConflictError):
            copy_while_spark_merges()
        assert session.sql(f"SELECT count(*) FROM {writes}").fetchall() == [(0,)]
    assert leftovers(place.pyiceberg().load_table(writes)) == []


# Row-level changes of both


def changing(place: Place, *, granularity: str = "file") -> str:
    """A table that both engines change by delete files, of two data files in each partition; its name."""
    modes = ", ".join(f"'write.{change}.mode' = 'merge-on-read'" for change in ("delete", "update", "merge"))
    with place.connect() as session:
        session.sql(
            f"CREATE TABLE {place.namespace}.c ({COLUMNS}) PARTITIONED BY (worker) "
            f"TBLPROPERTIES ({modes}, 'write.delete.granularity' = '{granularity}', 'format-version' = '2')"
        )
        for first in (0, 10):
            rows = ", ".join(f"({worker}, {n}, 0)" for worker in (0, 1) for n in range(first, first + 10))
            session.sql(f"INSERT INTO {place.namespace}.c VALUES {rows}")
    return f"{place.namespace}.c"


@pytest.mark.parametrize("granularity", ["file", "partition"])
def test_both_change_rows_of_one_table_in_turns(place: Place, spark: CatalogSpark, granularity: str) -> None:
    table, theirs = changing(place, granularity=granularity), named(place, "c")
    rows = [(worker, n, 0) for worker in (0, 1) for n in range(20)]
    with place.connect() as session:
        for turn in range(2):
            session.sql(f"DELETE FROM {table} WHERE number % 10 = {turn}")
            spark.fresh(theirs, f"DELETE FROM {theirs} WHERE number % 10 = {turn + 5}")
            rows = [row for row in rows if row[1] % 10 not in (turn, turn + 5)]
            assert rows_of_all(place, spark, "c") == [Counter(rows)] * 3
            session.sql(f"UPDATE {table} SET part = part + 1 WHERE number % 3 = {turn}")
            spark.fresh(
                theirs, f"UPDATE {theirs} SET part = part + 10, worker = 2 WHERE number % 3 = {turn} AND worker = 0"
            )
            rows = [_moved(row) if row[1] % 3 == turn else row for row in rows]
            assert rows_of_all(place, spark, "c") == [Counter(rows)] * 3
            spark.fresh(theirs, rewrite(place, "c"))
            session.sql(
                f"MERGE INTO {table} AS t USING (VALUES (1, 9), (7, {100 + turn})) AS s (worker, number) "
                "ON t.worker = s.worker AND t.number = s.number "
                "WHEN MATCHED THEN UPDATE SET part = 7 WHEN NOT MATCHED THEN INSERT (worker, number, part) "
                "VALUES (s.worker, s.number, 3)",
                write_mode="copy-on-write",
            )
            rows = [(*row[:2], 7) if row[:2] == (1, 9) else row for row in rows] + [(7, 100 + turn, 3)]
            assert rows_of_all(place, spark, "c") == [Counter(rows)] * 3
    makers = checked_makers(place, "c")
    assert {operation for engine, operation in makers if engine == "icefusion"} == {"append", "delete", "overwrite"}
    assert {operation for engine, operation in makers if engine == "spark"} == {"delete", "overwrite", "replace"}


def _moved(row: Row) -> Row:
    worker, number, part = row
    return (2, number, part + 11) if worker == 0 else (worker, number, part + 1)


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_a_change_of_rows_that_spark_changes_meanwhile_fails(
    place: Place, spark: CatalogSpark, mode: WriteMode
) -> None:
    table, theirs = changing(place), named(place, "c")

    def change_while_spark_does(session: icefusion.Session, statement: str) -> None:
        with session.transaction() as tx:
            tx.sql(f"UPDATE {table} SET part = 5 WHERE worker = 0 AND number = 3", write_mode=mode)
            spark.fresh(theirs, statement)

    with place.connect() as session:
        change_while_spark_does(session, f"DELETE FROM {theirs} WHERE worker = 1 AND number = 3")
        expected = Counter((worker, n, 0) for worker in (0, 1) for n in range(20) if n != 3) + Counter([(0, 3, 5)])
        assert rows_of_all(place, spark, "c") == [expected] * 3
        with pytest.raises(icefusion.CommitConflictError):
            # Another row of the same file: a rewritten file would bring it back.
            change_while_spark_does(session, f"DELETE FROM {theirs} WHERE worker = 0 AND number = 4")
        expected -= Counter([(0, 4, 0)])
        assert rows_of_all(place, spark, "c") == [expected] * 3
        with pytest.raises(icefusion.CommitConflictError):
            change_while_spark_does(session, rewrite(place, "c"))
    assert rows_of_all(place, spark, "c") == [expected] * 3
    assert [path for path in leftovers(place.pyiceberg().load_table(table)) if OUR_DATA_FILE.search(path)] == []
