"""Whatever the text: statements or one of our errors, with a place inside of it, and never altered."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_cases import READS
from test_sql_alter import ALTERATIONS
from test_sql_alter import MISTAKES as ALTERING_MISTAKES
from test_sql_calls import CALLS
from test_sql_changes import CHANGES, MISTAKES, READING
from test_sql_create_table import create
from test_sql_shows import SHOWN
from test_sql_statements import STATEMENTS
from test_sql_views import VIEWS

from icefusion.errors import SQLError
from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.parser import parse_script
from icefusion.sql.references import Edit, apply_edits, render_position, replace_tables, rewrite_identifiers
from icefusion.sql.statements import ComputedAsOf, Fragment, Query, Statement, fragments_of, parameters_of

TEXT = """SELECT FROM JOIN LEFT ON WITH AS TABLE VALUES INSERT INTO CREATE NAMESPACE DROP IF NOT EXISTS NULL DEFAULT
    PARTITIONED BY ORDER BUCKET bucket day struct array map int decimal FOR VERSION OF UNION ALL EXCEPT IN LATERAL
    RECURSIVE TRIM EXTRACT IS DISTINCT UPDATE SET DELETE MERGE USING WHEN MATCHED THEN CASE END AND BY SOURCE WHERE DO
    SHOW DESCRIBE TABLES SCHEMAS COLUMNS EXTENDED FROM
    ALTER ADD COLUMN RENAME TO TYPE FIRST AFTER PARTITION FIELD WRITE ORDERED VIEW CALL LIKE TBLPROPERTIES BRANCH
    AS OF RETAIN DAYS KEY PRIMARY ENFORCED COMMENT SYSTEM_TIME TIMESTAMP AT
    NOTHING CONFLICT RETURNING OVERWRITE REPLACE TRUNCATE BEGIN COMMIT EXPLAIN ANALYZE a b t x.y "q" `q` 'str' E'\\''
    $$d$$ $1 $n ? 1 2.5 ( ) [ ] { } < > , ; . : :: = - + * / | |> -- /* */ ' " ` $ é ‘"""
WORDS = [*TEXT.split(), "\n"]
SOUP = st.lists(st.sampled_from([*WORDS, " ", "\n"]), max_size=40)
CREATE = "CREATE TABLE t (a struct<b: int not null>, c decimal(10, 2) DEFAULT 1) PARTITIONED BY (bucket(4, a.b) AS x)"
CHANGING = [*CHANGES, *READING, *(marked.replace("^", "", 1) for marked, _, _ in MISTAKES)]
TRAVEL = [
    "SELECT ? FROM t FOR VERSION AS OF 'x' AS y, (TABLE u) WHERE a = ?",
    "SELECT ? FROM t FOR TIMESTAMP AS OF now() - INTERVAL '1' DAY y JOIN u FOR VERSION AS OF ? ON a = ?",
    "MERGE INTO t USING u TIMESTAMP AS OF ? s ON t.a = s.a WHEN MATCHED AND b = ? THEN DELETE",
    "SELECT * FROM t AT (TIMESTAMP => TIMESTAMP '2024-01-01'), u AT (VERSION => 1) v",
]
ALTERING = [*ALTERATIONS, *(marked.replace("^", "", 1) for marked, _, _ in ALTERING_MISTAKES)]
MAKING = [
    "CREATE OR REPLACE TABLE t (a int, b struct<c: int COMMENT 'x'>, PRIMARY KEY (a) NOT ENFORCED) COMMENT 'y'",
    "REPLACE TABLE t LIKE s TBLPROPERTIES (a = 1)",
    "CREATE TABLE t (LIKE s) LOCATION 'x'",
]
SEEDS = [*SHOWN, *MAKING, *VIEWS, *CALLS, *READS, *STATEMENTS, *CHANGES, *READING, *ALTERATIONS, *TRAVEL, CREATE]
LIMITS = settings(max_examples=200, deadline=None)


def check(text: str) -> None:
    try:
        statements = parse_script(text)
    except SQLError as error:
        check_error(text, error)
        return
    for statement in statements:
        for fragment in fragments_of(statement):
            check_fragment(text, fragment)
        check_parameters(statement)


def check_error(text: str, error: SQLError) -> None:
    assert error.message
    assert error.line is not None
    assert error.column is not None
    lines = text.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def check_parameters(statement: Statement) -> None:
    names = parameters_of(statement)
    assert len(set(names)) == len(names)
    for fragment in fragments_of(statement):
        used = [token.text[1:] for token in tokenize(fragment.text) if token.kind is Kind.PARAMETER]
        versions = [table.version for table in fragment.tables]
        travelled = [name for v in versions if isinstance(v, ComputedAsOf) for name in v.value.parameters]
        assert {*used, *travelled} == set(fragment.parameters) <= set(names)
        assert list(dict.fromkeys(used)) == [name for name in fragment.parameters if name in used]


def check_fragment(text: str, query: Fragment) -> None:
    assert query.sql == text
    if not query.shifts:
        assert text[query.offset :].startswith(query.text)
    for table in query.tables:
        if isinstance(table.version, ComputedAsOf):
            check_fragment(text, table.version.value)
        spelled = text[table.name.offset :][: table.end - table.start]
        if table.function is None:  # in those a question mark is numbered
            assert query.text[table.start : table.end] == spelled
    replaced = replace_tables(query, ["( x )"] * len(query.tables))
    assert [replaced.text[table.start : table.end] for table in replaced.tables] == ["( x )"] * len(query.tables)
    tokenize(rewrite_identifiers(replaced, {"a": "A", "t": "T"}).text)
    for position in range(0, len(query.text) + 1, 7):
        assert query.offset <= render_position(query, position) <= len(text)


@LIMITS
@given(SOUP)
def test_a_soup_of_tokens_parses_or_is_told_apart(parts: list[str]) -> None:
    check(" ".join(parts))
    check("".join(parts))


@LIMITS
@given(st.text(max_size=60))
def test_any_text_parses_or_is_told_apart(text: str) -> None:
    check(text)


@LIMITS
@given(st.data())
def test_a_mutated_statement_parses_or_is_told_apart(data: st.DataObject) -> None:
    mutate(data, SEEDS)


@LIMITS
@given(st.data())
def test_a_mutated_change_parses_or_is_told_apart(data: st.DataObject) -> None:
    mutate(data, CHANGING)


@LIMITS
@given(st.data())
def test_a_mutated_alteration_parses_or_is_told_apart(data: st.DataObject) -> None:
    mutate(data, ALTERING)


def mutate(data: st.DataObject, seeds: list[str]) -> None:
    text = data.draw(st.sampled_from(seeds))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 5, len(text))))
        text = text[:start] + data.draw(st.sampled_from(["", " ", *WORDS])) + text[end:]
    check(text)


@LIMITS
@given(SOUP)
def test_tokens_and_gaps_make_up_the_whole_text(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        tokens = tokenize(text)
    except SQLError:
        return
    position = 0
    for token in tokens:
        assert position <= token.start <= token.end
        assert text[token.start : token.end] == token.text
        gap = text[position : token.start]
        assert gap.strip() == "" or "--" in gap or "/*" in gap
        position = token.end
    assert tokens[-1].kind is Kind.END
    assert position == len(text)


@LIMITS
@given(st.data())
def test_edits_leave_all_else_in_place(data: st.DataObject) -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    query = Query(text, sql="..." + text, offset=3)
    for _ in range(2):
        cuts = sorted(data.draw(st.sets(st.integers(0, len(query.text)), max_size=8)))
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        query = apply_edits(
            query, [Edit(start, end, data.draw(st.sampled_from(["", "1", "12345"]))) for start, end in spans]
        )
    kept = [(place, letter) for place, letter in enumerate(query.text) if letter.isalpha()]
    assert [query.sql[render_position(query, place)] for place, _ in kept] == [letter for _, letter in kept]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000,
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT * FROM " + "(" * 20_000 + "t" + ")" * 20_000,
        "'" * 100_001,
        "E'" + "\\'" * 50_000,
        "/*" * 50_000,
        "$$" * 50_001,
        "$a$ $b$" * 20_000 + "$c$",
        "SELECT " + "a AS b, " * 30_000 + "1",
        "VALUES " + ", ".join(["(1, 'a', ?)"] * 20_000),
        "WITH " + ", ".join(f"c{n} AS (SELECT 1)" for n in range(5_000)) + " SELECT 1",
        "SELECT 1;" * 20_000,
        "CREATE TABLE t (a " + "array<" * 20_000,
        "CREATE TABLE t (a int DEFAULT " + "(" * 50_000,
        "ALTER TABLE t ADD COLUMN " + "a.b int, " * 30_000 + "c int",
        "ALTER TABLE t ADD COLUMN a int DEFAULT " + "(" * 50_000,
        "ALTER TABLE t DROP COLUMN a" + ", DROP COLUMN a" * 20_000,
        "ALTER TABLE t ALTER COLUMN a" + " SET NOT NULL" * 20_000,
        "ALTER TABLE t ADD PRIMARY KEY (" + "a, " * 2_000 + "b) NOT ENFORCED",
        "ALTER TABLE t SET TBLPROPERTIES (" + ", ".join(f"k{n} = 1" for n in range(20_000)) + ")",
        "ALTER TABLE t UNSET TBLPROPERTIES (" + ", ".join(f"k{n}" for n in range(20_000)) + ")",
        "ALTER TABLE t WRITE ORDERED BY " + "a, " * 30_000 + "b",
        "CREATE VIEW v (" + ", ".join(f"c{n}" for n in range(2_000)) + ") AS SELECT 1",
        "CALL system.p(" + ", ".join(f"a{n} => ?" for n in range(2_000)) + ")",
        "CALL system.p(" + "(" * 50_000,
        "SELECT * FROM t FOR TIMESTAMP AS OF " + "(" * 50_000,
        "SELECT * FROM " + "t FOR TIMESTAMP AS OF now() a, " * 5_000 + "u",
        "SELECT * FROM t FOR TIMESTAMP AS OF " + "1 + " * 50_000 + "1",
        "a" * 200_000,
        "SELECT " + "-" * 200_000,
        "SELECT 1" + " NOT" * 50_000,
        "DELETE FROM t WHERE " + "(" * 50_000,
        "DELETE FROM t WHERE " + "CASE WHEN " * 20_000 + "a",
        "DELETE FROM t WHERE " + "a AND " * 30_000 + "a",
        "DELETE FROM t USING " + "u, " * 30_000 + "u RETURNING *",
        "UPDATE t SET " + ", ".join(f"c{n} = ?" for n in range(20_000)),
        "UPDATE t SET a" + ".a" * 50_000 + " = 1, b = 2",
        "UPDATE t SET (" + ", ".join(f"c{n}" for n in range(5_000)) + ") = (SELECT " + "1, " * 4_999 + "1)",
        "UPDATE t SET (a, b) = (SELECT " + "max(" * 20_000 + "a" + ") OVER ()" * 20_000 + ", 1)",
        "MERGE INTO t USING u ON a = b" + " WHEN MATCHED AND a THEN DELETE" * 10_000,
        "MERGE INTO t USING " + "(" * 50_000,
        "INSERT INTO t REPLACE WHERE " + "(a) " * 20_000,
        "INSERT INTO t REPLACE WHERE 1 " + "(" * 20_000,
        "INSERT INTO t VALUES (1)" + " ON CONFLICT" * 20_000,
        "SELECT * FROM read_csv([" + "'a', " * 30_000 + "'b'])",
        "SELECT * FROM read_csv(" + "[" * 30_000,
        "SELECT * FROM read_csv('a'" + ", x = {'a': [1, 2]}" * 300 + ")",
        "SELECT * FROM " + "read_csv('a'), " * 10_000 + "'b.csv'",
        "INSERT INTO t VALUES " + "(1, DEFAULT, ?), " * 20_000 + "(1) RETURNING a",
    ],
    ids=lambda text: text[:20],
)
def test_time_is_linear_and_depth_is_no_danger(text: str) -> None:
    def seconds(size: int) -> float:
        began = time.process_time()
        check_only(text[:size])
        return time.process_time() - began

    seconds(1000)
    assert seconds(len(text)) < 3.0


def check_only(text: str) -> None:
    try:
        parse_script(text)
    except SQLError:
        return


def test_the_seeds_are_all_valid() -> None:
    for seed in SEEDS:
        assert len(parse_script(seed)) == 1
    assert create("(a int)").columns
