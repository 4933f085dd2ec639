"""Heads of statements: each form, and what a script of several is."""

import pytest

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_query, parse_script, parse_statement
from icefusion.sql.statements import (
    AlterNamespace,
    Begin,
    Commit,
    CreateNamespace,
    DropNamespace,
    DropTable,
    DropView,
    Identifier,
    Insert,
    Name,
    Query,
    ResetOption,
    Rollback,
    SetOption,
    Statement,
    TableReference,
)


def name(*parts: str) -> Name:
    return Name(tuple(Identifier(part) for part in parts))


STATEMENTS: dict[str, Statement] = {
    "CREATE NAMESPACE a": CreateNamespace(name("a")),
    "create schema if not exists a.b": CreateNamespace(name("a", "b"), if_not_exists=True),
    "CREATE DATABASE a WITH ('k' = 'v', x.y = 1)": CreateNamespace(name("a"), properties=(("k", "v"), ("x.y", "1"))),
    "CREATE NAMESPACE a WITH PROPERTIES ('k' = 'v')": CreateNamespace(name("a"), properties=(("k", "v"),)),
    "CREATE NAMESPACE a WITH DBPROPERTIES (k = true)": CreateNamespace(name("a"), properties=(("k", "true"),)),
    "CREATE NAMESPACE a COMMENT 'c' LOCATION 'l' WITH PROPERTIES (k = 1)": CreateNamespace(
        name("a"), properties=(("comment", "c"), ("location", "l"), ("k", "1"))
    ),
    "CREATE DATABASE a LOCATION 'l' COMMENT 'c'": CreateNamespace(
        name("a"), properties=(("location", "l"), ("comment", "c"))
    ),
    "ALTER NAMESPACE a SET PROPERTIES (k = 1)": AlterNamespace(name("a"), (("k", "1"),)),
    "ALTER DATABASE a.b SET DBPROPERTIES ('k' = 'v', l = true)": AlterNamespace(
        name("a", "b"), (("k", "v"), ("l", "true"))
    ),
    "ALTER SCHEMA a SET ('k' = 'v')": AlterNamespace(name("a"), (("k", "v"),)),
    "ALTER SCHEMA a SET LOCATION 'l'": AlterNamespace(name("a"), (("location", "l"),)),
    "ALTER NAMESPACE a UNSET PROPERTIES ('k', x.y)": AlterNamespace(name("a"), unset_properties=("k", "x.y")),
    "ALTER NAMESPACE a UNSET DBPROPERTIES IF EXISTS (k)": AlterNamespace(name("a"), unset_properties=("k",)),
    "COMMENT ON NAMESPACE a IS 'c'": AlterNamespace(name("a"), (("comment", "c"),)),
    "COMMENT ON SCHEMA a.b IS NULL": AlterNamespace(name("a", "b"), unset_properties=("comment",)),
    "DROP VIEW a.v": DropView(name("a", "v")),
    "drop view if exists v": DropView(name("v"), if_exists=True),
    "SET wap.id = 'x y'": SetOption("wap.id", "x y"),
    "set spark.wap.branch = audit": SetOption("wap.branch", "audit"),
    "SET SESSION wap.branch TO 'audit'": SetOption("wap.branch", "audit"),
    "SET wap.id = 12": SetOption("wap.id", "12"),
    "RESET wap.id": ResetOption("wap.id"),
    "RESET spark.WAP.Branch": ResetOption("wap.branch"),
    "CREATE NAMESPACE IF": CreateNamespace(name("IF")),
    "DROP NAMESPACE a": DropNamespace(name("a")),
    "DROP SCHEMA IF EXISTS a.b RESTRICT": DropNamespace(name("a", "b"), if_exists=True),
    "DROP DATABASE a": DropNamespace(name("a")),
    "DROP TABLE a.b": DropTable(name("a", "b")),
    "DROP TABLE IF EXISTS a.b PURGE": DropTable(name("a", "b"), if_exists=True, purge=True),
    'DROP TABLE "My ""T"""': DropTable(Name((Identifier('My "T"', quoted=True),))),
    "DROP TABLE `a b`.c": DropTable(Name((Identifier("a b", quoted=True), Identifier("c")))),
    "BEGIN": Begin(),
    "BEGIN TRANSACTION": Begin(),
    "begin work": Begin(),
    "START TRANSACTION": Begin(),
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE": Begin("serializable"),
    "BEGIN TRANSACTION ISOLATION LEVEL SNAPSHOT": Begin("snapshot"),
    "BEGIN ISOLATION LEVEL REPEATABLE READ": Begin("snapshot"),
    "COMMIT": Commit(),
    "COMMIT TRANSACTION": Commit(),
    "COMMIT WORK": Commit(),
    "END": Commit(),
    "END TRANSACTION": Commit(),
    "ROLLBACK": Rollback(),
    "ROLLBACK WORK": Rollback(),
    "ABORT": Rollback(),
    "INSERT INTO t VALUES (1)": Insert(name("t"), Query("VALUES (1)")),
    "insert into table a.t select 1": Insert(name("a", "t"), Query("select 1")),
    "INSERT INTO t (SELECT 1)": Insert(name("t"), Query("(SELECT 1)")),
    "INSERT INTO t ((SELECT 1) UNION (SELECT 2))": Insert(name("t"), Query("((SELECT 1) UNION (SELECT 2))")),
    "INSERT INTO t (VALUES (1), (2))": Insert(name("t"), Query("(VALUES (1), (2))")),
    'INSERT INTO t (a, "B") SELECT 1, 2': Insert(
        name("t"), Query("SELECT 1, 2"), (Identifier("a"), Identifier("B", quoted=True))
    ),
    "INSERT INTO t (a) (SELECT 1)": Insert(name("t"), Query("(SELECT 1)"), (Identifier("a"),)),
    "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x": Insert(
        name("t"), Query("WITH x AS (SELECT 1) SELECT * FROM x")
    ),
    "INSERT INTO t FROM generate_series(1, 2)": Insert(name("t"), Query("SELECT * FROM generate_series(1, 2)")),
    "INSERT INTO t BY NAME TABLE u": Insert(
        name("t"), Query("SELECT * FROM u", (TableReference(name("u"), 14, 15),)), by_name=True
    ),
    "INSERT INTO t (a) BY POSITION SELECT 1": Insert(name("t"), Query("SELECT 1"), (Identifier("a"),)),
    "INSERT INTO t DEFAULT VALUES": Insert(name("t"), Query("DEFAULT VALUES")),
    "INSERT INTO t VALUES (1, DEFAULT)": Insert(name("t"), Query("VALUES (1, DEFAULT)")),
}


@pytest.mark.parametrize(("sql", "statement"), STATEMENTS.items(), ids=STATEMENTS)
def test_a_statement_is_read_from_its_text(sql: str, statement: Statement) -> None:
    assert parse_statement(sql) == statement


def test_a_script_of_all_of_them_is_read_the_same() -> None:
    script = " ;\n;".join(f"{sql} -- next; one\n" for sql in STATEMENTS) + "; /* ; */ ;"
    assert parse_script(script) == tuple(STATEMENTS.values())


def test_semicolons_in_strings_names_and_comments_part_nothing() -> None:
    script = """SELECT ';', E'\\';', $$;$$, $x$;$$;$x$, ";", `;` /* ; /* ; */ ; */ -- ;
        , 1; SELECT 2"""
    first, second = parse_script(script)
    assert isinstance(first, Query)
    assert first.text == script.removesuffix("; SELECT 2")
    assert isinstance(second, Query)
    assert (second.text, second.offset) == ("SELECT 2", len(script) - 8)


@pytest.mark.parametrize("text", ["", " \n", ";;", "-- nothing", "/* nothing */;"])
def test_a_text_without_statements_is_an_empty_script(text: str) -> None:
    assert parse_script(text) == ()
    with pytest.raises(ParseError, match="no statement"):
        parse_statement(text)


def test_one_statement_is_not_two() -> None:
    with pytest.raises(ParseError, match="found another") as caught:
        parse_statement("SELECT 1;\n  SELECT 2")
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_a_query_is_asked_for_and_something_else_given() -> None:
    assert parse_query("SELECT 1").text == "SELECT 1"
    with pytest.raises(ParseError, match="expected a query") as caught:
        parse_query("\n COMMIT")
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_offsets_refer_to_the_whole_script() -> None:
    script = "COMMIT;\nINSERT INTO a.b (c)\nSELECT d FROM e.f"
    insert = parse_script(script)[1]
    assert isinstance(insert, Insert)
    assert script[insert.table.offset :].startswith("a.b")
    assert script[insert.query.offset :] == insert.query.text
    assert insert.query.sql == script
    assert script[insert.query.tables[0].name.offset :] == "e.f"
    with pytest.raises(ParseError) as caught:
        parse_script(script + ";\nDROP TABLE IF EXISTS x y")
    assert (caught.value.line, caught.value.column) == (4, 24)


@pytest.mark.parametrize(
    ("sql", "place", "message", "hint"),
    [
        ("SELCT 1", (1, 1), "no statement begins with SELCT", "did you mean SELECT?"),
        ("\n  INSRT INTO t VALUES (1)", (2, 3), "INSRT", "INSERT"),
        ("COMIT", (1, 1), "COMIT", "COMMIT"),
        ("xyzzy", (1, 1), "xyzzy", None),
        ("42", (1, 1), "expected a statement, found 42", None),
        ("CREATE TABEL t (a int)", (1, 8), "found TABEL", "did you mean CREATE TABLE?"),
        ("DROP NAMESPAC x", (1, 6), "found NAMESPAC", "did you mean DROP NAMESPACE?"),
        ("CREATE", (1, 7), "the statement ends", None),
        ("DROP TABLE", (1, 11), "expected the name of a table, the statement ends", None),
        ("DROP TABLE t PRUGE", (1, 14), "PURGE or the end of the statement, found PRUGE", "did you mean PURGE?"),
        ("DROP TABLE 't'", (1, 12), "found 't'", "double quotes"),
        ("DROP TABLE my-table", (1, 14), "hyphen", '"my-name"'),
        ('DROP TABLE ""', (1, 12), "empty", None),
        ("DROP TABLE a.", (1, 14), "to go on behind the '.'", None),
        ("COMMIT now", (1, 8), "expected the end of the statement, found now", None),
        ("START", (1, 6), "expected TRANSACTION", None),
        ("BEGIN ISOLATION SNAPSHOT", (1, 17), "expected LEVEL", None),
        ("BEGIN ISOLATION LEVEL HIGH", (1, 23), "expected SERIALIZABLE", None),
        ("INSERT t VALUES (1)", (1, 8), "expected INTO", None),
        ("INSERT INTO VALUES (1)", (1, 13), "expected the name of a table, found VALUES", "quote it"),
        ("INSERT INTO t", (1, 14), "expected (columns), VALUES, SELECT", None),
        ("INSERT INTO t (a)", (1, 18), "expected VALUES, SELECT", None),
        ("INSERT INTO t (a, ) VALUES (1)", (1, 19), "expected a column name", None),
        ("INSERT INTO t (a b) VALUES (1)", (1, 18), "expected ',' or ')', found b", None),
        ("EXPLAIN", (1, 8), "expected a query or a change behind EXPLAIN", None),
        ("CREATE NAMESPACE a WITH 'k'", (1, 25), "expected '('", None),
        ("CREATE NAMESPACE a WITH (k 1)", (1, 28), "expected '='", None),
        ("CREATE NAMESPACE a WITH (k = 1, 'k' = 2)", (1, 33), "property k is given twice", None),
        ("CREATE NAMESPACE a COMMENT 'x' WITH (comment = 'y')", (1, 32), "property comment is given twice", None),
        ("CREATE NAMESPACE a COMENT 'x'", (1, 20), "expected COMMENT, LOCATION", "did you mean COMMENT?"),
        ("CREATE NAMESPACE a COMMENT x", (1, 28), "the comment as a string", None),
        ("ALTER NAMESPACE", (1, 16), "the name of a namespace", None),
        ("ALTER NAMESPACE a", (1, 18), "expected SET PROPERTIES", None),
        ("ALTER NAMESPACE a STE PROPERTIES (k = 1)", (1, 19), "expected SET PROPERTIES", "did you mean SET?"),
        ("ALTER NAMESPACE a SET PROPERTEIS (k = 1)", (1, 23), "PROPERTIES", "did you mean PROPERTIES?"),
        ("ALTER NAMESPACE a UNSET PROPERTIES (k = 1)", (1, 39), "expected ',' or ')'", "without values"),
        ("ALTER NAMESPACE a UNSET PROPERTIES (k, k)", (1, 40), "property k is given twice", None),
        ("ALTER TABEL a", (1, 7), "found TABEL", "did you mean ALTER TABLE?"),
        ("DROP VIEW", (1, 10), "the name of a view", None),
        ("CREATE OR REPLACE TABEL t (a int)", (1, 19), "TABLE or VIEW behind CREATE OR REPLACE", "did you mean TABLE?"),
        ("CREATE OR REPLACE NAMESPACE n", (1, 19), "TABLE or VIEW behind CREATE OR REPLACE", None),
        ("SET", (1, 4), "expected an option: wap.id or wap.branch", None),
        ("SET wap.id 'x'", (1, 12), "'=' and the value of wap.id", None),
        ("SET wap.id = a b", (1, 14), "the value of wap.id as a string", None),
        ("SET wap.id = ''", (1, 14), "wap.id cannot be empty", "RESET wap.id"),
        ("SET wap.id = ?", (1, 14), "the value of wap.id as a string", None),
        ("RESET wap.id = 1", (1, 14), "the end of the statement", None),
        ("COMMENT TABLE t IS 'x'", (1, 9), "expected ON", None),
        ("COMMENT ON TABEL t IS 'x'", (1, 12), "expected TABLE, COLUMN or NAMESPACE", "did you mean TABLE?"),
        ("COMMENT ON TABLE t 'x'", (1, 20), "expected IS and the comment", None),
        ("COMMENT ON TABLE t IS x", (1, 23), "the comment, or NULL, as a string", None),
        ("COMMENT ON COLUMN c IS 'x'", (1, 19), "needs its table in front", "ns.t.c"),
        ("SELECT 'abc", (1, 8), "this string has no end", "twice"),
        ("SELECT E'abc\\'", (1, 8), "this string has no end", None),
        ("SELECT x'ab", (1, 8), "this string has no end", None),
        ('SELECT 1,\n "abc', (2, 2), "quoted identifier has no end", None),
        ("SELECT `abc", (1, 8), "quoted identifier has no end", None),
        ("SELECT $x$ $$", (1, 8), "this string has no end", "$x$"),
        ("SELECT /* /* */ 1", (1, 8), "this comment has no end", "nest"),
        ("SELECT ‘a’", (1, 8), "U+2018", "straight quotes"),
        ("SELECT 1\x00", (1, 9), "no meaning", None),
    ],
)
def test_a_mistake_is_told_with_its_place(sql: str, place: tuple[int, int], message: str, hint: str | None) -> None:
    with pytest.raises(ParseError) as caught:
        parse_script(sql)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == place
    if hint is None:
        assert caught.value.hint is None or "did you mean" not in caught.value.hint
    else:
        assert hint in (caught.value.hint or "")


def test_an_error_shows_the_line_and_points_at_the_place() -> None:
    with pytest.raises(ParseError) as caught:
        parse_script("COMMIT;\nDROP TABLE a.b PRUGE;")
    assert str(caught.value).splitlines() == [
        "expected PURGE or the end of the statement, found PRUGE (line 2, column 16)",
        "  DROP TABLE a.b PRUGE;",
        "                 ^",
        "Hint: did you mean PURGE?",
    ]
