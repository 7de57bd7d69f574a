"""Ridge regression on one-hot classes, in closed form for many penalties at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of the largest eigenvalue, whose rounding error, 1e-16 of it, is then at most a millionth of every denominator.
_LEAST_COST = 1e-10


@dataclass(frozen=True)
class Standardisation:
    """Shift and scale of every feature, taken from the training rows.

    Attributes:
        mean: of shape (features,).
        scale: standard deviations of shape (features,); 1 where a feature is constant.
    """

    mean: Floats
    scale: Floats

    def apply(self, features: NDArray[np.floating]) -> Floats:
        """Return rows of shape (n, features) shifted and scaled."""
        return (np.asarray(features, np.float64) - self.mean) / self.scale


def standardisation(features: NDArray[np.floating]) -> Standardisation:
    """Return what gives the rows of `features`, of shape (n, features), mean 0 and standard deviation 1."""
    rows = np.asarray(features, np.float64)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    # A constant feature has a spread of rounding errors, which must not be blown up.
    constant = spread <= 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    return Standardisation(mean, np.where(constant, 1.0, spread))


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier: the largest of ``rows @ weights + offsets`` is the class.

    Attributes:
        weights: of shape (features, classes).
        offsets: of shape (classes,).
        converged: whether the minimum was reached; in closed form it is.
    """

    weights: Floats
    offsets: Floats
    converged: bool = True

    def classes(self, rows: Floats) -> NDArray[np.int64]:
        """Return the class of every row."""
        found: NDArray[np.int64] = (rows @ self.weights + self.offsets).argmax(axis=1)
        return found


def fit_ridge(
    rows: Floats, labels: NDArray[np.int64], classes: int, penalties: Sequence[float]
) -> list[LinearClassifier]:
    """Return, for each penalty p, the least squares fit of one-hot classes with p * n * |weights|^2 added.

    The minimum of ``|rows @ w + b - onehot|^2 + p n |w|^2`` is, with the thin singular value decomposition
    ``centred rows = U S V^T``, ``w = V (S / (S^2 + p n)) U^T (onehot - mean)`` (Hoerl and Kennard, Technometrics 12,
    1970). The offset b is not penalised. One decomposition serves all penalties: the eigenvalues S^2 and eigenvectors
    of the smaller of ``R^T R`` and ``R R^T``, which take a tenth of the time of the singular values, where no penalty
    is so small that their rounding would show.

    Args:
        rows: of shape (n, features).
        labels: class numbers of shape (n,).
        classes: how many classes there are.
        penalties: each above 0.
    """
    centre = rows.mean(axis=0)
    onehot = np.eye(classes)[labels]
    frequency = onehot.mean(axis=0)
    costs = [penalty * len(rows) for penalty in penalties]
    return [
        LinearClassifier(weights, frequency - centre @ weights)
        for weights in _minima(rows - centre, onehot - frequency, costs)
    ]


def _minima(rows: Floats, targets: Floats, costs: Sequence[float]) -> Iterator[Floats]:
    """Yield, for each cost c, the weights w with the smallest ``|rows @ w - targets|^2 + c |w|^2``."""
    is_tall = rows.shape[0] >= rows.shape[1]
    squares, vectors = np.linalg.eigh(rows.T @ rows if is_tall else rows @ rows.T)
    if min(costs) < _LEAST_COST * squares[-1]:
        left, sizes, right = np.linalg.svd(rows, full_matrices=False)
        projected = left.T @ targets
        yield from (right.T @ ((sizes / (sizes**2 + cost))[:, None] * projected) for cost in costs)
        return
    squares = np.maximum(squares, 0)  # what rounding left of nothing
    projected = vectors.T @ (rows.T @ targets if is_tall else targets)
    for cost in costs:
        found = vectors @ (projected / (squares + cost)[:, None])
        yield found if is_tall else rows.T @ found
