"""Functions of the user's own, in every statement; and Spark's."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datafusion import Accumulator, udaf, udf, udwf
from datafusion.user_defined import WindowEvaluator

import icefusion as ice
from icefusion.errors import BindError, ConfigurationError, ExecutionError, UnsupportedStatementError


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ice.Session]:
    with ice.connect(tmp_path / "warehouse") as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, name string)")
        session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b'), (3, NULL)")
        session.create_function("twice", lambda values: pc.multiply(values, 2), ["bigint"], "bigint")
        yield session


def rows(session: ice.Session, sql: str = "FROM ns.t", params: Any = None) -> list[tuple[Any, ...]]:
    return sorted(session.sql(sql, params).fetchall(), key=repr)


# Created ones


def test_a_date_that_there_is_not_is_an_error(session) -> None:
    with pytest.raises(ice.ExecutionError, match="date_add: the date is beyond those that there are"):
        session.sql("SELECT date_add(DATE '2024-01-01', 99999999999)").fetchall()


def test_a_function_of_arrays_is_called_in_queries(session: ice.Session) -> None:
    assert rows(session, "SELECT twice(id), TWICE(twice(5)) FROM ns.t WHERE Twice(id) > 2") == [(4, 20), (6, 20)]
    assert rows(session, "SELECT twice(?)", [4]) == [(8,)]
    assert rows(session, "SELECT max(twice(id)) OVER () FROM ns.t WHERE id = 1") == [(2,)]
    session.sql("CREATE VIEW v AS SELECT twice(id) AS x FROM ns.t")
    assert rows(session, "SELECT sum(x) FROM v") == [(12,)]
    assert ("twice",) in session.sql("SHOW FUNCTIONS").fetchall()


def test_a_function_of_python_values_is_called_for_each_row(session: ice.Session) -> None:
    session.create_function(
        "label",
        lambda number, text: None if text is None else f"{text}{number}",
        [pa.int64(), "string"],
        "string",
        by_row=True,
    )
    assert rows(session, "SELECT label(id, name) FROM ns.t") == [("a1",), ("b2",), (None,)]


CHANGES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("INSERT INTO ns.t SELECT twice(id), 'new' FROM ns.t WHERE id = 3", [(1, "a"), (2, "b"), (3, None), (6, "new")]),
    ("INSERT INTO ns.t VALUES (twice(5), 'v') RETURNING twice(id)", [(1, "a"), (10, "v"), (2, "b"), (3, None)]),
    ("UPDATE ns.t SET id = twice(id) WHERE twice(id) = 6", [(1, "a"), (2, "b"), (6, None)]),
    ("DELETE FROM ns.t WHERE twice(id) < 5", [(3, None)]),
    (
        "MERGE INTO ns.t USING (SELECT 4 AS id, 'm' AS name) AS s ON twice(t.id) = s.id "
        "WHEN MATCHED AND twice(t.id) = 4 THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT *",
        [(1, "a"), (2, "m"), (3, None)],
    ),
    ("INSERT OVERWRITE ns.t SELECT twice(id), name FROM ns.t", [(2, "a"), (4, "b"), (6, None)]),
    ("INSERT INTO ns.t REPLACE WHERE twice(id) > 2 SELECT 9, 'r'", [(1, "a"), (9, "r")]),
    (
        "INSERT INTO ns.t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET id = twice(t.id) WHERE twice(t.id) = 2",
        [(2, "a"), (2, "b"), (3, None)],
    ),
]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("sql", "left"), CHANGES, ids=[sql.split(" ")[0] for sql, _ in CHANGES])
def test_functions_in_changes(
    session: ice.Session, sql: str, left: list[tuple[Any, ...]], inside: bool, mode: Any
) -> None:
    if inside:
        session.sql("BEGIN")
    session.sql(sql, write_mode=mode)
    assert rows(session) == left
    if inside:
        session.sql("COMMIT")
    assert rows(session) == left


def test_what_a_function_raises_is_the_cause_of_our_error(session: ice.Session) -> None:
    def fail(_: pa.Array) -> pa.Array:
        raise LookupError("nobody knows")

    session.create_function("fail", fail, ["bigint"], "bigint")
    for sql in (
        "SELECT fail(id) FROM ns.t",
        "SELECT fail(1)",
        "DELETE FROM ns.t WHERE fail(id) = 1",
        "INSERT INTO ns.t SELECT fail(id), name FROM ns.t",
        "UPDATE ns.t SET id = fail(id)",
        "CREATE TABLE ns.u AS SELECT fail(id) AS id FROM ns.t",
    ):
        with pytest.raises(ExecutionError, match="function fail failed: LookupError: nobody knows") as caught:
            session.sql(sql).to_arrow()
        assert isinstance(caught.value.__cause__, LookupError)
    assert rows(session) == [(1, "a"), (2, "b"), (3, None)]
    warehouse = Path(session.catalog.properties["warehouse"].removeprefix("file://"))
    assert len(list(warehouse.rglob("*.parquet"))) == 1


def test_what_a_function_returns_is_checked(session: ice.Session) -> None:
    session.create_function("short", lambda values: values[:1], ["bigint"], "bigint")
    session.create_function("wrong", lambda values: ["x"] * len(values), ["bigint"], "bigint")
    session.create_function("narrow", lambda values: pc.cast(values, pa.int32()), ["bigint"], "bigint")
    with pytest.raises(ice.IcefusionError):
        session.sql("SELECT short(id) FROM ns.t").to_arrow()
    with pytest.raises(ExecutionError, match="function wrong failed"):
        session.sql("SELECT wrong(id) FROM ns.t").to_arrow()
    assert rows(session, "SELECT narrow(id) FROM ns.t WHERE id = 3") == [(3,)]


def test_wrong_calls_are_told(session: ice.Session) -> None:
    with pytest.raises(BindError, match="twice"):
        session.sql("SELECT twice('x')")
    with pytest.raises(BindError, match="twice"):
        session.sql("SELECT twice(id, id) FROM ns.t")
    with pytest.raises(BindError, match=r"(?s)twixe.*did you mean twice"):
        session.sql("SELECT twixe(id) FROM ns.t")


@pytest.mark.parametrize(
    ("name", "types", "returned", "more", "message"),
    [
        ("sum", ["int"], "int", {}, "there is a function sum already"),
        ("NANVL", ["int"], "int", {}, "there is a function nanvl already"),
        ("f", ["intt"], "int", {}, "(?s)intt.*did you mean int"),
        ("f", ["int int"], "int", {}, "expected the end of the type"),
        ("f", [5], "int", {}, "expected a type, found 5"),
        ("f", ["int"], "int", {"volatility": "sometimes"}, "expected one of immutable, stable, volatile"),
        ("", ["int"], "int", {}, "needs a name"),
    ],
)
def test_functions_that_cannot_be(
    session: ice.Session, name: str, types: Any, returned: str, more: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        session.create_function(name, len, types, returned, **more)


def test_a_function_can_be_replaced_and_forgotten(session: ice.Session) -> None:
    session.create_function("twice", lambda values: pc.multiply(values, 20), ["bigint"], "bigint")
    assert rows(session, "SELECT twice(2)") == [(40,)]
    session.unregister("Twice")
    with pytest.raises(BindError, match="twice"):
        session.sql("SELECT twice(2)")
    with pytest.raises(ConfigurationError, match="no function twice"):
        session.unregister("twice")


def test_a_function_belongs_to_its_session(session: ice.Session, tmp_path: Path) -> None:
    with ice.connect(tmp_path / "warehouse") as other, pytest.raises(BindError, match="twice"):
        other.sql("SELECT twice(id) FROM ns.t")


def test_a_users_function_comes_before_another_name_for_one_of_the_engines(session: ice.Session) -> None:
    assert rows(session, "SELECT sign(-3)") == [(-1.0,)]
    session.create_function("sign", pc.negate, ["bigint"], "bigint")
    assert rows(session, "SELECT sign(-3)") == [(3,)]


# DataFusion's


class Total(Accumulator):
    def __init__(self) -> None:
        self.total = 0

    def update(self, *values: pa.Array) -> None:
        self.total += pc.sum(values[0]).as_py() or 0

    def merge(self, states: list[pa.Array]) -> None:
        self.total += pc.sum(states[0]).as_py() or 0

    def state(self) -> list[pa.Scalar]:
        return [pa.scalar(self.total)]

    def evaluate(self) -> pa.Scalar:
        return pa.scalar(self.total)


class Broken(Total):
    def update(self, *values: pa.Array) -> None:
        raise ZeroDivisionError("no total")


class Numbered(WindowEvaluator):
    def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
        return pa.array([float(number) for number in range(num_rows)])


def test_functions_made_by_datafusion_are_called(session: ice.Session) -> None:
    session.register(udf(lambda values: pc.add(values, 1), [pa.int64()], pa.int64(), "immutable", "PlusOne"))
    session.register(udaf(Total, [pa.int64()], pa.int64(), [pa.int64()], "immutable", "total"))
    session.register(udwf(Numbered, pa.int64(), pa.float64(), "immutable", "numbered"))
    assert rows(session, 'SELECT PlusOne(id), plusone(1), "PlusOne"(2) FROM ns.t WHERE id = 1') == [(2, 2, 3)]
    assert rows(session, "SELECT total(id), total(id) FILTER (WHERE id > 1) FROM ns.t") == [(6, 5)]
    assert rows(session, "SELECT numbered(id) OVER (ORDER BY id) FROM ns.t") == [(0.0,), (1.0,), (2.0,)]
    session.sql("UPDATE ns.t SET id = PlusOne((SELECT total(id) FROM ns.t)) WHERE name IS NULL")
    assert rows(session) == [(1, "a"), (2, "b"), (7, None)]


def test_what_they_raise_is_told_with_their_name(session: ice.Session) -> None:
    def fail(_: pa.Array) -> pa.Array:
        raise KeyError("nothing there")

    session.register(udf(fail, [pa.int64()], pa.int64(), "immutable", "fail"))
    session.register(udaf(Broken, [pa.int64()], pa.int64(), [pa.int64()], "immutable", "broken"))
    with pytest.raises(ExecutionError, match=r"function fail failed: KeyError.*nothing there"):
        session.sql("SELECT fail(id) FROM ns.t").to_arrow()
    with pytest.raises(ExecutionError, match=r"function fail failed: KeyError.*nothing there"):
        session.sql("DELETE FROM ns.t WHERE fail(id) > 0")
    with pytest.raises(ExecutionError, match="function broken failed: ZeroDivisionError: no total"):
        session.sql("SELECT broken(id) FROM ns.t").to_arrow()


@pytest.mark.parametrize("thing", [len, "sum", None, udf])
def test_other_things_are_no_functions(session: ice.Session, thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a function of DataFusion's"):
        session.register(thing)


def test_chance_is_told_from_certainty_without_a_call(session: ice.Session) -> None:
    calls: list[int] = []

    def note(*values: pa.Array) -> pa.Array:
        calls.append(1)
        return values[0]

    for volatility in ("immutable", "stable", "volatile"):
        for count in (1, 2, 5):
            made = udf(note, [pa.int64()] * count, pa.int64(), volatility, f"{volatility}{count}")
            session.register(made)
    assert session._engine.functions.volatile == {"VOLATILE1", "VOLATILE2", "VOLATILE5"}
    assert not calls
    when = "MERGE INTO ns.t USING (SELECT 1 AS id) AS s ON t.id = s.id WHEN MATCHED AND {}1(t.id) = 1 THEN DELETE"
    with pytest.raises(UnsupportedStatementError, match="call for chance"):
        session.sql(when.format("volatile"))
    with pytest.raises(UnsupportedStatementError, match="call for chance"):
        session.sql(when.format('"volatile1"(t.id) = 1 OR volatile'))
    session.sql(when.format("stable"))
    assert rows(session) == [(2, "b"), (3, None)]


@pytest.mark.parametrize(("volatility", "runs"), [("immutable", 2), ("volatile", 1)])
def test_a_statement_with_chance_is_not_replayed(
    session: ice.Session, tmp_path: Path, volatility: Any, runs: int
) -> None:
    """Another session changes the same rows while the function runs, once."""
    ran = 0
    with ice.connect(tmp_path / "warehouse") as other:

        def disturb(values: pa.Array) -> pa.Array:
            nonlocal ran
            ran += 1
            if ran == 1:
                pool.submit(other.sql, "UPDATE ns.t SET name = 'theirs' WHERE id = 1").result()
            return values

        with ThreadPoolExecutor(1) as pool:
            session.create_function("disturb", disturb, ["bigint"], "bigint", volatility=volatility)
            if volatility == "immutable":
                session.sql("UPDATE ns.t SET name = 'ours' WHERE disturb(id) = 1")
                assert (1, "ours") in rows(session)
            else:
                with pytest.raises(ice.CommitConflictError):
                    session.sql("UPDATE ns.t SET name = 'ours' WHERE disturb(id) = 1")
                assert (1, "theirs") in rows(session)
    assert ran == runs


# Spark's


def test_functions_of_spark_are_there_unless_they_clash(session: ice.Session, tmp_path: Path) -> None:
    same = "SELECT if(TRUE, 1, 2), hex(255), size([1, 2]), collect_list(id) FROM ns.t WHERE id = 1"
    assert rows(session, same) == [(1, "FF", 2, [1])]
    assert rows(session, "SELECT concat('a', NULL), substring('abc', 2)") == [("a", "bc")]
    with ice.connect(tmp_path / "warehouse", functions="spark") as spark:
        assert rows(spark, same) == [(1, "FF", 2, [1])]
        assert rows(spark, "SELECT concat('a', NULL), substring('abc', 2)") == [(None, "bc")]
        spark.sql("CREATE TABLE ns.s (a struct<x: int, y: int>, f double)")
        spark.sql("INSERT INTO ns.s SELECT {'x': 1, 'y': 2}, 'NaN'::double")
        spark.sql("UPDATE ns.s SET a.x = 5 WHERE f > 1; DELETE FROM ns.s WHERE a.y = 3")
        assert repr(rows(spark, "FROM ns.s")) == "[({'x': 5, 'y': 2}, nan)]"
    with pytest.raises(ConfigurationError, match="'datafusion' or 'spark'"):
        ice.connect(tmp_path / "warehouse", functions="hive")  # type: ignore[arg-type]
