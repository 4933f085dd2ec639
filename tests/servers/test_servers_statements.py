"""The statements of ``tests/conformance/cases`` on every catalog and store: each case once, its ways taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conformance_runner import run_file_once
from places import Place

from icefusion import Session

FILES = sorted((Path(__file__).parents[1] / "conformance" / "cases").glob("*.slt"))
TURNS = {"postgres": 0, "mariadb": 3, "seaweedfs": 1}
# SeaweedFS takes no names with capitals, and does not find metadata files that it has not written itself.
LIMITS = {"seaweedfs": r"BadRequestException: .*(name must start with a letter or digit|Cannot read metadata at)"}


class PlaceWarehouse:
    """A place to run statements in. What they commit is read by one other session, which must not be stale."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        self._place = place
        self._reader = stack.enter_context(place.connect())

    def connect(self) -> Session:
        return self._place.connect()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        yield self._reader

    def files(self) -> frozenset[str]:
        return self._place.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statements(path: Path, other_places: list[Place]) -> None:
    kind, blocks = other_places[0].kind, other_places[0].commits_many
    with ExitStack() as stack:
        warehouses = [PlaceWarehouse(place, stack) for place in other_places]
        failures = run_file_once(path, warehouses, turn=TURNS[kind], kind=kind, blocks=blocks, limits=LIMITS.get(kind))
    assert not failures, "\n\n".join(failures)
