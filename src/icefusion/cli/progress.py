"""Progress of a write: rows, bytes, rate."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from icefusion.cli.render import format_bytes

__all__ = ["WriteProgress"]

_SHOWN_AFTER_S = 0.3


class _Written(ProgressColumn):
    """``1,200,000 rows · 96.4 MB · 850,000 rows/s``."""

    def render(self, task: Task) -> Text:
        return Text(_written(task.fields["rows"], task.fields["size_bytes"], task.elapsed or 0.0))


def _written(rows: int, size_bytes: int, seconds: float) -> str:
    return f"{rows:,} rows · {format_bytes(size_bytes)} · {rows / max(seconds, 0.001):,.0f} rows/s"


class WriteProgress:
    """Told of rows as they are written, shows how far a write is: one write for each time that it is entered.

    Args:
        console: Where to show it. What is no terminal gets a line at the end with ``keep``, else nothing.
        label: What is being written.
        total_bytes: Bytes of the input, where they are known; a bar shows how much of it was read.
        keep: Leave the last state on the screen.

    Attributes:
        rows: Rows written.
        size_bytes: Their size in Arrow's memory.
    """

    def __init__(self, console: Console, label: str, *, total_bytes: int | None = None, keep: bool = False) -> None:
        self._console = console
        self._label = label
        self._total_bytes = total_bytes
        self._keep = keep
        self._began = 0.0
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self.rows = 0
        self.size_bytes = 0

    def __enter__(self) -> WriteProgress:
        """Begin to count."""
        self.rows = self.size_bytes = 0
        self._began = time.monotonic()
        if self._keep and self._console.is_terminal:
            self._start()
        return self

    def __call__(self, rows: int, size_bytes: int) -> None:
        """Count a batch that was written."""
        self.rows += rows
        self.size_bytes += size_bytes
        # What is over in a blink shall not flicker.
        late = time.monotonic() - self._began > _SHOWN_AFTER_S
        if late and self._progress is None and self._console.is_terminal:
            self._start()
        if self._progress is not None:
            self._progress.update(self._task, rows=self.rows, size_bytes=self.size_bytes)

    def read_to(self, position_bytes: float) -> None:
        """Move the bar: so many bytes of the input were read."""
        if self._progress is not None:
            # The tick at the end belongs to what is written, not to what is read.
            self._progress.update(self._task, completed=min(position_bytes, (self._total_bytes or 0) - 1))

    def _start(self) -> None:
        columns = [
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=14)] if self._total_bytes else []),
            _Written(),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(*columns, console=self._console, transient=not self._keep)
        self._task = self._progress.add_task(
            self._label, total=self._total_bytes, rows=self.rows, size_bytes=self.size_bytes
        )
        self._progress.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keep and error is None and not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            self._console.print(f"  {self._label} {_written(self.rows, self.size_bytes, seconds)}")
        if self._progress is None:
            return
        if error is None:
            total = self._total_bytes or max(self.rows, 1)
            self._progress.update(self._task, completed=total, total=total)
        self._progress.stop()
        self._progress = None
