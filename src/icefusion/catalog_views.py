"""Views that a catalog keeps: what they stand for in a query, and how they are made.

Theory of operation. The catalog has the text of a view's query, in the dialect of whoever made it, and what its columns
are called. So a view is read in steps, each of which may find that it cannot be: the text is brought into our dialect
and parsed; names in it that say no catalog or no namespace mean those of the view; the query is planned over empty
tables, which tells how many columns it has now and of which types; and by that the columns get their names. What a
statement of a transaction finds is kept in the transaction, like the tables under it.

Such a view is read by sessions on other machines, with other views and objects of their own. So it cannot read what
only this session has: views of the session, objects passed by name, files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.schema import Schema

from icefusion.bridge.schema import arrow_to_iceberg, iceberg_to_arrow, type_name
from icefusion.bridge.view_metadata import (
    COMMENT,
    DATAFUSION,
    NAMED_COLUMNS,
    OWN_PROPERTIES,
    SPARK,
    ViewDraft,
    check_view_properties,
    column_fits,
    current_schema,
    current_version,
    dialects_of,
    is_made_here,
    readable_text,
)
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import SessionCatalogs
from icefusion.commit.views import CatalogView, ViewCommitter, find_view, keeps_views
from icefusion.errors import (
    BindError,
    NamespaceNotFoundError,
    SchemaError,
    SQLError,
    TableExistsError,
    TableNotFoundError,
    UnsupportedStatementError,
)
from icefusion.naming import nearest, normalize, quote_identifier
from icefusion.session_views import View
from icefusion.sql.basics import Identifier
from icefusion.sql.dialects import from_spark, is_plain
from icefusion.sql.parser import parse_query
from icefusion.sql.references import replace_tables
from icefusion.sql.statements import AlterView, CreateView, DropView, Name, Query, RenameView, ViewColumn
from icefusion.sql.view_expansion import ViewText, expand_views

if TYPE_CHECKING:
    from icefusion.pinned import PinnedTables

__all__ = ["CatalogViews"]


class CatalogViews:
    """The views that the catalogs of one session keep.

    Args:
        catalogs: The catalogs.
        committer: Changes views.
        plan: Tells the columns of a query that reads no parameters, as a transaction sees its tables.
        settle: Computes the times in a query.
        is_of_session: Whether a name stands for a view of the session.
    """

    def __init__(
        self,
        catalogs: SessionCatalogs,
        committer: ViewCommitter,
        plan: Callable[[Query, PinnedTables], pa.Schema],
        settle: Callable[[Query], Query],
        is_of_session: Callable[[Name], bool],
    ) -> None:
        self._catalogs = catalogs
        self._committer = committer
        self._plan = plan
        self._settle = settle
        self._is_of_session = is_of_session

    def keeper(self, name: Name) -> CatalogClient | None:
        """The catalog that keeps views of such a name; None where none does."""
        if len(name.parts) < 2:
            return None
        client = self._catalogs.of(name)
        return client if keeps_views(client) else None

    # Reading

    def read(self, view: CatalogView, client: CatalogClient, state: PinnedTables) -> ViewText:
        """What a view stands for in a query.

        Args:
            view: The view.
            client: The catalog that keeps it.
            state: The transaction whose tables it reads.

        Raises:
            BindError: It cannot be read.
        """
        if view.name in state.views_in_reading:
            path = " -> ".join((*state.views_in_reading, view.name))
            raise BindError(f"view {view.name} reads itself: {path}")
        state.views_in_reading.append(view.name)
        try:
            query = self._query(view, client)
            found = self._plan(query, state)
            return _named(view, query, found)
        except (SQLError, TableNotFoundError, NamespaceNotFoundError) as error:
            if error.message.startswith("view "):  # it says already which
                raise
            raise BindError(f"view {view.name} cannot be read: {error.message}", hint=error.hint) from error
        finally:
            state.views_in_reading.pop()

    def _query(self, view: CatalogView, client: CatalogClient) -> Query:
        """The query of a view, every name in it with its catalog and namespace."""
        found = readable_text(view.metadata)
        version = current_version(view.metadata)
        if found is None or version is None:
            dialects = ", ".join(dialects_of(view.metadata)) or "none"
            raise BindError(
                f"view {view.name} says its query in no dialect that can be read here: {dialects}",
                hint="replace it with CREATE OR REPLACE VIEW",
            )
        text, dialect = found
        try:
            query = self._settle(parse_query(from_spark(text) if dialect == SPARK else text))
        except SQLError as error:
            raise BindError(
                f"view {view.name} cannot be read: the catalog has a text of dialect {dialect} that is no query "
                f"here: {error.message}",
                hint=error.hint,
            ) from error
        if query.parameters:
            raise BindError(f"view {view.name} cannot be read: its text has parameters")
        if any(table.function is not None for table in query.tables):
            raise BindError(
                f"view {view.name} cannot be read: it names files, and views that a catalog keeps read tables only"
            )
        home = self._home(view, client, version.default_catalog, [table.name for table in query.tables])
        names = [self._qualified(table.name, home, version.default_namespace) for table in query.tables]
        texts = [
            None if name is table.name else ".".join(quote_identifier(part.text) for part in name.parts)
            for name, table in zip(names, query.tables, strict=True)
        ]
        moved = replace_tables(query, texts)
        tables = tuple(replace(table, name=name) for table, name in zip(moved.tables, names, strict=True))
        return replace(moved, tables=tables)

    def _home(
        self, view: CatalogView, client: CatalogClient, default: str | None, names: Sequence[Name]
    ) -> CatalogClient:
        """The catalog that names without one mean.

        Whoever made the view may have called catalogs otherwise than they are called here, and which of them is which
        cannot be known: a guess could lead to another table of the same name.

        Raises:
            BindError: It is not known here; or a name begins with what is no catalog and no namespace here.
        """
        home = client if default is None else self._known(default)
        for name in names:
            if self._catalog_of(name) is not None:
                continue
            missing: str | None = default if home is None else None
            first = name.parts[0].text
            if len(name.parts) > 2:
                is_namespace = home is not None and home.find_namespace(home.marked((first,))) is not None
                missing = None if is_namespace else first
            if missing is not None:
                raise BindError(
                    f"view {view.name} cannot be read: names in it are those of a catalog {missing}, which is not "
                    "known here",
                    hint=f"attach it as {missing}, session.attach({missing!r}, ...); if its maker called catalog "
                    f"{client.name} so, attach that one once more under this name",
                )
        return home or client

    def _known(self, catalog: str) -> CatalogClient | None:
        """The catalog of this name."""
        known = (self._catalogs, *self._catalogs.attached)
        return next((client for client in known if client.name.casefold() == catalog.casefold()), None)

    def _catalog_of(self, name: Name) -> CatalogClient | None:
        """The catalog that a name says it is of; None where it says none."""
        return self._known(name.parts[0].text) if len(name.parts) > 2 else None

    def _qualified(self, name: Name, home: CatalogClient, namespace: Sequence[str]) -> Name:
        if self._catalog_of(name) is not None:
            return name
        parts = name.parts
        if len(parts) == 1:
            parts = (*(Identifier(level, True) for level in namespace), *parts)
        if home is not self._catalogs and len(parts) > 1:
            parts = (Identifier(home.name, True), *parts)
        return name if parts == name.parts else Name(parts, name.offset)

    # What there is to tell

    def shown(self, view: CatalogView) -> View:
        """A view as the statements see it that tell of views.

        Raises:
            BindError: Its metadata do not hold together.
        """
        version, schema = current_version(view.metadata), current_schema(view.metadata)
        if version is None or schema is None:
            raise BindError(f"view {view.name}: its metadata name a version or a schema that is not there")
        text, _ = readable_text(view.metadata) or (version.representations[0].root.sql, "")
        properties = {key: value for key, value in view.metadata.properties.items() if key not in OWN_PROPERTIES}
        comment = properties.pop(COMMENT, None)
        return View(
            name=".".join(view.identifier),
            text=text,
            query=Query(text),
            columns=tuple(field.name for field in schema.fields),
            comments=tuple((field.name, field.doc) for field in schema.fields if field.doc is not None),
            schema=iceberg_to_arrow(schema, field_ids=False),
            comment=comment,
            properties=tuple(sorted(properties.items())),
        )

    # Changing

    def create(self, statement: CreateView, client: CatalogClient, state: PinnedTables) -> None:
        """Make a view, or replace one.

        Raises:
            SQLError: Its query names something that is not there, or that only this session has.
            SchemaError: Its columns cannot be those of a view.
            TableExistsError: There is a view or a table of this name.
            NamespaceNotFoundError: There is no such namespace.
            CommitError: The catalog did not make it.
        """
        check_view_properties(statement.properties)
        name = statement.name
        existing = find_view(client, name)
        if existing is None:
            split = client.split(name)
            identifier = client.marked((*client.require_namespace(split[:-1]), split[-1]))
            if client.find_named(name) is not None:
                raise TableExistsError(f"{name} is a table", hint="give the view another name")
        elif statement.if_not_exists:
            return
        elif not statement.replace:
            raise TableExistsError(
                f"view {name} exists already",
                hint="write CREATE OR REPLACE VIEW, or CREATE VIEW IF NOT EXISTS to leave it as it is",
            )
        else:
            identifier = existing.identifier
        draft = self._draft(name, identifier, statement.query, statement.text, statement.columns, client, state)
        properties = dict(statement.properties)
        if statement.comment is not None:
            properties[COMMENT] = statement.comment
        try:
            self._committer.create(client, identifier, draft, properties, replace=statement.replace)
        except TableExistsError:
            if not statement.if_not_exists or find_view(client, name) is None:
                raise

    def alter(self, statement: AlterView, client: CatalogClient, state: PinnedTables) -> None:
        """Give a view another query or other properties.

        Raises:
            TableNotFoundError: There is no such view.
            SQLError: Its query names something that is not there, or a property is not there.
            SchemaError: It has another number of columns than its query.
            CommitError: The catalog did not do it.
        """
        view = self._existing(statement.name, client, if_exists=statement.if_exists)
        if view is None:
            return
        if statement.query is not None and statement.text is not None:
            draft = self._draft(
                statement.name, view.identifier, statement.query, statement.text, _kept_columns(view), client, state
            )
            self._committer.replace_query(client, view.identifier, draft)
            return
        check_view_properties(statement.set_properties)
        known = view.metadata.properties
        for unset in statement.unset_properties:
            if unset not in known and not statement.unset_if_exists:
                near = nearest(unset, known)
                hint = f"did you mean {near}?" if near else "write UNSET TBLPROPERTIES IF EXISTS to pass over it"
                raise BindError(f"view {statement.name} has no property {unset}", hint=hint)
        self._committer.set_properties(
            client, view.identifier, dict(statement.set_properties), statement.unset_properties
        )

    def rename(self, statement: RenameView, client: CatalogClient) -> None:
        """Give a view another name; one of one part keeps the namespace.

        Raises:
            TableNotFoundError: There is no such view.
            TableExistsError: There is a view or a table of the new name.
            NamespaceNotFoundError: There is no such namespace.
        """
        view = self._existing(statement.name, client, if_exists=statement.if_exists)
        if view is None:
            return
        new = statement.new_name
        if len(new.parts) == 1:
            new = Name((*statement.name.parts[:-1], *new.parts), new.offset)
        if self._catalogs.of(new) is not client:
            raise BindError(
                f"{new} lies in another catalog than {view.name}, and a view cannot be renamed from one to another",
                hint="make it anew there",
            )
        split = client.split(new)
        identifier = client.marked((*client.require_namespace(split[:-1]), split[-1]))
        if identifier == view.identifier:
            return
        there = find_view(client, new)
        if there is not None and there.identifier != view.identifier:
            raise TableExistsError(f"view {new} exists already")
        if client.find_named(new) is not None:
            raise TableExistsError(f"{new} is a table", hint="give the view another name")
        self._committer.rename(client, view, identifier)

    def drop(self, statement: DropView, client: CatalogClient) -> None:
        """Take a view out of the catalog.

        Raises:
            TableNotFoundError: There is no such view.
        """
        view = self._existing(statement.name, client, if_exists=statement.if_exists)
        if view is not None:
            self._committer.drop(client, view)

    def _existing(self, name: Name, client: CatalogClient, *, if_exists: bool) -> CatalogView | None:
        view = find_view(client, name)
        if view is not None or if_exists:
            return view
        hint = None
        if client.find_named(name) is not None:
            hint = "it is a table: DROP TABLE, ALTER TABLE"
        raise TableNotFoundError(f"view {client.full_name(client.split(name))} does not exist", hint=hint)

    def _draft(
        self,
        name: Name,
        identifier: tuple[str, ...],
        query: Query,
        text: str,
        columns: Sequence[ViewColumn],
        client: CatalogClient,
        state: PinnedTables,
    ) -> ViewDraft:
        """What a view of this query is to the catalog."""
        self._check_references(name, query)
        full = client.full_name(identifier)
        itself = ViewText(full, query)

        def find(other: Name) -> ViewText | None:
            found = state.find_view(other)
            return itself if found is not None and found.name == full else found

        # An older view of this name would be read by what replaces it, or by a view that this one reads.
        expand_views(query, find, (full,))
        schema = self._plan(self._settle(query), state)
        if columns:
            if len(columns) != len(schema):
                raise SchemaError(
                    f"view {name}: {len(columns)} columns are named, and its query has {len(schema)}",
                    hint=f"the query's columns are {', '.join(schema.names)}",
                )
            schema = pa.schema(
                [field.with_name(normalize(column.name)) for field, column in zip(schema, columns, strict=True)]
            )
        comments = {normalize(column.name): column.comment for column in columns}
        outside = any(self._catalog_of(table.name) is None for table in query.tables)
        return ViewDraft(
            text=text,
            dialect=SPARK if is_plain(query, text) else DATAFUSION,
            schema=_view_schema(name, schema, comments),
            # Names without a catalog mean the session's own, whichever catalog keeps the view.
            default_catalog=self._catalogs.name if outside and client is not self._catalogs else None,
            named_columns=bool(columns),
        )

    def _check_references(self, name: Name, query: Query) -> None:
        """Refuse what only this session can read."""
        for table in query.tables:
            what = None
            if table.function is not None:
                what = f"file {table.function.called}"
            elif self._is_of_session(table.name):
                what = f"{table.name}, a view of this session"
            elif len(table.name.parts) == 1:
                what = f"{table.name}, which has no namespace"
            if what is not None:
                raise UnsupportedStatementError(
                    f"view {name} cannot read {what}: the catalog keeps it for all who read the catalog",
                    sql=query.sql,
                    offset=table.name.offset,
                    hint="write CREATE TEMP VIEW with a name without a namespace, for a view of this session",
                )


def _kept_columns(view: CatalogView) -> tuple[ViewColumn, ...]:
    """The columns that a view keeps with another query: those that it was given names for."""
    schema = current_schema(view.metadata)
    are_named = is_made_here(view.metadata) and view.metadata.properties.get(NAMED_COLUMNS) == "true"
    if schema is None or not are_named:
        return ()
    return tuple(ViewColumn(Identifier(field.name, True), field.doc) for field in schema.fields)


def _view_schema(name: Name, schema: pa.Schema, comments: dict[str, str | None]) -> Schema:
    """The columns as the catalog gets them, with field ids.

    Raises:
        SchemaError: Two have one name, or one is of a type that no table can have.
    """
    seen: set[str] = set()
    for column in schema.names:
        if column.casefold() in seen:
            raise SchemaError(
                f"view {name}: two of its columns are called {column}",
                column=column,
                hint=f"give them names: CREATE VIEW {name} (a, b, ...) AS ...",
            )
        seen.add(column.casefold())
    made = arrow_to_iceberg(schema)
    # Whether a value can be NULL is for the tables to say, which may be altered.
    fields = [f.model_copy(update={"doc": comments.get(f.name), "required": False}) for f in made.fields]
    return Schema(*fields)


def _called(column: pa.Field) -> str:
    try:
        return type_name(arrow_to_iceberg(pa.schema([column.with_name("column")])).fields[0].field_type)
    except SchemaError:
        return str(column.type)


def _named(view: CatalogView, query: Query, found: pa.Schema) -> ViewText:
    """The query with its columns called, by position, what the catalog says."""
    schema = current_schema(view.metadata)
    if schema is None:
        raise BindError(f"view {view.name}: its metadata name a schema that is not there")
    wanted = schema.fields
    if len(found) < len(wanted):
        raise BindError(
            f"view {view.name} has {len(wanted)} columns in the catalog, and its query has {len(found)} now",
            hint="the tables under it have changed; replace it with CREATE OR REPLACE VIEW",
        )
    select = []
    for field, column in zip(wanted, found, strict=False):
        fits, cast = column_fits(column, field.field_type)
        if not fits:
            raise BindError(
                f"view {view.name}: column {field.name} is {type_name(field.field_type)} in the catalog, and its query "
                f"gives {_called(column)}",
                hint="its text means something else here, or the tables under it have changed; replace it with "
                "CREATE OR REPLACE VIEW",
            )
        quoted = quote_identifier(field.name)
        select.append(quoted if cast is None else f"CAST({quoted} AS {cast}) AS {quoted}")
    # A table under a SELECT * may have got more columns since; the view has those that it was made with.
    more = tuple(f"?{position}?" for position in range(len(wanted), len(found)))
    names = (*(field.name for field in wanted), *more)
    return ViewText(view.name, query, names, ", ".join(select))
