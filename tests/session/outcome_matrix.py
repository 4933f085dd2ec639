"""Two changes at a time: what the matrix in ``docs/transactions.md`` says of them, and statements to try it with.

The table of each trial has three files: one with rows 1 and 2, another one with 3 and 4 in the same partition, and one
with 5 and 6 in another partition. The first change, A, is about row 1, or about the key 7 that is not there yet. It has
begun from the state before the second one, B, and commits after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from pyiceberg.manifest import DataFile
from pyiceberg.table.snapshots import Operation, Summary, update_snapshot_summaries

import icefusion as ice
from icefusion.commit import fold
from icefusion.commit.committer import CommitRequest
from icefusion.commit.operations import FileChange, TableChange
from icefusion.sql.names import parse_name

DOC = Path(__file__).parents[2] / "docs" / "transactions.md"
HEAD = "| A \\ B |"
CELLS = ("conflict", "serializable", "other rows", "commits")

Row = tuple[int, str, int]
Rows = Sequence[Row]
BEFORE: Rows = ((1, "a", 10), (2, "a", 20), (3, "a", 30), (4, "a", 40), (5, "b", 50), (6, "b", 60))


@dataclass(frozen=True)
class Step:
    """A statement, and what it does to rows in a model.

    Attributes:
        sql: With ``{t}`` for the table; empty for a compaction.
        effect: The rows after it.
        compacts: The ids of the rows of the file that a compaction writes anew.
    """

    sql: str
    effect: Callable[[Rows], Rows]
    compacts: tuple[int, ...] = ()


def insert(key: int, part: str) -> Step:
    return Step(f"INSERT INTO {{t}} VALUES ({key}, '{part}', 700)", lambda rows: [*rows, (key, part, 700)])


def insert_select(key: int) -> Step:
    return Step(
        f"INSERT INTO {{t}} SELECT 7, p, v FROM {{t}} WHERE id = {key}",
        lambda rows: [*rows, *((7, p, v) for k, p, v in rows if k == key)],
    )


def delete(key: int) -> Step:
    return Step(f"DELETE FROM {{t}} WHERE id = {key}", lambda rows: [row for row in rows if row[0] != key])


def update(key: int) -> Step:
    return Step(
        f"UPDATE {{t}} SET v = v + 1 WHERE id = {key}",
        lambda rows: [(k, p, v + 1 if k == key else v) for k, p, v in rows],
    )


def merge(*keys: int) -> Step:
    source = ", ".join(f"({key}, 'a', 100)" for key in keys)

    def effect(rows: Rows) -> Rows:
        known = {row[0] for row in rows}
        updated = [(k, p, v + 100 if k in keys else v) for k, p, v in rows]
        return [*updated, *((key, "a", 100) for key in keys if key not in known)]

    return Step(
        f"MERGE INTO {{t}} AS t USING (SELECT * FROM (VALUES {source}) AS x (id, p, v)) AS s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET v = t.v + s.v WHEN NOT MATCHED THEN INSERT (id, p, v) VALUES (s.id, s.p, s.v)",
        effect,
    )


def merge_insert(key: int) -> Step:
    return Step(
        f"MERGE INTO {{t}} AS t USING (SELECT * FROM (VALUES ({key}, 'a', 100)) AS x (id, p, v)) AS s ON t.id = s.id "
        "WHEN NOT MATCHED THEN INSERT (id, p, v) VALUES (s.id, s.p, s.v)",
        lambda rows: rows if any(row[0] == key for row in rows) else [*rows, (key, "a", 100)],
    )


def upsert(key: int) -> Step:
    return Step(
        f"INSERT INTO {{t}} VALUES ({key}, 'a', 100) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        merged_by(key, 100),
    )


def merged_by(key: int, value: int) -> Callable[[Rows], Rows]:
    def effect(rows: Rows) -> Rows:
        if any(row[0] == key for row in rows):
            return [(k, p, value if k == key else v) for k, p, v in rows]
        return [*rows, (key, "a", value)]

    return effect


def overwrite(part: str) -> Step:
    return Step(
        f"INSERT OVERWRITE {{t}} PARTITION (p = '{part}') SELECT 8, 800",
        lambda rows: [*(row for row in rows if row[1] != part), (8, part, 800)],
    )


def replace_where(key: int, part: str = "a") -> Step:
    return Step(
        f"INSERT INTO {{t}} REPLACE WHERE id = {key} SELECT {key}, '{part}', 900",
        lambda rows: [*(row for row in rows if row[0] != key), (key, part, 900)],
    )


def truncate() -> Step:
    return Step("TRUNCATE TABLE {t}", lambda _: [])


def compact(*keys: int) -> Step:
    return Step("", lambda rows: rows, keys)


@dataclass(frozen=True)
class First:
    """One kind of A.

    Attributes:
        step: The statement.
        asks: A key and a partition that it asks for.
        ignores: A key and a partition that it does not ask for.
        same: A row that it changes, or may have read; None where there is none.
        beside: Another row of the same file; None where it takes whole files.
        away: A row of a file that it has nothing to do with; None where it takes all.
    """

    step: Step
    asks: tuple[int, str] = (1, "a")
    ignores: tuple[int, str] | None = (99, "a")
    same: int | None = 1
    beside: int | None = 2
    away: int | None = 3


FIRST = {
    "`INSERT ... VALUES`": First(insert(7, "a")),
    "`INSERT ... SELECT`": First(insert_select(1)),
    "`DELETE`": First(delete(1)),
    "`UPDATE`": First(update(1)),
    "`MERGE`, updating and inserting": First(merge(1, 7)),
    "`MERGE` of a new key": First(merge_insert(7), asks=(7, "a"), same=None, beside=None, away=1),
    "`ON CONFLICT` of a new key": First(upsert(7), asks=(7, "a"), same=None, beside=None, away=1),
    "`REPLACE WHERE`": First(replace_where(1)),
    "`INSERT OVERWRITE` of a partition": First(overwrite("a"), ignores=(99, "b"), beside=None, away=5),
    "`TRUNCATE`": First(truncate(), ignores=None, beside=None, away=None),
}


def changes_of(key: int) -> list[Step]:
    return [delete(key), update(key), merge(key), replace_where(key, "b" if key > 4 else "a")]


def seconds(column: int, first: First) -> list[Step]:
    """The kinds of B that a column is about."""
    match column:
        case 0:
            key, part = first.asks
            more = [merge_insert(key), upsert(key), merge(key)] if key == 7 else []
            return [insert(key, part), *more]
        case 1:
            return [] if first.ignores is None else [insert(*first.ignores)]
        case 2:
            return [] if first.same is None else [*changes_of(first.same), overwrite("a"), truncate()]
        case 3:
            return [] if first.beside is None else changes_of(first.beside)
        case 4:
            return [] if first.away is None else [*changes_of(first.away), overwrite("b")]
        case 5:
            return [] if first.same is None else [compact(1, 2)]
        case _:
            return [] if first.away is None else [compact(3, 4) if first.away == 3 else compact(5, 6)]


def cells() -> dict[tuple[str, int], str]:
    """What the matrix in the documentation says, by kind of A and number of the column."""
    lines = iter(DOC.read_text().splitlines())
    for line in lines:
        if line.startswith(HEAD):
            break
    next(lines)
    found: dict[tuple[str, int], str] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *values = (cell.strip() for cell in line.strip("|").split("|"))
        found |= {(name, column): value for column, value in enumerate(values)}
    return found


def expects_conflict(cell: str, isolation: str, mode: str) -> bool:
    match cell:
        case "conflict":
            return True
        case "serializable":
            return isolation == "serializable"
        case "other rows":  # files that stay, and not the same rows of them
            return isolation == "serializable" or mode == "copy-on-write"
    return False


def prepare(session: ice.Session, name: str, isolation: str, mode: str) -> str:
    """Make the table of the trials, and say where its metadata is."""
    kinds = ("delete", "update", "merge")
    properties = ", ".join(
        f"'write.{kind}.isolation-level' = '{isolation}', 'write.{kind}.mode' = '{mode}'" for kind in kinds
    )
    session.sql(f"CREATE TABLE {name} (id BIGINT, p STRING, v BIGINT) PARTITIONED BY (p) TBLPROPERTIES ({properties})")
    for start in (0, 2, 4):
        session.sql(f"INSERT INTO {name} VALUES {', '.join(map(str, BEFORE[start : start + 2]))}")
    return session.catalog.load_table(name).metadata_location


def run(session: ice.Session, step: Step, table: str) -> None:
    """Do it."""
    if step.compacts:
        rewrite(session, table, step.compacts)
    else:
        session.sql(step.sql.format(t=table))


def _as_replace(summary: Summary, previous_summary: Summary | None) -> Summary:
    """The summary of a compaction, of which PyIceberg does not make the totals."""
    return update_snapshot_summaries(summary, previous_summary).model_copy(update={"operation": Operation.REPLACE})


def rewrite(session: ice.Session, table: str, ids: tuple[int, ...]) -> None:
    """Put a copy in the place of the file with these rows."""
    handle = session._client.resolve(parse_name(table))
    (old,) = [
        file
        for manifest in handle.metadata.current_snapshot().manifests(handle.io)
        for file in (entry.data_file for entry in manifest.fetch_manifest_entry(handle.io))
        if int.from_bytes(file.lower_bounds[1], "little") == ids[0]
    ]
    path = old.file_path.replace(".parquet", f"-{session._clock.now_ms()}-anew.parquet")
    with handle.io.new_output(path).create(overwrite=True) as out, handle.io.new_input(old.file_path).open() as source:
        out.write(source.read())
    new = copy_of(old, file_path=path)
    with patch.object(fold, "update_snapshot_summaries", _as_replace):
        session._committer.commit(CommitRequest((TableChange(handle, FileChange(added=(new,), removed=(old,))),)))


def copy_of(file: DataFile, **changed: object) -> DataFile:
    """A file's entry with other values."""
    new = DataFile.from_args(**({name: getattr(file, name) for name in FIELDS} | changed))
    new.spec_id = file.spec_id
    return new


FIELDS = (
    "file_path",
    "content",
    "file_format",
    "partition",
    "record_count",
    "file_size_in_bytes",
    "column_sizes",
    "value_counts",
    "null_value_counts",
    "nan_value_counts",
    "lower_bounds",
    "upper_bounds",
    "split_offsets",
)


def after_both(a: Step, b: Step) -> Counter[Row]:
    """What is there when both have begun from the same state, and neither knows of the other."""
    before = Counter(BEFORE)
    of_a, of_b = Counter(a.effect(BEFORE)), Counter(b.effect(BEFORE))
    gone_a, gone_b = before - of_a, before - of_b
    assert not gone_a & gone_b, "both removed a row"
    return before - gone_a - gone_b + (of_a - before) + (of_b - before)


def in_some_order(a: Step, b: Step) -> list[Counter[Row]]:
    """What is there when one came after the other."""
    return [Counter(b.effect(a.effect(BEFORE))), Counter(a.effect(b.effect(BEFORE)))]
