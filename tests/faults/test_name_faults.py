"""A fault at each step of transactions that change names: all of it lands or nothing, and the answer is true."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from fault_bench import INTERRUPTS, POINTS_OF_NO_RETURN, Faults, Warehouse

import icefusion as ice

STEPS_MAX = 400


def prepare(session: ice.Session) -> None:
    session.sql("CREATE NAMESPACE old; CREATE NAMESPACE kept WITH PROPERTIES ('a' = '1', 'b' = '1')")
    session.sql("CREATE TABLE ns.t (id BIGINT); INSERT INTO ns.t VALUES (1)")
    session.sql("CREATE TABLE ns.u (id BIGINT)")


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    made = Warehouse(prepare)
    yield made
    made.remove()


def block(*texts: str) -> Callable[[ice.Session], None]:
    def run(session: ice.Session) -> None:
        with session.transaction() as tx:
            for text in texts:
                tx.sql(text)

    return run


CHANGES = ("CREATE NAMESPACE new", "ALTER NAMESPACE kept SET PROPERTIES ('a' = '2')", "DROP NAMESPACE old")
BLOCKS = {
    "made": block(CHANGES[0]),
    "all": block(*CHANGES),
    "with_tables": block(
        *CHANGES, "CREATE TABLE new.c AS SELECT 7 AS id", "INSERT INTO ns.t VALUES (8)", "DROP TABLE ns.u"
    ),
    "renamed": block("ALTER TABLE ns.t RENAME TO s"),
    "moved": block(
        CHANGES[0], "ALTER TABLE ns.t RENAME TO new.t", "INSERT INTO new.t VALUES (8)", "ALTER TABLE ns.u RENAME TO t"
    ),
    "anew": block("ALTER TABLE ns.t RENAME TO s", "CREATE TABLE ns.t AS SELECT id FROM ns.s", "DROP TABLE ns.u"),
}


def look(warehouse: Warehouse) -> tuple[list[tuple], list[tuple]]:
    """What the catalog's database holds: properties of namespaces, and names and numbers of rows of tables."""
    with closing(sqlite3.connect(warehouse.folder / "catalog.db")) as database:
        properties = database.execute(
            "SELECT namespace, property_key, property_value FROM iceberg_namespace_properties ORDER BY 1, 2"
        ).fetchall()
        names = database.execute("SELECT table_namespace, table_name FROM iceberg_tables ORDER BY 1, 2").fetchall()
    return properties, [(*name, warehouse.catalog.load_table(name).scan().to_arrow().num_rows) for name in names]


@pytest.mark.parametrize("kind", ["error", "interrupt", "dead"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_fault_at_each_step(warehouse, name, kind) -> None:
    warehouse.reset()
    before = look(warehouse)
    files = warehouse.files()
    with warehouse.connect(Faults()) as session:
        BLOCKS[name](session)
    after = look(warehouse)
    assert after != before
    struck = set()
    for at in range(1, STEPS_MAX):
        warehouse.reset()
        faults, error = Faults(), None
        session = warehouse.connect(faults)
        faults.arm(kind, at)
        try:
            BLOCKS[name](session)
        except BaseException as exc:
            error = exc
        faults.disarm()
        session.close()
        where = f"{kind} at step {at} ({faults.struck}), answer {error!r}"
        seen = look(warehouse)
        assert seen in (before, after), f"a part landed: {where}"
        final = bool({faults.struck, *faults.steps} & set(POINTS_OF_NO_RETURN))
        if error is None:
            assert seen == after, where
        elif isinstance(error, ice.CommitStateUnknownError):
            assert final, where
        elif isinstance(error, ice.IcefusionError):
            assert seen == before, where
            assert warehouse.files() == files, where
        else:
            assert isinstance(error, INTERRUPTS), where
            assert final or seen == before, where
            assert final or kind == "dead" or warehouse.files() == files, where
        if faults.struck is None:
            break
        struck.add(faults.struck)
    else:
        pytest.fail("no end")
    assert {"sql COMMIT", "sql COMMITTED"} <= struck


@pytest.mark.parametrize("name", BLOCKS)
def test_a_commit_whose_answer_is_lost_is_found_in_the_catalog(warehouse, name) -> None:
    warehouse.reset()
    before = look(warehouse)
    faults = Faults()
    with warehouse.connect(faults) as session:
        faults.arm("reset", 1, only=("sql COMMITTED",))
        BLOCKS[name](session)
        assert faults.struck == "sql COMMITTED"
    assert look(warehouse) != before


def test_a_lost_answer_is_not_taken_for_success_where_the_table_has_another_name_now(warehouse) -> None:
    warehouse.reset()
    faults = Faults()
    with warehouse.connect(faults) as session, ice.connect(warehouse.folder) as other:
        session.sql("BEGIN; ALTER TABLE ns.t RENAME TO s")
        meanwhile(faults, lambda: other.sql("ALTER TABLE ns.s RENAME TO x"))
        with pytest.raises(ice.CommitStateUnknownError, match=r"ns\.s"):
            session.sql("COMMIT")


def test_a_lost_answer_is_told_by_the_rows_under_the_new_name(warehouse) -> None:
    warehouse.reset()
    faults = Faults()
    with warehouse.connect(faults) as session, ice.connect(warehouse.folder) as other:
        session.sql("BEGIN; ALTER TABLE ns.t RENAME TO s; INSERT INTO ns.s VALUES (8)")
        meanwhile(faults, lambda: other.sql("INSERT INTO ns.s VALUES (9); CREATE TABLE ns.t (id INT)"))
        session.sql("COMMIT")
        assert session.sql("SELECT id FROM ns.s ORDER BY id").fetchall() == [(1,), (8,), (9,)]


def meanwhile(faults: Faults, rival: Callable[[], object]) -> None:
    """Lose the answer to the next COMMIT, and let somebody else be there before this side can look."""
    faults.arm("reset", 1, only=("sql COMMITTED",))
    step = faults.step

    def then(name: str) -> None:
        try:
            step(name)
        except ConnectionResetError:
            rival()
            raise

    faults.step = then  # type: ignore[method-assign]


def test_a_lost_answer_is_not_taken_for_success_where_the_catalog_shows_something_else(warehouse) -> None:
    warehouse.reset()
    faults = Faults()
    with warehouse.connect(faults) as session, ice.connect(warehouse.folder) as other:
        session.sql("BEGIN; CREATE NAMESPACE new WITH PROPERTIES ('mine' = '1')")
        meanwhile(faults, lambda: other.sql("ALTER NAMESPACE new SET PROPERTIES ('yours' = '1')"))
        with pytest.raises(ice.CommitStateUnknownError, match="new") as caught:
            session.sql("COMMIT")
        assert "look whether new" in caught.value.hint
