"""A score without training: how well the finished model does on data as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import numpy as np

from transferpipe.execute.score_checks import Given
from transferpipe.models.loaded_once import traced_here
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_choice, check_data, check_gives
from transferpipe.score.data.splits import PARTS, Splits
from transferpipe.score.outputs import accuracy, are_probabilities, cross_entropy, outputs_of
from transferpipe.score.result import Score

if TYPE_CHECKING:
    import keras

Metric = Literal["accuracy", "loss", "balanced_accuracy", "top5_accuracy"]
METRICS = ("accuracy", "loss", "balanced_accuracy", "top5_accuracy")
_TOP = 5


def evaluate(
    model: keras.Model,
    data: Splits,
    *,
    metric: Metric = "accuracy",
    part: Literal["train", "val", "test"] = "test",
) -> Score:
    """Return the loss or a metric of `model` on data, as it is: nothing is trained. The others stand in the note.

    Args:
        model: a finished classifier, probabilities or logits. It is not touched.
        data: what it is tested on.
        metric: ``accuracy``; cross-entropy ``loss``, lower is better; ``balanced_accuracy``, the mean over classes of
            the accuracy on each; ``top5_accuracy``, the right class among the five largest outputs.
        part: the part of the data that is looked at.

    Raises:
        RecipeError: model and data have different shapes, or an argument is none of its choices.
        ScoreError: outputs are not finite.
    """
    started = time.perf_counter()
    check_choice("metric", metric, METRICS)
    check_choice("part", part, PARTS)
    inputs, labels = getattr(check_data(data, part), part)
    check_gives(model, inputs.shape[1:], (data.classes, "classes", "score.data"))
    with traced_here(model):
        outputs = outputs_of(model, inputs)
    right = outputs.argmax(-1) == labels
    # Larger ones come first; of equal ones the earlier class, as for the accuracy.
    top = np.argsort(-outputs, axis=-1, kind="stable")[:, :_TOP]
    values = {
        "accuracy": accuracy(outputs, labels),
        "loss": cross_entropy(outputs, labels, are_probabilities(outputs)),
        "balanced_accuracy": float(np.mean([right[labels == k].mean() for k in np.unique(labels)])),
        "top5_accuracy": float((top == labels[:, None]).any(axis=1).mean()),
    }
    finite = bool(np.isfinite(outputs).all())
    measured = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
    return Score(
        value=values[metric] if finite else float("nan"),
        name=f"{part} {metric.replace('_', ' ')}",
        higher_is_better=metric != "loss",
        kind="measured",
        needs="one forward pass",
        notes=(f"{data}; {measured}; nothing was trained",),
        seconds=time.perf_counter() - started,
    )


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse arguments that are none of their choices; see `transferpipe.execute.score_checks`."""
    check_choice("metric", given["metric"], METRICS)
    check_choice("part", given["part"], PARTS)
