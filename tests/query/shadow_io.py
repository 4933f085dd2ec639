"""Storage that only its own `FileIO` knows how to reach: files on this machine under ``shadow://``."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

SCHEME = "shadow://"
PROPERTIES = {"py-io-impl": "shadow_io.ShadowIO"}


def shadow(folder: Path) -> str:
    """A folder, as only `ShadowIO` reads it."""
    return f"{SCHEME}lake{folder}"


class ShadowIO(FileIO):
    """Access to ``shadow://<anything>/<path>``."""

    def __init__(self, properties: dict[str, str]) -> None:
        super().__init__(properties)
        self._local = PyArrowFileIO({})

    def new_input(self, location: str) -> InputFile:
        return _as_if(self._local.new_input(_path(location)), location)

    def new_output(self, location: str) -> OutputFile:
        output = self._local.new_output(_path(location))
        Path(_path(location)).parent.mkdir(parents=True, exist_ok=True)
        return _as_if(output, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        self._local.delete(_path(location if isinstance(location, str) else location.location))


def _path(location: str) -> str:
    if location.startswith("file:"):
        return location.removeprefix("file://")
    assert location.startswith(SCHEME), location
    return "/" + location.removeprefix(SCHEME).partition("/")[2]


def _as_if(file, location: str):
    file._location = location
    return file
