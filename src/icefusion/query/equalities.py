"""Which columns a condition says are equal: of a MERGE's ON, what the keys in its source say of its target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from icefusion.naming import find_name, normalize
from icefusion.sql.lexer import Kind, Token, read_identifier, tokenize
from icefusion.sql.statements import Fragment, Identifier

__all__ = ["equalities", "own_column"]


def equalities(on: Fragment) -> Iterator[tuple[list[Identifier], list[Identifier]]]:
    """The conditions of the form ``a.b = c.d`` that must all be true."""
    tokens = tokenize(on.text)[:-1]
    depth = 0
    parts: list[list[int]] = [[]]
    for index, token in enumerate(tokens):
        depth += (token.key in ("(", "[")) - (token.key in (")", "]"))
        if depth == 0 and token.key in ("OR", "BETWEEN", "CASE"):
            return
        if depth == 0 and token.key == "AND":
            parts.append([])
        else:
            parts[-1].append(index)
    if len(parts) == 1 and len(tokens) > 2 and tokens[0].key == "(" and tokens[-1].key == ")" and _encloses(tokens):
        yield from equalities(Fragment(on.text[tokens[0].end : tokens[-1].start]))
        return
    for part in parts:
        equals = [index for index in part if tokens[index].key == "="]
        if len(equals) != 1:
            continue
        left = _path([tokens[index] for index in part if index < equals[0]])
        right = _path([tokens[index] for index in part if index > equals[0]])
        if left and right:
            yield left, right


def _encloses(tokens: Sequence[Token]) -> bool:
    """Whether the first parenthesis is closed by the last token."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.key == "(") - (token.key == ")")
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _path(tokens: Sequence[Token]) -> list[Identifier]:
    """A dotted name; empty for anything else."""
    names, points = tokens[::2], tokens[1::2]
    if len(names) != len(points) + 1 or any(point.key != "." for point in points):
        return []
    if any(name.kind not in (Kind.WORD, Kind.QUOTED) for name in names):
        return []
    return [read_identifier(name) for name in names]


def own_column(path: Sequence[Identifier], alias: str, columns: Sequence[str], *, others: Sequence[str]) -> str | None:
    """The column that a dotted name stands for; None where it is none of these, or could be another table's."""
    if len(path) == 2 and normalize(path[0]) == alias:
        return find_name(path[1], columns)
    if len(path) == 1 and find_name(path[0], others) is None:
        return find_name(path[0], columns)
    return None
