"""A COMMIT that the database refuses leaves nothing behind on the connection it came by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from fault_bench import Faults, Warehouse

import icefusion as ice


@pytest.fixture(scope="module")
def made() -> Iterator[Warehouse]:
    made = Warehouse(lambda session: session.sql("CREATE TABLE ns.t (id BIGINT); CREATE TABLE ns.u (id BIGINT)"))
    yield made
    made.remove()


@pytest.fixture
def warehouse(made) -> Warehouse:
    made.reset()
    return made


def at_commit(faults: Faults, session: ice.Session, sql: str) -> None:
    """Run a statement whose COMMIT does not arrive."""
    faults.arm("error", 1, only=("sql COMMIT",))
    try:
        with pytest.raises(ice.CatalogError, match="disk I/O"):
            session.sql(sql)
    finally:
        faults.disarm()


@pytest.mark.parametrize(
    "sql", ["DROP TABLE ns.u", "CREATE NAMESPACE other", "CREATE NAMESPACE other WITH PROPERTIES ('a' = 'b')"]
)
def test_what_was_answered_with_an_error_is_not_seen_by_the_session_either(warehouse, sql) -> None:
    faults = Faults()
    with warehouse.connect(faults) as session:
        at_commit(faults, session, sql)
        assert session.catalog.list_tables("ns") == [("ns", "t"), ("ns", "u")]
        assert session.catalog.list_namespaces() == [("ns",)]
        session.sql("INSERT INTO ns.t VALUES (1)")
        assert warehouse.catalog.list_namespaces() == [("ns",)]
        assert warehouse.look().rows == {"t": [1], "u": []}


def test_nobody_waits_for_the_lock_of_a_commit_that_failed(warehouse) -> None:
    faults = Faults()
    with warehouse.connect(faults) as session:
        at_commit(faults, session, "DROP TABLE ns.u")
        other = sqlite3.connect(warehouse.folder / "catalog.db", timeout=0)
        try:
            other.execute("UPDATE iceberg_tables SET previous_metadata_location = NULL")
            other.commit()
        finally:
            other.close()
