"""The graph of an ONNX file is compared with the target's: what it warns of computes something else, and nothing else."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from onnx_models import onnx, rand, run_onnx, write_onnx

import transferpipe as tp

helper, numpy_helper = onnx.helper, onnx.numpy_helper


def node(op, inputs, to="y", **attributes):
    return helper.make_node(op, inputs.split(), [to], f"/{to}/{op}", **attributes)


def codes(plan):
    return [w.code for w in plan.warnings if w.code != "unused"]


def outcome(path, model, mapping, x, channels_first=True):
    """Return the codes of the plan's warnings, and whether the model then computes what onnxruntime does."""
    plan = tp.plan(path, model, mapping=mapping)
    tp.transfer(path, model, mapping=mapping)
    first = np.moveaxis(x, -1, 1) if channels_first and x.ndim > 2 else x
    y = run_onnx(path, np.ascontiguousarray(first))
    found = model(x, training=False)
    if y.ndim > 2 and channels_first:
        y = np.moveaxis(y, 1, -1)
    return plan, y.shape == found.shape and np.allclose(found, y, rtol=1e-3, atol=1e-4)


SIZE, CHANNELS, UNITS = 6, 2, 4


def flat_graph(tmp_path, way):
    """A convolution, a pooling, a Flatten of some kind and a product."""
    tensors = {
        "c.weight": rand(3, CHANNELS, 3, 3),
        "c.bias": rand(3),
        "d.weight": rand(UNITS, 12),
        "d.bias": rand(UNITS),
    }
    nodes = [node("Conv", "x c.weight c.bias", "p"), node("Relu", "p", "r")]
    nodes += [node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2])]
    if way == "reshape behind a transpose":
        nodes += [node("Transpose", "m", "t", perm=[0, 2, 3, 1]), node("Reshape", "t shape", "f")]
    else:
        nodes += [node("Flatten", "m", "f") if way == "flatten" else node("Reshape", "m shape", "f")]
    tensors["shape"] = np.int64([-1, 12])
    nodes += [node("Gemm", "f d.weight d.bias", transB=1)]
    return write_onnx(tmp_path, nodes, tensors, (CHANNELS, SIZE, SIZE), 2)


def flat_model(*before, **pool):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, CHANNELS)),
            kl.Conv2D(3, 3, activation="relu", name="c"),
            kl.MaxPooling2D(2, **pool),
            *before,
            kl.Flatten(),
            kl.Dense(UNITS, name="d"),
        ]
    )


LAYERS = {"c": {"to": "c"}, "d": {"to": "d"}}


@pytest.mark.parametrize("way", ["flatten", "reshape", "reshape behind a transpose"])
def test_the_order_of_a_flatten_comes_from_the_graph(way, tmp_path):
    x = rand(2, SIZE, SIZE, CHANNELS)
    plan, right = outcome(flat_graph(tmp_path, way), flat_model(), LAYERS, x)
    if way == "reshape behind a transpose":
        assert codes(plan) == [] and right
        plan, right = outcome(flat_graph(tmp_path, way), flat_model(kl.Permute((3, 1, 2))), LAYERS, x)
        assert codes(plan) and not right
        return
    assert codes(plan) == ["flatten-order"] and not right
    # As the warning's other way to put it right has it.
    plan, right = outcome(flat_graph(tmp_path, way), flat_model(kl.Permute((3, 1, 2))), LAYERS, x)
    assert codes(plan) == [] and right
    ordered = {**LAYERS, "d": {"to": "d", "transform": {"kernel": [{"flatten_order": [3, 2, 2]}]}}}
    plan, right = outcome(flat_graph(tmp_path, way), flat_model(), ordered, x)
    assert codes(plan) == [] and right
    plan, right = outcome(flat_graph(tmp_path, way), flat_model(kl.Permute((3, 1, 2))), ordered, x)
    assert codes(plan) and not right


def chain(tmp_path, between, last=()):
    tensors = {"a.weight": rand(4, 4), "a.bias": rand(4), "b.weight": rand(4, 4), "b.bias": rand(4)}
    tensors |= {"six": np.float32(6), "zero": np.float32(0)}
    nodes = [
        node("Gemm", "x a.weight a.bias", "p"),
        *between,
        node("Gemm", "q b.weight b.bias", "y" if not last else "z"),
    ]
    return write_onnx(tmp_path, [*nodes, *last], tensors, (4,), 2)


BETWEEN = {
    "relu": (lambda: [node("Relu", "p", "q")], "relu"),
    "tanh": (lambda: [node("Tanh", "p", "q")], "tanh"),
    "relu6": (lambda: [node("Clip", "p zero six", "q")], "relu6"),
    "silu": (lambda: [node("Sigmoid", "p", "s"), node("Mul", "p s", "q")], "silu"),
    "leaky": (lambda: [node("LeakyRelu", "p", "q", alpha=0.2)], "leaky_relu"),
    "hard": (lambda: [node("HardSigmoid", "p", "q", alpha=1 / 6, beta=0.5)], "hard_sigmoid"),
}
CHAIN = {"a": {"to": "a"}, "b": {"to": "b"}}


@pytest.mark.parametrize("ours", BETWEEN)
@pytest.mark.parametrize("theirs", BETWEEN)
def test_activations_between(theirs, ours, tmp_path):
    layers = [kl.Dense(4, activation=BETWEEN[ours][1], name="a"), kl.Dense(4, name="b")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    plan, right = outcome(chain(tmp_path, BETWEEN[theirs][0]()), model, CHAIN, 10 * rand(64, 4))
    assert right == (theirs == ours)
    assert codes(plan) == ([] if right else ["settings-differ"])


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_last_activation(activation, tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, "relu", name="a"), kl.Dense(4, activation, name="b")])
    path = chain(tmp_path, [node("Relu", "p", "q")], [node("Softmax", "z", axis=-1)])
    plan, right = outcome(path, model, CHAIN, rand(3, 4))
    assert right == (activation == "softmax")
    assert codes(plan) == ([] if right else ["settings-differ"])


def residual(tmp_path, first, second):
    """x -> a -> relu, then b and c of it, joined as first(b) with second."""
    tensors = {f"{n}.{w}": rand(*s) for n in "abc" for w, s in (("weight", (4, 4)), ("bias", (4,)))}
    nodes = [
        node("Gemm", "x a.weight a.bias", "p"),
        node("Relu", "p", "r"),
        node("Gemm", "r b.weight b.bias", "s"),
        node("Relu", "s", "t"),
        node("Gemm", f"{first} c.weight c.bias", "u"),
        node("Add", f"u {second}"),
    ]
    return write_onnx(tmp_path, nodes, tensors, (4,), 2)


@pytest.mark.parametrize(("first", "second"), [("t", "r"), ("t", "t"), ("r", "t")])
def test_wiring(first, second, tmp_path):
    x = keras.Input((4,))
    r = kl.Dense(4, "relu", name="a")(x)
    t = kl.Dense(4, "relu", name="b")(r)
    model = keras.Model(x, kl.Add()([r, kl.Dense(4, name="c")(t)]))
    rules = {n: {"to": n} for n in "abc"}
    plan, right = outcome(residual(tmp_path, first, second), model, rules, rand(3, 4))
    assert right == ((first, second) == ("t", "r"))
    wired = codes(plan)
    assert wired == [] if right or first == "t" else "connected-otherwise" in wired


@pytest.mark.parametrize("strides", [1, 2])
def test_pooling_and_its_strides(strides, tmp_path):
    tensors = {"c.weight": rand(3, CHANNELS, 3, 3), "c.bias": rand(3), "d.weight": rand(5, 3, 1, 1), "d.bias": rand(5)}
    nodes = [node("Conv", "x c.weight c.bias", "p", pads=[1, 1, 1, 1])]
    nodes += [node("AveragePool", "p", "m", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", "m d.weight d.bias")]
    path = write_onnx(tmp_path, nodes, tensors, (CHANNELS, SIZE, SIZE), 4)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, CHANNELS)),
            kl.Conv2D(3, 3, padding="same", name="c"),
            kl.AveragePooling2D(2, strides),
            kl.Conv2D(5, 1, name="d"),
        ]
    )
    plan, right = outcome(path, model, LAYERS, rand(2, SIZE, SIZE, CHANNELS))
    assert right == (strides == 2)
    assert codes(plan) == ([] if right else ["between-differs"])


def lstm(tmp_path, tail, direction="forward"):
    tensors = {
        "r/W": rand(1, 12, 5),
        "r/R": rand(1, 12, 3),
        "r/B": rand(1, 24),
        "one": np.int64([1]),
        "last": np.int64(-1),
    }
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2])]
    if tail == "last state":
        made = helper.make_node("LSTM", ["t", "r/W", "r/R", "r/B"], ["", "h"], hidden_size=3, direction=direction)
        nodes += [made, node("Squeeze", "h zero_axis")]
        return write_onnx(tmp_path, nodes, tensors | {"zero_axis": np.int64([0])}, (4, 5), 2)
    made = helper.make_node("LSTM", ["t", "r/W", "r/R", "r/B"], ["h"], hidden_size=3, direction=direction)
    nodes += [made, node("Squeeze", "h one", "s")]
    nodes += [node("Transpose", "s", "y" if tail == "all" else "u", perm=[1, 0, 2])]
    nodes += [node("Gather", "u last", axis=1)] if tail == "gather" else []
    return write_onnx(tmp_path, nodes, tensors, (4, 5), 3 if tail == "all" else 2)


@pytest.mark.parametrize("tail", ["all", "last state", "gather"])
def test_a_recurrent_operator_and_its_outputs(tail, tmp_path):
    model = keras.Sequential([keras.Input((4, 5)), kl.LSTM(3, return_sequences=tail == "all", name="r")])
    plan, right = outcome(lstm(tmp_path, tail), model, {"r": {"to": "r"}}, rand(2, 4, 5), channels_first=False)
    assert right and codes(plan) == []


def test_a_recurrent_operator_that_runs_backwards(tmp_path):
    path = lstm(tmp_path, "last state", "reverse")
    for backwards in (False, True):
        model = keras.Sequential([keras.Input((4, 5)), kl.LSTM(3, go_backwards=backwards, name="r")])
        plan, right = outcome(path, model, {"r": {"to": "r"}}, rand(2, 4, 5), channels_first=False)
        assert right == backwards
        assert codes(plan) == ([] if backwards else ["settings-differ"])


@pytest.mark.parametrize("settings", [{}, {"activation": "relu"}, {"recurrent_activation": "tanh"}])
def test_activations_of_a_recurrent_operator(settings, tmp_path):
    model = keras.Sequential([keras.Input((4, 5)), kl.LSTM(3, name="r", **settings)])
    path = lstm(tmp_path, "last state")
    plan, right = outcome(path, model, {"r": {"to": "r"}}, rand(2, 4, 5), channels_first=False)
    assert right == (not settings)
    assert codes(plan) == ([] if right else ["settings-differ"])


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_directions_of_a_bidirectional(kind, backwards, tmp_path):
    """Keras lets the forward layer run backwards, and the other one forwards then."""
    layer = kl.LSTM(3, return_sequences=True, go_backwards=backwards)
    other = kl.LSTM(3, return_sequences=True, go_backwards=not backwards, name="other")
    model = keras.Sequential([keras.Input((4, 5)), kl.Bidirectional(layer, backward_layer=other, name="r")])
    x = rand(2, 4, 5)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        module = torch.nn.LSTM(5, 3, bidirectional=True, batch_first=True)
        torch.save({f"r.{k}": v for k, v in module.state_dict().items()}, tmp_path / "m.pt")
        source = {"path": str(tmp_path / "m.pt"), "layout": "torch"}
        expected = module(torch.from_numpy(x))[0].detach().numpy()
    else:
        tensors = {"r/W": rand(2, 12, 5), "r/R": rand(2, 12, 3), "r/B": rand(2, 24), "s": np.int64([0, 0, 6])}
        nodes = [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            helper.make_node("LSTM", ["t", "r/W", "r/R", "r/B"], ["h"], hidden_size=3, direction="bidirectional"),
            node("Transpose", "h", "u", perm=[2, 0, 1, 3]),
            node("Reshape", "u s"),
        ]
        source = write_onnx(tmp_path, nodes, tensors, (4, 5), 3)
        expected = run_onnx(source, x)
    plan = tp.plan(source, model, mapping={"r": {"to": "r"}})
    tp.transfer(source, model, mapping={"r": {"to": "r"}})
    right = np.allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    assert right == (not backwards)
    assert codes(plan) == ([] if right else ["settings-differ"])


# Products of sequences: what no convolution needs moved is moved by intention -----------------------------------------

STEPS = 4


def mixing_graph(tmp_path, moved, merged):
    """A product over values, one over steps with a Transpose before and behind it, and one over values."""
    tensors = {f"{name}.weight": rand(STEPS, STEPS) for name in "abc"}
    nodes = [node("MatMul", "x a.weight", "a"), node("Tanh", "a", "r")]
    nodes += [node("Transpose", "r", "t", perm=[0, 2, 1])] if moved else []
    nodes += [node("MatMul", f"{'t' if moved else 'r'} b.weight", "b")]
    nodes += [node("Transpose", "b", "u", perm=[0, 2, 1])] if moved else []
    last = "u" if moved else "b"
    nodes += [node("Add", f"{last} r", "s")] if merged else []
    nodes += [node("MatMul", f"{'s' if merged else last} c.weight")]
    return write_onnx(tmp_path, nodes, tensors, (STEPS, STEPS), 3)


def mixing_model(moved, merged, operation=False):
    def turn(x):
        if not moved:
            return x
        return keras.ops.transpose(x, (0, 2, 1)) if operation else kl.Permute((2, 1))(x)

    x = keras.Input((STEPS, STEPS))
    r = kl.Dense(STEPS, activation="tanh", use_bias=False, name="a")(x)
    y = turn(kl.Dense(STEPS, use_bias=False, name="b")(turn(r)))
    y = kl.Add()([y, r]) if merged else y
    return keras.Model(x, kl.Dense(STEPS, use_bias=False, name="c")(y))


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize(("in_graph", "in_model"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_transpose_between_products(in_graph, in_model, merged, tmp_path):
    path, x = mixing_graph(tmp_path, in_graph, merged), rand(2, STEPS, STEPS)
    for operation in (False, True):
        model = mixing_model(in_model, merged, operation)
        plan, right = outcome(path, model, {"a": {"to": ".*"}}, x, channels_first=False)
        assert right == (in_graph == in_model)
        assert codes(plan) == ([] if right else ["between-differs"])


# Halves of one value ------------------------------------------------------------------------------------------------


def halved_graph(tmp_path, way):
    """A product whose output is cut in two, of which one half is a gate of the other."""
    tensors = {"a.weight": rand(STEPS, 8), "b.weight": rand(4, 3)}
    tensors |= {name: np.int64([n]) for name, n in {"zero": 0, "four": 4, "end": 2**62, "one": 1, "two": 2}.items()}
    cut = {
        "split": [helper.make_node("Split", ["a", "sizes"], ["u", "v"], "/split", axis=1)],
        "slices": [node("Slice", "a zero four one", "u"), node("Slice", "a four end one", "v")],
        # As torch.chunk is written: the half of a size that the graph looks up.
        "computed": [
            node("Shape", "a", "shape"),
            node("Gather", "shape one", "size", axis=0),
            node("Div", "size two", "half"),
            node("Slice", "a zero half one", "u"),
            node("Mul", "half two", "whole"),
            node("Slice", "a half whole one", "v"),
        ],
    }[way]
    tensors |= {"sizes": np.int64([4, 4])} if way == "split" else {}
    nodes = [node("MatMul", "x a.weight", "a"), *cut, node("Sigmoid", "v", "g"), node("Mul", "u g", "m")]
    return write_onnx(tmp_path, [*nodes, node("MatMul", "m b.weight")], tensors, (STEPS,), 2)


def halved_model(way, swap=False):
    x = keras.Input((STEPS,))
    a = kl.Dense(8, use_bias=False, name="a")(x)
    if way == "glu":
        return keras.Model(x, kl.Dense(3, use_bias=False, name="b")(keras.ops.glu(a)))
    u, v = keras.ops.split(a, 2, axis=-1) if way == "split" else (a[:, :4], a[:, -4:])
    u, v = (v, u) if swap else (u, v)
    return keras.Model(x, kl.Dense(3, use_bias=False, name="b")(kl.Multiply()([u, kl.Activation("sigmoid")(v)])))


@pytest.mark.parametrize("way", ["split", "slices", "computed"])
@pytest.mark.parametrize(("ours", "swap"), [("split", 0), ("split", 1), ("slices", 0), ("slices", 1), ("glu", 0)])
def test_which_half_is_the_gate(way, ours, swap, tmp_path):
    path = halved_graph(tmp_path, way)
    plan, right = outcome(path, halved_model(ours, swap), {"a": {"to": ".*"}}, rand(3, STEPS), channels_first=False)
    assert right == (not swap)
    assert codes(plan) == ([] if right else ["connected-otherwise"])
