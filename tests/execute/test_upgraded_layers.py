"""Single layers of old files as targets, in what Keras 1 and 2 wrote and computed otherwise."""

import json

import h5py
import keras
import numpy as np
import pytest
from old_files import old_graph, old_layer, old_sequential, write_old_file

import transferpipe as tp
from transferpipe.errors import FileError, RecipeError

RNG = np.random.default_rng(16)


def rand(*shape):
    return RNG.normal(size=shape).astype("float32") * 0.5


def upgrade(folder, config, weights, version="1.2.2"):
    path = write_old_file(folder / "old.h5", config, weights, version)
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=folder / "made")
    return keras.models.load_model(folder / "made" / "model.keras"), result.plan


@pytest.mark.parametrize(
    ("rank", "padding", "sides"),
    [
        (2, [1, 2, 3, 0], [(1, 2), (3, 0)]),
        (2, {"left_pad": 1}, [(0, 0), (1, 0)]),
        (2, {"top_pad": 1, "right_pad": 2}, [(1, 0), (0, 2)]),
        (2, [1, 2], [(1, 1), (2, 2)]),
        (1, {"left_pad": 1, "right_pad": 3}, [(1, 3)]),
        (1, [2, 1], [(2, 1)]),
    ],
)
def test_how_keras_1_wrote_what_is_padded(rank, padding, sides, tmp_path):
    x, kernel, bias = rand(2, *(5, 4)[:rank], 3), rand(3, 2), rand(2)
    pad = old_layer(f"ZeroPadding{rank}D", "pad", padding=padding, batch_input_shape=[None, *x.shape[1:]])
    dense = old_layer("TimeDistributed", "each", layer=old_layer("Dense", "dense", output_dim=2))
    rows = old_layer("Reshape", "rows", target_shape=[-1, 3])
    weights = {"each": {"each_W:0": kernel, "each_b:0": bias}}
    model, _ = upgrade(tmp_path, old_sequential(pad, rows, dense), weights)
    padded = np.pad(x, [(0, 0), *sides, (0, 0)]).reshape(2, -1, 3)
    np.testing.assert_allclose(model(x), padded @ kernel + bias, atol=1e-5)


def test_the_cosine_of_keras_1_has_an_axis_more_than_the_product(tmp_path):
    one, two, kernel, bias = rand(2, 4), rand(2, 4), rand(4, 4), rand(4)
    inputs = [(old_layer("InputLayer", name, batch_input_shape=[None, 4], input_dtype="float32"), []) for name in "ab"]
    dense = old_layer("Dense", "dense", output_dim=4)
    merge = old_layer("Merge", "like", mode="cos", mode_type="raw", concat_axis=-1, dot_axes=[1, 1])
    graph = old_graph([*inputs, (dense, ["a"]), (merge, ["dense", "b"])], ["a", "b"], ["like"])
    model, _ = upgrade(tmp_path, graph, {"dense": {"dense_W:0": kernel, "dense_b:0": bias}})
    given = one @ kernel + bias
    expected = (given * two).sum(1) / np.sqrt((given**2).sum(1) * (two**2).sum(1))
    np.testing.assert_allclose(model([one, two]), expected[:, None, None], atol=1e-5)


def test_an_architecture_beside_its_weights_makes_a_whole_model_as_the_refusal_says(tmp_path):
    kernel, bias, x = rand(4, 3), rand(3), rand(2, 4)
    path = write_old_file(tmp_path / "whole.h5", old_sequential(), {"d": {"d_W:0": kernel, "d_b:0": bias}}, "1.2.2")
    with h5py.File(path) as whole, h5py.File(tmp_path / "weights.h5", "w") as weights:
        whole["model_weights"].copy("d", weights)
        weights.attrs.update(whole["model_weights"].attrs)
    layer = old_layer("Dense", "d", output_dim=3, activation="linear", batch_input_shape=[None, 4])
    (architecture := tmp_path / "model.json").write_text(json.dumps(old_sequential(layer) | {"keras_version": "1.2.2"}))
    with pytest.raises(FileError, match="is the architecture of a Keras model, without its weights") as refused:
        tp.transfer({"path": str(architecture)}, {"path": str(architecture)}, unmatched="same_name")
    assert ".attrs['model_config'] = open(THIS_FILE).read()" in refused.value.problems[0].fix
    with h5py.File(tmp_path / "weights.h5", "a") as weights:
        weights.attrs["model_config"] = architecture.read_text()
    origin = {"path": str(tmp_path / "weights.h5")}
    tp.transfer(origin, origin, unmatched="same_name", folder=tmp_path / "made")
    found = keras.models.load_model(tmp_path / "made" / "model.keras")(x)
    np.testing.assert_allclose(found, x @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_what_spectral_normalization_holds_has_its_weights_under_the_wrappers_name(use_bias, tmp_path):
    kernel, bias, x = rand(4, 3), rand(3) if use_bias else np.zeros(3), rand(2, 4)
    inner = old_layer("Dense", "dense", units=3, use_bias=use_bias)
    config = old_sequential(old_layer("SpectralNormalization", "sn", layer=inner, batch_input_shape=[None, 4]))
    stored = {"sn/kernel:0": kernel, **({"sn/bias:0": bias} if use_bias else {}), "sn/vector_u:0": rand(1, 3)}
    model, _ = upgrade(tmp_path, config, {"sn": stored}, "2.13.0")
    np.testing.assert_allclose(model(x), x @ kernel + bias, atol=1e-5)


def test_slices_of_tf_keras_are_connected_as_they_were(tmp_path):
    kernel, bias, x = rand(10, 2), rand(2), rand(3, 10)
    given = old_layer("InputLayer", "x", batch_input_shape=[None, 10], dtype="float32", sparse=False)

    def cut(name, start, stop):
        whole, part = ({"start": a, "stop": b, "step": None} for a, b in ((None, None), (start, stop)))
        layer = old_layer("SlicingOpLambda", name, function="__operators__.getitem")
        return layer, [("x", {"slice_spec": [whole, part]})]

    layers = [(given, []), cut("first", None, 5), cut("second", 5, None)]
    layers += [(old_layer("Concatenate", "both", axis=-1), ["second", "first"])]
    layers += [(old_layer("Dense", "dense", units=2), ["both"])]
    graph = old_graph(layers, ["x"], ["dense"])
    for layer in graph["config"]["layers"][1:3]:
        layer["inbound_nodes"] = layer["inbound_nodes"][0]  # as tf.keras notes what is called on one tensor alone
    model, plan = upgrade(tmp_path, graph, {"dense": {"dense/kernel:0": kernel, "dense/bias:0": bias}}, "2.9.0")
    np.testing.assert_allclose(model(x), np.concatenate([x[:, 5:], x[:, :5]], 1) @ kernel + bias, atol=1e-5)
    assert plan.warnings == ()


def test_which_layer_keras_cannot_build_is_said(tmp_path):
    convolution = old_layer("SeparableConv1D", "sc", filters=2, kernel_size=[3], padding="causal")
    convolution["config"]["batch_input_shape"] = [None, 5, 3]
    stored = {"sc/depthwise_kernel:0": rand(3, 3, 1), "sc/pointwise_kernel:0": rand(1, 3, 2), "sc/bias:0": rand(2)}
    with pytest.raises(RecipeError, match=r"layer 'sc', a SeparableConv1D: .*`padding` argument"):
        upgrade(tmp_path, old_sequential(convolution), {"sc": stored}, "2.9.0")
