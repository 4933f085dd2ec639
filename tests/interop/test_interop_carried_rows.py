"""Files most of which was copied as it was are files like any others, to every reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from interop_cases import TYPES, TypeCase, arrow_table, case_named, cases_for
from interop_readers import Reader, SparkReader
from interop_rows import canonical_rows, column_by_id, expected_column, rows_of
from interop_tables import SparkWriter, create_with_icefusion, location_of

import icefusion

COUNT = 1500


def rows(case: TypeCase) -> pa.Table:
    """Each value in a run of rows, so that pages differ, and NULL here and there. With NaN nothing would be copied."""
    column = arrow_table((case,))[case.name]
    chosen = [i for i, value in enumerate(column.to_pylist()[:-1]) if "nan" not in repr(value)]
    each = -(-COUNT // len(chosen))
    spread = [None if i % 41 == 0 else chosen[i // each] for i in range(COUNT)]
    return pa.table({"id": range(COUNT), case.name: column.take(pa.array(spread, pa.int32()))})


@pytest.fixture(scope="module")
def changed(session: icefusion.Session) -> dict[str, tuple[str, pa.Table]]:
    """For each type, a table of one file that was written anew three times, and its rows."""
    done = {}
    for case in TYPES:
        table = f"ns.carried_{case.name}"
        create_with_icefusion(session, table, [case])
        session.sql(
            f"ALTER TABLE {table} SET TBLPROPERTIES ('write.parquet.page-row-limit' = '50', "
            "'write.parquet.row-group-size-bytes' = '4000', 'write.parquet.row-group-limit' = '600')"
        )
        given = rows(case)
        session.writer(table).write_batch(given)
        session.sql(f"DELETE FROM {table} WHERE id BETWEEN 310 AND 390", write_mode="copy-on-write")
        session.sql(f"UPDATE {table} SET id = id + 10000 WHERE id IN (7, 1200)", write_mode="copy-on-write")
        session.sql(
            f"UPDATE {table} AS t SET {case.name} = o.{case.name} "
            f"FROM (SELECT id - 600 AS id, {case.name} FROM {table}) AS o WHERE t.id = o.id AND t.id % 53 = 5",
            write_mode="copy-on-write",
        )
        ((path,),) = session.sql(f"SELECT file_path FROM {table}.files").fetchall()
        assert Path(path.removeprefix("file://")).read_bytes().count(b"PAR1") > 2, "nothing was carried over"
        sources = [i + 600 if i % 53 == 5 and i + 600 < COUNT and i != 600 else i for i in range(COUNT)]
        given = given.set_column(1, given.field(1), given.column(1).take(pa.array(sources)))
        left = given.filter(pc.or_(pc.less(given["id"], 310), pc.greater(given["id"], 390)))
        ids = [i + 10_000 if i in (7, 1200) else i for i in left["id"].to_pylist()]
        done[case.name] = location_of(session, table), left.set_column(0, "id", pa.array(ids))
    return done


@pytest.mark.parametrize("case", TYPES, ids=lambda case: case.name)
def test_other_engines_read_every_type(changed: Any, reader: Reader, case: TypeCase) -> None:
    if case not in cases_for(reader.name):
        pytest.skip(case.without.get(reader.name, "not for this engine"))
    location, expected = changed[case.name]
    found = column_by_id(reader.rows(location), expected.schema, case.name)
    wanted = expected_column(expected, case.name)
    if reader.name in case.nulls_lost:
        wanted = {key: value for key, value in wanted.items() if key % 41}
        found = {key: value for key, value in found.items() if key in wanted}
    assert found == wanted


BY_VALUE = ("c_int", "c_bigint", "c_decimal_18", "c_decimal_38", "c_date", "c_timestamp", "c_string")


@pytest.mark.parametrize("name", BY_VALUE)
def test_other_engines_find_rows_by_what_is_said_of_pages(changed: Any, reader: Reader, name: str) -> None:
    location, expected = changed[name]
    case = case_named(name)
    asked = [None, *case.values]
    known = list(zip(*(column.to_pylist() for column in expected.columns), strict=True))
    wanted = [sorted(i for i, found in known if found == value) for value in asked]
    assert all(wanted)
    assert reader.ids_where_each(location, case, asked) == wanted


@pytest.mark.spark
def test_row_groups_of_spark_are_carried_over(
    spark_writer: SparkWriter, spark_reader: SparkReader, session: icefusion.Session
) -> None:
    cases = [case_named(name) for name in ("c_int", "c_decimal_38", "c_timestamptz", "c_string", "n_texts")]
    columns = [rows(case)[case.name] for case in cases]
    given = pa.table([pa.array(range(COUNT)), *columns], names=["id", *(case.name for case in cases)])
    properties = {
        "write.parquet.row-group-size-bytes": "16384",
        "write.parquet.row-group-check-min-record-count": "100",
        "write.parquet.row-group-check-max-record-count": "100",
    }
    spark_writer.create("ice.db.carried", cases, **properties)
    spark_writer.insert("ice.db.carried", given)
    spark_writer.hand_over("ice.db.carried", session, "ns.carried_from_spark")
    ((path,),) = session.sql("SELECT file_path FROM ns.carried_from_spark.files").fetchall()
    groups = pq.read_metadata(path.removeprefix("file:")).num_row_groups
    session.sql("DELETE FROM ns.carried_from_spark WHERE id BETWEEN 310 AND 390", write_mode="copy-on-write")
    session.sql("UPDATE ns.carried_from_spark SET c_int = NULL WHERE id % 50 = 7", write_mode="copy-on-write")
    ((path,),) = session.sql("SELECT file_path FROM ns.carried_from_spark.files").fetchall()
    assert groups > 3
    assert Path(path.removeprefix("file:")).read_bytes().count(b"PAR1") > 2, "nothing was carried over"
    left = given.filter(pc.or_(pc.less(given["id"], 310), pc.greater(given["id"], 390)))
    numbers = [
        None if i % 50 == 7 else number
        for i, number in zip(*(left[c].to_pylist() for c in ("id", "c_int")), strict=True)
    ]
    left = left.set_column(1, left.field(1), pa.array(numbers, left.field(1).type))
    found = spark_reader.rows(location_of(session, "ns.carried_from_spark"))
    assert canonical_rows(found, left.schema) == rows_of(left)
    assert session.sql("SELECT * FROM ns.carried_from_spark ORDER BY id").to_arrow().cast(left.schema).equals(left)
