"""CREATE TABLE: columns, types, partitioning, order, properties, and a query."""

import pytest

from icefusion.errors import ParseError, UnsupportedStatementError
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import (
    ColumnDefinition,
    CreateTable,
    Identifier,
    Name,
    Query,
    SortTerm,
    TransformTerm,
    TypeText,
)


def create(rest: str) -> CreateTable:
    statement = parse_statement(f"CREATE TABLE t {rest}")
    assert isinstance(statement, CreateTable)
    return statement


def plain(name: str, *arguments: int) -> TypeText:
    return TypeText(name, arguments)


def array(element: TypeText, *, required: bool = False) -> TypeText:
    return TypeText("array", (), (element,), (), (required,))


def mapping(key: TypeText, value: TypeText, *, required: bool = False) -> TypeText:
    return TypeText("map", (), (key, value), (), (True, required))


def struct(**fields: TypeText) -> TypeText:
    return TypeText("struct", (), tuple(fields.values()), tuple(fields), (False,) * len(fields))


INT, STRING = plain("int"), plain("string")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", INT),
        ("BIGINT", plain("bigint")),
        ("mystery", plain("mystery")),
        ("decimal(10,2)", plain("decimal", 10, 2)),
        ("Decimal( 38 )", plain("decimal", 38)),
        ("double precision", plain("double precision")),
        ("double", plain("double")),
        ("character varying(10)", plain("character varying", 10)),
        ("varchar(10)", plain("varchar", 10)),
        ("timestamp", plain("timestamp")),
        ("timestamp(6)", plain("timestamp", 6)),
        ("timestamp with time zone", plain("timestamp with time zone")),
        ("TIMESTAMP(6) WITH TIME ZONE", plain("timestamp with time zone", 6)),
        ("timestamp without time zone", plain("timestamp without time zone")),
        ("time without time zone", plain("time without time zone")),
        ("timestamptz", plain("timestamptz")),
        ("fixed(16)", plain("fixed", 16)),
        ("fixed[16]", plain("fixed", 16)),
        ("array<int>", array(INT)),
        ("list<int>", array(INT)),
        ("array(int)", array(INT)),
        ("array<int not null>", array(INT, required=True)),
        ("int[]", array(INT)),
        ("decimal(3,1)[][]", array(array(plain("decimal", 3, 1)))),
        ("map<string, int>", mapping(STRING, INT)),
        ("map(string, int not null)", mapping(STRING, INT, required=True)),
        ("map<string,array<array<int>>>", mapping(STRING, array(array(INT)))),
        ("struct<a: int, b string>", struct(a=INT, b=STRING)),
        ("struct(a int, b string)", struct(a=INT, b=STRING)),
        ("row(a int)", struct(a=INT)),
        ("struct<Ab: int>", struct(Ab=INT)),
        ('struct<"Ab": int>', struct(Ab=INT)),
        ("struct<a:struct<b:array<struct<c:int>>>>", struct(a=struct(b=array(struct(c=INT))))),
        ("struct<a: int null, b: map<string,int>>[]", array(struct(a=INT, b=mapping(STRING, INT)))),
    ],
)
def test_a_type_is_read(text: str, expected: TypeText) -> None:
    for rest in (f"(c {text})", f"(a int, c {text} not null, d int)"):
        assert next(column.type for column in create(rest).columns if column.name.text == "c") == expected


def test_a_required_field_of_a_struct_is_kept() -> None:
    assert create("(c struct<a int not null, b int>)").columns[0].type.child_required == (True, False)


def test_a_column_keeps_all_that_is_said_about_it() -> None:
    columns = create(
        """(
            id bigint NOT NULL COMMENT 'the ''key''',
            "Name" string NULL,
            price decimal(10, 2) DEFAULT round(1.5, 1) + (2 * 3) NOT NULL COMMENT 'x',
            note string COMMENT 'y' DEFAULT NULL,
            flag boolean DEFAULT 1 IS NOT NULL,
            tags array<string> DEFAULT ['a', 'b']
        )"""
    ).columns
    assert columns == (
        ColumnDefinition(Identifier("id"), plain("bigint"), required=True, comment="the 'key'"),
        ColumnDefinition(Identifier("Name", quoted=True), STRING),
        ColumnDefinition(Identifier("price"), plain("decimal", 10, 2), True, "x", "round(1.5, 1) + (2 * 3)"),
        ColumnDefinition(Identifier("note"), STRING, comment="y", default="NULL"),
        ColumnDefinition(Identifier("flag"), plain("boolean"), default="1 IS NOT NULL"),
        ColumnDefinition(Identifier("tags"), array(STRING), default="['a', 'b']"),
    )


def test_words_of_sql_can_name_columns() -> None:
    columns = create("(key string, date date, unique int, comment string, check boolean, order int)").columns
    assert [column.name.text for column in columns] == ["key", "date", "unique", "comment", "check", "order"]


@pytest.mark.parametrize("text", ["LIKE a.s", "(LIKE a.s)", "like a.s"])
def test_a_table_takes_its_columns_from_another_one(text: str) -> None:
    table = create(f"{text} PARTITIONED BY (b) LOCATION 'l' TBLPROPERTIES (k = 1)")
    assert table.like == Name((Identifier("a"), Identifier("s")))
    assert (table.location, table.properties, len(table.partitioning)) == ("l", (("k", "1"),), 1)
    assert create(f"USING iceberg {text.strip('()')}").like == table.like


def test_a_column_can_be_called_like_in_quotes() -> None:
    assert [column.name.text for column in create('("like" int)').columns] == ["like"]


@pytest.mark.parametrize(
    ("head", "replace", "must_exist"),
    [("CREATE TABLE", False, False), ("CREATE OR REPLACE TABLE", True, False), ("replace table", True, True)],
)
@pytest.mark.parametrize("rest", ["(a int)", "AS SELECT 1 AS a", "LIKE s"])
def test_a_table_is_replaced(head: str, replace: bool, must_exist: bool, rest: str) -> None:
    statement = parse_statement(f"{head} a.t {rest}")
    assert isinstance(statement, CreateTable)
    assert (statement.replace, statement.must_exist) == (replace, must_exist)
    if replace:
        with pytest.raises(ParseError, match="exclude each other"):
            parse_statement(f"{head} IF NOT EXISTS t {rest}")


def test_fields_of_structs_have_comments_of_their_own() -> None:
    text = "(c struct<a: int not null comment 'one', b: struct<d: int comment ''>> COMMENT 'all')"
    (column,) = create(text).columns
    assert column.comment == "all"
    assert column.type.child_comments == ("one", None)
    assert column.type.children[1].child_comments == ("",)


@pytest.mark.parametrize(
    ("text", "identifier", "required"),
    [
        ("(a int PRIMARY KEY NOT ENFORCED COMMENT 'x', b int)", ["a"], [True, False]),
        ("(a int, b int, PRIMARY KEY (b, A) NOT ENFORCED)", ["b", "A"], [True, True]),
        ("(PRIMARY KEY (a.c) NOT ENFORCED, a struct<c: int not null>, b int NOT NULL)", ["a.c"], [True, True]),
        ("(a int, CONSTRAINT k PRIMARY KEY (a) NOT ENFORCED, b int)", ["a"], [True, False]),
        ("(primary int, constraint int, key int)", [], [False, False, False]),
    ],
)
def test_a_primary_key_names_the_columns_that_tell_rows_apart(
    text: str, identifier: list[str], required: list[bool]
) -> None:
    table = create(text)
    assert [".".join(map(str, path)) for path in table.identifier] == identifier
    assert [column.required for column in table.columns] == required


def test_offsets_of_columns_and_types_point_into_the_text() -> None:
    sql = "CREATE TABLE t (\n  a int,\n  bc struct<d: mystery>\n)"
    statement = parse_statement(sql)
    assert isinstance(statement, CreateTable)
    column = statement.columns[1]
    assert sql[column.offset :].startswith("bc struct")
    assert sql[column.type.offset :].startswith("struct<")
    assert sql[column.type.children[0].offset :].startswith("mystery")


@pytest.mark.parametrize(
    ("text", "transform", "column", "argument"),
    [
        ("x", "identity", "x", None),
        ("a.b", "identity", "a.b", None),
        ('"A b".c', "identity", '"A b".c', None),
        ("identity(x)", "identity", "x", None),
        ("bucket(16, id)", "bucket", "id", 16),
        ("BUCKET(id, 16)", "bucket", "id", 16),
        ("truncate(4, a.b)", "truncate", "a.b", 4),
        ("truncate(s, 4)", "truncate", "s", 4),
        ("year(ts)", "year", "ts", None),
        ("years(ts)", "year", "ts", None),
        ("month(ts)", "month", "ts", None),
        ("months(ts)", "month", "ts", None),
        ("day(ts)", "day", "ts", None),
        ("days(ts)", "day", "ts", None),
        ("date(ts)", "day", "ts", None),
        ("hour(ts)", "hour", "ts", None),
        ("hours(ts)", "hour", "ts", None),
        ("date_hour(ts)", "hour", "ts", None),
        ("void(x)", "void", "x", None),
        ("year", "identity", "year", None),
    ],
)
def test_a_transform_is_read(text: str, transform: str, column: str, argument: int | None) -> None:
    (term,) = create(f"(x int) PARTITIONED BY ({text})").partitioning
    assert (term.transform, ".".join(map(str, term.column)), term.argument) == (transform, column, argument)
    assert create(f"(x int) PARTITION BY ({text} AS Shard)").partitioning[0].alias == "Shard"
    assert create(f'(x int) PARTITIONED BY ({text} AS "Shard")').partitioning[0].alias == "Shard"
    (key,) = create(f"(x int) ORDER BY {text}").ordering
    assert key == SortTerm(term)


@pytest.mark.parametrize("head", ["ORDER BY", "ORDERED BY", "SORTED BY", "WRITE ORDERED BY"])
def test_a_sort_order_is_read_with_parentheses_or_without(head: str) -> None:
    keys = "a, b ASC, c DESC, d NULLS LAST, e DESC NULLS FIRST, bucket(4, f) desc nulls last"
    expected = [
        ("a", "asc", "first"),
        ("b", "asc", "first"),
        ("c", "desc", "last"),
        ("d", "asc", "last"),
        ("e", "desc", "first"),
        ("f", "desc", "last"),
    ]
    for text in (f"{head} {keys}", f"{head} ({keys})"):
        ordering = create(f"(a int) {text} COMMENT 'x'").ordering
        assert [(key.term.column[0].text, key.direction, key.nulls) for key in ordering] == expected


def test_clauses_come_in_any_order() -> None:
    clauses = [
        "USING iceberg",
        "PARTITIONED BY (day(ts), bucket(4, id) AS b)",
        "ORDER BY id DESC",
        "LOCATION 's3://bucket/it''s'",
        "COMMENT 'rows'",
        "TBLPROPERTIES ('a' = 'b')",
    ]
    expected = CreateTable(
        name=Name((Identifier("t"),)),
        columns=(ColumnDefinition(Identifier("id"), INT),),
        partitioning=(
            TransformTerm("day", (Identifier("ts"),)),
            TransformTerm("bucket", (Identifier("id"),), 4, "b"),
        ),
        ordering=(SortTerm(TransformTerm("identity", (Identifier("id"),)), "desc", "last"),),
        properties=(("a", "b"),),
        location="s3://bucket/it's",
        comment="rows",
    )
    for turn in range(len(clauses)):
        assert create(f"(id int) {' '.join(clauses[turn:] + clauses[:turn])}") == expected


def test_properties_are_kept_as_text() -> None:
    properties = create(
        """(a int) TBLPROPERTIES ('k' = 'it''s', write.target-file-size-bytes = 1048576, "Q.x" = -1.5, e = 1e3,
           flag = TRUE, other = False, codec = zstd, empty = '', dollar = $$a'b$$) WITH (last = 1)"""
    ).properties
    assert dict(properties) == {
        "k": "it's",
        "write.target-file-size-bytes": "1048576",
        "Q.x": "-1.5",
        "e": "1e3",
        "flag": "true",
        "other": "false",
        "codec": "zstd",
        "empty": "",
        "dollar": "a'b",
        "last": "1",
    }


@pytest.mark.parametrize("query", ["SELECT 1 AS a", "(SELECT 1 AS a)", "WITH x AS (SELECT 1 a) SELECT a FROM x"])
def test_a_table_is_created_as_a_query(query: str) -> None:
    statement = create(f"USING iceberg PARTITIONED BY (a) AS\n {query} ")
    assert statement.query == Query(query)
    assert statement.columns == ()
    assert statement.partitioning == (TransformTerm("identity", (Identifier("a"),)),)
    named = parse_statement(f"CREATE TABLE IF NOT EXISTS a.b AS {query}")
    assert isinstance(named, CreateTable)
    assert (str(named.name), named.if_not_exists) == ("a.b", True)


@pytest.mark.parametrize(
    ("rest", "column", "message"),
    [
        ("", 14, "has no columns"),
        ("()", 17, "at least one column"),
        ("(a)", 17, "no type"),
        ("(a int", 22, "expected ',' or ')'"),
        ("(a int,)", 23, "expected a column name, found )"),
        ("(a 5)", 19, "expected a type, found 5"),
        ("(a int<string>)", 22, "found <"),
        ("(a array<int)", 28, "expected >"),
        ("(a map<int>)", 26, "type of the map's values"),
        ("(a struct<>)", 26, "expected a field name"),
        ("(a decimal(x))", 27, "expected a length"),
        ("(a int NOT NULL NULL)", 32, "twice"),
        ("(a int COMMENT x)", 31, "expected the comment as a string"),
        ('(a int COMMENT "x")', 31, "expected the comment as a string"),
        ("(a int DEFAULT)", 30, "expected an expression"),
        (f"(a {'array<' * 100}int{'>' * 100})", None, "nested more than"),
        (f"(a int{'[]' * 100})", None, "nested more than"),
        ("(a int) PARTITIONED BY a", 39, "expected '('"),
        ("(a int) PARTITIONED BY ()", 40, "expected a column or a transform"),
        ("(a int) PARTITIONED BY (bucket(0, a))", 47, "between 1 and"),
        ("(a int) PARTITIONED BY (bucket(4294967296, a))", 47, "between 1 and"),
        ("(a int) PARTITIONED BY (bucket(a))", 48, "the number of buckets"),
        ("(a int) PARTITIONED BY (truncate(a, b))", 52, "the width as a whole number"),
        ("(a int) PARTITIONED BY (buckets(4, a))", 40, "no transform buckets"),
        ("(a int) PARTITIONED BY (day(a, b))", 45, "expected )"),
        ("(a int) PARTITIONED BY (a) PARTITION BY (a)", 43, "given twice"),
        ("(a int) ORDER BY a NULLS", 40, "FIRST or LAST"),
        ("(a int) LOCATION x", 33, "the location as a string"),
        ("(a int) TBLPROPERTIES ('a' = 1, a = 2)", 48, "given twice"),
        ("(a int) TBLPROPERTIES (a = 1) WITH (a = 2)", 46, "given twice"),
        ("(a int) TBLPROPERTIES (a = NULL)", 43, "expected a value"),
        ("(a int) COMENT 'x'", 24, "found COMENT"),
        ("(a int COMENT 'x')", 23, "found COMENT"),
        ("(PRIMARY KEY (a) NOT ENFORCED)", 17, "at least one column"),
        ("(a int, PRIMARY KEY (b) NOT ENFORCED)", 53, "names b, which is no column"),
        ("(a int, PRIMARY KEY (a, A) NOT ENFORCED)", 40, "A is given twice"),
        ("(a int PRIMARY KEY NOT ENFORCED, PRIMARY KEY (a) NOT ENFORCED)", 49, "one PRIMARY KEY"),
        ("(a int NULL PRIMARY KEY NOT ENFORCED)", 17, "may not be NULL"),
        ("(a int, PRIMARY KEY a)", 36, "expected '('"),
        ("(a struct<b: int COMENT 'x'>)", 33, "NOT NULL or COMMENT"),
        ("(a int) LIKE s", 24, "takes its columns from that"),
        ("LIKE", 20, "the table whose columns are taken"),
        ("LIKE s LIKE u", 23, "LIKE is given twice"),
        ("(LIKE s) LIKE u", 25, "LIKE is given twice"),
        ("AS DROP TABLE x", 19, "expected a query behind AS"),
        ("SELECT 1", 16, "expected AS"),
    ],
)
def test_a_mistake_is_told_at_its_place(rest: str, column: int | None, message: str) -> None:
    with pytest.raises((ParseError, UnsupportedStatementError)) as caught:
        create(rest)
    assert message in caught.value.message
    assert caught.value.line == 1
    if column is not None:
        assert caught.value.column == column


@pytest.mark.parametrize(
    ("rest", "column", "hint"),
    [
        ("(a, b) AS SELECT 1, 2", 17, "SELECT x AS a"),
        ("(a int) AS SELECT 1", 24, "INSERT INTO"),
        ("(a int PRIMARY KEY)", 23, "PRIMARY KEY (id) NOT ENFORCED"),
        ("(a int, PRIMARY KEY (a))", 24, "PRIMARY KEY (id) NOT ENFORCED"),
        ("(a int, CONSTRAINT k PRIMARY KEY (a))", 37, "NOT ENFORCED"),
        ("(a int UNIQUE)", 23, "PRIMARY KEY (id) NOT ENFORCED"),
        ("(a int, CONSTRAINT c UNIQUE (a))", 24, "NOT NULL"),
        ("(a int CHECK (a > 1))", 23, "no checks"),
        ("(a int GENERATED ALWAYS AS (1))", 23, "query that inserts"),
        ("(a int[3])", 23, "int[]"),
        ("(a int) USING parquet", 30, "USING iceberg"),
        ("(a int) STORED AS parquet", 24, "Parquet"),
        ("(a int) CLUSTERED BY (a) INTO 4 BUCKETS", 24, "bucket(16, column)"),
        ("(a int) PARTITIONED BY (b date)", 42, "among the columns"),
        ("(a int) WITH (partitioning = ARRAY['a'])", 45, "PARTITIONED BY"),
        ("LIKE s AS SELECT 1", 23, "INSERT INTO the table"),
        ("AS SELECT 1 WITH NO DATA", 28, "LIMIT 0"),
        ("AS SELECT 1 WITH DATA", 28, "leave"),
    ],
)
def test_what_other_dialects_have_is_refused_with_the_cure(rest: str, column: int, hint: str) -> None:
    with pytest.raises(UnsupportedStatementError) as caught:
        create(rest)
    assert caught.value.column == column
    assert hint in (caught.value.hint or "")
