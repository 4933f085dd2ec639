"""A session on an embedded warehouse, and eyes from outside: another process's view and the files on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def session(folder: Path) -> Iterator[ice.Session]:
    with ice.connect(folder) as opened:
        opened.sql("CREATE NAMESPACE ns")
        yield opened


class Outside:
    """What somebody else sees: a catalog of his own, and the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, table: str) -> list[dict]:
        catalog = SqlCatalog("default", uri=f"sqlite:///{self.folder / 'catalog.db'}", warehouse=self.folder.as_uri())
        try:
            return catalog.load_table(table).scan().to_arrow().to_pylist()
        finally:
            catalog.close()

    def ids(self, table: str = "ns.t") -> list[int]:
        return sorted(row["id"] for row in self.rows(table))

    def snapshots(self, table: str = "ns.t") -> int:
        catalog = SqlCatalog("default", uri=f"sqlite:///{self.folder / 'catalog.db'}", warehouse=self.folder.as_uri())
        try:
            return len(catalog.load_table(table).metadata.snapshots)
        finally:
            catalog.close()

    def files(self, pattern: str = "*") -> set[str]:
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob(pattern) if p.is_file()} - {
            "catalog.db",
            "catalog.db-wal",
            "catalog.db-shm",
        }


@pytest.fixture
def outside(folder: Path) -> Outside:
    return Outside(folder)
