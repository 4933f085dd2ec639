"""CALL, and write-audit-publish: what becomes of the table, seen from outside and against others."""

import datetime as dt

import pytest
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice


@pytest.fixture
def t(session):
    """``ns.t`` with three snapshots, of the rows 1, 2 and 3."""
    session.sql("CREATE TABLE ns.t (id BIGINT) TBLPROPERTIES ('write.wap.enabled' = 'true')")
    for number in (1, 2, 3):
        session.sql(f"INSERT INTO ns.t VALUES ({number})")
    return session


def snapshots(session) -> list[int]:
    return [snapshot.snapshot_id for snapshot in session.catalog.load_table("ns.t").metadata.snapshots]


def ids(session, table: str = "ns.t") -> list[int]:
    return [row[0] for row in session.sql(f"SELECT id FROM {table} ORDER BY id")]


def outside(folder):
    catalog = SqlCatalog("default", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=folder.as_uri())
    try:
        return catalog.load_table("ns.t")
    finally:
        catalog.close()


def test_a_table_goes_back_and_forth(t, folder) -> None:
    first, second, third = snapshots(t)
    assert t.sql("CALL system.rollback_to_snapshot('ns.t', ?)", [first]).fetchall() == [(third, first)]
    assert outside(folder).scan().to_arrow()["id"].to_pylist() == [1]
    assert t.sql(
        "CALL default.system.set_current_snapshot(table => 'ns.t', snapshot_id => $n)", {"n": third}
    ).columns == [
        "previous_snapshot_id",
        "current_snapshot_id",
    ]
    assert ids(t) == [1, 2, 3]
    t.sql(f"ALTER TABLE ns.t CREATE TAG two AS OF VERSION {second}")
    t.sql("CALL system.set_current_snapshot('ns.t', ref => 'two')")
    assert ids(t) == [1, 2]
    log = t.sql("CALL system.ancestors_of('ns.t')").fetchall()
    assert [row[0] for row in log] == [second, first]
    assert t.sql(f"CALL system.ancestors_of('ns.t', {third})").fetchall()[0][0] == third


def test_a_table_goes_back_to_a_time(t) -> None:
    first, second, _ = snapshots(t)
    at = t.catalog.load_table("ns.t").snapshot_by_id(second).timestamp_ms
    moment = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
    t.table("ns.t").rollback_to_timestamp(moment)
    assert t.catalog.load_table("ns.t").current_snapshot().snapshot_id == first
    with pytest.raises(ice.BindError, match="no snapshot before that time") as caught:
        t.sql("CALL system.rollback_to_timestamp('ns.t', TIMESTAMP '2020-01-01')")
    assert "the oldest is of 20" in caught.value.hint


def test_only_ancestors_are_rolled_back_to(t) -> None:
    first, _, third = snapshots(t)
    t.table("ns.t").rollback_to_snapshot(first)
    with pytest.raises(ice.SchemaError, match="no ancestor"):
        t.table("ns.t").rollback_to_snapshot(third)
    t.table("ns.t").set_current_snapshot(third)
    assert ids(t) == [1, 2, 3]


def test_rows_of_another_snapshot_are_taken_over_once(t, folder) -> None:
    first, _, third = snapshots(t)
    t.table("ns.t").rollback_to_snapshot(first)
    made = t.table("ns.t").cherrypick(third)
    table = outside(folder)
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 3]
    assert table.current_snapshot().snapshot_id == made
    assert table.current_snapshot().summary["source-snapshot-id"] == str(third)
    for number in (third, made):
        with pytest.raises(ice.SchemaError, match="already"):
            t.table("ns.t").cherrypick(number)


def test_a_snapshot_on_top_of_the_current_one_is_just_moved_to(t) -> None:
    _, second, third = snapshots(t)
    t.table("ns.t").rollback_to_snapshot(second)
    assert t.sql(f"CALL system.cherrypick_snapshot('ns.t', {third})").fetchall() == [(third, third)]
    assert len(snapshots(t)) == 3


def test_what_removes_rows_is_not_taken_over_onto_another_state(t) -> None:
    t.sql("DELETE FROM ns.t WHERE id = 1")
    deleting = snapshots(t)[-1]
    t.table("ns.t").rollback_to_snapshot(snapshots(t)[1])
    with pytest.raises(ice.SchemaError, match="only what adds rows"):
        t.table("ns.t").cherrypick(deleting)


def test_taken_over_files_outlive_a_rollback(t, outside) -> None:
    first, _, third = snapshots(t)
    t.table("ns.t").rollback_to_snapshot(first)
    files = outside.files("*.parquet")
    with t.transaction() as tx:
        tx.sql(f"CALL system.cherrypick_snapshot('ns.t', {third})")
        assert ids(t) == [1, 3]
        tx.sql("UPDATE ns.t SET id = 30 WHERE id = 3")
        assert ids(t) == [1, 30]
        tx.rollback()
    assert outside.files("*.parquet") == files
    assert ids(t, f"ns.t FOR VERSION AS OF {third}") == [1, 2, 3]


def test_two_who_take_over_one_snapshot_do_not_both_succeed(t, folder) -> None:
    first, _, third = snapshots(t)
    t.table("ns.t").rollback_to_snapshot(first)
    t.sql(f"BEGIN; CALL system.cherrypick_snapshot('ns.t', {third})")
    with ice.connect(folder) as other:
        other.table("ns.t").cherrypick(third)
    with pytest.raises(ice.CommitConflictError):
        t.sql("COMMIT")
    assert ids(t) == [1, 3]


def test_a_branch_that_others_have_moved_is_a_conflict(t, folder) -> None:
    first, *_ = snapshots(t)
    t.sql(f"BEGIN; CALL system.rollback_to_snapshot('ns.t', {first})")
    assert ids(t) == [1]
    with ice.connect(folder) as other:
        other.sql("INSERT INTO ns.t VALUES (4)")
    with pytest.raises(ice.CommitConflictError, match="main"):
        t.sql("COMMIT")
    assert ids(t) == [1, 2, 3, 4]


def test_rows_are_written_on_top_of_what_the_block_went_back_to(t) -> None:
    first, *_ = snapshots(t)
    with t.transaction() as tx:
        tx.sql(f"CALL system.rollback_to_snapshot('ns.t', {first})")
        tx.sql("INSERT INTO ns.t VALUES (9)")
        with pytest.raises(ice.TransactionError, match="has written to branch main"):
            tx.sql(f"CALL system.rollback_to_snapshot('ns.t', {first})")
    assert ids(t) == [1, 9]
    assert t.catalog.load_table("ns.t").current_snapshot().parent_snapshot_id == first


def test_a_branch_is_published_by_moving_forward(t) -> None:
    table = t.table("ns.t")
    table.create_branch("dev")
    t.sql("INSERT INTO ns.t.branch_dev VALUES (4)")
    table.fast_forward("main", "dev")
    assert ids(t) == [1, 2, 3, 4]
    t.sql("INSERT INTO ns.t VALUES (5)")
    with pytest.raises(ice.SchemaError, match="cannot be moved forward"):
        table.fast_forward("main", "dev")
    table.fast_forward("dev", "main")
    assert ids(t, "ns.t.branch_dev") == [1, 2, 3, 4, 5]
    table.create_tag("v1")
    table.drop_branch("dev")
    table.drop_tag("v1")
    assert set(t.catalog.load_table("ns.t").metadata.refs) == {"main"}


def test_a_table_is_registered_by_its_metadata(t) -> None:
    location = t.catalog.load_table("ns.t").metadata_location
    registered = t.register_table("ns.r", location)
    assert ids(t, registered.name) == [1, 2, 3]
    with pytest.raises(ice.TableExistsError):
        t.register_table("ns.r", location)
    with pytest.raises(ice.StorageError, match="missing in storage"):
        t.register_table("ns.q", location.replace(".metadata.json", ".json"))
    with pytest.raises(ice.TransactionError, match="inside a transaction"), t.transaction() as tx:
        tx.sql("CALL system.register_table('ns.q', 'x')")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("CALL system.rollback_to_snap('ns.t', 1)", "no procedure"),
        ("CALL other.rollback_to_snapshot('ns.t', 1)", "no procedure"),
        ("CALL system.rollback_to_snapshot('ns.t')", "needs snapshot_id"),
        ("CALL system.rollback_to_snapshot('ns.t', 1, 2)", "takes 2 arguments"),
        ("CALL system.rollback_to_snapshot('ns.t', snapshot => 1)", "no parameter snapshot"),
        ("CALL system.rollback_to_snapshot('ns.t', 1, snapshot_id => 1)", "given twice"),
        ("CALL system.rollback_to_snapshot('ns.t', 'x')", "whole number"),
        ("CALL system.rollback_to_snapshot('ns.t', NULL)", "found NULL"),
        ("CALL system.rollback_to_snapshot(1, 1)", "name of a table"),
        ("CALL system.rollback_to_snapshot('ns.t', 1)", "has no snapshot 1"),
        ("CALL system.set_current_snapshot('ns.t')", "either a snapshot_id or a ref"),
        ("CALL system.set_current_snapshot('ns.t', ref => 'mian')", "no branch or tag mian"),
        ("CALL system.publish_changes('ns.t', 'nope')", "no snapshot with wap.id nope"),
        ("CALL system.ancestors_of('ns.t.branch_main')", "has no snapshot|is a branch|ancestors"),
    ],
)
def test_a_wrong_call_says_what_was_expected(t, text, match) -> None:
    if "branch_main" in text:
        assert len(t.sql(text).fetchall()) == 3
        return
    with pytest.raises(ice.BindError, match=match) as caught:
        t.sql(text)
    assert caught.value.hint or caught.value.line


# Write, audit, publish


def test_rows_wait_under_an_id_until_they_are_published(t, folder) -> None:
    t.sql("SET wap.id = 'load-7'")
    t.sql("INSERT INTO ns.t VALUES (7), (8)")
    assert ids(t) == [1, 2, 3]
    with pytest.raises(ice.TransactionError, match=r"has a snapshot with wap\.id load-7 already"):
        t.sql("INSERT INTO ns.t VALUES (9)")
    t.sql("RESET wap.id; INSERT INTO ns.t VALUES (4)")
    waiting = snapshots(t)[-2]
    assert ids(t, f"ns.t FOR VERSION AS OF {waiting}") == [1, 2, 3, 7, 8]
    t.table("ns.t").publish_changes("load-7")
    table = outside(folder)
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2, 3, 4, 7, 8]
    assert table.current_snapshot().summary["published-wap-id"] == "load-7"
    with pytest.raises(ice.SchemaError, match="already"):
        t.table("ns.t").publish_changes("load-7")


def test_rows_wait_in_a_branch_until_it_is_published(t, folder) -> None:
    with t.wap(branch="audit"):
        assert ids(t) == [1, 2, 3]
        t.sql("INSERT INTO ns.t VALUES (4)")
        t.sql("UPDATE ns.t SET id = 30 WHERE id = 3", write_mode="merge-on-read")
        assert ids(t) == [1, 2, 4, 30]
        assert ids(t, "ns.t.branch_main") == [1, 2, 3]
        t.sql("ALTER TABLE ns.t ADD COLUMN note STRING")
        with t.transaction() as tx:
            tx.sql("DELETE FROM ns.t WHERE id = 1")
            tx.sql("INSERT INTO ns.t VALUES (5, 'x')")
            assert ids(t) == [2, 4, 5, 30]
    assert ids(t) == [1, 2, 3]
    assert sorted(outside(folder).scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]
    t.table("ns.t").fast_forward("main", "audit")
    assert ids(t) == [2, 4, 5, 30]


def test_the_first_write_of_a_block_makes_the_branch_for_all_of_it(t) -> None:
    with t.wap(branch="audit"), t.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (4)")
        tx.sql("INSERT INTO ns.t SELECT id + 10 FROM ns.t WHERE id = 4")
        tx.sql("DELETE FROM ns.t WHERE id = 1")
        assert ids(t) == [2, 3, 4, 14]
    assert ids(t) == [1, 2, 3]
    assert ids(t, "ns.t.branch_audit") == [2, 3, 4, 14]


def test_tables_that_do_not_ask_for_it_are_written_as_ever(session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    with session.wap(branch="audit"):
        session.sql("INSERT INTO ns.t VALUES (1)")
    with session.wap(id="x"):
        session.sql("INSERT INTO ns.t VALUES (2)")
    assert ids(session) == [1, 2]
    assert set(session.catalog.load_table("ns.t").metadata.refs) == {"main"}


def test_a_branch_of_an_empty_table_begins_with_its_first_rows(session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT) TBLPROPERTIES ('write.wap.enabled' = 'true')")
    with session.wap(branch="audit"):
        session.sql("INSERT INTO ns.t VALUES (1)")
        assert ids(session) == [1]
    assert ids(session) == []


def test_options_that_make_no_sense_are_refused(t) -> None:
    t.sql("SET wap.id = 'x'")
    with pytest.raises(ice.ConfigurationError, match="cannot be set both"):
        t.sql("SET spark.wap.branch = 'b'")
    t.sql("RESET wap.id")
    with pytest.raises(ice.ConfigurationError, match="an id or a branch"), t.wap():
        pass
    with t.transaction(), pytest.raises(ice.TransactionError, match="inside a transaction"):
        t.sql("SET wap.id = 'x'")


def test_an_id_is_used_once_by_all_sessions(t, folder) -> None:
    with ice.connect(folder) as other:
        for session, number in ((t, 4), (other, 5)):
            session.sql("SET wap.id = 'load-7'; BEGIN")
            session.sql("INSERT INTO ns.t VALUES (?)", [number])
        t.sql("COMMIT")
        with pytest.raises(ice.CommitConflictError, match=r"waits under wap\.id load-7, which is used once"):
            other.sql("COMMIT")
    t.sql("RESET wap.id")
    t.table("ns.t").publish_changes("load-7")
    assert ids(t) == [1, 2, 3, 4]


def test_versions_can_be_read_while_a_branch_is_written(t) -> None:
    first = snapshots(t)[0]
    with t.wap(branch="audit"):
        t.sql("INSERT INTO ns.t VALUES (4)")
        for version, count in (("'main'", 3), ("'audit'", 4), (first, 1)):
            assert len(ids(t, f"ns.t FOR VERSION AS OF {version}")) == count
        assert len(ids(t, "ns.t FOR TIMESTAMP AS OF now()")) == 3
        told = "SELECT id FROM table_changes('ns.t', {}) ORDER BY id"
        assert t.sql(told.format("'main'")).fetchall() == [(4,)]
        assert t.sql(told.format("'main', 'audit'")).fetchall() == [(4,)]
        assert t.sql(told.format("NULL, 'main'")).fetchall() == [(1,), (2,), (3,)]
        with pytest.raises(ice.BindError, match="names a version already"):
            ids(t, "ns.t.branch_audit FOR VERSION AS OF 'main'")


def test_rows_that_are_to_wait_do_not_go_to_main(t) -> None:
    t.sql("ALTER TABLE ns.t CREATE TAG seen")
    with t.wap(branch="audit"):
        t.sql("INSERT INTO ns.t VALUES (4)")
        with pytest.raises(ice.TransactionError, match="rows are written to branch audit") as caught:
            t.sql("INSERT INTO ns.t.branch_main VALUES (5)")
        assert "RESET wap.branch" in caught.value.hint
        assert ids(t) == [1, 2, 3, 4]
    with t.wap(branch="seen"):
        for statement in ("INSERT INTO ns.t VALUES (6)", "SELECT * FROM ns.t"):
            with pytest.raises(ice.BindError, match=r"wap\.branch is seen, which is a tag"):
                t.sql(statement)
        assert ids(t, "ns.t FOR VERSION AS OF 'seen'") == [1, 2, 3]
    assert ids(t) == [1, 2, 3]


def test_tags_are_not_moved_forward(t) -> None:
    t.sql("ALTER TABLE ns.t CREATE TAG g")
    with pytest.raises(ice.SchemaError, match="is a tag, and only branches"):
        t.sql("CALL system.fast_forward('ns.t', 'g', 'main')")
