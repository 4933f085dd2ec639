"""Footers, read one after another or by threads."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

from icefusion.errors import StorageError
from icefusion.query import footers
from icefusion.query.footers import FooterReader


def written(path: Path, table: pa.Table) -> DataFile:
    pq.write_table(table, path)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        record_count=table.num_rows,
        file_size_in_bytes=path.stat().st_size,
    )


@pytest.mark.parametrize("near_s", [-1.0, 1.0], ids=["threads", "one after another"])
def test_each_file_has_its_own_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near_s: float) -> None:
    monkeypatch.setattr(footers, "NEAR_FOOTER_S", near_s)
    tables = [pa.table({"ab"[number % 2]: list(range(number))}) for number in range(1, 12)]
    files = [written(tmp_path / f"{number}.parquet", table) for number, table in enumerate(tables)]
    reader = FooterReader()
    for _ in range(2):
        shapes = reader.shapes(files, PyArrowFileIO())
        assert [shape.schema.names for shape in shapes] == [table.column_names for table in tables]
        assert len({id(shape) for shape in shapes}) == 2
    (tmp_path / "7.parquet").unlink()
    with pytest.raises(StorageError, match=r"7\.parquet is missing in storage"):
        FooterReader().shapes(files, PyArrowFileIO())
