"""Changes to a query's text: tables, identifiers, and the way back to what the user wrote."""

import pytest
from sql_cases import READS, query, spelled

from icefusion.sql.parser import parse_script
from icefusion.sql.references import Edit, apply_edits, render_position, replace_tables, rewrite_identifiers
from icefusion.sql.statements import Query

NAMES = {"id": "ID", "name": "Name", "date": "Date", "day": "Day", "first": "First", "t": "T", "order": "Order"}


@pytest.mark.parametrize("sql", READS)
def test_replaced_tables_span_their_new_text_and_nothing_else_changes(sql: str) -> None:
    parsed = query(sql)
    texts = [f'"r {number}"' for number in range(len(parsed.tables))]
    replaced = replace_tables(parsed, texts)
    assert [replaced.text[table.start : table.end] for table in replaced.tables] == texts
    back = replace_tables(replaced, [parsed.text[table.start : table.end] for table in parsed.tables])
    assert (back.text, back.tables) == (parsed.text, parsed.tables)


def test_some_tables_are_replaced_and_others_kept() -> None:
    replaced = replace_tables(query("SELECT * FROM a, b VERSION AS OF 1, c"), [None, '"x" AS "b"', None])
    assert replaced.text == 'SELECT * FROM a, "x" AS "b", c'
    assert [replaced.text[table.start : table.end] for table in replaced.tables] == ["a", '"x" AS "b"', "c"]


def test_each_reference_needs_its_replacement() -> None:
    with pytest.raises(ValueError, match="zip"):
        replace_tables(query("SELECT * FROM a, b"), ["x"])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id, Id, ID, \"id\", 'id' FROM x", 'SELECT "ID", "ID", "ID", "id", \'id\' FROM x'),
        ("SELECT x.id FROM x WHERE name = 'a' -- id", 'SELECT x."ID" FROM x WHERE "Name" = \'a\''),
        ("SELECT id(1), name FROM x", 'SELECT id(1), "Name" FROM x'),
        ("SELECT t.id, ns.t.id FROM ns.t", 'SELECT t."ID", ns.t."ID" FROM ns.t'),
        ("SELECT t.id FROM t JOIN id ON t.id = id.name", 'SELECT t."ID" FROM t JOIN id ON t."ID" = id."Name"'),
        ("SELECT id.x FROM u AS id", 'SELECT "ID".x FROM u AS "ID"'),
        ("SELECT CAST(id AS date), date FROM x", 'SELECT CAST("ID" AS date), "Date" FROM x'),
        ("SELECT TRY_CAST(name AS date), id::date FROM x", 'SELECT TRY_CAST("Name" AS date), "ID"::date FROM x'),
        ("SELECT DATE '2020-01-01', date FROM x", "SELECT DATE '2020-01-01', \"Date\" FROM x"),
        ("SELECT EXTRACT(day FROM date), day FROM x", 'SELECT EXTRACT(day FROM "Date"), "Day" FROM x'),
        ("SELECT INTERVAL '1' day, INTERVAL 1 day, day", "SELECT INTERVAL '1' day, INTERVAL 1 day, \"Day\""),
        ("SELECT 1 ORDER BY first NULLS FIRST", 'SELECT 1 ORDER BY "First" NULLS FIRST'),
        ("SELECT $id, $name FROM x", "SELECT $id, $name FROM x"),
        ("SELECT id AS name FROM x", 'SELECT "ID" AS "Name" FROM x'),
        ("WITH id AS (SELECT 1) SELECT * FROM id", 'WITH "ID" AS (SELECT 1) SELECT * FROM "ID"'),
        ("SELECT (SELECT max(id) FROM y) FROM x", 'SELECT (SELECT max("ID") FROM y) FROM x'),
    ],
)
def test_unquoted_words_become_the_columns_they_stand_for(sql: str, expected: str) -> None:
    parsed = query(sql)
    rewritten = rewrite_identifiers(parsed, NAMES)
    assert rewritten.text == expected
    assert [rewritten.text[table.start : table.end] for table in rewritten.tables] == spelled(parsed)


def test_tables_that_were_replaced_are_not_rewritten() -> None:
    replaced = replace_tables(query("SELECT id, t.id FROM ns.t"), ['id AS "t"'])
    rewritten = rewrite_identifiers(replaced, NAMES)
    assert rewritten.text == 'SELECT "ID", t."ID" FROM id AS "t"'
    assert [rewritten.text[table.start : table.end] for table in rewritten.tables] == ['id AS "t"']


def test_no_names_leave_a_query_alone() -> None:
    parsed = query("SELECT id FROM t")
    assert rewrite_identifiers(parsed, {}) is parsed


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT; SELECT alpha FROM ns.beta WHERE gamma = 1",
        "COMMIT; SELECT alpha, ? FROM ns.beta FOR VERSION AS OF 123 AS delta WHERE gamma = ? AND epsilon = ?",
        "COMMIT; EXPLAIN SELECT alpha FROM (TABLE ns.beta) WHERE gamma IN (?, ?) AND id = epsilon",
    ],
)
def test_places_in_the_query_lead_back_to_the_whole_text(sql: str) -> None:
    parsed = parse_script(sql)[1]
    assert isinstance(parsed, Query)
    replaced = rewrite_identifiers(replace_tables(parsed, ['"a much longer name" AS "beta"']), NAMES)
    for stage in (parsed, replaced):
        for word in ("alpha", "gamma", "epsilon", "delta", "SELECT alpha"):
            if word in sql:
                place = stage.text.index(word)
                assert render_position(stage, place) == sql.index(word)
    inside = replaced.text.index("longer")
    assert 0 <= render_position(replaced, inside) - sql.index("ns.beta") <= len("longer name")
    assert render_position(replaced, len(replaced.text)) == len(sql)


def test_edits_that_overlap_are_an_error() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply_edits(query("SELECT abc"), [Edit(0, 5, "x"), Edit(4, 6, "y")])
