"""What a procedure is called with, and what it answers: parameters, bound to the arguments of a CALL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from icefusion.bridge.manifests import ManifestReader
from icefusion.commit.catalog import CatalogClient
from icefusion.errors import BindError
from icefusion.naming import nearest
from icefusion.pinned import PinnedTable
from icefusion.query.travel import read_time
from icefusion.sql.basics import Identifier, Name
from icefusion.sql.names import parse_name
from icefusion.sql.statements import Argument, Call, Fragment
from icefusion.transaction import TransactionState

__all__ = ["NEW_SNAPSHOT", "Calling", "Kind", "Parameter", "Procedure", "bind_arguments"]

Kind = Literal["table", "text", "texts", "snapshot", "time", "flag", "values"]

NEW_SNAPSHOT = object()
"""Stands in a result for the snapshot that the procedure makes, whose id only the commit can tell."""

_EXPECTED = {
    "table": "the name of a table, as text: 'namespace.table'",
    "text": "a text",
    "texts": "a text or a list of texts",
    "snapshot": "a snapshot id, a whole number",
    "time": "a time",
    "flag": "true or false",
    "values": "values by name, as in map(['year'], [2024])",
}


@dataclass(frozen=True)
class Calling:
    """What a procedure works with.

    Attributes:
        client: The catalog.
        state: The transaction.
        reader: Reads manifests.
        arguments: Values by parameter; those that were left out are None.
        alone: Whether the transaction is only there for this call.
        catalog: The catalog that the call names, for names of tables that do not.
    """

    client: CatalogClient
    state: TransactionState
    reader: ManifestReader
    arguments: Mapping[str, Any]
    alone: bool
    catalog: str | None = None

    @property
    def name(self) -> Name:
        """The name in the argument ``table``."""
        name = parse_name(self.arguments["table"])
        if self.catalog is None or len(name.parts) > 2:
            return name
        return Name((Identifier(self.catalog, True), *name.parts), name.offset)

    def has_landed(self, pinned: PinnedTable) -> bool:
        """Whether the transaction's idempotency key has landed before, so that nothing is to be written."""
        return self.state.find_landed(pinned) is not None

    def table(self) -> PinnedTable:
        """The table that the argument ``table`` names, whose main branch procedures are about.

        Raises:
            TableNotFoundError: There is no such table.
            BindError: It is a branch.
        """
        pinned = self.state.pin_main(self.name)
        if pinned.ref != "main":
            raise BindError(
                f"table: {pinned.name} is a branch", hint=f"name the table: '{'.'.join(pinned.handle.identifier)}'"
            )
        return pinned


@dataclass(frozen=True)
class Parameter:
    """One parameter of a procedure."""

    name: str
    kind: Kind
    required: bool = True


@dataclass(frozen=True)
class Procedure:
    """One procedure.

    Attributes:
        name: Its name, without ``system``.
        parameters: In the order in which arguments without a name go to them.
        columns: The columns of its result.
        run: Carries it out; the rows of its result.
    """

    name: str
    parameters: tuple[Parameter, ...]
    columns: pa.Schema
    run: Callable[[Calling], Iterable[tuple[Any, ...]]]

    @property
    def signature(self) -> str:
        """How it is called, for hints."""
        shown = (each.name if each.required else f"[{each.name}]" for each in self.parameters)
        return f"CALL system.{self.name}({', '.join(shown)})"


def bind_arguments(call: Call, procedure: Procedure, value_of: Callable[[Fragment], pa.Scalar]) -> dict[str, Any]:
    """The arguments of a call by parameter, None for those that are left out.

    Raises:
        BindError: An argument is missing, is one too many, is of no parameter, or of the wrong type.
    """
    values: dict[str, Any] = {parameter.name: None for parameter in procedure.parameters}
    for position, argument in enumerate(call.arguments):
        parameter = _parameter(argument, position, procedure)
        if values[parameter.name] is not None:
            raise _wrong(argument, f"argument {parameter.name} is given twice", f"write {procedure.signature}")
        values[parameter.name] = _value(argument, parameter, value_of(argument.value))
    missing = [each.name for each in procedure.parameters if each.required and values[each.name] is None]
    if missing:
        sql = next((argument.value.sql for argument in call.arguments), None)
        raise BindError(
            f"system.{procedure.name} needs {' and '.join(missing)}",
            sql=sql or None,
            offset=call.name.offset if sql else None,
            hint=f"write {procedure.signature}",
        )
    return values


def _parameter(argument: Argument, position: int, procedure: Procedure) -> Parameter:
    parameters: Sequence[Parameter] = procedure.parameters
    if argument.name is None:
        if position >= len(parameters):
            text = f"system.{procedure.name} takes {len(parameters)} arguments"
            raise _wrong(argument, text, f"write {procedure.signature}")
        return parameters[position]
    for parameter in parameters:
        if parameter.name.casefold() == argument.name.text.casefold():
            return parameter
    near = nearest(argument.name.text, [each.name for each in parameters])
    raise _wrong(
        argument,
        f"system.{procedure.name} has no parameter {argument.name}",
        f"did you mean {near}?" if near else f"write {procedure.signature}",
    )


def _value(argument: Argument, parameter: Parameter, value: pa.Scalar) -> Any:
    found = value.as_py() if parameter.kind != "time" else value
    if found is None or (parameter.kind == "time" and not value.is_valid):
        raise _wrong(argument, f"{parameter.name}: expected {_EXPECTED[parameter.kind]}, found NULL")
    match parameter.kind:
        case "time":
            try:
                return read_time(value).timestamp_ms
            except BindError as error:
                raise _wrong(argument, f"{parameter.name}: {error.message}", error.hint) from error
        case "snapshot":
            fits = isinstance(found, int) and not isinstance(found, bool)
        case "flag":
            fits = isinstance(found, bool)
        case "texts":
            found = [found] if isinstance(found, str) else found
            fits = isinstance(found, list) and bool(found) and all(isinstance(each, str) and each for each in found)
        case "values":
            found = dict(found) if pa.types.is_map(value.type) else found
            fits = isinstance(found, dict)
        case _:
            fits = isinstance(found, str) and bool(found)
    if not fits:
        raise _wrong(argument, f"{parameter.name}: expected {_EXPECTED[parameter.kind]}, found {found!r}")
    return found


def _wrong(argument: Argument, message: str, hint: str | None = None) -> BindError:
    sql = argument.value.sql
    return BindError(message, sql=sql or None, offset=argument.offset if sql else None, hint=hint)
