"""The statements of ``tests/conformance/cases`` on every catalog and store: each case once, its ways taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
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


def test_what_does_not_change_is_copied_as_it_is(any_place: Place) -> None:
    table = f"{any_place.namespace}.big"
    rows = pa.table({"id": range(30_000), "s": [f"text {i * 7919 % 10_007}" for i in range(30_000)]})
    with any_place.connect() as session:
        session.sql(f"CREATE NAMESPACE {any_place.namespace}")
        session.sql(
            f"CREATE TABLE {table} (id BIGINT, s STRING) "
            "TBLPROPERTIES ('write.parquet.row-group-size-bytes' = '400000', 'write.parquet.page-row-limit' = '500')"
        )
        session.writer(table).write_batch(rows)
        session.sql(f"DELETE FROM {table} WHERE id BETWEEN 700 AND 799", write_mode="copy-on-write")
        session.sql(f"UPDATE {table} SET s = 'new' WHERE id = 20000", write_mode="copy-on-write")
        session.sql(f"UPDATE {table} SET s = concat(s, '!') WHERE id % 100 = 3", write_mode="copy-on-write")
        ((path,),) = session.sql(f"SELECT file_path FROM {table}.files").fetchall()
        found = session.sql(
            f"SELECT count(*), sum(id), min(s), count(distinct s) FROM {table} WHERE id > 600"
        ).fetchall()
    loaded = any_place.pyiceberg().load_table(table)
    with loaded.io.new_input(path).open() as stream:
        assert stream.read().count(b"PAR1") > 2, "nothing was carried over"
    theirs = {row["id"]: row["s"] for row in loaded.scan().to_arrow().to_pylist()}
    kept = {row["id"]: row["s"] for row in rows.to_pylist() if not 700 <= row["id"] < 800} | {20_000: "new"}
    kept = {i: f"{s}!" if i % 100 == 3 else s for i, s in kept.items()}
    assert theirs == kept
    later = [(i, s) for i, s in kept.items() if i > 600]
    texts = [s for _, s in later]
    assert found == [(len(later), sum(i for i, _ in later), min(texts), len(set(texts)))]
