"""LEEP, the log expected empirical prediction.

Source: Nguyen, Hassner, Seeger, Archambeau, "LEEP: A New Measure to Evaluate Transferability of Learned
Representations", ICML 2020, arXiv:2002.12462.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def leep(probabilities: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> float:
    """Return the mean log-likelihood of the labels if they are guessed through the source's classes.

    With the source's probabilities theta(x)_z and the empirical joint P(y, z) = mean of theta(x_i)_z over rows with
    label y, divided by n: the guess for a row is ``sum over z of P(y | z) theta(x)_z``.

    Args:
        probabilities: theta, of shape (n, source classes); rows sum to 1.
        labels: class numbers of shape (n,).
        classes: how many classes there are.

    Returns:
        At most 0; higher is better.
    """
    theta = np.asarray(probabilities, np.float64)
    joint = np.eye(classes)[labels].T @ theta / len(labels)
    occurs = joint.sum(axis=0)
    given = joint / np.where(occurs > 0, occurs, 1.0)  # a source class that never occurs says nothing
    guessed = (theta @ given.T)[np.arange(len(labels)), labels]
    # A label that nothing gives a chance has minus infinity, which the caller refuses in words.
    with np.errstate(divide="ignore"):
        return float(np.log(guessed).mean())
