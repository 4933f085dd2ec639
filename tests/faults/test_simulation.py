"""Sessions interleaved by a seed, with faults: a checker holds what was answered against what is there.

``ICEFUSION_SEEDS=5000`` runs more seeds; ``ICEFUSION_SEED=123`` runs that one alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fault_bench import Warehouse
from ledger import check
from simulation import History, Simulation

import icefusion as ice

SEEDS = int(os.environ.get("ICEFUSION_SEEDS", "100"))
CHUNK = 20


def prepare(session: ice.Session) -> None:
    for name in ("t", "u", "d"):
        session.sql(
            f"CREATE TABLE ns.{name} (id BIGINT) TBLPROPERTIES ('commit.manifest.min-count-to-merge' = '4', "
            "'write.avro.compression-codec' = 'uncompressed')"
        )


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    made = Warehouse(prepare)
    yield made
    made.remove()


def run_seed(warehouse: Warehouse, seed: int) -> History:
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


def seeds() -> list[range]:
    one = os.environ.get("ICEFUSION_SEED")
    if one is not None:
        return [range(int(one), int(one) + 1)]
    return [range(first, min(first + CHUNK, SEEDS)) for first in range(0, SEEDS, CHUNK)]


@pytest.mark.parametrize("chunk", seeds(), ids=str)
def test_promises_hold_in_a_simulation(warehouse, chunk) -> None:
    for seed in chunk:
        run_seed(warehouse, seed)


def test_a_seed_of_the_simulation_gives_the_same_run_again(warehouse) -> None:
    first, second = (run_seed(warehouse, 7) for _ in range(2))
    assert first.log
    assert first.log == second.log
