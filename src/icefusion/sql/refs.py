"""Branches and tags in ALTER TABLE: CREATE, REPLACE and DROP, in the spelling of Spark's Iceberg."""

from __future__ import annotations

from dataclasses import replace

from icefusion.sql.alterations import DropRef, RefKind, SetRef
from icefusion.sql.cursor import Cursor
from icefusion.sql.lexer import Kind, read_string

__all__ = ["parse_create_ref", "parse_drop_ref", "parse_replace_ref"]

_MAX_SNAPSHOT_ID = 2**63 - 1
_MINUTE_MS = 60_000
_UNITS_MS = {"MINUTE": _MINUTE_MS, "HOUR": 60 * _MINUTE_MS, "DAY": 24 * 60 * _MINUTE_MS}
_UNITS_MS |= {f"{word}S": value for word, value in _UNITS_MS.items()}
_UNITS = ("DAYS", "HOURS", "MINUTES")


def parse_create_ref(cursor: Cursor) -> SetRef:
    """``CREATE [OR REPLACE] BRANCH | TAG ...``, the cursor standing behind CREATE.

    Raises:
        ParseError: it does not read as that.
    """
    replaces = cursor.accept("OR", "REPLACE")
    kind, offset = _parse_kind(cursor, "CREATE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if replaces and if_not_exists:
        raise cursor.error("OR REPLACE and IF NOT EXISTS exclude each other", hint="leave one of them out")
    return _parse_options(
        cursor,
        SetRef(
            kind,
            cursor.identifier(f"the name of a {kind}"),
            replace=replaces,
            if_not_exists=if_not_exists,
            offset=offset,
        ),
    )


def parse_replace_ref(cursor: Cursor) -> SetRef:
    """``REPLACE BRANCH | TAG ...``, the cursor standing behind REPLACE.

    Raises:
        ParseError: it does not read as that.
    """
    kind, offset = _parse_kind(cursor, "REPLACE")
    name = cursor.identifier(f"the name of a {kind}")
    return _parse_options(cursor, SetRef(kind, name, create=False, replace=True, offset=offset))


def parse_drop_ref(cursor: Cursor) -> DropRef:
    """``DROP BRANCH | TAG [IF EXISTS] name``, the cursor standing behind DROP.

    Raises:
        ParseError: it does not read as that.
    """
    kind, offset = _parse_kind(cursor, "DROP")
    if_exists = cursor.accept("IF", "EXISTS")
    return DropRef(kind, cursor.identifier(f"the name of a {kind}"), if_exists, offset)


def _parse_kind(cursor: Cursor, verb: str) -> tuple[RefKind, int]:
    if not cursor.at("BRANCH", "TAG"):
        raise cursor.unexpected(f"BRANCH or TAG behind {verb}", hint=cursor.guess(["BRANCH", "TAG"]))
    token = cursor.take()
    return "branch" if token.key == "BRANCH" else "tag", token.start


def _parse_options(cursor: Cursor, ref: SetRef) -> SetRef:
    """What may follow the name, in this order: the snapshot, how long the reference is kept, how long its snapshots."""
    if cursor.accept("AS", "OF"):
        if not cursor.accept("VERSION"):
            hint = "name the snapshot: AS OF VERSION 123" if cursor.at("TIMESTAMP") else cursor.guess(["VERSION"])
            raise cursor.unexpected("VERSION behind AS OF", hint=hint)
        ref = replace(ref, version=_parse_version(cursor))
    if cursor.accept("RETAIN"):
        ref = replace(ref, retain_ms=_parse_duration(cursor))
    if cursor.at("WITH"):
        if ref.kind == "tag":
            hint = "a tag keeps its one snapshot for as long as it is there: RETAIN 30 DAYS"
            raise cursor.error("a tag has no snapshots of its own to keep", hint=hint)
        ref = _parse_retention(cursor, ref)
    if cursor.token.kind is Kind.WORD:
        clauses = ["AS OF VERSION", "RETAIN"] + (["WITH SNAPSHOT RETENTION"] if ref.kind == "branch" else [])
        given = [ref.version is not None, ref.retain_ms is not None]
        open_clauses = clauses[2 if given[1] else 1 if given[0] else 0 :]
        expected = " or ".join([*open_clauses, "the end of the action"])
        raise cursor.unexpected(expected, hint=cursor.guess(clauses))
    return ref


def _parse_version(cursor: Cursor) -> int | str:
    token = cursor.token
    if (
        token.kind is Kind.NUMBER
        and token.text.isdecimal()
        and len(token.text) < 20
        and int(token.text) <= _MAX_SNAPSHOT_ID
    ):
        return int(cursor.take().text)
    if token.kind is Kind.STRING and (name := read_string(token)):
        cursor.take()
        return name
    raise cursor.unexpected("a snapshot id, or the name of a branch or tag as a string")


def _parse_retention(cursor: Cursor, ref: SetRef) -> SetRef:
    """``WITH SNAPSHOT RETENTION [n SNAPSHOTS] [n DAYS]``, of which one has to be there."""
    cursor.take()
    for word in ("SNAPSHOT", "RETENTION"):
        if not cursor.at(word):
            raise cursor.unexpected(
                f"{word}, as in WITH SNAPSHOT RETENTION 10 SNAPSHOTS 7 DAYS", hint=cursor.guess([word])
            )
        cursor.take()
    if cursor.token.kind is Kind.NUMBER and cursor.ahead().key in ("SNAPSHOT", "SNAPSHOTS"):
        begin = cursor.token
        count = cursor.integer("how many snapshots to keep")
        if not 1 <= count <= 2**31 - 1:
            raise cursor.error(f"expected at least 1 snapshot to keep, found {count}", token=begin)
        cursor.take()
        ref = replace(ref, min_snapshots_to_keep=count)
        if cursor.token.kind is not Kind.NUMBER:
            return ref
    return replace(ref, snapshot_retain_ms=_parse_duration(cursor, also=ref.min_snapshots_to_keep is None))


def _parse_duration(cursor: Cursor, *, also: bool = False) -> int:
    """Milliseconds; ``also`` says that a number of snapshots could stand here as well."""
    begin = cursor.token
    count = cursor.integer("a number of days, hours or minutes" + (", or of snapshots," if also else ""))
    unit = _UNITS_MS.get(cursor.token.key)
    if unit is None:
        units = (*_UNITS, "SNAPSHOTS") if also else _UNITS
        raise cursor.unexpected(f"{', '.join(units[:-1])} or {units[-1]}", hint=cursor.guess(units))
    cursor.take()
    if not 1 <= count * unit <= 2**63 - 1:
        raise cursor.error("expected at least 1 minute, and less than 2^63 milliseconds", token=begin)
    return count * unit
