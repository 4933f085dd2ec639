"""Sources that are large beside the memory limit: joined slice by slice, with the same result."""

import numpy as np
import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.changes import asking
from icefusion.changes.asking import Asker
from icefusion.changes.spool import Spool

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
