import itertools

import pyarrow as pa
import pytest
from bridge_cases import REFUSED, TAKEN, arrow_types
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.types import (
    DecimalType,
    FixedType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzType,
    UnknownType,
)

from icefusion.bridge.schema import FIELD_ID_KEY, arrow_to_iceberg, iceberg_to_arrow, sql_name, type_name
from icefusion.bridge.types_sql import build_schema, sql_type_to_iceberg
from icefusion.errors import SchemaError
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import ColumnDefinition, CreateTable, Identifier, TypeText


def field_ids(arrow: pa.DataType) -> list[int]:
    """The ids on every field below a type."""
    if pa.types.is_map(arrow):
        fields = [arrow.key_field, arrow.item_field]
    else:
        fields = [arrow.field(i) for i in range(arrow.num_fields)]
    return list(itertools.chain.from_iterable((int(f.metadata[FIELD_ID_KEY]), *field_ids(f.type)) for f in fields))


@pytest.mark.parametrize("case", TAKEN)
def test_every_arrow_type_that_iceberg_holds_has_its_iceberg_type(case: str) -> None:
    array, expected, _ = TAKEN[case]
    found = arrow_to_iceberg(pa.schema([pa.field("c", array.type)])).find_field("c").field_type
    assert type_name(found) == type_name(expected)
    assert type(found) is type(expected)


@pytest.mark.parametrize("case", REFUSED)
def test_every_other_arrow_type_is_refused_with_its_dotted_path_and_a_hint(case: str) -> None:
    arrow, hint = REFUSED[case]
    schema = pa.schema([("ok", pa.int8()), ("s", pa.struct([("bad", arrow)]))])
    with pytest.raises(SchemaError) as caught:
        arrow_to_iceberg(schema)
    column = "s.bad.element" if case == "list of null" else "s.bad"
    assert caught.value.column == column
    assert column in str(caught.value)
    assert hint in str(caught.value.hint)


def test_all_types_at_once_are_numbered_as_pyiceberg_numbers_them() -> None:
    schema = arrow_to_iceberg(pa.schema([(f"c{i}", array.type) for i, (array, _, _) in enumerate(TAKEN.values())]))
    assert [field.field_id for field in schema.fields] == list(range(1, len(TAKEN) + 1))
    assert assign_fresh_schema_ids(schema) == schema
    assert len(schema._lazy_id_to_field) > len(TAKEN)


@given(arrow_types)
@settings(max_examples=60, deadline=None)
def test_a_schema_survives_the_way_to_arrow_and_back(arrow: pa.DataType) -> None:
    schema = arrow_to_iceberg(pa.schema([pa.field("a", arrow, nullable=False), pa.field("b", pa.list_(arrow))]))
    canonical = iceberg_to_arrow(schema)
    assert arrow_to_iceberg(canonical) == schema
    ids = [int(f.metadata[FIELD_ID_KEY]) for f in canonical] + [i for f in canonical for i in field_ids(f.type)]
    assert sorted(ids) == sorted(schema._lazy_id_to_field)


def test_required_is_kept_at_every_depth() -> None:
    inner = pa.struct([pa.field("x", pa.int32(), nullable=False)])
    arrow = pa.schema(
        [
            pa.field("l", pa.list_(pa.field("element", inner, nullable=False)), nullable=False),
            pa.field("m", pa.map_(pa.string(), pa.field("value", inner, nullable=False))),
        ]
    )
    schema = arrow_to_iceberg(arrow)
    assert [schema.find_field(n).required for n in ("l", "l.element", "l.element.x", "m", "m.value", "m.value.x")] == [
        True, True, True, False, True, True,
    ]  # fmt: skip
    assert iceberg_to_arrow(schema, field_ids=False) == arrow


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a"), ("", "b")])
def test_names_that_a_case_insensitive_engine_cannot_tell_apart_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(SchemaError):
        arrow_to_iceberg(pa.schema([(name, pa.int8()) for name in names]))
    with pytest.raises(SchemaError) as caught:
        arrow_to_iceberg(pa.schema([("s", pa.struct([(name, pa.int8()) for name in names]))]))
    assert str(caught.value.column).startswith("s.")


def test_a_dotted_name_that_clashes_with_a_path_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"a\.b"):
        arrow_to_iceberg(pa.schema([("a.b", pa.int8()), ("a", pa.struct([("b", pa.int8())]))]))


def test_nanoseconds_keep_their_type_only_in_format_version_3() -> None:
    schema = pa.schema([("t", pa.timestamp("ns"))])
    assert arrow_to_iceberg(schema).find_type("t") == TimestampType()
    nanos = arrow_to_iceberg(schema, format_version=3)
    assert nanos.find_type("t") == TimestampNanoType()
    assert iceberg_to_arrow(nanos).field("t").type == pa.timestamp("ns")


def test_a_type_that_cannot_be_read_is_named_with_its_column() -> None:
    with pytest.raises(SchemaError, match=r"column s\.u: type unknown"):
        iceberg_to_arrow(Schema(NestedField(1, "s", StructType(NestedField(2, "u", UnknownType())))))


def text(name: str, *arguments: int, **kwargs: object) -> TypeText:
    return TypeText(name, arguments, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (text("tinyint"), IntegerType()),
        (text("int8"), LongType()),
        (text("decimal"), DecimalType(18, 3)),
        (text("numeric", 5), DecimalType(5, 0)),
        (text("numeric", 5, 2), DecimalType(5, 2)),
        (text("timestamp"), TimestampType()),
        (text("timestamp with time zone"), TimestamptzType()),
        (text("timestamp", 6), TimestampType()),
        (text("varchar"), StringType()),
        (text("fixed", 3), FixedType(3)),
        (text("binary", 3), FixedType(3)),
    ],
)
def test_sql_names_stand_for_iceberg_types(sql: TypeText, expected: object) -> None:
    assert sql_type_to_iceberg(sql) == expected


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        (text("strnig"), "string"),
        (text("varchar", 10), "string"),
        (text("varbinary", 10), "fixed(10)"),
        (text("decimal", 39), "38"),
        (text("decimal", 5, 6), "5"),
        (text("timestamp", 9), "microseconds"),
        (text("int", 3), "int"),
        (text("fixed"), "fixed(16)"),
        (text("timestamp_ns"), "timestamp"),
        (text("map", children=(text("int"),)), "map<string, int>"),
    ],
)
def test_types_that_would_lose_something_or_do_not_exist_are_refused_with_a_hint(sql: TypeText, hint: str) -> None:
    with pytest.raises(SchemaError) as caught:
        sql_type_to_iceberg(sql, column="a.b")
    assert caught.value.column == "a.b"
    assert hint in str(caught.value.hint)


def test_a_table_of_sql_columns_has_fresh_ids_comments_and_not_null_at_depth() -> None:
    struct = text(
        "struct", children=(text("int"), text("string")), child_names=("a", "B"), child_required=(True, False)
    )
    columns = [
        ColumnDefinition(Identifier("id"), text("bigint"), required=True, comment="the key"),
        ColumnDefinition(Identifier("m"), text("map", children=(text("string"), struct))),
        ColumnDefinition(Identifier("l"), text("array", children=(text("date"),))),
    ]
    schema = build_schema(columns)
    assert assign_fresh_schema_ids(schema) == schema
    assert schema.find_field("id").doc == "the key"
    assert schema.find_field("id").required
    assert [type_name(f.field_type) for f in schema.fields] == [
        "bigint", "map<string, struct<a: int not null, B: string>>", "list<date>",
    ]  # fmt: skip
    assert isinstance(schema.find_type("m"), MapType)
    assert isinstance(schema.find_type("l"), ListType)


def test_sql_columns_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(SchemaError, match="differ only in case"):
        build_schema([ColumnDefinition(Identifier(name), text("int")) for name in ("id", "ID")])


def test_a_name_that_is_no_plain_word_is_quoted_in_a_type_name() -> None:
    struct = StructType(NestedField(1, 'a "b"', IntegerType()))
    assert type_name(struct) == 'struct<"a ""b""": int>'


@given(arrow_types, st.lists(st.sampled_from(["a", "B c", "order", 'x"y', "ü", "struct"]), min_size=1, unique=True))
@settings(max_examples=40, deadline=None)
def test_the_sql_of_a_type_reads_back_as_the_type(arrow: pa.DataType, names: list[str]) -> None:
    inner = pa.list_(pa.field("element", arrow, nullable=False))
    fields = [pa.field(name, kind) for name, kind in zip(names, itertools.cycle([arrow, inner]), strict=False)]
    schema = arrow_to_iceberg(pa.schema([*fields, pa.field("s", pa.struct(fields), nullable=False)]))
    columns = (f"{sql_name(f.name)} {type_name(f.field_type)}{' NOT NULL' * f.required}" for f in schema.fields)
    statement = parse_statement(f"CREATE TABLE t ({', '.join(columns)})")
    assert isinstance(statement, CreateTable)
    assert build_schema(statement.columns) == schema


@pytest.mark.parametrize("case", TAKEN)
def test_the_sql_of_every_type_reads_back_as_the_type(case: str) -> None:
    kind = TAKEN[case][1]
    statement = parse_statement(f"CREATE TABLE t (c {type_name(kind)})")
    assert isinstance(statement, CreateTable)
    assert type_name(build_schema(statement.columns).find_type("c")) == type_name(kind)
