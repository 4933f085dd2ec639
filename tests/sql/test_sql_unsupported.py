"""SQL that is not done here: told as such, at its place, with what to do instead."""

import pytest

from icefusion.errors import UnsupportedStatementError
from icefusion.sql.parser import parse_script

CASES = [
    ("UPDATE t SET a = 1", 1, "row-level"),
    ("DELETE FROM t WHERE a = 1", 1, "CREATE TABLE name AS SELECT"),
    ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", 1, "row-level"),
    ("TRUNCATE TABLE t", 1, "DROP TABLE"),
    ("ALTER TABLE t ADD COLUMN x int", 1, "update_schema()"),
    ("CALL system.rewrite_data_files('t')", 1, "PyIceberg"),
    ("OPTIMIZE t", 1, "maintenance"),
    ("VACUUM", 1, "maintenance"),
    ("ANALYZE t", 1, "maintenance"),
    ("COPY t TO 'x'", 1, "pyarrow"),
    ("SET x = 1", 1, "connect"),
    ("RESET x", 1, "connect"),
    ("USE ns", 1, "namespace.table"),
    ("GRANT SELECT ON t TO u", 1, "catalog"),
    ("REVOKE SELECT ON t FROM u", 1, "catalog"),
    ("PREPARE x AS SELECT 1", 1, "params"),
    ("EXECUTE x", 1, "params"),
    ("SHOW TABLES", 1, "list_tables"),
    ("SHOW FUNCTIONS", 1, "DataFusion"),
    ("DESCRIBE t", 1, "LIMIT 0"),
    ("DESC t", 1, "LIMIT 0"),
    ("REPLACE INTO t VALUES (1)", 1, "INSERT INTO adds"),
    ("SAVEPOINT a", 1, "COMMIT or ROLLBACK"),
    ("RELEASE SAVEPOINT a", 1, "COMMIT or ROLLBACK"),
    ("ROLLBACK TO SAVEPOINT a", 10, "as a whole"),
    ("COMMIT AND CHAIN", 8, "COMMIT alone"),
    ("BEGIN READ ONLY", 7, "leave it out"),
    ("BEGIN IMMEDIATE", 7, "write BEGIN"),
    ("START TRANSACTION ISOLATION LEVEL READ COMMITTED", 35, "SNAPSHOT"),
    ("START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", 35, "SNAPSHOT"),
    ("CREATE VIEW v AS SELECT 1", 8, "WITH clause"),
    ("CREATE MATERIALIZED VIEW v AS SELECT 1", 8, "WITH clause"),
    ("CREATE INDEX i ON t (a)", 8, "PARTITIONED BY"),
    ("CREATE FUNCTION f() RETURNS int RETURN 1", 8, "DataFusion"),
    ("CREATE OR REPLACE TABLE t (a int)", 8, "DROP TABLE IF EXISTS"),
    ("CREATE EXTERNAL TABLE t STORED AS parquet LOCATION 'x'", 8, "under a name"),
    ("CREATE TEMPORARY TABLE t (a int)", 8, "under a name"),
    ("CREATE NAMESPACE n LOCATION 'x'", 20, "WITH ('location'"),
    ("DROP VIEW v", 6, "only tables and namespaces"),
    ("DROP TABLE t CASCADE", 14, "leave the word out"),
    ("DROP TABLE a, b", 13, "statement for each"),
    ("DROP NAMESPACE n CASCADE", 18, "drop the tables"),
    ("INSERT OVERWRITE t VALUES (1)", 8, "CREATE TABLE name AS SELECT"),
    ("INSERT OVERWRITE TABLE t SELECT 1", 8, "CREATE TABLE name AS SELECT"),
    ("INSERT OR REPLACE INTO t VALUES (1)", 8, "no keys"),
    ("INSERT INTO t BY NAME SELECT 1 AS a", 15, "list the columns"),
    ("INSERT INTO t DEFAULT VALUES", 15, "defaults"),
    ("INSERT INTO t VALUES (1, DEFAULT)", 26, "leave the column out"),
    ("INSERT INTO t PARTITION (d = 1) SELECT 1", 15, "by their values"),
    ("INSERT INTO t REPLACE WHERE a = 1 SELECT 1", 15, "adds rows"),
    ("INSERT INTO t SET a = 1", 15, "VALUES (1, 2)"),
    ("INSERT INTO t AS x VALUES (1)", 15, "leave it out"),
    ("INSERT INTO t (a.b) VALUES (1)", 17, "whole struct"),
    ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", 26, "filter the rows"),
    ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1", 26, "filter the rows"),
    ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", 26, "filter the rows"),
    ("INSERT INTO t SELECT 1 RETURNING a", 24, "number of rows"),
    ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", 22, "INSERT INTO t WITH x AS"),
    ("EXPLAIN INSERT INTO t SELECT 1", 9, "SELECT"),
    ("EXPLAIN ANALYZE DELETE FROM t", 17, "SELECT"),
    ("EXPLAIN EXPLAIN SELECT 1", 9, "SELECT"),
    ("SELECT N'x'", 8, "'...'"),
    ("SELECT b'01'", 8, "'...'"),
    ("SELECT R'x\\'", 8, "'...'"),
    ("SELECT u&'x'", 8, "'...'"),
    ("SELECT q'[it's]'", 8, "'...'"),
]


@pytest.mark.parametrize(("sql", "column", "hint"), CASES, ids=[sql for sql, _, _ in CASES])
def test_an_unsupported_statement_is_told_with_place_and_cure(sql: str, column: int, hint: str) -> None:
    with pytest.raises(UnsupportedStatementError) as caught:
        parse_script(f"COMMIT;\n{sql};")
    assert (caught.value.line, caught.value.column) == (2, column)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT returning, default FROM u",
        "INSERT INTO t SELECT a AS returning FROM u",
        "INSERT INTO t SELECT x.a FROM x JOIN y ON conflict = 1",
        "INSERT INTO t SELECT (SELECT default) FROM u",
        "SELECT insert, update, delete FROM t",
        "SELECT nb FROM t",
    ],
)
def test_the_same_words_as_names_are_no_reason_to_refuse(sql: str) -> None:
    assert len(parse_script(sql)) == 1
