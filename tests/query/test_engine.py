import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from query_helpers import live_paths, make_query, plan, rows, run, view_of

from icefusion.errors import (
    BindError,
    ExecutionError,
    OutOfMemoryError,
    ParseError,
    SQLError,
    StorageError,
    UnsupportedStatementError,
)
from icefusion.query.engine import Engine
from icefusion.query.filelist import DEFAULT_CATALOG
from icefusion.query.sources import Source
from icefusion.sql.statements import Query


@pytest.fixture
def numbers(catalog: SqlCatalog) -> Table:
    """The numbers 0 to 39 as id and their halves as half, in four files."""
    table = catalog.create_table("ns.t", pa.schema([("id", pa.int64()), ("half", pa.float64())]))
    with table.transaction() as transaction:
        for start in range(0, 40, 10):
            ids = list(range(start, start + 10))
            transaction.append(pa.table({"id": ids, "half": [i / 2 for i in ids]}))
    return table


def registered_names(engine: Engine) -> set[str]:
    """All names that a query of this engine could read now."""
    names = set()
    for catalog_name in engine._context.catalog_names():
        catalog = engine._context.catalog(catalog_name)
        for schema_name in catalog.schema_names():
            names |= {f"{catalog_name}.{schema_name}.{table}" for table in catalog.schema(schema_name).table_names()}
    return names


@pytest.mark.parametrize("order", ["id", "id LIMIT 90000", "half DESC, id", "s DESC"])
@pytest.mark.parametrize("outer", ["{}", "SELECT s, id FROM ({}) AS q ORDER BY id"])
def test_sorted_text_stays_sorted_on_all_threads(catalog: SqlCatalog, order: str, outer: str) -> None:
    count = 100_000
    table = catalog.create_table(
        "ns.t", pa.schema([("id", pa.int64()), ("half", pa.int64()), ("s", pa.string()), ("b", pa.binary())])
    )
    text = [f"{number:06}" for number in range(count)]
    ids = list(range(count))
    table.append(pa.table({"id": ids, "half": [i // 2 for i in ids], "s": text, "b": [t.encode() for t in text]}))
    query = plan(Engine(threads=3), outer.format(f"SELECT id, s, b FROM ns.t ORDER BY {order}"), {"ns.t": table})
    found = pa.Table.from_batches(query.stream(), query.schema)
    assert found.schema.field("s").type == pa.string()
    expected = ids
    if outer == "{}":
        expected = {
            "half DESC, id": sorted(ids, key=lambda i: (-(i // 2), i)),
            "s DESC": ids[::-1],
            "id LIMIT 90000": ids[:90_000],
        }.get(order, ids)
    elif "LIMIT" in order:
        expected = ids[:90_000]
    assert found["id"].to_pylist() == expected
    assert found["s"].to_pylist() == [text[i] for i in expected]


def test_no_name_is_left_after_a_query_or_an_error(numbers: Table) -> None:
    engine = Engine(threads=2)
    names = {"ns.t": numbers, "cat.ns.u": numbers, "src": pa.table({"id": [1]})}
    run(engine, "SELECT count(*) FROM ns.t, cat.ns.u, src WHERE ns.t.id = src.id", names)
    for text in ("SELECT nope FROM ns.t, cat.ns.u, src", "SELECT * FROM ns.t WHERE", "SELECT * FROM ns.t, cat.ns.gone"):
        with pytest.raises(SQLError):
            plan(engine, text, names)
    assert registered_names(engine) == set()
    assert engine._context.catalog(DEFAULT_CATALOG).schema_names() == {"?sources?"}
    with pytest.raises(BindError, match="src"):
        run(engine, "SELECT * FROM src")


def test_a_planned_query_runs_after_its_names_are_gone_and_more_than_once(numbers: Table, engine: Engine) -> None:
    planned = plan(engine, "SELECT sum(id) AS s FROM ns.t", {"ns.t": numbers})
    for _ in range(2):
        assert pa.Table.from_batches(planned.stream()).to_pylist() == [{"s": 780}]


def test_one_name_means_different_tables_to_different_threads(catalog: SqlCatalog, engine: Engine) -> None:
    tables = []
    for number in range(4):
        table = catalog.create_table(f"ns.t{number}", pa.schema([("v", pa.int64())]))
        table.append(pa.table({"v": [number]}))
        tables.append(view_of(table))

    def ask(number: int) -> list[int]:
        names = {"ns.t": tables[number], "src": pa.table({"w": [number]})}
        text = "SELECT v * 10 + w AS r FROM ns.t, src"
        return [run(engine, text, names)["r"][0].as_py() for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert answers == [[number * 11] * 10 for number in range(4)]


def test_quoted_names_and_three_parts_are_found(numbers: Table, engine: Engine) -> None:
    assert run(engine, 'SELECT id FROM "My.NS"."T x" WHERE id = 1', {'"My.NS"."T x"': numbers}).num_rows == 1
    assert run(engine, "SELECT id FROM Prod.NS.T WHERE id = 1", {"Prod.NS.T": numbers}).num_rows == 1
    assert run(engine, "SELECT ns.t.id FROM ns.t WHERE ns.t.id = 1", {"ns.t": numbers}).num_rows == 1


def test_a_name_of_four_parts_is_refused(numbers: Table, engine: Engine) -> None:
    with pytest.raises(BindError, match="4 parts"):
        run(engine, "SELECT * FROM a.b.c.d", {"a.b.c.d": numbers})


def _drained(streams: Sequence[Iterator[pa.RecordBatch]]) -> list[int]:
    """The first column of all streams, each drained by a thread of its own."""
    found: list[int] = []
    lock = threading.Lock()

    def drain(stream: Iterator[pa.RecordBatch]) -> None:
        for batch in stream:
            with lock:
                found.extend(batch.column(0).to_pylist())

    threads = [threading.Thread(target=drain, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a stream waits for another one"
    return sorted(found)


def test_streams_together_hold_every_row_once(numbers: Table, engine: Engine) -> None:
    streams = plan(engine, "SELECT id FROM ns.t UNION ALL SELECT id + 100 FROM ns.t", {"ns.t": numbers}).streams()
    assert len(streams) > 1
    assert _drained(streams) == sorted([*range(40), *range(100, 140)])


@pytest.mark.parametrize("parts", [5, 40])
def test_streams_of_a_join_do_not_wait_for_each_other(numbers: Table, engine: Engine, parts: int) -> None:
    many = " UNION ALL ".join(["SELECT id FROM ns.t"] * parts)
    planned = plan(
        engine, f"SELECT b.id FROM ns.t a JOIN ({many}) b ON a.id = b.id WHERE a.half < 5", {"ns.t": numbers}
    )
    assert _drained(planned.streams()) == sorted([*range(10)] * parts)


def test_every_batch_has_the_planned_schema(numbers: Table, engine: Engine) -> None:
    planned = plan(
        engine, "SELECT id, half, 'x' AS s, NULL AS n FROM ns.t UNION ALL SELECT 1, 2, 'y', 3", {"ns.t": numbers}
    )
    for stream in planned.streams():
        assert all(batch.schema.equals(planned.schema, check_metadata=True) for batch in stream)


def test_sql_types_are_the_plain_arrow_ones(engine: Engine) -> None:
    result = run(engine, "SELECT CAST('x' AS varchar) AS s, CAST(1 AS decimal(10, 2)) AS d, now() AS n")
    assert result.schema.types[:2] == [pa.string(), pa.decimal128(10, 2)]
    assert result.schema.field("n").type.tz == "UTC"


def test_decimal_literals_beside_doubles_are_doubles(numbers: Table, engine: Engine) -> None:
    assert run(engine, "SELECT id FROM ns.t WHERE half > 1e300 OR half = 1.5", {"ns.t": numbers}).to_pylist() == [
        {"id": 3}
    ]
    assert plan(engine, "SELECT id FROM ns.t WHERE half = 1.5", {"ns.t": numbers}).scans[0].files_read == 1


@pytest.mark.parametrize(
    ("text", "error", "message", "place"),
    [
        ("SELECT\n  nope FROM ns.t", BindError, "unknown column nope", (2, 3)),
        ("SELECT haf FROM ns.t", BindError, "did you mean", (1, 8)),
        ("SELECT id FROM ns.t WHERE", ParseError, "expected", None),
        ("SELECT id\nid2 id3 FROM ns.t", ParseError, "id3", (2, 5)),
        ("SELECT foo(id) FROM ns.t", BindError, "foo", None),
        ("SELECT * FROM ns.t, ns.gone", BindError, "unknown table ns.gone", (1, 24)),
        ("SELECT * FROM gone", BindError, "unknown table gone", (1, 15)),
        ("SELECT id FROM ns.t a, ns.t b", BindError, "(?i)ambiguous", None),
        ("SELECT id FROM ns.t WHERE id + TRUE AND id", BindError, "cannot", None),
        ("DELETE FROM ns.t", UnsupportedStatementError, "not supported", None),
        ("CREATE TABLE x AS SELECT 1", UnsupportedStatementError, "not supported", None),
        ("EXPLAIN DELETE FROM ns.t", UnsupportedStatementError, "not supported", None),
        ("COPY ns.t TO '/tmp/never.parquet'", UnsupportedStatementError, "not supported", None),
        ("SET datafusion.execution.batch_size = 1", UnsupportedStatementError, "not supported", None),
        ("SELECT CAST('x' AS int)", ExecutionError, "cannot cast string 'x'", None),
        ("SELECT id / 0 FROM ns.t", ExecutionError, "divide by zero", None),
        ("SELECT * FROM '/etc/passwd'", SQLError, "passwd", None),
        ("SELECT * FROM information_schema.tables", BindError, "unknown table", None),
    ],
)
def test_errors_say_what_and_where(
    numbers: Table, engine: Engine, text: str, error: type[Exception], message: str, place: tuple[int, int] | None
) -> None:
    with pytest.raises(error, match=message) as caught:
        run(engine, text, {"ns.t": numbers})
    assert "DataFusion" not in str(caught.value)
    if place is not None:
        assert (caught.value.line, caught.value.column) == place


def test_the_place_of_an_error_is_that_in_the_users_text(engine: Engine) -> None:
    sql = "INSERT INTO x\nSELECT 1 2 3"
    query = Query("SELECT 1 2 3", sql=sql, offset=sql.index("SELECT"))
    with pytest.raises(ParseError) as caught:
        engine.plan(query, [])
    assert caught.value.line == 2


def test_a_query_beyond_the_memory_limit_names_the_setting() -> None:
    engine = Engine(memory_limit_bytes=20_000_000, threads=2)
    big = pa.table({"a": range(1_000_000)})
    with pytest.raises(OutOfMemoryError, match="memory_limit"):
        run(engine, "SELECT count(*) FROM a JOIN b ON a.a = b.a AND a.a % 2 = b.a % 2", {"a": big, "b": big})


def test_a_sort_beyond_the_memory_limit_spills() -> None:
    engine = Engine(memory_limit_bytes=40_000_000, threads=1)
    big = pa.table({"a": [(i * 7919) % 1_000_003 for i in range(1_000_000)]})
    wide = "SELECT a, a + 1 AS b, a + 2 AS c, a + 3 AS d, a + 4 AS e, a + 5 AS f FROM s ORDER BY a"
    assert sum(batch.num_rows for batch in plan(engine, wide, {"s": big}).stream()) == 1_000_000


def test_a_missing_data_file_is_an_error(numbers: Table) -> None:
    engine = Engine(threads=2)
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": numbers}).to_pylist() == [{"n": 40}]
    path = live_paths(numbers)[1]
    path.unlink()
    for asked in (engine, Engine(threads=2)):  # with the footer remembered, and without
        for text in ("SELECT count(*) FROM ns.t", "SELECT * FROM ns.t"):
            with pytest.raises(StorageError, match="missing") as caught:
                run(asked, text, {"ns.t": numbers})
            assert caught.value.path == f"file://{path}"


def test_a_missing_file_that_is_pruned_is_not_missed(numbers: Table) -> None:
    engine = Engine(threads=2)
    task = next(iter(numbers.scan(row_filter="id = 5").plan_files()))
    Path(task.file.file_path.removeprefix("file://")).unlink()
    assert run(engine, "SELECT id FROM ns.t WHERE id = 35", {"ns.t": numbers}).num_rows == 1
    with pytest.raises(StorageError):
        run(engine, "SELECT id FROM ns.t WHERE id = 5", {"ns.t": numbers})


@pytest.mark.parametrize("length", [0, 100])
@pytest.mark.parametrize("read_before", [False, True])
def test_a_truncated_data_file_is_an_error(numbers: Table, length: int, read_before: bool) -> None:
    engine = Engine(threads=2)
    if read_before:
        run(engine, "SELECT count(*) FROM ns.t", {"ns.t": numbers})
    path = live_paths(numbers)[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError) as caught:
        run(engine, "SELECT count(*) FROM ns.t", {"ns.t": numbers})
    assert caught.value.path == f"file://{path}"


def test_a_file_with_other_rows_than_its_manifest_says_is_an_error(numbers: Table) -> None:
    first, second = live_paths(numbers)[:2]
    pq.write_table(pq.read_table(first).slice(0, 3), second)
    with pytest.raises(StorageError, match=r"rows|bytes"):
        run(Engine(threads=2), "SELECT count(*) FROM ns.t", {"ns.t": numbers})


def test_explain_shows_a_scan_of_the_files_that_are_left(numbers: Table, engine: Engine) -> None:
    planned = plan(engine, "EXPLAIN SELECT id FROM ns.t WHERE id = 5", {"ns.t": numbers})
    assert planned.scans[0].files_read == 1
    text = "\n".join(row["plan"] for row in pa.Table.from_batches(planned.stream()).to_pylist())
    assert text.count(".parquet") == 1
    assert plan(engine, "SELECT id FROM ns.t WHERE id < 10", {"ns.t": numbers}).explain().count(".parquet") == 1


def test_the_fallback_without_native_file_lists_reads_the_same(numbers: Table) -> None:
    slow = Engine(threads=2, native_file_lists=False)
    assert not slow._scanner.native
    text = "SELECT * FROM ns.t WHERE id > 5"
    fast = Engine(threads=2)
    assert fast._scanner.native
    assert rows(run(slow, text, {"ns.t": numbers})) == rows(run(fast, text, {"ns.t": numbers}))


def test_many_files_are_one_scan(numbers: Table, engine: Engine) -> None:
    explained = plan(engine, "SELECT id FROM ns.t", {"ns.t": numbers}).explain()
    assert explained.count("DataSourceExec") == 1


def test_two_bindings_of_one_name_are_refused(numbers: Table, engine: Engine) -> None:
    query, _ = make_query("SELECT * FROM s a, s b", {"s": 1})
    with pytest.raises(BindError, match="two things"):
        engine.plan(query, [Source.of("s", pa.table({"a": [1]})), Source.of("s", pa.table({"a": [2]}))])


def test_closing_a_stream_early_leaves_the_engine_usable(numbers: Table, engine: Engine) -> None:
    stream = plan(engine, "SELECT * FROM ns.t", {"ns.t": numbers}).stream()
    next(stream)
    stream.close()
    assert run(engine, "SELECT count(*) AS n FROM ns.t", {"ns.t": numbers}).to_pylist() == [{"n": 40}]
