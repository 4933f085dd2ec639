"""What two transactions may do to each other, and what is done again when they did too much."""

import pyarrow as pa
import pytest
from outcome_matrix import copy_of
from pyiceberg.manifest import DataFileContent
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate

import icefusion as ice
from icefusion.commit.committer import CommitRequest
from icefusion.commit.operations import FileChange, TableChange
from icefusion.sql.names import parse_name


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


CHANGES = {
    "delete": "DELETE FROM ns.t WHERE id = 1",
    "update": "UPDATE ns.t SET s = s || '!' WHERE id < 100",
    "merge": "MERGE INTO ns.t AS t USING (SELECT 1 AS id, 'm' AS s UNION ALL SELECT 7, 'n') AS s ON t.id = s.id "
    "WHEN MATCHED THEN UPDATE SET s = s.s WHEN NOT MATCHED THEN INSERT (id, s) VALUES (s.id, s.s)",
    "upsert": "INSERT INTO ns.t VALUES (7, 'u') ON CONFLICT (id) DO UPDATE SET s = excluded.s",
    "overwrite": "INSERT OVERWRITE ns.t SELECT id + 10, s FROM ns.t",
    "replace": "INSERT INTO ns.t REPLACE WHERE id = 7 SELECT 7, 'r'",
    "truncate": "TRUNCATE TABLE ns.t",
}


def once_between(session: ice.Session, monkeypatch, rival) -> list[int]:
    """Has a rival commit between the first run of a statement and its commit; counts the runs."""
    real = session._changes.run
    ran: list[int] = []

    def run(*arguments):
        result = real(*arguments)
        ran.append(1)
        if len(ran) == 1:
            rival()
        return result

    monkeypatch.setattr(session._changes, "run", run)
    return ran


def rows(session: ice.Session) -> list[tuple]:
    return session.sql("SELECT id, s FROM ns.t ORDER BY id, s").fetchall()


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_run_again_leaves_nothing_of_its_first_run(
    session, other, outside, monkeypatch, name, mode
) -> None:
    before = outside.files()
    rival = "INSERT INTO ns.t VALUES (1, 'x'), (7, 'y')"
    ran = once_between(session, monkeypatch, lambda: other.sql(rival))
    result = session.sql(CHANGES[name], write_mode=mode)
    assert len(ran) == 2
    assert outside.snapshots() == 3
    got = rows(other)
    monkeypatch.undo()
    made = outside.files() - before
    for path in outside.files("*.parquet") - before:
        assert path.rsplit("/", 1)[1] in data_and_delete_files(other), f"{path} belongs to nothing"
    assert len([path for path in made if path.endswith(".metadata.json")]) == 2
    assert len([path for path in made if "/snap-" in path]) == 2
    # The same in that order.
    other.sql("CREATE TABLE ns.w (id BIGINT, s STRING); INSERT INTO ns.w VALUES (1, 'a'), (2, 'b')")
    other.sql(rival.replace("ns.t", "ns.w"))
    expected = other.sql(CHANGES[name].replace("ns.t", "ns.w"))
    assert got == other.sql("SELECT id, s FROM ns.w ORDER BY id, s").fetchall()
    assert result.report.rows == expected.report.rows


def data_and_delete_files(session: ice.Session) -> set[str]:
    table = session.catalog.load_table("ns.t")
    return {
        entry.data_file.file_path.rsplit("/", 1)[1]
        for snapshot in table.metadata.snapshots
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }


@pytest.mark.parametrize(
    ("statement", "source"),
    [
        ("MERGE INTO ns.t AS t USING src AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET s = 'm'", "stream"),
        ("DELETE FROM ns.t USING src AS s WHERE ns.t.id = s.id", "stream"),
        ("INSERT OVERWRITE ns.t SELECT id, 'o' FROM src", "stream"),
        ("UPDATE ns.t SET s = uuid()", "none"),
        ("DELETE FROM ns.t WHERE random() >= 0", "none"),
    ],
)
def test_a_change_is_not_run_again_on_another_draw_or_a_spent_stream(
    session, other, outside, monkeypatch, statement, source
) -> None:
    ran = once_between(session, monkeypatch, lambda: other.sql("INSERT INTO ns.t VALUES (1, 'x')"))
    sources = {"src": pa.table({"id": pa.array([1])}).to_reader()} if source == "stream" else {}
    with pytest.raises(ice.CommitConflictError):
        session.sql(statement, **sources)
    assert len(ran) == 1
    assert rows(other) == [(1, "a"), (1, "x"), (2, "b")]
    assert {path.rsplit("/", 1)[1] for path in outside.files("*.parquet")} == data_and_delete_files(other)


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_a_change_that_always_collides_ends_within_the_budget(folder, session, other, outside, monkeypatch, mode):
    with ice.connect(folder, retry=ice.RetryConfig(max_attempts=3, max_delay_ms=1)) as own:
        real = own._changes.run
        ran: list[int] = []

        def run(*arguments):
            result = real(*arguments)
            ran.append(1)
            other.sql("INSERT INTO ns.t VALUES (1, 'x')")
            return result

        monkeypatch.setattr(own._changes, "run", run)
        with pytest.raises(ice.CommitConflictError):
            own.sql("UPDATE ns.t SET s = 'z' WHERE id = 1", write_mode=mode)
    assert len(ran) == 3
    assert rows(other) == [(1, "a"), (1, "x"), (1, "x"), (1, "x"), (2, "b")]
    assert {path.rsplit("/", 1)[1] for path in outside.files("*.parquet")} == data_and_delete_files(other)


def test_two_upserts_of_one_new_key_make_one_row(session, other, monkeypatch) -> None:
    upsert = "INSERT INTO ns.t VALUES (7, ?) ON CONFLICT (id) DO UPDATE SET s = t.s || excluded.s"
    ran = once_between(session, monkeypatch, lambda: other.sql(upsert, ["a"]))
    session.sql(upsert, ["b"])
    assert len(ran) == 2
    assert rows(other) == [(1, "a"), (2, "b"), (7, "ab")]


@pytest.mark.parametrize("statement", ["DELETE FROM ns.t WHERE id = 99", "UPDATE ns.t SET s = 'z' WHERE id = 99"])
def test_a_change_of_no_row_commits_nothing_and_collides_with_nothing(
    session, other, outside, monkeypatch, statement
) -> None:
    ran = once_between(session, monkeypatch, lambda: other.sql("INSERT INTO ns.t VALUES (99, 'x')"))
    result = session.sql(statement)
    assert (result.snapshot_id, len(ran), outside.snapshots()) == (None, 1, 2)
    with session.transaction() as tx:
        tx.sql("DELETE FROM ns.t WHERE id = 98")
        other.sql("INSERT INTO ns.t VALUES (98, 'x')")
    assert tx.snapshot_ids == {}


def test_a_row_that_was_not_there_is_a_read_too(session, other, outside) -> None:
    def run() -> None:
        with session.transaction() as tx:
            tx.sql("DELETE FROM ns.t WHERE id = 99")
            other.sql("INSERT INTO ns.t VALUES (99, 'x')")
            tx.sql("INSERT INTO ns.u VALUES (1)")

    with pytest.raises(ice.CommitConflictError, match="depends on"):
        run()


@pytest.mark.parametrize(("mine", "collides"), [(1, True), (2, False)])
def test_deletes_of_a_partition_collide_in_rows(session, other, mine, collides) -> None:
    """Such a delete file is about several data files, and its manifest does not say about which."""
    session.sql("CREATE TABLE ns.g (id BIGINT) TBLPROPERTIES ('write.delete.granularity' = 'partition')")
    session.sql("INSERT INTO ns.g VALUES (1), (2), (3); INSERT INTO ns.g VALUES (11), (12), (13)")

    def run() -> None:
        with session.transaction("snapshot"):
            session.sql("DELETE FROM ns.g WHERE id IN (?, 12)", [mine], write_mode="merge-on-read")
            other.sql("DELETE FROM ns.g WHERE id IN (1, 11)", write_mode="merge-on-read")

    if collides:
        with pytest.raises(ice.CommitConflictError, match="changes the same rows"):
            run()
    else:
        run()
    left = {1, 2, 3, 11, 12, 13} - {1, 11} - (set() if collides else {mine, 12})
    assert {row for (row,) in other.sql("SELECT id FROM ns.g")} == left


@pytest.mark.parametrize("modes", [("merge-on-read", "copy-on-write"), ("copy-on-write", "merge-on-read")])
def test_a_row_of_a_file_that_the_other_mode_wrote_anew_collides(session, other, modes) -> None:
    def run() -> None:
        with session.transaction("snapshot"):
            session.sql("DELETE FROM ns.t WHERE id = 1", write_mode=modes[0])
            other.sql("UPDATE ns.t SET s = 'z' WHERE id = 2", write_mode=modes[1])

    with pytest.raises(ice.CommitConflictError, match=r"this transaction (deletes|changes) rows of"):
        run()
    assert rows(other) == [(1, "a"), (2, "z")]


def rewrite_deletes(session: ice.Session, **changed: object) -> None:
    """Put a copy in the place of the table's one delete file, as a compaction of deletes does."""
    handle = session._client.resolve(parse_name("ns.t"))
    (old,) = [
        entry.data_file
        for manifest in handle.metadata.current_snapshot().manifests(handle.io)
        for entry in manifest.fetch_manifest_entry(handle.io)
        if entry.data_file.content == DataFileContent.POSITION_DELETES
    ]
    path = old.file_path.replace(".parquet", "-anew.parquet")
    with handle.io.new_output(path).create() as out, handle.io.new_input(old.file_path).open() as source:
        out.write(source.read())
    new = copy_of(old, file_path=path, **changed)
    files = FileChange(added_deletes=(new,), removed_deletes=(old,))
    session._committer.commit(CommitRequest((TableChange(handle, files),)))


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_deletes_that_are_written_anew_collide_with_a_rewrite_of_their_file_alone(session, other, outside, mode):
    session.sql("INSERT INTO ns.t VALUES (3, 'c'), (4, 'd'), (5, 'e')")
    session.sql("DELETE FROM ns.t WHERE id = 4", write_mode="merge-on-read")
    before = outside.files("*.parquet")

    def run() -> None:
        with session.transaction("snapshot"):
            session.sql("DELETE FROM ns.t WHERE id = 3", write_mode=mode)
            rewrite_deletes(other)

    if mode == "copy-on-write":
        with pytest.raises(ice.CommitConflictError, match=r"snapshot \d+ \(delete\)"):
            run()
        assert len(outside.files("*.parquet") - before) == 1
        run = lambda: session.sql("DELETE FROM ns.t WHERE id = 3", write_mode=mode)  # noqa: E731
    run()
    assert rows(other) == [(1, "a"), (2, "b"), (5, "e")]


def test_bounds_of_a_delete_file_that_are_cut_off_hide_no_conflict(session, other) -> None:
    """Some writers keep the first 16 bytes of a bound; they are alike for all files."""
    session.sql("DELETE FROM ns.t WHERE id = 1", write_mode="merge-on-read")
    bound = {2147483546: b"file:///a-folder"}

    def run() -> None:
        with session.transaction("snapshot"):
            session.sql("UPDATE ns.t SET s = 'z' WHERE id = 2", write_mode="copy-on-write")
            rewrite_deletes(other, lower_bounds=bound, upper_bounds=bound)

    with pytest.raises(ice.CommitConflictError, match="-anew"):
        run()


def test_a_delete_file_names_no_row_that_was_deleted_before(session, other) -> None:
    session.sql("DELETE FROM ns.t WHERE id = 1", write_mode="merge-on-read")
    session.sql("INSERT INTO ns.t VALUES (3, 'c'), (4, 'd'), (5, 'e')")
    for number in (3, 4):
        session.sql("DELETE FROM ns.t WHERE id = ?", [number], write_mode="merge-on-read")
    summary = session.catalog.load_table("ns.t").metadata.current_snapshot().summary
    assert summary["total-position-deletes"] == "3"
    assert rows(other) == [(2, "b"), (5, "e")]
