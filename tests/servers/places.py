"""A catalog and its warehouse, as a value that can be told to other processes."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy
from pyarrow.fs import FileSelector, FileType
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import load_file_io
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

import icefusion
from icefusion import Session

_opened: list[Catalog] = []


@dataclass(frozen=True)
class Place:
    """Where one test works. Nothing of another test is in its namespaces.

    Attributes:
        kind: sqlite, postgres, mariadb or seaweedfs; azurite and gcs are SQLite with tables in these stores.
        name: The catalog's name.
        properties: PyIceberg's properties of it.
        namespace: A namespace for the test to make.
    """

    kind: str
    name: str
    properties: dict[str, str]
    namespace: str

    @property
    def commits_many(self) -> bool:
        """Whether several tables can be committed all or none."""
        return self.kind != "seaweedfs"

    def connect(self, **options: Any) -> Session:
        """A session of icefusion."""
        return icefusion.connect(catalog=self.properties, name=self.name, **options)

    def pyiceberg(self) -> Catalog:
        """PyIceberg's own catalog, which knows nothing of the sessions; `close_catalogs` closes it."""
        catalog = load_catalog(self.name, **self.properties)
        _opened.append(catalog)
        return catalog

    def files(self) -> frozenset[str]:
        """Whatever lies in the warehouse, the catalog itself left out."""
        warehouse = self.properties["warehouse"]
        if warehouse.startswith("file:"):
            root = Path(warehouse.removeprefix("file://"))
            return frozenset(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        if self.kind == "seaweedfs":
            warehouse = f"{warehouse}/ns"
        io = load_file_io(self.properties, warehouse)
        if isinstance(io, FsspecFileIO):
            scheme, _, path = warehouse.partition("://")
            return frozenset(io.get_fs(scheme).find(path))
        assert isinstance(io, PyArrowFileIO)
        scheme, host, path = io.parse_location(warehouse)
        selector = FileSelector(path.rstrip("/"), allow_not_found=True, recursive=True)
        found = io.fs_by_scheme(scheme, host).get_file_info(selector)
        return frozenset(info.path for info in found if info.type == FileType.File)

    def through(self, port: int) -> Place:
        """The same place by way of a proxy in front of its catalog."""
        host, _, rest = self.properties["uri"].rpartition(":")
        _, slash, path = rest.partition("/")
        return replace(self, properties={**self.properties, "uri": f"{host}:{port}{slash}{path}"})

    def to_json(self) -> str:
        """Itself as text, for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Place:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def close_catalogs() -> None:
    """Close the catalogs that places have opened."""
    while _opened:
        _opened.pop().close()


def sql_place(kind: str, uri: str, folder: Path, store: dict[str, str] | None = None, name: str | None = None) -> Place:
    """A SQL catalog, of its own name if none is given, with a warehouse in a folder or in one in an object store."""
    name = name or f"c{uuid.uuid4().hex[:8]}"
    warehouse = folder.as_uri() if store is None else f"{store['warehouse']}/{name}"
    properties = {"type": "sql", "uri": uri, **(store or {}), "warehouse": warehouse}
    # Processes that begin together would all try to make the catalog's tables.
    catalog = load_catalog(name, **properties)
    assert isinstance(catalog, SqlCatalog)
    if kind == "sqlite":
        with catalog.engine.connect() as connection:
            connection.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
    catalog.close()
    return Place(kind, name, properties, "ns")


def rest_place(properties: dict[str, str]) -> Place:
    """A REST catalog, in a namespace of its own."""
    return Place("seaweedfs", "rest", properties, f"ns{uuid.uuid4().hex[:8]}")
