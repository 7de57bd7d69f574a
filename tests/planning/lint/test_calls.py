"""Layers called several times, layers of several outputs, and operations between layers: what a plan says of them.

What is right is decided by a forward pass of both models with the same weights.
"""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import transferpipe as tp

ALL = {"all": {"to": ".*"}}
CODES = ("connected-otherwise", "between-differs", "settings-differ")


@keras.saving.register_keras_serializable("calls")
class Factor(kl.Layer):
    def __init__(self, factor=1.0, rate=0.1, **more):
        super().__init__(**more)
        self.factor, self.rate = factor, rate

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "rate": self.rate}


@keras.saving.register_keras_serializable("calls")
class Sharpened(kl.Layer):
    def __init__(self, temperature=1.0, **more):
        super().__init__(**more)
        self.temperature = temperature

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 4))

    def call(self, x):
        return ops.matmul(x, self.kernel) / self.temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def dense(name, units=4):
    return kl.Dense(units, activation="tanh", name=name)


def graph(connect, *shapes):
    inputs = [keras.Input(shape, name=name) for shape, name in zip(shapes, "abc", strict=False)]
    outputs = connect(*inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def both(connect, *shapes):
    """Two models that `connect` makes, told apart by its last argument."""
    return lambda: tuple(graph(lambda *x, o=other: connect(*x, o), *shapes) for other in (False, True))


def towers(merge, nested=False):
    def connect(a, b, other):
        tower = dense("tower")
        if nested:
            inside = keras.Input((6,))
            tower = keras.Model(inside, tower(inside), name="nest")
        values = tower(a), tower(b)
        return dense("top")(merge(values[::-1] if other else values))

    return both(connect, (6,), (6,))


def called_in_other_order(a, b, other):
    tower = dense("tower")
    values = [tower(x) for x in ((b, a) if other else (a, b))]
    return dense("top")(kl.Subtract()(values[::-1] if other else values))


def crossed_inputs(a, b, other):
    a, b = (b, a) if other else (a, b)
    return dense("top")(kl.Concatenate()([dense("one")(a), dense("two")(b)]))


def twice_the_same(a, b, other):
    tower = dense("tower")
    return dense("top")(kl.Concatenate()([tower(a), tower(a if other else b)]))


def state(a, other):
    _, hidden, cell = kl.LSTM(5, return_state=True, name="lstm")(a)
    return dense("top")(cell if other else hidden)


def last_output_or_state(a, other):
    last, hidden, _ = kl.LSTM(5, return_state=True, name="lstm")(a)
    return dense("top")(hidden if other else last)


def decoder(start):
    def connect(a, b, other):
        _, *states = kl.LSTM(5, return_state=True, name="encoder")(a)
        given = {"initial_state": start(states)} if other else {"initial_state": states}
        return dense("top")(kl.LSTM(5, name="decoder")(b, **(given if given["initial_state"] else {})))

    return both(connect, (7, 4), (6, 4))


def masked(a, b, other):
    seen = kl.MultiHeadAttention(2, 3, name="attention")(a, a, **({} if other else {"attention_mask": b > 0}))
    return dense("top")(seen)


def keyed(a, b, other):
    return dense("top")(kl.MultiHeadAttention(2, 3, name="attention")(a, b, **({"key": b} if other else {})))


def parts(a, other):
    one, two = ops.split(dense("long", 8)(a), 2, axis=-1)
    return dense("top")(ops.concatenate([two, one] if other else [one, two]))


def gates(a, other):
    one, two = ops.split(dense("long", 8)(a), 2, axis=-1)
    return dense("top")(two * ops.sigmoid(one) if other else one * ops.sigmoid(two))


def two_by(do):
    return both(lambda a, other: dense("top")(do(dense("one")(a), dense("two")(a), other)), (6,))


def matrices(do):
    return both(lambda a, other: dense("top")(do(dense("one")(a), dense("two")(a), other)), (4, 6))


def one_by(before, after=None):
    """A step between two layers, and another or none in its place."""
    return both(lambda a, other: dense("top")((after if other else before)(dense("one")(a))), (6,))


def nothing(x):
    return x


def of_steps(one, two):
    def connect(a, other):
        seen = kl.TimeDistributed(kl.Conv1D(3, 3, padding="same"), name="steps")(a)
        seen = kl.TimeDistributed(two() if other else one())(seen)
        return dense("top")(seen)

    return both(connect, (4, 6, 3))


def joined(a, other):
    made = [dense(name)(a) for name in ("one", "two", "three")]
    return dense("top")(kl.Concatenate()([kl.Concatenate()(made[:2]), made[2]] if other else made))


def by(one, two, *shape):
    return both(lambda a, other: dense("top")((two if other else one)()(a)), shape)


FACTORS = np.linspace(-1, 1, 4, dtype="float32")[None]
PAIRS = {
    "towers subtracted": towers(kl.Subtract()),
    "towers joined, as models": towers(kl.Concatenate(), nested=True),
    "towers added": towers(kl.Add()),
    "towers called in another order": both(called_in_other_order, (6,), (6,)),
    "one tower twice on one input": both(twice_the_same, (6,), (6,)),
    "inputs crossed": both(crossed_inputs, (6,), (6,)),
    "a cell's state for the hidden one": both(state, (7, 4)),
    "the last output is the hidden state": both(last_output_or_state, (7, 4)),
    "states exchanged": decoder(lambda states: states[::-1]),
    "states not handed over": decoder(lambda states: None),
    "states handed over": decoder(lambda states: states),
    "an attention without its mask": both(masked, (5, 4), (5, 5)),
    "the values as keys": both(keyed, (5, 4), (5, 4)),
    "parts exchanged": both(parts, (6,)),
    "gates exchanged": both(gates, (6,)),
    "a swish by its formula": one_by(ops.silu, lambda x: x * ops.sigmoid(x)),
    "divided the other way round": two_by(lambda x, y, o: ops.divide(y, 2 + x) if o else ops.divide(x, 2 + y)),
    "multiplied the other way round": matrices(lambda x, y, o: ops.matmul(y, x) if o else ops.matmul(x, y)),
    "another einsum": matrices(lambda x, y, o: ops.einsum("bij,bjk->bki" if o else "bij,bjk->bik", x, y)),
    "a mean by its sum": two_by(lambda x, y, o: (x + y) / 2 if o else kl.Average()([x, y])),
    "a sum for a mean": two_by(lambda x, y, o: x + y if o else kl.Average()([x, y])),
    "joined in two steps": both(joined, (6,)),
    "one less a value": one_by(lambda x: 1 - x, nothing),
    "a value less one": one_by(lambda x: 1 - x, lambda x: x - 1),
    "by a number": one_by(lambda x: 2.0 / (2 + x), lambda x: (2 + x) / 2.0),
    "absolute values": one_by(ops.abs, nothing),
    "unit length": one_by(lambda x: ops.normalize(x, axis=-1), lambda x: kl.UnitNormalization()(x)),
    "no unit length": one_by(lambda x: ops.normalize(x, axis=-1), nothing),
    "numbers added": one_by(lambda x: x + FACTORS, nothing),
    "other numbers added": one_by(lambda x: x + FACTORS, lambda x: x + 2 * FACTORS),
    "a class of one's own missing": one_by(lambda x: Factor(2.0)(x), nothing),
    "a setting of one's own class": one_by(lambda x: Factor(2.0)(x), lambda x: Factor(3.0)(x)),
    "a rate of one's own class": one_by(lambda x: Factor(2.0)(x), lambda x: Factor(2.0, rate=0.3)(x)),
    "a relu twice": one_by(kl.ReLU(), lambda x: kl.ReLU()(kl.ReLU()(x))),
    "a lambda missing": one_by(lambda x: kl.Lambda(lambda v: v * 3.0)(x), nothing),
    "pooling of each step": of_steps(kl.GlobalAveragePooling1D, kl.GlobalMaxPooling1D),
    "a temperature": by(lambda: Sharpened(1.0, name="own"), lambda: Sharpened(2.0, name="own"), 6),
    "an einsum along the last axis": by(
        lambda: kl.Dense(4, name="d"),
        lambda: kl.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d", name="d"),
        *(4, 4),
    ),
    "an einsum along another axis": by(
        lambda: kl.Dense(4, use_bias=False, name="d"),
        lambda: kl.EinsumDense("abc,bd->adc", output_shape=(4, 4), name="d"),
        *(4, 4),
    ),
    "groups of one": by(lambda: kl.GroupNormalization(4, name="n"), lambda: kl.GroupNormalization(-1, name="n"), 6, 4),
    "causal by zeros": by(
        lambda: kl.Conv1D(4, 3, padding="causal", name="c"),
        lambda: keras.Sequential([kl.ZeroPadding1D((2, 0)), kl.Conv1D(4, 3, name="c")]),
        *(8, 3),
    ),
    "a scale by a mean and a variance": both(
        lambda a, other: dense("top")(
            kl.Rescaling(0.5, offset=-0.5)(a) if other else kl.Normalization(mean=1.0, variance=4.0)(a)
        ),
        (6,),
    ),
    "enlarged by its size": both(
        lambda a, other: kl.Conv2D(2, 3, name="out")(
            (kl.Resizing(8, 8) if other else kl.UpSampling2D(2, interpolation="bilinear"))(
                kl.Conv2D(3, 1, name="in")(a)
            )
        ),
        (4, 4, 3),
    ),
}


def outputs_of(model, values):
    found = model(values if len(values) > 1 else values[0], training=False)
    return [np.asarray(value) for value in keras.tree.flatten(found)]


def same_function(source, target):
    """Give the target the source's weights, by their paths or else by their places, and compare what both compute."""
    rng = np.random.default_rng(0)
    for weight in source.weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.5))
    given = {w.path: w for w in source.weights}
    for place, weight in enumerate(target.weights):
        weight.assign(given.get(weight.path, source.weights[place]))
    values = [rng.normal(size=(3, *x.shape[1:])).astype("float32") for x in source.inputs]
    pairs = zip(outputs_of(source, values), outputs_of(target, values), strict=True)
    return all(one.shape == two.shape and np.allclose(one, two, atol=1e-4) for one, two in pairs)


def says(source, target):
    mapping = ALL
    if any(isinstance(layer, keras.Sequential) for layer in target.layers):
        mapping = {"all": {"to": "(.*/)?(c|top)", "from": r"\2"}}
    return {w.code: w.text for w in tp.plan(source, target, mapping=mapping).warnings}


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("name", PAIRS)
def test_a_warning_where_the_same_weights_compute_something_else(name):
    source, target = PAIRS[name]()
    told = says(source, target)
    if same_function(source, target):
        assert told == {}
    else:
        assert set(told) & set(CODES), told


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("form", ["s.keras", "s.h5"])
@pytest.mark.parametrize("name", ["towers subtracted", "towers joined, as models", "states exchanged"])
def test_files_tell_the_calls_as_well(name, form, tmp_path):
    source, target = PAIRS[name]()
    keras.saving.save_model(source, tmp_path / form)
    assert set(says(str(tmp_path / form), target)) == {"connected-otherwise"}
    assert says(str(tmp_path / form), PAIRS[name]()[0]) == {}


def ends(outputs, order="ab"):
    inputs = {name: keras.Input((6,), name=name) for name in "ab"}
    made = {"one": dense("one")(inputs["a"]), "two": dense("two")(inputs["b"])}
    return keras.Model([inputs[name] for name in order], outputs(made))


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
def test_models_that_take_or_give_the_same_in_another_order():
    def listed(made):
        return [made["one"], made["two"]]

    def turned(made):
        return listed(made)[::-1]

    text = says(ends(listed), ends(turned))["connected-otherwise"]
    assert "gives its outputs as two, one, the source as one, two" in text
    text = says(ends(listed), ends(listed, "ba"))["connected-otherwise"]
    assert "takes its inputs as b, a, the source as a, b" in text
    assert says(ends(listed), ends(listed)) == {}
    # By name they are the same, however they were written.
    named = {"y": "one", "x": "two"}
    assert (
        says(ends(lambda m: {k: m[v] for k, v in named.items()}), ends(lambda m: {"x": m["two"], "y": m["one"]})) == {}
    )
