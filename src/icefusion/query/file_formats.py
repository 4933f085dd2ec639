"""What is in files that a query names: their columns, and datasets and streams over their rows.

Parquet and Arrow files say what they hold. Of CSV and JSON the first rows of a file are looked at; what comes later
has to be of the types that were found there, or given as ``columns``, or is an error: nothing is left out or turned
into NULL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson
import pyarrow.parquet as pq

from icefusion.errors import IcefusionError, SchemaError, StorageError
from icefusion.query.file_options import FileOptions
from icefusion.query.file_paths import FoundFile
from icefusion.sql.statements import FileKind

__all__ = ["arrow_batches", "dataset_of", "is_ipc_file", "json_batches", "schemas_of"]

SCHEMA_THREADS = 8
BLOCK_BYTES = 4 * 1024 * 1024
_FIRST_BYTES = 1024
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_IPC_MAGIC = b"ARROW1"


def schemas_of(kind: FileKind, files: Sequence[FoundFile], options: FileOptions) -> list[pa.Schema]:
    """The columns of each file, all of which may hold NULL.

    Raises:
        StorageError: A file cannot be read, or is not of this format.
    """
    look = partial(_schema_of, kind, options=options)
    if len(files) == 1:
        return [look(files[0])]
    with ThreadPoolExecutor(min(SCHEMA_THREADS, len(files)), thread_name_prefix="icefusion-schemas") as pool:
        return list(pool.map(look, files))


def dataset_of(
    kind: Literal["parquet", "arrow", "csv"], files: Sequence[FoundFile], schema: pa.Schema, options: FileOptions
) -> ds.Dataset:
    """A dataset over files, in these columns, matched by name.

    There is none for JSON: pyarrow's takes a column that is not in the first rows for NULL in all of them.
    """
    match kind:
        case "parquet":
            form: ds.FileFormat = ds.ParquetFileFormat()
        case "arrow":
            form = ds.IpcFileFormat()
        case _:
            form = _csv_format(files[0], schema, options)
    return ds.dataset([file.path for file in files], schema=schema, format=form, filesystem=files[0].filesystem)


def json_batches(files: Sequence[FoundFile], schema: pa.Schema, *, strict: bool) -> Iterator[pa.RecordBatch]:
    """The rows of JSON files, one object a line; a field that the schema lacks is an error where that is strict."""
    for file in files:
        with _reading("json", file):
            for batch in _json_reader(file, schema, "error" if strict else "ignore"):
                yield _fitted(batch, schema, file)


def arrow_batches(files: Sequence[FoundFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of Arrow files, IPC files and streams alike."""
    for file in files:
        with _reading("arrow", file), file.filesystem.open_input_file(file.path) as source:
            if _magic(source) == _IPC_MAGIC:
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(source))
            for batch in batches:
                yield _fitted(batch, schema, file)


def is_ipc_file(file: FoundFile) -> bool:
    """Whether an Arrow file can be read from any place in it, which a stream cannot."""
    with _reading("arrow", file), file.filesystem.open_input_file(file.path) as source:
        return _magic(source) == _IPC_MAGIC


def _schema_of(kind: FileKind, file: FoundFile, options: FileOptions) -> pa.Schema:
    if options.columns and kind == "json":
        return pa.schema(list(options.columns.items()))
    with _reading(kind, file):
        match kind:
            case "parquet":
                schema = pq.read_schema(file.path, filesystem=file.filesystem)
            case "arrow":
                schema = _arrow_schema(file)
            case "csv":
                schema = _csv_schema(file, options)
            case "json":
                schema = _json_reader(file, None).schema
    return pa.schema([pa.field(column.name, _plain(column.type)) for column in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read as: what is stored, in microseconds where only seconds were told from text."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("us", kind.tz)
    return kind


# CSV


def _csv_schema(file: FoundFile, options: FileOptions) -> pa.Schema:
    names = None if options.header else _numbered(_open_csv(file, options, None).schema)
    if options.columns:
        return _given_columns(file, options, names)
    schema = _open_csv(file, options, names).schema
    fields = [pa.field(column.name, pa.string()) if options.all_text else column for column in schema]
    unknown = [name for name in options.types if name not in schema.names]
    if unknown:
        hint = f"the columns are {', '.join(schema.names[:20])}"
        raise SchemaError(f"{file.location}: there is no column {unknown[0]}", column=unknown[0], hint=hint)
    return pa.schema([field.with_type(options.types.get(field.name, field.type)) for field in fields])


def _given_columns(file: FoundFile, options: FileOptions, numbered: list[str] | None) -> pa.Schema:
    """The columns as the call gives them: by name where the file has names, else in order."""
    names = _open_csv(file, options, None).schema.names if numbered is None else numbered
    missing = [name for name in options.columns if name not in names] if numbered is None else []
    if missing:
        hint = f"the columns are {', '.join(names[:20])}; for files without names, header = false"
        raise SchemaError(f"{file.location}: there is no column {missing[0]}", column=missing[0], hint=hint)
    if numbered is not None and len(names) != len(options.columns):
        raise SchemaError(f"{file.location} has {len(names)} columns, and {len(options.columns)} are given")
    return pa.schema(list(options.columns.items()))


def _numbered(schema: pa.Schema) -> list[str]:
    return [f"column{place}" for place in range(len(schema))]


def _open_csv(file: FoundFile, options: FileOptions, names: list[str] | None) -> pacsv.CSVStreamingReader:
    return pacsv.open_csv(
        _opened(file),
        read_options=_csv_reading(options, names),
        parse_options=_csv_parsing(file, options),
        convert_options=_csv_converting(options, pa.schema([])),
    )


def _csv_format(file: FoundFile, schema: pa.Schema, options: FileOptions) -> ds.CsvFileFormat:
    names = None if options.header else schema.names
    return ds.CsvFileFormat(
        parse_options=_csv_parsing(file, options),
        default_fragment_scan_options=ds.CsvFragmentScanOptions(
            convert_options=_csv_converting(options, schema), read_options=_csv_reading(options, names)
        ),
    )


def _csv_reading(options: FileOptions, names: list[str] | None) -> pacsv.ReadOptions:
    return pacsv.ReadOptions(
        block_size=BLOCK_BYTES,
        skip_rows=options.skip,
        column_names=names,
        autogenerate_column_names=not options.header and names is None,
    )


def _csv_parsing(file: FoundFile, options: FileOptions) -> pacsv.ParseOptions:
    delimiter = options.delim or ("\t" if ".tsv" in file.path.lower() else ",")
    return pacsv.ParseOptions(
        delimiter=delimiter,
        quote_char=options.quote or False,
        double_quote=not options.escape,
        escape_char=options.escape or False,
        newlines_in_values=bool(options.quote),
    )


def _csv_converting(options: FileOptions, schema: pa.Schema) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types=schema,
        null_values=list(options.nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


# JSON


def _json_reader(file: FoundFile, schema: pa.Schema | None, unknown: str = "infer") -> pajson.JSONStreamingReader:
    with _opened(file) as source:
        if source.read(_FIRST_BYTES).lstrip()[:1] == b"[":
            raise StorageError(
                f"{file.location} is one JSON array; one object a line is expected",
                path=file.location,
                hint=f"jq -c '.[]' {file.location} > lines.jsonl",
            )
    return pajson.open_json(
        _opened(file),
        read_options=pajson.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unknown),
    )


# Arrow


def _arrow_schema(file: FoundFile) -> pa.Schema:
    with file.filesystem.open_input_file(file.path) as source:
        if _magic(source) == _IPC_MAGIC:
            return pa.ipc.open_file(source).schema
        return pa.ipc.open_stream(source).schema


def _magic(source: pa.NativeFile) -> bytes:
    magic: bytes = source.read(len(_IPC_MAGIC))
    source.seek(0)
    return magic


# All


def _opened(file: FoundFile) -> pa.NativeFile:
    suffix = file.path[file.path.rfind(".") :].lower() if "." in file.path else ""
    return file.filesystem.open_input_stream(file.path, compression=_COMPRESSIONS.get(suffix))


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, file: FoundFile) -> pa.RecordBatch:
    """The batch in all columns of the schema, NULL in those that the file lacks."""
    columns = []
    for field in schema:
        place = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows, field.type) if place < 0 else batch.column(place)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as exc:
            raise StorageError(f"{file.location}: column {field.name}: {exc}", path=file.location) from exc
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _reading(kind: FileKind, file: FoundFile) -> Iterator[None]:
    """Arrow's errors as ours, with the file."""
    try:
        yield
    except (IcefusionError, GeneratorExit):
        raise
    except Exception as exc:
        name = {"csv": "CSV", "json": "JSON", "parquet": "Parquet", "arrow": "Arrow"}[kind]
        said = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        hint = None
        if kind in ("csv", "json"):
            hint = "types were told from the first rows; give them with columns = {'id': 'bigint', ...}"
        raise StorageError(f"cannot read {file.location} as {name}: {said}", path=file.location, hint=hint) from exc
