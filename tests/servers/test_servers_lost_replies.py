"""The reply of a commit is lost between a real server and the writer: what is said about it is the truth.

Everything goes through a proxy that cuts the reply of a request that was done, loses a request that was not, answers
late or never. Whether it landed is looked up without the proxy, by another client.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pytest
from conftest import MARIADB, POSTGRES, SEAWEEDFS
from cutting_proxy import DELAY_S, Action, CuttingProxy
from places import Place
from pyiceberg.table import Table
from server_processes import Server

import icefusion
from icefusion import PoolConfig, RetryConfig, Session

PATIENCE = RetryConfig(total_timeout_ms=4_000, max_delay_ms=500)
AWAY_S = 1.5


@dataclass
class Broken:
    """A catalog behind a proxy.

    Attributes:
        direct: The same catalog without the proxy.
        session: A session through the proxy.
        commit: What a commit has in it, as bytes on the wire.
    """

    direct: Place
    proxy: CuttingProxy
    session: Session
    commit: bytes

    def table(self, name: str = "t") -> Table:
        return self.direct.pyiceberg().load_table(f"{self.direct.namespace}.{name}")

    def rows(self, name: str = "t") -> list[int]:
        return sorted(self.table(name).scan().to_arrow()["id"].to_pylist())

    def sql(self, text: str) -> icefusion.Result:
        return self.session.sql(text.replace("ns.", f"{self.direct.namespace}."))


def _commit_pattern(place: Place) -> bytes:
    if place.kind == "postgres":
        return rb"COMMIT\x00"
    if place.kind == "mariadb":
        return rb"COMMIT"
    return rb"POST [^ ]*/namespaces/" + re.escape(place.namespace.encode()) + rb"/tables"


def _broken(direct: Place, port: int) -> Iterator[Broken]:
    with (
        CuttingProxy(port) as proxy,
        direct.through(proxy.port).connect(pool=PoolConfig(connect_timeout_ms=2000), retry=PATIENCE) as session,
    ):
        broken = Broken(direct, proxy, session, _commit_pattern(direct))
        session.sql(f"CREATE NAMESPACE {direct.namespace}")
        broken.sql("CREATE TABLE ns.t (id BIGINT)")
        broken.sql("INSERT INTO ns.t VALUES (1)")
        yield broken


@pytest.fixture(params=[POSTGRES, SEAWEEDFS])
def broken(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Iterator[Broken]:
    place = make_place(request.param)
    server = request.getfixturevalue(request.param)
    yield from _broken(place, server.port if place.kind == "postgres" else server.rest_port)


@pytest.fixture
def broken_postgres(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Iterator[Broken]:
    place = make_place("postgres")
    yield from _broken(place, request.getfixturevalue("postgres").port)


def test_a_commit_whose_reply_is_cut_is_recognised_as_landed(broken: Broken) -> None:
    spoiled = broken.proxy.spoil(broken.commit, "cut_reply")
    result = broken.sql("INSERT INTO ns.t VALUES (2)")
    assert spoiled.happened.is_set()
    assert broken.rows() == [1, 2]
    assert [s.snapshot_id for s in broken.table().snapshots()][1:] == [result.snapshot_id]


def test_a_commit_that_never_arrived_is_sent_again(broken: Broken) -> None:
    spoiled = broken.proxy.spoil(broken.commit, "lose_request")
    result = broken.sql("INSERT INTO ns.t VALUES (2)")
    assert spoiled.happened.is_set()
    assert broken.rows() == [1, 2]
    assert [s.snapshot_id for s in broken.table().snapshots()][1:] == [result.snapshot_id]


def test_a_late_reply_is_waited_for(broken: Broken) -> None:
    spoiled = broken.proxy.spoil(broken.commit, "delay_reply")
    began = time.monotonic()
    result = broken.sql("INSERT INTO ns.t VALUES (2)")
    assert spoiled.happened.is_set()
    assert time.monotonic() - began >= DELAY_S
    assert result.report.commits[0].attempts == 1
    assert broken.rows() == [1, 2]


def test_a_landed_commit_of_a_catalog_that_stays_away_is_unknown_and_is_found_later(broken: Broken) -> None:
    spoiled = broken.proxy.spoil(broken.commit, "cut_reply", then_down=True)
    with pytest.raises(icefusion.CommitStateUnknownError) as caught:
        broken.sql("INSERT INTO ns.t VALUES (2)")
    assert spoiled.happened.is_set()
    current = broken.table().current_snapshot()
    assert current is not None
    assert caught.value.snapshot_id == current.snapshot_id
    assert broken.rows() == [1, 2]
    broken.proxy.mend()
    assert broken.sql(f"SELECT id FROM ns.t FOR VERSION AS OF {caught.value.snapshot_id} ORDER BY id").fetchall() == [
        (1,),
        (2,),
    ]


def test_a_lost_commit_of_a_catalog_that_stays_away_is_unknown_and_is_not_there_later(broken: Broken) -> None:
    spoiled = broken.proxy.spoil(broken.commit, "lose_request", then_down=True)
    with pytest.raises(icefusion.CommitStateUnknownError) as caught:
        broken.sql("INSERT INTO ns.t VALUES (2)")
    assert spoiled.happened.is_set()
    assert caught.value.snapshot_id is not None
    assert broken.table().snapshot_by_id(caught.value.snapshot_id) is None
    assert broken.rows() == [1]
    broken.proxy.mend()
    broken.sql("INSERT INTO ns.t VALUES (3)")
    assert broken.rows() == [1, 3]


@pytest.mark.parametrize("action", ["cut_reply", "lose_request"])
def test_a_catalog_that_comes_back_is_waited_for(broken: Broken, action: Action) -> None:
    spoiled = broken.proxy.spoil(broken.commit, action, then_down=True)
    back = threading.Timer(AWAY_S, broken.proxy.mend)
    back.start()
    result = broken.sql("INSERT INTO ns.t VALUES (2)")
    back.join()
    assert spoiled.happened.is_set()
    assert broken.rows() == [1, 2]
    assert [s.snapshot_id for s in broken.table().snapshots()][1:] == [result.snapshot_id]


@pytest.mark.postgres
def test_a_restart_of_the_server_is_outlived(postgres: Server, make_place: Callable[[str], Place]) -> None:
    place = make_place("postgres")
    with place.connect() as session, ThreadPoolExecutor(1) as thread:
        session.sql(f"CREATE NAMESPACE {place.namespace}; CREATE TABLE {place.namespace}.t (id BIGINT)")
        writer = session.writer(f"{place.namespace}.t")
        transaction = writer.begin_transaction()
        writer.write_batch(pa.record_batch({"id": [1]}))
        postgres.shut_down()
        result = thread.submit(writer.commit_transaction, transaction)
        time.sleep(AWAY_S)
        assert not result.done()
        postgres.start()
        result.result(30)
    assert place.pyiceberg().load_table(f"{place.namespace}.t").scan().to_arrow()["id"].to_pylist() == [1]


def test_a_table_whose_creation_lost_its_reply_is_recognised(broken: Broken) -> None:
    # Where a REST catalog is asked twice, to stage and to create, the second is the one that counts.
    skip = 1 if broken.direct.kind == "seaweedfs" else 0
    spoiled = broken.proxy.spoil(broken.commit, "cut_reply", skip=skip)
    result = broken.sql("CREATE TABLE ns.u AS SELECT 7 AS id")
    assert spoiled.happened.is_set()
    assert broken.rows("u") == [7]
    assert result.snapshot_id == broken.table("u").metadata.current_snapshot_id


def test_a_key_repeated_after_an_unknown_outcome_lands_once(broken: Broken) -> None:
    broken.proxy.spoil(broken.commit, "cut_reply", then_down=True)
    text = f"INSERT INTO {broken.direct.namespace}.t VALUES (2)"
    with pytest.raises(icefusion.CommitStateUnknownError) as caught:
        broken.session.sql(text, idempotency_key="k")
    broken.proxy.mend()
    repeated = broken.session.sql(text, idempotency_key="k")
    assert repeated.snapshot_id == caught.value.snapshot_id
    assert broken.rows() == [1, 2]


@pytest.mark.postgres
def test_two_tables_whose_commit_lost_its_reply_are_both_recognised(broken_postgres: Broken) -> None:
    broken_postgres.sql("CREATE TABLE ns.u (id BIGINT)")
    spoiled = broken_postgres.proxy.spoil(broken_postgres.commit, "cut_reply")
    with broken_postgres.session.transaction() as tx:
        broken_postgres.sql("INSERT INTO ns.t VALUES (2)")
        broken_postgres.sql("INSERT INTO ns.u VALUES (2)")
    assert spoiled.happened.is_set()
    assert broken_postgres.rows("t") == [1, 2]
    assert broken_postgres.rows("u") == [2]
    assert set(tx.snapshot_ids.values()) == {
        broken_postgres.table(name).metadata.current_snapshot_id for name in ("t", "u")
    }


@pytest.mark.parametrize("kind", [POSTGRES, MARIADB, SEAWEEDFS])
def test_a_server_that_takes_the_commit_and_never_answers_is_not_waited_for_without_end(
    kind: str, make_place: Callable[[str], Place], request: pytest.FixtureRequest
) -> None:
    place = make_place(kind)
    limit = "http-read-timeout-ms" if place.kind == "seaweedfs" else "sql-read-timeout-ms"
    place.properties[f"icefusion.{limit}"] = "1500"
    server = request.getfixturevalue(place.kind)
    for broken in _broken(place, server.rest_port if place.kind == "seaweedfs" else server.port):
        spoiled = broken.proxy.spoil(broken.commit, "hold_reply")
        began = time.monotonic()
        result = broken.sql("INSERT INTO ns.t VALUES (2)")
        assert time.monotonic() - began < 15
        assert spoiled.happened.is_set()
        assert broken.rows() == [1, 2]
        assert result.snapshot_id == broken.table().metadata.current_snapshot_id


NAMES = (
    "BEGIN; CREATE NAMESPACE made WITH PROPERTIES ('a' = '1'); ALTER TABLE ns.t RENAME TO made.s; "
    "ALTER NAMESPACE ns SET PROPERTIES ('b' = '2'); COMMIT"
)


def _names(broken: Broken) -> tuple[set[str], list[str], dict[str, str]]:
    """Namespaces, tables and the properties of a namespace, without the proxy."""
    catalog = broken.direct.pyiceberg()
    found = [".".join(each) for each in catalog.list_namespaces()]
    tables = sorted(".".join(table) for namespace in found for table in catalog.list_tables(namespace))
    return set(found), tables, dict(catalog.load_namespace_properties("ns"))


NAMES_BEFORE = ({"ns"}, ["ns.t"], {"exists": "true"})
NAMES_AFTER = ({"made", "ns"}, ["made.s"], {"exists": "true", "b": "2"})


@pytest.mark.postgres
@pytest.mark.parametrize("action", ["cut_reply", "lose_request"])
def test_names_whose_change_lost_its_reply_are_recognised_or_changed_anew(
    broken_postgres: Broken, action: Action
) -> None:
    spoiled = broken_postgres.proxy.spoil(broken_postgres.commit, action)
    broken_postgres.sql(NAMES)
    assert spoiled.happened.is_set()
    assert _names(broken_postgres) == NAMES_AFTER


@pytest.mark.postgres
@pytest.mark.parametrize(("action", "seen"), [("cut_reply", NAMES_AFTER), ("lose_request", NAMES_BEFORE)])
def test_names_whose_change_cannot_be_looked_up_are_of_unknown_outcome(
    broken_postgres: Broken, action: Action, seen: tuple[set[str], list[str], dict[str, str]]
) -> None:
    spoiled = broken_postgres.proxy.spoil(broken_postgres.commit, action, then_down=True)
    with pytest.raises(icefusion.CommitStateUnknownError, match=r"made\.s, made, ns") as caught:
        broken_postgres.sql(NAMES)
    assert spoiled.happened.is_set()
    assert "all of it landed, or nothing" in caught.value.hint
    assert _names(broken_postgres) == seen
