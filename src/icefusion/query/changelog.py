"""What happened to the rows of a table between two snapshots, as a query over parts of its states.

Each snapshot on the way tells which files came and went. From that, and without looking at any other file:

- Rows of files that came were inserted, rows of files that went were deleted, as far as they were alive then.
- Of a file that stayed and for which deletes came, those rows were deleted that were alive before and are not after.
- Where a snapshot did both, as copy-on-write does, most of these rows are the same on both sides. Equal rows are
  counted, and what is left over on one side is what changed. So an update is one deleted row and one inserted.
- A snapshot that only rewrote files (`replace`) changed no rows.

All rows are shown in the columns of the end. The names of the further columns, and the words in them, are those of
Spark's changelog views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntryStatus
from pyiceberg.table.snapshots import Operation, Snapshot

from icefusion.bridge.manifests import ManifestReader
from icefusion.errors import BindError
from icefusion.naming import normalize, quote_identifier
from icefusion.query.files import plan_files
from icefusion.query.views import FILE_COLUMN, POSITION_COLUMN, TableView
from icefusion.sql.basics import Name
from icefusion.sql.compose import Piece, compose, table_piece
from icefusion.sql.references import replace_tables
from icefusion.sql.statements import ChangesBetween, Query, TableReference

__all__ = ["CHANGE_COLUMNS", "Changelog", "expand_changelogs", "read_changelog"]

CHANGE_COLUMNS = ("_change_type", "_change_ordinal", "_commit_snapshot_id", "_commit_timestamp")
"""What stands behind the table's own columns."""

_COUNT = quote_identifier("?n?")
_SIGN = quote_identifier("?sign?")
_TIMES = quote_identifier("?times?")


@dataclass(frozen=True)
class Step:
    """What one snapshot did to the rows.

    Attributes:
        snapshot: The snapshot.
        added: The rows of files that came.
        gone: The rows of files that went, as they were before.
        before, after: The rows of files of which rows were deleted, before and after.
        revives: Whether delete files went as well, so that deleted rows may have come back.
    """

    snapshot: Snapshot
    added: TableView | None = None
    gone: TableView | None = None
    before: TableView | None = None
    after: TableView | None = None
    revives: bool = False


@dataclass(frozen=True)
class Changelog:
    """What happened to a table.

    Attributes:
        state: The state at its end, which has its columns.
        steps: In the order in which it happened.
    """

    state: TableView
    steps: tuple[Step, ...]


def read_changelog(state: TableView, begin_id: int | None, reader: ManifestReader) -> Changelog:
    """What happened to a table up to a state.

    Args:
        state: Where it ends.
        begin_id: The snapshot behind which it begins; None for all that the table has had.
        reader: Reads manifests.

    Raises:
        BindError: The snapshot is not in the history of the state, or what was in between has expired; or a column of
            the table has the name of one of `CHANGE_COLUMNS`.
        StorageError: A manifest is missing or broken.
    """
    taken = {name.casefold() for name in CHANGE_COLUMNS}
    for column in state.schema.fields:
        if column.name.casefold() in taken:
            raise BindError(
                f"column {column.name} of {state.name} has the name of a column that tells of changes",
                hint="rename it: ALTER TABLE ... RENAME COLUMN",
            )
    snapshots = _between(state, begin_id, reader)
    steps = [_step(state, snapshot, reader) for snapshot in snapshots]
    return Changelog(state, tuple(step for step in steps if step is not None))


def expand_changelogs(
    query: Query, find: Callable[[Name, ChangesBetween], Changelog]
) -> tuple[Query, dict[str, TableView]]:
    """The query with each changelog in it replaced by what it stands for.

    Args:
        query: The query.
        find: The changelog of a table.

    Returns:
        The query, and what the names stand for that are new in it.

    Raises:
        BindError: There is no such changelog.
    """
    if not any(isinstance(reference.version, ChangesBetween) for reference in query.tables):
        return query, {}
    views: dict[str, TableView] = {}
    bodies: list[Query | None] = []
    for reference in query.tables:
        body = None
        if isinstance(reference.version, ChangesBetween):
            try:
                log = find(reference.name, reference.version)
            except BindError as error:
                if error.line is not None:
                    raise
                place = reference.name.offset
                raise BindError(error.message, sql=query.sql or None, offset=place, hint=error.hint) from error
            body = _body(log, reference, views)
        bodies.append(body)
    replaced = replace_tables(query, [None if body is None else body.text for body in bodies])
    tables: list[TableReference] = []
    for new, body in zip(replaced.tables, bodies, strict=True):
        if body is None:
            tables.append(new)
            continue
        tables += (replace(inner, start=inner.start + new.start, end=inner.end + new.start) for inner in body.tables)
    return replace(replaced, tables=tuple(tables)), views


# From snapshots to steps


def _between(state: TableView, begin_id: int | None, reader: ManifestReader) -> list[Snapshot]:
    """The snapshots after the beginning, up to the state, oldest first."""
    found: list[Snapshot] = []
    snapshot_id = state.snapshot_id
    while snapshot_id is not None and snapshot_id != begin_id:
        snapshot = state.metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise _expired(state, found[-1])
        found.append(snapshot)
        snapshot_id = snapshot.parent_snapshot_id
    if snapshot_id == begin_id:
        # Some writers forget the parent of a snapshot when it expires. What it has left shows in the files.
        if begin_id is None and found and _inherits(found[-1], state, reader):
            raise _expired(state, found[-1])
    else:
        raise BindError(
            f"snapshot {begin_id} of {state.name} is not in the history of snapshot {state.snapshot_id}",
            hint=f"CALL system.ancestors_of('{state.name}') lists it",
        )
    return found[::-1]


def _inherits(snapshot: Snapshot, state: TableView, reader: ManifestReader) -> bool:
    manifests = reader.read_list(snapshot, state.io)
    own = snapshot.snapshot_id
    return any(manifest.added_snapshot_id != own or manifest.existing_files_count for manifest in manifests)


def _expired(state: TableView, oldest: Snapshot) -> BindError:
    return BindError(
        f"the history of {state.name} is known from snapshot {oldest.snapshot_id} on: what was before it has expired",
        hint=f"name a snapshot from then on, such as {oldest.snapshot_id}",
    )


def _step(state: TableView, snapshot: Snapshot, reader: ManifestReader) -> Step | None:
    if snapshot.summary is not None and snapshot.summary.operation is Operation.REPLACE:
        return None
    added: list[DataFile] = []  # one may be there twice
    gone: list[DataFile] = []
    deletes = False
    for status, file in reader.changes(snapshot, state.io):
        if file.content != DataFileContent.DATA:
            deletes = True
        else:
            (added if status == ManifestEntryStatus.ADDED else gone).append(file)
    plain = replace(state, snapshot_id=None)
    if not gone and not deletes:  # what is behind it need not be planned
        return Step(snapshot, replace(plain, staged=tuple(added))) if added else None
    after = replace(state, snapshot_id=snapshot.snapshot_id)
    before = replace(state, snapshot_id=snapshot.parent_snapshot_id)
    touched, revives = _touched(before, after, reader) if deletes else (frozenset(), False)
    return Step(
        snapshot,
        added=replace(after, only=frozenset(file.file_path for file in added)) if added else None,
        gone=replace(before, only=frozenset(file.file_path for file in gone)) if gone else None,
        before=replace(before, only=touched, with_identity=True) if touched else None,
        after=replace(after, only=touched, with_identity=True) if touched else None,
        revives=revives,
    )


def _touched(before: TableView, after: TableView, reader: ManifestReader) -> tuple[frozenset[str], bool]:
    """The data files of both states to which other delete files apply, and whether fewer do to any of them."""
    then, now = _deletes(before, reader), _deletes(after, reader)
    touched = frozenset(path for path, deletes in now.items() if then.get(path, deletes) != deletes)
    return touched, any(then[path] - now[path] for path in touched)


def _deletes(view: TableView, reader: ManifestReader) -> Mapping[str, frozenset[str]]:
    plan = plan_files(view.name, view.metadata, view.snapshot_id, view.schema, view.io, reader=reader)
    return {live.file.file_path: frozenset(file.file_path for file in live.deletes) for live in plan.files}


# From steps to SQL


def _body(log: Changelog, reference: TableReference, views: dict[str, TableView]) -> Query:
    """The text that takes the place of a reference; the views in it are added to those that there are."""
    columns = ", ".join(quote_identifier(field.name) for field in log.state.schema.fields)
    parts = [part for number, step in enumerate(log.steps) for part in _told(log, step, number, columns, views)]
    if not parts:
        nothing = _named(log, None, "nothing", replace(log.state, only=frozenset()), views)
        parts = [compose(f"SELECT {columns}, {_tags('INSERT', 0, None)} FROM ", table_piece(nothing), " WHERE false")]
    behind = "" if reference.has_alias else f" AS {quote_identifier(normalize(reference.name.parts[-1]))}"
    return compose("(", *_united(parts), f"){behind}")


def _united(parts: Sequence[Query]) -> list[Piece]:
    """Queries one under the other, as a tree: over a list the engine takes time by the square of its length."""
    if len(parts) == 1:
        return [parts[0]]
    half = len(parts) // 2
    return ["(", *_united(parts[:half]), ")\nUNION ALL\n(", *_united(parts[half:]), ")"]


def _told(log: Changelog, step: Step, number: int, columns: str, views: dict[str, TableView]) -> Iterator[Query]:
    """SELECTs for what a snapshot did."""

    def rows(role: str, view: TableView | None) -> list[Query]:
        if view is None:
            return []
        return [compose(f"SELECT {columns} FROM ", table_piece(_named(log, step.snapshot, role, view, views)))]

    inserted, deleted = rows("added", step.added), rows("gone", step.gone)
    if step.before is not None and step.after is not None:
        before = _named(log, step.snapshot, "before", step.before, views)
        after = _named(log, step.snapshot, "after", step.after, views)
        deleted.append(_without(columns, before, after))
        if step.revives:
            inserted.append(_without(columns, after, before))
    if inserted and deleted:
        yield compose(
            f"SELECT {columns}, {_tags(None, number, step.snapshot)} FROM (",
            f"SELECT {columns}, {_COUNT}, unnest(range(0, abs({_COUNT}))) AS {_TIMES} FROM (",
            f"SELECT {columns}, sum({_SIGN}) AS {_COUNT} FROM (",
            *_united([compose(f"SELECT {columns}, 1 AS {_SIGN} FROM (", part, ")") for part in inserted]
            + [compose(f"SELECT {columns}, -1 AS {_SIGN} FROM (", part, ")") for part in deleted]),
            f") GROUP BY {columns} HAVING sum({_SIGN}) <> 0))",
        )  # fmt: skip
        return
    for part in inserted:
        yield compose(f"SELECT {columns}, {_tags('INSERT', number, step.snapshot)} FROM (", part, ")")
    for part in deleted:
        yield compose(f"SELECT {columns}, {_tags('DELETE', number, step.snapshot)} FROM (", part, ")")


def _without(columns: str, one: str, other: str) -> Query:
    """The rows of one view whose places are not in the other."""
    keys = map(quote_identifier, (FILE_COLUMN, POSITION_COLUMN))
    same = " AND ".join(f'"a".{key} = "b".{key}' for key in keys)  # in quotes: a column may be called A
    return compose(
        f"SELECT {columns} FROM ", table_piece(one, "a"), " LEFT ANTI JOIN ", table_piece(other, "b"), f" ON {same}"
    )


def _tags(kind: Literal["INSERT", "DELETE"] | None, number: int, snapshot: Snapshot | None) -> str:
    """The columns that tell of a change; its kind by the sign of the count where it is None."""
    word = f"'{kind}'" if kind else f"CASE WHEN {_COUNT} > 0 THEN 'INSERT' ELSE 'DELETE' END"
    snapshot_id = 0 if snapshot is None else snapshot.snapshot_id
    at_us = 0 if snapshot is None else snapshot.timestamp_ms * 1000
    values = (
        word,
        f"CAST({number} AS INT)",
        f"CAST({snapshot_id} AS BIGINT)",
        f"arrow_cast({at_us}, 'Timestamp(Microsecond, Some(\"UTC\"))')",
    )
    return ", ".join(f"{value} AS {name}" for value, name in zip(values, CHANGE_COLUMNS, strict=True))


def _named(log: Changelog, snapshot: Snapshot | None, role: str, view: TableView, views: dict[str, TableView]) -> str:
    """Give a view a name in the query: the same one wherever it is the same view."""
    at = None if snapshot is None else snapshot.snapshot_id
    name = f"{log.state.name}@{at}.{role}.{log.state.schema.schema_id}.{log.state.ref}"
    views[name] = view
    return name
