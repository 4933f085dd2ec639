"""What a change of rows works with, and how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from icefusion.changes.spool import Spool
from icefusion.changes.staging import RowChange
from icefusion.config import Isolation, WriteMode
from icefusion.pinned import PinnedTable
from icefusion.query.engine import Engine
from icefusion.query.sources import Source
from icefusion.reports import ScanReport, WriteReport
from icefusion.transaction import TransactionState
from icefusion.write.executor import WriteOptions, WriteTarget

__all__ = ["ChangeContext", "Changed"]


@dataclass(frozen=True)
class ChangeContext:
    """What a change of one table works with.

    Attributes:
        engine: Runs its questions.
        state: The transaction it is part of.
        pinned: The table.
        sources: The objects passed by name.
        parameters: The values of the statement's parameters.
        mode: How old rows are made to disappear.
        isolation: What goes outside of a transaction.
        threads: How many threads write.
        write_memory_bytes: Arrow bytes that writing may hold; None lets it choose.
        progress: Told of rows and bytes as they are written.
    """

    engine: Engine
    state: TransactionState
    pinned: PinnedTable
    sources: Mapping[str, Source]
    parameters: Mapping[str, pa.Scalar]
    mode: WriteMode
    isolation: Isolation
    threads: int
    write_memory_bytes: int | None = None
    progress: Callable[[int, int], None] | None = None

    @property
    def can_ask_again(self) -> bool:
        """Whether a question can be asked a second time: not of a stream that was read, see `with_streams_kept`."""
        return all(source.replayable for source in self.sources.values())

    @property
    def target(self) -> WriteTarget:
        """The table, as what writes files sees it."""
        return WriteTarget.of(self.pinned.handle.name, self.pinned.handle.metadata)

    def write_options(self, threads: int, memory_bytes: int | None = None) -> WriteOptions:
        """How a part of the change is written, with a share of the memory, or with all of it."""
        return WriteOptions(threads, memory_bytes or self.write_memory_bytes)

    @property
    def spool_bytes(self) -> int | None:
        """Arrow bytes of rows that wait, before they go to a temporary file; None for a default."""
        return None if self.write_memory_bytes is None else self.write_memory_bytes // 4


@dataclass
class Changed:
    """How a change went.

    Attributes:
        change: What it did to the table; not yet staged.
        scans: What was read.
        writes: What was written.
        phases: Seconds by phase.
        rewritten_bytes: Size of the files that were written anew.
        shown: The rows that RETURNING is about, where somebody asked for them.
    """

    change: RowChange = field(default_factory=RowChange)
    scans: list[ScanReport] = field(default_factory=list)
    writes: list[WriteReport] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    rewritten_bytes: int = 0
    shown: Spool | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block under a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - began
