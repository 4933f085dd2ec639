"""Several statements in one text: which parameters are whose, and what an idempotency key stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icefusion.errors import BindError, ConfigurationError, TransactionError
from icefusion.query.parameters import Parameters
from icefusion.sql import statements as st

__all__ = ["check_keyed", "distribute"]


_ADDING = ("add_files",)


def distribute(script: Sequence[st.Statement], params: Parameters) -> list[tuple[st.Statement, Parameters]]:
    """Each statement with the parameters that are its own.

    Named values go to every statement that uses them. Values by position can belong to one statement only.
    """
    wanted = [_parameters(statement) for statement in script]
    users = sum(bool(names) for names in wanted)
    if params is None or len(script) == 1:
        return [(statement, params) for statement in script]
    if isinstance(params, Mapping):
        unused = sorted(set(params) - {name for names in wanted for name in names})
        if unused:
            raise BindError(f"no statement has a parameter ${unused[0]}")
        return [
            (statement, {name: params[name] for name in names if name in params})
            for statement, names in zip(script, wanted, strict=True)
        ]
    if users > 1:
        raise BindError(
            f"{users} statements of the script have parameters by position",
            hint="name them: $id with params={'id': ...}",
        )
    return [(statement, params if names else None) for statement, names in zip(script, wanted, strict=True)]


def _parameters(statement: st.Statement) -> tuple[str, ...]:
    match statement:
        case st.Query():
            return statement.parameters
        case st.Insert() | st.Delete() | st.Truncate() | st.Update() | st.Merge() | st.Call():
            return st.parameters_of(statement)
        case st.Explain():
            return st.parameters_of(statement.change)
        case st.CreateTable() if statement.query is not None:
            return statement.query.parameters
    return ()


def _writes_rows(statement: st.Statement) -> bool:
    match statement:
        case st.CreateTable(query=query):
            return query is not None
        case st.Call(name=name):
            return name.parts[-1].text.casefold() in _ADDING
    return isinstance(statement, st.Change)


def check_keyed(script: Sequence[st.Statement], *, in_transaction: bool) -> None:
    """An idempotency key stands for one write, which commits by itself.

    Raises:
        ConfigurationError: The script writes nothing, or more than once.
        TransactionError: A transaction is open, which lands as a whole.
    """
    writes = sum(map(_writes_rows, script))
    if writes != 1:
        raise ConfigurationError(
            f"idempotency_key: expected a text with one statement that writes rows, found {writes}",
            hint="for several statements use session.transaction(idempotency_key=...)",
        )
    if in_transaction:
        raise TransactionError(
            "idempotency_key: a transaction is open, which lands as a whole",
            hint="give the key to session.transaction(idempotency_key=...)",
        )
