"""Sources that are large beside the memory limit: joined slice by slice, with the same result."""

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import IntegerType

import icefusion as ice
from icefusion.changes import asking
from icefusion.changes.asking import Asker
from icefusion.changes.spool import Spool
from icefusion.query import engine

ROWS = 20_000
MERGE = """MERGE INTO ns.t AS t USING src AS s ON t.id = s.id
    WHEN MATCHED AND s.v < 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET v = t.v + s.v
    WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)
    WHEN NOT MATCHED BY SOURCE AND t.id % 5 = 0 THEN UPDATE SET v = 0"""


def data(ids, values) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "v": pa.array(values, pa.int64()), "pad": ["x" * 40] * len(ids)})


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The questions that were asked, in order."""
    questions: list[str] = []
    real = Asker.ask

    def ask(self, question, *arguments, **options):
        questions.append(question.query.text)
        return real(self, question, *arguments, **options)

    monkeypatch.setattr(Asker, "ask", ask)
    monkeypatch.setattr(asking, "SLICE_SHARE", 0.01)  # a part of the limit that these few rows exceed
    return questions


@pytest.fixture
def limited(folder, session):
    session.sql("CREATE TABLE ns.t (id BIGINT, v BIGINT)")
    for part in range(4):
        ids = np.arange(part, ROWS, 4)
        session.table("ns.t").append(pa.table({"id": ids, "v": ids}))
    with ice.connect(folder, memory_limit="36MB") as opened:
        yield opened


def expected(source: pa.Table) -> dict[int, int]:
    before = {i: i for i in range(ROWS)}
    given = dict(zip(source["id"].to_pylist(), source["v"].to_pylist(), strict=True))
    result = {}
    for i, v in before.items():
        if i not in given:
            result[i] = 0 if i % 5 == 0 else v
        elif given[i] >= 0:
            result[i] = v + given[i]
    return result | {i: v for i, v in given.items() if i not in before}


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_a_merge_by_slices_does_the_same(limited, session, asked, mode) -> None:
    rng = np.random.default_rng(1)
    ids = rng.choice(2 * ROWS, ROWS, replace=False)
    source = data(ids, rng.integers(-5, 50, ROWS))
    result = limited.sql(MERGE, write_mode=mode, src=source)
    slices = [text for text in asked if "JOIN" in text]
    assert len(slices) > 2
    found = dict(session.sql("SELECT id, v FROM ns.t").fetchall())
    assert found == expected(source)
    assert result.rows_inserted == sum(i >= ROWS for i in ids)


def test_a_row_that_two_slices_change_is_an_error_and_nothing_is_left(limited, session, asked, outside) -> None:
    before = outside.files("*")
    source = data([*range(ROWS), 7], [1] * (ROWS + 1))
    with pytest.raises(ice.CardinalityError, match="id = 7"):
        limited.sql(MERGE, src=source)
    assert len([text for text in asked if "JOIN" in text]) > 1
    assert outside.files("*") == before
    assert session.sql("SELECT count(*), sum(v) FROM ns.t").fetchone() == (ROWS, ROWS * (ROWS - 1) // 2)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("UPDATE ns.t SET v = -1 FROM src AS s WHERE t.id = s.id", (0, 1000, 0)),
        ("DELETE FROM ns.t USING src s WHERE s.id = t.id", (0, 0, 1000)),
        ("DELETE FROM ns.t WHERE id IN (SELECT id FROM src)", (0, 0, 1000)),
    ],
)
def test_joins_of_other_changes_fit_too(limited, session, text, counts) -> None:
    ids = np.arange(ROWS - 1000, ROWS + 500_000)
    result = limited.sql(text, src=data(ids, ids))
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == counts
    left = session.sql("SELECT count(*) FROM ns.t WHERE v >= 0").fetchone()
    assert left == (ROWS - 1000,)


def test_a_spool_is_cut_into_ranges_that_cover_it() -> None:
    spool = Spool(pa.schema([("id", pa.int64())]), memory_limit_bytes=10_000, number_column="n")
    for start in range(0, 10_000, 1_000):
        spool.add(pa.record_batch({"id": pa.array(range(start, start + 1_000), pa.int64())}))
    slices = spool.slices(30_000)
    assert slices[0][0] == 0
    assert slices[-1][1] == spool.rows == 10_000
    assert [last for _, last in slices[:-1]] == [first for first, _ in slices[1:]]
    numbers = [n for first, last in slices for b in spool.part(first, last).batches() for n in b["n"].to_pylist()]
    assert numbers == list(range(10_000))
    assert spool.slices(None) == [(0, 10_000)]
    spool.close()


def one_shot(ids) -> pa.RecordBatchReader:
    table = data(ids, [1] * len(ids))
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=10_000))


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
@pytest.mark.parametrize(
    "text",
    [
        "UPDATE ns.t SET v = -1 FROM src AS s WHERE t.id = s.id",
        "DELETE FROM ns.t USING src s WHERE s.id = t.id RETURNING id",
        "DELETE FROM ns.t WHERE id IN (SELECT id FROM src)",
    ],
)
def test_a_stream_is_set_aside_where_it_may_be_needed_twice(limited, session, text, mode) -> None:
    ids = np.arange(ROWS - 1000, ROWS + 500_000)
    result = limited.sql(text, write_mode=mode, src=one_shot(ids), other=one_shot([1]))
    assert result.rows_updated + result.rows_deleted == 1000
    assert session.sql("SELECT count(*), max(id) FROM ns.t WHERE v >= 0").fetchone() == (ROWS - 1000, ROWS - 1001)


def test_an_error_of_a_stream_that_is_set_aside_comes_out_as_it_is(limited, session) -> None:
    def failing():
        yield from data([1, 2], [1, 1]).to_batches()
        raise LookupError("the stream broke")

    stream = failing()
    with pytest.raises(LookupError, match="the stream broke"):
        limited.sql("DELETE FROM ns.t WHERE id IN (SELECT id FROM src)", src=stream)
    assert session.sql("SELECT count(*) FROM ns.t").fetchone() == (ROWS,)


@pytest.fixture
def piecewise(monkeypatch) -> None:
    monkeypatch.setattr(engine, "PIECEWISE_SHARE", 0)  # as if the files were large beside the limit


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_files_are_read_piece_by_piece_with_the_same_result(folder, limited, session, asked, piecewise, mode) -> None:
    session.sql("DELETE FROM ns.t WHERE id % 7 = 0", write_mode="merge-on-read")
    catalog = SqlCatalog("default", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=folder.as_uri())
    with catalog.load_table("ns.t").update_schema() as update:
        update.rename_column("v", "value").add_column("more", IntegerType())
    catalog.close()
    session.sql("INSERT INTO ns.t SELECT id, value, 1 FROM ns.t WHERE id < 100")
    session.sql("DELETE FROM ns.t WHERE more = 1 AND id % 2 = 0", write_mode="merge-on-read")
    left = session.sql("SELECT id, value, more FROM ns.t").to_arrow().to_pylist()
    ids = np.random.default_rng(1).choice(2 * ROWS, ROWS, replace=False)
    given = set(ids.tolist())
    result = limited.sql(
        """MERGE INTO ns.t AS t USING src AS s ON t.id = s.id
        WHEN MATCHED AND t.id % 3 = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET value = t.value + s.v
        WHEN NOT MATCHED BY SOURCE AND t.id % 5 = 0 THEN DELETE""",
        write_mode=mode,
        src=data(ids, [1] * ROWS),
    )
    assert all("memory_limit" in scan.fallback for scan in result.report.scans if scan.files_read)
    wanted = [
        (row["id"], row["value"] + (row["id"] in given), row["more"])
        for row in left
        if (row["id"] % 3 if row["id"] in given else row["id"] % 5)
    ]
    found = session.sql("SELECT id, value, more FROM ns.t").fetchall()
    order = lambda row: (row[0], row[2] is None)  # noqa: E731
    assert sorted(found, key=order) == sorted(wanted, key=order)


def test_small_tables_are_read_as_usual_under_a_limit(limited) -> None:
    result = limited.sql("DELETE FROM ns.t WHERE id = 1")
    assert [scan.fallback for scan in result.report.scans] == [None]
    assert result.rows_deleted == 1


def test_a_join_keeps_the_smaller_side_in_memory(session, monkeypatch) -> None:
    """A source of slices, each of which the engine takes for all of it, and a table with conditions all over it."""
    plans: list[str] = []
    real = Asker.ask

    def ask(self, *arguments, **options):
        wave = real(self, *arguments, **options)
        plans.append(wave.planned.explain())
        return wave

    monkeypatch.setattr(Asker, "ask", ask)
    session.sql("CREATE TABLE ns.t (id BIGINT, v BIGINT, pad STRING)")
    for part in range(4):
        ids = np.arange(part, 1_200_000, 4)
        session.table("ns.t").append(data(ids, ids))
    keys = np.random.default_rng(1).permutation(600_000)[:300_000] * 2
    session.sql(
        "MERGE INTO ns.t AS t USING src AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET *",
        src=data(keys, keys),
        write_mode="merge-on-read",
    )
    below = plans[0].partition("HashJoinExec")[2]
    first = next(line for line in below.splitlines() if "DataSourceExec" in line)
    assert "partition_sizes" in first  # rows in memory, and no files


def test_slices_are_put_together_for_a_join_and_batches_are_not() -> None:
    spool = Spool(pa.schema([("x", pa.int64())]))
    (whole,) = pa.table({"x": range(1000)}).to_batches()
    for start in range(0, 1000, 100):
        spool.add(whole.slice(start, 100))
    assert [batch.num_rows for batch in spool.part(0, 1000).joined("s").batches] == [1000]
    assert [batch.num_rows for batch in spool.part(50, 250).joined("s").batches] == [200]
    fresh = Spool(whole.schema)
    for _ in range(3):
        fresh.add(pa.record_batch({"x": range(100)}))
    assert [batch.num_rows for batch in fresh.part(0, 300).joined("s").batches] == [100] * 3
