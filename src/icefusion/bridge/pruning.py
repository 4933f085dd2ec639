"""Whether a manifest or a data file may hold rows that a filter wants: tests that may keep too much, never too little.

The section "Scan Planning" of the Iceberg specification goes from the coarse to the fine: partition summaries of
manifests, partition values of files, column bounds of files. The tests are built once for each partition spec, over a
schema that also knows the columns dropped since (old specs may still refer to them). A test that fails on a file, say
on bounds that another writer got wrong, keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import (
    bind,
    expression_evaluator,
    inclusive_projection,
)
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import NestedField, UUIDType

from icefusion.bridge.ranges import metrics_test, summaries_test

__all__ = ["FileTests", "schema_with_dropped_columns"]

Test = Callable[[DataFile], bool]


class FileTests:
    """The tests of one filter, made when first needed, for each partition spec."""

    def __init__(self, metadata: TableMetadata, schema: Schema, row_filter: BooleanExpression) -> None:
        self._schema = schema_with_dropped_columns(schema, metadata)
        self._specs = metadata.specs()
        self._filter = _bindable(row_filter, self._schema)
        self.trivial = isinstance(self._filter, AlwaysTrue)
        self._partition_tests: dict[int, Test] = {}
        self._manifest_tests: dict[int, Callable[[ManifestFile], bool]] = {}
        self._metrics_test = _guarded(metrics_test(self._schema, self._filter))

    def manifest_may_match(self, manifest: ManifestFile) -> bool:
        """Whether a manifest may list a file with such rows."""
        if not (manifest.has_added_files() or manifest.has_existing_files()):
            return False
        spec_id = manifest.partition_spec_id
        if self.trivial or manifest.content == ManifestContent.DELETES or spec_id not in self._specs:
            return True
        if spec_id not in self._manifest_tests:
            self._manifest_tests[spec_id] = _guarded(self._manifest_test(spec_id))
        return self._manifest_tests[spec_id](manifest)

    def file_may_match(self, file: DataFile) -> bool:
        """Whether a file may hold such rows."""
        spec_id = file.spec_id or 0
        test = self._partition_tests.get(spec_id) or self._made_partition_test(spec_id)
        return test(file) and self._metrics_test(file)

    def partition_may_match(self, file: DataFile) -> bool:
        """Whether a file's partition may hold such rows."""
        spec_id = file.spec_id or 0
        return (self._partition_tests.get(spec_id) or self._made_partition_test(spec_id))(file)

    def _made_partition_test(self, spec_id: int) -> Test:
        test = self._partition_test(spec_id) if spec_id in self._specs else _any
        self._partition_tests[spec_id] = test
        return test

    def _manifest_test(self, spec_id: int) -> Callable[[ManifestFile], bool]:
        try:
            test = summaries_test(self._partition_schema(spec_id), self._projected(spec_id))
        except Exception:
            return _any

        known: dict[int, tuple[Any, bool]] = {}

        def may_match(manifest: ManifestFile) -> bool:
            summaries = manifest.partitions
            if not summaries:
                return True
            found = known.get(id(summaries))
            if found is None:
                # They are held with the answer, see `_remembering`.
                found = known[id(summaries)] = summaries, test(summaries)
            return found[1]

        return may_match

    def _partition_test(self, spec_id: int) -> Test:
        try:
            schema, projected = self._partition_schema(spec_id), self._projected(spec_id)
            if isinstance(projected, AlwaysTrue):
                return _any
            evaluate = _guarded(expression_evaluator(schema, projected, case_sensitive=True))
        except Exception:
            return _any
        if any(isinstance(field.field_type, UUIDType) for field in schema.fields):
            return lambda file: evaluate(_with_uuids_as_bytes(file.partition))
        return _remembering(evaluate)

    def _partition_schema(self, spec_id: int) -> Schema:
        return Schema(*self._specs[spec_id].partition_type(self._schema).fields)

    def _projected(self, spec_id: int) -> BooleanExpression:
        return inclusive_projection(self._schema, self._specs[spec_id])(self._filter)


def schema_with_dropped_columns(schema: Schema, metadata: TableMetadata) -> Schema:
    """The schema and every other top-level column that the table ever had, under names that clash with none."""
    fields = list(schema.fields)
    known = {field.field_id for field in fields}
    for other in metadata.schemas:
        for field in other.fields:
            if field.field_id not in known:
                known.add(field.field_id)
                fields.append(NestedField(field.field_id, f"\0dropped {field.field_id}", field.field_type))
    return Schema(*fields)


def _with_uuids_as_bytes(partition: Record) -> Record:
    """Partition values in the form of PyIceberg's literals, which never equal the UUID objects that it reads."""
    values = (partition[index] for index in range(len(partition)))
    return Record(*(value.bytes if isinstance(value, UUID) else value for value in values))


def _remembering(evaluate: Callable[[Record], bool]) -> Test:
    """A test of partitions, made once for each object: files of one manifest and partition share theirs."""
    known: dict[int, tuple[Record, bool]] = {}

    def test(file: DataFile) -> bool:
        partition = file.partition
        found = known.get(id(partition))
        if found is None:
            # The partition is held with the answer, so that no other object can come by its identity.
            found = known[id(partition)] = partition, evaluate(partition)
        return found[1]

    return test


def _any(_: object) -> bool:
    return True


def _guarded(test: Callable[..., bool]) -> Callable[..., bool]:
    """The test, or True where it fails."""

    def guarded(subject: object) -> bool:
        try:
            return test(subject)
        except Exception:
            return True

    return guarded


def _bindable(row_filter: BooleanExpression, schema: Schema) -> BooleanExpression:
    """The filter, or "any row" where the schema does not carry it."""
    try:
        bind(schema, row_filter, case_sensitive=True)
    except Exception:
        return AlwaysTrue()
    return row_filter
