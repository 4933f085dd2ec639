"""What those who commit alterations ask: do they still mean the same, are they there, what has to be unchanged."""

import pytest
from evolution_tables import altered, applied, named, path, shape, sort, table, term, type_text, with_snapshots
from pyiceberg.table.metadata import TableMetadata

from icefusion.bridge.evolution import alter, overlap, replacement, requirements, stands
from icefusion.errors import ConfigurationError
from icefusion.sql.alterations import (
    AddColumn,
    AddPartitionField,
    Alteration,
    DropColumn,
    DropRef,
    MoveColumn,
    Place,
    RenameColumn,
    SetColumnComment,
    SetColumnType,
    SetIdentifierFields,
    SetLocation,
    SetOrdering,
    SetProperties,
    SetRef,
    SetRequired,
    UnsetProperties,
)

COLUMNS = "id int not null, a int, b string, s struct<x: int, y: int>, ts timestamp, k int not null"


def add(where: str, **rest: object) -> AddColumn:
    return AddColumn(path(where), type_text("int"), **rest)  # type: ignore[arg-type]


def drop(where: str) -> DropColumn:
    return DropColumn(path(where))


def rename(where: str, name: str) -> RenameColumn:
    return RenameColumn(path(where), named(name))


def widen(where: str) -> SetColumnType:
    return SetColumnType(path(where), type_text("bigint"))


def move(where: str, beside: str | None = None) -> MoveColumn:
    return MoveColumn(path(where), Place("first") if beside is None else Place("after", named(beside)))


def partition(text: str) -> AddPartitionField:
    return AddPartitionField(term(text))


def tag(name: str, version: int | None = None, **rest: object) -> SetRef:
    return SetRef("tag", named(name), version, **rest)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base() -> TableMetadata:
    return altered(with_snapshots(table(COLUMNS, properties={"p": "1", "q": "1"}), 1, 2), tag("old", 1))


APART: list[tuple[Alteration, Alteration]] = [
    (add("new"), add("other")),
    (add("new"), add("s.new")),
    (drop("a"), rename("b", "bb")),
    (widen("a"), widen("s.x")),
    (widen("a"), widen("a")),
    (widen("s.x"), rename("a", "aa")),
    (move("a"), move("b")),
    (move("a", "b"), add("new", place=Place("first"))),
    (SetRequired(path("a"), True), SetColumnComment(path("b"), "x")),
    (add("a", if_not_exists=True), add("new")),
    (add("new"), SetProperties((("p", "2"),))),
    (SetProperties((("p", "2"),)), SetProperties((("q", "2"),))),
    (SetProperties((("p", "2"),)), SetProperties((("p", "2"),))),
    (UnsetProperties(("p",)), SetProperties((("q", "2"),))),
    (partition("a"), SetOrdering(sort("b"))),
    (partition("a"), add("new")),
    (SetOrdering(sort("b")), SetOrdering(sort("b"))),
    (SetLocation("memory://u"), tag("new")),
    (tag("new"), tag("other")),
    (tag("new"), DropRef("tag", named("old"))),
    (SetIdentifierFields((path("id"),)), widen("a")),
]


@pytest.mark.parametrize(("ours", "theirs"), APART)
def test_alterations_of_other_things_do_not_overlap(base: TableMetadata, ours: Alteration, theirs: Alteration) -> None:
    head = with_snapshots(altered(base, theirs), 3)
    assert overlap(base, head, [ours]) is None
    merged = altered(head, ours)
    assert stands(head, merged, [ours])
    assert stands(base, altered(altered(base, ours), theirs), [ours])


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (add("new"), add("NEW"), "a column NEW appeared"),
        (add("s.new"), add("s.new"), "a column s.new appeared"),
        (add("s.new"), drop("s"), "column s was dropped"),
        (add("s.new"), rename("s", "t"), "column s was renamed to t"),
        (add("new", place=Place("after", named("a"))), drop("a"), "column a was dropped"),
        (drop("a"), widen("a"), "column a was altered"),
        (drop("s"), add("s.new"), "column s was altered"),
        (drop("a"), drop("a"), "column a was dropped"),
        (rename("a", "c"), rename("a", "d"), "column a was renamed to d"),
        (rename("a", "c"), rename("b", "C"), "a column C appeared"),
        (rename("a", "c"), SetColumnComment(path("a"), "x"), "column a was altered"),
        (SetColumnComment(path("a"), "y"), SetColumnComment(path("a"), "x"), "column a was altered"),
        (widen("a"), SetRequired(path("a"), True), "column a was altered"),
        (move("b"), move("b", "s"), "column b was moved"),
        (move("b", "s"), drop("s"), "column s was dropped"),
        (DropColumn(path("z"), if_exists=True), add("z"), "a column z appeared"),
        (add("a", if_not_exists=True), drop("a"), "column a was dropped"),
        (partition("a"), partition("b"), "the partition spec was changed"),
        (partition("day(ts)"), rename("ts", "at"), "column ts was renamed to at"),
        (SetOrdering(sort("a")), SetOrdering(sort("b")), "the sort order was changed"),
        (SetOrdering(sort("a")), drop("a"), "column a was dropped"),
        (SetProperties((("p", "2"),)), SetProperties((("p", "3"),)), "property p was set to '3'"),
        (SetProperties((("p", "2"),)), UnsetProperties(("p",)), "property p was unset"),
        (SetProperties((("z", "2"),)), SetProperties((("z", "3"),)), "property z was set to '3'"),
        (SetLocation("memory://u"), SetLocation("memory://v"), "the location was changed to memory://v"),
        (tag("new"), tag("new", 1), "tag new was created"),
        (tag("old", 2, replace=True), tag("old", 2, replace=True), "tag old was changed"),
        (DropRef("tag", named("old")), DropRef("tag", named("old")), "tag old was dropped"),
        (
            SetIdentifierFields((path("id"),)),
            SetIdentifierFields((path("k"),)),
            "the identifier fields were changed",
        ),
    ],
)
def test_alterations_of_the_same_thing_overlap(
    base: TableMetadata, ours: Alteration, theirs: Alteration, reason: str
) -> None:
    assert overlap(base, altered(base, theirs), [ours]) == reason


def test_a_column_that_was_made_anew_is_another_one(base: TableMetadata) -> None:
    head = altered(base, drop("a"), add("a"))
    assert overlap(base, head, [widen("a")]) == "column a was dropped"


def test_a_branch_that_moved_is_not_ours_to_replace() -> None:
    base = with_snapshots(table(COLUMNS), 1, 2)
    dev = SetRef("branch", named("dev"), 1)
    head = altered(altered(base, dev), SetRef("branch", named("dev"), 2, replace=True))
    assert overlap(altered(base, dev), head, [DropRef("branch", named("dev"))]) == "branch dev was changed"


def test_what_earlier_actions_made_is_not_looked_for_elsewhere(base: TableMetadata) -> None:
    ours = [add("new"), widen("new"), rename("new", "newer"), partition("newer"), rename("a", "c"), add("a")]
    head = altered(base, add("other"), widen("s.y"))
    assert overlap(base, head, ours) is None
    after = altered(head, *ours)
    assert shape(after)[-3:] == ["9 other int", "10 newer bigint", "11 a int"]


def test_a_struct_can_be_renamed_while_others_alter_what_is_in_it(base: TableMetadata) -> None:
    head = altered(base, widen("s.x"))
    assert overlap(base, head, [rename("s", "t")]) is None
    assert str(altered(head, rename("s", "t")).schema().find_type("t.x")) == "long"


@pytest.mark.parametrize(("ours", "theirs"), APART)
def test_a_state_without_the_alteration_does_not_show_it(
    base: TableMetadata, ours: Alteration, theirs: Alteration
) -> None:
    changes = altered(base, ours) != base
    assert stands(base, base, [ours]) is not changes or ours == theirs
    if ours != theirs and changes:
        assert not stands(base, altered(base, theirs), [ours])


# Requirements


@pytest.mark.parametrize(
    ("actions", "wanted"),
    [
        ([add("new")], {"assert-last-assigned-field-id": 8, "assert-current-schema-id": 0}),
        ([partition("a")], {"assert-last-assigned-partition-id": 999, "assert-default-spec-id": 0}),
        ([SetOrdering(sort("a"))], {"assert-default-sort-order-id": 0}),
        ([SetProperties((("z", "1"),)), SetLocation("memory://v")], {}),
        ([tag("new")], {"assert-ref-snapshot-id": ("new", None)}),
        ([DropRef("tag", named("old"))], {"assert-ref-snapshot-id": ("old", 1)}),
    ],
)
def test_requirements(base: TableMetadata, actions: list[Alteration], wanted: dict[str, object]) -> None:
    updates = alter(base, actions)
    needed = requirements(base, updates)
    values = {need.type: tuple(need.model_dump(exclude={"type"}).values()) for need in needed}
    assert values == {key: value if isinstance(value, tuple) else (value,) for key, value in wanted.items()}
    for need in needed:
        need.validate(base)


# CREATE OR REPLACE


def replaced(base: TableMetadata, columns: str, partitioned: str = "", ordered: str = "", **rest: str) -> TableMetadata:
    new = table(columns, partitioned, ordered)
    order = new.sort_order()
    return applied(base, replacement(base, new.schema(), new.spec(), order, {**rest}, None))


def test_a_replaced_table_keeps_ids_by_path_and_its_history(base: TableMetadata) -> None:
    after = replaced(base, "s struct<y: bigint, z: int>, id string, new int", "bucket(4, new)", "s.y DESC", q="2")
    ids = {name: after.schema().find_field(name).field_id for name in after.schema().column_names}
    old = base.schema()
    assert {name: ids[name] for name in ("s", "s.y", "id")} == {
        name: old.find_field(name).field_id for name in ("s", "s.y", "id")
    }
    assert (ids["new"], ids["s.z"]) == (9, 10)
    assert (after.spec().fields[0].source_id, after.spec().fields[0].field_id) == (9, 1000)
    assert after.sort_order().fields[0].source_id == ids["s.y"]
    assert after.properties == {"p": "1", "q": "2"}
    assert (after.current_snapshot_id, set(after.refs)) == (None, {"old"})
    assert [snapshot.snapshot_id for snapshot in after.snapshots] == [1, 2]
    assert (after.table_uuid, after.last_column_id, len(after.schemas)) == (base.table_uuid, 10, 2)


def test_a_table_replaced_by_itself_is_only_emptied(base: TableMetadata) -> None:
    updates = replacement(base, base.schema(), base.spec(), base.sort_order(), {}, None)
    assert [update.action for update in updates] == ["remove-snapshot-ref"]
    again = replaced(replaced(base, "z int", "z"), COLUMNS)
    assert again.current_schema_id != base.current_schema_id  # z is gone, but id 1 is no longer the path id's
    assert again.default_spec_id == base.default_spec_id


def test_partition_fields_of_a_replaced_table() -> None:
    base = table(COLUMNS, "day(ts), a")
    after = replaced(base, COLUMNS, "a AS aa, b")
    assert [(field.field_id, field.name) for field in after.spec().fields] == [(1001, "aa"), (1002, "b")]
    first = table(COLUMNS, "day(ts), a", version=1)
    after = replaced(first, COLUMNS, "a AS ts_day, b")
    assert [(field.field_id, field.name, str(field.transform)) for field in after.spec().fields] == [
        (1000, "ts_day_1000", "void"),
        (1001, "ts_day", "identity"),
        (1002, "b", "identity"),
    ]


def test_a_replacement_upgrades_and_refuses_bad_properties(base: TableMetadata) -> None:
    first = table(COLUMNS, version=1)
    after = replaced(first, COLUMNS, **{"format-version": "2"})
    assert after.format_version == 2
    with pytest.raises(ConfigurationError, match=r"write\.update\.mode"):
        replaced(base, COLUMNS, **{"write.update.mode": "x"})
