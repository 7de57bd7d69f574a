"""Two tasks from one data set, and a network trained on either: the material of Yosinski et al. 2014.

J. Yosinski, J. Clune, Y. Bengio, H. Lipson: How transferable are features in deep neural networks? NeurIPS 2014,
arXiv:1411.1792. There, the classes of ImageNet are divided at random into two halves, A and B, and a network is trained
on each. Here, the ten digits are.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.files.private_cache import user_cache
from transferpipe.zoo.trained_once import trained_once

if TYPE_CHECKING:
    import keras

    from transferpipe.score.data.splits import Splits

Task = Literal["A", "B"]

LAYERS = 5
"""How many layers can be cut after; the sixth is the head."""
# Small, since the examples train it while one waits.
_FILTERS = (16, 16, 32, 32)
_VERSION = 3  # of everything that decides a trained network beside its arguments
_EPOCHS, _PATIENCE_STEPS, _PER_CLASS = 1000, 1000, 40


def half(task: Task, split: int) -> list[int]:
    """Return the five digits of one of the two tasks; `split` draws which digits go where.

    Raises:
        RecipeError: there is no such task.

    >>> sorted(half("A", 3) + half("B", 3))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if task not in ("A", "B"):
        raise RecipeError(Problem("task", f"{task!r} is neither 'A' nor 'B'", "choose one of the two"))
    digits = np.random.default_rng(split).permutation(10)
    return sorted(int(d) for d in (digits[:5] if task == "A" else digits[5:]))


def half_data(task: Task, split: int, per_class: int = _PER_CLASS) -> Splits:
    """Return the images of one of the two tasks, to learn from, to stop by, and to test on.

    Args:
        task: ``A`` or ``B``.
        split: draws which digits go where, and which images.
        per_class: images of each digit to learn from; few, so that there is something to gain from others.
    """
    from transferpipe.score.data.digits import digits_data

    return digits_data(half(task, split), train_per_class=per_class, seed=split)


def digits_net(classes: int = 5) -> keras.Model:
    """Return a classifier of 8x8 images: four convolutions and a dense layer, `layer1` to `layer5`, then `head`."""
    import keras
    from keras import layers

    inputs = keras.Input((8, 8, 1))
    x = inputs
    for number, filters in enumerate(_FILTERS, 1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"layer{number}")(x)
        if number % 2 == 0:
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(64, activation="relu", name=f"layer{LAYERS}")(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="head")(x), name="digits_net")


def trained_on_half(task: Task, split: int) -> keras.Model:
    """Return `digits_net` trained on one of the two tasks.

    It is trained once: afterwards its weights are taken from the user's cache folder (``XDG_CACHE_HOME``, or
    ``~/.cache``), so that every process of a sweep, and a sweep that is resumed, finds them.
    """
    import keras

    keras.utils.set_random_seed(_seed(task, split))
    model = digits_net()
    model.set_weights(_train_weights(task, split))
    return model


@functools.lru_cache(maxsize=64)
def _train_weights(task: Task, split: int) -> list[NDArray[Any]]:
    return trained_once(_cache_path(task, split), lambda: _train(task, split))


def _train(task: Task, split: int) -> list[NDArray[Any]]:
    from transferpipe.score.training.seeded import seeded
    from transferpipe.score.training.train import Training, train

    seed = _seed(task, split)
    with seeded(seed):
        model = digits_net()
        train(
            model,
            half_data(task, split),
            Training(epochs=_EPOCHS, patience=20, seed=seed, patience_steps=_PATIENCE_STEPS),
        )
        weights: list[NDArray[Any]] = model.get_weights()
    return weights


def _seed(task: Task, split: int) -> int:
    """Return a seed that no recipe with `split` as its own seed draws from.

    Otherwise the fresh layers above the cut would begin with the very values that those of the trained network began
    with, next to which its lower layers were trained: as if half of what was cut had been kept.
    """
    return int(np.random.SeedSequence([split, "AB".index(task), 2014]).generate_state(1)[0])


def _cache_path(task: Task, split: int) -> Path:
    folder = user_cache()
    versions = [importlib.metadata.version(p) for p in ("keras", "tensorflow", "numpy")]
    facts = repr((_VERSION, _FILTERS, _EPOCHS, _PATIENCE_STEPS, _PER_CLASS, versions, half(task, split)))
    return folder / f"digits_half_{task}_{split}_{hashlib.sha256(facts.encode()).hexdigest()[:12]}.npz"
