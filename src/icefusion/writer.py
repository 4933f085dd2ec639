"""`IcebergTableWriter`: Arrow data into one table, by the same path that INSERT takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from icefusion.bridge.align import Alignment
from icefusion.changes.execute import Progress, landed_result, require_writable
from icefusion.config import BatchConfig
from icefusion.errors import BindError, ConfigurationError, SchemaError, TransactionError
from icefusion.execution import Executor, commit_unit
from icefusion.pinned import PinnedTable, Status
from icefusion.query.sources import Source
from icefusion.reports import RowCounts, StatementReport
from icefusion.result import Result
from icefusion.sql.names import parse_name
from icefusion.transaction import TransactionState

__all__ = ["IcebergTableWriter"]


class IcebergTableWriter:
    """Appends Arrow data to one table. Made by `Session.writer`.

    Without a transaction each call makes one snapshot, however much it is given. After `begin_transaction` all calls
    together make one, at `commit_transaction`. Columns are matched by name; missing ones take their default or NULL.

    A writer belongs to one thread at a time.
    """

    def __init__(
        self,
        table: str,
        *,
        executor: Executor,
        new_state: Callable[[str | None], TransactionState],
        batch: BatchConfig,
        threads: int,
    ) -> None:
        self._name = parse_name(table)
        self._executor = executor
        self._new_state = new_state
        self._batch = batch
        self._threads = batch.concurrent_batches or threads
        self._state: TransactionState | None = None
        # A wrong name should be told now, and not when the first batch is ready.
        self._new_state(None).pin(self._name)

    # Writing

    def write_batch(self, data: Any, *, idempotency_key: str | None = None, progress: Progress | None = None) -> Result:
        """Append one record batch, table, or other Arrow-capable object, as one snapshot.

        Args:
            data: ``pa.RecordBatch``, ``pa.Table``, a pandas or Polars frame, or anything with the Arrow C interface.
            idempotency_key: A text of the caller's under which this may land once; see `Session.sql`.
            progress: Told of rows and bytes as they are written.

        Returns:
            `Result` with ``rows_inserted``, and ``snapshot_id`` outside a transaction.

        Raises:
            SchemaError: A column or a value does not fit the table; nothing was written.
            CommitError: See `icefusion.errors`.
        """
        return self._append(_as_source(data), progress, idempotency_key)

    def write_batches(
        self, data: Iterable[Any] | Any, *, idempotency_key: str | None = None, progress: Progress | None = None
    ) -> Result:
        """Append a list or generator of record batches, or a `pa.RecordBatchReader`, as one snapshot.

        The input is streamed: memory does not grow with its length. All batches must have the schema of the first.

        Args:
            data: The batches.
            idempotency_key: A text of the caller's under which this may land once; see `Session.sql`.
            progress: Told of rows and bytes as they are written.

        Returns:
            `Result` with ``rows_inserted``, and ``snapshot_id`` outside a transaction.

        Raises:
            SchemaError: A column or a value does not fit the table; nothing was written.
            CommitError: See `icefusion.errors`.
        """
        return self._append(_as_stream(data), progress, idempotency_key)

    def _append(self, source: Source | None, progress: Progress | None, idempotency_key: str | None) -> Result:
        began = time.perf_counter()
        if self._state is not None and idempotency_key is not None:
            raise TransactionError(
                "idempotency_key: a transaction is open, which lands as a whole",
                hint="give the key to begin_transaction(idempotency_key=...)",
            )
        state = self._state or self._new_state(idempotency_key)
        try:
            pinned = state.pin(self._name)
            require_writable(pinned.handle.metadata.format_version, pinned.handle.name)
            state.check_may_write(pinned)
            result = self._write(source, pinned, state, progress, began)
            return result if self._state is not None else commit_unit(result, state)
        except BaseException:
            if self._state is None and state.status is Status.ACTIVE:
                state.rollback()
            raise

    def _write(
        self,
        source: Source | None,
        pinned: PinnedTable,
        state: TransactionState,
        progress: Progress | None,
        began: float,
    ) -> Result:
        landed = state.find_landed(pinned)
        if landed is not None:
            return landed_result("APPEND", landed, began)
        if source is None:
            return Result.of_change(StatementReport("APPEND", seconds=time.perf_counter() - began))
        schema = pinned.handle.metadata.schema()
        alignment = Alignment.plan(source.schema, schema, by="name", table=pinned.handle.name)
        batches = self._cut(source.record_batches())
        written = self._executor.write(pinned.handle, [batches], alignment.apply, progress, threads=self._threads)
        self._executor.stage_append(pinned, written, state)
        rows = RowCounts(inserted=written.report.rows)
        report = StatementReport("APPEND", seconds=time.perf_counter() - began, writes=(written.report,), rows=rows)
        return Result.of_change(report)

    def _cut(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches no larger than the configuration allows; slices of what came, without a copy."""
        for batch in batches:
            rows = self._rows_allowed(batch)
            if batch.num_rows <= rows:
                yield batch
            elif not self._batch.auto_split:
                raise SchemaError(
                    f"a batch has {batch.num_rows} rows and {batch.nbytes} bytes; allowed are "
                    f"{self._batch.max_rows_per_batch} rows and {self._batch.max_memory_per_batch_bytes} bytes",
                    hint="set BatchConfig(auto_split=True), or raise its limits",
                )
            else:
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def _rows_allowed(self, batch: pa.RecordBatch) -> int:
        if batch.num_rows == 0:
            return 1
        row_bytes = max(1, int(batch.nbytes) // int(batch.num_rows))
        return max(1, min(self._batch.max_rows_per_batch, self._batch.max_memory_per_batch_bytes // row_bytes))

    # Transactions

    @property
    def has_active_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._state is not None

    @property
    def current_transaction_id(self) -> str | None:
        """The id of the open transaction; None when there is none."""
        return self._state.id if self._state is not None else None

    def begin_transaction(self, *, idempotency_key: str | None = None) -> str:
        """Begin a transaction and return its id; what is written from now on waits for the commit.

        Args:
            idempotency_key: A text of the caller's under which the transaction may land once; see `Session.sql`.

        Raises:
            TransactionError: One is open already.
        """
        if self._state is not None:
            raise TransactionError(
                f"transaction {self._state.id} is open already", hint="commit it or roll it back first"
            )
        self._state = self._new_state(idempotency_key)
        return self._state.id

    def commit_transaction(self, transaction_id: str) -> Result:
        """Commit everything written since `begin_transaction` as one snapshot.

        Raises:
            TransactionError: The id is not the open transaction's.
            CommitError: See `icefusion.errors`; the transaction is over in every case.
        """
        state = self._take(transaction_id)
        began = time.perf_counter()
        reports = state.commit()
        if state.landed:
            return landed_result("COMMIT", next(iter(state.landed.values())), began)
        rows = RowCounts(inserted=sum(report.added_rows for report in reports))
        report = StatementReport("COMMIT", seconds=sum(r.seconds for r in reports), commits=reports, rows=rows)
        return Result.of_change(report, snapshot_id=reports[0].snapshot_id if reports else None)

    def rollback_transaction(self, transaction_id: str) -> None:
        """Throw away everything written since `begin_transaction`; its files are deleted.

        Raises:
            TransactionError: The id is not the open transaction's.
        """
        self._take(transaction_id).rollback()

    def _take(self, transaction_id: str) -> TransactionState:
        state = self._state
        if state is None or state.id != transaction_id:
            opened = f"open is {state.id}" if state is not None else "none is open"
            raise TransactionError(f"there is no open transaction {transaction_id!r}; {opened}")
        self._state = None
        return state


def _as_source(data: Any) -> Source:
    return Source.of("data", data)


def _as_stream(data: Any) -> Source | None:
    """A source over batches that are read one after another; None when there is not even a first one."""
    if hasattr(data, "__arrow_c_stream__") or isinstance(data, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return _as_source(data)
    try:
        items = iter(data)
    except TypeError:
        raise ConfigurationError(
            f"write_batches: expected record batches, found {type(data).__name__}",
            hint="give a list or generator of record batches, or a RecordBatchReader",
        ) from None
    batches = _flatten(items)
    first = next(batches, None)
    if first is None:
        return None
    return _as_source(_chain(first, batches))


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _flatten(items: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    for position, item in enumerate(items):
        if isinstance(item, pa.RecordBatch):
            yield item
            continue
        try:
            yield from _as_source(item).record_batches()
        except BindError as exc:
            raise ConfigurationError(
                f"write_batches: item {position} is no Arrow data but {type(item).__name__}",
                hint="give record batches, tables or frames",
            ) from exc
