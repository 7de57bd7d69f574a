"""Which weights a training may move, and the proof that it moved no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferpipe.errors import Problems, VerificationError
from transferpipe.models.keras_private import layers_right_below
from transferpipe.models.walk import to_numpy

if TYPE_CHECKING:
    import keras


def live_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Return the weights that training may move: those of layers that are not frozen, under no frozen layer.

    Moving statistics of a live batch normalization are among them, although no gradient reaches them.
    """
    if not layer.trainable:
        return []
    inner = layers_right_below(layer)
    below = {id(weight) for child in inner for weight in child.weights}
    own = [weight for weight in layer.weights if id(weight) not in below]
    return own + [weight for child in inner for weight in live_weights(child)]


def frozen_bytes(model: keras.Model) -> list[tuple[str, bytes]]:
    """Return path and value of every weight that is not live, in the order of ``model.weights``."""
    live = {id(weight) for weight in live_weights(model)}
    return [(weight.path, to_numpy(weight).tobytes()) for weight in model.weights if id(weight) not in live]


def check_unchanged(before: list[tuple[str, bytes]], after: list[tuple[str, bytes]]) -> None:
    """Compare two results of `frozen_bytes` bit for bit.

    Raises:
        VerificationError: with every weight that differs.
    """
    problems = Problems()
    for (path, old), (_, new) in zip(before, after, strict=True):
        if old != new:
            what = "this frozen weight changed during the training: the call of its layer assigns to it"
            problems.add(path, what, "take the assignment out of the call, or unfreeze the layer")
    problems.raise_as(VerificationError)
