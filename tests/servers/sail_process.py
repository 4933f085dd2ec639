"""Sail as another writer: its Spark Connect server over a REST catalog, and a client in its own Python."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import requests
from server_processes import Server, free_ports

__all__ = ["SailServer"]

REPOSITORY = Path(__file__).parents[2]
CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
for statement in json.load(sys.stdin):
    rows = [list(row) for row in spark.sql(statement).collect()]
print(json.dumps(rows))
"""


class SailServer(Server):
    """Sail, with a REST catalog on SeaweedFS that it knows as ``lake``.

    Args:
        properties: The catalog, as PyIceberg is told of it.
    """

    kind = "sail"

    def __init__(self, properties: dict[str, str]) -> None:
        self._properties = properties
        super().__init__()

    @classmethod
    def missing(cls) -> str | None:
        python = _python()
        if not python.exists():
            return f"{python} is not there; ICEFUSION_SAIL_PYTHON names a Python with pysail and pyspark-client"
        return None

    def choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def command(self) -> list[str]:
        known = self._properties
        user, _, password = known["credential"].partition(":")
        form = {"grant_type": "client_credentials", "client_id": user, "client_secret": password, "scope": "catalog"}
        token = requests.post(known["oauth2-server-uri"], form, timeout=10).json()["access_token"]
        catalog = f'type="iceberg-rest", name="lake", uri="{known["uri"]}", warehouse="{known["warehouse"]}"'
        settings = {
            "SAIL_CATALOG__LIST": f'[{{{catalog}, oauth_access_token="{token}"}}]',
            "SAIL_CATALOG__DEFAULT_CATALOG": "lake",
            "AWS_ACCESS_KEY_ID": known["s3.access-key-id"],
            "AWS_SECRET_ACCESS_KEY": known["s3.secret-access-key"],
            "AWS_ENDPOINT": known["s3.endpoint"],
            "AWS_REGION": known["s3.region"],
            "AWS_ALLOW_HTTP": "true",
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        binary = str(_python().with_name("sail"))
        return ["/usr/bin/env", *given, binary, "spark", "server", "--ip", "127.0.0.1", "--port", str(self.port)]

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one. Tables are ``lake.namespace.table``."""
        client = self.folder / "client.py"
        client.write_text(CLIENT)
        done = subprocess.run(
            [str(_python()), str(client), f"sc://127.0.0.1:{self.port}"],
            input=json.dumps(statements),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def _python() -> Path:
    given = os.environ.get("ICEFUSION_SAIL_PYTHON")
    return Path(given) if given else REPOSITORY / ".cache" / "sail-venv" / "bin" / "python"
