"""The files themselves: what is in them, how large they are, what they are called."""

from __future__ import annotations

import datetime as dt
import pickle
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType
from writing import EVENTS, EVERY_TYPE, event_rows, every_type_rows, read, same_rows, stored_files, target, write

from icefusion.errors import ConfigurationError
from icefusion.write.columns import leaf_columns

TEXT = Schema(NestedField(1, "id", LongType()), NestedField(2, "s", StringType()))


def test_rows_of_every_type_come_back_from_pyarrow(tmp_path: Path) -> None:
    rows = every_type_rows()
    found = read(write(rows, target(tmp_path, EVERY_TYPE)).files)
    assert repr(found.to_pylist()) == repr(rows.to_pylist())
    assert found.schema.field("u").type == pa.uuid()
    assert found.schema.field("tz").type == pa.timestamp("us", "UTC")


def test_rows_of_every_type_come_back_from_datafusion(tmp_path: Path) -> None:
    rows = every_type_rows()
    (file,) = write(rows, target(tmp_path, EVERY_TYPE)).files
    context = SessionContext()
    context.register_parquet("t", file.file_path)
    found = pa.Table.from_batches(batch for batch in context.sql("SELECT * FROM t").collect())
    expected = rows.set_column(13, "u", rows["u"].cast(pa.binary(16)))
    assert repr(found.to_pylist()) == repr(expected.to_pylist())


def test_rows_of_every_type_come_back_from_duckdb(tmp_path: Path) -> None:
    rows = every_type_rows()
    (file,) = write(rows, target(tmp_path, EVERY_TYPE)).files
    with duckdb.connect() as connection:
        names = [field.name for field in EVERY_TYPE.fields if field.name not in ("tz", "map", "deep")]
        columns = ", ".join(f'"{name}"' for name in names)
        found = connection.sql(f"SELECT {columns} FROM read_parquet('{file.file_path}')").fetchall()
    expected = [tuple(row[name] for name in names) for row in rows.to_pylist()]
    assert repr(found) == repr(expected)


def test_field_ids_stand_in_the_file_at_every_depth(tmp_path: Path) -> None:
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE)).files
    text = str(pq.read_metadata(file.file_path).schema)
    for field_id in [field.field_id for field in EVERY_TYPE.fields] + [
        leaf.field_id for leaf in leaf_columns(EVERY_TYPE)
    ]:
        assert f"field_id={field_id} " in text


def test_leaf_columns_have_the_paths_and_the_order_of_the_file(tmp_path: Path) -> None:
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE)).files
    schema = pq.read_metadata(file.file_path).schema
    assert [leaf.path for leaf in leaf_columns(EVERY_TYPE)] == [schema.column(i).path for i in range(len(schema))]


def test_physical_and_logical_types_are_those_of_the_specification(tmp_path: Path) -> None:
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE)).files
    footer = pq.read_metadata(file.file_path)
    columns = {footer.schema.column(i).path: footer.schema.column(i) for i in range(len(footer.schema))}
    assert [columns[name].physical_type for name in ("dec9", "dec18", "dec38")] == [
        "INT32",
        "INT64",
        "FIXED_LEN_BYTE_ARRAY",
    ]
    assert str(columns["u"].logical_type) == "UUID"
    assert columns["u"].length == 16
    assert "isAdjustedToUTC=true" in str(columns["tz"].logical_type)
    assert "isAdjustedToUTC=false" in str(columns["ts"].logical_type)
    assert b"ARROW:schema" not in (footer.metadata or {})


def test_every_column_has_a_page_index(tmp_path: Path) -> None:
    (file,) = write(event_rows(50_000), target(tmp_path, EVENTS)).files
    group = pq.read_metadata(file.file_path).row_group(0)
    assert all(group.column(i).has_offset_index for i in range(group.num_columns))
    assert all(group.column(i).has_column_index for i in range(group.num_columns))


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    result = write(event_rows(10).slice(0, 0), target(tmp_path, EVENTS))
    assert result.files == ()
    assert result.report.rows == 0
    assert stored_files(tmp_path) == []


def test_little_input_makes_one_file_on_many_threads(tmp_path: Path) -> None:
    result = write(event_rows(20_000), target(tmp_path, EVENTS), streams=4, threads=4)
    assert [file.record_count for file in result.files] == [20_000]


def test_a_data_file_says_what_is_stored(tmp_path: Path) -> None:
    rows = event_rows(30_000)
    result = write(rows, target(tmp_path, EVENTS, properties={"write.parquet.row-group-limit": "7000"}), threads=1)
    assert [Path(file.file_path) for file in result.files] == stored_files(tmp_path)
    for file in result.files:
        footer = pq.read_metadata(file.file_path)
        content = Path(file.file_path).read_bytes()
        assert file.file_size_in_bytes == len(content)
        assert file.record_count == footer.num_rows
        starts = [footer.row_group(i).column(0) for i in range(footer.num_row_groups)]
        assert file.split_offsets == [c.dictionary_page_offset or c.data_page_offset for c in starts]
        assert footer.num_row_groups > 1
        assert max(footer.row_group(i).num_rows for i in range(footer.num_row_groups)) <= 7000
        assert file.spec_id == 0
        assert file.sort_order_id is None
    assert result.report.rows == 30_000
    assert result.report.bytes == sum(path.stat().st_size for path in stored_files(tmp_path))


@pytest.mark.parametrize("repeats", [1, 8])
def test_files_come_near_the_target_size_in_encoded_bytes(tmp_path: Path, repeats: int) -> None:
    texts = [f"{i * 2654435761 % 2**32:08x}" * repeats for i in range(400_000)]
    rows = pa.table({"id": range(len(texts)), "s": texts}, schema=read_schema(TEXT))
    size = 300_000
    result = write(rows, target(tmp_path, TEXT, properties={"write.target-file-size-bytes": str(size)}), threads=1)
    sizes = [file.file_size_in_bytes for file in result.files]
    assert len(sizes) > 3
    assert all(0.7 * size <= found <= 1.15 * size for found in sizes[:-1]), sizes
    assert same_rows(read(result.files), rows)


def test_row_groups_end_at_their_arrow_bytes(tmp_path: Path) -> None:
    rows = event_rows(50_000)
    result = write(
        rows, target(tmp_path, EVENTS, properties={"write.parquet.row-group-size-bytes": "500000"}), threads=1
    )
    (file,) = result.files
    footer = pq.read_metadata(file.file_path)
    per_group = rows.nbytes / footer.num_row_groups
    assert 250_000 <= per_group <= 550_000


@pytest.mark.parametrize(
    ("codec", "name"), [("zstd", "ZSTD"), ("snappy", "SNAPPY"), ("gzip", "GZIP"), ("uncompressed", "UNCOMPRESSED")]
)
def test_the_codec_is_that_of_the_property(tmp_path: Path, codec: str, name: str) -> None:
    to = target(tmp_path, EVENTS, properties={"write.parquet.compression-codec": codec})
    (file,) = write(event_rows(100), to).files
    assert pq.read_metadata(file.file_path).row_group(0).column(0).compression == name


def test_a_higher_compression_level_makes_smaller_files(tmp_path: Path) -> None:
    rows = event_rows(50_000)
    sizes = [
        write(rows, target(tmp_path, EVENTS, properties={"write.parquet.compression-level": level})).report.bytes
        for level in ("1", "19")
    ]
    assert sizes[1] < 0.99 * sizes[0]


def test_a_level_that_the_codec_lacks_is_named(tmp_path: Path) -> None:
    to = target(tmp_path, EVENTS, properties={"write.parquet.compression-level": "99"})
    with pytest.raises(ConfigurationError, match="compression-level"):
        write(event_rows(10), to)


def test_pages_end_at_the_row_limit(tmp_path: Path) -> None:
    to = target(tmp_path, EVENTS, properties={"write.parquet.page-row-limit": "500"})
    (file,) = write(event_rows(10_000), to).files
    few = file.file_size_in_bytes
    (whole,) = write(event_rows(10_000), target(tmp_path / "other", EVENTS)).files
    assert few > whole.file_size_in_bytes + 20 * 10  # twenty pages a column have headers and index entries of their own


def test_files_lie_under_the_data_path(tmp_path: Path) -> None:
    (file,) = write(event_rows(10), target(tmp_path, EVENTS, properties={"write.data.path": f"{tmp_path}/else/"})).files
    assert Path(file.file_path).parent == tmp_path / "else"
    (file,) = write(event_rows(10), target(tmp_path, EVENTS)).files
    assert Path(file.file_path).parent == tmp_path / "t" / "data"


def test_object_storage_spreads_files_by_their_hash(tmp_path: Path) -> None:
    (file,) = write(event_rows(10), target(tmp_path, EVENTS, properties={"write.object-storage.enabled": "true"})).files
    between = Path(file.file_path).relative_to(tmp_path / "t" / "data").parts[:-1]
    assert [len(part) for part in between] == [4, 4, 4, 8]
    assert set("".join(between)) <= {"0", "1"}


def test_file_names_carry_the_operation_and_the_task(tmp_path: Path) -> None:
    (file,) = write(event_rows(10), target(tmp_path, EVENTS), write_uuid="some-operation", task_id=3).files
    assert Path(file.file_path).name == "00000-3-some-operation-00001.parquet"


def test_a_target_can_be_sent_to_another_process(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties={"a": "b"})
    assert pickle.loads(pickle.dumps(to)) == to


def test_repeating_values_get_a_dictionary_and_others_do_not(tmp_path: Path) -> None:
    rows = event_rows(100_000)
    (file,) = write(rows, target(tmp_path, EVENTS)).files
    group = pq.read_metadata(file.file_path).row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "RLE_DICTIONARY" in encodings["s"]
    assert all("RLE_DICTIONARY" not in encodings[name] for name in ("id", "ts", "x"))
    assert {e for found in encodings.values() for e in found} <= {"PLAIN", "RLE", "RLE_DICTIONARY"}


def test_elements_of_lists_get_dictionaries_too(tmp_path: Path) -> None:
    rows = pa.concat_tables([every_type_rows()] * 500)
    (file,) = write(rows, target(tmp_path, EVERY_TYPE)).files
    group = pq.read_metadata(file.file_path).row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "RLE_DICTIONARY" in encodings["list.list.element"]
    assert "RLE_DICTIONARY" in encodings["map.key_value.key"]


def test_one_batch_larger_than_a_row_group_is_cut(tmp_path: Path) -> None:
    rows = event_rows(25_000).combine_chunks()
    to = target(tmp_path, EVENTS, properties={"write.parquet.row-group-limit": "10000"})
    result = write(pa.table(rows.columns, schema=rows.schema), to, threads=1)
    footer = pq.read_metadata(result.files[0].file_path)
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [10_000, 10_000, 5_000]
    assert same_rows(read(result.files), rows)


def test_dates_before_1970_and_beyond_the_calendar_keep_their_bounds(tmp_path: Path) -> None:
    (file,) = write(every_type_rows(), target(tmp_path, EVERY_TYPE)).files
    low, high = (int.from_bytes(b[9], "little", signed=True) for b in (file.lower_bounds, file.upper_bounds))
    assert (dt.date(1970, 1, 1) + dt.timedelta(days=low)) == dt.date(1969, 12, 31)
    assert (dt.date(1970, 1, 1) + dt.timedelta(days=high)) == dt.date(9999, 12, 31)


def read_schema(schema: Schema) -> pa.Schema:
    return pa.schema([(field.name, pa.int64() if field.name == "id" else pa.string()) for field in schema.fields])
