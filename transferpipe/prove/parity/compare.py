"""Whether two outputs agree: by how much they may differ, in which order of axes, and what says nothing at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.keras_trace import Call, as_array, finite

# Of what the inputs change in an output, the part that rounding may. Other libraries add up in another order: a few
# hundred layers of float32 sums come to about 1e-5, where another epsilon (1e-3 for 1e-5) is 5e-4; this lies between.
_RELATIVE, _FLOOR = 1e-4, 1e-5
# Two Keras models on one machine run the same kernels: what differs then is the order of sums, if anything.
_RELATIVE_ALIKE, _FLOOR_ALIKE = 2e-5, 5e-6
# One unit in the last place of 1: 2**-52, 2**-23, 2**-10 and 2**-7.
_EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.9e-3}
BOTH = "the values of both models hold NaN or infinity"
_COARSE = 16  # units of rounding that a network of short floats adds up to


@dataclass(frozen=True)
class Tolerance:
    """How far outputs may be apart.

    Attributes:
        relative: of the range that the inputs cause.
        floor: of the largest value, which even a value that hardly varies is rounded to.
        atol: given by the user, in place of both.
        rtol: the same, as a part of each expected value.
        rounding: what quantization may add in this output.
    """

    relative: float = _RELATIVE
    floor: float = _FLOOR
    atol: float | None = None
    rtol: float | None = None
    rounding: float = 0.0


@dataclass(frozen=True)
class Difference:
    """What comparing two arrays gave: the largest difference, what is allowed, the scale, and whether it says much."""

    largest: float
    allowed: float
    scale: float
    agrees: bool
    conclusive: bool = True
    reason: str = ""


def tolerance_for(
    dtypes: Iterable[str], atol: float | None = None, rtol: float | None = None, alike: bool = False
) -> Tolerance:
    """Return the tolerance for models that compute, or keep weights, in `dtypes`: the coarsest one decides.

    Args:
        dtypes: of both models.
        atol: given by the user, in place of what is scaled.
        rtol: the same.
        alike: whether both are run by Keras on this machine.
    """
    names = set(dtypes)
    eps = max((_EPS[n] for n in names if n in _EPS), default=_EPS["float32"])
    if eps > _EPS["float32"]:
        return Tolerance(_COARSE * eps, _COARSE / 2 * eps, atol, rtol)
    return Tolerance(*((_RELATIVE_ALIKE, _FLOOR_ALIKE) if alike else (_RELATIVE, _FLOOR)), atol, rtol)


def spread(value: NDArray[Any]) -> float:
    """Return how much of an output depends on its input: its largest distance from its mean over the batch.

    Of one sample alone that cannot be seen: then it is the distance from the mean of its elements.
    """
    if not value.size:
        return 0.0
    wide = value.astype(np.float64)
    centre = wide.mean(axis=0, keepdims=True) if wide.ndim and wide.shape[0] > 1 else wide.mean()
    return float(np.max(np.abs(wide - centre)))


def is_constant(value: NDArray[Any]) -> bool:
    """Tell whether an output does not depend on its input, beyond what rounding leaves."""
    largest = float(np.max(np.abs(value.astype(np.float64)), initial=0.0))
    # A unit or two in the last place of float32.
    return spread(value) <= 2e-7 * largest


def activate_like(call: Call, other: Call) -> NDArray[Any] | None:
    """Return what `other`, of which values alone are known, gives behind the activation that is part of `call`'s layer.

    torch and ONNX keep an activation apart from the layer that it follows; a layer of Keras may apply it itself.
    """
    activation = getattr(call.layer, "activation", None)
    if other.layer is not None or other.value is None or activation is None or hasattr(call.layer, "cell"):
        return None
    if getattr(activation, "__name__", "") == "linear" or other.value.dtype.kind not in "fV":
        return None
    return as_array(activation(other.value))


def compare(got: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance) -> Difference:
    """Return how far `got` is from `expected`; where channels come first in one of them, in the other's order."""
    scale = float(np.max(np.abs(np.where(np.isfinite(e := expected.astype(np.float64)), e, 0)), initial=0.0))
    orders = [o for o in _orders(expected) if o.shape == got.shape]
    if not orders:
        return Difference(math.inf, 0.0, scale, False, reason=f"shape {got.shape}, expected {expected.shape}")
    if not finite(got) and not finite(expected):
        return Difference(math.inf, 0.0, scale, False, conclusive=False, reason=BOTH)
    for value, whose in ((got, "the target's"), (expected, "the original's")):
        if not finite(value):
            return Difference(math.inf, 0.0, scale, False, reason=f"{whose} values hold NaN or infinity")
    found = [_difference(got, order, tolerance, scale) for order in orders]
    return next((f for f in found if f.agrees), found[0])


def _orders(value: NDArray[Any]) -> list[NDArray[Any]]:
    # Without places, channels cannot lie before or behind them.
    if value.ndim < 3:
        return [value]
    return [value, np.moveaxis(value, 1, -1), np.moveaxis(value, -1, 1)]


def _difference(got: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance, scale: float) -> Difference:
    if not got.size:
        return Difference(0.0, 0.0, scale, True, conclusive=False, reason="no elements")
    # Classes and tokens: no rounding moves a whole number.
    if got.dtype.kind in "iub" and expected.dtype.kind in "iub":
        largest = float(np.max(np.abs(got.astype(np.float64) - expected.astype(np.float64))))
        return Difference(largest, 0.0, scale, largest == 0)
    wide = expected.astype(np.float64)
    off = np.abs(got.astype(np.float64) - wide)
    largest, range_ = float(off.max()), spread(expected)
    if tolerance.atol is not None or tolerance.rtol is not None:
        each = (tolerance.atol or 0.0) + (tolerance.rtol or 0.0) * np.abs(wide)
        return Difference(largest, float(np.max(each)), scale, bool(np.all(off <= each)))
    allowed = max(tolerance.relative * range_, tolerance.floor * scale) + tolerance.rounding
    agrees = largest <= allowed
    # An output that the inputs hardly change equals every other such: only a difference far below that change counts.
    # Few bits may change more of it; beyond half of the change they leave nothing to compare.
    least = max(0.05, tolerance.relative, min(tolerance.rounding / range_, 0.5) if range_ else 0.0)
    return Difference(largest, allowed, scale, agrees, conclusive=largest <= least * range_)
