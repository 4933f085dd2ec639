"""Namespaces in transactions on every SQL database: others look on, and others come in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy
from places import Place

import icefusion
from icefusion import Session

WORKERS = 4
ROUNDS = 4


@pytest.fixture
def session(sql_catalog: Place) -> Iterator[Session]:
    with sql_catalog.connect() as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id BIGINT)")
        yield session


@pytest.fixture
def other(sql_catalog: Place) -> Iterator[Session]:
    with sql_catalog.connect() as session:
        yield session


def outside(place: Place) -> dict[str, dict[str, str]]:
    """Namespaces and their properties, as PyIceberg finds them."""
    catalog = place.pyiceberg()
    return {".".join(each): dict(catalog.load_namespace_properties(each)) for each in catalog.list_namespaces()}


def test_a_block_makes_fills_alters_and_drops(session: Session, sql_catalog: Place) -> None:
    session.sql("CREATE NAMESPACE old; CREATE NAMESPACE kept WITH PROPERTIES ('a' = '1', 'b' = '2')")
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE new WITH PROPERTIES ('x' = 'y'); CREATE TABLE new.t AS SELECT 1 AS id")
        tx.sql("ALTER NAMESPACE kept SET PROPERTIES ('a' = '3'); ALTER NAMESPACE kept UNSET PROPERTIES ('b')")
        tx.sql("DROP NAMESPACE old; INSERT INTO ns.t VALUES (1)")
        assert [row[0] for row in tx.sql("SHOW NAMESPACES")] == ["kept", "new", "ns"]
        assert set(outside(sql_catalog)) == {"kept", "ns", "old"}
    assert outside(sql_catalog) == {"kept": {"a": "3"}, "new": {"x": "y"}, "ns": {"exists": "true"}}
    assert sql_catalog.pyiceberg().load_table("new.t").scan().to_arrow()["id"].to_pylist() == [1]
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE gone; DROP TABLE new.t; DROP NAMESPACE new")
        tx.rollback()
    assert set(outside(sql_catalog)) == {"kept", "new", "ns"}


def test_who_comes_in_between(session: Session, other: Session, sql_catalog: Place) -> None:
    session.sql("BEGIN; CREATE NAMESPACE n WITH PROPERTIES ('a' = '1')")
    other.sql("CREATE NAMESPACE n WITH PROPERTIES ('b' = '1')")
    with pytest.raises(icefusion.NamespaceExistsError):
        session.sql("COMMIT")
    session.sql("BEGIN; ALTER NAMESPACE n SET PROPERTIES ('a' = '1')")
    other.sql("ALTER NAMESPACE n SET PROPERTIES ('b' = '2')")
    session.sql("COMMIT")
    session.sql("BEGIN; ALTER NAMESPACE n SET PROPERTIES ('a' = '2')")
    other.sql("ALTER NAMESPACE n SET PROPERTIES ('a' = '3')")
    with pytest.raises(icefusion.CommitConflictError, match="property a"):
        session.sql("COMMIT")
    assert outside(sql_catalog)["n"] == {"a": "3", "b": "2"}
    session.sql("BEGIN; DROP NAMESPACE n")
    other.sql("CREATE TABLE n.t (id INT)")
    with pytest.raises(icefusion.NamespaceNotEmptyError):
        session.sql("COMMIT")
    session.sql("BEGIN; CREATE TABLE n.u AS SELECT 1 AS id")
    other.sql("DROP TABLE n.t; DROP NAMESPACE n")
    with pytest.raises(icefusion.NamespaceNotFoundError):
        session.sql("COMMIT")
    assert set(outside(sql_catalog)) == {"ns"}


def test_a_namespace_is_made_once_by_many(sql_catalog: Place, session: Session) -> None:
    """Each with a property of its own, so that no key of the database tells them apart."""
    made: list[int] = []
    errors: list[BaseException] = []
    together = threading.Barrier(WORKERS)

    def work(number: int) -> None:
        try:
            with sql_catalog.connect(retry=icefusion.RetryConfig(max_attempts=20)) as own:
                for turn in range(ROUNDS):
                    own.sql(f"BEGIN; CREATE NAMESPACE n{turn} WITH PROPERTIES ('by{number}' = 'x')")
                    together.wait(60)
                    try:
                        own.sql("COMMIT")
                    except icefusion.NamespaceExistsError:
                        continue
                    made.append(turn)
        except BaseException as exc:
            errors.append(exc)
            together.abort()

    _run(work)
    assert errors == []
    assert sorted(made) == list(range(ROUNDS))
    assert [len(properties) for name, properties in outside(sql_catalog).items() if name != "ns"] == [1] * ROUNDS


def test_no_table_is_left_in_a_namespace_that_was_dropped(sql_catalog: Place, session: Session) -> None:
    """Half of them drop a namespace, half of them make a table in it, all at once: one of both gives way."""
    outcomes: dict[int, set[str]] = {turn: set() for turn in range(ROUNDS)}
    errors: list[BaseException] = []
    together = threading.Barrier(WORKERS)
    for turn in range(ROUNDS):
        session.sql(f"CREATE NAMESPACE n{turn}")

    def work(number: int) -> None:
        try:
            with sql_catalog.connect(retry=icefusion.RetryConfig(max_attempts=20)) as own:
                for turn in range(ROUNDS):
                    drops = number % 2
                    own.sql(
                        f"BEGIN; {f'DROP NAMESPACE n{turn}' if drops else f'CREATE TABLE n{turn}.t{number} (i INT)'}"
                    )
                    together.wait(60)
                    try:
                        own.sql("COMMIT")
                    except (
                        icefusion.NamespaceNotFoundError,
                        icefusion.NamespaceNotEmptyError,
                        icefusion.CommitConflictError,
                    ):
                        continue
                    outcomes[turn].add("dropped" if drops else "made")
        except BaseException as exc:
            errors.append(exc)
            together.abort()

    _run(work)
    assert errors == []
    assert all(len(outcome) == 1 for outcome in outcomes.values()), outcomes
    engine = sqlalchemy.create_engine(sql_catalog.properties["uri"])
    try:
        with engine.connect() as connection:
            listed = {}
            for table, column in (("iceberg_tables", "table_namespace"), ("iceberg_namespace_properties", "namespace")):
                query = sqlalchemy.text(f"SELECT DISTINCT {column} FROM {table} WHERE catalog_name = :name")
                listed[table] = {row[0] for row in connection.execute(query, {"name": sql_catalog.name})}
    finally:
        engine.dispose()
    assert listed["iceberg_tables"] <= listed["iceberg_namespace_properties"]


def _run(work) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
