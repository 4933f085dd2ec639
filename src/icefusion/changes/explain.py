"""EXPLAIN of a change: how it would be carried out, and which files it may touch."""

from __future__ import annotations

from collections.abc import Sequence

from icefusion.changes.asking import Asker
from icefusion.changes.context import ChangeContext
from icefusion.query.engine import PlannedQuery
from icefusion.sql.statements import Change, Insert

__all__ = ["explained"]

Row = tuple[str, str]


def explained(change: Change, asker: Asker, context: ChangeContext) -> list[Row]:
    """What is to be told of a change: pairs of what it is about, and the text."""
    name = context.pinned.handle.name
    isolation = context.state.isolation or context.isolation
    how = f"{context.mode}, {isolation}"
    rows: list[Row] = []
    if isinstance(change, Insert):
        if change.overwrite is None and change.conflict is None:
            return [("change", f"INSERT into {name}, adds rows"), *_question(asker.planned(change.query))]
        rows.append(("change", f"INSERT into {name}, {_replaced(change)}, {how}"))
        if change.overwrite is not None:
            rows += _question(asker.planned(change.query))
        if change.overwrite is not None and change.overwrite.where is None:
            rows.append(("files", f"of {len(asker.live_files())} data files those that are replaced go as a whole"))
            return rows
    else:
        rows.append(("change", f"{type(change).__name__.upper()} of {name}, {how}"))
    for planned in asker.questions(change):
        rows += _question(planned)
        rows += _files(planned, name)
    return rows


def _replaced(change: Insert) -> str:
    """What an INSERT does to rows that are there."""
    if change.conflict is not None:
        return "changes rows of the same key" if change.conflict.assignments else "leaves out rows of the same key"
    assert change.overwrite is not None  # the caller asks of others only
    if change.overwrite.where is not None:
        return "replaces rows that fulfil the condition"
    return "replaces partitions" if change.overwrite.partition else "replaces all rows"


def _question(planned: PlannedQuery) -> list[Row]:
    return [("select", " ".join(planned.text.split())), ("plan", planned.explain().rstrip())]


def _files(planned: PlannedQuery, name: str) -> list[Row]:
    """The files of the table that the answer can name."""
    scans = [scan for scan in planned.scans if scan.table == name]
    if not planned.files_by_name and not planned.whole_files:
        return []
    total = max((scan.files_total for scan in scans), default=0)
    rows = [("files", f"{len(planned.files_by_name)} of {total} data files may be touched")]
    rows += _listed("may be touched", [live.file.file_path for live in planned.files_by_name.values()])
    if planned.whole_files:
        rows.append(("files", f"{len(planned.whole_files)} data files go as a whole, unread"))
        rows += _listed("goes as a whole", [live.file.file_path for live in planned.whole_files])
    return rows


def _listed(what: str, paths: Sequence[str], limit: int = 20) -> list[Row]:
    listed = [("file", f"{path} {what}") for path in sorted(paths)[:limit]]
    return listed if len(paths) <= limit else [*listed, ("file", f"and {len(paths) - limit} more")]
