"""Manifest lists and manifests as they are read. They never change, so what was read or written last is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from icefusion.bridge.entries import LiveEntry, read_entries
from icefusion.errors import StorageError

__all__ = ["ManifestReader", "unreadable"]

MAX_CACHED_FILES = 50_000
MAX_CACHED_MANIFESTS = 50_000


class ManifestReader:
    """Reads manifest lists and manifests, and remembers the last ones. Safe to share between threads.

    Args:
        max_files: How many data files to remember, over all manifests.
        max_manifests: How many manifests to remember, over all lists.
    """

    def __init__(self, max_files: int = MAX_CACHED_FILES, max_manifests: int = MAX_CACHED_MANIFESTS) -> None:
        self._max_files = max_files
        self._max_manifests = max_manifests
        # By path and age: a commit that is tried again keeps its manifests, and they inherit another number then.
        self._entries: OrderedDict[tuple[str, int | None], tuple[LiveEntry, ...]] = OrderedDict()
        self._lists: OrderedDict[str, tuple[ManifestFile, ...]] = OrderedDict()
        self._file_count = 0
        self._manifest_count = 0
        self._lock = threading.Lock()

    def read_list(self, snapshot: Snapshot | None, io: FileIO) -> tuple[ManifestFile, ...]:
        """The manifests of a snapshot, in the order of its manifest list; none for no snapshot.

        Raises:
            StorageError: The manifest list is missing or unreadable.
        """
        if snapshot is None:
            return ()
        path = snapshot.manifest_list
        with self._lock:
            if path in self._lists:
                self._lists.move_to_end(path)
                return self._lists[path]
        try:
            manifests = tuple(snapshot.manifests(io))
        except Exception as exc:
            raise unreadable("manifest list", path, exc) from exc
        self.remember_list(path, manifests)
        return manifests

    def remember_list(self, path: str, manifests: Sequence[ManifestFile]) -> None:
        """Keep a manifest list that was just written: it is the next commit's parent."""
        with self._lock:
            self._manifest_count += len(manifests) - len(self._lists.get(path, ()))
            self._lists[path] = tuple(manifests)
            self._lists.move_to_end(path)
            while self._manifest_count > self._max_manifests and len(self._lists) > 1:
                self._manifest_count -= len(self._lists.popitem(last=False)[1])

    def read(self, manifest: ManifestFile, io: FileIO) -> tuple[DataFile, ...]:
        """The files of a manifest that are not marked as deleted.

        Raises:
            StorageError: The manifest is missing or unreadable.
        """
        return tuple(entry.file for entry in self.entries(manifest, io))

    def entries(self, manifest: ManifestFile, io: FileIO) -> tuple[LiveEntry, ...]:
        """The same files, each with its data sequence number.

        Raises:
            StorageError: The manifest is missing or unreadable.
        """
        path = manifest.manifest_path
        key = path, manifest.sequence_number
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        try:
            entries = tuple(
                LiveEntry(entry.data_file, _known(entry.sequence_number)) for entry in read_entries(manifest, io)
            )
        except Exception as exc:
            raise unreadable("manifest", path, exc) from exc
        with self._lock:
            if key not in self._entries and len(entries) <= self._max_files:
                self._entries[key] = entries
                self._file_count += len(entries)
            while self._file_count > self._max_files:
                self._file_count -= len(self._entries.popitem(last=False)[1])
        return entries

    def changes(self, snapshot: Snapshot, io: FileIO) -> Iterator[tuple[ManifestEntryStatus, DataFile]]:
        """The files that a snapshot added or removed.

        Raises:
            StorageError: A manifest, or the list of them, is missing or unreadable.
        """
        for manifest in self.read_list(snapshot, io):
            if manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            try:
                entries = read_entries(manifest, io, deleted=True)
            except Exception as exc:
                raise unreadable("manifest", manifest.manifest_path, exc) from exc
            for entry in entries:
                if entry.snapshot_id == snapshot.snapshot_id and entry.status != ManifestEntryStatus.EXISTING:
                    yield entry.status, entry.data_file


def _known(sequence_number: int | None) -> int:
    if sequence_number is None:
        raise ValueError("an entry has no sequence number, and none to inherit")
    return sequence_number


def unreadable(kind: str, path: str, exc: Exception) -> StorageError:
    """The error for a file of metadata that cannot be read."""
    hint = "it may have been removed by snapshot expiry, or by other software"
    if isinstance(exc, FileNotFoundError):
        return StorageError(f"{kind} {path} is missing in storage", path=path, hint=hint)
    return StorageError(f"cannot read {kind} {path}: {exc}", path=path)
