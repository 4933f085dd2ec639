"""What must hold of a table's history and of its files, whoever wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot


def ledger(table: Table) -> Counter[tuple[int, int, int]]:
    """How often each row is in the table."""
    rows = table.scan().to_arrow().select(["worker", "number", "part"])
    return Counter(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def check_linear(table: Table) -> list[Snapshot]:
    """The snapshots in order, after checking that each stands on the one before it and none stands aside."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    history: list[Snapshot] = []
    current = table.metadata.current_snapshot_id
    while current is not None:
        history.append(by_id[current])
        current = by_id[current].parent_snapshot_id
    history.reverse()
    assert len(history) == len(by_id), "snapshots stand aside of the history"
    numbers = [snapshot.sequence_number or 0 for snapshot in history]
    assert numbers == sorted(set(numbers)), f"sequence numbers do not increase: {numbers}"
    times = [snapshot.timestamp_ms for snapshot in history]
    assert times == sorted(times), "time runs backwards"
    assert [entry.snapshot_id for entry in table.metadata.snapshot_log][-len(history) :] == [
        snapshot.snapshot_id for snapshot in history
    ]
    return history


def named_files(table: Table) -> set[str]:
    """Every file that the table names, now or in its history: data, manifests, lists, metadata."""
    found = set(_metadata_files(table.metadata, table.metadata_location, table.io))
    manifests = {}
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        found.add(path)
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        found.update(e.data_file.file_path for e in entries if e.status != ManifestEntryStatus.DELETED)
    return found


def leftovers(table: Table) -> list[str]:
    """Files in the table's local folder that the table does not name, after checking that all it names are there."""
    named = {_local(path) for path in named_files(table)}
    there = {path for path in _local(table.location()).rglob("*") if path.is_file()}
    missing = sorted(str(path) for path in named - there)
    assert not missing, f"missing: {missing}"
    return sorted(str(path) for path in there - named)


def _metadata_files(metadata: TableMetadata, location: str, io: FileIO) -> Iterator[str]:
    """All metadata files: the log of one holds the last hundred, the oldest of those holds the hundred before it."""
    yield location
    while metadata.metadata_log:
        yield from (entry.metadata_file for entry in metadata.metadata_log)
        metadata = FromInputFile.table_metadata(io.new_input(metadata.metadata_log[0].metadata_file))


def _local(location: str) -> Path:
    parts = urlsplit(location)
    return Path(unquote(parts.path) if parts.scheme else location)
