"""Causes that lie not in a layer but in how it is called: what goes into it, in which order, with which switches."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp


def dense(name, units=4):
    return kl.Dense(units, activation="tanh", name=name)


def pair(connect, *shapes, dtype="float32"):
    made = []
    for other in (False, True):
        inputs = [keras.Input(shape, name=name, dtype=dtype) for shape, name in zip(shapes, "ab", strict=False)]
        made.append(keras.Model(inputs, connect(*inputs, other)))
    rng = np.random.default_rng(0)
    for weight in made[0].weights:
        weight.assign(rng.normal(size=weight.shape))
    given = {w.path: w for w in made[0].weights}
    for weight in made[1].weights:
        weight.assign(given[weight.path])
    return made


def towers(a, b, other):
    tower = dense("tower")
    values = [tower(b), tower(a)] if other else [tower(a), tower(b)]
    return dense("top")(kl.Concatenate(name="both")(values))


def subtracted(a, b, other):
    values = [dense("one")(a), dense("two")(b)]
    return dense("top")(kl.Subtract(name="less")(values[::-1] if other else values))


def causal(a, other):
    return dense("top")(kl.MultiHeadAttention(2, 3, name="attention")(a, a, use_causal_mask=other))


def padded(a, other):
    words = kl.Embedding(6, 4, mask_zero=other, name="words")(a)
    return dense("top")(kl.LSTM(4, name="lstm")(words))


def missing(a, other):
    one = dense("one")(a)
    return dense("top")(one if other else keras.ops.square(one) + one)


PAIRS = {
    "towers": (lambda: pair(towers, (6,), (6,)), "tower takes another input than in the original: there it takes what"),
    "order": (lambda: pair(subtracted, (6,), (6,)), "less takes its 2 inputs in another order than in the original"),
    "causal": (lambda: pair(causal, (5, 4)), "use_causal_mask of attention: it is called with use_causal_mask=True"),
    "mask": (lambda: pair(padded, (6,), dtype="int32"), "mask of lstm: the target's is given a mask"),
    "missing": (lambda: pair(missing, (6,)), "top takes another input than in the original"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_cause_is_how_a_layer_is_called(name):
    make, words = PAIRS[name]
    source, target = make()
    shapes = {x.name: (3, *x.shape[1:]) for x in source.inputs}
    rng = np.random.default_rng(1)
    drawn = {n: rng.integers(0, 6, s) if name == "mask" else rng.normal(size=s) for n, s in shapes.items()}
    found = tp.parity(source, target, inputs={n: v.astype(source.inputs[0].dtype) for n, v in drawn.items()})
    assert found.verdict == "fail"
    assert words in found.cause
    assert (
        tp.parity(source, make()[0], inputs={n: v.astype(source.inputs[0].dtype) for n, v in drawn.items()}).verdict
        == "pass"
    )


def test_other_values_are_said_by_the_name_of_the_weight():
    source, target = pair(lambda a, _: dense("top")(dense("one")(a)), (6,))
    layer = target.get_layer("one")
    layer.set_weights([layer.get_weights()[0], np.linspace(-1, 1, 4) ** 3])
    cause = tp.parity(source, target).cause
    assert "it takes what it takes in the original, and its bias has other values" in cause
