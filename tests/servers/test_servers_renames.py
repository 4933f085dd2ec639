"""Tables that are renamed in transactions, on every SQL database, while others write to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from places import Place

import icefusion
from icefusion import RetryConfig, Session

ROUNDS = 6
WRITERS = 2


@pytest.fixture
def session(sql_catalog: Place) -> Iterator[Session]:
    with sql_catalog.connect() as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id BIGINT); INSERT INTO ns.t VALUES (1)")
        yield session


def outside(place: Place) -> dict[str, list[int]]:
    """The ids in each table, as PyIceberg finds them."""
    catalog = place.pyiceberg()
    return {
        ".".join(name): sorted(catalog.load_table(name).scan().to_arrow()["id"].to_pylist())
        for namespace in catalog.list_namespaces()
        for name in catalog.list_tables(namespace)
    }


def test_names_are_given_up_and_taken_in_one_block(session: Session, sql_catalog: Place) -> None:
    session.sql("CREATE TABLE ns.u AS SELECT 7 AS id")
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE more; ALTER TABLE ns.t RENAME TO more.old; INSERT INTO more.old VALUES (2)")
        tx.sql("CREATE TABLE ns.t AS SELECT id + 10 AS id FROM more.old")
        assert outside(sql_catalog) == {"ns.t": [1], "ns.u": [7]}
    assert outside(sql_catalog) == {"more.old": [1, 2], "ns.t": [11, 12], "ns.u": [7]}
    session.sql(
        "BEGIN; ALTER TABLE ns.t RENAME TO x; ALTER TABLE ns.u RENAME TO t; ALTER TABLE ns.x RENAME TO u; COMMIT"
    )
    assert outside(sql_catalog) == {"more.old": [1, 2], "ns.t": [7], "ns.u": [11, 12]}
    session.sql("BEGIN; DROP TABLE ns.t; ALTER TABLE more.old RENAME TO ns.t; DROP NAMESPACE more; COMMIT")
    assert outside(sql_catalog) == {"ns.t": [1, 2], "ns.u": [11, 12]}
    session.sql("BEGIN; ALTER TABLE ns.t RENAME TO s; DROP TABLE ns.u; ROLLBACK")
    assert outside(sql_catalog) == {"ns.t": [1, 2], "ns.u": [11, 12]}


def test_who_comes_in_between(session: Session, sql_catalog: Place) -> None:
    with sql_catalog.connect() as other:
        session.sql("BEGIN; ALTER TABLE ns.t RENAME TO s; INSERT INTO ns.s VALUES (2)")
        other.sql("INSERT INTO ns.t VALUES (3)")
        session.sql("COMMIT")
        assert outside(sql_catalog) == {"ns.s": [1, 2, 3]}
        session.sql("BEGIN; ALTER TABLE ns.s RENAME TO t")
        other.sql("CREATE TABLE ns.t AS SELECT 9 AS id")
        with pytest.raises(icefusion.TableExistsError):
            session.sql("COMMIT")
        session.sql("BEGIN; ALTER TABLE ns.s RENAME TO x")
        other.sql("ALTER TABLE ns.s RENAME TO y")
        with pytest.raises(icefusion.CommitFailedError, match="dropped or renamed"):
            session.sql("COMMIT")
        assert outside(sql_catalog) == {"ns.t": [9], "ns.y": [1, 2, 3]}


def test_nothing_is_lost_while_a_table_goes_back_and_forth(session: Session, sql_catalog: Place) -> None:
    landed: list[int] = []
    errors: list[BaseException] = []
    over = threading.Event()
    retry = RetryConfig(max_attempts=20)

    def rename() -> None:
        try:
            with sql_catalog.connect(retry=retry) as own:
                for number in range(ROUNDS):
                    old, new = ("t", "s") if number % 2 == 0 else ("s", "t")
                    own.sql(f"BEGIN; INSERT INTO ns.{old} VALUES ({number + 100})")
                    own.sql(f"ALTER TABLE ns.{old} RENAME TO {new}; COMMIT")
                    landed.append(number + 100)
        except BaseException as exc:
            errors.append(exc)
        finally:
            over.set()

    def write(start: int) -> None:
        number = start
        try:
            with sql_catalog.connect(retry=retry) as own:
                while not over.is_set():
                    number += 1
                    for table in ("ns.t", "ns.s"):
                        try:
                            own.sql(f"INSERT INTO {table} VALUES ({number})")
                        except (icefusion.TableNotFoundError, icefusion.CommitFailedError):
                            continue  # it has its other name
                        landed.append(number)
                        break
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=rename)]
    threads += [threading.Thread(target=write, args=(1000 * (n + 1),)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert outside(sql_catalog) == {"ns.t": sorted([1, *landed])}
