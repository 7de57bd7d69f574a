"""What is refused of a value: NaN, infinity, a negative variance, a number that its dtype does not hold."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, VerificationError
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.transforms import Transform
from transferpipe.planning.transforms.computing.values import Cast
from transferpipe.text.collapse import counted
from transferpipe.values.cast_errors import CastError, measure_cast
from transferpipe.weights.spec import numpy_dtype

_INTEGERS = ("int8", "int16", "int32", "int64")  # the narrowest first


def check_finite(value: NDArray[Any], where: str) -> None:
    """Raise if `value` holds NaN or infinity."""
    # Whole numbers are always finite, and NumPy knows no NaN of some of them.
    if kind_of(value.dtype.name) != "float":
        return
    finite = np.isfinite(value)
    if not finite.all():
        bad = ~finite
        # As plain ints: a message shows [0, 3], not NumPy's own types.
        first = [int(i) for i in np.argwhere(bad)[0]]
        count, place = int(bad.sum()), f"{value[tuple(first)]}, at {first}"
        what = f"holds {count:,} values that are NaN or infinite, the first, {place}"
        if count == 1:
            what = f"holds 1 value that is NaN or infinite, {place}"
        raise VerificationError(
            Problem(where, what, "take another source; to copy it as it is: verify.nonfinite=allow")
        )


def check_variance(value: NDArray[Any], where: str) -> None:
    """Raise if a variance is negative."""
    negative = value < 0
    if negative.any():
        what = f"a variance is negative: {value[negative].min()}"
        raise VerificationError(
            Problem(where, what, "take another source; to copy it as it is: verify.negative_variance=allow")
        )


def check_step(
    step: Transform, before: list[NDArray[Any]], after: NDArray[Any], where: str, may_overflow: bool = False
) -> CastError:
    """Return what a transform changes of values that were to stay the same.

    Raises:
        VerificationError: finite numbers became NaN or infinite, or a cast loses the weight.
    """
    if isinstance(step, Cast):
        if not may_overflow:
            _check_range(before[0], after, where)
        _check_whole_range(before[0], after, where)
        return _check_loss(before[0], after, where)
    # What was not finite before is the source's: that was refused there, or allowed.
    if step.computes and not np.isfinite(after).all() and all(np.isfinite(b).all() for b in before):
        count = int((~np.isfinite(after)).sum())
        what = f"{step} makes {counted(count, 'finite value')} infinite or NaN: {after.dtype.name} cannot hold them"
        raise VerificationError(Problem(where, what, step.advise_overflow(after.dtype.name)))
    return CastError()


def cast(value: NDArray[Any], dtype: str, where: str) -> tuple[NDArray[Any], CastError]:
    """Return `value` as `dtype` and what the cast changes.

    Raises:
        VerificationError: the dtype cannot hold a value, or the weight is lost in it.
    """
    wanted = numpy_dtype(dtype)
    # Most weights: nothing is looked at, let alone copied.
    if value.dtype == wanted:
        return value, CastError()
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        result = value.astype(wanted)
    # Between floats only becoming infinite is no fit; what rounding loses, `measure_cast` judges.
    if kind_of(dtype) in ("float", "c"):
        fits = np.isfinite(result) | ~np.isfinite(value)
    else:  # between dtypes of one width, numbers wrap around and back again, but change their sign
        fits = (result.astype(value.dtype) == value) & ((result < 0) == (value < 0))
    if not fits.all():
        # One number that its reader can look for in the source.
        first = value[~fits].flat[0]
        fix = f"give the target weight a dtype that holds it, such as {value.dtype.name}"
        raise VerificationError(
            Problem(where, f"{first} cannot be held by {dtype} (the source is {value.dtype.name})", fix)
        )
    return result, _check_loss(value, result, where)


def _check_range(before: NDArray[Any], after: NDArray[Any], where: str) -> None:
    """Raise if a cast between floats makes finite numbers infinite or NaN, though a rule asks for the cast."""
    if kind_of(before.dtype.name) != "float" or kind_of(after.dtype.name) != "float":
        return
    lost = ~np.isfinite(after) & np.isfinite(before)
    if lost.any():
        fix = f"cast to bfloat16, or leave it {before.dtype.name}; to have it so: verify.nonfinite=allow"
        raise _lost_numbers(before, after, lost, where, fix)


def _check_whole_range(before: NDArray[Any], after: NDArray[Any], where: str) -> None:
    """Raise if a cast that a rule asks for takes floats beyond the range of an integer dtype.

    What becomes of them NumPy leaves to the processor: -151 is 105 as int8 on one, and -128 on another. Integers wrap
    around alike everywhere, which a rule may want.
    """
    if kind_of(before.dtype.name) != "float" or kind_of(after.dtype.name) != "integer":
        return
    whole = np.trunc(before.astype(np.float64))
    least = float(ml_dtypes.iinfo(after.dtype).min)
    lost = np.isfinite(before) & ((whole < least) | (whole >= _end_of(after.dtype.name)))
    if lost.any():
        raise _lost_numbers(before, after, lost, where, _fit_range(whole[lost], after.dtype.name))


def _lost_numbers(
    before: NDArray[Any], after: NDArray[Any], lost: NDArray[Any], where: str, fix: str
) -> VerificationError:
    old, new = before[lost].flat[0], after[lost].flat[0]
    count = counted(int(lost.sum()), "finite number")
    what = f"the cast from {before.dtype.name} to {after.dtype.name} loses {count}: {old:g} becomes {new}"
    return VerificationError(Problem(where, what, fix))


def _fit_range(beyond: NDArray[Any], dtype: str) -> str:
    """Return what brings whole numbers into the range of an integer dtype, or into that of a wider one."""
    limits = ml_dtypes.iinfo(numpy_dtype(dtype))
    most = float(np.abs(beyond).max())
    wider = next((d for d in _INTEGERS if most < _end_of(d)), None)
    if wider is None:
        return "leave it a float"
    if limits.min == 0 and beyond.min() < 0:
        return f"give the target weight {wider}, and cast to that"
    # Rounded down to two digits, so that the largest number stays inside.
    digits = 1 - math.floor(math.log10(limits.max / most))
    factor = math.floor(limits.max / most * 10**digits) / 10**digits
    return f"give the target weight {wider}, and cast to that; or scale it before the cast: {{scale: {factor:g}}}"


def _end_of(dtype: str) -> float:
    # One beyond the largest number, which as a float is exact: the largest of int64 is not.
    return float(ml_dtypes.iinfo(numpy_dtype(dtype)).max + 1)


def _check_loss(before: NDArray[Any], after: NDArray[Any], where: str) -> CastError:
    error = measure_cast(before, after)
    if error.loses_all:
        old, new = error.example
        what = (
            f"the cast from {before.dtype.name} to {after.dtype.name} loses the weight: {error.lost:,} of "
            f"{error.counting:,} numbers are off by their own size or more; {old:.3g} becomes {new:.3g}"
        )
        raise VerificationError(Problem(where, what, _keep_numbers(before.dtype.name, after.dtype.name)))
    return error


def _keep_numbers(before: str, after: str) -> str:
    keep = f"keep it in {before}: give the target weight that dtype, and leave out the cast"
    if kind_of(before) == "float" and kind_of(after) == "integer":
        return f"{keep}; to get a quantized model, transfer into a model in {before} and add `quantize: int8`"
    return keep
