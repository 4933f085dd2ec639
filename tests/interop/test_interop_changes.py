"""DELETE, UPDATE, MERGE and their like: after each statement all engines read the rows that are to be left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from interop_cases import arrow_table, cases_for
from interop_changes import CHANGED, MODES, SCRIPT, TABLE_COLUMNS, Rows, Step, canonical_of, some_rows, table_of
from interop_evolution import EVOLVED, ROWS_AFTER, ROWS_BEFORE, SQL_COLUMNS, evolve_with_pyiceberg
from interop_readers import Reader, SparkReader
from interop_rows import canonical_rows, rows_of
from interop_tables import create_with_icefusion, location_of
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, TruncateTransform

import icefusion

LAYOUTS = ("", "part", "bucket(3, id)", "day(at)", "truncate(2, name)", "bucket(2, part), month(at)")
# Each layout in one of the three modes, the simplest two in another one too. Spark reads every other of them.
CASES = [
    *((*MODES[place % 3], layout) for place, layout in enumerate(LAYOUTS)),
    *((*MODES[place + 1], layout) for place, layout in enumerate(LAYOUTS[:2])),
]
QUICK = ("pyiceberg", pytest.param("duckdb", marks=pytest.mark.duckdb))
numbers = count()


@dataclass(frozen=True)
class State:
    """A table after a statement: the statement, the rows that are to be left, and the metadata file."""

    sql: str
    expected: list[tuple[Any, ...]]
    location: str


def fresh_rows(session: icefusion.Session, table: str) -> list[Sequence[Any]]:
    """What a session reads that has seen nothing before."""
    with icefusion.connect(catalog=session.catalog.properties, name=session.catalog.name) as other:
        found = other.sql(f"SELECT * FROM {table}").fetchall()
        assert other.sql(f"SELECT count(*) FROM {table}").fetchall() == [(len(found),)]
        return found


def properties(mode: str, granularity: str) -> str:
    modes = ", ".join(f"'write.{change}.mode' = '{mode}'" for change in ("delete", "update", "merge"))
    return f"TBLPROPERTIES ({modes}, 'write.delete.granularity' = '{granularity}')"


def make_table(session: icefusion.Session, mode: str, granularity: str, layout: str) -> tuple[str, Rows]:
    """A table of several data files, changed in the mode, and its rows."""
    table = f"ns.changed{next(numbers)}"
    partitioning = f"PARTITIONED BY ({layout})" if layout else ""
    session.sql(f"CREATE TABLE {table} ({TABLE_COLUMNS}) {partitioning} {properties(mode, granularity)}")
    for first in (0, 30, 60):
        session.writer(table).write_batches(table_of(some_rows(range(first, first + 30))).to_batches())
    return table, {row["id"]: row for row in some_rows(range(90))}


def run(session: icefusion.Session, table: str, step: Step, rows: Rows) -> State:
    given = {} if step.given is None else {"given": step.given}
    session.sql(step.sql.format(table=table), **given)
    step.effect(rows)
    state = State(step.sql, canonical_of(rows), location_of(session, table))
    assert canonical_rows(fresh_rows(session, table), CHANGED) == state.expected, step.sql
    return state


@pytest.fixture(scope="module")
def history(session: icefusion.Session) -> Callable[[str, str, str], list[State]]:
    """The states that a table goes through; they are made once and read by each engine in turn."""

    @cache
    def states(mode: str, granularity: str, layout: str) -> list[State]:
        table, rows = make_table(session, mode, granularity, layout)
        return [run(session, table, step, rows) for step in SCRIPT]

    return states


@pytest.fixture(scope="module", params=QUICK)
def quick_reader(request: pytest.FixtureRequest) -> Reader:
    """Each engine that reads a small table in no time."""
    engine: Reader = request.getfixturevalue(f"{request.param}_reader")
    return engine


def check(reader: Reader, states: Sequence[State], schema: pa.Schema = CHANGED) -> None:
    """Hold the rows that an engine reads in each state against those that are to be there."""
    if isinstance(reader, SparkReader):
        every = reader.rows_of_each([state.location for state in states])
    else:
        every = [reader.rows(state.location) for state in states]
    for state, rows in zip(states, every, strict=True):
        assert canonical_rows(rows, schema) == state.expected, state.sql


@pytest.mark.parametrize(("mode", "granularity", "layout"), CASES)
def test_all_read_the_same_after_each_change(
    history: Any, quick_reader: Reader, mode: str, granularity: str, layout: str
) -> None:
    check(quick_reader, history(mode, granularity, layout))


@pytest.mark.spark
@pytest.mark.parametrize(("mode", "granularity", "layout"), CASES[1::2])
def test_spark_reads_the_same_after_each_change(
    history: Any, spark_reader: SparkReader, mode: str, granularity: str, layout: str
) -> None:
    check(spark_reader, history(mode, granularity, layout))


# Schemas and partitions that change between the changes


@cache
def _evolved_states(session: icefusion.Session, mode: str, granularity: str) -> list[State]:
    """Rows from before and after every change of the schema, changed themselves then."""
    table = f"ns.evolving{next(numbers)}"
    columns = SQL_COLUMNS.format(list="list")
    session.sql(f"CREATE TABLE {table} ({columns}) {properties(mode, granularity)}")
    spare = ROWS_BEFORE.set_column(0, "id", pa.array([11, 12], pa.int64()))
    session.writer(table).write_batches(pa.concat_tables([ROWS_BEFORE, spare]).combine_chunks().to_batches())
    session.sql(f"DELETE FROM {table} WHERE id = 11")
    evolve_with_pyiceberg(session.catalog.load_table(table))
    session.writer(table).write_batches(ROWS_AFTER.to_batches())
    rows: dict[int, Any] = {row["id"]: row for row in EVOLVED.to_pylist()}
    rows[12] = {**rows[2], "id": 12}
    states = []

    def state(sql: str, **given: pa.Table) -> None:
        session.sql(sql.format(table=table), **given)
        expected = rows_of(pa.Table.from_pylist(list(rows.values()), EVOLVED.schema))
        assert canonical_rows(fresh_rows(session, table), EVOLVED.schema) == expected, sql
        states.append(State(sql, expected, location_of(session, table)))

    for row_id in (1, 3):
        rows[row_id] = {
            **rows[row_id],
            "added": "now",
            "small": rows[row_id]["small"] - 2**33,
            "gone": rows[row_id]["added"],
        }
    state(f"UPDATE {{table}} SET added = 'now', small = small - {2**33}, gone = added WHERE id IN (1, 3)")
    del rows[12]
    state("DELETE FROM {table} WHERE new_name = '' AND id > 2")
    given = pa.Table.from_pylist([{**rows[1], "id": 2}, {**rows[3], "id": 20}], EVOLVED.schema)
    rows.update({row["id"]: row for row in given.to_pylist()})
    state(
        "MERGE INTO {table} AS t USING given AS s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
        given=given,
    )
    del rows[3], rows[20]
    state("DELETE FROM {table} WHERE point['z'] = -3")
    return states


@pytest.mark.parametrize(("mode", "granularity"), MODES)
def test_rows_from_before_a_change_of_the_schema_are_changed(
    session: icefusion.Session, reader: Reader, mode: str, granularity: str
) -> None:
    check(reader, _evolved_states(session, mode, granularity), EVOLVED.schema)


def _add(name: str, column: str, transform: Any) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        with table.update_spec() as update:
            update.add_field(column, transform, name)

    return change


def _remove(name: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        with table.update_spec() as update:
            update.remove_field(name)

    return change


def _rename(table: Table) -> None:
    with table.update_schema() as update:
        update.rename_column("at", "at_once")
    with table.update_schema() as update:
        update.rename_column("at_once", "at")


SPECS: tuple[Callable[[Table], None], ...] = (
    _add("part_of", "part", IdentityTransform()),
    _add("id_bucket", "id", BucketTransform(2)),
    _remove("part_of"),
    _rename,
    _add("name_start", "name", TruncateTransform(1)),
    _remove("id_bucket"),
    _remove("name_start"),
)


@cache
def _states_of_specs(session: icefusion.Session, mode: str, granularity: str, version: str) -> list[State]:
    """A table whose partition spec changes before each statement."""
    table, rows = make_table(session, mode, granularity, "")
    if version == "1":
        session.sql(f"DROP TABLE {table}")
        columns = f"({TABLE_COLUMNS}) PARTITIONED BY (month(at))"
        session.sql(f"CREATE TABLE {table} {columns} {properties(mode, granularity)[:-1]}, 'format-version' = '1')")
        session.writer(table).write_batches(table_of(rows.values()).to_batches())
        _remove("at_month")(session.catalog.load_table(table))  # which leaves a void transform
        more = some_rows(range(90, 100))
        session.writer(table).write_batches(table_of(more).to_batches())
        rows.update({row["id"]: row for row in more})
        with session.catalog.load_table(table).transaction() as transaction:
            transaction.upgrade_table_version(2)
    states = []
    for change, step in zip(SPECS, SCRIPT, strict=False):
        change(session.catalog.load_table(table))
        states.append(run(session, table, step, rows))
    return states


@pytest.mark.parametrize(
    ("mode", "granularity", "version"), [(*MODES[0], "1"), (*MODES[1], "1"), (*MODES[1], "2"), (*MODES[2], "2")]
)
def test_rows_under_several_partition_specs_are_changed(
    session: icefusion.Session, reader: Reader, mode: str, granularity: str, version: str
) -> None:
    check(reader, _states_of_specs(session, mode, granularity, version))


# Types


def _moved(table: pa.Table, by: int) -> list[dict[str, Any]]:
    """Rows with the values of others: those that so many places further on have."""
    rows = table.to_pylist()
    return [{**rows[(place + by) % len(rows)], "id": row["id"]} for place, row in enumerate(rows)]


@pytest.mark.parametrize(("mode", "granularity"), MODES)
def test_values_of_every_type_survive_changes(
    session: icefusion.Session, reader: Reader, mode: str, granularity: str
) -> None:
    cases = tuple(case for case in cases_for(reader.name) if reader.name not in case.nulls_lost)
    table = f"ns.types{next(numbers)}"
    create_with_icefusion(session, table, cases)
    first, second = arrow_table(cases), arrow_table(cases, first_id=100)
    for given in (first, second):
        session.writer(table).write_batches(given.to_batches())
    rows = {row["id"]: row for row in [*first.to_pylist(), *second.to_pylist()]}
    states = []

    def state(sql: str, **given: pa.Table) -> None:
        session.sql(sql.format(table=table), write_mode=mode, **given)
        expected = rows_of(pa.Table.from_pylist(list(rows.values()), first.schema))
        assert canonical_rows(fresh_rows(session, table), first.schema) == expected, sql
        states.append(State(sql, expected, location_of(session, table)))

    moved = pa.Table.from_pylist([row for row in _moved(first, 1) if row["id"] % 2], first.schema)
    rows.update({row["id"]: row for row in moved.to_pylist()})
    merge = "MERGE INTO {table} AS t USING given AS s ON t.id = s.id "
    state(merge + "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *", given=moved)
    names = [case.name for case in cases]
    moved = pa.Table.from_pylist(_moved(second, 3), first.schema)
    rows.update({row["id"]: row for row in moved.to_pylist() if row["id"] % 3 == 0})
    assignments = ", ".join(f"{name} = s.{name}" for name in names)
    state(f"UPDATE {{table}} AS t SET {assignments} FROM given AS s WHERE t.id = s.id AND t.id % 3 = 0", given=moved)
    for row_id in (0, 1, 5, 100, 103):
        del rows[row_id]
    state("DELETE FROM {table} USING given AS s WHERE {table}.id = s.id", given=pa.table({"id": [0, 1, 5, 100, 103]}))
    nulls = dict.fromkeys(names)
    rows[2] = {"id": 2, **nulls}
    state(f"UPDATE {{table}} SET {', '.join(f'{name} = NULL' for name in names)} WHERE id = 2")
    check(reader, states, first.schema)
