"""EXPLAIN of a query: what is read of each table, and why that much, on tables that are really so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import shadow_io
from delete_writing import commit, deletion_vectors, equality_deletes, rows_file
from pyiceberg.typedef import Record
from query_helpers import make_catalog

import icefusion
from icefusion import CommitConflictError, Session, StorageError

PLANS = {"logical_plan", "physical_plan", "Plan with Metrics"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with icefusion.connect(tmp_path / "warehouse", threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        yield session


def told(session: Session, statement: str, **sources: object) -> list[tuple[str, str]]:
    """What is told besides the engine's own plans."""
    return [row for row in session.sql(statement, **sources).fetchall() if row[0] not in PLANS]


def facts(session: Session, statement: str, **sources: object) -> dict[str, str]:
    """The same for one table, where nothing is told twice."""
    rows = told(session, statement, **sources)
    assert len(rows) == len(dict(rows)), rows
    return {kind: re.sub(r"\d+ byte", "N byte", re.sub(r"\d{15,}", "ID", text)) for kind, text in rows}


def fill(session: Session) -> None:
    """Six files: three commits, each of two partitions and one row in each."""
    session.sql("CREATE TABLE ns.t (id bigint, p text, x double) PARTITIONED BY (p)")
    for tens, (one, other) in enumerate((("a", "b"), ("a", "b"), ("c", "d"))):
        session.sql(f"INSERT INTO ns.t VALUES ({tens}1, '{one}', 1.0), ({tens}2, '{other}', 2.0)")


def test_files_are_left_out_by_manifest_partition_and_metrics(session: Session) -> None:
    session.sql(
        "CREATE TABLE ns.t (id bigint, p text) PARTITIONED BY (p) "
        "TBLPROPERTIES ('commit.manifest-merge.enabled' = 'false')"
    )
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    session.sql("INSERT INTO ns.t VALUES (11, 'a'), (12, 'b')")
    session.sql("INSERT INTO ns.t VALUES (21, 'c'), (22, 'd'), (23, 'e')")
    found = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE id > 5 AND p = 'a' AND abs(id) = 11")
    assert found == {
        "table": "default.ns.t, snapshot ID, branch main",
        "manifests": "2 of 3 manifests read",
        "files": "1 of 7 data files read, N bytes",
        "filter": "id > 5 AND p = 'a'",
        "pruned": "3 data files in 1 manifest, 2 by partition, 1 by column metrics",
        "row groups": "1 of 1 row group may hold such rows, by their statistics",
        "residual": "abs(ns.t.id) = Int64(11)",
        "group": "1 data file, N bytes: columns as in the table",
    }


def test_a_filter_that_leaves_out_nothing(session: Session) -> None:
    fill(session)
    everything = facts(session, "EXPLAIN SELECT * FROM ns.t")
    assert everything["filter"] == "none that files could be left out by"
    assert everything["residual"] == "none"
    assert "pruned" not in everything
    assert "row groups" not in everything
    function = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE abs(id) = 3")
    assert function["files"].startswith("6 of 6 data files read")
    assert function["residual"] == "abs(ns.t.id) = Int64(3)"


def test_no_file_is_left(session: Session) -> None:
    fill(session)
    found = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE id > 100")
    assert found["files"] == "0 of 6 data files read, N bytes"
    assert found["pruned"].endswith("6 by column metrics")
    assert not {"row groups", "residual", "group"} & set(found)


def test_conditions_that_all_rows_fulfil_are_not_left(session: Session) -> None:
    fill(session)
    found = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE p IN ('a', 'b') AND id < 100 AND x > 1")
    assert found["residual"] == "none"
    assert found["files"].startswith("2 of 6 data files read")
    found = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE x >= 2 OR id = 1")
    assert found["residual"] == "ns.t.x >= Float64(2) OR ns.t.id = Int64(1)"


def test_conditions_that_the_engine_keeps_above_the_scan_are_left(session: Session) -> None:
    fill(session)
    found = facts(session, "EXPLAIN SELECT * FROM ns.t WHERE random() < 0.5 AND p = 'a'")
    assert found["residual"] == "random() < Float64(0.5)"
    rows = told(session, "EXPLAIN SELECT * FROM ns.t WHERE id = (SELECT max(a) FROM r)", r=pa.table({"a": [1]}))
    assert dict(rows)["residual"] == "ns.t.id = (<subquery>)"


def test_a_column_of_uuids_is_as_in_the_table(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (u uuid, f fixed(4), d decimal(5, 2), t timestamp, b binary)")
    session.sql("INSERT INTO ns.t VALUES (uuid(), X'00010203', 1.5, TIMESTAMP '2024-05-01 00:00:00', X'00')")
    assert facts(session, "EXPLAIN SELECT * FROM ns.t")["group"].endswith(": columns as in the table")


def test_row_groups_are_counted_as_the_engine_prunes_them(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, v text) TBLPROPERTIES ('write.parquet.row-group-limit' = '1000')")
    rows = pa.table({"id": range(10_000), "v": [f"v{number}" for number in range(10_000)]})
    session.sql("INSERT INTO ns.t SELECT * FROM rows ORDER BY id", rows=rows)
    statement = "EXPLAIN ANALYZE SELECT * FROM ns.t WHERE id >= 2500 AND id < 4500"
    engine = dict(session.sql(statement).fetchall())["Plan with Metrics"]
    read, total = map(int, re.search(r"^(\d+) of (\d+) row group", facts(session, statement)["row groups"]).groups())
    assert total >= 10
    assert 2 <= read <= 4
    assert f"row_groups_pruned_statistics={total} total → {read} matched" in engine


def test_files_of_several_schemas_are_groups(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id int, old text, gone int)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a', 1)")
    session.sql("ALTER TABLE ns.t RENAME COLUMN old TO new")
    session.sql("ALTER TABLE ns.t ALTER COLUMN id TYPE bigint")
    session.sql("ALTER TABLE ns.t ADD COLUMN more date")
    session.sql("ALTER TABLE ns.t DROP COLUMN gone")
    session.sql("INSERT INTO ns.t VALUES (2, 'b', DATE '2024-05-01'), (3, 'c', NULL)")
    groups = [text for kind, text in told(session, "EXPLAIN SELECT * FROM ns.t") if kind == "group"]
    assert sorted(re.sub(r"^.* bytes: ", "", text) for text in groups) == [
        "columns as in the table",
        "id is stored as int, old is now new, without more, with gone besides",
    ]


def test_what_else_makes_a_group(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, x double)")
    session.sql("INSERT INTO ns.t VALUES (1, 1.0), (2, 2.0)")
    session.sql("INSERT INTO ns.t VALUES (3, 'NaN'), (4, 4.0)")
    groups = [text for kind, text in told(session, "EXPLAIN SELECT * FROM ns.t") if kind == "group"]
    assert sorted(re.sub(r"^.* bytes: ", "", text) for text in groups) == [
        "columns as in the table",
        "columns as in the table; NaN is possible in x",
    ]
    session.sql("DELETE FROM ns.t WHERE id = 1", write_mode="merge-on-read")
    found = told(session, "EXPLAIN SELECT * FROM ns.t WHERE id < 3")
    assert ("deletes", "1 delete file by position of 1 row, for 1 data file") in found
    (group,) = [text for kind, text in found if kind == "group"]
    assert group.endswith("columns as in the table; rows are deleted by position in 1")


def test_deletes_by_equality(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, v text)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    table = session.catalog.load_table("ns.t")
    commit(table, equality_deletes(table, [{"id": 1}], ["id"]))
    session.sql("INSERT INTO ns.t VALUES (3, 'c')")
    found = told(session, "EXPLAIN SELECT * FROM ns.t")
    assert ("deletes", "1 delete file by equality of 1 row, for 1 data file") in found
    groups = [re.sub(r"^.* bytes: ", "", text) for kind, text in found if kind == "group"]
    assert sorted(groups) == ["columns as in the table", "columns as in the table; 1 delete file by equality"]


def test_values_that_the_partition_gives(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint, p date) PARTITIONED BY (p)")
    table = session.catalog.load_table("ns.t")
    schema = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
    commit(table, rows_file(table, pa.table({"id": [7]}, schema=schema), partition=Record(19_844)))
    assert (
        facts(session, "EXPLAIN SELECT * FROM ns.t")["group"] == "1 data file, N bytes: p is '2024-05-01' by partition"
    )
    assert session.sql("SELECT CAST(p AS text) FROM ns.t").fetchall() == [("2024-05-01",)]


def test_states_of_a_table(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint)")
    assert facts(session, "EXPLAIN SELECT * FROM ns.t") == {"table": "default.ns.t, no snapshot yet, branch main"}
    session.sql("INSERT INTO ns.t VALUES (1)")
    first = session.catalog.load_table("ns.t").metadata.current_snapshot_id
    session.sql("ALTER TABLE ns.t CREATE TAG v1")
    session.sql("ALTER TABLE ns.t CREATE BRANCH audit")
    session.sql("INSERT INTO ns.t VALUES (2)")
    for how, shown in {
        "ns.t VERSION AS OF 'v1'": "version v1",
        f"ns.t VERSION AS OF {first}": "as asked for",
        "ns.t.tag_v1": "asked for as ns.t.tag_v1",
        "ns.t.branch_audit": "branch audit",
        "ns.t VERSION AS OF 'audit'": "branch audit",
    }.items():
        found = dict(told(session, f"EXPLAIN SELECT * FROM {how}"))
        assert found["table"] == f"default.ns.t, snapshot {first}, {shown}"
        assert found["files"].startswith("1 of 1 data file read")
    found = dict(told(session, "EXPLAIN SELECT * FROM ns.t TIMESTAMP AS OF now()"))
    assert re.search(r", as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC$", found["table"])


def test_what_is_no_table_of_the_catalog(session: Session) -> None:
    session.sql("CREATE TABLE ns.t (id bigint)")
    session.sql("INSERT INTO ns.t VALUES (1)")
    assert told(session, "EXPLAIN SELECT 1 + 1") == []
    assert told(session, "EXPLAIN SELECT * FROM ns.t.snapshots WHERE operation = 'append'") == [
        ("table", "ns.t.snapshots, whose rows are made from metadata"),
        ("filter", "operation = 'append'"),
    ]
    named = pa.table({"id": [1, 2]})
    assert told(session, "EXPLAIN SELECT * FROM named", named=named) == [
        ("table", "named, passed by name: 2 rows in memory")
    ]
    assert told(session, "EXPLAIN SELECT * FROM named", named=named.to_reader()) == [
        ("table", "named, passed by name, can be read once")
    ]


def test_tables_are_told_of_in_the_order_of_the_query(session: Session) -> None:
    fill(session)
    session.sql("CREATE VIEW ns.v AS SELECT * FROM ns.t WHERE p = 'd'")
    found = told(session, "EXPLAIN SELECT * FROM named, ns.v", named=pa.table({"id": [1]}))
    assert [text.partition(",")[0] for kind, text in found if kind == "table"] == ["named", "default.ns.t"]
    assert ("filter", "p = 'd'") in found


def test_references_to_one_table_have_their_own_residuals(session: Session) -> None:
    fill(session)
    found = told(session, "EXPLAIN SELECT 1 FROM ns.t AS a, ns.t AS b WHERE a.id > 0 AND a.p = 'a' AND b.id >= 11")
    assert ("filter", "id > 0 AND p = 'a' OR id >= 11") in found
    assert [text for kind, text in found if kind == "residual"] == [
        'of reference 1: ns.t.p = Utf8View("a")',
        "of reference 2: ns.t.id >= Int64(11)",
    ]
    hidden = told(session, "EXPLAIN SELECT 1 FROM ns.t WHERE id = (SELECT max(id) FROM ns.t WHERE p = 'a')")
    assert ("residual", "not known: the table is read inside of an expression") in hidden


def test_in_a_transaction(session: Session) -> None:
    fill(session)
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (91, 'a', 1.0)")
        tx.sql("INSERT INTO ns.t VALUES (92, 'z', 1.0)")
        tx.sql("DELETE FROM ns.t WHERE p = 'b'")
        rows = [row for row in tx.sql("EXPLAIN SELECT * FROM ns.t WHERE p = 'a'").fetchall() if row[0] not in PLANS]
    found = dict(rows)
    assert found["transaction"] == "1 of 2 data files that it has written; 2 data files that it has removed"
    assert found["files"].startswith("3 of 6 data files read")


def test_files_out_of_reach(tmp_path: Path) -> None:
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": shadow_io.shadow(tmp_path)}
    with icefusion.connect(catalog={**properties, **shadow_io.PROPERTIES}, name="far", threads=2) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t (id bigint)")
        session.sql("INSERT INTO ns.t VALUES (1), (2)")
        found = dict(told(session, "EXPLAIN SELECT * FROM ns.t WHERE id > 1"))
    assert "; read through file IO: " in found["group"]
    assert "ShadowIO" in found["group"]
    assert found["row groups"] == "1 of 1 row group may hold such rows, by their statistics"


def test_analyze_tells_times(session: Session) -> None:
    fill(session)
    for statement in ("EXPLAIN ANALYZE SELECT * FROM ns.t", "EXPLAIN (ANALYZE) SELECT * FROM ns.t"):
        found = dict(told(session, statement))
        assert re.fullmatch(r"[\d.]+ ms in all; to find the files: [\d.]+ ms for default\.ns\.t", found["planning"])
        assert re.fullmatch(r"[\d.]+ ms in all", found["execution"])
    assert not {"planning", "execution"} & set(dict(told(session, "EXPLAIN VERBOSE SELECT * FROM ns.t")))


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ("VERBOSE", "initial_logical_plan"),
        ("ANALYZE", "Plan with Metrics"),
        ("ANALYZE VERBOSE", "Plan with Metrics"),
        ("(ANALYZE, VERBOSE)", "Plan with Metrics"),
        ("FORMAT tree", "physical_plan"),
        ("FORMAT indent", "logical_plan"),
        ("(FORMAT indent)", "logical_plan"),
    ],
)
def test_options_act_as_ever(session: Session, options: str, first: str) -> None:
    fill(session)
    rows = session.sql(f"EXPLAIN {options} SELECT * FROM ns.t").fetchall()
    assert rows[0][0] == first
    assert "table" in dict(rows)


@pytest.mark.parametrize("options", ["FORMAT graphviz", "FORMAT pgjson", "(FORMAT pgjson)", "FORMAT 'graphviz'"])
def test_formats_for_programs_stay_what_they_are(session: Session, options: str) -> None:
    fill(session)
    rows = session.sql(f"EXPLAIN {options} SELECT * FROM ns.t WHERE id = 1").fetchall()
    assert [kind for kind, _ in rows] == ["logical_plan"]


def test_parameters_and_a_second_reading(session: Session) -> None:
    fill(session)
    result = session.sql("EXPLAIN SELECT * FROM ns.t WHERE p = $p", params={"p": "c"})
    assert result.columns == ["plan_type", "plan"]
    first = list(result)
    assert ("filter", "p = 'c'") in first
    assert list(result) == first


def test_a_file_that_is_missing_is_named(session: Session, tmp_path: Path) -> None:
    session.sql("CREATE TABLE ns.t (id bigint)")
    session.sql("INSERT INTO ns.t VALUES (1)")
    (path,) = (tmp_path / "warehouse").rglob("*.parquet")
    path.unlink()
    with pytest.raises(StorageError, match=path.name):
        session.sql("EXPLAIN SELECT * FROM ns.t WHERE id = 1").fetchall()


def test_a_transaction_depends_on_nothing_that_was_only_explained(session: Session, tmp_path: Path) -> None:
    fill(session)
    session.sql("CREATE TABLE ns.u (id bigint)")
    for options, conflicts in (("", False), ("ANALYZE", True)):
        with icefusion.connect(tmp_path / "warehouse") as other:
            tx = session.transaction()
            tx.__enter__()
            explained = tx.sql(f"EXPLAIN {options} SELECT * FROM ns.t WHERE id > 0")
            assert explained.report.statement == "EXPLAIN"
            tx.sql("INSERT INTO ns.u VALUES (1)")
            other.sql("INSERT INTO ns.t VALUES (77, 'a', 1.0)")
            if conflicts:
                with pytest.raises(CommitConflictError):
                    tx.__exit__(None, None, None)
            else:
                tx.__exit__(None, None, None)
                assert session.sql("SELECT id FROM ns.u").fetchall() == [(1,)]


def test_deletion_vectors(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path)
    table = catalog.create_table("ns.t", pa.schema([("id", pa.int64())]))
    files = [rows_file(table, [{"id": number} for number in range(5)]) for _ in range(3)]
    table = commit(table, *files)
    commit(table, *deletion_vectors(table, {files[0].file_path: [1, 3], files[1].file_path: [4]}))
    with icefusion.connect(catalog=catalog) as session:
        found = dict(told(session, "EXPLAIN SELECT * FROM ns.t"))
        assert session.sql("SELECT count(*) FROM ns.t").fetchall() == [(12,)]
    assert found["deletes"] == "2 deletion vectors of 3 rows, for 2 data files"
    assert found["group"].endswith("columns as in the table; rows are deleted by position in 2")
