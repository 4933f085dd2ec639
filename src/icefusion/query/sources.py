"""Data that the caller passes by name, as tables of a query.

What is in memory is handed to DataFusion as it is, without a copy. What can only be streamed is never collected:
DataFusion would read a reader to its end while planning, but it streams from a `pyarrow.dataset.Dataset`, asking for
one batch after the other. So a stream is dressed up as a dataset with one fragment. A stream can be read once; a
second scan of it (a self join, a repeated run) is an error that says so instead of an empty table.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table

from icefusion.bridge.arrays import with_nulls_below
from icefusion.errors import BindError, ExecutionError, IcefusionError, SchemaError
from icefusion.query.survivors import sealed

__all__ = ["Source"]

PARTED_ROWS = 65_536
_PASSING_NAME = "?passing?"

OpenStream = Callable[[], Iterable[pa.RecordBatch]]


class Source:
    """A table that was passed by name.

    Use `Source.of`.

    Attributes:
        name: The name it was passed by.
        schema: Its Arrow schema.
        replayable: Whether it can be read more than once.
        error: What reading it raised last; DataFusion itself would pass on nothing but a text.
    """

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        *,
        batches: list[pa.RecordBatch] | None = None,
        dataset: ds.Dataset | None = None,
        frame: DataFrame | None = None,
        open_stream: OpenStream | None = None,
        replayable: bool = True,
    ) -> None:
        self.name = name
        self.schema = schema
        self.replayable = replayable
        self.error: BaseException | None = None
        self.batches = batches
        self.frame = frame
        self.dataset = dataset
        self._open_stream = open_stream
        self._opened = False
        self._lock = threading.Lock()
        if open_stream is not None:
            self.dataset = _stream_dataset(self)

    @classmethod
    def of(cls, name: str, data: Any) -> Source:
        """Data under a name: anything that speaks Arrow.

        That is: pyarrow tables, batches, readers and datasets; pandas and polars frames; objects with
        ``__arrow_c_stream__`` or ``__arrow_c_array__``; DataFusion DataFrames; a list of record batches; a list of
        dicts or a dict of lists; a generator of record batches.

        Raises:
            BindError: It does not.
        """
        if isinstance(data, Source):
            return data
        try:
            source = cls._of_arrow(name, data) or cls._of_python(name, data)
        except IcefusionError:
            raise
        except Exception as exc:
            raise BindError(f"{name}: cannot read {type(data).__name__} as a table: {exc}") from exc
        if source is None:
            raise BindError(
                f"{name}: {type(data).__module__}.{type(data).__qualname__} is not a table",
                hint="pass something that speaks Arrow: a pyarrow table or reader, a pandas or polars frame, ...",
            )
        return source

    @classmethod
    def _of_arrow(cls, name: str, data: Any) -> Source | None:
        if isinstance(data, pa.Table):
            return cls(name, data.schema, batches=data.to_batches())
        if isinstance(data, pa.RecordBatch):
            return cls(name, data.schema, batches=[data])
        if isinstance(data, pa.RecordBatchReader):
            return cls(name, data.schema, open_stream=lambda: data, replayable=False)
        if isinstance(data, DataFrame):
            return cls(name, data.schema(), frame=data)
        if isinstance(data, ds.Dataset):
            return cls(name, data.schema, dataset=data)
        if isinstance(data, ds.Scanner):
            return cls(name, data.projected_schema, open_stream=data.to_batches, replayable=False)
        module = type(data).__module__.partition(".")[0]
        if module == "pandas" and hasattr(data, "columns"):
            table = pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata()
            return cls(name, table.schema, batches=table.to_batches())
        if module == "polars" and hasattr(data, "to_arrow"):
            table = data.to_arrow()
            return cls(name, table.schema, batches=table.to_batches())
        if hasattr(data, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(data)
            return cls(name, reader.schema, open_stream=lambda: reader, replayable=False)
        if hasattr(data, "__arrow_c_array__"):
            batch = pa.record_batch(data)
            return cls(name, batch.schema, batches=[batch])
        return None

    @classmethod
    def _of_python(cls, name: str, data: Any) -> Source | None:
        if isinstance(data, dict) and data:
            table = pa.table(data)
            return cls(name, table.schema, batches=table.to_batches())
        if isinstance(data, list | tuple) and data:
            if all(isinstance(item, dict) for item in data):
                table = pa.Table.from_pylist(list(data))
                return cls(name, table.schema, batches=table.to_batches())
            if all(isinstance(item, pa.RecordBatch) for item in data):
                return cls(name, data[0].schema, batches=list(data))
            if all(isinstance(item, pa.Table) for item in data):
                return cls(name, data[0].schema, batches=[batch for item in data for batch in item.to_batches()])
        if isinstance(data, Iterator):
            return cls._of_iterator(name, data)
        return None

    @classmethod
    def _of_iterator(cls, name: str, data: Iterator[Any]) -> Source:
        """The first batch is taken at once: it tells the schema."""
        first = next(data, None)
        if not isinstance(first, pa.RecordBatch):
            found = "nothing" if first is None else type(first).__name__
            raise BindError(
                f"{name}: an iterator of record batches was expected, it gave {found}",
                hint="an iterator without batches has no schema: pass pa.RecordBatchReader.from_batches(schema, ...)",
            )
        return cls(name, first.schema, open_stream=lambda: _chain(first, data), replayable=False)

    def check_present(self) -> None:
        """Look for the files of a table of files, once they are being read. Other sources have none."""

    def blame(self, text: str) -> IcefusionError | None:  # noqa: ARG002 - for those that can tell
        """The error to raise for what the engine says, where it is about a file of this table."""
        return None

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """The batches one after another, without DataFusion's help where it is not needed.

        Raises:
            ExecutionError: It is a stream and was read before.
        """
        if self._open_stream is not None:
            return self.open()
        if self.batches is not None:
            return iter(self.batches)
        if self.frame is not None:
            return (batch.to_pyarrow() for batch in self.frame.execute_stream())
        assert self.dataset is not None  # there is no fifth kind
        return iter(self.dataset.to_batches())

    def to_frame(self, context: SessionContext, threads: int, lock: threading.RLock) -> DataFrame:
        """A DataFrame over the data. A stream is not touched before the DataFrame runs."""
        if self.frame is not None:
            return self.frame
        if self.dataset is not None:
            # Conditions stay above it: the engine would leave them to the dataset altogether, and pyarrow answers some
            # in another way. It finds NaN greater than nothing, and takes NULL NOT IN (1, 2, 3, 4) for true.
            return sealed(context.read_table(Table(self.dataset)))
        assert self.batches is not None  # one of the three is there
        batches = [_without_hidden_values(batch) for batch in self.batches]
        partitions = _partitions(batches, threads) or [[_empty_batch(self.schema)]]
        with lock:
            frame = context.create_dataframe(partitions, name=_PASSING_NAME)
            context.deregister_table(_PASSING_NAME)
        return frame

    def open(self) -> Iterator[pa.RecordBatch]:
        """The batches of a stream, each checked against the schema.

        Raises:
            ExecutionError: The stream was read before.
        """
        assert self._open_stream is not None  # only streams are opened
        with self._lock:
            if self._opened and not self.replayable:
                raise ExecutionError(
                    f"{self.name} is a stream and was already read",
                    hint="a statement that reads it twice, or a second run, needs a table: pass it collected",
                )
            self._opened = True
        return self._checked(self._open_stream())

    def open_columns(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - all are there anyway
        """The batches of a stream with some columns, or with more.

        Raises:
            ExecutionError: The stream was read before.
        """
        return self.open()

    def _checked(self, stream: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        batches = iter(stream)
        try:
            for batch in batches:
                if batch.schema.names != self.schema.names or batch.schema.types != self.schema.types:
                    raise SchemaError(
                        f"{self.name}: batches differ in schema: the first has ({_fields(self.schema)}), "
                        f"a later one ({_fields(batch.schema)})",
                        hint="write them in separate calls",
                    )
                yield batch
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()


def _fields(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _partitions(batches: list[pa.RecordBatch], threads: int) -> list[list[pa.RecordBatch]]:
    """Spread the rows over the threads; little data stays one partition, which keeps its order.

    Batches are cut no more often than that takes: the engine takes a slice for as large as what it is cut from, and
    cuts batches that are too long by itself.
    """
    rows = sum(batch.num_rows for batch in batches)
    partitions: list[list[pa.RecordBatch]] = []
    room = 0
    share = rows if rows <= PARTED_ROWS else -(-rows // threads)
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            if not room:
                partitions.append([])
                room = share
            part = batch.slice(start, room)
            partitions[-1].append(part)
            start += part.num_rows
            room -= part.num_rows
    return partitions


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _without_hidden_values(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with NULL in the fields of each NULL struct, where Arrow allows any value to lie.

    The engine takes a field out of a struct as it stands, without a look at the struct.
    """
    if not any(pa.types.is_nested(column.type) and column.null_count for column in batch.columns):
        return batch
    columns = [with_nulls_below(column) if pa.types.is_nested(column.type) else column for column in batch.columns]
    if [column.type for column in columns] != batch.schema.types:
        return batch  # fields that may not be NULL have nothing to hide behind
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield first
        yield from rest
    finally:
        close = getattr(rest, "close", None)
        if close is not None:
            close()


def _stream_dataset(source: Source) -> ds.Dataset:
    return _StreamDataset(source)


class _StreamDataset(ds.Dataset):  # type: ignore[misc]
    """A dataset of one fragment. pyarrow's own class cannot be made from Python, so nothing of it is initialised."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __reduce__(self) -> Any:
        raise TypeError("a stream cannot be pickled")

    @property
    def schema(self) -> pa.Schema:
        return self._source.schema

    def scanner(self, columns: list[str] | None = None, **_: Any) -> _StreamScanner:
        return _StreamScanner(self._source, columns)

    def get_fragments(self, filter: Any = None) -> list[_StreamFragment]:  # noqa: A002, ARG002
        return [_StreamFragment(self._source)]


class _StreamFragment:
    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def schema(self) -> pa.Schema:
        return self._source.schema

    def scanner(
        self,
        schema: pa.Schema | None = None,  # noqa: ARG002 - part of the protocol
        columns: list[str] | None = None,
        **_: Any,
    ) -> _StreamScanner:
        return _StreamScanner(self._source, columns)


class _StreamScanner:
    """Hands out the batches with the columns chosen; conditions stay above it."""

    def __init__(self, source: Source, columns: list[str] | None) -> None:
        self._source = source
        self._columns = list(source.schema.names) if columns is None else list(columns)

    @property
    def projected_schema(self) -> pa.Schema:
        return pa.schema([self._source.schema.field(name) for name in self._columns])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._source.open_columns(self._columns):
                yield _without_hidden_values(batch).select(self._columns)
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._source.error = exc
            raise
