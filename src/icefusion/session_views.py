"""The views of a session: queries under a name, for as long as the session lasts.

No catalog of PyIceberg's but REST holds views, so here they belong to the session, whether their names have a
namespace or not. They are seen by all threads of it, at once, and no transaction takes them back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.schema import Schema

from icefusion.bridge.schema import arrow_to_iceberg
from icefusion.errors import (
    BindError,
    NamespaceNotFoundError,
    SchemaError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.naming import nearest, normalize
from icefusion.sql.basics import Identifier
from icefusion.sql.parser import parse_query
from icefusion.sql.statements import (
    AlterTable,
    AlterView,
    CreateTable,
    CreateView,
    Delete,
    DropTable,
    DropView,
    Insert,
    Merge,
    Name,
    Query,
    RenameTable,
    RenameView,
    Statement,
    Truncate,
    Update,
)
from icefusion.sql.view_expansion import ViewText, expand_views

__all__ = ["SessionViews", "View"]

Key = tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A view of the session.

    Attributes:
        name: As it was written, without a catalog.
        text: Its query as it was written.
        query: The same, parsed by itself.
        columns: What its columns are called; empty for the names that the query gives them.
        comments: What is said of its columns, by name.
        schema: Its columns when it was made.
        comment: What is said of it.
        properties: Its properties.
    """

    name: str
    text: str
    query: Query
    columns: tuple[str, ...]
    comments: tuple[tuple[str, str], ...]
    schema: pa.Schema
    comment: str | None = None
    properties: tuple[tuple[str, str], ...] = ()

    def columns_as_schema(self) -> Schema | None:
        """Its columns as a table would have them; None where no table can."""
        comments = dict(self.comments)
        try:
            fields = arrow_to_iceberg(self.schema).fields
        except SchemaError:
            return None
        return Schema(*(field.model_copy(update={"doc": comments.get(field.name)}) for field in fields))


class SessionViews:
    """Makes, finds, alters and drops the views of one session.

    Args:
        catalog: The catalog's name, which names of views may begin with.
        plan: Tells the columns of a query that reads no parameters.
        settle: Computes the times in a query.
        has_table: Whether a name stands for a table of the catalog.
        has_namespace: Whether a table of this name would have a namespace to be in.
    """

    def __init__(
        self,
        catalog: str,
        plan: Callable[[Query], pa.Schema],
        settle: Callable[[Query], Query],
        has_table: Callable[[Name], bool],
        has_namespace: Callable[[Name], bool],
    ) -> None:
        self._catalog = catalog
        self._plan = plan
        self._settle = settle
        self._has_table = has_table
        self._has_namespace = has_namespace
        self._views: dict[Key, View] = {}
        self._lock = threading.Lock()

    def all(self) -> tuple[View, ...]:
        """All views, by name."""
        with self._lock:
            return tuple(view for _, view in sorted(self._views.items()))

    def find(self, name: Name) -> ViewText | None:
        """What a name stands for in a query; None where it is no view."""
        view = self._views.get(self._key(name)) if self._views else None
        return None if view is None else ViewText(view.name, self._settle(view.query), view.columns)

    def refuse_to_change(self, statement: Statement) -> None:
        """Raise if a statement would change a view as if it were a table.

        Raises:
            UnsupportedStatementError: It would.
        """
        match statement:
            case (
                Insert(table=name) | Delete(table=name) | Update(table=name) | Merge(table=name) | Truncate(table=name)
            ):
                hint = "change the tables of its query"
            case AlterTable(name=name) | RenameTable(name=name):
                hint = f"write ALTER VIEW {name}"
            case DropTable(name=name):
                hint = f"write DROP VIEW {name}"
            case CreateTable(name=name) if not statement.if_not_exists:
                hint = f"write DROP VIEW {name} first, or give the table another name"
            case _:
                return
        if self._views and self.is_view(name):
            raise UnsupportedStatementError(f"{name} is a view, and no table", hint=hint)

    def view(self, name: Name) -> View | None:
        """The view that a name stands for; None where it is no view."""
        return self._views.get(self._key(name)) if self._views else None

    def is_view(self, name: Name) -> bool:
        """Whether a name stands for a view."""
        return self._key(name) in self._views

    def create(self, statement: CreateView) -> None:
        """Make a view.

        Raises:
            BindError: Its query names something that is not there.
            SchemaError: It has another number of columns than its query.
            TableExistsError: There is a view or a table of this name.
            NamespaceNotFoundError: There is no such namespace.
        """
        key = self._key(statement.name)
        if statement.if_not_exists and key in self._views:
            return
        self._check_place(statement.name, temporary=statement.temporary)
        if key in self._views and not statement.replace:
            raise TableExistsError(
                f"view {statement.name} exists already",
                hint="write CREATE OR REPLACE VIEW, or CREATE VIEW IF NOT EXISTS to leave it as it is",
            )
        columns = tuple(normalize(column.name) for column in statement.columns)
        view = View(
            name=".".join(part.text for part in self._parts(statement.name)),
            text=statement.text,
            query=parse_query(statement.text),
            columns=columns,
            comments=tuple((normalize(c.name), c.comment) for c in statement.columns if c.comment is not None),
            schema=self._schema(statement.name, key, statement.query, columns),
            comment=statement.comment,
            properties=statement.properties,
        )
        with self._lock:
            if key in self._views and not statement.replace:
                raise TableExistsError(f"view {statement.name} exists already", hint="write CREATE OR REPLACE VIEW")
            self._views[key] = view

    def alter(self, statement: AlterView) -> None:
        """Give a view another query or other properties.

        Raises:
            TableNotFoundError: There is no such view.
            BindError: Its query names something that is not there, or a property is not there.
            SchemaError: It has another number of columns than its query.
        """
        key = self._key(statement.name)
        view = self._views.get(key)
        if view is None:
            if statement.if_exists:
                return
            raise self._missing(statement.name)
        if statement.query is not None and statement.text is not None:
            schema = self._schema(statement.name, key, statement.query, view.columns)
            view = replace(view, text=statement.text, query=parse_query(statement.text), schema=schema)
        properties = dict(view.properties) | dict(statement.set_properties)
        for unset in statement.unset_properties:
            if properties.pop(unset, None) is None and not statement.unset_if_exists:
                near = nearest(unset, properties)
                hint = f"did you mean {near}?" if near else "write UNSET TBLPROPERTIES IF EXISTS to pass over it"
                raise BindError(f"view {statement.name} has no property {unset}", hint=hint)
        with self._lock:
            self._views[key] = replace(view, properties=tuple(properties.items()))

    def rename(self, statement: RenameView) -> None:
        """Give a view another name; one of one part keeps the namespace.

        Raises:
            TableNotFoundError: There is no such view.
            TableExistsError: There is a view or a table of the new name.
            NamespaceNotFoundError: There is no such namespace.
        """
        old, new = statement.name, statement.new_name
        view = self._views.get(self._key(old))
        if view is None:
            if statement.if_exists:
                return
            raise self._missing(old)
        if len(new.parts) == 1 and len(old.parts) > 1:
            new = Name((*old.parts[:-1], *new.parts), new.offset)
        self._check_place(new, temporary=False)
        if self.is_view(new):
            raise TableExistsError(f"view {new} exists already")
        name = ".".join(part.text for part in self._parts(new))
        with self._lock:
            self._views.pop(self._key(old), None)
            self._views[self._key(new)] = replace(view, name=name)

    def drop(self, statement: DropView) -> None:
        """Forget a view.

        Raises:
            TableNotFoundError: There is no such view.
        """
        with self._lock:
            if self._views.pop(self._key(statement.name), None) is not None or statement.if_exists:
                return
        raise self._missing(statement.name)

    def _schema(self, name: Name, key: Key, query: Query, columns: tuple[str, ...]) -> pa.Schema:
        """The columns that a view of this query has."""
        itself = ViewText(str(name), query, columns)
        # An older view of this name would be read by what replaces it, or by a view that this one reads.
        expand_views(query, lambda other: itself if self._key(other) == key else self.find(other), (str(name),))
        schema = self._plan(query)
        if columns and len(columns) != len(schema):
            raise SchemaError(
                f"view {name}: {len(columns)} columns are named, and its query has {len(schema)}",
                hint=f"the query's columns are {', '.join(schema.names)}",
            )
        if not columns:
            return schema
        return pa.schema([field.with_name(column) for field, column in zip(schema, columns, strict=True)])

    def _check_place(self, name: Name, *, temporary: bool) -> None:
        parts = self._parts(name)
        if len(parts) == 1:
            return
        if temporary:
            hint = f"name it {parts[-1]}, or leave TEMP out"
            raise UnsupportedStatementError(f"temporary view {name} cannot be in a namespace", hint=hint)
        if not self._has_namespace(name):
            namespace = ".".join(part.text for part in parts[:-1])
            raise NamespaceNotFoundError(f"namespace {namespace} does not exist", hint=f"CREATE NAMESPACE {namespace}")
        if self._has_table(name):
            raise TableExistsError(f"{name} is a table", hint="give the view another name")

    def _missing(self, name: Name) -> TableNotFoundError:
        known = [view.name for view in self.all()]
        near = nearest(str(name), known)
        hint = f"did you mean {near}?" if near else f"views of this session: {', '.join(known) or 'none'}"
        if len(self._parts(name)) > 1 and self._has_table(name):
            hint = "it is a table: DROP TABLE, ALTER TABLE"
        return TableNotFoundError(f"view {name} does not exist", hint=hint)

    def _parts(self, name: Name) -> tuple[Identifier, ...]:
        is_full = len(name.parts) > 2 and name.parts[0].text.casefold() == self._catalog.casefold()
        return name.parts[1:] if is_full else name.parts

    def _key(self, name: Name) -> Key:
        return tuple(normalize(part) for part in self._parts(name))
