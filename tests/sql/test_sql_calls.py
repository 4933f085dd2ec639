"""CALL of procedures."""

import pytest

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import Argument, Call, Fragment, Identifier, Name, parameters_of


def value(text: str, *parameters: str) -> Fragment:
    return Fragment(text, parameters=parameters)


def call(name: str, *arguments: Argument) -> Call:
    return Call(Name(tuple(Identifier(part) for part in name.split("."))), arguments)


CASES: dict[str, Call] = {
    "CALL system.p()": call("system.p"),
    "call prod.system.rollback_to_snapshot('ns.t', 1)": call(
        "prod.system.rollback_to_snapshot", Argument(value("'ns.t'")), Argument(value("1"))
    ),
    "CALL system.p(table => 'ns.t', Ids => [1, 2], \"X\" => map {'a': 1})": call(
        "system.p",
        Argument(value("'ns.t'"), Identifier("table")),
        Argument(value("[1, 2]"), Identifier("Ids")),
        Argument(value("map {'a': 1}"), Identifier("X", quoted=True)),
    ),
    "CALL system.p(?, now() - INTERVAL '1 day', older_than => ?, where => (a = 1) AND b >= 2)": call(
        "system.p",
        Argument(value("$1", "1")),
        Argument(value("now() - INTERVAL '1 day'")),
        Argument(value("$2", "2"), Identifier("older_than")),
        Argument(value("(a = 1) AND b >= 2"), Identifier("where")),
    ),
    "CALL p($id, x => $id + 1)": call(
        "p", Argument(value("$id", "id")), Argument(value("$id + 1", "id"), Identifier("x"))
    ),
    "CALL system.p((SELECT 1))": call("system.p", Argument(value("(SELECT 1)"))),
}
CALLS = list(CASES)


@pytest.mark.parametrize(("text", "expected"), CASES.items(), ids=CASES)
def test_a_call_is_read(text: str, expected: Call) -> None:
    assert parse_statement(text) == expected


def test_parameters_are_counted_over_all_arguments() -> None:
    assert parameters_of(parse_statement("CALL system.p(?, x => ? + ?)")) == ("1", "2", "3")


@pytest.mark.parametrize(
    ("marked", "message", "hint"),
    [
        ("CALL^", "the name of a procedure", None),
        ("CALL system.p^", "'(' and the arguments", "CALL system.p(...)"),
        ("CALL system.p(^", "',' or ')'", None),
        ("CALL system.p(1^", "',' or ')'", None),
        ("CALL system.p(1, ^)", "another argument", None),
        ("CALL system.p(x =>^)", "a value", None),
        ("CALL system.p(1) ^x", "the end of the statement", None),
        ("CALL system.p(table ^= 'ns.t')", "'=>'", "table => ..."),
        ("CALL system.p(table ^:= 'ns.t')", "'=>'", "table => ..."),
        ("CALL system.p(x => 1, ^2)", "an argument without a name", "name => value"),
        ("CALL system.p(x => 1, ^X => 2)", "argument X is given twice", None),
        ("CALL system.p(^SELECT 1)", "a query cannot stand here", "parentheses"),
        ("CALL system.p((SELECT max(a) FROM ^ns.t))", "ns.t cannot be read here", "parameter"),
    ],
)
def test_a_mistake_is_told_at_its_place(marked: str, message: str, hint: str | None) -> None:
    with pytest.raises(ParseError) as caught:
        parse_statement(marked.replace("^", "", 1))
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")
    assert caught.value.column is not None
    assert caught.value.column - 1 == marked.index("^")
