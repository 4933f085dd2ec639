"""``icefusion load``: files into a table, as one snapshot."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pyarrow as pa

from icefusion.cli.files import FORMATS, InputFiles
from icefusion.cli.options import SessionArgs, session_options
from icefusion.cli.progress import WriteProgress
from icefusion.cli.readers import CsvOptions
from icefusion.cli.render import format_bytes, make_console
from icefusion.cli.sql import count_of
from icefusion.errors import TableExistsError
from icefusion.result import Result
from icefusion.session import Session
from icefusion.sql.names import parse_name
from icefusion.sql.statements import Name

__all__ = ["load"]


@click.command()
@click.argument("table")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
@click.option("--create", is_flag=True, help="Make the table, and its namespace, from the files' columns.")
@click.option("--partition-by", metavar="TERMS", help='Of the new table, e.g. "month(ts), bucket(16, id)".')
@click.option(
    "--format", "form", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True, help="Of the files."
)
@click.option("--delimiter", metavar="CHAR", help="Between CSV values. Default: a comma, in .tsv files a tab.")
@click.option("--null", "nulls", metavar="TEXT", multiple=True, help="CSV text for NULL. Default: the empty one.")
@click.option("--no-header", is_flag=True, help="CSV files begin with a row; their columns are named f0, f1, ... .")
@session_options
def load(
    session_args: SessionArgs,
    table: str,
    files: tuple[Path, ...],
    create: bool,
    partition_by: str | None,
    form: str,
    delimiter: str | None,
    nulls: tuple[str, ...],
    no_header: bool,
) -> None:
    """Append FILES to TABLE as one snapshot: all of them, or none.

    Parquet, CSV, JSON lines and Arrow IPC; CSV and JSON may be compressed (.gz, .zst, .bz2, .lz4). Columns are matched
    by name. The files are streamed, however large they are.

    \b
    icefusion load -w warehouse nyc.trips trips-*.parquet --create --partition-by "month(pickup_at)"
    icefusion load -w warehouse nyc.trips more.csv.gz --null NA
    """
    if partition_by is not None and not create:
        raise click.UsageError("--partition-by is for a new table: give --create with it")
    if delimiter is not None and len(delimiter) != 1:
        raise click.UsageError("--delimiter is one character")
    csv = CsvOptions(delimiter, nulls or ("",), header=not no_header)
    name = parse_name(table)
    with session_args.open() as session:
        wanted = None if create else session.sql(f"SELECT * FROM {table} LIMIT 0").schema
        inputs = InputFiles(files, form=None if form == "auto" else form, csv=csv, wanted=wanted)
        began = time.perf_counter()
        label = files[0].name if len(files) == 1 else f"{len(files)} files"
        with WriteProgress(make_console(stderr=True), label, total_bytes=inputs.size_bytes) as progress:
            if create:
                result = _create(session, table, name, inputs, partition_by, progress)
            else:
                result = session.writer(table).write_batches(_reader(inputs, progress), progress=progress)
        make_console().print(_summary(table, len(files), result, time.perf_counter() - began), soft_wrap=True)


def _create(
    session: Session,
    table: str,
    name: Name,
    inputs: InputFiles,
    partition_by: str | None,
    progress: WriteProgress,
) -> Result:
    """The table and its rows appear together: a load that fails leaves no table behind."""
    if len(name.parts) > 1:
        namespace = ".".join(str(part) for part in name.parts[:-1])
        session.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
    partitioned = f"PARTITIONED BY ({partition_by}) " if partition_by else ""
    text = f"CREATE TABLE {table} {partitioned}AS SELECT * FROM files"
    try:
        (result,) = session.script(text, sources={"files": _reader(inputs, progress)}, progress=progress)
    except TableExistsError as exc:
        raise TableExistsError(exc.message, hint="leave --create out to append to it") from exc
    return result


def _reader(inputs: InputFiles, progress: WriteProgress) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(inputs.schema, inputs.batches(progress.read_to))


def _summary(table: str, files: int, result: Result, seconds: float) -> str:
    parts = [f"{table}: {count_of(result.rows_inserted, 'row')} from {count_of(files, 'file')}"]
    for write in result.report.writes:
        parts.append(f"{count_of(write.files, 'data file')}, {format_bytes(write.bytes)}")
    if result.snapshot_id is not None:
        parts.append(f"snapshot {result.snapshot_id}")
    parts.append(f"{seconds:.1f} s, {result.rows_inserted / max(seconds, 0.001):,.0f} rows/s")
    return " · ".join(parts)
