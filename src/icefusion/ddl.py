"""Statements that say which tables and namespaces there are, and how tables are made.

What is done to one table is staged in a transaction like rows are, and commits with them: a table that a statement
makes is there for the statements after it and for nobody else, an altered one shows its new columns. So are namespaces
on SQL catalogs. What other catalogs can only do at once stands outside of transactions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.sorting import SortOrder
from pyiceberg.types import DoubleType, FloatType, NestedField, StructType

from icefusion.bridge.align import Alignment
from icefusion.bridge.evolution import alter
from icefusion.bridge.partition import build_sort_order, build_spec
from icefusion.bridge.schema import arrow_to_iceberg, type_name
from icefusion.bridge.types_sql import build_schema
from icefusion.changes.execute import Given, landed_result
from icefusion.changes.staging import RowChange
from icefusion.commit.catalog import CatalogClient
from icefusion.commit.catalogs import catalogs_of, owner_of
from icefusion.commit.cleanup import delete_files
from icefusion.commit.handles import TableHandle
from icefusion.commit.idempotency import PROPERTY as KEYS_PROPERTY
from icefusion.commit.idempotency import find_landed
from icefusion.commit.operations import Definition, Replacement
from icefusion.errors import (
    BindError,
    NamespaceExistsError,
    NamespaceNotFoundError,
    SchemaError,
    TableExistsError,
    TableNotFoundError,
    TransactionError,
    UnsupportedStatementError,
)
from icefusion.execution import Executor
from icefusion.namespaces import namespace_exists
from icefusion.naming import find_name, quote_identifier
from icefusion.pinned import PinnedTable
from icefusion.query.engine import Engine, PlannedQuery
from icefusion.query.scan import TableView
from icefusion.reports import RowCounts, StatementReport
from icefusion.result import Result
from icefusion.sql import statements as st
from icefusion.sql.alterations import Alteration, DropRef, SetRef, SetRequired
from icefusion.sql.basics import Identifier, Name
from icefusion.sql.compose import compose, table_piece
from icefusion.transaction import TransactionState
from icefusion.write.executor import WriteResult

__all__ = ["DefinitionExecutor"]

DEFAULT_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
}
_CHECKED = "?checked?"


class DefinitionExecutor:
    """The definitions of one session.

    Args:
        client: The catalog.
        engine: Asks whether rows fit what is to become of their table.
        executor: Runs and writes queries.
    """

    def __init__(self, client: CatalogClient, engine: Engine, executor: Executor) -> None:
        self._client = client
        self._engine = engine
        self._executor = executor

    def run(self, statement: st.TableDefinition, given: Given, state: TransactionState, *, alone: bool) -> Result:
        """Carry out a statement about one table, and stage what it did.

        Args:
            statement: The statement.
            given: What came with it.
            state: The transaction.
            alone: Whether the transaction is only there for this statement.

        Raises:
            SQLError: A name stands for nothing, or the statement cannot be carried out.
            SchemaError: The table cannot be made like that.
            TableExistsError: It is there already.
            TransactionError: It cannot be committed together with what the transaction did before.
        """
        began = time.perf_counter()
        match statement:
            case st.CreateTable():
                return self._create(statement, given, state, began)
            case st.AlterTable():
                self._alter(statement, state)
                return self._done("ALTER TABLE", began)
            case st.RenameTable():
                self._rename(statement, state, alone=alone)
                return self._done("ALTER TABLE", began)
            case st.DropTable():
                self._drop(statement, state, alone=alone)
                return self._done("DROP TABLE", began)

    def run_namespace(self, statement: st.NamespaceDefinition, state: TransactionState | None = None) -> Result:
        """Carry out a statement about a namespace, at once or with the rest of a transaction.

        Args:
            statement: The statement.
            state: The transaction; None where the statement stands alone.

        Raises:
            NamespaceExistsError: It is there already.
            NamespaceNotFoundError: There is none of this name.
            NamespaceNotEmptyError: It holds tables and cannot be dropped.
            TransactionError: It cannot be committed together with what the transaction did before.
        """
        began = time.perf_counter()
        if state is not None:
            state.define_namespace(statement)
        match statement:
            case st.CreateNamespace():
                if state is None:
                    self._create_namespace(statement)
                return self._done("CREATE NAMESPACE", began)
            case st.AlterNamespace():
                if state is None:
                    self._client.alter_namespace(
                        self._client.split_namespace(statement.name),
                        dict(statement.set_properties),
                        statement.unset_properties,
                    )
                return self._done("ALTER NAMESPACE", began)
            case st.DropNamespace():
                if state is None:
                    self._drop_namespace(statement)
                return self._done("DROP NAMESPACE", began)

    # Making tables

    def _create(self, statement: st.CreateTable, given: Given, state: TransactionState, began: float) -> Result:
        """Make a table, or make one anew, with the rows of a query where there is one."""
        kind = ("REPLACE TABLE" if statement.replace else "CREATE TABLE") + (" AS" if statement.query else "")
        existing = state.find_main(statement.name)
        if existing is not None:
            _require_main(existing, kind)
            landed = find_landed(existing.handle.metadata, state.idempotency_key)
            if landed is not None:
                state.landed[existing.handle.name] = landed
                return landed_result(kind, landed, began)
            if statement.if_not_exists:
                return self._done(kind, began)
            if not statement.replace:
                raise TableExistsError(
                    f"table {existing.handle.name} exists already",
                    hint="write CREATE TABLE IF NOT EXISTS to leave it as it is, or CREATE OR REPLACE TABLE",
                )
            _require_definable(existing)
        elif statement.must_exist:
            raise TableNotFoundError(
                f"table {statement.name} does not exist, and REPLACE TABLE replaces one that does",
                hint="write CREATE OR REPLACE TABLE",
            )
        planned = None
        if statement.query is not None:
            planned = self._executor.plan(statement.query, given, state, for_write=True)
        design = self._design(statement, state, planned.schema if planned is not None else None)
        definition = Definition(design)
        staged = None
        if existing is None:
            identifier, made = state.place_for(statement.name)
            staged = self._client.stage_table(
                identifier,
                design.schema,
                spec=design.spec,
                sort_order=design.sort_order,
                properties=design.properties,
                location=design.location,
                namespace=made,
            )
            handle = staged.handle
        else:
            handle = state.defined(existing, definition)
        written = self._write(handle, planned, given) if planned is not None else None
        rows = RowCounts(inserted=written.report.rows if written is not None else 0)
        change = RowChange(written.files, rows=rows) if written is not None else None
        try:
            if staged is not None:
                state.create(staged, change)
            elif existing is not None:
                state.stage_definition(existing, definition, change)
        except BaseException:
            delete_files(handle.io, [file.file_path for file in (written.files if written is not None else ())])
            raise
        report = StatementReport(
            kind,
            seconds=time.perf_counter() - began,
            scans=planned.scans if planned is not None else (),
            writes=(written.report,) if written is not None else (),
            rows=rows,
        )
        self._executor.tell(report, *report.scans, *report.writes)
        return Result.of_change(report) if written is not None else Result.of_nothing(report)

    def _write(self, handle: TableHandle, planned: PlannedQuery, given: Given) -> WriteResult:
        alignment = Alignment.plan(
            planned.schema, handle.metadata.schema(), columns=None, by="position", table=handle.name
        )
        return self._executor.write(handle, planned.streams(), alignment.apply, given.progress)

    def _design(
        self, statement: st.CreateTable, state: TransactionState, query_schema: pa.Schema | None
    ) -> Replacement:
        """What the table is to be: by its columns, by a query's, or by another table."""
        properties = {**DEFAULT_PROPERTIES, **dict(statement.properties)}
        spec: PartitionSpec | None = None
        sort_order: SortOrder | None = None
        if statement.like is not None:
            model = state.pin_main(statement.like).handle.metadata
            schema, spec, sort_order = model.schema(), model.spec(), model.sort_order()
            properties = {**DEFAULT_PROPERTIES, **_copied(model.properties), **dict(statement.properties)}
        elif query_schema is not None:
            schema = arrow_to_iceberg(query_schema)
        else:
            schema = build_schema(statement.columns)
        if statement.comment is not None:
            properties["comment"] = statement.comment
        version = properties["format-version"]
        if version not in ("1", "2"):
            raise UnsupportedStatementError(
                f"format-version {version} cannot be written", hint="leave format-version out, or set it to 2"
            )
        for column in statement.columns:
            if column.default is not None:
                raise UnsupportedStatementError(
                    f"column {column.name}: DEFAULT needs format version 3, which cannot be written yet",
                    hint="leave DEFAULT out and give the value in the INSERT",
                )
        if statement.identifier:
            schema = _with_identifier(schema, statement.identifier)
        if statement.partitioning or spec is None:
            spec = build_spec(statement.partitioning, schema)
        if statement.ordering or sort_order is None:
            sort_order = build_sort_order(statement.ordering, schema)
        return Replacement(schema, spec, sort_order, properties, statement.location)

    # Altering tables

    def _alter(self, statement: st.AlterTable, state: TransactionState) -> None:
        pinned = state.find_main(statement.name) if statement.if_exists else state.pin_main(statement.name)
        if pinned is None:
            return
        _require_main(pinned, "ALTER TABLE")
        _require_definable(pinned)
        alter(
            pinned.handle.metadata, statement.actions, sql=statement.sql
        )  # what is wrong with it is told with its place
        actions: list[Alteration] = []
        for action in statement.actions:
            settled = self._settled(action, pinned, state)
            if isinstance(settled, SetRequired) and settled.required:
                self._check_not_null(settled, state.defined(pinned, Definition(steps=(tuple(actions),))), pinned, state)
            actions.append(settled)
        state.stage_definition(pinned, Definition(steps=(tuple(actions),)))

    def _settled(self, action: Alteration, pinned: PinnedTable, state: TransactionState) -> Alteration:
        """An action that says the same whatever becomes of the table: a branch is made at the snapshot seen now."""
        if not isinstance(action, SetRef | DropRef):
            return action
        version = action.version if isinstance(action, SetRef) else None
        touched = {action.name.text, version if isinstance(version, str) else MAIN_BRANCH}
        written = [ref for ref in state.written_refs(pinned) if ref in touched]
        if written:
            raise TransactionError(
                f"{action.kind} {action.name}: this transaction has written to branch {written[0]} of "
                f"{pinned.handle.name}, whose snapshot is made when it commits",
                hint="COMMIT first, or make it before the rows are written",
            )
        if isinstance(action, SetRef) and action.version is None:
            main = pinned.handle.metadata.refs.get(MAIN_BRANCH)
            return action if main is None else replace(action, version=main.snapshot_id)
        return action

    def _check_not_null(
        self, action: SetRequired, handle: TableHandle, pinned: PinnedTable, state: TransactionState
    ) -> None:
        """Look whether a column that is to be NOT NULL holds a NULL in any branch.

        Raises:
            SchemaError: It does, or lies where that cannot be asked.
        """
        metadata = handle.metadata
        name = ".".join(part.text for part in action.path)
        path = _struct_path(action.path, metadata.schema())
        if path is None:
            raise SchemaError(
                f"column {name} lies in a list or a map and cannot be made NOT NULL",
                column=name,
                hint="only columns and fields of structs can",
            )
        whole = ".".join(map(quote_identifier, path))
        condition = f"{whole} IS NULL"
        if len(path) > 1:  # where the struct itself is NULL, nothing is asked of its fields
            condition = f"{'.'.join(map(quote_identifier, path[:-1]))} IS NOT NULL AND {condition}"
        query = compose("SELECT 1 FROM ", table_piece(_CHECKED), f" WHERE {condition} LIMIT 1")
        seen: set[int | None] = set()
        for ref, known in metadata.refs.items():
            if known.snapshot_ref_type != SnapshotRefType.BRANCH or (known.snapshot_id in seen and ref != pinned.ref):
                continue
            seen.add(known.snapshot_id)
            view = replace(state.view_of(pinned), metadata=metadata, schema=metadata.schema())
            if ref != pinned.ref:
                view = TableView(handle.name, metadata, handle.io, known.snapshot_id, metadata.schema())
            if any(batch.num_rows for batch in self._engine.plan(query, [view]).stream()):
                where = "" if ref == MAIN_BRANCH else f" of branch {ref}"
                raise SchemaError(
                    f"column {name} of {handle.name} holds NULL in rows{where} and cannot be made NOT NULL",
                    column=name,
                    hint=f"give those rows a value first: UPDATE ... SET {name} = ... WHERE {name} IS NULL",
                )
        state.hold_still(pinned)

    def _rename(self, statement: st.RenameTable, state: TransactionState, *, alone: bool) -> None:
        pinned = state.find_main(statement.name) if statement.if_exists else state.pin_main(statement.name)
        if pinned is None:
            return
        _require_main(pinned, "RENAME")
        identifier = self._new_identifier(pinned.handle, statement.new_name)
        if alone:
            self._client.rename_table(pinned.handle, identifier)
        else:
            state.rename(pinned, identifier)

    def _new_identifier(self, handle: TableHandle, new: Name) -> tuple[str, ...]:
        """What a new name stands for: in the table's namespace, or in another one of its catalog."""
        if len(new.parts) == 1:
            return (*handle.identifier[:-1], new.parts[0].text)
        owner = owner_of(self._client, handle)
        first = new.parts[0].text.casefold() if len(new.parts) > 2 else owner.name.casefold()
        known = {client.name.casefold() for client in catalogs_of(self._client)}
        if first in known - {owner.name.casefold()}:
            raise BindError(
                f"{new} lies in another catalog than {handle.name}, and a table cannot be renamed from one to another",
                hint=f"copy it: CREATE TABLE {new} AS SELECT * FROM {handle.name}",
            )
        return owner.split(new)

    def _drop(self, statement: st.DropTable, state: TransactionState, *, alone: bool) -> None:
        """Take a table out of the catalog, and with PURGE its files out of storage."""
        pinned = state.find_main(statement.name) if statement.if_exists else state.pin_main(statement.name)
        if pinned is None:
            return
        _require_main(pinned, "DROP TABLE")
        if alone:
            self._client.drop_table(pinned.handle, purge=statement.purge)
        elif statement.purge:
            raise TransactionError(
                "DROP TABLE ... PURGE deletes files at once, which a ROLLBACK could not bring back",
                hint="leave PURGE out, or drop the table outside of the transaction",
            )
        else:
            state.drop(pinned)

    # Namespaces

    def _create_namespace(self, statement: st.CreateNamespace) -> None:
        namespace = self._client.split_namespace(statement.name)
        try:
            if self._client.find_namespace(namespace) is not None:
                raise namespace_exists(namespace)
            self._client.create_namespace(namespace, dict(statement.properties))
        except NamespaceExistsError:
            if not statement.if_not_exists:
                raise

    def _drop_namespace(self, statement: st.DropNamespace) -> None:
        try:
            self._client.drop_namespace(self._client.split_namespace(statement.name))
        except NamespaceNotFoundError:
            if not statement.if_exists:
                raise

    def _done(self, kind: str, began: float) -> Result:
        report = StatementReport(kind, seconds=time.perf_counter() - began)
        self._executor.tell(report)
        return Result.of_nothing(report)


def _require_main(pinned: PinnedTable, what: str) -> None:
    if pinned.ref != MAIN_BRANCH:
        raise BindError(
            f"{what}: {pinned.name} is a branch, and tables are defined as a whole",
            hint=f"name the table: {pinned.handle.name}",
        )


def _require_definable(pinned: PinnedTable) -> None:
    version = pinned.handle.metadata.format_version
    if version > 2:
        raise UnsupportedStatementError(
            f"table {pinned.handle.name} has format version {version}, which can be read but not altered yet",
            hint="alter it with another engine",
        )


def _copied(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties that a table made like another one begins with: its own records are not among them."""
    return {key: value for key, value in properties.items() if key not in (KEYS_PROPERTY, "write.data.path")}


def _with_identifier(schema: Schema, columns: Sequence[tuple[Identifier, ...]]) -> Schema:
    """The schema with the columns that tell rows apart, which are NOT NULL from now on.

    Raises:
        SchemaError: There is no such column, or it cannot tell rows apart.
    """
    ids = set()
    for path in columns:
        name = find_name(path[0], [field.name for field in schema.fields]) if len(path) == 1 else None
        if name is None:
            text = ".".join(part.text for part in path)
            raise SchemaError(
                f"PRIMARY KEY: there is no column {text}",
                column=text,
                hint=f"columns are {', '.join(field.name for field in schema.fields)}",
            )
        key = schema.find_field(name)
        if not key.field_type.is_primitive or isinstance(key.field_type, FloatType | DoubleType):
            raise SchemaError(
                f"PRIMARY KEY: column {name} is {type_name(key.field_type)}, which cannot tell rows apart",
                column=name,
                hint="keys are columns of whole numbers, text, dates and other single values that compare exactly",
            )
        ids.add(key.field_id)
    fields = [
        NestedField(field.field_id, field.name, field.field_type, required=True, doc=field.doc)
        if field.field_id in ids
        else field
        for field in schema.fields
    ]
    return Schema(*fields, identifier_field_ids=sorted(ids))


def _struct_path(path: Sequence[Identifier], schema: Schema) -> list[str] | None:
    """The exact names along a path through structs; None where it leads through a list or a map."""
    names: list[str] = []
    fields: Sequence[NestedField] = schema.fields
    for part in path:
        name = find_name(part, [field.name for field in fields])
        if name is None:
            return None
        names.append(name)
        kind = next(field.field_type for field in fields if field.name == name)
        fields = kind.fields if isinstance(kind, StructType) else ()
    return names
