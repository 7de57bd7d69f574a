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


@pytest.mark.parametrize(("activation", "found"), [("gelu", []), ("relu", ["settings-differ"]), (None, [])])
def test_the_activation_inside(activation, found, tmp_path):
    model = keras.Sequential([keras.Input((4,)), kl.Dense(6, activation=activation, name="fc1")])
    tensors = {"h.fc1.weight": rand(6, 4), "h.fc1.bias": rand(6)}
    path = saved(tmp_path, tensors, model_type="vit", hidden_act="gelu")
    assert list(codes(tp.plan(path, model, mapping={"a": {"to": "fc1", "from": "h/fc1"}}))) == found
