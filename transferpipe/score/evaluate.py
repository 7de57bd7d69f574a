"""A score by testing: how well the model does as it is, nothing trained."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_choice, check_data, check_takes
from transferpipe.score.data.splits import Splits
from transferpipe.score.outputs import accuracy, cross_entropy, gives_probabilities, outputs_of
from transferpipe.score.result import Score

if TYPE_CHECKING:
    import keras

Measure = Literal["accuracy", "loss"]


def evaluate(model: keras.Model, data: Splits, *, metric: Measure = "accuracy") -> Score:
    """Return what `model` reaches on ``data.test``, in inference mode: what a merge is worth without any training.

    Args:
        model: a finished classifier, probabilities or logits; its weights are not touched.
        data: only its test part is used.
        metric: ``accuracy``, higher is better, or the cross-entropy ``loss``, lower is better.

    Raises:
        RecipeError: model and data do not fit, or there is no such metric.
        ScoreError: an output is not finite.
    """
    started = time.perf_counter()
    check_choice("metric", metric, ("accuracy", "loss"))
    check_data(data, "test")
    check_takes(model, data.x_test.shape[1:])
    outputs = outputs_of(model, data.x_test)
    if outputs.shape[1:] != (data.classes,):
        what = f"the model gives {outputs.shape[1:]} for an example, {data.classes} classes need {(data.classes,)}"
        raise RecipeError(Problem("score.data", what, "give the target as many classes as there are classes"))
    if metric == "accuracy":
        value = accuracy(outputs, data.y_test)
    else:
        value = cross_entropy(outputs, data.y_test, gives_probabilities(model, data.x_test[:32]))
    return Score(
        value=value,
        name=f"test {metric}",
        higher_is_better=metric == "accuracy",
        kind="trained",
        needs="one forward pass",
        notes=(f"{data}; nothing is trained",),
        seconds=time.perf_counter() - started,
    )


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse a metric that there is not; see `transferpipe.execute.score_checks`."""
    check_choice("metric", given["metric"], ("accuracy", "loss"))
