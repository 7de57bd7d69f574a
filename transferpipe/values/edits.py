"""Changing single elements of a weight."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, VerificationError
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.edits import index_of
from transferpipe.recipe.model import Edit


def apply_edit(value: NDArray[Any], edit: Edit, index: Any = None, operand: Any = None) -> None:
    """Change the elements of `value` at `index`, which `edit` names, in place.

    Args:
        value: the weight.
        edit: what is done.
        index: which elements: an index of NumPy's, or a mask; those of the edit's own index where it is left out.
        operand: the number, or an array of the shape of the elements; the edit's own number where it is left out.

    Raises:
        VerificationError: the weight's dtype cannot hold a new value; nothing was changed.
    """
    index = index_of(edit, value.shape) if index is None else index
    operand = edit.value if operand is None else operand
    old = np.asarray(value[index])
    exact = kind_of(value.dtype.name) in ("integer", "b")
    value[index] = _whole(old, edit, operand) if exact else _round_once(old, edit, operand)


def _edit(old: NDArray[Any], edit: Edit, number: Any) -> NDArray[Any]:
    if edit.operation == "set":
        # As the weight's dtype at once: rounding happens once, there.
        return np.array(np.broadcast_to(number, old.shape), dtype=old.dtype)
    return np.asarray(old * number if edit.operation == "multiply" else old + number)


def _whole(old: NDArray[Any], edit: Edit, operand: Any) -> NDArray[Any]:
    """Compute with whole numbers exactly: a float does not hold all that 64 bits do."""
    low, high = (0, 1) if old.dtype.kind == "b" else (ml_dtypes.iinfo(old.dtype).min, ml_dtypes.iinfo(old.dtype).max)
    # As Python's ints, which have no end; ml_dtypes' narrow ones go through int64.
    whole = old.astype(np.int64) if old.dtype != np.uint64 else old
    # 0.1 as the fraction that the float is: a product is whole only if it really is.
    exactly = np.vectorize(Fraction, otypes=[object])(operand) if np.size(operand) else operand
    new = _edit(whole.astype(object), edit, exactly)
    for number in new.flat:
        if number != int(number) or not low <= number <= high:
            raise _does_not_fit(edit, float(number), old)
    return np.vectorize(int, otypes=[object])(new).astype(old.dtype) if new.size else old


def _round_once(old: NDArray[Any], edit: Edit, operand: Any) -> NDArray[Any]:
    """Compute in double precision and round once."""
    with np.errstate(all="ignore"):
        new = _edit(old.astype(np.complex128 if old.dtype.kind == "c" else np.float64), edit, operand)
        back = new.astype(old.dtype)
    overflow = ~np.isfinite(back) & (np.isfinite(old) | np.isfinite(new))
    lost = overflow | ((back == 0) & (new != 0))
    if lost.any():
        # What underflows to zero is lost as much as what overflows.
        raise _does_not_fit(edit, new[lost].flat[0], old)
    return back


def _does_not_fit(edit: Edit, number: Any, old: NDArray[Any]) -> VerificationError:
    what = f"{edit.operation} {edit.operand} gives {number}, which {old.dtype.name} cannot hold"
    return VerificationError(Problem(f"{edit.where}.{edit.operation}", what, "choose a value that the dtype holds"))
