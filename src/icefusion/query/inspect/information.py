"""``information_schema``: what a catalog holds, with the columns of the SQL standard.

A namespace is a part, and where tables' metadata is needed each table of it is one again. So a condition on
``table_schema`` leaves out whole namespaces before their tables are listed, one on ``table_name`` tables before their
metadata is read, and ``tables`` reads the metadata of none. Whoever asks is shown the catalog as it is while the rows
are read; a table that goes away meanwhile has no columns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
)

from icefusion.bridge.manifests import ManifestReader
from icefusion.bridge.metadata_names import INFORMATION_SCHEMA
from icefusion.bridge.schema import type_name
from icefusion.query.generated import Bounds, GeneratedSource, Part, arrow_schema, exactly, make_batch, make_fields

__all__ = ["CatalogLister", "ListedView", "information_table"]

Row = tuple[Any, ...]
BATCH_ROWS = 4_096

_TEXT, _INT = StringType(), IntegerType()


@dataclass(frozen=True)
class ListedView:
    """A view: its namespace and name, its query as it was written, and its columns."""

    namespace: tuple[str, ...]
    name: str
    text: str
    columns: Schema | None


class CatalogLister(Protocol):
    """Tells what a catalog holds."""

    @property
    def name(self) -> str:
        """The catalog's name."""
        ...

    def namespaces(self) -> Iterable[tuple[str, ...]]:
        """All namespaces, at any depth."""
        ...

    def tables(self, namespace: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        """The identifiers of the tables of a namespace."""
        ...

    def columns(self, table: tuple[str, ...]) -> Schema | None:
        """The columns of a table; None where it is gone."""
        ...

    def owner(self, namespace: tuple[str, ...]) -> str | None:
        """Whom a namespace belongs to, where somebody has said so."""
        ...

    def views(self) -> Iterable[ListedView]:
        """The views that are the session's own."""
        ...

    def kept_views(self, namespace: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        """The identifiers of the views of a namespace that the catalog keeps."""
        ...

    def kept_view(self, identifier: tuple[str, ...]) -> ListedView | None:
        """One of these; None where it is gone."""
        ...


def information_table(kind: str, lister: CatalogLister, identity: Hashable) -> GeneratedSource:
    """A table of the information schema, as a source of queries.

    Args:
        kind: One of `icefusion.bridge.metadata_names.INFORMATION_TABLES`.
        lister: Tells what there is.
        identity: Equal for two that read the same.
    """
    columns, parts = _TABLES[kind]
    fields = make_fields(*columns)

    def give(_: ManifestReader) -> Iterable[Part]:
        return parts(lister, arrow_schema(fields))

    return GeneratedSource(f"{lister.name}.{INFORMATION_SCHEMA}.{kind}", fields, give, (kind, identity))


def _rows_part(schema: pa.Schema, rows: Callable[[], Iterable[Row]], bounds: Bounds) -> Part:
    def make(loaded: Sequence[Row], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        places = {name: place for place, name in enumerate(schema.names)}
        for start in range(0, len(loaded), BATCH_ROWS):
            some = loaded[start : start + BATCH_ROWS]
            makers = {name: _values([row[places[name]] for row in some]) for name in wanted}
            yield make_batch(schema, wanted, makers)

    return Part(make, lambda: list(rows()), bounds)


def _values(values: list[Any]) -> Callable[[pa.DataType], Any]:
    return lambda _: values


def _schemata(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    for namespace in lister.namespaces():
        shown = ".".join(namespace)
        yield _rows_part(
            schema,
            lambda namespace=namespace, shown=shown: [(lister.name, shown, lister.owner(namespace))],  # type: ignore[misc]
            {"schema_name": exactly(_TEXT, shown)},
        )


def _of_namespace(namespace: tuple[str, ...]) -> Bounds:
    return {"table_schema": exactly(_TEXT, ".".join(namespace))}


def _tables(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    for namespace in lister.namespaces():

        def rows(namespace: tuple[str, ...] = namespace) -> Iterator[Row]:
            for table in sorted(lister.tables(namespace)):
                yield lister.name, ".".join(namespace), table[-1], "BASE TABLE"
            for view in lister.kept_views(namespace):
                yield lister.name, ".".join(namespace), view[-1], "VIEW"

        yield _rows_part(schema, rows, _of_namespace(namespace))
    views = [(lister.name, ".".join(view.namespace), view.name, "VIEW") for view in lister.views()]
    yield _rows_part(schema, lambda: views, {})


def _views(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    views = [(lister.name, ".".join(view.namespace), view.name, view.text) for view in lister.views()]
    yield _rows_part(schema, lambda: views, {})
    yield from _of_kept_views(lister, schema, lambda place, view: [(*place, view.text)])


def _columns(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    yield from _of_tables(lister, schema, _column_rows)
    yield from _of_kept_views(
        lister, schema, lambda place, view: () if view.columns is None else _column_rows(place, view.columns)
    )
    for view in lister.views():
        if view.columns is not None:
            shown = list(_column_rows((lister.name, ".".join(view.namespace), view.name), view.columns))
            yield _rows_part(schema, lambda shown=shown: shown, {})  # type: ignore[misc]


def _constraints(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    yield from _of_tables(lister, schema, _constraint_rows)


def _key_columns(lister: CatalogLister, schema: pa.Schema) -> Iterator[Part]:
    yield from _of_tables(lister, schema, _key_rows)


def _of_tables(
    lister: CatalogLister, schema: pa.Schema, rows_of: Callable[[tuple[str, str, str], Schema], Iterable[Row]]
) -> Iterator[Part]:
    """Rows that come from the metadata of each table."""
    for namespace in lister.namespaces():

        def tables(namespace: tuple[str, ...] = namespace) -> Iterator[Part]:
            for table in sorted(lister.tables(namespace)):

                def rows(table: tuple[str, ...] = table) -> Iterator[Row]:
                    columns = lister.columns(table)
                    if columns is not None:
                        yield from rows_of((lister.name, ".".join(namespace), table[-1]), columns)

                bounds = {**_of_namespace(namespace), "table_name": exactly(_TEXT, table[-1])}
                yield _rows_part(schema, rows, bounds)

        yield Part.of_parts(tables, _of_namespace(namespace))


def _of_kept_views(
    lister: CatalogLister,
    schema: pa.Schema,
    rows_of: Callable[[tuple[str, str, str], ListedView], Iterable[Row]],
) -> Iterator[Part]:
    """Rows that come from the metadata of each view that the catalog keeps."""
    for namespace in lister.namespaces():

        def views(namespace: tuple[str, ...] = namespace) -> Iterator[Part]:
            for identifier in lister.kept_views(namespace):

                def rows(identifier: tuple[str, ...] = identifier) -> Iterator[Row]:
                    view = lister.kept_view(identifier)
                    if view is not None:
                        yield from rows_of((lister.name, ".".join(namespace), identifier[-1]), view)

                bounds = {**_of_namespace(namespace), "table_name": exactly(_TEXT, identifier[-1])}
                yield _rows_part(schema, rows, bounds)

        yield Part.of_parts(views, _of_namespace(namespace))


def _constraint_rows(table: tuple[str, str, str], columns: Schema) -> Iterator[Row]:
    """The identifier fields are the one constraint there is, and nobody enforces it."""
    if columns.identifier_field_ids:
        yield (*_constraint(table), *table, "PRIMARY KEY", "NO")


def _key_rows(table: tuple[str, str, str], columns: Schema) -> Iterator[Row]:
    for place, field_id in enumerate(sorted(columns.identifier_field_ids), start=1):
        yield (*_constraint(table), *table, columns.find_column_name(field_id), place)


def _constraint(table: tuple[str, str, str]) -> tuple[str, str, str]:
    return table[0], table[1], f"{table[2]}_identifier"


def _column_rows(table: tuple[str, str, str], columns: Schema) -> Iterator[Row]:
    for place, field in enumerate(columns.fields, start=1):
        yield (
            *table,
            field.name,
            place,
            None if field.write_default is None else str(field.write_default),
            "NO" if field.required else "YES",
            type_name(field.field_type),
            *_precision(field),
            field.doc,
        )


def _precision(field: NestedField) -> tuple[int | None, int | None, int | None]:
    """Digits of a number, those behind its point, and those of the fraction of a second."""
    kind: IcebergType = field.field_type
    match kind:
        case DecimalType():
            return kind.precision, kind.scale, None
        case IntegerType():
            return 32, 0, None
        case LongType():
            return 64, 0, None
        case FloatType():
            return 24, None, None
        case DoubleType():
            return 53, None, None
        case TimestampType() | TimestamptzType() | TimeType():
            return None, None, 6
        case TimestampNanoType() | TimestamptzNanoType():
            return None, None, 9
    return None, None, None


_PLACE: tuple[tuple[str, Any], ...] = (("table_catalog", _TEXT), ("table_schema", _TEXT), ("table_name", _TEXT))
_CONSTRAINT = tuple((f"constraint_{part}", _TEXT) for part in ("catalog", "schema", "name"))
_TABLES: dict[str, tuple[tuple[tuple[str, Any], ...], Callable[[CatalogLister, pa.Schema], Iterable[Part]]]] = {
    "schemata": ((("catalog_name", _TEXT), ("schema_name", _TEXT), ("schema_owner", _TEXT)), _schemata),
    "tables": ((*_PLACE, ("table_type", _TEXT)), _tables),
    "table_constraints": (
        (*_CONSTRAINT, *_PLACE, ("constraint_type", _TEXT), ("enforced", _TEXT)),
        _constraints,
    ),
    "key_column_usage": (
        (*_CONSTRAINT, *_PLACE, ("column_name", _TEXT), ("ordinal_position", _INT)),
        _key_columns,
    ),
    "views": ((*_PLACE, ("view_definition", _TEXT)), _views),
    "columns": (
        (
            *_PLACE,
            ("column_name", _TEXT),
            ("ordinal_position", _INT),
            ("column_default", _TEXT),
            ("is_nullable", _TEXT),
            ("data_type", _TEXT),
            ("numeric_precision", _INT),
            ("numeric_scale", _INT),
            ("datetime_precision", _INT),
            ("comment", _TEXT),
        ),
        _columns,
    ),
}
