"""Arrays of one type into arrays of another, at any depth.

Theory of operation. A plan is made once, from two types. It is a function from array to array, or None where both types
have the same layout in memory, so that only the type on top (names, field ids, nullability) has to change. That case
costs no copy: the array goes through the Arrow C data interface with another schema beside the same buffers.

Elsewhere a plan is a tree of closures that follows the target type. Lists come apart into offsets and values, whatever
kind of list they are and wherever a slice of them begins; values that no list refers to, or only a NULL one, are left
behind. Structs come apart into children that are NULL where the struct is, so that what a NULL struct hides neither
counts as a violation nor gets written; required children are then all valid again, since Parquet writers want it so.
The pieces are put together under validity bits of their own: a NULL list, map or struct stays NULL.

A value that does not fit is raised by the leaf with its index there, and each level above turns the index into its own,
so that it arrives at the top as a row number.

The same trees serve two ways of finding a struct's children: by name, for rows that come in (`NAMES`), and by field id,
for files written under an older schema (`relabel`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from icefusion.bridge.arrays import (
    list_offsets,
    map_entries,
    nulls_of,
    restamp,
    validity_of,
    without_validity,
    wrap_storage,
)
from icefusion.bridge.exact import Cast, MisfitError
from icefusion.bridge.scalars import decoder, scalar_cast
from icefusion.bridge.schema import is_list_like, join_path, type_name, type_to_arrow
from icefusion.errors import SchemaError

__all__ = ["Filler", "Matching", "Target", "default_filler", "plan_value", "relabel", "restamp"]

Filler = Callable[[int], pa.Array]


class Matching(Protocol):
    """How the children of a source struct are found, and what stands in for those that are missing."""

    checks_nulls: bool

    def match(
        self, source: Sequence[pa.Field], source_type: IcebergType | None, target: StructType, path: str
    ) -> list[int | None]:
        """For every field of the target the index of the source's child, or None where it has none."""

    def default(self, field: NestedField) -> Any:
        """The value of a missing field, or None for NULL."""


@dataclass(frozen=True)
class _Child:
    """One field of a target struct: where it comes from, and how."""

    index: int | None
    convert: Cast | None
    fill: Filler
    arrow: pa.DataType
    checked: bool
    path: str


@dataclass(frozen=True)
class Target:
    """What an array is to become.

    Attributes:
        type: The Iceberg type.
        arrow: Its canonical Arrow type, with the field ids that the result is to carry.
        path: The dotted path of the column, for messages.
    """

    type: IcebergType
    arrow: pa.DataType
    path: str

    def inner(self, iceberg_type: IcebergType, arrow: pa.DataType, name: str) -> Target:
        """A part of this one."""
        return Target(iceberg_type, arrow, join_path(self.path, name))


def plan_value(
    source: pa.DataType, target: Target, matching: Matching, source_type: IcebergType | None = None
) -> Cast | None:
    """How arrays of the type `source` become what `target` says.

    Args:
        source: The type that comes.
        target: What is wanted.
        matching: How struct children are matched.
        source_type: The Iceberg type of the source, where `matching` needs its field ids.

    Returns:
        The function, or None where `restamp` does it. The function raises `MisfitError`.

    Raises:
        SchemaError: No value of the source type could be exact in the target type.
    """
    types = pa.types
    arrow, wanted = target.arrow, target.type
    if types.is_null(source):
        return lambda array: nulls_of(len(array), arrow)
    if types.is_dictionary(source) and types.is_nested(source.value_type):
        return _plan_nested_dictionary(source, target, matching, source_type)
    decode, plain = decoder(source)
    if isinstance(wanted, StructType) and types.is_struct(plain):
        inner = _plan_struct(plain, target, wanted, matching, source_type)
    elif isinstance(wanted, ListType) and is_list_like(plain):
        inner = _plan_list(plain, target, wanted, matching, source_type)
    elif isinstance(wanted, MapType) and types.is_map(plain):
        inner = _plan_map(plain, target, wanted, matching, source_type)
    else:
        inner = scalar_cast(plain, wanted, arrow, target.path)
    if decode is None:
        return inner
    return lambda array: _finish(decode(array), inner, arrow)


def relabel(array: pa.Array, source: IcebergType, target: IcebergType, *, column: str = "value") -> pa.Array:
    """An array read under one schema in the shape of another, matched by field id at every depth.

    Renamed and reordered fields follow their ids; dropped ones are left out, added ones filled with their
    initial default or NULL; promoted ones are cast (int to long, float to double, wider decimals, date to timestamp).
    See "Schema Evolution" and "Column Projection" in the Iceberg specification.

    Args:
        array: In the Arrow shape of `source`, struct children under the names that `source` gives them.
        source: The type in the file's schema, with its field ids.
        target: The type in the schema that is read.
        column: The column's name, for messages.

    Returns:
        An array of the canonical Arrow type of `target`, field ids included; the same buffers where nothing changed.

    Raises:
        SchemaError: A change of type that is no promotion, or a value that does not survive it.
    """
    arrow, convert = _relabeling(array.type, source, target, column)
    try:
        return _finish(array, convert, arrow)
    except MisfitError as exc:
        raise SchemaError(
            f"column {exc.column}: value {exc.value} of the file, of type {exc.found}, {exc.reason} as {exc.expected}",
            column=exc.column,
            expected=exc.expected,
            found=exc.value,
        ) from None


def default_filler(field: NestedField, value: Any, arrow: pa.DataType, path: str) -> Filler:
    """What makes arrays of a missing field's default, or of NULL.

    Raises:
        SchemaError: The default is not one that the type can hold.
    """
    if value is None:
        return lambda length: nulls_of(length, arrow)
    if not field.field_type.is_primitive:
        raise SchemaError(
            f"column {path}: a default for type {type_name(field.field_type)} cannot be applied",
            column=path,
            hint="give the column a value of its own",
        )
    storage = arrow.storage_type if isinstance(arrow, pa.BaseExtensionType) else arrow
    raw = value.bytes if hasattr(value, "bytes") and not isinstance(value, bytes) else value
    try:
        scalar = pa.scalar(raw, type=storage)
    except (pa.ArrowException, ValueError, TypeError) as exc:
        raise SchemaError(f"column {path}: default {value!r} does not fit: {exc}", column=path) from exc
    return lambda length: wrap_storage(pa.repeat(scalar, length), arrow)


class _ByFieldId:
    """Children of a file's struct by the ids in its Iceberg type."""

    checks_nulls = False

    def match(
        self, source: Sequence[pa.Field], source_type: IcebergType | None, target: StructType, path: str
    ) -> list[int | None]:
        if not isinstance(source_type, StructType):
            raise SchemaError(
                f"column {path}: expected a struct in the file's schema, found {source_type}", column=path
            )
        places = {field.name: index for index, field in enumerate(source)}
        lost = [field.name for field in source_type.fields if field.name not in places]
        if lost:  # filling these with a default would invent values
            raise SchemaError(f"column {path}: the file's schema has {lost[0]}, the rows have not", column=path)
        indices = {field.field_id: places[field.name] for field in source_type.fields}
        return [indices.get(field.field_id) for field in target.fields]

    def default(self, field: NestedField) -> Any:
        return field.initial_default


_IDS = _ByFieldId()


@lru_cache(maxsize=256)
def _relabeling(
    arrow_source: pa.DataType, source: IcebergType, target: IcebergType, column: str
) -> tuple[pa.DataType, Cast | None]:
    arrow = type_to_arrow(target)
    return arrow, plan_value(arrow_source, Target(target, arrow, column), _IDS, source)


def _plan_nested_dictionary(
    source: pa.DataType, target: Target, matching: Matching, source_type: IcebergType | None
) -> Cast:
    """Entries first, then the rows: what is inside may be of types that pyarrow cannot `take`."""
    inner = plan_value(source.value_type, target, matching, source_type)

    def decode(array: pa.Array) -> pa.Array:
        try:
            entries = _finish(array.dictionary, inner, target.arrow)
        except MisfitError as exc:
            exc.index = max(0, pc.index(array.indices, pa.scalar(exc.index, array.indices.type)).as_py())
            raise
        return restamp(entries.take(array.indices), target.arrow)

    return decode


def _plan_struct(
    plain: pa.DataType, target: Target, struct: StructType, matching: Matching, source_type: IcebergType | None
) -> Cast | None:
    fields = [plain.field(i) for i in range(plain.num_fields)]
    indices = matching.match(fields, source_type, struct, target.path)
    inner_types = {f.name: f.field_type for f in source_type.fields} if isinstance(source_type, StructType) else {}
    children: list[_Child] = []
    for place, (index, field) in enumerate(zip(indices, struct.fields, strict=True)):
        inner = target.inner(field.field_type, target.arrow.field(place).type, field.name)
        convert = None
        if index is not None:
            convert = plan_value(fields[index].type, inner, matching, inner_types.get(fields[index].name))
        fill = default_filler(field, matching.default(field) if index is None else None, inner.arrow, inner.path)
        children.append(_Child(index, convert, fill, inner.arrow, field.required and matching.checks_nulls, inner.path))
    if indices == list(range(len(fields))) and not any(child.convert or child.checked for child in children):
        return None
    return lambda array: _convert_struct(array, children, target.arrow)


def _convert_struct(array: pa.Array, children: Sequence[_Child], arrow: pa.DataType) -> pa.Array:
    sources = array.flatten()
    converted = []
    for child in children:
        if child.index is None:
            result = child.fill(len(array))
        else:
            result = _finish(sources[child.index], child.convert, child.arrow)
            # A child is NULL wherever its parent is, so more NULLs than the parent has are the child's own.
            if child.checked and result.null_count > array.null_count:
                missing = pc.and_(result.is_null(), array.is_valid())
                raise _null_misfit(pc.index(missing, pa.scalar(True)).as_py(), child.path)
            if child.checked:
                result = without_validity(result)
        converted.append(result)
    return pa.Array.from_buffers(arrow, len(array), [validity_of(array)], children=converted)


def _plan_list(
    plain: pa.DataType, target: Target, wanted: ListType, matching: Matching, source_type: IcebergType | None
) -> Cast | None:
    arrow = target.arrow
    element = target.inner(wanted.element_type, arrow.value_type, "element")
    element_source = source_type.element_type if isinstance(source_type, ListType) else None
    convert = plan_value(plain.value_type, element, matching, element_source)
    checked = wanted.element_required and matching.checks_nulls
    if convert is None and not checked and pa.types.is_list(plain):
        return None

    def convert_list(array: pa.Array) -> pa.Array:
        offsets = list_offsets(array, target.path)
        try:
            values = _finish(array.flatten(), convert, element.arrow)
            if checked:
                _refuse_nulls(values, element.path)
        except MisfitError as exc:
            exc.index = _parent_index(offsets, exc.index)
            raise
        buffers = [validity_of(array), pa.py_buffer(offsets)]
        return pa.Array.from_buffers(arrow, len(array), buffers, children=[values])

    return convert_list


def _plan_map(
    plain: pa.DataType, target: Target, wanted: MapType, matching: Matching, source_type: IcebergType | None
) -> Cast | None:
    arrow = target.arrow
    sources = (source_type.key_type, source_type.value_type) if isinstance(source_type, MapType) else (None, None)
    key = target.inner(wanted.key_type, arrow.key_type, "key")
    value = target.inner(wanted.value_type, arrow.item_type, "value")
    convert_key = plan_value(plain.key_type, key, matching, sources[0])
    convert_value = plan_value(plain.item_type, value, matching, sources[1])
    checked = wanted.value_required and matching.checks_nulls
    if convert_key is None and convert_value is None and not checked:
        return None

    def convert_map(array: pa.Array) -> pa.Array:
        entries = map_entries(array)
        offsets = list_offsets(entries, target.path)
        keys, values = entries.flatten().flatten()
        try:
            keys = _finish(keys, convert_key, key.arrow)
            _refuse_nulls(keys, key.path)
            values = _finish(values, convert_value, value.arrow)
            if checked:
                _refuse_nulls(values, value.path)
        except MisfitError as exc:
            exc.index = _parent_index(offsets, exc.index)
            raise
        pairs = pa.Array.from_buffers(arrow.field(0).type, len(keys), [None], children=[keys, values])
        buffers = [validity_of(array), pa.py_buffer(offsets)]
        return pa.Array.from_buffers(arrow, len(array), buffers, children=[pairs])

    return convert_map


def _parent_index(offsets: npt.NDArray[np.int32], index: int) -> int:
    return int(np.searchsorted(offsets, index, side="right")) - 1


def _finish(array: pa.Array, convert: Cast | None, arrow: pa.DataType) -> pa.Array:
    return restamp(array, arrow) if convert is None else convert(array)


def _refuse_nulls(array: pa.Array, path: str) -> None:
    if array.null_count:
        raise _null_misfit(pc.index(array.is_null(), pa.scalar(True)).as_py(), path)


def _null_misfit(index: int, path: str) -> MisfitError:
    misfit = MisfitError(index, "NULL", "is not allowed", column=path)
    misfit.expected, misfit.found = "NOT NULL", "NULL"
    return misfit
