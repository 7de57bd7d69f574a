"""A score by LEEP: how well the labels can be guessed from the answers of the source's own head."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.execute.score_run import Run
from transferpipe.models.walk import to_numpy
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_data
from transferpipe.score.data.splits import Splits
from transferpipe.score.features import activations, check_layer, layer_called
from transferpipe.score.formulas.leep import leep as formula
from transferpipe.score.outputs import are_probabilities, softmax
from transferpipe.score.result import Score, finite_or_nan
from transferpipe.score.source_model import source_model

if TYPE_CHECKING:
    import keras


def leep(  # noqa: PLR0913 - one argument a key of the recipe's `score`
    model: keras.Model,
    data: Splits,
    *,
    layer: str | None = None,
    head: str | None = None,
    source: Any = None,
    run: Run | None = None,
) -> Score:
    """Return LEEP for ``data.train``: see `transferpipe.score.formulas.leep` (ICML 2020).

    The answers are those of the source's head on top of the finished model's features, so that variants of a transfer
    differ. Where the whole network below the head came from the source unchanged, they are the source's own answers,
    and this is LEEP as published.

    Args:
        model: a finished model; its weights are not touched.
        data: only its part to learn from is used.
        layer: the layer of the model whose output goes into the source's head; None takes what goes into the model's
            last layer.
        head: the source's layer that gives its classes; None takes its last layer.
        source: the source as a `.keras` file or a model; None takes the only source of the recipe.
        run: the finished run; filled in.

    Raises:
        RecipeError: the source has no model or no such head, or the head takes features of another length.
        ScoreError: the answers are not finite, or leave no chance to a label.
    """
    started = time.perf_counter()
    data = check_data(data, "train")
    origin = source_model(source, run)
    top = origin.layers[-1] if head is None else layer_called(origin, head, "score.head")
    below = {"": model.layers[-1]} if layer is None else {layer: layer_called(model, layer)}
    rows = activations(model, below, data.x_train, side="input" if layer is None else "output")[layer or ""]
    answers = _answers(top, rows)
    return Score(
        value=finite_or_nan(answers, lambda: formula(_probabilities(answers), data.y_train, data.classes)),
        name="LEEP",
        higher_is_better=True,
        kind="heuristic",
        needs="one forward pass",
        notes=(f"{data}; through {answers.shape[-1]} classes of the source's layer {top.name}",),
        seconds=time.perf_counter() - started,
    )


def _answers(head: Any, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the source's head gives for the features."""
    try:
        answers = to_numpy(head(rows, training=False)).astype(np.float32)
    except Exception as error:
        what = f"the source's layer {head.name!r} does not take features of shape {rows.shape[1:]}"
        fix = "name the layer whose output it takes, and the head: score.layer=..., score.head=..."
        raise RecipeError(Problem("score.head", what, fix)) from error
    if answers.ndim != 2:
        what = f"the source's layer {head.name!r} gives {answers.shape[1:]} for an example, not one number a class"
        raise RecipeError(Problem("score.head", what, "name its classifier: score.head=..."))
    return answers


def _probabilities(answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return rows of probabilities: logits go through a softmax, probabilities stay."""
    return np.asarray(answers, np.float64) if are_probabilities(answers) else softmax(answers)


def check_early(given: Given, target: TargetStructure) -> None:
    """Refuse a layer that the target has not; see `transferpipe.execute.score_checks`."""
    check_layer(given["layer"], target)
