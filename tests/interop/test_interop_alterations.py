"""The same ALTER TABLE, by Spark and here: from one state of a table both lead to the same metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.name_mapping import MappedField, parse_mapping_from_json
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import RemoveSnapshotRefUpdate, TableUpdate
from spark_client import Spark, SparkError

from icefusion.bridge.evolution import alter, replacement, requirements
from icefusion.bridge.partition import build_spec
from icefusion.bridge.types_sql import build_schema
from icefusion.commit.metadata import apply_updates, write_metadata_file
from icefusion.errors import IcefusionError, SchemaError
from icefusion.sql.alterations import Alteration
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import AlterTable, CreateTable
from icefusion.testing import FakeClock

NAME_MAPPING = "schema.name-mapping.default"

pytestmark = pytest.mark.spark

COLUMNS = """
    id bigint NOT NULL, key int NOT NULL, name string, small int, ratio float, price decimal(9, 2), ts timestamp,
    point struct<x: double, y: int>, items array<struct<a: int, b: string>>, tags array<int>,
    lookup map<string, struct<k: int, l: string>>, counts map<string, int>
"""

STATEMENTS = (
    "ADD COLUMN added string COMMENT 'new'",
    "ADD COLUMNS (n struct<x: int, y: array<struct<z: int>>, w: map<string, int>>, last bigint)",
    "ADD COLUMN point.z int",
    "ADD COLUMN items.element.c date FIRST",
    "ADD COLUMN lookup.value.m string AFTER k",
    "ADD COLUMN early int FIRST",
    "RENAME COLUMN name TO title",
    "RENAME COLUMN items.element.a TO alpha",
    "ALTER COLUMN small TYPE bigint",
    "ALTER COLUMN ratio TYPE double",
    "ALTER COLUMN price TYPE decimal(18, 2)",
    "ALTER COLUMN tags.element TYPE bigint",
    "ALTER COLUMN counts.value TYPE bigint",
    "ALTER COLUMN lookup.value.k TYPE bigint",
    "ALTER COLUMN price FIRST",
    "ALTER COLUMN small AFTER ts",
    "ALTER COLUMN point.y FIRST",
    "ALTER COLUMN id DROP NOT NULL",
    "ALTER COLUMN title COMMENT 'what it is called'",
    "ALTER COLUMN n.x COMMENT 'deep'",
    "DROP COLUMN last",
    "DROP COLUMN lookup.value.l",
    "DROP COLUMNS (n.w, early)",
    "ADD COLUMN last string",
    "RENAME COLUMN title TO name",
    "RENAME COLUMN name TO title",
    "ADD PARTITION FIELD day(ts)",
    "ADD PARTITION FIELD bucket(16, id)",
    "ADD PARTITION FIELD truncate(4, title) AS begins",
    "ADD PARTITION FIELD point.y",
    "DROP PARTITION FIELD ts_day",
    "DROP PARTITION FIELD bucket(16, id)",
    "ADD PARTITION FIELD bucket(16, id)",
    "REPLACE PARTITION FIELD begins WITH truncate(8, title)",
    "REPLACE PARTITION FIELD title_trunc_8 WITH truncate(4, title)",
    "ADD PARTITION FIELD hour(ts) AS ts_day",
    "DROP PARTITION FIELD ts_day",
    "DROP PARTITION FIELD point.y",
    "DROP PARTITION FIELD id_bucket_16",
    "WRITE ORDERED BY id DESC, bucket(4, title)",
    "WRITE ORDERED BY ts ASC NULLS LAST",
    "WRITE UNORDERED",
    "WRITE ORDERED BY id DESC, bucket(4, title)",
    "SET TBLPROPERTIES ('a' = '1', 'b' = '2')",
    "UNSET TBLPROPERTIES ('a')",
    "SET TBLPROPERTIES ('write.metadata.metrics.column.title' = 'full')",
    "SET TBLPROPERTIES ('write.metadata.metrics.column.point.z' = 'none')",
    'SET TBLPROPERTIES (\'schema.name-mapping.default\' = \'[{"field-id": 4, "names": ["small"]}, '
    '{"field-id": 8, "names": ["point"], "fields": [{"field-id": 14, "names": ["x", "ex"]}]}]\')',
    "RENAME COLUMN title TO headline",
    "DROP COLUMN point.z",
    "RENAME COLUMN small TO little",
    "ADD COLUMN small struct<p: int>",
    "ADD COLUMN point.z string",
    "ALTER COLUMN id TYPE bigint",
    "SET IDENTIFIER FIELDS key",
    "RENAME COLUMN key TO main_key",
    "DROP IDENTIFIER FIELDS main_key",
)

# Those that want snapshots; the first of two that there are is called {first}.
REF_STATEMENTS = (
    "CREATE BRANCH dev",
    "CREATE BRANCH IF NOT EXISTS dev RETAIN 9 DAYS",
    "CREATE TAG old AS OF VERSION {first} RETAIN 7 DAYS",
    "CREATE OR REPLACE BRANCH dev AS OF VERSION {first} RETAIN 5 DAYS WITH SNAPSHOT RETENTION 3 SNAPSHOTS 2 DAYS",
    "REPLACE BRANCH dev RETAIN 6 DAYS",
    "CREATE OR REPLACE TAG newest",
    "REPLACE TAG old",
    "DROP TAG newest",
    "DROP BRANCH IF EXISTS nowhere",
)

REFUSED = (
    "ADD COLUMN id int",
    "ADD COLUMN name.x int",
    "ADD COLUMN lookup.key.x int",
    "ADD COLUMN x int AFTER nowhere",
    "DROP COLUMN nowhere",
    "DROP COLUMN tags.element",
    "DROP COLUMN ts",
    "RENAME COLUMN nowhere TO x",
    "RENAME COLUMN name TO id",
    "ALTER COLUMN id TYPE int",
    "ALTER COLUMN name TYPE int",
    "ALTER COLUMN price TYPE decimal(18, 3)",
    "ALTER COLUMN price TYPE decimal(5, 2)",
    "ALTER COLUMN point TYPE int",
    "ALTER COLUMN tags.element FIRST",
    "ADD PARTITION FIELD day(ts)",
    "ADD PARTITION FIELD day(name)",
    "ADD PARTITION FIELD nowhere",
    "ADD PARTITION FIELD hour(ts) AS ts_day",
    "ADD PARTITION FIELD hour(ts) AS name",
    "DROP PARTITION FIELD nowhere",
    "DROP PARTITION FIELD hour(ts)",
    "WRITE ORDERED BY nowhere",
    "SET IDENTIFIER FIELDS name",
    "SET IDENTIFIER FIELDS nowhere",
    "DROP IDENTIFIER FIELDS id",
    "SET TBLPROPERTIES ('format-version' = '1')",
    "DROP BRANCH main",
    "DROP TAG nowhere",
)


def actions_of(statement: str) -> tuple[Alteration, ...]:
    parsed = parse_statement(f"ALTER TABLE db.t {statement}")
    assert isinstance(parsed, AlterTable)
    return parsed.actions


def mapped(fields: Iterable[MappedField]) -> list[tuple[int | None, set[str], Any]]:
    """A name mapping, the names of one column in no order."""
    return [(field.field_id, set(field.names), mapped(field.fields)) for field in fields]


def definition(metadata: TableMetadata) -> dict[str, Any]:
    """What alterations change; in the order and with the ids that the metadata has."""
    return {
        "schema": metadata.schema().model_dump(exclude={"schema_id"}),
        "identifiers": sorted(metadata.schema().identifier_field_ids),
        "schemas": metadata.current_schema_id,
        "last column": metadata.last_column_id,
        "spec": metadata.spec().model_dump(),
        "order": metadata.sort_order().model_dump(),
        "properties": {key: value for key, value in metadata.properties.items() if key != NAME_MAPPING},
        "mapping": mapped(parse_mapping_from_json(metadata.properties.get(NAME_MAPPING, "[]"))),
        "refs": {name: ref.model_dump() for name, ref in metadata.refs.items()},
        "version": metadata.format_version,
    }


@pytest.fixture(scope="module")
def state_of(spark: Spark) -> Callable[[str], TableMetadata]:
    def load(table: str) -> TableMetadata:
        location = spark.metadata_location(table).removeprefix("file:").replace("//", "/")
        return TableMetadataUtil.parse_raw(Path(location).read_text())

    return load


def ours(before: TableMetadata, statement: str) -> TableMetadata:
    after = apply_updates(before, alter(before, actions_of(statement)), base_location=None, clock=FakeClock())
    return TableMetadataUtil.parse_raw(after.model_dump_json())


def sent(models: Iterable[Any]) -> list[str]:
    return [model.model_dump_json(by_alias=True, exclude_none=True) for model in models]


def in_java(spark: Spark, before: TableMetadata, updates: Sequence[TableUpdate]) -> TableMetadata:
    """The updates as a REST catalog of the reference implementation carries them out; requirements are its own."""
    text, required = spark.update_metadata(before.model_dump_json(by_alias=True, exclude_none=True), sent(updates))
    ours = [json.loads(text) for text in sent(requirements(before, updates))]
    theirs = [json.loads(text) for text in required]
    unasked = [need for need in theirs if need["type"] != "assert-table-uuid" and need not in ours]
    assert not unasked
    removed = {update.ref_name for update in updates if isinstance(update, RemoveSnapshotRefUpdate)}
    assert all(need in theirs or need.get("ref") in removed for need in ours)
    return TableMetadataUtil.parse_raw(text)


def assert_same(statement: str, found: TableMetadata, wanted: TableMetadata) -> None:
    left, right = definition(found), definition(wanted)
    different = [key for key in left if left[key] != right[key]]
    assert {"after": statement} | {key: left[key] for key in different} == {"after": statement} | {
        key: right[key] for key in different
    }


@pytest.mark.parametrize("version", [1, 2])
def test_every_alteration_leads_where_spark_is_led(
    spark: Spark, state_of: Callable[[str], TableMetadata], version: int
) -> None:
    table = f"ice.db.altered_{version}"
    spark.sql(f"CREATE TABLE {table} ({COLUMNS}) USING iceberg TBLPROPERTIES ('format-version' = '{version}')")
    for statement in STATEMENTS:
        before = state_of(table)
        spark.sql(f"ALTER TABLE {table} {statement}")
        assert_same(statement, ours(before, statement), state_of(table))


def test_branches_and_tags_are_where_spark_has_them(spark: Spark, state_of: Callable[[str], TableMetadata]) -> None:
    table = "ice.db.referred"
    spark.script(
        f"CREATE TABLE {table} (id int) USING iceberg",
        f"INSERT INTO {table} VALUES (1)",
        f"INSERT INTO {table} VALUES (2)",
    )
    first = state_of(table).snapshots[0].snapshot_id
    for text in REF_STATEMENTS:
        statement, before = text.format(first=first), state_of(table)
        spark.sql(f"ALTER TABLE {table} {statement}")
        assert_same(statement, ours(before, statement), state_of(table))


def test_what_spark_refuses_is_refused(spark: Spark, state_of: Callable[[str], TableMetadata]) -> None:
    table = "ice.db.refused"
    spark.sql(f"CREATE TABLE {table} ({COLUMNS}) USING iceberg PARTITIONED BY (days(ts))")
    before = state_of(table)
    for statement in REFUSED:
        with pytest.raises(SparkError):
            spark.sql(f"ALTER TABLE {table} {statement}")
        with pytest.raises(IcefusionError):
            alter(before, actions_of(statement))


def test_spark_goes_on_with_a_table_that_was_altered_here(
    spark: Spark, state_of: Callable[[str], TableMetadata], tmp_path: Path
) -> None:
    spark.sql(f"CREATE TABLE ice.db.begun ({COLUMNS}) USING iceberg")
    metadata = state_of("ice.db.begun")
    actions = [action for statement in STATEMENTS for action in actions_of(statement)]
    updates = alter(metadata, actions)
    assert len({update.action for update in updates}) == len(updates)
    location = f"{tmp_path}/v.metadata.json"
    write_metadata_file(
        apply_updates(metadata, updates, base_location=None, clock=FakeClock()), PyArrowFileIO(), location
    )
    spark.adopt("ice.db.continued", location)
    described = spark.sql("DESCRIBE TABLE ice.db.continued")
    assert described == spark.sql("DESCRIBE TABLE ice.db.altered_2")
    before = state_of("ice.db.continued")
    for statement in ("ADD COLUMN more int", "ADD PARTITION FIELD main_key"):
        before = state_of("ice.db.continued")
        spark.sql(f"ALTER TABLE ice.db.continued {statement}")
        assert_same(statement, ours(before, statement), state_of("ice.db.continued"))


REPLACEMENTS = (
    "(id bigint, extra struct<p: int, q: string>, items array<struct<a: int, c: date>>) PARTITIONED BY (id)",
    "(extra struct<q: string, r: int>, title string) PARTITIONED BY (truncate(4, title), bucket(8, extra.r))",
    "(title string, ident bigint, day date) PARTITIONED BY (bucket(8, ident), ident, days(day))",
    "(title string, ident bigint, day date) PARTITIONED BY (bucket(8, ident), ident, days(day))",
    "(lookup map<string, struct<k: int, l: string>>, ident bigint) PARTITIONED BY (ident)",
    "(fresh int)",
)


@pytest.mark.parametrize("version", [1, 2])
def test_a_table_is_replaced_as_spark_replaces_it(
    spark: Spark, state_of: Callable[[str], TableMetadata], version: int
) -> None:
    table = f"ice.db.replaced_{version}"
    spark.script(
        f"CREATE TABLE {table} ({COLUMNS}) USING iceberg PARTITIONED BY (bucket(8, id), name) "
        f"TBLPROPERTIES ('format-version' = '{version}', 'kept' = '1')",
        f"INSERT INTO {table} VALUES (1, 2" + ", NULL" * 10 + ")",
    )
    for number, statement in enumerate(REPLACEMENTS):
        before = state_of(table)
        columns, _, partitioning = statement.partition(" PARTITIONED BY ")
        by = f"PARTITIONED BY {partitioning}" if partitioning else ""
        spark.sql(f"CREATE OR REPLACE TABLE {table} {columns} USING iceberg {by} TBLPROPERTIES ('new' = '{number}')")
        parsed = parse_statement(f"CREATE TABLE t {statement}")
        assert isinstance(parsed, CreateTable)
        schema = build_schema(parsed.columns)
        spec = build_spec(parsed.partitioning, schema)
        updates = replacement(before, schema, spec, UNSORTED_SORT_ORDER, {"new": str(number)}, None)
        after = apply_updates(before, updates, base_location=None, clock=FakeClock())
        assert_same(statement, TableMetadataUtil.parse_raw(after.model_dump_json()), state_of(table))
        assert_same(statement, in_java(spark, before, updates), state_of(table))
        assert after.current_snapshot_id is None
        assert after.snapshots == state_of(table).snapshots


@pytest.mark.parametrize("version", [1, 2])
def test_a_rest_catalog_in_java_makes_the_same_of_the_updates(
    spark: Spark, state_of: Callable[[str], TableMetadata], version: int
) -> None:
    table = f"ice.db.sent_{version}"
    spark.sql(f"CREATE TABLE {table} ({COLUMNS}) USING iceberg TBLPROPERTIES ('format-version' = '{version}')")
    spark.sql(f"INSERT INTO {table} VALUES (1, 2" + ", NULL" * 10 + ")")
    begin = before = state_of(table)
    references = [statement.format(first=begin.snapshots[0].snapshot_id) for statement in REF_STATEMENTS]
    for statement in (
        *STATEMENTS,
        *references,
        "SET TBLPROPERTIES ('format-version' = '2')",
        "SET LOCATION 'file:///x'",
    ):
        updates = alter(before, actions_of(statement))
        after = in_java(spark, before, updates)
        assert_same(statement, ours(before, statement), after)
        before = after
    everything = [action for statement in STATEMENTS for action in actions_of(statement)]
    updates = alter(begin, everything)
    assert_same(
        "all of them",
        TableMetadataUtil.parse_raw(
            apply_updates(begin, updates, base_location=None, clock=FakeClock()).model_dump_json()
        ),
        in_java(spark, begin, updates),
    )


def test_a_column_named_as_an_older_partition_field_is_refused(
    spark: Spark, state_of: Callable[[str], TableMetadata]
) -> None:
    table = "ice.db.named"
    spark.script(
        f"CREATE TABLE {table} (id int, name string) USING iceberg PARTITIONED BY (name)",
        f"CREATE OR REPLACE TABLE {table} (id int) USING iceberg",
    )
    parsed = parse_statement("CREATE TABLE t (name string)")
    assert isinstance(parsed, CreateTable)
    with pytest.raises(SparkError, match="Cannot create identity partition sourced from different field"):
        spark.sql(f"CREATE OR REPLACE TABLE {table} (name string) USING iceberg")
    with pytest.raises(SchemaError, match="would have the name of a partition field"):
        replacement(state_of(table), build_schema(parsed.columns), PartitionSpec(), UNSORTED_SORT_ORDER, {}, None)
    with pytest.raises(SparkError, match="Cannot create identity partition sourced from different field"):
        spark.sql(f"ALTER TABLE {table} ADD COLUMN name string")
    with pytest.raises(SchemaError, match="would have the name of a partition field"):
        alter(state_of(table), actions_of("ADD COLUMN name string"))
