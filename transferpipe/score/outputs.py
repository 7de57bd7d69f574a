"""What a classifier answers, and how good that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.loaded_once import on_batches
from transferpipe.models.walk import to_numpy

if TYPE_CHECKING:
    import keras

# What a head computes is small; the batch changes nothing but the speed.
_BATCH = 256


def gives_probabilities(model: keras.Model, inputs: NDArray[Any]) -> bool:
    """Tell whether the outputs are probabilities already, or logits."""
    return are_probabilities(outputs_of(model, inputs))


def are_probabilities(outputs: NDArray[np.float32]) -> bool:
    """Tell whether outputs are probabilities, or logits; those that are not finite do not count."""
    finite = outputs[np.isfinite(outputs).all(-1)]
    # Half precision rounds a sum of probabilities by this much; logits that add up so in every row are no accident.
    return bool((finite >= 0).all() and np.allclose(finite.sum(-1), 1, atol=1e-2))


def outputs_of(model: keras.Model, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Return what `model` gives for all inputs, batch by batch, in inference mode."""
    forward = on_batches(model, "outputs", lambda batch: model(batch, training=False), inputs)
    batches = [forward(inputs[i : i + _BATCH]) for i in range(0, len(inputs), _BATCH)]
    return np.concatenate([to_numpy(batch).astype(np.float32) for batch in batches])


def accuracy(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the part of rows whose largest output is the label; NaN if an output is not finite."""
    if not np.isfinite(outputs).all():
        return float("nan")
    return float((outputs.argmax(-1) == labels).mean())


def cross_entropy(outputs: NDArray[np.float32], labels: NDArray[np.int64], probabilities: bool) -> float:
    """Return the mean negative log-likelihood of the labels, from probabilities or from logits."""
    chosen = np.asarray(outputs, np.float64)[np.arange(len(labels)), labels]
    if probabilities:  # no less than `keras.config.epsilon()`, as in Keras's own loss; NaN stays NaN
        return float(-np.log(np.maximum(chosen, 1e-7) if np.isfinite(chosen).all() else chosen).mean())
    return float((_log_sum_exp(outputs) - chosen).mean())


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities from logits, row by row."""
    wide = np.asarray(logits, np.float64)
    return np.asarray(np.exp(wide - _log_sum_exp(wide)[:, None]))


def _log_sum_exp(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = np.asarray(logits, np.float64)
    top = wide.max(axis=1)
    return np.asarray(top + np.log(np.exp(wide - top[:, None]).sum(axis=1)))
