"""`IcebergTable`: the changes of SQL as methods, for data that is at hand in Python.

Each method makes the same statement that the parser would, of the same verbatim pieces of SQL, and runs it as
`Session.sql` does: inside the thread's transaction where there is one, as a commit of its own elsewhere. Values that
are not text are bound as parameters; text is SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from icefusion.config import WriteMode
from icefusion.errors import ConfigurationError
from icefusion.naming import quote_identifier
from icefusion.query.names import exact_column
from icefusion.query.parameters import Parameters
from icefusion.query.sources import Source
from icefusion.sql.compose import compose, table_piece
from icefusion.sql.names import parse_name
from icefusion.sql.pieces import parse_assignment_path, parse_expression
from icefusion.sql.statements import (
    Assignment,
    Change,
    Delete,
    DeleteRow,
    Fragment,
    Identifier,
    Insert,
    InsertRow,
    KeepRow,
    Merge,
    MergeClause,
    OnConflict,
    Overwrite,
    PartitionTerm,
    Query,
    SetRow,
    TableReference,
    TransformTerm,
    Update,
)
from icefusion.table_history import TableHistory

if TYPE_CHECKING:
    from datafusion import DataFrame

    from icefusion.result import Result
    from icefusion.session import Session

__all__ = ["IcebergTable", "MergeBuilder"]

Values = Mapping[str, Any]


class ChangeOptions(TypedDict, total=False):
    """What may be said of any change.

    Attributes:
        params: Values for ``$name`` in its SQL.
        write_mode: See `Session.sql`.
        idempotency_key: See `Session.sql`.
    """

    params: Mapping[str, Any] | None
    write_mode: WriteMode | None
    idempotency_key: str | None


class IcebergTable(TableHistory):
    """One table of a session. Made by `Session.table`.

    Attributes:
        name: The name it was asked for by.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self._session = session
        self._name = parse_name(name)

    def to_datafusion(self) -> DataFrame:
        """The table's rows as a DataFrame of the ``datafusion`` package, to go on with there.

        It holds one state of the table: the newest, or what the thread's open transaction sees. It is lazy, with all
        deletes applied, the schema as it is now, and filters pushed down where no rows were deleted by position. It
        can be registered in and joined within any ``SessionContext``, outlives the session, and can be given back: to
        `append`, `merge` or `Session.sql`.

        Raises:
            StorageError: A file that the table names is missing.
            TableNotFoundError: The table was dropped.
        """
        return self._session._plan_rows(self._rows()).to_frame()

    def scan(
        self,
        filter: str | None = None,  # noqa: A002 - what scans of tables call it everywhere
        columns: Sequence[str] | None = None,
        *,
        params: Parameters = None,
        limit: int | None = None,
    ) -> Result:
        """Read rows; files that can hold none of them are left out.

        Args:
            filter: The SQL condition that is true of them; None for all rows.
            columns: The columns to read, by name; None for all.
            params: Values for ``?``, ``$1`` or ``$name`` in the condition.
            limit: How many rows at most; None for all.

        Returns:
            What `Session.sql` returns for a SELECT: streamed when it is read.

        Raises:
            BindError: There is no such column.
        """
        return self._session._run_query(self._rows(filter, columns, limit), params)

    def _rows(
        self, condition: str | None = None, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> Query:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ConfigurationError(f"limit: expected a number of rows, found {limit!r}")
        listed = "*"
        if columns is not None:
            known = self._session._handle(self._name).metadata.schema().as_struct().fields
            names = [
                exact_column(Identifier(name), [field.name for field in known], self.name, None, 0) for name in columns
            ]
            if not names:
                raise ConfigurationError("columns: expected at least one", hint="leave it out to read all columns")
            listed = ", ".join(map(quote_identifier, names))
        where = () if condition is None else (" WHERE (\n", parse_expression(condition), "\n)")
        behind = "" if limit is None else f" LIMIT {limit}"
        return compose(f"SELECT {listed} FROM ", _text_source(self.name), *where, behind)

    def append(self, data: Any, **options: Unpack[ChangeOptions]) -> Result:
        """Add rows, their columns matched by name.

        Args:
            data: Anything that speaks Arrow; readers are streamed.
            options: See `ChangeOptions`.

        Returns:
            `Result` with ``rows_inserted``, and ``snapshot_id`` outside of a transaction.

        Raises:
            SchemaError: A column or a value does not fit the table; nothing was written.
        """
        source = Source.of("source", data)
        return self._run(self._insert(source), _Bound(options), {"source": source})

    def overwrite(
        self,
        data: Any,
        where: str | None = None,
        *,
        partition: Sequence[str] | Values | None = None,
        **options: Unpack[ChangeOptions],
    ) -> Result:
        """Replace rows by others, their columns matched by name.

        Args:
            data: Anything that speaks Arrow; readers are streamed.
            where: Replace the rows for which this SQL condition is true; it must be true of all new rows.
            partition: Replace partitions: names of partition fields for those that the new rows fall in, or a mapping
                of fields to the value that is replaced. Without it and without ``where``, all rows are replaced.
            options: See `ChangeOptions`.

        Raises:
            SchemaError: A value does not fit, or a new row lies outside of what is replaced; nothing was written.
        """
        if where is not None and partition is not None:
            raise ConfigurationError("overwrite: where and partition cannot be given both", hint="give one of them")
        bound = _Bound(options)
        terms: list[PartitionTerm] = []
        for field in partition or ():
            value = bound.value(partition[field]) if isinstance(partition, Mapping) else None
            terms.append(PartitionTerm(TransformTerm("identity", (Identifier(field),)), value))
        condition = None if where is None else parse_expression(where)
        source = Source.of("source", data)
        insert = replace(self._insert(source), overwrite=Overwrite(tuple(terms), condition))
        held = {name.lower() for name in partition} if isinstance(partition, Mapping) else set()
        if held and insert.columns is not None:
            kept = tuple(column for column in insert.columns if column.text.lower() not in held)
            insert = replace(insert, columns=kept, query=_select(source, kept))
        return self._run(insert, bound, {"source": source})

    def delete(self, where: str | None = None, **options: Unpack[ChangeOptions]) -> Result:
        """Remove rows.

        Args:
            where: The SQL condition that is true of them; None for all rows.
            options: See `ChangeOptions`.
        """
        condition = None if where is None else parse_expression(where)
        return self._run(Delete(self._name, where=condition), _Bound(options), {})

    def update(self, values: Values, where: str | None = None, **options: Unpack[ChangeOptions]) -> Result:
        """Change rows.

        Args:
            values: New values by column, or by dotted path of a struct's field: SQL expressions as text, other Python
                values as they are.
            where: The SQL condition that is true of the rows; None for all.
            options: See `ChangeOptions`.
        """
        bound = _Bound(options)
        assignments = bound.assignments(values)
        condition = None if where is None else parse_expression(where)
        return self._run(Update(self._name, assignments, where=condition), bound, {})

    def upsert(self, data: Any, keys: str | Sequence[str], **options: Unpack[ChangeOptions]) -> Result:
        """Update the rows whose keys are there already, and insert the others.

        Args:
            data: Anything that speaks Arrow. Columns that it lacks keep their values, or get their defaults.
            keys: The columns by which rows are the same. NULL is the same as nothing.
            options: See `ChangeOptions`.

        Raises:
            CardinalityError: Two rows of the data have the same key.
        """
        names = [keys] if isinstance(keys, str) else list(keys)
        if not names:
            raise ConfigurationError("upsert: expected at least one key", hint="e.g. keys=['id']")
        source = Source.of("source", data)
        insert = self._insert(source)
        folded = {name.lower() for name in names}
        others = [column for column in insert.columns or () if column.text.lower() not in folded]
        assignments = tuple(
            Assignment((column,), Fragment(f'"excluded".{quote_identifier(column.text)}')) for column in others
        )
        conflict = OnConflict(tuple(Identifier(name) for name in names), assignments or None)
        return self._run(replace(insert, conflict=conflict), _Bound(options), {"source": source})

    def merge(
        self,
        source: Any,
        on: str,
        *,
        source_alias: str = "source",
        target_alias: str = "target",
        **options: Unpack[ChangeOptions],
    ) -> MergeBuilder:
        """Begin a MERGE; clauses are added to what is returned, and ``execute()`` runs it.

        Args:
            source: Anything that speaks Arrow; it is read once. Text is the name of a table, or a query in parentheses.
            on: The SQL condition of a match.
            source_alias: What the source is called in the SQL.
            target_alias: What the table is called in the SQL.
            options: See `ChangeOptions`.
        """
        return MergeBuilder(self, source, on, source_alias, target_alias, _Bound(options))

    def _insert(self, source: Source) -> Insert:
        columns = tuple(Identifier(name) for name in source.schema.names)
        return Insert(self._name, _select(source, columns), columns)

    def _run(self, change: Change, bound: _Bound, sources: Mapping[str, Source]) -> Result:
        options = bound.options
        return self._session._run_change(
            change,
            bound.parameters,
            sources,
            idempotency_key=options.get("idempotency_key"),
            write_mode=options.get("write_mode"),
        )

    def __repr__(self) -> str:
        return f"<icefusion.IcebergTable {self.name}>"


class MergeBuilder:
    """A MERGE in the making. Of several clauses for the same rows, the first that holds wins."""

    def __init__(
        self, table: IcebergTable, source: Any, on: str, source_alias: str, target_alias: str, bound: _Bound
    ) -> None:
        self._table = table
        self._source = source
        self._on = parse_expression(on)
        self._source_alias = source_alias
        self._target_alias = target_alias
        self._bound = bound
        self._clauses: list[MergeClause] = []

    def when_matched_update(self, values: Values, predicate: str | None = None) -> MergeBuilder:
        """Change rows of the table that match: new values by column, as for `IcebergTable.update`."""
        return self._add("matched", SetRow(self._bound.assignments(values)), predicate)

    def when_matched_update_all(self, predicate: str | None = None) -> MergeBuilder:
        """Give rows of the table that match the source's values, in all columns."""
        return self._add("matched", SetRow(), predicate)

    def when_matched_delete(self, predicate: str | None = None) -> MergeBuilder:
        """Remove rows of the table that match."""
        return self._add("matched", DeleteRow(), predicate)

    def when_matched_do_nothing(self, predicate: str | None = None) -> MergeBuilder:
        """Keep rows of the table that match, whatever later clauses say."""
        return self._add("matched", KeepRow(), predicate)

    def when_not_matched_insert(self, values: Values, predicate: str | None = None) -> MergeBuilder:
        """Insert rows of the source that match nothing: values by column."""
        columns = tuple(Identifier(name) for name in values)
        items = tuple(self._bound.expression(value) for value in values.values())
        return self._add("not_matched", InsertRow(columns, items), predicate)

    def when_not_matched_insert_all(self, predicate: str | None = None) -> MergeBuilder:
        """Insert rows of the source that match nothing, with all columns."""
        return self._add("not_matched", InsertRow(), predicate)

    def when_not_matched_by_source_update(self, values: Values, predicate: str | None = None) -> MergeBuilder:
        """Change rows of the table that match nothing in the source."""
        return self._add("not_matched_by_source", SetRow(self._bound.assignments(values)), predicate)

    def when_not_matched_by_source_delete(self, predicate: str | None = None) -> MergeBuilder:
        """Remove rows of the table that match nothing in the source."""
        return self._add("not_matched_by_source", DeleteRow(), predicate)

    def execute(self) -> Result:
        """Run it.

        Raises:
            CardinalityError: A row of the table matches two rows of the source, and would be changed twice.
            CommitConflictError: Another commit changed what it depends on.
        """
        if not self._clauses:
            raise ConfigurationError("merge: expected at least one clause", hint="e.g. .when_matched_update_all()")
        sources = {}
        if isinstance(self._source, str):
            piece = _text_source(self._source)
        else:
            sources["source"] = Source.of("source", self._source)
            piece = table_piece("source")
        merge = Merge(
            table=self._table._name,
            source=piece,
            on=self._on,
            clauses=tuple(self._clauses),
            alias=Identifier(self._target_alias),
            source_alias=Identifier(self._source_alias),
        )
        return self._table._run(merge, self._bound, sources)

    def _add(self, rows: Any, action: Any, predicate: str | None) -> MergeBuilder:
        condition = None if predicate is None else parse_expression(predicate)
        self._clauses.append(MergeClause(rows, action, condition))
        return self


@dataclass
class _Bound:
    """The options of a change, and the values that were bound for it."""

    options: ChangeOptions

    def __post_init__(self) -> None:
        self._values: dict[str, Any] = {}

    @property
    def parameters(self) -> Parameters:
        """All values by name."""
        given = self.options.get("params") or {}
        return {**given, **self._values} or None

    def expression(self, value: Any) -> Fragment:
        """Text as SQL, any other value as a parameter."""
        return parse_expression(value) if isinstance(value, str) else self.value(value)

    def value(self, value: Any) -> Fragment:
        """Any value as a parameter."""
        name = f"__value{len(self._values)}"
        self._values[name] = value
        return Fragment(f"${name}", parameters=(name,))

    def assignments(self, values: Values) -> tuple[Assignment, ...]:
        """A SET list."""
        if not values:
            raise ConfigurationError("expected at least one column with its new value", hint="e.g. {'n': 'n + 1'}")
        return tuple(
            Assignment(parse_assignment_path(column), self.expression(value)) for column, value in values.items()
        )


def _select(source: Source, columns: Sequence[Identifier]) -> Any:
    listed = ", ".join(quote_identifier(column.text) for column in columns)
    return compose(f"SELECT {listed} FROM ", table_piece(source.name))


def _text_source(text: str) -> Fragment:
    """The name of a table, or a query in parentheses, as it could stand behind USING."""
    if text.lstrip().startswith("("):
        return parse_expression(text)
    name = parse_name(text)
    return Fragment(text, (TableReference(name, 0, len(text)),))
