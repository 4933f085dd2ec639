"""What README.md and docs/cli.md say, tried."""

import re
from pathlib import Path

import click
import pytest

from icefusion.cli.app import commands

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
CLI = (ROOT / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
OPTIONS = sorted(
    {
        (name, option)
        for name, command in commands.commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
)


def section(name: str) -> str:
    """The part of docs/cli.md on one command, with the part on the options that all of them share."""
    parts = re.split(r"^## ", CLI, flags=re.MULTILINE)
    return "".join(part for part in parts if part.startswith((f"`icefusion {name}`", "Which catalog")))


def test_the_readme_has_python_to_run() -> None:
    assert BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_in_the_readme_prints_what_its_comment_says(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[number]
    variables: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), variables)
    variables["session"].close()
    promised = re.findall(r"^# (\[.*\])$", code, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README + CLI))))
def test_links_lead_to_files(link: str) -> None:
    assert (ROOT / link).is_file() or (ROOT / "docs" / link).is_file()


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_is_documented(command: str, option: str) -> None:
    assert re.search(rf"`{option}[ `]", section(command))


def test_nothing_is_documented_that_is_not_there() -> None:
    documented = {
        (name, option)
        for name in commands.commands
        for option in re.findall(r"^\| `(-[^ `]+)", section(name), re.MULTILINE)
    }
    assert documented <= set(OPTIONS) | {("demo", option) for _, option in OPTIONS}
