"""Files as streams of record batches: Parquet, CSV, JSON lines and Arrow, read piece by piece.

All files of one load are one stream with one schema. CSV and JSON say little about types, so they are read as the types
of the table that they go into; without one, the first file's first block decides, and the later ones are held to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson
import pyarrow.types as pat

from icefusion.errors import ConfigurationError, IcefusionError, SchemaError, StorageError

__all__ = ["FORMATS", "CsvOptions", "InputFiles", "detect_format"]

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
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_BLOCK_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class CsvOptions:
    """How CSV files are written: the delimiter (None: a comma, in ``.tsv`` a tab), and which texts mean NULL."""

    delimiter: str | None = None
    nulls: tuple[str, ...] = ("",)
    header: bool = True


@dataclass(frozen=True)
class _Opened:
    """One file: its schema, its batches, and how many bytes of it were read so far."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    position_bytes: Callable[[], float]


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
        StorageError: A file cannot be read.
    """

    def __init__(
        self, paths: Sequence[Path], *, form: str | None, csv: CsvOptions, wanted: pa.Schema | None = None
    ) -> None:
        self._paths = list(paths)
        self._forms = [form or detect_format(path) for path in self._paths]
        self._csv = csv
        self._types = {} if wanted is None else {field.name: _plain(field.type) for field in wanted}
        self.size_bytes = sum(path.stat().st_size for path in self._paths)
        first = self._open(0).schema
        if self._forms[0] in ("csv", "json"):
            # What was read from the first file's text holds for all of it, and for the later ones.
            self._types = {field.name: _decided(field.type) for field in first} | self._types
            first = self._open(0).schema
        self.schema = pa.schema([pa.field(field.name, field.type) for field in first])

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
            with _translated(path, opened.schema.names):
                for batch in opened.batches:
                    columns = [batch.column(name) for name in self.schema.names]
                    yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
                    read_to(done_bytes + opened.position_bytes())
            done_bytes += path.stat().st_size

    def _open(self, index: int) -> _Opened:
        path = self._paths[index]
        with _translated(path, ()):
            match self._forms[index]:
                case "parquet":
                    return _open_parquet(path)
                case "arrow":
                    return _open_arrow(path)
                case "csv":
                    return _open_csv(path, self._csv, self._types)
                case _:
                    return _open_json(path, self._types)

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


def detect_format(path: Path) -> str:
    """The format that a file's name, or else its first bytes, speak for.

    Raises:
        ConfigurationError: Neither does.
        StorageError: The file cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    with _translated(path, ()), path.open("rb") as file:
        begin = file.read(6)
    if begin[:4] == b"PAR1":
        return "parquet"
    if begin == b"ARROW1":
        return "arrow"
    raise ConfigurationError(f"{path}: its name does not tell its format", hint=f"--format {'|'.join(FORMATS)}")


def _open_parquet(path: Path) -> _Opened:
    dataset = ds.dataset(str(path), format="parquet")
    total_rows = max(1, dataset.count_rows())
    size_bytes = path.stat().st_size
    read_rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read_rows
        # The defaults read sixteen batches and four files ahead; nothing is gained by holding those.
        scanner = dataset.scanner(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1)
        for batch in scanner.to_batches():
            read_rows += batch.num_rows
            yield batch

    return _Opened(dataset.schema, batches(), lambda: size_bytes * read_rows / total_rows)


def _open_arrow(path: Path) -> _Opened:
    source = pa.OSFile(str(path))
    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return _Opened(reader.schema, batches, source.tell)
    stream = pa.ipc.open_stream(_decompressed(source, path))
    return _Opened(stream.schema, iter(stream), source.tell)


def _open_csv(path: Path, options: CsvOptions, types: Mapping[str, pa.DataType]) -> _Opened:
    source = pa.OSFile(str(path))
    tab = ".tsv" in [suffix.lower() for suffix in path.suffixes]
    reader = pacsv.open_csv(
        _decompressed(source, path),
        read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=not options.header),
        parse_options=pacsv.ParseOptions(
            delimiter=options.delimiter or ("\t" if tab else ","), newlines_in_values=True
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict(types),
            null_values=list(options.nulls),
            strings_can_be_null=True,
            # A quoted text is a text, also where it is empty.
            quoted_strings_can_be_null=False,
        ),
    )
    return _Opened(reader.schema, iter(reader), _teller(source, path))


def _open_json(path: Path, types: Mapping[str, pa.DataType]) -> _Opened:
    source = pa.OSFile(str(path))
    if source.read(1) == b"[":
        raise ConfigurationError(
            f"{path}: a JSON array, but one object a line is expected", hint=f"jq -c '.[]' {path} > lines.jsonl"
        )
    source.seek(0)
    schema = pa.schema(list(types.items())) if types else None
    reader = pajson.open_json(
        _decompressed(source, path),
        read_options=pajson.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pajson.ParseOptions(
            explicit_schema=schema,
            newlines_in_values=False,
            unexpected_field_behavior="error" if types else "infer",
        ),
    )
    return _Opened(reader.schema, iter(reader), _teller(source, path))


def _decompressed(source: pa.NativeFile, path: Path) -> pa.NativeFile:
    compression = _COMPRESSIONS.get(path.suffix.lower())
    return source if compression is None else pa.CompressedInputStream(source, compression)


def _teller(source: pa.NativeFile, path: Path) -> Callable[[], float]:
    """Where a file is read; its end once the reader has closed it."""
    size_bytes = path.stat().st_size
    return lambda: size_bytes if source.closed else source.tell()


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type to read text as for a column of a table."""
    if isinstance(kind, pa.ExtensionType) or pat.is_string_view(kind) or pat.is_large_string(kind):
        return pa.string()
    return kind


def _decided(kind: pa.DataType) -> pa.DataType:
    """The type that a new table's column gets for what was inferred: no NULL type, microseconds."""
    if pat.is_null(kind):
        return pa.string()
    if pat.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pat.is_list(kind):
        return pa.list_(_decided(kind.value_type))
    if pat.is_struct(kind):
        return pa.struct([(field.name, _decided(field.type)) for field in kind])
    return kind


@contextmanager
def _translated(path: Path, names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except IcefusionError:
        raise
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror or exc}", path=str(path)) from exc
    except pa.ArrowInvalid as exc:
        text = str(exc).splitlines()[0]
        column = re.search(r"CSV column #(\d+)", text)
        if column and int(column.group(1)) < len(names):
            name = names[int(column.group(1))]
            raise SchemaError(f"{path}: column {name}: {text}", column=name) from exc
        raise StorageError(f"{path}: {text}", path=str(path)) from exc
    except pa.ArrowException as exc:
        raise StorageError(f"{path}: {exc}", path=str(path)) from exc
