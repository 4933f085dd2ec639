"""Every type with its hardest values, from icefusion to each other engine and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from interop_cases import TYPES, TypeCase, arrow_table, cases_for
from interop_readers import Reader
from interop_rows import column_by_id, expected_column
from interop_tables import SparkWriter, append_twice, create_with_icefusion, location_of

import icefusion

WRITERS = ("pyiceberg", pytest.param("spark", marks=pytest.mark.spark))
EACH_TYPE = pytest.mark.parametrize("case", TYPES, ids=lambda case: case.name)


@dataclass(frozen=True)
class Written:
    """A table: the rows that went in, and those that came out at the other end."""

    given: pa.Table
    rows: list[Any]

    def check(self, case: TypeCase, engine: str) -> None:
        if engine in case.without:
            pytest.skip(case.without[engine])
        expected = expected_column(self.given, case.name)
        found = column_by_id(self.rows, self.given.schema, case.name)
        if engine in case.nulls_lost:
            expected = {row_id: value for row_id, value in expected.items() if value is not None}
            found = {row_id: value for row_id, value in found.items() if row_id in expected}
        assert found == expected


@pytest.fixture(scope="module")
def read_by_other(session: icefusion.Session, reader: Reader) -> Written:
    cases = cases_for(reader.name)
    table = f"ns.for_{reader.name}"
    create_with_icefusion(session, table, cases)
    given = append_twice(session, table, arrow_table(cases), arrow_table(cases, first_id=100))
    return Written(given, reader.rows(location_of(session, table)))


@EACH_TYPE
def test_another_engine_reads_what_icefusion_wrote(read_by_other: Written, reader: Reader, case: TypeCase) -> None:
    read_by_other.check(case, reader.name)


@EACH_TYPE
def test_icefusion_reads_what_it_wrote(session: icefusion.Session, case: TypeCase) -> None:
    table = f"ns.own_{case.name}"
    create_with_icefusion(session, table, [case])
    given = append_twice(session, table, arrow_table((case,)), arrow_table((case,), first_id=100))
    Written(given, session.sql(f"SELECT * FROM {table}").fetchall()).check(case, "icefusion")


@pytest.fixture(scope="module", params=WRITERS)
def written_by_other(session: icefusion.Session, request: pytest.FixtureRequest) -> tuple[str, Written]:
    writer = f"{request.param}-writer"
    cases = cases_for(request.param, writer)
    given = arrow_table(cases)
    table = f"ns.from_{request.param}"
    if request.param == "spark":
        spark: SparkWriter = request.getfixturevalue("spark_writer")
        spark.create("ice.db.every_type", cases)
        spark.insert("ice.db.every_type", given)
        spark.hand_over("ice.db.every_type", session, table)
    else:
        session.catalog.create_table(table, given.schema).append(given)
    return writer, Written(given, session.sql(f"SELECT * FROM {table}").fetchall())


@EACH_TYPE
def test_icefusion_reads_what_another_engine_wrote(written_by_other: tuple[str, Written], case: TypeCase) -> None:
    writer, written = written_by_other
    if writer.removesuffix("-writer") in case.without:
        pytest.skip(case.without[writer.removesuffix("-writer")])
    written.check(case, writer)
