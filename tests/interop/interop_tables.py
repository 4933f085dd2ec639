"""Tables made by each of the engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from interop_cases import TypeCase
from spark_client import Spark

import icefusion

__all__ = ["SparkWriter", "append_twice", "create_with_icefusion", "location_of"]


def location_of(session: icefusion.Session, table: str) -> str:
    """The metadata file that the catalog points at."""
    return session.catalog.load_table(table).metadata_location


def create_with_icefusion(
    session: icefusion.Session, table: str, cases: Iterable[TypeCase], transforms: Sequence[str] = ()
) -> None:
    """An empty table with an ``id`` and a column for each case."""
    columns = ", ".join(["id bigint", *(f"{case.name} {case.sql}" for case in cases)])
    partitioning = f" PARTITIONED BY ({', '.join(transforms)})" if transforms else ""
    session.sql(f"CREATE TABLE {table} ({columns}){partitioning}")


def append_twice(session: icefusion.Session, table: str, rows: pa.Table, more_rows: pa.Table) -> pa.Table:
    """Append on both ways in, the writer and INSERT; the rows that the table has then."""
    session.writer(table).write_batches(rows.to_batches(max_chunksize=4))
    session.sql(f"INSERT INTO {table} SELECT * FROM more_rows", more_rows=more_rows)
    return pa.concat_tables([rows, more_rows])


class SparkWriter:
    """Tables in Spark's catalog, and their way into icefusion's."""

    def __init__(self, spark: Spark, folder: Path) -> None:
        self.spark = spark
        self._folder = folder
        self._numbers = count()

    def view(self, rows: pa.Table) -> str:
        """A name in Spark for these rows."""
        name = f"source_{next(self._numbers)}"
        path = self._folder / f"{name}.parquet"
        pq.write_table(rows, path)
        self.spark.define_view(name, str(path))
        return name

    def create(self, table: str, cases: Iterable[TypeCase], transforms: Sequence[str] = (), **properties: str) -> None:
        """An empty table in Spark's catalog, with an ``id`` and a column for each case."""
        columns = ", ".join(["id bigint", *(f"{case.name} {case.spark_sql}" for case in cases)])
        partitioning = f"PARTITIONED BY ({', '.join(transforms)})" if transforms else ""
        # Spread over many partitions, small inserts need no sorting or shuffling first.
        given = {"write.distribution-mode": "none", "write.spark.fanout.enabled": "true", **properties}
        pairs = ", ".join(f"'{key}'='{value}'" for key, value in given.items())
        self.spark.sql(f"CREATE TABLE {table} ({columns}) USING iceberg {partitioning} TBLPROPERTIES ({pairs})")

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows."""
        self.spark.sql(f"INSERT INTO {table} SELECT * FROM {self.view(rows)}")

    def hand_over(self, table: str, session: icefusion.Session, name: str) -> None:
        """Give the present state of Spark's table to icefusion's catalog, in place of what it had under that name."""
        if session.catalog.table_exists(name):
            session.catalog.drop_table(name)
        session.catalog.register_table(name, self.spark.metadata_location(table))
