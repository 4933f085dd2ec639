"""Spark at work on the catalog of a place: Iceberg's Java library on PostgreSQL, by JDBC, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from places import Place
from sqlalchemy import make_url

INTEROP = Path(__file__).parents[1] / "interop"
DRIVER = Path("/usr/share/java/postgresql.jar")
ANSWER_S = 45.0

# The client of the Spark process lives with the tests that need no server; a run of this folder alone must find it too.
if str(INTEROP) not in sys.path:
    sys.path.append(str(INTEROP))
if TYPE_CHECKING:
    from spark_client import Spark, SparkError, find_spark_python
else:
    _client = importlib.import_module("spark_client")
    Spark, SparkError, find_spark_python = _client.Spark, _client.SparkError, _client.find_spark_python

# What Iceberg's Java library says of a lost race or a failed validation. Nothing has landed then; its word for a commit
# whose outcome it does not know (CommitStateUnknownException) is not among them.
LOST_RACE = ("org.apache.iceberg.exceptions.CommitFailedException", "org.apache.iceberg.exceptions.ValidationException")


def find_spark() -> tuple[Path | None, str]:
    """The Python that has Spark, or None and the reason why Spark cannot use PostgreSQL here."""
    python, reason = find_spark_python()
    if python is not None and not DRIVER.exists():
        return None, f"{DRIVER} is not there; apt-get install libpostgresql-jdbc-java"
    return python, reason


class CatalogSpark(Spark):
    """A Spark process that knows SQL catalogs. One that does not answer in time is killed."""

    def __init__(self, python: Path, folder: Path) -> None:
        # Java looks for database drivers on the class path that it is started with, and this is how Spark is told of
        # it from outside.
        with patch.dict(os.environ, {"SPARK_DIST_CLASSPATH": str(DRIVER)}):
            super().__init__(python, folder)

    def open(self, place: Place) -> None:
        """Let statements name the tables of a place: ``catalog.namespace.table``, with the place's own name."""
        url = make_url(place.properties["uri"])
        settings = {
            "": "org.apache.iceberg.spark.SparkCatalog",
            ".catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            ".uri": f"jdbc:postgresql://{url.host}:{url.port}/{url.database}?user={url.username}&socketTimeout=20",
            ".jdbc.schema-version": "V1",
            ".warehouse": place.properties["warehouse"],
            # A statement that reads files again as it goes must find the table as it was; hence `fresh`.
            ".cache-enabled": "true",
        }
        for key, value in settings.items():
            self.sql(f"SET `spark.sql.catalog.{place.name}{key}`=`{value}`")

    def fresh(self, table: str, text: str) -> list[tuple[Any, ...]]:
        """Run one statement on the newest state of a table."""
        self.sql(f"REFRESH TABLE {table}")
        return self.sql(text)

    def insist(self, table: str, text: str, *, seconds: float = 30.0) -> int:
        """Run a statement on the newest state of a table, again while it loses a race.

        Returns:
            How often it lost.

        Raises:
            SparkError: It failed otherwise, or lost all the time.
        """
        deadline = time.monotonic() + seconds
        lost = 0
        while True:
            try:
                self.fresh(table, text)
            except SparkError as error:
                if time.monotonic() > deadline or not any(word in str(error) for word in LOST_RACE):
                    raise
                lost += 1
            else:
                return lost

    def _answer(self) -> Any:
        with self._killed_when_late():
            return super()._answer()

    @contextlib.contextmanager
    def _killed_when_late(self) -> Iterator[None]:
        """The reader of a killed process sees its end, which is the error of one that has died."""
        timer = threading.Timer(ANSWER_S, self._kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
