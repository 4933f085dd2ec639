"""Tables that a transaction renames, and names that it frees and takes: what it sees, what others see, who collides."""

from __future__ import annotations

import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.testing import ScriptedCatalog


@pytest.fixture
def t(session):
    session.sql("CREATE TABLE ns.t (id BIGINT, v STRING); INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    return session


@pytest.fixture
def other(folder):
    with ice.connect(folder) as opened:
        yield opened


def ids(session, table: str) -> list[int]:
    return [row[0] for row in session.sql(f"SELECT id FROM {table} ORDER BY 1").fetchall()]


def tables(session, namespace: str = "ns") -> list[str]:
    return [row[1] for row in session.sql(f"SHOW TABLES IN {namespace}").fetchall()]


def test_a_renamed_table_is_found_by_its_new_name_alone(t, other, outside) -> None:
    uuid = t.catalog.load_table("ns.t").metadata.table_uuid
    with t.transaction() as tx:
        assert ids(t, "ns.t") == [1, 2]
        tx.sql("ALTER TABLE ns.t RENAME TO S")
        assert ids(t, "ns.s") == [1, 2]
        assert tables(t) == ["S"]
        for text in (
            "SELECT * FROM ns.t",
            "INSERT INTO ns.T VALUES (3, 'c')",
            "DROP TABLE ns.t",
            "SELECT * FROM ns.t.files",
        ):
            with pytest.raises(ice.TableNotFoundError, match=r"has renamed it to default\.ns\.S"):
                tx.sql(text)
        tx.sql("DROP TABLE IF EXISTS ns.t; ALTER TABLE IF EXISTS ns.t RENAME TO u")
        assert tx.sql("SELECT count(*) FROM ns.s.snapshots").fetchall() == [(1,)]
        listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ns'"
        assert tx.sql(listed).fetchall() == [("S",)]
        assert "ns.S" in tx.sql("SHOW CREATE TABLE ns.s").fetchall()[0][0]
        assert (tables(other), ids(other, "ns.t")) == (["t"], [1, 2])
    assert (tables(other), ids(other, "ns.S"), outside.ids("ns.S")) == (["S"], [1, 2], [1, 2])
    assert t.catalog.load_table("ns.S").metadata.table_uuid == uuid
    assert len(t.catalog.load_table("ns.S").metadata.snapshots) == 1
    with pytest.raises(ice.TableNotFoundError):
        other.sql("SELECT * FROM ns.t")
    t.sql("INSERT INTO ns.s VALUES (3, 'c')")
    assert ids(other, "ns.S") == [1, 2, 3]


def test_methods_of_tables_take_the_names_of_the_block(t) -> None:
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t RENAME TO s; ALTER TABLE ns.s ADD COLUMN n INT; CREATE TABLE ns.made (id BIGINT)")
        t.table("ns.s").update({"n": 7}, "id = 2")
        t.table("ns.made").append(pa.table({"id": [5]}))
        assert t.table("ns.s").scan("n IS NOT NULL", columns=["id", "n"]).fetchall() == [(2, 7)]
        with pytest.raises(ice.TableNotFoundError):
            t.table("ns.t")
    assert (ids(t, "ns.s"), ids(t, "ns.made")) == ([1, 2], [5])


def test_a_rollback_gives_the_name_back(t, outside) -> None:
    before = outside.files()
    t.sql(
        "BEGIN; INSERT INTO ns.t VALUES (3, 'c'); ALTER TABLE ns.t RENAME TO s; DELETE FROM ns.s WHERE id = 1; ROLLBACK"
    )
    assert (tables(t), ids(t, "ns.t")) == (["t"], [1, 2])
    assert outside.files() == before


def test_rows_and_columns_go_with_the_name(t, other) -> None:
    t.sql("ALTER TABLE ns.t CREATE BRANCH dev")
    with t.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (3, 'c'); ALTER TABLE ns.t ADD COLUMN n INT")
        tx.sql("ALTER TABLE ns.t RENAME TO s")
        tx.sql("UPDATE ns.s SET n = id WHERE id > 1; INSERT INTO ns.s.branch_dev (id) VALUES (9)")
        tx.sql("ALTER TABLE ns.s RENAME COLUMN v TO w; DELETE FROM ns.s WHERE id = 1")
        assert tx.sql("SELECT * FROM ns.s ORDER BY id").fetchall() == [(2, "b", 2), (3, "c", 3)]
    assert other.sql("SELECT id, w, n FROM ns.s ORDER BY id").fetchall() == [(2, "b", 2), (3, "c", 3)]
    assert ids(other, "ns.s.branch_dev") == [1, 2, 9]
    assert tx.snapshot_ids["default.ns.s"] == other.catalog.load_table("ns.s").metadata.current_snapshot_id
    assert {report.table for report in tx.reports} == {"default.ns.s", "default.ns.s.branch_dev"}


def test_a_table_moves_into_a_namespace_that_the_block_makes_and_out_of_one_that_it_drops(t, other) -> None:
    t.sql("CREATE NAMESPACE old; CREATE TABLE old.x AS SELECT 7 AS id")
    with t.transaction() as tx:
        tx.sql("CREATE NAMESPACE new; ALTER TABLE old.x RENAME TO new.y; DROP NAMESPACE old")
        assert (tables(t, "new"), ids(t, "new.y")) == (["y"], [7])
        with pytest.raises(ice.NamespaceNotEmptyError, match="it holds y"):
            tx.sql("DROP NAMESPACE new")
        with pytest.raises(ice.NamespaceNotFoundError):
            tx.sql("ALTER TABLE ns.t RENAME TO nowhere.t")
    assert (tables(other, "new"), ids(other, "new.y")) == (["y"], [7])
    assert [row[0] for row in other.sql("SHOW NAMESPACES")] == ["new", "ns"]


def test_a_table_that_the_block_made_has_its_new_name_at_once(session, other, outside) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE TABLE ns.x AS SELECT 1 AS id; ALTER TABLE ns.x RENAME TO y; INSERT INTO ns.y VALUES (2)")
        with pytest.raises(ice.TableNotFoundError):
            tx.sql("SELECT * FROM ns.x")
        tx.sql("CREATE TABLE ns.x AS SELECT 5 AS id")
    assert (ids(other, "ns.x"), ids(other, "ns.y")) == ([5], [1, 2])
    before = outside.files()
    session.sql("BEGIN; CREATE TABLE ns.z AS SELECT 1 AS id; ALTER TABLE ns.z RENAME TO w; DROP TABLE ns.w; COMMIT")
    assert (tables(other), outside.files()) == (["x", "y"], before)


def test_the_name_can_be_taken_by_a_new_table(t, other, outside) -> None:
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t RENAME TO old; CREATE TABLE ns.t AS SELECT id + 10 AS id FROM ns.old")
        assert (ids(t, "ns.t"), ids(t, "ns.old")) == ([11, 12], [1, 2])
        assert ids(other, "ns.t") == [1, 2]
    assert (ids(other, "ns.t"), ids(other, "ns.old")) == ([11, 12], [1, 2])
    assert outside.ids("ns.t") == [11, 12]
    t.sql("BEGIN; DROP TABLE ns.t; CREATE TABLE ns.t AS SELECT 'x' AS w; INSERT INTO ns.t VALUES ('y'); COMMIT")
    assert other.sql("SELECT w FROM ns.t ORDER BY w").fetchall() == [("x",), ("y",)]
    t.sql("BEGIN; DROP TABLE ns.t; ALTER TABLE ns.old RENAME TO t; COMMIT")
    assert (tables(other), ids(other, "ns.t")) == (["t"], [1, 2])


def test_tables_change_their_names_in_a_circle(t, other) -> None:
    t.sql("CREATE TABLE ns.u AS SELECT 7 AS id; CREATE TABLE ns.w AS SELECT 8 AS id")
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t RENAME TO aside; ALTER TABLE ns.u RENAME TO t; ALTER TABLE ns.w RENAME TO u")
        tx.sql("ALTER TABLE ns.aside RENAME TO w; INSERT INTO ns.w VALUES (3, 'c')")
        assert (ids(t, "ns.t"), ids(t, "ns.u"), ids(t, "ns.w")) == ([7], [8], [1, 2, 3])
        assert (ids(other, "ns.t"), ids(other, "ns.u"), ids(other, "ns.w")) == ([1, 2], [7], [8])
    assert (ids(other, "ns.t"), ids(other, "ns.u"), ids(other, "ns.w")) == ([7], [8], [1, 2, 3])
    assert tables(other) == ["t", "u", "w"]
    before = t.catalog.load_table("ns.t").metadata_location
    t.sql("BEGIN; ALTER TABLE ns.t RENAME TO x; ALTER TABLE ns.x RENAME TO t; COMMIT")
    assert t.catalog.load_table("ns.t").metadata_location == before


def test_a_name_that_is_taken_is_refused(t) -> None:
    t.sql("CREATE TABLE ns.u (id INT)")
    with t.transaction() as tx:
        tx.sql("CREATE TABLE ns.made (id INT)")
        for name in ("u", "made", "t", "ns.u"):
            with pytest.raises(ice.TableExistsError):
                tx.sql(f"ALTER TABLE ns.t RENAME TO {name}")
        assert ids(t, "ns.t") == [1, 2]


# Against others


def test_rows_that_come_meanwhile_go_with_the_name(t, other) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t RENAME TO s; INSERT INTO ns.s VALUES (3, 'c')")
    other.sql("INSERT INTO ns.t VALUES (4, 'd')")
    t.sql("COMMIT")
    assert ids(other, "ns.s") == [1, 2, 3, 4]


def test_who_reads_what_changes_meanwhile_collides_under_either_name(t, other, outside) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t RENAME TO s; DELETE FROM ns.s WHERE id = 1")
    other.sql("UPDATE ns.t SET v = 'z' WHERE id = 1")
    with pytest.raises(ice.CommitConflictError):
        t.sql("COMMIT")
    assert (tables(other), ids(other, "ns.t")) == (["t"], [1, 2])
    before = outside.files()
    t.sql("BEGIN; CREATE TABLE ns.copy AS SELECT * FROM ns.t; DROP TABLE ns.t")
    other.sql("INSERT INTO ns.t VALUES (3, 'c')")
    lost = outside.files() - before
    with pytest.raises(ice.CommitConflictError):
        t.sql("COMMIT")
    assert (tables(other), ids(other, "ns.t")) == (["t"], [1, 2, 3])
    assert len(outside.files() - before) == len(lost) - 1


def test_a_name_that_others_take_meanwhile(t, other, outside) -> None:
    t.sql("BEGIN; INSERT INTO ns.t VALUES (3, 'c'); ALTER TABLE ns.t RENAME TO s")
    other.sql("CREATE TABLE ns.s (id INT)")
    before = outside.files("*.parquet")
    with pytest.raises(ice.TableExistsError, match=r"table default\.ns\.s exists already"):
        t.sql("COMMIT")
    assert (tables(other), ids(other, "ns.t")) == (["s", "t"], [1, 2])
    assert len(outside.files("*.parquet")) == len(before) - 1


@pytest.mark.parametrize("theirs", ["ALTER TABLE ns.t RENAME TO x", "DROP TABLE ns.t"])
def test_a_table_that_others_rename_or_drop_meanwhile(t, other, theirs) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t RENAME TO s")
    other.sql(theirs)
    with pytest.raises(ice.CommitFailedError, match=r"table default\.ns\.t was dropped or renamed"):
        t.sql("COMMIT")
    assert "s" not in tables(other)


def test_a_namespace_that_others_drop_while_a_table_moves_there(t, other) -> None:
    t.sql("CREATE NAMESPACE n; BEGIN; ALTER TABLE ns.t RENAME TO n.t")
    other.sql("DROP NAMESPACE n")
    with pytest.raises(ice.NamespaceNotFoundError):
        t.sql("COMMIT")
    assert ids(other, "ns.t") == [1, 2]


def test_a_table_of_an_attached_catalog(t, tmp_path) -> None:
    with ice.connect(tmp_path / "other") as made:
        made.sql("CREATE NAMESPACE ns; CREATE TABLE ns.u AS SELECT 1 AS id")
    t.attach("o", path=tmp_path / "other")
    with t.transaction() as tx:
        tx.sql("ALTER TABLE o.ns.u RENAME TO v; INSERT INTO o.ns.v VALUES (2); CREATE TABLE o.ns.u AS SELECT 5 AS id")
        assert (ids(t, "o.ns.v"), ids(t, "o.ns.u"), tables(t), tables(t, "o.ns")) == ([1, 2], [5], ["t"], ["u", "v"])
        with pytest.raises(ice.TransactionError, match="they are in two catalogs"):
            tx.sql("ALTER TABLE ns.t RENAME TO s")
    assert (ids(t, "o.ns.v"), ids(t, "o.ns.u")) == ([1, 2], [5])


def test_a_catalog_that_cannot_do_that_refuses_it(t) -> None:
    with ice.connect(catalog=ScriptedCatalog(t.catalog)) as plain, plain.transaction() as tx:
        with pytest.raises(ice.TransactionError, match="cannot be renamed inside a transaction"):
            tx.sql("ALTER TABLE ns.t RENAME TO s")
        assert ids(plain, "ns.t") == [1, 2]
