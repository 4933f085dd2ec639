"""The procedure that makes Parquet files part of a table as they are, without writing their rows anew.

    files -> footers -> which column is which (`fitting`) -> the partition (`placing`), metrics -> manifest entries

Everything is told from the footers, so that a file of any length costs one small read, unless a partition has to be
looked for in its values. The files stay where they are, and are never this transaction's to delete: whoever made them
may need them. Until now nobody but their owner could have changed or removed them; from here on nobody should.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import NameMapping, create_mapping_from_schema
from pyiceberg.types import IcebergType, PrimitiveType

from icefusion.bridge.evolution.following import NAME_MAPPING
from icefusion.bridge.locations import DAMAGED, local_path
from icefusion.changes.execute import require_writable
from icefusion.changes.staging import RowChange
from icefusion.commit.operations import Definition
from icefusion.errors import BindError, SchemaError, StorageError
from icefusion.naming import nearest
from icefusion.pinned import PinnedTable
from icefusion.procedures.fitting import Fitted, fit
from icefusion.procedures.placing import column_batches, folder_values, place, told_value
from icefusion.procedures.signatures import Calling, Parameter, Procedure
from icefusion.query.file_paths import FoundFile, files_below, find_files, hive_values
from icefusion.query.footers import FOOTER_THREADS
from icefusion.reports import RowCounts
from icefusion.sql.alterations import SetProperties
from icefusion.write.columns import leaf_columns
from icefusion.write.data_files import data_file
from icefusion.write.metrics import MetricsMode, file_metrics, metrics_modes

__all__ = ["PROCEDURES"]

_OF_FORMAT = re.compile(r"[`\"]?(\w+)[`\"]?\.[`\"](.+)[`\"]", re.DOTALL)
_MOST_NAMED = 3


def _add_files(calling: Calling) -> list[tuple[Any, ...]]:
    pinned = calling.table()
    metadata, io = pinned.handle.metadata, pinned.handle.io
    require_writable(metadata.format_version, pinned.handle.name)
    if calling.has_landed(pinned):
        return [(0, 0)]
    calling.state.check_may_write(pinned)
    files = _chosen(_files(calling.arguments, io), calling.arguments["partition_filter"], metadata.schema())
    _check_new(calling, pinned, files, only_staged=calling.arguments["check_duplicate_files"] is False)
    footers = _together(_footer, files)
    filled = [(file, footer) for file, footer in zip(files, footers, strict=True) if footer.num_rows]
    mapping = metadata.name_mapping() or create_mapping_from_schema(metadata.schema())
    known = [fit(file.location, footer, metadata, mapping) for file, footer in filled]
    made = _together(lambda each: _data_file(*each, metadata=metadata), list(zip(filled, known, strict=True)))
    if metadata.name_mapping() is None and not all(fitted.has_ids for fitted in known):
        _keep_mapping(calling, pinned, mapping)
    rows = RowCounts(inserted=sum(file.record_count for file in made))
    calling.state.stage(pinned, RowChange(adopted=tuple(made), rows=rows))
    return [(len(made), len({(file.spec_id, repr(file.partition)) for file in made}))]


def _files(arguments: Mapping[str, Any], io: FileIO) -> list[FoundFile]:
    """The files that a call names, each once."""
    paths, folder = arguments["files"], arguments["source_table"]
    if (paths is None) == (folder is None):
        raise BindError(
            "expected either files or a source_table",
            hint="CALL system.add_files('ns.t', ['s3://bucket/a.parquet', 's3://bucket/more/*.parquet'])",
        )
    found: list[FoundFile] = []
    for path in [folder] if paths is None else paths:
        of_format = _OF_FORMAT.fullmatch(path)
        if of_format is None and paths is None:
            raise BindError(
                f"source_table: expected a folder of files, found {path!r}",
                hint="write source_table => '`parquet`.`s3://bucket/folder`', or name the files",
            )
        if of_format is None:
            found += find_files([path], io)
        elif of_format[1].lower() == "parquet":
            found += files_below(of_format[2], io)
        else:
            raise BindError(
                f"files of {of_format[1]} cannot be part of a table here",
                hint="INSERT INTO ... SELECT ... FROM read_csv('...') writes their rows anew",
            )
    return list({_real(_location(file)): file for file in found}.values())


def _chosen(files: Sequence[FoundFile], wanted: Mapping[str, Any] | None, schema: Schema) -> list[FoundFile]:
    """The files whose folders have the values that are wanted."""
    if not wanted:
        return list(files)
    told = [{name.casefold(): value for name, value in hive_values(file).items()} for file in files]
    names = {name for values in told for name in values}
    for name in wanted:
        if name.casefold() not in names:
            near = nearest(name, names)
            raise BindError(
                f"partition_filter: no folder tells {name}",
                hint=f"did you mean {near}?" if near else f"folders tell {', '.join(sorted(names)) or 'nothing'}",
            )
    kinds = {column.name.casefold(): column.field_type for column in schema.fields}
    texts = {name.casefold(): None if value is None else str(value) for name, value in wanted.items()}
    return [
        file
        for file, values in zip(files, told, strict=True)
        if all(name in values and _same(values[name], text, kinds.get(name)) for name, text in texts.items())
    ]


def _same(told: str | None, wanted: str | None, kind: IcebergType | None) -> bool:
    """Whether a folder says what is wanted: as text, or as a value of the column (``month=05`` is month 5)."""
    if told == wanted or told is None or wanted is None or not isinstance(kind, PrimitiveType):
        return told == wanted
    one, other = told_value(told, kind), told_value(wanted, kind)
    return one is not None and other is not None and bool(one.equals(other))


def _check_new(calling: Calling, pinned: PinnedTable, files: Sequence[FoundFile], *, only_staged: bool) -> None:
    """Refuse files that the table has already; with `only_staged` those alone that one commit would add twice.

    Raises:
        SchemaError: It has one of them.
    """
    snapshot = pinned.handle.metadata.snapshot_by_id(pinned.snapshot_id) if pinned.snapshot_id is not None else None
    there = list(pinned.staging.waiting)
    if snapshot is not None and not only_staged:
        gone = pinned.staging.removed
        for manifest in calling.reader.read_list(snapshot, pinned.handle.io):
            there += (file for file in calling.reader.read(manifest, pinned.handle.io) if file.file_path not in gone)
    sizes = {file.size_bytes for file in files}
    # Only a file of the same length can be the same under another name, which is looked up on disk.
    same = {_real(file.file_path) for file in there if file.file_size_in_bytes in sizes}
    again = [file.location for file in files if _real(_location(file)) in same]
    if again:
        more = f" and {len(again) - _MOST_NAMED} more" if len(again) > _MOST_NAMED else ""
        raise SchemaError(
            f"{pinned.handle.name} has {', '.join(again[:_MOST_NAMED])}{more} already",
            hint="name the new files only; check_duplicate_files => false would add their rows once more",
        )


def _real(location: str) -> str:
    """What is the same for all names of a file."""
    path = local_path(location)
    return location if path is None else os.path.realpath(path)


def _location(file: FoundFile) -> str:
    """What manifests call a file: as the tools write it, without anything encoded."""
    return f"file://{file.path}" if file.is_local else file.location


def _together(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(FOOTER_THREADS, len(items)), thread_name_prefix="icefusion-adopting") as pool:
        return list(pool.map(work, items))


def _footer(file: FoundFile) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file.path, filesystem=file.filesystem)
    except Exception as exc:
        raise StorageError(f"cannot read {file.location} as Parquet: {exc}", path=file.location, hint=DAMAGED) from exc


def _data_file(filled: tuple[FoundFile, pq.FileMetaData], fitted: Fitted, *, metadata: TableMetadata) -> DataFile:
    """The manifest entry of a file."""
    file, footer = filled
    schema, spec = metadata.schema(), metadata.spec()
    told = folder_values(file, hive_values(file), fitted, spec, schema)
    _check_required(file, footer, fitted, told)
    partition = place(file, footer, fitted, told, spec, schema)
    leaves = leaf_columns(schema)
    modes = metrics_modes(schema, leaves, metadata.properties, metadata.sort_order())
    for field_id in fitted.unbounded:
        modes[field_id] = MetricsMode(modes[field_id].counts, bounds=False)
    return data_file(
        _location(file),
        footer,
        file_metrics(footer, fitted.leaves, modes, {}),
        partition=partition,
        spec_id=spec.spec_id,
        size_bytes=file.size_bytes,
        sort_order_id=None,
    )


def _check_required(file: FoundFile, footer: pq.FileMetaData, fitted: Fitted, told: Mapping[int, str | None]) -> None:
    """Refuse NULL where the table has none.

    Raises:
        SchemaError: There is one, or there may be.
    """
    for field_id, path in fitted.missing.items():
        if told.get(field_id) is None:
            raise SchemaError(
                f"{file.location}: column {path} is NOT NULL in the table, and the file does not have it", column=path
            )
    positions = {leaf.field_id: i for i, leaf in enumerate(fitted.leaves) if leaf is not None and not leaf.repeated}
    for field_id, path in fitted.unsure.items():
        nulls = _null_count(file, footer, path, positions.get(field_id))
        if nulls != 0:
            holds = f"holds {nulls} NULLs" if nulls is not None else "may hold NULL"
            raise SchemaError(
                f"{file.location}: column {path} is NOT NULL in the table, and {holds} in the file",
                column=path,
                hint="INSERT INTO ... SELECT ... FROM read_parquet('...') WHERE ... writes the rows that fit",
            )


def _null_count(file: FoundFile, footer: pq.FileMetaData, path: str, position: int | None) -> int | None:
    """How many rows have no value in a column; None where that would take reading all that is nested in it."""
    is_top = path in footer.schema.to_arrow_schema().names
    if position is not None:
        statistics = [footer.row_group(i).column(position).statistics for i in range(footer.num_row_groups)]
        if all(each is not None and each.has_null_count for each in statistics):
            nulls = int(sum(each.null_count for each in statistics))
            if is_top or not nulls:
                return nulls
    elif not is_top:
        return None
    columns = (batch.column(0) for batch in column_batches(file, path))
    return sum(int(column.null_count) if is_top else _own_nulls(column) for column in columns)


def _own_nulls(array: pa.Array) -> int:
    """The NULLs of the one leaf that is read of a struct, without those that come of a struct that is NULL itself."""
    while pa.types.is_struct(array.type):
        array = array.filter(array.is_valid()).field(0)
    return int(array.null_count)


def _keep_mapping(calling: Calling, pinned: PinnedTable, mapping: NameMapping) -> None:
    """Let the table say by which names its files without ids are read, whatever its columns are called later."""
    action = SetProperties(((NAME_MAPPING, mapping.model_dump_json()),))
    calling.state.stage_definition(pinned, Definition(steps=((action,),)))


PROCEDURES = (
    Procedure(
        "add_files",
        (
            Parameter("table", "table"),
            Parameter("files", "texts", required=False),
            Parameter("partition_filter", "values", required=False),
            Parameter("check_duplicate_files", "flag", required=False),
            Parameter("source_table", "text", required=False),
        ),
        pa.schema([("added_files_count", pa.int64()), ("changed_partition_count", pa.int64())]),
        _add_files,
    ),
)
