"""Files that a query names, as tables of it.

DataFusion is never told a path by the text of a query. Before a statement is planned each call of a function such as
``read_parquet`` becomes a `Source` over files that were found here, if the session may read files at all; the query
sees it under a name of its own. Parquet is read by the engine's native scan where it reaches the files, with filters
pushed down; all else as datasets and streams, one batch after another.

Rows of files of different folders, or all files where their names are wanted, are scans of their own with these values
as constants, by which the engine leaves out what a condition excludes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial, reduce
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion import DataFrame, lit
from datafusion.functions import nanvl
from pyarrow import fs
from pyiceberg.io import FileIO

from icefusion.errors import IcefusionError, SchemaError, StorageError
from icefusion.naming import nearest
from icefusion.query.columns import quoted
from icefusion.query.damage import Suspect, damaged_file
from icefusion.query.file_formats import arrow_batches, dataset_of, is_ipc_file, json_batches, schemas_of
from icefusion.query.file_options import FileOptions, read_options, read_paths
from icefusion.query.file_paths import FoundFile, find_files, hive_values
from icefusion.query.filelist import FileScanner
from icefusion.query.sources import Source
from icefusion.sql.statements import FileFunction, Fragment, TableReference
from icefusion.sql.view_expansion import ViewText

__all__ = ["FileTables", "file_calls"]

Call = tuple[Fragment, TableReference]


def file_calls(fragments: Iterable[Fragment], find_view: Callable[[Any], ViewText | None]) -> Iterator[Call]:
    """The functions over files in some pieces of SQL, and in the views that these read."""
    seen: set[str] = set()
    waiting = list(fragments)
    while waiting:
        fragment = waiting.pop()
        for reference in fragment.tables:
            if reference.function is not None:
                yield fragment, reference
            elif (view := find_view(reference.name)) is not None and view.name not in seen:
                seen.add(view.name)
                waiting.append(view.query)


class FileTables:
    """Opens files for queries.

    Args:
        scanner: Makes native scans.
        threads: How many threads a query has.
        lock: Held while something is registered with the engine.
    """

    def __init__(self, scanner: FileScanner, threads: int, lock: threading.RLock) -> None:
        self._scanner = scanner
        self._threads = threads
        self._lock = lock

    def open_all(self, calls: Iterable[Call], parameters: Mapping[str, pa.Scalar], io: FileIO) -> dict[str, Source]:
        """What each call stands for, by the key of its function.

        Args:
            calls: As `file_calls` gives them.
            parameters: The values of the statement's parameters.
            io: Says how object stores are reached.

        Raises:
            BindError: An option is unknown or makes no sense.
            SchemaError: The columns of the files do not go together.
            StorageError: There is no such file, or one cannot be read.
        """
        opened: dict[str, Source] = {}
        for fragment, reference in calls:
            function = reference.function
            if function is not None and function.key not in opened:
                options = read_options(function, parameters, fragment)
                paths = read_paths(function, parameters, fragment, reference.name.offset)
                opened[function.key] = self._open(function, paths, options, io)
        return opened

    def _open(self, function: FileFunction, paths: Sequence[str], options: FileOptions, io: FileIO) -> Source:
        files = find_files(paths, io)
        schema = _united(function, files, schemas_of(function.kind, files, options), options)
        parts, more = _parted(files, schema, options)
        frames = []
        blamed: list[Source] = []
        for values, together in parts:
            frame, source = self._frame(function, together, schema, options, io)
            if source is not None:
                blamed.append(source)
            constants = [lit(pa.scalar(values[field.name], field.type)).alias(field.name) for field in more]
            columns = [quoted(field.name) for field in schema]
            frames.append(frame.select(*columns, *constants) if constants else frame)
        frame = reduce(DataFrame.union, frames)
        return _FileSource(function, pa.schema([*schema, *more]), frame, files, blamed)

    def _frame(
        self,
        function: FileFunction,
        files: Sequence[FoundFile],
        schema: pa.Schema,
        options: FileOptions,
        io: FileIO,
    ) -> tuple[DataFrame, Source | None]:
        """The rows of some files, and the source that takes down what went wrong, where there is one."""
        if function.kind == "parquet":
            locations = [file.path if file.is_local else file.location for file in files]
            places = self._scanner.stores.places(locations, io)
            urls = [place.url for place in places if place.url is not None]
            if len(urls) == len(files):
                return _guarded(self._scanner.scan(urls, schema), schema), None
        name = function.called
        if function.kind == "json":
            strict = not options.columns
            source = Source(name, schema, open_stream=lambda: json_batches(files, schema, strict=strict))
        elif function.kind == "arrow" and not all(map(is_ipc_file, files)):
            source = Source(name, schema, open_stream=lambda: arrow_batches(files, schema))
        else:
            source = Source(name, schema, dataset=_dataset(function.kind, files, schema, options))
        return source.to_frame(self._scanner.context, self._threads, self._lock), source


class _FileSource(Source):
    """A table of files. What one of its parts could not read is its own error."""

    def __init__(
        self,
        function: FileFunction,
        schema: pa.Schema,
        frame: DataFrame,
        files: Sequence[FoundFile],
        parts: Sequence[Source],
    ) -> None:
        self._kind = function.kind
        self._parts = parts
        self._files = files
        super().__init__(function.called, schema, frame=frame)

    @property
    def error(self) -> BaseException | None:
        """What reading one of the files raised last."""
        return next((part.error for part in self._parts if part.error is not None), None)

    @error.setter
    def error(self, error: BaseException | None) -> None:
        for part in self._parts:
            part.error = error

    def check_present(self) -> None:
        """Look for the files: the engine answers one that is gone with fewer rows.

        Raises:
            StorageError: One is gone, or has another length than before.
        """
        by_system: dict[int, list[FoundFile]] = {}
        for file in self._files:
            by_system.setdefault(id(file.filesystem), []).append(file)
        for files in by_system.values():
            try:
                infos = files[0].filesystem.get_file_info([file.path for file in files])
            except OSError as exc:
                raise StorageError(f"cannot look for {files[0].location}: {exc}", path=files[0].location) from exc
            for file, info in zip(files, infos, strict=True):
                if info.type != fs.FileType.File or info.size != file.size_bytes:
                    problem = "is gone" if info.type != fs.FileType.File else "has changed"
                    raise StorageError(
                        f"{file.location} {problem} since the query began", path=file.location, hint="run it again"
                    )

    def blame(self, text: str) -> IcefusionError | None:
        """The error to raise for what the engine says, where it is about one of the files."""
        if self._kind == "parquet":
            return damaged_file(map(_suspect, self._files)) if "Parquet" in text else None
        named = [file for file in self._files if file.path in text or file.path.lstrip("/") in text]
        if not named and not (self._kind == "csv" and "In CSV column" in text):
            return None
        # Beyond the first rows of a file pyarrow does not say which it is.
        file = max(named or self._files, key=lambda one: len(one.path))
        name = file.location if named or len(self._files) == 1 else f"one of {len(self._files)} files of {self.name}"
        said = text.strip().splitlines()[-1]
        for noise in ("Invalid: ", "External error: ", "ArrowInvalid: "):
            said = said.rpartition(noise)[2]
        hint = None
        if self._kind == "csv":
            hint = "types were told from the first rows; give them with columns = {'id': 'bigint', ...}"
        return StorageError(f"cannot read {name}: {said}", path=file.location if named else None, hint=hint)


def _suspect(file: FoundFile) -> Suspect:
    return file.location, file.size_bytes, partial(file.filesystem.open_input_file, file.path), file.location


def _dataset(
    kind: Literal["parquet", "arrow", "csv"], files: Sequence[FoundFile], schema: pa.Schema, options: FileOptions
) -> ds.Dataset:
    try:
        return dataset_of(kind, files, schema, options)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise StorageError(f"{files[0].location}: {exc}", path=files[0].location) from exc


def _guarded(frame: DataFrame, schema: pa.Schema) -> DataFrame:
    """Floats that can be neither pruned nor answered from statistics: those of Parquet know nothing of NaN."""
    columns = [
        nanvl(quoted(field.name), quoted(field.name)).alias(field.name)
        if pa.types.is_floating(field.type)
        else quoted(field.name)
        for field in schema
    ]
    return frame.select(*columns)


def _united(
    function: FileFunction, files: Sequence[FoundFile], schemas: Sequence[pa.Schema], options: FileOptions
) -> pa.Schema:
    """The columns of all files together.

    Raises:
        SchemaError: They do not go together.
    """
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        names = schema.names
        repeated = [name for place, name in enumerate(names) if name in names[:place]]
        if repeated:
            raise SchemaError(f"{file.location} has column {repeated[0]} twice", column=repeated[0])
    if all(schema.equals(first) for schema in schemas):
        return first
    # Objects of JSON leave out what they have not.
    by_name = options.union_by_name or function.kind == "json"
    united = first
    for file, schema in zip(files, schemas, strict=True):
        odd = sorted(set(first.names) ^ set(schema.names))
        if odd and not by_name:
            which = "has no" if odd[0] in first.names else "has another"
            raise SchemaError(
                f"{file.location} {which} column {odd[0]}: its columns differ from those of {files[0].location}",
                column=odd[0],
                hint="with union_by_name = true, columns that a file lacks are NULL",
            )
        try:
            together = pa.unify_schemas([united, schema], promote_options="permissive")
        except pa.ArrowException as exc:
            raise SchemaError(f"{file.location} does not go with {files[0].location}: {exc}") from exc
        united = together if by_name else _unpromoted(united, together, file, files[0], function)
    return united


def _unpromoted(
    first: pa.Schema, together: pa.Schema, file: FoundFile, first_file: FoundFile, function: FileFunction
) -> pa.Schema:
    """The types of the first file, where those of another fit into them."""
    for field in first:
        wanted = together.field(field.name).type
        # What is found in text is a guess, and checked as it is read.
        if wanted != field.type and function.kind != "csv":
            raise SchemaError(
                f"{file.location}: column {field.name} does not fit into {field.type}, its type in "
                f"{first_file.location}",
                column=field.name,
                expected=str(field.type),
                found=str(wanted),
                hint="with union_by_name = true, it is read as the wider type",
            )
    return first


def _parted(
    files: Sequence[FoundFile], schema: pa.Schema, options: FileOptions
) -> tuple[list[tuple[dict[str, Any], list[FoundFile]]], list[pa.Field]]:
    """The files that are read together, with the values that all their rows have; and the columns of these values."""
    folders = [hive_values(file) for file in files]
    keys = list(folders[0])
    if options.hive_partitioning is False or (
        options.hive_partitioning is None and any(list(folder) != keys for folder in folders)
    ):
        keys = []
    for file, folder in zip(files, folders, strict=True):
        missing = [key for key in keys if key not in folder]
        if missing or (options.hive_partitioning and list(folder) != keys):
            raise SchemaError(
                f"the folders of {file.location} and {files[0].location} tell of different columns",
                hint="leave hive_partitioning out, or set it to false",
            )
    keys = [key for key in keys if key not in schema.names]  # a column of the file itself is the better witness
    more = [_hive_field(key, [folder[key] for folder in folders]) for key in keys]
    converted = {field.name: _converter(field.type) for field in more}
    if options.filename is not None:
        if options.filename in schema.names or options.filename in keys:
            near = nearest(options.filename, schema.names)
            raise SchemaError(
                f"there is a column {near or options.filename} already", hint="give it another name: filename = 'file'"
            )
        more.append(pa.field(options.filename, pa.string()))
    parts: dict[tuple[Any, ...], tuple[dict[str, Any], list[FoundFile]]] = {}
    for file, folder in zip(files, folders, strict=True):
        values: dict[str, Any] = {key: converted[key](folder[key]) for key in keys}
        if options.filename is not None:
            values[options.filename] = file.location
        group = (*values.values(), id(file.filesystem) if not file.is_local else 0)
        parts.setdefault(group, (values, []))[1].append(file)
    return list(parts.values()), more


def _hive_field(name: str, texts: Sequence[str | None]) -> pa.Field:
    """Whole numbers and dates are told by their looks, all else is text."""
    given = [text for text in texts if text is not None]
    for kind in (pa.int64(), pa.date32()):
        try:
            for text in given:
                if str(_converter(kind)(text)) != text:
                    raise ValueError(text)
        except ValueError:
            continue
        if given:
            return pa.field(name, kind)
    return pa.field(name, pa.string())


def _converter(kind: pa.DataType) -> Callable[[str | None], Any]:
    def convert(text: str | None) -> Any:
        if text is None or pa.types.is_string(kind):
            return text
        return int(text) if pa.types.is_integer(kind) else date.fromisoformat(text)

    return convert
