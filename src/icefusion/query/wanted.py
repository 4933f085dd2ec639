"""What a query wants of each table: read off the optimized plan of a draft over empty tables.

The optimizer has by then pushed every condition as far down as it goes, through joins, unions and subqueries, turned
literals into the columns' types and computed constants. What is left beside a scan is true for each row that can still
matter. Scans that the walk below cannot reach would make that wrong (a subquery inside an expression reads the same
table under other conditions), so scans are counted in the plan's text as well, and where the numbers differ nothing is
pruned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datafusion import DataFrame
from datafusion.plan import LogicalPlan
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, Or
from pyiceberg.schema import Schema

from icefusion.bridge.expression import conjunction

__all__ = ["Wanted", "find_wanted"]

TableKey = tuple[str, str, str]

_SUBQUERIES = ("ScalarSubquery", "InSubquery", "Exists")
_EXPRESSIONS = ("projections", "predicate", "filters", "filter", "group_by_exprs", "aggregate_exprs", "sort_exprs")


@dataclass(frozen=True)
class Wanted:
    """What one table is asked for.

    Attributes:
        row_filter: True for every row that matters to the query.
        field_ids: The top-level columns it looks at; None where that is not known.
    """

    row_filter: BooleanExpression
    field_ids: frozenset[int] | None


EVERYTHING = Wanted(AlwaysTrue(), None)


def find_wanted(draft: DataFrame, schemas: Mapping[TableKey, Schema]) -> dict[TableKey, Wanted]:
    """What the query wants of each table; of a table referred to more than once, what any of the references wants.

    Args:
        draft: The query over empty tables that take filters.
        schemas: The tables, by catalog, schema and name.
    """
    plan = draft.optimized_logical_plan()
    scans = list(_scans(plan))
    if len(scans) != plan.display_indent().count("TableScan: "):
        return dict.fromkeys(schemas, EVERYTHING)
    wanted: dict[TableKey, Wanted] = {}
    for scan in scans:
        key = _key_of(scan, schemas)
        if key is None:
            continue
        found = Wanted(conjunction(scan.filters(), schemas[key]), _field_ids(scan, schemas[key]))
        wanted[key] = _either(wanted[key], found) if key in wanted else found
    return {key: wanted.get(key, EVERYTHING) for key in schemas}


def _either(one: Wanted, other: Wanted) -> Wanted:
    ids = None if one.field_ids is None or other.field_ids is None else one.field_ids | other.field_ids
    return Wanted(Or(one.row_filter, other.row_filter), ids)


def _key_of(scan: Any, schemas: Mapping[TableKey, Schema]) -> TableKey | None:
    catalog, schema, table = scan.fqn()
    for key in schemas:
        if table == key[2] and schema in (None, key[1]) and catalog in (None, key[0]):
            unqualified = schema is None and not key[1].startswith("?")
            if not unqualified:
                return key
    return None


def _field_ids(scan: Any, schema: Schema) -> frozenset[int]:
    names = {name for _, name in scan.projection()}
    return frozenset(field.field_id for field in schema.fields if field.name in names)


def _scans(plan: LogicalPlan) -> Iterator[Any]:
    node = plan.to_variant()
    if type(node).__name__ == "TableScan":
        yield node
    for subquery in _subqueries(node):
        yield from _scans(subquery)
    for child in plan.inputs():
        yield from _scans(child)


def _subqueries(node: Any) -> Iterator[LogicalPlan]:
    """The plans inside a node's expressions, as far as they can be seen from Python."""
    for method in _EXPRESSIONS:
        try:
            found = getattr(node, method)()
        except Exception:  # noqa: BLE001 - not every node has every part; the count of scans tells when one was missed
            continue
        for expr in found if isinstance(found, list | tuple) else [found]:
            yield from _inside(expr)


def _inside(expr: Any) -> Iterator[LogicalPlan]:
    try:
        kind = expr.variant_name()
        if kind in _SUBQUERIES:
            yield LogicalPlan(expr.to_variant().subquery().input()[0])
            return
        children = [expr.to_variant().expr()] if kind == "Alias" else list(expr.rex_call_operands())
    except Exception:  # noqa: BLE001 - likewise
        return
    if kind in ("Column", "Literal"):
        return
    for child in children:
        yield from _inside(child)
