"""LogME, the logarithm of the maximum evidence of a linear model on features.

Source: You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021,
arXiv:2102.11005. The fixed point is that of MacKay, "Bayesian Interpolation", Neural Computation 4, 1992.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The fixed point is reached soon; only where the evidence is flat does the search creep.
_MOST_STEPS = 10_000
# Of the size of the data: below this a sum of squares in float64 is what rounding left.
_SMALL = 1e-12
_RATIOS = np.logspace(-14, 10, 97)  # of alpha / beta, in units of the mean squared singular value
_EPS = float(np.finfo(np.float64).eps)


def logme(features: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> float:
    """Return the mean over classes of the largest log evidence per row, for the class's 0/1 indicator as target.

    A class without a row says nothing, and does not count.

    The model of one indicator y is ``y = F w + noise`` with ``w ~ N(0, 1/alpha)`` and ``noise ~ N(0, 1/beta)``; the
    evidence p(y | F, alpha, beta) is maximised over alpha and beta.

    Args:
        features: F, of shape (n, features).
        labels: class numbers of shape (n,).
        classes: how many classes there are.

    Returns:
        Higher is better. Where fewer features than rows give a class without any error, the evidence has no maximum:
        it is then that of the smallest noise that numbers of this precision show, 1e-12 of the target's squared size.
    """
    rows = np.asarray(features, np.float64)
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > sizes.max(initial=0.0) * max(rows.shape) * _EPS
    targets = np.eye(classes)[labels]
    return float(np.mean([_evidence(left[:, kept], sizes[kept] ** 2, y) for y in targets.T if y.any()]))


def _evidence(left: Floats, squares: Floats, y: Floats) -> float:
    """Return the largest log evidence per row for one target.

    Args:
        left: the left singular vectors of the features, of shape (n, k).
        squares: their squared singular values, of shape (k,), all above 0.
        y: the target, of shape (n,).
    """
    n, inside, size = len(y), (left.T @ y) ** 2, float(y @ y)
    outside = size - float(inside.sum())  # what no weights explain
    outside = max(outside, _SMALL * size) if len(squares) < n else 0.0
    if float(inside.sum()) <= _SMALL * size:  # alpha grows without end: no weights at all explain y best
        return -(math.log(2 * math.pi * size / n) + 1) / 2
    target = _Target(squares, inside, outside, n)
    # The evidence can have several maxima: start the climb near the largest.
    alpha, beta = max((_with_ratio(target, r) for r in _RATIOS * squares.mean()), key=target.log_evidence)
    evidence = last = target.log_evidence((alpha, beta))
    for _ in range(_MOST_STEPS):
        weight_size, error, effective = target.at(alpha / beta)
        if error <= 0:  # as many features as rows, and no noise: the last step has reached the limit
            break
        # MacKay's step: what the data decide of the weights, and what they leave to noise, each by its own size.
        alpha, beta = effective / weight_size, (n - effective) / error
        evidence = target.log_evidence((alpha, beta))
        if abs(evidence - last) <= _SMALL * max(abs(evidence), 1.0):
            break
        last = evidence
    return evidence / n


def _with_ratio(target: _Target, ratio: float) -> tuple[float, float]:
    """Return the best alpha and beta among those with alpha / beta = ratio."""
    weight_size, error, _ = target.at(ratio)
    beta = target.n / (error + ratio * weight_size)
    return ratio * beta, beta


@dataclass(frozen=True)
class _Target:
    """One target in the basis of the features' singular vectors.

    Attributes:
        squares: squared singular values.
        inside: squared size of the target along each singular vector.
        outside: its squared size outside of all of them.
        n: number of rows.
    """

    squares: Floats
    inside: Floats
    outside: float
    n: int

    def at(self, ratio: float) -> tuple[float, float, float]:
        """Return |m|^2, |F m - y|^2 and gamma for the most likely weights m under alpha / beta = ratio."""
        shrunk = self.squares + ratio
        weight_size = float((self.squares * self.inside / shrunk**2).sum())
        error = self.outside + float((self.inside * (ratio / shrunk) ** 2).sum())
        return weight_size, error, float((self.squares / shrunk).sum())

    def log_evidence(self, precisions: tuple[float, float]) -> float:
        """Return log p(y | F, alpha, beta), equation 2 of the paper."""
        alpha, beta = precisions
        weight_size, error, _ = self.at(alpha / beta)
        # log |alpha 1 + beta F^T F|, without the part that D log(alpha) cancels
        log_determinant = float(np.log1p(beta / alpha * self.squares).sum())
        fit = beta * error + alpha * weight_size
        return (self.n * math.log(beta / (2 * math.pi)) - log_determinant - fit) / 2
