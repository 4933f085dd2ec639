"""What a change leaves in metadata and on disk, held against what the reference implementation leaves."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interop_changes import MODES
from interop_tables import SparkWriter, location_of
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import LongType, StringType
from spark_client import Spark

import icefusion

numbers = count()
ROWS = pa.table({"id": pa.array(range(20), pa.int64()), "part": ["ab"[i % 2] for i in range(20)], "n": [0] * 20})
LAYOUTS = ("", "PARTITIONED BY (part)", "PARTITIONED BY (bucket(2, id))")
PATH_ID, POSITION_ID = 2147483546, 2147483545

CHANGES = (
    "DELETE FROM {table} WHERE id = 3",
    "DELETE FROM {table} WHERE id IN (4, 5, 6)",
    "UPDATE {table} SET n = n + 1 WHERE id < 2",
    "MERGE INTO {table} AS t USING (SELECT 8 AS id UNION ALL SELECT 9 AS id) AS s ON t.id = s.id "
    "WHEN MATCHED AND t.id = 8 THEN UPDATE SET n = 7 WHEN MATCHED THEN DELETE",
    "MERGE INTO {table} AS t USING (SELECT 10 AS id UNION ALL SELECT 11 AS id) AS s ON t.id = s.id "
    "WHEN MATCHED THEN DELETE",
    "DELETE FROM {table}",
)


def properties(mode: str, granularity: str) -> str:
    modes = ", ".join(f"'write.{change}.mode' = '{mode}'" for change in ("delete", "update", "merge"))
    return f"TBLPROPERTIES ({modes}, 'write.delete.granularity' = '{granularity}', 'format-version' = '2')"


def make_table(session: icefusion.Session, mode: str, granularity: str, layout: str) -> str:
    name = f"ns.m{next(numbers)}"
    session.sql(f"CREATE TABLE {name} (id bigint, part string, n bigint) {layout} {properties(mode, granularity)}")
    for _ in range(2):
        session.writer(name).write_batches(ROWS.to_batches())
    return name


def summary_of(snapshot: Snapshot) -> dict[str, str]:
    assert snapshot.summary is not None
    return {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}


def summaries(table: Table, *, granularity: str) -> list[dict[str, str]]:
    """What the snapshots say of themselves, but for sizes and who made them.

    Iceberg 1.10 puts what the delete file of a data file said before into the new one, which replaces it; here one
    comes beside the other. Rows that are deleted come to the same.
    """
    found = []
    for snapshot in table.snapshots():
        summary = {
            key: value
            for key, value in summary_of(snapshot).items()
            if not key.startswith(("spark", "app", "engine", "iceberg")) and not key.endswith("size")
        }
        if granularity == "file" and summary.get("deleted-data-files") is None:
            more, less = (int(summary.pop(f"{what}-position-deletes", 0)) for what in ("added", "removed"))
            summary["more-position-deletes"] = str(more - less)
            summary = {key: value for key, value in summary.items() if not key.startswith("removed-")}
        if granularity == "file":
            summary = {key: value for key, value in summary.items() if "delete-files" not in key}
            summary = {key: value for key, value in summary.items() if not key.startswith("removed-position")}
        found.append(summary)
    return found


@pytest.mark.spark
@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize(("mode", "granularity"), MODES)
def test_snapshots_say_of_themselves_what_those_of_spark_say(
    session: icefusion.Session, spark: Spark, spark_writer: SparkWriter, mode: str, granularity: str, layout: str
) -> None:
    ours = make_table(session, mode, granularity, layout)
    theirs = f"ice.db.m{next(numbers)}"
    columns = "(id bigint, part string, n bigint)"
    spark.sql(f"CREATE TABLE {theirs} {columns} USING iceberg {layout} {properties(mode, granularity)}")
    for _ in range(2):
        spark_writer.insert(theirs, ROWS)
    for change in CHANGES:
        session.sql(change.format(table=ours))
        spark.sql(change.format(table=theirs))
    found = summaries(session.catalog.load_table(ours), granularity=granularity)
    assert found == summaries(StaticTable.from_metadata(spark.metadata_location(theirs)), granularity=granularity)


# Against the files themselves


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("mode", "granularity"), MODES)
def test_metadata_says_what_is_there(session: icefusion.Session, mode: str, granularity: str, layout: str) -> None:
    name = make_table(session, mode, granularity, layout)
    for change in CHANGES:
        session.sql(change.format(table=name))
        table = session.catalog.load_table(name)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        live: dict[str, DataFile] = {}
        came: list[DataFile] = []
        went: list[DataFile] = []
        for manifest in snapshot.manifests(table.io):
            for entry in check_manifest(table, manifest):
                if entry.status != ManifestEntryStatus.DELETED:
                    assert entry.data_file.file_path not in live
                    live[entry.data_file.file_path] = entry.data_file
                if entry.snapshot_id == snapshot.snapshot_id:
                    (went if entry.status == ManifestEntryStatus.DELETED else came).append(entry.data_file)
        check_summary(summary_of(snapshot), live.values(), came, went)
        data = {path: file for path, file in live.items() if file.content == DataFileContent.DATA}
        deleted: set[tuple[str, int]] = set()
        for path, file in live.items():
            if path not in data:
                deleted |= check_position_deletes(file, granularity, deleted)
                assert granularity == "partition" or {of for of, _ in deleted} <= data.keys()
        ((rows,),) = session.sql(f"SELECT count(*) FROM {name}").fetchall()
        assert rows == sum(file.record_count for file in data.values()) - sum(path in data for path, _ in deleted)
    assert live == {}
    assert summary_of(snapshot)["total-delete-files"] == "0"


def check_manifest(table: Table, manifest: ManifestFile) -> list[Any]:
    """Its entries, after a look whether its line in the manifest list is right."""
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    spec = table.specs()[manifest.partition_spec_id]
    for status, files, rows in (
        (ManifestEntryStatus.ADDED, manifest.added_files_count, manifest.added_rows_count),
        (ManifestEntryStatus.EXISTING, manifest.existing_files_count, manifest.existing_rows_count),
        (ManifestEntryStatus.DELETED, manifest.deleted_files_count, manifest.deleted_rows_count),
    ):
        known = [entry.data_file.record_count for entry in entries if entry.status == status]
        assert (files, rows) == (len(known), sum(known))
    ages = [entry.sequence_number for entry in entries if entry.status != ManifestEntryStatus.DELETED]
    assert manifest.min_sequence_number == min(ages, default=manifest.sequence_number)
    assert len(manifest.partitions or ()) == len(spec.fields)
    for index, summary in enumerate(manifest.partitions or ()):
        values = [entry.data_file.partition[index] for entry in entries]
        kind = spec.partition_type(table.schema()).fields[index].field_type
        known_values = [value for value in values if value is not None]
        assert summary.contains_null == (None in values)
        assert from_bytes(kind, summary.lower_bound) == min(known_values)
        assert from_bytes(kind, summary.upper_bound) == max(known_values)
    contents = {entry.data_file.content == DataFileContent.DATA for entry in entries}
    assert contents == {manifest.content == ManifestContent.DATA}
    assert all(urlparse(entry.data_file.file_path).scheme == "file" for entry in entries)
    return list(entries)


def check_summary(
    summary: dict[str, str], live: Iterable[DataFile], came: Iterable[DataFile], went: Iterable[DataFile]
) -> None:
    names = {
        DataFileContent.DATA: ("records", "deleted-records", "data-files", "deleted-data-files"),
        DataFileContent.POSITION_DELETES: (
            *("position-deletes", "removed-position-deletes"),
            *("position-delete-files", "removed-position-delete-files"),
        ),
    }
    for content, (rows, removed_rows, files, removed_files) in names.items():
        for group, rows_key, files_key in (
            (live, f"total-{rows}", f"total-{files}"),
            (came, f"added-{rows}", f"added-{files}"),
            (went, removed_rows, removed_files),
        ):
            members = [file for file in group if file.content == content]
            assert int(summary.get(rows_key, 0)) == sum(file.record_count for file in members), rows_key
            if files_key != "total-position-delete-files":
                assert int(summary.get(files_key, 0)) == len(members), files_key
    assert int(summary["total-delete-files"]) == sum(file.content != DataFileContent.DATA for file in live)
    assert int(summary["total-files-size"]) == sum(file.file_size_in_bytes for file in live)
    assert int(summary.get("added-files-size", 0)) == sum(file.file_size_in_bytes for file in came)
    assert int(summary.get("removed-files-size", 0)) == sum(file.file_size_in_bytes for file in went)


def check_position_deletes(file: DataFile, granularity: str, earlier: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """The rows of a position delete file, after a look whether it is as the specification has it."""
    path = urlparse(file.file_path).path
    footer = pq.ParquetFile(path)
    fields = {field.name: field for field in footer.schema_arrow}
    assert {name: field.metadata[b"PARQUET:field_id"] for name, field in fields.items()} == {
        "file_path": str(PATH_ID).encode(),
        "pos": str(POSITION_ID).encode(),
    }
    assert [field.nullable for field in fields.values()] == [False, False]
    assert [footer.schema.column(index).physical_type for index in (0, 1)] == ["BYTE_ARRAY", "INT64"]
    assert str(footer.schema.column(0).logical_type) == "String"
    table = pq.read_table(path)
    rows = list(zip(table["file_path"].to_pylist(), table["pos"].to_pylist(), strict=True))
    assert rows == sorted(set(rows))
    assert not earlier & set(rows)
    assert (file.record_count, file.file_format.value, file.equality_ids) == (len(rows), "PARQUET", None)
    assert file.sort_order_id is None
    assert len({of for of, _ in rows}) == 1 or granularity == "partition"
    for bounds, pick in ((file.lower_bounds, min), (file.upper_bounds, max)):
        assert from_bytes(StringType(), bounds[PATH_ID]) == pick(of for of, _ in rows)
        assert from_bytes(LongType(), bounds[POSITION_ID]) == pick(position for _, position in rows)
    assert file.value_counts == {PATH_ID: len(rows), POSITION_ID: len(rows)}
    return set(rows)


@pytest.mark.parametrize("granularity", ["file", "partition"])
def test_delete_files_go_when_no_data_file_is_as_old(session: icefusion.Session, granularity: str) -> None:
    name = make_table(session, "merge-on-read", granularity, "")
    for row_id in (3, 4, 5):
        session.sql(f"DELETE FROM {name} WHERE id = {row_id}")
    session.sql(f"UPDATE {name} SET n = 1 WHERE id >= 0", write_mode="copy-on-write")
    session.sql(f"DELETE FROM {name} WHERE id = 7")
    table = session.catalog.load_table(name)
    *_, rewritten, last = map(summary_of, table.snapshots())
    assert rewritten["total-delete-files"] == rewritten["total-position-deletes"] == "0"
    assert rewritten["removed-position-deletes"] == "6"
    assert int(rewritten["removed-delete-files"]) == (6 if granularity == "file" else 3)
    assert last["total-position-deletes"] == "2"
    assert session.sql(f"SELECT count(*) FROM {name}").fetchall() == [(32,)]
    assert len(StaticTable.from_metadata(location_of(session, name)).scan().to_arrow()) == 32
