"""Versions of a table: which snapshot a version names, and which columns it is read with.

As in Iceberg's Java library, a branch is read with the table's current schema, because it goes on; a tag, a snapshot id
and a time are read with the schema of the snapshot they name. The state at a time is what the table's snapshot log says
was current then (specification, "Table Metadata Fields", `snapshot-log`): a snapshot that was rolled back counts for
the time for which it was current, and one on another branch never was.

Spark also names versions by a last part of the table's name: ``ns.t.branch_audit``, ``ns.t.tag_v1``,
``ns.t.snapshot_id_123``, ``ns.t.at_timestamp_1714557600000``. A table that has that name goes first; whoever looks
names up sees to that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from icefusion.errors import BindError
from icefusion.naming import find_name, nearest
from icefusion.sql.basics import Identifier, Name
from icefusion.sql.statements import TimeAsOf, VersionAsOf

__all__ = [
    "TIME_HINT",
    "NamedVersion",
    "Travel",
    "find_ref",
    "named_version",
    "read_time",
    "read_version",
    "resolve_named",
    "resolve_version",
]

_UNITS_PER_MS = {"ns": 1_000_000, "us": 1_000}
_DAY_MS = 86_400_000
_MAX_SECONDS = 253_402_300_800  # the year 10000
TIME_HINT = "e.g. TIMESTAMP '2024-05-01 12:00:00', which is in UTC, or now() - INTERVAL '1 day'"


@dataclass(frozen=True)
class Travel:
    """Where a version leads.

    Attributes:
        snapshot_id: The snapshot to read.
        schema: The columns to read it with.
        branch: The branch that this is the newest state of; None for a state that stays what it is.
    """

    snapshot_id: int
    schema: Schema
    branch: str | None = None


@dataclass(frozen=True)
class NamedVersion:
    """A name whose last part is a version.

    Attributes:
        table: The table.
        kind: What the version is.
        value: The branch or tag as written, the snapshot id, or the milliseconds since 1970.
    """

    table: Name
    kind: Literal["branch", "tag", "snapshot", "time"]
    value: Identifier | int


_PREFIXES: tuple[tuple[str, Literal["branch", "tag", "snapshot", "time"]], ...] = (
    ("branch_", "branch"),
    ("tag_", "tag"),
    ("snapshot_id_", "snapshot"),
    ("at_timestamp_", "time"),
)


def named_version(name: Name) -> NamedVersion | None:
    """What a name stands for if its last part is a version; None if it cannot be.

    Args:
        name: With the namespace: of two parts or less, the last is the table.
    """
    if len(name.parts) < 3:
        return None
    last = name.parts[-1]
    for prefix, kind in _PREFIXES:
        start, rest = last.text[: len(prefix)], last.text[len(prefix) :]
        if (start if last.quoted else start.lower()) != prefix or not rest:
            continue
        table = Name(name.parts[:-1], name.offset)
        if kind in ("branch", "tag"):
            return NamedVersion(table, kind, Identifier(rest, last.quoted))
        if rest.isascii() and rest.isdecimal():
            return NamedVersion(table, kind, int(rest))
    return None


def find_ref(
    table: str, metadata: TableMetadata, name: Identifier, kind: Literal["branch", "tag"] | None = None
) -> str:
    """The branch or tag that an identifier stands for: the same or, unquoted, the only one but for case.

    Args:
        table: The table's name, for messages.
        metadata: The table.
        name: What was written.
        kind: Which of the two; None for either.

    Raises:
        BindError: There is none.
    """
    wanted = {"branch": (SnapshotRefType.BRANCH,), "tag": (SnapshotRefType.TAG,)}.get(kind or "", SnapshotRefType)
    known = sorted(ref for ref, value in metadata.refs.items() if value.snapshot_ref_type in wanted)
    found = find_name(name, known)
    if found is None:
        raise _unknown(table, kind or "branch or tag", name.text, known)
    return found


def resolve_named(table: str, metadata: TableMetadata, version: NamedVersion) -> Travel:
    """Where a version in a name leads.

    Raises:
        BindError: There is no such version.
    """
    if isinstance(version.value, int):
        value = VersionAsOf(version.value) if version.kind == "snapshot" else TimeAsOf(version.value)
        return resolve_version(table, metadata, value)
    kind: Literal["branch", "tag"] = "branch" if version.kind == "branch" else "tag"
    return _resolve_ref(table, metadata, find_ref(table, metadata, version.value, kind))


def resolve_version(table: str, metadata: TableMetadata, version: VersionAsOf | TimeAsOf) -> Travel:
    """Where a version leads.

    Args:
        table: The table's name, for messages.
        metadata: The table.
        version: A snapshot id, the name of a branch or tag, or a time. A name that is none is read as an id, if it is
            a number.

    Raises:
        BindError: There is no such version.
    """
    if isinstance(version, TimeAsOf):
        return _at_snapshot(metadata, _snapshot_at(table, metadata, version.timestamp_ms))
    wanted = version.version
    if isinstance(wanted, str) and (wanted in metadata.refs or not (wanted.isascii() and wanted.isdecimal())):
        return _resolve_ref(table, metadata, find_ref(table, metadata, Identifier(wanted, quoted=True)))
    snapshot = metadata.snapshot_by_id(int(wanted))
    if snapshot is None:
        raise _unknown(table, "snapshot", str(wanted), [str(s.snapshot_id) for s in metadata.snapshots[-5:]])
    return _at_snapshot(metadata, snapshot)


def read_version(value: pa.Scalar) -> VersionAsOf:
    """The version that a parameter gives: an id as a number, or the name of a branch or tag as text.

    Raises:
        BindError: It is neither.
    """
    found = value.as_py()
    if isinstance(found, int) and not isinstance(found, bool):
        return VersionAsOf(found)
    if isinstance(found, str) and found:
        return VersionAsOf(found)
    shown = "NULL" if found is None else f"{found!r}"
    raise BindError(f"{shown} is no version of a table", hint="pass a snapshot id, or the name of a branch or tag")


def read_time(value: pa.Scalar) -> TimeAsOf:
    """The moment that a value is.

    Args:
        value: A timestamp, in UTC if it has no zone; a date, which is its midnight; or whole seconds since 1970, as in
            Spark.

    Raises:
        BindError: It is none of these.
    """
    if not value.is_valid:
        raise BindError("the time of a table cannot be NULL", hint=TIME_HINT)
    kind = value.type
    if pa.types.is_timestamp(kind):
        if kind.unit in _UNITS_PER_MS:
            return TimeAsOf(value.value // _UNITS_PER_MS[kind.unit])
        return TimeAsOf(value.value * (1000 if kind.unit == "s" else 1))
    if pa.types.is_date32(kind):
        return TimeAsOf(value.value * _DAY_MS)
    if pa.types.is_date64(kind):
        return TimeAsOf(value.value)
    if pa.types.is_integer(kind):
        seconds = value.as_py()
        if not 0 <= seconds < _MAX_SECONDS:
            hint = "a number is seconds since 1970; for milliseconds write to_timestamp_millis(...)"
            raise BindError(f"{seconds} seconds since 1970 is no time of a table", hint=hint)
        return TimeAsOf(seconds * 1000)
    raise BindError(f"a value of type {kind} is no time", hint=TIME_HINT)


def _resolve_ref(table: str, metadata: TableMetadata, name: str) -> Travel:
    ref = metadata.refs[name]
    snapshot = metadata.snapshot_by_id(ref.snapshot_id)
    if snapshot is None:
        raise BindError(
            f"{table}: {ref.snapshot_ref_type.value} {name} names snapshot {ref.snapshot_id}, which is gone"
        )
    if ref.snapshot_ref_type == SnapshotRefType.BRANCH:
        return Travel(ref.snapshot_id, metadata.schema(), name)
    return _at_snapshot(metadata, snapshot)


def _at_snapshot(metadata: TableMetadata, snapshot: Snapshot) -> Travel:
    schema = None if snapshot.schema_id is None else metadata.schema_by_id(snapshot.schema_id)
    return Travel(snapshot.snapshot_id, schema or metadata.schema())


def _snapshot_at(table: str, metadata: TableMetadata, timestamp_ms: int) -> Snapshot:
    entry = None
    for logged in metadata.snapshot_log:
        if logged.timestamp_ms <= timestamp_ms:
            entry = logged
    if entry is None:
        if not metadata.snapshot_log:
            raise BindError(f"{table} has no snapshot yet, and so no earlier state")
        first = min(logged.timestamp_ms for logged in metadata.snapshot_log)
        raise BindError(
            f"{table} has no state at {_shown(timestamp_ms)}: its history begins at {_shown(first)}",
            hint=f"name a time from {_shown(first)} on",
        )
    snapshot = metadata.snapshot_by_id(entry.snapshot_id)
    if snapshot is None:
        raise BindError(
            f"the state of {table} at {_shown(timestamp_ms)} was snapshot {entry.snapshot_id}, which has been expired"
        )
    return snapshot


def _shown(timestamp_ms: int) -> str:
    try:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return f"{timestamp_ms} ms since 1970"
    return f"{moment.isoformat(' ', 'milliseconds')} UTC"


def _unknown(table: str, kind: str, wanted: str, known: Iterable[str]) -> BindError:
    known = list(known)
    near = nearest(wanted, known)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(known) or 'none yet'}"
    return BindError(f"{table} has no {kind} {wanted}", hint=hint)
