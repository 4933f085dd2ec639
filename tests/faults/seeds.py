"""Run seeds of the simulation: one here, or many on all cores, each process with a warehouse of its own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import keyed
from fault_bench import Warehouse, scratch_folder
from ledger import check
from quick import make_quick
from simulation import History, Simulation

import icefusion as ice

_warehouse: Warehouse | None = None


def prepare(session: ice.Session) -> None:
    for name in ("t", "u", "d"):
        session.sql(
            f"CREATE TABLE ns.{name} (id BIGINT) TBLPROPERTIES ('commit.manifest.min-count-to-merge' = '4', "
            "'write.avro.compression-codec' = 'uncompressed')"
        )
    for name, rows in keyed.FIRST.items():
        partitioning = f"PARTITIONED BY (truncate({keyed.PART}, id))" if name == "l" else ""
        session.sql(
            f"CREATE TABLE ns.{name} (id BIGINT, v BIGINT) {partitioning} TBLPROPERTIES ("
            "'commit.manifest.min-count-to-merge' = '4', 'write.avro.compression-codec' = 'uncompressed')"
        )
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):  # two files, of which one can be left alone
            session.sql(f"INSERT INTO ns.{name} VALUES {', '.join(map(str, part))}")


def run_seed(warehouse: Warehouse, seed: int) -> History:
    """One run and the verdict on it, an `AssertionError` that says how to have it again."""
    simulation = Simulation(warehouse, seed)
    try:
        history = simulation.run()
        check(history, warehouse)
    except Exception as exc:
        raise AssertionError(
            f"seed {seed}: {exc}\nrun it again with ICEFUSION_SEED={seed} pytest -k simulation\n"
            + "\n".join(simulation.history.log)
        ) from exc
    return history


class Seeds:
    """Processes that run seeds, as many as there are cores.

    They are quicker at it than this process (see `quick`), and give the same runs.
    """

    def __init__(self) -> None:
        self._root = scratch_folder()
        processes = len(os.sched_getaffinity(0))
        # A fork would take over threads and locks of libraries that are at work here.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(self._root,))

    def run(self, seeds: Iterable[int]) -> Future[list[str]]:
        """The logs of some seeds, later; the first that fails raises."""
        return self._pool.submit(_run_here, list(seeds))

    def close(self) -> None:
        """Leave out what has not begun, and tidy up."""
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._root)


def _begin(root: Path) -> None:
    global _warehouse  # noqa: PLW0603 - one for each process
    make_quick()
    folder = root / str(os.getpid())
    folder.mkdir()
    _warehouse = Warehouse(prepare, folder)
    warnings.simplefilter("error")


def _run_here(seeds: list[int]) -> list[str]:
    assert _warehouse is not None
    return ["\n".join(run_seed(_warehouse, seed).log) for seed in seeds]
