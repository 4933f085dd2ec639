"""Commits that are stacked on each other in one swap, and tried again: what their manifests say in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

import icefusion
from icefusion.bridge.manifests import ManifestReader
from icefusion.commit.fold import Stage, TableFold
from icefusion.commit.handles import TableHandle
from icefusion.commit.operations import FileChange, TableChange
from icefusion.testing import FakeClock


def new_file(name: str) -> DataFile:
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file:///{name}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
    )
    file.spec_id = 0
    return file


@pytest.mark.parametrize("removes", [False, True])
def test_files_of_a_commit_below_are_as_old_as_that_commit_at_the_second_attempt(tmp_path: Path, removes: bool) -> None:
    """The upper one merges, or writes anew, a manifest of the lower one, whose age is another in each attempt."""
    with icefusion.connect(tmp_path) as session:
        session.sql("CREATE NAMESPACE ns")
        count = "100" if removes else "2"
        session.sql(f"CREATE TABLE ns.t (id INT) TBLPROPERTIES ('commit.manifest.min-count-to-merge' = '{count}')")
        handle = TableHandle("ns.t", session.catalog.load_table("ns.t"))
        lower = new_file("lower"), new_file("lower too")
        upper = FileChange(added=(new_file("upper"),), removed=lower[1:] if removes else ())
        reader, clock = ManifestReader(), FakeClock()
        stages = [Stage(TableChange(handle, files), reader) for files in (FileChange(added=lower), upper)]
        for attempt in range(3):
            fold = TableFold(TableHandle("ns.t", session.catalog.load_table("ns.t")), clock)
            for stage in stages:
                fold.add(stage)
            session.sql(f"INSERT INTO ns.t VALUES ({attempt})")
        snapshot = fold.metadata.current_snapshot()
        assert snapshot is not None
        ages = {s.snapshot_id: s.sequence_number for s in fold.metadata.snapshots}
        entries = [
            entry
            for manifest in snapshot.manifests(handle.io)
            for entry in manifest.fetch_manifest_entry(handle.io, discard_deleted=True)
        ]
        assert [entry.sequence_number for entry in entries] == [ages[entry.snapshot_id] for entry in entries]
        names = {entry.data_file.file_path for entry in entries}
        assert {"file:///lower.parquet", "file:///upper.parquet"} < names
        assert ("file:///lower too.parquet" in names) is not removes
