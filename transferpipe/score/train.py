"""Training the live part of a classifier in batches, with early stopping, from the weights it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.score.data.splits import Splits
from transferpipe.score.frozen import check_unchanged, frozen_bytes
from transferpipe.score.outputs import cross_entropy, gives_probabilities, outputs_of
from transferpipe.score.seeded import seed_states

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the training examples, at most.
        learning_rate: of Adam (Kingma and Ba, ICLR 2015, arXiv:1412.6980).
        batch_size: examples a step.
        patience: epochs without a smaller validation loss after which it stops.
        seed: order of the examples, and what dropouts drop.
    """

    epochs: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 32
    patience: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """How a training went: passes made, and the one after which the weights were best, and stayed."""

    epochs: int
    best: int


def train(model: keras.Model, data: Splits, setting: Training) -> Trained:
    """Train `model` on ``data.train`` by its cross-entropy and the losses of its own layers; it keeps the result.

    With examples in ``data.val``, the weights are those of the epoch with the smallest cross-entropy there; without,
    those of the last epoch. To be called within `transferpipe.score.seeded.seeded`.

    Args:
        model: a built classifier, probabilities or logits; its `trainable` flags decide what is trained.
        data: what to learn from and, if it has such a part, to choose with.
        setting: how.

    Raises:
        VerificationError: a frozen weight changed.
    """
    probabilities = gives_probabilities(model, data.x_train[: setting.batch_size])
    before = frozen_bytes(model)
    seed_states(model, setting.seed)
    epoch = _epoch_function(model, data, setting, probabilities)
    random = np.random.default_rng(setting.seed)
    best, kept, smallest = 0, None, np.inf
    done = 0
    for done in range(1, setting.epochs + 1):
        epoch(random.permutation(len(data.y_train)))
        if not len(data.y_val):
            best = done
            continue
        loss = cross_entropy(outputs_of(model, data.x_val), data.y_val, probabilities)
        if loss < smallest:
            best, kept, smallest = done, model.get_weights(), loss
        elif done - best >= setting.patience:
            break
    if kept is not None:
        model.set_weights(kept)
    check_unchanged(before, frozen_bytes(model))
    return Trained(done, best)


def _epoch_function(
    model: keras.Model, data: Splits, setting: Training, probabilities: bool
) -> Callable[[NDArray[np.int64]], None]:
    """Return ``epoch(order)``, which takes one pass over the training examples in that order."""
    import keras
    import tensorflow as tf

    variables = model.trainable_variables
    optimizer = keras.optimizers.Adam(setting.learning_rate)
    optimizer.build(variables)
    inputs, labels, size = tf.constant(data.x_train), tf.constant(data.y_train), setting.batch_size

    def loss_of(rows: Any) -> Any:
        outputs = tf.cast(model(tf.gather(inputs, rows), training=True), tf.float32)
        losses = keras.losses.sparse_categorical_crossentropy(
            tf.gather(labels, rows), outputs, from_logits=not probabilities
        )
        return tf.add_n([tf.reduce_mean(losses), *(tf.cast(own, tf.float32) for own in model.losses)])

    # The loop lies inside the graph: a step costs microseconds instead of the milliseconds of `Model.fit`.
    @tf.function  # type: ignore[untyped-decorator]
    def epoch(order: Any) -> None:
        for start in tf.range(0, tf.shape(order)[0], size):
            with tf.GradientTape() as tape:
                loss = loss_of(order[start : start + size])
            optimizer.apply(tape.gradient(loss, variables), variables)

    # Traced here once: left to itself, TensorFlow warns of one tracing too many when several models are trained.
    traced = epoch.get_concrete_function(tf.TensorSpec((None,), tf.int64))

    def run(order: NDArray[np.int64]) -> None:
        traced(tf.constant(order, tf.int64))

    return run
