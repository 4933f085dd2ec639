"""Statements that change rows -> SELECTs that say which rows, and what becomes of them.

Each change is asked as one or several questions of one shape, a `RowQuery`. Its result has, as far as they apply, the
row's number in the source of a MERGE, the identity of the row in the target (its file and position), the number of the
clause that takes it, and then the values of new rows. A `Branch` says for each clause what is done and where its values
stand.

Two things are settled here once for all changes. A SET list becomes one expression for every column, the column itself
where nothing is assigned; so an updated row is a whole new row, or the part of one that somebody wants. And values of
different clauses never meet in one expression: a CASE over them would have to agree on a type, and a decimal that meets
a float would lose digits. Each clause has columns of its own, NULL for rows that other clauses take."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StructType

from icefusion.errors import BindError, UnsupportedStatementError
from icefusion.naming import find_name, nearest, normalize, quote_identifier
from icefusion.query.equalities import equalities, own_column
from icefusion.query.names import exact_column
from icefusion.query.scan import FILE_COLUMN, POSITION_COLUMN
from icefusion.sql.compose import Piece, compose, table_piece, unqualified
from icefusion.sql.lexer import Kind, read_identifier, tokenize
from icefusion.sql.statements import (
    Assignment,
    Delete,
    DeleteRow,
    Fragment,
    Identifier,
    InsertRow,
    KeepRow,
    Merge,
    MergeClause,
    Name,
    Query,
    SetRow,
    Update,
)
from icefusion.sql.volatile import is_volatile

__all__ = ["CLAUSE_COLUMN", "SOURCE", "SOURCE_ROW_COLUMN", "TARGET", "Branch", "RowQueries", "RowQuery"]

TARGET = "?target?"
SOURCE = "?source?"
SOURCE_ROW_COLUMN = "?source row?"
CLAUSE_COLUMN = "?clause?"
_NAMELESS = "?nameless?"
_IDENTITY = (FILE_COLUMN, POSITION_COLUMN)


@dataclass(frozen=True)
class Branch:
    """What becomes of the rows that one clause takes.

    Attributes:
        number: What stands in `CLAUSE_COLUMN` for them; a query without that column has one branch for all rows.
        action: What is done with them.
        values: The places of the new rows' values in the result.
        columns: The columns of the table that these values go to, in order; others take their defaults.
        literals: Which of ``values``, counted from 0, are literals, that may be rounded to their column's type.
        part: The columns that new rows have, in the table's order; None for all of the table.
    """

    number: int
    action: Literal["insert", "update", "delete", "keep"]
    values: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    literals: frozenset[int] = frozenset()
    part: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RowQuery:
    """A question for rows, and what becomes of them."""

    query: Query
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class _Value:
    """A new value of a column: the SQL of it, and whether it is a literal."""

    column: str
    sql: tuple[Piece, ...]
    literal: bool = False


class _Select:
    """A SELECT list in the making."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.count = 0

    def add(self, *sql: Piece, name: str) -> int:
        """Add an expression and give its place."""
        self.pieces += [", " if self.count else "", *sql, f" AS {quote_identifier(name)}"]
        self.count += 1
        return self.count - 1

    def add_value(self, *sql: Piece) -> int:
        return self.add(*sql, name=f"?{self.count}?")


class RowQueries:
    """Makes the questions for changes of one table.

    Args:
        table: The table as the statement names it.
        alias: Its alias in the statement, if it has one.
        schema: Its schema.
        volatile: Functions of the user's that call for chance, in upper case.
    """

    def __init__(self, table: Name, alias: Identifier | None, schema: Schema, volatile: Collection[str] = ()) -> None:
        self._volatile = volatile
        self.table = table
        self._has_alias = alias is not None
        self._schema = schema
        self._columns = [field.name for field in schema.fields]
        self.alias = normalize(alias if alias is not None else table.parts[-1])

    # Statements

    def delete(self, change: Delete, *, all_columns: bool = False) -> RowQuery:
        """Which rows a DELETE removes; with all their columns, where somebody wants to see them."""
        select = self._identity()
        places = [select.add_value(*value.sql) for value in self._kept()] if all_columns else []
        columns = tuple(self._columns) if all_columns else ()
        query = self._select(select, self._behind_from(change.using), change.where)
        return RowQuery(query, (Branch(1, "delete", tuple(places), columns),))

    def assigned(self, change: Update | Merge) -> tuple[str, ...]:
        """The columns that an UPDATE, or any clause of a MERGE, assigns in rows of the target, in the table's order."""
        columns: set[str] = set()
        actions = [SetRow(change.assignments)] if isinstance(change, Update) else [c.action for c in change.clauses]
        for action in actions:
            if isinstance(action, SetRow):
                columns.update(self._columns if action.assignments is None else self._by_column(action.assignments))
        return tuple(column for column in self._columns if column in columns)

    def update(self, change: Update, part: tuple[str, ...] | None = None) -> RowQuery:
        """Which rows an UPDATE changes, and their new values, or those of some columns."""
        values = _of_columns(self._assigned(change.assignments), part)
        select = self._identity()
        branch = _branch(1, "update", [(value, select.add_value(*value.sql)) for value in values], part)
        return RowQuery(self._select(select, self._behind_from(change.source), change.where), (branch,))

    def rows(self, where: Fragment | None) -> RowQuery:
        """Which rows fulfil a condition."""
        return RowQuery(self._select(self._identity(), [], where), (Branch(1, "delete"),))

    def counterexample(self, where: Fragment) -> Query:
        """A row for which a condition is not true."""
        return compose(
            "SELECT * FROM ", table_piece(TARGET, self.alias), " WHERE (\n", self._own(where), "\n) IS NOT TRUE LIMIT 1"
        )

    # MERGE

    def source(self, merge: Merge) -> Query:
        """The rows of the source."""
        alias = "" if merge.source_alias is None else f" AS {quote_identifier(normalize(merge.source_alias))}"
        if merge.source_columns:
            alias += f" ({', '.join(quote_identifier(normalize(column)) for column in merge.source_columns)})"
        elif not alias and merge.source.text.startswith("("):
            alias = f" AS {quote_identifier(_NAMELESS)}"
        return compose("SELECT * FROM ", merge.source, alias)

    def matched(
        self,
        merge: Merge,
        source: pa.Schema,
        narrower: Sequence[Piece] = (),
        *,
        all_columns: bool = False,
        part: tuple[str, ...] | None = None,
    ) -> RowQuery:
        """Pairs of rows that match, and what becomes of the target's.

        Args:
            merge: The statement.
            source: The columns of its source.
            narrower: Further conditions on the target that follow from what is in the source.
            all_columns: Whether somebody wants to see the rows that are removed.
            part: The columns of rows that change which are wanted; None for all.
        """
        clauses = [clause for clause in merge.clauses if clause.rows == "matched"]
        select = _Select()
        select.add(f'{self._source_alias(merge)}"{SOURCE_ROW_COLUMN}"', name=SOURCE_ROW_COLUMN)
        self._identity(select)
        branches = self._branches(merge, clauses, select, source, all_columns=all_columns, part=part)
        target = table_piece(TARGET, self.alias)
        on = self._expression(merge, merge.on)
        query = compose(
            "SELECT ", *select.pieces, " FROM ", self._source_piece(merge), " JOIN ", target, " ON (\n", on, "\n)",
            *narrower,
        )  # fmt: skip
        return RowQuery(query, branches)

    def not_matched(self, merge: Merge, source: pa.Schema) -> RowQuery:
        """The rows of the source, and what is made of them where they match nothing."""
        clauses = [clause for clause in merge.clauses if clause.rows == "not_matched"]
        select = _Select()
        branches = self._branches(merge, clauses, select, source)
        return RowQuery(compose("SELECT ", *select.pieces, " FROM ", self._source_piece(merge)), branches)

    def not_matched_by_source(
        self, merge: Merge, *, all_columns: bool = False, part: tuple[str, ...] | None = None
    ) -> RowQuery:
        """The rows of the target, and what becomes of them where they match nothing."""
        clauses = [clause for clause in merge.clauses if clause.rows == "not_matched_by_source"]
        select = self._identity()
        branches = self._branches(merge, clauses, select, None, all_columns=all_columns, part=part)
        return RowQuery(compose("SELECT ", *select.pieces, " FROM ", table_piece(TARGET, self.alias)), branches)

    def equal_keys(self, merge: Merge, source: pa.Schema) -> list[tuple[str, str]]:
        """Pairs of a column of the target and one of the source that are equal wherever rows match."""
        pairs = []
        source_alias = self.source_name(merge)
        for left, right in equalities(self._expression(merge, merge.on)):
            for one, other in ((left, right), (right, left)):
                target_column = own_column(one, self.alias, self._columns, others=source.names)
                source_column = own_column(other, source_alias, source.names, others=self._columns)
                if target_column is not None and source_column is not None:
                    pairs.append((target_column, source_column))
                    break
        return pairs

    def source_name(self, merge: Merge) -> str:
        """What the source goes by in the statement."""
        if merge.source_alias is not None:
            return normalize(merge.source_alias)
        if merge.source.tables and not merge.source.text.startswith("("):
            return normalize(merge.source.tables[0].name.parts[-1])
        return _NAMELESS

    def _source_piece(self, merge: Merge) -> Fragment:
        return table_piece(SOURCE, self.source_name(merge))

    def _source_alias(self, merge: Merge) -> str:
        return quote_identifier(self.source_name(merge)) + "."

    def _branches(
        self,
        merge: Merge,
        clauses: Sequence[MergeClause],
        select: _Select,
        source: pa.Schema | None,
        *,
        all_columns: bool = False,
        part: tuple[str, ...] | None = None,
    ) -> tuple[Branch, ...]:
        """Put the number of the clause and the values of each clause into a SELECT list."""
        conditions = [
            None if clause.condition is None else self._expression(merge, clause.condition) for clause in clauses
        ]
        for clause, condition in zip(clauses, conditions, strict=True):
            if condition is not None and is_volatile(condition, self._volatile):
                # It would be asked once for each value of the row, and answer differently.
                raise UnsupportedStatementError(
                    "a condition of WHEN cannot call for chance",
                    sql=condition.sql or None,
                    offset=clause.offset,
                    hint="make it a column of the source: USING (SELECT *, random() AS r FROM ...) s",
                )
        select.add(*_clause_number(conditions), name=CLAUSE_COLUMN)
        kept: dict[str, int] = {}
        branches = []
        for number, clause in enumerate(clauses, start=1):
            guard = _guard(conditions[:number])
            values = self._clause_values(merge, clause, source)
            if all_columns and isinstance(clause.action, DeleteRow):
                values = self._kept()
            if isinstance(clause.action, SetRow):
                values = _of_columns(values, part)
            placed: list[tuple[_Value, int]] = []
            for value in values:
                if value.sql == self._kept_sql(value.column) and isinstance(clause.action, SetRow | DeleteRow):
                    if value.column not in kept:
                        kept[value.column] = select.add_value(*value.sql)
                    placed.append((value, kept[value.column]))
                else:
                    placed.append((value, select.add_value(*_guarded(guard, value.sql))))
            action: Literal["insert", "update", "delete", "keep"] = "delete"
            if isinstance(clause.action, SetRow):
                action = "update"
            elif isinstance(clause.action, InsertRow):
                action = "insert"
            elif isinstance(clause.action, KeepRow):
                action = "keep"
            branches.append(_branch(number, action, placed, part if action == "update" else None))
        return tuple(branches)

    def _clause_values(self, merge: Merge, clause: MergeClause, source: pa.Schema | None) -> list[_Value]:
        action = clause.action
        if isinstance(action, SetRow):
            if action.assignments is not None:
                return self._assigned(action.assignments, merge)
            return self._all_from_source(merge, clause, source)
        if isinstance(action, InsertRow):
            if action.values is None:
                return self._all_from_source(merge, clause, source)
            return self._inserted(merge, clause, action)
        return []

    def _all_from_source(self, merge: Merge, clause: MergeClause, source: pa.Schema | None) -> list[_Value]:
        assert source is not None  # the parser takes * only where there is a row of the source
        names = [name for name in source.names if name != SOURCE_ROW_COLUMN]
        values = []
        for column in self._columns:
            exact = find_name(Identifier(column), names)
            if exact is None:
                word = "UPDATE SET *" if isinstance(clause.action, SetRow) else "INSERT *"
                raise BindError(
                    f"{word}: the source has no column {column}",
                    sql=merge.on.sql or None,
                    offset=clause.offset,
                    hint=f"list the columns, or give the source one of that name; it has {', '.join(names)}",
                )
            values.append(_Value(column, (self._source_alias(merge) + quote_identifier(exact),)))
        return values

    def _inserted(self, merge: Merge, clause: MergeClause, action: InsertRow) -> list[_Value]:
        assert action.values is not None
        columns = self._columns
        if action.columns is not None:
            columns = [self._column(column, merge.on.sql, clause.offset) for column in action.columns]
        if len(columns) != len(action.values):
            raise BindError(
                f"INSERT has {len(action.values)} values for {len(columns)} columns ({', '.join(columns)})",
                sql=merge.on.sql or None,
                offset=clause.offset,
                hint="list the columns: INSERT (a, b) VALUES (...)",
            )
        repeated = [column for place, column in enumerate(columns) if column in columns[:place]]
        if repeated:
            raise BindError(f"column {repeated[0]} is listed twice", sql=merge.on.sql or None, offset=clause.offset)
        return [
            self._value(column, self._expression(merge, value))
            for column, value in zip(columns, action.values, strict=True)
            if value is not None  # a column with DEFAULT is as good as one left out
        ]

    # SET lists

    def _assigned(self, assignments: Sequence[Assignment], merge: Merge | None = None) -> list[_Value]:
        """The values of a whole new row, columns that take their default left out."""
        by_column = self._by_column(assignments)
        values = []
        for field in self._schema.fields:
            parts = by_column.get(field.name, [])
            if not parts:
                values.append(_Value(field.name, self._kept_sql(field.name)))
                continue
            _refuse_repeated(field.name, [(part.path[1:], part) for part in parts])
            if any(len(part.path) > 1 for part in parts):
                base = f"{quote_identifier(self.alias)}.{quote_identifier(field.name)}"
                inner = [(part.path[1:], part) for part in parts]
                values.append(_Value(field.name, self._struct(field, base, inner, merge)))
            elif parts[0].value is not None:
                values.append(self._value(field.name, self._expression(merge, parts[0].value)))
        return values

    def _by_column(self, assignments: Sequence[Assignment]) -> dict[str, list[Assignment]]:
        by_column: dict[str, list[Assignment]] = {}
        for assignment in assignments:
            sql = assignment.value.sql if assignment.value is not None else ""
            by_column.setdefault(self._column(assignment.path[0], sql, assignment.offset), []).append(assignment)
        return by_column

    def _struct(
        self,
        field: NestedField,
        base: str,
        parts: Sequence[tuple[tuple[Identifier, ...], Assignment]],
        merge: Merge | None,
    ) -> tuple[Piece, ...]:
        """A struct with some of its fields assigned and the others as they are."""
        sql = parts[0][1].value.sql if parts[0][1].value is not None else None
        if not isinstance(field.field_type, StructType):
            raise BindError(
                f"column {field.name} is no struct, and has no field {parts[0][0][0]}",
                sql=sql or None,
                offset=parts[0][1].offset,
            )
        by_field: dict[str, list[tuple[tuple[Identifier, ...], Assignment]]] = {}
        names = [child.name for child in field.field_type.fields]
        for path, part in parts:
            name = find_name(path[0], names)
            if name is None:
                near = nearest(path[0].text, names)
                raise BindError(
                    f"column {field.name} has no field {path[0]}",
                    sql=sql or None,
                    offset=part.offset,
                    hint=f"did you mean {near}?" if near else f"its fields: {', '.join(names)}",
                )
            by_field.setdefault(name, []).append((path[1:], part))
        for name, assigned_parts in by_field.items():
            _refuse_repeated(name, assigned_parts)
        pieces: list[Piece] = ["named_struct("]
        for place, child in enumerate(field.field_type.fields):
            pieces.append(f"{', ' if place else ''}{_string(child.name)}, ")
            inner = f"get_field({base}, {_string(child.name)})"
            assigned = by_field.get(child.name)
            if assigned is None:
                pieces.append(inner)
            elif assigned[0][0]:
                pieces += self._struct(child, inner, assigned, merge)
            elif assigned[0][1].value is None:
                raise UnsupportedStatementError(
                    "a field of a struct has no DEFAULT of its own", sql=sql or None, offset=assigned[0][1].offset
                )
            else:
                pieces += self._parenthesised(self._expression(merge, assigned[0][1].value))
        return (*pieces, ")")

    # Pieces

    def _identity(self, select: _Select | None = None) -> _Select:
        select = select or _Select()
        for name in _IDENTITY:
            select.add(f"{quote_identifier(self.alias)}.{quote_identifier(name)}", name=name)
        return select

    def _kept(self) -> list[_Value]:
        return [_Value(column, self._kept_sql(column)) for column in self._columns]

    def _kept_sql(self, column: str) -> tuple[Piece, ...]:
        return (f"{quote_identifier(self.alias)}.{quote_identifier(column)}",)

    def _value(self, column: str, expression: Fragment) -> _Value:
        return _Value(column, self._parenthesised(expression), literal=_is_literal(expression))

    def _select(self, select: _Select, before: Sequence[Piece], where: Fragment | None) -> Query:
        condition: Sequence[Piece] = () if where is None else (" WHERE (\n", self._own(where), "\n)")
        return compose("SELECT ", *select.pieces, " FROM ", *before, table_piece(TARGET, self.alias), *condition)

    def _behind_from(self, others: Fragment | None) -> Sequence[Piece]:
        if others is None:
            return []
        for name, offset in _names_in_from(others):
            if name == self.alias:
                raise BindError(
                    f"table name {name} is given twice",
                    sql=others.sql or None,
                    offset=offset,
                    hint=f"give one of the two another name: {self.table} AS other",
                )
        # The other tables come first: of two tables of unknown size DataFusion keeps the first in memory.
        return [others, "\n, "]

    def _own(self, fragment: Fragment) -> Fragment:
        return fragment if self._has_alias else unqualified(fragment, self.table, self.alias)

    def _expression(self, merge: Merge | None, fragment: Fragment) -> Fragment:
        own = self._own(fragment)
        if merge is None or merge.source_alias is not None or merge.source.text.startswith("("):
            return own
        return unqualified(own, merge.source.tables[0].name, self.source_name(merge))

    def _parenthesised(self, expression: Fragment) -> tuple[Piece, ...]:
        return "(\n", expression, "\n)"

    def _column(self, identifier: Identifier, sql: str | None, offset: int) -> str:
        return exact_column(identifier, self._columns, self.table, sql, offset)


def _names_in_from(others: Fragment) -> Iterator[tuple[str, int]]:
    """What the tables of a FROM list go by, those inside of subqueries left out, and where they stand."""
    for reference in others.tables:
        before = [token.key for token in tokenize(others.text[: reference.start])]
        if before.count("(") != before.count(")"):
            continue
        name = reference.name.parts[-1]
        if reference.has_alias:
            behind = tokenize(others.text[reference.end :])
            token = behind[1] if behind[0].key == "AS" else behind[0]
            if token.kind not in (Kind.WORD, Kind.QUOTED):
                continue
            name = read_identifier(token)
        yield normalize(name), reference.name.offset


def _refuse_repeated(name: str, parts: Sequence[tuple[tuple[Identifier, ...], Assignment]]) -> None:
    """Raise if something is set twice. The parser sees that of names that are alike; here their meaning is known."""
    if len(parts) > 1 and not all(path for path, _ in parts):
        assignment = parts[-1][1]
        sql = assignment.value.sql if assignment.value is not None else None
        raise BindError(f"{name} is set twice", sql=sql or None, offset=assignment.offset, hint="set each column once")


def _of_columns(values: Sequence[_Value], part: tuple[str, ...] | None) -> list[_Value]:
    return [value for value in values if part is None or value.column in part]


def _branch(
    number: int,
    action: Literal["insert", "update", "delete", "keep"],
    placed: Sequence[tuple[_Value, int]],
    part: tuple[str, ...] | None = None,
) -> Branch:
    return Branch(
        number,
        action,
        tuple(place for _, place in placed),
        tuple(value.column for value, _ in placed),
        frozenset(index for index, (value, _) in enumerate(placed) if value.literal),
        part,
    )


def _clause_number(conditions: Sequence[Fragment | None]) -> tuple[Piece, ...]:
    """The number of the first clause that holds, 0 for none."""
    if not conditions:
        return ("0",)
    pieces: list[Piece] = []
    for number, condition in enumerate(conditions, start=1):
        if condition is None:
            pieces.append(f" ELSE {number}")
            break
        pieces += [" WHEN (\n", condition, f"\n) THEN {number}"]
    else:
        pieces.append(" ELSE 0")
    if len(pieces) == 1:
        return ("1",)
    return ("CASE", *pieces, " END")


Guard = tuple[list[Fragment], Fragment | None]


def _guard(conditions: Sequence[Fragment | None]) -> Guard:
    """What must not hold before a clause, and what must hold for it."""
    return [condition for condition in conditions[:-1] if condition is not None], conditions[-1]


def _guarded(guard: Guard, sql: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """A value that is computed for the rows of its clause alone: for others it might fail."""
    earlier, own = guard
    if not earlier and own is None:
        return sql
    pieces: list[Piece] = ["CASE"]
    for condition in earlier:
        pieces += [" WHEN (\n", condition, "\n) THEN NULL"]
    if own is None:
        return (*pieces, " ELSE ", *sql, " END")
    return (*pieces, " WHEN (\n", own, "\n) THEN ", *sql, " END")


def _is_literal(expression: Fragment) -> bool:
    """Whether an expression is a literal or a parameter, perhaps with a sign."""
    tokens = tokenize(expression.text)[:-1]
    values = [token for token in tokens if token.kind in (Kind.NUMBER, Kind.PARAMETER)]
    return len(values) == 1 and all(token in values or token.key in ("(", ")", "-", "+") for token in tokens)


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
