"""Which delete files apply to which data files: the rules of the section "Scan Planning" of the Iceberg specification.

* A deletion vector applies to the one data file it references, if that is not younger. Where there is one, it holds
  all that position delete files said of the file before, so these are left out.
* A position delete file that is about one data file applies to that one, any other to the data files of its partition;
  in both cases if they are not younger. A row can be written and deleted in one commit.
* An equality delete file applies to the data files of its partition, or to all of them if it was written under an
  unpartitioned spec, and only if they are older: rows that its own commit adds are not meant.

How old a file is, its data sequence number tells. A partition is a spec and the values of its fields.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import VoidTransform
from pyiceberg.typedef import Record

from icefusion.bridge.entries import referenced_data_file
from icefusion.bridge.listed import LiveEntry
from icefusion.bridge.locations import unreadable

__all__ = [
    "PATH_FIELD_ID",
    "POSITION_FIELD_ID",
    "DeleteIndex",
    "PartitionKey",
    "is_unpartitioned",
    "partition_key",
    "path_of_deletes",
]

PATH_FIELD_ID = 2147483546
POSITION_FIELD_ID = 2147483545

PartitionKey = tuple[int, tuple[Hashable, ...]]

# Bounds as short as this may be cut-off texts, whatever equals whatever.
_CUT_OFF_LENGTH = 16


class DeleteIndex:
    """Delete files, found by the data files they apply to.

    Args:
        entries: The delete files; entries that are none are passed over.
        specs: The partition specs of the table.

    Raises:
        StorageError: What a manifest says of a delete file makes no sense.
    """

    def __init__(self, entries: Iterable[LiveEntry], specs: Mapping[int, PartitionSpec]) -> None:
        self._vectors: dict[str, list[LiveEntry]] = {}
        self._of_path: dict[str, list[LiveEntry]] = {}
        self._of_partition: dict[PartitionKey, list[LiveEntry]] = {}
        self._equality: dict[PartitionKey, list[LiveEntry]] = {}
        self._equality_everywhere: list[LiveEntry] = []
        for entry in entries:
            file = entry.file
            if file.content == DataFileContent.POSITION_DELETES:
                self._add_positions(entry)
            elif file.content == DataFileContent.EQUALITY_DELETES:
                if is_unpartitioned(specs.get(file.spec_id)):
                    self._equality_everywhere.append(entry)
                else:
                    self._equality.setdefault(partition_key(file), []).append(entry)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._vectors or self._of_path or self._of_partition or self._equality or self._equality_everywhere)

    def applying_to(self, entry: LiveEntry) -> tuple[LiveEntry, ...]:
        """The delete files that apply to a data file."""
        file, age = entry
        key = partition_key(file) if self._of_partition or self._equality else None
        found = [vector for vector in self._vectors.get(file.file_path, ()) if vector.sequence_number >= age]
        if not found:
            found = [other for other in self._of_path.get(file.file_path, ()) if other.sequence_number >= age]
            if key is not None:
                found += [
                    other
                    for other in self._of_partition.get(key, ())
                    if other.sequence_number >= age and _may_be_about(other.file, file.file_path)
                ]
        if key is not None:
            found += [other for other in self._equality.get(key, ()) if other.sequence_number > age]
        found += [other for other in self._equality_everywhere if other.sequence_number > age]
        return tuple(found)

    def _add_positions(self, entry: LiveEntry) -> None:
        file = entry.file
        path = path_of_deletes(file)
        if path is None:
            self._of_partition.setdefault(partition_key(file), []).append(entry)
        elif file.file_format == FileFormat.PUFFIN:
            self._vectors.setdefault(path, []).append(entry)
        else:
            self._of_path.setdefault(path, []).append(entry)


def partition_key(file: DataFile) -> PartitionKey:
    """The spec and the partition of a file, as a value that equals that of other files of the partition."""
    return file.spec_id or 0, partition_values(file.partition)


def partition_values(partition: Record) -> tuple[Hashable, ...]:
    """The values of a partition. Floats by their bits, as Iceberg compares them: NaN equals NaN, 0.0 is not -0.0."""
    values = (partition[index] for index in range(len(partition)))
    return tuple(_float_key(value) if isinstance(value, float) else value for value in values)


def is_unpartitioned(spec: PartitionSpec | None) -> bool:
    """Whether a spec divides nothing: it has no fields, or only such as were dropped under format version 1."""
    return spec is not None and all(isinstance(field.transform, VoidTransform) for field in spec.fields)


def _float_key(value: float) -> str:
    return "NaN" if math.isnan(value) else value.hex()


def path_of_deletes(file: DataFile) -> str | None:
    """The one data file that a position delete file or a deletion vector is about; None where that is not certain.

    Raises:
        StorageError: What the manifest says of it makes no sense.
    """
    return referenced_data_file(file) or _only_path(file)


def _only_path(file: DataFile) -> str | None:
    """The one data file that all rows of a position delete file are about, where its bounds show that."""
    lower, upper = _path_bounds(file)
    if lower is None or lower != upper or len(lower) <= _CUT_OFF_LENGTH:
        return None
    try:
        return lower.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise unreadable("the manifest entry of", file.file_path, exc) from exc


def _may_be_about(file: DataFile, path: str) -> bool:
    """Whether a position delete file may have rows about a data file. A bound may be cut off, the upper one too."""
    lower, upper = _path_bounds(file)
    encoded = path.encode("utf-8")
    if lower is not None and encoded < lower:
        return False
    return upper is None or encoded <= upper or encoded.startswith(upper)


def _path_bounds(file: DataFile) -> tuple[bytes | None, bytes | None]:
    return (file.lower_bounds or {}).get(PATH_FIELD_ID), (file.upper_bounds or {}).get(PATH_FIELD_ID)
