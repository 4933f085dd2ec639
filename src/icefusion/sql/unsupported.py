"""Statements that are SQL and not done here, each with what to do instead."""

from __future__ import annotations

from icefusion.errors import SQLError
from icefusion.naming import nearest
from icefusion.sql.cursor import Cursor, shorten
from icefusion.sql.lexer import Kind, keywords

__all__ = ["refuse_create", "refuse_drop", "refuse_statement"]

_SUPPORTED = keywords(
    """ABORT ALTER ATTACH BEGIN CALL COMMENT COMMIT CREATE DELETE DESC DESCRIBE DETACH DROP END EXPLAIN FROM INSERT
    MERGE REPLACE RESET ROLLBACK SELECT SET SHOW START TABLE TRUNCATE UPDATE VALUES WITH"""
)

_UPSERT = "write INSERT INTO t ... ON CONFLICT (id) DO UPDATE SET a = excluded.a, or MERGE INTO"
_MAINTENANCE = (
    "maintenance is not there yet; the PyIceberg table can expire snapshots, "
    "session.catalog.load_table('namespace.table').maintenance.expire_snapshots()"
)
_PRIVILEGES = "users and privileges are kept by the catalog; use its own tools"
_PREPARED = "pass the values with the statement: session.sql('SELECT ... WHERE id = ?', params=[1])"
_ARROW = "a result is Arrow: fetch it as a whole or in batches, and write it out with pyarrow"
_OPTIONS = "options are given when the session is opened: icefusion.connect(...)"
_SAVEPOINT = "a transaction is committed or rolled back as a whole: COMMIT or ROLLBACK"
_VIEW = "make a view of the query, or store its result: CREATE TABLE name AS SELECT ..."

_HINTS = {
    "ANALYZE": _MAINTENANCE,
    "CACHE": "pass an Arrow table under a name: session.sql('SELECT * FROM rows', rows=table)",
    "CLOSE": _ARROW,
    "COPY": _ARROW,
    "DEALLOCATE": _PREPARED,
    "DECLARE": _ARROW,
    "DENY": _PRIVILEGES,
    "EXECUTE": _PREPARED,
    "EXPORT": _ARROW,
    "FETCH": _ARROW,
    "GRANT": _PRIVILEGES,
    "IMPORT": "pass the data under a name: session.sql('INSERT INTO t SELECT * FROM rows', rows=dataset)",
    "INSTALL": "DataFusion's functions are built in; there are no extensions to load",
    "KILL": "interrupt the call from Python",
    "LOAD": "pass the data under a name: session.sql('INSERT INTO t SELECT * FROM rows', rows=dataset)",
    "LOCK": "nothing is locked: a transaction checks at its COMMIT that what it read still holds",
    "MSCK": "Iceberg tables list their files themselves; there is nothing to repair",
    "OPTIMIZE": _MAINTENANCE,
    "PRAGMA": _OPTIONS,
    "PREPARE": _PREPARED,
    "REFRESH": "each statement reads the newest state of a table; there is nothing to refresh",
    "RELEASE": _SAVEPOINT,
    "RENAME": "write ALTER TABLE a RENAME TO b",
    "REPAIR": "Iceberg tables list their files themselves; there is nothing to repair",
    "REPLACE": _UPSERT,
    "REVOKE": _PRIVILEGES,
    "SAVEPOINT": _SAVEPOINT,
    "UNCACHE": "nothing is cached by name; let go of the Arrow table that was passed",
    "UPSERT": _UPSERT,
    "USE": "name tables in full: namespace.table",
    "VACUUM": _MAINTENANCE,
}

_CREATE_HINTS = {
    "CATALOG": "catalogs are given when a session is opened: icefusion.connect(catalog=...)",
    "EXTERNAL": "CREATE TABLE makes an Iceberg table; pass other data under a name: session.sql(..., rows=dataset)",
    "FUNCTION": "use DataFusion's functions in the query",
    "INDEX": "Iceberg tables have no indexes; PARTITIONED BY and ORDER BY lay the rows out for fast reading",
    "MATERIALIZED": _VIEW,
    "ROLE": _PRIVILEGES,
    "SEQUENCE": "number the rows in the query that inserts them, e.g. with row_number() OVER ()",
    "TEMP": "pass an Arrow table under a name instead: session.sql('SELECT * FROM rows', rows=table)",
    "TEMPORARY": "pass an Arrow table under a name instead: session.sql('SELECT * FROM rows', rows=table)",
    "TRANSIENT": "every table is an Iceberg table; leave the word out",
    "TYPE": "write the struct<...> type where it is used",
    "UNLOGGED": "every table is an Iceberg table; leave the word out",
    "USER": _PRIVILEGES,
}


def refuse_statement(cursor: Cursor) -> SQLError:
    """The error for a statement that begins with a word no statement here begins with."""
    token = cursor.token
    if token.key in _HINTS:
        return cursor.unsupported(f"{token.key} is not supported", _HINTS[token.key])
    if token.kind is not Kind.WORD:
        return cursor.unexpected("a statement")
    guess = nearest(token.key, [*sorted(_SUPPORTED), *_HINTS])
    hint = f"did you mean {guess}?" if guess else None
    return cursor.error(f"no statement begins with {shorten(token.text)}", hint=hint)


def refuse_create(cursor: Cursor, *, replace: bool = False) -> SQLError:
    """The error for a CREATE of something else, the cursor standing behind CREATE or CREATE OR REPLACE."""
    if not replace:
        return _refuse_object(cursor, "CREATE", _CREATE_HINTS | _ref_hints("CREATE"))
    if cursor.token.key in _CREATE_HINTS:
        return cursor.unsupported(f"CREATE {cursor.token.key} is not supported", _CREATE_HINTS[cursor.token.key])
    return cursor.unexpected("TABLE or VIEW behind CREATE OR REPLACE", hint=cursor.guess(["TABLE", "VIEW"]))


def refuse_alter(cursor: Cursor) -> SQLError:
    """The error for an ALTER of something else, the cursor standing behind ALTER."""
    hint = "only tables, views and namespaces can be altered"
    hints = dict.fromkeys((*_CREATE_HINTS, "COLUMN", "SESSION", "SYSTEM"), hint)
    hints |= dict.fromkeys(("BRANCH", "TAG"), "write ALTER TABLE t CREATE OR REPLACE BRANCH name ...")
    return _refuse_object(cursor, "ALTER", hints)


def refuse_drop(cursor: Cursor) -> SQLError:
    """The error for a DROP of something else, the cursor standing behind DROP."""
    hint = "only tables, views and namespaces can be made, and so dropped"
    return _refuse_object(
        cursor, "DROP", dict.fromkeys((*_CREATE_HINTS, "COLUMN", "PARTITION"), hint) | _ref_hints("DROP")
    )


def _ref_hints(verb: str) -> dict[str, str]:
    return {word: f"it belongs to a table: ALTER TABLE t {verb} {word} name" for word in ("BRANCH", "TAG")}


def _refuse_object(cursor: Cursor, verb: str, hints: dict[str, str]) -> SQLError:
    token = cursor.token
    if token.key in hints:
        return cursor.unsupported(f"{verb} {token.key} is not supported", hints[token.key])
    hint = None
    known = ["TABLE", "VIEW", "NAMESPACE", "SCHEMA", "DATABASE", *hints]
    if token.kind is Kind.WORD and (guess := nearest(token.key, known)):
        hint = f"did you mean {verb} {guess}?"
    return cursor.unexpected(f"TABLE, VIEW, NAMESPACE, SCHEMA or DATABASE behind {verb}", hint=hint)
