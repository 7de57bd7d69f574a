"""Short training of what is trainable in a model, from given weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.loaded_once import traced
from transferpipe.models.state.random_states import seed_states
from transferpipe.models.walk import to_numpy
from transferpipe.score.outputs import gives_probabilities
from transferpipe.score.training.convergence import Trained
from transferpipe.score.training.frozen import check_unchanged, frozen_bytes, live_weights
from transferpipe.score.training.seeded import given_back

if TYPE_CHECKING:
    import keras

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]
Weights = list[NDArray[Any]]
Forward = Callable[..., Any]

# Ten times Adam's default: what is trained is small, and sees few images for few epochs.
LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Repetition:
    """One training.

    Attributes:
        start: the weights to start from, in the order of ``model.weights``.
        labelled: images of shape (n, ...) to learn from, and class numbers of shape (n,).
        seed: of what dropouts drop.
        held_out: images and class numbers that are neither learnt from nor of the test; as many in every repetition.
    """

    start: Weights
    labelled: Labelled
    seed: int = 0
    held_out: Labelled | None = None


@dataclass(frozen=True)
class Division:
    """A model in two parts, applied one after the other.

    Attributes:
        frozen: turns images into the inputs of the other part; computed once a training.
        trained: holds everything that is trained.
    """

    frozen: Forward
    trained: Forward


def correct_after_training(
    model: keras.Model, runs: Sequence[Repetition], test: Labelled, epochs: int
) -> tuple[NDArray[np.bool_], list[Trained]]:
    """Train the trainable part of `model` once for each of `runs`, and test it each time.

    One epoch is one step of Adam on all labelled images at once. The model is given back as it came.

    Args:
        model: a built classifier; its `trainable` flags decide what is trained.
        runs: what each starts from and learns from.
        test: images and class numbers to test on.
        epochs: steps of each training.

    Returns:
        Of shape (runs, test images and images held out): whether the trained model gave the image its right class. An
        answer that is not finite is wrong. And of each run its training loss, step by step.

    Raises:
        VerificationError: a frozen weight changed.
    """
    correct, curves = [], []
    with given_back(model):
        parts = divide(model, test[0])
        probabilities = gives_probabilities(model, test[0])
        key = ("fit", parts.trained is model, probabilities, epochs)
        fit = traced(model, key, lambda: _fit_function(model, parts.trained, probabilities, epochs))
        for run in runs:
            model.set_weights(run.start)
            seed_states(model, run.seed)
            before = frozen_bytes(model)
            curves.append(fit(parts.frozen(run.labelled[0]), run.labelled[1]))
            held_out = [test] if run.held_out is None else [test, run.held_out]
            images, classes = (np.concatenate(arrays) for arrays in zip(*held_out, strict=True))
            answers = np.asarray(parts.trained(parts.frozen(images), training=False)).astype(np.float32)
            check_unchanged(before, frozen_bytes(model))
            correct.append((answers.argmax(-1) == classes) & np.isfinite(answers).all(-1))
    return np.stack(correct), [Trained(epochs, tuple(map(float, curve))) for curve in curves]


def divide(model: keras.Model, images: NDArray[np.float32]) -> Division:
    """Divide `model` so that the frozen part is large, but only where this changes nothing.

    The parts are the trunk and the last layer if only the last layer is live and both together give, bit for bit, what
    the model gives; else nothing and the whole model.

    Args:
        model: a built model.
        images: what the two are compared on, of shape (n, ...).
    """
    import tensorflow as tf

    whole = Division(tf.constant, model)
    trunk, head = traced(model, "trunk and head", lambda: _trunk_and_head(model))
    if trunk is None:
        return whole
    # A dropout in a frozen trunk still drops while training: features computed once would then be something else.
    features = trunk(images, training=False)
    same = _same_bits(features, trunk(images, training=True))
    same = same and _same_bits(head(features, training=False), model(images, training=False))
    return Division(lambda inputs: trunk(inputs, training=False), head) if same else whole


def _trunk_and_head(model: keras.Model) -> tuple[Any, Any]:
    """Return the model up to its last layer, and that layer, or (None, None) if more than that layer is live."""
    import keras

    head = model.layers[-1]
    in_head = {id(weight) for weight in head.weights}
    if any(id(weight) not in in_head for weight in live_weights(model)):
        return None, None
    try:
        if len(model.inputs) != 1 or len(model.outputs) != 1 or model.outputs[0] is not head.output:
            return None, None
        return keras.Model(model.inputs[0], head.input), head
    except (AttributeError, ValueError):  # not a graph of layers, or a layer that is used in several places
        return None, None


def _same_bits(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _fit_function(model: keras.Model, trained: Forward, probabilities: bool, epochs: int) -> Callable[..., Any]:
    """Return ``fit(inputs, classes)``, which starts with a fresh optimizer at every call but is traced only once.

    It gives the loss before each step.
    """
    import keras
    import tensorflow as tf

    variables = model.trainable_variables
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(variables)
    fresh = OptimizerState(optimizer)

    def take_steps(inputs: Any, classes: Any) -> Any:
        seen = tf.TensorArray(tf.float32, epochs)
        for step in tf.range(epochs):
            with tf.GradientTape() as tape:
                outputs = tf.cast(trained(inputs, training=True), tf.float32)
                losses = keras.losses.sparse_categorical_crossentropy(classes, outputs, from_logits=not probabilities)
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, variables), variables)
            seen = seen.write(step, loss)
        return seen.stack()

    # The loop lies inside the graph: a step costs microseconds instead of the milliseconds of `Model.fit`.
    compiled = tf.function(take_steps)

    def fit(inputs: Any, classes: NDArray[np.int64]) -> NDArray[np.float32]:
        fresh.restore()
        return np.asarray(compiled(inputs, tf.constant(classes)))

    return fit


class OptimizerState:
    """The state of an optimizer that was just made, to start again from."""

    def __init__(self, optimizer: Any) -> None:
        values = [(variable, to_numpy(variable)) for variable in optimizer.variables]
        # Most of it are zeros, as large as the model.
        self._state = [(variable, value if value.any() else None) for variable, value in values]

    def restore(self) -> None:
        """Give the optimizer that state."""
        for variable, value in self._state:
            variable.assign(np.zeros(variable.shape, variable.dtype) if value is None else value)
