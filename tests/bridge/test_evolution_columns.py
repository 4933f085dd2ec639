import pytest
from evolution_tables import altered, applied, named, path, shape, table, type_text
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import create_mapping_from_schema, parse_mapping_from_json

from icefusion.bridge.evolution import alter
from icefusion.errors import BindError, IcefusionError, SchemaError, UnsupportedStatementError
from icefusion.sql.alterations import (
    AddColumn,
    Alteration,
    DropColumn,
    MoveColumn,
    Place,
    RenameColumn,
    SetColumnComment,
    SetColumnDefault,
    SetColumnType,
    SetIdentifierFields,
    SetRequired,
)

WIDE = """
    id int not null, "Name" string, f float, d decimal(9, 2), day date,
    s struct<a: int, b: string not null, inner: struct<x: float>>,
    items list<struct<p: int, q: string>>, tags list<int not null>,
    m map<struct<k: int>, struct<v: int, w: string>>, counts map<string, int>
"""


def add(where: str, kind: str, **rest: object) -> AddColumn:
    return AddColumn(path(where), type_text(kind), **rest)  # type: ignore[arg-type]


def place(where: str, column: str | None = None) -> Place:
    return Place(where, None if column is None else named(column))  # type: ignore[arg-type]


def retype(where: str, kind: str) -> SetColumnType:
    return SetColumnType(path(where), type_text(kind))


@pytest.fixture(scope="module")
def wide() -> TableMetadata:
    return table(WIDE)


def find(metadata: TableMetadata, name: str) -> tuple[int, str, bool, str | None]:
    field = metadata.schema().find_field(name)
    return field.field_id, str(field.field_type), field.required, field.doc


def test_new_columns_get_ids_above_all_that_were_ever_given(wide: TableMetadata) -> None:
    last = wide.last_column_id
    after = altered(
        wide,
        add("n", "struct<x: int, y: list<struct<z: int>>, w: map<string, int>>", comment="new"),
        add("last", "bigint"),
    )
    ids = {name: after.schema().find_field(name).field_id for name in after.schema().column_names}
    new = ("n", "n.x", "n.y", "n.w", "n.y.element", "n.y.element.z", "n.w.key", "n.w.value", "last")
    assert [ids[name] for name in new] == list(range(last + 1, last + 1 + len(new)))
    assert after.last_column_id == last + len(new)
    assert find(after, "n")[3] == "new"
    again = altered(altered(after, DropColumn(path("last"))), add("last", "bigint"))
    assert again.schema().find_field("last").field_id == after.last_column_id + 1


def test_many_alterations_make_one_schema(wide: TableMetadata) -> None:
    updates = alter(
        wide, [add("a", "int"), RenameColumn(path("a"), named("b")), retype("b", "bigint"), add("c", "int")]
    )
    assert [update.action for update in updates] == ["add-schema", "set-current-schema"]
    after = applied(wide, updates)
    assert len(after.schemas) == 2
    assert shape(after)[-2:] == [f"{wide.last_column_id + 1} b bigint", f"{wide.last_column_id + 2} c int"]


def test_alterations_that_take_each_other_back_are_none(wide: TableMetadata) -> None:
    assert alter(wide, [add("a", "int"), DropColumn(path("a"))]) == ()
    assert alter(wide, [RenameColumn(path("id"), named("x")), RenameColumn(path("x"), named("id"))]) == ()
    assert alter(wide, []) == ()


def test_an_old_schema_is_used_again(wide: TableMetadata) -> None:
    renamed = altered(wide, RenameColumn(path("id"), named("x")))
    updates = alter(renamed, [RenameColumn(path("x"), named("id"))])
    assert [update.action for update in updates] == ["set-current-schema"]
    assert applied(renamed, updates).current_schema_id == wide.current_schema_id


@pytest.mark.parametrize(
    ("action", "column", "wanted"),
    [
        (add("s.c", "int"), "s.c", "int"),
        (add("S.inner.y", "string"), "s.inner.y", "string"),
        (add("items.element.r", "date"), "items.element.r", "date"),
        (add("items.r", "date"), "items.element.r", "date"),
        (add("m.value.z", "date"), "m.value.z", "date"),
        (add("m.z", "date"), "m.value.z", "date"),
        (retype("id", "bigint"), "id", "long"),
        (retype("F", "double"), "f", "double"),
        (retype("d", "decimal(18, 2)"), "d", "decimal(18, 2)"),
        (retype("s.a", "bigint"), "s.a", "long"),
        (retype("tags.element", "bigint"), "tags.element", "long"),
        (retype("counts.value", "bigint"), "counts.value", "long"),
        (retype("items.p", "bigint"), "items.element.p", "long"),
    ],
)
def test_columns_at_any_depth(wide: TableMetadata, action: Alteration, column: str, wanted: str) -> None:
    after = altered(wide, action)
    assert find(after, column)[1] == wanted
    known = {name for name in wide.schema().column_names if name != column}
    assert {name: find(after, name)[0] for name in known} == {name: find(wide, name)[0] for name in known}


def names(metadata: TableMetadata, struct: str = "") -> str:
    fields = metadata.schema().find_field(struct).field_type.fields if struct else metadata.schema().fields
    return " ".join(field.name for field in fields)


@pytest.mark.parametrize(
    ("action", "struct", "wanted"),
    [
        (MoveColumn(path("day"), place("first")), "", "day id Name f d s items tags m counts"),
        (MoveColumn(path("id"), place("after", "day")), "", "Name f d day id s items tags m counts"),
        (MoveColumn(path("counts"), place("before", "name")), "", "id counts Name f d day s items tags m"),
        (MoveColumn(path("s.inner"), place("first")), "s", "inner a b"),
        (MoveColumn(path("items.element.q"), place("before", "p")), "items.element", "q p"),
        (add("new", "int", place=place("first")), "", "new id Name f d day s items tags m counts"),
        (add("new", "int", place=place("after", "F")), "", "id Name f new d day s items tags m counts"),
        (add("s.new", "int", place=place("before", "b")), "s", "a new b inner"),
        (RenameColumn(path("s.b"), named("B")), "s", "a B inner"),
        (RenameColumn(path("name"), named("first name")), "", "id first name f d day s items tags m counts"),
        (DropColumn(path("m.value.w")), "m.value", "v"),
        (DropColumn(path("s")), "", "id Name f d day items tags m counts"),
    ],
)
def test_places_and_names(wide: TableMetadata, action: Alteration, struct: str, wanted: str) -> None:
    assert names(altered(wide, action), struct) == wanted


def test_nullability_and_comments(wide: TableMetadata) -> None:
    after = altered(
        wide,
        SetRequired(path("name"), True),
        SetRequired(path("id"), False),
        SetRequired(path("s.b"), False),
        SetRequired(path("tags.element"), False),
        SetRequired(path("counts.value"), True),
        SetColumnComment(path("s.a"), "inside"),
        SetColumnComment(path("id"), "key"),
    )
    required = {name: find(after, name)[2] for name in ("Name", "id", "s.b", "tags.element", "counts.value")}
    assert required == {"Name": True, "id": False, "s.b": False, "tags.element": False, "counts.value": True}
    assert (find(after, "s.a")[3], find(after, "id")[3]) == ("inside", "key")
    bare = altered(after, SetColumnComment(path("id"), None))
    assert find(bare, "id")[3] is None
    assert find(bare, "s.a")[3] == "inside"


def test_identifier_fields() -> None:
    base = table("id int not null, a string, b string not null, s struct<x: int not null> not null")
    after = altered(base, SetIdentifierFields((path("ID"), path("s.x"))))
    assert after.schema().identifier_field_names() == {"id", "s.x"}
    fewer = altered(after, SetIdentifierFields((path("id"),), drop=True))
    assert fewer.schema().identifier_field_names() == {"s.x"}
    assert altered(after, SetIdentifierFields(())).schema().identifier_field_names() == set()
    assert alter(after, [SetIdentifierFields((path("s.x"), path("id")))]) == ()


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (DropColumn(path("nam")), BindError, "there is no column nam\nHint: did you mean Name?"),
        (DropColumn(path('"NAME"')), BindError, "there is no column NAME"),
        (DropColumn(path("s.z")), BindError, "there is no column s.z\nHint: the columns of s are a, b, inner"),
        (DropColumn(path("id.x")), BindError, "there is no column id.x: id is int, which has no parts"),
        (DropColumn(path("tags.element")), SchemaError, "every list<int not null> has"),
        (DropColumn(path("m.key.k")), SchemaError, "a map's key loses no columns"),
        (DropColumn(path("s.inner.x")), SchemaError, "is the last one"),
        (add("ID", "int"), SchemaError, "there is a column id already"),
        (add("s.A", "int"), SchemaError, "there is a column s.a already"),
        (add("id.x", "int"), SchemaError, "column id is int, which has no columns of its own"),
        (add("m.key.z", "int"), SchemaError, "a map's key gets no columns"),
        (add("x", "int", required=True), SchemaError, "cannot be NOT NULL from the start"),
        (add("x", "int", default="1"), UnsupportedStatementError, "DEFAULT needs format version 3, the table has 2"),
        (add("x", "varchar(10)"), SchemaError, "cannot have a length"),
        (add("x", "int", place=place("after", "idd")), BindError, "column idd is not there for x to stand after"),
        (add('"s.a"', "int"), SchemaError, "columns clash"),
        (RenameColumn(path("id"), named("F")), SchemaError, "there is a column f already"),
        (RenameColumn(path("tags.element"), named("e")), SchemaError, "cannot be renamed"),
        (RenameColumn(path("m.key.k"), named("e")), SchemaError, "a map's key keeps its columns' names"),
        (RenameColumn(path("id"), named('""')), SchemaError, "empty name"),
        (MoveColumn(path("tags.element"), place("first")), SchemaError, "cannot be moved"),
        (MoveColumn(path("id"), place("after", "ID")), SchemaError, "cannot stand after itself"),
        (MoveColumn(path("id"), place("after", "a")), BindError, "column a is not there"),
        (retype("id", "string"), SchemaError, "id is int and cannot become string"),
        (retype("id", "string"), SchemaError, "id may become bigint; or add a column of type string"),
        (retype("d", "decimal(18, 3)"), SchemaError, "a scale stays as it is"),
        (retype("d", "decimal(5, 2)"), SchemaError, "a precision can only grow"),
        (retype("d", "double"), SchemaError, "d may become decimal(p, 2) with p from 10 to 38"),
        (retype("day", "timestamp"), SchemaError, "needs a table of format version 3, this one has 2"),
        (retype("s", "int"), SchemaError, "only single values change their type"),
        (retype("id", "list<int>"), SchemaError, "single values stay single values"),
        (retype("m.key.k", "bigint"), SchemaError, "a map's key keeps its type"),
        (SetRequired(path("m.key"), False), SchemaError, "a map's key is never NULL"),
        (SetColumnComment(path("tags.element"), "x"), UnsupportedStatementError, "give the comment to tags"),
        (SetColumnDefault(path("id"), "1"), UnsupportedStatementError, "DEFAULT needs format version 3"),
        (SetIdentifierFields((path("name"),)), SchemaError, "Name may be NULL"),
        (SetIdentifierFields((path("f"),)), SchemaError, "it is float"),
        (SetIdentifierFields((path("items.p"),)), SchemaError, "it is in items, a list"),
        (SetIdentifierFields((path("s"),)), SchemaError, "it is struct<"),
        (SetIdentifierFields((path("s.b"),)), SchemaError, "s may be NULL"),
        (SetIdentifierFields((path("id"),), drop=True), SchemaError, "column id is not an identifier field"),
    ],
)
def test_what_cannot_be_done(wide: TableMetadata, action: Alteration, error: type[IcefusionError], words: str) -> None:
    with pytest.raises(error) as caught:
        alter(wide, [action])
    assert words in str(caught.value)
    assert caught.value.hint


def test_columns_in_use_are_not_dropped() -> None:
    base = table(
        "id bigint not null, a int, b int, s struct<x: int>", "bucket(4, a)", "truncate(2, b) DESC", identifiers=["id"]
    )
    for name, words in {
        "a": "partition field a_bucket is made from a\nHint: DROP PARTITION FIELD a_bucket first",
        "b": "sorted by b (WRITE ORDERED BY truncate(2, b) DESC NULLS LAST)\nHint: WRITE UNORDERED first",
        "id": "identifier field id is needed\nHint: DROP IDENTIFIER FIELDS id first",
    }.items():
        with pytest.raises(SchemaError) as caught:
            alter(base, [DropColumn(path(name))])
        assert words in str(caught.value)
    with pytest.raises(SchemaError, match="cannot take NULL: identifier field id needs it"):
        alter(base, [SetRequired(path("id"), False)])


def test_an_ambiguous_name_is_refused_and_an_exact_one_is_not() -> None:
    # Other engines make such tables: here no two names differ in nothing but their case.
    base = table("ab int, c int")
    fields = [
        field.model_copy(update={"name": name}) for field, name in zip(base.schema().fields, ("ab", "AB"), strict=True)
    ]
    both = base.model_copy(update={"schemas": [base.schema().model_copy(update={"fields": tuple(fields)})]})
    assert shape(altered(both, retype("AB", "bigint"))) == ["1 ab int", "2 AB bigint"]
    with pytest.raises(BindError, match="column Ab is ambiguous"):
        alter(both, [DropColumn(path("Ab"), if_exists=True)])


def test_errors_point_into_the_statement() -> None:
    sql = "ALTER TABLE t DROP COLUMN b"
    with pytest.raises(BindError) as caught:
        alter(table("a int, c int"), [DropColumn(path("b"), offset=sql.index("b"))], sql=sql)
    assert (caught.value.line, caught.value.column) == (1, 27)


def test_if_exists_and_if_not_exists() -> None:
    base = table("a int, b int")
    assert alter(base, [DropColumn(path("c"), if_exists=True), add("A", "string", if_not_exists=True)]) == ()
    assert alter(base, [DropColumn(path("a.x"), if_exists=True), DropColumn(path("x.a"), if_exists=True)]) == ()
    assert shape(altered(base, DropColumn(path("A"), if_exists=True))) == ["2 b int"]


def test_the_name_mapping_follows() -> None:
    base = table("a int, s struct<x: int>, l list<struct<y: int>>")
    mapping = create_mapping_from_schema(base.schema()).model_dump_json()
    base = base.model_copy(update={"properties": {"schema.name-mapping.default": mapping}})
    after = altered(
        base,
        RenameColumn(path("a"), named("b")),
        add("a", "struct<z: int>"),
        add("s.w", "int"),
        add("l.v", "int"),
        RenameColumn(path("s.x"), named("xx")),
        DropColumn(path("b")),
    )
    found = parse_mapping_from_json(after.properties["schema.name-mapping.default"])
    by_id = {field.field_id: field.names for field in found}
    ids = {name: after.schema().find_field(name).field_id for name in after.schema().column_names}
    assert by_id == {1: ["b"], ids["s"]: ["s"], ids["l"]: ["l"], ids["a"]: ["a"]}
    below = {field.names[0]: [(part.field_id, part.names) for part in field.fields] for field in found}
    assert below["s"] == [(ids["s.xx"], ["x", "xx"]), (ids["s.w"], ["w"])]
    assert below["a"] == [(ids["a.z"], ["z"])]


def test_properties_that_speak_of_columns_follow() -> None:
    prefix = "write.metadata.metrics.column."
    base = table("a int, s struct<x: int, y: int>, b int")
    base = base.model_copy(
        update={"properties": {prefix + "a": "full", prefix + "s.x": "none", prefix + "b": "counts", prefix + "z": "x"}}
    )
    after = altered(
        base,
        RenameColumn(path("a"), named("c")),
        RenameColumn(path("s"), named("t")),
        DropColumn(path("b")),
    )
    assert after.properties == {prefix + "c": "full", prefix + "t.x": "none", prefix + "z": "x"}


def test_a_column_does_not_take_the_name_of_a_partition_field() -> None:
    base = table("id bigint, ts timestamp", "day(ts), id")
    for action in (add("ts_day", "int"), RenameColumn(path("id"), named("TS_DAY"))):
        with pytest.raises(SchemaError, match="would have the name of a partition field of the table: ts_day"):
            alter(base, [action])
    moved = altered(base, RenameColumn(path("id"), named("key")))
    with pytest.raises(SchemaError, match="id is or was identity of key"):
        alter(moved, [add("id", "int")])
