"""A key lands once: for statements, writers and transactions, alone, in a race, and after history is gone."""

import datetime as dt
import threading
import time

import pyarrow as pa
import pytest

import icefusion as ice


@pytest.fixture(autouse=True)
def table(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")


BATCH = pa.record_batch({"id": pa.array([1, 2], pa.int64())})


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.sql("INSERT INTO ns.t VALUES (1), (2)", idempotency_key="k"),
        lambda s: s.writer("ns.t").write_batch(BATCH, idempotency_key="k"),
        lambda s: s.writer("ns.t").write_batches([BATCH], idempotency_key="k"),
    ],
)
def test_a_key_lands_once_and_gives_the_earlier_result(session, outside, write) -> None:
    first = write(session)
    files = outside.files()
    again = write(session)
    assert (first.already_landed, again.already_landed) == (False, True)
    assert again.snapshot_id == first.snapshot_id
    assert (again.rows_inserted, again.fetchall()) == (2, [(2,)])
    assert outside.ids() == [1, 2]
    assert outside.files() == files


def test_another_key_is_another_write(session, outside) -> None:
    session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="a")
    session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="b")
    session.sql("INSERT INTO ns.t VALUES (1)")
    assert outside.ids() == [1, 1, 1]


def test_a_table_made_by_a_query_lands_once(session, outside) -> None:
    first = session.sql("CREATE TABLE ns.c AS SELECT 7 AS id", idempotency_key="k")
    again = session.sql("CREATE TABLE ns.c AS SELECT 7 AS id", idempotency_key="k")
    assert again.snapshot_id == first.snapshot_id
    assert outside.ids("ns.c") == [7]
    with pytest.raises(ice.TableExistsError):
        session.sql("CREATE TABLE ns.c AS SELECT 7 AS id", idempotency_key="other")


def test_a_transaction_over_two_tables_lands_once(session, outside) -> None:
    session.sql("CREATE TABLE ns.u (id BIGINT)")

    def run() -> dict[str, int]:
        with session.transaction(idempotency_key="k") as tx:
            tx.sql("INSERT INTO ns.t VALUES (1)")
            tx.sql("INSERT INTO ns.u VALUES (2)")
        return tx.snapshot_ids

    first = run()
    files = outside.files()
    assert run() == first
    assert len(first) == 2
    assert (outside.ids("ns.t"), outside.ids("ns.u")) == ([1], [2])
    assert outside.files() == files


def test_a_writers_transaction_lands_once(session, outside) -> None:
    def run() -> ice.Result:
        writer = session.writer("ns.t")
        txn = writer.begin_transaction(idempotency_key="k")
        writer.write_batch(BATCH)
        writer.write_batch(BATCH)
        return writer.commit_transaction(txn)

    first, again = run(), run()
    assert (again.snapshot_id, again.rows_inserted) == (first.snapshot_id, 4)
    assert outside.ids() == [1, 1, 2, 2]


def test_the_record_outlives_the_snapshot(session, folder, outside) -> None:
    first = session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k")
    session.sql("INSERT INTO ns.t VALUES (2)")
    time.sleep(0.01)
    table = session.catalog.load_table("ns.t")
    table.maintenance.expire_snapshots().older_than(dt.datetime.now() + dt.timedelta(days=1)).commit()
    assert outside.snapshots() == 1
    with ice.connect(folder) as fresh:
        again = fresh.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k")
    assert (again.already_landed, again.snapshot_id) == (True, first.snapshot_id)
    assert outside.ids() == [1, 2]


def test_the_summary_is_looked_at_where_the_property_is_lost(session, outside) -> None:
    session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k")
    with session.catalog.load_table("ns.t").transaction() as txn:
        txn.remove_properties("icefusion.idempotency-keys")
    assert session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k").already_landed
    assert outside.ids() == [1]


def test_records_are_bounded(session) -> None:
    session.sql("CREATE TABLE ns.b (id INT) TBLPROPERTIES ('write.icefusion.idempotency-keys-max' = '3')")
    for n in range(5):
        session.sql("INSERT INTO ns.b VALUES (?)", [n], idempotency_key=f"key-{n}")
    text = session.catalog.load_table("ns.b").properties["icefusion.idempotency-keys"]
    assert [f"key-{n}" in text for n in range(5)] == [False, False, True, True, True]


def test_the_same_key_in_a_race_lands_once(folder, session, outside) -> None:
    results: list[ice.Result] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        with ice.connect(folder) as own:
            barrier.wait()
            results.append(own.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outside.ids() == [1]
    assert len({result.snapshot_id for result in results}) == 1
    assert sorted(result.already_landed for result in results) == [False, True, True, True]
    assert len(outside.files("*.parquet")) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, 7])
def test_what_can_be_no_key_is_refused(session, key) -> None:
    with pytest.raises(ice.ConfigurationError, match="idempotency_key"):
        session.sql("INSERT INTO ns.t VALUES (1)", idempotency_key=key)


def test_a_key_stands_for_one_write(session) -> None:
    with pytest.raises(ice.ConfigurationError, match="found 2"):
        session.sql("INSERT INTO ns.t VALUES (1); INSERT INTO ns.t VALUES (2)", idempotency_key="k")
    with pytest.raises(ice.ConfigurationError, match="found 0"):
        session.sql("SELECT 1", idempotency_key="k")
    with session.transaction() as tx, pytest.raises(ice.TransactionError, match="open"):
        tx.sql("INSERT INTO ns.t VALUES (1)", idempotency_key="k")
