"""Statements about many settings that hold all at once: how far chance alone drives the furthest of them apart.

All comparisons are by max-t: against the 95 % point of the largest of many Student's ratios, found by simulation
(Hsu, "Multiple Comparisons", 1996, chapters 4 and 5; Westfall and Young, "Resampling-Based Multiple Testing", 1993).
Comparing each of 25 equal settings with the best by Student's t would call one worse in most sweeps: the best was
chosen for being far from the others.

A ratio divides by the spread of all settings together or by that of the setting itself, whichever is larger. The first
is known well from two seeds already; the second keeps a noisy setting from being judged by the calm of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from transferpipe.sweep.comparing.statistics import ROUNDING, Estimate, estimate, t_quantile

Floats = NDArray[np.float64]

_CONFIDENCE = 0.95
# The tail that it leaves is then known to 0.002; of very many settings to 0.004.
_DRAWS, _FEWER_DRAWS, _MANY = 10_000, 3_000, 1_000
_NUMBERS_AT_ONCE = 1 << 20
# The pair that is furthest apart lies among these many at both ends.
_ENDS = 24
# More seeds are judged as if they were so many, which is a little too careful.
_MOST_SEEDS = 64
# Points between are those of the next larger number of settings, so that a sweep that grows needs few of them.
_COUNTS = (*range(2, 13), 15, 20, 25, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
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
    alone, point = _variances_beside_seeds(table), pair_point(count, seeds)
    wide = _at_least_pooled(alone)
    # From the differences themselves: of sums of squares, those of equal ones leave the root of the rounding.
    shown = (table - table[best]).var(axis=1, ddof=1)
    errors, own = (np.sqrt(np.maximum(found + found[best], shown) / seeds) for found in (wide, alone))
    # Of two seeds a setting's own spread is hardly known. Student's point for it would find nothing, however far off,
    # and the other judges a single noisy setting too soon: this lies between them.
    careful = float(np.sqrt(point * max(point, t_quantile(seeds - 1))))
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
        wide = _at_least_pooled(np.where(np.ptp(table, axis=1) > 0, table.var(axis=1, ddof=1), 0.0))
        halves = family_point(settings or len(values), seeds) * np.sqrt(wide / seeds)
        means = table.mean(axis=1)
        found |= {i: Estimate(float(means[k]), float(halves[k]), seeds) for k, i in enumerate(rows)}
    return [found[i] for i in range(len(values))]


@lru_cache(maxsize=1024)
def pair_point(settings: int, seeds: int) -> float:
    """Return the 95 % point of the largest ratio over all pairs of equal settings; of two it is Student's.

    >>> pair_point(2, 5), pair_point(25, 5) > 3
    (2.776, True)
    """
    if settings == 2:
        return t_quantile(seeds - 1)
    largest = []
    for values in _drawn(settings, seeds):
        wide = _at_least_pooled(_variances_beside_seeds(values))
        order = values.mean(axis=-1).argsort(axis=-1)
        low, high = order[:, :_ENDS, None], order[:, -_ENDS:, None]
        lows, highs = (np.take_along_axis(values, rows, axis=1) for rows in (low, high))
        wides = (np.take_along_axis(wide, rows[..., 0], axis=1) for rows in (low, high))
        gaps = highs.mean(axis=-1)[:, None, :] - lows.mean(axis=-1)[..., None]
        squares = np.where(gaps > 0, gaps, 0.0) ** 2 * values.shape[-1]
        ratios = squares / np.maximum(_pair_variances(lows, highs, *wides), np.finfo(float).tiny)
        largest.append(ratios.max(axis=(-1, -2)))
    return float(np.sqrt(np.quantile(np.concatenate(largest), _CONFIDENCE)))


@lru_cache(maxsize=1024)
def family_point(settings: int, seeds: int) -> float:
    """Return the 95 % point of the largest ratio of a mean to its error over settings whose means are all 0.

    Nobody knows how much of their variance they share: it is the largest of the points for several shares.

    >>> family_point(1, 5), family_point(25, 5) > 3
    (2.776, True)
    """
    alone = t_quantile(seeds - 1)  # what it is where they share all of it, and for one
    if settings == 1:
        return alone
    largest = []
    for values in _drawn(settings, seeds):
        common = values[::-1, :1]  # of other draws, so that it is nobody's own
        for share in _SHARED:
            mixed = np.sqrt(1 - share) * values + np.sqrt(share) * common
            wide = _at_least_pooled(mixed.var(axis=-1, ddof=1))
            largest.append((mixed.mean(axis=-1) ** 2 * mixed.shape[-1] / wide).max(axis=-1))
    by_share = [np.concatenate(largest[i :: len(_SHARED)]) for i in range(len(_SHARED))]
    return max(alone, *(float(np.sqrt(np.quantile(found, _CONFIDENCE))) for found in by_share))


def _drawn(settings: int, seeds: int) -> Iterator[Floats]:
    """Yield draws of equal settings, of shape (draws, settings, seeds): always the same ones."""
    settings = next((count for count in _COUNTS if count >= settings), settings)
    seeds = min(seeds, _MOST_SEEDS)
    random = np.random.default_rng(np.random.SeedSequence([settings, seeds]))
    left = _DRAWS if settings * seeds <= _MANY else _FEWER_DRAWS
    while left > 0:
        size = min(left, max(_NUMBERS_AT_ONCE // (settings * (seeds + _ENDS)), 1))
        yield random.standard_normal((size, settings, seeds))
        left -= size


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
