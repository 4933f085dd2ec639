"""Tables as DataFrames of DataFusion's and back, and scans without SQL around them."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datafusion import SessionContext, col, lit, udf
from datafusion import functions as f

import icefusion as ice
from icefusion.errors import BindError, ConfigurationError, ParseError, StorageError, TableNotFoundError


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ice.Session]:
    with ice.connect(tmp_path / "warehouse") as session:
        session.sql('CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, "Name" string, f double) PARTITIONED BY (id)')
        session.sql("INSERT INTO ns.t VALUES (1, 'a', 1.5), (2, 'b', 'NaN'::double), (3, NULL, NULL)")
        yield session


def rows(frame: Any) -> list[tuple[Any, ...]]:
    table = frame.to_arrow_table() if hasattr(frame, "to_arrow_table") else frame.to_arrow()
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def ours(session: ice.Session, sql: str = 'SELECT id, "Name" FROM ns.t') -> list[tuple[Any, ...]]:
    return rows(session.sql(sql))


# to_datafusion


def test_a_table_goes_on_as_a_dataframe(session: ice.Session) -> None:
    frame = session.table("ns.t").to_datafusion()
    assert frame.schema().names == ["id", "Name", "f"]
    assert rows(frame.filter(col("id") > 1).select(col("id"), col('"Name"'))) == [(2, "b"), (3, None)]
    assert rows(frame.aggregate([], [f.count(col("id")), f.max(col("id"))])) == [(3, 3)]
    assert rows(frame.filter(col("f") > lit(5.0)).select(col("id"))) == [(2,)]


def test_it_lives_in_any_context_and_outlives_the_session(session: ice.Session) -> None:
    session.sql("DELETE FROM ns.t WHERE id = 3", write_mode="merge-on-read")
    frame = session.table("ns.t").to_datafusion()
    session.close()
    gc.collect()
    context = SessionContext()
    context.register_table("mine", frame)
    context.from_pydict({"id": [1, 2], "x": ["p", "q"]}, name="other")
    joined = context.sql('SELECT mine."Name", other.x FROM mine JOIN other ON mine.id = other.id WHERE mine.id < 2')
    assert rows(joined) == [("a", "p")]
    del context
    gc.collect()
    assert rows(frame.join(SessionContext().from_pydict({"id": [2]}), on="id").select(col('"Name"'))) == [("b",)]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_deletes_and_evolution_are_in_it(session: ice.Session, mode: Any) -> None:
    session.sql("INSERT INTO ns.t SELECT value, 'many', 0 FROM range(10, 40)")
    session.sql("DELETE FROM ns.t WHERE id % 2 = 0", write_mode=mode)
    with session.catalog.load_table("ns.t").update_schema() as update:
        update.rename_column("Name", "label")
        update.delete_column("f")
    frame = session.table("ns.t").to_datafusion()
    assert frame.schema().names == ["id", "label"]
    assert rows(frame.filter(col("id") < lit(14))) == [(1, "a"), (11, "many"), (13, "many"), (3, None)]
    assert rows(frame.filter(col("label").is_null())) == [(3, None)]
    assert rows(frame.filter(col("label") == lit("many")).aggregate([], [f.count(col("id"))])) == [(15,)]


def test_it_holds_one_state_and_sees_the_open_transaction(session: ice.Session) -> None:
    before = session.table("ns.t").to_datafusion()
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (4, 'mine', 0)")
        inside = session.table("ns.t").to_datafusion()
        assert len(rows(inside)) == 4
    session.sql("INSERT INTO ns.t VALUES (5, 'later', 0)")
    assert len(rows(before)) == 3
    assert len(rows(inside)) == 4
    assert len(rows(session.table("ns.t").to_datafusion())) == 5


def test_a_file_that_is_missing_is_an_error(session: ice.Session) -> None:
    table = session.table("ns.t")
    (task, *_) = session.catalog.load_table("ns.t").scan().plan_files()
    Path(task.file.file_path.removeprefix("file://")).unlink()
    with pytest.raises(StorageError, match="missing"):
        table.to_datafusion()
    session.sql("DROP TABLE ns.t")
    with pytest.raises(TableNotFoundError):
        table.to_datafusion()


# DataFrames as input


@pytest.fixture
def theirs() -> Any:
    """A DataFrame of another context, with a function that only that one knows."""
    context = SessionContext()
    context.register_udf(udf(lambda values: pc.multiply(values, 10), [pa.int64()], pa.int64(), "immutable", "tenfold"))
    context.from_pydict({"id": [1, 4], "Name": ["x", "y"]}, name="s")
    return context.sql('SELECT tenfold(id) / 10 AS id, "Name" FROM s')


def test_a_dataframe_of_another_context_is_a_source(session: ice.Session, theirs: Any) -> None:
    gc.collect()
    joined = 'SELECT t.id, theirs."Name" FROM ns.t JOIN theirs ON t.id = theirs.id'
    assert rows(session.sql(joined, theirs=theirs)) == [(1, "x")]
    assert session.sql("INSERT INTO ns.t BY NAME SELECT * FROM theirs", theirs=theirs).rows_inserted == 2
    assert ours(session) == [(1, "a"), (1, "x"), (2, "b"), (3, None), (4, "y")]


def test_a_dataframe_is_appended_merged_and_overwritten(session: ice.Session, theirs: Any) -> None:
    table = session.table("ns.t")
    assert table.append(theirs.filter(col("id") > lit(1))).rows_inserted == 1
    merged = table.merge(theirs, "target.id = source.id").when_matched_update({"Name": 'source."Name"'})
    assert merged.execute().rows_updated == 2
    assert ours(session) == [(1, "x"), (2, "b"), (3, None), (4, "y")]
    assert table.upsert(theirs, "id").rows_updated == 2
    table.overwrite(table.to_datafusion().filter(col("id") > lit(2)))
    assert ours(session) == [(3, None), (4, "y")]
    table.append(table.to_datafusion().select((col("id") + lit(10)).alias("id"), col('"Name"')))
    assert ours(session) == [(13, None), (14, "y"), (3, None), (4, "y")]


def test_what_their_function_raises_is_told(session: ice.Session) -> None:
    def fail(_: pa.Array) -> pa.Array:
        raise LookupError("nobody knows")

    context = SessionContext()
    context.register_udf(udf(fail, [pa.int64()], pa.int64(), "volatile", "fail"))
    frame = context.sql("SELECT fail(column1) AS id FROM (VALUES (1), (2))")
    with pytest.raises(ice.ExecutionError, match="nobody knows"):
        session.table("ns.t").append(frame)
    assert len(ours(session)) == 3


# scan


def test_a_scan_reads_what_it_is_asked_for(session: ice.Session) -> None:
    table = session.table("ns.t")
    assert len(rows(table.scan())) == 3
    assert rows(table.scan("id > 1", ["name"])) == [("b",), (None,)]
    assert table.scan("id > 1", ["name", "ID"]).schema.names == ["Name", "id"]
    assert rows(table.scan("id = $id OR id = $other", ["id"], params={"id": 1, "other": 3})) == [(1,), (3,)]
    assert rows(table.scan("id = ? -- the one", ["id"], params=[2])) == [(2,)]
    assert len(rows(table.scan(limit=2))) == 2
    assert rows(table.scan("id IN (SELECT max(id) FROM ns.t)", ["id"])) == [(3,)]
    assert sum(batch.num_rows for batch in table.scan(columns=["id"]).to_arrow_reader()) == 3


def test_a_scan_leaves_files_out(session: ice.Session) -> None:
    (scan,) = session.table("ns.t").scan("id = ?", params=[2]).report.scans
    assert (scan.files_total, scan.files_read) == (3, 1)


def test_a_scan_sees_the_open_transaction(session: ice.Session) -> None:
    with session.transaction() as tx:
        tx.sql("DELETE FROM ns.t WHERE id < 3")
        assert rows(session.table("ns.t").scan(columns=["id"])) == [(3,)]
    assert rows(session.table("ns.t").scan(columns=["id"])) == [(3,)]


def test_wrong_scans_are_told(session: ice.Session) -> None:
    table = session.table("ns.t")
    for wrong, error, words in (
        (lambda: table.scan("id >"), ParseError, "expected an operand"),
        (lambda: table.scan("id = 1; DROP TABLE ns.t"), ParseError, "end of the expression"),
        (lambda: table.scan("id = 1) OR (true"), ParseError, "end of the expression"),
        (lambda: table.scan("true UNION SELECT * FROM ns.t"), ParseError, "end of the expression"),
        (lambda: table.scan("idd = 1"), BindError, "did you mean id"),
        (lambda: table.scan(columns=["nam"]), BindError, "did you mean Name"),
        (lambda: table.scan(columns=['id" FROM ns.t --']), BindError, "no column"),
        (lambda: table.scan(columns=[]), ConfigurationError, "at least one"),
        (lambda: table.scan(limit=-1), ConfigurationError, "limit"),
        (lambda: table.scan("id = ?"), BindError, "no value for parameter"),
    ):
        with pytest.raises(error) as caught:
            wrong().to_arrow()
        assert words in str(caught.value)
    assert len(ours(session)) == 3
