"""Sessions that take turns in one process, so that everything that can happen to them happens by a seed.

Theory of operation. Each actor runs on a thread of its own and has a session of its own, but only the one that holds
the baton runs. It may have to give it away at each *step*: before and after each file operation, each statement to the
catalog's database, each commit of it, each wait. Who goes on, and whether a fault strikes, is drawn from the seed, so
the same seed gives the same run. The lock that a SQLite file has for its writer is modelled here, because a real one
would block the thread that holds the baton.

What was asked for and what was answered is written down as a history. The checker in `ledger` judges it afterwards.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keyed
import pyarrow as pa
from fault_bench import POINTS_OF_NO_RETURN, Warehouse, kind_of_file
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy import Engine, event

import icefusion as ice
from icefusion.testing import FakeClock, FaultyIO, ScriptedCatalog

ROW = 1_000_000  # a row is this many times the rows that were counted, plus the number of the row
ACTORS = 3
WRITES_AN_ACTOR = 3
SWITCH_CHANCE = 0.25
FAULT_CHANCE = 0.012
LOST_REPLY_CHANCE = 0.15
TRIES = 3
FEW = ice.PoolConfig(min_connections=0)


@dataclass
class Write:
    """One write that was asked for, however often.

    Attributes:
        number: Of the write.
        rows: The numbers of the rows that it adds to each table.
        asked_at: The turn at which it was first asked for.
        answer: ``committed``, ``failed``, ``unknown`` or ``rolled back``.
        answered_at: The turn of its answer.
        counts: Whether its row tells how many rows there were before it.
        column: A column that it adds to the table `t`.
    """

    number: int
    rows: dict[str, list[int]]
    asked_at: int = 0
    answer: str = "open"
    answered_at: int = 0
    counts: bool = False
    column: str | None = None


@dataclass
class Read:
    """What a reader was shown of a table, twice in one transaction."""

    table: str
    began_at: int
    first: list[int]
    second: list[int]


@dataclass
class History:
    """All that was asked and answered.

    Attributes:
        made_anew_at: The turn at which the table `d` was last dropped, or tried to be.
        may_leave: Whether files may lie around at the end.
    """

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    changes: list[keyed.Change] = field(default_factory=list)
    keyed_reads: list[keyed.KeyedRead] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    made_anew_at: int = 0
    may_leave: bool = False
    log: list[str] = field(default_factory=list)


class Killed(SystemExit):
    """The process is gone: from here on nothing works."""


class StuckError(AssertionError):
    """Nobody can go on."""


class Actor:
    """One process, as it were: a session, and what it has to do."""

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.name = name
        self.simulation = simulation
        self.turn = threading.Event()
        self.steps = threading.Lock()  # several threads of one session may take steps
        self.waits_for_lock = False
        self.done = False
        self.killed: Killed | None = None
        self.in_doubt = False
        self.session = self._connect()

    def step(self, step: str) -> None:
        """Something is about to happen, or has just happened."""
        simulation = self.simulation
        if not simulation.running:
            return
        with self.steps:
            if self.killed is not None:
                raise self.killed
            simulation.maybe_switch(self)
            simulation.maybe_strike(self, step)

    def restart(self) -> None:
        """A new process takes over from one that was killed."""
        self.simulation.forget_locks(self)
        self.session.close()
        self.session.catalog.close()
        self.killed = None
        self.session = self._connect()

    def close(self) -> None:
        self.session.close()
        if isinstance(self.session.catalog, ScriptedCatalog):
            self.session.catalog._inner.close()

    def _connect(self) -> ice.Session:
        simulation = self.simulation
        if simulation.generic:
            inner = simulation.warehouse.server()
            catalog = ScriptedCatalog(inner)
            self._watch_storage(inner, server_side=True)
            catalog.before_commit = lambda: self.step("swap")
            catalog.after_commit = lambda: self.step("swapped")
            return ice.connect(catalog=catalog, threads=1, clock=simulation.clock_of(self))
        session = ice.connect(simulation.warehouse.folder, threads=1, pool=FEW, clock=simulation.clock_of(self))
        assert isinstance(session.catalog, SqlCatalog)
        self._watch_storage(session.catalog)
        self._watch_database(session.catalog.engine)
        return session

    def _watch_storage(self, catalog: SqlCatalog, *, server_side: bool = False) -> None:
        def told(step: str, path: str) -> None:
            kind = kind_of_file(path)
            if not (server_side and kind == "metadata.json"):
                self.step(f"{step} {kind}")

        FaultyIO.install(catalog, told)

    def _watch_database(self, engine: Engine) -> None:
        dialect, simulation = engine.dialect, self.simulation
        commit, rollback, close = dialect.do_commit, dialect.do_rollback, dialect.do_close

        def execute(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            verb = statement.split(maxsplit=1)[0]
            self.step(f"sql {verb}")
            if verb != "SELECT":
                simulation.take_lock(self, connection.connection.dbapi_connection)

        def do_commit(connection: Any) -> None:
            self.step("sql COMMIT")
            commit(connection)
            simulation.give_lock(connection)
            self.step("sql COMMITTED")

        def do_rollback(connection: Any) -> None:
            rollback(connection)
            simulation.give_lock(connection)

        def do_close(connection: Any) -> None:
            close(connection)
            simulation.give_lock(connection)

        event.listen(engine, "before_cursor_execute", execute)
        dialect.do_commit, dialect.do_rollback = do_commit, do_rollback  # type: ignore[method-assign]
        dialect.do_close = dialect.do_terminate = do_close  # type: ignore[method-assign]


class _Clock(FakeClock):
    """One time for all; a wait is a chance for the others."""

    def __init__(self, actor: Actor, seed: int) -> None:
        super().__init__(seed=seed)
        self._actor = actor

    def sleep_s(self, seconds: float) -> None:
        super().sleep_s(seconds)
        self._actor.step("sleep")


class Simulation:
    """One run: actors, turns, faults, and the history that comes of it."""

    def __init__(self, warehouse: Warehouse, seed: int) -> None:
        self.random = random.Random(seed)
        self.warehouse = warehouse
        self.generic = seed % 3 == 0
        # What goes on in the same tables is what can collide: a run is about rows that come, or about rows that change.
        self.changing = seed % 14 == 1
        self.running = False
        self.history = History()
        self.now = 0
        self._writes = 0
        self._lock_owner: tuple[Actor, int] | None = None
        warehouse.reset()
        self.actors = [Actor(f"actor-{n}", self) for n in range(ACTORS)]

    def run(self) -> History:
        """Let all actors do their work, and return what came of it."""
        threads = [threading.Thread(target=self._act, args=(actor,), name=actor.name) for actor in self.actors]
        for thread in threads:
            thread.start()
        self.running = True
        self.random.choice(self.actors).turn.set()
        for thread in threads:
            thread.join(20)
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if stuck:
            for actor in self.actors:
                actor.killed = Killed("stuck")  # or they would disturb the next run
                actor.turn.set()
            raise StuckError(f"{', '.join(stuck)} did not come to an end; {self.history.log[-20:]}")
        self.running = False
        for actor in self.actors:
            actor.close()
        return self.history

    def _act(self, actor: Actor) -> None:
        actor.turn.wait()
        actor.turn.clear()
        try:
            for _ in range(WRITES_AN_ACTOR):
                self._do_something(actor)
        except BaseException as exc:
            self.history.errors.append(exc)
        finally:
            actor.done = True
            self._hand_over(self._others(actor))

    # Turns

    def maybe_switch(self, actor: Actor) -> None:
        """Perhaps let somebody else go on; returns when it is this actor's turn again."""
        self.now += 1
        if self.random.random() < SWITCH_CHANCE:
            self._pass_baton(actor, [actor, *self._others(actor)])

    def _pass_baton(self, actor: Actor, candidates: list[Actor]) -> None:
        if self._hand_over(candidates) is actor:
            actor.turn.clear()
            return
        actor.turn.wait()
        actor.turn.clear()

    def _hand_over(self, candidates: list[Actor]) -> Actor | None:
        if not candidates:
            return None
        chosen = self.random.choice(candidates)
        chosen.turn.set()
        return chosen

    def _others(self, actor: Actor) -> list[Actor]:
        return [a for a in self.actors if a is not actor and not a.done and not self._must_wait(a)]

    def _must_wait(self, actor: Actor) -> bool:
        return actor.waits_for_lock and self._lock_owner is not None and self._lock_owner[0] is not actor

    # The lock of the database file

    def take_lock(self, actor: Actor, connection: object) -> None:
        """Wait until nobody else writes to the database."""
        if not self.running:
            return
        actor.waits_for_lock = True
        while self._must_wait(actor):
            others = self._others(actor)
            if not others:
                raise StuckError(f"{actor.name} waits for a lock that nobody will give back")
            self._pass_baton(actor, others)
        actor.waits_for_lock = False
        self._lock_owner = (actor, id(connection))

    def give_lock(self, connection: object) -> None:
        """A connection's transaction is over."""
        inner = getattr(connection, "dbapi_connection", connection)
        if self._lock_owner is not None and self._lock_owner[1] == id(inner):
            self._lock_owner = None

    def forget_locks(self, actor: Actor) -> None:
        """A process is gone, and its connections with it."""
        if self._lock_owner is not None and self._lock_owner[0] is actor:
            self._lock_owner = None

    # Faults

    def maybe_strike(self, actor: Actor, step: str) -> None:
        """Perhaps something goes wrong here."""
        final = step in POINTS_OF_NO_RETURN
        if step.startswith(("delete", "deleted")) or step == "sleep":
            return
        if self.random.random() >= (LOST_REPLY_CHANCE if final else FAULT_CHANCE):
            return
        kinds = ["error", "error", "reset", "interrupt", "kill"]
        if step in ("swap", "swapped"):
            kinds += ["conflict"] * 3
        kind = self.random.choice(kinds)
        self.history.log.append(f"{self.now} {actor.name} {kind} at {step}")
        actor.in_doubt |= final
        match kind:
            case "error" if step.startswith("sql "):
                raise sqlite3.OperationalError("disk I/O error")
            case "error":
                raise OSError(5, f"fault at {step}")
            case "reset":
                raise ConnectionResetError(f"fault at {step}")
            case "conflict":
                raise CommitFailedException(f"fault at {step}")
            case "interrupt":
                # What an earlier attempt may have landed is kept, too.
                self.history.may_leave |= actor.in_doubt
                raise KeyboardInterrupt(f"fault at {step}")
        self.history.may_leave = True
        actor.killed = Killed(f"killed at {step}")
        raise actor.killed

    def clock_of(self, actor: Actor) -> FakeClock:
        """A clock for one session."""
        return _Clock(actor, self.random.randrange(2**32))

    # Work

    def _do_something(self, actor: Actor) -> None:
        doings = [
            doing
            for doing in DOINGS
            if (doing.on_generic or not self.generic) and doing.changing in (None, self.changing)
        ]
        (chosen,) = self.random.choices(doings, [doing.weight for doing in doings])
        chosen.do(self, actor)

    def _write(self, tables: tuple[str, ...], rows: int, *, counts: bool = False) -> Write:
        self._writes += 1
        first = self._writes * 100
        added = {table: list(range(first + 10 * n, first + 10 * n + rows)) for n, table in enumerate(tables)}
        write = Write(self._writes, added, asked_at=self.now, counts=counts)
        self.history.writes.append(write)
        return write

    def _append(self, actor: Actor) -> None:
        table = self.random.choice(("t", "t", "u"))
        write = self._write((table,), self.random.randint(1, 3))
        batch = _batch(write.rows[table])
        self._ask(actor, write, lambda: actor.session.writer(f"ns.{table}").write_batch(batch))

    def _append_to_fleeting(self, actor: Actor) -> None:
        write = self._write(("d",), 2)
        self._ask(actor, write, lambda: actor.session.writer("ns.d").write_batch(_batch(write.rows["d"])))

    def _make_anew(self, actor: Actor) -> None:
        self._ask(actor, Write(0, {}), lambda: actor.session.sql("DROP TABLE IF EXISTS ns.d"))
        self._ask(actor, Write(0, {}), lambda: actor.session.sql("CREATE TABLE IF NOT EXISTS ns.d (id BIGINT)"))
        self.history.made_anew_at = self.now

    def _append_keyed(self, actor: Actor) -> None:
        table = self.random.choice(("t", "t", "u"))
        write = self._write((table,), self.random.randint(1, 3))
        batch, key = _batch(write.rows[table]), f"key-{write.number}"
        for _ in range(TRIES):
            ask = lambda: actor.session.writer(f"ns.{table}").write_batch(batch, idempotency_key=key)  # noqa: E731
            self._ask(actor, write, ask)
            if write.answer == "committed":
                break

    def _count(self, actor: Actor) -> None:
        write = self._write(("t",), 1, counts=True)
        sql = f"INSERT INTO ns.t (id) SELECT count(*) * {ROW} + {write.rows['t'][0]} FROM ns.t"
        self._ask(actor, write, lambda: actor.session.run(lambda tx: tx.sql(sql)))

    def _two_tables(self, actor: Actor) -> None:
        write = self._write(("t", "u"), 1)
        key = f"key-{write.number}" if self.random.random() < 0.5 else None

        def ask() -> None:
            with actor.session.transaction(isolation="snapshot", idempotency_key=key) as tx:
                for table, (row,) in write.rows.items():
                    tx.sql(f"INSERT INTO ns.{table} (id) VALUES ({row})")

        for _ in range(TRIES if key else 1):
            self._ask(actor, write, ask)
            if write.answer == "committed":
                break

    def _alter(self, actor: Actor) -> None:
        """Add a column, alone or together with a row in it."""
        write = self._write(("t",), self.random.randint(0, 1))
        write.column = f"c{write.number}"

        def ask() -> None:
            if not write.rows["t"]:
                actor.session.sql(f"ALTER TABLE ns.t ADD COLUMN {write.column} INT")
                return
            with actor.session.transaction(isolation="snapshot") as tx:
                tx.sql(f"ALTER TABLE ns.t ADD COLUMN {write.column} INT")
                tx.sql(f"INSERT INTO ns.t (id, {write.column}) VALUES ({write.rows['t'][0]}, 1)")

        self._ask(actor, write, ask)

    def _writer_transaction(self, actor: Actor) -> None:
        write = self._write(("t",), 2)
        roll_back = self.random.random() < 0.5

        def ask() -> None:
            writer = actor.session.writer("ns.t")
            txn = writer.begin_transaction()
            try:
                for row in write.rows["t"]:
                    writer.write_batch(_batch([row]))
            except BaseException:
                writer.rollback_transaction(txn)
                raise
            if roll_back:
                writer.rollback_transaction(txn)
            else:
                writer.commit_transaction(txn)

        self._ask(actor, write, ask)
        if roll_back and write.answer in ("committed", "unknown"):
            write.answer = "rolled back"

    def _read(self, actor: Actor) -> None:
        table = self.random.choice(("t", "u"))
        began_at = self.now
        shown: list[list[int]] = []

        def ask() -> None:
            with actor.session.transaction():
                for _ in range(2):
                    shown.append([row % ROW for (row,) in actor.session.sql(f"SELECT id FROM ns.{table}")])

        self._ask(actor, Write(0, {}), ask)
        if len(shown) == 2:
            self.history.reads.append(Read(table, began_at, *shown))

    def _change(self, actor: Actor) -> None:
        self._writes += 1
        change = keyed.draw(self._writes, self.random, several=not self.generic)
        change.asked_at = self.now
        self.history.changes.append(change)

        def ask() -> None:
            if change.alone:
                ((text, mode),) = change.texts
                actor.session.sql(text, write_mode=mode, idempotency_key=change.key)
                return
            with actor.session.transaction(change.isolation, idempotency_key=change.key):
                for text, mode in change.texts:
                    actor.session.sql(text, write_mode=mode)

        for _ in range(TRIES):
            self._ask(actor, change, ask)
            if change.answer != "unknown":
                break

    def _read_keys(self, actor: Actor) -> None:
        table = self.random.choice("kl")
        began_at = self.now
        shown: list[list[keyed.Row]] = []

        def ask() -> None:
            with actor.session.transaction():
                for _ in range(2):
                    shown.append([(key, value) for key, value in actor.session.sql(f"SELECT id, v FROM ns.{table}")])

        self._ask(actor, Write(0, {}), ask)
        if len(shown) == 2:
            self.history.keyed_reads.append(keyed.KeyedRead(table, began_at, *shown))

    def _ask(self, actor: Actor, write: Write | keyed.Change, ask: Callable[[], object]) -> None:
        """Have it done, and write down what was answered; once unknown, only "committed" makes it known again."""
        unknown_before = write.answer == "unknown"
        actor.in_doubt = False
        try:
            ask()
            write.answer = "committed"
        except ice.CommitStateUnknownError:
            self.history.may_leave = True
            write.answer = "unknown"
        except ice.IcefusionError:
            write.answer = "unknown" if unknown_before else "failed"
        except (KeyboardInterrupt, SystemExit):
            write.answer = "unknown"
        write.answered_at = self.now
        self.history.log.append(f"{self.now} {actor.name} write {write.number} {write.rows}: {write.answer}")
        if actor.killed is not None:
            actor.restart()


@dataclass(frozen=True)
class Doing:
    """A kind of thing that an actor does.

    Attributes:
        do: Does it once: asks for it by `Simulation._ask`, which writes down a `Write` (or a `Read`) for the checker.
        weight: How often, compared to the others.
        on_generic: Whether catalogs that move one table at a time do it too.
        changing: Whether it is done in runs about rows that change, or in the others; None for both.
    """

    do: Callable[[Simulation, Actor], None]
    weight: int = 1
    on_generic: bool = True
    changing: bool | None = False


# Whatever else is to be simulated is added here, with a method above that does it.
DOINGS = (
    Doing(Simulation._append, weight=5),
    Doing(Simulation._append_keyed, weight=4),
    Doing(Simulation._count),
    Doing(Simulation._read),
    Doing(Simulation._writer_transaction),
    Doing(Simulation._append_to_fleeting),
    Doing(Simulation._make_anew),
    Doing(Simulation._alter, weight=2),
    Doing(Simulation._two_tables, weight=2, on_generic=False),
    Doing(Simulation._change, weight=8, changing=True),
    Doing(Simulation._read_keys, changing=True),
)


def _batch(ids: list[int]) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64())})
