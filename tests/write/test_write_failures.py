"""Whatever goes wrong: the first error is the one that is told, and no file is left."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.transforms import DayTransform
from writing import EVENTS, deal, event_rows, stored_files, target, write

from icefusion.errors import SchemaError, StorageError
from icefusion.write.executor import WriteOptions, write_streams

BY_DAY = PartitionSpec(PartitionField(2, 1000, DayTransform(), "ts_day"))
LAYOUTS = pytest.mark.parametrize("spec", [UNPARTITIONED_PARTITION_SPEC, BY_DAY], ids=["appended", "partitioned"])
SMALL_GROUPS = {"write.parquet.row-group-limit": "2000", "write.target-file-size-bytes": "20000"}


class FullDisk:
    """A stream that has room for so many bytes."""

    def __init__(self, stream: Any, room: int) -> None:
        self._stream = stream
        self._room = room
        self.closed = False

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(28, "No space left on device")
        return int(self._stream.write(data))

    def tell(self) -> int:
        return int(self._stream.tell())

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True
        self._stream.close()


class FailingIO(PyArrowFileIO):
    """Storage where files have little room, or cannot be deleted."""

    def __init__(self, *, room: int | None = None, deletable: bool = True) -> None:
        super().__init__()
        self._file_room = room
        self._deletable = deletable

    def new_output(self, location: str) -> OutputFile:
        output = super().new_output(location)
        if self._file_room is not None:
            create, room = output.create, self._file_room
            output.create = lambda overwrite=False: FullDisk(create(overwrite), room)  # type: ignore[method-assign]
        return output

    def delete(self, location: Any) -> None:
        if not self._deletable:
            raise PermissionError(f"not allowed: {location}")
        super().delete(location)


class Failing:
    """A stream that fails after some batches, and remembers that it was closed."""

    def __init__(self, batches: Iterator[pa.RecordBatch], error: BaseException, after: int) -> None:
        self._batches = batches
        self._error = error
        self._left = after
        self.closed = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        if not self._left:
            raise self._error
        self._left -= 1
        return next(self._batches)

    def close(self) -> None:
        self.closed = True


def run(
    folder: Path,
    streams: list[Any],
    *,
    spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
    io: FileIO | None = None,
    **arguments: Any,
) -> None:
    to = target(folder, EVENTS, spec=spec, properties=SMALL_GROUPS)
    limit = arguments.pop("memory_limit_bytes", 100_000)
    write_streams(streams, to, io or PyArrowFileIO(), WriteOptions(2, limit), **arguments)


@LAYOUTS
@pytest.mark.parametrize("error", [SchemaError("a bad value", column="x"), KeyError("odd"), KeyboardInterrupt()])
def test_an_error_of_a_stream_is_raised_as_it_is_and_leaves_no_file(
    tmp_path: Path, spec: PartitionSpec, error: BaseException
) -> None:
    good, bad = deal(event_rows(30_000), 2)
    failing = Failing(bad, error, after=12)
    with pytest.raises(type(error)) as caught:
        run(tmp_path, [good, failing], spec=spec)
    assert caught.value is error
    assert stored_files(tmp_path) == []
    assert failing.closed


@LAYOUTS
def test_an_error_of_align_leaves_no_file(tmp_path: Path, spec: PartitionSpec) -> None:
    seen: list[int] = []

    def align(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(batch.num_rows)
        if len(seen) == 20:
            raise SchemaError("does not fit", column="s")
        return batch

    with pytest.raises(SchemaError, match="does not fit"):
        run(tmp_path, deal(event_rows(30_000), 2), spec=spec, align=align)
    assert stored_files(tmp_path) == []
    assert len(seen) <= 22  # the other thread stopped at its next batch


@LAYOUTS
def test_a_full_disk_is_a_storage_error_that_names_the_file(tmp_path: Path, spec: PartitionSpec) -> None:
    with pytest.raises(StorageError, match="No space left") as caught:
        run(tmp_path, deal(event_rows(30_000), 2), spec=spec, io=FailingIO(room=15_000))
    assert str(caught.value.path).startswith(str(tmp_path / "t" / "data"))
    assert isinstance(caught.value.__cause__, OSError)
    assert stored_files(tmp_path) == []


def test_files_that_cannot_be_deleted_are_noted_and_do_not_hide_the_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (stream,) = deal(event_rows(30_000), 1)
    with caplog.at_level(logging.WARNING, "icefusion"), pytest.raises(KeyError) as caught:
        run(tmp_path, [Failing(stream, KeyError("first"), after=20)], io=FailingIO(deletable=False))
    left = stored_files(tmp_path)
    assert left
    for path in left:
        assert any(str(path) in note for note in caught.value.__notes__)
        assert str(path) in caplog.text


def test_a_file_that_was_there_before_is_neither_overwritten_nor_deleted(tmp_path: Path) -> None:
    (first,) = write(event_rows(10), target(tmp_path, EVENTS), write_uuid="same").files
    before = Path(first.file_path).read_bytes()
    with pytest.raises(StorageError, match="exists"):
        write(event_rows(20), target(tmp_path, EVENTS), write_uuid="same")
    assert Path(first.file_path).read_bytes() == before


def test_a_temporary_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="TMPDIR") as caught:
        run(tmp_path, deal(event_rows(30_000), 2), spec=BY_DAY)
    assert "missing" in str(caught.value.path)
    assert stored_files(tmp_path) == []


def test_no_temporary_file_is_left_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    spilled: list[bool] = []

    def progress(rows: int, size_bytes: int) -> None:
        spilled.append(any(temporary.iterdir()))

    (stream,) = deal(event_rows(30_000), 1)
    with pytest.raises(KeyError):
        run(tmp_path, [Failing(stream, KeyError("late"), after=29)], spec=BY_DAY, progress=progress)
    assert any(spilled)
    assert list(temporary.iterdir()) == []


@LAYOUTS
def test_an_interrupt_of_the_waiting_thread_stops_the_others_and_leaves_no_file(
    tmp_path: Path, spec: PartitionSpec
) -> None:
    threads: set[threading.Thread] = set()

    def slowly(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            threads.add(threading.current_thread())
            if number == 20:
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.05 if number > 19 else 0)
            yield batch

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [slowly(stream) for stream in deal(event_rows(200_000), 2)], spec=spec)
    assert time.perf_counter() - started < 3
    assert stored_files(tmp_path) == []
    assert not any(thread.is_alive() for thread in threads)


def _progress_fails(rows: int, size_bytes: int) -> None:
    raise RuntimeError("the bar broke")


@pytest.mark.parametrize("progress", [_progress_fails])
def test_an_error_of_progress_leaves_no_file(tmp_path: Path, progress: Callable[[int, int], None]) -> None:
    with pytest.raises(RuntimeError, match="the bar broke"):
        run(tmp_path, deal(event_rows(30_000), 2), progress=progress)
    assert stored_files(tmp_path) == []


@LAYOUTS
def test_a_place_that_no_store_is_known_for_is_told(tmp_path: Path, spec: PartitionSpec) -> None:
    to = replace(target(tmp_path, EVENTS, spec=spec), location="fyle:///nowhere/t")
    with pytest.raises(StorageError, match=r"fyle:///nowhere/t/.* could not be created: .*fyle"):
        write(event_rows(100), to)
