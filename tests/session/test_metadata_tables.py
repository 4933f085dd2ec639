"""Metadata tables in a session: how much of a table they read, what a transaction sees, and what PyIceberg says."""

import datetime as dt
import gc
import math
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

import icefusion as ice
from icefusion.commit.catalog import CatalogClient
from icefusion.query.generated import PARTS_AHEAD
from icefusion.query.inspect import of_files

MANIFESTS = 40
FILES = 50


class Entries(list):
    """A manifest's entries that tell when they are let go."""


class Spy:
    """Counts manifests as they are read, and those of which the entries are still held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        self.most_held = 0
        self._alive: list[weakref.ref[Entries]] = []
        real = of_files.read_entries

        def spying(*args: Any, **kwargs: Any) -> Entries:
            entries = Entries(real(*args, **kwargs))
            self.read += 1
            self._alive.append(weakref.ref(entries))
            self.most_held = max(self.most_held, sum(ref() is not None for ref in self._alive))
            return entries

        monkeypatch.setattr(of_files, "read_entries", spying)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ice.Session]:
    """A table ``ns.t`` of many manifests, each of one partition and many files, none of which is there."""
    with ice.connect(tmp_path_factory.mktemp("large")) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, p int) PARTITIONED BY (p)")
        table = session.catalog.load_table("ns.t")
        with table.transaction() as transaction:
            transaction.set_properties({"commit.manifest-merge.enabled": "false"})
        for number in range(MANIFESTS):
            with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
                for file in range(FILES):
                    append.append_data_file(_file(f"{table.location()}/{number}-{file}.parquet", number))
        yield session


def _file(path: str, partition: int) -> DataFile:
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(partition),
        record_count=1,
        file_size_in_bytes=1000,
        column_sizes={1: 10},
        value_counts={1: 1},
        null_value_counts={1: 0},
        nan_value_counts={},
        lower_bounds={1: (7).to_bytes(8, "little")},
        upper_bounds={1: (7).to_bytes(8, "little")},
        split_offsets=[4],
    )
    file.spec_id = 0
    return file


def test_all_rows_come_and_few_manifests_are_held(large: ice.Session, spy: Spy) -> None:
    total = 0
    gc.collect()
    for batch in large.sql("SELECT file_path, readable_metrics FROM ns.t.files").to_arrow_reader():
        total += batch.num_rows
    assert total == MANIFESTS * FILES
    assert spy.read == MANIFESTS
    assert spy.most_held <= PARTS_AHEAD + 3


def test_nothing_is_read_before_rows_are_asked_for(large: ice.Session, spy: Spy) -> None:
    result = large.sql("SELECT * FROM ns.t.files")
    assert spy.read == 0
    reader = result.to_arrow_reader()
    reader.read_next_batch()
    assert spy.read < MANIFESTS
    del reader, result
    gc.collect()


def test_a_limit_reads_few_manifests(large: ice.Session, spy: Spy) -> None:
    assert large.sql("SELECT file_path FROM ns.t.files LIMIT 5").to_arrow().num_rows == 5
    assert spy.read < MANIFESTS / 2


@pytest.mark.parametrize(
    ("condition", "table", "read"),
    [
        ("partition.p = 3", "files", 1),
        ("partition.p >= 37", "files", 3),
        ("partition.p IN (1, 2) AND record_count = 1", "all_files", 2),
        ("partition.p IS NULL", "files", 0),
        ("partition.p = 3 OR record_count = 0", "files", MANIFESTS),
        ("spec_id = 0", "files", MANIFESTS),
        ("spec_id > 0", "files", 0),
        ("content <> 0", "delete_files", 0),
        ("data_file.partition.p < 2", "entries", 2),
        ("sequence_number = 5", "entries", 1),
        ("sequence_number BETWEEN 5 AND 8 AND status = 1", "all_entries", 4),
        ("status = 2", "entries", 0),
    ],
)
def test_conditions_leave_manifests_out(large: ice.Session, spy: Spy, condition: str, table: str, read: int) -> None:
    found = large.sql(f"SELECT count(*) FROM ns.t.{table} WHERE {condition}").fetchone()
    assert spy.read == read
    everything = large.sql(f"SELECT * FROM ns.t.{table}").to_arrow()
    again = large.sql(f"SELECT count(*) FROM everything WHERE {condition}", everything=everything).fetchone()
    assert found == again


def test_they_can_be_read_again(large: ice.Session, spy: Spy) -> None:
    query = "SELECT count(*) FROM ns.t.files a JOIN NS.T.FILES b ON a.file_path = b.file_path WHERE a.partition.p = 3"
    result = large.sql(query)
    assert result.to_arrow_reader().read_all().to_pylist() == [{"count(*)": FILES}]
    assert result.to_arrow_reader().read_all().to_pylist() == [{"count(*)": FILES}]


def test_all_manifests_of_one_snapshot(large: ice.Session) -> None:
    (snapshot_id,) = large.sql("SELECT snapshot_id FROM ns.t.snapshots ORDER BY committed_at LIMIT 1").fetchone()
    query = "SELECT count(*) FROM ns.t.all_manifests WHERE reference_snapshot_id = ?"
    assert large.sql(query, params=[snapshot_id]).fetchone() == (1,)
    assert large.sql("SELECT count(*) FROM ns.t.all_manifests").fetchone() == (MANIFESTS * (MANIFESTS + 1) // 2,)


def test_a_missing_manifest_is_an_error(session: ice.Session, folder: Path) -> None:
    session.sql("CREATE TABLE ns.t (id bigint); INSERT INTO ns.t VALUES (1)")
    (path,) = session.sql("SELECT path FROM ns.t.manifests").fetchone()
    Path(path.removeprefix("file://")).unlink()
    with ice.connect(folder) as other, pytest.raises(ice.StorageError, match="is missing in storage"):
        other.sql("SELECT file_path FROM ns.t.files").to_arrow()


def test_a_transaction_sees_the_state_it_has_pinned(session: ice.Session, folder: Path) -> None:
    session.sql("CREATE TABLE ns.t (id bigint); INSERT INTO ns.t VALUES (1)")
    counts = "SELECT (SELECT count(*) FROM ns.t.snapshots) AS s, (SELECT count(*) FROM ns.t$files) AS f"
    with session.transaction("snapshot") as tx, ice.connect(folder) as other:
        assert tx.sql(counts).fetchone() == (1, 1)
        other.sql("INSERT INTO ns.t VALUES (2)")
        assert other.sql(counts).fetchone() == (2, 2)
        tx.sql("INSERT INTO ns.t VALUES (3)")
        assert tx.sql(counts).fetchone() == (1, 1)
        assert tx.sql("SELECT count(*) FROM ns.t").fetchone() == (2,)
    assert session.sql(counts).fetchone() == (3, 3)


def test_reading_them_makes_no_conflict(session: ice.Session, folder: Path) -> None:
    session.sql("CREATE TABLE ns.t (id bigint); CREATE TABLE ns.log (n bigint); INSERT INTO ns.t VALUES (1)")
    with session.transaction() as tx, ice.connect(folder) as other:
        tx.sql("INSERT INTO ns.log SELECT count(*) FROM ns.t.files")
        other.sql("INSERT INTO ns.t VALUES (2)")
    assert session.sql("SELECT n FROM ns.log").fetchall() == [(1,)]


def test_a_table_of_such_a_name_comes_first(session: ice.Session) -> None:
    session.sql('CREATE TABLE ns."t$files" (mine bigint); CREATE TABLE ns.t (id bigint); INSERT INTO ns.t VALUES (1)')
    assert session.sql("SELECT * FROM ns.t$files").columns == ["mine"]
    assert session.sql('SELECT * FROM ns."t$files"').columns == ["mine"]
    assert "file_path" in session.sql("SELECT * FROM ns.t.files").columns


def test_only_the_tables_that_are_asked_for_are_looked_at(
    session: ice.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.sql("CREATE NAMESPACE other; CREATE TABLE other.z (id bigint)")
    for number in range(5):
        session.sql(f"CREATE TABLE ns.t{number} (id bigint)")
    listed: list[tuple[str, ...]] = []
    loaded: list[tuple[str, ...]] = []
    real_list, real_load = CatalogClient.list_tables, CatalogClient.load
    monkeypatch.setattr(CatalogClient, "list_tables", lambda self, ns: listed.append(ns) or real_list(self, ns))
    monkeypatch.setattr(CatalogClient, "load", lambda self, t, c=None: loaded.append(t) or real_load(self, t, c))

    def asked(query: str) -> tuple[int, int, int]:
        listed.clear()
        loaded.clear()
        rows = session.sql(query).to_arrow().num_rows
        # A table of the catalog would come first, so its name is looked up.
        return rows, len(set(listed)), len([each for each in loaded if each[0] != "information_schema"])

    assert asked("SELECT * FROM information_schema.tables") == (6, 2, 0)
    assert asked("SELECT * FROM information_schema.tables WHERE table_schema = 'other'") == (1, 1, 0)
    assert asked("SELECT * FROM information_schema.columns WHERE table_schema = 'other'") == (1, 1, 1)
    assert asked("SELECT * FROM information_schema.columns WHERE table_name = 't3'") == (1, 2, 1)


def test_partitions_of_every_type(session: ice.Session) -> None:
    session.sql(
        """CREATE TABLE ns.t (u uuid, tm time, ts timestamp, tz timestamptz, f float, d double, b binary)
        PARTITIONED BY (u, tm, ts, tz, f, d, b)"""
    )
    key, moment = uuid.UUID(int=5), dt.datetime(2024, 1, 1, 12)
    rows = pa.record_batch(
        {
            "u": pa.array([key.bytes, None], pa.binary(16)),
            "tm": pa.array([dt.time(1, 2, 3), None], pa.time64("us")),
            "ts": pa.array([moment, None], pa.timestamp("us")),
            "tz": pa.array([moment, None], pa.timestamp("us", "UTC")),
            "f": pa.array([math.nan, 1.5], pa.float32()),
            "d": pa.array([math.nan, 2.5]),
            "b": pa.array([b"\x00\xff", None]),
        }
    )
    session.writer("ns.t").write_batch(rows)
    session.writer("ns.t").write_batch(rows)
    found = session.sql("SELECT partition FROM ns.t.files WHERE partition.u = ?", params=[str(key)]).fetchall()
    expected = [str(key), dt.time(1, 2, 3), moment, moment.replace(tzinfo=dt.UTC), "nan", "nan", b"\x00\xff"]
    assert len(found) == 2
    for (partition,) in found:
        assert ["nan" if value != value else value for value in partition.values()] == expected  # noqa: PLR0124
    assert session.sql("SELECT count(*) FROM ns.t.files WHERE partition.d > 100").fetchone() == (2,)
    assert session.sql("SELECT count(*) FROM ns.t.files WHERE partition.d < 100").fetchone() == (2,)
    assert session.sql("SELECT count(*) FROM ns.t.partitions").fetchone() == (2,)
    assert session.sql("SHOW PARTITIONS ns.t").fetchall()[1][0] == "u=null/tm=null/ts=null/tz=null/f=1.5/d=2.5/b=null"


def test_partition_fields_of_one_name_are_told_apart(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.p (id INT, k STRING) PARTITIONED BY (bucket(4, id) AS x)")
    session.sql("INSERT INTO ns.p VALUES (1, 'a')")
    session.sql("ALTER TABLE ns.p DROP PARTITION FIELD x, ADD PARTITION FIELD truncate(1, k) AS x")
    session.sql("INSERT INTO ns.p VALUES (2, 'bc')")
    expected = [({"x_1000": None, "x": "b"},), ({"x_1000": 0, "x": None},)]
    for table in ("files", "all_files", "partitions"):
        found = session.sql(f"SELECT partition FROM ns.p.{table} ORDER BY partition.x").fetchall()
        assert found == expected
    assert session.sql("SELECT record_count FROM ns.p.files WHERE partition.x_1000 = 0").fetchall() == [(1,)]
    assert len(session.sql("SELECT * FROM ns.p.entries").fetchall()) == 2


def test_identifier_fields_are_constraints(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t (a int NOT NULL, b string NOT NULL, c int); CREATE TABLE ns.u (a int)")
    with session.catalog.load_table("ns.t").update_schema() as update:
        update.set_identifier_fields("b", "a")
    place = ("default", "ns", "t_identifier", "default", "ns", "t")
    found = session.sql("SELECT * FROM information_schema.table_constraints").fetchall()
    assert found == [(*place, "PRIMARY KEY", "NO")]
    keys = session.sql("SELECT * FROM information_schema.key_column_usage ORDER BY ordinal_position").fetchall()
    assert keys == [(*place, "a", 1), (*place, "b", 2)]
    assert session.sql("SHOW TBLPROPERTIES ns.t ('identifier-fields')").fetchone()[1] == "[a,b]"
    assert "PRIMARY KEY (a, b) NOT ENFORCED" in session.sql("SHOW CREATE TABLE ns.t").fetchone()[0]


# What PyIceberg says of the same tables


@pytest.fixture
def changed(session: ice.Session) -> ice.Session:
    session.sql(
        """CREATE TABLE ns.t (id bigint, p string, d date, f double, s struct<x: int, y: decimal(9, 2)>)
        PARTITIONED BY (p, month(d))"""
    )
    session.sql(
        """INSERT INTO ns.t VALUES (1, 'a', DATE '2024-01-31', 0.5, {'x': 1, 'y': 1.25}),
        (2, NULL, DATE '1969-12-31', NULL, NULL)"""
    )
    session.sql(
        """INSERT INTO ns.t VALUES (3, 'a', DATE '2024-01-01', 2.5, NULL), (5, 'a', DATE '2024-01-01', 3.5, NULL),
        (4, 'b', NULL, NULL, NULL)"""
    )
    session.sql("DELETE FROM ns.t WHERE id = 3", write_mode="merge-on-read")
    session.sql("UPDATE ns.t SET f = 1 WHERE id = 4")
    return session


def _rows(table: pa.Table, columns: list[str]) -> list[str]:
    return sorted(repr([_plain(row[name]) for name in columns]) for row in table.to_pylist())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        # Spark, and so icefusion, writes out bounds that are not there.
        return {key: "null" if inner is None else _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((_plain(inner) for inner in value), key=repr)
    return value.isoformat(timespec="milliseconds")[:23] if hasattr(value, "isoformat") else value


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("snapshots", "snapshots"),
        ("history", "history"),
        ("refs", "refs"),
        ("manifests", "manifests"),
        ("metadata_log_entries", "metadata_log_entries"),
        ("partitions", "partitions"),
        ("files", "files"),
        ("data_files", "data_files"),
        ("delete_files", "delete_files"),
        ("all_files", "all_files"),
        ("entries", "entries"),
    ],
)
def test_pyiceberg_says_the_same(changed: ice.Session, kind: str, method: str) -> None:
    theirs = getattr(changed.catalog.load_table("ns.t").inspect, method)()
    ours = changed.sql(f"SELECT * FROM ns.t.{kind}").to_arrow()
    shared = [name for name in theirs.column_names if name in ours.column_names]
    assert len(shared) >= len(theirs.column_names) - 1
    shared = [name for name in shared if name not in ("readable_metrics", "data_file", "equality_ids")]
    assert ours.num_rows == theirs.num_rows > 0
    assert _rows(ours, shared) == _rows(theirs, shared)
