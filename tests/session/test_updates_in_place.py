"""Copy-on-write updates: rows stay where they are, and columns that are not assigned are carried over as they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import icefusion as ice
from icefusion.changes import rewrite

ROWS = 20_000
PROPERTIES = (
    "'write.parquet.row-group-size-bytes' = '400000', 'write.delete.mode' = 'copy-on-write', "
    "'write.update.mode' = 'copy-on-write', 'write.merge.mode' = 'copy-on-write'"
)
COLUMNS = "id BIGINT, day INT, s STRING, x DOUBLE, st STRUCT<a: INT, b: STRING>"
READ = "SELECT id, day, s, x, st.a AS a, st.b AS b FROM {} ORDER BY id, s"


def rows(count: int = ROWS, first: int = 0) -> pa.Table:
    ids = range(first, first + count)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "day": pa.array([i * 7919 % 20 for i in ids], pa.int32()),
            "s": pa.array([None if i % 97 == 0 else f"text {i * 7919 % 10_007}" for i in ids]),
            "x": pa.array([float("nan") if i % 31 == 0 else i / 8 for i in ids]),
            "st": pa.array([None if i % 89 == 0 else {"a": i % 5, "b": f"{i % 11}"} for i in ids]),
        }
    ).cast(
        pa.schema(
            [
                ("id", pa.int64()),
                ("day", pa.int32()),
                ("s", pa.string()),
                ("x", pa.float64()),
                ("st", pa.struct([("a", pa.int32()), ("b", pa.string())])),
            ]
        )
    )


@pytest.fixture
def table(session: ice.Session) -> ice.Session:
    session.sql(f"CREATE TABLE ns.t ({COLUMNS}) TBLPROPERTIES ({PROPERTIES})")
    session.writer("ns.t").write_batch(rows())
    return session


def path_of(session: ice.Session, name: str = "ns.t") -> Path:
    ((path,),) = session.sql(f"SELECT file_path FROM {name}.files").fetchall()
    return Path(path.removeprefix("file://"))


def chunks(path: Path) -> Iterator[tuple[str, bytes]]:
    """The column chunks of a file, each with the name of its column."""
    data, footer = path.read_bytes(), pq.read_metadata(path)
    for group in range(footer.num_row_groups):
        for place in range(footer.num_columns):
            chunk = footer.row_group(group).column(place)
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            yield chunk.path_in_schema, data[start:][: chunk.total_compressed_size]


UPDATES = {
    "a column": ("UPDATE ns.t SET x = x + 0.5 WHERE id % 10 = 3", {"x"}),
    "two columns": ("UPDATE ns.t SET x = NULL, s = concat(s, '!') WHERE day = 5", {"x", "s"}),
    "a field": ("UPDATE ns.t SET st.a = 77 WHERE id % 3 = 0", {"st.a", "st.b"}),
    "all rows": ("UPDATE ns.t SET day = 20 - day", {"day"}),
    "NaN": ("UPDATE ns.t SET x = CAST('NaN' AS DOUBLE) WHERE id % 2 = 0", {"x"}),
    "a default": ("UPDATE ns.t SET x = DEFAULT WHERE id % 2 = 0", {"x"}),
    "other tables": (
        "UPDATE ns.t SET x = o.v FROM (SELECT id, -x AS v FROM ns.t WHERE day < 4) o WHERE t.id = o.id",
        {"x"},
    ),
    "clauses of a merge": (
        "MERGE INTO ns.t USING (SELECT * FROM ns.t WHERE day IN (2, 3)) AS s ON t.id = s.id "
        "WHEN MATCHED AND s.day = 2 THEN UPDATE SET x = s.x * 2 WHEN MATCHED THEN UPDATE SET s = 'three' "
        "WHEN NOT MATCHED BY SOURCE AND t.day = 4 THEN UPDATE SET x = 4",
        {"x", "s"},
    ),
}


@pytest.mark.parametrize("update", UPDATES)
def test_only_assigned_columns_are_written(table: ice.Session, folder: Path, outside, update: str) -> None:
    text, assigned = UPDATES[update]
    table.sql(f"CREATE TABLE ns.u ({COLUMNS})")
    table.writer("ns.u").write_batch(rows())
    table.sql(re.sub(r"\b(ns\.)?t\b", r"\1u", text), write_mode="merge-on-read")
    old = path_of(table)
    before = list(chunks(old))
    result = table.sql(text)
    new = path_of(table)
    assert result.report.rows.updated > 0
    after = list(chunks(new))
    assert [name for name, _ in before] == [name for name, _ in after]
    for (name, was), (_, now) in zip(before, after, strict=True):
        assert (was == now) == (name not in assigned), name
    # Rows are where they were.
    assert pq.read_table(new, columns=["id"]) == pq.read_table(old, columns=["id"])
    with ice.connect(folder, threads=1) as fresh:
        assert str(fresh.sql(READ.format("ns.t")).fetchall()) == str(fresh.sql(READ.format("ns.u")).fetchall())
        counts = "SELECT nan_value_counts, null_value_counts, upper_bounds FROM ns.t.files"
        told = fresh.sql(counts).fetchone()
        fresh.sql("INSERT OVERWRITE ns.t SELECT * FROM ns.t")
        assert fresh.sql(counts).fetchone() == told
    found = sorted(outside.rows("ns.t"), key=lambda row: row["id"])
    assert len(found) == ROWS


def test_rows_of_a_sorted_table_stay_sorted(session: ice.Session) -> None:
    session.sql(f"CREATE TABLE ns.t ({COLUMNS}) TBLPROPERTIES ({PROPERTIES})")
    session.sql("ALTER TABLE ns.t WRITE ORDERED BY day, id DESC")
    session.writer("ns.t").write_batch(rows())
    old, order = path_of(session), "SELECT sort_order_id FROM ns.t.files"
    ids = dict(chunks(old))["id"]
    sorted_by = session.sql(order).fetchone()
    assert sorted_by != (0,)
    session.sql("UPDATE ns.t SET x = -1 WHERE id % 10 = 3")
    assert dict(chunks(path_of(session)))["id"] == ids
    assert session.sql(order).fetchone() == sorted_by
    session.sql("UPDATE ns.t SET day = 3, x = -2 WHERE id % 10 = 4; DELETE FROM ns.t WHERE id BETWEEN 100 AND 200")
    assert session.sql(order).fetchone() == sorted_by
    found = pq.read_table(path_of(session), columns=["day", "id", "x"]).to_pylist()
    assert found == sorted(found, key=lambda row: (row["day"], -row["id"]))
    assert {row["x"] for row in found if row["id"] % 10 in (3, 4)} == {-1.0, -2.0}
    assert len(found) == ROWS - 101


@pytest.mark.parametrize("in_place", [True, False])
def test_new_values_that_there_is_no_memory_for_wait_on_disk(
    table: ice.Session, monkeypatch, tmp_path_factory, in_place: bool
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(rewrite, "HELD_BYTES", 10_000)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    if not in_place:
        table.sql("ALTER TABLE ns.t SET TBLPROPERTIES ('write.parquet.compression-codec' = 'snappy')")
    table.writer("ns.t").write_batch(rows(300, first=ROWS))
    before = rows(ROWS + 300)["x"].to_pylist()
    expected = [(i, x + 1 if i % 3 else x) for i, x in enumerate(before)]
    spilled: list[int] = []
    spill = rewrite.SpillFolder.spill

    def spying(self: rewrite.SpillFolder, held: pa.Table) -> pa.Table:
        spilled.append(held.num_rows)
        return spill(self, held)

    monkeypatch.setattr(rewrite.SpillFolder, "spill", spying)
    table.sql("UPDATE ns.t SET x = x + 1 WHERE id % 3 <> 0")
    assert sum(spilled) > ROWS / 4
    assert str(table.sql("SELECT id, x FROM ns.t ORDER BY id").fetchall()) == str(expected)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("limit_bytes", [10_000, None])
@pytest.mark.parametrize("before", ["", "DELETE FROM ns.t WHERE id = 17", "ALTER TABLE ns.t ADD COLUMN more INT"])
def test_a_merge_that_does_everything(table: ice.Session, monkeypatch, limit_bytes: int | None, before: str) -> None:
    if limit_bytes is not None:
        monkeypatch.setattr(rewrite, "HELD_BYTES", limit_bytes)
    table.sql(f"CREATE TABLE ns.u ({COLUMNS})")
    table.writer("ns.u").write_batch(rows())
    for name, mode in (("t", "copy-on-write"), ("u", "merge-on-read")):
        if before:
            table.sql(before.replace("ns.t", f"ns.{name}"), write_mode="merge-on-read" if "DELETE" in before else None)
        values = ", ".join(f"s.{column}" for column in ("id", "day", "s", "x", "st"))
        table.sql(
            f"MERGE INTO ns.{name} AS t USING (SELECT id + 7 AS id, day, s, x, st FROM source) AS s ON t.id = s.id "
            "WHEN MATCHED AND s.id % 5 = 0 THEN DELETE WHEN MATCHED AND s.id % 5 = 1 THEN UPDATE SET x = s.x "
            "WHEN MATCHED THEN UPDATE SET day = s.day, s = s.s, x = s.x, st = s.st, id = s.id "
            f"WHEN NOT MATCHED THEN INSERT (id, day, s, x, st) VALUES ({values})",
            source=rows(3000, first=ROWS - 2000).take(list(range(0, 3000, 2))),
            write_mode=mode,
        )
    assert str(table.sql(READ.format("ns.t")).fetchall()) == str(table.sql(READ.format("ns.u")).fetchall())


def test_explain_tells_which_columns_are_asked_for(table: ice.Session) -> None:
    def asked(text: str, mode: str) -> str:
        plan = table.sql(f"EXPLAIN {text}", write_mode=mode).to_arrow().to_pydict()
        return plan["plan"][plan["plan_type"].index("select")]

    text = "UPDATE ns.t SET x = 1 WHERE day = 3"
    assert '"s"' not in asked(text, "copy-on-write")
    assert '"s"' in asked(text, "merge-on-read")
