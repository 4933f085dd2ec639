"""What a statement reads when it names a table, and the columns it then sees."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.positions import Positions
from icefusion.query.columns import read_type

__all__ = ["FILE_COLUMN", "POSITION_COLUMN", "TableView", "view_schema"]

FILE_COLUMN = "?file?"
POSITION_COLUMN = "?pos?"


@dataclass(frozen=True)
class TableView:
    """One table as one statement sees it.

    Attributes:
        name: The full name, for messages and reports.
        metadata: The table.
        io: Where its files are read.
        snapshot_id: The snapshot to read; None for none.
        schema: The schema that the rows are shown in: the current one, or the snapshot's for time travel.
        staged: Files of the open transaction, read as well.
        removed: Paths of data files of the snapshot that the transaction has removed: they are not read any more.
        deleted: Rows that the transaction has deleted, in files of either kind. Not to be changed once it is here.
        excluded: More rows that are not to be seen by this one scan; likewise.
        only: Paths of the data files to read; None for all.
        ref: The branch that this is the newest state of; None where an earlier version was asked for.
        with_identity: Whether `FILE_COLUMN` and `POSITION_COLUMN` stand behind the table's own columns: the file as the
            engine names it (no scheme, no leading slash; `PlannedQuery.files_by_name` knows it), and the row's place in
            it, from 0.
    """

    name: str
    metadata: TableMetadata
    io: FileIO
    snapshot_id: int | None
    schema: Schema
    staged: tuple[DataFile, ...] = ()
    removed: frozenset[str] = frozenset()
    deleted: Positions = field(default_factory=Positions)
    excluded: Positions | None = None
    only: frozenset[str] | None = None
    with_identity: bool = False
    ref: str | None = None


def view_schema(schema: Schema, *, with_identity: bool = False) -> pa.Schema:
    """The Arrow schema in which a view's rows come, all columns nullable and without field ids."""
    fields = [pa.field(column.name, read_type(column.field_type, column.name)) for column in schema.fields]
    if with_identity:
        fields += [pa.field(FILE_COLUMN, pa.string()), pa.field(POSITION_COLUMN, pa.int64())]
    return pa.schema(fields)
