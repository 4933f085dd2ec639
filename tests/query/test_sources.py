"""Data passed by name."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datafusion
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from query_helpers import plan, rows, run

from icefusion.errors import BindError, ExecutionError, SchemaError
from icefusion.query.engine import Engine
from icefusion.query.sources import Source, _partitions

TABLE = pa.table({"a": [1, 2, 3], "s": ["x", None, "z"]})


class Stream:
    """Speaks the Arrow stream interface and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


class Array:
    """Speaks the Arrow array interface and nothing else."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return TABLE.to_batches()[0].__arrow_c_array__(requested_schema)


def makers() -> dict[str, Any]:
    return {
        "table": lambda: TABLE,
        "batch": lambda: TABLE.to_batches()[0],
        "reader": TABLE.to_reader,
        "dataset": lambda: ds.dataset(TABLE),
        "scanner": lambda: ds.dataset(TABLE).scanner(),
        "stream object": Stream,
        "array object": Array,
        "dataframe": lambda: datafusion.SessionContext().from_arrow(TABLE),
        "list of batches": TABLE.to_batches,
        "list of dicts": TABLE.to_pylist,
        "dict of lists": TABLE.to_pydict,
        "generator": lambda: iter(TABLE.to_batches(max_chunksize=1)),
        "chunked table": lambda: pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
    }


@pytest.mark.parametrize("kind", ["table", "reader", "dataset", "generator"])
def test_null_is_in_no_answer_of_not_in(engine: Engine, kind: str) -> None:
    text = "SELECT a FROM t WHERE s NOT IN ('a', 'b', 'c', 'd', 'z') AND NOT (s IN ('e', 'f', 'g', 'h'))"
    assert run(engine, text, {"t": makers()[kind]()}).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize("kind", makers())
def test_whatever_speaks_arrow_is_a_table(engine: Engine, kind: str) -> None:
    assert rows(run(engine, "SELECT * FROM t", {"t": makers()[kind]()})) == rows(TABLE)
    text = "SELECT s, count(*) AS n FROM t WHERE a >= 2 GROUP BY s"
    expected = rows(pa.table({"s": [None, "z"], "n": [1, 1]}))
    assert rows(run(engine, text, {"t": makers()[kind]()})) == expected


def test_data_frames_are_tables(engine: Engine) -> None:
    pandas = pytest.importorskip("pandas")
    assert rows(run(engine, "SELECT * FROM t", {"t": pandas.DataFrame({"a": [1, 2]})})) == [{"a": 1}, {"a": 2}]


def test_polars_frames_are_tables(engine: Engine) -> None:
    polars = pytest.importorskip("polars")
    assert rows(run(engine, "SELECT * FROM t", {"t": polars.DataFrame({"a": [1, 2]})})) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("data", [5, "text", object(), [], {}, [1, 2], iter([]), iter([5])])
def test_what_does_not_speak_arrow_is_refused_by_name(data: Any) -> None:
    with pytest.raises(BindError, match="prices"):
        Source.of("prices", data)


@pytest.mark.parametrize("data", [TABLE.slice(0, 0), TABLE.schema.empty_table().to_reader()])
def test_empty_data_has_its_schema(engine: Engine, data: Any) -> None:
    result = run(engine, "SELECT * FROM t", {"t": data})
    assert result.num_rows == 0
    assert result.schema.types == TABLE.schema.types


def counting(batches: int, pulled: list[int], *, rows_each: int = 8192) -> Iterator[pa.RecordBatch]:
    for number in range(batches):
        pulled.append(number)
        yield pa.record_batch({"a": pa.array([number] * rows_each)})


def test_a_generator_is_pulled_as_the_result_is(engine: Engine) -> None:
    pulled: list[int] = []
    planned = plan(engine, "SELECT a + 1 AS b FROM t", {"t": counting(1000, pulled)})
    assert len(pulled) == 1, "planning reads no more than the schema"
    stream = planned.stream()
    next(stream)
    assert len(pulled) < 50
    stream.close()
    assert len(pulled) < 60


def test_a_generator_is_closed_when_the_result_is(engine: Engine) -> None:
    closed: list[bool] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from counting(1000, [])
        finally:
            closed.append(True)

    planned = plan(engine, "SELECT a FROM t", {"t": batches()})
    stream = planned.stream()
    next(stream)
    del stream, planned
    assert closed == [True]


def test_limit_stops_pulling(engine: Engine) -> None:
    pulled: list[int] = []
    assert run(engine, "SELECT a FROM t LIMIT 5", {"t": counting(1000, pulled)}).num_rows == 5
    assert len(pulled) < 50


def test_a_stream_that_is_read_twice_says_so(engine: Engine) -> None:
    with pytest.raises(ExecutionError, match="clicks is a stream and was already read"):
        run(engine, "SELECT count(*) FROM clicks x JOIN clicks y ON x.a = y.a", {"clicks": TABLE.to_reader()})
    source = Source.of("clicks", TABLE.to_reader())
    planned = plan(engine, "SELECT count(*) FROM clicks", {"clicks": source})
    assert not planned.replayable
    list(planned.stream())
    with pytest.raises(ExecutionError, match="already read"):
        list(planned.stream())


def test_a_table_is_replayable(engine: Engine) -> None:
    assert plan(engine, "SELECT * FROM t", {"t": TABLE}).replayable


def test_an_error_of_the_source_keeps_its_type(engine: Engine) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield TABLE.to_batches()[0]
        raise SchemaError("a bad batch", column="a")

    with pytest.raises(SchemaError, match="a bad batch") as caught:
        run(engine, "SELECT sum(a) FROM t", {"t": failing()})
    assert caught.value.column == "a"


def test_an_exception_of_the_callers_own_keeps_its_type(engine: Engine) -> None:
    class OwnError(Exception):
        pass

    def failing() -> Iterator[pa.RecordBatch]:
        yield TABLE.to_batches()[0]
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        run(engine, "SELECT sum(a) FROM t", {"t": failing()})


def test_a_batch_of_another_schema_is_an_error(engine: Engine) -> None:
    batches = iter([pa.record_batch({"a": [1]}), pa.record_batch({"a": ["x"]})])
    with pytest.raises((ExecutionError, SchemaError), match="schema"):
        run(engine, "SELECT * FROM t", {"t": batches})


@pytest.mark.parametrize("make", [lambda t: t, pa.Table.to_reader, ds.dataset], ids=["table", "reader", "dataset"])
def test_nan_is_greatest_in_every_kind_of_source(engine: Engine, make: Any) -> None:
    data = pa.table({"f": [1.0, math.nan], "g": pa.array([1.0, math.nan], pa.float32())})
    for column in ("f", "g"):
        result = run(engine, f"SELECT {column} FROM t WHERE {column} > 5", {"t": make(data)})
        assert result.num_rows == 1


def test_conditions_on_columns_that_are_not_selected_hold(engine: Engine) -> None:
    result = run(engine, "SELECT s FROM t WHERE a = 3", {"t": TABLE.to_reader()})
    assert result.to_pylist() == [{"s": "z"}]


def test_names_with_capitals_and_quotes_are_read(engine: Engine) -> None:
    data = pa.table({'A "q".b': [1.5, math.nan], "B": ["x", "y"]})
    for make in (lambda: data, data.to_reader):
        result = run(engine, 'SELECT "A ""q"".b" AS v FROM t WHERE "B" = \'x\'', {"t": make()})
        assert result.to_pylist() == [{"v": 1.5}]


def test_a_large_table_is_spread_over_threads_and_keeps_its_rows(engine: Engine) -> None:
    data = pa.table({"a": range(300_000)})
    assert run(engine, "SELECT sum(a) AS s, count(*) AS n FROM t", {"t": data}).to_pylist() == [
        {"s": 299_999 * 150_000, "n": 300_000}
    ]


def test_a_dataset_of_files_is_read(engine: Engine, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "x.parquet")
    assert rows(run(engine, "SELECT * FROM t", {"t": ds.dataset(tmp_path)})) == rows(TABLE)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sizes", [[200_000], [70_000, 1, 129_999], [10], [40_000] * 5, [0, 100_000, 0]])
def test_batches_are_cut_no_more_often_than_they_are_spread(threads: int, sizes: list[int]) -> None:
    batches = [pa.record_batch({"x": pa.array(range(size), pa.int64())}) for size in sizes]
    partitions = _partitions(batches, threads)
    assert 1 <= len(partitions) <= threads
    assert sum(map(len, partitions)) <= len(sizes) + threads - 1
    assert pa.Table.from_batches([b for part in partitions for b in part]) == pa.Table.from_batches(batches)
