"""Where rows lie, and rows that a transaction has deleted, removed with their file, or left out of one scan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from query_helpers import add_files, data_file, make_query, plan, run, view_of

from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.errors import BindError
from icefusion.query.engine import Engine
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN, TableView
from icefusion.query.survivors import Survivors, _of_files

IDENTITY = f'"{FILE_COLUMN}", "{POSITION_COLUMN}"'


class Model:
    """The same rows in Python: for each row its file, its place in it, and its values."""

    def __init__(self, table: Table, files: list[tuple[str, pa.Table]]) -> None:
        self.table = table
        self.rows = [(path, place, row) for path, data in files for place, row in enumerate(data.to_pylist())]
        self.sizes = {path: data.num_rows for path, data in files}

    def live(self, deleted: Positions) -> list[tuple[str, int, dict[str, Any]]]:
        return [row for row in self.rows if row[:2] not in deleted]

    def some_deleted(self, rng: np.random.Generator, share: float) -> Positions:
        deleted = Positions()
        for path, size in self.sizes.items():
            deleted.add(path, rng.choice(size, int(size * share), replace=False))
        return deleted


def make_model(catalog: SqlCatalog, folder: Path, sizes: list[int], row_group_size: int) -> Model:
    rng = np.random.default_rng(7)
    table = catalog.create_table("ns.t", pa.schema([("id", pa.int64()), ("v", pa.float64()), ("s", pa.string())]))
    arrow = iceberg_to_arrow(table.schema())
    files = []
    described = []
    start = 0
    for number, size in enumerate(sizes):
        data = pa.table(
            {
                "id": np.arange(start, start + size),
                "v": rng.integers(0, 50, size).astype(float),
                "s": [f"{value:04}" for value in rng.integers(0, 5000, size)],
            }
        ).cast(arrow)
        start += size
        path = folder / "data files" / f"{number} %20?#&+é.parquet"
        described.append(data_file(table, path, data))
        pq.write_table(data, path, row_group_size=row_group_size, data_page_size=2_000)
        described[-1]._data[5] = path.stat().st_size
        files.append((described[-1].file_path, data))
    add_files(table, *described)
    return Model(catalog.load_table("ns.t"), files)


@pytest.fixture(params=["few files", "many files", "a file that is split", "no native lists"])
def case(request: Any, tmp_path: Path, catalog: SqlCatalog) -> tuple[Engine, Model]:
    sizes, row_group_size = {
        "few files": ([1000, 10, 3000], 500),
        "many files": ([30 + n % 7 for n in range(80)], 10),
        "a file that is split": ([400_000, 5], 20_000),
        "no native lists": ([500, 600], 200),
    }[request.param]
    engine = Engine(threads=4, native_file_lists=request.param != "no native lists")
    if request.param == "a file that is split":
        engine._context.sql("SET datafusion.optimizer.repartition_file_min_size = 1000")
    return engine, make_model(catalog, tmp_path, sizes, row_group_size)


def as_view(model: Model, **fields: Any) -> TableView:
    return replace(view_of(model.table), **fields)


def test_deleted_rows_are_in_no_answer(case: tuple[Engine, Model]) -> None:
    engine, model = case
    rng = np.random.default_rng(3)
    for share in (0.01, 0.5, 1):
        deleted = model.some_deleted(rng, share)
        names = {"ns.t": as_view(model, deleted=deleted), "keys": pa.table({"k": [1, 3, 5, 7]})}
        live = [row for _, _, row in model.live(deleted)]
        ids = sorted(row["id"] for row in live)
        assert len(ids) == len(model.rows) - len(deleted)

        def ask(text: str, names: dict[str, Any] = names) -> list[tuple[Any, ...]]:
            return [tuple(row.values()) for row in run(engine, text, names).to_pylist()]

        assert ask("SELECT count(*) FROM ns.t") == [(len(ids),)]
        assert ask("SELECT count(id), min(id), max(id) FROM ns.t") == [
            (len(ids), min(ids, default=None), max(ids, default=None))
        ]
        assert sorted(ask("SELECT id FROM ns.t")) == [(i,) for i in ids]
        assert sorted(ask("SELECT * FROM ns.t"), key=lambda r: r[0]) == [tuple(row.values()) for row in live]
        assert sorted(ask("SELECT id FROM ns.t WHERE v < 5")) == [(r["id"],) for r in live if r["v"] < 5]
        assert sorted(ask("SELECT id FROM ns.t WHERE id >= 20 AND s LIKE '%7'")) == [
            (r["id"],) for r in live if r["id"] >= 20 and r["s"].endswith("7")
        ]
        assert len(ask("SELECT s FROM ns.t LIMIT 7")) == min(7, len(ids))
        assert ask("SELECT id FROM ns.t ORDER BY id DESC LIMIT 3") == [(i,) for i in ids[::-1][:3]]
        assert ask("SELECT id FROM ns.t ORDER BY id LIMIT 3 OFFSET 2") == [(i,) for i in ids[2:5]]
        sums: dict[float, int] = {}
        for row in live:
            sums[row["v"]] = sums.get(row["v"], 0) + row["id"]
        assert dict(ask("SELECT v, sum(id) FROM ns.t GROUP BY v")) == sums
        assert sorted(ask("SELECT t.id FROM ns.t t JOIN keys ON t.v = keys.k")) == [
            (r["id"],) for r in live if r["v"] in (1, 3, 5, 7)
        ]
        assert ask("SELECT count(*) FROM ns.t a JOIN ns.t b ON a.id = b.id") == [(len(ids),)]


def test_identity_is_where_the_row_lies_in_its_file(case: tuple[Engine, Model]) -> None:
    engine, model = case
    deleted = model.some_deleted(np.random.default_rng(4), 0.3)
    for view in (as_view(model, with_identity=True), as_view(model, with_identity=True, deleted=deleted)):
        live = model.live(view.deleted)
        for condition, keeps in (
            ("true", lambda row: True),
            ("v < 3", lambda row: row["v"] < 3),
            ("id > 25 AND s > '2'", lambda row: row["id"] > 25 and row["s"] > "2"),
        ):
            planned = plan(engine, f"SELECT {IDENTITY}, id FROM ns.t WHERE {condition}", {"ns.t": view})
            found = pa.Table.from_batches(planned.stream(), planned.schema)
            assert sorted(
                (planned.files_by_name[name].file.file_path, place, i)
                for name, place, i in zip(*(column.to_pylist() for column in found.columns), strict=True)
            ) == sorted((path, place, row["id"]) for path, place, row in live if keeps(row))


def test_identity_can_be_grouped_filtered_and_joined(case: tuple[Engine, Model]) -> None:
    engine, model = case
    view = as_view(model, with_identity=True)
    planned = plan(engine, f'SELECT "{FILE_COLUMN}", count(*) FROM ns.t GROUP BY 1', {"ns.t": view})
    counts = {planned.files_by_name[row[0]].file.file_path: row[1] for row in _tuples(planned)}
    assert counts == model.sizes
    third = [row["id"] for _, place, row in model.rows if place == 3]
    planned = plan(engine, f'SELECT id FROM ns.t WHERE "{POSITION_COLUMN}" = 3 ORDER BY id', {"ns.t": view})
    assert [i for (i,) in _tuples(planned)] == third
    source = pa.table({"k": [1, 2, 3]})
    text = f"SELECT {IDENTITY}, k FROM src JOIN ns.t ON k = id ORDER BY k"
    planned = plan(engine, text, {"ns.t": view, "src": source})
    expected = [(path, place, row["id"]) for path, place, row in model.rows if row["id"] in (1, 2, 3)]
    assert [(planned.files_by_name[name].file.file_path, p, k) for name, p, k in _tuples(planned)] == expected


def test_views_leave_out_what_they_are_told(case: tuple[Engine, Model]) -> None:
    engine, model = case
    first, second = list(model.sizes)[:2]
    everything = [row["id"] for _, _, row in model.rows]
    of_first = {row["id"] for path, _, row in model.rows if path == first}

    def ids(**fields: Any) -> list[int]:
        return sorted(run(engine, "SELECT id FROM ns.t", {"ns.t": as_view(model, **fields)})["id"].to_pylist())

    assert ids() == everything
    assert ids(only=frozenset({first})) == sorted(of_first)
    assert ids(only=frozenset()) == []
    assert ids(removed=frozenset({first})) == [i for i in everything if i not in of_first]
    deleted, excluded = Positions(), Positions()
    deleted.add(first, [0, 2])
    excluded.add(first, [2, 3])
    excluded.add(second, [1])
    gone = {row["id"] for path, place, row in model.rows if (path, place) in deleted.union(excluded)}
    assert ids(deleted=deleted, excluded=excluded) == [i for i in everything if i not in gone]
    assert ids(deleted=deleted, removed=frozenset({first}), only=frozenset({first})) == []


def test_deletes_reach_the_files_of_the_open_transaction(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    table = catalog.create_table("ns.t", pa.schema([("id", pa.int64())]))
    table.append(pa.table({"id": [1, 2]}))
    staged = data_file(
        table, tmp_path / "new.parquet", pa.table({"id": [3, 4, 5]}).cast(iceberg_to_arrow(table.schema()))
    )
    deleted = Positions()
    deleted.add(staged.file_path, [1])
    view = replace(view_of(table), staged=(staged,), deleted=deleted)
    found = run(engine, "SELECT id FROM ns.t ORDER BY id", {"ns.t": view})
    assert found["id"].to_pylist() == [1, 2, 3, 5]
    (own,) = table.inspect.files()["file_path"].to_pylist()
    # A file that waits may be one that the snapshot has had: what was removed is of the snapshot alone.
    view = replace(view, removed=frozenset({own, staged.file_path}))
    assert run(engine, "SELECT id FROM ns.t ORDER BY id", {"ns.t": view})["id"].to_pylist() == [3, 5]


def test_one_name_cannot_stand_for_two_views(case: tuple[Engine, Model]) -> None:
    engine, model = case
    first = next(iter(model.sizes))
    deleted = Positions()
    deleted.add(first, [1])
    query, (one, _) = make_query("SELECT 1 FROM ns.t a, ns.t b", {"ns.t": as_view(model)})
    with pytest.raises(BindError, match="two things"):
        engine.plan(query, [one, as_view(model, deleted=deleted)])
    engine.plan(query, [as_view(model, deleted=deleted), as_view(model, deleted=deleted.copy())])


def test_positions_are_sets_of_rows() -> None:
    rows = Positions()
    assert not rows
    assert rows.add("a", np.array([3, 1, 3])) == 2
    assert rows.add("a", np.array([1, 2], np.uint32)) == 1
    assert rows.add("b", []) == 0
    copy = rows.copy()
    assert copy.add("a", [9]) == 1
    assert copy.add("b", [0]) == 1
    assert (len(rows), len(copy), rows.count("a"), rows.count("b")) == (3, 5, 3, 0)
    assert rows.array("a").tolist() == [1, 2, 3]
    assert (rows.paths(), set(copy.paths())) == (("a",), {"a", "b"})
    assert rows.union(copy) == copy
    assert copy.without(frozenset({"b"})).paths() == ("a",)
    assert ("a", 9) in copy
    assert ("a", 9) not in rows
    with pytest.raises(ValueError, match="-1"):
        rows.add("a", [-1])
    with pytest.raises(ValueError, match="4294967296"):
        rows.add("a", [2**32])
    assert rows.get("c") is None


def _tuples(planned: Any) -> list[tuple[Any, ...]]:
    table = pa.Table.from_batches(planned.stream(), planned.schema)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_positions_of_a_batch_are_looked_up_in_any_order() -> None:
    rng = np.random.default_rng(5)
    for _ in range(500):
        size, rows = int(rng.integers(1, 3000)), int(rng.integers(0, 300))
        deleted = np.sort(rng.choice(size, int(rng.integers(1, size + 1)), replace=False)).astype(np.uint32)
        in_order = np.arange(rows) + int(rng.integers(0, size))
        batch = in_order if rng.random() < 0.5 else rng.permutation(size * int(rng.integers(1, 40)))[:rows]
        found = Survivors(deleted).among(pa.array(batch, pa.int64())).to_pylist()
        assert found == (~np.isin(batch, deleted)).tolist()


@pytest.mark.parametrize("share", [2, 200, 20_000])
def test_positions_of_batch_after_batch_are_looked_up(share: int) -> None:
    rng = np.random.default_rng(share)
    rows = 700_000
    deleted = np.flatnonzero(rng.random(rows) < 1 / share).astype(np.uint32)
    survivors = Survivors(deleted)
    for _ in range(60):
        start, count = int(rng.integers(0, rows + 100_000)), int(rng.integers(1, 140_000))
        batch = np.arange(start, start + count)
        if rng.random() < 0.3:  # two pieces in the place of each other: as many as between the ends, in another order
            third = count // 3
            batch = np.concatenate([batch[:third], batch[2 * third :][::-1], batch[third : 2 * third]])
        elif rng.random() < 0.3:
            batch = np.delete(batch, count // 2)
        found = survivors.among(pa.array(batch, pa.int64())).to_numpy(zero_copy_only=False)
        assert np.array_equal(found, ~np.isin(batch, deleted))


def test_positions_of_many_files_are_looked_up_run_by_run() -> None:
    deleted = {"a": np.array([0, 2], np.uint32), "b": np.array([1], np.uint32)}
    lives = _of_files(deleted)
    names = pa.array(["a", "a", "b", "b", "a", "b"])
    assert lives(names, pa.array([0, 1, 0, 1, 2, 2])).to_pylist() == [False, True, True, False, False, True]
    assert lives(names[:0], pa.array([], pa.int64())).to_pylist() == []
    with pytest.raises(KeyError):
        lives(pa.array(["c"]), pa.array([0]))
