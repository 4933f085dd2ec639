"""ALTER TABLE and COMMENT ON: each action in each spelling, lists of them, and mistakes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefusion.errors import ParseError
from icefusion.sql.alterations import (
    AddColumn,
    AddPartitionField,
    Alteration,
    DropColumn,
    DropPartitionField,
    DropRef,
    MoveColumn,
    Place,
    RenameColumn,
    ReplacePartitionField,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetIdentifierFields,
    SetLocation,
    SetOrdering,
    SetProperties,
    SetRef,
    SetRequired,
    UnsetProperties,
)
from icefusion.sql.parser import parse_script, parse_statement
from icefusion.sql.statements import AlterTable, Identifier, Name, RenameTable, SortTerm, TransformTerm, TypeText

DAY_MS = 86_400_000


def word(text: str) -> Identifier:
    return Identifier(text[1:-1], quoted=True) if text.startswith('"') else Identifier(text)


def path(text: str) -> tuple[Identifier, ...]:
    return tuple(word(part) for part in text.split("."))


def term(
    column: str, transform: str = "identity", argument: int | None = None, alias: str | None = None
) -> TransformTerm:
    return TransformTerm(transform, path(column), argument, alias)


INT, BIGINT, STRING = TypeText("int"), TypeText("bigint"), TypeText("string")
MODE = "write.distribution-mode"
BY_DAY = term("ts", "day")

ACTIONS: dict[str, tuple[Alteration, ...]] = {
    "ADD COLUMN a int": (AddColumn(path("a"), INT),),
    "add a int": (AddColumn(path("a"), INT),),
    'ADD "Unit Price" decimal(10, 2)': (AddColumn(path('"Unit Price"'), TypeText("decimal", (10, 2))),),
    "ADD COLUMN IF NOT EXISTS a.b int": (AddColumn(path("a.b"), INT, if_not_exists=True),),
    "ADD COLUMN m.value.x int NOT NULL": (AddColumn(path("m.value.x"), INT, required=True),),
    "ADD COLUMN a int NULL DEFAULT 1 + (2) COMMENT 'it''s' FIRST": (
        AddColumn(path("a"), INT, default="1 + (2)", comment="it's", place=Place("first")),
    ),
    "ADD COLUMN a int AFTER b NOT NULL": (AddColumn(path("a"), INT, required=True, place=Place("after", word("b"))),),
    'ADD COLUMN a int DEFAULT first(1) BEFORE "B"': (
        AddColumn(path("a"), INT, default="first(1)", place=Place("before", word('"B"'))),
    ),
    "ADD COLUMNS (a int, b.c string COMMENT 'x' FIRST)": (
        AddColumn(path("a"), INT),
        AddColumn(path("b.c"), STRING, comment="x", place=Place("first")),
    ),
    "ADD COLUMNS a int, b string": (AddColumn(path("a"), INT), AddColumn(path("b"), STRING)),
    "ADD (a int)": (AddColumn(path("a"), INT),),
    "ADD COLUMN a struct<b: int COMMENT 'x'>": (
        AddColumn(path("a"), TypeText("struct", (), (INT,), ("b",), (False,), child_comments=("x",))),
    ),
    "ADD COLUMN partition string": (AddColumn(path("partition"), STRING),),
    "DROP COLUMN a": (DropColumn(path("a")),),
    "DROP a.b.element RESTRICT": (DropColumn(path("a.b.element")),),
    "DROP COLUMN IF EXISTS a": (DropColumn(path("a"), if_exists=True),),
    "DROP COLUMNS (a, b.c)": (DropColumn(path("a")), DropColumn(path("b.c"))),
    "DROP COLUMNS a, b": (DropColumn(path("a")), DropColumn(path("b"))),
    "DROP COLUMN a, add, tag": (DropColumn(path("a")), DropColumn(path("add")), DropColumn(path("tag"))),
    "DROP tag": (DropColumn(path("tag")),),
    "RENAME COLUMN a TO b": (RenameColumn(path("a"), word("b")),),
    'RENAME a.b TO "C d"': (RenameColumn(path("a.b"), word('"C d"')),),
    "RENAME to TO b": (RenameColumn(path("to"), word("b")),),
    "ALTER COLUMN a TYPE bigint": (SetColumnType(path("a"), BIGINT),),
    "ALTER a SET DATA TYPE bigint": (SetColumnType(path("a"), BIGINT),),
    "CHANGE COLUMN a.element TYPE bigint": (SetColumnType(path("a.element"), BIGINT),),
    "ALTER COLUMN a SET NOT NULL": (SetRequired(path("a"), True),),
    "ALTER COLUMN a DROP NOT NULL": (SetRequired(path("a"), False),),
    "ALTER COLUMN a COMMENT 'x'": (SetColumnComment(path("a"), "x"),),
    "ALTER COLUMN a COMMENT NULL": (SetColumnComment(path("a"), None),),
    "ALTER COLUMN a SET DEFAULT now() - 1": (SetColumnDefault(path("a"), "now() - 1"),),
    "ALTER COLUMN a SET DEFAULT NULL": (SetColumnDefault(path("a"), "NULL"),),
    "ALTER COLUMN a DROP DEFAULT": (SetColumnDefault(path("a"), None),),
    "ALTER COLUMN a FIRST": (MoveColumn(path("a"), Place("first")),),
    "ALTER COLUMN m.key.a AFTER b": (MoveColumn(path("m.key.a"), Place("after", word("b"))),),
    "CHANGE a BEFORE b": (MoveColumn(path("a"), Place("before", word("b"))),),
    "ALTER COLUMN a TYPE bigint COMMENT 'x' AFTER b": (
        SetColumnType(path("a"), BIGINT),
        SetColumnComment(path("a"), "x"),
        MoveColumn(path("a"), Place("after", word("b"))),
    ),
    "ALTER COLUMN a SET DEFAULT 1 SET NOT NULL FIRST, b TYPE int": (
        SetColumnDefault(path("a"), "1"),
        SetRequired(path("a"), True),
        MoveColumn(path("a"), Place("first")),
        SetColumnType(path("b"), INT),
    ),
    "ADD PARTITION FIELD day(ts)": (AddPartitionField(BY_DAY),),
    "ADD PARTITION FIELD bucket(16, a.b) AS shard": (AddPartitionField(term("a.b", "bucket", 16, "shard")),),
    "DROP PARTITION FIELD shard": (DropPartitionField(term("shard")),),
    "DROP PARTITION FIELD days(ts)": (DropPartitionField(BY_DAY),),
    "REPLACE PARTITION FIELD day(ts) WITH hour(ts) AS h": (
        ReplacePartitionField(BY_DAY, term("ts", "hour", alias="h")),
    ),
    "WRITE ORDERED BY a, bucket(4, b) DESC": (
        SetOrdering((SortTerm(term("a")), SortTerm(term("b", "bucket", 4), "desc", "last"))),
        SetProperties(((MODE, "range"),)),
    ),
    "WRITE ORDERED BY (a NULLS LAST)": (
        SetOrdering((SortTerm(term("a"), nulls="last"),)),
        SetProperties(((MODE, "range"),)),
    ),
    "WRITE LOCALLY ORDERED BY a": (SetOrdering((SortTerm(term("a")),)),),
    "WRITE UNORDERED": (SetOrdering(), SetProperties(((MODE, "none"),))),
    "WRITE DISTRIBUTED BY PARTITION": (SetOrdering(), SetProperties(((MODE, "hash"),))),
    "WRITE DISTRIBUTED BY PARTITION UNORDERED": (SetOrdering(), SetProperties(((MODE, "hash"),))),
    "WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY a": (
        SetOrdering((SortTerm(term("a")),)),
        SetProperties(((MODE, "hash"),)),
    ),
    "WRITE ORDERED BY a DISTRIBUTED BY PARTITION": (
        SetOrdering((SortTerm(term("a")),)),
        SetProperties(((MODE, "hash"),)),
    ),
    "SET TBLPROPERTIES ('a' = 'b', c.d = 1)": (SetProperties((("a", "b"), ("c.d", "1"))),),
    "SET PROPERTIES a = 1, b = 'x'": (SetProperties((("a", "1"), ("b", "x"))),),
    "SET PROPERTIES a = 1, set = 2, b = DEFAULT": (
        SetProperties((("a", "1"), ("set", "2"))),
        UnsetProperties(("b",), if_exists=True),
    ),
    "SET ('a' = true)": (SetProperties((("a", "true"),)),),
    "UNSET TBLPROPERTIES ('a', b.c)": (UnsetProperties(("a", "b.c")),),
    "UNSET TBLPROPERTIES IF EXISTS (a)": (UnsetProperties(("a",), if_exists=True),),
    "RESET (a)": (UnsetProperties(("a",), if_exists=True),),
    "SET LOCATION 's3://b/t'": (SetLocation("s3://b/t"),),
    "SET IDENTIFIER FIELDS a, b.c": (SetIdentifierFields((path("a"), path("b.c"))),),
    "DROP IDENTIFIER FIELDS (a)": (SetIdentifierFields((path("a"),), drop=True),),
    "ADD PRIMARY KEY (a, b.c) NOT ENFORCED": (SetIdentifierFields((path("a"), path("b.c"))),),
    "ADD CONSTRAINT k PRIMARY KEY (a) NOT ENFORCED": (SetIdentifierFields((path("a"),)),),
    "DROP PRIMARY KEY": (SetIdentifierFields(()),),
    "CREATE BRANCH b": (SetRef("branch", word("b")),),
    "CREATE OR REPLACE TAG t AS OF VERSION 12": (SetRef("tag", word("t"), 12, replace=True),),
    "CREATE BRANCH IF NOT EXISTS b AS OF VERSION 'other'": (SetRef("branch", word("b"), "other", if_not_exists=True),),
    'CREATE TAG "T 1" RETAIN 180 DAYS': (SetRef("tag", word('"T 1"'), retain_ms=180 * DAY_MS),),
    "CREATE BRANCH b AS OF VERSION 1 RETAIN 1 DAY WITH SNAPSHOT RETENTION 3 SNAPSHOTS 4 HOURS": (
        SetRef("branch", word("b"), 1, retain_ms=DAY_MS, snapshot_retain_ms=4 * 3_600_000, min_snapshots_to_keep=3),
    ),
    "CREATE BRANCH b WITH SNAPSHOT RETENTION 2 SNAPSHOTS": (SetRef("branch", word("b"), min_snapshots_to_keep=2),),
    "CREATE BRANCH b WITH SNAPSHOT RETENTION 90 minutes": (SetRef("branch", word("b"), snapshot_retain_ms=5_400_000),),
    "REPLACE BRANCH b AS OF VERSION 1": (SetRef("branch", word("b"), 1, create=False, replace=True),),
    "REPLACE TAG t RETAIN 1 HOUR": (SetRef("tag", word("t"), create=False, replace=True, retain_ms=3_600_000),),
    "DROP BRANCH b": (DropRef("branch", word("b")),),
    "DROP TAG IF EXISTS t": (DropRef("tag", word("t"), if_exists=True),),
}
OTHERS: dict[str, AlterTable | RenameTable] = {
    "ALTER TABLE IF EXISTS a.t DROP COLUMN b": AlterTable(Name(path("a.t")), (DropColumn(path("b")),), if_exists=True),
    "ALTER TABLE only ADD a int": AlterTable(Name(path("only")), (AddColumn(path("a"), INT),)),
    "ALTER TABLE a.t RENAME TO u": RenameTable(Name(path("a.t")), Name(path("u"))),
    "ALTER TABLE IF EXISTS a.t RENAME TO b.u": RenameTable(Name(path("a.t")), Name(path("b.u")), if_exists=True),
    "COMMENT ON TABLE a.t IS 'x'": AlterTable(Name(path("a.t")), (SetProperties((("comment", "x"),)),)),
    "COMMENT ON TABLE a.t IS NULL": AlterTable(Name(path("a.t")), (UnsetProperties(("comment",), if_exists=True),)),
    "COMMENT ON COLUMN a.t.c IS 'x'": AlterTable(Name(path("a.t")), (SetColumnComment(path("c"), "x"),)),
    "COMMENT ON COLUMN a.t.c IS NULL": AlterTable(Name(path("a.t")), (SetColumnComment(path("c"), None),)),
}
ALTERATIONS = [*(f"ALTER TABLE t {action}" for action in ACTIONS), *OTHERS]


@pytest.mark.parametrize(("text", "expected"), ACTIONS.items(), ids=ACTIONS)
def test_an_action_is_read(text: str, expected: tuple[Alteration, ...]) -> None:
    assert parse_statement(f"ALTER TABLE t {text}") == AlterTable(Name(path("t")), expected)


@pytest.mark.parametrize(("text", "expected"), OTHERS.items(), ids=OTHERS)
def test_a_statement_is_read(text: str, expected: AlterTable | RenameTable) -> None:
    assert parse_statement(text) == expected


@pytest.mark.parametrize("last", ACTIONS)
def test_actions_follow_each_other(last: str) -> None:
    """Whatever stands in front of a comma, the action behind it is one of its own."""
    for first, expected in ACTIONS.items():
        statement = parse_statement(f"ALTER TABLE t {first}, {last}")
        assert isinstance(statement, AlterTable)
        assert statement.actions == (*expected, *ACTIONS[last])


def test_offsets_point_at_what_an_action_is_about() -> None:
    text = "COMMIT;\nALTER TABLE a.t ADD COLUMN b.c mystery, DROP x, CREATE TAG v, ADD PARTITION FIELD day(ts)"
    statement = parse_script(text)[1]
    assert isinstance(statement, AlterTable)
    added, dropped, tag, partition = statement.actions
    assert isinstance(added, AddColumn)
    assert isinstance(dropped, DropColumn)
    assert isinstance(tag, SetRef)
    assert isinstance(partition, AddPartitionField)
    assert text[added.offset :].startswith("b.c mystery")
    assert text[added.type.offset :].startswith("mystery")
    assert text[dropped.offset :].startswith("x,")
    assert text[tag.offset :].startswith("TAG v")
    assert text[partition.term.offset :].startswith("day(ts)")


# `^` stands before the place that the error points at.
MISTAKES = [
    ("ALTER TABLE^", "expected the name of a table", None),
    ("ALTER TABLE t^", "expected an action: ADD, DROP", None),
    ("ALTER TABLE t ^FROB x", "expected an action", None),
    ("ALTER TABLE t ^AD COLUMN x int", "expected an action", "did you mean ADD?"),
    ("ALTER TABLE t ^RENMAE COLUMN x TO y", "expected an action", "did you mean RENAME?"),
    ("ALTER TABLE t DROP a ^b", "expected the end of the statement, found b", None),
    ("ALTER TABLE t DROP a,^", "expected a column", None),
    ("ALTER TABLE t SET LOCATION 'x', ^FROB", "expected an action", None),
    ("ALTER TABLE t ADD COLUMN a^", "expected the type of column a", "ADD COLUMN a string"),
    ("ALTER TABLE t ADD COLUMN a ^'int'", "expected the type of column a", None),
    ("ALTER TABLE t ADD COLUMN a int ^COMENT 'x'", "found COMENT", "did you mean COMMENT?"),
    ("ALTER TABLE t ADD COLUMN a int ^AFETR b", "found AFETR", "did you mean AFTER?"),
    ("ALTER TABLE t ADD COLUMN a int NOT NULL ^NULL", "twice", None),
    ("ALTER TABLE t ADD COLUMN a int COMMENT 'x' ^COMMENT 'y'", "two comments", None),
    ("ALTER TABLE t ADD COLUMN a int DEFAULT 1 ^DEFAULT 2", "two defaults", None),
    ("ALTER TABLE t ADD COLUMN a int FIRST ^AFTER b", "two places", None),
    ("ALTER TABLE t ADD COLUMN a int AFTER^", "the name of the other column", None),
    ("ALTER TABLE t ADD COLUMN s.a int AFTER s^.b", "not by a path", "name it alone"),
    ("ALTER TABLE t ADD COLUMN a int DEFAULT ^?", "a parameter cannot stand in a DEFAULT", None),
    ("ALTER TABLE t ADD COLUMNS (a int^", "',' or ')'", None),
    ("ALTER TABLE t ADD PARTITION ^FEILD day(ts)", "FIELD behind ADD PARTITION", "did you mean FIELD?"),
    ("ALTER TABLE t ADD PARTITION ^day(ts)", "FIELD behind ADD PARTITION", "write ADD PARTITION FIELD"),
    ("ALTER TABLE t ADD PARTITION FIELD ^buckets(4, a)", "no transform buckets", "did you mean bucket?"),
    ("ALTER TABLE t REPLACE PARTITION FIELD a ^BY b", "WITH and the new transform", None),
    (
        "ALTER TABLE t REPLACE ^PARTITON FIELD a WITH b",
        "PARTITION FIELD, BRANCH or TAG",
        "did you mean PARTITION FIELD?",
    ),
    ("ALTER TABLE t RENAME COLUMN a ^AS b", "TO and the new name", "RENAME COLUMN a TO b"),
    ("ALTER TABLE t RENAME COLUMN a TO b^.c", "one word", "a field stays in its struct"),
    ("ALTER TABLE t RENAME TO^", "the new name of the table", None),
    ("ALTER TABLE t ALTER COLUMN a^", "TYPE, SET or DROP NOT NULL", None),
    ("ALTER TABLE t ALTER COLUMN a ^TPYE bigint", "found TPYE", "did you mean TYPE?"),
    ("ALTER TABLE t ALTER COLUMN a ^bigint", "found bigint", "ALTER COLUMN a TYPE bigint"),
    ("ALTER TABLE t ALTER COLUMN a TYPE^", "expected a type", None),
    ("ALTER TABLE t ALTER COLUMN a SET ^TYPE bigint", "NOT NULL, DEFAULT or DATA TYPE behind SET", "leave SET out"),
    ("ALTER TABLE t ALTER COLUMN a DROP ^DEFALT", "NOT NULL or DEFAULT behind DROP", "did you mean DEFAULT?"),
    ("ALTER TABLE t ALTER COLUMN a TYPE int ^TYPE bigint", "said of column a twice", None),
    ("ALTER TABLE t ALTER COLUMN a SET DEFAULT^", "expected an expression", None),
    ("ALTER TABLE t WRITE^", "ORDERED BY, LOCALLY ORDERED BY", None),
    ("ALTER TABLE t WRITE ^ORDRED BY a", "ORDERED BY", "did you mean ORDERED BY?"),
    ("ALTER TABLE t WRITE ORDERED ^a", "expected BY", None),
    ("ALTER TABLE t WRITE DISTRIBUTED BY ^a", "expected PARTITION", None),
    ("ALTER TABLE t WRITE ORDERED BY a ^UNORDERED", "given twice", None),
    ("ALTER TABLE t WRITE DISTRIBUTED BY PARTITION ^DISTRIBUTED BY PARTITION", "given twice", None),
    ("ALTER TABLE t SET^", "expected TBLPROPERTIES", None),
    ("ALTER TABLE t SET ^TBLPROPERTEIS (a = 1)", "expected TBLPROPERTIES", "did you mean TBLPROPERTIES?"),
    ("ALTER TABLE t SET TBLPROPERTIES (^)", "a property as key = value", None),
    ("ALTER TABLE t SET TBLPROPERTIES (a = 1, ^a = 2)", "property a is given twice", None),
    ("ALTER TABLE t SET TBLPROPERTIES (a^)", "'=' and the value", None),
    ("ALTER TABLE t SET TBLPROPERTIES (a = ^?)", "expected a value", "write the value here"),
    ("ALTER TABLE t UNSET TBLPROPERTIES (a ^= 1)", "',' or ')'", "without values"),
    ("ALTER TABLE t UNSET ^PROPERTY (a)", "TBLPROPERTIES behind UNSET", "did you mean PROPERTIES?"),
    ("ALTER TABLE t SET LOCATION ^x", "the location as a string", None),
    ("ALTER TABLE t SET IDENTIFIER ^FEILDS a", "FIELDS behind IDENTIFIER", "did you mean FIELDS?"),
    ("ALTER TABLE t ADD PRIMARY KEY (a, ^a) NOT ENFORCED", "a is given twice", None),
    ("ALTER TABLE t CREATE ^BARNCH b", "BRANCH or TAG behind CREATE", "did you mean BRANCH?"),
    ("ALTER TABLE t CREATE BRANCH^", "the name of a branch", None),
    ("ALTER TABLE t CREATE BRANCH ^'b'", "the name of a branch", "double quotes"),
    ("ALTER TABLE t CREATE OR REPLACE BRANCH IF NOT EXISTS ^b", "exclude each other", None),
    ("ALTER TABLE t CREATE BRANCH b AS OF ^TIMESTAMP '2024-01-01'", "expected VERSION", "AS OF VERSION 123"),
    ("ALTER TABLE t CREATE BRANCH b AS OF VERSION ^x", "a snapshot id, or the name", None),
    ("ALTER TABLE t CREATE BRANCH b AS OF VERSION ^9223372036854775808", "a snapshot id", None),
    ("ALTER TABLE t CREATE BRANCH b RETAIN ^x DAYS", "days, hours or minutes", None),
    ("ALTER TABLE t CREATE BRANCH b RETAIN 2 ^DYAS", "DAYS, HOURS or MINUTES", "did you mean DAYS?"),
    ("ALTER TABLE t CREATE BRANCH b RETAIN ^0 DAYS", "at least 1 minute", None),
    ("ALTER TABLE t CREATE BRANCH b RETAIN ^999999999999999999 DAYS", "less than 2^63", None),
    ("ALTER TABLE t CREATE BRANCH b ^RETIAN 2 DAYS", "found RETIAN", "did you mean RETAIN?"),
    ("ALTER TABLE t CREATE BRANCH b WITH ^SNAPSHTO RETENTION 2 DAYS", "expected SNAPSHOT", "did you mean SNAPSHOT?"),
    ("ALTER TABLE t CREATE BRANCH b WITH SNAPSHOT RETENTION ^0 SNAPSHOTS", "at least 1 snapshot", None),
    ("ALTER TABLE t CREATE BRANCH b WITH SNAPSHOT RETENTION 2 ^SNAPS", "or SNAPSHOTS", "did you mean SNAPSHOTS?"),
    ("ALTER TABLE t CREATE TAG v ^WITH SNAPSHOT RETENTION 2 DAYS", "a tag has no snapshots", "RETAIN 30 DAYS"),
    ("ALTER TABLE t DROP BRANCH IF EXISTS^", "the name of a branch", None),
]


@pytest.mark.parametrize(("marked", "message", "hint"), MISTAKES, ids=[marked for marked, _, _ in MISTAKES])
def test_a_mistake_is_told_at_its_place(marked: str, message: str, hint: str | None) -> None:
    place = marked.index("^")
    text = marked.replace("^", "", 1)
    with pytest.raises(ParseError) as caught:
        parse_script(f"COMMIT;\n{text}")
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (2, place + 1)
    if hint is None:
        assert "did you mean" not in (caught.value.hint or "")
    else:
        assert hint in (caught.value.hint or "")


NAMES = st.sampled_from(["a", "b", "partition", "first", "to", '"set"', "key", '"A b"', "value", "type", "comment"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
TYPES = st.sampled_from(
    [
        ("int", INT),
        ("decimal(10, 2)", TypeText("decimal", (10, 2))),
        ("array<string>", TypeText("array", (), (STRING,), (), (False,))),
        ("struct<b: int comment 'x'>", TypeText("struct", (), (INT,), ("b",), (False,), child_comments=("x",))),
        ("timestamp with time zone", TypeText("timestamp with time zone")),
        ("int[]", TypeText("array", (), (INT,), (), (False,))),
    ]
)
PLACES = st.sampled_from(
    [("FIRST", Place("first")), ("AFTER q", Place("after", word("q"))), ('BEFORE "Q"', Place("before", word('"Q"')))]
)
DEFAULTS = st.sampled_from(
    ["1", "-1 + (2)", "'it''s, so'", "CAST('x' AS string)", "NULL", "first(1, 2)", "1 IS NOT NULL"]
)


def shuffled(draw: st.DrawFn, parts: list[str]) -> str:
    return " ".join(draw(st.permutations(parts)))


@st.composite
def additions(draw: st.DrawFn) -> tuple[str, list[Alteration]]:
    name, (spelled, kind) = draw(PATHS), draw(TYPES)
    required = draw(st.sampled_from([("", False), ("NULL", False), ("NOT NULL", True)]))
    default = draw(st.none() | DEFAULTS)
    comment = draw(st.none() | st.sampled_from(["", "x, y", "FIRST"]))
    place = draw(st.none() | PLACES)
    options = [required[0]] if required[0] else []
    options += [f"DEFAULT {default}"] if default is not None else []
    options += [f"COMMENT '{comment}'"] if comment is not None else []
    options += [place[0]] if place is not None else []
    text = f"ADD COLUMN {name} {spelled} {shuffled(draw, options)}"
    return text, [AddColumn(path(name), kind, required[1], default, comment, place[1] if place else None)]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, list[Alteration]]:
    """Several changes of one column, in any order."""
    name = draw(PATHS)
    default, (spelled, kind), place = draw(DEFAULTS), draw(TYPES), draw(PLACES)
    possible: list[tuple[str, Alteration]] = [
        (f"TYPE {spelled}", SetColumnType(path(name), kind)),
        (f"SET DEFAULT {default}", SetColumnDefault(path(name), default)),
        ("DROP NOT NULL", SetRequired(path(name), False)),
        ("COMMENT 'x'", SetColumnComment(path(name), "x")),
        (place[0], MoveColumn(path(name), place[1])),
    ]
    chosen = draw(st.permutations(possible))[: draw(st.integers(1, 5))]
    verb = draw(st.sampled_from(["ALTER COLUMN", "CHANGE COLUMN", "alter"]))
    return f"{verb} {name} {' '.join(text for text, _ in chosen)}", [change for _, change in chosen]


@st.composite
def others(draw: st.DrawFn) -> tuple[str, list[Alteration]]:
    text = draw(st.sampled_from(list(ACTIONS)))
    return text, list(ACTIONS[text])


@settings(max_examples=200, deadline=None)
@given(st.lists(additions() | changes() | others(), min_size=1, max_size=5))
def test_any_list_of_actions_is_read_as_it_was_meant(parts: list[tuple[str, list[Alteration]]]) -> None:
    text = "ALTER TABLE t " + ", ".join(text for text, _ in parts)
    statement = parse_statement(text)
    assert isinstance(statement, AlterTable)
    assert list(statement.actions) == [action for _, actions in parts for action in actions]
