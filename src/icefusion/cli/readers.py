"""One file as a stream of record batches, for each format.

Text carries no types. A reader is told the types of the columns that it may meet (those of a table, or those that the
first file was found to have) and reads the text as exactly these, or fails; what it is not told it infers from the
first block. In JSON only numbers and booleans are inferred: whether a text is a time is for the table to say.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson
import pyarrow.types as pat

from icefusion.errors import ConfigurationError, SchemaError

__all__ = ["COMPRESSIONS", "CsvOptions", "Opened", "csv_names", "open_arrow", "open_csv", "open_json", "open_parquet"]

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}

_BLOCK_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 65_536
_HEADER_BYTES = 1024 * 1024

Types = Mapping[str, pa.DataType]


@dataclass(frozen=True)
class CsvOptions:
    """How CSV files are written.

    Attributes:
        delimiter: None for a comma, in ``.tsv`` files a tab.
        nulls: Texts that mean NULL where they are not quoted.
        header: Whether the first line holds the names.
    """

    delimiter: str | None = None
    nulls: tuple[str, ...] = ("",)
    header: bool = True

    def delimiter_of(self, path: Path) -> str:
        """The delimiter of one file."""
        return self.delimiter or ("\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ",")


@dataclass(frozen=True)
class Opened:
    """One file: its schema, its batches, and how many of its bytes were read so far."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    position_bytes: Callable[[], float]


def open_parquet(path: Path) -> Opened:
    """A Parquet file."""
    dataset = ds.dataset(str(path), format="parquet")
    size_bytes, total_rows = path.stat().st_size, max(1, dataset.count_rows())
    read_rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read_rows
        # The defaults read sixteen batches and four files ahead; nothing is gained by holding those.
        scanner = dataset.scanner(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1)
        for batch in scanner.to_batches():
            read_rows += batch.num_rows
            yield batch

    return Opened(dataset.schema, batches(), lambda: size_bytes * read_rows / total_rows)


def open_arrow(path: Path) -> Opened:
    """An Arrow IPC file or stream."""
    source = pa.OSFile(str(path))
    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return Opened(reader.schema, batches, source.tell)
    stream = pa.ipc.open_stream(_decompressed(source, path))
    return Opened(stream.schema, iter(stream), source.tell)


def open_csv(path: Path, options: CsvOptions, types: Types) -> Opened:
    """A CSV file. A quoted text is a text, also where it is empty or means NULL otherwise.

    Raises:
        SchemaError: It has a column of a type that CSV cannot hold.
    """
    source = pa.OSFile(str(path))
    reader = pacsv.open_csv(
        _decompressed(source, path),
        read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=not options.header),
        parse_options=pacsv.ParseOptions(delimiter=options.delimiter_of(path), newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={name: kind for name, kind in types.items() if _in_csv(kind)},
            null_values=list(options.nulls),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    _refuse(path, reader.schema.names, {name: kind for name, kind in types.items() if not _in_csv(kind)}, "CSV")
    fields = [pa.field(field.name, field.type if field.name in types else _told(field.type)) for field in reader.schema]
    return Opened(pa.schema(fields), iter(reader), _teller(source, path))


def csv_names(path: Path, options: CsvOptions) -> list[str]:
    """The names in a CSV file's first line; none where it cannot be told."""
    try:
        with pa.OSFile(str(path)) as source:
            begin = _decompressed(source, path).read(_HEADER_BYTES).decode("utf-8", "replace")
    except (OSError, pa.ArrowException):
        return []
    first = next(csv.reader(begin.splitlines(), delimiter=options.delimiter_of(path)), [])
    return first if options.header else [f"f{index}" for index in range(len(first))]


def open_json(path: Path, types: Types) -> Opened:
    """A file of JSON objects, one a line.

    Raises:
        ConfigurationError: It is one JSON array.
        SchemaError: It has a column of a type that JSON cannot hold, or one that ``types`` lacks.
    """
    _refuse_array(path)
    readable = {name: _read_as(kind) for name, kind in types.items()}
    explicit = [(name, kind) for name, kind in readable.items() if kind is not None]
    if types:
        # Unknown fields would be found as well, but without a name.
        names = _open_json(path, None).schema.names
        _refuse(path, names, {name: types[name] for name, kind in readable.items() if kind is None}, "JSON")
        extra = [name for name in names if name not in types]
        if extra:
            raise SchemaError(f"{path}: there is no column {extra[0]}", column=extra[0], hint=_columns(types))
    reader = _open_json(path, pa.schema(explicit) if types else None)
    wanted = pa.schema([(field.name, types.get(field.name, _untimed(field.type))) for field in reader.schema])
    source = reader.source
    return Opened(wanted, (_converted(batch, wanted, path) for batch in reader.batches), _teller(source, path))


@dataclass(frozen=True)
class _JsonReader:
    source: pa.NativeFile
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def _open_json(path: Path, explicit: pa.Schema | None) -> _JsonReader:
    source = pa.OSFile(str(path))
    reader = pajson.open_json(
        _decompressed(source, path),
        read_options=pajson.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pajson.ParseOptions(
            explicit_schema=explicit, unexpected_field_behavior="infer" if explicit is None else "error"
        ),
    )
    return _JsonReader(source, reader.schema, iter(reader))


def _refuse_array(path: Path) -> None:
    with pa.OSFile(str(path)) as source:
        begin = _decompressed(source, path).read(1024)
    if begin.lstrip()[:1] == b"[":
        raise ConfigurationError(
            f"{path}: a JSON array, but one object a line is expected", hint=f"jq -c '.[]' {path} > lines.jsonl"
        )


def _refuse(path: Path, names: Sequence[str], unreadable: Types, form: str) -> None:
    for name in names:
        if name in unreadable:
            raise SchemaError(
                f"{path}: column {name} is {unreadable[name]}, which cannot be told from {form}",
                column=name,
                hint="load it from Parquet or Arrow, or pass it to an INSERT by name",
            )


def _columns(types: Types) -> str:
    return f"the columns are {', '.join(types)}"


def _converted(batch: pa.RecordBatch, wanted: pa.Schema, path: Path) -> pa.RecordBatch:
    """Texts as what they stand for: ISO 8601, exactly."""
    columns = []
    for field in wanted:
        column = batch.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowInvalid as exc:
            raise SchemaError(f"{path}: column {field.name}: {exc}", column=field.name) from exc
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _in_csv(kind: pa.DataType) -> bool:
    return _is_plain(kind) or pat.is_date(kind) or pat.is_time(kind) or pat.is_timestamp(kind)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        pat.is_boolean(kind)
        or pat.is_integer(kind)
        or pat.is_floating(kind)
        or pat.is_decimal(kind)
        or pat.is_string(kind)
    )


def _read_as(kind: pa.DataType) -> pa.DataType | None:
    """What JSON is read as before it is converted to a type; None where that cannot be done."""
    if _is_plain(kind):
        return kind
    if pat.is_date(kind) or pat.is_timestamp(kind):
        return pa.string()
    if pat.is_list(kind):
        item = _read_as(kind.value_type)
        return None if item is None else pa.list_(kind.value_field.with_type(item))
    if pat.is_struct(kind):
        fields = [(field, _read_as(field.type)) for field in kind]
        return None if any(inner is None for _, inner in fields) else pa.struct([f.with_type(i) for f, i in fields])
    return None


def _told(kind: pa.DataType) -> pa.DataType:
    """The type of a new table's column for what was inferred from CSV: microseconds, and text where all is NULL."""
    if pat.is_null(kind):
        return pa.string()
    return pa.timestamp("us", kind.tz) if pat.is_timestamp(kind) else kind


def _untimed(kind: pa.DataType) -> pa.DataType:
    """The type of a new table's column for what was inferred from JSON: what looks like a time stays text."""
    if pat.is_null(kind) or pat.is_timestamp(kind):
        return pa.string()
    if pat.is_list(kind):
        return pa.list_(_untimed(kind.value_type))
    if pat.is_struct(kind):
        return pa.struct([(field.name, _untimed(field.type)) for field in kind])
    return kind


def _decompressed(source: pa.NativeFile, path: Path) -> pa.NativeFile:
    compression = COMPRESSIONS.get(path.suffix.lower())
    return source if compression is None else pa.CompressedInputStream(source, compression)


def _teller(source: pa.NativeFile, path: Path) -> Callable[[], float]:
    """Where a file is read; its end once the reader has closed it."""
    size_bytes = path.stat().st_size
    return lambda: size_bytes if source.closed else source.tell()
