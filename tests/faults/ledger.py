"""Judge a history: does what was answered agree with what lies in the tables, and with what readers were shown?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import keyed
from fault_bench import Warehouse, look_inside, rows_of
from pyiceberg.table import Table
from simulation import ROW, History

from icefusion.commit.idempotency import SUMMARY_KEY


def check(history: History, warehouse: Warehouse) -> None:
    """Raise `AssertionError` at the first promise that was not kept."""
    if history.errors:
        raise AssertionError("an error that is none of ours") from history.errors[0]
    tables = {name: warehouse.catalog.load_table(f"ns.{name}") for name in ("t", "u")}
    keyed_tables = {name: warehouse.catalog.load_table(f"ns.{name}") for name in keyed.FIRST}
    inside = {name: look_inside(table) for name, table in (tables | keyed_tables).items()}
    named: set[str] = set().union(*(found.files for found in inside.values()))
    missing = {path for path in named if not Path(path).exists()}
    assert not missing, f"files that metadata names are missing: {missing}"
    snapshots = {
        name: [[row for file in files for row in rows_of(file)] for files in found.added.values()]
        for name, found in inside.items()
        if name in tables
    }
    for name, table in tables.items():
        _check_line(table)
        _check_totals(table, snapshots[name])
    for table in keyed_tables.values():
        _check_line(table)
    histories = {name: keyed.states(table, SUMMARY_KEY) for name, table in keyed_tables.items()}
    keyed.check_changes(history.changes, history.keyed_reads, histories)
    _check_writes(history, snapshots, tables["t"].schema().column_names)
    _check_counts(history, snapshots["t"])
    _check_reads(history)
    _check_fleeting(history, warehouse)
    if not history.may_leave:
        left = {path for path in warehouse.files() - named if "/ns/d/" not in path}
        assert not left, f"files were left behind: {left}"


def _check_line(table: Table) -> None:
    snapshots = table.snapshots()
    parents = [snapshot.parent_snapshot_id for snapshot in snapshots]
    assert parents == [None, *[snapshot.snapshot_id for snapshot in snapshots]][: len(snapshots)], "not one line"
    numbers = [snapshot.sequence_number or 0 for snapshot in snapshots]
    assert numbers == sorted(set(numbers)), "sequence numbers do not grow"


def _check_totals(table: Table, snapshots_rows: list[list[int]]) -> None:
    rows = 0
    for snapshot, added in zip(table.snapshots(), snapshots_rows, strict=True):
        rows += len(added)
        assert snapshot.summary is not None
        assert snapshot.summary["total-records"] == str(rows), "a total is wrong"


def _check_writes(history: History, snapshots: dict[str, list[list[int]]], columns: list[str]) -> None:
    found = {name: Counter(row % ROW for added in all_added for row in added) for name, all_added in snapshots.items()}
    for name, rows in found.items():
        doubled = [row for row, times in rows.items() if times > 1]
        assert not doubled, f"rows {doubled} of {name} are there more than once"
        asked = {row for write in history.writes for row in write.rows.get(name, ())}
        assert set(rows) <= asked, "rows that nobody wrote"
    assert set(columns) <= {"id", *(write.column for write in history.writes)}, "columns that nobody added"
    assert len(set(columns)) == len(columns)
    for write in history.writes:
        if "d" in write.rows:
            continue
        there = [row in found[name] for name, rows in write.rows.items() for row in rows]
        there += [write.column in columns] if write.column is not None else []
        story = f"write {write.number} {write.rows} {write.column or ''} was answered {write.answer!r}"
        assert all(there) or not any(there), f"{story}, and a part of it is there"
        if write.answer == "committed":
            assert all(there), f"{story}, and is not there"
        elif write.answer in ("failed", "rolled back"):
            assert not any(there), f"{story}, and is there"
        for name, rows in write.rows.items():
            holding = [added for added in snapshots[name] if {row % ROW for row in added} & set(rows)]
            assert len(holding) <= 1, f"{story}, in several snapshots"
            assert all({row % ROW for row in added} == set(rows) for added in holding), f"{story}, not alone"


def _check_counts(history: History, snapshots: list[list[int]]) -> None:
    counting = {write.rows["t"][0] for write in history.writes if write.counts}
    rows = 0
    for added in snapshots:
        for row in added:
            if row % ROW in counting:
                assert row // ROW == rows, f"row {row % ROW} counted {row // ROW} rows where there were {rows}"
        rows += len(added)


def _check_fleeting(history: History, warehouse: Warehouse) -> None:
    """A table that is dropped and made anew has what was asked for since, and what is not there twice."""
    if not warehouse.catalog.table_exists("ns.d"):
        return
    inside = look_inside(warehouse.catalog.load_table("ns.d"))
    assert all(Path(path).exists() for path in inside.files), "files that the new table names are missing"
    rows = Counter(row for files in inside.added.values() for file in files for row in rows_of(file))
    assert not rows or max(rows.values()) == 1, "a row of the new table is there twice"
    for write in history.writes:
        there = [row in rows for row in write.rows.get("d", ())]
        story = f"write {write.number} to a table made anew was answered {write.answer!r}"
        assert all(there) or not any(there), f"{story}, and a part of it is there"
        if write.answer == "committed" and write.asked_at > history.made_anew_at:
            assert all(there), f"{story}, and is not there"
        if write.answer == "failed":
            assert not any(there), f"{story}, and is there"


def _check_reads(history: History) -> None:
    for read in history.reads:
        assert read.first == read.second or sorted(read.first) == sorted(read.second), "a read was not stable"
        rows = Counter(read.first)
        assert not rows or max(rows.values()) == 1, "a reader was shown a row twice"
        for write in history.writes:
            there = [row in rows for row in write.rows.get(read.table, ())]
            story = f"write {write.number}, answered {write.answer!r} at {write.answered_at}"
            assert all(there) or not any(there), f"a reader was shown a part of {story}"
            if write.answer == "committed" and write.answered_at <= read.began_at:
                assert all(there), f"a reader at {read.began_at} was not shown {story}"
            if write.answer in ("failed", "rolled back"):
                assert not any(there), f"a reader was shown {story}"
