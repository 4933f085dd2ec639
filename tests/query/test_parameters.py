import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from query_helpers import run

from icefusion.errors import BindError
from icefusion.query.engine import Engine
from icefusion.query.parameters import bind_parameters
from icefusion.sql.statements import Query

NAIVE = dt.datetime(2020, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("value", "arrow_type", "expected"),
    [
        (5, pa.int64(), 5),
        (2**70, pa.decimal128(38, 0), Decimal(2**70)),
        (1.5, pa.float64(), 1.5),
        ("it's", pa.string(), "it's"),
        (b"\x00\xff", pa.binary(), b"\x00\xff"),
        (True, pa.bool_(), True),
        (None, pa.null(), None),
        (Decimal("12.340"), pa.decimal128(5, 3), Decimal("12.340")),
        (Decimal("0.001"), pa.decimal128(3, 3), Decimal("0.001")),
        (Decimal("1E+3"), pa.decimal128(38, 0), Decimal(1000)),
        (dt.date(2020, 1, 2), pa.date32(), dt.date(2020, 1, 2)),
        (NAIVE, pa.timestamp("us"), NAIVE),
        (
            NAIVE.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
            pa.timestamp("us", tz="UTC"),
            NAIVE.replace(tzinfo=dt.UTC) - dt.timedelta(hours=2),
        ),
        (dt.time(1, 2, 3, 4), pa.time64("us"), dt.time(1, 2, 3, 4)),
        (uuid.UUID(int=5), pa.binary(16), uuid.UUID(int=5).bytes),
        (np.int32(7), pa.int64(), 7),
        (np.float32(0.5), pa.float64(), 0.5),
        (np.bool_(True), pa.bool_(), True),
        (np.str_("x"), pa.string(), "x"),
        ([1, 2, None], pa.list_(pa.int64()), [1, 2, None]),
        (("a",), pa.list_(pa.string()), ["a"]),
        (np.array([1, 2]), pa.list_(pa.int64()), [1, 2]),
        (pa.scalar(5, pa.int8()), pa.int8(), 5),
    ],
)
def test_a_value_is_bound_with_its_type(engine: Engine, value: Any, arrow_type: pa.DataType, expected: Any) -> None:
    scalar = bind_parameters(Query("SELECT $v", parameters=("v",)), {"v": value})["v"]
    assert scalar.type == arrow_type
    assert run(engine, "SELECT $v AS v", params={"v": value}).column("v").to_pylist() == [expected]


@pytest.mark.parametrize("value", [object(), {"a": 1}, Decimal("NaN"), 10**40, [object()], dt.time(1, tzinfo=dt.UTC)])
def test_a_value_without_a_type_is_refused_by_name(value: Any) -> None:
    with pytest.raises(BindError, match=r"\$when"):
        bind_parameters(Query("SELECT $when", parameters=("when",)), {"when": value})


def test_a_bound_text_is_never_read_as_sql(engine: Engine) -> None:
    evil = "x' OR '1'='1"
    table = pa.table({"s": ["a", evil]})
    assert run(engine, "SELECT s FROM t WHERE s = $s", {"t": table}, {"s": evil}).to_pylist() == [{"s": evil}]


def test_a_bound_null_is_unknown_in_a_comparison(engine: Engine) -> None:
    table = pa.table({"a": [1, None]})
    assert run(engine, "SELECT a FROM t WHERE a = $v", {"t": table}, {"v": None}).num_rows == 0
    assert run(engine, "SELECT a FROM t WHERE a IS NOT DISTINCT FROM $v", {"t": table}, {"v": None}).num_rows == 1
    assert run(engine, "SELECT coalesce($v, 5) AS x", params={"v": None}).to_pylist() == [{"x": 5}]


def test_positions_count_from_one(engine: Engine) -> None:
    query = Query("SELECT $2 - $1 AS d", parameters=("2", "1"))
    values = bind_parameters(query, [10, 30])
    assert pa.Table.from_batches(engine.plan(query, [], values).stream()).to_pylist() == [{"d": 20}]


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        (("1", "2"), [1], r"no value for parameter \$2"),
        (("1",), [1, 2], r"no parameter \$2"),
        ((), [1], "it has none"),
        (("id", "day"), {"id": 1}, r"no value for parameter \$day"),
        (("id",), {"idd": 1}, r"did you mean \$id by 'idd'"),
        (("id",), {"id": 1, "x": 2}, r"no parameter \$x; it has \$id"),
        (("id",), None, r"no value for parameter \$id"),
        (("1",), "text", "came as str"),
    ],
)
def test_values_and_parameters_must_match(asked: tuple[str, ...], given: Any, message: str) -> None:
    with pytest.raises(BindError, match=message):
        bind_parameters(Query("", parameters=asked), given)
