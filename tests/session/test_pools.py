"""PoolConfig acts: limits hold, waits end, old and idle connections are replaced."""

import threading
import time

import pytest

import icefusion as ice


def connect(folder, **options) -> ice.Session:
    return ice.connect(folder, pool=ice.PoolConfig(**options))


def test_the_least_connections_are_open_from_the_start(tmp_path) -> None:
    with connect(tmp_path, min_connections=3, max_connections=5) as session:
        stats = session.pool.stats()
        assert (stats.open, stats.in_use, stats.idle, stats.max) == (3, 0, 3, 5)


def test_the_limit_holds_and_the_wait_for_a_connection_ends(tmp_path) -> None:
    with connect(tmp_path, min_connections=0, max_connections=2, connect_timeout_ms=200) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id INT)")
        held = [session.catalog.engine.connect() for _ in range(2)]
        assert session.pool.stats().in_use == 2
        began = time.monotonic()
        with pytest.raises(ice.CatalogError) as raised:
            session.sql("SELECT * FROM ns.t")
        assert 0.1 < time.monotonic() - began < 5
        assert raised.value.retryable
        for connection in held:
            connection.close()
        assert session.sql("SELECT * FROM ns.t").fetchall() == []


def test_many_threads_share_few_connections(tmp_path) -> None:
    with connect(tmp_path, min_connections=1, max_connections=2) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id INT)")
        most: list[int] = []
        errors: list[BaseException] = []

        def work(n: int) -> None:
            try:
                session.sql("INSERT INTO ns.t VALUES (?)", [n])
                most.append(session.pool.stats().open)
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert max(most) <= 2
        assert session.sql("SELECT count(*) FROM ns.t").fetchone() == (8,)


def opened(session: ice.Session) -> int:
    """Which connection is given out next."""
    with session.catalog.engine.connect() as connection:
        return id(connection.connection.dbapi_connection)


@pytest.mark.parametrize("limit", ["idle_timeout_s", "max_lifetime_s"])
def test_a_connection_that_was_idle_or_lived_too_long_is_replaced(tmp_path, limit) -> None:
    with connect(tmp_path, min_connections=0, max_connections=1, **{limit: 1}) as session:
        kept = []
        with session.catalog.engine.connect() as connection:
            kept.append(connection.connection.dbapi_connection)
        assert opened(session) == id(kept[0])
        time.sleep(1.2)
        assert opened(session) != id(kept[0])


def test_sqlite_lets_readers_read_while_a_commit_is_written(tmp_path) -> None:
    with connect(tmp_path) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS id")
        writer = session.catalog.engine.connect()
        transaction = writer.begin()
        writer.exec_driver_sql("UPDATE iceberg_tables SET metadata_location = metadata_location")
        began = time.monotonic()
        assert session.sql("SELECT id FROM ns.t").fetchall() == [(1,)]
        assert time.monotonic() - began < 2
        transaction.rollback()
        writer.close()
