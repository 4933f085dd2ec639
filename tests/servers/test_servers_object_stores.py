"""Tables in S3, read by DataFusion's own client: odd names, many files, and credentials told apart."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext
from places import Place
from pyiceberg.io import load_file_io

from icefusion.errors import SchemaError, StorageError
from icefusion.query.filelist import FileScanner

pytestmark = pytest.mark.seaweedfs

ODD_NAMES = ["a b", "50%", "%20", "x+y", "ü/ß", "q=1&r", "*?", "#frag", "'quoted\"", "dot.", "~tilde", "日本"]


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("seaweedfs")


def test_partitions_of_any_name_are_read_back_by_both(place: Place) -> None:
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} (id BIGINT, name STRING) PARTITIONED BY (name)")
        rows = pa.table({"id": range(len(ODD_NAMES)), "name": ODD_NAMES})
        session.sql(f"INSERT INTO {table} SELECT * FROM rows", rows=rows)
        found = session.sql(f"SELECT name FROM {table} ORDER BY id").fetchall()
        assert [name for (name,) in found] == ODD_NAMES
        for number, name in enumerate(ODD_NAMES):
            assert session.sql(f"SELECT id FROM {table} WHERE name = ?", [name]).fetchall() == [(number,)]
    theirs = place.pyiceberg().load_table(table).scan().to_arrow()
    assert sorted(theirs["name"].to_pylist()) == sorted(ODD_NAMES)


def test_one_bucket_is_read_with_the_credentials_of_each_table(place: Place) -> None:
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} AS SELECT 5 AS id")
    (task,) = place.pyiceberg().load_table(table).scan().plan_files()
    path = task.file.file_path
    good = load_file_io(dict(place.properties), path)
    bad = load_file_io({**place.properties, "s3.secret-access-key": "wrong"}, path)
    scanner = FileScanner(SessionContext())
    schema = pa.schema([("id", pa.int64())])
    urls = [scanner.stores.places([path], io)[0].url for io in (good, bad, good)]
    assert urls[0] == urls[2] != urls[1]
    assert scanner.scan(urls[:1], schema).to_pydict() == {"id": [5]}
    with pytest.raises(Exception, match=r"(?i)denied|forbidden|signature|403"):
        scanner.scan(urls[1:2], schema).to_pydict()
    assert scanner.scan(urls[2:], schema).to_pydict() == {"id": [5]}


def test_files_in_the_store_are_tables_of_a_query(place: Place) -> None:
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} AS SELECT 5 AS id")
        folder = f"s3://lake/{place.namespace}"
        io = load_file_io(dict(place.properties), folder)
        texts = {"y=1/a b%20.csv": "id,n\n1,x\n", "y=2/b.csv": "id,n\n2,y\n", "c.jsonl": '{"id": 3}\n'}
        for name, text in texts.items():
            with io.new_output(f"{folder}/{name}").create() as file:
                file.write(text.encode())
        with io.new_output(f"{folder}/y=1/d[1].parquet").create() as file:
            pq.write_table(pa.table({"id": [4], "f": [float("nan")]}), file)
        csv = f"SELECT id, n, y FROM read_csv('{folder}/*/*.csv') ORDER BY id"
        assert session.sql(csv).fetchall() == [(1, "x", 1), (2, "y", 2)]
        assert session.sql(f"SELECT * FROM '{folder}/**/c.jsonl'").fetchall() == [(3,)]
        path = f"{folder}/y=?/d?1?.parquet"
        assert session.sql("SELECT id FROM read_parquet(?) WHERE f > 5", [path]).fetchall() == [(4,)]
        session.sql(f"INSERT INTO {table} SELECT id FROM read_csv('{folder}/y=2/b.csv')")
        assert sorted(session.sql(f"FROM {table}").fetchall()) == [(2,), (5,)]
        for path, problem in {f"{folder}/no.csv": "no file", f"{folder}/*.csv": "no file matches"}.items():
            with pytest.raises(StorageError, match=problem):
                session.sql(f"FROM '{path}'")


def test_files_in_the_store_become_part_of_a_table(place: Place) -> None:
    table = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {table} (id BIGINT, day DATE) PARTITIONED BY (day)")
        folder = f"s3://lake/{place.namespace}/theirs"
        io = load_file_io(dict(place.properties), folder)
        for number, name in enumerate(("day=2024-05-01/a b.parquet", "day=2024-05-02/%20[1].parquet", "_x.parquet")):
            with io.new_output(f"{folder}/{name}").create() as file:
                pq.write_table(pa.table({"id": [number]}), file)
        call = f"CALL system.add_files('{table}', '`parquet`.`{folder}`')"
        assert session.sql(call).fetchall() == [(2, 2)]
        assert session.sql(f"SELECT id, CAST(day AS STRING) FROM {table} ORDER BY id").fetchall() == [
            (0, "2024-05-01"),
            (1, "2024-05-02"),
        ]
        with pytest.raises(SchemaError, match="already"):
            session.table(table).add_files(f"{folder}/*/a*.parquet")
    theirs = place.pyiceberg().load_table(table).scan().to_arrow()
    assert sorted(theirs["id"].to_pylist()) == [0, 1]
