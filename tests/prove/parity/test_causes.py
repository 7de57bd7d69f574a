"""Single faults between two copies of a network: each is found, at the right layer, with the right cause; twins pass."""

import keras
import numpy as np
import pytest
from twins import change, crossed, filled, image_net, recurrent_net

import transferpipe as tp


def keras2_hard_sigmoid(x):
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def tanh_gelu(x):
    return keras.ops.gelu(x, approximate=True)


def rows_of_torch(w):
    return [w[0].reshape(3, 3, 6, 8).transpose(2, 0, 1, 3).reshape(54, 8), w[1]]


def gates(w):
    return [np.concatenate([np.split(v, 4, -1)[i] for i in (0, 2, 1, 3)], -1) for v in w]


def same(*arguments, **changes):
    return lambda: image_net(*arguments, **changes)


FAULTS = {  # original, target, change of the target's weights, first layer, words of the cause
    "padding": (same(pad="torch"), image_net, None, "c2", "padding of c2: with the same padding on both sides"),
    "epsilon": (same(epsilon=1e-5), image_net, None, "b1", "epsilon of b1: 0.001, the original has 1e-05"),
    "padding and epsilon": (
        same(pad="torch", epsilon=1e-5),
        image_net,
        None,
        "b1",
        "epsilon of b1: 0.001, the original has 1e-05; with that the values agree",
    ),
    "epsilon and activation": (
        same(epsilon=1e-5, activation="tanh"),
        image_net,
        None,
        "c1",
        "has tanh; with that the values agree. What differs as well: epsilon of b1: 0.001, the original has 1e-05",
    ),
    "two of one layer": (
        same(activation="tanh"),
        image_net,
        change("c1", lambda w: [w[0][::-1, ::-1], w[1]]),
        "c1",
        "activation of c1: with tanh in place of relu; and flipped kernel of c1",
    ),
    "several settings of one layer": (
        lambda: recurrent_net("tanh", go_backwards=True),
        recurrent_net,
        None,
        "l",
        "; and go_backwards of l: False, the original has True; with these the values agree",
    ),
    "activation": (same(activation="tanh"), image_net, None, "c1", "activation of c1: relu, the original has tanh"),
    "gelu": (same(gelu=tanh_gelu), image_net, None, "a3", "activation of a3: gelu"),
    "pooling": (
        same(pool="avg"),
        image_net,
        None,
        "c3",
        "pooling of p: with AveragePooling2D in place of MaxPooling2D",
    ),
    "rescaling missing": (same(scale=1 / 255), image_net, None, "c1", "inputs divided by 255"),
    "rescaling": (image_net, same(scale=1 / 255), None, "c1", "inputs multiplied by 255"),
    "activation between": (image_net, same(between="relu"), None, "f", "activation of more: with linear (none)"),
    "square kernel": (image_net, image_net, change("d2", lambda w: [w[0].T, w[1]]), "d2", "transposition of d2"),
    "oihw": (
        image_net,
        image_net,
        change("c3", lambda w: [w[0].swapaxes(0, 1), w[1]]),
        "c3",
        "transposed by [1, 0, 2, 3]",
    ),
    "flipped": (image_net, image_net, change("c2", lambda w: [w[0][::-1, ::-1], w[1]]), "c2", "flipped kernel of c2"),
    "channels": (image_net, image_net, change("c1", lambda w: [w[0][:, :, ::-1], w[1]]), "c1", "channel"),
    "crossed": (image_net, image_net, crossed("c2", "c3"), "c2", "crossed layers of c2: with the weights of c3"),
    "statistics": (image_net, image_net, change("b1", lambda w: [w[0], w[1], w[3], w[2]]), "b1", "statistics of b1"),
    "gamma, beta": (image_net, image_net, change("b1", lambda w: [w[1], w[0], w[2], w[3]]), "b1", "statistics of b1"),
    "reset": (
        image_net,
        image_net,
        change("b1", lambda w: [w[0], w[1], w[2] * 0, w[3] * 0 + 1]),
        "b1",
        "initial value",
    ),
    "flatten": (image_net, image_net, change("d1", rows_of_torch), "d1", "flatten order of d1"),
    "scale": (image_net, image_net, change("c3", lambda w: [w[0] * 1.25, w[1]]), "c3", "its kernel multiplied by 0.8"),
    "bias": (image_net, image_net, change("d2", lambda w: [w[0], w[1] + 0.1]), "d2", ""),
    "rounded": (
        image_net,
        image_net,
        change("c1", lambda w: [w[0].astype("float16"), w[1]]),
        "c1",
        "kernel is the original's, rounded as narrower floats are",
    ),
    "an element": (
        image_net,
        image_net,
        change("d2", lambda w: [w[0], w[1] + np.eye(1, len(w[1]))[0]]),
        "d2",
        "bias differs from the original's in 1 of",
    ),
    "classes": (
        image_net,
        image_net,
        change("out", lambda w: [w[0][:, ::-1], w[1][::-1]]),
        "out",
        "class order of out: of its",
    ),
    "zeros": (
        image_net,
        image_net,
        change("out", lambda w: [w[0] * 0, w[1]]),
        "out",
        "weights of out: kernel is all zero",
    ),
    "hard_sigmoid": (
        lambda: recurrent_net(keras2_hard_sigmoid),
        lambda: recurrent_net("hard_sigmoid"),
        None,
        "l",
        "recurrent_activation of l",
    ),
    "backwards": (recurrent_net, lambda: recurrent_net(go_backwards=True), None, "l", "go_backwards of l: True"),
    "gates": (recurrent_net, recurrent_net, change("l", gates), "l", "input, cell, forget, output"),
}


def pair(original, target, fault):
    one, other = filled(original()), target()
    other.set_weights(one.get_weights())
    if fault:
        fault(other)
    return one, other


@pytest.mark.parametrize(("original", "target", "fault", "first", "cause"), FAULTS.values(), ids=FAULTS)
def test_fault_is_found_with_its_cause(original, target, fault, first, cause):
    parity = tp.parity(*pair(original, target, fault))
    assert (parity.verdict, parity.first) == ("fail", first)
    assert cause in parity.cause
    assert f"{first} is the first that differs" in parity.reason
    assert max(map(len, str(parity).splitlines())) <= 80
    assert " ".join(parity.cause.split()) in " ".join(str(parity).split())


@pytest.mark.parametrize("name", ["padding", "rescaling", "crossed", "flatten"])
def test_cause_is_found_from_outputs_alone(name, tmp_path, monkeypatch):
    """Of an original that ran elsewhere only x and y are known."""
    original, target, fault, first, cause = FAULTS[name]
    one, other = pair(original, target, fault)
    x = np.random.default_rng(1).normal(size=(3, *one.input_shape[1:])).astype("float32")
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x)
    np.savez("y.npz", one(x).numpy())
    live = target()
    check = {"inputs": "x.npz", "expected": "y.npz"}
    with pytest.raises(tp.VerificationError) as raised:
        tp.transfer(other, live, mapping={"all": {"to": ".*"}}, verify={"parity": check})
    (problem,) = raised.value.problems
    assert "likely cause" in problem.fix
    assert cause.partition(" of ")[0].partition(": ")[0] in problem.fix or "direction" in problem.fix
    assert first in problem.fix or "inputs" in problem.fix or name in ("padding", "pooling")


@pytest.mark.parametrize("build", [image_net, recurrent_net])
def test_twins_pass(build):
    parity = tp.parity(*pair(build, build, None))
    assert parity.verdict == "pass", str(parity)
    assert max(entry.difference for entry in parity.entries) == 0


@pytest.mark.parametrize("made", ["MobileNetV2", "ResNet50"])
def test_application_in_a_nest_passes(made):
    def application(**more):
        return getattr(keras.applications, made)(weights=None, include_top=False, input_shape=(64, 64, 3), **more)

    source = application(name="net")
    inputs = keras.Input((64, 64, 3))
    nest = keras.Sequential([inputs, application(name="trunk"), keras.layers.GlobalAveragePooling2D()])
    mapping = {"all": {"to": "trunk/(.*)", "from": r"\1"}}
    report = tp.transfer(source, nest, mapping=mapping, verify={"parity": "source"})
    assert (report.verdict.function, report.parity.verdict) == ("pass", "pass"), str(report.parity)


def test_activation_apart_from_its_layer_is_no_difference():
    """conv(relu) here, conv and a ReLU of its own there."""
    fused = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "relu", name="a"), keras.layers.Dense(3, name="b")]
    )
    apart = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, name="a"),
            keras.layers.ReLU(name="r"),
            keras.layers.Dense(3, name="b"),
        ]
    )
    apart.set_weights(filled(fused).get_weights())
    assert tp.parity(fused, apart).verdict == "pass"
    assert tp.parity(apart, fused).verdict == "pass"
