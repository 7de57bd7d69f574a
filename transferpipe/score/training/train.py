"""Training the live part of a classifier in batches, with early stopping, from the weights it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.execute.epoch_reports import report_epoch
from transferpipe.models.loaded_once import traced
from transferpipe.models.state.random_states import seed_states
from transferpipe.score.data.splits import Splits
from transferpipe.score.outputs import accuracy, cross_entropy, gives_probabilities, outputs_of
from transferpipe.score.training.convergence import Trained
from transferpipe.score.training.fit import OptimizerState
from transferpipe.score.training.frozen import check_unchanged, frozen_bytes
from transferpipe.score.training.normalisation import MovingStatistics

if TYPE_CHECKING:
    import keras


# An epoch counts as better, for the patience, if its validation loss is lower by more than this, or this part of it: a
# training that creeps towards its end then comes to it. A tenth of what counts as a fall in `convergence`.
_BETTER_BY, _BETTER_BY_PART = 5e-4, 1e-3


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the training examples, at most.
        learning_rate: of Adam (Kingma and Ba, ICLR 2015, arXiv:1412.6980).
        batch_size: examples a step.
        patience: epochs without a smaller validation loss after which it stops.
        seed: order of the examples, and what dropouts drop.
        patience_steps: optimizer steps that these epochs must be, too. Where an epoch is a handful of steps, a few
            epochs say nothing.
        told: what of the validation part is reported after every epoch (`transferpipe.execute.epoch_reports`): that of
            the best epoch so far, which is what the score would be; None for nothing.
    """

    epochs: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 32
    patience: int = 5
    seed: int = 0
    patience_steps: int = 0
    told: Literal["accuracy", "loss"] | None = None


def train(model: keras.Model, data: Splits, setting: Training) -> Trained:
    """Train `model` on ``data.train`` by its cross-entropy and the losses of its own layers; it keeps the result.

    With examples in ``data.val``, the weights are those of the epoch with the smallest cross-entropy there; without,
    those of the last epoch. It does not stop early while moving statistics of trained normalisations still have a part
    of their first values: until then the validation loss says little. To be called within
    `transferpipe.score.training.seeded.seeded`.

    Args:
        model: a built classifier, probabilities or logits; its `trainable` flags decide what is trained.
        data: what to learn from and, if it has such a part, to choose with.
        setting: how.

    Raises:
        VerificationError: a frozen weight changed.
    """
    probabilities = gives_probabilities(model, data.x_train[: setting.batch_size])
    before, statistics = frozen_bytes(model), MovingStatistics(model)
    seed_states(model, setting.seed)
    epoch = _epoch_function(model, data, setting, probabilities)
    random = np.random.default_rng(setting.seed)
    steps = math.ceil(len(data.y_train) / setting.batch_size)
    watch = _Watch(setting, steps)
    for done in range(1, setting.epochs + 1):
        watch.losses.append(epoch(random.permutation(len(data.y_train))))
        if watch.settled is None and statistics.have_settled(done * steps):
            watch.settled = done if statistics.present else 0
        if len(data.y_val):
            outputs = outputs_of(model, data.x_val)
            loss = cross_entropy(outputs, data.y_val, probabilities)
            if watch.note(done, loss, accuracy(outputs, data.y_val)):
                watch.kept = model.get_weights()
            if setting.told:
                report_epoch(done, watch.best_so_far(setting.told), higher_is_better=setting.told == "accuracy")
            if watch.is_over(done):
                break
    if watch.kept is not None:
        model.set_weights(watch.kept)
    check_unchanged(before, frozen_bytes(model))
    return watch.trained()


class _Watch:
    """What is seen while a training runs: its curves, its best epoch, and when it is over."""

    def __init__(self, setting: Training, steps: int) -> None:
        self._setting, self._steps = setting, steps
        self.losses: list[float] = []
        self.kept: list[NDArray[Any]] | None = None
        self.settled: int | None = None
        self._val: list[tuple[float, float]] = []
        self._best, self._smallest = 0, math.inf
        self._better, self._level = 0, math.inf  # the last epoch that was clearly better, and its loss
        self._over = False

    def note(self, done: int, loss: float, right: float) -> bool:
        """Note what the validation part gave after an epoch, and tell whether it is the best so far."""
        self._val.append((loss, right))
        if loss < self._level - max(_BETTER_BY, _BETTER_BY_PART * abs(loss)):
            self._better, self._level = done, loss
        if not loss < self._smallest:
            return False
        self._best, self._smallest = done, loss
        return True

    def best_so_far(self, what: Literal["accuracy", "loss"]) -> float:
        """Return what the epoch with the smallest validation loss gave; NaN where no loss was a number."""
        loss, right = self._val[self._best - 1] if self._best else (math.nan, math.nan)
        return right if what == "accuracy" else loss

    def is_over(self, done: int) -> bool:
        """Tell whether it has waited long enough, counting from when moving statistics had settled."""
        if self.settled is None and done < self._setting.epochs:
            return False
        waited = done - max(self._better, self.settled or 0)
        enough = waited >= self._setting.patience and waited * self._steps >= self._setting.patience_steps
        self._over = enough and self.settled is not None
        return self._over

    def trained(self) -> Trained:
        """Return how it went."""
        val_loss, val_accuracy = zip(*self._val, strict=True) if self._val else ((), ())
        return Trained(
            best=self._best or len(self.losses),
            loss=tuple(self.losses),
            val_loss=tuple(val_loss),
            val_accuracy=tuple(val_accuracy),
            ended="patience" if self._over else "limit",
            seed=self._setting.seed,
            steps_per_epoch=self._steps,
            settled=self.settled,
        )


def _epoch_function(
    model: keras.Model, data: Splits, setting: Training, probabilities: bool
) -> Callable[[NDArray[np.int64]], float]:
    """Return ``epoch(order)``, a pass over the training examples in that order, which gives its mean loss."""
    import tensorflow as tf

    inputs, labels = tf.constant(data.x_train), tf.constant(data.y_train)
    key = ("epoch", setting.learning_rate, setting.batch_size, probabilities, inputs.dtype, inputs.shape[1:])
    epoch = traced(model, key, lambda: _Epoch(model, setting, probabilities, inputs))
    epoch.start_over()

    def run(order: NDArray[np.int64]) -> float:
        return float(epoch.traced(inputs, labels, tf.constant(order, tf.int64)))

    return run


class _Epoch:
    """A pass over training examples as one graph, with its optimizer."""

    def __init__(self, model: keras.Model, setting: Training, probabilities: bool, like: Any) -> None:
        import keras
        import tensorflow as tf

        variables, size = model.trainable_variables, setting.batch_size
        optimizer = keras.optimizers.Adam(float(setting.learning_rate))  # Keras takes no whole number
        optimizer.build(variables)
        self._fresh = OptimizerState(optimizer)

        def loss_of(inputs: Any, labels: Any) -> Any:
            outputs = tf.cast(model(inputs, training=True), tf.float32)
            losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=not probabilities)
            return tf.add_n([tf.reduce_mean(losses), *(tf.cast(own, tf.float32) for own in model.losses)])

        # The loop lies inside the graph: a step costs microseconds instead of the milliseconds of `Model.fit`.
        @tf.function  # type: ignore[untyped-decorator]
        def epoch(inputs: Any, labels: Any, order: Any) -> Any:
            total = tf.constant(0.0)
            for start in tf.range(0, tf.shape(order)[0], size):
                rows = order[start : start + size]
                with tf.GradientTape() as tape:
                    loss = loss_of(tf.gather(inputs, rows), tf.gather(labels, rows))
                optimizer.apply(tape.gradient(loss, variables), variables)
                total += loss * tf.cast(tf.shape(rows)[0], tf.float32)
            return total / tf.cast(tf.shape(order)[0], tf.float32)

        # Traced here once: left to itself, TensorFlow warns of one tracing too many when several models are trained.
        specs = tf.TensorSpec((None, *like.shape[1:]), like.dtype), tf.TensorSpec((None,), tf.int64)
        self.traced = epoch.get_concrete_function(specs[0], specs[1], specs[1])

    def start_over(self) -> None:
        """Give the optimizer the state of a fresh one."""
        self._fresh.restore()
