"""Results as text: tables for people, CSV and JSON for programs, Arrow for what reads Arrow.

Rows go to standard output. What is said about them (counts, notes) is for people: a table carries it below itself,
beside the other formats it goes to standard error, so that a pipe holds nothing but rows.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from icefusion.cli.values import is_number, plain_values, to_json
from icefusion.result import Result

__all__ = ["DEFAULT_TABLE_ROWS", "FORMATS", "Rows", "format_bytes", "make_console", "print_table", "write_result"]

FORMATS = ("table", "csv", "json", "jsonl", "arrow")
DEFAULT_TABLE_ROWS = 200

_PIPE_WIDTH = 100_000
_NARROWEST = 12
_PADDING = 3


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the border of the program, where all closed pipes are dealt with alike."""
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """A console for standard output or error: as wide as the terminal, without any limit and colour in a pipe."""
    console = _Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


@dataclass
class Rows:
    """The record batches of a result, up to a number of rows.

    Attributes:
        result: The result.
        limit: The number of rows; None for all of them.
        count: The rows given out so far.
        truncated: Whether there were more.
    """

    result: Result
    limit: int | None
    count: int = 0
    truncated: bool = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches, streamed."""
        for batch in _interruptible(iter(self.result.to_arrow_reader())):
            room = batch.num_rows if self.limit is None else self.limit - self.count
            self.truncated = batch.num_rows > room
            kept = batch.slice(0, min(room, batch.num_rows))
            self.count += kept.num_rows
            if kept.num_rows:
                yield kept
            if self.truncated:
                return


def _interruptible(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, each waited for in Python: native code that computes one does not hear Ctrl-C."""
    pool = ThreadPoolExecutor(1)
    try:
        while (batch := pool.submit(next, batches, None).result()) is not None:
            yield batch
    finally:
        pool.shutdown(wait=False)


def write_result(result: Result, form: str, max_rows: int | None, out: Console, notes: Console) -> None:
    """Print the rows of a query.

    Args:
        result: The result.
        form: One of `FORMATS`.
        max_rows: Rows at most; 0 for all; None for all, or for `DEFAULT_TABLE_ROWS` in a table.
        out: Where rows go.
        notes: Where notes go, unless they stand below a table.
    """
    limit = (DEFAULT_TABLE_ROWS if form == "table" else None) if max_rows is None else max_rows or None
    rows = Rows(result, limit)
    if form == "table" and result.report.statement.startswith("SHOW CREATE"):
        for (text,) in result:
            out.print(_printable(text), soft_wrap=True)  # to be copied, so without a frame
        return
    if form == "table":
        print_table(rows, out)
        return
    stream = sys.stdout.buffer
    if form == "arrow":
        _write_arrow(rows, stream)
    else:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=False)
        try:
            _TEXT_WRITERS[form](rows, text)
            text.flush()
        finally:
            # Or the wrapper would close standard output together with itself.
            text.detach()
    stream.flush()
    if rows.truncated:
        notes.print(f"The first {rows.count:,} rows; --max-rows asks for more, --max-rows 0 for all", style="dim")


def _write_csv(rows: Rows, text: io.TextIOWrapper) -> None:
    """RFC 4180 with a header. NULL is empty, an empty string is ``""``."""
    text.write(",".join(_csv_cell(name) for name in rows.result.columns) + "\n")
    for batch in rows:
        for row in zip(*(plain_values(column) for column in batch.columns), strict=True):
            text.write(",".join(map(_csv_cell, row)) + "\n")


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = _text(value)
    if text == "" or any(mark in text for mark in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_json(rows: Rows, text: io.TextIOWrapper) -> None:
    separator = "["
    for line in _json_lines(rows):
        text.write(f"{separator}\n  {line}")
        separator = ","
    text.write("[]\n" if separator == "[" else "\n]\n")


def _write_jsonl(rows: Rows, text: io.TextIOWrapper) -> None:
    for line in _json_lines(rows):
        text.write(line + "\n")


def _json_lines(rows: Rows) -> Iterator[str]:
    names = rows.result.columns
    for batch in rows:
        for row in zip(*(plain_values(column) for column in batch.columns), strict=True):
            yield to_json(dict(zip(names, row, strict=True)))


def _write_arrow(rows: Rows, stream: BinaryIO) -> None:
    with pa.ipc.new_stream(stream, rows.result.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


_TEXT_WRITERS: dict[str, Callable[[Rows, io.TextIOWrapper], None]] = {
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
}


# Tables


def print_table(rows: Rows, console: Console, *, notes: bool = True) -> None:
    """Print rows as a table that is no wider than the console; notes below it say what had to be left out."""
    schema = rows.result.schema
    columns = _columns(rows, schema)
    widths = [
        max(cell_len(part) for text in (name, *map(str, column)) for part in text.split("\n"))
        for name, column in zip(schema.names, columns, strict=True)
    ]
    shown, widths = _fit(widths, console.width)
    table = Table(box=box.ROUNDED, header_style="bold", border_style="dim", pad_edge=True)
    for field, width in zip(list(schema)[:shown], widths, strict=True):
        table.add_column(
            Text(_printable(field.name)),
            justify="right" if is_number(field.type) else "left",
            width=width,
            no_wrap=True,
            overflow="ellipsis",
        )
    if shown < len(columns):
        table.add_column("…", width=1, no_wrap=True)
    for row in range(rows.count):
        cells = [column[row] for column in columns[:shown]]
        table.add_row(*cells, *(["…"] if shown < len(columns) else []))
    console.print(table)
    if notes:
        console.print(_below(rows, shown, len(columns)), style="dim")


def _columns(rows: Rows, schema: pa.Schema) -> list[list[Text]]:
    columns: list[list[Text]] = [[] for _ in schema.names]
    for batch in rows:
        for cells, column in zip(columns, batch.columns, strict=True):
            cells += [_cell(value) for value in plain_values(column)]
    return columns


def _cell(value: Any) -> Text:
    return Text("NULL", style="dim italic") if value is None else Text(_printable(_text(value)))


def _fit(widths: Sequence[int], total: int) -> tuple[int, list[int]]:
    """How many columns to show and how wide: the widest give way first, then the last ones are left out."""
    shown = len(widths)
    while True:
        room = total - 1 - _PADDING * shown - (1 + _PADDING if shown < len(widths) else 0)
        fitted = _narrowed(widths[:shown], room)
        if fitted is not None:
            return shown, fitted
        if shown == 1:
            return 1, [max(1, room)]
        shown -= 1


def _narrowed(widths: Sequence[int], room: int) -> list[int] | None:
    fitted = list(widths)
    while sum(fitted) > room:
        widest = max(fitted)
        if widest <= _NARROWEST:
            return None
        fitted[fitted.index(widest)] = widest - 1
    return fitted


def _below(rows: Rows, shown: int, columns: int) -> str:
    count = f"{rows.count:,} row{'' if rows.count == 1 else 's'}"
    notes = [f"The first {count}; --max-rows 0 shows all" if rows.truncated else count]
    if shown < columns:
        notes.append(f"{shown} of {columns} columns fit; --format jsonl shows all")
    return " · ".join(notes)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return to_json(value)


def _printable(text: str) -> str:
    """Text that cannot steer the terminal: control characters other than line ends are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def format_bytes(size: float) -> str:
    """A size for people: ``12 B``, ``3.4 kB``, ``8.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
