"""CREATE, ALTER and DROP NAMESPACE."""

from __future__ import annotations

from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind
from icefusion.sql.statements import AlterNamespace, CreateNamespace, DropNamespace
from icefusion.sql.terms import parse_properties, parse_property_keys

__all__ = ["NAMESPACE_WORDS", "parse_alter_namespace", "parse_create_namespace", "parse_drop_namespace"]

NAMESPACE_WORDS = ("NAMESPACE", "SCHEMA", "DATABASE")

_PROPERTIES = ("PROPERTIES", "DBPROPERTIES")
_NAME = "the name of a namespace"


def parse_create_namespace(cursor: Cursor) -> CreateNamespace:
    """The statement whose CREATE NAMESPACE the cursor stands behind. Its clauses come in any order, each once.

    Raises:
        ParseError: it does not read as CREATE NAMESPACE, or a property is given twice.
        UnsupportedStatementError: a clause of another dialect.
    """
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.name(_NAME)
    properties: dict[str, str] = {}
    while cursor.token.kind is not Kind.END:
        begin = cursor.token
        if cursor.at("COMMENT", "LOCATION"):
            word = cursor.take().key.lower()
            cursor.accept("=")
            given = {word: cursor.string(f"the {word}")}
        elif cursor.at("WITH", *_PROPERTIES):
            cursor.accept("WITH")
            if cursor.at(*_PROPERTIES):
                cursor.take()
            given = dict(parse_properties(cursor))
        elif cursor.at("AUTHORIZATION", "MANAGED"):
            hint = "leave the clause out; an owner can be kept as a property: WITH PROPERTIES (owner = 'ops')"
            raise cursor.unsupported(f"CREATE NAMESPACE ... {begin.key} is not supported", hint)
        else:
            cursor.expect_end(clauses=("COMMENT", "LOCATION", "WITH PROPERTIES"))
        if repeated := [key for key in given if key in properties]:
            raise cursor.error(f"property {repeated[0]} is given twice", token=begin)
        properties |= given
    return CreateNamespace(name, if_not_exists, tuple(properties.items()))


def parse_alter_namespace(cursor: Cursor) -> AlterNamespace:
    """The statement whose ALTER NAMESPACE the cursor stands behind.

    Raises:
        ParseError: it does not read as ALTER NAMESPACE.
        UnsupportedStatementError: something else than its properties is to change.
    """
    name = cursor.name(_NAME)
    if cursor.accept("SET", "LOCATION"):
        cursor.accept("=")
        statement = AlterNamespace(name, (("location", cursor.string("the location")),))
    elif cursor.at("SET") and cursor.ahead().key in (*_PROPERTIES, "("):
        cursor.take()
        if not cursor.at("("):
            cursor.take()
        statement = AlterNamespace(name, parse_properties(cursor))
    elif cursor.at("UNSET") and cursor.ahead().key in _PROPERTIES:
        cursor.index += 2
        cursor.accept("IF", "EXISTS")
        statement = AlterNamespace(name, unset_properties=parse_property_keys(cursor))
    else:
        raise _refuse_action(cursor)
    cursor.expect_end()
    return statement


def parse_drop_namespace(cursor: Cursor) -> DropNamespace:
    """The statement whose DROP NAMESPACE the cursor stands behind.

    Raises:
        ParseError: it does not read as DROP NAMESPACE.
        UnsupportedStatementError: ``CASCADE``, or several at once.
    """
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name(_NAME)
    restrict = cursor.accept("RESTRICT")
    cursor.refuse_more_to_drop("drop the tables in the namespace first, with DROP TABLE")
    cursor.expect_end(clauses=() if restrict else ("RESTRICT",))
    return DropNamespace(name, if_exists)


def _refuse_action(cursor: Cursor) -> Exception:
    if cursor.at("RENAME"):
        hint = "create another namespace, and move its tables there: ALTER TABLE a.t RENAME TO b.t"
        return cursor.unsupported("a namespace cannot be renamed", hint)
    if cursor.at_words("SET", "OWNER") or cursor.at("OWNER") or cursor.at_words("SET", "AUTHORIZATION"):
        return cursor.unsupported(
            "a namespace has no owner here", "keep it as a property: SET PROPERTIES (owner = 'ops')"
        )
    expected = "SET PROPERTIES, UNSET PROPERTIES or SET LOCATION"
    if cursor.at("SET", "UNSET"):
        cursor.take()
        return cursor.unexpected(f"PROPERTIES, in {expected}", hint=cursor.guess([*_PROPERTIES, "LOCATION"]))
    return cursor.unexpected(expected, hint=cursor.guess(["SET", "UNSET"]))
