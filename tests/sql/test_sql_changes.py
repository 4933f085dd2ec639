"""Statements that change rows: each form, where their pieces begin and end, and each mistake with its place."""

import pytest
from test_sql_statements import name

from icefusion.errors import ParseError
from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.parser import parse_script, parse_statement
from icefusion.sql.references import render_position
from icefusion.sql.statements import (
    Assignment,
    Change,
    Delete,
    DeleteRow,
    Explain,
    Fragment,
    Identifier,
    Insert,
    InsertRow,
    KeepRow,
    Merge,
    MergeClause,
    OnConflict,
    Overwrite,
    PartitionTerm,
    Query,
    SetRow,
    Statement,
    TableReference,
    TransformTerm,
    Truncate,
    Update,
    fragments_of,
    parameters_of,
)


def word(text: str) -> Identifier:
    return Identifier(text)


def piece(text: str, *parameters: str) -> Fragment:
    return Fragment(text, parameters=parameters)


def table(text: str, *, alias: bool = False) -> Fragment:
    return Fragment(text, (TableReference(name(*text.split(".")), 0, len(text), has_alias=alias),))


def to(path: str, value: str | None, *parameters: str) -> Assignment:
    return Assignment(name(*path.split(".")).parts, None if value is None else piece(value, *parameters))


MERGE = "MERGE INTO t USING u AS s ON a = b "
INSERT = "INSERT INTO t SELECT 1 "


def merge(*clauses: MergeClause) -> Merge:
    return Merge(name("t"), table("u", alias=True), piece("a = b"), clauses, source_alias=word("s"))


def insert(**rest: object) -> Insert:
    return Insert(name("t"), Query("SELECT 1"), **rest)  # type: ignore[arg-type]


CHANGES: dict[str, Statement] = {
    # DELETE
    "DELETE FROM t": Delete(name("t")),
    "delete from a.t x where x.b = 1": Delete(name("a", "t"), word("x"), where=piece("x.b = 1")),
    "DELETE FROM t AS x USING u WHERE a = b RETURNING *": Delete(
        name("t"), word("x"), table("u"), piece("a = b"), piece("*")
    ),
    "DELETE FROM t WHERE a IS DISTINCT FROM 'x' RETURNING t.*, a AS b, a + 1 c": Delete(
        name("t"), where=piece("a IS DISTINCT FROM 'x'"), returning=piece("t.*, a AS b, a + 1 c")
    ),
    "DELETE FROM t RETURNING * EXCEPT (a), b": Delete(name("t"), returning=piece("* EXCEPT (a), b")),
    "DELETE FROM t WHERE a = ? OR extract(day FROM b) IN (?, ?) RETURNING a + ?": Delete(
        name("t"),
        where=piece("a = $1 OR extract(day FROM b) IN ($2, $3)", "1", "2", "3"),
        returning=piece("a + $4", "4"),
    ),
    "DELETE FROM t WHERE CASE WHEN a THEN b ELSE c END": Delete(
        name("t"), where=piece("CASE WHEN a THEN b ELSE c END")
    ),
    "DELETE FROM t WHERE a -- why\n = 1": Delete(name("t"), where=piece("a -- why\n = 1")),
    # TRUNCATE
    "TRUNCATE t": Truncate(name("t")),
    "TRUNCATE TABLE a.t": Truncate(name("a", "t")),
    # UPDATE
    "UPDATE t SET a = 1": Update(name("t"), (to("a", "1"),)),
    "UPDATE t SET a = DEFAULT, b = default": Update(name("t"), (to("a", None), to("b", None))),
    "UPDATE n.t SET t.a = 1, n.t.b = 2, T.c.d = 3, e.f.g = 4": Update(
        name("n", "t"), (to("a", "1"), to("b", "2"), to("c.d", "3"), to("e.f.g", "4"))
    ),
    "UPDATE n.t AS x SET X.a = 1, t.a = 2, x = 3": Update(
        name("n", "t"), (to("a", "1"), to("t.a", "2"), to("x", "3")), word("x")
    ),
    'UPDATE t SET "a b" = 1, "c"."D" = 2': Update(
        name("t"),
        (
            Assignment((Identifier("a b", quoted=True),), piece("1")),
            Assignment((Identifier("c", quoted=True), Identifier("D", quoted=True)), piece("2")),
        ),
    ),
    "UPDATE t SET a = CASE WHEN b THEN 1 ELSE CASE WHEN c THEN 2 END END, d = trim('x' FROM e), f = g[1:2] WHERE h": (
        Update(
            name("t"),
            (
                to("a", "CASE WHEN b THEN 1 ELSE CASE WHEN c THEN 2 END END"),
                to("d", "trim('x' FROM e)"),
                to("f", "g[1:2]"),
            ),
            where=piece("h"),
        )
    ),
    "UPDATE t SET a = b IS NOT DISTINCT FROM c, d = substring(e FROM 2 FOR 3) FROM u WHERE f RETURNING *": Update(
        name("t"),
        (to("a", "b IS NOT DISTINCT FROM c"), to("d", "substring(e FROM 2 FOR 3)")),
        source=table("u"),
        where=piece("f"),
        returning=piece("*"),
    ),
    "UPDATE t SET a = percentile_cont(0.5) WITHIN GROUP (ORDER BY b), c = {'k': 1, 'l': 2}": Update(
        name("t"), (to("a", "percentile_cont(0.5) WITHIN GROUP (ORDER BY b)"), to("c", "{'k': 1, 'l': 2}"))
    ),
    "UPDATE t SET a = TIMESTAMP '2024-01-01' AT TIME ZONE 'UTC', b = INTERVAL '1' DAY": Update(
        name("t"), (to("a", "TIMESTAMP '2024-01-01' AT TIME ZONE 'UTC'"), to("b", "INTERVAL '1' DAY"))
    ),
    "UPDATE t SET (a, b.c) = (1, DEFAULT), (d, e) = ROW(?, f(?, g))": Update(
        name("t"), (to("a", "1"), to("b.c", None), to("d", "$1", "1"), to("e", "f($2, g)", "2"))
    ),
    "UPDATE t SET (a, b) = (SELECT 1, 'x' AS y), c = 2": Update(
        name("t"), (to("a", "(SELECT 1)"), to("b", "(SELECT 'x' AS y)"), to("c", "2"))
    ),
    "UPDATE t SET (a, b, c) = (SELECT ?,[?, 2],?WHERE ? > 1)": Update(
        name("t"),
        (
            to("a", "(SELECT $1 WHERE $4 > 1)", "1", "4"),
            to("b", "(SELECT [$2, 2] WHERE $4 > 1)", "2", "4"),
            to("c", "(SELECT $3 WHERE $4 > 1)", "3", "4"),
        ),
    ),
    "UPDATE t SET (a, b) = (SELECT'x','y')": Update(name("t"), (to("a", "(SELECT'x')"), to("b", "(SELECT 'y')"))),
    "UPDATE t SET (a) = (SELECT 1 LIMIT 1)": Update(name("t"), (to("a", "(SELECT 1 LIMIT 1)"),)),
    "UPDATE t SET (a, b) = (SELECT sum(x) OVER (), x WHERE y)": Update(
        name("t"), (to("a", "(SELECT sum(x) OVER () WHERE y)"), to("b", "(SELECT x WHERE y)"))
    ),
    "UPDATE t SET (a, b) = (SELECT max(x), count(*) HAVING count(*) > 1)": Update(
        name("t"), (to("a", "(SELECT max(x) HAVING count(*) > 1)"), to("b", "(SELECT count(*) HAVING count(*) > 1)"))
    ),
    # MERGE
    MERGE + "WHEN MATCHED THEN DELETE": merge(MergeClause("matched", DeleteRow())),
    MERGE + "WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED BY TARGET THEN DO NOTHING": merge(
        MergeClause("matched", KeepRow()), MergeClause("not_matched", KeepRow())
    ),
    MERGE + "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *": merge(
        MergeClause("matched", SetRow()), MergeClause("not_matched", InsertRow())
    ),
    MERGE
    + "WHEN MATCHED AND CASE WHEN p THEN q END THEN UPDATE SET t.a = s.b, c.d = DEFAULT WHEN MATCHED THEN DELETE": (
        merge(
            MergeClause("matched", SetRow((to("a", "s.b"), to("c.d", None))), piece("CASE WHEN p THEN q END")),
            MergeClause("matched", DeleteRow()),
        )
    ),
    MERGE + "WHEN NOT MATCHED AND s.c > 1 THEN INSERT (a, t.b) VALUES (s.a, DEFAULT)": merge(
        MergeClause("not_matched", InsertRow((word("a"), word("b")), (piece("s.a"), None)), piece("s.c > 1"))
    ),
    MERGE + "WHEN NOT MATCHED THEN INSERT VALUES (1, f(2, 3))": merge(
        MergeClause("not_matched", InsertRow(None, (piece("1"), piece("f(2, 3)"))))
    ),
    MERGE + "WHEN NOT MATCHED BY SOURCE AND ? THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET a = ?": merge(
        MergeClause("not_matched_by_source", DeleteRow(), piece("$1", "1")),
        MergeClause("not_matched_by_source", SetRow((to("a", "$2", "2"),))),
    ),
    "merge into n.t as x using n.u on x.a = case when b then 1 end when matched then delete returning x.*": Merge(
        name("n", "t"),
        table("n.u"),
        piece("x.a = case when b then 1 end"),
        (MergeClause("matched", DeleteRow()),),
        word("x"),
        returning=piece("x.*"),
    ),
    "MERGE INTO t x USING (VALUES (?, 2)) s (a, b) ON x.a = s.a WHEN NOT MATCHED THEN INSERT *": Merge(
        name("t"),
        piece("(VALUES ($1, 2))", "1"),
        piece("x.a = s.a"),
        (MergeClause("not_matched", InsertRow()),),
        word("x"),
        word("s"),
        (word("a"), word("b")),
    ),
    "MERGE INTO t USING (SELECT 1 AS a) ON true WHEN MATCHED THEN DELETE": Merge(
        name("t"), piece("(SELECT 1 AS a)"), piece("true"), (MergeClause("matched", DeleteRow()),)
    ),
    # INSERT
    "INSERT OVERWRITE t SELECT 1": insert(overwrite=Overwrite()),
    "INSERT OVERWRITE INTO TABLE t SELECT 1": insert(overwrite=Overwrite()),
    "INSERT OVERWRITE TABLE n.t (a) SELECT 1": Insert(name("n", "t"), Query("SELECT 1"), (word("a"),), Overwrite()),
    "INSERT OVERWRITE t PARTITION (d = 'x', e, day(ts), bucket(16, id) = 1 + 2, f_day = DATE '2024-01-01') SELECT 1": (
        insert(
            overwrite=Overwrite(
                (
                    PartitionTerm(TransformTerm("identity", (word("d"),)), piece("'x'")),
                    PartitionTerm(TransformTerm("identity", (word("e"),))),
                    PartitionTerm(TransformTerm("day", (word("ts"),))),
                    PartitionTerm(TransformTerm("bucket", (word("id"),), 16), piece("1 + 2")),
                    PartitionTerm(TransformTerm("identity", (word("f_day"),)), piece("DATE '2024-01-01'")),
                )
            )
        )
    ),
    "INSERT OVERWRITE t PARTITION (d = ?) (a) VALUES (?) RETURNING ?": Insert(
        name("t"),
        Query("VALUES ($2)", parameters=("2",)),
        (word("a"),),
        Overwrite((PartitionTerm(TransformTerm("identity", (word("d"),)), piece("$1", "1")),)),
        returning=piece("$3", "3"),
    ),
    "INSERT INTO t REPLACE WHERE a = 1 AND b IN (SELECT 2) SELECT 1": insert(
        overwrite=Overwrite(where=piece("a = 1 AND b IN (SELECT 2)"))
    ),
    "INSERT INTO t (a) REPLACE WHERE a IS NOT DISTINCT FROM ? VALUES (?)": Insert(
        name("t"),
        Query("VALUES ($2)", parameters=("2",)),
        (word("a"),),
        Overwrite(where=piece("a IS NOT DISTINCT FROM $1", "1")),
    ),
    "INSERT INTO t REPLACE WHERE d = 'x' (SELECT 1)": Insert(
        name("t"), Query("(SELECT 1)"), overwrite=Overwrite(where=piece("d = 'x'"))
    ),
    "INSERT INTO t REPLACE WHERE true ((SELECT 1) UNION (SELECT 2))": Insert(
        name("t"), Query("((SELECT 1) UNION (SELECT 2))"), overwrite=Overwrite(where=piece("true"))
    ),
    "INSERT INTO t REPLACE WHERE EXISTS (SELECT 1) AND (a) WITH x AS (SELECT 1) SELECT * FROM x": Insert(
        name("t"),
        Query("WITH x AS (SELECT 1) SELECT * FROM x"),
        overwrite=Overwrite(where=piece("EXISTS (SELECT 1) AND (a)")),
    ),
    "INSERT INTO t REPLACE WHERE a = b::timestamp WITH TIME ZONE FROM generate_series(1, 2)": Insert(
        name("t"),
        Query("SELECT * FROM generate_series(1, 2)"),
        overwrite=Overwrite(where=piece("a = b::timestamp WITH TIME ZONE")),
    ),
    INSERT + "ON CONFLICT (a) DO NOTHING": insert(conflict=OnConflict((word("a"),))),
    INSERT + "ON CONFLICT (a, b) DO UPDATE SET c = excluded.c, t.d = ? WHERE t.d < ? RETURNING *": insert(
        conflict=OnConflict(
            (word("a"), word("b")), (to("c", "excluded.c"), to("d", "$1", "1")), piece("t.d < $2", "2")
        ),
        returning=piece("*"),
    ),
    INSERT + "RETURNING a, b AS c": insert(returning=piece("a, b AS c")),
    "INSERT INTO t (SELECT 1) ON CONFLICT (a) DO NOTHING": Insert(
        name("t"), Query("(SELECT 1)"), conflict=OnConflict((word("a"),))
    ),
    # EXPLAIN
    "EXPLAIN DELETE FROM t": Explain(Delete(name("t"))),
    "EXPLAIN VERBOSE TRUNCATE t": Explain(Truncate(name("t"))),
    "EXPLAIN (VERBOSE) INSERT INTO t SELECT 1": Explain(insert()),
    "EXPLAIN UPDATE t SET a = 1": Explain(Update(name("t"), (to("a", "1"),))),
    "EXPLAIN " + MERGE + "WHEN MATCHED THEN DELETE": Explain(merge(MergeClause("matched", DeleteRow()))),
}


@pytest.mark.parametrize(("sql", "statement"), CHANGES.items(), ids=CHANGES)
def test_a_change_is_read_from_its_text(sql: str, statement: Statement) -> None:
    assert parse_statement(sql) == statement


def test_a_script_of_all_of_them_is_read_the_same() -> None:
    assert parse_script(";\n".join(CHANGES)) == tuple(CHANGES.values())


# Change -> the tables that its pieces read, piece by piece.
READING = {
    "DELETE FROM t USING n.u AS v, (SELECT 1) w, x WHERE a IN (SELECT b FROM y JOIN n.z ON TRUE)": [
        ["n.u", "x"],
        ["y", "n.z"],
    ],
    "UPDATE t SET a = (SELECT max(b) FROM u), c = 1 FROM v JOIN w ON v.a = w.a WHERE EXISTS (TABLE x)": [
        ["u"],
        [],
        ["v", "w"],
        ["x"],
    ],
    "UPDATE t SET (a, b) = (SELECT (SELECT x FROM p), (SELECT y FROM q) FROM r WHERE EXISTS (FROM s))": [
        ["p", "r", "s"],
        ["q", "r", "s"],
    ],
    "UPDATE t SET (a, b) = (WITH w AS (SELECT * FROM u) SELECT x, y FROM w ORDER BY z LIMIT 1) FROM v": [
        ["u"],
        ["u"],
        ["v"],
    ],
    "MERGE INTO t USING (SELECT * FROM u, v) s ON a IN (SELECT a FROM w) WHEN MATCHED AND EXISTS (FROM x) THEN DELETE "
    "WHEN NOT MATCHED THEN INSERT VALUES ((SELECT 1 FROM y), DEFAULT) RETURNING (SELECT 1 FROM z)": [
        ["u", "v"],
        ["w"],
        ["x"],
        ["y"],
        ["z"],
    ],
    "INSERT INTO t REPLACE WHERE a IN (SELECT a FROM u) SELECT * FROM v RETURNING (SELECT 1 FROM w)": [
        ["u"],
        ["v"],
        ["w"],
    ],
    INSERT + "FROM u ON CONFLICT (a) DO UPDATE SET b = (SELECT 1 FROM v) WHERE EXISTS (FROM w)": [["u"], ["v"], ["w"]],
    "WITH x AS (SELECT 1) SELECT * FROM x, y": [["y"]],
    "CREATE TABLE t AS SELECT * FROM u": [["u"]],
    "EXPLAIN DELETE FROM t USING u": [["u"]],
}


@pytest.mark.parametrize(("sql", "tables"), READING.items(), ids=READING)
def test_the_tables_of_each_piece_are_found(sql: str, tables: list[list[str]]) -> None:
    pieces = fragments_of(parse_statement(sql))
    assert [[str(table.name) for table in piece.tables] for piece in pieces] == tables
    for fragment in pieces:
        for reference in fragment.tables:
            assert fragment.text[reference.start : reference.end] == str(reference.name)


@pytest.mark.parametrize("sql", [*CHANGES, *READING])
def test_pieces_are_verbatim_and_lead_back_to_the_whole_text(sql: str) -> None:
    statement = parse_script("SELECT 'ü';\n" + sql)[1]
    for fragment in fragments_of(statement):
        whole = fragment.sql
        if not fragment.shifts:
            assert whole[fragment.offset :].startswith(fragment.text)
        for token in tokenize(fragment.text)[:-1]:
            at = render_position(fragment, token.start)
            if token.kind is Kind.PARAMETER and whole[at] == "?":
                continue
            if token.text in ("SELECT", "*", "FROM") and whole[at:].startswith(("TABLE x", "FROM", " x")):
                continue  # the short forms are written out
            assert whole[at:].startswith(token.text)


@pytest.mark.parametrize(
    ("sql", "source", "version", "has_alias"),
    [
        ("USING n.u FOR VERSION AS OF 5 AS s", "n.u", 5, True),
        ("USING n.u VERSION AS OF 'x' s", "n.u", "x", True),
        ("USING n.u FOR VERSION AS OF 5", "n.u", 5, False),
        ("USING (SELECT * FROM n.u FOR VERSION AS OF 5)", "(SELECT * FROM n.u)", 5, False),
        ("USING n.u version", "n.u", None, True),
    ],
)
def test_the_source_of_a_merge_can_be_at_a_version(
    sql: str, source: str, version: int | str | None, has_alias: bool
) -> None:
    statement = parse_statement(f"MERGE INTO t {sql} ON a = b WHEN MATCHED THEN DELETE")
    assert isinstance(statement, Merge)
    assert statement.source.text == source
    (reference,) = statement.source.tables
    assert (reference.version and reference.version.version) == version
    assert reference.has_alias is has_alias


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("UPDATE t SET a = ?, b = 1 FROM (SELECT ?) u WHERE c = ? RETURNING ?", ("1", "2", "3", "4")),
        ("UPDATE t SET (a, b) = (SELECT ?, ? WHERE ?) WHERE ?", ("1", "2", "3", "4")),
        ("DELETE FROM t WHERE a = $b AND c = $a RETURNING $b, $d", ("b", "a", "d")),
        ("DELETE FROM t WHERE a = $2 AND c = $1", ("1", "2")),
        ("EXPLAIN INSERT INTO t SELECT $1 RETURNING $x", ("1", "x")),
        ("INSERT OVERWRITE t PARTITION (a = ?, b) VALUES (?) RETURNING ?", ("1", "2", "3")),
        (INSERT + "ON CONFLICT (a) DO UPDATE SET b = ? WHERE c = ?", ("1", "2")),
        ("MERGE INTO t USING (SELECT ?) s ON ? WHEN NOT MATCHED AND ? THEN INSERT VALUES (?, 1, ?)", tuple("12345")),
        ("TRUNCATE t", ()),
        ("COMMIT", ()),
    ],
)
def test_parameters_are_counted_through_all_pieces(sql: str, names: tuple[str, ...]) -> None:
    statement = parse_statement(sql)
    assert parameters_of(statement) == names
    assert {name for fragment in fragments_of(statement) for name in fragment.parameters} == set(names)


def test_offsets_refer_to_the_whole_script() -> None:
    script = f"COMMIT;\nUPDATE n.t SET x = 1, (y, z) = (2, 3);\n{MERGE}WHEN MATCHED THEN DELETE"
    _, update, change = parse_script(script)
    assert isinstance(update, Update)
    assert isinstance(change, Merge)
    assert script[update.table.offset :].startswith("n.t SET")
    assert [script[assignment.offset] for assignment in update.assignments] == ["x", "y", "z"]
    assert script[change.clauses[0].offset :] == "WHEN MATCHED THEN DELETE"


MATCHED = MERGE + "WHEN MATCHED "
ABSENT = MERGE + "WHEN NOT MATCHED "
# A mistake, marked by ^ in front of its place, the message and the hint.
MISTAKES = [
    ("DELETE ^t WHERE a = 1", "expected FROM behind DELETE, found t", "USING u"),
    ("DELETE ^", "expected FROM behind DELETE", None),
    ("DELETE ^t FROM t JOIN u", "expected FROM", "USING u"),
    ("DELETE FROM ^", "expected the name of a table, the statement ends", None),
    ("DELETE FROM ^WHERE a = 1", "expected the name of a table, found WHERE", "quote it"),
    ("DELETE FROM t WHERE ^", "expected a condition, the statement ends", None),
    ("DELETE FROM t WHERE ^WHERE a", "expected a condition, found WHERE", None),
    ("DELETE FROM t WHERE a = ^", "expected an operand, the statement ends", None),
    ("DELETE FROM t WHERE a AND ^", "expected an operand", None),
    ("DELETE FROM t WHERE a = 1 ^GROUP BY a", "expected RETURNING or the end of the statement, found GROUP", None),
    ("DELETE FROM t WHERE a = 1 ^UNION SELECT 1", "found UNION", None),
    ("DELETE FROM t WHERE a = 1 ^HAVING b", "found HAVING", None),
    ("DELETE FROM t WHERE a = 1 ^WHERE b = 2", "found WHERE", None),
    ("DELETE FROM t WHERE a = 1 ^USING u", "found USING", None),
    ("DELETE FROM t WHERE a = 1^, b", "found ,", None),
    ("DELETE FROM t WHERE a = 1^) OR (b", "found )", None),
    ("DELETE FROM t WHERE a = 1 ^|> LIMIT 1", "found |", None),
    ("DELETE FROM t WHERE ^(a = 1", "never closed", None),
    ("DELETE FROM t WHERE (a = 1^]", "expected ')', found ]", None),
    ("DELETE FROM t WHERE a = ^SELECT 1", "a query cannot stand here", "(SELECT ...)"),
    ("DELETE FROM t WHERE ^SELECT 1", "a query cannot stand here", "(SELECT ...)"),
    ("DELETE FROM t WHERE a = ^CASE WHEN b THEN 1", "this CASE has no END", "END"),
    ("DELETE FROM t WHERE a = ^:id", ":id is no parameter", "$id"),
    ("DELETE FROM t WHERE ^:id", ":id is no parameter", "$id"),
    ("DELETE FROM t WHERE a = ? RETURNING ^$1", "written as ? and as $1", "one style"),
    ("DELETE FROM t USING ^", "expected a table, the statement ends", None),
    ("DELETE FROM t USING ^WHERE a", "expected a table, found WHERE", None),
    ("DELETE FROM t USING u, ^WHERE a", "expected a table, found WHERE", None),
    ("DELETE FROM t USING u JOIN ^WHERE a", "expected a table, found WHERE", None),
    ("DELETE FROM t USING u ^GROUP BY a", "found GROUP", None),
    ("DELETE FROM t USING u ^FOR UPDATE", "found FOR", None),
    (
        "DELETE FROM t WERE ^a = 1",
        "expected USING, WHERE, RETURNING or the end of the statement, found a",
        "mean WHERE?",
    ),
    ("UPDATE t STE ^a = 1", "expected SET, found a", "did you mean SET?"),
    ("DELETE FROM t RETURNING ^", "expected * or the expressions to return", None),
    ("DELETE FROM t RETURNING ^DISTINCT a", "expected * or the expressions to return", None),
    ("DELETE FROM t RETURNING a, ^", "expected an operand", None),
    ("DELETE FROM t RETURNING a ^FROM u", "expected the end of the statement, found FROM", None),
    ("DELETE FROM t RETURNING a ^INTO u", "found INTO", None),
    ("DELETE FROM t AS ^WHERE a", "expected an alias, found WHERE", None),
    ("UPDATE ^", "expected the name of a table", None),
    ("UPDATE t ^", "expected an alias or SET", None),
    ("UPDATE t x ^", "expected SET", None),
    ("UPDATE t ^FROM u SET a = 1", "FROM stands behind the SET list", None),
    ("UPDATE t SET ^", "expected a column to set", None),
    ("UPDATE t SET ^WHERE a", "expected a column to set, found WHERE", None),
    ("UPDATE t SET a = 1, ^WHERE b", "expected a column to set, found WHERE", None),
    ("UPDATE t SET a ^1", "expected '=' and the value of a, found 1", None),
    ("UPDATE t SET a = ^", "expected an expression or DEFAULT", None),
    ("UPDATE t SET a = ^, b = 1", "expected an expression or DEFAULT, found ,", None),
    ("UPDATE t SET a = ^WHERE b", "expected an expression or DEFAULT, found WHERE", None),
    ("UPDATE t SET a ^+= 1", "+= does not set a column", "write a = a + ..."),
    ("UPDATE t SET a ^:= 1", ":= does not set a column", "write a = ..."),
    ("UPDATE t SET a = 1 ^AS b", "found AS", None),
    ("UPDATE t SET a = 1, ^A = 2", "A is set twice", "once"),
    ('UPDATE t SET a = 1, b = 2, ^"a" = 3', '"a" is set twice', "once"),
    ("UPDATE t SET (a, ^t.a) = (1, 2)", "a is set twice", "once"),
    ("UPDATE t SET s = 1, ^s.f = 2", "s is set, and s.f in it too", "once"),
    ("UPDATE t SET s.f = 1, ^s = 2", "s is set, and a part of it too", "once"),
    ("UPDATE t SET s.f.g = 1, ^s.f = 2", "s.f is set, and a part of it too", "once"),
    ("UPDATE t SET ^(a, b) = (1, 2, 3)", "2 columns cannot be set to 3 values", None),
    ("UPDATE t SET (a, b) = (^SELECT 1)", "the SELECT has 1 column, and 2 are set", None),
    ("UPDATE t SET (a, b) = (^SELECT 1, 2, 3 FROM u LIMIT 1)", "the SELECT has 3 columns, and 2 are set", None),
    ("UPDATE t SET (a, b) = ^1", "expected '(' and the values or a SELECT", None),
    ("UPDATE t SET (a, b) = ^(SELECT 1, 2", "never closed", None),
    ("UPDATE t SET (a, b) = (SELECT 1, ^FROM u)", "expected a column, found FROM", None),
    ("UPDATE t SET (a ^b) = (1, 2)", "expected ',' or ')', found b", None),
    ("UPDATE t SET a = 1 FROM ^", "expected a table", None),
    ("UPDATE t SET a = 1 WHERE b ^FROM u", "expected RETURNING or the end of the statement, found FROM", None),
    ("TRUNCATE ^", "expected the name of a table", None),
    ("TRUNCATE t ^x", "expected the end of the statement, found x", None),
    ("MERGE ^t USING u", "expected INTO behind MERGE", None),
    ("MERGE INTO t ^ON a = b", "expected an alias, or USING and the source", None),
    ("MERGE INTO t USING ^SELECT 1 AS s ON a", "the source: a table or a query in parentheses", "USING (SELECT"),
    ("MERGE INTO t USING ^1 ON a", "the source: a table or a query in parentheses", None),
    ("MERGE INTO t USING read_parquet('a', ^'b') ON a = b WHEN MATCHED THEN DELETE", "expected an option", "in a list"),
    ("MERGE INTO t USING ^(SELECT 1 ON a", "never closed", None),
    ("MERGE INTO t USING (^) ON a", "expected a table", None),
    ("MERGE INTO t USING u ^WHEN MATCHED THEN DELETE", "expected an alias, or ON and the condition", None),
    ("MERGE INTO t USING u s ^WHEN MATCHED THEN DELETE", "expected ON and the condition", None),
    ("MERGE INTO t USING u s (^) ON a", "expected a name for a column of the source", None),
    ("MERGE INTO t USING u ON ^WHEN MATCHED THEN DELETE", "expected the condition, found WHEN", None),
    ("MERGE INTO t USING u ON a = ^WHEN MATCHED THEN DELETE", "expected an operand, found WHEN", None),
    ("MERGE INTO t USING u ON a = ^CASE WHEN MATCHED THEN DELETE", "this CASE has no END", None),
    ("MERGE INTO t USING u ON a = b^", "expected WHEN [NOT] MATCHED ... THEN, the statement ends", None),
    ("MERGE INTO t USING u ON a = b ^RETURNING *", "expected WHEN [NOT] MATCHED", None),
    (MERGE + "WHEN ^THEN DELETE", "expected MATCHED or NOT MATCHED behind WHEN", None),
    (MATCHED + "^BY SOURCE THEN DELETE", "expected AND or THEN, found BY", "NOT MATCHED BY SOURCE"),
    (MATCHED + "^DELETE", "expected AND or THEN, found DELETE", None),
    (MATCHED + "AND ^THEN DELETE", "expected a condition, found THEN", None),
    (MATCHED + "AND a ^WHEN b", "expected THEN, found WHEN", None),
    (MATCHED + "THEN ^", "expected UPDATE SET, DELETE or DO NOTHING", None),
    (MATCHED + "THEN ^INSERT *", "WHEN MATCHED cannot INSERT; expected UPDATE SET", "WHEN NOT MATCHED inserts"),
    (MATCHED + "THEN UPDATE ^*", "expected SET", "UPDATE SET *"),
    (MATCHED + "THEN UPDATE ^a = 1", "expected SET behind UPDATE", None),
    (MATCHED + "THEN UPDATE SET a = 1, ^WHEN MATCHED THEN DELETE", "expected a column to set, found WHEN", None),
    (MATCHED + "THEN DELETE ^x", "expected WHEN, RETURNING or the end of the statement, found x", None),
    (MATCHED + "THEN DELETE ^WHEN MATCHED THEN DELETE", "this clause is never reached: a WHEN MATCHED", "AND ... THEN"),
    (
        MATCHED + "AND a THEN DELETE WHEN MATCHED THEN DO NOTHING ^WHEN MATCHED AND b THEN DELETE",
        "this clause is never reached",
        "put it first",
    ),
    (ABSENT + "THEN INSERT * ^WHEN NOT MATCHED BY TARGET AND a THEN DO NOTHING", "never reached", None),
    (ABSENT + "BY ^x THEN INSERT *", "expected SOURCE or TARGET behind BY", None),
    (ABSENT + "THEN ^UPDATE SET *", "WHEN NOT MATCHED cannot UPDATE; expected INSERT", "not in the table yet"),
    (ABSENT + "THEN ^DELETE", "WHEN NOT MATCHED cannot DELETE", "not in the table yet"),
    (ABSENT + "BY SOURCE THEN ^INSERT *", "WHEN NOT MATCHED BY SOURCE cannot INSERT", "already"),
    (ABSENT + "BY SOURCE THEN UPDATE SET ^*", "BY SOURCE cannot UPDATE SET *", "one by one"),
    (ABSENT + "THEN INSERT ^INTO t VALUES (1)", "expected '*', (columns) or VALUES", "that of the MERGE"),
    (ABSENT + "THEN INSERT (a) ^SELECT 1", "expected VALUES, found SELECT", "VALUES (...)"),
    (ABSENT + "THEN INSERT (a, b) VALUES ^(1)", "there are 2 columns and 1 values", "one value for each"),
    (ABSENT + "THEN INSERT (a) VALUES (1)^, (2)", "one row is inserted", None),
    (ABSENT + "THEN INSERT VALUES (^)", "expected an expression or DEFAULT, found )", None),
    (ABSENT + "THEN INSERT VALUES (1 ^", "expected ',' or ')'", None),
    (INSERT + "ON CONFLICT ^DO NOTHING", "the columns by which rows are the same", "ON CONFLICT (id) DO NOTHING"),
    (INSERT + "ON CONFLICT (^) DO NOTHING", "expected a column name", None),
    (INSERT + "ON CONFLICT (a, ^A) DO NOTHING", "A is given twice", None),
    (INSERT + "ON CONFLICT (a) ^UPDATE SET a = 1", "expected DO NOTHING or DO UPDATE SET", None),
    (INSERT + "ON CONFLICT (a) DO UPDATE SET ^", "expected a column to set", None),
    (INSERT + "ON CONFLICT (a) DO NOTHING ^WHERE a", "expected RETURNING or the end of the statement", None),
    (INSERT + "RETURNING ^", "expected * or the expressions to return", None),
    ("INSERT OVERWRITE t SELECT 1 ^ON CONFLICT (a) DO NOTHING", "nothing to conflict with", None),
    ("INSERT OVERWRITE t ^REPLACE WHERE a SELECT 1", "two ways to replace rows", "INSERT INTO t REPLACE WHERE"),
    ("INSERT OVERWRITE t (a) ^PARTITION (d = 1) SELECT 1", "PARTITION stands before the columns", None),
    ("INSERT OVERWRITE t PARTITION (^) SELECT 1", "expected a column or a transform", None),
    ("INSERT OVERWRITE t PARTITION (d ^> 1) SELECT 1", "expected '=', ',' or ')', found >", "REPLACE WHERE"),
    ("INSERT OVERWRITE t PARTITION (d = ^) SELECT 1", "expected a value", None),
    ("INSERT OVERWRITE t PARTITION (d = 1, ^D = 2) SELECT 1", "D is given twice", None),
    ("INSERT OVERWRITE t PARTITION (^weeks(d)) SELECT 1", "there is no transform weeks", None),
    ("INSERT INTO t REPLACE ^a = 1 SELECT 1", "expected WHERE behind REPLACE", None),
    ("INSERT INTO t REPLACE WHERE ^SELECT 1", "expected a condition, found SELECT", None),
    ("INSERT INTO t REPLACE WHERE a = ^SELECT 1", "expected an operand, found SELECT", None),
    ("INSERT INTO t REPLACE WHERE a = 1^", "expected VALUES, SELECT or another query behind the condition", None),
    ("EXPLAIN UPDATE ^SET a = 1", "expected the name of a table", None),
]


@pytest.mark.parametrize(("marked", "message", "hint"), MISTAKES, ids=[marked for marked, _, _ in MISTAKES])
def test_a_mistake_is_told_with_its_place(marked: str, message: str, hint: str | None) -> None:
    offset = len(marked[:-1].rstrip()) if marked.endswith("^") else marked.index("^")
    with pytest.raises(ParseError) as caught:
        parse_script("COMMIT;\n" + marked.replace("^", "", 1) + ";")
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")
    assert (caught.value.line, caught.value.column) == (2, offset + 1)


def test_a_query_with_nothing_behind_it_takes_all_of_the_text() -> None:
    statement = parse_statement("INSERT INTO t SELECT a AS returning, b FROM u ORDER BY returning")
    assert isinstance(statement, Insert)
    assert statement.query.text == "SELECT a AS returning, b FROM u ORDER BY returning"


def changes() -> list[Change]:
    statements = (parse_statement(sql) for sql in CHANGES)
    return [statement.change if isinstance(statement, Explain) else statement for statement in statements]  # type: ignore[misc]


def test_each_kind_of_change_is_among_the_forms() -> None:
    assert {type(change) for change in changes()} == {Delete, Truncate, Update, Merge, Insert}
