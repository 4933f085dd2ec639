"""A Spark session as a process: statements come in as pickles on standard input, answers go out on standard output.

Runs in a Python of its own that has PySpark and the Iceberg runtime; knows nothing of icefusion. Its catalog ``ice``
keeps tables in folders, with the version numbers of their metadata in the file names, and needs no service and no lock.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

import snowpark_connect_deps_iceberg
from pyspark.sql import SparkSession
from pyspark.sql.types import TimestampType

RUNTIME = "iceberg-spark-runtime-3.5_2.12-1.10.2.jar"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def main() -> None:
    # The JVM inherits standard output, and whatever it says there must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ["TZ"] = "UTC"
    spark = start(Path(sys.argv[1]))
    serve(spark, sys.stdin.buffer, answers)
    spark.stop()


def start(folder: Path) -> Any:
    # PySpark's own way, over the local time, fails at the edge of the year 1 and hands out instants without a zone.
    TimestampType.fromInternal = lambda _, micros: None if micros is None else EPOCH + timedelta(microseconds=micros)
    jar = Path(snowpark_connect_deps_iceberg.__file__).parent / "jars" / RUNTIME
    warehouse = (folder / "warehouse").as_uri()
    settings = {
        "spark.driver.extraClassPath": str(jar),
        "spark.driver.extraJavaOptions": f"-Xss4m -Duser.timezone=UTC -Dderby.system.home={folder}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.local.dir": str(folder / "local"),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": (folder / "hive").as_uri(),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.ice.type": "hadoop",
        "spark.sql.catalog.ice.warehouse": warehouse,
        "spark.sql.catalog.ice.cache-enabled": "false",
        # Dates before 1582 stand in the files of other engines as they are, by the Gregorian calendar.
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    }
    builder = SparkSession.builder.master("local[1]").appName("icefusion-interop")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    spark.sql("CREATE NAMESPACE IF NOT EXISTS ice.db")
    return spark


def serve(spark: Any, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the other side closes its end or asks to stop."""
    pickle.dump(("ok", None), answers)
    answers.flush()
    while True:
        try:
            kind, *arguments = pickle.load(requests)
        except EOFError:
            return
        if kind == "stop":
            return
        try:
            answer = ("ok", HANDLERS[kind](spark, *arguments))
        except Exception as error:  # all of them go to the test that asked
            answer = ("error", f"{type(error).__name__}: {str(error)[:4000]}")
        pickle.dump(answer, answers)
        answers.flush()


def run_sql(spark: Any, text: str) -> list[tuple[Any, ...]]:
    return collected(spark.sql(text))


def metadata_location(spark: Any, table: str) -> str:
    """The metadata file that a catalog points at for a table."""
    catalog, *rest = table.split(".")
    loader = spark._jvm.org.apache.iceberg.spark.Spark3Util
    loaded = loader.loadIcebergTable(spark._jsparkSession, f"{catalog}.{'.'.join(rest)}")
    return loaded.operations().current().metadataFileLocation()


def define_view(spark: Any, name: str, location: str) -> None:
    """A name for an Iceberg table, given its metadata file, or for a Parquet file or folder."""
    kind = "iceberg" if location.endswith(".metadata.json") else "parquet"
    spark.read.format(kind).load(location).createOrReplaceTempView(name)


def collected(frame: Any) -> list[tuple[Any, ...]]:
    return [plain(row) for row in frame.collect()]


def plain(value: Any) -> Any:
    """Rows as tuples, binary as bytes, at any depth."""
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return [(plain(key), plain(item)) for key, item in value.items()]
    return bytes(value) if isinstance(value, bytearray) else value


def adopt(spark: Any, table: str, location: str) -> None:
    """Let the catalog have a table that another engine made, given its metadata file; no file of it is touched."""
    catalog, *rest = table.split(".")
    folder = Path(spark.conf.get(f"spark.sql.catalog.{catalog}.warehouse").removeprefix("file://")).joinpath(*rest)
    (folder / "metadata").mkdir(parents=True)
    shutil.copyfile(urlparse(location).path, folder / "metadata" / "v1.metadata.json")
    (folder / "metadata" / "version-hint.text").write_text("1")


def update_metadata(spark: Any, metadata: str, updates: list[str]) -> tuple[str, list[str]]:
    """What Iceberg's Java library makes of a REST catalog's updates: the metadata after, and what they require."""
    iceberg = spark._jvm.org.apache.iceberg
    base = iceberg.TableMetadataParser.fromJson(metadata)
    parsed = spark._jvm.java.util.ArrayList()
    builder = iceberg.TableMetadata.buildFrom(base)
    for text in updates:
        update = iceberg.MetadataUpdateParser.fromJson(text)
        update.applyTo(builder)
        parsed.add(update)
    required = [
        iceberg.UpdateRequirementParser.toJson(requirement)
        for requirement in iceberg.UpdateRequirements.forUpdateTable(base, parsed)
    ]
    return iceberg.TableMetadataParser.toJson(builder.build()), required


class _Views:
    """A catalog of Iceberg's Java library in memory, asked as a REST server asks it."""

    def __init__(self, spark: Any) -> None:
        self.jvm = spark._jvm
        self.gateway = spark.sparkContext._gateway
        iceberg = self.jvm.org.apache.iceberg
        self.catalog = iceberg.inmemory.InMemoryCatalog()
        self.catalog.initialize("views", self.jvm.java.util.HashMap())

    def namespace(self, levels: list[str]) -> Any:
        array = self.gateway.new_array(self.jvm.java.lang.String, len(levels))
        for place, level in enumerate(levels):
            array[place] = level
        found = self.jvm.org.apache.iceberg.catalog.Namespace.of(array)
        if not self.catalog.namespaceExists(found):
            self.catalog.createNamespace(found)
        return found

    def identifier(self, parts: list[str]) -> Any:
        return self.jvm.org.apache.iceberg.catalog.TableIdentifier.of(self.namespace(parts[:-1]), parts[-1])


_views: dict[str, _Views] = {}


def ask_view(spark: Any, store: str, kind: str, parts: list[str], body: str) -> str:
    """What Iceberg's Java library answers to a REST catalog's request about a view, as JSON.

    Args:
        spark: The session.
        store: The catalog in memory; one that was not asked before is empty.
        kind: What is to be done.
        parts: The view, or what it is to be called.
        body: The request, or the name of another view.
    """
    views = _views.setdefault(store, _Views(spark))
    rest = views.jvm.org.apache.iceberg.rest
    identifier = views.identifier(parts)
    match kind:
        case "load":
            answer = rest.CatalogHandlers.loadView(views.catalog, identifier)
        case "create":
            request = rest.requests.CreateViewRequestParser.fromJson(body)
            answer = rest.CatalogHandlers.createView(views.catalog, identifier.namespace(), request)
        case "commit":
            request = rest.requests.UpdateTableRequestParser.fromJson(body)
            answer = rest.CatalogHandlers.updateView(views.catalog, identifier, request)
        case "drop":
            rest.CatalogHandlers.dropView(views.catalog, identifier)
            return ""
        case "rename":
            views.catalog.renameView(views.identifier(body.split(".")), identifier)
            return ""
        case _:
            raise ValueError(kind)
    return rest.responses.LoadViewResponseParser.toJson(answer)


HANDLERS = {
    "adopt": adopt,
    "ask_view": ask_view,
    "sql": run_sql,
    "metadata_location": metadata_location,
    "define_view": define_view,
    "update_metadata": update_metadata,
}

if __name__ == "__main__":
    main()
