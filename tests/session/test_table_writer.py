"""IcebergTableWriter: Arrow data in, snapshots out."""

import threading
import time

import pyarrow as pa
import pytest

import icefusion as ice


@pytest.fixture
def writer(session: ice.Session) -> ice.IcebergTableWriter:
    session.sql("CREATE TABLE ns.t (id BIGINT NOT NULL, s STRING)")
    return session.writer("ns.t")


def batch(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "s": [str(n) for n in ids]})


def test_a_batch_is_one_snapshot(writer, outside) -> None:
    result = writer.write_batch(batch(1, 2))
    assert result.rows_inserted == 2
    assert (outside.ids(), outside.snapshots()) == ([1, 2], 1)
    assert result.snapshot_id is not None


@pytest.mark.parametrize(
    "given",
    [
        lambda: [batch(1), batch(2, 3)],
        lambda: (batch(n) for n in (1, 2, 3)),
        lambda: pa.Table.from_batches([batch(1), batch(2, 3)]).to_reader(),
        lambda: pa.Table.from_batches([batch(1), batch(2, 3)]),
        lambda: [pa.Table.from_batches([batch(1)]), batch(2, 3)],
    ],
)
def test_many_batches_are_one_snapshot(writer, outside, given) -> None:
    assert writer.write_batches(given()).rows_inserted == 3
    assert (outside.ids(), outside.snapshots()) == ([1, 2, 3], 1)


def test_no_batches_make_no_snapshot(writer, outside) -> None:
    assert writer.write_batches([]).rows_inserted == 0
    assert writer.write_batches(iter(())).snapshot_id is None
    assert writer.write_batch(batch()).snapshot_id is None
    assert outside.snapshots() == 0


def test_columns_are_matched_by_name(writer, outside) -> None:
    writer.write_batch(pa.record_batch({"s": ["a"], "ID": pa.array([1], pa.int32())}))
    assert outside.rows("ns.t") == [{"id": 1, "s": "a"}]
    with pytest.raises(ice.SchemaError, match="id"):
        writer.write_batch(pa.record_batch({"s": ["a"]}))
    with pytest.raises(ice.SchemaError, match="idd"):
        writer.write_batch(pa.record_batch({"idd": [1], "s": ["a"]}))


def test_a_transaction_is_one_snapshot_at_its_commit(writer, outside) -> None:
    txn = writer.begin_transaction()
    assert writer.has_active_transaction
    assert writer.current_transaction_id == txn
    assert writer.write_batch(batch(1)).snapshot_id is None
    writer.write_batches([batch(2), batch(3)])
    assert outside.ids() == []
    result = writer.commit_transaction(txn)
    assert result.rows_inserted == 3
    assert (outside.ids(), outside.snapshots()) == ([1, 2, 3], 1)
    assert not writer.has_active_transaction
    assert writer.current_transaction_id is None


def test_a_rollback_leaves_no_file(writer, outside) -> None:
    before = outside.files()
    txn = writer.begin_transaction()
    writer.write_batch(batch(1))
    assert outside.files() != before
    writer.rollback_transaction(txn)
    assert outside.files() == before


def test_ids_are_checked(writer) -> None:
    txn = writer.begin_transaction()
    with pytest.raises(ice.TransactionError, match="open already"):
        writer.begin_transaction()
    with pytest.raises(ice.TransactionError, match="no open transaction"):
        writer.commit_transaction("other")
    writer.rollback_transaction(txn)
    with pytest.raises(ice.TransactionError, match="none is open"):
        writer.rollback_transaction(txn)


def test_a_source_that_fails_midway_leaves_nothing(writer, outside) -> None:
    before = outside.files()

    def failing():
        for n in range(50):
            yield batch(*range(n * 1000, n * 1000 + 1000))
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        writer.write_batches(failing())
    assert outside.files() == before
    assert outside.snapshots() == 0


def test_a_generator_is_pulled_with_the_writing_and_not_ahead_of_it(session) -> None:
    session.sql("CREATE TABLE ns.w (id BIGINT) TBLPROPERTIES ('write.parquet.row-group-limit' = '20000')")
    before = pa.total_allocated_bytes()
    most = 0

    def batches():
        nonlocal most
        for _ in range(500):
            yield pa.record_batch({"id": pa.array(range(5000), pa.int64())})
            most = max(most, pa.total_allocated_bytes() - before)

    assert session.writer("ns.w").write_batches(batches()).rows_inserted == 2_500_000
    assert most < 10_000_000


def test_batches_over_the_limit_are_cut_or_refused(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, s STRING)")
    small = ice.BatchConfig(max_rows_per_batch=2)
    assert session.writer("ns.t", batch=small).write_batch(batch(1, 2, 3, 4, 5)).rows_inserted == 5
    assert outside.snapshots() == 1
    strict = ice.BatchConfig(max_rows_per_batch=2, auto_split=False)
    with pytest.raises(ice.SchemaError, match="5 rows"):
        session.writer("ns.t", batch=strict).write_batch(batch(1, 2, 3, 4, 5))


def test_batches_of_another_schema_are_refused(writer, outside) -> None:
    before = outside.files()
    with pytest.raises(ice.SchemaError, match="differ in schema"):
        writer.write_batches([batch(1), pa.record_batch({"id": [1.5], "s": ["x"]})])
    assert outside.files() == before


def test_a_missing_table_is_told_at_once(session) -> None:
    with pytest.raises(ice.TableNotFoundError, match=r"ns\.nothing"):
        session.writer("ns.nothing")


def test_what_is_no_arrow_data_is_refused(writer) -> None:
    with pytest.raises(ice.IcefusionError, match="int"):
        writer.write_batch(42)
    with pytest.raises(ice.IcefusionError, match="int"):
        writer.write_batches(42)
    with pytest.raises(ice.IcefusionError, match="str"):
        writer.write_batches(["text"])


def test_a_transaction_sees_the_table_as_it_was_when_it_began_to_write(session, writer, outside) -> None:
    txn = writer.begin_transaction()
    writer.write_batch(batch(1))
    session.sql("INSERT INTO ns.t VALUES (2, 'b')")
    writer.commit_transaction(txn)
    assert (outside.ids(), outside.snapshots()) == ([1, 2], 2)


@pytest.mark.parametrize(("concurrent", "threads", "most"), [(1, 4, 1), (3, 1, 3)])
def test_as_many_batches_are_encoded_at_once_as_asked_for(folder, session, concurrent, threads, most) -> None:
    session.sql("CREATE TABLE ns.w (id BIGINT) TBLPROPERTIES ('write.parquet.row-group-limit' = '100')")
    pulling: set[int] = set()

    def batches():
        for _ in range(60):
            pulling.add(threading.get_ident())
            time.sleep(0.002)
            yield pa.record_batch({"id": pa.array(range(100), pa.int64())})

    with ice.connect(folder, threads=threads) as own:
        writer = own.writer("ns.w", batch=ice.BatchConfig(concurrent_batches=concurrent))
        assert writer.write_batches(batches()).rows_inserted == 6000
    # The first batch is asked for by the caller, who has to know the schema.
    workers = pulling - {threading.get_ident()}
    assert 1 <= len(workers) <= most
    assert len(workers) > 1 or most == 1
