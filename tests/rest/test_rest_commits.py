"""Commits through a REST catalog: what is answered, what lands, and what is sent."""

import threading
import time
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog
from rest_server import RestServer

import icefusion as ice


@pytest.fixture
def make(tmp_path: Path):
    opened: list = []

    def start(*, properties: dict[str, str] | None = None, pool: ice.PoolConfig | None = None, **options):
        server = RestServer(tmp_path, **options)
        opened.append(server)
        catalog = {"type": "rest", "uri": server.uri, **(properties or {})}
        retry = ice.RetryConfig(initial_delay_ms=1, max_delay_ms=5, total_timeout_ms=3_000)
        session = ice.connect(catalog=catalog, name="prod", retry=retry, pool=pool)
        opened.append(session)
        session.sql("CREATE NAMESPACE IF NOT EXISTS ns; CREATE TABLE ns.t (id BIGINT)")
        server.commits = 0
        server.keys.clear()
        return server, session

    yield start
    for item in reversed(opened):
        item.close()


def ids(server: RestServer, table: str = "ns.t") -> list[int]:
    return sorted(server.sql.load_table(table).scan().to_arrow()["id"].to_pylist())


def snapshots(server: RestServer) -> int:
    return len(server.sql.load_table("ns.t").metadata.snapshots)


def leftovers(server: RestServer, folder: Path) -> set[str]:
    table = server.sql.load_table("ns.t")
    known = {entry["file_path"] for entry in table.inspect.all_files().to_pylist()}
    for snapshot in table.metadata.snapshots:
        known |= {snapshot.manifest_list} | {m.manifest_path for m in snapshot.manifests(table.io)}
    found = {f.as_uri() for pattern in ("*.avro", "*.parquet") for f in folder.rglob(pattern)}
    return found - known


def test_the_whole_path_works(make) -> None:
    server, session = make()
    session.sql("INSERT INTO ns.t VALUES (1), (2)")
    session.sql("CREATE TABLE ns.c AS SELECT id * 10 AS id FROM ns.t")
    assert session.sql("SELECT sum(id) FROM prod.ns.c").fetchall() == [(30,)]
    assert ids(server, "ns.c") == [10, 20]


def test_what_is_there_is_told(make) -> None:
    _, session = make()
    session.sql("INSERT INTO ns.t VALUES (1), (2)")
    assert session.sql("SHOW NAMESPACES").fetchall() == [("ns",)]
    assert session.sql("SHOW NAMESPACES IN ns").fetchall() == []
    assert session.sql("SHOW TABLES").fetchall() == [("ns", "t", False)]
    assert session.sql("SELECT table_catalog, table_name FROM information_schema.tables").fetchall() == [("prod", "t")]
    assert session.sql("SELECT column_name FROM prod.information_schema.columns").fetchall() == [("id",)]
    assert session.sql("SELECT record_count FROM prod.ns.t$files").fetchall() == [(2,)]
    assert "LOCATION" not in session.sql("SHOW CREATE TABLE ns.t").fetchone()[0]
    with pytest.raises(ice.TableNotFoundError, match=r"did you mean ns\.t\.snapshots"):
        session.sql("SELECT * FROM ns.t.snapshot")


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504, 0])
def test_a_commit_that_landed_is_recognised_whatever_was_answered(make, tmp_path, status) -> None:
    server, session = make()
    server.faults = [("after", status)]
    result = session.sql("INSERT INTO ns.t VALUES (1)")
    assert ids(server) == [1]
    assert snapshots(server) == 1
    assert result.snapshot_id == server.sql.load_table("ns.t").metadata.current_snapshot_id
    assert leftovers(server, tmp_path) == set()


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504, 0])
def test_a_commit_that_did_not_land_is_tried_again(make, tmp_path, status) -> None:
    server, session = make()
    server.faults = [status]
    session.sql("INSERT INTO ns.t VALUES (1)")
    assert (ids(server), snapshots(server), server.commits) == ([1], 1, 2)
    assert leftovers(server, tmp_path) == set()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_final_and_leaves_nothing(make, tmp_path, status) -> None:
    server, session = make()
    server.faults = [status] * 20
    with pytest.raises(ice.CatalogError):
        session.sql("INSERT INTO ns.t VALUES (1)")
    assert ids(server) == []
    assert leftovers(server, tmp_path) == set()


def test_a_server_that_stays_silent_gives_an_unknown_outcome(make, tmp_path) -> None:
    server, session = make(properties={"icefusion.http-read-timeout-ms": "200"})
    release = threading.Event()
    server.delay = lambda: release.wait(20)
    began = time.monotonic()
    stop = threading.Timer(0.5, server.close)
    stop.start()
    with pytest.raises(ice.CommitStateUnknownError) as raised:
        session.sql("INSERT INTO ns.t VALUES (1)")
    assert time.monotonic() - began < 15
    assert raised.value.snapshot_id is not None
    assert list(tmp_path.rglob("*.parquet"))
    release.set()
    stop.join()


def test_several_tables_are_one_request_where_the_server_offers_it(make) -> None:
    server, session = make()
    session.sql("CREATE TABLE ns.u (id BIGINT)")
    server.commits = 0
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1)")
        tx.sql("INSERT INTO ns.u VALUES (2)")
    assert (ids(server), ids(server, "ns.u"), server.commits) == ([1], [2], 1)
    assert len(tx.snapshot_ids) == 2


@pytest.mark.parametrize("fault", [("after", 500), ("after", 0), 409, 503])
def test_several_tables_land_once_whatever_is_answered(make, tmp_path, fault) -> None:
    server, session = make()
    session.sql("CREATE TABLE ns.u (id BIGINT)")
    server.faults = [fault]
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1)")
        tx.sql("INSERT INTO ns.u VALUES (2)")
    assert (ids(server), ids(server, "ns.u"), snapshots(server)) == ([1], [2], 1)


def test_elsewhere_the_statement_that_writes_a_second_table_is_refused_at_once(make, tmp_path) -> None:
    server, session = make(transactions=False)
    session.sql("CREATE TABLE ns.u (id BIGINT)")
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (1)")
        files = set(tmp_path.rglob("*.parquet"))
        with pytest.raises(ice.TransactionError, match="cannot commit several tables"):
            tx.sql("INSERT INTO ns.u VALUES (2)")
        assert set(tmp_path.rglob("*.parquet")) == files
    assert ids(server) == [1]


def test_idempotency_keys_are_sent_where_the_server_honours_them(make) -> None:
    server, session = make(idempotency=True)
    session.sql("INSERT INTO ns.t VALUES (1)")
    session.sql("INSERT INTO ns.t VALUES (2)")
    assert len(set(server.keys)) == 2
    assert None not in server.keys


def test_no_key_is_sent_where_the_server_does_not(make) -> None:
    server, session = make()
    session.sql("INSERT INTO ns.t VALUES (1)")
    assert server.keys == [None]


def test_a_lost_reply_is_asked_for_again_under_the_same_key(make) -> None:
    server, session = make(idempotency=True)
    server.faults = [("after", 0)]
    session.sql("INSERT INTO ns.t VALUES (1)")
    assert (len(server.keys), len(set(server.keys))) == (2, 1)
    assert (ids(server), snapshots(server)) == ([1], 1)


def test_the_pool_never_opens_more_connections_than_allowed(make) -> None:
    server, session = make(pool=ice.PoolConfig(min_connections=0, max_connections=2))
    adapter = session.catalog._session.get_adapter(server.uri)
    threads = [threading.Thread(target=lambda n=n: session.sql("INSERT INTO ns.t VALUES (?)", [n])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(server) == list(range(6))
    pool = adapter.poolmanager.connection_from_url(server.uri)
    assert pool.num_connections <= 2


def test_a_catalog_object_of_the_users_own_works_too(make) -> None:
    server, _ = make()
    with ice.connect(catalog=RestCatalog("mine", uri=server.uri)) as session:
        session.sql("INSERT INTO ns.t VALUES (5)")
    assert ids(server) == [5]
