"""Statements that are SQL and not done here, each with what to do instead."""

from __future__ import annotations

from icefusion.errors import SQLError
from icefusion.naming import nearest
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, keywords

__all__ = ["refuse_create", "refuse_drop", "refuse_statement"]

_SUPPORTED = keywords("ABORT BEGIN COMMIT CREATE DROP END EXPLAIN FROM INSERT ROLLBACK SELECT START TABLE VALUES WITH")

_ROWS = (
    "Row-level changes are not supported yet. Write the rows to keep into a new table: "
    "CREATE TABLE name AS SELECT ..., or use the PyIceberg table of the same catalog."
)
_MAINTENANCE = "Maintenance is not supported yet. Use the PyIceberg table of the same catalog, or another engine."
_PRIVILEGES = "Users and privileges are kept by the catalog; use its own tools."
_PREPARED = "Pass the values with the statement: session.sql('SELECT ... WHERE id = ?', params=[1])."
_ARROW = "A result is Arrow: fetch it as a whole or in batches, and write it out with pyarrow."
_OPTIONS = "Options are given when the session is opened: icefusion.connect(...)."
_LOOK = "SELECT * FROM name LIMIT 0 gives a table's columns and types as the schema of its result."
_CATALOG = "The PyIceberg catalog of the session lists namespaces and tables: list_namespaces(), list_tables(...)."
_SAVEPOINT = "A transaction is committed or rolled back as a whole: COMMIT or ROLLBACK."
_VIEW = "Put the query into a WITH clause, or store its result: CREATE TABLE name AS SELECT ..."

_HINTS = {
    "ALTER": "Change the schema, the partitioning or the properties through the PyIceberg table of the same catalog: "
    "update_schema(), update_spec(), transaction().set_properties(...).",
    "ANALYZE": _MAINTENANCE,
    "ATTACH": "A session has one catalog; open another session for another one.",
    "CACHE": "Pass an Arrow table under a name: session.sql('SELECT * FROM rows', rows=table).",
    "CALL": _MAINTENANCE,
    "CLOSE": _ARROW,
    "COMMENT": "Comments are given in CREATE TABLE: COMMENT 'text'.",
    "COPY": _ARROW,
    "DEALLOCATE": _PREPARED,
    "DECLARE": _ARROW,
    "DELETE": _ROWS,
    "DENY": _PRIVILEGES,
    "DESC": _LOOK,
    "DESCRIBE": _LOOK,
    "DETACH": "A session has one catalog; open another session for another one.",
    "EXECUTE": _PREPARED,
    "EXPORT": _ARROW,
    "FETCH": _ARROW,
    "GRANT": _PRIVILEGES,
    "IMPORT": "Pass the data under a name: session.sql('INSERT INTO t SELECT * FROM rows', rows=dataset).",
    "INSTALL": "DataFusion's functions are built in; there are no extensions to load.",
    "KILL": "Interrupt the call from Python.",
    "LOAD": "Pass the data under a name: session.sql('INSERT INTO t SELECT * FROM rows', rows=dataset).",
    "LOCK": "Nothing is locked: a transaction checks at its COMMIT that what it read still holds.",
    "MERGE": _ROWS,
    "MSCK": "Iceberg tables list their files themselves; there is nothing to repair.",
    "OPTIMIZE": _MAINTENANCE,
    "PRAGMA": _OPTIONS,
    "PREPARE": _PREPARED,
    "REFRESH": "Each statement reads the newest state of a table; there is nothing to refresh.",
    "RELEASE": _SAVEPOINT,
    "RENAME": "Rename through the PyIceberg catalog of the session: rename_table(...).",
    "REPAIR": "Iceberg tables list their files themselves; there is nothing to repair.",
    "REPLACE": "INSERT INTO adds rows. " + _ROWS,
    "RESET": _OPTIONS,
    "REVOKE": _PRIVILEGES,
    "SAVEPOINT": _SAVEPOINT,
    "SET": _OPTIONS,
    "TRUNCATE": "Use DROP TABLE and CREATE TABLE, or delete() of the PyIceberg table of the same catalog.",
    "UNCACHE": "Nothing is cached by name; let go of the Arrow table that was passed.",
    "UPDATE": _ROWS,
    "UPSERT": _ROWS,
    "USE": "Name tables in full: namespace.table.",
    "VACUUM": _MAINTENANCE,
}

_SHOW_HINTS = {
    "ALL": _OPTIONS,
    "COLUMNS": _LOOK,
    "CREATE": _LOOK,
    "FUNCTIONS": "The functions are those of DataFusion; its documentation lists them.",
}

_CREATE_HINTS = {
    "CATALOG": "Catalogs are given when a session is opened: icefusion.connect(catalog=...).",
    "EXTERNAL": "CREATE TABLE makes an Iceberg table; pass other data under a name: session.sql(..., rows=dataset).",
    "FUNCTION": "Use DataFusion's functions in the query.",
    "INDEX": "Iceberg tables have no indexes; PARTITIONED BY and ORDER BY lay the rows out for fast reading.",
    "MATERIALIZED": _VIEW,
    "OR": "Drop the table first: DROP TABLE IF EXISTS name; or keep it: CREATE TABLE IF NOT EXISTS name ...",
    "ROLE": _PRIVILEGES,
    "SEQUENCE": "Number the rows in the query that inserts them, e.g. with row_number() OVER ().",
    "TEMP": "Pass an Arrow table under a name instead: session.sql('SELECT * FROM rows', rows=table).",
    "TEMPORARY": "Pass an Arrow table under a name instead: session.sql('SELECT * FROM rows', rows=table).",
    "TRANSIENT": "Every table is an Iceberg table; leave the word out.",
    "TYPE": "Write the struct<...> type where it is used.",
    "UNLOGGED": "Every table is an Iceberg table; leave the word out.",
    "USER": _PRIVILEGES,
    "VIEW": _VIEW,
}


def refuse_statement(cursor: Cursor) -> SQLError:
    """The error for a statement that begins with a word no statement here begins with."""
    token = cursor.token
    if token.key == "SHOW":
        return cursor.unsupported("SHOW is not supported yet", _SHOW_HINTS.get(cursor.ahead().key, _CATALOG))
    if token.key in _HINTS:
        return cursor.unsupported(f"{token.key} is not supported", _HINTS[token.key])
    if token.kind is not Kind.WORD:
        return cursor.unexpected("a statement")
    guess = nearest(token.key, [*sorted(_SUPPORTED), "SHOW", *_HINTS])
    hint = f"Did you mean {guess}?" if guess else None
    return cursor.error(f"No statement begins with {token.text}", hint=hint)


def refuse_create(cursor: Cursor) -> SQLError:
    """The error for a CREATE of something else, the cursor standing behind CREATE."""
    return _refuse_object(cursor, "CREATE", _CREATE_HINTS)


def refuse_drop(cursor: Cursor) -> SQLError:
    """The error for a DROP of something else, the cursor standing behind DROP."""
    hint = "Only tables and namespaces can be made, and so dropped."
    return _refuse_object(cursor, "DROP", dict.fromkeys((*_CREATE_HINTS, "COLUMN", "PARTITION"), hint))


def _refuse_object(cursor: Cursor, verb: str, hints: dict[str, str]) -> SQLError:
    token = cursor.token
    if token.key in hints:
        name = "OR REPLACE" if token.key == "OR" else token.key
        return cursor.unsupported(f"{verb} {name} is not supported", hints[token.key])
    hint = None
    known = ["TABLE", "NAMESPACE", "SCHEMA", "DATABASE", *hints]
    if token.kind is Kind.WORD and (guess := nearest(token.key, known)):
        hint = f"Did you mean {verb} {guess}?"
    return cursor.unexpected(f"TABLE, NAMESPACE, SCHEMA or DATABASE behind {verb}", hint=hint)
