"""The branches, tags and history of a table as methods: what ALTER TABLE and CALL do, for data pipelines in Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from icefusion.query.parameters import Parameters
from icefusion.query.travel import read_time, read_version
from icefusion.sql.alterations import Alteration, DropRef, RefKind, SetRef
from icefusion.sql.basics import Identifier, Name
from icefusion.sql.compose import compose
from icefusion.sql.pieces import parse_expression
from icefusion.sql.statements import AlterTable, ChangesBetween, Fragment, TableReference, TimeAsOf, VersionAsOf

if TYPE_CHECKING:
    from icefusion.result import Result
    from icefusion.session import Session

__all__ = ["State", "TableHistory"]

State = int | str | dt.datetime
"""A snapshot id, a branch or tag, or a time: the state that was current then."""


class TableHistory:
    """The part of `IcebergTable` that is about versions of the table."""

    name: str
    _session: Session
    _name: Name

    # Branches and tags

    def create_branch(
        self, name: str, version: int | str | None = None, *, replace: bool = False, retain_ms: int | None = None
    ) -> Result:
        """Make a branch, or move one.

        Args:
            name: Its name.
            version: The snapshot that it begins at, by id or by another branch or tag; None for the newest.
            replace: Whether a branch of that name is moved there.
            retain_ms: How long the branch is kept, in milliseconds.

        Raises:
            SchemaError: There is one already.
            BindError: There is no such version.
        """
        return self._set_ref("branch", name, version, replace=replace, retain_ms=retain_ms)

    def create_tag(
        self, name: str, version: int | str | None = None, *, replace: bool = False, retain_ms: int | None = None
    ) -> Result:
        """Give a snapshot a name; arguments and errors as for `create_branch`."""
        return self._set_ref("tag", name, version, replace=replace, retain_ms=retain_ms)

    def drop_branch(self, name: str) -> Result:
        """Forget a branch; its snapshots stay until they are expired.

        Raises:
            BindError: There is none of that name.
        """
        return self._alter(DropRef("branch", Identifier(name, True)))

    def drop_tag(self, name: str) -> Result:
        """Forget a tag.

        Raises:
            BindError: There is none of that name.
        """
        return self._alter(DropRef("tag", Identifier(name, True)))

    # History

    def rollback_to_snapshot(self, snapshot_id: int) -> None:
        """Go back to an earlier state of the main branch.

        Raises:
            SchemaError: The snapshot is not in the history of the current one.
        """
        self._call("rollback_to_snapshot", {"snapshot_id": snapshot_id})

    def rollback_to_timestamp(self, timestamp: dt.datetime) -> None:
        """Go back to the last state from before a time; in UTC if it has no zone.

        Raises:
            BindError: There was none.
        """
        self._call("rollback_to_timestamp", {"timestamp": timestamp})

    def set_current_snapshot(self, version: int | str) -> None:
        """Let the main branch be at a snapshot, by its id or by a branch or tag, whatever its history.

        Raises:
            BindError: There is no such version.
        """
        self._call("set_current_snapshot", {"snapshot_id" if isinstance(version, int) else "ref": version})

    def fast_forward(self, branch: str, to: str) -> None:
        """Move a branch forward to where another branch or tag is.

        Raises:
            SchemaError: It has snapshots that are not in the history of the other.
        """
        self._call("fast_forward", {"branch": branch, "to": to})

    def cherrypick(self, snapshot_id: int) -> int:
        """Take over the rows that a snapshot outside of the main branch added; the snapshot that the table then has.

        Inside a transaction the id is that of the transaction's snapshot, not yet known: 0.

        Raises:
            SchemaError: It is in the branch already, or does more than adding rows to another state.
        """
        return self._call("cherrypick_snapshot", {"snapshot_id": snapshot_id})[0][1] or 0

    def publish_changes(self, wap_id: str) -> int:
        """Take over the snapshot that waits under an id; see `Session.wap` and `cherrypick`.

        Raises:
            BindError: There is no such snapshot.
        """
        return self._call("publish_changes", {"wap_id": wap_id})[0][1] or 0

    def add_files(
        self,
        files: str | Sequence[str],
        *,
        partition_filter: Mapping[str, Any] | None = None,
        check_duplicate_files: bool = True,
    ) -> int:
        """Make Parquet files part of the table as they are; how many there were.

        Their columns are told by field ids, else by the table's name mapping, which it gets if it has none. Their
        metrics and partitions come from their footers, and from folders like ``day=2024-05-01``.

        Args:
            files: Paths and URLs, with wildcards.
            partition_filter: Values that the folders of a file must have, by name.
            check_duplicate_files: Whether files that the table has already are refused.

        Raises:
            SchemaError: A file does not hold rows of this table, or of several partitions of it.
            StorageError: There is no such file, or it cannot be read.
        """
        given: dict[str, Any] = {"files": [files] if isinstance(files, str) else list(files)}
        given["check_duplicate_files"] = check_duplicate_files
        if partition_filter:
            texts = [(name, None if value is None else str(value)) for name, value in partition_filter.items()]
            given["partition_filter"] = pa.scalar(texts, pa.map_(pa.string(), pa.string()))
        count: int = self._call("add_files", given)[0][0]
        return count

    def ancestors(self, version: int | str | None = None) -> list[tuple[int, int]]:
        """The snapshots that led to a version, newest first: ids, and milliseconds since 1970.

        Args:
            version: A snapshot id, a branch or a tag; None for the main branch.
        """
        if version is None:
            return self._call("ancestors_of", {})
        return self._call("ancestors_of", {"snapshot_id" if isinstance(version, int) else "ref": version})

    def changes(
        self,
        begin: State | None = None,
        end: State | None = None,
        *,
        filter: str | None = None,  # noqa: A002 - as in `IcebergTable.scan`
        params: Parameters = None,
    ) -> Result:
        """What happened to the rows between two states, as ``table_changes`` tells in SQL.

        Args:
            begin: The state behind which it begins: a snapshot id, a branch or tag, or a time; None for the beginning.
            end: The state up to which it goes; None for the newest.
            filter: The SQL condition that is true of the changes; None for all of them.
            params: Values for parameters in the condition.

        Returns:
            A row for each row that came or went, in no order: the table's columns, ``_change_type`` (``INSERT`` or
            ``DELETE``), ``_change_ordinal`` (which snapshot it was, from 0), ``_commit_snapshot_id`` and
            ``_commit_timestamp``. It is streamed when it is read.

        Raises:
            BindError: There is no such state, or one is not in the history of the other.
        """
        between = ChangesBetween(_state(begin), _state(end))
        reference = TableReference(self._name, 0, 1, between)
        where: tuple[str | Fragment, ...] = () if filter is None else (" WHERE (\n", parse_expression(filter), "\n)")
        query = compose("SELECT * FROM ", Fragment("t", (reference,)), *where)
        return self._session._run_query(query, params)

    def _set_ref(
        self, kind: RefKind, name: str, version: int | str | None, *, replace: bool, retain_ms: int | None
    ) -> Result:
        return self._alter(SetRef(kind, Identifier(name, True), version, replace=replace, retain_ms=retain_ms))

    def _alter(self, action: Alteration) -> Result:
        return self._session._run_definition(AlterTable(self._name, (action,)))

    def _call(self, procedure: str, arguments: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        listed = ", ".join(f"{name} => ${name}" for name in ("table", *arguments))
        return self._session.sql(f"CALL system.{procedure}({listed})", {"table": self.name, **arguments}).fetchall()


def _state(state: State | None) -> VersionAsOf | TimeAsOf | None:
    if isinstance(state, dt.datetime):
        return read_time(pa.scalar(state))
    return None if state is None else read_version(pa.scalar(state))
