"""``table_changes``: what is told of a table's history leads from each of its states to each later one."""

import datetime as dt
import random
from collections import Counter
from itertools import combinations

import pyarrow as pa
import pytest

import icefusion as ice


@pytest.fixture
def t(session):
    """``ns.t`` of ids and letters, made by two inserts."""
    session.sql("CREATE TABLE ns.t (id BIGINT, Letter STRING)")
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    session.sql("INSERT INTO ns.t VALUES (3, 'c')")
    return session


def snapshots(session, table: str = "ns.t") -> list[int]:
    return [snapshot.snapshot_id for snapshot in session.catalog.load_table(table).metadata.snapshots]


def told(session, *states, table: str = "ns.t", more: str = "") -> list[tuple]:
    """The changes without the columns that differ from run to run, in order."""
    marks = "".join(", ?" for _ in states)
    sql = f"SELECT * EXCEPT (_commit_snapshot_id, _commit_timestamp) FROM table_changes('{table}'{marks}) {more}"
    return sorted(session.sql(sql, list(states)).fetchall(), key=lambda row: (row[-1], row[-2], repr(row)))


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_each_change_is_told_once_with_its_snapshot(t, mode) -> None:
    t.sql("UPDATE ns.t SET letter = 'z' WHERE id = 1", write_mode=mode)
    t.sql("DELETE FROM ns.t WHERE id = 3", write_mode=mode)
    t.sql(
        "MERGE INTO ns.t USING (VALUES (2, 'y'), (4, 'd')) s(id, l) ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET letter = s.l WHEN NOT MATCHED THEN INSERT (id, letter) VALUES (s.id, s.l)",
        write_mode=mode,
    )
    assert told(t) == [
        (1, "a", "INSERT", 0),
        (2, "b", "INSERT", 0),
        (3, "c", "INSERT", 1),
        (1, "a", "DELETE", 2),
        (1, "z", "INSERT", 2),
        (3, "c", "DELETE", 3),
        (2, "b", "DELETE", 4),
        (2, "y", "INSERT", 4),
        (4, "d", "INSERT", 4),
    ]
    table = t.catalog.load_table("ns.t")
    made = [
        (number, snapshot.snapshot_id, dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC))
        for number, snapshot in enumerate(table.metadata.snapshots)
    ]
    columns = "_change_ordinal, _commit_snapshot_id, _commit_timestamp"
    assert t.sql(f"SELECT DISTINCT {columns} FROM table_changes('ns.t') ORDER BY 1").fetchall() == made


def test_states_are_ids_refs_times_and_parameters(t) -> None:
    first, second = snapshots(t)
    t.sql(f"ALTER TABLE ns.t CREATE TAG early AS OF VERSION {first}")
    moment = t.catalog.load_table("ns.t").snapshot_by_id(first).timestamp_ms
    at = dt.datetime.fromtimestamp(moment / 1000, dt.UTC)
    late = [(3, "c", "INSERT", 0)]
    early = [(1, "a", "INSERT", 0), (2, "b", "INSERT", 0)]
    for begin in (first, "early", at, pa.scalar(at)):
        assert told(t, begin) == told(t, begin, second) == told(t, begin, "main") == late
    for end in (first, "early", at):
        assert told(t, None, end) == early
    columns = "id, letter, _change_type, _change_ordinal"
    for written in (f"{first}, {second}", "'early', NULL", f"to_timestamp_millis({moment}), 'main'"):
        assert t.sql(f"SELECT {columns} FROM table_changes('ns.t', {written})").fetchall() == late
    assert told(t, second) == told(t, first, "early") == []
    assert t.sql("SELECT c.id FROM system.table_changes('ns.t') AS c WHERE c.Letter > 'a' ORDER BY 1").fetchall() == [
        (2,),
        (3,),
    ]
    assert [row[:3] for row in t.table("ns.t").changes("early").fetchall()] == [(3, "c", "INSERT")]
    assert len(t.table("ns.t").changes(None, at, filter="id > $n", params={"n": 1}).fetchall()) == 1


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_columns_may_have_any_names(session, mode) -> None:
    session.sql('CREATE TABLE ns.t ("Select" BIGINT, "A" STRING, "my col" INT, "B" STRUCT<"A": INT, "?n?": INT>)')
    session.sql("INSERT INTO ns.t VALUES (1, 'x', 5, {'A': 1, '?n?': 2}), (2, 'y', NULL, NULL)")
    session.sql('UPDATE ns.t SET "my col" = 7 WHERE "Select" = 1', write_mode=mode)
    session.sql("DELETE FROM ns.t WHERE A = 'y'", write_mode=mode)
    assert [(*row[:3], *row[-2:]) for row in told(session)] == [
        (1, "x", 5, "INSERT", 0),
        (2, "y", None, "INSERT", 0),
        (1, "x", 5, "DELETE", 1),
        (1, "x", 7, "INSERT", 1),
        (2, "y", None, "DELETE", 2),
    ]
    rows = session.sql("SELECT k, c FROM table_changes('ns.t') AS t (c, a, m, s, k, o, i, ts) WHERE o = 2").fetchall()
    assert rows == [("DELETE", 2)]


def test_a_branch_tells_of_its_own(t) -> None:
    t.sql("ALTER TABLE ns.t CREATE BRANCH b")
    t.sql("INSERT INTO ns.t.branch_b VALUES (9, 'i')")
    t.sql("INSERT INTO ns.t VALUES (4, 'd')")
    second = snapshots(t)[1]
    assert told(t, second, "b") == told(t, second, table="ns.t.branch_b") == [(9, "i", "INSERT", 0)]
    assert told(t, second) == [(4, "d", "INSERT", 0)]
    with pytest.raises(ice.BindError, match="is not in the history of snapshot"):
        told(t, "b", "main")


def test_rows_have_the_columns_of_the_end(t) -> None:
    first = snapshots(t)[0]
    t.sql("ALTER TABLE ns.t RENAME COLUMN letter TO word")
    t.sql("ALTER TABLE ns.t ADD COLUMN n INT FIRST")
    t.sql("INSERT INTO ns.t VALUES (7, 4, 'd')")
    t.sql("DELETE FROM ns.t WHERE id = 1")
    assert told(t) == [
        (None, 1, "a", "INSERT", 0),
        (None, 2, "b", "INSERT", 0),
        (None, 3, "c", "INSERT", 1),
        (7, 4, "d", "INSERT", 2),
        (None, 1, "a", "DELETE", 3),
    ]
    assert told(t, None, first) == [(1, "a", "INSERT", 0), (2, "b", "INSERT", 0)]


def test_equal_rows_are_counted(session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, f DOUBLE, tags LIST<STRING>, m MAP<STRING, INT>, p STRUCT<x: INT>)")
    row = {"id": 1, "f": float("nan"), "tags": ["a", None], "m": [("k", 1)], "p": {"x": 1}}
    rows = [row, row, row, {"id": None}, {"id": 2, "f": 0.5, "tags": [], "m": [], "p": {"x": None}}]
    schema = session.sql("SELECT * FROM ns.t").to_arrow().schema
    session.table("ns.t").append(pa.Table.from_pylist(rows, schema))
    session.sql("DELETE FROM ns.t WHERE id IS NULL", write_mode="copy-on-write")
    session.table("ns.t").overwrite(pa.Table.from_pylist([*rows[:2], rows[4]], schema))
    begin = snapshots(session)[0]
    assert [(row[0], *row[-2:]) for row in told(session, begin)] == [(None, "DELETE", 0), (1, "DELETE", 1)]


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_what_changes_nothing_is_not_told_of(t, mode) -> None:
    begin = snapshots(t)[-1]
    t.sql("UPDATE ns.t SET letter = lower(letter) WHERE id < 3", write_mode=mode)
    assert len(snapshots(t)) == 3
    assert told(t, begin) == []


def test_a_transaction_sees_what_others_have_committed_before_it(t, folder) -> None:
    with t.transaction(isolation="snapshot") as tx:
        tx.sql("INSERT INTO ns.t VALUES (4, 'd')")
        assert len(told(t)) == 3
        with ice.connect(folder) as other:
            other.sql("INSERT INTO ns.t VALUES (5, 'e')")
            assert len(told(other)) == 4
        assert len(told(t)) == 3
    assert len(told(t)) == 5


def test_changes_that_came_meanwhile_are_a_conflict_for_who_depends_on_all_of_them(t, folder) -> None:
    t.sql("CREATE TABLE ns.copy (id BIGINT)")
    with ice.connect(folder) as other:
        t.sql("BEGIN ISOLATION LEVEL SERIALIZABLE")
        t.sql("INSERT INTO ns.copy SELECT id FROM table_changes('ns.t')")
        other.sql("INSERT INTO ns.t VALUES (5, 'e')")
        with pytest.raises(ice.CommitConflictError):
            t.sql("COMMIT")
        end = snapshots(t)[-1]
        t.sql("BEGIN ISOLATION LEVEL SERIALIZABLE")
        t.sql("INSERT INTO ns.copy SELECT id FROM table_changes('ns.t', NULL, ?)", [end])
        other.sql("INSERT INTO ns.t VALUES (6, 'f')")
        t.sql("COMMIT")


def test_another_table_is_kept_up_to_date(t) -> None:
    t.sql("CREATE TABLE ns.copy (id BIGINT, text STRING)")
    t.sql("INSERT INTO ns.copy SELECT * FROM ns.t; ALTER TABLE ns.t CREATE TAG seen")
    t.sql("CREATE VIEW news AS SELECT id, letter, _change_type AS kind FROM table_changes('ns.t', 'seen')")
    assert t.sql("SELECT * FROM news").fetchall() == []
    t.sql("UPDATE ns.t SET letter = 'x' WHERE id = 2; DELETE FROM ns.t WHERE id = 1; INSERT INTO ns.t VALUES (8, 'h')")
    t.sql(
        "MERGE INTO ns.copy AS c USING (SELECT id, min(CASE kind WHEN 'INSERT' THEN letter END) AS text FROM news "
        "GROUP BY id) AS n ON c.id = n.id WHEN MATCHED AND n.text IS NULL THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET text = n.text WHEN NOT MATCHED THEN INSERT *"
    )
    state = t.sql("SELECT * FROM ns.t ORDER BY id").fetchall()
    assert t.sql("SELECT * FROM ns.copy ORDER BY id").fetchall() == state == [(2, "x"), (3, "c"), (8, "h")]


def test_they_can_be_the_source_of_a_merge(t) -> None:
    t.sql("CREATE TABLE ns.copy (id BIGINT, letter STRING)")
    for call in ("table_changes('ns.t', NULL, ?)", "system.table_changes('ns.t', ?)"):
        t.sql(
            f"MERGE INTO ns.copy AS m USING {call} AS c ON m.id = c.id WHEN NOT MATCHED THEN INSERT (id, letter) "
            "VALUES (c.id, upper(c.letter))",
            [snapshots(t)[0]],
        )
    assert t.sql("SELECT * FROM ns.copy ORDER BY id").fetchall() == [(1, "A"), (2, "B"), (3, "C")]


def test_what_cannot_be_told_is_an_error_with_its_place(t) -> None:
    first, second = snapshots(t)
    for call, error, problem in (
        ("ns.t", ice.ParseError, "expected the name of a table as a string, found ns"),
        ("'not a name'", ice.ParseError, "is no name of a table"),
        ("'ns.t', 1, 2, 3", ice.ParseError, "takes a table and two of its states"),
        ("'ns.t', ", ice.ParseError, "expected a state"),
        ("'ns.q'", ice.TableNotFoundError, "ns.q does not exist"),
        ("'t'", ice.BindError, "unknown table t"),
        ("'ns.t', 17", ice.BindError, "has no snapshot 17"),
        ("'ns.t', 'soon'", ice.BindError, "has no branch or tag soon"),
        ("'ns.t', 1.5", ice.BindError, "double is no time"),
        ("'ns.t', (SELECT id FROM ns.t)", ice.ParseError, "ns.t cannot be read here"),
        (f"'ns.t', {second}, {first}", ice.BindError, f"snapshot {second} of .* is not in the history of"),
    ):
        with pytest.raises(error, match=problem) as caught:
            t.sql(f"SELECT * FROM table_changes({call})")
        if error is not ice.TableNotFoundError:
            assert caught.value.line == 1
    t.sql("CREATE TABLE ns.u (_change_type STRING)")
    with pytest.raises(ice.BindError, match="has the name of a column that tells of changes"):
        t.sql("SELECT * FROM table_changes('ns.u')")


def test_what_has_expired_is_not_passed_over(t) -> None:
    first, second = snapshots(t)
    t.sql("INSERT INTO ns.t VALUES (4, 'd')")
    t.catalog.load_table("ns.t").maintenance.expire_snapshots().by_ids([first]).commit()
    assert told(t, second) == [(4, "d", "INSERT", 0)]
    with pytest.raises(ice.BindError, match=f"is known from snapshot {second} on") as caught:
        told(t)
    assert str(second) in caught.value.hint


def test_explain_shows_the_parts(t) -> None:
    text = "\n".join(str(row) for row in t.sql("EXPLAIN SELECT * FROM table_changes('ns.t') WHERE id = 3").fetchall())
    assert "added" in text


STATEMENTS = (
    "INSERT INTO ns.t SELECT i, i % 3, 'v' FROM (SELECT {n} + unnest(range(0, 6)) AS i)",
    "DELETE FROM ns.t WHERE id % 7 = {n} % 7",
    "UPDATE ns.t SET v = v || 'x' WHERE id % 5 = {n} % 5",
    "UPDATE ns.t SET p = (p + 1) % 3 WHERE id % 11 = {n} % 11",
    "MERGE INTO ns.t USING (SELECT {n} + unnest(range(0, 9)) AS id) s ON t.id = s.id WHEN MATCHED AND s.id % 2 = 0 "
    "THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'm' WHEN NOT MATCHED THEN INSERT (id, p) VALUES (s.id, 0)",
    "INSERT OVERWRITE ns.t PARTITION (p = 1) SELECT {n}, 'o'",
    "INSERT INTO ns.t SELECT * FROM ns.t WHERE id % 13 = {n} % 13",
    "TRUNCATE TABLE ns.t",
)


@pytest.mark.parametrize("seed", range(6))
def test_every_state_and_the_changes_behind_it_are_every_later_state(session, seed) -> None:
    chance = random.Random(seed)
    session.sql("CREATE TABLE ns.t (id BIGINT, p INT, v STRING) PARTITIONED BY (p)")
    for _ in range(14):
        statements = [chance.choice(STATEMENTS[: 7 + (chance.random() < 0.2)]) for _ in range(chance.choice((1, 1, 2)))]
        with session.transaction() as tx:
            for statement in statements:
                mode = chance.choice(("copy-on-write", "merge-on-read"))
                tx.sql(statement.format(n=chance.randrange(40)), write_mode=mode)
    made = snapshots(session)
    states = [Counter(session.sql("SELECT * FROM ns.t FOR VERSION AS OF ?", [number]).fetchall()) for number in made]
    for begin, end in [pair for pair in combinations(range(-1, len(made)), 2) if chance.random() < 0.12]:
        changes = told(session, None if begin < 0 else made[begin], made[end])
        inserted, deleted = (Counter(row[:3] for row in changes if row[3] == kind) for kind in ("INSERT", "DELETE"))
        before = Counter() if begin < 0 else states[begin]
        after = before.copy()
        after.update(inserted)
        after.subtract(deleted)
        assert +after == states[end]
        assert -after == Counter()
        for ordinal in {row[4] for row in changes}:
            of_snapshot = [row for row in changes if row[4] == ordinal]
            kinds = [{row[:3] for row in of_snapshot if row[3] == kind} for kind in ("INSERT", "DELETE")]
            # A row that a snapshot has not changed is not told of, whatever files it lies in.
            assert not kinds[0] & kinds[1]
