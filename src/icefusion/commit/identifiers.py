"""Identifiers of tables and namespaces that know which of a session's catalogs they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, overload

__all__ = ["AttachedIdentifier", "match_namespace"]


class AttachedIdentifier(tuple[str, ...]):
    """Namespace parts and table name in a catalog that was attached under a name.

    In the session's own catalog an identifier is a plain tuple, as PyIceberg has it. One of an attached catalog is such
    a tuple too, so whatever takes the one takes the other, but equals no identifier of another catalog.

    Attributes:
        catalog: The name under which its catalog was attached.
    """

    catalog: str

    def __new__(cls, catalog: str, parts: Iterable[str]) -> AttachedIdentifier:
        """Mark an identifier."""
        made = super().__new__(cls, parts)
        made.catalog = catalog
        return made

    def __getnewargs__(self) -> tuple[str, tuple[str, ...]]:
        return self.catalog, tuple(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AttachedIdentifier) and other.catalog == self.catalog and tuple(self) == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.catalog, tuple(self)))

    @overload
    def __getitem__(self, key: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[str, ...]: ...
    def __getitem__(self, key: Any) -> Any:
        """A part, or the beginning as the namespace that it is in the same catalog."""
        found = super().__getitem__(key)
        return AttachedIdentifier(self.catalog, found) if isinstance(key, slice) else found


def match_namespace(
    namespace: tuple[str, ...], children: Callable[[tuple[str, ...]], Iterable[tuple[str, ...]]]
) -> tuple[str, ...] | None:
    """The namespace that is there, as it is spelled there; None where there is none.

    Args:
        namespace: What is looked for, in any case.
        children: Lists what is below a namespace, or below the root; it may list all levels at once.
    """
    wanted = tuple(level.casefold() for level in namespace)
    current: tuple[str, ...] = ()
    for depth in range(len(namespace)):
        listed = list(children(current))
        exact = [child for child in listed if child[: depth + 1] == tuple(namespace[: depth + 1])]
        loose = [c for c in listed if tuple(x.casefold() for x in c[: depth + 1]) == wanted[: depth + 1]]
        match = exact or loose
        if not match:
            return None
        current = match[0][: depth + 1]
    return current
