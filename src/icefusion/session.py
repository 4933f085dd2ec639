"""The front door: open a catalog, run statements, open transactions and writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io

from icefusion.bridge.manifests import MAX_KEPT_BYTES, ManifestReader
from icefusion.catalog_views import CatalogViews
from icefusion.changes.execute import ChangeExecutor, Given, Progress
from icefusion.clock import Clock, SystemClock
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import SessionCatalogs, SessionCommitter
from icefusion.commit.handles import TableHandle
from icefusion.commit.opening import existing_warehouse, open_any
from icefusion.commit.pools import PoolStats
from icefusion.commit.retry import Attempts
from icefusion.commit.views import ViewCommitter
from icefusion.config import (
    WRITE_MODES,
    BatchConfig,
    Isolation,
    PoolConfig,
    RetryConfig,
    WriteMode,
    default_threads,
    parse_bytes,
)
from icefusion.ddl import DefinitionExecutor
from icefusion.errors import (
    CommitConflictError,
    ConfigurationError,
    ParseError,
    TransactionError,
)
from icefusion.execution import Executor, commit_unit
from icefusion.introspection.show import Inspector
from icefusion.pinned import Status, Wap
from icefusion.procedures.calling import ProcedureExecutor
from icefusion.query.constants import compute_version
from icefusion.query.engine import Engine
from icefusion.query.file_tables import file_calls
from icefusion.query.functions import FunctionSet, Volatility
from icefusion.query.parameters import Parameters, bind_values
from icefusion.query.planned import PlannedQuery
from icefusion.query.planner import bind_query
from icefusion.query.sources import Source
from icefusion.reports import Reporter, StatementReport
from icefusion.result import Result
from icefusion.script import check_keyed, distribute
from icefusion.session_views import SessionViews, View
from icefusion.sql import statements as st
from icefusion.sql.file_access import refused_call, refused_file
from icefusion.sql.names import parse_name
from icefusion.sql.parser import parse_script
from icefusion.sql.versions import has_computed_versions, with_versions
from icefusion.sql.volatile import is_volatile_change
from icefusion.table import IcebergTable
from icefusion.transaction import Transaction, TransactionState
from icefusion.views import Views
from icefusion.writer import IcebergTableWriter

__all__ = ["Session", "connect"]

T = TypeVar("T")
S = TypeVar("S", bound=st.Statement)

# With a memory limit, this part of it belongs to the writer's own buffers and the rest to the engine.
_WRITE_SHARE = 1 / 3


def connect(
    path: str | Path | None = None,
    *,
    catalog: Catalog | Mapping[str, str] | None = None,
    name: str | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    retry: RetryConfig | None = None,
    pool: PoolConfig | None = None,
    batch: BatchConfig | None = None,
    reporter: Reporter | None = None,
    clock: Clock | None = None,
    allow_files: bool = True,
    functions: FunctionSet = "datafusion",
) -> Session:
    """Open a catalog and return a session.

    Args:
        path: A folder: the embedded catalog (SQLite and local files), created when missing.
        catalog: PyIceberg catalog properties, or a PyIceberg catalog object.
        name: The catalog's name. Alone, it names an entry of PyIceberg's configuration file or environment.
        memory_limit: Bytes, or text like ``"2GiB"``, that queries and writers together keep under by spilling to
            temporary files; None sets no limit. The process takes up to 0.6 GB more, whatever the sizes.
        threads: How many threads queries and writers use; None means one a core.
        retry: How often a lost race is tried again.
        pool: Limits of the connections to the catalog.
        batch: How writers cut their input.
        reporter: Told what each statement did.
        clock: Time and chance; for tests.
        allow_files: Whether SQL may name files and places of storage: ``read_parquet('...')`` and its kin,
            ``FROM 'file.csv'``, ``LOCATION``, ``ATTACH``. False refuses them all, for SQL of people who may not read
            what this process may.
        functions: ``"spark"`` lets Spark's functions take the place of DataFusion's of the same name; those of other
            names are there in any case.

    Raises:
        ConfigurationError: The arguments make no sense together, or describe no catalog.
        CatalogError: The catalog cannot be reached.
    """
    if functions not in ("datafusion", "spark"):
        raise ConfigurationError(f"functions: expected 'datafusion' or 'spark', found {functions!r}")
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads: expected at least 1, found {threads}")
    pool = pool or PoolConfig()
    client, owned = open_any(path, catalog, name, pool=pool)
    return Session(
        client,
        memory_limit_bytes=None if memory_limit is None else parse_bytes(memory_limit, name="memory_limit"),
        threads=threads or default_threads(),
        retry=retry or RetryConfig(),
        batch=batch or BatchConfig(),
        reporter=reporter,
        clock=clock or SystemClock(),
        owns_catalog=owned,
        pool=pool,
        allow_files=allow_files,
        functions=functions,
    )


class Session:
    """Runs SQL on the tables of a catalog, and of those attached to it.

    Threads may share it; each thread has its own transaction.
    """

    def __init__(
        self,
        client: CatalogClient,
        *,
        memory_limit_bytes: int | None,
        threads: int,
        retry: RetryConfig,
        batch: BatchConfig,
        reporter: Reporter | None,
        clock: Clock,
        owns_catalog: bool,
        pool: PoolConfig,
        allow_files: bool = True,
        functions: FunctionSet = "datafusion",
    ) -> None:
        self._client = client = SessionCatalogs(client.catalog)
        self._pool = pool
        self._owns_catalog = owns_catalog
        self._retry = retry
        self._batch = batch
        self._reporter = reporter
        self._clock = clock
        self._closed = False
        self._allow_files = allow_files
        write_bytes = None if memory_limit_bytes is None else int(memory_limit_bytes * _WRITE_SHARE)
        engine_bytes = None if memory_limit_bytes is None or write_bytes is None else memory_limit_bytes - write_bytes
        kept_bytes = MAX_KEPT_BYTES if memory_limit_bytes is None else min(MAX_KEPT_BYTES, memory_limit_bytes // 8)
        manifests = ManifestReader(kept_bytes)
        self._engine = Engine(
            memory_limit_bytes=engine_bytes, threads=threads, manifests=manifests, functions=functions
        )
        self._committer = SessionCommitter(client, retry, clock, manifests)
        self._executor = Executor(
            self._engine,
            threads=threads,
            write_memory_bytes=write_bytes,
            reporter=reporter,
        )
        self._definitions = DefinitionExecutor(client, self._engine, self._executor)
        self._procedures = ProcedureExecutor(client, self._engine, manifests, reporter)
        self._wap = Wap()
        self._changes = ChangeExecutor(self._engine, threads=threads, write_memory_bytes=write_bytes, reporter=reporter)
        self._threads = threads
        self._local = threading.local()
        views = SessionViews(
            client.name,
            self._columns_of,
            lambda query: self._with_versions(query, None),
            has_table=lambda name: self._seen().has_table(name),
            has_namespace=lambda name: self._seen().has_namespace_of(name),
        )
        kept_views = CatalogViews(
            client,
            ViewCommitter(retry, clock, version("icefusion")),
            lambda query, state: self._engine.columns(*bind_query(query, state, {})),
            lambda query: self._with_versions(query, None),
            views.is_view,
        )
        self._views = Views(views, kept_views)
        self._inspector = Inspector(self._client, self._engine, self._views, reporter)

    # Catalogs

    def attach(
        self,
        name: str,
        path: str | Path | None = None,
        *,
        catalog: Catalog | Mapping[str, str] | None = None,
        catalog_name: str | None = None,
        pool: PoolConfig | None = None,
    ) -> None:
        """Make another catalog known under a name: its tables are then ``name.namespace.table``.

        A transaction may read from all catalogs and write to one of them.

        Args:
            name: The name, of letters, digits and underscores. Names of three parts that begin with it are this
                catalog's, even where the session's own catalog has a namespace so called.
            path: A folder with the embedded catalog, created when missing.
            catalog: PyIceberg catalog properties, or a PyIceberg catalog object.
            catalog_name: What the catalog is called elsewhere: in its own database, and in PyIceberg's configuration.
                By default ``name``, and for a folder what `connect` calls it.
            pool: Limits of the connections to it; by default those of the session.

        Raises:
            ConfigurationError: The name is taken, or the arguments describe no catalog.
            CatalogError: The catalog cannot be reached.
        """
        self._require_open()
        self._client.check_alias(name)
        known_as = catalog_name if path is not None else catalog_name or name
        client, owned = open_any(path, catalog, known_as, pool=pool or self._pool)
        try:
            self._client.attach(name, client, owned=owned)
        except BaseException:
            if owned:
                client.close()
            raise

    def detach(self, name: str) -> None:
        """Forget an attached catalog; its tables stay what they are.

        Raises:
            ConfigurationError: No catalog is attached under this name.
            TransactionError: The open transaction uses it.
        """
        self._require_open()
        state = self._current
        if state is not None and state.uses(name):
            raise TransactionError(f"the open transaction uses catalog {name}", hint="COMMIT or ROLLBACK it first")
        self._client.detach(name)

    @property
    def catalog(self) -> Catalog:
        """PyIceberg's catalog, for whatever is done with tables outside of SQL."""
        return self._client.catalog

    @property
    def views(self) -> tuple[View, ...]:
        """The views that live as long as this session does, by name; not those that a catalog keeps."""
        return self._views.session.all()

    def sql(
        self,
        text: str,
        params: Parameters = None,
        *,
        idempotency_key: str | None = None,
        write_mode: WriteMode | None = None,
        **sources: Any,
    ) -> Result:
        """Run one statement, or several separated by semicolons, and return the result of the last.

        Outside a transaction each statement that changes something commits by itself.

        Args:
            text: SQL; see docs/sql.md.
            params: Values for ``?`` and ``$1`` as a sequence, for ``$name`` as a mapping; bound, never pasted.
            idempotency_key: A text of the caller's under which the one statement in the text that writes may land once:
                asked again, it writes nothing and returns the earlier result. Remembered in the table, through snapshot
                expiry, for the last 200 keys (``write.icefusion.idempotency-keys-max``).
            write_mode: ``"copy-on-write"`` or ``"merge-on-read"`` for row-level changes in the text, in place of the
                table's ``write.delete.mode``, ``write.update.mode`` and ``write.merge.mode``.
            sources: Arrow-capable objects that the statements may name as tables: Arrow tables, batches and readers,
                pandas and Polars frames, DuckDB relations. Readers are streamed.

        Raises:
            SQLError: The text was refused; it says where and why.
            IcefusionError: Anything else; see `icefusion.errors`.
        """
        *_, last = self.script(text, params, sources=sources, idempotency_key=idempotency_key, write_mode=write_mode)
        return last

    def script(
        self,
        text: str,
        params: Parameters = None,
        *,
        sources: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
        write_mode: WriteMode | None = None,
    ) -> Iterator[Result]:
        """Run several statements separated by semicolons, one each time the next result is asked for.

        Args:
            text: SQL, as in `sql`.
            params: Values for parameters, as in `sql`.
            sources: What `sql` takes as keyword arguments.
            progress: Told of rows and bytes as they are written.
            idempotency_key: As in `sql`.
            write_mode: As in `sql`.

        Yields:
            The result of each statement.

        Raises:
            SQLError: The text was refused; it says where and why. No statement ran if it could not be parsed.
            IcefusionError: Anything else; see `icefusion.errors`. The statements before it did run.
        """
        self._require_open()
        if not isinstance(text, str):
            raise ParseError(f"expected SQL as a text, found {type(text).__name__}")
        statements = parse_script(text)
        if not statements:
            raise ParseError("there is no statement in the text", hint="e.g. SELECT 1")
        if idempotency_key is not None:
            check_keyed(statements, in_transaction=self.in_transaction)
        _check_mode(write_mode)
        named = {name: Source.of(name, value) for name, value in (sources or {}).items()}
        for statement, parameters in distribute(statements, params):
            yield self._statement(statement, Given(parameters, named, progress, write_mode), idempotency_key)

    def _statement(self, statement: st.Statement, given: Given, idempotency_key: str | None) -> Result:
        statement = self._with_versions(statement, given.parameters)
        self._views.session.refuse_to_change(statement)
        given = self._with_files(statement, given)
        match statement:
            case st.Begin(isolation):
                return self._begin(isolation or "serializable")
            case st.Commit():
                return self._commit()
            case st.Rollback():
                return self._rollback()
            case st.Query():
                return self._executor.query(statement, given, self._current or self._new_state())
            case st.Insert() | st.Delete() | st.Truncate() | st.Update() | st.Merge():
                return self._change(statement, given, idempotency_key)
            case st.Attach(path, name):
                self.attach(name, existing_warehouse(path))
                return Result.of_nothing(StatementReport("ATTACH"))
            case st.Detach(name):
                self.detach(name)
                return Result.of_nothing(StatementReport("DETACH"))
            case st.Call():
                return self._call(statement, given, idempotency_key)
            case st.SetOption(option, value):
                return self._set_wap(**{option.removeprefix("wap."): value})
            case st.ResetOption(option):
                return self._set_wap(**{option.removeprefix("wap."): None})
            case st.CreateView() | st.AlterView() | st.RenameView() | st.DropView():
                return self._define_view(statement)
            case st.Show() | st.Describe() | st.DescribeQuery():
                return self._inspector.run(statement, given, self._current or self._new_state())
            case st.Explain():
                return self._changes.explain(statement, given, self._current or self._new_state(None))
            case st.CreateTable() | st.AlterTable() | st.RenameTable() | st.DropTable():
                return self._define(statement, given, idempotency_key)
            case st.CreateNamespace() | st.AlterNamespace() | st.DropNamespace():
                return self._definitions.run_namespace(statement, self._current)

    def _define_view(self, statement: st.ViewDefinition) -> Result:
        self._views.define(statement, self._current or self._new_state(), in_transaction=self.in_transaction)
        kind = {st.CreateView: "CREATE VIEW", st.DropView: "DROP VIEW"}.get(type(statement), "ALTER VIEW")
        return Result.of_nothing(StatementReport(kind))

    def _columns_of(self, query: st.Query) -> pa.Schema:
        """The columns that a query has, without running it."""
        files = self._with_files(query, Given(None, {})).sources
        bound, bindings = bind_query(self._with_versions(query, None), self._current or self._new_state(), files)
        return self._engine.plan(bound, bindings).schema

    def _run_change(
        self,
        change: st.Change,
        params: Parameters,
        sources: Mapping[str, Source],
        *,
        idempotency_key: str | None,
        write_mode: WriteMode | None,
    ) -> Result:
        """Run a change that was made without a text; as `script` does with one."""
        self._require_open()
        _check_mode(write_mode)
        if idempotency_key is not None:
            check_keyed([change], in_transaction=self.in_transaction)
        change = self._with_versions(change, params)
        self._views.session.refuse_to_change(change)
        given = self._with_files(change, Given(params, sources, mode=write_mode))
        return self._change(change, given, idempotency_key)

    def _run_query(self, query: st.Query, params: Parameters) -> Result:
        """Run a query that was made without a text; as `script` does with one."""
        self._require_open()
        return self._executor.query(
            query, self._with_files(query, Given(params, {})), self._current or self._new_state()
        )

    def _plan_rows(self, query: st.Query) -> PlannedQuery:
        """Plan a query that was made without a text."""
        self._require_open()
        return self._executor.plan(query, Given(None, {}), self._current or self._new_state())

    def _with_versions(self, statement: S, params: Parameters) -> S:
        """The statement with the times and versions in it computed, once for all of it and all attempts."""
        if not has_computed_versions(statement):
            return statement
        values = bind_values(st.parameters_of(statement), params)
        return with_versions(statement, lambda version: compute_version(self._engine, version, values))

    def _with_files(self, statement: st.Statement, given: Given) -> Given:
        """What came with a statement, and the files that it names, opened once for all of it and all attempts."""
        if not self._allow_files and (refused := refused_file(statement)) is not None:
            raise refused
        calls = list(file_calls(st.fragments_of(statement), self._views.session.find))
        if not calls:
            return given
        if not self._allow_files:
            raise refused_call(*calls[0])
        values = bind_values(st.parameters_of(statement), given.parameters)
        opened = self._engine.file_tables.open_all(calls, values, load_file_io(self._client.catalog.properties))
        return replace(given, sources={**given.sources, **opened})

    def _is_volatile(self, change: st.Change) -> bool:
        return is_volatile_change(change, self._engine.functions.volatile)

    def _change(self, change: st.Change, given: Given, idempotency_key: str | None) -> Result:
        if self._current is not None:
            return self._changes.run(change, given, self._current)
        replayable = given.replayable and not self._is_volatile(change)
        return self._alone(lambda state: self._changes.run(change, given, state), idempotency_key, replayable)

    def _run_definition(self, statement: st.TableDefinition) -> Result:
        """Run a definition that was made without a text; as `script` does with one."""
        self._require_open()
        return self._define(statement, Given(None, {}), None)

    def _define(self, statement: st.TableDefinition, given: Given, idempotency_key: str | None) -> Result:
        if self._current is not None:
            return self._definitions.run(statement, given, self._current, alone=False)
        replayable = not (isinstance(statement, st.CreateTable) and statement.query is not None)
        run = partial(self._definitions.run, statement, given, alone=True)
        return self._alone(run, idempotency_key, replayable)

    def _call(self, call: st.Call, given: Given, idempotency_key: str | None) -> Result:
        if self._current is not None:
            return self._procedures.run(call, given, self._current, alone=False)
        return self._alone(partial(self._procedures.run, call, given, alone=True), idempotency_key, True)

    def _set_wap(self, **options: str | None) -> Result:
        """Say where writes go from now on in tables with ``write.wap.enabled``."""
        if self._current is not None:
            raise TransactionError(
                "wap.id and wap.branch cannot be set inside a transaction", hint="SET them before BEGIN"
            )
        wap = replace(self._wap, **options)
        if wap.id is not None and wap.branch is not None:
            raise ConfigurationError(
                "wap.id and wap.branch cannot be set both: rows go to a branch, or to a snapshot of none",
                hint=f"RESET wap.{'branch' if 'id' in options else 'id'} first",
            )
        self._wap = wap
        return Result.of_nothing(StatementReport("SET"))

    @contextmanager
    def wap(self, *, id: str | None = None, branch: str | None = None) -> Iterator[None]:  # noqa: A002 as Spark has it
        """Write, audit, publish: within the block, rows that are written to tables with ``write.wap.enabled`` wait.

        Args:
            id: Writes make snapshots that no branch names, under this id; `IcebergTable.publish_changes` publishes one.
            branch: Reads and writes are about this branch, which the first write makes; `IcebergTable.fast_forward`
                publishes it.

        Raises:
            ConfigurationError: Both are given, or none.
            TransactionError: A transaction is open.
        """
        if (id is None) == (branch is None):
            raise ConfigurationError("wap: expected an id or a branch", hint="session.wap(branch='audit')")
        before = self._wap
        self._wap = Wap()
        try:
            self._set_wap(id=id, branch=branch)
            yield
        finally:
            self._wap = before

    def _alone(
        self, run: Callable[[TransactionState], Result], idempotency_key: str | None, replayable: bool
    ) -> Result:
        """Run a statement as a transaction, again on the newest state where that gives the same as running it later."""
        attempts = Attempts(self._retry, self._clock)
        while True:
            attempts.start()
            try:
                with self._unit(idempotency_key) as state:
                    return commit_unit(run(state), state)
            except CommitConflictError:
                if not replayable or not attempts.wait():
                    raise

    # Transactions

    def transaction(self, isolation: Isolation = "serializable", *, idempotency_key: str | None = None) -> Transaction:
        """A transaction as a context manager: commits at the end of the block, rolls back when it raises.

        Args:
            isolation: ``"serializable"`` or ``"snapshot"``.
            idempotency_key: A text of the caller's under which the block may land once: asked again, its statements
                write nothing and ``snapshot_ids`` are those of the first time.

        Raises:
            ConfigurationError: There is no such isolation level.
        """
        if isolation not in ("serializable", "snapshot"):
            raise ConfigurationError(f"isolation: expected 'serializable' or 'snapshot', found {isolation!r}")
        return Transaction(self, isolation, idempotency_key)

    def run(
        self,
        work: Callable[[Transaction], T],
        *,
        isolation: Isolation = "serializable",
        idempotency_key: str | None = None,
    ) -> T:
        """Run a function as a transaction, again from the start when the commit conflicts with another one.

        The function is given the transaction and may be called several times, within the session's `RetryConfig`; what
        it does beside the transaction is not undone.

        Args:
            work: Reads and writes through the transaction it is given; its value is returned.
            isolation: As for `transaction`.
            idempotency_key: As for `transaction`.

        Raises:
            CommitConflictError: It conflicted as often as it may be tried.
            IcefusionError: Anything else, at once; nothing of it landed unless it is a `CommitStateUnknownError`.
        """
        attempts = Attempts(self._retry, self._clock)
        while True:
            attempts.start()
            try:
                with self.transaction(isolation, idempotency_key=idempotency_key) as tx:
                    value = work(tx)
            except CommitConflictError:
                if not attempts.wait():
                    raise
                continue
            return value

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open on this thread."""
        return self._current is not None

    @property
    def _current(self) -> TransactionState | None:
        state: TransactionState | None = getattr(self._local, "state", None)
        return state

    def _new_state(self, isolation: Isolation | None = "snapshot", key: str | None = None) -> TransactionState:
        return TransactionState(
            self._client,
            self._committer,
            isolation=isolation,
            reporter=self._reporter,
            idempotency_key=key,
            views=self._views,
            wap=self._wap,
        )

    @contextmanager
    def _unit(self, idempotency_key: str | None) -> Iterator[TransactionState]:
        """A transaction for a single statement, which is discarded if the statement fails."""
        state = self._new_state(None, idempotency_key)
        try:
            yield state
        except BaseException:
            if state.status is Status.ACTIVE:
                state.rollback()
            raise

    def _begin(self, isolation: Isolation) -> Result:
        if self._current is not None:
            raise TransactionError("a transaction is open already", hint="COMMIT or ROLLBACK it first")
        self._local.state = self._new_state(isolation)
        self._local.block = False
        return Result.of_nothing(StatementReport("BEGIN"))

    def _commit(self) -> Result:
        state = self._end("COMMIT")
        reports = state.commit()
        report = StatementReport("COMMIT", seconds=sum(r.seconds for r in reports), commits=reports)
        return Result.of_nothing(report, snapshot_id=reports[0].snapshot_id if len(reports) == 1 else None)

    def _rollback(self) -> Result:
        self._end("ROLLBACK").rollback()
        return Result.of_nothing(StatementReport("ROLLBACK"))

    def _end(self, word: str) -> TransactionState:
        state = self._current
        if state is None:
            raise TransactionError(f"{word}: no transaction is open", hint="begin one with BEGIN")
        if self._local.block:
            raise TransactionError(
                f"{word} inside a transaction block", hint="the block commits at its end and rolls back when it raises"
            )
        self._local.state = None
        return state

    def _enter_block(self, isolation: Isolation, idempotency_key: str | None) -> TransactionState:
        self._require_open()
        if self._current is not None:
            raise TransactionError("a transaction is open already", hint="transactions do not nest")
        state = self._new_state(isolation, idempotency_key)
        self._local.state = state
        self._local.block = True
        return state

    def _leave_block(self, state: TransactionState) -> None:
        if self._current is not state:
            raise TransactionError("transaction blocks were left out of order, or on another thread")
        self._local.state = None

    # Functions

    def register(self, function: Any, *, volatile: bool | None = None) -> None:
        """Let statements call a function of DataFusion's Python package, for as long as the session lasts.

        Args:
            function: What ``datafusion.udf``, ``udaf`` or ``udwf`` made. One that was registered under its name before
                is replaced.
            volatile: Whether it may answer differently each time. Statements that call such a function are not run
                again after a conflict. By default it is found out, and functions of which it cannot be count as such.

        Raises:
            ConfigurationError: It is something else, or the engine has a function of its name.
        """
        self._require_open()
        self._engine.functions.register(function, volatile=volatile)

    def create_function(
        self,
        name: str,
        function: Callable[..., Any],
        input_types: Sequence[pa.DataType | str],
        return_type: pa.DataType | str,
        *,
        volatility: Volatility = "immutable",
        by_row: bool = False,
    ) -> None:
        """Let statements call a function of Python, for as long as the session lasts.

        Args:
            name: Its name; upper and lower case make no difference.
            function: Takes a pyarrow array for each argument and returns one of the same length. What it raises is
                the cause of the `ExecutionError` that the statement raises.
            input_types: The types of its arguments, of Arrow's or as SQL writes them: ``"decimal(10, 2)"``.
            return_type: The type of what it returns.
            volatility: ``"immutable"``, or ``"stable"`` where it may answer differently in the next statement, or
                ``"volatile"`` where it may with each call.
            by_row: Whether it takes and returns Python values instead, and is called for each row; NULL is None.

        Raises:
            ConfigurationError: A type is unknown, or the engine has a function of this name.
        """
        self._require_open()
        self._engine.functions.create(name, function, input_types, return_type, volatility, by_row=by_row)

    def unregister(self, name: str) -> None:
        """Forget a function that was registered or created.

        Raises:
            ConfigurationError: There is none of this name.
        """
        self._require_open()
        self._engine.functions.unregister(name)

    # Tables and writers

    def table(self, name: str) -> IcebergTable:
        """A table, for changes by method: ``session.table("ns.t").delete("id = 1")``.

        Args:
            name: ``namespace.table``, as in SQL.

        Raises:
            TableNotFoundError: There is no such table.
        """
        self._require_open()
        table = IcebergTable(self, name)
        self._handle(parse_name(name))  # a wrong name should be told now, and not at the first change
        return table

    def _handle(self, name: st.Name) -> TableHandle:
        """The table that a name stands for now, on this thread."""
        return self._seen().pin(name).handle

    def _seen(self) -> TransactionState:
        """What the transaction that is open on this thread sees; or what there is now, if none is open."""
        return self._current or self._new_state()

    def register_table(self, name: str, metadata_location: str) -> IcebergTable:
        """Make a table known to the catalog by the metadata file that it stands at.

        Args:
            name: ``namespace.table``, as in SQL.
            metadata_location: Where the file is.

        Raises:
            TableExistsError: There is a table of that name.
            StorageError: There is no such file, or it is none of a table.
        """
        self.sql("CALL system.register_table($table, $file)", {"table": name, "file": metadata_location})
        return self.table(name)

    def writer(
        self, table: str, *, retry: RetryConfig | None = None, batch: BatchConfig | None = None
    ) -> IcebergTableWriter:
        """A writer that appends Arrow data to one table.

        Args:
            table: ``namespace.table``, as in SQL.
            retry: In place of the session's.
            batch: In place of the session's.

        Raises:
            TableNotFoundError: There is no such table.
        """
        self._require_open()
        committer = self._committer if retry is None else self._committer.with_retry(retry)
        return IcebergTableWriter(
            table,
            executor=self._executor,
            new_state=lambda key: TransactionState(
                self._client,
                committer,
                reporter=self._reporter,
                idempotency_key=key,
                views=self._views,
                wap=self._wap,
            ),
            batch=batch or self._batch,
            threads=self._threads,
        )

    # Life

    @property
    def pool(self) -> Pool:
        """The connections to the catalog; ``session.pool.stats()`` counts them."""
        return Pool(self._client)

    def close(self) -> None:
        """Roll back what is open on this thread and give back the catalog's connections."""
        if self._closed:
            return
        self._closed = True
        state = self._current
        if state is not None and state.status is Status.ACTIVE:
            self._local.state = None
            state.rollback()
        self._client.close_attached()
        if self._owns_catalog:
            self._client.close()

    def _require_open(self) -> None:
        if self._closed:
            raise TransactionError("the session is closed", hint="open another with icefusion.connect")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<icefusion.Session on catalog {self._client.name!r}>"


class Pool:
    """The connections to a session's catalog."""

    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    def stats(self) -> PoolStats | None:
        """How many connections there are just now; None for catalogs that do not tell."""
        return self._client.stats()


def _check_mode(write_mode: str | None) -> None:
    if write_mode is not None and write_mode not in WRITE_MODES:
        raise ConfigurationError(f"write_mode: expected {' or '.join(WRITE_MODES)}, found {write_mode!r}")
