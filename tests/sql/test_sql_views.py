"""CREATE and ALTER VIEW."""

import pytest

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_script, parse_statement
from icefusion.sql.statements import AlterView, CreateView, Identifier, Name, Query, RenameView, VersionAsOf, ViewColumn

A, B = Identifier("a"), Identifier("b")
V = Name((Identifier("v"),))
AV = Name((A, Identifier("v")))
ONE = Query("SELECT 1")

CASES: dict[str, CreateView | AlterView | RenameView] = {
    "CREATE VIEW v AS SELECT 1": CreateView(V, ONE, "SELECT 1"),
    "create or replace view a.v as SELECT 1": CreateView(AV, ONE, "SELECT 1", replace=True),
    "CREATE VIEW IF NOT EXISTS v AS SELECT 1": CreateView(V, ONE, "SELECT 1", if_not_exists=True),
    "CREATE TEMP VIEW v AS SELECT 1": CreateView(V, ONE, "SELECT 1", temporary=True),
    "CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1": CreateView(V, ONE, "SELECT 1", replace=True, temporary=True),
    "CREATE VIEW v (a, \"B\" COMMENT 'it''s') COMMENT 'c' TBLPROPERTIES (k = 1) AS SELECT 1": CreateView(
        V,
        ONE,
        "SELECT 1",
        (ViewColumn(A), ViewColumn(Identifier("B", quoted=True), "it's")),
        "c",
        (("k", "1"),),
    ),
    "CREATE VIEW v WITH (k = 1) COMMENT 'c' AS (SELECT 1)": CreateView(
        V, Query("(SELECT 1)"), "(SELECT 1)", comment="c", properties=(("k", "1"),)
    ),
    "ALTER VIEW v AS SELECT 1": AlterView(V, query=ONE, text="SELECT 1"),
    "ALTER VIEW IF EXISTS a.v RENAME TO b": RenameView(AV, Name((B,)), if_exists=True),
    "ALTER VIEW v SET TBLPROPERTIES ('k' = 'v')": AlterView(V, (("k", "v"),)),
    "ALTER VIEW v UNSET TBLPROPERTIES IF EXISTS (k)": AlterView(V, (), ("k",), unset_if_exists=True),
}
VIEWS = list(CASES)


@pytest.mark.parametrize(("text", "expected"), CASES.items(), ids=CASES)
def test_a_statement_is_read(text: str, expected: CreateView | AlterView | RenameView) -> None:
    assert parse_statement(text) == expected


def test_the_query_is_kept_as_it_was_written() -> None:
    written = "SELECT a.x, b.y -- why\n  FROM ns.a FOR VERSION AS OF 'old' AS a JOIN ns.b ON TRUE"
    view = parse_script(f"COMMIT; CREATE VIEW v AS\n  {written} ; COMMIT")[1]
    assert isinstance(view, CreateView)
    assert view.text == written
    assert [str(table.name) for table in view.query.tables] == ["ns.a", "ns.b"]
    assert view.query.tables[0].version == VersionAsOf("old")
    assert "FOR VERSION" not in view.query.text


@pytest.mark.parametrize(
    ("marked", "message", "hint"),
    [
        ("CREATE VIEW^", "the name of a view", None),
        ("CREATE VIEW v^", "COMMENT, TBLPROPERTIES or AS and a query", None),
        ("CREATE VIEW v ^SELECT 1", "AS before the query", None),
        ("CREATE VIEW v AS ^DROP TABLE t", "a query behind AS", None),
        ("CREATE VIEW v AS^", "a query behind AS", None),
        ("CREATE VIEW v ^COMENT 'x' AS SELECT 1", "found COMENT", "did you mean COMMENT?"),
        ("CREATE VIEW v COMMENT 'x' ^COMMENT 'y' AS SELECT 1", "given twice", None),
        ("CREATE VIEW v TBLPROPERTIES (a = 1) ^WITH (b = 1) AS SELECT 1", "given twice", None),
        ("CREATE VIEW v (a ^int) AS SELECT 1", "',', ')' or COMMENT", "the query gives the types"),
        ("CREATE VIEW v (a, ^a) AS SELECT 1", "a is given twice", None),
        ("CREATE VIEW v AS SELECT ^?", "a parameter cannot stand in a view", "write the value"),
        ("CREATE VIEW v AS SELECT * FROM t WHERE a = ^$b", "a parameter cannot stand in a view", None),
        ("CREATE VIEW v AS SELECT * FROM^", "expected a table", None),
        ("CREATE OR REPLACE VIEW IF NOT EXISTS ^v AS SELECT 1", "exclude each other", None),
        ("ALTER VIEW v ^RENMAE TO w", "expected RENAME TO", "did you mean RENAME TO?"),
        ("ALTER VIEW v SET TBLPROPERTIES ^a = 1", "expected '('", None),
        ("ALTER VIEW v AS ^x", "a query behind AS", None),
        ("CREATE ^VEIW v AS SELECT 1", "found VEIW", "did you mean CREATE VIEW?"),
    ],
)
def test_a_mistake_is_told_at_its_place(marked: str, message: str, hint: str | None) -> None:
    with pytest.raises(ParseError) as caught:
        parse_statement(marked.replace("^", "", 1))
    assert message in caught.value.message
    assert caught.value.column == marked.index("^") + 1
    if hint is not None:
        assert hint in (caught.value.hint or "")
