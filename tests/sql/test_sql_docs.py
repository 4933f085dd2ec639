"""The SQL in the documentation is SQL that is read."""

import re
from pathlib import Path

import pytest

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_script

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TYPES = re.findall(r"`([^`]+)`", PAGE.split("**Types**")[1].split("**Transforms**")[0])
TRANSFORMS = re.findall(r"`(\w+\((?:\d+, )?x(?:, \d+)?\))`", PAGE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_a_block_of_sql_parses(block: str) -> None:
    assert parse_script(block)


def test_all_blocks_were_found() -> None:
    assert len(BLOCKS) == PAGE.count("```sql") >= 10


@pytest.mark.parametrize("text", [text for text in TYPES if text != "NOT NULL"])
def test_a_type_on_the_page_parses(text: str) -> None:
    concrete = re.sub(r"\bt\b|\bk\b|\bv\b", "int", text).replace("p, s", "10, 2").replace("(n)", "(8)")
    assert parse_script(f"CREATE TABLE x (c {concrete.replace(', ...', '')})")


@pytest.mark.parametrize("text", TRANSFORMS)
def test_a_transform_on_the_page_parses(text: str) -> None:
    assert parse_script(f"CREATE TABLE t (x int) PARTITIONED BY ({text})")


def test_the_error_on_the_page_is_the_error() -> None:
    shown = PAGE.split("## Errors")[1].split("```\n")[1]
    with pytest.raises(ParseError) as caught:
        parse_script("COMMIT;\nDROP TABLE a.b PRUGE;")
    assert str(caught.value) + "\n" == shown
