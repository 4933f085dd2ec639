"""The metadata of a view that a catalog keeps, by the Iceberg view specification: versions, dialects, updates.

A view has versions, and a version has the text of its query once for each dialect of SQL. What its columns are called
is said by the version's schema, by position: the text alone may call them otherwise.

A query that is written is of one dialect: Spark's where it means the same to both (`icefusion.sql.dialects`), otherwise
DataFusion's. Two representations of one text would gain nothing, and as a replaced view has to keep its dialects, the
second one would keep Spark from replacing what it can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
)
from pyiceberg.view.metadata import SQLViewRepresentation, ViewMetadata, ViewRepresentation, ViewVersion

from icefusion.bridge.schema import arrow_to_iceberg, type_name
from icefusion.errors import ConfigurationError, SchemaError

__all__ = [
    "COMMENT",
    "DATAFUSION",
    "DROP_DIALECT",
    "MARK",
    "NAMED_COLUMNS",
    "OWN_PROPERTIES",
    "SPARK",
    "ViewDraft",
    "check_view_properties",
    "column_fits",
    "current_schema",
    "current_version",
    "dialects_of",
    "has_mark",
    "is_made_here",
    "lost_dialects",
    "readable_text",
    "replacing_updates",
    "view_version",
]

DATAFUSION = "datafusion"
SPARK = "spark"
# Ours first, then those that are nearest to it.
_READ_DIALECTS = (DATAFUSION, SPARK, "trino", "presto", "duckdb", "postgresql", "postgres", "ansi")

COMMENT = "comment"
MARK = "icefusion.statement-id"
"""What tells which statement made a version: an entry of its summary, and for the first version a property of the view.

Servers on Iceberg's Java library write a summary of their own for the first one.
"""
NAMED_COLUMNS = "icefusion.named-columns"
"""The property that says that a statement of icefusion has named the columns."""
OWN_PROPERTIES = frozenset([MARK, NAMED_COLUMNS, "engine_version", "create_engine_version", "spark.query-column-names"])
"""Properties that engines keep for themselves."""
DROP_DIALECT = "replace.drop-dialect.allowed"
_FIRST_VERSION = 1
_HISTORY = "version.history.num-entries"


@dataclass(frozen=True)
class ViewDraft:
    """What a view is to become.

    Attributes:
        text: The query as it was written.
        dialect: The dialect that it counts as.
        schema: Its columns, by position.
        default_catalog: Where names without a catalog are looked up; None for the view's own catalog.
        named_columns: Whether its columns were given names of their own.
    """

    text: str
    dialect: str
    schema: Schema
    default_catalog: str | None = None
    named_columns: bool = False


def view_version(
    draft: ViewDraft, *, version_id: int, schema_id: int, timestamp_ms: int, mark: str, engine_version: str
) -> ViewVersion:
    """A version as a catalog is told of it.

    Args:
        draft: What the view is to become.
        version_id: Its number; the catalog may give it another one.
        schema_id: The schema; -1 for the one that was added last.
        timestamp_ms: When it is made.
        mark: Tells the statement that makes it.
        engine_version: The version of this library.
    """
    summary = {"engine-name": "icefusion", "engine-version": engine_version, MARK: mark}
    representation = SQLViewRepresentation(type="sql", sql=draft.text, dialect=draft.dialect)
    return ViewVersion(
        version_id=version_id,
        schema_id=schema_id,
        timestamp_ms=timestamp_ms,
        summary=summary,
        representations=[ViewRepresentation(representation)],
        default_catalog=draft.default_catalog,
        # Every name in the text has a namespace.
        default_namespace=(),
    )


def replacing_updates(metadata: ViewMetadata, version: ViewVersion, schema: Schema) -> list[dict[str, Any]]:
    """The updates that make a version the current one of a view, as a REST catalog gets them."""
    updates: list[dict[str, Any]] = []
    known = next((each.schema_id for each in metadata.schemas if each.fields == schema.fields), None)
    if known is not None:  # Iceberg's Java library does not count a schema as added that is there already
        version = version.model_copy(update={"schema_id": known})
    else:
        schema_id = max((each.schema_id for each in metadata.schemas), default=-1) + 1
        added = schema.model_copy(update={"schema_id": schema_id})
        updates.append(
            {
                "action": "add-schema",
                "schema": added.model_dump(mode="json", by_alias=True, exclude_none=True),
                "last-column-id": schema.highest_field_id,
            }
        )
    return [
        *updates,
        {
            "action": "add-view-version",
            "view-version": version.model_dump(mode="json", by_alias=True, exclude_none=True),
        },
        {"action": "set-current-view-version", "view-version-id": -1},
    ]


def current_version(metadata: ViewMetadata) -> ViewVersion | None:
    """The version that counts; None where the metadata name one that is not there."""
    found = [version for version in metadata.versions if version.version_id == metadata.current_version_id]
    return found[0] if found else None


def current_schema(metadata: ViewMetadata) -> Schema | None:
    """The columns of the version that counts; None where the metadata name a schema that is not there."""
    version = current_version(metadata)
    found = [schema for schema in metadata.schemas if version is not None and schema.schema_id == version.schema_id]
    return found[0] if found else None


def dialects_of(metadata: ViewMetadata) -> tuple[str, ...]:
    """The dialects in which the version that counts says its query."""
    version = current_version(metadata)
    return () if version is None else tuple(each.root.dialect for each in version.representations)


def readable_text(metadata: ViewMetadata) -> tuple[str, str] | None:
    """The text of the query that can be read best, and its dialect; None where there is none that can."""
    version = current_version(metadata)
    texts = {each.root.dialect.lower(): each.root.sql for each in version.representations} if version else {}
    return next(((texts[dialect], dialect) for dialect in _READ_DIALECTS if dialect in texts), None)


def has_mark(metadata: ViewMetadata, mark: str) -> bool:
    """Whether a statement has made one of the versions that are kept."""
    marks = {metadata.properties.get(MARK), *(version.summary.get(MARK) for version in metadata.versions)}
    return mark in marks


def is_made_here(metadata: ViewMetadata) -> bool:
    """Whether icefusion has made the version that counts."""
    version = current_version(metadata)
    is_first = metadata.current_version_id == _FIRST_VERSION and MARK in metadata.properties
    return is_first or (version is not None and MARK in version.summary)


def lost_dialects(metadata: ViewMetadata, draft: ViewDraft, properties: Mapping[str, str]) -> tuple[str, ...]:
    """The dialects that a view would lose by being replaced; none where its properties allow that.

    View specification: ``replace.drop-dialect.allowed``, by default false.

    Args:
        metadata: The view.
        draft: What it is to become.
        properties: Its properties from then on.
    """
    if properties.get(DROP_DIALECT, "false").lower() == "true":
        return ()
    return tuple(dialect for dialect in dialects_of(metadata) if dialect.lower() != draft.dialect)


def check_view_properties(properties: Iterable[tuple[str, str]]) -> None:
    """Refuse values that make no sense.

    Raises:
        ConfigurationError: One of them does not.
    """
    for key, value in properties:
        if key == _HISTORY and not (value.isdecimal() and int(value) > 0):
            raise ConfigurationError(f"{key}: expected a number of versions from 1 on, found {value!r}")
        if key == DROP_DIALECT and value.lower() not in ("true", "false"):
            raise ConfigurationError(f"{key}: expected true or false, found {value!r}")


def column_fits(found: pa.Field, wanted: IcebergType) -> tuple[bool, str | None]:
    """Whether a column of a view's query can be what the catalog says of it, and the type to cast it to for that.

    Numbers with a fraction may come as other such numbers: dialects differ in what a literal is. That a whole number
    comes where one with a fraction is expected, or a time without a zone for one with, shows that the text means
    something else in its own dialect.

    Args:
        found: The column as the query gives it.
        wanted: Its type by the catalog.
    """
    try:
        kind = arrow_to_iceberg(pa.schema([found.with_name("column")])).fields[0].field_type
    except SchemaError:
        return True, None  # no table could hold it, so nothing can be said of it
    if kind == wanted or (_group(kind) == _group(wanted) and not isinstance(wanted, _FRACTIONS)):
        return True, None
    if isinstance(kind, _FRACTIONS) and isinstance(wanted, _FRACTIONS):
        widens = isinstance(kind, DecimalType) and isinstance(wanted, DecimalType)
        return True, None if widens else type_name(wanted)
    return False, None


_FRACTIONS = (FloatType, DoubleType, DecimalType)
_GROUPS: Sequence[tuple[type[IcebergType], ...]] = (
    (IntegerType, LongType),
    (TimestampType, TimestampNanoType),
    (TimestamptzType, TimestamptzNanoType),
)


def _group(kind: IcebergType) -> object:
    """Equal for types whose values are shown alike."""
    return next((group for group in _GROUPS if isinstance(kind, group)), type(kind))
