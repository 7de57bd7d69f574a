"""A score by the H-score: how much of the features' variation lies between the classes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_data
from transferpipe.score.data.splits import Splits
from transferpipe.score.features import Pool, check_features, features
from transferpipe.score.formulas.h_score import h_score as formula
from transferpipe.score.result import Score
from transferpipe.score.result import finite_or_nan as of

if TYPE_CHECKING:
    import keras


def h_score(
    model: keras.Model, data: Splits, *, layer: str | None = None, pool: Pool = "flatten", shrinkage: bool = True
) -> Score:
    """Return the H-score of a layer's features for ``data.train``: see `transferpipe.score.formulas.h_score`.

    Args:
        model: a finished model; its weights are not touched.
        data: only its part to learn from is used.
        layer: the layer's name as in a plan, such as ``trunk/conv2``; None takes what goes into the last layer.
        pool: what becomes of maps: ``flatten``, or the ``average`` over all places.
        shrinkage: with the covariance of Ledoit and Wolf (Ibrahim et al. 2021); without, as in Bao et al. 2019, where
            as many features as examples give the largest value whatever the labels.

    Raises:
        RecipeError: no such layer, or its inputs have another shape than the data.
        ScoreError: the features are not finite.
    """
    started = time.perf_counter()
    data = check_data(data, "train")
    rows = features(model, data.x_train, layer, pool)
    how = "covariance by Ledoit and Wolf" if shrinkage else "covariance as it is"
    return Score(
        value=of(rows, lambda: formula(rows, data.y_train, shrinkage=shrinkage)),
        name="H-score",
        higher_is_better=True,
        kind="heuristic",
        needs="one forward pass",
        notes=(f"{data}; {rows.shape[1]} features of {layer or 'the input of the last layer'}, {how}",),
        seconds=time.perf_counter() - started,
    )


def check_early(given: Given, target: TargetStructure) -> None:
    """Refuse arguments out of range and a layer that the target has not; see `transferpipe.execute.score_checks`."""
    check_features(given, target)
