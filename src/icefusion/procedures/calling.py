"""CALL: find the procedure, bind its arguments, carry it out in a transaction, and answer with its rows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa

from icefusion.bridge.manifests import ManifestReader
from icefusion.changes.execute import Given
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import catalogs_of
from icefusion.errors import BindError, UnsupportedStatementError
from icefusion.naming import nearest
from icefusion.procedures.adding import PROCEDURES as ADDING
from icefusion.procedures.moving import PROCEDURES as MOVING
from icefusion.procedures.picking import PROCEDURES as PICKING
from icefusion.procedures.registering import PROCEDURES as REGISTERING
from icefusion.procedures.signatures import NEW_SNAPSHOT, Calling, Procedure, bind_arguments
from icefusion.query.constants import constant
from icefusion.query.engine import Engine
from icefusion.query.parameters import bind_values
from icefusion.reports import Reporter, StatementReport, tell
from icefusion.result import Result
from icefusion.sql.statements import Call, parameters_of
from icefusion.transaction import TransactionState

__all__ = ["ProcedureExecutor"]

_SYSTEM = "system"
_PROCEDURES = {each.name: each for each in (*ADDING, *MOVING, *PICKING, *REGISTERING)}
_MAINTENANCE = (
    "expire_snapshots",
    "remove_orphan_files",
    "rewrite_data_files",
    "rewrite_manifests",
    "rewrite_position_delete_files",
)
_MAINTENANCE_HINT = (
    "maintenance is not there yet; the PyIceberg table can expire snapshots, "
    "session.catalog.load_table('namespace.table').maintenance.expire_snapshots()"
)


class ProcedureExecutor:
    """The procedures of one session.

    Args:
        client: The catalog.
        engine: Computes arguments.
        reader: Reads manifests.
        reporter: Told of each call.
    """

    def __init__(
        self, client: CatalogClient, engine: Engine, reader: ManifestReader, reporter: Reporter | None
    ) -> None:
        self._client = client
        self._engine = engine
        self._reader = reader
        self._reporter = reporter

    def run(self, call: Call, given: Given, state: TransactionState, *, alone: bool) -> Result:
        """Carry out a call, and stage what it did.

        Args:
            call: The statement.
            given: What came with it.
            state: The transaction.
            alone: Whether the transaction is only there for this statement.

        Raises:
            SQLError: There is no such procedure, or its arguments are wrong.
            SchemaError: The table does not allow it.
            TransactionError: It cannot be part of the transaction.
        """
        began = time.perf_counter()
        procedure = self._find(call)
        values = bind_values(parameters_of(call), given.parameters)
        arguments = bind_arguments(call, procedure, lambda value: constant(self._engine, value, values))
        calling = Calling(self._client, state, self._reader, arguments, alone, self._catalog(call))
        try:
            rows = list(procedure.run(calling))
        except BindError as error:
            if error.line is not None:
                raise
            raise _placed(error, call) from error
        report = StatementReport(f"CALL {procedure.name}", seconds=time.perf_counter() - began)
        tell(self._reporter, report)

        def batches() -> Iterator[pa.RecordBatch]:
            filled = [tuple(result.snapshot_id if v is NEW_SNAPSHOT else v for v in row) for row in rows]
            columns = [list(column) for column in zip(*filled, strict=True)] or [[] for _ in procedure.columns]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, procedure.columns, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=procedure.columns)

        result = Result(procedure.columns, batches, report=report)  # of which the commit tells the snapshot
        if state.landed:
            result.already_landed = True
            result.snapshot_id = next(iter(state.landed.values())).snapshot_id
        return result

    def _catalog(self, call: Call) -> str | None:
        """The catalog that a call names: it is about tables of that one."""
        first = call.name.parts[0].text
        known = [client.name for client in catalogs_of(self._client)] if len(call.name.parts) > 2 else []
        return next((name for name in known if name.casefold() == first.casefold()), None)

    def _find(self, call: Call) -> Procedure:
        parts = [part.text.casefold() for part in call.name.parts]
        if self._catalog(call) is not None:
            parts = parts[1:]
        if parts[:-1] not in ([_SYSTEM], []):
            hint = f"procedures stand in system: CALL system.{parts[-1]}(...)"
            raise _placed(BindError(f"there is no procedure {call.name}", hint=hint), call)
        found = _PROCEDURES.get(parts[-1])
        if found is None:
            if parts[-1] in _MAINTENANCE:
                raise UnsupportedStatementError(f"there is no procedure {call.name} yet", hint=_MAINTENANCE_HINT)
            near = nearest(parts[-1], _PROCEDURES)
            hint = f"did you mean system.{near}?" if near else f"there are {', '.join(sorted(_PROCEDURES))}"
            raise _placed(BindError(f"there is no procedure {call.name}", hint=hint), call)
        return found


def _placed(error: BindError, call: Call) -> BindError:
    """The error with its place, where the text of the call is known: by an argument."""
    sql = next((argument.value.sql for argument in call.arguments if argument.value.sql), None)
    return BindError(error.message, sql=sql, offset=None if sql is None else call.name.offset, hint=error.hint)
