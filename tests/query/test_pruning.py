"""Files are left out where they cannot hold a wanted row, and only there."""

import datetime as dt
import math
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)
from query_helpers import add_files, data_file, make_catalog, plan, rows, run

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.errors import StorageError, UnsupportedStatementError
from icefusion.query.engine import Engine

NAN = float("nan")
MINUS_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0]


def files_read(engine: Engine, text: str, table: Table, params: dict[str, Any] | None = None) -> int:
    return plan(engine, text, {"ns.t": table}, params).scans[0].files_read


@pytest.fixture(scope="module")
def tens(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Ten files of ten rows, each column growing with id, in one snapshot each."""
    catalog = make_catalog(tmp_path_factory.mktemp("tens"))
    schema = Schema(
        NestedField(1, "id", LongType()),
        NestedField(2, "s", StringType()),
        NestedField(3, "ts", TimestampType()),
        NestedField(4, "tz", TimestamptzType()),
        NestedField(5, "day", DateType()),
        NestedField(6, "dec", DecimalType(10, 2)),
        NestedField(7, "st", StructType(NestedField(8, "x", LongType()))),
        NestedField(9, "flag", BooleanType()),
        NestedField(10, "n", LongType()),
    )
    table = catalog.create_table("ns.t", schema)
    start = dt.datetime(2020, 1, 1)
    for number in range(10):
        ids = range(number * 10, number * 10 + 10)
        data = {
            "id": list(ids),
            "s": [f"s{i:03}" for i in ids],
            "ts": [start + dt.timedelta(hours=i * 2.4) for i in ids],
            "tz": [(start + dt.timedelta(hours=i * 2.4)).replace(tzinfo=dt.UTC) for i in ids],
            "day": [(start + dt.timedelta(days=i)).date() for i in ids],
            "dec": [str(i) for i in ids],
            "st": [{"x": i} for i in ids],
            "flag": [number == 3] * 10,
            "n": [None] * 10 if number == 5 else list(ids),
        }
        arrow = iceberg_to_arrow(table.schema(), field_ids=False)
        data["dec"] = pa.array(data["dec"]).cast(pa.decimal128(10, 2))
        table.append(pa.table(data, schema=arrow))
    return table


@pytest.mark.parametrize(
    ("condition", "files"),
    [
        ("id = 55", 1),
        ("id > 55 AND id < 57", 1),
        ("id BETWEEN 18 AND 21", 2),
        ("id IN (1, 2, 95)", 2),
        ("id IN (1, 2, 3, 4, 5, 95)", 2),
        ("id = 5 OR id = 95", 2),
        ("NOT (id < 90)", 1),
        ("NOT (id < 90 AND id > 5)", 2),
        ("id = CAST('55' AS bigint)", 1),
        ("id > 1000", 0),
        ("id < 99999999999999999999", 10),
        ("55 = id", 1),
        ("id + 1 = 56", 10),
        ("id + 1 = 56 AND id < 60", 6),
        ("id + 1 = 56 OR id < 60", 10),
        ("s = 's042'", 1),
        ("s LIKE 's04%'", 1),
        ("s LIKE 's04_'", 1),
        ("s LIKE '%4'", 10),
        ("s NOT LIKE 's04%'", 10),
        ("starts_with(s, 's04')", 1),
        ("s ILIKE 'S04%'", 10),
        ("ts < TIMESTAMP '2020-01-02'", 1),
        ("ts >= '2020-01-10 00:00:00'", 1),
        ("CAST(ts AS date) = DATE '2020-01-03'", 1),
        ("CAST(ts AS date) > DATE '2020-01-08'", 2),
        ("tz >= '2020-01-10T00:00:00Z'", 1),
        ("tz >= TIMESTAMP '2020-01-10 00:00:00'", 1),
        ("day = DATE '2020-01-15'", 1),
        ("day > '2020-03-25'", 2),
        ("dec = 55", 1),
        ("dec > 94.5", 1),
        ("dec = 1.005", 10),
        ("st['x'] = 55", 10),  # PyIceberg writes no bounds of nested columns
        ("flag", 1),
        ("NOT flag", 9),
        ("flag IS TRUE", 1),
        ("flag IS NOT TRUE", 9),
        ("n IS NULL", 1),
        ("n IS NOT NULL", 9),
        ("n IS NOT DISTINCT FROM 55", 0),
        ("n IS NOT DISTINCT FROM NULL", 1),
        ("id = NULL", None),
    ],
)
def test_a_condition_reads_the_files_that_it_may_find_rows_in(
    tens: Table, engine: Engine, condition: str, files: int | None
) -> None:
    text = f"SELECT id FROM ns.t WHERE {condition}"
    if files is not None:
        assert files_read(engine, text, tens) <= files
    everything = run(engine, "SELECT * FROM ns.t", {"ns.t": tens})
    assert rows(run(engine, text, {"ns.t": tens})) == rows(run(engine, text, {"ns.t": everything}))


@pytest.mark.parametrize(("value", "files"), [(55, 1), (None, 10)])
def test_bound_values_prune(tens: Table, engine: Engine, value: int | None, files: int) -> None:
    text = "SELECT id FROM ns.t WHERE id = $v"
    assert files_read(engine, text, tens, {"v": value}) <= files
    assert run(engine, text, {"ns.t": tens}, {"v": value}).num_rows == (value is not None)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a.id FROM ns.t a LEFT JOIN ns.t b ON a.id = b.id AND b.id > 95 WHERE a.id < 3",
        "SELECT a.id, b.id AS o FROM ns.t a FULL JOIN ns.t b ON a.id = b.id + 95 AND a.id > 5",
        "SELECT id FROM ns.t WHERE id > 97 UNION ALL SELECT id FROM ns.t WHERE id < 2",
        "SELECT id FROM ns.t WHERE id < 3 AND id NOT IN (SELECT id FROM ns.t WHERE id > 1)",
        "SELECT id FROM ns.t WHERE id = (SELECT max(id) FROM ns.t WHERE id < 50)",
        "SELECT (SELECT max(id) FROM ns.t) AS m, id FROM ns.t WHERE id = 3",
        "SELECT id FROM ns.t a WHERE EXISTS (SELECT 1 FROM ns.t b WHERE b.id = a.id + 50 AND b.id > 97)",
        "WITH c AS (SELECT * FROM ns.t) SELECT x.id FROM c x, c y WHERE x.id = 1 AND y.id = 99",
        "SELECT count(*) AS n FROM ns.t WHERE false",
        "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS r FROM ns.t) WHERE r = 3 AND id > 1",
        "SELECT id FROM ns.t ORDER BY id DESC LIMIT 3",
        "SELECT sum(id) FILTER (WHERE id > 90) AS a, count(*) AS c FROM ns.t",
        "SELECT id FROM ns.t EXCEPT SELECT id FROM ns.t WHERE id > 3",
        "SELECT id, CASE WHEN id > 50 THEN 1 END AS c FROM ns.t WHERE CASE WHEN id > 50 THEN true ELSE id < 2 END",
    ],
)
def test_a_table_that_is_read_twice_keeps_what_any_reference_wants(tens: Table, engine: Engine, text: str) -> None:
    everything = run(engine, "SELECT * FROM ns.t", {"ns.t": tens})
    assert rows(run(engine, text, {"ns.t": tens})) == rows(run(engine, text, {"ns.t": everything}))


def test_a_join_condition_prunes_the_other_side(tens: Table, engine: Engine) -> None:
    planned = plan(
        engine, "SELECT 1 FROM ns.t JOIN ns.o ON ns.t.id = ns.o.id WHERE ns.o.id = 5", {"ns.t": tens, "ns.o": tens}
    )
    assert [scan.files_read for scan in planned.scans] == [1, 1]


def test_the_report_says_what_was_left_out(tens: Table, engine: Engine) -> None:
    report = plan(engine, "SELECT id FROM ns.t WHERE id = 5", {"ns.t": tens}).scans[0]
    sizes = [task.file.file_size_in_bytes for task in tens.scan(row_filter="id = 5").plan_files()]
    assert (report.table, report.snapshot_id) == ("ns.t", tens.metadata.current_snapshot_id)
    assert (report.manifests_total, report.files_total, report.files_read) == (10, 10, 1)
    assert report.bytes_read == sum(sizes)


@pytest.fixture
def partitioned(catalog: SqlCatalog) -> Table:
    """Three rows, by day, bucket and truncation, without column metrics: only partitions prune."""
    schema = Schema(
        NestedField(1, "ts", TimestampType()), NestedField(2, "id", LongType()), NestedField(3, "s", StringType())
    )
    spec = PartitionSpec(
        PartitionField(1, 1000, DayTransform(), "d"),
        PartitionField(2, 1001, BucketTransform(1000), "b"),
        PartitionField(3, 1002, TruncateTransform(1), "c"),
    )
    properties = {"write.metadata.metrics.default": "none"}
    table = catalog.create_table("ns.t", schema, partition_spec=spec, properties=properties)
    moments = [dt.datetime(2020, 1, day, 5) for day in (1, 2, 3)]
    arrow = iceberg_to_arrow(schema, field_ids=False)
    table.append(pa.table({"ts": moments, "id": [1, 2, 3], "s": ["ab", "bc", "cd"]}, schema=arrow))
    return table


@pytest.mark.parametrize(
    ("condition", "files"),
    [
        ("ts >= '2020-01-02' AND ts < '2020-01-03'", 1),
        ("CAST(ts AS date) = DATE '2020-01-02'", 1),
        ("id = 2", 1),
        ("id IN (1, 3)", 2),
        ("s LIKE 'b%'", 1),
        ("s = 'bc'", 1),
        ("s > 'bz'", 2),
        ("id > 2", 3),
    ],
)
def test_partitions_prune(partitioned: Table, engine: Engine, condition: str, files: int) -> None:
    text = f"SELECT id FROM ns.t WHERE {condition}"
    assert files_read(engine, text, partitioned) == files
    everything = run(engine, "SELECT * FROM ns.t", {"ns.t": partitioned})
    assert rows(run(engine, text, {"ns.t": partitioned})) == rows(run(engine, text, {"ns.t": everything}))


def test_manifests_are_left_out_by_their_summaries(partitioned: Table, engine: Engine) -> None:
    later = {"ts": [dt.datetime(2021, 1, 1)], "id": [9], "s": ["x"]}
    partitioned.append(pa.table(later, schema=iceberg_to_arrow(partitioned.schema(), field_ids=False)))
    report = plan(engine, "SELECT id FROM ns.t WHERE ts > '2020-12-01'", {"ns.t": partitioned}).scans[0]
    assert (report.manifests_total, report.manifests_read, report.files_read) == (2, 1, 1)


def test_files_of_an_older_spec_prune_by_their_own(partitioned: Table, engine: Engine) -> None:
    with partitioned.update_spec() as update:
        update.remove_field("d")
        update.remove_field("b")
        update.add_field("id", IdentityTransform(), "id_value")
    later = {"ts": [dt.datetime(2021, 1, 1)], "id": [9], "s": ["x"]}
    partitioned.append(pa.table(later, schema=iceberg_to_arrow(partitioned.schema(), field_ids=False)))
    assert files_read(engine, "SELECT id FROM ns.t WHERE id = 9", partitioned) == 1
    assert files_read(engine, "SELECT id FROM ns.t WHERE ts < '2020-01-02'", partitioned) == 2
    assert run(engine, "SELECT id FROM ns.t WHERE ts < '2020-01-02'", {"ns.t": partitioned}).to_pylist() == [{"id": 1}]


def float_file(table: Table, path: Path, values: list[float | None], **stats: Any) -> DataFile:
    data = pa.table({"f": values, "g": values}, schema=iceberg_to_arrow(table.schema()))
    return data_file(table, path, data, **stats)


def bounds(low: float, high: float) -> dict[str, Any]:
    return {
        "lower_bounds": {1: struct.pack("<d", low), 2: struct.pack("<f", low)},
        "upper_bounds": {1: struct.pack("<d", high), 2: struct.pack("<f", high)},
    }


@pytest.fixture
def floats(catalog: SqlCatalog) -> Table:
    return catalog.create_table("ns.t", Schema(NestedField(1, "f", DoubleType()), NestedField(2, "g", FloatType())))


FLOAT_QUERIES = [
    "SELECT {c} FROM ns.t WHERE {c} > 5",
    "SELECT {c} FROM ns.t WHERE {c} >= 5",
    "SELECT {c} FROM ns.t WHERE {c} < 5",
    "SELECT {c} FROM ns.t WHERE {c} <> 2",
    "SELECT {c} FROM ns.t WHERE {c} = 'NaN'",
    "SELECT {c} FROM ns.t WHERE NOT ({c} < 5)",
    "SELECT {c} FROM ns.t WHERE {c} NOT IN (1, 2)",
    "SELECT {c} FROM ns.t WHERE isnan({c})",
    "SELECT max({c}) AS m FROM ns.t",
    "SELECT min({c}) AS m, count(*) AS n FROM ns.t WHERE {c} > 0.1",
]


@pytest.mark.parametrize("column", ["f", "g"])
@pytest.mark.parametrize("text", FLOAT_QUERIES)
@pytest.mark.parametrize("counts", [{}, {"nan_value_counts": {1: 1, 2: 1}}], ids=["unknown", "counted"])
def test_nan_is_found_as_in_memory(
    floats: Table, engine: Engine, tmp_path: Path, column: str, text: str, counts: dict[str, Any]
) -> None:
    values = [1.0, NAN, 2.0]
    add_files(floats, float_file(floats, tmp_path / "nan.parquet", values, **bounds(1, 2), **counts))
    clean = {"nan_value_counts": {1: 0, 2: 0}}
    add_files(floats, float_file(floats, tmp_path / "clean.parquet", [2.0, None], **bounds(2, 2), **clean))
    text = text.format(c=column)
    memory = pa.table({"f": [*values, 2.0, None], "g": [*values, 2.0, None]}, schema=iceberg_to_arrow(floats.schema()))
    assert rows(run(engine, text, {"ns.t": floats})) == rows(run(engine, text, {"ns.t": memory}))


@pytest.mark.parametrize("values", [[NAN, 0.1], [0.1, NAN, 0.1], [NAN, NAN]])
def test_nan_beside_a_single_value_is_not_read_as_that_value(
    floats: Table, engine: Engine, tmp_path: Path, values: list[float]
) -> None:
    add_files(floats, float_file(floats, tmp_path / "nan.parquet", values))
    result = run(engine, "SELECT f, g FROM ns.t", {"ns.t": floats})
    for column in ("f", "g"):
        assert [math.isnan(value) for value in result[column].to_pylist()] == [math.isnan(value) for value in values]
    assert run(engine, "SELECT count(*) AS n FROM ns.t WHERE f = 'NaN'", {"ns.t": floats})["n"][0].as_py() == sum(
        math.isnan(value) for value in values
    )


def test_files_without_nan_prune_beside_files_with_it(floats: Table, engine: Engine, tmp_path: Path) -> None:
    clean = {"nan_value_counts": {1: 0, 2: 0}}
    add_files(floats, float_file(floats, tmp_path / "1.parquet", [1.0], **bounds(1, 1), **clean))
    add_files(
        floats, float_file(floats, tmp_path / "2.parquet", [NAN, 1.0], **bounds(1, 1), nan_value_counts={1: 1, 2: 1})
    )
    assert files_read(engine, "SELECT f FROM ns.t WHERE f > 5", floats) == 1
    assert files_read(engine, "SELECT f FROM ns.t WHERE f = 5", floats) == 0
    plain = "SELECT f FROM ns.t WHERE f = 1"
    assert "pruning_predicate" in plan(engine, plain, {"ns.t": floats}).explain()


def test_an_identity_partition_of_nan_is_kept(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "p"))
    table = catalog.create_table("ns.t", Schema(NestedField(1, "f", DoubleType())), partition_spec=spec)
    for number, value in enumerate((1.0, NAN)):
        data = pa.table({"f": [value]}, schema=iceberg_to_arrow(table.schema()))
        add_files(table, data_file(table, tmp_path / f"{number}.parquet", data, partition=Record(value)))
    found = run(engine, "SELECT f FROM ns.t WHERE f > 5", {"ns.t": table}).column("f").to_pylist()
    assert len(found) == 1
    assert math.isnan(found[0])


COLUMNS = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-3, 3),
        "f": st.none() | st.sampled_from([NAN, MINUS_NAN, -math.inf, math.inf, -0.0, 0.0, 1.5, -1.5, 0.1]),
        "g": st.none() | st.sampled_from([NAN, math.inf, -0.0, 0.0, 0.5, 1.25]),
        "s": st.none() | st.text(alphabet="ab%_\\é", max_size=3),
        "b": st.none() | st.booleans(),
        "ts": st.none() | st.datetimes(dt.datetime(1969, 12, 30), dt.datetime(1970, 1, 3)),
        "d": st.none() | st.decimals(-3, 3, places=2),
    }
)
HYPOTHESIS_SCHEMA = Schema(
    NestedField(1, "i", LongType()),
    NestedField(2, "f", DoubleType()),
    NestedField(3, "g", FloatType()),
    NestedField(4, "s", StringType()),
    NestedField(5, "b", BooleanType()),
    NestedField(6, "ts", TimestampType()),
    NestedField(7, "d", DecimalType(9, 2)),
)


def comparisons() -> st.SearchStrategy[str]:
    operators = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
    negation = st.sampled_from(["", "NOT "])
    plain_numbers = ["-2", "0", "1", "1.5", "-0.0", "0.1", "2.005", "NULL"]
    numbers = st.sampled_from([*plain_numbers, "'NaN'", "1e300"])
    # DataFusion itself is of two minds about -0.0 in a list: its IN compares bits, its pruning of row groups does not.
    listed = [number for number in plain_numbers if number != "-0.0"]
    lists = st.lists(st.sampled_from(listed), min_size=1, max_size=6).map(", ".join)
    columns = st.sampled_from(["i", "f", "g", "d"])
    texts = st.sampled_from(["''", "'a'", "'ab'", "'é'", "'a%'", "NULL"])
    patterns = st.sampled_from(["'a%'", "'%a'", "'a_'", "'a'", r"'\%%'"])
    stamps = st.sampled_from(["TIMESTAMP '1970-01-01'", "'1969-12-31 12:00:00.5'", "now()", "NULL"])
    others = ["b", "b = true", "b <> true", "b IS TRUE", "b IS NOT FALSE", "b IS UNKNOWN", "i + 1 > 1", "abs(f) > 1"]
    return st.one_of(
        st.builds("({} {} {})".format, columns, operators, numbers),
        st.builds("({2} {1} {0})".format, columns, operators, numbers),
        st.builds("(s {} {})".format, operators, texts),
        st.builds("s {}LIKE {}".format, negation, patterns),
        st.builds("(ts {} {})".format, operators, stamps),
        st.builds("(CAST(ts AS date) {} DATE '1970-01-01')".format, operators),
        st.builds("{} {}IN ({})".format, columns, negation, lists),
        st.builds("{} IS {}NULL".format, st.sampled_from(["i", "f", "s", "b", "ts", "d"]), negation),
        st.sampled_from(others),
    )


CONDITIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT {})".format, inner),
        st.builds("(({}) IS NOT TRUE)".format, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    files=st.lists(st.lists(COLUMNS, min_size=1, max_size=3), min_size=1, max_size=3),
    conditions=st.lists(CONDITIONS, min_size=8, max_size=8),
)
def test_pruning_never_loses_a_row(
    tmp_path_factory: pytest.TempPathFactory, engine: Engine, files: list[list[dict[str, Any]]], conditions: list[str]
) -> None:
    catalog = make_catalog(tmp_path_factory.mktemp("random"))
    table = catalog.create_table("ns.t", HYPOTHESIS_SCHEMA)
    arrow = iceberg_to_arrow(HYPOTHESIS_SCHEMA, field_ids=False)
    parts = [pa.Table.from_pylist(part, schema=arrow) for part in files]
    with table.transaction() as transaction:
        for part in parts:
            transaction.append(part)
    memory = pa.concat_tables(parts)
    for condition in conditions:
        text = f"SELECT * FROM ns.t WHERE {condition}"
        try:
            expected = rows(run(engine, text, {"ns.t": memory}))
        except Exception as exc:
            with pytest.raises(type(exc)):
                run(engine, text, {"ns.t": table})
            continue
        assert rows(run(engine, text, {"ns.t": table})) == expected, condition
    catalog.close()


def test_other_file_formats_are_refused_by_name(catalog: SqlCatalog, engine: Engine, tmp_path: Path) -> None:
    table = catalog.create_table("ns.t", Schema(NestedField(1, "id", LongType())))
    file = data_file(table, tmp_path / "x.orc", pa.table({"id": [1]}))
    file._data[2] = type(file.file_format).ORC
    add_files(table, file)
    with pytest.raises(UnsupportedStatementError, match=r"ns\.t has data files in ORC format"):
        run(engine, "SELECT * FROM ns.t", {"ns.t": table})


def test_a_missing_manifest_is_named(tens: Table, tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path)
    table = catalog.create_table("ns.t", Schema(NestedField(1, "id", LongType())))
    table.append(pa.table({"id": [1]}))
    manifest = table.current_snapshot().manifests(table.io)[0].manifest_path
    Path(manifest.removeprefix("file://")).unlink()
    with pytest.raises(StorageError, match="manifest") as caught:
        run(Engine(threads=1), "SELECT * FROM ns.t", {"ns.t": table})
    assert caught.value.path == manifest
    catalog.close()
