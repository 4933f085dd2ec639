"""The tables of a query: the names that DataFusion looks them up by, and what these stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pyarrow as pa
from pyiceberg.schema import Schema as IcebergSchema

from icefusion.errors import BindError
from icefusion.naming import normalize
from icefusion.query.filelist import DEFAULT_CATALOG, DEFAULT_SCHEMA
from icefusion.query.generated import GeneratedSource
from icefusion.query.sources import Source
from icefusion.query.views import TableView, view_schema
from icefusion.sql.lexer import Kind, read_identifier, tokenize
from icefusion.sql.statements import Query, TableReference

__all__ = ["Binding", "TableKey", "bound_tables", "fields_of", "shape_of", "table_key"]

Binding = TableView | Source
TableKey = tuple[str, str, str]
"""Catalog, schema and table, as DataFusion knows them."""


def table_key(query: Query, reference: TableReference) -> TableKey:
    """How DataFusion will look up what stands in the text for a reference.

    The text is asked, not the reference's own name: a table at an earlier version was given another one.

    Raises:
        BindError: The name has more parts than names of tables have.
    """
    parts: list[str] = []
    expects_part = True
    for token in tokenize(query.text[reference.start : reference.end]):
        if expects_part and token.kind in (Kind.WORD, Kind.QUOTED):
            parts.append(normalize(read_identifier(token)))
        elif expects_part or token.key != ".":
            break
        expects_part = not expects_part
    if not 1 <= len(parts) <= 3:
        raise BindError(
            f"table name {reference.name} has {len(parts)} parts",
            sql=query.sql,
            offset=reference.name.offset,
            hint='write namespace.table or catalog.namespace.table; quote a nested namespace: "a.b".table',
        )
    catalog, schema, table = [DEFAULT_CATALOG, DEFAULT_SCHEMA][: 3 - len(parts)] + parts
    return catalog, schema, table


def bound_tables(query: Query, keys: Sequence[TableKey], bindings: Sequence[Binding]) -> dict[TableKey, Binding]:
    """What each name of a query stands for.

    Raises:
        BindError: One stands for two things.
    """
    tables: dict[TableKey, Binding] = {}
    for key, reference, binding in zip(keys, query.tables, bindings, strict=True):
        if not _same(tables.setdefault(key, binding), binding):
            raise BindError(f"{reference.name} stands for two things", sql=query.sql, offset=reference.name.offset)
    return tables


def fields_of(binding: TableView | GeneratedSource) -> IcebergSchema:
    """The columns of a table, by field id."""
    return binding.schema if isinstance(binding, TableView) else binding.fields


def shape_of(binding: TableView | GeneratedSource) -> pa.Schema:
    """The columns of a table, as queries see them."""
    if isinstance(binding, TableView):
        return view_schema(binding.schema, with_identity=binding.with_identity)
    return binding.schema


def _same(one: Binding, other: Binding) -> bool:
    if one is other:
        return True
    if isinstance(one, GeneratedSource) and isinstance(other, GeneratedSource):
        return one.identity == other.identity
    if not isinstance(one, TableView) or not isinstance(other, TableView):
        return False
    if one.metadata is not other.metadata and one.metadata != other.metadata:
        return False
    return all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(TableView)
        if field.name not in ("metadata", "io", "schema")
    )
