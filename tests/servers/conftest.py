"""Real servers, each started when the first test asks for it, and the catalogs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import Place, close_catalogs, rest_place, sql_place
from server_processes import MariaDBServer, PostgresServer, SeaweedServer, Server

SQLITE = "sqlite"
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
SEAWEEDFS = pytest.param("seaweedfs", marks=pytest.mark.seaweedfs)


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
        return sql_place(kind, server.uri(), tmp_path / "warehouse")

    return make


@pytest.fixture(params=[SQLITE, POSTGRES, MARIADB, SEAWEEDFS])
def any_place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty catalog, of each kind in turn."""
    return make_place(request.param)


@pytest.fixture(params=[SQLITE, POSTGRES, MARIADB])
def sql_catalog(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty SQL catalog, of each kind in turn."""
    return make_place(request.param)


@pytest.fixture(params=[SQLITE, POSTGRES])
def shared_catalog(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """An empty SQL catalog that many processes are to use at once."""
    return make_place(request.param)
