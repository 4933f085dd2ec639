"""Tables written by PyIceberg, and queries over them without a parser in between."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.parameters import bind_parameters
from icefusion.query.scan import TableView
from icefusion.query.sources import Source
from icefusion.sql.statements import Identifier, Name, Query, TableReference

_NAN = "NaN"


def make_catalog(folder: Path) -> SqlCatalog:
    catalog = SqlCatalog("test", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("ns")
    return catalog


def view_of(table: Table, *, snapshot_id: int | None = None, staged: tuple[DataFile, ...] = ()) -> TableView:
    """The table as it is now, or at a snapshot in that snapshot's schema."""
    metadata = table.metadata
    schema = metadata.schema()
    if snapshot_id is not None:
        snapshot = metadata.snapshot_by_id(snapshot_id)
        schema = next(s for s in metadata.schemas if s.schema_id == snapshot.schema_id)
    return TableView(
        name=".".join(table.name()),
        metadata=metadata,
        io=table.io,
        snapshot_id=metadata.current_snapshot_id if snapshot_id is None else snapshot_id,
        schema=schema,
        staged=staged,
    )


def make_query(text: str, names: Mapping[str, Any], parameters: tuple[str, ...] = ()) -> tuple[Query, list[Any]]:
    """A query, and what its tables stand for: every word of the text that is one of the names."""
    references = []
    bindings = []
    for match in re.finditer(r'(?<![\w."])("[^"]+"|\w+)(\.("[^"]+"|\w+))*', text):
        if match.group() in names:
            parts = tuple(
                Identifier(part.strip('"'), part.startswith('"')) for part in re.findall(r'"[^"]+"|\w+', match.group())
            )
            references.append(TableReference(Name(parts, match.start()), match.start(), match.end()))
            bindings.append(names[match.group()])
    return Query(text, tuple(references), parameters, sql=text), bindings


def plan(
    engine: Engine, text: str, names: Mapping[str, Any] | None = None, params: Mapping[str, Any] | None = None
) -> PlannedQuery:
    """Plan a query over tables, views and data by name."""
    bound = {name: _binding(name, value) for name, value in (names or {}).items()}
    query, bindings = make_query(text, bound, tuple(params or ()))
    return engine.plan(query, bindings, bind_parameters(query, params))


def run(
    engine: Engine, text: str, names: Mapping[str, Any] | None = None, params: Mapping[str, Any] | None = None
) -> pa.Table:
    """The rows of a query."""
    planned = plan(engine, text, names, params)
    return pa.Table.from_batches(planned.stream(), planned.schema)


def _binding(name: str, value: Any) -> TableView | Source:
    if isinstance(value, Table):
        return view_of(value)
    return value if isinstance(value, TableView | Source) else Source.of(name, value)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in an order that does not depend on how they were read, with one NaN that equals itself."""
    plain = [{name: _NAN if value != value else value for name, value in row.items()} for row in table.to_pylist()]  # noqa: PLR0124
    return sorted(plain, key=repr)


def data_file(table: Table, path: Path, data: pa.Table, *, partition: Record | None = None, **stats: Any) -> DataFile:
    """Write a Parquet file as some other tool might, and describe it as a data file of the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data, path)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=partition or Record(),
        record_count=data.num_rows,
        file_size_in_bytes=path.stat().st_size,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts=stats.get("nan_value_counts", {}),
        lower_bounds=stats.get("lower_bounds", {}),
        upper_bounds=stats.get("upper_bounds", {}),
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
    )
    file.spec_id = table.spec().spec_id
    return file


def add_files(table: Table, *files: DataFile) -> None:
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file)


def live_paths(table: Table) -> list[Path]:
    """The table's data files on disk, in order of their names."""
    return sorted(Path(task.file.file_path.removeprefix("file://")) for task in table.scan().plan_files())
