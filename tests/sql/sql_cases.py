"""Queries with the tables they read, shared by the tests of the scanner, of the rewriting and of the engine."""

from icefusion.sql.parser import parse_script
from icefusion.sql.statements import Query

# Query -> the tables it reads. Columns are a, b (int), s (string), ts (timestamp) in every table.
READS: dict[str, list[str]] = {
    "SELECT 1": [],
    "SELECT a FROM t": ["t"],
    "select a from ns.t": ["ns.t"],
    'SELECT a FROM cat."My Ns".`T`': ['cat."My Ns"."T"'],
    "SELECT x.a FROM t AS x, u y, v": ["t", "u", "v"],
    "SELECT t.a FROM t JOIN u ON t.a = u.a": ["t", "u"],
    "SELECT t.s FROM t LEFT OUTER JOIN u USING (a) CROSS JOIN v CROSS JOIN w NATURAL JOIN (SELECT 1 AS q) z": [
        "t",
        "u",
        "v",
        "w",
    ],
    "SELECT t.a FROM t LEFT SEMI JOIN u ON t.a = u.a LEFT ANTI JOIN v ON t.a = v.a": ["t", "u", "v"],
    "SELECT t.a FROM t FULL JOIN (u JOIN v ON u.a = v.a) ON t.a = u.a": ["t", "u", "v"],
    "SELECT * FROM (t)": ["t"],
    "SELECT * FROM ((t CROSS JOIN u))": ["t", "u"],
    "SELECT * FROM (SELECT a FROM t) x": ["t"],
    "SELECT * FROM ((SELECT a FROM t) UNION (SELECT a FROM u)) x": ["t", "u"],
    "SELECT * FROM t x, (SELECT a FROM u) y, v": ["t", "u", "v"],
    "SELECT * FROM t x JOIN LATERAL (SELECT u.a FROM u WHERE u.a = x.a) y ON true": ["t", "u"],
    "SELECT a FROM t WHERE a IN (SELECT a FROM u) AND EXISTS (SELECT 1 FROM v WHERE v.a = t.a)": ["t", "u", "v"],
    "SELECT a, (SELECT max(a) FROM u) FROM t": ["u", "t"],
    "SELECT a FROM t WHERE a = (SELECT max(a) FROM (SELECT a FROM u) z)": ["t", "u"],
    "SELECT a FROM t UNION ALL SELECT a FROM u INTERSECT SELECT a FROM v EXCEPT SELECT a FROM w": ["t", "u", "v", "w"],
    "(SELECT a FROM t) UNION (SELECT a FROM u) ORDER BY a": ["t", "u"],
    "SELECT a FROM t UNION BY NAME SELECT a FROM u": ["t", "u"],
    "WITH x AS (SELECT a FROM t) SELECT * FROM x": ["t"],
    "WITH x AS (SELECT a FROM t), y AS (SELECT u.a FROM x, u) SELECT * FROM X, y": ["t", "u"],
    "WITH x(p) AS (SELECT a FROM t) SELECT p FROM x JOIN u ON p = u.a": ["t", "u"],
    "WITH t AS (SELECT a FROM t) SELECT * FROM t": ["t"],
    'WITH "X" AS (SELECT a FROM t) SELECT * FROM x': ["t", "x"],
    "WITH x AS (SELECT a FROM t) SELECT * FROM ns.x": ["t", "ns.x"],
    "WITH RECURSIVE r AS (SELECT a FROM t UNION ALL SELECT a + 1 FROM r WHERE a < 9) SELECT * FROM r": ["t"],
    "SELECT * FROM (WITH x AS (SELECT a FROM t) SELECT a FROM x) z, x": ["t", "x"],
    "WITH x AS (WITH y AS (SELECT a FROM t) SELECT a FROM y) SELECT * FROM x, y": ["t", "y"],
    "WITH x AS (SELECT a FROM t) SELECT a FROM u WHERE a IN (SELECT a FROM x)": ["t", "u"],
    "WITH x AS (VALUES (1), (2)) SELECT * FROM x, t": ["t"],
    "WITH x AS (FROM t SELECT a) (SELECT a FROM x UNION ALL SELECT a FROM u)": ["t", "u"],
    "SELECT EXTRACT(year FROM ts) FROM t": ["t"],
    "SELECT SUBSTRING(s FROM 2 FOR a), TRIM(BOTH 'x' FROM s), OVERLAY(s PLACING 'x' FROM 2) FROM t": ["t"],
    "SELECT extract(day FROM (SELECT max(ts) FROM u)) FROM t": ["u", "t"],
    "SELECT a FROM t WHERE a IS DISTINCT FROM b AND b IS NOT DISTINCT FROM a": ["t"],
    "SELECT a IS DISTINCT FROM b FROM t": ["t"],
    "SELECT * FROM generate_series(1, 3), t": ["t"],
    "SELECT * FROM t, UNNEST([1, 2]) AS x, u": ["t", "u"],
    "SELECT * FROM (VALUES (1, 2), (3, 4)) AS v(p, q), t": ["t"],
    "SELECT * FROM VALUES (1), (2)": [],
    "VALUES (1, 'a'), ((SELECT max(a) FROM t), 'b')": ["t"],
    "TABLE ns.t": ["ns.t"],
    "SELECT * FROM (TABLE t) UNION ALL (TABLE u)": ["t", "u"],
    "FROM t": ["t"],
    "FROM t SELECT a": ["t"],
    "SELECT a FROM t WHERE a IN (FROM u SELECT a)": ["t", "u"],
    "SELECT t.a FROM t |> JOIN u ON t.a = u.a": ["t", "u"],
    "SELECT a AS \"from\", s AS 'u' FROM t": ["t"],
    "SELECT 'FROM x', \"a\", $$ FROM y $$ /* FROM z */ FROM t -- , v": ["t"],
    "SELECT * EXCEPT (a), b AS c FROM t": ["t"],
    "SELECT * EXCLUDE (a) FROM t": ["t"],
    "SELECT a FROM t AS x WHERE x.b > 1 GROUP BY a, b HAVING count(*) > 0 ORDER BY a, b LIMIT 1 OFFSET 2": ["t"],
    "SELECT a FROM t WINDOW w AS (PARTITION BY a ORDER BY b), z AS (ORDER BY a)": ["t"],
    "SELECT string_agg(s, ',' ORDER BY s), count(DISTINCT a) FILTER (WHERE a > 1) FROM t": ["t"],
    "SELECT CASE WHEN t.a IN (1, 2) THEN 1 ELSE 2 END, CAST(t.a AS bigint), [t.a, t.b], {'k': t.a} FROM t, u x": [
        "t",
        "u",
    ],
    "SELECT a FROM t WHERE a BETWEEN 1 AND 2 AND s LIKE 'x%' AND ts > now() - INTERVAL '1 day'": ["t"],
    "EXPLAIN SELECT a FROM t": ["t"],
    "EXPLAIN ANALYZE VERBOSE SELECT a FROM t": ["t"],
    "EXPLAIN FORMAT tree WITH x AS (SELECT a FROM t) SELECT * FROM x": ["t"],
    "EXPLAIN (ANALYZE, FORMAT indent) SELECT a FROM t": ["t"],
    "EXPLAIN (SELECT a FROM t)": ["t"],
}


def query(sql: str) -> Query:
    (statement,) = parse_script(sql)
    assert isinstance(statement, Query)
    return statement


def spelled(parsed: Query) -> list[str]:
    return [str(table.name) for table in parsed.tables]
