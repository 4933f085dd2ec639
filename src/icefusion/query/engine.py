"""Queries over table views and sources -> streams of record batches: DataFusion, behind one door.

A query is planned twice. The first time its tables are empty; the optimizer still shows which columns and which rows of
each it wants, and by that the files of the snapshots are pruned. The second time the tables are scans over just the
files that are left.

Tables have names only while a statement is planned. Under a lock they are registered, the text is planned, and they are
taken away again; the plan keeps what it needs. So no name outlives its statement, and threads that use one name for
different things do not meet.

DataFusion skips a missing file without a word. So once a stream has begun, which is when the list of files has been
looked up, the files are looked for again: one that is missing then was never read, and is an error before the first row
is given out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from datafusion import DataFrame, Expr, RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions
from datafusion.catalog import Catalog, Schema, Table
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.positions import Positions
from icefusion.bridge.pruning import FileTests
from icefusion.config import default_threads
from icefusion.query.bindings import Binding, TableKey, bound_tables, fields_of, shape_of, table_key
from icefusion.query.deletes import DeleteReader
from icefusion.query.explain import ExplainedScan, ExplainedSource, Explaining
from icefusion.query.file_tables import FileTables
from icefusion.query.filelist import DEFAULT_CATALOG, DEFAULT_SCHEMA, FileScanner
from icefusion.query.files import FilePlan, LiveFile, plan_files
from icefusion.query.footers import FooterReader
from icefusion.query.functions import Functions, FunctionSet
from icefusion.query.generated import GeneratedSource
from icefusion.query.plain import plain_types, with_plain_types
from icefusion.query.planned import PlannedQuery, translated
from icefusion.query.scan import FileScan, Memory, TableView, scan_files
from icefusion.query.sources import Source
from icefusion.query.survivors import sealed, tells_places
from icefusion.query.translate import is_engine_error
from icefusion.query.wanted import Wanted, find_complement, find_conditions, find_wanted
from icefusion.reports import ScanReport
from icefusion.sql.statements import Query, TableReference

__all__ = ["Engine", "PlannedQuery"]

Conditions = Mapping[TableKey, tuple[tuple[Expr, ...], ...]]
"""The engine's conditions on the rows of a table, for each reference to it."""

BATCH_ROWS = 8_192

_INFORMATION_SCHEMA = "datafusion.catalog.information_schema"
_SETTINGS = {
    "datafusion.execution.time_zone": "UTC",
    "datafusion.execution.parquet.schema_force_view_types": "false",
    "datafusion.sql_parser.map_string_types_to_utf8view": "false",
    _INFORMATION_SCHEMA: "false",
    "datafusion.optimizer.enable_leaf_expression_pushdown": "false",
}

# Settings that depend on the query, with what they otherwise are.
_COLLECT_STATISTICS = "datafusion.execution.collect_statistics"
_BATCH_ROWS = "datafusion.execution.batch_size"
_PARTITIONS = "datafusion.execution.target_partitions"
_HASH_JOINS = "datafusion.optimizer.prefer_hash_join"
_BUILD_BYTES = "datafusion.optimizer.hash_join_single_partition_threshold"
_BUILD_ROWS = "datafusion.optimizer.hash_join_single_partition_threshold_rows"
# What is left, in per cent, by a condition of which nothing is known. Two such conditions on a large table make it a
# small one for the engine, so where a join keeps one side in memory, however large it is, they do not count.
_SELECTIVITY = "datafusion.optimizer.default_filter_selectivity"
USUAL_BUILD = {_BUILD_BYTES: 1024 * 1024, _BUILD_ROWS: 128 * 1024, _SELECTIVITY: 20}
ONE_BUILD = {_BUILD_BYTES: 2**40, _BUILD_ROWS: 2**40, _SELECTIVITY: 100}
_REORDERING = "datafusion.optimizer.join_reordering"
_SORT_RESERVATION = "datafusion.execution.sort_spill_reservation_bytes"
SORT_RESERVATION_BYTES = 10 * 1024 * 1024
SMALL_BATCH_ROWS = 4_096
MANY = 2
"""Where one side of a join has so many times the rows of the other, it is not the one that is kept in memory."""
PIECEWISE_SHARE = 0.25
"""Files of more than this share of the memory limit are read piece by piece, where that is asked for."""
# Without this rule the functions that tell where a row lies do not reach their scan when there are filters. With it, a
# field of a struct that is read from scans of several shapes can end up in the place of another column.
_LEAF_PUSHDOWN = "datafusion.optimizer.enable_leaf_expression_pushdown"

_READ_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


class Engine:
    """Plans and runs queries. One engine serves all statements and threads of a session.

    Args:
        memory_limit_bytes: What queries may hold in memory before they spill or fail; None for no limit.
        threads: How many threads a query runs on; None for one a core.
        batch_rows: How many rows a batch of a result has at most.
        native_file_lists: Whether many files may be read as one scan.
        manifests: Reads manifests; one of its own by default.
        functions: Which functions queries can call.

    Attributes:
        functions: The functions that queries can call.
        file_tables: Opens the files that a query names.
    """

    def __init__(
        self,
        *,
        memory_limit_bytes: int | None = None,
        threads: int | None = None,
        batch_rows: int = BATCH_ROWS,
        native_file_lists: bool = True,
        manifests: ManifestReader | None = None,
        functions: FunctionSet = "datafusion",
    ) -> None:
        self.memory_limit_bytes = memory_limit_bytes
        self._threads = threads or default_threads()
        config = SessionConfig(_SETTINGS).with_target_partitions(self._threads).with_batch_size(batch_rows)
        config = config.with_default_catalog_and_schema(DEFAULT_CATALOG, DEFAULT_SCHEMA)
        runtime = RuntimeEnvBuilder().with_disk_manager_os()
        if memory_limit_bytes is not None:
            runtime = runtime.with_fair_spill_pool(memory_limit_bytes)
        self._context = SessionContext(config, runtime)
        self._batch_rows = batch_rows
        self._usual: dict[str, object] = {
            _COLLECT_STATISTICS: True,
            _BATCH_ROWS: batch_rows,
            _PARTITIONS: self._threads,
            _HASH_JOINS: True,
            _SORT_RESERVATION: SORT_RESERVATION_BYTES,
            _LEAF_PUSHDOWN: False,
            _INFORMATION_SCHEMA: False,
            _REORDERING: True,
            **USUAL_BUILD,
        }
        self._lock = threading.RLock()
        self.functions = Functions(self._context, self._lock, functions)
        self._scanner = FileScanner(self._context, native=native_file_lists)
        self._footers = FooterReader()
        self._deletes = DeleteReader()
        self._manifests = manifests or ManifestReader()
        self.file_tables = FileTables(self._scanner, self._threads, self._lock)

    def plan(
        self,
        query: Query,
        bindings: Sequence[Binding],
        parameters: Mapping[str, pa.Scalar] | None = None,
        *,
        batch_rows: int | None = None,
        threads: int | None = None,
        hash_joins: bool = True,
        one_build: bool = False,
        first_rows: int | None = None,
        whole_files: bool = False,
        piecewise: bool = False,
    ) -> PlannedQuery:
        """Plan a query.

        Args:
            query: A SELECT, VALUES, WITH or EXPLAIN.
            bindings: What each of `query.tables` stands for, in order. References to one name stand for one thing.
            parameters: Values by parameter name, as `bind_parameters` gives them.
            batch_rows: How many rows a batch of the result has at most; None for what the engine was made with.
            threads: How many threads the query runs on; with one, rows of a scan come in the order of its files. None
                for what the engine was made with.
            hash_joins: Whether joins may keep one side in memory; otherwise they sort, and spill, with small batches
                and small reservations, since memory is short then.
            one_build: Whether a join keeps its smaller side in memory once, however large it is, and leaves the other
                side as it comes; otherwise both sides are parted among the threads.
            first_rows: How many rows the first table has, in a query whose one join shall keep it in memory where the
                files of the other have many more. Otherwise, and with None, the engine chooses by what it takes the
                bytes of both to be.
            whole_files: Leave out files of which every row is in the answer; they are in `PlannedQuery.whole_files`.
                For a query of one view with identity columns, that asks for nothing else.
            piecewise: Whether tables that are larger than the memory limit are read piece by piece, by another reader,
                as the engine's own holds whole row groups, outside of what its limit counts. For queries that read
                most rows anyway: conditions leave out row groups there, but no smaller pieces.

        Raises:
            ParseError: The text is not SQL.
            BindError: It names something that is not there.
            UnsupportedStatementError: It asks for something that is not done.
            StorageError: A file of a table is missing or broken.
        """
        began = time.perf_counter()
        query = self.functions.resolved(query)
        keys = [table_key(query, reference) for reference in query.tables]
        tables = bound_tables(query, keys, bindings)
        values = dict(parameters or {})
        views = {key: binding for key, binding in tables.items() if isinstance(binding, TableView)}
        generated = {key: binding for key, binding in tables.items() if isinstance(binding, GeneratedSource)}
        sources = {key: binding for key, binding in tables.items() if isinstance(binding, Source)}
        frames = {key: self._source_frame(source) for key, source in sources.items() if key not in generated}
        collect_statistics = not any(isinstance(b, Source) and b.frame is not None for b in bindings)
        usual_rows = self._batch_rows
        scanned: dict[TableKey, _Scanned] = {}
        wanted: dict[TableKey, Wanted] = {}
        conditions: Conditions = {}
        parts_of_structs = False
        if views or generated:
            draft, wanted, conditions = self._drafted(query, {**views, **generated}, frames, values)
            parts_of_structs = "get_field(" in draft.optimized_logical_plan().display_indent()
            sources |= {key: b.narrowed(wanted[key].row_filter, self._manifests) for key, b in generated.items()}
            frames |= {key: self._source_frame(sources[key]) for key in generated}
            for key, view in views.items():
                rest = find_complement(draft, view.schema) if whole_files and view.with_identity else None
                scanned[key] = self._scan(
                    view,
                    wanted[key],
                    rest,
                    threads or self._threads,
                    piecewise=piecewise,
                    explained=query.explain is not None,
                )
        scans = [found.scan for found in scanned.values()]
        frames |= {key: found.scan.frame for key, found in scanned.items()}
        collect_statistics = collect_statistics and not any(scan.may_hold_nan for scan in scans)
        if batch_rows is None and any(scan.filters_positions for scan in scans):
            usual_rows = max(usual_rows, min(scan.batch_rows for scan in scans))
        located = {key for key, found in scanned.items() if found.scan.asks_places}
        io_scans = [io_scan for scan in scans for io_scan in scan.io_scans]
        with self.functions.telling(query.text), translated(query, planning=True):
            settings = {
                _COLLECT_STATISTICS: collect_statistics,
                _BATCH_ROWS: (batch_rows or usual_rows) if hash_joins else SMALL_BATCH_ROWS,
                _PARTITIONS: threads or self._threads,
                _HASH_JOINS: hash_joins,
                _SORT_RESERVATION: SORT_RESERVATION_BYTES if hash_joins else SORT_RESERVATION_BYTES // 16,
                _LEAF_PUSHDOWN: bool(located),
                _REORDERING: first_rows is None or sum(found.rows for found in scanned.values()) < MANY * first_rows,
                **(ONE_BUILD if one_build else USUAL_BUILD),
            }
            planned_frame = None
            if not (located and parts_of_structs):  # those make the rule fail, with a noise that cannot be kept down
                planned_frame = self._planned_plainly(query, frames, values, settings, located=bool(located))
            if planned_frame is None:
                frames |= {key: sealed(frame) for key, frame in frames.items() if key in located}
                settings[_LEAF_PUSHDOWN] = False
                planned_frame = self._planned(query, frames, values, settings)
            frame, optimized = planned_frame
            schema = plain_types(optimized.schema().remove_metadata())
        planned = PlannedQuery(
            query,
            frame,
            schema,
            tuple(found.report for found in scanned.values()),
            [*sources.values(), *io_scans],
            [(found.view, found.plan.data_files + found.plan.delete_files) for found in scanned.values()],
            self,
        )
        planned.files_by_name = {name: live for scan in scans for name, live in scan.files_by_name.items()}
        planned.whole_files = tuple(live for found in scanned.values() for live in found.whole)
        planned.tells_places = bool(located)
        planned.reads = tuple((view, wanted[key].row_filter) for key, view in views.items())
        if query.explain is not None:
            told = _explained(dict(zip(keys, query.tables, strict=True)), scanned, sources, wanted, conditions)
            planned.explaining = Explaining(query.explain, told, time.perf_counter() - began)
        return planned

    def columns(self, query: Query, bindings: Sequence[Binding]) -> pa.Schema:
        """The columns of a query's result, for which no file of a table is looked for.

        Args:
            query: A query without parameters.
            bindings: As for `plan`.

        Raises:
            SQLError: As for `plan`.
        """
        query = self.functions.resolved(query)
        keys = [table_key(query, reference) for reference in query.tables]
        frames: dict[TableKey, DataFrame | Table] = {}
        for key, binding in bound_tables(query, keys, bindings).items():
            if isinstance(binding, TableView | GeneratedSource):
                frames[key] = self._scanner.empty_table(shape_of(binding))
            else:
                frames[key] = self._source_frame(binding)
        with self.functions.telling(query.text), translated(query, planning=True):
            draft = self._draft(query, frames, {})
            # Optimizing makes types agree.
            optimized = self._context.create_dataframe_from_logical_plan(draft.optimized_logical_plan())
            return plain_types(optimized.schema().remove_metadata())

    def _drafted(
        self,
        query: Query,
        tables: Mapping[TableKey, TableView | GeneratedSource],
        frames: Mapping[TableKey, DataFrame],
        values: dict[str, pa.Scalar],
    ) -> tuple[DataFrame, dict[TableKey, Wanted], Conditions]:
        """The query over empty tables, what it wants of each, and for an EXPLAIN the conditions behind that."""
        with self._lock:
            empty = {key: self._scanner.empty_table(shape_of(binding)) for key, binding in tables.items()}
        with self.functions.telling(query.text), translated(query, planning=True):
            draft = self._draft(query, {**empty, **frames}, values)
            wanted = find_wanted(draft, {key: fields_of(binding) for key, binding in tables.items()})
            return draft, wanted, {} if query.explain is None else find_conditions(draft)

    def _planned_plainly(
        self,
        query: Query,
        frames: Mapping[TableKey, DataFrame | Table],
        values: dict[str, pa.Scalar],
        settings: Mapping[str, object],
        *,
        located: bool,
    ) -> tuple[DataFrame, DataFrame] | None:
        """The plan that the optimizer likes best; None where it cannot tell any more where rows lie, and has to."""
        try:
            frame, optimized = self._planned(query, frames, values, settings)
        except BaseException as exc:
            if located and is_engine_error(exc):
                return None  # the optimizer may have tripped over it; if not, the next attempt fails likewise
            raise
        if located and not tells_places(optimized.logical_plan().display_indent()):
            return None
        return frame, optimized

    def _planned(
        self,
        query: Query,
        frames: Mapping[TableKey, DataFrame | Table],
        values: dict[str, pa.Scalar],
        settings: Mapping[str, object],
    ) -> tuple[DataFrame, DataFrame]:
        """The plan, and the same optimized: that makes types agree, and finds where they cannot."""
        frame = with_plain_types(self._draft(query, frames, values, settings))
        return frame, self._context.create_dataframe_from_logical_plan(frame.optimized_logical_plan())

    @property
    def manifests(self) -> ManifestReader:
        """What reads manifests, and remembers the last ones."""
        return self._manifests

    def function_names(self) -> list[str]:
        """The names of all functions that a query can call, in no order."""
        with self._lock, self._set({_INFORMATION_SCHEMA: True}):
            rows = self._context.sql("SELECT DISTINCT routine_name FROM information_schema.routines").collect()
        return [str(name) for batch in rows for name in batch.column(0).to_pylist()]

    def files(self, view: TableView) -> tuple[LiveFile, ...]:
        """The data files of a view, each with the delete files that apply to it.

        Raises:
            StorageError: A manifest is missing or broken.
        """
        return self._plan_files(view, None).files

    def deleted_positions(self, files: Sequence[LiveFile], io: FileIO) -> Positions:
        """The rows of data files that their delete files name by position.

        Raises:
            StorageError: A delete file is missing or broken.
        """
        return self._deletes.positions(files, io)

    def _plan_files(self, view: TableView, row_filter: BooleanExpression | None) -> FilePlan:
        return plan_files(
            view.name,
            view.metadata,
            view.snapshot_id,
            view.schema,
            view.io,
            row_filter=row_filter,
            staged=view.staged,
            removed=view.removed,
            only=view.only,
            reader=self._manifests,
        )

    def _scan(
        self,
        view: TableView,
        wanted: Wanted,
        rest: BooleanExpression | None,
        threads: int,
        *,
        piecewise: bool,
        explained: bool = False,
    ) -> _Scanned:
        """The scan of a view, without files that need none as all their rows are wanted.

        Args:
            view: The table.
            wanted: What is wanted of it.
            rest: True for every row that is not in the answer, where such files are to be left out.
            threads: How many threads there are.
            piecewise: Whether it is read piece by piece, if it is large.
            explained: Whether it is to be told how the files are read.
        """
        began = time.perf_counter()
        plan = self._plan_files(view, wanted.row_filter)
        whole: tuple[LiveFile, ...] = ()
        if rest is not None:
            tests = FileTests(view.metadata, view.schema, rest)
            whole = tuple(live for live in plan.files if not tests.file_may_match(live.file))
        if whole:
            plan = plan.without(whole)
        limit_bytes = self.memory_limit_bytes
        if limit_bytes is None:
            memory = Memory.PLENTY
        elif piecewise and sum(file.file_size_in_bytes for file in plan.data_files) > limit_bytes * PIECEWISE_SHARE:
            memory = Memory.SHORT
        else:
            memory = Memory.LIMITED
        scan = scan_files(
            view,
            plan,
            self._scanner,
            self._footers,
            self._deletes,
            used=wanted.field_ids,
            memory=memory,
            without_statistics=self._without_statistics,
            threads=threads,
            row_filter=wanted.row_filter,
            with_groups=explained,
        )
        report = ScanReport(
            table=view.name,
            snapshot_id=view.snapshot_id,
            manifests_total=plan.manifests_total,
            manifests_read=plan.manifests_read,
            files_total=plan.files_total,
            files_read=len(plan.files),
            delete_files=len(plan.delete_files),
            bytes_read=sum(file.file_size_in_bytes for file in plan.data_files),
            planning_s=time.perf_counter() - began,
            fallback=scan.fallback,
        )
        return _Scanned(view, plan, scan, report, whole)

    def _without_statistics(self, frame: DataFrame) -> DataFrame:
        """The same frame, so that it can be run by itself and no value is taken from statistics."""
        with self._lock, self._set({_COLLECT_STATISTICS: False}):
            return self._context.create_dataframe_from_logical_plan(frame.logical_plan())

    def _source_frame(self, source: Source) -> DataFrame:
        return source.to_frame(self._context, self._threads, self._lock)

    def _draft(
        self,
        query: Query,
        frames: Mapping[TableKey, DataFrame | Table],
        values: dict[str, pa.Scalar],
        settings: Mapping[str, object] | None = None,
    ) -> DataFrame:
        """Plan the text with these tables under their names."""
        with self._lock, self._named(frames), self._set(settings or {}):
            return self._context.sql_with_options(query.text, _READ_ONLY, param_values=values or None)

    @contextmanager
    def _named(self, frames: Mapping[TableKey, DataFrame | Table]) -> Iterator[None]:
        """Register the tables, and take them away again."""
        registered: list[tuple[Schema, str]] = []
        made: list[tuple[Catalog, str]] = []
        try:
            for (catalog_name, schema_name, table_name), frame in frames.items():
                if catalog_name not in self._context.catalog_names():
                    self._context.register_catalog_provider(catalog_name, Catalog.memory_catalog())
                catalog = self._context.catalog(catalog_name)
                if schema_name not in catalog.schema_names():
                    catalog.register_schema(schema_name, Schema.memory_schema())
                    made.append((catalog, schema_name))
                schema = catalog.schema(schema_name)
                schema.register_table(table_name, frame)
                registered.append((schema, table_name))
            yield
        finally:
            for schema, table_name in registered:
                schema.deregister_table(table_name)
            for catalog, schema_name in made:
                catalog.deregister_schema(schema_name)

    @contextmanager
    def _set(self, settings: Mapping[str, object]) -> Iterator[None]:
        """Plan with other settings than usual; a frame keeps those it was planned with."""
        changed = {name: value for name, value in settings.items() if value != self._usual[name]}
        try:
            for name, value in changed.items():
                self._context.sql(f"SET {name} = {str(value).lower()}")
            yield
        finally:
            for name in changed:
                self._context.sql(f"SET {name} = {str(self._usual[name]).lower()}")


@dataclass(frozen=True)
class _Scanned:
    """One table of a query.

    Attributes:
        view: The table.
        plan: Its files.
        scan: The scan of them.
        report: What it reads.
        whole: Files that need no scan.
    """

    view: TableView
    plan: FilePlan
    scan: FileScan
    report: ScanReport
    whole: tuple[LiveFile, ...]

    @property
    def rows(self) -> int:
        """The rows of its files, deleted ones included."""
        return sum(live.file.record_count for live in self.plan.files)


def _explained(
    references: Mapping[TableKey, TableReference],
    scanned: Mapping[TableKey, _Scanned],
    sources: Mapping[TableKey, Source],
    wanted: Mapping[TableKey, Wanted],
    conditions: Conditions,
) -> list[ExplainedScan | ExplainedSource]:
    """What an EXPLAIN tells of, in the order in which the query names the tables."""
    told: list[ExplainedScan | ExplainedSource] = []
    for key, reference in references.items():
        if key in sources:
            told.append(ExplainedSource(reference, sources[key], wanted.get(key)))
        else:
            found = scanned[key]
            told.append(
                ExplainedScan(
                    reference,
                    found.view,
                    wanted[key],
                    conditions.get(key, ()),
                    found.plan,
                    found.scan.groups,
                    found.report,
                )
            )
    return told
