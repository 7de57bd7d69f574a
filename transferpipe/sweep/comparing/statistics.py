"""What several seeds allow to be said of one setting: its mean and interval, and its differences from another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

# Student's t, 97.5 %, for 1 to 30 degrees of freedom; beyond, three terms of its expansion about the normal
# (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


# An accuracy is a fraction of no more examples than this, over all repetitions.
_MOST_EXAMPLES = 1_000_000
ROUNDING = 1e-12
"""Relative to the values: a smaller spread is what rounding left."""
# How far rounding takes a mean of such fractions from its true value, relative to it.
_NEARLY = Fraction(1, 1 << 50)
# Keras's own metrics are numbers of 32 bits. One in some fifteen is the nearest to such a fraction by accident: it
# moves by less than 32 bits tell apart, and no two numbers come to stand for one.
_MOST_IN_32_BITS, _MOST_OF_DECIMALS = 2_000, 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: the mean.
        half_width: half of the 95 % interval of the mean; None where there is none, as from a single value.
        count: how many seeds.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def is_constant(self) -> bool:
        """Whether several values are equal to the last bit: nothing in them depended on the seed."""
        return self.half_width == 0

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself where there is none."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself where there is none."""
        return self.mean + (self.half_width or 0.0)

    def __str__(self) -> str:
        spread = f" ± {self.half_width:.4f}" if self.half_width is not None else ""
        return f"{self.mean:.4f}{spread} (n={self.count})"


def t_quantile(degrees: int) -> float:
    """Return the 97.5 % point of Student's t.

    >>> t_quantile(4), round(t_quantile(60), 2)
    (2.776, 2.0)
    """
    return _T[degrees - 1] if degrees <= len(_T) else 1.95996 + 2.3723 / degrees + 2.8225 / degrees**2


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and interval of at least one value.

    >>> str(estimate([0.90, 0.92, 0.94]))
    '0.9200 ± 0.0497 (n=3)'
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count > 1 and len(set(values)) == 1:  # exactly: the division above may round
        return Estimate(values[0], 0.0, count)
    if count < 2:
        return Estimate(mean, None, count)
    # Deviations first: of accuracies near 1 the difference of two sums of squares keeps few digits.
    variance = math.fsum((v - mean) ** 2 for v in values) / (count - 1)
    return Estimate(mean, t_quantile(count - 1) * math.sqrt(variance / count), count)


def exact_mean(values: Sequence[float]) -> Fraction:
    """Return the mean as a fraction, values that can be accuracies taken for the fractions that they stand for.

    Sums of floats would part settings that got the same number of examples right:

    >>> exact_mean([0.9, 0.7]) == exact_mean([0.8, 0.8]), sum([0.1, 0.2]) == 0.3
    (True, False)

    So it is with accuracies of 32 bits, as `keras.Model.evaluate` gives them:

    >>> exact_mean([0.9800000190734863, 0.9399999976158142]) == exact_mean([0.9599999785423279])
    True
    """
    return sum((_round_to_meant(value) for value in values), Fraction()) / len(values)


def meant(value: float) -> float:
    """Return what a number stands for, as near as a float comes: an accuracy of 32 bits, the accuracy.

    >>> meant(0.9599999785423279), meant(0.7000000000000001), meant(0.123456789)
    (0.96, 0.7, 0.123456789)
    """
    return float(_round_to_meant(value))


def differences(one: Mapping[str, float], other: Mapping[str, float]) -> list[float]:
    """Return the differences seed by seed, over the seeds of both: of accuracies exactly, so equal ones stay equal.

    >>> differences({"0": 0.98, "1": 0.94}, {"0": 0.96, "1": 0.92})
    [0.02, 0.02]
    """
    return [float(_round_to_meant(one[seed]) - _round_to_meant(other[seed])) for seed in one if seed in other]


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> Estimate | None:
    """Return the mean difference of just two settings, not chosen among others; None if they share no seed.

    Its interval is infinite where seeds did not change it: how chance would is then unknown.
    """
    found = differences(one, other)
    if not found:
        return None
    limit = ROUNDING * max(map(abs, [*one.values(), *other.values()]))
    gap = estimate(found)
    return replace(gap, half_width=math.inf) if gap.half_width is not None and gap.half_width <= limit else gap


@lru_cache(maxsize=4096)
def _round_to_meant(value: float) -> Fraction:
    stored = Fraction(value)
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if float(single) == value and (found := _find_meant_number(single, stored)) is not None:
        return found
    simple = stored.limit_denominator(_MOST_EXAMPLES)
    return simple if abs(simple - stored) <= abs(stored) * _NEARLY else stored


def _find_meant_number(single: np.float32, stored: Fraction) -> Fraction | None:
    """Return the decimal number of few digits, or else the fraction of few examples, that a float32 stands for."""
    if not np.isfinite(single):
        return None
    decimal, simple = Fraction(str(single)), stored.limit_denominator(_MOST_IN_32_BITS)
    if decimal.denominator <= _MOST_OF_DECIMALS:
        return decimal
    return simple if np.float32(float(simple)) == single else None
