"""Builders that change initializers after use, or go on after an error, named by recipes in the tests."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
from keras import layers as kl
from tricky_builders import counted, plain, stack

# What changes an initializer, or goes on after a refusal ---------------------------------------------------------------


@counted
def moves_the_seed():
    shared = keras.initializers.GlorotUniform(seed=0)
    layers = []
    for seed in range(3):
        shared.seed = seed
        layers.append(kl.Dense(4, name=f"d{seed}", kernel_initializer=shared))
        layers[-1].build((None, 4))
    return stack(*layers)


@counted
def widens_after_use():
    shared = keras.initializers.RandomNormal(stddev=0.1, seed=3)
    inputs = keras.Input((4,))
    first = kl.Dense(4, name="a", kernel_initializer=shared)(inputs)
    shared.stddev = 10.0
    return keras.Model(inputs, kl.Dense(4, name="b", kernel_initializer=shared)(first))


@counted
def fills_the_buffer_again():
    buffer, values, inputs = np.zeros((4, 4), "float32"), [1.0, 2.0, 3.0, 4.0], keras.Input((4,))
    first = kl.Dense(
        4,
        name="a",
        kernel_initializer=keras.initializers.Constant(buffer),
        bias_initializer=keras.initializers.Constant(values),
    )(inputs)
    buffer[:], values[:] = 7, [0.0] * 4
    return keras.Model(inputs, kl.Dense(2, name="b")(first))


@counted
def changes_a_fused_bias():
    """The function that LSTM makes of it looks at the initializer, and its layer, whenever it is called."""
    shared = keras.initializers.RandomNormal(stddev=0.1, seed=3)
    inputs = keras.Input((5, 4))
    first = kl.LSTM(3, return_sequences=True, bias_initializer=shared)(inputs)
    shared.stddev = 10.0
    return keras.Model(inputs, kl.LSTM(3, bias_initializer=shared)(first))


@counted
def function_of_keras():
    """A function that draws from Keras's global generator."""
    return stack(*(kl.Dense(4, name=n, kernel_initializer=keras.random.normal) for n in "ab"))


@counted
def tries_to_compile():
    model = plain()
    with contextlib.suppress(Exception):
        model.compile("adam", "mse")
    return model


@counted
def tries_an_array():
    model = plain()
    with contextlib.suppress(Exception):
        model.get_layer("a").kernel.assign(keras.Variable(np.full((4, 3), 5.0, "float32")))
    return model


@counted
def tries_the_value():
    model = plain()
    with contextlib.suppress(Exception):
        model.get_layer("a").kernel.value.assign(np.full((4, 3), 5.0, "float32"))
    return model


@counted
def asks_for_the_handle():
    model = plain()
    units = 3 if hasattr(model.get_layer("a").kernel, "handle") else 2
    return stack(kl.Dense(units, name="a"))


@counted
def tries_what_fails_anyway():
    """Errors that have nothing to do with values may pass."""
    model = plain()
    with contextlib.suppress(OSError):
        np.load("/nowhere.npy")
    return model


OF_A_MODULE = keras.initializers.RandomNormal(stddev=0.1, seed=3)


@counted
def of_a_module():
    return stack(kl.Dense(3, name="a", kernel_initializer=OF_A_MODULE), kl.LayerNormalization(name="b"))


@counted
def of_a_module_widened():
    OF_A_MODULE.stddev = 10.0
    return of_a_module()
