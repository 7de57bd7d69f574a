"""What values say of a target that was trained already: one candidate's statistics are its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from transferpipe.planning.suggest.assignment import Scores
from transferpipe.planning.suggest.pieces import Fits, Piece
from transferpipe.planning.suggest.sides import Statistics
from transferpipe.recipe.model import SINGLE
from transferpipe.weights.spec import Catalog

# How much of a spread the statistics of a weight and of one that was trained on from it differ, and of others.
# Chance alone moves the statistics of n values by about 1/√n of a spread: at 400, others are not that close by chance.
_CLOSE, _FAR, _MANY = 0.05, 0.2, 400


def find_values(
    fits: Fits, undecided: Mapping[int, Sequence[int]], statistics: tuple[Statistics, Statistics]
) -> Scores:
    """Find what a target that was trained already has values like, where one candidate's are and no other's.

    Args:
        fits: what fits.
        undecided: by places, the targets that nothing else decides, and their candidates.
        statistics: those of source and target.
    """
    found = np.zeros((len(fits.targets), len(fits.sources)))
    catalogs = fits.pairing.sources[SINGLE], fits.pairing.target
    candidates = {j for others in undecided.values() for j in others}
    theirs = {j: _largest(fits.sources[j], catalogs[0], statistics[0]) for j in candidates}
    for i, others in undecided.items():
        size, mine = _largest(fits.targets[i], catalogs[1], statistics[1])
        distances = sorted((_distance(mine, theirs[j][1]), j) for j in others) if mine else []
        # Few values are near others by chance: the fewer there are, the nearer they must be.
        close = _CLOSE * min(1.0, math.sqrt(size / _MANY))
        # Near by itself, and the next one far: the nearest of several near ones would be chance.
        if len(distances) > 1 and distances[0][0] < close and distances[1][0] > _FAR:
            found[i, distances[0][1]] = 1.0
    return found


def _largest(piece: Piece, catalog: Catalog, statistics: Statistics) -> tuple[int, tuple[float, ...] | None]:
    """Return how many values the largest weight of a piece has, and their statistics."""
    # The more values, the less chance moves their statistics; biases that are new are all 0.
    name = max(piece.weights, key=lambda weight: catalog[weight].size)
    return catalog[name].size, statistics(name)


def _distance(ours: tuple[float, ...], theirs: tuple[float, ...] | None) -> float:
    """Return by how much of a spread two values' statistics differ at most."""
    if theirs is None:
        return np.inf
    # A constant has no spread: then any difference is infinitely many.
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(ours[1], theirs[1], 1e-30)
