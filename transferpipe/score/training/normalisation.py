"""Moving statistics of batch normalizations: when they have settled, and what to do where frozen ones are fresh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.keras_private import layers_in
from transferpipe.models.walk import to_numpy
from transferpipe.score.features import activations, watched
from transferpipe.score.training.frozen import live_weights

if TYPE_CHECKING:
    import keras

# How far, in standard deviations (mean) or as a part (variance), moving statistics may still have to go. A tenth
# changes what comes out of the layer by less than batches differ among themselves (0.18 deviations in batches of 32).
_NEAR = 0.1
_NO_VARIANCE = 1e-6  # float32 has seven digits
# Of as many examples as this, a mean is known to a twentieth of a standard deviation.
_EXAMPLES = 512


class MovingStatistics:
    """The moving statistics that a training moves, as they are when it begins.

    Attributes:
        present: whether there are any.
    """

    def __init__(self, model: keras.Model) -> None:
        live = {id(weight) for weight in live_weights(model)}
        self._layers = [layer for layer in normalisations(model) if id(layer.moving_mean) in live]
        self._start = [_statistics(layer) for layer in self._layers]
        self.present = bool(self._layers)

    def have_settled(self, steps: int) -> bool:
        """Tell whether, after so many steps, they follow the data and no longer what they began with.

        A moving average is now ``m^steps * start + (1 - m^steps) * data``, for a momentum m: what it still has to go is
        its way so far times ``m^steps / (1 - m^steps)``.
        """
        for layer, start in zip(self._layers, self._start, strict=True):
            kept = float(layer.momentum) ** steps
            (mean, variance), (first_mean, first_variance) = _statistics(layer), start
            ahead = kept / max(1 - kept, 1e-12)  # no step at all leaves everything ahead
            variance_ahead = variance + (variance - first_variance) * ahead
            # A channel that is always the same has none; what float32 leaves of a first value of 1 is no variance.
            varies = variance_ahead > _NO_VARIANCE * np.maximum(first_variance, 1)
            scale = np.sqrt(np.where(varies, variance_ahead, 1) + float(layer.epsilon))
            mean_left, variance_left = (
                np.abs(now - first) * ahead for now, first in ((mean, first_mean), (variance, first_variance))
            )
            if (varies & ((mean_left / scale > _NEAR) | (variance_left / scale**2 > _NEAR))).any():
                return False
        return True


def fresh_frozen(model: keras.Model) -> list[keras.Layer]:
    """Return the frozen batch normalizations whose statistics are those of a fresh layer: mean 0, variance 1.

    They do not normalise: nothing taught them their inputs, and frozen ones learn nothing.
    """
    live = {id(weight) for weight in live_weights(model)}
    frozen = [layer for layer in normalisations(model) if id(layer.moving_mean) not in live]
    statistics = [(layer, *_statistics(layer)) for layer in frozen]
    return [layer for layer, mean, variance in statistics if not mean.any() and (variance == 1).all()]


def estimate_fresh(model: keras.Model, inputs: NDArray[Any]) -> list[str]:
    """Give frozen batch normalizations with fresh statistics those of `inputs`, and return their names.

    One after the other, in the order in which the model runs them: what goes into one depends on those before it.
    Layers that run several times are left as they are. Of many inputs some are drawn, the same in every run: the first
    ones may be all of one class.
    """
    fresh = {layer.path or layer.name: layer for layer in fresh_frozen(model)}
    if not fresh:
        return []
    drawn = np.random.default_rng(0).permutation(len(inputs))[:_EXAMPLES]
    examples, named = inputs[np.sort(drawn)], []
    with watched(fresh, "input") as seen:
        model(examples[:1], training=False)
    for name in [name for name, notes in seen.items() if len(notes) == 1]:
        layer = fresh[name]
        rows = activations(model, {name: layer}, examples, side="input")[name].astype(np.float64)
        axes = tuple(axis for axis in range(rows.ndim) if axis != layer.axis % rows.ndim)
        layer.moving_mean.assign(rows.mean(axis=axes))
        layer.moving_variance.assign(rows.var(axis=axes))
        named.append(name)
    return named


def normalisations(model: keras.Model) -> Iterator[Any]:
    """Yield the batch normalizations in `model`, at any depth."""
    from keras import layers

    for layer in layers_in(model):
        if isinstance(layer, layers.BatchNormalization) and getattr(layer, "moving_mean", None) is not None:
            yield layer


def _statistics(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return to_numpy(layer.moving_mean).astype(np.float64), to_numpy(layer.moving_variance).astype(np.float64)
