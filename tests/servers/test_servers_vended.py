"""Credentials for S3 that a REST catalog vends, against a store that knows good ones from bad ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from places import Place
from rest_server import RestServer
from server_processes import SeaweedServer

import icefusion

pytestmark = pytest.mark.seaweedfs

GOOD = {"s3.access-key-id": SeaweedServer.ACCESS_KEY, "s3.secret-access-key": SeaweedServer.SECRET_KEY}
SECOND = dict(zip(GOOD, SeaweedServer.SECOND_KEYS, strict=True))
BAD = {**GOOD, "s3.secret-access-key": "wrong"}


@pytest.fixture
def server(seaweedfs: SeaweedServer, tmp_path: Path) -> Iterator[RestServer]:
    place = {"s3.endpoint": f"http://127.0.0.1:{seaweedfs.s3_port}", "s3.region": "us-east-1"}
    server = RestServer(tmp_path, store={"warehouse": f"s3://lake/{tmp_path.name}", **place, **GOOD})
    server.overrides = place  # where the store is, the server says; the client knows no keys
    yield server
    server.close()


def connect(server: RestServer, **properties: str) -> icefusion.Session:
    return icefusion.connect(catalog={"type": "rest", "uri": server.uri, **properties}, name="prod")


def write_and_change(session: icefusion.Session) -> list[tuple[object, ...]]:
    session.sql("CREATE NAMESPACE IF NOT EXISTS ns")
    session.sql("CREATE TABLE ns.t AS SELECT value AS id, 'n' || value AS name FROM generate_series(1, 5)")
    session.sql("INSERT INTO ns.t VALUES (6, 'six')")
    session.sql("UPDATE ns.t SET name = 'new' WHERE id = 2", write_mode="merge-on-read")
    session.sql("DELETE FROM ns.t WHERE id = 3", write_mode="copy-on-write")
    result = session.sql("SELECT * FROM ns.t ORDER BY id")
    assert result.report.scans[0].fallback is None
    return result.fetchall()


ROWS = [(1, "n1"), (2, "new"), (4, "n4"), (5, "n5"), (6, "six")]


def vending(answer: Callable[[], dict]) -> Callable[[tuple[str, ...]], dict]:
    return lambda _: answer()


@pytest.mark.parametrize(
    "vended",
    [
        {"config": GOOD},
        {"storage-credentials": [{"prefix": "s3://lake/", "config": GOOD}]},
        {
            "config": BAD,
            "storage-credentials": [{"prefix": "s3", "config": BAD}, {"prefix": "s3://lake", "config": GOOD}],
        },
    ],
    ids=["config", "storage-credentials", "both"],
)
def test_tables_are_written_and_read_with_what_was_vended(server: RestServer, vended: dict) -> None:
    server.vend = vending(lambda: vended)
    with connect(server, **BAD) as session:
        assert write_and_change(session) == ROWS


def test_bad_ones_are_an_error_that_names_the_file(server: RestServer) -> None:
    server.vend = vending(lambda: {"config": GOOD})
    with connect(server) as session:
        write_and_change(session)
        server.vend = vending(lambda: {"config": BAD})
        with pytest.raises(icefusion.IcefusionError, match=r"s3://lake|ns\.t"):
            session.sql("SELECT * FROM ns.t").fetchall()


def test_those_that_end_are_asked_for_anew_in_the_middle_of_a_transaction(server: RestServer) -> None:
    def ending(keys: dict[str, str], seconds: float) -> dict:
        ends = {"s3.session-token-expires-at-ms": str(int((time.time() + seconds) * 1000))}
        return {"storage-credentials": [{"prefix": "s3://lake/", "config": {**keys, **ends}}]}

    server.vend = vending(lambda: ending(GOOD, 3600))
    with connect(server) as session:
        write_and_change(session)
        server.vend = vending(lambda: ending(GOOD, 2))
        with session.transaction() as tx:
            assert tx.sql("SELECT count(*) FROM ns.t").fetchall() == [(5,)]
            loaded = server.tables_loaded
            server.vend = vending(lambda: ending(SECOND, 3600))
            time.sleep(1.1)
            tx.sql("INSERT INTO ns.t VALUES (7, 'seven')")
            tx.sql("DELETE FROM ns.t WHERE id = 6", write_mode="merge-on-read")
            assert tx.sql("SELECT count(*) FROM ns.t").fetchall() == [(5,)]
            assert server.tables_loaded == loaded + 1
            (pinned,) = session._current._tables.values()
            key = pinned.handle.io.at(pinned.handle.metadata.location).properties["s3.access-key-id"]
            assert key == SeaweedServer.SECOND_KEYS[0]
        assert [row[0] for row in session.sql("SELECT id FROM ns.t ORDER BY id").fetchall()] == [1, 2, 4, 5, 7]


def test_those_that_ended_before_they_came_are_never_used(server: RestServer) -> None:
    server.vend = vending(lambda: {"config": GOOD})
    with connect(server) as session:
        write_and_change(session)
        answers = [{"config": {**BAD, "s3.session-token-expires-at-ms": "1000"}}, {"config": GOOD}]
        server.vend = vending(lambda: answers.pop(0) if len(answers) > 1 else answers[0])
        assert session.sql("SELECT * FROM ns.t ORDER BY id").fetchall() == ROWS
        server.vend = vending(lambda: {"config": {**BAD, "s3.session-token-expires-at-ms": "1000"}})
        with pytest.raises(icefusion.StorageError, match=r"prod\.ns\.t ended"):
            session.sql("SELECT * FROM ns.t ORDER BY id").fetchall()


def test_requests_that_only_the_catalog_can_sign_go_through_pyiceberg(server: RestServer) -> None:
    pytest.importorskip("s3fs")
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415 - comes with s3fs
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    signed: list[str] = []

    def sign(wanted: dict) -> dict:
        signed.append(wanted["uri"])
        headers = {key: value[0] for key, value in wanted["headers"].items()}
        request = AWSRequest(wanted["method"], wanted["uri"], headers)
        request.context["payload_signing_enabled"] = False
        keys = Credentials(SeaweedServer.ACCESS_KEY, SeaweedServer.SECRET_KEY)
        S3SigV4Auth(keys, "s3", wanted["region"]).add_auth(request)
        return {"uri": request.url, "headers": {key: [value] for key, value in request.headers.items()}}

    server.sign = sign
    signing = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO", "s3.signer": "S3V4RestSigner"}
    server.vend = vending(lambda: {"config": {**signing, "s3.signer.uri": server.uri}})
    with connect(server, **{"s3.region": "us-east-1"}) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT value AS id FROM generate_series(1, 10)")
        session.sql("DELETE FROM ns.t WHERE id > 5", write_mode="merge-on-read")
        signed.clear()
        result = session.sql("SELECT count(*), sum(id) FROM ns.t")
        assert result.fetchall() == [(5, 15)]
        assert "s3.signer" in (result.report.scans[0].fallback or "")
        assert any(".parquet" in uri for uri in signed)


def test_a_token_logs_in_and_a_refused_login_and_an_unknown_warehouse_say_so(
    make_place: Callable[[str], Place],
) -> None:
    place = make_place("seaweedfs")
    wrong = replace(place, properties={**place.properties, "credential": "admin:wrong"})
    with pytest.raises(icefusion.CatalogError, match="refused the login"):
        wrong.connect()
    form = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": SeaweedServer.SECRET_KEY}
    token = requests.post(place.properties["oauth2-server-uri"], data=form, timeout=5).json()["access_token"]
    bearer = {key: value for key, value in place.properties.items() if key != "credential"} | {"token": token}
    with replace(place, properties=bearer).connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
    elsewhere = replace(place, properties={**place.properties, "warehouse": "s3://nowhere"})
    with elsewhere.connect() as session, pytest.raises(icefusion.CatalogError, match=r"warehouse 's3://nowhere'"):
        session.sql("SELECT * FROM ns.t")
