"""Numbers from one Arrow type into another, every value exactly or none.

An assignment is exact when converting the value back gives the same value. Each function here takes a target and
returns a cast: a function from an array to an array of the target type, raising `MisfitError` at the first value that
would not come back. Where pyarrow's own safe cast keeps that promise (integers, decimals) it is used and only its
failure is examined; where it does not (anything with floating point, see the comments) the way back is computed here.

Floating point and decimals meet at the decimal's scale: a decimal goes into a double when the double, rounded to the
decimal's scale, is that decimal again, which is how the literal ``0.1`` fits; a double goes into a decimal when the
decimal next to it reads back as the same double, which is how ``12.34`` does.

Null slots hold anything. They are filled with 0 before values are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "Cast",
    "MisfitError",
    "cast_or_find",
    "decimal_to_float",
    "float_to_decimal",
    "float_to_float",
    "float_to_integer",
    "integer_to_decimal",
    "integer_to_float",
    "null_mask",
    "plain_cast",
    "raise_first",
    "show_value",
    "values_or_zero",
]

Cast = Callable[[pa.Array], pa.Array]
Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# Arrow's own way to these needs pandas in older versions.
_NUMPY: dict[pa.DataType, type[np.generic]] = {
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float16(): np.float16,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
}
_SHOWN_CHARACTERS = 60
_WIDE = Context(prec=400)  # enough for any double at any scale, so that quantize never rounds twice
_DOUBLE_DIGITS = 15  # decimals of this many digits survive the way through a double, whatever they are
_SINGLE_DIGITS = 6
_EXACT_POWER = 22  # 10**22 is the last power of ten that a double holds exactly


class MisfitError(Exception):
    """A value that does not fit. Whoever nests the array moves `index` to its own and fills in what it knows.

    Attributes:
        index: Where the value stands in the array that was to be cast.
        value: The value, shortened for a message.
        reason: Why it does not fit, e.g. "is out of range".
        column, expected, found: The dotted path and both types; set once, by the innermost one that knows.
    """

    def __init__(self, index: int, value: str, reason: str, *, column: str | None = None) -> None:
        super().__init__(index, value, reason)
        self.index = index
        self.value = value
        self.reason = reason
        self.column = column
        self.expected: str | None = None
        self.found: str | None = None


def plain_cast(target: pa.DataType, reason: str) -> Cast:
    """pyarrow's safe cast, for the pairs of types where it refuses every value that it would change."""
    return lambda array: cast_or_find(array, lambda piece: piece.cast(target), reason)


def cast_or_find(array: pa.Array, cast: Cast, reason: str) -> pa.Array:
    """`cast(array)`; where that fails, a `MisfitError` for the first value at fault, found by halving the array."""
    try:
        return cast(array)
    except pa.ArrowInvalid:
        start, length = 0, len(array)
        while length > 1:
            half = length // 2
            try:
                cast(array.slice(start, half))
                start, length = start + half, length - half
            except pa.ArrowInvalid:
                length = half
        raise MisfitError(start, show_value(array, start), reason) from None


def float_to_float(target: pa.DataType) -> Cast:
    """Between the floating point types; pyarrow narrows doubles without a look, so the way back is compared."""

    def cast(array: pa.Array) -> pa.Array:
        if array.type.bit_width <= target.bit_width:
            return array.cast(target)
        values = values_or_zero(array)
        with np.errstate(over="ignore", under="ignore"):
            narrow = values.astype(_NUMPY[target])
        raise_first(array, (narrow.astype(values.dtype) != values) & ~np.isnan(values), "has no exact counterpart")
        return pa.array(narrow, type=target, mask=null_mask(array))

    return cast


def integer_to_float(target: pa.DataType) -> Cast:
    """Whole numbers into floating point; above 2**53 (2**24) only every second, fourth... of them exists there."""

    def cast(array: pa.Array) -> pa.Array:
        wide = array if array.type == pa.uint64() else array.cast(pa.int64())
        values = values_or_zero(wide)
        floats = values.astype(_NUMPY[target])
        exact_up_to = 2 ** (np.finfo(floats.dtype).nmant + 1)
        if len(values) and (values.max() > exact_up_to or values.min() < -exact_up_to):
            # 2**63 itself is a double but no int64: casting it back is undefined, so it is kept out.
            fits = floats.astype(np.float64) < (2.0**64 if values.dtype == np.uint64 else 2.0**63)
            back = np.where(fits, floats, 0).astype(values.dtype)
            raise_first(array, ~fits | (back != values), "has no exact counterpart")
        return pa.array(floats, type=target, mask=null_mask(array))

    return cast


def float_to_integer(target: pa.DataType) -> Cast:
    """Floating point into int32 or int64: whole numbers within range."""
    bits = target.bit_width

    def cast(array: pa.Array) -> pa.Array:
        values = values_or_zero(array).astype(np.float64)
        with np.errstate(invalid="ignore"):
            fits = (np.trunc(values) == values) & (values >= -(2.0 ** (bits - 1))) & (values < 2.0 ** (bits - 1))
        raise_first(array, ~fits, "is not a whole number in range")
        return pa.array(values.astype(_NUMPY[target]), type=target, mask=null_mask(array))

    return cast


def integer_to_decimal(target: pa.DataType) -> Cast:
    """Whole numbers into a decimal128."""
    factor = 10**target.scale
    most = (min(10**target.precision, 2**63) - 1) // factor

    def convert(array: pa.Array) -> pa.Array:
        # pyarrow wants room for the widest value of the type, which the target may not have; so in two steps.
        wide = array.cast(pa.uint64() if pa.types.is_unsigned_integer(array.type) else pa.int64())
        return wide.cast(pa.decimal128(20, 0)).cast(target)

    def cast(array: pa.Array) -> pa.Array:
        values = values_or_zero(array)
        if len(values) and -most <= values.min() and values.max() <= most:
            return _masked(_decimals(values.astype(np.int64) * factor, target), array)
        return cast_or_find(array, convert, "has more digits than the type allows")

    return cast


def decimal_to_float(target: pa.DataType) -> Cast:
    """Decimals into the nearest float, if that is the same decimal again once rounded to the decimal's scale."""
    double = target.bit_width == 64

    def cast(array: pa.Array) -> pa.Array:
        scale = array.type.scale
        narrow, unscaled = _unscaled(array, 2**62)
        if double and narrow.all() and 0 <= scale <= _EXACT_POWER:
            # Correctly rounded up to 2**53; beyond that a float that passes the check below is the nearest one.
            floats = pa.array(unscaled / 10.0**scale, type=target, mask=null_mask(array))
        else:
            # Not decimal to float in one cast: pyarrow scales in floating point, one result in 25 is not the nearest.
            floats = array.cast(pa.string()).cast(target)
        values = values_or_zero(floats)
        sure = narrow & (np.abs(unscaled) < 10 ** (_DOUBLE_DIGITS if double else _SINGLE_DIGITS))
        if not sure.all() and 0 <= scale <= _EXACT_POWER:
            sure |= narrow & (np.abs(_distance(values.astype(np.float64), scale, unscaled)) < 0.499)
        if not sure.all():
            floats = _with_doubtful(array, floats, np.flatnonzero(~sure))
        return floats

    return cast


def float_to_decimal(target: pa.DataType) -> Cast:
    """Floats into the nearest decimal128 of the target's scale, if that reads back as the same float."""
    scale, limit = target.scale, 10**target.precision
    too_long = "has more digits than the type allows"

    def cast(array: pa.Array) -> pa.Array:
        values = values_or_zero(array)
        raise_first(array, ~np.isfinite(values), "is not a finite number")
        wide = values.astype(np.float64)
        unscaled = np.zeros(len(values), np.float64)
        done = np.zeros(len(values), np.bool_)
        if scale <= _EXACT_POWER:
            with np.errstate(over="ignore", invalid="ignore"):
                unscaled = np.rint(wide * 10.0**scale)
                # Below 2**51 the product is off by less than a half, so this is the nearest decimal.
                done = (np.abs(unscaled) < 2.0**51) & ((unscaled / 10.0**scale).astype(values.dtype) == values)
        whole = np.where(done, unscaled, 0).astype(np.int64)
        raise_first(array, np.abs(whole) >= min(limit, 2**62), too_long)
        digits = _digits(whole)
        for row in map(int, np.flatnonzero(~done)):
            exact = _nearest_decimal(float(wide[row]), scale)
            if exact is None or _as_float(exact, array.type) != values[row]:
                raise MisfitError(row, show_value(array, row), f"is not exact with {scale} decimal places")
            number = int(exact.scaleb(scale, _WIDE))
            if abs(number) >= limit:
                raise MisfitError(row, show_value(array, row), too_long)
            digits[row] = np.frombuffer(number.to_bytes(16, "little", signed=True), np.int64)
        return _masked(pa.Array.from_buffers(target, len(array), [None, pa.py_buffer(digits)]), array)

    return cast


def raise_first(array: pa.Array, bad: Mask, reason: str) -> None:
    """Raise a `MisfitError` for the first value that is marked and not null; do nothing where there is none."""
    if not bad.any():
        return
    mask = null_mask(array)
    if mask is not None:
        bad = bad & ~mask
    if bad.any():
        index = int(np.argmax(bad))
        raise MisfitError(index, show_value(array, index), reason)


def values_or_zero(array: pa.Array) -> Values:
    """The numbers of an array, 0 where it is null; a view of it where there are no nulls."""
    filled = pc.fill_null(array, 0) if array.null_count else array
    values: Values = filled.to_numpy(zero_copy_only=False)
    return values


def null_mask(array: pa.Array) -> Mask | None:
    """True where the array is null; None where it never is."""
    if not array.null_count:
        return None
    mask: Mask = array.is_null().to_numpy(zero_copy_only=False)
    return mask


def show_value(array: pa.Array, index: int) -> str:
    """One value as text for a message, shortened."""
    scalar = array[index]
    try:
        text = repr(scalar.as_py()) if _reads_well(array.type) else str(array.slice(index, 1).cast(pa.string())[0])
    except (pa.ArrowException, ValueError, OverflowError):
        text = str(scalar)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _reads_well(arrow_type: pa.DataType) -> bool:
    types = pa.types
    extension = isinstance(arrow_type, pa.BaseExtensionType)
    return not (types.is_temporal(arrow_type) or types.is_decimal(arrow_type) or extension)


def _masked(array: pa.Array, like: pa.Array) -> pa.Array:
    return pc.if_else(like.is_valid(), array, pa.scalar(None, array.type)) if like.null_count else array


def _digits(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Units of the last place as decimal128 has them: little-endian integers of 128 bits."""
    return np.stack([units, units >> 63], axis=1)


def _decimals(units: npt.NDArray[np.int64], target: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(target, len(units), [None, pa.py_buffer(_digits(units))])


def _distance(values: Values, scale: int, unscaled: Values) -> Values:
    """How far floats are from decimals, in units of the decimals' last place, without rounding on the way.

    Floats times 10**scale are taken as an exact sum of two floats (Dekker's product).
    """
    power = 10.0**scale
    product = values * power
    high, low = _halves(values)
    power_high, power_low = _halves(np.float64(power))
    rest = ((high * power_high - product) + high * power_low + low * power_high) + low * power_low
    whole = np.rint(product)
    whole = np.where(np.abs(whole) < 2.0**62, whole, 0)
    distance: Values = (whole.astype(np.int64) - unscaled).astype(np.float64) + (product - whole) + rest
    return distance


def _halves(values: Any) -> tuple[Any, Any]:
    """Floats as sums of two with half of the digits each (Veltkamp's split)."""
    shifted = values * 134217729.0  # 2**27 + 1
    high = shifted - (shifted - values)
    return high, values - high


def _with_doubtful(array: pa.Array, floats: pa.Array, rows: npt.NDArray[np.intp]) -> pa.Array:
    """The floats, with those of some rows rounded and examined one by one."""
    exact = array.take(pa.array(rows))
    nearest = exact.cast(pa.string()).cast(floats.type)
    for row, value, number in zip(rows.tolist(), exact.to_pylist(), nearest.to_pylist(), strict=True):
        if value is not None and _nearest_decimal(number, array.type.scale) != value:
            raise MisfitError(row, show_value(array, row), "has no counterpart that reads back the same")
    marked = np.zeros(len(array), np.bool_)
    marked[rows] = True
    return pc.replace_with_mask(floats, pa.array(marked), nearest)


def _unscaled(array: pa.Array, limit: int) -> tuple[Mask, Values]:
    """Which decimals are below the limit without their point, and those numbers (0 for the others and for nulls)."""
    if array.type.precision > 38:
        return np.zeros(len(array), np.bool_), np.zeros(len(array), np.int64)
    wide = array.cast(pa.decimal128(array.type.precision, array.type.scale))
    pairs = np.frombuffer(wide.buffers()[1], np.int64).reshape(-1, 2)[wide.offset : wide.offset + len(wide)]
    low, high = pairs[:, 0], pairs[:, 1]
    small: Mask = (high == low >> 63) & (low < limit) & (low > -limit)
    mask = null_mask(array)
    if mask is not None:
        small = small | mask
        low = np.where(mask, 0, low)
    return small, np.where(small, low, 0)


def _nearest_decimal(value: float, scale: int) -> Decimal | None:
    """The decimal of that scale next to a float; None for NaN and the infinities."""
    if not np.isfinite(value):
        return None
    return Decimal(value).quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_EVEN, context=_WIDE)


def _as_float(value: Decimal, arrow_type: pa.DataType) -> float:
    # By text: pyarrow's parser rounds once, also into a float32 where Python would round by way of a double.
    narrow = pa.float32() if arrow_type == pa.float16() else arrow_type
    return float(pa.scalar(format(value, "f")).cast(narrow).as_py())
