"""Columns of the same text get names that DataFusion can tell apart; everything else stays as it was written."""

import datafusion
import pytest

from icefusion.sql.duplicates import name_duplicates
from icefusion.sql.parser import parse_query

CONTEXT = datafusion.SessionContext()
CONTEXT.from_pydict({"a": [1], "b": [2]}, name="t")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT a, a FROM t", ["a", "a_1"]),
        ("SELECT a, b, a, a FROM t", ["a", "b", "a_1", "a_2"]),
        ("SELECT t.a, t.a FROM t", ["a", "a_1"]),
        ("SELECT 0, 0", ["Int64(0)", "0_1"]),
        ("SELECT DISTINCT a, a FROM t", ["a", "a_1"]),
        ("SELECT a + 1, a  +  1 FROM t", None),
        ("SELECT max(a), max(a) FROM t", ["max(t.a)", "max(a)_1"]),
        ("SELECT * FROM (SELECT a, a FROM t) s", ["a", "a_1"]),
        ("SELECT 1, 1 UNION ALL SELECT 2, 2", ["Int64(1)", "1_1"]),
        ("WITH c AS (SELECT NULL, NULL) SELECT * FROM c", None),
        ('SELECT "a", "a" FROM t', ["a", "a_1"]),
        ("SELECT CASE WHEN a > 0 THEN 1 END, CASE WHEN a > 0 THEN 1 END FROM t", None),
        ("SELECT a::int, a::int FROM t", None),
        ("SELECT a, CAST(a AS int) FROM t", ["a", "CAST(a AS int)_1"]),
        ("SELECT a, a::varchar, TRY_CAST(a AS int) FROM t", None),
    ],
)
def test_repeated_columns_get_names(text: str, names: list[str] | None) -> None:
    with pytest.raises(Exception, match="unique expression names"):
        CONTEXT.sql(text).collect()
    result = CONTEXT.sql(name_duplicates(parse_query(text)).text)
    assert len(result.collect()[0].schema) == len(result.schema())
    if names is not None:
        assert result.schema().names == names


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a, b FROM t",
        "SELECT a AS x, a AS y FROM t",
        "SELECT a x, a y FROM t",
        "SELECT a, (SELECT a) FROM t",
        "SELECT f(a, a), count(*) FROM t GROUP BY a, a",
        "SELECT a IN (1, 1), [1, 1] FROM t",
        "VALUES (1, 1), (1, 1)",
    ],
)
def test_everything_else_stays(text: str) -> None:
    query = parse_query(text)
    assert name_duplicates(query) == query
