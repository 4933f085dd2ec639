"""The commit protocol, with data files made by hand: what lands, what is answered, what is left on disk."""

import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import SetSnapshotRefUpdate
from pyiceberg.typedef import Record

import icefusion.commit.committer as committer_module
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.committer import CommitRequest, Committer
from icefusion.commit.handles import TableHandle
from icefusion.commit.operations import FileChange, TableChange
from icefusion.config import RetryConfig
from icefusion.errors import CommitConflictError, CommitError, CommitFailedError, CommitStateUnknownError
from icefusion.testing import FakeClock, ScriptedCatalog

SCHEMA = pa.schema([pa.field("id", pa.int64())])


class Bench:
    """A catalog with one table, and a committer over it."""

    def __init__(self, folder: Path, script: tuple[str, ...] | None = None, **properties: str) -> None:
        self.folder = folder
        self.sql = SqlCatalog("c", uri=f"sqlite:///{folder / 'c.db'}", warehouse=folder.as_uri())
        self.sql.create_namespace_if_not_exists("ns")
        if not self.sql.table_exists("ns.t"):
            self.sql.create_table("ns.t", SCHEMA, properties=properties)
        self.scripted = None if script is None else ScriptedCatalog(self.sql, script)  # type: ignore[arg-type]
        self.client = CatalogClient(self.scripted or self.sql)
        self.clock = FakeClock()
        self.committer = Committer(self.client, RetryConfig(), self.clock)

    @property
    def handle(self) -> TableHandle:
        return self.client.load(("ns", "t"))

    def data_file(self, *ids: int) -> DataFile:
        path = self.folder / "ns" / "t" / "data" / f"{uuid.uuid4()}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            [list(ids)], schema=pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
        )
        pq.write_table(table, path)
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path.as_uri(),
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=len(ids),
            file_size_in_bytes=path.stat().st_size,
        )
        file.spec_id = 0
        return file

    def append(self, *ids: int, base: TableHandle | None = None):
        handle = base or self.handle
        files = FileChange((self.data_file(*ids),))
        return self.committer.commit(CommitRequest((TableChange(handle, files),)))

    def rows(self) -> list[int]:
        fresh = SqlCatalog("c", uri=f"sqlite:///{self.folder / 'c.db'}", warehouse=self.folder.as_uri())
        try:
            return sorted(fresh.load_table("ns.t").scan().to_arrow()["id"].to_pylist())
        finally:
            fresh.close()

    def files(self, pattern: str) -> set[str]:
        return {path.name for path in (self.folder / "ns" / "t" / "metadata").glob(pattern)}

    def referenced_avro(self) -> set[str]:
        table = self.sql.load_table("ns.t")
        found: set[str] = set()
        for snapshot in table.metadata.snapshots:
            found.add(snapshot.manifest_list.rsplit("/", 1)[-1])
            found |= {m.manifest_path.rsplit("/", 1)[-1] for m in snapshot.manifests(table.io)}
        return found

    def assert_no_leftovers(self) -> None:
        assert self.files("*.avro") == self.referenced_avro()

    def close(self) -> None:
        self.sql.close()


@pytest.fixture
def bench(tmp_path: Path):
    made: list[Bench] = []

    def make(*script: str, sql: bool = False, **properties: str) -> Bench:
        made.append(Bench(tmp_path, None if sql else script, **properties))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_an_append_is_read_back_by_pyiceberg(bench) -> None:
    b = bench(sql=True)
    b.append(1, 2)
    b.append(3)
    assert b.rows() == [1, 2, 3]
    b.assert_no_leftovers()


def test_sequence_numbers_parents_and_totals_follow_on(bench) -> None:
    b = bench(sql=True)
    b.append(1, 2)
    b.append(3)
    first, second = b.handle.metadata.snapshots
    assert (first.sequence_number, second.sequence_number) == (1, 2)
    assert second.parent_snapshot_id == first.snapshot_id
    assert second.summary is not None
    assert second.summary["total-records"] == "3"
    assert second.summary["added-records"] == "1"
    assert second.summary["engine-name"] == "icefusion"
    assert b.handle.metadata.last_sequence_number == 2


def test_a_lost_race_is_retried_with_the_same_files_and_snapshot_id(bench) -> None:
    b = bench("conflict", "ok")
    outcome = b.append(1)
    assert b.rows() == [1]
    assert outcome.reports[0].attempts == 2
    assert len(b.clock.slept_s) == 1
    b.assert_no_leftovers()


def test_sequence_numbers_of_a_second_attempt_are_its_own(bench, monkeypatch) -> None:
    b = bench(sql=True)
    other = Bench(b.folder)
    real = committer_module.swap
    raced = []

    def swap(*arguments):
        if arguments[0] is b.client and not raced:
            raced.append(True)
            other.append(7)
        return real(*arguments)

    monkeypatch.setattr(committer_module, "swap", swap)
    b.append(1)
    snapshot = b.handle.metadata.current_snapshot()
    assert snapshot.sequence_number == 2
    read = [(m.added_snapshot_id, m.sequence_number) for m in snapshot.manifests(b.handle.io)]
    assert sorted(read) == sorted((s.snapshot_id, s.sequence_number) for s in b.handle.metadata.snapshots)
    other.close()


def test_a_stale_base_is_rebased_onto_the_newest_snapshot(bench) -> None:
    b = bench(sql=True)
    stale = b.handle
    b.append(1)
    b.append(2, base=stale)
    assert b.rows() == [1, 2]
    assert len(b.handle.metadata.snapshots) == 2


def test_a_lost_reply_is_recognised_and_not_doubled(bench) -> None:
    b = bench("lost_reply")
    b.append(1)
    assert b.rows() == [1]
    assert len(b.handle.metadata.snapshots) == 1
    b.assert_no_leftovers()


def test_a_request_that_never_arrived_is_sent_again(bench) -> None:
    b = bench("unreachable", "ok")
    b.append(1)
    assert b.rows() == [1]
    b.assert_no_leftovers()


def test_attempts_end_in_commit_failed_with_nothing_left(bench) -> None:
    b = bench(*["conflict"] * 9)
    with pytest.raises(CommitFailedError, match="4 attempts") as raised:
        b.append(1)
    assert raised.value.retryable
    assert b.scripted.commits == 4
    assert b.rows() == []
    assert b.files("*.avro") == set()


def test_retry_properties_of_the_table_are_honoured(bench) -> None:
    b = bench(*["conflict"] * 9, **{"commit.retry.num-retries": "1", "commit.retry.max-wait-ms": "10"})
    with pytest.raises(CommitFailedError):
        b.append(1)
    assert b.scripted.commits == 2
    assert all(wait <= 0.010 for wait in b.clock.slept_s)


def test_a_refusal_is_not_tried_again(bench) -> None:
    b = bench("rejected")
    with pytest.raises(Exception, match="makes no sense"):
        b.append(1)
    assert b.scripted.commits == 1
    assert b.files("*.avro") == set()


def test_an_outcome_that_cannot_be_found_out_deletes_nothing(bench, monkeypatch) -> None:
    b = bench("lost_reply", "unreachable", "unreachable", "unreachable")
    handle = b.handle
    real = b.client.catalog.load_table
    calls = iter([real])

    def load(identifier):
        found = next(calls, None)
        if found is None:
            raise ConnectionError("the catalog is gone")
        return found(identifier)

    monkeypatch.setattr(b.client.catalog, "load_table", load, raising=False)
    with pytest.raises(CommitStateUnknownError) as raised:
        b.append(1, base=handle)
    monkeypatch.undo()
    assert b.rows() == [1]
    assert raised.value.snapshot_id == b.handle.metadata.current_snapshot_id
    assert str(raised.value.snapshot_id) in str(raised.value)


def test_a_table_made_anew_is_a_conflict(bench) -> None:
    b = bench(sql=True)
    stale = b.handle
    b.sql.drop_table("ns.t")
    b.sql.create_table("ns.t", SCHEMA)
    with pytest.raises(CommitConflictError, match="made anew"):
        b.append(1, base=stale)
    assert b.rows() == []


def test_a_dropped_table_fails_for_good(bench) -> None:
    b = bench(sql=True)
    stale = b.handle
    b.sql.drop_table("ns.t")
    with pytest.raises(CommitError, match="dropped"):
        b.append(1, base=stale)


def test_tags_and_retention_of_the_branch_stay(bench) -> None:
    b = bench(sql=True)
    b.append(1)
    table = b.sql.load_table("ns.t")
    with table.manage_snapshots() as manage:
        manage.create_tag(table.metadata.current_snapshot_id, "keep")
    table = b.sql.load_table("ns.t")
    main = SetSnapshotRefUpdate(
        ref_name="main",
        type=SnapshotRefType.BRANCH,
        snapshot_id=table.metadata.current_snapshot_id,
        min_snapshots_to_keep=7,
    )
    b.sql.commit_table(table, (), (main,))
    b.append(2)
    refs = b.handle.metadata.refs
    assert refs["main"].min_snapshots_to_keep == 7
    assert refs["main"].snapshot_id == b.handle.metadata.current_snapshot_id
    assert "keep" in refs


def test_small_manifests_are_merged_once_there_are_enough(bench) -> None:
    b = bench(sql=True, **{"commit.manifest.min-count-to-merge": "5"})
    counts = []
    for n in range(12):
        b.append(n)
        snapshot = b.handle.metadata.current_snapshot()
        counts.append(len(snapshot.manifests(b.handle.io)))
    assert max(counts) <= 5
    assert min(counts[5:]) < 5
    assert b.rows() == list(range(12))
    entries = [
        (entry.snapshot_id, entry.sequence_number)
        for manifest in b.handle.metadata.current_snapshot().manifests(b.handle.io)
        for entry in manifest.fetch_manifest_entry(b.handle.io)
    ]
    expected = {(s.snapshot_id, s.sequence_number) for s in b.handle.metadata.snapshots}
    assert set(entries) == expected
    b.assert_no_leftovers()


def test_many_files_go_into_several_manifests_of_the_target_size(bench) -> None:
    b = bench(sql=True, **{"commit.manifest.target-size-bytes": "2000", "commit.manifest-merge.enabled": "false"})
    handle = b.handle
    files = tuple(b.data_file(n) for n in range(3))
    b.committer.commit(CommitRequest((TableChange(handle, FileChange(files * 1000)),)))
    manifests = b.handle.metadata.current_snapshot().manifests(b.handle.io)
    assert len(manifests) > 1
    assert sum(m.added_files_count for m in manifests) == 3000


def test_metadata_log_is_bounded_and_old_files_go_when_asked(bench) -> None:
    b = bench(
        sql=True,
        **{"write.metadata.previous-versions-max": "2", "write.metadata.delete-after-commit.enabled": "true"},
    )
    for n in range(5):
        b.append(n)
    assert len(b.handle.metadata.metadata_log) == 2
    assert len(b.files("*.metadata.json")) == 3
    assert b.rows() == list(range(5))


def test_two_tables_move_together_or_not_at_all(bench) -> None:
    b = bench(sql=True)
    b.sql.create_table("ns.u", SCHEMA)
    t, u = b.client.load(("ns", "t")), b.client.load(("ns", "u"))
    changes = [
        TableChange(t, FileChange((b.data_file(1),))),
        TableChange(u, FileChange((b.data_file(2),))),
    ]
    b.committer.commit(CommitRequest(tuple(changes)))
    assert b.rows() == [1]
    assert b.sql.load_table("ns.u").scan().to_arrow()["id"].to_pylist() == [2]
    b.sql.drop_table("ns.u")
    changes = [
        TableChange(b.client.load(("ns", "t")), FileChange((b.data_file(3),))),
        TableChange(u, FileChange((b.data_file(4),))),
    ]
    with pytest.raises(CommitError):
        b.committer.commit(CommitRequest(tuple(changes)))
    assert b.rows() == [1]
    b.assert_no_leftovers()
    assert len(b.files("*.metadata.json")) == 2


def test_the_losers_metadata_file_is_removed(bench, monkeypatch) -> None:
    b = bench(sql=True)
    other = Bench(b.folder)
    real = committer_module.swap
    raced = []

    def swap(*arguments):
        if not raced:
            raced.append(True)
            other.append(7)
        return real(*arguments)

    monkeypatch.setattr(committer_module, "swap", lambda *a: swap(*a) if a[0] is b.client else real(*a))
    outcome = b.append(1)
    assert outcome.reports[0].attempts == 2
    assert b.rows() == [1, 7]
    assert len(b.files("*.metadata.json")) == 3
    b.assert_no_leftovers()
    other.close()
