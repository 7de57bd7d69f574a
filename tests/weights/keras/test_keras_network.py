"""The network that a file tells of is the one that the model in memory does."""

import json
import re

import keras
import model_zoo as zoo
import numpy as np
import pytest
from keras import layers as kl

from transferpipe.fetch.open_path import open_path
from transferpipe.models.source import live_model
from transferpipe.weights.keras.network import keras_network

FILES = [
    "nested_twice",
    "twins",
    "shared",
    "unnamed",
    "operators",
    "branches",
    "recurrent",
    "conv_lstm",
    "attention",
    "wrappers",
    "norms",
    "kernels",
    "preprocessing",
    "customs",
    "quantized",
    "recorded",
    "extended",
]
SUBCLASSED = ("recorded", "tracked", "moody", "fickle", "diamond", "bare", "extended")


def plain(node):
    """Return a node without the numbers of shared objects, which are addresses in memory."""
    settings = re.sub(r',? ?"shared_object_id": \d+', "", json.dumps(node.settings, sort_keys=True))
    return node.name, node.layer_class, node.inputs, node.input_shapes, settings


@pytest.mark.parametrize("name", FILES)
def test_a_file_tells_of_the_network_as_its_model_does(name, tmp_path):
    model = zoo.ZOO[name]()
    live = live_model(model, "model").catalog.network
    try:
        model.save(tmp_path / "model.keras")
    except NotImplementedError:  # without a get_config
        assert not live.connected
        return
    network = open_path(str(tmp_path / "model.keras"), "x").catalog.network
    assert network.keras_version == keras.__version__
    assert network.connected == live.connected == (name not in SUBCLASSED)
    assert [plain(n) for n in network.nodes] == [plain(live.by_name[n.name]) for n in network.nodes]
    seen = {""}
    for node in network.nodes:
        assert seen >= set(node.inputs)
        seen.add(node.name)


@pytest.mark.parametrize(
    "name", ["nested_twice", "twins", "recurrent", "operators", "attention", "wrappers", "kernels"]
)
def test_a_legacy_file_tells_of_the_same_layers(name, tmp_path):
    model = zoo.ZOO[name]()
    live = live_model(model, "model").catalog.network
    model.save(tmp_path / "model.h5")
    network = open_path(str(tmp_path / "model.h5"), "x").catalog.network
    assert (network.keras_version, network.backend) == (keras.__version__, keras.backend.backend())
    assert network.connected

    def told(n):
        return [(x.name, x.layer_class, x.inputs, x.settings.get("arguments")) for x in n.nodes]

    assert told(network) == [t for t in told(live) if t[0] in network.by_name]


@pytest.mark.parametrize("name", ["customs", "moody", "attributes", "held_composites", "layers_in_layers", "wrappers"])
def test_every_weight_of_a_model_lies_in_a_layer_of_its_network(name):
    catalog = live_model(zoo.ZOO[name](), "model").catalog
    outside = [w.name for w in catalog if "/" in w.name and not _above(w.name) & catalog.network.by_name.keys()]
    assert not outside


def _above(name):
    parts = name.split("/")
    return {"/".join(parts[:k]) for k in range(1, len(parts))}


def test_nested_models_are_connected_with_what_is_around_them():
    inner = zoo.stack((4, 4, 2), kl.Conv2D(2, 1, name="conv"), kl.Flatten(name="flat"), name="inner")
    inputs = keras.Input((4, 4, 2), name="in")
    x = kl.Dense(3, name="head")(inner(kl.ReLU(name="act")(inputs)))
    keras.utils.clear_session()
    network = live_model(keras.Model(inputs, x * 2.0), "model").catalog.network
    assert {n.name: n.inputs for n in network.nodes} == {
        "in": (), "act": ("in",), "inner/conv": ("act",), "inner/flat": ("inner/conv",), "head": ("inner/flat",),
        "multiply": ("head",),
    }  # fmt: skip
    assert network.by_name["multiply"].settings["arguments"]["args"] == [None, 2.0]
    assert network.by_name["inner/conv"].input_shapes == ((None, 4, 4, 2),)


def test_outputs_of_a_nested_model_lead_to_the_layers_that_give_them():
    inputs = keras.Input((4,))
    first, second = kl.Dense(3, name="first")(inputs), kl.Dense(3, name="second")(inputs)
    two = keras.Model(inputs, [first, second], name="two")
    outer = keras.Input((4,), name="in")
    a, b = two(outer)
    network = live_model(keras.Model(outer, [kl.Dense(2, name="of_b")(b), kl.Dense(2, name="of_a")(a)]), "m").catalog
    assert {n.name: n.inputs for n in network.network.nodes if n.name.startswith("of")} == {
        "of_b": ("two/second",), "of_a": ("two/first",),
    }  # fmt: skip


# As Keras 2.4 and Keras 1.2 wrote them.
KERAS_2 = {
    "class_name": "Functional",
    "keras_version": "2.4.0",
    "backend": "tensorflow",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "name": "in", "inbound_nodes": [], "config": {"name": "in"}},
            {"class_name": "Dense", "name": "a", "inbound_nodes": [[["in", 0, 0, {}]]], "config": {"name": "a"}},
            {"class_name": "Dense", "name": "b", "inbound_nodes": [[["in", 0, 0, {}]]], "config": {"name": "b"}},
            {
                "class_name": "TFOpLambda", "name": "tf.add", "inbound_nodes": [["a", 0, 0, {"y": ["b", 0, 0]}]],
                "config": {"name": "tf.add", "function": "__operators__.add"},
            },
            {
                "class_name": "MultiHeadAttention", "name": "att", "config": {"name": "att", "num_heads": 2},
                "inbound_nodes": [[["tf.add", 0, 0, {"value": ["b", 0, 0], "training": False}]]],
            },
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["att", 0, 0]],
    },
}  # fmt: skip
KERAS_1 = {
    "class_name": "Sequential",
    "config": [
        {"class_name": "Convolution2D", "config": {"name": "c", "batch_input_shape": [None, 8, 8, 3]}},
        {"class_name": "Activation", "config": {"name": "act", "activation": "relu"}},
    ],
}


def test_inputs_are_read_as_keras_2_wrote_them():
    network = keras_network(KERAS_2, {})
    assert [n.inputs for n in network.nodes] == [(), ("in",), ("in",), ("a", "b"), ("tf.add", "b")]
    assert (network.keras_version, network.backend, network.connected) == ("2.4.0", "tensorflow", True)


def test_a_model_of_keras_1_has_its_classes_in_their_names_of_today():
    network = keras_network(KERAS_1, {}, "1.2.2", "theano")
    assert [(n.layer_class, n.inputs) for n in network.nodes] == [("Conv2D", ()), ("Activation", ("c",))]
    assert network.nodes[0].input_shapes == ((None, 8, 8, 3),)
    assert (network.keras_version, network.backend, network.connected) == ("1.2.2", "theano", True)


def nested(depth):
    config = {"class_name": "Dense", "config": {"name": "d"}}
    for _ in range(depth):
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    return config


def edited(**config):
    return {**KERAS_2, "config": {**KERAS_2["config"], **config}}


@pytest.mark.parametrize(
    "config",
    [
        None, 3, "x", [], {}, {"class_name": None, "config": {}}, {"class_name": 5, "config": {"layers": 7}}, nested(400),
        edited(layers=[None, 1, {"class_name": [], "config": {"name": {}}}, {"class_name": "Dense", "config": None}]),
        edited(output_layers={"a": [["nobody", 0, 9]], "b": "x"}, input_layers=[[1, 2, 3]]),
        edited(layers=[{"class_name": "Dense", "config": {"name": n}, "inbound_nodes": [[[o, 0, 0]]]} for n, o in ("ab", "ba")]),
        edited(layers=[{"class_name": "Dense", "config": {"name": "a"}, "inbound_nodes": [{"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": [[], 0, "x"], "shape": ["?"]}}]}]}]),
        edited(layers=[{"class_name": "Bidirectional", "config": {"name": "b", "layer": 3, "cell": nested(90)}}]),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_raises_nothing(config):
    network = keras_network(config, {"x/y": config, "b/cell": nested(99), "": 4})
    assert all(isinstance(n.name, str) and isinstance(n.layer_class, str) for n in network.nodes)


class Silent(kl.Layer):
    """A layer that cannot say how it was made."""

    def __init__(self, width):
        super().__init__()
        self.inner = kl.Dense(width, "relu")

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        raise KeyError("no")


def test_layers_tell_of_themselves_where_the_model_cannot():
    network = live_model(zoo.stack((4,), Silent(3)), "m").catalog.network
    assert network.by_name["silent/inner"].settings["activation"] == "relu"
    assert network.by_name["silent"].layer_class == "Silent"
    assert not network.connected


def test_the_graph_of_a_model_inside_a_subclassed_one_is_known():
    model = zoo.Held(net=zoo.dense_net("net"), out=kl.Dense(2, name="out"))
    model(np.zeros((2, 4), "float32"))
    network = live_model(model, "m").catalog.network
    assert network.by_name["net/norm"].inputs == ("net/first",)
    assert network.by_name["out"].settings["units"] == 2
    assert not network.connected


@pytest.mark.parametrize("as_sequences", [True, False])
def test_a_bidirectional_decides_what_comes_out_where_a_mask_is(as_sequences):
    model = keras.Sequential([keras.Input((5, 3)), kl.Bidirectional(kl.LSTM(2, return_sequences=as_sequences))])
    config = json.loads(model.to_json())
    for key in ("layer", "backward_layer"):  # as Keras 2 writes them: with what the layer was made with
        config["config"]["layers"][1]["config"][key]["config"]["zero_output_for_mask"] = False
    loaded = keras.models.model_from_json(json.dumps(config)).layers[0]
    inner = [node for node in keras_network(config, {}).nodes if node.layer_class == "LSTM"]
    assert [node.settings["zero_output_for_mask"] for node in inner] == [loaded.forward_layer.zero_output_for_mask] * 2
    assert loaded.forward_layer.zero_output_for_mask is as_sequences
