"""The files of one load: one stream of record batches with one schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from icefusion.cli.readers import (
    COMPRESSIONS,
    CsvOptions,
    Opened,
    csv_names,
    open_arrow,
    open_csv,
    open_json,
    open_parquet,
)
from icefusion.errors import ConfigurationError, IcefusionError, SchemaError, StorageError

__all__ = ["FORMATS", "InputFiles", "detect_format"]

FORMATS = ("parquet", "csv", "json", "arrow")

_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}


class InputFiles:
    """Files that are loaded together.

    Args:
        paths: The files.
        form: One of `FORMATS`; None to tell each by its name.
        csv: How CSV is read.
        wanted: The schema of the table that the rows go into; None for a table that is still to be made.

    Attributes:
        schema: The schema of all batches. Every column may hold NULL: whether one may not is for the table to say.
        size_bytes: The size of all files.

    Raises:
        ConfigurationError: A file's format is not known.
        SchemaError: The first file's columns do not fit the table.
        StorageError: The first file cannot be read.
    """

    def __init__(
        self, paths: Sequence[Path], *, form: str | None, csv: CsvOptions, wanted: pa.Schema | None = None
    ) -> None:
        self._paths = list(paths)
        self._forms = [form or detect_format(path) for path in self._paths]
        self._csv = csv
        self._types = {} if wanted is None else {field.name: _plain(field.type) for field in wanted}
        self._hint = None
        self.size_bytes = sum(path.stat().st_size for path in self._paths)
        first = self._open(0).schema
        self.schema = pa.schema([pa.field(field.name, field.type) for field in first])
        if wanted is None:
            # What was inferred from the first rows holds for all of them.
            self._types = {field.name: field.type for field in first}
            self._hint = "types were told from the first rows: make the table by CREATE TABLE with others, then load"

    def batches(self, read_to: Callable[[float], None]) -> Iterator[pa.RecordBatch]:
        """The rows of all files, in order; ``read_to`` is told how many bytes of them were read.

        Raises:
            SchemaError: A file's columns differ from the first one's, or a value is not of its column's type.
            StorageError: A file cannot be read.
        """
        done_bytes = 0
        for index, path in enumerate(self._paths):
            opened = self._open(index)
            self._check_schema(path, opened.schema)
            with self._translated(path):
                for batch in opened.batches:
                    columns = [batch.column(name) for name in self.schema.names]
                    yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
                    read_to(done_bytes + opened.position_bytes())
            done_bytes += path.stat().st_size

    def _open(self, index: int) -> Opened:
        path = self._paths[index]
        with self._translated(path):
            match self._forms[index]:
                case "parquet":
                    return open_parquet(path)
                case "arrow":
                    return open_arrow(path)
                case "csv":
                    return open_csv(path, self._csv, self._types)
                case _:
                    return open_json(path, self._types)

    def _check_schema(self, path: Path, found: pa.Schema) -> None:
        first = self._paths[0]
        missing = [name for name in self.schema.names if name not in found.names]
        extra = [name for name in found.names if name not in self.schema.names]
        if missing or extra:
            parts = [f"no column {', '.join(missing)}"] if missing else []
            parts += [f"a column {', '.join(extra)} besides"] if extra else []
            raise SchemaError(
                f"{path} has {' and '.join(parts)}: its columns differ from those of {first}",
                column=(missing or extra)[0],
                hint="load files of different columns by separate commands",
            )
        for field in self.schema:
            kind = found.field(field.name).type
            if kind != field.type:
                raise SchemaError(
                    f"{path}: column {field.name} is {kind}, but {field.type} in {first}",
                    column=field.name,
                    expected=str(field.type),
                    found=str(kind),
                    hint="load files of different types by separate commands",
                )

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        """Arrow's errors as ours: which file, and which column where that is told."""
        try:
            yield
        except IcefusionError:
            raise
        except OSError as exc:
            raise StorageError(f"{path}: {exc.strerror or exc}", path=str(path)) from exc
        except pa.ArrowException as exc:
            text = str(exc).splitlines()[0]
            column = re.match(r"In CSV column #(\d+): (.*)", text)
            if column is not None:
                names = csv_names(path, self._csv)
                number = int(column.group(1))
                name = names[number] if number < len(names) else f"#{number}"
                raise SchemaError(f"{path}: column {name}: {column.group(2)}", column=name, hint=self._hint) from exc
            raise StorageError(f"{path}: {text}", path=str(path), hint=self._hint) from exc


def detect_format(path: Path) -> str:
    """The format that a file's name, or else its first bytes, speak for.

    Raises:
        ConfigurationError: Neither does.
        StorageError: The file cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    try:
        with path.open("rb") as file:
            begin = file.read(6)
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror or exc}", path=str(path)) from exc
    if begin[:4] == b"PAR1":
        return "parquet"
    if begin == b"ARROW1":
        return "arrow"
    raise ConfigurationError(f"{path}: its name does not tell its format", hint=f"--format {'|'.join(FORMATS)}")


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type to read text as for a column of a table."""
    return pa.string() if pat.is_string_view(kind) or pat.is_large_string(kind) else kind
