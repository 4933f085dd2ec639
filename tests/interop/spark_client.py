"""The tests' side of the Spark process: started at first use, stopped with the test session."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["Spark", "SparkError", "find_spark_python"]

REPOSITORY = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("spark_worker.py")
STOP_SECONDS = 10


class SparkError(Exception):
    """Spark refused a statement."""


def find_spark_python() -> tuple[Path | None, str]:
    """The Python that has PySpark and the Iceberg runtime, or None and the reason why there is none."""
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return None, "Java is not installed"
    given = os.environ.get("ICEFUSION_SPARK_PYTHON")
    python = Path(given) if given else REPOSITORY / ".cache" / "spark-venv" / "bin" / "python"
    if not python.exists():
        return None, f"{python} is not there; ICEFUSION_SPARK_PYTHON names a Python with PySpark and Iceberg's runtime"
    return python, ""


class Spark:
    """One Spark session in a process of its own. Nothing is shared with it but files."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "spark.log"
        environment = {**os.environ, "TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}
        for name in ("SPARK_HOME", "PYTHONPATH", "PYSPARK_PYTHON", "SPARK_CONF_DIR"):
            environment.pop(name, None)
        with self.log.open("wb") as log:
            # A group of its own, so that the JVM below it goes too, whatever happens to the Python between.
            self._process = subprocess.Popen(
                [str(python), str(WORKER), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        try:
            self._answer()
        except BaseException:
            self.stop()
            raise

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Run one statement; its rows as tuples of plain Python values, maps as lists of pairs."""
        return self._ask("sql", text)

    def script(self, *statements: str) -> None:
        """Run statements in order."""
        for statement in statements:
            self.sql(statement)

    def metadata_location(self, table: str) -> str:
        """The current metadata file of a table in one of Spark's catalogs, as a URI."""
        location: str = self._ask("metadata_location", table)
        return location

    def adopt(self, table: str, location: str) -> None:
        """Put a table of another engine, given its metadata file, into Spark's catalog under a new name."""
        self._ask("adopt", table, location)

    def update_metadata(self, metadata: str, updates: list[str]) -> tuple[str, list[str]]:
        """What Iceberg's Java library makes of updates as a REST catalog gets them: the metadata, and requirements."""
        answer: tuple[str, list[str]] = self._ask("update_metadata", metadata, updates)
        return answer

    def ask_view(self, store: str, kind: str, parts: list[str], body: str = "") -> str:
        """What Iceberg's Java library answers to a REST catalog's request about a view, as JSON."""
        answer: str = self._ask("ask_view", store, kind, parts, body)
        return answer

    def define_view(self, name: str, location: str) -> None:
        """Name an Iceberg metadata file, or a Parquet file, for later statements."""
        self._ask("define_view", name, location)

    def rows(self, location: str, *columns: str) -> list[tuple[Any, ...]]:
        """Rows of the Iceberg table that a metadata file describes."""
        self.define_view("_rows", location)
        return self.sql(f"SELECT {', '.join(columns) or '*'} FROM _rows")

    def stop(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            pickle.dump(("stop",), self._process.stdin)
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SparkError(f"Spark has died: {self._tail()}") from None
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            status, answer = pickle.load(self._process.stdout)
        except EOFError:
            raise SparkError(f"Spark has died: {self._tail()}") from None
        if status == "error":
            raise SparkError(answer)
        return answer

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]
