"""DELETE, UPDATE and TRUNCATE."""

from __future__ import annotations

from icefusion.naming import nearest
from icefusion.sql.assignments import parse_assignments
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.pieces import PieceCursor
from icefusion.sql.statements import Delete, Fragment, Identifier, Truncate, Update

__all__ = ["parse_delete", "parse_truncate", "parse_update"]

_JOINS = ("JOIN", "INNER", "CROSS", "LEFT", "RIGHT", "FULL", "NATURAL")
_TABLE = "the name of a table"


def parse_delete(cursor: PieceCursor) -> Delete:
    """The statement whose DELETE the cursor stands at.

    Raises:
        ParseError: it does not read as a DELETE.
        UnsupportedStatementError: it is one of another dialect.
    """
    cursor.take()
    if not cursor.at("FROM"):
        hint = "write DELETE FROM t USING u WHERE ..." if cursor.token.kind is not Kind.END else None
        raise cursor.unexpected("FROM behind DELETE", hint=hint)
    cursor.take()
    _refuse_only(cursor, "FROM")
    table, alias = cursor.target()
    if cursor.at(",", *_JOINS):
        hint = "name the other tables behind USING: DELETE FROM t USING u WHERE t.id = u.id"
        raise cursor.unsupported("DELETE deletes from one table", hint)
    using = cursor.from_list() if cursor.accept("USING") else None
    where = _parse_where(cursor)
    _refuse_order(cursor, "DELETE")
    returning = cursor.returning()
    clauses = ("USING", "WHERE", "RETURNING")
    _expect_end(cursor, clauses, alias, [using is not None, where is not None, returning is not None])
    return Delete(table, alias, using, where, returning)


def parse_update(cursor: PieceCursor) -> Update:
    """The statement whose UPDATE the cursor stands at.

    Raises:
        ParseError: it does not read as an UPDATE.
        UnsupportedStatementError: it is one of another dialect, or its SET list has a part that is not done here.
    """
    cursor.take()
    if cursor.at("OR", "IGNORE") and cursor.ahead().key not in ("SET", "AS", "."):
        raise cursor.unsupported(f"UPDATE {cursor.token.key} is not supported", "there are no keys to conflict with")
    _refuse_only(cursor, "UPDATE")
    table, alias = cursor.target()
    if cursor.at(",", *_JOINS):
        hint = "name the other tables behind SET: UPDATE t SET ... FROM u WHERE t.id = u.id"
        raise cursor.unsupported("UPDATE changes one table", hint)
    if cursor.at("FROM"):
        raise cursor.error("FROM stands behind the SET list", hint="write UPDATE t SET ... FROM u WHERE ...")
    if not cursor.accept("SET"):
        raise cursor.unexpected("SET" if alias else "an alias or SET", hint=_guess(alias, ("SET",)))
    assignments = parse_assignments(cursor, table, alias)
    source = cursor.from_list() if cursor.accept("FROM") else None
    where = _parse_where(cursor)
    _refuse_order(cursor, "UPDATE")
    returning = cursor.returning()
    clauses = ("FROM", "WHERE", "RETURNING")
    _expect_end(cursor, clauses, None, [source is not None, where is not None, returning is not None])
    return Update(table, assignments, alias, source, where, returning)


def parse_truncate(cursor: Cursor) -> Truncate:
    """The statement whose TRUNCATE the cursor stands at.

    Raises:
        ParseError: it does not read as a TRUNCATE.
        UnsupportedStatementError: it is one of another dialect.
    """
    cursor.take()
    if cursor.at("TABLE") and cursor.ahead().kind in (Kind.WORD, Kind.QUOTED):
        cursor.take()
    if cursor.at_words("IF", "EXISTS"):
        raise cursor.unsupported("TRUNCATE IF EXISTS is not supported", "write TRUNCATE TABLE t")
    _refuse_only(cursor, "TRUNCATE")
    table = cursor.name(_TABLE)
    if cursor.at(","):
        raise cursor.unsupported("one TRUNCATE empties one table", "write a statement for each, parted by semicolons")
    if cursor.at("PARTITION", "WHERE"):
        hint = "write DELETE FROM t WHERE ..."
        raise cursor.unsupported(f"TRUNCATE ... {cursor.token.key} is not supported", hint)
    if cursor.at("CASCADE", "RESTRICT", "RESTART", "CONTINUE"):
        hint = "nothing hangs on a table; leave it out"
        raise cursor.unsupported(f"TRUNCATE ... {cursor.token.key} is not supported", hint)
    cursor.expect_end()
    return Truncate(table)


def _parse_where(cursor: PieceCursor) -> Fragment | None:
    if not cursor.accept("WHERE"):
        return None
    return cursor.expression("a condition")


def _refuse_only(cursor: Cursor, behind: str) -> None:
    """``ONLY t``, where ONLY is not itself the name of the table."""
    after = cursor.ahead()
    is_name = after.kind is Kind.QUOTED or (
        after.kind is Kind.WORD and after.key not in ("SET", "AS", "USING", "WHERE", "RETURNING", "FOR")
    )
    if cursor.at("ONLY") and (is_name or after.key == "("):
        raise cursor.unsupported(f"{behind} ONLY is not supported", "tables do not inherit; leave ONLY out")


def _refuse_order(cursor: Cursor, verb: str) -> None:
    if cursor.at("ORDER", "LIMIT", "OFFSET", "FETCH"):
        head = "DELETE FROM t" if verb == "DELETE" else "UPDATE t SET ..."
        hint = f"choose the rows by a query: {head} WHERE id IN (SELECT id FROM t ORDER BY ... LIMIT ...)"
        raise cursor.unsupported(f"{verb} ... {cursor.token.key} is not supported", hint)


def _guess(alias: Identifier | None, clauses: tuple[str, ...]) -> str | None:
    """The hint that an alias, behind which something is wrong, may be a misspelled clause."""
    guess = nearest(alias.text, clauses) if alias is not None else None
    return f"did you mean {guess}?" if guess else None


def _expect_end(cursor: Cursor, clauses: tuple[str, ...], alias: Identifier | None, given: list[bool]) -> None:
    """Raise unless the statement ends here; of its clauses, those behind the last given one could have come."""
    if cursor.token.kind is not Kind.END and not any(given) and (hint := _guess(alias, clauses)):
        raise cursor.unexpected(f"{', '.join(clauses)} or the end of the statement", hint=hint)
    reached = max((place for place, is_given in enumerate(given, start=1) if is_given), default=0)
    cursor.expect_end(clauses=clauses[reached:])
