"""Row-level changes in the simulation: statements on keyed tables, a model of each, and the check of what came of them.

There are two tables of keys and values, `k`, and `l` which is partitioned by key. Each change goes under an idempotency
key, so each snapshot tells whose it is. The checker walks along a table's snapshots and has each change work on the
model: under serializable, on the rows right before it; under snapshot, on those of some earlier snapshot, and then the
rows that it took away must still have been there: no update is lost.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table

Row = tuple[int, int]
Rows = Sequence[Row]
Tables = Mapping[str, Rows]

KEYS = 6
FIRST: dict[str, Rows] = {"k": [(n, n) for n in range(KEYS)], "l": [(n, n) for n in range(0, KEYS, 2)]}
UNIT = 1000  # a change adds so many times its number to the values that it writes
PART = 3  # keys a partition of `l`
MODES = ("copy-on-write", "merge-on-read")


@dataclass
class Change:
    """One change that was asked for, however often.

    Attributes:
        number: Of the change; its idempotency key is made of it.
        texts: Its statements, each with its write mode.
        effect: What it does to rows, by table.
        isolation: ``serializable`` or ``snapshot``.
        alone: Whether it is a single statement outside of a transaction.
        answer: ``committed``, ``failed`` or ``unknown``.
        asked_at: The turn at which it was first asked for.
        answered_at: The turn of its answer.
    """

    number: int
    texts: list[tuple[str, str]]
    effect: Callable[[Tables], Tables]
    isolation: str = "serializable"
    alone: bool = True
    answer: str = "open"
    asked_at: int = 0
    answered_at: int = 0
    rows: dict[str, list[int]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"change-{self.number}"


@dataclass
class KeyedRead:
    """What a reader was shown of a table, twice in one transaction."""

    table: str
    began_at: int
    first: list[Row]
    second: list[Row]


def draw(number: int, chance: random.Random, *, several: bool) -> Change:
    """A change by chance; of several tables only where the catalog can commit such."""
    makers = [_delete, _update, _upsert, _merge, _replace, _overwrite, _steps]
    maker = chance.choice([*makers, _move, _move] if several else makers)
    change = maker(number, chance)
    if len(change.texts) > 1 or chance.random() < 0.5:
        change.alone = False
        change.isolation = chance.choice(("serializable", "snapshot"))
    return change


def _one(number: int, table: str, text: str, chance: random.Random, effect: Callable[[Rows], Rows]) -> Change:
    return Change(number, [(text, chance.choice(MODES))], lambda tables: {table: effect(tables[table])})


def _delete(number: int, chance: random.Random) -> Change:
    table, key = chance.choice("kkl"), chance.randrange(KEYS)
    text = f"DELETE FROM ns.{table} WHERE id = {key}"
    return _one(number, table, text, chance, lambda rows: [row for row in rows if row[0] != key])


def _update(number: int, chance: random.Random) -> Change:
    table, low = chance.choice("kkl"), chance.randrange(KEYS)
    high = low + chance.choice((0, 0, 3))
    text = f"UPDATE ns.{table} SET v = v + {number * UNIT} WHERE id BETWEEN {low} AND {high}"
    return _one(number, table, text, chance, lambda rows: _added(rows, number, low, high))


def _added(rows: Rows, number: int, low: int, high: int) -> Rows:
    return [(key, value + number * UNIT if low <= key <= high else value) for key, value in rows]


def _upsert(number: int, chance: random.Random) -> Change:
    table, keys = chance.choice("kkl"), chance.sample(range(KEYS + 2), 2)
    values = ", ".join(f"({key}, {number * UNIT})" for key in keys)
    text = f"INSERT INTO ns.{table} VALUES {values} ON CONFLICT (id) DO UPDATE SET v = {table}.v + excluded.v"
    return _one(number, table, text, chance, lambda rows: _merged(rows, number, keys, ()))


def _merge(number: int, chance: random.Random) -> Change:
    table = chance.choice("kkl")
    dropped, *keys = chance.sample(range(KEYS + 2), 3)
    values = ", ".join(f"({key}, {number * UNIT})" for key in (dropped, *keys))
    text = (
        f"MERGE INTO ns.{table} AS t USING (SELECT * FROM (VALUES {values}) AS x (id, v)) AS s ON t.id = s.id "
        f"WHEN MATCHED AND t.id = {dropped} THEN DELETE WHEN MATCHED THEN UPDATE SET v = t.v + s.v "
        f"WHEN NOT MATCHED AND s.id <> {dropped} THEN INSERT (id, v) VALUES (s.id, s.v)"
    )
    return _one(number, table, text, chance, lambda rows: _merged(rows, number, keys, (dropped,)))


def _merged(rows: Rows, number: int, keys: Sequence[int], dropped: Sequence[int]) -> Rows:
    known = {key for key, _ in rows}
    updated = [(key, value + number * UNIT if key in keys else value) for key, value in rows if key not in dropped]
    return [*updated, *((key, number * UNIT) for key in keys if key not in known)]


def _replace(number: int, chance: random.Random) -> Change:
    table, key = chance.choice("kkl"), chance.randrange(KEYS)
    text = f"INSERT INTO ns.{table} REPLACE WHERE id >= {key} SELECT {key}, {number * UNIT}"
    return _one(
        number, table, text, chance, lambda rows: [*(row for row in rows if row[0] < key), (key, number * UNIT)]
    )


def _overwrite(number: int, chance: random.Random) -> Change:
    key = chance.randrange(KEYS)
    text = f"INSERT OVERWRITE ns.l PARTITION (truncate({PART}, id)) VALUES ({key}, {number * UNIT})"
    return _one(
        number,
        "l",
        text,
        chance,
        lambda rows: [*(row for row in rows if row[0] // PART != key // PART), (key, number * UNIT)],
    )


def _steps(number: int, chance: random.Random) -> Change:
    """Two statements on one table, in any modes."""
    first, second = _update(number, chance), _merge(number, chance)
    (table,) = first.effect(FIRST)
    (other,) = second.effect(FIRST)
    text, mode = second.texts[0]
    second.texts = [(text.replace(f"ns.{other} ", f"ns.{table} "), mode)]
    effect = second.effect
    return Change(
        number,
        [*first.texts, *second.texts],
        lambda tables: {table: effect({other: first.effect(tables)[table]})[other]},
    )


def _move(number: int, chance: random.Random) -> Change:
    """A row goes from one table to the other."""
    key, (source, target) = chance.randrange(KEYS), chance.sample("kl", 2)

    def effect(tables: Tables) -> Tables:
        moved = [(row[0], row[1] + number * UNIT) for row in tables[source] if row[0] == key]
        return {
            target: [*tables[target], *moved],
            source: [row for row in tables[source] if row[0] != key],
        }

    return Change(
        number,
        [
            (f"INSERT INTO ns.{target} SELECT id, v + {number * UNIT} FROM ns.{source} WHERE id = {key}", MODES[0]),
            (f"DELETE FROM ns.{source} WHERE id = {key}", chance.choice(MODES)),
        ],
        effect,
    )


# What lies in a table


@dataclass
class State:
    """The rows of one snapshot, and whose change made it; the first ones are nobody's."""

    rows: Rows
    key: str | None


def states(table: Table, key_entry: str) -> list[State]:
    """The rows of each snapshot, oldest first, read without any of what is tested.

    Totals in the summaries are checked on the way.
    """
    found = []
    contents: dict[str, Any] = {}
    manifests: dict[str, Any] = {}
    for snapshot in table.snapshots():
        entries = []
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in manifests:
                manifests[manifest.manifest_path] = manifest.fetch_manifest_entry(table.io)
            entries += manifests[manifest.manifest_path]
        data = [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]
        deletes = [entry for entry in entries if entry.data_file.content != DataFileContent.DATA]
        rows: list[Row] = []
        for entry in data:
            path = entry.data_file.file_path
            gone = {
                position
                for other in deletes
                if (other.sequence_number or 0) >= (entry.sequence_number or 0)
                for name, position in _content(contents, other.data_file.file_path, ("file_path", "pos"))
                if name == path
            }
            whole = _content(contents, path, ("id", "v"))
            rows += [row for position, row in enumerate(whole) if position not in gone]
        assert snapshot.summary is not None
        totals = {
            "total-records": sum(entry.data_file.record_count for entry in data),
            "total-data-files": len(data),
            "total-delete-files": len(deletes),
            "total-position-deletes": sum(entry.data_file.record_count for entry in deletes),
        }
        for name, total in totals.items():
            assert snapshot.summary[name] == str(total), f"{name} of snapshot {snapshot.snapshot_id} is wrong"
        found.append(State(rows, snapshot.summary.get(key_entry)))
    return found


def _content(known: dict[str, Any], path: str, columns: tuple[str, str]) -> list[tuple[Any, Any]]:
    if path not in known:
        with pq.ParquetFile(path.removeprefix("file://")) as file:
            table = file.read(list(columns))
        known[path] = list(zip(*(table[column].to_pylist() for column in columns), strict=True))
    return known[path]


# The verdict


def check_changes(changes: Sequence[Change], reads: Sequence[KeyedRead], histories: dict[str, list[State]]) -> None:
    """Raise `AssertionError` at the first promise that was not kept."""
    places: dict[str, dict[str, int]] = {}
    for name, history in histories.items():
        for place, state in enumerate(history):
            if state.key is not None:
                assert name not in places.setdefault(state.key, {}), f"{state.key} is in {name} twice"
                places[state.key][name] = place
    for change in changes:
        _check_change(change, places.get(change.key, {}), histories)
    for read in reads:
        _check_read(read, changes, places, histories[read.table])


def _check_change(change: Change, places: dict[str, int], histories: dict[str, list[State]]) -> None:
    story = f"{change.key} {change.texts} ({change.isolation}), answered {change.answer!r}"
    if not places:
        if change.answer == "committed":
            assert _may_do_nothing(change, histories), f"{story}, and it is not there"
        return
    assert change.answer != "failed", f"{story}, and it is there"
    before = {name: history[places.get(name, 0) - 1].rows for name, history in histories.items()}
    after = {name: Counter(histories[name][place].rows) for name, place in places.items()}
    wanted = change.effect(before)
    if change.isolation == "serializable":
        assert set(places) == set(wanted), f"{story}, is there in {set(places)} alone"
        for name, rows in wanted.items():
            assert after[name] == Counter(rows), (
                f"{story}, made of {sorted(before[name])} in {name} {sorted(after[name].elements())}"
            )
        return
    assert set(places) <= set(wanted)
    for name in places:
        held = Counter(before[name])
        # A row that was moved came out of the other table: its earlier states are those that may have been read.
        assert any(
            not (gone := Counter(base) - made) - held and held - gone + (made - Counter(base)) == after[name]
            for base, made in _bases(change, name, places, histories)
        ), f"{story}, lost an update of {name}: {sorted(before[name])} became {sorted(after[name].elements())}"


def _bases(
    change: Change, name: str, places: dict[str, int], histories: dict[str, list[State]]
) -> list[tuple[Rows, Counter[Row]]]:
    """The states that a change may have begun from, each with what it makes of it."""
    others = [other for other in histories if other != name]
    result = []
    for base in histories[name][: places[name]]:
        for other in others:
            for beside in histories[other][: places.get(other, len(histories[other]))]:
                made = change.effect({name: base.rows, other: beside.rows})
                if name in made:
                    result.append((base.rows, Counter(made[name])))
                if len(made) == 1:
                    break
    return result


def _may_do_nothing(change: Change, histories: dict[str, list[State]]) -> bool:
    first, second = histories
    for one in histories[first]:
        for other in histories[second]:
            tables = {first: one.rows, second: other.rows}
            if all(Counter(rows) == Counter(tables[name]) for name, rows in change.effect(tables).items()):
                return True
    return False


def _check_read(
    read: KeyedRead, changes: Sequence[Change], places: dict[str, dict[str, int]], history: list[State]
) -> None:
    assert sorted(read.first) == sorted(read.second), "a read of keys was not stable"
    least = max(
        (
            places[change.key][read.table]
            for change in changes
            if change.answer == "committed"
            and change.answered_at <= read.began_at
            and read.table in places.get(change.key, {})
        ),
        default=0,
    )
    shown = Counter(read.first)
    assert any(Counter(state.rows) == shown for state in history[least:]), (
        f"a reader at {read.began_at} was shown {sorted(read.first)}, which {read.table} was not since"
    )
