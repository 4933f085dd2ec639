"""Tables in the stores of Azure and Google: which of them DataFusion reads itself, and that both ways agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from places import Place
from store_processes import BUCKET, AzuriteServer, GcsServer

import icefusion
from icefusion import Session

ODD_NAMES = ["a b", "50%", "%20", "x+y", "ü/ß", "q=1&r", "*?", "#frag", "'quoted\"", "~tilde", "日本"]

AZURITE = pytest.param("azurite", marks=pytest.mark.azurite)
GCS = pytest.param("gcs", marks=pytest.mark.gcs)


@pytest.fixture(params=[AZURITE, GCS])
def place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    return make_place(request.param)


def fill(session: Session) -> None:
    session.sql("CREATE NAMESPACE ns")
    session.sql("CREATE TABLE ns.t (id bigint, name text, v double) PARTITIONED BY (bucket(3, id))")
    session.sql("INSERT INTO ns.t SELECT value, 'n' || value, value / 2.0 FROM generate_series(1, 1000)")


def total(session: Session) -> tuple[object, str | None]:
    result = session.sql("SELECT count(*), sum(v) FROM ns.t WHERE id > 10")
    return result.fetchall()[0], result.report.scans[0].fallback


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_are_changed_in_both_ways(place: Place, mode: str) -> None:
    with place.connect() as session:
        fill(session)
        assert session.sql("UPDATE ns.t SET v = 0 WHERE id <= 10", write_mode=mode).rows_updated == 10
        assert session.sql("DELETE FROM ns.t WHERE id > 990", write_mode=mode).rows_deleted == 10
        merge = """MERGE INTO ns.t USING (SELECT value AS id FROM generate_series(985, 1010)) AS s ON t.id = s.id
            WHEN MATCHED THEN UPDATE SET v = -1 WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, -1)"""
        assert session.sql(merge, write_mode=mode).rows_inserted == 20
        answer = session.sql("SELECT count(*), sum(v) FROM ns.t").fetchall()
        assert answer == [(1010, sum(i / 2 for i in range(11, 985)) - 26)]
    theirs = place.pyiceberg().load_table("ns.t").scan().to_arrow()
    assert (theirs.num_rows, pa.compute.sum(theirs["v"]).as_py()) == answer[0]


def test_partitions_of_any_name_are_read_back_by_both(place: Place) -> None:
    with place.connect() as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t (id BIGINT, name STRING) PARTITIONED BY (name)")
        rows = pa.table({"id": range(len(ODD_NAMES)), "name": ODD_NAMES})
        session.sql("INSERT INTO ns.t SELECT * FROM rows", rows=rows)
        assert [name for (name,) in session.sql("SELECT name FROM ns.t ORDER BY id").fetchall()] == ODD_NAMES
        for number, name in enumerate(ODD_NAMES):
            assert session.sql("SELECT id FROM ns.t WHERE name = ?", [name]).fetchall() == [(number,)]
    theirs = place.pyiceberg().load_table("ns.t").scan().to_arrow()
    assert sorted(theirs["name"].to_pylist()) == sorted(ODD_NAMES)


def test_a_file_that_is_gone_is_an_error(place: Place) -> None:
    with place.connect() as session:
        fill(session)
        table = place.pyiceberg().load_table("ns.t")
        path = next(iter(table.scan().plan_files())).file.file_path
        table.io.delete(path)
        with pytest.raises(icefusion.StorageError, match=path.rsplit("/", 1)[-1]):
            session.sql("SELECT count(*), max(v) FROM ns.t WHERE v < 1e9").fetchall()


@pytest.mark.azurite
def test_azure_is_read_by_the_engine_and_elsewhere_for_it(
    make_place: Callable[[str], Place], azurite: AzuriteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("azurite")
    with place.connect() as session:
        fill(session)
        native, reason = total(session)
        assert reason is None
        # At an address that the engine is not told of, it is an account like any other that it cannot be told of.
        monkeypatch.delenv("AZURITE_BLOB_STORAGE_URL")
        read_for_it, reason = total(session)
        assert reason is not None
        assert azurite.address in reason
        assert azurite.KEY not in reason
        assert read_for_it == native == (990, sum(i / 2 for i in range(11, 1001)))


@pytest.mark.azurite
def test_azure_takes_a_shared_access_signature(make_place: Callable[[str], Place], azurite: AzuriteServer) -> None:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas  # noqa: PLC0415 - an extra

    place = make_place("azurite")
    with place.connect() as session:
        fill(session)
        expected = total(session)
    until = datetime.now(UTC) + timedelta(hours=1)
    rights = ContainerSasPermissions(read=True, list=True)
    sas = generate_container_sas(azurite.ACCOUNT, BUCKET, azurite.KEY, permission=rights, expiry=until)
    endpoint = f"BlobEndpoint={azurite.address}/{azurite.ACCOUNT};SharedAccessSignature={sas};"
    vended = {**place.properties, "adls.connection-string": endpoint}
    with replace(place, properties=vended).connect() as session:
        assert total(session) == expected
    wrong = {**vended, "adls.connection-string": endpoint.replace("sig=", "sig=x")}
    with (
        replace(place, properties=wrong).connect() as session,
        pytest.raises(icefusion.IcefusionError, match=r"(?i)authenti|signature|403"),
    ):
        total(session)


@pytest.mark.gcs
def test_google_is_read_by_the_engine_with_a_service_account(
    make_place: Callable[[str], Place], gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("gcs")
    with place.connect() as session:
        fill(session)
        read_for_it, reason = total(session)
        assert reason is not None
        assert "gcs." in reason
        (path,) = {task.file.file_path for task in place.pyiceberg().load_table("ns.t").scan("id = 5").plan_files()}
        from icefusion.query.object_stores import ObjectStores  # noqa: PLC0415

        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gcs.account_file(tmp_path)))
        places = ObjectStores.places
        plain = type(session.catalog._load_file_io({}, path))({})
        # PyIceberg's own client needs to be told of the server, and the engine's must not be: only its file says where.
        monkeypatch.setattr(ObjectStores, "places", lambda stores, locations, io: places(stores, locations, plain))
        native, reason = total(session)
        assert reason is None
        assert native == read_for_it
