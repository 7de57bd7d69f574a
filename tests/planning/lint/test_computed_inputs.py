"""What goes into paired layers is one or another thing, in however many ways it can be written."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import transferpipe as tp
from transferpipe.weights.keras.layer_settings import LayerFunction
from transferpipe.weights.keras.numpy_operations import UnknownComputationError, compute_node
from transferpipe.weights.network import Node

ALL = {"all": {"to": ".*"}}
CODES = {"connected-otherwise", "between-differs", "settings-differ"}


def net(merge, shape=(4, 6), ends=False):
    x = keras.Input(shape, name="x")
    a, b = kl.Dense(4, "tanh", name="a")(x), kl.Dense(4, name="b")(x)
    y = merge(a, b)
    if ends:
        return keras.Model(x, y)
    return keras.Model(x, kl.Dense(3, name="top")(kl.Flatten(name="row")(y) if len(y.shape) > 2 else y))


def row(y):
    return ops.reshape(y, (-1, 32))


def columns(y, cut):
    """Return the halves of the channels one by one."""
    return ops.stack(ops.unstack(y, axis=-1)[cut], axis=-1)


PAIRS = {
    "a stack along another axis": (
        lambda a, b: row(ops.stack([a, b], axis=-1)),
        lambda a, b: row(ops.stack([a, b], axis=1)),
    ),
    "a stack for a concatenation": (
        lambda a, b: row(ops.stack([a, b], axis=-1)),
        lambda a, b: row(kl.Concatenate()([a, b])),
    ),
    "a stack that is a concatenation": (
        lambda a, b: ops.reshape(ops.stack([a, b], axis=2), (-1, 4, 8)),
        lambda a, b: kl.Concatenate()([a, b]),
    ),
    "a stack that is transposed back": (
        lambda a, b: row(ops.transpose(ops.stack([a, b], 1), (0, 2, 3, 1))),
        lambda a, b: row(ops.stack([a, b], -1)),
    ),
    "axes made before a product": (
        lambda a, b: ops.expand_dims(a, -1) * ops.expand_dims(b, 2),
        lambda a, b: ops.expand_dims(b, -1) * ops.expand_dims(a, 2),
    ),
    "a Dot that does not transpose": (lambda a, b: kl.Dot(axes=2)([a, b]), lambda a, b: ops.matmul(a, b)),
    "a Dot as a product of matrices": (
        lambda a, b: kl.Dot(axes=-1)([a, b]),
        lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))),
    ),
    "an einsum with other letters": (
        lambda a, b: ops.einsum("bik,bjk->bij", a, b),
        lambda a, b: ops.einsum("bjk,bik->bji", a, b),
    ),
    "an einsum of exchanged inputs": (
        lambda a, b: ops.einsum("bik,bjk->bij", a, b),
        lambda a, b: ops.einsum("bik,bjk->bij", b, a),
    ),
    "a condition whose branches are exchanged": (
        lambda a, b: ops.where(ops.greater(a, 0), a, 0.0) + b,
        lambda a, b: ops.where(ops.greater(a, 0), 0.0, a) + b,
    ),
    "a gate between two": (
        lambda a, b: a * ops.sigmoid(b) + (1 - ops.sigmoid(b)) * b,
        lambda a, b: b * ops.sigmoid(b) + (1 - ops.sigmoid(b)) * a,
    ),
    "an attention to its own values": (lambda a, b: kl.Attention()([a, b, b]), lambda a, b: kl.Attention()([a, b])),
    "an attention to others": (lambda a, b: kl.Attention()([a, b, a]), lambda a, b: kl.Attention()([a, b])),
    "a square": (lambda a, b: ops.square(a) + b, lambda a, b: kl.Multiply()([a, a]) + b),
    "a product of others": (lambda a, b: ops.square(a) + b, lambda a, b: a * b + b),
    "a mean as a sum of halves": (lambda a, b: kl.Average()([a, b]), lambda a, b: 0.5 * a + 0.5 * b),
    "another weighted mean": (lambda a, b: kl.Average()([a, b]), lambda a, b: 0.3 * a + 0.7 * b),
    "a mean of a stack": (lambda a, b: kl.Average()([a, b]), lambda a, b: ops.mean(ops.stack([a, b]), axis=0)),
    "a difference as a sum": (lambda a, b: kl.Subtract()([a, b]), lambda a, b: a + (-1.0) * b),
    "a limit that few values reach": (lambda a, b: ops.clip(b, -50, 50) + a, lambda a, b: b + a),
    "channels taken together and one by one": (lambda a, b: a[..., :2], lambda a, b: columns(a, slice(None, 2))),
    "other channels one by one": (lambda a, b: a[..., :2], lambda a, b: columns(a, slice(1, None, -1))),
    "heads of which one is taken": (
        lambda a, b: ops.reshape(a, (-1, 4, 2, 2))[:, :, 0],
        lambda a, b: ops.split(a, 2, axis=-1)[0],
    ),
    "the other one": (
        lambda a, b: ops.reshape(a, (-1, 4, 2, 2))[:, :, 0],
        lambda a, b: ops.split(a, 2, axis=-1)[1],
    ),
    "every second channel": (
        lambda a, b: ops.reshape(a, (-1, 4, 2, 2))[:, :, 0],
        lambda a, b: ops.reshape(a, (-1, 4, 2, 2))[:, :, :, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["live", "h5"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_warning_where_the_same_weights_compute_something_else(name, form, tmp_path):
    source, target = map(net, PAIRS[name])
    rng = np.random.default_rng(0)
    for layer in source.layers:
        layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
        if layer.weights and layer.name in ("a", "b", "top"):
            target.get_layer(layer.name).set_weights(layer.get_weights())
    x = rng.normal(size=(3, 4, 6), scale=30).astype("float32")
    same = np.allclose(source(x), target(x), rtol=1e-4, atol=1e-3)
    told = source
    if form != "live":
        told = str(tmp_path / f"s.{form}")
        source.save(told)
    warnings = {w.code for w in tp.plan(told, target, mapping=ALL).warnings} & CODES
    assert not warnings if same else warnings


@pytest.mark.parametrize("name", PAIRS)
def test_a_warning_where_outputs_are_computed_otherwise(name):
    source, target = (net(merge, ends=True) for merge in PAIRS[name])
    x = np.random.default_rng(0).normal(size=(3, 4, 6), scale=30).astype("float32")
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
    theirs, ours = np.asarray(source(x)), np.asarray(target(x))
    warnings = {w.code for w in tp.plan(source, target, mapping=ALL).warnings} & CODES
    if theirs.shape == ours.shape:
        assert warnings if not np.allclose(theirs, ours, rtol=1e-4, atol=1e-3) else not warnings


def test_it_names_the_output_that_is_computed_otherwise():
    source, target = (net(merge, ends=True) for merge in (lambda a, b: a - b, lambda a, b: kl.Add()([a, b])))
    (text,) = (w.text for w in tp.plan(source, target, mapping=ALL).warnings if w.code == "connected-otherwise")
    assert text.startswith("an output is Subtract of (a, b) in the source, Add of (a, b) in the target; connect")


def test_an_output_of_a_new_head_is_not_compared():
    source, target = (net(merge) for merge in PAIRS["a stack for a concatenation"])
    mapping = {"rest": {"to": "a|b"}, "top": {"to": "top", "from": None}}
    plan = tp.plan(source, target, mapping=mapping, ignore=["top"])
    assert not [w for w in plan.warnings if "an output" in w.text]


def test_it_names_what_is_computed_on_both_sides():
    source, target = map(net, PAIRS["a stack for a concatenation"])
    (text,) = (w.text for w in tp.plan(source, target, mapping=ALL).warnings if w.code == "connected-otherwise")
    theirs, ours = text.split(" in the source, ")
    assert theirs == "top takes Reshape (newshape (-1, 32)) of (Stack (axis -1) of (a, b))"
    assert ours.startswith("Reshape (newshape (-1, 32)) of (Concatenate (axis -1) of (a, b)) in the target")


def test_what_a_rule_transforms_is_left_to_it():
    source, target = map(net, PAIRS["a stack for a concatenation"])
    mapping = {"rest": {"to": "a|b|top/bias"}, "top": {"to": "top/kernel", "transform": [{"scale": 1.0}]}}
    assert not {w.code for w in tp.plan(source, target, mapping=mapping).warnings} & CODES


def test_a_value_too_large_to_be_computed_is_left_alone():
    shape = (512, 600)
    source, target = (net(lambda a, b, axis=axis: ops.mean(ops.stack([a, b], axis), axis), shape) for axis in (1, 3))
    plan = tp.plan(source, target, mapping=ALL)
    assert plan.settings.compared


def doubled(times, merge):
    x = keras.Input((4,), name="x")
    y = kl.Dense(4, name="a")(x)
    for _ in range(times):
        y = merge(y)
    return keras.Model(x, kl.Dense(2, name="top")(y))


def test_a_value_that_is_taken_twice_at_every_step_is_computed_once():
    models = [doubled(40, merge) for merge in (lambda y: kl.Average()([y, y]), lambda y: 0.5 * (y + y))]
    started = len(tp.plan(*models, mapping=ALL).assignments)
    assert started == 4


@pytest.mark.parametrize(
    ("layer", "settings", "count"),
    [
        ("Repeat", {"repeats": 10**9, "axis": 1}, 1),
        ("Tile", {"repeats": [1, 10**9]}, 1),
        ("Pad", {"pad_width": [[0, 0], [0, 10**9]], "mode": "constant"}, 1),
        ("RepeatVector", {"n": 10**9, "trainable": True}, 1),
        ("Einsum", {"subscripts": "ab,cd->abcd"}, 2),
        ("Split", {"indices_or_sections": 10**9, "axis": 1}, 1),
        ("Stack", {"axis": 10**9}, 2),
    ],
)
def test_what_a_file_would_have_grow_is_not_computed(layer, settings, count):
    node = Node("n", layer, settings, ("a", "b")[:count])
    with pytest.raises(UnknownComputationError):
        compute_node(node, LayerFunction(layer, known=False), [np.ones((2, 3000))] * count)


def test_a_table_of_all_products_is_not_computed():
    node = Node("n", "Multiply", {"trainable": True}, ("a", "b"))
    with pytest.raises(UnknownComputationError):
        compute_node(node, LayerFunction("Multiply"), [np.ones((2, 30_000, 1)), np.ones((2, 1, 30_000))])
