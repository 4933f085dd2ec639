"""Files out of the engine's reach, read through PyIceberg's file access: the same rows, deletes and places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import shadow_io

# Whatever is known of native scans has to be true here too; these run again below, with every file out of reach.
import test_deletes as deletes
import test_deletes_model as deletes_model
import test_pruning as pruning
import test_row_identity as row_identity
import test_schema_evolution as schema_evolution
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from test_deletes import *  # noqa: F403
from test_deletes_model import *  # noqa: F403
from test_pruning import test_pruning_never_loses_a_row  # noqa: F401
from test_row_identity import *  # noqa: F403
from test_schema_evolution import *  # noqa: F403

import icefusion
from icefusion import Session
from icefusion.query.object_stores import ObjectStores, Place

NATIVE_ONLY = {"a file that is split", "no native lists"}


@pytest.fixture(autouse=True)
def _out_of_reach(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    borrowed = getattr(request.function, "__module__", "") in {
        m.__name__ for m in (deletes, deletes_model, pruning, row_identity, schema_evolution)
    }
    if borrowed:
        params = getattr(request.node, "callspec", None)
        if params is not None and NATIVE_ONLY & {str(value) for value in [params.id, *params.params.values()]}:
            pytest.skip("says something of native scans alone")
        monkeypatch.setattr(ObjectStores, "places", lambda _, locations, io: [Place(None, "test") for _ in locations])


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": shadow_io.shadow(tmp_path)}
    with icefusion.connect(catalog={**properties, **shadow_io.PROPERTIES}, name="far", threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        yield session


def fill(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, name text, f double)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a', 1.5), (2, NULL, 'NaN'), (3, 'c', -0.0), (4, 'd', NULL)")


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("name NOT IN ('a', 'b', 'x', 'y', 'z')", [3, 4]),
        ("f > 1", [1, 2]),
        ("f = 0.0 OR f = 'NaN'", [2, 3]),
        ("name IS NULL", [2]),
        ("name LIKE 'c%' OR id = 4", [3, 4]),
        ("NOT (name = 'a')", [3, 4]),
        ("length(name) = 1 AND id < 4", [1, 3]),
    ],
)
def test_conditions_are_the_engines_own(session: Session, condition: str, ids: list[int]) -> None:
    fill(session)
    rows = session.sql("SELECT * FROM ns.t").to_arrow()
    text = f"SELECT id FROM {{}} WHERE {condition} ORDER BY id"
    assert [row[0] for row in session.sql(text.format("ns.t")).fetchall()] == (
        [row[0] for row in session.sql(text.format("rows"), rows=rows).fetchall()]
    )
    if "0.0" not in condition:
        assert [row[0] for row in session.sql(text.format("ns.t")).fetchall()] == ids


def test_the_report_says_why(session: Session, tmp_path: Path) -> None:
    fill(session)
    (scan,) = session.sql("SELECT * FROM ns.t").report.scans
    assert scan.fallback is not None
    assert "ShadowIO" in scan.fallback
    with icefusion.connect(tmp_path / "near") as near:
        near.sql("CREATE NAMESPACE ns")
        fill(near)
        assert near.sql("SELECT * FROM ns.t").report.scans[0].fallback is None


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_are_changed_and_counted(session: Session, mode: str) -> None:
    fill(session)
    session.sql("INSERT INTO ns.t VALUES (5, 'e', 5), (6, 'f', 6)")
    session.sql("UPDATE ns.t SET name = 'new' WHERE id IN (2, 5)", write_mode=mode)
    session.sql("DELETE FROM ns.t WHERE id = 3", write_mode=mode)
    merge = """MERGE INTO ns.t USING (VALUES (6, 'six'), (7, 'seven')) AS s(id, name) ON t.id = s.id
        WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)"""
    session.sql(merge, write_mode=mode)
    expected = [(1, "a"), (2, "new"), (4, "d"), (5, "new"), (6, "six"), (7, "seven")]
    assert session.sql("SELECT id, name FROM ns.t ORDER BY id").fetchall() == expected
    assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(6,)]


def test_row_groups_are_left_out_by_their_bounds(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from icefusion.query import io_scan  # noqa: PLC0415 - its reader is counted

    session.sql(
        "CREATE TABLE ns.t (id bigint, name text, day date, ts timestamp) "
        "TBLPROPERTIES ('write.parquet.row-group-limit' = '100')"
    )
    session.sql(
        "INSERT INTO ns.t SELECT value, 'n' || lpad(CAST(value AS text), 4, '0'), "
        "DATE '2020-01-01' + CAST(value AS int), CAST(to_timestamp_seconds(1577836800 + value) AS timestamp) "
        "FROM generate_series(0, 999)"
    )
    read: list[int] = []
    shaped = io_scan.FileIOScan._shaped
    monkeypatch.setattr(
        io_scan.FileIOScan,
        "_shaped",
        lambda scan, batch, *args: read.append(batch.num_rows) or shaped(scan, batch, *args),
    )
    for condition, groups in {
        "id = 250": 1,
        "name = 'n0250'": 1,
        "day = DATE '2020-01-01' + 250": 1,
        "ts >= TIMESTAMP '2020-01-01 00:15:00'": 1,
        "id BETWEEN 250 AND 450": 3,
        "id IS NULL": 0,
        "id = 5000": 0,
        "true": 10,
    }.items():
        read.clear()
        session.sql(f"SELECT * FROM ns.t WHERE {condition}").fetchall()
        assert len(read) == groups, condition


def test_files_that_are_gone_or_broken_are_named(session: Session, tmp_path: Path) -> None:
    fill(session)
    (path,) = tmp_path.rglob("*.parquet")
    whole = path.read_bytes()
    result = session.sql("SELECT * FROM ns.t")
    path.write_bytes(whole[:4] + bytes(len(whole) - 12) + whole[-8:])
    with pytest.raises(icefusion.StorageError, match=path.name):
        result.fetchall()
    path.unlink()
    with pytest.raises(icefusion.StorageError, match=path.name):
        session.sql("SELECT * FROM ns.t").fetchall()


def test_a_query_may_be_left_before_its_end(session: Session) -> None:
    session.sql("CREATE TABLE ns.t AS SELECT value AS id FROM generate_series(1, 300000)")
    assert len(session.sql("SELECT * FROM ns.t LIMIT 5").fetchall()) == 5
    reader = session.sql("SELECT * FROM ns.t").to_arrow_reader()
    assert reader.read_next_batch().num_rows > 0
    reader.close()
    assert session.sql("SELECT count(*), sum(id) FROM ns.t").fetchall() == [(300000, 45000150000)]


@pytest.mark.parametrize("files", [1, 10], ids=["few files", "many files"])
def test_files_in_and_out_of_reach_are_one_table(session: Session, tmp_path: Path, files: int) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, name text, f double)")
    for number in range(files):
        session.sql("INSERT INTO ns.t VALUES (?, 'far', 1.5)", [number])
    with session.catalog.load_table("ns.t").transaction() as change:
        change.set_properties({"write.data.path": (tmp_path / "near").as_uri()})
    for number in range(files):
        session.sql(
            "INSERT INTO ns.t VALUES (?, 'near', CAST('NaN' AS double)), (?, NULL, 2)", [100 + number, 200 + number]
        )
    result = session.sql("SELECT name, count(*), sum(id) FROM ns.t WHERE f > 1 GROUP BY name ORDER BY name")
    assert [row[:2] for row in result.fetchall()] == [("far", files), ("near", files), (None, files)]
    assert result.report.scans[0].fallback is not None
    for mode in ("merge-on-read", "copy-on-write"):
        assert session.sql("UPDATE ns.t SET f = f + 1 WHERE id % 100 = 0", write_mode=mode).rows_updated == 3
        assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(3 * files,)]
    assert session.sql("SELECT id, f FROM ns.t WHERE id IN (0, 200) ORDER BY id").fetchall() == [(0, 3.5), (200, 4.0)]


def test_pyiceberg_reads_what_was_written_there(session: Session, tmp_path: Path) -> None:
    fill(session)
    session.sql("DELETE FROM ns.t WHERE id = 1", write_mode="merge-on-read")
    catalog = load_catalog(
        "far", type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=shadow_io.shadow(tmp_path)
    )
    assert isinstance(catalog, SqlCatalog)
    catalog.properties |= shadow_io.PROPERTIES
    (task,) = catalog.load_table("ns.t").scan().plan_files()
    assert (len(task.delete_files), task.file.record_count) == (1, 4)
    catalog.close()


def test_columns_have_their_order_and_their_types(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, name text, u uuid, b binary)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a', '11111111-1111-1111-1111-111111111111', X'00')")
    table = session.sql("SELECT u, b, id, name FROM ns.t ORDER BY id").to_arrow()
    assert table.schema.names == ["u", "b", "id", "name"]
    assert table.schema.types == [pa.uuid(), pa.binary(), pa.int64(), pa.string()]
