"""Rows of files written under older schemas, in the table's present shape."""

import datetime as dt
import uuid
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    UUIDType,
)
from query_helpers import add_files, data_file, live_paths, make_query, plan, rows, run, view_of

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.query.engine import Engine
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN

SELECT_ALL = "SELECT * FROM ns.t"


def schema_of(*columns: NestedField) -> Schema:
    return Schema(*columns)


def test_renamed_columns_show_old_rows(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType()), NestedField(2, "b", StringType())))
    table.append(pa.table({"a": [1], "b": ["x"]}))
    with table.update_schema() as update:
        update.rename_column("a", "c")
    table.append(pa.table({"c": [2], "b": ["y"]}))
    assert rows(run(engine, SELECT_ALL, {"ns.t": table})) == [{"c": 1, "b": "x"}, {"c": 2, "b": "y"}]


def test_swapped_names_follow_the_ids(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType()), NestedField(2, "b", LongType())))
    table.append(pa.table({"a": [1], "b": [2]}))
    for old, new in (("a", "z"), ("b", "a"), ("z", "b")):
        with table.update_schema() as update:
            update.rename_column(old, new)
    assert rows(run(engine, SELECT_ALL, {"ns.t": table})) == [{"b": 1, "a": 2}]
    assert run(engine, "SELECT b FROM ns.t WHERE a = 2", {"ns.t": table}).to_pylist() == [{"b": 1}]


def test_a_column_dropped_and_added_again_does_not_show_the_old_values(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType()), NestedField(2, "b", LongType())))
    table.append(pa.table({"a": [1], "b": [10]}))
    with table.update_schema() as update:
        update.delete_column("b")
    with table.update_schema() as update:
        update.add_column("b", LongType())
    table.append(pa.table({"a": [2], "b": [20]}))
    assert rows(run(engine, SELECT_ALL, {"ns.t": table})) == [{"a": 1, "b": None}, {"a": 2, "b": 20}]
    assert run(engine, "SELECT a FROM ns.t WHERE b = 10", {"ns.t": table}).num_rows == 0
    assert run(engine, "SELECT a FROM ns.t WHERE b IS NULL", {"ns.t": table}).to_pylist() == [{"a": 1}]


def test_added_columns_are_null_in_old_rows_or_have_their_default(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType())))
    table.append(pa.table({"a": [1]}))
    with table.update_schema() as update:
        update.add_column("n", StringType())
        update.add_column("i", IntegerType(), default_value=7)
        update.add_column("s", StringType(), default_value="x'y")
        update.add_column("u", UUIDType())
    row = {"a": 1, "n": None, "i": 7, "s": "x'y", "u": None}
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert rows(result) == [row]
    assert result.schema.types == iceberg_to_arrow(table.schema(), field_ids=False).types
    assert run(engine, "SELECT a FROM ns.t WHERE i = 7", {"ns.t": table}).num_rows == 1


def test_reordered_columns_come_in_the_new_order(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType()), NestedField(2, "b", StringType())))
    table.append(pa.table({"a": [1], "b": ["x"]}))
    with table.update_schema() as update:
        update.move_first("b")
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert result.schema.names == ["b", "a"]
    assert result.to_pylist() == [{"b": "x", "a": 1}]


def test_promoted_columns_have_the_new_type_in_all_rows(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table(
        "ns.t",
        schema_of(
            NestedField(1, "i", IntegerType()), NestedField(2, "f", FloatType()), NestedField(3, "d", DecimalType(5, 2))
        ),
    )
    old = {"i": pa.array([1], pa.int32()), "f": pa.array([0.5], pa.float32())}
    table.append(pa.table({**old, "d": pa.array([Decimal("1.25")], pa.decimal128(5, 2))}))
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.update_column("f", DoubleType())
        update.update_column("d", DecimalType(20, 2))
    new = {"i": pa.array([2**40], pa.int64()), "f": pa.array([0.1])}
    table.append(pa.table({**new, "d": pa.array([Decimal("123456789.25")], pa.decimal128(20, 2))}))
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert result.schema.types == [pa.int64(), pa.float64(), pa.decimal128(20, 2)]
    assert rows(result) == [
        {"i": 1, "f": 0.5, "d": Decimal("1.25")},
        {"i": 2**40, "f": 0.1, "d": Decimal("123456789.25")},
    ]
    for condition in ("i = 1", "i < 5", "f = 0.5", "d = 1.25", "f < 0.6 AND i <= 1"):
        result = run(engine, f"SELECT i FROM ns.t WHERE {condition}", {"ns.t": table})
        assert {"i": 1} in result.to_pylist(), condition


NESTED = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "s", StructType(NestedField(3, "x", IntegerType()), NestedField(4, "y", StringType()))),
    NestedField(
        5,
        "l",
        ListType(element_id=6, element=StructType(NestedField(7, "p", IntegerType())), element_required=False),
    ),
    NestedField(
        8,
        "m",
        MapType(
            key_id=9,
            key_type=StringType(),
            value_id=10,
            value_type=StructType(NestedField(11, "q", IntegerType()), NestedField(12, "r", StringType())),
            value_required=False,
        ),
    ),
)


def nested_data(schema: Schema) -> pa.Table:
    data = [
        {"id": 1, "s": {"x": 1, "y": "a"}, "l": [{"p": 1}, None, {"p": None}], "m": [("k", {"q": 1, "r": "b"})]},
        {"id": 2, "s": None, "l": None, "m": None},
        {"id": 3, "s": {"x": None, "y": None}, "l": [], "m": [("k", None)]},
    ]
    return pa.Table.from_pylist(data, schema=iceberg_to_arrow(schema, field_ids=False))


@pytest.fixture
def nested(catalog: SqlCatalog, tmp_path: Path):
    """Written by hand: PyIceberg itself turns NULL lists of structs into empty ones."""
    table = catalog.create_table("ns.t", NESTED)
    with_ids = nested_data(table.schema()).cast(iceberg_to_arrow(table.schema()))
    add_files(table, data_file(table, tmp_path / "nested.parquet", with_ids))
    return table


def test_nested_values_come_back_as_written(nested, engine: Engine) -> None:
    result = run(engine, "SELECT * FROM ns.t ORDER BY id", {"ns.t": nested})
    assert result.to_pylist() == nested_data(nested.schema()).to_pylist()
    assert result.schema.types == iceberg_to_arrow(nested.schema(), field_ids=False).types


def test_renamed_nested_fields_follow_the_ids(nested, engine: Engine) -> None:
    with nested.update_schema() as update:
        update.rename_column("s.x", "z")
        update.rename_column("l.p", "pp")
        update.rename_column("m.value.q", "qq")
    result = run(engine, "SELECT * FROM ns.t ORDER BY id", {"ns.t": nested}).to_pylist()
    assert [row["s"] for row in result] == [{"z": 1, "y": "a"}, None, {"z": None, "y": None}]
    assert [row["l"] for row in result] == [[{"pp": 1}, None, {"pp": None}], None, []]
    assert [row["m"] for row in result] == [[("k", {"qq": 1, "r": "b"})], None, [("k", None)]]
    assert run(engine, "SELECT id FROM ns.t WHERE s['z'] = 1", {"ns.t": nested}).to_pylist() == [{"id": 1}]


def test_nested_fields_are_added_promoted_and_reordered(nested, engine: Engine) -> None:
    with nested.update_schema() as update:
        update.add_column(("s", "n"), StringType())
        update.move_first("s.n")
        update.update_column("l.p", LongType())
        update.add_column(("m", "n"), IntegerType())
    result = run(engine, "SELECT * FROM ns.t ORDER BY id", {"ns.t": nested})
    found = result.to_pylist()
    assert [row["s"] for row in found] == [{"n": None, "x": 1, "y": "a"}, None, {"n": None, "x": None, "y": None}]
    assert [row["l"] for row in found] == [[{"p": 1}, None, {"p": None}], None, []]
    assert [row["m"] for row in found] == [[("k", {"q": 1, "r": "b", "n": None})], None, [("k", None)]]
    assert result.schema.types == iceberg_to_arrow(nested.schema(), field_ids=False).types


def test_a_nested_field_dropped_and_added_again_does_not_show_the_old_values(nested, engine: Engine) -> None:
    with nested.update_schema() as update:
        update.delete_column("s.x")
    with nested.update_schema() as update:
        update.add_column(("s", "x"), IntegerType())
    result = run(engine, "SELECT s FROM ns.t ORDER BY id", {"ns.t": nested}).to_pylist()
    assert [row["s"] for row in result] == [{"y": "a", "x": None}, None, {"y": None, "x": None}]


def test_a_struct_whose_parts_are_all_new_still_knows_which_rows_are_null(nested, engine: Engine) -> None:
    with nested.update_schema() as update:
        update.add_column(("s", "n"), StringType())
        update.delete_column("s.x")
        update.delete_column("s.y")
    result = run(engine, "SELECT s FROM ns.t ORDER BY id", {"ns.t": nested}).to_pylist()
    assert [row["s"] for row in result] == [{"n": None}, None, {"n": None}]


def test_old_and_new_nested_shapes_are_read_together(nested, engine: Engine, tmp_path: Path) -> None:
    with nested.update_schema() as update:
        update.rename_column("s.x", "z")
    newer = pa.Table.from_pylist([{"id": 9, "s": {"z": 5, "y": "n"}}], schema=iceberg_to_arrow(nested.schema()))
    add_files(nested, data_file(nested, tmp_path / "newer.parquet", newer))
    result = run(engine, "SELECT id, s FROM ns.t WHERE s IS NOT NULL ORDER BY id", {"ns.t": nested}).to_pylist()
    assert [row["s"] for row in result] == [{"z": 1, "y": "a"}, {"z": None, "y": None}, {"z": 5, "y": "n"}]


def test_names_with_quotes_dots_and_spaces_are_read(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    odd = 'A "b" c?'
    table = catalog.create_table("ns.t", schema_of(NestedField(1, odd, LongType()), NestedField(2, "Ünï", LongType())))
    data = pa.table({odd: [1], "Ünï": [2]}).cast(iceberg_to_arrow(table.schema()))
    add_files(table, data_file(table, tmp_path / "odd %20 [x]*?.parquet", data))
    assert run(engine, SELECT_ALL, {"ns.t": table}).to_pylist() == [{odd: 1, "Ünï": 2}]


PARTITIONED = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "day", DateType()),
    NestedField(3, "u", UUIDType()),
    NestedField(4, "s", StringType()),
    NestedField(5, "d", DecimalType(9, 2)),
    NestedField(6, "ts", TimestampType()),
)
IDENTITIES = PartitionSpec(
    *(
        PartitionField(field.field_id, 1000 + field.field_id, IdentityTransform(), f"p_{field.name}")
        for field in PARTITIONED.fields[1:]
    )
)


def test_identity_partition_columns_missing_in_a_file_come_from_its_partition(
    catalog: SqlCatalog, engine: Engine, tmp_path: Path
) -> None:
    table = catalog.create_table("ns.t", PARTITIONED, partition_spec=IDENTITIES)
    key = uuid.UUID(int=7)
    values = (18262, key.bytes, "x", Decimal("1.50"), 1577836800000000)
    with_ids = pa.table({"id": [1]}).cast(pa.schema([iceberg_to_arrow(table.schema()).field("id")]))
    add_files(
        table,
        data_file(table, tmp_path / "a.parquet", with_ids, partition=Record(*values)),
        data_file(table, tmp_path / "b.parquet", with_ids, partition=Record(None, None, None, None, None)),
    )
    first = {
        "id": 1,
        "day": dt.date(2020, 1, 1),
        "u": key,
        "s": "x",
        "d": Decimal("1.50"),
        "ts": dt.datetime(2020, 1, 1),
    }
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert rows(result) == sorted([first, {name: 1 if name == "id" else None for name in first}], key=repr)
    assert result.schema.types == iceberg_to_arrow(table.schema(), field_ids=False).types
    assert run(engine, "SELECT id FROM ns.t WHERE day = DATE '2020-01-01'", {"ns.t": table}).num_rows == 1
    assert run(engine, "SELECT id FROM ns.t WHERE day = DATE '2021-01-01'", {"ns.t": table}).num_rows == 0


def test_the_files_own_values_win_over_the_partition(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    schema = schema_of(NestedField(1, "id", LongType()))
    table = catalog.create_table(
        "ns.t", schema, partition_spec=PartitionSpec(PartitionField(1, 1000, BucketTransform(4), "b"))
    )
    data = pa.table({"id": [5]}).cast(iceberg_to_arrow(table.schema()))
    add_files(table, data_file(table, tmp_path / "a.parquet", data, partition=Record(2)))
    assert run(engine, SELECT_ALL, {"ns.t": table}).to_pylist() == [{"id": 5}]


def test_files_without_ids_are_read_by_the_names_of_the_schema(
    catalog: SqlCatalog, engine: Engine, tmp_path: Path
) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType()), NestedField(2, "b", StringType())))
    add_files(table, data_file(table, tmp_path / "plain.parquet", pa.table({"b": ["x"], "other": [0]})))
    assert run(engine, SELECT_ALL, {"ns.t": table}).to_pylist() == [{"a": None, "b": "x"}]


def test_files_without_ids_are_read_through_the_name_mapping(
    catalog: SqlCatalog, engine: Engine, tmp_path: Path
) -> None:
    table = catalog.create_table(
        "ns.t",
        schema_of(NestedField(1, "a", LongType()), NestedField(2, "s", StructType(NestedField(3, "x", LongType())))),
        properties={
            "schema.name-mapping.default": '[{"field-id": 1, "names": ["A1", "a"]},'
            ' {"field-id": 2, "names": ["s"], "fields": [{"field-id": 3, "names": ["old_x"]}]}]'
        },
    )
    add_files(table, data_file(table, tmp_path / "1.parquet", pa.table({"A1": [1], "s": [{"old_x": 5}]})))
    add_files(table, data_file(table, tmp_path / "2.parquet", pa.table({"a": [2], "s": [{"x": 6}]})))
    assert rows(run(engine, SELECT_ALL, {"ns.t": table})) == [{"a": 1, "s": {"x": 5}}, {"a": 2, "s": {"x": None}}]


def test_odd_physical_types_are_read_as_the_tables_types(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    table = catalog.create_table(
        "ns.t",
        schema_of(
            NestedField(1, "s", StringType()),
            NestedField(2, "l", ListType(element_id=4, element=StringType(), element_required=False)),
            NestedField(3, "ts", TimestampType()),
        ),
    )
    moment = dt.datetime(2020, 1, 1, 12)
    data = pa.table(
        {
            "s": pa.array(["a", None]).dictionary_encode(),
            "l": pa.array([["x", None], None], pa.large_list(pa.large_string())),
            "ts": pa.array([moment, None], pa.timestamp("ms")),
        }
    )
    add_files(table, data_file(table, tmp_path / "odd.parquet", data))
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert result.schema.types == iceberg_to_arrow(table.schema(), field_ids=False).types
    assert result.to_pylist() == [{"s": "a", "l": ["x", None], "ts": moment}, {"s": None, "l": None, "ts": None}]


def test_an_earlier_snapshot_is_shown_in_its_own_schema(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table(
        "ns.t",
        schema_of(NestedField(1, "a", LongType()), NestedField(2, "ts", TimestampType())),
        partition_spec=PartitionSpec(PartitionField(2, 1000, DayTransform(), "d")),
    )
    moment = dt.datetime(2020, 1, 1)
    table.append(pa.table({"a": [1], "ts": pa.array([moment], pa.timestamp("us"))}))
    first = table.metadata.current_snapshot_id
    with table.update_spec() as spec:
        spec.remove_field("d")
    with table.update_schema() as update:
        update.rename_column("a", "b")
        update.delete_column("ts")
    table.append(pa.table({"b": [2]}))
    old = view_of(table, snapshot_id=first)
    condition = "WHERE a = 1 AND ts >= TIMESTAMP '2020-01-01' AND ts < TIMESTAMP '2020-01-02'"
    assert run(engine, f"SELECT * FROM ns.t {condition}", {"ns.t": old}).to_pylist() == [{"a": 1, "ts": moment}]
    assert rows(run(engine, "SELECT * FROM ns.t WHERE b > 0", {"ns.t": table})) == [{"b": 1}, {"b": 2}]


def test_a_table_without_snapshots_has_its_schema_and_no_rows(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", PARTITIONED)
    result = run(engine, SELECT_ALL, {"ns.t": table})
    assert result.num_rows == 0
    assert result.schema.types == iceberg_to_arrow(table.schema(), field_ids=False).types
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": table}).to_pylist() == [{"n": 0}]


def test_staged_files_are_read_with_the_snapshot(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType())))
    table.append(pa.table({"a": [1]}))
    data = pa.table({"a": [2]}).cast(iceberg_to_arrow(table.schema()))
    staged = view_of(table, staged=(data_file(table, tmp_path / "staged.parquet", data),))
    assert rows(run(engine, SELECT_ALL, {"ns.t": staged})) == [{"a": 1}, {"a": 2}]
    assert rows(run(engine, SELECT_ALL, {"ns.t": table})) == [{"a": 1}]


def test_row_identity_names_the_file_and_the_position(catalog: SqlCatalog, engine: Engine) -> None:
    table = catalog.create_table("ns.t", schema_of(NestedField(1, "a", LongType())))
    table.append(pa.table({"a": list(range(100))}))
    table.append(pa.table({"a": list(range(100, 150))}))
    view = view_of(table)
    planned = plan(engine, SELECT_ALL, {"ns.t": replace(view, with_identity=True)})
    found = pa.Table.from_batches(planned.stream()).to_pylist()
    assert {planned.files_by_name[row[FILE_COLUMN]].file.file_path for row in found} == {
        f"file://{p}" for p in live_paths(table)
    }
    assert all(row[POSITION_COLUMN] == (row["a"] if row["a"] < 100 else row["a"] - 100) for row in found)


def test_the_query_helper_finds_its_names() -> None:
    query, _ = make_query('SELECT t.a FROM ns.t JOIN "ns"."T" ON 1', {"ns.t": 1, '"ns"."T"': 2})
    assert [query.text[r.start : r.end] for r in query.tables] == ["ns.t", '"ns"."T"']


def test_parts_of_map_values_are_promoted_dropped_and_reordered(nested, engine: Engine) -> None:
    with nested.update_schema() as update:
        update.update_column("m.value.q", LongType())
        update.move_first("m.value.r")
    found = run(engine, "SELECT m FROM ns.t ORDER BY id", {"ns.t": nested}).to_pylist()
    assert [row["m"] for row in found] == [[("k", {"r": "b", "q": 1})], None, [("k", None)]]
    with nested.update_schema() as update:
        update.delete_column("m.value.r")
    result = run(engine, "SELECT m FROM ns.t ORDER BY id", {"ns.t": nested})
    assert [row["m"] for row in result.to_pylist()] == [[("k", {"q": 1})], None, [("k", None)]]
    assert result.schema.types == [iceberg_to_arrow(nested.schema(), field_ids=False).field("m").type]
