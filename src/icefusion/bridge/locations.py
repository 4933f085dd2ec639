"""Where files are, and what they are called in messages."""

from __future__ import annotations

from pyiceberg.manifest import DataFile, DataFileContent

from icefusion.errors import StorageError

__all__ = ["DAMAGED", "kind_of", "local_path", "missing_file", "unreadable"]

DAMAGED = "it may be damaged: restore it from a copy, or read a snapshot without it"


def local_path(location: str) -> str | None:
    """The path of a file on this machine, or None for one in an object store."""
    if location.startswith("file:"):
        return location.removeprefix("file://").removeprefix("file:")
    return None if "://" in location else location


def kind_of(file: DataFile) -> str:
    """What a file is called in messages."""
    return "data file" if file.content == DataFileContent.DATA else "delete file"


def missing_file(file: DataFile) -> StorageError:
    """The error for a file that the metadata names and storage lacks."""
    return StorageError(
        f"{kind_of(file)} {file.file_path} is missing in storage",
        path=file.file_path,
        hint="the table's metadata names it; restore it, or read a snapshot without it",
    )


def unreadable(kind: str, path: str, exc: Exception) -> StorageError:
    """The error for a file of metadata that cannot be read."""
    hint = "it may have been removed by snapshot expiry, or by other software"
    if isinstance(exc, FileNotFoundError):
        return StorageError(f"{kind} {path} is missing in storage", path=path, hint=hint)
    hint = "it is damaged; restore it, or read an earlier snapshot: FOR VERSION AS OF"
    return StorageError(f"cannot read {kind} {path}: {exc}", path=path, hint=hint)
