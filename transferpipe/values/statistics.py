"""What the numbers of a value are like: mean, spread, range, zeros, NaN; read in small parts, once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.segment import CHUNK
from transferpipe.values.stored import Array, StoredValue, is_whole, reading
from transferpipe.weights.spec import numpy_dtype

_PART = 1 << 15  # numbers whose float64s stay in the processor's cache


@dataclass(frozen=True)
class Statistics:
    """The numbers of one value. Mean, spread and range are those of the finite ones; None where there are none.

    Attributes:
        mean: their mean; of complex numbers, as the next three, that of their sizes.
        std: their standard deviation, that of all of them and not of a sample.
        min: the smallest.
        max: the largest.
        zeros: which part of all numbers is zero.
        nan: which part of all numbers is NaN.
        nonfinite: how many are NaN or infinite.
    """

    mean: float | None
    std: float | None
    min: float | int | None
    max: float | int | None
    zeros: float
    nan: float
    nonfinite: int


class Summarizer:
    """Looks at values, one after the other, in buffers that it keeps."""

    def __init__(self) -> None:
        self._buffer, self._wide = np.empty(CHUNK, np.uint8), np.empty(_PART)

    def summarize(self, value: StoredValue) -> Statistics:
        """Return what the numbers of `value` are like.

        The means and the squares of parts are put together as in Chan, Golub and LeVeque, "Updating Formulae and a
        Pairwise Algorithm for Computing Sample Variances", 1979, so that nothing is lost to a mean far from zero.

        Raises:
            FileError: the value cannot be read.
        """
        count, nan, nonfinite, zeros = 0, 0, 0, 0
        mean = squares = 0.0
        extremes: list[float | int] = []
        step = max(1, CHUNK // numpy_dtype(value.dtype).itemsize)
        with reading(value, self._buffer) as read, np.errstate(all="ignore"):
            for begin in range(0, value.size, step):
                part = read(begin, min(begin + step, value.size))
                for at in range(0, len(part), _PART):
                    numbers = part[at : at + _PART]
                    zeros += len(numbers) - int(np.count_nonzero(numbers))
                    finite = self._finite(numbers)
                    if len(finite) < len(numbers):
                        nan += int(np.isnan(numbers).sum())
                        nonfinite += len(numbers) - len(finite)
                    if not len(finite):
                        continue
                    extremes += _range(numbers if is_whole(numbers.dtype) else finite)
                    own = float(finite.mean())
                    # Centred on the part's own mean before squaring: squares of large means would swallow the spread.
                    np.subtract(finite, own, out=finite)
                    apart = own - mean
                    count += len(finite)
                    mean += apart * len(finite) / count
                    squares += float(np.square(finite, out=finite).sum())
                    squares += apart * apart * len(finite) * (count - len(finite)) / count
        size = max(1, value.size)
        if not count:
            return Statistics(None, None, None, None, zeros / size, nan / size, nonfinite)
        spread = math.sqrt(squares / count)
        return Statistics(mean, spread, min(extremes), max(extremes), zeros / size, nan / size, nonfinite)

    def _finite(self, numbers: Array) -> NDArray[np.float64]:
        """Return the finite ones as float64, in memory that may be written."""
        wide = self._wide[: len(numbers)]
        np.copyto(wide, np.abs(numbers) if numbers.dtype.kind == "c" else numbers, casting="unsafe")
        # A sum is infinite or NaN where a number is; one that only overflows costs the mask and nothing else.
        return wide if math.isfinite(wide.sum()) else wide[np.isfinite(wide)]


def _range(numbers: Array) -> list[float | int]:
    # As plain integers, which JSON knows; 16 bits hold all of these.
    if is_whole(numbers.dtype) and numbers.dtype.kind not in "iu":  # truth values, and integers of less than 8 bits
        numbers = numbers.astype(np.int16)
    return [numbers.min().item(), numbers.max().item()]
