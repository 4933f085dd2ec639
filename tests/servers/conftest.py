"""Real servers, each started when the first test asks for it, and the catalogs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from places import Place, close_catalogs, rest_place, sql_place
from server_processes import MariaDBServer, PostgresServer, SeaweedServer, Server
from store_processes import AzuriteServer, GcsServer

SQLITE = "sqlite"
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
SEAWEEDFS = pytest.param("seaweedfs", marks=pytest.mark.seaweedfs)
AZURITE = pytest.param("azurite", marks=pytest.mark.azurite)
GCS = pytest.param("gcs", marks=pytest.mark.gcs)


def _running(kind: type[Server]) -> Iterator[Server]:
    reason = kind.missing()
    if reason is not None:
        pytest.skip(reason)
    server = kind()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL for all tests."""
    yield from _running(PostgresServer)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """One MariaDB for all tests."""
    yield from _running(MariaDBServer)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[Server]:
    """One SeaweedFS for all tests: S3 and an Iceberg REST catalog."""
    yield from _running(SeaweedServer)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Server]:
    """One Azurite for all tests, known to the engine by the variable for its address."""
    with pytest.MonkeyPatch.context() as patch:
        for server in _running(AzuriteServer):
            assert isinstance(server, AzuriteServer)
            patch.setenv("AZURITE_BLOB_STORAGE_URL", server.address)
            yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[Server]:
    """One fake-gcs-server for all tests."""
    yield from _running(GcsServer)


@pytest.fixture(autouse=True)
def _no_catalog_left_open() -> Iterator[None]:
    yield
    close_catalogs()


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Place]:
    """Makes an empty catalog of a kind."""

    def make(kind: str) -> Place:
        if kind == "sqlite":
            return sql_place(kind, f"sqlite:///{tmp_path / 'catalog.db'}", tmp_path / "warehouse")
        server = request.getfixturevalue(kind)
        if isinstance(server, SeaweedServer):
            return rest_place(server.properties())
        if isinstance(server, AzuriteServer | GcsServer):
            return sql_place(kind, f"sqlite:///{tmp_path / 'catalog.db'}", tmp_path, server.properties())
        return sql_place(kind, server.uri(), tmp_path / "warehouse")

    return make


@pytest.fixture(params=[SQLITE, POSTGRES, MARIADB, SEAWEEDFS, AZURITE, GCS])
def any_place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty catalog, of each kind in turn."""
    return make_place(request.param)


STORES: dict[str, type[AzuriteServer] | type[GcsServer]] = {"postgres": AzuriteServer, "mariadb": GcsServer}


@pytest.fixture(params=[POSTGRES, MARIADB, SEAWEEDFS])
def other_places(request: pytest.FixtureRequest, tmp_path: Path) -> list[Place]:
    """Catalogs called ``default``, of each kind but the embedded one's in turn, for one test at a time.

    SQL catalogs come with a warehouse in a folder, and with one in an object store where its server is there.
    """
    server = request.getfixturevalue(request.param)
    if isinstance(server, SeaweedServer):
        return [replace(rest_place(server.properties()), name="default")]
    places = [sql_place(request.param, server.uri(), tmp_path / "warehouse", name="default")]
    store = STORES[request.param]
    if store.missing() is None:
        files = request.getfixturevalue(store.kind).properties()
        places.append(sql_place(request.param, server.uri(), tmp_path, files, name="default"))
        if store is AzuriteServer:  # it takes several times as long as a folder: a quarter of the cases has to do
            places[:1] *= 3
    return places


@pytest.fixture(params=[SQLITE, POSTGRES, MARIADB])
def sql_catalog(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty SQL catalog, of each kind in turn."""
    return make_place(request.param)


@pytest.fixture(params=[SQLITE, POSTGRES])
def shared_catalog(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty SQL catalog that many processes are to use at once."""
    return make_place(request.param)
