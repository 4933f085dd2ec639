"""Which queries mean the same to Spark, and what becomes of a text of Spark's."""

import pytest

from icefusion.sql.dialects import from_spark, is_plain
from icefusion.sql.parser import parse_query


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM ns.t",
        "SELECT t.id, name AS n FROM prod.ns.t AS t WHERE t.id >= 10 AND NOT (name LIKE 'a%' OR name IS NULL)",
        "WITH a AS (SELECT id FROM ns.t) SELECT count(*), sum(a.id * 2 - 1) FROM a GROUP BY id HAVING max(id) > 3",
        "SELECT id FROM ns.t LEFT JOIN ns.u USING (id) UNION ALL SELECT DISTINCT id FROM ns.w LIMIT 5",
        "SELECT CASE WHEN id IN (1, 2) THEN 'x' ELSE coalesce(name, '') END AS c FROM ns.t -- why",
        "SELECT CAST(id AS double) AS d, DATE '2024-01-01' AS day FROM ns.t WHERE EXISTS (SELECT 1 FROM ns.u)",
        "SELECT t.order FROM ns.t",
    ],
)
def test_plain_queries(text: str) -> None:
    assert is_plain(parse_query(text), text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id / 2 FROM ns.t",
        'SELECT "id" FROM ns.t',
        "SELECT `id` FROM ns.t",
        "SELECT 1.5 FROM ns.t",
        "SELECT 'it''s' FROM ns.t",
        r"SELECT 'a\b' FROM ns.t",
        "SELECT id FROM ns.t ORDER BY id",
        "SELECT sum(id) OVER () FROM ns.t",
        "SELECT concat(name, 'x') FROM ns.t",
        "SELECT id::int FROM ns.t",
        "SELECT CAST(id AS timestamp) FROM ns.t",
        "SELECT CAST(id AS decimal(9, 2)) FROM ns.t",
        "SELECT TIMESTAMP '2024-01-01 00:00:00' FROM ns.t",
        "SELECT id FROM ns.t FOR VERSION AS OF 7",
        "SELECT * FROM read_parquet('x')",
        "SELECT id FROM ns.t WHERE name ILIKE 'a'",
        "SELECT DISTINCT ON (id) id FROM ns.t",
        "SELECT xs[1] FROM ns.t",
        "SELECT $$x$$ FROM ns.t",
        "VALUES (1)",
        "SELECT now()",
        "SELECT current_date",
    ],
)
def test_queries_that_are_not(text: str) -> None:
    assert not is_plain(parse_query(text), text)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("SELECT `a`, `B c`, `select`, `x``y` FROM `ns`.`t`", 'SELECT a, "B c", "select", "x`y" FROM ns.t'),
        (r"""SELECT "it's", 'a\'b\n', r'\d', "q\"q" """, "SELECT 'it''s', 'a''b\n', '\\d', 'q\"q' "),
        ("SELECT 'a' \n 'b'", "SELECT 'ab'"),
        (r"SELECT x LIKE 'a\_b\\c\u0041'", r"SELECT x LIKE 'a\_b\cA'"),
        ("SELECT 1L, 2.5BD, 3.0D, x1L", "SELECT CAST(1 AS BIGINT), 2.5, CAST(3.0 AS DOUBLE), x1L"),
        ("a == b AND c <=> d", "a = b AND c  IS NOT DISTINCT FROM  d"),
        ("a / b -- 'c' / d", "a / CAST(1 AS DOUBLE) / b -- 'c' / d"),
        ('/* "x" */ a', '/* "x" */ a'),
    ],
)
def test_what_becomes_of_a_text_of_sparks(text: str, ours: str) -> None:
    assert from_spark(text) == ours
