"""Manifest lists and manifests as they are read. They never change, so what was read or written last is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from icefusion.bridge.entries import (
    decode_live_entries,
    fetch,
    read_entries,
    read_list,
)
from icefusion.bridge.kept import KeptBytes
from icefusion.bridge.listed import Listing, LiveEntry
from icefusion.bridge.locations import local_path, unreadable

__all__ = ["MAX_KEPT_BYTES", "ManifestReader"]

MAX_KEPT_BYTES = 128 * 1024 * 1024
FETCHING_THREADS = 16

_BYTES_A_MANIFEST = 1_000  # in a list; some more for each field of its partition spec
_BYTES_A_SUMMARY = 400


class ManifestReader:
    """Reads manifest lists and manifests, and remembers the last ones. Safe to share between threads.

    Args:
        max_bytes: How much memory to take for what is remembered.

    Attributes:
        kept: What is remembered: manifest lists, the files of manifests, and whatever planning makes of them.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.kept = KeptBytes(max_bytes)

    def read_list(self, snapshot: Snapshot | None, io: FileIO) -> tuple[ManifestFile, ...]:
        """The manifests of a snapshot, in the order of its manifest list; none for no snapshot.

        Raises:
            StorageError: The manifest list is missing or unreadable.
        """
        if snapshot is None:
            return ()
        path = snapshot.manifest_list
        found: tuple[ManifestFile, ...] | None = self.kept.get(("list", path))
        if found is not None:
            return found
        try:
            manifests = read_list(path, io)
        except Exception as exc:
            raise unreadable("manifest list", path, exc) from exc
        self.remember_list(path, manifests)
        return manifests

    def remember_list(self, path: str, manifests: Sequence[ManifestFile]) -> None:
        """Keep a manifest list that was just written: it is the next commit's parent."""
        size_bytes = sum(_BYTES_A_MANIFEST + _BYTES_A_SUMMARY * len(one.partitions or ()) for one in manifests)
        self.kept.put(("list", path), tuple(manifests), size_bytes)

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
        (listing,) = self.listings([manifest], io)
        return listing.entries

    def listings(self, manifests: Sequence[ManifestFile], io: FileIO) -> Iterator[Listing]:
        """What each of several manifests lists, in their order.

        Those in an object store are fetched by several threads. They are decoded by one: Python does not do that on
        several at once.

        Raises:
            StorageError: A manifest is missing or unreadable.
        """
        found: list[Listing | None] = [self.kept.get(_key(manifest)) for manifest in manifests]
        missing = [manifest for manifest, listing in zip(manifests, found, strict=True) if listing is None]
        contents = self._fetch(missing, io)
        for manifest, known in zip(manifests, found, strict=True):
            yield known if known is not None else self._decode(manifest, next(contents))

    def _fetch(self, manifests: Sequence[ManifestFile], io: FileIO) -> Iterator[bytes]:
        one = partial(_fetch, io=io)
        if len(manifests) <= 1 or local_path(manifests[0].manifest_path) is not None:
            yield from map(one, manifests)
            return
        with ThreadPoolExecutor(min(FETCHING_THREADS, len(manifests)), thread_name_prefix="icefusion-plan") as pool:
            yield from pool.map(one, manifests)

    def _decode(self, manifest: ManifestFile, content: bytes) -> Listing:
        try:
            listing = decode_live_entries(content, manifest)
        except Exception as exc:
            raise unreadable("manifest", manifest.manifest_path, exc) from exc
        self.kept.put(_key(manifest), listing, listing.size_bytes)
        return listing

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


def _key(manifest: ManifestFile) -> tuple[str, str, int | None]:
    # By path and age: a commit that is tried again keeps its manifests, and they inherit another number then.
    return "entries", manifest.manifest_path, manifest.sequence_number


def _fetch(manifest: ManifestFile, io: FileIO) -> bytes:
    try:
        return fetch(manifest.manifest_path, io)
    except Exception as exc:
        raise unreadable("manifest", manifest.manifest_path, exc) from exc
