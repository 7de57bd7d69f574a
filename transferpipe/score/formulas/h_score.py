"""The H-score: how much of the features' variation lies between the classes.

Sources: Bao, Li, Huang, Zhang, Zheng, Zamir, Guibas, "An Information-Theoretic Approach to Transferability in Task
Transfer Learning", ICIP 2019, arXiv:2212.10082. With shrinkage: Ibrahim, Ponomareva, Mazumder, "Newer is not always
better: Rethinking transferability metrics, their peculiarities, stability and performance", 2021, arXiv:2110.06893,
where the covariance is that of Ledoit and Wolf, J. Multivariate Analysis 88, 2004.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)
# Rows a feature: labels that mean nothing then give at most a tenth of the largest value without any shrinkage.
_MANY_ROWS = 10


def h_score(features: NDArray[np.floating], labels: NDArray[np.int64], *, shrinkage: bool = False) -> float:
    """Return trace(pseudo-inverse(cov(f)) cov(mean of f in its class)), from 0 to (number of classes - 1).

    Args:
        features: f, of shape (n, features).
        labels: class numbers of shape (n,).
        shrinkage: estimate cov(f) by Ledoit and Wolf, which is invertible with few rows too, and shrink the
            numerator by the same factor. Where nothing would be left of both, as of features whose covariance differs
            from a multiple of unity by noise alone, nothing is shrunk if there are ten rows or more a feature.

    Returns:
        Higher is better. Without shrinkage, n rows in n or more dimensions give the largest value whatever the labels.
    """
    rows = np.asarray(features, np.float64)
    rows = rows - rows.mean(axis=0)
    means = np.zeros_like(rows)
    for label in np.unique(labels):
        means[labels == label] = rows[labels == label].mean(axis=0)
    shrunk = ledoit_wolf(rows) if shrinkage else 0.0
    if not shrinkage or (shrunk == 1 and len(rows) >= _MANY_ROWS * rows.shape[1]):
        return _explain_rows(rows, means)
    covariance = rows.T @ rows / len(rows)
    size = float(np.trace(covariance)) / len(covariance)
    mixed = (1 - shrunk) * covariance + shrunk * size * np.eye(len(covariance))
    between = (1 - shrunk) * means.T @ means / len(rows)
    return float(np.trace(np.linalg.pinv(mixed, hermitian=True) @ between))


def _explain_rows(rows: Floats, means: Floats) -> float:
    """Return the H-score of centred rows: the squared size of the class means in an orthonormal basis of the rows."""
    _, sizes, right = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > sizes.max(initial=0.0) * max(rows.shape) * np.finfo(np.float64).eps
    whitened = means @ right[kept].T / sizes[kept]
    return float((whitened**2).sum())


def ledoit_wolf(rows: Floats) -> float:
    """Return how far, 0 to 1, the covariance of centred rows (n, features) should shrink to a multiple of unity."""
    n, dimension = rows.shape
    covariance = rows.T @ rows / n
    size = float(np.trace(covariance)) / dimension
    distance = float(((covariance - size * np.eye(dimension)) ** 2).sum())
    # Where the covariance is such a multiple already, as of a single feature it always is, nothing is to be shrunk.
    if distance <= float(dimension * (size * _EPS * max(rows.shape)) ** 2):
        return 0.0
    noise = (float(((rows**2).sum(axis=1) ** 2).sum()) / n - float((covariance**2).sum())) / n
    return float(min(max(noise, 0.0) / distance, 1.0))
