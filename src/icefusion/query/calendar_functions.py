"""Functions of dates that people bring from Spark, for whole numbers of any size.

Those that DataFusion has of Spark take numbers of 32 bits alone, and a number in SQL has 64. Here ``date_add(d, 5)`` is
what it is in Spark, with or without the set of Spark's functions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datafusion import ScalarUDF, udf

__all__ = ["CALENDAR_FUNCTIONS"]

Dates = npt.NDArray[np.datetime64]
Numbers = npt.NDArray[np.int64]


def _days_later(dates: Dates, days: Numbers) -> Dates:
    later: Dates = dates + days.astype("timedelta64[D]")
    return later


def _days_earlier(dates: Dates, days: Numbers) -> Dates:
    earlier: Dates = dates - days.astype("timedelta64[D]")
    return earlier


def _months_later(dates: Dates, months: Numbers) -> Dates:
    """The same day of another month, or the last one that it has."""
    begins = dates.astype("datetime64[M]")
    new = begins + months.astype("timedelta64[M]")
    first = new.astype("datetime64[D]")
    last = (new + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    same_day: Dates = np.minimum(first + (dates - begins.astype("datetime64[D]")), last)
    return same_day


def _function(name: str, work: Callable[[Dates, Numbers], Dates]) -> ScalarUDF:
    def called(dates: pa.Array, numbers: pa.Array) -> pa.Array:
        known = np.asarray(dates.is_valid()) & np.asarray(numbers.is_valid())
        days = np.asarray(dates.cast(pa.int32()).fill_null(0)).astype("datetime64[D]")
        result = work(days, np.asarray(numbers.fill_null(0), np.int64)).astype(np.int64)
        if ((result < -(2**31)) | (result >= 2**31))[known].any():
            raise OverflowError(f"{name}: the date is beyond those that there are")
        return pa.array(np.where(known, result, 0), mask=~known).cast(pa.int32()).cast(pa.date32())

    made: ScalarUDF = udf(called, [pa.date32(), pa.int64()], pa.date32(), "immutable", name)
    return made


CALENDAR_FUNCTIONS = (
    _function("date_add", _days_later),
    _function("dateadd", _days_later),
    _function("date_sub", _days_earlier),
    _function("add_months", _months_later),
)
