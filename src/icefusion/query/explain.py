"""EXPLAIN of a query, as far as the engine's own plans do not tell it: what is read of each table, and why that much.

Each fact is a row, a pair of what it is about and the text, as `icefusion.changes.explain` tells of changes:

    table        which state of which table
    manifests    how many of the snapshot's manifests were read
    files        how many data files are read, and their size
    filter       what the files were chosen by, in Iceberg's terms; it is never narrower than the query
    pruned       how many files were left out, and at which step
    row groups   how many row groups of these files can be left out by the statistics in their footers
    residual     conditions that are left for the rows: those that a file of them might not fulfil
    deletes      delete files that apply
    transaction  what the open transaction has changed
    group        files that are read in one way, and what sets them apart
    planning     the time it took, and how much of it to find the files: told by ANALYZE, as is the next
    execution    the time it took

Nothing here is needed to run a query. It is worked out from what the planning has left, and only when it is asked for;
the manifests are in memory by then, the footers are read again.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datafusion import Expr
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.types import UUIDType

from icefusion.bridge.expression import complement
from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.pruning import FileTests
from icefusion.bridge.schema import arrow_to_iceberg, type_name
from icefusion.bridge.showing import show_filter, show_value
from icefusion.query.files import FilePlan, count_pruned
from icefusion.query.generated import GeneratedSource
from icefusion.query.mapping import ColumnSource
from icefusion.query.row_groups import RowGroups, bounded_columns, count_row_groups
from icefusion.query.scan import FileGroup
from icefusion.query.sources import Source
from icefusion.query.views import TableView
from icefusion.query.wanted import Wanted
from icefusion.reports import ScanReport
from icefusion.sql.statements import ExplainOptions, TableReference, TimeAsOf, VersionAsOf

__all__ = ["ExplainedScan", "ExplainedSource", "Explaining", "explain_rows"]

Row = tuple[str, str]

MAX_FOOTERS = 1_000
"""The footers of so many files are read for their row groups."""
MAX_GROUPS = 20
MAX_COLUMNS = 5
MAX_RESIDUAL = 2_000

_MACHINE_FORMATS = ("graphviz", "pgjson")
"""Formats that a program reads, which would stumble over more rows."""


@dataclass(frozen=True)
class ExplainedScan:
    """What the planning of a query found out about one table.

    Attributes:
        reference: What the query calls it.
        view: The table.
        wanted: What the query wants of it.
        conditions: The engine's conditions on its rows, for each reference; empty where one of them is not known.
        plan: The files to read.
        groups: The groups that they were put in.
        report: The counts.
    """

    reference: TableReference
    view: TableView
    wanted: Wanted
    conditions: tuple[tuple[Expr, ...], ...]
    plan: FilePlan
    groups: tuple[FileGroup, ...]
    report: ScanReport


@dataclass(frozen=True)
class ExplainedSource:
    """A table of a query that is no Iceberg table.

    Attributes:
        reference: What the query calls it.
        source: The table.
        wanted: What the query wants of it, where that leaves rows out.
    """

    reference: TableReference
    source: Source
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Explaining:
    """A query that is to be explained.

    Attributes:
        options: Those of the EXPLAIN.
        tables: The tables of the query, in the order in which it names them.
        planning_s: Seconds that the planning took in all.
    """

    options: ExplainOptions
    tables: Sequence[ExplainedScan | ExplainedSource]
    planning_s: float


def explain_rows(of: Explaining, manifests: ManifestReader, execution_s: float) -> list[Row]:
    """What is to be told of a query beyond the engine's plans.

    Args:
        of: The query.
        manifests: Reads manifests.
        execution_s: Seconds that the query took, if it was run for that.

    Raises:
        StorageError: A file of a table is missing or broken.
    """
    if of.options.format in _MACHINE_FORMATS:
        return []
    rows: list[Row] = []
    for table in of.tables:
        rows += _of_scan(table, manifests) if isinstance(table, ExplainedScan) else _of_source(table)
    if of.options.analyze:
        scans = [table.report for table in of.tables if isinstance(table, ExplainedScan)]
        rows += [("planning", _planning(of.planning_s, scans)), ("execution", f"{_ms(execution_s)} in all")]
    return rows


def _planning(seconds: float, scans: Sequence[ScanReport]) -> str:
    text = f"{_ms(seconds)} in all"
    if scans:
        text += "; to find the files: " + ", ".join(f"{_ms(scan.planning_s)} for {scan.table}" for scan in scans)
    return text


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _of_source(table: ExplainedSource) -> Iterator[Row]:
    source = table.source
    if isinstance(source, GeneratedSource):
        yield "table", f"{table.reference.name}, whose rows are made from metadata"
        if table.wanted is not None and not isinstance(table.wanted.row_filter, AlwaysTrue):
            yield "filter", show_filter(table.wanted.row_filter, source.fields)
        return
    if table.reference.function is not None:
        yield "table", f"{table.reference.function.called}, read from files"
    elif source.batches is not None:
        rows = sum(batch.num_rows for batch in source.batches)
        yield "table", f"{table.reference.name}, passed by name: {_count(rows, 'row')} in memory"
    else:
        how = "" if source.replayable else ", can be read once"
        yield "table", f"{table.reference.name}, passed by name{how}"


def _of_scan(scan: ExplainedScan, manifests: ManifestReader) -> Iterator[Row]:
    view, plan, report = scan.view, scan.plan, scan.report
    row_filter = scan.wanted.row_filter
    yield "table", f"{view.name}, {_state(scan)}"
    if view.snapshot_id is None and not view.staged:
        return
    pruned = count_pruned(view, row_filter, manifests)
    if view.snapshot_id is not None:
        yield "manifests", f"{plan.manifests_read} of {_count(plan.manifests_total, 'manifest')} read"
    total = plan.files_total + pruned.files_of_manifests
    yield "files", f"{len(plan.files)} of {_count(total, 'data file')} read, {_count(report.bytes_read, 'byte')}"
    tests = FileTests(view.metadata, view.schema, row_filter)
    if tests.trivial:
        yield "filter", "none that files could be left out by"
    else:
        yield "filter", show_filter(row_filter, view.schema)
        yield (
            "pruned",
            (
                f"{_count(pruned.files_of_manifests, 'data file')} in {_count(pruned.manifests, 'manifest')}, "
                f"{pruned.by_partition} by partition, {pruned.by_metrics} by column metrics"
            ),
        )
        if plan.files:
            yield "row groups", _row_groups(scan, tests)
    if plan.files:
        yield from (("residual", text) for text in _residuals(scan))
    if plan.delete_files:
        yield "deletes", _deletes(plan)
    if view.staged or view.removed or view.deleted:
        yield "transaction", _staged(scan)
    for group in scan.groups[:MAX_GROUPS]:
        size_bytes = sum(file.file_size_in_bytes for file in group.files)
        files = f"{_count(len(group.files), 'data file')}, {_count(size_bytes, 'byte')}"
        yield "group", f"{files}: {'; '.join(_reasons(group, view.schema))}"
    if len(scan.groups) > MAX_GROUPS:
        yield "group", f"and {len(scan.groups) - MAX_GROUPS} more"


def _state(scan: ExplainedScan) -> str:
    """Which state of the table is read, and what asked for it."""
    view, version = scan.view, scan.reference.version
    if view.snapshot_id is None:
        return "no snapshot yet" if view.ref is None else f"no snapshot yet, branch {view.ref}"
    snapshot = f"snapshot {view.snapshot_id}"
    match version:
        case VersionAsOf(asked) if asked != view.ref and str(asked) != str(view.snapshot_id):
            return f"{snapshot}, version {asked}"
        case TimeAsOf(timestamp_ms):
            return f"{snapshot}, as of {_moment(timestamp_ms)}"
    if view.ref is not None:
        return f"{snapshot}, branch {view.ref}"
    return f"{snapshot}, asked for as {scan.reference.name}" if version is None else f"{snapshot}, as asked for"


def _moment(timestamp_ms: int) -> str:
    try:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return f"{timestamp_ms} ms since 1970"
    return f"{moment.isoformat(' ', 'milliseconds')} UTC"


def _row_groups(scan: ExplainedScan, tests: FileTests) -> str:
    counted, looked_at = RowGroups(), 0
    for group in scan.groups:
        files = group.files[: MAX_FOOTERS - looked_at]
        looked_at += len(files)
        counted += count_row_groups(files, bounded_columns(group.columns), tests, scan.view.io)
    text = f"{counted.wanted} of {_count(counted.total, 'row group')} may hold such rows, by their statistics"
    return text if looked_at == len(scan.plan.files) else f"{text}, in the first {looked_at} files"


def _residuals(scan: ExplainedScan) -> Iterator[str]:
    """For each reference, the conditions that not every row of the files is sure to fulfil."""
    if not scan.conditions:
        yield "not known: the table is read inside of an expression"
        return
    told = [_residual(scan, conditions) for conditions in scan.conditions]
    if len(told) == 1:
        yield told[0]
    else:
        yield from (f"of reference {number}: {text}" for number, text in enumerate(told, start=1))


def _residual(scan: ExplainedScan, conditions: Sequence[Expr]) -> str:
    left = [_shown(condition) for condition in conditions if not _holds_for_all(scan, condition)]
    text = " AND ".join(left)
    return "none" if not text else text if len(text) <= MAX_RESIDUAL else f"{text[:MAX_RESIDUAL]}..."


def _holds_for_all(scan: ExplainedScan, condition: Expr) -> bool:
    """Whether partitions and metrics say that all rows of the files that are read fulfil a condition."""
    view = scan.view
    tests = FileTests(view.metadata, view.schema, complement([condition], view.schema))
    return not tests.trivial and not any(tests.file_may_match(live.file) for live in scan.plan.files)


def _shown(condition: Expr) -> str:
    return str(condition.canonical_name())


def _deletes(plan: FilePlan) -> str:
    holed = sum(bool(live.deletes) for live in plan.files)
    # Of a Puffin file each blob is a delete file of its own, and an entry of the plan.
    vectors = [entry.file for entry in plan.delete_entries if entry.file.file_format is FileFormat.PUFFIN]
    others = [file for file in plan.delete_files if file.file_format is not FileFormat.PUFFIN]
    kinds = {
        ("delete file", " by position"): [f for f in others if f.content == DataFileContent.POSITION_DELETES],
        ("delete file", " by equality"): [f for f in others if f.content == DataFileContent.EQUALITY_DELETES],
        ("deletion vector", ""): vectors,
    }
    counts = [
        f"{_count(len(files), what)}{how} of {_count(sum(file.record_count for file in files), 'row')}"
        for (what, how), files in kinds.items()
        if files
    ]
    return f"{' and '.join(counts)}, for {_count(holed, 'data file')}"


def _staged(scan: ExplainedScan) -> str:
    view = scan.view
    names = {file.file_path for file in view.staged}
    read = sum(live.file.file_path in names for live in scan.plan.files)
    parts = [f"{read} of {_count(len(view.staged), 'data file')} that it has written"] if view.staged else []
    if view.removed:
        parts.append(f"{_count(len(view.removed), 'data file')} that it has removed")
    if view.deleted:
        parts.append("rows that it has deleted in other files")
    return "; ".join(parts)


def _reasons(group: FileGroup, schema: Schema) -> Iterator[str]:
    """What the files of a group have in common, other groups may have otherwise."""
    differences = list(_differences(group))
    shown, more = differences[:MAX_COLUMNS], len(differences) - MAX_COLUMNS
    yield ", ".join(shown + [f"and {more} more"] * (more > 0)) if shown else "columns as in the table"
    guarded = [column.name for column in schema.fields if column.field_id in group.guarded]
    if guarded:
        yield f"NaN is possible in {', '.join(guarded[:MAX_COLUMNS])}{', ...' if len(guarded) > MAX_COLUMNS else ''}"
    if group.equality_deletes:
        yield f"{_count(group.equality_deletes, 'delete file')} by equality"
    if group.holed:
        yield f"rows are deleted by position in {group.holed}"
    if group.store is None:
        yield f"read through file IO: {group.fallback}"
    elif not group.store.startswith("file:"):
        yield f"in {group.store}"


def _differences(group: FileGroup) -> Iterator[str]:
    """How the files' columns differ from the table's."""
    constants = dict(group.constants)
    for source in group.columns:
        column = source.column
        if source.name is None and column.field_id in constants:
            yield f"{column.name} is {show_value(constants[column.field_id], column.field_type)} by partition"
        elif source.name is None and column.initial_default is not None:
            yield f"without {column.name}, by default {show_value(column.initial_default, column.field_type)}"
        elif source.name is None:
            yield f"without {column.name}"
        else:
            if source.name != column.name:
                yield f"{source.name} is now {column.name}"
            yield from _retyped(source, group)
    known = {source.name for source in group.columns}
    dropped = list(itertools.islice((name for name in group.schema.names if name not in known), MAX_COLUMNS + 1))
    if dropped:
        yield f"with {', '.join(dropped[:MAX_COLUMNS])}{', ...' if len(dropped) > MAX_COLUMNS else ''} besides"


def _retyped(source: ColumnSource, group: FileGroup) -> Iterator[str]:
    column = source.column
    if source.physical_type is not None:
        yield f"other parts in {column.name}"
        return
    if not column.field_type.is_primitive or isinstance(column.field_type, UUIDType):  # Parquet has bytes for that
        return
    stored = arrow_to_iceberg(group.schema.empty_table().select([source.name]).schema, format_version=3)
    found = type_name(stored.fields[0].field_type)
    if found != type_name(column.field_type):
        yield f"{column.name} is stored as {found}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
