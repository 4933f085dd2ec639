"""Partitioned and sorted tables: every row in its partition, in order, whatever the memory."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
)
from pyiceberg.utils.datetime import date_to_days, datetime_to_micros
from writing import EVENTS, EVERY_TYPE, event_rows, every_type_rows, read, same_rows, stored_files, target, write

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.write.routing import group_rows

SPEC = PartitionSpec(
    PartitionField(2, 1000, DayTransform(), "ts_day"), PartitionField(1, 1001, BucketTransform(4), "id_bucket")
)
BY_X = SortOrder(SortField(3, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_LAST), order_id=7)
SMALL = 200_000
"""A memory limit that some ten thousand rows exceed."""


def by(source_id: int, transform: Transform[Any, Any]) -> PartitionSpec:
    return PartitionSpec(PartitionField(source_id, 1000, transform, "p"))


def schema_of(kind: Any) -> Schema:
    return Schema(NestedField(1, "id", LongType()), NestedField(2, "v", kind))


def key_of(value: Any) -> str:
    return "nan" if isinstance(value, float) and math.isnan(value) else repr(value)


CASES: dict[str, tuple[Any, Transform[Any, Any], st.SearchStrategy[Any]]] = {
    "identity long": (LongType(), IdentityTransform(), st.integers(-3, 3)),
    "identity double": (DoubleType(), IdentityTransform(), st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.5])),
    "identity string": (StringType(), IdentityTransform(), st.sampled_from(["", "é/=&", "a b", "x"])),
    "identity date": (DateType(), IdentityTransform(), st.dates()),
    "identity decimal": (DecimalType(9, 2), IdentityTransform(), st.sampled_from([Decimal("-0.01"), Decimal("9.99")])),
    "bucket long": (LongType(), BucketTransform(5), st.integers(-(2**63), 2**63 - 1)),
    "bucket string": (StringType(), BucketTransform(5), st.text(max_size=5)),
    "truncate long": (LongType(), TruncateTransform(10), st.integers(-100, 100)),
    "truncate string": (StringType(), TruncateTransform(2), st.text("aé🐢", max_size=4)),
    "year date": (DateType(), YearTransform(), st.dates()),
    "month date": (DateType(), MonthTransform(), st.dates()),
    "day timestamp": (TimestampType(), DayTransform(), st.datetimes()),
    "hour timestamp": (
        TimestampType(),
        HourTransform(),
        st.datetimes(dt.datetime(1960, 1, 1), dt.datetime(1980, 1, 1)),
    ),
    "void": (LongType(), VoidTransform(), st.integers(0, 3)),
}


@given(data=st.data(), name=st.sampled_from(sorted(CASES)))
@settings(max_examples=60, deadline=None)
def test_rows_are_routed_as_pyiceberg_transforms_them(data: st.DataObject, name: str) -> None:
    kind, transform, strategy = CASES[name]
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=20))
    schema = schema_of(kind)
    rows = pa.table({"id": range(len(values)), "v": values}, schema=iceberg_to_arrow(schema))
    apply = transform.transform(kind)
    expected: dict[str, list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        stored = value
        if isinstance(value, dt.datetime):
            stored = datetime_to_micros(value)
        elif isinstance(value, dt.date):
            stored = date_to_days(value)
        expected[key_of(apply(stored))].append(number)
    with TemporaryDirectory() as folder:
        result = write(rows, target(Path(folder), schema, spec=by(2, transform)))
        found = {key_of(file.partition[0]): read([file])["id"].to_pylist() for file in result.files}
    assert found == expected
    assert result.report.partitions == len(expected)


@pytest.mark.parametrize("order", [None, BY_X], ids=["unsorted", "sorted"])
@pytest.mark.parametrize("spec", [PartitionSpec(), SPEC], ids=["unpartitioned", "partitioned"])
@pytest.mark.parametrize("limit", [None, SMALL, 2_000_000])
@pytest.mark.parametrize("streams", [1, 5])
def test_all_rows_come_back(
    tmp_path: Path, spec: PartitionSpec, order: SortOrder | None, limit: int | None, streams: int
) -> None:
    rows = event_rows(30_000)
    to = target(tmp_path, EVENTS, spec=spec, **({"order": order} if order else {}))
    result = write(rows, to, streams=streams, memory_limit_bytes=limit)
    assert same_rows(read(result.files), rows)
    assert result.report.rows == 30_000
    assert sorted(Path(file.file_path) for file in result.files) == stored_files(tmp_path)


def test_a_partition_is_one_file_in_a_folder_of_its_name(tmp_path: Path) -> None:
    result = write(event_rows(20_000, days=3), target(tmp_path, EVENTS, spec=SPEC), streams=3)
    partitions = {tuple(file.partition[i] for i in range(2)): file for file in result.files}
    assert len(partitions) == len(result.files) == 16  # three days and NULL, four buckets
    folder = Path(partitions[1, 2].file_path).parent
    assert folder == tmp_path / "t" / "data" / "ts_day=1970-01-02" / "id_bucket=2"


def test_spilled_partitions_are_still_one_file(tmp_path: Path) -> None:
    result = write(event_rows(30_000), target(tmp_path, EVENTS, spec=SPEC), memory_limit_bytes=SMALL)
    assert result.report.spilled_bytes > 500_000
    assert len(result.files) == result.report.partitions == 104


def test_temporary_files_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    result = write(event_rows(30_000), target(tmp_path, EVENTS, spec=SPEC), memory_limit_bytes=SMALL)
    assert result.report.spilled_bytes > 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_fanout_property_limits_the_memory(tmp_path: Path) -> None:
    to = target(tmp_path, EVENTS, spec=SPEC, properties={"write.icefusion.fanout-memory-bytes": "100000"})
    assert write(event_rows(30_000), to).report.spilled_bytes > 500_000


def test_large_partitions_are_written_while_rows_come_in_instead_of_spilled(tmp_path: Path) -> None:
    spec = by(1, TruncateTransform(15_000))
    result = write(event_rows(30_000), target(tmp_path, EVENTS, spec=spec), memory_limit_bytes=2_000_000)
    assert result.report.partitions == 2
    assert result.report.spilled_bytes == 0
    assert any(len(file.split_offsets or []) > 1 for file in result.files)


def test_what_is_small_beside_large_partitions_stays_in_one_file(tmp_path: Path) -> None:
    rows = event_rows(30_000)
    ids = np.where(np.arange(30_000) % 50 == 0, np.arange(30_000) // 50, 10**9)
    rows = rows.set_column(0, rows.schema.field("id"), pa.array(ids))
    spec = by(1, IdentityTransform())
    result = write(rows, target(tmp_path, EVENTS, spec=spec), memory_limit_bytes=1_000_000)
    small = [file for file in result.files if file.partition[0] != 10**9]
    assert len(small) == len({file.partition[0] for file in small}) == 600
    assert same_rows(read(result.files), rows)


def test_one_partition_uses_all_threads(tmp_path: Path) -> None:
    rows = pa.concat_tables([event_rows(250_000, seed=i) for i in range(4)])
    result = write(rows, target(tmp_path, EVENTS, spec=by(2, YearTransform())), threads=2)
    large = [file for file in result.files if file.record_count > 100_000]
    assert [file.partition[0] for file in large] == [0, 0]
    assert abs(large[0].record_count - large[1].record_count) <= 1


def test_partitions_roll_at_the_target_size(tmp_path: Path) -> None:
    to = target(tmp_path, EVENTS, spec=by(1, BucketTransform(2)), properties={"write.target-file-size-bytes": "100000"})
    sizes = [file.file_size_in_bytes for file in write(event_rows(60_000), to).files]
    assert len(sizes) > 6
    assert max(sizes) < 130_000


def test_rows_that_come_grouped_keep_their_order(tmp_path: Path) -> None:
    rows = pa.table(
        {"id": range(40_000), "v": np.repeat(range(4), 10_000)}, schema=iceberg_to_arrow(schema_of(LongType()))
    )
    result = write(rows, target(tmp_path, schema_of(LongType()), spec=by(2, IdentityTransform())), threads=1)
    for file in result.files:
        ids = read([file])["id"].to_pylist()
        assert ids == list(range(file.partition[0] * 10_000, (file.partition[0] + 1) * 10_000))


def test_thousands_of_partitions_fit_in_little_memory(tmp_path: Path) -> None:
    rows = event_rows(6_000)
    spec = by(1, TruncateTransform(4))
    result = write(rows, target(tmp_path, EVENTS, spec=spec), memory_limit_bytes=150_000)
    assert len(result.files) == result.report.partitions == 1_500
    assert sum(file.record_count for file in result.files) == 6_000


@pytest.mark.parametrize("limit", [None, 400_000], ids=["in memory", "spilled"])
def test_values_of_every_type_survive_moving_spilling_and_sorting(tmp_path: Path, limit: int | None) -> None:
    rows = pa.concat_tables([every_type_rows()] * 1_500)
    rows = rows.set_column(2, rows.schema.field("l"), pa.array(range(rows.num_rows)))
    order = SortOrder(
        *[SortField(i, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_FIRST) for i in (14, 8, 1, 15)],
        order_id=1,
    )
    for each in (UNSORTED_SORT_ORDER, order):
        to = target(tmp_path / str(each.order_id), EVERY_TYPE, spec=by(3, BucketTransform(7)), order=each)
        result = write(rows, to, memory_limit_bytes=limit)
        assert (result.report.spilled_bytes > 0) == (limit is not None)
        assert same_rows(read(result.files), rows)


def test_odd_numbers_are_one_partition_each_over_many_chunks(tmp_path: Path) -> None:
    values = [math.nan, 0.0, -0.0, None] * 2_000
    schema = schema_of(DoubleType())
    rows = pa.table({"id": range(len(values)), "v": values}, schema=iceberg_to_arrow(schema))
    to = target(tmp_path, schema, spec=by(2, IdentityTransform()))
    files = write(rows, to, threads=1, memory_limit_bytes=50_000).files
    assert sorted(key_of(file.partition[0]) for file in files) == ["-0.0", "0.0", "None", "nan"]
    assert {file.record_count for file in files} == {2_000}


@pytest.mark.parametrize("length", [17_000, 18_000, 19_000, 20_000])
def test_partitions_that_end_early_keep_what_was_written_of_them(tmp_path: Path, length: int) -> None:
    schema = schema_of(LongType())
    rows = pa.table({"id": range(3 * length), "v": np.repeat(range(3), length)}, schema=iceberg_to_arrow(schema))
    to = target(tmp_path, schema, spec=by(2, IdentityTransform()))
    result = write(rows, to, threads=1, memory_limit_bytes=200_000)
    assert result.report.spilled_bytes == 0
    assert same_rows(read(result.files), rows)


def test_all_writers_of_a_partition_are_closed(tmp_path: Path) -> None:
    rows = event_rows(60_000)
    properties = {"write.parquet.row-group-size-bytes": "50000"}
    to = target(tmp_path, EVENTS, spec=by(1, TruncateTransform(10**6)), properties=properties)
    result = write(rows, to, threads=4, memory_limit_bytes=1_500_000)
    assert len(result.files) > 1
    assert same_rows(read(result.files), rows)


def test_grouping_is_stable_beyond_sixteen_bits_of_partitions() -> None:
    ids = np.random.default_rng(3).integers(0, 200_000, 300_000)
    order, present, starts = group_rows(ids)
    assert order is not None
    assert (order == np.argsort(ids, kind="stable")).all()
    assert (np.repeat(present, np.diff(starts)) == ids[order]).all()


def test_a_nan_of_any_sign_sorts_last(tmp_path: Path) -> None:
    schema = schema_of(DoubleType())
    negative = np.array([0xFFF8000000000001], np.uint64).view(np.float64)
    values = pa.array(np.concatenate(([1.0], negative, [math.nan, math.inf])))
    rows = pa.table({"id": range(4), "v": values}, schema=iceberg_to_arrow(schema))
    order = SortOrder(SortField(2, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST), order_id=1)
    assert read(write(rows, target(tmp_path, schema, order=order)).files)["id"].to_pylist() == [0, 3, 1, 2]


def test_columns_in_structs_partition_and_sort(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "st", StructType(NestedField(2, "k", LongType()), NestedField(3, "o", LongType()))))
    values = [{"k": 1, "o": 5}, None, {"k": 2, "o": None}, {"k": 1, "o": 4}]
    rows = pa.table({"st": values}, schema=iceberg_to_arrow(schema))
    order = SortOrder(SortField(3, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST), order_id=1)
    result = write(rows, target(tmp_path, schema, spec=by(2, IdentityTransform()), order=order))
    found = {file.partition[0]: read([file])["st"].to_pylist() for file in result.files}
    assert found == {None: [None], 1: [{"k": 1, "o": 4}, {"k": 1, "o": 5}], 2: [{"k": 2, "o": None}]}


def test_two_partition_fields_may_come_from_one_column(tmp_path: Path) -> None:
    spec = PartitionSpec(
        PartitionField(1, 1000, BucketTransform(2), "b"), PartitionField(1, 1001, TruncateTransform(10), "t")
    )
    rows = event_rows(20)
    result = write(rows, target(tmp_path, EVENTS, spec=spec))
    assert {file.partition[1] for file in result.files} == {0, 10}
    assert all("/b=" in file.file_path and "/t=" in file.file_path for file in result.files)
    assert same_rows(read(result.files), rows)


def test_spec_and_sort_order_are_named_on_the_files(tmp_path: Path) -> None:
    spec = PartitionSpec(*SPEC.fields, spec_id=3)
    files = write(event_rows(100), target(tmp_path, EVENTS, spec=spec, order=BY_X)).files
    assert {(file.spec_id, file.sort_order_id) for file in files} == {(3, 7)}


NUMBERS = st.none() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.0, -1.0, 2.5])
DIRECTIONS = st.sampled_from([SortDirection.ASC, SortDirection.DESC])
NULLS = st.sampled_from([NullOrder.NULLS_FIRST, NullOrder.NULLS_LAST])


def _model_sort(rows: Sequence[dict[str, Any]], order: SortOrder, names: Sequence[str]) -> list[dict[str, Any]]:
    """Sorted by one key after the other, the last one first, each time stably."""
    result = list(rows)
    for sort_field, name in reversed(list(zip(order.fields, names, strict=True))):

        def rank(row: dict[str, Any], name: str = name) -> Any:
            value = row[name]
            if isinstance(value, float):
                return (math.isnan(value), 0.0 if math.isnan(value) else value, math.copysign(1, value))
            return value

        present = [row for row in result if row[name] is not None]
        absent = [row for row in result if row[name] is None]
        present.sort(key=rank, reverse=sort_field.direction == SortDirection.DESC)
        result = absent + present if sort_field.null_order == NullOrder.NULLS_FIRST else present + absent
    return result


@given(
    rows=st.lists(st.tuples(NUMBERS, st.none() | st.text("aé", max_size=2)), min_size=1, max_size=30),
    directions=st.tuples(DIRECTIONS, DIRECTIONS),
    nulls=st.tuples(NULLS, NULLS),
)
@settings(max_examples=60, deadline=None)
def test_files_are_sorted_as_the_specification_orders_values(
    rows: list[tuple[float | None, str | None]],
    directions: tuple[SortDirection, SortDirection],
    nulls: tuple[NullOrder, NullOrder],
) -> None:
    schema = Schema(
        NestedField(1, "id", LongType()), NestedField(2, "x", DoubleType()), NestedField(3, "s", StringType())
    )
    order = SortOrder(*[SortField(i, IdentityTransform(), directions[i - 2], nulls[i - 2]) for i in (2, 3)], order_id=1)
    values = [{"id": i, "x": x, "s": s} for i, (x, s) in enumerate(rows)]
    table = pa.Table.from_pylist(values, schema=iceberg_to_arrow(schema))
    with TemporaryDirectory() as folder:
        (file,) = write(table, target(Path(folder), schema, order=order)).files
        found = read([file])["id"].to_pylist()
    assert found == [row["id"] for row in _model_sort(values, order, ["x", "s"])]


def test_every_file_of_a_large_sorted_partition_is_sorted(tmp_path: Path) -> None:
    result = write(event_rows(30_000), target(tmp_path, EVENTS, order=BY_X), memory_limit_bytes=SMALL)
    assert len(result.files) > 5
    for file in result.files:
        values = [v for v in pq.read_table(file.file_path)["x"].to_pylist() if v is not None and not math.isnan(v)]
        assert values == sorted(values, reverse=True)
        assert file.sort_order_id == 7


def test_files_are_sorted_by_transformed_values(tmp_path: Path) -> None:
    order = SortOrder(SortField(1, BucketTransform(8), SortDirection.ASC, NullOrder.NULLS_FIRST), order_id=1)
    (file,) = write(event_rows(1_000), target(tmp_path, EVENTS, order=order)).files
    bucket = BucketTransform(8).transform(LongType())
    buckets = [bucket(value) for value in read([file])["id"].to_pylist()]
    assert buckets == sorted(buckets)
    assert len(set(buckets)) == 8
