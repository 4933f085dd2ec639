"""The ways to open a catalog: a folder, PyIceberg's properties, a name in its configuration, or an object."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable
from pyiceberg.utils.config import Config

from icefusion.commit.catalog import CatalogClient
from icefusion.commit.pools import open_engine, read_timeout_ms, warm_up
from icefusion.commit.rest import PooledRestCatalog
from icefusion.commit.translate import translated
from icefusion.config import PoolConfig
from icefusion.errors import ConfigurationError

READ_TIMEOUT_PROPERTY = "icefusion.sql-read-timeout-ms"

EMBEDDED_NAME = "default"
EMBEDDED_FILE = "catalog.db"

__all__ = ["existing_warehouse", "open_any", "open_catalog", "open_embedded", "wrap_catalog"]


def open_any(
    path: str | Path | None, catalog: Catalog | Mapping[str, str] | None, name: str | None, *, pool: PoolConfig
) -> tuple[CatalogClient, bool]:
    """A catalog by whichever way it was described, and whether it is ours to close.

    Args:
        path: A folder with the embedded catalog.
        catalog: PyIceberg's properties, or a catalog that the caller has opened.
        name: The catalog's name; alone, it names an entry of PyIceberg's configuration.
        pool: Limits of the connections.

    Raises:
        ConfigurationError: It is not described, or in two ways.
        CatalogError: The catalog cannot be reached.
    """
    given = [option for option, value in (("path", path), ("catalog", catalog)) if value is not None]
    if len(given) > 1 or (not given and name is None):
        raise ConfigurationError(
            f"connect needs one catalog, found {' and '.join(given) or 'none'}",
            hint="give a folder, catalog=properties, catalog=object, or name='...' from PyIceberg's configuration",
        )
    if path is not None:
        return open_embedded(path, pool=pool, name=name), True
    if isinstance(catalog, Catalog):
        return wrap_catalog(catalog), False
    if catalog is not None and not isinstance(catalog, Mapping):
        raise ConfigurationError(
            f"catalog: expected PyIceberg's properties or a catalog object, found {catalog!r}",
            hint="an entry of PyIceberg's configuration is given as name='...'",
        )
    return open_catalog(name, catalog or {}, pool=pool), True


def existing_warehouse(folder: str) -> Path:
    """A folder that holds an embedded catalog already.

    Raises:
        ConfigurationError: It holds none.
    """
    root = Path(folder).expanduser().absolute()
    if not (root / EMBEDDED_FILE).is_file():
        raise ConfigurationError(
            f"there is no warehouse in {folder!r}",
            hint="ATTACH takes a folder that icefusion.connect(folder) has made; session.attach takes any catalog",
        )
    return root


def open_embedded(folder: str | Path, *, pool: PoolConfig, name: str | None = None) -> CatalogClient:
    """The embedded catalog in a folder: a SQLite file beside the tables' own folders; created when missing.

    Args:
        folder: The folder.
        pool: Limits of the connections.
        name: The catalog's name; None for the one that it was made with, ``default`` where it is made now. One file can
            hold catalogs of several names, which know nothing of each other.

    Raises:
        ConfigurationError: The path is not a folder, or cannot be made one.
    """
    root = Path(_folder(folder)).expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot use {str(root)!r} as a warehouse: {exc.strerror or exc}", hint="name a folder that can be written"
        ) from exc
    properties = {"uri": f"sqlite:///{root / EMBEDDED_FILE}", "warehouse": root.as_uri()}
    with translated(f"the catalog in {root}"):
        return CatalogClient(_PooledSqlCatalog(name or _only_name(root / EMBEDDED_FILE), pool, properties))


def _folder(given: str | Path) -> str | Path:
    """The folder that a path or a URL of this machine names.

    Raises:
        ConfigurationError: It is a URL of something else.
    """
    scheme, is_url, rest = str(given).partition("://")
    if not is_url:
        return given
    if scheme == "file":
        return unquote(rest)
    if _is_http(str(given)):
        hint = f"a REST catalog: connect(catalog={{'type': 'rest', 'uri': '{given}'}})"
    elif _is_sql(str(given)):
        hint = f"a SQL catalog: connect(catalog={{'type': 'sql', 'uri': '{given}', 'warehouse': '...'}})"
    else:
        hint = f"a catalog keeps tables there: connect(catalog={{'uri': '...', 'warehouse': '{given}'}})"
    raise ConfigurationError(f"path: expected a folder of this machine, found {str(given)!r}", hint=hint)


def _only_name(file: Path) -> str:
    """The name of the catalog in a SQLite file, where it holds one."""
    if not file.exists():
        return EMBEDDED_NAME
    with contextlib.closing(sqlite3.connect(file)) as database:
        made = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        found = {
            row[0]
            for table in SqlCatalogBaseTable.metadata.tables
            if table in made
            for row in database.execute(f"SELECT DISTINCT catalog_name FROM {table}")
        }
    return found.pop() if len(found) == 1 else EMBEDDED_NAME


def open_catalog(name: str | None, properties: Mapping[str, str], *, pool: PoolConfig) -> CatalogClient:
    """A catalog by PyIceberg's properties, completed from its configuration file and environment by its name.

    Raises:
        ConfigurationError: The properties describe no catalog.
        CatalogError: The catalog could not be reached.
    """
    with translated(f"catalog {name or 'default'!r}"):
        try:
            known = Config()
            name = name or known.get_default_catalog_name()
            merged = {**(known.get_catalog_config(name) or {}), **properties}
            uri = merged.get("uri")
            if "py-catalog-impl" not in merged and (
                merged.get("type") == "sql" or ("type" not in merged and _is_sql(uri))
            ):
                return CatalogClient(_PooledSqlCatalog(name, pool, {key: str(merged[key]) for key in merged}))
            if "py-catalog-impl" not in merged and (
                merged.get("type") == "rest" or ("type" not in merged and _is_http(uri))
            ):
                return CatalogClient(PooledRestCatalog(name, pool, merged))
            return CatalogClient(load_catalog(name, **properties))
        except (ValueError, KeyError) as exc:
            raise ConfigurationError(
                f"catalog {name or 'default'!r} cannot be opened: {exc}",
                hint="give PyIceberg catalog properties, e.g. type='rest' and uri='http://...', or a name that "
                "stands in PyIceberg's configuration file",
            ) from exc


def wrap_catalog(catalog: Catalog) -> CatalogClient:
    """A catalog that the caller has opened; it stays the caller's to close."""
    return CatalogClient(catalog)


class _PooledSqlCatalog(SqlCatalog):
    """PyIceberg's SQL catalog over a connection pool that follows `PoolConfig`."""

    def __init__(self, name: str, pool: PoolConfig, properties: dict[str, str]) -> None:
        # SqlCatalog's own constructor makes an engine without any pool options; all else it does is done here too.
        super(SqlCatalog, self).__init__(name, **properties)
        uri = self.properties.get("uri")
        if not uri:
            raise ConfigurationError("a SQL catalog needs a uri", hint="e.g. uri='sqlite:////data/catalog.db'")
        limit_ms = read_timeout_ms(self.properties, READ_TIMEOUT_PROPERTY)
        self.engine = open_engine(uri, pool, read_timeout_ms=limit_ms)
        warm_up(self.engine, pool)
        self._init_catalog()


def _is_http(uri: object) -> bool:
    return isinstance(uri, str) and uri.startswith(("http://", "https://"))


def _is_sql(uri: object) -> bool:
    return isinstance(uri, str) and uri.split(":", 1)[0].split("+", 1)[0] in (
        "sqlite",
        "postgresql",
        "mysql",
        "mariadb",
    )
