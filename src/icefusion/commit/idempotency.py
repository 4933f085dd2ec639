"""Keys that make a write happen once, however often it is asked for.

A commit that carries a key leaves two records, inside the very same swap: an entry in the snapshot's summary, for
people and other engines, and an entry in one table property, which is what is looked up. The property outlives snapshot
expiry by any engine, is found without reading history, and is bounded: the oldest keys go first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadata

from icefusion.errors import ConfigurationError
from icefusion.reports import RowCounts

__all__ = ["KEYS_MAX_PROPERTY", "SUMMARY_KEY", "Landed", "check_key", "find_landed", "recorded"]

PROPERTY = "icefusion.idempotency-keys"
KEYS_MAX_PROPERTY = "write.icefusion.idempotency-keys-max"
SUMMARY_KEY = "icefusion.idempotency-key"
_KEYS_MAX = 200
_KEY_CHARACTERS = 255


@dataclass(frozen=True)
class Landed:
    """What is remembered of a write that landed under a key.

    Attributes:
        key: The caller's key.
        snapshot_id: The snapshot it made.
        rows: The rows it added, changed and removed.
        timestamp_ms: When, in milliseconds since the epoch.
    """

    key: str
    snapshot_id: int
    rows: RowCounts
    timestamp_ms: int


def check_key(key: str | None) -> str | None:
    """The key, if it can be one.

    Raises:
        ConfigurationError: It is empty, too long, or no text.
    """
    if key is None:
        return None
    if not isinstance(key, str) or not 1 <= len(key) <= _KEY_CHARACTERS:
        raise ConfigurationError(
            f"idempotency_key: expected a text of 1 to {_KEY_CHARACTERS} characters, found {key!r:.60}",
            hint="e.g. a UUID, or the name and offset of the source",
        )
    return key


def find_landed(metadata: TableMetadata, key: str | None) -> Landed | None:
    """What landed under a key; None when nothing did, or when it is too long ago to be remembered."""
    if key is None:
        return None
    for landed in reversed(_read(metadata.properties)):
        if landed.key == key:
            return landed
    for snapshot in reversed(metadata.snapshots):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(SUMMARY_KEY) == key:
            rows = int(snapshot.summary.additional_properties.get("added-records", 0))
            return Landed(key, snapshot.snapshot_id, RowCounts(inserted=rows), snapshot.timestamp_ms)
    return None


def recorded(properties: Mapping[str, str], landed: Sequence[Landed]) -> dict[str, str]:
    """The property as it stands after further writes landed; the oldest keys go where there are too many."""
    try:
        keep = max(1, int(properties.get(KEYS_MAX_PROPERTY, _KEYS_MAX)))
    except ValueError:
        keep = _KEYS_MAX
    records = [*_read(properties), *landed][-keep:]
    return {PROPERTY: json.dumps([_written(record) for record in records], separators=(",", ":"))}


def _written(landed: Landed) -> list[str | int]:
    """A record as it is stored; what only adds rows needs no counts of others."""
    rows = landed.rows
    record: list[str | int] = [landed.key, landed.snapshot_id, rows.inserted, landed.timestamp_ms]
    return record if rows.total == rows.inserted else [*record, rows.updated, rows.deleted]


def _read(properties: Mapping[str, str]) -> list[Landed]:
    text = properties.get(PROPERTY)
    if text is None:
        return []
    try:
        return [
            Landed(str(key), int(snapshot), RowCounts(int(inserted), *(int(count) for count in others)), int(at))
            for key, snapshot, inserted, at, *others in json.loads(text)
        ]
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        # Somebody else has written there. The snapshot summaries still know.
        return []
