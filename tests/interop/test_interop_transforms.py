"""Every partition transform on every type: what is asked for by value is found, though files are pruned by partition.

A partition value that two engines compute differently would lose rows here, without any error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from interop_cases import (
    TRANSFORMS,
    TransformCase,
    TypeCase,
    arrow_table,
    case_named,
    left_out,
    values_to_ask_for,
    values_to_write,
)
from interop_readers import Reader
from interop_rows import canonical, expected_column
from interop_tables import SparkWriter, append_twice, create_with_icefusion, location_of
from pyiceberg.table import Table
from pyiceberg.transforms import parse_transform
from spark_client import Spark

import icefusion

WRITERS = ("pyiceberg", pytest.param("spark", marks=pytest.mark.spark))
EACH_TRANSFORM = pytest.mark.parametrize("case", TRANSFORMS, ids=str)


Tables = Callable[[str], tuple[str, pa.Table]]
"""One table for each transform, partitioned by all of its columns at once; made when first asked for."""


def transforms_for(transform: str, *engines: str) -> tuple[TransformCase, ...]:
    """The cases of one transform that all of these engines can have, which make one table together."""
    return tuple(
        case
        for case in TRANSFORMS
        if case.transform == transform and not any(left_out(case, engine) for engine in engines)
    )


def skip_if_left_out(case: TransformCase, *engines: str) -> None:
    for reason in filter(None, (left_out(case, engine) for engine in engines)):
        pytest.skip(reason)


def columns_of(cases: Sequence[TransformCase]) -> tuple[TypeCase, ...]:
    return tuple(values_to_write(case) for case in cases)


def expected_ids(rows: pa.Table, column: TypeCase, values: Sequence[Any]) -> list[list[int]]:
    found = expected_column(rows, column.name)
    wanted = [canonical(value, column.arrow) for value in values]
    return [sorted(row_id for row_id, value in found.items() if value == each) for each in wanted]


@pytest.fixture(scope="module")
def written(session: icefusion.Session, reader: Reader) -> Tables:
    def make(transform: str) -> tuple[str, pa.Table]:
        cases = transforms_for(transform, reader.name)
        table = f"ns.{transform}_for_{reader.name}"
        create_with_icefusion(session, table, columns_of(cases), [case.sql for case in cases])
        rows = arrow_table(columns_of(cases)), arrow_table(columns_of(cases), first_id=100)
        given = append_twice(session, table, *rows)
        return location_of(session, table), given

    return cache(make)


@EACH_TRANSFORM
def test_another_engine_finds_each_value_in_partitions_that_icefusion_wrote(
    written: Tables, reader: Reader, case: TransformCase
) -> None:
    skip_if_left_out(case, reader.name)
    location, given = written(case.transform)
    column = case_named(case.column)
    values = values_to_ask_for(case, reader.name)
    if reader.name == "spark":  # whose statements are slow; it recomputes all of the partition values below
        values = [None, *values[2::4]]
    assert reader.ids_where_each(location, column, values) == expected_ids(given, column, values)


@EACH_TRANSFORM
def test_icefusion_finds_each_value_in_partitions_that_it_wrote(
    session: icefusion.Session, case: TransformCase
) -> None:
    column = values_to_write(case)
    table = f"ns.own_{case.transform}_{column.name}"
    create_with_icefusion(session, table, [column], [case.sql])
    given = append_twice(session, table, arrow_table((column,)), arrow_table((column,), first_id=100))
    values = values_to_ask_for(case, "icefusion")
    assert ids_where_each(session, table, column, values) == expected_ids(given, column, values)


@pytest.mark.spark
@pytest.mark.parametrize("transform", ["identity", "bucket", "truncate", "year", "month", "day", "hour"])
def test_java_computes_the_partition_values_that_icefusion_wrote(
    session: icefusion.Session, spark: Spark, transform: str
) -> None:
    # Spark shows a uuid as a string, whose bucket is another.
    cases = [case for case in transforms_for(transform, "spark") if case.sql != "bucket(5, c_uuid)"]
    table = f"{transform}_checked_by_java"
    create_with_icefusion(session, f"ns.{table}", columns_of(cases), [case.sql for case in cases])
    session.writer(f"ns.{table}").write_batch(arrow_table(columns_of(cases)).to_batches()[0])
    spark.adopt(f"ice.db.{table}", location_of(session, f"ns.{table}"))
    expressions = [java_function(case) for case in cases]
    rows = spark.sql(f"SELECT _partition, struct({', '.join(expressions)}) FROM ice.db.{table}")
    assert len(rows) == len(arrow_table(columns_of(cases)))
    for written_values, java_values in rows:
        assert list(map(repr, written_values)) == list(map(repr, java_values))


def java_function(case: TransformCase) -> str:
    if case.transform == "identity":
        return case.column
    return f"ice.system.{case.sql if case.argument else f'{case.transform}s({case.column})'}"


@pytest.fixture(scope="module", params=WRITERS)
def writer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def written_elsewhere(session: icefusion.Session, writer: str, request: pytest.FixtureRequest) -> Tables:
    def make(transform: str) -> tuple[str, pa.Table]:
        cases = transforms_for(transform, writer, f"{writer}-writer")
        given = arrow_table(columns_of(cases))
        table = f"ns.{transform}_from_{writer}"
        if writer == "pyiceberg":
            partitioned_by_pyiceberg(session, table, given.schema, cases).append(given)
        else:
            spark: SparkWriter = request.getfixturevalue("spark_writer")
            name = f"ice.db.{transform}"
            spark.create(name, columns_of(cases), [case.sql for case in cases])
            spark.insert(name, given)
            spark.hand_over(name, session, table)
        return table, given

    return cache(make)


def partitioned_by_pyiceberg(
    session: icefusion.Session, table: str, schema: pa.Schema, cases: Sequence[TransformCase]
) -> Table:
    created = session.catalog.create_table(table, schema)
    with created.update_spec() as update:
        for case in cases:
            text = case.transform if case.argument is None else f"{case.transform}[{case.argument}]"
            update.add_field(case.column, parse_transform(text), f"{case.column}_key")
    return created


@EACH_TRANSFORM
def test_icefusion_finds_each_value_in_partitions_that_another_engine_wrote(
    session: icefusion.Session, written_elsewhere: Tables, writer: str, case: TransformCase
) -> None:
    skip_if_left_out(case, writer, f"{writer}-writer")
    table, given = written_elsewhere(case.transform)
    column = case_named(case.column)
    values = values_to_ask_for(case, "icefusion")
    assert ids_where_each(session, table, column, values) == expected_ids(given, column, values)


def ids_where_each(session: icefusion.Session, table: str, column: TypeCase, values: Sequence[Any]) -> list[list[int]]:
    found = []
    for value in values:
        text = f"SELECT id FROM {table} WHERE {column.name} {'IS NULL' if value is None else '= ?'} ORDER BY id"
        result = session.sql(text, None if value is None else [value])
        found.append([row_id for (row_id,) in result.fetchall()])
    return found
