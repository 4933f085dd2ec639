"""Paths in a query -> the files that they name, here or in an object store.

A path is relative to the working directory, absolute, or a URL. ``*``, ``?`` and ``[...]`` stand for parts of a name,
``**`` for any number of folders. What names no file is an error: fewer rows than were meant are never the answer.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pyarrow import fs
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from icefusion.errors import StorageError, UnsupportedStatementError
from icefusion.naming import nearest

__all__ = ["FoundFile", "files_below", "find_files", "hive_values"]

_WILD = re.compile(r"[*?\[]")
_NOT_READ = ("http", "https", "ftp", "hf")
_HIVE_PART = re.compile(r"([^/=]+)=([^/]*)")
_HIDDEN = str.maketrans("?#", "\ue000\ue001")
_SHOWN = str.maketrans("\ue000\ue001", "?#")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FoundFile:
    """A file that a path names.

    Attributes:
        location: What it is called: a path, or a URL.
        path: Its path in its file system.
        filesystem: Where it is.
        size_bytes: How long it is.
    """

    location: str
    path: str
    filesystem: fs.FileSystem
    size_bytes: int

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)


def find_files(paths: Sequence[str], io: FileIO) -> list[FoundFile]:
    """The files that some paths name, those of each in the order of their names.

    Args:
        paths: At least one.
        io: Its properties say how object stores are reached.

    Raises:
        StorageError: A path names no file, or cannot be looked up.
        UnsupportedStatementError: It is a URL of a kind that is not read.
    """
    return [found for path in paths for found in _find(path, io)]


def files_below(folder: str, io: FileIO) -> list[FoundFile]:
    """The files in a folder and the folders in it, in the order of their names.

    What begins with an underscore or a dot is left out, as the tools that write such folders have it.

    Args:
        folder: A path or a URL, taken as it is, without wildcards.
        io: Its properties say how object stores are reached.

    Raises:
        StorageError: There is no file in it, or it cannot be looked up.
        UnsupportedStatementError: It is a URL of a kind that is not read.
    """
    literal = re.sub(r"([*?\[])", r"[\1]", folder.rstrip("/"))
    found = _find(f"{literal}/**/*", io)
    remote = "://" in folder and not folder.lower().startswith("file:")
    depth = len(PurePosixPath(folder if remote else _local(folder)).parts)
    shown = [f for f in found if not any(part[0] in "_." for part in PurePosixPath(f.location).parts[depth:])]
    if not shown:
        raise StorageError(f"there is no file in {folder}", path=folder)
    return shown


def hive_values(file: FoundFile) -> dict[str, str | None]:
    """The values that the folders of a file tell, as in ``year=2024/month=5``."""
    folders = file.path.split("/")[:-1]
    matches = [match for folder in folders if (match := _HIVE_PART.fullmatch(folder)) is not None]
    return {match[1]: None if match[2] == _HIVE_NULL else unquote(match[2]) for match in matches}


def _find(path: str, io: FileIO) -> list[FoundFile]:
    if "\0" in path or not path.strip():
        raise StorageError(f"{path!r} is no path of a file", path=path)
    scheme, separator, _ = path.partition("://")
    try:
        if separator and scheme.lower() != "file":
            return _find_remote(path, scheme.lower(), io)
        return _find_local(path)
    except OSError as exc:
        raise StorageError(f"cannot look for {path}: {exc}", path=path) from exc


def _local(location: str) -> Path:
    if location.lower().startswith("file:/"):
        return Path(unquote(location[len("file:") :].removeprefix("//")))
    return Path(location).expanduser()


def _find_local(location: str) -> list[FoundFile]:
    plain = _local(location)
    path = str(plain)
    names = [str(plain)]
    if not plain.exists():
        if not _WILD.search(path):
            raise StorageError(f"there is no file {location}", path=location, hint=_nearby(plain))
        names = sorted(name for name in glob.glob(str(plain), recursive=True) if Path(name).is_file())  # noqa: PTH207
        if not names:
            raise _nothing_matches(location)
    elif plain.is_dir():
        raise StorageError(f"{location} is a folder", path=location, hint=f"name its files: {location.rstrip('/')}/*")
    local = fs.LocalFileSystem()
    return [FoundFile(name, str(Path(name).absolute()), local, Path(name).stat().st_size) for name in names]


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    if near := nearest(path.name, [other.name for other in path.parent.iterdir()]):
        return f"did you mean {near}?"
    return f"relative paths begin at the working directory, {Path.cwd()}"


def _find_remote(location: str, scheme: str, io: FileIO) -> list[FoundFile]:
    if scheme in _NOT_READ:
        raise UnsupportedStatementError(
            f"files cannot be read by {scheme}://, as in {location}",
            hint="fetch it first, or put it into an object store",
        )
    try:
        access = io if isinstance(io, PyArrowFileIO) else PyArrowFileIO(io.properties)
        # It reads URLs, in which a question mark would end the path.
        scheme, host, path = PyArrowFileIO.parse_location(location.translate(_HIDDEN), io.properties)
        path = path.translate(_SHOWN)
        filesystem = access.fs_by_scheme(scheme, host)
    except Exception as exc:  # which kinds depends on the store
        raise StorageError(f"cannot reach {location}: {exc}", path=location) from exc
    wild = _WILD.search(path)
    prefix = location[: len(location) - len(path)] if location.endswith(path) else f"{scheme}://"
    if wild is None:
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.File:
            is_folder = info.type == fs.FileType.Directory
            hint = f"name its files: {location.rstrip('/')}/*" if is_folder else None
            problem = f"{location} is a folder" if is_folder else f"there is no file {location}"
            raise StorageError(problem, path=location, hint=hint)
        return [FoundFile(location, path, filesystem, info.size)]
    folder = path[: path.rfind("/", 0, wild.start())]
    behind = path[len(folder) + 1 :]
    selector = fs.FileSelector(folder, recursive="/" in behind or "**" in behind, allow_not_found=True)
    pattern = _pattern(path)
    infos = [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    found = sorted((info.path, info.size) for info in infos if pattern.fullmatch(info.path))
    if not found:
        raise _nothing_matches(location)
    return [FoundFile(prefix + name, name, filesystem, size) for name, size in found]


def _pattern(path: str) -> re.Pattern[str]:
    """A path with wildcards as a regular expression; a wildcard does not reach over a slash, but for ``**``."""
    parts = []
    for part in path.split("/"):
        if part == "**":
            parts.append(r"(?:[^/]+/)*")
        else:
            # What fnmatch makes of a wildcard may match a slash.
            inner = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
            parts.append(re.sub(r"(?<!\\)\.", "[^/]", inner) + "/")
    return re.compile("".join(parts).removesuffix("/"), re.DOTALL)


def _nothing_matches(location: str) -> StorageError:
    hint = "* and ? stand for parts of one name, ** for folders"
    return StorageError(f"no file matches {location}", path=location, hint=hint)
