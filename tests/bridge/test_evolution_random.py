"""Random alterations, in any order: what holds of a table whatever is done to it."""

from __future__ import annotations

import itertools

from evolution_tables import altered, named, path, sort, table, term, type_text, with_snapshots
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from icefusion.bridge.evolution import alter, overlap, requirements, stands
from icefusion.bridge.evolution.tree import column_paths, with_holders
from icefusion.errors import IcefusionError
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
    SetColumnType,
    SetIdentifierFields,
    SetLocation,
    SetOrdering,
    SetProperties,
    SetRef,
    SetRequired,
    UnsetProperties,
)

COLUMNS = """
    a int not null, b float, c decimal(9, 2), s struct<a: int not null, b: string, s: struct<a: date, b: int>> not null,
    l list<struct<a: int, b: string>>, m map<struct<a: int>, struct<a: int, b: string>>
"""

# Few names, so that alterations meet often. Most of them can be done to the table that it begins with.
OLD, NEW = ("a", "b", "c", "s", "l", "m"), ("x", "y", "z")
INNER = ("s", "s.s", "l.element", "m.value")
names = st.sampled_from(OLD + NEW)
parents = st.sampled_from(("", "", *(f"{parent}." for parent in INNER)))
paths = st.builds("{}{}".format, parents, names).map(path)
parts = st.sampled_from(("a", "b", "c", *(f"{parent}.{name}" for parent in INNER for name in "ab"))).map(path)
fresh = st.builds("{}{}".format, parents, st.sampled_from((*NEW, "c"))).map(path)
types = st.sampled_from(
    ["int", "bigint", "double", "decimal(12, 2)", "string", "struct<a: int, b: list<int>>", "map<string, int>"]
).map(type_text)
places = st.one_of(st.just(Place("first")), st.builds(Place, st.sampled_from(["after", "before"]), names.map(named)))
sources = st.sampled_from(["a", "b", "c", "x", "s.a", "s.b", "s.s.b"])
terms = st.one_of(
    sources,
    st.builds("bucket(4, {})".format, sources),
    st.builds("truncate(4, {})".format, sources),
    st.builds("bucket(8, {}) AS {}".format, sources, st.sampled_from(["p", "q"])),
    st.just("day(s.s.a)"),
).map(term)
old_terms = st.sampled_from(["a_bucket", "bucket(4, a)", "p", "q", "c", "s.a", "s_s_a_day"]).map(term)
adding = st.builds(AddColumn, fresh, types, comment=st.none() | st.just("c"), place=st.none() | places)
columns = st.one_of(
    adding,
    st.builds(DropColumn, paths),
    st.builds(DropColumn, parts),
    st.builds(RenameColumn, parts, st.sampled_from(NEW).map(named)),
    st.builds(RenameColumn, paths, names.map(named)),
    st.builds(MoveColumn, parts, places),
    st.builds(SetColumnType, paths | parts, types),
    st.builds(SetColumnType, parts, st.just(type_text("bigint"))),
    st.builds(SetColumnType, st.just(path("c")), st.just(type_text("decimal(12, 2)"))),
    st.builds(SetRequired, parts, st.booleans()),
    st.builds(SetColumnComment, paths | parts, st.none() | st.sampled_from(["c", "d"])),
    st.builds(SetIdentifierFields, st.lists(st.sampled_from([path("a"), path("s.a")]), max_size=2).map(tuple)),
)
keys = st.sampled_from(["p", "q"])
layout = st.one_of(
    st.builds(AddPartitionField, terms),
    st.builds(DropPartitionField, old_terms | terms),
    st.builds(ReplacePartitionField, old_terms, terms),
    st.builds(SetOrdering, st.sampled_from([(), sort("a"), sort("b DESC"), sort("bucket(4, a), s.a")])),
)
others = st.one_of(
    st.builds(lambda key, value: SetProperties(((key, value),)), keys, st.sampled_from("12")),
    st.builds(lambda key: UnsetProperties((key,)), keys),
    st.builds(SetLocation, st.sampled_from(["memory://u", "memory://v"])),
    st.builds(SetRef, st.sampled_from(["branch", "tag"]), names.map(named), st.sampled_from([None, 1, 2])),
    st.builds(DropRef, st.sampled_from(["branch", "tag"]), names.map(named)),
)
# One of three kinds first, or the many of one kind would leave little room for the others.
kinds = st.sampled_from([columns, columns, columns, layout, others]).flatmap(lambda kind: kind)
runs = st.lists(kinds, min_size=3, max_size=12)
BASES = {
    version: with_snapshots(table(COLUMNS, "bucket(4, a)", "b", version=version, properties={"p": "1"}), 1, 2)
    for version in (1, 2)
}


def possible(
    metadata: TableMetadata, wanted: list[Alteration]
) -> tuple[TableMetadata, list[Alteration], list[TableMetadata]]:
    """Do the alterations one at a time, those that can be done: where that leads, which they are, and the way there."""
    done: list[Alteration] = []
    way = [metadata]
    for action in wanted:
        try:
            metadata = altered(metadata, action)
        except IcefusionError:
            continue
        done.append(action)
        way.append(metadata)
    return metadata, done, way


def fields(metadata: TableMetadata) -> dict[int, NestedField]:
    return {field_id: field for field_id, (_, field) in with_holders(metadata.schema().fields).items()}


def meaning(metadata: TableMetadata) -> object:
    """A table without the numbers that depend on how many steps led to it."""
    paths_of, schema = column_paths(metadata.schema().fields), metadata.schema()
    return {
        "columns": [
            (paths_of[field_id], str(field.field_type).partition("<")[0], field.required, field.doc)
            for field_id, field in fields(metadata).items()
        ],
        "identifiers": {paths_of[field_id] for field_id in schema.identifier_field_ids},
        "spec": [(paths_of.get(part.source_id), str(part.transform)) for part in metadata.spec().fields],
        "order": [(paths_of[key.source_id], str(key.transform), key.direction) for key in metadata.sort_order().fields],
        "rest": (metadata.properties, metadata.location, metadata.refs, metadata.format_version),
    }


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([1, 2]), runs)
def test_what_holds_after_any_alterations(version: int, wanted: list[Alteration]) -> None:
    base = BASES[version]
    last, done, way = possible(base, wanted)
    gone: set[int] = set()
    for before, after in itertools.pairwise(way):
        had, has = fields(before), fields(after)
        new = has.keys() - had.keys()
        assert not new & gone, "an id is used again"
        assert all(field_id > before.last_column_id for field_id in new)
        assert after.last_column_id == max(before.last_column_id, *has)
        gone |= had.keys() - has.keys()
        after.spec().check_compatible(after.schema())
        after.sort_order().check_compatible(after.schema())
        assert len({spec.spec_id for spec in after.partition_specs}) == len(after.partition_specs)
        assert len({schema.schema_id for schema in after.schemas}) == len(after.schemas)
        sources_of = {(part.field_id, part.source_id) for spec in after.partition_specs for part in spec.fields}
        assert len({field_id for field_id, _ in sources_of}) == len(sources_of), "a partition field id stands for two"
        assert len({part.name for part in after.spec().fields}) == len(after.spec().fields)
        if version == 1:
            kept = [part.field_id for part in before.spec().fields]
            assert [part.field_id for part in after.spec().fields][: len(kept)] == kept
    together = alter(base, done)
    actions = [update.action for update in together if not update.action.endswith("-snapshot-ref")]
    assert len(set(actions)) == len(actions)
    for need in requirements(base, together):
        need.validate(base)
    at_once = altered(base, *done)
    assert meaning(at_once) == meaning(last)
    assert stands(base, at_once, done)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(runs, runs)
def test_alterations_that_do_not_overlap_mean_the_same_on_top_of_others(
    ours: list[Alteration], theirs: list[Alteration]
) -> None:
    base = BASES[2]
    _, ours, _ = possible(base, ours[:4])
    head, theirs, _ = possible(base, theirs[:4])
    if overlap(base, head, ours) is not None:
        return
    try:
        merged = altered(head, *ours)
    except IcefusionError:
        return  # what they did stands in the way, and the error says so
    assert stands(head, merged, ours)
    alone, both = fields(altered(base, *ours)), fields(merged)
    for field_id, field in fields(base).items():
        mine, merged_field = alone.get(field_id), both.get(field_id)
        if mine == field:
            continue
        assert (mine is None) == (merged_field is None)
        if mine is not None and merged_field is not None and mine.field_type.is_primitive:
            assert (mine.name, mine.required) == (merged_field.name, merged_field.required)
            assert str(merged_field.field_type) in (str(mine.field_type), str(fields(head)[field_id].field_type))
