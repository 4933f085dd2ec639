"""Catalogs of different kinds in one session, each with its own store and its own credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from places import Place

import icefusion
from icefusion import Session

pytestmark = [pytest.mark.postgres, pytest.mark.seaweedfs]


@pytest.fixture
def places(make_place: Callable[[str], Place]) -> tuple[Place, Place]:
    return make_place("postgres"), make_place("seaweedfs")


@pytest.fixture
def session(places: tuple[Place, Place]) -> Iterator[Session]:
    """PostgreSQL with local files is the session's own, ``rest`` the attached one; both have `ns.t`."""
    sql, rest = places
    with sql.connect() as session:
        session.attach("lake", catalog=rest.properties)
        session.sql(f"CREATE NAMESPACE ns; CREATE NAMESPACE lake.{rest.namespace}")
        session.sql("CREATE TABLE ns.t AS SELECT value AS id, 'own' AS place FROM generate_series(1, 100)")
        session.sql(
            f"CREATE TABLE lake.{rest.namespace}.t AS SELECT value AS id, 'lake' AS place FROM generate_series(51, 150)"
        )
        yield session


def test_rows_are_joined_and_go_both_ways(session: Session, places: tuple[Place, Place]) -> None:
    sql, rest = places
    theirs = f"lake.{rest.namespace}.t"
    joined = session.sql(f"SELECT count(*), min(a.place), min(b.place) FROM ns.t AS a JOIN {theirs} AS b USING (id)")
    assert joined.fetchall() == [(50, "own", "lake")]
    assert session.sql(f"INSERT INTO ns.t SELECT * FROM {theirs} WHERE id > 100").rows_inserted == 50
    merge = f"""MERGE INTO {theirs} AS t USING ns.t AS s ON t.id = s.id
        WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT *"""
    done = session.sql(merge)
    assert (done.rows_deleted, done.rows_inserted) == (100, 50)
    assert sql.pyiceberg().load_table("ns.t").scan().to_arrow().num_rows == 150
    found = rest.pyiceberg().load_table(f"{rest.namespace}.t").scan().to_arrow()
    assert sorted(found["id"].to_pylist()) == list(range(1, 51))
    assert set(found["place"].to_pylist()) == {"own"}


def test_a_transaction_writes_to_one_of_them(session: Session, places: tuple[Place, Place]) -> None:
    rest = places[1]
    theirs = f"lake.{rest.namespace}.t"
    with session.transaction() as tx:
        tx.sql(f"DELETE FROM {theirs} WHERE id IN (SELECT id FROM ns.t)")
        with pytest.raises(icefusion.TransactionError, match="two catalogs"):
            tx.sql(f"INSERT INTO ns.t SELECT * FROM {theirs}")
        assert tx.sql(f"SELECT count(*) FROM {theirs}").fetchall() == [(50,)]
    assert set(tx.snapshot_ids) == {theirs}
    assert rest.pyiceberg().load_table(f"{rest.namespace}.t").scan().to_arrow().num_rows == 50
    with session.transaction() as tx:
        tx.sql(f"INSERT INTO ns.t SELECT * FROM {theirs}")
        tx.rollback()
    assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(100,)]


def test_a_name_that_leads_nowhere_names_its_catalog(session: Session, places: tuple[Place, Place]) -> None:
    with pytest.raises(icefusion.TableNotFoundError, match=rf"lake\.{places[1].namespace}\.tt") as caught:
        session.sql(f"SELECT * FROM lake.{places[1].namespace}.tt")
    assert f"{places[1].namespace}.t" in (caught.value.hint or "")
    with pytest.raises(icefusion.CatalogError, match=r"'dead'.*cannot be reached"):
        session.attach("dead", catalog={"type": "rest", "uri": "http://127.0.0.1:1"})
    with pytest.raises(icefusion.ConfigurationError):
        session.detach("dead")
