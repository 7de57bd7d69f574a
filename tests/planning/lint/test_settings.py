"""What paired layers compute beside their weights is compared; what is right is decided by forward passes of Keras."""

import dataclasses
import json

import h5py
import keras
import numpy as np
import pytest
from compact import catalog, plan_of, structure
from keras import layers as kl
from keras import ops
from unfolded import unfolded

import transferpipe as tp
from transferpipe.planning.lint.settings import compare_settings
from transferpipe.planning.model import SettingsCompared
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.keras.layer_settings import spell_activation
from transferpipe.weights.network import Network, Node
from transferpipe.weights.translations import layer_function

ALL = {"all": {"to": ".*"}}
CODES = ("settings-differ", "class-differs", "between-differs", "momentum-differs")


def chain(*parts, shape=(8, 8, 3)):
    """Return a Functional model of `parts` in a row."""
    inputs = x = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def conv(name="c", size=3, **settings):
    return kl.Conv2D(3, size, name=name, **settings)


def row(*parts, shape=(5, 4)):
    return chain(*parts, shape=shape)


def dense(name="d", units=4, **settings):
    return kl.Dense(units, name=name, **settings)


def plan_between(source, target, mapping=ALL, **recipe):
    return tp.plan(source, target, mapping=mapping, **recipe)


def warned(plan):
    return {w.code: w.text for w in plan.warnings if w.code in CODES}


def computes_the_same(source, target):
    keras.utils.set_random_seed(1)
    source.set_weights(
        [np.random.default_rng(3).uniform(0.1, 1, w.shape).astype(w.dtype) for w in source.get_weights()]
    )
    for layer in (layer for layer in target.layers if layer.weights):
        layer.set_weights(source.get_layer(layer.name).get_weights())
    x = np.random.default_rng(5).normal(size=(3, *(n or 5 for n in source.input_shape[1:]))).astype("float32")
    x[0, 2:] = 0  # what a Masking leaves out
    one, two = np.asarray(source(x)), np.asarray(target(x))
    return one.shape == two.shape and np.allclose(one, two, atol=1e-5)


def halves(way, *, swap=False, gate="sigmoid", merge=kl.Multiply):
    x = keras.Input((6,))
    a, b = dense("a")(x), dense("b")(x)
    if way == "glu":
        return keras.Model(x, dense("c")(ops.glu(kl.Concatenate()([b, a] if swap else [a, b]))))
    a, b = (b, a) if swap else (a, b)
    b = kl.Activation(gate)(b)
    return keras.Model(x, dense("c")(merge()([b, a] if way == "other way round" else [a, b])))


# A pair of models that hold the same weights; whether they compute the same, a forward pass tells.
def taken(part, units=4):
    """A sequence of which one part goes on."""
    return row(dense("a", units), part, dense("b"))


def first(x):
    return x[:, 0]


def transposed(output_padding=None):
    return kl.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=output_padding, name="c")


PAIRS = {
    "the first place, and the mean": (lambda: taken(first), lambda: taken(kl.GlobalAveragePooling1D())),
    "the first place, and the last": (lambda: taken(first), lambda: taken(lambda x: x[:, -1])),
    "the last place, counted from both ends": (lambda: taken(lambda x: x[:, 4]), lambda: taken(lambda x: x[..., -1, :])),
    "the first place, by take": (lambda: taken(first), lambda: taken(lambda x: ops.take(x, 0, axis=1))),
    "the first place, by a slice": (lambda: taken(first), lambda: taken(lambda x: ops.squeeze(x[:, :1], 1))),
    "the last place, by cropping": (
        lambda: taken(first), lambda: row(dense("a"), kl.Cropping1D((4, 0)), kl.Flatten(), dense("b"))
    ),
    "the first place, by cropping": (
        lambda: taken(first), lambda: row(dense("a"), kl.Cropping1D((0, 4)), kl.Flatten(), dense("b"))
    ),
    "a place of those that an unstack gives": (
        lambda: taken(lambda x: ops.unstack(x, axis=1)[3]), lambda: taken(lambda x: x[:, 3])
    ),
    "another of them": (lambda: taken(lambda x: ops.unstack(x, axis=1)[3]), lambda: taken(lambda x: x[:, 1])),
    "the last of what is turned round": (
        lambda: taken(lambda x: ops.flip(x, axis=1)[:, -1]), lambda: taken(lambda x: ops.unstack(x, axis=1)[0])
    ),
    "the first of what is turned round": (lambda: taken(lambda x: x[:, ::-1][:, 0]), lambda: taken(first)),
    "part of a split, and a slice": (
        lambda: taken(lambda x: ops.split(x, [2, 4], axis=1)[1]), lambda: taken(lambda x: x[:, 1:][:, 1:3])
    ),
    "another part of a split": (
        lambda: taken(lambda x: ops.split(x, [2, 4], axis=1)[0]), lambda: taken(lambda x: ops.split(x, [2, 4], axis=1)[1])
    ),
    "channels of a split": (
        lambda: taken(lambda x: ops.split(x, 2, axis=-1)[1]), lambda: taken(lambda x: x[..., 2:])
    ),
    "other channels of a split": (
        lambda: taken(lambda x: ops.split(x, 2, axis=-1)[1]), lambda: taken(lambda x: x[..., :2])
    ),
    "places by their numbers": (
        lambda: taken(lambda x: ops.take_along_axis(x, np.tile([[[0], [2]]], (1, 1, 4)), axis=1)),
        lambda: taken(lambda x: x[:, :3:2]),
    ),
    "other places by their numbers": (
        lambda: taken(lambda x: ops.take_along_axis(x, np.tile([[[0], [2]]], (1, 1, 4)), axis=1)),
        lambda: taken(lambda x: ops.take(x, [2, 0], axis=1)),
    ),
    "moved round by as much": (
        lambda: taken(lambda x: ops.roll(x, 2, axis=1)), lambda: taken(lambda x: ops.roll(x, -3, axis=1))
    ),
    "activated before or behind a place is taken": (
        lambda: row(dense("a", activation="relu"), first, dense("b")), lambda: taken(lambda x: ops.relu(x[:, 0]))
    ),
    "the state that an LSTM ends with": (
        lambda: row(kl.LSTM(4, name="a", return_sequences=True, return_state=True), lambda o: o[1], dense("b")),
        lambda: row(kl.LSTM(4, name="a", return_sequences=True), lambda x: x[:, -1], dense("b")),
    ),
    "both ends of sequences of any length": (
        lambda: row(dense("a"), first, dense("b"), shape=(None, 4)),
        lambda: row(dense("a"), lambda x: ops.flip(x, axis=1)[:, 0], dense("b"), shape=(None, 4)),
    ),
    "one end of them, turned round": (
        lambda: row(dense("a"), first, dense("b"), shape=(None, 4)),
        lambda: row(dense("a"), lambda x: ops.flip(x, axis=1)[:, -1], dense("b"), shape=(None, 4)),
    ),
    "a square and a power": (lambda: taken(lambda x: ops.square(x)), lambda: taken(lambda x: x**2)),
    "a square and another power": (lambda: taken(lambda x: ops.square(x)), lambda: taken(lambda x: x**3)),
    "a sum over time, counted from both ends": (
        lambda: taken(lambda x: ops.cumsum(x, axis=1)), lambda: taken(lambda x: ops.cumsum(x, axis=-2))
    ),
    "padded by what is mirrored": (
        lambda: taken(lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect")), lambda: taken(kl.ZeroPadding1D(1))
    ),
    "a Reshape to the same shape": (lambda: taken(kl.Reshape((-1, 4))), lambda: row(dense("a"), dense("b"))),
    "a Reshape to another one and back": (
        lambda: row(dense("a"), kl.Reshape((4, 5)), kl.Reshape((5, 4)), dense("b")), lambda: row(dense("a"), dense("b"))
    ),
    "a Reshape that moves values": (
        lambda: row(dense("a"), kl.Reshape((4, 5)), kl.Permute((2, 1)), dense("b")),
        lambda: row(dense("a"), dense("b")),
    ),
    "a sum, and a difference the other way round": (
        lambda: halves("product", merge=kl.Add, gate="linear"),
        lambda: halves("other way round", merge=kl.Subtract, gate="linear"),
    ),
    "the maximum, by another name": (
        lambda: taken(lambda x: ops.amax(x, axis=1)), lambda: taken(kl.GlobalMaxPooling1D())
    ),
    "the median, and the mean": (
        lambda: taken(lambda x: ops.median(x, axis=1)), lambda: taken(lambda x: ops.mean(x, axis=1))
    ),
    "a sum over how many there are": (
        lambda: taken(lambda x: ops.sum(x, axis=1) / 5), lambda: taken(kl.GlobalAveragePooling1D())
    ),
    "a sum over another number": (
        lambda: taken(lambda x: ops.sum(x, axis=1) / 4), lambda: taken(kl.GlobalAveragePooling1D())
    ),
    "the last of all outputs": (
        lambda: row(kl.LSTM(4, name="a"), dense("b")),
        lambda: row(kl.LSTM(4, return_sequences=True, name="a"), lambda x: x[:, -1], dense("b")),
    ),
    "the first of all outputs": (
        lambda: row(kl.LSTM(4, name="a"), dense("b")),
        lambda: row(kl.LSTM(4, return_sequences=True, name="a"), first, dense("b")),
    ),
    "all places but the first": (lambda: taken(lambda x: x[:, 1:]), lambda: taken(kl.Cropping1D((1, 0)))),
    "all places but the last": (lambda: taken(lambda x: x[:, 1:]), lambda: taken(lambda x: x[:, :-1])),
    "all places, and all but the first": (lambda: taken(lambda x: x[:, :]), lambda: taken(lambda x: x[:, 1:])),
    "a softmax behind the last layer": (lambda: row(dense(), kl.Softmax()), lambda: row(dense(activation="softmax"))),
    "no softmax behind the last layer": (lambda: row(dense(), kl.Softmax()), lambda: row(dense())),
    "a scale behind the last layer": (lambda: row(dense(), kl.Rescaling(2.0)), lambda: row(dense())),
    "another pooling behind the last layer": (
        lambda: row(dense(), kl.GlobalMaxPooling1D()),
        lambda: row(dense(), kl.GlobalAveragePooling1D()),
    ),
    "GLU of two, and their product with a gate": (lambda: halves("glu"), lambda: halves("product")),
    "the same the other way round": (lambda: halves("product"), lambda: halves("glu")),
    "GLU of two, with another gate": (lambda: halves("glu"), lambda: halves("product", gate="tanh")),
    "a sum in another order": (
        lambda: halves("product", merge=kl.Add),
        lambda: halves("other way round", merge=kl.Add),
    ),
    "a sum in another order, without its activation": (
        lambda: halves("product", merge=kl.Add),
        lambda: halves("other way round", merge=kl.Add, gate="linear"),
    ),
    "relu as a layer": (lambda: chain(conv(activation="relu"), conv("e")), lambda: chain(conv(), kl.ReLU(), conv("e"))),
    "relu as an Activation": (
        lambda: chain(conv(activation="relu"), conv("e")),
        lambda: chain(conv(), kl.Activation("relu"), kl.Dropout(0.5), conv("e")),
    ),
    "relu missing": (lambda: chain(conv(activation="relu"), conv("e")), lambda: chain(conv(), conv("e"))),
    "relu at the end": (lambda: chain(conv(), kl.ReLU()), lambda: chain(conv(activation="relu"))),
    "relu6": (lambda: chain(conv(activation="relu6")), lambda: chain(conv(), kl.ReLU(max_value=6))),
    "relu6 is not relu": (lambda: chain(conv(activation="relu6")), lambda: chain(conv(activation="relu"))),
    "slopes": (lambda: chain(conv(), kl.LeakyReLU(0.1)), lambda: chain(conv(), kl.ReLU(negative_slope=0.1))),
    "other slopes": (lambda: chain(conv(), kl.LeakyReLU(0.1), conv("e")), lambda: chain(conv(), kl.LeakyReLU(), conv("e"))),
    "a slope given to the operation": (
        lambda: chain(conv(), kl.LeakyReLU(0.1), conv("e")),
        lambda: chain(conv(), lambda t: ops.leaky_relu(t, negative_slope=0.1), conv("e")),
    ),
    "another slope given to the operation": (
        lambda: chain(conv(), lambda t: ops.leaky_relu(-t, 0.1), conv("e")),
        lambda: chain(conv(), lambda t: ops.leaky_relu(-t, 0.4), conv("e")),
    ),
    "gelu as an operation": (
        lambda: row(dense(activation="gelu"), dense("e")),
        lambda: row(dense(), lambda t: ops.gelu(t, approximate=False), dense("e")),
    ),
    "gelu of the operation's default": (
        lambda: row(dense(activation="gelu"), dense("e")), lambda: row(dense(), ops.gelu, dense("e"))
    ),
    "celu of another alpha": (
        lambda: row(dense(), lambda t: ops.celu(-t, 0.5), dense("e")),
        lambda: row(dense(), lambda t: ops.celu(-t, 2.0), dense("e")),
    ),
    "clip as relu6": (
        lambda: row(dense(), lambda t: ops.clip(t, 0, 6), dense("e")), lambda: row(dense(activation="relu6"), dense("e"))
    ),
    "clip to other limits": (
        lambda: row(dense(), lambda t: ops.clip(t, -1, 1), dense("e")),
        lambda: row(dense(), lambda t: ops.clip(t, 0, 1), dense("e")),
    ),
    "the mean over time as an operation": (
        lambda: row(dense(), lambda t: ops.mean(t, axis=1), dense("e")),
        lambda: row(dense(), kl.GlobalAveragePooling1D(), dense("e")),
    ),
    "the maximum over time instead of the mean": (
        lambda: row(dense(), lambda t: ops.mean(t, axis=1), dense("e")),
        lambda: row(dense(), lambda t: ops.max(t, axis=1), dense("e")),
    ),
    "a transposition missing": (
        lambda: row(dense(), lambda t: ops.transpose(t, (0, 2, 1)), dense("e"), shape=(4, 4)),
        lambda: row(dense(), dense("e"), shape=(4, 4)),
    ),
    "axes swapped by an operation": (
        lambda: row(dense(), lambda t: ops.swapaxes(t, 1, 2), dense("e"), shape=(4, 4)),
        lambda: row(dense(), kl.Permute((2, 1)), dense("e"), shape=(4, 4)),
    ),
    "resizing by another interpolation": (
        lambda: chain(conv(), lambda t: ops.image.resize(t, (9, 9), interpolation="bilinear"), conv("e")),
        lambda: chain(conv(), lambda t: ops.image.resize(t, (9, 9), interpolation="nearest"), conv("e")),
    ),
    "zeros around by an operation": (
        lambda: chain(lambda t: ops.pad(t, ((0, 0), (1, 1), (1, 1), (0, 0))), conv()),
        lambda: chain(conv(padding="same")),
    ),
    "ones around by an operation": (
        lambda: chain(lambda t: ops.pad(t, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0), conv()),
        lambda: chain(lambda t: ops.pad(t, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=2.0), conv()),
    ),
    "pooling over the whole map": (
        lambda: chain(conv(), kl.AveragePooling2D(6), kl.Flatten(), dense()),
        lambda: chain(conv(), kl.GlobalAveragePooling2D(), dense()),
    ),
    "zeros around a maximum of what is positive": (
        lambda: chain(conv(activation="relu"), kl.ZeroPadding2D(1), kl.MaxPooling2D(3, 1), conv("e")),
        lambda: chain(conv(activation="relu"), kl.MaxPooling2D(3, 1, padding="same"), conv("e")),
    ),
    "zeros around a mean": (
        lambda: chain(conv(), kl.ZeroPadding2D(1), kl.AveragePooling2D(3, 1), conv("e")),
        lambda: chain(conv(), kl.AveragePooling2D(3, 1, padding="same"), conv("e")),
    ),
    "a masking missing": (
        lambda: row(kl.Masking(0.0), kl.LSTM(3, name="l"), dense()),
        lambda: row(kl.LSTM(3, name="l"), dense()),
    ),
    "an activation behind a masked layer": (
        lambda: row(kl.Masking(0.0), kl.LSTM(3, name="l"), dense(activation="relu"), dense("e")),
        lambda: row(kl.Masking(0.0), kl.LSTM(3, name="l"), dense(activation="tanh"), dense("e")),
    ),
    "leaky_relu by name": (
        lambda: chain(conv(activation="leaky_relu"), conv("e")), lambda: chain(conv(), kl.LeakyReLU(0.2), conv("e"))
    ),
    "activation as an object": (
        lambda: chain(conv(activation=kl.ELU(0.5)), conv("e")), lambda: chain(conv(), kl.ELU(0.5), conv("e"))
    ),
    "swish": (lambda: chain(conv(activation="swish")), lambda: chain(conv(activation="silu"))),
    "relu before or behind a maximum": (
        lambda: chain(conv(), kl.ReLU(), kl.MaxPooling2D(), conv("e")),
        lambda: chain(conv(), kl.MaxPooling2D(), kl.ReLU(), conv("e")),
    ),
    "relu before or behind a mean": (
        lambda: chain(conv(), kl.ReLU(), kl.AveragePooling2D(2), conv("e")),
        lambda: chain(conv(), kl.AveragePooling2D(2), kl.ReLU(), conv("e")),
    ),
    "strides as a number": (lambda: chain(conv(strides=2)), lambda: chain(conv(strides=(2, 2)))),
    "strides": (lambda: chain(conv(strides=2)), lambda: chain(conv(strides=1))),
    "padding": (lambda: chain(conv(padding="same")), lambda: chain(conv())),
    "padding as a layer": (lambda: chain(conv(padding="same")), lambda: chain(kl.ZeroPadding2D(), conv())),
    "padding as a layer, strided": (
        lambda: chain(conv(padding="same", strides=2)), lambda: chain(kl.ZeroPadding2D(((0, 1), (0, 1))), conv(strides=2))
    ),
    "torch's padding as a layer, strided": (
        lambda: chain(conv(padding="same", strides=2)), lambda: chain(kl.ZeroPadding2D(), conv(strides=2))
    ),
    "amounts of a padding": (
        lambda: chain(kl.ZeroPadding2D(), conv()), lambda: chain(kl.ZeroPadding2D(((0, 2), (1, 1))), conv())
    ),
    "pooling": (lambda: chain(conv(), kl.MaxPooling2D(), conv("e")), lambda: chain(conv(), kl.AveragePooling2D(2), conv("e"))),
    "strides of a pooling": (
        lambda: chain(conv(), kl.MaxPooling2D(2), conv("e")), lambda: chain(conv(), kl.MaxPooling2D(2, 2), conv("e"))
    ),
    "pooling that overlaps": (
        lambda: chain(conv(), kl.MaxPooling2D(2, 2), conv("e")), lambda: chain(conv(), kl.MaxPooling2D(2, 1), conv("e"))
    ),
    "Reshape to a row": (
        lambda: chain(conv(), kl.Flatten(), dense()), lambda: chain(conv(), kl.Reshape((-1,)), dense())
    ),
    "Flatten before a Reshape": (
        lambda: chain(conv(), kl.Flatten(), kl.Reshape((12, 9)), dense()), lambda: chain(conv(), kl.Reshape((12, 9)), dense())
    ),
    "Rescaling as an operation": (
        lambda: chain(kl.Rescaling(1 / 255.0), conv()), lambda: chain(lambda x: x / 255.0, conv())
    ),
    "Rescaling in two steps": (
        lambda: chain(kl.Rescaling(1 / 127.5, -1.0), conv()), lambda: chain(lambda x: x / 127.5 - 1.0, conv())
    ),
    "no Rescaling": (lambda: chain(kl.Rescaling(1 / 255.0), conv()), lambda: chain(conv())),
    "Normalization given": (
        lambda: chain(kl.Normalization(mean=0.5, variance=2.0), conv()),
        lambda: chain(kl.Normalization(mean=0.1, variance=2.0), conv()),
    ),
    "epsilon": (lambda: chain(conv(), kl.BatchNormalization(epsilon=0.1, name="n")), lambda: chain(conv(), kl.BatchNormalization(name="n"))),
    "axis from either end": (lambda: chain(kl.BatchNormalization(axis=3, name="n")), lambda: chain(kl.BatchNormalization(name="n"))),
    "shared merge": (lambda: residual(kl.Add()), lambda: residual(lambda pair: pair[0] + pair[1])),
    "another merge": (lambda: residual(kl.Add()), lambda: residual(kl.Multiply())),
    "the inputs of a sum in another order": (
        lambda: residual(kl.Add(), kl.ReLU()), lambda: residual(lambda pair: pair[1] + pair[0], kl.ReLU())
    ),
    "padding before a merge": (
        lambda: residual(kl.Add(), kl.ZeroPadding2D(), 3), lambda: residual(kl.Add(), kl.ZeroPadding2D(((0, 2), (1, 1))), 3)
    ),
    "go_backwards": (lambda: row(kl.LSTM(4, name="r", go_backwards=True)), lambda: row(kl.LSTM(4, name="r"))),
    "return_sequences": (
        lambda: row(kl.LSTM(4, return_sequences=True, name="r"), kl.GlobalAveragePooling1D(), dense()),
        lambda: row(kl.LSTM(4, name="r"), dense()),
    ),
    "recurrent_activation": (
        lambda: row(kl.GRU(4, recurrent_activation="hard_sigmoid", name="r")), lambda: row(kl.GRU(4, name="r"))
    ),
    "merge_mode": (
        lambda: row(kl.Bidirectional(kl.LSTM(4), merge_mode="sum", name="b")),
        lambda: row(kl.Bidirectional(kl.LSTM(4), merge_mode="ave", name="b")),
    ),
    "a cell": (
        lambda: row(kl.RNN(kl.GRUCell(4), name="r"), dense()), lambda: row(kl.GRU(4, name="r"), dense())
    ),
    "a cell with another activation": (
        lambda: row(kl.RNN(kl.LSTMCell(4, activation="relu"), name="r")), lambda: row(kl.LSTM(4, name="r"))
    ),
    "inside TimeDistributed": (
        lambda: row(kl.TimeDistributed(dense(activation="tanh"), name="t")), lambda: row(kl.TimeDistributed(dense(), name="t"))
    ),
    "inside TimeDistributed, as a layer": (
        lambda: row(kl.TimeDistributed(dense(activation="tanh"), name="t"), dense("e")),
        lambda: row(kl.TimeDistributed(dense(), name="t"), kl.Activation("tanh"), dense("e")),
    ),
    "EinsumDense": (
        lambda: row(dense(activation="relu", name="d")), lambda: row(kl.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d", activation="relu", name="d"))
    ),
    "dilation": (lambda: chain(conv(dilation_rate=2, padding="same")), lambda: chain(conv(padding="same"))),
    "interpolation": (
        lambda: chain(conv(), kl.UpSampling2D(), conv("e")),
        lambda: chain(conv(), kl.UpSampling2D(interpolation="bilinear"), conv("e")),
    ),
    "a transposed convolution": (
        lambda: chain(kl.Conv2DTranspose(3, 3, padding="same", name="c")), lambda: chain(conv(padding="same"))
    ),
    "a transposed convolution's size, of itself": (
        lambda: chain(transposed(), kl.GlobalMaxPooling2D()), lambda: chain(transposed(0), kl.GlobalMaxPooling2D())
    ),
    "a transposed convolution's size, as it is of itself": (
        lambda: chain(transposed(), conv("e")), lambda: chain(transposed(1), conv("e"))
    ),
    "another normalization": (
        lambda: row(kl.LayerNormalization(name="n")), lambda: row(kl.GroupNormalization(1, name="n"))
    ),
}  # fmt: skip


def residual(merge, before=lambda x: x, size=1):
    inputs = keras.Input((8, 8, 3))
    x = conv(padding="same")(inputs)
    return keras.Model(inputs, conv("e")(merge([x, conv("s", size)(before(inputs))])))


@pytest.mark.parametrize("swap", [True, False])
def test_which_of_two_is_the_gate_of_a_glu(swap):
    source, target = halves("glu"), halves("product", swap=swap)
    assert list(warned(plan_between(source, target))) == (["settings-differ"] if swap else [])
    for name in "abc":
        layers = source.get_layer(name), target.get_layer(name)
        layers[1].set_weights(layers[0].get_weights())
    x = np.random.default_rng(1).normal(size=(3, 6))
    assert np.allclose(source(x), target(x), atol=1e-5) != swap


@pytest.mark.parametrize("name", PAIRS)
def test_what_computes_something_else_is_warned_of_and_nothing_that_does_not(name):
    source, target = (make() for make in PAIRS[name])
    plan = plan_between(source, target)
    same = computes_the_same(source, target)
    assert bool(warned(plan)) != same, (warned(plan), plan.settings)
    assert bool(warned(plan)) == bool(plan.settings.differences)
    assert not (same and any(w.code == "connected-otherwise" for w in plan.warnings))


def test_a_warning_names_the_layers_the_settings_and_both_values():
    source = chain(conv(activation="relu"), conv("e", strides=2), kl.BatchNormalization(epsilon=1e-5, name="n"))
    target = chain(conv(), conv("e"), kl.BatchNormalization(name="n"))
    plan = plan_between(source, target)
    text = warned(plan)["settings-differ"]
    assert text.startswith("3 layers (source -> target): c: activation relu -> linear; e: strides (2, 2) -> (1, 1); ")
    assert "n: epsilon 1e-05 -> 0.001; " in text
    assert (plan.settings.compared, plan.settings.differing, plan.settings.not_compared) == (3, 3, {})
    assert "settings compared: 3 paired layers, 3 differ" in unfolded(plan)


def test_layers_that_differ_in_the_same_are_named_together():
    parts = [conv(f"c{k}", padding="same", activation="relu") for k in range(7)]
    plan = plan_between(chain(*parts), chain(*(conv(f"c{k}", padding="same", activation="tanh") for k in range(7))))
    text = warned(plan)["settings-differ"]
    assert "7 layers (c0, c1, c2, c3, c4 and 2 more): activation relu -> tanh" in text


def test_one_warning_a_rule():
    source, target = (chain(conv(strides=s), conv("e", activation=a)) for s, a in ((2, "relu"), (1, "tanh")))
    plan = plan_between(source, target, {"one": {"to": "c"}, "two": {"to": "e"}})
    assert [w.where for w in plan.warnings if w.code == "settings-differ"] == ["mapping.one", "mapping.two"]


def test_a_head_that_is_kept_is_not_compared():
    source = chain(conv(), kl.GlobalAveragePooling2D(), dense(units=9, activation="softmax"))
    target = chain(conv(), kl.Flatten(), dense(units=2, name="head"))
    plan = plan_between(source, target, {"trunk": {"to": "c"}, "head": {"to": "head", "from": None}})
    assert not warned(plan)
    assert plan.settings == SettingsCompared(1, 0, {}, ())


@pytest.mark.parametrize("freeze", [[], ["n"]])
def test_momentum_matters_to_what_will_train(freeze):
    source, target = (chain(conv(), kl.BatchNormalization(momentum=m, name="n")) for m in (0.99, 0.9))
    plan = plan_between(source, target, freeze=freeze)
    assert set(warned(plan)) == (set() if freeze else {"momentum-differs"})
    assert plan.settings.differing == 0


def test_every_source_of_a_merge_is_compared():
    good, bad, target = chain(conv(activation="relu")), chain(conv(activation="tanh")), chain(conv(activation="relu"))
    mapping = {"all": {"to": "c", "from": ["a:c", "b:c"], "merge": "mean"}}
    plan = tp.plan({"a": good, "b": bad}, target, mapping=mapping)
    assert plan.settings.compared == 2
    assert [(d.source, d.source_value, d.target_value) for d in plan.settings.differences] == [("b", "tanh", "relu")]


def test_every_second_layer_of_a_teacher_raises_no_warning():
    teacher = chain(*(conv(f"c{k}", padding="same", activation="relu") for k in range(4)))
    student = chain(conv("c0", padding="same", activation="relu"), conv("c1", padding="same", activation="relu"))
    plan = plan_between(teacher, student, {"a": {"to": "c0"}, "b": {"to": "c1", "from": "c2"}})
    assert not warned(plan)


def test_a_file_of_weights_tells_no_settings(tmp_path):
    model = chain(conv())
    model.save_weights(tmp_path / "m.weights.h5")
    plan = plan_between(str(tmp_path / "m.weights.h5"), chain(conv(activation="relu")))
    assert not warned(plan)
    assert (plan.settings.compared, plan.settings.not_compared) == (0, {"not stored in the source": 1})
    assert "settings compared: none; paired layers not compared: 1 (not stored in the source)" in unfolded(plan)


class Own(kl.Layer):
    """A layer that nobody knows, with a Dense inside that only the model in memory tells of."""

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = kl.Dense(3, activation, name="inner")

    def build(self, shape):
        self.gain = self.add_weight(shape=(1,), name="gain")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x) * self.gain


def test_settings_of_unknown_classes_are_counted_and_those_of_layers_inside_compared():
    plan = plan_between(row(Own("relu", name="o")), row(Own("tanh", name="o")))
    assert plan.settings.not_compared == {"settings of an unknown class": 1}
    assert [(d.target_layer, d.source_value, d.target_value) for d in plan.settings.differences] == [
        ("o/inner", "relu", "tanh")
    ]


def test_a_plan_without_settings_is_read_and_settings_do_not_change_the_checksum():
    plan = plan_between(chain(conv(strides=2)), chain(conv()))
    data = json.loads(json.dumps(plan.to_data()))
    again = plan_from_data(data)
    assert again.settings == plan.settings
    assert again.checksum == plan.checksum
    del data["settings"]
    assert plan_from_data(data).settings == SettingsCompared()
    assert plan_from_data(data).checksum == plan.checksum


# Versions of Keras ----------------------------------------------------------------------------------------------------


def old_file(path, version, config):
    """Write an LSTM as Keras before 3 did, with or without its configuration."""
    with h5py.File(path, "w") as f:
        f.attrs["keras_version"], f.attrs["backend"] = version, "tensorflow"
        if config is not None:
            layer = {
                "class_name": "LSTM",
                "config": {"name": "r", "units": 4, "batch_input_shape": [None, 5, 4], **config},
            }
            f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [layer]})
        top = f.create_group("model_weights") if config is not None else f
        top.attrs["layer_names"] = [b"r"]
        group, names = top.create_group("r"), [b"r/kernel:0", b"r/recurrent_kernel:0", b"r/bias:0"]
        group.attrs["weight_names"] = names
        for name, shape in zip(names, [(4, 16), (4, 16), (16,)], strict=True):
            group[name.decode()] = np.random.default_rng(1).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("version", "config", "says"),
    [
        ("2.1.6", {}, True), ("2.2.5", {"recurrent_activation": "hard_sigmoid"}, True), ("2.1.6", None, True),
        ("1.2.2", {"inner_activation": "hard_sigmoid"}, True), ("2.2.4", {"recurrent_activation": "sigmoid"}, False),
        ("2.3.1", {}, False), ("2.2.4-tf", {}, False), ("2.2.4-tf", None, False), ("2.4.0", None, False),
        ("2.15.0", {"recurrent_activation": "hard_sigmoid"}, True), ("3.0.0", {}, False), ("?", {}, False),
    ],
)  # fmt: skip
def test_the_default_of_the_version_that_wrote_a_file_holds(version, config, says, tmp_path):
    old_file(tmp_path / "old.h5", version, config)
    text = warned(plan_between(str(tmp_path / "old.h5"), row(kl.LSTM(4, name="r")))).get("settings-differ", "")
    assert ("hard_sigmoid (0.2x + 0.5)" in text) == says


@pytest.mark.parametrize(("axis", "says"), [(3, ""), (-1, ""), (1, "b: axis -3 -> -1"), (2, "b: axis -2 -> -1")])
def test_an_axis_that_keras_2_counted_from_the_front_is_compared(axis, says, tmp_path):
    """A file of before 2.12 does not say how many axes there are: the other layer of the pair does."""
    model = keras.Sequential([keras.Input((4, 4, 4)), kl.Conv2D(4, 1, name="c"), kl.BatchNormalization(name="b")])
    layers = [
        ("Conv2D", {"name": "c", "filters": 4, "kernel_size": [1, 1], "batch_input_shape": [None, 4, 4, 4]}),
        ("BatchNormalization", {"name": "b", "axis": [axis]}),
    ]
    with h5py.File(tmp_path / "old.h5", "w") as f:
        f.attrs["keras_version"], f.attrs["backend"] = "2.4.0", "tensorflow"
        config = {"layers": [{"class_name": kind, "config": config} for kind, config in layers]}
        f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        top = f.create_group("model_weights")
        top.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group, names = top.create_group(layer.name), [f"{layer.name}/{w.name}:0" for w in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value
    assert says in warned(plan_between(str(tmp_path / "old.h5"), model)).get("settings-differ", "")
    assert bool(says) == ("settings-differ" in warned(plan_between(str(tmp_path / "old.h5"), model)))


@keras.saving.register_keras_serializable("tests")
def hard_sigmoid_keras_2(x):
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


@pytest.mark.parametrize("config", [{}, None])
def test_the_advice_about_hard_sigmoid_leads_to_what_keras_2_computed(config, tmp_path):
    old_file(tmp_path / "old.h5", "2.1.6", config)
    target = row(kl.LSTM(4, name="r", recurrent_activation=hard_sigmoid_keras_2))
    plan = plan_between(str(tmp_path / "old.h5"), target)
    assert not warned(plan)
    tp.transfer(str(tmp_path / "old.h5"), target, mapping=ALL)
    kernel, recurrent, bias = target.get_weights()
    x = np.random.default_rng(2).normal(size=(1, 5, 4)).astype("float32")
    h = c = np.zeros(4)
    for step in x[0]:  # the formula of an LSTM with the gates i, f, c, o
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        gate = [np.clip(0.2 * z + 0.5, 0, 1) for z in (i, f, o)]
        c = gate[1] * c + gate[0] * np.tanh(g)
        h = gate[2] * np.tanh(c)
    np.testing.assert_allclose(np.asarray(target(x))[0], h, atol=1e-5)


def test_following_the_advice_ends_the_warning():
    source = chain(conv(activation="relu", strides=2), kl.AveragePooling2D(2), conv("e", 1))
    wrong = chain(conv(), kl.MaxPooling2D(), conv("e", 1))
    assert set(warned(plan_between(source, wrong))) == {"settings-differ", "between-differs"}
    right = chain(conv(activation="relu", strides=2), kl.AveragePooling2D(2), conv("e", 1))
    assert not warned(plan_between(source, right))


# Spelling and bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (None, "linear"), ("linear", "linear"), ("keras_hub>gelu_approximate", "gelu_approximate"),
        ({"class_name": "function", "config": "mish", "registered_name": "mine>mish"}, "mish"),
        ({"module": "keras.layers", "class_name": "ReLU", "config": {"max_value": 6.0}}, "relu(max_value=6)"),
        ({"class_name": "LeakyReLU", "config": {"alpha": {"class_name": "__numpy__", "config": {"value": 0.1}}}}, "leaky_relu(0.1)"),
        ({"class_name": "__lambda__", "config": {"value": "..."}}, None), (5, None), ("hard_sigmoid", None),
    ],
)  # fmt: skip
def test_an_activation_has_one_spelling(value, spelled):
    assert spell_activation(value) == spelled


HOSTILE = [
    None,
    10**400,
    "x",
    [],
    [[[]]],
    {"class_name": 3},
    {"class_name": "ReLU", "config": []},
    [None, "y"],
    -1,
    True,
]


@pytest.mark.parametrize(
    "kind",
    ["Conv2D", "BatchNormalization", "LSTM", "ZeroPadding2D", "Rescaling", "ReLU", "Add", "MaxPooling3D", "GetItem",
     "Take", "Squeeze"],
)  # fmt: skip
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_settings_of_any_kind_are_read(kind, value):
    keys = (
        "strides",
        "padding",
        "activation",
        "axis",
        "epsilon",
        "scale",
        "pool_size",
        "arguments",
        "max_value",
        "kernel_size",
    )
    for key in keys:
        node = Node("a", kind, {key: value}, ("b",), ((None, 4, 3),))
        layer_function(node, Network((node,), keras_version="3.0"))
        node = Node("a", kind, {"axis": 1, "arguments": [None, value]}, ("b",), ((None, 4, 3),))
        layer_function(node, Network((node,), keras_version="3.0"))


def test_a_framework_without_a_translation_is_not_compared():
    node = Node("a", "Conv2D", {"strides": 2})
    assert not layer_function(node, Network((node,), framework="somebody's")).known


def test_a_very_deep_graph_is_compared_in_time():
    nodes = [Node("in", "InputLayer")]
    for k in range(1000):
        before = nodes[-1].name
        nodes.append(Node(f"d{k}", "Dense", {"activation": "relu"}, (before,)))
        nodes.append(Node(f"a{k}", "Add", {"axis": -1}, (before, f"d{k}")))
    nodes.append(Node("last", "Dense", {}, (nodes[-1].name,)))
    network = Network(tuple(nodes), keras_version="3.0", connected=True)
    weights = catalog("\n".join(f"{n.name}/kernel 2x2" for n in nodes if n.layer_class == "Dense"))
    weights = dataclasses.replace(weights, network=network)
    compared, warnings = compare_settings(plan_of(weights, weights, ALL), {"source": weights}, structure(weights))
    assert (compared.compared, compared.differing, warnings) == (1001, 0, [])


def both_ways(**settings):
    layer = kl.LSTM(4, return_sequences=True, name="l", **settings)
    return row(kl.Bidirectional(layer, name="b"))


def turned():
    forward = kl.LSTM(4, return_sequences=True, go_backwards=True, name="l")
    backward = kl.LSTM(4, return_sequences=True, name="k")
    return row(kl.Bidirectional(forward, backward_layer=backward, name="b"))


RULES = {
    "f": {"to": "b/forward_l", "from": "b/forward_l"},
    "b": {"to": "(b/backward_k|b/k)", "from": "b/backward_l"},
}


@pytest.mark.parametrize("as_file", [False, True])
def test_the_directions_of_both_halves_are_compared(as_file, tmp_path):
    source = both_ways()
    if as_file:
        source.save(tmp_path / "s.keras")
        source = str(tmp_path / "s.keras")
    assert "settings-differ" not in warned(plan_between(source, both_ways()))
    plan = plan_between(source, turned(), RULES)
    assert {d.setting for d in plan.settings.differences} == {"go_backwards"}
    assert len(plan.settings.differences) == 2


# What follows from a change of shape that a rule makes ----------------------------------------------------------------


def test_pooling_of_videos_is_that_of_images_with_time_in_front():
    source = chain(conv("c"), kl.MaxPooling2D(2, name="p"), conv("d"))
    for size, differs in (((1, 2, 2), False), ((2, 2, 2), False), ((1, 3, 2), True)):
        target = chain(
            kl.Conv3D(3, 3, name="c"), kl.MaxPooling3D(size, name="p"), kl.Conv3D(3, (1, 3, 3), name="d"), shape=(6, 14, 12, 3)
        )  # fmt: skip
        rule = {"all": {"to": ".*", "transform": {"kernel": ["inflate"]}}}
        assert ("between-differs" in warned(plan_between(source, target, rule))) is differs
    average = chain(
        kl.Conv3D(3, 3, name="c"), kl.AveragePooling3D((1, 2, 2)), kl.Conv3D(3, 1, name="d"), shape=(6, 8, 8, 3)
    )
    rule = {"c": {"to": "c", "transform": {"kernel": ["inflate"]}}, "d": {"to": "d", "transform": {"kernel": [{"crop_or_pad": {"sizes": [1, 1], "axes": [0, 1]}}, "inflate"]}}}  # fmt: skip
    assert "MaxPooling2D p -> AveragePooling3D" in warned(plan_between(source, average, rule))["between-differs"]


@pytest.mark.parametrize(("size", "strides", "differs"), [(4, 4, False), (4, 3, True)])
def test_strides_of_patches_follow_from_their_size(size, strides, differs):
    source, target = chain(conv("c", 2, strides=2)), chain(conv("c", size, strides=strides), shape=(16, 16, 3))
    rule = {"c": {"to": "c", "transform": {"kernel": ["resize_patches"]}}}
    assert ("settings-differ" in warned(plan_between(source, target, rule))) is differs


@pytest.mark.parametrize(
    ("shape", "reshaped", "differs"), [((16, 3), (36, 3), False), ((16, 3), (12, 9), True), ((8, 6), (16, 3), True)]
)
def test_a_reshape_to_more_positions_follows_from_a_larger_image(shape, reshaped, differs):
    sides = [int(np.sqrt(np.prod(s) / 3)) for s in (shape, reshaped)]
    source, target = (
        chain(kl.Conv2D(3, 1, name="c"), kl.Reshape(s, name="r"), dense("d"), shape=(n, n, 3))
        for s, n in zip((shape, reshaped), sides, strict=True)
    )
    rule = {"c": {"to": "c"}, "d": {"to": "d/bias"}}
    found = plan_between(source, target, rule, unmatched="keep")
    assert ("between-differs" in warned(found)) is differs


def attending(**call):
    inputs = keras.Input((6, 4))
    return keras.Model(inputs, kl.MultiHeadAttention(2, 3, name="m")(inputs, inputs, **call), name="inner")


@pytest.mark.parametrize("nested", [False, True])
def test_what_attention_is_called_with(nested):
    def model(**call):
        inputs = keras.Input((6, 4))
        return keras.Model(inputs, attending(**call)(inputs)) if nested else attending(**call)

    plan = plan_between(model(use_causal_mask=True), model())
    assert "use_causal_mask True -> False" in warned(plan)["settings-differ"]
    assert warned(plan_between(model(use_causal_mask=True), model(use_causal_mask=True))) == {}


@keras.saving.register_keras_serializable("own_settings")
class OwnDense(kl.Dense):
    """A Dense of somebody's own."""


def test_a_class_of_the_users_own_has_settings_of_known_names():
    def model(**settings):
        return row(OwnDense(4, name="d", **settings))

    plan = plan_between(model(activation="relu"), model(activation="tanh"))
    assert "d: activation relu -> tanh" in warned(plan)["settings-differ"]
    assert plan.settings.not_compared == {"settings of an unknown class": 1}  # what else it does is not known
    same = plan_between(model(activation="relu"), model(activation=keras.activations.relu))
    assert warned(same) == {}
    assert warned(plan_between(model(activation="relu"), row(dense(activation="relu")))) == {}


def test_axes_of_one_place_that_a_flatten_takes_away():
    def model(*parts):
        return chain(conv(), *parts, dense())

    kept = model(kl.GlobalAveragePooling2D(keepdims=True), kl.Flatten())
    assert warned(plan_between(kept, model(kl.GlobalAveragePooling2D()))) == {}
    assert "between-differs" in warned(plan_between(kept, model(kl.GlobalMaxPooling2D())))


def test_inputs_of_one_shape_that_one_model_transposes():
    turned, plain = row(kl.Permute((2, 1)), kl.Flatten(), dense()), row(kl.Flatten(), dense())
    assert "Permute" in warned(plan_between(turned, plain))["between-differs"]
    # Inputs of another shape may have been transposed before they went in.
    assert warned(plan_between(turned, row(kl.Flatten(), dense(), shape=(4, 5)))) == {}


def padded_convolution(padding=((1, 1), (1, 1)), **settings):
    """A catalog of one strided convolution behind a ZeroPadding, with its network."""
    window = {"kernel_size": (3, 3), "strides": (2, 2), "padding": "same"}
    nodes = (
        Node("in", "InputLayer"),
        Node("pad", "ZeroPadding2D", {"padding": padding}, ("in",), ((None, 8, 8, 3),)),
        Node("c", "Conv2D", window | settings, ("pad",), ((None, 10, 10, 3),)),
    )
    return dataclasses.replace(catalog("c/kernel 3x3x3x4 float32 Conv2D"), network=Network(nodes, connected=True))


@pytest.mark.parametrize("odd", [3, (3,), "x", (0, 0), ((3, 3), 3), 0.5, {"a": 1}, [[1], 2]])
@pytest.mark.parametrize("key", ["kernel_size", "strides", "dilation_rate", "padding"])
def test_settings_that_no_layer_has_end_no_plan(key, odd):
    both = padded_convolution(), padded_convolution(**{key: odd})
    for source, target in (both, both[::-1]):
        plan = plan_of(TargetStructure("target", target), source, {"r": {"to": "c"}})
        assert len(plan.assignments) == 1


def test_settings_that_layers_have_are_compared():
    plan = plan_of(
        TargetStructure("target", padded_convolution(strides=(1, 1))), padded_convolution(), {"r": {"to": "c"}}
    )
    assert [w.code for w in plan.warnings] == ["settings-differ"]


def attention_of_its_own():
    """Return a model that computes what MultiHeadAttention does, of layers of its own."""
    inputs = keras.Input((5, 4))
    q, k, v = (
        kl.EinsumDense("abc,cde->abde", (None, 2, 2), bias_axes="de", name=n)(inputs) for n in ("wq", "wk", "wv")
    )
    weights = ops.softmax(ops.einsum("athd,ashd->ahts", q, k) / 2**0.5)
    mixed = ops.einsum("ahts,ashd->athd", weights, v)
    return keras.Model(inputs, kl.EinsumDense("abcd,cde->abe", (None, 4), bias_axes="e", name="wo")(mixed))


def test_projections_of_an_attention_that_is_made_of_layers():
    inputs = keras.Input((5, 4))
    target = keras.Model(inputs, kl.MultiHeadAttention(2, 2, name="m")(inputs, inputs))
    source = attention_of_its_own()
    rng = np.random.default_rng(1)
    for weight in source.weights:
        weight.assign(rng.normal(size=weight.shape))
    names = {"m/query": "wq", "m/key": "wk", "m/value": "wv", "m/attention_output": "wo"}
    mapping = {own: {"to": name, "from": own} for name, own in names.items()}
    report = tp.transfer(source, target, mapping=mapping)
    x = np.random.default_rng(2).normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_allclose(source(x), target(x), atol=1e-5)
    assert report.warnings == ()
    mapping["wq"]["from"], mapping["wk"]["from"] = "wk", "wq"
    assert {w.code for w in plan_between(source, target, mapping).warnings} == {"names-disagree"}


@pytest.mark.parametrize("odd", [3, (3,), "x", (0, 0), 0.5, {"a": 1}, [[1], 2], [1, [2]]])
@pytest.mark.parametrize("key", ["pool_size", "strides", "padding", "data_format"])
def test_settings_that_no_pooling_has_end_no_plan(key, odd):
    def pooled(**settings):
        found = {"pool_size": (2, 2), "strides": (2, 2), "padding": "same", **settings}
        maps = ((None, 8, 8, 3),)
        nodes = (
            Node("in", "InputLayer"),
            Node("a", "Conv2D", {}, ("in",), maps),
            Node("pad", "ZeroPadding2D", {"padding": 1}, ("a",), maps),
            Node("p", "MaxPooling2D", found, ("pad",), maps),
            Node("c", "Conv2D", {}, ("p",), maps),
        )
        held = catalog("a/kernel 3x3x3x4 float32 Conv2D\nc/kernel 3x3x3x4 float32 Conv2D")
        return dataclasses.replace(held, network=Network(nodes, connected=True))

    both = pooled(), pooled(**{key: odd})
    for source, target in (both, both[::-1]):
        plan = plan_of(TargetStructure("target", target), source, {"r": {"to": "[ac]"}})
        assert len(plan.assignments) == 2
