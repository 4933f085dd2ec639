"""What in a statement would reach files or places in storage, for sessions in which SQL must not.

Tables that the catalog lists are read and written all the same: where they lie is for the catalog to say.
"""

from __future__ import annotations

from collections.abc import Iterable

from icefusion.errors import UnsupportedStatementError
from icefusion.sql.alterations import SetLocation, SetProperties
from icefusion.sql.definitions import AlterNamespace, AlterTable, CreateNamespace, CreateTable
from icefusion.sql.statements import Attach, Call, Fragment, Statement, TableReference

__all__ = ["refused_call", "refused_file"]

_HINT = "it was opened with allow_files=False"
_PLACES = frozenset(
    ["location", "write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"]
)
_PROCEDURES = frozenset(["add_files", "register_table", "migrate", "snapshot"])


def refused_call(fragment: Fragment, reference: TableReference) -> UnsupportedStatementError:
    """The error for a function over files."""
    assert reference.function is not None  # it is about these
    return UnsupportedStatementError(
        f"this session does not read files, and {reference.function.called} would",
        sql=fragment.sql or None,
        offset=reference.name.offset,
        hint=f"{_HINT}; pass the data by name",
    )


def refused_file(statement: Statement) -> UnsupportedStatementError | None:
    """The error for a statement that says where something lies; None where it does not."""
    what: str | None
    match statement:
        case CreateTable(location=str()):
            what = "LOCATION"
        case CreateTable(properties=given) | CreateNamespace(properties=given) | AlterNamespace(set_properties=given):
            what = _place_in(given)
        case AlterTable(actions=actions):
            what = "SET LOCATION" if any(isinstance(action, SetLocation) for action in actions) else None
            for action in actions:
                if isinstance(action, SetProperties):
                    what = what or _place_in(action.properties)
        case Attach():
            what = "ATTACH"
        case Call(name=name) if name.parts[-1].text.lower() in _PROCEDURES:
            what = f"CALL {name}"
        case _:
            return None
    if what is None:
        return None
    return UnsupportedStatementError(f"this session does not let SQL say where files are, as {what} does", hint=_HINT)


def _place_in(properties: Iterable[tuple[str, str]]) -> str | None:
    return next((f"property {key}" for key, _ in properties if key.lower() in _PLACES), None)
