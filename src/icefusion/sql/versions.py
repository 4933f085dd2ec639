"""Versions that a statement has still to compute, put in the place of their expressions before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from icefusion.sql.statements import ChangesBetween, ComputedAsOf, Fragment, Statement, Version, fragments_of

__all__ = ["has_computed_versions", "with_versions"]

_S = TypeVar("_S", bound=Statement)


def has_computed_versions(statement: Statement) -> bool:
    """Whether a table of the statement is read at a version that is an expression or a parameter."""
    versions = [table.version for fragment in fragments_of(statement) for table in fragment.tables]
    ends = [end for version in versions if isinstance(version, ChangesBetween) for end in (version.begin, version.end)]
    return any(isinstance(version, ComputedAsOf) for version in (*versions, *ends))


def with_versions(statement: _S, compute: Callable[[ComputedAsOf], Version | None]) -> _S:
    """The statement with each version computed; equal ones once, so that all of them see one moment."""
    computed: dict[ComputedAsOf, Version | None] = {}

    def settle(value: Any) -> Any:
        if isinstance(value, ComputedAsOf):
            if value not in computed:
                computed[value] = compute(value)
            return computed[value]
        if isinstance(value, tuple):
            settled = tuple(map(settle, value))
            return settled if any(new is not old for new, old in zip(settled, value, strict=True)) else value
        if not is_dataclass(value) or (isinstance(value, Fragment) and not value.tables):
            return value
        changes = {}
        for field in fields(value):
            old = getattr(value, field.name)
            if (new := settle(old)) is not old:
                changes[field.name] = new
        return replace(value, **changes) if changes else value  # type: ignore[type-var]

    result: _S = settle(statement)
    return result
