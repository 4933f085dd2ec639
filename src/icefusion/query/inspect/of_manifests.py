"""The manifests of a snapshot, or of all of them, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import BooleanType, IntegerType, ListType, LongType, NestedField, StringType, StructType

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.partition import schema_of_spec
from icefusion.query.generated import Part, arrow_schema, exactly, make_batch, make_fields
from icefusion.query.inspect.subject import Subject
from icefusion.query.inspect.values import read_bound

__all__ = ["ManifestTable"]

BATCH_ROWS = 2_048

_INT, _LONG, _TEXT = IntegerType(), LongType(), StringType()
_SUMMARY = StructType(
    NestedField(0, "contains_null", BooleanType(), required=False),
    NestedField(0, "contains_nan", BooleanType(), required=False),
    NestedField(0, "lower_bound", _TEXT, required=False),
    NestedField(0, "upper_bound", _TEXT, required=False),
)
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("content", _INT),
    ("path", _TEXT),
    ("length", _LONG),
    ("partition_spec_id", _INT),
    ("added_snapshot_id", _LONG),
    ("added_data_files_count", _INT),
    ("existing_data_files_count", _INT),
    ("deleted_data_files_count", _INT),
    ("added_delete_files_count", _INT),
    ("existing_delete_files_count", _INT),
    ("deleted_delete_files_count", _INT),
    ("partition_summaries", ListType(0, _SUMMARY, element_required=False)),
)
_REFERENCE = "reference_snapshot_id"


class ManifestTable:
    """``manifests``, or ``all_manifests``: there each snapshot's are a part, since many share most of them."""

    def __init__(self, *, every_snapshot: bool = False) -> None:
        self._every_snapshot = every_snapshot
        columns = (*_COLUMNS, (_REFERENCE, _LONG)) if every_snapshot else _COLUMNS
        self.columns = make_fields(*columns)
        self._schema = arrow_schema(self.columns)

    def fields(self, subject: Subject) -> Schema:  # noqa: ARG002 - they are the same for all tables
        """The columns."""
        return self.columns

    def parts(self, subject: Subject, reader: ManifestReader) -> Iterator[Part]:
        """One for each snapshot."""
        snapshots: Iterable[Snapshot]
        if self._every_snapshot:
            snapshots = subject.metadata.snapshots
        else:
            snapshots = [subject.snapshot] if subject.snapshot is not None else []
        for snapshot in snapshots:
            bounds = {_REFERENCE: exactly(_LONG, snapshot.snapshot_id)} if self._every_snapshot else {}
            yield self._part(subject, snapshot, reader, bounds)

    def _part(self, subject: Subject, snapshot: Snapshot, reader: ManifestReader, bounds: Any) -> Part:
        def load() -> Sequence[ManifestFile]:
            return reader.read_list(snapshot, subject.io)

        def make(manifests: Sequence[ManifestFile], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            for start in range(0, len(manifests), BATCH_ROWS):
                yield self._batch(subject, manifests[start : start + BATCH_ROWS], wanted, snapshot.snapshot_id)

        return Part(make, load, bounds)

    def _batch(
        self, subject: Subject, manifests: Sequence[ManifestFile], wanted: Sequence[str], snapshot_id: int
    ) -> pa.RecordBatch:
        def counted(attribute: str, content: ManifestContent) -> Any:
            return lambda _: [(getattr(m, attribute) if m.content == content else 0) for m in manifests]

        data, deletes = ManifestContent.DATA, ManifestContent.DELETES
        makers: dict[str, Any] = {
            "content": lambda _: [int(m.content or 0) for m in manifests],
            "path": lambda _: [m.manifest_path for m in manifests],
            "length": lambda _: [m.manifest_length for m in manifests],
            "partition_spec_id": lambda _: [m.partition_spec_id for m in manifests],
            "added_snapshot_id": lambda _: [m.added_snapshot_id for m in manifests],
            "added_data_files_count": counted("added_files_count", data),
            "existing_data_files_count": counted("existing_files_count", data),
            "deleted_data_files_count": counted("deleted_files_count", data),
            "added_delete_files_count": counted("added_files_count", deletes),
            "existing_delete_files_count": counted("existing_files_count", deletes),
            "deleted_delete_files_count": counted("deleted_files_count", deletes),
            "partition_summaries": lambda _: [_summaries(m, subject) for m in manifests],
            _REFERENCE: lambda _: [snapshot_id] * len(manifests),
        }
        return make_batch(self._schema, wanted, makers)


def _summaries(manifest: ManifestFile, subject: Subject) -> list[dict[str, Any]]:
    spec = subject.metadata.specs().get(manifest.partition_spec_id)
    if spec is None or not manifest.partitions:
        return []
    return [
        {
            "contains_null": summary.contains_null,
            "contains_nan": summary.contains_nan,
            "lower_bound": _readable(spec, place, summary.lower_bound, subject),
            "upper_bound": _readable(spec, place, summary.upper_bound, subject),
        }
        for place, summary in enumerate(manifest.partitions[: len(spec.fields)])
    ]


def _readable(spec: PartitionSpec, place: int, bound: bytes | None, subject: Subject) -> str:
    """A bound as the reference implementation writes it, which says ``null`` where there is none."""
    if bound is None:
        return "null"
    kind = spec.partition_type(schema_of_spec(spec, subject.metadata)).fields[place].field_type
    try:
        return spec.fields[place].transform.to_human_string(kind, read_bound(kind, bound))  # type: ignore[arg-type]
    except Exception:  # years beyond Python's calendar, and what other writers may put there
        return bound.hex()
