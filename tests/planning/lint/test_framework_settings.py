"""What ONNX's nodes and a configuration beside the file tell of settings is compared with the target's."""

import json

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.normal(size=shape).astype("float32")


def codes(plan):
    return {w.code: w.text for w in plan.warnings}


def onnx_file(tmp_path, nodes, tensors, shape):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    made = [helper.make_node(op, inputs, [out], **attributes) for op, inputs, out, attributes in nodes]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", shape), ("y", None))]
    initialisers = [onnx.numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:], initialisers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


TENSORS = {"c.weight": rand(6, 3, 3, 3), "c.bias": rand(6)}
CONV = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}


def conv_plan(tmp_path, layers, attributes=CONV, sizes=(9, 9)):
    nodes = [("Conv", ["x", "c.weight", "c.bias"], "z", attributes), ("Relu", ["z"], "y", {})]
    path = onnx_file(tmp_path, nodes, TENSORS, [1, 3, *sizes])
    model = keras.Sequential([keras.Input((*sizes, 3)), *layers])
    return codes(tp.plan(path, model, mapping={"c": {"to": "c"}}))


def test_a_convolution_that_is_the_same(tmp_path):
    padded = [kl.ZeroPadding2D(1), kl.Conv2D(6, 3, 2, activation="relu", name="c")]
    assert conv_plan(tmp_path, padded) == {}
    assert conv_plan(tmp_path, [kl.Conv2D(6, 3, 2, padding="same", name="c"), kl.ReLU()]) == {}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: kl.Conv2D(6, 3, 1, padding="same", name="c"), "strides (2, 2) -> (1, 1)"),
        (lambda: kl.Conv2D(6, 3, 2, activation="tanh", name="c"), "activation relu -> tanh"),
    ],
)
def test_a_convolution_that_differs(layer, words, tmp_path):
    assert words in " ".join(conv_plan(tmp_path, [layer()]).values())


def test_uneven_padding_is_warned_of_where_the_graph_pads_evenly(tmp_path):
    layers = [kl.Conv2D(6, 3, 2, padding="same", name="c"), kl.ReLU()]
    assert "same-padding" in list(conv_plan(tmp_path, layers, sizes=(8, 8)))
    assert conv_plan(tmp_path, layers, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (8, 8)) == {}


@pytest.mark.parametrize(("epsilon", "found"), [(1e-3, []), (1e-5, ["settings-differ"])])
def test_the_epsilon_of_a_normalization(epsilon, found, tmp_path):
    tensors = {f"n.{p}": np.abs(rand(3)) for p in ("weight", "bias", "running_mean", "running_var")}
    path = onnx_file(tmp_path, [("BatchNormalization", ["x", *tensors], "y", {"epsilon": epsilon})], tensors, [1, 3, 4])
    model = keras.Sequential([keras.Input((4, 3)), kl.BatchNormalization(name="n")])
    plan = codes(tp.plan(path, model, mapping={"n": {"to": "n"}}))
    assert list(plan) == found
    if found:
        assert "epsilon 1e-05 -> 0.001" in plan["settings-differ"]


def saved(tmp_path, tensors, **config):
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path / "model.safetensors")


NORM = {"n.weight": rand(4), "n.bias": rand(4)}


@pytest.mark.parametrize("key", ["layer_norm_eps", "layer_norm_epsilon"])
@pytest.mark.parametrize(("epsilon", "found"), [(1e-12, []), (1e-3, ["settings-differ"]), (1e-5, ["settings-differ"])])
def test_epsilon_by_the_configuration_beside_the_file(key, epsilon, found, tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.LayerNormalization(epsilon=epsilon, name="n")])
    path = saved(tmp_path, NORM, model_type="bert", **{key: 1e-12})
    assert list(codes(tp.plan(path, model, mapping={"n": {"to": "n"}}))) == found


def test_without_the_key_or_of_another_kind_nothing_is_told(tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.LayerNormalization(name="n")])
    for config in ({"model_type": "bert"}, {"layer_norm_eps": 1e-12}, {"model_type": "bert", "layer_norm_eps": "x"}):
        assert list(codes(tp.plan(saved(tmp_path, NORM, **config), model, mapping={"n": {"to": "n"}}))) == ["epsilon"]
    (tmp_path / "config.json").write_text("{")
    path = str(tmp_path / "model.safetensors")
    assert list(codes(tp.plan(path, model, mapping={"n": {"to": "n"}}))) == ["epsilon"]


def attention(tmp_path, heads):
    tensors = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        tensors |= {f"a.{name}.weight": rand(8, 8), f"a.{name}.bias": rand(8)}
    x = keras.Input((5, 8))
    model = keras.Model(x, kl.MultiHeadAttention(heads, 8 // heads, name="a")(x, x))
    path = saved(tmp_path, tensors, model_type="vit", num_attention_heads=4)
    return codes(tp.plan(path, model, mapping={"a": {"to": "a"}}))


@pytest.mark.parametrize(("heads", "found"), [(4, []), (2, ["settings-differ"])])
def test_the_number_of_heads(heads, found, tmp_path):
    assert list(attention(tmp_path, heads)) == found


@pytest.mark.parametrize("told", [{}, {"model_type": "clip", "num_attention_heads": 4}])
@pytest.mark.parametrize("heads", [4, 2])
def test_the_number_of_heads_of_torch_s_own_attention(heads, told, tmp_path):
    tensors = {"a.in_proj_weight": rand(24, 8), "a.in_proj_bias": rand(24)}
    tensors |= {"a.out_proj.weight": rand(8, 8), "a.out_proj.bias": rand(8)}
    x = keras.Input((5, 8))
    model = keras.Model(x, kl.MultiHeadAttention(heads, 8 // heads, name="a")(x, x))
    found = tp.transfer(saved(tmp_path, tensors, **told), model, mapping={"a": {"to": "a"}})
    assert [w.code for w in found.warnings] == (["settings-differ"] if told and heads != 4 else [])
    reason = "the source does not tell the number of heads of 1 attention layer"
    assert (found.verdict.function, found.verdict.reason) == ("not checked", "" if told else reason)


@pytest.mark.parametrize(("activation", "found"), [("gelu", []), ("relu", ["settings-differ"]), (None, [])])
def test_the_activation_inside(activation, found, tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.Dense(6, activation=activation, name="fc1")])
    tensors = {"h.fc1.weight": rand(6, 4), "h.fc1.bias": rand(6)}
    path = saved(tmp_path, tensors, model_type="vit", hidden_act="gelu")
    assert list(codes(tp.plan(path, model, mapping={"a": {"to": "fc1", "from": "h/fc1"}}))) == found


def between_plan(tmp_path, nodes, layers, numbers=None):
    """Return the warnings of a graph of two convolutions with `nodes` from ``a`` to ``b`` between them, and a model."""
    tensors = {"c.weight": rand(4, 3, 3, 3), "d.weight": rand(2, 4, 3, 3), **(numbers or {})}
    conv = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
    ends = [("Conv", ["x", "c.weight"], "a", conv), ("Conv", ["b", "d.weight"], "y", conv)]
    path = onnx_file(tmp_path, [ends[0], *nodes, ends[1]], tensors, [1, 3, 10, 10])
    parts = [kl.Conv2D(4, 3, use_bias=False, name="c"), *layers, kl.Conv2D(2, 3, use_bias=False, name="d")]
    return codes(tp.plan(path, keras.Sequential([keras.Input((10, 10, 3)), *parts]), mapping={"m": {"to": "[cd]"}}))


def pool(op, **attributes):
    return [(op, ["a"], "b", {"kernel_shape": [3, 3], "strides": [2, 2], **attributes})]


def scalar(number):
    return {"n": np.array(number, "float32")}


SCALES = {"roi": np.zeros(0, "float32"), "scales": np.array([1, 1, 2, 2], "float32")}
AROUND = [1, 1, 1, 1]
# The nodes, their numbers, the layers of Keras that do the same, and such as do not. torch computes with them what
# onnxruntime does: https://onnx.ai/onnx/operators/ says what.
OPERATORS = {
    "pooling with padding": (
        pool("MaxPool", pads=AROUND), {}, None, [kl.MaxPooling2D(3, 2, padding="same")],
    ),
    "pooling without": (pool("MaxPool"), {}, [kl.MaxPooling2D(3, 2)], [kl.MaxPooling2D(3, 2, padding="same")]),
    "a mean with zeros": (
        pool("AveragePool", pads=AROUND, count_include_pad=1), {},
        [kl.ZeroPadding2D(1), kl.AveragePooling2D(3, 2)], [kl.AveragePooling2D(3, 2, padding="same")],
    ),
    "a mean without zeros": (
        pool("AveragePool", pads=AROUND), {}, None, [kl.ZeroPadding2D(1), kl.AveragePooling2D(3, 2)],
    ),
    "resizing": (
        [("Resize", ["a", "roi", "scales"], "b", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"})],
        SCALES, [kl.UpSampling2D(2, interpolation="bilinear")], [kl.UpSampling2D(2)],
    ),
    "resizing by corners": (
        [("Resize", ["a", "roi", "scales"], "b", {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
        SCALES, None, [kl.UpSampling2D(2, interpolation="bilinear")],
    ),
    "a scale": ([("Mul", ["a", "n"], "b", {})], scalar(2), [kl.Rescaling(2.0)], [kl.Rescaling(3.0)]),
    "an addend": ([("Add", ["n", "a"], "b", {})], scalar(1), [kl.Rescaling(1.0, 1.0)], [kl.Rescaling(1.0, -1.0)]),
    "a shift": ([("Sub", ["a", "n"], "b", {})], scalar(1), [kl.Rescaling(1.0, -1.0)], [kl.Rescaling(1.0, 1.0)]),
    "mish": (
        [("Softplus", ["a"], "s", {}), ("Tanh", ["s"], "t", {}), ("Mul", ["a", "t"], "b", {})], {},
        [kl.Activation("mish")], [kl.Activation("silu")],
    ),
    "celu": ([("Celu", ["a"], "b", {})], {}, [kl.Activation("celu")], [kl.Activation("elu")]),
    "a clip at one": (
        [("Clip", ["a", "low", "n"], "b", {})], scalar(1) | {"low": np.array(-1, "float32")},
        [kl.Activation("hard_tanh")], [kl.Activation("tanh")],
    ),
    "softsign": (
        [("Abs", ["a"], "s", {}), ("Add", ["s", "n"], "t", {}), ("Div", ["a", "t"], "b", {})], scalar(1),
        [kl.Activation("softsign")], [kl.Activation("tanh")],
    ),
    "tanh shrink": (
        [("Tanh", ["a"], "t", {}), ("Sub", ["a", "t"], "b", {})], {},
        [kl.Activation("tanh_shrink")], [kl.Activation("tanh")],
    ),
    "the logarithm of a sigmoid": (
        [("Sigmoid", ["a"], "t", {}), ("Log", ["t"], "b", {})], {},
        [kl.Activation("log_sigmoid")], [kl.Activation("sigmoid")],
    ),
    "softmax over channels": ([("Softmax", ["a"], "b", {"axis": 1})], {}, [kl.Softmax()], [kl.Softmax(axis=1)]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_same"),
    [(n, same) for n, case in OPERATORS.items() for same in (True, False) if same is False or case[2]],
)
def test_operators_between_convolutions(name, is_same, tmp_path):
    nodes, numbers, same, other = OPERATORS[name]
    layers = same if is_same else other
    found = between_plan(tmp_path, nodes, layers, numbers)
    assert set(found) <= ({"unused"} if is_same else {"settings-differ", "between-differs", "same-padding", "unused"})
    assert is_same or set(found) & {"settings-differ", "between-differs"}


def test_a_mean_over_places_as_a_reduction(tmp_path):
    tensors = {"c.weight": rand(4, 3, 3, 3), "d.weight": rand(2, 4)}
    nodes = [
        ("Conv", ["x", "c.weight"], "a", {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}),
        ("ReduceMean", ["a"], "b", {"axes": [2, 3], "keepdims": 0}),
        ("Gemm", ["b", "d.weight"], "y", {"transB": 1}),
    ]
    path = onnx_file(tmp_path, nodes, tensors, [1, 3, 10, 10])
    for layer, expected in ((kl.GlobalAveragePooling2D, []), (kl.GlobalMaxPooling2D, ["between-differs"])):
        parts = [kl.Conv2D(4, 3, use_bias=False, name="c"), layer(), kl.Dense(2, use_bias=False, name="d")]
        model = keras.Sequential([keras.Input((10, 10, 3)), *parts])
        assert list(codes(tp.plan(path, model, mapping={"m": {"to": "[cd]"}}))) == expected
