"""How a name says that it means a metadata table of a table, or a table of the information schema.

Spark writes ``ns.t.snapshots``, Trino ``ns."t$snapshots"``. A table of such a name comes first, so whoever looks names
up asks the catalog before.
"""

from __future__ import annotations

from dataclasses import dataclass

from icefusion.naming import nearest
from icefusion.sql.statements import Identifier, Name

__all__ = [
    "INFORMATION_SCHEMA",
    "INFORMATION_TABLES",
    "METADATA_TABLES",
    "MetadataName",
    "information_kind",
    "nearest_metadata_table",
    "split_metadata_name",
]

METADATA_TABLES = (
    "all_data_files",
    "all_delete_files",
    "all_entries",
    "all_files",
    "all_manifests",
    "data_files",
    "delete_files",
    "entries",
    "files",
    "history",
    "manifests",
    "metadata_log_entries",
    "partitions",
    "properties",
    "refs",
    "schemas",
    "snapshots",
)


INFORMATION_SCHEMA = "information_schema"
INFORMATION_TABLES = ("columns", "key_column_usage", "schemata", "table_constraints", "tables", "views")


@dataclass(frozen=True)
class MetadataName:
    """What a name would mean as that of a metadata table.

    Attributes:
        table: The table that is told of.
        kind: What is told of it, in lower case; there need not be such a kind.
    """

    table: Name
    kind: str

    @property
    def is_known(self) -> bool:
        """Whether there are metadata tables of this kind."""
        return self.kind in METADATA_TABLES


def split_metadata_name(name: Name) -> MetadataName | None:
    """What a name would mean as that of a metadata table; None where it cannot be one."""
    *front, last = name.parts
    base, sign, kind = last.text.rpartition("$")
    if sign and base and kind and front:
        return MetadataName(Name((*front, Identifier(base, last.quoted)), name.offset), kind.lower())
    if len(front) > 1 and not (last.quoted and last.text != last.text.lower()):
        return MetadataName(Name(tuple(front), name.offset), last.text.lower())
    return None


def nearest_metadata_table(kind: str) -> str | None:
    """The kind that one is most likely a misspelling of."""
    return nearest(kind, METADATA_TABLES)


def information_kind(name: Name) -> str | None:
    """What of the information schema a name means, in lower case; there need not be such a table. None for others."""
    if len(name.parts) not in (2, 3) or name.parts[-2].text.lower() != INFORMATION_SCHEMA:
        return None
    return name.parts[-1].text.lower()
