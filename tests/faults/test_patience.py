"""A catalog that is away for a while: how long a commit waits for it, and what it says then."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
import requests
from fault_bench import Warehouse
from pyiceberg import exceptions as foreign
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy import exc as sqlalchemy_errors

import icefusion as ice
from icefusion.commit.retry import Attempts, cannot_be_reached
from icefusion.commit.translate import translate
from icefusion.testing import FakeClock, ScriptedCatalog

TOTAL_S = 120
RESTART_S = 10


@pytest.fixture(scope="module")
def made() -> Iterator[Warehouse]:
    made = Warehouse(lambda session: session.sql("CREATE TABLE ns.t (id BIGINT)"))
    yield made
    made.remove()


@pytest.fixture
def warehouse(made) -> Warehouse:
    made.reset()
    return made


class Bench:
    """A session on a catalog that moves one table at a time, which follows a script and may be away."""

    def __init__(self, warehouse: Warehouse, *script: str, retry: ice.RetryConfig | None = None) -> None:
        self.warehouse = warehouse
        self.inner = warehouse.outside()
        self.catalog = ScriptedCatalog(self.inner, script)  # type: ignore[arg-type]
        self.clock = FakeClock()
        self.session = ice.connect(catalog=self.catalog, threads=1, clock=self.clock, retry=retry)
        self.back_at_s = 0.0
        self.catalog.before_load = self.look

    def look(self) -> None:
        if self.clock.monotonic_s() < self.back_at_s:
            raise ConnectionRefusedError("nobody listens")

    def away_after_commit(self, seconds: float) -> None:
        def leave() -> None:
            self.back_at_s = self.clock.monotonic_s() + seconds

        self.catalog.after_commit = leave

    def write(self) -> ice.Result:
        return self.session.writer("ns.t").write_batch(pa.record_batch({"id": [7]}))

    @property
    def rows(self) -> list[int]:
        return self.warehouse.look().rows["t"]

    @property
    def leftovers(self) -> set[str]:
        return {path for path in self.warehouse.look().leftovers if not path.endswith(".metadata.json")}

    def close(self) -> None:
        self.session.close()
        self.inner.close()


@pytest.fixture
def bench(warehouse) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def make(*script: str, **options) -> Bench:
        opened.append(Bench(warehouse, *script, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_a_catalog_that_does_not_answer_is_asked_more_often_than_races_are_run(bench) -> None:
    b = bench(*["unreachable"] * 9)
    result = b.write()
    assert result.report.commits[0].attempts == 10
    assert b.rows == [7]
    assert not b.leftovers


@pytest.mark.parametrize("retry", [None, ice.RetryConfig(max_attempts=1), ice.RetryConfig(initial_delay_ms=0)])
def test_a_restart_is_outlived(bench, retry) -> None:
    b = bench(retry=retry)
    b.catalog.before_commit = b.look
    b.session.sql("SELECT * FROM ns.t")
    writer = b.session.writer("ns.t")
    txn = writer.begin_transaction()
    writer.write_batch(pa.record_batch({"id": [7]}))
    b.back_at_s = b.clock.monotonic_s() + RESTART_S
    writer.commit_transaction(txn)
    assert RESTART_S <= b.clock.monotonic_s() <= RESTART_S + 6
    assert b.rows == [7]
    assert not b.leftovers


def test_a_lost_reply_of_a_catalog_that_is_away_for_a_while_is_found(bench) -> None:
    b = bench("lost_reply")
    b.away_after_commit(RESTART_S)
    result = b.write()
    assert b.catalog.commits == 1
    assert b.rows == [7]
    assert result.snapshot_id == b.inner.load_table("ns.t").metadata.current_snapshot_id
    assert not b.leftovers


def test_a_lost_reply_of_a_catalog_that_stays_away_is_unknown_when_the_time_is_over(bench) -> None:
    b = bench("lost_reply")
    b.away_after_commit(1e9)
    with pytest.raises(ice.CommitStateUnknownError) as caught:
        b.write()
    assert b.clock.monotonic_s() == pytest.approx(TOTAL_S)
    assert caught.value.snapshot_id == b.inner.load_table("ns.t").metadata.current_snapshot_id
    assert b.rows == [7]


def test_a_catalog_that_stays_away_before_anything_was_sent_means_that_nothing_landed(bench) -> None:
    b = bench()

    def leave() -> None:
        b.back_at_s = 1e9

    b.session._committer._groups.run = _before(leave, b.session._committer._groups.run)
    with pytest.raises(ice.CommitFailedError, match="nobody listens"):
        b.write()
    assert b.clock.monotonic_s() == pytest.approx(TOTAL_S)
    assert b.rows == []
    assert not b.leftovers


def _before(first: Callable[[], None], then: Callable[..., None]) -> Callable[..., None]:
    def both(*arguments) -> None:
        first()
        then(*arguments)

    return both


def test_lost_races_count_and_attempts_that_found_nobody_do_not(bench) -> None:
    script = ["conflict", "unreachable", "unreachable"] * 3
    b = bench(*script)
    assert b.write().report.commits[0].attempts == 10
    assert b.rows == [7]
    b = bench(*script, "conflict")
    with pytest.raises(ice.CommitStateUnknownError):  # one that did not arrive may be on its way still
        b.write()
    assert b.catalog.commits == 10
    assert b.rows == [7]


def test_the_last_look_waits_for_the_catalog(bench) -> None:
    """A server's own second try can answer "conflict" to what its first one landed."""
    b = bench(retry=ice.RetryConfig(max_attempts=1))

    def conflict() -> None:
        b.back_at_s = b.clock.monotonic_s() + RESTART_S
        raise CommitFailedException("somebody else was faster")

    b.catalog.after_commit = conflict
    assert b.write().report.commits[0].attempts == 1
    assert b.clock.monotonic_s() >= RESTART_S
    assert b.rows == [7]


def test_the_time_out_is_kept_by_the_waits(bench) -> None:
    retry = ice.RetryConfig(total_timeout_ms=3_000, max_delay_ms=400)
    b = bench(*["unreachable"] * 10_000, retry=retry)
    with pytest.raises(ice.CommitStateUnknownError):
        b.write()
    assert sum(b.clock.slept_s) == pytest.approx(3)
    assert max(b.clock.slept_s) <= 0.4
    assert b.catalog.commits > 10


def test_an_interrupt_ends_the_wait(bench) -> None:
    b = bench(*["unreachable"] * 10_000)
    b.clock.sleep_s = _interrupted_at(5)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        b.write()
    assert b.catalog.commits == 5
    assert b.rows == []
    kept = b.leftovers
    assert any(path.endswith(".parquet") for path in kept), "a request that did not arrive may be on its way still"


def test_an_interrupt_before_anything_was_sent_cleans_up(bench) -> None:
    b = bench()
    b.session._committer._groups.run = _before(lambda: setattr(b, "back_at_s", 1e9), b.session._committer._groups.run)
    b.clock.sleep_s = _interrupted_at(3)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        b.write()
    assert b.rows == []
    assert not b.leftovers


def _interrupted_at(number: int) -> Callable[[float], None]:
    waits = itertools.count(1)

    def sleep(_seconds: float) -> None:
        if next(waits) == number:
            raise KeyboardInterrupt

    return sleep


def test_whoever_is_interrupted_while_another_thread_commits_for_him_is_left_out(bench) -> None:
    """The leader of a group waits for the catalog, and a member goes away meanwhile; then the catalog is back."""
    b = bench()
    held, go_on, asleep = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def hold() -> None:
        if not held.is_set():
            held.set()
            assert go_on.wait(20)
            b.back_at_s = 1e9

    def wait_for_member(_seconds: float) -> None:
        asleep.set()
        _until(lambda: bool(raised))
        b.back_at_s = 0

    def interrupted() -> None:
        assert asleep.wait(20)
        raise KeyboardInterrupt

    def write(row: int) -> None:
        try:
            b.session.writer("ns.t").write_batch(pa.record_batch({"id": [row]}))
        except KeyboardInterrupt as exc:
            raised.append(exc)

    b.catalog.before_commit = hold
    threads = [threading.Thread(target=write, args=(row,)) for row in range(3)]
    threads[0].start()
    assert held.wait(20)
    (queue,) = b.session._committer._groups._queues.values()
    for waiting, thread in enumerate(threads[1:], start=1):
        thread.start()
        _until(lambda waiting=waiting: len(queue.waiting) == waiting)
    # The two that wait become a group: one leads, and the other one waits once more.
    queue.changed.wait = interrupted
    b.clock.sleep_s = wait_for_member  # type: ignore[method-assign]
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(raised) == 1
    assert len(b.rows) == 2
    assert not b.warehouse.look().missing
    data = {path for path in b.leftovers if path.endswith(".parquet")}
    assert len(data) == 1, "the member cannot know yet, so it keeps its file"
    assert b.leftovers == data


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_locked_database_is_waited_for(warehouse) -> None:
    holder = sqlite3.connect(warehouse.folder / "catalog.db", isolation_level=None)
    clock = FakeClock()
    tries = itertools.count(1)

    def sleep(_seconds: float) -> None:
        if next(tries) == 8:
            holder.execute("ROLLBACK")

    clock.sleep_s = sleep  # type: ignore[method-assign]
    pool = ice.PoolConfig(connect_timeout_ms=1)
    with ice.connect(warehouse.folder, threads=1, clock=clock, pool=pool) as session:
        writer = session.writer("ns.t")
        holder.execute("BEGIN IMMEDIATE")
        writer.write_batch(pa.record_batch({"id": [7]}))
    holder.close()
    assert next(tries) == 9
    seen = warehouse.look()
    assert seen.rows["t"] == [7]
    assert not seen.leftovers


# What counts as being away


def of_sqlite(code: int, text: str = "") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def of_driver(module: str, kind: str, *args: object, **attributes: object) -> Exception:
    """An error of a driver that need not be installed."""
    return type(kind, (Exception,), {"__module__": module, **attributes})(*args)


def of_postgres(state: str | None) -> Exception:
    return of_driver("psycopg.errors", "OperationalError", "as the server said", sqlstate=state)


def of_mariadb(code: int, kind: str = "OperationalError") -> Exception:
    return of_driver("pymysql.err", kind, code, "as the server said")


def by_sqlalchemy(error: Exception, *, invalidated: bool = False) -> Exception:
    return sqlalchemy_errors.OperationalError("UPDATE", {}, error, connection_invalidated=invalidated)


AWAY = {
    "refused": ConnectionRefusedError(),
    "reset": ConnectionResetError(),
    "time_out": TimeoutError(),
    "http_connection": requests.ConnectionError(),
    "http_time_out": requests.ReadTimeout(),
    "http_500": foreign.ServerError(),
    "http_503": foreign.ServiceUnavailableError(),
    "http_504": foreign.CommitStateUnknownException(),
    "sqlite_locked": sqlite3.OperationalError("database is locked"),
    "sqlite_busy": by_sqlalchemy(of_sqlite(sqlite3.SQLITE_BUSY)),
    "sqlite_busy_snapshot": by_sqlalchemy(of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT)),
    "postgres_gone": by_sqlalchemy(of_postgres(None)),
    "postgres_starting": by_sqlalchemy(of_postgres("57P03")),
    "postgres_shut_down": by_sqlalchemy(of_postgres("57P01")),
    "mariadb_gone": by_sqlalchemy(of_mariadb(2003)),
    "mariadb_closed": by_sqlalchemy(of_mariadb(0, "InterfaceError")),
    "invalidated": by_sqlalchemy(ValueError(), invalidated=True),
    "pool": sqlalchemy_errors.TimeoutError(),
    "botocore": type("EndpointConnectionError", (type("HTTPClientError", (Exception,), {}),), {})(),
}
NOT_AWAY = {
    "none": None,
    "conflict": foreign.CommitFailedException(),
    "refused": foreign.BadRequestError(),
    "forbidden": foreign.ForbiddenError(),
    "no_table": foreign.NoSuchTableError(),
    "certificate": requests.exceptions.SSLError(),
    "disk": OSError(5, "disk"),
    "sqlite_disk": by_sqlalchemy(sqlite3.OperationalError("disk I/O error")),
    "sqlite_read_only": by_sqlalchemy(of_sqlite(sqlite3.SQLITE_READONLY)),
    "postgres_deadlock": by_sqlalchemy(of_postgres("40P01")),
    "postgres_no_lock": by_sqlalchemy(of_postgres("55P03")),
    "mariadb_deadlock": by_sqlalchemy(of_mariadb(1213)),
    "mariadb_password": by_sqlalchemy(of_mariadb(1045)),
    "ours": ValueError(),
}


@pytest.mark.parametrize("name", AWAY)
def test_what_says_that_a_catalog_is_away(name) -> None:
    assert cannot_be_reached(AWAY[name])
    ours = translate(AWAY[name], "table t")
    ours.__cause__ = AWAY[name]
    assert cannot_be_reached(ours)


@pytest.mark.parametrize("name", NOT_AWAY)
def test_what_says_something_else(name) -> None:
    assert not cannot_be_reached(NOT_AWAY[name])


def test_a_race_after_a_long_absence_waits_as_the_first_one_does() -> None:
    clock = FakeClock()
    attempts = Attempts(ice.RetryConfig(jitter="none"), clock)
    for away in (True, True, True, False, True):
        attempts.start()
        attempts.failed("so", away=away)
        assert attempts.wait()
    assert clock.slept_s == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.1])
