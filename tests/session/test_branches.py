"""Branches of a table: written and read by name, alone and together with others in one transaction."""

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice


@pytest.fixture
def dev(session):
    """``ns.t`` with rows 1 and 2, and a branch ``dev`` at that state."""
    session.sql("CREATE TABLE ns.t (id BIGINT, v STRING); INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    table = session.catalog.load_table("ns.t")
    table.manage_snapshots().create_branch(
        table.current_snapshot().snapshot_id, "dev", max_ref_age_ms=10**12, min_snapshots_to_keep=3
    ).commit()
    return session


def rows(session, table: str) -> list[tuple]:
    return session.sql(f"SELECT id, v FROM {table} ORDER BY id").fetchall()


def seen_outside(folder, branch: str) -> list[int]:
    catalog = SqlCatalog("default", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=folder.as_uri())
    try:
        table = catalog.load_table("ns.t")
        return sorted(table.scan().use_ref(branch).to_arrow()["id"].to_pylist())
    finally:
        catalog.close()


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_of_a_branch_change_and_those_of_the_others_stay(dev, folder, mode) -> None:
    dev.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
    dev.sql("UPDATE ns.t.branch_dev SET v = 'z' WHERE id = 1", write_mode=mode)
    dev.sql("DELETE FROM ns.t.Branch_DEV WHERE id = 2", write_mode=mode)
    dev.sql(
        "MERGE INTO ns.t.branch_dev AS t USING (VALUES (3, 'm'), (4, 'n')) AS s(id, v) ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT *",
        write_mode=mode,
    )
    assert rows(dev, "ns.t") == [(1, "a"), (2, "b")]
    assert rows(dev, "ns.t.branch_dev") == [(1, "z"), (3, "m"), (4, "n")]
    assert seen_outside(folder, "main") == [1, 2]
    assert seen_outside(folder, "dev") == [1, 3, 4]


def test_a_write_leaves_the_retention_of_its_branch_as_it_was(dev) -> None:
    dev.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
    dev.sql("INSERT INTO ns.t VALUES (4, 'd')")
    ref = dev.catalog.load_table("ns.t").metadata.refs["dev"]
    assert (ref.max_ref_age_ms, ref.min_snapshots_to_keep) == (10**12, 3)


def test_branches_of_one_table_land_together(dev, folder) -> None:
    with dev.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (10, 'm')")
        tx.sql("INSERT INTO ns.t.branch_dev SELECT id + 100, v FROM ns.t")
        tx.sql("DELETE FROM ns.t.branch_dev WHERE id = 1")
        assert rows(dev, "ns.t.branch_dev") == [(2, "b"), (101, "a"), (102, "b"), (110, "m")]
        assert seen_outside(folder, "dev") == [1, 2]
    assert seen_outside(folder, "main") == [1, 2, 10]
    assert seen_outside(folder, "dev") == [2, 101, 102, 110]
    metadata = dev.catalog.load_table("ns.t").metadata
    assert len(metadata.snapshots) == 3
    assert tx.snapshot_ids == {
        "default.ns.t": metadata.refs["main"].snapshot_id,
        "default.ns.t.branch_dev": metadata.refs["dev"].snapshot_id,
    }


def test_a_rollback_leaves_no_branch_touched(dev, folder, outside) -> None:
    before = outside.files()
    with dev.transaction() as tx:
        tx.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
        tx.sql("INSERT INTO ns.t VALUES (4, 'd')")
        tx.rollback()
    assert outside.files() == before
    assert seen_outside(folder, "dev") == [1, 2]


def test_commits_to_other_branches_are_no_conflict(dev, folder) -> None:
    with ice.connect(folder) as other, dev.transaction() as tx:
        tx.sql("DELETE FROM ns.t.branch_dev WHERE id = 1")
        other.sql("DELETE FROM ns.t WHERE id = 1")
    assert seen_outside(folder, "main") == [2]
    assert seen_outside(folder, "dev") == [2]


def test_commits_to_the_same_branch_are(dev, folder) -> None:
    dev.sql("BEGIN")
    dev.sql("DELETE FROM ns.t.branch_dev WHERE id = 1", write_mode="copy-on-write")
    with ice.connect(folder) as other:
        other.sql("DELETE FROM ns.t.branch_dev WHERE id = 2", write_mode="copy-on-write")
    with pytest.raises(ice.CommitConflictError, match=r"depends on rows|removed"):
        dev.sql("COMMIT")
    assert seen_outside(folder, "dev") == [1]


def test_a_branch_that_is_dropped_meanwhile_is_a_conflict(dev, outside) -> None:
    dev.sql("BEGIN; INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
    dev.catalog.load_table("ns.t").manage_snapshots().remove_branch("dev").commit()
    with pytest.raises(ice.CommitConflictError, match="branch dev was dropped"):
        dev.sql("COMMIT")
    assert len(outside.files("*.parquet")) == 1


def test_what_a_serializable_transaction_reads_of_a_branch_is_held_still(dev, folder) -> None:
    dev.sql("CREATE TABLE ns.sums (n BIGINT)")
    dev.sql("BEGIN; INSERT INTO ns.sums SELECT sum(id) FROM ns.t.branch_dev")
    with ice.connect(folder) as other:
        other.sql("INSERT INTO ns.t.branch_dev VALUES (9, 'x')")
    with pytest.raises(ice.CommitConflictError, match="depends on all rows"):
        dev.sql("COMMIT")
    with ice.connect(folder) as other, dev.transaction() as tx:
        tx.sql("INSERT INTO ns.sums SELECT sum(id) FROM ns.t.branch_dev")
        other.sql("INSERT INTO ns.t VALUES (9, 'x')")
    assert dev.sql("SELECT n FROM ns.sums").fetchall() == [(12,)]


@pytest.mark.parametrize("text", ["SELECT * FROM ns.t.branch_dav", "INSERT INTO ns.t.branch_dav VALUES (1, 'a')"])
def test_an_unknown_branch_names_the_nearest(dev, text) -> None:
    with pytest.raises(ice.BindError, match="no branch dav") as caught:
        dev.sql(text)
    assert "did you mean dev?" in caught.value.hint


def test_a_writer_appends_to_a_branch(dev, folder) -> None:
    dev.writer("ns.t.branch_dev").write_batch(pa.record_batch({"id": [7], "v": ["w"]}))
    dev.table("ns.t.branch_dev").append(pa.table({"id": [8], "v": ["w"]}))
    assert seen_outside(folder, "dev") == [1, 2, 7, 8]
    assert seen_outside(folder, "main") == [1, 2]


def test_a_branch_read_at_its_name_shows_what_the_transaction_wrote_to_it(dev) -> None:
    """By whatever words a branch is named, it goes on; a tag or an id of the same snapshot stays what it is."""
    table = dev.catalog.load_table("ns.t")
    snapshot = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_tag(snapshot, "now").commit()
    with dev.transaction() as tx:
        tx.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
        tx.sql("DELETE FROM ns.t WHERE id = 1")
        for name in (
            "ns.t FOR VERSION AS OF 'dev'",
            "ns.t AT (VERSION => 'dev')",
            "ns.t.branch_dev",
            "ns.t.BRANCH_dev",
        ):
            assert rows(dev, name) == [(1, "a"), (2, "b"), (3, "c")]
        for name in ("ns.t", "ns.t FOR VERSION AS OF 'main'", "ns.t.branch_main"):
            assert rows(dev, name) == [(2, "b")]
        for name in ("ns.t.tag_now", f"ns.t VERSION AS OF {snapshot}", "ns.t FOR TIMESTAMP AS OF now()"):
            assert rows(dev, name) == [(1, "a"), (2, "b")]
    assert rows(dev, "ns.t VERSION AS OF 'dev'") == [(1, "a"), (2, "b"), (3, "c")]


def test_a_branch_has_no_versions_of_its_own(dev) -> None:
    for name in ("ns.t.branch_dev FOR VERSION AS OF 'dev'", "ns.t.branch_dev FOR TIMESTAMP AS OF now()"):
        with pytest.raises(ice.BindError, match="names a version already"):
            dev.sql(f"SELECT * FROM {name}")


def test_a_branch_that_was_read_by_its_version_is_held_still(dev, folder) -> None:
    dev.sql("CREATE TABLE ns.copy (n BIGINT)")
    dev.sql("BEGIN; INSERT INTO ns.copy SELECT count(*) FROM ns.t FOR VERSION AS OF 'dev'")
    with ice.connect(folder) as other:
        other.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
    with pytest.raises(ice.CommitConflictError):
        dev.sql("COMMIT")
