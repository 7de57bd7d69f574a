"""The states of a model's own random generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the model's own generators, such as those of its dropouts."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def seed_states(model: keras.Model, seed: int) -> None:
    """Set them by `seed`: Keras seeds a dropout by chance whenever it loads a model."""
    for number, state in enumerate(random_states(model)):
        state.assign(np.array([seed, number], np.uint32))
