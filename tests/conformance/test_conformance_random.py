"""Random changes against SQLite as the model, in both write modes, over a table whose partition spec changes.

Most statements are the same text for both: SQLite knows the table as ``ns.t`` too. Subqueries that look at the table
itself look at a copy in SQLite, which evaluates them while it changes rows. MERGE, ON CONFLICT and overwriting are
modelled in Python. After every statement all rows are compared; now and then from a fresh session, and in the end by
PyIceberg's own reader too.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conformance_hooks import HOOKS
from conformance_runner import MODES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import icefusion as ice
from icefusion.config import WriteMode

Row = tuple[Any, ...]
COLUMNS = ("id", "k", "p", "v")
MAX_ROWS = 80
FINE = "'write.parquet.row-group-size-bytes' = '64', 'write.parquet.page-row-limit' = '2'"
COPY = "{copy}"  # the table as it was before the statement

ids = st.none() | st.integers(0, 9)
letters = st.none() | st.sampled_from("abc")
rows = st.tuples(ids, ids, letters, st.none() | st.integers(-5, 20))
some_rows = st.lists(rows, min_size=1, max_size=6)
keyed_rows = st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row[0])


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def values(given: list[Row]) -> str:
    """A query for some rows whose types are known even where all of a column is NULL."""
    listed = ", ".join(f"({', '.join(map(literal, row))})" for row in given)
    casts = "CAST(column1 AS bigint), CAST(column2 AS bigint), CAST(column3 AS text), CAST(column4 AS bigint)"
    named = ", ".join(f"{cast} AS {name}" for cast, name in zip(casts.split(", "), COLUMNS, strict=True))
    return f"SELECT {named} FROM (VALUES {listed}) AS made"


def atoms() -> st.SearchStrategy[str]:
    numbers = st.sampled_from(["id", "k", "v", "t.id", "ns.t.v"])
    compared = st.builds(
        "{} {} {}".format, numbers, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), st.integers(0, 9)
    )
    texts = st.builds("p {} '{}'".format, st.sampled_from(["=", "<>", "<", ">="]), st.sampled_from("abc"))
    nulls = st.builds("{} IS {}NULL".format, st.sampled_from(COLUMNS), st.sampled_from(["", "NOT "]))
    lists = st.builds(
        lambda column, word, items: f"{column} {word} ({', '.join(map(literal, items))})",
        st.sampled_from(["id", "k"]),
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(ids, min_size=1, max_size=4),
    )
    fixed = st.sampled_from(
        [
            "id = k",
            "v % 2 = 0 AND v % 2 < 1",
            "NULL",
            "p = NULL",
            "coalesce(p, 'z') > 'a'",
            "CASE WHEN id > 4 THEN k > 4 ELSE v > 4 END",
            f"id IN (SELECT o.k FROM {COPY} AS o WHERE o.v > 3)",
            f"id NOT IN (SELECT o.k FROM {COPY} AS o WHERE o.v > 5)",
            f"v > (SELECT avg(o.v) FROM {COPY} AS o)",
            f"EXISTS (SELECT 1 FROM {COPY} AS o WHERE o.k = t.id)",
            f"NOT EXISTS (SELECT 1 FROM {COPY} AS o WHERE o.k = t.id AND o.v > 2)",
            f"v = (SELECT max(o.v) FROM {COPY} AS o WHERE o.p = t.p)",
        ]
    )
    return compared | texts | nulls | lists | fixed


def plain(condition: str) -> bool:
    return "SELECT" not in condition


# Where a subquery stands below OR or NOT is for DataFusion to say; here it stands alone.
simple = atoms().filter(plain)
conditions = st.one_of(
    atoms(),
    st.builds("({}) AND ({})".format, simple, atoms()),
    st.builds("({}) OR ({})".format, simple, simple),
    st.builds("NOT ({})".format, simple),
)

assignments = st.lists(
    st.sampled_from(
        [
            ("id", "id + 1"),
            ("id", "k"),
            ("k", "id"),
            ("k", "NULL"),
            ("p", "'c'"),
            ("p", "CASE p WHEN 'a' THEN 'b' WHEN 'b' THEN NULL ELSE 'a' END"),
            ("v", "v + 1"),
            ("v", "coalesce(v, id) * 2 % 17"),
            ("v", f"(SELECT max(o.v) FROM {COPY} AS o)"),
            ("v", f"(SELECT count(*) FROM {COPY} AS o WHERE o.k = t.id)"),
        ]
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda pair: pair[0],
)

limits = st.none() | st.integers(-2, 12)
matched_clauses = st.lists(st.tuples(limits, st.sampled_from(["update", "delete", "nothing", "all"])), max_size=3)
by_source_clauses = st.lists(st.tuples(limits, st.sampled_from(["update", "delete", "nothing"])), max_size=2)
new_clauses = st.lists(st.tuples(limits, st.sampled_from(["insert", "all", "nothing"])), max_size=2)


class TwiceError(Exception):
    """A row would be changed twice."""


def reached(clauses: list[tuple[int | None, str]]) -> list[tuple[int | None, str]]:
    """The clauses up to the first that takes all rows: what stands behind it is refused."""
    for place, (limit, _) in enumerate(clauses):
        if limit is None:
            return clauses[: place + 1]
    return clauses


def action_for(value: int | None, clauses: list[tuple[int | None, str]]) -> str:
    return next((done for limit, done in clauses if limit is None or (value is not None and value > limit)), "nothing")


class Changes(RuleBasedStateMachine):
    mode: WriteMode

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="icefusion-random-"))
        self.session = ice.connect(self.folder)
        self.session.sql("CREATE NAMESPACE ns")
        self.session.sql("CREATE TABLE ns.t (id bigint, k bigint, p text, v bigint)")
        self.model = sqlite3.connect(":memory:", isolation_level=None)
        self.model.execute("ATTACH ':memory:' AS ns")
        self.model.execute("CREATE TABLE ns.t (id bigint, k bigint, p text, v bigint)")
        self.spec: set[str] = set()
        self.steps = 0

    @initialize(first=some_rows, spec=st.sampled_from(["", "p", "bucket"]), fine=st.booleans())
    def begin_with(self, first: list[Row], spec: str, fine: bool) -> None:
        if spec:
            self.evolve(spec)
        if fine:  # so that pages of files that are written anew are carried over
            self.session.sql(f"ALTER TABLE ns.t SET TBLPROPERTIES ({FINE})")
        self.both(f"INSERT INTO ns.t {values(first)}")

    # The same text for both

    def both(self, sql: str) -> None:
        self.model.execute("CREATE TEMP TABLE copy AS SELECT * FROM ns.t")
        try:
            self.model.execute(sql.replace(COPY, "copy"))
        finally:
            self.model.execute("DROP TABLE copy")
        self.ours(sql)

    def ours(self, sql: str, **sources: Any) -> ice.Result:
        self.steps += 1
        return self.session.sql(sql.replace(COPY, "ns.t"), write_mode=self.mode, **sources)

    @rule(given=some_rows)
    @precondition(lambda self: self.count() < 30)
    def insert(self, given: list[Row]) -> None:
        self.both(f"INSERT INTO ns.t {values(given)}")

    @rule(condition=conditions.filter(plain))
    @precondition(lambda self: self.count() < MAX_ROWS)
    def insert_from_itself(self, condition: str) -> None:
        self.both(f"INSERT INTO ns.t SELECT k, id, p, v + 1 FROM ns.t WHERE {condition}")

    @rule(condition=conditions)
    def delete(self, condition: str) -> None:
        self.both(f"DELETE FROM ns.t WHERE {condition}")

    @rule(changes=assignments, condition=conditions)
    def update(self, changes: list[tuple[str, str]], condition: str) -> None:
        self.both(f"UPDATE ns.t SET {', '.join(' = '.join(pair) for pair in changes)} WHERE {condition}")

    @rule(given=some_rows)
    def delete_using(self, given: list[Row]) -> None:
        self.model.execute(f"DELETE FROM ns.t WHERE id IN (SELECT id FROM ({values(given)})) AND v IS NOT NULL")
        self.ours(f"DELETE FROM ns.t USING ({values(given)}) AS s WHERE t.id = s.id AND t.v IS NOT NULL")

    @rule(given=keyed_rows)
    def update_from(self, given: list[Row]) -> None:
        self.both(f"UPDATE ns.t SET v = s.v, p = s.p FROM ({values(given)}) AS s WHERE t.id = s.id")

    @rule()
    @precondition(lambda self: self.steps % 5 == 4)
    def fail(self) -> None:
        # 1.5 fits no bigint, which the types do not tell.
        sql = "UPDATE ns.t SET v = CASE WHEN id >= 0 THEN 1.5 ELSE 0.5 END"
        if not self.count():
            assert self.ours(sql).rows_updated == 0
            return
        with pytest.raises(ice.SchemaError):
            self.ours(sql)

    @rule()
    @precondition(lambda self: self.count() > 25)
    def truncate(self) -> None:
        self.model.execute("DELETE FROM ns.t")
        self.ours("TRUNCATE TABLE ns.t")

    # Modelled in Python

    def count(self) -> int:
        return self.model.execute("SELECT count(*) FROM ns.t").fetchone()[0]

    def modelled(self, change: Callable[[], None], sql: str) -> None:
        """Change the model and the table; both, or neither."""
        self.model.execute("SAVEPOINT one")
        try:
            change()
        except TwiceError:
            self.model.execute("ROLLBACK TO one")
            with pytest.raises(ice.CardinalityError):
                self.ours(sql)
        else:
            self.ours(sql)
        finally:
            self.model.execute("RELEASE one")

    def add(self, row: Row) -> None:
        self.model.execute("INSERT INTO ns.t VALUES (?, ?, ?, ?)", row)

    def keyed(self, key: Any) -> list[Row]:
        return self.model.execute("SELECT rowid, id, k, p, v FROM ns.t WHERE id = ?", (key,)).fetchall()

    @rule(given=keyed_rows, matched=matched_clauses, new=new_clauses, by_source=by_source_clauses)
    def merge(
        self,
        given: list[Row],
        matched: list[tuple[int | None, str]],
        new: list[tuple[int | None, str]],
        by_source: list[tuple[int | None, str]],
    ) -> None:
        """Conditions of WHEN NOT MATCHED look at the source's v, all others at the target's."""
        if not matched and not new and not by_source:
            matched = [(None, "all")]
        matched, new, by_source = reached(matched), reached(new), reached(by_source)

        def change() -> None:
            found = {row[0] for row in self.model.execute("SELECT rowid FROM ns.t")}
            taken: dict[int, str] = {}
            added: list[Row] = []
            hit: set[int] = set()
            changed: list[tuple[int, Row | None]] = []
            for source in given:
                targets = self.keyed(source[0])
                hit |= {target[0] for target in targets}
                for rowid, *old in targets:
                    done = action_for(old[3], matched)
                    if done == "nothing":
                        continue
                    if rowid in taken and {done, taken[rowid]} != {"delete"}:
                        raise TwiceError
                    taken[rowid] = done
                    row = {"all": source, "delete": None, "update": (old[0], source[1], old[2], source[3])}[done]
                    changed.append((rowid, row))
                done = action_for(source[3], new) if not targets else "nothing"
                if done != "nothing":
                    added.append(source if done == "all" else (source[0], None, "a", source[3]))
            for rowid in found - hit:
                old = self.model.execute("SELECT * FROM ns.t WHERE rowid = ?", (rowid,)).fetchone()
                done = action_for(old[3], by_source)
                if done != "nothing":
                    changed.append((rowid, None if done == "delete" else (old[0], old[1], "b", old[3])))
            for rowid, row in changed:
                if row is None:
                    self.model.execute("DELETE FROM ns.t WHERE rowid = ?", (rowid,))
                else:
                    self.model.execute("UPDATE ns.t SET id = ?, k = ?, p = ?, v = ? WHERE rowid = ?", (*row, rowid))
            for row in added:
                self.add(row)

        actions = {
            "update": "UPDATE SET k = s.k, v = s.v",
            "all": "UPDATE SET *",
            "delete": "DELETE",
            "nothing": "DO NOTHING",
        }
        inserts = {"insert": "INSERT (v, p, id) VALUES (s.v, 'a', s.id)", "all": "INSERT *", "nothing": "DO NOTHING"}
        alone = actions | {"update": "UPDATE SET p = 'b'"}
        sql = f"MERGE INTO ns.t USING ({values(given)}) AS s ON t.id = s.id"
        for head, side, clauses, texts in (
            ("WHEN MATCHED", "t", matched, actions),
            ("WHEN NOT MATCHED", "s", new, inserts),
            ("WHEN NOT MATCHED BY SOURCE", "t", by_source, alone),
        ):
            for limit, done in clauses:
                sql += f" {head}{'' if limit is None else f' AND {side}.v > {limit}'} THEN {texts[done]}"
        self.modelled(change, sql)

    @rule(given=some_rows, matched=matched_clauses, new=new_clauses)
    def merge_any_keys(
        self, given: list[Row], matched: list[tuple[int | None, str]], new: list[tuple[int | None, str]]
    ) -> None:
        self.merge(given, matched, new, [])

    @rule(given=some_rows, update=st.booleans())
    def upsert(self, given: list[Row], update: bool) -> None:
        def change() -> None:
            keys = [row[0] for row in given if row[0] is not None]
            if update and len(set(keys)) < len(keys):
                raise TwiceError
            for row in given:
                if not self.keyed(row[0]):
                    self.add(row)
                elif update:
                    sql = "UPDATE ns.t SET v = ?, k = k + 1 WHERE id = ? AND (v IS NULL OR v < 10)"
                    self.model.execute(sql, (row[3], row[0]))

        action = "UPDATE SET v = excluded.v, k = t.k + 1 WHERE t.v IS NULL OR t.v < 10" if update else "NOTHING"
        self.modelled(change, f"INSERT INTO ns.t {values(given)} ON CONFLICT (id) DO {action}")

    @rule(given=some_rows, whole=st.booleans())
    @precondition(lambda self: self.count() > 15 or self.spec == {"p"})
    def overwrite(self, given: list[Row], whole: bool) -> None:
        whole = whole or self.spec != {"p"}
        if whole:
            self.model.execute("DELETE FROM ns.t")
        else:
            for row in given:
                self.model.execute("DELETE FROM ns.t WHERE p IS ?", (row[2],))
        for row in given:
            self.add(row)
        self.ours(f"INSERT OVERWRITE ns.t {'' if whole else 'PARTITION (p) '}{values(given)}")

    @rule(given=some_rows, letter=letters)
    @precondition(lambda self: "p" in self.spec and self.count() > 3)
    def overwrite_one(self, given: list[Row], letter: str | None) -> None:
        self.model.execute("DELETE FROM ns.t WHERE p IS ?", (letter,))
        for row in given:
            self.add((row[0], row[1], letter, row[3]))
        head = f"INSERT OVERWRITE ns.t PARTITION (p = {literal(letter)}) (id, k, v)"
        self.ours(f"{head} SELECT id, k, v FROM ({values(given)}) AS q")

    @rule(given=some_rows, condition=conditions.filter(plain))
    def replace_where(self, given: list[Row], condition: str) -> None:
        filtered = f"SELECT * FROM ({values(given)}) AS t WHERE {condition.replace('ns.t.', 't.')}"
        self.model.execute("CREATE TEMP TABLE new AS " + filtered)
        self.model.execute(f"DELETE FROM ns.t WHERE {condition}")
        self.model.execute("INSERT INTO ns.t SELECT * FROM new")
        self.model.execute("DROP TABLE new")
        self.ours(f"INSERT INTO ns.t REPLACE WHERE {condition} {filtered}")

    # Around the statements

    @rule(field=st.sampled_from(["p", "bucket", "truncate"]))
    @precondition(lambda self: not self.session.in_transaction)
    def evolve(self, field: str) -> None:
        if field in self.spec:
            HOOKS["remove-partition"](self.session.catalog, "ns.t", field)
        else:
            column, transform = {
                "p": ("p", "identity"),
                "bucket": ("id", "bucket[3]"),
                "truncate": ("v", "truncate[10]"),
            }[field]
            HOOKS["add-partition"](self.session.catalog, "ns.t", column, transform, field)
        self.spec ^= {field}

    @rule()
    @precondition(lambda self: not self.session.in_transaction)
    def begin(self) -> None:
        self.session.sql("BEGIN")
        self.model.execute("BEGIN")

    @rule(word=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    @precondition(lambda self: self.session.in_transaction)
    def end(self, word: str) -> None:
        self.session.sql(word)
        self.model.execute(word)

    @invariant()
    def same_rows(self) -> None:
        expected = Counter(self.model.execute("SELECT * FROM ns.t").fetchall())
        assert Counter(self.session.sql("SELECT * FROM ns.t").fetchall()) == expected
        if self.steps % 5 == 0 and not self.session.in_transaction:
            with ice.connect(self.folder) as other:
                assert Counter(other.sql("SELECT * FROM ns.t").fetchall()) == expected

    def teardown(self) -> None:
        try:
            if self.session.in_transaction:
                self.end("COMMIT")
            self.steps = 0
            self.same_rows()
            arrow = self.session.catalog.load_table("ns.t").scan().to_arrow()
            expected = Counter(self.model.execute("SELECT * FROM ns.t").fetchall())
            assert Counter(tuple(row.values()) for row in arrow.to_pylist()) == expected
        finally:
            self.session.close()
            self.model.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("mode", MODES)
def test_random_changes_are_those_of_sqlite(mode: WriteMode) -> None:
    machine = type("Changes", (Changes,), {"mode": mode})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
