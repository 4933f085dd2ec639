"""Runs the statements of ``cases/*.slt``; what is in them, and how they are run, stands in `conformance_runner`."""

from pathlib import Path

import pytest
from conformance_runner import MODES, run_file

FILES = sorted((Path(__file__).parent / "cases").glob("*.slt"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_conformance(path: Path, mode: str, tmp_path: Path) -> None:
    failures = run_file(path, mode, tmp_path)
    assert not failures, "\n\n".join(failures)
