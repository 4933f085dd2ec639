"""Deletes in S3: delete files are read through the table's own file access, and rows are known by their keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delete_writing import commit, deletion_vectors, equality_deletes, position_deletes
from places import Place
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from query_helpers import plan, view_of

import icefusion
from icefusion.query.engine import Engine
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

pytestmark = pytest.mark.seaweedfs

ODD_NAMES = ["a b", "50%", "%20", "x+y", "ü/ß", "q=1&r", "*?", "#frag", "'quoted\"", "dot.", "~tilde", "日本"]


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("seaweedfs")


def uploaded(table: Table, *files: DataFile) -> list[DataFile]:
    """Delete files that were written beside the tests, put where the table is."""
    places: dict[str, str] = {}
    for file in files:
        local = Path(file.file_path.removeprefix("file://"))
        if file.file_path not in places:
            # The server wants no files in a table whose names end in anything else.
            places[file.file_path] = f"{table.location()}/data/deletes-{local.stem}.parquet"
            with table.io.new_output(places[file.file_path]).create() as stream:
                stream.write(local.read_bytes())
        file._data[1] = places[file.file_path]
    return list(files)


def test_deletes_of_every_kind_are_read(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr("delete_writing.new_path", lambda _, end="parquet": tmp_path / f"{next(numbers)}.{end}")
    name = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {name} (id BIGINT, name STRING)")
        for first in (0, 10):
            rows = pa.table({"id": range(first, first + 10), "name": ["x"] * 10})
            session.sql(f"INSERT INTO {name} SELECT * FROM rows", rows=rows)
        table = place.pyiceberg().load_table(name)
        one, two = sorted(
            (task.file for task in table.scan().plan_files()), key=lambda file: min(first_ids(table, file))
        )
        commit(table, *uploaded(table, position_deletes(table, [(one.file_path, 1), (two.file_path, 2)])))
        table = place.pyiceberg().load_table(name)
        commit(table, *uploaded(table, *deletion_vectors(table, {one.file_path: [3], two.file_path: [4]})))
        table = place.pyiceberg().load_table(name)
        commit(table, *uploaded(table, equality_deletes(table, [{"id": 0}, {"id": 19}], ["id"])))
        found = [i for (i,) in session.sql(f"SELECT id FROM {name} ORDER BY id").fetchall()]
        assert found == [i for i in range(20) if i not in (3, 14, 0, 19)]
        table = place.pyiceberg().load_table(name)
        delete = uploaded(table, equality_deletes(table, [{"id": 5}], ["id"]))[0]
        commit(table, delete)
        place.pyiceberg().load_table(name).io.delete(delete.file_path)
        with pytest.raises(icefusion.StorageError, match=r"delete file .* is missing"):
            session.sql(f"SELECT id FROM {name}").fetchall()


def first_ids(table: Table, file: DataFile) -> list[int]:
    with table.io.new_input(file.file_path).open() as stream:
        return pq.read_table(stream)["id"].to_pylist()


def test_rows_are_known_by_their_keys(place: Place) -> None:
    name = f"{place.namespace}.t"
    with place.connect() as session:
        session.sql(f"CREATE NAMESPACE {place.namespace}")
        session.sql(f"CREATE TABLE {name} (id BIGINT, name STRING) PARTITIONED BY (name)")
        rows = pa.table({"id": range(len(ODD_NAMES)), "name": ODD_NAMES})
        session.sql(f"INSERT INTO {name} SELECT * FROM rows", rows=rows)
    table = place.pyiceberg().load_table(name)
    view = replace(view_of(table), with_identity=True)
    planned = plan(Engine(threads=2), f'SELECT "{FILE_COLUMN}", "{POSITION_COLUMN}", name FROM ns.t', {"ns.t": view})
    found = pa.Table.from_batches(planned.stream(), planned.schema).to_pylist()
    assert len(found) == len(ODD_NAMES)
    for row in found:
        assert planned.files_by_name[row[FILE_COLUMN]].file.partition[0] == row["name"]
        assert row[POSITION_COLUMN] == 0
