"""Which object store a file is in, and how DataFusion is told to reach it: a table's `FileIO`, read as options.

PyIceberg and DataFusion have words of their own for credentials and endpoints, and DataFusion has fewer of them. What
it has no word for must not be left out: a store that is reached without its proxy, its role or its token is another
store. So every property that matters is either translated or a reason (`UnreachableError`), and files that are out of
reach are read through PyIceberg's file access instead (`icefusion.query.io_scan`).

What the properties leave open both take from the environment (``AWS_*``, ``AZURE_*``,
``GOOGLE_APPLICATION_CREDENTIALS``). But DataFusion looks there first for some of what the properties do say. Where the
environment would win, that is a reason too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

__all__ = ["Store", "UnreachableError", "file_url", "find_store", "object_key", "split_location"]

Properties = Mapping[str, object]

S3_SCHEMES = ("s3", "s3a", "s3n")
AZURE_SCHEMES = ("abfs", "abfss", "wasb", "wasbs")
GCS_SCHEMES = ("gs", "gcs")

_S3_OPTIONS = {
    "endpoint": ("s3.endpoint",),
    "access_key_id": ("s3.access-key-id", "client.access-key-id"),
    "secret_access_key": ("s3.secret-access-key", "client.secret-access-key"),
    "session_token": ("s3.session-token", "client.session-token"),
    "region": ("s3.region", "client.region"),
}
_S3_UNKNOWN = (
    "s3.signer",
    "s3.proxy-uri",
    "s3.role-arn",
    "client.role-arn",
    "s3.profile-name",
    "client.profile-name",
    "s3.access-grants.enabled",
)
_AZURE_UNKNOWN = ("adls.credential", "adls.anon")
_AZURE_HOST = re.compile(r"^([^.]+)\.(?:blob|dfs)\.core\.windows\.net$")
_AZURE_STRONGER = re.compile(r"^AZURE_.*(TOKEN|KEY|ENDPOINT|EMULATOR|SKIP_SIGNATURE|FABRIC)", re.IGNORECASE)
_GCS_UNKNOWN = ("gcs.oauth2.token", "gcs.service.host", "gcs.requester-pays", "gcs.session-kwargs", "gcs.access")

EMULATOR_ACCOUNT = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_EMULATOR_ADDRESS = "AZURITE_BLOB_STORAGE_URL"
_EMULATOR_DEFAULT = "http://127.0.0.1:10000"


class UnreachableError(Exception):
    """DataFusion cannot read a file; the text says why, and names no credentials."""


@dataclass(frozen=True)
class Store:
    """An object store, by what DataFusion has to be told of it.

    Attributes:
        kind: ``s3``, ``azure`` or ``gcs``.
        bucket: The bucket or container.
        options: Names and values of options, sorted.
    """

    kind: str
    bucket: str
    options: tuple[tuple[str, str], ...] = ()


def find_store(location: str, io: FileIO) -> Store:
    """The object store that a file is in.

    Args:
        location: Where the file is, as the table's metadata has it.
        io: Reads the table's files; its properties say how the store is reached.

    Raises:
        UnreachableError: DataFusion cannot be told.
    """
    scheme, host, _ = split_location(location)
    if not isinstance(io, PyArrowFileIO | FsspecFileIO):
        raise UnreachableError(f"files are read through {type(io).__name__}, which only it knows how to do")
    if scheme in S3_SCHEMES:
        return Store("s3", host, _options(_s3_options(host, io)))
    if scheme in AZURE_SCHEMES:
        container, _, server = host.rpartition("@") if "@" in host else (host, "", "")
        return Store("azure", container, _options(_azure_options(server, io.properties)))
    if scheme in GCS_SCHEMES:
        return Store("gcs", host, _options(_gcs_options(io.properties)))
    raise UnreachableError(f"{scheme}:// is no kind of store that the engine knows")


def split_location(location: str) -> tuple[str, str, str]:
    """The scheme, the host with what stands before it, and the key of a location."""
    scheme, _, rest = location.partition("://")
    host, _, key = rest.partition("/")
    return scheme, host, key


def object_key(location: str) -> str:
    """The key of an object as it stands in a URL, every special character quoted.

    A raw ``%20`` in a key would open another file, and a raw ``*`` many.

    Raises:
        UnreachableError: The engine has no way to write the key.
    """
    key = split_location(location)[2]
    if "//" in key or key.startswith("/"):
        raise UnreachableError("object keys with an empty part (//) are out of the engine's reach")
    return quote(key)


def file_url(path: str) -> str:
    """A path on this machine as the URL that DataFusion reads it by, every special character quoted."""
    return "file://" + quote(str(Path(path).absolute()))


def _options(found: Mapping[str, str | None]) -> tuple[tuple[str, str], ...]:
    return tuple((option, value) for option, value in sorted(found.items()) if value is not None)


def _first(properties: Properties, *keys: str) -> str | None:
    return next((str(properties[key]) for key in keys if properties.get(key)), None)


def _is_true(properties: Properties, key: str) -> bool:
    return str(properties.get(key, "")).lower() in ("true", "1", "yes", "on", "t", "y")


def _refuse(properties: Properties, keys: tuple[str, ...]) -> None:
    for key in keys:
        if properties.get(key) and str(properties[key]).lower() != "false":
            raise UnreachableError(f"the engine's own client has no word for {key}")


def _s3_options(bucket: str, io: FileIO) -> dict[str, str | None]:
    properties = io.properties
    _refuse(properties, _S3_UNKNOWN)
    for key in ("s3.anonymous", "s3.remote-signing-enabled"):
        if _is_true(properties, key):
            raise UnreachableError(f"the engine's own client has no word for {key}")
    found = {option: _first(properties, *keys) for option, keys in _S3_OPTIONS.items()}
    if _is_true(properties, "s3.force-virtual-addressing") and found["endpoint"]:
        raise UnreachableError("the engine's own client has no word for s3.force-virtual-addressing")
    if found["access_key_id"] and not found["session_token"] and os.environ.get("AWS_SESSION_TOKEN"):
        raise UnreachableError("the engine would use AWS_SESSION_TOKEN with the key that the properties give")
    if not found["region"] and not found["endpoint"] and isinstance(io, PyArrowFileIO):
        # Its file system has asked where the bucket is, and remembers it.
        found["region"] = getattr(io.fs_by_scheme("s3", bucket), "region", None)
    if urlsplit(found["endpoint"] or "").scheme == "http":
        found["allow_http"] = "true"
    return found


def _azure_options(server: str, properties: Properties) -> dict[str, str | None]:
    _refuse(properties, _AZURE_UNKNOWN)
    known = {**properties, **_connection_string(_first(properties, "adls.connection-string") or "")}
    account = _first(known, "adls.account-name")
    if server:
        match = _AZURE_HOST.match(server)
        if match is None:
            raise UnreachableError(f"the engine knows no Azure but *.core.windows.net, and this is {server}")
        account = match[1]
    per_account = {
        key.removeprefix("adls.sas-token.").split(".")[0]: str(value)
        for key, value in known.items()
        if key.startswith("adls.sas-token.") and value
    }
    account = account or next(iter(per_account), None)
    emulated = _is_emulator(known, account)
    sas = per_account.get(account or "") or _first(known, "adls.sas-token")
    found = {
        "account": account,
        "access_key": _first(known, "adls.account-key"),
        "bearer_token": _first(known, "adls.token"),
        "sas": sas,
        "client_id": _first(known, "adls.client-id"),
        "client_secret": _first(known, "adls.client-secret"),
        "tenant_id": _first(known, "adls.tenant-id"),
    }
    if sas and per_account:
        # What was vended for this account goes before what the client knew before; the engine would take the key.
        found |= dict.fromkeys(("access_key", "bearer_token", "client_id", "client_secret", "tenant_id"))
    if not account:
        raise UnreachableError("the properties name no Azure account (adls.account-name)")
    if not any(found[key] for key in ("access_key", "bearer_token", "sas", "client_secret")):
        raise UnreachableError("the properties hold no Azure credentials, and the engine does not look for others")
    stronger = sorted(key for key in os.environ if _AZURE_STRONGER.match(key))
    if stronger:
        raise UnreachableError(f"the engine would use {stronger[0]} rather than the credentials of the table")
    found["emulator"] = "true" if emulated else None
    return found


def _connection_string(text: str) -> dict[str, str]:
    """A connection string's parts as PyIceberg's properties."""
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        parts = {"AccountName": EMULATOR_ACCOUNT, "AccountKey": EMULATOR_KEY, "BlobEndpoint": _EMULATOR_DEFAULT} | parts
    names = {
        "AccountName": "adls.account-name",
        "AccountKey": "adls.account-key",
        "SharedAccessSignature": "adls.sas-token",
        "BlobEndpoint": "blob-endpoint",
    }
    found = {names[key]: value for key, value in parts.items() if key in names}
    if parts.get("EndpointSuffix", "core.windows.net") != "core.windows.net" and "BlobEndpoint" not in parts:
        found["blob-endpoint"] = f"https://{parts.get('AccountName')}.blob.{parts['EndpointSuffix']}"
    return found


def _is_emulator(properties: Properties, account: str | None) -> bool:
    """Whether the account is in the emulator, which the engine finds by an address of its own.

    Raises:
        UnreachableError: The account is at an address that the engine cannot be told.
    """
    endpoint = _first(properties, "blob-endpoint")
    if endpoint is None and (authority := _first(properties, "adls.blob-storage-authority")):
        endpoint = f"{_first(properties, 'adls.blob-storage-scheme') or 'https'}://{authority.lstrip('.')}"
        if authority.startswith("."):
            endpoint = endpoint.replace("://", f"://{account}.")
    if endpoint is None and (host := _first(properties, "adls.account-host")):
        endpoint = f"https://{host}"
    if endpoint is None:
        return False
    parts = urlsplit(endpoint)
    if parts.scheme == "https" and _AZURE_HOST.match(parts.netloc):
        return False
    own = urlsplit(os.environ.get(_EMULATOR_ADDRESS, _EMULATOR_DEFAULT))
    if (parts.scheme, parts.netloc.replace("localhost", "127.0.0.1")) == (own.scheme, own.netloc):
        return True
    raise UnreachableError(
        f"the engine cannot be told of an Azure endpoint, and this one is {parts.scheme}://{parts.netloc}"
    )


def _gcs_options(properties: Properties) -> dict[str, str | None]:
    _refuse(properties, _GCS_UNKNOWN)
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path or not _is_service_account(path):
        raise UnreachableError(
            "the engine reads gs:// with a service account alone, and GOOGLE_APPLICATION_CREDENTIALS names none"
        )
    return {"service_account_path": path}


def _is_service_account(path: str) -> bool:
    """Whether a file holds a service account, and not another of the kinds of credentials that Google knows."""
    try:
        account = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(account, dict) and "private_key" in account


def split_sas(token: str) -> list[tuple[str, str]]:
    """A shared access signature as the pairs of a query."""
    return parse_qsl(token.removeprefix("?"), keep_blank_values=True)
