"""Manifests as they are read and remembered."""

from pathlib import Path

from pyiceberg.manifest import ManifestFile

import icefusion
from icefusion.bridge.manifests import ManifestReader


def test_files_are_as_old_as_the_list_says_that_names_their_manifest(tmp_path: Path) -> None:
    """A commit that is tried again puts the same manifest into another list, and its files are younger then."""
    with icefusion.connect(tmp_path) as session:
        session.sql("CREATE NAMESPACE ns")
        session.sql("CREATE TABLE ns.t AS SELECT 1 AS id")
        table = session.catalog.load_table("ns.t")
        (manifest,) = table.current_snapshot().manifests(table.io)
        again = ManifestFile(*manifest._data)
        again.sequence_number = 7
        reader = ManifestReader()
        ages = [
            [entry.sequence_number for entry in reader.entries(one, table.io)] for one in (manifest, again, manifest)
        ]
        assert ages == [[1], [7], [1]]
