"""The command line, run in this process, on a warehouse of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import icefusion as ice
from icefusion.cli.app import commands

Run = Callable[..., Result]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands find in their environment."""
    folder = tmp_path / "warehouse"
    monkeypatch.setenv("ICEFUSION_WAREHOUSE", str(folder))
    monkeypatch.delenv("ICEFUSION_CATALOG", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def run(warehouse: Path) -> Run:
    """Run a command; its standard input is what ``text`` says."""

    def invoke(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(commands, arguments, input=text)

    return invoke


@pytest.fixture
def table(run: Run) -> str:
    """A table with two rows."""
    done = run(
        "sql",
        "CREATE NAMESPACE ns; CREATE TABLE ns.t (id int NOT NULL, s string); "
        "INSERT INTO ns.t VALUES (1, 'one'), (2, NULL)",
    )
    assert done.exit_code == 0, done.output
    return "ns.t"


@pytest.fixture
def rows(warehouse: Path) -> Callable[[str], list[tuple]]:
    """What a query gives to somebody else."""

    def query(text: str) -> list[tuple]:
        with ice.connect(warehouse) as session:
            return session.sql(text).fetchall()

    return query
