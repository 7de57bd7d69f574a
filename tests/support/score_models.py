"""Tiny models and data for the tests of scores."""

import keras
import numpy as np
from keras import layers

from transferpipe.score.data.splits import make_splits


def blobs(n=60, classes=3, size=6, noise=0.3, seed=0):
    """Clouds of points around one centre a class, as splits."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, size))
    labels = np.arange(n) % classes
    points = (centres[labels] + noise * random.normal(size=(n, size))).astype(np.float32)
    cut = n // 3
    parts = [(points[i * cut : (i + 1) * cut], labels[i * cut : (i + 1) * cut]) for i in range(3)]
    return make_splits("blobs", *parts)


def mlp(classes=3, size=6, head="softmax", dropout=0.0, name="mlp"):
    """A frozen Dense, a live Dense, perhaps a dropout, and a head."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            layers.Input((size,)),
            layers.Dense(8, activation="relu", name="low", trainable=False),
            layers.Dense(8, activation="relu", name="high"),
            layers.Dropout(dropout, name="drop"),
            layers.Dense(classes, activation=head, name="head"),
        ],
        name=name,
    )


def all_bytes(model):
    """Every variable's value."""
    return [variable.numpy().tobytes() for variable in model.variables]
