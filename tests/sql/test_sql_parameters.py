"""Parameters: their names, and `?` as numbers."""

import pytest
from sql_cases import query

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_script
from icefusion.sql.statements import Insert, Query


@pytest.mark.parametrize(
    ("sql", "text", "names"),
    [
        ("SELECT ? + ?, ?", "SELECT $1 + $2, $3", ("1", "2", "3")),
        ("SELECT $2, $1, $2", "SELECT $2, $1, $2", ("2", "1")),
        ("SELECT $name, $Name, $name", "SELECT $name, $Name, $name", ("name", "Name")),
        ("SELECT '?', \"?\", `?`, $$?$$ /* ? */, ? -- ?", "SELECT '?', \"?\", `?`, $$?$$ /* ? */, $1", ("1",)),
        ("SELECT '$a', \"$a\" /* $a */ x", "SELECT '$a', \"$a\" /* $a */ x", ()),
        ("SELECT 1 FROM t LIMIT?OFFSET?", "SELECT 1 FROM t LIMIT $1 OFFSET $2", ("1", "2")),
        ("SELECT f(?$$d$$), 'x'?", "SELECT f($1 $$d$$), 'x'$2", ("1", "2")),
        ("SELECT a$1, ?", "SELECT a$1, $1", ("1",)),
        ("SELECT arr[1:n], x::int, {'a':b}, ?", "SELECT arr[1:n], x::int, {'a':b}, $1", ("1",)),
        ("VALUES (?, ?), (?, ?)", "VALUES ($1, $2), ($3, $4)", ("1", "2", "3", "4")),
    ],
)
def test_parameters_are_named_and_question_marks_numbered(sql: str, text: str, names: tuple[str, ...]) -> None:
    parsed = query(sql)
    assert parsed.text == text
    assert parsed.parameters == names


def test_each_statement_of_a_script_counts_its_own_parameters() -> None:
    insert, select = parse_script("INSERT INTO t (a, b) VALUES (?, ?); SELECT ?")
    assert isinstance(insert, Insert)
    assert isinstance(select, Query)
    assert (insert.query.text, insert.query.parameters) == ("VALUES ($1, $2)", ("1", "2"))
    assert (select.text, select.parameters) == ("SELECT $1", ("1",))


@pytest.mark.parametrize(
    ("sql", "column", "hint"),
    [
        ("SELECT ?, $1", 11, "one style"),
        ("SELECT $a, ?", 12, "one style"),
        ("SELECT ?1", 8, "$1"),
        ("SELECT * FROM t WHERE a = :id", 27, "$id"),
        ("SELECT f(:id)", 10, "$id"),
        ("SELECT $", 8, "name or a number"),
        ("CREATE TABLE t (a int) LOCATION ?", 33, "queries only"),
        ("CREATE TABLE t (a int) TBLPROPERTIES ('k' = ?)", 45, "queries only"),
        ("CREATE TABLE t (a int DEFAULT ?)", 31, "write the value"),
        ("INSERT INTO ? VALUES (1)", 13, "not for names"),
    ],
)
def test_a_parameter_out_of_place_is_told_with_the_cure(sql: str, column: int, hint: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_script(sql)
    assert caught.value.column == column
    assert hint in (caught.value.hint or "")
