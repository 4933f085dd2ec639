"""Statements and what must come of them, as data: the format of the ``.slt`` files, and what runs them.

A file is a list of records with blank lines between them; lines that begin with ``#`` are comments. Records belong to
the case before them, and each case begins with no table and the empty namespace ``ns``::

    case <title>
    not on <kinds>                   catalogs that this is not for, with the reason in a comment above
    setup                            a script of SQL, outside of what is tested; stands directly behind the case
    evolve <hook> <words>            a change by PyIceberg that SQL has no words for, see HOOKS; part of the setup
    source <name>                    a query whose result is passed to all statements of the case as an Arrow table
    statement ok
    statement definition             changes the metadata of its table, and neither rows nor snapshots
    statement count <n>              so many rows in all were inserted, updated or deleted
    statement counts <i> <u> <d>     ... or each by itself; with rows behind ``----``, those that RETURNING gives
    statement error <class> <regex>  the regex is looked for in the whole message
    query [ordered]                  the rows behind ``----``, in any order unless ``ordered``
    files [<mode>] +<a> -<r>         data files that the statement before added to its table and removed from it
    explain <regex>                  EXPLAIN of the statement says this, and nothing changes

In rows, values stand apart by one blank; text that is empty, has blanks in it, or reads NULL is in quotes.

Each case is run twice in each write mode. *Alone*, each statement is a commit, which has to be one snapshot where rows
changed and none where not (``snapshots=<n>`` behind the counts says otherwise), and a statement that fails must leave
no file behind. *In a block*, all statements are one transaction, first rolled back, after which rows, snapshots and
files must be what they were, then run again and committed as one snapshot a table. Rows are read back by a fresh
session, and in the end by PyIceberg as well. On catalogs and stores other than the embedded one each case is run once,
the ways taking turns.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol, get_args

import pyarrow as pa
from conformance_hooks import HOOKS

import icefusion as ice
from icefusion.config import WriteMode

MODES: tuple[WriteMode, ...] = ("copy-on-write", "merge-on-read")
assert set(MODES) <= set(get_args(WriteMode))


@dataclass
class Record:
    """One record: its line in the file, its head, the SQL below, and the rows that are expected, if any are."""

    line: int
    words: list[str]
    sql: str = ""
    expected: list[str] | None = None

    @property
    def kind(self) -> str:
        return self.words[0]


@dataclass
class Case:
    title: str
    line: int
    not_on: list[str] = field(default_factory=list)
    setup: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def read_cases(path: Path) -> list[Case]:
    cases: list[Case] = []
    lines = iter(enumerate(path.read_text().splitlines(), start=1))
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        record = Record(number, line.split())
        if record.kind == "case":
            cases.append(Case(line.split(maxsplit=1)[1], number))
            continue
        body: list[str] = []
        for _, below in lines:
            if not below.strip():
                break
            if below == "----" and record.expected is None:
                record.sql, body = "\n".join(body), []
                record.expected = body
            else:
                body.append(below)
        if record.expected is None:
            record.sql = "\n".join(body)
        if record.words[:2] == ["not", "on"]:
            cases[-1].not_on += record.words[2:]
            continue
        if record.kind in ("setup", "evolve", "source"):
            assert not cases[-1].records, f"line {number}: the setup of a case stands before its statements"
            cases[-1].setup.append(record)
        else:
            assert record.kind in ("statement", "query", "files", "explain"), f"line {number}: {line}"
            cases[-1].records.append(record)
    return cases


def shown(value: Any) -> str:
    """A value as it is written in the rows of a file."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return "NaN" if math.isnan(value) else repr(value)
        case bytes():
            return f"x'{value.hex()}'"
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dict():
            return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(shown, value)) + "]"
        case str() if not value or value == "NULL" or " " in value:
            return f"'{value}'"
    return str(value)


def rows_of(table: pa.Table) -> list[str]:
    return [" ".join(map(shown, row.values())) for row in _records(table)]


def _records(table: pa.Table) -> Iterator[dict[int, Any]]:
    columns = [column.to_pylist() for column in table.columns]
    for row in zip(*columns, strict=True):
        yield dict(enumerate(row))


@dataclass(frozen=True)
class State:
    """What the tables are for others, and what is on the disk."""

    rows: dict[str, list[str]]
    snapshots: dict[str, list[int]]
    files: frozenset[str]


class Warehouse(Protocol):
    """Where cases are run. Nobody else uses its namespace ``ns`` meanwhile."""

    def connect(self) -> ice.Session:
        """A session of its own."""

    def reading(self) -> AbstractContextManager[ice.Session]:
        """Another session, to read what was committed."""

    def files(self) -> frozenset[str]:
        """Whatever lies there, the catalog itself left out."""


class Folder:
    """The embedded catalog in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> ice.Session:
        return ice.connect(self.path)

    def reading(self) -> ice.Session:
        return self.connect()

    def files(self) -> frozenset[str]:
        return frozenset(
            str(path.relative_to(self.path))
            for path in self.path.rglob("*")
            if path.is_file() and not path.name.startswith("catalog.db")
        )


class CaseRun:
    """One case in one write mode."""

    def __init__(self, case: Case, mode: WriteMode, warehouse: Warehouse) -> None:
        self._case, self._mode, self._warehouse = case, mode, warehouse
        self._sources: dict[str, pa.Table] = {}

    def alone(self) -> None:
        with self._prepared() as session:
            before = self._state(session, rows=False)
            for place, record in enumerate(self._case.records):
                said = self._said_of_files(place) if record.kind == "statement" else None
                listed = self._data_files(session, record.sql) if said else set()
                self._run(session, record, fresh=True)
                if record.kind in ("statement", "explain"):
                    after = self._state(session, rows=False)
                    self._check_step(record, before, after)
                    before = after
                if said is not None:
                    now = self._data_files(session, record.sql)
                    changed = [f"+{len(now - listed)}", f"-{len(listed - now)}"]
                    _equal(said.line, "files", changed, said.words[-2:])
            self._state(session, by_pyiceberg=True)

    def block(self) -> None:
        with self._prepared() as session:
            before = self._state(session)
            session.sql("BEGIN")
            for record in self._case.records:
                self._run(session, record)
            session.sql("ROLLBACK")
            after = self._state(session)
            assert after == before, f"line {self._case.line}: the rollback left something behind\n{before}\n{after}"
            session.sql("BEGIN")
            for record in self._case.records:
                self._run(session, record)
            inside = {name: sorted(rows_of(session.sql(f"SELECT * FROM {name}").to_arrow())) for name in before.rows}
            session.sql("COMMIT")
            after = self._state(session, by_pyiceberg=True)
            _equal(self._case.line, "rows once committed", after.rows, inside)
            for name, earlier in before.snapshots.items():
                made = len(after.snapshots[name]) - len(earlier)
                assert made <= 1, f"line {self._case.line}: the block made {made} snapshots of {name}"
                defines = any(record.words[1:2] == ["definition"] for record in self._case.records)
                assert made == 1 or defines or after.rows[name] == before.rows[name]

    def _said_of_files(self, place: int) -> Record | None:
        """What is said of the files of a statement, in this mode."""
        for record in self._case.records[place + 1 :]:
            if record.kind != "files":
                break
            if len(record.words) == 3 or self._mode in record.words:
                return record
        return None

    def _prepared(self) -> ice.Session:
        session = self._warehouse.connect()
        session.sql("CREATE NAMESPACE IF NOT EXISTS ns")
        for name in session.catalog.list_tables("ns"):
            session.catalog.drop_table(name)
        self._sources = {}
        for record in self._case.setup:
            if record.kind == "evolve":
                HOOKS[record.words[1]](session.catalog, *record.words[2:])
            elif record.kind == "source":
                self._sources[record.words[1]] = session.sql(record.sql).to_arrow()
            else:
                session.sql(record.sql)
        return session

    def _run(self, session: ice.Session, record: Record, *, fresh: bool = False) -> None:
        sources = {name: value for name, value in self._sources.items() if re.search(rf"\b{name}\b", record.sql)}
        if record.kind == "query" and fresh:
            with self._warehouse.reading() as other:
                rows = rows_of(other.sql(record.sql, **sources).to_arrow())
                self._check_rows(record, rows)
        elif record.kind == "query":
            self._check_rows(record, rows_of(session.sql(record.sql, **sources).to_arrow()))
        elif record.kind == "explain":
            text = "\n".join(rows_of(session.sql(f"EXPLAIN {record.sql}", **sources).to_arrow()))
            pattern = " ".join(record.words[1:])
            assert re.search(pattern, text), f"line {record.line}: no {pattern!r} in\n{text}"
        elif record.kind == "statement" and record.words[1] == "error":
            try:
                result = session.sql(record.sql, write_mode=self._mode, **sources)
            except ice.IcefusionError as error:
                self._check_error(record, error)
            else:
                raise AssertionError(f"line {record.line}: no error, and {result.fetchall()}")
        elif record.kind == "statement":
            result = session.sql(record.sql, write_mode=self._mode, **sources)
            counts = [result.rows_inserted, result.rows_updated, result.rows_deleted]
            words = [word for word in record.words[2:] if "=" not in word]
            found: dict[str, list[str]] = {"definition": [], "count": [str(sum(counts))], "ok": []}
            found["counts"] = [str(count) for count in counts]
            _equal(record.line, "counts", found[record.words[1]], words)
            if record.expected is not None:
                self._check_rows(record, rows_of(result.to_arrow()))

    def _check_error(self, record: Record, error: ice.IcefusionError) -> None:
        pattern, story = " ".join(record.words[3:]), f"line {record.line}: {type(error).__name__}: {error}"
        assert type(error).__name__ == record.words[2], story
        assert re.search(pattern, str(error)), f"{story}\n  which {pattern!r} is not in"

    def _check_rows(self, record: Record, rows: list[str]) -> None:
        expected = record.expected or []
        if "ordered" not in record.words:
            rows, expected = sorted(rows), sorted(expected)
        _equal(record.line, "rows", rows, expected)

    def _check_step(self, record: Record, before: State, after: State) -> None:
        made = sum(len(now) - len(before.snapshots[name]) for name, now in after.snapshots.items())
        options = dict(word.split("=") for word in record.words if re.fullmatch(r"snapshots=\d+", word))
        if record.kind == "explain" or record.words[1] == "error":
            assert after == before or record.kind == "query", f"line {record.line}: something is left behind"
        elif record.words[1] == "definition":
            assert not made, f"line {record.line}: {made} snapshots were made"
            added = sorted(after.files - before.files)
            assert added, f"line {record.line}: the metadata is what it was"
            assert all(name.endswith(".metadata.json") for name in added), f"line {record.line}: {added}"
            return
        elif record.words[1] != "ok" or options:
            total = sum(int(word) for word in record.words[2:] if "=" not in word)
            _equal(record.line, "snapshots", made, int(options.get("snapshots", min(total, 1))))
        if not made:
            left = sorted(after.files - before.files)
            assert not left, f"line {record.line}: nothing changed, and there are {left}"

    def _state(self, session: ice.Session, *, rows: bool = True, by_pyiceberg: bool = False) -> State:
        tables = {".".join(name): session.catalog.load_table(name) for name in session.catalog.list_tables("ns")}
        found: dict[str, list[str]] = {}
        if rows:
            with self._warehouse.reading() as other:
                found = {name: sorted(rows_of(other.sql(f"SELECT * FROM {name}").to_arrow())) for name in tables}
        if by_pyiceberg:
            for name, table in tables.items():
                _equal(self._case.line, f"{name} by PyIceberg", sorted(rows_of(table.scan().to_arrow())), found[name])
        return State(
            found if rows else {name: [] for name in tables},
            {name: [snapshot.snapshot_id for snapshot in table.metadata.snapshots] for name, table in tables.items()},
            self._warehouse.files(),
        )

    def _data_files(self, session: ice.Session, sql: str) -> set[str]:
        name = re.findall(r"ns\.\w+", sql)[0]
        return {task.file.file_path for task in session.catalog.load_table(name).scan().plan_files()}


def _equal(line: int, what: str, found: Any, expected: Any) -> None:
    assert found == expected, f"line {line}: {what}\n  found    {found}\n  expected {expected}"


def run_file(path: Path, mode: WriteMode, folder: Path) -> list[str]:
    """The failures of a file, all of its cases having been tried."""
    failures = []
    for number, case in enumerate(read_cases(path)):
        for way in ("alone", "block"):
            run = CaseRun(case, mode, Folder(folder / f"{number}-{way}"))
            try:
                getattr(run, way)()
            except Exception as error:
                failures.append(f"{path.name}: {case.title}, {way}, {mode}: {type(error).__name__}: {error}")
    return failures


def run_file_once(
    path: Path, warehouses: Sequence[Warehouse], *, turn: int, kind: str, blocks: bool, limits: str | None = None
) -> list[str]:
    """The failures of a file, each case having been tried once: in one mode and one way, which take turns.

    Args:
        path: The file.
        warehouses: Where they are run, in turns as well.
        turn: With which of the ways the first case begins.
        kind: What cases say ``not on`` of.
        blocks: Whether several tables can be committed all or none; otherwise each statement is a commit.
        limits: What a server says to what it cannot do at all; such cases are left as they are.
    """
    failures = []
    turns = list(product(MODES, ("alone", "block")))
    for number, case in enumerate(read_cases(path), start=turn):
        mode, way = turns[number % len(turns)]
        if kind in case.not_on:
            continue
        run = CaseRun(case, mode, warehouses[number // 2 % len(warehouses)])
        try:
            getattr(run, way if blocks else "alone")()
        except Exception as error:
            if limits is not None and re.search(limits, str(error)):
                continue
            failures.append(f"{path.name}: {case.title}, {way}, {mode}: {type(error).__name__}: {error}")
    return failures
