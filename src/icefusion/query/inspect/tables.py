"""The metadata tables by kind, see `icefusion.bridge.metadata_names` for how they are named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pyiceberg.schema import Schema

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.metadata_names import METADATA_TABLES
from icefusion.query.generated import GeneratedSource, Part
from icefusion.query.inspect.of_files import FileTable
from icefusion.query.inspect.of_manifests import ManifestTable
from icefusion.query.inspect.of_metadata import HISTORY, METADATA_LOG, PROPERTIES, REFS, SCHEMAS, SNAPSHOTS
from icefusion.query.inspect.of_partitions import PartitionTable
from icefusion.query.inspect.subject import Subject

__all__ = ["has_versions", "metadata_table"]


class _Table(Protocol):
    def fields(self, subject: Subject) -> Schema: ...
    def parts(self, subject: Subject, reader: ManifestReader) -> Iterable[Part]: ...


_OF_SNAPSHOT: dict[str, _Table] = {
    "files": FileTable(),
    "data_files": FileTable("data"),
    "delete_files": FileTable("deletes"),
    "entries": FileTable(entries=True),
    "manifests": ManifestTable(),
    "partitions": PartitionTable(),
}
_OF_TABLE: dict[str, _Table] = {
    "all_files": FileTable(every_snapshot=True),
    "all_data_files": FileTable("data", every_snapshot=True),
    "all_delete_files": FileTable("deletes", every_snapshot=True),
    "all_entries": FileTable(every_snapshot=True, entries=True),
    "all_manifests": ManifestTable(every_snapshot=True),
    "history": HISTORY,
    "metadata_log_entries": METADATA_LOG,
    "properties": PROPERTIES,
    "refs": REFS,
    "schemas": SCHEMAS,
    "snapshots": SNAPSHOTS,
}
_TABLES = _OF_SNAPSHOT | _OF_TABLE
assert sorted(_TABLES) == sorted(METADATA_TABLES)


def has_versions(kind: str) -> bool:
    """Whether metadata tables of a kind tell of one snapshot, and so of an earlier one too."""
    return kind in _OF_SNAPSHOT


def metadata_table(kind: str, subject: Subject) -> GeneratedSource:
    """A metadata table of a table, as a source of queries."""
    table = _TABLES[kind]
    identity = (kind, subject.name, subject.metadata_location, id(subject.metadata), subject.snapshot_id)
    return GeneratedSource(
        f"{subject.name}.{kind}", table.fields(subject), lambda reader: table.parts(subject, reader), identity
    )
