"""Short signals that are drawn, not measured, in as many classes as wanted, and a network trained on twenty of them.

The idea is that of MNIST-1D (S. Greydanus, D. Kobak: Scaling down deep learning, ICML 2024, arXiv:2011.14439): a curve
a class, stretched, shifted, sheared and noisy. What a network learns of one set of classes (how to see a curve wherever
and however long it is) is of use for another set. Examples are free, so that few of them can be compared with many, and
each seed draws its own classes and test examples: nothing is shared between seeds.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.files.private_cache import user_cache
from transferpipe.zoo.trained_once import trained_once

if TYPE_CHECKING:
    import keras

    from transferpipe.score.data.splits import Splits

SOURCE_CLASSES, CLASSES = 20, 5
_LENGTH, _POINTS = 40, 12
_SHORTEST, _LONGEST = 14, 28  # how far a curve is stretched
_SLOPE, _NOISE = 0.4, 0.25
_SMOOTH = (0.2, 0.5, 0.8, 0.5, 0.2)
_FILTERS, _LAYERS = 32, ((5, 2), (3, 2), (3, 2))  # kernel and stride
_PER_SOURCE_CLASS, _VAL, _TEST, _MOST = 200, 50, 200, 1000
_EPOCHS, _LEARNING_RATE, _PATIENCE_STEPS = 300, 0.003, 1000
_VERSION = 1  # of everything that decides a trained network beside what `_cache_path` names


def signals_data(split: int, per_class: int) -> Splits:
    """Return signals of five classes, to learn from, to stop by, and to test on.

    Args:
        split: draws the classes and the examples. Of another `per_class` the other parts are the same.
        per_class: signals of each class to learn from, 1 to 1000.

    Raises:
        RecipeError: there are not so many.
    """
    if not 1 <= per_class <= _MOST:
        what = f"{per_class} signals of each class; there are 1 to {_MOST}"
        raise RecipeError(Problem("per_class", what, f"choose 1 to {_MOST}"))
    return _splits(CLASSES, [split, 1], per_class)


def signals_net(classes: int = CLASSES) -> keras.Model:
    """Return a classifier of signals of shape (40, 1): three convolutions, `layer1` to `layer3`, then `head`."""
    import keras
    from keras import layers

    x = inputs = keras.Input((_LENGTH, 1))
    for number, (kernel, stride) in enumerate(_LAYERS, 1):
        name = f"layer{number}"
        x = layers.Conv1D(_FILTERS, kernel, strides=stride, padding="same", activation="relu", name=name)(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="head")(x), name="signals_net")


def trained_on_signals(split: int) -> keras.Model:
    """Return `signals_net` trained on twenty classes that are none of those of `signals_data`.

    It is trained once: afterwards its weights are taken from the user's cache folder (``XDG_CACHE_HOME``, or
    ``~/.cache``).
    """
    import keras

    keras.utils.set_random_seed(_seed(split))
    model = signals_net(SOURCE_CLASSES)
    model.set_weights(_train_weights(split))
    return model


@functools.lru_cache(maxsize=64)
def _train_weights(split: int) -> list[NDArray[Any]]:
    return trained_once(_cache_path(split), lambda: _train(split))


def _train(split: int) -> list[NDArray[Any]]:
    from transferpipe.score.training.seeded import seeded
    from transferpipe.score.training.train import Training, train

    seed = _seed(split)
    with seeded(seed):
        model = signals_net(SOURCE_CLASSES)
        data = _splits(SOURCE_CLASSES, [split, 0], _PER_SOURCE_CLASS)
        how = Training(_EPOCHS, _LEARNING_RATE, patience=10, seed=seed, patience_steps=_PATIENCE_STEPS)
        train(model, data, how)
        weights: list[NDArray[Any]] = model.get_weights()
    return weights


def _seed(split: int) -> int:
    """Return a seed that no recipe with `split` as its own seed draws from; see `digit_halves`."""
    return int(np.random.SeedSequence([split, 2020]).generate_state(1)[0])


def _cache_path(split: int) -> Path:
    versions = [importlib.metadata.version(p) for p in ("keras", "tensorflow", "numpy")]
    facts = repr((_VERSION, _FILTERS, _LAYERS, _PER_SOURCE_CLASS, _EPOCHS, _LEARNING_RATE, _PATIENCE_STEPS, versions))
    return user_cache() / f"signals_{split}_{hashlib.sha256(facts.encode()).hexdigest()[:12]}.npz"


def _splits(classes: int, seed: list[int], per_class: int) -> Splits:
    from transferpipe.score.data.splits import make_splits

    # A generator for each part: how many there are of one changes no other.
    of_curves, *of_parts = np.random.SeedSequence(seed).spawn(4)
    curves = _curves(np.random.default_rng(of_curves), classes)
    numbers = (per_class, _VAL, _TEST)
    parts = [_signals(np.random.default_rng(of), curves, n) for of, n in zip(of_parts, numbers, strict=True)]
    return make_splits(f"signals, split {seed[0]}", *parts)


def _curves(random: np.random.Generator, classes: int) -> NDArray[np.float64]:
    """Return a curve through a few points for each class: a random walk that ends where it began."""
    walks = random.normal(size=(classes, _POINTS)).cumsum(axis=1)
    walks -= np.linspace(walks[:, 0], walks[:, -1], _POINTS, axis=1)
    found: NDArray[np.float64] = walks / walks.std(axis=1, keepdims=True)
    return found


def _signals(
    random: np.random.Generator, curves: NDArray[np.float64], per_class: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return so many signals of each class, of shape (n, 40, 1), and their class numbers, class after class."""
    labels = np.arange(len(curves)).repeat(per_class)
    slopes = np.linspace(-_SLOPE, _SLOPE, _LENGTH) * random.normal(size=(len(labels), 1))
    noise = _NOISE * random.normal(size=(len(labels), _LENGTH + len(_SMOOTH) - 1))
    signals = slopes + sum(weight * noise[:, k : k + _LENGTH] for k, weight in enumerate(_SMOOTH))
    lengths = random.integers(_SHORTEST, _LONGEST, len(labels))
    starts = random.integers(0, _LENGTH - lengths + 1)
    heights = random.uniform(0.6, 1.4, len(labels))
    for signal, label, length, start, height in zip(signals, labels, lengths, starts, heights, strict=True):
        at = np.linspace(0, _POINTS - 1, length)
        signal[start : start + length] += height * np.interp(at, np.arange(_POINTS), curves[label])
    return signals[..., None].astype(np.float32), labels
