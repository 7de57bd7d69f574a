"""Builders that remember what they made, and builders that fail, named by recipes in the tests."""

from __future__ import annotations

import functools
import gc
import os
from pathlib import Path

import keras
from keras import layers as kl
from tricky_builders import CALLS, compiles, counted, from_numpy, plain, stack

# What remembers -------------------------------------------------------------------------------------------------------


def headed(base):
    return keras.Model(base.inputs, kl.Dense(5, name="head")(base.outputs[0]))


@functools.cache
def backbone():
    """Make, and remember, a model with weights from a file."""
    model = plain()
    model.load_weights(os.environ["TRICKY_WEIGHTS"])
    return model


@counted
def on_a_remembered_backbone():
    return headed(backbone())


@functools.cache
def fresh_backbone():
    """Make, and remember, a model with fresh weights."""
    return stack(kl.Dense(3, name="a"), kl.Dense(2, name="b", kernel_initializer=from_numpy))


@counted
def on_a_remembered_fresh_backbone():
    return headed(fresh_backbone())


@counted
def on_a_backbone_of_a_module():
    """The module is imported here, in the middle of building, and makes a model with loaded weights."""
    import tricky_backbone

    return headed(tricky_backbone.MODEL)


# What fails -----------------------------------------------------------------------------------------------------------


@counted
def fails():
    plain()
    raise ValueError("no luck")


@counted
def fails_the_second_time():
    if CALLS.count("fails_the_second_time") > 1:
        raise ValueError("once is enough")
    return compiles()


@counted
def returns_nothing():
    plain()


@counted
def not_built():
    return keras.Sequential([kl.Dense(3)])


@counted
def in_a_scope_of_its_own():
    with keras.StatelessScope(initialize_variables=False):
        model = plain()
    model.compile()
    return model


@counted
def appends_to_a_file():
    with Path(os.environ["TRICKY_LOG"]).open("a") as log:
        log.write("built\n")
    return compiles()


# What keeps what it made, and returns it -------------------------------------------------------------------------------

KEPT: dict[str, object] = {}


@functools.cache
def trunk():
    return stack(kl.Dense(3, name="a"), kl.Dense(2, name="b"))


@counted
def on_a_remembered_trunk():
    return headed(trunk())


@counted
def keeps_the_model():
    KEPT["it"] = plain()
    return KEPT["it"]


@counted
def keeps_a_layer():
    model = plain()
    KEPT["it"] = [model.get_layer("a")]
    return model


@counted
def keeps_a_variable():
    model = plain()
    KEPT["it"] = model.get_layer("a").kernel
    return model


@counted
def keeps_a_tensor():
    """A symbolic tensor knows the layer that it comes from."""
    model = plain()
    KEPT["it"] = model.outputs[0]
    return model


@counted
def keeps_a_function():
    model = plain()
    KEPT["it"] = lambda x: model(x)
    return model


@counted
def keeps_numbers():
    """Nothing that leads to a weight."""
    model = plain()
    KEPT["it"] = [model.count_params(), model.get_config(), model.name]
    return model


@counted
def collects_garbage():
    model = plain()
    gc.collect()
    return model
