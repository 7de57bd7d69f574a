"""Names and values of legacy Keras HDF5 files, written here the way Keras 1, 2 and 3 lay them out."""

import json

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_files import layer, model, write

from transferpipe.errors import FileError, RecipeError
from transferpipe.weights.formats.keras_legacy.h5 import open_h5
from transferpipe.weights.formats.keras_legacy.names import LegacyWeight, name_weights


def wrapper(class_name, name, inner, **config):
    return layer(class_name, name, layer=inner, **config)


# Of a recurrent cell with three units.
SHAPES = {"kernel": (2, 12), "recurrent_kernel": (3, 12), "bias": (12,)}


def _own(stored):
    return stored.split("/")[-1].removesuffix(":0")


def names(groups, config=None):
    """Return the names for {group: [stored names]}."""
    weights = [
        LegacyWeight(group, stored, SHAPES.get(_own(stored), (2, 3)))
        for group, listed in groups.items()
        for stored in listed
    ]
    return [named.name for named in name_weights(weights, config)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.h5"


@pytest.mark.parametrize(
    ("group", "stored", "expected"),
    [
        ("conv", "conv/kernel", "conv/kernel"),
        ("conv", "conv/kernel:0", "conv/kernel"),
        ("conv2d_1", "conv2d_1_1/kernel:0", "conv2d_1/kernel"),
        ("batch_normalization_1", "batch_normalization_1_1/gamma:0", "batch_normalization_1/gamma"),
        ("conv2d", "conv2d_7/kernel:0", "conv2d/kernel"),
        ("dense", "sequential_2/dense/kernel", "dense/kernel"),
        ("dense", "kernel", "dense/kernel"),
        ("block1_conv1", "block1_conv1_W_1:0", "block1_conv1/kernel"),
        ("block1_conv1", "block1_conv1_b_1:0", "block1_conv1/bias"),
        ("bn2a", "bn2a_running_std_1:0", "bn2a/moving_variance"),
        ("bn2a", "bn2a_gamma_1:0", "bn2a/gamma"),
        ("conv1/bn", "conv1/bn/gamma:0", "conv1/bn/gamma"),
        ("vgg16", "block1_conv1/kernel:0", "vgg16/block1_conv1/kernel"),
        ("vgg16", "vgg16/block1_conv1/kernel", "vgg16/block1_conv1/kernel"),
        ("lstm", "lstm/lstm_cell_3/kernel:0", "lstm/cell/kernel"),
        ("lstm_1", "lstm_1/kernel:0", "lstm_1/cell/kernel"),
        ("enc", "enc/gru_cell/bias", "enc/cell/bias"),
        ("bidirectional", "bidirectional/forward_lstm/lstm_cell_1/kernel:0", "bidirectional/forward_layer/cell/kernel"),
        ("bi", "bi_1/backward_gru_1/bias:0", "bi/backward_layer/cell/bias"),
        ("bi", "bi/forward_mine/gru_cell/bias", "bi/forward_mine/cell/bias"),
        ("rnn", "rnn/stacked_rnn_cells/lstm_cell_1/kernel", "rnn/stacked_rnn_cells/lstm_cell_1/kernel"),
        ("att", "att/query/kernel", "att/query/kernel"),
        ("multi_head_attention", "multi_head_attention/query/kernel", "multi_head_attention/query/kernel"),
        ("depthwise_conv2d_2", "depthwise_conv2d_2/depthwise_kernel:0", "depthwise_conv2d_2/kernel"),
        ("dw", "dw/depthwise_kernel:0", "dw/depthwise_kernel"),
    ],
)
def test_names_without_a_configuration(group, stored, expected):
    assert names({group: [stored]}) == [expected]


@pytest.mark.parametrize(
    ("config", "group", "stored", "expected"),
    [
        (layer("Dense", "head"), "head", "head/kernel", "head/kernel"),
        (layer("DepthwiseConv2D", "dw"), "dw", "dw/depthwise_kernel:0", "dw/kernel"),
        (layer("SeparableConv2D", "s"), "s", "s/depthwise_kernel:0", "s/depthwise_kernel"),
        (layer("Custom>Block", "b"), "b", "b/dense_1/kernel", "b/dense_1/kernel"),
        (model("inner", layer("Dense", "a")), "inner", "a/kernel", "inner/a/kernel"),
        (model("inner", layer("Dense", "a")), "inner", "inner/a/kernel", "inner/a/kernel"),
        (model("inner", layer("Dense", "a")), "inner", "root/inner/a/kernel", "inner/a/kernel"),
        (model("inner", layer("Dense", "a")), "inner", "a_1/kernel:0", "inner/a/kernel"),
        (model("inner", layer("Dense", "a")), "inner", "inner_1/a/kernel:0", "inner/a/kernel"),
        (model("inner", layer("Dense", "a/b")), "inner", "a/b/kernel", "inner/a/b/kernel"),
        (model("inner", layer("Dense", "inner")), "inner", "inner/kernel", "inner/inner/kernel"),
        (model("mid", model("inner", layer("Dense", "a"))), "mid", "a/kernel", "mid/inner/a/kernel"),
        (model("mid", model("inner", layer("Dense", "a"))), "mid", "mid/inner/a/kernel", "mid/inner/a/kernel"),
        (model("m", layer("Net", "net")), "m", "net/blk/x/kernel", "m/net/blk/x/kernel"),
        (layer("LSTM", "enc"), "enc", "enc/lstm_cell/kernel", "enc/cell/kernel"),
        (layer("LSTM", "enc"), "enc", "enc/lstm_cell_5/kernel:0", "enc/cell/kernel"),
        (layer("LSTM", "enc"), "enc", "enc_1/recurrent_kernel:0", "enc/cell/recurrent_kernel"),
        (layer("ConvLSTM2D", "c"), "c", "c/conv_lstm_cell/kernel", "c/cell/kernel"),
        (layer("RNN", "r", cell=layer("LSTMCell", "lstm_cell_2")), "r", "r/lstm_cell_2/kernel", "r/cell/kernel"),
        (
            layer("RNN", "r", cell=layer("StackedRNNCells", "stacked_rnn_cells", cells=[
                layer("LSTMCell", "lstm_cell_4"), layer("LSTMCell", "lstm_cell_9"), layer("GRUCell", "mine")])),
            "r", "r/stacked_rnn_cells/lstm_cell_9/kernel", "r/cell/cells/lstm_cell_1/kernel",
        ),
        (
            wrapper("Bidirectional", "bi", layer("LSTM", "forward_lstm_1")),
            "bi", "bi/backward_lstm_1/lstm_cell/bias", "bi/backward_layer/cell/bias",
        ),
        (
            wrapper("Bidirectional", "bi", layer("LSTM", "lstm_1")),
            "bi", "bi_1/forward_lstm_1/kernel:0", "bi/forward_layer/cell/kernel",
        ),
        (
            wrapper("Bidirectional", "bi", layer("LSTM", "forward_lstm"), backward_layer=layer("GRU", "gru")),
            "bi", "bi/gru/gru_cell/bias", "bi/backward_layer/cell/bias",
        ),
        (wrapper("TimeDistributed", "td", layer("Dense", "dense_3")), "td", "td/dense_3/kernel", "td/layer/kernel"),
        (wrapper("TimeDistributed", "td", layer("Dense", "dense_3")), "td", "td/kernel:0", "td/layer/kernel"),
        (wrapper("TimeDistributed", "td", layer("Dense", "proj")), "td", "td/proj/kernel", "td/proj/kernel"),
        (wrapper("TimeDistributed", "td", layer("LSTM", "l")), "td", "td/l/lstm_cell/bias", "td/l/cell/bias"),
        (wrapper("TimeDistributed", "td", model("sub", layer("Dense", "z"))), "td", "z/kernel", "td/sub/z/kernel"),
    ],
)  # fmt: skip
def test_names_with_a_configuration(config, group, stored, expected):
    assert names({group: [stored]}, model("root", layer("InputLayer", "input"), config)) == [expected]


def test_given_names_of_parts_stay():
    config = model(
        "root",
        layer("RNN", "r", cell=layer("LSTMCell", "mine")),
        wrapper("Bidirectional", "bi", layer("GRU", "forward_g")),
        layer("MultiHeadAttention", "att"),
    )
    stored = {"r": [f"r/mine/{own}" for own in SHAPES], "bi": [f"bi/forward_g/gru_cell/{own}:0" for own in SHAPES]}
    stored["att"] = ["att/attention_output/kernel", "att/attention_output/bias"]
    assert names(stored, config) == [
        *(f"r/mine/{own}" for own in SHAPES),
        *(f"bi/forward_g/cell/{own}" for own in SHAPES),
        *stored["att"],
    ]


def test_root_name_before_nested_names():
    config = model("outer", model("sequential", layer("Dense", "dense"), class_name="Sequential"), layer("Dense", "d"))
    groups = {"sequential": ["outer/sequential/dense/kernel"], "d": ["outer/d/kernel"]}
    assert names(groups, config) == ["sequential/dense/kernel", "d/kernel"]


def test_root_that_is_called_otherwise_in_the_file():
    config = model("renamed", model("inner", layer("Dense", "dense")))
    assert names({"inner": ["outer/inner/dense/kernel"]}, config) == ["inner/dense/kernel"]


def test_equal_inner_names_are_told_apart_by_their_scopes():
    config = model("root", model("mid", model("inner", layer("Dense", "a")), layer("Dense", "a")))
    stored = ["a/kernel", "a/bias", "mid/a/kernel", "mid/a/bias"]
    expected = ["mid/inner/a/kernel", "mid/inner/a/bias", "mid/a/kernel", "mid/a/bias"]
    assert names({"mid": stored}, config) == expected
    assert names({"mid": stored[::-1]}, config) == expected[::-1]


def test_what_cannot_be_told_apart_keeps_the_stored_name():
    config = model("root", model("both", model("one", layer("Dense", "a")), model("two", layer("Dense", "a"))))
    assert names({"both": ["a/kernel", "a_1/kernel:0"]}, config) == ["both/a/kernel", "both/a_1/kernel"]


def test_two_backbones_of_one_builder():
    config = model("root", model("one", layer("Dense", "a")), model("two", layer("Dense", "a")))
    assert names({"one": ["a/kernel"], "two": ["a/kernel"]}, config) == ["one/a/kernel", "two/a/kernel"]


def test_classes_of_the_owning_layers(path):
    bi = wrapper("Bidirectional", "bi", layer("LSTM", "lstm"))
    inner, att = model("inner", layer("Dense", "a")), layer("MultiHeadAttention", "att")
    config = model("root", inner, bi, att, layer("LSTM", "enc"))
    stored = {"inner": ["a/kernel", "b/kernel"], "bi": ["bi/forward_lstm/lstm_cell/bias"], "att": ["att/query/bias"]}
    stored["enc"] = ["enc/lstm_cell_3/kernel:0"]
    write(path, {**stored, "dense_7": ["dense_7/kernel"], "own": ["own/kernel"]}, config)
    assert {w.name: w.layer_class for w in open_h5(path).catalog} == {
        "inner/a/kernel": "Dense",
        "inner/b/kernel": None,
        "bi/forward_layer/cell/bias": "LSTMCell",
        "att/query/bias": "EinsumDense",
        "enc/cell/kernel": "LSTMCell",
        "dense_7/kernel": "Dense",
        "own/kernel": None,
    }


@pytest.mark.parametrize("whole", [True, False])
def test_values_order_and_details(path, whole):
    write(path, {"b": ["b/kernel:0", "b/bias:0"], "input": [], "a": ["a/kernel:0"]}, whole=whole)
    source = open_h5(path)
    assert [w.name for w in source.catalog] == ["b/kernel", "b/bias", "a/kernel"]
    assert [source.read(w.name)[1, 2] for w in source.catalog] == [0, 1, 2]
    assert source.catalog["a/kernel"].where == ("model_weights/a/a/kernel:0" if whole else "a/a/kernel:0")
    assert (source.format, source.config) == ("h5", None)
    assert source.details == {"keras_version": "2.2.4", "backend": "tensorflow"}


def test_nested_weights_come_in_the_order_of_the_model_whatever_is_frozen(path):
    config = model("root", model("inner", layer("Dense", "a"), layer("BatchNormalization", "bn"), layer("Dense", "b")))
    write(path, {"inner": ["bn/gamma", "b/kernel", "a/kernel", "a/bias", "bn/moving_mean"]}, config)
    source = open_h5(path)
    assert [w.name.removeprefix("inner/") for w in source.catalog] == [
        "a/kernel", "a/bias", "bn/gamma", "bn/moving_mean", "b/kernel",
    ]  # fmt: skip
    assert source.config == config
    assert source.read("inner/a/kernel")[0, 0] == 2


def test_lists_that_are_cut_into_several_attributes(path):
    groups = {f"layer_with_a_long_name_{k:04}": ["kernel"] for k in range(30)}
    write(path, groups, whole=False)
    with h5py.File(path, "a") as file:
        for part, listed in enumerate(np.array_split(np.array([g.encode() for g in groups]), 3)):
            file.attrs[f"layer_names{part}"] = listed
        del file.attrs["layer_names"]
        inner = file["layer_with_a_long_name_0003"]
        inner["bias"] = np.ones(3)
        del inner.attrs["weight_names"]
        inner.attrs["weight_names0"], inner.attrs["weight_names1"] = [b"kernel"], [b"bias"]
    source = open_h5(path)
    assert [w.layer for w in source.catalog if w.own_name == "kernel"] == list(groups)
    assert "layer_with_a_long_name_0003/bias" in source.catalog


def test_a_model_s_own_weights_come_first(path):
    config = {"class_name": "Net", "config": {"trainable": True}}
    write(path, {"dense": ["net/dense/kernel"]}, config)
    with h5py.File(path, "a") as file:
        top = file["model_weights"].create_group("top_level_model_weights")
        top.attrs["weight_names"] = [b"net/temperature"]
        top["net/temperature"] = np.float32(3)
    source = open_h5(path)
    assert [(w.name, w.layer_class) for w in source.catalog] == [("temperature", "Net"), ("dense/kernel", "Dense")]
    assert source.read("temperature") == 3


def test_what_is_no_weight_goes_to_the_others(path):
    write(path, {"a": ["a/kernel"]})
    with h5py.File(path, "a") as file:
        file["optimizer_weights/adam/a/kernel/m:0"] = np.ones(3)
        file["model_weights/a/forgotten"] = np.ones(2)
    source = open_h5(path)
    assert [w.name for w in source.catalog] == ["a/kernel"]
    assert [w.name for w in source.others] == ["model_weights/a/forgotten", "optimizer_weights/adam/a/kernel/m:0"]
    assert source.read_entry(source.others[1]).tolist() == [1, 1, 1]


def test_bfloat16_without_a_note(path):
    write(path, {"a": []})
    with h5py.File(path, "a") as file:
        file["model_weights/a/kernel"] = np.ones(3, ml_dtypes.bfloat16)
        file["model_weights/a"].attrs["weight_names"] = [b"kernel"]
    source = open_h5(path)
    assert source.catalog["a/kernel"].dtype == "bfloat16"
    assert source.read("a/kernel").tolist() == [1, 1, 1]


def test_two_weights_of_one_name_are_both_located(path):
    write(path, {"dense": ["dense/kernel", "kernel"]})
    with pytest.raises(RecipeError, match=r"dense/kernel: two weights have this name") as caught:
        open_h5(path)
    [problem] = caught.value.problems
    assert "model_weights/dense/dense/kernel" in problem.what
    assert "model_weights/dense/kernel" in problem.what


def test_keras_1_sequential_configuration(path):
    config = {"class_name": "Sequential", "config": [layer("Dense", "d"), layer("DepthwiseConv2D", "dw")]}
    write(path, {"d": ["d_W"], "dw": ["dw/depthwise_kernel:0"]}, config)
    assert [w.name for w in open_h5(path).catalog] == ["d/kernel", "dw/kernel"]


@pytest.mark.parametrize("listed", [["a/missing"], ["/model_weights/b/kernel"], ["../b/kernel"], ["a"], [""]])
def test_listed_weight_that_is_no_dataset_of_its_group(path, listed):
    write(path, {"a": ["a/kernel"], "b": ["kernel"]})
    with h5py.File(path, "a") as file:
        file["model_weights/a"].attrs["weight_names"] = [name.encode() for name in listed]
    with pytest.raises(FileError, match=rf"{path}: model_weights/a/.*: is listed, but there is no such dataset"):
        open_h5(path)


@pytest.mark.parametrize("listed", [b"missing", b"a/a/kernel"])
def test_listed_layer_that_is_no_group(path, listed):
    write(path, {"a": ["a/kernel"]})
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = [listed]
    with pytest.raises(FileError, match=r"is listed, but there is no such group"):
        open_h5(path)


def deeply_nested(depth):
    config = layer("Dense", "a")
    for k in range(depth):
        config = model(f"m{k}", config)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{", "is not JSON"),
        (b"[" * 99_999, "is not JSON"),
        (b"[1]", "is a list where a mapping belongs"),
        (json.dumps(deeply_nested(60)).encode(), "makes no sense: layers are nested more than 40 levels deep"),
    ],
)
def test_configurations_that_cannot_be_read(path, config, message):
    write(path, {"m58": ["a/kernel"]}, config)
    with pytest.raises(FileError, match=f"model_config: {message}"):
        open_h5(path)


def test_configuration_beyond_the_limit(path, monkeypatch):
    monkeypatch.setattr("transferpipe.weights.formats.keras_legacy.h5._MOST_CONFIG", 10)
    write(path, {"a": ["a/kernel"]}, model("root"))
    with pytest.raises(FileError, match=r"model_config: is larger than 10 characters"):
        open_h5(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["Bidirectional", "RNN", "LSTM", "a", "Functional", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["class_name", "config", "name", "layer", "cell", "cells", "layers"]), inner)
    ),
    max_leaves=30,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["a/kernel", "kernel", "a/lstm_cell/bias", "//", ""]))
def test_no_configuration_breaks_the_naming(config, stored):
    config = config if isinstance(config, dict) else {"class_name": "Functional", "config": {"layers": [config]}}
    weights = [LegacyWeight("a", stored, (1,)), LegacyWeight("b", stored, ())]
    assert len(name_weights(weights, config)) == 2


def test_file_that_changes_after_opening(path):
    write(path, {"a": ["a/kernel"]})
    source = open_h5(path)
    path.unlink()
    write(path, {"a": ["a/kernel"]})
    with pytest.raises(FileError, match=r"model.h5: changed since it was opened"):
        source.read("a/kernel")
