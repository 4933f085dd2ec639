"""SELECT over files that DataFusion cannot reach, beside the same files read by itself.

Both tables lie on this disk. One of them goes by a file access of its own, so that its files are read through Python;
what a network would add is the same for both and left out. PyIceberg's own scan of the whole table stands beside them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_write_path as paths
import pyarrow as pa
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

import icefusion as ice

TURNS = 5
QUERIES = {
    "count": "SELECT count(*) FROM ns.t",
    "sum of all numbers": "SELECT sum(id), sum(quantity), sum(price), sum(score) FROM ns.t",
    "group by": "SELECT category, count(*), avg(price) FROM ns.t GROUP BY category",
    "filter 1%": "SELECT * FROM ns.t WHERE score < 0.01",
    "point": "SELECT * FROM ns.t WHERE id = 4711",
    "all rows": "SELECT * FROM ns.t",
}


class OwnIO(PyArrowFileIO):
    """Files on this disk under ``own://here/<path>``."""

    def new_input(self, location: str) -> InputFile:
        return self._as(super().new_input(_path(location)), location)

    def new_output(self, location: str) -> OutputFile:
        Path(_path(location)).parent.mkdir(parents=True, exist_ok=True)
        return self._as(super().new_output(_path(location)), location)

    @staticmethod
    def _as(file, location: str):
        file._location = location
        return file


def _path(location: str) -> str:
    return location.removeprefix("own://here")


def fill(session: ice.Session) -> ice.Session:
    session.sql("CREATE NAMESPACE ns")
    session.sql("CREATE TABLE ns.t AS SELECT * FROM data", data=paths.read_input())
    return session


def main() -> None:
    paths.read_input()  # makes the data and its folder
    with tempfile.TemporaryDirectory(dir=paths.DATA) as folder:
        own = {"type": "sql", "uri": f"sqlite:///{folder}/own.db", "py-io-impl": "bench_io_scan.OwnIO"}
        native = fill(ice.connect(Path(folder, "native"), threads=2))
        foreign = fill(ice.connect(catalog={**own, "warehouse": f"own://here{folder}/own"}, threads=2))
        assert foreign.sql("SELECT * FROM ns.t").report.scans[0].fallback

        def engine(text: str) -> None:
            for _ in native.sql(text).to_arrow_reader():
                pass

        def through_io(text: str) -> None:
            for _ in foreign.sql(text).to_arrow_reader():
                pass

        def pyiceberg(_: str) -> None:
            native.catalog.load_table("ns.t").scan().to_arrow()

        print(f"{'query':24}{'engine ms':>10}{'io ms':>10}{'ratio':>8}")
        for name, text in {**QUERIES, "all rows by PyIceberg": "SELECT * FROM ns.t"}.items():
            other = pyiceberg if "PyIceberg" in name else through_io
            times: dict[Callable[[str], None], list[float]] = {engine: [], other: []}
            for turn in range(TURNS + 1):
                for run in [engine, other] if turn % 2 else [other, engine]:
                    began = time.perf_counter()
                    run(text)
                    if turn:  # the first turn warms both up
                        times[run].append(time.perf_counter() - began)
            a, b = (statistics.median(times[run]) * 1e3 for run in (engine, other))
            print(f"{name:24}{a:10.1f}{b:10.1f}{b / a:8.2f}")
        native.close()
        foreign.close()


if __name__ == "__main__":
    pa.set_cpu_count(2)
    main()
