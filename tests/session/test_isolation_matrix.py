"""The matrix in docs/transactions.md, tried cell by cell: what comes of two changes at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, product

import outcome_matrix as om
import pytest

import icefusion as ice

MODES = ("copy-on-write", "merge-on-read")
LEVELS = ("serializable", "snapshot")
CELLS = om.cells()
ONCE = ice.RetryConfig(max_attempts=1)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory) -> Iterator[tuple[ice.Session, ice.Session]]:
    folder = tmp_path_factory.mktemp("matrix") / "warehouse"
    with ice.connect(folder, threads=1, retry=ONCE) as first, ice.connect(folder, threads=1) as second:
        first.sql("CREATE NAMESPACE ns")
        yield first, second


@pytest.fixture(scope="module")
def make_table(sessions) -> Callable[[str, str], str]:
    """Makes a table of a trial: one more name for the metadata that was once made."""
    session, _ = sessions
    made: dict[tuple[str, str], str] = {}
    numbers = count()

    def make(isolation: str, mode: str) -> str:
        if (isolation, mode) not in made:
            made[isolation, mode] = om.prepare(session, f"ns.base{len(made)}", isolation, mode)
        name = f"ns.t{next(numbers)}"
        session.catalog.register_table(name, made[isolation, mode])
        return name

    return make


@pytest.fixture
def between(sessions, monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Has something done once the next single statement of the first session has run, right before its commit."""
    session, _ = sessions
    waiting: list[Callable[[], object]] = []
    real = session._changes.run

    def run(*arguments):
        result = real(*arguments)
        while waiting:
            waiting.pop()()
        return result

    monkeypatch.setattr(session._changes, "run", run)
    return waiting.append


def rows_of(session: ice.Session, table: str) -> Counter[om.Row]:
    return Counter(session.sql(f"SELECT id, p, v FROM {table}").fetchall())


def check(error: ice.CommitConflictError | None, expected: bool, a: om.Step, b: om.Step, rows, isolation: str) -> None:
    if error is None:
        assert not expected, f"committed: {a.sql} | {b.sql}"
        assert rows == om.after_both(a, b)
        assert isolation == "snapshot" or rows in om.in_some_order(a, b)
        return
    assert expected, f"{error}: {a.sql} | {b.sql}"
    assert rows == Counter(b.effect(om.BEFORE))


def check_told(error: ice.CommitConflictError, head, b: om.Step) -> None:
    """It says which snapshot, which operation, and which file or filter."""
    assert error.conflicting_snapshot_id == head.snapshot_id
    assert f"snapshot {head.snapshot_id} ({head.summary.operation.value})" in str(error)
    assert ".parquet" in str(error)
    assert any(word in str(error) for word in ("depends on", "replaces it", "deletes rows of it", "changes"))


def test_the_matrix_is_whole() -> None:
    assert {name for name, _ in CELLS} == set(om.FIRST)
    for (name, column), cell in CELLS.items():
        assert cell in om.CELLS if om.seconds(column, om.FIRST[name]) else cell == "-"


@pytest.mark.parametrize(("name", "column"), [key for key, cell in CELLS.items() if cell != "-"])
def test_two_changes(sessions, make_table, between, name, column) -> None:
    session, other = sessions
    first = om.FIRST[name]
    cell = CELLS[name, column]
    second = om.seconds(column, first)
    for number, (isolation, (turn, mode), (place, b)) in enumerate(
        product(LEVELS, enumerate(MODES), enumerate(second))
    ):
        if cell != "other rows" and len(second) > 1 and (place + turn) % 2:
            continue  # the mode makes no difference to what is expected; each is tried with half of them
        expected = om.expects_conflict(cell, isolation, mode)
        table = make_table(isolation, mode)
        # INSERT has no property for its isolation: alone it goes under snapshot.
        alone = number % 3 == 0 and not name.startswith("`INSERT ...")
        error = None
        try:
            if alone:
                between(lambda b=b, table=table: om.run(other, b, table))
                om.run(session, first.step, table)
            else:
                with session.transaction(isolation):
                    om.run(session, first.step, table)
                    om.run(other, b, table)
        except ice.CommitConflictError as exc:
            error = exc
            check_told(exc, session.catalog.load_table(table).metadata.current_snapshot(), b)
        check(error, expected, first.step, b, rows_of(other, table), isolation)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name in om.FIRST if not name.startswith("`INSERT ...")])
def test_a_statement_alone_is_run_again(sessions, make_table, between, monkeypatch, name, mode) -> None:
    session, other = sessions
    monkeypatch.setattr(session, "_retry", ice.RetryConfig(max_delay_ms=1))
    first = om.FIRST[name]
    for b in (om.seconds(0, first)[0], *om.seconds(2, first), *om.seconds(5, first)):
        table = make_table("serializable", mode)
        between(lambda b=b, table=table: om.run(other, b, table))
        om.run(session, first.step, table)
        assert rows_of(other, table) == Counter(first.step.effect(b.effect(om.BEFORE)))
