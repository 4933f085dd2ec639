"""What a query wants of each table: read off the optimized plan of a draft over empty tables.

The optimizer has by then pushed every condition as far down as it goes, through joins, unions and subqueries, turned
literals into the columns' types and computed constants. What is left beside a scan is true for each row that can still
matter. Subqueries inside expressions cannot be reached from Python, and one of them may read the same table under
other conditions; but they show in the plan's text. A table that is scanned there more often than the walk below
found is not pruned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datafusion import DataFrame, Expr
from datafusion.plan import LogicalPlan
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, Or
from pyiceberg.schema import Schema

from icefusion.bridge.expression import complement, conjunction
from icefusion.query.filelist import DEFAULT_CATALOG, DEFAULT_SCHEMA

__all__ = ["Wanted", "find_complement", "find_conditions", "find_wanted"]

TableKey = tuple[str, str, str]

_SCAN_LINE = "TableScan: "


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
    hidden = _hidden_scans(plan, scans)
    wanted: dict[TableKey, Wanted] = {}
    for scan in scans:
        key = _key_of(scan)
        if key in schemas:
            found = Wanted(conjunction(scan.filters(), schemas[key]), _field_ids(scan, schemas[key]))
            wanted[key] = _either(wanted[key], found) if key in wanted else found
        if hidden is None or _display_name(scan) in hidden:
            wanted[key] = EVERYTHING
    return {key: wanted.get(key, EVERYTHING) for key in schemas}


def find_conditions(draft: DataFrame) -> dict[TableKey, tuple[tuple[Expr, ...], ...]]:
    """The conditions on the rows of each table, for each reference to it, where all of them are known.

    Those that the optimizer has handed to a scan are among them, and those that it has left above it, as they call for
    chance or for a subquery.

    Args:
        draft: The query over empty tables.
    """
    plan = draft.optimized_logical_plan()
    found: dict[TableKey, tuple[tuple[Expr, ...], ...]] = {}
    pairs = list(_filtered_scans(plan, ()))
    hidden = _hidden_scans(plan, [scan for scan, _ in pairs])
    for scan, above in pairs:
        if hidden is not None and _display_name(scan) not in hidden:
            conditions = {str(expr.canonical_name()): expr for expr in [*scan.filters(), *above]}
            found[_key_of(scan)] = (*found.get(_key_of(scan), ()), tuple(conditions.values()))
    return found


def find_complement(draft: DataFrame, schema: Schema) -> BooleanExpression | None:
    """What is true of each row that is not in the answer; None where the query is more than one scan and its filters.

    Args:
        draft: The query over an empty table that takes filters.
        schema: The table.
    """
    filters: list[Any] = []
    plan = draft.optimized_logical_plan()
    if _hidden_scans(plan, list(_scans(plan))) != set():
        return None
    while True:
        node = plan.to_variant()
        kind = type(node).__name__
        if kind == "EmptyRelation":
            return None
        if kind == "TableScan":
            return complement([*filters, *node.filters()], schema) if node.fetch() is None else None
        if kind == "Filter":
            filters.append(node.predicate())
        elif kind not in ("Projection", "SubqueryAlias"):
            return None
        (plan,) = plan.inputs()


def _hidden_scans(plan: LogicalPlan, scans: list[Any]) -> set[str] | None:
    """The tables with scans that the walk did not find, as the plan's text names them; None where that is unclear."""
    lines = [line.strip() for line in plan.display_indent().splitlines()]
    named = [line.removeprefix(_SCAN_LINE) for line in lines if line.startswith(_SCAN_LINE)]
    for scan in scans:
        name = _display_name(scan)
        line = next((line for line in named if line == name or line.startswith(name + " projection=")), None)
        if line is None:
            return None
        named.remove(line)
    return {line.partition(" projection=")[0] for line in named}


def _display_name(scan: Any) -> str:
    return ".".join(part for part in scan.fqn() if part is not None)


def _key_of(scan: Any) -> TableKey:
    catalog, schema, table = scan.fqn()
    return catalog or DEFAULT_CATALOG, schema or DEFAULT_SCHEMA, table


def _either(one: Wanted, other: Wanted) -> Wanted:
    ids = None if one.field_ids is None or other.field_ids is None else one.field_ids | other.field_ids
    return Wanted(Or(one.row_filter, other.row_filter), ids)


def _field_ids(scan: Any, schema: Schema) -> frozenset[int]:
    names = {name for _, name in scan.projection()}
    return frozenset(field.field_id for field in schema.fields if field.name in names)


def _filtered_scans(plan: LogicalPlan, above: tuple[Expr, ...]) -> Iterator[tuple[Any, tuple[Expr, ...]]]:
    """Each scan with the conditions that stand above it and nothing else."""
    node = plan.to_variant()
    kind = type(node).__name__
    if kind == "TableScan":
        yield node, above
    elif kind == "Filter":
        above = (*above, *_conjuncts(node.predicate()))
    elif kind not in ("Projection", "SubqueryAlias"):
        above = ()
    for child in plan.inputs():
        yield from _filtered_scans(child, above)


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if expr.variant_name() == "BinaryExpr" and expr.rex_call_operator() == "AND":
        for part in expr.rex_call_operands():
            yield from _conjuncts(part)
    else:
        yield expr


def _scans(plan: LogicalPlan) -> Iterator[Any]:
    node = plan.to_variant()
    if type(node).__name__ == "TableScan":
        yield node
    for child in plan.inputs():
        yield from _scans(child)
