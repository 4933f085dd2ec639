"""What ALTER TABLE does to a table's properties and its location."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from pyiceberg.table.name_mapping import parse_mapping_from_json

from icefusion.bridge.evolution.draft import Draft
from icefusion.bridge.evolution.following import NAME_MAPPING
from icefusion.config import RetryConfig, RowLevelProperties, WriteProperties
from icefusion.errors import ConfigurationError, UnsupportedStatementError
from icefusion.naming import nearest
from icefusion.sql.alterations import SetLocation, SetProperties, UnsetProperties

__all__ = [
    "RESERVED_PROPERTIES",
    "check_properties",
    "set_location",
    "set_properties",
    "unset_properties",
]

RESERVED_PROPERTIES = {
    "uuid": "a table keeps its identity",
    "snapshot-count": "it follows from the table's snapshots",
    "current-snapshot-id": "it follows from the table's snapshots",
    "current-snapshot-summary": "it follows from the table's snapshots",
    "current-snapshot-timestamp-ms": "it follows from the table's snapshots",
    "current-schema": "use ADD, DROP, RENAME and ALTER COLUMN",
    "default-partition-spec": "use ADD, DROP and REPLACE PARTITION FIELD",
    "default-sort-order": "use WRITE ORDERED BY",
}
"""Properties that the reference implementation keeps for what tables have anyway, with the way to change that."""

_FORMAT_VERSION = "format-version"
_HIGHEST_VERSION = 2
_SPOKEN_FOR = ("write.", "commit.", "history.", "read.")
_KNOWN_TEXT = """
    commit.manifest-merge.enabled commit.manifest.min-count-to-merge commit.manifest.target-size-bytes
    commit.retry.max-wait-ms commit.retry.min-wait-ms commit.retry.num-retries commit.retry.total-timeout-ms
    commit.status-check.max-wait-ms commit.status-check.min-wait-ms commit.status-check.num-retries
    commit.status-check.total-timeout-ms
    history.expire.max-ref-age-ms history.expire.max-snapshot-age-ms history.expire.min-snapshots-to-keep
    read.parquet.vectorization.batch-size read.parquet.vectorization.enabled read.orc.vectorization.enabled
    read.split.adaptive-size.enabled read.split.metadata-target-size read.split.open-file-cost
    read.split.planning-lookback read.split.target-size
    write.avro.compression-codec write.avro.compression-level write.data.path write.delete.distribution-mode
    write.delete.format.default write.delete.granularity write.delete.isolation-level write.delete.mode
    write.delete.target-file-size-bytes write.distribution-mode write.format.default write.location-provider.impl
    write.folder-storage.path write.icefusion.fanout-memory-bytes write.icefusion.idempotency-keys-max
    write.merge.distribution-mode write.merge.isolation-level write.merge.mode
    write.metadata.compression-codec write.metadata.delete-after-commit.enabled write.metadata.metrics.default
    write.metadata.metrics.max-inferred-column-defaults write.metadata.path write.metadata.previous-versions-max
    write.object-storage.enabled write.object-storage.partitioned-paths write.object-storage.path
    write.parquet.bloom-filter-max-bytes write.parquet.compression-codec write.parquet.compression-level
    write.parquet.dict-size-bytes write.parquet.page-row-limit write.parquet.page-size-bytes write.parquet.page-version
    write.parquet.row-group-check-max-record-count write.parquet.row-group-check-min-record-count
    write.parquet.row-group-limit write.parquet.row-group-size-bytes write.spark.accept-any-schema
    write.spark.fanout.enabled write.summary.partition-limit write.target-file-size-bytes
    write.update.distribution-mode write.update.isolation-level write.update.mode write.upsert.enabled
    write.wap.enabled
"""
_KNOWN = frozenset(_KNOWN_TEXT.split())
_AT_LEAST_ONE = ("-age-ms", "-to-keep", "-file-size-bytes", "split.target-size")
_SIZES = ("-bytes", "-ms", "-size", "-cost")
_COUNTS = ("-limit", "-count", "-retries", "-lookback", "-max", "-defaults", "-to-keep")
_CHOICES = {
    "distribution-mode": re.compile("none|hash|range"),
    "metrics": re.compile(r"none|counts|full|truncate\([1-9][0-9]*\)"),
    "enabled": re.compile("true|false"),
}
_ALL_BUT_THE_SAME = 0.95  # a letter more or less, or another one
_METRICS = "write.metadata.metrics."


def set_properties(draft: Draft, action: SetProperties) -> None:
    """Set properties; ``format-version`` upgrades the table.

    Raises:
        ConfigurationError: A property has a value that makes no sense, or is not a property.
        UnsupportedStatementError: The format version cannot be had.
    """
    properties = dict(action.properties)
    check_properties(properties)
    for key, value in properties.items():
        draft.footprint.keys.add(key)
        if key == _FORMAT_VERSION:
            _set_version(draft, value)
        else:
            draft.properties[key] = value


def unset_properties(draft: Draft, action: UnsetProperties) -> None:
    """Take properties away.

    Raises:
        ConfigurationError: There is no such property, or it belongs to the table.
    """
    for key in action.keys:
        _refuse_reserved(key)
        if key == _FORMAT_VERSION:
            raise ConfigurationError("format-version cannot be unset", hint="every table has one")
        draft.footprint.keys.add(key)
        if key in draft.properties:
            del draft.properties[key]
        elif not action.if_exists:
            near = nearest(key, draft.properties)
            raise ConfigurationError(
                f"the table has no property {key}",
                hint=f"did you mean {near}?" if near else "write UNSET TBLPROPERTIES IF EXISTS to pass over it",
            )


def set_location(draft: Draft, action: SetLocation) -> None:
    """Let new files go elsewhere; those that are there stay where they are.

    Raises:
        ConfigurationError: The location is empty.
    """
    location = action.location.rstrip("/")
    if not location:
        raise ConfigurationError(
            f"location {action.location!r} is not a folder", hint="write it like 's3://bucket/path/of/table'"
        )
    draft.footprint.location = True
    draft.location = location


def check_properties(properties: Mapping[str, str]) -> None:
    """Refuse misspelt table properties, and values that make no sense for those that icefusion knows.

    Others are left to the engines that know them.

    Raises:
        ConfigurationError: Naming the property, and what was expected.
    """
    for key in properties:
        _refuse_reserved(key)
        _refuse_misspelt(key)
    WriteProperties.of(properties)
    RowLevelProperties.of(properties, "delete")
    RowLevelProperties.of(properties, "update")
    RowLevelProperties.of(properties, "merge")
    RetryConfig().for_table(properties)
    for key, value in properties.items():
        _check_value(key, value)
    if NAME_MAPPING in properties:
        try:
            parse_mapping_from_json(properties[NAME_MAPPING])
        except ValueError as exc:
            raise ConfigurationError(
                f"{NAME_MAPPING}: this is not a name mapping: {exc}",
                hint="""write it like '[{"field-id": 1, "names": ["id"]}]'""",
            ) from None


def _refuse_misspelt(key: str) -> None:
    """Refuse a key that is all but the one of a property of Iceberg's: no engine would honour it.

    Keys that are like none are kept, since other engines have properties of their own.
    """
    if key in _KNOWN or not key.lower().startswith(_SPOKEN_FOR) or ".column." in key:
        return
    near = difflib.get_close_matches(key.lower(), sorted(_KNOWN), n=1, cutoff=_ALL_BUT_THE_SAME)
    if near:
        raise ConfigurationError(f"there is no table property {key}", hint=f"did you mean {near[0]}?")


def _check_value(key: str, value: str) -> None:
    """Refuse what no engine takes for the value of a known property."""
    if key == f"{_METRICS}default" or key.startswith(f"{_METRICS}column."):
        _check_choice(key, value, "metrics", "none, counts, truncate(n) or full")
    elif key not in _KNOWN:
        return
    elif key.endswith("distribution-mode"):
        _check_choice(key, value, "distribution-mode", "none, hash or range")
    elif key.endswith(".enabled"):
        _check_choice(key, value, "enabled", "true or false")
    elif key.endswith((*_SIZES, *_COUNTS)):
        least = 1 if key.endswith(_AT_LEAST_ONE) else 0
        if not (value.isascii() and value.isdecimal() and int(value) >= least):
            raise ConfigurationError(f"{key}: expected a whole number of at least {least}, found {value!r}")


def _check_choice(key: str, value: str, kind: str, choices: str) -> None:
    if not _CHOICES[kind].fullmatch(value.lower()):
        raise ConfigurationError(f"{key}: expected {choices}, found {value!r}")


def _refuse_reserved(key: str) -> None:
    if key in RESERVED_PROPERTIES:
        raise ConfigurationError(f"property {key} is reserved", hint=RESERVED_PROPERTIES[key])


def _set_version(draft: Draft, text: str) -> None:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f"format-version: expected a whole number, found {text!r}", hint="write '2'")
    version = int(text)
    if version == draft.version:
        return
    if version < draft.version:
        raise UnsupportedStatementError(
            f"format-version cannot be lowered: the table has {draft.version}, found {version}",
            hint="make another table with CREATE TABLE AS",
        )
    if version > _HIGHEST_VERSION:
        raise UnsupportedStatementError(
            f"format-version {version} cannot be written",
            hint=f"the highest is {_HIGHEST_VERSION}" if draft.version < _HIGHEST_VERSION else "leave it as it is",
        )
    draft.version = version
