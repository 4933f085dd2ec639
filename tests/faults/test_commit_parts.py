"""The parts of a commit by themselves: patience, records of keys, conflicts with changes of the table's form."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, LongType, NestedField

import icefusion as ice
from icefusion.bridge.manifests import ManifestReader
from icefusion.commit.cleanup import delete_files
from icefusion.commit.conflicts import Conflict, find_conflict, find_identity_conflict
from icefusion.commit.handles import TableHandle
from icefusion.commit.idempotency import KEYS_MAX_PROPERTY, SUMMARY_KEY, Landed, find_landed, recorded
from icefusion.commit.operations import FileChange, TableChange
from icefusion.commit.retry import Attempts
from icefusion.config import RetryConfig
from icefusion.reports import RowCounts
from icefusion.testing import FakeClock, FaultyIO

KEYS = "icefusion.idempotency-keys"


# Patience


def waits(retry: RetryConfig, *, seed: int = 0) -> list[float]:
    """Every wait until the attempts are spent, in seconds."""
    clock = FakeClock(seed=seed)
    attempts = Attempts(retry, clock)
    attempts.start()
    while attempts.wait():
        attempts.start()
    assert attempts.number <= retry.max_attempts
    return clock.slept_s


def test_waits_without_jitter_double_up_to_the_longest() -> None:
    retry = RetryConfig(max_attempts=6, initial_delay_ms=100, max_delay_ms=500, jitter="none")
    assert waits(retry) == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_full_jitter_waits_anything_from_nothing_to_the_ceiling() -> None:
    retry = RetryConfig(max_attempts=2, initial_delay_ms=1000)
    first = [waits(retry, seed=seed)[0] for seed in range(300)]
    assert all(0 <= wait < 1 for wait in first)
    assert min(first) < 0.05
    assert max(first) > 0.95
    assert 0.4 < sum(first) / len(first) < 0.6


def test_one_attempt_means_no_wait() -> None:
    assert waits(RetryConfig(max_attempts=1)) == []


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
    st.floats(1, 10),
    st.integers(1, 20_000),
    st.sampled_from(["full", "none"]),
)
def test_no_attempt_begins_after_the_time_is_over(attempts, initial, longest, multiplier, total, jitter) -> None:
    retry = RetryConfig(attempts, initial, longest, multiplier, total, jitter)
    slept = waits(retry)
    assert sum(slept) <= total / 1000 + 1e-6
    assert all(wait <= longest / 1000 + 1e-9 for wait in slept)
    assert len(slept) < attempts


def test_very_many_attempts_still_have_a_ceiling() -> None:
    retry = RetryConfig(max_attempts=3_000, initial_delay_ms=1, max_delay_ms=2, jitter="none")
    assert len(waits(retry)) == 2_999


def test_table_properties_give_way_to_what_the_caller_set() -> None:
    properties = {"commit.retry.num-retries": "9", "commit.retry.min-wait-ms": "7", "commit.retry.max-wait-ms": "8"}
    own = RetryConfig(max_attempts=2).for_table(properties)
    assert (own.max_attempts, own.initial_delay_ms, own.max_delay_ms) == (2, 7, 8)
    assert RetryConfig().for_table(properties).max_attempts == 10
    with pytest.raises(ice.ConfigurationError, match="num-retries"):
        RetryConfig().for_table({"commit.retry.num-retries": "often"})


# A table whose form changes


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    made = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=tmp_path.as_uri())
    made.create_namespace("ns")
    yield made
    made.close()


ID = NestedField(1, "id", LongType(), required=False)
DAY = NestedField(2, "day", IntegerType(), required=False)


@pytest.fixture
def table(catalog: SqlCatalog) -> Table:
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day"))
    return catalog.create_table("ns.t", Schema(ID, DAY), partition_spec=spec)


def changed(table: Table, **update: object) -> TableHandle:
    """The table as it would be with other metadata."""
    metadata = table.metadata.model_copy(update=update)
    return TableHandle("c.ns.t", Table(table.name(), metadata, table.metadata_location, table.io, table.catalog))


def with_columns(table: Table, *columns: NestedField) -> TableHandle:
    schema = Schema(*columns, schema_id=1)
    return changed(table, schemas=[*table.metadata.schemas, schema], current_schema_id=1)


def append(table: Table, *, spec_id: int = 0) -> TableChange:
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path="file:///x.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(1),
        record_count=1,
        file_size_in_bytes=1,
    )
    file.spec_id = spec_id
    return TableChange(TableHandle("c.ns.t", table), FileChange((file,)))


def conflict(table: Table, newest: TableHandle, change: TableChange | None = None) -> Conflict | None:
    change = change or append(table)
    conflict = find_identity_conflict(change, newest.metadata)
    return conflict or find_conflict(change, newest, newest.metadata, ManifestReader())


def test_an_append_to_an_unchanged_table_has_no_conflict(table) -> None:
    assert conflict(table, TableHandle("c.ns.t", table)) is None


def test_a_spec_that_was_removed_is_a_conflict(table) -> None:
    found = conflict(table, changed(table, partition_specs=[PartitionSpec(spec_id=7)], default_spec_id=7))
    assert found is not None
    assert "partition spec 0" in found.reason


def test_another_default_spec_is_none(table) -> None:
    other = PartitionSpec(PartitionField(1, 1001, IdentityTransform(), "id"), spec_id=1)
    newest = changed(table, partition_specs=[*table.metadata.partition_specs, other], default_spec_id=1)
    assert conflict(table, newest) is None


def test_a_spec_id_that_means_something_else_now_is_a_conflict(table) -> None:
    other = PartitionSpec(PartitionField(1, 1001, IdentityTransform(), "id"), spec_id=0)
    assert conflict(table, changed(table, partition_specs=[other])) is not None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ((ID, NestedField(2, "day", IntegerType(), required=True)), "day was made NOT NULL"),
        ((ID, DAY, NestedField(3, "more", LongType(), required=True)), "more was added as NOT NULL"),
        ((ID, DAY, NestedField(3, "more", LongType(), required=False)), None),
        ((ID, DAY, NestedField(3, "more", LongType(), required=True, initial_default=5)), None),
        ((ID, NestedField(2, "renamed", IntegerType(), required=False)), None),
        ((ID, NestedField(2, "day", LongType(), required=False)), None),
        ((ID,), None),
    ],
)
def test_only_columns_that_the_rows_do_not_fit_are_a_conflict(table, columns, reason) -> None:
    found = conflict(table, with_columns(table, *columns))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found.reason


def test_another_table_of_the_same_name_is_a_conflict(catalog, table) -> None:
    catalog.drop_table("ns.t")
    other = catalog.create_table("ns.t", table.schema())
    found = conflict(table, TableHandle("c.ns.t", other))
    assert found is not None
    assert "made anew" in found.reason


def test_what_was_read_is_only_looked_at_since_it_was_read(table) -> None:
    change = append(table)
    reading = TableChange(change.base, change.files, reads=AlwaysTrue())
    assert conflict(table, TableHandle("c.ns.t", table), reading) is None
    table.append(pa.table({"id": pa.array([1], pa.int64()), "day": pa.array([1], pa.int32())}))
    found = conflict(table, TableHandle("c.ns.t", table.refresh()), reading)
    assert found is None or found.snapshot_id == table.current_snapshot().snapshot_id


# Records of keys


def metadata_with(table: Table, text: str) -> TableMetadata:
    return table.metadata.model_copy(update={"properties": {KEYS: text}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "null",
        "7",
        "{}",
        "[7]",
        "[null]",
        '["abcd"]',
        '[["k"]]',
        '[["k", "x", 1, 2]]',
        '[[["k"], 1, 2, 3, 4]]',
        '[["k", 1, 2, null]]',
        '[["k", 1e999, 2, 3]]',
        pytest.param("[" * 5_000, id="deep"),
    ],
)
def test_garbage_in_the_property_is_no_record_and_no_error(table, text) -> None:
    assert find_landed(metadata_with(table, text), "k") is None
    written = recorded({KEYS: text}, [Landed("new", 1, RowCounts(2, 4, 5), 3)])
    assert find_landed(metadata_with(table, written[KEYS]), "new") == Landed("new", 1, RowCounts(2, 4, 5), 3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=255), max_size=8), st.text(min_size=1, max_size=255))
def test_any_text_is_a_key_and_the_last_records_are_kept(keys, last) -> None:
    properties = {KEYS_MAX_PROPERTY: "3"}
    numbers = itertools.count(1)
    for key in [*keys, last]:
        properties |= recorded(properties, [Landed(key, next(numbers), RowCounts(), 0)])
    kept = {last, *keys[-2:]}
    metadata = _Properties(properties)
    landed = find_landed(metadata, last)
    assert landed is not None
    assert landed.snapshot_id == len(keys) + 1
    assert {key for key in [*keys, last] if find_landed(metadata, key) is not None} == kept


class _Properties:
    """As much of a table's metadata as the search for a key looks at."""

    def __init__(self, properties: dict[str, str]) -> None:
        self.properties = properties
        self.snapshots: list[object] = []


@pytest.mark.parametrize("limit", ["0", "-5", "many", ""])
def test_a_limit_that_makes_no_sense_forgets_no_new_key(limit) -> None:
    properties = {KEYS_MAX_PROPERTY: limit}
    properties |= recorded(properties, [Landed("k", 1, RowCounts(), 0)])
    assert find_landed(_Properties(properties), "k") is not None


def test_records_of_rows_that_were_only_added_are_read_as_they_were_written(table) -> None:
    assert find_landed(metadata_with(table, '[["k", 1, 2, 3]]'), "k") == Landed("k", 1, RowCounts(inserted=2), 3)


def test_without_a_key_nothing_has_landed(table) -> None:
    assert find_landed(metadata_with(table, '[["k", 1, 2, 3]]'), None) is None


def test_a_summary_without_a_count_of_rows_is_a_record_too(catalog) -> None:
    table = catalog.create_table("ns.s", Schema(ID))
    table.append(pa.table({"id": pa.array([], pa.int64())}), snapshot_properties={SUMMARY_KEY: "k"})
    landed = find_landed(catalog.load_table("ns.s").metadata, "k")
    assert landed is not None
    assert landed.rows == RowCounts()


# Clean-up


@pytest.mark.parametrize("count", [1, 3, 12])
def test_an_interrupt_of_the_clean_up_waits_until_it_is_done(tmp_path, count) -> None:
    paths = [tmp_path / f"{n}.avro" for n in range(count)]
    for path in paths:
        path.touch()
    told: list[str] = []

    def hook(step: str, _path: str) -> None:
        told.append(step)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delete_files(FaultyIO(PyArrowFileIO(), hook), [path.as_uri() for path in paths])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_deleted_is_named_and_the_others_go(tmp_path, caplog) -> None:
    paths = [tmp_path / f"{n}.avro" for n in range(6)]
    for path in paths[:5]:  # the last one is gone already
        path.touch()

    def hook(step: str, path: str) -> None:
        if step == "delete" and path.endswith("2.avro"):
            raise PermissionError("not yours")

    with caplog.at_level(logging.WARNING, "icefusion"):
        left = delete_files(FaultyIO(PyArrowFileIO(), hook), [path.as_uri() for path in paths])
    assert left == [paths[2].as_uri()]
    assert list(tmp_path.iterdir()) == [paths[2]]
    assert "2.avro" in caplog.text
