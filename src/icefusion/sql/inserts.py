"""INSERT: its head, what it replaces, its query, and the clauses behind that."""

from __future__ import annotations

from icefusion.naming import normalize
from icefusion.sql.assignments import parse_assignments
from icefusion.sql.cursor import Cursor
from icefusion.sql.defaults import DEFAULT_VALUES
from icefusion.sql.extents import CONDITION, begins_query
from icefusion.sql.lexer import Kind
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import Identifier, Insert, Name, OnConflict, Overwrite, PartitionTerm, Query
from icefusion.sql.terms import parse_transform

__all__ = ["parse_insert"]

_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM", "TABLE", "(")
_BY_KEY = "INSERT INTO t ... ON CONFLICT (id)"
_UPSERT = "give the columns by which rows are the same, behind the query: "


def parse_insert(cursor: PieceCursor) -> Insert:
    """The statement whose INSERT the cursor stands at.

    Raises:
        ParseError: it does not read as an INSERT.
        UnsupportedStatementError: it is one of another dialect.
    """
    cursor.take()
    overwrite = _parse_verb(cursor)
    if cursor.at("TABLE") and cursor.ahead().kind in (Kind.WORD, Kind.QUOTED):
        cursor.take()
    table = cursor.name("the name of a table")
    if overwrite is not None and cursor.at("PARTITION"):
        overwrite = Overwrite(_parse_partition(cursor))
    columns = _parse_columns(cursor)
    if cursor.at("REPLACE"):
        overwrite = _parse_replace(cursor, overwrite)
    by_name = _parse_matching(cursor, columns)
    if cursor.at("REPLACE") and overwrite is None:
        overwrite = _parse_replace(cursor, overwrite)
    _refuse_clause(cursor, is_overwrite=overwrite is not None)
    query = _parse_rows(cursor, columns, by_name=by_name)
    conflict = _parse_conflict(cursor, table, is_overwrite=overwrite is not None) if cursor.at("ON") else None
    returning = cursor.returning()
    cursor.expect_end(clauses=() if returning else ("RETURNING",))
    return Insert(table, query, columns, overwrite, conflict, returning, by_name)


def _parse_verb(cursor: Cursor) -> Overwrite | None:
    """INTO or OVERWRITE."""
    if cursor.at("OR", "IGNORE", "REPLACE"):
        word = cursor.ahead().key if cursor.at("OR") else cursor.token.key
        action = {"IGNORE": "DO NOTHING", "REPLACE": "DO UPDATE SET a = excluded.a"}.get(word, "DO NOTHING")
        raise cursor.unsupported(f"INSERT {cursor.token.key} is not supported", f"{_UPSERT}{_BY_KEY} {action}")
    if cursor.accept("OVERWRITE"):
        cursor.accept("INTO")
        if cursor.at_words("LOCAL", "DIRECTORY") or (cursor.at("DIRECTORY") and cursor.ahead().kind is Kind.STRING):
            hint = "a result is Arrow: fetch it and write it out with pyarrow"
            raise cursor.unsupported("INSERT OVERWRITE DIRECTORY is not supported", hint)
        return Overwrite()
    if not cursor.accept("INTO"):
        raise cursor.unexpected("INTO behind INSERT")
    return None


def _parse_partition(cursor: PieceCursor) -> tuple[PartitionTerm, ...]:
    cursor.take()
    cursor.expect("(", "'(' and the partitions")
    terms: list[PartitionTerm] = []
    seen = set()
    while True:
        begin = cursor.token
        term = parse_transform(cursor, named=False)
        key = (term.transform, term.argument, tuple(normalize(part) for part in term.column))
        if key in seen:
            raise cursor.error(f"{cursor.sql[begin.start : cursor.token.start].strip()} is given twice", token=begin)
        seen.add(key)
        terms.append(PartitionTerm(term, cursor.expression("a value") if cursor.accept("=") else None))
        if not cursor.accept(","):
            break
    if not cursor.at(")"):
        hint = "a partition is held at one value; for other conditions write INSERT INTO t REPLACE WHERE ..."
        raise cursor.unexpected("',' or ')'" if terms[-1].value else "'=', ',' or ')'", hint=hint)
    cursor.take()
    if cursor.at_words("IF", "NOT", "EXISTS"):
        raise cursor.unsupported("PARTITION ... IF NOT EXISTS is not supported", "leave it out")
    return tuple(terms)


def _parse_columns(cursor: Cursor) -> tuple[Identifier, ...] | None:
    if not cursor.at("(") or begins_query(cursor, cursor.index + 1):
        return None
    cursor.take()
    columns = [cursor.identifier("a column name")]
    while cursor.accept(","):
        columns.append(cursor.identifier("a column name"))
    if cursor.at("."):
        raise cursor.unsupported("a part of a column cannot be inserted alone", "give the column a whole struct")
    cursor.expect(")", "',' or ')'")
    return tuple(columns)


def _parse_matching(cursor: Cursor, columns: tuple[Identifier, ...] | None) -> bool:
    """``BY NAME`` or ``BY POSITION``, if it comes next; whether the query's columns go to those of their names."""
    begin = cursor.token
    if cursor.accept("BY", "POSITION"):
        return False
    if not cursor.accept("BY", "NAME"):
        return False
    if columns is not None:
        hint = "leave the list of columns out, or BY NAME"
        raise cursor.error("BY NAME takes the names of the columns from the query", token=begin, hint=hint)
    return True


def _parse_rows(cursor: PieceCursor, columns: tuple[Identifier, ...] | None, *, by_name: bool) -> Query:
    if cursor.at_words(*DEFAULT_VALUES):
        first = cursor.index
        if columns is not None or by_name:
            hint = "leave the list of columns out, or write VALUES (DEFAULT, ...)"
            raise cursor.error("DEFAULT VALUES is a row of all columns", hint=hint)
        cursor.index += 2
        return Query(cursor.slice(first, cursor.index), sql=cursor.sql, offset=cursor.tokens[first].start)
    if not cursor.at(*_QUERY_WORDS):
        rows = "VALUES, SELECT or another query"
        raise cursor.unexpected(rows if columns or by_name else f"(columns), {rows}")
    if by_name and cursor.at("VALUES"):
        hint = "list the columns: INSERT INTO t (a, b) VALUES ..."
        raise cursor.error("the columns of VALUES have no names to go by", hint=hint)
    return cursor.query()


def _parse_replace(cursor: PieceCursor, overwrite: Overwrite | None) -> Overwrite:
    begin = cursor.take()
    if overwrite is not None:
        hint = "write INSERT INTO t REPLACE WHERE ..."
        raise cursor.error("INSERT OVERWRITE and REPLACE WHERE are two ways to replace rows", token=begin, hint=hint)
    if cursor.at("USING", "ON"):
        hint = "say which rows are replaced: REPLACE WHERE ..., or use MERGE INTO"
        raise cursor.unsupported(f"REPLACE {cursor.token.key} is not supported", hint)
    if not cursor.accept("WHERE"):
        raise cursor.unexpected("WHERE behind REPLACE")
    where = cursor.expression("a condition", CONDITION)
    if not cursor.at(*_QUERY_WORDS):
        raise cursor.unexpected("VALUES, SELECT or another query behind the condition")
    return Overwrite(where=where)


def _parse_conflict(cursor: PieceCursor, table: Name, *, is_overwrite: bool) -> OnConflict:
    """``ON CONFLICT (keys) DO ...``, the cursor standing at the ON."""
    begin = cursor.take()
    if cursor.take().key == "DUPLICATE":
        hint = f"{_UPSERT}{_BY_KEY} DO UPDATE SET a = excluded.a"
        raise cursor.unsupported("ON DUPLICATE KEY is not supported", hint, token=begin)
    if is_overwrite:
        raise cursor.error("rows that replace others have nothing to conflict with", token=begin, hint="leave it out")
    if cursor.at("ON"):
        hint = f"there are no constraints; name the columns: {_BY_KEY}"
        raise cursor.unsupported("ON CONFLICT ON CONSTRAINT is not supported", hint)
    if not cursor.at("("):
        hint = f"there are no keys to choose from; name the columns: {_BY_KEY} DO NOTHING"
        raise cursor.unexpected("'(' and the columns by which rows are the same", hint=hint)
    keys = _parse_keys(cursor)
    if cursor.at("WHERE"):
        hint = "filter the rows in the query, or behind DO UPDATE SET ... WHERE"
        raise cursor.unsupported("ON CONFLICT (...) WHERE is not supported", hint)
    if cursor.accept("DO", "NOTHING"):
        return OnConflict(keys)
    if not cursor.accept("DO", "UPDATE", "SET"):
        raise cursor.unexpected("DO NOTHING or DO UPDATE SET")
    if cursor.at("*"):
        hint = "list the columns: SET a = excluded.a; or use MERGE ... WHEN MATCHED THEN UPDATE SET *"
        raise cursor.unsupported("DO UPDATE SET * is not supported", hint)
    assignments = parse_assignments(cursor, table)
    condition = cursor.expression("a condition") if cursor.accept("WHERE") else None
    return OnConflict(keys, assignments, condition)


def _parse_keys(cursor: Cursor) -> tuple[Identifier, ...]:
    cursor.expect("(")
    keys: list[Identifier] = []
    while True:
        begin = cursor.token
        key = cursor.identifier("a column name")
        if any(normalize(key) == normalize(other) for other in keys):
            raise cursor.error(f"{key} is given twice", token=begin)
        keys.append(key)
        if not cursor.accept(","):
            break
    if cursor.at("(", ".", "COLLATE"):
        raise cursor.unsupported("rows are the same by columns only", f"name columns: {_BY_KEY}")
    cursor.expect(")", "',' or ')'")
    return tuple(keys)


def _refuse_clause(cursor: Cursor, *, is_overwrite: bool) -> None:
    """What other dialects allow between the table and the query."""
    if cursor.at("PARTITION"):
        if is_overwrite:
            hint = "write INSERT OVERWRITE t PARTITION (...) (columns)"
            raise cursor.error("PARTITION stands before the columns", hint=hint)
        hint = "rows go to their partitions by their values; put the constant into the query: SELECT ..., 'x'"
        raise cursor.unsupported("INSERT INTO ... PARTITION is not supported", hint)
    if cursor.at("SET"):
        hint = "write INSERT INTO t (a, b) VALUES (1, 2)"
        raise cursor.unsupported("INSERT ... SET is not supported", hint)
    if cursor.at("OVERRIDING"):
        raise cursor.unsupported("there are no identity columns to override", "leave the clause out")
    if cursor.at("AS"):
        raise cursor.unsupported("the table of an INSERT cannot have an alias", "leave it out")
