"""Carries out SHOW and DESCRIBE."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from icefusion.bridge.metadata_names import INFORMATION_SCHEMA, INFORMATION_TABLES
from icefusion.bridge.partition import partition_path, schema_of_spec
from icefusion.bridge.schema import type_name
from icefusion.changes.execute import Given, table_names
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import SessionCatalogs, catalogs_of
from icefusion.commit.views import keeps_views, list_views
from icefusion.errors import TableNotFoundError, UnsupportedStatementError
from icefusion.introspection.create_table import create_table_text
from icefusion.introspection.create_view import create_view_text
from icefusion.introspection.describe import describe_column, describe_namespace, describe_schema, describe_table
from icefusion.introspection.patterns import NamePattern
from icefusion.introspection.subjects import Described, find_described, find_table
from icefusion.naming import nearest
from icefusion.query.engine import Engine
from icefusion.query.inspect.of_metadata import shown_properties
from icefusion.query.inspect.of_partitions import sum_partitions
from icefusion.query.inspect.subject import Subject
from icefusion.query.parameters import bind_parameters
from icefusion.query.planner import bind_query
from icefusion.reports import Reporter, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.statements import Describe, DescribeQuery, Inspection, Name, Query, Show
from icefusion.transaction import TransactionState
from icefusion.views import Views

__all__ = ["Inspector"]


class Inspector:
    """The statements of a session that tell what there is.

    Args:
        catalogs: The session's catalogs.
        engine: Plans queries that are described.
        views: The views that the session can name.
        reporter: Told of each statement.
    """

    def __init__(self, catalogs: SessionCatalogs, engine: Engine, views: Views, reporter: Reporter | None) -> None:
        self._catalogs = catalogs
        self._engine = engine
        self._views = views
        self._reporter = reporter

    def run(self, statement: Inspection, given: Given, state: TransactionState) -> Result:
        """Carry out one statement.

        Raises:
            TableNotFoundError: There is no such table.
            NamespaceNotFoundError: There is no such namespace.
            SQLError: There is no such column, or the query to be described is none.
        """
        began = time.perf_counter()
        match statement:
            case Show():
                word, rows = f"SHOW {statement.what.upper()}", self._show(statement, state)
            case Describe():
                word, rows = "DESCRIBE", self._describe(statement, state)
            case DescribeQuery(query):
                word, rows = "DESCRIBE", self._describe_query(query, given, state)
        report = StatementReport(word, seconds=time.perf_counter() - began)
        tell(self._reporter, report)
        batches = rows.to_batches()
        return Result(rows.schema, lambda: iter(batches), report=report)

    def _show(self, statement: Show, state: TransactionState) -> pa.Table:
        pattern = NamePattern(statement.pattern)
        match statement.what:
            case "catalogs":
                names = sorted(client.name for client in (self._catalogs, *self._catalogs.attached))
                return _texts(("catalog",), ((name,) for name in names if pattern.matches(name)))
            case "functions":
                names = sorted(name for name in self._engine.function_names() if pattern.matches(name))
                return _texts(("function",), ((name,) for name in names))
            case "namespaces":
                return self._namespaces(statement.name, pattern, state)
            case "tables":
                return self._tables(statement.name, pattern, state)
            case "views":
                return self._show_views(statement.name, pattern, state)
        assert statement.name is not None  # all others are about one table
        match statement.what:
            case "columns":
                return _columns(find_described(state, statement.name, self._views), pattern)
            case "partitions":
                return self._partitions(statement.name, state)
            case "create table":
                return _create_table(statement.name, state)
            case "create view":
                return self._create_view(statement.name, state)
            case "properties":
                return _properties(statement.name, statement.key, state)
        raise AssertionError(statement.what)  # there is nothing else to show

    # What the catalogs hold

    def _namespaces(self, name: Name | None, pattern: NamePattern, state: TransactionState) -> pa.Table:
        client, parent = self._place(name, state)
        found = [".".join(namespace) for namespace in state.namespaces.children(client, parent)]
        return _texts(("namespace",), ((each,) for each in found if pattern.matches(each)))

    def _tables(self, name: Name | None, pattern: NamePattern, state: TransactionState) -> pa.Table:
        if (
            name is not None
            and name.parts[-1].text.lower() == INFORMATION_SCHEMA
            and not self._is_namespace(name, state)
        ):
            shown = [(INFORMATION_SCHEMA, kind) for kind in INFORMATION_TABLES if pattern.matches(kind)]
            return _tables(shown)
        client, parent = self._place(name, state)
        namespaces = [parent] if parent else list(state.namespaces.walk(client))
        rows = [
            (".".join(identifier[:-1]), identifier[-1])
            for namespace in namespaces
            for identifier in state.list_tables(client, namespace)
            if pattern.matches(identifier[-1])
        ]
        return _tables(rows)

    def _is_namespace(self, name: Name, state: TransactionState) -> bool:
        client = self._catalogs.of_namespace(name)
        return state.namespaces.find(client, client.split_namespace(name)) is not None

    def _place(self, name: Name | None, state: TransactionState) -> tuple[CatalogClient, tuple[str, ...]]:
        """The catalog that a name leads to, and the namespace in it; the root for no name, or for that of a catalog."""
        if name is None:
            return self._catalogs, ()
        if len(name.parts) == 1:
            word = name.parts[0].text.casefold()
            for other in self._catalogs.attached:
                if word == other.name.casefold():
                    return other, ()
        client = self._catalogs.of_namespace(name)
        namespace = client.split_namespace(name)
        found = state.namespaces.find(client, namespace)
        if found is None and len(name.parts) == 1 and word == client.name.casefold():
            return client, ()
        return client, found if found is not None else state.namespaces.require(client, namespace)

    def _show_views(self, name: Name | None, pattern: NamePattern, state: TransactionState) -> pa.Table:
        """Views, those of one namespace or all: the session's first, then those that the catalog keeps."""
        inside = None if name is None else ".".join(part.text for part in name.parts).casefold()
        rows = []
        for view in self._views.session.all():
            namespace, _, last = view.name.rpartition(".")
            if pattern.matches(last) and inside in (None, namespace.casefold()):
                rows.append((namespace, last))
        temporary = [True] * len(rows)
        rows += [(".".join(view[:-1]), view[-1]) for view in self._kept_views(name, state) if pattern.matches(view[-1])]
        temporary += [False] * (len(rows) - len(temporary))
        return _texts(("namespace", "viewName"), rows).append_column("isTemporary", pa.array(temporary, pa.bool_()))

    def _kept_views(self, name: Name | None, state: TransactionState) -> list[tuple[str, ...]]:
        """The views that a catalog keeps, of one namespace or all."""
        if not any(keeps_views(client) for client in catalogs_of(self._catalogs)):
            return []
        client, parent = self._place(name, state)
        namespaces = [parent] if parent else list(client.walk_namespaces()) if keeps_views(client) else []
        return [view for namespace in namespaces for view in list_views(client, namespace)]

    def _create_view(self, name: Name, state: TransactionState) -> pa.Table:
        view = self._views.view(name, state)
        if view is None:
            known = [each.name for each in self._views.session.all()]
            known += [".".join(each) for each in self._kept_views(None, state)]
            near = nearest(str(name), known)
            hint = f"did you mean {near}?" if near else f"views here: {', '.join(known[:10]) or 'none yet'}"
            raise TableNotFoundError(f"view {name} does not exist", hint=hint)
        return _texts(("createtab_stmt",), [(create_view_text(view),)])

    def _describe(self, statement: Describe, state: TransactionState) -> pa.Table:
        if statement.what == "namespace":
            client, namespace = self._place(statement.name, state)
            properties = state.namespaces.properties(client, namespace) if namespace else {}
            return describe_namespace(client.name, namespace, properties, extended=statement.extended)
        described = find_described(state, statement.name, self._views)
        if statement.column:
            return describe_column(described, statement.column)
        return describe_table(described, extended=statement.extended)

    def _describe_query(self, query: Query, given: Given, state: TransactionState) -> pa.Table:
        parameters = bind_parameters(query, given.parameters)
        state.pin_together(table_names((query,)))
        bound, bindings = bind_query(query, state, given.sources)
        return describe_schema(self._engine.plan(bound, bindings, parameters).schema)

    # Tables

    def _partitions(self, name: Name, state: TransactionState) -> pa.Table:
        """The partitions that hold files, as the folders that they would have: ``p=a/day=2024-05-01``."""
        found = find_table(state, name, "partitions")
        assert found.handle is not None  # as that was asked for
        metadata = found.handle.metadata
        specs = metadata.specs()
        if not any(spec.fields for spec in specs.values()):
            raise UnsupportedStatementError(
                f"table {found.name} is not partitioned",
                hint=f"SELECT * FROM {name}.partitions sums up all of its files",
            )
        subject = Subject(found.name, metadata, found.handle.metadata_location, found.handle.io, found.snapshot_id)
        shown = []
        for sums in sum_partitions(subject, self._engine.manifests):
            spec = specs[sums.sample.spec_id or 0]
            shown.append(partition_path(sums.sample.partition, spec, schema_of_spec(spec, metadata)))
        return _texts(("partition",), ((each,) for each in sorted(set(shown))))


def _tables(rows: Sequence[tuple[str, str]]) -> pa.Table:
    table = _texts(("namespace", "tableName"), rows)
    return table.append_column("isTemporary", pa.array([False] * len(rows), pa.bool_()))


def _columns(described: Described, pattern: NamePattern) -> pa.Table:
    fields = [field for field in described.columns.fields if pattern.matches(field.name)]
    return pa.table(
        {
            "col_name": pa.array([field.name for field in fields], pa.string()),
            "data_type": pa.array([type_name(field.field_type) for field in fields], pa.string()),
            "nullable": pa.array([not field.required for field in fields], pa.bool_()),
            "comment": pa.array([field.doc for field in fields], pa.string()),
        }
    )


def _create_table(name: Name, state: TransactionState) -> pa.Table:
    handle = find_table(state, name, "statement that creates it").handle
    assert handle is not None  # as that was asked for
    usual = state.usual_location(handle)
    text = create_table_text(handle.identifier, handle.metadata, usual_location=usual)
    return _texts(("createtab_stmt",), [(text,)])


def _properties(name: Name, key: str | None, state: TransactionState) -> pa.Table:
    found = find_table(state, name, "properties")
    assert found.handle is not None  # as that was asked for
    shown = shown_properties(found.handle.metadata)
    if key is not None:
        missing = f"Table {found.name} does not have property: {key}"
        shown = {key: shown.get(key, missing)}
    return _texts(("key", "value"), shown.items())


def _texts(names: Sequence[str], rows: Iterable[Sequence[str]]) -> pa.Table:
    listed: list[Sequence[Any]] = list(rows)
    columns: Iterator[pa.Array] = (pa.array([row[place] for row in listed], pa.string()) for place in range(len(names)))
    return pa.table(dict(zip(names, columns, strict=True)))
