"""A warehouse that can be put back to where it began, faults at each step of what is done in it, and eyes from outside.

A *step* is anything that a crash, an interrupt or a broken connection can come before or after: a file is opened,
created, closed or deleted, a statement goes to the catalog's database, its transaction is committed. `Faults` counts
the steps of one operation, and strikes at the one it is told to; the tests run an operation again and again, with the
fault one step later each time, until it completes untouched.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier
from sqlalchemy import Engine, event

import icefusion as ice
from icefusion.testing import FakeClock, FaultyIO, ScriptedCatalog

KINDS: dict[str, Callable[[str], BaseException]] = {
    "error": lambda step: (
        sqlite3.OperationalError("disk I/O error") if _is_sql(step) else OSError(5, f"fault at {step}")
    ),
    "reset": lambda step: ConnectionResetError(f"fault at {step}"),
    "time_out": lambda step: TimeoutError(f"fault at {step}"),
    "conflict": lambda step: CommitFailedException(f"fault at {step}"),
    "interrupt": lambda step: KeyboardInterrupt(f"fault at {step}"),
    "exit": lambda step: SystemExit(f"fault at {step}"),
    "memory": lambda step: MemoryError(f"fault at {step}"),
    "dead": lambda step: SystemExit(f"dead since {step}"),
}
# Between these the reply can be lost; before them nothing can have landed.
POINTS_OF_NO_RETURN = ("sql COMMIT", "sql COMMITTED", "swap", "swapped")
INTERRUPTS = (KeyboardInterrupt, SystemExit, MemoryError)


def scratch_folder() -> Path:
    """A new folder, in memory where the system has a place for that."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="icefusion-faults-", dir=shared if shared.is_dir() else None))


class Faults:
    """Counts steps, and strikes at one of them.

    Attributes:
        steps: What happened since it was armed.
        struck: The step at which the fault came; None while it has not.
        deletes_fail: Whether every delete after the fault fails as well.
        rival: Called once, when the first metadata file is about to be written: somebody else who is faster.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.struck: str | None = None
        self.deletes_fail = False
        self.rival: Callable[[], object] | None = None
        self._armed = False
        self._after: str | None = None
        self._only: Collection[str] = ()
        self._at = 0
        self._kind = "error"
        self._lock = threading.Lock()

    def arm(self, kind: str, at: int, *, after: str | None = None, only: Collection[str] = ()) -> None:
        """Begin to count, perhaps only certain steps or after a certain one, and strike at a step, from 1."""
        self.steps, self.struck, self._after, self._only = [], None, after, only
        self._kind, self._at, self._armed = kind, at, True

    def disarm(self) -> None:
        """Let everything pass."""
        self._armed = False

    def step(self, step: str) -> None:
        """Something is about to happen, or has just happened."""
        if not self._armed:
            return
        with self._lock:
            if self._after is not None:
                self._after = None if step == self._after else self._after
                return
            if self.struck is not None:
                if self._kind == "dead":
                    raise KINDS["dead"](self.struck)
                if self.deletes_fail and step.startswith("delete "):
                    raise PermissionError(13, "deletes are not allowed")
                return
            if self._only and step not in self._only:
                return
            self.steps.append(step)
            if len(self.steps) == self._at:
                self.struck = step
        if self.struck is not None:
            raise KINDS[self._kind](step)
        if self.rival is not None and step in ("create metadata.json", "swap"):
            rival, self.rival, self._armed = self.rival, None, False
            rival()
            self._armed = True

    def in_storage(self, catalog: Catalog, *, server_side: Collection[str] = ()) -> None:
        """Count what a catalog's tables do in storage, but for the files that a server would write."""

        def told(step: str, path: str) -> None:
            kind = kind_of_file(path)
            if kind not in server_side:
                self.step(f"{step} {kind}")

        FaultyIO.install(catalog, told)

    def in_database(self, engine: Engine) -> None:
        """Count what goes to the database of a SQL catalog."""
        dialect = engine.dialect
        commit, rollback = dialect.do_commit, dialect.do_rollback

        def execute(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            self.step(f"sql {statement.split(maxsplit=1)[0]}")

        def do_commit(connection: Any) -> None:
            self.step("sql COMMIT")
            commit(connection)
            self.step("sql COMMITTED")

        def do_rollback(connection: Any) -> None:
            self.step("sql ROLLBACK")
            rollback(connection)

        event.listen(engine, "before_cursor_execute", execute)
        dialect.do_commit = do_commit  # type: ignore[method-assign]
        dialect.do_rollback = do_rollback  # type: ignore[method-assign]

    def in_commits(self, catalog: ScriptedCatalog) -> None:
        """Count the commits and the loads of a catalog that moves one table at a time."""
        load = catalog.load_table

        def load_table(identifier: Any) -> Table:
            self.step("load")
            return load(identifier)

        catalog.load_table = load_table  # type: ignore[method-assign]
        catalog.before_commit = lambda: self.step("swap")
        catalog.after_commit = lambda: self.step("swapped")


def _is_sql(step: str) -> bool:
    return step.startswith("sql ")


def kind_of_file(path: str) -> str:
    """What a file of a table is, by its name."""
    name = path.rsplit("/", 1)[-1]
    if name.startswith("snap-"):
        return "manifest list"
    return "manifest" if name.endswith(".avro") else name.split(".", 1)[-1]


_ONE_TABLE = "catalog_name = ? AND table_namespace = ? AND table_name = ?"


@dataclass
class Seen:
    """What somebody else finds in a warehouse.

    Attributes:
        rows: The ids in each table, sorted.
        columns: The names of the columns of each table.
        missing: Files that metadata names and the disk lacks.
        leftovers: Files on the disk that no metadata names.
    """

    rows: dict[str, list[int]] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    leftovers: set[str] = field(default_factory=set)


class PlainCatalog(SqlCatalog):
    """PyIceberg's SQL catalog, whose two frequent calls go to SQLite directly: the ORM takes most of their time.

    It stands for a server: what it does is not looked into, only asked for.
    """

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._database = sqlite3.connect(
            properties["uri"].removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )

    def load_table(self, identifier: str | Identifier) -> Table:
        """The newest state."""
        *namespace, name = self.identifier_to_tuple(identifier)
        query = f"SELECT metadata_location FROM iceberg_tables WHERE {_ONE_TABLE}"
        found = self._database.execute(query, (self.name, ".".join(namespace), name)).fetchone()
        if found is None:
            raise NoSuchTableError(f"Table does not exist: {identifier}")
        file = load_file_io(self.properties, found[0]).new_input(found[0])
        metadata = FromInputFile.table_metadata(file)
        io = self._load_file_io(metadata.properties, found[0])
        return Table((*namespace, name), metadata, found[0], io, self)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Compare and swap."""
        if not self.table_exists(table.name()):
            return super().commit_table(table, requirements, updates)
        current = self.load_table(table.name())
        staged = self._update_and_stage_table(current, table.name(), requirements, updates)
        self._write_metadata(staged.metadata, staged.io, staged.metadata_location)
        *namespace, name = table.name()
        swapped = self._database.execute(
            f"UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? WHERE {_ONE_TABLE} "
            "AND metadata_location = ?",
            (
                staged.metadata_location,
                current.metadata_location,
                self.name,
                ".".join(namespace),
                name,
                current.metadata_location,
            ),
        )
        if swapped.rowcount != 1:
            raise CommitFailedException("somebody else was faster")
        return CommitTableResponse(metadata=staged.metadata, metadata_location=staged.metadata_location)

    def close(self) -> None:
        """Give back all connections."""
        self._database.close()
        super().close()


class Warehouse:
    """A folder with an embedded catalog, which can be put back to where it was.

    Attributes:
        folder: Where it is.
        catalog: PyIceberg's own, which has no part in what is done.
        before: What was to be seen in the beginning.
    """

    def __init__(self, prepare: Callable[[ice.Session], None], root: Path | None = None) -> None:
        self._root = root or scratch_folder()
        self.folder = self._root / "warehouse"
        self._template = self._root / "template"
        with ice.connect(self.folder, threads=1) as session:
            session.sql("CREATE NAMESPACE ns")
            prepare(session)
        self.catalog = self.outside()
        self._known: dict[str, tuple[list[int], set[str]]] = {}
        self.before = self.look()
        shutil.copytree(self.folder, self._template)

    def reset(self) -> None:
        """Put everything back."""
        self.catalog.engine.dispose()
        for path in self.folder.rglob("*"):
            if path.is_file() and (
                path.name.startswith("catalog.db")
                or not self._template.joinpath(path.relative_to(self.folder)).exists()
            ):
                path.unlink()
        for path in self._template.rglob("*"):
            target = self.folder / path.relative_to(self._template)
            if path.is_file() and not target.exists():
                shutil.copy(path, target)

    def remove(self) -> None:
        """Delete the folder."""
        self.catalog.close()
        shutil.rmtree(self._root)

    def outside(self) -> SqlCatalog:
        """A catalog of somebody else's."""
        return SqlCatalog("default", uri=f"sqlite:///{self.folder / 'catalog.db'}", warehouse=self.folder.as_uri())

    def server(self) -> PlainCatalog:
        """What stands for a server that moves one table at a time."""
        return PlainCatalog("default", uri=f"sqlite:///{self.folder / 'catalog.db'}", warehouse=self.folder.as_uri())

    def connect(self, faults: Faults, *, generic: bool = False) -> ice.Session:
        """A session whose steps are counted, on the SQL catalog or on one that moves one table at a time."""
        if not generic:
            session = ice.connect(self.folder, threads=1, clock=FakeClock())
            faults.in_storage(session.catalog)
            faults.in_database(session.catalog.engine)
            return session
        catalog = ScriptedCatalog(self.outside())
        faults.in_storage(catalog._inner, server_side=("metadata.json",))
        faults.in_commits(catalog)
        return ice.connect(catalog=catalog, threads=1, clock=FakeClock())

    def look(self) -> Seen:
        """What PyIceberg finds, which has no part in what was done, and a look at the disk."""
        seen = Seen()
        referenced: set[str] = set()
        for identifier in self.catalog.list_tables("ns"):
            table = self.catalog.load_table(identifier)
            # A table that nobody touched is read once.
            known = self._known.get(table.metadata_location)
            files = known[1] if known else look_inside(table).files
            referenced |= files
            seen.columns[identifier[-1]] = table.schema().column_names
            seen.missing |= {path for path in files if not Path(path).exists()}
            if not seen.missing:
                rows = known[0] if known else sorted(table.scan().to_arrow()["id"].to_pylist())
                seen.rows[identifier[-1]] = rows
                if not self._template.exists():
                    self._known[table.metadata_location] = (rows, files)
        seen.leftovers = self.files() - referenced
        return seen

    def files(self) -> set[str]:
        """Every file of a table, by its absolute path."""
        return {str(p) for p in self.folder.rglob("*.*") if p.is_file() and not p.name.startswith("catalog.db")}


@dataclass
class Inside:
    """What the metadata of a table names.

    Attributes:
        files: Every file: metadata and those of its log, lists, manifests, data files.
        added: The data files of the newest snapshot, by the snapshot that added them, oldest first.
    """

    files: set[str]
    added: dict[int, list[str]]


def look_inside(table: Table) -> Inside:
    """Follow everything that a table's metadata names, each file once; what is missing is named and not followed."""
    metadata = table.metadata
    files = {_path(table.metadata_location), *(_path(entry.metadata_file) for entry in metadata.metadata_log)}
    added: dict[int, list[str]] = {snapshot.snapshot_id: [] for snapshot in metadata.snapshots}
    followed: dict[str, list[tuple[int, str]]] = {}
    for snapshot in metadata.snapshots:
        files.add(_path(snapshot.manifest_list))
        if not Path(_path(snapshot.manifest_list)).exists():
            continue
        for manifest in snapshot.manifests(table.io):
            path = _path(manifest.manifest_path)
            files.add(path)
            if path not in followed and Path(path).exists():
                entries = manifest.fetch_manifest_entry(table.io)
                followed[path] = [(e.snapshot_id or 0, _path(e.data_file.file_path)) for e in entries]
                files |= {file for _, file in followed[path]}
            if snapshot.snapshot_id == metadata.current_snapshot_id:
                for snapshot_id, file in followed.get(path, ()):
                    added.setdefault(snapshot_id, []).append(file)
    return Inside(files, added)


def rows_of(path: str) -> list[int]:
    """The ids in a data file."""
    with pq.ParquetFile(path) as file:
        return file.read(["id"])["id"].to_pylist()


def _path(location: str) -> str:
    return location.removeprefix("file://")
