"""A share of the examples to learn from, for learning curves and for sweeps that begin with less data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_data
from transferpipe.score.data.splits import Splits


def training_share(data: Any, share: float, *, seed: int = 0) -> Splits:
    """Return `data` with a share of the examples to learn from; those to choose with and to measure on stay.

    Of every class that share is taken, rounded up, so that none is lost. A smaller share is part of a larger one. In a
    recipe: ``data: {_target_: transferpipe.score.training_share, share: 0.1, data: {_target_: my_data.load}}``.

    Args:
        data: whatever a score takes.
        share: above 0, at most 1.
        seed: decides which examples are taken.

    Raises:
        RecipeError: the share is out of range, or `data` is not labelled data.
    """
    _check(share)
    whole = check_data(data, "train")
    random = np.random.default_rng(seed)
    taken = np.zeros(len(whole.y_train), bool)
    for label in np.unique(whole.y_train):
        rows = random.permutation(np.flatnonzero(whole.y_train == label))
        taken[rows[: math.ceil(share * len(rows) - 1e-9)]] = True  # 0.1 * 30 is more than 3 in floats
    name = whole.name if taken.all() else f"{whole.name}, {share:.4g} of the training examples"
    return replace(whole, x_train=whole.x_train[taken], y_train=whole.y_train[taken], name=name)


def _check(share: Any) -> None:
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
        what = f"{share!r} is not a share above 0 and up to 1"
        raise RecipeError(Problem("training_share.share", what))


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse a share that is none; see `transferpipe.execute.score_checks`."""
    _check(given["share"])
