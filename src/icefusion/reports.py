"""What happened, as frozen values, and who is told.

A reporter is anything with a ``report(event)`` method. It is told after the fact, on the thread that did the work; what
it raises is logged and goes no further, because a report must never undo what it reports.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

__all__ = [
    "CommitReport",
    "InMemoryReporter",
    "LoggingReporter",
    "Report",
    "Reporter",
    "RowCounts",
    "ScanReport",
    "StatementReport",
    "WriteReport",
]

logger = logging.getLogger("icefusion")


@dataclass(frozen=True)
class RowCounts:
    """Rows that a change has added, changed and removed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)

    @property
    def total(self) -> int:
        """All rows that were touched."""
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class ScanReport:
    """Which files a scan of one table reads, and how many it could leave out.

    Attributes:
        table: The table's full name.
        snapshot_id: The snapshot that is read; None for a table without one.
        manifests_total: Manifests of the snapshot.
        manifests_read: Manifests that could not be left out by their partition summaries.
        files_total: Data files in the manifests that were read.
        files_read: Data files that could hold a matching row.
        delete_files: Delete files that apply to any of them.
        bytes_read: Their size in storage.
        planning_s: Seconds that planning took.
        fallback: Why files are read through PyIceberg's file access, which is slower than the engine's own client;
            None where the engine reads all of them itself.
    """

    table: str
    snapshot_id: int | None
    manifests_total: int = 0
    manifests_read: int = 0
    files_total: int = 0
    files_read: int = 0
    delete_files: int = 0
    bytes_read: int = 0
    planning_s: float = 0.0
    fallback: str | None = None


@dataclass(frozen=True)
class WriteReport:
    """What a write left in storage.

    Attributes:
        table: The table's full name.
        rows: Rows written.
        files: Data files written.
        bytes: Their size in storage.
        partitions: Partitions that the rows fell in.
        spilled_bytes: Bytes that went through temporary files on the way.
        seconds: Seconds from the first row asked for to the last file closed.
    """

    table: str
    rows: int = 0
    files: int = 0
    bytes: int = 0
    partitions: int = 0
    spilled_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CommitReport:
    """How a commit went.

    Attributes:
        table: The table's full name, with ``.branch_name`` behind it where another branch than the main one moved.
        snapshot_id: The snapshot that was committed; None where the change makes none.
        operation: ``append``, ``overwrite``, ``delete`` or ``replace`` where a snapshot was made; otherwise what became
            of the table: ``create``, ``alter``, ``replace table`` or ``drop``.
        attempts: How often the swap was tried.
        added_files: Data files added.
        removed_files: Data files removed.
        added_delete_files: Delete files added.
        removed_delete_files: Delete files removed.
        added_rows: Rows in the added data files.
        seconds: Seconds that the commit took, waits included.
    """

    table: str
    snapshot_id: int | None
    operation: str
    attempts: int = 1
    added_files: int = 0
    removed_files: int = 0
    added_delete_files: int = 0
    removed_delete_files: int = 0
    added_rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class StatementReport:
    """What one statement did.

    Attributes:
        statement: The kind of statement, e.g. ``INSERT``.
        seconds: Seconds in all.
        scans: One for each table that was read.
        writes: One for each table that was written.
        commits: One for each snapshot that was made; empty inside a transaction.
        rows: Rows that it added, changed and removed.
        mode: ``copy-on-write`` or ``merge-on-read`` for row-level changes; None for other statements.
        removed_files: Data files that it removed or wrote anew.
        rewritten_bytes: Size of the files that were written anew.
        phases: Seconds by phase, for row-level changes.
    """

    statement: str
    seconds: float = 0.0
    scans: tuple[ScanReport, ...] = ()
    writes: tuple[WriteReport, ...] = ()
    commits: tuple[CommitReport, ...] = ()
    rows: RowCounts = field(default_factory=RowCounts)
    mode: str | None = None
    removed_files: int = 0
    rewritten_bytes: int = 0
    phases: tuple[tuple[str, float], ...] = ()


Report = ScanReport | WriteReport | CommitReport | StatementReport


@runtime_checkable
class Reporter(Protocol):
    """Whoever wants to be told."""

    def report(self, event: Report) -> None:
        """Take note of one event."""
        ...


class LoggingReporter:
    """Writes each event to the ``icefusion`` logger at level INFO, as ``key=value`` pairs."""

    def report(self, event: Report) -> None:
        """Log one event."""
        pairs = " ".join(f"{f.name}={getattr(event, f.name)!r}" for f in fields(event))
        logger.info("%s %s", type(event).__name__, pairs)


class InMemoryReporter:
    """Keeps each event in a list; for tests and notebooks."""

    def __init__(self) -> None:
        self.events: list[Report] = []
        self._lock = threading.Lock()

    def report(self, event: Report) -> None:
        """Keep one event."""
        with self._lock:
            self.events.append(event)


def tell(reporter: Reporter | None, event: Report) -> None:
    """Hand an event to a reporter; what the reporter raises is logged and goes no further."""
    if reporter is None:
        return
    try:
        reporter.report(event)
    except Exception:  # whatever it is, a report must never undo what it reports
        logger.warning("reporter %r failed on %s", reporter, type(event).__name__, exc_info=True)
