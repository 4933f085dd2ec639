"""Delete files as other engines write them, and commits of them, which PyIceberg does not offer."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, AssertTableUUID, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, ListType, NestedField, StructType
from pyroaring import BitMap
from query_helpers import data_file

from icefusion.bridge.delete_index import PATH_FIELD_ID, POSITION_FIELD_ID
from icefusion.bridge.schema import FIELD_ID_KEY, iceberg_to_arrow

_numbers = count(1)


class EntryWriter(ManifestWriterV2):
    """Writes manifests of either content, with the fields of format version 3."""

    def __init__(self, content: ManifestContent, *arguments: Any) -> None:
        self._content = content
        super().__init__(*arguments)

    def content(self) -> ManifestContent:
        return self._content

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes" if self._content == ManifestContent.DELETES else "data"}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = _with_int_equality_ids(self._with_partition(3))
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=schema,
            record_schema=schema,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


def _with_int_equality_ids(schema: Schema) -> Schema:
    """The schema of a manifest with ids of the type that the specification says; PyIceberg writes longs.

    The reference implementation fails on those.
    """
    data_file = schema.find_field("data_file")
    fields = [
        NestedField(135, "equality_ids", ListType(136, IntegerType(), element_required=True), required=False)
        if field.field_id == 135
        else field
        for field in data_file.field_type.fields
    ]
    replaced = NestedField(2, "data_file", StructType(*fields), required=True)
    return Schema(*(replaced if field.field_id == 2 else field for field in schema.fields))


def commit(table: Table, *files: DataFile) -> Table:
    """Add data files and delete files in one snapshot."""
    table = table.refresh()
    parent = table.current_snapshot()
    number = next(_numbers)
    snapshot_id = 1_000_000 + number
    sequence_number = table.metadata.last_sequence_number + 1
    manifests: list[ManifestFile] = list(parent.manifests(table.io)) if parent else []

    def kind(file: DataFile) -> tuple[bool, int]:
        return file.content != DataFileContent.DATA, file.spec_id

    for (deletes, spec_id), members in groupby(sorted(files, key=kind), key=kind):
        content = ManifestContent.DELETES if deletes else ManifestContent.DATA
        output = table.io.new_output(f"{table.location()}/metadata/{number}-{deletes}-{spec_id}.avro")
        schema = _schema_of_spec(table, spec_id)
        with EntryWriter(content, table.specs()[spec_id], schema, output, snapshot_id, "deflate") as writer:
            for file in members:
                file._data += [None] * (20 - len(file._data))
                writer.add_entry(
                    ManifestEntry.from_args(
                        _table_format_version=3,
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        manifests.append(writer.to_manifest_file())
    path = f"{table.location()}/metadata/snap-{snapshot_id}.avro"
    parent_id = parent.snapshot_id if parent else None
    with write_manifest_list(
        2, table.io.new_output(path), snapshot_id, parent_id, sequence_number, "deflate"
    ) as list_writer:
        list_writer.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent_id,
        sequence_number=sequence_number,
        manifest_list=path,
        summary=Summary(Operation.OVERWRITE),
        schema_id=table.metadata.current_schema_id,
    )
    table.catalog.commit_table(
        table,
        (AssertTableUUID(uuid=table.metadata.table_uuid), AssertRefSnapshotId(ref="main", snapshot_id=parent_id)),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id),
        ),
    )
    return table.refresh()


def _schema_of_spec(table: Table, spec_id: int) -> Any:
    """A schema that has the columns of a spec, which may be dropped since."""
    wanted = {field.source_id for field in table.specs()[spec_id].fields}
    return next(s for s in reversed(table.metadata.schemas) if wanted <= set(s.field_ids))


def new_path(table: Table, ending: str = "parquet") -> Path:
    folder = Path(table.location().removeprefix("file://"), "data")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"file {next(_numbers):05}.{ending}"


def rows_file(table: Table, rows: pa.Table | Sequence[Mapping[str, Any]], **options: Any) -> DataFile:
    """A data file of these rows, in the table's present schema unless they are a table."""
    spec_id = options.pop("spec_id", None)
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_pylist(list(rows), schema=iceberg_to_arrow(table.schema()))
    file = data_file(table, new_path(table), rows, **options)
    if spec_id is not None:
        file.spec_id = spec_id
    return file


def _as_delete(file: DataFile, content: DataFileContent, ids: list[int] | None, spec_id: int | None) -> DataFile:
    file._data[0] = content
    file._data[14] = ids
    if spec_id is not None:
        file.spec_id = spec_id
    return file


def position_deletes(
    table: Table,
    rows: Iterable[tuple[str, int]],
    *,
    partition: Record | None = None,
    spec_id: int | None = None,
    bounds: bool = True,
    referenced: str | None = None,
) -> DataFile:
    """A position delete file of rows given by path and position."""
    rows = list(rows)
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), False, {FIELD_ID_KEY: str(PATH_FIELD_ID)}),
            pa.field("pos", pa.int64(), False, {FIELD_ID_KEY: str(POSITION_FIELD_ID)}),
        ]
    )
    data = pa.Table.from_arrays([pa.array(list(column)) for column in zip(*rows, strict=True)], schema=schema)
    paths = sorted(path.encode() for path, _ in rows)
    stats = {"lower_bounds": {PATH_FIELD_ID: paths[0]}, "upper_bounds": {PATH_FIELD_ID: paths[-1]}} if bounds else {}
    file = data_file(table, new_path(table), data, partition=partition, **stats)
    file._data += [None, referenced, None, None]
    return _as_delete(file, DataFileContent.POSITION_DELETES, None, spec_id)


def equality_deletes(
    table: Table,
    rows: pa.Table | Sequence[Mapping[str, Any]],
    columns: Sequence[str] = (),
    *,
    ids: list[int] | None = None,
    partition: Record | None = None,
    spec_id: int | None = None,
) -> DataFile:
    """An equality delete file by columns of the present schema, or of rows as they are with the ids given."""
    if not isinstance(rows, pa.Table):
        fields = [table.schema().find_field(name) for name in columns]
        ids = [field.field_id for field in fields]
        arrow = iceberg_to_arrow(table.schema())
        nullable = [arrow.field(field.name).with_nullable(True) for field in fields]
        rows = pa.Table.from_pylist(list(rows), schema=pa.schema(nullable))
    file = data_file(table, new_path(table), rows, partition=partition)
    return _as_delete(file, DataFileContent.EQUALITY_DELETES, ids, spec_id)


def vector_blob(positions: Iterable[int]) -> bytes:
    content = bytes((0xD1, 0xD3, 0x39, 0x64)) + (1).to_bytes(8, "little") + bytes(4) + BitMap(positions).serialize()
    return len(content).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def deletion_vectors(
    table: Table, positions: Mapping[str, Iterable[int]], *, ranges: bool = True, partition: Record | None = None
) -> list[DataFile]:
    """Deletion vectors of several data files in one Puffin file: an entry for each."""
    path = new_path(table, "puffin")
    body = b"PFA1"
    blobs = []
    places = []
    for data_path, rows in positions.items():
        blob = vector_blob(rows)
        places.append((len(body), len(blob)))
        blobs.append(
            f'{{"type":"deletion-vector-v1","fields":[2147483546],"snapshot-id":-1,"sequence-number":-1,'
            f'"offset":{len(body)},"length":{len(blob)},"properties":{{"referenced-data-file":"{data_path}"}}}}'
        )
        body += blob
    footer = f'{{"blobs":[{",".join(blobs)}]}}'.encode()
    body += b"PFA1" + footer + len(footer).to_bytes(4, "little") + bytes(4) + b"PFA1"
    path.write_bytes(body)
    files = []
    for (data_path, rows), (offset, size) in zip(positions.items(), places, strict=True):
        file = DataFile.from_args(
            _table_format_version=3,
            content=DataFileContent.POSITION_DELETES,
            file_path=f"file://{path}",
            file_format=FileFormat.PUFFIN,
            partition=partition or Record(),
            record_count=len(set(rows)),
            file_size_in_bytes=len(body),
            referenced_data_file=data_path,
            content_offset=offset if ranges else None,
            content_size_in_bytes=size if ranges else None,
        )
        file.spec_id = table.spec().spec_id
        files.append(file)
    return files
