"""Delete files of every kind: which rows they take away, and which they do not."""

import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delete_writing import (
    commit,
    deletion_vectors,
    equality_deletes,
    new_path,
    position_deletes,
    rows_file,
    vector_blob,
)
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from query_helpers import plan, run, view_of

from icefusion.bridge.positions import Positions
from icefusion.bridge.schema import FIELD_ID_KEY
from icefusion.errors import OutOfMemoryError, StorageError, UnsupportedStatementError
from icefusion.query import equality
from icefusion.query.deletes import DeleteReader
from icefusion.query.engine import Engine
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

NAN = float("nan")
OTHER_NAN = np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0]


def make_table(catalog: SqlCatalog, *columns: NestedField, **options: Any) -> Table:
    columns = columns or (NestedField(1, "id", LongType()), NestedField(2, "v", LongType()))
    return catalog.create_table("ns.t", Schema(*columns), properties={"format-version": "2"}, **options)


def some_rows(*ids: int) -> list[dict[str, int]]:
    return [{"id": i, "v": i % 3} for i in ids]


def ids(engine: Engine, table: Table, condition: str = "true") -> list[int]:
    return sorted(run(engine, f"SELECT id FROM ns.t WHERE {condition}", {"ns.t": table})["id"].to_pylist())


@pytest.fixture
def pair(catalog: SqlCatalog) -> tuple[Table, DataFile, DataFile]:
    """Two data files, 0 to 9 and 10 to 19, in one snapshot."""
    table = make_table(catalog)
    one, two = rows_file(table, some_rows(*range(10))), rows_file(table, some_rows(*range(10, 20)))
    return commit(table, one, two), one, two


# Positions


def test_position_deletes_take_rows_of_the_files_they_name(pair: Any, engine: Engine) -> None:
    table, one, two = pair
    table = commit(table, position_deletes(table, [(one.file_path, 3), (one.file_path, 7), (two.file_path, 0)]))
    left = [i for i in range(20) if i not in (3, 7, 10)]
    assert ids(engine, table) == left
    assert ids(engine, table, "id > 5") == [i for i in left if i > 5]
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": table}).to_pylist() == [{"n": 17}]
    report = plan(engine, "SELECT * FROM ns.t", {"ns.t": table}).scans[0]
    assert (report.files_read, report.delete_files) == (2, 1)


def test_several_delete_files_add_up(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    for position in (1, 2, 1):
        table = commit(table, position_deletes(table, [(one.file_path, position)]))
    assert ids(engine, table) == [0, *range(3, 20)]


@pytest.mark.parametrize("bounds", [True, False])
def test_position_deletes_reach_files_of_their_own_commit_and_not_younger_ones(
    catalog: SqlCatalog, engine: Engine, bounds: bool
) -> None:
    table = make_table(catalog)
    old, same, young = (rows_file(table, some_rows(*range(n, n + 3))) for n in (0, 10, 20))
    table = commit(table, old)
    paths = [(file.file_path, 1) for file in (old, same, young)]
    table = commit(table, same, position_deletes(table, paths, bounds=bounds))
    table = commit(table, young)
    assert ids(engine, table) == [0, 2, 10, 12, 20, 21, 22]


@pytest.fixture
def partitioned(catalog: SqlCatalog) -> Table:
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "v"))
    return make_table(catalog, partition_spec=spec)


def test_deletes_of_a_partition_stay_in_it(partitioned: Table, engine: Engine) -> None:
    table = partitioned
    files = {v: rows_file(table, [{"id": v * 10 + n, "v": v} for n in range(3)], partition=Record(v)) for v in (0, 1)}
    table = commit(table, *files.values())
    # It names rows of both partitions, which only one of its own may do.
    rows = [(file.file_path, 1) for file in files.values()]
    table = commit(table, position_deletes(table, rows, partition=Record(1)))
    assert ids(engine, table) == [0, 1, 2, 10, 12]


def test_deletes_of_one_file_go_by_its_path(partitioned: Table, engine: Engine) -> None:
    table = partitioned
    file = rows_file(table, [{"id": n, "v": 0} for n in range(4)], partition=Record(0))
    table = commit(table, file)
    table = commit(table, position_deletes(table, [(file.file_path, 0)], partition=Record(5)))
    table = commit(
        table,
        position_deletes(table, [(file.file_path, 1)], partition=Record(5), bounds=False, referenced=file.file_path),
    )
    assert ids(engine, table) == [2, 3]


def test_bounds_that_were_cut_off_lose_no_deletes(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    delete = position_deletes(table, [(one.file_path, 2)])
    short = one.file_path.encode()[:16]
    delete._data[10], delete._data[11] = {2147483546: short}, {2147483546: short}
    assert 2 not in ids(engine, commit(table, delete))


def test_delete_files_among_data_files_count(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    delete = position_deletes(table, [(one.file_path, 2)], bounds=False)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(delete)
    assert ids(engine, table) == [i for i in range(20) if i != 2]


def test_rows_of_delete_files_may_come_in_any_order(pair: Any, engine: Engine) -> None:
    table, one, two = pair
    rows = [(file.file_path, position) for position in (9, 1, 5) for file in (two, one)]
    assert ids(engine, commit(table, position_deletes(table, rows))) == [
        i for i in range(20) if i % 10 not in (9, 1, 5)
    ]


def test_an_older_snapshot_is_without_the_deletes_since(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    before = table.current_snapshot().snapshot_id
    table = commit(table, position_deletes(table, [(one.file_path, 0)]))
    table = commit(table, equality_deletes(table, [{"id": 5}], ["id"]))
    assert ids(engine, view_of(table, snapshot_id=before)) == list(range(20))
    assert ids(engine, table) == [1, 2, 3, 4, *range(6, 20)]


# Deletion vectors


@pytest.mark.parametrize("ranges", [True, False])
def test_deletion_vectors_share_a_file(pair: Any, engine: Engine, ranges: bool) -> None:
    table, one, two = pair
    vectors = deletion_vectors(table, {one.file_path: [0, 9], two.file_path: [5]}, ranges=ranges)
    table = commit(table, *vectors)
    assert ids(engine, table) == [i for i in range(20) if i not in (0, 9, 15)]
    report = plan(engine, "SELECT * FROM ns.t", {"ns.t": table}).scans[0]
    assert report.delete_files == 1


def test_a_deletion_vector_replaces_position_deletes_of_its_file(pair: Any, engine: Engine) -> None:
    table, one, two = pair
    table = commit(table, position_deletes(table, [(one.file_path, 1), (two.file_path, 1)]))
    table = commit(table, *deletion_vectors(table, {one.file_path: [2]}))
    assert ids(engine, table) == [i for i in range(20) if i not in (2, 11)]


def test_a_deletion_vector_does_not_reach_a_younger_file(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog)
    file = rows_file(table, some_rows(1, 2))
    table = commit(table, *deletion_vectors(table, {file.file_path: [0]}))
    assert ids(engine, commit(table, file)) == [1, 2]


# Equality


def test_equality_deletes_reach_only_older_files(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog)
    table = commit(table, rows_file(table, some_rows(1, 2, 3)))
    table = commit(table, rows_file(table, some_rows(2, 4)), equality_deletes(table, [{"id": 2}, {"id": 9}], ["id"]))
    assert ids(engine, table) == [1, 2, 3, 4]
    table = commit(table, rows_file(table, some_rows(3, 4)))
    table = commit(table, equality_deletes(table, [{"id": 3}], ["id"]))
    assert ids(engine, table) == [1, 2, 4, 4]
    assert ids(engine, table, "id = 3") == []
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": table}).to_pylist() == [{"n": 4}]
    assert plan(engine, "SELECT * FROM ns.t WHERE id = 4", {"ns.t": table}).scans[0].delete_files == 2


def test_a_stream_of_changes(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog)
    expected: dict[int, int] = {}
    rng = np.random.default_rng(1)
    for round_number in range(12):
        keys = rng.choice(20, 5, replace=False).tolist()
        rows = [{"id": key, "v": round_number} for key in keys]
        table = commit(table, rows_file(table, rows), equality_deletes(table, [{"id": key} for key in keys], ["id"]))
        expected.update(dict.fromkeys(keys, round_number))
        found = run(engine, "SELECT id, v FROM ns.t ORDER BY id", {"ns.t": table}).to_pylist()
        assert found == [{"id": key, "v": value} for key, value in sorted(expected.items())]


def test_equality_deletes_under_specs(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog, partition_spec=UNPARTITIONED_PARTITION_SPEC)
    table = commit(table, rows_file(table, [{"id": n, "v": n % 2} for n in range(6)]))
    with table.update_spec() as update:
        update.add_identity("v")
    table = table.refresh()
    spec = table.spec().spec_id
    table = commit(
        table, *(rows_file(table, [{"id": n, "v": v} for n in range(6)], partition=Record(v)) for v in (0, 1))
    )
    # Only to the files of its partition, under the same spec.
    table = commit(table, equality_deletes(table, [{"id": 0}], ["id"], partition=Record(1), spec_id=spec))
    assert run(engine, "SELECT * FROM ns.t WHERE id = 0 ORDER BY v", {"ns.t": table}).to_pylist() == [
        {"id": 0, "v": 0},
        {"id": 0, "v": 0},
    ]
    # Everywhere.
    table = commit(table, equality_deletes(table, [{"id": 1}], ["id"], partition=Record(), spec_id=0))
    assert ids(engine, table, "id = 1") == []
    # Both kinds at once, on files of different ages.
    table = commit(table, rows_file(table, [{"id": n, "v": 1} for n in (0, 1)], partition=Record(1)))
    assert ids(engine, table, "id < 2") == [0, 0, 0, 1]
    assert ids(engine, table) == [0, 0, 0, 1, *sorted([2, 3, 4, 5] * 3)]


def test_null_and_nan_are_values_to_delete_by(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog, NestedField(1, "id", LongType()), NestedField(2, "f", DoubleType()))
    values = [None, NAN, OTHER_NAN, 0.0, -0.0, 1.5]
    table = commit(table, rows_file(table, [{"id": n, "f": value} for n, value in enumerate(values)]))
    good = table.metadata.current_snapshot_id
    # What the reference implementation finds equal: NaN and NaN of any kind, but not 0.0 and -0.0.
    for deleted, gone in ((None, {0}), (NAN, {1, 2}), (OTHER_NAN, {1, 2}), (0.0, {3}), (-0.0, {4}), (1.5, {5})):
        both = commit(table, equality_deletes(table, [{"f": deleted}], ["f"]))
        assert set(ids(engine, both)) == set(range(6)) - gone, deleted
        catalog.load_table("ns.t").manage_snapshots().rollback_to_snapshot(good).commit()


def test_statistics_do_not_stand_in_for_nan(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog, NestedField(1, "id", LongType()), NestedField(2, "f", DoubleType()))
    # Of both columns the statistics say that every value is 1.5.
    table = commit(table, rows_file(table, [{"id": 0, "f": NAN}, {"id": 1, "f": 1.5}]))
    table = commit(table, rows_file(table, [{"id": 2, "f": 2.5}]))
    table = commit(table, equality_deletes(table, [{"f": NAN}, {"f": 2.5}], ["f"]))
    assert ids(engine, table) == [1]


def test_several_columns_and_several_sets_of_columns(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(
        catalog, NestedField(1, "id", LongType()), NestedField(2, "s", StringType()), NestedField(3, "f", FloatType())
    )
    rows = [{"id": n, "s": s, "f": f} for n in range(3) for s in ("a", None) for f in (1.0, None)]
    table = commit(table, rows_file(table, rows))
    table = commit(
        table,
        equality_deletes(table, [{"id": 0, "s": None}, {"id": 1, "s": "a"}], ["id", "s"]),
        equality_deletes(table, [{"s": None, "f": None}], ["s", "f"]),
        equality_deletes(table, [{"id": None}], ["id"]),
        equality_deletes(table, [{"id": 2, "s": "a", "f": 1.0}], ["f", "id", "s"]),
    )
    left = [
        row
        for row in rows
        if (row["id"], row["s"]) not in ((0, None), (1, "a"))
        and (row["s"], row["f"]) != (None, None)
        and row != {"id": 2, "s": "a", "f": 1.0}
    ]
    found = run(engine, "SELECT * FROM ns.t", {"ns.t": table}).to_pylist()
    assert sorted(map(repr, found)) == sorted(map(repr, left))


ALL_TYPES = [
    (BooleanType(), [True, False]),
    (IntegerType(), [1, -5]),
    (LongType(), [2**40, -1]),
    (FloatType(), [0.5, NAN]),
    (DoubleType(), [0.25, -0.0]),
    (DecimalType(9, 2), [Decimal("1.10"), Decimal("-5.00")]),
    (DecimalType(38, 5), [Decimal("1.5"), Decimal("99999999999999999999.00001")]),
    (DateType(), [pa.scalar(1, pa.date32()).as_py(), None]),
    (TimeType(), [pa.scalar(1, pa.time64("us")).as_py(), None]),
    (TimestampType(), [pa.scalar(1, pa.timestamp("us")).as_py(), None]),
    (TimestamptzType(), [pa.scalar(1, pa.timestamp("us", "UTC")).as_py(), None]),
    (StringType(), ["", "naïve, and longer than twelve bytes"]),
    (BinaryType(), [b"", b"\x00\xff"]),
    (FixedType(3), [b"abc", b"\x00\x00\x00"]),
    (UUIDType(), [b"0123456789abcdef", b"\x00" * 16]),
]


@pytest.mark.parametrize(("column_type", "values"), ALL_TYPES, ids=lambda value: str(value)[:20])
def test_every_type_can_be_deleted_by(catalog: SqlCatalog, engine: Engine, column_type: Any, values: list[Any]) -> None:
    table = make_table(catalog, NestedField(1, "id", LongType()), NestedField(2, "c", column_type))
    table = commit(table, rows_file(table, [{"id": n, "c": value} for n, value in enumerate([*values, None])]))
    table = commit(table, equality_deletes(table, [{"c": values[0]}, {"c": None}], ["c"]))
    assert ids(engine, table) == ([1] if values[1] is not None else [])


def test_keys_follow_the_columns_through_their_history(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(
        catalog,
        NestedField(1, "id", LongType()),
        NestedField(2, "i", IntegerType()),
        NestedField(3, "f", FloatType()),
        NestedField(4, "d", DecimalType(5, 2)),
        NestedField(5, "gone", StringType()),
    )
    rows = [{"id": n, "i": n, "f": n / 2, "d": Decimal(n), "gone": f"s{n}"} for n in range(8)]
    table = commit(table, rows_file(table, rows))
    table = commit(
        table,
        equality_deletes(table, [{"i": 0}], ["i"]),
        equality_deletes(table, [{"f": 0.5}], ["f"]),
        equality_deletes(table, [{"d": Decimal(2)}], ["d"]),
        equality_deletes(table, [{"gone": "s3"}], ["gone"]),
    )
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.rename_column("i", "renamed")
        update.update_column("f", DoubleType())
        update.update_column("d", DecimalType(12, 2))
        update.delete_column("gone")
        update.add_column("gone", LongType())
        update.add_column("added", LongType())
    table = table.refresh()
    assert ids(engine, table) == [4, 5, 6, 7]
    # Data of the old types, deletes of the new ones.
    table = commit(
        table,
        equality_deletes(table, [{"renamed": 4}], ["renamed"]),
        equality_deletes(table, [{"f": 2.5}], ["f"]),
        equality_deletes(table, [{"d": Decimal(6)}], ["d"]),
    )
    assert ids(engine, table) == [7]
    assert run(engine, "SELECT * FROM ns.t", {"ns.t": table}).column_names == [
        "id",
        "renamed",
        "f",
        "d",
        "gone",
        "added",
    ]
    # A column that the file lacks is NULL, and NULL can be deleted by.
    table = commit(table, rows_file(table, [{"id": 8, "added": 1}]))
    table = commit(table, equality_deletes(table, [{"added": None}], ["added"]))
    assert ids(engine, table) == [8]


def test_a_column_with_an_initial_default_is_compared_by_it(catalog: SqlCatalog, engine: Engine) -> None:
    table = make_table(catalog)
    table = commit(table, rows_file(table, some_rows(1, 2)))
    with table.update_schema() as update:
        update.add_column("c", LongType(), default_value=5)
    table = table.refresh()
    table = commit(table, rows_file(table, [{"id": 3, "v": 0, "c": 6}, {"id": 4, "v": 0, "c": None}]))
    table = commit(table, equality_deletes(table, [{"c": 5}], ["c"]))
    assert ids(engine, table) == [3, 4]


def test_a_value_that_stands_in_the_partition_alone_is_compared(partitioned: Table, engine: Engine) -> None:
    table = partitioned
    data = pa.table({"id": [1, 2]}).cast(pa.schema([pa.field("id", pa.int64(), metadata={FIELD_ID_KEY: "1"})]))
    table = commit(
        table, rows_file(table, data, partition=Record(7)), rows_file(table, some_rows(3), partition=Record(0))
    )
    delete = equality_deletes(table, [{"v": 7, "id": 2}], ["v", "id"], partition=Record(7))
    assert ids(engine, commit(table, delete)) == [1, 3]


def test_many_delete_rows_are_joined_without_being_held(
    catalog: SqlCatalog, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(catalog)
    table = commit(table, rows_file(table, some_rows(*range(100_000))))
    table = commit(table, equality_deletes(table, [{"id": n} for n in range(0, 100_000, 2)], ["id"]))
    assert ids(engine, table) == list(range(1, 100_000, 2))
    monkeypatch.setattr(equality, "MAX_HELD_ROWS", 10)
    assert ids(engine, table) == list(range(1, 100_000, 2))
    with pytest.raises(OutOfMemoryError):
        ids(Engine(threads=2, memory_limit_bytes=200_000), table)


def test_names_are_gone_after_planning_with_equality_deletes(catalog: SqlCatalog) -> None:
    engine = Engine(threads=2)
    table = make_table(catalog)
    table = commit(table, rows_file(table, some_rows(1, 2)))
    table = commit(table, equality_deletes(table, [{"id": 1}], ["id"]))
    assert ids(engine, table) == [2]
    catalogs = [engine._context.catalog(name) for name in engine._context.catalog_names()]
    assert {t for c in catalogs for s in c.schema_names() for t in c.schema(s).table_names()} == set()


# All together


def test_identity_is_that_of_the_file_whatever_was_deleted(pair: Any, engine: Engine) -> None:
    table, one, two = pair
    table = commit(table, position_deletes(table, [(one.file_path, 0), (two.file_path, 3)]))
    table = commit(table, equality_deletes(table, [{"id": 5}, {"id": 16}], ["id"]))
    mine = Positions()
    mine.add(one.file_path, [1])
    view = replace(view_of(table), with_identity=True, deleted=mine)
    planned = plan(engine, f'SELECT "{FILE_COLUMN}" AS f, "{POSITION_COLUMN}" AS p, id FROM ns.t', {"ns.t": view})
    found = pa.Table.from_batches(planned.stream(), planned.schema).to_pylist()
    assert sorted((planned.files_by_name[r["f"]].file.file_path, r["p"], r["id"]) for r in found) == sorted(
        ((one if i < 10 else two).file_path, i % 10, i) for i in range(20) if i not in (0, 13, 5, 16, 1)
    )


def test_deletes_reach_no_file_of_the_open_transaction(pair: Any, engine: Engine) -> None:
    table, _, _ = pair
    table = commit(table, equality_deletes(table, [{"id": 5}], ["id"]))
    view = replace(view_of(table), staged=(rows_file(table, some_rows(5)),))
    assert ids(engine, view, "id = 5") == [5]


def test_statistics_do_not_answer_in_place_of_deletes(pair: Any, engine: Engine) -> None:
    for delete in (position_deletes, equality_deletes):
        table, _, two = pair
        table = table.refresh()
        arguments = ([(two.file_path, 9)],) if delete is position_deletes else ([{"id": 0}], ["id"])
        table = commit(table, delete(table, *arguments))
    text = "SELECT count(*) AS n, min(id) AS low, max(id) AS high, count(id) AS c FROM ns.t"
    assert run(engine, text, {"ns.t": table}).to_pylist() == [{"n": 18, "low": 1, "high": 18, "c": 18}]
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": table}).to_pylist() == [{"n": 18}]
    assert run(engine, "SELECT max(id) AS m FROM ns.t", {"ns.t": table}).to_pylist() == [{"m": 18}]


# What is refused, and what is broken


def test_delete_files_in_other_formats_are_refused_by_name(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    good = table.metadata.current_snapshot_id
    for file_format in (FileFormat.AVRO, FileFormat.ORC):
        delete = position_deletes(table, [(one.file_path, 1)])
        delete._data[2] = file_format
        broken = commit(table, delete)
        with pytest.raises(UnsupportedStatementError, match=f"{file_format.value} format: {delete.file_path}"):
            ids(engine, broken)
        table.manage_snapshots().rollback_to_snapshot(good).commit()


def test_deletes_by_nested_columns_are_refused_by_name(catalog: SqlCatalog, engine: Engine) -> None:
    columns = NestedField(1, "id", LongType()), NestedField(2, "s", StructType(NestedField(3, "x", LongType())))
    table = make_table(catalog, *columns)
    table = commit(table, rows_file(table, [{"id": 1, "s": {"x": 1}}]))
    data = pa.table({"x": [1]}).cast(pa.schema([pa.field("x", pa.int64(), metadata={FIELD_ID_KEY: "3"})]))
    delete = equality_deletes(table, data, ids=[3])
    with pytest.raises(UnsupportedStatementError, match=delete.file_path):
        ids(engine, commit(table, delete))


def test_a_delete_file_that_lacks_its_column_is_an_error(pair: Any, engine: Engine) -> None:
    table, _, _ = pair
    data = pa.table({"x": [1]}).cast(pa.schema([pa.field("x", pa.int64(), metadata={FIELD_ID_KEY: "77"})]))
    delete = equality_deletes(table, data, ids=[1])
    with pytest.raises(StorageError, match="lacks column id"):
        ids(engine, commit(table, delete))


def broken_files(table: Table, path: str) -> list[tuple[str, DataFile]]:
    cases = []
    for name in ("missing", "cut off", "garbage", "too many rows in the manifest"):
        for delete in (
            position_deletes(table, [(path, 1)]),
            equality_deletes(table, [{"id": 1}], ["id"]),
            *deletion_vectors(table, {path: [1]}),
            *deletion_vectors(table, {path: [1]}, ranges=False),
        ):
            file = Path(delete.file_path.removeprefix("file://"))
            if name == "missing":
                file.unlink()
            elif name == "cut off":
                file.write_bytes(file.read_bytes()[:20])
            elif name == "garbage":
                file.write_bytes(b"?" * delete.file_size_in_bytes)
            else:
                delete._data[4] += 1
            cases.append((name, delete))
    return cases


def test_a_broken_delete_file_is_an_error_that_names_it(pair: Any, engine: Engine, catalog: SqlCatalog) -> None:
    table, one, _ = pair
    good = table.metadata.current_snapshot_id
    for name, delete in broken_files(table, one.file_path):
        broken = commit(table, delete)
        with pytest.raises(StorageError, match=delete.file_path) as caught:
            ids(engine, broken)
        assert caught.value.path == delete.file_path, name
        catalog.load_table("ns.t").manage_snapshots().rollback_to_snapshot(good).commit()


def test_a_delete_file_that_vanishes_later_is_an_error(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    deletes = [
        position_deletes(table, [(one.file_path, 1)]),
        equality_deletes(table, [{"id": 2}], ["id"]),
        *deletion_vectors(table, {one.file_path: [3]}),
    ]
    table = commit(table, *deletes)
    ids(engine, table)
    for delete in deletes[1:]:
        path = Path(delete.file_path.removeprefix("file://"))
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(StorageError, match=r"delete file .* is missing"):
            ids(engine, table)
        path.write_bytes(content)


def test_a_wrong_checksum_is_an_error(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    (delete,) = deletion_vectors(table, {one.file_path: [1]})
    path = Path(delete.file_path.removeprefix("file://"))
    content = bytearray(path.read_bytes())
    content[4 + len(vector_blob([1])) - 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="checksum"):
        ids(engine, commit(table, delete))


def test_a_position_no_file_can_have_is_an_error(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    with pytest.raises(StorageError, match="-1"):
        ids(engine, commit(table, position_deletes(table, [(one.file_path, -1)])))


# What is kept


def test_what_was_read_is_kept_up_to_a_size(pair: Any) -> None:
    table, one, two = pair
    table = commit(table, position_deletes(table, [(one.file_path, 1), (two.file_path, 2)]))
    table = commit(table, *deletion_vectors(table, {one.file_path: [3], two.file_path: [4]}))
    engine = Engine(threads=2)
    engine._deletes = reader = DeleteReader(max_bytes=1_000)
    left = [i for i in range(20) if i not in (3, 14)]
    for _ in range(3):
        assert ids(engine, table) == left
    assert 0 < reader._bytes <= 1_000
    failures = []

    def ask() -> None:
        for _ in range(5):
            if ids(engine, table) != left:
                failures.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert reader._bytes <= 1_000


def test_delete_files_without_field_ids_are_read_by_name(pair: Any, engine: Engine) -> None:
    table, one, _ = pair
    delete = position_deletes(table, [(one.file_path, 4)])
    path = new_path(table)
    pq.write_table(pa.table({"pos": [4], "file_path": [one.file_path]}), path)
    delete._data[1], delete._data[5] = f"file://{path}", path.stat().st_size
    assert ids(engine, commit(table, delete)) == [i for i in range(20) if i != 4]
