import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "s": ["a", None, ""],
        "day": pa.array([0, 1, None], pa.date32()),
        "at": pa.array([0, None, 1_500_000], pa.timestamp("us", "UTC")),
        "x": [1.5, None, -0.25],
    }
)
CSV = (
    'id,s,day,at,x\n1,a,1970-01-01,1970-01-01T00:00:00Z,1.5\n2,,1970-01-02,,\n3,"",,1970-01-01 01:00:01.5+01:00,-0.25\n'
)
JSON = (
    '{"id": 1, "s": "a", "day": "1970-01-01", "at": "1970-01-01T00:00:00Z", "x": 1.5}\n'
    '{"id": 2, "day": "1970-01-02"}\n'
    '{"s": "", "id": 3, "at": "1970-01-01 01:00:01.5+01:00", "x": -0.25}\n'
)
CREATE = "CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, s string, day date, at timestamptz, x double)"
READ = "SELECT id, s, day, at, x FROM ns.t ORDER BY id"


def write(path: Path) -> Path:
    match path.suffixes[0]:
        case ".parquet":
            pq.write_table(ROWS, path)
        case ".arrow":
            with pa.ipc.new_file(path, ROWS.schema) as writer:
                writer.write_table(ROWS)
        case ".arrows":
            with pa.ipc.new_stream(path, ROWS.schema) as writer:
                writer.write_table(ROWS)
        case ".feather":
            feather.write_feather(ROWS, path)
        case suffix:
            text = {".csv": CSV, ".tsv": CSV.replace(",", "\t"), ".jsonl": JSON}[suffix]
            if path.suffix == ".gz":
                path.write_bytes(gzip.compress(text.encode()))
            elif path.suffix == ".zst":
                path.write_bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))
            else:
                path.write_text(text)
    return path


def expected() -> list[tuple]:
    return [tuple(row.values()) for row in ROWS.to_pylist()]


@pytest.mark.parametrize(
    "name",
    [
        "f.parquet",
        "f.arrow",
        "f.arrows",
        "f.feather",
        "f.csv",
        "f.csv.gz",
        "f.csv.zst",
        "f.tsv",
        "f.jsonl",
        "f.jsonl.gz",
    ],
)
def test_every_format_brings_its_rows_into_a_table_exactly(run, rows, tmp_path, name):
    run("sql", CREATE)
    done = run("load", "ns.t", str(write(tmp_path / name)))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ns.t: 3 rows from 1 file · 1 data file, ")
    assert rows(READ) == expected()


@pytest.mark.parametrize("name", ["f.parquet", "f.csv", "f.arrows"])
def test_create_makes_namespace_and_table_with_the_types_of_the_files(run, rows, tmp_path, name):
    done = run("load", "ns.t", str(write(tmp_path / name)), "--create", "--partition-by", "bucket(2, id), month(day)")
    assert done.exit_code == 0, done.output
    assert rows(READ) == expected()


def test_all_files_make_one_snapshot(run, rows, warehouse, tmp_path):
    paths = [str(write(tmp_path / name)) for name in ("a.parquet", "b.parquet", "c.parquet")]
    run("load", "ns.t", *paths, "--create")
    assert rows("SELECT count(*) FROM ns.t") == [(9,)]
    assert len(list(warehouse.rglob("snap-*.avro"))) == 1


def test_columns_are_matched_by_name_across_files(run, rows, tmp_path):
    pq.write_table(ROWS.slice(0, 1), tmp_path / "a.parquet")
    pq.write_table(ROWS.slice(1).select(["x", "at", "day", "s", "id"]), tmp_path / "b.parquet")
    run("load", "ns.t", "a.parquet", "b.parquet", "--create")
    assert rows(READ) == expected()


def test_create_on_an_existing_table_is_refused(run, rows, tmp_path):
    path = str(write(tmp_path / "f.parquet"))
    run("load", "ns.t", path, "--create")
    done = run("load", "ns.t", path, "--create")
    assert done.exit_code == 1
    assert "leave --create out" in done.stderr
    assert rows("SELECT count(*) FROM ns.t") == [(3,)]


def test_what_means_null_in_csv_can_be_said_and_quotes_override_it(run, rows, tmp_path):
    (tmp_path / "f.csv").write_text('a;b\nNA;1\n"NA";-\n;3\n')
    run("load", "ns.n", "f.csv", "--create", "--delimiter", ";", "--null", "NA", "--null", "-")
    assert rows("SELECT a, b FROM ns.n ORDER BY b NULLS FIRST") == [("NA", None), (None, 1), ("", 3)]


def test_csv_without_a_header_gets_names(run, rows, tmp_path):
    (tmp_path / "f.csv").write_text("1,x\n2,y\n")
    run("load", "ns.n", "f.csv", "--create", "--no-header")
    assert rows("SELECT f0, f1 FROM ns.n ORDER BY f0") == [(1, "x"), (2, "y")]


def test_nested_json_comes_in(run, rows, tmp_path):
    run("sql", "CREATE NAMESPACE ns; CREATE TABLE ns.n (l array<date>, s struct<a: decimal(9, 2), b: string>)")
    (tmp_path / "f.jsonl").write_text('{"l": ["1970-01-02", null], "s": {"a": 1.10}}\n{"l": []}\n')
    assert run("load", "ns.n", "f.jsonl").exit_code == 0
    text = "SELECT CAST(l[1] AS string), cardinality(l), CAST(s['a'] AS string) FROM ns.n ORDER BY 1 NULLS LAST"
    assert [row[0] for row in rows(text)] == ["1970-01-02", None]
    assert rows(text)[0][2] == "1.10"


BROKEN = {
    "value.csv": ("id,s\n1,a\nx,b\n", "value.csv: column id:"),
    "ragged.csv": ("id,s\n1,a\n2\n", "ragged.csv: CSV parse error"),
    "zoneless.csv": ("id,at\n1,2020-01-01T00:00:00\n", "column at:"),
    "extra.csv": ("id,zz\n1,2\n", "no column zz"),
    "empty.csv": ("", "empty.csv"),
    "value.jsonl": ('{"id": 1}\n{"id": 1.5}\n', "value.jsonl"),
    "date.jsonl": ('{"id": 1, "day": "2020-13-01"}\n', "date.jsonl: column day:"),
    "zoneless.jsonl": ('{"id": 1, "at": "2020-01-01T00:00:00"}\n', "column at:"),
    "extra.jsonl": ('{"id": 1, "zz": 2}\n', "no column zz"),
    "array.json": (' [{"id": 1}]', "one object a line"),
    "cut.parquet": ("PAR1 and no more", "cut.parquet"),
    "unknown": ("id\n1\n", "--format"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_nothing_of_the_load_stays(run, rows, warehouse, tmp_path, name):
    text, said = BROKEN[name]
    (tmp_path / name).write_text(text)
    run("sql", CREATE)
    done = run("load", "ns.t", name)
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert rows("SELECT count(*) FROM ns.t") == [(0,)]
    assert list(warehouse.rglob("*.parquet")) == []


def test_a_later_file_that_differs_is_named_and_leaves_no_table(run, rows, warehouse, tmp_path):
    write(tmp_path / "a.parquet")
    pq.write_table(ROWS.set_column(0, "id", ROWS["id"].cast(pa.int32())), tmp_path / "b.parquet")
    pq.write_table(ROWS.drop_columns(["x"]), tmp_path / "c.parquet")
    for name, said in (("b.parquet", "b.parquet: column id is int32"), ("c.parquet", "c.parquet has no column x")):
        done = run("load", "ns.t", "a.parquet", name, "--create")
        assert done.exit_code == 1
        assert said in done.stderr
        assert run("sql", "SELECT * FROM ns.t").exit_code == 1
        assert list(warehouse.rglob("*.parquet")) == []


def test_types_told_from_the_first_rows_hold_for_later_files(run, tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id\nx\n")
    done = run("load", "ns.t", "a.csv", "b.csv", "--create")
    assert done.exit_code == 1
    assert "b.csv: column id" in done.stderr
    assert "CREATE TABLE" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["nothere.csv"], [], ["f.csv", "--partition-by", "id"], ["f.csv", "--delimiter", "ab"]],
)
def test_wrong_usage_is_exit_code_2(run, tmp_path, arguments):
    (tmp_path / "f.csv").write_text("id\n1\n")
    assert run("load", "ns.t", *arguments).exit_code == 2
