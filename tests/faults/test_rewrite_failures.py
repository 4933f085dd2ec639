"""Files are written anew by several threads: one that fails, an interrupt, and memory that runs out."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from fault_bench import Warehouse, kind_of_file

import icefusion as ice
from icefusion.query.planned import PlannedQuery
from icefusion.testing import FaultyIO

FILES = 6
BEFORE = list(range(FILES * 10))
UPDATE = "UPDATE ns.k SET id = id + 1000 WHERE id % 10 < 3"
UPDATED = sorted(n + 1000 if n % 10 < 3 else n for n in BEFORE)
MERGE = (
    "MERGE INTO ns.k AS t USING src AS s ON t.id = s.id WHEN MATCHED AND s.id < 10 THEN DELETE "
    "WHEN MATCHED THEN UPDATE SET id = s.id + 1000 WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id) "
    "WHEN NOT MATCHED BY SOURCE AND t.id = 59 THEN DELETE"
)
SOURCE = pa.table({"id": [1, 11, 12, 21, 77]})
MERGED = sorted([n for n in BEFORE if n not in (1, 11, 12, 21, 59)] + [77, 1011, 1012, 1021])


def prepare(session: ice.Session) -> None:
    # Small files of one partition would be written anew by one thread.
    session.sql("CREATE TABLE ns.k (id BIGINT) PARTITIONED BY (truncate(10, id))")
    session.sql(f"INSERT INTO ns.k VALUES {', '.join(f'({n})' for n in BEFORE)}")


@pytest.fixture(scope="module")
def made() -> Iterator[Warehouse]:
    warehouse = Warehouse(prepare)
    yield warehouse
    warehouse.remove()


@pytest.fixture
def warehouse(made: Warehouse) -> Warehouse:
    made.reset()
    return made


class Strike:
    """Raises an error at one of the steps that a session takes with data files and delete files."""

    def __init__(self, step: str, at: int, error: BaseException) -> None:
        self._step, self._at, self._error = step, at, error
        self._count = 0
        self._lock = threading.Lock()
        self.struck = False

    def __call__(self, step: str, path: str) -> None:
        if kind_of_file(path) != "parquet" or step != self._step:
            return
        with self._lock:
            self._count += 1
            if self._count != self._at:
                return
            self.struck = True
        raise self._error


def connect(warehouse: Warehouse, hook: Callable[[str, str], None], threads: int = 3) -> ice.Session:
    session = ice.connect(warehouse.folder, threads=threads)
    FaultyIO.install(session.catalog, hook)
    return session


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("create", OSError(5, "a thread crashed")),
        ("closed", OSError(5, "a thread crashed")),
        ("close", KeyboardInterrupt("stop")),
        ("closed", MemoryError("no more")),
    ],
)
def test_a_write_that_fails_in_one_of_the_threads_leaves_nothing(warehouse, mode, step, error) -> None:
    for at in range(1, 20):
        warehouse.reset()
        strike = Strike(step, at, error)
        with connect(warehouse, strike) as session:
            if at > 1 and not _fails(session, mode, error, strike):
                break
            if at == 1:
                assert _fails(session, mode, error, strike)
            seen = warehouse.look()
            assert seen.rows == warehouse.before.rows
            assert not seen.leftovers
            assert threading.active_count() < 20
            session.sql(UPDATE, write_mode=mode)  # the session is as good as before
        assert warehouse.look().rows["k"] == UPDATED
    # An interrupt may come when all of a file is written.
    assert at > (FILES if mode == "copy-on-write" else 1)
    assert warehouse.look().rows["k"] == UPDATED


def _fails(session: ice.Session, mode: str, error: BaseException, strike: Strike) -> bool:
    kind = ice.StorageError if isinstance(error, OSError) else type(error)
    try:
        session.sql(UPDATE, write_mode=mode)
    except kind:
        return True
    assert not strike.struck
    return False


def test_an_interrupt_of_the_thread_that_waits_ends_the_others(warehouse) -> None:
    """As Ctrl-C does it: the signal goes to the main thread, which waits for the threads that write.

    Some versions of Python then take a thread for dead that is at work.
    """

    def hook(step: str, path: str) -> None:
        if step == "create" and kind_of_file(path) == "parquet":
            called.append(1)
            if len(called) == 1:
                _thread.interrupt_main()
                time.sleep(0.3)
                awake.append(1)

    called: list[int] = []
    awake: list[int] = []
    with connect(warehouse, hook, threads=1) as session:
        with pytest.raises(KeyboardInterrupt):
            session.sql(UPDATE, write_mode="copy-on-write")
        assert awake, "a thread is still at work"
        seen = warehouse.look()
        assert seen.rows == warehouse.before.rows
        assert not seen.leftovers
        session.sql(UPDATE, write_mode="copy-on-write")
    assert warehouse.look().rows["k"] == UPDATED


class Exhausted:
    """Has one stream of a session's questions end for want of memory, after all of its batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self._at, self._count = at, 0
        self._lock = threading.Lock()
        self.struck = False
        for name in ("streams", "stream"):
            monkeypatch.setattr(PlannedQuery, name, self._patched(getattr(PlannedQuery, name)))

    def _patched(self, real: Callable[[PlannedQuery], object]) -> Callable[[PlannedQuery], object]:
        def streams(planned: PlannedQuery) -> object:
            found = real(planned)
            with self._lock:
                self._count += 1
                if self._count != self._at:
                    return found
                self.struck = True
            if isinstance(found, list):
                return [self._ending(stream) for stream in found]
            return self._ending(found)

        return streams

    def _ending(self, stream: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from stream
        raise ice.OutOfMemoryError("not enough")


@pytest.mark.parametrize("mode", ["copy-on-write", "merge-on-read"])
def test_a_question_that_runs_out_of_memory_is_asked_again_and_its_rows_are_forgotten(
    warehouse, monkeypatch, mode
) -> None:
    for at in range(1, 30):
        warehouse.reset()
        with ice.connect(warehouse.folder, threads=2) as session, monkeypatch.context() as patch:
            exhausted = Exhausted(patch, at)
            try:
                result = session.sql(MERGE, src=SOURCE, write_mode=mode)
            except ice.OutOfMemoryError:
                assert at == 1  # the source itself is read once
                result = None
            patch.undo()
            seen = warehouse.look()
            assert not seen.leftovers
            assert seen.rows["k"] == (BEFORE if result is None else MERGED)
            if result is not None:
                counts = (result.rows_inserted, result.rows_updated, result.rows_deleted)
                assert counts == (1, 3, 2)
        if not exhausted.struck:
            break
    assert at > (6 if mode == "copy-on-write" else 4)


def test_memory_that_runs_out_over_a_stream_is_an_error_and_leaves_nothing(warehouse, monkeypatch) -> None:
    question = "UPDATE ns.k SET id = ns.k.id + 1000 FROM src AS s WHERE ns.k.id = s.id"
    with ice.connect(warehouse.folder, threads=2) as session:
        Exhausted(monkeypatch, 1)
        with pytest.raises(ice.OutOfMemoryError):
            session.sql(question, src=SOURCE.to_reader(), write_mode="merge-on-read")
    seen = warehouse.look()
    assert seen.rows["k"] == BEFORE
    assert not seen.leftovers
