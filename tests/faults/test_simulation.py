"""Sessions interleaved by a seed, with faults: a checker holds what was answered against what is there.

``ICEFUSION_SEEDS=20000`` runs more seeds; ``ICEFUSION_SEED=123`` runs that one alone, in this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from fault_bench import Warehouse
from seeds import Seeds, prepare, run_seed

SEEDS = int(os.environ.get("ICEFUSION_SEEDS", "2000"))
ONE = os.environ.get("ICEFUSION_SEED")
CHUNK = 50
AGAIN = (7, 8, 9, 11, 15)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    made = Warehouse(prepare)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def processes() -> Iterator[Seeds]:
    made = Seeds()
    yield made
    made.close()


@pytest.fixture(scope="module")
def chunks(processes, request) -> dict[range, Future[list[str]]]:
    """All chunks that were asked for, under way."""
    wanted = [item.callspec.params["chunk"] for item in request.session.items if "chunks" in item.fixturenames]
    return {chunk: processes.run(chunk) for chunk in wanted}


@pytest.mark.skipif(ONE is not None, reason="one seed was asked for")
@pytest.mark.parametrize("chunk", [range(n, min(n + CHUNK, SEEDS)) for n in range(0, SEEDS, CHUNK)], ids=str)
def test_promises_hold_in_a_simulation(chunks, chunk) -> None:
    assert len(chunks[chunk].result()) == len(chunk)


@pytest.mark.skipif(ONE is None, reason="all seeds were asked for")
def test_promises_hold_in_one_simulation(warehouse) -> None:
    run_seed(warehouse, int(ONE))


def test_a_seed_gives_the_same_run_again_in_any_process(warehouse, processes) -> None:
    here = ["\n".join(run_seed(warehouse, seed).log) for seed in AGAIN]
    assert all(here)
    assert here == processes.run(AGAIN).result()
