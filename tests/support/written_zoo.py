"""Builders of models that are hard to write, named by recipes in the tests: ``written_zoo.build`` with a name."""

from __future__ import annotations

import warnings

import keras
import model_zoo
import numpy as np
from keras import layers as kl

register = keras.saving.register_keras_serializable("written_zoo")


@register
class Odd(kl.Layer):
    """A layer that saves in its own way: keys that are no numbers, values that are no variables."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="uniform", name="gain")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="uniform", name="shift")

    def call(self, x):
        return x * self.gain + self.shift

    def save_own_variables(self, store):
        store["shift"] = self.shift
        store["gain"] = self.gain
        store["version"] = 7
        store["table"] = [1.5, 2.5]
        store["squares"] = np.arange(5) ** 2

    def load_own_variables(self, store):
        self.gain.assign(store["gain"])
        self.shift.assign(store["shift"])
        assert int(store["version"]) == 7
        assert list(store["table"]) == [1.5, 2.5]


@register
class Keyed(kl.Layer):
    """A layer that saves plain variables under keys that are no numbers, in an order of its own."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="uniform", name="gain")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="uniform", name="shift")

    def call(self, x):
        return x * self.gain + self.shift

    def save_own_variables(self, store):
        store["z"], store["a"] = self.gain, self.shift

    def load_own_variables(self, store):
        self.gain.assign(store["z"])
        self.shift.assign(store["a"])


@register
class Halved(kl.Layer):
    """A layer that saves something else than it holds, so that the file depends on what is assigned to it."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return x * self.gain

    def save_own_variables(self, store):
        store["half"] = self.gain / 2

    def load_own_variables(self, store):
        self.gain.assign(store["half"] * 2)


@register
class Kinds(kl.Layer):
    """Weights of every dtype, an empty one and scalars."""

    def build(self, shape):
        self.on = self.add_weight(shape=shape[-1:], dtype="bool", initializer="ones", name="on", trainable=False)
        self.empty = self.add_weight(shape=(0, 3), name="empty")
        self.seen = self.add_weight(shape=(), dtype="int64", initializer="zeros", name="seen", trainable=False)
        self.small = self.add_weight(shape=(2,), dtype="int8", initializer="ones", name="small", trainable=False)
        self.scale = self.add_weight(shape=(), dtype="float16", initializer="ones", name="scale")
        self.brain = self.add_weight(shape=(3,), dtype="bfloat16", initializer="uniform", name="brain")

    def call(self, x):
        return x * keras.ops.cast(self.on, x.dtype) * keras.ops.cast(self.scale, x.dtype)


@register
class WithMetrics(keras.Model):
    """A subclassed model with metrics among its attributes, as generative models have them."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.encoder = kl.Dense(width)
        self.blocks = [kl.Dense(width, activation="relu"), kl.Dense(width)]
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.more = {"auc": keras.metrics.AUC()}

    def build(self, shape):
        self.encoder.build(shape)
        for block in self.blocks:
            block.build((None, self.width))

    def call(self, x):
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return x

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def with_metrics():
    model = WithMetrics(4)
    model.build((None, 4))
    return model


def dense_stack(*parts):
    return keras.Sequential([keras.Input((4,)), *parts])


def lora():
    tokens = keras.Input((5,), dtype="int32")
    embedding, dense = kl.Embedding(7, 4, name="words"), kl.Dense(3, name="head")
    model = keras.Model(tokens, dense(kl.Flatten()(embedding(tokens))))
    dense.enable_lora(2)
    embedding.enable_lora(2)
    dense.lora_kernel_b.assign(np.full(dense.lora_kernel_b.shape, 0.25))
    return model


def quantize(model, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Layer InputLayer does not have a `quantize` method implemented"
        model.quantize(mode)
    return model


def quantized(mode):
    parts = kl.Dense(16), kl.Dense(16, use_bias=False), kl.EinsumDense("ab,bc->ac", output_shape=(8,), bias_axes="c")
    return quantize(dense_stack(*parts), mode)


def quantized_embedding():
    tokens = keras.Input((5,), dtype="int32")
    return quantize(keras.Model(tokens, kl.Dense(4)(kl.Flatten()(kl.Embedding(7, 4)(tokens)))), "int8")


def compiled():
    model = dense_stack(kl.Dense(4), kl.Dense(2))
    model.compile(keras.optimizers.Adam(3e-4), "mse", metrics=["mae"], loss_weights=[0.5])
    return model


def vectorized():
    text = keras.Input((1,), dtype="string")
    words = kl.TextVectorization(max_tokens=20, output_sequence_length=4)
    words.adapt(["the cat sat", "the mat", "größe"])
    return keras.Model(text, kl.Dense(2)(kl.Flatten()(kl.Embedding(20, 3)(words(text)))))


def looked_up():
    """One vocabulary learned, which becomes a file in the archive, and two given, which stand in the configuration."""
    text, number = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")
    learned = kl.StringLookup()
    learned.adapt(["a", "b", "c", "b"])
    given = kl.StringLookup(vocabulary=["x", "y"])
    numbers = kl.IntegerLookup(vocabulary=[3, 4, 5])
    parts = [kl.Embedding(9, 3)(layer(of)) for layer, of in ((learned, text), (given, text), (numbers, number))]
    return keras.Model([text, number], kl.Dense(2)(kl.Flatten()(kl.Concatenate()(parts))))


def renormalized():
    return dense_stack(kl.Dense(4), kl.BatchNormalization(renorm=True))


def unicode_names():
    return dense_stack(kl.Dense(3, name="größe"), kl.Dense(2, name="層"))


ZOO = {
    **model_zoo.ZOO,
    "odd": lambda: dense_stack(kl.Dense(4), Odd(name="odd"), kl.Dense(2)),
    "keyed": lambda: dense_stack(kl.Dense(4), Keyed(name="keyed"), kl.Dense(2)),
    "halved": lambda: dense_stack(kl.Dense(4), Halved(name="halved"), kl.Dense(2)),
    "kinds": lambda: dense_stack(kl.Dense(4), Kinds(name="kinds"), kl.Dense(2)),
    "with_metrics": with_metrics,
    "lora": lora,
    "int8": lambda: quantized("int8"),
    "int4": lambda: quantized("int4"),
    "float8": lambda: quantized("float8"),
    "quantized_embedding": quantized_embedding,
    "compiled": compiled,
    "vectorized": vectorized,
    "looked_up": looked_up,
    "renormalized": renormalized,
    "unicode_names": unicode_names,
    "mixed_bfloat16": model_zoo.with_dtype("mixed_bfloat16"),
}


def build(name):
    """Return the model called `name`."""
    return ZOO[name]()
