"""DuckDB as a writer: it attaches a REST catalog and changes tables there, its deletes in position delete files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["DuckDBWriter"]

EXTENSIONS = ("avro", "httpfs", "iceberg")


class DuckDBWriter:
    """A connection of DuckDB to a REST catalog on SeaweedFS, which it knows as ``lake``.

    Args:
        properties: The catalog, as PyIceberg is told of it.
        folder: A folder without extensions, so that none is fetched or found by chance.
    """

    def __init__(self, properties: dict[str, str], folder: Path) -> None:
        import duckdb  # noqa: PLC0415 - not everyone has it

        settings = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "extension_directory": str(folder),
        }
        self._connection = duckdb.connect(config=settings)
        for extension in EXTENSIONS:
            module = __import__(f"duckdb_extension_{extension}")
            path = Path(module.__file__).parent / "extensions" / f"v{duckdb.__version__}"
            self._connection.execute(f"LOAD '{path / extension}.duckdb_extension'")
        user, _, password = properties["credential"].partition(":")
        uri = properties["uri"]
        store = urlsplit(properties["s3.endpoint"])
        for statement in (
            f"CREATE SECRET store (TYPE s3, KEY_ID '{properties['s3.access-key-id']}', "
            f"SECRET '{properties['s3.secret-access-key']}', ENDPOINT '{store.netloc}', URL_STYLE 'path', "
            f"USE_SSL false, REGION 'us-east-1')",
            f"CREATE SECRET catalog (TYPE iceberg, CLIENT_ID '{user}', CLIENT_SECRET '{password}', "
            f"OAUTH2_SERVER_URI '{uri}/v1/oauth/tokens', ENDPOINT '{uri}')",
            # A warehouse that looks like a location is attached for reading alone unless told otherwise.
            f"ATTACH '{properties['warehouse']}' AS lake (TYPE iceberg, ENDPOINT '{uri}', SECRET catalog, "
            f"ACCESS_DELEGATION_MODE 'none', READ_ONLY false)",
        ):
            self._connection.execute(statement)

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be used; None where it can."""
        modules = ["duckdb", *(f"duckdb_extension_{extension}" for extension in EXTENSIONS)]
        lacking = [module for module in modules if find_spec(module) is None]
        return f"not installed: {', '.join(lacking)}; pip install icefusion[interop]" if lacking else None

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Run a statement; tables are ``lake.namespace.table``."""
        return self._connection.execute(text).fetchall()

    def close(self) -> None:
        """Give everything back."""
        self._connection.close()
