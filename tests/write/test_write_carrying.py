import datetime as dt
import decimal
import io
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType
from pyroaring import BitMap
from writing import EVENTS, EVERY_TYPE, event_rows, every_type_rows, read, stored_files, target, write

import icefusion as ice
from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.write import carrying
from icefusion.write.carrying import Part, RowChanges, Stretch, may_be_worth_it, stretches, write_remaining
from icefusion.write.copying import EncodedRows
from icefusion.write.encoded import EncodedFile
from icefusion.write.executor import WriteOptions, WriteTarget
from icefusion.write.files import TableFiles
from icefusion.write.overlay import Overlay
from icefusion.write.patching import PatchedGroup
from icefusion.write.thrift import (
    BINARY,
    BOOL,
    DOUBLE,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    SET,
    STRUCT,
    ThriftError,
    read_struct,
    write_struct,
)

SMALL = {"write.parquet.row-group-size-bytes": "400000", "write.parquet.page-row-limit": "100"}
FINE = SMALL | {"write.parquet.row-group-size-bytes": "80000"}


def many_rows(count: int, *, nan: bool = False) -> pa.Table:
    """Rows with values of every type, NULLs among them and perhaps NaN, that tend to grow from row to row."""
    ordinary, nulls, unusual = every_type_rows().to_pylist()
    plain = {"f": 0.5, "d": -0.0, "list": [0.5, None], "st": {"x": 1.0, "y": None}, "deep": [{"k": [(1, 2.0)]}]}
    rng = random.Random(7)
    rows = []
    for i in range(count):
        row = dict(rng.choice([ordinary, ordinary, nulls, unusual]))
        if not nan or i % 3:
            row |= {key: value for key, value in plain.items() if row[key] is not None}
        row["l"] = i
        if row["s"] is not None:
            row |= {
                "i": i - count // 2,
                "f": float("nan") if nan and i % 7 == 0 else i - 50.5,
                "s": f"{i:06} {row['s']}",
                "dec38": decimal.Decimal(i - 500),
                "dec9": decimal.Decimal(500 - i),
                "day": dt.date.fromordinal(700_000 + i),
                "fx": i.to_bytes(3, "big"),
            }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=iceberg_to_arrow(EVERY_TYPE))


@contextmanager
def encoded(file: DataFile) -> Iterator[EncodedFile]:
    with PyArrowFileIO().new_input(file.file_path).open() as stream:
        yield EncodedFile(stream, file.file_path, file.file_size_in_bytes)


def rewrite(
    file: DataFile,
    to: WriteTarget,
    gone: BitMap,
    overlay: Overlay | None = None,
    options: WriteOptions = WriteOptions(1),  # noqa: B008 - it is frozen
) -> tuple[list[DataFile], list[Part]] | None:
    """Write a file anew without some rows, and with new values; None where nothing of it can be carried over."""
    files = TableFiles(to, PyArrowFileIO(), str(uuid.uuid4()))
    with encoded(file) as found:
        parts = stretches(found, file, RowChanges(gone, overlay), files, options)
        if parts is None:
            return None
        return list(write_remaining(parts, file, files, None, options).files), parts


def is_decoded(part: Part) -> bool:
    return isinstance(part, Stretch) and part.changes is not None


def random_overlay(rng: random.Random, rows: pa.Table, gone: BitMap, columns: list[str]) -> Overlay | None:
    """New values for some rows that are not gone, from other rows."""
    places = [i for i in runs(rng, rows.num_rows) if i not in gone]
    values = rows.take(pa.array([rng.randrange(rows.num_rows) for _ in places], pa.int64())).select(columns)
    return Overlay(np.array(places, np.uint32), values) if places else None


def laid_over(rows: pa.Table, overlay: Overlay | None) -> pa.Table:
    if overlay is None:
        return rows
    new = rows.to_pylist()
    for position, values in zip(overlay.positions, overlay.rows.to_pylist(), strict=True):
        new[position] |= values
    return pa.Table.from_pylist(new, schema=rows.schema)


def runs(rng: random.Random, count: int) -> BitMap:
    """Some runs of positions, and single ones."""
    gone = BitMap()
    for _ in range(rng.randrange(4)):
        start = rng.randrange(count)
        gone |= BitMap(range(start, min(count, start + rng.choice([1, 30, 100, count // 3]))))
    return gone


def left(rows: pa.Table, gone: BitMap) -> pa.Table:
    return rows.filter(pa.array([i not in gone for i in range(rows.num_rows)]))


def metrics(file: DataFile) -> list[object]:
    names = ("record_count", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds")
    return [getattr(file, name) for name in names]


@pytest.mark.parametrize("seed", range(24))
def test_what_is_left_of_values_of_every_type(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    rows = many_rows(1000, nan=bool(seed % 2))
    (file,) = write(rows, to).files
    for generation in range(4):
        gone = runs(rng, rows.num_rows) if rng.random() < 0.7 else BitMap()
        columns = rng.sample(rows.column_names, rng.choice([1, 3, rows.num_columns]))
        overlay = random_overlay(rng, rows, gone, columns)
        expected = left(laid_over(rows, overlay), gone)
        done = rewrite(file, to, gone, overlay)
        if done is None:
            return
        ((file,), parts) = done
        assert not all(map(is_decoded, parts)), generation
        assert str(read([file]).to_pylist()) == str(expected.to_pylist())
        # The manifest says of it what it says of the same rows written afresh.
        (afresh,) = write(expected, to).files
        assert metrics(file) == metrics(afresh)
        rows = expected


def test_footers_and_page_indexes_say_of_pages_what_they_hold(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    overlay = Overlay(np.array([300, 301, 702], np.uint32), rows.slice(0, 3).select(["s", "i"]))
    ((new,), _) = rewrite(file, to, BitMap(range(130, 170)), overlay)  # type: ignore[misc]
    with encoded(new) as found:
        assert found.has_exact_pages
        for group in found.groups:
            assert group.pages is not None
            for start, stop in zip(group.cuts, group.cuts[1:], strict=False):
                part = pa.Table.from_batches(EncodedRows(group, start, stop).decode(1000))
                first = group.first_position + start
                assert part.equals(read([new]).slice(first, stop - start).cast(part.schema))
            for position, pages in enumerate(group.pages):
                footer = found.metadata.row_group(group.number).column(position)
                assert sum(pages.null_counts) == footer.statistics.null_count
                assert footer.total_uncompressed_size > 0
    with io.BytesIO(Path(new.file_path).read_bytes()) as data:
        assert pq.read_table(data, filters=[("l", ">=", 990)])["l"].to_pylist() == list(range(990, 1000))


def test_only_what_lies_around_missing_rows_is_decoded(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=FINE)
    (file,) = write(many_rows(1000), to).files
    ((new,), parts) = rewrite(file, to, BitMap([150, 151, 420]))  # type: ignore[misc]
    decoded = [part.rows for part in parts if isinstance(part, Stretch) and part.changes is not None]
    begins = [rows.group.first_position + rows.first for rows in decoded]
    assert [rows.num_rows for rows in decoded] == [100, 100]
    assert [begin <= row < begin + 100 for begin, row in zip(begins, (150, 420), strict=True)] == [True, True]
    old, bytes_ = Path(file.file_path).read_bytes(), Path(new.file_path).read_bytes()
    footer = pq.read_metadata(new.file_path)
    carried = 0
    for i in range(footer.num_row_groups):
        chunk = footer.row_group(i).column(2)
        carried += bytes_[chunk.data_page_offset :][: chunk.total_compressed_size] in old
    assert carried == sum(not is_decoded(part) for part in parts)


def test_only_columns_that_change_are_encoded_anew(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    overlay = Overlay(np.arange(0, 1000, 7, dtype=np.uint32), rows.slice(0, 143).select(["st", "day"]))
    ((new,), parts) = rewrite(file, to, BitMap(), overlay)  # type: ignore[misc]
    assert all(isinstance(part, PatchedGroup) for part in parts)
    assert read([new]).equals(laid_over(rows, overlay))
    old, bytes_ = Path(file.file_path).read_bytes(), Path(new.file_path).read_bytes()
    for group in range(pq.read_metadata(new.file_path).num_row_groups):
        for place in range(len(TableFiles(to, PyArrowFileIO(), "").leaves)):
            chunk = pq.read_metadata(new.file_path).row_group(group).column(place)
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            pages = bytes_[start:][: chunk.total_compressed_size]
            assert (pages in old) == (chunk.path_in_schema.split(".")[0] not in ("st", "day")), chunk.path_in_schema


@pytest.mark.parametrize("limit_bytes", [None, 1, 2_000])
def test_columns_that_are_large_beside_the_memory_are_left_to_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_bytes: int | None
) -> None:
    monkeypatch.setattr(carrying, "LIMITED_COLUMN_BYTES", 1_000)
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    overlay = Overlay(np.arange(0, 1000, 7, dtype=np.uint32), rows.slice(0, 143))
    small, large = overlay.select(["flag"]), overlay.select(["l"])
    options = WriteOptions(1, limit_bytes)
    assert rewrite(file, to, BitMap(), small, options) is not None
    assert (rewrite(file, to, BitMap(), large, options) is None) == (limit_bytes is not None)


def test_new_values_may_be_nan(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    nans = pa.table({"d": [float("nan")] * 100}, pa.schema([rows.schema.field("d")]))
    overlay = Overlay(np.arange(0, 1000, 10, dtype=np.uint32), nans)
    ((new,), _) = rewrite(file, to, BitMap([5]), overlay)  # type: ignore[misc]
    (afresh,) = write(left(laid_over(rows, overlay), BitMap([5])), to).files
    assert metrics(new) == metrics(afresh)
    assert 100 in (new.nan_value_counts or {}).values()


def test_row_groups_all_of_whose_rows_are_gone_are_left_out(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=FINE | {"write.parquet.row-group-limit": "250"})
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    ((new,), parts) = rewrite(file, to, BitMap(range(250, 500)))  # type: ignore[misc]
    assert list(map(is_decoded, parts)) == [False] * 3
    assert read([new]).equals(left(rows, BitMap(range(250, 500))))
    assert pq.read_metadata(new.file_path).num_row_groups == 3


@pytest.mark.parametrize("io_class", [PyArrowFileIO, FsspecFileIO])
def test_row_groups_of_both_kinds_take_turns(tmp_path: Path, io_class: type[FileIO]) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=FINE)
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    io, gone = io_class({}), BitMap([130, 540, 900])
    files = TableFiles(to, io, str(uuid.uuid4()))
    with io.new_input(file.file_path).open() as stream:
        found = EncodedFile(stream, file.file_path, file.file_size_in_bytes)
        parts = stretches(found, file, RowChanges(gone), files, WriteOptions(1))
        assert parts is not None
        assert [is_decoded(part) for part in parts].count(False) >= 3
        (new,) = write_remaining(parts, file, files, None, WriteOptions(1)).files
    assert read([new]).equals(left(rows, gone))
    assert new.file_size_in_bytes == Path(new.file_path).stat().st_size
    with encoded(new) as found:
        assert all(group.pages is not None for group in found.groups)


def test_files_do_not_grow_beyond_their_target(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=FINE | {"write.parquet.row-group-limit": "100"})
    rows = many_rows(1000)
    (file,) = write(rows, to).files
    size = {"write.target-file-size-bytes": str(file.file_size_in_bytes // 3)}
    limited = target(tmp_path, EVERY_TYPE, properties=dict(to.properties) | size)
    (files, _) = rewrite(file, limited, BitMap([5]))  # type: ignore[misc]
    assert len(files) > 1
    sizes = [sum(each.column_sizes.values()) for each in files]
    assert max(sizes) < 0.7 * sum(file.column_sizes.values())
    assert read(sorted(files, key=lambda file: file.file_path)).equals(left(rows, BitMap([5])))


def test_values_that_are_not_what_they_seem(tmp_path: Path) -> None:
    """Bounds go by the order of the types: signed decimals, unsigned bytes, both zeros."""
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    base = many_rows(1000)
    values = {
        "dec38": pa.array([decimal.Decimal(i - 500) * 10**20 for i in range(1000)], pa.decimal128(38, 4)),
        "b": pa.array([bytes([i % 256]) * (i % 3) for i in range(1000)], pa.binary()),
        "d": pa.array([(-0.0, 0.0)[i % 2] for i in range(1000)], pa.float64()),
        "flag": pa.array([i > 500 for i in range(1000)], pa.bool_()),
    }
    for name, array in values.items():
        place = base.schema.get_field_index(name)
        base = base.set_column(place, base.schema.field(place), array)
    (file,) = write(base, to).files
    for gone in (BitMap(range(333)), BitMap(range(600, 1000)), BitMap([450])):
        ((new,), _) = rewrite(file, to, gone)  # type: ignore[misc]
        (afresh,) = write(left(base, gone), to).files
        assert metrics(new) == metrics(afresh)
        footer = pq.read_metadata(new.file_path)
        for i in range(footer.num_row_groups):
            rows = pq.ParquetFile(new.file_path).read_row_group(i)
            for name in ("i", "l", "dec38", "day", "s", "fx", "flag"):
                column = footer.row_group(i).column(footer.schema.to_arrow_schema().names.index(name))
                statistics = column.statistics
                if name == "s":
                    assert statistics.max == pc.max(rows[name]).as_py()
                assert statistics.null_count == rows[name].null_count


OTHER = {
    "a codec": {"write.parquet.compression-codec": "snappy"},
    "a target for bounds of many values": {"write.parquet.row-group-size-bytes": str(400_000_000)},
}


@pytest.mark.parametrize("change", OTHER)
def test_files_of_other_settings_are_decoded(tmp_path: Path, change: str) -> None:
    (file,) = write(many_rows(1000), target(tmp_path, EVERY_TYPE, properties=SMALL)).files
    to = target(tmp_path, EVERY_TYPE, properties=SMALL | OTHER[change])
    assert rewrite(file, to, BitMap([1])) is None


def test_nan_are_counted_in_what_is_carried_over(tmp_path: Path) -> None:
    to = target(tmp_path, EVENTS, properties=SMALL)
    rows = event_rows(5000)
    (file,) = write(rows, to).files
    for known in (file.nan_value_counts, None):
        file[9] = known  # nan_value_counts, which has no setter
        ((new,), parts) = rewrite(file, to, BitMap([1]))  # type: ignore[misc]
        assert not all(map(is_decoded, parts))
        (afresh,) = write(left(rows, BitMap([1])), to).files
        assert metrics(new) == metrics(afresh)
        assert max((new.nan_value_counts or {}).values()) > 0


def test_files_of_other_writers_go_by_whole_row_groups(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    to = target(tmp_path, EVENTS, properties=SMALL | {"write.parquet.row-group-size-bytes": "2000000"})
    (file,) = write(event_rows(20_000).set_column(2, "x", pa.array([1.5] * 20_000)), to).files
    other = tmp_path / "other.parquet"
    duckdb.sql(
        f"COPY (FROM '{file.file_path}') TO '{other}' (COMPRESSION zstd, ROW_GROUP_SIZE 4096, "
        "FIELD_IDS {id: 1, ts: 2, x: 3, s: 4})"
    )
    with other.open("rb") as stream:
        found = EncodedFile(stream, str(other), other.stat().st_size)
        assert not found.has_exact_pages
        assert all(group.cuts == (0, group.num_rows) for group in found.groups)
        assert len(found.groups) > 2


@pytest.mark.parametrize("damage", ["cut off", "footer", "pages"])
def test_damaged_files_are_told_and_leave_nothing(tmp_path: Path, damage: str) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=SMALL)
    (file,) = write(many_rows(1000), to).files
    path = Path(file.file_path)
    data = path.read_bytes()
    match damage:
        case "cut off":
            path.write_bytes(data[:-20])
        case "footer":
            length = int.from_bytes(data[-8:-4], "little")
            path.write_bytes(data[: -8 - length] + b"\xff" * length + data[-8:])
        case "pages":
            chunk = pq.read_metadata(path).row_group(0).column(2)
            start, size = chunk.data_page_offset, chunk.total_compressed_size
            path.write_bytes(data[:start] + b"\xff" * size + data[start + size :])
    with pytest.raises(ice.StorageError, match=path.name):
        rewrite(file, to, BitMap([150]))
    assert stored_files(tmp_path) == [path]


scalars = st.sampled_from([I16, I32, I64, BINARY, DOUBLE, BOOL])
VALUES = {
    I16: st.integers(-(2**15), 2**15 - 1),
    I32: st.integers(-(2**31), 2**31 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    BINARY: st.binary(max_size=40),
    DOUBLE: st.binary(min_size=8, max_size=8),
    BOOL: st.booleans(),
}


def of_kind(kind: int) -> st.SearchStrategy[object]:
    return VALUES[kind]


structs = st.recursive(
    st.dictionaries(st.integers(-20, 400), scalars.flatmap(lambda kind: st.tuples(st.just(kind), of_kind(kind)))),
    lambda inner: st.dictionaries(
        st.integers(1, 40),
        st.one_of(
            st.tuples(st.just(STRUCT), inner),
            st.tuples(st.sampled_from([LIST, SET]), st.tuples(st.just(STRUCT), st.lists(inner, max_size=20))),
            st.tuples(st.just(LIST), scalars.flatmap(lambda kind: st.tuples(st.just(kind), st.lists(of_kind(kind))))),
            st.tuples(
                st.just(MAP),
                st.tuples(
                    st.just(BINARY << 4 | I64),
                    st.lists(st.tuples(of_kind(BINARY), of_kind(I64)), min_size=1, max_size=4),
                ),
            ),
        ),
        max_size=5,
    ),
)


@given(structs, st.binary(max_size=5))
def test_structs_come_through(struct: dict[int, tuple[int, object]], before: bytes) -> None:
    data = write_struct(struct)
    assert read_struct(before + data + b"rest", len(before)) == (struct, len(before) + len(data))


@given(st.binary(max_size=200))
def test_what_is_no_struct_is_told(data: bytes) -> None:
    try:
        struct, end = read_struct(data)
    except ThriftError:
        return
    assert end <= len(data)
    assert read_struct(write_struct(struct))[0] == struct


def test_footers_come_through_byte_by_byte(tmp_path: Path) -> None:
    (file,) = write(many_rows(300), target(tmp_path, EVERY_TYPE, properties=SMALL)).files
    data = Path(file.file_path).read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    struct, end = read_struct(footer)
    assert end == len(footer)
    assert write_struct(struct) == footer


def test_scattered_rows_are_told_without_a_look_at_the_file(tmp_path: Path) -> None:
    to = target(tmp_path, EVERY_TYPE, properties=FINE)
    (file,) = write(many_rows(1000), to).files
    options = TableFiles(to, PyArrowFileIO(), "none").options
    assert may_be_worth_it(file, BitMap(), options)
    assert may_be_worth_it(file, BitMap(range(600)), options)
    assert may_be_worth_it(file, BitMap([500]), options)
    assert not may_be_worth_it(file, BitMap(range(0, 1000, 3)), options)
    assert not may_be_worth_it(file, BitMap(range(1000)), options)


def test_pages_of_wide_values_stay_small_in_files_that_begin_with_what_is_carried_over(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "s", StringType()))
    properties = {"write.parquet.row-group-size-bytes": "4000000", "write.parquet.page-size-bytes": "100000"}
    to = target(tmp_path, schema, properties=properties)
    texts = [f"{i} " + "".join(random.Random(i).choices("abcdefghijklmnop", k=4000)) for i in range(2500)]
    rows = pa.table({"id": range(2500), "s": texts}).cast(iceberg_to_arrow(schema))
    (file,) = write(rows, to, threads=1).files
    gone = BitMap(range(1500, 2500, 3))
    ((new,), parts) = rewrite(file, to, gone)  # type: ignore[misc]
    assert not is_decoded(parts[0])
    assert read([new]).equals(left(rows, gone))
    with encoded(new) as found:
        lengths = [length for group in found.groups for _, length, _ in (group.pages or [])[1].places]
        assert len(lengths) > 40
        assert max(lengths) < 200_000
