"""MERGE: its source, its condition, and its WHEN clauses."""

from __future__ import annotations

from typing import Literal

from icefusion.errors import SQLError
from icefusion.naming import normalize
from icefusion.sql.assignments import parse_assignments, parse_columns_in, parse_value
from icefusion.sql.changes_function import is_changes_function
from icefusion.sql.file_functions import FILE_FUNCTIONS
from icefusion.sql.lexer import Kind, Token
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import (
    DeleteRow,
    Fragment,
    Identifier,
    InsertRow,
    KeepRow,
    Merge,
    MergeClause,
    Name,
    SetRow,
)
from icefusion.sql.travel import read_version

__all__ = ["parse_merge"]

Rows = Literal["matched", "not_matched", "not_matched_by_source"]
Action = SetRow | InsertRow | DeleteRow | KeepRow

_HEADS: dict[Rows, str] = {
    "matched": "WHEN MATCHED",
    "not_matched": "WHEN NOT MATCHED",
    "not_matched_by_source": "WHEN NOT MATCHED BY SOURCE",
}
_ACTIONS: dict[Rows, str] = {
    "matched": "UPDATE SET, DELETE or DO NOTHING",
    "not_matched": "INSERT or DO NOTHING",
    "not_matched_by_source": "UPDATE SET, DELETE or DO NOTHING",
}
_WHY: dict[Rows, str] = {
    "matched": "these rows are in the table already; WHEN NOT MATCHED inserts",
    "not_matched": "these rows are not in the table yet; WHEN MATCHED updates and deletes",
    "not_matched_by_source": "these rows are in the table already; WHEN NOT MATCHED inserts",
}


def parse_merge(cursor: PieceCursor) -> Merge:
    """The statement whose MERGE the cursor stands at.

    Raises:
        ParseError: it does not read as a MERGE, an action does not fit its rows, or a clause can never be reached.
        UnsupportedStatementError: it is one of another dialect.
    """
    cursor.take()
    if not cursor.accept("INTO"):
        raise cursor.unexpected("INTO behind MERGE")
    table, alias = cursor.target()
    if not cursor.accept("USING"):
        raise cursor.unexpected("USING and the source" if alias else "an alias, or USING and the source")
    source = _parse_source(cursor)
    source_alias = cursor.alias()
    source_columns = _parse_source_columns(cursor) if source_alias is not None else ()
    if not cursor.accept("ON"):
        raise cursor.unexpected("ON and the condition" if source_alias else "an alias, or ON and the condition")
    on = cursor.expression("the condition")
    clauses: list[MergeClause] = []
    while cursor.at("WHEN"):
        clauses.append(_parse_clause(cursor, table, alias))
    if not clauses:
        raise cursor.unexpected("WHEN [NOT] MATCHED ... THEN")
    returning = cursor.returning()
    cursor.expect_end(clauses=() if returning else ("WHEN", "RETURNING"))
    _refuse_unreachable(cursor, clauses)
    return Merge(table, source, on, tuple(clauses), alias, source_alias, source_columns, returning)


def _is_table(function: Name) -> bool:
    """Whether the rows of a call are those of a table."""
    parts = function.parts
    return is_changes_function(parts) or (len(parts) == 1 and normalize(parts[0]) in FILE_FUNCTIONS)


def _parse_source(cursor: PieceCursor) -> Fragment:
    """The name of a table, perhaps at a version, or a query in parentheses."""
    first = cursor.index
    if cursor.at("("):
        _skip_parentheses(cursor)
    else:
        if cursor.at("VALUES", "SELECT", "WITH", "TABLE"):
            hint = "put the query in parentheses: USING (SELECT ...) AS s"
            raise cursor.unexpected("the source: a table or a query in parentheses", hint=hint)
        name = (
            None if cursor.token.kind is Kind.STRING else cursor.name("the source: a table or a query in parentheses")
        )
        if name is None:
            cursor.take()
        elif cursor.at("(") and _is_table(name):
            _skip_parentheses(cursor)
        elif cursor.at("("):
            hint = "put it into a query: USING (SELECT * FROM ...) AS s"
            raise cursor.unsupported("a function cannot be the source", hint, token=cursor.tokens[first])
        read_version(cursor)
    end, cursor.index = cursor.index, first
    return cursor.fragment(end, begins_in_from=True)


def _skip_parentheses(cursor: PieceCursor) -> None:
    depth = 0
    while cursor.token.kind is not Kind.END:
        depth += (cursor.token.key == "(") - (cursor.token.key == ")")
        cursor.take()
        if depth == 0:
            break


def _parse_source_columns(cursor: PieceCursor) -> tuple[Identifier, ...]:
    if not cursor.accept("("):
        return ()
    columns = [cursor.identifier("a name for a column of the source")]
    while cursor.accept(","):
        columns.append(cursor.identifier("a name for a column of the source"))
    cursor.expect(")", "',' or ')'")
    return tuple(columns)


def _parse_clause(cursor: PieceCursor, table: Name, alias: Identifier | None) -> MergeClause:
    begin = cursor.take()
    rows = _parse_rows(cursor)
    condition = cursor.expression("a condition") if cursor.accept("AND") else None
    if not cursor.accept("THEN"):
        raise cursor.unexpected("THEN" if condition else "AND or THEN")
    action = _parse_action(cursor, rows, table, alias)
    if cursor.at("WHERE", "DELETE"):
        hint = f"write the condition behind {_HEADS[rows]}: {_HEADS[rows]} AND ... THEN"
        raise cursor.unsupported(f"{cursor.token.key} behind an action is not supported", hint)
    return MergeClause(rows, action, condition, begin.start)


def _parse_rows(cursor: PieceCursor) -> Rows:
    if cursor.accept("MATCHED"):
        if cursor.at("BY"):
            hint = "leave it out; rows that match are in both, and WHEN NOT MATCHED BY SOURCE is for the others"
            raise cursor.unexpected("AND or THEN", hint=hint)
        return "matched"
    if not cursor.accept("NOT", "MATCHED"):
        raise cursor.unexpected("MATCHED or NOT MATCHED behind WHEN")
    if not cursor.accept("BY"):
        return "not_matched"
    if cursor.accept("SOURCE"):
        return "not_matched_by_source"
    if cursor.accept("TARGET"):
        return "not_matched"
    raise cursor.unexpected("SOURCE or TARGET behind BY")


def _parse_action(cursor: PieceCursor, rows: Rows, table: Name, alias: Identifier | None) -> Action:
    begin = cursor.token
    is_insert = begin.key == "INSERT"
    if begin.key in ("INSERT", "UPDATE", "DELETE") and is_insert != (rows == "not_matched"):
        raise cursor.error(f"{_HEADS[rows]} cannot {begin.key}; expected {_ACTIONS[rows]}", hint=_WHY[rows])
    if cursor.accept("DELETE"):
        return DeleteRow()
    if cursor.accept("DO", "NOTHING"):
        return KeepRow()
    if cursor.accept("UPDATE"):
        return _parse_update(cursor, rows, table, alias)
    if cursor.accept("INSERT"):
        return _parse_insert(cursor, table, alias)
    raise cursor.unexpected(_ACTIONS[rows])


def _parse_update(cursor: PieceCursor, rows: Rows, table: Name, alias: Identifier | None) -> SetRow:
    if cursor.at("*"):
        raise cursor.unexpected("SET", hint="write UPDATE SET *")
    if not cursor.accept("SET"):
        raise cursor.unexpected("SET behind UPDATE")
    if not cursor.at("*"):
        return SetRow(parse_assignments(cursor, table, alias))
    if rows == "not_matched_by_source":
        hint = "these rows have no row of the source to take values from; set the columns one by one"
        raise cursor.error(f"{_HEADS[rows]} cannot UPDATE SET *", hint=hint)
    cursor.take()
    return SetRow()


def _parse_insert(cursor: PieceCursor, table: Name, alias: Identifier | None) -> InsertRow:
    if cursor.accept("*"):
        return InsertRow()
    if cursor.at("ROW"):
        raise cursor.unsupported("INSERT ROW is not supported", "write INSERT *")
    if cursor.at_words("DEFAULT", "VALUES"):
        hint = "name a column: INSERT (a) VALUES (DEFAULT)"
        raise cursor.unsupported("INSERT DEFAULT VALUES is not supported", hint)
    if cursor.at("INTO"):
        raise cursor.unexpected("'*', (columns) or VALUES", hint="the table is that of the MERGE; write INSERT (...)")
    columns = parse_columns_in(cursor, table, alias) if cursor.at("(") else None
    if not cursor.accept("VALUES"):
        is_query = cursor.at("SELECT")
        raise cursor.unexpected(
            "VALUES" if columns else "'*', (columns) or VALUES",
            hint="one row is inserted for each of the source: write VALUES (...)" if is_query else None,
        )
    begin = cursor.expect("(", "'(' and the values")
    values = [parse_value(cursor)]
    while cursor.accept(","):
        values.append(parse_value(cursor))
    cursor.expect(")", "',' or ')'")
    if cursor.at(","):
        raise cursor.error("one row is inserted for each of the source", hint="write one list of values")
    if columns is not None and len(columns) != len(values):
        raise _miscounted(cursor, len(columns), len(values), begin)
    return InsertRow(columns, tuple(values))


def _miscounted(cursor: PieceCursor, columns: int, values: int, begin: Token) -> SQLError:
    message = f"there are {columns} columns and {values} values"
    return cursor.error(message, token=begin, hint="write one value for each column; DEFAULT is one too")


def _refuse_unreachable(cursor: PieceCursor, clauses: list[MergeClause]) -> None:
    """Raise for a clause behind one that takes all of its rows."""
    unconditional: set[Rows] = set()
    for clause in clauses:
        if clause.rows in unconditional:
            head = _HEADS[clause.rows]
            token = next(token for token in cursor.tokens if token.start == clause.offset)
            message = f"this clause is never reached: a {head} before it has no condition"
            hint = f"put it first, or give the other one a condition: {head} AND ... THEN"
            raise cursor.error(message, token=token, hint=hint)
        if clause.condition is None:
            unconditional.add(clause.rows)
