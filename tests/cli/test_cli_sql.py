import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.cli.app import exit_code

ICEFUSION = [sys.executable, "-m", "icefusion"]


def test_a_result_is_a_table_with_its_row_count(run, table):
    done = run("sql", f"SELECT * FROM {table} ORDER BY id")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "╭────┬──────╮",
        "│ id │ s    │",
        "├────┼──────┤",
        "│  1 │ one  │",
        "│  2 │ NULL │",
        "╰────┴──────╯",
        "2 rows",
    ]


def test_each_statement_of_a_script_is_reported(run, table):
    done = run("sql", f"BEGIN; INSERT INTO {table} VALUES (3, 'x'); SELECT count(*) AS n FROM {table}; COMMIT")
    assert done.exit_code == 0
    assert [line.split(" ·")[0] for line in done.stderr.splitlines()] == ["BEGIN", "INSERT", "COMMIT"]
    assert "│ 3 │" in done.stdout


def test_standard_output_of_a_machine_format_holds_nothing_but_rows(run, table):
    done = run("sql", "--format", "jsonl", f"INSERT INTO {table} VALUES (3, ''); SELECT * FROM {table} ORDER BY id")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": 1, "s": "one"},
        {"id": 2, "s": None},
        {"id": 3, "s": ""},
    ]


def test_csv_tells_null_from_the_empty_string(run):
    done = run("sql", "--format", "csv", "SELECT NULL AS a, '' AS b, 'x,\"y\"' AS c")
    assert done.stdout == 'a,b,c\n,"","x,""y"""\n'


def test_json_of_no_rows_is_an_empty_array(run):
    assert json.loads(run("sql", "--format", "json", "SELECT 1 AS a WHERE false").stdout) == []


def test_json_keeps_every_digit_and_every_kind_of_value(run):
    query = """
        SELECT 1.10::decimal(38, 2) AS d, TIMESTAMP '2020-01-01 10:00:00.123456789' AS ns, 'NaN'::double AS nan,
               TIMESTAMPTZ '2020-01-01 10:00:00+02:00' AS tz, DATE '0001-01-01' AS day, x'00ff' AS b, [1, NULL] AS l,
               9223372036854775807 AS big, true AS t
    """
    assert json.loads(run("sql", "--format", "json", query).stdout) == [
        {
            "d": "1.10",
            "ns": "2020-01-01T10:00:00.123456789",
            "nan": "nan",
            "tz": "2020-01-01T08:00:00Z",
            "day": "0001-01-01",
            "b": "00ff",
            "l": [1, None],
            "big": 9223372036854775807,
            "t": True,
        }
    ]


def test_arrow_keeps_types(run, table):
    done = run("sql", "--format", "arrow", f"SELECT * FROM {table} ORDER BY id")
    read = pa.ipc.open_stream(io.BytesIO(done.stdout_bytes)).read_all()
    assert read.schema.types == [pa.int32(), pa.string()]
    assert read.to_pylist() == [{"id": 1, "s": "one"}, {"id": 2, "s": None}]


def test_max_rows_stops_and_says_so(run):
    done = run("sql", "--format", "csv", "--max-rows", "2", "SELECT * FROM (VALUES (1), (2), (3)) AS t (a)")
    assert done.stdout == "a\n1\n2\n"
    assert "The first 2 rows" in done.stderr


def test_max_rows_is_silent_where_there_are_no_more(run):
    done = run("sql", "--format", "csv", "--max-rows", "3", "SELECT * FROM (VALUES (1), (2), (3)) AS t (a)")
    assert done.stdout == "a\n1\n2\n3\n"
    assert done.stderr == ""


def test_statements_come_from_a_file_or_from_standard_input(run, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT 'ä' AS a")
    expected = "a\nä\n"
    assert run("sql", "--format", "csv", "-f", str(tmp_path / "q.sql")).stdout == expected
    assert run("sql", "--format", "csv", text="SELECT 'ä' AS a").stdout == expected
    assert run("sql", "--format", "csv", "-", text="SELECT 'ä' AS a").stdout == expected
    assert run("sql", "--format", "csv", "-f", "-", text="SELECT 'ä' AS a").stdout == expected


@pytest.mark.parametrize(
    ("text", "type_and_value"),
    [("5", "Int64,5"), ("x y", "Utf8,x y"), ('"5"', "Utf8,5"), ("1.5", "Float64,1.5"), ("true", "Boolean,true"),
     ("[1]", "Utf8,[1]"), ("", 'Utf8,""'), ("NaN", "Utf8,NaN"), ("it's", "Utf8,it's")],
)  # fmt: skip
def test_parameters_are_values_as_in_json_and_else_text(run, text, type_and_value):
    done = run("sql", "--format", "csv", "--param", f"p={text}", "SELECT arrow_typeof($p) AS t, $p AS v")
    assert done.stdout == f"t,v\n{type_and_value}\n"


def test_a_missing_parameter_is_hinted_at_as_an_option(run):
    done = run("sql", "SELECT $p")
    assert done.exit_code == 2
    assert "--param" in done.stderr


def test_control_characters_do_not_reach_the_terminal(run):
    assert "\x1b" not in run("sql", "SELECT chr(27) || '[31m' AS a").stdout


def test_timing_is_told_beside_what_was_done(run):
    assert run("sql", "--timing", "CREATE NAMESPACE ns").stderr.rstrip().endswith(" s")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sql", "SELEC 1"], 2, "did you mean SELECT?"),
        (["sql", "SELECT idd FROM ns.t"], 2, "line 1, column 8"),
        (["sql", "VACUUM ns.t"], 2, "VACUUM"),
        (["sql", "SELECT * FROM ns.nope"], 1, "ns.nope does not exist"),
        (["sql", "INSERT INTO ns.t VALUES (1.5, 'x')"], 1, "column id"),
        (["sql", "INSERT INTO ns.t VALUES (NULL, 'x')"], 1, "column id"),
        (["sql", "BEGIN; INSERT INTO ns.t VALUES (9, 'x')"], 1, "inside a transaction"),
        (["sql", ""], 2, "no statement"),
        (["sql", "-f", "nothere.sql"], 2, "nothere.sql"),
        (["sql", "SELECT 1", "-f", "x.sql"], 2, "not both"),
        (["sql", "--memory-limit", "much", "SELECT 1"], 2, "memory_limit"),
        (["sql", "--param", "p", "SELECT 1"], 2, "KEY=VALUE"),
        (["sql", "--property", "uri=x", "-w", "here", "SELECT 1"], 2, "--property"),
        (["sql", "--catalog", "nowhere", "SELECT 1"], 2, "nowhere"),
    ],
)
def test_an_error_is_a_line_with_an_exit_code(run, table, rows, arguments, code, said):
    done = run(*arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert rows("SELECT id FROM ns.t ORDER BY id") == [(1,), (2,)]


def test_a_commit_of_unknown_outcome_has_an_exit_code_of_its_own():
    assert exit_code(ice.CommitStateUnknownError("who knows")) == 3
    assert exit_code(ice.CommitConflictError("somebody was faster")) == 1
    assert exit_code(KeyboardInterrupt()) == 130


def test_debug_shows_the_trace(run):
    assert "Traceback" in run("sql", "--debug", "SELECT * FROM ns.nope").stderr


def test_without_a_catalog_the_error_says_how_to_give_one(run, monkeypatch):
    monkeypatch.delenv("ICEFUSION_WAREHOUSE")
    done = run("sql", "SELECT 1")
    assert done.exit_code == 2
    assert "--warehouse" in done.stderr
    assert "ICEFUSION_CATALOG" in done.stderr


def test_options_win_over_the_environment(run, table, tmp_path):
    done = run("sql", "-w", str(tmp_path / "other"), f"SELECT * FROM {table}")
    assert done.exit_code == 1
    assert run("sql", f"SELECT * FROM {table}").exit_code == 0


def test_a_catalog_can_be_given_by_properties(run, table, warehouse):
    properties = [f"uri=sqlite:///{warehouse / 'catalog.db'}", f"warehouse={warehouse.as_uri()}"]
    options = [word for pair in properties for word in ("--property", pair)]
    done = run("sql", "--catalog", "default", *options, "--format", "csv", f"SELECT count(*) AS n FROM {table}")
    assert done.stdout == "n\n2\n"


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "ICEFUSION_WAREHOUSE": str(folder)}


def test_a_pipe_that_closes_ends_the_program_without_a_word(tmp_path):
    query = "SELECT * FROM generate_series(1, 1000000)"
    process = subprocess.Popen(
        [*ICEFUSION, "sql", "--format", "csv", query],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(60), said) == (141, "")


def test_ctrl_c_ends_a_query_that_computes(tmp_path):
    # The first result shows that the second query has begun.
    endless = (
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value <> b.value"
    )
    process = subprocess.Popen(
        [*ICEFUSION, "sql", "--timing", f"SELECT 1 AS one; {endless}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 130
    assert "Interrupted" in said
    assert "Traceback" not in said


def test_python_m_icefusion_knows_its_version():
    done = subprocess.run([*ICEFUSION, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"icefusion {ice.__version__}\n"


def test_the_statement_of_a_table_stands_free_to_be_copied(run, table):
    done = run("sql", f"SHOW CREATE TABLE {table}")
    assert done.stdout.startswith(f"CREATE TABLE {table} (\n  id int NOT NULL,")
    assert "│" not in done.stdout
    assert run("sql", f"DROP TABLE {table}").exit_code == 0
    assert run("sql", done.stdout).exit_code == 0


def test_what_is_there_is_shown_as_a_table_and_nothing_else_is_said(run, table):
    done = run("sql", "SHOW TABLES")
    assert table.split(".")[1] in done.stdout
    assert done.stdout.splitlines()[-1] == "1 row"
    assert done.stderr == ""
