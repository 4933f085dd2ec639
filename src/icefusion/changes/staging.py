"""What a transaction has done to one table so far.

Each statement adds its `RowChange` to the `Staging` of its table, which is a value: a statement that fails leaves the
one before it. Later statements read through it (`TableView`), and at the commit it becomes the `FileChange` of one
snapshot. Rows that merge-on-read has deleted are kept as positions until then, however many statements deleted them:
so one transaction writes at most one delete file for a data file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.manifest import DataFile, DataFileContent

from icefusion.bridge.delete_index import path_of_deletes
from icefusion.bridge.positions import Positions
from icefusion.commit.operations import FileChange
from icefusion.query.files import LiveFile
from icefusion.reports import RowCounts

__all__ = ["RowChange", "Staging"]


@dataclass(frozen=True)
class RowChange:
    """What one statement did to a table.

    Attributes:
        added: Data files that it wrote.
        removed: Data files, committed or staged, that go: they were written anew, or none of their rows are left.
        touched: Data files of which rows are deleted, and stay.
        deleted: The positions of those rows.
        rows: What that is in rows.
        adopted: Data files that the table gets and that were there before: whatever happens, they are not this
            transaction's to delete.
    """

    added: tuple[DataFile, ...] = ()
    removed: tuple[LiveFile, ...] = ()
    touched: tuple[LiveFile, ...] = ()
    deleted: Positions = field(default_factory=Positions)
    rows: RowCounts = field(default_factory=RowCounts)
    adopted: tuple[DataFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.adopted or self.removed or self.deleted)


@dataclass(frozen=True)
class Staging:
    """The changes of all statements so far.

    Attributes:
        added: Data files that wait for the commit, by path.
        adopted: Data files that wait for the commit and were there before it, by path.
        removed: Data files of the base that go, by path.
        touched: Data files, of the base or waiting, of which rows are deleted, by path.
        deleted: The positions of those rows.
        dropped: Files that waited for the commit until a later statement removed them; nothing needs them once the
            transaction is over. Until then a result that has not been read yet might.
        rows: What all that is in rows.
    """

    added: Mapping[str, DataFile] = field(default_factory=dict)
    adopted: Mapping[str, DataFile] = field(default_factory=dict)
    removed: Mapping[str, LiveFile] = field(default_factory=dict)
    touched: Mapping[str, DataFile] = field(default_factory=dict)
    deleted: Positions = field(default_factory=Positions)
    dropped: tuple[DataFile, ...] = ()
    rows: RowCounts = field(default_factory=RowCounts)

    def __bool__(self) -> bool:
        return bool(self.added or self.adopted or self.removed or self.deleted)

    @property
    def waiting(self) -> tuple[DataFile, ...]:
        """The data files that the table gets."""
        return (*self.added.values(), *self.adopted.values())

    def with_change(self, change: RowChange) -> Staging:
        """The state after one more statement."""
        gone = {live.file.file_path: live for live in change.removed}
        waited = [file for path, file in self.added.items() if path in gone]
        added = {path: file for path, file in self.added.items() if path not in gone}
        adopted = {path: file for path, file in self.adopted.items() if path not in gone}
        ours = self.added.keys() | self.adopted.keys()
        touched = {**self.touched, **{live.file.file_path: live.file for live in change.touched}}
        return replace(
            self,
            added=added | {file.file_path: file for file in change.added},
            adopted=adopted | {file.file_path: file for file in change.adopted},
            removed={**self.removed, **{path: live for path, live in gone.items() if path not in ours}},
            touched={path: file for path, file in touched.items() if path not in gone},
            deleted=self.deleted.union(change.deleted).without(frozenset(gone)),
            dropped=(*self.dropped, *waited),
            rows=self.rows + change.rows,
        )

    def to_files(self, added_deletes: Iterable[DataFile]) -> FileChange:
        """The change of one snapshot.

        Args:
            added_deletes: The delete files that were written for `deleted`.
        """
        return FileChange(
            added=self.waiting,
            removed=tuple(live.file for live in self.removed.values()),
            added_deletes=tuple(added_deletes),
            removed_deletes=tuple(self._obsolete_deletes()),
            deleted=self.deleted.without(frozenset(self.added) | frozenset(self.adopted)),
            rows=self.rows,
            adopted=frozenset(self.adopted),
        )

    def _obsolete_deletes(self) -> Iterable[DataFile]:
        """Delete files that are for removed data files alone."""
        seen: set[str] = set()
        for path, live in self.removed.items():
            for deletes in live.deletes:
                of_positions = deletes.content == DataFileContent.POSITION_DELETES
                if of_positions and path_of_deletes(deletes) == path and deletes.file_path not in seen:
                    seen.add(deletes.file_path)
                    yield deletes
