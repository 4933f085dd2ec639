"""What DataFusion is told of a store, and what makes a store unreachable for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datafusion import SessionContext
from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from icefusion.query.object_stores import ObjectStores, Place
from icefusion.query.store_options import EMULATOR_KEY, Store, UnreachableError, find_store, object_key

KEYS = {"s3.access-key-id": "k", "s3.secret-access-key": "s", "s3.region": "r"}
ACCOUNT = {"adls.account-name": "acc", "adls.account-key": "a2V5"}
ABFS = "abfss://box@acc.dfs.core.windows.net/t/x.parquet"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AZURITE_BLOB_STORAGE_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


def options(location: str, properties: dict[str, str], io: type[FileIO] = PyArrowFileIO) -> dict[str, str]:
    return dict(find_store(location, io(properties)).options)


def why_not(location: str, properties: dict[str, str], io: type[FileIO] = PyArrowFileIO) -> str:
    with pytest.raises(UnreachableError) as caught:
        find_store(location, io(properties))
    return str(caught.value)


def test_s3_is_told_keys_token_region_and_endpoint() -> None:
    assert find_store("s3a://b/x", PyArrowFileIO(KEYS)) == Store(
        "s3", "b", (("access_key_id", "k"), ("region", "r"), ("secret_access_key", "s"))
    )
    vended = {**KEYS, "s3.session-token": "t", "s3.endpoint": "http://127.0.0.1:1"}
    assert options("s3://b/x", vended) == {
        "access_key_id": "k",
        "secret_access_key": "s",
        "session_token": "t",
        "region": "r",
        "endpoint": "http://127.0.0.1:1",
        "allow_http": "true",
    }
    of_client = {key.replace("s3.", "client."): value for key, value in KEYS.items()}
    assert options("s3://b/x", of_client) == options("s3://b/x", KEYS)


@pytest.mark.parametrize(
    "key",
    ["s3.signer", "s3.proxy-uri", "s3.role-arn", "client.role-arn", "s3.profile-name", "s3.anonymous"],
)
def test_what_s3_has_no_word_for_is_a_reason(key: str) -> None:
    value = "true" if key == "s3.anonymous" else "S3V4RestSigner"
    assert key in why_not("s3://b/x", {**KEYS, key: value})


def test_options_that_say_no_are_no_reason() -> None:
    plain = options("s3://b/x", KEYS)
    for key in ("s3.anonymous", "s3.force-virtual-addressing", "s3.remote-signing-enabled"):
        assert options("s3://b/x", {**KEYS, key: "false"}) == plain
    assert options("s3://b/x", {**KEYS, "s3.connect-timeout": "5.0", "s3.request-timeout": "9"}) == plain
    assert options("s3://b/x", {**KEYS, "s3.force-virtual-addressing": "true"}) == plain
    at = {**KEYS, "s3.endpoint": "https://store", "s3.force-virtual-addressing": "true"}
    assert "force-virtual-addressing" in why_not("s3://b/x", at)


def test_a_token_of_the_environment_is_not_used_with_a_key_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    assert "AWS_SESSION_TOKEN" in why_not("s3://b/x", KEYS)
    assert options("s3://b/x", {**KEYS, "s3.session-token": "t"})["session_token"] == "t"


def test_the_region_that_pyiceberg_has_found_out_is_told() -> None:
    class Resolving(PyArrowFileIO):
        def _initialize_fs(self, scheme: str, netloc: str | None = None):
            assert (scheme, netloc) == ("s3", "b")
            return type("FileSystem", (), {"region": "eu-west-3"})()

    assert options("s3://b/x", {}, Resolving) == {"region": "eu-west-3"}


def test_azure_takes_the_account_from_the_location() -> None:
    key = {"adls.account-key": "a2V5"}
    assert find_store(ABFS, FsspecFileIO(key)) == Store("azure", "box", (("access_key", "a2V5"), ("account", "acc")))
    assert find_store("abfs://box/t/x", FsspecFileIO(ACCOUNT)) == find_store(ABFS, FsspecFileIO(key))
    assert find_store("wasbs://box@acc.blob.core.windows.net/x", PyArrowFileIO(key)).bucket == "box"
    assert "adls.account-name" in why_not("abfs://box/t/x", key)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"adls.sas-token": "sv=1&sig=a%2Fb"}, {"sas": "sv=1&sig=a%2Fb"}),
        ({"adls.sas-token.acc.dfs.core.windows.net": "sig=1", "adls.sas-token.other": "sig=2"}, {"sas": "sig=1"}),
        ({"adls.sas-token.acc": "sig=1", "adls.account-key": "k", "adls.sas-token": "sig=0"}, {"sas": "sig=1"}),
        ({"adls.token": "jwt"}, {"bearer_token": "jwt"}),
        (
            {"adls.tenant-id": "t", "adls.client-id": "c", "adls.client-secret": "s"},
            {"tenant_id": "t", "client_id": "c", "client_secret": "s"},
        ),
        ({"adls.connection-string": "AccountName=acc;AccountKey=a2V5==;X="}, {"access_key": "a2V5=="}),
        (
            {"adls.connection-string": "BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature=sig=1"},
            {"sas": "sig=1"},
        ),
    ],
)
def test_azure_is_told_any_kind_of_credentials(properties: dict[str, str], told: dict[str, str]) -> None:
    assert options(ABFS, properties, FsspecFileIO) == {"account": "acc", **told}


def test_azure_without_credentials_or_elsewhere_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no Azure credentials" in why_not(ABFS, {})
    assert "chinacloudapi" in why_not("abfss://box@acc.dfs.core.chinacloudapi.cn/x", ACCOUNT)
    assert "adls.anon" in why_not(ABFS, {**ACCOUNT, "adls.anon": "true"})
    suffix = {"adls.connection-string": "AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.usgovcloudapi.net"}
    assert "usgovcloudapi" in why_not("abfs://box/x", suffix)
    assert "10.0.0.1" in why_not("abfs://box/x", {**ACCOUNT, "adls.account-host": "10.0.0.1"})
    assert options("abfs://box/x", {**ACCOUNT, "adls.account-host": "acc.blob.core.windows.net"})["account"] == "acc"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "of somebody else")
    assert "AZURE_STORAGE_ACCOUNT_KEY" in why_not(ABFS, {"adls.sas-token": "sig=1"})


def test_the_emulator_is_found_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"account": "devstoreaccount1", "access_key": EMULATOR_KEY, "emulator": "true"}
    assert options("abfs://box/x", {"adls.connection-string": "UseDevelopmentStorage=true"}) == told
    by_parts = (
        f"AccountName=devstoreaccount1;AccountKey={EMULATOR_KEY};BlobEndpoint=http://localhost:{{}}/devstoreaccount1"
    )
    assert options("abfs://box/x", {"adls.connection-string": by_parts.format(10000)}) == told
    elsewhere = {"adls.connection-string": by_parts.format(10777)}
    assert "http://localhost:10777" in why_not("abfs://box/x", elsewhere)
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10777")
    assert options("abfs://box/x", elsewhere) == told
    by_authority = {
        "adls.account-name": "devstoreaccount1",
        "adls.account-key": EMULATOR_KEY,
        "adls.blob-storage-authority": "127.0.0.1:10777",
        "adls.blob-storage-scheme": "http",
    }
    assert options("abfs://box/x", by_authority) == told


def test_gcs_is_told_a_service_account_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "service account" in why_not("gs://b/x", {})
    path = tmp_path / "account.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for other in (None, "no json", json.dumps({"type": "authorized_user", "refresh_token": "t"})):
        if other is not None:
            path.write_text(other)
        assert "service account" in why_not("gs://b/x", {})
    path.write_text(json.dumps({"type": "service_account", "private_key": "k"}))
    assert find_store("gs://b/x", PyArrowFileIO({})) == Store("gcs", "b", (("service_account_path", str(path)),))
    assert "gcs.oauth2.token" in why_not("gs://b/x", {"gcs.oauth2.token": "secret"})
    assert "gcs.service.host" in why_not("gs://b/x", {"gcs.service.host": "http://127.0.0.1:1"})


def test_reasons_hold_no_credentials() -> None:
    for properties in ({"gcs.oauth2.token": "SECRET"}, {**ACCOUNT, "adls.credential": "SECRET"}):
        location = "gs://b/x" if "gcs.oauth2.token" in properties else ABFS
        assert "SECRET" not in why_not(location, properties)


def test_other_schemes_and_other_file_access_are_out_of_reach() -> None:
    class Own(FileIO):
        new_input = new_output = delete = None

    Own.__abstractmethods__ = frozenset()
    assert "hdfs://" in why_not("hdfs://host/x", {})
    assert "Own" in why_not("s3://b/x", KEYS, Own)


def test_keys_are_quoted_and_empty_parts_are_out_of_reach() -> None:
    assert object_key("s3://b/a b/50%/x*?.parquet") == "a%20b/50%25/x%2A%3F.parquet"
    for location in ("s3://b//x", "s3://b/a//x"):
        with pytest.raises(UnreachableError, match="//"):
            object_key(location)


def test_options_that_the_engine_trips_over_are_a_reason() -> None:
    stores = ObjectStores(SessionContext())
    key = FsspecFileIO({"adls.account-name": "acc", "adls.account-key": "not base64!"})
    for location, io in (("abfs://box/x", key), ("s3://bad bucket/x", PyArrowFileIO(KEYS))):
        (place,) = stores.places([location], io)
        assert place.url is None
        assert "does not take the options" in place.why_not


def test_stores_with_the_same_options_are_one_and_others_are_others() -> None:
    stores = ObjectStores(SessionContext())
    mine, renewed = PyArrowFileIO(KEYS), PyArrowFileIO({**KEYS, "s3.session-token": "new"})
    urls = [stores.places(["s3://b/x"], io)[0].url for io in (mine, renewed, PyArrowFileIO(KEYS), renewed)]
    assert urls == ["s3://b/x", "s3://b--1/x", "s3://b/x", "s3://b--1/x"]
    assert stores.places(["/data/a b.parquet", "s3://c/%20?"], mine) == [
        Place("file:///data/a%20b.parquet"),
        Place("s3://c/%2520%3F"),
    ]
