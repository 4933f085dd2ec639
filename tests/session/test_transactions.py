"""Every way to add rows in every kind of transaction, looked at from inside and from outside."""

import threading
from collections.abc import Callable

import pyarrow as pa
import pytest

import icefusion as ice

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "s": ["a", "b", "c"]})

MUTATORS: dict[str, Callable[[ice.Session], ice.Result]] = {
    "insert_values": lambda s: s.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b'), (3, 'c')"),
    "insert_select": lambda s: s.sql("INSERT INTO ns.t SELECT id, s FROM rows", rows=ROWS),
    "insert_columns": lambda s: s.sql("INSERT INTO ns.t (s, id) SELECT s, id FROM rows", rows=ROWS),
    "insert_with": lambda s: s.sql("INSERT INTO ns.t WITH r AS (SELECT * FROM rows) SELECT * FROM r", rows=ROWS),
    "insert_reader": lambda s: s.sql("INSERT INTO ns.t SELECT * FROM rows", rows=ROWS.to_reader()),
}


@pytest.fixture(autouse=True)
def table(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, s STRING)")


@pytest.fixture(params=MUTATORS)
def mutate(request, session: ice.Session) -> Callable[[], ice.Result]:
    return lambda: MUTATORS[request.param](session)


def count(session: ice.Session, table: str = "ns.t") -> int:
    return session.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]


def test_a_statement_alone_makes_one_snapshot(mutate, session, outside) -> None:
    result = mutate()
    assert result.rows_inserted == 3
    assert result.fetchall() == [(3,)]
    assert result.columns == ["count"]
    assert outside.ids() == [1, 2, 3]
    assert outside.snapshots() == 1
    assert session.catalog.load_table("ns.t").metadata.current_snapshot_id == result.snapshot_id


def test_statements_of_a_block_make_one_snapshot_that_others_see_at_the_end(mutate, session, outside) -> None:
    with session.transaction() as tx:
        mutate()
        assert count(session) == 3
        assert outside.ids() == []
        mutate()
        assert tx.sql("SELECT count(*) FROM ns.t").fetchall() == [(6,)]
    assert outside.ids() == [1, 1, 2, 2, 3, 3]
    assert outside.snapshots() == 1
    assert tx.status is ice.Status.COMMITTED
    assert list(tx.snapshot_ids) == ["default.ns.t"]


def test_a_block_that_raises_leaves_no_row_and_no_file(mutate, session, outside) -> None:
    before = outside.files()

    def fail() -> None:
        with session.transaction():
            mutate()
            assert outside.files() - before
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert outside.ids() == []
    assert outside.files() == before


def test_begin_and_commit_are_statements(mutate, session, outside) -> None:
    session.sql("BEGIN")
    mutate()
    assert session.in_transaction
    assert outside.ids() == []
    result = session.sql("COMMIT")
    assert not session.in_transaction
    assert outside.ids() == [1, 2, 3]
    assert result.snapshot_id is not None


def test_rollback_is_a_statement_and_deletes_the_files(mutate, session, outside) -> None:
    before = outside.files()
    session.sql("START TRANSACTION")
    mutate()
    session.sql("ROLLBACK")
    assert outside.files() == before
    assert count(session) == 0


def test_reads_stay_with_the_snapshot_that_was_seen_first(session, folder, outside) -> None:
    session.sql("INSERT INTO ns.t VALUES (1, 'a')")
    with ice.connect(folder) as other, session.transaction("snapshot") as tx:
        assert count(session) == 1
        other.sql("INSERT INTO ns.t VALUES (2, 'b')")
        assert count(session) == 1
        tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
        assert count(session) == 2
    assert outside.ids() == [1, 2, 3]


def test_a_table_is_pinned_when_it_is_first_named_and_not_before(session, folder) -> None:
    with ice.connect(folder) as other, session.transaction():
        other.sql("INSERT INTO ns.t VALUES (2, 'b')")
        assert count(session) == 1


def test_a_statement_reads_what_earlier_ones_of_the_block_wrote(session, outside) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
        tx.sql("INSERT INTO ns.t SELECT id + 10, s FROM ns.t WHERE id = 2")
    assert outside.ids() == [1, 2, 12]
    assert outside.snapshots() == 1


def test_an_insert_from_the_table_itself_does_not_feed_on_its_own_rows(session, outside) -> None:
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    session.sql("INSERT INTO ns.t SELECT id + 10, s FROM ns.t")
    assert outside.ids() == [1, 2, 11, 12]


def test_zero_rows_make_no_snapshot_and_no_file(session, outside) -> None:
    before = outside.files()
    result = session.sql("INSERT INTO ns.t SELECT * FROM ns.t")
    assert (result.rows_inserted, result.snapshot_id) == (0, None)
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t SELECT * FROM ns.t")
    assert outside.snapshots() == 0
    assert outside.files() == before


def test_several_tables_commit_together(session, outside) -> None:
    session.sql("CREATE TABLE ns.u (id BIGINT)")
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1, 'a')")
        tx.sql("INSERT INTO ns.u SELECT id * 2 FROM ns.t")
    assert outside.ids("ns.t") == [1]
    assert outside.ids("ns.u") == [2]
    assert len(tx.snapshot_ids) == 2


def test_a_failing_statement_leaves_the_transaction_as_it_was(session, outside) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1, 'a')")
        files = outside.files()
        with pytest.raises(ice.ExecutionError):
            tx.sql("INSERT INTO ns.t SELECT id / (id - 1), s FROM ns.t")
        assert outside.files() == files
        tx.sql("INSERT INTO ns.t VALUES (2, 'b')")
    assert outside.ids() == [1, 2]


def test_a_failing_statement_alone_leaves_nothing(session, outside) -> None:
    before = outside.files()
    with pytest.raises(ice.SchemaError, match="id"):
        session.sql(
            "INSERT INTO ns.t SELECT x, 'a' FROM src",
            src=pa.table({"x": pa.array([1, 2, 2**63], pa.uint64())}),
        )
    assert outside.files() == before
    assert outside.snapshots() == 0


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "BEGIN"])
def test_transaction_words_are_refused_inside_a_block(session, word) -> None:
    with session.transaction() as tx, pytest.raises(ice.TransactionError):
        tx.sql(word)


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK"])
def test_ending_what_was_not_begun_is_an_error(session, word) -> None:
    with pytest.raises(ice.TransactionError, match="no transaction is open"):
        session.sql(word)


def test_transactions_do_not_nest(session) -> None:
    session.sql("BEGIN")
    with pytest.raises(ice.TransactionError, match="open already"):
        session.sql("BEGIN")
    with pytest.raises(ice.TransactionError, match="open already"), session.transaction():
        pass
    session.sql("ROLLBACK")


def test_a_block_is_used_once(session) -> None:
    tx = session.transaction()
    with tx:
        pass
    with pytest.raises(ice.TransactionError, match="once"), tx:
        pass
    with pytest.raises(ice.TransactionError):
        tx.sql("SELECT 1")


def test_a_rollback_inside_the_block_ends_it_quietly(session, outside) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1, 'a')")
        tx.rollback()
        with pytest.raises(ice.TransactionError, match="rolled back"):
            tx.sql("SELECT 1")
    assert outside.ids() == []
    assert tx.status is ice.Status.ROLLED_BACK


def test_each_thread_has_its_own_transaction(session, outside) -> None:
    seen: list[bool] = []
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1, 'a')")

        def other() -> None:
            seen.append(session.in_transaction)
            session.sql("INSERT INTO ns.t VALUES (2, 'b')")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [False]
    assert outside.ids() == [1, 2]


def test_threads_of_one_session_lose_no_row(session, outside) -> None:
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for n in range(start, start + 5):
                session.sql("INSERT INTO ns.t VALUES (?, 'x')", [n])
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert outside.ids() == sorted(n + 10 * t for t in range(3) for n in range(5))
    assert outside.snapshots() == 15


def test_closing_a_session_rolls_back_what_is_open(folder, session, outside) -> None:
    before = outside.files()
    second = ice.connect(folder)
    second.sql("BEGIN; INSERT INTO ns.t VALUES (1, 'a')")
    second.close()
    assert outside.files() == before
    with pytest.raises(ice.TransactionError, match="closed"):
        second.sql("SELECT 1")
