"""Engines that read an Iceberg table, given nothing but its metadata file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

import pyarrow as pa
from interop_cases import TypeCase
from pyiceberg.expressions import EqualTo, IsNaN, IsNull
from pyiceberg.table import StaticTable
from spark_client import Spark

__all__ = ["DuckDBReader", "PyIcebergReader", "Reader", "SparkReader", "quoted"]

Row = Sequence[Any]


class Reader(Protocol):
    """One engine."""

    name: str

    def rows(self, location: str) -> list[Row]:
        """All rows of the table that a metadata file describes, in the order of its columns."""
        ...

    def ids_where_each(self, location: str, case: TypeCase, values: Sequence[Any]) -> list[list[int]]:
        """For each value, the ids of the rows whose column equals it, or is NULL; files are pruned by that."""
        ...


class PyIcebergReader:
    """PyIceberg, without any catalog."""

    name = "pyiceberg"

    def rows(self, location: str) -> list[Row]:
        """All rows; see `Reader`."""
        return _tuples(self._table(location).scan().to_arrow())

    def ids_where_each(self, location: str, case: TypeCase, values: Sequence[Any]) -> list[list[int]]:
        """Ids by equality; see `Reader`."""
        return [self._ids_where(location, case, value) for value in values]

    def _ids_where(self, location: str, case: TypeCase, value: Any) -> list[int]:
        if value is None:
            row_filter: Any = IsNull(case.name)
        elif value != value:  # noqa: PLR0124 - NaN is what differs
            row_filter = IsNaN(case.name)
        else:
            row_filter = EqualTo(case.name, value.isoformat() if isinstance(value, dt.datetime | dt.time) else value)
        found = self._table(location).scan(row_filter=row_filter, selected_fields=("id",)).to_arrow()
        return sorted(found["id"].to_pylist())

    def _table(self, location: str) -> StaticTable:
        return StaticTable.from_metadata(location)


class DuckDBReader:
    """DuckDB with its iceberg extension, which is loaded from the wheel and never fetched."""

    name = "duckdb"

    def __init__(self, folder: Path) -> None:
        import duckdb  # noqa: PLC0415 - not everyone has it

        settings = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "extension_directory": str(folder),
        }
        self._connection = duckdb.connect(config=settings)
        self._connection.execute("SET TimeZone = 'UTC'")
        for extension in ("avro", "iceberg"):
            module = __import__(f"duckdb_extension_{extension}")
            path = (
                Path(module.__file__).parent / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"
            )
            self._connection.execute(f"LOAD '{path}'")

    def rows(self, location: str) -> list[Row]:
        """All rows; see `Reader`."""
        return self.query(location, "SELECT * FROM {table}")

    def ids_where_each(self, location: str, case: TypeCase, values: Sequence[Any]) -> list[list[int]]:
        """Ids by equality; see `Reader`."""
        return [self._ids_where(location, case, value) for value in values]

    def _ids_where(self, location: str, case: TypeCase, value: Any) -> list[int]:
        condition = "IS NULL" if value is None else f"= CAST(? AS {duckdb_type(case)})"
        text = f"SELECT id FROM {{table}} WHERE {quoted(case.name)} {condition} ORDER BY id"
        return [row[0] for row in self.query(location, text, [] if value is None else [value])]

    def query(self, location: str, text: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows of a query over ``{table}``."""
        table = f"iceberg_scan('{urlparse(location).path}')"
        return _tuples(self._connection.execute(text.format(table=table), list(parameters)).to_arrow_table())

    def close(self) -> None:
        """Give everything back."""
        self._connection.close()


class SparkReader:
    """Spark with Iceberg's own runtime."""

    name = "spark"

    def __init__(self, spark: Spark) -> None:
        self.spark = spark
        self.rows = cache(self._rows)
        self._known = cache(self._define)

    def _rows(self, location: str) -> list[Row]:
        return self.spark.sql(f"SELECT * FROM {self._known(location)}")

    def rows_of_each(self, locations: Sequence[str]) -> list[list[Row]]:
        """The rows of each of some tables of one schema, in one statement because each costs a third of a second."""
        parts = [f"SELECT {n}, * FROM {self._known(location)}" for n, location in enumerate(locations)]
        found: list[list[Row]] = [[] for _ in locations]
        for number, *row in self.spark.sql(" UNION ALL ".join(parts)):
            found[number].append(row)
        return found

    def ids_where_each(self, location: str, case: TypeCase, values: Sequence[Any]) -> list[list[int]]:
        """Ids by equality, in one statement because each costs Spark a third of a second; see `Reader`."""
        column, view = quoted(case.name, "`"), self._known(location)
        parts = []
        for index, value in enumerate(values):
            condition = "IS NULL" if value is None else f"= {spark_literal(case, value)}"
            parts.append(f"SELECT {index} AS n, id FROM {view} WHERE {column} {condition}")
        found: list[list[int]] = [[] for _ in values]
        for index, row_id in self.spark.sql(" UNION ALL ".join(parts)):
            found[index].append(row_id)
        return [sorted(ids) for ids in found]

    def _define(self, location: str) -> str:
        name = f"t{self._known.cache_info().currsize}"
        self.spark.define_view(name, location)
        return name


def quoted(name: str, mark: str = '"') -> str:
    """A column's name as SQL text."""
    return mark + name.replace(mark, mark * 2) + mark


def duckdb_type(case: TypeCase) -> str:
    """A primitive column's type in DuckDB."""
    return {"string": "varchar", "binary": "blob", "fixed(3)": "blob"}.get(case.sql, case.sql)


def spark_literal(case: TypeCase, value: Any) -> str:
    """A constant in Spark's SQL; instants are in UTC, the session's zone."""
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        return f"CAST(X'{value.encode().hex()}' AS STRING)"
    if isinstance(value, bool):
        return str(value)
    kind = {"uuid": "string", "fixed(3)": "binary"}.get(case.sql, case.spark_sql)
    text = value.replace(tzinfo=None).isoformat(" ") if isinstance(value, dt.datetime) else str(value)
    return f"CAST('{text}' AS {kind})"


def _tuples(table: pa.Table) -> list[Row]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
