"""``icefusion sql``: run statements, print their results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from icefusion.cli.options import SessionArgs, parse_pairs, parse_value, session_options
from icefusion.cli.progress import WriteProgress
from icefusion.cli.render import FORMATS, format_bytes, make_console, write_result
from icefusion.errors import BindError, ConfigurationError, TransactionError
from icefusion.result import Result

__all__ = ["count_of", "describe", "sql"]


_ASKING = ("SELECT", "EXPLAIN", "SHOW", "DESCRIBE")


@click.command()
@click.argument("statement", required=False)
@click.option("-f", "--file", metavar="FILE", help="Read the statements from a file; - is standard input.")
@session_options
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="The value of $NAME in the statements.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Of the rows.")
@click.option("--max-rows", type=click.IntRange(min=0), metavar="N", help="Default: 200 in a table, else all. 0: all.")
@click.option("--timing", is_flag=True, help="Say how long each statement took.")
def sql(
    session_args: SessionArgs,
    statement: str | None,
    file: str | None,
    params: tuple[str, ...],
    form: str,
    max_rows: int | None,
    timing: bool,
) -> None:
    """Run SQL: one statement, or several separated by semicolons.

    STATEMENT is the text itself, or - for standard input, which is also read when nothing is given. Rows go to standard
    output, everything else to standard error.

    \b
    icefusion sql -w warehouse "SELECT * FROM nyc.flights LIMIT 5"
    icefusion sql -w warehouse -f load.sql --param day=2013-02-09
    icefusion sql -w warehouse --format csv < query.sql > rows.csv
    """
    text = _read(statement, file)
    out, notes = make_console(), make_console(stderr=True)
    if form == "arrow" and sys.stdout.isatty():
        raise ConfigurationError("arrow is not for terminals", hint="send it to a file: ... > rows.arrows")
    values = {name: parse_value(value) for name, value in parse_pairs(params, option="--param").items()}
    with session_args.open() as session:
        progress = WriteProgress(notes, "Writing")
        results = session.script(text, values or None, progress=progress)
        while True:
            began = time.perf_counter()
            with progress, _hint_for_options():
                result = next(results, None)
            if result is None:
                break
            if result.returns_rows:
                write_result(result, form, max_rows, out, notes)
            _tell(result, notes, time.perf_counter() - began if timing else None)
        if session.in_transaction:
            raise TransactionError(
                "the statements end inside a transaction, which is rolled back", hint="end them with COMMIT"
            )


@contextmanager
def _hint_for_options() -> Iterator[None]:
    """Say how a missing parameter is given here: hints are written for Python."""
    try:
        yield
    except BindError as exc:
        if exc.hint is not None and "params=" in exc.hint:
            exc.hint = "give it as --param NAME=VALUE; ? and $1 have no names, so write $name"
        raise


def _read(statement: str | None, file: str | None) -> str:
    if statement is not None and file is not None:
        raise click.UsageError("give a statement or --file, not both")
    source = file if file is not None else statement if statement in (None, "-") else None
    if source is None and statement is not None:
        return statement
    if source not in (None, "-"):
        try:
            return Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"--file {source}: {getattr(exc, 'strerror', None) or exc}") from exc
    if source is None and sys.stdin.isatty():
        raise click.UsageError('give a statement: icefusion sql "SELECT 1"')
    return sys.stdin.read()


def _tell(result: Result, notes: Console, seconds: float | None) -> None:
    parts = [] if result.report.statement.startswith(_ASKING) else [describe(result)]
    if seconds is not None:
        parts.append(f"{seconds:.3f} s")
    if parts:
        notes.print(" · ".join(parts), style="dim", soft_wrap=True)


def describe(result: Result) -> str:
    """What a statement did, in one line: ``UPDATE · 5 rows updated · 1 file · 1.2 kB · snapshot 123``."""
    report = result.report
    parts = [report.statement]
    if report.statement in ("INSERT", "CREATE TABLE AS"):
        parts.append(count_of(report.rows.inserted, "row"))
    elif report.mode is not None:
        counts = (
            ("inserted", report.rows.inserted),
            ("updated", report.rows.updated),
            ("deleted", report.rows.deleted),
        )
        done = [f"{count_of(number, 'row')} {verb}" for verb, number in counts if number]
        parts.append(", ".join(done) or count_of(0, "row"))
    files = sum(write.files for write in report.writes)
    if files:
        parts += [count_of(files, "file"), format_bytes(sum(write.bytes for write in report.writes))]
    if report.removed_files:
        parts.append(f"{count_of(report.removed_files, 'file')} removed")
    deletes = sum(commit.added_delete_files for commit in report.commits)
    if deletes:
        parts.append(count_of(deletes, "delete file"))
    for commit in report.commits:
        if commit.snapshot_id is not None:
            named = f" of {commit.table}" if len(report.commits) > 1 else ""
            parts.append(f"snapshot {commit.snapshot_id}{named}")
    return " · ".join(parts)


def count_of(number: int, thing: str) -> str:
    """``1 row``, ``336,776 rows``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
