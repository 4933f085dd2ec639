"""Tables in S3, read by DataFusion's own client: odd names, many files, and credentials told apart."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from datafusion import SessionContext
from places import Place
from pyiceberg.io import load_file_io

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
