"""How unequally noisy settings are, and draws of equal settings that are as unequal, for points that allow for it.

The largest of many ratios is larger by chance where some settings are noisier than their common spread says. So chance
is simulated with settings that are as unequal as those at hand: a parametric bootstrap (Krishnamoorthy, Lu and Mathew,
"A parametric bootstrap approach for ANOVA with unequal variances", Computational Statistics & Data Analysis 51, 2007).
A few seeds say next to nothing about the noise of one setting, but how unequal all of them are shows in the family, as
in Smyth's empirical Bayes (Statistical Applications in Genetics and Molecular Biology 3, 2004).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The tail beyond a point is then known to 0.002; of very many settings to 0.004.
_DRAWS, _FEWER_DRAWS, _MANY = 10_000, 3_000, 1_000
_DRAWS_OF_A_SHAPE = 2_000  # of unequal settings, which have several
_NUMBERS_AT_ONCE = 1 << 20
_FURTHER = 24  # numbers a setting, beside its seeds, that comparing pairs takes
# More seeds are judged as if they were so many, which is a little too careful.
_MOST_SEEDS = 64
# Points between are those of the next larger number of settings, so that a sweep that grows needs few of them.
_COUNTS = (*range(2, 13), 15, 20, 25, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
# Inequalities are rounded to the nearest of these, so that few points have to be found. Beyond the last, one setting is
# noisier than all others, and is judged by its own spread.
_INEQUALITIES = (0.0, 0.1, 0.2, 0.4, 0.8)
# Parts that are noisier than the rest, beside noise of every strength: by what makes the settings so unequal, or makes
# this share of the most that such a part can.
_NOISY_PARTS, _MOST_OF_PART = (0.5, 0.2), 0.75


def inequality(variances: Floats, degrees: int) -> float:
    """Return how unequal the noise of settings is, beyond what chance makes of equal noise: 0 is equal.

    Args:
        variances: as they were found, one a setting.
        degrees: the degrees of freedom of each.

    Returns:
        The logarithm of the mean square of their standard deviations over the square of the mean, rounded.

    >>> inequality(np.array([1.0, 1.0, 1.0]), 100), inequality(np.array([1.0, 1.0, 16.0, 16.0]), 100)
    (0.0, 0.4)
    """
    mean = float(np.sqrt(variances).mean())
    if len(variances) < 3 or not mean > 0:
        return 0.0
    # The root of a variance of few degrees of freedom is too small on average, and scatters.
    by_chance = 2 / degrees * math.exp(2 * (math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)))
    found = math.log(max(float(variances.mean()) / mean**2 * by_chance, 1.0))
    return min(_INEQUALITIES, key=lambda value: abs(value - found))


def drawn(settings: int, seeds: int, unequal: float = 0.0) -> Iterator[Iterator[Floats]]:
    """Yield draws of settings whose means are all 0, of shape (draws, settings, seeds): always the same ones.

    Args:
        settings: how many.
        seeds: of each.
        unequal: their `inequality`.

    Yields:
        For each shape that this may have, its draws.
    """
    settings = next((count for count in _COUNTS if count >= settings), settings)
    seeds = min(seeds, _MOST_SEEDS)
    for shape in (0.0, *_NOISY_PARTS) if unequal else (None,):
        yield _draws(settings, seeds, unequal, shape)


def _draws(settings: int, seeds: int, unequal: float, noisy: float | None) -> Iterator[Floats]:
    random = np.random.default_rng(np.random.SeedSequence([settings, seeds]))
    left = _DRAWS if settings * seeds <= _MANY else _FEWER_DRAWS
    left = left if noisy is None else _DRAWS_OF_A_SHAPE
    while left > 0:
        size = min(left, max(_NUMBERS_AT_ONCE // (settings * (seeds + _FURTHER)), 1))
        values = random.standard_normal((size, settings, seeds))
        if noisy is not None:
            values *= _deviations(random, (size, settings), unequal, noisy)[..., None]
        yield values
        left -= size


def _deviations(random: np.random.Generator, shape: tuple[int, int], unequal: float, noisy: float) -> Floats:
    """Return standard deviations that are so unequal: a part of them large or, with a part of 0, of every size."""
    if not noisy:
        return np.exp(math.sqrt(unequal) * random.standard_normal(shape))
    # With a part p that is r times as noisy, the squared coefficient of variation is p (1-p) (r-1)^2 / (1 + p (r-1))^2.
    squared = min(math.exp(unequal) - 1, _MOST_OF_PART * (1 - noisy) / noisy)
    root = math.sqrt(squared / (noisy * (1 - noisy)))
    found = np.ones(shape)
    found[:, : max(1, round(noisy * shape[1]))] += root / (1 - noisy * root)
    return found
