"""Randomness with a beginning and an end: a score leaves the generators of the process as it found them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make everything inside depend on `seed` alone, and deterministic; put all generators back at the end.

    These are Python's, NumPy's global one, TensorFlow's, Keras's, and TensorFlow's choice of operations that give the
    same sums whatever the threads do. TensorFlow has no public way to read its own, or to give that choice back.
    """
    import keras
    from keras.src.backend.common import global_state
    from tensorflow.python.eager import context
    from tensorflow.python.framework import config

    tensorflow = context.context()
    attributes = ("global_random_seed", "global_seed_generator")
    of_keras = {name: global_state.get_global_attribute(name) for name in attributes}
    before = random.getstate(), np.random.get_state(), tensorflow._seed, getattr(tensorflow, "_rng", None)
    was_deterministic = config.is_op_determinism_enabled()
    try:
        config.enable_op_determinism()
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        tensorflow._seed, tensorflow._rng = before[2:]
        for name, value in of_keras.items():
            global_state.set_global_attribute(name, value)
        if not was_deterministic:
            config.disable_op_determinism()


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the model's own generators, such as those of its dropouts."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def seed_states(model: keras.Model, seed: int) -> None:
    """Set them by `seed`: Keras seeds a dropout by chance whenever it loads a model."""
    for number, state in enumerate(random_states(model)):
        state.assign(np.array([seed, number], np.uint32))


@contextmanager
def given_back(model: keras.Model) -> Iterator[None]:
    """Put the model's weights and random states back at the end, whatever happened."""
    before = [(variable, variable.numpy()) for variable in [*model.weights, *random_states(model)]]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
