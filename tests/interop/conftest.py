"""Engines to write for and to read with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from interop_readers import DuckDBReader, PyIcebergReader, Reader, SparkReader
from interop_tables import SparkWriter
from spark_client import Spark, find_spark_python

import icefusion

DUCKDB_MODULES = ("duckdb", "duckdb_extension_iceberg", "duckdb_extension_avro")
READERS = (
    "pyiceberg",
    pytest.param("duckdb", marks=pytest.mark.duckdb),
    pytest.param("spark", marks=pytest.mark.spark),
)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """One Spark process for all tests."""
    python, reason = find_spark_python()
    if python is None:
        pytest.skip(reason)
    engine = Spark(python, tmp_path_factory.mktemp("spark"))
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def duckdb_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBReader]:
    """DuckDB with its iceberg extension."""
    missing = [module for module in DUCKDB_MODULES if find_spec(module) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install icefusion[interop]")
    engine = DuckDBReader(tmp_path_factory.mktemp("duckdb"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def spark_writer(spark: Spark, tmp_path_factory: pytest.TempPathFactory) -> SparkWriter:
    """Spark as a writer of tables."""
    return SparkWriter(spark, tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def spark_reader(spark: Spark) -> SparkReader:
    """Spark as a reader of metadata files."""
    return SparkReader(spark)


@pytest.fixture(scope="session")
def pyiceberg_reader() -> PyIcebergReader:
    """PyIceberg as a reader of metadata files."""
    return PyIcebergReader()


@pytest.fixture(scope="module", params=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    """Each of the other engines in turn."""
    engine: Reader = request.getfixturevalue(f"{request.param}_reader")
    return engine


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[icefusion.Session]:
    """An embedded catalog with a namespace ``ns``, shared by the tests of a file: each makes tables of its own."""
    with icefusion.connect(tmp_path_factory.mktemp("warehouse")) as opened:
        opened.sql("CREATE NAMESPACE ns")
        yield opened
