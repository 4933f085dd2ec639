"""Pieces of statements that Python calls give."""

import pytest
from test_sql_changes import word

from icefusion.errors import ParseError, SQLError
from icefusion.sql.parser import parse_statement
from icefusion.sql.pieces import parse_assignment_path, parse_expression
from icefusion.sql.statements import Delete, Identifier, Insert, Merge, Truncate, Update
from icefusion.sql.volatile import is_volatile, is_volatile_change


def test_an_expression_is_what_it_would_be_in_a_statement() -> None:
    text = "a = ? AND b IN (SELECT b FROM n.u FOR VERSION AS OF 5) OR c = ?"
    expression = parse_expression(f" {text} ")
    assert expression.text == "a = $1 AND b IN (SELECT b FROM n.u) OR c = $2"
    assert [str(table.name) for table in expression.tables] == ["n.u"]
    assert expression.parameters == ("1", "2")
    assert (expression.sql, expression.offset) == (f" {text} ", 1)
    delete = parse_statement(f"DELETE FROM t WHERE {text}")
    assert isinstance(delete, Delete)
    assert delete.where == expression


@pytest.mark.parametrize("text", ["1", "source.a + 1", "CASE WHEN a THEN b END", "f(a, b)", '"limit" > limit', "a.b.c"])
def test_an_expression_is_its_text(text: str) -> None:
    assert parse_expression(text).text == text


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected an expression, the statement ends"),
        (" -- nothing", 12, "expected an expression"),
        ("a = ", 5, "expected an operand"),
        ("a, b", 2, "expected the end of the expression, found ,"),
        ("a; b", 2, "expected the end of the expression, found ;"),
        ("a)", 2, "expected the end of the expression, found )"),
        ("a AS b", 3, "expected the end of the expression, found AS"),
        ("a WHERE b", 3, "expected the end of the expression, found WHERE"),
        ("a = 1 LIMIT 5", 7, "expected the end of the expression, found LIMIT"),
        ("SELECT 1", 1, "a query cannot stand here"),
        ("(a", 1, "never closed"),
        ("(a;", 1, "never closed"),
        ("a = 'x", 5, "no end"),
    ],
)
def test_what_is_no_single_expression_is_told_with_its_place(text: str, column: int, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_expression(text)
    assert message in caught.value.message
    assert caught.value.column == column


def test_a_path_is_read_as_its_parts() -> None:
    assert parse_assignment_path(" a ") == (word("a"),)
    assert parse_assignment_path('a."B c".d') == (word("a"), Identifier("B c", quoted=True), word("d"))


@pytest.mark.parametrize("text", ["", "a.", "a b", "a = 1", "'a'", "from", "a-b", "a[1]", "1", "?"])
def test_what_is_no_path_is_told(text: str) -> None:
    with pytest.raises(SQLError):
        parse_assignment_path(text)


@pytest.mark.parametrize(
    ("sql", "volatile"),
    [
        ("DELETE FROM t WHERE a < random()", True),
        ("DELETE FROM t WHERE random = 1 AND a = now()", False),
        ("UPDATE t SET a = uuid()", True),
        ("UPDATE t SET a = 1 RETURNING random()", True),
        ("MERGE INTO t USING u ON a = b WHEN NOT MATCHED THEN INSERT VALUES (1, uuid())", True),
        ("MERGE INTO t USING u ON a = b WHEN NOT MATCHED THEN INSERT *", False),
        ("INSERT INTO t SELECT 1 ON CONFLICT (a) DO UPDATE SET b = random()", True),
        ("INSERT INTO t SELECT 1", False),
        ("TRUNCATE t", False),
    ],
)
def test_chance_is_found_in_every_piece(sql: str, volatile: bool) -> None:
    change = parse_statement(sql)
    assert isinstance(change, Insert | Delete | Update | Merge | Truncate)
    assert is_volatile_change(change) is volatile
    assert is_volatile(parse_expression("a + random()"))
