"""A query that is planned, and the running of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import DataFrame
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile

from icefusion.errors import ExecutionError, StorageError
from icefusion.query.allocator import reclaimer
from icefusion.query.damage import damaged_file, suspect
from icefusion.query.explain import Explaining, explain_rows
from icefusion.query.files import LiveFile
from icefusion.query.io_scan import FileIOScan
from icefusion.query.presence import check_present
from icefusion.query.sources import Source
from icefusion.query.survivors import sealed
from icefusion.query.translate import is_engine_error, translate
from icefusion.query.views import TableView
from icefusion.reports import ScanReport
from icefusion.sql.statements import Query

if TYPE_CHECKING:
    from icefusion.query.engine import Engine

__all__ = ["PlannedQuery", "translated"]

MAX_STREAMS = 32


class PlannedQuery:
    """A planned query. It can be run more than once, as far as its sources can be read more than once.

    Attributes:
        schema: The schema of the result.
        scans: Which files of which table it reads.
        reads: The tables it reads, and for each what is true of every row that matters to it.
        files_by_name: For tables with identity columns, the data file behind each value of `FILE_COLUMN`.
        whole_files: Files that were left out because all of their rows are in the answer.
        text: The query as it was planned.
        explaining: What there is to be told besides the engine's own plans, if the query is an EXPLAIN.
        tells_places: Whether functions in it tell where rows lie, which only a scan can.
    """

    reads: tuple[tuple[TableView, BooleanExpression], ...] = ()
    files_by_name: Mapping[str, LiveFile] = {}
    whole_files: tuple[LiveFile, ...] = ()
    explaining: Explaining | None = None
    tells_places = False

    def __init__(
        self,
        query: Query,
        frame: DataFrame,
        schema: pa.Schema,
        scans: tuple[ScanReport, ...],
        sources: Sequence[Source | FileIOScan],
        files: Sequence[tuple[TableView, tuple[DataFile, ...]]],
        engine: Engine,
    ) -> None:
        self._query = query
        self.text = query.text
        self._frame = frame
        self._sources = sources
        self._files = files
        self._engine = engine  # a frame needs its session alive
        self._limited = getattr(engine, "memory_limit_bytes", None) is not None
        self.scans = scans
        self.schema = schema

    @property
    def replayable(self) -> bool:
        """Whether every source of the query can be read again."""
        return all(source.replayable for source in self._sources)

    def stream(self) -> Iterator[pa.RecordBatch]:
        """Run the query: one stream of batches. Closing it cancels the query.

        Raises:
            ExecutionError: While it runs, the query failed; `OutOfMemoryError` where it was for memory.
            StorageError: A file is missing or broken.
        """
        with self._running():
            stream = self._frame.execute_stream()
            self._check_files()
        rows = self._drain(iter(stream))
        return rows if self.explaining is None else self._explained(rows, self.explaining)

    def _explained(self, plans: Iterator[pa.RecordBatch], explaining: Explaining) -> Iterator[pa.RecordBatch]:
        """The engine's own plans, and what else an EXPLAIN tells."""
        began = time.perf_counter()
        yield from plans
        rows = explain_rows(explaining, self._engine.manifests, time.perf_counter() - began)
        columns = [pa.array([row[position] for row in rows], field.type) for position, field in enumerate(self.schema)]
        if rows:
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def streams(self) -> list[Iterator[pa.RecordBatch]]:
        """Run the query: one stream or several, to be drained at the same time, each by a thread of its own.

        Partitions of a join wait for each other: they tell each other what they hold, and when one of them fails the
        others would wait for ever. So the engine itself has to bring them together, which asks all of them on threads
        of its own and ends all with the first error; likewise where there would be too many streams.
        """
        with self._running():
            plan = self._frame.execution_plan()
            partitions: list[Iterator[Any]]
            if plan.partition_count > MAX_STREAMS or "JoinExec" in plan.display_indent():
                partitions = [iter(self._frame.execute_stream())]
            else:
                partitions = [iter(stream) for stream in self._frame.execute_stream_partitioned()]
            self._check_files()
        return [self._drain(partition) for partition in partitions]

    def to_frame(self) -> DataFrame:
        """The query as a DataFrame of DataFusion's, for the user to go on with. It keeps alive what it needs.

        Raises:
            StorageError: A file is missing.
        """
        with self._running():
            self._check_files()
            # Conditions from above could not be told of functions that say where a row lies.
            return sealed(self._frame) if self.tells_places else self._frame

    def explain(self) -> str:
        """The physical plan, one operator a line."""
        with self._running():
            return str(self._frame.execution_plan().display_indent())

    def _check_files(self) -> None:
        for view, files in self._files:
            check_present(files, view.io)
        for source in self._sources:
            if isinstance(source, Source):
                source.check_present()

    def _drain(self, partition: Iterator[Any]) -> Iterator[pa.RecordBatch]:
        """The batches of a partition, as pyarrow has them."""
        with reclaimer.watching() if self._limited else nullcontext():
            while True:
                with self._running():
                    batch = next(partition, None)
                if batch is None:
                    return
                rows = batch.to_pyarrow()
                if rows.num_rows:
                    yield self._stamped(rows)

    def _stamped(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The batch in the schema that was promised: nullability and metadata may differ from batch to batch."""
        if rows.schema.equals(self.schema, check_metadata=True):
            return rows
        if rows.schema.types == self.schema.types:
            return pa.RecordBatch.from_arrays(rows.columns, schema=self.schema)
        return rows.cast(self.schema)

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            with self._engine.functions.telling(self.text), translated(self._query, planning=False):
                yield
        except (ExecutionError, StorageError) as exc:
            for source in self._sources:
                if source.error is not None:
                    error, source.error = source.error, None
                    raise error from exc
            for source in self._sources:
                if isinstance(source, Source) and (blamed := source.blame(str(exc.__cause__ or exc))) is not None:
                    raise blamed from exc
            self._check_files()  # a file that is broken is named rather than what the engine says of it
            if isinstance(exc, StorageError) and exc.path is None:
                suspects = (suspect(file, view.io) for view, files in self._files for file in files)
                if (damaged := damaged_file(suspects)) is not None:
                    raise damaged from exc
            raise


@contextmanager
def translated(query: Query, *, planning: bool) -> Iterator[None]:
    """Let what the engine raises come out as our errors."""
    try:
        yield
    except BaseException as exc:
        if not is_engine_error(exc):
            raise
        raise translate(exc, query, planning=planning) from exc
