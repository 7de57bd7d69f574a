"""Statements about many settings that hold all at once: how far chance alone drives the furthest of them apart.

All comparisons are by max-t: against the 95 % point of the largest of many Student's ratios, found by simulation
(Hsu, "Multiple Comparisons", 1996, chapters 4 and 5; Westfall and Young, "Resampling-Based Multiple Testing", 1993).
Comparing each of 25 equal settings with the best by Student's t would call one worse in most sweeps: the best was
chosen for being far from the others.

A ratio divides by the spread of all settings together or by that of the setting itself, whichever is larger. The first
is known well from two seeds already; the second keeps a noisy setting from being judged by the calm of the others.
Where settings are unequally noisy, the points are those of settings that are as unequal (`noise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from transferpipe.sweep.comparing.noise import Floats, drawn, inequality
from transferpipe.sweep.comparing.statistics import ROUNDING, Estimate, estimate, t_quantile

_CONFIDENCE = 0.95
# The pair that is furthest apart lies among these many at both ends.
_ENDS = 24
# How much of their variance settings may share, seed by seed: one data set, one control.
_SHARED = (0.0, 0.3, 0.6, 0.8, 0.9)


def behind_best(values: Sequence[Sequence[float]], best: int) -> list[Estimate]:
    """Return how far each setting is from the one in row `best`, in intervals that hold at once for all pairs.

    Args:
        values: of each setting the scores, at least two, over the same seeds in the same order.
        best: the row that was chosen for its mean.

    Returns:
        The differences. Without an interval where seeds did not change them, from which nothing follows about others.
    """
    table = np.array(values, np.float64)
    count, seeds = table.shape
    gaps = table.mean(axis=1) - table[best].mean()
    if count == 1:
        return [Estimate(0.0, None, seeds)]
    alone = _variances_beside_seeds(table)
    point = pair_point(count, seeds, inequality(alone, seeds - 1))
    wide = _at_least_pooled(alone)
    # From the differences themselves: of sums of squares, those of equal ones leave the root of the rounding.
    shown = (table - table[best]).var(axis=1, ddof=1)
    errors, own = (np.sqrt(np.maximum(found + found[best], shown) / seeds) for found in (wide, alone))
    careful = max(point, t_quantile(seeds - 1))
    if seeds == 2:
        # A setting's own spread is hardly known then. Student's point for it would find nothing, however far off, and
        # the other judges a single noisy setting too soon: this lies between them.
        careful = math.sqrt(point * careful)
    halves = np.maximum(point * errors, careful * own)
    limit = ROUNDING * float(np.abs(table).max())
    return [
        Estimate(float(gap), float(half) if half > limit else None, seeds)
        for gap, half in zip(gaps, halves, strict=True)
    ]


def family(values: Sequence[Sequence[float]], settings: int | None = None) -> list[Estimate]:
    """Return the mean of each row, in intervals that hold at once: also for one that was picked for its mean.

    Args:
        values: of each setting the scores over its seeds.
        settings: how many settings there are to pick from, if not as many as rows.
    """
    found: dict[int, Estimate] = {}
    for seeds in {len(row) for row in values}:
        rows = [i for i, row in enumerate(values) if len(row) == seeds]
        if seeds == 1:
            found |= {i: estimate(values[i]) for i in rows}
            continue
        table = np.array([values[i] for i in rows], np.float64)
        own = np.where(np.ptp(table, axis=1) > 0, table.var(axis=1, ddof=1), 0.0)
        point = family_point(settings or len(values), seeds, inequality(own, seeds - 1))
        halves = point * np.sqrt(_at_least_pooled(own) / seeds)
        means = table.mean(axis=1)
        found |= {i: Estimate(float(means[k]), float(halves[k]), seeds) for k, i in enumerate(rows)}
    return [found[i] for i in range(len(values))]


@lru_cache(maxsize=1024)
def pair_point(settings: int, seeds: int, unequal: float = 0.0) -> float:
    """Return the 95 % point of the largest ratio over all pairs of settings with equal means; of two it is Student's.

    Args:
        settings: how many.
        seeds: of each.
        unequal: the `inequality` of their noise.

    >>> pair_point(2, 5), pair_point(25, 5) > 3, pair_point(25, 3, 0.5) > pair_point(25, 3)
    (2.776, True, True)
    """
    if settings == 2:
        return t_quantile(seeds - 1)
    shapes = drawn(settings, seeds, unequal)
    return max(_point(np.concatenate([_largest_of_pairs(values) for values in draws])) for draws in shapes)


@lru_cache(maxsize=1024)
def family_point(settings: int, seeds: int, unequal: float = 0.0) -> float:
    """Return the 95 % point of the largest ratio of a mean to its error over settings whose means are all 0.

    Nobody knows how much of their variance they share: it is the largest of the points for several shares.

    Args:
        settings: how many.
        seeds: of each.
        unequal: the `inequality` of their noise.

    >>> family_point(1, 5), family_point(25, 5) > 3
    (2.776, True)
    """
    alone = t_quantile(seeds - 1)  # what it is where they share all of it, and for one
    if settings == 1:
        return alone
    found = [alone]
    for draws in drawn(settings, seeds, unequal):
        by_share = zip(*[_largest_of_means(values) for values in draws], strict=True)
        found += [_point(np.concatenate(largest)) for largest in by_share]
    return max(found)


def _point(squares: Floats) -> float:
    return float(np.sqrt(np.quantile(squares, _CONFIDENCE)))


def _largest_of_pairs(values: Floats) -> Floats:
    """Return of each draw the square of the largest ratio over all pairs."""
    wide = _at_least_pooled(_variances_beside_seeds(values))
    order = values.mean(axis=-1).argsort(axis=-1)
    low, high = order[:, :_ENDS, None], order[:, -_ENDS:, None]
    lows, highs = (np.take_along_axis(values, rows, axis=1) for rows in (low, high))
    wides = (np.take_along_axis(wide, rows[..., 0], axis=1) for rows in (low, high))
    gaps = highs.mean(axis=-1)[:, None, :] - lows.mean(axis=-1)[..., None]
    squares = np.where(gaps > 0, gaps, 0.0) ** 2 * values.shape[-1]
    ratios = squares / np.maximum(_pair_variances(lows, highs, *wides), np.finfo(float).tiny)
    found: Floats = ratios.max(axis=(-1, -2))
    return found


def _largest_of_means(values: Floats) -> list[Floats]:
    """Return, for each share, of each draw the square of the largest ratio of a mean to its error."""
    common = values[::-1, :1]  # of other draws, so that it is nobody's own
    largest = []
    for share in _SHARED:
        mixed = np.sqrt(1 - share) * values + np.sqrt(share) * common
        wide = _at_least_pooled(mixed.var(axis=-1, ddof=1))
        largest.append((mixed.mean(axis=-1) ** 2 * mixed.shape[-1] / wide).max(axis=-1))
    return largest


def _variances_beside_seeds(values: Floats) -> Floats:
    """Return the variance of each setting beside what a seed does to all of them."""
    settings, seeds = values.shape[-2:]
    rest = values - values.mean(axis=-2, keepdims=True)
    rest = rest - rest.mean(axis=-1, keepdims=True)
    # A part 1/settings of each went into the mean of all.
    found: Floats = (rest**2).sum(axis=-1) / (seeds - 1) * settings / (settings - 1)
    return found


def _at_least_pooled(variances: Floats) -> Floats:
    found: Floats = np.maximum(variances, variances.mean(axis=-1, keepdims=True))
    return found


def _pair_variances(one: Floats, other: Floats, wide: Floats, wide_other: Floats) -> Floats:
    """Return the variance of the difference of every setting in `one` from every one in `other`.

    It is the sum of theirs, or what the differences seed by seed show, whichever is larger.
    """
    one, other = (rows - rows.mean(axis=-1, keepdims=True) for rows in (one, other))
    squares = (one**2).sum(axis=-1)[..., :, None] + (other**2).sum(axis=-1)[..., None, :]
    shown = (squares - 2 * one @ np.swapaxes(other, -1, -2)) / (one.shape[-1] - 1)
    found: Floats = np.maximum(wide[..., :, None] + wide_other[..., None, :], shown)
    return found
