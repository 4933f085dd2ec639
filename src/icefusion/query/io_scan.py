"""Data files that DataFusion cannot reach, or not within its memory limit, read through PyIceberg's file access.

The rows come from pyarrow's Parquet reader, dressed up as a `pyarrow.dataset.Dataset`, which DataFusion asks for
batches. It is the slower way: every batch goes through Python, and a file is one thread's work. It does what a native
scan does with the functions around it: columns in the types that are wanted, rows that are deleted left out, and where
a row lies in columns of their own.

Which columns are read is DataFusion's choice. Its conditions are not handed down. It would leave them to the dataset
altogether, and pyarrow answers some of them in another way: it takes ``NULL NOT IN (1, 2, 3, 4)`` for true and
finds NaN greater than nothing. What is handed down is which row groups can be left out, by the filter that the files
were chosen by. A limit of nearly all rows stands above the scan, across which no condition is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.types import NestedField

from icefusion.bridge.locations import DAMAGED, kind_of, local_path, missing_file
from icefusion.bridge.pruning import FileTests
from icefusion.errors import IcefusionError, StorageError
from icefusion.query.columns import quoted
from icefusion.query.fitting import fit
from icefusion.query.row_groups import as_file
from icefusion.query.survivors import lives, sealed
from icefusion.query.views import FILE_COLUMN, POSITION_COLUMN, TableView

__all__ = ["FileIOScan", "IOScanner", "RowsOf"]

BATCH_ROWS = 65_536
PIECE_ROWS = 8_192
PIECES_BYTES = 2 * 1024 * 1024
"""What is read of the columns of one file at a time, where memory is short."""
MIN_BUFFER_BYTES = 32 * 1024

FileTest = Callable[[DataFile], bool]
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


@dataclass(frozen=True)
class RowsOf:
    """A file, and what of it is to be seen.

    Attributes:
        file: The file.
        name: What stands in `FILE_COLUMN`.
        deleted: Positions of rows that are not to be seen, ascending.
    """

    file: DataFile
    name: str
    deleted: npt.NDArray[np.uint32]


class FileIOScan:
    """The rows of files of one physical schema.

    Attributes:
        schema: What it gives.
        parts: The files, in as many parts as there may be threads at work.
        error: What reading raised; DataFusion itself would pass on nothing but a text.
        replayable: It can be read again.
    """

    replayable = True

    def __init__(
        self,
        files: Sequence[RowsOf],
        schema: pa.Schema,
        io: FileIO,
        *,
        threads: int = 1,
        columns: dict[str, NestedField] | None = None,
        may_match: FileTest | None = None,
        piecewise: bool = False,
    ) -> None:
        self.schema = schema
        self.parts = _parts(files, threads)
        self.error: BaseException | None = None
        self._io = io
        self._columns = columns or {}
        self._may_match = may_match
        self._piecewise = piecewise

    def batches(self, files: Sequence[RowsOf], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of some of the files, in the order of these.

        Raises:
            StorageError: A file is missing or broken.
        """
        try:
            for rows in files:
                yield from self._of_file(rows, columns)
        except GeneratorExit:
            raise
        except BaseException as exc:
            self.error = exc
            raise

    def _of_file(self, rows: RowsOf, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        file = rows.file
        try:
            with self._open(file, len(columns)) as parquet:
                names = set(parquet.schema_arrow.names)
                read = [name for name in columns if name in names]
                start = 0
                for group in range(parquet.metadata.num_row_groups):
                    meta = parquet.metadata.row_group(group)
                    if self._wanted(file, meta):
                        position = start
                        # One group at a time: all that are asked for at once are held in memory at once.
                        rows_of_a_batch = PIECE_ROWS if self._piecewise else BATCH_ROWS
                        for batch in parquet.iter_batches(
                            rows_of_a_batch, row_groups=[group], columns=read, use_threads=not self._piecewise
                        ):
                            yield self._shaped(batch, rows, position, columns)
                            position += batch.num_rows
                    start += meta.num_rows
        except (GeneratorExit, IcefusionError):
            raise
        except FileNotFoundError as exc:
            raise missing_file(file) from exc
        except Exception as exc:
            message = f"cannot read {kind_of(file)} {file.file_path}: {exc}"
            raise StorageError(message, path=file.file_path, hint=DAMAGED) from exc

    @contextmanager
    def _open(self, file: DataFile, columns: int) -> Iterator[pq.ParquetFile]:
        # Without a buffer, or read ahead, what is wanted of a row group is in memory as a whole.
        settings: dict[str, Any] = {}
        if self._piecewise:
            settings = {"buffer_size": max(MIN_BUFFER_BYTES, PIECES_BYTES // max(1, columns)), "pre_buffer": False}
        local = local_path(file.file_path)
        if local is not None:
            with pq.ParquetFile(local, **settings) as parquet:
                yield parquet
            return
        with self._io.new_input(file.file_path).open() as stream, pq.ParquetFile(stream, **settings) as parquet:
            yield parquet

    def _shaped(self, batch: pa.RecordBatch, rows: RowsOf, start: int, columns: Sequence[str]) -> pa.RecordBatch:
        count = batch.num_rows
        arrays = []
        for name in columns:
            wanted = self.schema.field(name).type
            index = batch.schema.get_field_index(name)
            if name == FILE_COLUMN:
                arrays.append(pa.repeat(rows.name, count))
            elif name == POSITION_COLUMN:
                arrays.append(pa.array(np.arange(start, start + count, dtype=np.int64)))
            elif index < 0:
                arrays.append(pa.nulls(count, wanted))
            else:
                arrays.append(fit(batch.column(index), wanted, name))
        schema = pa.schema([self.schema.field(name) for name in columns])
        if not arrays:  # rows are counted
            shaped = batch.select([])
            keep = lives(rows.deleted, start, count)
            return shaped if keep is None else shaped.slice(0, pc.sum(keep).as_py() or 0)
        shaped = pa.RecordBatch.from_arrays(arrays, schema=schema)
        keep = lives(rows.deleted, start, count)
        return shaped if keep is None else shaped.filter(keep)

    def _wanted(self, file: DataFile, group: pq.RowGroupMetaData) -> bool:
        """Whether a row group may hold a row that the query wants, by its own bounds."""
        return self._may_match is None or self._may_match(as_file(file, group, self._columns))


class IOScanner:
    """Makes scans of one view through PyIceberg's file access.

    Args:
        context: The session they belong to.
        view: The table.
        threads: How many parts of a scan are read at a time.
        row_filter: True for every row that is wanted; None for all.
        piecewise: Whether a file is read in small pieces, of which there are many, rather than a row group at a time.

    Attributes:
        scans: Those that were made.
    """

    def __init__(
        self,
        context: SessionContext,
        view: TableView,
        threads: int,
        row_filter: BooleanExpression | None,
        *,
        piecewise: bool = False,
    ) -> None:
        self._context = context
        self._view = view
        self._threads = threads
        self._row_filter = row_filter
        self._piecewise = piecewise
        self.scans: list[FileIOScan] = []

    def of_all_rows(self) -> IOScanner:
        """The same for files of which every row counts."""
        other = IOScanner(self._context, self._view, self._threads, None, piecewise=self._piecewise)
        other.scans = self.scans
        return other

    def scan(self, files: Sequence[RowsOf], schema: pa.Schema, columns: dict[str, NestedField]) -> DataFrame:
        """The rows of files that are not deleted.

        Args:
            files: The files, of one physical schema.
            schema: What to read: column names as in the files, and the types wanted; a column that a file lacks is
                NULL. `FILE_COLUMN` and `POSITION_COLUMN` say where a row lies.
            columns: By their names in the files, those whose bounds in a footer may leave row groups out.
        """
        may_match = None
        if self._row_filter is not None:
            tests = FileTests(self._view.metadata, self._view.schema, self._row_filter)
            may_match = None if tests.trivial else tests.file_may_match
        plain = pa.schema([field.with_type(_VIEWS.get(field.type, field.type)) for field in schema])
        scan = FileIOScan(
            files,
            plain,
            self._view.io,
            threads=self._threads,
            columns=columns,
            may_match=may_match,
            piecewise=self._piecewise,
        )
        self.scans.append(scan)
        frame = sealed(self._context.read_table(Table(_Dataset(scan))))
        if plain == schema:
            return frame
        return frame.select(
            *(
                quoted(field.name).cast(field.type).alias(field.name) if field.type in _VIEWS else quoted(field.name)
                for field in schema
            )
        )


def _parts(files: Sequence[RowsOf], threads: int) -> list[list[RowsOf]]:
    """The files, spread so that the parts are of about the same size; one thread gets them in their order."""
    parts: list[list[RowsOf]] = [[] for _ in range(max(1, min(threads, len(files))))]
    if len(parts) == 1:
        return [list(files)]
    sizes = [0] * len(parts)
    for rows in sorted(files, key=lambda rows: -rows.file.file_size_in_bytes):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(rows)
        sizes[smallest] += rows.file.file_size_in_bytes
    return parts


class _Dataset(ds.Dataset):  # type: ignore[misc]
    """A dataset of one fragment a part. Nothing of pyarrow's own class is initialised, as it cannot be from Python."""

    def __init__(self, scan: FileIOScan) -> None:
        self._scan = scan

    def __reduce__(self) -> Any:
        raise TypeError("a scan cannot be pickled")

    @property
    def schema(self) -> pa.Schema:
        return self._scan.schema

    def scanner(self, columns: list[str] | None = None, **_: Any) -> _Scanner:
        return _Scanner(self._scan, (), columns)

    def get_fragments(self, filter: Any = None) -> list[_Fragment]:  # noqa: A002, ARG002 - part of the protocol
        return [_Fragment(self._scan, part) for part in self._scan.parts]


class _Fragment:
    def __init__(self, scan: FileIOScan, part: Sequence[RowsOf]) -> None:
        self._scan = scan
        self._part = part

    @property
    def schema(self) -> pa.Schema:
        return self._scan.schema

    def scanner(self, schema: pa.Schema | None = None, columns: list[str] | None = None, **_: Any) -> _Scanner:  # noqa: ARG002
        return _Scanner(self._scan, self._part, columns)


class _Scanner:
    """Hands out the batches of one part."""

    def __init__(self, scan: FileIOScan, part: Sequence[RowsOf], columns: list[str] | None) -> None:
        self._scan = scan
        self._part = part
        self._columns = list(scan.schema.names) if columns is None else list(columns)

    @property
    def projected_schema(self) -> pa.Schema:
        return pa.schema([self._scan.schema.field(name) for name in self._columns])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        return self._scan.batches(self._part, self._columns)
