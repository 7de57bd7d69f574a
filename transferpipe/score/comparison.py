"""What the right and wrong answers of two methods allow to be said about them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Three, not the usual two: five draws tell their own spread only roughly, and test images by one writer are alike.
ERRORS_FOR_A_CLAIM = 3.0


def mean_and_spread(correct: NDArray[np.bool_]) -> tuple[float, float | None]:
    """Return the accuracy, and its standard deviation over the rows (None for a single row).

    Args:
        correct: of shape (repetitions, test images).
    """
    accuracies = correct.mean(axis=1)
    spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
    return float(accuracies.mean()), spread


def difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return how much higher the accuracy of `first` is than that of `second`, and the standard error of that.

    Both had the same labelled images in row r and the same test image in column c, so differences are taken cell by
    cell. Other rows would change their mean with variance R/rows, other columns with C/columns. Estimated from means of
    rows and of columns, the sum counts what is peculiar to single cells twice, so the error is a little too large.
    """
    cells = first.astype(np.float64) - second
    variance = 0.0
    for axis in (0, 1):
        means = cells.mean(axis=axis)
        variance += float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0
    return float(cells.mean()), math.sqrt(variance)


def compare(score: NDArray[np.bool_], control: NDArray[np.bool_], name: str) -> str:
    """Return a sentence on whether the scored model did better than the control `name`."""
    by, error = difference(score, control)
    size = f"{by:+.3f} (standard error {error:.3f})"
    if abs(by) <= ERRORS_FOR_A_CLAIM * error:
        return f"not clearly different from {name}: {size}, within {ERRORS_FOR_A_CLAIM:.0f} standard errors"
    if by > 0:
        return f"better than {name}: {size}"
    return f"worse than {name}: {size}; this transfer does not pay here"
