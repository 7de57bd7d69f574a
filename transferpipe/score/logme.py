"""A score by LogME: the evidence of a linear model on the features of a layer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_data
from transferpipe.score.data.splits import Splits
from transferpipe.score.features import Pool, check_features, features
from transferpipe.score.formulas.logme import logme as formula
from transferpipe.score.result import Score
from transferpipe.score.result import finite_or_nan as of

if TYPE_CHECKING:
    import keras


def logme(model: keras.Model, data: Splits, *, layer: str | None = None, pool: Pool = "flatten") -> Score:
    """Return LogME of a layer's features for ``data.train``: see `transferpipe.score.formulas.logme` (ICML 2021).

    Args:
        model: a finished model; its weights are not touched.
        data: only its part to learn from is used.
        layer: the layer's name as in a plan, such as ``trunk/conv2``; None takes what goes into the last layer.
        pool: what becomes of maps: ``flatten``, or the ``average`` over all places.

    Raises:
        RecipeError: no such layer, or its inputs have another shape than the data.
        ScoreError: the features are not finite, or the evidence has no maximum.
    """
    started = time.perf_counter()
    data = check_data(data, "train")
    rows = features(model, data.x_train, layer, pool)
    return Score(
        value=of(rows, lambda: formula(rows, data.y_train, data.classes)),
        name="LogME",
        higher_is_better=True,
        kind="heuristic",
        needs="one forward pass",
        notes=(f"{data}; {rows.shape[1]} features of {layer or 'the input of the last layer'}",),
        seconds=time.perf_counter() - started,
    )


def check_early(given: Given, target: TargetStructure) -> None:
    """Refuse arguments out of range and a layer that the target has not; see `transferpipe.execute.score_checks`."""
    check_features(given, target)
