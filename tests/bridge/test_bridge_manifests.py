"""Manifests as they are read and remembered."""

import copy
import pickle
import tracemalloc
import uuid
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.conversions import to_bytes
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, StructType

import icefusion
from icefusion.bridge.avro import read_blocks
from icefusion.bridge.entries import decode_live_entries, fetch, read_entries, read_list
from icefusion.bridge.kept import KeptBytes
from icefusion.bridge.listed import LAYOUTS, LiveEntry
from icefusion.bridge.manifests import ManifestReader
from icefusion.errors import StorageError
from icefusion.session import Session

IO = PyArrowFileIO()
COLUMNS = 10
SCHEMA = Schema(
    NestedField(1, "d", DoubleType()),
    NestedField(2, "s", StringType()),
    *(NestedField(number, f"c{number}", LongType()) for number in range(3, COLUMNS + 1)),
)
SPEC = PartitionSpec(
    PartitionField(1, 1000, IdentityTransform(), "d"), PartitionField(2, 1001, IdentityTransform(), "s")
)


def described(number: int, *, partition: tuple[Any, Any] = (0.1, "a")) -> DataFile:
    ids = range(1, COLUMNS + 1)
    low = {column: to_bytes(LongType(), number) for column in ids}
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file:///nowhere/{number:06}-{uuid.UUID(int=number)}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(*partition),
        record_count=1000 + number,
        file_size_in_bytes=50_000 + number,
        column_sizes=dict.fromkeys(ids, 5_000 + number),
        value_counts=dict.fromkeys(ids, 1000 + number),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts={1: number % 2},
        lower_bounds=low,
        upper_bounds=low,
        key_metadata=b"k",
        split_offsets=[4, 8],
        equality_ids=None,
        sort_order_id=3,
    )
    file.spec_id = SPEC.spec_id
    return file


def write(path: Path, files: list[DataFile], codec: str = "deflate") -> ManifestFile:
    with write_manifest(2, SPEC, SCHEMA, IO.new_output(f"file://{path}"), 5, codec) as writer:  # type: ignore[arg-type]
        for file in files:
            writer.add_entry(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=5, data_file=file))
    manifest = writer.to_manifest_file()
    manifest.sequence_number = 7
    return manifest


def live(manifest: ManifestFile) -> tuple[LiveEntry, ...]:
    return decode_live_entries(fetch(manifest.manifest_path, IO), manifest).entries


def test_files_are_as_old_as_the_list_says_that_names_their_manifest(tmp_path: Path) -> None:
    """A commit that is tried again puts the same manifest into another list, and its files are younger then."""
    with icefusion.connect(tmp_path) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t AS SELECT 1 AS id")
        table = session.catalog.load_table("ns.t")
        (manifest,) = table.current_snapshot().manifests(table.io)
        again = ManifestFile(*manifest._data)
        again.sequence_number = 7
        reader = ManifestReader()
        ages = [
            [entry.sequence_number for entry in reader.entries(one, table.io)] for one in (manifest, again, manifest)
        ]
        assert ages == [[1], [7], [1]]


@pytest.mark.parametrize("codec", ["null", "deflate", "zstandard"])
def test_files_are_what_was_written(tmp_path: Path, codec: str) -> None:
    partitions = [(0.1, "a"), (float("nan"), None), (None, ""), (-0.0, "a"), (0.0, "a")]
    files = [described(number, partition=partition) for number, partition in enumerate(partitions)]
    manifest = write(tmp_path / "m.avro", files, codec)
    for found in ([entry.file for entry in live(manifest)], [e.data_file for e in read_entries(manifest, IO)]):
        assert [repr(file._data[:16]) for file in found] == [repr(file._data) for file in files]
        assert [repr(file.partition) for file in found] == [repr(Record(*partition)) for partition in partitions]
    for entry, file in zip(live(manifest), files, strict=True):
        assert entry.sequence_number == 7
        assert isinstance(entry.file, DataFile)
        assert (entry.file.upper_bounds, entry.file.value_counts) == (file.upper_bounds, file.value_counts)
        assert (entry.file.nan_value_counts, entry.file.null_value_counts) == (
            file.nan_value_counts,
            file.null_value_counts,
        )
        assert (entry.file, entry.file.spec_id) == (file, SPEC.spec_id)


def test_entries_of_one_block_are_what_was_written(tmp_path: Path) -> None:
    """Some that are there, some that are not, of several partitions in turns; apart and in one block."""
    files = [described(number, partition=(number % 3 / 7, "ab"[number % 2])) for number in range(12)]
    kinds = (ManifestEntryStatus.DELETED, ManifestEntryStatus.ADDED, ManifestEntryStatus.EXISTING)
    there = [file for number, file in enumerate(files) if number % 3]
    with write_manifest(2, SPEC, SCHEMA, IO.new_output(f"file://{tmp_path}/m.avro"), 5, "null") as writer:
        for number, file in enumerate(files):
            status, age = kinds[number % 3], None if number % 3 == 1 else 3 + number % 2
            entry = ManifestEntry.from_args(status=status, snapshot_id=5, sequence_number=age, data_file=file)
            entry.file_sequence_number = age
            writer.add_entry(entry)
    manifest = writer.to_manifest_file()
    manifest.sequence_number = 7
    content = (tmp_path / "m.avro").read_bytes()
    schema, blocks = read_blocks(content)
    joined = b"".join(block for _, block in blocks)
    for parts in (list(read_blocks(content)[1]), [(12, joined)]):
        entries = LAYOUTS.of(schema).listing(iter(parts), manifest).entries
        assert [entry.file.file_path for entry in entries] == [file.file_path for file in there]
        assert [entry.sequence_number for entry in entries] == [7, 3, 7, 4, 7, 3, 7, 4]
        for (found, _), file in zip(entries, there, strict=True):
            assert repr(found._data[:16]) == repr(file._data)
        assert len({id(entry.file.partition) for entry in entries}) == 4
    rest_bytes = len(entries[-1].file._rest)
    with pytest.raises((ValueError, EOFError)):
        LAYOUTS.of(schema).listing(iter([(12, joined[: -rest_bytes - 50])]), manifest)


@pytest.mark.parametrize("version", [1, 2])
def test_a_list_is_what_was_written(tmp_path: Path, version: Literal[1, 2]) -> None:
    """Summaries of manifests that cover the same partitions are one object in version 2, others are not."""
    low, high = to_bytes(DoubleType(), 0.1), to_bytes(DoubleType(), 0.7)
    bounds = [(low, high), (low, high), (low, low), (None, None), (low, high), (low, high)]
    manifests = []
    for number, (lower, upper) in enumerate(bounds):
        summary = PartitionFieldSummary(lower is None, None if number == 3 else False, lower, upper)
        manifest = write(tmp_path / f"{number}.avro", [described(number)])
        manifest._data[6], manifest._data[13] = 5, None if number == 2 else [summary, summary]
        manifests.append(manifest)
    output = IO.new_output(f"file://{tmp_path}/list.avro")
    with write_manifest_list(version, output, 5, None, 7, "null") as writer:
        writer.add_manifests(manifests)
    expected = list(read_manifest_list(output.to_input_file()))
    found = read_list(f"file://{tmp_path}/list.avro", IO)
    assert [repr(one) for one in found] == [repr(one) for one in expected]
    assert (found[0].partitions is found[1].partitions) == (version == 2)
    assert found[0].partitions is not found[4].partitions
    for field in ("added_files_count", "deleted_rows_count", "manifest_length", "sequence_number", "content"):
        assert [getattr(one, field) for one in found] == [getattr(one, field) for one in expected]


def test_a_manifest_may_have_its_fields_in_another_order(tmp_path: Path) -> None:
    files = [described(number, partition=(0.1 * number, "a")) for number in range(3)]
    partition = SPEC.partition_type(SCHEMA)
    ordinary = manifest_entry_schema_with_data_file(2, data_file_with_partition(partition, 2))
    *entry_fields, file_field = ordinary.fields
    assert isinstance(file_field.field_type, StructType)
    turned = NestedField(2, "data_file", StructType(*reversed(file_field.field_type.fields)), required=True)
    entries = [
        ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=5, data_file=file) for file in files
    ]
    output = IO.new_output(f"file://{tmp_path}/m.avro")
    written = Schema(turned, *entry_fields)
    with AvroOutputFile[ManifestEntry](output, written, "manifest_entry", ordinary) as writer:
        writer.write_block(entries)
    manifest = ManifestFile.from_args(
        manifest_path=f"file://{tmp_path}/m.avro", manifest_length=len(output), partition_spec_id=0, sequence_number=7
    )
    for (found, age), file in zip(live(manifest), files, strict=True):
        assert (repr(found._data[:16]), age) == (repr(file._data), 7)
        assert (found.bounds(), found.nan_value_counts) == (
            (file.lower_bounds, file.upper_bounds),
            file.nan_value_counts,
        )
        assert (found.spec_id, found.column_sizes) == (0, file.column_sizes)


def test_a_file_whose_metrics_are_damaged_names_its_manifest(tmp_path: Path) -> None:
    """The end of an entry is looked at when it is asked for."""
    manifest = write(tmp_path / "m.avro", [described(1)], "null")
    schema, blocks = read_blocks((tmp_path / "m.avro").read_bytes())
    ((_, block),) = blocks
    (whole,) = LAYOUTS.of(schema).listing(iter([(1, block)]), manifest).entries
    cut_off = block[: 3 - len(whole.file._rest)]  # behind the number of sizes
    (entry,) = LAYOUTS.of(schema).listing(iter([(1, cut_off)]), manifest).entries
    assert entry.file.record_count == 1001
    for ask in (entry.file.bounds, lambda: entry.file.upper_bounds, lambda: entry.file._data):
        with pytest.raises(StorageError, match=r"cannot read manifest .*m\.avro") as caught:
            ask()
        assert caught.value.path == manifest.manifest_path


def test_a_listed_file_can_be_copied_and_not_changed(tmp_path: Path) -> None:
    (entry,) = live(write(tmp_path / "m.avro", [described(1)]))
    for twin in (pickle.loads(pickle.dumps(entry.file)), copy.copy(entry.file)):
        assert (twin._data, twin.spec_id) == (entry.file._data, entry.file.spec_id)
    with pytest.raises(TypeError, match="cannot be changed"):
        entry.file[0] = DataFileContent.POSITION_DELETES


def test_a_manifest_that_was_cut_off_is_named(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.avro", [described(number) for number in range(3)], "null")
    content = (tmp_path / "m.avro").read_bytes()
    for size in [*range(0, len(content), 7), len(content) - 1]:
        (tmp_path / "m.avro").write_bytes(content[:size])
        with pytest.raises(StorageError, match=r"m\.avro") as caught:
            ManifestReader().entries(manifest, IO)
        assert caught.value.path == manifest.manifest_path


def test_a_manifest_of_unknown_length_is_read_as_far_as_it_goes_and_not_further(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.avro", [described(number) for number in range(3)], "null")
    content = (tmp_path / "m.avro").read_bytes()
    manifest._data[1] = 0
    for size in [*range(0, len(content), 7), len(content)]:
        try:
            entries = decode_live_entries(content[:size], manifest).entries
        except (ValueError, EOFError):
            continue
        assert [entry.file for entry in entries] == [described(number) for number in range(len(entries))]
    assert len(entries) == 3


@pytest.mark.parametrize("distinct", [False, True], ids=["one partition", "a partition each"])
def test_the_size_of_what_is_listed_is_about_what_it_takes(tmp_path: Path, distinct: bool) -> None:
    files = [described(number, partition=(0.1, f"p{number}" if distinct else "a")) for number in range(2_000)]
    manifest = write(tmp_path / "m.avro", files)
    content = fetch(manifest.manifest_path, IO)
    del files
    decode_live_entries(content, manifest)
    tracemalloc.start()
    try:
        listing = decode_live_entries(content, manifest)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes <= listing.size_bytes <= 1.5 * taken_bytes


def test_what_is_kept_stays_within_its_bytes() -> None:
    kept = KeptBytes(10_000)
    for number in range(100):
        kept.put(number, str(number), 700)
        assert kept.size_bytes <= 10_000
        assert kept.get(0) == "0"  # what is asked for stays
    assert len(kept) == 10
    assert [number for number in range(100) if kept.get(number) is not None] == [0, *range(91, 100)]
    kept.put("large", "x", 20_000)
    assert (kept.get("large"), len(kept)) == (None, 10)
    kept.put(0, "larger", 9_000)
    assert (kept.get(0), kept.size_bytes) == ("larger", 9_300)
    assert len(kept) == 1


def test_a_reader_remembers_no_more_than_its_bytes(tmp_path: Path) -> None:
    manifests = [
        write(tmp_path / f"{number}.avro", [described(number * 50 + place) for place in range(50)])
        for number in range(6)
    ]
    one = decode_live_entries(fetch(manifests[0].manifest_path, IO), manifests[0]).size_bytes
    reader = ManifestReader(int(one * 3.5))
    for manifest in manifests:
        assert len(reader.read(manifest, IO)) == 50
        assert reader.kept.size_bytes <= one * 3.5
    for number in range(6):
        (tmp_path / f"{number}.avro").unlink()
    assert [len(listing.entries) for listing in reader.listings(manifests[3:], IO)] == [50, 50, 50]
    with pytest.raises(StorageError, match="missing in storage"):
        reader.read(manifests[0], IO)
    assert ManifestReader(0).kept.size_bytes == 0


@pytest.fixture
def session(tmp_path: Path) -> Session:
    session = icefusion.connect(tmp_path / "warehouse")
    session.sql("CREATE NAMESPACE ns")
    session.sql("CREATE TABLE ns.t (id bigint, p string) PARTITIONED BY (p)")
    session.sql("INSERT INTO ns.t SELECT * FROM d", d=pa.table({"id": range(40), "p": ["a", "b", "c", "d"] * 10}))
    return session


def test_a_query_is_planned_anew_where_anything_is_new(session: Session) -> None:
    text = "SELECT count(*) FROM ns.t WHERE p = 'a'"
    with session:
        assert [session.sql(text).fetchall() for _ in range(2)] == [[(10,)], [(10,)]]
        session.sql("INSERT INTO ns.t VALUES (100, 'a')")
        assert session.sql(text).fetchall() == [(11,)]
        with session.transaction() as tx:
            tx.sql("DELETE FROM ns.t WHERE id = 0")
            assert tx.sql(text).fetchall() == [(10,)]
            assert session.sql("SELECT count(*) FROM ns.t WHERE id = 1").fetchall() == [(1,)]
            tx.rollback()
        assert session.sql(text).fetchall() == [(11,)]
        session.sql("DELETE FROM ns.t WHERE id = 100", write_mode="merge-on-read")
        assert session.sql(text).fetchall() == [(10,)]


def test_a_query_that_is_planned_again_reads_no_manifest(session: Session, tmp_path: Path) -> None:
    with session:
        text = "SELECT sum(id) FROM ns.t WHERE p = 'a'"
        expected = session.sql(text).fetchall()
        for path in (tmp_path / "warehouse").rglob("*.avro"):
            path.unlink()
        assert session.sql(text).fetchall() == expected
        assert session.sql("SELECT sum(id) FROM ns.t WHERE p = 'b'").fetchall() is not None


def test_files_of_format_version_1_are_data_files(tmp_path: Path) -> None:
    with icefusion.connect(tmp_path) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint) TBLPROPERTIES ('format-version' = '1')")
        session.sql("INSERT INTO ns.t VALUES (1), (2)")
        assert session.sql("SELECT id FROM ns.t WHERE id = 2").fetchall() == [(2,)]
        table = session.catalog.load_table("ns.t")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    (manifest,) = snapshot.manifests(table.io)
    (entry,) = decode_live_entries(fetch(manifest.manifest_path, table.io), manifest).entries
    assert entry.file.content is DataFileContent.DATA
