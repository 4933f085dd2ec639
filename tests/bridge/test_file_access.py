"""Credentials that end: when they are renewed, and what happens when they are not."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

import icefusion
from icefusion.bridge.file_access import Access, VendedFileIO, access_to


def access(name: str, expires_s: float | None = None, prefix: str = "") -> Access:
    return Access(prefix, PyArrowFileIO({"name": name}), expires_s)


def name_of(io: FileIO, location: str = "s3://b/x") -> str:
    return access_to(io, location).properties["name"]


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Time:
    return Time()


def test_the_longest_prefix_wins() -> None:
    io = VendedFileIO("t", [access("all"), access("wide", prefix="s3://b/"), access("narrow", prefix="s3://b/t/")])
    assert [name_of(io, f"s3://{path}") for path in ("c/x", "b/x", "b/t/x")] == ["all", "wide", "narrow"]
    assert io.properties["name"] == "all"
    assert name_of(PyArrowFileIO({"name": "plain"})) == "plain"


@pytest.mark.parametrize(("lasts_s", "renewed_after_s"), [(3600, 3300), (100, 50)])
def test_they_are_renewed_some_time_before_they_end(clock: Time, lasts_s: float, renewed_after_s: float) -> None:
    given = [[access("second", clock.now_s + 2 * lasts_s)]]
    io = VendedFileIO("t", [access("first", clock.now_s + lasts_s)], given.pop, clock)
    clock.now_s += renewed_after_s - 1
    assert name_of(io) == "first"
    clock.now_s += 1
    assert name_of(io) == "second"
    assert io.properties["name"] == "second"
    assert given == []
    assert name_of(io) == "second"


def test_old_ones_are_used_while_they_last_and_asked_for_again_later(
    clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []

    def renew() -> list[Access]:
        asked.append(clock.now_s)
        if len(asked) < 3:
            raise ConnectionError("the catalog is away")
        return [access("second", clock.now_s + 1000)]

    io = VendedFileIO("cat.ns.t", [access("first", clock.now_s + 600)], renew, clock)
    clock.now_s += 300
    assert [name_of(io), name_of(io)] == ["first", "first"]
    assert len(asked) == 1
    assert "cat.ns.t could not be renewed yet: the catalog is away" in caplog.text
    clock.now_s += 10
    assert name_of(io) == "first"
    clock.now_s += 10
    assert name_of(io) == "second"


def test_once_they_have_ended_that_is_an_error_that_names_the_table(clock: Time) -> None:
    def renew() -> list[Access]:
        raise ConnectionError("the catalog is away")

    io = VendedFileIO("cat.ns.t", [access("first", clock.now_s + 600)], renew, clock)
    clock.now_s += 605
    for _ in range(2):
        with pytest.raises(icefusion.StorageError, match=r"cat\.ns\.t ended 5 s ago.*the catalog is away"):
            io.new_input("s3://b/x")
    nobody = VendedFileIO("cat.ns.t", [access("first", clock.now_s - 1)], None, clock)
    with pytest.raises(icefusion.StorageError, match="ended"):
        nobody.new_output("s3://b/x")


def test_new_ones_that_have_ended_already_are_no_new_ones(clock: Time) -> None:
    io = VendedFileIO("t", [access("first", clock.now_s - 1)], lambda: [access("second", clock.now_s - 1)], clock)
    with pytest.raises(icefusion.StorageError, match="ended"):
        io.delete("s3://b/x")


def test_it_reads_writes_deletes_and_travels(tmp_path: Path) -> None:
    io = VendedFileIO("t", [access("local")])
    travelled = pickle.loads(pickle.dumps(io))
    path = str(tmp_path / "x")
    with travelled.new_output(path).create() as stream:
        stream.write(b"abc")
    with io.new_input(path).open() as stream:
        assert stream.read() == b"abc"
    io.delete(path)
    assert not io.new_input(path).exists()
