"""Random histories of data files and delete files, read by the engine and by a model of a few lines."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from delete_writing import commit, deletion_vectors, equality_deletes, position_deletes, rows_file
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType
from query_helpers import make_catalog, plan, run, view_of

from icefusion.bridge.positions import Positions
from icefusion.query import scan
from icefusion.query.engine import Engine
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

Row = dict[str, Any]
SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "p", LongType()),
    NestedField(3, "f", DoubleType()),
    NestedField(4, "s", StringType()),
)
KEYS = [("id",), ("f",), ("s", "f"), ("p", "id"), ("s",)]
FLOATS = [None, math.nan, 0.0, -0.0, 1.5]


def key_of(row: Row, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Values such that those which Iceberg finds equal are equal: NaN and NaN, but not 0.0 and -0.0."""
    return tuple(repr(row[column]) for column in columns)


@dataclass
class Written:
    file: DataFile
    age: int
    spec: int
    partition: Any
    rows: list[Row]


@dataclass
class Deletes:
    """A delete file: what kind it is, and what it deletes."""

    kind: str
    age: int
    spec: int
    partition: Any
    rows: Any
    columns: tuple[str, ...] = ()


@dataclass
class History:
    table: Table
    rng: np.random.Generator
    data: list[Written] = field(default_factory=list)
    deletes: list[Deletes] = field(default_factory=list)

    def live(self, extra: Positions) -> list[tuple[str, int, Row]]:
        return [
            (written.file.file_path, place, row)
            for written in self.data
            for place, row in enumerate(written.rows)
            if (written.file.file_path, place) not in extra and not self.is_deleted(written, place, row)
        ]

    def is_deleted(self, written: Written, place: int, row: Row) -> bool:
        path = written.file.file_path
        vectors = [d for d in self.deletes if d.kind == "vector" and path in d.rows and d.age >= written.age]
        for delete in self.deletes:
            same_partition = (delete.spec, delete.partition) == (written.spec, written.partition)
            if delete.kind == "vector":
                hit = delete in vectors and place in delete.rows[path]
            elif delete.kind == "positions":
                one_file = len({p for p, _ in delete.rows}) == 1
                hit = (one_file or same_partition) and delete.age >= written.age and not vectors
                hit = hit and (path, place) in delete.rows
            else:
                everywhere = delete.spec == 0
                hit = (everywhere or same_partition) and delete.age > written.age
                hit = hit and key_of(row, delete.columns) in delete.rows
            if hit:
                return True
        return False

    # Steps: each gives files to commit, and notes what they mean at an age.

    def random_row(self, partition: Any) -> Row:
        return {
            "id": int(self.rng.integers(0, 30)),
            "p": partition if partition is not None else int(self.rng.integers(0, 3)),
            "f": FLOATS[self.rng.integers(0, len(FLOATS))],
            "s": [None, "", "a", "long enough not to be inlined"][self.rng.integers(0, 4)],
        }

    def new_data(self, age: int) -> list[DataFile]:
        spec = self.table.spec().spec_id
        partition = int(self.rng.integers(0, 3)) if spec else None
        rows = [self.random_row(partition) for _ in range(int(self.rng.integers(1, 40)))]
        record = Record(partition) if spec else Record()
        file = rows_file(self.table, rows, partition=record, spec_id=spec, nan_value_counts={3: 9})
        self.data.append(Written(file, age, spec, partition, rows))
        return [file]

    def some_positions(self, written: Written) -> list[int]:
        size = len(written.rows)
        return sorted(self.rng.choice(size, int(self.rng.integers(1, size + 1)), replace=False).tolist())

    def new_positions(self, age: int) -> list[DataFile]:
        first = self.data[self.rng.integers(0, len(self.data))]
        mates = [w for w in self.data if (w.spec, w.partition) == (first.spec, first.partition)]
        chosen = mates if self.rng.random() < 0.5 else [first]
        rows = [(w.file.file_path, place) for w in chosen for place in self.some_positions(w)]
        bounds = len(chosen) == 1 or self.rng.random() < 0.5
        record = Record(first.partition) if first.spec else Record()
        self.deletes.append(Deletes("positions", age, first.spec, first.partition, set(rows)))
        return [position_deletes(self.table, rows, partition=record, spec_id=first.spec, bounds=bounds)]

    def new_vectors(self, age: int) -> list[DataFile]:
        taken = {path for delete in self.deletes if delete.kind == "vector" for path in delete.rows}
        spec = self.table.spec().spec_id
        free = [w for w in self.data if w.file.file_path not in taken and w.spec == spec]
        chosen = [w for w in free if self.rng.random() < 0.5]
        if not chosen:
            return []
        rows = {w.file.file_path: self.some_positions(w) for w in chosen}
        self.deletes.append(Deletes("vector", age, spec, None, rows))
        record = Record(0) if spec else Record()
        return deletion_vectors(self.table, rows, ranges=self.rng.random() < 0.5, partition=record)

    def new_equality(self, age: int) -> list[DataFile]:
        columns = KEYS[self.rng.integers(0, len(KEYS))]
        everywhere = self.rng.random() < 0.5 or not self.table.spec().spec_id
        spec = 0 if everywhere else self.table.spec().spec_id
        partition = None if everywhere else int(self.rng.integers(0, 3))
        rows = [self.random_row(partition) for _ in range(int(self.rng.integers(1, 4)))]
        keys = {key_of(row, columns) for row in rows}
        self.deletes.append(Deletes("equality", age, spec, partition, keys, columns))
        record = Record() if everywhere else Record(partition)
        picked = [{column: row[column] for column in columns} for row in rows]
        return [equality_deletes(self.table, picked, columns, partition=record, spec_id=spec)]

    def step(self) -> None:
        age = self.table.metadata.last_sequence_number + 1
        files: list[DataFile] = []
        for make, chance in (
            (self.new_data, 0.8),
            (self.new_positions, 0.4),
            (self.new_equality, 0.4),
            (self.new_vectors, 0.15),
            (self.new_data, 0.3),
        ):
            if make == self.new_data or self.data:
                files += make(age) if self.rng.random() < chance else []
        if files:
            self.table = commit(self.table, *files)


def random_history(folder: Path, seed: int, steps: int) -> History:
    catalog = make_catalog(folder)
    table = catalog.create_table("ns.t", SCHEMA, properties={"format-version": "2"})
    history = History(table, np.random.default_rng(seed))
    turn = int(history.rng.integers(0, steps))
    for number in range(steps):
        if number == turn:
            with history.table.update_spec() as update:
                update.add_identity("p")
            history.table = history.table.refresh()
        history.step()
    return history


def plain(row: Row) -> str:
    return repr(sorted(row.items()))


@pytest.mark.parametrize("seed", range(16))
def test_a_random_history_is_read_as_the_model_says(
    tmp_path: Path, engine: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(scan, "MAX_SINGLE_SCANS", 2)
    history = random_history(tmp_path, seed, 10)
    extra = Positions()
    for written in history.data:
        if history.rng.random() < 0.2:
            extra.add(written.file.file_path, history.some_positions(written))
    for deleted in (Positions(), extra):
        live = history.live(deleted)
        view = replace(view_of(history.table), deleted=deleted)
        found = run(engine, "SELECT * FROM ns.t", {"ns.t": view}).to_pylist()
        assert sorted(map(plain, found)) == sorted(plain(row) for _, _, row in live)
        count = run(engine, "SELECT count(*) AS n, max(id) AS m FROM ns.t", {"ns.t": view}).to_pylist()[0]
        assert count == {"n": len(live), "m": max((row["id"] for _, _, row in live), default=None)}
        for condition, keeps in (
            ("id < 7", lambda row: row["id"] < 7),
            ("p = 1", lambda row: row["p"] == 1),
            ("s = 'a' AND p <> 2", lambda row: row["s"] == "a" and row["p"] != 2),
            ("f IS NULL", lambda row: row["f"] is None),
            ("f > 1", lambda row: row["f"] is not None and (math.isnan(row["f"]) or row["f"] > 1)),
        ):
            text = f'SELECT "{FILE_COLUMN}", "{POSITION_COLUMN}", id, p, f, s FROM ns.t WHERE {condition}'
            planned = plan(engine, text, {"ns.t": replace(view, with_identity=True)})
            rows = pa.Table.from_batches(planned.stream(), planned.schema).to_pylist()
            assert sorted(
                (planned.files_by_name[row.pop(FILE_COLUMN)].file.file_path, row.pop(POSITION_COLUMN), plain(row))
                for row in rows
            ) == sorted((path, place, plain(row)) for path, place, row in live if keeps(row)), condition
