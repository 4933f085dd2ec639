"""Alterations through a real catalog: PyIceberg makes the same of the updates, and reads rows and metadata back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import CommitTableRequest, Table, TableIdentifier
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AssertTableUUID

from icefusion.bridge.evolution import alter, requirements
from icefusion.commit.metadata import apply_updates
from icefusion.sql.alterations import Alteration
from icefusion.sql.parser import parse_statement
from icefusion.sql.statements import AlterTable
from icefusion.testing import FakeClock

STATEMENTS = (
    "ADD COLUMN n struct<x: int, y: list<struct<z: int>>>",
    "RENAME COLUMN name TO title, ALTER COLUMN id FIRST, ADD COLUMN s.q string COMMENT 'deep'",
    "ALTER COLUMN small TYPE bigint, SET IDENTIFIER FIELDS id",
    "ADD PARTITION FIELD bucket(4, id), ADD PARTITION FIELD day(ts), WRITE ORDERED BY id DESC",
    "DROP PARTITION FIELD ts_day, DROP COLUMN ts",
    "SET TBLPROPERTIES ('a' = '1'), UNSET TBLPROPERTIES ('b'), WRITE UNORDERED",
    "CREATE TAG first",
    "CREATE OR REPLACE BRANCH dev RETAIN 5 DAYS",
    "DROP TAG first",
)
ROWS = pa.table(
    {
        "name": ["one", None],
        "id": pa.array([1, 2], pa.int64()),
        "small": pa.array([5, 6], pa.int32()),
        "ts": pa.array([0, 1], pa.timestamp("us")),
        "s": [{"p": 1}, None],
    },
    pa.schema(
        [
            pa.field("name", pa.string()),
            pa.field("id", pa.int64(), nullable=False),
            pa.field("small", pa.int32()),
            pa.field("ts", pa.timestamp("us")),
            pa.field("s", pa.struct([pa.field("p", pa.int64())])),
        ]
    ),
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=tmp_path.as_uri())
    yield found
    found.close()


def commit(table: Table, actions: tuple[Alteration, ...]) -> None:
    """As a catalog is asked: the updates, and what has to be unchanged, through JSON as a REST catalog gets them."""
    updates = alter(table.metadata, actions)
    request = CommitTableRequest(
        identifier=TableIdentifier(namespace=["ns"], name="t"),
        requirements=(AssertTableUUID(uuid=table.metadata.table_uuid), *requirements(table.metadata, updates)),
        updates=updates,
    )
    sent = CommitTableRequest.model_validate_json(request.model_dump_json(by_alias=True))
    table.catalog.commit_table(table, tuple(sent.requirements), tuple(sent.updates))


def definition(metadata: TableMetadata) -> object:
    kept = metadata.model_dump(exclude={"last_updated_ms", "metadata_log"})
    return kept | {"schemas": [schema.model_dump() for schema in metadata.schemas]}


@pytest.mark.parametrize("version", ["1", "2"])
def test_pyiceberg_makes_the_same_of_the_updates_and_reads_the_rows(catalog: Catalog, version: str) -> None:
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", ROWS.schema, properties={"format-version": version, "b": "2"})
    table.append(ROWS)
    for statement in STATEMENTS:
        parsed = parse_statement(f"ALTER TABLE ns.t {statement}")
        assert isinstance(parsed, AlterTable)
        before = table.refresh().metadata
        ours = apply_updates(before, alter(before, parsed.actions), base_location=None, clock=FakeClock())
        commit(table, parsed.actions)
        table = catalog.load_table("ns.t")
        assert definition(table.metadata) == definition(ours)
    rows = table.scan().to_arrow()
    assert rows.column_names == ["id", "title", "small", "s", "n"]
    assert rows.column("s").to_pylist() == [{"p": 1, "q": None}, None]
    assert rows.column("title").to_pylist() == ["one", None]
    if version == "1":
        return  # PyIceberg cannot write below a void partition field whose column is gone
    table.append(rows.cast(table.schema().as_arrow()))
    assert len(catalog.load_table("ns.t").scan().to_arrow()) == 4
