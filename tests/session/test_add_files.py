"""Parquet files that become part of a table as they are: what is read of them afterwards, here and elsewhere."""

import datetime as dt
import decimal
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import icefusion as ice

MAPPING = "schema.name-mapping.default"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of somebody else's."""
    made = tmp_path / "their files"
    made.mkdir()
    return made


def write(path: Path, table: pa.Table, **options) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return str(path)


def metrics(session, table: str) -> list[tuple]:
    """Counts and bounds of all files of a table, by column."""
    wanted = "record_count, value_counts, null_value_counts, lower_bounds, upper_bounds"
    return session.sql(f"SELECT {wanted} FROM {table}.files ORDER BY 1").fetchall()


EVERY_TYPE = pa.table(
    {
        "i": pa.array([1, None, 3], pa.int16()),
        "b": pa.array([1, 2, 3], pa.int32()),
        "f": pa.array([1.5, None, float("nan")], pa.float32()),
        "flag": [True, None, False],
        "s": pa.array(["a long text that is cut somewhere", "b", None]).dictionary_encode(),
        "n": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(5, 2)),
        "d": pa.array([dt.date(2024, 5, 1), None, dt.date(1969, 1, 1)]),
        "t": pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time64("us")),
        "ts": pa.array([dt.datetime(2024, 5, 1, 12), None, dt.datetime(1969, 1, 1)], pa.timestamp("us")),
        "tz": pa.array([dt.datetime(2024, 5, 1, 12), None, dt.datetime(1969, 1, 1)], pa.timestamp("us", tz="UTC")),
        "raw": pa.array([b"\x00\xff", None, b""], pa.binary()),
        "code": pa.array([b"abcd", None, b"zzzz"], pa.binary(4)),
        "tags": pa.array([["x", None], [], None], pa.list_(pa.string())),
        "m": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
        "p": pa.array([{"x": 1, "y": "v"}, {"x": None, "y": None}, None]),
    }
)
COLUMNS = """
    i INT, b BIGINT, f DOUBLE, flag BOOLEAN, s STRING, n DECIMAL(9, 2), d DATE, t TIME, ts TIMESTAMP, tz TIMESTAMPTZ,
    raw BINARY, code FIXED(4), tags LIST<STRING>, m MAP<STRING, INT>, p STRUCT<x BIGINT, y STRING>
"""


def test_rows_and_metrics_are_those_of_an_insert(session, outside, files) -> None:
    session.sql(f"CREATE TABLE ns.added ({COLUMNS})")
    session.sql(f"CREATE TABLE ns.inserted ({COLUMNS})")
    path = write(files / "all.parquet", EVERY_TYPE)
    result = session.sql("CALL system.add_files('ns.added', $path)", {"path": path})
    assert result.columns == ["added_files_count", "changed_partition_count"]
    assert result.fetchall() == [(1, 1)]
    session.sql("INSERT INTO ns.inserted SELECT * FROM data", data=EVERY_TYPE)
    # NaN is not equal to itself, but prints as itself
    assert repr(outside.rows("ns.added")) == repr(outside.rows("ns.inserted"))
    assert repr(session.sql("SELECT * FROM ns.added").fetchall()) == repr(
        session.sql("SELECT * FROM ns.inserted").fetchall()
    )
    assert metrics(session, "ns.added") == metrics(session, "ns.inserted")
    summary = session.catalog.load_table("ns.added").current_snapshot().summary
    assert (summary["added-records"], summary["added-data-files"]) == ("3", "1")


def test_older_timestamps_are_read_and_have_no_bounds(session, files) -> None:
    session.sql("CREATE TABLE ns.t (ts TIMESTAMP, tz TIMESTAMPTZ)")
    moments = [dt.datetime(2024, 5, 1, 12, 0, 0, 123000), None, dt.datetime(1969, 1, 1)]
    for unit in ("ms", "us"):
        rows = pa.table(
            {"ts": pa.array(moments, pa.timestamp(unit)), "tz": pa.array(moments, pa.timestamp(unit, "UTC"))}
        )
        write(files / f"{unit}.parquet", rows, use_deprecated_int96_timestamps=unit == "us")
    assert session.table("ns.t").add_files(f"{files}/*.parquet") == 2
    utc = [None if moment is None else moment.replace(tzinfo=dt.UTC) for moment in moments]
    found = session.sql("SELECT ts, tz FROM ns.t").fetchall()
    key = repr
    assert sorted(found, key=key) == sorted([*zip(moments, utc, strict=True)] * 2, key=key)
    assert session.sql("SELECT count(*) FROM ns.t WHERE tz < TIMESTAMPTZ '1970-01-01 00:00:00Z'").fetchone() == (2,)
    assert all(not lower for _, _, _, lower, _ in metrics(session, "ns.t"))


def test_a_file_without_ids_is_read_by_the_names_that_it_was_added_under(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, name STRING)")
    path = write(files / "a.parquet", pa.table({"name": ["x"], "id": [1]}))
    session.table("ns.t").add_files(path)
    assert MAPPING in session.catalog.load_table("ns.t").properties
    session.sql("ALTER TABLE ns.t RENAME COLUMN name TO title")
    assert session.sql("SELECT id, title FROM ns.t").fetchall() == [(1, "x")]
    assert outside.rows("ns.t") == [{"id": 1, "title": "x"}]
    # the mapping knows both names of the column now
    session.table("ns.t").add_files(write(files / "b.parquet", pa.table({"id": [2], "title": ["y"]})))
    assert session.sql("SELECT id, title FROM ns.t ORDER BY id").fetchall() == [(1, "x"), (2, "y")]


def test_a_file_with_ids_is_one_of_this_table(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, name STRING)")
    session.sql("INSERT INTO ns.t VALUES (1, 'x')")
    session.sql("ALTER TABLE ns.t RENAME COLUMN name TO title")
    (path,) = (row[0] for row in session.sql("SELECT file_path FROM ns.t.files"))
    session.sql("TRUNCATE TABLE ns.t")
    assert session.table("ns.t").add_files(path) == 1
    assert MAPPING not in session.catalog.load_table("ns.t").properties
    assert outside.rows("ns.t") == [{"id": 1, "title": "x"}]
    session.sql("CREATE TABLE ns.other (title STRING, id BIGINT)")
    with pytest.raises(ice.SchemaError, match="column id has field id 1, which is title in the table") as caught:
        session.table("ns.other").add_files(path)
    assert "another table" in caught.value.hint
    assert outside.rows("ns.other") == []


def test_columns_that_do_not_fit_are_refused_by_name(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT NOT NULL, name STRING, at TIMESTAMP, p STRUCT<x INT>)")
    before = outside.files()
    unsigned = pa.array([1], pa.uint32())
    refused = {
        "column nmae is not in the table": {"id": [1], "nmae": ["x"]},
        "column id is NOT NULL in the table, and the file does not have it": {"name": ["x"]},
        "column id is NOT NULL in the table, and holds 1 NULLs": {"id": [1, None]},
        "column id is int32 as Int.*isSigned=false.* in it, and bigint in the table": {"id": unsigned},
        "column name is int64 in it, and string": {"id": [1], "name": [1]},
        "column at is .*nanoseconds.* in it": {"id": [1], "at": pa.array([1], pa.timestamp("ns"))},
        "column at is .*isAdjustedToUTC=true.* in it": {"id": [1], "at": pa.array([1], pa.timestamp("us", "UTC"))},
        "column p is string in it, and struct<x: int>": {"id": [1], "p": ["x"]},
        r"column p\.z is not in the table": {"id": [1], "p": pa.array([{"z": 2}])},
        r"column p\.x is int64 in it, and int in": {"id": [1], "p": pa.array([{"x": 1}])},
    }
    for number, (problem, columns) in enumerate(refused.items()):
        path = write(files / f"{number}.parquet", pa.table(columns))
        with pytest.raises(ice.SchemaError, match=problem) as caught:
            session.table("ns.t").add_files(path)
        assert path in caught.value.message
    assert outside.files() == before
    assert outside.snapshots() == 0


def test_what_is_no_file_of_rows_is_refused(session, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    (files / "x.parquet").write_bytes(b"PAR1 and no more")
    (files / "x.csv").write_text("id\n1\n")
    for call, error, problem in (
        (f"'{files}/x.parquet'", ice.StorageError, "cannot read .*x.parquet as Parquet"),
        (f"'{files}/*.orc'", ice.StorageError, "no file matches"),
        (f"'{files}/y.parquet'", ice.StorageError, "there is no file"),
        ("3", ice.BindError, "expected a text or a list of texts"),
        ("source_table => 'db.old'", ice.BindError, "expected a folder of files"),
        (f"source_table => '`orc`.`{files}`'", ice.BindError, "files of orc"),
        ("partition_filter => map(['a'], [1])", ice.BindError, "expected either files or a source_table"),
    ):
        with pytest.raises(error, match=problem):
            session.sql(f"CALL system.add_files('ns.t', {call})")


def test_nothing_is_added_twice(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    one, two = (write(files / f"{n}.parquet", pa.table({"id": [n]})) for n in (1, 2))
    assert session.table("ns.t").add_files([one, one, f"{files}/1*"]) == 1
    with pytest.raises(ice.SchemaError, match=r"has .*1\.parquet already"):
        session.table("ns.t").add_files(f"{files}/*.parquet")
    with session.transaction() as tx:
        tx.sql("CALL system.add_files('ns.t', ?)", [two])
        with pytest.raises(ice.SchemaError, match=r"2\.parquet already"):
            tx.sql("CALL system.add_files('ns.t', ?)", [two])
    assert outside.ids() == [1, 2]


def test_a_key_adds_files_once(session, outside, files, folder) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    path = write(files / "1.parquet", pa.table({"id": [1]}))
    call = "CALL system.add_files('ns.t', ?)"
    first = session.sql(call, [path], idempotency_key="load-1")
    assert first.fetchall() == [(1, 1)]
    with ice.connect(folder) as other:
        again = other.sql(call, [path], idempotency_key="load-1")
        assert again.already_landed
        current = session.catalog.load_table("ns.t").current_snapshot()
        assert again.snapshot_id == first.snapshot_id == current.snapshot_id
        assert again.fetchall() == [(0, 0)]
        for _ in range(2):
            with other.transaction(idempotency_key="load-2") as tx:
                tx.sql("CALL system.add_files('ns.t', ?)", [write(files / "2.parquet", pa.table({"id": [2]}))])
    assert outside.ids() == [1, 2]
    with pytest.raises(ice.ConfigurationError, match="one statement that writes rows"):
        session.sql("CALL system.ancestors_of('ns.t')", idempotency_key="x")


def test_two_who_add_a_file_at_once_do_not_both_succeed(session, outside, files, folder) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    session.sql("INSERT INTO ns.t VALUES (0)")
    path = write(files / "1.parquet", pa.table({"id": [1]}))
    with ice.connect(folder) as other:
        session.sql("BEGIN")
        session.table("ns.t").add_files(path)
        session.sql("INSERT INTO ns.t VALUES (2)")
        other.sql("INSERT INTO ns.t VALUES (3)")
        other.table("ns.t").add_files(path)
        with pytest.raises(ice.CommitConflictError, match=r"1\.parquet, and this transaction adds it as well"):
            session.sql("COMMIT")
    assert outside.ids() == [0, 1, 3]
    assert Path(path).exists()


def test_files_of_others_outlive_what_becomes_of_the_transaction(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    path = write(files / "1.parquet", pa.table({"id": [1, 2]}))
    with session.transaction() as tx:
        tx.sql("CALL system.add_files('ns.t', ?)", [path])
        tx.sql("UPDATE ns.t SET id = 20 WHERE id = 2")
        tx.rollback()
    assert Path(path).exists()
    with session.transaction() as tx:
        tx.sql("CALL system.add_files('ns.t', ?)", [path])
        tx.sql("UPDATE ns.t SET id = 20 WHERE id = 2")
        tx.sql("DELETE FROM ns.t WHERE id = 1")
    assert outside.ids() == [20]
    assert Path(path).exists()


PARTITIONED = "CREATE TABLE ns.t (id BIGINT, at TIMESTAMP, kind STRING) PARTITIONED BY"
MAY = [dt.datetime(2024, 5, 1, 3), dt.datetime(2024, 5, 1, 23)]


@pytest.mark.parametrize("statistics", [True, False])
def test_the_partition_is_told_by_the_rows(session, files, statistics) -> None:
    session.sql(f"{PARTITIONED} (day(at), kind, bucket(4, id), truncate(2, kind))")
    rows = pa.table({"id": [7, 7], "at": pa.array(MAY, pa.timestamp("us")), "kind": ["abc", "abc"]})
    path = write(files / "1.parquet", rows, write_statistics=statistics)
    session.table("ns.t").add_files(path)
    session.sql("INSERT INTO ns.t SELECT * FROM rows", rows=rows)
    added, inserted = session.sql("SELECT partition FROM ns.t.files ORDER BY file_path").fetchall()
    assert added == inserted
    assert session.sql("SELECT count(*) FROM ns.t WHERE kind = 'abc' AND at >= '2024-05-01'").fetchone() == (4,)


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        ("month(at)", {"id": [1, 2], "at": pa.array([MAY[0], dt.datetime(2024, 6, 1)], pa.timestamp("us"))}),
        ("kind", {"id": [1, 2], "kind": ["a", None]}),
        ("bucket(4, id)", {"id": [1, 2, 3, 4, 5]}),
    ],
)
def test_rows_of_several_partitions_are_no_file(session, outside, files, spec, columns) -> None:
    session.sql(f"{PARTITIONED} ({spec})")
    path = write(files / "1.parquet", pa.table(columns))
    with pytest.raises(ice.SchemaError, match="its rows are in several partitions") as caught:
        session.table("ns.t").add_files(path)
    assert "INSERT INTO" in caught.value.hint
    assert outside.snapshots() == 0


def test_folders_tell_the_partition_of_columns_that_files_lack(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, day DATE, kind STRING) PARTITIONED BY (day, kind)")
    for day, kind in (("2024-05-01", "a"), ("2024-05-02", "b%20c"), ("2024-05-02", "__HIVE_DEFAULT_PARTITION__")):
        write(files / f"day={day}/kind={kind}/1.parquet", pa.table({"id": [int(day[-1])]}))
    (files / "_SUCCESS").touch()
    (files / "day=2024-05-01" / ".hidden.parquet").write_bytes(b"?")
    (files / "_temporary").mkdir()
    (files / "_temporary" / "1.parquet").write_bytes(b"?")
    call = f"CALL system.add_files('ns.t', '`parquet`.`{files}`', partition_filter => map(['day'], ['2024-05-02']))"
    assert session.sql(call).fetchall() == [(2, 2)]
    call = f"CALL system.add_files(table => 'ns.t', source_table => 'parquet.`{files}/day=2024-05-01`')"
    assert session.sql(call).fetchall() == [(1, 1)]
    expected = [(1, dt.date(2024, 5, 1), "a"), (2, dt.date(2024, 5, 2), "b c"), (2, dt.date(2024, 5, 2), None)]
    assert session.sql("SELECT * FROM ns.t ORDER BY day, kind").fetchall() == expected
    assert session.sql("SELECT id FROM ns.t WHERE day = DATE '2024-05-01'").fetchall() == [(1,)]
    assert sorted(map(repr, (tuple(row.values()) for row in outside.rows("ns.t")))) == sorted(map(repr, expected))
    with pytest.raises(ice.BindError, match="no folder tells dya") as caught:
        session.table("ns.t").add_files(f"{files}/*/*/*.parquet", partition_filter={"dya": 1})
    assert caught.value.hint == "did you mean day?"


def test_a_folder_that_tells_what_no_partition_holds_is_refused(session, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, day DATE)")
    path = write(files / "day=2024-05-01/1.parquet", pa.table({"id": [1]}))
    with pytest.raises(ice.SchemaError, match="column day is told by its folder alone"):
        session.table("ns.t").add_files(path)
    session.sql("ALTER TABLE ns.t ADD PARTITION FIELD day")
    other = write(files / "day=first/1.parquet", pa.table({"id": [1]}))
    with pytest.raises(ice.SchemaError, match="its folder says day=first, which is no date"):
        session.table("ns.t").add_files(other)
    session.table("ns.t").add_files(path)
    assert session.sql("SELECT * FROM ns.t").fetchall() == [(1, dt.date(2024, 5, 1))]


def test_files_are_out_of_reach_where_files_are_not_allowed(folder, files) -> None:
    path = write(files / "1.parquet", pa.table({"id": [1]}))
    with ice.connect(folder, allow_files=False) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id BIGINT)")
        with pytest.raises(ice.UnsupportedStatementError, match="add_files"):
            session.sql(f"CALL system.add_files('ns.t', '{path}')")


def test_another_name_of_a_file_is_no_other_file(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    path = Path(write(files / "1.parquet", pa.table({"id": [1]})))
    (files / "inner").mkdir()
    (files / "link.parquet").symlink_to(path)
    names = [str(files / "inner" / ".." / path.name), str(files / "link.parquet"), path.as_uri(), f"file:{path}"]
    assert session.table("ns.t").add_files([str(path), *names]) == 1
    for name in names:
        with pytest.raises(ice.SchemaError, match="already"):
            session.table("ns.t").add_files(name)
    assert outside.ids() == [1]


def test_what_a_transaction_took_away_it_may_add_again(session, outside, files) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    path = write(files / "1.parquet", pa.table({"id": [1]}))
    session.table("ns.t").add_files(path)
    with session.transaction() as tx:
        tx.sql("TRUNCATE TABLE ns.t")
        tx.sql("CALL system.add_files('ns.t', ?)", [path])
        with pytest.raises(ice.SchemaError, match="already"):  # one commit adds a file once, come what may
            tx.sql("CALL system.add_files('ns.t', ?, check_duplicate_files => false)", [path])
        assert tx.sql("SELECT * FROM ns.t").fetchall() == [(1,)]
    assert outside.ids() == [1]
    assert session.sql("SELECT * FROM ns.t").fetchall() == [(1,)]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_rows_of_a_file_that_was_added_twice_count_twice(session, outside, files, mode) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    path = write(files / "1.parquet", pa.table({"id": [1, 2]}))
    for _ in range(2):
        session.sql("CALL system.add_files('ns.t', ?, check_duplicate_files => false)", [path])
    count = "SELECT id, count(*) FROM ns.t GROUP BY id ORDER BY id"
    assert session.sql(count).fetchall() == [(1, 2), (2, 2)]
    session.sql("DELETE FROM ns.t WHERE id = 1", write_mode=mode)
    assert session.sql(count).fetchall() == [(2, 2)]
    assert outside.ids() == [2, 2]
    told = "SELECT id, _change_type, _change_ordinal FROM table_changes('ns.t') ORDER BY 3, 1"
    inserts = [(number, "INSERT", ordinal) for ordinal in (0, 1) for number in (1, 2)]
    assert session.sql(told).fetchall() == [*inserts, (1, "DELETE", 2), (1, "DELETE", 2)]


@pytest.mark.parametrize("name", ["a\nb", "a\x7fb", "a#?%20*[1]b"])
def test_files_may_have_any_names(session, files, name) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    session.table("ns.t").add_files(write(files / f"{name}.parquet", pa.table({"id": [1, 2]})))
    assert session.sql("SELECT id FROM ns.t WHERE id > 1").fetchall() == [(2,)]
    assert session.sql("UPDATE ns.t SET id = 3 WHERE id = 1", write_mode="merge-on-read").rows_updated == 1
    assert session.sql("SELECT id FROM ns.t ORDER BY id").fetchall() == [(2,), (3,)]


def test_a_damaged_column_is_an_error_of_storage(session, outside, files) -> None:
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    path = Path(write(files / "1.parquet", pa.table({"id": list(range(1000))}), **options))
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    session.sql("CREATE TABLE ns.t (id BIGINT) PARTITIONED BY (bucket(2, id)); CREATE TABLE ns.u (id BIGINT NOT NULL)")
    for table in ("ns.t", "ns.u"):
        with pytest.raises(ice.StorageError, match=r"cannot read column id of .*1\.parquet"):
            session.table(table).add_files(str(path))
    assert outside.snapshots() == 0


def test_older_timestamps_tell_partitions(session, files) -> None:
    session.sql("CREATE TABLE ns.t (at TIMESTAMP) PARTITIONED BY (day(at))")
    old = [pa.array([dt.datetime(1500, 12, 31, 23)], pa.timestamp("us")), pa.array([1_234_567_891], pa.timestamp("ns"))]
    for number, column in enumerate(old):
        path = write(files / f"{number}.parquet", pa.table({"at": column}), use_deprecated_int96_timestamps=True)
        session.table("ns.t").add_files(path)
    expected = [dt.datetime(1500, 12, 31, 23), dt.datetime(1970, 1, 1, 0, 0, 1, 234567)]
    assert session.sql("SELECT at FROM ns.t ORDER BY at").fetchall() == [(at,) for at in expected]
    days = session.sql("SELECT partition.at_day FROM ns.t.files ORDER BY 1").fetchall()
    assert days == [(at.date(),) for at in expected]
    far = write(files / "far.parquet", pa.table({"at": pa.array([2**62], pa.timestamp("ms"))}))
    with pytest.raises(ice.SchemaError, match="column at holds values that no timestamp can be"):
        session.table("ns.t").add_files(far)


def test_extension_types_are_what_they_are_stored_as(session, files) -> None:
    session.sql("CREATE TABLE ns.t (v FLOAT); CREATE TABLE ns.u (v LIST<FLOAT>)")
    pair = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0], pa.float32()), 2)
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), pair)
    path = write(files / "1.parquet", pa.table({"v": tensor}))
    with pytest.raises(ice.SchemaError, match=r"column v is fixed_size_list.* in it, and float in the table"):
        session.table("ns.t").add_files(path)


def test_folders_are_chosen_by_value(session, files) -> None:
    session.sql(
        "CREATE TABLE ns.t (id BIGINT, month INT, done BOOLEAN, n DECIMAL(5, 2), at TIMESTAMP, u UUID) "
        "PARTITIONED BY (month, done, n, at, u)"
    )
    folder = "month=05/done=true/n=0.50/at=2024-05-01 01%3A00%3A00/u=00000000-0000-0000-0000-000000000007"
    write(files / folder / "1.parquet", pa.table({"id": [1]}))
    source = f"source_table => '`parquet`.`{files}`'"
    filters = ("month', 5", "done', true", "n', 0.5", "at', TIMESTAMP '2024-05-01 01:00:00'")
    nothing = session.sql(f"CALL system.add_files('ns.t', {source}, partition_filter => map('month', 6))")
    assert nothing.fetchall() == [(0, 0)]
    for wanted in filters:
        with session.transaction() as tx:
            call = f"CALL system.add_files('ns.t', {source}, partition_filter => map('{wanted}))"
            assert tx.sql(call).fetchall() == [(1, 1)]
            row = tx.sql("SELECT * FROM ns.t").fetchall()
            tx.rollback()
        moment = dt.datetime(2024, 5, 1, 1)
        assert row == [(1, 5, True, decimal.Decimal("0.50"), moment, uuid.UUID(int=7))]


def test_a_name_that_the_mapping_lacks_is_said_to_be_missing_there(session, files) -> None:
    mapping = '[{"field-id": 1, "names": ["ID"]}]'
    session.sql(f"CREATE TABLE ns.t (id BIGINT) TBLPROPERTIES ('{MAPPING}' = '{mapping}')")
    session.table("ns.t").add_files(write(files / "1.parquet", pa.table({"ID": [1]})))
    with pytest.raises(ice.SchemaError, match="column id is not in the table's name mapping"):
        session.table("ns.t").add_files(write(files / "2.parquet", pa.table({"id": [2]})))
    assert session.sql("SELECT id FROM ns.t").fetchall() == [(1,)]


@pytest.mark.parametrize("statistics", [True, False])
def test_fields_that_are_required_are_missing_where_their_struct_is(session, outside, files, statistics) -> None:
    session.sql("CREATE TABLE ns.t (p STRUCT<x INT NOT NULL, q STRUCT<y STRING NOT NULL>>, r STRUCT<z INT> NOT NULL)")
    inner = pa.struct([("x", pa.int32()), ("q", pa.struct([("y", pa.string())]))])
    fits = [{"x": 1, "q": {"y": "a"}}, None, {"x": 2, "q": None}]
    z = pa.array([{"z": None}] * 3, pa.struct([("z", pa.int32())]))
    columns = {"p": pa.array(fits, inner), "r": z}
    session.table("ns.t").add_files(write(files / "1.parquet", pa.table(columns), write_statistics=statistics))
    assert session.sql("SELECT p FROM ns.t").fetchall() == [(row,) for row in fits]
    for path, row in (("p.x", {"x": None, "q": None}), ("p.q.y", {"x": 1, "q": {"y": None}})):
        table = pa.table({"p": pa.array([row, None, fits[0]], inner), "r": z})
        with pytest.raises(ice.SchemaError, match=f"column {path} is NOT NULL in the table, and holds 1 NULLs"):
            session.table("ns.t").add_files(write(files / f"{path}.parquet", table, write_statistics=statistics))
    assert outside.snapshots() == 1
