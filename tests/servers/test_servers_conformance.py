"""The same small story on every catalog: what a user does first must work on all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from places import Place
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import EqualTo

import icefusion
from icefusion import Session

ROWS = [(1, "a", 10.5), (2, "b", None), (3, None, -0.25)]


@pytest.fixture
def session(any_place: Place) -> Iterator[Session]:
    with any_place.connect() as session:
        session.sql(f"CREATE NAMESPACE {any_place.namespace}")
        yield session


@pytest.fixture
def ns(any_place: Place) -> str:
    return any_place.namespace


def fill(session: Session, table: str) -> None:
    session.sql(
        f"CREATE TABLE {table} (id BIGINT NOT NULL, name STRING, v DOUBLE) PARTITIONED BY (bucket(4, id), name)"
    )
    session.sql(f"INSERT INTO {table} VALUES (1, 'a', 10.5), (2, 'b', NULL), (3, NULL, -0.25)")


def rows(session: Session, table: str) -> list[tuple[object, ...]]:
    return session.sql(f"SELECT * FROM {table} ORDER BY id").fetchall()


def by_pyiceberg(place: Place, table: str, **scan: object) -> list[tuple[object, ...]]:
    found = place.pyiceberg().load_table(table).scan(**scan).to_arrow()
    return sorted((tuple(row.values()) for row in found.to_pylist()), key=lambda row: row[0])


def test_namespaces_come_and_go(session: Session, ns: str, any_place: Place) -> None:
    with pytest.raises(icefusion.NamespaceExistsError):
        session.sql(f"CREATE NAMESPACE {ns}")
    session.sql(f"CREATE NAMESPACE IF NOT EXISTS {ns}")
    session.sql(f"CREATE TABLE {ns}.t (a INT)")
    with pytest.raises(icefusion.NamespaceNotEmptyError):
        session.sql(f"DROP NAMESPACE {ns}")
    session.sql(f"DROP TABLE {ns}.t PURGE")
    session.sql(f"DROP NAMESPACE {ns}")
    assert (ns,) not in any_place.pyiceberg().list_namespaces()


def test_inserted_rows_of_a_partitioned_table_are_read_by_both(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    assert rows(session, f"{ns}.t") == ROWS
    assert by_pyiceberg(any_place, f"{ns}.t") == ROWS
    assert by_pyiceberg(any_place, f"{ns}.t", row_filter=EqualTo("id", 2)) == [ROWS[1]]
    assert session.sql(f"SELECT v FROM {ns}.t WHERE name = 'a'").fetchall() == [(10.5,)]


def test_a_table_is_created_with_the_rows_of_a_query(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    result = session.sql(f"CREATE TABLE {ns}.copy AS SELECT id, upper(name) AS name FROM {ns}.t WHERE id < 3")
    assert result.rows_inserted == 2
    assert by_pyiceberg(any_place, f"{ns}.copy") == [(1, "A"), (2, "B")]
    with pytest.raises(icefusion.TableExistsError):
        session.sql(f"CREATE TABLE {ns}.copy AS SELECT 1 AS id")


def test_a_writer_appends_one_snapshot_a_call(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    batch = pa.record_batch({"id": [4, 5], "name": ["d", "e"], "v": [4.0, 5.0]})
    result = session.writer(f"{ns}.t").write_batches([batch, batch.slice(1)])
    table = any_place.pyiceberg().load_table(f"{ns}.t")
    assert result.rows_inserted == 3
    assert [s.snapshot_id for s in table.snapshots()][1:] == [result.snapshot_id]
    assert by_pyiceberg(any_place, f"{ns}.t")[3:] == [(4, "d", 4.0), (5, "e", 5.0), (5, "e", 5.0)]


def test_a_transaction_lands_as_one_snapshot_and_reads_its_own_writes(
    session: Session, ns: str, any_place: Place
) -> None:
    fill(session, f"{ns}.t")
    with session.transaction() as tx:
        tx.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)")
        tx.sql(f"INSERT INTO {ns}.t SELECT id + 10, name, v FROM {ns}.t WHERE id = 4")
        assert len(rows(session, f"{ns}.t")) == 5
        assert len(by_pyiceberg(any_place, f"{ns}.t")) == 3
    assert len(any_place.pyiceberg().load_table(f"{ns}.t").snapshots()) == 2
    assert by_pyiceberg(any_place, f"{ns}.t") == [*ROWS, (4, "d", 4.0), (14, "d", 4.0)]


def test_a_rollback_leaves_neither_rows_nor_files(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    location = any_place.pyiceberg().load_table(f"{ns}.t").metadata_location
    with session.transaction() as tx:
        tx.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)")
        (staged,) = session._current._tables.values()
        paths = list(staged.staging.added)
        assert all(staged.handle.io.new_input(path).exists() for path in paths)
        tx.rollback()
    table = any_place.pyiceberg().load_table(f"{ns}.t")
    assert paths
    assert not any(table.io.new_input(path).exists() for path in paths)
    assert table.metadata_location == location
    assert rows(session, f"{ns}.t") == ROWS


def test_earlier_snapshots_are_read_by_both(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    before = any_place.pyiceberg().load_table(f"{ns}.t").current_snapshot()
    assert before is not None
    session.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)")
    number = before.snapshot_id
    assert session.sql(f"SELECT count(*) FROM {ns}.t FOR VERSION AS OF {number}").fetchall() == [(3,)]
    assert by_pyiceberg(any_place, f"{ns}.t", snapshot_id=number) == ROWS
    assert len(rows(session, f"{ns}.t")) == 4


def test_a_table_that_another_client_changed_is_not_stale(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    theirs = any_place.pyiceberg().load_table(f"{ns}.t")
    schema = theirs.schema().as_arrow()
    theirs.append(pa.table({"id": [9], "name": ["z"], "v": [9.0]}, schema=schema))
    assert rows(session, f"{ns}.t")[-1] == (9, "z", 9.0)
    session.sql(f"INSERT INTO {ns}.t VALUES (10, 'y', 1.0)")
    theirs.refresh()
    assert len(theirs.scan().to_arrow()) == 5


def test_dropped_tables_are_gone_and_purged_ones_leave_no_data(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    fill(session, f"{ns}.u")
    tables = {name: any_place.pyiceberg().load_table(f"{ns}.{name}") for name in "tu"}
    files = {name: [task.file.file_path for task in table.scan().plan_files()] for name, table in tables.items()}
    session.sql(f"DROP TABLE {ns}.t")
    session.sql(f"DROP TABLE {ns}.u PURGE")
    for name in "tu":
        with pytest.raises(NoSuchTableError):
            any_place.pyiceberg().load_table(f"{ns}.{name}")
    assert files["u"]
    assert not any(tables["u"].io.new_input(path).exists() for path in files["u"])
    with pytest.raises(icefusion.TableNotFoundError):
        session.sql(f"SELECT * FROM {ns}.t")


def test_a_key_lands_once_for_every_kind_of_write(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    batch = pa.record_batch({"id": [5], "name": ["e"], "v": [5.0]})

    def statement() -> int | None:
        return session.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)", idempotency_key="statement").snapshot_id

    def write() -> int | None:
        return session.writer(f"{ns}.t").write_batch(batch, idempotency_key="batch").snapshot_id

    def block() -> int | None:
        with session.transaction(idempotency_key="block") as tx:
            tx.sql(f"INSERT INTO {ns}.t VALUES (6, 'f', 6.0)")
        (number,) = tx.snapshot_ids.values()
        return number

    for repeat in (statement, write, block):
        assert repeat() == repeat()
    assert [row[0] for row in by_pyiceberg(any_place, f"{ns}.t")] == [1, 2, 3, 4, 5, 6]
    assert len(any_place.pyiceberg().load_table(f"{ns}.t").snapshots()) == 4


def test_several_tables_land_together_or_are_refused_before_anything_is_written(
    session: Session, ns: str, any_place: Place
) -> None:
    fill(session, f"{ns}.t")
    session.sql(f"CREATE TABLE {ns}.u (id BIGINT)")
    if any_place.commits_many:
        with session.transaction() as tx:
            tx.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)")
            tx.sql(f"INSERT INTO {ns}.u SELECT id FROM {ns}.t")
        assert set(tx.snapshot_ids) == {f"{any_place.name}.{ns}.t", f"{any_place.name}.{ns}.u"}
        assert len(by_pyiceberg(any_place, f"{ns}.u")) == 4
        return
    with session.transaction() as tx:
        tx.sql(f"INSERT INTO {ns}.t VALUES (4, 'd', 4.0)")
        with pytest.raises(icefusion.TransactionError, match="all or none"):
            tx.sql(f"INSERT INTO {ns}.u SELECT id FROM {ns}.t")
    assert len(by_pyiceberg(any_place, f"{ns}.t")) == 4
    assert by_pyiceberg(any_place, f"{ns}.u") == []


def test_a_missing_data_file_is_an_error_and_not_fewer_rows(session: Session, ns: str, any_place: Place) -> None:
    fill(session, f"{ns}.t")
    table = any_place.pyiceberg().load_table(f"{ns}.t")
    path = next(iter(table.scan().plan_files())).file.file_path
    table.io.delete(path)
    with pytest.raises(icefusion.StorageError, match=path.rsplit("/", 1)[-1]):
        session.sql(f"SELECT count(*) FROM {ns}.t WHERE v IS NULL OR v < 1000").fetchall()
