"""Multinomial logistic regression with a penalty on the squared weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from transferpipe.score.formulas.ridge import Floats, LinearClassifier

# The loss is convex and steps are quick to end; the third is Armijo's constant for sufficient decrease, as Nocedal and
# Wright, "Numerical Optimization", section 3.1, give it.
_MOST_STEPS, _CLOSE_ENOUGH, _ENOUGH_DECREASE = 200, 1e-8, 1e-4


def fit_logistic(
    rows: Floats, labels: NDArray[np.int64], classes: int, penalties: Sequence[float]
) -> list[LinearClassifier]:
    """Return, for each penalty p, the minimum of the mean cross-entropy with ``p / 2 * |weights|^2`` added.

    The offsets are not penalised. The minimum is found by Newton's method, whose steps are the solutions of linear
    systems by conjugate gradients with the Hessian as a function (Lin, Weng and Keerthi, JMLR 9, 2008), shortened until
    the loss falls enough. Float64 from beginning to end; nothing is random. The largest penalty comes first, and each
    fit starts from the one before.

    Args:
        rows: of shape (n, features), best standardised.
        labels: class numbers of shape (n,).
        classes: how many classes there are.
        penalties: each above 0.
    """
    # The weights act on an orthogonal basis of the rows: outside of it the penalty keeps them at 0.
    _, sizes, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    basis = right[sizes > sizes.max(initial=0) * 1e-12]
    inputs = np.hstack([(rows - rows.mean(axis=0)) @ basis.T, np.ones((len(rows), 1))])
    onehot, found, start = (
        np.eye(classes)[labels],
        dict[float, tuple[Floats, bool]](),
        np.zeros((inputs.shape[1], classes)),
    )
    for penalty in sorted(set(penalties), reverse=True):
        found[penalty] = _minimum(inputs, onehot, penalty, start)
        start = found[penalty][0]
    fits = [(basis.T @ found[p][0][:-1], found[p][0][-1], found[p][1]) for p in penalties]
    centre = rows.mean(axis=0)
    return [LinearClassifier(weights, offsets - centre @ weights, reached) for weights, offsets, reached in fits]


def _minimum(inputs: Floats, onehot: Floats, penalty: float, start: Floats) -> tuple[Floats, bool]:
    """Return the weights, the offsets as their last row, and whether the slope has vanished there."""
    strength = np.full((inputs.shape[1], 1), penalty)
    strength[-1] = 0
    here = start
    for _ in range(_MOST_STEPS):
        value, chances = _loss(inputs, onehot, strength, here)
        slope = inputs.T @ (chances - onehot) / len(inputs) + strength * here
        if np.abs(slope).max() <= _CLOSE_ENOUGH:
            return here, True

        def curve(step: Floats, chances: Floats = chances) -> Floats:
            moved = chances * (inputs @ step)
            bent: Floats = inputs.T @ (moved - chances * moved.sum(axis=1, keepdims=True)) / len(inputs)
            return bent + strength * step

        step, size = _solve(curve, -slope), 1.0
        gain = float((slope * step).sum())
        # Below that a step is lost in the rounding of the loss: the slope then decides whether it was reached.
        while size > 1e-10 and _loss(inputs, onehot, strength, here + size * step)[0] > (
            value + _ENOUGH_DECREASE * size * gain
        ):
            size /= 2
        here = here + size * step
    return here, False


def _loss(inputs: Floats, onehot: Floats, strength: Floats, weights: Floats) -> tuple[float, Floats]:
    """Return the loss and the chances of the classes."""
    scores = inputs @ weights
    # A shift of a row changes no chance, and keeps the exponentials from overflowing.
    scores -= scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores).sum(axis=1, keepdims=True))
    loss = -((scores - total) * onehot).sum() / len(inputs) + (strength * weights**2).sum() / 2
    return float(loss), np.exp(scores - total)


def _solve(curve: Callable[[Floats], Floats], wanted: Floats) -> Floats:
    """Return the step that `curve` turns into `wanted`, nearly: by conjugate gradients."""
    step, left = np.zeros_like(wanted), wanted.copy()
    direction, size = left.copy(), float((left * left).sum())
    # As exact as the slope is small, so that steps near the minimum stay Newton's: Nocedal and Wright, section 7.1.
    enough = size * min(0.01, np.sqrt(size)) ** 2
    for _ in range(wanted.size):
        bent = curve(direction)
        along = float((direction * bent).sum())
        if along <= 1e-300:  # a shift of all offsets, which changes nothing
            break
        step = step + size / along * direction
        left = left - size / along * bent
        before, size = size, float((left * left).sum())
        if size <= enough:
            break
        direction = left + size / before * direction
    return step
