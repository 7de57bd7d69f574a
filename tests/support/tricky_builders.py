"""Builders that do more than build, named by recipes in the tests."""

from __future__ import annotations

import functools
import os
import random

import keras
import numpy as np
from keras import layers as kl

CALLS: list[str] = []


def counted(function):
    """Note every call of a builder."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        CALLS.append(function.__name__)
        return function(*args, **kwargs)

    return call


def stack(*parts):
    return keras.Sequential([keras.Input((4,)), *parts])


def plain(units=3):
    return stack(kl.Dense(units, name="a"), kl.Dense(2, name="b"))


# What can be drawn later ----------------------------------------------------------------------------------------------


@counted
def calls_on_data():
    model = plain()
    model(np.ones((2, 4), "float32"))
    return model


@counted
def reads_without_assigning():
    """A value computed from another layer's fresh weights: drawn early, and drawn again later, it must be the same."""
    first = kl.Dense(3, name="first")
    first.build((None, 4))
    norm = float(keras.ops.norm(first.kernel))
    return stack(first, kl.Dense(2, name="second", kernel_initializer=keras.initializers.Constant(norm)))


@counted
def draws_numbers_itself():
    numbers = np.random.normal(size=(4, 3)) + random.random()
    return stack(kl.Dense(3, name="a", kernel_initializer=keras.initializers.Constant(numbers)), kl.Dense(2, name="b"))


@counted
def one_initializer_for_many():
    shared = keras.initializers.RandomNormal(seed=None)
    return stack(*(kl.Dense(4, name=f"d{i}", kernel_initializer=shared) for i in range(3)))


@counted
def every_initializer():
    kinds = [
        "zeros", "ones", "random_normal", "random_uniform", "truncated_normal", "glorot_normal", "he_uniform",
        "lecun_normal", "orthogonal", "identity", keras.initializers.VarianceScaling(2.0, "fan_out", seed=11),
    ]  # fmt: skip
    return stack(*(kl.Dense(4, name=f"d{i}", kernel_initializer=kind) for i, kind in enumerate(kinds)))


@counted
def fused_biases():
    return keras.Sequential([
        keras.Input((5, 4)),
        kl.LSTM(3, return_sequences=True, bias_initializer="random_normal"),
        kl.Bidirectional(kl.LSTM(3, bias_initializer=keras.initializers.RandomUniform(seed=4))),
    ])  # fmt: skip


@counted
def changes_the_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    return plain()


# What cannot ----------------------------------------------------------------------------------------------------------


@counted
def compiles():
    model = plain()
    model.compile("adam", "mse")
    return model


@counted
def variable_from_array():
    model = plain()
    model.extra = keras.Variable(np.ones(3))
    return model


@counted
def sets_weights():
    model = plain()
    model.get_layer("a").set_weights([np.full((4, 3), 2.0), np.full(3, 3.0)])
    return model


@counted
def scales_by_norm():
    model = plain()
    kernel = model.get_layer("a").kernel
    kernel.assign(kernel / keras.ops.norm(kernel))
    return model


@counted
def loads_weights():
    model = plain()
    model.load_weights(os.environ["TRICKY_WEIGHTS"])
    return model


@counted
def loads_a_model():
    return keras.models.load_model(os.environ["TRICKY_MODEL"], compile=False)


@counted
def trains_a_step():
    model = stack(kl.Dense(3, name="a"), kl.BatchNormalization(name="norm"))
    model(np.arange(8, dtype="float32").reshape(2, 4), training=True)
    return model


@counted
def adapts():
    layer = kl.Normalization(name="adapted")
    layer.adapt(np.arange(12.0).reshape(3, 4))
    return stack(layer, kl.Dense(2, name="b"))


@counted
def enables_lora():
    model = plain()
    model.get_layer("a").enable_lora(2)
    return model


@counted
def draws_from_the_global_generator():
    """Moves the state of Keras's global generator: a draw that changes a variable."""
    numbers = keras.ops.convert_to_numpy(keras.random.normal((4, 3)))
    return stack(kl.Dense(3, name="a", kernel_initializer=keras.initializers.Constant(numbers)), kl.Dense(2, name="b"))


def from_numpy(shape, dtype=None):
    """Initialise from NumPy's global state: no two calls give the same."""
    return np.random.normal(size=shape).astype(dtype or "float32")


class Counting(keras.initializers.Initializer):
    """An initializer that gives another value every time."""

    def __init__(self):
        self.count = 0

    def __call__(self, shape, dtype=None, **_):
        self.count += 1
        return keras.ops.full(shape, self.count, dtype)


class Derived(keras.initializers.RandomNormal):
    """One that inherits from Keras's, and changes what it gives."""

    def __call__(self, shape, dtype=None, **kwargs):
        return super().__call__(shape, dtype, **kwargs) + np.random.normal()


@counted
def function_initializer():
    return stack(*(kl.Dense(3, name=n, kernel_initializer=from_numpy) for n in "abc"))


@counted
def lambda_initializer():
    return stack(kl.Dense(3, name="a", kernel_initializer=lambda shape, dtype=None: from_numpy(shape, dtype)))


@counted
def partial_initializer():
    return stack(kl.Dense(3, name="a", bias_initializer=functools.partial(from_numpy)))


@counted
def counting_initializer():
    one = Counting()
    return stack(*(kl.Dense(3, name=n, kernel_initializer=one) for n in "abc"))


@counted
def derived_initializer():
    return stack(*(kl.Dense(3, name=n, kernel_initializer=Derived()) for n in "ab"))


@counted
def bound_initializer():
    return stack(kl.Dense(3, name="a", kernel_initializer=Counting().__call__))


@counted
def seed_generator():
    seeds = keras.random.SeedGenerator(5)
    normal = keras.initializers.RandomNormal(seed=seeds)
    return stack(*(kl.Dense(3, name=n, kernel_initializer=normal) for n in "abc"))


@counted
def fused_bias_of_a_user():
    """LSTM wraps the initializer that it is given in a function of Keras's own."""
    parts = (kl.LSTM(3, return_sequences=True, bias_initializer=from_numpy) for _ in range(2))
    return keras.Sequential([keras.Input((5, 4)), *parts])


@counted
def fused_bias_with_generator():
    normal = keras.initializers.RandomNormal(seed=keras.random.SeedGenerator(5))
    parts = (kl.LSTM(3, return_sequences=True, bias_initializer=normal) for _ in range(2))
    return keras.Sequential([keras.Input((5, 4)), *parts])


@counted
def thrown_away():
    """The weights of a model that is not returned decide those of one that is."""
    other = stack(kl.Dense(3, name="x", kernel_initializer=from_numpy), kl.Dense(3, name="y"))
    second, first = (float(np.sum(other.get_layer(n).get_weights()[0])) for n in "yx")
    return stack(kl.Dense(2, name="a", kernel_initializer=keras.initializers.Constant(first + second)))


@counted
def clears_the_session():
    keras.utils.clear_session()
    return plain()


@counted
def clears_the_session_half_way():
    first = kl.Dense(3, name="a")
    first.build((None, 4))
    keras.utils.clear_session()
    return stack(first, kl.Dense(2, name="b"))
