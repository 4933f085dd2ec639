"""ALTER TABLE: its head and its actions, and COMMENT ON, which is one more way to write some of them.

Several actions are parted by commas, and so are the items of most actions: ``DROP COLUMN a, b, ADD COLUMN c int``. A
comma begins another action where one of the verbs stands behind it, and behind that something it could act on. A column
with the name of a verb is quoted there.

The spelling is that of Spark with Iceberg's extensions; what DuckDB, PostgreSQL and Trino write otherwise is taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from icefusion.errors import SQLError
from icefusion.sql.alterations import (
    AddPartitionField,
    Alteration,
    DropPartitionField,
    ReplacePartitionField,
    SetColumnComment,
    SetIdentifierFields,
    SetLocation,
    SetOrdering,
    SetProperties,
    UnsetProperties,
)
from icefusion.sql.column_actions import (
    parse_add_columns,
    parse_alter_columns,
    parse_drop_columns,
    parse_path,
    parse_rename_column,
)
from icefusion.sql.columns import parse_primary_key
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.namespaces import NAMESPACE_WORDS
from icefusion.sql.refs import parse_create_ref, parse_drop_ref, parse_replace_ref
from icefusion.sql.statements import AlterNamespace, AlterTable, Identifier, Name, RenameTable
from icefusion.sql.terms import (
    accept_comma,
    parse_property_keys,
    parse_settings,
    parse_sort_order,
    parse_transform,
)

__all__ = ["parse_alter_table", "parse_comment"]

_MODE = "write.distribution-mode"
_PROPERTIES = ("TBLPROPERTIES", "PROPERTIES")
_FOREIGN_ACTIONS = {
    "MODIFY": "write ALTER COLUMN a TYPE bigint, or another of its changes",
    "OWNER": "owners and privileges are kept by the catalog; use its own tools",
    "EXECUTE": "procedures are called: CALL system.rewrite_data_files(table => 'ns.t')",
    "CLUSTER": "write WRITE ORDERED BY a, b for the order of rows, and ADD PARTITION FIELD for their files",
    "RECOVER": "Iceberg tables list their files themselves; there is nothing to recover",
    "SWAP": "rename one table after the other, in a transaction",
    "EXCHANGE": "rename one table after the other, in a transaction",
    "ENABLE": "leave it out: there is nothing to switch on",
    "DISABLE": "leave it out: there is nothing to switch off",
    "VALIDATE": "leave it out: constraints other than NOT NULL are not kept",
    "CONVERT": "every table is an Iceberg table",
    "FORCE": "leave it out",
}


def parse_alter_table(cursor: Cursor) -> AlterTable | RenameTable:
    """The statement whose ALTER TABLE the cursor stands behind.

    Raises:
        ParseError: it does not read as ALTER TABLE.
        UnsupportedStatementError: an action that Iceberg tables have no place for.
    """
    if_exists = cursor.accept("IF", "EXISTS")
    if cursor.at("ONLY") and cursor.ahead().kind in (Kind.WORD, Kind.QUOTED) and cursor.ahead().key not in _ACTIONS:
        raise cursor.unsupported("ALTER TABLE ONLY is not supported", "tables do not inherit; leave ONLY out")
    name = cursor.name("the name of a table")
    if _at_rename(cursor):
        return _parse_rename(cursor, name, if_exists=if_exists)
    actions: list[Alteration] = []
    while True:
        actions += _parse_action(cursor)
        if not cursor.accept(","):
            break
        if _at_rename(cursor):
            hint = "rename it in a statement of its own"
            raise cursor.unsupported("RENAME TO cannot be one action among others", hint)
    cursor.expect_end()
    return AlterTable(name, tuple(actions), if_exists, cursor.sql)


def parse_comment(cursor: Cursor) -> AlterTable | AlterNamespace:
    """The statement whose COMMENT the cursor stands behind: ``ON TABLE | COLUMN | NAMESPACE name IS 'text' | NULL``.

    Of the name of a column all but the last part is the table.

    Raises:
        ParseError: it does not read as that.
        UnsupportedStatementError: the comment is on something else.
    """
    cursor.expect("ON")
    if not cursor.at("TABLE", "COLUMN", *NAMESPACE_WORDS):
        if cursor.at("VIEW", "INDEX", "FUNCTION", "MATERIALIZED"):
            raise cursor.unsupported(f"COMMENT ON {cursor.token.key} is not supported", "comment on a table or column")
        raise cursor.unexpected("TABLE, COLUMN or NAMESPACE", hint=cursor.guess(["TABLE", "COLUMN", *NAMESPACE_WORDS]))
    kind = cursor.take().key
    begin = cursor.token
    name = cursor.name(f"the name of a {'namespace' if kind in NAMESPACE_WORDS else kind.lower()}")
    if not cursor.accept("IS"):
        raise cursor.unexpected("IS and the comment")
    comment = None if cursor.accept("NULL") else cursor.string("the comment, or NULL,")
    cursor.expect_end()
    if kind == "COLUMN":
        if len(name.parts) < 2:
            raise cursor.error(f"column {name} needs its table in front", token=begin, hint=f"write ns.t.{name}")
        table = Name(name.parts[:-1], name.offset)
        return AlterTable(table, (SetColumnComment(name.parts[-1:], comment, begin.start),), sql=cursor.sql)
    given = () if comment is None else (("comment", comment),)
    if kind in NAMESPACE_WORDS:
        return AlterNamespace(name, given, () if given else ("comment",))
    return AlterTable(name, (SetProperties(given) if given else UnsetProperties(("comment",), if_exists=True),))


def _at_rename(cursor: Cursor) -> bool:
    return cursor.at_words("RENAME", "TO") and cursor.ahead(2).key != "TO"


def _parse_rename(cursor: Cursor, name: Name, *, if_exists: bool) -> RenameTable:
    cursor.index += 2
    new_name = cursor.name("the new name of the table")
    if cursor.at(","):
        raise cursor.unsupported("RENAME TO cannot be one action among others", "rename it in a statement of its own")
    cursor.expect_end()
    return RenameTable(name, new_name, if_exists)


def _parse_action(cursor: Cursor) -> Iterator[Alteration]:
    parse = _ACTIONS.get(cursor.token.key)
    if parse is None:
        raise _refuse_action(cursor)
    cursor.take()
    return parse(cursor)


def _parse_add(cursor: Cursor) -> Iterator[Alteration]:
    begin = cursor.token
    if cursor.at("PARTITION"):
        _expect_partition_field(cursor, "ADD")
        yield AddPartitionField(parse_transform(cursor))
    elif cursor.at_words("PRIMARY", "KEY") or (cursor.at("CONSTRAINT") and cursor.ahead(2).key == "PRIMARY"):
        yield SetIdentifierFields(parse_primary_key(cursor), offset=begin.start)
    else:
        yield from parse_add_columns(cursor)


def _parse_drop(cursor: Cursor) -> Iterator[Alteration]:
    begin = cursor.token
    if cursor.at("PARTITION"):
        _expect_partition_field(cursor, "DROP")
        yield DropPartitionField(parse_transform(cursor, named=False))
    elif cursor.accept("PRIMARY", "KEY"):
        yield SetIdentifierFields((), offset=begin.start)
    elif cursor.at("IDENTIFIER") and cursor.ahead().kind is Kind.WORD:
        yield SetIdentifierFields(_parse_identifier_fields(cursor), drop=True, offset=begin.start)
    elif cursor.at("BRANCH", "TAG") and cursor.ahead().kind in (Kind.WORD, Kind.QUOTED):
        yield parse_drop_ref(cursor)
    elif cursor.at("CONSTRAINT") and cursor.ahead().kind in (Kind.WORD, Kind.QUOTED):
        hint = "constraints have no names here; write DROP PRIMARY KEY, or ALTER COLUMN a DROP NOT NULL"
        raise cursor.unsupported("DROP CONSTRAINT is not supported", hint)
    else:
        yield from parse_drop_columns(cursor)


def _parse_replace(cursor: Cursor) -> Iterator[Alteration]:
    if cursor.at("PARTITION"):
        _expect_partition_field(cursor, "REPLACE")
        old = parse_transform(cursor, named=False)
        cursor.expect("WITH", "WITH and the new transform")
        yield ReplacePartitionField(old, parse_transform(cursor))
    elif cursor.at("COLUMN", "COLUMNS"):
        hint = "add, drop and alter columns one by one, or write CREATE OR REPLACE TABLE"
        raise cursor.unsupported("REPLACE COLUMNS is not supported", hint)
    elif not cursor.at("BRANCH", "TAG"):
        words = ("PARTITION FIELD", "BRANCH", "TAG")
        raise cursor.unexpected("PARTITION FIELD, BRANCH or TAG behind REPLACE", hint=cursor.guess(words))
    else:
        yield parse_replace_ref(cursor)


def _parse_create(cursor: Cursor) -> Iterator[Alteration]:
    yield parse_create_ref(cursor)


def _parse_rename_action(cursor: Cursor) -> Iterator[Alteration]:
    return parse_rename_column(cursor)


def _parse_alter(cursor: Cursor) -> Iterator[Alteration]:
    return parse_alter_columns(cursor, "ALTER")


def _parse_change(cursor: Cursor) -> Iterator[Alteration]:
    return parse_alter_columns(cursor, "CHANGE")


def _parse_set(cursor: Cursor) -> Iterator[Alteration]:
    begin = cursor.token
    if cursor.at(*_PROPERTIES, "("):
        if not cursor.at("("):
            cursor.take()
        yield from _parse_settings(cursor)
    elif cursor.accept("LOCATION"):
        cursor.accept("=")
        yield SetLocation(cursor.string("the location"))
    elif cursor.at("IDENTIFIER"):
        yield SetIdentifierFields(_parse_identifier_fields(cursor), offset=begin.start)
    elif cursor.at("PARTITIONED", "PARTITION"):
        hint = "add and drop partition fields one by one: ADD PARTITION FIELD day(ts)"
        raise cursor.unsupported(f"SET {begin.key} is not supported", hint)
    elif cursor.at("SORTED"):
        raise cursor.unsupported("SET SORTED BY is not supported", "write WRITE ORDERED BY a, b")
    else:
        choices = ("TBLPROPERTIES", "LOCATION", "IDENTIFIER FIELDS")
        raise cursor.unexpected(f"{', '.join(choices[:-1])} or {choices[-1]} behind SET", hint=cursor.guess(choices))


def _parse_settings(cursor: Cursor) -> Iterator[Alteration]:
    """Properties; the value DEFAULT takes one away, as in Trino."""
    given = parse_settings(cursor)
    values = tuple((key, value) for key, value in given if value is not None)
    defaults = tuple(key for key, value in given if value is None)
    if values:
        yield SetProperties(values)
    if defaults:
        yield UnsetProperties(defaults, if_exists=True)


def _parse_unset(cursor: Cursor) -> Iterator[Alteration]:
    if not cursor.at(*_PROPERTIES):
        raise cursor.unexpected("TBLPROPERTIES behind UNSET", hint=cursor.guess(_PROPERTIES))
    cursor.take()
    if_exists = cursor.accept("IF", "EXISTS")
    yield UnsetProperties(parse_property_keys(cursor), if_exists)


def _parse_reset(cursor: Cursor) -> Iterator[Alteration]:
    yield UnsetProperties(parse_property_keys(cursor), if_exists=True)


def _parse_write(cursor: Cursor) -> Iterator[Alteration]:
    """``WRITE``: how rows are brought together, and in which order they are written.

    As Spark's Iceberg has it, the order that is not given is taken away, and the property says how rows are brought
    together: by partition (hash), by the order (range), not at all (none); LOCALLY ORDERED leaves it as it is.
    """
    mode: str | None = None
    ordering: SetOrdering | None = None
    begin = cursor.token
    while cursor.at("DISTRIBUTED", "ORDERED", "LOCALLY", "UNORDERED"):
        word = cursor.token
        if cursor.accept("DISTRIBUTED"):
            if mode == "hash":
                raise cursor.error("DISTRIBUTED BY is given twice", token=word)
            cursor.expect("BY")
            if not cursor.accept("PARTITION"):
                raise cursor.unexpected("PARTITION behind DISTRIBUTED BY", hint=cursor.guess(["PARTITION"]))
            mode = "hash"
            continue
        if ordering is not None:
            raise cursor.error("the order of rows is given twice", token=word)
        cursor.take()
        if word.key == "UNORDERED":
            mode, ordering = mode or "none", SetOrdering()
            continue
        if word.key == "LOCALLY":
            cursor.expect("ORDERED")
        cursor.expect("BY")
        ordering = SetOrdering(parse_sort_order(cursor))
        mode = mode or (None if word.key == "LOCALLY" else "range")
    if cursor.token is begin:
        choices = ("ORDERED BY", "LOCALLY ORDERED BY", "UNORDERED", "DISTRIBUTED BY PARTITION")
        raise cursor.unexpected(f"{', '.join(choices[:-1])} or {choices[-1]}", hint=cursor.guess(choices))
    yield ordering or SetOrdering()
    if mode is not None:
        yield SetProperties(((_MODE, mode),))


def _parse_identifier_fields(cursor: Cursor) -> tuple[tuple[Identifier, ...], ...]:
    """``IDENTIFIER FIELDS a, b.c``."""
    cursor.take()
    if not cursor.accept("FIELDS"):
        raise cursor.unexpected("FIELDS behind IDENTIFIER", hint=cursor.guess(["FIELDS"]))
    in_parentheses = cursor.accept("(")
    columns = [parse_path(cursor)]
    while cursor.accept(",") if in_parentheses else accept_comma(cursor):
        columns.append(parse_path(cursor))
    if in_parentheses:
        cursor.expect(")", "',' or ')'")
    return tuple(columns)


def _expect_partition_field(cursor: Cursor, verb: str) -> None:
    cursor.take()
    if cursor.accept("FIELD"):
        return
    if cursor.at("(", "IF") and verb != "REPLACE":
        hint = "partitions come and go with their rows: "
        hint += "INSERT INTO t ..." if verb == "ADD" else "DELETE FROM t WHERE ..."
        raise cursor.unsupported(f"{verb} PARTITION is not supported", hint)
    hint = cursor.guess(["FIELD"]) or f"write {verb} PARTITION FIELD day(ts); a column of that name is quoted"
    raise cursor.unexpected(f"FIELD behind {verb} PARTITION", hint=hint)


def _refuse_action(cursor: Cursor) -> SQLError:
    token = cursor.token
    if token.key in _FOREIGN_ACTIONS:
        return cursor.unsupported(f"ALTER TABLE ... {token.key} is not supported", _FOREIGN_ACTIONS[token.key])
    words = [word for word in _ACTIONS if word not in ("CHANGE", "RESET")]
    hint = cursor.guess([*_ACTIONS, *_FOREIGN_ACTIONS])
    return cursor.unexpected(f"an action: {', '.join(words[:-1])} or {words[-1]}", hint=hint)


_ACTIONS: dict[str, Callable[[Cursor], Iterator[Alteration]]] = {
    "ADD": _parse_add,
    "DROP": _parse_drop,
    "RENAME": _parse_rename_action,
    "ALTER": _parse_alter,
    "CHANGE": _parse_change,
    "SET": _parse_set,
    "UNSET": _parse_unset,
    "RESET": _parse_reset,
    "WRITE": _parse_write,
    "CREATE": _parse_create,
    "REPLACE": _parse_replace,
}
