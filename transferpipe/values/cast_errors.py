"""How much a cast changes a weight: its worst number, and the weight as a whole.

One number that becomes zero has a relative error of 1, and means nothing beside others that are a million times as
large: float16 has no 1e-9. So two figures are kept. `largest` is that of the worst number, whatever its size, and
stands in the manifest. What is warned of and refused goes by the size of the weight's numbers:

* `felt` is the largest relative error among the numbers that count, which are at least a hundredth of the weight's
  root mean square; 0.1 and more is warned of.
* The cast is refused where it loses the weight: the norm of the change reaches that of the weight, or most of the
  numbers that count are off by as much as they are large, such as those of a float kernel cast to int8.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARNED = 0.1
_COUNTS = 0.01  # of the root mean square; what is smaller is noise beside the rest
_PART = 1 << 18  # numbers looked at together, so that no wide copy of a large weight is made
_LARGEST = sys.float_info.max  # JSON has no infinity


@dataclass(frozen=True)
class CastError:
    """What a cast changes.

    Attributes:
        largest: the largest relative error of a finite number that is not zero.
        felt: the same among the numbers that count.
        lost: how many of those are off by at least their own size.
        counting: how many count.
        norm: the norm of the change, relative to that of the weight; numbers that became infinite are left out.
        example: the number that counts with the largest error, before and after.
    """

    largest: float = 0.0
    felt: float = 0.0
    lost: int = 0
    counting: int = 0
    norm: float = 0.0
    example: tuple[Any, Any] = (0, 0)

    @property
    def loses_all(self) -> bool:
        """Whether nothing of the weight is left that would mean what it meant."""
        return self.norm >= 1 or 2 * self.lost > self.counting


def measure_cast(before: NDArray[Any], after: NDArray[Any]) -> CastError:
    """Return how much a cast from `before` to `after` changed; a truth value only tells zero from the rest."""
    if after.dtype.kind == "b" or before.dtype == after.dtype:
        return CastError()
    # Once over all numbers first: which of them count depends on the whole weight.
    norm_before, count = _sum_squares(before)
    least = _COUNTS * math.sqrt(norm_before / count) if count else 0.0
    largest, felt, lost, counting, changed, example = 0.0, 0.0, 0, 0, 0.0, (0, 0)
    for old, new in _parts(before, after):
        # Zero stays zero, and what is not finite is judged elsewhere (`checks`).
        known = np.isfinite(old) & (old != 0)
        old, new = old[known], new[known]
        with np.errstate(all="ignore"):
            size = np.abs(old)
            off = np.abs(new - old)
            # A number that overflowed is off by infinitely much, and the manifest is JSON.
            errors = np.nan_to_num(off / size, nan=_LARGEST, posinf=_LARGEST)
        largest = max(largest, float(errors.max(initial=0.0)))
        # `cast` refuses what became infinite where that is no fit; here it must not hide all other changes.
        finite = np.isfinite(new)
        with np.errstate(over="ignore"):
            changed += float(np.square(off[finite]).sum())
        counts = size >= least
        counting += int(counts.sum())
        # At least as far off as it is large: zero would have been as good.
        lost += int((counts & finite & (errors >= 1)).sum())
        worst = float(errors[counts].max(initial=0.0))
        if worst > felt:
            at = int(np.argmax(np.where(counts, errors, -1)))
            felt, example = worst, (old[at], new[at])
    # A norm beyond float64's range says nothing: the count of lost numbers then decides.
    norm = math.sqrt(changed / norm_before) if norm_before and math.isfinite(changed) else 0.0
    return CastError(largest, felt, lost, counting, norm, example)


def _sum_squares(value: NDArray[Any]) -> tuple[float, int]:
    """Return the sum of the squares of the finite numbers that are not zero, and how many those are."""
    total, count = 0.0, 0
    for (part,) in _parts(value):
        size = np.abs(part[np.isfinite(part) & (part != 0)])
        with np.errstate(over="ignore"):
            total += float(np.square(size).sum())
        count += size.size
    return min(total, _LARGEST), count


def _parts(*values: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield arrays of one shape part by part, as float64, or as complex128 where one is complex."""
    # Wide enough that the measure itself loses nothing of float32 and narrower.
    wide = np.complex128 if any(v.dtype.kind == "c" for v in values) else np.float64
    flat = [v.reshape(-1) for v in values]
    for begin in range(0, flat[0].size, _PART):
        yield tuple(v[begin : begin + _PART].astype(wide) for v in flat)
