"""Runs the cases of a benchmark, interleaved, each in a fresh process, and shows medians and ratios.

A benchmark script defines its cases by name and calls `main`. Run without arguments, the script starts itself once a
case and round; with ``--case NAME``, it runs that case and prints its measurement as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SAMPLE_S = 0.005


class Measurement:
    """What `measure` found: wall and CPU seconds, peak anonymous memory above the start; `facts` are the case's own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.peak_bytes = 0
        self.facts: dict[str, float] = {}


@contextmanager
def measure() -> Iterator[Measurement]:
    """Measure what runs inside; the memory in use before it does not count."""
    result = Measurement()
    done = threading.Event()
    before = _anonymous_bytes()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            result.peak_bytes = max(result.peak_bytes, _anonymous_bytes() - before)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    cpu, wall = _cpu_s(), time.perf_counter()
    try:
        yield result
    finally:
        result.seconds, result.cpu_s = time.perf_counter() - wall, _cpu_s() - cpu
        done.set()
        sampler.join()


def main(cases: dict[str, Callable[[], Measurement]], *, baseline: str | Callable[[str], str], rounds: int = 3) -> None:
    """Run a case, or all of them interleaved, and print a table of medians with ratios to the baseline.

    Args:
        cases: By name.
        baseline: The name of the case that all others are compared with, or a function from a case's name to that.
        rounds: How often each case runs.
    """
    baseline_of = baseline if callable(baseline) else lambda _: baseline
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=cases)
    parser.add_argument("--only", nargs="*", choices=cases, help="cases to run beside the baseline")
    parser.add_argument("--rounds", type=int, default=rounds)
    arguments = parser.parse_args()
    if arguments.case:
        result = cases[arguments.case]()
        print(json.dumps({"seconds": result.seconds, "cpu_s": result.cpu_s, "peak": result.peak_bytes} | result.facts))
        return
    wanted = {base for name in arguments.only or cases for base in (name, baseline_of(name))}
    names = [name for name in cases if name in wanted]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            runs[name].append(_run_case(name))
    _show(runs, baseline_of)


def _run_case(name: str) -> dict[str, float]:
    os.sync()  # what the case before has written is not to be written while this one runs
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--case", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _show(runs: dict[str, list[dict[str, float]]], baseline_of: Callable[[str], str]) -> None:
    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[name])

    facts = sorted({key for found in runs.values() for run in found for key in run} - {"seconds", "cpu_s", "peak"})
    print(f"{'case':46}{'s':>8}{'ratio':>8}{'cpu s':>8}{'ratio':>8}{'peak MB':>9}" + _cells(facts))
    for name, found in runs.items():
        seconds, cpu_s = median(name, "seconds"), median(name, "cpu_s")
        baseline = baseline_of(name)
        line = f"{name:46}{seconds:8.2f}{seconds / median(baseline, 'seconds'):8.3f}"
        line += f"{cpu_s:8.2f}{cpu_s / median(baseline, 'cpu_s'):8.3f}{median(name, 'peak') / 1e6:9.0f}"
        print(line + _cells([f"{statistics.median([r.get(key, 0) for r in found]):.0f}" for key in facts]))


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"{text:>10}" for text in texts)


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
