"""New values laid over old ones, held against the same done with lists."""

import random

import numpy as np
import pyarrow as pa
import pytest
from writing import EVERY_TYPE, every_type_rows

from icefusion.bridge.schema import iceberg_to_arrow
from icefusion.write.overlay import Overlay

NAMES = [field.name for field in EVERY_TYPE.fields]


def some_rows(rng: random.Random, count: int) -> pa.Table:
    rows = [rng.choice(every_type_rows().to_pylist()) | {"l": rng.randrange(1000)} for _ in range(count)]
    return pa.Table.from_pylist(rows, schema=iceberg_to_arrow(EVERY_TYPE))


def told(values: pa.Array | pa.ChunkedArray) -> list[str]:
    """Values as text, so that NaN equals NaN."""
    return [str(value) for value in values.to_pylist()]


@pytest.mark.parametrize("seed", range(10))
def test_columns_and_rows_of_every_type(seed: int) -> None:
    rng = random.Random(seed)
    # Slices, whose buffers begin elsewhere.
    old, new = some_rows(rng, 330).slice(17, 300), some_rows(rng, 90).slice(5)
    positions = np.array(sorted(rng.sample(range(1000, 1300), len(new))), np.uint32)
    overlay = Overlay(positions, new)
    expected = old.to_pylist()
    for position, row in zip(positions, new.to_pylist(), strict=True):
        expected[position - 1000] = row
    wanted = pa.Table.from_pylist(expected, schema=old.schema)
    for name in NAMES:
        for first, count in ((1000, 300), (1000, 1), (1100, 77), (1299, 1)):
            piece = old.column(name).combine_chunks().slice(first - 1000, count)
            found = overlay.over(name, piece, first)
            found.validate(full=True)
            assert found.type == piece.type
            assert told(found) == told(wanted.column(name).slice(first - 1000, count)), name
    order = rng.sample(range(300), 200)
    (batch,) = old.take(order).combine_chunks().to_batches()
    some = rng.sample(NAMES, 4)
    laid = overlay.select(some).over_rows(batch, np.array(order, np.int64) + 1000)
    for name in NAMES:
        source = wanted if name in some else old
        assert told(laid.column(name)) == told(source.column(name).take(order)), name


def test_rows_come_in_any_order_and_in_several_batches() -> None:
    parts = [
        (np.array([7, 3], np.uint32), pa.record_batch({"x": [70, 30]})),
        (np.array([5], np.uint32), pa.record_batch({"x": [50]})),
    ]
    overlay = Overlay.of(parts)
    assert overlay is not None
    assert overlay.positions.tolist() == [3, 5, 7]
    assert overlay.rows.column("x").to_pylist() == [30, 50, 70]
    assert overlay.over("x", pa.array(range(10)), 0).to_pylist() == [0, 1, 2, 30, 4, 50, 6, 70, 8, 9]
    between = overlay.between(4, 7)
    assert (between.positions.tolist(), between.rows.column("x").to_pylist()) == ([5], [50])
    assert Overlay.of([]) is None


def test_what_nothing_changes_is_passed_on_as_it_is() -> None:
    overlay = Overlay(np.array([50], np.uint32), pa.table({"x": [1]}))
    old = pa.array(range(10))
    assert overlay.over("x", old, 0) is old
    batch = pa.record_batch({"x": old})
    assert overlay.over_rows(batch, np.arange(10)) is batch
    assert overlay.over_rows(batch, np.arange(60, 70)) is batch
