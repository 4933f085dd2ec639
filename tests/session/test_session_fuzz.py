"""Random statements over a whole session, see `session_fuzz`."""

import os
from pathlib import Path

import pytest
from session_fuzz import SEEDS, Fuzz

COUNT = 80
RUNS = range(int(os.environ.get("ICEFUSION_FUZZ_RUNS", "6")))


@pytest.mark.parametrize("seed", RUNS)
def test_whatever_is_run_only_our_errors_come_out_and_leave_nothing_behind(tmp_path: Path, seed: int) -> None:
    Fuzz(tmp_path / "warehouse", seed).run(COUNT)


def test_the_statements_that_it_begins_with_are_sound(tmp_path: Path) -> None:
    fuzz = Fuzz(tmp_path / "warehouse", 0)
    for statement in SEEDS:
        if statement not in ("CREATE TABLE ns.c AS SELECT id, year(day) AS y FROM ns.a", "ROLLBACK"):
            fuzz._session.sql(statement, src=fuzz._source).to_arrow()
