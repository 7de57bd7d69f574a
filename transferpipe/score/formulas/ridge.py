"""Ridge regression on one-hot classes, in closed form for many penalties at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
    1970). The offset b is not penalised. One decomposition serves all penalties.

    Args:
        rows: of shape (n, features).
        labels: class numbers of shape (n,).
        classes: how many classes there are.
        penalties: each above 0.
    """
    centre = rows.mean(axis=0)
    onehot = np.eye(classes)[labels]
    frequency = onehot.mean(axis=0)
    left, sizes, right = np.linalg.svd(rows - centre, full_matrices=False)
    projected = left.T @ (onehot - frequency)
    fits = []
    for penalty in penalties:
        weights = right.T @ ((sizes / (sizes**2 + penalty * len(rows)))[:, None] * projected)
        fits.append(LinearClassifier(weights, frequency - centre @ weights))
    return fits
