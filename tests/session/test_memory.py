"""The memory of the process, beyond what the engine accounts for."""

import subprocess
import sys
from pathlib import Path

import pytest

import icefusion as ice
from icefusion.query.allocator import Reclaimer, anonymous_bytes

SCANS = """
import sys
import icefusion as ice
from pathlib import Path

def anonymous():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
    return int(line.split()[1]) // 1000

with ice.connect(sys.argv[1], memory_limit=sys.argv[2]) as session:
    before = anonymous()
    for _ in range(8):
        for batch in session.sql("SELECT * FROM ns.t").to_arrow_reader():
            del batch
    print(anonymous() - before)
"""


@pytest.mark.skipif(anonymous_bytes() is None, reason="the system does not tell what a process holds")
def test_reading_again_and_again_does_not_add_up(folder: Path, session) -> None:
    """Ten columns of four megabytes each, which no codec makes smaller, in six files: 240 MB, read eight times."""
    columns = ", ".join(f"c{number} DOUBLE" for number in range(10))
    session.sql(f"CREATE TABLE ns.t ({columns})")
    values = ", ".join("random()" for _ in range(10))
    for _ in range(6):
        session.sql(f"INSERT INTO ns.t SELECT {values} FROM generate_series(1, 500000)")
    run = subprocess.run(
        [sys.executable, "-c", SCANS, str(folder), "100MB"], check=True, stdout=subprocess.PIPE, text=True
    )
    assert int(run.stdout) < 450  # some 200 with it, 750 to 1,000 without


def test_a_query_that_is_not_read_to_its_end_does_not_keep_the_process(folder: Path, session) -> None:
    session.sql("CREATE TABLE ns.t AS SELECT 1 AS a FROM generate_series(1, 100000)")
    text = f"""
import icefusion as ice
session = ice.connect({str(folder)!r}, memory_limit="100MB")
batches = iter(session.sql("SELECT * FROM ns.t").to_arrow_reader())
next(batches)
"""
    run = subprocess.run([sys.executable, "-c", text], check=False, timeout=60, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_session_without_a_limit_is_not_watched(folder: Path, monkeypatch) -> None:
    def watching(self):
        raise AssertionError("watched")

    monkeypatch.setattr(Reclaimer, "watching", watching)
    with ice.connect(folder) as session:
        assert session.sql("SELECT 1").fetchone() == (1,)
