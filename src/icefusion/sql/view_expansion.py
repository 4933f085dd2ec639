"""Views in a query: their own queries in parentheses, in the place of their names.

A view has no parameters, and the tables that it names are looked up as if they stood in the query itself, except that
no WITH of the query can stand for one of them. What is wrong with them is told at the name of the view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from icefusion.errors import BindError
from icefusion.naming import normalize, quote_identifier
from icefusion.sql.references import replace_tables
from icefusion.sql.statements import ChangesBetween, Name, Query, TableReference, TimeAsOf, Version, VersionAsOf

__all__ = ["ViewText", "expand_views"]

# Far deeper than views are ever stacked, and far from where Python's stack ends.
_MAX_DEPTH = 64


@dataclass(frozen=True)
class ViewText:
    """What a view stands for.

    Attributes:
        name: The view, for messages.
        query: Its query.
        columns: What the query's columns are called; empty for the names that it gives them.
        select: Which of these the view has, as a SELECT says it; all of them by default.
    """

    name: str
    query: Query
    columns: tuple[str, ...] = ()
    select: str = "*"


def expand_views(query: Query, find: Callable[[Name], ViewText | None], within: tuple[str, ...] = ()) -> Query:
    """The query with each view in it, and in these again, replaced by what it stands for.

    Args:
        query: The query.
        find: Tells what a name stands for; None where it is no view.
        within: The views whose query this is, from the outermost on.

    Raises:
        BindError: A view is asked for at a version, or is read by its own query.
    """
    views = [find(reference.name) for reference in query.tables]
    if not any(views):
        return query
    bodies = [
        None if view is None else _body(query, reference, view, find, within)
        for view, reference in zip(views, query.tables, strict=True)
    ]
    replaced = replace_tables(query, [None if body is None else body.text for body in bodies])
    tables: list[TableReference] = []
    for old, new, body in zip(query.tables, replaced.tables, bodies, strict=True):
        if body is None:
            tables.append(new)
            continue
        place = old.name.offset
        for inner in body.tables:
            tables.append(
                replace(
                    inner,
                    name=replace(inner.name, offset=place),
                    start=inner.start + new.start,
                    end=inner.end + new.start,
                    version=_placed(inner.version, place),
                )
            )
    return replace(replaced, tables=tuple(tables))


def _body(
    query: Query,
    reference: TableReference,
    view: ViewText,
    find: Callable[[Name], ViewText | None],
    within: tuple[str, ...],
) -> Query:
    """The text that takes the place of a reference, and the tables in it, by their places in that text."""
    if reference.version is not None:
        hint = "read the tables of its query at a version"
        raise BindError(f"view {view.name} has no versions", sql=query.sql, offset=reference.name.offset, hint=hint)
    if view.name in within or len(within) >= _MAX_DEPTH:
        path = " -> ".join((*within, view.name))
        raise BindError(f"view {view.name} reads itself: {path}", sql=query.sql, offset=reference.name.offset)
    inner = expand_views(view.query, find, (*within, view.name))
    label = quote_identifier(normalize(reference.name.parts[-1]))
    before, behind = "(", ")"
    if view.columns:
        names = ", ".join(map(quote_identifier, view.columns))
        before, behind = f"(SELECT {view.select} FROM (", f") AS {label} ({names}))"
    if not reference.has_alias:
        behind += f" AS {label}"
    moved = tuple(
        replace(table, start=table.start + len(before), end=table.end + len(before)) for table in inner.tables
    )
    return Query(f"{before}{inner.text}{behind}", moved)


def _placed(version: Version | ChangesBetween | None, place: int) -> Version | ChangesBetween | None:
    return replace(version, offset=place) if isinstance(version, VersionAsOf | TimeAsOf) else version
