"""A fault at each step of each kind of write: what is answered, what others see, what lies on the disk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import pyarrow as pa
import pytest
from fault_bench import INTERRUPTS, POINTS_OF_NO_RETURN, Faults, Warehouse

import icefusion as ice

STEPS_MAX = 200


def batch(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


@dataclass(frozen=True)
class Write:
    """One call, and what it does to which tables.

    Attributes:
        run: The call.
        adds: The ids that it adds to each table.
        keyed: Whether it carries an idempotency key.
        raced: Whether somebody else commits 99 to the first table while the first attempt is under way.
        takes: Which ids it removes from the first table.
        columns: The columns of tables that it alters.
        drops: A table that is gone afterwards.
        makes: A namespace that is there afterwards, with its properties, and a property of the one with the tables.
    """

    run: Callable[[ice.Session], object]
    adds: dict[str, list[int]]
    keyed: bool = False
    raced: bool = False
    takes: Callable[[int], bool] = lambda _: False
    columns: dict[str, list[str]] = field(default_factory=dict)
    drops: str | None = None
    makes: bool = False

    @property
    def table(self) -> str:
        """The first table."""
        return next(iter(self.adds))

    def after(self, table: str, before: Sequence[int]) -> Counter[int]:
        """The ids in a table once it has landed."""
        takes = self.takes if table == self.table else (lambda _: False)
        return Counter([row for row in before if not takes(row)]) + Counter(self.adds[table])


def transaction(session: ice.Session, key: str | None) -> None:
    with session.transaction(idempotency_key=key) as tx:
        tx.sql("INSERT INTO ns.t VALUES (7)")
        tx.sql("INSERT INTO ns.u SELECT id + 1 FROM ns.t WHERE id = 7")


def writer_transaction(session: ice.Session) -> None:
    writer = session.writer("ns.t")
    txn = writer.begin_transaction(idempotency_key="k")
    try:
        writer.write_batch(batch(7))
        writer.write_batches([batch(8)])
    except BaseException:
        writer.rollback_transaction(txn)
        raise
    writer.commit_transaction(txn)


def rolled_back(session: ice.Session) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (7)")
        tx.sql("INSERT INTO ns.t VALUES (8)")
        tx.rollback()


def change(text: str, mode: str, key: str | None = None) -> Callable[[ice.Session], object]:
    return lambda session: session.sql(text, write_mode=mode, idempotency_key=key)


def changes(session: ice.Session) -> None:
    """Several changes in both modes, one of which throws away what an earlier one has staged."""
    with session.transaction(idempotency_key="k") as tx:
        session.sql("DELETE FROM ns.k WHERE id = 1", write_mode="merge-on-read")
        tx.sql("INSERT INTO ns.k VALUES (7)")
        session.sql("UPDATE ns.k SET id = id + 100 WHERE id IN (2, 7)", write_mode="copy-on-write")
        session.sql("UPDATE ns.k SET id = id + 100 WHERE id IN (4, 107)", write_mode="merge-on-read")
        tx.sql("INSERT INTO ns.u SELECT max(id) FROM ns.k")


def changes_rolled_back(session: ice.Session) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.k VALUES (7)")
        session.sql("UPDATE ns.k SET id = id + 100", write_mode="copy-on-write")
        session.sql("DELETE FROM ns.k WHERE id > 105", write_mode="merge-on-read")
        tx.rollback()


def definitions(session: ice.Session) -> None:
    """Tables are altered, made and dropped together with rows."""
    with session.transaction(idempotency_key="k") as tx:
        tx.sql("ALTER TABLE ns.t ADD COLUMN IF NOT EXISTS more INT")
        tx.sql("INSERT INTO ns.t VALUES (7, 70)")
        tx.sql("CREATE TABLE ns.c AS SELECT id + 1 AS id FROM ns.t WHERE more = 70")
        tx.sql("DROP TABLE IF EXISTS ns.u")


UPDATE = "UPDATE ns.k SET id = id + 100 WHERE id IN (1, 4)"
DELETE = "DELETE FROM ns.k WHERE id IN (1, 4)"
MERGE = (
    "MERGE INTO ns.k AS t USING (SELECT * FROM (VALUES (1, 101), (2, 102), (7, 7)) AS x (id, new)) AS s ON t.id = s.id "
    "WHEN MATCHED AND s.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET id = s.new "
    "WHEN NOT MATCHED THEN INSERT (id) VALUES (s.new)"
)
OVERWRITE = "INSERT OVERWRITE ns.k VALUES (7)"

CHANGES = {
    "delete_on_read": Write(change(DELETE, "merge-on-read"), {"k": []}, takes=lambda row: row in (1, 4)),
    "delete_file": Write(
        change("DELETE FROM ns.k WHERE id > 3", "merge-on-read"), {"k": []}, takes=lambda row: row > 3
    ),
    "delete_again": Write(
        change("DELETE FROM ns.d WHERE id = 3", "copy-on-write"), {"d": []}, takes=lambda row: row == 3
    ),
    "update": Write(change(UPDATE, "copy-on-write"), {"k": [101, 104]}, takes=lambda row: row in (1, 4)),
    "update_on_read": Write(change(UPDATE, "merge-on-read"), {"k": [101, 104]}, takes=lambda row: row in (1, 4)),
    "merge_raced": Write(
        change(MERGE, "copy-on-write", "k"), {"k": [7, 101]}, keyed=True, raced=True, takes=lambda row: row in (1, 2)
    ),
    "merge_on_read_raced": Write(
        change(MERGE, "merge-on-read", "k"), {"k": [7, 101]}, keyed=True, raced=True, takes=lambda row: row in (1, 2)
    ),
    # The rival's row is one of those that are replaced, so this is run again from the start.
    "overwrite_raced": Write(
        change(OVERWRITE, "copy-on-write", "k"), {"k": [7]}, keyed=True, raced=True, takes=lambda _: True
    ),
    "changes": Write(changes, {"k": [102, 104, 207], "u": [207]}, keyed=True, takes=lambda row: row in (1, 2, 4)),
    "changes_rolled_back": Write(changes_rolled_back, {}),
}

WRITES = {
    "append": Write(lambda s: s.writer("ns.t").write_batch(batch(7, 8)), {"t": [7, 8]}),
    "insert": Write(lambda s: s.sql("INSERT INTO ns.t VALUES (7)"), {"t": [7]}),
    "insert_select": Write(lambda s: s.sql("INSERT INTO ns.t SELECT id + 10 FROM ns.t"), {"t": [11]}),
    "keyed": Write(lambda s: s.writer("ns.t").write_batch(batch(7), idempotency_key="k"), {"t": [7]}, keyed=True),
    "raced": Write(
        lambda s: s.writer("ns.t").write_batch(batch(7), idempotency_key="k"), {"t": [7]}, keyed=True, raced=True
    ),
    "merging": Write(lambda s: s.writer("ns.m").write_batch(batch(7)), {"m": [7]}),
    "version_1": Write(lambda s: s.writer("ns.v1").write_batch(batch(7)), {"v1": [7]}),
    "partitioned": Write(lambda s: s.writer("ns.p").write_batch(batch(7, 8)), {"p": [7, 8]}),
    "two_tables": Write(lambda s: transaction(s, None), {"t": [7], "u": [8]}),
    "two_tables_keyed": Write(lambda s: transaction(s, "k"), {"t": [7], "u": [8]}, keyed=True),
    "writer_transaction": Write(writer_transaction, {"t": [7, 8]}, keyed=True),
    "create": Write(lambda s: s.sql("CREATE TABLE ns.c (id BIGINT)"), {"c": []}),
    "create_as": Write(lambda s: s.sql("CREATE TABLE ns.c AS SELECT 7 AS id"), {"c": [7]}),
    "create_as_keyed": Write(
        lambda s: s.sql("CREATE TABLE ns.c AS SELECT 7 AS id", idempotency_key="k"), {"c": [7]}, keyed=True
    ),
    "rolled_back": Write(rolled_back, {}),
    "alter": Write(
        lambda s: s.sql("ALTER TABLE ns.t ADD COLUMN IF NOT EXISTS x INT"),
        {"t": []},
        columns={"t": ["id", "x"]},
        keyed=True,
    ),
    "alter_raced": Write(
        lambda s: s.sql("ALTER TABLE ns.t ADD COLUMN IF NOT EXISTS x INT"),
        {"t": []},
        columns={"t": ["id", "x"]},
        keyed=True,
        raced=True,
    ),
    "replace": Write(
        lambda s: s.sql("CREATE OR REPLACE TABLE ns.k AS SELECT id + 10 AS id FROM ns.k WHERE id < 3"),
        {"k": [11, 12]},
        takes=lambda _: True,
    ),
    "definitions": Write(
        definitions, {"t": [7], "c": [8]}, columns={"t": ["id", "more"], "c": ["id"]}, drops="u", keyed=True
    ),
    **CHANGES,
}


def prepare(session: ice.Session) -> None:
    session.sql("CREATE TABLE ns.t AS SELECT CAST(1 AS BIGINT) AS id")
    session.sql("CREATE TABLE ns.u (id BIGINT)")
    session.sql("CREATE TABLE ns.p (id BIGINT) PARTITIONED BY (id)")
    session.sql("CREATE TABLE ns.v1 (id BIGINT) TBLPROPERTIES ('format-version' = '1')")
    session.sql(
        "CREATE TABLE ns.m (id BIGINT) TBLPROPERTIES ("
        "'commit.manifest.min-count-to-merge' = '3', 'write.metadata.previous-versions-max' = '1', "
        "'write.metadata.delete-after-commit.enabled' = 'true')"
    )
    session.sql("INSERT INTO ns.m VALUES (1); INSERT INTO ns.m VALUES (2); INSERT INTO ns.v1 VALUES (1)")
    session.sql(
        "CREATE TABLE ns.k (id BIGINT); INSERT INTO ns.k VALUES (1), (2), (3); INSERT INTO ns.k VALUES (4), (5)"
    )
    session.sql("CREATE TABLE ns.d (id BIGINT); INSERT INTO ns.d VALUES (1), (2), (3)")
    session.sql("DELETE FROM ns.d WHERE id = 1", write_mode="merge-on-read")


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    made = Warehouse(prepare)
    assert not made.before.leftovers
    yield made
    made.remove()


class Trial:
    """One write with a fault at one step, and the verdict on it."""

    def __init__(self, warehouse: Warehouse, write: Write, kind: str, at: int, *, generic: bool, deletes_fail: bool):
        self.warehouse = warehouse
        self.write = write
        self.kind = kind
        self.generic = generic
        self.faults = Faults()
        self.faults.deletes_fail = deletes_fail
        self.error: BaseException | None = None
        self.rows_before = warehouse.before.rows
        self.columns_before = warehouse.before.columns
        warehouse.reset()
        if write.raced:
            self.faults.rival = self.rival
        self.session = warehouse.connect(self.faults, generic=generic)
        self.faults.arm(kind, at, only=("swap", "swapped") if kind == "conflict" else ())
        try:
            write.run(self.session)
        except BaseException as exc:
            self.error = exc
        self.faults.disarm()
        if kind == "dead":
            self.session.close()
            self.session = warehouse.connect(Faults(), generic=generic)
        self.seen = warehouse.look()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        if self.generic:
            self.session.catalog._inner.close()

    def rival(self) -> None:
        with ice.connect(self.warehouse.folder, threads=1) as other:
            other.writer(f"ns.{self.write.table}").write_batch(batch(99))
        self.rows_before = {
            **self.rows_before,
            self.write.table: [*self.rows_before[self.write.table], 99],
        }

    @property
    def struck(self) -> str | None:
        return self.faults.struck

    @property
    def landed(self) -> bool:
        """Whether all of it is there; a part of it is nothing that may ever be."""
        before = self.rows_before
        there = [
            table in self.seen.rows and Counter(self.seen.rows[table]) == self.write.after(table, before.get(table, ()))
            for table in self.write.adds
        ]
        there += [self.seen.columns.get(table) == columns for table, columns in self.write.columns.items()]
        there += [self.write.drops not in self.seen.rows] if self.write.drops else []
        untouched = self.seen.rows == before and self.seen.columns == self.columns_before
        assert all(there) or untouched, f"a part landed: {self.seen.rows}"
        return bool(there) and all(there)

    @property
    def leftovers(self) -> set[str]:
        """What this side left.

        Not counted are the metadata files of a catalog that writes them itself, and what DROP TABLE keeps.
        """
        kept = {path for path in self.seen.leftovers if self.write.drops and f"/ns/{self.write.drops}/" in path}
        return {path for path in self.seen.leftovers - kept if not (self.generic and path.endswith(".metadata.json"))}

    def judge(self) -> None:
        assert not self.seen.missing, "a file that metadata names was deleted"
        landed = self.landed
        final = self.struck in POINTS_OF_NO_RETURN
        swept = not self.faults.deletes_fail and self.kind != "dead"
        if self.error is None:
            assert landed or not self.write.adds, "an answer of success and no rows"
            if swept and not (self.struck or "").startswith("delete "):
                assert not self.leftovers
        elif isinstance(self.error, ice.CommitStateUnknownError):
            assert final, "unknown, although nothing could have landed"
            kept = {path for path in self.warehouse.files() if path.endswith(".parquet")}
            assert landed or not any(self.write.adds.values()) or self.seen.leftovers & kept
        elif isinstance(self.error, ice.IcefusionError):
            assert not landed, f"it landed, and the answer was {type(self.error).__name__}"
            if swept:
                assert not self.leftovers
        else:
            assert isinstance(self.error, INTERRUPTS), f"a raw {type(self.error).__name__}"
            assert self.kind in ("interrupt", "exit", "memory", "dead")
            assert not landed or final or self.struck_after_landing
            if swept and not final and not self.struck_after_landing:
                assert not self.leftovers

    @property
    def struck_after_landing(self) -> bool:
        steps = self.faults.steps
        return any(step in ("sql COMMITTED", "swapped") for step in steps)

    def repeat(self) -> None:
        """The same call once more, undisturbed: exactly once with a key, and without one where nothing had landed."""
        landed = self.landed
        if landed and not self.write.keyed:
            return
        self.write.run(self.session)
        self.seen = self.warehouse.look()
        assert not self.seen.missing
        assert self.landed or not self.write.adds, "after the repetition it is not there, or not once"


def run_all(
    warehouse: Warehouse, write: Write, kind: str, *, generic: bool = False, deletes_fail: bool = False
) -> None:
    """The fault one step later each time, until the write completes before it comes."""
    struck: set[str] = set()
    wrong: list[str] = []
    for at in range(1, STEPS_MAX):
        with Trial(warehouse, write, kind, at, generic=generic, deletes_fail=deletes_fail) as trial:
            try:
                trial.judge()
                if trial.struck is not None:
                    trial.repeat()
            except Exception as exc:  # one wrong answer should not hide the others
                verdict = str(exc).splitlines()[0]
                wrong.append(f"{verdict}: {kind} at step {at} ({trial.struck}), answer {trial.error!r}")
        if trial.struck is None:
            break
        struck.add(trial.struck)
    else:
        pytest.fail(f"no end after {STEPS_MAX} steps")
    assert not wrong, "\n".join([*wrong, f"steps: {trial.faults.steps}"])
    if kind != "conflict" and write.adds:
        assert {"create manifest", "create manifest list"} <= struck or not any(write.adds.values())
        assert "create parquet" in struck or not any(write.adds.values())
    assert struck & set(POINTS_OF_NO_RETURN) or not write.adds


@pytest.mark.parametrize("name", [name for name in WRITES if name not in ("update_on_read", "merge_on_read_raced")])
def test_an_error_on_a_sql_catalog(warehouse, name) -> None:
    run_all(warehouse, WRITES[name], "error")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(("raced", "two_tables_keyed", "create_as_keyed", "definitions"), ("interrupt", "dead")),
        ("alter_raced", "interrupt"),
        ("merge_raced", "interrupt"),
        ("changes", "dead"),
    ],
)
def test_an_interrupt_or_a_crash_on_a_sql_catalog(warehouse, name, kind) -> None:
    run_all(warehouse, WRITES[name], kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("raced", "reset"),
        ("append", "time_out"),
        ("append", "exit"),
        ("merging", "memory"),
        ("merge_on_read_raced", "reset"),
        ("update_on_read", "exit"),
        ("changes_rolled_back", "interrupt"),
    ],
)
def test_other_faults_on_a_sql_catalog(warehouse, name, kind) -> None:
    run_all(warehouse, WRITES[name], kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("raced", "reset"),
        ("raced", "conflict"),
        ("raced", "interrupt"),
        ("raced", "dead"),
        ("create_as_keyed", "time_out"),
        ("create_as_keyed", "conflict"),
        ("create_as_keyed", "interrupt"),
        ("merging", "reset"),
        ("merge_on_read_raced", "conflict"),
        ("overwrite_raced", "conflict"),
        ("update", "interrupt"),
        ("update_on_read", "dead"),
        ("alter_raced", "reset"),
        ("alter_raced", "conflict"),
        ("alter", "interrupt"),
        ("replace", "time_out"),
    ],
)
def test_faults_on_a_catalog_that_moves_one_table(warehouse, name, kind) -> None:
    run_all(warehouse, WRITES[name], kind, generic=True)


@pytest.mark.parametrize("name", ["append", "merging", "create_as", "update"])
def test_deletes_that_fail_are_logged_and_hide_nothing(warehouse, name, caplog) -> None:
    with caplog.at_level(logging.WARNING, "icefusion"):
        run_all(warehouse, WRITES[name], "error", deletes_fail=True)
    assert any("could not" in record.message for record in caplog.records)
