"""Several catalogs in one session: names, reads and writes across, and what cannot be done at once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice
from icefusion.commit.identifiers import AttachedIdentifier


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ice.Session]:
    """The session's own catalog has ns.t with 1 and 2, the attached one ns.t with 20 and 30, ns.u and lake.v."""
    with ice.connect(tmp_path / "other") as other:
        other.sql("CREATE NAMESPACE ns; CREATE NAMESPACE lake")
        other.sql("CREATE TABLE ns.t AS SELECT * FROM (VALUES (20, 'x'), (30, 'y')) AS v(id, name)")
        other.sql("CREATE TABLE ns.u (id bigint); CREATE TABLE lake.v AS SELECT 5 AS id")
    with ice.connect(tmp_path / "own") as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t AS SELECT * FROM (VALUES (1, 'a'), (2, 'x')) AS v(id, name)")
        session.attach("other", tmp_path / "other")
        yield session


def ids(session: ice.Session, table: str) -> list[int]:
    return [row[0] for row in session.sql(f"SELECT id FROM {table} ORDER BY id").fetchall()]


def snapshots(folder: Path, table: str = "ns.t") -> int:
    catalog = SqlCatalog("default", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=folder.as_uri())
    try:
        return len(catalog.load_table(table).metadata.snapshots)
    finally:
        catalog.close()


def test_names_of_three_parts_lead_to_the_attached_catalog(session: ice.Session) -> None:
    assert ids(session, "ns.t") == [1, 2]
    assert ids(session, "default.ns.t") == [1, 2]
    assert ids(session, "other.ns.t") == [20, 30]
    assert ids(session, 'OTHER."ns".T') == [20, 30]
    with pytest.raises(ice.TableNotFoundError, match=r"other\.ns\.tt") as caught:
        session.sql("SELECT * FROM other.ns.tt")
    assert "ns.t" in (caught.value.hint or "")


def test_both_catalogs_are_joined_though_their_tables_bear_one_name(session: ice.Session) -> None:
    text = "SELECT a.id, b.id FROM ns.t AS a JOIN other.ns.t AS b ON a.name = b.name"
    assert session.sql(text).fetchall() == [(2, 20)]
    together = (
        "SELECT id FROM ns.t UNION ALL SELECT id FROM other.ns.t UNION ALL SELECT id FROM other.lake.v ORDER BY 1"
    )
    assert [row[0] for row in session.sql(together).fetchall()] == [1, 2, 5, 20, 30]
    report = session.sql(text).report
    assert {scan.table for scan in report.scans} == {"default.ns.t", "other.ns.t"}


def test_rows_go_from_one_into_the_other(session: ice.Session, tmp_path: Path) -> None:
    assert session.sql("INSERT INTO other.ns.t SELECT id + 100, name FROM ns.t").rows_inserted == 2
    assert session.sql("INSERT INTO ns.t SELECT * FROM other.ns.t WHERE id < 100").rows_inserted == 2
    assert ids(session, "other.ns.t") == [20, 30, 101, 102]
    assert ids(session, "ns.t") == [1, 2, 20, 30]
    assert (snapshots(tmp_path / "own"), snapshots(tmp_path / "other")) == (2, 2)
    with ice.connect(tmp_path / "other") as outside:
        assert ids(outside, "ns.t") == [20, 30, 101, 102]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_of_the_attached_catalog_are_changed(session: ice.Session, mode: str) -> None:
    session.sql("UPDATE other.ns.t SET name = 'z' WHERE id = 20", write_mode=mode)
    session.sql("DELETE FROM other.ns.t WHERE id = 30", write_mode=mode)
    merge = (
        "MERGE INTO other.ns.t AS o USING ns.t AS s ON o.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name)"
    )
    session.sql(merge, write_mode=mode)
    assert session.sql("SELECT * FROM other.ns.t ORDER BY id").fetchall() == [(1, "a"), (2, "x"), (20, "z")]
    session.table("other.ns.t").delete("id = 1")
    assert session.sql("UPDATE ns.t SET name = 'q' WHERE id IN (SELECT id FROM other.ns.t)").rows_updated == 1


def test_tables_and_namespaces_are_made_and_dropped_there(session: ice.Session, tmp_path: Path) -> None:
    session.sql("CREATE NAMESPACE other.made")
    session.sql("CREATE TABLE other.made.c (id bigint) PARTITIONED BY (bucket(2, id))")
    session.sql("CREATE TABLE other.made.d AS SELECT id FROM ns.t")
    session.sql("INSERT INTO other.made.c SELECT id FROM other.made.d")
    with pytest.raises(ice.TableExistsError, match=r"other\.made\.c"):
        session.sql("CREATE TABLE other.made.c (id int)")
    with pytest.raises(ice.NamespaceExistsError):
        session.sql("CREATE NAMESPACE other.made")
    with ice.connect(tmp_path / "other") as outside:
        assert ids(outside, "made.c") == [1, 2]
    with pytest.raises(ice.NamespaceNotFoundError):
        session.sql("CREATE TABLE other.nowhere.c (id int)")
    session.sql("DROP TABLE other.made.c; DROP TABLE other.made.d PURGE; DROP NAMESPACE other.made")
    with ice.connect(tmp_path / "other") as outside:
        assert ("made",) not in outside.catalog.list_namespaces()
    assert session.catalog.list_namespaces() == [("ns",)]


def test_a_writer_appends_there(session: ice.Session) -> None:
    session.writer("other.ns.u").write_batch(pa.record_batch({"id": [7, 8]}))
    assert ids(session, "other.ns.u") == [7, 8]


def test_a_transaction_reads_many_and_writes_one(session: ice.Session, tmp_path: Path) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO other.ns.t SELECT * FROM ns.t")
        tx.sql("INSERT INTO other.ns.u SELECT id FROM other.ns.t")
        assert ids(session, "other.ns.t") == [1, 2, 20, 30]
        with ice.connect(tmp_path / "other") as outside:
            outside.sql("INSERT INTO lake.v VALUES (6)")
        assert ids(session, "ns.t") == [1, 2]
        with pytest.raises(
            ice.TransactionError, match=r"other\.ns\.[tu] and cannot write default\.ns\.t.*two catalogs"
        ):
            tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
        with pytest.raises(ice.TransactionError, match="two catalogs"):
            tx.sql("DELETE FROM ns.t")
    assert set(tx.snapshot_ids) == {"other.ns.t", "other.ns.u"}
    assert ids(session, "other.ns.u") == [1, 2, 20, 30]
    assert ids(session, "ns.t") == [1, 2]
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t SELECT * FROM other.lake.v, (VALUES ('v')) AS w(name)")
        with pytest.raises(ice.TransactionError, match=r"has written default\.ns\.t"):
            tx.sql("INSERT INTO other.ns.u VALUES (9)")
    assert ids(session, "ns.t") == [1, 2, 5, 6]


def test_what_was_read_elsewhere_does_not_hold_up_the_commit(session: ice.Session, tmp_path: Path) -> None:
    with session.transaction(isolation="serializable") as tx:
        tx.sql("INSERT INTO ns.t SELECT * FROM other.ns.t")
        with ice.connect(tmp_path / "other") as outside:
            outside.sql("INSERT INTO ns.t VALUES (40, 'late')")
        assert ids(session, "other.ns.t") == [20, 30]
    assert ids(session, "ns.t") == [1, 2, 20, 30]


def test_what_was_read_in_the_catalog_that_is_written_does(session: ice.Session, tmp_path: Path) -> None:
    def work() -> None:
        with session.transaction() as tx:
            tx.sql("INSERT INTO other.ns.u SELECT id FROM other.ns.t")
            with ice.connect(tmp_path / "other") as outside:
                outside.sql("INSERT INTO ns.t VALUES (50, 'late')")

    with pytest.raises(ice.CommitConflictError):
        work()


def test_the_attached_catalog_wins_over_a_namespace_of_its_name(session: ice.Session, tmp_path: Path) -> None:
    session.sql("CREATE NAMESPACE lake; CREATE TABLE lake.t AS SELECT 100 AS id")
    session.attach("lake", tmp_path / "other")
    assert ids(session, "lake.t") == [100]
    assert ids(session, "lake.ns.t") == [20, 30]
    session.detach("lake")
    with pytest.raises(ice.TableNotFoundError):
        session.sql("SELECT * FROM lake.ns.t")


def test_catalogs_come_and_go(session: ice.Session, tmp_path: Path) -> None:
    for name in ("other", "OTHER", "default", "two words", "a.b", "", "1st"):
        with pytest.raises(ice.ConfigurationError):
            session.attach(name, tmp_path / "third")
    assert not (tmp_path / "third").exists()
    with pytest.raises(ice.ConfigurationError, match="found path and catalog"):
        session.attach("third", tmp_path / "third", catalog={"type": "sql"})
    with pytest.raises(ice.ConfigurationError, match="'othr'") as caught:
        session.detach("othr")
    assert "other" in (caught.value.hint or "")
    with pytest.raises(ice.ConfigurationError, match="own"):
        session.detach("default")
    with session.transaction() as tx:
        tx.sql("SELECT * FROM other.ns.t")
        with pytest.raises(ice.TransactionError, match="uses catalog other"):
            session.detach("other")
    session.detach("Other")
    with pytest.raises(ice.TableNotFoundError):
        session.sql("SELECT * FROM other.ns.t")
    session.attach("other", tmp_path / "other")
    assert ids(session, "other.ns.t") == [20, 30]


def test_a_catalog_is_attached_by_properties_or_as_an_object(session: ice.Session, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    properties = {"type": "sql", "uri": f"sqlite:///{folder / 'catalog.db'}", "warehouse": folder.as_uri()}
    session.attach("again", catalog=properties, catalog_name="default")
    mine = SqlCatalog("default", **{key: value for key, value in properties.items() if key != "type"})
    session.attach("mine", catalog=mine)
    session.sql("INSERT INTO again.ns.t VALUES (40, 'd')")
    assert ids(session, "mine.ns.t") == ids(session, "other.ns.t") == [20, 30, 40]
    session.detach("mine")
    assert mine.list_tables("ns") == [("ns", "t"), ("ns", "u")]
    mine.close()


def test_sql_attaches_folders_that_are_warehouses(session: ice.Session, tmp_path: Path) -> None:
    session.sql(f"ATTACH '{tmp_path / 'other'}' AS more; INSERT INTO more.ns.u VALUES (1)")
    assert ids(session, "other.ns.u") == [1]
    session.sql("DETACH more")
    session.sql(f"ATTACH DATABASE '{tmp_path / 'other'}' AS \"More\"; DETACH CATALOG more")
    with pytest.raises(ice.TableNotFoundError):
        session.sql("SELECT * FROM more.ns.u")
    with pytest.raises(ice.ConfigurationError, match=r"no warehouse in .*nowhere") as caught:
        session.sql(f"ATTACH '{tmp_path / 'nowhere'}' AS more")
    assert "session.attach" in (caught.value.hint or "")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ice.ConfigurationError, match="'nobody'"):
        session.sql("DETACH nobody")


@pytest.mark.parametrize("text", ["ATTACH", "ATTACH 'x'", "ATTACH 'x' AS", "ATTACH x AS y", "DETACH", "DETACH a b"])
def test_attach_that_is_cut_off_is_refused(session: ice.Session, text: str) -> None:
    with pytest.raises(ice.ParseError):
        session.sql(text)


def test_earlier_states_and_metadata_tables_are_read_there_too(session: ice.Session) -> None:
    session.sql("INSERT INTO other.ns.t VALUES (40, 'z')")
    first = "(SELECT snapshot_id FROM other.ns.t.snapshots ORDER BY committed_at LIMIT 1)"
    ((number,),) = session.sql(f"SELECT * FROM {first}").fetchall()
    assert session.sql(f"SELECT count(*) FROM other.ns.t FOR VERSION AS OF {number}").fetchall() == [(2,)]
    both = "SELECT count(*) FROM ns.t$snapshots AS a, other.ns.t$snapshots AS b"
    assert session.sql(both).fetchall() == [(2,)]
    assert session.sql("SHOW TABLES IN other.lake").fetchall() == [("lake", "v", False)]
    assert session.sql("SHOW CATALOGS").fetchall() == [("default",), ("other",)]


def test_keys_land_once_there_too(session: ice.Session) -> None:
    for _ in range(2):
        session.sql("INSERT INTO other.ns.u VALUES (1)", idempotency_key="k")
    assert ids(session, "other.ns.u") == [1]


def test_identifiers_of_two_catalogs_are_two() -> None:
    plain, one, two = ("ns", "t"), AttachedIdentifier("one", ("ns", "t")), AttachedIdentifier("two", ("ns", "t"))
    assert len({plain, one, two}) == 3
    assert one == AttachedIdentifier("one", ("ns", "t"))
    assert plain != one != two
    assert one[:-1] == AttachedIdentifier("one", ("ns",))
    assert tuple(one) == plain
    assert pickle.loads(pickle.dumps(one)) == one
