"""Randomness with a beginning and an end: a score leaves the generators of the process as it found them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from transferpipe.models.settings import generators_kept
from transferpipe.models.state.random_states import random_states
from transferpipe.models.walk import to_numpy

if TYPE_CHECKING:
    import keras


def repetition_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the seeds of the repetitions of a score: ``SeedSequence([seed, i])``, so that no two seeds share any.

    Counting on from the seed would: with five repetitions, seeds 0 and 1 had four trainings in common.

    >>> set(repetition_seeds(0, 5)) & set(repetition_seeds(1, 5))
    set()
    """
    return tuple(int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(count))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make everything inside depend on `seed` alone, and deterministic; put all generators back at the end."""
    import keras

    with generators_kept():
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # TensorFlow has no way back from this; all that it costs what comes later is time.
            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(seed)
        yield


@contextmanager
def given_back(model: keras.Model) -> Iterator[None]:
    """Put the model's weights and random states back at the end, whatever happened."""
    before = [(variable, to_numpy(variable)) for variable in [*model.weights, *random_states(model)]]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
