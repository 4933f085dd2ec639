"""Give the names in a query their meaning.

The parser knows which words of a query stand for tables; here they become what the engine reads: an Iceberg table as
the transaction sees it, or an object that the caller passed by name. Two things that DataFusion cannot express are
settled in the text on the way: a table at an earlier version gets a name of its own, and unquoted words that mean a
column spelled with capital letters are replaced by its quoted name, because DataFusion folds unquoted names to lower
case. Numbers that it would round while reading them are handed over exactly, and columns of the same text are told
apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
from pyiceberg.schema import Schema

from icefusion.errors import BindError
from icefusion.naming import find_name, nearest, normalize, quote_identifier
from icefusion.query.changelog import Changelog, expand_changelogs
from icefusion.query.scan import TableView
from icefusion.query.sources import Source
from icefusion.query.views import view_schema
from icefusion.sql.duplicates import name_duplicates
from icefusion.sql.literals import exact_literals, keys_in_32_bits
from icefusion.sql.references import names_of_tables, replace_tables, rewrite_identifiers
from icefusion.sql.statements import ChangesBetween, ComputedAsOf, Name, Query, TableReference, TimeAsOf, VersionAsOf
from icefusion.sql.view_expansion import ViewText, expand_views

__all__ = ["Binding", "TableLookup", "bind_query"]

Binding = TableView | Source


class TableLookup(Protocol):
    """Finds Iceberg tables for a query; a transaction is one."""

    def view(self, name: Name, version: VersionAsOf | TimeAsOf | None) -> Binding:
        """What a statement reads when it names this table."""
        ...

    def changes(self, name: Name, between: ChangesBetween) -> Changelog:
        """What happened to this table between two of its states."""
        ...

    def find_view(self, name: Name) -> ViewText | None:
        """The view that a name stands for; None where it is none."""
        ...


def bind_query(query: Query, tables: TableLookup, sources: Mapping[str, Binding]) -> tuple[Query, list[Binding]]:
    """The query as the engine can read it, and what each of its table references stands for, in order.

    Args:
        query: As parsed.
        tables: Where Iceberg tables are looked up.
        sources: What names of one part stand for: the objects passed by name.

    Raises:
        BindError: A name stands for nothing.
        TableNotFoundError: A table does not exist.
    """
    query = expand_views(query, lambda name: tables.find_view(name) if _find_source(name, sources) is None else None)
    query, logged = expand_changelogs(query, tables.changes)
    sources = {**sources, **logged}
    bindings: list[Binding] = []
    replacements: list[str | None] = []
    for reference in query.tables:
        binding = _bind(query, reference, tables, sources)
        bindings.append(binding)
        replacements.append(_alias(reference) if _needs_alias(reference) else None)
    bound = exact_literals(replace_tables(query, replacements) if any(replacements) else query)
    if "[" in bound.text:
        bound = keys_in_32_bits(bound, _maps_of_ints(bindings))
    spellings, ambiguous = _spellings(bindings)
    qualified = _spellings_by_table(bound, bindings, ambiguous) if ambiguous else {}
    return name_duplicates(rewrite_identifiers(bound, spellings, qualified)), bindings


def _bind(query: Query, reference: TableReference, tables: TableLookup, sources: Mapping[str, Binding]) -> Binding:
    if reference.function is not None:
        return sources[reference.function.key]  # opened before the statement is planned
    if len(reference.name.parts) > 1:
        # Those are computed before their statement runs, or were expanded.
        assert not isinstance(reference.version, ComputedAsOf | ChangesBetween)
        try:
            return tables.view(reference.name, reference.version)
        except BindError as error:
            if error.line is not None:
                raise
            offset = reference.version.offset if reference.version is not None else reference.name.offset
            raise BindError(error.message, sql=query.sql, offset=offset, hint=error.hint) from error
    name = _find_source(reference.name, sources)
    if name is None:
        near = nearest(reference.name.parts[0].text, sources)
        hint = f"did you mean {near}?" if near else "Iceberg tables are written namespace.table"
        if not near and not sources:
            hint += "; other data is passed by name: session.sql(..., name=data)"
        raise BindError(f"unknown table {reference.name}", sql=query.sql, offset=reference.name.offset, hint=hint)
    if reference.version is not None:
        raise BindError(
            f"{reference.name} was passed by name and has no versions", sql=query.sql, offset=reference.name.offset
        )
    return sources[name]


def _find_source(name: Name, sources: Mapping[str, Binding]) -> str | None:
    """The object passed by name that a name of one part stands for."""
    return find_name(name.parts[0], sources) if len(name.parts) == 1 else None


def _needs_alias(reference: TableReference) -> bool:
    """Whether the engine cannot read what stands there: it knows no versions, no files, and no names of more parts."""
    return reference.version is not None or reference.function is not None or len(reference.name.parts) > 3


def _alias(reference: TableReference) -> str:
    """A name of its own for a table, shown to the rest of the query under the last part of the table's own name."""
    match reference.version:
        case None if reference.function is not None:
            unique = quote_identifier(reference.function.key)
        case VersionAsOf(version):
            unique = quote_identifier(f"{reference.name}@{version!r}")
        case TimeAsOf(timestamp_ms):
            unique = quote_identifier(f"{reference.name}@{timestamp_ms}ms")
        case _:
            unique = quote_identifier(str(reference.name))
    if reference.has_alias:
        return unique
    return f"{unique} AS {quote_identifier(normalize(reference.name.parts[-1]))}"


def _spellings(bindings: Sequence[Binding]) -> tuple[dict[str, str], frozenset[str]]:
    """Lower-case word to exact column name, for the columns that are spelled with capitals, and the ambiguous words."""
    names: dict[str, set[str]] = {}
    for binding in bindings:
        for name in _column_names(binding):
            names.setdefault(name.lower(), set()).add(name)
    exact = {lower: next(iter(found)) for lower, found in names.items() if len(found) == 1}
    spellings = {lower: name for lower, name in exact.items() if name != lower}
    return spellings, frozenset(names.keys() - exact.keys())


def _spellings_by_table(query: Query, bindings: Sequence[Binding], words: frozenset[str]) -> dict[str, dict[str, str]]:
    """How tables spell words that others spell in another way, by what each table goes by in the query."""
    found: dict[str, dict[str, set[str]]] = {}
    for owner, binding in zip(names_of_tables(query), bindings, strict=True):
        if owner is not None:
            own = found.setdefault(owner, {})
            for name in _column_names(binding):
                if name.lower() in words:
                    own.setdefault(name.lower(), set()).add(name)
    return {
        owner: {lower: next(iter(names)) for lower, names in own.items() if len(names) == 1}
        for owner, own in found.items()
    }


def _column_names(binding: Binding) -> Iterable[str]:
    schema: Schema | pa.Schema = binding.schema
    if isinstance(schema, Schema):
        return [part for name in schema.column_names for part in name.split(".")]
    return (field.name for field in _arrow_fields(schema))


def _maps_of_ints(bindings: Sequence[Binding]) -> frozenset[str]:
    """The columns, in lower case, that are maps with keys of 32 bits wherever they are found."""
    maps: set[str] = set()
    others: set[str] = set()
    for binding in bindings:
        schema: Schema | pa.Schema = binding.schema
        arrow = view_schema(schema) if isinstance(schema, Schema) else schema
        for field in _arrow_fields(arrow):
            is_such = pa.types.is_map(field.type) and pa.types.is_int32(field.type.key_type)
            (maps if is_such else others).add(field.name.lower())
    return frozenset(maps - others)


def _arrow_fields(fields: Iterable[pa.Field]) -> Iterable[pa.Field]:
    for field in fields:
        yield field
        if pa.types.is_struct(field.type):
            yield from _arrow_fields(field.type)
