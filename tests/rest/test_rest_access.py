"""Logins to a REST catalog, and what it says of properties."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_server import RestServer

import icefusion as ice

Start = Callable[..., RestServer]
LOGIN = "me:secret"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[RestServer] = []

    def make(**options: Any) -> RestServer:
        servers.append(RestServer(tmp_path, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def connect(server: RestServer, **properties: str) -> ice.Session:
    given = {"type": "rest", "uri": server.uri, "oauth2-server-uri": f"{server.uri}/v1/oauth/tokens", **properties}
    return ice.connect(catalog=given, name="prod", retry=ice.RetryConfig(total_timeout_ms=2_000, initial_delay_ms=1))


def test_client_credentials_log_in(start: Start) -> None:
    server = start(login=LOGIN)
    with connect(server, credential=LOGIN) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS id")
        assert session.sql("SELECT * FROM ns.t").fetchall() == [(1,)]
    assert server.logins > 0


def test_a_bearer_token_is_as_good_until_it_ends(start: Start) -> None:
    server = start(login=LOGIN)
    token = server.give_token({"client_id": ["me"], "client_secret": ["secret"]})[1]["access_token"]
    with connect(server, token=token) as session:
        session.sql("CREATE NAMESPACE ns")
        server._tokens.clear()
        with pytest.raises(ice.CatalogError, match=r"refused the login.*(?s:.)*token") as caught:
            session.sql("SELECT * FROM ns.t")
    assert not caught.value.retryable


@pytest.mark.parametrize("tables", [1, 2])
def test_a_login_that_ended_is_renewed_within_a_transaction(start: Start, tables: int) -> None:
    server = start(login=LOGIN)
    with connect(server, credential=LOGIN) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id int); CREATE TABLE ns.u (id int)")
        logins = server.logins
        with session.transaction() as tx:
            for table in ("ns.t", "ns.u")[:tables]:
                tx.sql(f"INSERT INTO {table} VALUES (1)")
            server._tokens.clear()
        assert server.logins > logins
        assert server.commits >= 1
        assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(1,)]
        server.token_s = 0.05
        for _ in range(3):
            server._tokens.clear()
            time.sleep(0.06)
            server.token_s = 60
            assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(1,)]


def test_a_refused_login_says_so(start: Start) -> None:
    server = start(login=LOGIN)
    with pytest.raises(
        ice.CatalogError, match=r"catalog 'prod': the catalog refused the login.*no such client"
    ) as caught:
        connect(server, credential="me:wrong")
    assert "credential" in (caught.value.hint or "")
    assert "wrong" not in str(caught.value)


def test_a_dead_endpoint_is_named() -> None:
    for uri in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        with pytest.raises(ice.CatalogError, match=f"{uri} cannot be reached") as caught:
            ice.connect(catalog={"type": "rest", "uri": uri}, name="prod")
        assert caught.value.retryable
        assert "uri" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "uri",
    ["postgresql+psycopg://u:secret@127.0.0.1:1/db", "mysql+pymysql://u:secret@127.0.0.1:1/db", "sqlite:////no/where"],
)
def test_a_dead_database_is_named(uri: str) -> None:
    pytest.importorskip({"postgresql": "psycopg", "mysql": "pymysql"}.get(uri.partition("+")[0], "sqlite3"))
    with pytest.raises(ice.CatalogError, match=r"catalog 'prod': .*(connect|open)") as caught:
        ice.connect(catalog={"type": "sql", "uri": uri, "warehouse": "file:///nowhere"}, name="prod")
    assert caught.value.retryable
    assert "uri" in (caught.value.hint or "")
    assert "secret" not in str(caught.value)


def test_what_is_no_catalog_is_told_from_one(start: Start) -> None:
    server = start()
    with pytest.raises(ice.IcefusionError) as caught:
        ice.connect(catalog={"type": "rest", "uri": f"{server.uri}/v1/elsewhere"}, name="prod")
    assert "prod" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_driver_that_is_missing_is_named() -> None:
    with pytest.raises(ice.ConfigurationError, match=r"no_such_driver|NoSuchModule|package"):
        ice.connect(catalog={"type": "sql", "uri": "postgresql+pg8000://u@127.0.0.1:1/db"}, name="prod")


def test_overrides_of_the_server_win_and_its_defaults_do_not(start: Start) -> None:
    server = start()
    server.defaults = {"s3.region": "from-defaults", "s3.endpoint": "http://from-defaults"}
    server.overrides = {"s3.access-key-id": "from-overrides"}
    mine = {"s3.region": "mine", "s3.access-key-id": "mine"}
    with connect(server, **mine) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id int)")
        known = session.table("ns.t")._session._client.load(("ns", "t")).io.properties
    assert known["s3.region"] == "mine"
    assert known["s3.endpoint"] == "http://from-defaults"
    assert known["s3.access-key-id"] == "from-overrides"


def test_an_override_of_the_uri_is_followed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = RestServer(tmp_path / "other")
    try:
        server = start()
        server.overrides = {"uri": other.uri}
        with connect(server) as session:
            session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS id")
        assert other.sql.list_tables("ns") == [("ns", "t")]
        assert server.sql.list_namespaces() == []
    finally:
        other.close()


def credentials(server: RestServer, name: tuple[str, ...], location: str) -> dict[str, str]:
    with connect(server, **{"s3.access-key-id": "client", "s3.region": "client"}) as session:
        io = session._client.load(name).io
        return (
            {key: str(io.at(location).properties.get(key)) for key in ("s3.access-key-id", "s3.region")}
            if hasattr(io, "at")
            else {key: str(io.properties.get(key)) for key in ("s3.access-key-id", "s3.region")}
        )


def test_credentials_of_the_longest_prefix_win_over_config_and_client(start: Start) -> None:
    server = start()
    with connect(server) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id int); CREATE TABLE ns.plain (id int)")
    table = server.sql.load_table("ns.t")
    below = table.metadata.location

    def vend(name: tuple[str, ...]) -> dict:
        if name[-1] != "t":
            return {}
        return {
            "config": {"s3.access-key-id": "config"},
            "storage-credentials": [
                {"prefix": below, "config": {"s3.access-key-id": "table"}},
                {"prefix": f"{below}/data/", "config": {"s3.access-key-id": "data", "s3.region": "vended"}},
                {"prefix": "s3://elsewhere", "config": {"s3.access-key-id": "elsewhere"}},
            ],
        }

    server.vend = vend
    found = {
        place: credentials(server, ("ns", "t"), location)
        for place, location in {
            "data": f"{below}/data/x.parquet",
            "metadata": f"{below}/metadata/x.json",
            "elsewhere": "s3://elsewhere/x",
        }.items()
    }
    assert found == {
        "data": {"s3.access-key-id": "data", "s3.region": "vended"},
        "metadata": {"s3.access-key-id": "table", "s3.region": "client"},
        "elsewhere": {"s3.access-key-id": "elsewhere", "s3.region": "client"},
    }
    assert credentials(server, ("ns", "plain"), below) == {"s3.access-key-id": "client", "s3.region": "client"}
