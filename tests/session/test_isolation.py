"""What two transactions may do to each other, and what is done again when they did too much."""

import pyarrow as pa
import pytest
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate

import icefusion as ice


@pytest.fixture
def other(folder, session):
    session.sql("CREATE TABLE ns.t (id BIGINT, s STRING); CREATE TABLE ns.u (id BIGINT)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    with ice.connect(folder) as opened:
        yield opened


def test_serializable_forbids_what_was_read_to_change(session, other, outside) -> None:
    before = outside.files("*.parquet")

    def run() -> None:
        with session.transaction() as tx:
            (total,) = tx.sql("SELECT sum(id) FROM ns.t").fetchone()
            other.sql("INSERT INTO ns.t VALUES (10, 'x')")
            tx.sql("INSERT INTO ns.t VALUES (?, 'sum')", [total])

    with pytest.raises(ice.CommitConflictError) as raised:
        run()
    assert raised.value.conflicting_snapshot_id == session.catalog.load_table("ns.t").metadata.current_snapshot_id
    assert outside.ids() == [1, 2, 10]
    assert len(outside.files("*.parquet") - before) == 1


def test_snapshot_isolation_allows_it(session, other, outside) -> None:
    with session.transaction("snapshot") as tx:
        (total,) = tx.sql("SELECT sum(id) FROM ns.t").fetchone()
        other.sql("INSERT INTO ns.t VALUES (10, 'x')")
        tx.sql("INSERT INTO ns.t VALUES (?, 'sum')", [total])
    assert outside.ids() == [1, 2, 3, 10]


def test_rows_outside_of_what_was_read_do_not_collide(session, other, outside) -> None:
    with session.transaction() as tx:
        assert tx.sql("SELECT count(*) FROM ns.t WHERE id < 5").fetchone() == (2,)
        other.sql("INSERT INTO ns.t VALUES (10, 'x')")
        tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
    assert outside.ids() == [1, 2, 3, 10]


def test_a_table_that_was_only_read_is_validated_too(session, other, outside) -> None:
    def run() -> None:
        with session.transaction() as tx:
            tx.sql("INSERT INTO ns.u SELECT id FROM ns.t WHERE id = 1")
            other.sql("INSERT INTO ns.t VALUES (1, 'again')")

    with pytest.raises(ice.CommitConflictError, match=r"ns\.t"):
        run()
    assert outside.ids("ns.u") == []


def test_a_table_that_was_only_read_gets_no_snapshot(session, other, outside) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.u SELECT id FROM ns.t")
    assert (outside.snapshots("ns.t"), outside.snapshots("ns.u")) == (1, 1)
    assert list(tx.snapshot_ids) == ["default.ns.u"]


def test_blind_writes_never_collide(session, other, outside) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
        other.sql("INSERT INTO ns.t VALUES (4, 'd')")
    assert outside.ids() == [1, 2, 3, 4]


def test_reads_of_a_named_version_depend_on_nothing(session, other, outside) -> None:
    first = session.catalog.load_table("ns.t").metadata.current_snapshot_id
    other.sql("INSERT INTO ns.t VALUES (3, 'c')")
    with session.transaction() as tx:
        tx.sql(f"INSERT INTO ns.u SELECT id FROM ns.t FOR VERSION AS OF {first}")
        other.sql("INSERT INTO ns.t VALUES (4, 'd')")
    assert outside.ids("ns.u") == [1, 2]


def test_a_rewrite_of_files_does_not_collide(session, other, outside) -> None:
    """A compaction by another engine changes no rows."""
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.u SELECT id FROM ns.t")
        table = session.catalog.load_table("ns.t")
        head = table.metadata.current_snapshot()
        # The same manifests under a new snapshot of the operation `replace`.
        replaced = head.model_copy(
            update={
                "snapshot_id": head.snapshot_id + 1,
                "parent_snapshot_id": head.snapshot_id,
                "sequence_number": head.sequence_number + 1,
                "summary": type(head.summary)(operation="replace"),
            }
        )
        main = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=replaced.snapshot_id)
        held = AssertRefSnapshotId(ref="main", snapshot_id=head.snapshot_id)
        session.catalog.commit_table(table, (held,), (AddSnapshotUpdate(snapshot=replaced), main))
    assert outside.ids("ns.u") == [1, 2]


def test_a_transaction_given_as_a_function_is_run_again(session, other, outside) -> None:
    tries: list[int] = []

    def work(tx: ice.Transaction) -> int:
        (total,) = tx.sql("SELECT sum(id) FROM ns.t").fetchone()
        tries.append(total)
        if len(tries) == 1:
            other.sql("INSERT INTO ns.t VALUES (10, 'x')")
        tx.sql("INSERT INTO ns.t VALUES (?, 'sum')", [total])
        return total

    assert session.run(work) == 13
    assert tries == [3, 13]
    assert outside.ids() == [1, 2, 10, 13]
    assert outside.snapshots() == 3


def test_a_function_that_always_collides_ends_within_the_budget(folder, session, other, outside) -> None:
    tries: list[int] = []

    def work(tx: ice.Transaction) -> None:
        tx.sql("INSERT INTO ns.u SELECT count(*) FROM ns.t")
        other.sql("INSERT INTO ns.t VALUES (?, 'x')", [10 + len(tries)])
        tries.append(1)

    patience = ice.RetryConfig(max_attempts=3, max_delay_ms=1)
    with ice.connect(folder, retry=patience) as own, pytest.raises(ice.CommitConflictError):
        own.run(work)
    assert len(tries) == 3
    assert outside.ids("ns.u") == []


def test_other_errors_are_not_tried_again(session, other, outside) -> None:
    tries: list[int] = []

    def work(tx: ice.Transaction) -> None:
        tries.append(1)
        tx.sql("INSERT INTO ns.u VALUES (1)")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        session.run(work)
    assert (tries, outside.ids("ns.u")) == ([1], [])


def remake_on_first_commit(session: ice.Session, monkeypatch) -> None:
    """Another session drops the table and makes it anew while the first statement runs."""
    real = session._changes.run
    ran: list[int] = []

    def run(*arguments):
        result = real(*arguments)
        if not ran:
            session.catalog.drop_table("ns.u")
            session.catalog.create_table("ns.u", pa.schema([("id", pa.int64())]))
        ran.append(1)
        return result

    monkeypatch.setattr(session._changes, "run", run)


@pytest.mark.parametrize(
    ("statement", "source", "again"),
    [
        ("INSERT INTO ns.u SELECT id FROM src", pa.table({"id": [7]}), True),
        ("INSERT INTO ns.u SELECT id FROM src", pa.table({"id": [7]}).to_reader(), False),
        ("INSERT INTO ns.u SELECT id + CAST(random() * 0 AS BIGINT) FROM src", pa.table({"id": [7]}), False),
    ],
)
def test_a_statement_is_run_again_only_where_that_is_the_same(
    session, other, outside, monkeypatch, statement, source, again
) -> None:
    remake_on_first_commit(session, monkeypatch)
    if again:
        session.sql(statement, src=source)
        assert outside.ids("ns.u") == [7]
    else:
        with pytest.raises(ice.CommitConflictError, match="made anew"):
            session.sql(statement, src=source)
        assert outside.ids("ns.u") == []
    assert len([f for f in outside.files("*.parquet") if "/u/" in f]) == int(again)
