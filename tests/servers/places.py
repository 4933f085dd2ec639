"""A catalog and its warehouse, as a value that can be told to other processes."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog

import icefusion
from icefusion import Session

_opened: list[Catalog] = []


@dataclass(frozen=True)
class Place:
    """Where one test works. Nothing of another test is in its namespaces.

    Attributes:
        kind: sqlite, postgres, mariadb or seaweedfs.
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


def sql_place(kind: str, uri: str, folder: Path) -> Place:
    """A SQL catalog of its own name, with a warehouse in a folder."""
    name = f"c{uuid.uuid4().hex[:8]}"
    properties = {"type": "sql", "uri": uri, "warehouse": folder.as_uri()}
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
