import pytest
from evolution_tables import altered, applied, named, path, sort, table, term, with_snapshots
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType

from icefusion.bridge.evolution import alter, check_properties
from icefusion.bridge.partition import sort_order_to_sql
from icefusion.errors import BindError, ConfigurationError, IcefusionError, SchemaError, UnsupportedStatementError
from icefusion.sql.alterations import (
    AddPartitionField,
    Alteration,
    DropColumn,
    DropPartitionField,
    DropRef,
    RefKind,
    RenameColumn,
    ReplacePartitionField,
    SetLocation,
    SetOrdering,
    SetProperties,
    SetRef,
    UnsetProperties,
)

COLUMNS = "id bigint, ts timestamp, s string, p struct<x: int>"


def add(text: str) -> AddPartitionField:
    return AddPartitionField(term(text))


def drop(text: str) -> DropPartitionField:
    return DropPartitionField(term(text))


def parts(metadata: TableMetadata) -> list[str]:
    return [f"{field.field_id} {field.name} {field.transform}({field.source_id})" for field in metadata.spec().fields]


# Partition specs


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("id", "1000 id identity(1)"),
        ("day(ts)", "1000 ts_day day(2)"),
        ("hours(TS)", "1000 ts_hour hour(2)"),
        ("bucket(16, id)", "1000 id_bucket_16 bucket[16](1)"),
        ("truncate(4, s)", "1000 s_trunc_4 truncate[4](3)"),
        ("p.x", "1000 p.x identity(5)"),
        ("bucket(8, id) AS shard", "1000 shard bucket[8](1)"),
    ],
)
def test_new_partition_fields_are_named_as_elsewhere(text: str, wanted: str) -> None:
    base = table(COLUMNS)
    updates = alter(base, [add(text)])
    assert [update.action for update in updates] == ["add-spec", "set-default-spec"]
    assert parts(applied(base, updates)) == [wanted]


def test_old_partition_fields_and_specs_are_used_again() -> None:
    base = table(COLUMNS, "day(ts), bucket(4, id)")
    without = altered(base, drop("day(ts)"))
    assert parts(without) == ["1001 id_bucket bucket[4](1)"]
    assert without.default_spec_id == 1
    hours = altered(without, add("hour(ts)"))
    assert parts(hours) == ["1001 id_bucket bucket[4](1)", "1002 ts_hour hour(2)"]
    back = altered(hours, drop("ts_hour"), drop("id_bucket"), add("day(ts)"), add("bucket(4, id)"))
    assert (back.default_spec_id, parts(back)) == (0, parts(base))
    days = altered(hours, ReplacePartitionField(term("hour(ts)"), term("day(ts)")))
    assert parts(days) == ["1001 id_bucket bucket[4](1)", "1000 ts_day day(2)"]
    named_anew = altered(hours, ReplacePartitionField(term("ts_hour"), term("day(ts) AS d")))
    assert parts(named_anew)[-1] == "1003 d day(2)"
    assert alter(base, [drop("day(ts)"), drop("id_bucket"), add("day(ts)"), add("bucket(4, id)")]) == ()


def test_format_version_1_keeps_dropped_fields_as_void_ones() -> None:
    base = table(COLUMNS, "day(ts), id", version=1)
    dropped = altered(base, drop("day(ts)"))
    assert parts(dropped) == ["1000 ts_day void(2)", "1001 id identity(1)"]
    again = altered(dropped, add("day(ts)"))
    assert parts(again) == ["1000 ts_day_1000 void(2)", "1001 id identity(1)", "1002 ts_day day(2)"]
    with pytest.raises(BindError, match="is dropped already"):
        alter(dropped, [drop("ts_day")])
    assert alter(base, [drop("day(ts)"), add("day(ts)")]) == ()
    column_gone = altered(dropped, DropColumn(path("ts")))
    assert [field.name for field in column_gone.schema().fields] == ["id", "s", "p"]
    upgraded = altered(dropped, SetProperties((("format-version", "2"),)), drop("ts_day"))
    assert (upgraded.format_version, parts(upgraded)) == (2, ["1001 id identity(1)"])


def test_a_partition_field_is_named_by_itself_or_by_what_it_is_made_from() -> None:
    base = altered(table(COLUMNS, "id, bucket(4, s) AS shard"), RenameColumn(path("id"), named("key")))
    assert parts(altered(base, drop("id"))) == ["1001 shard bucket[4](3)"]
    assert parts(altered(base, drop("key"))) == ["1001 shard bucket[4](3)"]
    assert parts(altered(base, drop("SHARD"))) == ["1000 id identity(1)"]
    assert parts(altered(base, drop("bucket(4, s)"))) == ["1000 id identity(1)"]


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (add("day(ts)"), SchemaError, "is partitioned by day(ts) already, as partition field ts_day"),
        (add("hour(s)"), SchemaError, "transform hour does not apply to column s of type string"),
        (add("day(t)"), BindError, "did you mean ts?"),
        (add("p"), SchemaError, "partitions and sort orders need single values"),
        (add("hour(ts) AS ts_day"), SchemaError, "there is a partition field ts_day already"),
        (add("hour(ts) AS ID"), SchemaError, "would have the name of the column id"),
        (drop("hour(ts)"), BindError, "did you mean DROP PARTITION FIELD ts_day?"),
        (drop("shart"), BindError, "there is no partition field shart\nHint: did you mean shard?"),
        (drop("id"), BindError, "the table is not partitioned by id"),
        (ReplacePartitionField(term("ts_day"), term("bucket(4, s)")), SchemaError, "already, as partition field shard"),
    ],
)
def test_what_cannot_be_done_to_partitions(action: Alteration, error: type[IcefusionError], words: str) -> None:
    with pytest.raises(error) as caught:
        alter(table(COLUMNS, "day(ts), bucket(4, s) AS shard"), [action])
    assert words in str(caught.value)
    assert caught.value.hint


# Sort orders


def test_sort_orders() -> None:
    base = table(COLUMNS)
    by_id = SetOrdering(sort("id DESC, bucket(4, s)"))
    updates = alter(base, [by_id])
    assert [update.action for update in updates] == ["add-sort-order", "set-default-sort-order"]
    after = applied(base, updates)
    assert sort_order_to_sql(after.sort_order(), after.schema()) == ("id DESC NULLS LAST, bucket(4, s) ASC NULLS FIRST")
    assert alter(after, [by_id]) == ()
    other = altered(after, SetOrdering(sort("p.x")))
    assert [order.order_id for order in other.sort_orders] == [0, 1, 2]
    back = alter(other, [by_id])
    assert [update.action for update in back] == ["set-default-sort-order"]
    assert applied(other, back).default_sort_order_id == after.default_sort_order_id
    assert altered(other, SetOrdering()).default_sort_order_id == 0


def test_a_table_that_was_always_sorted_can_be_unsorted() -> None:
    base = table(COLUMNS, ordered="id")
    after = altered(base, SetOrdering())
    assert (after.default_sort_order_id, after.sort_order().fields) == (0, [])
    with pytest.raises(BindError, match="there is no column idd"):
        alter(base, [SetOrdering(sort("idd"))])
    with pytest.raises(SchemaError, match="need single values"):
        alter(base, [SetOrdering(sort("p"))])


# Properties and location


def test_properties() -> None:
    base = table("id int", properties={"a": "1", "b": "2"})
    after = altered(base, SetProperties((("a", "9"), ("c", "3"))), UnsetProperties(("b",)), SetLocation("memory://u/"))
    assert after.properties == {"a": "9", "c": "3"}
    assert after.location == "memory://u"
    assert alter(base, [SetProperties((("a", "1"),)), UnsetProperties(("x",), if_exists=True)]) == ()
    assert alter(base, [SetProperties((("x", "1"),)), UnsetProperties(("x",))]) == ()


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (
            UnsetProperties(("write.target-file-size-byte",)),
            ConfigurationError,
            "no property write.target-file-size-byte",
        ),
        (UnsetProperties(("format-version",)), ConfigurationError, "every table has one"),
        (SetProperties((("current-schema", "1"),)), ConfigurationError, "property current-schema is reserved"),
        (SetProperties((("format-version", "3"),)), UnsupportedStatementError, "format-version 3 cannot be written"),
        (SetProperties((("format-version", "1"),)), UnsupportedStatementError, "cannot be lowered"),
        (SetProperties((("format-version", "x"),)), ConfigurationError, "expected a whole number"),
        (SetProperties((("write.target-file-size-bytes", "1MB"),)), ConfigurationError, "expected a whole number"),
        (SetProperties((("write.delete.mode", "fast"),)), ConfigurationError, "copy-on-write or merge-on-read"),
        (SetProperties((("commit.retry.num-retries", "-1"),)), ConfigurationError, "at least 0"),
        (SetProperties((("history.expire.min-snapshots-to-keep", "0"),)), ConfigurationError, "at least 1"),
        (SetProperties((("write.distribution-mode", "hashed"),)), ConfigurationError, "none, hash or range"),
        (SetProperties((("write.metadata.metrics.default", "all"),)), ConfigurationError, "none, counts, truncate(n)"),
        (SetProperties((("write.metadata.metrics.column.a", "truncate(0)"),)), ConfigurationError, "truncate(n)"),
        (SetProperties((("write.wap.enabled", "yes"),)), ConfigurationError, "expected true or false"),
        (SetProperties((("read.split.planning-lookback", "many"),)), ConfigurationError, "expected a whole number"),
        (SetProperties((("schema.name-mapping.default", "{"),)), ConfigurationError, "not a name mapping"),
        (SetLocation("/"), ConfigurationError, "is not a folder"),
    ],
)
def test_what_cannot_be_set(action: Alteration, error: type[IcefusionError], words: str) -> None:
    with pytest.raises(error) as caught:
        alter(table("id int"), [action])
    assert words in str(caught.value)


def test_properties_of_other_engines_are_let_through() -> None:
    check_properties({"write.spark.own": "x", "trino.thing": "y", "write.parquet.other": "z", "comment": ""})
    check_properties({"write.delete.parquet.compression-codec": "zstd", "write.orc.compression-codec": "zstd"})
    check_properties({"write.parquet.bloom-filter-enabled.column.a": "true", "write.metadata.metrics.column.a": "full"})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("write.target-file-size-byte", "write.target-file-size-bytes"),
        ("write.Delete.Mode", "write.delete.mode"),
        ("write.parquet.compresion-codec", "write.parquet.compression-codec"),
    ],
)
def test_a_misspelt_property_names_the_right_one(key: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no table property") as caught:
        check_properties({key: "1"})
    assert caught.value.hint == f"did you mean {meant}?"


# Branches and tags


@pytest.fixture(scope="module")
def grown() -> TableMetadata:
    return with_snapshots(table("id int"), 1, 2, 3)


def ref(kind: RefKind, name: str, **rest: object) -> SetRef:
    return SetRef(kind, named(name), **rest)  # type: ignore[arg-type]


def test_branches_and_tags(grown: TableMetadata) -> None:
    after = altered(
        grown,
        ref("branch", "dev", retain_ms=5, snapshot_retain_ms=6, min_snapshots_to_keep=7),
        ref("tag", "first", version=1, retain_ms=9),
        ref("tag", "same", version="first"),
    )
    dev = after.refs["dev"]
    assert (dev.snapshot_id, dev.snapshot_ref_type) == (3, SnapshotRefType.BRANCH)
    assert (dev.max_ref_age_ms, dev.max_snapshot_age_ms, dev.min_snapshots_to_keep) == (5, 6, 7)
    assert (after.refs["first"].snapshot_id, after.refs["same"].snapshot_id) == (1, 1)
    moved = altered(after, ref("branch", "DEV", version=2, replace=True, snapshot_retain_ms=60))
    dev = moved.refs["dev"]
    assert (dev.snapshot_id, dev.max_ref_age_ms, dev.max_snapshot_age_ms, dev.min_snapshots_to_keep) == (2, 5, 60, 7)
    assert alter(after, [ref("branch", "dev", version=1, if_not_exists=True)]) == ()
    fewer = altered(after, DropRef("branch", named("dev")), DropRef("tag", named("none"), if_exists=True))
    assert set(fewer.refs) == {"main", "first", "same"}
    turned = altered(after, DropRef("tag", named("same")), ref("branch", "same"))
    assert turned.refs["same"].snapshot_ref_type == SnapshotRefType.BRANCH
    assert altered(after, ref("branch", "main", version=2, replace=True)).current_snapshot_id == 2


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (ref("branch", "dev"), SchemaError, "branch dev exists already"),
        (ref("tag", "dev", replace=True), SchemaError, "dev is a branch, not a tag\nHint: write REPLACE BRANCH dev"),
        (
            ref("branch", "dew", create=False, replace=True),
            BindError,
            "there is no branch dew\nHint: did you mean dev?",
        ),
        (ref("branch", "x", version=9), BindError, "there is no snapshot 9"),
        (ref("branch", "x", version="dve"), BindError, "there is no branch or tag dve\nHint: did you mean dev?"),
        (ref("tag", "main"), SchemaError, "main is the table's main branch"),
        (ref("tag", "x", min_snapshots_to_keep=2), SchemaError, "names one snapshot"),
        (ref("tag", "x", retain_ms=0), SchemaError, "RETAIN is at least 1"),
        (ref("branch", "main", replace=True, retain_ms=5), SchemaError, "the main branch never ends"),
        (DropRef("branch", named("main")), SchemaError, "the main branch cannot be dropped"),
        (DropRef("tag", named("main")), SchemaError, "the main branch cannot be dropped"),
        (DropRef("tag", named("dev")), SchemaError, "dev is a branch, not a tag\nHint: write DROP BRANCH dev"),
        (DropRef("branch", named("nope")), BindError, "there is no branch nope\nHint: there are dev, main"),
    ],
)
def test_what_cannot_be_done_to_refs(
    grown: TableMetadata, action: Alteration, error: type[IcefusionError], words: str
) -> None:
    with pytest.raises(error) as caught:
        alter(altered(grown, ref("branch", "dev")), [action])
    assert words in str(caught.value)


def test_an_empty_table_has_nothing_to_name() -> None:
    with pytest.raises(SchemaError, match="the table is empty"):
        alter(table("id int"), [ref("branch", "dev")])
