"""The functions that queries can call: the engine's, Spark's where they do not clash, and the user's own.

DataFusion brings the functions of Spark as a set that takes the place of its own. Of that set, those whose names
DataFusion has not are always there; the whole of it is when the session asks for it.

A function of the user's is registered once, for as long as the session lasts, and never takes the name of one that is
there: queries of our own rely on some of them. What it raises reaches DataFusion as a text. So functions that are made
here take down what was raised, and it becomes the cause of the error that the user sees.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa
from datafusion import SessionContext, udf
from datafusion.user_defined import AggregateUDF, ScalarUDF, WindowUDF

from icefusion.bridge.schema import type_to_arrow
from icefusion.bridge.types_sql import sql_type_to_iceberg
from icefusion.errors import ConfigurationError, ExecutionError, IcefusionError
from icefusion.naming import fold_case, quote_identifier
from icefusion.query.calendar_functions import CALENDAR_FUNCTIONS
from icefusion.sql.column_types import parse_type
from icefusion.sql.cursor import Cursor
from icefusion.sql.duplicates import name_duplicates
from icefusion.sql.function_names import rename_functions
from icefusion.sql.lexer import Kind, tokenize
from icefusion.sql.statements import Query

__all__ = ["FunctionSet", "Functions", "Volatility"]

FunctionSet = Literal["datafusion", "spark"]
Volatility = Literal["immutable", "stable", "volatile"]
_VOLATILITIES = ("immutable", "stable", "volatile")

_NOT_FOR_USERS = frozenset(["spark_cast"])
_MAX_PROBED_ARGUMENTS = 12
_RAISED = re.compile(r"PyErr \{ type: <class '([^']*)'>, value: (.*?), traceback: (?:Some|None)", re.DOTALL)
_RAISED_PLAINLY = re.compile(
    r"(?:Execution error|External error): (\w*(?:Error|Exception|Exit|Interrupt)): (.*)", re.DOTALL
)


class Functions:
    """The functions of one session context.

    Args:
        context: The context.
        lock: Held while something is registered.
        functions: ``"spark"`` for Spark's in the place of DataFusion's where both have one.
    """

    def __init__(self, context: SessionContext, lock: threading.RLock, functions: FunctionSet) -> None:
        self._context = context
        self._lock = lock
        self._names: dict[str, str] = {}  # of the user's functions: as it is, by what an unquoted name is folded to
        self._volatile: set[str] = set()
        self._failures: dict[str, BaseException] = {}
        if functions == "spark":
            context.enable_spark_functions()
        else:
            _add_spark(context)
        for function in CALENDAR_FUNCTIONS:
            context.register_udf(function)
        self._built_in = frozenset(fold_case(name) for name in _all_names(context))

    @property
    def volatile(self) -> frozenset[str]:
        """The user's functions that may answer differently each time, in upper case."""
        return frozenset(self._volatile)

    def register(self, function: Any, *, volatile: bool | None = None) -> None:
        """Make a function known.

        Args:
            function: A ``ScalarUDF``, ``AggregateUDF`` or ``WindowUDF`` of DataFusion's.
            volatile: Whether it may answer differently each time; None to find out.

        Raises:
            ConfigurationError: It is something else, or its name is taken by a function of the engine's.
        """
        if not isinstance(function, ScalarUDF | AggregateUDF | WindowUDF):
            raise ConfigurationError(
                f"register: expected a function of DataFusion's, found {type(function).__name__}",
                hint="make one with datafusion.udf, udaf or udwf, or call session.create_function(name, function, ...)",
            )
        name = str(function.name)
        self._check_name(name)
        with self._lock:
            if isinstance(function, ScalarUDF):
                self._context.register_udf(function)
            elif isinstance(function, AggregateUDF):
                self._context.register_udaf(function)
            else:
                self._context.register_udwf(function)
            if volatile is None:
                volatile = isinstance(function, ScalarUDF) and self._answers_differently(name)
            self._remember(name, volatile=volatile)

    def create(
        self,
        name: str,
        function: Callable[..., Any],
        input_types: Sequence[pa.DataType | str],
        return_type: pa.DataType | str,
        volatility: Volatility,
        *,
        by_row: bool,
    ) -> None:
        """Make a function of Python known.

        Raises:
            ConfigurationError: A type or the volatility is unknown, or the name is taken by a function of the engine's.
        """
        folded = fold_case(name)
        self._check_name(folded)
        if volatility not in _VOLATILITIES:
            raise ConfigurationError(f"volatility: expected one of {', '.join(_VOLATILITIES)}, found {volatility!r}")
        if not callable(function):
            raise ConfigurationError(f"create_function: expected something to call, found {type(function).__name__}")
        types = [_arrow_type(kind, folded) for kind in input_types]
        returned = _arrow_type(return_type, folded)

        def called(*arrays: pa.Array) -> pa.Array:
            try:
                return _array_of(function(*arrays), returned) if not by_row else _each_row(function, arrays, returned)
            except BaseException as exc:
                self._failures[folded] = exc
                raise

        made = udf(called, types, returned, volatility, folded)
        with self._lock:
            self._context.register_udf(made)
            self._remember(folded, volatile=volatility == "volatile")

    def unregister(self, name: str) -> None:
        """Forget a function of the user's.

        Raises:
            ConfigurationError: There is none of this name.
        """
        known = self._names.get(fold_case(name))
        if known is None:
            raise ConfigurationError(f"there is no function {name} of your own")
        with self._lock:
            for forget in (self._context.deregister_udf, self._context.deregister_udaf, self._context.deregister_udwf):
                forget(known)
            del self._names[fold_case(name)]
            self._volatile.discard(known.upper())

    def resolved(self, query: Query) -> Query:
        """The query with each function under the name that the engine knows it by."""
        spelled = {folded: name for folded, name in self._names.items() if folded != name}
        known = rename_functions(query, lambda name: name in self._built_in or name in self._names, spelled)
        # Two names that were different may be one now.
        return query if known is query else name_duplicates(known)

    @contextmanager
    def telling(self, text: str) -> Iterator[None]:
        """Let what a function of the user's raised come out with the function's name."""
        try:
            yield
        except IcefusionError as exc:
            if self._names and (error := self._failure(str(exc.__cause__ or exc), text)) is not None:
                error.__cause__ = error.__cause__ or exc.__cause__
                raise error from error.__cause__
            raise

    def _failure(self, said: str, text: str) -> ExecutionError | None:
        raised = _RAISED.search(said) or _RAISED_PLAINLY.search(said)
        if raised is None:
            return None
        called = {fold_case(token.text.strip('"`')) for token in tokenize(text)[:-1]} & set(self._names)
        for name in sorted(called):
            cause = self._failures.pop(name, None)
            if cause is not None:
                error = ExecutionError(f"function {self._names[name]} failed: {type(cause).__name__}: {cause}")
                error.__cause__ = cause
                return error
        if not called:
            return None
        names = " or ".join(self._names[name] for name in sorted(called))
        value = (raised[2].strip().splitlines() or [""])[0]
        told = value if value.startswith(raised[1]) else f"{raised[1]}: {value}"
        return ExecutionError(f"function {names} failed: {told}")

    def _check_name(self, name: str) -> None:
        folded = fold_case(name)
        if not folded or "\0" in folded:
            raise ConfigurationError("a function needs a name")
        if folded in self._built_in:
            raise ConfigurationError(
                f"there is a function {folded} already, and queries may rely on it", hint="give yours another name"
            )

    def _remember(self, name: str, *, volatile: bool) -> None:
        self._names[fold_case(name)] = name
        self._volatile.discard(name.upper())
        if volatile:
            self._volatile.add(name.upper())

    def _answers_differently(self, name: str) -> bool:
        """Whether a function is volatile, of which it does not tell: one that is not is called once for equal calls.

        Nothing is run. A function for which no plan can be made counts as volatile, which costs no more than a replay.
        """
        called = quote_identifier(name)
        for count in range(1, _MAX_PROBED_ARGUMENTS + 1):
            nulls = ", ".join(["NULL"] * count)
            arguments = ", ".join(f"column{place}" for place in range(1, count + 1))
            sql = f"SELECT {called}({arguments}) AS a, {called}({arguments}) AS b FROM (VALUES ({nulls}))"
            try:
                plan = self._context.sql(sql).optimized_logical_plan().display_indent()
            except Exception:  # it takes another number of arguments
                continue
            return plan.count(f"{name}(") > 1
        return True


def _add_spark(context: SessionContext) -> None:
    """Register those of Spark's functions whose names are free, and let no alias of theirs take another name."""
    other = SessionContext()
    other.enable_spark_functions()
    own = {name: context.udf(name) for name in context.udfs()}
    own_aggregates = {name: context.udaf(name) for name in context.udafs()}
    for name in set(other.udfs()) - set(own) - _NOT_FOR_USERS:
        context.register_udf(other.udf(name))
    for name in set(other.udafs()) - set(own_aggregates):
        context.register_udaf(other.udaf(name))
    for function in own.values():
        context.register_udf(function)
    for aggregate in own_aggregates.values():
        context.register_udaf(aggregate)


def _all_names(context: SessionContext) -> list[str]:
    return [*context.udfs(), *context.udafs(), *context.udwfs()]


def _arrow_type(kind: pa.DataType | str, name: str) -> pa.DataType:
    """A type of Arrow's as it is, a text as a type of SQL."""
    if isinstance(kind, pa.DataType):
        return kind
    if not isinstance(kind, str):
        raise ConfigurationError(
            f"function {name}: expected a type, found {kind!r}", hint="e.g. 'bigint', or pa.int64()"
        )
    try:
        cursor = Cursor(kind, tokenize(kind))
        parsed = parse_type(cursor)
        if cursor.token.kind is not Kind.END:
            raise cursor.unexpected("the end of the type")
        return type_to_arrow(sql_type_to_iceberg(parsed, column=name), field_ids=False, column=name)
    except IcefusionError as exc:
        raise ConfigurationError(f"function {name}: {exc.message}", hint=exc.hint) from exc


def _array_of(value: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    array = value if isinstance(value, pa.Array) else pa.array(value)
    return array if array.type == kind else array.cast(kind)


def _each_row(function: Callable[..., Any], arrays: Sequence[pa.Array], kind: pa.DataType) -> pa.Array:
    rows = zip(*(array.to_pylist() for array in arrays), strict=True)
    return pa.array([function(*row) for row in rows], kind)
