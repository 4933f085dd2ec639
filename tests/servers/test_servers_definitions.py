"""Tables that are made and altered on every catalog: alone, in blocks with rows, and by several at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from places import Place

import icefusion
from icefusion import Session

WRITERS = 3
ROUNDS = 3


@pytest.fixture
def session(any_place: Place) -> Iterator[Session]:
    with any_place.connect() as session:
        session.sql(f"CREATE NAMESPACE {any_place.namespace}")
        session.sql(f"CREATE TABLE {any_place.namespace}.t (id BIGINT, v STRING)")
        session.sql(f"INSERT INTO {any_place.namespace}.t VALUES (1, 'a'), (2, NULL)")
        yield session


@pytest.fixture
def t(any_place: Place) -> str:
    return f"{any_place.namespace}.t"


def outside(place: Place, table: str):
    """The table as PyIceberg has it."""
    return place.pyiceberg().load_table(table)


def test_a_table_changes_in_all_that_can_evolve(session: Session, t: str, any_place: Place) -> None:
    session.sql(f"ALTER TABLE {t} ADD COLUMN n INT COMMENT 'new' FIRST, RENAME COLUMN v TO w")
    session.sql(f"ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT; ALTER TABLE {t} ALTER COLUMN id SET NOT NULL")
    session.sql(f"ALTER TABLE {t} ADD PARTITION FIELD bucket(4, id), WRITE ORDERED BY id DESC")
    session.sql(f"ALTER TABLE {t} SET TBLPROPERTIES ('a' = 'b', 'c' = 'd')")
    session.sql(f"ALTER TABLE {t} UNSET TBLPROPERTIES ('c'); ALTER TABLE {t} SET IDENTIFIER FIELDS id")
    session.sql(f"ALTER TABLE {t} CREATE TAG before, CREATE BRANCH dev RETAIN 5 DAYS")
    session.sql(f"INSERT INTO {t} VALUES (30, 3, 'c'); INSERT INTO {t}.branch_dev VALUES (40, 4, 'd')")
    table = outside(any_place, t)
    assert [(f.field_id, f.name, str(f.field_type), f.required, f.doc) for f in table.schema().fields] == [
        (3, "n", "long", False, "new"),
        (1, "id", "long", True, None),
        (2, "w", "string", False, None),
    ]
    assert [field.name for field in table.spec().fields] == ["id_bucket_4"]
    assert str(table.sort_order().fields[0].direction) == "DESC"
    assert table.properties.get("a") == "b"
    assert "c" not in table.properties
    assert table.schema().identifier_field_ids == [1]
    assert set(table.refs()) == {"main", "before", "dev"}
    assert table.refs()["dev"].max_ref_age_ms == 5 * 86_400_000
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]
    assert sorted(table.scan().use_ref("dev").to_arrow()["id"].to_pylist()) == [1, 2, 4]
    assert session.sql(f"SELECT id FROM {t} FOR VERSION AS OF 'before' ORDER BY id").fetchall() == [(1,), (2,)]


def test_a_block_alters_and_fills_a_table(session: Session, t: str, any_place: Place) -> None:
    with session.transaction() as tx:
        tx.sql(f"ALTER TABLE {t} ADD COLUMN n INT")
        tx.sql(f"INSERT INTO {t} VALUES (3, 'c', 30)")
        tx.sql(f"ALTER TABLE {t} ADD PARTITION FIELD bucket(2, id)")
        tx.sql(f"UPDATE {t} SET n = id * 10 WHERE n IS NULL")
        assert outside(any_place, t).schema().column_names == ["id", "v"]
    table = outside(any_place, t)
    assert sorted(table.scan().to_arrow()["n"].to_pylist()) == [10, 20, 30]
    assert len(table.snapshots()) == 2
    with session.transaction() as tx:
        tx.sql(f"ALTER TABLE {t} DROP COLUMN n; INSERT INTO {t} VALUES (9, 'z')")
        tx.rollback()
    assert outside(any_place, t).metadata_location == table.metadata_location


def test_a_table_is_made_anew(session: Session, t: str, any_place: Place) -> None:
    session.sql(f"CREATE OR REPLACE TABLE {t} PARTITIONED BY (v) AS SELECT v, id + 10 AS n FROM {t} WHERE v = 'a'")
    table = outside(any_place, t)
    assert table.scan().to_arrow().to_pylist() == [{"v": "a", "n": 11}]
    assert [snapshot.parent_snapshot_id for snapshot in table.snapshots()] == [None, None]
    session.sql(f"CREATE OR REPLACE TABLE {t} (z INT)")
    assert outside(any_place, t).current_snapshot() is None
    assert session.sql(f"SELECT * FROM {t}").fetchall() == []


def test_alterations_collide_only_where_they_meet(session: Session, t: str, any_place: Place) -> None:
    with any_place.connect() as other:
        session.sql(f"BEGIN; ALTER TABLE {t} ADD COLUMN mine INT")
        other.sql(f"ALTER TABLE {t} ADD COLUMN yours INT; INSERT INTO {t} (id) VALUES (3)")
        session.sql("COMMIT")
        session.sql(f"BEGIN; ALTER TABLE {t} RENAME COLUMN v TO a")
        other.sql(f"ALTER TABLE {t} RENAME COLUMN v TO b")
        with pytest.raises(icefusion.CommitConflictError, match="v"):
            session.sql("COMMIT")
    table = outside(any_place, t)
    assert table.schema().column_names == ["id", "b", "yours", "mine"]
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]


def test_those_who_alter_and_fill_one_table_at_once_lose_nothing(session: Session, t: str, any_place: Place) -> None:
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            with any_place.connect(retry=icefusion.RetryConfig(max_attempts=20)) as own:
                for number in range(start, start + ROUNDS):
                    own.sql(f"ALTER TABLE {t} ADD COLUMN c{number} INT")
                    own.sql(f"ALTER TABLE {t} SET TBLPROPERTIES ('p{number}' = 'x')")
                    own.sql(f"INSERT INTO {t} (id) VALUES (?)", [number])
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(10 * (n + 1),)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    numbers = [10 * (n + 1) + number for n in range(WRITERS) for number in range(ROUNDS)]
    table = outside(any_place, t)
    assert sorted(table.schema().column_names) == sorted(["id", "v", *(f"c{number}" for number in numbers)])
    assert {key for key in table.properties if key.startswith(("p1", "p2", "p3"))} == {
        f"p{number}" for number in numbers
    }
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2, *numbers]
