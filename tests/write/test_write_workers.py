"""How streams are pulled and piles are worked off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from writing import EVENTS, deal, event_rows, read, same_rows, target

from icefusion.errors import ConfigurationError
from icefusion.write.executor import WriteOptions, write_streams
from icefusion.write.workers import PileSize, Stop, pull_streams, run_tasks


def batches(count: int, rows: int = 10) -> Iterator[pa.RecordBatch]:
    return iter(pa.table({"x": range(count * rows)}).to_batches(max_chunksize=rows))


def pull(streams: list[Iterator[pa.RecordBatch]], size: PileSize, threads: int) -> list[list[int]]:
    """The rows of each pile that was worked off, and last of what was left."""
    piles: list[list[int]] = []
    rest = pull_streams(streams, lambda pile: piles.append(_values(pile)), size, threads, Stop())
    return [*piles, _values(rest)]


def _values(pile: list[pa.RecordBatch]) -> list[int]:
    return [value for batch in pile for value in batch["x"].to_pylist()]


@pytest.mark.parametrize(("streams", "threads"), [(1, 1), (1, 4), (3, 2), (2, 5), (7, 1)])
def test_each_row_is_in_one_pile(streams: int, threads: int) -> None:
    piles = pull([batches(20) for _ in range(streams)], PileSize(35, 10**9), threads)
    assert sorted(value for pile in piles for value in pile) == sorted([*range(200)] * streams)
    assert all(len(pile) <= 35 for pile in piles)


def test_batches_are_cut_where_a_pile_is_full() -> None:
    piles = pull([batches(1, rows=100)], PileSize(40, 10**9), 1)
    assert [len(pile) for pile in piles] == [40, 40, 20, 0]


def test_a_rest_is_left_where_nobody_is_at_work() -> None:
    piles: list[list[pa.RecordBatch]] = []
    rest = pull_streams([batches(14)], piles.append, PileSize(200, 10**9), 2, Stop(), leave_rest=True)
    assert (sorted(_values(rest)), piles) == (list(range(140)), [])


def test_nobody_waits_to_leave_a_rest() -> None:
    both = threading.Barrier(2)
    sizes: list[int] = []

    def work(pile: list[pa.RecordBatch]) -> None:
        both.wait(10)
        sizes.append(len(_values(pile)))

    rest = pull_streams([batches(15)], work, PileSize(100, 10**9), 2, Stop(), leave_rest=True)
    assert (sorted(sizes), rest) == ([50, 100], [])


def test_piles_are_full_by_their_bytes_too() -> None:
    piles = pull([batches(100)], PileSize(10**9, 800), 1)
    assert all(100 <= len(pile) <= 102 for pile in piles[:-2])


def test_streams_that_wait_for_each_other_are_all_pulled() -> None:
    barrier = threading.Barrier(5)

    def together() -> Iterator[pa.RecordBatch]:
        barrier.wait(10)
        yield from batches(3)

    piles = pull([together() for _ in range(5)], PileSize(10**9, 10**9), 2)
    assert sum(map(len, piles)) == 150


def test_a_slow_consumer_holds_the_streams_back() -> None:
    pulled, worked = [], []

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in batches(50):
            pulled.append(1)
            yield batch

    def work(pile: list[pa.RecordBatch]) -> None:
        time.sleep(0.02)
        # What was pulled and is not done: this pile, the one that fills up behind it, and a batch for each stream.
        assert len(pulled) - len(worked) * 5 <= 5 + 5 + 2
        worked.append(1)

    pull_streams([counted(), batches(0)], work, PileSize(50, 10**9), 1, Stop())
    assert len(worked) == 10


def test_piles_get_smaller_near_the_end_so_that_threads_end_together() -> None:
    ended = threading.Event()

    def first() -> Iterator[pa.RecordBatch]:
        yield from batches(40)
        ended.set()

    def second() -> Iterator[pa.RecordBatch]:
        yield from batches(40)
        ended.wait(5)
        time.sleep(0.2)
        yield from batches(40)

    piles = pull([first(), second()], PileSize(400, 10**9), 2)
    assert max(map(len, piles)) == 400
    assert 100 <= max(map(len, piles[-4:])) <= 110


def test_a_stream_that_ends_early_leaves_the_piles_their_size() -> None:
    piles = pull([batches(0), batches(1), batches(60)], PileSize(100, 10**9), 2)
    assert sum(0 < len(pile) < 100 for pile in piles) <= 2  # at the very end


def test_a_thread_whose_stream_has_ended_helps_with_the_others() -> None:
    both = threading.Barrier(2)
    pull_streams([batches(0), batches(20)], lambda _: both.wait(10) and None, PileSize(100, 10**9), 2, Stop())
    assert not both.broken


def test_tasks_run_on_several_threads() -> None:
    barrier = threading.Barrier(3)
    run_tasks([lambda: barrier.wait(10) and None] * 3, 3, Stop())
    assert barrier.n_waiting == 0


def test_after_a_failed_task_no_other_begins() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_tasks([fail, *[lambda: done.append(1)] * 5], 1, Stop())
    assert done == []


def test_progress_is_told_of_every_row(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = event_rows(20_000)
    to = target(tmp_path, EVENTS)
    write_streams(
        deal(rows, 3), to, PyArrowFileIO(), WriteOptions(2), progress=lambda rows, size: told.append((rows, size))
    )
    assert sum(count for count, _ in told) == 20_000
    assert abs(sum(size for _, size in told) - rows.nbytes) < 0.02 * rows.nbytes


def test_align_shapes_what_is_written(tmp_path: Path) -> None:
    rows = event_rows(5_000)
    loose = rows.select(["s", "x", "ts", "id"])

    def align(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select(rows.schema.names)

    result = write_streams(deal(loose, 2), target(tmp_path, EVENTS), PyArrowFileIO(), WriteOptions(2), align=align)
    assert same_rows(read(result.files), rows)


def test_no_streams_make_no_files(tmp_path: Path) -> None:
    assert write_streams([], target(tmp_path, EVENTS), PyArrowFileIO(), WriteOptions(2)).files == ()


def test_options_refuse_no_threads() -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        WriteOptions(0)
